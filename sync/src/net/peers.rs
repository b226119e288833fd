//! Who is connected: one connection for chains with each member that can be reached, and one for blocks while it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iroh::endpoint::{Connection, Side};
use iroh::{EndpointAddr, RelayUrl, TransportAddr};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::wire::{self, ADDRESSES, ADDRESSES_EACH, Code, Notice, Reach, WireError};
use super::{Shared, identity};
use crate::bucket::DeviceId;

/// How long a connection may take to come about.
const DIAL: Duration = Duration::from_secs(8);
/// How long a device that did not answer is left alone: this, then twice as long, and so on, to the most.
const AGAIN: Duration = Duration::from_millis(500);
const AGAIN_MOST: Duration = Duration::from_secs(30);
/// So long the one of two devices with the greater key waits for the other's call.
const AFTER_YOU: Duration = Duration::from_millis(300);
/// How often it is looked whether somebody is to be called.
const ROUND: Duration = Duration::from_millis(500);
/// Members of one bucket that are called directly; gossip reaches the others.
const DIRECT: usize = 32;
/// Connections that one device may have made to us, of each protocol but the one for chains: two, where both called at once, and
/// those that are dead and not known to be.
const GUEST: usize = 4;
/// A connection for blocks that nobody used for so long is closed.
const UNUSED: Duration = Duration::from_secs(30);

/// The connections that each device made, of each protocol.
type Guests = BTreeMap<(DeviceId, Vec<u8>), Vec<Connection>>;

/// Who is connected.
#[derive(Default)]
pub(super) struct Peers {
    table: Mutex<BTreeMap<DeviceId, Peer>>,
    /// Connections for anything but chains that others made, by who and for what, the oldest first.
    guests: Mutex<Guests>,
    wake: Notify,
}

#[derive(Default)]
struct Peer {
    chain: Option<Connection>,
    blocks: Option<(Connection, Instant)>,
    dialing: bool,
    failures: u32,
    next: Option<Instant>,
    refused: bool,
}

/// A peer, for people.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Which device.
    pub device: DeviceId,
    /// Whether it is connected.
    pub connected: bool,
    /// Where it is connected to.
    pub address: Option<String>,
    /// How long something takes to it and back.
    pub rtt: Option<Duration>,
    /// Whether it says that this device is no member.
    pub refused: bool,
}

impl Peers {
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) fn forget_failures(&self, device: &DeviceId) {
        if let Some(peer) = self.table.lock().get_mut(device) {
            (peer.failures, peer.next) = (0, None);
        }
    }

    /// The connection for chains with a device.
    pub(super) fn chain(&self, device: &DeviceId) -> Option<Connection> {
        self.table.lock().get(device)?.chain.clone()
    }

    /// Another device made a connection; the oldest of too many is closed.
    pub(super) fn welcome(&self, device: DeviceId, connection: &Connection) {
        let mut guests = self.guests.lock();
        guests.retain(|_, connections| {
            connections.retain(|one| one.close_reason().is_none());
            !connections.is_empty()
        });
        let own = guests.entry((device, connection.alpn().to_vec())).or_default();
        own.push(connection.clone());
        while own.len() > GUEST {
            own.remove(0).close(Code::Busy.into(), b"");
        }
    }

    pub(super) fn connected(&self) -> BTreeSet<DeviceId> {
        let table = self.table.lock();
        table.iter().filter(|(_, peer)| peer.chain.is_some()).map(|(device, _)| *device).collect()
    }

    pub(super) fn infos(&self) -> Vec<PeerInfo> {
        let table = self.table.lock();
        let info = |(device, peer): (&DeviceId, &Peer)| {
            let path = peer.chain.as_ref().and_then(|chain| {
                let paths = chain.paths();
                paths.iter().find(|path| path.is_selected()).map(|path| (shown(path.remote_addr()), path.rtt()))
            });
            let (address, rtt) = path.unzip();
            PeerInfo { device: *device, connected: peer.chain.is_some(), address, rtt, refused: peer.refused }
        };
        table.iter().map(info).collect()
    }

    /// Takes a new connection, unless there is a better one: then the new one is closed. Says whether it was taken.
    fn take(&self, device: DeviceId, own: &DeviceId, connection: &Connection) -> bool {
        let mut table = self.table.lock();
        let peer = table.entry(device).or_default();
        (peer.failures, peer.next, peer.refused) = (0, None, false);
        if let Some(old) = peer.chain.as_ref().filter(|old| old.close_reason().is_none()) {
            // Both called each other: both keep the call of the lesser key. Where one called twice, the first is dead.
            let preferred = if *own < device { Side::Client } else { Side::Server };
            if old.side() == preferred && connection.side() != preferred {
                connection.close(Code::Duplicate.into(), b"");
                return false;
            }
            old.close(Code::Duplicate.into(), b"");
        }
        peer.chain = Some(connection.clone());
        true
    }

    /// A connection is gone; says whether it was the one in use.
    fn lose(&self, device: &DeviceId, connection: &Connection) -> bool {
        let mut table = self.table.lock();
        let Some(peer) = table.get_mut(device) else { return false };
        let current = peer.chain.as_ref().is_some_and(|chain| chain.stable_id() == connection.stable_id());
        if current {
            peer.chain = None;
            if let Some((blocks, _)) = peer.blocks.take() {
                blocks.close(Code::Done.into(), b"");
            }
        }
        current
    }
}

