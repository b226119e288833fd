//! Open handles: files and directories that programs hold.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use jaxfs_sync::tree::TreeError;
use parking_lot::{Mutex, RwLock};

use super::attributes::Changed;
use super::file::{Chunk, File, Part, Writing};
use super::listing::Listing;
use super::table::Ino;
use super::{Caller, Fs};
use crate::errno::FsError;
use crate::limits;
use crate::writeback::Durability;

/// An open file.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) ino: Ino,
    pub(super) file: Arc<File>,
    /// Something was written through it.
    written: AtomicBool,
    /// The last failure to write back that it was told of.
    heard: AtomicU64,
    /// Held while it is open for writing.
    _writing: Option<Writing>,
}

/// What a handle stands for.
#[derive(Clone, Debug)]
enum Open {
    File(Arc<OpenFile>),
    Directory(Ino, Arc<Mutex<Listing>>),
}

/// The open handles of a mount by number.
#[derive(Debug, Default)]
pub(super) struct Handles {
    open: RwLock<HashMap<u64, Open>>,
    last: AtomicU64,
}

impl Handles {
    fn add(&self, open: Open) -> u64 {
        let handle = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.open.write().insert(handle, open);
        handle
    }

    /// The files that are open.
    pub(super) fn files(&self) -> Vec<Arc<File>> {
        let file = |open: &Open| match open {
            Open::File(open) => Some(Arc::clone(&open.file)),
            Open::Directory(..) => None,
        };
        self.open.read().values().filter_map(file).collect()
    }
}

impl Fs {
    /// Says that a file may change from here on, until what it gives is dropped.
    pub(crate) fn begin_writing(&self, ino: Ino) -> Result<Writing, FsError> {
        self.file(ino).map(|file| File::begin_writing(&file))
    }

    /// Opens a regular file, for reading, or for writing too, and empties it if asked to.
    pub(crate) fn open(
        &self,
        ino: Ino,
        writing: Option<Writing>,
        truncate: bool,
        caller: Caller,
    ) -> Result<u64, FsError> {
        if writing.is_some() {
            self.may_begin()?;
        }
        if self.is_outdated(ino) {
            return Err(FsError::Stale);
        }
        if truncate {
            self.set_attributes(ino, Changed { size: Some(0), ..Changed::default() }, caller)?;
        }
        let file = self.file(ino)?;
        self.table.lock().opened(ino);
        Ok(self.add_file(ino, file, writing))
    }

    /// Whether a file is meant by its name that this is not any more: what the kernel knew when it asked is not so. It looks
    /// again when it is told.
    fn is_outdated(&self, ino: Ino) -> bool {
        self.table.lock().get(ino).is_some_and(|inode| inode.detached.is_some()) && self.news.is_pending()
    }

    pub(super) fn add_file(&self, ino: Ino, file: Arc<File>, writing: Option<Writing>) -> u64 {
        let (written, heard) = (AtomicBool::new(false), AtomicU64::new(self.writeback.failing()));
        let open = OpenFile { ino, file, written, heard, _writing: writing };
        self.handles.add(Open::File(Arc::new(open)))
    }

    /// The chunk around what was read through a handle, to be handed to the kernel, if that may be.
    pub(crate) fn chunk(&self, handle: u64, offset: u64) -> Option<Chunk> {
        let open = self.file_handle(handle).ok()?;
        let _using = self.using.read();
        let (content, offset, data) = open.file.chunk(self.vault(), offset, self.handover_limit).ok()??;
        Some(Chunk { ino: open.ino, file: Arc::clone(&open.file), content, offset, data })
    }

    /// Opens a directory for listing.
    pub(crate) fn open_directory(&self, ino: Ino) -> Result<u64, FsError> {
        let mut table = self.table.lock();
        table.directory(ino).ok_or(FsError::NotDirectory)?;
        table.opened(ino);
        Ok(self.handles.add(Open::Directory(ino, Arc::default())))
    }

