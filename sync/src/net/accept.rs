//! What comes in: who may talk here, and about what.

use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::{Connection, ConnectionError, RecvStream, SendStream};
use iroh::protocol::{AcceptError, ProtocolHandler};

use super::wire::{self, Code, HistoryQuestion, Notice, QUESTION_MOST, WireError};
use super::{Shared, Swarm, blocks, history, identity, join};
use crate::bucket::DeviceId;
use crate::limits::HEADS_TIPS;
use crate::link::Link;

/// How long a question may take to arrive.
const QUESTION: Duration = Duration::from_secs(10);

/// Connections for chains.
#[derive(Clone)]
pub(super) struct Chains(pub(super) Arc<Shared>);

/// Connections for blocks.
#[derive(Clone)]
pub(super) struct Blocks(pub(super) Arc<Shared>);

/// Connections of strangers with tickets.
#[derive(Clone)]
pub(super) struct Joins(pub(super) Arc<Shared>);

/// Connections for gossip.
#[derive(Clone)]
pub(super) struct Gossips(pub(super) Arc<Shared>);

macro_rules! opaque {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}
opaque!(Chains, Blocks, Joins, Gossips);

impl ProtocolHandler for Chains {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        if admits(&self.0, &connection) {
            Arc::clone(&self.0).keep(connection).await;
        }
        Ok(())
    }
}

impl ProtocolHandler for Blocks {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        if !admits(&self.0, &connection) {
            return Ok(());
        }
        let device = identity::device_id(&connection.remote_id());
        self.0.peers.welcome(device, &connection);
        while let Ok((send, recv)) = connection.accept_bi().await {
            let shared = Arc::clone(&self.0);
            tokio::spawn(async move { answer_blocks(&shared, device, send, recv).await });
        }
        Ok(())
    }
}

impl ProtocolHandler for Joins {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let served = join::serve(&self.0, &connection).await;
        served.unwrap_or_else(|error| tracing::info!(%error, "somebody could not join"));
        Ok(())
    }
}

impl ProtocolHandler for Gossips {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        if !admits(&self.0, &connection) {
            return Ok(());
        }
        self.0.peers.welcome(identity::device_id(&connection.remote_id()), &connection);
        self.0.gossip.accept(connection).await
    }
}

/// Whether a device is a member of anything here; if not, it is told so and shut out.
fn admits(shared: &Shared, connection: &Connection) -> bool {
    let known = shared.is_known(&identity::device_id(&connection.remote_id()));
    if !known {
        // Where nothing is on the network yet, nobody can say who is a member of what.
        let nothing = shared.swarms.read().is_empty();
        let why = if nothing { Code::Leaving } else { Code::NotAMember };
        connection.close(why.into(), b"");
    }
    known
}

/// The code that the other side closed a connection with.
pub(super) fn closed_with(connection: &Connection) -> Option<Code> {
    match connection.close_reason() {
        Some(ConnectionError::ApplicationClosed(close)) if close.error_code == Code::NotAMember.into() => {
            Some(Code::NotAMember)
        }
        _ => None,
    }
}

/// Serves a member's connection for chains until it ends; says why it did.
pub(super) async fn serve_chain(shared: &Arc<Shared>, device: DeviceId, connection: &Connection) -> ConnectionError {
    loop {
        tokio::select! {
            stream = connection.accept_uni() => match stream {
                Ok(recv) => {
                    let shared = Arc::clone(shared);
                    tokio::spawn(async move { hear(&shared, device, recv).await });
                }
                Err(why) => return why,
            },
            streams = connection.accept_bi() => match streams {
                Ok((send, recv)) => {
                    let shared = Arc::clone(shared);
                    tokio::spawn(async move { answer_history(&shared, device, send, recv).await });
                }
                Err(why) => return why,
            },
        }
    }
}

/// A message, in time.
async fn question<T: serde::de::DeserializeOwned>(recv: &mut RecvStream) -> Result<T, WireError> {
    let question = tokio::time::timeout(QUESTION, wire::receive(recv, QUESTION_MOST)).await;
    let question = question.map_err(|_| WireError::Late).and_then(|question| question);
    if question.is_err() {
        // Whoever said it has nothing to say about it any more.
        drop(recv.stop(Code::Malformed.into()));
    }
    question
}

/// The bucket that a member may talk about.
fn swarm_for(shared: &Shared, device: &DeviceId, bucket: &Link) -> Option<Arc<Swarm>> {
    let swarm = shared.swarms.read().get(bucket).cloned()?;
    swarm.role(device).is_some().then_some(swarm)
}

async fn hear(shared: &Shared, device: DeviceId, mut recv: RecvStream) {
    match question::<Notice>(&mut recv).await {
        Ok(Notice::Heads { bucket, heads, answer }) if heads.tips.len() <= HEADS_TIPS => {
            if let Some(swarm) = swarm_for(shared, &device, &bucket) {
                swarm.hear_heads(device, heads, answer).await;
            }
        }
        Ok(Notice::Holds { bucket, version }) => {
            if let Some(swarm) = swarm_for(shared, &device, &bucket) {
                swarm.hear_holds(device, version);
            }
        }
        Ok(Notice::Addresses(reaches)) => shared.hear_addresses(reaches),
        Ok(Notice::Heads { .. }) => tracing::debug!(peer = %device.short(), "too many tips"),
        Err(error) => tracing::debug!(peer = %device.short(), %error, "a notice is lost"),
    }
}

async fn answer_history(shared: &Shared, device: DeviceId, mut send: SendStream, mut recv: RecvStream) {
    let Ok(HistoryQuestion { bucket, request }) = question(&mut recv).await else { return };
    let Some(swarm) = swarm_for(shared, &device, &bucket) else {
        drop(send.reset(Code::NotAMember.into()));
        return;
    };
    if let Err(error) = history::answer(&swarm, request, &mut send).await {
        tracing::debug!(peer = %device.short(), %error, "an answer with history broke off");
        drop(send.reset(Code::Busy.into()));
    }
}

async fn answer_blocks(shared: &Shared, device: DeviceId, mut send: SendStream, mut recv: RecvStream) {
    let Ok(question) = question::<wire::BlocksQuestion>(&mut recv).await else { return };
    let Some(swarm) = swarm_for(shared, &device, &question.bucket) else {
        drop(send.reset(Code::NotAMember.into()));
        return;
    };
    if let Err(error) = blocks::answer(&swarm, question, &mut send).await {
        tracing::debug!(peer = %device.short(), %error, "an answer with blocks broke off");
        drop(send.reset(Code::Busy.into()));
    }
}
