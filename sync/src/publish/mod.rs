//! A bucket of this machine, opened: its blocks, its chain, and the one way to a new version.
//!
//! A version is written first ([`Bucket::begin`] seals its root), and is then either kept as a *checkpoint*, which a restart
//! finds again, or published as a manifest on the head that is shown. Both are one commit of the store: blocks, then
//! index, then manifest, then head, and nothing is named before it is durable.
//!
//! In a bucket's directory: `owner.key` where this device holds it, `db.redb`, and `packs/`.

mod create;
mod error;
mod follow;
mod gc;
mod invite;
mod journal;
mod members;
mod reapply;
mod receive;
mod repair;
mod replica;
mod report;
mod retention;
mod switch;
mod transaction;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

pub use create::{NewBucket, UNFINISHED};
pub use error::BucketError;
pub use follow::{Counters, Watcher};
pub use gc::{CollectProgress, CollectReport, Held, Holds};
pub use invite::{Invitation, NotInvited, USES};
pub use journal::Journaled;
pub use members::MemberInfo;
pub use reapply::{Outcome, Reapplied};
pub use receive::{Item, nodes_below};
pub use repair::Repaired;
pub use replica::{Fetching, Replica};
pub use report::{BucketStatus, LogEntry};
pub use retention::Retention;
pub use switch::Next;
pub use transaction::Transaction;
pub use verify::VerifyReport;

use crate::bucket::{
    DeviceKey, Manifest, MemberList, OwnerId, SignedManifest, SignedMemberList, Timestamp, VerifiedManifest,
};
use crate::chain::Chain;
use crate::crypto::label::BUCKET_NAME;
use crate::link::{BlockRef, BucketId, Epoch, Link};
use crate::store::{Settings, Store};
use crate::tree::{Superblock, Vault};

/// The store's name for the checkpoint: a version that is durable and not published.
const CHECKPOINT: &str = "checkpoint";

/// The store's name for the version that the checkpoint and the journal were made on.
const BASE: &str = "base";

/// An open bucket. Shared between threads.
pub struct Bucket {
    dir: PathBuf,
    device: Arc<DeviceKey>,
    vault: Vault,
    /// Its locks before `state`.
    replica: Arc<Replica>,
    /// Who holds blocks. Before `publishing`.
    holders: Mutex<Vec<Weak<dyn Holds>>>,
    state: Mutex<State>,
    /// Another version is shown.
    turned: Condvar,
    /// Held while invitations are changed. Taken alone.
    inviting: Mutex<()>,
    /// Who is being made a holder.
    attaching: AtomicUsize,
    /// Each holder too. Taken alone, after any other.
    mounted: Mutex<Vec<Weak<dyn Holds>>>,
}

struct State {
    /// The manifest that is shown and built on.
    shown: Manifest,
    shown_link: Link,
    /// Versions before it that have the same content: it follows from one of them by another member list alone.
    same: Vec<Link>,
    checkpoint: Option<BlockRef>,
    /// A manifest whose commit failed: it is what the next attempt at the same version stores, since the store may have it.
    attempted: Option<SignedManifest>,
}

impl Bucket {
    /// Opens the bucket in `dir` with this device's key.
    ///
    /// # Errors
    /// If it is not there, damaged, held by another process, or not this device's to read.
    pub fn open(dir: &Path, device: Arc<DeviceKey>) -> Result<Self, BucketError> {
        Self::open_with(&Settings::default(), dir, device)
    }

    /// [`Bucket::open`], with a store on another disk, or of other sizes.
    ///
    /// # Errors
    /// As [`Bucket::open`].
    pub fn open_with(settings: &Settings, dir: &Path, device: Arc<DeviceKey>) -> Result<Self, BucketError> {
        let store = Arc::new(Store::open_with(settings, dir)?);
        Self::of(Arc::new(Replica::load(store, device.id())?), dir, device)
    }

