//! Blocks: what is stored and sent, sealed with the content secret of an epoch.
//!
//! A *data block* (`raw`) is `nonce || ciphertext || tag`. A *node block* (`dag-cbor`) is
//! `[version, kind, epoch, [links], [[index, epoch]..], sealed]`: the links of its children stand in the clear, so that a
//! mirror without keys can walk them, and they are part of the associated data, so that they can not be changed.
//!
//! The nonce is a keyed hash of the associated data and the padded plaintext. The same content therefore gives the same
//! block within a bucket and an epoch, and an unrelated one anywhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_bytes::ByteBuf;

use super::label::{self, Label};
use super::sealer::Sealer;
pub use super::sealer::{SEAL_OVERHEAD, padded_len};
use super::secret::Secret;
use crate::limits;
use crate::link::{BlockRef, BucketId, Codec, Epoch, Link};

/// The version of the node format.
pub const NODE_VERSION: u64 = 0;

/// What a block is for. Part of the associated data, so that a block of one kind is never read as another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum BlockKind {
    /// Content of files.
    Data = 0,
    /// The root of a version: the superblock.
    Root = 1,
    /// A node of a directory.
    Directory = 2,
    /// A node of the table of shared inodes (hard links).
    Inodes = 3,
    /// A node of a file's extents.
    Extents = 4,
    /// The set of pinned roots.
    Pins = 5,
    /// Changes that are in no version yet. Never in a version, and never sent.
    Journal = 6,
}

impl BlockKind {
    fn node_from(code: u8) -> Option<Self> {
        use BlockKind::*;
        [Root, Directory, Inodes, Extents, Pins, Journal].into_iter().find(|kind| *kind as u8 == code)
    }
}

/// Why a block could not be opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    /// The bytes are not the ones that the link names.
    #[error("block {0} is damaged")]
    Damaged(Link),
    /// This device was not a member when the block was sealed.
    #[error("no key for epoch {}", .0.0)]
    NoKey(Epoch),
    /// The key does not fit: another bucket's block, another kind, or a forged link.
    #[error("block {0} was not sealed for this place")]
    Foreign(Link),
    /// Not a node of this format.
    #[error("block {link} is malformed: {why}")]
    Malformed {
        /// Which block.
        link: Link,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A sealed name that is not of this bucket, epoch and purpose, or not a name.
    #[error("a sealed name is damaged: {0}")]
    Label(&'static str),
    /// A node of a newer format.
    #[error("block {link} has version {version}, this program knows {NODE_VERSION}: update jaxfs")]
    Version {
        /// Which block.
        link: Link,
        /// Its version.
        version: u64,
    },
}

/// The clear part of a node block, and its sealed part as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeBlock {
    /// What the node is for.
    pub kind: BlockKind,
    /// The epoch that sealed it.
    pub epoch: Epoch,
    /// The children, each once, in the order of first use.
    pub links: Vec<BlockRef>,
    sealed: Vec<u8>,
}

type WireNode = (u64, u8, Epoch, Vec<Link>, Vec<(u64, Epoch)>, ByteBuf);

/// As much of a node as every version of the format has: an array that begins with the version.
struct AnyNode {
    version: u64,
}

impl<'de> Deserialize<'de> for AnyNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;
        impl<'de> Visitor<'de> for First {
            type Value = AnyNode;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array that begins with a version")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AnyNode, A::Error> {
                let version = seq.next_element()?.ok_or_else(|| A::Error::custom("empty"))?;
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(AnyNode { version })
            }
        }
        deserializer.deserialize_seq(First)
    }
}

impl NodeBlock {
    /// Encodes the block. Deterministic.
    pub fn encode(&self) -> Vec<u8> {
        let links = self.links.iter().map(|child| child.link).collect();
        let older = self.links.iter().enumerate().filter(|(_, child)| child.epoch != self.epoch);
        let older = older.map(|(index, child)| (index as u64, child.epoch)).collect();
        let wire: WireNode =
            (NODE_VERSION, self.kind as u8, self.epoch, links, older, ByteBuf::from(self.sealed.clone()));
        serde_ipld_dagcbor::to_vec(&wire).expect("a tuple of integers, links and bytes encodes")
    }

