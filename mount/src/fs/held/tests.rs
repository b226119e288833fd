#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jaxfs_sync::publish::{CollectReport, Retention};
use jaxfs_sync::tree::CHUNK_BYTES as CHUNK;
use parking_lot::Mutex;

use crate::fs::model::lab::{Lab, ME};
use crate::fs::{Fs, Ino};
use crate::writeback::Durability;

fn noise(seed: u8, len: u64) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ (at / 251) as u8 ^ seed).collect()
}

fn make(fs: &Fs, name: &[u8], content: &[u8]) -> (Ino, u64) {
    let (stat, handle) = fs.create(Ino::ROOT, name, 0o600, ME).unwrap();
    fs.write(handle, 0, content, false).unwrap();
    (stat.ino, handle)
}

/// Keeps nothing that need not be, and has everything read anew.
fn collect(lab: &Lab) -> CollectReport {
    let report = lab.bucket.collect(&Retention::NOTHING, false, &mut |_| {}, &|| false).unwrap();
    lab.bucket.vault().set_data_capacity(0);
    lab.bucket.vault().set_node_capacity(0);
    report
}

/// A file that is removed and open, and in no version any more.
fn removed(fs: &Fs, content: &[u8]) -> (Ino, u64) {
    let (ino, handle) = make(fs, b"removed", content);
    fs.flush(Durability::Published).unwrap();
    fs.unlink(Ino::ROOT, b"removed").unwrap();
    fs.flush(Durability::Published).unwrap();
    (ino, handle)
}

#[test]
fn a_file_that_is_removed_and_open_keeps_its_content() {
    let (lab, content) = (Lab::new(), noise(1, 20 * CHUNK));
    let fs = lab.mount(usize::MAX);
    let (_, handle) = removed(&fs, &content);
    collect(&lab);
    assert!(fs.read(handle, 0, content.len()).unwrap() == content);
}

#[test]
fn what_was_copied_to_a_file_that_is_removed_and_open_is_kept() {
    let (lab, content) = (Lab::new(), noise(1, 4 * CHUNK));
    let fs = lab.mount(usize::MAX);
    let (_, target) = removed(&fs, b"short");
    let (source_ino, source) = make(&fs, b"source", &content);
    fs.flush(Durability::Published).unwrap();
    assert_eq!(fs.copy_range((source, 0), (target, 0), content.len() as u64, ME), Ok(content.len() as u64));
    fs.unlink(Ino::ROOT, b"source").unwrap();
    fs.release(source);
    fs.forget(source_ino, 1);
    fs.flush(Durability::Published).unwrap();
    collect(&lab);
    assert!(fs.read(target, 0, content.len()).unwrap() == content);
}

#[test]
fn what_only_the_journal_names_is_kept_until_a_version_has_it() {
    let (lab, content) = (Lab::new(), noise(1, 2 * CHUNK));
    let fs = lab.mount(usize::MAX);
    let (source_ino, source) = removed(&fs, &content);
    let (target_ino, target) = make(&fs, b"target", b"");
    fs.flush(Durability::Published).unwrap();
    fs.copy_range((source, 0), (target, 0), content.len() as u64, ME).unwrap();
    assert!(fs.journal(&[target_ino]), "the journal takes names of blocks");
    // Each block is replaced, in memory only.
    for chunk in 0..2 {
        fs.write(target, chunk * CHUNK, b"later", false).unwrap();
    }
    fs.flush(Durability::Memory).unwrap();
    fs.release(source);
    fs.forget(source_ino, 1);
    collect(&lab);
    drop(fs);
    let lab = lab.restart();
    let fs = lab.mount(usize::MAX);
    let found = fs.lookup(Ino::ROOT, b"target").unwrap().unwrap();
    let handle = fs.open(found.ino, None, false, ME).unwrap();
    assert!(fs.read(handle, 0, content.len()).unwrap() == content);
}

#[test]
fn a_collection_waits_for_who_uses_what_he_took_from_the_table() {
    let lab = Lab::new();
    let fs = lab.mount(usize::MAX);
    let (collected, wait) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let using = fs.using.read();
        scope.spawn(|| {
            collect(&lab);
            collected.send(()).unwrap();
        });
        assert!(wait.recv_timeout(Duration::from_millis(100)).is_err());
        drop(using);
        assert!(wait.recv_timeout(Duration::from_secs(30)).is_ok());
    });
}

