//! Moving to the version that is to be shown, while the mount is in use.
//!
//! All of it happens on the thread that writes back. First, with everybody going on, what is unpublished is published where it
//! was made, and what differs is looked at; most of the time goes there. Then changes are kept out for as long as it takes to
//! publish what came meanwhile, and to move the table. Reading goes on all the time. The kernel is told last, by another
//! thread.

#[cfg(test)]
pub(in crate::fs) mod tests;

use std::sync::Arc;
use std::time::Duration;

use jaxfs_sync::publish::Next;
use jaxfs_sync::tree::Differences;
use parking_lot::MutexGuard;

use super::Fs;
use super::flush::Flusher;
use super::table::Stale;
use crate::errno::FsError;
use crate::writeback::Durability;

/// Attempts, where the chain goes on faster than they take.
const ATTEMPTS: usize = 8;

impl Fs {
    /// Moves to the version that is to be shown, if it is not what is shown.
    ///
    /// # Errors
    /// If what is unpublished can not be published, or the new version can not be read. It is to be tried again then.
    pub(crate) fn turn(self: &Arc<Self>) -> Result<(), FsError> {
        for _ in 0..ATTEMPTS {
            if self.bucket.next()?.is_none() {
                return Ok(());
            }
            // What is made here is in the chain, whichever side wins.
            self.flush(Durability::Published)?;
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
        let seen = (flusher.superblock().clone(), next.differences(flusher.superblock())?);
        let closed = self.keep_gate(Duration::MAX);
        self.flush_with(&mut flusher, Durability::Published)?;
        if !flusher.is_published() {
            return Err(FsError::ReadOnly);
        }
        if self.bucket.next()?.is_none_or(|now| now.link() != next.link()) {
            return Ok(false);
        }
        let differences = match seen {
            (from, differences) if from == *flusher.superblock() => differences,
            _ => next.differences(flusher.superblock())?,
        };
        let Some(stale) = self.turn_to(&mut flusher, &next, &differences)? else { return Ok(false) };
        drop(closed);
        drop(flusher);
        tracing::info!(to = %next.link(), names = stale.names.len(), "another version is shown");
        self.news.tell(stale);
        Ok(true)
    }

    fn turn_to(
        &self,
        flusher: &mut MutexGuard<'_, Flusher>,
        next: &Next,
        differences: &Differences,
    ) -> Result<Option<Stale>, FsError> {
        // Nothing is noted while changes are kept out, so that this generation is empty, and so is the next.
        let generation = self.table.lock().log.generation() + 1;
        if !self.bucket.turn_to(next, generation)? {
            return Ok(None);
        }
        let mut table = self.table.lock();
        table.log.freeze();
        table.log.durable(generation);
        let stale = table.turn(next.superblock(), differences, |record| self.object(record));
        // Before anybody is told of it.
        self.news.expect();
        drop(table);
        flusher.turned(next.superblock().clone(), next.link(), generation);
        Ok(Some(stale))
    }

    /// The names and attributes that the kernel is yet to be told of.
    pub(crate) fn news_for_kernel(&self) -> Arc<crate::invalidate::News> {
        Arc::clone(&self.news)
    }
}
