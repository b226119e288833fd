//! One bucket on the network: does what its chain says, and tells the chain what happens.
//!
//! All that happens goes through one queue, and is handed to the bucket in the order in which it came, many at once where
//! many wait. The bucket stores before anything follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::Connection;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, RwLock, Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use super::supply::{Supply, Want};
use super::wire::{Code, Notice, WireError};
use super::{Local, Shared, gossip, history, nodes, peers, reapply, supply};
use crate::bucket::{DeviceId, DeviceKey, MemberList, Role};
use crate::chain::{Heads, Input, Output, Source};
use crate::limits::MEMBERS;
use crate::link::Link;
use crate::publish::{BucketError, Item};
use crate::tree::Supplier;

/// What may wait to be handed in. Parts of answers are large: whoever sends faster waits.
const QUEUE: usize = 64;
/// Bytes of answers that may wait, of all members together.
const PARTS: usize = 16 << 20;
/// What is handed in at once.
const AT_ONCE: usize = 32;
/// Manifests that wait to be told.
const TOLD: usize = 256;
/// After an error of the disk.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest time without a tick.
const TICK: Duration = Duration::from_secs(30);

/// Something that happened.
pub(super) enum Event {
    /// A member passed a manifest on.
    Heard { from: DeviceId, bytes: Vec<u8> },
    /// A member is there.
    Connected(DeviceId),
    /// It is gone.
    Disconnected(DeviceId),
    /// It told its heads.
    Heads { from: DeviceId, heads: Box<Heads>, answer: bool },
    /// A part of an answer.
    Part { from: DeviceId, number: u64, items: Vec<Item>, room: Option<OwnedSemaphorePermit> },
    /// An answer is over.
    Fetched { from: DeviceId, number: u64, ok: bool, more: bool },
    /// All nodes of a version are here. Whoever says so hears when the bucket knows.
    Complete(Link, oneshot::Sender<()>),
    /// Gossip was lost.
    Lagged,
    /// This device published.
    Own(Vec<Output>),
}

/// How far a bucket is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Members that are connected.
    pub connected: usize,
    /// Versions that are known and not whole yet.
    pub incomplete: usize,
    /// Nodes that were fetched, of the version that is being fetched.
    pub nodes: u64,
    /// Blocks of data that are known to be missing.
    pub missing: u64,
    /// Bytes that came since the start.
    pub received: u64,
    /// Bytes that were sent since the start.
    pub sent: u64,
    /// Which version each member holds all of, as it says.
    pub holds: BTreeMap<DeviceId, Link>,
}

/// One bucket on the network.
pub struct Swarm {
    genesis: Link,
    /// None once it is off the network. Held by whoever works with it.
    local: Arc<RwLock<Option<Arc<dyn Local>>>>,
    events: mpsc::Sender<Event>,
    room: Arc<Semaphore>,
    pub(super) progress: Mutex<Progress>,
    members: Mutex<BTreeMap<DeviceId, Role>>,
    /// Rung when a version may be incomplete, or somebody came who may have it.
    pub(super) nodes: Notify,
    pub(super) supply: Supply,
    /// How often each member failed to give what it was asked for, since it last did.
    faults: Mutex<BTreeMap<DeviceId, u32>>,
    turn: AtomicUsize,
    /// Rung when work of this device's may have lost.
    pub(super) lost: Notify,
    /// Whether such work waits until it may be brought back.
    pub(super) waits_to_reapply: AtomicBool,
    came: Notify,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Swarm {
    /// The bucket, by its genesis.
    pub const fn genesis(&self) -> Link {
        self.genesis
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let mut progress = self.progress.lock().clone();
        progress.missing = self.supply.missing();
        progress
    }

    /// All members by the head's list.
    pub fn members(&self) -> BTreeSet<DeviceId> {
        self.members.lock().keys().copied().collect()
    }

    /// What a device may do, by the head's list; none if it is no member.
    pub fn role(&self, device: &DeviceId) -> Option<Role> {
        self.members.lock().get(device).copied()
    }

    pub(super) fn connected_members(&self, shared: &Shared) -> BTreeSet<DeviceId> {
        let connected = shared.peers.connected();
        self.members.lock().keys().filter(|member| connected.contains(member)).copied().collect()
    }

    /// Connected members in the order in which to ask them for blocks: whoever failed last, last, and of the others another one
    /// first each time.
    pub(super) fn to_ask(&self, shared: &Shared) -> Vec<DeviceId> {
        let mut members: Vec<_> = self.connected_members(shared).into_iter().collect();
        let first = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(members.len()).unwrap_or(0);
        members.rotate_left(first);
        let faults = self.faults.lock();
        members.sort_by_key(|member| faults.get(member).copied().unwrap_or(0));
        members
    }

    /// Remembers whether a member gave what it was asked for.
    pub(super) fn judge<T>(&self, member: DeviceId, given: &Result<T, WireError>) {
        let mut faults = self.faults.lock();
        match given {
            Ok(_) => drop(faults.remove(&member)),
            // That is not the member's.
            Err(WireError::Bucket(_)) => {}
            Err(_) => {
                let count = faults.entry(member).or_default();
                *count = count.saturating_add(1);
            }
        }
        if faults.len() > MEMBERS {
            faults.pop_first();
        }
    }

    /// Returns when somebody has come.
    pub(super) async fn somebody_came(&self) {
        self.came.notified().await;
    }

    /// Has something handed to the bucket; waits while much is waiting.
    pub(super) async fn tell(&self, event: Event) {
        // It fails once the bucket is off the network: then nobody wants to know.
        drop(self.events.send(event).await);
    }

    /// Waits until there is room for so many bytes of an answer.
    pub(super) async fn room_for(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(PARTS)).unwrap_or(u32::MAX);
        Arc::clone(&self.room).acquire_many_owned(bytes).await.ok()
    }

