//! A bucket as a file system: FUSE in front, an overlay of unpublished changes in the middle, a bucket of `jaxfs-sync`
//! behind.
//!
//! From the kernel down: `fuse` translates requests, `fs` carries them out on the inode table, `dirty` holds what was
//! written and `writeback` turns it into new versions of the tree, when `schedule` says so. What programs may rely on is
//! described in this crate's README.
//!
//! Built without the `net` feature of `jaxfs-sync`, so that it can not name a peer.

mod dirty;
mod errno;
mod fs;
mod fuse;
mod handover;
mod invalidate;
mod limits;
mod schedule;
mod session;
mod syncer;
mod writeback;

pub use session::{Mounted, detach, find_helper, mount};

/// Whose the files are shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Everything belongs to this user and group, `chown` is refused, and what is stored stays.
    Me {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// The stored numbers.
    Stored,
}

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Refuse every change.
    pub read_only: bool,
    /// Whose the files are.
    pub owner: Owner,
    /// Let other users in, as far as the files' modes do.
    pub allow_other: bool,
    /// Honour set-id bits. Root only.
    pub suid: bool,
    /// Honour device nodes. Root only.
    pub dev: bool,
    /// Bytes of decrypted blocks that are kept in memory.
    pub cache_bytes: usize,
    /// Bytes of unsealed writes that are kept in memory before writers wait.
    pub dirty_bytes: usize,
    /// Bytes that all buckets which are stored beside this one may take, it included. What is beyond that is `EDQUOT`.
    pub most_space: Option<u64>,
}

/// Why a mount can not be, or not be as asked.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel has no FUSE device.
    #[error("there is no /dev/fuse: load the kernel module with `modprobe fuse`, or give the container the device")]
    NoDevice,
    /// A user who is not root needs the helper program.
    #[error("fusermount3 is not installed: install the package fuse3 (`apt-get install fuse3`)")]
    NoHelper,
    /// The kernel or the helper says no.
    #[error("mounting is refused: {0}")]
    Refused(std::io::Error),
    /// The kernel or the helper does not let go of a mount.
    #[error("it can not be taken down: {0}")]
    Stuck(std::io::Error),
    /// The newest version can not be read.
    #[error("the bucket can not be read: run `jaxfs verify`")]
    Unreadable,
    /// What was written can not be stored.
    #[error("what was written can not be published: {0}")]
    Unpublished(String),
    /// Publishing takes longer than the caller wants to wait. It goes on.
    #[error("publishing takes longer than that; it goes on")]
    TooSlow,
}

/// What a mount is busy with.
#[derive(Clone, Debug)]
pub struct MountStatus {
    /// Names that changed and are not written back yet.
    pub unpublished: u64,
    /// Bytes that were written and are not sealed yet.
    pub dirty_bytes: u64,
    /// Why the last write-back failed, if it did.
    pub trouble: Option<String>,
    /// Inodes in memory.
    pub inodes: u64,
}
