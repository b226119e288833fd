//! A file system in memory whose power tests can cut.
//!
//! It keeps of each file and each directory what is synced, and the changes since. Programs see all changes; a crash
//! ([`Simulation::restart`]) keeps what is synced and any part of the rest, as a seed says: writes are dropped, kept, torn at
//! 512 bytes, and kept without those before them; names come, go and come back. Every operation that changes or syncs
//! something has a number, at which the power can be cut or an error be given.
//!
//! A failed sync of a file is what Linux makes of it: some of the changes are on the disk, the others never will be,
//! whatever a later sync says, and whether they can still be read is a matter of luck.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Open;
use content::Content;
pub use random::Random;
use synced::{FileChange, NameChange, Names, Style, Synced};

mod content;
mod random;
mod synced;

/// The root directory.
const ROOT: u64 = 0;

/// What the disk reads, or fails to.
const SECTOR: u64 = content::PAGE as u64;

/// What to do at an operation instead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`.
    Error,
    /// `ENOSPC`.
    Full,
    /// Nothing happens any more, until [`Simulation::restart`].
    PowerCut,
}

/// A file system in memory; a clone is the same one.
#[derive(Clone, Debug)]
pub struct Simulation(Arc<Mutex<State>>);

#[derive(Clone, Debug)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    next_handle: u64,
    /// How many operations there were.
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    /// How many pages fit.
    pages: Option<u64>,
    off: bool,
    /// How many starts there were. Handles from before one are dead.
    boots: u64,
    random: Random,
    recording: bool,
    recorded: Vec<(u64, Arc<State>)>,
}

#[derive(Clone, Debug)]
enum Inode {
    File {
        bytes: Synced<Content>,
        named: bool,
        handles: usize,
        locked_by: Option<u64>,
        /// Sectors that can not be read, until they are written.
        bad: BTreeSet<u64>,
    },
    Directory(Synced<Names>),
}

/// An open file of a [`Simulation`].
#[derive(Debug)]
pub struct Handle {
    disk: Simulation,
    inode: u64,
    number: u64,
    boot: u64,
    writable: bool,
}

