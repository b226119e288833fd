//! Mounting and unmounting, in good times and when something is in the way.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use crate::world::{JAXFS, SOON, World, run, wait_for};

crate::claims! {
    Mount: [
        the_first_mount_says_three_lines_and_returns_with_a_live_mount,
        the_same_home_mounts_again_with_one_line,
        two_homes_run_at_once,
        two_buckets_of_one_home_are_mounted_by_one_node,
        a_read_only_mount_refuses_writes,
        an_unmount_publishes_all_that_is_dirty,
        an_unmount_of_a_busy_mount_returns_and_publishes,
        a_detached_mount_never_publishes_over_a_newer_version,
        a_mount_that_is_taken_away_is_noticed_and_all_is_published,
        the_node_leaves_with_its_last_mount,
        a_mount_in_the_foreground_ends_with_a_signal_and_publishes,
        a_directory_with_a_strange_name_is_mounted_on,
        a_place_inside_the_mount_means_the_mount,
        many_mount_at_once_and_one_node_serves_them,
    ],
}

fn the_first_mount_says_three_lines_and_returns_with_a_live_mount() {
    let world = World::new();
    let said = world.mount();
    assert!(world.is_mounted());
    fs::write(world.at("now"), b"live").unwrap();
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.contains("bucket Bucket") && said.contains("jaxfs unmount") && said.contains("jaxfs key export"));
}

fn the_same_home_mounts_again_with_one_line() {
    let world = World::mounted();
    fs::write(world.at("file"), b"kept").unwrap();
    world.unmount();
    assert_eq!(world.mount().lines().count(), 1);
    assert_eq!(fs::read(world.at("file")).unwrap(), b"kept");
    assert_eq!(fs::read_dir(world.dir()).unwrap().count(), 1);
}

fn two_homes_run_at_once() {
    let (one, other) = (World::mounted(), World::mounted());
    fs::write(one.at("file"), b"one").unwrap();
    fs::write(other.at("file"), b"other").unwrap();
    assert_ne!(one.node(), other.node());
    one.remount();
    assert_eq!(fs::read(one.at("file")).unwrap(), b"one");
    assert_eq!(fs::read(other.at("file")).unwrap(), b"other");
}

fn two_buckets_of_one_home_are_mounted_by_one_node() {
    let world = World::mounted();
    let node = world.node();
    world.jaxfs(&["buckets", "create", "second"]).ok();
    let second = world.outside("second");
    fs::create_dir(&second).unwrap();
    let at = second.to_str().unwrap();
    world.jaxfs(&["mount", at]).ok();
    fs::write(second.join("file"), b"2").unwrap();
    assert!(!world.at("file").exists());
    assert_eq!(world.node(), node);
    world.jaxfs(&["unmount", at]).ok();
    world.remount();
    world.jaxfs(&["mount", at, "--bucket", "second"]).ok();
    assert_eq!(fs::read(second.join("file")).unwrap(), b"2");
    world.jaxfs(&["unmount", at]).ok();
}

fn a_read_only_mount_refuses_writes() {
    let world = World::mounted();
    fs::write(world.at("file"), b"kept").unwrap();
    world.unmount();
    world.try_mount(&["--read-only"]).ok();
    for script in ["echo x > new", "echo x >> file", "rm file", "mkdir d", "mv file g", "touch file", "chmod 700 file"]
    {
        let said = world.try_sh(script);
        assert!(said.err.contains("Read-only file system"), "{script}: {}{}", said.out, said.err);
    }
    assert_eq!(fs::read(world.at("file")).unwrap(), b"kept");
    assert_eq!(world.status()["mount"]["read_only"], true);
}

fn an_unmount_publishes_all_that_is_dirty() {
    let world = World::mounted();
    let data = vec![7; 3 << 20];
    fs::write(world.at("large"), &data).unwrap();
    world.unmount(); // at once
    world.mount();
    assert!(fs::read(world.at("large")).unwrap() == data);
}

fn an_unmount_of_a_busy_mount_returns_and_publishes() {
    let world = World::mounted();
    let mut open = File::options().create(true).truncate(true).read(true).write(true).open(world.at("open")).unwrap();
    open.write_all(b"written through an open file").unwrap();
    fs::create_dir(world.at("inside")).unwrap();
    let mut sits =
        Command::new("sleep").arg("600").current_dir(world.at("inside")).stdin(Stdio::null()).spawn().unwrap();
    let said = world.jaxfs_here(&["unmount"]);
    sits.kill().unwrap();
    sits.wait().unwrap();
    assert!(said.err.contains("in use"), "{}", said.err);
    said.ok();
    assert!(!world.is_mounted());
    // Nothing is taken any more that would be lost.
    assert!(open.write_all(b"late").is_err());
    drop(open);
    wait_for("the node leaves", SOON, || world.node().is_none());
    world.mount();
    assert_eq!(fs::read(world.at("open")).unwrap(), b"written through an open file");
    assert!(world.at("inside").is_dir());
}

