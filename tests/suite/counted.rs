//! What things cost: manifests made, bytes stored.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

use crate::metadata::make_tree;
use crate::world::{SOON, World, wait_for};

crate::claims! {
    Mount: [
        the_same_content_twice_is_stored_once,
        one_byte_changed_in_a_gibibyte_stores_less_than_a_mebibyte,
        one_name_changed_among_a_hundred_thousand_stores_less_than_256_kib,
        what_did_not_change_is_not_published,
        a_copy_of_a_stored_file_stores_its_names_of_blocks_only,
    ],
    MountAlone: [
        an_untar_of_five_thousand_files_makes_at_most_twenty_manifests,
        a_small_save_makes_one_manifest,
        a_save_by_temporary_file_and_rename_makes_one_manifest,
        a_touch_does_not_store_the_data_again,
    ],
}

fn an_untar_of_five_thousand_files_makes_at_most_twenty_manifests() {
    let world = World::mounted();
    make_tree(&world);
    world.sh("tar -C \"$OUT\" -cf \"$OUT/tree.tar\" tree");
    let before = world.log().len();
    world.sh("tar -xf \"$OUT/tree.tar\"");
    world.sync();
    let made = world.log().len() - before;
    assert!((1..=20).contains(&made), "{made} manifests");
}

/// The manifests that a save makes, in a bucket where nothing else happens.
#[track_caller]
pub(crate) fn manifests_of(world: &World, save: impl Fn(&World)) -> usize {
    let before = world.log().len();
    save(world);
    wait_for("it is published by itself", SOON, || world.log().len() > before);
    world.sync(); // what was not part of it
    world.log().len() - before
}

/// Saves in a bucket where nothing happened for a while, and counts the manifests. A machine that stops us between two
/// requests for longer than a save is waited for makes two of one, so one of a few attempts is enough.
#[track_caller]
fn makes_one_manifest(save: impl Fn(&World)) {
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(manifests_of(&World::mounted(), &save));
        if made.last() == Some(&1) {
            return;
        }
    }
    panic!("each save made more than one manifest: {made:?}");
}

fn a_small_save_makes_one_manifest() {
    makes_one_manifest(|world| fs::write(world.at("note"), b"a few words").unwrap());
}

fn a_save_by_temporary_file_and_rename_makes_one_manifest() {
    makes_one_manifest(|world| {
        let mut file = File::create(world.at(".note.tmp")).unwrap();
        file.write_all(b"a few words").unwrap();
        file.sync_all().unwrap();
        drop(file);
        fs::rename(world.at(".note.tmp"), world.at("note")).unwrap();
    });
}

fn what_did_not_change_is_not_published() {
    let world = World::mounted();
    fs::write(world.at("file"), b"x").unwrap();
    world.sync();
    let before = (world.manifests(), world.stored());
    world.sh("cat file; ls -la; stat file; find . -type f");
    world.sync();
    world.remount();
    world.sh("cat file");
    world.unmount();
    assert_eq!((world.manifests(), world.stored()), before);
}

fn a_touch_does_not_store_the_data_again() {
    let world = World::mounted();
    world.sh("head -c 50M /dev/urandom > large");
    world.sync();
    let before = world.stored();
    world.sh("touch large");
    world.sync();
    world.sh("chmod 600 large; mv large larger; touch -d '2001-02-03 04:05:06.7' larger");
    world.sync();
    let stored = world.stored() - before;
    assert!(stored < 64 << 10, "{stored} bytes");
}

fn the_same_content_twice_is_stored_once() {
    let world = World::mounted();
    let before = world.stored();
    world.sh("head -c 5000000 /dev/urandom > one");
    world.sync();
    let first = world.stored() - before;
    assert!((5_000_000..6_000_000).contains(&first), "{first} bytes");
    world.sh("cat one > two; mkdir d; cat one > d/three");
    world.sync();
    let again = world.stored() - before - first;
    assert!(again < 64 << 10, "{again} bytes");
}

fn one_byte_changed_in_a_gibibyte_stores_less_than_a_mebibyte() {
    let world = World::mounted();
    let file = File::create_new(world.at("large")).unwrap();
    // Different in every chunk, so that each is a block of its own.
    let mut part = vec![0x5a; 1 << 20];
    for at in 0..1024_u64 {
        for (index, page) in part.chunks_mut(4096).enumerate() {
            page[..8].copy_from_slice(&(at << 8 | index as u64).to_le_bytes());
        }
        file.write_all_at(&part, at << 20).unwrap();
    }
    drop(file);
    world.sync();
    let before = world.stored();
    assert!(before > 100 << 20, "the blocks are real: {before} bytes");
    let file = File::options().write(true).open(world.at("large")).unwrap();
    file.write_all_at(b"!", (1 << 29) + 12_345).unwrap();
    drop(file);
    world.sync();
    let stored = world.stored() - before;
    assert!((1..1 << 20).contains(&stored), "{stored} bytes");
    println!("one byte in 1 GiB: {stored} bytes of new blocks");
}

fn one_name_changed_among_a_hundred_thousand_stores_less_than_256_kib() {
    let world = World::mounted();
    world.python(
        "import os\n\
         os.mkdir('many')\n\
         here = os.open('many', os.O_RDONLY)\n\
         for at in range(100000): os.mknod(f'name-{at:06}', 0o100644, dir_fd=here)",
    );
    world.sync();
    for script in [
        "echo x > many/name-050000",
        "touch many/new-one",
        "rm many/name-000007",
        "mv many/name-1 many/n 2>&1 || mv many/name-000001 many/n",
    ] {
        let before = world.stored();
        world.sh(script);
        world.sync();
        let stored = world.stored() - before;
        assert!((1..256 << 10).contains(&stored), "{script}: {stored} bytes");
        println!("{script}, of 100,000 names: {stored} bytes of new blocks");
    }
}

fn a_copy_of_a_stored_file_stores_its_names_of_blocks_only() {
    let world = World::mounted();
    world.sh("head -c 64M /dev/urandom > big; truncate -s 1G big");
    world.sync();
    let before = world.stored();
    // As `cp` does it, and a part of it to where no chunk begins.
    world.python(
        "import os\n\
         source, copy, part = os.open('big', os.O_RDONLY), os.open('copy', os.O_RDWR | os.O_CREAT), os.open('part', os.O_RDWR | os.O_CREAT)\n\
         at = 0\n\
         while at < 1 << 30: at += os.copy_file_range(source, copy, (1 << 30) - at, at, at)\n\
         at = 0\n\
         while at < 50_000_001: at += os.copy_file_range(source, part, 50_000_001 - at, at + 12_345, at + 1)",
    );
    world.sync();
    let stored = world.stored() - before;
    assert!(stored < 1 << 20, "{stored} bytes");
    world.remount();
    world.sh("cmp big copy; cmp -n 50000001 -i 12345:1 big part; test \"$(stat -c %s part)\" = 50000002; \
         test \"$(du -k copy | cut -f1)\" -lt 66000; cp --reflink=auto copy again; cmp again big");
}