    fn tell_later(self: &Arc<Self>, event: Event) {
        let swarm = Arc::clone(self);
        tokio::spawn(async move { swarm.tell(event).await });
    }

    pub(super) fn connected(self: &Arc<Self>, device: DeviceId) {
        if self.role(&device).is_some() {
            // It may be a second connection in place of a first one, with which goes what was told there.
            self.supply.forget(&device);
            self.tell_later(Event::Connected(device));
        }
    }

    pub(super) fn disconnected(self: &Arc<Self>, device: DeviceId) {
        self.progress.lock().holds.remove(&device);
        self.supply.forget(&device);
        self.tell_later(Event::Disconnected(device));
    }

    pub(super) async fn hear_heads(&self, from: DeviceId, heads: Heads, answer: bool) {
        self.tell(Event::Heads { from, heads: Box::new(heads), answer }).await;
    }

    pub(super) fn hear_holds(&self, from: DeviceId, version: Link) {
        // Notices may overtake each other: an older one takes nothing back.
        let before = self.progress.lock().holds.get(&from).copied();
        let is_old = before.is_some_and(|before| {
            let local = self.local.try_read();
            local.is_ok_and(|local| local.as_ref().is_some_and(|local| local.replica().has(&before, &version)))
        });
        if !is_old {
            self.progress.lock().holds.insert(from, version);
            self.supply.ring();
        }
    }

    /// Does something with the bucket on a thread that may block.
    pub(super) async fn store_work<T, F>(&self, work: F) -> Result<T, WireError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Local) -> Result<T, BucketError> + Send + 'static,
    {
        let held = Arc::clone(&self.local).read_owned().await;
        let Some(local) = held.clone() else { return Err(WireError::of("the bucket is off the network")) };
        let work = move || {
            let done = work(&*local);
            drop((local, held));
            done
        };
        let done = tokio::task::spawn_blocking(work).await;
        Ok(done.map_err(WireError::of)??)
    }

    /// Ends all that goes on for it.
    pub(super) async fn stop(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.iter().for_each(JoinHandle::abort);
        for task in tasks {
            drop(task.await);
        }
        self.supply.end();
        // Once what is being done with it is done.
        if let Some(local) = self.local.write().await.take() {
            local.set_supplier(None);
        }
    }
}

/// Whoever reads what is not here.
struct Reader(Weak<Swarm>);

impl Supplier for Reader {
    fn want(&self, links: &[Link], done: Box<dyn FnOnce(bool) + Send>) {
        // Where there is no network any more, dropping it says no.
        let want = Want::new(links, done);
        if let Some(swarm) = self.0.upgrade() {
            swarm.supply.want(want);
        }
    }
}

