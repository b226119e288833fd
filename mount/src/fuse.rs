//! The border to the kernel: requests are translated, one call is made, the answer is translated back.
//!
//! Everything local is answered on the thread that read the request: another thread would cost a wake-up. Only what waits
//! for the disk (`fsync`) is answered elsewhere.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};
use jaxfs_sync::tree::{Body, Kind, Time};

use crate::errno::FsError;
use crate::fs::{Caller, Changed, Fs, Ino, New, OnTarget, Stat, Writing, time_of};
use crate::handover::Handover;
use crate::limits;

/// Inode numbers are never used again for something else while the kernel knows them.
const GENERATION: Generation = Generation(0);

/// The file system as fuser calls it.
pub(crate) struct Border {
    pub(crate) fs: Arc<Fs>,
    pub(crate) handover: Arc<Handover>,
}

/// Answers with the value or the error.
macro_rules! answer {
    ($reply:ident, $result:expr, |$value:pat_param| $then:expr) => {
        match $result {
            Ok($value) => $then,
            Err(error) => $reply.error(error.errno()),
        }
    };
}

impl Filesystem for Border {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_ATOMIC_O_TRUNC
            | InitFlags::FUSE_BIG_WRITES
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA;
        let offered = config.capabilities();
        // What inherits an ACL knows no umask, so the kernel must not have applied it.
        let acls = InitFlags::FUSE_POSIX_ACL | InitFlags::FUSE_DONT_MASK;
        if offered.contains(acls) {
            wanted |= acls;
            self.fs.heed_acls();
        }
        if let Err(missing) = config.add_capabilities(wanted & offered) {
            tracing::debug!(?missing, "the kernel refuses what it offered");
        }
        for (what, result) in [
            ("write size", config.set_max_write(limits::WRITE_BYTES)),
            ("readahead", config.set_max_readahead(limits::WRITE_BYTES)),
        ] {
            if let Err(nearest) = result {
                tracing::debug!(what, nearest, "the kernel's limit is lower");
            }
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, self.fs.lookup(ino(parent), name.as_bytes()), |found| match found {
            Some(stat) => reply.entry_with_ttls(&ttl(&stat), &limits::TTL, &attr(&stat), GENERATION),
            None => reply.entry(&limits::TTL, &absent(), GENERATION),
        });
    }

    fn forget(&self, _req: &Request, node: INodeNo, nlookup: u64) {
        self.fs.forget(ino(node), nlookup);
    }

    fn getattr(&self, _req: &Request, node: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.fs.attributes(ino(node)), |stat| reply.attr(&ttl(&stat), &attr(&stat)));
    }

    fn setattr(
        &self,
        req: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = Changed {
            mode: mode.map(|mode| (mode & 0o7777) as u16),
            uid,
            gid,
            size,
            atime: atime.map(time_or_now),
            mtime: mtime.map(time_or_now),
        };
        let (node, caller) = (ino(node), caller(req));
        let change = move |fs: &Fs| {
            let result = fs.set_attributes(node, changed, caller);
            answer!(reply, result, |stat| reply.attr(&ttl(&stat), &attr(&stat)));
        };
        // A size that changes meets no old chunk on its way to the kernel.
        let writing = size.and_then(|_| self.fs.begin_writing(node).ok());
        let Some(writing) = writing else { return self.fs.edit(move |fs| change(fs)) };
        let fs = Arc::clone(&self.fs);
        self.handover.before_change(node, move || {
            fs.edit(move |fs| {
                change(fs);
                drop(writing);
            });
        });
    }

    fn readlink(&self, _req: &Request, node: INodeNo, reply: ReplyData) {
        answer!(reply, self.fs.read_link(ino(node)), |target| reply.data(&target));
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        let new = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => New::File,
            libc::S_IFIFO => New::Special(Body::Fifo),
            libc::S_IFSOCK => New::Special(Body::Socket),
            libc::S_IFCHR => New::Special(Body::CharDevice(rdev.into())),
            libc::S_IFBLK => New::Special(Body::BlockDevice(rdev.into())),
            _ => return reply.error(Errno::EINVAL),
        };
        self.make(maker(req, umask), parent, name, mode, new, reply);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.make(maker(req, umask), parent, name, mode, New::Directory, reply);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.make(caller(req), parent, name, 0o777, New::Symlink(target.as_os_str().as_bytes().into()), reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (parent, name) = (ino(parent), name.as_bytes().to_vec());
        self.fs.edit(move |fs| answer!(reply, fs.unlink(parent, &name), |()| reply.ok()));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (parent, name) = (ino(parent), name.as_bytes().to_vec());
        self.fs.edit(move |fs| answer!(reply, fs.remove_directory(parent, &name), |()| reply.ok()));
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let on_target = match flags {
            flags if flags.is_empty() => OnTarget::Replace,
            RenameFlags::RENAME_NOREPLACE => OnTarget::Refuse,
            RenameFlags::RENAME_EXCHANGE => OnTarget::Exchange,
            _ => return reply.error(Errno::EINVAL),
        };
        let (from, to) = ((ino(parent), name.as_bytes().to_vec()), (ino(newparent), newname.as_bytes().to_vec()));
        self.fs.edit(move |fs| {
            answer!(reply, fs.rename((from.0, &from.1), (to.0, &to.1), on_target), |()| reply.ok());
        });
    }

    fn link(&self, _req: &Request, node: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let (node, parent, name) = (ino(node), ino(newparent), newname.as_bytes().to_vec());
        self.fs.edit(move |fs| {
            let result = fs.link(node, parent, &name);
            answer!(reply, result, |stat| reply.entry(&limits::TTL, &attr(&stat), GENERATION));
        });
    }

    fn open(&self, req: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (node, caller, truncate) = (ino(node), caller(req), flags.0 & libc::O_TRUNC != 0);
        let open = move |fs: &Arc<Fs>, writing: Option<Writing>| {
            let flags = file_flags(fs, writing.is_some());
            let result = fs.open(node, writing, truncate, caller);
            answer!(reply, result, |handle| reply.opened(FileHandle(handle), flags));
        };
        if flags.0 & libc::O_ACCMODE == libc::O_RDONLY && !truncate {
            return open(&self.fs, None);
        }
        // No old chunk is on its way to the kernel when the first write comes.
        let (fs, writing) = (Arc::clone(&self.fs), self.fs.begin_writing(node).ok());
        self.handover.before_change(node, move || fs.edit(move |fs| open(fs, writing)));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (parent, name, caller) = (ino(parent), name.as_bytes().to_vec(), maker(req, umask));
        self.fs.edit(move |fs| {
            let result = fs.create(parent, &name, mode, caller).map_err(|error| match error {
                // The kernel does not know yet what others made: it is to look, and open that.
                FsError::Exists if flags & libc::O_EXCL == 0 => FsError::Stale,
                error => error,
            });
            answer!(reply, result, |(stat, handle)| {
                reply.created(&limits::TTL, &attr(&stat), GENERATION, FileHandle(handle), file_flags(fs, true));
            });
        });
    }

    fn read(
        &self,
        _req: &Request,
        _node: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.fs.read_then(fh.0, offset, size as usize, move |result| {
            answer!(reply, result, |data| reply.data(&data));
        });
        if (size as usize) <= limits::HANDOVER_READ
            && let Some(chunk) = self.fs.chunk(fh.0, offset)
        {
            self.handover.offer(chunk);
        }
    }

    fn write(
        &self,
        _req: &Request,
        _node: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let drop_privileges = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let written = data.len() as u32;
        // What comes from the page cache would be lost if it was refused, and nobody waits for the answer.
        if !write_flags.contains(WriteFlags::FUSE_WRITE_CACHE)
            && let Err(error) = self.fs.news(fh.0)
        {
            return reply.error(error.errno());
        }
        self.fs.write_then(fh.0, offset, data, drop_privileges, move |result| {
            answer!(reply, result, |()| reply.written(written));
        });
    }

    fn flush(&self, _req: &Request, _node: INodeNo, fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        answer!(reply, self.fs.news(fh.0), |()| reply.ok());
    }

    fn release(
        &self,
        _req: &Request,
        _node: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.fs.release(fh.0);
        reply.ok();
    }

    fn fsync(&self, _req: &Request, _node: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.sync(Some(fh.0), reply);
    }

    fn fsyncdir(&self, _req: &Request, _node: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.sync(None, reply);
    }

    fn opendir(&self, _req: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Not FOPEN_CACHE_DIR: the kernel shares that cache between handles, and offsets are a handle's own.
        let flags = FopenFlags::empty();
        answer!(reply, self.fs.open_directory(ino(node)), |handle| reply.opened(FileHandle(handle), flags));
    }

    fn readdir(&self, _req: &Request, node: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let result = self.fs.list(ino(node), fh.0, offset, false, |listed| {
            reply.add(INodeNo(listed.ino.0), listed.offset, file_type(listed.kind), OsStr::from_bytes(&listed.name))
        });
        answer!(reply, result, |()| reply.ok());
    }

    fn readdirplus(&self, _req: &Request, node: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let result = self.fs.list(ino(node), fh.0, offset, true, |listed| {
            let name = OsStr::from_bytes(&listed.name);
            let (attr, ttl) =
                listed.stat.as_ref().map_or_else(|| (absent(), limits::TTL), |stat| (attr(stat), ttl(stat)));
            reply.add(INodeNo(listed.ino.0), listed.offset, name, &ttl, &attr, GENERATION)
        });
        answer!(reply, result, |()| reply.ok());
    }

    fn releasedir(&self, _req: &Request, _node: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.fs.release(fh.0);
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _node: INodeNo, reply: ReplyStatfs) {
        answer!(reply, self.fs.space(), |space| reply.statfs(
            space.blocks,
            space.free,
            space.available,
            space.files,
            space.files_free,
            space.block_bytes,
            jaxfs_sync::limits::NAME_BYTES as u32,
            space.block_bytes,
        ));
    }

    fn setxattr(
        &self,
        req: &Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let exists = match flags {
            libc::XATTR_CREATE => Some(false),
            libc::XATTR_REPLACE => Some(true),
            _ => None,
        };
        let (node, name, value, caller) = (ino(node), name.as_bytes().to_vec(), value.to_vec(), caller(req));
        self.fs.edit(move |fs| answer!(reply, fs.set_xattr(node, &name, &value, exists, caller), |()| reply.ok()));
    }

    fn getxattr(&self, _req: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        answer!(reply, self.fs.xattr(ino(node), name.as_bytes()), |value| sized(&value, size, reply));
    }

    fn listxattr(&self, req: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        answer!(reply, self.fs.xattr_names(ino(node), caller(req)), |names| sized(&names, size, reply));
    }

    fn removexattr(&self, _req: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (node, name) = (ino(node), name.as_bytes().to_vec());
        self.fs.edit(move |fs| answer!(reply, fs.remove_xattr(node, &name), |()| reply.ok()));
    }

    fn ioctl(
        &self,
        _req: &Request,
        _node: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        req: &Request,
        _node: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let caller = caller(req);
        self.fs.edit(move |fs| answer!(reply, fs.allocate(fh.0, offset, length, mode, caller), |()| reply.ok()));
    }

    fn lseek(&self, _req: &Request, _node: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let data = match whence {
            libc::SEEK_DATA => true,
            libc::SEEK_HOLE => false,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        answer!(reply, self.fs.seek(fh.0, offset, data), |found| reply.offset(found as i64));
    }

    fn copy_file_range(
        &self,
        req: &Request,
        _ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        _ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((fh_in.0, offset_in), (fh_out.0, offset_out));
        self.fs.copy_range_then(from, to, len, caller(req), |result| {
            answer!(reply, result, |copied| reply.written(copied as u32));
        });
    }
}

