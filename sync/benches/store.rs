//! What sealing, storing and finding again cost. `JAXFS_BENCH_DIR` says on which disk; else it is that of temporary files.
//!
//! `cargo bench -p jaxfs-sync --bench store`
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jaxfs_sync::crypto::{Keyring, Secret};
use jaxfs_sync::link::{BucketId, Epoch};
use jaxfs_sync::store::{Commit, Frame, Settings, Store, rebuild};
use jaxfs_sync::tree::{Body, CHUNK_BYTES, Content, DirEntry, FileId, Name, Record, Target, Time, Tree, Vault, Xattrs};
use tempfile::TempDir;

struct Place {
    dir: TempDir,
    vault: Vault,
}

impl Place {
    fn new() -> Self {
        let parent = std::env::var_os("JAXFS_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = tempfile::tempdir_in(parent).unwrap();
        let store = Arc::new(Store::create(dir.path()).unwrap());
        Self { vault: Vault::new(store, keys()), dir }
    }

    fn store(&self) -> &Store {
        self.vault.store()
    }
}

fn keys() -> Arc<Keyring> {
    Arc::new(Keyring::new(BucketId(uuid::Uuid::from_bytes([7; 16])), Epoch(0), &Secret::new([9; 32])))
}

/// Content that was not there before.
fn content(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn sealing(c: &mut Criterion) {
    let keys = keys();
    let mut group = c.benchmark_group("chunk");
    group.throughput(Throughput::Bytes(CHUNK_BYTES));
    let plain = content(1, CHUNK_BYTES as usize);
    let (at, block) = keys.seal_data(&plain);
    group.bench_function("seal", |b| b.iter(|| keys.seal_data(black_box(&plain))));
    group.bench_function("open", |b| b.iter(|| keys.open_data(&at, block.clone()).unwrap()));
    group.finish();
}

fn storing(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit");
    for blocks in [1, 8, 64_u64] {
        let place = Place::new();
        let mut number = 0;
        group.throughput(Throughput::Bytes(blocks * CHUNK_BYTES));
        group.bench_function(BenchmarkId::new("chunks", blocks), |b| {
            b.iter(|| {
                for _ in 0..blocks {
                    number += 1;
                    place.vault.put_data(&content(number, CHUNK_BYTES as usize)).unwrap();
                }
                place.store().commit(Commit::default()).unwrap();
            });
        });
    }
    group.finish();
}

fn journaling(c: &mut Criterion) {
    let mut group = c.benchmark_group("journal");
    for frames in [1, 8_u64] {
        let place = Place::new();
        group.throughput(Throughput::Elements(frames));
        let payload = content(1, 4 << 10);
        let mut generation = 0;
        group.bench_function(BenchmarkId::new("4 KiB frames", frames), |b| {
            b.iter(|| {
                let frame = || Frame { generation, payload: payload.clone() };
                let frames: Vec<_> = (0..frames).map(|_| frame()).collect();
                if !place.store().journal(&frames).unwrap() {
                    generation += 1;
                    place.store().forget_journal(generation);
                }
            });
        });
    }
    group.finish();
}

fn rebuilding(c: &mut Criterion) {
    let mut group = c.benchmark_group("rebuild");
    group.sample_size(10);
    for mebibytes in [16, 64_u64] {
        let place = Place::new();
        (0..mebibytes * 32).for_each(|number| drop(place.vault.put_data(&content(number, CHUNK_BYTES as usize))));
        place.store().commit(Commit::default()).unwrap();
        let Place { dir, vault } = place;
        drop(vault);
        group.throughput(Throughput::Bytes(mebibytes << 20));
        group.bench_function(BenchmarkId::new("MiB", mebibytes), |b| {
            b.iter(|| rebuild(&Settings::default(), dir.path(), &|_, _| None, &mut |_, _| {}).unwrap());
        });
    }
    group.finish();
}

fn entry(number: u64) -> DirEntry {
    let time = Time { secs: 1_700_000_000, nanos: 5 };
    let mut id = [0x5a; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let record = Record {
        id: FileId(id),
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: time,
        ctime: time,
        btime: time,
        atime: None,
        xattrs: Xattrs::default(),
        body: Body::File(Content::inline(&number.to_le_bytes()).unwrap()),
    };
    DirEntry { name: name(number), target: Target::Record(Box::new(record)) }
}

fn name(number: u64) -> Name {
    Name::new(format!("file-{number:07}").as_bytes()).unwrap()
}

/// One name that leads elsewhere: O(log names).
fn directories(c: &mut Criterion) {
    let mut group = c.benchmark_group("name in a directory");
    for names in [1_000, 10_000, 100_000_u64] {
        let place = Place::new();
        let all = (0..names).map(|number| (name(number), Some(entry(number))));
        let tree = Tree::empty().apply(&place.vault, all.collect::<Vec<_>>()).unwrap();
        let mut number = names;
        group.bench_function(BenchmarkId::new("change one of", names), |b| {
            b.iter(|| {
                number += 1;
                let at = number.wrapping_mul(7_919) % names;
                let changed = DirEntry { name: name(at), ..entry(number) };
                tree.apply(&place.vault, vec![(name(at), Some(changed))]).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, sealing, storing, journaling, rebuilding, directories);
criterion_main!(benches);