#[test]
fn files_are_written_read_and_copied_while_garbage_is_collected() {
    let lab = Lab::new();
    let fs = lab.mount(usize::MAX);
    let (done, journaling) = (AtomicBool::new(false), Mutex::new(()));
    let run = |name: &'static str, seed: u8, fs: Arc<Fs>| {
        let (ino, handle) = make(&fs, name.as_bytes(), b"");
        let copy = format!("{name} copy");
        let (copy_ino, target) = make(&fs, copy.as_bytes(), b"");
        for round in 0..60u8 {
            // Some contents come again, when their blocks may just be going.
            let content = noise(seed ^ (round % 5), 3 * CHUNK);
            fs.write(handle, 0, &content, false).unwrap();
            if round % 3 == 0 {
                fs.flush(Durability::Published).unwrap();
            }
            let len = content.len() as u64;
            let mut copied = 0;
            while copied < len {
                copied += fs.copy_range((handle, copied), (target, copied), len - copied, ME).unwrap();
            }
            {
                let _as_one_thread_does = journaling.lock();
                fs.journal(&[ino, copy_ino]);
            }
            for handle in [handle, target] {
                assert!(fs.read(handle, 0, content.len()).unwrap() == content, "{name} in round {round}");
            }
            assert!(fs.lookup(Ino::ROOT, copy.as_bytes()).unwrap().is_some());
            fs.forget(copy_ino, 1);
        }
        for (ino, handle) in [(ino, handle), (copy_ino, target)] {
            fs.release(handle);
            fs.forget(ino, 1);
        }
    };
    std::thread::scope(|scope| {
        let writers = ["one", "two"].map(|name| {
            let fs = Arc::clone(&fs);
            let run = &run;
            scope.spawn(move || run(name, name.len() as u8 ^ name.as_bytes()[0], fs))
        });
        let collecting = scope.spawn(|| {
            let mut dropped = 0;
            while !done.load(Ordering::Relaxed) {
                dropped += lab.bucket.collect(&Retention::NOTHING, false, &mut |_| {}, &|| false).unwrap().blocks;
                let head = lab.bucket.head();
                let gone = lab.bucket.vault().store().dropped().unwrap();
                assert!(!gone.contains(&head), "what is published meanwhile is not taken for dropped");
            }
            dropped
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        assert!(collecting.join().unwrap() > 100, "something was dropped meanwhile");
    });
    fs.flush(Durability::Published).unwrap();
    collect(&lab);
    for (name, seed) in [("one", b'o' ^ 3), ("two", b't' ^ 3)] {
        let expected = noise(seed ^ (59 % 5), 3 * CHUNK);
        for name in [name.to_owned(), format!("{name} copy")] {
            let found = fs.lookup(Ino::ROOT, name.as_bytes()).unwrap().unwrap();
            let handle = fs.open(found.ino, None, false, ME).unwrap();
            assert!(fs.read(handle, 0, expected.len()).unwrap() == expected, "{name}");
        }
    }
}

#[test]
fn where_something_needed_can_not_be_read_nothing_is_dropped() {
    let lab = Lab::new();
    let fs = lab.mount(usize::MAX);
    removed(&fs, &noise(1, 4 * CHUNK));
    drop(fs);
    let blocks = lab.bucket.status().unwrap().blocks;
    let pack = lab.bucket.dir().join("packs/00000001.pack");
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[16..].iter_mut().for_each(|byte| *byte ^= 0x10);
    std::fs::write(&pack, bytes).unwrap();
    lab.bucket.vault().set_node_capacity(0);
    let refused = lab.bucket.collect(&Retention::NOTHING, false, &mut |_| {}, &|| false).unwrap_err().to_string();
    assert!(refused.contains("nothing was dropped") && refused.contains("the version that is shown"), "{refused}");
    assert_eq!(lab.bucket.status().unwrap().blocks, blocks);
}

#[test]
fn a_collection_that_is_cancelled_or_dry_drops_nothing() {
    let lab = Lab::new();
    let fs = lab.mount(usize::MAX);
    let (_, handle) = removed(&fs, &noise(1, 4 * CHUNK));
    fs.release(handle);
    drop(fs);
    let blocks = lab.bucket.status().unwrap().blocks;
    let report = lab.bucket.collect(&Retention::NOTHING, false, &mut |_| {}, &|| true).unwrap();
    assert!(report.cancelled);
    let dry = lab.bucket.collect(&Retention::NOTHING, true, &mut |_| {}, &|| false).unwrap();
    assert!(dry.blocks >= 4 && dry.dropped > 0);
    assert_eq!(lab.bucket.status().unwrap().blocks, blocks);
    assert_eq!(collect(&lab).blocks, dry.blocks, "a dry run says what would go");
    assert_eq!(collect(&lab).dropped, 0);
    let lab = lab.restart();
    assert_eq!(lab.bucket.verify(&mut |_, _| true).unwrap().problems, [""; 0], "what is dropped is not missed");
}

#[test]
fn versions_are_kept_as_the_retention_says_whatever_happens_to_them_later() {
    let (lab, content) = (Lab::new(), noise(1, 4 * CHUNK));
    let fs = lab.mount(usize::MAX);
    let (_, handle) = removed(&fs, &content);
    fs.release(handle);
    drop(fs);
    let keep_all = Retention::default();
    let report = lab.bucket.collect(&keep_all, false, &mut |_| {}, &|| false).unwrap();
    assert_eq!((report.blocks, report.dropped, report.kept), (0, 0, report.versions));
    collect(&lab);
    let report = lab.bucket.collect(&keep_all, false, &mut |_| {}, &|| false).unwrap();
    assert_eq!((report.blocks, report.problems.len()), (0, 0), "what was dropped is not asked for again");
    assert!(report.kept < report.versions);
}
