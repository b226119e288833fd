//! Manifests that wait for a parent or a member list. Bounded: what is dropped here may come again later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Missing, Source};
use crate::bucket::{DeviceId, Height, VerifiedManifest};
use crate::link::{Epoch, Link};

/// A manifest, and how it came.
#[derive(Clone, Debug)]
pub(super) struct Offered {
    pub(super) manifest: Arc<VerifiedManifest>,
    pub(super) source: Source,
}

#[derive(Clone, Debug)]
pub(super) struct Pending {
    capacity: usize,
    waiting: BTreeMap<Link, (Offered, Missing)>,
    by_missing: BTreeMap<Missing, BTreeSet<Link>>,
    by_author: BTreeMap<DeviceId, BTreeSet<(Epoch, Height, Link)>>,
}

impl Pending {
    pub(super) const fn new(capacity: usize) -> Self {
        Self { capacity, waiting: BTreeMap::new(), by_missing: BTreeMap::new(), by_author: BTreeMap::new() }
    }

    pub(super) fn contains(&self, link: &Link) -> bool {
        self.waiting.contains_key(link)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What is waited for.
    pub(super) fn wanted(&self) -> impl Iterator<Item = Missing> {
        self.by_missing.keys().copied()
    }

    /// Lets a manifest wait. If there is no room, gives the link of the one that had to go, perhaps its own.
    pub(super) fn add(&mut self, offered: Offered, missing: Missing) -> Option<Link> {
        let link = offered.manifest.link();
        self.by_missing.entry(missing).or_default().insert(link);
        let of_author = self.by_author.entry(offered.manifest.author).or_default();
        of_author.insert((offered.manifest.share.epoch, offered.manifest.height, link));
        self.waiting.insert(link, (offered, missing));
        (self.waiting.len() > self.capacity).then(|| self.evict()).flatten()
    }

    /// Drops from the author who has the most here, so that nobody can crowd out the others; and of his the greatest,
    /// since history is walked from the head down, and the older ones are nearer to what is known.
    fn evict(&mut self) -> Option<Link> {
        let crowd = self.by_author.values().max_by_key(|links| links.len())?;
        let (_, _, link) = *crowd.last()?;
        self.remove(&link);
        Some(link)
    }

    fn remove(&mut self, link: &Link) -> Option<Offered> {
        let (offered, missing) = self.waiting.remove(link)?;
        let manifest = &offered.manifest;
        prune(&mut self.by_missing, &missing, link);
        prune(&mut self.by_author, &manifest.author, &(manifest.share.epoch, manifest.height, *link));
        Some(offered)
    }

    /// Takes out all that wait for this.
    pub(super) fn take(&mut self, missing: &Missing) -> Vec<Offered> {
        let links = self.by_missing.get(missing).cloned().unwrap_or_default();
        links.iter().filter_map(|link| self.remove(link)).collect()
    }
}

/// Removes from a set in a map, and the set with its last element.
fn prune<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = map.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            map.remove(key);
        }
    }
}
