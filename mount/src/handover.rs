//! Handing chunks to the kernel's page cache.
//!
//! A small read at random makes us open a whole chunk. The kernel asked for one page of it, and would ask for each of the
//! others in turn, at the price of a wake-up. So the chunk is given to it whole (`FUSE_NOTIFY_STORE`), from a thread of its
//! own: the kernel waits there for pages that are being read.
//!
//! That overwrites pages, and must not meet newer ones. Always true: a chunk is stored only while nobody has the file open
//! for writing, and its content is the sealed content that the chunk is from; and who begins to change a file is answered
//! only after a store that is under way. Nobody waits for this thread: what has to come after a store is run by it.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

use crate::fs::{Chunk, Ino};
use crate::limits;

type Deferred = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    queue: VecDeque<Chunk>,
    /// The file that a chunk is being stored of.
    storing: Option<Ino>,
    /// What waits for that.
    deferred: Vec<Deferred>,
    stop: bool,
}

/// The chunks that wait to be handed over. Its lock is above a file's.
#[derive(Default)]
pub(crate) struct Handover {
    state: Mutex<State>,
    wake: Condvar,
}

impl Handover {
    /// Offers a chunk. If many wait already, it is left.
    pub(crate) fn offer(&self, chunk: Chunk) {
        let mut state = self.state.lock();
        if state.queue.len() < limits::HANDOVER_QUEUE && !state.stop {
            state.queue.push_back(chunk);
            self.wake.notify_one();
        }
    }

    /// Runs `change` when no chunk of the file is being stored: now, as a rule. The caller has made sure before that none
    /// will be ([`crate::fs::File::begin_writing`]).
    pub(crate) fn before_change(&self, ino: Ino, change: impl FnOnce() + Send + 'static) {
        let mut state = self.state.lock();
        if state.storing == Some(ino) {
            state.deferred.push(Box::new(change));
        } else {
            drop(state);
            change();
        }
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stop = true;
        state.queue.clear();
        self.wake.notify_one();
    }

    /// The thread itself. `store` gives bytes of a file at an offset to the kernel.
    pub(crate) fn run(&self, store: impl Fn(Ino, u64, &[u8])) {
        let mut state = self.state.lock();
        loop {
            let Some(chunk) = state.queue.pop_front() else {
                if state.stop {
                    return;
                }
                self.wake.wait(&mut state);
                continue;
            };
            if !chunk.file.is_only_read(&chunk.content) {
                continue;
            }
            state.storing = Some(chunk.ino);
            let deferred = parking_lot::MutexGuard::unlocked(&mut state, || {
                store(chunk.ino, chunk.offset, &chunk.data);
                let mut state = self.state.lock();
                state.storing = None;
                std::mem::take(&mut state.deferred)
            });
            parking_lot::MutexGuard::unlocked(&mut state, || deferred.into_iter().for_each(|run| run()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::File;
    use bytes::Bytes;
    use jaxfs_sync::tree::Content;
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    fn chunk(file: &Arc<File>) -> Chunk {
        let (ino, content) = (Ino(7), Content::empty());
        Chunk { ino, file: Arc::clone(file), content, offset: 0, data: Bytes::from_static(b"old") }
    }

    #[test]
    fn nothing_is_stored_of_a_file_that_is_being_written() {
        let (file, handover) = (Arc::new(File::default()), Handover::default());
        let (stored, seen) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| handover.run(|_, offset, _| stored.send(offset).unwrap_or_default()));
            let writing = File::begin_writing(&file);
            handover.offer(chunk(&file));
            handover.offer(Chunk { file: Arc::new(File::default()), offset: 1, ..chunk(&file) });
            assert_eq!(seen.recv_timeout(Duration::from_secs(10)), Ok(1), "only the other file's");
            drop(writing);
            handover.offer(Chunk { offset: 2, ..chunk(&file) });
            assert_eq!(seen.recv_timeout(Duration::from_secs(10)), Ok(2));
            handover.stop();
        });
    }

    #[test]
    fn a_change_waits_for_a_store_that_is_under_way_and_for_no_other() {
        let (file, handover) = (Arc::new(File::default()), Arc::new(Handover::default()));
        let ((begun, beginning), (proceed, gate)) = (mpsc::channel(), mpsc::channel::<()>());
        let (changed, changes) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                handover.run(move |_, _, _| {
                    begun.send(()).unwrap_or_default();
                    gate.recv().unwrap_or_default();
                });
            });
            handover.offer(chunk(&file));
            assert_eq!(beginning.recv_timeout(Duration::from_secs(10)), Ok(()));
            let _writing = File::begin_writing(&file);
            for (ino, what) in [(Ino(7), "the same file"), (Ino(8), "another file")] {
                let changed = changed.clone();
                handover.before_change(ino, move || changed.send(what).unwrap_or_default());
            }
            assert_eq!(changes.recv_timeout(Duration::from_secs(10)), Ok("another file"));
            assert!(changes.try_recv().is_err(), "the change waits");
            proceed.send(()).unwrap_or_default();
            assert_eq!(changes.recv_timeout(Duration::from_secs(10)), Ok("the same file"));
            handover.stop();
        });
    }
}