/// Puts a bucket on the network.
pub(super) fn start(shared: &Arc<Shared>, local: Arc<dyn Local>) -> Arc<Swarm> {
    let _on_the_runtime = shared.tasks.enter();
    let (events, queue) = mpsc::channel(QUEUE);
    let genesis = local.replica().genesis().link();
    let (own, own_queue) = mpsc::unbounded_channel();
    // The bucket must not wait for the network: what it publishes is told as fast as it comes.
    local.replica().watch(Box::new(move |outputs| drop(own.send(outputs.to_vec()))));
    let bucket = Arc::clone(&local);
    let swarm = Arc::new(Swarm {
        genesis,
        local: Arc::new(RwLock::new(Some(local))),
        events,
        room: Arc::new(Semaphore::new(PARTS)),
        progress: Mutex::default(),
        members: Mutex::default(),
        nodes: Notify::new(),
        supply: Supply::default(),
        faults: Mutex::default(),
        turn: AtomicUsize::new(0),
        lost: Notify::new(),
        waits_to_reapply: AtomicBool::new(false),
        came: Notify::new(),
        tasks: Mutex::default(),
    });
    bucket.set_supplier(Some(Arc::new(Reader(Arc::downgrade(&swarm)))));
    let driver = Driver {
        shared: Arc::clone(shared),
        swarm: Arc::clone(&swarm),
        device: Arc::clone(&shared.device),
        list: None,
        topic: None,
        fetches: BTreeMap::new(),
        number: 0,
        connected: BTreeSet::new(),
        telling: Arc::default(),
    };
    shared.swarms.write().insert(genesis, Arc::clone(&swarm));
    let tasks = [
        tokio::spawn(driver.run(queue, own_queue)),
        tokio::spawn(nodes::run(Arc::clone(shared), Arc::clone(&swarm))),
        tokio::spawn(supply::run(Arc::clone(shared), Arc::clone(&swarm))),
        tokio::spawn(reapply::run(Arc::clone(&swarm))),
    ];
    swarm.tasks.lock().extend(tasks);
    swarm
}

/// Whom heads are being told, and what is to be told next.
type Telling = BTreeMap<DeviceId, Option<(Heads, bool)>>;

/// What a bucket's driver keeps in mind.
struct Driver {
    shared: Arc<Shared>,
    swarm: Arc<Swarm>,
    device: Arc<DeviceKey>,
    /// The list that `swarm.members` is from.
    list: Option<Link>,
    topic: Option<Topic>,
    /// Who is asked for history now: the question's number, and what ends it.
    fetches: BTreeMap<DeviceId, (u64, AbortHandle)>,
    number: u64,
    connected: BTreeSet<DeviceId>,
    /// Who is being told heads: the newest that it has not been told, and whether an answer is wanted.
    telling: Arc<Mutex<Telling>>,
}

struct Topic {
    id: [u8; 32],
    say: mpsc::Sender<Bytes>,
    task: JoinHandle<()>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.fetches.values().for_each(|(_, fetch)| fetch.abort());
        if let Some(topic) = &self.topic {
            topic.task.abort();
        }
    }
}

/// What is handed in, and what came of it.
struct Handed {
    outputs: Vec<Output>,
    /// The bytes of what is to be announced.
    announced: Vec<Bytes>,
    /// Members that sent what is not what it says.
    liars: BTreeSet<DeviceId>,
    next_tick: Option<u64>,
    members: Option<MemberList>,
}

impl Driver {
    async fn run(mut self, mut queue: mpsc::Receiver<Event>, mut own: mpsc::UnboundedReceiver<Vec<Output>>) {
        let mut tick = Instant::now();
        // Whoever is a member is known before anything else.
        let mut events = Vec::new();
        loop {
            match self.hand_in(std::mem::take(&mut events)).await {
                Ok(handed) => {
                    let wait = handed.next_tick.map_or(TICK, Duration::from_millis).min(TICK);
                    tick = Instant::now() + wait.max(Duration::from_millis(1));
                    self.follow(handed);
                }
                Err(error) => {
                    tracing::warn!(%error, "what came from the network is not stored");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            tokio::select! {
                event = queue.recv() => match event {
                    Some(event) => events.push(event),
                    None => return,
                },
                Some(outputs) = own.recv() => events.push(Event::Own(outputs)),
                () = tokio::time::sleep_until(tick) => {}
            }
            while events.len() < AT_ONCE
                && let Ok(event) = queue.try_recv()
            {
                events.push(event);
            }
        }
    }

    /// Hands events to the bucket, and the time.
    async fn hand_in(&mut self, mut events: Vec<Event>) -> Result<Handed, WireError> {
        // They may have overtaken each other: what is so now counts.
        events.retain(|event| match event {
            Event::Connected(device) => self.connection(device).is_some(),
            Event::Disconnected(device) => self.connection(device).is_none() || self.swarm.role(device).is_none(),
            _ => true,
        });
        let current: BTreeMap<_, _> = self.fetches.iter().map(|(from, (number, _))| (*from, *number)).collect();
        let is_current = move |from: &DeviceId, number: u64| current.get(from) == Some(&number);
        self.note(&events);
        let known = self.list;
        let connected = self.connected.clone();
        self.swarm.store_work(move |local| hand_in(local, events, &is_current, known, &connected)).await
    }

    /// What is known without the bucket.
    fn note(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Connected(device) => {
                    self.connected.insert(*device);
                    self.swarm.came.notify_one();
                    self.swarm.nodes.notify_one();
                    self.swarm.supply.somebody_came();
                }
                Event::Disconnected(device) => {
                    self.connected.remove(device);
                    if let Some((_, fetch)) = self.fetches.remove(device) {
                        fetch.abort();
                    }
                }
                _ => {}
            }
        }
        self.swarm.progress.lock().connected = self.connected.len();
    }

