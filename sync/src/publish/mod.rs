//! A bucket of this home, opened: its vault, its chain, and the transaction that publishes.

use std::path::Path;
use std::sync::Arc;

use crate::bucket::DeviceKey;
use crate::link::{BucketId, Link};

#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct BucketError;

pub struct Bucket;

/// One manifest of the chain, for people.
pub struct LogEntry {
    pub link: Link,
    pub previous: Option<Link>,
    pub height: u64,
    pub epoch: u64,
    /// the author's device key, and its name where it can be opened
    pub author: [u8; 32],
    pub device: String,
    /// milliseconds since 1970, UTC
    pub timestamp: u64,
    /// on the head's chain
    pub canonical: bool,
}

pub struct BucketStatus {
    pub head: Link,
    pub height: u64,
    pub epoch: u64,
    pub tips: Vec<Link>,
    pub manifests: u64,
    pub blocks: u64,
    /// bytes on this machine's disk
    pub stored_bytes: u64,
    /// a checkpoint that is not published yet exists
    pub unpublished: bool,
}

pub struct VerifyReport {
    pub blocks: u64,
    pub bytes: u64,
    pub files: u64,
    pub directories: u64,
    pub manifests: u64,
    /// what is hurt: a path or a manifest, and how, one line each
    pub problems: Vec<String>,
}

impl Bucket {
    /// `dir` must not exist. Makes the owner key and the genesis; durable on return.
    pub fn create(dir: &Path, name: &str, device: Arc<DeviceKey>) -> Result<Self, BucketError> { unimplemented!() }
    pub fn open(dir: &Path, device: Arc<DeviceKey>) -> Result<Self, BucketError> { unimplemented!() }
    pub fn id(&self) -> BucketId { unimplemented!() }
    pub fn genesis(&self) -> Link { unimplemented!() }
    pub fn name(&self) -> String { unimplemented!() }
    /// newest first, canonical chain and forks
    pub fn log(&self) -> Result<Vec<LogEntry>, BucketError> { unimplemented!() }
    pub fn status(&self) -> Result<BucketStatus, BucketError> { unimplemented!() }
    /// reads everything; `progress(done bytes, all bytes)`
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport, BucketError> { unimplemented!() }
    /// the owner key as a 24-word recovery phrase, where this device holds it
    pub fn recovery_phrase(&self) -> Result<Option<String>, BucketError> { unimplemented!() }
    /// takes an owner key back from its phrase; refused if it is not this bucket's
    pub fn recover_owner(&self, phrase: &str) -> Result<(), BucketError> { unimplemented!() }
}
