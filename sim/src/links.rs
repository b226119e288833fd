//! The network between nodes: how long a message takes, and which ones never arrive.

use crate::cast::NodeId;
use crate::dice::Dice;
use crate::queue::{MS, Micros};

/// What one kind of network does to messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Weather {
    /// The probability that a message is lost.
    pub loss: f64,
    /// The shortest and the longest way between two nodes. Each pair has its own.
    pub delay: (Micros, Micros),
    /// How much longer a single message may take: what puts messages out of order.
    pub jitter: Micros,
}

impl Default for Weather {
    fn default() -> Self {
        Self { loss: 0.0, delay: (5 * MS, 60 * MS), jitter: 0 }
    }
}

/// A cut: nodes in different groups do not reach each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The group of each node.
    pub groups: Vec<u8>,
    /// Whether messages from a greater group to a lesser one still arrive.
    pub one_way: bool,
}

impl Cut {
    fn stops(&self, from: NodeId, to: NodeId) -> bool {
        let (from, to) = (self.groups[from as usize], self.groups[to as usize]);
        if self.one_way { from < to } else { from != to }
    }
}

/// All links.
#[derive(Debug)]
pub struct Links {
    /// What the network is like.
    pub weather: Weather,
    cuts: Vec<(u32, Cut)>,
    dice: Dice,
    seed: u64,
}

impl Links {
    /// A network with nothing cut.
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self { weather, cuts: Vec::new(), dice: Dice::new(seed, "links"), seed }
    }

    /// Cuts the network, until [`Links::heal`] with the same number.
    pub fn cut(&mut self, number: u32, cut: Cut) {
        self.cuts.push((number, cut));
    }

    /// Takes a cut away.
    pub fn heal(&mut self, number: u32) {
        self.cuts.retain(|(at, _)| *at != number);
    }

    /// No more loss, no more cuts.
    pub fn calm(&mut self) {
        self.cuts.clear();
        self.weather.loss = 0.0;
    }

    /// Whether a message can arrive.
    pub fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        !self.cuts.iter().any(|(_, cut)| cut.stops(from, to))
    }

    /// Whether two can talk, each to the other.
    pub fn joined(&self, a: NodeId, b: NodeId) -> bool {
        self.reaches(a, b) && self.reaches(b, a)
    }

    /// How long a message takes; `None` if it is lost.
    pub fn send(&mut self, from: NodeId, to: NodeId) -> Option<Micros> {
        if self.dice.chance(self.weather.loss) {
            return None;
        }
        Some(self.way(from, to) + self.dice.below(self.weather.jitter + 1))
    }

    /// What the way between two nodes always takes.
    pub fn way(&self, from: NodeId, to: NodeId) -> Micros {
        let (low, high) = self.weather.delay;
        let pair = u64::from(from.min(to)) << 32 | u64::from(from.max(to));
        low + mix(pair ^ self.seed) % (high - low + 1)
    }
}

/// SplitMix64's last step: a number that looks like chance and is the same each time.
const fn mix(mut at: u64) -> u64 {
    at = at.wrapping_add(0x9e37_79b9_7f4a_7c15);
    at = (at ^ (at >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    at = (at ^ (at >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    at ^ (at >> 31)
}
