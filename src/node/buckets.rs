//! The buckets of a home: found, opened once each, made, removed.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use jaxfs_sync::bucket::{DeviceId, DeviceKey, Role};
use jaxfs_sync::limits::LABEL_BYTES;
use jaxfs_sync::link::BucketId;
use jaxfs_sync::publish::{Bucket, BucketError, NewBucket, Repaired, Replica, UNFINISHED as NEW};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::control::protocol::SecretText;

/// Names of folders that are not buckets yet, or no longer: what a crash left there is swept away.
const REMOVED: &str = ".removed-";
/// Of a bucket that is being joined. It is gone on with.
const JOINING: &str = ".joining-";

/// The buckets of one home. A bucket that was opened stays open, since its database can be opened only once.
pub(super) struct Buckets {
    folder: PathBuf,
    /// Locked before a [`Place`] in it, and not while a bucket is being opened.
    places: Mutex<BTreeMap<BucketId, Place>>,
}

/// Holds one bucket; locked while it is opened or removed.
type Place = Arc<Mutex<Option<Open>>>;

/// What is open.
enum Open {
    Bucket(Arc<Bucket>),
    /// Kept without being read.
    Mirror(Arc<Replica>),
}

impl Buckets {
    /// The buckets in `folder`. Only for the holder of the home's lock: sweeps away what a crash left half done.
    pub(super) fn new(folder: PathBuf) -> Self {
        sweep(&folder);
        Self { folder, places: Mutex::new(BTreeMap::new()) }
    }

    /// The ids of all buckets, sorted.
    pub(super) fn ids(&self) -> Result<Vec<BucketId>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("can not read {}", self.folder.display()))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let id = entry?.file_name().to_str().and_then(|name| Uuid::try_parse(name).ok());
            ids.extend(id.map(BucketId));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Where a bucket is kept.
    pub(super) fn dir(&self, id: BucketId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// Where a bucket's owner key is kept, if this home has it.
    pub(super) fn owner_key(&self, id: BucketId) -> PathBuf {
        self.dir(id).join("owner.key")
    }

    /// A bucket, opened if it is not open yet.
    pub(super) fn open(&self, id: BucketId, device: &Arc<DeviceKey>) -> Result<Arc<Bucket>> {
        let place = self.place(id);
        let mut place = place.lock();
        match &*place {
            Some(Open::Bucket(bucket)) => return Ok(bucket.clone()),
            Some(Open::Mirror(_)) => return Err(BucketError::Mirror.into()),
            None => {}
        }
        let dir = self.dir(id);
        let opened = Bucket::open(&dir, device.clone()).map_err(|error| {
            let shown = dir.display();
            if matches!(error, BucketError::Mirror) {
                return anyhow::Error::from(error);
            }
            anyhow!(
                "bucket {id} can not be opened: {error}: `jaxfs verify --repair {id}` does what can be done; else put {shown} \
                 back from a backup"
            )
        })?;
        let bucket = Arc::new(opened);
        *place = Some(Open::Bucket(bucket.clone()));
        Ok(bucket)
    }

    /// A bucket that this device keeps as a mirror.
    pub(super) fn mirror(&self, id: BucketId, device: DeviceId) -> Result<Arc<Replica>> {
        let place = self.place(id);
        let mut place = place.lock();
        match &*place {
            Some(Open::Mirror(replica)) => return Ok(replica.clone()),
            Some(Open::Bucket(_)) => bail!("bucket {id} is no mirror"),
            None => {}
        }
        let replica = Arc::new(Replica::open(&self.dir(id), device)?);
        ensure!(replica.shown_role(&device) == Some(Role::Mirror), "bucket {id} is no mirror");
        *place = Some(Open::Mirror(replica.clone()));
        Ok(replica)
    }

    /// All buckets that are open and can be read.
    pub(super) fn opened(&self) -> Vec<Arc<Bucket>> {
        let places: Vec<_> = self.places.lock().values().cloned().collect();
        let bucket = |place: Place| match &*place.lock() {
            Some(Open::Bucket(bucket)) => Some(bucket.clone()),
            _ => None,
        };
        places.into_iter().filter_map(bucket).collect()
    }

    /// Where a bucket is put together that is being joined. What was begun there before is gone on with.
    pub(super) fn joining(&self, id: BucketId) -> Result<PathBuf> {
        self.make_folder()?;
        Ok(self.folder.join(format!("{JOINING}{id}")))
    }

    /// A bucket that was joined is one of this home's. It must be closed.
    pub(super) fn joined(&self, id: BucketId) -> Result<()> {
        fs::rename(self.folder.join(format!("{JOINING}{id}")), self.dir(id))
            .and_then(|()| sync_folder(&self.folder))
            .context("can not keep the bucket")
    }

    /// Makes an empty bucket.
    pub(super) fn create(
        &self,
        name: &str,
        device: &Arc<DeviceKey>,
        passphrase: Option<&SecretText>,
    ) -> Result<Arc<Bucket>> {
        ensure!(!name.trim().is_empty(), "a bucket needs a name: `jaxfs buckets create NAME`");
        ensure!(name.len() <= LABEL_BYTES, "a bucket's name has at most {LABEL_BYTES} bytes: choose a shorter one");
        ensure!(!name.contains(char::is_control), "a bucket's name has no control characters: choose another one");
        self.make_folder()?;
        let passphrase = passphrase.map(SecretText::expose);
        let new = NewBucket { name, device_name: &device_name(), device, passphrase };
        let bucket = Arc::new(new.create(&self.folder).context("can not make a bucket")?);
        *self.place(bucket.id()).lock() = Some(Open::Bucket(bucket.clone()));
        Ok(bucket)
    }

    /// Deletes a bucket for ever. Refused while a command uses it.
    pub(super) fn remove(&self, id: BucketId) -> Result<()> {
        let place = self.place(id);
        let mut place = place.lock();
        close(id, &mut place)?;
        let removed = self.folder.join(format!("{REMOVED}{id}"));
        fs::rename(self.dir(id), &removed)
            .and_then(|()| sync_folder(&self.folder))
            .context("can not remove the bucket")?;
        fs::remove_dir_all(&removed).with_context(|| format!("can not delete all of {}", removed.display()))
    }

    /// Makes the index of a bucket anew. Refused while a command uses it.
    pub(super) fn repair(&self, id: BucketId, progress: &mut dyn FnMut(u64, u64)) -> Result<Repaired> {
        let place = self.place(id);
        let mut place = place.lock();
        close(id, &mut place)?;
        Bucket::repair(&self.dir(id), progress).context("can not repair")
    }

    fn make_folder(&self) -> Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(error).with_context(|| format!("can not make {}", self.folder.display()))
            }
            _ => Ok(()),
        }
    }

    fn place(&self, id: BucketId) -> Place {
        self.places.lock().entry(id).or_default().clone()
    }
}