impl Simulation {
    /// An empty one. The seed decides what is left of operations that fail.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            inodes: BTreeMap::from([(ROOT, Inode::Directory(Synced::default()))]),
            next_inode: ROOT + 1,
            next_handle: 0,
            operations: 0,
            faults: BTreeMap::new(),
            pages: None,
            off: false,
            boots: 0,
            random: Random::new(seed),
            recording: false,
            recorded: Vec::new(),
        })))
    }

    /// How many operations there were; the number of the next one.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Has something happen at the operation of this number.
    pub fn fail(&self, operation: u64, how: Fault) {
        self.0.lock().faults.insert(operation, how);
    }

    /// Has nothing more go wrong.
    pub fn heal(&self) {
        self.0.lock().faults.clear();
    }

    /// Whether the power was cut.
    pub fn is_off(&self) -> bool {
        self.0.lock().off
    }

    /// How many bytes fit; by pages of 4 KiB, each of which counts once it was written to.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().pages = bytes.map(|bytes| bytes / content::PAGE as u64);
    }

    /// How many bytes are taken.
    pub fn used(&self) -> u64 {
        self.0.lock().used_pages() * content::PAGE as u64
    }

    /// Cuts the power, and gives what a start finds afterwards: what was synced, and of the rest what the seed says.
    pub fn restart(&self, seed: u64) {
        self.0.lock().restart(&mut Random::new(seed));
    }

    /// Makes everything durable, as `sync` does.
    pub fn sync_all(&self) {
        for inode in self.0.lock().inodes.values_mut() {
            match inode {
                Inode::File { bytes, .. } => bytes.sync(),
                Inode::Directory(names) => names.sync(),
            }
        }
    }

    /// Ends the process: its files are closed, and what it wrote is still there and still not synced.
    pub fn kill(&self) {
        self.0.lock().kill();
    }

    /// Keeps, from now on, what the disk was before each operation, or stops doing so.
    pub fn record(&self, recording: bool) {
        self.0.lock().recording = recording;
    }

    /// What was recorded since the last call: the number of the operation, and a disk of its own as it was before.
    pub fn recorded(&self) -> Vec<(u64, Simulation)> {
        let recorded = std::mem::take(&mut self.0.lock().recorded);
        let disk = |state: Arc<State>| Simulation(Arc::new(Mutex::new(Arc::unwrap_or_clone(state))));
        recorded.into_iter().map(|(number, state)| (number, disk(state))).collect()
    }

    /// Another disk that is as this one is now.
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().clone())))
    }

    /// Flips bits of a file on the disk, behind everybody's back.
    pub fn damage(&self, path: &Path, offset: u64, mask: u8) {
        let mut state = self.0.lock();
        let inode = state.find(path).ok();
        if let Some(Inode::File { bytes, .. }) = inode.and_then(|inode| state.inodes.get_mut(&inode)) {
            bytes.damage(offset, mask);
        }
    }

    /// Has the disk not read a sector of a file any more, until it is written.
    pub fn spoil(&self, path: &Path, offset: u64) {
        let mut state = self.0.lock();
        let inode = state.find(path).ok();
        if let Some(Inode::File { bad, .. }) = inode.and_then(|inode| state.inodes.get_mut(&inode)) {
            bad.insert(offset / SECTOR);
        }
    }

    pub(super) fn open(&self, path: &Path, how: Open) -> io::Result<Handle> {
        let mut state = self.0.lock();
        state.alive()?;
        let inode = match state.find(path) {
            Ok(inode) if how == Open::Anew => {
                state.change(inode, FileChange::SetLen(0))?;
                inode
            }
            Ok(inode) => inode,
            Err(error) if error.kind() == io::ErrorKind::NotFound && matches!(how, Open::Create | Open::Anew) => state
                .make(path, || Inode::File {
                    bytes: Synced::default(),
                    named: true,
                    handles: 0,
                    locked_by: None,
                    bad: BTreeSet::new(),
                })?,
            Err(error) => return Err(error),
        };
        let Some(Inode::File { handles, .. }) = state.inodes.get_mut(&inode) else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        *handles += 1;
        state.next_handle += 1;
        let (number, boot) = (state.next_handle, state.boots);
        Ok(Handle { disk: self.clone(), inode, number, boot, writable: how != Open::Read })
    }

    pub(super) fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.alive()?;
        for path in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if state.find(path).is_err() {
                state.make(path, || Inode::Directory(Synced::default()))?;
            }
        }
        Ok(())
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.alive()?;
        let (inode, (directory, name)) = (state.find(path)?, state.parent(path)?);
        state.rename(directory, NameChange::Remove { name })?;
        state.unname(inode);
        Ok(())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.alive()?;
        let inode = state.find(from)?;
        let replaced = state.find(to).ok();
        let ((directory, from), (other, to)) = (state.parent(from)?, state.parent(to)?);
        if directory != other {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        state.rename(directory, NameChange::Rename { from, to, inode })?;
        if let Some(replaced) = replaced.filter(|replaced| *replaced != inode) {
            state.unname(replaced);
        }
        Ok(())
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let state = self.0.lock();
        state.alive()?;
        let Some(Inode::Directory(names)) = state.inodes.get(&state.find(dir)?) else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        let len = |inode| match state.inodes.get(inode) {
            Some(Inode::File { bytes, .. }) => bytes.seen().len(),
            _ => 0,
        };
        Ok(names.seen().0.iter().map(|(name, inode)| (name.clone(), len(inode))).collect())
    }

    pub(super) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.alive()?;
        let inode = state.find(dir)?;
        state.sync(inode)
    }
}

impl Handle {
    pub(super) fn len(&self) -> io::Result<u64> {
        self.with(|bytes| Ok(bytes.seen().len()))
    }

