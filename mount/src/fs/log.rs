//! What was done to names and attributes since the last durable version, in its order, for the journal.
//!
//! Time is cut into *generations* by freezing: a version holds all changes of the generations before the one that its
//! freezing began. After a crash the journal's changes are done again from the first generation that the durable version
//! does not hold. Each generation can be read by itself: what a change names was made in it, or was located first.

use std::collections::{HashSet, VecDeque};

use jaxfs_sync::tree::{Change, FileId};

use super::table::Ino;
use crate::limits;

/// A change that is not in the journal.
#[derive(Debug)]
pub(super) struct Logged {
    pub(super) generation: u64,
    pub(super) change: Change,
    /// The files that it gives other names: their content has to be as safe as these.
    pub(super) moved: [Option<Ino>; 2],
}

/// The changes since the last durable version.
#[derive(Debug)]
pub(super) struct Log {
    generation: u64,
    /// Those that are not in the journal, and that no durable version holds.
    pending: VecDeque<Logged>,
    weight: usize,
    /// Files that changes of this generation may name.
    known: HashSet<FileId>,
    /// The last generation whose changes the journal can not have in full.
    gap: Option<u64>,
    /// The last generation that the journal has changes of, if no durable version holds it.
    journaled: Option<u64>,
    /// While changes are done again, they are in the journal already.
    muted: bool,
}

impl Log {
    /// Begins at a generation that no journal entry has. With `after_others`, entries of another run are there: nothing may
    /// follow them, since it can not be known whether they are whole, so that a version comes first.
    pub(super) fn new(generation: u64, after_others: bool) -> Self {
        let gap = if after_others { generation.checked_sub(1) } else { None };
        Self {
            generation,
            pending: VecDeque::new(),
            weight: 0,
            known: HashSet::new(),
            gap,
            journaled: None,
            muted: false,
        }
    }

    /// The generation that changes belong to now.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether changes have to be located before they name this file.
    pub(super) fn is_unknown(&self, id: FileId) -> bool {
        !self.muted && !self.known.contains(&id)
    }

    /// Notes a change. Where too much comes together, it is given up: the next version has to be made durable instead.
    pub(super) fn push(&mut self, change: Change) {
        self.push_moving(change, [None; 2]);
    }

    /// [`Log::push`] of a change that gives files other names.
    pub(super) fn push_moving(&mut self, change: Change, moved: [Option<Ino>; 2]) {
        if self.muted || self.gap == Some(self.generation) {
            return;
        }
        match &change {
            Change::Locate { id, .. } => drop(self.known.insert(*id)),
            Change::Make { record, .. } => drop(self.known.insert(record.id)),
            _ => {}
        }
        self.weight += change.weight();
        self.pending.push_back(Logged { generation: self.generation, change, moved });
        if self.weight > limits::LOG_BYTES {
            self.give_up();
        }
    }

    /// Until a version that holds everything up to now is durable, nothing is safe by the journal alone.
    pub(super) fn give_up(&mut self) {
        self.gap = Some(self.generation);
        self.pending.clear();
        self.weight = 0;
    }

    /// Content of the generations before this one was sealed, and is not durable yet.
    pub(super) fn sealed(&mut self) {
        self.gap = self.gap.max(self.generation.checked_sub(1));
    }

    /// Begins the next generation; gives its number.
    pub(super) fn freeze(&mut self) -> u64 {
        self.generation += 1;
        self.known.clear();
        self.generation
    }

    /// A version that holds everything before `generation` is durable.
    pub(super) fn durable(&mut self, generation: u64) {
        self.gap = self.gap.filter(|gap| *gap >= generation);
        self.journaled = self.journaled.filter(|journaled| *journaled >= generation);
        while self.pending.front().is_some_and(|logged| logged.generation < generation) {
            self.weight -= self.pending.pop_front().map_or(0, |logged| logged.change.weight());
        }
    }

    /// What is to be written to the journal now; none if that would not make everything durable.
    pub(super) fn take(&mut self) -> Option<Vec<Logged>> {
        if self.gap.is_some() {
            return None;
        }
        self.weight = 0;
        self.journaled = Some(self.generation);
        Some(std::mem::take(&mut self.pending).into())
    }

    /// Whether the journal may have what no durable version holds: somebody syncs.
    pub(super) const fn is_journaled(&self) -> bool {
        self.journaled.is_some()
    }

    /// Neither notes nor locates anything until this is called with `false`.
    pub(super) const fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }
}
