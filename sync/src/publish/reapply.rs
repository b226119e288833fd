//! Bringing back what lost: this device's work on a chain that is not the head's is put on the head.
//!
//! Each such chain is merged in part: where the two part, its last version of this device's, the head. What comes of all of them
//! is one manifest that names them, which goes into the store and the chain as one from elsewhere does: a mount hears of it,
//! and moves. Nothing else is touched, so that after a crash it is there or it is not, and is looked at again.
//!
//! What can not be both stays out: the head's is shown, and the rest is told, and is kept in the version that lost.

use std::sync::Arc;

use super::{Bucket, BucketError, now};
use crate::bucket::{Height, Manifest, ManifestDraft, Place};
use crate::chain::{Displaced, Fate, Input, Output, Source};
use crate::crypto::Keyring;
use crate::limits::REAPPLIED_LEAVES;
use crate::link::Link;
use crate::store::Commit;
use crate::tree::{LeftOut, Partial, Superblock, Vault, merge_in_part};

/// What became of work that lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reapplied {
    /// There is none that nothing was done about.
    Nothing,
    /// Not now: what is shown is pinned or not the head, this device's policy says no, or it may not write.
    NotNow,
    /// There was another head before it was done, or blocks were being collected.
    Again,
    /// It was looked at.
    Done(Outcome),
}

/// What was done about work that lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The manifest that carries it, unless nothing of it was new.
    pub published: Option<Link>,
    /// The last versions of chains that are dealt with.
    pub leaves: Vec<Link>,
    /// What could not be brought back.
    pub left_out: Vec<LeftOut>,
    /// Versions that can not be read here, and so could not be looked at.
    pub unreadable: Vec<Link>,
    /// Whether there is more than one manifest may name.
    pub more: bool,
}

/// What all of it is put on.
struct Head {
    link: Link,
    manifest: Manifest,
    vault: Vault,
    superblock: Superblock,
}

impl Bucket {
    /// Publishes on the head what this device published on chains that lost, but for what can not be both. Durable on return.
    ///
    /// # Errors
    /// If the head can not be read, or something can not be stored.
    pub fn reapply(&self) -> Result<Reapplied, BucketError> {
        let open = self.open_displaced();
        if open.is_empty() {
            return Ok(Reapplied::Nothing);
        }
        let Some(link) = self.may_reapply() else { return Ok(Reapplied::NotNow) };
        // What is written here belongs to no version before the end.
        let Some(_no_collection) = self.replica.begin_fetch() else { return Ok(Reapplied::Again) };
        let Some(head) = self.head_for(link, &open)? else { return Ok(Reapplied::NotNow) };
        let mut outcome = Outcome { more: open.len() > REAPPLIED_LEAVES, ..Outcome::default() };
        let mut merged = head.superblock.clone();
        let mut is_new = false;
        for one in open.iter().take(REAPPLIED_LEAVES) {
            match self.put_on(&head.vault, one, &merged) {
                Ok(partial) => {
                    merged = if partial.is_new { partial.merged } else { merged };
                    is_new |= partial.is_new;
                    outcome.left_out.extend(partial.left_out);
                    outcome.leaves.push(one.last);
                }
                Err(BucketError::Tree(error)) => {
                    tracing::warn!(version = %one.last, %error, "work that lost can not be read here");
                    outcome.unreadable.push(one.last);
                }
                Err(error) => return Err(error),
            }
        }
        if outcome.leaves.is_empty() {
            return Ok(Reapplied::Done(outcome));
        }
        let _one_at_a_time = self.replica.publishing.lock();
        if self.may_reapply() != Some(head.link) || self.open_displaced() != open {
            return Ok(Reapplied::Again);
        }
        if is_new {
            outcome.published = Some(self.publish_on(&head, &merged, outcome.leaves.clone())?);
        } else {
            let settled = outcome.leaves.iter().map(|leaf| Input::Settled(*leaf)).collect();
            self.replica.take_in(settled)?;
        }
        self.tell_reapplied(&outcome);
        Ok(Reapplied::Done(outcome))
    }

    /// This device's work that lost, and that nothing was done about.
    fn open_displaced(&self) -> Vec<Displaced> {
        let mut displaced = self.replica.known.lock().chain.displaced(&self.device.id());
        displaced.retain(|one| one.fate == Fate::Open);
        displaced
    }

