//! Making a bucket one that can be opened again, as far as what is stored says how.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::{Bucket, BucketError, CHECKPOINT, encode_ref, stored_checkpoint, stored_list, stored_manifests};
use crate::bucket::{Height, SignedManifest};
use crate::link::{Codec, Epoch, Link};
use crate::store::{Commit, Rebuilt, Settings, Store, rebuild};

/// What a repair made.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    /// The new index.
    pub index: Rebuilt,
    /// Versions that were given up, since one before them is lost, or a member list.
    pub given_up: u64,
    /// What of the newest versions is lost, in words.
    pub lost: Vec<String>,
}

impl Bucket {
    /// Makes the index of the bucket in `dir`, which nobody has open, anew from its segments: damaged blocks are not in it, so that
    /// they can be stored again, and neither are manifests that are only in the old one and do not verify. Versions that can
    /// not be followed back to the genesis any more are given up, and those without a root count as dropped then, so that the newest
    /// one that is left and has its root is shown. `progress` is told the bytes that are read, and all there are. O(bytes stored).
    ///
    /// # Errors
    /// If the disk refuses, or another process has the bucket. It is as it was then. And if its genesis is lost, or the member
    /// list of that.
    pub fn repair(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Repaired, BucketError> {
        let settings = Settings::default();
        let index = rebuild(&settings, dir, &height, progress)?;
        let (given_up, lost) = give_up_lost(&Store::open_with(&settings, dir)?)?;
        Ok(Repaired { index, given_up, lost })
    }
}

/// Takes versions out that are not connected to the genesis, and leaves those out of which the root is lost. Gives how many
/// the first are, and what is worth telling.
fn give_up_lost(store: &Store) -> Result<(u64, Vec<String>), BucketError> {
    let mut lost = Vec::new();
    if let Some(at) = stored_checkpoint(store)?
        && !store.contains(&at.link)?
    {
        store.commit(Commit { meta: vec![(CHECKPOINT, None)], ..Commit::default() })?;
        lost.push("what was synced last and not published is lost".into());
    }
    let known = store.dropped()?;
    let (connected, cut_off) = connected(store, stored_manifests(store)?)?;
    let (mut gone, mut newest) = (Vec::new(), None);
    for manifest in &connected {
        if !store.contains(&manifest.claims().entry)? {
            gone.push(manifest);
        } else if !known.contains(&manifest.link()) {
            newest = newest.max(Some(key(manifest)));
        }
    }
    let newer = gone.iter().filter(|manifest| Some(key(manifest)) > newest);
    let newer = newer.map(|manifest| format!("version {} is lost: one before it is shown", manifest.claims().height));
    lost.extend(newer);
    let mut whole = Vec::new();
    for manifest in &cut_off {
        if store.contains(&manifest.claims().entry)? && !known.contains(&manifest.link()) {
            whole.push(manifest);
        }
    }
    if let Some(last) = whole.into_iter().max_by_key(|manifest| key(manifest))
        && let Some(at) = newest
        && key(last) > at
    {
        lost.push(keep_content(store, last, at)?);
    }
    let count = cut_off.len() as u64;
    if count > 0 {
        lost.push(format!("{count} versions were given up: one before them is lost, or a member list"));
    }
    // Last: what is to be kept of them is.
    store.note_dropped(&gone.iter().map(|manifest| manifest.link()).collect::<Vec<_>>())?;
    store.give_up(&cut_off.iter().map(SignedManifest::link).collect::<Vec<_>>())?;
    Ok((count, lost))
}

/// Which of two versions is the head, but for their links.
fn key(manifest: &SignedManifest) -> (Epoch, Height) {
    (manifest.claims().share.epoch, manifest.claims().height)
}

/// Manifests that follow from the genesis, and those of which one before, or a member list, is lost.
fn connected(
    store: &Store,
    mut manifests: Vec<SignedManifest>,
) -> Result<(Vec<SignedManifest>, Vec<SignedManifest>), BucketError> {
    manifests.sort_by_key(|manifest| manifest.claims().height);
    let genesis = manifests.first().filter(|manifest| manifest.claims().previous.is_none());
    let genesis = genesis.ok_or(BucketError::Missing("the genesis, without which no version can be checked,"))?;
    let genesis = genesis.clone().verify()?;
    let mut lists = HashSet::new();
    for members in manifests.iter().map(|manifest| manifest.claims().share.members) {
        if !lists.contains(&members) && stored_list(store, &genesis, &members)?.is_some() {
            lists.insert(members);
        }
    }
    if !lists.contains(&genesis.share.members) {
        return Err(BucketError::Missing("the first member list, without which no version can be checked,"));
    }
    let mut heights = HashMap::from([(genesis.link(), genesis.height)]);
    let follows = |manifest: &SignedManifest| {
        let claims = manifest.claims();
        let parent = claims.previous.and_then(|previous| heights.get(&previous));
        let follows = parent.is_some_and(|parent| parent.0.checked_add(1) == Some(claims.height.0));
        let connected = manifest.link() == genesis.link() || follows && lists.contains(&claims.share.members);
        if connected {
            heights.insert(manifest.link(), claims.height);
        }
        connected
    };
    Ok(manifests.into_iter().partition(follows))
}

/// Keeps what a version has that is given up, as what is to be published next, where the keys are those of the one that is
/// shown. What was synced after it and is not published stands on it, and stays.
fn keep_content(store: &Store, last: &SignedManifest, shown: (Epoch, Height)) -> Result<String, BucketError> {
    let (height, (epoch, before)) = (last.claims().height, shown);
    tracing::error!(%height, %before, "the newest version can not be followed back to the first one, and is given up");
    if last.claims().share.epoch > epoch {
        return Ok(format!("version {height} is lost: version {before} is shown"));
    }
    if stored_checkpoint(store)?.is_none() {
        let checkpoint = Some(encode_ref(&last.claims().entry()));
        store.commit(Commit { meta: vec![(CHECKPOINT, checkpoint)], ..Commit::default() })?;
    }
    Ok(format!("version {height} is given up: what it has follows version {before} as a new one"))
}

/// How far from the genesis a manifest is; none if the block is no manifest.
fn height(link: &Link, bytes: &[u8]) -> Option<u64> {
    if link.codec() != Codec::DagCbor {
        return None;
    }
    let manifest = SignedManifest::decode(bytes).and_then(SignedManifest::verify);
    manifest.ok().map(|manifest| manifest.height.0)
}
