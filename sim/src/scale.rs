//! How the protocol does with very many nodes: hops, messages, time to agree, and how often work is orphaned.

use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

use iroh_gossip::proto::Config;
use jaxfs_sync::bucket::Role;

use crate::cast::NodeId;
use crate::dice::Dice;
use crate::links::{Cut, Weather};
use crate::meter::quantile;
use crate::queue::{MS, Micros, SECOND};
use crate::sim::{Event, Setup, Sim};

/// How many of the nodes write. A member list has room for 4,096 members; the other nodes read and pass on.
const WRITERS: usize = 64;
/// How long the nodes have to find each other.
const GATHER: Micros = 60 * SECOND;
/// Agreement is given up after this time.
const PATIENCE: Micros = 1_800 * SECOND;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Scale {
    /// All chance comes from here.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How many manifests are published in all.
    pub manifests: u64,
    /// Into how many parts the network falls for the middle third of the time; 1 for none.
    pub partitions: u8,
    /// The probability that a message is lost.
    pub loss: f64,
    /// Manifests published in a second, by all nodes together.
    pub rate: f64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What was simulated.
    pub of: Scale,
    /// Whether all nodes had one head and one set of tips in the end.
    pub agreed: bool,
    /// Manifests that were published.
    pub published: usize,
    /// How many of them are neither the head nor its ancestors.
    pub orphans: usize,
    /// Hops of an announcement: the median, the 99th percentile, the most.
    pub hops: [u64; 3],
    /// Messages that a node sent: on average, and the most.
    pub messages: (u64, u64),
    /// Bytes that a node sent: on average, and the most.
    pub bytes: (u64, u64),
    /// Milliseconds from publication to admission at each other node, sorted.
    pub deliveries: Vec<u32>,
    /// From the last publication, or the end of the partition if that was later, until the last node had its last head.
    pub convergence: Duration,
    /// Virtual time.
    pub lasted: Duration,
    /// Real time.
    pub took: Duration,
    /// The most memory that this process ever had, in bytes; 0 if the system does not say.
    pub peak: u64,
}

/// Runs one simulation.
pub fn measure(of: Scale) -> Measured {
    let started = Instant::now();
    let mut sim = Sim::new(setup(&of));
    sim.meter.detailed = true;
    let spread = (of.manifests as f64 / of.rate * SECOND as f64) as Micros;
    plan(&mut sim, &of, spread);
    let calm_at = GATHER + if of.partitions > 1 { spread * 2 / 3 } else { 0 };
    // Nothing is checked at each step here, so that nothing can fail.
    drop(sim.run_for(GATHER + spread));
    let mut agreed = false;
    while !agreed && sim.now() < GATHER + spread + PATIENCE {
        drop(sim.run_for(5 * SECOND));
        agreed = all_agree(&sim);
    }
    let settled = sim.meter.published.values().copied().max().unwrap_or(0).max(calm_at);
    let node = &sim.nodes[0];
    let orphans = node.chain.orphans().count();
    let mut deliveries = std::mem::take(&mut sim.meter.deliveries);
    deliveries.retain(|took| *took > 0);
    deliveries.sort_unstable();
    let sent: Vec<_> = sim.meter.by_node.values().copied().collect();
    let mean = |values: &[u64]| values.iter().sum::<u64>() / (of.nodes as u64).max(1);
    let (messages, bytes): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
    Measured {
        agreed,
        published: node.chain.len() - 1,
        orphans,
        hops: hops(&sim.meter.hops),
        messages: (mean(&messages), messages.iter().copied().max().unwrap_or(0)),
        bytes: (mean(&bytes), bytes.iter().copied().max().unwrap_or(0)),
        deliveries,
        convergence: Duration::from_micros(sim.meter.last_head.saturating_sub(settled)),
        lasted: Duration::from_micros(sim.now()),
        took: started.elapsed(),
        peak: peak_memory(),
        of,
    }
}

fn setup(of: &Scale) -> Setup {
    let mut gossip = Config::default();
    // Only to have fewer events: the caches are as old as they are.
    gossip.broadcast.cache_evict_interval = Duration::from_secs(15);
    Setup {
        seed: of.seed,
        nodes: of.nodes,
        roles: vec![Role::Writer; WRITERS.min(of.nodes.saturating_sub(1))],
        finality_depth: 10,
        weather: Weather { loss: of.loss, delay: (5 * MS, 150 * MS), jitter: 20 * MS },
        skew: 1_000,
        holding: 0.0,
        content: (20 * MS, 400 * MS),
        rejoin: 60 * SECOND,
        start_within: GATHER / 2,
        gossip,
        wrong_rule: None,
        checked: false,
    }
}

