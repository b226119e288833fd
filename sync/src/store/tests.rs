#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::disk::simulated::{Fault, Simulation};
use super::*;
use crate::link::Codec;

fn block(seed: u32, len: usize) -> (Link, Vec<u8>) {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    (Link::of(Codec::Raw, &bytes), bytes)
}

fn new() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("b")).unwrap();
    (dir, store)
}

fn reopened(dir: &tempfile::TempDir, store: Store) -> Store {
    drop(store);
    Store::open(&dir.path().join("b")).unwrap()
}

fn put(store: &Store, seeds: std::ops::Range<u32>) {
    for (link, bytes) in seeds.map(|seed| block(seed, 1_000 + seed as usize)) {
        assert!(store.put(&link, &bytes).unwrap());
    }
}

/// Whether or not they are there.
fn put_again(store: &Store, seeds: std::ops::Range<u32>) {
    for (link, bytes) in seeds.map(|seed| block(seed, 1_000 + seed as usize)) {
        store.put(&link, &bytes).unwrap();
    }
}

fn here(store: &Store, seeds: std::ops::Range<u32>) -> usize {
    let is_here = |seed: &u32| {
        let (link, bytes) = block(*seed, 1_000 + *seed as usize);
        store.get(&link).unwrap().inspect(|found| assert_eq!(*found, bytes)).is_some()
    };
    seeds.filter(is_here).count()
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[test]
fn dropping_without_a_commit_loses_exactly_what_was_not_committed() {
    let (dir, store) = new();
    put(&store, 0..50);
    let meta = vec![("head", Some(b"one".to_vec()))];
    store.commit(Commit { meta, ..Commit::default() }).unwrap();
    put(&store, 50..100);
    assert_eq!(here(&store, 0..100), 100);
    let store = reopened(&dir, store);
    assert_eq!((here(&store, 0..50), here(&store, 50..100)), (50, 0));
    assert_eq!(store.meta("head").unwrap(), Some(b"one".to_vec()));
    // The dropped tail is written over, and nothing else is.
    put(&store, 100..150);
    store.commit(Commit::default()).unwrap();
    let store = reopened(&dir, store);
    assert_eq!((here(&store, 0..50), here(&store, 50..100), here(&store, 100..150)), (50, 0, 50));
    assert_eq!(store.stats().unwrap().blocks, 100);
}

/// A store on a disk that can be made to fail.
fn simulated() -> (Simulation, Settings, Store) {
    let disk = Simulation::new(7);
    let settings = Settings { disk: Disk::Simulated(disk.clone()), ..Settings::default() };
    let store = Store::create_with(&settings, Path::new("/b")).unwrap();
    settings.disk.sync_dir(Path::new("/")).unwrap();
    (disk, settings, store)
}

#[test]
fn a_disk_that_fails_for_a_while_is_read_meanwhile_and_written_to_afterwards() {
    let (disk, settings, store) = simulated();
    put(&store, 0..20);
    store.commit(Commit { meta: vec![("x", Some(vec![1]))], ..Commit::default() }).unwrap();
    put(&store, 20..30);
    (disk.operations()..disk.operations() + 1_000).for_each(|operation| disk.fail(operation, Fault::Error));
    for _ in 0..3 {
        store.commit(Commit { meta: vec![("x", Some(vec![2]))], ..Commit::default() }).unwrap_err();
        assert_eq!(here(&store, 0..20), 20);
        assert_eq!(store.manifests().count(), 0);
    }
    disk.heal();
    put_again(&store, 20..30);
    store.commit(Commit { meta: vec![("x", Some(vec![3]))], ..Commit::default() }).unwrap();
    drop(store);
    disk.restart(0);
    let store = Store::open_with(&settings, Path::new("/b")).unwrap();
    assert_eq!((here(&store, 0..30), store.meta("x").unwrap()), (30, Some(vec![3])));
}

/// The operation at which the index is synced, of a commit of nothing but a value, is its last but one.
#[test]
fn an_index_whose_sync_failed_is_read_until_there_is_space_for_a_copy() {
    let (disk, settings, store) = simulated();
    put(&store, 0..20);
    let value = |value| Commit { meta: vec![("x", Some(vec![value]))], ..Commit::default() };
    store.commit(value(1)).unwrap();
    let before = disk.operations();
    store.commit(value(2)).unwrap();
    let sync = disk.operations() + (disk.operations() - before) - 2;
    disk.fail(sync, Fault::Error);
    disk.set_capacity(Some(disk.used() + 40_000));
    store.commit(value(3)).unwrap_err();
    for _ in 0..3 {
        assert_eq!(here(&store, 0..20), 20);
        let full = store.commit(value(4));
        assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
    }
    disk.set_capacity(None);
    store.commit(value(5)).unwrap();
    drop(store);
    disk.restart(0);
    let store = Store::open_with(&settings, Path::new("/b")).unwrap();
    assert_eq!((here(&store, 0..20), store.meta("x").unwrap()), (20, Some(vec![5])));
}

#[test]
fn the_same_block_twice_is_stored_once() {
    let (dir, store) = new();
    let (link, bytes) = block(1, 5_000);
    assert!(store.put(&link, &bytes).unwrap());
    assert!(!store.put(&link, &bytes).unwrap());
    store.commit(Commit::default()).unwrap();
    assert!(!store.put(&link, &bytes).unwrap());
    let Stats { blocks, put_blocks, put_bytes, .. } = store.stats().unwrap();
    assert_eq!((blocks, put_blocks, put_bytes), (1, 1, 5_000));
    let store = reopened(&dir, store);
    assert!(!store.put(&link, &bytes).unwrap());
    assert_eq!(store.stats().unwrap().put_blocks, 0);
}

#[test]
fn manifests_keep_the_order_of_their_commits_and_values_can_be_removed() {
    let (dir, store) = new();
    let all: Vec<_> = (0..600).map(|seed| block(seed, 100)).collect();
    for some in all.chunks(7) {
        store.commit(Commit { manifests: some.to_vec(), meta: vec![("x", Some(vec![1]))] }).unwrap();
    }
    store.commit(Commit { manifests: vec![all[3].clone()], meta: vec![("x", None)] }).unwrap();
    let store = reopened(&dir, store);
    assert_eq!(store.manifests().collect::<Result<Vec<_>, _>>().unwrap(), all);
    assert_eq!(store.manifest(&all[5].0).unwrap(), Some(all[5].1.clone()));
    assert_eq!(store.manifest(&block(9_999, 9).0).unwrap(), None);
    assert_eq!(store.meta("x").unwrap(), None);
}

#[test]
fn a_full_disk_is_said_and_what_comes_later_is_stored() {
    let (dir, store) = new();
    put(&store, 0..10);
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let real = store.writer.lock().replace_file(Some(Arc::new(disk::File::Real(full))));
    let (link, bytes) = block(10, 1_010);
    assert!(matches!(store.put(&link, &bytes), Err(StoreError::Full(_))));
    assert_eq!(store.get(&link).unwrap(), None);
    store.writer.lock().replace_file(real);
    put(&store, 10..20);
    store.commit(Commit::default()).unwrap();
    assert_eq!(here(&reopened(&dir, store), 0..20), 20);
}

#[test]
fn a_torn_append_is_written_over() {
    let (dir, store) = new();
    put(&store, 0..3);
    let path = dir.path().join("b/packs/00000001.pack");
    let end = store.writer.lock().take_unsynced().0;
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0xff; 5_000], end.offset).unwrap();
    put(&store, 3..6);
    store.commit(Commit::default()).unwrap();
    let store = reopened(&dir, store);
    assert_eq!(here(&store, 0..6), 6);
    assert!(path.metadata().unwrap().len() < end.offset + 4_000, "what stood behind the end was cut off");
}

