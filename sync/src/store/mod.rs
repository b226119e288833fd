//! One bucket's blocks and metadata on disk.
//!
//! Sealed blocks are appended to *segments* (`packs/00000001.pack`, ..); *redb* (`db.redb`) holds where they are, the
//! manifests in the order of their arrival, and named values. A block can be read as soon as it is put, and is durable
//! with the next [`Store::commit`], which first syncs the segments and then makes one durable transaction. So nothing is
//! named before it is durable, and a crash loses exactly what was not committed.
//!
//! Never here: keys, and the question whether the bytes of a block are what its link names (opening a block asks it).

mod error;
mod index;
mod pack;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use error::StoreError;
use index::Index;
use pack::{End, Place, Reader, Writer};
use parking_lot::{Mutex, RwLock};

use crate::limits;
use crate::link::Link;

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

/// One bucket's blocks and metadata. Shared between threads; reading never waits for the disk to sync.
///
/// Locks, in this order: `commit`, `writer`, `pending`. `commit` is held while the disk syncs; the other two only for
/// memory and, `writer`, for copying a block into the page cache.
pub struct Store {
    packs: PathBuf,
    index: Index,
    reader: Reader,
    commit: Mutex<()>,
    writer: Mutex<Writer>,
    pending: RwLock<Pending>,
    /// How many commits there were: a block that was not in the index may be now.
    commits: AtomicU64,
    /// A sync failed, so that what was written before it may be lost whatever a later sync says.
    failed: AtomicBool,
    put_blocks: AtomicU64,
    put_bytes: AtomicU64,
}

/// Blocks that are not in the index yet.
#[derive(Default)]
struct Pending {
    /// Put since the last commit began.
    open: HashMap<Link, Place>,
    /// On their way into the index.
    closing: Arc<HashMap<Link, Place>>,
}

impl Pending {
    fn place(&self, link: &Link) -> Option<Place> {
        self.open.get(link).or_else(|| self.closing.get(link)).copied()
    }
}

