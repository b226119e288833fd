//! Which versions keep their content: all for a while, then the newest of each hour, then of each day.
//!
//! Hours and days are those of UTC, whatever the time is now. So the newest version of a day is the newest of its hour, and
//! what was kept once is what would be chosen among it: collecting twice drops nothing more.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bucket::{Height, Timestamp};
use crate::link::Link;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// For how long which versions keep their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How old a version may be of which all are kept.
    pub all: Duration,
    /// How old, if it is the newest of its hour.
    pub hourly: Duration,
    /// How old, if it is the newest of its day.
    pub daily: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { all: DAY, hourly: 7 * DAY, daily: 30 * DAY }
    }
}

/// A version that can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) link: Link,
    pub(super) height: Height,
    /// As its author says.
    pub(super) timestamp: Timestamp,
}

impl Retention {
    /// Nothing but what has to be kept.
    pub const NOTHING: Self = Self { all: Duration::ZERO, hourly: Duration::ZERO, daily: Duration::ZERO };

    /// The versions that are kept at a time. One from the future counts as made now.
    pub(super) fn kept(&self, versions: &[Candidate], now: Timestamp) -> Vec<Link> {
        let made = |version: &Candidate| version.timestamp.0.min(now.0);
        let age = |version: &Candidate| Duration::from_millis(now.0 - made(version));
        let newest_of = |unit: Duration| {
            let mut newest = BTreeMap::<u64, &Candidate>::new();
            for version in versions {
                let rank = |version: &Candidate| (made(version), version.height, *version.link.digest());
                let entry = newest.entry(made(version) / unit.as_millis() as u64).or_insert(version);
                if rank(version) > rank(entry) {
                    *entry = version;
                }
            }
            newest
        };
        let (hours, days) = (newest_of(HOUR), newest_of(DAY));
        let is_newest = |newest: &BTreeMap<u64, &Candidate>, unit: Duration, version: &Candidate| {
            newest.get(&(made(version) / unit.as_millis() as u64)).is_some_and(|newest| newest.link == version.link)
        };
        let keeps = |version: &&Candidate| {
            let age = age(version);
            age < self.all
                || age < self.hourly && is_newest(&hours, HOUR, version)
                || age < self.daily && is_newest(&days, DAY, version)
        };
        versions.iter().filter(keeps).map(|version| version.link).collect()
    }

    /// `seconds (8, LE)` three times, as the store keeps it.
    pub(super) fn encode(&self) -> Vec<u8> {
        [self.all, self.hourly, self.daily].iter().flat_map(|part| part.as_secs().to_le_bytes()).collect()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (parts, rest) = bytes.as_chunks::<8>();
        let [all, hourly, daily] = *parts.first_chunk::<3>()?;
        let secs = |part| Duration::from_secs(u64::from_le_bytes(part));
        (rest.is_empty() && parts.len() == 3).then(|| Self { all: secs(all), hourly: secs(hourly), daily: secs(daily) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::link::Codec;

    const MONTHS: u64 = 90 * 24 * 3_600_000;

    fn version(number: usize, timestamp: u64) -> Candidate {
        let link = Link::of(Codec::DagCbor, &number.to_le_bytes());
        Candidate { link, height: Height(number as u64), timestamp: Timestamp(timestamp) }
    }

    fn versions(times: &[u64]) -> Vec<Candidate> {
        times.iter().enumerate().map(|(number, time)| version(number, *time)).collect()
    }

    fn retained(retention: &Retention, versions: &[Candidate], now: u64) -> Vec<Candidate> {
        let kept: BTreeSet<_> = retention.kept(versions, Timestamp(now)).into_iter().collect();
        versions.iter().filter(|version| kept.contains(&version.link)).copied().collect()
    }

    /// Times as they come: in bursts, some from the future, some lies.
    fn times() -> impl Strategy<Value = Vec<u64>> {
        let time = prop_oneof![
            8 => 0..MONTHS,
            4 => (0..MONTHS / 3_600_000, 0..5_000u64).prop_map(|(hour, by)| hour * 3_600_000 + by),
            1 => MONTHS..2 * MONTHS,
            1 => Just(u64::MAX),
        ];
        prop::collection::vec(time, 0..200)
    }

    proptest! {
        #[test]
        fn collecting_twice_drops_nothing_more(times in times(), now in MONTHS..2 * MONTHS) {
            let retention = Retention::default();
            let once = retained(&retention, &versions(&times), now);
            prop_assert_eq!(&retained(&retention, &once, now), &once);
        }

        #[test]
        fn what_is_kept_later_does_not_depend_on_what_was_collected_before(
            times in times(),
            now in MONTHS..2 * MONTHS,
            later in 0..MONTHS,
        ) {
            // Not of those from the future, which count as made at another time later.
            let times: Vec<_> = times.into_iter().filter(|time| *time <= now).collect();
            let (retention, all) = (Retention::default(), versions(&times));
            let before = retained(&retention, &all, now);
            prop_assert_eq!(retained(&retention, &before, now + later), retained(&retention, &all, now + later));
        }

        #[test]
        fn each_hour_of_a_week_and_each_day_of_a_month_that_had_versions_keeps_one(times in times()) {
            let (now, all) = (MONTHS, versions(&times));
            let kept = retained(&Retention::default(), &all, now);
            for one in all.iter().filter(|one| one.timestamp.0 <= now) {
                let age = now - one.timestamp.0;
                let near = |unit: u64| kept.iter().any(|kept| kept.timestamp.0 / unit == one.timestamp.0 / unit);
                let day = 24 * 3_600_000;
                prop_assert!(age >= day || kept.contains(one));
                prop_assert!(age >= 7 * day - 3_600_000 || near(3_600_000));
                prop_assert!(age >= 29 * day || near(day));
            }
            prop_assert!(kept.iter().all(|kept| kept.timestamp.0 >= now - 30 * 24 * 3_600_000));
        }
    }

    #[test]
    fn a_version_from_the_future_counts_as_made_now() {
        let all = versions(&[MONTHS + 5, u64::MAX]);
        assert_eq!(retained(&Retention::default(), &all, MONTHS), all);
    }

    #[test]
    fn nothing_keeps_nothing() {
        assert!(Retention::NOTHING.kept(&versions(&[0, 5, MONTHS]), Timestamp(MONTHS)).is_empty());
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let retention = Retention { hourly: Duration::from_secs(7), ..Retention::default() };
        assert_eq!(Retention::decode(&retention.encode()), Some(retention));
        assert_eq!(Retention::decode(b"short"), None);
    }
}