#[test]
fn a_journal_that_is_damaged_at_its_start_or_amid_is_known_to_be() {
    let frame = |generation, byte| Frame { generation, payload: vec![byte; 100] };
    for (append, kept) in [(0, 0), (1, 1)] {
        let (dir, store) = new();
        for byte in 0..3 {
            assert!(store.journal(&[frame(5, byte)]).unwrap());
        }
        drop(store);
        flip(&dir.path().join("b/journal/00000001.journal"), append * 4096 + 60);
        let store = Store::open(&dir.path().join("b")).unwrap();
        let (frames, all) = store.journaled(5).unwrap();
        assert_eq!((frames.len(), all), (kept, false));
        assert_eq!(store.last_journaled(), Some(5), "nothing new may be taken for what is lost");
        // What is not needed any more does no harm, in a file that is used again either.
        assert!(store.journaled(6).unwrap().1);
        store.forget_journal(6);
        assert!(store.journal(&[frame(6, 9)]).unwrap());
        let store = reopened(&dir, store);
        assert_eq!(store.journaled(6).unwrap(), (vec![frame(6, 9)], true));
    }
}

#[test]
fn a_journal_says_that_it_fills_when_half_of_it_is_left() {
    let (settings, dir) = small_segments();
    let store = Store::create_with(&settings, &dir).unwrap();
    let append = || store.journal(&[Frame { generation: 5, payload: vec![1; 4_000] }]).unwrap();
    let appends = |until: &dyn Fn() -> bool| (0..).take_while(|_| append() && !until()).count();
    let before = appends(&|| store.journal_is_filling());
    let after = appends(&|| false);
    assert!(before.abs_diff(after) <= settings.journal_file_bytes as usize / 4_096, "{before} and then {after}");
    store.forget_journal(6);
    assert!(!store.journal_is_filling() && append());
}

