//! What members say to each other, and its bytes.
//!
//! Each message is a frame, `length (4, LE) || DAG-CBOR`, on a stream of its own. Three protocols, each on a connection of its own, so
//! that a flood of data holds up no head:
//!
//! - [`CHAIN`]: one-way streams carry a [`Notice`] each; a two-way stream carries a [`HistoryQuestion`] and its answer, a
//!   [`HistoryPart`] after the other, oldest first, until one is the last.
//! - [`BLOCKS`]: a two-way stream carries a [`BlocksQuestion`] and then, for each link in its order, `length (4, LE) || block`, or
//!   [`NOT_HERE`] in the place of the length.
//! - [`JOIN`]: a stranger with a ticket; see [`super::join`].

use std::net::SocketAddr;

use iroh::endpoint::{RecvStream, SendStream, VarInt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::bucket::DeviceId;
use crate::chain::{Heads, HistoryRequest};
use crate::limits::BLOCK_BYTES;
use crate::link::Link;
use crate::publish::Item;

/// Heads, tips and history.
pub const CHAIN: &[u8] = b"jaxfs/chain/0";
/// Blocks.
pub const BLOCKS: &[u8] = b"jaxfs/blocks/0";
/// Joining.
pub const JOIN: &[u8] = b"jaxfs/join/0";

/// In the place of a length: the block is not here.
pub const NOT_HERE: u32 = u32::MAX;

/// What a frame of an answer aims at.
pub const FRAME_BYTES: usize = 1 << 20;
/// The largest frame: one that aims at that, and ends with the largest member list.
pub const FRAME_MOST: usize = FRAME_BYTES + BLOCK_BYTES + 4_096;
/// A question or a notice.
pub const QUESTION_MOST: usize = 256 << 10;
/// Links in one question for blocks.
pub const LINKS_AT_ONCE: usize = 512;

/// Why a stream or a connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Nothing is wrong.
    Done = 0,
    /// Whoever asks is no member, or of nothing that is known here.
    NotAMember = 1,
    /// What came makes no sense.
    Malformed = 2,
    /// There is another connection.
    Duplicate = 3,
    /// Too much at once, or the disk refuses: again later.
    Busy = 4,
    /// The program ends.
    Leaving = 5,
}

impl From<Code> for VarInt {
    fn from(code: Code) -> Self {
        Self::from_u32(code as u32)
    }
}

/// Why a message could not be sent or taken.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection.
    #[error("the connection failed: {0}")]
    Connection(String),
    /// It took too long.
    #[error("no answer in time")]
    Late,
    /// What came makes no sense.
    #[error("the answer makes no sense: {0}")]
    Malformed(&'static str),
    /// This device's own store.
    #[error(transparent)]
    Bucket(#[from] crate::publish::BucketError),
}

impl WireError {
    pub(super) fn of(error: impl std::fmt::Display) -> Self {
        Self::Connection(error.to_string())
    }
}

/// What one member tells another unasked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Notice {
    /// What the sender knows of a bucket.
    Heads {
        /// The bucket, by its genesis.
        bucket: Link,
        /// What it knows.
        heads: Heads,
        /// Whether it wants ours.
        answer: bool,
    },
    /// All blocks of a version are on the sender's machine.
    Holds {
        /// The bucket, by its genesis.
        bucket: Link,
        /// The version.
        version: Link,
    },
    /// Where members can be reached, the sender among them; at most [`ADDRESSES`].
    Addresses(Vec<Reach>),
}

/// Members whose addresses one notice has.
pub const ADDRESSES: usize = 256;
/// Addresses that are kept of one device.
pub const ADDRESSES_EACH: usize = 16;

/// Where a device was reached last, or says that it can be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Which device.
    pub device: DeviceId,
    /// On which sockets.
    pub sockets: Vec<SocketAddr>,
    /// Through which relay.
    pub relay: Option<String>,
}

/// A question for history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistoryQuestion {
    /// The bucket, by its genesis.
    pub bucket: Link,
    /// What is asked for.
    pub request: HistoryRequest,
}

/// A part of the answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HistoryPart {
    /// Manifests and member lists.
    pub items: Vec<Sent>,
    /// Whether it is the last one.
    pub last: bool,
    /// Whether there is more where it ends, which the sender does not go on with.
    pub more: bool,
}