fn shown(address: &TransportAddr) -> String {
    match address {
        TransportAddr::Ip(at) => at.to_string(),
        other => other.to_string(),
    }
}

impl Shared {
    /// Members of all buckets here, this device left out.
    fn members(&self) -> BTreeSet<DeviceId> {
        let swarms: Vec<_> = self.swarms.read().values().cloned().collect();
        let mut all: BTreeSet<_> = swarms.iter().flat_map(|swarm| swarm.members()).collect();
        all.remove(&self.device.id());
        all
    }

    /// Whether a device is a member of any bucket here.
    pub(super) fn is_known(&self, device: &DeviceId) -> bool {
        self.swarms.read().values().any(|swarm| swarm.role(device).is_some())
    }

    /// Ends the connections with those who are members of nothing here any more, and says why.
    pub(super) fn drop_strangers(&self, why: Code) {
        for device in self.peers.connected() {
            if !self.is_known(&device)
                && let Some(connection) = self.peers.chain(&device)
            {
                connection.close(why.into(), b"");
            }
        }
        self.peers.guests.lock().retain(|(device, _), connections| {
            let known = self.is_known(device);
            connections.iter().filter(|_| !known).for_each(|connection| connection.close(why.into(), b""));
            known
        });
    }

    /// A connection for chains was made, by either side: serves it until it ends.
    pub(super) async fn keep(self: Arc<Self>, connection: Connection) {
        let device = identity::device_id(&connection.remote_id());
        if !self.peers.take(device, &self.device.id(), &connection) {
            return;
        }
        tracing::info!(peer = %device.short(), "connected");
        self.note_path(device, &connection);
        let swarms: Vec<_> = self.swarms.read().values().cloned().collect();
        swarms.iter().for_each(|swarm| swarm.connected(device));
        tokio::spawn(tell_addresses(Arc::clone(&self), device, connection.clone()));
        let why = super::accept::serve_chain(&self, device, &connection).await;
        if !self.peers.lose(&device, &connection) {
            return;
        }
        tracing::info!(peer = %device.short(), %why, "disconnected");
        if super::accept::closed_with(&connection) == Some(Code::NotAMember) {
            self.failed(&device, true);
        }
        let swarms: Vec<_> = self.swarms.read().values().cloned().collect();
        swarms.iter().for_each(|swarm| swarm.disconnected(device));
        self.peers.wake();
    }

    fn note_path(&self, device: DeviceId, connection: &Connection) {
        // Whoever called comes from a port that it may be reached on, or not; whoever was called is there.
        if connection.side() == Side::Client {
            let paths = connection.paths();
            let sockets = paths.iter().filter_map(|path| match path.remote_addr() {
                TransportAddr::Ip(at) => Some(*at),
                _ => None,
            });
            let sockets = sockets.collect();
            self.book.learn(Reach { device, sockets, relay: None });
        }
    }

    /// What another device is told: where this one is, and where members are of buckets that both have.
    fn reaches_for(&self, device: &DeviceId) -> Vec<Reach> {
        let swarms: Vec<_> = self.swarms.read().values().cloned().collect();
        let shared = swarms.iter().filter(|swarm| swarm.role(device).is_some());
        let mut members: BTreeSet<_> = shared.flat_map(|swarm| swarm.members()).collect();
        members.remove(device);
        members.remove(&self.device.id());
        let known = members.iter().filter_map(|member| self.book.get(member));
        [self.reach()].into_iter().chain(known).take(ADDRESSES).collect()
    }

    /// Learns what a member says of where others are.
    pub(super) fn hear_addresses(&self, reaches: Vec<Reach>) {
        let members = self.members();
        for reach in reaches.into_iter().take(ADDRESSES) {
            if members.contains(&reach.device) && reach.sockets.len() <= ADDRESSES_EACH {
                self.learn(reach);
            }
        }
    }

    fn failed(&self, device: &DeviceId, refused: bool) {
        let mut table = self.peers.table.lock();
        let peer = table.entry(*device).or_default();
        let pause = AGAIN.saturating_mul(1 << peer.failures.min(8)).min(AGAIN_MOST);
        peer.failures = peer.failures.saturating_add(1);
        (peer.next, peer.refused) = (Some(Instant::now() + pause), refused);
    }

    /// Where to look for a device.
    fn address(&self, device: &DeviceId) -> Option<EndpointAddr> {
        let mut at = EndpointAddr::new(identity::endpoint_id(device)?);
        if let Some(known) = self.book.get(device) {
            let relay = known.relay.and_then(|url| url.parse::<RelayUrl>().ok());
            at = at.with_addrs(known.sockets.into_iter().filter(is_sane).map(TransportAddr::Ip));
            at = at.with_addrs(relay.map(TransportAddr::Relay));
        }
        // It may have moved along with the connection that there is.
        if let Some(chain) = self.peers.chain(device) {
            let paths = chain.paths();
            at = at.with_addrs(paths.iter().map(|path| path.remote_addr().clone()));
        }
        Some(at)
    }

