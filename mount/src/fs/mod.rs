//! The file system, without FUSE: a bucket's tree with what has changed in it, and the operations on it.
//!
//! Locks, in the order in which they are taken: the flusher, the gate, `using`, the inode table, then one file's state, then the write-back's state.
//! None is held while blocks are read, written or sealed; an operation that needs a stored node looks it up first and
//! checks, under the lock, that what it saw still stands.

mod acl;
mod attributes;
mod conflict;
mod file;
mod flush;
mod handles;
mod held;
mod listing;
mod log;
#[cfg(test)]
mod model;
mod names;
#[cfg(test)]
#[path = "../../tests/pair/mod.rs"]
mod pair;
mod redo;
mod space;
mod switch;
mod table;
mod unsynced;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jaxfs_sync::link::Link;
use jaxfs_sync::publish::{Bucket, BucketError};
use jaxfs_sync::tree::{Body, Record, Superblock, Time, Vault};
use parking_lot::{Mutex, RecursiveRwLock, RecursiveRwLockReadGuard, RecursiveRwLockWriteGuard, RwLock};

pub(crate) use attributes::{Changed, Stat};
use file::Budget;
pub(crate) use file::{Chunk, File, Writing};
use flush::Flusher;
use handles::Handles;
use log::Log;
pub(crate) use names::{New, OnTarget};
use space::Disk;
pub(crate) use table::{Ino, Stale};
use table::{Object, Table};

use crate::Owner;
use crate::errno::FsError;
use crate::invalidate::News;
use crate::limits;
use crate::syncer::Syncer;
use crate::writeback::{Durability, Writeback};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The thread that asks; 0 if it can not be seen from here.
    pub(crate) pid: u32,
    /// What it takes away from the mode of what it makes, if it makes something.
    pub(crate) umask: u16,
}

impl Caller {
    /// The groups it is in, as far as can be found out: FUSE tells of one.
    fn groups(&self) -> Vec<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let more = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
        std::iter::once(self.gid).chain(more.split_whitespace().filter_map(|gid| gid.parse().ok())).collect()
    }
}

/// How a bucket is shown and written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) owner: Owner,
    /// Bytes of dirty extents before writers wait.
    pub(crate) dirty_limit: usize,
    /// Bytes that the home may take.
    pub(crate) most_space: Option<u64>,
}

/// A change that waits for the gate.
type Deferred = Box<dyn FnOnce(&Arc<Fs>) + Send>;

/// The gate, while changes are kept out.
struct Kept<'a> {
    gate: RecursiveRwLockWriteGuard<'a, bool>,
    keepers: &'a AtomicUsize,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.keepers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A bucket as a file system.
pub(crate) struct Fs {
    bucket: Arc<Bucket>,
    owner: Owner,
    /// Whether the kernel heeds POSIX ACLs.
    acls: AtomicBool,
    table: Mutex<Table>,
    handles: Handles,
    budget: Arc<Budget>,
    dirty_limit: usize,
    /// Files up to this size are handed to the kernel by chunks.
    handover_limit: u64,
    writeback: Writeback,
    syncer: Syncer<Ino>,
    disk: Disk,
    news: Arc<News>,
    flusher: Mutex<Flusher>,
    /// Held, shared, while what was taken from the table or a file is used without their locks, so that a collection of garbage can
    /// wait for that. After the flusher and the gate, before all other locks; never twice by one thread.
    using: RwLock<()>,
    /// Whether changes are taken. Held, shared, by each operation that changes something, so that closing it waits for
    /// those under way. After the flusher, before all other locks.
    gate: RecursiveRwLock<bool>,
    /// Who keeps the gate, or waits for that.
    keepers: AtomicUsize,
    /// Changes that came meanwhile.
    deferred: Mutex<Vec<Deferred>>,
}

impl Fs {
    /// The bucket's newest state on this machine, published or not, with what its journal has beyond that.
    pub(crate) fn new(bucket: Arc<Bucket>, settings: Settings) -> Result<Arc<Self>, FsError> {
        let made = Arc::clone(&bucket);
        bucket.attach(|| Self::build(made, settings).map(Arc::new))
    }

