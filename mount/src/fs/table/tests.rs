//! What stays in the table, and for how long.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::Ino;
use crate::errno::FsError;
use crate::fs::model::lab::{Lab, ME};
use crate::fs::{Fs, New, OnTarget};
use crate::writeback::Durability;

/// Directories below each other and a file in the last, all published and forgotten.
fn stored() -> (Lab, Arc<Fs>) {
    let lab = Lab::new();
    let fs = lab.mount(usize::MAX);
    let one = fs.make(Ino::ROOT, b"one", 0o700, New::Directory, ME).unwrap().ino;
    let two = fs.make(one, b"two", 0o700, New::Directory, ME).unwrap().ino;
    let (file, handle) = fs.create(two, b"file", 0o600, ME).unwrap();
    fs.write(handle, 0, b"content", false).unwrap();
    fs.release(handle);
    [one, two, file.ino].into_iter().for_each(|ino| fs.forget(ino, 1));
    assert_eq!(fs.inodes(), 4, "what changed stays");
    fs.flush(Durability::Published).unwrap();
    assert_eq!(fs.inodes(), 1, "what is stored and not used goes");
    (lab, fs)
}

fn find(fs: &Fs, path: &[&str]) -> Ino {
    let mut at = Ino::ROOT;
    for name in path {
        let next = fs.lookup(at, name.as_bytes()).unwrap().unwrap().ino;
        if at != Ino::ROOT {
            fs.forget(at, 1);
        }
        at = next;
    }
    at
}

#[test]
fn a_directory_stays_while_something_below_it_is_used() {
    let (_lab, fs) = stored();
    let file = find(&fs, &["one", "two", "file"]);
    assert_eq!(fs.inodes(), 4);
    let handle = fs.open(file, None, false, ME).unwrap();
    fs.forget(file, 1);
    assert_eq!(fs.inodes(), 4, "an open handle holds");
    fs.release(handle);
    assert_eq!(fs.inodes(), 1);
    fs.check();
}

#[test]
fn a_file_without_a_name_stays_while_it_is_open() {
    let (_lab, fs) = stored();
    let two = find(&fs, &["one", "two"]);
    let file = fs.lookup(two, b"file").unwrap().unwrap().ino;
    let handle = fs.open(file, None, false, ME).unwrap();
    fs.unlink(two, b"file").unwrap();
    fs.forget(file, 1);
    fs.write(handle, 7, b", more", false).unwrap();
    fs.flush(Durability::Published).unwrap();
    assert_eq!(fs.read(handle, 0, 100).unwrap(), &b"content, more"[..]);
    fs.forget(two, 1);
    assert_eq!(fs.inodes(), 2, "the root and the open file");
    fs.release(handle);
    assert_eq!(fs.inodes(), 1);
    fs.check();
}

#[test]
fn a_refused_operation_leaves_nothing_in_memory() {
    let (_lab, fs) = stored();
    let other = fs.make(Ino::ROOT, b"other", 0o600, New::File, ME).unwrap().ino;
    fs.flush(Durability::Memory).unwrap();
    assert_eq!(fs.make(Ino::ROOT, b"one", 0o600, New::File, ME).err(), Some(FsError::Exists));
    assert_eq!(fs.link(other, Ino::ROOT, b"one").err(), Some(FsError::Exists));
    assert_eq!(fs.unlink(Ino::ROOT, b"one"), Err(FsError::IsDirectory));
    assert_eq!(fs.remove_directory(Ino::ROOT, b"one"), Err(FsError::NotEmpty));
    let rename = |to: &[u8], how| fs.rename((Ino::ROOT, b"one"), (Ino::ROOT, to), how);
    assert_eq!(rename(b"other", OnTarget::Refuse), Err(FsError::Exists));
    assert_eq!(rename(b"other", OnTarget::Replace), Err(FsError::NotDirectory));
    assert_eq!(rename(b"absent", OnTarget::Exchange), Err(FsError::NotFound));
    assert_eq!(rename(b"one", OnTarget::Replace), Ok(()));
    fs.forget(other, 1);
    assert_eq!(fs.inodes(), 1);
    fs.check();
}

#[test]
fn a_removed_directory_takes_no_link() {
    let (_lab, fs) = stored();
    let gone = fs.make(Ino::ROOT, b"gone", 0o700, New::Directory, ME).unwrap().ino;
    let file = find(&fs, &["one", "two", "file"]);
    fs.remove_directory(Ino::ROOT, b"gone").unwrap();
    assert_eq!(fs.link(file, gone, b"name").err(), Some(FsError::NotFound));
    assert_eq!(fs.make(gone, b"name", 0o600, New::File, ME).err(), Some(FsError::NotFound));
    assert_eq!(fs.attributes(file).unwrap().nlink, 1);
}
