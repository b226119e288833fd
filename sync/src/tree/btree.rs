//! The one B-tree: sorted items in sealed nodes, changed by writing new nodes from the leaf to the root.

use std::marker::PhantomData;
use std::ops::Bound;

use super::vault::{TreeError, Vault};
use super::wire::{Decoder, Encoder, Malformed};
use crate::crypto::BlockKind;
use crate::link::BlockRef;

/// What items are sorted by.
pub trait Key: Ord + Clone + Send + Sync + 'static {
    /// Writes one value.
    fn encode(&self, out: &mut Encoder);
    /// Reads one value, and checks it.
    fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed>;
}

/// What a tree holds.
pub trait Item: Clone + PartialEq + Send + Sync + 'static {
    /// What it is sorted by. A key occurs once in a tree.
    type Key: Key;
    /// The kind of node that holds it.
    const KIND: BlockKind;
    /// Its key.
    fn key(&self) -> Self::Key;
    /// What the tree keeps a sum of.
    fn measure(&self) -> u64;
    /// Writes one value.
    fn encode(&self, out: &mut Encoder);
    /// Reads one value, and checks it.
    fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed>;
}

/// A sorted map from keys to items: a value that shares its nodes with the trees that it came from.
pub struct Tree<I> {
    root: Option<BlockRef>,
    count: u64,
    sum: u64,
    item: PhantomData<fn() -> I>,
}

/// One key that two trees do not agree on: what the one has, and what the other has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<I> {
    /// In the first tree.
    pub old: Option<I>,
    /// In the second tree.
    pub new: Option<I>,
}

/// The items of a range, in order, read as they are asked for. Ends after an error.
pub struct Range<'a, I: Item> {
    vault: &'a Vault,
    item: PhantomData<I>,
}

impl<I: Item> Iterator for Range<'_, I> {
    type Item = Result<I, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

impl<I> Tree<I> {
    /// No items.
    pub const fn empty() -> Self {
        Self { root: None, count: 0, sum: 0, item: PhantomData }
    }

    /// The root node; none if the tree is empty.
    pub const fn root(&self) -> Option<&BlockRef> {
        self.root.as_ref()
    }

    /// How many items. O(1).
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The sum of the items' measures. O(1).
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// Whether there are no items.
    pub const fn is_empty(&self) -> bool {
        self.root.is_none()
    }
}

impl<I: Item> Tree<I> {
    /// The item with `key`.
    pub fn get(&self, _vault: &Vault, _key: &I::Key) -> Result<Option<I>, TreeError> {
        todo!()
    }

    /// The item with the greatest key that is not above `key`.
    pub fn floor(&self, _vault: &Vault, _key: &I::Key) -> Result<Option<I>, TreeError> {
        todo!()
    }

    /// The items from `start` on, in order. Reads O(depth) nodes to begin, then each node once.
    pub fn range<'a>(&self, _vault: &'a Vault, _start: Bound<&I::Key>) -> Range<'a, I> {
        todo!()
    }

    /// All items, in order.
    pub fn iter<'a>(&self, vault: &'a Vault) -> Range<'a, I> {
        self.range(vault, Bound::Unbounded)
    }

    /// The tree with `changes` made: a key is given its item, or loses it. In any order; the last of equal keys counts.
    pub fn apply(&self, _vault: &Vault, _changes: Vec<(I::Key, Option<I>)>) -> Result<Self, TreeError> {
        todo!()
    }

    /// What differs between this tree and `other`, in the order of keys. Parts that both share are not read.
    pub fn diff<'a>(
        &self,
        _vault: &'a Vault,
        _other: &Self,
    ) -> impl Iterator<Item = Result<Difference<I>, TreeError>> + use<'a, I> {
        let _ = _vault;
        std::iter::empty()
    }
}

impl<I> Tree<I> {
    pub(super) fn write(&self, _out: &mut Encoder) {
        todo!()
    }

    pub(super) fn read(_input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        todo!()
    }
}

impl<I> Clone for Tree<I> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<I> PartialEq for Tree<I> {
    fn eq(&self, other: &Self) -> bool {
        (self.root, self.count, self.sum) == (other.root, other.count, other.sum)
    }
}

impl<I> Eq for Tree<I> {}

impl<I> std::fmt::Debug for Tree<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tree({:?}, {} items, sum {})", self.root.map(|root| root.link), self.count, self.sum)
    }
}
