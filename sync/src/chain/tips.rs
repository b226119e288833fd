//! The leaves that are not stale, and how many each author has of them.

use std::collections::BTreeMap;

use super::dag::{Dag, Index, Key};
use crate::bucket::DeviceId;

#[derive(Clone, Debug, Default)]
pub(super) struct Tips {
    by_key: BTreeMap<Key, Index>,
    by_author: BTreeMap<DeviceId, usize>,
}

impl Tips {
    pub(super) fn insert(&mut self, dag: &Dag, at: Index) {
        if self.by_key.insert(dag.key(at), at).is_none() {
            *self.by_author.entry(dag.author(at)).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, dag: &Dag, at: Index) {
        if self.by_key.remove(&dag.key(at)).is_some() {
            self.forget(dag, at);
        }
    }

    /// Takes out those with lesser keys.
    pub(super) fn prune(&mut self, dag: &Dag, oldest: &Key) -> Vec<Index> {
        let kept = self.by_key.split_off(oldest);
        let gone: Vec<_> = std::mem::replace(&mut self.by_key, kept).into_values().collect();
        gone.iter().for_each(|at| self.forget(dag, *at));
        gone
    }

    fn forget(&mut self, dag: &Dag, at: Index) {
        let author = dag.author(at);
        if let Some(count) = self.by_author.get_mut(&author) {
            *count -= 1;
            if *count == 0 {
                self.by_author.remove(&author);
            }
        }
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    pub(super) fn of_author(&self, author: &DeviceId) -> usize {
        self.by_author.get(author).copied().unwrap_or(0)
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// By key; the head is the last.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = Index> + '_ {
        self.by_key.values().copied()
    }
}
