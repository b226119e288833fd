//! The thread that writes back, and those who wait for it.
//!
//! All sealing and committing happens on this one thread, so that any number of callers of `fsync` share a commit. It
//! wakes when the schedule says so, when dirty memory runs high, and when someone waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::errno::FsError;
use crate::limits;
use crate::schedule::Schedule;

/// How far a write-back goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Durability {
    /// Sealed, and out of memory. A crash loses it.
    Memory,
    /// On disk: found again after a power cut.
    Durable,
    /// In a manifest of the chain, on disk.
    Published,
}

/// What is told to who waits for a run.
type Answer = Box<dyn FnOnce(Result<(), FsError>) + Send>;

struct State {
    schedule: Schedule,
    /// Who waits for a run that has not begun, and how far it has to go.
    waiting: Vec<(Durability, Answer)>,
    /// How the last run ended.
    outcome: Result<(), FsError>,
    /// How many runs failed.
    failures: u64,
    relief: bool,
    /// When to move to another version.
    turn: Option<Instant>,
    stop: bool,
    stopped: bool,
}

/// Where operations and the write-back thread meet.
pub(crate) struct Writeback {
    state: Mutex<State>,
    wake: Condvar,
    done: Condvar,
    /// The number of the last run that failed, or 0 after one that did not. For who asks at each write.
    failing: AtomicU64,
}

impl Writeback {
    pub(crate) const fn new() -> Self {
        let state = State {
            schedule: Schedule::new(),
            waiting: Vec::new(),
            outcome: Ok(()),
            failures: 0,
            relief: false,
            turn: None,
            stop: false,
            stopped: false,
        };
        Self { state: Mutex::new(state), wake: Condvar::new(), done: Condvar::new(), failing: AtomicU64::new(0) }
    }

