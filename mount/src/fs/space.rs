//! Room for what is written: what the disk has free, and what the home may take of it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use parking_lot::Mutex;

use super::Fs;
use crate::errno::FsError;
use crate::limits;

/// Room on a disk, in blocks of `block_bytes`, and in files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    pub(crate) block_bytes: u32,
    pub(crate) blocks: u64,
    pub(crate) free: u64,
    pub(crate) available: u64,
    pub(crate) files: u64,
    pub(crate) files_free: u64,
}

/// Bytes that can still be taken, and what they are short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    bytes: u64,
    short_of: FsError,
}

/// Where a bucket is stored, and how much all buckets beside it may take together.
#[derive(Debug)]
pub(super) struct Disk {
    bucket: PathBuf,
    most: Option<u64>,
    seen: Mutex<Option<(Instant, Room)>>,
}

impl Disk {
    pub(super) fn new(bucket: &Path, most: Option<u64>) -> Self {
        Self { bucket: bucket.to_path_buf(), most, seen: Mutex::default() }
    }

    fn room(&self) -> Result<Room, FsError> {
        let mut seen = self.seen.lock();
        if let Some((_, room)) = seen.filter(|(at, _)| at.elapsed() < limits::DISK_AGE) {
            return Ok(room);
        }
        let space = self.on_disk()?;
        let on_disk = space.available.saturating_mul(space.block_bytes.into());
        let allowed = self.most.map_or(u64::MAX, |most| most.saturating_sub(self.taken()));
        let short_of = if allowed < on_disk { FsError::OverQuota } else { FsError::NoSpace };
        let room = Room { bytes: on_disk.min(allowed), short_of };
        *seen = Some((Instant::now(), room));
        Ok(room)
    }

    fn on_disk(&self) -> Result<Space, FsError> {
        let disk = rustix::fs::statvfs(&self.bucket).map_err(|_| FsError::Disk)?;
        Ok(Space {
            block_bytes: disk.f_frsize.try_into().unwrap_or(4096),
            blocks: disk.f_blocks,
            free: disk.f_bfree,
            available: disk.f_bavail,
            files: disk.f_files,
            files_free: disk.f_ffree,
        })
    }

    /// What the disk has, as far as the home may take it.
    fn space(&self) -> Result<Space, FsError> {
        let mut space = self.on_disk()?;
        if let Some(most) = self.most {
            let blocks = |bytes: u64| bytes / u64::from(space.block_bytes.max(1));
            let left = blocks(most.saturating_sub(self.taken()));
            (space.free, space.available) = (space.free.min(left), space.available.min(left));
            space.blocks = space.blocks.min(blocks(most));
        }
        Ok(space)
    }

    /// Bytes that all buckets of the home take. O(their files), which are segments of many megabytes.
    fn taken(&self) -> u64 {
        self.bucket.parent().and_then(|buckets| bytes_below(buckets).ok()).unwrap_or(0)
    }
}

/// What the files below a directory take on the disk.
fn bytes_below(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // What is removed meanwhile takes nothing.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { bytes_below(&entry.path()).unwrap_or(0) } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

impl Fs {
    /// Space for the bucket: on the disk that it is stored on, as far as it may take it.
    pub(crate) fn space(&self) -> Result<Space, FsError> {
        self.disk.space()
    }

    /// Says that there is no room while what is to be written can still be refused: for `len` bytes more than what is
    /// dirty, and for the store to commit it.
    pub(super) fn check_disk(&self, len: u64) -> Result<(), FsError> {
        let room = self.disk.room()?;
        let needed = (self.budget.dirty.get() as u64).saturating_add(len).saturating_add(limits::DISK_RESERVE);
        if room.bytes < needed { Err(room.short_of) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_home_may_take_what_it_is_given_and_no_more() {
        let home = tempfile::tempdir().unwrap();
        let bucket = home.path().join("bucket");
        std::fs::create_dir_all(bucket.join("packs")).unwrap();
        std::fs::write(bucket.join("packs/1"), vec![1; 300_000]).unwrap();
        std::fs::write(home.path().join("another"), vec![1; 200_000]).unwrap();
        let room = |most| Disk::new(&bucket, most).room().unwrap();
        assert_eq!(room(None).short_of, FsError::NoSpace);
        let left = room(Some(1 << 20)).bytes;
        assert!((500_000..=548_576).contains(&left), "{left} bytes are left of a mebibyte");
        assert_eq!(room(Some(400_000)), Room { bytes: 0, short_of: FsError::OverQuota });
        let space = Disk::new(&bucket, Some(1 << 20)).space().unwrap();
        let bytes = |blocks: u64| blocks * u64::from(space.block_bytes);
        assert_eq!((bytes(space.blocks), bytes(space.available) <= left), (1 << 20, true));
    }
}
