//! An endpoint that speaks the protocols and keeps none of the rules.

use std::sync::atomic::{AtomicUsize, Ordering};

use iroh::endpoint::{Connection, RecvStream, SendStream};
use iroh::{EndpointAddr, TransportAddr};

use super::super::wire::{BlocksQuestion, HistoryPart, HistoryQuestion, Notice, QUESTION_MOST};
use super::*;
use crate::bucket::{Height, ManifestDraft, Place, SignedManifest};
use crate::chain::Heads;
use crate::link::Codec;
use crate::publish::Item;

/// What it answers when it is asked for history.
#[derive(Clone)]
pub(super) enum History {
    /// These parts.
    Parts(Vec<HistoryPart>),
    /// This part again and again.
    Endless(HistoryPart),
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing, and the stream stays open.
    Stall,
}

/// What it answers when it is asked for blocks.
#[derive(Clone, Copy)]
pub(super) enum Blocks {
    NotHere,
    /// Nothing, and the stream stays open.
    Stall,
    /// Blocks that are others.
    Wrong,
    /// More than were asked for.
    More,
    /// A length of 4 GiB.
    Huge,
}

#[derive(Clone)]
pub(super) struct Trick {
    pub(super) history: History,
    pub(super) blocks: Blocks,
}

pub(super) struct Enemy {
    pub(super) device: Arc<DeviceKey>,
    pub(super) endpoint: Endpoint,
    pub(super) trick: Arc<Mutex<Trick>>,
    /// How often it was asked for history, and for blocks.
    pub(super) asked: Arc<[AtomicUsize; 2]>,
    runtime: Runtime,
}

impl Enemy {
    /// A stranger.
    pub(super) fn new() -> Self {
        let device = Arc::new(DeviceKey::generate());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let endpoint = Endpoint::builder(presets::Minimal)
            .relay_mode(RelayMode::Disabled)
            .secret_key(identity::endpoint_key(&device))
            .alpns(vec![wire::CHAIN.to_vec(), wire::BLOCKS.to_vec()])
            .clear_ip_transports()
            .bind_addr(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .unwrap();
        let endpoint = runtime.block_on(endpoint.bind()).unwrap();
        let trick = Trick { history: History::Parts(vec![part(Vec::new())]), blocks: Blocks::NotHere };
        let (trick, asked) = (Arc::new(Mutex::new(trick)), Arc::default());
        let enemy = Self { device, endpoint, trick, asked, runtime };
        let (endpoint, trick, asked) = (enemy.endpoint.clone(), Arc::clone(&enemy.trick), Arc::clone(&enemy.asked));
        enemy.runtime.spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let Ok(connection) = incoming.await else { continue };
                tokio::spawn(answer(connection, Arc::clone(&trick), Arc::clone(&asked)));
            }
        });
        enemy
    }

    /// A member that went bad.
    pub(super) fn member(of: &Home, role: Role) -> Self {
        let enemy = Self::new();
        let name = Label::new("enemy").unwrap();
        of.bucket().admit(&owner_key(of), &enemy.device.identity(of.bucket().id()), role, &name).unwrap();
        until("it is known as a member", || {
            of.network().swarm(&of.bucket().genesis()).unwrap().role(&enemy.device.id()).is_some()
        });
        enemy
    }

    pub(super) fn run<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("not in time") })
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    pub(super) fn connect(&self, to: &Home, protocol: &[u8]) -> Option<Connection> {
        let reach = to.network().reach();
        let at = EndpointAddr::new(identity::endpoint_id(&reach.device).unwrap());
        let at = at.with_addrs(reach.sockets.into_iter().map(TransportAddr::Ip));
        self.run(self.endpoint.connect(at, protocol)).ok()
    }

    /// A connection for chains, on which it answers as it likes, and can be asked for blocks.
    pub(super) fn chain(&self, to: &Home) -> Connection {
        let connection = self.connect(to, wire::CHAIN).unwrap();
        self.spawn(answer(connection.clone(), Arc::clone(&self.trick), Arc::clone(&self.asked)));
        let sockets = self.endpoint.bound_sockets();
        self.tell(&connection, &Notice::Addresses(vec![Reach { device: self.device.id(), sockets, relay: None }]));
        until("it is connected", || {
            to.network().peers().iter().any(|peer| peer.device == self.device.id() && peer.connected)
        });
        connection
    }

    pub(super) fn tell(&self, connection: &Connection, notice: &Notice) {
        self.say(connection, &wire::encode(notice).unwrap());
    }

    /// Bytes on a one-way stream.
    pub(super) fn say(&self, connection: &Connection, bytes: &[u8]) {
        self.run(async {
            let mut stream = connection.open_uni().await.unwrap();
            // It may be refused in the middle.
            drop(stream.write_all(bytes).await);
            drop(stream.finish());
        });
    }

    pub(super) fn claims(&self, connection: &Connection, bucket: Link, head: Link) {
        self.tell(connection, &Notice::Heads { bucket, heads: heads(bucket, head), answer: false });
    }

    pub(super) fn histories(&self) -> usize {
        self.asked[0].load(Ordering::SeqCst)
    }

    pub(super) fn blocks(&self) -> usize {
        self.asked[1].load(Ordering::SeqCst)
    }
}

