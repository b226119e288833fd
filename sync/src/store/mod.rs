//! One bucket's blocks and metadata on disk.
//!
//! Sealed blocks are appended to *segments* (`packs/00000001.pack`, ..); *redb* (`db.redb`) holds where they are, the
//! manifests in the order of their arrival, and named values. A block can be read as soon as it is put, and is durable
//! with the next [`Store::commit`], which first syncs the segments and then makes one durable transaction. So nothing is
//! named before it is durable, and a crash loses exactly what was not committed. What is too small for a commit of its own
//! goes to a *journal* (`journal/00000001.journal`, ..) until one holds it. A commit ends in the segments with a record of its
//! manifests and of the named values, so that one that the index misses is done at the next start, and an index that is lost can
//! be [rebuilt](rebuild()) from them.
//!
//! Never here: keys, and the question whether the bytes of a block are what its link names (opening a block asks it).

mod backend;
mod collect;
#[cfg(test)]
mod crash;
pub mod disk;
mod error;
mod forward;
mod index;
mod journal;
mod pack;
mod rebuild;
mod records;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backend::Doubt;
use collect::Collecting;
pub use collect::{Collection, Sweeping, Swept};
use disk::{Disk, Open};
pub use error::StoreError;
use index::Index;
pub use journal::Frame;
use journal::Journal;
use pack::{End, Place, Reader, Writer};
use parking_lot::{Mutex, RwLock};
pub use rebuild::{Rebuilt, rebuild};
use state::State;

use crate::limits;
use crate::link::Link;

/// The version of the store's layout on disk.
pub const VERSION: u32 = 0;

/// Where a store is, and how it is laid out there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// On which disk.
    pub disk: Disk,
    /// The largest segment, at most [`limits::SEGMENT_BYTES`]. A block that is larger has one of its own.
    pub segment_bytes: u64,
    /// The size of the journal's files, at most [`limits::JOURNAL_FILE_BYTES`].
    pub journal_file_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { disk: Disk::Real, segment_bytes: limits::SEGMENT_BYTES, journal_file_bytes: limits::JOURNAL_FILE_BYTES }
    }
}

/// What becomes durable together with the blocks that were put before it.
#[derive(Debug, Default)]
pub struct Commit {
    /// Manifests and their signed bytes, appended in this order. One that is there already stays where it is. They are put as
    /// blocks too, so that the segments alone say what there is.
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
/// Locks, in this order: `commit`, `writer`, `collecting`, `pending`. `commit` is held while the disk syncs; the others only
/// for memory and, `writer`, for copying a block into the page cache, `collecting`, for a look into the index.
pub struct Store {
    disk: Disk,
    packs: PathBuf,
    index: Index,
    journal: Journal,
    reader: Reader,
    commit: Mutex<Committing>,
    writer: Mutex<Writer>,
    pending: RwLock<Pending>,
    /// What a collection of garbage has to know, while there is one.
    collecting: Mutex<Option<Collecting>>,
    /// How many commits there were: a block that was not in the index may be now.
    commits: AtomicU64,
    put_blocks: AtomicU64,
    put_bytes: AtomicU64,
    /// Nobody else opens the store while this is.
    _lock: Arc<disk::File>,
}

/// What one commit leaves to the next.
struct Committing {
    /// Segments of which a sync failed: what was written to them since the sync before may be lost whatever a later sync says.
    failed: HashSet<u32>,
    /// Manifests of commits that failed since the last one that did not. Who commits one again puts it again.
    tried: HashSet<Link>,
    /// The named values as of the last commit; none if it is not known whether that was done.
    state: Option<State>,
}

/// What a commit brings into the index: up to where the segments are filled, what of them is to be synced, and where blocks are.
type Closing = (End, pack::Unsynced, Arc<HashMap<Link, Place>>);

/// Blocks that are not in the index yet.
#[derive(Default)]
struct Pending {
    /// Put since the last commit began.
    open: HashMap<Link, Place>,
    /// On their way into the index.
    closing: Arc<HashMap<Link, Place>>,
    /// Put, and lost by a failed sync before they were durable.
    lost: HashSet<Link>,
}

impl Pending {
    fn place(&self, link: &Link) -> Option<Place> {
        self.open.get(link).or_else(|| self.closing.get(link)).copied()
    }
}

impl Store {
    /// Makes an empty store in `dir`, which is made if need be, and must not have one. Durable on return.
    pub fn create(dir: &Path) -> Result<Self, StoreError> {
        Self::create_with(&Settings::default(), dir)
    }

