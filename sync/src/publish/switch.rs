//! Moving to another version: at once where nobody shows one, and where it is mounted, when the mount is ready.
//!
//! The chain says what is to be shown. A mount hears of it ([`Holds::turn`]). What it has not published goes along where it
//! can ([`Next::with`]), or is published on the version that it shows. It looks at what differs ([`Next::differences`]), and moves
//! on in one step ([`Bucket::turn_to`]). Until then the version before is shown and built on, whatever the chain says.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::gc::Holds;
use super::journal::GENERATION;
use super::{BASE, Bucket, BucketError, CHECKPOINT, encode_ref, journal};
use crate::bucket::Manifest;
use crate::crypto::Keyring;
use crate::link::Link;
use crate::store::Commit;
use crate::tree::{Differences, Merge, Superblock, TreeError, Vault, merge};

/// How often it is looked whether another version is shown.
const STEP: Duration = Duration::from_millis(50);

/// A version that is to be shown in place of the one that is.
pub struct Next {
    link: Link,
    manifest: Manifest,
    keys: Arc<Keyring>,
    /// Opens both.
    vault: Vault,
    superblock: Superblock,
    /// What is shown, if this one follows it.
    follows: Option<Superblock>,
}

impl Next {
    /// Which version.
    pub const fn link(&self) -> Link {
        self.link
    }

    /// Its root.
    pub const fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// What differs between two versions, that are shown, written here, or this one. O(what differs).
    ///
    /// # Errors
    /// If a part of one that the other does not share can not be read.
    pub fn differences(&self, from: &Superblock, to: &Superblock) -> Result<Differences, TreeError> {
        Differences::between(&self.vault, from, to)
    }

    /// This version, with what was changed since the one that is shown; none if this one does not follow that, or has changes
    /// that can not be together with those. O(what either changed).
    ///
    /// # Errors
    /// If a part of one that the other does not share can not be read, or what is new can not be stored.
    pub fn with(&self, changed: &Superblock) -> Result<Option<Superblock>, TreeError> {
        let Some(shown) = &self.follows else { return Ok(None) };
        match merge(&self.vault, shown, changed, &self.superblock)? {
            Merge::Clean(merged) => Ok(Some(*merged)),
            Merge::Conflicts(conflicts) => {
                tracing::info!(?conflicts, "what was changed here and not published does not go with another version");
                Ok(None)
            }
        }
    }
}

impl Bucket {
    /// What is to be shown in place of what is: none, if that is the right one, or the other can not be opened here.
    ///
    /// # Errors
    /// If what is to be shown can not be read.
    pub fn next(&self) -> Result<Option<Next>, BucketError> {
        let Some(link) = self.next_link() else { return Ok(None) };
        let Some((manifest, mut keys)) = self.opened(&link)? else { return Ok(None) };
        // Files that are open stay what they are, whatever they were sealed with.
        keys.add_from(&self.vault.keys());
        let keys = Arc::new(keys);
        let vault = Vault::new(Arc::clone(self.vault.store()), Arc::clone(&keys));
        let superblock = Superblock::get(&vault, &manifest.entry())?;
        let shown = {
            let state = self.state.lock();
            (state.shown_link, state.shown.entry())
        };
        let follows = Some(shown.1).filter(|_| self.replica.has(&link, &shown.0));
        let follows = follows.map(|shown| Superblock::get(&vault, &shown)).transpose()?;
        Ok(Some(Next { link, manifest, keys, vault, superblock, follows }))
    }

    /// The root of a version that is here.
    ///
    /// # Errors
    /// If the version is not known, or its root can not be read with the keys to what is shown.
    pub fn superblock_of(&self, version: &Link) -> Result<Superblock, BucketError> {
        Ok(Superblock::get(&self.vault, &self.manifest_of(version)?.entry())?)
    }

