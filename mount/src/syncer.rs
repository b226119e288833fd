//! The thread that answers `fsync`: whoever waits while it writes to the journal shares the next write.

use std::panic::{AssertUnwindSafe, catch_unwind};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::errno::FsError;

/// What is told to who waits.
pub(crate) type Answer = Box<dyn FnOnce(Result<(), FsError>) + Send>;

struct State<F> {
    /// Who waits, and for which file, if it is one.
    waiting: Vec<(Option<F>, Answer)>,
    stop: bool,
}

/// Where callers of `fsync` and the thread meet.
pub(crate) struct Syncer<F> {
    state: Mutex<State<F>>,
    wake: Condvar,
}

impl<F> Syncer<F> {
    pub(crate) const fn new() -> Self {
        Self { state: Mutex::new(State { waiting: Vec::new(), stop: false }), wake: Condvar::new() }
    }

    /// Has `answer` called once this file, and all changes of names, are safe. After the end of the thread it is given back.
    pub(crate) fn when(&self, file: Option<F>, answer: Answer) -> Result<(), Answer> {
        let mut state = self.state.lock();
        if state.stop {
            return Err(answer);
        }
        state.waiting.push((file, answer));
        self.wake.notify_one();
        Ok(())
    }

    /// Ends the thread when nobody waits any more.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.wake.notify_one();
    }

    /// The thread itself. `sync` makes files safe, or says that it can not; then `otherwise` has to, and answers.
    pub(crate) fn run(&self, sync: impl Fn(&[F]) -> bool, otherwise: impl Fn(Answer)) {
        let mut state = self.state.lock();
        loop {
            while state.waiting.is_empty() {
                if state.stop {
                    return;
                }
                self.wake.wait(&mut state);
            }
            let waiting = std::mem::take(&mut state.waiting);
            MutexGuard::unlocked(&mut state, || {
                let (files, answers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
                let files: Vec<_> = files.into_iter().flatten().collect();
                // A bug must not leave those hanging who wait.
                if catch_unwind(AssertUnwindSafe(|| sync(&files))).unwrap_or(false) {
                    answers.into_iter().for_each(|answer| answer(Ok(())));
                } else {
                    answers.into_iter().for_each(&otherwise);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_comes_during_a_write_shares_the_next_one() {
        let syncer = Syncer::new();
        let (entered, entries) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let (wait, batches) = (Mutex::new(wait), Mutex::new(Vec::new()));
        let answered = std::sync::Arc::new(AtomicUsize::new(0));
        let ask = |file| {
            let answered = std::sync::Arc::clone(&answered);
            let answer = Box::new(move |result: Result<(), FsError>| {
                result.expect("it is safe");
                answered.fetch_add(1, Ordering::SeqCst);
            });
            assert!(syncer.when(Some(file), answer).is_ok());
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let sync = |files: &[u32]| {
                    batches.lock().push(files.to_vec());
                    entered.send(()).expect("the test listens");
                    wait.lock().recv_timeout(Duration::from_secs(10)).expect("the test goes on");
                    true
                };
                syncer.run(sync, |_| panic!("nothing else is needed"));
            });
            ask(1);
            entries.recv_timeout(Duration::from_secs(10)).expect("the first is written");
            (2..6).for_each(ask);
            syncer.stop();
            go.send(()).expect("it waits");
            go.send(()).expect("it waits");
        });
        assert_eq!(*batches.lock(), [vec![1], vec![2, 3, 4, 5]]);
        assert_eq!(answered.load(Ordering::SeqCst), 5);
        assert!(syncer.when(None, Box::new(|_| {})).is_err());
    }

    #[test]
    fn what_the_journal_can_not_take_is_done_otherwise() {
        let syncer = Syncer::new();
        let (done, answered) = mpsc::channel();
        let answer = Box::new(move |result| done.send(result).expect("the test listens"));
        assert!(syncer.when(Some(1), answer).is_ok());
        syncer.stop();
        syncer.run(|_| false, |answer| answer(Err(FsError::NoSpace)));
        assert_eq!(answered.recv(), Ok(Err(FsError::NoSpace)));
    }
}
