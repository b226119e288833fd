//! Fetches file content: what somebody waits for at once, and the rest of what is shown in the background.
//!
//! Which blocks are missing is found by going through nodes that came from others, and no others; what a crash makes us
//! forget of that, the store remembers as "not all is here", and then everything is gone through again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::swarm::Swarm;
use super::wire::{Notice, Urgency, WireError};
use super::{Shared, blocks, peers};
use crate::bucket::DeviceId;
use crate::limits::FETCH_DEADLINE;
use crate::link::Link;
use crate::publish::BucketError;

/// Blocks in one question, where nobody waits: 4 MiB of full chunks.
const BATCH: usize = 128;
/// Questions at once, each to another member where there are several.
const AT_ONCE: usize = 3;
/// Readers that are served at once.
const READERS: usize = 64;
/// How long one member may let a reader wait before the next one is asked: all of them have to fit in the deadline.
const TURN: Duration = Duration::from_secs(3);
/// How often it is tried again where nobody had something.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a reader waits where another one has just waited in vain.
const SOON: Duration = Duration::from_millis(500);
/// How often members are told again what they were told.
const TELL_AGAIN: Duration = Duration::from_secs(15);
/// Bytes of blocks that are handed to the store at once.
const STORE_AT_ONCE: usize = 1 << 20;
/// So many blocks come before they are made durable.
const COMMIT_EVERY: usize = 1_024;

/// What is missing of a bucket's data.
#[derive(Default)]
pub(super) struct Supply {
    inner: Mutex<Inner>,
    bell: Notify,
    demand: Notify,
}

#[derive(Default)]
struct Inner {
    wants: Vec<Want>,
    /// Nodes that came, and were not gone through yet.
    fresh: Vec<Link>,
    /// Data that nobody had.
    absent: Vec<Link>,
    /// Data that is on its way.
    coming: usize,
    shown: Option<Link>,
    /// When a reader was last sent away, if nobody has come since.
    failed: Option<Instant>,
    /// Whom it was told that all of a version is here.
    told: Option<(Link, BTreeSet<DeviceId>)>,
    ended: bool,
}

/// Blocks that somebody waits for.
pub(super) struct Want {
    links: Vec<Link>,
    deadline: Instant,
    done: Option<Box<dyn FnOnce(bool) + Send>>,
}

impl Want {
    pub(super) fn new(links: &[Link], done: Box<dyn FnOnce(bool) + Send>) -> Self {
        Self { links: links.to_vec(), deadline: Instant::now() + FETCH_DEADLINE, done: Some(done) }
    }
}

/// Whoever waits hears of it, whatever happens.
impl Drop for Want {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(false);
        }
    }
}

impl Supply {
    pub(super) fn want(&self, want: Want) {
        let late = {
            let mut inner = self.inner.lock();
            if inner.ended {
                Some(want)
            } else {
                inner.wants.push(want);
                None
            }
        };
        // Dropped without the lock: whoever waits hears of it then.
        match late {
            Some(want) => drop(want),
            None => self.demand.notify_one(),
        }
    }

    /// Something changed that may make blocks be found.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// These nodes came from others.
    pub(super) fn came(&self, nodes: Vec<Link>) {
        self.inner.lock().fresh.extend(nodes);
    }

    /// Another version is shown.
    pub(super) fn shown(&self, version: Link) {
        self.inner.lock().shown = Some(version);
        self.ring();
    }

    /// Somebody came who may have what nobody had.
    pub(super) fn somebody_came(&self) {
        self.inner.lock().failed = None;
        self.ring();
    }

    /// How long to wait: where a reader was just sent away, the next one is soon, since it is often the same one.
    fn deadline(&self, deadline: Instant) -> Instant {
        let recent = self.inner.lock().failed.is_some_and(|failed| failed.elapsed() < AGAIN);
        if recent { deadline.min(Instant::now() + SOON) } else { deadline }
    }

    /// A member's connection is gone or new: nothing was told on it.
    pub(super) fn forget(&self, device: &DeviceId) {
        if let Some((_, told)) = &mut self.inner.lock().told {
            told.remove(device);
        }
    }

    /// How many blocks are known to be missing, and nodes not looked through.
    pub(super) fn missing(&self) -> u64 {
        let inner = self.inner.lock();
        (inner.fresh.len() + inner.absent.len() + inner.coming) as u64
    }

    pub(super) fn end(&self) {
        let wants = {
            let mut inner = self.inner.lock();
            inner.ended = true;
            std::mem::take(&mut inner.wants)
        };
        drop(wants);
    }
}

/// Fetches for as long as it is not stopped.
pub(super) async fn run(shared: Arc<Shared>, swarm: Arc<Swarm>) {
    tokio::join!(serve_readers(&shared, &swarm), fill(&shared, &swarm));
}

