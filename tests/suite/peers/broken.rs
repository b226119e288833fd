//! Nodes that are killed while they send and receive.

use std::time::Duration;

use super::net::{AGAIN, Net, wait_equal};
use crate::loads::{is_sound, number};
use crate::world::{SOON, wait_for};

crate::claims! {
    Net: [a_node_that_is_killed_while_it_sends_or_receives_goes_on_where_it_was],
}

/// Megabytes that are on their way when somebody is killed: `JAXFS_PEER_MEGABYTES`.
const MEGABYTES: u64 = 25;

fn a_node_that_is_killed_while_it_sends_or_receives_goes_on_where_it_was() {
    let net = Net::new();
    let [a, b] = net.devices();
    let megabytes = number("JAXFS_PEER_MEGABYTES", MEGABYTES);
    for (round, killed) in [("receives", &b), ("sends", &a)] {
        // So that there is time to be killed in.
        net.spoil(&a, Duration::from_millis(20), 0);
        let received = || b.status()["swarm"]["received_bytes"].as_u64().unwrap_or(0);
        let before = received();
        a.sh(&format!(
            "mkdir {round}; cd {round}
             for file in $(seq {megabytes}); do head -c 900000 /dev/urandom > $file; done
             for file in $(seq 200); do echo $RANDOM > small$file; done"
        ));
        wait_for("much is on its way", SOON, || received() > before + (megabytes << 20) / 10);
        killed.kill_node();
        net.heal();
        killed.mount();
        wait_equal(AGAIN * 2, &[&a, &b]);
    }
    a.unmount();
    b.unmount();
    is_sound(&a);
    is_sound(&b);
}