    /// [`Store::create`], elsewhere than on this machine's disk, or with other sizes.
    pub fn create_with(settings: &Settings, dir: &Path) -> Result<Self, StoreError> {
        let (disk, packs) = (&settings.disk, dir.join("packs"));
        disk.create_dir(&packs).map_err(|source| StoreError::io("create", &packs, source))?;
        let lock = lock(disk, dir)?;
        let index = Index::create(disk, dir.join("db.redb"), doubt(&lock, dir)?)?;
        pack::sync_dir(disk, &packs)?;
        pack::sync_dir(disk, dir)?;
        Self::start(settings, packs, index, lock)
    }

    /// Opens the store in `dir`. O(1), whatever is in it; after a crash O(index), some 0.4 s for a million blocks, and O(bytes
    /// that were written last). A commit that was cut off is done if it is whole; what was never committed is dropped.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(&Settings::default(), dir)
    }

    /// [`Store::open`], elsewhere than on this machine's disk, or with other sizes.
    pub fn open_with(settings: &Settings, dir: &Path) -> Result<Self, StoreError> {
        let lock = lock(&settings.disk, dir)?;
        let index = Index::open(&settings.disk, dir.join("db.redb"), doubt(&lock, dir)?)?;
        Self::start(settings, dir.join("packs"), index, lock)
    }

    fn start(settings: &Settings, packs: PathBuf, index: Index, lock: Arc<disk::File>) -> Result<Self, StoreError> {
        let (state, writer) = writer(settings, &packs, &index)?;
        Ok(Self {
            journal: Journal::open(settings, packs.with_file_name("journal"))?,
            disk: settings.disk.clone(),
            reader: Reader::new(settings.disk.clone(), packs.clone()),
            packs,
            index,
            commit: Mutex::new(Committing { failed: HashSet::new(), tried: HashSet::new(), state: Some(state) }),
            writer: Mutex::new(writer),
            pending: RwLock::default(),
            collecting: Mutex::default(),
            commits: AtomicU64::new(0),
            put_blocks: AtomicU64::new(0),
            put_bytes: AtomicU64::new(0),
            _lock: lock,
        })
    }

