//! Looking up and listing.

use std::ops::Bound;

use super::{Item, Node, Opened, Tree, TreeError, Vault};

impl<I: Item> Tree<I> {
    /// The item with `key`.
    pub fn get(&self, vault: &Vault, key: &I::Key) -> Result<Option<I>, TreeError> {
        Ok(self.floor(vault, key)?.filter(|item| item.key() == *key))
    }

    /// The item with the greatest key that is not above `key`.
    pub fn floor(&self, vault: &Vault, key: &I::Key) -> Result<Option<I>, TreeError> {
        let Some(mut at) = self.open(vault)? else { return Ok(None) };
        loop {
            let Some(index) = not_above(&at.node, key).checked_sub(1) else { return Ok(None) };
            if let Node::Leaf(items) = &*at.node {
                return Ok(items.get(index).cloned());
            }
            match at.child(vault, index)? {
                Some(child) => at = child,
                None => return Ok(None),
            }
        }
    }

    /// The items from `start` on, in order. Reads O(depth) nodes to begin, then each node once.
    pub fn range<'a>(&self, vault: &'a Vault, start: Bound<&I::Key>) -> Range<'a, I> {
        let mut range = Range { vault, stack: Vec::new(), failed: None };
        range.failed = range.begin(self, start).err();
        range
    }

    /// All items, in order.
    pub fn iter<'a>(&self, vault: &'a Vault) -> Range<'a, I> {
        self.range(vault, Bound::Unbounded)
    }

    /// The items from the greatest key that is not above `key` on, in order.
    pub(in crate::tree) fn range_from_floor<'a>(&self, vault: &'a Vault, key: &I::Key) -> Range<'a, I> {
        let mut range = self.range(vault, Bound::Excluded(key));
        if let Some((_, index)) = range.stack.last_mut() {
            // The leaf that the key belongs to begins with a key that is not above it, or is the first of all.
            *index = index.saturating_sub(1);
        }
        range
    }
}

/// How many of a node's keys are not above `key`.
fn not_above<I: Item>(node: &Node<I>, key: &I::Key) -> usize {
    match node {
        Node::Leaf(items) => items.partition_point(|item| item.key() <= *key),
        Node::Branch { children, .. } => children.partition_point(|child| child.first <= *key),
    }
}

/// The items of a range, in order, read as they are asked for. Ends after an error.
pub struct Range<'a, I: Item> {
    vault: &'a Vault,
    /// From the root to a leaf: nodes, and in each the row that comes next.
    stack: Vec<(Opened<I>, usize)>,
    failed: Option<TreeError>,
}

impl<I: Item> Range<'_, I> {
    fn begin(&mut self, tree: &Tree<I>, start: Bound<&I::Key>) -> Result<(), TreeError> {
        let mut next = tree.open(self.vault)?;
        while let Some(at) = next {
            let index = match (&*at.node, start) {
                (_, Bound::Unbounded) => 0,
                (Node::Leaf(items), Bound::Included(key)) => items.partition_point(|item| item.key() < *key),
                (Node::Leaf(_), Bound::Excluded(key)) => not_above(&at.node, key),
                (_, Bound::Included(key) | Bound::Excluded(key)) => not_above(&at.node, key).saturating_sub(1),
            };
            next = at.child(self.vault, index)?;
            self.stack.push((at, if next.is_some() { index + 1 } else { index }));
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<I>, TreeError> {
        while let Some((at, index)) = self.stack.last_mut() {
            if let Node::Leaf(items) = &*at.node {
                if let Some(item) = items.get(*index) {
                    *index += 1;
                    return Ok(Some(item.clone()));
                }
                self.stack.pop();
                continue;
            }
            match at.child(self.vault, *index)? {
                Some(child) => {
                    *index += 1;
                    self.stack.push((child, 0));
                }
                None => drop(self.stack.pop()),
            }
        }
        Ok(None)
    }
}

impl<I: Item> Iterator for Range<'_, I> {
    type Item = Result<I, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = match self.failed.take() {
            Some(error) => Err(error),
            None => self.advance(),
        };
        if result.is_err() {
            self.stack.clear();
        }
        result.transpose()
    }
}
