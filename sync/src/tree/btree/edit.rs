//! Changing a tree: from the leaves up, only the nodes on the way to a change are read and written.

use std::cmp::Ordering;
use std::marker::PhantomData;

use super::{Child, Item, Key, Node, Opened, Tree, TreeError, Vault};
use crate::limits::NODE_BYTES;
use crate::tree::wire::{Encoder, LINK_WEIGHT};

/// Below this a node that is being written merges with a neighbour.
const LEAST: usize = NODE_BYTES / 4;

/// What is to happen below a node. Both are sorted; the ranges include both ends and do not overlap.
struct Patch<'a, I: Item> {
    /// Keys that lose their items, first.
    clears: &'a [(I::Key, I::Key)],
    /// Items that come in, or replace those with the same key.
    puts: &'a [I],
}

/// What a node has become.
enum Part<I: Item> {
    /// Still the same.
    Kept(Child<I::Key>),
    /// A node that is not written yet, and its weight.
    Fresh(Node<I>, usize),
}

impl<I: Item> Tree<I> {
    /// The tree with `changes` made: a key is given its item, or loses it. In any order; the last of equal keys counts.
    ///
    /// # Panics
    /// If an item has another key than the one it is to be put under.
    pub fn apply(&self, vault: &Vault, mut changes: Vec<(I::Key, Option<I>)>) -> Result<Self, TreeError> {
        changes.reverse();
        changes.sort_by(|(a, _), (b, _)| a.cmp(b));
        changes.dedup_by(|(later, _), (first, _)| later == first);
        let (mut clears, mut puts) = (Vec::new(), Vec::new());
        for (key, item) in changes {
            match item {
                Some(item) => {
                    assert!(item.key() == key, "an item goes under its own key");
                    puts.push(item);
                }
                None => clears.push((key.clone(), key)),
            }
        }
        self.edit(vault, &clears, &puts)
    }

    /// The tree without the keys in `clears`, and then with `puts`. Both are sorted; the ranges include both ends and do
    /// not overlap. A node that lies in a cleared range is not read.
    pub(in crate::tree) fn edit(
        &self,
        vault: &Vault,
        clears: &[(I::Key, I::Key)],
        puts: &[I],
    ) -> Result<Self, TreeError> {
        let parts = match (self.open(vault)?, self.root) {
            (Some(root), Some(at)) => {
                let totals = root.node.totals().ok_or(TreeError::malformed(&at, "an empty node"))?;
                let (level, old) = (root.node.level(), child(totals, at));
                let parts = edit_node(vault, &root, &old, &Patch { clears, puts })?;
                if matches!(&parts[..], [Part::Kept(new)] if new.at == at) {
                    return Ok(self.clone());
                }
                (parts, level)
            }
            _ => (split(Node::Leaf(puts.to_vec())), 0),
        };
        grow(vault, parts.0, parts.1)
    }
}

/// Puts levels above `parts` until there is one root, or takes off those that have only one child.
fn grow<I: Item>(vault: &Vault, mut parts: Vec<Part<I>>, mut level: u8) -> Result<Tree<I>, TreeError> {
    while parts.len() > 1 {
        let children = write_all(vault, settle(vault, parts)?)?;
        level += 1;
        parts = split(Node::Branch { level, children });
    }
    let Some(part) = parts.pop() else { return Ok(Tree::empty()) };
    let mut root = match part {
        Part::Fresh(Node::Branch { mut children, .. }, _) if children.len() == 1 => children.remove(0),
        part => write(vault, part)?,
    };
    while let Node::Branch { children, .. } = &*vault.node::<Node<I>>(&root.at)? {
        let [only] = &children[..] else { break };
        root = only.clone();
    }
    Ok(Tree { root: Some(root.at), count: root.count, sum: root.sum, item: PhantomData })
}

