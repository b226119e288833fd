//! What `fsync` costs here, beside what it costs on the bare disk and through a file system that only passes requests on.
//! `JAXFS_BENCH_DIR` says on which disk; else it is that of temporary files. `JAXFS_BENCH_SECONDS` says how long each row takes.
//!
//! `cargo bench -p jaxfs-mount --bench fsync`
#![allow(clippy::unwrap_used, missing_docs)]

mod passing;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jaxfs_mount::{MountOptions, Owner};
use jaxfs_sync::bucket::DeviceKey;
use jaxfs_sync::publish::NewBucket;

/// What is written at once.
const PIECE: usize = 4 << 10;
/// The size of a file that is written to at random.
const FILE: u64 = 16 << 20;
const WRITERS: [usize; 2] = [1, 8];

/// Numbers of no order.
struct Random(u64);

impl Random {
    fn any(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Content that was not there before.
    fn piece(&mut self) -> [u8; PIECE] {
        let mut piece = [0; PIECE];
        piece.chunks_mut(8).for_each(|part| part.copy_from_slice(&self.any().to_le_bytes()));
        piece
    }
}

#[derive(Clone, Copy)]
enum Work {
    Append,
    Overwrite,
}

impl Work {
    const ALL: [(Self, &'static str); 2] =
        [(Self::Append, "append 4 KiB, fsync"), (Self::Overwrite, "pwrite 4 KiB at random, fdatasync")];

    fn prepare(self, path: &Path, random: &mut Random) -> File {
        let mut file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        if matches!(self, Self::Overwrite) {
            for _ in 0..FILE / PIECE as u64 {
                file.write_all(&random.piece()).unwrap();
            }
        }
        file.sync_all().unwrap();
        file
    }

    fn once(self, mut file: &File, random: &mut Random) {
        let piece = random.piece();
        match self {
            Self::Append => {
                file.write_all(&piece).unwrap();
                file.sync_all().unwrap();
            }
            Self::Overwrite => {
                let at = random.any() % (FILE / PIECE as u64) * PIECE as u64;
                file.write_all_at(&piece, at).unwrap();
                file.sync_data().unwrap();
            }
        }
    }
}

/// How often a second it is done, by so many writers together, each in a file of its own.
fn rate(dir: &Path, work: Work, writers: usize, time: Duration) -> f64 {
    let (done, begun, over) = (AtomicU64::new(0), std::sync::Barrier::new(writers + 1), AtomicBool::new(false));
    let path = |writer| dir.join(format!("file {writer}"));
    let took = std::thread::scope(|scope| {
        for writer in 0..writers {
            let (done, begun, over) = (&done, &begun, &over);
            scope.spawn(move || {
                let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (writer as u64 + 1) << 32);
                let file = work.prepare(&path(writer), &mut random);
                begun.wait();
                while !over.load(Ordering::Relaxed) {
                    work.once(&file, &mut random);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        begun.wait();
        // What was prepared is not measured.
        std::thread::sleep(time / 8);
        let (before, started) = (done.load(Ordering::Relaxed), Instant::now());
        std::thread::sleep(time);
        let rate = (done.load(Ordering::Relaxed) - before) as f64 / started.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        rate
    });
    (0..writers).for_each(|writer| std::fs::remove_file(path(writer)).unwrap());
    took
}

/// Both sorts of work, by one and by eight.
fn rates(dir: &Path, time: Duration) -> [[f64; 2]; 2] {
    Work::ALL.map(|(work, _)| WRITERS.map(|writers| rate(dir, work, writers, time)))
}

fn through_a_bucket(home: &Path, at: &Path, time: Duration) -> [[f64; 2]; 2] {
    let device = Arc::new(DeviceKey::generate());
    let new = NewBucket { name: "bench", device_name: "here", device: &device, passphrase: None };
    let bucket = new.create(home).unwrap();
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let options = MountOptions {
        read_only: false,
        owner: Owner::Me { uid, gid },
        allow_other: false,
        suid: false,
        dev: false,
        cache_bytes: 16 << 20,
        dirty_bytes: 48 << 20,
        most_space: None,
    };
    let mounted = jaxfs_mount::mount(Arc::new(bucket), at, &options).unwrap();
    let rates = rates(at, time);
    mounted.unmount(Duration::from_secs(60), false).unwrap();
    rates
}

fn main() {
    // `cargo test --benches` runs it too, with nothing to measure.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let parent = std::env::var_os("JAXFS_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = std::env::var("JAXFS_BENCH_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(4));
    let dir = tempfile::tempdir_in(&parent).unwrap();
    let [bare, passed, at, home] = ["bare", "passed", "mount", "buckets"].map(|name| dir.path().join(name));
    [&bare, &passed, &at, &home].iter().for_each(|dir| std::fs::create_dir(dir).unwrap());

    let of_disk = rates(&bare, time);
    let session = passing::mount(&passed, &at).unwrap();
    let of_passing = rates(&at, time);
    session.umount_and_join().unwrap();
    let of_bucket = through_a_bucket(&home, &at, time);

    println!("in {}, each a second:", parent.display());
    for (number, (_, name)) in Work::ALL.into_iter().enumerate() {
        println!("{name:<36} {:>10} {:>10} {:>8}", "1 writer", "8 writers", "8 / 1");
        let rows = [("the bare disk", of_disk), ("passed on by FUSE", of_passing), ("jaxfs", of_bucket)];
        for (what, [one, eight]) in rows.map(|(what, rates)| (what, rates[number])) {
            println!("  {what:<34} {one:>10.0} {eight:>10.0} {:>8.2}", eight / one);
        }
        let [one, eight] = [0, 1].map(|writers| of_bucket[number][writers] / of_passing[number][writers]);
        println!("  {:<34} {one:>10.2} {eight:>10.2}", "jaxfs / passed on");
    }
}
