//! Listings that are taken up again while names come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, OFlags, RawDir, SeekFrom, openat, seek};
use rustix::io::Errno;

/// An entry of a directory.
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) ino: u64,
    pub(super) kind: FileType,
    /// Where a listing goes on behind it.
    pub(super) cookie: u64,
}

/// One reading of a directory, from where it stands.
pub(super) fn entries(dir: BorrowedFd<'_>, room: usize) -> Result<Vec<Entry>, Errno> {
    let mut buffer = Vec::with_capacity(room);
    let mut raw = RawDir::new(dir, &mut buffer.spare_capacity_mut()[..room]);
    let mut entries = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let (name, ino, kind) = (entry.file_name().to_bytes().to_vec(), entry.ino(), entry.file_type());
        entries.push(Entry { name, ino, kind, cookie: entry.next_entry_cookie() });
        if raw.is_buffer_empty() {
            break;
        }
    }
    Ok(entries)
}

/// All entries of a directory but `.` and `..`.
pub(super) fn all_entries(dir: BorrowedFd<'_>) -> Result<Vec<Entry>, Errno> {
    let own = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let (mut all, own) = (Vec::new(), std::os::fd::AsFd::as_fd(&own));
    loop {
        let some = entries(own, 32 << 10)?;
        if some.is_empty() {
            all.retain(|entry: &Entry| entry.name != b"." && entry.name != b"..");
            return Ok(all);
        }
        all.extend(some);
    }
}

/// A listing in pieces.
pub(super) struct Listing {
    /// What was shown before the place where it stands, with the cookies behind.
    shown: Vec<(Vec<u8>, u64)>,
    /// What was there at its start, and always since.
    stayed: BTreeSet<Vec<u8>>,
    /// What was there at any time since its start.
    ever: BTreeSet<Vec<u8>>,
}

impl Listing {
    /// A listing at its start, of a directory with these names.
    pub(super) fn new(names: &BTreeSet<Vec<u8>>) -> Self {
        let names: BTreeSet<_> = names.iter().cloned().chain([b".".to_vec(), b"..".to_vec()]).collect();
        Self { shown: Vec::new(), stayed: names.clone(), ever: names }
    }

    /// The directory has these names now.
    pub(super) fn changed(&mut self, names: &BTreeSet<Vec<u8>>) {
        self.stayed.retain(|name| names.contains(name) || name == b"." || name == b"..");
        self.ever.extend(names.iter().cloned());
    }

    /// It goes on. At the end, what was there all along has to have been shown once.
    pub(super) fn show(&mut self, entries: Vec<Entry>) -> Result<(), String> {
        if !entries.is_empty() {
            self.shown.extend(entries.into_iter().map(|entry| (entry.name, entry.cookie)));
            return Ok(());
        }
        let mut times = BTreeMap::<&[u8], usize>::new();
        for (name, _) in &self.shown {
            *times.entry(name).or_default() += 1;
            if !self.ever.contains(name) {
                return Err(format!("a listing shows \"{}\", which was never there", name.escape_ascii()));
            }
        }
        match self.stayed.iter().find(|name| times.get(&name[..]) != Some(&1)) {
            None => Ok(()),
            Some(name) => {
                let times = times.get(&name[..]).unwrap_or(&0);
                Err(format!("a listing shows \"{}\", which stayed, {times} times", name.escape_ascii()))
            }
        }
    }

    /// Takes it up behind the `nth` entry that it has shown, or at its start: then it is a new one.
    pub(super) fn resume(&mut self, dir: BorrowedFd<'_>, nth: Option<u8>) -> Result<(), Errno> {
        let keep = nth.map_or(0, |nth| usize::from(nth) % (self.shown.len() + 1));
        let cookie = keep.checked_sub(1).map_or(0, |last| self.shown[last].1);
        seek(dir, SeekFrom::Start(cookie))?;
        self.shown.truncate(keep);
        Ok(())
    }
}
