//! The content of one file: what is stored, what is being written back, and what was written since.

pub(super) mod settle;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use jaxfs_sync::limits::FILE_BYTES;
use jaxfs_sync::publish::Held as Kept;
use jaxfs_sync::tree::{CHUNK_BYTES, Change, Content, FileId, Segment, TreeError, Vault, Written};
use parking_lot::RwLock;

use super::Ino;
use super::unsynced::Unsynced;
use crate::dirty::{Cover, Layer, Piece, Sealed};
use crate::errno::FsError;
use crate::limits;
use settle::{Scattered, Settled};

/// Somebody may be changing a file, or has it open for that.
#[derive(Debug)]
pub(crate) struct Writing(Arc<File>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.state.write().writers -= 1;
    }
}

/// A chunk of a file, as it was when it was read.
pub(crate) struct Chunk {
    pub(crate) ino: Ino,
    pub(crate) file: Arc<File>,
    /// The content that it is a part of.
    pub(crate) content: Content,
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
}

/// What is counted over all files of a mount.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Bytes of memory that all dirty extents take.
    pub(crate) dirty: Count,
    /// Chunks that are scattered.
    pub(super) scattered: Count,
}

impl Budget {
    /// What gathering all scattered chunks takes on the disk, roughly.
    pub(crate) fn scattered_bytes(&self) -> u64 {
        self.scattered.get() as u64 * CHUNK_BYTES
    }
}

/// A sum.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicUsize);

impl Count {
    /// The sum at this moment.
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn change(&self, before: usize, after: usize) {
        if after >= before {
            self.0.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.0.fetch_sub(before - after, Ordering::Relaxed);
        }
    }
}

/// A file's content. Its lock is below the inode table's, and is not held while blocks are read.
#[derive(Debug, Default)]
pub(crate) struct File {
    state: RwLock<State>,
    budget: Arc<Budget>,
}

#[derive(Debug, Default)]
struct State {
    size: u64,
    base: Content,
    frozen: Option<FrozenFile>,
    dirty: Layer,
    /// Changed since it was last frozen.
    changed: bool,
    /// What of the changes since is not in the journal.
    unsynced: Unsynced,
    /// The same of those that are being written back.
    frozen_unsynced: Unsynced,
    /// Of the stored content.
    scattered: Arc<Scattered>,
    /// How many [`Writing`]s there are.
    writers: u32,
}

/// Changes to a file that are being written back.
#[derive(Clone, Debug)]
pub(crate) struct FrozenFile {
    layer: Arc<Layer>,
    size: u64,
    base: Content,
    scattered: Arc<Scattered>,
    budget: Arc<Budget>,
}

/// What was written is not for the journal: a version has to be made durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooMuch;

impl File {
    pub(crate) fn new(content: Content, budget: Arc<Budget>) -> Self {
        let state = State { size: content.size(), base: content, ..State::default() };
        Self { state: RwLock::new(state), budget }
    }

    /// Bytes, the 512-byte blocks that they take, and whether all of them are sealed. What is not counts as if it took its
    /// size.
    pub(crate) fn measure(&self) -> (u64, u64, bool) {
        let state = self.state.read();
        let pending: u64 = state.layers().map(Layer::data_bytes).sum();
        let blocks = state.base.blocks512() + pending.div_ceil(512);
        (state.size, blocks.min(state.size.div_ceil(512)), state.is_plain())
    }

