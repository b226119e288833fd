//! Collecting garbage: dropping the blocks that nothing needs, and giving their space back, while others put and read.
//!
//! A [`Collection`] is begun first, and then whoever knows finds out which blocks are needed. What was not committed when
//! it was begun, and what was put since, is never dropped: the first stands behind the end of that time, and so does what is
//! put as a new block; a put that finds its block here already *touches* it. Rows of the index go in batches. While a batch
//! is going, a put of one of its blocks takes it for absent, and appends it anew.
//!
//! Then segments that hold too much garbage are left: what is alive in them is appended again, committed, and only then the
//! file is removed. So a crash leaves garbage at worst, and what it leaves is found by the next collection.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::pack::{self, End, Place};
use super::{Commit, Store, StoreError};
use crate::limits;
use crate::link::Link;

/// What a collection has to know of puts.
#[derive(Debug, Default)]
pub(super) struct Collecting {
    /// The beginnings of the digests of blocks that a put found here. Two that begin alike are both kept.
    touched: HashSet<u64>,
    /// Blocks whose rows are being removed.
    going: HashSet<Link>,
}

/// How far a [`Collection::sweep`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweeping {
    /// Blocks looked at, of all.
    Blocks(u64, u64),
    /// Segments left, of those that are to be.
    Segments(u64, u64),
}

/// What a [`Collection::sweep`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blocks that were dropped.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of blocks that were moved.
    pub moved: u64,
    /// Segments that are no more.
    pub segments: u64,
    /// Segments that hold damage, and were left as they are.
    pub damaged: u64,
    /// The disk was full before all space was given back.
    pub full: bool,
    /// It was told to end before it was done.
    pub cancelled: bool,
}

/// A collection of garbage under way. Ends when it is dropped.
#[must_use]
pub struct Collection<'a> {
    store: &'a Store,
    /// Up to where segments were filled by what was committed when it was begun.
    begun: End,
}

/// What is alive in a segment.
#[derive(Clone, Copy, Default)]
struct Alive {
    blocks: u64,
    /// With their headers.
    bytes: u64,
}

impl Store {
    /// Begins a collection: what is put from now on is kept by it. None if there is one already.
    ///
    /// # Errors
    /// If the index can not be read.
    pub fn begin_collection(&self) -> Result<Option<Collection<'_>>, StoreError> {
        {
            let mut collecting = self.collecting.lock();
            if collecting.is_some() {
                return Ok(None);
            }
            *collecting = Some(Collecting::default());
        }
        // Ends it if the index fails.
        let mut collection = Collection { store: self, begun: End { segment: 0, offset: 0, state: 0 } };
        collection.begun = self.index.end()?;
        Ok(Some(collection))
    }

    /// Whether a block that is to be put is here already. If so, a collection keeps it.
    pub(super) fn is_here(&self, link: &Link) -> Result<bool, StoreError> {
        let mut collecting = self.collecting.lock();
        let Some(now) = &mut *collecting else {
            drop(collecting);
            return self.contains(link);
        };
        if now.going.contains(link) {
            return Ok(self.pending.read().place(link).is_some());
        }
        // Under the lock: its row goes before this, or not at all.
        let here = self.contains(link)?;
        if here {
            now.touched.insert(link.prefix());
        }
        Ok(here)
    }
}

impl Drop for Collection<'_> {
    fn drop(&mut self) {
        *self.store.collecting.lock() = None;
    }
}

