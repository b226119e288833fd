//! A bucket in a directory of its own, mounted without a kernel.

use std::path::PathBuf;
use std::sync::Arc;

use jaxfs_sync::bucket::DeviceKey;
use jaxfs_sync::publish::{Bucket, NewBucket};
use tempfile::TempDir;

use crate::Owner;
use crate::fs::{Caller, Fs};

pub(in crate::fs) const ME: Caller = Caller { uid: 0, gid: 7, pid: 0, umask: 0 };

pub(in crate::fs) struct Lab {
    _home: TempDir,
    dir: PathBuf,
    device: Arc<DeviceKey>,
    pub(in crate::fs) bucket: Arc<Bucket>,
}

impl Lab {
    pub(in crate::fs) fn new() -> Self {
        // Where there is such a thing, in memory: what is tested is not the disk.
        let home = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let device = Arc::new(DeviceKey::generate());
        let new = NewBucket { name: "model", device_name: "here", device: &device, passphrase: None };
        let bucket = Arc::new(new.create(home.path()).unwrap());
        Self { dir: bucket.dir().to_path_buf(), _home: home, device, bucket }
    }

    /// The file system as it is found at a mount.
    pub(in crate::fs) fn mount(&self, dirty_limit: usize) -> Arc<Fs> {
        let fs = Fs::new(Arc::clone(&self.bucket), Owner::Stored, dirty_limit).unwrap();
        fs.heed_acls();
        fs
    }

    /// Ends the process, as far as the bucket can tell, and opens it anew. No file system may be mounted.
    pub(in crate::fs) fn restart(self) -> Self {
        let Self { _home, dir, device, bucket } = self;
        assert_eq!(Arc::strong_count(&bucket), 1, "nobody else holds the bucket");
        drop(bucket);
        let bucket = Arc::new(Bucket::open(&dir, Arc::clone(&device)).unwrap());
        Self { _home, dir, device, bucket }
    }

    /// Published versions, the genesis among them.
    pub(in crate::fs) fn manifests(&self) -> u64 {
        self.bucket.status().unwrap().manifests
    }
}
