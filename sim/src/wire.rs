//! What goes from node to node, and how many bytes it would be.

use iroh_gossip::proto::Message;
use jaxfs_sync::chain::{Heads, HistoryRequest, Missing};
use jaxfs_sync::link::{LINK_BYTES, Link};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cast::{Cast, NodeId};

/// A node as the gossip protocol knows it; encoded in 32 bytes, as a device's name is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Peer(pub NodeId);

impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&self.0.to_le_bytes());
        bytes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [a, b, c, d, ..] = <[u8; 32]>::deserialize(deserializer)?;
        Ok(Self(u32::from_le_bytes([a, b, c, d])))
    }
}

/// One message.
#[derive(Clone, Debug)]
pub enum Wire {
    /// The gossip protocol's, on a connection of this number.
    Gossip(u64, Message<Peer>),
    /// The heads that a node knows.
    Heads {
        /// What it knows.
        heads: Box<Heads>,
        /// Whether the other's are wanted.
        answer: bool,
    },
    /// Asks for history.
    Ask {
        /// The question's number.
        number: u64,
        /// What is wanted.
        request: Box<HistoryRequest>,
    },
    /// Answers it.
    History {
        /// The question's number.
        number: u64,
        /// Oldest first.
        items: Vec<Missing>,
        /// Whether there is more than fits.
        more: bool,
    },
    /// The gossip protocol's connection of this number is closed.
    Bye(u64),
}

impl Wire {
    /// A number for each kind of message, for the trace.
    pub const fn tag(&self) -> u8 {
        match self {
            Self::Gossip(..) => 1,
            Self::Heads { .. } => 2,
            Self::Ask { .. } => 3,
            Self::History { .. } => 4,
            Self::Bye(_) => 5,
        }
    }

    /// About how many bytes it is, without what the transport adds.
    pub fn bytes(&self, cast: &Cast) -> usize {
        let manifest = |link: &Link| cast.manifest(link).map_or(0, |manifest| manifest.bytes().len());
        match self {
            Self::Gossip(_, message) => message.size().unwrap_or(0),
            // The genesis besides, and some bytes for numbers.
            Self::Heads { heads, .. } => (heads.links().count() + 1) * LINK_BYTES + 8,
            Self::Ask { request, .. } => (request.wants.len() + request.locator.len()) * LINK_BYTES,
            Self::History { items, .. } => {
                let bytes = items.iter().map(|item| match item {
                    Missing::Manifest(link) => manifest(link),
                    Missing::Members(link) => cast.list(link).map_or(0, |list| list.bytes().len()),
                });
                bytes.sum()
            }
            Self::Bye(_) => 0,
        }
    }
}
