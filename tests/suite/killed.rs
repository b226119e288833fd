//! The node is killed under load, again and again, and what it had promised is there.
//!
//! `JAXFS_KILL_ROUNDS` says how often, `JAXFS_KILL_SEED` when: after how many milliseconds of each round.

use std::process::{Child, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::process::CommandExt;

use crate::world::{SOON, World, run, wait_for};

crate::claims! {
    MountAlone: [what_was_promised_survives_killing_the_node_at_any_moment],
}

const SCRIPT: &str = include_str!("scripts/load.py");
/// Each with a folder of its own, all at once.
const LOADS: [&str; 8] = ["append", "append", "save", "careless", "blocks", "wal", "delete", "trees"];

/// Loads that end with the mount; or else with this.
struct Loads(Vec<Child>);

impl Drop for Loads {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            let _ = child.wait();
        }
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The arguments of a load: its folder in the mount, and where it notes what was promised.
fn arguments(world: &World, what: &str, load: usize) -> [String; 6] {
    let (root, acks) = (world.at(format!("{load}")), world.outside(&format!("acks-{load}")));
    let kind = LOADS[load];
    ["-c", SCRIPT, what, kind, &root.to_string_lossy(), &acks.to_string_lossy()].map(str::to_owned)
}

fn start(world: &World) -> Loads {
    let start = |load| {
        let mut command = world.command("python3");
        command.args(arguments(world, "run", load)).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        command.spawn().unwrap()
    };
    Loads((0..LOADS.len()).map(start).collect())
}

fn check(world: &World) -> u64 {
    let check = |load| {
        let said = run(world.command("python3").args(arguments(world, "check", load)));
        assert!(said.status.success(), "{}: {}{}", LOADS[load], said.out, said.err);
        said.out.trim().parse::<u64>().unwrap()
    };
    (0..LOADS.len()).map(check).sum()
}

fn what_was_promised_survives_killing_the_node_at_any_moment() {
    let rounds = number("JAXFS_KILL_ROUNDS", 40);
    let clock = UNIX_EPOCH.elapsed().map_or(0, |since: Duration| since.as_millis() as u64);
    let seed = number("JAXFS_KILL_SEED", clock);
    println!("JAXFS_KILL_SEED={seed}");
    let world = World::mounted();
    let mut promised = 0;
    for round in 0..rounds {
        let mut loads = start(&world);
        // Xorshift, good enough to meet every moment of a version's life.
        let mut random = seed.wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let begun = world.outside("acks-0");
        wait_for("the loads run", SOON, || begun.exists());
        std::thread::sleep(Duration::from_millis(100 + random % 900));
        world.kill_node();
        wait_for("the loads hear of it", SOON, || loads.0.iter_mut().all(|load| load.try_wait().unwrap().is_some()));
        world.mount();
        promised = check(&world);
        let said = world.jaxfs(&["verify"]).ok();
        assert!(said.contains("is sound"), "round {round}: {said}");
    }
    println!("{promised} promises kept over {rounds} killed nodes");
}
