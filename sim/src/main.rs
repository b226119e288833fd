//! `jaxfs-sim`: runs schedules of faults against the chain, and measures it.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use jaxfs_sim::run::{self, Order};
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
    };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(order: Order) -> bool {
    let outcome = run::run(order);
    tell!("seed {}: {} steps, {} manifests, trace {}", order.seed, outcome.steps, outcome.manifests, outcome.hash);
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
    for (what, often) in &soaked.seen {
        tell!("{often:>12} {what}");
    }
    match &soaked.failed {
        None => tell!("all well"),
        Some((order, failure)) => tell!("seed {} failed: {failure}\n{}", order.seed, order.replay()),
    }
    soaked.failed.is_none()
}
