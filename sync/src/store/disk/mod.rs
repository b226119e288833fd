//! The few things that the store asks of a file system; it reaches the disk in no other way.
//!
//! There are two of them: the machine's, and one in memory that loses, tears and reorders what was not synced
//! (`simulated`). They are told apart by an enum. A program has only the first variant, so that a call costs what the call
//! to the system costs, and no type above has a parameter for it.
//!
//! What both promise: `File::sync_data` makes the bytes and the length of a file durable, `Disk::sync_dir` the names
//! in a directory. Until then everything may be lost, in any order.

mod real;
#[cfg(any(test, feature = "simulation"))]
pub mod simulated;

use std::io;
use std::path::Path;

/// A file system.
#[derive(Clone, Debug, Default)]
pub enum Disk {
    /// The machine's.
    #[default]
    Real,
    /// One that tests cut the power of.
    #[cfg(any(test, feature = "simulation"))]
    Simulated(simulated::Simulation),
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// To read what is there.
    Read,
    /// To read and write what is there.
    Write,
    /// To read and write, made if it is not there (mode 0600).
    Create,
    /// To read and write, empty, whether it is there or not (mode 0600).
    Anew,
}

/// An open file. All calls take an offset, so that threads can share it.
#[derive(Debug)]
pub(super) enum File {
    Real(std::fs::File),
    #[cfg(any(test, feature = "simulation"))]
    Simulated(simulated::Handle),
}

impl Disk {
    pub(super) fn open(&self, path: &Path, how: Open) -> io::Result<File> {
        match self {
            Self::Real => real::open(path, how).map(File::Real),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(disk) => disk.open(path, how).map(File::Simulated),
        }
    }

    /// Makes a directory and those above it, as far as they are not there (mode 0700).
    pub(super) fn create_dir(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Real => real::create_dir(path),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(disk) => disk.create_dir(path),
        }
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Real => std::fs::remove_file(path),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(disk) => disk.remove(path),
        }
    }

    /// Gives a file another name in the same directory, in the place of whatever has that name.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Self::Real => std::fs::rename(from, to),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(disk) => disk.rename(from, to),
        }
    }

    /// The files in a directory, each with its length, in no order.
    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        match self {
            Self::Real => real::list(dir),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(disk) => disk.list(dir),
        }
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self {
            Self::Real => std::fs::File::open(dir)?.sync_all(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(disk) => disk.sync_dir(dir),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Disk {
    /// The bytes of a file.
    pub(super) fn contents(&self, path: &Path) -> Vec<u8> {
        let file = self.open(path, Open::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read(0, &mut bytes).unwrap();
        bytes
    }

    /// Gives a file other bytes, durably.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) {
        let file = self.open(path, Open::Anew).unwrap();
        file.write(0, bytes).unwrap();
        file.sync_data().unwrap();
    }
}

impl File {
    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Real(file) => Ok(file.metadata()?.len()),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(file) => file.len(),
        }
    }

    /// Fills `to`; an error if the file ends before.
    pub(super) fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        self.read_two(offset, to, &mut [])
    }

    /// Fills both, one after the other, in one call to the system as a rule.
    pub(super) fn read_two(&self, offset: u64, first: &mut [u8], second: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Real(file) => real::read_two(file, offset, first, second),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(file) => {
                file.read(offset, first)?;
                file.read(offset + first.len() as u64, second)
            }
        }
    }

    /// Writes all of it. After an error, any part may have been written.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Real(file) => std::os::unix::fs::FileExt::write_all_at(file, bytes, offset),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(file) => file.write(offset, bytes),
        }
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        match self {
            Self::Real(file) => file.set_len(len),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(file) => file.set_len(len),
        }
    }

    /// Waits until its bytes and its length are on the disk. After an error, what was written since the sync before may be
    /// lost whatever a later sync says: the system marks pages clean that it could not write.
    pub(super) fn sync_data(&self) -> io::Result<()> {
        match self {
            Self::Real(file) => file.sync_data(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(file) => file.sync_data(),
        }
    }

    /// Takes the file for this handle, until it is closed; whether nobody else had it.
    pub(super) fn try_lock(&self) -> io::Result<bool> {
        match self {
            Self::Real(file) => real::try_lock(file),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(file) => Ok(file.try_lock()),
        }
    }
}
