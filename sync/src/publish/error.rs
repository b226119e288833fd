//! What can go wrong with a bucket as a whole.

use std::io;
use std::path::PathBuf;

use crate::bucket::{AccessError, DeviceId, KeyFileError, ListRejected, MemberListError, Rejected};
use crate::chain::{LoadError, Refusal};
use crate::crypto::label::LabelError;
use crate::link::Link;
use crate::store::StoreError;
use crate::tree::TreeError;

/// Why a bucket could not be made, opened, read or published to.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The store below.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tree of a version.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// What is stored is no chain.
    #[error(transparent)]
    Chain(#[from] LoadError),
    /// A stored manifest, or one that was to be published, is not valid.
    #[error("manifest: {0}")]
    Manifest(#[from] Rejected),
    /// A stored member list is not valid.
    #[error("member list {link}: {why}")]
    Members {
        /// Which.
        link: Link,
        /// Why not.
        why: ListRejected,
    },
    /// A member list could not be made.
    #[error(transparent)]
    MemberList(#[from] MemberListError),
    /// This device has no keys to the bucket.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A mirror keeps a bucket that it can not read.
    #[error("this device keeps the bucket as a mirror, and can not read it")]
    Mirror,
    /// A reader can not publish.
    #[error("this device may read the bucket, and not write to it")]
    NotAWriter,
    /// Another version became the head since the one was made that was to follow it.
    #[error("the bucket has a newer version")]
    Superseded,
    /// This device's policy lets it publish nothing now.
    #[error("nothing is published: {0}")]
    Refused(#[from] Refusal),
    /// What was synced last was made on the version that is shown, and has to be published there.
    #[error("something that was written is not published yet: mount the bucket and unmount it, and try again")]
    Unpublished,
    /// No manifest of this bucket.
    #[error("version {} is not known here", .0.short())]
    UnknownVersion(Link),
    /// Its content was dropped, or has not come yet.
    #[error("the content of version {} is not on this machine", .0.short())]
    NoContent(Link),
    /// There is nothing to be done.
    #[error("device {} is a member already", .0.short())]
    AlreadyMember(DeviceId),
    /// Nobody to be removed.
    #[error("device {} is no member that can be removed here", .0.short())]
    NotAMember(DeviceId),
    /// Nobody makes so many.
    #[error("there are too many open tickets: wait until some of them expire")]
    TooManyInvitations,
    /// A peer sent something else than was asked for.
    #[error("block {0} is not what its link names")]
    WrongBlock(Link),
    /// A name that no bucket or device can have.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// Whoever asked for it does not want it any more.
    #[error("it was broken off")]
    Cancelled,
    /// Something that every bucket has is not there.
    #[error("the bucket is damaged: {0} is missing")]
    Missing(&'static str),
    /// What is needed can not be found out, and so nothing was dropped.
    #[error("nothing was dropped, since something in {what} can not be read: {path}: {why}")]
    Unmarkable {
        /// In which version.
        what: String,
        /// The names down to it; empty for the root.
        path: String,
        /// Why not.
        why: TreeError,
    },
    /// The journal may name blocks, and does not say which.
    #[error(
        "nothing was dropped, since the journal is damaged: mount the bucket, so that it is begun anew, and try again"
    )]
    DamagedJournal,
    /// More is stored than fits in memory to collect garbage.
    #[error("nothing was dropped, since the bucket has too many blocks for that")]
    TooLarge,
    /// Only one collection or check at a time.
    #[error("the bucket is being checked, or garbage is being collected in it: try again later")]
    Busy,
    /// The system's answer.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
