//! What a bucket is made of besides its tree: keys, members, manifests.
//!
//! Everything signed goes through the same three steps, each a type of its own: a *draft* is filled in, a *signed* thing
//! is bytes in their one canonical form, and only a *verified* one is believed. What comes from a peer starts at the second.
//!
//! Always true: a signature covers a context, so that none is taken for another; encoding what was decoded gives the same
//! bytes. Never here: files, what follows from a manifest's ancestors (that is the chain's), the network.

mod codec;
mod device;
mod keyfile;
mod manifest;
mod members;
mod owner;
mod rejected;
#[cfg(any(test, feature = "simulation"))]
pub mod testing;
mod types;

pub use device::{DeviceKey, Identity};
pub use keyfile::{Argon2Cost, KeyFileError};
pub use manifest::{
    DEFAULT_FINALITY_DEPTH, MANIFEST_VERSION, Manifest, ManifestDraft, Place, Share, SignedManifest, VerifiedManifest,
};
pub use members::{
    Access, AccessError, Contents, EpochSecrets, ListRejected, Member, MemberList, MemberListDraft, MemberListError,
    Role, SignedMemberList,
};
pub use owner::{OwnerKey, PhraseError};
pub use rejected::Rejected;
pub use types::{DeviceId, Height, OwnerId, SealingKey, Signature, Timestamp};
