//! What a monitor wants to know, in the OpenMetrics text format. Each bucket is one value of the label `bucket`.

use anyhow::Result;
use jaxfs_sync::publish::BucketStatus;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::state::State;
use crate::control::protocol::Target;

/// Which bucket, by its id.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    bucket: String,
}

type Value<T> = (&'static str, &'static str, fn(&BucketStatus) -> T);

/// Name, help, value.
const GAUGES: [Value<u64>; 10] = [
    ("head_height", "Length of the canonical head's chain", |s| s.canonical_height.0),
    ("shown_height", "Length of the chain that is shown", |s| s.height.0),
    ("manifests", "Versions that are known", |s| s.manifests),
    ("tips", "Leaves that may still win, the head among them", |s| s.tips.len() as u64),
    ("forked", "Whether there is more than one of them", |s| u64::from(s.tips.len() > 1)),
    ("orphans", "Chains that lost, of any age", |s| s.orphans),
    ("displaced", "Chains of this device that lost and were not brought back", |s| s.displaced),
    ("pinned", "Whether something else than the head is shown on purpose", |s| u64::from(s.pin.is_some())),
    ("stored_blocks", "Blocks on this machine", |s| s.blocks),
    ("hard_forked_members", "Members that can not be agreed with", |s| s.hard_forks.len() as u64),
];

const COUNTERS: [Value<u64>; 13] = [
    ("head_changes", "Times that there was another head", |s| s.counters.head_changes),
    ("deep_reorganisations", "Times that it had nothing of the last heads", |s| s.counters.deep_reorganisations),
    ("forks_started", "Times that a fork began", |s| s.counters.forks_started),
    ("forks_resolved", "Times that one ended", |s| s.counters.forks_resolved),
    ("tips_pruned", "Tips that fell too far behind", |s| s.counters.tips_pruned),
    ("stale_announcements", "Announced heads that were too far behind", |s| s.counters.stale),
    ("manifests_rejected", "Manifests that were not valid", |s| s.counters.rejected),
    ("manifests_dropped", "Manifests that there was no room for", |s| s.counters.dropped),
    ("manifests_deferred", "Manifests whose author made too many at once", |s| s.counters.deferred),
    ("hard_forks", "Times that a member could not be agreed with", |s| s.counters.hard_forks),
    ("reapplied", "Chains of this device's that lost, and whose work was brought back", |s| s.counters.reapplied),
    ("reapplied_nothing", "Chains that lost and brought nothing new", |s| s.counters.settled),
    ("reapply_conflicts", "Changes that lost and were not brought back", |s| s.counters.reapply_conflicts),
];

impl State {
    /// All metrics of all buckets that can be opened. Counters begin when the bucket is opened.
    pub(super) fn metrics(&self) -> Result<String> {
        let statuses = self.statuses(&Target::Any)?;
        let mut registry = Registry::with_prefix("jaxfs");
        for (name, help, value) in GAUGES {
            registry.register(name, help, gauges(&statuses, value));
        }
        let bytes = gauges(&statuses, |status| status.stored_bytes);
        registry.register_with_unit("stored", "Bytes on this machine's disk", Unit::Bytes, bytes);
        for (name, help, value) in COUNTERS {
            registry.register(name, help, counters(&statuses, value));
        }
        let seconds = Family::<Of, Counter<f64, std::sync::atomic::AtomicU64>>::default();
        for (bucket, status) in &statuses {
            seconds.get_or_create(&of(bucket)).inc_by(status.counters.forked_ms as f64 / 1000.0);
        }
        registry.register_with_unit("forked", "How long forks that ended were live", Unit::Seconds, seconds);
        let mut out = String::new();
        text::encode(&mut out, &registry)?;
        Ok(out)
    }
}

fn of(bucket: &str) -> Of {
    Of { bucket: bucket.to_owned() }
}

fn gauges(statuses: &[(String, BucketStatus)], value: fn(&BucketStatus) -> u64) -> Family<Of, Gauge> {
    let family = Family::default();
    for (bucket, status) in statuses {
        let gauge: &Gauge = &family.get_or_create_owned(&of(bucket));
        gauge.set(i64::try_from(value(status)).unwrap_or(i64::MAX));
    }
    family
}

fn counters(statuses: &[(String, BucketStatus)], value: fn(&BucketStatus) -> u64) -> Family<Of, Counter> {
    let family = Family::default();
    for (bucket, status) in statuses {
        let counter: &Counter = &family.get_or_create_owned(&of(bucket));
        counter.inc_by(value(status));
    }
    family
}
