//! The manifests that are known, each as a small record, and the questions about ancestry.
//!
//! Besides its parent each record has a *skip* to an older ancestor, chosen so that any ancestor is O(log n) steps away
//! (Myers, "An applicative random-access stack", 1983). Where a skip leads depends on the height alone, so that two
//! records of one height skip equally far, and the fork point of two is found by walking both at once.

use std::collections::BTreeMap;

use super::Record;
use crate::bucket::{DeviceId, Height, Timestamp};
use crate::link::{Codec, Epoch, Link};

/// A place in the table of records. Parents stand before their children; the genesis is the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Index(u32);

impl Index {
    /// The place, counted from 0.
    pub(super) const fn number(self) -> usize {
        self.0 as usize
    }
}

/// The genesis.
pub(super) const GENESIS: Index = Index(0);

/// A place in the table of member lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ListIndex(pub(super) u32);

/// What heads are chosen by: the greatest wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    pub(super) epoch: Epoch,
    pub(super) height: Height,
    pub(super) digest: [u8; 32],
}

/// About 100 bytes: a hundred thousand manifests are 10 MB, and their index 5 more.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) fingerprint: [u8; 16],
    pub(super) timestamp: Timestamp,
    pub(super) list: ListIndex,
    pub(super) complete: bool,
    author: u32,
    previous: Index,
    skip: Index,
}

/// What a new record is made of.
pub(super) struct NewEntry {
    pub(super) link: Link,
    pub(super) previous: Index,
    pub(super) epoch: Epoch,
    pub(super) author: DeviceId,
    pub(super) timestamp: Timestamp,
    pub(super) fingerprint: [u8; 16],
    pub(super) list: ListIndex,
    pub(super) reapplied: Vec<Link>,
}

#[derive(Clone, Debug)]
pub(super) struct Dag {
    entries: Vec<Entry>,
    index: BTreeMap<[u8; 32], Index>,
    leaves: BTreeMap<Key, Index>,
    authors: Vec<DeviceId>,
    author_index: BTreeMap<DeviceId, u32>,
    /// What manifests say that they carry; few do.
    reapplied: BTreeMap<Index, Vec<Link>>,
}

impl Dag {
    pub(super) fn new(genesis: NewEntry) -> Self {
        let mut dag = Self {
            entries: Vec::new(),
            index: BTreeMap::new(),
            leaves: BTreeMap::new(),
            authors: Vec::new(),
            author_index: BTreeMap::new(),
            reapplied: BTreeMap::new(),
        };
        dag.push(genesis, Height(0), GENESIS);
        dag
    }

    /// Adds a child of a known record.
    pub(super) fn insert(&mut self, new: NewEntry) -> Index {
        let parent = &self.entries[new.previous.0 as usize];
        let (height, key) = (Height(parent.key.height.0 + 1), parent.key);
        let skip = self.skip_below(new.previous);
        self.leaves.remove(&key);
        self.push(new, height, skip)
    }

    fn push(&mut self, new: NewEntry, height: Height, skip: Index) -> Index {
        let at = Index(u32::try_from(self.entries.len()).expect("four thousand million records do not fit in memory"));
        let author = self.number_of(new.author);
        let key = Key { epoch: new.epoch, height, digest: *new.link.digest() };
        self.entries.push(Entry {
            key,
            fingerprint: new.fingerprint,
            timestamp: new.timestamp,
            list: new.list,
            complete: false,
            author,
            previous: new.previous,
            skip,
        });
        if !new.reapplied.is_empty() {
            self.reapplied.insert(at, new.reapplied);
        }
        self.index.insert(key.digest, at);
        self.leaves.insert(key, at);
        at
    }

    fn number_of(&mut self, author: DeviceId) -> u32 {
        *self.author_index.entry(author).or_insert_with(|| {
            self.authors.push(author);
            self.authors.len() as u32 - 1
        })
    }

    fn skip_below(&self, parent: Index) -> Index {
        let skip = self.get(parent).skip;
        let beyond = self.get(skip).skip;
        let even = self.height(parent) - self.height(skip) == self.height(skip) - self.height(beyond);
        if even { beyond } else { parent }
    }

    pub(super) fn get(&self, at: Index) -> &Entry {
        &self.entries[at.0 as usize]
    }

    pub(super) fn complete(&mut self, at: Index) {
        self.entries[at.0 as usize].complete = true;
    }

    pub(super) fn find(&self, link: &Link) -> Option<Index> {
        (link.codec() == Codec::DagCbor).then(|| self.index.get(link.digest()).copied()).flatten()
    }

    pub(super) fn link(&self, at: Index) -> Link {
        Link::from_parts(Codec::DagCbor, self.get(at).key.digest)
    }

    pub(super) fn key(&self, at: Index) -> Key {
        self.get(at).key
    }

    fn height(&self, at: Index) -> u64 {
        self.get(at).key.height.0
    }

    pub(super) fn parent(&self, at: Index) -> Option<Index> {
        (at != GENESIS).then(|| self.get(at).previous)
    }

    pub(super) fn author(&self, at: Index) -> DeviceId {
        self.authors[self.get(at).author as usize]
    }

    /// The manifests that carry orphans, and which.
    pub(super) fn reapplied(&self) -> impl Iterator<Item = (Index, &Vec<Link>)> {
        self.reapplied.iter().map(|(at, links)| (*at, links))
    }

    pub(super) fn record(&self, at: Index, members: Link) -> Record {
        let entry = self.get(at);
        Record {
            link: self.link(at),
            previous: self.parent(at).map(|parent| self.link(parent)),
            height: entry.key.height,
            epoch: entry.key.epoch,
            author: self.author(at),
            timestamp: entry.timestamp,
            members,
            fingerprint: entry.fingerprint,
            reapplied: self.reapplied.get(&at).cloned().unwrap_or_default(),
            complete: entry.complete,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All records, parents first.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = Index> + use<> {
        (0..self.entries.len() as u32).map(Index)
    }

    pub(super) const fn leaves(&self) -> &BTreeMap<Key, Index> {
        &self.leaves
    }

    /// `at`, its parent, and so on, to the genesis.
    pub(super) fn ancestors(&self, at: Index) -> impl Iterator<Item = Index> {
        std::iter::successors(Some(at), |at| self.parent(*at))
    }

    /// The ancestor of `at` (or itself) that has the given height, if it is not above. O(log n).
    pub(super) fn ancestor_at(&self, at: Index, height: Height) -> Option<Index> {
        let mut at = at;
        if self.height(at) < height.0 {
            return None;
        }
        while self.height(at) > height.0 {
            let entry = self.get(at);
            at = if self.height(entry.skip) >= height.0 { entry.skip } else { entry.previous };
        }
        Some(at)
    }

    /// Whether `old` is `new` or one of its ancestors. O(log n).
    pub(super) fn is_ancestor(&self, old: Index, new: Index) -> bool {
        self.ancestor_at(new, self.key(old).height) == Some(old)
    }

    /// The last record that two have in common. O(log n).
    pub(super) fn fork_point(&self, a: Index, b: Index) -> Index {
        let height = self.key(a).height.min(self.key(b).height);
        let (Some(mut a), Some(mut b)) = (self.ancestor_at(a, height), self.ancestor_at(b, height)) else {
            return GENESIS;
        };
        while a != b {
            let (left, right) = (self.get(a), self.get(b));
            (a, b) = if left.skip == right.skip { (left.previous, right.previous) } else { (left.skip, right.skip) };
        }
        a
    }
}
