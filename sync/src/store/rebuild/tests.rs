#![allow(clippy::unwrap_used)]

use std::os::unix::fs::FileExt;

use super::*;
use crate::link::Codec;
use crate::store::Store;
use crate::store::disk::Disk;
use crate::store::disk::simulated::{Fault, Simulation};
use crate::store::pack::FILE_HEADER;

const MANIFEST: &[u8] = b"a manifest of height ";

fn bytes(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; 500 + seed as usize % 700];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn manifest(height: u64) -> (Link, Vec<u8>) {
    let bytes = [MANIFEST, &height.to_le_bytes()].concat();
    (Link::of(Codec::DagCbor, &bytes), bytes)
}

fn height(_: &Link, bytes: &[u8]) -> Option<u64> {
    let height = bytes.strip_prefix(MANIFEST)?;
    height.first_chunk().copied().map(u64::from_le_bytes)
}

/// Another one of that height.
fn sibling(height: u64) -> (Link, Vec<u8>) {
    let bytes = [MANIFEST, &height.to_le_bytes(), b"too"].concat();
    (Link::of(Codec::DagCbor, &bytes), bytes)
}

/// Blocks that commit `number` brings.
fn blocks(number: u64) -> impl Iterator<Item = (Link, Vec<u8>)> {
    (0..4).map(move |at| bytes(number * 100 + at)).map(|bytes| (Link::of(Codec::Raw, &bytes), bytes))
}

fn commit(store: &Store, number: u64) -> Result<(), StoreError> {
    for (link, bytes) in blocks(number) {
        store.put(&link, &bytes)?;
    }
    let (link, bytes) = manifest(number);
    store.put(&link, &bytes)?;
    let meta = vec![("number", Some(number.to_le_bytes().to_vec()))];
    store.commit(Commit { manifests: vec![(link, bytes)], meta })
}

fn number(store: &Store) -> u64 {
    store.meta("number").unwrap().map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
}

fn heights(store: &Store) -> Vec<u64> {
    store.manifests().map(|row| row.unwrap()).map(|(link, bytes)| height(&link, &bytes).unwrap()).collect()
}

fn missing(store: &Store, number: u64) -> usize {
    blocks(number).filter(|(link, bytes)| store.get(link).unwrap().is_none_or(|found| found != *bytes)).count()
}

fn small(disk: Disk) -> Settings {
    Settings { disk, segment_bytes: 6_000, ..Settings::default() }
}

fn path(dir: &Path, segment: u32) -> std::path::PathBuf {
    pack::path(&dir.join("packs"), segment)
}

/// How many there are.
fn segments(dir: &Path) -> u32 {
    std::fs::read_dir(dir.join("packs")).unwrap().count() as u32
}

/// A store of nine commits in several segments.
fn filled() -> (tempfile::TempDir, Settings) {
    let (dir, settings) = (tempfile::tempdir().unwrap(), small(Disk::Real));
    let store = Store::create_with(&settings, dir.path()).unwrap();
    (1..10).for_each(|number| commit(&store, number).unwrap());
    (dir, settings)
}

fn rebuilt(dir: &Path, settings: &Settings) -> (Rebuilt, Store) {
    let mut told = (0, 0);
    let rebuilt = rebuild(settings, dir, &height, &mut |done, all| told = (done, all)).unwrap();
    assert!(told.1 > 0 && told.0 == told.1, "{told:?}");
    (rebuilt, Store::open_with(settings, dir).unwrap())
}

#[test]
fn an_index_that_is_lost_is_made_again_from_the_segments() {
    let (dir, settings) = filled();
    for how in ["lost", "empty", "garbage", "whole"] {
        let path = dir.path().join("db.redb");
        match how {
            "lost" => std::fs::remove_file(&path).unwrap(),
            "empty" => std::fs::write(&path, b"").unwrap(),
            "garbage" => std::fs::write(&path, vec![0x5a; 100_000]).unwrap(),
            _ => {}
        }
        let (found, store) = rebuilt(dir.path(), &settings);
        assert_eq!(found, Rebuilt { blocks: 45, manifests: 9, lost_bytes: 0 }, "{how}");
        assert_eq!((number(&store), heights(&store)), (9, (1..10).collect()), "{how}");
        assert_eq!((1..10).map(|number| missing(&store, number)).sum::<usize>(), 0, "{how}");
        assert_eq!(store.stats().unwrap().blocks, 45);
    }
    let store = Store::open_with(&settings, dir.path()).unwrap();
    commit(&store, 10).unwrap();
    drop(store);
    std::fs::remove_file(dir.path().join("db.redb")).unwrap();
    let (_, store) = rebuilt(dir.path(), &settings);
    assert_eq!((number(&store), missing(&store, 10)), (10, 0));
}

