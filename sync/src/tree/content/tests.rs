#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::tree::testing::Lab;

/// Plain bytes of a file, and a block that a test writes.
fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| seed.wrapping_add(at as u8).max(1)).collect()
}

fn check(lab: &Lab, content: &Content, model: &[u8]) {
    assert_eq!(content.size(), model.len() as u64);
    let mut found = vec![0xee; model.len() + 10];
    assert_eq!(content.read(&lab.vault, 0, &mut found).unwrap(), model.len());
    assert!(
        found[..model.len()] == *model,
        "first difference at {:?}",
        (0..model.len()).find(|at| found[*at] != model[*at])
    );
    let segments = content.read_extents(&lab.vault, 0..u64::MAX).unwrap();
    let mut at = 0;
    let mut allocated = 0;
    for segment in segments {
        assert_eq!(segment.range().start, at);
        at = segment.range().end;
        if !matches!(segment, Segment::Hole { .. }) {
            allocated += segment.range().end - segment.range().start;
        }
    }
    assert_eq!((at, allocated), (content.size(), content.allocated()));
    if let Layout::Tree(tree) = content.layout() {
        assert!(tree.count() > LIST_EXTENTS as u64);
    }
    let mut out = Encoder::new();
    content.write(&mut out);
    let (links, body) = out.finish();
    let mut input = Decoder::new(&links, &body);
    assert_eq!(Content::read_wire(&mut input), Ok(content.clone()));
    assert_eq!(input.finish(), Ok(()));
}

#[derive(Clone, Debug)]
struct Plan {
    size: u64,
    /// Gap before, length, skip, and the block's seed; none for a hole.
    edits: Vec<(u64, u64, u32, Option<u8>)>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let edit = (0u64..60, 1u64..90, 0u32..20, prop::option::weighted(0.7, 1u8..200));
    (0u64..1_500, prop::collection::vec(edit, 0..25)).prop_map(|(size, edits)| Plan { size, edits })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn content_is_a_vector_of_bytes_after_any_splices(inline in prop::option::of(0usize..=INLINE_BYTES), plans in prop::collection::vec(plan(), 1..12), at in 0u64..1_600, len in 0usize..400) {
        let lab = Lab::new();
        let mut model = inline.map_or(Vec::new(), |len| bytes(3, len));
        let mut content = Content::inline(&model).unwrap();
        check(&lab, &content, &model);
        for Plan { size, edits: planned } in plans {
            let mut edits = Vec::new();
            let mut next = 0;
            for (gap, len, skip, seed) in planned {
                let range = next + gap..next + gap + len;
                next = range.end;
                model.resize(model.len().max(next as usize), 0);
                let place = &mut model[range.start as usize..range.end as usize];
                match seed {
                    None => {
                        place.fill(0);
                        edits.push(Edit::hole(range));
                    }
                    Some(seed) => {
                        let block = bytes(seed, 110);
                        place.copy_from_slice(&block[skip as usize..skip as usize + len as usize]);
                        let block = lab.vault.put_data(&block).unwrap();
                        edits.push(Edit { range, fill: Fill::Block { skip, block } });
                    }
                }
            }
            model.resize(size as usize, 0);
            content = content.splice(&lab.vault, size, &edits).unwrap();
            check(&lab, &content, &model);
            let mut part = vec![0; len];
            let read = content.read(&lab.vault, at, &mut part).unwrap();
            let expected = model.get(at as usize..).unwrap_or_default();
            assert_eq!(part[..read], expected[..expected.len().min(len)]);
            if at < size {
                let data = content.seek_data(&lab.vault, at).unwrap();
                let hole = content.seek_hole(&lab.vault, at).unwrap();
                // Bytes of blocks are never zero in this test.
                assert_eq!(data, (at..size).find(|at| model[*at as usize] != 0));
                assert_eq!(hole, (at..size).find(|at| model[*at as usize] == 0).unwrap_or(size));
            }
        }
    }
}

fn gibibyte(lab: &Lab) -> (Content, BlockRef) {
    let block = lab.vault.put_data(&vec![1; CHUNK_BYTES as usize]).unwrap();
    let edits: Vec<_> = (0..(1 << 30) / CHUNK_BYTES)
        .map(|chunk| Edit::block(chunk * CHUNK_BYTES..(chunk + 1) * CHUNK_BYTES, block))
        .collect();
    (Content::empty().splice(&lab.vault, 1 << 30, &edits).unwrap(), block)
}

