//! How a device with a ticket becomes a member, and gets its first version.
//!
//! On a connection of its own, the stranger says which bucket, the ticket's secret, its keys, and what it is called
//! ([`Knock`]). A device that has the owner key lets it in, which is a new version with a new member list, and gives the
//! bucket's beginning in return (`Answer`). From there on the stranger is a member like any other whose chain is short.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iroh::endpoint::Connection;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::ticket::Ticket;
use super::wire::{self, Code, FRAME_MOST, Reach, WireError};
use super::{Network, Shared, Swarm, identity};
use crate::bucket::{DeviceId, Identity, Role, SealingKey, Signature, SignedManifest, SignedMemberList};
use crate::crypto::{Label, Secret};
use crate::link::Link;
use crate::publish::{BucketError, Replica};

/// How long a question may take to come, and its answer: an owner's disk may be slow.
const KNOCK: Duration = Duration::from_secs(20);
/// How long a stranger may take to say what it wants, and to take the answer; and the largest such question.
const STRANGER: Duration = Duration::from_secs(5);
const STRANGER_MOST: usize = 4 << 10;
/// How often it is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked how far it is.
const STEP: Duration = Duration::from_millis(50);
/// Strangers that may stand in the door, and those that are decided about at once: each of these may cost a write to the disk.
pub(super) const IN_THE_DOOR: usize = 256;
pub(super) const AT_ONCE: usize = 4;

/// A stranger's question.
#[derive(Serialize, Deserialize)]
pub struct Knock {
    bucket: Link,
    #[serde(with = "serde_bytes")]
    secret: [u8; 32],
    sealing: SealingKey,
    binding: Signature,
    name: String,
}

/// The answer.
#[derive(Serialize, Deserialize)]
enum Answer {
    /// The genesis and its member list, and where others are.
    Come { genesis: ByteBuf, list: ByteBuf, reaches: Vec<Reach> },
    /// Never, in words.
    No(String),
    /// Not now, in words.
    Later(String),
}

/// Why a stranger is not let in.
pub enum Closed {
    /// It never will be, in words for who asked.
    No(String),
    /// It may be, in words.
    Later(String),
}

/// Decides about strangers.
pub trait Doorman: Send + Sync {
    /// Lets a device in that has a ticket. Blocks. Gives the genesis and its member list, as bytes.
    ///
    /// # Errors
    /// If it does not.
    fn admit(
        &self,
        bucket: &Link,
        secret: &Secret,
        identity: &Identity,
        name: &Label,
    ) -> Result<(Vec<u8>, Vec<u8>), Closed>;
}

/// How far joining is.
#[derive(Clone, Debug)]
pub enum JoinStep {
    /// Nobody who can let us in has answered yet; the last reason.
    Waiting(String),
    /// We are a member.
    Admitted,
    /// What is known of the first version: versions, and nodes of the newest.
    Fetching {
        /// Known versions.
        versions: u64,
        /// Nodes of the newest version that came.
        nodes: u64,
    },
}

/// Why joining failed for good.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The owner says no.
    #[error("{0}")]
    Refused(String),
    /// What came is not what the ticket names.
    #[error("whoever answered does not have the bucket that the ticket is for")]
    AnotherBucket,
    /// The ticket names nobody.
    #[error("the ticket names nobody who could let this device in")]
    NoDoors,
    /// Whoever asked for it does not want it any more.
    #[error("it was broken off")]
    Cancelled,
    /// This machine.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

/// Answers a stranger.
pub(super) async fn serve(shared: &Arc<Shared>, connection: &Connection) -> Result<(), WireError> {
    let device = identity::device_id(&connection.remote_id());
    let in_time = |late: tokio::time::error::Elapsed| {
        connection.close(Code::Busy.into(), b"");
        WireError::of(late)
    };
    let Ok(_place) = shared.in_the_door.try_acquire() else {
        connection.close(Code::Busy.into(), b"");
        return Err(WireError::Late);
    };
    let asked = tokio::time::timeout(STRANGER, async {
        let (send, mut recv) = connection.accept_bi().await.map_err(WireError::of)?;
        Ok::<(_, Knock), WireError>((send, wire::receive(&mut recv, STRANGER_MOST).await?))
    });
    let (mut send, knock) = asked.await.map_err(in_time)??;
    let bucket = knock.bucket;
    // Held while it is decided, and no longer: whoever dawdles keeps nobody out.
    let decided = tokio::time::timeout(KNOCK, async {
        let _permit = shared.strangers.acquire().await.map_err(WireError::of)?;
        let doorman = shared.doorman.lock().clone();
        tokio::task::spawn_blocking(move || decide(doorman.as_deref(), device, knock)).await.map_err(WireError::of)
    });
    let answer = match decided.await.map_err(in_time)?? {
        Ok((genesis, list)) => {
            tracing::info!(peer = %device.short(), bucket = %bucket.short(), "a device was let in");
            let reaches = vec![shared.reach()];
            Answer::Come { genesis: ByteBuf::from(genesis), list: ByteBuf::from(list), reaches }
        }
        Err(Closed::No(why)) => Answer::No(why),
        Err(Closed::Later(why)) => Answer::Later(why),
    };
    let answered = tokio::time::timeout(STRANGER * 2, async {
        wire::send(&mut send, &answer).await?;
        send.finish().map_err(WireError::of)?;
        connection.closed().await;
        Ok(())
    });
    answered.await.map_err(in_time)?
}

fn decide(doorman: Option<&dyn Doorman>, device: DeviceId, knock: Knock) -> Result<(Vec<u8>, Vec<u8>), Closed> {
    let doorman = doorman.ok_or_else(|| Closed::Later("nobody decides about that here".into()))?;
    let name = Label::new(&knock.name).map_err(|why| Closed::No(why.to_string()))?;
    let identity = Identity { device, sealing: knock.sealing, binding: knock.binding };
    doorman.admit(&knock.bucket, &Secret::new(knock.secret), &identity, &name)
}

