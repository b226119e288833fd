//! What a chain can be asked. Nothing here changes it.

use super::dag::Index;
use super::{Chain, Missing, Record, Saved};
use crate::bucket::{Height, Timestamp};
use crate::link::{BucketId, Epoch, Link};

impl Chain {
    /// The bucket's label.
    pub const fn id(&self) -> BucketId {
        self.origin.id
    }

    /// The bucket's identity.
    pub const fn genesis(&self) -> Link {
        self.origin.genesis
    }

    /// How much higher the head may be than a leaf that is not stale.
    pub const fn finality_depth(&self) -> u64 {
        self.finality_depth
    }

    /// The canonical head.
    pub fn head(&self) -> Link {
        self.dag.link(self.head)
    }

    /// The length of the head's chain.
    pub fn height(&self) -> Height {
        self.dag.key(self.head).height
    }

    /// The head's epoch.
    pub fn epoch(&self) -> Epoch {
        self.dag.key(self.head).epoch
    }

    /// What mounts show and writes build on; none until a version is complete.
    pub fn shown(&self) -> Option<Link> {
        self.shown.map(|at| self.dag.link(at))
    }

    /// The leaves that are not stale, by key; the head is the last.
    pub fn tips(&self) -> impl DoubleEndedIterator<Item = Link> + '_ {
        self.tips.all().map(|at| self.dag.link(at))
    }

    /// All leaves, by key; the head is the last.
    pub fn leaves(&self) -> impl DoubleEndedIterator<Item = Link> + '_ {
        self.dag.leaves().values().map(|at| self.dag.link(*at))
    }

    /// Whether there is more than one tip.
    pub fn is_forked(&self) -> bool {
        self.tips.len() > 1
    }

    /// Since when there is more than one tip.
    pub const fn fork_detected_at(&self) -> Option<Timestamp> {
        self.forked_at
    }

    /// What is to be stored of it besides its manifests.
    pub fn saved(&self) -> Saved {
        Saved {
            forked_at: self.forked_at,
            pin: self.pin(),
            policy: self.policy,
            settled: self.settled.iter().copied().collect(),
        }
    }

    /// How many manifests are known.
    pub fn len(&self) -> usize {
        self.dag.len()
    }

    /// Never: there is always a genesis.
    pub fn is_empty(&self) -> bool {
        self.dag.len() == 0
    }

    /// Whether a manifest is part of the chain; one that waits is not.
    pub fn contains(&self, link: &Link) -> bool {
        self.dag.find(link).is_some()
    }

    /// What is kept of a manifest.
    pub fn record(&self, link: &Link) -> Option<Record> {
        self.dag.find(link).map(|at| self.record_at(at))
    }

    fn record_at(&self, at: Index) -> Record {
        self.dag.record(at, self.lists.link(self.dag.get(at).list))
    }

    /// All manifests, parents before children: what [`Chain::load`] takes.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.dag.all().map(|at| self.record_at(at))
    }

    /// A manifest, its parent, and so on, to the genesis; nothing if it is not known.
    pub fn ancestors(&self, link: &Link) -> impl Iterator<Item = Record> + '_ {
        self.dag.find(link).into_iter().flat_map(|at| self.dag.ancestors(at)).map(|at| self.record_at(at))
    }

    /// Whether `old` is `new` or one of its ancestors; `None` if either is not known. O(log n).
    pub fn is_ancestor(&self, old: &Link, new: &Link) -> Option<bool> {
        Some(self.dag.is_ancestor(self.dag.find(old)?, self.dag.find(new)?))
    }

    /// The last manifest that two have in common; `None` if either is not known. O(log n).
    pub fn fork_point(&self, a: &Link, b: &Link) -> Option<Link> {
        Some(self.dag.link(self.dag.fork_point(self.dag.find(a)?, self.dag.find(b)?)))
    }

    /// Whether a manifest is the head or one of its ancestors; `None` if it is not known. O(log n).
    pub fn is_canonical(&self, link: &Link) -> Option<bool> {
        Some(self.dag.is_ancestor(self.dag.find(link)?, self.head))
    }

    /// The canonical manifest of a height. O(log n).
    pub fn canonical_at(&self, height: Height) -> Option<Link> {
        self.dag.ancestor_at(self.head, height).map(|at| self.dag.link(at))
    }

    /// All manifests that are not canonical, parents before children. O(n log n).
    pub fn orphans(&self) -> impl Iterator<Item = Record> + '_ {
        self.dag.all().filter(|at| !self.dag.is_ancestor(*at, self.head)).map(|at| self.record_at(at))
    }

    /// The last manifest of each orphaned chain, of any age, by key.
    pub fn orphaned_leaves(&self) -> impl DoubleEndedIterator<Item = Link> + '_ {
        self.dag.leaves().values().filter(|at| **at != self.head).map(|at| self.dag.link(*at))
    }

    /// What manifests wait for, and is not waiting itself.
    pub fn wanted(&self) -> impl Iterator<Item = Missing> + '_ {
        self.pending.wanted().filter(|missing| !self.has(missing))
    }

    /// How many manifests wait for something that is missing.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// How many manifests wait because their authors make too many.
    pub fn deferred(&self) -> usize {
        self.limiter.len()
    }
}
