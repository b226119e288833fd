//! The store seen through the keys: nodes and data in the clear, with what was read lately kept in memory.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use lru::LruCache;
use parking_lot::{Mutex, RwLock};

use super::wire::{Decoder, Encoder, Malformed};
use crate::crypto::{BlockKind, Keyring, OpenError};
use crate::limits;
use crate::link::{BlockRef, Link};
use crate::store::{Store, StoreError};

/// Why a part of a tree could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The block is here, and is not what it should be.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The block opens, and what is in it breaks a rule of the format.
    #[error("block {link} is malformed: {why}")]
    Malformed {
        /// Which block.
        link: Link,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The block is not on this machine.
    #[error("block {0} is not on this machine")]
    Missing(Link),
}

impl TreeError {
    /// For what is wrong with the node at `at`.
    pub(super) fn malformed(at: &BlockRef, why: &'static str) -> Self {
        TreeError::Malformed { link: at.link, why }
    }
}

/// What can be sealed as a node.
pub trait NodeBody: Sized + Send + Sync + 'static {
    /// The kind of node that holds it.
    const KIND: BlockKind;
    /// Writes it. Deterministic.
    fn encode(&self, out: &mut Encoder);
    /// Reads it. Total; what it takes encodes to the same bytes.
    fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed>;
}

/// Where blocks may come from that are not on this machine.
pub trait Supplier: Send + Sync {
    /// Asks for blocks, and returns at once. `done` is called once, from a thread that may block: with whether all of them are
    /// here now, or can not be had in time.
    fn want(&self, links: &[Link], done: Box<dyn FnOnce(bool) + Send>);
}

type AnyNode = Arc<dyn Any + Send + Sync>;

/// A cache that forgets what was used longest ago once it holds more than `capacity` bytes.
struct Cache<V> {
    entries: LruCache<BlockRef, (V, usize)>,
    bytes: usize,
    capacity: usize,
}

impl<V: Clone> Cache<V> {
    fn new(capacity: usize) -> Mutex<Self> {
        Mutex::new(Self { entries: LruCache::unbounded(), bytes: 0, capacity })
    }

    fn get(&mut self, at: &BlockRef) -> Option<V> {
        self.entries.get(at).map(|(value, _)| value.clone())
    }

    fn insert(&mut self, at: BlockRef, value: V, bytes: usize) {
        if bytes > self.capacity {
            return;
        }
        self.bytes += bytes;
        if let Some((_, old)) = self.entries.put(at, (value, bytes)) {
            self.bytes -= old;
        }
        self.shrink();
    }

    fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.bytes > self.capacity {
            let Some((_, (_, bytes))) = self.entries.pop_lru() else { break };
            self.bytes -= bytes;
        }
    }
}

/// A bucket's blocks in the clear.
///
/// Shared between threads. No lock is held while a block is read, sealed or opened: two threads that miss the same block
/// both do the work. Locks: `keys`, `nodes`, `data` and `supplier` are each taken alone.
pub struct Vault {
    store: Arc<Store>,
    keys: RwLock<Arc<Keyring>>,
    nodes: Mutex<Cache<AnyNode>>,
    data: Mutex<Cache<Bytes>>,
    supplier: RwLock<Option<Arc<dyn Supplier>>>,
}

impl Vault {
    /// The blocks of `store`, sealed and opened with `keys`.
    pub fn new(store: Arc<Store>, keys: Arc<Keyring>) -> Self {
        Self {
            store,
            keys: RwLock::new(keys),
            nodes: Cache::new(limits::NODE_CACHE_BYTES),
            data: Cache::new(limits::DATA_CACHE_BYTES),
            supplier: RwLock::default(),
        }
    }

    /// The store below.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The keys in use.
    pub fn keys(&self) -> Arc<Keyring> {
        self.keys.read().clone()
    }

    /// Uses other keys from now on, for a new epoch. Work in progress ends with the old ones.
    pub fn set_keys(&self, keys: Arc<Keyring>) {
        *self.keys.write() = keys;
    }

    /// Has blocks that are missing asked for there from now on, or nowhere.
    pub fn set_supplier(&self, supplier: Option<Arc<dyn Supplier>>) {
        *self.supplier.write() = supplier;
    }

