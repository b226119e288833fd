//! Both sides, and each call on both.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, FileType, OFlags, fstat};
use rustix::io::Errno;

use super::attributes::xattr_value;
use super::ground::{Ground, open_dir};
use super::listing::{Listing, all_entries, entries};
use super::op::{Op, SLOTS, Slot, Step, Who};
use super::outcome::{Outcome, Value, kind};
use super::place::Scene;
use super::side::Side;
use super::tree::{Depth, Moves, Tree, compare_mounts, look};

/// Both sides of one sequence.
pub(super) struct Pair<'a> {
    ground: &'a Ground,
    case: String,
    plain: Side,
    ours: Side,
    listings: [Option<[Listing; 2]>; SLOTS],
    moves: Moves,
    /// What there is, as long as that is known.
    scene: Option<Scene>,
}

impl<'a> Pair<'a> {
    /// Two empty directories.
    pub(super) fn new(ground: &'a Ground, case: String) -> Self {
        let [plain, ours] = ground.paths(&case).map(|path| {
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
            Side::new(open_dir(&path))
        });
        let moves = Moves::new(ground.fine);
        Self { ground, case, plain, ours, listings: Default::default(), moves, scene: None }
    }

    /// Makes a call on both sides, once it is settled what it is about.
    pub(super) fn step(&mut self, step: &mut Step) -> Result<(), String> {
        self.settle(step)?;
        match step.op {
            Op::Umask(mask) => (self.plain.umask, self.ours.umask) = (mask, mask),
            Op::Sync => self.ground.world.sync(),
            Op::Remount => return self.remount(),
            Op::Fsync { slot, .. } => return self.fsync(step, slot),
            Op::List { slot, room } => return self.list(slot, room),
            Op::Resume { slot, nth } => return self.resume(slot, nth),
            _ => return self.both(step),
        }
        Ok(())
    }

    fn settle(&mut self, step: &mut Step) -> Result<(), String> {
        let scene = match self.scene.take() {
            Some(scene) => scene,
            None => self.plain.scene().map_err(|errno| format!("on the plain side: {errno}"))?,
        };
        step.op.places().into_iter().flatten().for_each(|place| place.settle(&scene));
        step.op.uses().into_iter().flatten().for_each(|(slot, what)| scene.settle(slot, what));
        self.scene = Some(scene);
        Ok(())
    }

    fn both(&mut self, step: &Step) -> Result<(), String> {
        if self.changes_nothing(step) || self.ground.is_incomparable(&step.op) {
            return Ok(());
        }
        let outside = self.ground.outside.as_fd();
        if is_unsupported(&step.op) {
            return match self.ours.call(step, outside) {
                Some(Ok(_)) => Err("it is done, where it should be refused".to_owned()),
                _ => Ok(()),
            };
        }
        if matches!(step.op, Op::Utimes { .. }) {
            // A write-back that comes later would set the time to its own.
            [&self.plain, &self.ours].iter().flat_map(|side| side.maps.iter().flatten()).for_each(|map| {
                map.sync().unwrap();
            });
        }
        let plain = self.plain.call(step, outside);
        if plain.as_ref().is_some_and(|plain| is_lacking(&step.op, plain)) {
            return Ok(());
        }
        let ours = self.ours.call(step, outside);
        if plain != ours {
            let show =
                |outcome: Option<Outcome>| outcome.map_or_else(|| "nothing to do".to_owned(), |it| format!("{it:?}"));
            return Err(format!("{}, where it should be {}", show(ours), show(plain)));
        }
        if let Some(Ok(Value::Wrong(why))) = ours {
            return Err(why);
        }
        self.note(&step.op, matches!(ours, Some(Ok(_))))
    }

    /// Keeps up with what a call has changed.
    fn note(&mut self, op: &Op, done: bool) -> Result<(), String> {
        match op {
            Op::Open { slot, .. } | Op::Close(slot) | Op::Dup { to: slot, .. } if done => {
                self.listings[usize::from(*slot)] = None;
            }
            _ => {}
        }
        if !op.changes_scene() {
            return Ok(());
        }
        self.scene = None;
        for slot in 0..SLOTS {
            if self.listings[slot].is_some() {
                let names = self.names(slot as Slot);
                self.listings[slot].iter_mut().flatten().for_each(|listing| listing.changed(&names));
            }
        }
        Ok(())
    }

    /// Whether an attribute would be set to the value that it has.
    fn changes_nothing(&mut self, step: &Step) -> bool {
        let Op::SetXattr { on, name, data, .. } = &step.op else { return false };
        let op = Op::GetXattr { on: on.clone(), name: *name, room: 1 << 16 };
        let has = self.plain.call(&Step { who: Who::Root, op }, self.ground.outside.as_fd());
        has == Some(Ok(Value::Bytes(xattr_value(*name, *data))))
    }

    fn fsync(&mut self, step: &Step, slot: Slot) -> Result<(), String> {
        let Some(outcome) = self.ours.call(step, self.ground.outside.as_fd()) else { return Ok(()) };
        let file = self.ours.held(slot).ok().unwrap();
        let stored = [FileType::RegularFile, FileType::Directory].contains(&kind(&fstat(file).unwrap()));
        let expected = match stored {
            _ if Side::has(file, OFlags::PATH) => Err(Errno::BADF),
            true => Ok(Value::Done),
            false => Err(Errno::INVAL),
        };
        if outcome == expected { Ok(()) } else { Err(format!("{outcome:?}, where it should be {expected:?}")) }
    }

