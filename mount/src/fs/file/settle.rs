//! Sealing what was written to a file.
//!
//! A chunk is a block of its own in every version that is published, which is what readers and peers want of it. A page of a
//! chunk that is there already would have the whole of it sealed anew, each time that memory runs short or the journal is
//! full. So until then pages go into blocks as they come, eight of several chunks together. These chunks are *scattered*; the
//! next version that is published gathers them, also where nothing else was written to the file.

use std::collections::BTreeSet;
use std::ops::Range;

use jaxfs_sync::tree::{CHUNK_BYTES, Content, Edit, Fill, INLINE_BYTES, Segment, TreeError, Vault};

use super::{FrozenFile, chunk_around, open_sealed, within};
use crate::dirty::{Cover, Piece, Sealed};
use crate::limits;

/// Where the chunks begin that are scattered.
pub(super) type Scattered = BTreeSet<u64>;

/// How a file that is being written back ends up.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) content: Content,
    pub(super) scattered: Scattered,
}

impl Settled {
    /// Whether each chunk is in a block of its own.
    pub(crate) fn is_whole(&self) -> bool {
        self.scattered.is_empty()
    }
}

impl FrozenFile {
    /// Seals what was written and gives the content that holds it. O(what was written), each chunk once. Unless chunks have to
    /// be `whole`, pages are sealed without what is around them.
    pub(crate) fn settle(&self, vault: &Vault, whole: bool) -> Result<Settled, TreeError> {
        if self.size <= INLINE_BYTES as u64 {
            let bytes = here(self.view(vault, 0..self.size))?;
            if let Some(content) = bytes.and_then(|bytes| Content::inline(&bytes)) {
                return Ok(Settled { content, scattered: Scattered::new() });
            }
        }
        let mut sealing = Sealing::new(self, vault, whole);
        let mut at = 0;
        while let Some((start, piece)) = self.layer.pieces(at..self.size).next() {
            let (from, until) = (start.max(at), (start + piece.len()).min(self.size));
            at = match piece {
                Piece::Hole(_) => {
                    sealing.edits.push(Edit::hole(from..until));
                    until
                }
                Piece::Sealed(sealed) => {
                    let Sealed { skip, block, .. } = sealed.behind(from - start);
                    sealing.edits.push(Edit { range: from..until, fill: Fill::Block { skip, block } });
                    until
                }
                Piece::Data(bytes) => sealing.seal(at, from..until, &bytes[within(start, &(from..until))])?,
            };
        }
        let (edits, scattered) = sealing.end()?;
        // What was cut off before it was written again, or left as a hole, must not show what was there.
        let cut = self.layer.cut();
        let base = if cut < self.base.size() { self.base.splice(vault, cut, &[])? } else { self.base.clone() };
        let content = base.splice(vault, self.size, &edits)?;
        if whole {
            return Ok(Settled { content: gathered(vault, &content, &scattered)?, scattered: Scattered::new() });
        }
        Ok(Settled { content, scattered })
    }

    /// The part of a chunk's window, from `at` on, that has anything in it, from the first byte to the last.
    fn filled(&self, vault: &Vault, window: &Range<u64>, at: u64) -> Result<Range<u64>, TreeError> {
        let window = window.start.max(at)..window.end;
        let (mut start, mut end) = (window.end, window.start);
        for (from, piece) in self.layer.pieces(window.clone()) {
            if !matches!(piece, Piece::Hole(_)) {
                start = start.min(from.max(window.start));
                end = end.max((from + piece.len()).min(window.end));
            }
        }
        let visible = window.start..window.end.min(self.layer.cut()).max(window.start);
        for segment in self.base.read_extents(vault, visible)? {
            if let Segment::Inline { range, .. } | Segment::Block { range, .. } = segment {
                start = start.min(range.start.max(window.start));
                end = end.max(range.end.min(window.end));
            }
        }
        Ok(start..end)
    }

    fn view(&self, vault: &Vault, range: Range<u64>) -> Result<Vec<u8>, TreeError> {
        let mut out = vec![0; (range.end - range.start) as usize];
        for (part, cover) in self.layer.cover(range.clone()) {
            let target = &mut out[within(range.start, &part)];
            match cover {
                Cover::Data(bytes) => target.copy_from_slice(bytes),
                Cover::Zeros => {}
                Cover::Sealed(sealed) => target.copy_from_slice(&open_sealed(vault, sealed)?),
                Cover::Below => drop(self.base.read(vault, part.start, target)?),
            }
        }
        Ok(out)
    }
}

