//! Why a manifest is refused: a value, charged to whoever sent it, and the same on every device.

use super::types::Height;
use crate::link::{Epoch, Link};

/// Why a manifest is not valid. An unknown parent or member list is not among the reasons: such a manifest waits.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Rejected {
    /// Larger than a manifest may be.
    #[error("a manifest of {0} bytes is too large")]
    TooLarge(usize),
    /// Not a manifest.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A manifest, but not in its one encoding.
    #[error("not in canonical form")]
    NotCanonical,
    /// Made by a newer program.
    #[error("the manifest has version {version}, this program knows {}: update jaxfs", super::MANIFEST_VERSION)]
    Version {
        /// Its version.
        version: u64,
    },
    /// Not signed by its author.
    #[error("bad signature")]
    BadSignature,
    /// Of another bucket.
    #[error("of another bucket")]
    WrongBucket,
    /// Of another bucket that has the same id.
    #[error("of a chain with another genesis, {0}")]
    WrongGenesis(Link),
    /// Claims to be the start of a chain that has one.
    #[error("a second genesis")]
    SecondGenesis,
    /// Not one more than the parent's.
    #[error("height {found} where {expected} belongs")]
    WrongHeight {
        /// One more than the parent's.
        expected: Height,
        /// What it says.
        found: Height,
    },
    /// The bucket's owner can not change.
    #[error("another owner than the bucket's")]
    OwnerChanged,
    /// Its author was no writer in the parent's member list.
    #[error("the author may not write")]
    NotAWriter,
    /// It changes the member list, and its author is no owner, before or after.
    #[error("the author may not change the members")]
    NotAnOwner,
    /// Its epoch is neither its parent's, nor one more with a new member list.
    #[error("epoch {} after {}", found.0, parent.0)]
    EpochStep {
        /// The parent's.
        parent: Epoch,
        /// What it says.
        found: Epoch,
    },
    /// A member lost rights, and the epoch is the same.
    #[error("a member was removed or demoted without a new epoch")]
    RemovalWithoutEpoch,
    /// A member list that is not newer than the parent's.
    #[error("a member list of sequence {found} after {parent}")]
    MembersReplayed {
        /// The sequence of the parent's list.
        parent: u64,
        /// The sequence of its own.
        found: u64,
    },
    /// The member list that it names is none of this bucket's, or is of another epoch.
    #[error("its member list is not valid for it")]
    BadMembers,
    /// The same entry, pins, share and name as its parent.
    #[error("changes nothing")]
    ChangesNothing,
    /// Says that it carries more orphans than a manifest may.
    #[error("re-applies {0} orphans at once")]
    TooManyReapplied(usize),
    /// The orphans that it carries are named twice, or not in order.
    #[error("re-applied orphans are named twice or out of order")]
    ReappliedOrder,
    /// One of its ancestors is not valid.
    #[error("an ancestor is not valid")]
    BadAncestor,
}
