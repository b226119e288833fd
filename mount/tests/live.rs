//! A mounted bucket under whose users another device's versions arrive.
//!
//! Two devices of this process mount their copies of one bucket. What one publishes is carried to the other, whose mount has to
//! show it within a second, to whoever asks in whatever way.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

mod pair;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jaxfs_mount::{MountOptions, Mounted, Owner, detach, mount};
use pair::Pair;

/// What the mount has to show comes this soon.
const SOON: Duration = Duration::from_secs(1);
/// An answer from memory.
const AT_ONCE: Duration = Duration::from_millis(50);
/// What anything may take on a loaded machine.
const LONG: Duration = Duration::from_secs(60);

/// Two mounts of one bucket.
struct Two {
    mounts: [(Mounted, PathBuf); 2],
    pair: Pair,
}

impl Two {
    /// None where nothing can be mounted.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() || File::options().read(true).write(true).open("/dev/fuse").is_err() {
            eprintln!("skipped: needs root and /dev/fuse");
            return None;
        }
        let pair = Pair::new();
        let options = MountOptions {
            read_only: false,
            owner: Owner::Stored,
            allow_other: false,
            suid: false,
            dev: false,
            cache_bytes: 16 << 20,
            dirty_bytes: 48 << 20,
            most_space: None,
        };
        let mounts = [0, 1].map(|at| {
            let dir = pair.dir.path().join(["here", "there"][at]);
            fs::create_dir(&dir).unwrap();
            (mount(pair.buckets[at].clone(), &dir, &options).unwrap(), dir)
        });
        Some(Self { mounts, pair })
    }

    /// A path in the mount that is watched.
    fn here(&self, path: &str) -> PathBuf {
        self.mounts[0].1.join(path)
    }

    /// The same on the other device.
    fn there(&self, path: &str) -> PathBuf {
        self.mounts[1].1.join(path)
    }

    /// Both publish, and meet until both show the same.
    fn pass(&self) {
        let deadline = Instant::now() + LONG;
        for (mounted, _) in &self.mounts {
            mounted.sync(LONG).unwrap();
        }
        self.pair.meet();
        while self.pair.buckets[0].head() != self.pair.buckets[1].head() {
            assert!(Instant::now() < deadline, "both show the same at last");
            if self.pair.buckets.iter().all(|bucket| bucket.settle(SOON)) {
                self.pair.meet();
            }
        }
    }

    /// Both show this from here on.
    fn both_have(&self, make: impl FnOnce(&Path)) {
        make(&self.mounts[1].1);
        self.pass();
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        for (mounted, dir) in &self.mounts {
            if std::thread::panicking() {
                // Whoever fails must not wait for what is broken.
                let _gone = detach(dir, true);
            } else {
                mounted.unmount(LONG, false).unwrap();
            }
            assert!(mounted.wait_for(LONG) || std::thread::panicking(), "the mount ends");
        }
    }
}

#[track_caller]
fn soon(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::yield_now();
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0_u8; 100];
    let len = rustix::fs::getxattr(path, name, &mut value[..]).ok()?;
    Some(value[..len].to_vec())
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// A child whose working directory is in the mount, and that says what it sees there when it is asked.
struct Shell(Child);