    /// Puts bytes at an offset and grows the file if need be.
    pub(crate) fn write(&self, offset: u64, data: &[u8]) -> Result<(), FsError> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= FILE_BYTES).ok_or(FsError::TooLarge)?;
        self.change(|state| {
            state.dirty.write(offset, data);
            state.unsynced.write(offset..end);
            state.size = state.size.max(end);
        });
        Ok(())
    }

    /// Sets the size. What is cut off is gone, what is added reads as zeros.
    pub(crate) fn truncate(&self, size: u64) -> Result<(), FsError> {
        if size > FILE_BYTES {
            return Err(FsError::TooLarge);
        }
        self.change(|state| {
            if size < state.size {
                state.dirty.truncate(size);
            }
            state.unsynced.resize(size);
            state.size = size;
        });
        Ok(())
    }

    /// Makes a range read as zeros, and with `grow` extends the file to its end.
    pub(crate) fn zero(&self, range: Range<u64>, grow: bool) -> Result<(), FsError> {
        if range.end > FILE_BYTES {
            return Err(FsError::TooLarge);
        }
        self.change(|state| {
            let within = range.start..range.end.min(state.size).max(range.start);
            state.dirty.punch(within.clone());
            state.unsynced.write(within);
            if grow {
                state.size = state.size.max(range.end);
            }
        });
        Ok(())
    }

    /// Extends the file to `size` if it is shorter.
    pub(crate) fn grow(&self, size: u64) -> Result<(), FsError> {
        if size > FILE_BYTES {
            return Err(FsError::TooLarge);
        }
        self.change(|state| {
            state.unsynced.write(0..0);
            state.size = state.size.max(size);
        });
        Ok(())
    }

    /// Says that it may change from here on, until what it gives is dropped.
    pub(crate) fn begin_writing(file: &Arc<File>) -> Writing {
        file.state.write().writers += 1;
        Writing(Arc::clone(file))
    }

    /// Whether nobody may change it, and this is what it holds.
    pub(crate) fn is_only_read(&self, content: &Content) -> bool {
        let state = self.state.read();
        state.writers == 0 && state.is_plain() && state.base == *content
    }

    /// The sealed chunk around `offset`, if it is in one block and of a file that nobody may change and that has at most
    /// `largest` bytes: the content, where the chunk begins, and its bytes. What [`File::read`] opened is found again in
    /// the cache.
    pub(crate) fn chunk(
        &self,
        vault: &Vault,
        offset: u64,
        largest: u64,
    ) -> Result<Option<(Content, u64, Bytes)>, TreeError> {
        let (size, base) = {
            let state = self.state.read();
            let large = state.size > largest;
            if large || state.writers > 0 || !state.is_plain() || offset >= state.size.min(state.base.size()) {
                return Ok(None);
            }
            (state.size, state.base.clone())
        };
        let window = chunk_around(offset, size);
        let bytes = base.read_shared(vault, window.clone())?;
        Ok(bytes.map(|bytes| (base, window.start, bytes)))
    }

    /// Reads up to `len` bytes; fewer only at the end of the file. Sealed content that is in one block is not copied.
    pub(crate) fn read(&self, vault: &Vault, offset: u64, len: usize) -> Result<Bytes, TreeError> {
        let (len, base) = {
            let state = self.state.read();
            let len = (state.size.saturating_sub(offset)).min(len as u64) as usize;
            (len, state.is_plain().then(|| state.base.clone()))
        };
        let range = offset..offset + len as u64;
        if let Some(base) = base
            && range.end <= base.size()
            && let Some(bytes) = base.read_shared(vault, range)?
        {
            return Ok(bytes);
        }
        self.read_layers(vault, offset, len).map(Bytes::from)
    }

    fn read_layers(&self, vault: &Vault, offset: u64, len: usize) -> Result<Vec<u8>, TreeError> {
        let (mut out, sealed, base) = {
            let state = self.state.read();
            let len = (state.size.saturating_sub(offset)).min(len as u64) as usize;
            let mut out = vec![0; len];
            let mut sealed = Vec::new();
            for (range, cover) in state.cover(offset..offset + len as u64) {
                match cover {
                    Cover::Data(bytes) => out[within(offset, &range)].copy_from_slice(bytes),
                    Cover::Zeros => {}
                    Cover::Sealed(part) => sealed.push((range, Some(part))),
                    Cover::Below => sealed.push((range, None)),
                }
            }
            (out, sealed, state.base.clone())
        };
        for (range, part) in sealed {
            let target = &mut out[within(offset, &range)];
            match part {
                Some(part) => target.copy_from_slice(&open_sealed(vault, part)?),
                None => drop(base.read(vault, range.start, target)?),
            }
        }
        Ok(out)
    }

    /// The stored blocks that hold `len` bytes from `offset` on, in their order.
    pub(crate) fn blocks(
        &self,
        vault: &Vault,
        offset: u64,
        len: usize,
    ) -> Result<Vec<jaxfs_sync::link::BlockRef>, TreeError> {
        let (covers, base) = {
            let state = self.state.read();
            let end = offset.saturating_add(len as u64).min(state.size).max(offset);
            let covers = state.cover(offset..end).into_iter().filter_map(|(range, cover)| match cover {
                Cover::Sealed(sealed) => Some(Ok(sealed.block)),
                Cover::Below => Some(Err(range)),
                Cover::Data(_) | Cover::Zeros => None,
            });
            (covers.collect::<Vec<_>>(), state.base.clone())
        };
        let mut blocks = Vec::new();
        for cover in covers {
            match cover {
                Ok(block) => blocks.push(block),
                Err(range) => blocks.extend(base.read_extents(vault, range)?.into_iter().filter_map(|one| match one {
                    Segment::Block { block, .. } => Some(block),
                    _ => None,
                })),
            }
        }
        blocks.dedup();
        Ok(blocks)
    }

    /// What up to `len` bytes from `offset` on consist of, to be put elsewhere: fewer where they are many parts or much of
    /// it is not sealed. O(parts).
    pub(crate) fn parts(&self, vault: &Vault, offset: u64, len: u64) -> Result<Vec<Part>, TreeError> {
        let mut parts = Parts::default();
        let (covers, base) = {
            let state = self.state.read();
            let end = offset.saturating_add(len).min(state.size).max(offset);
            let mut room = limits::COPY_BYTES;
            let mut covers = Vec::new();
            for (range, cover) in state.cover(offset..end).into_iter().take(limits::COPY_PARTS) {
                covers.push(match cover {
                    Cover::Data(bytes) => {
                        let Some(left) = room.checked_sub(bytes.len() as u64) else { break };
                        room = left;
                        Ok(Part::Bytes(bytes.to_vec()))
                    }
                    Cover::Zeros => Ok(Part::Hole(range.end - range.start)),
                    Cover::Sealed(sealed) => Ok(Part::Sealed(sealed)),
                    Cover::Below => Err(range),
                });
            }
            (covers, state.base.clone())
        };
        for cover in covers {
            let full = match cover {
                Ok(part) => parts.add(vault, part)?,
                Err(range) => parts.add_stored(vault, &base, range)?,
            };
            if full {
                break;
            }
        }
        Ok(parts.parts)
    }

    /// Puts parts at an offset, one behind the other, and grows the file if need be. Gives how many bytes they are.
    pub(crate) fn put_parts(&self, offset: u64, parts: Vec<Part>) -> Result<u64, FsError> {
        let total = parts.iter().map(Part::len).sum();
        let end = offset.checked_add(total).filter(|end| *end <= FILE_BYTES).ok_or(FsError::TooLarge)?;
        self.change(|state| {
            let mut at = offset;
            for part in parts {
                let len = part.len();
                match part {
                    Part::Bytes(bytes) => state.dirty.write(at, &bytes),
                    Part::Hole(_) => state.dirty.punch(at..at + len),
                    Part::Sealed(sealed) => state.dirty.link(at, sealed),
                }
                at += len;
            }
            state.unsynced.write(offset..end);
            state.size = state.size.max(end);
        });
        Ok(total)
    }

    /// The first offset at or after `offset` where data is (`data`) or is not, up to the size of the file, which counts
    /// as a hole.
    pub(crate) fn seek(&self, vault: &Vault, offset: u64, data: bool) -> Result<u64, FsError> {
        let mut at = offset;
        loop {
            let (size, step) = {
                let state = self.state.read();
                (state.size, state.extent_at(at))
            };
            if at >= size {
                return if data || offset >= size { Err(FsError::NoOffset) } else { Ok(size) };
            }
            let (is_data, end) = match step {
                Step::Known { data, end } => (data, end),
                Step::Stored { base, end } => stored_extent_at(vault, &base, at..end.min(size))?,
            };
            if is_data == data {
                return Ok(at);
            }
            at = end;
        }
    }

    /// Tells of the stored content, and of the sealed blocks that were put over it.
    pub(super) fn held(&self, held: &mut Kept) {
        let state = self.state.read();
        held.content(&state.base);
        if let Some(frozen) = &state.frozen {
            held.content(&frozen.base);
        }
        state.layers().flat_map(Layer::sealed).for_each(|sealed| held.data(&sealed.block));
    }

    /// Memory that its layers take, when no operation is under way.
    #[cfg(test)]
    pub(super) fn check(&self) -> usize {
        let state = self.state.read();
        state.layers().map(Layer::cost).sum()
    }

    /// Whether anything was written that is not in a frozen layer.
    pub(crate) fn is_changed(&self) -> bool {
        self.state.read().changed
    }

    /// Takes what was written, to be written back. It stays visible, and nothing changes it.
    pub(crate) fn freeze(&self) -> bool {
        let mut state = self.state.write();
        if !state.changed {
            return false;
        }
        debug_assert!(state.frozen.is_none(), "one write-back at a time");
        let layer = Arc::new(std::mem::take(&mut state.dirty));
        let (base, scattered, budget) = (state.base.clone(), Arc::clone(&state.scattered), Arc::clone(&self.budget));
        state.frozen = Some(FrozenFile { layer, size: state.size, base, scattered, budget });
        state.changed = false;
        state.frozen_unsynced = std::mem::take(&mut state.unsynced);
        true
    }

    /// Attributes changed because of a write: they are not safe before the file is synced once more.
    pub(crate) fn note_attributes(&self) {
        self.state.write().unsynced.write(0..0);
    }

    /// What was done to the content and is not in the journal, which it then counts as being. None if there is nothing;
    /// an error if it is more than the journal should take, or is sealed already.
    pub(crate) fn take_unsynced(&self, id: FileId) -> Result<Option<Change>, TooMuch> {
        let mut state = self.state.write();
        let mut unsynced = std::mem::take(&mut state.frozen_unsynced);
        unsynced.absorb(std::mem::take(&mut state.unsynced));
        if unsynced.is_empty() {
            return Ok(None);
        }
        if unsynced.bytes() > limits::JOURNALED_BYTES || unsynced.ranges().count() > limits::JOURNALED_RANGES {
            return Err(TooMuch);
        }
        let mut writes = Vec::new();
        for (range, cover) in unsynced.ranges().flat_map(|range| state.cover(range)) {
            let written = match cover {
                Cover::Data(bytes) => Written::Bytes(bytes.to_vec()),
                Cover::Zeros => Written::Hole(range.end - range.start),
                Cover::Sealed(Sealed { skip, len, block }) => Written::Sealed { skip, len, block },
                Cover::Below => return Err(TooMuch),
            };
            writes.push((range.start, written));
        }
        if writes.len() > limits::JOURNALED_RANGES {
            return Err(TooMuch);
        }
        Ok(Some(Change::Data { id, cut: unsynced.cut(), writes, size: state.size }))
    }

    /// Does again what [`File::take_unsynced`] gave.
    pub(crate) fn redo(&self, cut: Option<u64>, writes: Vec<(u64, Written)>, size: u64) -> Result<(), FsError> {
        if let Some(cut) = cut.filter(|cut| *cut < self.measure().0) {
            self.truncate(cut)?;
        }
        for (at, written) in writes {
            let part = match written {
                Written::Bytes(bytes) => Part::Bytes(bytes),
                Written::Hole(len) => Part::Hole(len),
                Written::Sealed { skip, len, block } => Part::Sealed(Sealed { skip, len, block }),
            };
            self.put_parts(at, vec![part])?;
        }
        self.truncate(size)?;
        self.state.write().unsynced = Unsynced::default();
        Ok(())
    }

    /// What was frozen, or the stored content of a file that did not change.
    pub(crate) fn frozen(&self) -> Result<FrozenFile, Content> {
        let state = self.state.read();
        state.frozen.clone().ok_or_else(|| state.base.clone())
    }

    /// What was frozen is stored now.
    pub(crate) fn install(&self, settled: Settled) {
        let mut state = self.state.write();
        self.budget.scattered.change(state.scattered.len(), settled.scattered.len());
        state.base = settled.content;
        state.scattered = Arc::new(settled.scattered);
        state.frozen_unsynced = Unsynced::default();
        if let Some(frozen) = state.frozen.take() {
            self.budget.dirty.change(frozen.layer.cost(), 0);
        }
    }

    /// Has it written back once more, though nothing may have been written to it.
    pub(crate) fn write_back_again(&self) {
        self.state.write().changed = true;
    }

    /// What was frozen could not be stored: it is dirty again, below what was written since.
    pub(crate) fn thaw(&self) {
        let mut state = self.state.write();
        let Some(frozen) = state.frozen.take() else { return };
        let before = frozen.layer.cost() + state.dirty.cost();
        let mut layer = Arc::unwrap_or_clone(frozen.layer);
        layer.absorb(std::mem::take(&mut state.dirty));
        self.budget.dirty.change(before, layer.cost());
        state.dirty = layer;
        state.changed = true;
        let later = std::mem::take(&mut state.unsynced);
        state.unsynced = std::mem::take(&mut state.frozen_unsynced);
        state.unsynced.absorb(later);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.write();
        let before = state.dirty.cost();
        change(&mut state);
        state.changed = true;
        self.budget.dirty.change(before, state.dirty.cost());
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let frozen = state.frozen.as_ref().map_or(0, |frozen| frozen.layer.cost());
        self.budget.dirty.change(state.dirty.cost() + frozen, 0);
        self.budget.scattered.change(state.scattered.len(), 0);
    }
}