async fn answer(connection: Connection, trick: Arc<Mutex<Trick>>, asked: Arc<[AtomicUsize; 2]>) {
    let is_chain = connection.alpn() == wire::CHAIN;
    while let Ok((send, recv)) = connection.accept_bi().await {
        asked[usize::from(!is_chain)].fetch_add(1, Ordering::SeqCst);
        let Trick { history, blocks } = trick.lock().clone();
        tokio::spawn(async move {
            if is_chain { answer_history(history, send, recv).await } else { answer_blocks(blocks, send, recv).await }
        });
    }
}

async fn answer_history(trick: History, mut send: SendStream, mut recv: RecvStream) {
    let _: HistoryQuestion = wire::receive(&mut recv, QUESTION_MOST).await.unwrap();
    match trick {
        History::Parts(parts) => {
            for part in parts {
                drop(wire::send(&mut send, &part).await);
            }
        }
        History::Endless(part) => while wire::send(&mut send, &part).await.is_ok() {},
        History::Bytes(bytes) => drop(send.write_all(&bytes).await),
        History::Stall => std::future::pending().await,
    }
    drop(send.finish());
}

async fn answer_blocks(trick: Blocks, mut send: SendStream, mut recv: RecvStream) {
    let question: BlocksQuestion = wire::receive(&mut recv, QUESTION_MOST).await.unwrap();
    let block = [[4, 0, 0, 0], *b"junk"].concat();
    let bytes = match trick {
        Blocks::NotHere => wire::NOT_HERE.to_le_bytes().repeat(question.links.len()),
        Blocks::Stall => std::future::pending().await,
        Blocks::Wrong => block.repeat(question.links.len()),
        Blocks::More => block.repeat(question.links.len() + 100),
        Blocks::Huge => (u32::MAX - 1).to_le_bytes().to_vec(),
    };
    drop(send.write_all(&bytes).await);
    drop(send.finish());
}

pub(super) fn owner_key(of: &Home) -> OwnerKey {
    OwnerKey::load(&of.bucket().dir().join("owner.key"), None).unwrap()
}

pub(super) fn heads(genesis: Link, head: Link) -> Heads {
    Heads { genesis, version: 0, head, shown: None, pinned: false, tips: Vec::new() }
}

/// The last part of an answer.
pub(super) fn part(manifests: Vec<Vec<u8>>) -> HistoryPart {
    HistoryPart {
        items: manifests.into_iter().map(|bytes| Item::Manifest(bytes).into()).collect(),
        last: true,
        more: false,
    }
}

/// A link to what nobody has.
pub(super) fn nowhere() -> Link {
    Link::of(Codec::DagCbor, Secret::random().expose())
}

/// A manifest on a version, whose content nobody has.
pub(super) fn forge(
    on: &SignedManifest,
    author: &DeviceKey,
    change: impl FnOnce(&mut ManifestDraft),
) -> SignedManifest {
    let claims = on.claims().clone();
    let mut draft = ManifestDraft {
        id: claims.id,
        owner: claims.owner,
        name: claims.name.to_vec(),
        share: claims.share,
        entry: nowhere(),
        pins: claims.pins,
        place: Place::After {
            genesis: claims.genesis.unwrap_or(on.link()),
            previous: on.link(),
            height: Height(claims.height.0 + 1),
        },
        reapplied: Vec::new(),
        timestamp: claims.timestamp,
    };
    change(&mut draft);
    draft.sign(author).unwrap()
}

pub(super) fn head_of(home: &Home) -> SignedManifest {
    let replica = home.bucket().replica();
    SignedManifest::decode(&replica.manifest_bytes(&home.bucket().head()).unwrap().unwrap()).unwrap()
}

/// Memory of this process, in MiB.
pub(super) fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}