impl Store {
    /// Makes an empty store in `dir`, which is made if need be, and must not have one. Durable on return.
    pub fn create(dir: &Path) -> Result<Self, StoreError> {
        let packs = dir.join("packs");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&packs);
        made.map_err(|source| StoreError::io("create", &packs, source))?;
        let index = Index::create(dir.join("db.redb"))?;
        pack::sync_dir(&packs)?;
        pack::sync_dir(dir)?;
        Self::start(packs, index)
    }

    /// Opens the store in `dir`. O(1), whatever is in it; after a crash O(index), some 0.4 s for a million blocks. What was
    /// never committed is dropped.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::start(dir.join("packs"), Index::open(dir.join("db.redb"))?)
    }

    fn start(packs: PathBuf, index: Index) -> Result<Self, StoreError> {
        let writer = Writer::open(packs.clone(), index.end()?)?;
        Ok(Self {
            reader: Reader::new(packs.clone()),
            packs,
            index,
            commit: Mutex::new(()),
            writer: Mutex::new(writer),
            pending: RwLock::default(),
            commits: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            put_blocks: AtomicU64::new(0),
            put_bytes: AtomicU64::new(0),
        })
    }

    /// The bytes of a block, as they were put; none if it is not here. They are not checked against the link.
    pub fn get(&self, link: &Link) -> Result<Option<Vec<u8>>, StoreError> {
        self.place(link)?.map(|place| self.reader.read(link, place)).transpose()
    }

    /// Whether the block is here.
    pub fn contains(&self, link: &Link) -> Result<bool, StoreError> {
        self.place(link).map(|place| place.is_some())
    }

    /// Stores a block; whether it is new. It can be read at once, and is durable after the next commit. After an error,
    /// a full disk for one, the store is as it was before.
    ///
    /// # Panics
    /// If the block is larger than [`limits::BLOCK_BYTES`].
    pub fn put(&self, link: &Link, bytes: &[u8]) -> Result<bool, StoreError> {
        assert!(bytes.len() <= limits::BLOCK_BYTES, "a block is at most {} bytes", limits::BLOCK_BYTES);
        let commits = self.commits.load(Ordering::Acquire);
        if self.contains(link)? {
            return Ok(false);
        }
        self.check()?;
        let mut writer = self.writer.lock();
        // Another thread may have put it meanwhile, and may even have committed it.
        let put_meanwhile = self.pending.read().place(link).is_some();
        if put_meanwhile || self.commits.load(Ordering::Acquire) != commits && self.index.place(link)?.is_some() {
            return Ok(false);
        }
        let place = writer.append(link, bytes)?;
        self.pending.write().open.insert(*link, place);
        self.put_blocks.fetch_add(1, Ordering::Relaxed);
        self.put_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(true)
    }

    /// Makes everything durable that was put before, and then what `commit` says: all of it or nothing. When the
    /// disk is full it can be tried again. After any other error the store only reads until it is opened anew, because the
    /// system may have dropped what it could not write.
    pub fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        let _one_at_a_time = self.commit.lock();
        self.check()?;
        let (end, unsynced, closing) = self.close_pending();
        if let Err(error) = unsynced.sync(&self.packs) {
            self.failed.store(true, Ordering::Release);
            return Err(error);
        }
        let result = self.index.commit(end, closing.iter(), &commit);
        let mut pending = self.pending.write();
        let closing = std::mem::take(&mut pending.closing);
        match &result {
            Ok(()) => drop(self.commits.fetch_add(1, Ordering::AcqRel)),
            Err(error) => {
                pending.open.extend(closing.iter());
                // On a full disk nothing of it was written. After anything else, what the index says may not be on disk.
                if !matches!(error, StoreError::Full(_)) {
                    self.failed.store(true, Ordering::Release);
                }
            }
        }
        result
    }

    fn close_pending(&self) -> (End, pack::Unsynced, Arc<HashMap<Link, Place>>) {
        let mut writer = self.writer.lock();
        let mut pending = self.pending.write();
        pending.closing = Arc::new(std::mem::take(&mut pending.open));
        let (end, unsynced) = writer.take_unsynced();
        (end, unsynced, pending.closing.clone())
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Acquire) {
            let source = io::Error::other("a sync failed before; mount again");
            return Err(StoreError::Io { doing: "write", path: self.packs.clone(), source });
        }
        Ok(())
    }

    fn place(&self, link: &Link) -> Result<Option<Place>, StoreError> {
        let pending = self.pending.read().place(link);
        // What has left `pending` since is in the index.
        if pending.is_some() { Ok(pending) } else { self.index.place(link) }
    }

    /// The signed bytes of a manifest.
    pub fn manifest(&self, link: &Link) -> Result<Option<Vec<u8>>, StoreError> {
        self.index.manifest(link)
    }

    /// All manifests in the order in which they were committed, read as they are asked for. Ends after an error.
    pub fn manifests(&self) -> impl Iterator<Item = Result<(Link, Vec<u8>), StoreError>> + '_ {
        let mut numbers = 0..;
        let mut batch = VecDeque::new();
        let mut failed = false;
        std::iter::from_fn(move || {
            if batch.is_empty() && !failed {
                match self.index.manifests(&mut numbers) {
                    Ok(next) => batch.extend(next),
                    Err(error) => {
                        failed = true;
                        return Some(Err(error));
                    }
                }
            }
            batch.pop_front().map(Ok)
        })
    }

    /// A named value.
    pub fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.index.meta(key)
    }

    /// How much there is.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let pending = {
            let pending = self.pending.read();
            pending.open.len() + pending.closing.len()
        };
        let segments = pack::bytes(&self.packs).map_err(|source| StoreError::io("list", &self.packs, source))?;
        let index = fs::metadata(self.index.path());
        let index = index.map_err(|source| StoreError::io("look at", self.index.path(), source))?.len();
        Ok(Stats {
            blocks: self.index.blocks()? + pending as u64,
            bytes: segments + index,
            put_blocks: self.put_blocks.load(Ordering::Relaxed),
            put_bytes: self.put_bytes.load(Ordering::Relaxed),
        })
    }

    /// Calls `visit` with every committed block and its length, in the order of digests. What it puts is not visited.
    pub fn for_each_block(&self, visit: &mut dyn FnMut(Link, u32)) -> Result<(), StoreError> {
        self.index.for_each_block(visit)
    }
}
