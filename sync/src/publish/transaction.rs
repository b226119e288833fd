//! From a written version to one that is kept, and to one that is published.

use super::follow::{SAVED, moved_pin};
use super::journal::GENERATION;
use super::{BASE, Bucket, BucketError, CHECKPOINT, encode_ref, now};
use crate::bucket::{Height, ManifestDraft, Place, Rejected, SignedManifest};
use crate::link::{BlockRef, Link};
use crate::store::Commit;
use crate::tree::Superblock;

/// A version that is written, and that nothing names yet.
#[must_use = "a version that is neither checkpointed nor published is lost"]
pub struct Transaction<'a> {
    bucket: &'a Bucket,
    entry: BlockRef,
    base: Link,
    generation: u64,
}

impl Bucket {
    /// Seals the root of a version that was made from the one that `base` published. Its other blocks are in the vault
    /// already. It holds all changes of the generations before `generation`: those in the journal are not needed any more
    /// once it is durable.
    ///
    /// # Errors
    /// If it can not be stored, or this device may not write.
    pub fn begin(&self, superblock: &Superblock, base: Link, generation: u64) -> Result<Transaction<'_>, BucketError> {
        if !self.role().may_write() {
            return Err(BucketError::NotAWriter);
        }
        Ok(Transaction { bucket: self, entry: superblock.put(&self.vault)?, base, generation })
    }
}

impl Transaction<'_> {
    /// Keeps the version as the newest on this machine, without telling anybody. Durable on return.
    ///
    /// # Errors
    /// If it can not be stored, or the head is not its base any more; then the checkpoint before still stands.
    pub fn checkpoint(self) -> Result<(), BucketError> {
        let _one_at_a_time = self.bucket.replica.publishing.lock();
        self.check_base()?;
        self.commit(None, Some(encode_ref(&self.entry)))?;
        self.bucket.state.lock().checkpoint = Some(self.entry);
        Ok(())
    }

    /// Publishes the version as a manifest on the shown head, unless it is what that one has. Durable on return. Gives the
    /// head.
    ///
    /// # Errors
    /// If it can not be stored, this device's policy says no, or the head is not its base any more; then the head before
    /// still stands.
    pub fn publish(mut self) -> Result<Link, BucketError> {
        let _one_at_a_time = self.bucket.replica.publishing.lock();
        self.check_base()?;
        self.seal_for_epoch()?;
        self.bucket.may_publish()?;
        self.settle_attempt()?;
        self.bucket.replica.store_rest()?;
        let Some(manifest) = self.manifest()? else { return self.forget_checkpoint() };
        self.bucket.state.lock().attempted = Some(manifest.clone());
        self.commit(Some(&manifest), None)?;
        self.admit(manifest)
    }

    /// Another epoch may have begun since it was sealed.
    fn seal_for_epoch(&mut self) -> Result<(), BucketError> {
        let vault = &self.bucket.vault;
        if self.entry.epoch != self.bucket.state.lock().shown.share.epoch {
            self.entry = Superblock::get(vault, &self.entry)?.put(vault)?;
        }
        Ok(())
    }

    fn commit(&self, manifest: Option<&SignedManifest>, checkpoint: Option<Vec<u8>>) -> Result<(), BucketError> {
        let generation = self.generation.to_le_bytes().to_vec();
        let mut meta = vec![(CHECKPOINT, checkpoint), (GENERATION, Some(generation))];
        let base = manifest.map_or_else(|| self.bucket.head(), SignedManifest::link);
        meta.push((BASE, Some(base.to_bytes().to_vec())));
        let moved = manifest
            .and_then(|to| moved_pin(&self.bucket.replica.known.lock().chain, &to.claims().previous?, to.link()));
        if let Some(saved) = moved {
            meta.push((SAVED, Some(saved)));
        }
        let manifests = manifest.map(|manifest| (manifest.link(), manifest.bytes().to_vec())).into_iter().collect();
        let store = self.bucket.vault.store();
        store.commit(Commit { manifests, meta })?;
        store.forget_journal(self.generation);
        Ok(())
    }

    /// A version never replaces one that it was not made from, or that has not the same content.
    fn check_base(&self) -> Result<(), BucketError> {
        let state = self.bucket.state.lock();
        let is_base = state.shown_link == self.base || state.same.contains(&self.base);
        if is_base { Ok(()) } else { Err(BucketError::Superseded) }
    }

    /// A manifest whose commit failed may be stored nonetheless: then it is the head, and the next one follows it, once
    /// it is there for sure.
    fn settle_attempt(&self) -> Result<(), BucketError> {
        let attempted = self.bucket.state.lock().attempted.clone();
        let store = self.bucket.vault.store();
        if let Some(manifest) = attempted
            && store.manifest(&manifest.link())?.is_some()
        {
            let manifests = vec![(manifest.link(), manifest.bytes().to_vec())];
            store.commit(Commit { manifests, meta: Vec::new() })?;
            self.admit(manifest)?;
            // What it has, this version was made from.
            self.bucket.state.lock().same.push(self.base);
        }
        Ok(())
    }

    /// The manifest of this version; none if the head has the same.
    fn manifest(&self) -> Result<Option<SignedManifest>, BucketError> {
        let state = self.bucket.state.lock();
        let (shown, genesis) = (&state.shown, self.bucket.replica.genesis());
        if shown.entry() == self.entry {
            return Ok(None);
        }
        let same = |made: &&SignedManifest| {
            made.claims().entry == self.entry.link && made.claims().previous == Some(state.shown_link)
        };
        if let Some(made) = state.attempted.as_ref().filter(same) {
            return Ok(Some(made.clone()));
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
        self.commit(None, None)?;
        self.bucket.state.lock().checkpoint = None;
        Ok(self.bucket.head())
    }

    fn admit(&self, manifest: SignedManifest) -> Result<Link, BucketError> {
        let link = manifest.link();
        self.bucket.follow_own(manifest.verify()?)?;
        if !self.bucket.replica.known.lock().chain.contains(&link) {
            return Err(Rejected::BadAncestor.into());
        }
        let mut state = self.bucket.state.lock();
        (state.checkpoint, state.attempted) = (None, None);
        state.same.clear();
        Ok(state.shown_link)
    }
}