impl Collection<'_> {
    /// How many blocks a sweep would drop, and their bytes.
    ///
    /// # Errors
    /// If the index can not be read.
    pub fn count(&self, is_live: &dyn Fn(&Link) -> bool) -> Result<(u64, u64), StoreError> {
        let (mut after, mut blocks, mut bytes) = (None, 0, 0);
        loop {
            let rows = self.store.index.blocks_after(&mut after)?;
            if rows.is_empty() {
                return Ok((blocks, bytes));
            }
            for (_, place) in rows.iter().filter(|(link, place)| self.is_old(place) && !is_live(link)) {
                blocks += 1;
                bytes += u64::from(place.len);
            }
        }
    }

    /// Drops what is not live, and gives space back. Until `cancel` says so, or the disk is full: neither loses anything.
    /// O(blocks), and the bytes of what is moved.
    ///
    /// # Errors
    /// If the index fails, or a commit. What was dropped until then is.
    pub fn sweep(
        &self,
        is_live: &dyn Fn(&Link) -> bool,
        progress: &mut dyn FnMut(Sweeping),
        cancel: &dyn Fn() -> bool,
    ) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        // From here on, segments before the last one get no more rows.
        let end = self.store.commit_up_to(Commit::default())?;
        let alive = self.drop_blocks(is_live, &mut swept, progress, cancel)?;
        if !swept.cancelled {
            match self.give_back(end, alive, &mut swept, progress, cancel) {
                Err(StoreError::Full(_)) => swept.full = true,
                result => result?,
            }
        }
        Ok(swept)
    }

    fn is_old(&self, place: &Place) -> bool {
        (place.segment, u64::from(place.offset)) < (self.begun.segment, self.begun.offset)
    }

    /// Removes rows, and counts what is alive in each segment.
    fn drop_blocks(
        &self,
        is_live: &dyn Fn(&Link) -> bool,
        swept: &mut Swept,
        progress: &mut dyn FnMut(Sweeping),
        cancel: &dyn Fn() -> bool,
    ) -> Result<BTreeMap<u32, Alive>, StoreError> {
        let mut alive = BTreeMap::<u32, Alive>::new();
        let all = self.store.index.blocks()?;
        let (mut after, mut seen, mut batch) = (None, 0, Vec::new());
        loop {
            let rows = self.store.index.blocks_after(&mut after)?;
            let last = rows.is_empty();
            seen += rows.len() as u64;
            for (link, place) in rows {
                if self.is_old(&place) && !is_live(&link) {
                    batch.push((link, place));
                } else {
                    alive.entry(place.segment).or_default().add(&place);
                }
            }
            if last || batch.len() >= limits::DROPPED_AT_ONCE {
                let kept = self.drop_batch(&mut batch, swept)?;
                kept.iter().for_each(|(_, place)| alive.entry(place.segment).or_default().add(place));
            }
            progress(Sweeping::Blocks(seen.min(all), all));
            swept.cancelled = cancel();
            if last || swept.cancelled {
                return Ok(alive);
            }
        }
    }

    /// Removes the rows of a batch, and empties it. Gives those that stay.
    fn drop_batch(&self, batch: &mut Vec<(Link, Place)>, swept: &mut Swept) -> Result<Vec<(Link, Place)>, StoreError> {
        let kept = {
            let mut collecting = self.store.collecting.lock();
            let Some(now) = &mut *collecting else { return Ok(std::mem::take(batch)) };
            let pending = self.store.pending.read();
            let stays =
                |(link, _): &mut (Link, Place)| now.touched.contains(&link.prefix()) || pending.place(link).is_some();
            let kept = batch.extract_if(.., stays).collect();
            now.going.extend(batch.iter().map(|(link, _)| *link));
            kept
        };
        let removed = if batch.is_empty() {
            Ok(())
        } else {
            // The numbers of commits are those of their records in the segments.
            let _no_commit = self.store.commit.lock();
            self.store.index.remove(batch)
        };
        if let Some(now) = &mut *self.store.collecting.lock() {
            now.going.clear();
        }
        removed?;
        swept.blocks += batch.len() as u64;
        swept.bytes += batch.iter().map(|(_, place)| u64::from(place.len)).sum::<u64>();
        batch.clear();
        Ok(kept)
    }

    fn give_back(
        &self,
        end: End,
        mut alive: BTreeMap<u32, Alive>,
        swept: &mut Swept,
        progress: &mut dyn FnMut(Sweeping),
        cancel: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        let store = self.store;
        let lens = pack::lens(&store.disk, &store.packs)?;
        let of = |alive: &BTreeMap<u32, Alive>, number| alive.get(&number).copied().unwrap_or_default();
        let is_wasteful = |number: &u32, len: u64| of(&alive, *number).is_wasteful(len);
        let mut left: BTreeSet<u32> = lens
            .iter()
            .filter(|(number, len)| *number < end.segment && is_wasteful(number, *len))
            .map(|(number, _)| *number)
            .collect();
        let last = lens.iter().find(|(number, len)| *number == end.segment && is_wasteful(number, *len));
        if let Some((_, len)) = last {
            // Nothing more is put into it, and what was is committed: now it can be counted.
            store.writer.lock().leave_segment(end.segment);
            store.commit_up_to(Commit::default())?;
            let now = self.count_alive(end.segment)?;
            alive.insert(end.segment, now);
            if now.is_wasteful(*len) {
                left.insert(end.segment);
            }
        }
        let mut left: Vec<_> = left.into_iter().map(|number| (of(&alive, number), number)).collect();
        left.sort_unstable_by_key(|(alive, number)| (alive.bytes, *number));
        let all = left.len() as u64;
        for (done, (alive, number)) in left.into_iter().enumerate() {
            progress(Sweeping::Segments(done as u64, all));
            let empty = alive.blocks == 0 || self.move_blocks(number, alive, swept, cancel)?;
            if swept.cancelled {
                return Ok(());
            }
            if empty {
                store.reader.remove(number)?;
                swept.segments += 1;
            } else {
                swept.damaged += 1;
            }
        }
        progress(Sweeping::Segments(all, all));
        Ok(())
    }

    fn count_alive(&self, segment: u32) -> Result<Alive, StoreError> {
        let (mut after, mut alive) = (None, Alive::default());
        loop {
            let rows = self.store.index.blocks_after(&mut after)?;
            if rows.is_empty() {
                return Ok(alive);
            }
            rows.iter().filter(|(_, place)| place.segment == segment).for_each(|(_, place)| alive.add(place));
        }
    }

    /// Appends again what is alive in a segment; whether nothing names it any more, durably.
    fn move_blocks(
        &self,
        segment: u32,
        alive: Alive,
        swept: &mut Swept,
        cancel: &dyn Fn() -> bool,
    ) -> Result<bool, StoreError> {
        let (store, mut moved, mut uncommitted) = (self.store, 0, 0);
        for (link, place) in store.reader.records(segment) {
            if cancel() {
                swept.cancelled = true;
                return Ok(false);
            }
            if store.index.place(&link)? != Some(place) {
                continue;
            }
            let bytes = match store.reader.read(&link, place) {
                Ok(bytes) if link.names(&bytes) => bytes,
                _ => {
                    tracing::error!(%link, segment, "a damaged block stays where it is, and its segment with it");
                    continue;
                }
            };
            self.append_again(&link, &bytes)?;
            moved += 1;
            swept.moved += u64::from(place.len);
            uncommitted += bytes.len() as u64 + 1;
            if uncommitted >= limits::MOVED_AT_ONCE {
                store.commit_up_to(Commit::default())?;
                uncommitted = 0;
            }
        }
        store.commit_up_to(Commit::default())?;
        if moved < alive.blocks {
            tracing::error!(segment, missing = alive.blocks - moved, "a damaged segment is left as it is");
        }
        Ok(moved >= alive.blocks)
    }

    fn append_again(&self, link: &Link, bytes: &[u8]) -> Result<(), StoreError> {
        let mut writer = self.store.writer.lock();
        let place = writer.append(link, bytes)?;
        self.store.pending.write().open.insert(*link, place);
        Ok(())
    }
}

impl Alive {
    fn add(&mut self, place: &Place) {
        self.blocks += 1;
        self.bytes += pack::record_bytes(place);
    }

    /// Whether a segment of this length is worth leaving.
    const fn is_wasteful(self, len: u64) -> bool {
        let dead = len.saturating_sub(self.bytes);
        self.blocks == 0 || dead.saturating_sub(pack::FILE_HEADER) * limits::GARBAGE_SHARE > len
    }
}
