//! The mount against a directory of the machine's own disk.
//!
//! Random sequences of system calls are made on both, in the same order, and every outcome is compared; after some calls,
//! and at the end, everything that `stat`, `readdir`, `read` and `getxattr` show is. What is measured against is ext4 or
//! tmpfs. In half of the sequences ours is written back all the time meanwhile.
//!
//! `JAXFS_TWIN_CASES` says how many sequences, `JAXFS_TWIN_DIR` in which directory the plain side is. A failure prints the
//! shortest sequence that was found for it, and the seed that, as `JAXFS_TWIN_SEED`, replays it.
//!
//! What the two may differ in, and is not compared:
//! - Sizes and offsets of directories, and where holes begin: they are for each file system to say. What ours says is
//!   checked. Seeking in a directory that was removed, and reading where a directory stands, follow from such offsets.
//! - Times that were measured. They have to move when the others do. tmpfs, and ext4 before Linux 6.13, may give two changes
//!   one time; then ours may move alone. `atime` is looked at when it was set, since reading stores nothing here.
//! - What was written through a mapping, as far as FUSE keeps it to itself until it is written back: the file's times and
//!   holes, until the mapping is gone. Before times are set it is written back, since it would come after them. Bytes behind
//!   the end of the file are not written.
//! - Bytes in FIFOs, which never come to a file system; ext4 moves times for them.
//! - The set-group-id bit of a file that its group can not execute, which FUSE leaves where others write. It is not drawn.
//! - A `chown` that names neither a user nor a group. FUSE does not say more than that bits have to go, nor who may not ask.
//! - Accesses past the page cache (`O_DIRECT`) are aligned, as the disk needs it.
//! - An extended attribute that is set to what it is: a change on tmpfs, none on ext4.
//! - What the plain side can not do: large extended attributes and times beyond 2446 on ext4, ranges of zeros on tmpfs.
//! - What FUSE does not pass on: inserting and collapsing ranges. Ours has to refuse it.

mod attributes;
mod content;
mod draw;
mod ground;
mod listing;
mod names;
mod op;
mod outcome;
mod pair;
mod place;
mod raw;
mod regressions;
mod side;
mod tree;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use ground::Ground;
use op::Step;
use pair::Pair;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use regressions::*;
use rustix::process::{Signal, kill_process};
use tree::Depth;

crate::claims! {
    Root: [
        any_sequence_of_calls_ends_as_on_a_disk,
        an_attribute_needs_more_than_the_name_of_its_space,
        privileged_attributes_are_listed_for_root_only,
        setting_space_aside_changes_the_times,
    ],
}

/// Sequences, unless the environment says otherwise.
const CASES: u64 = 60;
/// The longest sequence.
const LONGEST: usize = 500;
/// Calls that begin a sequence.
const FIRST: usize = 20;
/// Calls between two comparisons of everything.
const EVERYTHING: usize = 40;
/// The pause between two write-backs of a sequence that asks for them.
const WRITE_BACK: Duration = Duration::from_millis(1);
/// How long a call may take, with what it waits for.
const PATIENCE: Duration = Duration::from_secs(150);
/// How often a sequence that failed is made again, if it does not fail at once: write-back comes when it will.
const ATTEMPTS: usize = 5;

/// A sequence of calls.
#[derive(Clone)]
struct Sequence {
    /// Calls between two comparisons of what `stat` shows.
    every: usize,
    /// Whether it is written back all the time meanwhile.
    busy: bool,
    steps: Vec<Step>,
}

/// Where a sequence went wrong, and why.
struct Failure {
    /// The number of the call, or how many there are.
    at: usize,
    why: String,
}

/// Sequences on one mount, each in a directory of its own.
struct Search {
    ground: Ground,
    cases: AtomicU64,
    calls: AtomicU64,
    /// Everything is to be written back all the time.
    busy: AtomicBool,
    /// A call did not return.
    hung: AtomicBool,
}

impl Search {
    fn new() -> Self {
        let (cases, calls, busy, hung) = Default::default();
        Self { ground: Ground::new(), cases, calls, busy, hung }
    }

    /// Makes the calls. Settles what they are about.
    fn run(&self, sequence: &mut Sequence) -> Result<(), Failure> {
        self.ground.revive();
        let case = self.cases.fetch_add(1, Ordering::Relaxed);
        let mut pair = Pair::new(&self.ground, format!("case-{case}"));
        self.busy.store(sequence.busy, Ordering::Relaxed);
        let every = sequence.every;
        for (at, step) in sequence.steps.iter_mut().enumerate() {
            let failure = |why| Failure { at, why };
            self.calls.fetch_add(1, Ordering::Relaxed);
            step_or_panic(&mut pair, step).map_err(failure)?;
            if (at + 1) % EVERYTHING == 0 {
                pair.compare(Depth::All).map_err(failure)?;
            } else if (at + 1) % every == 0 {
                pair.compare(Depth::Names).map_err(failure)?;
            }
        }
        let failure = |why| Failure { at: sequence.steps.len(), why };
        pair.finish_listings().map_err(failure)?;
        pair.compare(Depth::All).map_err(failure)?;
        pair.remove().map_err(failure)
    }

    fn fails(&self, sequence: &Sequence) -> Option<Failure> {
        self.run(&mut sequence.clone()).err()
    }

