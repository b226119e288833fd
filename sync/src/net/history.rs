//! Manifests and member lists on their way, oldest first: one question, one stream of parts, whatever is missing.

use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::{Connection, SendStream};

use super::swarm::{Event, Swarm};
use super::wire::{self, Code, FRAME_BYTES, FRAME_MOST, HistoryPart, HistoryQuestion, Sent, WireError};
use crate::bucket::DeviceId;
use crate::chain::{HistoryRequest, Missing};
use crate::limits::{FETCH_MS, LOCATOR_LINKS, WANTS};
use crate::link::{Codec, Link};
use crate::publish::Item;

/// How long the next part of an answer may take.
const PART: Duration = Duration::from_secs(10);
/// How long all of an answer may take: the chain believes then that it never ends.
const ALL: Duration = Duration::from_millis(FETCH_MS);
/// Manifests and member lists in one part.
const ITEMS: usize = 2_048;

/// Answers a question: part after part, each looked up when the one before it is on its way.
pub(super) async fn answer(swarm: &Swarm, request: HistoryRequest, send: &mut SendStream) -> Result<(), WireError> {
    if request.wants.len() > WANTS || request.locator.len() > LOCATOR_LINKS {
        return Err(WireError::Malformed("too large a question"));
    }
    let mut rest = request;
    loop {
        let asked = rest.clone();
        let (items, more) = swarm.store_work(move |local| local.replica().answer(&asked, ITEMS, FRAME_BYTES)).await?;
        let sent: Vec<_> = items.iter().map(link_of).collect();
        // What was sent is there now, as far as this question goes.
        let last = more.then(|| sent.iter().rev().find(|sent| matches!(sent, Missing::Manifest(_)))).flatten();
        let goes_on = last.is_some();
        if let Some(Missing::Manifest(link)) = last {
            rest.locator.insert(0, *link);
            rest.locator.truncate(LOCATOR_LINKS);
        }
        rest.wants.retain(|want| !sent.contains(want));
        let part = HistoryPart { items: items.into_iter().map(Sent::from).collect(), last: !goes_on, more };
        let sending = tokio::time::timeout(PART, wire::send(send, &part)).await;
        sending.map_err(|_| WireError::Late)??;
        if !goes_on || rest.wants.is_empty() {
            if goes_on {
                wire::send(send, &HistoryPart { last: true, ..HistoryPart::default() }).await?;
            }
            return send.finish().map_err(WireError::of);
        }
    }
}

fn link_of(item: &Item) -> Missing {
    match item {
        Item::Members(bytes) => Missing::Members(Link::of(Codec::DagCbor, bytes)),
        Item::Manifest(bytes) => Missing::Manifest(Link::of(Codec::DagCbor, bytes)),
    }
}

/// What an item takes besides its bytes.
const ITEM: usize = 64;

/// Asks a member, and hands in what comes as it comes. Whatever happens, the end is told.
pub(super) async fn fetch(
    swarm: Arc<Swarm>,
    connection: Option<Connection>,
    from: DeviceId,
    number: u64,
    request: HistoryRequest,
) {
    let fetched = match connection {
        Some(connection) => {
            let taking = take(&swarm, &connection, from, number, request);
            tokio::time::timeout(ALL, taking).await.unwrap_or(Err(WireError::Late))
        }
        None => Err(WireError::of("it is not connected")),
    };
    let (ok, more) = match fetched {
        Ok(more) => (true, more),
        Err(error) => {
            tracing::debug!(peer = %from.short(), %error, "history is not to be had");
            (false, false)
        }
    };
    swarm.tell(Event::Fetched { from, number, ok, more }).await;
}

async fn take(
    swarm: &Swarm,
    connection: &Connection,
    from: DeviceId,
    number: u64,
    request: HistoryRequest,
) -> Result<bool, WireError> {
    let question = HistoryQuestion { bucket: swarm.genesis(), request };
    let (mut send, mut recv) = connection.open_bi().await.map_err(WireError::of)?;
    wire::send(&mut send, &question).await?;
    send.finish().map_err(WireError::of)?;
    loop {
        let part = tokio::time::timeout(PART, wire::receive(&mut recv, FRAME_MOST)).await;
        let part: HistoryPart = part.map_err(|_| WireError::Late)??;
        if part.items.is_empty() && !part.last {
            drop(recv.stop(Code::Malformed.into()));
            return Err(WireError::Malformed("nothing in it"));
        }
        // Bounded in bytes: who sends faster than it is stored waits.
        let items: Vec<_> = part.items.into_iter().map(Item::from).collect();
        let size: usize = items.iter().map(|(Item::Members(bytes) | Item::Manifest(bytes))| bytes.len() + ITEM).sum();
        let room = swarm.room_for(size).await;
        swarm.tell(Event::Part { from, number, items, room }).await;
        if part.last {
            return Ok(part.more);
        }
    }
}
