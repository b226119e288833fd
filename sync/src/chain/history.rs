//! What to ask a peer for, and what to answer.
//!
//! Whoever is behind sends a *locator*: its head, ever fewer of its ancestors, and its other leaves. Whoever answers knows
//! from that where the two chains part, and sends what lies between, oldest first. So it takes one question however much
//! is missing, and an answer that breaks off leaves a shorter question.

use std::collections::BTreeSet;

use super::dag::{GENESIS, Index};
use super::{Chain, Heads, History, HistoryRequest, Missing};
use crate::bucket::{Height, MANIFEST_VERSION};
use crate::limits::{HEADS_TIPS, LOCATOR_LINKS, WANTS};
use crate::link::Link;

/// So many ancestors stand in a locator one by one, before the steps double.
const DENSE: u64 = 8;

impl Chain {
    /// What other members are told.
    pub fn heads(&self) -> Heads {
        let (head, shown) = (self.head(), self.shown());
        let told = |link: &Link| *link != head && Some(*link) != shown;
        let leaves = self.dag.leaves().range(self.oldest_relayed()..).rev().map(|(_, at)| self.dag.link(*at));
        Heads {
            genesis: self.genesis(),
            version: MANIFEST_VERSION,
            head,
            shown,
            pinned: self.pinned.is_some(),
            tips: leaves.filter(told).take(HEADS_TIPS).collect(),
        }
    }

    /// What is here, in few links: enough for a peer to see where its chain and this one part.
    pub fn locator(&self) -> Vec<Link> {
        let mut places = Vec::new();
        let (mut below, mut step) = (0, 1);
        while let Some(height) = self.height().0.checked_sub(below) {
            places.extend(self.dag.ancestor_at(self.head, Height(height)));
            step = if below < DENSE { 1 } else { step * 2 };
            below = u64::saturating_add(below, step);
        }
        places.push(GENESIS);
        places.extend(self.best.filter(|best| !self.dag.is_ancestor(*best, self.head)));
        places.extend(self.dag.leaves().values().rev().filter(|at| **at != self.head).take(LOCATOR_LINKS));
        let mut seen = BTreeSet::new();
        places.retain(|at| seen.insert(*at));
        places.iter().take(LOCATOR_LINKS).map(|at| self.dag.link(*at)).collect()
    }

    /// The answer to a peer's question, of at most `most` items. What is not known here is left out. O(`most` + links in the
    /// question, squared, times log n).
    pub fn history(&self, request: &HistoryRequest, most: usize) -> History {
        let has: Vec<_> = request.locator.iter().take(LOCATOR_LINKS).filter_map(|link| self.dag.find(link)).collect();
        let (mut answer, mut sent) = (History::default(), BTreeSet::new());
        for want in request.wants.iter().take(WANTS) {
            match want {
                Missing::Members(link) => {
                    if self.lists.find(link).is_some() && sent.insert(*want) {
                        answer.items.push(*want);
                    }
                }
                Missing::Manifest(link) => {
                    let Some(at) = self.dag.find(link) else { continue };
                    self.add_missing(at, &has, most, &mut sent, &mut answer);
                }
            }
            if answer.items.len() >= most {
                answer.more = true;
                break;
            }
        }
        answer
    }

    /// Adds to an answer `wanted` and its ancestors down to one that the asker has.
    fn add_missing(
        &self,
        wanted: Index,
        has: &[Index],
        most: usize,
        sent: &mut BTreeSet<Missing>,
        answer: &mut History,
    ) {
        let common = has.iter().map(|at| self.dag.fork_point(wanted, *at)).max_by_key(|at| self.dag.key(*at).height);
        let (from, to) = (self.dag.key(common.unwrap_or(GENESIS)).height.0, self.dag.key(wanted).height.0);
        let room = most.saturating_sub(answer.items.len()) as u64;
        let until = to.min(from.saturating_add(room));
        answer.more |= until < to;
        let Some(top) = self.dag.ancestor_at(wanted, Height(until)) else { return };
        let mut path: Vec<_> = self.dag.ancestors(top).take((until - from) as usize).collect();
        path.reverse();
        for at in path {
            let list = self.dag.get(at).list;
            let members = Missing::Members(self.lists.link(list));
            let changed = self.dag.parent(at).is_some_and(|parent| self.dag.get(parent).list != list);
            if changed && sent.insert(members) {
                answer.items.push(members);
            }
            let manifest = Missing::Manifest(self.dag.link(at));
            if sent.insert(manifest) {
                answer.items.push(manifest);
            }
        }
    }
}