    pub(super) fn file_handle(&self, handle: u64) -> Result<Arc<OpenFile>, FsError> {
        match self.handles.open.read().get(&handle) {
            Some(Open::File(open)) => Ok(Arc::clone(open)),
            _ => Err(FsError::BadHandle),
        }
    }

    pub(super) fn directory_handle(&self, handle: u64) -> Result<Arc<Mutex<Listing>>, FsError> {
        match self.handles.open.read().get(&handle) {
            Some(Open::Directory(_, listing)) => Ok(Arc::clone(listing)),
            _ => Err(FsError::BadHandle),
        }
    }

    /// Whether what is written can not be stored at present.
    pub(crate) fn is_failing(&self) -> bool {
        self.writeback.is_failing()
    }

    /// Says to a handle that what was written through it can not be stored at present: once for each attempt that failed since
    /// it was opened. Nothing is lost by that, and another attempt follows.
    pub(crate) fn news(&self, handle: u64) -> Result<(), FsError> {
        if !self.writeback.is_failing() {
            return Ok(());
        }
        let open = self.file_handle(handle)?;
        if open.written.load(Ordering::Relaxed) { self.writeback.news(&open.heard) } else { Ok(()) }
    }

    /// Ends a handle.
    pub(crate) fn release(&self, handle: u64) {
        let open = self.handles.open.write().remove(&handle);
        let ino = match open {
            Some(Open::File(open)) => {
                if open.written.load(Ordering::Relaxed) {
                    self.writeback.note(|schedule| schedule.writer_closed(Instant::now()));
                }
                open.ino
            }
            Some(Open::Directory(ino, _)) => ino,
            None => return,
        };
        self.table.lock().closed(ino);
    }

    /// Reads from an open file.
    pub(crate) fn read(&self, handle: u64, offset: u64, len: usize) -> Result<Bytes, FsError> {
        let _using = self.using.read();
        let open = self.file_handle(handle)?;
        open.file.read(self.vault(), offset, len).map_err(|error| {
            if !matches!(error, TreeError::Missing(_)) {
                tracing::error!(path = self.path_of(open.ino), offset, len, "a file can not be read");
            }
            error.into()
        })
    }

    /// A path of an inode, for people; where it has none, only what is known of it.
    fn path_of(&self, ino: Ino) -> String {
        let table = self.table.lock();
        let above = |ino: &Ino| {
            let inode = table.get(*ino)?;
            inode.home.as_ref().or_else(|| inode.names.iter().next())
        };
        let mut names: Vec<_> = std::iter::successors(above(&ino), |(parent, _)| above(parent))
            .take(limits::DIRECTORY_DEPTH)
            .map(|(_, name)| String::from_utf8_lossy(name))
            .collect();
        names.reverse();
        names.join("/")
    }

    /// As [`Fs::read`], and has `answer` called with the outcome: at once, or, where some of it is on other machines, when
    /// that has come or can not be had. No thread waits for that.
    pub(crate) fn read_then(
        self: &Arc<Self>,
        handle: u64,
        offset: u64,
        len: usize,
        answer: impl FnOnce(Result<Bytes, FsError>) + Send + 'static,
    ) {
        match self.read(handle, offset, len) {
            Err(FsError::Absent) => {}
            done => return answer(done),
        }
        // It is called once, by whoever comes first; the other finds it gone.
        let answer = Arc::new(Mutex::new(Some(answer)));
        let tell = {
            let answer = Arc::clone(&answer);
            move |done: Result<Bytes, FsError>| {
                if let Some(answer) = answer.lock().take() {
                    answer(done);
                }
            }
        };
        let (fs, then) = (Arc::clone(self), tell.clone());
        let came = move |came: bool| {
            let done = if came { fs.read(handle, offset, len) } else { Err(FsError::Io) };
            if !came {
                fs.tell_absent(handle, offset);
            }
            then(done.map_err(|error| if error == FsError::Absent { FsError::Io } else { error }));
        };
        match self.want(handle, offset, len, Box::new(came)) {
            Ok(true) => {}
            Ok(false) => {
                self.tell_absent(handle, offset);
                tell(Err(FsError::Io));
            }
            Err(error) => tell(Err(error)),
        }
    }