#[test]
fn one_byte_changed_in_a_gibibyte_publishes_less_than_256_kib() {
    let lab = Lab::new();
    let (content, _) = gibibyte(&lab);
    let before = lab.written();
    let at = 123_456_789 / CHUNK_BYTES * CHUNK_BYTES;
    let mut chunk = vec![0; CHUNK_BYTES as usize];
    assert_eq!(content.read(&lab.vault, at, &mut chunk).unwrap(), chunk.len());
    chunk[5] = 77;
    let block = lab.vault.put_data(&chunk).unwrap();
    let edited = content.splice(&lab.vault, 1 << 30, &[Edit::block(at..at + CHUNK_BYTES, block)]).unwrap();
    assert!(lab.written() - before < 256 << 10, "{}", lab.written() - before);
    let mut byte = [0];
    edited.read(&lab.vault, at + 5, &mut byte).unwrap();
    assert_eq!((byte, edited.allocated()), ([77], 1 << 30));
}

#[test]
fn cutting_a_gibibyte_short_reads_and_writes_a_few_nodes() {
    const CUT: u64 = 7 * CHUNK_BYTES + 12_345;
    let lab = Lab::new();
    let (content, block) = gibibyte(&lab);
    lab.vault.set_node_capacity(0);
    lab.vault.set_node_capacity(24 << 20);
    let before = lab.written();
    let cut = content.splice(&lab.vault, CUT, &[]).unwrap();
    assert!(lab.vault.cached_nodes() < 8 && lab.written() - before < 64 << 10);
    assert_eq!((cut.size(), cut.allocated()), (CUT, CUT));
    let Layout::List(extents) = cut.layout() else { panic!("8 extents stand in the record: {cut:?}") };
    let last = Extent { offset: 7 * CHUNK_BYTES, length: (CUT - 7 * CHUNK_BYTES) as u32, skip: 0, block };
    assert_eq!((extents.len(), extents[7]), (8, last));
    // What was cut off does not come back.
    let grown = cut.splice(&lab.vault, 2_000_000, &[]).unwrap();
    assert_eq!(grown.seek_hole(&lab.vault, 0).unwrap(), CUT);
}

#[test]
fn a_terabyte_of_nothing_costs_nothing() {
    let lab = Lab::new();
    let content = Content::empty().splice(&lab.vault, 1 << 40, &[]).unwrap();
    assert_eq!((lab.written(), content.allocated(), content.size()), (0, 0, 1 << 40));
    assert_eq!(content.seek_data(&lab.vault, 5).unwrap(), None);
    assert_eq!(content.seek_hole(&lab.vault, 5).unwrap(), 5);
    let end = limits::FILE_BYTES;
    let block = lab.vault.put_data(b"x").unwrap();
    let content = content.splice(&lab.vault, end, &[Edit::block(end - 1..end, block)]).unwrap();
    assert_eq!(content.seek_data(&lab.vault, 0).unwrap(), Some(end - 1));
}

#[test]
fn inline_content_that_is_replaced_whole_is_not_sealed() {
    let lab = Lab::new();
    let content = Content::inline(b"old").unwrap();
    let block = lab.vault.put_data(b"newer").unwrap();
    let before = lab.written();
    let content = content.splice(&lab.vault, 5, &[Edit::block(0..5, block)]).unwrap();
    assert_eq!(lab.written(), before);
    check(&lab, &content, b"newer");
    assert_eq!(Content::inline(&[0; INLINE_BYTES + 1]), None);
}

#[test]
fn an_extent_longer_than_its_block_is_malformed_when_it_is_read() {
    let lab = Lab::new();
    let block = lab.vault.put_data(&[1; 64]).unwrap();
    let content = Content::empty().splice(&lab.vault, 65, &[Edit::block(0..65, block)]).unwrap();
    let error = content.read(&lab.vault, 0, &mut [0; 65]);
    assert!(matches!(error, Err(TreeError::Malformed { .. })), "{error:?}");
}
