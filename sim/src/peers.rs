//! Connections, and what passes through them besides gossip: heads, questions and answers. The chain decides all of it.

use jaxfs_sync::chain::{Heads, HistoryRequest, Input, Missing};
use jaxfs_sync::link::Link;

use crate::cast::NodeId;
use crate::node::Kind;
use crate::queue::{MS, Micros, SECOND};
use crate::sim::{Event, Sim};
use crate::wire::Wire;

/// So many manifests and member lists one answer has at most.
const ANSWER: usize = 64;
/// How long a node waits for an answer.
const PATIENCE: Micros = 10 * SECOND;

impl Sim {
    /// The gossip protocol has a connection to a peer: both sides use it for the rest too.
    pub(crate) fn connected(&mut self, at: NodeId, peer: NodeId) {
        if self.node(peer).up && self.links.joined(at, peer) {
            self.tell_connected(at, peer);
            self.tell_connected(peer, at);
        }
    }

    fn tell_connected(&mut self, at: NodeId, peer: NodeId) {
        if self.node(at).up && self.node_mut(at).connected.insert(peer) {
            let device = self.cast.device(peer);
            self.feed(at, Input::Connected(device));
        }
    }

    /// The gossip protocol of one side has no use for a connection any more; it ends if that of the other has none either.
    pub(crate) fn released(&mut self, at: NodeId, peer: NodeId) {
        if !self.node(peer).neighbours.contains(&at) {
            self.disconnected(at, peer);
            self.disconnected(peer, at);
        }
    }

    /// A connection is gone, and this side notices.
    pub(crate) fn disconnected(&mut self, at: NodeId, peer: NodeId) {
        if self.node_mut(at).connected.remove(&peer) {
            self.node_mut(at).asked.remove(&peer);
            let device = self.cast.device(peer);
            self.feed(at, Input::Disconnected(device));
        }
    }

    /// Connects to neighbours that could not be reached when they became neighbours.
    pub(crate) fn mend(&mut self, at: NodeId) {
        let apart = self.node(at).neighbours.difference(&self.node(at).connected);
        let apart: Vec<_> = apart.copied().collect();
        apart.into_iter().for_each(|peer| self.connected(at, peer));
    }

    /// A villain says that something is its head.
    pub(crate) fn claim(&mut self, at: NodeId, to: NodeId, link: Link) {
        let heads = Box::new(Heads { head: link, ..self.node(at).chain.heads() });
        self.send(at, to, Wire::Heads { heads, answer: false });
    }

    pub(crate) fn heads_came(&mut self, at: NodeId, from: NodeId, heads: Box<Heads>, answer: bool) {
        let from = self.cast.device(from);
        self.feed(at, Input::Heads { from, heads, answer });
    }

    /// Sends a question, and stops waiting for its answer after a while.
    pub(crate) fn ask(&mut self, at: NodeId, peer: NodeId, request: HistoryRequest) {
        self.questions += 1;
        let (number, life) = (self.questions, self.node(at).life);
        self.node_mut(at).asked.insert(peer, number);
        self.queue.after(PATIENCE, Event::Unanswered(at, life, peer, number));
        self.send(at, peer, Wire::Ask { number, request: Box::new(request) });
    }

    pub(crate) fn unanswered(&mut self, at: NodeId, peer: NodeId, number: u64) {
        if self.node(at).asked.get(&peer) == Some(&number) {
            self.meter.saw("answer overdue");
            self.end_answer(at, peer, false, false);
        }
    }

    fn end_answer(&mut self, at: NodeId, peer: NodeId, ok: bool, more: bool) {
        self.node_mut(at).asked.remove(&peer);
        let from = self.cast.device(peer);
        self.feed(at, Input::Fetched { from, ok, more });
    }

    pub(crate) fn serve(&mut self, at: NodeId, to: NodeId, number: u64, request: &HistoryRequest) {
        let honest = |sim: &Self| Some(sim.node(at).chain.history(request, ANSWER));
        let lies = self.node(at).kind == Kind::Liar;
        let Some(answer) = (if lies { self.false_answer() } else { honest(self) }) else { return };
        let node = self.node(at);
        let mut items = answer.items;
        items.retain(|item| !matches!(item, Missing::Manifest(link) if node.withheld.contains(link)));
        self.send(at, to, Wire::History { number, items, more: answer.more });
    }

    /// Hands in an answer, oldest first, until something in it is rejected.
    pub(crate) fn history_came(&mut self, at: NodeId, from: NodeId, number: u64, items: &[Missing], more: bool) {
        if self.node(at).asked.get(&from) != Some(&number) {
            return;
        }
        let life = self.node(at).life;
        for item in items {
            let good = self.take_history(at, from, *item);
            if self.node(at).life != life {
                return;
            }
            if !good {
                return self.end_answer(at, from, false, more);
            }
        }
        self.end_answer(at, from, true, more);
    }

    /// Plans the tick that the chain wants, unless an earlier one is planned.
    pub(crate) fn plan_tick(&mut self, at: NodeId) {
        let now = self.queue.now();
        let node = self.node_mut(at);
        let clock = node.clock(now);
        let Some(wanted) = node.chain.next_tick(clock) else { return };
        let delay = (wanted.0.saturating_sub(clock.0) * MS).max(MS);
        if node.tick_at.is_none_or(|planned| planned > now + delay) {
            node.tick_at = Some(now + delay);
            let life = node.life;
            self.queue.after(delay, Event::Tick(at, life));
        }
    }

    pub(crate) fn tick(&mut self, at: NodeId) {
        let now = self.queue.now();
        let node = self.node_mut(at);
        if node.tick_at.is_some_and(|planned| planned <= now) {
            node.tick_at = None;
            self.note(7, at, 0, 0);
            self.feed(at, Input::Tick);
        }
    }
}