#[test]
fn damage_costs_the_block_that_it_hit_and_that_can_be_put_again() {
    let (dir, settings) = filled();
    let (segment, before) = (path(dir.path(), 2), segments(dir.path()));
    let len = std::fs::metadata(&segment).unwrap().len();
    let whole = std::fs::read(&segment).unwrap();
    for at in (FILE_HEADER..len).step_by(61) {
        let file = std::fs::File::options().write(true).open(&segment).unwrap();
        file.write_all_at(&[whole[at as usize] ^ 0x21], at).unwrap();
        std::fs::remove_file(dir.path().join("db.redb")).unwrap();
        let (found, store) = rebuilt(dir.path(), &settings);
        assert!(found.lost_bytes > 0 && found.lost_bytes < 1_300, "{at}: {found:?}");
        assert!(found.blocks >= 44, "{at}: {found:?}");
        let lost: usize = (1..10).map(|number| missing(&store, number)).sum();
        assert_eq!(lost as u64 + found.blocks + 9 - found.manifests, 45, "{at}");
        assert_eq!(number(&store), 9);
        for (link, bytes) in (1..10).flat_map(blocks) {
            store.put(&link, &bytes).unwrap();
        }
        assert_eq!((1..10).map(|number| missing(&store, number)).sum::<usize>(), 0);
        drop(store);
        // What was put again stands in a file of its own.
        let later = 1 + segments(dir.path());
        (before + 1..later).for_each(|number| std::fs::remove_file(path(dir.path(), number)).unwrap());
        file.write_all_at(&whole, 0).unwrap();
    }
}

#[test]
fn a_file_of_the_store_that_begins_wrongly_still_gives_its_blocks() {
    let (dir, settings) = filled();
    let segment = std::fs::File::options().write(true).open(dir.path().join("packs/00000001.pack")).unwrap();
    segment.write_all_at(b"no magic", 0).unwrap();
    let (found, store) = rebuilt(dir.path(), &settings);
    assert_eq!((found.blocks, missing(&store, 1)), (45, 0));
}

#[test]
fn what_the_disk_can_not_read_costs_no_more_than_what_stands_there() {
    let (whole, dir) = (Simulation::new(1), Path::new("/b"));
    let settings = Settings { disk: Disk::Simulated(whole.clone()), ..Settings::default() };
    let store = Store::create_with(&settings, dir).unwrap();
    (1..9).for_each(|number| commit(&store, number).unwrap());
    // The first is mended, and behind these stands the last commit.
    let sectors = settings.disk.contents(&path(dir, 1)).len() as u64 / 4_096;
    commit(&store, 9).unwrap();
    drop(store);
    for sector in 1..sectors {
        let disk = whole.fork();
        disk.spoil(&path(dir, 1), sector * 4_096);
        let settings = Settings { disk: Disk::Simulated(disk), ..Settings::default() };
        settings.disk.remove(&dir.join("db.redb")).unwrap();
        let found = rebuild(&settings, dir, &height, &mut |_, _| {}).unwrap();
        assert!(found.lost_bytes >= 4_096 && found.lost_bytes < 4_096 + 2 * 1_300, "{sector}: {found:?}");
        let store = Store::open_with(&settings, dir).unwrap();
        let lost: usize = (1..10).map(|number| missing(&store, number)).sum();
        assert_eq!(lost as u64 + found.blocks + 9 - found.manifests, 45, "{sector}");
        assert!((1..12).contains(&lost) && number(&store) == 9, "{sector}: {lost} are lost");
    }
}

#[test]
fn a_rebuild_that_finds_no_room_leaves_none_of_it_behind_and_the_old_index_as_it_was() {
    let (disk, dir) = (Simulation::new(1), Path::new("/b"));
    let settings = small(Disk::Simulated(disk.clone()));
    let store = Store::create_with(&settings, dir).unwrap();
    (1..10).for_each(|number| commit(&store, number).unwrap());
    drop(store);
    let index = settings.disk.contents(&dir.join("db.redb"));
    let used = disk.used();
    let mut refused = 0;
    for room in 0..200 {
        disk.set_capacity(Some(used + room * 4_096));
        match rebuild(&settings, dir, &height, &mut |_, _| {}) {
            Ok(_) => break,
            Err(error) => assert!(matches!(error, StoreError::Full(_)), "{error}"),
        }
        refused += 1;
        let left: Vec<_> = settings.disk.list(dir).unwrap().into_iter().map(|(name, _)| name).collect();
        assert!(!left.iter().any(|name| name == UNFINISHED), "{left:?}");
        assert!(settings.disk.contents(&dir.join("db.redb")) == index);
    }
    assert!((1..200).contains(&refused), "{refused}");
    let store = Store::open_with(&settings, dir).unwrap();
    assert_eq!((number(&store), (1..10).map(|number| missing(&store, number)).sum::<usize>()), (9, 0));
}

/// The disk fails once a commit's blocks and its state are safe, until another commit is made in its place. Gives what the index
/// was before both, too.
fn with_a_failed_commit(again: &[(Link, Vec<u8>)]) -> (Settings, Vec<u8>) {
    let disk = Simulation::new(1);
    let settings = Settings { disk: Disk::Simulated(disk.clone()), ..Settings::default() };
    let store = Store::create_with(&settings, Path::new("/b")).unwrap();
    settings.disk.sync_dir(Path::new("/")).unwrap();
    commit(&store, 1).unwrap();
    let index = settings.disk.contents(Path::new("/b/db.redb"));
    // Four blocks and a manifest, the state, and the sync of the segment.
    let from = disk.operations() + 7;
    (from..from + 100).for_each(|operation| disk.fail(operation, Fault::Error));
    commit(&store, 2).unwrap_err();
    disk.heal();
    assert_eq!(heights(&store), [1]);
    let meta = vec![("number", Some(3_u64.to_le_bytes().to_vec()))];
    store.commit(Commit { manifests: again.to_vec(), meta }).unwrap();
    (settings, index)
}