impl Shell {
    fn at(dir: &Path) -> Self {
        let mut command = Command::new("sh");
        command.arg("-s").current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn says(&mut self, script: &str) -> String {
        writeln!(self.0.stdin.as_mut().unwrap(), "{script}; echo .").unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b".\n") {
            let mut byte = [0];
            self.0.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            said.extend(byte);
        }
        said.truncate(said.len() - 2);
        String::from_utf8(said).unwrap()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn every_kind_of_change_is_shown_within_a_second() {
    let Some(two) = Two::new() else { return };
    two.both_have(|dir| {
        fs::create_dir_all(dir.join("folder/inner")).unwrap();
        for name in ["edited", "removed", "renamed", "linked", "moded", "attributed", "folder/inner/deep"] {
            fs::write(dir.join(name), name).unwrap();
        }
        symlink("old", dir.join("symlink")).unwrap();
        fs::hard_link(dir.join("linked"), dir.join("folder/one")).unwrap();
    });
    // All of it is in the kernel's memory, absent names too.
    assert_eq!(fs::read(two.here("edited")).unwrap(), b"edited");
    assert_eq!(fs::read_link(two.here("symlink")).unwrap(), Path::new("old"));
    assert!(!two.here("created").exists() && !two.here("folder/moved").exists());
    assert_eq!(fs::metadata(two.here("folder/one")).unwrap().nlink(), 2);
    assert_eq!(xattr(&two.here("attributed"), "user.note"), None);
    for name in ["removed", "renamed", "linked", "moded", "folder/inner/deep"] {
        fs::metadata(two.here(name)).unwrap();
    }
    assert_eq!(names(&two.here("folder")), BTreeSet::from(["inner", "one"].map(String::from)));
    let mut shell = Shell::at(&two.here("folder/inner"));
    assert_eq!(shell.says("cat deep"), "folder/inner/deep");
    let mut held = File::open(two.here("edited")).unwrap();

    fs::write(two.there("created"), "new").unwrap();
    fs::write(two.there("edited"), "something longer").unwrap();
    fs::remove_file(two.there("removed")).unwrap();
    fs::rename(two.there("renamed"), two.there("folder/moved")).unwrap();
    fs::hard_link(two.there("linked"), two.there("two")).unwrap();
    fs::write(two.there("folder/one"), "both names").unwrap();
    fs::set_permissions(two.there("moded"), fs::Permissions::from_mode(0o640)).unwrap();
    set_xattr(&two.there("attributed"), "user.note", b"value");
    fs::remove_file(two.there("symlink")).unwrap();
    symlink("new", two.there("symlink")).unwrap();
    fs::write(two.there("folder/inner/deep"), "deeper").unwrap();
    fs::create_dir(two.there("folder/inner/made")).unwrap();
    two.pass();

    soon("a file is made", || fs::read(two.here("created")).is_ok_and(|content| content == b"new"));
    soon("a file is edited", || fs::read(two.here("edited")).unwrap() == b"something longer");
    soon("its size", || fs::metadata(two.here("edited")).unwrap().len() == 16);
    soon("a file is removed", || !two.here("removed").exists());
    soon("a file is renamed", || !two.here("renamed").exists() && two.here("folder/moved").exists());
    for name in ["linked", "two", "folder/one"] {
        soon("a hard link's content", || fs::read(two.here(name)).is_ok_and(|content| content == b"both names"));
        soon("its names", || fs::metadata(two.here(name)).unwrap().nlink() == 3);
    }
    soon("a mode", || fs::metadata(two.here("moded")).unwrap().mode() & 0o777 == 0o640);
    soon("an attribute", || xattr(&two.here("attributed"), "user.note").as_deref() == Some(b"value"));
    soon("a symbolic link", || fs::read_link(two.here("symlink")).unwrap() == Path::new("new"));
    soon("a listing", || names(&two.here("folder")).contains("moved"));
    assert_eq!(shell.says("cat deep; ls"), "deeperdeep\nmade\n", "from inside");
    assert_eq!(Path::new(shell.says("pwd -P").trim()), two.here("folder/inner").canonicalize().unwrap());
    let mut old = String::new();
    held.read_to_string(&mut old).unwrap();
    assert_eq!((old.as_str(), held.metadata().unwrap().nlink()), ("edited", 0), "who has it open keeps it");
}

#[test]
fn a_removed_working_directory_says_so_and_nothing_hangs() {
    let Some(two) = Two::new() else { return };
    two.both_have(|dir| {
        fs::create_dir_all(dir.join("gone/inner")).unwrap();
        fs::write(dir.join("gone/inner/file"), "content").unwrap();
    });
    let mut shell = Shell::at(&two.here("gone/inner"));
    assert_eq!(shell.says("cat file"), "content");
    let mut open = File::open(two.here("gone/inner/file")).unwrap();
    fs::remove_dir_all(two.there("gone")).unwrap();
    two.pass();
    soon("it is gone", || !two.here("gone").exists());
    assert_eq!(shell.says("cat file 2>&1 >/dev/null | grep -c 'No such file'"), "1\n");
    assert_eq!(shell.says("ls -A"), "");
    assert_eq!(shell.says("touch new 2>&1 | grep -c 'No such file'"), "1\n");
    assert_eq!(shell.says("mkdir new 2>&1 | grep -c 'No such file'"), "1\n");
    assert_eq!(shell.says("cd .. && ls -A"), "");
    let mut content = String::new();
    open.read_to_string(&mut content).unwrap();
    assert_eq!(content, "content");
    assert!(!two.here("gone").exists());
}

/// Writes to a shared mapping when it is told to, and ends.
const MAPPED: &str = "
import mmap, sys
file = open(sys.argv[1], 'r+b')
data = mmap.mmap(file.fileno(), 0)
data[0:5] = b'early'
print('mapped', flush=True)
sys.stdin.readline()
assert data[0:5] == b'early'
data[6:10] = b'late'
data.close()
file.close()
";

#[test]
fn what_is_written_late_is_found_beside_what_others_made() {
    let Some(two) = Two::new() else { return };
    two.both_have(|dir| {
        for name in ["log.txt", "mapped", "gone"] {
            fs::write(dir.join(name), "0123456789").unwrap();
        }
    });
    let copy = |name: &str| {
        let found =
            names(&two.mounts[0].1).into_iter().find(|found| found.starts_with(&format!("{name} (conflict desk")));
        found.map(|found| fs::read(two.here(&found)).unwrap())
    };
    let mut log = File::options().append(true).open(two.here("log.txt")).unwrap();
    let gone = File::options().read(true).write(true).open(two.here("gone")).unwrap();
    let mut child = Command::new("python3");
    child.args(["-c", MAPPED]).arg(two.here("mapped")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut said = [0; 7];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    // The kernel keeps to itself what was written through the mapping.
    fs::write(two.there("log.txt"), "theirs").unwrap();
    fs::write(two.there("mapped"), "theirs too").unwrap();
    fs::remove_file(two.there("gone")).unwrap();
    two.pass();
    soon("what they made", || fs::read(two.here("log.txt")).unwrap() == b"theirs" && !two.here("gone").exists());
    assert_eq!((copy("log"), copy("mapped"), copy("gone")), (None, None, None));

    log.write_all(b" and late").unwrap();
    log.sync_all().unwrap();
    gone.write_all_at(b"back", 2).unwrap();
    gone.set_len(8).unwrap();
    gone.sync_data().unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    soon("the copy of a log", || copy("log").as_deref() == Some(b"0123456789 and late"));
    soon("the copy of what is gone", || copy("gone").as_deref() == Some(b"01back67"));
    soon("the copy of a mapping", || copy("mapped").as_deref() == Some(b"early5late"));
    // It goes on in the same copy, which somebody has read.
    log.write_all(b", more").unwrap();
    soon("what came after", || copy("log").as_deref() == Some(b"0123456789 and late, more"));
    drop((log, gone));
    two.pass();
    assert_eq!(fs::read(two.here("log.txt")).unwrap(), b"theirs");
    assert_eq!(fs::read(two.here("mapped")).unwrap(), b"theirs too");
    soon("the other device has them", || {
        names(&two.mounts[1].1).iter().filter(|name| name.contains("(conflict desk")).count() == 3
    });
}

#[test]
fn who_asks_without_rest_never_misses_a_file_nor_sees_an_old_size_after_a_new_one() {
    let Some(two) = Two::new() else { return };
    two.both_have(|dir| {
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/grows"), "x").unwrap();
        fs::write(dir.join("d/stays"), "stays").unwrap();
    });
    let (done, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let poller = scope.spawn(|| {
            let mut last = 0;
            while !done.load(Ordering::Acquire) {
                let size = fs::metadata(two.here("d/grows")).expect("it is in every version").len();
                assert!(size >= last, "{size} after {last}");
                last = size;
                assert_eq!(fs::read(two.here("d/stays")).expect("it never changes"), b"stays");
                let read = fs::read(two.here("d/grows")).expect("it is in every version").len() as u64;
                assert!(read >= last, "{read} bytes after {last}");
                last = read;
                assert!(names(&two.here("d")).is_superset(&BTreeSet::from(["grows", "stays"].map(String::from))));
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        for size in 2..25 {
            // In place, by a new file, and with something else around it.
            match size % 3 {
                0 => fs::write(two.there("d/grows"), "x".repeat(size)).unwrap(),
                1 => {
                    fs::write(two.there("d/new"), "x".repeat(size)).unwrap();
                    fs::rename(two.there("d/new"), two.there("d/grows")).unwrap();
                }
                _ => {
                    let mut file = File::options().append(true).open(two.there("d/grows")).unwrap();
                    file.write_all(b"x").unwrap();
                    fs::write(two.there(&format!("d/{size}")), "another").unwrap();
                }
            }
            two.pass();
            soon("the size", || {
                assert!(!poller.is_finished(), "the poller failed");
                fs::metadata(two.here("d/grows")).unwrap().len() == size as u64
            });
        }
        done.store(true, Ordering::Release);
        poller.join().unwrap();
    });
    assert!(looks.load(Ordering::Relaxed) > 50);
}

#[test]
fn metadata_is_answered_at_once_while_versions_arrive_under_heavy_writes() {
    let Some(two) = Two::new() else { return };
    two.both_have(|dir| {
        fs::create_dir(dir.join("theirs")).unwrap();
        fs::write(dir.join("still"), "still").unwrap();
    });
    let done = AtomicBool::new(false);
    let (looks, slow, longest) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut round, data) = (0_u64, vec![7; 200_000]);
            while !done.load(Ordering::Acquire) {
                // The name may come and go with the version that it is in.
                match fs::write(two.here(&format!("mine{}", round % 20)), &data) {
                    Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
                    _ => round += 1,
                }
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let start = Instant::now();
                fs::metadata(two.here("still")).expect("it never changes");
                // Never in the kernel's memory.
                let absent = two.here(&format!("theirs/absent-{start:?}"));
                assert_eq!(fs::metadata(absent).unwrap_err().kind(), ErrorKind::NotFound);
                let took = start.elapsed();
                looks.fetch_add(1, Ordering::Relaxed);
                slow.fetch_add(u64::from(took > AT_ONCE), Ordering::Relaxed);
                longest.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        for round in 0..40 {
            fs::write(two.there(&format!("theirs/{round}")), "theirs").unwrap();
            two.mounts[1].0.sync(LONG).unwrap();
            two.pair.meet();
            assert!(two.pair.buckets.iter().all(|bucket| bucket.settle(LONG)), "both move on");
        }
        done.store(true, Ordering::Release);
    });
    let (looks, slow) = (looks.into_inner(), slow.into_inner());
    let longest = Duration::from_micros(longest.into_inner());
    eprintln!("{slow} of {looks} looks took more than {AT_ONCE:?}, the longest {longest:?}");
    // Others use this machine too.
    assert!(slow * 100 <= looks && longest < SOON, "{slow} of {looks}, {longest:?}");
    two.pass();
}

#[test]
fn locks_and_files_without_names_live_through_a_switch() {
    let Some(two) = Two::new() else { return };
    two.both_have(|dir| {
        fs::write(dir.join("locked"), "one").unwrap();
        fs::write(dir.join("unlinked"), "two").unwrap();
    });
    let locked = File::options().read(true).write(true).open(two.here("locked")).unwrap();
    locked.lock().unwrap();
    let mut unlinked = File::options().read(true).write(true).open(two.here("unlinked")).unwrap();
    fs::remove_file(two.here("unlinked")).unwrap();
    unlinked.write_all_at(b"TWO", 0).unwrap();
    two.pass();
    fs::write(two.there("locked"), "replaced").unwrap();
    two.pass();
    soon("the other content", || fs::read(two.here("locked")).unwrap() == b"replaced");
    let again = File::open(two.here("locked")).unwrap();
    again.try_lock().expect("it is another file");
    locked.unlock().unwrap();
    unlinked.seek(SeekFrom::Start(0)).unwrap();
    let mut content = String::new();
    unlinked.read_to_string(&mut content).unwrap();
    assert_eq!(content, "TWO");
    // Across names that moved meanwhile.
    fs::rename(two.here("locked"), two.here("moved")).unwrap();
    assert_eq!(fs::read(two.here("moved")).unwrap(), b"replaced");
    two.pass();
    soon("it arrives there", || fs::read(two.there("moved")).is_ok_and(|content| content == b"replaced"));
}
