//! Every bound of this crate in one place, each with its reason.

use std::time::Duration;

/// Hard links of one file, as ext4 has it.
pub(crate) const LINKS: u64 = 65_000;

/// Names read from a directory at a time: some hundred fill the kernel's buffer of 32 KiB and more.
pub(crate) const LISTING_PAGE: usize = 512;

/// The largest request to write: the kernel's own limit (256 pages).
pub(crate) const WRITE_BYTES: u32 = 1 << 20;

/// What one `copy_file_range` copies at most: it is all in memory at once.
pub(crate) const COPY_BYTES: u64 = 4 << 20;

/// Names in the root that are kept for the folders that show other versions.
pub(crate) const RESERVED_NAMES: [&[u8]; 2] = [b".forks", b".history"];

/// Threads that answer the kernel. Two are best on two cores; more do not hurt where there are more.
pub(crate) const SESSION_THREADS: usize = 2;

/// How long the kernel may keep what it was told. For ever: whatever changes is told to it.
pub(crate) const TTL: Duration = Duration::from_secs(u32::MAX as u64);

/// Stack of the write-back thread, which follows directories down. Address space, not memory: some ten thousand levels.
pub(crate) const WRITEBACK_STACK: usize = 64 << 20;
