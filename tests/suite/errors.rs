//! Wrong use and damage: one line that says what to do, and no more harm than there was.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};

use crate::world::{Said, World, run};

crate::claims! {
    Nothing: [
        a_directory_that_is_not_there_is_named,
        a_directory_that_is_not_empty_is_refused,
        a_file_is_no_directory,
        a_place_where_something_else_is_mounted_is_refused,
        nothing_to_unmount_is_said,
        a_bucket_that_is_not_there_is_named_and_the_others_listed,
        a_home_locked_by_another_process_names_it,
        a_key_that_others_may_read_is_refused,
        a_damaged_key_is_named,
        a_missing_key_is_not_replaced,
        a_damaged_database_is_named,
        nonsense_is_refused_by_the_command_line,
    ],
    Mount: [
        a_mount_on_a_mount_is_refused,
        a_bucket_is_mounted_once,
        a_mounted_bucket_is_not_removed,
        a_mount_of_a_damaged_database_is_refused,
        a_damaged_block_hurts_its_file_only_and_verify_names_it,
        a_home_takes_no_more_space_than_it_may,
    ],
    Root: [a_full_disk_is_said_and_what_was_stored_is_intact],
}

/// It fails with one line that contains these words.
#[track_caller]
fn says(said: Said, words: &[&str]) {
    let line = said.refused();
    for word in words {
        assert!(line.contains(word), "`{word}` is not in: {line}");
    }
}

fn a_directory_that_is_not_there_is_named() {
    let world = World::new();
    fs::remove_dir(world.dir()).unwrap();
    says(world.try_mount(&[]), &["Bucket", "does not exist", "mkdir -p"]);
    assert!(!world.home().exists(), "a home was made for nothing");
}

fn a_directory_that_is_not_empty_is_refused() {
    let world = World::new();
    fs::write(world.at("file"), b"").unwrap();
    says(world.try_mount(&[]), &["not empty"]);
    assert!(!world.home().exists());
}

fn a_file_is_no_directory() {
    let world = World::new();
    fs::remove_dir(world.dir()).unwrap();
    fs::write(world.dir(), b"").unwrap();
    says(world.try_mount(&[]), &["not a directory"]);
}

fn a_place_where_something_else_is_mounted_is_refused() {
    let world = World::new();
    says(world.jaxfs(&["mount", "/proc"]), &["already mounted at /proc"]);
    says(world.jaxfs(&["unmount", "/proc"]), &["not a mount of jaxfs"]);
}

fn nothing_to_unmount_is_said() {
    let world = World::new();
    says(world.jaxfs_here(&["unmount"]), &["nothing is mounted", "jaxfs status"]);
    world.jaxfs(&["buckets", "create", "one"]).ok();
    says(world.jaxfs_here(&["unmount"]), &["nothing is mounted"]);
    for command in ["sync", "log", "status"] {
        says(world.jaxfs_here(&[command]), &["nothing of this home is mounted"]);
    }
}

fn a_bucket_that_is_not_there_is_named_and_the_others_listed() {
    let world = World::new();
    world.jaxfs(&["buckets", "create", "photos"]).ok();
    for args in [&["log", "--bucket", "phtos"][..], &["verify", "phtos"], &["buckets", "remove", "-y", "phtos"]] {
        says(world.jaxfs(args), &["no bucket `phtos`", "photos ("]);
    }
    if crate::world::fuse_trouble().is_none() {
        says(world.try_mount(&["--bucket", "phtos"]), &["no bucket `phtos`", "photos ("]);
    }
}

fn a_home_locked_by_another_process_names_it() {
    let world = World::new();
    world.jaxfs(&["buckets", "create", "one"]).ok();
    let lock = File::options().read(true).write(true).open(world.home().join("node.lock")).unwrap();
    lock.try_lock().unwrap();
    let me = std::process::id();
    lock.set_len(0).unwrap();
    lock.write_all_at(me.to_string().as_bytes(), 0).unwrap();
    says(world.jaxfs(&["status"]), &["locked by process", &me.to_string()]);
    lock.set_len(0).unwrap(); // so that nobody takes this process for the node
}

fn a_key_that_others_may_read_is_refused() {
    let world = World::new();
    world.jaxfs(&["buckets", "create", "one"]).ok();
    fs::set_permissions(world.home().join("device.key"), PermissionsExt::from_mode(0o644)).unwrap();
    says(world.jaxfs(&["status"]), &["device.key", "0644", "chmod 600"]);
}

