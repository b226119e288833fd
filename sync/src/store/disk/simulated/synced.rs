//! Something on a disk: what is synced, the changes since, and what a program sees of both.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::content::Content;
use super::random::Random;

/// What a disk writes at once, or not at all.
const SECTOR: u64 = 512;

/// Changed by changes that may reach the disk or not.
pub(super) trait Changing: Clone + Default {
    type Change: Clone;
    fn apply(&mut self, change: &Self::Change);
    /// The parts of a change that reach the disk independently.
    fn parts(change: &Self::Change) -> Vec<Self::Change>;
}

#[derive(Clone, Debug)]
pub(super) struct Synced<T: Changing> {
    durable: T,
    /// Each with the number of its operation.
    pending: Vec<(u64, T::Change)>,
    seen: T,
}

impl<T: Changing> Default for Synced<T> {
    fn default() -> Self {
        Self { durable: T::default(), pending: Vec::new(), seen: T::default() }
    }
}

/// What a crash leaves of that which was not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Style {
    Nothing,
    Everything,
    /// What came before an operation.
    Before(u64),
    /// Any changes.
    Changes,
    /// Any sectors of any changes.
    Sectors,
}

impl Style {
    pub(super) fn any(random: &mut Random, operations: u64) -> Self {
        match random.below(7) {
            0 => Style::Nothing,
            1 => Style::Everything,
            // Rather lately than long ago.
            2 => Style::Before(operations.saturating_sub(random.below(operations.min(10) + 1))),
            3 | 4 => Style::Changes,
            _ => Style::Sectors,
        }
    }
}

impl<T: Changing> Synced<T> {
    pub(super) const fn seen(&self) -> &T {
        &self.seen
    }

    pub(super) fn apply(&mut self, number: u64, change: T::Change) {
        self.seen.apply(&change);
        self.pending.push((number, change));
    }

    pub(super) fn sync(&mut self) {
        for (_, change) in std::mem::take(&mut self.pending) {
            self.durable.apply(&change);
        }
    }

    /// Some of it is on the disk; the rest is lost, and may be seen to be.
    pub(super) fn fail_to_sync(&mut self, random: &mut Random) {
        self.keep(Style::Sectors, random);
        if random.once_in(2) {
            self.seen = self.durable.clone();
        }
    }

    pub(super) fn crash(&mut self, style: Style, random: &mut Random) {
        self.keep(style, random);
        self.seen = self.durable.clone();
    }

    fn keep(&mut self, style: Style, random: &mut Random) {
        for (number, change) in std::mem::take(&mut self.pending) {
            match style {
                Style::Nothing => {}
                Style::Everything => self.durable.apply(&change),
                Style::Before(end) if number < end => self.durable.apply(&change),
                Style::Before(_) => {}
                Style::Changes if random.once_in(2) => self.durable.apply(&change),
                Style::Changes => {}
                Style::Sectors => {
                    let parts = T::parts(&change);
                    parts.iter().filter(|_| random.once_in(2)).for_each(|part| self.durable.apply(part));
                }
            }
        }
    }
}

impl Synced<Content> {
    pub(super) fn damage(&mut self, offset: u64, mask: u8) {
        let mut byte = [0];
        if self.durable.read(offset, &mut byte).is_ok() {
            self.durable.write(offset, &[byte[0] ^ mask]);
        }
        if self.seen.read(offset, &mut byte).is_ok() {
            self.seen.write(offset, &[byte[0] ^ mask]);
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum FileChange {
    Write { offset: u64, bytes: Arc<[u8]> },
    SetLen(u64),
}

impl Changing for Content {
    type Change = FileChange;

    fn apply(&mut self, change: &FileChange) {
        match change {
            FileChange::Write { offset, bytes } => self.write(*offset, bytes),
            FileChange::SetLen(len) => self.set_len(*len),
        }
    }

    fn parts(change: &FileChange) -> Vec<FileChange> {
        let FileChange::Write { offset, bytes } = change else { return vec![change.clone()] };
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let begins = offset + at as u64;
            let len = ((SECTOR - begins % SECTOR) as usize).min(bytes.len() - at);
            parts.push(FileChange::Write { offset: begins, bytes: bytes[at..at + len].into() });
            at += len;
        }
        parts
    }
}

/// A directory: names, and the numbers of what they name.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(pub(super) BTreeMap<String, u64>);

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Set { name: String, inode: u64 },
    Remove { name: String },
    Rename { from: String, to: String, inode: u64 },
}

impl Changing for Names {
    type Change = NameChange;

    fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Set { name, inode } => drop(self.0.insert(name.clone(), *inode)),
            NameChange::Remove { name } => drop(self.0.remove(name)),
            NameChange::Rename { from, to, inode } => {
                self.0.remove(from);
                self.0.insert(to.clone(), *inode);
            }
        }
    }

    fn parts(change: &NameChange) -> Vec<NameChange> {
        vec![change.clone()]
    }
}
