//! The machine's file system.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use super::Open;

pub(super) fn open(path: &Path, how: Open) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(how != Open::Read).create(matches!(how, Open::Create | Open::Anew));
    options.truncate(how == Open::Anew).mode(0o600).open(path)
}

pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(super) fn list(dir: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        match (entry.file_name().into_string(), entry.metadata()) {
            (Ok(name), Ok(meta)) => found.push((name, meta.len())),
            // Removed since, or a name that is none of ours.
            (Err(_), _) => {}
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            (_, Err(error)) => return Err(error),
        }
    }
    Ok(found)
}

pub(super) fn read_two(file: &File, offset: u64, first: &mut [u8], second: &mut [u8]) -> io::Result<()> {
    let parts = &mut [IoSliceMut::new(first), IoSliceMut::new(second)];
    let read = rustix::io::preadv(file, parts, offset)?;
    let (of_first, of_second) = (read.min(first.len()), read.saturating_sub(first.len()));
    file.read_exact_at(&mut first[of_first..], offset + of_first as u64)?;
    file.read_exact_at(&mut second[of_second..], offset + (first.len() + of_second) as u64)
}

pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