/// What decides what stands at an offset, and up to where.
enum Step {
    /// A layer says it.
    Known { data: bool, end: u64 },
    /// The stored content does.
    Stored { base: Content, end: u64 },
}

impl State {
    /// Whether the stored content alone decides what is read.
    fn is_plain(&self) -> bool {
        self.frozen.is_none() && self.dirty.is_clean()
    }

    /// The layers over the stored content, from the top.
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        [Some(&self.dirty), self.frozen.as_ref().map(|frozen| &*frozen.layer)].into_iter().flatten()
    }

    /// What the parts of a range are, in order; `Below` is what the stored content decides.
    fn cover(&self, range: Range<u64>) -> Vec<(Range<u64>, Cover<'_>)> {
        let top = self.dirty.cover(range);
        let Some(frozen) = &self.frozen else { return top };
        let below = |(range, cover)| match cover {
            Cover::Below => frozen.layer.cover(range),
            known => vec![(range, known)],
        };
        top.into_iter().flat_map(below).collect()
    }

    fn extent_at(&self, at: u64) -> Step {
        let mut end = self.size.max(at);
        for layer in self.layers() {
            match layer.pieces(at..end).next() {
                Some((start, piece)) if start <= at => {
                    return Step::Known { data: !matches!(piece, Piece::Hole(_)), end: end.min(start + piece.len()) };
                }
                Some((start, _)) => end = start,
                None => {}
            }
            if at >= layer.cut() {
                return Step::Known { data: false, end };
            }
            end = end.min(layer.cut());
        }
        Step::Stored { base: self.base.clone(), end }
    }
}

