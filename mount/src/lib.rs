//! A bucket as a file system.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jaxfs_sync::link::Link;
use jaxfs_sync::publish::Bucket;

/// Whose the files are shown as.
pub enum Owner {
    /// everything belongs to this user and group; chown is refused
    Me { uid: u32, gid: u32 },
    /// the stored numbers
    Stored,
}

pub struct MountOptions {
    pub read_only: bool,
    pub owner: Owner,
    pub allow_other: bool,
    /// only root may ask for these
    pub suid: bool,
    pub dev: bool,
    /// bytes of decrypted blocks to keep; bytes of unpublished writes to hold before writers wait
    pub cache_bytes: usize,
    pub dirty_bytes: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct MountError;

pub struct Mounted;

pub struct MountStatus {
    /// files and directories changed and not yet published
    pub unpublished: u64,
    /// bytes written and not yet sealed
    pub dirty_bytes: u64,
    /// the last failure to write back, if nothing has succeeded since
    pub trouble: Option<String>,
}

/// Mounts; returns when the mount is live.
pub fn mount(bucket: Arc<Bucket>, dir: &Path, options: &MountOptions) -> Result<Mounted, MountError> { unimplemented!() }

impl Mounted {
    /// Publishes everything written so far; returns the head.
    pub fn sync(&self) -> Result<Link, MountError> { unimplemented!() }
    pub fn status(&self) -> MountStatus { unimplemented!() }
    /// Flushes for at most `flush`, unmounts, and detaches lazily what is busy. True if it was busy.
    pub fn unmount(&self, flush: Duration) -> Result<bool, MountError> { unimplemented!() }
    /// Blocks until the mount is gone, however that came (also by umount(8)); everything is published then.
    pub fn wait(&self) { unimplemented!() }
}
