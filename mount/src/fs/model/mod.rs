//! The file system against a plain model of one, without a kernel.
//!
//! Sequences of operations are done on both, results are compared after each, and everything after some. Write-backs fail at
//! any step, other operations happen in the midst of them, and the bucket is mounted and opened anew: what was durable has
//! to be there, and nothing else.
//!
//! `JAXFS_MODEL_CASES` says how many sequences. A failure prints the shortest sequence that was found for it, and the seed
//! that, as `JAXFS_MODEL_SEED`, replays it.
#![allow(clippy::unwrap_used)]

pub(in crate::fs) mod acl;
mod compare;
pub(in crate::fs) mod fault;
pub(in crate::fs) mod lab;
mod op;
mod plain;
mod power;
mod publishing;
mod threads;
mod world;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

use jaxfs_sync::store::disk::simulated::Simulation;
use op::Op;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use world::World;

/// Operations between two comparisons of everything.
const EVERY: usize = 40;
/// The longest sequence.
const LONGEST: usize = 1_500;

/// A kind of test: a world, operations in it, and how many sequences of them.
#[derive(Clone, Copy)]
struct Kind {
    world: fn() -> World,
    ops: fn(u64) -> Vec<Op>,
    cases: u64,
}

const ORDINARY: Kind = Kind { world: World::new, ops: |seed| sequence(seed, LONGEST, op::op()), cases: 200 };
const POWER_CUTS: Kind = Kind {
    world: || World::on(Simulation::new(7)),
    ops: |seed| sequence(seed, LONGEST / 3, op::op_or_cut()),
    cases: 60,
};

fn run(kind: Kind, ops: &[Op]) {
    let world = Rc::new(RefCell::new((kind.world)()));
    for (number, op) in ops.iter().enumerate() {
        World::step(&world, op);
        let everything =
            matches!(op, Op::Restart | Op::Remount | Op::Collect { .. } | Op::Flush(op::Flush { fails: Some(_), .. }));
        if everything || number % EVERY == EVERY - 1 {
            world.borrow_mut().compare();
        }
    }
    for op in [Op::Flush(op::Flush::published()), Op::Restart] {
        world.borrow_mut().compare();
        World::step(&world, &op);
    }
    world.borrow_mut().compare();
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The sequence of a seed.
fn sequence(seed: u64, longest: usize, op: impl Strategy<Value = Op>) -> Vec<Op> {
    let config = Config { rng_seed: RngSeed::Fixed(seed), ..Config::default() };
    prop::collection::vec(op, 1..longest).new_tree(&mut TestRunner::new(config)).unwrap().current()
}

/// Why a sequence fails, if it does.
fn failure(kind: Kind, ops: &[Op]) -> Option<String> {
    let panic = std::panic::catch_unwind(|| run(kind, ops)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
}

/// Leaves out what a sequence fails without, by ever smaller parts.
fn shrink(kind: Kind, mut ops: Vec<Op>) -> Vec<Op> {
    let mut part = ops.len() / 2;
    while part > 0 {
        let (before, mut at) = (ops.len(), 0);
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..ops.len().min(at + part));
            if failure(kind, &fewer).is_some() {
                ops = fewer;
            } else {
                at += part;
            }
        }
        if ops.len() == before || part > 1 {
            part /= 2;
        }
    }
    ops
}

fn search(kind: Kind, cases: u64, first: u64) {
    let mut steps = 0;
    for seed in (0..cases).map(|case| first.wrapping_add(case)) {
        let ops = (kind.ops)(seed);
        if failure(kind, &ops).is_some() {
            std::panic::set_hook(Box::new(|_| {}));
            let ops = shrink(kind, ops);
            let why = failure(kind, &ops);
            drop(std::panic::take_hook());
            panic!("{}\n{ops:?}\nreplay it with JAXFS_MODEL_SEED={seed}", why.unwrap_or_default());
        }
        steps += ops.len();
    }
    eprintln!("{steps} operations in {cases} sequences from seed {first}");
}

fn hold(kind: Kind) {
    let replayed = number("JAXFS_MODEL_SEED");
    let cases = number("JAXFS_MODEL_CASES").unwrap_or(if replayed.is_some() { 1 } else { kind.cases });
    // The same each time, unless somebody looks for more.
    let clock = || UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let seed = replayed.unwrap_or_else(|| number("JAXFS_MODEL_CASES").map_or(1, |_| clock()));
    // Long sequences, unoptimised, need more than a test's two megabytes.
    let search = std::thread::Builder::new().stack_size(64 << 20).spawn(move || search(kind, cases, seed));
    if let Err(failed) = search.unwrap().join() {
        std::panic::resume_unwind(failed);
    }
}

#[test]
fn the_file_system_does_what_the_model_does() {
    hold(ORDINARY);
}

#[test]
fn after_a_power_cut_at_any_moment_what_was_made_safe_is_there_and_nothing_is_a_mixture() {
    hold(POWER_CUTS);
}