    /// Does what follows.
    fn follow(&mut self, handed: Handed) {
        for bytes in handed.announced {
            // What is lost here, the exchange of heads brings.
            if let Some(topic) = &self.topic {
                drop(topic.say.try_send(bytes));
            }
        }
        // Behind what is told: it is told to those of before.
        if let Some(list) = &handed.members {
            self.follow_members(list);
        }
        for liar in &handed.liars {
            if let Some((number, fetch)) = self.fetches.get(liar) {
                fetch.abort();
                self.swarm.tell_later(Event::Fetched { from: *liar, number: *number, ok: false, more: false });
            }
        }
        if may_have_lost(&handed.outputs, &self.device.id(), self.swarm.waits_to_reapply.load(Ordering::Relaxed)) {
            self.swarm.lost.notify_one();
        }
        for output in handed.outputs {
            match output {
                Output::SendHeads { to, heads, answer } => self.send_heads(to, *heads, answer),
                Output::Fetch { from, request } => {
                    self.number += 1;
                    let number = self.number;
                    let connection = self.connection(&from);
                    let swarm = Arc::clone(&self.swarm);
                    let fetch = tokio::spawn(history::fetch(swarm, connection, from, number, request));
                    if let Some((_, old)) = self.fetches.insert(from, (number, fetch.abort_handle())) {
                        old.abort();
                    }
                }
                Output::Admitted(_) | Output::Head { .. } => self.swarm.nodes.notify_one(),
                Output::Shown { to, .. } => self.swarm.supply.shown(to),
                _ => {}
            }
        }
    }

    fn connection(&self, device: &DeviceId) -> Option<Connection> {
        self.shared.peers.chain(device)
    }

    fn send_heads(&self, to: DeviceId, heads: Heads, answer: bool) {
        let Some(connection) = self.connection(&to) else { return };
        // One at a time, and the newest: whoever takes none and asks for many costs no more than that.
        if let Some(next) = self.telling.lock().get_mut(&to) {
            let wanted = next.as_ref().is_some_and(|(_, answer)| *answer);
            *next = Some((heads, answer || wanted));
            return;
        }
        self.telling.lock().insert(to, Some((heads, answer)));
        let (telling, bucket) = (Arc::clone(&self.telling), self.swarm.genesis);
        tokio::spawn(async move {
            loop {
                let next = {
                    let mut telling = telling.lock();
                    let next = telling.get_mut(&to).and_then(Option::take);
                    if next.is_none() {
                        telling.remove(&to);
                    }
                    next
                };
                let Some((heads, answer)) = next else { return };
                if let Err(error) = peers::tell(&connection, &Notice::Heads { bucket, heads, answer }).await {
                    tracing::debug!(peer = %to.short(), %error, "heads are not told");
                }
            }
        });
    }

    /// There is another list: who may talk here, and on what topic.
    fn follow_members(&mut self, list: &MemberList) {
        if self.list.replace(list.link()).is_some() {
            // Where there is another topic, those who do not know of it yet hear it from us.
            self.swarm.tell_later(Event::Lagged);
        }
        let members: BTreeMap<_, _> = list.members().iter().map(|member| (member.device, member.role)).collect();
        let before = std::mem::replace(&mut *self.swarm.members.lock(), members);
        for device in self.shared.peers.connected() {
            let is = self.swarm.role(&device).is_some();
            match (before.contains_key(&device), is) {
                (false, true) => self.swarm.connected(device),
                (true, false) => self.swarm.disconnected(device),
                _ => {}
            }
        }
        self.shared.drop_strangers(Code::NotAMember);
        for device in self.swarm.members().difference(&before.into_keys().collect()) {
            self.shared.peers.forget_failures(device);
        }
        self.shared.peers.wake();
        match list.open(&self.device) {
            Ok(access) => {
                let id = super::identity::topic_id(&access.network);
                if self.topic.as_ref().is_none_or(|topic| topic.id != id) {
                    self.join_topic(id);
                }
            }
            Err(why) => {
                tracing::warn!(%why, "this device is no member any more");
                self.leave_topic();
            }
        }
    }