/// Whether stored data stands at the start of `range`, and up to where that is so at least.
fn stored_extent_at(vault: &Vault, base: &Content, range: Range<u64>) -> Result<(bool, u64), TreeError> {
    let end = range.end;
    Ok(match base.read_extents(vault, range)?.first() {
        None => (false, end),
        Some(Segment::Hole { range }) => (false, range.end.min(end)),
        Some(Segment::Inline { range, .. } | Segment::Block { range, .. }) => (true, range.end.min(end)),
    })
}

/// What a range of a file consists of, to be put elsewhere.
#[derive(Debug)]
pub(crate) enum Part {
    Bytes(Vec<u8>),
    /// This many zeros.
    Hole(u64),
    Sealed(Sealed),
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::Hole(len) => *len,
            Part::Sealed(sealed) => sealed.len.into(),
        }
    }

    /// Bytes that it holds itself.
    pub(crate) const fn memory(&self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::Hole(_) | Part::Sealed(_) => 0,
        }
    }
}

/// Parts that are being gathered, up to a limit of memory.
#[derive(Default)]
struct Parts {
    parts: Vec<Part>,
    bytes: u64,
}

impl Parts {
    /// Adds a part; whether that is enough. A few sealed bytes are better copied than named: names take room too.
    fn add(&mut self, vault: &Vault, part: Part) -> Result<bool, TreeError> {
        let part = match part {
            Part::Sealed(sealed) if sealed.len < limits::COPY_BY_NAME => {
                Part::Bytes(open_sealed(vault, sealed)?.to_vec())
            }
            part => part,
        };
        if let Part::Bytes(bytes) = &part {
            self.bytes += bytes.len() as u64;
        }
        self.parts.push(part);
        Ok(self.parts.len() >= limits::COPY_PARTS || self.bytes >= limits::COPY_BYTES)
    }

