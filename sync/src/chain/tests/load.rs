//! Starting from what was stored.

use std::time::{Duration, Instant};

use super::*;
use crate::link::Codec;

fn records(world: &World, count: u64) -> Vec<Record> {
    let mut records = vec![Record::of(&world.genesis)];
    for height in 1..=count {
        let previous = records.last().map(|record| record.link);
        let link = Link::of(Codec::DagCbor, &height.to_le_bytes());
        let (height, complete) = (Height(height), true);
        records.push(Record { link, previous, height, complete, ..records[0].clone() });
    }
    records
}

#[test]
fn a_hundred_thousand_manifests_load_in_less_than_a_second() {
    let world = World::fixed(0, 10);
    let records = records(&world, 100_000);
    // The best of some, since other tests run beside this one.
    let best = |mut work: Box<dyn FnMut() + '_>| {
        let once = |_| {
            let started = Instant::now();
            work();
            started.elapsed()
        };
        (0..5).map(once).min().unwrap()
    };
    let load = || Chain::load(&world.genesis, [world.list.clone()], records.iter().cloned(), Saved::default()).unwrap();
    let chain = load();
    assert_eq!((chain.head(), chain.height()), (records[100_000].link, Height(100_000)));
    assert_eq!(chain.shown(), Some(chain.head()));
    let took = best(Box::new(|| drop(load())));
    assert!(took < Duration::from_secs(1), "loading took {took:?}");
    let took = best(Box::new(|| assert!(records.iter().all(|one| chain.is_canonical(&one.link) == Some(true)))));
    assert!(took < Duration::from_secs(1), "a question about each took {took:?}");
}

#[test]
fn a_damaged_store_is_named_not_believed() {
    let world = World::fixed(0, 10);
    let good = records(&world, 3);
    let load = |records: Vec<Record>| Chain::load(&world.genesis, [world.list.clone()], records, Saved::default());
    let why = |records| load(records).unwrap_err().why;
    assert!(load(good.clone()).is_ok());
    let mut bad = good.clone();
    bad.remove(1);
    assert_eq!(why(bad), "its parent is missing");
    let mut bad = good.clone();
    bad[2].height = Height(7);
    assert_eq!(why(bad), "its height is not one more than its parent's");
    let mut bad = good.clone();
    bad[1].members = good[2].link;
    assert_eq!(why(bad), "its member list is missing");
    let mut bad = good.clone();
    bad.push(good[2].clone());
    assert_eq!(why(bad), "stored twice");
    let mut bad = good.clone();
    bad[1].previous = None;
    assert_eq!(why(bad), "a second genesis");
    assert!(Chain::load(&world.genesis, [], good, Saved::default()).is_err());
}
