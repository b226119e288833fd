//! Dropping what old versions have, while the mount is in use.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::world::World;

crate::claims! {
    Mount: [
        garbage_is_collected_while_a_writer_runs_and_nothing_else_goes,
        old_versions_are_kept_as_long_as_they_are_asked_for,
        a_dry_run_drops_nothing,
        times_that_are_saved_are_used_later,
        a_collection_of_a_bucket_that_is_not_mounted_keeps_what_a_crash_left_in_the_journal,
    ],
}

const MIB: usize = 1 << 20;
/// Keeps nothing but the newest version.
const NOTHING: [&str; 6] = ["--keep-all", "0", "--keep-hourly", "0", "--keep-daily", "0"];

/// Bytes that are never twice the same.
fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[track_caller]
fn collect(world: &World) -> Value {
    let said = world.jaxfs(&[&["gc", "--json"][..], &NOTHING].concat()).ok();
    serde_json::from_str(&said).unwrap()
}

fn garbage_is_collected_while_a_writer_runs_and_nothing_else_goes() {
    let world = World::mounted();
    for number in 0..20 {
        fs::write(world.at(format!("file {number}")), noise(number, 10 * MIB)).unwrap();
    }
    let mut removed = File::options().read(true).write(true).open(world.at("file 0")).unwrap();
    world.sh("cp --reflink=auto 'file 1' copy");
    world.sync();
    let full = world.stored();
    assert!(full > 200 * MIB as u64);
    for number in 0..15 {
        fs::remove_file(world.at(format!("file {number}"))).unwrap();
    }
    for number in 15..18 {
        fs::write(world.at(format!("file {number}")), noise(100 + number, 10 * MIB)).unwrap();
    }
    world.sync();
    let stop = AtomicBool::new(false);
    let (reports, written) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut rounds = 0u8;
            while !stop.load(Ordering::Relaxed) {
                // The same again and again, too: what is about to be dropped is put anew.
                for (name, seed) in [("again", rounds % 3), ("new", rounds)] {
                    let mut file = File::create(world.at(name)).unwrap();
                    file.write_all(&noise(seed, MIB)).unwrap();
                    file.sync_all().unwrap();
                    drop(file);
                    assert!(fs::read(world.at(name)).unwrap() == noise(seed, MIB), "{name} in round {rounds}");
                }
                rounds = (rounds + 1) % 90;
            }
            rounds
        });
        let reports: Vec<_> = (0..4).map(|_| collect(&world)).collect();
        stop.store(true, Ordering::Relaxed);
        (reports, writer.join().unwrap())
    });
    assert!(reports[0]["blocks"].as_u64().unwrap() > 3_000, "{reports:?} while {written} rounds were written");
    let mut content = Vec::new();
    removed.seek(SeekFrom::Start(0)).unwrap();
    removed.read_to_end(&mut content).unwrap();
    assert!(content == noise(0, 10 * MIB), "what is removed and open is still there");
    drop((removed, content));
    world.sync();
    // What is open only for a moment longer may be kept by the first.
    world.sh("sync; echo 3 > /proc/sys/vm/drop_caches || true");
    collect(&world);
    let left = world.stored();
    assert!(left < 110 * MIB as u64, "{left} of {full} bytes are left");
    let compare = |world: &World| {
        assert!(fs::read(world.at("copy")).unwrap() == noise(1, 10 * MIB));
        for number in 15..20 {
            let seed = if number < 18 { 100 + number } else { number };
            assert!(fs::read(world.at(format!("file {number}"))).unwrap() == noise(seed, 10 * MIB), "file {number}");
        }
    };
    compare(&world);
    world.remount();
    compare(&world);
    let verified = world.jaxfs(&["verify"]).ok();
    assert!(verified.contains("is sound"), "{verified}");
}

fn old_versions_are_kept_as_long_as_they_are_asked_for() {
    let world = World::mounted();
    fs::write(world.at("file"), noise(1, MIB)).unwrap();
    world.sync();
    fs::write(world.at("file"), noise(2, MIB)).unwrap();
    world.sync();
    let said = world.jaxfs_here(&["gc"]).ok();
    assert!(said.contains("dropped 0 blocks"), "all versions of a day are kept: {said}");
    let report = collect(&world);
    assert!(report["blocks"].as_u64().unwrap() > 30 && report["dropped"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(collect(&world)["dropped"], 0, "once is enough");
    assert_eq!(world.log().len() as u64, world.manifests(), "all versions are still listed");
    assert!(world.jaxfs(&["verify"]).ok().contains("is sound"));
}

fn a_dry_run_drops_nothing() {
    let world = World::mounted();
    fs::write(world.at("file"), noise(1, MIB)).unwrap();
    world.sync();
    fs::remove_file(world.at("file")).unwrap();
    world.sync();
    let before = world.stored();
    let said = world.jaxfs(&[&["gc", "-n"][..], &NOTHING].concat()).ok();
    assert!(said.contains("would drop") && !said.contains("would drop 0"), "{said}");
    assert_eq!(world.stored(), before);
    assert!(collect(&world)["freed"].as_u64().unwrap() > MIB as u64 / 2);
}

fn times_that_are_saved_are_used_later() {
    let world = World::mounted();
    world.jaxfs(&[&["gc", "--save", "Bucket"][..], &NOTHING].concat()).ok();
    fs::write(world.at("file"), noise(1, MIB)).unwrap();
    world.sync();
    fs::remove_file(world.at("file")).unwrap();
    world.sync();
    world.unmount();
    let said = world.jaxfs(&["gc"]).ok();
    assert!(!said.contains("dropped 0 blocks"), "{said}");
    let refused = world.jaxfs(&["gc", "no such bucket"]).refused();
    assert!(refused.contains("no such bucket"), "{refused}");
}

fn a_collection_of_a_bucket_that_is_not_mounted_keeps_what_a_crash_left_in_the_journal() {
    let world = World::mounted();
    fs::write(world.at("source"), noise(1, MIB)).unwrap();
    world.sync();
    // A copy names blocks, and goes to the journal with the sync.
    world.sh("cp --reflink=auto source copy; sync copy; rm source; sync .");
    world.kill_node();
    let report = collect(&world);
    assert!(!report["cancelled"].as_bool().unwrap());
    world.mount();
    assert!(fs::read(world.at("copy")).unwrap() == noise(1, MIB));
    assert!(!world.at("source").exists());
}
