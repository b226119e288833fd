//! The disk that the home is on is full, in the middle of everything: that is said, nothing is lost by it, and it is over
//! when there is room again.
//!
//! `JAXFS_FULL_ROUNDS` says how often it fills up under load, `JAXFS_FULL_SEED` when, and how much is left.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use crate::loads::{Loads, Random, check, is_sound, number, seed};
use crate::world::{JAXFS, Said, World, run_within};

crate::claims! {
    Root: [
        a_full_tmpfs_is_said_and_nothing_else_is_wrong,
        a_mount_comes_up_on_a_full_disk_and_has_what_was_fsynced,
        a_first_mount_on_a_full_disk_is_refused_in_one_line,
        a_log_that_can_not_be_written_keeps_nobody_from_working,
    ],
    Loop: [
        a_full_ext4_is_said_and_nothing_else_is_wrong,
        what_was_promised_survives_a_tmpfs_that_fills_up,
        what_was_promised_survives_an_ext4_that_fills_up,
    ],
}

/// No command takes longer on a full disk.
const HANG: Duration = Duration::from_secs(60);
const SCRIPT: &str = include_str!("scripts/full.py");

/// A world whose home is on a small disk, and the rest of that disk.
struct Small {
    world: World,
    disk: PathBuf,
}

impl Small {
    fn tmpfs(mebibytes: u64) -> Self {
        let world = World::on_a_disk_of(&format!("{mebibytes}M"));
        Self { disk: world.outside("disk"), world }
    }

    fn ext4(mebibytes: u64) -> Self {
        let world = World::new();
        world.sh(&format!(
            "mkdir \"$OUT/disk\"; truncate -s {mebibytes}M \"$OUT/image\"; mkfs.ext4 -q -m 0 \"$OUT/image\"; \
             mount -o loop \"$OUT/image\" \"$OUT/disk\"; mkdir -m 700 \"$OUT/disk/home\""
        ));
        world.move_home_to(&world.outside("disk/home"));
        Self { disk: world.outside("disk"), world }
    }

    fn ballast(&self) -> PathBuf {
        self.disk.join("ballast")
    }

    /// Takes all room that there is, but this many bytes.
    fn fill(&self, left: u64) {
        let mut file = File::options().append(true).create(true).open(self.ballast()).unwrap();
        for part in [1 << 20, 1 << 16, 1 << 12] {
            let zeros = vec![0; part];
            while file.write_all(&zeros).and_then(|()| if part == 1 << 20 { file.sync_data() } else { Ok(()) }).is_ok()
            {
            }
        }
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(left)).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
        // The mount looks again how much room there is after a moment.
        std::thread::sleep(Duration::from_millis(200));
    }

    fn used(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.disk).unwrap();
        100 - stat.f_bavail * 100 / stat.f_blocks
    }

    /// Runs the program, which must not hang.
    fn jaxfs(&self, args: &[&str]) -> Said {
        run_within(HANG, self.world.command(JAXFS).args(args))
    }

    /// `jaxfs mount`, which may be refused for want of room.
    fn try_mount(&self) -> bool {
        let said = self.jaxfs(&["mount", self.world.dir().to_str().unwrap()]);
        if !said.status.success() {
            says_full(&said);
        }
        said.status.success()
    }

    /// What may not be in the log, whatever happened.
    fn log_is_calm(&self) {
        let log = fs::read_to_string(self.world.home().join("node.log")).unwrap_or_default();
        assert!(!log.contains("panicked") && !log.contains("does not fit"), "{log}");
    }
}

