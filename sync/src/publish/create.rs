//! How a bucket begins: an owner key, a first member list, an empty tree, a genesis.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use super::{Bucket, BucketError, now};
use crate::bucket::{
    DEFAULT_FINALITY_DEPTH, DeviceKey, EpochSecrets, ManifestDraft, MemberListDraft, OwnerKey, Place, Share,
};
use crate::crypto::Keyring;
use crate::crypto::label::{BUCKET_NAME, Label};
use crate::link::{BucketId, Epoch};
use crate::store::{Commit, Settings, Store};
use crate::tree::{Body, FileId, Pins, Record, Superblock, Time, Tree, Vault};

/// How the names of directories begin that are not buckets yet. What a crash leaves of them may be deleted.
pub const UNFINISHED: &str = ".new-";

/// What a new bucket is made from.
#[derive(Clone, Copy, Debug)]
pub struct NewBucket<'a> {
    /// What its members call it.
    pub name: &'a str,
    /// What they call this device.
    pub device_name: &'a str,
    /// The first member and owner.
    pub device: &'a Arc<DeviceKey>,
    /// Protects the owner key's file.
    pub passphrase: Option<&'a str>,
}

impl NewBucket<'_> {
    /// Makes the bucket in a new directory below `buckets`, named by its id, and opens it. It is durable then, and whole:
    /// a crash before leaves nothing that looks like a bucket.
    ///
    /// # Errors
    /// If a name is too long, or the disk refuses.
    pub fn create(&self, buckets: &Path) -> Result<Bucket, BucketError> {
        let id = BucketId(uuid::Uuid::new_v4());
        let (unfinished, dir) = (buckets.join(format!("{UNFINISHED}{id}")), buckets.join(id.to_string()));
        let result = self.fill(&Settings::default(), id, &unfinished).and_then(|()| rename(buckets, &unfinished, &dir));
        if let Err(error) = result {
            if let Err(left) = fs::remove_dir_all(&unfinished) {
                tracing::debug!(%left, "an unfinished bucket stays behind");
            }
            return Err(error);
        }
        Bucket::open(&dir, Arc::clone(self.device))
    }

    /// Makes the bucket in `dir` itself, with its store on another disk. A crash leaves any part of it.
    ///
    /// # Errors
    /// As [`NewBucket::create`].
    #[cfg(any(test, feature = "simulation"))]
    pub fn create_on(&self, settings: &Settings, dir: &Path) -> Result<Bucket, BucketError> {
        self.fill(settings, BucketId(uuid::Uuid::new_v4()), dir)?;
        Bucket::open_with(settings, dir, Arc::clone(self.device))
    }

    fn fill(&self, settings: &Settings, id: BucketId, dir: &Path) -> Result<(), BucketError> {
        let (name, device_name) = (Label::new(self.name)?, Label::new(self.device_name)?);
        let (owner, secrets) = (OwnerKey::generate(), EpochSecrets::random());
        let io = |source| BucketError::Io { path: dir.to_path_buf(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let store = Arc::new(Store::create_with(settings, dir)?);
        let members = MemberListDraft::first(id, owner.id(), self.device, &device_name, &secrets)?.sign(&owner)?;
        store.put(&members.link(), members.bytes())?;
        let keyring = Keyring::new(id, Epoch(0), &secrets.content);
        let sealed_name = keyring.seal_label(BUCKET_NAME, &name);
        let vault = Vault::new(Arc::clone(&store), Arc::new(keyring));
        let genesis = ManifestDraft {
            id,
            owner: owner.id(),
            name: sealed_name,
            share: Share { epoch: Epoch(0), members: members.link() },
            entry: empty_root().put(&vault)?.link,
            pins: vault.put_node(Pins::default())?.link,
            place: Place::Genesis { finality_depth: DEFAULT_FINALITY_DEPTH },
            reapplied: Vec::new(),
            timestamp: now(),
        };
        let genesis = genesis.sign(self.device)?;
        store.commit(Commit { manifests: vec![(genesis.link(), genesis.bytes().to_vec())], meta: Vec::new() })?;
        Ok(owner.create(&dir.join("owner.key"), self.passphrase)?)
    }
}

/// A tree of nothing, which belongs to whoever runs this.
fn empty_root() -> Superblock {
    let now = now();
    let nanos = u32::try_from(now.0 % 1000).unwrap_or(0) * 1_000_000;
    let time = Time { secs: i64::try_from(now.0 / 1000).unwrap_or(i64::MAX), nanos };
    let root = Record {
        id: FileId::random(),
        mode: 0o755,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: time,
        ctime: time,
        btime: time,
        atime: None,
        xattrs: Default::default(),
        body: Body::empty_directory(),
    };
    Superblock { root, inodes: Tree::empty() }
}

fn rename(parent: &Path, from: &Path, to: &Path) -> Result<(), BucketError> {
    let durably = || -> io::Result<()> {
        fs::rename(from, to)?;
        fs::File::open(parent)?.sync_all()
    };
    durably().map_err(|source| BucketError::Io { path: to.to_path_buf(), source })
}
