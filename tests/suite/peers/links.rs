//! Networks that lose, delay and change, and devices that come and go: nobody has to do anything about it.

use std::fs;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::net::{AGAIN, Net, meet, wait_equal};
use crate::world::{SOON, World, wait_for};

crate::claims! {
    Net: [
        an_archive_arrives_whole_over_a_bad_line,
        a_line_that_carried_one_way_only_is_used_again_when_it_is_mended,
        devices_find_each_other_again_after_leaving_sleeping_and_restarting,
        a_device_whose_address_changed_while_it_was_away_is_found_again,
        devices_of_which_all_addresses_changed_find_each_other_by_multicast_alone,
    ],
}

fn an_archive_arrives_whole_over_a_bad_line() {
    let net = Net::new();
    let [a, b] = net.devices();
    a.sh("mkdir $OUT/tree; cd $OUT/tree
          for folder in 1 2 3 4 5 6; do
              mkdir $folder
              for file in $(seq 50); do head -c $((RANDOM % 4000)) /dev/urandom > $folder/$file; done
          done
          tar -C $OUT -cf $OUT/tree.tar tree");
    for host in [&a, &b] {
        net.spoil(host, Duration::from_millis(100), 50);
    }
    a.sh("tar -xf $OUT/tree.tar");
    wait_equal(Duration::from_secs(120), &[&a, &b]);
    let other = a.outside("tree");
    let mut command = b.command("diff");
    crate::world::run(command.arg("-r").arg(other).arg(b.at("tree"))).ok();
    meet(&b, &a, "both ways");
}

fn a_line_that_carried_one_way_only_is_used_again_when_it_is_mended() {
    let net = Net::new();
    let [a, b] = net.devices();
    for (from, to, name) in [(&a, &b, "there"), (&b, &a, "back")] {
        net.cut_one_way(from, to);
        wait_for("both notice", SOON, || a.connected() == 0 && b.connected() == 0);
        fs::write(a.at(format!("{name}.a")), "a").unwrap();
        fs::write(b.at(format!("{name}.b")), "b").unwrap();
        net.heal();
        wait_equal(AGAIN, &[&a, &b]);
        meet(&a, &b, name);
    }
}

fn devices_find_each_other_again_after_leaving_sleeping_and_restarting() {
    let net = Net::new();
    let [a, b] = net.devices();
    meet(&a, &b, "first");
    b.unmount();
    wait_for("it is missed at once", SOON, || a.connected() == 0);
    fs::write(a.at("while it was away"), "x").unwrap();
    b.mount();
    b.wait_says(AGAIN, "while it was away", "x");
    meet(&a, &b, "came back");

    let sleeper = World::node(&b).unwrap();
    kill_process(sleeper, Signal::STOP).unwrap();
    wait_for("who sleeps is missed", SOON, || a.connected() == 0);
    fs::write(a.at("while it slept"), "x").unwrap();
    kill_process(sleeper, Signal::CONT).unwrap();
    b.wait_says(AGAIN, "while it slept", "x");
    meet(&a, &b, "awake");

    a.unmount();
    b.unmount();
    a.mount();
    b.mount();
    meet(&a, &b, "both left");

    a.kill_node();
    b.kill_node();
    b.mount();
    a.mount();
    meet(&a, &b, "both were killed");
    wait_equal(SOON, &[&a, &b]);
}

fn a_device_whose_address_changed_while_it_was_away_is_found_again() {
    let net = Net::new();
    let [a, b] = net.devices();
    meet(&a, &b, "first");
    b.unmount();
    b.move_to("10.77.0.112");
    b.mount();
    meet(&a, &b, "moved while it was away");
}

fn devices_of_which_all_addresses_changed_find_each_other_by_multicast_alone() {
    let net = Net::new();
    let (a, b) = (net.new_host(), net.new_host());
    a.mount();
    b.join(&a, "writer", "b");
    meet(&a, &b, "first");
    for (host, port) in [(&a, "41001"), (&b, "41002")] {
        host.unmount();
        host.jaxfs(&["network", "--port", port]).ok();
    }
    a.move_to("10.77.0.101");
    b.move_to("10.77.0.102");
    a.mount();
    b.mount();
    meet(&a, &b, "all is new");
}