    /// The bytes of a block, as they were put; none if it is not here. They are not checked against the link.
    pub fn get(&self, link: &Link) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(place) = self.place(link)? else { return Ok(None) };
        match self.reader.read(link, place) {
            Ok(bytes) => Ok(Some(bytes)),
            // A collection may have moved or dropped it, and removed the segment.
            Err(error) => match self.place(link)? {
                None => Ok(None),
                Some(now) if now != place => self.reader.read(link, now).map(Some),
                Some(_) => Err(error),
            },
        }
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
        if self.is_here(link)? {
            return Ok(false);
        }
        let mut writer = self.writer.lock();
        // Another thread may have put it meanwhile, and may even have committed it.
        let put_meanwhile = self.pending.read().place(link).is_some();
        if put_meanwhile || self.commits.load(Ordering::Acquire) != commits && self.is_here(link)? {
            return Ok(false);
        }
        let place = writer.append(link, bytes)?;
        let mut pending = self.pending.write();
        pending.open.insert(*link, place);
        pending.lost.remove(link);
        drop(pending);
        self.put_blocks.fetch_add(1, Ordering::Relaxed);
        self.put_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(true)
    }

    /// Makes everything durable that was put before, and then what `commit` says: all of it or nothing. It can be tried
    /// again after an error, and does what it says once the disk works.
    ///
    /// # Errors
    /// If the disk is full or refuses. What was committed before is as it was; what this commit says may turn out to be
    /// there nonetheless. And if blocks that were put were lost to a failed sync, until all of them are put again, since what
    /// is committed may name them.
    pub fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        self.commit_up_to(commit).map(|_| ())
    }

    /// As [`Store::commit`]; gives up to where segments were filled by what was put before.
    fn commit_up_to(&self, commit: Commit) -> Result<End, StoreError> {
        let mut committing = self.commit.lock();
        let Committing { failed, tried, state } = &mut *committing;
        if !failed.is_empty() {
            self.rescue(failed, tried)?;
        }
        tried.extend(commit.manifests.iter().map(|(link, _)| *link));
        for (link, bytes) in &commit.manifests {
            self.put(link, bytes)?;
        }
        if let Some(link) = self.pending.read().lost.iter().next() {
            return Err(StoreError::damaged(format!("block {link} was lost before it was durable")));
        }
        let last = match state.take() {
            Some(last) => last,
            None => State { meta: self.index.all_meta()?, ..State::default() },
        };
        let next = last.next(self.index.commits().saturating_add(1), &commit);
        let (end, unsynced, closing) = self.close_pending(&next)?;
        if let Err(error) = unsynced.sync(&self.disk, &self.packs) {
            failed.extend(unsynced.segments.keys());
            self.reopen_pending(&closing);
            // At once, so that whoever tries again can put again what is lost.
            self.rescue(failed, tried)
                .unwrap_or_else(|error| tracing::warn!(%error, "blocks are yet to be written anew"));
            return Err(error);
        }
        let result = self.index.commit(end, closing.iter(), &commit);
        match &result {
            Ok(()) => {
                self.pending.write().closing = Arc::default();
                self.commits.fetch_add(1, Ordering::AcqRel);
                *state = Some(next);
                tried.clear();
            }
            // It is not known whether the index has them; they are durable, and go with the next commit.
            Err(_) => self.reopen_pending(&closing),
        }
        result.map(|()| end)
    }

    /// Ends what this commit brings into the index with the state of the store after it.
    fn close_pending(&self, state: &State) -> Result<Closing, StoreError> {
        let mut writer = self.writer.lock();
        writer.append_state(&state.encode())?;
        let mut pending = self.pending.write();
        pending.closing = Arc::new(std::mem::take(&mut pending.open));
        let (end, unsynced) = writer.take_unsynced();
        Ok((end, unsynced, pending.closing.clone()))
    }

    fn reopen_pending(&self, closing: &HashMap<Link, Place>) {
        let mut pending = self.pending.write();
        pending.closing = Arc::default();
        pending.open.extend(closing);
    }

    /// Writes the blocks anew that a failed sync may have lost. What was written once can not be synced again: the system
    /// marked its pages clean. What can still be read and is what its link names goes to a new segment, and with it to
    /// the next sync. What was committed before was synced before, and a page that holds both says the same of it in either
    /// state.
    fn rescue(&self, failed: &mut HashSet<u32>, tried: &HashSet<Link>) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        writer.leave_segments(failed);
        let unsafe_blocks: Vec<_> = {
            let pending = self.pending.read();
            let open = pending.open.iter().filter(|(_, place)| failed.contains(&place.segment));
            open.map(|(link, place)| (*link, *place)).collect()
        };
        let mut result = Ok(());
        for (link, place) in unsafe_blocks {
            let Some(bytes) = self.reader.read(&link, place).ok().filter(|bytes| link.names(bytes)) else {
                if tried.contains(&link) || self.is_safe_elsewhere(&link, failed) {
                    self.pending.write().open.remove(&link);
                    continue;
                }
                tracing::error!(%link, "a block was lost before it was durable");
                let mut pending = self.pending.write();
                pending.open.remove(&link);
                pending.lost.insert(link);
                continue;
            };
            // The others are still looked at: what is lost can be put again.
            if result.is_ok() {
                let place = writer.append(&link, &bytes);
                result = place.map(|place| self.pending.write().open.extend([(link, place)]));
            }
        }
        result?;
        failed.clear();
        Ok(())
    }

    /// Whether a block that was being moved is still where it was.
    fn is_safe_elsewhere(&self, link: &Link, failed: &HashSet<u32>) -> bool {
        let place = self.index.place(link).ok().flatten().filter(|place| !failed.contains(&place.segment));
        place.is_some_and(|place| self.reader.read(link, place).is_ok_and(|bytes| link.names(&bytes)))
    }

    fn place(&self, link: &Link) -> Result<Option<Place>, StoreError> {
        let pending = self.pending.read().place(link);
        // What has left `pending` since is in the index.
        if pending.is_some() { Ok(pending) } else { self.index.place(link) }
    }

    /// Notes, durably, that the content of versions is dropped, before it is.
    pub fn note_dropped(&self, manifests: &[Link]) -> Result<(), StoreError> {
        let _no_commit = self.commit.lock();
        if manifests.is_empty() { Ok(()) } else { self.index.note_dropped(manifests) }
    }

    /// Takes manifests out of the list, durably. As blocks they stay.
    pub fn give_up(&self, manifests: &[Link]) -> Result<(), StoreError> {
        let _no_commit = self.commit.lock();
        if manifests.is_empty() { Ok(()) } else { self.index.give_up(manifests) }
    }

    /// The manifests of which the content was dropped.
    pub fn dropped(&self) -> Result<HashSet<Link>, StoreError> {
        self.index.dropped()
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

    /// Appends frames to the journal: all of them or none, durable on return, without a commit. False if there is no room
    /// for them, or one before failed: something has to be committed and [forgotten](Store::forget_journal) first.
    pub fn journal(&self, frames: &[Frame]) -> Result<bool, StoreError> {
        self.journal.append(frames)
    }

    /// The frames of the journal of this generation and those after it, in their order; and whether they are all, or a
    /// damaged file ends them before.
    pub fn journaled(&self, generation: u64) -> Result<(Vec<Frame>, bool), StoreError> {
        self.journal.frames(generation)
    }

    /// The highest generation that a frame of the journal has; none if there is none.
    pub fn last_journaled(&self) -> Option<u64> {
        self.journal.last_generation()
    }

    /// Whether half of the journal is taken: then something should be committed and [forgotten](Store::forget_journal) before
    /// there is no room.
    pub fn journal_is_filling(&self) -> bool {
        self.journal.is_filling()
    }

    /// What was journaled before this generation is not needed any more.
    pub fn forget_journal(&self, generation: u64) {
        self.journal.forget_before(generation);
    }

    /// Whether the segments still say what the last commit left there, so that a lost index could be made again from them.
    ///
    /// # Errors
    /// If the disk can not be read.
    pub fn ends_whole(&self) -> Result<bool, StoreError> {
        // Nothing is committed meanwhile.
        let _still = self.commit.lock();
        let end = self.index.end()?;
        // One that was left has no end that is known.
        Ok(end.state == 0 || self.reader.state(end).is_some())
    }

    /// How much there is.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let pending = {
            let pending = self.pending.read();
            pending.open.len() + pending.closing.len()
        };
        let (segments, index) = (pack::bytes(&self.disk, &self.packs)?, self.index.bytes()?);
        Ok(Stats {
            blocks: self.index.blocks()? + pending as u64,
            bytes: segments + index,
            put_blocks: self.put_blocks.load(Ordering::Relaxed),
            put_bytes: self.put_bytes.load(Ordering::Relaxed),
        })
    }

    /// Calls `visit` with every committed block and its length, in the order of digests. Of what is committed meanwhile, some
    /// may be visited.
    pub fn for_each_block(&self, visit: &mut dyn FnMut(Link, u32)) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let blocks = self.index.blocks_after(&mut after)?;
            if blocks.is_empty() {
                return Ok(());
            }
            blocks.into_iter().for_each(|(link, place)| visit(link, place.len));
        }
    }
}

