//! The content of a file: which bytes of which data blocks its bytes are.
//!
//! Tiny content stands in the record; a few extents do too; more are a B-tree. What no extent covers is a hole and reads
//! as zeros. Extents are sorted, do not overlap and end within the size. They may have any length and begin anywhere in a
//! block, so that cutting a file shortens an extent and copying a range copies links.

mod splice;
#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::Bytes;

use super::btree::{Item, Tree};
use super::vault::{TreeError, Vault};
use super::wire::{Decoder, Encoder, Malformed};
use crate::crypto::BlockKind;
use crate::limits;
use crate::link::BlockRef;

/// The size and alignment of data blocks that this program writes. Others may use any length.
pub const CHUNK_BYTES: u64 = 32 << 10;
/// Content up to this size may stand in the record itself.
pub const INLINE_BYTES: usize = 256;
/// Extents up to this number stand in the record itself.
pub const LIST_EXTENTS: usize = 8;

/// Bytes `[offset, offset + length)` of a file are bytes `[skip, skip + length)` of a data block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file.
    pub offset: u64,
    /// How many bytes, at least 1.
    pub length: u32,
    /// How many bytes of the block stand before the first.
    pub skip: u32,
    /// Which block.
    pub block: BlockRef,
}

impl Extent {
    /// The first byte of the file after it.
    pub const fn end(&self) -> u64 {
        self.offset + self.length as u64
    }
}

/// The content of a file. A value: changing it gives another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    size: u64,
    layout: Layout,
}

/// Where the bytes of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Here: 1 to [`INLINE_BYTES`].
    Inline(Bytes),
    /// In at most [`LIST_EXTENTS`] extents, sorted; what none covers is a hole.
    List(Vec<Extent>),
    /// In more extents than that.
    Tree(Tree<Extent>),
}

/// What a range of a file is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Zeros that are stored nowhere.
    Hole {
        /// Which bytes of the file.
        range: Range<u64>,
    },
    /// Bytes in the record itself.
    Inline {
        /// Which bytes of the file.
        range: Range<u64>,
        /// These.
        bytes: Bytes,
    },
    /// Bytes of a data block.
    Block {
        /// Which bytes of the file.
        range: Range<u64>,
        /// How many bytes of the block stand before the first.
        skip: u32,
        /// Which block.
        block: BlockRef,
    },
}

/// What a range of a file becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Which bytes of the file: not empty, and for a block at most [`crate::limits::BLOCK_BYTES`] less its skip.
    pub range: Range<u64>,
    /// What they become.
    pub fill: Fill,
}

/// What the bytes of a range become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Zeros that are stored nowhere.
    Hole,
    /// Bytes of a data block, from `skip` on.
    Block {
        /// How many bytes of the block stand before the first.
        skip: u32,
        /// Which block.
        block: BlockRef,
    },
}

impl Edit {
    /// `range` becomes the first bytes of `block`.
    pub fn block(range: Range<u64>, block: BlockRef) -> Self {
        Self { range, fill: Fill::Block { skip: 0, block } }
    }

    /// `range` becomes a hole.
    pub fn hole(range: Range<u64>) -> Self {
        Self { range, fill: Fill::Hole }
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::empty()
    }
}

impl Content {
    /// No bytes.
    pub const fn empty() -> Self {
        Self { size: 0, layout: Layout::List(Vec::new()) }
    }

    /// Tiny content that stands in the record; none if `bytes` are more than [`INLINE_BYTES`].
    pub fn inline(bytes: &[u8]) -> Option<Self> {
        match bytes.len() {
            0 => Some(Self::empty()),
            1..=INLINE_BYTES => {
                Some(Self { size: bytes.len() as u64, layout: Layout::Inline(Bytes::copy_from_slice(bytes)) })
            }
            _ => None,
        }
    }

    /// Bytes in the file.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Where they are.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Bytes of the file that are not in a hole. O(1).
    pub fn allocated(&self) -> u64 {
        match &self.layout {
            Layout::Inline(bytes) => bytes.len() as u64,
            Layout::List(extents) => extents.iter().map(|extent| u64::from(extent.length)).sum(),
            Layout::Tree(tree) => tree.sum(),
        }
    }

