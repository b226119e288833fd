//! What the tests of trees share.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::crypto::{Keyring, Secret};
use crate::link::{BucketId, Epoch};
use crate::store::Store;

pub(super) struct Lab {
    pub(super) dir: tempfile::TempDir,
    pub(super) vault: Vault,
}

impl Lab {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::create(dir.path()).unwrap());
        Self { vault: Vault::new(store, keys()), dir }
    }

    /// Bytes of blocks written so far.
    pub(super) fn written(&self) -> u64 {
        self.vault.store().stats().unwrap().put_bytes
    }
}

pub(super) fn keys() -> Arc<Keyring> {
    Arc::new(Keyring::new(BucketId(uuid::Uuid::from_bytes([7; 16])), Epoch(0), &Secret::new([9; 32])))
}

pub(super) fn record(seed: u64, body: Body) -> Record {
    let time = Time { secs: 1_700_000_000 + seed as i64, nanos: 123_456_789 };
    let mut id = [0xa5; 16];
    id[..8].copy_from_slice(&seed.to_be_bytes());
    Record {
        id: FileId(id),
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: time,
        ctime: time,
        btime: time,
        atime: None,
        xattrs: Xattrs::default(),
        body,
    }
}

pub(super) fn entry(name: &str, seed: u64) -> DirEntry {
    let record = record(seed, Body::File(Content::inline(&seed.to_le_bytes()).unwrap()));
    DirEntry { name: Name::new(name.as_bytes()).unwrap(), target: Target::Record(Box::new(record)) }
}
