#![allow(clippy::unwrap_used)]

use jaxfs_sync::store::Frame;
use jaxfs_sync::tree::JournalEntry;

use super::*;
use crate::fs::New;
use crate::fs::model::lab::{Lab, ME};
use crate::writeback::Durability;

fn mounted() -> (Lab, std::sync::Arc<Fs>) {
    let lab = Lab::new();
    let fs = lab.mount(usize::MAX);
    (lab, fs)
}

/// Another process, after a crash of this one.
fn restarted(lab: Lab, fs: std::sync::Arc<Fs>) -> (Lab, std::sync::Arc<Fs>) {
    drop(fs);
    let lab = lab.restart();
    let fs = lab.mount(usize::MAX);
    (lab, fs)
}

fn create(fs: &Fs, name: &[u8], content: &[u8]) -> Ino {
    let (stat, handle) = fs.create(Ino::ROOT, name, 0o600, ME).unwrap();
    fs.write(handle, 0, content, false).unwrap();
    fs.release(handle);
    stat.ino
}

fn content(fs: &Fs, name: &[u8]) -> Vec<u8> {
    let stat = fs.lookup(Ino::ROOT, name).unwrap().unwrap();
    let handle = fs.open(stat.ino, None, false, ME).unwrap();
    let content = fs.read(handle, 0, 1 << 20).unwrap().to_vec();
    fs.release(handle);
    fs.forget(stat.ino, 1);
    content
}

#[test]
fn what_the_journal_took_before_its_writer_marked_it_is_in_the_next_version() {
    let (lab, fs) = mounted();
    let ino = create(&fs, b"file", b"first");
    fs.flush(Durability::Durable).unwrap();
    // As a writer that waits for the table.
    fs.file(ino).unwrap().write(0, b"later").unwrap();
    assert!(fs.journal(&[ino]));
    create(&fs, b"other", b"");
    fs.flush(Durability::Durable).unwrap();
    let (_lab, fs) = restarted(lab, fs);
    assert_eq!(content(&fs, b"file"), b"later");
}

#[test]
fn files_that_are_exchanged_are_as_safe_as_their_names() {
    let (lab, fs) = mounted();
    create(&fs, b"config", b"old");
    fs.flush(Durability::Durable).unwrap();
    create(&fs, b"new", b"new");
    fs.rename((Ino::ROOT, b"config"), (Ino::ROOT, b"new"), OnTarget::Exchange).unwrap();
    assert!(fs.journal(&[]));
    let (_lab, fs) = restarted(lab, fs);
    assert_eq!((content(&fs, b"config"), content(&fs, b"new")), (b"new".to_vec(), b"old".to_vec()));
}

#[test]
fn nothing_follows_what_another_run_left_in_the_journal() {
    let (lab, fs) = mounted();
    fs.flush(Durability::Durable).unwrap();
    let stat = fs.make(Ino::ROOT, b"half", 0o600, New::File, ME).unwrap();
    let (root, record) = {
        let table = fs.table.lock();
        let inode = table.get(stat.ino).unwrap();
        let body = jaxfs_sync::tree::Body::empty_file();
        (table.get(Ino::ROOT).unwrap().id, inode.attributes.record(inode.id, body))
    };
    // The first half of an append whose second half a power cut took.
    let at = (root, Name::new(b"half").unwrap());
    let entry = JournalEntry { changes: vec![Change::Make { at, record: Box::new(record) }], more: true };
    let vault = lab.bucket.vault();
    let located = JournalEntry { changes: vec![Change::Locate { id: root, path: Vec::new() }], more: true };
    let frame = |entry: &JournalEntry| Frame { generation: 50, payload: entry.seal(&vault.keys()) };
    assert!(vault.store().journal(&[frame(&located), frame(&entry)]).unwrap());
    let (lab, fs) = restarted(lab, fs);
    assert!(fs.lookup(Ino::ROOT, b"half").unwrap().is_none());
    let ino = create(&fs, b"half", b"whole");
    assert!(!fs.journal(&[ino]), "a version has to come first");
    fs.flush(Durability::Durable).unwrap();
    let ino = create(&fs, b"more", b"more");
    assert!(fs.journal(&[ino]));
    let (_lab, fs) = restarted(lab, fs);
    assert_eq!((content(&fs, b"half"), content(&fs, b"more")), (b"whole".to_vec(), b"more".to_vec()));
}
