//! A tree as it can be seen, to be compared with what the next mount shows of it, or with its copy.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hasher};
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

/// What a copy of a tree has to have: of the inode numbers which names share one, of the times `mtime`.
pub(crate) fn describe_copy(dir: &Path) -> Seen {
    let mut first = BTreeMap::new();
    let seen = walk(dir).into_iter().map(|(path, meta)| {
        let name = relative(dir, &path);
        let same = first.entry(meta.ino()).or_insert_with(|| name.clone());
        let same = if *same == name { String::new() } else { format!(" is {}", String::from_utf8_lossy(same)) };
        let size = if meta.is_dir() { 0 } else { meta.size() };
        let rest = format!("rdev {} size {size} {}.{:09}", meta.rdev(), meta.mtime(), meta.mtime_nsec());
        let shown =
            format!("mode {:o} {}:{} {rest}{same} {}", meta.mode(), meta.uid(), meta.gid(), content(&path, &meta));
        (name, shown)
    });
    seen.collect()
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
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
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
