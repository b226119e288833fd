//! The file system exerciser: random reads, writes, mappings, truncations and holes in one file, each read checked.
//!
//! `JAXFS_FSX_SEEDS` (numbers with spaces between them) and `JAXFS_FSX_OPS` say which operations, and how many. More
//! than 200,000 of one seed are not worth their time: fsx 0.3.2 keeps every mapping that it reads from, which makes it
//! slow, and beyond 65,530 of them (`vm.max_map_count`) gets no more.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::world::{CHILD, Said, World, run_within};

crate::claims! {
    Fsx: [
        a_small_file_is_what_was_done_to_it_while_it_is_synced,
        a_large_file_is_what_was_done_to_it,
    ],
}

/// Operations of a run.
const OPERATIONS: u32 = 50_000;

/// Long enough that a version has a few changes in it.
const BETWEEN_SYNCS: Duration = Duration::from_millis(20);

/// Everything that fsx can do on Linux, with the weights of its operations.
const WEIGHTS: &str = "[weights]\nread = 10\nwrite = 10\nmapread = 5\nmapwrite = 5\ntruncate = 3\npunch_hole = 2\n\
                       copy_file_range = 2\nposix_fallocate = 1\nsendfile = 1\nposix_fadvise = 1\nclose_open = 1\n\
                       invalidate = 1\nfsync = 0.5\nfdatasync = 0.5\n";

struct Plan {
    seed: u64,
    /// Bytes of the file, and of an operation, at most.
    size: (u32, u32),
    /// Whether each write to a mapping waits until it is written back.
    msync: bool,
    /// Whether the mount is synced again and again meanwhile.
    synced: bool,
}

/// A part of a chunk, and often no more than the 256 bytes that lie in a record.
fn a_small_file_is_what_was_done_to_it_while_it_is_synced() {
    exercise(&Plan { seed: 1, size: (6_000, 3_000), msync: false, synced: true });
}

/// Up to nineteen chunks of 32 KiB, and more extents than lie in a record.
fn a_large_file_is_what_was_done_to_it() {
    exercise(&Plan { seed: 2, size: (600_000, 65_536), msync: true, synced: false });
}

fn exercise(plan: &Plan) {
    let operations = number("JAXFS_FSX_OPS").unwrap_or(OPERATIONS);
    let seeds = std::env::var("JAXFS_FSX_SEEDS").unwrap_or(plan.seed.to_string());
    for seed in seeds.split_whitespace() {
        let world = World::mounted();
        let (size, largest) = plan.size;
        // No operation is empty: an empty `fallocate` is refused, which fsx takes for a fault.
        let config = format!(
            "flen = {size}\nnomsyncafterwrite = {}\n[opsize]\nmin = 1\nmax = {largest}\n{WEIGHTS}",
            !plan.msync
        );
        fs::write(world.outside("fsx.toml"), config).unwrap();
        let fsx = |file: &Path| fsx(&world, seed, operations, file);
        // The same on a file system of the kernel, in memory if there is one.
        let elsewhere = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let expected = elsewhere.path().join("file");
        std::thread::scope(|scope| {
            let elsewhere = scope.spawn(|| fsx(&expected));
            let here = scope.spawn(|| fsx(&world.at("file")));
            while plan.synced && !here.is_finished() {
                world.sync();
                std::thread::sleep(BETWEEN_SYNCS);
            }
            for run in [here, elsewhere] {
                run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        });
        world.remount();
        assert!(fs::read(world.at("file")).unwrap() == fs::read(expected).unwrap(), "seed {seed}: not what was stored");
        world.jaxfs(&["verify"]).ok();
    }
}

/// Runs fsx on a new file.
#[track_caller]
fn fsx(world: &World, seed: &str, operations: u32, file: &Path) {
    let mut command = world.command("fsx");
    command.arg("-f").arg(world.outside("fsx.toml")).args(["-S", seed, "-N", &operations.to_string()]);
    command.arg("-P").arg(file.parent().unwrap()).arg(file).env("RUST_BACKTRACE", "0");
    let Said { status, out, err } = run_within(CHILD * (2 + operations / OPERATIONS), &mut command);
    let (replay, lines) = (format!("JAXFS_FSX_SEEDS={seed} JAXFS_FSX_OPS={operations}"), err.lines().count());
    // What differs, and the operations that led to it.
    let shown: Vec<_> =
        err.lines().enumerate().filter(|(at, _)| *at < 20 || at + 60 > lines).map(|(_, line)| line).collect();
    assert!(status.success(), "{replay} on {}: {status}\n{out}{}", file.display(), shown.join("\n"));
}

#[track_caller]
fn number(name: &str) -> Option<u32> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}