/// What the node `old`, opened as `at`, becomes: nodes of the same level, none if nothing is left.
fn edit_node<I: Item>(
    vault: &Vault,
    at: &Opened<I>,
    old: &Child<I::Key>,
    patch: &Patch<'_, I>,
) -> Result<Vec<Part<I>>, TreeError> {
    match &*at.node {
        Node::Leaf(items) => {
            let merged = merge(items, patch);
            Ok(if merged == *items { vec![Part::Kept(old.clone())] } else { split(Node::Leaf(merged)) })
        }
        Node::Branch { level, children } => {
            let parts = edit_children(vault, at, *level, children, patch)?;
            let kept =
                |(part, child): (&Part<I>, &Child<I::Key>)| matches!(part, Part::Kept(new) if new.at == child.at);
            if parts.len() == children.len() && parts.iter().zip(children).all(kept) {
                return Ok(vec![Part::Kept(old.clone())]);
            }
            let children = write_all(vault, settle(vault, parts)?)?;
            Ok(split(Node::Branch { level: *level, children }))
        }
    }
}

fn edit_children<I: Item>(
    vault: &Vault,
    at: &Opened<I>,
    level: u8,
    children: &[Child<I::Key>],
    patch: &Patch<'_, I>,
) -> Result<Vec<Part<I>>, TreeError> {
    let (mut parts, mut clears, mut puts) = (Vec::new(), patch.clears, patch.puts);
    for (index, child) in children.iter().enumerate() {
        let upper = children.get(index + 1).map(|next| &next.first);
        let below = |key: &I::Key| upper.is_none_or(|upper| key < upper);
        let (mine, later) = puts.split_at(puts.partition_point(|item| below(&item.key())));
        puts = later;
        clears = &clears[clears.partition_point(|(_, end)| *end < child.first)..];
        let inner = &clears[..clears.partition_point(|(start, _)| below(start))];
        let upper = upper.or(at.upper.as_ref());
        let gone = |(start, end): &(I::Key, I::Key)| *start <= child.first && upper.is_some_and(|upper| end >= upper);
        if inner.is_empty() && mine.is_empty() {
            parts.push(Part::Kept(child.clone()));
        } else if inner.iter().any(gone) && (mine.is_empty() || level == 1) {
            parts.extend(split(Node::Leaf(mine.to_vec())));
        } else if let Some(opened) = at.child(vault, index)? {
            parts.extend(edit_node(vault, &opened, child, &Patch { clears: inner, puts: mine })?);
        }
    }
    Ok(parts)
}

/// The items of a leaf after `patch`.
fn merge<I: Item>(items: &[I], patch: &Patch<'_, I>) -> Vec<I> {
    let (mut clears, mut puts) = (patch.clears.iter().peekable(), patch.puts.iter().peekable());
    let mut merged = Vec::with_capacity(items.len() + patch.puts.len());
    for item in items {
        let key = item.key();
        while let Some(put) = puts.next_if(|put| put.key() < key) {
            merged.push(put.clone());
        }
        while clears.next_if(|(_, end)| *end < key).is_some() {}
        match puts.peek().map(|put| put.key().cmp(&key)) {
            Some(Ordering::Equal) => {}
            _ if clears.peek().is_some_and(|(start, _)| *start <= key) => {}
            _ => merged.push(item.clone()),
        }
    }
    merged.extend(puts.cloned());
    merged
}

/// Merges what is too small with a neighbour, which may have to be read for it.
fn settle<I: Item>(vault: &Vault, mut parts: Vec<Part<I>>) -> Result<Vec<Part<I>>, TreeError> {
    let mut index = 0;
    while index < parts.len() && parts.len() > 1 {
        if !matches!(&parts[index], Part::Fresh(_, weight) if *weight < LEAST) {
            index += 1;
            continue;
        }
        let left = index.saturating_sub(1);
        let right = parts.remove(left + 1);
        let joined = split(join(vault, parts.remove(left), right)?);
        index = if joined.len() == 1 { left } else { left + joined.len() };
        parts.splice(left..left, joined);
    }
    Ok(parts)
}

