//! A bucket without its keys: its chain, and its blocks as they are stored and sent.
//!
//! This is all that a mirror has, and what a device that joins has before the first version is whole. A [`super::Bucket`] is a
//! replica, the keys, and the version that is shown.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::follow::{Counters, Watcher, stored_chain_state};
use super::{BucketError, stored_list};
use crate::bucket::{DeviceId, Manifest, MemberList, OwnerId, Role, SignedManifest, VerifiedManifest};
use crate::chain::{Chain, Record, Saved};
use crate::link::{BucketId, Link};
use crate::store::{Commit, Settings, Store};

/// A bucket's chain and blocks. Shared between threads.
pub struct Replica {
    device: DeviceId,
    store: Arc<Store>,
    genesis: VerifiedManifest,
    /// Held from the making of a manifest until the chain has it, so that nothing comes in between. Before `known`.
    pub(super) publishing: Mutex<()>,
    pub(super) known: Mutex<Known>,
    /// Held by a collection of garbage, and, shared, by who looks at blocks that it may drop. Before all other locks.
    pub(super) collecting: RwLock<()>,
    /// Versions whose nodes are being fetched.
    fetching: AtomicUsize,
    /// Taken alone.
    watcher: Mutex<Option<Watcher>>,
}

/// What is known of a chain.
pub(super) struct Known {
    pub(super) chain: Chain,
    pub(super) lists: BTreeMap<Link, MemberList>,
    /// Manifests that are in the chain, and that the disk did not take yet.
    pub(super) unstored: Vec<(Link, Vec<u8>)>,
    /// What was last stored of the chain besides its manifests.
    pub(super) saved: Saved,
    pub(super) counters: Counters,
}

impl Replica {
    /// Opens what is in `dir` for a device.
    ///
    /// # Errors
    /// If it is not there, damaged, or held by another process.
    pub fn open(dir: &Path, device: DeviceId) -> Result<Self, BucketError> {
        Self::load(Arc::new(Store::open_with(&Settings::default(), dir)?), device)
    }

    /// Makes one of nothing but a genesis and its member list, in `dir`. Durable on return.
    ///
    /// # Errors
    /// If the two do not belong together, or the disk refuses.
    pub fn create(
        dir: &Path,
        device: DeviceId,
        genesis: VerifiedManifest,
        list: &MemberList,
    ) -> Result<Self, BucketError> {
        Chain::new(&genesis, list)?;
        let store = Arc::new(Store::create_with(&Settings::default(), dir)?);
        store.put(&list.link(), list.bytes())?;
        store.put(&genesis.link(), genesis.bytes())?;
        let manifests = vec![(genesis.link(), genesis.bytes().to_vec())];
        store.commit(Commit { manifests, meta: Vec::new() })?;
        Self::load(store, device)
    }

    /// The chain of what is stored, one manifest after the other. Signatures were checked when it was stored, and are not
    /// checked again.
    pub(super) fn load(store: Arc<Store>, device: DeviceId) -> Result<Self, BucketError> {
        let mut manifests = store.manifests().map(|row| Ok::<_, BucketError>(SignedManifest::decode(&row?.1)?));
        let genesis = manifests.next().ok_or(BucketError::Missing("the genesis"))??.verify()?;
        drop(manifests);
        let first = stored_list(&store, &genesis, &genesis.share.members)?;
        let first = first.ok_or(BucketError::Missing("the first member list"))?;
        let mut loader = Chain::loader(&genesis, &first)?;
        let (mut lists, dropped) = (BTreeMap::from([(first.link(), first)]), store.dropped()?);
        for manifest in store.manifests() {
            let manifest = SignedManifest::decode(&manifest?.1)?;
            let members = manifest.claims().share.members;
            if !lists.contains_key(&members)
                && let Some(list) = stored_list(&store, &genesis, &members)?
            {
                loader.members(&list);
                lists.insert(members, list);
            }
            let mut record = Record::stored(&manifest);
            // What this device published it had in full, and the newest of it is looked for below. Of what came from
            // others, nodes are stored behind all that are below them, so that the roots say that the rest is there.
            let Manifest { entry, pins, .. } = manifest.claims();
            record.complete = !dropped.contains(&record.link)
                && (record.author == device || store.contains(entry)? && store.contains(pins)?);
            loader.record(&record)?;
        }
        let chain = loader.finish(stored_chain_state(&store)?);
        let (saved, counters) = (chain.saved(), Counters::default());
        let known = Known { saved, chain, unstored: Vec::new(), lists, counters };
        Ok(Self {
            device,
            store,
            genesis,
            publishing: Mutex::default(),
            known: Mutex::new(known),
            collecting: RwLock::default(),
            fetching: AtomicUsize::new(0),
            watcher: Mutex::default(),
        })
    }

