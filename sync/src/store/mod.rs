//! One bucket's blocks and metadata on disk.

use std::io;
use std::path::{Path, PathBuf};

use crate::link::Link;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// Something on disk is not what was written there.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// What, and where.
        what: String,
    },
    /// The disk, or the user's quota, is full. What was stored before is intact.
    #[error("no space left for {}", .0.display())]
    Full(PathBuf),
    /// It was made by a newer program.
    #[error("{} has version {version}, this program knows {VERSION}: update jaxfs", .path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The operating system refused something.
    #[error("{doing} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// The version of the store's layout on disk.
pub const VERSION: u32 = 0;

/// What becomes durable together with the blocks that were put before it.
#[derive(Debug, Default)]
pub struct Commit {
    /// Manifests and their signed bytes, appended in this order. One that is there already stays where it is.
    pub manifests: Vec<(Link, Vec<u8>)>,
    /// Named values: set, or removed.
    pub meta: Vec<(&'static str, Option<Vec<u8>>)>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks, those not yet committed included.
    pub blocks: u64,
    /// Bytes on disk: segments and index.
    pub bytes: u64,
    /// Blocks written since the store was opened; one that was there already does not count.
    pub put_blocks: u64,
    /// Their bytes.
    pub put_bytes: u64,
}

/// One bucket's blocks and metadata.
pub struct Store {}

impl Store {
    /// Makes an empty store in `dir`, which exists or can be made, and has none yet.
    pub fn create(_dir: &Path) -> Result<Self, StoreError> {
        todo!()
    }

    /// Opens the store in `dir`.
    pub fn open(_dir: &Path) -> Result<Self, StoreError> {
        todo!()
    }

    /// The bytes of a block, as they were put; none if it is not here. Not checked against the link.
    pub fn get(&self, _link: &Link) -> Result<Option<Vec<u8>>, StoreError> {
        todo!()
    }

    /// Whether the block is here.
    pub fn contains(&self, _link: &Link) -> Result<bool, StoreError> {
        todo!()
    }

    /// Stores a block; whether it is new. It can be read at once, and is durable after the next commit.
    pub fn put(&self, _link: &Link, _bytes: &[u8]) -> Result<bool, StoreError> {
        todo!()
    }

    /// Makes everything durable that was put before, and then what `commit` says: all of it or nothing.
    pub fn commit(&self, _commit: Commit) -> Result<(), StoreError> {
        todo!()
    }

    /// The signed bytes of a manifest.
    pub fn manifest(&self, _link: &Link) -> Result<Option<Vec<u8>>, StoreError> {
        todo!()
    }

    /// All manifests in the order in which they were committed.
    pub fn manifests(&self) -> Result<impl Iterator<Item = Result<(Link, Vec<u8>), StoreError>>, StoreError> {
        Ok(std::iter::empty())
    }

    /// A named value.
    pub fn meta(&self, _key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        todo!()
    }

    /// How much there is.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        todo!()
    }

    /// Calls `visit` with every committed block and its length, in the order of links.
    pub fn for_each_block(&self, _visit: &mut dyn FnMut(Link, u32)) -> Result<(), StoreError> {
        todo!()
    }
}
