#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

use crate::fs::model::lab::Lab;
use jaxfs_sync::tree::{Edit, Layout};

const CHUNK: u64 = CHUNK_BYTES;
/// Where layouts change.
const EDGES: [u64; 10] = [0, 1, 255, 256, 257, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK];

/// A file of a bucket, and what it is to hold.
struct Story<'a> {
    lab: &'a Lab,
    file: File,
    plain: Vec<u8>,
}

impl<'a> Story<'a> {
    fn new(lab: &'a Lab) -> Self {
        Self { lab, file: File::new(Content::empty(), Arc::default()), plain: Vec::new() }
    }

    fn write(&mut self, at: u64, data: &[u8]) -> &mut Self {
        self.file.write(at, data).unwrap();
        let end = at as usize + data.len();
        self.plain.resize(self.plain.len().max(end), 0);
        self.plain[at as usize..end].copy_from_slice(data);
        self.check()
    }

    fn truncate(&mut self, size: u64) -> &mut Self {
        self.file.truncate(size).unwrap();
        self.plain.resize(size as usize, 0);
        self.check()
    }

    fn punch(&mut self, range: Range<u64>) -> &mut Self {
        self.file.zero(range.clone(), false).unwrap();
        let size = self.plain.len();
        self.plain[(range.start as usize).min(size)..(range.end as usize).min(size)].fill(0);
        self.check()
    }

    /// Writes back, and reads what is stored.
    fn settle(&mut self) -> &mut Self {
        self.settle_as(true)
    }

    fn settle_as(&mut self, whole: bool) -> &mut Self {
        if self.file.freeze() {
            self.check();
            let settled = self.file.frozen().ok().unwrap().settle(self.lab.bucket.vault(), whole).unwrap();
            let is_whole = settled.is_whole();
            self.file.install(settled);
            if !is_whole {
                self.file.write_back_again();
            }
        }
        self.check();
        let stored = self.stored();
        assert_eq!(stored.size(), self.plain.len() as u64);
        let mut bytes = vec![0xee; self.plain.len()];
        stored.read(self.lab.bucket.vault(), 0, &mut bytes).unwrap();
        assert!(bytes == self.plain, "what is stored");
        self
    }

    fn stored(&self) -> Content {
        self.file.frozen().err().unwrap()
    }

    /// Skip and length of each extent.
    fn extents(&self) -> Vec<(u32, u32)> {
        match self.stored().layout() {
            Layout::List(extents) => extents.iter().map(|extent| (extent.skip, extent.length)).collect(),
            layout => panic!("they are few: {layout:?}"),
        }
    }

    fn check(&mut self) -> &mut Self {
        assert!(self.file.read(self.lab.bucket.vault(), 0, 1 << 20).unwrap() == self.plain, "what is read");
        self
    }
}

#[test]
fn every_size_survives_being_written_back_and_appended_to() {
    let lab = Lab::new();
    for size in EDGES {
        let mut story = Story::new(&lab);
        story.write(0, &vec![1; size as usize]).settle();
        assert_eq!(matches!(story.stored().layout(), Layout::Inline(_)), (1..=256).contains(&size));
        for more in EDGES {
            let mut story = Story::new(&lab);
            story.write(0, &vec![1; size as usize]).settle().write(size, &vec![2; more as usize]).settle();
        }
    }
}

#[test]
fn an_append_seals_one_chunk_again_and_not_the_file() {
    let lab = Lab::new();
    let mut story = Story::new(&lab);
    story.write(0, &vec![1; 5 * CHUNK as usize]).settle().write(5 * CHUNK, b"begin").settle();
    let before = story.lab.bucket.status().unwrap().written_blocks;
    story.write(5 * CHUNK + 5, b"more").settle();
    assert_eq!(story.lab.bucket.status().unwrap().written_blocks, before + 1);
}

