//! The one B-tree: sorted items in sealed nodes, changed by writing new nodes from the leaf to the root.
//!
//! A leaf holds items; a branch holds, for each child, its first key, its number of items, the sum of their measures and
//! its link. Nodes aim at [`limits::NODE_BYTES`]: a fuller one splits into even parts, one below a quarter merges with a
//! neighbour, and a single item that is larger than a node has one to itself.
//!
//! What a branch says of a child is checked when the child is read (level, first key, count, sum, and that its keys end
//! before the next child's begin), so that counts can be believed and a listing is in order whoever wrote the tree.

mod diff;
mod edit;
mod read;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;
use std::sync::Arc;

pub use diff::Difference;
pub use read::Range;

use super::vault::{NodeBody, TreeError, Vault};
use super::wire::{Decoder, Encoder, Malformed};
use crate::crypto::BlockKind;
use crate::limits;
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
    /// Whether an item with the key `next` may come after this one.
    fn precedes(&self, next: &Self::Key) -> bool {
        self.key() < *next
    }
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

    /// Writes one value: null, or `[link, count, sum]`.
    pub(super) fn write(&self, out: &mut Encoder) {
        match &self.root {
            None => out.null(),
            Some(root) => {
                out.array(3);
                out.link(root);
                out.unsigned(self.count);
                out.unsigned(self.sum);
            }
        }
    }

    pub(super) fn read(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        if input.null() {
            return Ok(Self::empty());
        }
        input.array_of(3)?;
        let tree =
            Self { root: Some(input.link()?), count: input.unsigned()?, sum: input.unsigned()?, item: PhantomData };
        if tree.count == 0 { Err(Malformed("a tree without items has no root")) } else { Ok(tree) }
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

/// A node, opened.
pub(super) enum Node<I: Item> {
    /// Items in the order of their keys, at least one.
    Leaf(Vec<I>),
    /// Children in the order of their first keys, at least one; each has a level one lower.
    Branch { level: u8, children: Vec<Child<I::Key>> },
}

/// What a branch says of a child.
#[derive(Clone, PartialEq)]
pub(super) struct Child<K> {
    first: K,
    count: u64,
    sum: u64,
    pub(super) at: BlockRef,
}

impl<I: Item> Node<I> {
    fn level(&self) -> u8 {
        match self {
            Node::Leaf(_) => 0,
            Node::Branch { level, .. } => *level,
        }
    }

    /// The first key, the number of items, and the sum of their measures.
    fn totals(&self) -> Option<(I::Key, u64, u64)> {
        match self {
            Node::Leaf(items) => {
                let sum = items.iter().try_fold(0u64, |sum, item| sum.checked_add(item.measure()))?;
                Some((items.first()?.key(), items.len() as u64, sum))
            }
            Node::Branch { children, .. } => {
                let add = |(count, sum): (u64, u64), child: &Child<_>| {
                    Some((count.checked_add(child.count)?, sum.checked_add(child.sum)?))
                };
                let (count, sum) = children.iter().try_fold((0, 0), add)?;
                Some((children.first()?.first.clone(), count, sum))
            }
        }
    }

    /// Whether everything that stands in this node comes before `next`.
    fn precedes(&self, next: &I::Key) -> bool {
        match self {
            Node::Leaf(items) => items.last().is_some_and(|item| item.precedes(next)),
            Node::Branch { children, .. } => children.last().is_some_and(|child| child.first < *next),
        }
    }
}

impl<I: Item> NodeBody for Node<I> {
    const KIND: BlockKind = I::KIND;

    fn encode(&self, out: &mut Encoder) {
        match self {
            Node::Leaf(items) => {
                out.array(1 + items.len());
                out.unsigned(0);
                items.iter().for_each(|item| item.encode(out));
            }
            Node::Branch { level, children } => {
                out.array(1 + children.len());
                out.unsigned((*level).into());
                children.iter().for_each(|child| child.encode(out));
            }
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let rows = input.array()?.checked_sub(1).filter(|rows| *rows > 0).ok_or(Malformed("an empty node"))?;
        let level: u8 = input.narrow()?;
        if level as usize > limits::TREE_DEPTH {
            return Err(Malformed("a tree too deep"));
        }
        Ok(if level == 0 {
            Node::Leaf(sorted(rows, || I::decode(input), |item, next| item.precedes(&next.key()))?)
        } else {
            Node::Branch {
                level,
                children: sorted(
                    rows,
                    || Child::decode(input),
                    |child: &Child<I::Key>, next| child.first < next.first,
                )?,
            }
        })
    }
}

impl<K: Key> Child<K> {
    fn encode(&self, out: &mut Encoder) {
        out.array(4);
        self.first.encode(out);
        out.unsigned(self.count);
        out.unsigned(self.sum);
        out.link(&self.at);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        input.array_of(4)?;
        Ok(Self { first: K::decode(input)?, count: input.unsigned()?, sum: input.unsigned()?, at: input.link()? })
    }
}

/// `rows` rows, each of which has to precede the next.
fn sorted<R>(
    rows: usize,
    mut read: impl FnMut() -> Result<R, Malformed>,
    precedes: impl Fn(&R, &R) -> bool,
) -> Result<Vec<R>, Malformed> {
    let mut list: Vec<R> = Vec::new();
    for _ in 0..rows {
        let row = read()?;
        if list.last().is_some_and(|last| !precedes(last, &row)) {
            return Err(Malformed("rows out of order"));
        }
        list.push(row);
    }
    Ok(list)
}

/// A node and the key that all of its keys are below.
pub(super) struct Opened<I: Item> {
    pub(super) node: Arc<Node<I>>,
    upper: Option<I::Key>,
}

impl<I: Item> Tree<I> {
    /// Reads the root, and checks what the tree says of it.
    pub(super) fn open(&self, vault: &Vault) -> Result<Option<Opened<I>>, TreeError> {
        let Some(root) = &self.root else { return Ok(None) };
        let node: Arc<Node<I>> = vault.node(root)?;
        match node.totals() {
            Some((_, count, sum)) if (count, sum) == (self.count, self.sum) => Ok(Some(Opened { node, upper: None })),
            _ => Err(TreeError::malformed(root, "a tree with another number of items")),
        }
    }
}

impl<I: Item> Opened<I> {
    /// Reads a child of a branch, and checks what the branch says of it. None if there is no such child.
    pub(super) fn child(&self, vault: &Vault, index: usize) -> Result<Option<Self>, TreeError> {
        let Node::Branch { level, children } = &*self.node else { return Ok(None) };
        let Some(child) = children.get(index) else { return Ok(None) };
        let upper = children.get(index + 1).map(|next| next.first.clone()).or_else(|| self.upper.clone());
        let node: Arc<Node<I>> = vault.node(&child.at)?;
        let wrong = |why| Err(TreeError::malformed(&child.at, why));
        if node.level() + 1 != *level {
            return wrong("a node of another level");
        }
        match node.totals() {
            Some((first, count, sum)) if first == child.first && (count, sum) == (child.count, child.sum) => {}
            _ => return wrong("a node with other items than its parent says"),
        }
        if upper.as_ref().is_some_and(|upper| !node.precedes(upper)) {
            return wrong("a node that overlaps the next");
        }
        Ok(Some(Self { node, upper }))
    }
}
