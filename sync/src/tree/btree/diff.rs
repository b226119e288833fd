//! What two trees do not share.

use std::cmp::Ordering;

use super::{Child, Item, Node, Opened, Tree, TreeError, Vault};

/// One key that two trees do not agree on: what the one has, and what the other has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<I> {
    /// In the first tree.
    pub old: Option<I>,
    /// In the second tree.
    pub new: Option<I>,
}

impl<I: Item> Tree<I> {
    /// What differs between this tree and `other`, in the order of keys. Parts that both share are not read, wherever they
    /// stand in the two. Ends after an error.
    pub fn diff<'a>(
        &self,
        vault: &'a Vault,
        other: &Self,
    ) -> impl Iterator<Item = Result<Difference<I>, TreeError>> + use<'a, I> {
        let mut start = (self.root != other.root).then(|| (self.clone(), other.clone()));
        let mut cursors = (Cursor::done(), Cursor::done());
        std::iter::from_fn(move || {
            let step = |cursors: &mut (Cursor<I>, Cursor<I>)| {
                if let Some((old, new)) = start.take() {
                    *cursors = (Cursor { stack: frame(old.open(vault)?) }, Cursor { stack: frame(new.open(vault)?) });
                }
                next(vault, &mut cursors.0, &mut cursors.1)
            };
            let mut step = step;
            let result = step(&mut cursors);
            if result.is_err() {
                cursors = (Cursor::done(), Cursor::done());
            }
            result.transpose()
        })
    }
}

fn frame<I: Item>(root: Option<Opened<I>>) -> Vec<(Opened<I>, usize)> {
    root.into_iter().map(|root| (root, 0)).collect()
}

/// A place in a tree: before an item, or before a child that was not read.
struct Cursor<I: Item> {
    stack: Vec<(Opened<I>, usize)>,
}

/// What a cursor stands before.
enum Front<'a, I: Item> {
    Item(&'a I),
    Child(u8, &'a Child<I::Key>),
}

impl<I: Item> Cursor<I> {
    const fn done() -> Self {
        Self { stack: Vec::new() }
    }

    /// Leaves the nodes that are at their end, and says what comes next.
    fn front(&mut self) -> Option<Front<'_, I>> {
        while self.stack.last().is_some_and(|(at, index)| *index >= rows(&at.node)) {
            self.stack.pop();
        }
        let (at, index) = self.stack.last()?;
        Some(match &*at.node {
            Node::Leaf(items) => Front::Item(items.get(*index)?),
            Node::Branch { level, children } => Front::Child(*level, children.get(*index)?),
        })
    }

    fn skip(&mut self) {
        if let Some((_, index)) = self.stack.last_mut() {
            *index += 1;
        }
    }

    /// Goes into the child that the cursor stands before.
    fn enter(&mut self, vault: &Vault) -> Result<(), TreeError> {
        let Some((at, index)) = self.stack.last_mut() else { return Ok(()) };
        let child = at.child(vault, *index)?;
        *index += 1;
        self.stack.extend(child.map(|child| (child, 0)));
        Ok(())
    }

    fn take(&mut self) -> Option<I> {
        let item = match self.front() {
            Some(Front::Item(item)) => item.clone(),
            _ => return None,
        };
        self.skip();
        Some(item)
    }
}

fn rows<I: Item>(node: &Node<I>) -> usize {
    match node {
        Node::Leaf(items) => items.len(),
        Node::Branch { children, .. } => children.len(),
    }
}

/// What to do with two fronts.
enum Step {
    Enter { old: bool, new: bool },
    Skip,
    Take { old: bool, new: bool },
}

fn next<I: Item>(vault: &Vault, old: &mut Cursor<I>, new: &mut Cursor<I>) -> Result<Option<Difference<I>>, TreeError> {
    loop {
        let step = match (old.front(), new.front()) {
            (None, None) => return Ok(None),
            (Some(front), None) => alone(&front, true),
            (None, Some(front)) => alone(&front, false),
            (Some(a), Some(b)) => compare(&a, &b),
        };
        match step {
            Step::Skip => {
                old.skip();
                new.skip();
            }
            Step::Enter { old: a, new: b } => {
                if a {
                    old.enter(vault)?;
                }
                if b {
                    new.enter(vault)?;
                }
            }
            Step::Take { old: a, new: b } => {
                let old = if a { old.take() } else { None };
                let new = if b { new.take() } else { None };
                return Ok(Some(Difference { old, new }));
            }
        }
    }
}

fn alone<I: Item>(front: &Front<'_, I>, old: bool) -> Step {
    match front {
        Front::Item(_) => Step::Take { old, new: !old },
        Front::Child(..) => Step::Enter { old, new: !old },
    }
}

fn compare<I: Item>(old: &Front<'_, I>, new: &Front<'_, I>) -> Step {
    use Ordering::*;
    match (old, new) {
        (Front::Child(_, a), Front::Child(_, b)) if a.at == b.at => Step::Skip,
        // The higher one may hold the other; of two as high, the one that begins first can not be the other's equal.
        (Front::Child(high, a), Front::Child(low, b)) => match high.cmp(low).then(b.first.cmp(&a.first)) {
            Greater => Step::Enter { old: true, new: false },
            Less => Step::Enter { old: false, new: true },
            Equal => Step::Enter { old: true, new: true },
        },
        (Front::Item(a), Front::Child(_, b)) if a.key() < b.first => Step::Take { old: true, new: false },
        (Front::Item(_), Front::Child(..)) => Step::Enter { old: false, new: true },
        (Front::Child(_, a), Front::Item(b)) if b.key() < a.first => Step::Take { old: false, new: true },
        (Front::Child(..), Front::Item(_)) => Step::Enter { old: true, new: false },
        (Front::Item(a), Front::Item(b)) => match a.key().cmp(&b.key()) {
            Less => Step::Take { old: true, new: false },
            Greater => Step::Take { old: false, new: true },
            Equal if a == b => Step::Skip,
            Equal => Step::Take { old: true, new: true },
        },
    }
}
