//! The file system with its write-back thread: what is published, how often, and how much waits in memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::fault;
use super::lab::{Lab, ME};
use crate::errno::FsError;
use crate::fs::{Fs, Ino, New, OnTarget};

const LONG: Duration = Duration::from_secs(30);

/// A file system whose write-back thread runs until it is dropped.
struct Running {
    fs: Arc<Fs>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn new(lab: &Lab, dirty_limit: usize) -> Self {
        Self::failing(lab, dirty_limit, &Arc::default())
    }

    /// One whose write-back finds the disk full while `full` says so.
    fn failing(lab: &Lab, dirty_limit: usize, full: &Arc<AtomicBool>) -> Self {
        let fs = lab.mount(dirty_limit);
        let thread = thread::spawn({
            let (fs, full) = (Arc::clone(&fs), Arc::clone(full));
            move || fault::with(move || full.load(Ordering::Relaxed), || fs.write_back())
        });
        Self { fs, thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.fs.stop();
        self.thread.take().map(thread::JoinHandle::join);
    }
}

fn save(fs: &Fs, name: &[u8], content: &[u8]) {
    let (stat, handle) = fs.create(Ino::ROOT, b"temporary", 0o600, ME).unwrap();
    fs.write(handle, 0, content, false).unwrap();
    fs.release(handle);
    fs.rename((Ino::ROOT, b"temporary"), (Ino::ROOT, name), OnTarget::Replace).unwrap();
    fs.forget(stat.ino, 1);
}

fn wait_for_manifests(lab: &Lab, count: u64) {
    let deadline = Instant::now() + LONG;
    while lab.manifests() < count {
        assert!(Instant::now() < deadline, "{count} manifests are published at last");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_save_by_temporary_file_and_rename_is_one_manifest() {
    let lab = Lab::new();
    let running = Running::new(&lab, usize::MAX);
    for manifests in 2..4 {
        save(&running.fs, b"letter", &[manifests as u8; 1000]);
        wait_for_manifests(&lab, manifests);
        // Longer than the silence after which a change is a save of its own.
        thread::sleep(Duration::from_millis(1100));
        assert_eq!(lab.manifests(), manifests, "one save, one manifest");
    }
}

#[test]
fn five_thousand_creates_are_few_manifests() {
    let lab = Lab::new();
    let running = Running::new(&lab, usize::MAX);
    let started = Instant::now();
    for number in 0..5000 {
        let (stat, handle) = running.fs.create(Ino::ROOT, format!("{number}").as_bytes(), 0o600, ME).unwrap();
        running.fs.write(handle, 0, b"some content", false).unwrap();
        running.fs.release(handle);
        running.fs.forget(stat.ino, 1);
    }
    running.fs.publish(LONG).unwrap().unwrap();
    let manifests = lab.manifests() - 1;
    let most = 3 + started.elapsed().as_secs();
    assert!((1..=most).contains(&manifests), "{manifests} manifests in {:?}", started.elapsed());
    assert_eq!(running.fs.inodes(), 1, "what is published and not used takes no memory");
}

#[test]
fn no_change_is_no_manifest() {
    let lab = Lab::new();
    let running = Running::new(&lab, usize::MAX);
    save(&running.fs, b"letter", b"content");
    let head = running.fs.publish(LONG).unwrap().unwrap();
    let manifests = lab.manifests();
    let found = running.fs.lookup(Ino::ROOT, b"letter").unwrap().unwrap().ino;
    let handle = running.fs.open(found, None, false, ME).unwrap();
    assert_eq!(running.fs.read(handle, 0, 100).unwrap(), &b"content"[..]);
    running.fs.release(handle);
    running.fs.forget(found, 1);
    assert!(running.fs.make(Ino::ROOT, b"letter", 0o600, New::File, ME).is_err());
    for _ in 0..3 {
        assert_eq!(running.fs.publish(LONG).unwrap().unwrap(), head);
    }
    thread::sleep(Duration::from_millis(300));
    assert_eq!(lab.manifests(), manifests);
}

#[test]
fn writing_ten_times_the_dirty_limit_stays_within_it() {
    const LIMIT: usize = 2 << 20;
    const PIECE: usize = 96 << 10;
    let lab = Lab::new();
    let running = Running::new(&lab, LIMIT);
    let (stat, handle) = running.fs.create(Ino::ROOT, b"large", 0o600, ME).unwrap();
    let mut plain = Vec::new();
    let mut most = 0;
    while plain.len() < 10 * LIMIT {
        let data: Vec<u8> = (0..PIECE).map(|at| (plain.len() / PIECE * 7 + at / 3) as u8).collect();
        let (answer, answered) = mpsc::sync_channel(1);
        running.fs.write_then(handle, plain.len() as u64, &data, false, move |done| answer.send(done).unwrap());
        answered.recv().unwrap().unwrap();
        most = most.max(running.fs.pending().1 as usize);
        plain.extend(data);
    }
    assert!(most <= LIMIT + 2 * PIECE, "{most} dirty bytes with a limit of {LIMIT}");
    assert!(running.fs.read(handle, 0, plain.len()).unwrap() == plain);
    running.fs.release(handle);
    running.fs.forget(stat.ino, 1);
    drop(running);
    let lab = lab.restart();
    let fs = lab.mount(usize::MAX);
    let found = fs.lookup(Ino::ROOT, b"large").unwrap().unwrap();
    let handle = fs.open(found.ino, None, false, ME).unwrap();
    assert!(fs.read(handle, 0, plain.len() + 1).unwrap() == plain);
}

#[test]
fn copying_ten_times_the_dirty_limit_stays_within_it() {
    const LIMIT: usize = 2 << 20;
    const PIECE: u64 = 96 << 10;
    let lab = Lab::new();
    let running = Running::new(&lab, LIMIT);
    let (source, from) = running.fs.create(Ino::ROOT, b"source", 0o600, ME).unwrap();
    let plain: Vec<u8> = (0..PIECE).map(|at| (at / 3) as u8).collect();
    running.fs.write(from, 0, &plain, false).unwrap();
    let (target, to) = running.fs.create(Ino::ROOT, b"target", 0o600, ME).unwrap();
    let mut most = 0;
    let pieces = 10 * LIMIT as u64 / PIECE;
    for at in 0..pieces {
        let (answer, answered) = mpsc::sync_channel(1);
        running.fs.copy_range_then((from, 0), (to, at * PIECE), PIECE, ME, move |done| answer.send(done).unwrap());
        assert_eq!(answered.recv().unwrap(), Ok(PIECE));
        most = most.max(running.fs.pending().1);
    }
    assert!(most <= LIMIT as u64 + 2 * PIECE, "{most} dirty bytes with a limit of {LIMIT}");
    for at in 0..pieces {
        assert!(running.fs.read(to, at * PIECE, PIECE as usize).unwrap() == plain);
    }
    for (stat, handle) in [(source, from), (target, to)] {
        running.fs.release(handle);
        running.fs.forget(stat.ino, 1);
    }
}

#[test]
fn each_handle_hears_once_of_each_failure_to_store_what_it_wrote() {
    let lab = Lab::new();
    let full = Arc::new(AtomicBool::new(false));
    let running = Running::failing(&lab, usize::MAX, &full);
    let fs = &running.fs;
    let (first, writer) = fs.create(Ino::ROOT, b"written", 0o600, ME).unwrap();
    let (second, other) = fs.create(Ino::ROOT, b"untouched", 0o600, ME).unwrap();
    fs.write(writer, 0, b"before", false).unwrap();
    assert!(!fs.is_failing());
    full.store(true, Ordering::Relaxed);
    assert_eq!(fs.publish(LONG), Some(Err(FsError::NoSpace)));
    assert!(fs.is_failing());
    // The next attempt follows some time later; what is asked here is asked before it.
    assert_eq!(fs.news(writer), Err(FsError::NoSpace));
    assert_eq!(fs.news(other), Ok(()), "nothing was written through it");
    let later = fs.open(first.ino, None, false, ME).unwrap();
    fs.write(later, 0, b"before", false).unwrap();
    assert_eq!(fs.news(later), Ok(()), "it was opened when that was known");
    fs.release(later);
    full.store(false, Ordering::Relaxed);
    fs.publish(LONG).unwrap().unwrap();
    assert_eq!(fs.news(writer), Ok(()), "all is stored");
    fs.write(writer, 0, b"behind", false).unwrap();
    assert_eq!(fs.read(writer, 0, 10).unwrap(), &b"behind"[..]);
    for (stat, handle) in [(first, writer), (second, other)] {
        fs.release(handle);
        fs.forget(stat.ino, 1);
    }
}
