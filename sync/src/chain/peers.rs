//! The members that can be reached: what they know, what is asked of them, and what they are told.
//!
//! Heads are exchanged when two meet, and every now and then. What a peer names and is not known here is asked of it, and so
//! is whatever else is waited for. One question at a time to each, no link of two at once; a peer that fails is left alone
//! for a while, ever longer; what it did not have it is not asked again before it speaks of its heads anew.

use std::collections::{BTreeMap, BTreeSet};

use super::dag::Index;
use super::dispute::Dispute;
use super::{Chain, Heads, HistoryRequest, Missing, Output};
use crate::bucket::{DeviceId, Timestamp};
use crate::limits::{
    EXCHANGE_EVERY_MS, FETCH_FAILED_MOST_MS, FETCH_FAILED_MS, FETCH_MS, FETCH_SLOW_MS, LACKS, LOCATOR_LINKS, MEMBERS,
    TELL_EVERY_MS, WANTS,
};
use crate::link::Link;

/// A member that can be reached.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    pub(super) heads: Option<Heads>,
    pub(super) dispute: Option<Dispute>,
    asked: Option<Asked>,
    /// What it did not have when it was asked, since it last spoke of its heads.
    lacks: BTreeSet<Missing>,
    /// The last manifest that it answered with: the next answer begins behind it, whatever else is known here.
    reached: Option<Index>,
    /// How often it failed in a row, and until when it is left alone.
    failures: u32,
    quiet_until: Timestamp,
    /// The number of the last question that it was asked: who was not asked for longest is asked next.
    turn: u64,
    /// When it was last told our heads because it was behind.
    told: Option<Timestamp>,
}

/// A question that is not answered yet.
#[derive(Clone, Debug)]
struct Asked {
    wants: BTreeSet<Missing>,
    at: Timestamp,
    /// How many manifests it brought that were not here.
    brought: usize,
    /// The head when it was asked.
    head: Link,
    reached: Option<Index>,
}

impl Peer {
    fn fail(&mut self, now: Timestamp) {
        let pause = FETCH_FAILED_MS.saturating_mul(1 << self.failures.min(10)).min(FETCH_FAILED_MOST_MS);
        self.failures = self.failures.saturating_add(1);
        self.quiet_until = Timestamp(now.0.saturating_add(pause));
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    connected: BTreeMap<DeviceId, Peer>,
    /// When heads were last told to all.
    exchanged: Timestamp,
    turns: u64,
}

impl Peers {
    pub(super) fn all(&self) -> impl Iterator<Item = (&DeviceId, &Peer)> {
        self.connected.iter()
    }

    pub(super) fn get(&self, peer: &DeviceId) -> Option<&Peer> {
        self.connected.get(peer)
    }

    pub(super) fn get_mut(&mut self, peer: &DeviceId) -> Option<&mut Peer> {
        self.connected.get_mut(peer)
    }

    /// A manifest came that was not here.
    pub(super) fn brought(&mut self, peer: &DeviceId) {
        if let Some(asked) = self.connected.get_mut(peer).and_then(|peer| peer.asked.as_mut()) {
            asked.brought += 1;
        }
    }
}

impl Chain {
    pub(super) fn connect(&mut self, now: Timestamp, peer: DeviceId, out: &mut Vec<Output>) {
        if self.peers.connected.len() >= MEMBERS && !self.peers.connected.contains_key(&peer) {
            return;
        }
        if self.peers.connected.is_empty() {
            self.peers.exchanged = now;
        }
        // One that comes again is not forgotten to have failed.
        self.peers.connected.entry(peer).or_default().asked = None;
        self.send_heads(peer, true, out);
    }

    pub(super) fn disconnect(&mut self, now: Timestamp, peer: DeviceId, out: &mut Vec<Output>) {
        let gone = self.peers.connected.remove(&peer);
        if gone.is_some_and(|gone| gone.dispute.is_some_and(|dispute| dispute.told.is_some())) {
            out.push(Output::HardForkEnded { peer });
        }
        self.ask(now, None, out);
    }

    /// A peer says what it knows.
    pub(super) fn hear_heads(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        heads: Heads,
        answer: bool,
        out: &mut Vec<Output>,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.lacks.clear();
        peer.heads = Some(heads);
        if answer {
            self.send_heads(from, false, out);
        }
        self.look_at_disputes(now, out);
        self.follow_majority(out);
        self.ask(now, Some(from), out);
    }

    /// A peer answered with this, which is known here by now or waits.
    pub(super) fn reach(&mut self, from: &DeviceId, link: &Link) {
        if let (Some(at), Some(peer)) = (self.dag.find(link), self.peers.get_mut(from)) {
            peer.reached = Some(at);
        }
    }

