//! From a written version to one that is kept, and to one that is published.

use std::sync::Arc;

use super::{Bucket, BucketError, CHECKPOINT, encode_ref, now};
use crate::bucket::{Height, ManifestDraft, Place, Rejected, SignedManifest};
use crate::chain::{Input, Output, Source};
use crate::link::{BlockRef, Link};
use crate::store::Commit;
use crate::tree::Superblock;

/// A version that is written, and that nothing names yet.
#[must_use = "a version that is neither checkpointed nor published is lost"]
pub struct Transaction<'a> {
    bucket: &'a Bucket,
    entry: BlockRef,
}

impl Bucket {
    /// Seals the root of a version, whose other blocks are in the vault already.
    ///
    /// # Errors
    /// If it can not be stored, or this device may not write.
    pub fn begin(&self, superblock: &Superblock) -> Result<Transaction<'_>, BucketError> {
        if !self.role().may_write() {
            return Err(BucketError::NotAWriter);
        }
        Ok(Transaction { bucket: self, entry: superblock.put(&self.vault)? })
    }
}

impl Transaction<'_> {
    /// Keeps the version as the newest on this machine, without telling anybody. Durable on return.
    ///
    /// # Errors
    /// If it can not be stored; then the checkpoint before still stands.
    pub fn checkpoint(self) -> Result<(), BucketError> {
        let store = self.bucket.vault.store();
        store.commit(Commit { manifests: Vec::new(), meta: vec![(CHECKPOINT, Some(encode_ref(&self.entry)))] })?;
        self.bucket.state.lock().checkpoint = Some(self.entry);
        Ok(())
    }

    /// Publishes the version as a manifest on the shown head, unless it is what that one has. Durable on return. Gives the
    /// head.
    ///
    /// # Errors
    /// If it can not be stored; then the head before still stands.
    pub fn publish(self) -> Result<Link, BucketError> {
        let manifest = self.manifest()?;
        let Some(manifest) = manifest else { return self.forget_checkpoint() };
        let commit =
            Commit { manifests: vec![(manifest.link(), manifest.bytes().to_vec())], meta: vec![(CHECKPOINT, None)] };
        self.bucket.vault.store().commit(commit)?;
        self.admit(manifest)
    }

    /// The manifest of this version; none if the head has the same.
    fn manifest(&self) -> Result<Option<SignedManifest>, BucketError> {
        let state = self.bucket.state.lock();
        let (shown, genesis) = (&state.shown, &self.bucket.genesis);
        if shown.entry() == self.entry {
            return Ok(None);
        }
        let draft = ManifestDraft {
            id: genesis.id,
            owner: genesis.owner,
            name: shown.name.to_vec(),
            share: shown.share,
            entry: self.entry.link,
            pins: shown.pins,
            place: Place::After {
                genesis: genesis.link(),
                previous: state.shown_link,
                height: Height(shown.height.0 + 1),
            },
            reapplied: Vec::new(),
            timestamp: now(),
        };
        drop(state);
        Ok(Some(draft.sign(&self.bucket.device)?))
    }

    fn forget_checkpoint(&self) -> Result<Link, BucketError> {
        let mut state = self.bucket.state.lock();
        if state.checkpoint.take().is_some() {
            drop(state);
            self.bucket.vault.store().commit(Commit { manifests: Vec::new(), meta: vec![(CHECKPOINT, None)] })?;
            state = self.bucket.state.lock();
        }
        Ok(state.shown_link)
    }

    fn admit(&self, manifest: SignedManifest) -> Result<Link, BucketError> {
        let (link, shown) = (manifest.link(), manifest.claims().clone());
        let manifest = Arc::new(manifest.verify()?);
        let mut state = self.bucket.state.lock();
        let mut outputs = state.chain.handle(now(), Input::Manifest { manifest, source: Source::Own });
        outputs.extend(state.chain.handle(now(), Input::Complete(link)));
        for output in outputs {
            match output {
                Output::Rejected { why, .. } => return Err(why.into()),
                Output::Head { from, to, height, .. } => {
                    tracing::info!(%from, %to, %height, "canonical head changed");
                }
                other => tracing::debug!(?other, "chain"),
            }
        }
        if !state.chain.contains(&link) {
            return Err(Rejected::BadAncestor.into());
        }
        state.checkpoint = None;
        if state.chain.shown() == Some(link) {
            (state.shown, state.shown_link) = (shown, link);
        }
        Ok(state.shown_link)
    }
}