    fn add_stored(&mut self, vault: &Vault, base: &Content, range: Range<u64>) -> Result<bool, TreeError> {
        let mut at = range.start;
        for segment in base.segments(vault, range.clone()) {
            let segment = segment?;
            let len = segment.range().end - at;
            at += len;
            let part = match segment {
                Segment::Hole { .. } => Part::Hole(len),
                Segment::Inline { bytes, .. } => Part::Bytes(bytes.to_vec()),
                Segment::Block { skip, block, .. } => Part::Sealed(Sealed { skip, len: len as u32, block }),
            };
            if self.add(vault, part)? {
                return Ok(true);
            }
        }
        if at < range.end { self.add(vault, Part::Hole(range.end - at)) } else { Ok(false) }
    }
}

fn open_sealed(vault: &Vault, Sealed { skip, len, block }: Sealed) -> Result<Bytes, TreeError> {
    vault.data_part(&block, skip, len as usize)
}

/// Where a range of a file is in a buffer that begins at `offset`.
const fn within(offset: u64, range: &Range<u64>) -> Range<usize> {
    (range.start - offset) as usize..(range.end - offset) as usize
}

/// The chunk that an offset is in, as far as the file goes.
fn chunk_around(offset: u64, size: u64) -> Range<u64> {
    let start = offset - offset % CHUNK_BYTES;
    start..(start + CHUNK_BYTES).min(size)
}