    /// Tells the schedule what happened.
    pub(crate) fn note(&self, event: impl FnOnce(&mut Schedule)) {
        let mut state = self.state.lock();
        let before = state.schedule.due();
        event(&mut state.schedule);
        let after = state.schedule.due();
        // The thread sleeps until `before`; only an earlier time is news to it.
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.wake.notify_one();
        }
    }

    /// Asks for memory to be freed soon.
    pub(crate) fn relieve(&self) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.relief, true) {
            self.wake.notify_one();
        }
    }

    /// Asks for a move to the version that is to be shown.
    pub(crate) fn turn(&self) {
        self.state.lock().turn = Some(Instant::now());
        self.wake.notify_one();
    }

    /// Has `answer` called after a run that begins from now on and goes at least this far.
    pub(crate) fn when(&self, durability: Durability, answer: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        let mut state = self.state.lock();
        if state.stopped {
            drop(state);
            return answer(Err(FsError::Io));
        }
        state.waiting.push((durability, Box::new(answer)));
        self.wake.notify_one();
    }

    /// Waits for such a run, at most for `limit`. `None` if that was too short.
    pub(crate) fn wait_for(&self, durability: Durability, limit: Duration) -> Option<Result<(), FsError>> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.when(durability, move |result| {
            // Who gave up waiting does not hear.
            let _unheard = answer.send(result);
        });
        answered.recv_timeout(limit).ok()
    }

    /// What the last run failed with, if it did.
    pub(crate) fn trouble(&self) -> Option<FsError> {
        self.state.lock().outcome.err()
    }

    /// Whether the last run failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing() > 0
    }

    /// The number of the last run, if it failed; else 0.
    pub(crate) fn failing(&self) -> u64 {
        self.failing.load(Ordering::Relaxed)
    }

    /// What the last run failed with, if it did, told once for each failure to who keeps `heard`.
    pub(crate) fn news(&self, heard: &AtomicU64) -> Result<(), FsError> {
        let failing = self.failing();
        if failing <= heard.load(Ordering::Relaxed) || heard.fetch_max(failing, Ordering::Relaxed) >= failing {
            return Ok(());
        }
        self.state.lock().outcome
    }

    /// Ends the thread after one last run.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stop = true;
        self.wake.notify_one();
        while !state.stopped {
            self.done.wait(&mut state);
        }
    }

    /// The thread itself. `flush` does a run; `high` says whether dirty memory runs high; `turn` moves to the version that is
    /// to be shown.
    pub(crate) fn run(
        &self,
        flush: impl Fn(Durability) -> Result<(), FsError>,
        high: impl Fn() -> bool,
        turn: impl Fn() -> Result<(), FsError>,
    ) {
        let mut state = self.state.lock();
        loop {
            let (durability, last) = loop {
                let now = Instant::now();
                if state.turn.is_some_and(|at| at <= now) && !state.stop {
                    if !Self::turn_now(&mut state, &turn) {
                        return self.end(&mut state);
                    }
                    continue;
                }
                let due = state.schedule.due();
                let scheduled = due.is_some_and(|due| due <= now).then_some(Durability::Published);
                let relief = (std::mem::take(&mut state.relief) && high()).then_some(Durability::Memory);
                let last = state.stop.then_some(Durability::Published);
                let asked = state.waiting.iter().map(|(durability, _)| *durability).max();
                if let Some(durability) = asked.max(scheduled).max(relief).max(last) {
                    break (durability, last.is_some());
                }
                match due.into_iter().chain(state.turn).min() {
                    Some(due) => {
                        self.wake.wait_until(&mut state, due);
                    }
                    None => self.wake.wait(&mut state),
                }
            };
            let answers = std::mem::take(&mut state.waiting);
            if durability == Durability::Published {
                // What changes from here on is scheduled anew.
                state.schedule.begun();
            }
            // A bug in sealing must not leave those hanging who wait: they hear of it, and nothing is taken any more.
            let caught = MutexGuard::unlocked(&mut state, || catch_unwind(AssertUnwindSafe(|| flush(durability))));
            let outcome = caught.as_ref().map_or(Err(FsError::Io), |outcome| *outcome);
            match outcome {
                Ok(()) => state.schedule.succeeded(),
                Err(_) => state.schedule.failed(Instant::now()),
            }
            let last = last || caught.is_err();
            state.outcome = outcome;
            state.failures += u64::from(outcome.is_err());
            self.failing.store(if outcome.is_err() { state.failures } else { 0 }, Ordering::Relaxed);
            state.stopped = last;
            let late = if last { std::mem::take(&mut state.waiting) } else { Vec::new() };
            self.done.notify_all();
            MutexGuard::unlocked(&mut state, || {
                answers.into_iter().for_each(|(_, answer)| answer(outcome));
                late.into_iter().for_each(|(_, answer)| answer(Err(FsError::Io)));
            });
            if last {
                return;
            }
        }
    }

    /// Does as it was asked; false if that failed by a bug.
    fn turn_now(state: &mut MutexGuard<'_, State>, turn: impl Fn() -> Result<(), FsError>) -> bool {
        state.turn = None;
        let caught = MutexGuard::unlocked(state, || catch_unwind(AssertUnwindSafe(turn)));
        if let Ok(Err(error)) = caught {
            tracing::warn!(%error, "an older version is shown for now");
            state.turn.get_or_insert(Instant::now() + limits::TURN_AGAIN);
        }
        caught.is_ok()
    }

    /// Ends the thread where what is in memory may be half of one version and half of another: none of it is written.
    fn end(&self, state: &mut MutexGuard<'_, State>) {
        (state.stopped, state.outcome) = (true, Err(FsError::Io));
        let late = std::mem::take(&mut state.waiting);
        self.done.notify_all();
        MutexGuard::unlocked(state, || late.into_iter().for_each(|(_, answer)| answer(Err(FsError::Io))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LONG: Duration = Duration::from_secs(10);

    /// Runs `test` beside a write-back thread whose runs do `flush`.
    fn with_thread(flush: impl Fn(Durability) -> Result<(), FsError> + Send + Sync, test: impl FnOnce(&Writeback)) {
        struct StopOnDrop<'a>(&'a Writeback);
        impl Drop for StopOnDrop<'_> {
            fn drop(&mut self) {
                self.0.stop();
            }
        }
        let writeback = Writeback::new();
        std::thread::scope(|scope| {
            scope.spawn(|| writeback.run(&flush, || true, || Ok(())));
            let stop = StopOnDrop(&writeback);
            test(stop.0);
        });
    }

    #[test]
    fn who_waits_is_answered_by_a_run_that_began_later() {
        let runs = AtomicUsize::new(0);
        with_thread(
            |_| {
                runs.fetch_add(1, Ordering::SeqCst);
                Ok(())
            },
            |writeback| {
                for _ in 0..10 {
                    let before = runs.load(Ordering::SeqCst);
                    assert_eq!(writeback.wait_for(Durability::Durable, LONG), Some(Ok(())));
                    assert!(runs.load(Ordering::SeqCst) > before);
                }
            },
        );
    }

    #[test]
    fn a_failed_run_is_told_to_who_waits_and_tried_again() {
        let runs = AtomicUsize::new(0);
        let fails_once = |_| if runs.fetch_add(1, Ordering::SeqCst) == 0 { Err(FsError::NoSpace) } else { Ok(()) };
        with_thread(fails_once, |writeback| {
            assert_eq!(writeback.wait_for(Durability::Published, LONG), Some(Err(FsError::NoSpace)));
            assert_eq!(writeback.trouble(), Some(FsError::NoSpace));
            let heard = AtomicU64::new(0);
            assert_eq!((writeback.news(&heard), writeback.news(&heard)), (Err(FsError::NoSpace), Ok(())));
            assert_eq!(writeback.wait_for(Durability::Published, LONG), Some(Ok(())));
            assert_eq!(writeback.trouble(), None);
            assert_eq!(writeback.news(&AtomicU64::new(0)), Ok(()));
        });
    }

    #[test]
    fn a_panic_while_writing_back_ends_every_wait() {
        with_thread(
            |_| panic!("a test's panic"),
            |writeback| {
                assert_eq!(writeback.wait_for(Durability::Durable, LONG), Some(Err(FsError::Io)));
                assert_eq!(writeback.wait_for(Durability::Published, LONG), Some(Err(FsError::Io)));
            },
        );
    }

    #[test]
    fn a_scheduled_run_happens_by_itself() {
        let (done, wait) = std::sync::mpsc::channel();
        with_thread(
            move |durability| {
                done.send(durability).ok();
                Ok(())
            },
            |writeback| {
                writeback.note(|schedule| schedule.changed(Instant::now()));
                assert_eq!(wait.recv_timeout(LONG), Ok(Durability::Published));
            },
        );
    }
}
