//! `jaxfs-sim`: runs schedules of faults against the chain, and measures it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use jaxfs_sim::plot;
use jaxfs_sim::queue::SECOND;
use jaxfs_sim::run::{self, Order, Outcome};
use jaxfs_sim::scale::{self, Scale};
use jaxfs_sim::sim::WrongRule;

/// Prints a line, if anybody still reads.
macro_rules! tell {
    ($($what:tt)*) => { drop(writeln!(io::stdout(), $($what)*)) };
}

/// Many nodes of one bucket in virtual time.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one schedule.
    Run {
        /// Its seed.
        #[arg(long)]
        seed: u64,
        /// With so many nodes instead of as many as the seed says.
        #[arg(long)]
        nodes: Option<usize>,
        /// Prints all that happens.
        #[arg(long)]
        trace: bool,
        /// Does something wrong, to see that it is noticed: `parent` or `ancestor`.
        #[arg(long, value_parser = wrong_rule)]
        wrong_rule: Option<WrongRule>,
    },
    /// Runs many schedules on all cores, and stops at the first that fails.
    Soak {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        schedules: u64,
        /// The first one's seed; the others follow.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Ends after so many seconds.
        #[arg(long)]
        seconds: Option<u64>,
        /// Does something wrong, to see that it is noticed: `parent` or `ancestor`.
        #[arg(long, value_parser = wrong_rule)]
        wrong_rule: Option<WrongRule>,
    },
    /// Measures very many nodes, and prints a table.
    Scale {
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        nodes: usize,
        /// How many manifests are published in all.
        #[arg(long, default_value_t = 100)]
        manifests: u64,
        /// Into how many parts the network falls for the middle third of the time.
        #[arg(long, default_value_t = 3)]
        partitions: u8,
        /// The probability that a message is lost.
        #[arg(long, default_value_t = 0.05)]
        loss: f64,
        /// Manifests published in a second, by all nodes together.
        #[arg(long, default_value_t = 0.5)]
        rate: f64,
        /// Other rates to measure, without partitions.
        #[arg(long, value_delimiter = ',', default_value = "0.1,0.2,0.5,1,2,5")]
        rates: Vec<f64>,
        /// With so many nodes for these.
        #[arg(long, default_value_t = 1_000)]
        rate_nodes: usize,
        /// All chance comes from here.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Where to write plots.
        #[arg(long)]
        svg: Option<PathBuf>,
    },
}

fn wrong_rule(name: &str) -> Result<WrongRule, String> {
    WrongRule::of(name).ok_or_else(|| "one of: parent, ancestor".to_owned())
}

fn main() -> ExitCode {
    let well = match Options::parse().command {
        Command::Run { seed, nodes, trace, wrong_rule } => one(Order { seed, nodes, wrong_rule, print: trace }),
        Command::Soak { schedules, from, seconds, wrong_rule } => {
            soak(schedules, from, seconds.map(Duration::from_secs), wrong_rule)
        }
        Command::Scale { nodes, manifests, partitions, loss, rate, rates, rate_nodes, seed, svg } => {
            let of = Scale { seed, nodes, manifests, partitions, loss, rate };
            scale(of, &rates, rate_nodes, svg.as_deref())
        }
    };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(order: Order) -> bool {
    let outcome = run::run(order);
    let Outcome { steps, manifests, hash, .. } = &outcome;
    let rested = outcome.rested / SECOND;
    tell!("seed {}: {steps} steps, {manifests} manifests, at rest after {rested} s, trace {hash}", order.seed);
    match &outcome.failure {
        None => tell!("all well"),
        Some(failure) => tell!("failed: {failure}\n{}", order.replay()),
    }
    outcome.failure.is_none()
}

fn soak(schedules: u64, from: u64, time: Option<Duration>, wrong_rule: Option<WrongRule>) -> bool {
    let started = Instant::now();
    let soaked = run::soak(from, schedules, wrong_rule, time);
    let seconds = started.elapsed().as_secs_f64();
    tell!(
        "{} schedules and {} steps in {seconds:.1} s: {:.1} schedules/s",
        soaked.schedules,
        soaked.steps,
        soaked.schedules as f64 / seconds
    );
    tell!("all agreed at most {} s after the last fault", soaked.rested / SECOND);
    for (what, often) in &soaked.seen {
        tell!("{often:>12} {what}");
    }
    match &soaked.failed {
        None => tell!("all well"),
        Some((order, failure)) => tell!("seed {} failed: {failure}\n{}", order.seed, order.replay()),
    }
    soaked.failed.is_none()
}

fn scale(of: Scale, rates: &[f64], rate_nodes: usize, svg: Option<&Path>) -> bool {
    tell!("{}", scale::TABLE.trim_end());
    let first = scale::measure(of.clone());
    tell!("{}", scale::row(&first));
    let mut others = Vec::new();
    for rate in rates {
        let of = Scale { rate: *rate, partitions: 1, nodes: rate_nodes, ..of.clone() };
        others.push(scale::measure(of));
        tell!("{}", others.last().map(scale::row).unwrap_or_default());
    }
    if let Some(path) = svg
        && let Err(error) = fs::write(path, plot::draw(&others, &first))
    {
        tell!("{}: {error}", path.display());
        return false;
    }
    first.agreed
}
