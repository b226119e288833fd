//! Peers: what a device of a bucket's does on the network, without any server.
//!
//! A [`Network`] is one endpoint, whose address is the device's key. It connects to the members of each bucket that it is
//! given, as far as it can find them, and does what the buckets' chains say: see `swarm`. A *swarm* is one bucket on the
//! network.
//!
//! Nothing is sent to whoever is no member by the list of the canonical head; the check is made for each stream, so that it
//! ends with the membership. What comes is believed only where a signature or a digest says so.
//!
//! Nobody waits for the network here but the tasks of this module: buckets are called from threads that may block.

mod accept;
mod blocks;
mod book;
mod gossip;
mod history;
pub mod identity;
pub mod join;
mod local;
mod nodes;
mod peers;
mod reapply;
mod supply;
mod swarm;
pub mod ticket;
pub mod wire;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use iroh::address_lookup::memory::MemoryLookup;
use iroh::endpoint::{IdleTimeout, QuicTransportConfig, VarInt, presets};
use iroh::protocol::Router;
use iroh::{Endpoint, RelayMode, RelayUrl};
use iroh_gossip::net::Gossip;
use iroh_mdns_address_lookup::MdnsAddressLookup;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;

pub use book::Book;
pub use join::Doorman;
pub use local::Local;
pub use peers::PeerInfo;
pub use swarm::{Progress, Swarm};
use wire::Reach;

use crate::bucket::DeviceKey;
use crate::limits::MANIFEST_BYTES;
use crate::link::Link;

/// How long nothing may come from a peer before it counts as gone, and how often something is sent so that it does not.
const IDLE: Duration = Duration::from_secs(7);
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// Streams that one peer may have open to us, of each kind.
const STREAMS: u32 = 32;
/// Bytes on their way on one stream, and on one connection: a gigabit and 50 ms, and a bound on the memory for one peer.
const STREAM_WINDOW: u32 = 6 << 20;
const WINDOW: u32 = 16 << 20;
/// What gossip adds to a manifest.
const GOSSIP_MOST: usize = MANIFEST_BYTES + 96;
/// How long the network may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
#[error("the network can not be used: {0}")]
pub struct NetworkError(String);

/// Through what devices find each other that can not reach each other directly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Relay {
    /// Nothing.
    #[default]
    Off,
    /// iroh's public relays and its public directory.
    Default,
    /// One's own.
    Url(String),
}

/// How to be on the network.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The UDP port; another one if it is taken, and any one if it is 0.
    pub port: u16,
    /// The relay.
    pub relay: Relay,
    /// Whether to look for, and be found by, other devices on the same network (mDNS).
    pub local_discovery: bool,
    /// Whether to be reached from this machine alone.
    pub loopback: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { port: 0, relay: Relay::Off, local_discovery: true, loopback: false }
    }
}

/// A device on the network. Ends when it is dropped.
pub struct Network {
    shared: Arc<Shared>,
    router: Router,
    runtime: Option<Runtime>,
}

/// What all tasks share.
pub(crate) struct Shared {
    device: Arc<DeviceKey>,
    endpoint: Endpoint,
    gossip: Gossip,
    lookup: MemoryLookup,
    book: Book,
    peers: peers::Peers,
    /// By genesis.
    swarms: RwLock<BTreeMap<Link, Arc<Swarm>>>,
    doorman: Mutex<Option<Arc<dyn Doorman>>>,
    /// One for each stranger that stands in the door, and for each that is decided about.
    in_the_door: Semaphore,
    strangers: Semaphore,
    tasks: Handle,
}

impl Network {
    /// Goes on the network. `book` is the file in which it is remembered where others are.
    ///
    /// # Errors
    /// If no socket can be had.
    pub fn start(device: Arc<DeviceKey>, settings: &Settings, book: &Path) -> Result<Self, NetworkError> {
        let failed = |error: &dyn std::fmt::Display| NetworkError(error.to_string());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("network")
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let (lookup, book) = (MemoryLookup::new(), Book::open(book));
        let started = runtime.block_on(async {
            let endpoint = match bind(&device, settings, settings.port, &lookup).await {
                Err(_) if settings.port != 0 => bind(&device, settings, 0, &lookup).await,
                bound => bound,
            };
            let endpoint = endpoint.map_err(|error| failed(&error))?;
            if settings.local_discovery && !settings.loopback {
                match (MdnsAddressLookup::builder().build(endpoint.id()), endpoint.address_lookup()) {
                    (Ok(mdns), Ok(lookups)) => lookups.add(mdns),
                    // Without a network that has multicast, there is nobody to be found that way.
                    (Err(error), _) => tracing::info!(%error, "no discovery on the local network"),
                    (_, Err(error)) => return Err(failed(&error)),
                }
            }
            let gossip = Gossip::builder().max_message_size(GOSSIP_MOST).spawn(endpoint.clone());
            let shared = Arc::new(Shared {
                device,
                gossip: gossip.clone(),
                lookup,
                book,
                peers: peers::Peers::default(),
                swarms: RwLock::default(),
                doorman: Mutex::default(),
                in_the_door: Semaphore::new(join::IN_THE_DOOR),
                strangers: Semaphore::new(join::AT_ONCE),
                tasks: Handle::current(),
                endpoint: endpoint.clone(),
            });
            let router = Router::builder(endpoint)
                .accept(wire::CHAIN, accept::Chains(Arc::clone(&shared)))
                .accept(wire::BLOCKS, accept::Blocks(Arc::clone(&shared)))
                .accept(wire::JOIN, accept::Joins(Arc::clone(&shared)))
                .accept(iroh_gossip::ALPN, accept::Gossips(Arc::clone(&shared)))
                .spawn();
            tokio::spawn(peers::dial_all(Arc::clone(&shared)));
            Ok((shared, router))
        });
        let (shared, router) = started?;
        Ok(Self { shared, router, runtime: Some(runtime) })
    }

