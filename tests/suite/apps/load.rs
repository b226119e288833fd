//! Loads: many at once, who check what they read, or call whatever there is to call.

use std::fs;

use crate::walk::{describe, same};
use crate::world::{World, run};

crate::claims! {
    Mount: [
        blocks_written_in_every_manner_are_verified,
        ten_seconds_of_everything_at_once_break_nothing,
    ],
}

fn blocks_written_in_every_manner_are_verified() {
    let world = World::mounted();
    fs::write(world.outside("job"), include_str!("../scripts/verified.fio")).unwrap();
    let fio = |more: &str| world.try_sh(&format!("cd \"$OUT\"; fio --output-format=terse {more} job"));
    fio("").ok();
    fio("--verify_only").ok();
    world.remount();
    fio("--verify_only").ok();
    // It would have told of others.
    for job in ["uneven.0.0", "uneven.1.0", "direct.0.0", "direct-queue.0.0", "queue.0.0", "map.0.0", "growing.0.0"] {
        world.sh(&format!(
            "cp {job} \"$OUT/kept\"; dd if=/dev/zero of={job} bs=1k seek=1000 count=100 conv=notrunc status=none"
        ));
        let said = fio("--verify_only");
        assert!(!said.status.success() && said.err.contains(job), "{job}: {}", said.err);
        world.sh(&format!("cp \"$OUT/kept\" {job}"));
    }
    fio("--verify_only").ok();
    world.jaxfs(&["verify"]).ok();
}

/// Those of stress-ng that call a file system, and know when it is wrong. Left out: what FUSE has not (fiemap, verity),
/// and what is felt by the whole machine (io).
const STRESSORS: &[&str] = &[
    "access",
    "aio",
    "aiol",
    "chdir",
    "chmod",
    "chown",
    "copy-file",
    "dentry",
    "dir",
    "dirdeep",
    "dirmany",
    "dnotify",
    "dup",
    "fallocate",
    "fcntl",
    "filename",
    "flock",
    "fpunch",
    "fsize",
    "fstat",
    "getdent",
    "handle",
    "hdd",
    "inotify",
    "iomix",
    "lease",
    "link",
    "locka",
    "lockf",
    "lockofd",
    "mknod",
    "mmap",
    "msync",
    "open",
    "readahead",
    "rename",
    "revio",
    "seek",
    "sendfile",
    "splice",
    "symlink",
    "sync-file",
    "touch",
    "utime",
    "xattr",
];

/// What keeps their files small.
const SMALL: &[&str] = &[
    "--mmap-file",
    "--mmap-bytes",
    "4m",
    "--hdd-bytes",
    "4m",
    "--iomix-bytes",
    "4m",
    "--readahead-bytes",
    "4m",
    "--fallocate-bytes",
    "4m",
    "--seek-size",
    "4m",
    "--revio-bytes",
    "4m",
];

fn ten_seconds_of_everything_at_once_break_nothing() {
    let world = World::mounted();
    world.script(include_str!("../scripts/tree.py"), &["beside", "all"]);
    let before = describe(&world.at("beside"));
    fs::create_dir(world.at("stress")).unwrap();
    let mut command = world.command("nice");
    command
        .args(["stress-ng", "--verify", "--timeout", "10", "--temp-path", "stress"])
        .args(SMALL)
        .current_dir(world.dir());
    for stressor in STRESSORS {
        command.args([format!("--{stressor}"), "1".to_owned()]);
    }
    let said = run(&mut command);
    let wrong: Vec<_> = said.err.lines().chain(said.out.lines()).filter(|line| line.contains("fail")).collect();
    assert!(said.status.success() && wrong.is_empty(), "{}:\n{}", said.status, said.err);
    assert_eq!(world.sh("ls -A stress"), "", "they leave nothing, if all that they removed is gone");
    same(&before, &describe(&world.at("beside")));
    let node = fs::read_to_string(format!("/proc/{}/status", world.node().unwrap().as_raw_pid())).unwrap();
    let peak = node.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 256 << 10, "the node took {peak} KiB");
    world.remount();
    same(&before, &describe(&world.at("beside")));
    assert!(world.jaxfs(&["verify"]).ok().contains("is sound"));
    world.unmount();
}
