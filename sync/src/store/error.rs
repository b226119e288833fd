//! What can go wrong on the way to the disk and back.

use std::io;
use std::path::{Path, PathBuf};

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
    #[error("{} has version {version}, this program knows {}: update jaxfs", .path.display(), super::VERSION)]
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

impl StoreError {
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full(path.to_owned()),
            _ => StoreError::Io { doing, path: path.to_owned(), source },
        }
    }

    pub(super) fn damaged(what: impl Into<String>) -> Self {
        StoreError::Damaged { what: what.into() }
    }
}