    /// Asks for what a read needs and is not here; says whether there is anybody to ask.
    fn want(&self, handle: u64, offset: u64, len: usize, came: Box<dyn FnOnce(bool) + Send>) -> Result<bool, FsError> {
        let blocks = self.file_handle(handle)?.file.blocks(self.vault(), offset, len + limits::READ_AHEAD)?;
        Ok(self.vault().want(&blocks, came)?)
    }

    fn tell_absent(&self, handle: u64, offset: u64) {
        let Ok(open) = self.file_handle(handle) else { return };
        tracing::warn!(path = self.path_of(open.ino), offset, "content is on other machines, and can not be had now");
    }

    /// Writes to an open file as [`Fs::write`] does, and has `answer` called with the outcome: at once, or, where dirty
    /// memory is at its limit, when some of it has been sealed. Only this writer waits, and no thread.
    pub(crate) fn write_then(
        self: &Arc<Self>,
        handle: u64,
        offset: u64,
        data: &[u8],
        drop_privileges: bool,
        answer: impl FnOnce(Result<(), FsError>) + Send + 'static,
    ) {
        if self.budget.dirty.get() < self.dirty_limit {
            if let Some(_kept_open) = self.through_gate() {
                return answer(self.write(handle, offset, data, drop_privileges));
            }
            let data = data.to_vec();
            return self.edit(move |fs| answer(fs.write(handle, offset, &data, drop_privileges)));
        }
        let (fs, data) = (Arc::clone(self), data.to_vec());
        self.writeback.when(Durability::Memory, move |room| {
            answer(room.and_then(|()| fs.write(handle, offset, &data, drop_privileges)));
        });
    }

    /// Writes to an open file. With `drop_privileges`, set-id bits and capabilities go, as when another user writes.
    pub(crate) fn write(&self, handle: u64, offset: u64, data: &[u8], drop_privileges: bool) -> Result<(), FsError> {
        let _gate = self.enter()?;
        let open = self.file_handle(handle)?;
        self.check_disk(data.len() as u64)?;
        open.file.write(offset, data)?;
        self.modified(&open, drop_privileges)
    }

    /// Notes that the content of an open file changed.
    fn modified(&self, open: &OpenFile, drop_privileges: bool) -> Result<(), FsError> {
        let time = super::now();
        let mut table = self.table.lock();
        // So that the next sync has these attributes, if one had the bytes already.
        open.file.note_attributes();
        if let Some(inode) = table.get_mut(open.ino) {
            (inode.attributes.mtime, inode.attributes.ctime) = (time, time);
            if drop_privileges {
                inode.attributes.drop_privileges();
            }
        }
        table.touch(open.ino);
        let is_late = table.get(open.ino).is_some_and(|inode| inode.detached.is_some());
        drop(table);
        let first = !open.written.swap(true, Ordering::Relaxed);
        self.writeback.note(|schedule| {
            if first {
                schedule.writer_opened();
            }
            schedule.written(Instant::now());
        });
        if self.memory_is_short() {
            self.writeback.relieve();
        }
        if is_late { self.keep_late(open.ino) } else { Ok(()) }
    }

    /// Has `answer` called once an open file, if it is about one, and all names are on disk, or can not be brought there.
    pub(crate) fn when_durable(&self, handle: Option<u64>, answer: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        let file = match handle.map(|handle| self.file_handle(handle)).transpose() {
            Ok(open) => open.map(|open| self.safe_by(&open)),
            Err(error) => return answer(Err(error)),
        };
        if let Err(answer) = self.syncer.when(file, Box::new(answer)) {
            self.writeback.when(Durability::Durable, answer);
        }
    }