/// Finishes the commits that were cut off, and gives the state after the last one and the end of the segments. What stands
/// behind that is only dropped where the last commit itself says that the index is right: it may be the one that is damaged.
fn writer(settings: &Settings, packs: &Path, index: &Index) -> Result<(State, Writer), StoreError> {
    let (state, end) =
        (State { commits: index.commits(), manifests: Vec::new(), meta: index.all_meta()? }, index.end()?);
    let left = Reader::new(settings.disk.clone(), packs.to_path_buf()).state(end);
    if left.as_ref().is_some_and(|left| left.meta != state.meta || left.commits > state.commits) {
        return Err(StoreError::damaged("the index differs from what the last commit left in packs/"));
    }
    let forward::Forward { state, writer, later } = forward::roll_forward(settings, packs, index, state, end)?;
    let writer = match writer {
        Some(writer) => writer,
        None if left.is_some() && !later => Writer::open(settings, packs.to_path_buf(), end)?,
        None => Writer::open_behind(settings, packs.to_path_buf())?,
    };
    Ok((state, writer))
}

fn doubt(lock: &Arc<disk::File>, dir: &Path) -> Result<Doubt, StoreError> {
    Doubt::new(lock.clone()).map_err(|source| StoreError::io("read the lock in", dir, source))
}

/// Takes the store for this process.
///
/// A file of its own, not the index: that one may be replaced while the store is open.
fn lock(disk: &Disk, dir: &Path) -> Result<Arc<disk::File>, StoreError> {
    let path = dir.join("lock");
    let file = disk.open(&path, Open::Create).map_err(|source| StoreError::io("open", &path, source))?;
    match file.try_lock() {
        Ok(true) => Ok(Arc::new(file)),
        Ok(false) => Err(StoreError::Locked(dir.to_owned())),
        Err(source) => Err(StoreError::io("lock", &path, source)),
    }
}
