//! Loads that note what they were promised, and the check that it was kept, whatever happened in between.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::world::{SOON, World, run, wait_for};

const SCRIPT: &str = include_str!("scripts/load.py");
/// Each with a folder of its own, all at once.
const LOADS: [&str; 8] = ["append", "append", "save", "careless", "blocks", "wal", "delete", "trees"];

/// Loads that end with the mount; or else with this.
pub(crate) struct Loads(Vec<Child>);

impl Drop for Loads {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            let _ = child.wait();
        }
    }
}

/// The arguments of a load: its folder in the mount, and where it notes what was promised.
fn arguments(world: &World, what: &str, load: usize) -> [String; 6] {
    let (root, acks) = (world.at(format!("{load}")), world.outside(&format!("acks-{load}")));
    let kind = LOADS[load];
    ["-c", SCRIPT, what, kind, &root.to_string_lossy(), &acks.to_string_lossy()].map(str::to_owned)
}

impl Loads {
    /// Starts all of them.
    #[track_caller]
    pub(crate) fn start(world: &World) -> Self {
        let start = |load| {
            let mut command = world.command("python3");
            let said = File::create(world.outside(&format!("said-{load}"))).unwrap();
            command.args(arguments(world, "run", load)).stdin(Stdio::null()).stdout(said).process_group(0);
            command.spawn().unwrap()
        };
        let loads = Self((0..LOADS.len()).map(start).collect());
        let begun = world.outside("acks-0");
        wait_for("the loads run", SOON, || begun.exists());
        loads
    }

    /// Waits until each has heard that it can not go on, and gives what they heard.
    #[track_caller]
    pub(crate) fn wait(mut self, world: &World) -> Vec<String> {
        wait_for("the loads hear of it", SOON, || self.0.iter_mut().all(|load| load.try_wait().unwrap().is_some()));
        let said = |load| fs::read_to_string(world.outside(&format!("said-{load}"))).unwrap();
        (0..LOADS.len()).map(said).collect()
    }
}

/// Compares what is there with what was promised, and gives how much that was.
#[track_caller]
pub(crate) fn check(world: &World) -> u64 {
    let check = |load| {
        let said = run(world.command("python3").args(arguments(world, "check", load)));
        assert!(said.status.success(), "{}: {}{}", LOADS[load], said.out, said.err);
        said.out.trim().parse::<u64>().unwrap()
    };
    (0..LOADS.len()).map(check).sum()
}

/// Everything stored is sound.
#[track_caller]
pub(crate) fn is_sound(world: &World) {
    let said = world.jaxfs(&["verify"]);
    assert!(said.status.success() && said.out.contains("is sound"), "{}{}", said.out, said.err);
}

/// A number from the environment.
pub(crate) fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A seed from the environment, or the clock's, which is printed so that the run can be repeated.
pub(crate) fn seed(variable: &str) -> u64 {
    let clock = UNIX_EPOCH.elapsed().map_or(0, |since: Duration| since.as_millis() as u64);
    let seed = number(variable, clock);
    println!("{variable}={seed}");
    seed
}

/// Xorshift, good enough to meet every moment of a version's life.
pub(crate) struct Random(u64);

impl Random {
    /// What follows from a seed and the number of a round.
    pub(crate) fn new(seed: u64, round: u64) -> Self {
        let mut random = Self(seed.wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1);
        // The first numbers still resemble the seed.
        for _ in 0..4 {
            random.next();
        }
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end.max(1)
    }
}