impl Border {
    fn make(&self, caller: Caller, parent: INodeNo, name: &OsStr, mode: u32, new: New, reply: ReplyEntry) {
        let (parent, name) = (ino(parent), name.as_bytes().to_vec());
        self.fs.edit(move |fs| {
            let result = fs.make(parent, &name, mode, new, caller);
            answer!(reply, result, |stat| reply.entry(&limits::TTL, &attr(&stat), GENERATION));
        });
    }

    /// Is answered by a thread of its own, so that other requests are answered meanwhile and share its next write.
    fn sync(&self, handle: Option<u64>, reply: ReplyEmpty) {
        self.fs.when_durable(handle, move |result| answer!(reply, result, |()| reply.ok()));
    }
}

/// How long the kernel may keep attributes: until it changes something, unless sealing may still change how much room
/// a file takes.
const fn ttl(stat: &Stat) -> Duration {
    if stat.settled { limits::TTL } else { Duration::ZERO }
}

const fn ino(node: INodeNo) -> Ino {
    Ino(node.0)
}

fn caller(req: &Request) -> Caller {
    Caller { uid: req.uid(), gid: req.gid(), pid: req.pid(), umask: 0 }
}

/// Who makes something.
fn maker(req: &Request, umask: u32) -> Caller {
    Caller { umask: (umask & 0o777) as u16, ..caller(req) }
}

