//! The journal of a bucket: changes that are safe, and in no durable version.

use super::{Bucket, BucketError};
use crate::limits;
use crate::store::{Frame, Store};
use crate::tree::{Change, JournalEntry};

/// The store's name for the first generation of changes that the newest durable version does not hold.
pub(super) const GENERATION: &str = "journal";

/// What the journal has beyond the newest durable version.
#[derive(Debug)]
pub struct Journaled {
    /// The first generation that the version does not hold.
    pub generation: u64,
    /// One that nothing in the journal has.
    pub next_generation: u64,
    /// There is something in it that no durable version holds, damaged perhaps: nothing may be added behind that.
    pub used: bool,
    /// Nothing in it is damaged.
    pub sound: bool,
    /// The changes, in their order.
    pub changes: Vec<Change>,
}

impl Bucket {
    /// Adds changes to the journal, each with its generation, which never falls: all of them or none. Durable on return.
    /// False if there is no room, or they are too much at once: then a version has to be made durable.
    ///
    /// # Errors
    /// If they can not be stored. Then, too, a version has to be made durable, and the journal takes nothing until it is.
    pub fn journal(&self, changes: impl IntoIterator<Item = (u64, Change)>) -> Result<bool, BucketError> {
        let keys = self.vault.keys();
        let seal = |(generation, entry): (u64, JournalEntry)| Frame { generation, payload: entry.seal(&keys) };
        let frames: Vec<_> = entries(changes).into_iter().map(seal).collect();
        if frames.iter().any(|frame| frame.payload.len() > limits::BLOCK_BYTES) {
            return Ok(false);
        }
        Ok(self.vault.store().journal(&frames)?)
    }

    /// Whether a version should be made durable soon, so that there is room in the journal.
    pub fn journal_is_filling(&self) -> bool {
        self.vault.store().journal_is_filling()
    }

    /// What the journal has beyond the newest durable version.
    ///
    /// # Errors
    /// If it can not be read. What is damaged in it ends it; that is no error, and is logged.
    pub fn journaled(&self) -> Result<Journaled, BucketError> {
        let store = self.vault.store();
        let generation = first_generation(store)?;
        let next_generation = store.last_journaled().map_or(generation, |last| last.max(generation)).saturating_add(1);
        let (frames, all) = store.journaled(generation)?;
        let used = !all || !frames.is_empty();
        let mut sound = all;
        if !all {
            tracing::error!("the journal is damaged: what was synced last is lost");
        }
        let (mut changes, mut group) = (Vec::new(), Vec::new());
        for frame in frames {
            let entry = match JournalEntry::open(&self.vault.keys(), &frame.payload) {
                Ok(entry) => entry,
                Err(error) => {
                    tracing::error!(%error, "the journal is damaged: what was synced last is lost");
                    sound = false;
                    break;
                }
            };
            group.extend(entry.changes);
            if !entry.more {
                changes.append(&mut group);
            }
        }
        Ok(Journaled { generation, next_generation, used, sound, changes })
    }
}

/// Whether the journal has anything that the newest durable version does not hold.
pub(super) fn is_used(store: &Store) -> Result<bool, BucketError> {
    let first = first_generation(store)?;
    Ok(store.last_journaled().is_some_and(|last| last >= first))
}

fn first_generation(store: &Store) -> Result<u64, BucketError> {
    let Some(bytes) = store.meta(GENERATION)? else { return Ok(0) };
    bytes.try_into().map(u64::from_le_bytes).map_err(|_| BucketError::Missing("the place of the journal"))
}

/// Cuts changes into entries of one generation and a bounded size.
fn entries(changes: impl IntoIterator<Item = (u64, Change)>) -> Vec<(u64, JournalEntry)> {
    let mut entries: Vec<(u64, JournalEntry)> = Vec::new();
    let mut weight = 0;
    for (generation, change) in changes {
        let more = change.weight();
        match entries.last_mut() {
            Some((last, entry)) if *last == generation && weight + more <= limits::JOURNAL_ENTRY_BYTES => {
                entry.changes.push(change);
                weight += more;
            }
            last => {
                if let Some((_, entry)) = last {
                    entry.more = true;
                }
                entries.push((generation, JournalEntry { changes: vec![change], more: false }));
                weight = more;
            }
        }
    }
    entries
}
