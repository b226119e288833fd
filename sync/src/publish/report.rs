//! What people are told of a bucket.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bucket, BucketError, Counters};
use crate::bucket::{DeviceId, Height, MemberList, Timestamp};
use crate::chain::{Fate, HardFork, Pin, Policy, Refusal};
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
    /// Whether it is a leaf that may still win, the head among them.
    pub tip: bool,
    /// Orphans whose changes it carries.
    pub reapplied: Vec<Link>,
    /// Whether its content is on this machine, as far as that is known.
    pub complete: bool,
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
    /// The canonical head: the same, but for a pin or for content that has not come.
    pub canonical: Link,
    /// Its height.
    pub canonical_height: Height,
    /// What is pinned.
    pub pin: Option<Pin>,
    /// What this device does on its own.
    pub policy: Policy,
    /// Why nothing is published now, by that.
    pub refusal: Option<Refusal>,
    /// The leaves that may still win.
    pub tips: Vec<Link>,
    /// Since when there is more than one.
    pub forked_at: Option<Timestamp>,
    /// Leaves that lost, of any age.
    pub orphans: u64,
    /// Chains of this device's own that lost and were not brought back.
    pub displaced: u64,
    /// Members that this device can not agree with, and how.
    pub hard_forks: Vec<(DeviceId, HardFork)>,
    /// What has happened since the bucket was opened.
    pub counters: Counters,
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
    /// If the store can not say what was dropped. What a name does not open is shown as the device's key.
    pub fn log(&self) -> Result<Vec<LogEntry>, BucketError> {
        let dropped = self.vault.store().dropped()?;
        let known = self.replica.known.lock();
        let (names, tips) = (self.device_names(&known.lists), known.chain.tips().collect::<BTreeSet<_>>());
        let mut log: Vec<_> = known
            .chain
            .records()
            .map(|record| LogEntry {
                device: names.get(&record.author).cloned().unwrap_or_else(|| record.author.short()),
                canonical: known.chain.is_canonical(&record.link).unwrap_or(false),
                tip: tips.contains(&record.link),
                complete: record.complete && !dropped.contains(&record.link),
                reapplied: record.reapplied,
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
        let (shown, head, unpublished) = {
            let state = self.state.lock();
            (state.shown.clone(), state.shown_link, state.checkpoint.is_some())
        };
        let known = self.replica.known.lock();
        let displaced = known.chain.displaced(&self.device.id());
        Ok(BucketStatus {
            head,
            height: shown.height,
            epoch: shown.share.epoch,
            canonical: known.chain.head(),
            canonical_height: known.chain.height(),
            pin: known.chain.pin(),
            policy: known.chain.policy(),
            refusal: known.chain.may_publish().err(),
            tips: known.chain.tips().collect(),
            forked_at: known.chain.fork_detected_at(),
            orphans: known.chain.orphaned_leaves().count() as u64,
            displaced: displaced.iter().filter(|one| one.fate == Fate::Open).count() as u64,
            hard_forks: known.chain.hard_forks().collect(),
            counters: known.counters,
            manifests: known.chain.len() as u64,
            blocks: stats.blocks,
            stored_bytes: stats.bytes,
            unpublished,
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
