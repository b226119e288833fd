//! The node on the network: when it goes there, with which buckets, and whom it lets in.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jaxfs_sync::bucket::{DeviceKey, Identity};
use jaxfs_sync::crypto::{Label, Secret};
use jaxfs_sync::link::Link;
use jaxfs_sync::net::join::Closed;
use jaxfs_sync::net::{Doorman, Local, Network, Relay, Settings};
use jaxfs_sync::publish::{Bucket, NotInvited, Replica};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::buckets::Buckets;
use super::keys::Keys;
use crate::control::peers::{NetworkReport, SwarmReport};
use crate::home::Home;

/// How often it is looked who has everything.
const HELD_STEP: Duration = Duration::from_millis(20);

/// The node's side of the network.
pub(super) struct Peering {
    settings: PathBuf,
    book: PathBuf,
    keys: Arc<Keys>,
    buckets: Arc<Buckets>,
    online: Mutex<Option<Arc<Network>>>,
}

/// How to be on the network, as it is kept in the home.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(default)]
struct Saved {
    port: u16,
    relay: String,
    local_discovery: bool,
}

impl Default for Saved {
    fn default() -> Self {
        Self { port: 0, relay: "off".to_owned(), local_discovery: true }
    }
}

impl Peering {
    pub(super) fn new(home: &Home, keys: Arc<Keys>, buckets: Arc<Buckets>) -> Self {
        let (settings, book) = (home.path().join("network.json"), home.path().join("peers"));
        Self { settings, book, keys, buckets, online: Mutex::default() }
    }

    /// The network, if this node is on it.
    pub(super) fn get(&self) -> Option<Arc<Network>> {
        self.online.lock().clone()
    }

    /// The network; goes there first.
    pub(super) fn go(&self, device: &Arc<DeviceKey>) -> Result<Arc<Network>> {
        let mut online = self.online.lock();
        if let Some(network) = &*online {
            return Ok(Arc::clone(network));
        }
        let mut saved = self.saved()?;
        let settings = Settings {
            port: saved.port,
            relay: relay(&saved.relay)?,
            local_discovery: saved.local_discovery,
            loopback: false,
        };
        let network = Arc::new(Network::start(Arc::clone(device), &settings, &self.book)?);
        if saved.port != network.port() {
            saved.port = network.port();
            self.save(&saved).unwrap_or_else(|error| tracing::warn!("the port is not remembered: {error:#}"));
        }
        network.set_doorman(Arc::new(Door { keys: Arc::clone(&self.keys), buckets: Arc::clone(&self.buckets) }));
        tracing::info!(port = network.port(), "on the network");
        *online = Some(Arc::clone(&network));
        Ok(network)
    }

    /// Leaves the network, and says goodbye.
    pub(super) fn leave(&self) {
        let network = self.online.lock().take();
        drop(network);
    }

    /// Puts a bucket on the network if there is anybody there who may be interested.
    pub(super) fn attach(&self, bucket: &Arc<Bucket>, device: &Arc<DeviceKey>) -> Result<()> {
        if bucket.member_infos().len() > 1 || bucket.is_inviting()? {
            self.attach_now(bucket.genesis(), Arc::clone(bucket) as Arc<dyn Local>, device)?;
        }
        Ok(())
    }

    /// Puts a bucket on the network that is kept as a mirror.
    pub(super) fn attach_mirror(&self, replica: &Arc<Replica>, device: &Arc<DeviceKey>) -> Result<()> {
        self.attach_now(replica.genesis().link(), Arc::new(Arc::clone(replica)), device)
    }

    fn attach_now(&self, genesis: Link, local: Arc<dyn Local>, device: &Arc<DeviceKey>) -> Result<()> {
        let network = self.go(device)?;
        if network.swarm(&genesis).is_none() {
            network.attach(local);
        }
        Ok(())
    }

    /// Takes a bucket off the network: nothing uses it there any more.
    pub(super) fn detach(&self, genesis: &Link) {
        if let Some(network) = self.get() {
            network.detach(genesis);
        }
    }

    /// How far a bucket is.
    pub(super) fn report(&self, bucket: &Bucket) -> Option<SwarmReport> {
        let swarm = self.get()?.swarm(&bucket.genesis())?;
        let progress = swarm.progress();
        let head = bucket.head();
        Some(SwarmReport {
            members: swarm.members().len() as u64,
            connected: progress.connected as u64,
            holders: progress.holds.values().filter(|held| bucket.replica().has(held, &head)).count() as u64,
            incomplete: progress.incomplete as u64,
            missing: progress.missing,
            received_bytes: progress.received,
            sent_bytes: progress.sent,
        })
    }