    fn build(bucket: Arc<Bucket>, settings: Settings) -> Result<Self, FsError> {
        let (superblock, base) = (bucket.superblock()?, bucket.head());
        let reached = if bucket.has_checkpoint() { Durability::Durable } else { Durability::Published };
        let budget = Arc::new(Budget::default());
        let journal = bucket.journaled()?;
        let Superblock { root, inodes } = &superblock;
        let log = Log::new(journal.next_generation, journal.used);
        let table = Table::new(root, inodes.clone(), log, |record| object(record, &budget));
        // A journal without anything in it is not worth a commit.
        let generation = if journal.used { journal.generation } else { journal.next_generation };
        let fs = Self {
            table: Mutex::new(table),
            handles: Handles::default(),
            writeback: Writeback::new(),
            syncer: Syncer::new(),
            disk: Disk::new(bucket.dir(), settings.most_space),
            news: Arc::default(),
            flusher: Mutex::new(Flusher::new(superblock, reached, base, generation)),
            using: RwLock::new(()),
            gate: RecursiveRwLock::new(true),
            keepers: AtomicUsize::new(0),
            deferred: Mutex::default(),
            bucket,
            owner: settings.owner,
            acls: AtomicBool::new(false),
            budget,
            dirty_limit: settings.dirty_limit,
            handover_limit: memory_bytes() / limits::HANDOVER_SHARE,
        };
        if reached < Durability::Published {
            fs.changed();
        }
        fs.redo(journal.changes)?;
        if journal.used {
            fs.changed();
        }
        Ok(fs)
    }

    /// The kernel heeds POSIX ACLs; else there are none to be seen.
    pub(crate) fn heed_acls(&self) {
        self.acls.store(true, Ordering::Relaxed);
    }

    fn heeds_acls(&self) -> bool {
        self.acls.load(Ordering::Relaxed)
    }

    fn vault(&self) -> &Vault {
        self.bucket.vault()
    }

    /// The thread that publishes, to be run by whoever mounts.
    pub(crate) fn write_back(self: &Arc<Self>) {
        let flush = |durability| self.flush(self.at_least(durability));
        self.writeback.run(flush, || self.needs_relief(), || self.turn());
        self.refuse_changes(Duration::MAX);
    }

    /// Waits until everything written so far is published, at most for `limit`; `None` if that was too short.
    pub(crate) fn publish(&self, limit: Duration) -> Option<Result<Link, FsError>> {
        let done = self.writeback.wait_for(Durability::Published, limit)?;
        Some(done.map(|()| self.bucket.head()))
    }

    /// Refuses all changes from here on. Those under way are finished on return, if it gives true: if they took no longer
    /// than `limit`.
    pub(crate) fn refuse_changes(self: &Arc<Self>, limit: Duration) -> bool {
        self.set_gate(false, limit)
    }

    /// Takes changes again.
    pub(crate) fn take_changes(self: &Arc<Self>) {
        self.set_gate(true, Duration::MAX);
    }

    fn set_gate(self: &Arc<Self>, open: bool, limit: Duration) -> bool {
        let set = self.keep_gate(limit).map(|mut kept| *kept.gate = open).is_some();
        self.do_deferred();
        set
    }

