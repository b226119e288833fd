//! The node is killed under load, again and again, and what it had promised is there.
//!
//! `JAXFS_KILL_ROUNDS` says how often, `JAXFS_KILL_SEED` when: after how many milliseconds of each round.

use std::time::Duration;

use crate::loads::{Loads, Random, check, is_sound, number, seed};
use crate::world::World;

crate::claims! {
    MountAlone: [what_was_promised_survives_killing_the_node_at_any_moment],
}

fn what_was_promised_survives_killing_the_node_at_any_moment() {
    let rounds = number("JAXFS_KILL_ROUNDS", 40);
    let seed = seed("JAXFS_KILL_SEED");
    let world = World::mounted();
    let mut promised = 0;
    for round in 0..rounds {
        let loads = Loads::start(&world);
        std::thread::sleep(Duration::from_millis(100 + Random::new(seed, round).below(900)));
        world.kill_node();
        loads.wait(&world);
        world.mount();
        promised = check(&world);
        is_sound(&world);
    }
    println!("{promised} promises kept over {rounds} killed nodes");
}
