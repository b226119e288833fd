//! Where devices can be reached: what was learnt, kept in a file, so that a restart needs no ticket.
//!
//! It holds no secret, and whatever it says is only tried: a connection proves who answers.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::wire::{ADDRESSES_EACH, Reach};
use crate::bucket::DeviceId;
use crate::limits::MEMBERS;

/// Where devices were last reached.
pub struct Book {
    path: Option<PathBuf>,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    known: BTreeMap<DeviceId, Reach>,
    changed: bool,
}

impl Book {
    /// What a file has; nothing if it can not be read: it is learnt again.
    pub fn open(path: &Path) -> Self {
        let read = || -> Option<Vec<Reach>> { serde_ipld_dagcbor::from_slice(&fs::read(path).ok()?).ok() };
        let known = read().unwrap_or_default().into_iter().map(|reach| (reach.device, reach)).collect();
        Self { path: Some(path.to_owned()), pages: Mutex::new(Pages { known, changed: false }) }
    }

    /// What is known of a device.
    pub fn get(&self, device: &DeviceId) -> Option<Reach> {
        self.pages.lock().known.get(device).cloned()
    }

    /// Learns where a device is. What came last stands first, and the oldest is forgotten. Says whether that is new.
    pub fn learn(&self, reach: Reach) -> bool {
        let mut pages = self.pages.lock();
        if pages.known.len() >= MEMBERS && !pages.known.contains_key(&reach.device) {
            return false;
        }
        let empty = Reach { device: reach.device, sockets: Vec::new(), relay: None };
        let known = pages.known.entry(reach.device).or_insert(empty);
        let before = known.clone();
        let mut sockets = reach.sockets;
        sockets.extend(known.sockets.iter().copied());
        let mut seen = std::collections::BTreeSet::new();
        sockets.retain(|socket| seen.insert(*socket));
        sockets.truncate(ADDRESSES_EACH);
        known.sockets = sockets;
        known.relay = reach.relay.filter(|url| url.len() <= 256).or(known.relay.take());
        let is_new = *known != before;
        pages.changed |= is_new;
        is_new
    }

    /// Whether there is something to be saved.
    pub fn is_changed(&self) -> bool {
        self.pages.lock().changed
    }

    /// Writes it to its file, if it has changed.
    ///
    /// # Errors
    /// If the disk refuses: it is tried again with the next change.
    pub fn save(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let bytes = {
            let mut pages = self.pages.lock();
            if !std::mem::take(&mut pages.changed) {
                return Ok(());
            }
            let all: Vec<_> = pages.known.values().collect();
            serde_ipld_dagcbor::to_vec(&all).map_err(io::Error::other)?
        };
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        fs::rename(&new, path)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reach(device: u8, ports: &[u16]) -> Reach {
        let sockets = ports.iter().map(|port| ([10, 0, 0, 1], *port).into()).collect();
        Reach { device: DeviceId([device; 32]), sockets, relay: None }
    }

    #[test]
    fn what_was_learnt_is_there_after_a_restart_the_newest_first_and_never_more_than_a_few() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers");
        let book = Book::open(&path);
        assert!(book.learn(reach(1, &[1, 2])));
        assert!(!book.learn(reach(1, &[1])), "nothing new");
        assert!(book.learn(reach(1, &[3])));
        (10..100).for_each(|port| assert!(book.learn(reach(2, &[port]))));
        book.save().unwrap();
        let book = Book::open(&path);
        let ports = |device| -> Vec<_> {
            book.get(&DeviceId([device; 32])).unwrap().sockets.iter().map(|socket| socket.port()).collect()
        };
        assert_eq!(ports(1), [3, 1, 2]);
        assert_eq!((ports(2).len(), ports(2)[0]), (ADDRESSES_EACH, 99));
        fs::write(&path, b"rubbish").unwrap();
        assert!(Book::open(&path).get(&DeviceId([1; 32])).is_none());
    }
}