#[test]
fn a_second_opener_is_told_that_it_is_locked() {
    let (dir, store) = new();
    assert!(matches!(Store::open(&dir.path().join("b")), Err(StoreError::Locked(_))));
    drop(store);
    assert!(Store::open(&dir.path().join("b")).is_ok());
}

#[test]
fn nothing_on_disk_can_be_read_by_others() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, store) = new();
    put(&store, 0..1);
    for (name, mode) in [("b", 0o700), ("b/packs", 0o700), ("b/db.redb", 0o600), ("b/packs/00000001.pack", 0o600)] {
        assert_eq!(dir.path().join(name).metadata().unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn readers_see_every_block_while_others_put_and_commit() {
    let (_dir, store) = new();
    let put_up_to = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seed in 0..300 {
                put(&store, seed..seed + 1);
                put_up_to.store(u64::from(seed) + 1, Ordering::Release);
            }
        });
        scope.spawn(|| {
            while put_up_to.load(Ordering::Acquire) < 300 {
                store.commit(Commit::default()).unwrap();
            }
        });
        scope.spawn(|| {
            while put_up_to.load(Ordering::Acquire) < 300 {
                let end = put_up_to.load(Ordering::Acquire) as u32;
                let start = end.saturating_sub(20);
                assert_eq!(here(&store, start..end), (end - start) as usize);
            }
        });
    });
    store.commit(Commit::default()).unwrap();
    let mut links = HashSet::new();
    store.for_each_block(&mut |link, len| assert!(links.insert(link) && len >= 1_000)).unwrap();
    assert_eq!((links.len(), store.stats().unwrap().put_blocks), (300, 300));
}

#[test]
fn a_changed_or_cut_segment_is_reported_for_its_blocks_and_spares_the_others() {
    let (dir, store) = new();
    put(&store, 0..10);
    store.commit(Commit::default()).unwrap();
    drop(store);
    let path = dir.path().join("b/packs/00000001.pack");
    flip(&path, 16 + 3);
    // Up to the middle of the last block: headers of 37 bytes, the blocks before, and some of it.
    let cut = 16 + 10 * 37 + (0..9).map(|seed| 1_000 + seed).sum::<u64>() + 500;
    OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();
    let store = Store::open(&dir.path().join("b")).unwrap();
    for hurt in [0, 9] {
        let found = store.get(&block(hurt, 1_000 + hurt as usize).0);
        assert!(matches!(found, Err(StoreError::Damaged { .. })), "{found:?}");
    }
    assert_eq!(here(&store, 1..9), 8);
    put(&store, 10..20);
    store.commit(Commit::default()).unwrap();
    let store = reopened(&dir, store);
    assert_eq!(here(&store, 10..20), 10);
    drop(store);
    flip(&path, 2);
    let store = Store::open(&dir.path().join("b")).unwrap();
    assert!(matches!(store.get(&block(1, 1_001).0), Err(StoreError::Damaged { .. })));
    std::fs::remove_file(&path).unwrap();
    let store = reopened(&dir, store);
    assert!(matches!(store.get(&block(1, 1_001).0), Err(StoreError::Damaged { .. })));
    assert_eq!(here(&store, 10..20), 10);
}

