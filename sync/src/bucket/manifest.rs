//! The manifest: one version of a bucket, signed by its author, linked to the version that it follows.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::codec::{self, NotStrict};
use super::device::DeviceKey;
use super::rejected::Rejected;
use super::types::{DeviceId, Height, OwnerId, Signature, Timestamp};
use crate::crypto::label::SEALED_LABEL_BYTES;
use crate::limits::{self, MANIFEST_BYTES, REAPPLIED_LEAVES};
use crate::link::{BlockRef, BucketId, Codec, Epoch, Link};

/// The version of the manifest format, and so of the protocol.
pub const MANIFEST_VERSION: u64 = 0;
/// How far behind the head a leaf may be before the fork is over, where the genesis says nothing else.
pub const DEFAULT_FINALITY_DEPTH: u64 = 10;
/// What an author signs a manifest in.
const SIGNED: &str = "jaxfs v0 manifest";

/// Which keys seal this version, and who has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// How often the keys have changed. The entry, the pins and the name are sealed with this epoch's.
    pub epoch: Epoch,
    /// The member list.
    pub members: Link,
}

/// A manifest that is not signed yet: everything but its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestDraft {
    /// Which bucket.
    pub id: BucketId,
    /// The owner's public key, the same in all manifests of the bucket.
    pub owner: OwnerId,
    /// The bucket's name, a sealed label ([`crate::crypto::label::BUCKET_NAME`]).
    pub name: Vec<u8>,
    /// Which keys.
    pub share: Share,
    /// The root node of the tree.
    pub entry: Link,
    /// The node that lists what is kept besides the entry.
    pub pins: Link,
    /// Where it stands.
    pub place: Place,
    /// Orphaned leaves whose changes it carries, in any order; at most [`REAPPLIED_LEAVES`].
    pub reapplied: Vec<Link>,
    /// When its author made it. Informs people; decides nothing.
    pub timestamp: Timestamp,
}

/// Where a manifest stands in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At its start.
    Genesis {
        /// How far behind the head a leaf may be before the fork is over; for the whole life of the bucket.
        finality_depth: u64,
    },
    /// After another.
    After {
        /// The start of the chain.
        genesis: Link,
        /// The manifest before.
        previous: Link,
        /// One more than the height of that.
        height: Height,
    },
}

/// A manifest's fields, as they are encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Who made and signed it.
    pub author: DeviceId,
    /// The root node of the tree.
    pub entry: Link,
    /// In the genesis only, and only if it is not [`DEFAULT_FINALITY_DEPTH`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finality: Option<u64>,
    /// The start of the chain; absent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<Link>,
    /// Hops to the genesis.
    pub height: Height,
    /// Which bucket.
    pub id: BucketId,
    /// The bucket's name, sealed.
    pub name: ByteBuf,
    /// The owner's public key.
    pub owner: OwnerId,
    /// The node that lists what is kept besides the entry.
    pub pins: Link,
    /// The manifest before; absent in the genesis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Link>,
    /// Orphaned leaves whose changes it carries, in ascending order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reapplied: Vec<Link>,
    /// Which keys.
    pub share: Share,
    /// When its author made it.
    pub timestamp: Timestamp,
    /// [`MANIFEST_VERSION`].
    pub version: u64,
}

impl Manifest {
    /// The root node of the tree, with the epoch whose key opens it.
    pub const fn entry(&self) -> BlockRef {
        BlockRef { link: self.entry, epoch: self.share.epoch }
    }

    /// The node of pins, with the epoch whose key opens it.
    pub const fn pins(&self) -> BlockRef {
        BlockRef { link: self.pins, epoch: self.share.epoch }
    }

    /// A digest of what a manifest must change at least one of: entry, pins, share and name.
    pub fn fingerprint(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.entry.to_bytes()).update(&self.pins.to_bytes());
        hasher.update(&self.share.epoch.0.to_le_bytes()).update(&self.share.members.to_bytes()).update(&self.name);
        let mut out = [0; 16];
        hasher.finalize_xof().fill(&mut out);
        out
    }
}

impl ManifestDraft {
    /// Signs the draft as `author`. The errors are the caller's: a draft that nobody would accept.
    pub fn sign(self, author: &DeviceKey) -> Result<SignedManifest, Rejected> {
        let (genesis, previous, height, finality) = match self.place {
            Place::Genesis { finality_depth } => {
                (None, None, Height(0), Some(finality_depth).filter(|depth| *depth != DEFAULT_FINALITY_DEPTH))
            }
            Place::After { genesis, previous, height } => (Some(genesis), Some(previous), height, None),
        };
        let mut reapplied = self.reapplied;
        reapplied.sort();
        let manifest = Manifest {
            author: author.id(),
            entry: self.entry,
            finality,
            genesis,
            height,
            id: self.id,
            name: ByteBuf::from(self.name),
            owner: self.owner,
            pins: self.pins,
            previous,
            reapplied,
            share: self.share,
            timestamp: self.timestamp,
            version: MANIFEST_VERSION,
        };
        check(&manifest)?;
        let signature = author.sign(SIGNED, &codec::encode(&manifest));
        let bytes = codec::encode(&(&manifest, signature));
        if bytes.len() > MANIFEST_BYTES {
            return Err(Rejected::TooLarge(bytes.len()));
        }
        Ok(SignedManifest { manifest, signature, link: Link::of(Codec::DagCbor, &bytes), bytes })
    }
}