/// What somebody waits for.
async fn serve_readers(shared: &Arc<Shared>, swarm: &Arc<Swarm>) {
    let (permits, mut tasks) = (Arc::new(Semaphore::new(READERS)), JoinSet::new());
    loop {
        let wants = std::mem::take(&mut swarm.supply.inner.lock().wants);
        for want in wants {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let (shared, swarm) = (Arc::clone(shared), Arc::clone(swarm));
            tasks.spawn(async move {
                satisfy(&shared, &swarm, want).await;
                drop(permit);
            });
        }
        while tasks.try_join_next().is_some() {}
        swarm.supply.demand.notified().await;
    }
}

/// Asks one member after the other until all is here, or it is too late.
async fn satisfy(shared: &Shared, swarm: &Swarm, mut want: Want) {
    let work = async {
        loop {
            for from in swarm.to_ask(shared) {
                let links = std::mem::take(&mut want.links);
                let getting = get(shared, swarm, &from, links.clone(), Urgency::Reader);
                let got = tokio::time::timeout(TURN, getting).await.unwrap_or(Err(WireError::Late));
                swarm.judge(from, &got);
                match got {
                    Ok(rest) => want.links = rest,
                    Err(error) => {
                        tracing::debug!(peer = %from.short(), %error, "a reader is not served");
                        want.links = links;
                    }
                }
                if want.links.is_empty() {
                    return;
                }
            }
            // Whoever has it may come in time.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let deadline = swarm.supply.deadline(want.deadline);
    let came = tokio::time::timeout_at(deadline, work).await.is_ok();
    swarm.supply.inner.lock().failed = (!came).then(Instant::now);
    if let Some(done) = want.done.take() {
        tokio::task::spawn_blocking(move || done(came));
    }
}

/// Fetches those of these blocks that are not here from a member. Gives those that it did not have either.
async fn get(
    shared: &Shared,
    swarm: &Swarm,
    from: &DeviceId,
    links: Vec<Link>,
    urgency: Urgency,
) -> Result<Vec<Link>, WireError> {
    let links = swarm.store_work(move |local| local.replica().lacking(&links)).await?;
    if links.is_empty() {
        return Ok(links);
    }
    let connection = shared.blocks(from).await?;
    let (mut rest, mut batch, mut size) = (Vec::new(), Vec::new(), 0);
    let mut coming = blocks::ask(swarm, &connection, &links, urgency).await?;
    for link in &links {
        match coming.next().await?.flatten() {
            Some(block) => {
                size += block.len();
                batch.push((*link, block));
            }
            None => rest.push(*link),
        }
        // Stored while the next ones come.
        if size > STORE_AT_ONCE {
            size = 0;
            store(swarm, std::mem::take(&mut batch)).await?;
        }
    }
    store(swarm, batch).await?;
    Ok(rest)
}

async fn store(swarm: &Swarm, batch: Vec<(Link, Vec<u8>)>) -> Result<(), WireError> {
    let stored = swarm.store_work(move |local| {
        for (link, block) in batch {
            match local.replica().put_block(&link, &block) {
                Err(BucketError::WrongBlock(_)) => return Ok(false),
                other => other?,
            }
        }
        Ok(true)
    });
    if stored.await? { Ok(()) } else { Err(WireError::Malformed("a block that is another")) }
}

/// The rest, in the background.
async fn fill(shared: &Arc<Shared>, swarm: &Arc<Swarm>) {
    if let Err(error) = begin(swarm).await {
        tracing::warn!(%error, "it is not known which content is missing");
    }
    let (mut batches, mut uncommitted) = (JoinSet::<usize>::new(), 0);
    // Whether the store has a note that something is missing.
    let mut noted = true;
    let mut asked = Instant::now();
    loop {
        while let Some(done) = batches.try_join_next() {
            uncommitted += done.unwrap_or(0);
        }
        if uncommitted >= COMMIT_EVERY && commit(swarm, false).await {
            uncommitted = 0;
        }
        let links = match next(swarm).await {
            Ok(links) => links,
            Err(error) => {
                tracing::warn!(%error, "it is not known which content is missing");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        if !links.is_empty() {
            while batches.len() >= AT_ONCE {
                uncommitted += batches.join_next().await.and_then(Result::ok).unwrap_or(0);
            }
            swarm.supply.inner.lock().coming += links.len();
            batches.spawn(fetch(Arc::clone(shared), Arc::clone(swarm), links));
            continue;
        }
        if let Some(done) = batches.join_next().await {
            uncommitted += done.unwrap_or(0);
            continue;
        }
        let (shown, absent) = {
            let inner = swarm.supply.inner.lock();
            (inner.shown, !inner.absent.is_empty())
        };
        if absent {
            drop(tokio::time::timeout(AGAIN, swarm.supply.bell.notified()).await);
            // However often the bell is rung.
            tokio::time::sleep_until(asked + SOON).await;
            asked = Instant::now();
            let mut inner = swarm.supply.inner.lock();
            let absent = std::mem::take(&mut inner.absent);
            inner.coming += absent.len();
            drop(inner);
            batches.spawn(fetch(Arc::clone(shared), Arc::clone(swarm), absent));
            continue;
        }
        if uncommitted > 0 && commit(swarm, true).await {
            (uncommitted, noted) = (0, false);
        }
        if let Some(version) = shown.filter(|_| uncommitted == 0) {
            tell_holds(shared, swarm, version);
        }
        if tokio::time::timeout(AGAIN, swarm.supply.bell.notified()).await.is_ok() {
            noted = true;
        } else if noted && commit(swarm, true).await {
            noted = false;
        } else if tokio::time::timeout(TELL_AGAIN, swarm.supply.bell.notified()).await.is_ok() {
            noted = true;
        } else {
            // What was told may be lost.
            swarm.supply.inner.lock().told = None;
        }
    }
}

/// What is known at the start.
async fn begin(swarm: &Swarm) -> Result<(), WireError> {
    let (shown, roots) = swarm
        .store_work(|local| {
            let replica = local.replica();
            let shown = replica.shown();
            let roots = match shown.filter(|_| replica.lacks_data().unwrap_or(true)) {
                Some(shown) => replica.roots_of(&shown)?.to_vec(),
                None => Vec::new(),
            };
            Ok((shown, roots))
        })
        .await?;
    let whole = swarm.store_work(move |local| local.replica().all_nodes(&roots)).await?;
    let mut inner = swarm.supply.inner.lock();
    inner.shown = shown;
    inner.fresh.extend(whole);
    Ok(())
}

/// Data that is missing, of nodes that were not gone through.
async fn next(swarm: &Swarm) -> Result<Vec<Link>, WireError> {
    let mut found = BTreeSet::new();
    loop {
        let nodes: Vec<_> = {
            let mut inner = swarm.supply.inner.lock();
            let keep = inner.fresh.len().saturating_sub(16);
            inner.fresh.drain(keep..).collect()
        };
        if nodes.is_empty() {
            break;
        }
        let again = nodes.clone();
        let links = swarm.store_work(move |local| local.replica().lacking_data(&nodes)).await;
        match links {
            Ok(links) => found.extend(links),
            Err(error) => {
                swarm.supply.inner.lock().fresh.extend(again);
                return Err(error);
            }
        }
        if found.len() >= BATCH {
            break;
        }
    }
    Ok(found.into_iter().collect())
}

/// Fetches blocks from whoever has them; gives how many came.
async fn fetch(shared: Arc<Shared>, swarm: Arc<Swarm>, links: Vec<Link>) -> usize {
    let (all, mut rest) = (links.len(), Vec::new());
    for batch in links.chunks(BATCH) {
        let mut open = batch.to_vec();
        for from in swarm.to_ask(&shared) {
            if open.is_empty() {
                break;
            }
            let got = get(&shared, &swarm, &from, open.clone(), Urgency::Background).await;
            swarm.judge(from, &got);
            match got {
                Ok(left) => open = left,
                Err(error) => tracing::debug!(peer = %from.short(), %error, "content is not to be had"),
            }
        }
        swarm.supply.inner.lock().coming -= batch.len();
        rest.extend(open);
    }
    let came = all - rest.len();
    swarm.supply.inner.lock().absent.extend(rest);
    came
}

/// Makes what came durable; with `all`, also that nothing is missing.
async fn commit(swarm: &Swarm, all: bool) -> bool {
    let done = swarm.store_work(move |local| local.replica().keep_data(all)).await;
    done.inspect_err(|error| tracing::warn!(%error, "content that came is not durable yet")).is_ok()
}

/// Tells connected members that all of a version is here, each once.
fn tell_holds(shared: &Shared, swarm: &Swarm, version: Link) {
    let members = swarm.connected_members(shared);
    let new: Vec<_> = {
        let mut inner = swarm.supply.inner.lock();
        let before = inner.told.replace((version, members.clone())).filter(|(at, _)| *at == version);
        let knows = |device: &DeviceId| before.as_ref().is_some_and(|(_, told)| told.contains(device));
        members.into_iter().filter(|device| !knows(device)).collect()
    };
    let notice = Arc::new(Notice::Holds { bucket: swarm.genesis(), version });
    for connection in new.iter().filter_map(|device| shared.peers.chain(device)) {
        let notice = Arc::clone(&notice);
        tokio::spawn(async move { drop(peers::tell(&connection, &notice).await) });
    }
}
