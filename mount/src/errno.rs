//! What can go wrong in the file system, and the number that a program gets for it.

use fuser::Errno;
use jaxfs_sync::publish::BucketError;
use jaxfs_sync::store::StoreError;
use jaxfs_sync::tree::TreeError;

/// Why an operation did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FsError {
    #[error("no such file or directory")]
    NotFound,
    #[error("file exists")]
    Exists,
    #[error("not a directory")]
    NotDirectory,
    #[error("is a directory")]
    IsDirectory,
    #[error("directory not empty")]
    NotEmpty,
    #[error("invalid argument")]
    Invalid,
    #[error("name too long")]
    NameTooLong,
    #[error("operation not permitted")]
    NotPermitted,
    #[error("permission denied")]
    Denied,
    #[error("file too large")]
    TooLarge,
    #[error("too many links")]
    TooManyLinks,
    #[error("no such attribute")]
    NoAttribute,
    #[error("buffer too small")]
    Range,
    #[error("not supported")]
    Unsupported,
    #[error("no such offset")]
    NoOffset,
    #[error("bad handle")]
    BadHandle,
    #[error("read-only")]
    ReadOnly,
    #[error("no space left")]
    NoSpace,
    #[error("no space left within --max-space")]
    OverQuota,
    #[error("try again")]
    Again,
    /// What was looked up is not there any more: the kernel looks it up anew.
    #[error("stale handle")]
    Stale,
    /// Content that is on other machines: it can be asked for.
    #[error("not on this machine")]
    Absent,
    #[error("the disk failed")]
    Disk,
    #[error("input/output error")]
    Io,
}

impl FsError {
    /// The errno of the Linux manual pages for this error.
    pub(crate) const fn errno(self) -> Errno {
        match self {
            FsError::NotFound => Errno::ENOENT,
            FsError::Exists => Errno::EEXIST,
            FsError::NotDirectory => Errno::ENOTDIR,
            FsError::IsDirectory => Errno::EISDIR,
            FsError::NotEmpty => Errno::ENOTEMPTY,
            FsError::Invalid => Errno::EINVAL,
            FsError::NameTooLong => Errno::ENAMETOOLONG,
            FsError::NotPermitted => Errno::EPERM,
            FsError::Denied => Errno::EACCES,
            FsError::TooLarge => Errno::EFBIG,
            FsError::TooManyLinks => Errno::EMLINK,
            FsError::NoAttribute => Errno::ENODATA,
            FsError::Range => Errno::ERANGE,
            FsError::Unsupported => Errno::EOPNOTSUPP,
            FsError::NoOffset => Errno::ENXIO,
            FsError::BadHandle => Errno::EBADF,
            FsError::ReadOnly => Errno::EROFS,
            FsError::NoSpace => Errno::ENOSPC,
            FsError::OverQuota => Errno::EDQUOT,
            FsError::Again => Errno::EAGAIN,
            FsError::Stale => Errno::ESTALE,
            FsError::Disk | FsError::Absent | FsError::Io => Errno::EIO,
        }
    }
}

impl From<TreeError> for FsError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Store(StoreError::Full { .. }) => FsError::NoSpace,
            TreeError::Missing(_) => FsError::Absent,
            other => {
                tracing::error!(error = %other, "reading or writing stored blocks failed");
                if let TreeError::Store(StoreError::Io { .. }) = other { FsError::Disk } else { FsError::Io }
            }
        }
    }
}

impl From<BucketError> for FsError {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Tree(inner) => inner.into(),
            BucketError::Store(inner) => TreeError::Store(inner).into(),
            BucketError::NotAWriter | BucketError::Superseded | BucketError::Refused(_) => FsError::ReadOnly,
            other => {
                tracing::error!(error = %other, "publishing failed");
                FsError::Io
            }
        }
    }
}
