//! The power goes under load, again and again: what `fsync` returned for is there.
//!
//! The home is on an ext4 on a loop device on a disk of our own, see [`disk`], which loses what was written and not flushed.
//! After each cut the disk is started with what is left, ext4 replays its journal, and the bucket is mounted again.
//!
//! `JAXFS_CUT_ROUNDS` says how often, `JAXFS_CUT_SEED` when, and what is lost.

mod disk;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use disk::{Counts, Disk, Platter};
use rustix::fs::Advice;

use crate::loads::{Loads, Random, check, is_sound, number, seed};
use crate::world::{SOON, Said, World, run_within};

crate::claims! {
    Loop: [
        a_disk_without_power_keeps_what_was_flushed,
        a_disk_that_lies_is_found_out,
        what_was_promised_survives_a_power_cut_at_any_moment,
    ],
}

/// Filled by rounds until half of it is used; then another is taken.
const SIZE: u64 = 768 << 20;

/// A home on a disk whose power can be cut.
struct Machine {
    world: World,
    disk: Option<Disk>,
    seed: u64,
    starts: u64,
}

impl Machine {
    /// One whose disk has an empty ext4.
    fn new(seed: u64) -> Self {
        let mut machine = Self { world: World::new(), disk: None, seed, starts: 0 };
        for folder in [machine.point(), machine.folder()] {
            fs::create_dir(folder).unwrap();
        }
        machine.world.move_home_to(&machine.folder().join("home"));
        machine.plug_in(Platter::default());
        let file = machine.disk().file();
        let make = "mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0";
        machine.host(&format!("{make} {}", file.display())).ok();
        machine.mount_disk();
        machine.host(&format!("mkdir -m 700 {0}/home; sync -f {0}", machine.folder().display())).ok();
        machine
    }

    /// Where the disk is shown as a file.
    fn point(&self) -> PathBuf {
        self.world.outside("disk")
    }

    /// Where its ext4 is mounted.
    fn folder(&self) -> PathBuf {
        self.world.outside("ext4")
    }

    fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap()
    }

    /// Runs a script of the shell beside the mount.
    #[track_caller]
    fn host(&self, script: &str) -> Said {
        run_within(SOON, self.world.command("bash").args(["-euc", script]).current_dir("/"))
    }

    fn plug_in(&mut self, platter: Platter) {
        self.starts += 1;
        let random = Random::new(self.seed, self.starts);
        self.disk = Some(Disk::start(platter, SIZE, random, &self.point()));
    }

    /// ext4 replays its journal, if need be. The loop device goes with the mount.
    #[track_caller]
    fn mount_disk(&self) {
        let (file, folder) = (self.disk().file(), self.folder());
        self.host(&format!("mount -t ext4 -o loop {} {}", file.display(), folder.display())).ok();
    }

    /// Takes everything down that stands on the disk, whose power is gone, and gives what it counted and what is left of it.
    fn take_down(&mut self) -> Option<(Counts, Platter)> {
        let disk = self.disk.take()?;
        disk.cut();
        self.world.kill_everything();
        let folder = self.folder();
        self.host(&format!("umount -l {} 2> /dev/null || true", self.world.dir().display()));
        self.host(&format!("umount {0} 2> /dev/null || umount -l {0} || true", folder.display()));
        let file = disk.file();
        // Errors, and no end of them, is what a loop device gets that somebody still holds.
        let start = Instant::now();
        while has_loop(&file) && start.elapsed() < SOON {
            std::thread::sleep(Duration::from_millis(5));
        }
        let counts = disk.counts();
        Some((counts, disk.platter()))
    }

    /// Starts anew with what the disk had kept.
    #[track_caller]
    fn power_up(&mut self) -> Counts {
        let (counts, platter) = self.take_down().unwrap();
        assert!(!has_loop(&self.point().join(disk::NAME)), "a loop device stays");
        self.plug_in(platter);
        self.mount_disk();
        counts
    }

    /// How much of the disk is used, in percent.
    fn used(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.folder()).unwrap();
        100 - stat.f_bavail * 100 / stat.f_blocks
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.world.home().join("node.log")).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("the last lines of node.log, newest first:\n{}", tail.join("\n"));
        }
        if let Some(disk) = &self.disk {
            disk.cut();
        }
        self.take_down();
    }
}

