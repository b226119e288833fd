//! Whose work lost, and whether it was brought back.
//!
//! A chain that lost stays, but nobody looks at it unless told to. So each device keeps an eye on its own: the *displaced*
//! ones are the last manifests of its own on each orphaned chain. They are over once a manifest on the head's chain says
//! that it carries them, or once the device has found that they bring nothing new.

use std::collections::BTreeSet;

use super::dag::Index;
use super::{Chain, Output};
use crate::bucket::DeviceId;
use crate::limits::SETTLED_LEAVES;
use crate::link::Link;

/// Work of one device that is not on the head's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// The last manifest of the device's own.
    pub last: Link,
    /// Where its chain and the head's part.
    pub fork_point: Link,
    /// How many manifests of the device's own lie between.
    pub manifests: u64,
    /// What became of it.
    pub fate: Fate,
}

/// What became of displaced work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing yet.
    Open,
    /// This manifest, on the head's chain, carries it.
    Reapplied(Link),
    /// It brought nothing new.
    Settled,
}

impl Chain {
    /// The displaced work of a device, the oldest fork first. O(n log n).
    pub fn displaced(&self, author: &DeviceId) -> Vec<Displaced> {
        let (mut continued, mut last) = (BTreeSet::new(), Vec::new());
        // Children before parents, so that the last of each chain comes first.
        for at in self.dag.all().rev().filter(|at| !self.dag.is_ancestor(*at, self.head)) {
            let (own, goes_on) = (self.dag.author(at) == *author, continued.remove(&at));
            if own && !goes_on {
                last.push((self.dag.fork_point(at, self.head), at));
            }
            if own || goes_on {
                continued.extend(self.dag.parent(at));
            }
        }
        last.sort_by_key(|(point, at)| (self.dag.key(*point), self.dag.key(*at)));
        let carried = self.carried();
        last.into_iter().map(|(point, at)| self.displaced_at(author, at, point, &carried)).collect()
    }

    fn displaced_at(&self, author: &DeviceId, at: Index, point: Index, carried: &[(Index, Index)]) -> Displaced {
        let own = self.dag.ancestors(at).take_while(|at| *at != point).filter(|at| self.dag.author(*at) == *author);
        let link = self.dag.link(at);
        let by = carried.iter().find(|(orphan, _)| self.dag.is_ancestor(at, *orphan));
        let fate = match by {
            Some((_, by)) => Fate::Reapplied(self.dag.link(*by)),
            None if self.settled.contains(&link) => Fate::Settled,
            None => Fate::Open,
        };
        Displaced { last: link, fork_point: self.dag.link(point), manifests: own.count() as u64, fate }
    }

    /// Orphans, and who on the head's chain says that it carries them.
    fn carried(&self) -> Vec<(Index, Index)> {
        let carriers = self.dag.reapplied().filter(|(at, _)| self.dag.is_ancestor(*at, self.head));
        carriers.flat_map(|(at, links)| links.iter().filter_map(move |link| Some((self.dag.find(link)?, at)))).collect()
    }

    pub(super) fn settle_orphan(&mut self, link: Link, out: &mut Vec<Output>) {
        if self.dag.find(&link).is_none() || !self.settled.insert(link) {
            return;
        }
        // Whichever goes is looked at once more, and found to bring nothing new.
        if self.settled.len() > SETTLED_LEAVES {
            self.settled.pop_first();
        }
        out.push(Output::Save);
    }
}
