//! How two nodes that can reach each other catch up.

use std::collections::BTreeSet;

use jaxfs_sync::chain::Missing;
use jaxfs_sync::link::Link;

use crate::cast::NodeId;
use crate::sim::Sim;
use crate::wire::Wire;

/// So many manifests one answer has at most.
const ANSWER: usize = 64;

impl Sim {
    pub(crate) fn connected(&mut self, at: NodeId, peer: NodeId) {
        self.send_heads(at, peer, true);
    }

    pub(crate) fn disconnected(&mut self, _at: NodeId, _peer: NodeId) {}

    fn send_heads(&mut self, at: NodeId, to: NodeId, answer: bool) {
        let chain = &self.node(at).chain;
        let heads = chain.tips().chain(chain.shown()).collect();
        self.send(at, to, Wire::Heads { heads, answer });
    }

    /// A villain says that something is its head.
    pub(crate) fn claim(&mut self, at: NodeId, to: NodeId, link: Link) {
        self.send(at, to, Wire::Heads { heads: vec![link], answer: false });
    }

    pub(crate) fn heads_came(&mut self, at: NodeId, from: NodeId, heads: Vec<Link>, answer: bool) {
        if answer {
            self.send_heads(at, from, false);
        }
        let unknown = |link: &Link| !self.node(at).chain.contains(link);
        let wants: Vec<_> = heads.into_iter().filter(unknown).map(Missing::Manifest).collect();
        self.ask_for(at, from, wants);
    }

    /// Asks for what the chain waits for, if it has just said so.
    pub(crate) fn ask(&mut self, at: NodeId, from: NodeId) {
        if std::mem::take(&mut self.node_mut(at).asking) {
            let wants = self.node(at).chain.wanted().collect();
            self.ask_for(at, from, wants);
        }
    }

    fn ask_for(&mut self, at: NodeId, from: NodeId, wants: Vec<Missing>) {
        if !wants.is_empty() {
            let head = self.node(at).chain.head();
            let locator = self.node(at).chain.ancestors(&head).map(|record| record.link).collect();
            self.send(at, from, Wire::Ask { wants, locator });
        }
    }

    pub(crate) fn serve(&mut self, at: NodeId, to: NodeId, wants: &[Missing], locator: &[Link]) {
        let node = self.node(at);
        let known: BTreeSet<_> = locator.iter().copied().collect();
        let (mut items, mut more) = (Vec::new(), false);
        for want in wants {
            match want {
                Missing::Members(link) => items.extend(node.disk.has_list(link).then_some(*want)),
                Missing::Manifest(link) => {
                    let path = node.chain.ancestors(link).take_while(|record| !known.contains(&record.link));
                    let mut path: Vec<_> = path.collect();
                    path.reverse();
                    more |= path.len() > ANSWER;
                    for record in path.into_iter().take(ANSWER) {
                        items.extend([Missing::Members(record.members), Missing::Manifest(record.link)]);
                    }
                }
            }
        }
        items.retain(|item| !matches!(item, Missing::Manifest(link) if node.withheld.contains(link)));
        self.send(at, to, Wire::History { items, more });
    }

    pub(crate) fn history_came(&mut self, at: NodeId, from: NodeId, items: &[Missing], more: bool) {
        let (life, known) = (self.node(at).life, self.node(at).chain.len());
        for item in items {
            self.take_history(at, *item);
            if self.node(at).life != life {
                return;
            }
        }
        self.node_mut(at).asking |= more;
        if self.node(at).chain.len() > known {
            self.ask(at, from);
        }
    }

    pub(crate) fn tick(&mut self, at: NodeId) {
        self.node_mut(at).tick_at = None;
        self.plan_tick(at);
        let neighbours: Vec<_> = self.node(at).neighbours.iter().copied().collect();
        if let Some(peer) = self.dice.pick(&neighbours) {
            self.send_heads(at, peer, true);
            self.node_mut(at).asking = true;
            self.ask(at, peer);
        }
    }
}