/// Closes a bucket, unless someone has it.
fn close(id: BucketId, place: &mut Option<Open>) -> Result<()> {
    if let Some(open) = place.take() {
        *place = match open {
            Open::Bucket(bucket) => Arc::try_unwrap(bucket).err().map(Open::Bucket),
            Open::Mirror(replica) => Arc::try_unwrap(replica).err().map(Open::Mirror),
        };
        ensure!(place.is_none(), "bucket {id} is in use by another command: wait for it, and try again");
    }
    Ok(())
}

/// What other members will see this device called: the machine's name.
pub(super) fn device_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut name: String = name.chars().filter(|char| !char.is_control()).collect();
    while name.len() > LABEL_BYTES {
        name.pop();
    }
    if name.is_empty() { "device".into() } else { name }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Deletes what was being made or removed when a process died.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(NEW) || name.starts_with(REMOVED)) {
            sweep_one(&entry.path());
        }
    }
}

fn sweep_one(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(%error, "can not sweep away a half-made bucket")
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_home_without_the_folder_has_no_buckets() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Buckets::new(dir.path().join("buckets")).ids().unwrap(), []);
    }

    #[test]
    fn only_folders_named_by_an_id_are_buckets_and_half_made_ones_are_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        let id = Uuid::from_u128(7);
        for name in [id.to_string().as_str(), "notes", ".new-1", ".removed-1"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let buckets = Buckets::new(dir.path().to_owned());
        assert_eq!(buckets.ids().unwrap(), [BucketId(id)]);
        assert!(dir.path().join("notes").exists());
        assert!(!dir.path().join(".new-1").exists() && !dir.path().join(".removed-1").exists());
    }
}