#[test]
fn pages_share_a_block_until_a_version_has_their_chunks_whole() {
    const WHOLE: (u32, u32) = (0, CHUNK as u32);
    let lab = Lab::new();
    let mut story = Story::new(&lab);
    story.write(0, &vec![1; 3 * CHUNK as usize]).settle();
    let before = story.lab.bucket.status().unwrap().written_blocks;
    story.write(0, &[2; 4096]).write(2 * CHUNK - 4096, &[3; 4096]).settle_as(false);
    assert_eq!(story.lab.bucket.status().unwrap().written_blocks, before + 1);
    let half = |from: u32, len: u32| (from, len);
    let (first, second) = ([half(0, 4096), half(4096, WHOLE.1 - 4096)], [half(0, WHOLE.1 - 4096), half(4096, 4096)]);
    assert_eq!(story.extents(), [&first[..], &second[..], &[WHOLE]].concat());
    // What is sealed with all that is around it anyway is whole by that.
    story.write(100, &[4; 5]).settle_as(false);
    assert_eq!(story.extents(), [&[WHOLE], &second[..], &[WHOLE]].concat());
    assert_eq!(story.file.budget.scattered.get(), 1);
    story.settle();
    assert_eq!(story.extents(), [WHOLE; 3]);
    assert_eq!(story.lab.bucket.status().unwrap().written_blocks, before + 3);
    assert!(!story.file.is_changed());
}

#[test]
fn no_more_chunks_are_scattered_than_a_version_can_gather() {
    let lab = Lab::new();
    let mut story = Story::new(&lab);
    story.write(0, &vec![1; 3 * CHUNK as usize]).settle();
    story.file.budget.scattered.change(0, limits::SCATTERED_CHUNKS - 1);
    for chunk in 0..3 {
        story.write(chunk * CHUNK, &[2; 4096]);
    }
    story.settle_as(false);
    assert_eq!(story.file.budget.scattered.get(), limits::SCATTERED_CHUNKS);
    assert_eq!(story.extents().len(), 4);
}

#[test]
fn what_was_cut_off_never_comes_back() {
    let lab = Lab::new();
    for size in EDGES {
        for cut in EDGES.into_iter().filter(|cut| *cut <= size) {
            for again in EDGES {
                let mut one = Story::new(&lab);
                one.write(0, &vec![1; size as usize]).settle().truncate(cut).truncate(again).settle();
                let mut two = Story::new(&lab);
                two.write(0, &vec![1; size as usize]).settle().truncate(cut).settle().truncate(again).settle();
                let mut above = Story::new(&lab);
                above.write(0, &vec![1; size as usize]).settle().truncate(cut).write(again, b"new").settle();
            }
        }
    }
}

#[test]
fn a_hole_inside_a_chunk_reads_as_zeros_whatever_is_around_it() {
    let lab = Lab::new();
    for (from, until) in EDGES.into_iter().flat_map(|from| EDGES.map(|until| (from, until))) {
        let mut story = Story::new(&lab);
        story.write(0, &vec![1; 2 * CHUNK as usize]).settle();
        story
            .punch(from..until.max(from))
            .settle()
            .write(from + 10, b"in it")
            .settle()
            .punch(from + 12..from + 13)
            .settle();
    }
}

#[test]
fn a_sparse_file_takes_no_more_than_what_was_written() {
    let lab = Lab::new();
    let mut story = Story::new(&lab);
    story.truncate(2 * CHUNK).write(CHUNK + 1000, &[7; 100]).settle();
    assert_eq!(story.stored().allocated(), 100);
    let vault = story.lab.bucket.vault();
    assert_eq!(story.file.seek(vault, 0, true), Ok(CHUNK + 1000));
    assert_eq!(story.file.seek(vault, CHUNK + 1000, false), Ok(CHUNK + 1100));
    assert_eq!(story.file.seek(vault, CHUNK + 1100, true), Err(FsError::NoOffset));
    story.truncate(10).truncate(2 * CHUNK);
    assert_eq!(story.file.seek(vault, 10, true), Err(FsError::NoOffset), "what was cut off is a hole");
}

#[test]
fn what_could_not_be_stored_lies_below_what_came_since() {
    let lab = Lab::new();
    let mut story = Story::new(&lab);
    story.write(0, &[1; 1000]).settle().write(100, &[2; 100]).truncate(500);
    assert!(story.file.freeze());
    story.write(150, &[3; 100]).truncate(400).truncate(800);
    story.file.thaw();
    story.check().settle();
    assert_eq!(story.file.budget.dirty.get(), 0);
}