/// Two neighbours of one level as one node.
fn join<I: Item>(vault: &Vault, left: Part<I>, right: Part<I>) -> Result<Node<I>, TreeError> {
    let foreign = match (&left, &right) {
        (Part::Kept(child), _) | (_, Part::Kept(child)) => Some(child.at),
        _ => None,
    };
    match (contents(vault, left)?, contents(vault, right)?) {
        (Node::Leaf(mut left), Node::Leaf(right)) => {
            left.extend(right);
            Ok(Node::Leaf(left))
        }
        (Node::Branch { level, children: mut left }, Node::Branch { level: same, children: right })
            if level == same =>
        {
            left.extend(right);
            Ok(Node::Branch { level, children: left })
        }
        _ => {
            let at = foreign.expect("what was made here is of one level");
            Err(TreeError::malformed(&at, "a node of another level"))
        }
    }
}

fn contents<I: Item>(vault: &Vault, part: Part<I>) -> Result<Node<I>, TreeError> {
    match part {
        Part::Fresh(node, _) => Ok(node),
        Part::Kept(child) => {
            let node = vault.node::<Node<I>>(&child.at)?;
            if node.totals() != Some((child.first, child.count, child.sum)) {
                return Err(TreeError::malformed(&child.at, "a node with other items than its parent says"));
            }
            Ok(match &*node {
                Node::Leaf(items) => Node::Leaf(items.clone()),
                Node::Branch { level, children } => Node::Branch { level: *level, children: children.clone() },
            })
        }
    }
}

/// A node as one or more that are not too large; none if it is empty.
fn split<I: Item>(node: Node<I>) -> Vec<Part<I>> {
    match node {
        Node::Leaf(items) => {
            let mut out = Encoder::new();
            let mut weigh = |item: &I| {
                let before = out.weight();
                item.encode(&mut out);
                out.weight() - before
            };
            let weights: Vec<_> = items.iter().map(&mut weigh).collect();
            divide(items, &weights, Node::Leaf)
        }
        Node::Branch { level, children } => {
            let weigh = |child: &Child<I::Key>| {
                let mut out = Encoder::new();
                child.first.encode(&mut out);
                out.weight() + LINK_WEIGHT + 14
            };
            let weights: Vec<_> = children.iter().map(weigh).collect();
            divide(children, &weights, |children| Node::Branch { level, children })
        }
    }
}

/// Cuts `rows` into as few runs as fit in a node each, of about the same weight.
fn divide<I: Item, R>(rows: Vec<R>, weights: &[usize], node: impl Fn(Vec<R>) -> Node<I>) -> Vec<Part<I>> {
    let total: usize = weights.iter().sum();
    let aim = total / total.div_ceil(NODE_BYTES).max(1);
    let (mut parts, mut run, mut weight) = (Vec::new(), Vec::new(), 0);
    for (row, more) in rows.into_iter().zip(weights) {
        if !run.is_empty() && (weight >= aim || weight + more > NODE_BYTES) {
            parts.push(Part::Fresh(node(std::mem::take(&mut run)), weight));
            weight = 0;
        }
        run.push(row);
        weight += more;
    }
    if !run.is_empty() {
        parts.push(Part::Fresh(node(run), weight));
    }
    parts
}

fn write_all<I: Item>(vault: &Vault, parts: Vec<Part<I>>) -> Result<Vec<Child<I::Key>>, TreeError> {
    parts.into_iter().map(|part| write(vault, part)).collect()
}

fn write<I: Item>(vault: &Vault, part: Part<I>) -> Result<Child<I::Key>, TreeError> {
    match part {
        Part::Kept(child) => Ok(child),
        Part::Fresh(node, _) => {
            let totals = match (node.totals(), &node) {
                (Some(totals), _) => totals,
                (None, Node::Branch { children, .. }) if !children.is_empty() => {
                    return Err(TreeError::malformed(&children[0].at, "counts beyond all bounds"));
                }
                (None, _) => unreachable!("a node has rows, and a leaf's sum fits: it is at most 2 MiB"),
            };
            Ok(child(totals, vault.put_node(node)?))
        }
    }
}

fn child<K>((first, count, sum): (K, u64, u64), at: crate::link::BlockRef) -> Child<K> {
    Child { first, count, sum, at }
}
