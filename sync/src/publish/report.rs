//! What people are told of a bucket.

use std::collections::BTreeMap;

use super::{Bucket, BucketError};
use crate::bucket::{DeviceId, Height, MemberList, Timestamp};
use crate::crypto::label::DEVICE_NAME;
use crate::link::{Epoch, Link};

/// A version, for people.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Its manifest.
    pub link: Link,
    /// The one before.
    pub previous: Option<Link>,
    /// Hops to the genesis.
    pub height: Height,
    /// Of which keys.
    pub epoch: Epoch,
    /// Who made it.
    pub author: DeviceId,
    /// What that device is called, where the name opens.
    pub device: String,
    /// When, as its author says.
    pub timestamp: Timestamp,
    /// Whether it is the head or one of its ancestors.
    pub canonical: bool,
}

/// The state of a bucket, for people.
#[derive(Clone, Debug)]
pub struct BucketStatus {
    /// The version that is shown.
    pub head: Link,
    /// Its height.
    pub height: Height,
    /// Of which keys it is.
    pub epoch: Epoch,
    /// The leaves that may still win.
    pub tips: Vec<Link>,
    /// Known versions.
    pub manifests: u64,
    /// Stored blocks.
    pub blocks: u64,
    /// Bytes on this machine's disk.
    pub stored_bytes: u64,
    /// Something is durable here that is not published.
    pub unpublished: bool,
    /// Blocks written since the bucket was opened.
    pub written_blocks: u64,
    /// Their bytes.
    pub written_bytes: u64,
}

impl Bucket {
    /// All known versions, the highest first.
    ///
    /// # Errors
    /// None today: what a name does not open is shown as the device's key.
    pub fn log(&self) -> Result<Vec<LogEntry>, BucketError> {
        let state = self.state.lock();
        let names = self.device_names(&state.lists);
        let mut log: Vec<_> = state
            .chain
            .records()
            .map(|record| LogEntry {
                device: names.get(&record.author).cloned().unwrap_or_else(|| record.author.short()),
                canonical: state.chain.is_canonical(&record.link).unwrap_or(false),
                link: record.link,
                previous: record.previous,
                height: record.height,
                epoch: record.epoch,
                author: record.author,
                timestamp: record.timestamp,
            })
            .collect();
        log.sort_by_key(|entry| (std::cmp::Reverse(entry.height), std::cmp::Reverse(entry.canonical), entry.link));
        Ok(log)
    }

    /// The state of the chain and the store.
    ///
    /// # Errors
    /// If the store can not say.
    pub fn status(&self) -> Result<BucketStatus, BucketError> {
        let stats = self.vault.store().stats()?;
        let state = self.state.lock();
        Ok(BucketStatus {
            head: state.shown_link,
            height: state.shown.height,
            epoch: state.shown.share.epoch,
            tips: state.chain.tips().collect(),
            manifests: state.chain.len() as u64,
            blocks: stats.blocks,
            stored_bytes: stats.bytes,
            unpublished: state.checkpoint.is_some(),
            written_blocks: stats.put_blocks,
            written_bytes: stats.put_bytes,
        })
    }

    /// What devices were called last.
    fn device_names(&self, lists: &BTreeMap<Link, MemberList>) -> BTreeMap<DeviceId, String> {
        let keys = self.vault.keys();
        let mut sorted: Vec<_> = lists.values().collect();
        sorted.sort_by_key(|list| list.sequence());
        let named = sorted.iter().flat_map(|list| {
            let open = |name: &[u8]| keys.open_label(list.epoch(), DEVICE_NAME, name).ok();
            list.members().iter().filter_map(move |member| Some((member.device, open(&member.name)?)))
        });
        named.collect()
    }
}