    /// Keeps changes out while what it gives is held, once those under way are finished; none if they take longer than
    /// `limit`. What comes meanwhile has to be done afterwards ([`Fs::do_deferred`]).
    fn keep_gate(&self, limit: Duration) -> Option<Kept<'_>> {
        self.keepers.fetch_add(1, Ordering::SeqCst);
        let gate = match Instant::now().checked_add(limit) {
            Some(deadline) => self.gate.try_write_until(deadline),
            None => Some(self.gate.write()),
        };
        if gate.is_none() {
            self.keepers.fetch_sub(1, Ordering::SeqCst);
        }
        gate.map(|gate| Kept { gate, keepers: &self.keepers })
    }

    /// Does a change: at once, or, if somebody keeps the gate, when he is done. No thread waits for that, so that those who
    /// answer the kernel go on.
    pub(crate) fn edit(self: &Arc<Self>, edit: impl FnOnce(&Arc<Self>) + Send + 'static) {
        if let Some(_kept_open) = self.through_gate() {
            return edit(self);
        }
        self.deferred.lock().push(Box::new(edit));
        // He may have left before it was there to be found.
        if self.keepers.load(Ordering::SeqCst) == 0 {
            self.do_deferred();
        }
    }

    /// Nobody keeps the gate while what it gives is held; none if somebody does, or is about to.
    fn through_gate(&self) -> Option<RecursiveRwLockReadGuard<'_, bool>> {
        let is_free = self.keepers.load(Ordering::SeqCst) == 0;
        is_free.then(|| self.gate.try_read()).flatten()
    }

    /// Does what came while the gate was kept; for whoever kept it, afterwards.
    fn do_deferred(self: &Arc<Self>) {
        let deferred = std::mem::take(&mut *self.deferred.lock());
        deferred.into_iter().for_each(|edit| edit(self));
    }

    /// Whether so much is dirty that it should be sealed.
    fn memory_is_short(&self) -> bool {
        self.budget.dirty.get() > self.dirty_limit / 2
    }

    /// Whether something should be written back, so that there is room for what comes.
    fn needs_relief(&self) -> bool {
        self.memory_is_short() || self.bucket.journal_is_filling()
    }

    /// How far a run goes that has to go so far. What is only sealed can not go to the journal any more, so that the next
    /// `fsync` waits for a version. Where somebody syncs, the run itself makes one, and nobody waits for it.
    fn at_least(&self, durability: Durability) -> Durability {
        if self.table.lock().log.is_journaled() { durability.max(Durability::Durable) } else { durability }
    }

    /// Lets an operation change something while what it gives is held.
    fn enter(&self) -> Result<RecursiveRwLockReadGuard<'_, bool>, FsError> {
        let open = self.gate.read();
        if *open { Ok(open) } else { Err(FsError::ReadOnly) }
    }

    /// Whether something new may be begun. What goes on through handles that are open is taken in any case, and published
    /// once that is allowed again.
    ///
    /// # Errors
    /// If this device's policy lets it publish nothing now.
    fn may_begin(&self) -> Result<(), FsError> {
        self.bucket.may_publish().map_err(|why| BucketError::from(why).into())
    }

    /// Ends the threads after one last attempt to publish.
    pub(crate) fn stop(&self) {
        self.syncer.stop();
        self.writeback.stop();
    }

    /// Names changed and not being written back yet, bytes of dirty extents, and what went wrong last.
    pub(crate) fn pending(&self) -> (u64, u64, Option<FsError>) {
        let changed = self.table.lock().changed();
        (changed, self.budget.dirty.get() as u64, self.writeback.trouble())
    }

    /// How many inodes are in memory.
    pub(crate) fn inodes(&self) -> usize {
        self.table.lock().len()
    }

    /// What a stored record is in memory.
    fn object(&self, record: &Record) -> Object {
        object(record, &self.budget)
    }

    /// Tells the write-back that a name or an attribute changed.
    fn changed(&self) {
        self.writeback.note(|schedule| schedule.changed(Instant::now()));
    }
}

fn object(record: &Record, budget: &Arc<Budget>) -> Object {
    match &record.body {
        Body::Directory(base) => Object::Directory(table::Directory::new(base.clone())),
        Body::File(content) => Object::File(Arc::new(File::new(content.clone(), Arc::clone(budget)))),
        Body::Symlink(target) => Object::Symlink(target.clone()),
        special => Object::Special(special.clone()),
    }
}

/// The machine's memory.
fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(info.mem_unit.into())
}

/// The time of day.
fn now() -> Time {
    time_of(SystemTime::now())
}

/// A system time as a record has it.
pub(crate) fn time_of(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Time { secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            let whole = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos() {
                0 => Time { secs: -whole, nanos: 0 },
                nanos => Time { secs: -whole - 1, nanos: 1_000_000_000 - nanos },
            }
        }
    }
}