    /// Puts a bucket on the network.
    pub fn attach(&self, local: Arc<dyn Local>) -> Arc<Swarm> {
        let swarm = swarm::start(&self.shared, local);
        self.shared.peers.wake();
        swarm
    }

    /// Takes a bucket off the network; when this returns, nothing uses it any more.
    pub fn detach(&self, genesis: &Link) {
        let Some(swarm) = self.shared.swarms.write().remove(genesis) else { return };
        self.block_on(swarm.stop());
        self.shared.drop_strangers(wire::Code::Leaving);
    }

    /// A bucket on the network.
    pub fn swarm(&self, genesis: &Link) -> Option<Arc<Swarm>> {
        self.shared.swarms.read().get(genesis).cloned()
    }

    /// Who decides about strangers with tickets.
    pub fn set_doorman(&self, doorman: Arc<dyn Doorman>) {
        *self.shared.doorman.lock() = Some(doorman);
    }

    /// Who is connected, and how.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.shared.peers.infos()
    }

    /// Where this device can be reached.
    pub fn reach(&self) -> Reach {
        self.shared.reach()
    }

    /// The port in use, to be asked for again.
    pub fn port(&self) -> u16 {
        self.shared.endpoint.bound_sockets().first().map_or(0, SocketAddr::port)
    }

    /// Learns where a device can be reached.
    pub fn learn(&self, reach: Reach) {
        self.shared.learn(reach);
    }

    /// Runs something on the network's threads, and waits for it. Not from one of them.
    fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.shared.tasks.block_on(work)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let swarms = std::mem::take(&mut *self.shared.swarms.write());
        self.block_on(async {
            for swarm in swarms.values() {
                swarm.stop().await;
            }
            // Shuts gossip and the endpoint as well.
            drop(tokio::time::timeout(GOODBYE, self.router.shutdown()).await);
        });
        self.shared.save_book();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(GOODBYE);
        }
    }
}

impl Shared {
    /// Where this device can be reached.
    fn reach(&self) -> Reach {
        let at = self.endpoint.addr();
        let sockets = at.ip_addrs().copied().take(wire::ADDRESSES_EACH).collect();
        let relay = at.relay_urls().next().map(ToString::to_string);
        Reach { device: self.device.id(), sockets, relay }
    }

    /// Learns where a device can be reached.
    fn learn(&self, reach: Reach) {
        let device = reach.device;
        if device != self.device.id() && self.book.learn(reach) {
            self.peers.forget_failures(&device);
            self.peers.wake();
        }
    }

    fn save_book(&self) {
        self.book.save().unwrap_or_else(|error| tracing::warn!(%error, "where peers are is not remembered"));
    }
}

/// Opens the sockets.
async fn bind(
    device: &DeviceKey,
    settings: &Settings,
    port: u16,
    lookup: &MemoryLookup,
) -> Result<Endpoint, NetworkError> {
    let failed = |error: &dyn std::fmt::Display| NetworkError(error.to_string());
    let idle = IdleTimeout::try_from(IDLE).map_err(|error| failed(&error))?;
    let transport = QuicTransportConfig::builder()
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(KEEP_ALIVE)
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW))
        .build();
    let builder = match &settings.relay {
        Relay::Default => Endpoint::builder(presets::N0),
        Relay::Off => Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled),
        Relay::Url(url) => {
            let url: RelayUrl = url.parse().map_err(|error| failed(&error))?;
            Endpoint::builder(presets::Minimal).relay_mode(RelayMode::custom([url]))
        }
    };
    let (v4, v6) = match settings.loopback {
        true => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        false => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
    };
    let mut builder = builder
        .secret_key(identity::endpoint_key(device))
        .transport_config(transport)
        .address_lookup(lookup.clone())
        .clear_ip_transports()
        .bind_addr(SocketAddr::from((v4, port)))
        .map_err(|error| failed(&error))?;
    if has_v6() {
        builder = builder.bind_addr(SocketAddr::from((v6, port))).map_err(|error| failed(&error))?;
    }
    builder.bind().await.map_err(|error| failed(&error))
}

/// Whether this machine has IPv6 at all.
fn has_v6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[cfg(test)]
mod tests;
