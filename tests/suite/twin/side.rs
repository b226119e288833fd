//! One side of the twin test: a directory that is the root, what is held open, and the calls.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid, fcntl_getfl, fstat, openat, tell};
use rustix::io::Errno;
use rustix::process::{chroot, fchdir, umask};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::listing::all_entries;
use super::op::{Bits, MAPS, SLOTS, Slot, Step, Who};
use super::outcome::{Absent, Outcome, kind};
use super::place::{Place, Scene};
use super::raw::Mapping;

/// A directory in which everything happens, and what is open there.
pub(super) struct Side {
    pub(super) root: OwnedFd,
    pub(super) slots: [Option<OwnedFd>; SLOTS],
    pub(super) maps: [Option<Mapping>; MAPS],
    pub(super) umask: Bits,
    /// What was written through mappings, by its numbers, since it was forgotten.
    pub(super) written: BTreeSet<u64>,
}

/// This thread, inside of a side and as somebody. Dropped, it is outside and root again.
struct Inside<'a> {
    outside: BorrowedFd<'a>,
    umask: Mode,
}

impl<'a> Inside<'a> {
    fn enter(root: BorrowedFd<'_>, outside: BorrowedFd<'a>, mask: Bits, who: Who) -> Self {
        fchdir(root).unwrap();
        chroot(".").unwrap();
        let inside = Self { outside, umask: umask(bits(mask)) };
        let (uid, gid, groups): (u32, u32, &[u32]) = match who {
            Who::Root => return inside,
            Who::Ann => (1001, 1001, &[2000]),
            Who::Ben => (1002, 2000, &[]),
        };
        let groups: Vec<_> = groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
        set_thread_groups(&groups).unwrap();
        set_thread_res_gid(None::<Gid>, Gid::from_raw(gid), None::<Gid>).unwrap();
        set_thread_res_uid(None::<Uid>, Uid::from_raw(uid), None::<Uid>).unwrap();
        inside
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        set_thread_res_uid(None::<Uid>, Uid::ROOT, None::<Uid>).unwrap();
        set_thread_res_gid(None::<Gid>, Gid::ROOT, None::<Gid>).unwrap();
        set_thread_groups(&[]).unwrap();
        fchdir(self.outside).unwrap();
        chroot(".").unwrap();
        umask(self.umask);
    }
}

impl Side {
    pub(super) fn new(root: OwnedFd) -> Self {
        let (slots, maps, written) = Default::default();
        Self { root, slots, maps, umask: Bits(0o022), written }
    }

    /// What there is.
    pub(super) fn scene(&self) -> Result<Scene, Errno> {
        let mut paths = Vec::new();
        let mut open = vec![(Vec::new(), self.root.try_clone().unwrap())];
        while let Some((path, dir)) = open.pop() {
            for entry in all_entries(dir.as_fd())? {
                let below = if path.is_empty() { entry.name.clone() } else { [&path[..], b"/", &entry.name].concat() };
                if entry.kind == FileType::Directory {
                    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    open.push((below.clone(), openat(&dir, &entry.name[..], flags, Mode::empty())?));
                }
                paths.push((below, entry.kind));
            }
        }
        paths.sort_by(|one, other| one.0.cmp(&other.0));
        let slots = self.slots.each_ref().map(|file| file.as_ref().map(|file| kind(&fstat(file).unwrap())));
        Ok(Scene { paths, slots, maps: self.maps.each_ref().map(Option::is_some) })
    }

    /// Forgets what was written through mappings that are gone.
    pub(super) fn forget_written(&mut self) {
        let mapped: Vec<_> = self.maps.iter().flatten().map(|map| fstat(map.file()).unwrap().st_ino).collect();
        self.written.retain(|ino| mapped.contains(ino));
    }

    /// Closes everything.
    pub(super) fn close_all(&mut self) {
        (self.slots, self.maps) = Default::default();
    }

    /// Makes a call. Gives nothing if what it is about is not there: no descriptor, no mapping.
    pub(super) fn call(&mut self, step: &Step, outside: BorrowedFd<'_>) -> Option<Outcome> {
        let root = self.root.try_clone().unwrap();
        let _inside = Inside::enter(root.as_fd(), outside, self.umask, step.who);
        match self.content(&step.op).or_else(|| self.names(&step.op)).or_else(|| self.attributes(&step.op)) {
            Some(Err(Absent::Nothing)) => None,
            Some(Err(Absent::Because(errno))) => Some(Err(errno)),
            Some(Ok(value)) => Some(Ok(value)),
            None => panic!("nobody does {:?}", step.op),
        }
    }

    /// The descriptor in a slot.
    pub(super) fn held(&self, slot: Slot) -> Result<BorrowedFd<'_>, Absent> {
        self.slots[usize::from(slot)].as_ref().map(AsFd::as_fd).ok_or(Absent::Nothing)
    }

    pub(super) fn mapped(&self, map: Slot) -> Result<&Mapping, Absent> {
        self.maps[usize::from(map)].as_ref().ok_or(Absent::Nothing)
    }

    pub(super) fn at<'a>(&'a self, place: &'a Place) -> Result<(BorrowedFd<'a>, &'a [u8]), Absent> {
        match place {
            Place::Drawn(_) => panic!("a place that is not settled"),
            Place::At(None, path) => Ok((CWD, path)),
            Place::At(Some(slot), path) => Ok((self.held(*slot)?, path)),
        }
    }

    /// Where a descriptor stands; 0 if it can not stand anywhere, and for directories, whose offsets are their own.
    pub(super) fn standing(file: BorrowedFd<'_>) -> u64 {
        let directory = fstat(file).is_ok_and(|stat| kind(&stat) == FileType::Directory);
        if directory { 0 } else { tell(file).unwrap_or(0) }
    }

    pub(super) fn has(file: BorrowedFd<'_>, flags: OFlags) -> bool {
        fcntl_getfl(file).is_ok_and(|all| all.contains(flags))
    }
}

pub(super) fn bits(mode: Bits) -> Mode {
    Mode::from_raw_mode(mode.0.into())
}
