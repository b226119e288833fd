//! A bucket in a directory of its own, mounted without a kernel.

use std::path::PathBuf;
use std::sync::Arc;

use jaxfs_sync::bucket::DeviceKey;
use jaxfs_sync::publish::{Bucket, NewBucket};
use jaxfs_sync::store::disk::Disk;
use jaxfs_sync::store::disk::simulated::Simulation;
use tempfile::TempDir;

use crate::Owner;
use crate::fs::{self, Caller, Fs};
use jaxfs_sync::store::Settings;

pub(in crate::fs) const ME: Caller = Caller { uid: 0, gid: 7, pid: 0, umask: 0 };

pub(in crate::fs) struct Lab {
    home: TempDir,
    dir: PathBuf,
    device: Arc<DeviceKey>,
    settings: Settings,
    pub(in crate::fs) bucket: Arc<Bucket>,
}

impl Lab {
    pub(in crate::fs) fn new() -> Self {
        // Where there is such a thing, in memory: what is tested is not the disk.
        let home = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let device = Arc::new(DeviceKey::generate());
        let bucket = Arc::new(new_bucket(&device).create(home.path()).unwrap());
        Self { dir: bucket.dir().to_path_buf(), home, device, settings: Settings::default(), bucket }
    }

    /// One that is stored on a disk whose power can be cut.
    pub(in crate::fs) fn on(disk: &Simulation) -> Self {
        // Small files, so that there are several of each kind.
        let disk_of = Disk::Simulated(disk.clone());
        let settings = Settings { disk: disk_of, segment_bytes: 300_000, journal_file_bytes: 64 << 10 };
        let home = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let (dir, device) = (home.path().join("bucket"), Arc::new(DeviceKey::generate()));
        let bucket = Arc::new(new_bucket(&device).create_on(&settings, &dir).unwrap());
        disk.sync_all();
        Self { dir, home, device, settings, bucket }
    }

    /// The file system as it is found at a mount.
    pub(in crate::fs) fn mount(&self, dirty_limit: usize) -> Arc<Fs> {
        let fs =
            Fs::new(Arc::clone(&self.bucket), fs::Settings { owner: Owner::Stored, dirty_limit, most_space: None })
                .unwrap();
        fs.heed_acls();
        fs
    }

    /// Ends the process, as far as the bucket can tell, and opens it anew. No file system may be mounted.
    pub(in crate::fs) fn restart(self) -> Self {
        self.restart_after(|| {})
    }

    /// [`Lab::restart`], with something done while nobody has the bucket open.
    pub(in crate::fs) fn restart_after(self, meanwhile: impl FnOnce()) -> Self {
        let Self { home, dir, device, settings, bucket } = self;
        assert_eq!(Arc::strong_count(&bucket), 1, "nobody else holds the bucket");
        drop(bucket);
        meanwhile();
        let bucket = Arc::new(Bucket::open_with(&settings, &dir, Arc::clone(&device)).unwrap());
        Self { home, dir, device, settings, bucket }
    }

    /// Published versions, the genesis among them.
    pub(in crate::fs) fn manifests(&self) -> u64 {
        self.bucket.status().unwrap().manifests
    }
}

const fn new_bucket(device: &Arc<DeviceKey>) -> NewBucket<'_> {
    NewBucket { name: "model", device_name: "here", device, passphrase: None }
}