/// Whether a loop device stands on a file.
fn has_loop(file: &Path) -> bool {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let files = devices.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.into_iter().any(|text| text.trim_end().trim_end_matches(" (deleted)") == file.as_os_str())
}

fn a_disk_without_power_keeps_what_was_flushed() {
    let mut machine = Machine::new(1);
    let folder = machine.folder().display().to_string();
    for round in 0..5 {
        let before = machine.disk().counts().flushes;
        machine
            .host(&format!("cd {folder}; echo kept > kept-{round}; sync kept-{round}; echo lost > lost-{round}"))
            .ok();
        assert!(machine.disk().counts().flushes > before, "a sync of ext4 does not reach the disk");
        machine.disk().cut();
        machine.power_up();
        machine.host(&format!("cd {folder}; grep -q kept kept-{round}; test ! -s lost-{round}")).ok();
    }
}

fn a_disk_that_lies_is_found_out() {
    let mut machine = Machine::new(1);
    let world = &machine.world;
    world.mount();
    world.sync();
    machine.host(&format!("sync -f {}", machine.folder().display())).ok();
    machine.disk().lie();
    let loads = Loads::start(world);
    std::thread::sleep(Duration::from_millis(700));
    machine.disk().cut();
    machine.world.kill_everything();
    loads.wait(&machine.world);
    // Not even the disk's own file system may come up.
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        machine.power_up();
        machine.world.mount();
        check(&machine.world)
    }));
    assert!(broken.is_err(), "promises were kept without a flush");
}

/// Has the kernel write what it would keep for half a minute, and forget it, until the power goes. Nothing is flushed.
fn write_back_early(machine: &Machine) {
    let bucket = fs::read_dir(machine.world.home().join("buckets")).into_iter().flatten().flatten().next();
    let Some(bucket) = bucket else { return };
    while !machine.disk().is_dead() {
        let folders = ["", "packs", "journal"].map(|name| bucket.path().join(name));
        let entries = folders.iter().flat_map(fs::read_dir).flatten().flatten();
        for file in entries.filter_map(|entry| fs::File::open(entry.path()).ok()) {
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Cuts the power while the node works, at a moment of its own or between two requests to the disk.
fn cut_under_load(machine: &Machine, random: &mut Random) {
    let loads = Loads::start(&machine.world);
    let early = random.below(3) > 0;
    std::thread::scope(|scope| {
        if early {
            scope.spawn(|| write_back_early(machine));
        }
        std::thread::sleep(Duration::from_millis(100 + random.below(900)));
        machine.disk().cut_after(random.below(40));
        let start = Instant::now();
        while !machine.disk().is_dead() && start.elapsed() < SOON {
            std::thread::sleep(Duration::from_millis(1));
        }
        let by_itself = machine.disk().is_dead();
        machine.disk().cut();
        assert!(by_itself, "nothing reaches the disk");
    });
    // What is said of the dead disk must not be believed either.
    std::thread::sleep(Duration::from_millis(random.below(200)));
    machine.world.kill_everything();
    loads.wait(&machine.world);
}

/// Cuts it once more while what was left is opened.
fn cut_at_the_start(machine: &Machine, random: &mut Random) {
    machine.disk().cut_after(random.below(60));
    let said = machine.world.try_mount(&[]);
    assert!(said.status.success() || !said.err.is_empty());
}

fn what_was_promised_survives_a_power_cut_at_any_moment() {
    let rounds = number("JAXFS_CUT_ROUNDS", 8);
    let seed = seed("JAXFS_CUT_SEED");
    let (mut promised, mut total) = (0, Counts::default());
    let mut machine: Option<Machine> = None;
    for round in 0..rounds {
        if machine.as_ref().is_none_or(|machine| machine.used() > 50) {
            let new = Machine::new(seed.wrapping_add(round));
            new.world.mount();
            machine = Some(new);
        }
        let machine = machine.as_mut().unwrap();
        let mut random = Random::new(seed, round);
        cut_under_load(machine, &mut random);
        let mut counts = vec![machine.power_up()];
        if random.below(3) == 0 {
            cut_at_the_start(machine, &mut random);
            counts.push(machine.power_up());
        }
        machine.world.mount();
        promised = check(&machine.world);
        is_sound(&machine.world);
        for count in counts {
            total.writes += count.writes;
            total.flushes += count.flushes;
            total.lost += count.lost;
        }
    }
    println!("{promised} promises kept, the last disk's, over {rounds} power cuts: {total:?}");
}