    /// Leaves out what a sequence fails without, by ever smaller parts.
    fn shrink(&self, mut sequence: Sequence) -> Sequence {
        let mut part = sequence.steps.len().div_ceil(2);
        while part > 0 {
            let (before, mut at) = (sequence.steps.len(), 0);
            while at < sequence.steps.len() {
                let mut fewer = sequence.clone();
                fewer.steps.drain(at..sequence.steps.len().min(at + part));
                match self.fails(&fewer) {
                    Some(failure) => {
                        fewer.steps.truncate(failure.at + 1);
                        sequence = fewer;
                    }
                    None => at += part,
                }
            }
            if sequence.steps.len() == before || part > 1 {
                part /= 2;
            }
        }
        sequence
    }

    /// The shortest sequence found that fails, and why it does.
    fn explain(&self, mut sequence: Sequence, failure: Failure) -> String {
        sequence.steps.truncate(failure.at + 1);
        if self.hung.load(Ordering::Relaxed) {
            return format!("{}{}\n(the last of these calls did not return)", show(&sequence.steps), failure.why);
        }
        let alone = Sequence { busy: false, ..sequence.clone() };
        let seen_at_once = Sequence { every: 1, ..alone.clone() };
        let again = [seen_at_once, alone, sequence.clone()].into_iter().find_map(|mut again| {
            let failure = (0..ATTEMPTS).find_map(|_| self.fails(&again))?;
            again.steps.truncate(failure.at + 1);
            Some(again)
        });
        let Some(again) = again else {
            return format!(
                "{}{}\n(once, every {}, and not again)",
                show(&sequence.steps),
                failure.why,
                sequence.every
            );
        };
        let shortest = self.shrink(again);
        let why = (0..ATTEMPTS).find_map(|_| self.fails(&shortest)).map_or(failure.why, |failure| failure.why);
        format!("{}{why}", show(&shortest.steps))
    }
}

impl Search {
    /// Ends the node when a call does not return: then it fails.
    fn watch(&self, ended: &Receiver<()>) {
        let mut before = None;
        while ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let now = Some(self.calls.load(Ordering::Relaxed));
            if now == before {
                self.hung.store(true, Ordering::Relaxed);
                self.ground.world.node().map(|node| kill_process(node, Signal::KILL));
            }
            before = now;
        }
    }
}

impl Search {
    /// Writes back what the calls change, where a sequence asks for it.
    fn write_back(&self, ended: &Receiver<()>) {
        while ended.recv_timeout(WRITE_BACK) == Err(RecvTimeoutError::Timeout) {
            if self.busy.load(Ordering::Relaxed) {
                self.ground.write_back();
            }
        }
    }
}

/// Makes a call. What the program does wrong, it says by a panic.
fn step_or_panic(pair: &mut Pair<'_>, step: &mut Step) -> Result<(), String> {
    let step = AssertUnwindSafe(|| pair.step(step));
    std::panic::catch_unwind(step).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
    })
}

fn show(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("{step:?}\n")).collect()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The sequence of a seed.
fn sequence(seed: u64) -> Sequence {
    let config = Config { rng_seed: RngSeed::Fixed(seed), ..Config::default() };
    let every = prop::sample::select(vec![1, 1, 7, EVERYTHING]);
    let first = prop::collection::vec(draw::first_step(), FIRST);
    let drawn = (every, any::<bool>(), first, prop::collection::vec(draw::step(), 1..LONGEST));
    let (every, busy, first, then) = drawn.new_tree(&mut TestRunner::new(config)).unwrap().current();
    Sequence { every, busy, steps: [first, then].concat() }
}

fn search(search: &Search, cases: u64, first: u64) {
    let (mut calls, started) = (0, Instant::now());
    for seed in (0..cases).map(|case| first.wrapping_add(case)) {
        let mut sequence = sequence(seed);
        if let Err(failure) = search.run(&mut sequence) {
            let text = search.explain(sequence, failure);
            panic!("{text}\nreplay it with JAXFS_TWIN_SEED={seed}");
        }
        calls += sequence.steps.len();
    }
    let (took, beside) = (started.elapsed(), search.ground.describe());
    println!("{calls} calls in {cases} sequences from seed {first}, beside {beside}, in {took:.1?}");
}

fn any_sequence_of_calls_ends_as_on_a_disk() {
    let replayed = number("JAXFS_TWIN_SEED");
    let cases = number("JAXFS_TWIN_CASES").unwrap_or(if replayed.is_some() { 1 } else { CASES });
    // The same each time, unless somebody looks for more.
    let clock = || UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let seed = replayed.unwrap_or_else(|| number("JAXFS_TWIN_CASES").map_or(1, |_| clock()));
    with_own_root(|all| search(all, cases, seed));
}

/// Makes a few calls and compares.
fn same<const N: usize>(steps: [Step; N]) {
    with_own_root(|search| {
        let mut sequence = Sequence { every: 1, busy: false, steps: steps.to_vec() };
        if let Err(Failure { at, why }) = search.run(&mut sequence) {
            panic!("{why}, after {:?}", &sequence.steps[..N.min(at + 1)]);
        }
    });
}

/// Runs something on a thread that has a root of its own, and, unoptimised, more stack than a test has.
fn with_own_root(run: impl FnOnce(&Search) + Send) {
    let search = Search::new();
    let outcome = std::thread::scope(|scope| {
        let [(running, ended), (running_too, ended_too)] = [(); 2].map(|()| mpsc::channel());
        scope.spawn(|| search.write_back(&{ ended_too }));
        let thread = std::thread::Builder::new().stack_size(64 << 20).spawn_scoped(scope, || {
            let _running = (running, running_too);
            raw::own_root().unwrap();
            run(&search);
        });
        search.watch(&ended);
        thread.unwrap().join()
    });
    if let Err(failed) = outcome {
        std::panic::resume_unwind(failed);
    }
}