    /// [`Content::allocated`] in units of 512 bytes, rounded up, as `stat` has it. O(1).
    pub fn blocks512(&self) -> u64 {
        self.allocated().div_ceil(512)
    }

    /// What the bytes of `range`, as far as they are within the size, are made of: in order, without gaps.
    pub fn read_extents(&self, vault: &Vault, range: Range<u64>) -> Result<Vec<Segment>, TreeError> {
        self.segments(vault, range).collect()
    }

    /// [`Content::read_extents`], read as it is asked for. Ends after an error.
    pub fn segments<'a>(
        &'a self,
        vault: &'a Vault,
        range: Range<u64>,
    ) -> impl Iterator<Item = Result<Segment, TreeError>> + use<'a> {
        let end = range.end.min(self.size);
        let mut at = range.start;
        let mut extents = self.extents_from(vault, range.start).peekable();
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            if let Layout::Inline(bytes) = &self.layout {
                let range = std::mem::replace(&mut at, end)..end;
                return Some(Ok(Segment::Inline {
                    bytes: bytes.slice(range.start as usize..range.end as usize),
                    range,
                }));
            }
            while extents.next_if(|next| next.as_ref().is_ok_and(|extent| extent.end() <= at)).is_some() {}
            let (stop, segment) = match extents.peek() {
                Some(Err(_)) => {
                    at = end;
                    return extents.next().map(|error| error.map(|_| Segment::Hole { range: end..end }));
                }
                Some(Ok(extent)) if extent.offset <= at => {
                    let (range, skip) = (at..end.min(extent.end()), extent.skip + (at - extent.offset) as u32);
                    (range.end, Segment::Block { range, skip, block: extent.block })
                }
                Some(Ok(extent)) if extent.offset < end => (extent.offset, Segment::Hole { range: at..extent.offset }),
                _ => (end, Segment::Hole { range: at..end }),
            };
            at = stop;
            Some(Ok(segment))
        })
    }

    /// Fills `buffer` with the bytes from `offset` on; how many there are before the end of the file.
    pub fn read(&self, vault: &Vault, offset: u64, buffer: &mut [u8]) -> Result<usize, TreeError> {
        let end = offset.saturating_add(buffer.len() as u64).min(self.size);
        for segment in self.segments(vault, offset..end) {
            let segment = segment?;
            let range = segment.range();
            let part = &mut buffer[(range.start - offset) as usize..(range.end - offset) as usize];
            match segment {
                Segment::Hole { .. } => part.fill(0),
                Segment::Inline { bytes, .. } => part.copy_from_slice(&bytes),
                Segment::Block { skip, block, .. } => {
                    part.copy_from_slice(&vault.data_part(&block, skip, part.len())?);
                }
            }
        }
        Ok(end.saturating_sub(offset) as usize)
    }

    /// The bytes of `range` where they are, if one block holds them all: what [`Content::read`] copies. `range` is within
    /// the size.
    pub fn read_shared(&self, vault: &Vault, range: Range<u64>) -> Result<Option<Bytes>, TreeError> {
        match self.segments(vault, range.clone()).next().transpose()? {
            Some(Segment::Block { range: found, skip, block }) if found == range => {
                vault.data_part(&block, skip, (range.end - range.start) as usize).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The first byte at or after `offset` that is not in a hole; none if there is none before the end of the file.
    pub fn seek_data(&self, vault: &Vault, offset: u64) -> Result<Option<u64>, TreeError> {
        for segment in self.segments(vault, offset..self.size) {
            let segment = segment?;
            if !matches!(segment, Segment::Hole { .. }) {
                return Ok(Some(segment.range().start));
            }
        }
        Ok(None)
    }

    /// The first byte at or after `offset` that is in a hole; the end of the file counts as one. O(extents in between).
    pub fn seek_hole(&self, vault: &Vault, offset: u64) -> Result<u64, TreeError> {
        for segment in self.segments(vault, offset..self.size) {
            if let Segment::Hole { range } = segment? {
                return Ok(range.start);
            }
        }
        Ok(self.size.max(offset))
    }

    /// The extents from the one that holds `offset` on, or from one shortly before.
    fn extents_from<'a>(
        &'a self,
        vault: &'a Vault,
        offset: u64,
    ) -> Box<dyn Iterator<Item = Result<Extent, TreeError>> + 'a> {
        match &self.layout {
            Layout::Inline(_) => Box::new(std::iter::empty()),
            Layout::List(extents) => Box::new(extents.iter().copied().map(Ok)),
            Layout::Tree(tree) => Box::new(tree.range_from_floor(vault, &offset)),
        }
    }

    /// Writes one value: the bytes; or `[size, extent..]`; or `[[root, extents, sum of their lengths], size]`.
    pub(super) fn write(&self, out: &mut Encoder) {
        match &self.layout {
            Layout::Inline(bytes) => out.bytes(bytes),
            Layout::List(extents) => {
                out.array(1 + extents.len());
                out.unsigned(self.size);
                extents.iter().for_each(|extent| extent.encode(out));
            }
            Layout::Tree(tree) => {
                out.array(2);
                tree.write(out);
                out.unsigned(self.size);
            }
        }
    }

    pub(super) fn read_wire(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        if input.at_bytes() {
            let content = Self::inline(input.bytes()?).filter(|content| content.size > 0);
            return content.ok_or(Malformed("content that should not stand in the record"));
        }
        let fields = input.array()?;
        if input.at_array() {
            return Self::read_tree(fields, input);
        }
        let extents = fields.checked_sub(1).filter(|extents| *extents <= LIST_EXTENTS);
        let size = size(input.unsigned()?)?;
        let mut list = Vec::new();
        let mut end = 0;
        for _ in 0..extents.ok_or(Malformed("too many extents in a record"))? {
            let extent = Extent::decode(input)?;
            if extent.offset < end || extent.end() > size {
                return Err(Malformed("extents that overlap or pass the end"));
            }
            end = extent.end();
            list.push(extent);
        }
        Ok(Self { size, layout: Layout::List(list) })
    }

    fn read_tree(fields: usize, input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let tree = Tree::read(input)?;
        let size = size(input.unsigned()?)?;
        if fields != 2 || tree.count() <= LIST_EXTENTS as u64 || tree.sum() > size {
            return Err(Malformed("a tree of extents that should not be one"));
        }
        Ok(Self { size, layout: Layout::Tree(tree) })
    }
}

