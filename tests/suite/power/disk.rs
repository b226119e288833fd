//! A disk whose power can be cut: a file in a FUSE file system of this process, for a loop device to stand on.
//!
//! It keeps what was flushed apart from what was only written. When the power goes, each sector that was not flushed has, by
//! chance, any of the contents that it was given since, or the one before, or some of both; so what was written is torn and
//! reordered as by a disk with a cache. From then on every request fails, and none waits, so that nothing of the kernel's hangs on it.
//!
//! Never here: a request that is answered by another thread than the one that read it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite,
    Request, Session, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;
use rustix::mount::UnmountFlags;

use crate::loads::Random;

/// The name of the file.
pub(super) const NAME: &str = "disk";
/// What is kept or lost as one, or torn at a multiple of this.
const SECTOR: usize = 4096;
const TORN: usize = 512;
/// ext4 counts on it that this sector is not torn.
const SUPERBLOCK: u64 = 0;
/// What a flush takes.
const FLUSH: Duration = Duration::from_millis(2);
const FILE: INodeNo = INodeNo(2);
/// Attributes never change.
const TTL: Duration = Duration::from_secs(1 << 30);

type Sector = Box<[u8; SECTOR]>;

/// What a disk keeps without power. A sector that is not here is zeros.
#[derive(Default)]
pub(super) struct Platter {
    sectors: BTreeMap<u64, Sector>,
}

/// How many requests there were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) writes: u64,
    pub(super) flushes: u64,
    /// Sectors that were lost when the power went.
    pub(super) lost: u64,
}

struct State {
    platter: Platter,
    /// What each sector was given since the last flush, the newest last.
    cache: BTreeMap<u64, Vec<Sector>>,
    counts: Counts,
    /// Requests until the power goes by itself.
    left: Option<u64>,
    random: Random,
    dead: bool,
    lies: bool,
}

impl State {
    /// Counts a request; whether there is power for it. The last one is under way when the power goes.
    fn step(&mut self) -> bool {
        self.left = self.left.map(|left| left.saturating_sub(1));
        !self.dead
    }

    /// To be called when a request is done. Whether there still is power.
    fn survives(&mut self) -> bool {
        if self.left == Some(0) {
            self.cut();
        }
        !self.dead
    }

    fn sector(&self, number: u64) -> Option<&Sector> {
        self.cache.get(&number).and_then(|versions| versions.last()).or_else(|| self.platter.sectors.get(&number))
    }

    fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(size);
        while out.len() < size {
            let at = offset + out.len() as u64;
            let (number, within) = (at / SECTOR as u64, (at % SECTOR as u64) as usize);
            let take = (SECTOR - within).min(size - out.len());
            match self.sector(number) {
                Some(sector) => out.extend_from_slice(&sector[within..within + take]),
                None => out.resize(out.len() + take, 0),
            }
        }
        out
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let (number, within) = (at / SECTOR as u64, (at % SECTOR as u64) as usize);
            let take = (SECTOR - within).min(data.len() - done);
            let mut sector = self.sector(number).cloned().unwrap_or_else(|| Box::new([0; SECTOR]));
            sector[within..within + take].copy_from_slice(&data[done..done + take]);
            self.cache.entry(number).or_default().push(sector);
            done += take;
        }
    }

    fn flush(&mut self) {
        let cache = std::mem::take(&mut self.cache);
        self.platter
            .sectors
            .extend(cache.into_iter().filter_map(|(number, mut versions)| Some((number, versions.pop()?))));
    }

    fn cut(&mut self) {
        if std::mem::replace(&mut self.dead, true) {
            return;
        }
        // From nothing to nearly all.
        let kept = self.random.below(100);
        for (number, mut versions) in std::mem::take(&mut self.cache) {
            if self.random.below(100) >= kept {
                self.counts.lost += 1;
                continue;
            }
            let older = self.random.below(4) == 0;
            let which = if older { self.random.below(versions.len() as u64) as usize } else { versions.len() - 1 };
            let mut sector = versions.swap_remove(which);
            if number > SUPERBLOCK && self.random.below(4) == 0 {
                // Its beginning was written, and what comes behind is as it was.
                let from = self.random.below((SECTOR / TORN) as u64) as usize * TORN;
                match self.platter.sectors.get(&number) {
                    Some(before) => sector[from..].copy_from_slice(&before[from..]),
                    None => sector[from..].fill(0),
                }
            }
            self.platter.sectors.insert(number, sector);
        }
    }
}

