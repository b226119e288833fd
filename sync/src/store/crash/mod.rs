//! The store on a disk whose power goes, against a plain model of what was reported as done.
//!
//! Short histories are cut at every operation on the disk; each time, a start on what is left has to find all that was
//! reported, a commit that was under way is there whole or not at all, nothing that is named may be missing, and work has to
//! go on. The same if the index has lost what was last written to it. Long ones are cut, and given errors and a full
//! disk, at any operation, and go on from what is left.
//!
//! `JAXFS_CRASH_CASES` says how many histories of each sort. A failure prints the line that replays it.
#![allow(clippy::unwrap_used)]

mod plain;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::UNIX_EPOCH;

use super::disk::simulated::Random;
use plain::Appended;
use world::{World, after_a_cut, after_a_lost_transaction};

/// Histories of each sort, unless the environment says otherwise.
const CASES: u64 = 40;
/// Steps of a history that is cut everywhere.
const SHORT: u64 = 12;
/// Steps of one that is cut anywhere.
const LONG: u64 = 500;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs histories of a sort, each from its seed.
fn search(sort: &str, run: impl Fn(u64) -> u64) {
    let replayed = number("JAXFS_CRASH_SEED");
    let cases = number("JAXFS_CRASH_CASES").unwrap_or(if replayed.is_some() { 1 } else { CASES });
    // The same each time, unless somebody looks for more.
    let clock = || UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let first = replayed.unwrap_or_else(|| number("JAXFS_CRASH_CASES").map_or(1, |_| clock()));
    let mut cuts = 0;
    for seed in (0..cases).map(|case| first.wrapping_add(case)) {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(more) => cuts += more,
            Err(panic) => {
                eprintln!("replay it with JAXFS_CRASH_SEED={seed} cargo test -p jaxfs-sync {sort}");
                resume_unwind(panic);
            }
        }
    }
    eprintln!("{cuts} cuts in {cases} histories from seed {first}");
}

#[test]
fn what_was_reported_is_there_wherever_the_power_goes() {
    search("wherever_the_power_goes", |seed| {
        let mut random = Random::new(seed);
        let mut world = World::new(seed);
        let mut cuts = 0;
        for _ in 0..SHORT {
            let (mut states, before) = (world.states.clone(), world.journal.clone());
            let disk = world.disk.fork();
            world.disk.record(true);
            world.step(&mut random);
            world.disk.record(false);
            // What a collection may drop, it may drop at any time.
            states.iter_mut().for_each(|state| state.blocks.retain(|link, _| !world.dropped.contains(link)));
            states.extend_from_slice(&world.states);
            // What was appended in this step may be there or not, and what a commit held may be needed or not.
            let new = world.journal.iter().skip_while(|appended| before.iter().any(|old| old.frame == appended.frame));
            let unsure = new.map(|appended| Appended { sure: false, ..appended.clone() });
            let journal: Vec<_> = before.iter().cloned().chain(unsure).collect();
            after_a_lost_transaction(&disk, &world.disk, &world.states, &world.journal);
            for (number, disk) in world.disk.recorded() {
                for again in 0..2 {
                    after_a_cut(&disk.fork(), &states, &journal, seed ^ (number << 8 | again));
                    cuts += 1;
                }
            }
            world.settle();
        }
        cuts
    });
}

#[test]
fn errors_and_cuts_at_any_time_lose_nothing_that_was_reported() {
    search("errors_and_cuts_at_any_time", |seed| {
        let mut random = Random::new(seed);
        let mut world = World::new(seed);
        for _ in 0..LONG {
            world.plan_trouble(&mut random);
            world.step(&mut random);
            world.settle();
            world.recover_from_trouble(&mut random);
        }
        world.cuts
    });
}