    /// Asks for those of these blocks that are not here; says whether there is anybody to ask. See [`Supplier::want`].
    ///
    /// # Errors
    /// If the store can not say.
    pub fn want(&self, blocks: &[BlockRef], done: Box<dyn FnOnce(bool) + Send>) -> Result<bool, TreeError> {
        let Some(supplier) = self.supplier.read().clone() else { return Ok(false) };
        let mut links = Vec::new();
        for block in blocks {
            if !self.store.contains(&block.link)? {
                links.push(block.link);
            }
        }
        supplier.want(&links, done);
        Ok(true)
    }

    /// How many bytes of opened data blocks to keep in memory.
    pub fn set_data_capacity(&self, bytes: usize) {
        self.data.lock().resize(bytes);
    }

    /// How many bytes of decoded nodes to keep in memory, by estimate.
    pub fn set_node_capacity(&self, bytes: usize) {
        self.nodes.lock().resize(bytes);
    }

    /// The node at `at`.
    pub fn node<N: NodeBody>(&self, at: &BlockRef) -> Result<Arc<N>, TreeError> {
        if let Some(node) = self.nodes.lock().get(at) {
            return node.downcast().map_err(|_| TreeError::malformed(at, "a node of another kind"));
        }
        let block = self.block(&at.link)?;
        let (links, body) = self.keys().open_node(at, N::KIND, &block)?;
        let node: N = decode(&links, &body).map_err(|Malformed(why)| TreeError::malformed(at, why))?;
        let node = Arc::new(node);
        self.nodes.lock().insert(*at, node.clone(), in_memory(body.len(), links.len()));
        Ok(node)
    }

    /// Seals and stores a node. It is durable with the next commit of the store.
    pub fn put_node<N: NodeBody>(&self, node: N) -> Result<BlockRef, TreeError> {
        let mut out = Encoder::new();
        node.encode(&mut out);
        let (links, body) = out.finish();
        let bytes = in_memory(body.len(), links.len());
        let (at, block) = self.keys().seal_node(N::KIND, links, &body);
        self.store.put(&at.link, &block)?;
        self.nodes.lock().insert(at, Arc::new(node), bytes);
        Ok(at)
    }

    /// The content of the data block at `at`, padded with zeros to its size class.
    pub fn data(&self, at: &BlockRef) -> Result<Bytes, TreeError> {
        if let Some(data) = self.data.lock().get(at) {
            return Ok(data);
        }
        let block = self.block(&at.link)?;
        let data = self.keys().open_data(at, block)?;
        self.data.lock().insert(*at, data.clone(), data.len());
        Ok(data)
    }

    /// Bytes `[skip, skip + len)` of a data block, not copied.
    ///
    /// # Errors
    /// As [`Vault::data`], and if the block is shorter.
    pub fn data_part(&self, at: &BlockRef, skip: u32, len: usize) -> Result<Bytes, TreeError> {
        let data = self.data(at)?;
        let from = skip as usize;
        match from.checked_add(len) {
            Some(end) if end <= data.len() => Ok(data.slice(from..end)),
            _ => Err(TreeError::malformed(at, "shorter than its extent says")),
        }
    }

    /// Seals and stores file content, at most [`super::CHUNK_BYTES`] as a rule. It is durable with the next commit of the
    /// store, and not kept in the cache: the kernel has just been given the same bytes.
    pub fn put_data(&self, content: &[u8]) -> Result<BlockRef, TreeError> {
        let (at, block) = self.keys().seal_data(content);
        self.store.put(&at.link, &block)?;
        Ok(at)
    }

    #[cfg(test)]
    pub(super) fn cached_nodes(&self) -> usize {
        self.nodes.lock().entries.len()
    }

    fn block(&self, link: &Link) -> Result<Vec<u8>, TreeError> {
        self.store.get(link)?.ok_or(TreeError::Missing(*link))
    }
}

/// Reads a whole body.
pub(super) fn decode<N: NodeBody>(links: &[BlockRef], body: &[u8]) -> Result<N, Malformed> {
    let mut input = Decoder::new(links, body);
    let node = N::decode(&mut input)?;
    input.finish()?;
    Ok(node)
}

/// An estimate of what a decoded node takes in memory: integers and heads grow about threefold.
const fn in_memory(body: usize, links: usize) -> usize {
    256 + body * 3 + links * 64
}
