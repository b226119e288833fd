//! Several threads at once, with write-backs that never rest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::fault;
use super::lab::{Lab, ME};
use crate::fs::{Changed, Fs, Ino, New, OnTarget};
use crate::writeback::Durability;

const THREADS: u64 = 4;
const STEPS: usize = 20_000;

/// Numbers that look random (Knuth's linear congruential generator).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Ends the write-backs when the threads are done, or fail.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Writes back until it is told to stop, and fails now and then. Gives how often it did either.
fn flush_always(fs: &Fs, done: &AtomicBool) -> (u64, u64) {
    let (mut good, mut bad, mut dice) = (0, 0, Dice(99));
    while !done.load(Ordering::Acquire) {
        let durability = match dice.roll(8) {
            0 => Durability::Published,
            1 => Durability::Durable,
            _ => Durability::Memory,
        };
        let mut left = dice.roll(40);
        let fails = move || {
            left = left.saturating_sub(1);
            left == 1
        };
        match fault::with(fails, || fs.flush(durability)) {
            Ok(()) => good += 1,
            Err(_) => bad += 1,
        }
    }
    (good, bad)
}

/// What one thread did: names in directories that it shares with others, and files that are its own.
struct Work<'a> {
    fs: &'a Fs,
    thread: u64,
    dice: Dice,
    names: BTreeMap<(usize, Vec<u8>), u64>,
    files: BTreeMap<u64, Vec<u8>>,
    last: u64,
}

impl Work<'_> {
    fn name(&mut self) -> (usize, Vec<u8>) {
        // Directory 0 is everybody's, the other the thread's own.
        (self.dice.roll(2) as usize, format!("{}-{}", self.thread, self.dice.roll(6)).into_bytes())
    }

    fn step(&mut self, dirs: &[Ino]) {
        let (dir, name) = self.name();
        let known = self.names.get(&(dir, name.clone())).copied();
        let Some(file) = known else { return self.create(dirs, dir, name) };
        let ino = self.fs.lookup(dirs[dir], &name).unwrap().expect("a name of this thread").ino;
        match self.dice.roll(6) {
            0 | 1 => {
                let handle = self.fs.open(ino, None, false, ME).unwrap();
                let most = if self.dice.roll(10) == 0 { 300_000 } else { 600 };
                let at = self.dice.roll(most);
                let data = vec![self.dice.roll(255) as u8 + 1; self.dice.roll(300) as usize + 1];
                self.fs.write(handle, at, &data, false).unwrap();
                let content = self.files.get_mut(&file).unwrap();
                content.resize(content.len().max(at as usize + data.len()), 0);
                content[at as usize..at as usize + data.len()].copy_from_slice(&data);
                assert!(self.fs.read(handle, 0, 1 << 20).unwrap() == *content);
                self.fs.release(handle);
            }
            2 => {
                let size = self.dice.roll(700);
                self.fs.set_attributes(ino, Changed { size: Some(size), ..Changed::default() }, ME).unwrap();
                self.files.get_mut(&file).unwrap().resize(size as usize, 0);
            }
            3 => {
                let (to, to_name) = self.name();
                self.fs.rename((dirs[dir], &name), (dirs[to], &to_name), OnTarget::Replace).unwrap();
                if self.names.get(&(to, to_name.clone())) != Some(&file) {
                    self.names.remove(&(dir, name));
                    self.names.insert((to, to_name), file);
                }
            }
            4 => {
                let (to, to_name) = self.name();
                match self.fs.link(ino, dirs[to], &to_name) {
                    Ok(_) => {
                        self.fs.forget(ino, 1);
                        assert!(self.names.insert((to, to_name), file).is_none());
                    }
                    Err(_) => assert!(self.names.contains_key(&(to, to_name))),
                }
            }
            _ => {
                self.fs.unlink(dirs[dir], &name).unwrap();
                self.names.remove(&(dir, name));
            }
        }
        self.fs.forget(ino, 1);
    }

    fn create(&mut self, dirs: &[Ino], dir: usize, name: Vec<u8>) {
        let (stat, handle) = self.fs.create(dirs[dir], &name, 0o600, ME).unwrap();
        self.fs.release(handle);
        self.fs.forget(stat.ino, 1);
        self.last += 1;
        self.names.insert((dir, name), self.last);
        self.files.insert(self.last, Vec::new());
    }

    /// What each name of a directory leads to: content, and the number of its names.
    fn expected(&self, dir: usize) -> impl Iterator<Item = (Vec<u8>, (Vec<u8>, u64))> {
        let links = |file| self.names.values().filter(|other| **other == file).count() as u64;
        let here = self.names.iter().filter(move |((at, _), _)| *at == dir);
        here.map(move |((_, name), file)| (name.clone(), (self.files[file].clone(), links(*file))))
    }
}

