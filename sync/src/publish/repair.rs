//! Making a bucket one that can be opened again, as far as what is stored says how.

use std::path::Path;

use super::{Bucket, BucketError, CHECKPOINT, stored_checkpoint, stored_manifests};
use crate::bucket::SignedManifest;
use crate::link::{Codec, Link};
use crate::store::{Commit, Rebuilt, Settings, Store, rebuild};

/// What a repair made.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    /// The new index.
    pub index: Rebuilt,
    /// Versions that are lost, and that are newer than the newest one that is not, in words.
    pub lost: Vec<String>,
}

impl Bucket {
    /// Makes the index of the bucket in `dir`, which nobody has open, anew from its segments: damaged blocks are not in it, so that
    /// they can be stored again, and neither are manifests that are only in the old one and do not verify. Versions without a
    /// root count as dropped then, so that the newest one that has its root is shown. `progress` is told the
    /// bytes that are read, and all there are. O(bytes stored).
    ///
    /// # Errors
    /// If the disk refuses, or another process has the bucket. It is as it was then.
    pub fn repair(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Repaired, BucketError> {
        let settings = Settings::default();
        let index = rebuild(&settings, dir, &height, progress)?;
        let lost = give_up_lost(&Store::open_with(&settings, dir)?)?;
        Ok(Repaired { index, lost })
    }
}

/// Leaves versions out of which the root is lost.
fn give_up_lost(store: &Store) -> Result<Vec<String>, BucketError> {
    let (manifests, known) = (stored_manifests(store)?, store.dropped()?);
    let (mut gone, mut newest) = (Vec::new(), None);
    for manifest in &manifests {
        if !store.contains(&manifest.claims().entry)? {
            gone.push(manifest);
        } else if !known.contains(&manifest.link()) {
            newest = newest.max(Some(manifest.claims().height));
        }
    }
    store.note_dropped(&gone.iter().map(|manifest| manifest.link()).collect::<Vec<_>>())?;
    let newer = gone.iter().map(|manifest| manifest.claims().height).filter(|height| Some(*height) > newest);
    let mut lost: Vec<_> = newer.map(|height| format!("version {height} is lost: one before it is shown")).collect();
    if let Some(at) = stored_checkpoint(store)?
        && !store.contains(&at.link)?
    {
        store.commit(Commit { meta: vec![(CHECKPOINT, None)], ..Commit::default() })?;
        lost.push("what was synced last and not published is lost".into());
    }
    Ok(lost)
}

/// How far from the genesis a manifest is; none if the block is no manifest.
fn height(link: &Link, bytes: &[u8]) -> Option<u64> {
    if link.codec() != Codec::DagCbor {
        return None;
    }
    let manifest = SignedManifest::decode(bytes).and_then(SignedManifest::verify);
    manifest.ok().map(|manifest| manifest.height.0)
}
