//! What those nodes do that do not keep to the protocol.

use std::sync::Arc;

use jaxfs_sync::bucket::{MemberList, Timestamp, VerifiedManifest};
use jaxfs_sync::chain::{History, Input, Missing, Source};
use jaxfs_sync::link::{Codec, Link};

use crate::cast::NodeId;
use crate::node::Kind;
use crate::queue::SECOND;
use crate::sim::{Event, Sim};

/// The first moment of the year 3000.
const YEAR_3000: Timestamp = Timestamp(32_503_680_000_000);

impl Sim {
    /// A villain's next deed.
    pub(crate) fn mischief(&mut self, at: NodeId) {
        if self.calm {
            return;
        }
        if self.node(at).up {
            let kind = self.node(at).kind;
            self.say(at, || format!("mischief: {kind:?}"));
            self.note(6, at, 0, 0);
            self.deed(at, kind);
        }
        let delay = self.dice.between(2 * SECOND, 10 * SECOND);
        self.queue.after(delay, Event::Mischief(at));
    }

    fn deed(&mut self, at: NodeId, kind: Kind) {
        match kind {
            Kind::Honest => {}
            Kind::Spammer => self.spam(at),
            Kind::Equivocator => self.equivocate(at),
            Kind::Replayer => self.replay(at),
            Kind::Withholder => self.withhold(at),
            Kind::Hollow => self.hollow(at),
            Kind::Prophet => drop(self.shown(at).and_then(|parent| self.forge(at, &parent, Some(YEAR_3000)))),
            Kind::Liar => self.lie(at),
            Kind::Intruder => self.intrude(at),
            Kind::Revoked => self.live_on(at),
        }
    }

    /// A manifest that this node knows.
    fn any(&mut self, at: NodeId) -> Option<Arc<VerifiedManifest>> {
        let count = self.node(at).disk.manifests().len();
        let which = self.dice.index(count);
        self.node(at).disk.manifests().get(which).cloned()
    }

    /// Makes a child and takes it in, with its content.
    fn forge(&mut self, at: NodeId, parent: &VerifiedManifest, time: Option<Timestamp>) -> Option<Link> {
        let clock = time.unwrap_or_else(|| self.node(at).clock(self.now()));
        let manifest = self.cast.child(parent, at, clock, None).ok()?;
        self.publish_this(at, manifest)
    }

    /// Many tips, or a long chain in no time.
    fn spam(&mut self, at: NodeId) {
        if self.dice.chance(0.04) {
            let many = self.dice.between(210, 260);
            return self.grow(at, self.shown(at), many);
        }
        for _ in 0..self.dice.between(3, 12) {
            let Some(parent) = self.any(at) else { return };
            if let Some(link) = self.forge(at, &parent, None) {
                self.broadcast(at, link, 0);
            }
        }
    }

    fn equivocate(&mut self, at: NodeId) {
        let Some(parent) = self.shown(at) else { return };
        let both: Vec<_> = (0..2).filter_map(|_| self.forge(at, &parent, None)).collect();
        if both.is_empty() {
            return;
        }
        let peers: Vec<_> = self.node(at).connected.iter().copied().collect();
        for peer in peers {
            self.claim(at, peer, both[peer as usize % both.len()]);
        }
    }

    fn replay(&mut self, at: NodeId) {
        for _ in 0..5 {
            let Some(old) = self.any(at) else { return };
            // As if the last time were long ago: the gossip protocol forgets what it has seen.
            let salt = self.dice.below(u64::MAX);
            self.broadcast(at, old.link(), salt);
        }
    }

    fn withhold(&mut self, at: NodeId) {
        let Some(mut parent) = self.shown(at) else { return };
        let clock = self.node(at).clock(self.now());
        for _ in 0..self.dice.between(2, 30) {
            let Ok(child) = self.cast.child(&parent, at, clock, None) else { return };
            self.node_mut(at).withheld.insert(child.link());
            self.feed(at, Input::Manifest { manifest: Arc::clone(&child), source: Source::Own });
            parent = child;
        }
        self.broadcast(at, parent.link(), 0);
    }

    fn hollow(&mut self, at: NodeId) {
        let Some(mut parent) = self.shown(at) else { return };
        for _ in 0..self.dice.between(1, 20) {
            let link = self.forge(at, &parent, None);
            let Some(child) = link.and_then(|link| self.cast.manifest(&link)) else { return };
            parent = child;
        }
    }

    fn intrude(&mut self, at: NodeId) {
        let Some(parent) = self.shown(at) else { return };
        let clock = self.node(at).clock(self.now());
        if let Ok(child) = self.cast.child(&parent, at, clock, None) {
            self.broadcast(at, child.link(), 0);
            self.claim(at, 0, child.link());
        }
    }

    fn lie(&mut self, at: NodeId) {
        let peers: Vec<_> = self.node(at).connected.iter().copied().collect();
        for peer in peers {
            let nothing = Link::of(Codec::DagCbor, &self.dice.below(1000).to_le_bytes());
            self.claim(at, peer, nothing);
        }
    }

    /// A liar's answer: nothing but a promise, or whatever comes to hand, valid or not; or none.
    pub(crate) fn false_answer(&mut self) -> Option<History> {
        match self.dice.below(4) {
            0 => None,
            1 => Some(History { items: Vec::new(), more: true }),
            2 => Some(History { items: Vec::new(), more: false }),
            _ => {
                let items = (0..20).filter_map(|_| self.any_of_all()).collect();
                Some(History { items, more: self.dice.chance(0.5) })
            }
        }
    }

    fn any_of_all(&mut self) -> Option<Missing> {
        let which = self.dice.index(self.cast.made());
        self.cast.nth(which).map(Missing::Manifest)
    }

    /// Goes on where it could still write, and then puts the owner's own list on top of that, as if it were there that it
    /// comes into force.
    fn live_on(&mut self, at: NodeId) {
        self.grow(at, self.last_that_it_may_follow(at), 5);
        let Some(last) = self.last_that_it_may_follow(at) else { return };
        let next = |list: &&Arc<MemberList>| Some(list.epoch().0) == last.share.epoch.0.checked_add(1);
        let Some(list) = self.node(at).disk.lists().iter().find(next).cloned() else { return };
        let clock = self.node(at).clock(self.now());
        if let Ok(stolen) = self.cast.child(&last, at, clock, Some(&list)) {
            self.meter.saw("list stolen");
            self.broadcast(at, stolen.link(), 0);
        }
    }

    fn last_that_it_may_follow(&self, at: NodeId) -> Option<Arc<VerifiedManifest>> {
        let mine = self.node(at).disk.manifests().iter().filter(|manifest| self.cast.may_write_after(manifest, at));
        mine.max_by_key(|manifest| (manifest.share.epoch, manifest.height)).cloned()
    }

    /// Publishes and announces one after the other.
    fn grow(&mut self, at: NodeId, parent: Option<Arc<VerifiedManifest>>, many: u64) {
        let Some(mut parent) = parent else { return };
        for _ in 0..many {
            let link = self.forge(at, &parent, None);
            let Some(child) = link.and_then(|link| self.cast.manifest(&link)) else { return };
            self.broadcast(at, child.link(), 0);
            parent = child;
        }
    }

    /// Whether announcements of its own are left to its deeds.
    pub(crate) fn is_mute(&self, at: NodeId) -> bool {
        matches!(self.node(at).kind, Kind::Equivocator | Kind::Withholder)
    }
}
