//! Dirty extents: what was written to a file and is not sealed yet, as layers over its stored content.
//!
//! Pure arithmetic on ranges of bytes. No piece of data crosses a chunk boundary, so that a full chunk can be sealed as it
//! stands; what was copied from another file is not data here, but the name of a sealed block. Pieces never overlap. A file has at most two layers: the one that is being written back, which nobody changes,
//! and the one above it, which takes the writes.

use std::collections::BTreeMap;
use std::ops::Range;

use jaxfs_sync::link::BlockRef;
use jaxfs_sync::tree::CHUNK_BYTES as CHUNK;

/// What one piece costs in memory beside its bytes: a map entry and an allocation, roughly.
const PIECE_COST: usize = 96;

/// What stands in a range of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// These bytes.
    Data(Vec<u8>),
    /// This many zeros that need no storage.
    Hole(u64),
    /// Bytes that are sealed already.
    Sealed(Sealed),
}

/// Bytes `[skip, skip + len)` of a data block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) skip: u32,
    pub(crate) len: u32,
    pub(crate) block: BlockRef,
}

impl Sealed {
    /// The part from `at` on.
    pub(crate) const fn behind(self, at: u64) -> Self {
        Self { skip: self.skip + at as u32, len: self.len - at as u32, ..self }
    }
}

/// What stands in a part of a range, as a layer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cover<'a> {
    /// These bytes.
    Data(&'a [u8]),
    Zeros,
    Sealed(Sealed),
    /// What the layer below has.
    Below,
}

impl Piece {
    /// Bytes of the file that it covers.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Piece::Data(bytes) => bytes.len() as u64,
            Piece::Hole(len) => *len,
            Piece::Sealed(sealed) => sealed.len.into(),
        }
    }

    /// Bytes of data in it, here or sealed.
    fn data_bytes(&self) -> u64 {
        match self {
            Piece::Data(_) | Piece::Sealed(_) => self.len(),
            Piece::Hole(_) => 0,
        }
    }

    fn cost(&self) -> usize {
        PIECE_COST
            + match self {
                Piece::Data(bytes) => bytes.len(),
                Piece::Hole(_) | Piece::Sealed(_) => 0,
            }
    }

    /// The part from `at` on, relative to the piece; `self` keeps what is before it.
    fn split_off(&mut self, at: u64) -> Piece {
        match self {
            Piece::Data(bytes) => Piece::Data(bytes.split_off(at as usize)),
            Piece::Hole(len) => {
                let rest = *len - at;
                *len = at;
                Piece::Hole(rest)
            }
            Piece::Sealed(sealed) => {
                let rest = sealed.behind(at);
                sealed.len = at as u32;
                Piece::Sealed(rest)
            }
        }
    }
}

/// A layer of changes over what lies below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pieces: BTreeMap<u64, Piece>,
    /// Only the first `cut` bytes of what is below are visible; behind them are zeros.
    cut: u64,
    cost: usize,
    data_bytes: u64,
}

impl Default for Layer {
    fn default() -> Self {
        Self { pieces: BTreeMap::new(), cut: u64::MAX, cost: 0, data_bytes: 0 }
    }
}

impl Layer {
    /// Whether the layer changes nothing.
    pub(crate) fn is_clean(&self) -> bool {
        self.pieces.is_empty() && self.cut == u64::MAX
    }

    /// Bytes of memory that the layer takes, roughly.
    pub(crate) const fn cost(&self) -> usize {
        self.cost
    }

    /// Bytes of the file that have data in the layer.
    pub(crate) const fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// How much of what lies below is visible.
    pub(crate) const fn cut(&self) -> u64 {
        self.cut
    }