    /// Reads a block without any key, as a mirror does. Total: any bytes give a node or an error.
    pub fn decode(link: &Link, bytes: &[u8]) -> Result<Self, OpenError> {
        let malformed = |why| OpenError::Malformed { link: *link, why };
        if bytes.len() > limits::BLOCK_BYTES {
            return Err(malformed("too large"));
        }
        let (version, kind, epoch, links, older, sealed): WireNode =
            serde_ipld_dagcbor::from_slice(bytes).map_err(|_| match serde_ipld_dagcbor::from_slice(bytes) {
                Ok(AnyNode { version }) if version > NODE_VERSION => OpenError::Version { link: *link, version },
                _ => malformed("not a node"),
            })?;
        if version != NODE_VERSION {
            return Err(OpenError::Version { link: *link, version });
        }
        let kind = BlockKind::node_from(kind).ok_or(malformed("unknown kind"))?;
        if links.len() > limits::NODE_LINKS {
            return Err(malformed("too many links"));
        }
        let mut links: Vec<_> = links.into_iter().map(|link| BlockRef { link, epoch }).collect();
        for (index, epoch) in older {
            let child = usize::try_from(index).ok().and_then(|index| links.get_mut(index));
            child.ok_or(malformed("epoch of no link"))?.epoch = epoch;
        }
        let node = Self { kind, epoch, links, sealed: sealed.into_vec() };
        if node.encode() != bytes {
            return Err(malformed("not canonical"));
        }
        Ok(node)
    }
}

/// The keys that one epoch's content secret gives.
struct EpochKeys {
    block: Sealer,
    label: Sealer,
}

impl EpochKeys {
    fn new(content: &Secret) -> Self {
        Self {
            block: Sealer::new(content, "jaxfs v0 block key", "jaxfs v0 block nonce key"),
            label: Sealer::new(content, "jaxfs v0 label key", "jaxfs v0 label nonce key"),
        }
    }
}

/// The content keys of a bucket, by epoch, and the blocks sealed and opened with them.
pub struct Keyring {
    bucket: BucketId,
    current: Epoch,
    keys: BTreeMap<Epoch, Arc<EpochKeys>>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("bucket", &self.bucket).field("current", &self.current).finish_non_exhaustive()
    }
}

impl Keyring {
    /// A keyring that seals with `content`, the secret of epoch `current`.
    pub fn new(bucket: BucketId, current: Epoch, content: &Secret) -> Self {
        Self { bucket, current, keys: BTreeMap::from([(current, Arc::new(EpochKeys::new(content)))]) }
    }

    /// Adds the secret of a former epoch, for reading.
    pub fn add_former(&mut self, epoch: Epoch, content: &Secret) {
        self.keys.insert(epoch, Arc::new(EpochKeys::new(content)));
    }

    /// Adds what another keyring opens beyond this one, for reading.
    pub fn add_from(&mut self, other: &Self) {
        for (epoch, keys) in &other.keys {
            self.keys.entry(*epoch).or_insert_with(|| Arc::clone(keys));
        }
    }

    /// The bucket whose blocks these keys open.
    pub const fn bucket(&self) -> BucketId {
        self.bucket
    }

    /// The epoch that new blocks are sealed for.
    pub const fn current(&self) -> Epoch {
        self.current
    }

    /// Seals file content. Gives the reference to the block, and its bytes.
    pub fn seal_data(&self, plaintext: &[u8]) -> (BlockRef, Vec<u8>) {
        let associated = self.associated(self.current, BlockKind::Data, &[]);
        let block = self.current_keys().block.seal(&associated, plaintext);
        (BlockRef { link: Link::of(Codec::Raw, &block), epoch: self.current }, block)
    }

    /// Opens a data block where it is. The result is padded with zeros: its use knows how many bytes count.
    pub fn open_data(&self, at: &BlockRef, block: Vec<u8>) -> Result<Bytes, OpenError> {
        self.check(at, Codec::Raw, &block)?;
        let associated = self.associated(at.epoch, BlockKind::Data, &[]);
        self.keys(at.epoch)?.block.open_in_place(&associated, block).ok_or(OpenError::Foreign(at.link))
    }

