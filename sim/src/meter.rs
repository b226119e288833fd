//! What is counted: messages, bytes, hops, and how long things take.

use std::collections::BTreeMap;

use iroh_gossip::proto::DeliveryScope;
use jaxfs_sync::link::Link;

use crate::cast::NodeId;
use crate::queue::{MS, Micros};

/// The most hops that are told apart.
const HOPS: u16 = 64;

/// Counts. The detailed ones cost time and memory.
#[derive(Debug, Default)]
pub struct Meter {
    /// Whether to count more than messages.
    pub detailed: bool,
    /// How often each kind of thing happened.
    pub seen: BTreeMap<&'static str, u64>,
    /// Messages sent.
    pub messages: u64,
    /// Bytes sent by each node, and messages.
    pub by_node: BTreeMap<NodeId, (u64, u64)>,
    /// How many announcements came after so many hops.
    pub hops: Vec<u64>,
    /// When each manifest was published.
    pub published: BTreeMap<Link, Micros>,
    /// How many milliseconds after publication a node admitted a manifest, for each of both.
    pub deliveries: Vec<u32>,
    /// When a node last had another head.
    pub last_head: Micros,
}

impl Meter {
    /// Something happened.
    pub fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// A message was sent.
    pub fn sent(&mut self, from: NodeId, bytes: impl FnOnce() -> usize) {
        self.messages += 1;
        if self.detailed {
            let (messages, sum) = self.by_node.entry(from).or_default();
            *messages += 1;
            *sum += bytes() as u64;
        }
    }

    /// An announcement came.
    pub fn heard(&mut self, scope: &DeliveryScope) {
        if !self.detailed {
            return;
        }
        // The number itself is the gossip protocol's secret, but equality is not.
        let hops = (0..HOPS).find(|hops| *scope == DeliveryScope::Swarm((*hops).into())).unwrap_or(HOPS);
        let at = usize::from(hops);
        if self.hops.len() <= at {
            self.hops.resize(at + 1, 0);
        }
        self.hops[at] += 1;
    }

    /// A manifest was published.
    pub fn published(&mut self, now: Micros, link: Link) {
        self.published.insert(link, now);
    }

    /// A manifest was admitted.
    pub fn admitted(&mut self, now: Micros, _at: NodeId, link: Link) {
        if self.detailed
            && let Some(published) = self.published.get(&link)
        {
            self.deliveries.push(((now - published) / MS) as u32);
        }
    }

    /// A node has another head.
    pub fn head(&mut self, now: Micros, _at: NodeId, _to: Link) {
        self.last_head = now;
    }
}

/// The element of a sorted list that so many of a thousand are not above.
pub fn quantile<T: Copy + Default>(sorted: &[T], thousandths: usize) -> T {
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * thousandths / 1000).min(last)).copied().unwrap_or_default()
}
