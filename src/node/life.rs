//! What is mounted, who is connected, and whether the node may leave.
//!
//! A node that a mount started leaves once nothing is mounted and no request is worked on; before its first mount it
//! also waits for its clients. From then on every request is told so, and asks the next node.
//! One lock, held for look-ups only: never while a bucket, a mount or a client is talked to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jaxfs_mount::Mounted;
use jaxfs_sync::link::BucketId;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::control::protocol::{Failure, FailureKind};

/// The node's table of mounts and its reasons to stay.
pub(crate) struct Life {
    inner: Mutex<Inner>,
    /// A mount is made or gone.
    changed: Condvar,
    /// The node is leaving.
    left: Notify,
}

struct Inner {
    mounts: BTreeMap<PathBuf, Slot>,
    next_serial: u64,
    /// Leaves when nothing is mounted any more.
    leaves: bool,
    had_mount: bool,
    connections: usize,
    requests: usize,
    leaving: bool,
}

struct Slot {
    serial: u64,
    bucket: BucketId,
    read_only: bool,
    /// Absent while it is being mounted.
    mounted: Option<Arc<Mounted>>,
}

/// A live mount.
#[derive(Clone)]
pub(crate) struct LiveMount {
    pub(crate) dir: PathBuf,
    pub(crate) bucket: BucketId,
    pub(crate) read_only: bool,
    pub(crate) mounted: Arc<Mounted>,
    serial: u64,
}

impl Life {
    /// A life without mounts. With `leaves` it ends with the last one.
    pub(crate) fn new(leaves: bool) -> Arc<Self> {
        let inner = Inner {
            mounts: BTreeMap::new(),
            next_serial: 0,
            leaves,
            had_mount: false,
            connections: 0,
            requests: 0,
            leaving: false,
        };
        Arc::new(Self { inner: Mutex::new(inner), changed: Condvar::new(), left: Notify::new() })
    }

    /// Returns once the node may leave.
    pub(crate) async fn left(&self) {
        self.left.notified().await;
    }

    /// Whether it ends with its last mount.
    pub(crate) fn leaves(&self) -> bool {
        self.inner.lock().leaves
    }

    /// Counts a client for as long as the value lives.
    pub(crate) fn connected(self: &Arc<Self>) -> Connection {
        self.inner.lock().connections += 1;
        Connection(self.clone())
    }

    /// Counts a request for as long as the value lives; refused once the node is leaving.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<Work, Failure> {
        let mut inner = self.inner.lock();
        if inner.leaving {
            return Err(Failure::new(FailureKind::Leaving, "the node is about to end: try again"));
        }
        inner.requests += 1;
        Ok(Work(self.clone()))
    }

    /// Leaves if nobody ever came.
    pub(crate) fn leave_if_unused(&self) {
        self.update(|_| {});
    }

    /// Whether the node would leave if the present request were its last.
    pub(crate) fn is_last_request(&self) -> bool {
        let inner = self.inner.lock();
        inner.leaves && inner.mounts.is_empty() && inner.requests <= 1
    }

    /// Changes what is counted, and leaves if there is no reason to stay.
    fn update(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner.lock();
        change(&mut inner);
        let unused = inner.mounts.is_empty() && inner.requests == 0;
        if inner.leaves && !inner.leaving && unused && (inner.had_mount || inner.connections == 0) {
            inner.leaving = true;
            self.left.notify_one();
        }
    }

    /// Keeps `dir` and `bucket` for a mount that is about to be made. Both can be mounted once.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        dir: &Path,
        bucket: BucketId,
        read_only: bool,
    ) -> Result<Reservation, Failure> {
        let mut inner = self.inner.lock();
        let taken = inner.mounts.iter().find(|(point, slot)| *point == dir || slot.bucket == bucket);
        if let Some((point, _)) = taken {
            let point = point.display();
            let also = if read_only { " (a second, read-only mount is not offered yet)" } else { "" };
            let message =
                format!("this is already mounted at {point}{also}: use that, or `jaxfs unmount {point}` first");
            return Err(Failure::new(FailureKind::Other, message));
        }
        let serial = inner.next_serial;
        inner.next_serial += 1;
        inner.mounts.insert(dir.to_owned(), Slot { serial, bucket, read_only, mounted: None });
        Ok(Reservation { life: self.clone(), dir: dir.to_owned(), serial, kept: false })
    }

    /// All live mounts.
    pub(crate) fn mounts(&self) -> Vec<LiveMount> {
        self.inner.lock().mounts.iter().filter_map(|(dir, slot)| slot.live(dir)).collect()
    }

    /// The live mount at `dir`, or the innermost one above it.
    pub(crate) fn above(&self, dir: &Path) -> Option<LiveMount> {
        let inner = self.inner.lock();
        dir.ancestors().find_map(|dir| inner.mounts.get(dir).and_then(|slot| slot.live(dir)))
    }

    /// Where a bucket is mounted.
    pub(crate) fn mount_of(&self, bucket: BucketId) -> Option<LiveMount> {
        self.mounts().into_iter().find(|mount| mount.bucket == bucket)
    }

    /// Waits until `mount` is gone. False if that took longer than `limit`.
    pub(crate) fn wait_gone(&self, mount: &LiveMount, limit: Option<Duration>) -> bool {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut inner = self.inner.lock();
        while inner.has(&mount.dir, mount.serial) {
            match deadline {
                None => self.changed.wait(&mut inner),
                Some(deadline) if self.changed.wait_until(&mut inner, deadline).timed_out() => return false,
                Some(_) => {}
            }
        }
        true
    }

    /// Waits until no mount is being made, for at most `limit`.
    pub(crate) fn wait_made(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut inner = self.inner.lock();
        while inner.mounts.values().any(|slot| slot.mounted.is_none()) {
            if self.changed.wait_until(&mut inner, deadline).timed_out() {
                return;
            }
        }
    }

    /// Strikes a mount that is gone off the table.
    pub(crate) fn forget(&self, mount: &LiveMount) {
        self.strike(&mount.dir, mount.serial);
    }

    fn strike(&self, dir: &Path, serial: u64) {
        self.update(|inner| {
            if inner.has(dir, serial) {
                inner.mounts.remove(dir);
            }
        });
        self.changed.notify_all();
    }
}

