//! One node: the real chain and the real gossip protocol, each a pure value, and a simulated disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use iroh_gossip::proto::state::State;
use iroh_gossip::proto::{Config, PeerData};
use jaxfs_sync::bucket::{DeviceId, MemberList, Timestamp, VerifiedManifest};
use jaxfs_sync::chain::{Chain, LoadError};
use jaxfs_sync::link::Link;
use rand::rngs::ChaCha8Rng;

use crate::cast::NodeId;
use crate::disk::Disk;
use crate::queue::Micros;
use crate::wire::Peer;

/// What time it is on all clocks that go right when a world begins: the start of the year 2026.
const BEGINNING: u64 = 1_767_225_600_000;

/// How a node behaves. All run the real chain; the others do something besides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Keeps to the protocol.
    Honest,
    /// Publishes children of anything that it knows, many at a time.
    Spammer,
    /// Publishes two children of one parent, and tells each half of the nodes of another one.
    Equivocator,
    /// Announces old manifests again.
    Replayer,
    /// Announces the end of a long chain, and serves neither the rest of it nor its content.
    Withholder,
    /// Publishes chains whose content nobody gets.
    Hollow,
    /// Lives in the year 3000.
    Prophet,
    /// Claims heads that do not exist, and answers questions with anything, or not at all.
    Liar,
    /// Is no writer, and publishes.
    Intruder,
    /// Was removed by the owner, and goes on in the old epoch.
    Revoked,
}

/// A node, up or down.
pub struct Node {
    /// Its place.
    pub id: NodeId,
    /// Its name.
    pub device: DeviceId,
    /// How it behaves.
    pub kind: Kind,
    /// Counts its crashes: what was planned in a former life does not happen.
    pub life: u32,
    /// Whether it runs.
    pub up: bool,
    /// Whether it will never run again.
    pub gone: bool,
    /// How many milliseconds its clock is ahead.
    pub skew: i64,
    /// What it knows.
    pub chain: Chain,
    /// Whom it hears.
    pub gossip: State<Peer, ChaCha8Rng>,
    /// What it has stored.
    pub disk: Disk,
    /// To whom the gossip protocol has a connection.
    pub neighbours: BTreeSet<NodeId>,
    /// The number of the gossip protocol's connection to each peer, and of the last one that was closed.
    pub lines: BTreeMap<NodeId, u64>,
    /// See [`Node::lines`].
    pub closed: BTreeMap<NodeId, u64>,
    /// To whom a message could not be delivered, which it will notice.
    pub failing: BTreeSet<NodeId>,
    /// Versions whose content it is looking for, and how often it did not find it.
    pub seeking: BTreeMap<Link, u32>,
    /// After how many outputs it crashes, and when it comes back then.
    pub fuse: Option<(u32, Option<Micros>)>,
    /// What it published and stored.
    pub acknowledged: Vec<Link>,
    /// What it made and does not serve.
    pub withheld: BTreeSet<Link>,
    /// To whom there is a connection, as its chain was told.
    pub connected: BTreeSet<NodeId>,
    /// The question that each peer has not answered yet.
    pub asked: BTreeMap<NodeId, u64>,
    /// When it will next be given a tick, if that is planned.
    pub tick_at: Option<Micros>,
}

impl Node {
    /// A node that has the start of a chain, and was never up.
    pub fn new(
        (id, device): (NodeId, DeviceId),
        genesis: &Arc<VerifiedManifest>,
        list: &Arc<MemberList>,
        config: Config,
        generator: ChaCha8Rng,
    ) -> Self {
        Self {
            id,
            device,
            kind: Kind::Honest,
            life: 0,
            up: false,
            gone: false,
            skew: 0,
            chain: Chain::new(genesis, list).expect("the cast's own genesis is valid"),
            gossip: State::new(Peer(id), PeerData::default(), config, generator),
            disk: Disk::new(Arc::clone(genesis), Arc::clone(list)),
            neighbours: BTreeSet::new(),
            lines: BTreeMap::new(),
            closed: BTreeMap::new(),
            failing: BTreeSet::new(),
            seeking: BTreeMap::new(),
            fuse: None,
            acknowledged: Vec::new(),
            withheld: BTreeSet::new(),
            connected: BTreeSet::new(),
            asked: BTreeMap::new(),
            tick_at: None,
        }
    }

    /// What its clock says.
    pub const fn clock(&self, now: Micros) -> Timestamp {
        Timestamp((BEGINNING + now / 1000).saturating_add_signed(self.skew))
    }

    /// Forgets all that is not stored.
    pub fn crash(&mut self) {
        self.up = false;
        self.life += 1;
        self.fuse = None;
        self.tick_at = None;
        self.neighbours.clear();
        self.lines.clear();
        self.closed.clear();
        self.failing.clear();
        self.connected.clear();
        self.asked.clear();
        self.seeking.clear();
    }

    /// Starts from what is stored.
    pub fn restart(&mut self, config: Config, generator: ChaCha8Rng) -> Result<(), LoadError> {
        self.chain = self.disk.load()?;
        self.gossip = State::new(Peer(self.id), PeerData::default(), config, generator);
        self.up = true;
        Ok(())
    }

    /// Whether it keeps to the protocol and runs.
    pub fn counts(&self) -> bool {
        self.up && self.kind == Kind::Honest
    }
}
