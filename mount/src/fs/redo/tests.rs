#![allow(clippy::unwrap_used)]

use jaxfs_sync::store::Frame;
use jaxfs_sync::store::disk::simulated::{Fault, Simulation};
use jaxfs_sync::tree::{Body, JournalEntry, Target};

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

/// Writes these pages anew.
fn write_pages(fs: &Fs, handle: u64, pages: impl IntoIterator<Item = usize>, with: u8, plain: &mut [u8]) {
    for page in pages {
        fs.write(handle, page as u64 * 4096, &[with; 4096], false).unwrap();
        plain[page * 4096..][..4096].fill(with);
    }
}

#[test]
fn who_syncs_waits_neither_for_memory_to_be_freed_nor_for_room_in_the_journal() {
    const SIZE: usize = 1 << 20;
    // The journal's files are small there: it takes a mebibyte.
    let disk = Simulation::new(1);
    let lab = Lab::on(&disk);
    for dirty_limit in [SIZE, usize::MAX] {
        let fs = lab.mount(dirty_limit);
        let (stat, handle) = fs.create(Ino::ROOT, format!("{dirty_limit}").as_bytes(), 0o600, ME).unwrap();
        let mut plain = vec![1; SIZE];
        fs.write(handle, 0, &plain, false).unwrap();
        fs.flush(Durability::Published).unwrap();
        let mut relieved = 0;
        for round in 0..200 {
            write_pages(&fs, handle, (0..4).map(|page| (round * 37 + page * 64) % 256), round as u8, &mut plain);
            assert!(fs.journal(&[stat.ino]), "a version has to come first in round {round}");
            if fs.needs_relief() {
                fs.flush(fs.at_least(Durability::Memory)).unwrap();
                relieved += 1;
            }
        }
        assert!(relieved > 3, "{relieved} times");
    }
}

#[test]
fn what_was_synced_is_there_after_a_power_cut_however_memory_was_freed() {
    const SIZE: usize = 1 << 20;
    let disk = Simulation::new(1);
    let lab = Lab::on(&disk);
    let fs = lab.mount(SIZE / 8);
    let (stat, handle) = fs.create(Ino::ROOT, b"file", 0o600, ME).unwrap();
    let mut plain = vec![1; SIZE];
    fs.write(handle, 0, &plain, false).unwrap();
    fs.flush(Durability::Published).unwrap();
    for round in 0..50 {
        write_pages(&fs, handle, (0..4).map(|page| (round * 37 + page * 64) % 256), round as u8, &mut plain);
        if !fs.journal(&[stat.ino]) {
            fs.flush(Durability::Durable).unwrap();
        }
        if fs.needs_relief() {
            fs.flush(fs.at_least(Durability::Memory)).unwrap();
        }
    }
    disk.fail(disk.operations(), Fault::PowerCut);
    drop(fs);
    let lab = lab.restart_after(|| {
        disk.restart(7);
        disk.heal();
    });
    let fs = lab.mount(SIZE);
    let found = fs.lookup(Ino::ROOT, b"file").unwrap().unwrap();
    let handle = fs.open(found.ino, None, false, ME).unwrap();
    assert!(fs.read(handle, 0, SIZE).unwrap() == plain);
}

/// How many extents the only file of the newest version has.
fn extents(fs: &Fs) -> usize {
    let superblock = fs.flusher.lock().superblock().clone();
    let Body::Directory(root) = superblock.root.body else { panic!("the root is a directory") };
    let Some(Target::Record(record)) = root.lookup(fs.vault(), b"file").unwrap() else { panic!("it is there") };
    let Body::File(content) = record.body else { panic!("it is a file") };
    content.read_extents(fs.vault(), 0..content.size()).unwrap().len()
}

#[test]
fn a_version_has_chunks_whole_that_were_scattered_before() {
    const SIZE: u64 = 1 << 20;
    const TOO_MANY: usize = 1 << 40;
    let (_lab, fs) = mounted();
    let (_, handle) = fs.create(Ino::ROOT, b"file", 0o600, ME).unwrap();
    let mut plain = vec![1; SIZE as usize];
    fs.write(handle, 0, &plain, false).unwrap();
    fs.flush(Durability::Published).unwrap();
    assert_eq!(extents(&fs), 32);
    write_pages(&fs, handle, [1, 9, 17], 2, &mut plain);
    fs.flush(Durability::Durable).unwrap();
    assert_eq!(extents(&fs), 32 + 3 * 2);
    write_pages(&fs, handle, [25], 3, &mut plain);
    fs.flush(Durability::Memory).unwrap();
    assert_eq!(extents(&fs), 32 + 4 * 2);
    // Without room for that, a version is better than none.
    fs.budget.scattered.change(0, TOO_MANY);
    fs.flush(Durability::Published).unwrap();
    assert_eq!(extents(&fs), 32 + 4 * 2);
    fs.budget.scattered.change(TOO_MANY, 0);
    // Nothing was written since.
    fs.flush(Durability::Published).unwrap();
    assert_eq!(extents(&fs), 32);
    assert!(fs.read(handle, 0, SIZE as usize).unwrap() == plain);
}

#[test]
fn pages_of_a_file_without_a_name_are_sealed_where_memory_runs_short() {
    let lab = Lab::new();
    let fs = lab.mount(64 << 10);
    let (_, handle) = fs.create(Ino::ROOT, b"file", 0o600, ME).unwrap();
    let mut plain = vec![1; 1 << 20];
    fs.write(handle, 0, &plain, false).unwrap();
    fs.flush(Durability::Durable).unwrap();
    fs.unlink(Ino::ROOT, b"file").unwrap();
    fs.flush(Durability::Durable).unwrap();
    for round in 2..5 {
        write_pages(&fs, handle, (0..256).step_by(7), round, &mut plain);
        fs.flush(Durability::Memory).unwrap();
        assert_eq!(fs.budget.dirty.get(), 0);
        assert!(fs.read(handle, 0, 1 << 20).unwrap() == plain);
    }
}

#[test]
fn nothing_follows_what_another_run_left_in_the_journal() {
    let (lab, fs) = mounted();
    fs.flush(Durability::Durable).unwrap();
    let stat = fs.make(Ino::ROOT, b"half", 0o600, New::File, ME).unwrap();
    let (root, record) = {
        let table = fs.table.lock();
        let inode = table.get(stat.ino).unwrap();
        let body = Body::empty_file();
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