    /// Seals a node's body beside its children's links, which the body refers to by index.
    pub fn seal_node(&self, kind: BlockKind, links: Vec<BlockRef>, body: &[u8]) -> (BlockRef, Vec<u8>) {
        let associated = self.associated(self.current, kind, &links);
        let mut framed = Vec::with_capacity(4 + body.len());
        framed.extend_from_slice(&(body.len() as u32).to_le_bytes());
        framed.extend_from_slice(body);
        let sealed = self.current_keys().block.seal(&associated, &framed);
        let bytes = NodeBlock { kind, epoch: self.current, links, sealed }.encode();
        (BlockRef { link: Link::of(Codec::DagCbor, &bytes), epoch: self.current }, bytes)
    }

    /// Opens a node of the kind that its place asks for: its children, and its body.
    pub fn open_node(
        &self,
        at: &BlockRef,
        kind: BlockKind,
        block: &[u8],
    ) -> Result<(Vec<BlockRef>, Vec<u8>), OpenError> {
        self.check(at, Codec::DagCbor, block)?;
        let node = NodeBlock::decode(&at.link, block)?;
        if node.kind != kind || node.epoch != at.epoch {
            return Err(OpenError::Foreign(at.link));
        }
        let associated = self.associated(node.epoch, kind, &node.links);
        let framed = self.keys(node.epoch)?.block.open(&associated, &node.sealed).ok_or(OpenError::Foreign(at.link))?;
        let malformed = |why| OpenError::Malformed { link: at.link, why };
        let (len, rest) = framed.split_first_chunk::<4>().ok_or(malformed("no length"))?;
        let body = rest.get(..u32::from_le_bytes(*len) as usize).ok_or(malformed("length beyond the block"))?;
        Ok((node.links, body.to_vec()))
    }

    /// Seals a name for `purpose`, a constant of this program that says whose name it is.
    pub fn seal_label(&self, purpose: &'static str, text: &Label) -> Vec<u8> {
        label::seal(&self.current_keys().label, &self.label_place(self.current, purpose), text)
    }

    /// Opens a name that was sealed in `epoch` for the same purpose.
    pub fn open_label(&self, epoch: Epoch, purpose: &'static str, sealed: &[u8]) -> Result<String, OpenError> {
        label::open(&self.keys(epoch)?.label, &self.label_place(epoch, purpose), sealed)
    }

    /// `bucket (16) || epoch (8, LE) || purpose`
    fn label_place(&self, epoch: Epoch, purpose: &str) -> Vec<u8> {
        [self.bucket.0.as_bytes().as_slice(), &epoch.0.to_le_bytes(), purpose.as_bytes()].concat()
    }

    fn check(&self, at: &BlockRef, codec: Codec, block: &[u8]) -> Result<(), OpenError> {
        if at.link.codec() != codec {
            return Err(OpenError::Malformed { link: at.link, why: "data where a node belongs, or the reverse" });
        }
        if !at.link.names(block) {
            return Err(OpenError::Damaged(at.link));
        }
        Ok(())
    }

    fn keys(&self, epoch: Epoch) -> Result<&EpochKeys, OpenError> {
        self.keys.get(&epoch).map(Arc::as_ref).ok_or(OpenError::NoKey(epoch))
    }

    fn current_keys(&self) -> &EpochKeys {
        &self.keys[&self.current]
    }

    /// `bucket (16) || epoch (8, LE) || kind (1) || count (4, LE) || (link (36) || epoch (8, LE))*`
    fn associated(&self, epoch: Epoch, kind: BlockKind, links: &[BlockRef]) -> Vec<u8> {
        let mut out = Vec::with_capacity(29 + links.len() * 44);
        out.extend_from_slice(self.bucket.0.as_bytes());
        out.extend_from_slice(&epoch.0.to_le_bytes());
        out.push(kind as u8);
        out.extend_from_slice(&(links.len() as u32).to_le_bytes());
        for child in links {
            out.extend_from_slice(&child.link.to_bytes());
            out.extend_from_slice(&child.epoch.0.to_le_bytes());
        }
        out
    }
}