    fn join_topic(&mut self, id: [u8; 32]) {
        self.leave_topic();
        let (say, said) = mpsc::channel(TOLD);
        let task = tokio::spawn(gossip::run(Arc::clone(&self.shared), Arc::clone(&self.swarm), id, said));
        self.topic = Some(Topic { id, say, task });
    }

    /// It ends by itself when all is said, since nobody can say more.
    fn leave_topic(&mut self) {
        self.topic = None;
    }
}

/// Whether work of a device may have lost, or what waits may go on: another branch is the head, or something of its own is not.
fn may_have_lost(outputs: &[Output], device: &DeviceId, waits: bool) -> bool {
    let became_head =
        |link: &Link| outputs.iter().any(|output| matches!(output, Output::Head { to, .. } if to == link));
    outputs.iter().any(|output| match output {
        Output::Head { fork_point, .. } => fork_point.is_some() || waits,
        Output::Admitted(manifest) => manifest.author == *device && !became_head(&manifest.link()),
        Output::Shown { .. } | Output::Pinned(None) | Output::ForkResolved { .. } => waits,
        _ => false,
    })
}

/// Hands events to a bucket, as what they are to its chain. Blocks.
fn hand_in(
    local: &dyn Local,
    events: Vec<Event>,
    is_current: &dyn Fn(&DeviceId, u64) -> bool,
    known: Option<Link>,
    connected: &BTreeSet<DeviceId>,
) -> Result<Handed, BucketError> {
    let (mut inputs, mut outputs, mut liars) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut sent: BTreeMap<Link, DeviceId> = BTreeMap::new();
    let mut complete = Vec::new();
    for event in events {
        match event {
            Event::Heard { from, bytes } => {
                match Item::Manifest(bytes).believed(local.replica(), Source::Announced(from)) {
                    Ok(input) => inputs.push(input),
                    Err(error) => tracing::debug!(peer = %from.short(), %error, "what was told is no manifest"),
                }
            }
            Event::Connected(device) => inputs.push(Input::Connected(device)),
            Event::Disconnected(device) => inputs.push(Input::Disconnected(device)),
            Event::Heads { from, heads, answer } => inputs.push(Input::Heads { from, heads, answer }),
            Event::Part { from, number, items, room: _room } if is_current(&from, number) && !liars.contains(&from) => {
                for item in items {
                    match item.believed(local.replica(), Source::History(from)) {
                        Ok(input) => {
                            if let Input::Manifest { manifest, .. } = &input {
                                sent.insert(manifest.link(), from);
                            }
                            inputs.push(input);
                        }
                        Err(error) => {
                            tracing::debug!(peer = %from.short(), %error, "a false answer");
                            liars.insert(from);
                            break;
                        }
                    }
                }
            }
            Event::Fetched { from, number, ok, more } if is_current(&from, number) => {
                inputs.push(Input::Fetched { from, ok: ok && !liars.contains(&from), more });
            }
            Event::Part { .. } | Event::Fetched { .. } => {}
            Event::Complete(version, told) => complete.push((version, told)),
            Event::Lagged => inputs.extend(connected.iter().map(|device| Input::Connected(*device))),
            Event::Own(published) => outputs.extend(published),
        }
    }
    inputs.push(Input::Tick);
    outputs.extend(local.receive(inputs)?);
    for (version, told) in complete {
        outputs.extend(local.complete(&version)?);
        // It may not wait any more.
        let _ = told.send(());
    }
    for output in &outputs {
        if let Output::Rejected { link, .. } = output
            && let Some(from) = sent.get(link)
        {
            liars.insert(*from);
        }
    }
    let mut announced = Vec::new();
    for output in &outputs {
        if let Output::Announce(link) = output {
            announced.extend(local.replica().manifest_bytes(link)?.map(Bytes::from));
        }
    }
    let members = local.replica().members_but(known.as_ref());
    Ok(Handed { outputs, announced, liars, next_tick: local.replica().next_tick(), members })
}