impl Inner {
    fn has(&self, dir: &Path, serial: u64) -> bool {
        self.mounts.get(dir).is_some_and(|slot| slot.serial == serial)
    }
}

impl Slot {
    fn live(&self, dir: &Path) -> Option<LiveMount> {
        let mounted = self.mounted.clone()?;
        let (bucket, read_only, serial) = (self.bucket, self.read_only, self.serial);
        Some(LiveMount { dir: dir.to_owned(), bucket, read_only, mounted, serial })
    }
}

/// A place in the table, given back when it is dropped.
#[must_use]
pub(crate) struct Reservation {
    life: Arc<Life>,
    dir: PathBuf,
    serial: u64,
    kept: bool,
}

impl Reservation {
    /// The mount is live. It is watched from now on, and struck off when it is gone, however that comes.
    pub(crate) fn keep(mut self, mounted: Mounted) -> std::io::Result<()> {
        let mounted = Arc::new(mounted);
        let (life, dir, serial) = (self.life.clone(), self.dir.clone(), self.serial);
        let watched = mounted.clone();
        thread::Builder::new().name("mount-watch".to_owned()).spawn(move || {
            watched.wait();
            drop(watched);
            life.strike(&dir, serial);
        })?;
        let mut inner = self.life.inner.lock();
        inner.had_mount = true;
        if let Some(slot) = inner.mounts.get_mut(&self.dir).filter(|slot| slot.serial == self.serial) {
            slot.mounted = Some(mounted);
        }
        drop(inner);
        self.life.changed.notify_all();
        self.kept = true;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.kept {
            self.life.strike(&self.dir, self.serial);
        }
    }
}

/// A client that is connected.
#[must_use]
pub(crate) struct Connection(Arc<Life>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.update(|inner| inner.connections -= 1);
    }
}

/// A request that is worked on.
#[must_use]
pub(crate) struct Work(Arc<Life>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.update(|inner| inner.requests -= 1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn bucket(n: u128) -> BucketId {
        BucketId(uuid::Uuid::from_u128(n))
    }

    fn leaving(life: &Life) -> bool {
        life.inner.lock().leaving
    }

    #[test]
    fn a_directory_and_a_bucket_are_mounted_once() {
        let life = Life::new(true);
        let first = life.reserve(Path::new("/a"), bucket(1), false).unwrap();
        let refused = life.reserve(Path::new("/b"), bucket(1), false).err().unwrap();
        assert!(refused.message.contains("/a"), "{refused}");
        assert!(life.reserve(Path::new("/a"), bucket(2), true).is_err());
        let second = life.reserve(Path::new("/b"), bucket(2), false).unwrap();
        drop((first, second));
        assert!(life.reserve(Path::new("/b"), bucket(1), false).is_ok());
    }

    #[test]
    fn before_the_first_mount_a_node_stays_as_long_as_a_client_is_connected() {
        let life = Life::new(true);
        let client = life.connected();
        drop(life.begin().unwrap());
        drop(life.reserve(Path::new("/a"), bucket(1), false).unwrap());
        assert!(!leaving(&life));
        drop(client);
        assert!(leaving(&life));
        assert_eq!(life.begin().err().unwrap().kind, FailureKind::Leaving);
    }

    #[test]
    fn a_node_in_the_foreground_stays() {
        let life = Life::new(false);
        drop(life.connected());
        life.leave_if_unused();
        assert!(!leaving(&life));
    }
}