fn time_or_now(time: TimeOrNow) -> Time {
    match time {
        TimeOrNow::SpecificTime(time) => asked_time(time),
        TimeOrNow::Now => time_of(SystemTime::now()),
    }
}

/// The time that the kernel sent. For one before 1970 fuser 0.18 takes the nanoseconds off, where they are to be added;
/// since it has whole seconds there, that can be undone.
fn asked_time(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(_) => time_of(time),
        Err(before) => {
            let before = before.duration();
            let secs = i64::try_from(before.as_secs()).map_or(i64::MIN, |secs| -secs);
            Time { secs, nanos: before.subsec_nanos() }
        }
    }
}

fn system_time(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let start = if time.secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    start.and_then(|start| start.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(UNIX_EPOCH)
}

const fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

fn attr(stat: &Stat) -> FileAttr {
    FileAttr {
        ino: INodeNo(stat.ino.0),
        size: stat.size,
        blocks: stat.blocks,
        atime: system_time(stat.atime),
        mtime: system_time(stat.mtime),
        ctime: system_time(stat.ctime),
        crtime: system_time(stat.btime),
        kind: file_type(stat.kind),
        perm: stat.mode,
        nlink: stat.nlink.try_into().unwrap_or(u32::MAX),
        uid: stat.uid,
        gid: stat.gid,
        rdev: stat.rdev.try_into().unwrap_or(0),
        blksize: 4096,
        flags: 0,
    }
}

/// Node id 0: the kernel remembers that there is nothing.
fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// Nobody but this machine's kernel changes a file behind an open handle, so its pages stay. Nothing is to be done at `close`
/// that `release` does not do, unless there may be something to tell to who writes.
fn file_flags(fs: &Fs, writing: bool) -> FopenFlags {
    if writing && fs.is_failing() {
        FopenFlags::FOPEN_KEEP_CACHE
    } else {
        FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH
    }
}

/// Answers a request for an attribute: its size, if that is asked for, or its value, if there is room.
fn sized(value: &[u8], room: u32, reply: ReplyXattr) {
    match room {
        0 => reply.size(value.len() as u32),
        room if value.len() > room as usize => reply.error(FsError::Range.errno()),
        _ => reply.data(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_is_what_the_kernel_sent() {
        for (secs, nanos) in [(-1, 999_999_999), (-1, 0), (-86_401, 876_543_211), (-2_177_452_801, 1)] {
            let from_fuser = UNIX_EPOCH - Duration::new(u64::try_from(-secs).unwrap_or(0), nanos);
            assert_eq!(asked_time(from_fuser), Time { secs, nanos });
        }
        assert_eq!(asked_time(UNIX_EPOCH + Duration::new(1, 5)), Time { secs: 1, nanos: 5 });
    }
}
