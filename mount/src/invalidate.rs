//! Telling the kernel what it remembers and is not so any more, after the mount moved to another version.
//!
//! From a thread of its own, without any lock: the kernel waits there for requests that are being answered. What waits to be
//! told grows with what changed, and the same thing waits once.

use std::time::Instant;

use jaxfs_sync::tree::Name;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::fs::{Ino, Stale};
use crate::limits;

/// One thing that the kernel is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice<'a> {
    /// What it knows of a name, or that there is none, is not so.
    Name(Ino, &'a Name),
    /// The attributes that it knows of a file are not so. Its pages are.
    Attributes(Ino),
    /// Its pages are not what they were either.
    Content(Ino),
}

#[derive(Default)]
struct State {
    stale: Stale,
    /// What is to come, or is being told.
    busy: usize,
    /// When it was told last.
    told: Option<Instant>,
    paused: bool,
    stop: bool,
}

/// What waits to be told.
#[derive(Default)]
pub(crate) struct News {
    state: Mutex<State>,
    wake: Condvar,
}

impl News {
    /// Something is about to be told: until it is, the kernel may act on what is not so any more.
    pub(crate) fn expect(&self) {
        self.state.lock().busy += 1;
    }

    /// Has the kernel told, some time soon. Was expected.
    pub(crate) fn tell(&self, stale: Stale) {
        let mut state = self.state.lock();
        state.add(stale);
        state.busy = state.busy.saturating_sub(1);
        self.wake.notify_one();
    }

    /// Has it told of something that was not expected.
    pub(crate) fn tell_also(&self, stale: Stale) {
        let mut state = self.state.lock();
        state.add(stale);
        self.wake.notify_one();
    }

    /// Whether the kernel may still remember what is not so any more.
    pub(crate) fn is_pending(&self) -> bool {
        let state = self.state.lock();
        // A request that was sent before may still be on its way.
        state.busy > 0 || !state.stale.is_empty() || state.told.is_some_and(|told| told.elapsed() < limits::ON_ITS_WAY)
    }

    /// Tells nothing for now, or goes on.
    pub(crate) fn pause(&self, paused: bool) {
        self.state.lock().paused = paused;
        self.wake.notify_one();
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        (state.stop, state.stale) = (true, Stale::default());
        self.wake.notify_one();
    }

    /// The thread itself.
    pub(crate) fn run(&self, tell: impl Fn(Notice<'_>)) {
        let mut state = self.state.lock();
        while !state.stop {
            if state.paused || state.stale.is_empty() {
                self.wake.wait(&mut state);
                continue;
            }
            let stale = std::mem::take(&mut state.stale);
            state.busy += 1;
            MutexGuard::unlocked(&mut state, || {
                for (parent, name) in &stale.names {
                    tell(Notice::Name(*parent, name));
                }
                for ino in stale.inodes.difference(&stale.contents) {
                    tell(Notice::Attributes(*ino));
                }
                for ino in &stale.contents {
                    tell(Notice::Content(*ino));
                }
            });
            state.busy = state.busy.saturating_sub(1);
            state.told = Some(Instant::now());
        }
    }

    /// All that waits, for tests that play the kernel.
    #[cfg(test)]
    pub(crate) fn take(&self) -> Stale {
        std::mem::take(&mut self.state.lock().stale)
    }
}

impl State {
    fn add(&mut self, stale: Stale) {
        if !self.stop {
            self.stale.names.extend(stale.names);
            self.stale.inodes.extend(stale.inodes);
            self.stale.contents.extend(stale.contents);
        }
    }
}

impl Stale {
    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.inodes.is_empty() && self.contents.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn stale(inos: &[u64]) -> Stale {
        Stale { inodes: inos.iter().map(|ino| Ino(*ino)).collect(), ..Stale::default() }
    }

    #[test]
    fn what_waits_twice_is_told_once_and_nothing_while_it_is_paused() {
        let news = News::default();
        let (told, telling) = mpsc::channel();
        news.pause(true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                news.run(|notice| match notice {
                    Notice::Attributes(ino) => told.send(ino).unwrap(),
                    Notice::Name(..) | Notice::Content(_) => panic!("neither names nor contents"),
                });
            });
            for inos in [&[5, 6][..], &[6]] {
                news.expect();
                assert!(news.is_pending());
                news.tell(stale(inos));
            }
            assert!(telling.try_recv().is_err() && news.is_pending());
            news.pause(false);
            let mut heard: Vec<_> = (0..2).map(|_| telling.recv_timeout(Duration::from_secs(10)).unwrap().0).collect();
            heard.sort_unstable();
            assert_eq!(heard, [5, 6]);
            news.stop();
        });
        assert!(telling.try_recv().is_err());
    }
}
