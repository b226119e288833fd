//! What a chain of a hundred thousand manifests costs: memory, loading, adding, asking.
//!
//! `cargo bench -p jaxfs-sync --features simulation --bench chain`
#![allow(clippy::unwrap_used, missing_docs, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use criterion::{Criterion, criterion_group, criterion_main};
use jaxfs_sync::bucket::Height;
use jaxfs_sync::bucket::testing::World;
use jaxfs_sync::chain::{Chain, HistoryRequest, Missing, Record, Saved};
use jaxfs_sync::link::{Codec, Link};

const MANIFESTS: u64 = 100_000;

/// Counts what is allocated and not freed.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it only counts what it passes on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A chain with a fork at every thousandth manifest.
fn records(world: &World) -> Vec<Record> {
    let mut records = vec![Record::of(&world.genesis)];
    let mut parent = world.genesis.link();
    for height in 1..=MANIFESTS {
        let link = Link::of(Codec::DagCbor, &height.to_le_bytes());
        let record =
            Record { link, previous: Some(parent), height: Height(height), complete: true, ..records[0].clone() };
        if height % 1_000 == 0 {
            let link = Link::of(Codec::DagCbor, &(height + MANIFESTS).to_le_bytes());
            records.push(Record { link, ..record.clone() });
        }
        records.push(record);
        parent = link;
    }
    records
}

fn chains(c: &mut Criterion) {
    let world = World::fixed(1, 10);
    let records = records(&world);
    let load = || Chain::load(&world.genesis, [world.list.clone()], records.iter().cloned(), Saved::default()).unwrap();
    let before = HELD.load(Ordering::Relaxed);
    let chain = load();
    let bytes = HELD.load(Ordering::Relaxed) - before;
    println!("{} manifests: {:.1} MB, {} bytes each", chain.len(), bytes as f64 / 1e6, bytes / chain.len());
    let mut group = c.benchmark_group("100,000 manifests");
    group.sample_size(10);
    group.bench_function("load", |b| b.iter(load));
    group.bench_function("displaced", |b| b.iter(|| chain.displaced(&world.devices[0].id())));
    group.finish();
    let mut group = c.benchmark_group("beside 100,000 manifests");
    let old = records[500].link;
    group.bench_function("is it canonical", |b| b.iter(|| chain.is_canonical(black_box(&old))));
    group.bench_function("locator", |b| b.iter(|| chain.locator()));
    let request = HistoryRequest { wants: vec![Missing::Manifest(chain.head())], locator: vec![records[90_000].link] };
    group.bench_function("history of 1,000", |b| b.iter(|| chain.history(&request, 1_000)));
    group.finish();
}

criterion_group!(benches, chains);
criterion_main!(benches);