impl Network {
    /// Joins a bucket with a ticket, and fetches its newest version's directories into a new store in `dir`, or goes on with one that
    /// was begun there. `progress` is told how far it is, and says whether to go on. Blocks for as long as it takes.
    ///
    /// # Errors
    /// If it can not succeed any more. What was fetched stays in `dir`.
    pub fn join(
        &self,
        ticket: &Ticket,
        name: &Label,
        dir: &Path,
        progress: &mut dyn FnMut(JoinStep) -> bool,
    ) -> Result<Arc<Replica>, JoinError> {
        if ticket.doors.is_empty() {
            return Err(JoinError::NoDoors);
        }
        ticket.doors.iter().for_each(|door| self.shared.learn(door.clone()));
        let (genesis, list) = self.knock_until(ticket, name, progress)?;
        if !progress(JoinStep::Admitted) {
            return Err(JoinError::Cancelled);
        }
        let replica = Arc::new(self.begin(ticket, &genesis, &list, dir)?);
        let swarm = self.attach(Arc::new(Arc::clone(&replica)));
        let result = self.wait_whole(&replica, &swarm, progress);
        self.detach(&ticket.bucket);
        drop(swarm);
        result.map(|()| replica)
    }

    /// Asks all doors, until one opens.
    fn knock_until(
        &self,
        ticket: &Ticket,
        name: &Label,
        progress: &mut dyn FnMut(JoinStep) -> bool,
    ) -> Result<(Vec<u8>, Vec<u8>), JoinError> {
        loop {
            let mut last = String::new();
            for door in &ticket.doors {
                let (shared, wanted) = (Arc::clone(&self.shared), ticket.clone());
                let (name, device) = (name.as_str().to_owned(), door.device);
                let asking = self.shared.tasks.spawn(async move { knock(&shared, &wanted, device, name).await });
                while !asking.is_finished() {
                    if !progress(JoinStep::Waiting(last.clone())) {
                        asking.abort();
                        return Err(JoinError::Cancelled);
                    }
                    std::thread::sleep(STEP);
                }
                match self.block_on(asking) {
                    Ok(Ok(Answer::Come { genesis, list, reaches })) => {
                        reaches.into_iter().take(1).for_each(|reach| self.shared.learn(Reach { device, ..reach }));
                        return Ok((genesis.into_vec(), list.into_vec()));
                    }
                    Ok(Ok(Answer::No(why))) => return Err(JoinError::Refused(why)),
                    Ok(Ok(Answer::Later(why))) => last = why,
                    Ok(Err(error)) => last = error.to_string(),
                    Err(error) => last = error.to_string(),
                }
            }
            let until = Instant::now() + AGAIN;
            while Instant::now() < until {
                if !progress(JoinStep::Waiting(last.clone())) {
                    return Err(JoinError::Cancelled);
                }
                std::thread::sleep(STEP);
            }
        }
    }

    fn begin(&self, ticket: &Ticket, genesis: &[u8], list: &[u8], dir: &Path) -> Result<Replica, JoinError> {
        let device = self.shared.device.id();
        if dir.exists() {
            match Replica::open(dir, device) {
                Ok(replica) if replica.genesis().link() == ticket.bucket => return Ok(replica),
                // Whatever that was, it was not finished.
                _ => std::fs::remove_dir_all(dir).map_err(|source| BucketError::Io { path: dir.into(), source })?,
            }
        }
        let genesis = SignedManifest::decode(genesis).and_then(SignedManifest::verify);
        let genesis = genesis.map_err(|_| JoinError::AnotherBucket)?;
        if genesis.link() != ticket.bucket {
            return Err(JoinError::AnotherBucket);
        }
        let list = SignedMemberList::decode(list).and_then(|list| list.verify(genesis.id, genesis.owner));
        let list = list.map_err(|_| JoinError::AnotherBucket)?;
        Ok(Replica::create(dir, device, genesis, &list)?)
    }

    /// Waits until a version is shown that this device is a member by.
    fn wait_whole(
        &self,
        replica: &Replica,
        swarm: &Swarm,
        progress: &mut dyn FnMut(JoinStep) -> bool,
    ) -> Result<(), JoinError> {
        loop {
            if let Some(role) = replica.shown_role(&self.shared.device.id())
                && (role != Role::Mirror || swarm.progress().incomplete == 0)
            {
                return Ok(());
            }
            let (versions, nodes) = (replica.versions(), swarm.progress().nodes);
            if !progress(JoinStep::Fetching { versions, nodes }) {
                return Err(JoinError::Cancelled);
            }
            std::thread::sleep(STEP);
        }
    }
}

async fn knock(shared: &Shared, ticket: &Ticket, door: DeviceId, name: String) -> Result<Answer, WireError> {
    let own = shared.device.identity(ticket.id);
    let work = async {
        let connection = shared.dial(&door, wire::JOIN).await?;
        let (mut send, mut recv) = connection.open_bi().await.map_err(WireError::of)?;
        let knock = Knock {
            bucket: ticket.bucket,
            secret: *ticket.secret.expose(),
            sealing: own.sealing,
            binding: own.binding,
            name,
        };
        wire::send(&mut send, &knock).await?;
        send.finish().map_err(WireError::of)?;
        let answer = wire::receive(&mut recv, FRAME_MOST).await;
        connection.close(Code::Done.into(), b"");
        answer
    };
    tokio::time::timeout(KNOCK, work).await.map_err(|_| WireError::Late)?
}
