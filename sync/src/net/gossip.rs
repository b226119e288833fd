//! The topic of a bucket's epoch, on which whole signed manifests are told to all.
//!
//! Gossip is fast, and promises nothing: what it loses, the exchange of heads brings.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh_gossip::TopicId;
use iroh_gossip::api::{Event as Gossiped, GossipReceiver, GossipSender};
use n0_future::StreamExt;
use tokio::sync::mpsc;

use super::swarm::{Event, Swarm};
use super::{Shared, identity};
use crate::crypto::secret::random_bytes;
use crate::limits::MANIFEST_BYTES;

/// How often somebody is looked for where there is nobody, and how often one more is, so that parts that do not know of each
/// other find together.
const LONELY: Duration = Duration::from_secs(2);
const MIX: Duration = Duration::from_secs(60);
/// How many are asked at once.
const SOME: usize = 4;

/// Says and hears what is on a topic until the sender of `say` is dropped.
pub(super) async fn run(shared: Arc<Shared>, swarm: Arc<Swarm>, topic: [u8; 32], mut say: mpsc::Receiver<Bytes>) {
    loop {
        let joined = shared.gossip.subscribe(TopicId::from_bytes(topic), some(&shared, &swarm)).await;
        let Ok(joined) = joined else {
            tokio::time::sleep(LONELY).await;
            continue;
        };
        let (sender, receiver) = joined.split();
        if on_topic(&shared, &swarm, sender, receiver, &mut say).await {
            return;
        }
        // Something was lost.
        swarm.tell(Event::Lagged).await;
    }
}

/// Some connected members.
fn some(shared: &Shared, swarm: &Swarm) -> Vec<iroh::EndpointId> {
    let mut connected: Vec<_> = swarm.connected_members(shared).into_iter().collect();
    let first = u64::from_le_bytes(random_bytes()) as usize;
    let first = first.checked_rem(connected.len()).unwrap_or(0);
    connected.rotate_left(first);
    connected.iter().take(SOME).filter_map(identity::endpoint_id).collect()
}

/// Whether it is over; if not, the topic was lost.
async fn on_topic(
    shared: &Shared,
    swarm: &Swarm,
    sender: GossipSender,
    mut receiver: GossipReceiver,
    say: &mut mpsc::Receiver<Bytes>,
) -> bool {
    let mut lonely = tokio::time::interval(LONELY);
    let mut mix = tokio::time::interval(MIX);
    loop {
        let joins = tokio::select! {
            said = say.recv() => {
                let Some(said) = said else { return true };
                if let Err(error) = sender.broadcast(said).await {
                    tracing::debug!(%error, "not told");
                    return false;
                }
                continue;
            }
            event = receiver.next() => match event {
                Some(Ok(Gossiped::Received(message))) => {
                    if message.content.len() <= MANIFEST_BYTES {
                        let from = identity::device_id(&message.delivered_from);
                        swarm.tell(Event::Heard { from, bytes: message.content.to_vec() }).await;
                    }
                    continue;
                }
                Some(Ok(Gossiped::NeighborUp(_) | Gossiped::NeighborDown(_))) => continue,
                Some(Ok(Gossiped::Lagged) | Err(_)) | None => return false,
            },
            _ = lonely.tick() => !receiver.is_joined(),
            _ = mix.tick() => true,
            () = swarm.somebody_came() => !receiver.is_joined(),
        };
        if joins {
            let known: Vec<_> = receiver.neighbors().collect();
            let others = some(shared, swarm).into_iter().filter(|one| !known.contains(one)).collect::<Vec<_>>();
            if !others.is_empty() && sender.join_peers(others).await.is_err() {
                return false;
            }
        }
    }
}
