//! Every bound of this crate in one place, each with its reason.

use std::time::Duration;

/// Hard links of one file, as ext4 has it.
pub(crate) const LINKS: u64 = 65_000;

/// Names read from a directory at a time: about as many as fill the kernel's buffer of 32 KiB with their attributes.
pub(crate) const LISTING_PAGE: usize = 192;

/// The largest request to write: the kernel's own limit (256 pages).
pub(crate) const WRITE_BYTES: u32 = 1 << 20;

/// What is asked of other machines beyond what is read: whoever reads a part of a file reads on.
pub(crate) const READ_AHEAD: usize = 2 << 20;

/// What one `copy_file_range` copies at most of what is not sealed: it is all in memory at once.
pub(crate) const COPY_BYTES: u64 = 4 << 20;

/// The same for its parts: a gibibyte of full chunks.
pub(crate) const COPY_PARTS: usize = 32 << 10;

/// The same in bytes of the file, holes among them.
pub(crate) const COPY_AT_ONCE: u64 = 1 << 31;

/// Sealed bytes that are copied by naming their block, if they are this many in one. Fewer are sealed anew, with what is
/// around them.
pub(crate) const COPY_BY_NAME: u32 = 4 << 10;

/// What is sealed with others of its file in one block, until its chunk is published: at least, and aligned to, so many bytes.
pub(crate) const SCATTERED_BYTES: u64 = 4 << 10;

/// Chunks of all files whose bytes may stand in such blocks. The next version gathers them: a second's work.
pub(crate) const SCATTERED_CHUNKS: usize = 8 << 10;

/// How old a look at the disk's free space may be.
pub(crate) const DISK_AGE: Duration = Duration::from_millis(100);

/// What is left free on the disk for the index, nodes and manifests of what was accepted, and for removing files.
pub(crate) const DISK_RESERVE: u64 = 8 << 20;

/// How long a mount that is gone tries to store what is left, when that fails.
pub(crate) const LAST_ATTEMPTS: Duration = Duration::from_secs(10);

/// The pause between two of these attempts.
pub(crate) const LAST_PAUSE: Duration = Duration::from_millis(500);

/// Directories within directories. A path may have some 2,000; what is deeper was made on purpose.
pub(crate) const DIRECTORY_DEPTH: usize = 4_096;

/// A new name with its record, at most as a rule.
pub(crate) const RECORD_BYTES: u64 = 512;

/// Chunks that wait to be handed to the kernel: a few, since it may be asked for them anyway.
pub(crate) const HANDOVER_QUEUE: usize = 64;

/// A file is handed over by chunks if it takes no larger part of memory than one in this many.
pub(crate) const HANDOVER_SHARE: u64 = 8;

/// A read that is small enough for that. Larger ones come with read-ahead.
pub(crate) const HANDOVER_READ: usize = 16 << 10;

/// Entries of an ACL: the kernel reads it into a page, the smallest of which is 4 KiB.
pub(crate) const ACL_ENTRIES: usize = (4096 - 4) / 8;

/// Names in the root that are kept for the folders that show other versions.
pub(crate) const RESERVED_NAMES: [&[u8]; 2] = [b".forks", b".history"];

/// Threads that answer the kernel. Two are best on two cores; more do not hurt where there are more.
pub(crate) const SESSION_THREADS: usize = 2;

/// How long the kernel may keep what it was told. For ever: whatever changes is told to it.
pub(crate) const TTL: Duration = Duration::from_secs(u32::MAX as u64);

/// Stack of the write-back thread, which follows directories down. Address space, not memory: some ten thousand levels.
pub(crate) const WRITEBACK_STACK: usize = 256 << 20;

/// Names and attributes that changed since the last durable version, kept for the journal. Where they are more, `fsync` makes
/// a version durable.
pub(crate) const LOG_BYTES: usize = 16 << 20;

/// What has to be free on the disk, beside the reserve, for `fsync` to use the journal: a file of it.
pub(crate) const JOURNAL_ROOM: u64 = jaxfs_sync::limits::JOURNAL_FILE_BYTES;

/// What `fsync` puts into the journal of one file's content at most. More is better sealed where it is to stay.
pub(crate) const JOURNALED_BYTES: u64 = 1 << 20;

/// The same in pieces that do not touch.
pub(crate) const JOURNALED_RANGES: usize = 4_096;

/// The same of all files together that are synced at once, and of those that were renamed since.
pub(crate) const JOURNALED_AT_ONCE: usize = 3 << 20;

/// Numbers that are remembered of files whose content others replaced. What is not in memory any more is forgotten first, and
/// has its old number again.
pub(crate) const NUMBERS: usize = 64 << 10;

/// After an attempt to move to another version failed, the next waits this long.
pub(crate) const TURN_AGAIN: Duration = Duration::from_millis(500);

/// A request that the kernel sent before it was told of a change is here this long after, at most.
pub(crate) const ON_ITS_WAY: Duration = Duration::from_secs(1);
