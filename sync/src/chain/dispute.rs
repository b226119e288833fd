//! Members that this device can not agree with, and how to get out of that.
//!
//! Who knows the same manifests has the same head, so two members differ only as long as news travel. A *hard fork* is where
//! they go on differing: one of them is pinned, or follows other rules, or has another bucket that looks like this one. What
//! counts is ancestry: a member that is merely behind, or ahead, is on the same side, whatever the heights.
//!
//! There are three ways out: follow the majority ([`super::Input::Vote`]), choose ([`super::Input::Pin`]), or write
//! nothing before it is settled ([`super::OnHardFork::Refuse`]).

use std::collections::BTreeMap;

use super::dag::Index;
use super::pin::{Cause, OnHardFork, Pin};
use super::{Chain, Output};
use crate::bucket::{DeviceId, MANIFEST_VERSION, Timestamp};
use crate::limits::HARD_FORK_MS;
use crate::link::Link;

/// How a member and this device disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HardFork {
    /// It has a bucket with the same id and another genesis.
    Genesis(Link),
    /// It speaks a version of the protocol that this program does not.
    Version(u64),
    /// It, or this device, is pinned to a version that the other's does not descend from, nor the other way round.
    Pinned(Link),
    /// Its head has been on another branch for longer than news take to travel.
    Differs(Link),
}

/// A disagreement.
#[derive(Clone, Debug)]
pub(super) struct Dispute {
    since: Timestamp,
    how: HardFork,
    /// What was said of it, once that was clear.
    pub(super) told: Option<HardFork>,
}

impl Dispute {
    /// When it will be clear.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.told.is_none().then(|| Timestamp(self.since.0.saturating_add(HARD_FORK_MS)))
    }
}

/// What this device and the members that it can reach show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ballot {
    /// Versions, and how many show them or an ancestor of them.
    pub votes: Vec<(Link, usize)>,
    /// How many voted, this device among them.
    pub voters: usize,
    /// What more than half of them can agree on.
    pub winner: Option<Link>,
}

impl Chain {
    /// The members that this device can not agree with.
    pub fn hard_forks(&self) -> impl Iterator<Item = (DeviceId, HardFork)> + '_ {
        let told = |peer: &super::peers::Peer| peer.dispute.as_ref().and_then(|dispute| dispute.told);
        self.peers.all().filter_map(move |(id, peer)| Some((*id, told(peer)?)))
    }

    /// Who is for what. A member votes for what it shows, and for all that descends from it.
    pub fn ballot(&self) -> Ballot {
        let heads = self.peers.all().filter_map(|(_, peer)| peer.heads.as_ref());
        let theirs =
            heads.filter(|heads| heads.genesis == self.genesis()).map(|heads| heads.shown.unwrap_or(heads.head));
        let known = theirs.filter_map(|link| self.dag.find(&link));
        let voters: Vec<_> = known.chain([self.shown.unwrap_or(self.head)]).collect();
        let mut votes = BTreeMap::new();
        for candidate in &voters {
            let count = voters.iter().filter(|vote| self.dag.is_ancestor(**vote, *candidate)).count();
            votes.insert(self.dag.key(*candidate), (*candidate, count));
        }
        let winner = votes.values().filter(|(_, count)| count * 2 > voters.len()).max_by_key(|(_, count)| *count);
        Ballot {
            winner: winner.map(|(at, _)| self.dag.link(*at)),
            votes: votes.values().rev().map(|(at, count)| (self.dag.link(*at), *count)).collect(),
            voters: voters.len(),
        }
    }

    /// Shows what the majority shows, if there is one.
    pub(super) fn vote(&mut self, out: &mut Vec<Output>) {
        let Some(at) = self.ballot().winner else { return };
        let canonical = self.dag.find(&at).is_some_and(|at| self.dag.is_ancestor(at, self.head));
        self.set_pin((!canonical).then_some(Pin { at, cause: Cause::Majority }), out);
    }

    /// Goes on with the majority where it went before.
    pub(super) fn follow_majority(&mut self, out: &mut Vec<Output>) {
        let follows = self.pinned.is_some_and(|pinned| pinned.cause == Cause::Majority);
        let told = self.policy.hard_fork == OnHardFork::Majority && self.hard_forks().next().is_some();
        let asked = self.pinned.is_some_and(|pinned| pinned.cause != Cause::Majority);
        if follows || told && !asked {
            self.vote(out);
        }
    }

    /// Sees who disagrees, and says so once it is clear.
    pub(super) fn look_at_disputes(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let found: Vec<_> = self.peers.all().map(|(id, _)| (*id, self.difference(id))).collect();
        for (id, how) in found {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            let Some(how) = how else {
                if peer.dispute.take().is_some_and(|dispute| dispute.told.is_some()) {
                    out.push(Output::HardForkEnded { peer: id });
                }
                continue;
            };
            let dispute = peer.dispute.get_or_insert(Dispute { since: now, how, told: None });
            dispute.how = how;
            let clear = !matches!(how, HardFork::Differs(_)) || dispute.deadline().is_some_and(|at| at <= now);
            if clear && dispute.told.is_none() {
                dispute.told = Some(how);
                out.push(Output::HardFork { peer: id, how });
            } else if dispute.told.is_some() {
                dispute.told = Some(dispute.how);
            }
        }
    }

    fn difference(&self, peer: &DeviceId) -> Option<HardFork> {
        let heads = self.peers.all().find(|(id, _)| *id == peer)?.1.heads.as_ref()?;
        if heads.genesis != self.genesis() {
            return Some(HardFork::Genesis(heads.genesis));
        }
        if heads.version != MANIFEST_VERSION {
            return Some(HardFork::Version(heads.version));
        }
        let pinned = heads.pinned || self.pinned.is_some();
        // Where nobody is pinned, what is shown may differ for want of content; the heads may not.
        let (link, ours) = if pinned {
            (heads.shown.unwrap_or(heads.head), self.shown.unwrap_or(self.head))
        } else {
            (heads.head, self.head)
        };
        let theirs = self.dag.find(&link)?;
        let how = if pinned { HardFork::Pinned(link) } else { HardFork::Differs(link) };
        (!self.is_related(theirs, ours)).then_some(how)
    }

    fn is_related(&self, a: Index, b: Index) -> bool {
        self.dag.is_ancestor(a, b) || self.dag.is_ancestor(b, a)
    }
}