#[derive(Clone, Debug)]
enum Op {
    Write(usize, u64, u64),
    Punch(usize, u64, u64),
    Truncate(usize, u64),
    Copy { from: (usize, u64), to: (usize, u64), len: u64 },
    Settle(usize, bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let which = || 0..2usize;
    let page = || (0..4 * CHUNK / 4096).prop_map(|page| page * 4096);
    let place = || {
        prop_oneof![0..4 * CHUNK, page(), (0..5u64, 0..3u64).prop_map(|(chunk, by)| (chunk * CHUNK + by).max(1) - 1)]
    };
    let len = || prop_oneof![1..300u64, Just(4096), 4000..9000u64, 1..3 * CHUNK];
    let op = prop_oneof![
        4 => (which(), place(), len()).prop_map(|(file, at, len)| Op::Write(file, at, len)),
        3 => (which(), page()).prop_map(|(file, at)| Op::Write(file, at, 4096)),
        1 => (which(), place(), len()).prop_map(|(file, at, len)| Op::Punch(file, at, len)),
        1 => (which(), place()).prop_map(|(file, size)| Op::Truncate(file, size)),
        4 => (which(), place(), which(), place(), len())
            .prop_map(|(a, from, b, to, len)| Op::Copy { from: (a, from), to: (b, to), len }),
        3 => (which(), any::<bool>()).prop_map(|(file, whole)| Op::Settle(file, whole)),
    ];
    prop::collection::vec(op, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn what_is_copied_reads_as_its_source_did(ops in ops()) {
        let lab = Lab::new();
        let mut stories = [Story::new(&lab), Story::new(&lab)];
        for (step, op) in ops.into_iter().enumerate() {
            match op {
                Op::Write(file, at, len) => {
                    let data: Vec<_> = (0..len).map(|by| (step as u64 * 7 + by % 253) as u8 | 1).collect();
                    stories[file].write(at, &data);
                }
                Op::Punch(file, at, len) => {
                    stories[file].punch(at..at + len);
                }
                Op::Truncate(file, size) => {
                    stories[file].truncate(size);
                }
                Op::Copy { from, to, len } => {
                    let parts = stories[from.0].file.parts(lab.bucket.vault(), from.1, len).unwrap();
                    let source = &stories[from.0].plain;
                    let start = (from.1 as usize).min(source.len());
                    let data = source[start..(start + len as usize).min(source.len())].to_vec();
                    prop_assert_eq!(parts.iter().map(Part::len).sum::<u64>(), data.len() as u64);
                    if !data.is_empty() {
                        let target = &mut stories[to.0];
                        target.file.put_parts(to.1, parts).unwrap();
                        let end = to.1 as usize + data.len();
                        target.plain.resize(target.plain.len().max(end), 0);
                        target.plain[to.1 as usize..end].copy_from_slice(&data);
                        target.check();
                    }
                }
                Op::Settle(file, whole) => {
                    stories[file].settle_as(whole);
                }
            }
        }
        for story in &mut stories {
            story.settle();
            prop_assert_eq!(story.file.budget.scattered.get(), 0);
        }
    }
}

#[test]
fn what_is_written_beside_content_on_other_machines_is_sealed_without_it() {
    let lab = Lab::new();
    let vault = lab.bucket.vault();
    let mut elsewhere = vault.put_data(&[7; 100]).unwrap();
    elsewhere.link = jaxfs_sync::link::Link::of(jaxfs_sync::link::Codec::Raw, b"on another machine");
    for whole in [true, false] {
        let base = Content::empty().splice(vault, 2 * CHUNK, &[Edit::block(0..CHUNK, elsewhere)]).unwrap();
        let file = File::new(base, Arc::default());
        file.write(10, b"here").unwrap();
        file.write(CHUNK + 5, b"there").unwrap();
        assert!(file.freeze());
        let settled = file.frozen().ok().unwrap().settle(vault, whole).unwrap();
        file.install(settled);
        let read = |at: u64, len: usize| file.read(vault, at, len);
        assert_eq!(&read(10, 4).unwrap()[..], b"here");
        assert_eq!(&read(CHUNK + 4, 7).unwrap()[..], b"\0there\0");
        assert!(matches!(read(9, 2), Err(TreeError::Missing(_))) && matches!(read(14, 1), Err(TreeError::Missing(_))));
        assert_eq!(file.blocks(vault, 0, 10).unwrap(), [elsewhere]);
        // A file that becomes small enough to stand in its record needs what was in it.
        file.truncate(12).unwrap();
        assert!(file.freeze());
        let settled = file.frozen().ok().unwrap().settle(vault, whole).unwrap();
        file.install(settled);
        assert_eq!(&file.read(vault, 10, 2).unwrap()[..], b"he");
    }
}