/// It failed with one line that says why.
#[track_caller]
fn says_full(said: &Said) {
    assert!(!said.status.success(), "{}", said.out);
    let line = said.err.to_lowercase();
    assert!(line.contains("space") || line.contains("full"), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
}

/// What was safe before the disk filled up.
fn make_something(small: &Small) {
    let world = &small.world;
    world.mount();
    world.sh("head -c 3M /dev/urandom | tee \"$OUT/kept\" > kept; sync kept; mkdir many");
    world.python("for at in range(200): open(f'many/{at}', 'w').write(f'{at}' * 3000)");
    world.sync();
}

fn is_said(small: &Small) {
    let world = &small.world;
    make_something(small);
    for round in 0..3 {
        // With something under way, of which nobody knows yet whether there is room for it.
        world.sh(&format!("head -c 700K /dev/urandom | tee \"$OUT/late-{round}\" > late-{round}"));
        small.fill(0);
        let kept = world.outside("kept");
        let mut command = world.command("python3");
        command.args(["-c", SCRIPT]).arg(&kept).current_dir(world.dir());
        run_within(HANG, &mut command).ok();
        let said = small.jaxfs(&["sync", world.dir().to_str().unwrap()]);
        if !said.status.success() {
            says_full(&said);
        }
        small.make_room();
        // The mount is the same.
        world.sh(&format!("echo back > back-{round}; sync back-{round}; head -c 2M /dev/urandom > after; rm -f more"));
        world.sync();
        world.sh(
            "for late in late-*; do cmp $late \"$OUT/$late\"; done; cmp kept \"$OUT/kept\"; rm -r many; mkdir many",
        );
        world.python("for at in range(200): open(f'many/{at}', 'w').write(f'{at}' * 3000)");
        small.log_is_calm();
    }
    world.remount();
    world.sh("for late in late-*; do cmp $late \"$OUT/$late\"; done; cmp kept \"$OUT/kept\"; cat back-*");
    is_sound(world);
}

fn a_full_tmpfs_is_said_and_nothing_else_is_wrong() {
    is_said(&Small::tmpfs(96));
}

fn a_full_ext4_is_said_and_nothing_else_is_wrong() {
    is_said(&Small::ext4(128));
}

fn a_mount_comes_up_on_a_full_disk_and_has_what_was_fsynced() {
    for left in [0, 4 << 10, 100 << 10, 1 << 20, 5 << 20, 9 << 20] {
        let small = Small::tmpfs(96);
        let world = &small.world;
        make_something(&small);
        world.sh("mkdir new; head -c 300K /dev/urandom | tee \"$OUT/safe\" > new/safe; sync new/safe");
        world.sh("mv many/1 new/1; rm many/2; chmod 600 many/3; sync .");
        world.kill_node();
        small.fill(left);
        let as_it_was = "cmp kept \"$OUT/kept\"; cmp new/safe \"$OUT/safe\"; test -s new/1; test ! -e many/1; \
                         test ! -e many/2; test $(stat -c %a many/3) = 600; cat many/* > \"$OUT/null\"";
        if small.try_mount() {
            world.sh(as_it_was);
            world.sh("rm many/4");
            world.kill_node();
            small.make_room();
            world.mount();
        } else {
            small.make_room();
            world.mount();
        }
        world.sh(as_it_was);
        world.sync();
        world.remount();
        world.sh(as_it_was);
        is_sound(world);
        small.log_is_calm();
    }
}

fn a_first_mount_on_a_full_disk_is_refused_in_one_line() {
    for left in [0, 4 << 10, 100 << 10, 1 << 20] {
        let small = Small::tmpfs(32);
        small.fill(left);
        if small.try_mount() {
            small.world.sh("ls");
            small.world.unmount();
        }
        small.make_room();
        small.world.mount();
        small.world.sh("echo x > x");
        small.world.remount();
        small.world.sh("cat x");
        is_sound(&small.world);
    }
}

fn a_log_that_can_not_be_written_keeps_nobody_from_working() {
    let small = Small::tmpfs(96);
    make_something(&small);
    let world = &small.world;
    // To where the next line needs a page more.
    let mut log = File::options().append(true).open(world.home().join("node.log")).unwrap();
    let length = log.metadata().unwrap().len();
    log.write_all(&vec![b'\n'; (length.next_multiple_of(4096) - length) as usize]).unwrap();
    small.fill(0);
    // Nodes say when they begin and end.
    world.remount();
    world.sh("rm many/1; cat many/* | wc -c; cmp kept \"$OUT/kept\"; rm many/2");
    says_full(&small.jaxfs(&["sync", world.dir().to_str().unwrap()]));
    let node = world.node();
    small.make_room();
    world.sh("mkdir folder; cmp kept \"$OUT/kept\"");
    world.sync();
    assert_eq!(world.node(), node, "the node is another");
    is_sound(world);
}

/// Fills the disk under load, makes room, and looks at what was promised; now and then a node is killed on the full disk.
fn fills_up(make: fn() -> Small, name: &str, rounds: u64) {
    let seed = seed("JAXFS_FULL_SEED");
    let (mut promised, mut refused) = (0, 0);
    let mut small: Option<Small> = None;
    for round in 0..rounds {
        if small.as_ref().is_none_or(|small| small.used() > 40) {
            let new = make();
            new.world.mount();
            small = Some(new);
        }
        let small = small.as_ref().unwrap();
        let world = &small.world;
        let mut random = Random::new(seed, round);
        let loads = Loads::start(world);
        std::thread::sleep(Duration::from_millis(100 + random.below(700)));
        small.fill([0, 0, random.below(64 << 10), random.below(4 << 20)][random.below(4) as usize]);
        match random.below(3) {
            0 => {
                // Not all of them fill a disk, or hear of it soon.
                std::thread::sleep(Duration::from_millis(random.below(1000)));
                world.kill_node();
                loads.wait(world);
                // Whoever has nothing mounted needs no room to be told so.
                if !small.try_mount() {
                    refused += 1;
                    small.make_room();
                    world.mount();
                }
            }
            _ => {
                for said in loads.wait(world) {
                    // What sqlite says has no number.
                    assert!(!said.contains("[Errno") || said.contains("[Errno 28]"), "{said}");
                }
                let read_and_remove = "find . -type f -exec cat {} + > /dev/null; rm -rf 7/tree-0";
                let mut command = world.command("bash");
                run_within(HANG, command.args(["-euc", read_and_remove]).current_dir(world.dir())).ok();
            }
        }
        if small.ballast().exists() {
            small.make_room();
        }
        promised = check(world);
        world.sync();
        is_sound(world);
        small.log_is_calm();
    }
    println!(
        "{promised} promises kept, the last disk's, on {name} that was full {rounds} times; {refused} mounts refused"
    );
}

fn what_was_promised_survives_a_tmpfs_that_fills_up() {
    fills_up(|| Small::tmpfs(256), "a tmpfs", number("JAXFS_FULL_ROUNDS", 2));
}

fn what_was_promised_survives_an_ext4_that_fills_up() {
    fills_up(|| Small::ext4(256), "an ext4", number("JAXFS_FULL_ROUNDS", 2));
}
