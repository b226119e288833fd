//! What the twin test needs of the kernel and the standard library does not give: shared mappings, and a root of its own.
#![allow(unsafe_code)]

use std::ffi::{CString, c_void};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives this thread a root, a working directory and a umask of its own.
pub(super) fn own_root() -> Result<(), Errno> {
    // SAFETY: only sharing descriptors less has conditions.
    unsafe { unshare_unsafe(UnshareFlags::FS) }
}

/// `truncate`, for which a path has to do.
pub(super) fn truncate(path: &[u8], size: u64) -> Result<(), Errno> {
    let path = CString::new(path).map_err(|_| Errno::INVAL)?;
    let size = libc::off_t::try_from(size).map_err(|_| Errno::INVAL)?;
    // SAFETY: it is a string that ends, and lives until the call has returned.
    match unsafe { libc::truncate(path.as_ptr(), size) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)),
    }
}

/// A shared mapping of a file.
///
/// It is read and written by the kernel, for system calls on another file: where the file does not reach, they fail, and
/// this process lives on.
pub(super) struct Mapping {
    at: *mut c_void,
    len: usize,
    file: OwnedFd,
    offset: u64,
    through: OwnedFd,
}

impl Mapping {
    pub(super) fn new(file: BorrowedFd<'_>, offset: u64, len: usize, write: bool) -> Result<Self, Errno> {
        let access = if write { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let (kept, through) =
            (file.try_clone_to_owned().map_err(|_| Errno::MFILE)?, memfd_create("twin", MemfdFlags::CLOEXEC)?);
        // SAFETY: the kernel chooses a place that nothing else uses.
        let at = unsafe { mmap(ptr::null_mut(), len, access, MapFlags::SHARED, file, offset)? };
        Ok(Self { at, len, file: kept, offset, through })
    }

    /// The mapped file.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How much of it is before the end of the file, at this moment.
    pub(super) fn reach(&self) -> Result<usize, Errno> {
        let size = u64::try_from(rustix::fs::fstat(&self.file)?.st_size).unwrap_or(0);
        Ok(size.saturating_sub(self.offset).min(self.len as u64) as usize)
    }

    /// Reads from the mapping, up to where the file ends.
    pub(super) fn load(&self, at: usize, len: usize) -> Result<Vec<u8>, Errno> {
        // SAFETY: it is within the mapping, and only the kernel looks at it.
        let memory = unsafe { std::slice::from_raw_parts(self.at.cast::<u8>().add(at), len.min(self.len - at)) };
        let done = rustix::io::pwrite(&self.through, memory, 0)?;
        let mut bytes = vec![0; done];
        rustix::io::pread(&self.through, &mut bytes[..], 0)?;
        Ok(bytes)
    }

    /// Writes to the mapping, up to where the file ends. Gives how much.
    pub(super) fn store(&self, at: usize, bytes: &[u8]) -> Result<usize, Errno> {
        let bytes = &bytes[..bytes.len().min(self.len - at)];
        rustix::io::pwrite(&self.through, bytes, 0)?;
        // SAFETY: it is within the mapping, and only the kernel writes to it.
        let memory = unsafe { std::slice::from_raw_parts_mut(self.at.cast::<u8>().add(at), bytes.len()) };
        rustix::io::pread(&self.through, memory, 0)
    }

    pub(super) fn sync(&self) -> Result<(), Errno> {
        // SAFETY: it is the whole mapping.
        unsafe { msync(self.at, self.len, MsyncFlags::SYNC) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more.
        let _ = unsafe { munmap(self.at, self.len) };
    }
}