    /// An answer is over.
    pub(super) fn end_fetch(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        (ok, more): (bool, bool),
        out: &mut Vec<Output>,
    ) {
        let head = self.head();
        let Some(asked) = self.peers.get_mut(&from).and_then(|peer| peer.asked.take()) else { return };
        let lacks: Vec<_> = asked.wants.iter().filter(|want| ok && !more && !self.has(want)).copied().collect();
        let Some(reached) = self.peers.get(&from).map(|peer| peer.reached) else { return };
        let height = |at: Option<Index>| at.map(|at| self.dag.key(at).height);
        let progress = asked.brought > 0 || height(reached) > height(asked.reached);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if !ok || more && !progress {
            peer.fail(now);
        } else {
            peer.failures = 0;
        }
        peer.lacks.extend(lacks);
        while peer.lacks.len() > LACKS {
            peer.lacks.pop_first();
        }
        // Learnt from one member, and perhaps unknown to those that it can not reach.
        if head != asked.head {
            out.push(Output::Announce(head));
        }
        self.look_at_disputes(now, out);
        // Where it goes on it goes on with this one; whoever brought nothing has its turn after the others.
        self.ask(now, Some(from).filter(|_| progress), out);
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        self.admit_deferred(now, out);
        for peer in self.peers.connected.values_mut() {
            // Where the clock was set back, it begins anew.
            if let Some(asked) = &mut peer.asked {
                asked.at = asked.at.min(now);
            }
            // The driver bounds each answer in time; this is for the one that it forgot.
            if peer.asked.as_ref().is_some_and(|asked| asked.at.0.saturating_add(FETCH_MS) <= now.0) {
                peer.asked = None;
                peer.fail(now);
            }
        }
        if self.peers.exchanged.0.saturating_add(EXCHANGE_EVERY_MS) <= now.0 || self.peers.exchanged > now {
            self.peers.exchanged = now;
            let peers: Vec<_> = self.peers.connected.keys().copied().collect();
            peers.into_iter().for_each(|peer| self.send_heads(peer, false, out));
        }
        self.look_at_disputes(now, out);
        self.ask(now, None, out);
    }

    /// When [`super::Input::Tick`] is next wanted; at once if that lies in the past.
    pub fn next_tick(&self, now: Timestamp) -> Option<Timestamp> {
        let after = |at: Timestamp, ms| Timestamp(at.0.saturating_add(ms));
        let exchange = (!self.peers.connected.is_empty()).then(|| after(self.peers.exchanged, EXCHANGE_EVERY_MS));
        let of_peers = self.peers.connected.values().flat_map(|peer| {
            let slow = peer.asked.as_ref().map(|asked| after(asked.at, FETCH_SLOW_MS)).filter(|at| *at > now);
            let answer = peer.asked.as_ref().map(|asked| after(asked.at, FETCH_MS));
            let again = Some(peer.quiet_until).filter(|at| peer.asked.is_none() && *at > now);
            [slow, answer, again, peer.dispute.as_ref().and_then(Dispute::deadline)].into_iter().flatten()
        });
        of_peers.chain(exchange).chain(self.limiter.next_turn(now)).min()
    }

    /// Tells whoever passed on what is stale, unless it was told a moment ago.
    pub(super) fn correct(&mut self, now: Timestamp, peer: DeviceId, out: &mut Vec<Output>) {
        let Some(known) = self.peers.connected.get_mut(&peer) else { return };
        if known.told.is_none_or(|told| told > now || told.0.saturating_add(TELL_EVERY_MS) <= now.0) {
            known.told = Some(now);
            self.send_heads(peer, false, out);
        }
    }

    fn send_heads(&self, to: DeviceId, answer: bool, out: &mut Vec<Output>) {
        out.push(Output::SendHeads { to, heads: Box::new(self.heads()), answer });
    }

    /// Asks idle peers for what is missing, `first` before the others.
    pub(super) fn ask(&mut self, now: Timestamp, first: Option<DeviceId>, out: &mut Vec<Output>) {
        let idle = |peer: &Peer| peer.asked.is_none() && (peer.quiet_until <= now || too_far(now, peer.quiet_until));
        let mut peers: Vec<_> = self.peers.all().filter(|(_, peer)| idle(peer)).map(|(id, _)| *id).collect();
        peers.sort_by_key(|id| (Some(*id) != first, self.peers.get(id).map(|peer| peer.turn)));
        let mut locator = None;
        for from in peers {
            let wants = self.wants_of(now, &from);
            if wants.is_empty() {
                continue;
            }
            let mut locator = locator.get_or_insert_with(|| self.locator()).clone();
            let head = self.head();
            self.peers.turns += 1;
            let turn = self.peers.turns;
            let reached = self.peers.get(&from).and_then(|peer| peer.reached);
            if let Some(at) = reached {
                locator.insert(0, self.dag.link(at));
                locator.truncate(LOCATOR_LINKS);
            }
            let Some(peer) = self.peers.get_mut(&from) else { continue };
            peer.turn = turn;
            peer.asked = Some(Asked { wants: wants.iter().copied().collect(), at: now, brought: 0, head, reached });
            out.push(Output::Fetch { from, request: HistoryRequest { wants, locator } });
        }
    }

    /// What a peer can be asked for: what it named, and what is waited for; not what it lacks, or another one was just
    /// asked for.
    fn wants_of(&self, now: Timestamp, from: &DeviceId) -> Vec<Missing> {
        let Some(peer) = self.peers.connected.get(from) else { return Vec::new() };
        let is_new = |asked: &&Asked| asked.at.0.saturating_add(FETCH_SLOW_MS) > now.0;
        let asked = self.peers.connected.values().filter_map(|peer| peer.asked.as_ref()).filter(is_new);
        let asked: BTreeSet<_> = asked.flat_map(|asked| &asked.wants).collect();
        let named = peer.heads.iter().flat_map(Heads::links).map(Missing::Manifest);
        let open = named
            .filter(|want| !self.has(want))
            .chain(self.wanted())
            .filter(|want| !peer.lacks.contains(want) && !asked.contains(want));
        let mut wants: Vec<_> = open.take(WANTS).collect();
        wants.sort_unstable();
        wants.dedup();
        wants
    }

    /// Whether something is here, part of the chain or waiting to be.
    pub(super) fn has(&self, want: &Missing) -> bool {
        match want {
            Missing::Manifest(link) => {
                self.dag.find(link).is_some() || self.pending.contains(link) || self.limiter.defers(link)
            }
            Missing::Members(link) => self.lists.find(link).is_some(),
        }
    }
}

/// A pause that the clock was set back in.
const fn too_far(now: Timestamp, until: Timestamp) -> bool {
    until.0.saturating_sub(now.0) > FETCH_FAILED_MOST_MS
}