fn plan(sim: &mut Sim, of: &Scale, spread: Micros) {
    let mut dice = Dice::new(of.seed, "scale");
    let writers = (WRITERS + 1).min(of.nodes) as u64;
    for number in 0..of.manifests {
        let at = GATHER + spread * number / of.manifests + dice.below(spread / of.manifests + 1);
        sim.queue.after(at, Event::Publish(dice.below(writers) as NodeId));
    }
    if of.partitions > 1 {
        let groups = (0..of.nodes).map(|_| dice.below(u64::from(of.partitions)) as u8).collect();
        let cut = Box::new(Cut { groups, one_way: false });
        sim.queue.after(GATHER + spread / 3, Event::Cut(0, cut));
        sim.queue.after(GATHER + spread * 2 / 3, Event::Heal(0));
    }
}

fn all_agree(sim: &Sim) -> bool {
    let first = &sim.nodes[0].chain;
    sim.nodes.iter().all(|node| node.up && node.chain.head() == first.head() && node.chain.tips().eq(first.tips()))
}

/// The median, the 99th percentile and the most, from how often each number came.
fn hops(counts: &[u64]) -> [u64; 3] {
    let all: u64 = counts.iter().sum();
    let at = |thousandths: u64| {
        let mut below = 0;
        let reaches = |count: &u64| {
            below += count;
            below * 1000 >= all * thousandths
        };
        // What comes straight from its author has come over one link, and counts as 0.
        counts.iter().position(reaches).unwrap_or(0) as u64 + 1
    };
    [at(500), at(990), counts.len() as u64]
}

fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

impl Measured {
    /// How much of the published work was orphaned.
    pub fn orphan_rate(&self) -> f64 {
        self.orphans as f64 / self.published.max(1) as f64
    }

    /// Milliseconds from publication to admission, at so many thousandths of all nodes.
    pub fn delivery(&self, thousandths: usize) -> u32 {
        quantile(&self.deliveries, thousandths)
    }
}

/// The head of a table of measurements, as Markdown.
pub const TABLE: &str = "\
| nodes | manifests | rate | parts | loss | hops p50/p99/max | messages per node, max | KB per node, max | delivery p50/p99/max | agreed after | orphaned | virtual | wall | peak RSS so far |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// A measurement as a line of the table.
pub fn row(of: &Measured) -> String {
    let mut line = String::new();
    let [median, most_of, most] = of.hops;
    let agreed = if of.agreed { format!("{:.1} s", of.convergence.as_secs_f64()) } else { "never".to_owned() };
    // Writing to a string does not fail.
    let _ = write!(
        line,
        "| {} | {} | {}/s | {} | {:.0}% | {median}/{most_of}/{most} | {}, {} | {}, {} | {}/{}/{} ms | {agreed} | {:.1}% | {:.0} s | {:.1} s | {} MiB |",
        of.of.nodes,
        of.published,
        of.of.rate,
        of.of.partitions,
        of.of.loss * 100.0,
        of.messages.0,
        of.messages.1,
        of.bytes.0 / 1000,
        of.bytes.1 / 1000,
        of.delivery(500),
        of.delivery(990),
        of.delivery(1000),
        of.orphan_rate() * 100.0,
        of.lasted.as_secs_f64(),
        of.took.as_secs_f64(),
        of.peak >> 20,
    );
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parts_of_a_hundred_nodes_agree_after_they_meet_again_and_the_same_seed_measures_the_same() {
        let of = Scale { seed: 1, nodes: 100, manifests: 30, partitions: 3, loss: 0.05, rate: 1.0 };
        let (once, again) = (measure(of.clone()), measure(of));
        assert!(once.agreed, "{}", row(&once));
        assert_eq!((once.deliveries, once.hops, once.bytes), (again.deliveries, again.hops, again.bytes));
        assert!(once.published >= 25 && once.orphans < once.published, "{} of {}", once.orphans, once.published);
    }

    #[test]
    fn hops_are_counted_from_the_author() {
        assert_eq!(hops(&[0, 98, 1, 1]), [2, 3, 4]);
        assert_eq!(hops(&[5]), [1, 1, 1]);
    }

    #[test]
    fn a_table_has_as_many_columns_in_its_head_as_in_a_line() {
        let of = Scale { seed: 1, nodes: 3, manifests: 2, partitions: 1, loss: 0.0, rate: 1.0 };
        let line = row(&measure(of));
        assert!(TABLE.lines().all(|head| head.matches('|').count() == line.matches('|').count()), "{line}");
    }
}