fn a_detached_mount_never_publishes_over_a_newer_version() {
    let world = World::mounted();
    // Another mount keeps the node, and with it what is left of the first one.
    world.jaxfs(&["buckets", "create", "second"]).ok();
    let second = world.outside("second");
    fs::create_dir(&second).unwrap();
    world.jaxfs(&["mount", second.to_str().unwrap()]).ok();
    fs::write(world.at("file"), b"old").unwrap();
    fs::create_dir(world.at("inside")).unwrap();
    let mut sits =
        Command::new("sleep").arg("600").current_dir(world.at("inside")).stdin(Stdio::null()).spawn().unwrap();
    world.jaxfs_here(&["unmount"]).ok();
    world.mount();
    fs::write(world.at("file"), b"new").unwrap();
    world.sync();
    let (head, sessions) = (world.manifests(), || threads(&world, "jaxfs-session"));
    assert_eq!(sessions(), 3);
    sits.kill().unwrap();
    sits.wait().unwrap();
    wait_for("the detached mount ends", SOON, || sessions() == 2);
    assert_eq!(world.manifests(), head);
    world.jaxfs_here(&["unmount"]).ok();
    world.mount();
    assert_eq!(fs::read(world.at("file")).unwrap(), b"new");
    world.jaxfs(&["unmount", second.to_str().unwrap()]).ok();
}

/// How many threads of this name the node has.
fn threads(world: &World, name: &str) -> usize {
    let node = world.node().unwrap();
    let tasks = fs::read_dir(format!("/proc/{}/task", node.as_raw_nonzero())).unwrap();
    let named = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name);
    tasks.flatten().map(named).filter(|is| *is).count()
}

fn a_mount_that_is_taken_away_is_noticed_and_all_is_published() {
    let world = World::mounted();
    fs::write(world.at("file"), b"just written").unwrap();
    let unmount = if rustix::process::geteuid().is_root() { "umount" } else { "fusermount3 -u" };
    world.jaxfs(&["status"]).ok();
    run(world.command("sh").args(["-c", &format!("{unmount} \"$OUT/Bucket\"")])).ok();
    wait_for("the node notices and leaves", SOON, || world.node().is_none());
    assert_eq!(world.status()["mount"], serde_json::Value::Null);
    assert_eq!(world.status()["head"]["unpublished"], false);
    world.mount();
    assert_eq!(fs::read(world.at("file")).unwrap(), b"just written");
}

fn the_node_leaves_with_its_last_mount() {
    let world = World::mounted();
    assert!(world.node().is_some());
    world.unmount();
    assert_eq!(world.node(), None);
    assert!(!world.home().join("node.sock").exists());
}

fn a_mount_in_the_foreground_ends_with_a_signal_and_publishes() {
    let world = World::new();
    let mut command = world.command(JAXFS);
    command.args(["mount", "--foreground"]).arg(world.dir()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    wait_for("it is mounted", SOON, || world.is_mounted());
    fs::write(world.at("file"), b"kept").unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    wait_for("it ends", SOON, || child.try_wait().unwrap().is_some());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(child.wait().unwrap().success(), "{err}");
    assert!(!world.is_mounted());
    world.mount();
    assert_eq!(fs::read(world.at("file")).unwrap(), b"kept");
}

fn a_directory_with_a_strange_name_is_mounted_on() {
    for name in [&b"with space, comma\\and $(more)"[..], b"two\nlines", b"not \xff UTF-8", b"-f"] {
        let world = World::new();
        let dir = world.outside("").join(OsStr::from_bytes(name));
        fs::create_dir(&dir).unwrap();
        run(world.command(JAXFS).args(["mount", "--"]).arg(&dir)).ok();
        fs::write(dir.join("file"), b"kept").unwrap();
        world.status();
        run(world.command(JAXFS).args(["unmount", "--"]).arg(&dir)).ok();
        assert!(!dir.join("file").exists());
        run(world.command(JAXFS).args(["mount", "--"]).arg(&dir)).ok();
        assert_eq!(fs::read(dir.join("file")).unwrap(), b"kept");
        run(world.command(JAXFS).args(["unmount", "--"]).arg(&dir)).ok();
    }
}

fn a_place_inside_the_mount_means_the_mount() {
    let world = World::mounted();
    world.sh(
        "mkdir -p a/b; cd a/b; \"$JAXFS\" sync .; \"$JAXFS\" log . > /dev/null; \"$JAXFS\" status ../.. > /dev/null",
    );
    std::os::unix::fs::symlink(world.dir(), world.outside("link")).unwrap();
    world.sh("\"$JAXFS\" sync \"$OUT/link\"; cd \"$OUT\"; \"$JAXFS\" unmount link");
    assert!(!world.is_mounted());
}

fn many_mount_at_once_and_one_node_serves_them() {
    let world = World::new();
    for at in 0..6 {
        let name = format!("bucket-{at}");
        world.jaxfs(&["buckets", "create", &name]).ok();
        fs::create_dir(world.outside(&name)).unwrap();
    }
    let at_once = |command: &str| {
        let script = format!(
            "cd \"$OUT\"; all=; for at in 0 1 2 3 4 5; do \"$JAXFS\" {command} bucket-$at & all+=\" $!\"; done; \
             for one in $all; do wait $one; done"
        );
        world.sh(&script);
    };
    at_once("mount");
    world.sh("for at in 0 1 2 3 4 5; do echo $at > \"$OUT/bucket-$at/file\"; done");
    at_once("unmount");
    wait_for("the node leaves", SOON, || world.node().is_none());
    at_once("mount");
    world.sh("for at in 0 1 2 3 4 5; do test \"$(cat \"$OUT/bucket-$at/file\")\" = $at; done");
    at_once("unmount");
}