fn size(size: u64) -> Result<u64, Malformed> {
    if size <= limits::FILE_BYTES { Ok(size) } else { Err(Malformed("a file too large")) }
}

impl Segment {
    /// Which bytes of the file.
    pub fn range(&self) -> Range<u64> {
        let (Segment::Hole { range } | Segment::Inline { range, .. } | Segment::Block { range, .. }) = self;
        range.clone()
    }
}

impl Item for Extent {
    type Key = u64;
    const KIND: BlockKind = BlockKind::Extents;

    fn key(&self) -> u64 {
        self.offset
    }

    fn measure(&self) -> u64 {
        self.length.into()
    }

    fn precedes(&self, next: &u64) -> bool {
        self.end() <= *next
    }

    fn encode(&self, out: &mut Encoder) {
        out.array(4);
        out.unsigned(self.offset);
        out.unsigned(self.length.into());
        out.unsigned(self.skip.into());
        out.link(&self.block);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        input.array_of(4)?;
        let extent =
            Self { offset: input.unsigned()?, length: input.narrow()?, skip: input.narrow()?, block: input.link()? };
        let within = u64::from(extent.skip) + u64::from(extent.length) <= limits::BLOCK_BYTES as u64;
        if extent.length == 0 || !within || extent.offset > limits::FILE_BYTES - u64::from(extent.length) {
            return Err(Malformed("an extent that no block or file can hold"));
        }
        Ok(extent)
    }
}

impl super::btree::Key for u64 {
    fn encode(&self, out: &mut Encoder) {
        out.unsigned(*self);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        input.unsigned()
    }
}