    /// The names of a held directory; none if it is removed, or none.
    fn names(&self, slot: Slot) -> BTreeSet<Vec<u8>> {
        let Ok(dir) = self.plain.held(slot) else { return BTreeSet::new() };
        all_entries(dir).unwrap_or_default().into_iter().map(|entry| entry.name).collect()
    }

    fn list(&mut self, slot: Slot, room: usize) -> Result<(), String> {
        let (Ok(plain), Ok(ours)) = (self.plain.held(slot), self.ours.held(slot)) else { return Ok(()) };
        let new = self.listings[usize::from(slot)].is_none().then(|| self.names(slot));
        let (plain, ours) = match (entries(plain, room), entries(ours, room)) {
            (Ok(plain), Ok(ours)) => (plain, ours),
            (plain, ours) if plain.as_ref().err() == ours.as_ref().err() => return Ok(()),
            (plain, ours) => {
                let failed =
                    |entries: Result<Vec<_>, Errno>| entries.err().map_or("fine".to_owned(), |it| it.to_string());
                return Err(format!("it is {}, where it should be {}", failed(ours), failed(plain)));
            }
        };
        let place = &mut self.listings[usize::from(slot)];
        let listings = place.get_or_insert_with(|| [0, 1].map(|_| Listing::new(new.as_ref().unwrap())));
        listings[0].show(plain).map_err(|why| format!("on the plain side, {why}"))?;
        listings[1].show(ours)
    }

    fn resume(&mut self, slot: Slot, nth: Option<u8>) -> Result<(), String> {
        let (Ok(plain), Ok(ours)) = (self.plain.held(slot), self.ours.held(slot)) else { return Ok(()) };
        let Some(listings) = &mut self.listings[usize::from(slot)] else { return Ok(()) };
        // What is left of a directory that was removed has other offsets on ext4.
        if fstat(plain).unwrap().st_nlink == 0 {
            return Ok(());
        }
        let (there, here) = (listings[0].resume(plain, nth), listings[1].resume(ours, nth));
        if there != here {
            return Err(format!("{here:?}, where it should be {there:?}"));
        }
        if nth.is_none() {
            self.listings[usize::from(slot)] = None;
        }
        Ok(())
    }

    /// Reads all listings to their ends.
    pub(super) fn finish_listings(&mut self) -> Result<(), String> {
        for slot in 0..SLOTS as Slot {
            for _ in 0..if self.listings[usize::from(slot)].is_some() { 100 } else { 0 } {
                self.list(slot, 4096).map_err(|why| format!("slot {slot}: {why}"))?;
            }
        }
        Ok(())
    }

    /// Compares everything.
    pub(super) fn compare(&mut self, depth: Depth) -> Result<(), String> {
        self.compare_with(depth).map(|_| ())
    }

    fn compare_with(&mut self, depth: Depth) -> Result<Tree, String> {
        let plain = look(&self.plain, depth).map_err(|why| format!("on the plain side, {why}"))?;
        let ours = look(&self.ours, depth)?;
        self.moves.compare(&plain, &ours, &self.plain.written)?;
        // Writes through a mapping never change the times of a file on tmpfs.
        if !self.ground.is_tmpfs {
            self.plain.forget_written();
            self.ours.forget_written();
        }
        Ok(ours)
    }

    fn remount(&mut self) -> Result<(), String> {
        self.plain.close_all();
        self.ours.close_all();
        self.listings = Default::default();
        self.scene = None;
        let before = self.compare_with(Depth::All)?;
        // What is left of the side is a descriptor, which would keep the mount busy.
        self.ours.root = open_dir(Path::new("/"));
        self.ground.remount();
        self.ours.root = open_dir(&self.ground.paths(&self.case)[1]);
        let after = self.compare_with(Depth::All)?;
        compare_mounts(&before, &after)
    }

    /// Removes everything on both sides.
    pub(super) fn remove(mut self) -> Result<(), String> {
        self.plain.close_all();
        self.ours.close_all();
        for (side, path) in ["the plain side", "our side"].iter().zip(self.ground.paths(&self.case)) {
            fs::remove_dir_all(&path).map_err(|error| format!("removing everything on {side}: {error}"))?;
        }
        Ok(())
    }
}

/// Whether it is what FUSE does not pass on.
fn is_unsupported(op: &Op) -> bool {
    let moving = FallocateFlags::COLLAPSE_RANGE | FallocateFlags::INSERT_RANGE;
    matches!(op, Op::Allocate { how, .. } if how.intersects(moving))
}

/// Whether the plain side can not do a call for a reason of its own. Then it is not made on ours.
fn is_lacking(op: &Op, outcome: &Outcome) -> bool {
    match (op, outcome) {
        // ext4 has room for some 4 KiB of attributes.
        (Op::SetXattr { .. }, Err(Errno::NOSPC)) => true,
        // tmpfs knows no ranges of zeros, and before Linux 6.6 no attributes of users.
        (Op::Allocate { how, .. }, Err(Errno::OPNOTSUPP)) => how.contains(FallocateFlags::ZERO_RANGE),
        (Op::SetXattr { name, .. }, Err(Errno::OPNOTSUPP)) => *name < 6,
        _ => false,
    }
}
