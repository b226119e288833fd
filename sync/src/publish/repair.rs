//! Making a bucket one that can be opened again, as far as what is stored says how.

use std::path::Path;

use super::{Bucket, BucketError};
use crate::bucket::SignedManifest;
use crate::link::{Codec, Link};
use crate::store::{Rebuilt, Settings, rebuild};

impl Bucket {
    /// Makes the index of the bucket in `dir`, which nobody has open, anew from its segments: damaged blocks are not in it, so that
    /// they can be stored again, and neither are manifests that are only in the old one and do not verify. `progress` is told
    /// the bytes that are read, and all there are. O(bytes stored).
    ///
    /// # Errors
    /// If the disk refuses, or another process has the bucket. It is as it was then.
    pub fn repair(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Rebuilt, BucketError> {
        Ok(rebuild(&Settings::default(), dir, &height, progress)?)
    }
}

/// How far from the genesis a manifest is; none if the block is no manifest.
fn height(link: &Link, bytes: &[u8]) -> Option<u64> {
    if link.codec() != Codec::DagCbor {
        return None;
    }
    let manifest = SignedManifest::decode(bytes).and_then(SignedManifest::verify);
    manifest.ok().map(|manifest| manifest.height.0)
}