    /// Waits until so many other devices have all of a version.
    pub(super) fn wait_held(&self, bucket: &Bucket, version: &Link, count: u64, limit: Option<Duration>) -> Result<()> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let have = || {
            let swarm = self.get().and_then(|network| network.swarm(&bucket.genesis()));
            let holds = swarm.map(|swarm| swarm.progress().holds).unwrap_or_default();
            holds.values().filter(|held| bucket.replica().has(held, version)).count() as u64
        };
        while count > 0 && have() < count {
            let others = bucket.member_infos().len() as u64 - 1;
            ensure!(others >= count, "the bucket has only {others} other members");
            let late = deadline.is_some_and(|deadline| Instant::now() > deadline);
            ensure!(!late, "published, but only {} of {count} other devices have all of it yet", have());
            thread::sleep(HELD_STEP);
        }
        Ok(())
    }

    /// Changes how this home is on the network; takes effect when the node next goes there.
    pub(super) fn configure(
        &self,
        to_relay: Option<&str>,
        port: Option<u16>,
        local_discovery: Option<bool>,
    ) -> Result<NetworkReport> {
        let before = self.saved()?;
        let mut saved = before.clone();
        if let Some(url) = to_relay {
            relay(url)?;
            saved.relay = url.to_owned();
        }
        saved.port = port.unwrap_or(saved.port);
        saved.local_discovery = local_discovery.unwrap_or(saved.local_discovery);
        if saved != before {
            ensure!(self.get().is_none(), "this home is on the network now: unmount everything, and try again");
            self.save(&saved)?;
        }
        let network = self.get();
        let addresses = network.as_ref().map(|network| network.reach().sockets).unwrap_or_default();
        Ok(NetworkReport {
            online: network.is_some(),
            port: network.as_ref().map_or(saved.port, |network| network.port()),
            relay: saved.relay,
            local_discovery: saved.local_discovery,
            addresses: addresses.iter().map(ToString::to_string).collect(),
        })
    }

    fn saved(&self) -> Result<Saved> {
        let path = self.settings.display();
        match fs::read(&self.settings) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{path} makes no sense: remove it")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Saved::default()),
            Err(error) => Err(error).with_context(|| format!("can not read {path}")),
        }
    }

    fn save(&self, saved: &Saved) -> Result<()> {
        write_whole(&self.settings, &serde_json::to_vec_pretty(saved)?)
            .with_context(|| format!("can not write {}", self.settings.display()))
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(bytes)?;
    fs::rename(&new, path)
}

/// What a relay is called where it is chosen.
fn relay(name: &str) -> Result<Relay> {
    match name {
        "off" => Ok(Relay::Off),
        "default" => Ok(Relay::Default),
        url if url.starts_with("https://") || url.starts_with("http://") => Ok(Relay::Url(url.to_owned())),
        other => bail!("there is no relay `{other}`: `off`, `default`, or the https address of one"),
    }
}

/// Lets strangers with tickets in, where this home has the owner key.
struct Door {
    keys: Arc<Keys>,
    buckets: Arc<Buckets>,
}

impl Doorman for Door {
    fn admit(
        &self,
        bucket: &Link,
        secret: &Secret,
        identity: &Identity,
        name: &Label,
    ) -> Result<(Vec<u8>, Vec<u8>), Closed> {
        let later = |error: anyhow::Error| {
            tracing::warn!("somebody can not be let in: {error:#}");
            Closed::Later("the owner's device can not do that now".to_owned())
        };
        let unknown = || Closed::No("the ticket is not known there: ask for a new one".to_owned());
        let found = self.buckets.opened().into_iter().find(|one| one.genesis() == *bucket).ok_or_else(unknown)?;
        let owner = self.keys.owner(&self.buckets.owner_key(found.id())).map_err(later)?.ok_or_else(unknown)?;
        match found.redeem(&owner, secret, identity, name) {
            Ok(_) => found.beginning().map_err(|error| later(error.into())),
            Err(NotInvited::Bucket(error)) => Err(later(error.into())),
            Err(why) => Err(Closed::No(why.to_string())),
        }
    }
}