/// A disk that has power until it is told otherwise. Dropping it cuts the power.
pub(super) struct Disk {
    state: Arc<Mutex<State>>,
    point: PathBuf,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// Shows a disk of that size, with what is on the platter, as a file in the directory `point`.
    #[track_caller]
    pub(super) fn start(platter: Platter, size: u64, random: Random, point: &Path) -> Self {
        let (cache, counts) = (BTreeMap::new(), Counts::default());
        let state = State { platter, cache, counts, left: None, random, dead: false, lies: false };
        let state = Arc::new(Mutex::new(state));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("jaxfs-suite-disk".into())];
        config.n_threads = Some(2);
        config.clone_fd = true;
        let server = Server { state: Arc::clone(&state), size };
        let session = Session::new(server, point, &config).and_then(Session::spawn).unwrap();
        Self { state, point: point.to_owned(), session: Some(session) }
    }

    /// The file that is the disk.
    pub(super) fn file(&self) -> PathBuf {
        self.point.join(NAME)
    }

    /// Says of each flush from now on that it was done, and does nothing.
    pub(super) fn lie(&self) {
        self.state.lock().lies = true;
    }

    /// The power goes after that many more writes and flushes; the last of them is under way.
    pub(super) fn cut_after(&self, requests: u64) {
        self.state.lock().left = Some(requests.max(1));
    }

    /// The power goes.
    pub(super) fn cut(&self) {
        self.state.lock().cut();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    pub(super) fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Takes the platter out of a disk without power.
    pub(super) fn platter(self) -> Platter {
        self.cut();
        std::mem::take(&mut self.state.lock().platter)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.cut();
        // Whoever still holds the file gets errors from the threads, which end with the last of them.
        let _ = rustix::mount::unmount(&self.point, UnmountFlags::DETACH);
        drop(self.session.take());
    }
}

struct Server {
    state: Arc<Mutex<State>>,
    size: u64,
}

impl Server {
    fn attributes(&self, node: INodeNo) -> FileAttr {
        let (kind, size) = if node == FILE { (FileType::RegularFile, self.size) } else { (FileType::Directory, 0) };
        FileAttr {
            ino: node,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: SECTOR as u32,
            flags: 0,
        }
    }
}

impl Filesystem for Server {
    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&TTL, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _req: &Request, node: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(node));
    }

    fn setattr(
        &self,
        _req: &Request,
        node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&TTL, &self.attributes(node));
    }

    fn open(&self, _req: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // The loop device's requests come as they are.
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _req: &Request,
        _node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.state.lock();
        let size = u64::from(size).min(self.size.saturating_sub(offset)) as usize;
        if state.dead { reply.error(Errno::EIO) } else { reply.data(&state.read(offset, size)) }
    }

    fn write(
        &self,
        _req: &Request,
        _node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.state.lock();
        if state.step() {
            state.counts.writes += 1;
            state.write(offset, data);
        }
        if state.survives() { reply.written(data.len() as u32) } else { reply.error(Errno::EIO) }
    }

    fn fsync(&self, _req: &Request, _node: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        // As long as a disk takes: what others write meanwhile comes together behind it.
        std::thread::sleep(FLUSH);
        let mut state = self.state.lock();
        if state.step() {
            state.counts.flushes += 1;
            // One that is under way when the power goes has written some sectors, as the cut has it.
            if state.left != Some(0) && !state.lies {
                state.flush();
            }
        }
        if state.survives() { reply.ok() } else { reply.error(Errno::EIO) }
    }
}
