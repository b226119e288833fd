//! A tree as it can be seen, to be compared with what the next mount shows of it.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is seen, by path.
pub(crate) type Seen = BTreeMap<Vec<u8>, String>;

/// All that can be seen of a tree, as the next mount has to show it again: inode numbers and every time, too.
pub(crate) fn describe(dir: &Path) -> Seen {
    let seen = walk(dir).into_iter();
    seen.map(|(path, meta)| (relative(dir, &path), format!("{} {}", shown(&meta), content(&path, &meta)))).collect()
}

/// Fails at the first path that is not the same in both.
#[track_caller]
pub(crate) fn same(was: &Seen, is: &Seen) {
    assert!(!was.is_empty(), "there is nothing to compare");
    for (path, was) in was {
        assert_eq!(Some(was), is.get(path), "{}", String::from_utf8_lossy(path));
    }
    let more: Vec<_> =
        is.keys().filter(|path| !was.contains_key(*path)).map(|path| String::from_utf8_lossy(path)).collect();
    assert!(more.is_empty(), "it was not there: {more:?}");
}

/// Every path below a directory, in order.
fn walk(dir: &Path) -> BTreeMap<PathBuf, Metadata> {
    let (mut seen, mut open) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let meta = fs::symlink_metadata(entry.path()).unwrap();
            if meta.is_dir() {
                open.push(entry.path());
            }
            seen.insert(entry.path(), meta);
        }
    }
    seen
}

fn relative(dir: &Path, path: &Path) -> Vec<u8> {
    path.strip_prefix(dir).unwrap().as_os_str().as_bytes().to_vec()
}

fn shown(meta: &Metadata) -> String {
    let times =
        [(meta.atime(), meta.atime_nsec()), (meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())];
    let (ino, mode, links, size) = (meta.ino(), meta.mode(), meta.nlink(), meta.size());
    format!("ino {ino} mode {mode:o} {links}x {}:{} rdev {} size {size} {times:?}", meta.uid(), meta.gid(), meta.rdev())
}

fn content(path: &Path, meta: &Metadata) -> String {
    if meta.is_symlink() {
        format!("{:?} {:?}", fs::read_link(path).unwrap(), xattrs(path))
    } else if meta.is_file() {
        format!("{:?} {:?}", checksum(&fs::read(path).unwrap()), xattrs(path))
    } else {
        format!("{:?}", xattrs(path))
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The extended attributes of a path, of a symbolic link's own.
pub(crate) fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        found.insert(name.to_vec(), value[..length].to_vec());
    }
    found
}