/// What was read, if all of it is on this machine.
fn here<T>(read: Result<T, TreeError>) -> Result<Option<T>, TreeError> {
    match read {
        Err(TreeError::Missing(_)) => Ok(None),
        other => other.map(Some),
    }
}

/// What a file's pieces become, one after the other.
struct Sealing<'a> {
    file: &'a FrozenFile,
    vault: &'a Vault,
    whole: bool,
    edits: Vec<Edit>,
    scattered: Scattered,
    /// How many more chunks may be scattered.
    room: usize,
    /// Pages that go into the next block, one behind the other.
    pages: Vec<Range<u64>>,
    bytes: Vec<u8>,
}

impl<'a> Sealing<'a> {
    fn new(file: &'a FrozenFile, vault: &'a Vault, whole: bool) -> Self {
        let room = limits::SCATTERED_CHUNKS.saturating_sub(file.budget.scattered.get());
        let scattered = Scattered::clone(&file.scattered);
        Self { file, vault, whole, edits: Vec::new(), scattered, room, pages: Vec::new(), bytes: Vec::new() }
    }

    /// Seals a piece of data, with what is around it from `at` on or without. Gives up to where that was.
    fn seal(&mut self, at: u64, piece: Range<u64>, bytes: &[u8]) -> Result<u64, TreeError> {
        let window = chunk_around(piece.start, self.file.size);
        if self.may_scatter(&piece, &window) {
            self.room -= usize::from(self.scattered.insert(window.start));
            if self.bytes.len() + bytes.len() > CHUNK_BYTES as usize {
                self.seal_pages()?;
            }
            self.bytes.extend_from_slice(bytes);
            let end = piece.end;
            self.pages.push(piece);
            return Ok(end);
        }
        let range = self.file.filled(self.vault, &window, at)?;
        let around = if piece == range { None } else { here(self.file.view(self.vault, range.clone()))? };
        let (range, block) = match around {
            Some(around) => (range, self.vault.put_data(&around)?),
            // Or what is around it is on other machines, and need not come to be written beside.
            None => (piece, self.vault.put_data(bytes)?),
        };
        if at <= window.start {
            self.scattered.remove(&window.start);
        }
        let end = range.end;
        self.edits.push(Edit::block(range, block));
        Ok(end)
    }

    /// Whether a piece is a part of its chunk that may stand elsewhere.
    fn may_scatter(&self, piece: &Range<u64>, window: &Range<u64>) -> bool {
        let aligned = |at: u64| at.is_multiple_of(limits::SCATTERED_BYTES);
        let pages = piece != window && aligned(piece.start) && (aligned(piece.end) || piece.end == self.file.size);
        pages && !self.whole && (self.room > 0 || self.scattered.contains(&window.start))
    }

    fn seal_pages(&mut self) -> Result<(), TreeError> {
        if self.pages.is_empty() {
            return Ok(());
        }
        let block = self.vault.put_data(&self.bytes)?;
        let mut skip = 0;
        for range in self.pages.drain(..) {
            let len = (range.end - range.start) as u32;
            self.edits.push(Edit { range, fill: Fill::Block { skip, block } });
            skip += len;
        }
        self.bytes.clear();
        Ok(())
    }

    fn end(mut self) -> Result<(Vec<Edit>, Scattered), TreeError> {
        self.seal_pages()?;
        self.edits.sort_unstable_by_key(|edit| edit.range.start);
        Ok((self.edits, self.scattered))
    }
}

/// The same content with each of these chunks in a block of its own.
fn gathered(vault: &Vault, content: &Content, scattered: &Scattered) -> Result<Content, TreeError> {
    let mut edits = Vec::new();
    for start in scattered.range(..content.size()) {
        let segments = content.read_extents(vault, chunk_around(*start, content.size()))?;
        let mut data = segments.iter().filter(|segment| matches!(segment, Segment::Block { .. })).map(Segment::range);
        let Some(first) = data.next() else { continue };
        let range = first.start..data.next_back().unwrap_or(first).end;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        if here(content.read(vault, range.start, &mut bytes))?.is_none() {
            continue;
        }
        edits.push(Edit::block(range, vault.put_data(&bytes)?));
    }
    content.splice(vault, content.size(), &edits)
}
