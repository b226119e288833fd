//! What `jaxfs verify --repair` makes of a home that was damaged.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::world::World;

crate::claims! {
    Mount: [
        a_bucket_without_its_index_is_what_it_was_after_a_repair,
        a_damaged_block_that_was_taken_out_can_be_written_again,
        a_version_whose_root_is_lost_gives_way_to_the_one_before_it,
        a_version_that_is_lost_amid_others_takes_no_content_along,
        a_bucket_that_is_mounted_is_not_repaired,
    ],
}

fn index(world: &World) -> PathBuf {
    let files = world.home_files();
    files.into_iter().find(|file| file.ends_with("db.redb")).unwrap()
}

fn kept(world: &World) -> String {
    world.sh("sha256sum d/a b synced; stat -c '%n %h %a %Y' d d/a b c synced; cat after")
}

fn a_bucket_without_its_index_is_what_it_was_after_a_repair() {
    for how in ["lost", "garbage", "flipped", "sound"] {
        let world = World::mounted();
        world.sh("mkdir d; echo one > d/a; head -c 1M /dev/urandom > b; ln b c");
        world.sync();
        world.sh("echo two >> d/a");
        world.sync();
        // Safe, and in no version.
        let mut file = File::create(world.at("synced")).unwrap();
        file.write_all(&[7; 300_000]).unwrap();
        file.sync_all().unwrap();
        world.sh("echo later > after; sync after");
        let (before, versions) = (kept(&world), world.manifests());
        world.kill_node();
        world.jaxfs_here(&["unmount"]).ok();
        let index = index(&world);
        match how {
            "lost" => fs::remove_file(&index).unwrap(),
            "garbage" => fs::write(&index, vec![0x77; 300_000]).unwrap(),
            "flipped" => {
                let file = File::options().read(true).write(true).open(&index).unwrap();
                for at in (4_096..file.metadata().unwrap().len()).step_by(512) {
                    file.write_all_at(&[0xa5], at).unwrap();
                }
            }
            _ => {}
        }
        if how != "sound" {
            let said = world.jaxfs(&["verify"]).failed();
            assert!(said.contains("verify --repair"), "{how}: {said}");
        }
        let said = world.jaxfs(&["verify", "--repair"]).ok();
        assert!(said.contains("has a new index") && said.contains("is sound"), "{how}: {said}");
        world.mount();
        assert_eq!(kept(&world), before, "{how}");
        world.sync();
        assert!(world.manifests() >= versions, "{how}: {} versions of {versions}", world.manifests());
        world.remount();
        assert_eq!(kept(&world), before, "{how}");
        world.sh("echo more > more");
        world.remount();
        assert_eq!(world.sh("cat more"), "more\n");
    }
}

/// Damages the body of the largest block.
fn damage(world: &World, with: &[u8]) {
    let (pack, at) = world
        .packs()
        .into_iter()
        .find_map(|pack| {
            let bytes = fs::read(&pack).unwrap();
            let at = (16..bytes.len()).find(|at| {
                let header = &bytes[*at..];
                header.len() > 37 + 30_000
                    && header[32] == 0x55
                    && u32::from_le_bytes(header[33..37].try_into().unwrap()) > 30_000
                    && u32::from_le_bytes(header[33..37].try_into().unwrap()) < 40_000
            })?;
            Some((pack, at))
        })
        .unwrap();
    File::options().write(true).open(pack).unwrap().write_all_at(with, at as u64 + 5_000).unwrap();
}

fn a_damaged_block_that_was_taken_out_can_be_written_again() {
    let world = World::mounted();
    world.sh("head -c 32768 /dev/urandom > \"$OUT/data\"; cp \"$OUT/data\" hurt; echo whole > whole");
    world.unmount();
    damage(&world, b"not what was written");
    let said = world.jaxfs(&["verify"]).failed();
    assert!(said.contains("hurt: ") || said.contains("damaged"), "{said}");
    let said = world.jaxfs(&["verify", "--repair"]).failed();
    assert!(said.contains("hurt"), "{said}");
    world.mount();
    assert!(fs::read(world.at("hurt")).is_err());
    world.sh("rm hurt; cp \"$OUT/data\" again; cmp again \"$OUT/data\"; cat whole");
    world.remount();
    world.sh("cmp again \"$OUT/data\"");
}

fn a_version_whose_root_is_lost_gives_way_to_the_one_before_it() {
    let world = World::mounted();
    world.sh("echo one > file");
    world.sync();
    let before: u64 = world.packs().iter().map(|pack| fs::metadata(pack).unwrap().len()).sum();
    world.sh("echo two > file");
    world.sync();
    world.unmount();
    let pack = world.packs().pop().unwrap();
    let bytes = fs::read(&pack).unwrap();
    // All nodes of the last version, and not its manifest, which is small.
    let file = File::options().write(true).open(&pack).unwrap();
    let mut at = usize::try_from(before).unwrap();
    while at + 37 < bytes.len() {
        let len = u32::from_le_bytes(bytes[at + 33..at + 37].try_into().unwrap()) as usize;
        let is_manifest = bytes[at + 37..at + 37 + len].windows(9).any(|part| part == b"timestamp");
        if bytes[at + 32] != 0 && !is_manifest {
            file.write_all_at(b"lost", (at + 40) as u64).unwrap();
        }
        at += 37 + len;
    }
    assert!(!world.try_mount(&[]).status.success());
    world.jaxfs(&["verify", "--repair"]).failed();
    world.mount();
    assert_eq!(world.sh("cat file"), "one\n");
    world.sh("echo three > file");
    world.remount();
    assert_eq!(world.sh("cat file"), "three\n");
}

fn a_version_that_is_lost_amid_others_takes_no_content_along() {
    let world = World::mounted();
    for number in 1..=5 {
        world.sh(&format!("echo {number} > file; echo {number} > file{number}"));
        world.sync();
    }
    world.unmount();
    let pack = world.packs().pop().unwrap();
    let bytes = fs::read(&pack).unwrap();
    let (mut manifests, mut at) = (Vec::new(), 16);
    while at + 37 < bytes.len() {
        let len = u32::from_le_bytes(bytes[at + 33..at + 37].try_into().unwrap()) as usize;
        let record = &bytes[at + 37..at + 37 + len];
        if bytes[at + 32] == 0x71 && record.windows(9).any(|part| part == b"timestamp") {
            manifests.push(at + 40);
        }
        at += 37 + len;
    }
    let middle = manifests[manifests.len() - 3];
    File::options().write(true).open(&pack).unwrap().write_all_at(b"lost", middle as u64).unwrap();
    fs::remove_file(index(&world)).unwrap();
    let said = world.jaxfs(&["verify", "--repair"]).failed();
    assert!(said.contains("versions were given up") && said.contains("what it has follows version"), "{said}");
    world.mount();
    assert_eq!(world.sh("cat file file5 file2"), "5\n5\n2\n");
    world.sh("echo six > file");
    world.sync();
    world.remount();
    assert_eq!(world.sh("cat file file5"), "six\n5\n");
    world.unmount();
    world.jaxfs(&["verify"]).ok();
}

fn a_bucket_that_is_mounted_is_not_repaired() {
    let world = World::mounted();
    let said = world.jaxfs(&["verify", "--repair"]).failed();
    assert!(said.contains("mounted at") && said.contains("jaxfs unmount"), "{said}");
    world.sh("echo still > here");
}