    /// Its label.
    pub fn id(&self) -> BucketId {
        self.genesis.id
    }

    /// The first version.
    pub const fn genesis(&self) -> &VerifiedManifest {
        &self.genesis
    }

    /// Whose key signs its member lists.
    pub fn owner(&self) -> OwnerId {
        self.genesis.owner
    }

    /// This device.
    pub const fn device(&self) -> DeviceId {
        self.device
    }

    /// Its blocks.
    pub const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The canonical head.
    pub fn head(&self) -> Link {
        self.known.lock().chain.head()
    }

    /// The version that is shown; none before one is whole.
    pub fn shown(&self) -> Option<Link> {
        self.known.lock().chain.shown()
    }

    /// Whether whoever has one version has another: it is the same, or comes before.
    pub fn has(&self, one: &Link, other: &Link) -> bool {
        self.known.lock().chain.is_ancestor(other, one) == Some(true)
    }

    /// How many versions are known.
    pub fn versions(&self) -> u64 {
        self.known.lock().chain.len() as u64
    }

    /// What a device may do by the list of the version that is shown.
    pub fn shown_role(&self, device: &DeviceId) -> Option<Role> {
        let known = self.known.lock();
        let record = known.chain.record(&known.chain.shown()?)?;
        known.lists.get(&record.members)?.role(device)
    }

    /// The member list of the head.
    pub fn members(&self) -> Option<MemberList> {
        self.members_but(None)
    }

    /// That, unless it is this one.
    pub fn members_but(&self, seen: Option<&Link>) -> Option<MemberList> {
        let known = self.known.lock();
        let record = known.chain.record(&known.chain.head())?;
        known.lists.get(&record.members).filter(|list| Some(&list.link()) != seen).cloned()
    }

    /// What a device may do by that; none if it is no member.
    pub fn role_of(&self, device: &DeviceId) -> Option<Role> {
        let known = self.known.lock();
        let record = known.chain.record(&known.chain.head())?;
        known.lists.get(&record.members)?.role(device)
    }

    /// Keeps garbage from being collected while nodes are fetched that belong to no whole version yet; none while it is
    /// being collected.
    pub fn begin_fetch(self: &Arc<Self>) -> Option<Fetching> {
        self.fetching.fetch_add(1, Ordering::SeqCst);
        let fetching = Fetching(Arc::clone(self));
        // Whoever collects looks at the number after it has taken the lock.
        self.collecting.try_read().map(|_| fetching)
    }

    pub(super) fn is_fetching(&self) -> bool {
        self.fetching.load(Ordering::SeqCst) > 0
    }

    /// Has somebody told of what this device publishes from now on.
    pub fn watch(&self, watcher: Watcher) {
        *self.watcher.lock() = Some(watcher);
    }

    pub(super) fn tell_watcher(&self, outputs: &[crate::chain::Output]) {
        if let Some(watcher) = &*self.watcher.lock() {
            watcher(outputs);
        }
    }

    pub(super) fn manifest_of(&self, link: &Link) -> Result<Manifest, BucketError> {
        let bytes = self.store.manifest(link)?.ok_or(BucketError::UnknownVersion(*link))?;
        Ok(SignedManifest::decode(&bytes)?.claims().clone())
    }
}

/// As long as this is there, no garbage is collected.
#[must_use]
pub struct Fetching(Arc<Replica>);

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.fetching.fetch_sub(1, Ordering::SeqCst);
    }
}