fn a_damaged_key_is_named() {
    let world = World::new();
    world.jaxfs(&["buckets", "create", "one"]).ok();
    let key = world.home().join("device.key");
    let whole = fs::read(&key).unwrap();
    fs::write(&key, &whole[..whole.len() / 2]).unwrap();
    says(world.jaxfs(&["status"]), &["device.key", "backup"]);
}

fn a_missing_key_is_not_replaced() {
    let world = World::new();
    world.jaxfs(&["buckets", "create", "one"]).ok();
    let key = world.home().join("device.key");
    fs::remove_file(&key).unwrap();
    says(world.jaxfs(&["buckets", "create", "two"]), &["device.key is missing", "backup"]);
    assert!(!key.exists());
}

/// Overwrites the only bucket's database but for its first and last page.
fn damage_database(world: &World) {
    let database = world.home_files().into_iter().find(|file| file.ends_with("db.redb")).unwrap();
    let length = fs::metadata(&database).unwrap().len();
    let file = File::options().write(true).open(database).unwrap();
    file.write_all_at(&vec![0xa5; length as usize - 4096 - 512], 512).unwrap();
}

fn a_damaged_database_is_named() {
    let world = World::new();
    world.jaxfs(&["buckets", "create", "one"]).ok();
    let id = world.status()["id"].as_str().unwrap().to_owned();
    damage_database(&world);
    let said = world.jaxfs(&["verify"]);
    assert_eq!(said.status.code(), Some(1), "{}{}", said.out, said.err);
    assert!(said.err.contains("one") || said.err.contains(&id), "{}", said.err);
    assert!(said.err.lines().all(|line| line.starts_with("jaxfs: ") || line.starts_with(&id)), "{}", said.err);
    says(world.jaxfs(&["log"]), &[&id, "backup"]);
    let status = world.status();
    assert!(status["trouble"].as_str().unwrap().contains("backup"), "{status}");
    assert!(!fs::read_to_string(world.home().join("node.log")).unwrap_or_default().contains("panicked"));
}

fn a_mount_of_a_damaged_database_is_refused() {
    let world = World::mounted();
    world.unmount();
    damage_database(&world);
    says(world.try_mount(&[]), &["backup"]);
    assert!(!world.is_mounted());
}

fn nonsense_is_refused_by_the_command_line() {
    let world = World::new();
    for args in [&["mout"][..], &["mount"], &["mount", "a", "b"], &["log", "--jsn"], &[]] {
        let said = world.jaxfs(args);
        assert_eq!(said.status.code(), Some(2), "{args:?}: {}{}", said.out, said.err);
        assert!(said.out.is_empty() && !said.err.is_empty());
    }
    assert!(!world.home().exists());
}

fn a_mount_on_a_mount_is_refused() {
    let world = World::mounted();
    says(world.try_mount(&[]), &["already mounted", "jaxfs unmount"]);
    let other = World::new();
    says(run(other.command(crate::world::JAXFS).arg("mount").arg(world.dir())), &["already mounted"]);
    says(run(other.command(crate::world::JAXFS).arg("unmount").arg(world.dir())), &["another home", "JAXFS_HOME"]);
    fs::write(world.at("file"), b"still live").unwrap();
}

fn a_bucket_is_mounted_once() {
    let world = World::mounted();
    let second = world.outside("second");
    fs::create_dir(&second).unwrap();
    let at = world.dir().to_str().unwrap().to_owned();
    says(world.jaxfs(&["mount", second.to_str().unwrap()]), &["already mounted at", &at]);
}

fn a_mounted_bucket_is_not_removed() {
    let world = World::mounted();
    says(world.jaxfs(&["buckets", "remove", "-y", "Bucket"]), &["is mounted at", "unmount"]);
    world.unmount();
    world.jaxfs(&["buckets", "remove", "-y", "Bucket"]).ok();
    assert_eq!(world.packs().len(), 0);
}