#[test]
fn a_damaged_index_is_an_error_and_never_a_panic_or_other_bytes() {
    let (dir, store) = new();
    put(&store, 0..200);
    let manifests = (0..20).map(|seed| block(seed, 300)).collect();
    store.commit(Commit { manifests, meta: vec![("x", Some(vec![7; 100]))] }).unwrap();
    drop(store);
    let path = dir.path().join("b/db.redb");
    let good = std::fs::read(&path).unwrap();
    let used = good.len() as u64 - good.iter().rev().take_while(|byte| **byte == 0).count() as u64;
    let mut reported = 0;
    for case in 0..120 {
        std::fs::write(&path, &good).unwrap();
        if case < 100 {
            flip(&path, if case < 40 { case * 8 } else { case * used / 100 });
        } else {
            OpenOptions::new().write(true).open(&path).unwrap().set_len((case - 100) * good.len() as u64 / 20).unwrap();
        }
        let outcome = Store::open(&dir.path().join("b")).and_then(|store| {
            for seed in 0..200 {
                let (link, bytes) = block(seed, 1_000 + seed as usize);
                assert!(store.get(&link)?.is_none_or(|found| found == bytes));
            }
            store.for_each_block(&mut |_, _| ())?;
            store.manifests().collect::<Result<Vec<_>, _>>()?;
            store.put(&block(1_000, 10).0, &block(1_000, 10).1)?;
            store.commit(Commit { manifests: Vec::new(), meta: vec![("x", None)] })
        });
        reported += u32::from(outcome.is_err());
    }
    assert!(reported >= 20, "every cut file and some changed ones are reported: {reported}");
}

#[test]
fn segments_roll_over_and_all_of_them_are_read() {
    let (dir, store) = new();
    // Pretend that the first segment is nearly full: the file is sparse there.
    put(&store, 0..1);
    store.writer.lock().pretend_filled(limits::SEGMENT_BYTES - 3_000);
    put(&store, 1..5);
    store.commit(Commit::default()).unwrap();
    put(&store, 5..6);
    assert!(dir.path().join("b/packs/00000002.pack").exists());
    let store = reopened(&dir, store);
    assert_eq!(here(&store, 0..6), 5);
}

#[test]
fn segments_that_were_never_committed_are_removed() {
    let (dir, store) = new();
    put(&store, 0..1);
    store.commit(Commit::default()).unwrap();
    store.writer.lock().pretend_filled(limits::SEGMENT_BYTES);
    put(&store, 1..2);
    let second = dir.path().join("b/packs/00000002.pack");
    assert!(second.exists());
    let store = reopened(&dir, store);
    assert!(!second.exists());
    assert_eq!(here(&store, 0..2), 1);
}

/// A file system of its own that fills up; it needs the right to mount one.
#[test]
fn on_a_disk_that_fills_up_puts_and_commits_fail_cleanly_and_work_again_with_space() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = unmount(&self.0, UnmountFlags::DETACH);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    if mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(c"size=6m")).is_err() {
        eprintln!("not tested: this user can not mount a tmpfs");
        return;
    }
    let mounted = Mounted(dir.path().to_owned());
    let store = Store::create(&dir.path().join("b")).unwrap();
    put(&store, 0..100);
    store.commit(Commit { meta: vec![("x", Some(vec![1]))], ..Commit::default() }).unwrap();
    let ballast = dir.path().join("ballast");
    // Full for the index, at many different moments: commits of values that grow.
    let (mut puts_failed, mut commits_failed) = (0, 0);
    for round in 0..40u32 {
        let free = 4096 * u64::from(round % 20);
        // Every other round it is the block that finds no space, else the index.
        let (link, bytes) = block(1_000 + round, 9_000);
        let early = (round % 2 == 0).then(|| store.put(&link, &bytes).unwrap());
        let stat = rustix::fs::statvfs(dir.path()).unwrap();
        let size = (stat.f_bavail * stat.f_frsize).saturating_sub(free);
        std::fs::write(&ballast, vec![1; size as usize]).unwrap();
        let put = early.map_or_else(|| store.put(&link, &bytes), Ok);
        let was_put = put.is_ok();
        let meta = vec![("x", Some(vec![round as u8; 600_000]))];
        let stored = put.and_then(|_| store.commit(Commit { meta, ..Commit::default() }));
        puts_failed += u32::from(!was_put);
        commits_failed += u32::from(was_put && stored.is_err());
        assert!(matches!(stored, Ok(()) | Err(StoreError::Full(_))), "{stored:?}");
        std::fs::remove_file(&ballast).unwrap();
        assert_eq!(here(&store, 0..100), 100);
        // A block that was put before the commit failed is still there, and goes with the next one.
        assert_eq!(store.put(&link, &bytes).unwrap(), !was_put);
        store.commit(Commit { meta: vec![("y", Some(vec![round as u8]))], ..Commit::default() }).unwrap();
        assert_eq!(store.get(&link).unwrap(), Some(bytes));
        assert_eq!(store.meta("y").unwrap(), Some(vec![round as u8]));
    }
    assert!(puts_failed > 0 && commits_failed > 3, "{puts_failed} {commits_failed}");
    drop(store);
    let store = Store::open(&dir.path().join("b")).unwrap();
    assert_eq!((here(&store, 0..100), store.stats().unwrap().blocks), (100, 140));
    drop((store, mounted));
}