    /// What has to be safe for an open file to be: of what others took, the copy.
    pub(super) fn safe_by(&self, open: &OpenFile) -> Ino {
        self.table.lock().copy_of(open.ino).unwrap_or(open.ino)
    }

    /// The thread that answers who waits for that, to be run by whoever mounts.
    pub(crate) fn answer_syncs(&self) {
        self.syncer.run(|files| self.journal(files), |answer| self.writeback.when(Durability::Durable, answer));
    }

    /// `fallocate`: space is not set aside, so without a mode it only grows the file, and to keep the size too changes
    /// nothing but the file's times; more than there is, is refused.
    pub(crate) fn allocate(
        &self,
        handle: u64,
        offset: u64,
        len: u64,
        mode: i32,
        caller: Caller,
    ) -> Result<(), FsError> {
        let _gate = self.enter()?;
        let open = self.file_handle(handle)?;
        let end = offset.checked_add(len).ok_or(FsError::TooLarge)?;
        let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 => {
                self.check_disk(len)?;
                if !keep_size {
                    open.file.grow(end)?;
                }
            }
            libc::FALLOC_FL_PUNCH_HOLE if keep_size => open.file.zero(offset..end, false)?,
            libc::FALLOC_FL_ZERO_RANGE => open.file.zero(offset..end, !keep_size)?,
            _ => return Err(FsError::Unsupported),
        }
        self.modified(&open, caller.uid != 0)
    }

    /// The next data or hole in an open file.
    pub(crate) fn seek(&self, handle: u64, offset: u64, data: bool) -> Result<u64, FsError> {
        let _using = self.using.read();
        self.file_handle(handle)?.file.seek(self.vault(), offset, data)
    }

    /// Makes bytes of an open file those of another as well: what is sealed is named there too, and the rest is copied. Gives
    /// how many, which are fewer than asked for at the end of the source and where a call would take too much memory.
    pub(crate) fn copy_range(
        &self,
        from: (u64, u64),
        to: (u64, u64),
        len: u64,
        caller: Caller,
    ) -> Result<u64, FsError> {
        let _gate = self.enter()?;
        let (source, target) = (self.file_handle(from.0)?, self.file_handle(to.0)?);
        // Until what is named by the source is named by the target.
        let using = self.using.read();
        let parts = source.file.parts(self.vault(), from.1, len)?;
        if parts.is_empty() {
            return Ok(0);
        }
        self.check_disk(parts.iter().map(Part::memory).sum::<usize>() as u64)?;
        let copied = target.file.put_parts(to.1, parts)?;
        drop(using);
        self.modified(&target, caller.uid != 0)?;
        Ok(copied)
    }

    /// Copies as [`Fs::copy_range`] does, and has `answer` called as [`Fs::write_then`] has.
    pub(crate) fn copy_range_then(
        self: &Arc<Self>,
        from: (u64, u64),
        to: (u64, u64),
        len: u64,
        caller: Caller,
        answer: impl FnOnce(Result<u64, FsError>) + Send + 'static,
    ) {
        // An answer has 32 bits.
        let len = len.min(limits::COPY_AT_ONCE);
        if self.budget.dirty.get() < self.dirty_limit {
            return self.edit(move |fs| answer(fs.copy_range(from, to, len, caller)));
        }
        let fs = Arc::clone(self);
        self.writeback.when(Durability::Memory, move |room| {
            answer(room.and_then(|()| fs.copy_range(from, to, len, caller)));
        });
    }

    pub(super) fn file(&self, ino: Ino) -> Result<Arc<File>, FsError> {
        let table = self.table.lock();
        let inode = table.get(ino).ok_or(FsError::NotFound)?;
        match inode.directory() {
            Some(_) => Err(FsError::IsDirectory),
            None => inode.file().cloned().ok_or(FsError::Invalid),
        }
    }
}