    /// A connection to a device for a protocol; bounded in time.
    pub(super) async fn dial(&self, device: &DeviceId, protocol: &[u8]) -> Result<Connection, WireError> {
        let at = self.address(device).ok_or(WireError::Malformed("no key"))?;
        if !at.is_empty() {
            self.lookup.add_endpoint_info(at.clone());
        }
        let dialing = tokio::time::timeout(DIAL, self.endpoint.connect(at, protocol)).await;
        dialing.map_err(|_| WireError::Late)?.map_err(WireError::of)
    }

    /// The connection for blocks with a device that is connected; made where there is none.
    pub(super) async fn blocks(&self, device: &DeviceId) -> Result<Connection, WireError> {
        {
            let mut table = self.peers.table.lock();
            let peer = table.get_mut(device).filter(|peer| peer.chain.is_some());
            let peer = peer.ok_or_else(|| WireError::of("it is not connected"))?;
            if let Some((connection, used)) = peer.blocks.as_mut().filter(|(one, _)| one.close_reason().is_none()) {
                *used = Instant::now();
                return Ok(connection.clone());
            }
        }
        let made = self.dial(device, wire::BLOCKS).await?;
        let mut table = self.peers.table.lock();
        if let Some(peer) = table.get_mut(device) {
            // Two that ask at once make two, and one of them is used from then on.
            peer.blocks = Some((made.clone(), Instant::now()));
        }
        Ok(made)
    }

    /// Closes connections for blocks that nobody uses.
    fn close_unused(&self) {
        for peer in self.peers.table.lock().values_mut() {
            if peer.blocks.as_ref().is_some_and(|(_, used)| used.elapsed() > UNUSED)
                && let Some((connection, _)) = peer.blocks.take()
            {
                connection.close(Code::Done.into(), b"");
            }
        }
    }

    /// Whom to call now.
    fn due(&self) -> Vec<DeviceId> {
        let now = Instant::now();
        let own = self.device.id();
        let swarms: Vec<_> = self.swarms.read().values().cloned().collect();
        let mut wanted = BTreeSet::new();
        let connected = self.peers.connected();
        for swarm in swarms {
            let members = swarm.members();
            let has = members.iter().filter(|member| connected.contains(member)).count();
            let missing = members.into_iter().filter(|member| *member != own && !connected.contains(member));
            wanted.extend(missing.take(DIRECT.saturating_sub(has)));
        }
        let mut table = self.peers.table.lock();
        wanted.retain(|device| {
            let peer = table.entry(*device).or_default();
            // A little patience, so that not both call.
            let next = peer.next.get_or_insert_with(|| if own < *device { now } else { now + AFTER_YOU });
            let due = !peer.dialing && *next <= now;
            peer.dialing |= due;
            due
        });
        wanted.into_iter().collect()
    }
}

/// An address that can be somebody's.
fn is_sane(at: &SocketAddr) -> bool {
    at.port() != 0 && !at.ip().is_unspecified() && !at.ip().is_multicast()
}

/// Tells a member where others are.
async fn tell_addresses(shared: Arc<Shared>, device: DeviceId, connection: Connection) {
    let notice = Notice::Addresses(shared.reaches_for(&device));
    if let Err(error) = tell(&connection, &notice).await {
        tracing::debug!(%error, "addresses are not told");
    }
}

/// Tells a member something, on a stream of its own.
pub(super) async fn tell(connection: &Connection, notice: &Notice) -> Result<(), WireError> {
    let work = async {
        let mut stream = connection.open_uni().await.map_err(WireError::of)?;
        wire::send(&mut stream, notice).await?;
        stream.finish().map_err(WireError::of)
    };
    tokio::time::timeout(DIAL, work).await.map_err(|_| WireError::Late)?
}

/// Calls all members that are not connected, again and again.
pub(super) async fn dial_all(shared: Arc<Shared>) {
    loop {
        drop(tokio::time::timeout(ROUND, shared.peers.wake.notified()).await);
        for device in shared.due() {
            tokio::spawn(call(Arc::clone(&shared), device));
        }
        shared.close_unused();
        // What was learnt is there after a crash as well: it may be all that is known of where anybody is.
        if shared.book.is_changed() {
            let shared = Arc::clone(&shared);
            drop(tokio::task::spawn_blocking(move || shared.save_book()).await);
        }
    }
}

async fn call(shared: Arc<Shared>, device: DeviceId) {
    let dialled = shared.dial(&device, wire::CHAIN).await;
    if let Some(peer) = shared.peers.table.lock().get_mut(&device) {
        peer.dialing = false;
    }
    match dialled {
        Ok(connection) => shared.keep(connection).await,
        Err(error) => {
            tracing::debug!(peer = %device.short(), %error, "not reached");
            shared.failed(&device, false);
        }
    }
}