fn links(store: &Store) -> Vec<Link> {
    store.manifests().map(|row| row.unwrap().0).collect()
}

#[test]
fn a_manifest_of_a_commit_that_failed_is_not_taken() {
    for again in [vec![sibling(2)], vec![manifest(2), sibling(3)], vec![]] {
        let (settings, _) = with_a_failed_commit(&again);
        let named: Vec<_> = [manifest(1)].iter().chain(&again).map(|(link, _)| *link).collect();
        settings.disk.remove(Path::new("/b/db.redb")).unwrap();
        rebuild(&settings, Path::new("/b"), &height, &mut |_, _| {}).unwrap();
        let store = Store::open_with(&settings, Path::new("/b")).unwrap();
        assert_eq!((links(&store), number(&store)), (named, 3));
    }
}

#[test]
fn a_commit_that_failed_is_not_done_when_the_one_in_its_place_is() {
    for again in [vec![sibling(2)], vec![manifest(2), sibling(3)], vec![]] {
        let (settings, before) = with_a_failed_commit(&again);
        settings.disk.replace(Path::new("/b/db.redb"), &before);
        let named: Vec<_> = [manifest(1)].iter().chain(&again).map(|(link, _)| *link).collect();
        let store = Store::open_with(&settings, Path::new("/b")).unwrap();
        assert_eq!((links(&store), number(&store)), (named, 3));
    }
}

#[test]
fn a_commit_that_failed_and_is_there_nonetheless_keeps_its_number() {
    let (dir, index) = (Path::new("/b"), Path::new("/b/db.redb"));
    let mut there = 0;
    for (at, seed) in (7..25).flat_map(|at| (0..12).map(move |seed| (at, seed))) {
        let disk = Simulation::new(seed);
        let settings = Settings { disk: Disk::Simulated(disk.clone()), ..Settings::default() };
        let store = Store::create_with(&settings, dir).unwrap();
        commit(&store, 1).unwrap();
        let before = settings.disk.contents(index);
        disk.fail(disk.operations() + at, Fault::Error);
        let failed = commit(&store, 2).is_err();
        disk.heal();
        if !failed || heights(&store) != [1, 2] {
            continue;
        }
        there += 1;
        commit(&store, 3).unwrap();
        drop(store);
        settings.disk.replace(index, &before);
        let store = Store::open_with(&settings, dir).unwrap();
        assert_eq!((heights(&store), number(&store)), (vec![1, 2, 3], 3), "at {at}, seed {seed}");
        drop(store);
        settings.disk.remove(index).unwrap();
        rebuild(&settings, dir, &height, &mut |_, _| {}).unwrap();
        assert_eq!(heights(&Store::open_with(&settings, dir).unwrap()), [1, 2, 3], "at {at}, seed {seed}");
    }
    assert!(there > 0, "it never happened");
}

#[test]
fn after_a_power_cut_at_any_moment_the_state_that_is_found_has_all_its_blocks() {
    let dir = Path::new("/b");
    let run = |disk: &Simulation, done: &mut u64| -> Result<(), StoreError> {
        let store = Store::create_with(&small(Disk::Simulated(disk.clone())), dir)?;
        Disk::Simulated(disk.clone()).sync_dir(Path::new("/")).map_err(|source| StoreError::io("sync", dir, source))?;
        for number in 1..5 {
            commit(&store, number)?;
            *done = number;
        }
        Ok(())
    };
    let whole = Simulation::new(1);
    run(&whole, &mut 0).unwrap();
    for cut in 0..whole.operations() {
        for seed in 0..8 {
            let (disk, mut done) = (Simulation::new(1), 0);
            disk.fail(cut, Fault::PowerCut);
            let _cut = run(&disk, &mut done);
            disk.restart(seed);
            disk.heal();
            let settings = small(Disk::Simulated(disk.clone()));
            if done == 0 {
                continue;
            }
            settings.disk.remove(&dir.join("db.redb")).unwrap();
            rebuild(&settings, dir, &height, &mut |_, _| {}).unwrap();
            let store = Store::open_with(&settings, dir).unwrap();
            let found = number(&store);
            assert!(
                found == done || found == done + 1,
                "cut at {cut}, seed {seed}: {done} were done, {found} is found"
            );
            assert_eq!(heights(&store), (1..=found).collect::<Vec<_>>(), "cut at {cut}, seed {seed}");
            let lost: usize = (1..=found).map(|number| missing(&store, number)).sum();
            assert_eq!(lost, 0, "cut at {cut}, seed {seed}: of {found}");
        }
    }
}