    pub(super) fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        let end = offset + to.len() as u64;
        let state = self.disk.0.lock();
        state.alive_since(self.boot)?;
        match state.inodes.get(&self.inode) {
            Some(Inode::File { bad, .. }) if bad.range(offset / SECTOR..end.div_ceil(SECTOR)).next().is_some() => {
                Err(eio())
            }
            Some(Inode::File { bytes, .. }) => bytes.seen().read(offset, to),
            _ => Err(eio()),
        }
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(FileChange::Write { offset, bytes: bytes.into() })
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(FileChange::SetLen(len))
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.alive_since(self.boot)?;
        state.sync(self.inode)
    }

    pub(super) fn try_lock(&self) -> bool {
        match self.disk.0.lock().inodes.get_mut(&self.inode) {
            Some(Inode::File { locked_by, .. }) if locked_by.is_none_or(|handle| handle == self.number) => {
                *locked_by = Some(self.number);
                true
            }
            _ => false,
        }
    }

    fn change(&self, change: FileChange) -> io::Result<()> {
        if !self.writable {
            return Err(rustix::io::Errno::BADF.into());
        }
        let mut state = self.disk.0.lock();
        state.alive_since(self.boot)?;
        state.change(self.inode, change)
    }

    fn with<T>(&self, look: impl FnOnce(&Synced<Content>) -> io::Result<T>) -> io::Result<T> {
        let state = self.disk.0.lock();
        state.alive_since(self.boot)?;
        match state.inodes.get(&self.inode) {
            Some(Inode::File { bytes, .. }) => look(bytes),
            _ => Err(eio()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.disk.0.lock();
        if state.boots != self.boot {
            return;
        }
        if let Some(Inode::File { handles, locked_by, .. }) = state.inodes.get_mut(&self.inode) {
            *handles -= 1;
            if *locked_by == Some(self.number) {
                *locked_by = None;
            }
        }
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.off { Err(eio()) } else { Ok(()) }
    }

    fn alive_since(&self, boot: u64) -> io::Result<()> {
        if self.boots == boot { self.alive() } else { Err(eio()) }
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        let mut at = ROOT;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            match self.inodes.get(&at) {
                Some(Inode::Directory(names)) => {
                    let found = name.to_str().and_then(|name| names.seen().0.get(name));
                    at = *found.ok_or(io::ErrorKind::NotFound)?;
                }
                _ => return Err(io::ErrorKind::NotADirectory.into()),
            }
        }
        Ok(at)
    }

    fn parent(&self, path: &Path) -> io::Result<(u64, String)> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.find(path.parent().unwrap_or(Path::new("/")))?, name.to_owned()))
    }

    /// Counts an operation; what goes wrong with it.
    fn begin(&mut self) -> Option<Fault> {
        if self.recording {
            let recorded = std::mem::take(&mut self.recorded);
            let mut before = self.clone();
            (before.recording, before.faults) = (false, BTreeMap::new());
            self.recorded = recorded;
            self.recorded.push((self.operations, Arc::new(before)));
        }
        let fault = self.faults.get(&self.operations).copied();
        self.operations += 1;
        self.off |= fault == Some(Fault::PowerCut);
        fault
    }

    fn make(&mut self, path: &Path, inode: impl FnOnce() -> Inode) -> io::Result<u64> {
        let (directory, name) = self.parent(path)?;
        let number = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(number, inode());
        let made = self.rename(directory, NameChange::Set { name, inode: number });
        if made.is_err() && !self.off {
            self.inodes.remove(&number);
        }
        made.map(|()| number)
    }

    fn rename(&mut self, directory: u64, change: NameChange) -> io::Result<()> {
        let fault = self.begin();
        let number = self.operations;
        let Some(Inode::Directory(names)) = self.inodes.get_mut(&directory) else { return Err(eio()) };
        if matches!(fault, None | Some(Fault::PowerCut)) {
            names.apply(number, change);
        }
        fault.map_or(Ok(()), |fault| Err(error(fault)))
    }

    fn unname(&mut self, inode: u64) {
        if let Some(Inode::File { named, .. }) = self.inodes.get_mut(&inode) {
            *named = false;
        }
    }

    fn change(&mut self, inode: u64, change: FileChange) -> io::Result<()> {
        let mut fault = self.begin();
        let (number, used) = (self.operations, self.used_pages());
        let Some(Inode::File { bytes, bad, .. }) = self.inodes.get_mut(&inode) else { return Err(eio()) };
        if let FileChange::Write { offset, bytes } = &change {
            bad.retain(|sector| !(offset / SECTOR..(offset + bytes.len() as u64).div_ceil(SECTOR)).contains(sector));
        }
        if let (None, Some(pages), FileChange::Write { offset, bytes: new }) = (fault, self.pages, &change) {
            let more = bytes.seen().pages_for(*offset, new.len());
            fault = (more > 0 && used + more > pages).then_some(Fault::Full);
        }
        match (fault, change) {
            (None | Some(Fault::PowerCut), change) => bytes.apply(number, change),
            // A part of it may have been written: on a full disk none, so that it is not overfull.
            (Some(Fault::Error), FileChange::Write { offset, bytes: new }) => {
                let part = self.random.below(new.len() as u64 + 1) as usize;
                bytes.apply(number, FileChange::Write { offset, bytes: new[..part].into() });
            }
            _ => {}
        }
        fault.map_or(Ok(()), |fault| Err(error(fault)))
    }

    fn sync(&mut self, inode: u64) -> io::Result<()> {
        match (self.begin(), self.inodes.get_mut(&inode)) {
            (None, Some(Inode::File { bytes, .. })) => bytes.sync(),
            (None, Some(Inode::Directory(names))) => names.sync(),
            (Some(Fault::PowerCut), _) => return Err(eio()),
            (Some(fault), Some(Inode::File { bytes, .. })) => {
                bytes.fail_to_sync(&mut self.random);
                return Err(error(fault));
            }
            // Names go through a journal: they are still to be written.
            (Some(fault), Some(Inode::Directory(_))) => return Err(error(fault)),
            (_, None) => return Err(eio()),
        }
        Ok(())
    }

    fn used_pages(&self) -> u64 {
        let used = |inode: &Inode| match inode {
            Inode::File { bytes, named, handles, .. } if *named || *handles > 0 => bytes.seen().pages(),
            _ => 0,
        };
        self.inodes.values().map(used).sum()
    }

    fn restart(&mut self, random: &mut Random) {
        let style = Style::any(random, self.operations);
        for inode in self.inodes.values_mut() {
            match inode {
                Inode::File { bytes, named, .. } => {
                    bytes.crash(style, random);
                    *named = false;
                }
                Inode::Directory(names) => names.crash(style, random),
            }
        }
        self.forget_lost_inodes();
        self.off = false;
        self.kill();
    }

    fn kill(&mut self) {
        for inode in self.inodes.values_mut() {
            if let Inode::File { handles, locked_by, .. } = inode {
                (*handles, *locked_by) = (0, None);
            }
        }
        self.boots += 1;
        self.recording = false;
        self.faults.clear();
        self.recorded.clear();
    }

    fn forget_lost_inodes(&mut self) {
        let (mut reached, mut open) = (Vec::new(), vec![ROOT]);
        while let Some(at) = open.pop() {
            reached.push(at);
            match self.inodes.get_mut(&at) {
                Some(Inode::Directory(names)) => open.extend(names.seen().0.values()),
                Some(Inode::File { named, .. }) => *named = true,
                None => {}
            }
        }
        self.inodes.retain(|at, _| reached.contains(at));
    }
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Full => rustix::io::Errno::NOSPC.into(),
        Fault::Error | Fault::PowerCut => eio(),
    }
}

fn eio() -> io::Error {
    rustix::io::Errno::IO.into()
}