    /// The bucket of a replica that has a whole version which this device can open.
    ///
    /// # Errors
    /// As [`Bucket::open`].
    pub fn of(replica: Arc<Replica>, dir: &Path, device: Arc<DeviceKey>) -> Result<Self, BucketError> {
        let store = Arc::clone(replica.store());
        let checkpoint = stored_checkpoint(&store)?;
        let shown_link = shown_first(&store, &replica.known.lock().chain, checkpoint.is_some())?;
        let shown = store.manifest(&shown_link)?.ok_or(BucketError::Missing("the newest manifest"))?;
        let shown = SignedManifest::decode(&shown)?.claims().clone();
        let list = replica.known.lock().lists.get(&shown.share.members).cloned();
        let access = list.ok_or(BucketError::Missing("the member list"))?.open(&device)?;
        let keyring = access.keyring().ok_or(BucketError::Mirror)?;
        // What is lost is not passed over in silence: a repair does that, and says so.
        if !store.contains(&checkpoint.unwrap_or_else(|| shown.entry()).link)? {
            return Err(BucketError::Missing("the root of the newest version"));
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            device,
            vault: Vault::new(store, Arc::new(keyring)),
            replica,
            holders: Mutex::default(),
            state: Mutex::new(State { shown, shown_link, same: Vec::new(), checkpoint, attempted: None }),
            inviting: Mutex::default(),
            turned: Condvar::new(),
            attaching: AtomicUsize::new(0),
            mounted: Mutex::default(),
        })
    }

    /// Where it is stored.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its label.
    pub fn id(&self) -> BucketId {
        self.replica.id()
    }

    /// Its true identity.
    pub fn genesis(&self) -> Link {
        self.replica.genesis().link()
    }

    /// Whose key signs its member lists.
    pub fn owner(&self) -> OwnerId {
        self.replica.owner()
    }

    /// Its chain, and its blocks as they are stored.
    pub const fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// What whoever joins begins with: the bytes of the genesis and of its member list.
    ///
    /// # Errors
    /// If the store can not say.
    pub fn beginning(&self) -> Result<(Vec<u8>, Vec<u8>), BucketError> {
        let genesis = self.replica.genesis();
        let list = self.vault.store().get(&genesis.share.members)?;
        Ok((genesis.bytes().to_vec(), list.ok_or(BucketError::Missing("the first member list"))?))
    }

    /// Its blocks in the clear.
    pub const fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The version that is shown.
    pub fn head(&self) -> Link {
        self.state.lock().shown_link
    }

    /// Whether something is durable here that is not published.
    pub fn has_checkpoint(&self) -> bool {
        self.state.lock().checkpoint.is_some()
    }

    /// What its members call it.
    ///
    /// # Errors
    /// If the name does not open.
    pub fn name(&self) -> Result<String, BucketError> {
        let (epoch, name) = {
            let state = self.state.lock();
            (state.shown.share.epoch, state.shown.name.clone())
        };
        let opened = self.vault.keys().open_label(epoch, BUCKET_NAME, &name);
        Ok(opened.map_err(crate::tree::TreeError::from)?)
    }

    /// The newest version on this machine, published or not.
    ///
    /// # Errors
    /// If its root can not be read.
    pub fn superblock(&self) -> Result<Superblock, BucketError> {
        let at = {
            let state = self.state.lock();
            state.checkpoint.unwrap_or_else(|| state.shown.entry())
        };
        Ok(Superblock::get(&self.vault, &at)?)
    }
}

fn stored_manifests(store: &Store) -> Result<Vec<SignedManifest>, BucketError> {
    store.manifests().map(|row| Ok(SignedManifest::decode(&row?.1)?)).collect()
}

/// A member list, if it is here.
fn stored_list(store: &Store, genesis: &VerifiedManifest, link: &Link) -> Result<Option<MemberList>, BucketError> {
    let Some(bytes) = store.get(link)? else { return Ok(None) };
    let list = SignedMemberList::decode(&bytes).and_then(|list| list.verify(genesis.id, genesis.owner));
    list.map(Some).map_err(|why| BucketError::Members { link: *link, why })
}

/// The version that is durable and not published, if there is one.
fn stored_checkpoint(store: &Store) -> Result<Option<BlockRef>, BucketError> {
    let Some(bytes) = store.meta(CHECKPOINT)? else { return Ok(None) };
    let at = decode_ref(&bytes).ok_or(BucketError::Missing("the version that was synced last"))?;
    Ok(Some(at))
}

/// What to show: what the chain shows; but where something was made on another version and is not published, that one.
fn shown_first(store: &Store, chain: &Chain, has_checkpoint: bool) -> Result<Link, BucketError> {
    let shown = chain.shown().ok_or(BucketError::Missing("the newest version"))?;
    let base = store.meta(BASE)?.and_then(|bytes| Link::from_bytes(&bytes).ok());
    let base = base.filter(|base| *base != shown && chain.contains(base));
    let is_needed = has_checkpoint || journal::is_used(store)?;
    Ok(base.filter(|_| is_needed).unwrap_or(shown))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// `link (36) || epoch (8, LE)`
fn encode_ref(at: &BlockRef) -> Vec<u8> {
    [at.link.to_bytes().as_slice(), &at.epoch.0.to_le_bytes()].concat()
}

fn decode_ref(bytes: &[u8]) -> Option<BlockRef> {
    let (link, epoch) = bytes.split_last_chunk::<8>()?;
    Some(BlockRef { link: Link::from_bytes(link).ok()?, epoch: Epoch(u64::from_le_bytes(*epoch)) })
}

#[cfg(test)]
mod tests;