fn small_segments() -> (Settings, std::path::PathBuf) {
    let disk = disk::Disk::Simulated(Simulation::new(1));
    (Settings { disk, segment_bytes: 20_000, journal_file_bytes: 16_384 }, "/b".into())
}

/// Collects all but these.
fn collect(store: &Store, live: std::ops::Range<u32>) -> Swept {
    let live: HashSet<_> = live.map(|seed| block(seed, 1_000 + seed as usize).0).collect();
    let collection = store.begin_collection().unwrap().unwrap();
    collection.sweep(&|link| live.contains(link), &mut |_| {}, &|| false).unwrap()
}

#[test]
fn a_collection_drops_what_is_dead_and_gives_its_space_back() {
    let (settings, dir) = small_segments();
    let store = Store::create_with(&settings, &dir).unwrap();
    put(&store, 0..200);
    store.commit(Commit::default()).unwrap();
    let before = store.stats().unwrap();
    let swept = collect(&store, 50..60);
    assert_eq!(swept.blocks, 190);
    assert_eq!((here(&store, 0..200), here(&store, 50..60)), (10, 10));
    let after = store.stats().unwrap();
    assert_eq!(after.blocks, 10);
    assert!(before.bytes - after.bytes > 190_000, "{before:?} {after:?}");
    drop(store);
    let store = Store::open_with(&settings, &dir).unwrap();
    assert_eq!((here(&store, 0..200), here(&store, 50..60)), (10, 10));
    let again = collect(&store, 50..60);
    assert_eq!((again.blocks, again.moved, again.segments), (0, 0, 0), "nothing is left to do");
}

#[test]
fn what_was_not_committed_or_is_put_meanwhile_is_not_collected() {
    let (_dir, store) = new();
    put(&store, 0..10);
    store.commit(Commit::default()).unwrap();
    put(&store, 10..20);
    let collection = store.begin_collection().unwrap().unwrap();
    assert!(store.begin_collection().unwrap().is_none(), "one at a time");
    put_again(&store, 5..10);
    put(&store, 20..30);
    store.commit(Commit::default()).unwrap();
    let swept = collection.sweep(&|_| false, &mut |_| {}, &|| false).unwrap();
    drop(collection);
    assert_eq!((swept.blocks, here(&store, 0..30), here(&store, 5..30)), (5, 25, 25));
    assert_eq!(collect(&store, 0..0).blocks, 25, "the next one is told anew");
}

#[test]
fn blocks_are_put_and_read_while_they_are_collected() {
    let (settings, dir) = small_segments();
    let store = Store::create_with(&settings, &dir).unwrap();
    put(&store, 0..200);
    store.commit(Commit::default()).unwrap();
    let live: HashSet<_> = (0..60).map(|seed| block(seed, 1_000 + seed as usize).0).collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    // What is put before it begins is only kept by who says that it is live.
    let collection = store.begin_collection().unwrap().unwrap();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(here(&store, 0..60), 60, "what is live is always here");
            }
        });
        let putting = scope.spawn(|| {
            let mut put = HashSet::new();
            for round in 0..20 {
                for seed in (100 + round..200).step_by(7) {
                    put_again(&store, seed..seed + 1);
                    put.insert(seed);
                    assert_eq!(here(&store, seed..seed + 1), 1, "what was just put is here");
                }
                store.commit(Commit::default()).unwrap();
            }
            put
        });
        let swept = collection.sweep(&|link| live.contains(link), &mut |_| {}, &|| false);
        let put = putting.join();
        done.store(true, Ordering::Relaxed);
        reading.join().unwrap();
        assert!(swept.unwrap().segments > 0);
        assert!(!put.unwrap().is_empty());
    });
    drop(collection);
    drop(store);
    assert_eq!(here(&Store::open_with(&settings, &dir).unwrap(), 0..60), 60);
}

