//! What a store keeps of a chain, and gives back to [`super::Chain::load`].

use serde::{Deserialize, Serialize};

use super::pin::{Pin, Policy};
use crate::bucket::{DeviceId, Height, Manifest, SignedManifest, Timestamp, VerifiedManifest};
use crate::link::{Epoch, Link};

/// One manifest, as much as the chain keeps of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its address.
    pub link: Link,
    /// Its parent; none for the genesis.
    pub previous: Option<Link>,
    /// Hops to the genesis.
    pub height: Height,
    /// The epoch of its keys.
    pub epoch: Epoch,
    /// Who made it.
    pub author: DeviceId,
    /// When, as its author says.
    pub timestamp: Timestamp,
    /// Its member list.
    pub members: Link,
    /// What it says, in short ([`crate::bucket::Manifest::fingerprint`]).
    pub fingerprint: [u8; 16],
    /// Orphaned leaves whose changes it carries.
    pub reapplied: Vec<Link>,
    /// Whether all its directory nodes are on this machine.
    pub complete: bool,
}

impl Record {
    /// The record of a manifest that was verified before it was stored.
    pub fn stored(manifest: &SignedManifest) -> Self {
        Self::new(manifest.link(), manifest.claims())
    }

    /// The record of a manifest that is new here.
    pub fn of(manifest: &VerifiedManifest) -> Self {
        Self::new(manifest.link(), manifest)
    }

    fn new(link: Link, manifest: &Manifest) -> Self {
        Self {
            link,
            previous: manifest.previous,
            height: manifest.height,
            epoch: manifest.share.epoch,
            author: manifest.author,
            timestamp: manifest.timestamp,
            members: manifest.share.members,
            fingerprint: manifest.fingerprint(),
            reapplied: manifest.reapplied.clone(),
            complete: false,
        }
    }
}

/// What a chain knows besides its manifests. Stored whenever an output says that it changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Since when there is more than one tip.
    pub forked_at: Option<Timestamp>,
    /// What is shown whatever the head is.
    pub pin: Option<Pin>,
    /// What this device does on its own.
    pub policy: Policy,
    /// This device's orphans that need not be re-applied, in ascending order.
    pub settled: Vec<Link>,
}

/// Why stored records are no chain: the store is damaged.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the stored chain is damaged at manifest {link}: {why}")]
pub struct LoadError {
    /// At which record.
    pub link: Link,
    /// What is wrong.
    pub why: &'static str,
}
