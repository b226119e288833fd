//! Moving to the version that is to be shown, while the mount is in use.
//!
//! All of it happens on the thread that writes back. First, with everybody going on, what is unpublished is put onto the new
//! version, or published where it was made, and what differs is looked at; most of the time goes there. Then changes are kept
//! out for as long as it takes to do the same with what came meanwhile, and to move the table. Reading goes on all the time. The kernel is told last, by another
//! thread.

#[cfg(test)]
pub(in crate::fs) mod tests;

use std::sync::Arc;
use std::time::Duration;

use jaxfs_sync::publish::Next;
use jaxfs_sync::tree::{Differences, Superblock};

use super::Fs;
use super::flush::Flusher;
use super::table::Stale;
use crate::errno::FsError;
use crate::writeback::Durability;

/// Attempts, where the chain goes on faster than they take.
const ATTEMPTS: usize = 8;

/// Where a move ends up.
struct Goal {
    superblock: Superblock,
    /// Something in it is not published.
    unpublished: bool,
}

impl Fs {
    /// Moves to the version that is to be shown, if it is not what is shown.
    ///
    /// # Errors
    /// If what is unpublished can not be published, or the new version can not be read. It is to be tried again then.
    pub(crate) fn turn(self: &Arc<Self>) -> Result<(), FsError> {
        for _ in 0..ATTEMPTS {
            let done = self.turn_once();
            self.do_deferred();
            if done? {
                return Ok(());
            }
        }
        Err(FsError::Again)
    }

    /// Whether it is done; not if something else is to be shown by now.
    fn turn_once(self: &Arc<Self>) -> Result<bool, FsError> {
        let mut flusher = self.flusher.lock();
        let Some(next) = self.bucket.next()? else { return Ok(true) };
        // Most of the work, with everybody going on.
        let (from, seen) = match self.goal(&mut flusher, &next)? {
            Some(goal) => (flusher.superblock().clone(), Some((self.difference(&flusher, &next, &goal)?, goal))),
            None => return Ok(false),
        };
        let closed = self.keep_gate(Duration::MAX);
        self.flush_with(&mut flusher, Durability::Memory)?;
        let seen = match seen.filter(|_| *flusher.superblock() == from) {
            Some(seen) => Some(seen),
            None => match self.goal(&mut flusher, &next)? {
                Some(goal) => Some((self.difference(&flusher, &next, &goal)?, goal)),
                None => None,
            },
        };
        let Some((differences, goal)) = seen else { return Ok(false) };
        let Some(stale) = self.turn_to(&mut flusher, &next, &differences, goal)? else { return Ok(false) };
        drop(closed);
        drop(flusher);
        tracing::info!(to = %next.link(), names = stale.names.len(), "another version is shown");
        self.news.tell(stale);
        // What came along is to be published there.
        self.changed();
        Ok(true)
    }

    /// What is to be shown: the other version, with what is unpublished, where both go together; else what is unpublished is
    /// published first where it was made, so that it is in the chain, whichever side wins. None if it is not the other version
    /// that is to be shown then.
    fn goal(&self, flusher: &mut Flusher, next: &Next) -> Result<Option<Goal>, FsError> {
        if !flusher.is_published() || self.has_changes() {
            self.flush_with(flusher, Durability::Memory)?;
            if let Some(superblock) = next.with(flusher.superblock())? {
                return Ok(Some(Goal { superblock, unpublished: true }));
            }
            self.flush_with(flusher, Durability::Published)?;
        }
        if !flusher.is_published() {
            return Err(FsError::ReadOnly);
        }
        let same = self.bucket.next()?.is_some_and(|now| now.link() == next.link());
        Ok(same.then(|| Goal { superblock: next.superblock().clone(), unpublished: false }))
    }

    fn has_changes(&self) -> bool {
        let table = self.table.lock();
        table.root_changed || !table.shared_changes.is_empty()
    }

    fn difference(&self, flusher: &Flusher, next: &Next, goal: &Goal) -> Result<Differences, FsError> {
        Ok(next.differences(flusher.superblock(), &goal.superblock)?)
    }

    fn turn_to(
        &self,
        flusher: &mut Flusher,
        next: &Next,
        differences: &Differences,
        goal: Goal,
    ) -> Result<Option<Stale>, FsError> {
        // Nothing is noted while changes are kept out, so that the next generation is empty.
        let generation = self.table.lock().log.generation() + 1;
        let unpublished = Some(&goal.superblock).filter(|_| goal.unpublished);
        if !self.bucket.turn_to(next, unpublished, generation)? {
            return Ok(None);
        }
        let mut table = self.table.lock();
        table.log.freeze();
        table.log.durable(generation);
        let stale = table.turn(&goal.superblock, differences, |record| self.object(record));
        // Before anybody is told of it.
        self.news.expect();
        drop(table);
        let reached = if goal.unpublished { Durability::Durable } else { Durability::Published };
        *flusher = Flusher::new(goal.superblock, reached, next.link(), generation);
        Ok(Some(stale))
    }

    /// The names and attributes that the kernel is yet to be told of.
    pub(crate) fn news_for_kernel(&self) -> Arc<crate::invalidate::News> {
        Arc::clone(&self.news)
    }
}
