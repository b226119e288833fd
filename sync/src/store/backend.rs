//! What redb reads and writes: a file of ours, so that it stands on the same [`Disk`](super::disk::Disk) as all else.
//!
//! Not redb's own file backend. Its reads and writes are the same two calls to the system, and ours remembers whether it was
//! a sync that failed, which decides whether the file can still be trusted. It takes no locks: the store's own
//! outlives the file, which may be replaced by a copy.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redb::StorageBackend;

use super::disk::File;

/// What is copied at once.
const COPIED_AT_ONCE: usize = 1 << 20;
/// A page in memory that stands before one of the file.
const PAGE: u64 = 4_096;

/// The index's file. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct IndexFile {
    pub(super) file: Arc<File>,
    doubt: Doubt,
}

/// Whether what can be read of the index may not be on the disk, because a sync failed.
///
/// A store that is opened later has to know it too, as long as the system runs that dropped the writes. So it is the first
/// byte of the lock file: 1 from before a sync until it is done. It is not synced itself, for after a power cut what is read
/// is what is on the disk.
#[derive(Clone, Debug)]
pub(super) struct Doubt {
    lock: Arc<File>,
    failed: Arc<AtomicBool>,
    /// It is about a copy, and the lock file still about what is to be replaced.
    of_copy: Arc<AtomicBool>,
}

impl Doubt {
    /// What is known from before.
    pub(super) fn new(lock: Arc<File>) -> io::Result<Self> {
        let mut byte = [0];
        if lock.len()? > 0 {
            lock.read(0, &mut byte)?;
        }
        Ok(Self { lock, failed: Arc::new(AtomicBool::new(byte != [0])), of_copy: Arc::default() })
    }

    /// For a file that is to take the place of the one that the lock file tells of.
    pub(super) fn of_copy(lock: Arc<File>) -> Self {
        Self { lock, failed: Arc::default(), of_copy: Arc::new(AtomicBool::new(true)) }
    }

    /// Runs a sync.
    fn during(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let done = self.note(1).and_then(|()| sync()).and_then(|()| self.note(0));
        done.inspect_err(|_| self.failed.store(true, Ordering::Release))
    }

    fn note(&self, byte: u8) -> io::Result<()> {
        if self.of_copy.load(Ordering::Acquire) { Ok(()) } else { self.lock.write(0, &[byte]) }
    }
}

impl IndexFile {
    pub(super) fn new(file: Arc<File>, doubt: Doubt) -> Self {
        Self { file, doubt }
    }

    /// A copy of it that is synced.
    pub(super) fn copy(&self, file: File) -> io::Result<Self> {
        let (len, mut buffer) = (self.file.len()?, vec![0; COPIED_AT_ONCE]);
        let mut at = 0;
        while at < len {
            let part = &mut buffer[..COPIED_AT_ONCE.min((len - at) as usize)];
            self.file.read(at, part)?;
            file.write(at, part)?;
            at += part.len() as u64;
        }
        file.sync_data()?;
        Ok(Self { file: Arc::new(file), doubt: Doubt::of_copy(self.doubt.lock.clone()) })
    }

    /// This copy is in its place, durably.
    pub(super) fn is_in_place(&self) -> io::Result<()> {
        self.doubt.of_copy.store(false, Ordering::Release);
        self.doubt.note(0)
    }

    /// Whether nothing more can be built on it.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubt.failed.load(Ordering::Acquire)
    }
}

impl StorageBackend for IndexFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, to)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.doubt.during(|| self.file.sync_data())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write(offset, bytes)
    }
}

/// The index's file, which is left alone: what is written stays in memory. redb writes when it opens a file that was not
/// closed, a page in a thousand or so.
#[derive(Debug)]
pub(super) struct ReadOnly {
    file: Arc<File>,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    len: u64,
    /// How much of the file is still seen: what was cut comes back as zeros.
    of_file: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
}

impl ReadOnly {
    pub(super) fn new(file: Arc<File>) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file, over: Mutex::new(Over { len, of_file: len, pages: BTreeMap::new() }) })
    }

    /// What of the file is still seen, and zeros.
    fn read_file(&self, of_file: u64, offset: u64, to: &mut [u8]) -> io::Result<()> {
        let here = of_file.saturating_sub(offset).min(to.len() as u64) as usize;
        self.file.read(offset, &mut to[..here])?;
        to[here..].fill(0);
        Ok(())
    }
}

/// What a page and a range have in common: in the page, and in the range.
fn common(number: u64, offset: u64, len: usize) -> (Range<usize>, Range<usize>) {
    let (from, until) = (offset.max(number * PAGE), (offset + len as u64).min((number + 1) * PAGE));
    let relative = |to: u64| (from - to) as usize..(until - to) as usize;
    (relative(number * PAGE), relative(offset))
}

impl StorageBackend for ReadOnly {
    fn len(&self) -> io::Result<u64> {
        Ok(self.over.lock().len)
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        let over = self.over.lock();
        let end = offset + to.len() as u64;
        if end > over.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(over.of_file, offset, to)?;
        for (number, page) in over.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
            let (in_page, in_range) = common(*number, offset, to.len());
            to[in_range].copy_from_slice(&page[in_page]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut over = self.over.lock();
        (over.len, over.of_file) = (len, over.of_file.min(len));
        over.pages.split_off(&len.div_ceil(PAGE));
        if let Some(page) = over.pages.get_mut(&(len / PAGE)) {
            page[(len % PAGE) as usize..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut over = self.over.lock();
        let end = offset + bytes.len() as u64;
        for number in offset / PAGE..end.div_ceil(PAGE) {
            let mut page = Box::new([0; PAGE as usize]);
            match over.pages.remove(&number) {
                Some(written) => page = written,
                None => self.read_file(over.of_file, number * PAGE, &mut page[..])?,
            }
            let (in_page, in_range) = common(number, offset, bytes.len());
            page[in_page].copy_from_slice(&bytes[in_range]);
            over.pages.insert(number, page);
        }
        over.len = over.len.max(end);
        Ok(())
    }
}