    /// The head, if this device may publish on it now.
    fn may_reapply(&self) -> Option<Link> {
        let known = self.replica.known.lock();
        let (chain, device) = (&known.chain, self.device.id());
        let head = chain.head();
        if chain.pin().is_some() || chain.shown() != Some(head) || chain.may_publish().is_err() {
            return None;
        }
        let role = known.lists.get(&chain.record(&head)?.members)?.role(&device)?;
        role.may_write().then_some(head)
    }

    fn head_for(&self, link: Link, open: &[Displaced]) -> Result<Option<Head>, BucketError> {
        let Some((manifest, mut keys)) = self.opened(&link)? else { return Ok(None) };
        keys.add_from(&self.vault.keys());
        // A chain that lost may have had an epoch of its own.
        open.iter().filter_map(|one| self.keys_to(&one.last)).for_each(|lost| keys.add_from(&lost));
        let vault = Vault::new(Arc::clone(self.vault.store()), Arc::new(keys));
        let superblock = Superblock::get(&vault, &manifest.entry())?;
        Ok(Some(Head { link, manifest, vault, superblock }))
    }

    fn keys_to(&self, version: &Link) -> Option<Keyring> {
        Some(self.opened(version).ok()??.1)
    }

    fn put_on(&self, vault: &Vault, lost: &Displaced, onto: &Superblock) -> Result<Partial, BucketError> {
        let root = |version: &Link| -> Result<Superblock, BucketError> {
            Ok(Superblock::get(vault, &self.manifest_of(version)?.entry())?)
        };
        let (base, ours) = (root(&lost.fork_point)?, root(&lost.last)?);
        Ok(merge_in_part(vault, &base, &ours, onto)?)
    }

    /// A manifest on the head. While `publishing` is held, and the head is the head.
    fn publish_on(&self, head: &Head, merged: &Superblock, reapplied: Vec<Link>) -> Result<Link, BucketError> {
        let entry = merged.put(&head.vault)?;
        self.replica.store_rest()?;
        let Manifest { height, share, pins, .. } = head.manifest;
        let draft = ManifestDraft {
            id: self.id(),
            owner: self.owner(),
            name: head.manifest.name.to_vec(),
            share,
            entry: entry.link,
            pins,
            place: Place::After { genesis: self.genesis(), previous: head.link, height: Height(height.0 + 1) },
            reapplied,
            timestamp: now(),
        };
        let manifest = draft.sign(&self.device)?;
        let link = manifest.link();
        let stored = vec![(link, manifest.bytes().to_vec())];
        // All blocks are durable with it.
        self.vault.store().commit(Commit { manifests: stored, meta: Vec::new() })?;
        let manifest = Arc::new(manifest.verify()?);
        let outputs = {
            let mut known = self.replica.known.lock();
            let mut outputs = known.chain.handle(now(), Input::Manifest { manifest, source: Source::Own });
            outputs.extend(known.chain.handle(now(), Input::Complete(link)));
            outputs
        };
        let rejected = outputs.iter().find_map(|output| match output {
            Output::Rejected { why, .. } => Some(why.clone()),
            _ => None,
        });
        if let Some(why) = rejected {
            return Err(why.into());
        }
        self.replica.tell(&outputs);
        self.show().unwrap_or_else(|error| tracing::warn!(%error, "an older version is shown"));
        self.replica.save_chain();
        self.replica.tell_watcher(&outputs);
        Ok(link)
    }

    fn tell_reapplied(&self, outcome: &Outcome) {
        let Outcome { published, leaves, left_out, .. } = outcome;
        {
            let counters = &mut self.replica.known.lock().counters;
            counters.reapplied += if published.is_some() { leaves.len() as u64 } else { 0 };
            counters.settled += if published.is_none() { leaves.len() as u64 } else { 0 };
            counters.reapply_conflicts += left_out.len() as u64;
        }
        match published {
            Some(link) => tracing::info!(by = %link, leaves = leaves.len(), "work that lost was brought back"),
            None => tracing::info!(leaves = leaves.len(), "work that lost brought nothing new"),
        }
        for LeftOut { path, conflict } in left_out {
            let path = String::from_utf8_lossy(path);
            tracing::warn!(%path, why = ?conflict.why, "a change that lost was not brought back: the other is shown");
        }
    }
}

#[cfg(test)]
mod tests;
