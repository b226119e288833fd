//! Changing content.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Content, Edit, Extent, Fill, LIST_EXTENTS, Layout};
use crate::limits;
use crate::tree::btree::Tree;
use crate::tree::vault::{TreeError, Vault};

impl Content {
    /// The content with `edits` made, and then cut or grown to `new_size`. Edits are sorted and do not overlap; what they
    /// say at or past `new_size` is dropped; growing leaves a hole. O(edits * log extents), whatever the size. Content
    /// that stands in the record is sealed as a block of its own first, unless nothing of it is left.
    ///
    /// # Panics
    /// If edits are empty, overlap, are out of order or exceed a block, or if `new_size` exceeds [`limits::FILE_BYTES`].
    pub fn splice(&self, vault: &Vault, new_size: u64, edits: &[Edit]) -> Result<Self, TreeError> {
        assert!(new_size <= limits::FILE_BYTES, "a file is at most 2^63 - 1 bytes");
        check(edits);
        if new_size == 0 {
            return Ok(Self::empty());
        }
        if edits.is_empty() && new_size == self.size {
            return Ok(self.clone());
        }
        let mut edits: Vec<_> = edits.iter().filter_map(|edit| clip(edit, new_size)).collect();
        if new_size < self.size {
            edits.push(Edit::hole(new_size..u64::MAX));
        }
        let old = Old::of(self, vault, &edits)?;
        let puts = pieces(vault, &old, &edits)?;
        let clears: Vec<_> = edits.iter().map(|edit| (edit.range.start, edit.range.end - 1)).collect();
        Ok(Self { size: new_size, layout: old.edit(vault, &clears, &puts)? })
    }
}

fn check(edits: &[Edit]) {
    let mut end = 0;
    for Edit { range, fill } in edits {
        assert!(end <= range.start && range.start < range.end, "edits are sorted and not empty");
        if let Fill::Block { skip, .. } = fill {
            let within = u64::from(*skip) + (range.end - range.start) <= limits::BLOCK_BYTES as u64;
            assert!(within, "an edit lies within its block");
        }
        end = range.end;
    }
}

/// The part of an edit that is before `size`.
fn clip(edit: &Edit, size: u64) -> Option<Edit> {
    let range = edit.range.start..edit.range.end.min(size);
    (range.start < range.end).then(|| Edit { range, fill: edit.fill.clone() })
}

/// The extents before a change.
enum Old {
    List(Vec<Extent>),
    Tree(Tree<Extent>),
}

impl Old {
    fn of(content: &Content, vault: &Vault, edits: &[Edit]) -> Result<Self, TreeError> {
        Ok(match &content.layout {
            Layout::Tree(tree) => Old::Tree(tree.clone()),
            Layout::List(extents) => Old::List(extents.clone()),
            Layout::Inline(bytes) if covered(0..content.size, edits) => {
                debug_assert!(!bytes.is_empty());
                Old::List(Vec::new())
            }
            Layout::Inline(bytes) => {
                let length = bytes.len() as u32;
                Old::List(vec![Extent { offset: 0, length, skip: 0, block: vault.put_data(bytes)? }])
            }
        })
    }

    /// The last extent that begins before `end`.
    fn before(&self, vault: &Vault, end: u64) -> Result<Option<Extent>, TreeError> {
        let Some(last) = end.checked_sub(1) else { return Ok(None) };
        match self {
            Old::Tree(tree) => tree.floor(vault, &last),
            Old::List(list) => {
                let count = list.partition_point(|extent| extent.offset <= last);
                Ok(count.checked_sub(1).and_then(|index| list.get(index)).copied())
            }
        }
    }

    fn edit(self, vault: &Vault, clears: &[(u64, u64)], puts: &[Extent]) -> Result<Layout, TreeError> {
        let tree = match self {
            Old::Tree(tree) => tree.edit(vault, clears, puts)?,
            Old::List(list) => {
                let kept = |offset: u64| !clears.iter().any(|(start, end)| (*start..=*end).contains(&offset));
                let mut map: BTreeMap<_, _> = list.into_iter().map(|extent| (extent.offset, extent)).collect();
                map.retain(|offset, _| kept(*offset));
                map.extend(puts.iter().map(|extent| (extent.offset, *extent)));
                let list: Vec<_> = map.into_values().collect();
                if list.len() <= LIST_EXTENTS {
                    return Ok(Layout::List(list));
                }
                Tree::empty().edit(vault, &[], &list)?
            }
        };
        if tree.count() > LIST_EXTENTS as u64 {
            return Ok(Layout::Tree(tree));
        }
        tree.iter(vault).collect::<Result<_, _>>().map(Layout::List)
    }
}

/// Whether `edits` replace all of `range`.
fn covered(range: Range<u64>, edits: &[Edit]) -> bool {
    let mut at = range.start;
    for edit in edits {
        if edit.range.start > at {
            break;
        }
        at = at.max(edit.range.end);
    }
    at >= range.end
}

/// What comes in: the edits' own extents, and what is left of old ones that reach over an edit's edge.
fn pieces(vault: &Vault, old: &Old, edits: &[Edit]) -> Result<Vec<Extent>, TreeError> {
    let mut pieces = BTreeMap::new();
    let mut keep = |extent: Option<Extent>, window: Range<u64>| {
        if let Some(piece) = extent.and_then(|extent| part(&extent, window)) {
            pieces.insert(piece.offset, piece);
        }
    };
    for (index, Edit { range, fill }) in edits.iter().enumerate() {
        let gap_before = index.checked_sub(1).map_or(0, |index| edits[index].range.end)..range.start;
        let gap_after = range.end..edits.get(index + 1).map_or(u64::MAX, |next| next.range.start);
        keep(old.before(vault, range.start)?, gap_before);
        keep(old.before(vault, range.end)?, gap_after);
        if let Fill::Block { skip, block } = *fill {
            let length = (range.end - range.start) as u32;
            keep(Some(Extent { offset: range.start, length, skip, block }), range.clone());
        }
    }
    Ok(pieces.into_values().collect())
}

/// The part of an extent that is within `window`.
fn part(extent: &Extent, window: Range<u64>) -> Option<Extent> {
    let (start, end) = (extent.offset.max(window.start), extent.end().min(window.end));
    (start < end).then(|| Extent {
        offset: start,
        length: (end - start) as u32,
        skip: extent.skip + (start - extent.offset) as u32,
        block: extent.block,
    })
}