#[test]
fn a_full_disk_ends_a_collection_and_loses_nothing() {
    let simulation = Simulation::new(1);
    let settings =
        Settings { disk: disk::Disk::Simulated(simulation.clone()), segment_bytes: 40_000, journal_file_bytes: 16_384 };
    let store = Store::create_with(&settings, Path::new("/b")).unwrap();
    put(&store, 0..200);
    store.commit(Commit::default()).unwrap();
    let live: HashSet<_> =
        (0..200).filter(|seed| seed % 3 > 0).map(|seed| block(seed, 1_000 + seed as usize).0).collect();
    let collection = store.begin_collection().unwrap().unwrap();
    let swept = collection.sweep(
        &|link| live.contains(link),
        &mut |at| {
            if matches!(at, Sweeping::Segments(0, _)) {
                simulation.set_capacity(Some(simulation.used() + 8_192));
            }
        },
        &|| false,
    );
    let swept = swept.unwrap();
    drop(collection);
    assert!(swept.full && swept.blocks == 67, "{swept:?}");
    let all = || (0..200).filter(|seed| seed % 3 > 0).map(|seed| here(&store, seed..seed + 1)).sum::<usize>();
    assert_eq!(all(), 133);
    simulation.set_capacity(None);
    store.commit(Commit::default()).unwrap();
    let collection = store.begin_collection().unwrap().unwrap();
    let swept = collection.sweep(&|link| live.contains(link), &mut |_| {}, &|| false).unwrap();
    assert!(!swept.full && swept.segments > 0, "with space, it goes on: {swept:?}");
    assert_eq!(all(), 133);
}

#[test]
fn a_damaged_block_stays_where_it_is_and_its_segment_with_it() {
    let simulation = Simulation::new(1);
    let settings =
        Settings { disk: disk::Disk::Simulated(simulation.clone()), segment_bytes: 20_000, journal_file_bytes: 16_384 };
    let store = Store::create_with(&settings, Path::new("/b")).unwrap();
    put(&store, 0..60);
    store.commit(Commit::default()).unwrap();
    simulation.damage(Path::new("/b/packs/00000001.pack"), 16 + 37 + 5, 0x10);
    let swept = collect(&store, 0..2);
    assert_eq!((swept.blocks, swept.damaged), (58, 1));
    let (link, bytes) = block(0, 1_000);
    assert!(store.get(&link).unwrap().unwrap() != bytes, "it is still there, and damaged");
    assert_eq!(here(&store, 1..2), 1);
}

fn manifest(seed: u32) -> (Link, Vec<u8>) {
    block(10_000 + seed, 300)
}

/// Ten blocks, a manifest, and a value.
fn commit(store: &Store, number: u32) {
    put(store, number * 10..number * 10 + 10);
    let meta = vec![("x", Some(vec![number as u8]))];
    store.commit(Commit { manifests: vec![manifest(number)], meta }).unwrap();
}

/// A store whose index is of the first of these commits, while the segments have them all; and how long its segment was then.
fn with_an_index_of_the_first(commits: std::ops::RangeInclusive<u32>) -> (tempfile::TempDir, u64) {
    let (dir, mut store) = new();
    let (path, earlier) = (dir.path().join("b/db.redb"), dir.path().join("earlier"));
    let mut len = 0;
    for number in commits.clone() {
        commit(&store, number);
        if number == *commits.start() {
            drop(store);
            std::fs::copy(&path, &earlier).unwrap();
            len = dir.path().join("b/packs/00000001.pack").metadata().unwrap().len();
            store = Store::open(&dir.path().join("b")).unwrap();
        }
    }
    drop(store);
    std::fs::copy(&earlier, &path).unwrap();
    (dir, len)
}

fn all_manifests(store: &Store) -> Vec<(Link, Vec<u8>)> {
    store.manifests().collect::<Result<_, _>>().unwrap()
}