/// An [`Item`] on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Sent {
    /// The bytes of a member list.
    List(ByteBuf),
    /// The bytes of a signed manifest.
    Manifest(ByteBuf),
}

impl From<Item> for Sent {
    fn from(item: Item) -> Self {
        match item {
            Item::Members(bytes) => Self::List(ByteBuf::from(bytes)),
            Item::Manifest(bytes) => Self::Manifest(ByteBuf::from(bytes)),
        }
    }
}

impl From<Sent> for Item {
    fn from(sent: Sent) -> Self {
        match sent {
            Sent::List(bytes) => Self::Members(bytes.into_vec()),
            Sent::Manifest(bytes) => Self::Manifest(bytes.into_vec()),
        }
    }
}

/// What a block is wanted for. The more urgent goes first, where both wait on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Urgency {
    /// To have it.
    Background,
    /// Somebody reads it.
    Reader,
    /// A directory that is to be shown.
    Node,
}

/// A question for blocks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BlocksQuestion {
    /// The bucket, by its genesis.
    pub bucket: Link,
    /// Which, at most [`LINKS_AT_ONCE`].
    pub links: Vec<Link>,
    /// What for.
    pub urgency: Urgency,
}

/// The bytes of a message, its length in front.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let mut frame = vec![0; 4];
    serde_ipld_dagcbor::to_writer(&mut frame, message).map_err(|_| WireError::Malformed("it does not encode"))?;
    let length = u32::try_from(frame.len() - 4).map_err(|_| WireError::Malformed("too long"))?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// Sends a message.
pub async fn send<T: Serialize>(to: &mut SendStream, message: &T) -> Result<(), WireError> {
    to.write_all(&encode(message)?).await.map_err(WireError::of)
}

/// Takes a message of at most `most` bytes.
pub async fn receive<T: DeserializeOwned>(from: &mut RecvStream, most: usize) -> Result<T, WireError> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await.map_err(WireError::of)?;
    let bytes = bytes_of(from, u32::from_le_bytes(length) as usize, most).await?;
    serde_ipld_dagcbor::from_slice(&bytes).map_err(|_| WireError::Malformed("no message"))
}

/// Takes so many bytes. Memory grows as they come, whatever was announced.
pub async fn bytes_of(from: &mut RecvStream, length: usize, most: usize) -> Result<Vec<u8>, WireError> {
    if length > most {
        return Err(WireError::Malformed("too long"));
    }
    let mut bytes = Vec::with_capacity(length.min(64 << 10));
    while bytes.len() < length {
        let chunk = from.read_chunk(length - bytes.len()).await.map_err(WireError::of)?;
        bytes.extend_from_slice(&chunk.ok_or(WireError::Malformed("it ends in the middle"))?);
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::bucket::testing::link;

    #[test]
    fn what_is_said_is_understood() {
        let heads = Heads {
            genesis: link("g"),
            version: 0,
            head: link("h"),
            shown: None,
            pinned: false,
            tips: vec![link("t")],
        };
        let said = Notice::Heads { bucket: link("g"), heads: heads.clone(), answer: true };
        let frame = encode(&said).unwrap();
        let (length, body) = frame.split_at(4);
        assert_eq!(u32::from_le_bytes(length.try_into().unwrap()) as usize, body.len());
        let Notice::Heads { heads: heard, answer: true, .. } = serde_ipld_dagcbor::from_slice(body).unwrap() else {
            panic!("another notice");
        };
        assert_eq!(heard, heads);
        let reach = Reach { device: DeviceId([7; 32]), sockets: vec!["[::1]:5".parse().unwrap()], relay: None };
        let frame = encode(&Notice::Addresses(vec![reach.clone()])).unwrap();
        let Notice::Addresses(heard) = serde_ipld_dagcbor::from_slice(&frame[4..]).unwrap() else { panic!() };
        assert_eq!(heard, [reach]);
        let part = HistoryPart { items: vec![Item::Manifest(vec![1; 300]).into()], last: true, more: false };
        let frame = encode(&part).unwrap();
        assert!(frame.len() < 350, "bytes are sent as bytes");
        let heard: HistoryPart = serde_ipld_dagcbor::from_slice(&frame[4..]).unwrap();
        assert_eq!(Item::from(heard.items[0].clone()), Item::Manifest(vec![1; 300]));
    }
}