/// What each name of a directory leads to.
fn found(fs: &Fs, dir: Ino) -> BTreeMap<Vec<u8>, (Vec<u8>, u64)> {
    let handle = fs.open_directory(dir).unwrap();
    let mut names = Vec::new();
    fs.list(dir, handle, 2, false, |entry| {
        names.push(entry.name.clone());
        false
    })
    .unwrap();
    fs.release(handle);
    let read = |name: Vec<u8>| {
        let stat = fs.lookup(dir, &name).unwrap().unwrap();
        let handle = fs.open(stat.ino, None, false, ME).unwrap();
        let content = fs.read(handle, 0, 1 << 20).unwrap().to_vec();
        fs.release(handle);
        fs.forget(stat.ino, 1);
        (name, (content, stat.nlink))
    };
    names.into_iter().map(read).collect()
}

#[test]
fn threads_end_with_what_each_of_them_did() {
    let lab = Lab::new();
    let fs = lab.mount(usize::MAX);
    let make = |name: String| fs.make(Ino::ROOT, name.as_bytes(), 0o700, New::Directory, ME).unwrap().ino;
    let shared = make("shared".into());
    let own: Vec<_> = (0..THREADS).map(|thread| make(format!("own {thread}"))).collect();
    let done = AtomicBool::new(false);
    let works: Vec<_> = thread::scope(|scope| {
        let flusher = scope.spawn(|| flush_always(&fs, &done));
        let stop = Done(&done);
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (fs, dirs) = (&*fs, [shared, own[thread as usize]]);
                scope.spawn(move || {
                    let (names, files) = (BTreeMap::new(), BTreeMap::new());
                    let mut work = Work { fs, thread, dice: Dice(thread), names, files, last: 0 };
                    (0..STEPS).for_each(|_| work.step(&dirs));
                    work
                })
            })
            .collect();
        let works = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        drop(stop);
        let (good, bad) = flusher.join().unwrap();
        assert!(good > 10 && bad > 1, "{good} write-backs, and {bad} that failed");
        works
    });
    let compare = |fs: &Fs, shared, own: &[Ino]| {
        let expected: BTreeMap<_, _> = works.iter().flat_map(|work| work.expected(0)).collect();
        assert!(found(fs, shared) == expected);
        for (work, own) in works.iter().zip(own) {
            assert!(found(fs, *own) == work.expected(1).collect());
        }
        fs.check();
    };
    compare(&fs, shared, &own);
    fs.flush(Durability::Published).unwrap();
    compare(&fs, shared, &own);
    let again = lab.mount(usize::MAX);
    let look = |name: String| again.lookup(Ino::ROOT, name.as_bytes()).unwrap().unwrap().ino;
    let own: Vec<_> = (0..THREADS).map(|thread| look(format!("own {thread}"))).collect();
    compare(&again, look("shared".into()), &own);
}

#[test]
fn a_read_sees_each_block_as_it_was_written_last() {
    // Blocks that chunks cut through.
    const BLOCK: usize = 5000;
    const BLOCKS: usize = 60;
    let lab = Lab::new();
    let fs = lab.mount(usize::MAX);
    let (_, handle) = fs.create(Ino::ROOT, b"file", 0o600, ME).unwrap();
    let block = |value: u64| value.to_le_bytes().repeat(BLOCK / 8);
    (0..BLOCKS).for_each(|number| fs.write(handle, (number * BLOCK) as u64, &block(1), false).unwrap());
    // The newest value of each block whose write began, and the newest whose write ended.
    let begun: Vec<_> = (0..BLOCKS).map(|_| AtomicU64::new(1)).collect();
    let ended: Vec<_> = (0..BLOCKS).map(|_| AtomicU64::new(1)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let flusher = scope.spawn(|| flush_always(&fs, &done));
        let readers: Vec<_> = (0..2)
            .map(|seed| {
                let (fs, begun, ended, done) = (&fs, &begun, &ended, &done);
                scope.spawn(move || {
                    let mut dice = Dice(seed);
                    while !done.load(Ordering::Acquire) {
                        let number = dice.roll(BLOCKS as u64) as usize;
                        let least = ended[number].load(Ordering::SeqCst);
                        let bytes = fs.read(handle, (number * BLOCK) as u64, BLOCK).unwrap();
                        let most = begun[number].load(Ordering::SeqCst);
                        let value = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                        assert!((least..=most).contains(&value), "block {number}: {value}, not {least} to {most}");
                        assert!(bytes == block(value), "block {number} is of one write");
                    }
                })
            })
            .collect();
        let stop = Done(&done);
        let mut dice = Dice(7);
        for value in 2..60_000 {
            let number = dice.roll(BLOCKS as u64) as usize;
            begun[number].store(value, Ordering::SeqCst);
            fs.write(handle, (number * BLOCK) as u64, &block(value), false).unwrap();
            ended[number].store(value, Ordering::SeqCst);
        }
        drop(stop);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        let (good, _) = flusher.join().unwrap();
        assert!(good > 10, "{good} write-backs");
    });
    fs.check();
}