/// A manifest as it is stored and sent: well-formed and in its one encoding, but believed by nobody yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedManifest {
    manifest: Manifest,
    signature: Signature,
    link: Link,
    bytes: Vec<u8>,
}

/// As much of a manifest as every version of the format has.
#[derive(Deserialize)]
struct AnyVersion {
    version: u64,
}

impl SignedManifest {
    /// Reads a manifest. Total: any bytes give a manifest or a reason.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejected> {
        if bytes.len() > MANIFEST_BYTES {
            return Err(Rejected::TooLarge(bytes.len()));
        }
        let (manifest, signature): (Manifest, Signature) = codec::decode(bytes).map_err(|why| {
            match serde_ipld_dagcbor::from_slice::<(AnyVersion, serde::de::IgnoredAny)>(bytes) {
                Ok((AnyVersion { version }, _)) if version > MANIFEST_VERSION => Rejected::Version { version },
                _ if why == NotStrict::NotCanonical => Rejected::NotCanonical,
                _ => Rejected::Malformed("not a manifest"),
            }
        })?;
        check(&manifest)?;
        Ok(Self { manifest, signature, link: Link::of(Codec::DagCbor, bytes), bytes: bytes.to_vec() })
    }

    /// Believes that its author made it, if the signature says so. Whether it may stand where it does, the chain says.
    pub fn verify(self) -> Result<VerifiedManifest, Rejected> {
        if self.manifest.author.signed(SIGNED, &codec::encode(&self.manifest), &self.signature) {
            Ok(VerifiedManifest { manifest: self.manifest, link: self.link, bytes: self.bytes })
        } else {
            Err(Rejected::BadSignature)
        }
    }

    /// Its address.
    pub const fn link(&self) -> Link {
        self.link
    }

    /// Its encoding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says, believed or not. The author in here is only a claim.
    pub const fn claims(&self) -> &Manifest {
        &self.manifest
    }
}

/// Everything that can be wrong with a manifest by itself.
fn check(manifest: &Manifest) -> Result<(), Rejected> {
    if manifest.version != MANIFEST_VERSION {
        return Err(Rejected::Version { version: manifest.version });
    }
    let first = manifest.previous.is_none();
    if manifest.genesis.is_none() != first || (manifest.height == Height(0)) != first {
        return Err(Rejected::Malformed("previous, genesis and height disagree"));
    }
    if first && (manifest.share.epoch != Epoch(0) || !manifest.reapplied.is_empty()) {
        return Err(Rejected::Malformed("a genesis with a past"));
    }
    check_finality(manifest, first)?;
    if manifest.reapplied.len() > REAPPLIED_LEAVES {
        return Err(Rejected::TooManyReapplied(manifest.reapplied.len()));
    }
    if !manifest.reapplied.is_sorted_by(|a, b| a < b) {
        return Err(Rejected::ReappliedOrder);
    }
    let Manifest { entry, pins, genesis, previous, reapplied, share, .. } = manifest;
    let mut links = [entry, pins, &share.members].into_iter().chain(genesis).chain(previous).chain(reapplied);
    if links.any(|link| link.codec() != Codec::DagCbor) {
        return Err(Rejected::Malformed("a link to file content"));
    }
    if manifest.name.len() > SEALED_LABEL_BYTES {
        return Err(Rejected::Malformed("a name that is too long"));
    }
    Ok(())
}

fn check_finality(manifest: &Manifest, first: bool) -> Result<(), Rejected> {
    match manifest.finality {
        None => Ok(()),
        Some(_) if !first => Err(Rejected::Malformed("finality belongs in the genesis")),
        Some(DEFAULT_FINALITY_DEPTH) => Err(Rejected::NotCanonical),
        Some(1..=limits::FINALITY_DEPTH) => Ok(()),
        Some(_) => Err(Rejected::Malformed("finality out of range")),
    }
}

/// A manifest that its author signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedManifest {
    manifest: Manifest,
    link: Link,
    bytes: Vec<u8>,
}

impl VerifiedManifest {
    /// Its address.
    pub const fn link(&self) -> Link {
        self.link
    }

    /// Its encoding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How far behind the head a leaf may be, if this is the genesis.
    pub fn finality_depth(&self) -> u64 {
        self.manifest.finality.unwrap_or(DEFAULT_FINALITY_DEPTH)
    }
}

impl std::ops::Deref for VerifiedManifest {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.manifest
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
