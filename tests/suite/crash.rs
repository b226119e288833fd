//! What is left after the node was killed.

use std::fs::{self, File};
use std::io::Write;

use crate::world::World;

crate::claims! {
    Mount: [
        what_was_synced_survives_a_killed_node,
        what_was_fsynced_survives_a_killed_node,
        a_fsynced_rename_survives_a_killed_node,
        a_node_killed_amid_writing_leaves_a_sound_bucket,
        a_dead_mount_can_be_unmounted,
    ],
}

/// Kills the node, and mounts again over what it left.
#[track_caller]
pub(crate) fn crash(world: &World) {
    world.kill_node();
    assert!(world.is_mounted(), "a dead mount is left");
    let said = world.try_mount(&[]);
    assert!(said.err.contains("detached a dead mount"), "{}{}", said.out, said.err);
    said.ok();
}

#[track_caller]
fn is_sound(world: &World) {
    let said = world.jaxfs(&["verify"]).ok();
    assert!(said.contains("is sound"), "{said}");
}

fn what_was_synced_survives_a_killed_node() {
    let world = World::mounted();
    world.sh("mkdir d; echo one > d/a; head -c 1M /dev/urandom > b; cp b \"$OUT/b\"; ln b c");
    world.sync();
    crash(&world);
    assert_eq!(world.sh("cat d/a; cmp b \"$OUT/b\"; cmp c \"$OUT/b\"; stat -c %h b"), "one\n2\n");
    is_sound(&world);
}

fn what_was_fsynced_survives_a_killed_node() {
    let world = World::mounted();
    let large: Vec<u8> = (0..700_000_u32).map(|at| ((at / 7) ^ (at >> 9)) as u8).collect();
    for (name, bytes) in [("small", &b"a few words"[..]), ("large", &large)] {
        let mut file = File::create(world.at(name)).unwrap();
        file.write_all(bytes).unwrap();
        file.sync_all().unwrap();
    }
    crash(&world);
    assert_eq!(fs::read(world.at("small")).unwrap(), b"a few words");
    assert!(fs::read(world.at("large")).unwrap() == large);
    is_sound(&world);
    world.remount();
    assert!(fs::read(world.at("large")).unwrap() == large);
}

fn a_fsynced_rename_survives_a_killed_node() {
    let world = World::mounted();
    fs::write(world.at("note"), b"old").unwrap();
    world.sync();
    let mut file = File::create(world.at("note.tmp")).unwrap();
    file.write_all(b"new").unwrap();
    file.sync_all().unwrap();
    fs::rename(world.at("note.tmp"), world.at("note")).unwrap();
    File::open(world.dir()).unwrap().sync_all().unwrap();
    crash(&world);
    assert_eq!(fs::read(world.at("note")).unwrap(), b"new");
    assert!(!world.at("note.tmp").exists());
}

fn a_node_killed_amid_writing_leaves_a_sound_bucket() {
    let world = World::mounted();
    world.sh("echo base > base");
    world.sync();
    for round in 0..5 {
        let dir = world.at(format!("round-{round}"));
        let node = world.node().unwrap();
        let killer = std::thread::spawn({
            let dir = dir.clone();
            move || {
                crate::world::wait_for("some are written", crate::world::SOON, || dir.join("60").exists());
                rustix::process::kill_process(node, rustix::process::Signal::KILL).unwrap();
            }
        });
        fs::create_dir(&dir).unwrap();
        for at in 0.. {
            let wrote = File::create(dir.join(at.to_string())).and_then(|mut file| {
                file.write_all(&vec![at as u8; 40_000])?;
                if at % 50 == 49 { file.sync_all() } else { Ok(()) }
            });
            if wrote.is_err() {
                break;
            }
        }
        killer.join().unwrap();
        crash_over(&world);
        is_sound(&world);
        assert_eq!(fs::read(world.at("base")).unwrap(), b"base\n");
        // The file synced as the fiftieth, and the names of all that came before it.
        for at in 0..50 {
            let found = fs::read(dir.join(at.to_string())).unwrap();
            assert!(found == vec![at as u8; 40_000] || found.is_empty() && at < 49, "{round}: {at}: {}", found.len());
        }
    }
}

#[track_caller]
fn crash_over(world: &World) {
    world.wait_for_crash();
    world.mount();
}

fn a_dead_mount_can_be_unmounted() {
    let world = World::mounted();
    world.kill_node();
    let said = world.jaxfs_here(&["unmount"]);
    assert!(said.err.contains("dead mount"), "{}", said.err);
    said.ok();
    assert!(!world.is_mounted());
}
