//! The gossip protocol of each node: its connections, its timers, and whom it joins.

use std::time::Duration;

use iroh_gossip::proto::{Command, Event as GossipEvent, InEvent, OutEvent, Scope, TopicId};
use jaxfs_sync::link::Link;

use crate::cast::NodeId;
use crate::queue::{Micros, SECOND};
use crate::sim::{Event, Sim};
use crate::wire::{Peer, Wire};

/// The bucket's topic.
const TOPIC: TopicId = TopicId::from_bytes([7; 32]);

/// How often a node sees whether it is alone, on average.
const LOOK_AROUND: Micros = 5 * SECOND;

impl Sim {
    /// The number of the connection that a message goes out on; a new one, if there is none.
    fn line(&mut self, at: NodeId, peer: NodeId) -> u64 {
        if let Some(line) = self.node(at).lines.get(&peer) {
            return *line;
        }
        self.lines += 1;
        let line = self.lines;
        self.node_mut(at).lines.insert(peer, line);
        line
    }

    /// A message came on a connection; says whether it is not closed yet.
    pub(crate) fn opened(&mut self, at: NodeId, peer: NodeId, line: u64) -> bool {
        let node = self.node_mut(at);
        let open = node.closed.get(&peer).is_none_or(|closed| *closed < line);
        if open {
            let newest = node.lines.entry(peer).or_insert(line);
            *newest = line.max(*newest);
        }
        open
    }

    pub(crate) fn close(&mut self, at: NodeId, peer: NodeId) -> Option<u64> {
        let node = self.node_mut(at);
        let line = node.lines.remove(&peer)?;
        node.closed.insert(peer, line);
        Some(line)
    }

    /// Gives the gossip protocol an event, and does what it wants done.
    pub fn gossip(&mut self, at: NodeId, event: InEvent<Peer>) {
        let now = self.origin + Duration::from_micros(self.now());
        let life = self.node(at).life;
        let out: Vec<_> = self.node_mut(at).gossip.handle(event, now, None).collect();
        for event in out {
            if !self.lives(at, life) {
                return;
            }
            match event {
                OutEvent::SendMessage(Peer(to), message) => {
                    let line = self.line(at, to);
                    self.send(at, to, Wire::Gossip(line, message));
                }
                OutEvent::ScheduleTimer(delay, timer) => {
                    let delay = delay.as_micros() as Micros;
                    self.queue.after(delay, Event::GossipTimer(at, life, Box::new(timer)));
                }
                OutEvent::DisconnectPeer(Peer(peer)) => {
                    if let Some(line) = self.close(at, peer) {
                        self.send(at, peer, Wire::Bye(line));
                    }
                }
                OutEvent::EmitEvent(_, event) => self.gossip_said(at, event),
                OutEvent::PeerData(..) => {}
            }
        }
    }

    fn gossip_said(&mut self, at: NodeId, event: GossipEvent<Peer>) {
        match event {
            GossipEvent::NeighborUp(peer) => {
                self.node_mut(at).neighbours.insert(peer.0);
                self.connected(at, peer.0);
            }
            GossipEvent::NeighborDown(peer) => {
                self.node_mut(at).neighbours.remove(&peer.0);
                self.released(at, peer.0);
            }
            GossipEvent::Received(message) => {
                let Ok(link) = Link::from_bytes(message.content.get(..36).unwrap_or_default()) else { return };
                self.meter.heard(&message.scope);
                self.heard(at, message.delivered_from.0, link);
            }
        }
    }

    /// Tells all nodes of a manifest. What stands in for its bytes begins with its link; with another salt it is a message
    /// of its own.
    pub fn broadcast(&mut self, at: NodeId, link: Link, salt: u64) {
        let Some(manifest) = self.cast.manifest(&link) else { return };
        let mut bytes = manifest.bytes().to_vec();
        bytes.splice(..36, link.to_bytes());
        bytes.splice(36..44, salt.to_le_bytes());
        self.gossip(at, InEvent::Command(TOPIC, Command::Broadcast(bytes.into(), Scope::Swarm)));
    }

    /// Joins the gossip of some nodes that run.
    pub(crate) fn join(&mut self, at: NodeId, many: usize) {
        let others = self.nodes.len() as u64 - 1;
        let mut peers = Vec::new();
        for _ in 0..if others > 0 { many } else { 0 } {
            let drawn = self.dice.below(others) as NodeId;
            let peer = if drawn < at { drawn } else { drawn + 1 };
            if self.node(peer).up {
                peers.push(Peer(peer));
            }
        }
        self.gossip(at, InEvent::Command(TOPIC, Command::Join(peers)));
    }

    /// Now and then, and whenever there is nobody: a peer that has not noticed yet that this node was down does not answer.
    pub(crate) fn rejoin(&mut self, at: NodeId) {
        let often = LOOK_AROUND as f64 / self.setup.rejoin as f64;
        if self.node(at).neighbours.is_empty() || self.dice.chance(often) {
            self.join(at, 1);
        }
        self.mend(at);
        self.plan_rejoin(at);
    }

    pub(crate) fn plan_rejoin(&mut self, at: NodeId) {
        let delay = LOOK_AROUND / 2 + self.dice.below(LOOK_AROUND + 1);
        let life = self.node(at).life;
        self.queue.after(delay, Event::Rejoin(at, life));
    }
}
