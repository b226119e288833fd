//! What the crates below say about a bucket, as it is told over the socket.

use std::sync::Arc;

use anyhow::Result;
use jaxfs_sync::bucket::DeviceId;
use jaxfs_sync::chain::{Cause, HardFork};
use jaxfs_sync::link::{BucketId, Link};
use jaxfs_sync::publish::{Bucket, BucketStatus, LogEntry};

use super::life::LiveMount;
use crate::control::protocol::{BucketReport, HeadReport, MountReport, PinReport, Version};

/// A bucket's state, or what is wrong with it.
pub(super) fn bucket(id: BucketId, opened: Result<Arc<Bucket>>, mount: Option<&LiveMount>) -> BucketReport {
    let mut report = BucketReport { id: id.to_string(), ..Default::default() };
    if let Some(mount) = mount {
        let status = mount.mounted.status();
        report.trouble = status.trouble;
        report.mount = Some(MountReport {
            dir: mount.dir.clone(),
            read_only: mount.read_only,
            unpublished: status.unpublished,
            dirty_bytes: status.dirty_bytes,
        });
    }
    let status = opened.and_then(|bucket| {
        report.name = Some(bucket.name()?);
        Ok(bucket.status()?)
    });
    match status {
        Ok(status) => fill(&mut report, &status),
        Err(error) => report.trouble = Some(format!("{error:#}")),
    }
    report
}

fn fill(report: &mut BucketReport, status: &BucketStatus) {
    report.manifests = status.manifests;
    report.blocks = status.blocks;
    report.stored_bytes = status.stored_bytes;
    report.head = Some(head(status));
}

/// What is shown, and the head.
pub(super) fn head(status: &BucketStatus) -> HeadReport {
    let pin = status.pin.map(|pin| PinReport {
        short: pin.at.short(),
        cause: match pin.cause {
            Cause::User => "user",
            Cause::Held => "held",
            Cause::Majority => "majority",
        }
        .to_owned(),
    });
    HeadReport {
        link: status.head.to_string(),
        short: status.head.short(),
        height: status.height.0,
        epoch: status.epoch.0,
        tips: status.tips.iter().map(Link::to_string).collect(),
        forks: status.tips.iter().filter(|tip| **tip != status.canonical).count() as u64,
        forked_since: status.forked_at.map(|at| at.0),
        canonical: status.canonical.to_string(),
        canonical_short: status.canonical.short(),
        canonical_height: status.canonical_height.0,
        pin,
        policy: status.policy.to_string(),
        refusal: status.refusal.map(|why| why.to_string()),
        orphans: status.orphans,
        displaced: status.displaced,
        hard_forks: status.hard_forks.iter().map(|(peer, how)| hard_fork(peer, how)).collect(),
        unpublished: status.unpublished,
    }
}

fn hard_fork(peer: &DeviceId, how: &HardFork) -> String {
    let peer = peer.short();
    match how {
        HardFork::Genesis(link) => {
            format!("{peer} has another bucket of the same id, which begins with {}", link.short())
        }
        HardFork::Version(version) => format!("{peer} speaks version {version} of the protocol: update jaxfs"),
        HardFork::Pinned(link) => format!("{peer} shows {}: one of you is pinned", link.short()),
        HardFork::Differs(link) => format!("{peer} stays with {}", link.short()),
    }
}

/// One version of a bucket.
pub(super) fn version(entry: &LogEntry, status: &BucketStatus) -> Version {
    Version {
        link: entry.link.to_string(),
        short: entry.link.short(),
        previous: entry.previous.map(|link| link.to_string()),
        height: entry.height.0,
        epoch: entry.epoch.0,
        author: entry.author.to_string(),
        device: entry.device.clone(),
        timestamp: entry.timestamp.0,
        head: entry.link == status.canonical,
        shown: entry.link == status.head,
        pinned: status.pin.is_some_and(|pin| pin.at == entry.link),
        canonical: entry.canonical,
        tip: entry.tip,
        reapplied: entry.reapplied.iter().map(Link::to_string).collect(),
        complete: entry.complete,
    }
}
