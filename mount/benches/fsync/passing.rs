//! A file system that passes on what it is asked to a directory, and does nothing else: what FUSE costs by itself. It has the
//! session, the time-outs and the flags of a jaxfs mount, and answers `fsync` beside the threads that read requests.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, SessionACL, WriteFlags,
};
use parking_lot::Mutex;

const ROOT: u64 = 1;
const TTL: Duration = Duration::from_secs(u32::MAX as u64);
/// As many as write at once.
const SYNCERS: usize = 8;

struct Passing {
    paths: Mutex<HashMap<u64, PathBuf>>,
    open: Mutex<(u64, HashMap<u64, Arc<File>>)>,
    syncs: Sender<(Arc<File>, bool, ReplyEmpty)>,
}

/// Shows `from` at a directory.
pub(crate) fn mount(from: &Path, at: &Path) -> io::Result<BackgroundSession> {
    let (syncs, to_sync) = channel::<(Arc<File>, bool, ReplyEmpty)>();
    let to_sync = Arc::new(Mutex::new(to_sync));
    for _ in 0..SYNCERS {
        let to_sync = Arc::clone(&to_sync);
        std::thread::spawn(move || {
            loop {
                let next = to_sync.lock().recv();
                let Ok((file, datasync, reply)) = next else { return };
                answer(if datasync { file.sync_data() } else { file.sync_all() }, reply);
            }
        });
    }
    let paths = Mutex::new(HashMap::from([(ROOT, from.to_owned())]));
    let passing = Passing { paths, open: Mutex::default(), syncs };
    let mut config = Config::default();
    config.n_threads = Some(2);
    config.clone_fd = true;
    config.acl = SessionACL::Owner;
    config.mount_options = vec![MountOption::FSName("passing".into()), MountOption::DefaultPermissions];
    Session::new(passing, at, &config)?.spawn()
}

fn answer(result: io::Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error.into()),
    }
}

fn attributes(number: u64, of: &Metadata) -> FileAttr {
    let time = |secs: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(secs.unsigned_abs());
    FileAttr {
        ino: INodeNo(number),
        size: of.len(),
        blocks: of.blocks(),
        atime: time(of.atime()),
        mtime: time(of.mtime()),
        ctime: time(of.ctime()),
        crtime: time(of.ctime()),
        kind: if of.is_dir() { FileType::Directory } else { FileType::RegularFile },
        perm: (of.mode() & 0o7777) as u16,
        nlink: of.nlink() as u32,
        uid: of.uid(),
        gid: of.gid(),
        rdev: 0,
        blksize: 4_096,
        flags: 0,
    }
}

impl Passing {
    fn path(&self, node: INodeNo) -> io::Result<PathBuf> {
        self.paths.lock().get(&node.0).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn found(&self, path: PathBuf) -> io::Result<FileAttr> {
        let of = std::fs::symlink_metadata(&path)?;
        self.paths.lock().insert(of.ino(), path);
        Ok(attributes(of.ino(), &of))
    }

    fn keep(&self, file: File) -> FileHandle {
        let mut open = self.open.lock();
        open.0 += 1;
        let number = open.0;
        open.1.insert(number, Arc::new(file));
        FileHandle(number)
    }

    fn file(&self, handle: FileHandle) -> io::Result<Arc<File>> {
        self.open.lock().1.get(&handle.0).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

const FLAGS: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH);

impl Filesystem for Passing {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_ATOMIC_O_TRUNC
            | InitFlags::FUSE_BIG_WRITES
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2;
        let _ = config.add_capabilities(wanted & config.capabilities());
        let _ = config.set_max_write(1 << 20);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.path(parent).and_then(|path| self.found(path.join(name))) {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(error) => reply.error(error.into()),
        }
    }

    fn getattr(&self, _req: &Request, node: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.path(node).and_then(std::fs::symlink_metadata) {
            Ok(of) => reply.attr(&TTL, &attributes(node.0, &of)),
            Err(error) => reply.error(error.into()),
        }
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.path(parent).and_then(|path| {
            let path = path.join(name);
            let file = File::options().read(true).write(true).create(true).truncate(true).mode(mode).open(&path)?;
            Ok((self.found(path)?, self.keep(file)))
        });
        match made {
            Ok((attr, handle)) => reply.created(&TTL, &attr, Generation(0), handle, FLAGS),
            Err(error) => reply.error(error.into()),
        }
    }

    fn open(&self, _req: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.path(node).and_then(|path| File::options().read(true).write(true).open(path)) {
            Ok(file) => reply.opened(self.keep(file), FLAGS),
            Err(error) => reply.error(error.into()),
        }
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
        let mut bytes = vec![0; size as usize];
        match self.file(fh).and_then(|file| file.read_at(&mut bytes, offset)) {
            Ok(len) => reply.data(&bytes[..len]),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _req: &Request,
        _node: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.file(fh).and_then(|file| file.write_all_at(data, offset)) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error.into()),
        }
    }

    fn flush(&self, _req: &Request, _node: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _req: &Request, _node: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        match self.file(fh) {
            Ok(file) => drop(self.syncs.send((file, datasync, reply))),
            Err(error) => reply.error(error.into()),
        }
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
        self.open.lock().1.remove(&fh.0);
        reply.ok();
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.path(parent).map(|path| path.join(name)).and_then(std::fs::remove_file);
        match removed {
            Ok(()) => reply.ok(),
            Err(_) => reply.error(Errno::EIO),
        }
    }
}