#[test]
fn commits_that_the_index_lost_are_done_again_in_their_order() {
    let (dir, _) = with_an_index_of_the_first(0..=3);
    let mut store = Store::open(&dir.path().join("b")).unwrap();
    for _ in 0..2 {
        assert_eq!((store.meta("x").unwrap(), here(&store, 0..40)), (Some(vec![3]), 40));
        assert_eq!(all_manifests(&store), (0..=3).map(manifest).collect::<Vec<_>>());
        assert_eq!(store.stats().unwrap().blocks, 44);
        store = reopened(&dir, store);
    }
    commit(&store, 4);
    let store = reopened(&dir, store);
    assert_eq!((store.meta("x").unwrap(), here(&store, 0..50)), (Some(vec![4]), 50));
}

#[test]
fn a_commit_behind_a_damaged_one_is_neither_done_nor_cut_off() {
    let (dir, len) = with_an_index_of_the_first(0..=2);
    let path = dir.path().join("b/packs/00000001.pack");
    let whole = path.metadata().unwrap().len();
    flip(&path, len + 37 + 5);
    let store = Store::open(&dir.path().join("b")).unwrap();
    assert_eq!((store.meta("x").unwrap(), here(&store, 0..30)), (Some(vec![0]), 10));
    assert_eq!(path.metadata().unwrap().len(), whole, "nothing is cut off");
    drop(store);
    rebuild(&Settings::default(), &dir.path().join("b"), &|_, _| None, &mut |_, _| {}).unwrap();
    let store = Store::open(&dir.path().join("b")).unwrap();
    assert_eq!((store.meta("x").unwrap(), here(&store, 0..30)), (Some(vec![2]), 29));
}

#[test]
fn what_stands_whole_before_a_damaged_commit_is_done() {
    let (dir, _) = with_an_index_of_the_first(0..=2);
    let path = dir.path().join("b/packs/00000001.pack");
    let whole = path.metadata().unwrap().len();
    // The last record, which is the state after the last commit.
    flip(&path, whole - 3);
    let store = Store::open(&dir.path().join("b")).unwrap();
    assert_eq!((store.meta("x").unwrap(), here(&store, 0..30)), (Some(vec![1]), 20));
    commit(&store, 3);
    let store = reopened(&dir, store);
    assert_eq!((store.meta("x").unwrap(), here(&store, 0..40)), (Some(vec![3]), 30));
}

#[test]
fn a_value_that_a_lost_commit_removed_is_gone() {
    let (dir, store) = new();
    let (path, earlier) = (dir.path().join("b/db.redb"), dir.path().join("earlier"));
    commit(&store, 0);
    drop(store);
    std::fs::copy(&path, &earlier).unwrap();
    let store = Store::open(&dir.path().join("b")).unwrap();
    store.commit(Commit { meta: vec![("x", None), ("y", Some(vec![7]))], ..Commit::default() }).unwrap();
    drop(store);
    std::fs::copy(&earlier, &path).unwrap();
    let store = Store::open(&dir.path().join("b")).unwrap();
    assert_eq!((store.meta("x").unwrap(), store.meta("y").unwrap()), (None, Some(vec![7])));
}

#[test]
fn an_index_that_says_something_else_than_the_last_commit_is_damaged() {
    let (dir, store) = new();
    put(&store, 0..10);
    store.commit(Commit { meta: vec![("x", Some(vec![1]))], ..Commit::default() }).unwrap();
    store.index.restore(0, &[("x".to_owned(), vec![3])].into()).unwrap();
    drop(store);
    let opened = Store::open(&dir.path().join("b"));
    assert!(matches!(opened, Err(StoreError::Damaged { .. })), "its named values are others");
    rebuild(&Settings::default(), &dir.path().join("b"), &|_, _| None, &mut |_, _| {}).unwrap();
    let store = Store::open(&dir.path().join("b")).unwrap();
    assert_eq!((store.meta("x").unwrap(), here(&store, 0..10)), (Some(vec![1]), 10));
}

#[test]
fn a_store_opens_whatever_was_collected_between_its_commits() {
    let (dir, mut store) = new();
    for round in 0..6_u32 {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for seed in 0..40 {
                    put_again(&store, round * 100 + seed..round * 100 + seed + 1);
                    store.commit(Commit { meta: vec![("x", Some(vec![seed as u8]))], ..Commit::default() }).unwrap();
                }
            });
            scope.spawn(|| {
                for _ in 0..10 {
                    let collection = store.begin_collection().unwrap().unwrap();
                    collection.sweep(&|_| false, &mut |_| {}, &|| false).unwrap();
                }
            });
        });
        store = reopened(&dir, store);
        assert_eq!(store.meta("x").unwrap(), Some(vec![39]));
    }
}