fn a_damaged_block_hurts_its_file_only_and_verify_names_it() {
    let world = World::mounted();
    world.sh(
        "mkdir d; head -c 100000 /dev/urandom > d/hurt; head -c 100000 /dev/urandom > whole; cp whole \"$OUT/whole\"",
    );
    world.sync();
    // The block of `d/hurt` was sealed in this order or the other: damage the pack byte by byte of a block until one
    // of the two can not be read.
    let before = world.stored();
    world.sh("head -c 128K /dev/urandom > d/last");
    world.sync();
    world.unmount();
    let pack = world.packs().pop().unwrap();
    let file = File::options().read(true).write(true).open(pack).unwrap();
    let mut byte = [0];
    let at = before + 60_000; // within the first block that the last file added
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    world.mount();
    let said = world.try_sh("cat d/last > /dev/null");
    assert!(said.err.contains("Input/output error"), "{}{}", said.out, said.err);
    world.sh("cmp whole \"$OUT/whole\"; cat d/hurt > /dev/null; ls -l d");
    let said = world.jaxfs(&["verify"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(said.out.contains("d/last"), "{}{}", said.out, said.err);
    assert!(!said.out.contains("whole") && !said.out.contains("d/hurt"), "{}", said.out);
    assert!(said.err.starts_with("jaxfs: hurt: Bucket") && said.err.lines().count() == 1, "{}", said.err);
}

fn a_full_disk_is_said_and_what_was_stored_is_intact() {
    let world = World::on_a_disk_of("48M");
    world.mount();
    world.sh("head -c 4M /dev/urandom | tee \"$OUT/first\" > first");
    world.sync();
    // Who writes more than there is room for hears it from the write itself; what was taken before is kept.
    let said = world.try_sh("head -c 90M /dev/urandom | tee large > /dev/null");
    assert!(said.err.contains("No space left"), "{}{}", said.out, said.err);
    world.sync();
    assert!(world.sh("stat -c %s large").trim().parse::<u64>().unwrap() > 10 << 20);
    world.sh("cmp first \"$OUT/first\"; rm large; mount -o remount,size=80M \"$OUT/disk\"");
    // Someone else fills the disk after a write was taken, and before it is stored: the file is still open.
    let said = world.try_sh(
        "head -c 1M /dev/urandom > \"$OUT/late\"; exec 3> late; cat \"$OUT/late\" >&3
         head -c 100M /dev/zero > \"$OUT/disk/filler\" 2> /dev/null || true
         \"$JAXFS\" sync . 2>&1 || true; \"$JAXFS\" status --json; \"$JAXFS\" unmount . 2>&1",
    );
    let lines: Vec<_> = said.out.lines().collect();
    assert!(lines[0].to_lowercase().contains("space"), "{}", said.out);
    assert!(lines[1].contains("\"trouble\":\""), "{}", said.out);
    // What can not be stored is not thrown away with the mount.
    assert!(lines[2].to_lowercase().contains("space") && lines[2].contains("still mounted"), "{}", said.out);
    world.sh("cmp late \"$OUT/late\"; mount -o remount,size=300M \"$OUT/disk\"");
    world.remount();
    assert_eq!(world.sh("cmp first \"$OUT/first\"; cmp late \"$OUT/late\"; ls"), "first\nlate\n");
    world.jaxfs(&["verify"]).ok();
}

fn a_home_takes_no_more_space_than_it_may() {
    let world = World::new();
    says(world.try_mount(&["--max-space", "2M"]), &["2M", "at least 64M"]);
    world.try_mount(&["--max-space", "64M"]).ok();
    let size: u64 = world.sh("df --block-size=1M --output=size . | tail -1").trim().parse().unwrap();
    assert_eq!(size, 64);
    world.sh("head -c 20M /dev/urandom | tee \"$OUT/first\" > first");
    world.sync();
    let said = world.try_sh("head -c 90M /dev/urandom > large");
    assert!(said.err.contains("Disk quota exceeded"), "{}{}", said.out, said.err);
    world.sync();
    let said = world.try_sh("head -c 60M /dev/urandom > more");
    assert!(said.err.contains("Disk quota exceeded"), "{}{}", said.out, said.err);
    world.sh("cmp first \"$OUT/first\"; df . > /dev/null; rm -f large more; ls");
    world.sync();
    let taken: u64 = world.sh("du -s --block-size=1M \"$JAXFS_HOME\" | cut -f1").trim().parse().unwrap();
    assert!(taken <= 64, "{taken} MiB are taken");
    world.unmount();
    world.try_mount(&["-o", "max_space=1G"]).ok();
    world.sh("echo more > more; cmp first \"$OUT/first\"");
}