    /// The pieces that overlap a range, whole, with their offsets.
    pub(crate) fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Piece)> {
        let first = self.pieces.range(..=range.start).next_back().map_or(range.start, |(start, _)| *start);
        self.pieces
            .range(first..range.end)
            .map(|(start, piece)| (*start, piece))
            .filter(move |(start, piece)| start + piece.len() > range.start)
    }

    /// The sealed blocks that it names.
    pub(crate) fn sealed(&self) -> impl Iterator<Item = &Sealed> {
        self.pieces.values().filter_map(|piece| match piece {
            Piece::Sealed(sealed) => Some(sealed),
            Piece::Data(_) | Piece::Hole(_) => None,
        })
    }

    /// Puts bytes at an offset.
    pub(crate) fn write(&mut self, mut offset: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let room = (CHUNK - offset % CHUNK) as usize;
            let (now, later) = data.split_at(room.min(data.len()));
            self.write_within_chunk(offset, now);
            offset += now.len() as u64;
            data = later;
        }
    }

    /// Makes a range read as zeros.
    pub(crate) fn punch(&mut self, range: Range<u64>) {
        if !range.is_empty() {
            self.clear(range.clone());
            self.insert(range.start, Piece::Hole(range.end - range.start));
        }
    }

    /// Makes the bytes from `offset` on those of a sealed block.
    pub(crate) fn link(&mut self, offset: u64, sealed: Sealed) {
        self.clear(offset..offset + u64::from(sealed.len));
        self.insert(offset, Piece::Sealed(sealed));
    }

    /// Forgets everything from `size` on, here and below.
    pub(crate) fn truncate(&mut self, size: u64) {
        self.clear(size..u64::MAX);
        self.cut = self.cut.min(size);
    }

    /// What the parts of a range are, in order, without gaps. Behind the cut are zeros.
    pub(crate) fn cover(&self, range: Range<u64>) -> Vec<(Range<u64>, Cover<'_>)> {
        let mut parts = Vec::new();
        let mut at = range.start;
        for (start, piece) in self.pieces(range.clone()) {
            let (from, stop) = (start.max(range.start), (start + piece.len()).min(range.end));
            self.gap(at..from, &mut parts);
            let cover = match piece {
                Piece::Data(bytes) => Cover::Data(&bytes[(from - start) as usize..(stop - start) as usize]),
                Piece::Hole(_) => Cover::Zeros,
                Piece::Sealed(sealed) => {
                    Cover::Sealed(Sealed { len: (stop - from) as u32, ..sealed.behind(from - start) })
                }
            };
            parts.push((from..stop, cover));
            at = stop;
        }
        self.gap(at..range.end, &mut parts);
        parts
    }

    /// Lays `upper` over this layer, as if its changes had been made here.
    pub(crate) fn absorb(&mut self, upper: Layer) {
        if upper.cut != u64::MAX {
            self.truncate(upper.cut);
        }
        for (start, piece) in upper.pieces {
            self.clear(start..start + piece.len());
            self.insert(start, piece);
        }
    }

    /// A range without pieces: what is below, up to the cut.
    fn gap(&self, range: Range<u64>, parts: &mut Vec<(Range<u64>, Cover<'_>)>) {
        let cut = self.cut.clamp(range.start, range.end.max(range.start));
        for (part, cover) in [(range.start..cut, Cover::Below), (cut..range.end, Cover::Zeros)] {
            if !part.is_empty() {
                parts.push((part, cover));
            }
        }
    }

    fn write_within_chunk(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        let before = self.pieces.range(..=offset).next_back();
        let joined = before.and_then(|(start, piece)| match piece {
            Piece::Data(bytes) if start / CHUNK == offset / CHUNK && start + bytes.len() as u64 >= offset => {
                Some((*start, start + bytes.len() as u64))
            }
            _ => None,
        });
        let Some((start, stop)) = joined else {
            self.clear(offset..end);
            self.insert(offset, Piece::Data(data.to_vec()));
            return;
        };
        self.clear(stop.min(end)..end);
        if let Some(Piece::Data(bytes)) = self.pieces.get_mut(&start) {
            let overlap = (stop.min(end) - offset) as usize;
            bytes[(offset - start) as usize..][..overlap].copy_from_slice(&data[..overlap]);
            bytes.extend_from_slice(&data[overlap..]);
            self.cost += data.len() - overlap;
            self.data_bytes += (data.len() - overlap) as u64;
        }
    }

    fn insert(&mut self, start: u64, piece: Piece) {
        self.cost += piece.cost();
        self.data_bytes += piece.data_bytes();
        let replaced = self.pieces.insert(start, piece);
        debug_assert!(replaced.is_none(), "a range is cleared before it is filled");
    }

    fn remove(&mut self, start: u64) -> Option<Piece> {
        let piece = self.pieces.remove(&start)?;
        self.cost -= piece.cost();
        self.data_bytes -= piece.data_bytes();
        Some(piece)
    }

    /// Takes a range out of all pieces.
    fn clear(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let overlapping: Vec<u64> = self.pieces(range.clone()).map(|(start, _)| start).collect();
        for start in overlapping {
            let Some(mut piece) = self.remove(start) else { continue };
            let end = start + piece.len();
            let after = (end > range.end).then(|| piece.split_off(range.end - start));
            if start < range.start {
                piece.split_off(range.start - start);
                self.insert(start, piece);
            }
            if let Some(after) = after {
                self.insert(range.end, after);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jaxfs_sync::link::{Codec, Epoch, Link};
    use proptest::prelude::*;

    const SPAN: usize = 3 * CHUNK as usize + 100;

    #[derive(Clone, Debug)]
    enum Op {
        Write(usize, usize, u8),
        Punch(usize, usize),
        Link(usize, u32, u32),
        Truncate(usize),
        Push,
    }

    /// A block whose bytes say where in it they are.
    fn block() -> BlockRef {
        BlockRef { link: Link::of(Codec::Raw, b"a block"), epoch: Epoch(0) }
    }

    const fn byte_of_block(at: usize) -> u8 {
        (at % 251) as u8
    }

    fn op() -> impl Strategy<Value = Op> {
        // Offsets near chunk boundaries are where the mistakes are.
        let place = prop_oneof![
            0..SPAN,
            (0..4usize, 0..8usize)
                .prop_map(|(chunk, by)| { (chunk * CHUNK as usize + by).saturating_sub(4).min(SPAN - 1) })
        ];
        let len = prop_oneof![1..40usize, 1..2 * CHUNK as usize];
        prop_oneof![
            6 => (place.clone(), len.clone(), 1..=255u8).prop_map(|(at, len, with)| Op::Write(at, len, with)),
            2 => (place.clone(), len.clone()).prop_map(|(at, len)| Op::Punch(at, len)),
            3 => (place.clone(), 0..9000u32, len).prop_map(|(at, skip, len)| Op::Link(at, skip, len as u32)),
            1 => place.prop_map(Op::Truncate),
            1 => Just(Op::Push),
        ]
    }

    /// What a file of layers over zeros-free ground reads as.
    fn view(layers: &[Layer], ground: &[u8]) -> Vec<u8> {
        let mut out = vec![0xee; SPAN];
        let mut gaps: Vec<_> = std::iter::once(0..SPAN as u64).collect();
        for layer in layers.iter().rev() {
            for (range, cover) in std::mem::take(&mut gaps).into_iter().flat_map(|gap| layer.cover(gap)) {
                let part = &mut out[range.start as usize..range.end as usize];
                match cover {
                    Cover::Data(bytes) => part.copy_from_slice(bytes),
                    Cover::Zeros => part.fill(0),
                    Cover::Sealed(sealed) => {
                        assert_eq!(sealed.len as usize, part.len());
                        (sealed.skip as usize..).zip(part).for_each(|(at, byte)| *byte = byte_of_block(at));
                    }
                    Cover::Below => gaps.push(range),
                }
            }
        }
        for gap in gaps {
            out[gap.start as usize..gap.end as usize].copy_from_slice(&ground[gap.start as usize..gap.end as usize]);
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn layers_read_like_one_array(ops in prop::collection::vec(op(), 1..40)) {
            let ground = vec![7u8; SPAN];
            let mut model = ground.clone();
            let mut layers = vec![Layer::default()];
            for op in ops {
                let top = layers.last_mut().expect("there is always a layer");
                match op {
                    Op::Write(at, len, with) => {
                        let len = len.min(SPAN - at);
                        top.write(at as u64, &vec![with; len]);
                        model[at..at + len].fill(with);
                    }
                    Op::Punch(at, len) => {
                        let end = (at + len).min(SPAN);
                        top.punch(at as u64..end as u64);
                        model[at..end].fill(0);
                    }
                    Op::Link(at, skip, len) => {
                        let len = len.min((SPAN - at) as u32);
                        top.link(at as u64, Sealed { skip, len, block: block() });
                        (0..len as usize).for_each(|by| model[at + by] = byte_of_block(skip as usize + by));
                    }
                    Op::Truncate(at) => {
                        top.truncate(at as u64);
                        model[at..].fill(0);
                    }
                    Op::Push => layers.push(Layer::default()),
                }
                prop_assert!(view(&layers, &ground) == model);
            }
            let mut merged = Layer::default();
            for layer in layers {
                merged.absorb(layer);
            }
            prop_assert!(view(std::slice::from_ref(&merged), &ground) == model);
            let cost: usize = merged.pieces.values().map(Piece::cost).sum();
            prop_assert_eq!(cost, merged.cost());
            prop_assert_eq!(merged.pieces.values().map(Piece::data_bytes).sum::<u64>(), merged.data_bytes());
            for (start, piece) in &merged.pieces {
                if let Piece::Data(bytes) = piece {
                    prop_assert!(start / CHUNK == (start + bytes.len() as u64 - 1) / CHUNK);
                }
            }
        }
    }

    #[test]
    fn appends_grow_one_piece_up_to_the_chunk() {
        let mut layer = Layer::default();
        for at in 0..2 * CHUNK / 1024 {
            layer.write(at * 1024, &[1; 1024]);
        }
        assert_eq!(layer.pieces(0..u64::MAX).count(), 2);
    }
}
