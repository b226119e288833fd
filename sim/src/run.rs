//! One schedule from its beginning to its verdict, and many of them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cast::NodeId;
use crate::check::{self, Failure};
use crate::faults::Schedule;
use crate::queue::{Micros, SECOND};
use crate::sim::{Sim, WrongRule};

/// How long nodes have to agree once nothing goes wrong any more.
const REST: Micros = 1_200 * SECOND;
/// How often that is looked at.
const LOOK: Micros = 5 * SECOND;
/// How many things may happen in one schedule: ten times what happens in a long one.
const STEPS: u64 = 3_000_000;
/// How many manifests may be published before the last one has told what it knows.
const LATE: u64 = 30;

/// Which schedule to run, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Order {
    /// Its seed.
    pub seed: u64,
    /// How many nodes, if not as many as the seed says.
    pub nodes: Option<usize>,
    /// What to do wrong.
    pub wrong_rule: Option<WrongRule>,
    /// Whether to print all that happens.
    pub print: bool,
}

impl Order {
    /// The command that does the same again.
    pub fn replay(&self) -> String {
        let nodes = self.nodes.map(|nodes| format!(" --nodes {nodes}")).unwrap_or_default();
        let wrong = self.wrong_rule.map(|rule| format!(" --wrong-rule {}", rule.name())).unwrap_or_default();
        format!("cargo run -p jaxfs-sim --release -- run --seed {}{nodes}{wrong}", self.seed)
    }
}

/// What came of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// A hash of everything that happened, in its order.
    pub hash: String,
    /// How many things that were.
    pub steps: u64,
    /// How many manifests were made.
    pub manifests: usize,
    /// How long after the last fault all agreed.
    pub rested: Micros,
    /// How often each kind of thing happened.
    pub seen: BTreeMap<&'static str, u64>,
    /// What went wrong, if anything.
    pub failure: Option<Failure>,
}

/// Runs one schedule.
pub fn run(order: Order) -> Outcome {
    let schedule = Schedule::of(order.seed, order.nodes, order.wrong_rule);
    let Schedule { profile, faults, villains, length, .. } = &schedule;
    let (told, length) = (format!("{profile:?}: {faults:?}, {villains:?}"), *length);
    let mut sim = schedule.world();
    sim.trace.print = order.print;
    sim.say(0, || told);
    let mut rested = 0;
    let failure = live(&mut sim, length, &mut rested).err();
    let (hash, steps, manifests) = (sim.trace.hash(), sim.trace.steps(), sim.cast.made());
    Outcome { hash, steps, manifests, rested, seen: sim.meter.seen, failure }
}

fn live(sim: &mut Sim, length: Micros, rested: &mut Micros) -> Result<(), Failure> {
    sim.run_for(length)?;
    sim.calm_down();
    let calm = sim.now();
    come_to_rest(sim)?;
    *rested = sim.now() - calm;
    check::nothing_lost(sim)?;
    end_the_fork(sim)?;
    check::nothing_lost(sim)
}

/// Waits until all agree.
fn come_to_rest(sim: &mut Sim) -> Result<(), Failure> {
    let until = sim.now() + REST;
    loop {
        sim.run_for(LOOK)?;
        if sim.trace.steps() > STEPS {
            return Err(Failure { at: sim.now(), node: 0, what: "so much happens that it never ends".to_owned() });
        }
        match check::agree(sim) {
            Ok(()) => return Ok(()),
            Err(failure) if sim.now() >= until => return Err(failure),
            Err(_) => {}
        }
    }
}

/// Lets one writer go on until the finality depth alone must have ended every fork; and sees that it has.
fn end_the_fork(sim: &mut Sim) -> Result<(), Failure> {
    let Some(writer) = check::writer(sim) else { return Ok(()) };
    let chain = &sim.node(writer).chain;
    let Some(shown) = chain.shown().and_then(|shown| chain.record(&shown)) else { return Ok(()) };
    let behind = chain.height().0.saturating_sub(shown.height.0);
    let enough = behind + 2 * (chain.finality_depth() + LATE);
    if shown.epoch < chain.epoch() {
        // What would win is withheld, and only the owner can change that. The others go on, and agree on what.
        sim.meter.saw("epoch that nobody can show");
        for _ in 0..3 {
            sim.publish(writer);
            sim.run_for(2 * SECOND)?;
        }
        return come_to_rest(sim);
    }
    for _ in 0..enough {
        sim.publish(writer);
        sim.run_for(2 * SECOND)?;
        if forked(sim).is_none() {
            // Who comes to agree may yet learn of another tip.
            come_to_rest(sim)?;
        }
        if forked(sim).is_none() {
            return Ok(());
        }
    }
    // Somebody may hear of all that only when the two halves of the gossip find each other again.
    come_to_rest(sim)?;
    if forked(sim).is_none() {
        return Ok(());
    }
    let (node, tips) = forked(sim).unwrap_or_default();
    Err(Failure { at: sim.now(), node, what: format!("it still has {tips} tips") })
}

/// An honest node with more than one tip, and how many it has.
fn forked(sim: &Sim) -> Option<(NodeId, usize)> {
    sim.honest().find(|node| node.chain.is_forked()).map(|node| (node.id, node.chain.tips().count()))
}

/// What came of many schedules.
#[derive(Clone, Debug, Default)]
pub struct Soaked {
    /// How many were run.
    pub schedules: u64,
    /// How many things happened in them.
    pub steps: u64,
    /// The longest that it took to agree after the last fault.
    pub rested: Micros,
    /// How often each kind of thing happened.
    pub seen: BTreeMap<&'static str, u64>,
    /// The failure of the least seed that failed.
    pub failed: Option<(Order, Failure)>,
}

/// Runs the schedules of `count` seeds from `first` on, on all cores, until one fails or the time is over.
pub fn soak(first: u64, count: u64, wrong_rule: Option<WrongRule>, time: Option<Duration>) -> Soaked {
    let (next, steps, done) = (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0));
    let rested = AtomicU64::new(0);
    let failed = Mutex::new(None::<(Order, Failure)>);
    let seen = Mutex::new(BTreeMap::new());
    let started = Instant::now();
    let work = || {
        while time.is_none_or(|time| started.elapsed() < time) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let over = failed.lock().is_ok_and(|failed| failed.is_some());
            if seed - first >= count || over {
                return;
            }
            let order = Order { seed, wrong_rule, ..Order::default() };
            let outcome = run(order);
            steps.fetch_add(outcome.steps, Ordering::Relaxed);
            done.fetch_add(1, Ordering::Relaxed);
            rested.fetch_max(outcome.rested, Ordering::Relaxed);
            if let Ok(mut seen) = seen.lock() {
                outcome.seen.into_iter().for_each(|(what, often)| *seen.entry(what).or_default() += often);
            }
            if let (Some(failure), Ok(mut failed)) = (outcome.failure, failed.lock())
                && failed.as_ref().is_none_or(|(before, _)| before.seed > seed)
            {
                *failed = Some((order, failure));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    Soaked {
        schedules: done.into_inner(),
        steps: steps.into_inner(),
        rested: rested.into_inner(),
        seen: seen.into_inner().unwrap_or_default(),
        failed: failed.into_inner().unwrap_or_default(),
    }
}
