//! When to publish: a pure state machine that is told what happens and asked when it wants to be woken.
//!
//! After a quiet second, a first change is published almost at once, so that a single save reaches a peer within tens of
//! milliseconds; what comes in a burst is gathered, so that an untar makes a few manifests and not thousands. A file that
//! is open and being written is published as far as it has come, ever more seldom while that goes on.

use std::time::{Duration, Instant};

/// A change after this much silence is taken for a single save.
const SILENCE: Duration = Duration::from_secs(1);
/// A single save is published when nothing has followed it for this long, so that a write to a temporary file and the
/// rename that ends it are one manifest.
const SETTLE: Duration = Duration::from_millis(10);
/// A single save waits no longer than this, once no file is open for writing.
const SETTLE_MOST: Duration = Duration::from_millis(50);
/// A burst is published when it pauses for this long.
const GATHER: Duration = Duration::from_millis(200);
/// A burst that does not pause is published this often.
const GATHER_MOST: Duration = Duration::from_secs(2);
/// How often a file that stays open and is being written is published, at first.
const HELD_LEAST: Duration = Duration::from_secs(2);
/// And at last.
const HELD_MOST: Duration = Duration::from_secs(60);
/// After a failure to publish, the next attempt waits this long at first, and twice as long each time.
const RETRY_LEAST: Duration = Duration::from_millis(500);
/// And at most this long.
const RETRY_MOST: Duration = Duration::from_secs(30);

/// A stretch of changes that are not published.
#[derive(Clone, Copy, Debug)]
struct Burst {
    first: Instant,
    last: Instant,
    /// It began after a silence.
    single: bool,
}

/// The times of what has changed and has not been published.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// Changes of names, attributes, and files that were closed.
    settled: Option<Burst>,
    /// Writes into files that are still open.
    held: Option<Instant>,
    held_interval: Duration,
    /// When anything changed last, published or not.
    activity: Option<Instant>,
    /// Files open for writing that were written to.
    writers: usize,
    retry: Option<(Instant, Duration)>,
}

impl Schedule {
    pub(crate) const fn new() -> Self {
        Self { settled: None, held: None, held_interval: HELD_LEAST, activity: None, writers: 0, retry: None }
    }

    /// A name or an attribute changed.
    pub(crate) fn changed(&mut self, now: Instant) {
        let quiet = self.activity.is_none_or(|last| now.duration_since(last) >= SILENCE);
        let burst = self.settled.get_or_insert(Burst { first: now, last: now, single: quiet });
        burst.last = now;
        self.activity = Some(now);
    }

    /// An open file was written to.
    pub(crate) fn written(&mut self, now: Instant) {
        self.held.get_or_insert(now);
        // Silence is what precedes the opening of a file, not the time between its writes.
        if self.writers == 0 {
            self.activity = Some(now);
        }
    }

    /// A handle became one that was written through.
    pub(crate) fn writer_opened(&mut self) {
        self.writers += 1;
    }

    /// The last use of such a handle ended.
    pub(crate) fn writer_closed(&mut self, now: Instant) {
        self.writers = self.writers.saturating_sub(1);
        if self.writers == 0 {
            self.held_interval = HELD_LEAST;
        }
        if self.held.is_some() {
            self.changed(now);
            if self.writers == 0 {
                self.held = None;
            }
        }
    }

    /// Everything that had changed is being published; what changes from here on is new.
    pub(crate) fn begun(&mut self) {
        if self.held.take().is_some() && self.writers > 0 {
            self.held_interval = (self.held_interval * 2).min(HELD_MOST);
        }
        self.settled = None;
    }

    /// A write-back succeeded: the next failure is a first one.
    pub(crate) fn succeeded(&mut self) {
        self.retry = None;
    }

    /// Publishing failed; what had changed still waits.
    pub(crate) fn failed(&mut self, now: Instant) {
        let wait = self.retry.map_or(RETRY_LEAST, |(_, wait)| (wait * 2).min(RETRY_MOST));
        self.retry = Some((now + wait, wait));
        self.settled.get_or_insert(Burst { first: now, last: now, single: false });
    }

    /// When to publish next, if anything waits.
    pub(crate) fn due(&self) -> Option<Instant> {
        let settled = self.settled.map(|burst| match (burst.single, self.writers) {
            (true, 0) => (burst.last + SETTLE).min(burst.first + SETTLE_MOST),
            (false, 0) => (burst.last + GATHER).min(burst.first + GATHER_MOST),
            // A save is under way: one manifest when it ends.
            _ => burst.first + GATHER_MOST,
        });
        let held = self.held.map(|first| first + self.held_interval);
        let due = [settled, held].into_iter().flatten().min()?;
        Some(self.retry.map_or(due, |(not_before, _)| due.max(not_before)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_single_save_is_published_ten_milliseconds_after_its_end() {
        let start = Instant::now();
        let mut schedule = Schedule::new();
        schedule.changed(start);
        schedule.writer_opened();
        schedule.written(start + MS);
        assert!(schedule.due().is_some_and(|due| due > start + 500 * MS), "not while it is open");
        schedule.writer_closed(start + 3 * MS);
        assert_eq!(schedule.due(), Some(start + 13 * MS));
        schedule.changed(start + 5 * MS);
        assert_eq!(schedule.due(), Some(start + 15 * MS), "the rename that ends it moves it on");
        schedule.begun();
        assert_eq!(schedule.due(), None);
    }

    #[test]
    fn a_single_save_waits_fifty_milliseconds_at_most() {
        let start = Instant::now();
        let mut schedule = Schedule::new();
        for at in 0..100 {
            schedule.changed(start + at * MS);
        }
        assert_eq!(schedule.due(), Some(start + SETTLE_MOST));
    }

    #[test]
    fn a_burst_is_gathered_until_it_pauses_or_two_seconds_pass() {
        let start = Instant::now();
        let mut schedule = Schedule::new();
        schedule.changed(start);
        schedule.begun();
        let burst = start + 100 * MS;
        schedule.changed(burst);
        assert_eq!(schedule.due(), Some(burst + GATHER));
        for at in 0..300 {
            schedule.changed(burst + at * 10 * MS);
        }
        assert_eq!(schedule.due(), Some(burst + GATHER_MOST));
    }

    #[test]
    fn a_file_that_stays_open_is_published_ever_more_seldom() {
        let start = Instant::now();
        let mut schedule = Schedule::new();
        schedule.writer_opened();
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..7 {
            schedule.written(now);
            let due = schedule.due().expect("a written file waits to be published");
            waits.push((due - now).as_secs());
            now = due;
            schedule.begun();
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60]);
        schedule.written(now);
        schedule.writer_closed(now);
        assert!(schedule.due().is_some_and(|due| due <= now + GATHER));
    }

    #[test]
    fn a_failure_is_tried_again_with_growing_pauses() {
        let start = Instant::now();
        let mut schedule = Schedule::new();
        schedule.changed(start);
        schedule.failed(start);
        assert_eq!(schedule.due(), Some(start + RETRY_LEAST));
        for _ in 0..20 {
            schedule.begun();
            schedule.failed(start);
        }
        assert_eq!(schedule.due(), Some(start + RETRY_MOST));
        schedule.begun();
        schedule.succeeded();
        assert_eq!(schedule.due(), None);
        schedule.failed(start);
        assert_eq!(schedule.due(), Some(start + RETRY_LEAST));
    }
}
