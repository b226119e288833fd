//! What the crates below say about a bucket, as it is told over the socket.

use std::sync::Arc;

use anyhow::Result;
use jaxfs_sync::link::{BucketId, Link};
use jaxfs_sync::publish::{Bucket, BucketStatus, LogEntry};

use super::life::LiveMount;
use crate::control::protocol::{BucketReport, HeadReport, MountReport, Version};

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
    report.head = Some(HeadReport {
        link: status.head.to_string(),
        short: status.head.short(),
        height: status.height.0,
        epoch: status.epoch.0,
        tips: status.tips.iter().map(Link::to_string).collect(),
        forks: status.tips.iter().filter(|tip| **tip != status.head).count() as u64,
        unpublished: status.unpublished,
    });
}

/// One version of a bucket.
pub(super) fn version(entry: &LogEntry, head: Link) -> Version {
    Version {
        link: entry.link.to_string(),
        short: entry.link.short(),
        previous: entry.previous.map(|link| link.to_string()),
        height: entry.height.0,
        epoch: entry.epoch.0,
        author: entry.author.to_string(),
        device: entry.device.clone(),
        timestamp: entry.timestamp.0,
        head: entry.link == head,
        canonical: entry.canonical,
    }
}
