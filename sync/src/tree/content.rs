//! The content of a file: which bytes of which data blocks its bytes are.

use std::ops::Range;

use bytes::Bytes;

use super::btree::{Item, Tree};
use super::vault::{TreeError, Vault};
use super::wire::{Decoder, Encoder, Malformed};
use crate::crypto::BlockKind;
use crate::link::BlockRef;

/// The size and alignment of data blocks that this program writes. Others may use any length.
pub const CHUNK_BYTES: u64 = 128 << 10;
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

impl Content {
    /// No bytes.
    pub const fn empty() -> Self {
        Self { size: 0, layout: Layout::List(Vec::new()) }
    }

    /// Tiny content that stands in the record; none if `bytes` are more than [`INLINE_BYTES`].
    pub fn inline(_bytes: &[u8]) -> Option<Self> {
        todo!()
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
        todo!()
    }

    /// [`Content::allocated`] in units of 512 bytes, rounded up, as `stat` has it. O(1).
    pub fn blocks512(&self) -> u64 {
        self.allocated().div_ceil(512)
    }

    /// What the bytes of `range`, as far as they are within the size, are made of: in order, without gaps.
    pub fn read_extents(&self, _vault: &Vault, _range: Range<u64>) -> Result<Vec<Segment>, TreeError> {
        todo!()
    }

    /// Fills `buffer` with the bytes from `offset` on; how many there are before the end of the file.
    pub fn read(&self, _vault: &Vault, _offset: u64, _buffer: &mut [u8]) -> Result<usize, TreeError> {
        todo!()
    }

    /// The content with `edits` made, and then cut or grown to `new_size`. Edits are sorted and do not overlap; what they
    /// say at or past `new_size` is dropped; growing leaves a hole. O(edits * log extents), whatever the size. Content
    /// that stands in the record is sealed as a block of its own first, if any edit leaves some of it.
    ///
    /// # Panics
    /// If edits are empty, overlap or are out of order, or `new_size` exceeds [`crate::limits::FILE_BYTES`].
    pub fn splice(&self, _vault: &Vault, _new_size: u64, _edits: &[Edit]) -> Result<Self, TreeError> {
        todo!()
    }

    /// The first byte at or after `offset` that is not in a hole; none if there is none before the end of the file.
    pub fn seek_data(&self, _vault: &Vault, _offset: u64) -> Result<Option<u64>, TreeError> {
        todo!()
    }

    /// The first byte at or after `offset` that is in a hole; the end of the file counts as one.
    pub fn seek_hole(&self, _vault: &Vault, _offset: u64) -> Result<u64, TreeError> {
        todo!()
    }

    pub(super) fn write(&self, _out: &mut Encoder) {
        todo!()
    }

    pub(super) fn read_wire(_input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        todo!()
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

    fn encode(&self, _out: &mut Encoder) {
        todo!()
    }

    fn decode(_input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        todo!()
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