    /// Shows it, and builds on it, with `unpublished` as the newest version here: what was made on the version before is in
    /// that, or published. The journal's changes from here on are of this generation. Durable on return. False if something
    /// else is to be shown by now.
    ///
    /// # Errors
    /// If something is durable here that is not published, or the step can not be stored: then the version before still
    /// stands.
    pub fn turn_to(&self, next: &Next, unpublished: Option<&Superblock>, generation: u64) -> Result<bool, BucketError> {
        let _one_at_a_time = self.replica.publishing.lock();
        if self.next_link() != Some(next.link) {
            return Ok(false);
        }
        {
            let state = self.state.lock();
            if state.checkpoint.is_some() && unpublished.is_none() || state.attempted.is_some() {
                return Err(BucketError::Unpublished);
            }
        }
        let checkpoint = unpublished.map(|unpublished| unpublished.put(&next.vault)).transpose()?;
        let meta = vec![
            (BASE, Some(next.link.to_bytes().to_vec())),
            (CHECKPOINT, checkpoint.as_ref().map(encode_ref)),
            (GENERATION, Some(generation.to_le_bytes().to_vec())),
        ];
        self.vault.store().commit(Commit { manifests: Vec::new(), meta })?;
        self.vault.store().forget_journal(generation);
        self.show_now(next.manifest.clone(), next.link, Arc::clone(&next.keys));
        self.state.lock().checkpoint = checkpoint;
        Ok(true)
    }

    /// Waits until what is shown is what the chain says, at most for `limit`. Gives whether it is.
    pub fn settle(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.next_link().is_some() {
            let mut state = self.state.lock();
            // What the chain says may change meanwhile, and be what is shown.
            let step = deadline.min(Instant::now() + STEP);
            self.turned.wait_until(&mut state, step);
            if Instant::now() >= deadline {
                return self.next_link().is_none();
            }
        }
        true
    }

    /// Shows what the chain shows, unless something is not published yet: that goes on with the version that it was made
    /// on. A mount is told, and does it itself.
    pub(super) fn show(&self) -> Result<(), BucketError> {
        let Some(to) = self.next_link() else { return Ok(()) };
        if self.is_held() {
            self.turn_holders();
            return Ok(());
        }
        if self.has_checkpoint() || journal::is_used(self.vault.store())? {
            return Ok(());
        }
        let Some((manifest, keys)) = self.opened(&to)? else { return Ok(()) };
        let meta = vec![(BASE, Some(to.to_bytes().to_vec()))];
        self.vault.store().commit(Commit { manifests: Vec::new(), meta })?;
        self.show_now(manifest, to, Arc::new(keys));
        Ok(())
    }

    /// What the chain shows, if it is not what is shown.
    pub(super) fn next_link(&self) -> Option<Link> {
        let shown = self.replica.known.lock().chain.shown();
        shown.filter(|shown| *shown != self.head())
    }

    /// A version and the keys to it; none if this device has none.
    pub(super) fn opened(&self, link: &Link) -> Result<Option<(Manifest, Keyring)>, BucketError> {
        let manifest = self.manifest_of(link)?;
        let access = {
            let known = self.replica.known.lock();
            let list = known.lists.get(&manifest.share.members).ok_or(BucketError::Missing("the member list"))?;
            list.open(&self.device)
        };
        match access {
            Ok(access) => Ok(Some((manifest, access.keyring().ok_or(BucketError::Mirror)?))),
            Err(why) => {
                tracing::warn!(version = %link, %why, "the newest version can not be opened here: an older one is shown");
                Ok(None)
            }
        }
    }

    fn show_now(&self, manifest: Manifest, link: Link, keys: Arc<Keyring>) {
        self.vault.set_keys(keys);
        let mut state = self.state.lock();
        (state.shown, state.shown_link) = (manifest, link);
        state.same.clear();
        self.turned.notify_all();
    }

    /// Whether anybody holds blocks: whether it is mounted.
    pub(super) fn is_held(&self) -> bool {
        let is_there = |holder: &Weak<dyn Holds>| holder.strong_count() > 0;
        self.attaching.load(Ordering::Acquire) > 0 || self.mounted.lock().iter().any(is_there)
    }

    fn turn_holders(&self) {
        let holders: Vec<_> = self.mounted.lock().iter().filter_map(Weak::upgrade).collect();
        holders.iter().for_each(|holder| holder.turn());
    }
}
