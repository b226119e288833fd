//! Mounting, the threads of a mount, and unmounting.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fuser::{Config, INodeNo, MountOption, Session, SessionACL};
use jaxfs_sync::link::Link;
use jaxfs_sync::publish::Bucket;
use parking_lot::{Condvar, Mutex};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::errno::FsError;
use crate::fs::{Fs, Settings};
use crate::fuse::Border;
use crate::handover::Handover;
use crate::invalidate::Notice;
use crate::{MountError, MountOptions, MountStatus, limits};

/// A bucket that is mounted.
///
/// Dropping it neither unmounts nor waits.
pub struct Mounted {
    fs: Arc<Fs>,
    dir: PathBuf,
    ended: Arc<Ended>,
}

/// Whether a mount is gone and the write-back has ended, and if so, whether everything is stored.
#[derive(Default)]
struct Ended {
    outcome: Mutex<Option<Result<(), FsError>>>,
    changed: Condvar,
}

/// Mounts a bucket on a directory; returns when the mount is live.
///
/// # Errors
/// If there is no FUSE, the directory can not be mounted on, or the bucket's newest state can not be read.
pub fn mount(bucket: Arc<Bucket>, dir: &Path, options: &MountOptions) -> Result<Mounted, MountError> {
    bucket.vault().set_data_capacity(options.cache_bytes);
    let options = &MountOptions { read_only: options.read_only || !bucket.role().may_write(), ..options.clone() };
    let settings = Settings { owner: options.owner, dirty_limit: options.dirty_bytes, most_space: options.most_space };
    let fs = Fs::new(bucket, settings).map_err(|_| MountError::Unreadable)?;
    let handover = Arc::new(Handover::default());
    let border = Border { fs: Arc::clone(&fs), handover: Arc::clone(&handover) };
    let session = open_session(border, dir, options)?;
    let ended = Arc::new(Ended::default());
    start(session, &fs, &handover, &ended).inspect_err(|_| undo(dir))?;
    Ok(Mounted { fs, dir: dir.to_path_buf(), ended })
}

/// Starts the threads of a mount.
fn start(
    session: Session<Border>,
    fs: &Arc<Fs>,
    handover: &Arc<Handover>,
    ended: &Arc<Ended>,
) -> Result<(), MountError> {
    let (handing, notifier) = (Arc::clone(handover), session.notifier());
    spawn("jaxfs-handover", 1 << 20, move || {
        handing.run(|ino, offset, data| {
            // The kernel may have forgotten the file meanwhile, or the mount may be gone.
            if let Err(error) = notifier.store(INodeNo(ino.0), offset, data) {
                tracing::debug!(%error, "the kernel did not take a chunk");
            }
        });
    })?;
    let (telling, notifier) = (fs.news_for_kernel(), session.notifier());
    spawn("jaxfs-news", 1 << 20, move || telling.run(|notice| tell(&notifier, notice)))
        .inspect_err(|_| handover.stop())?;
    let stopping = (Arc::clone(handover), fs.news_for_kernel());
    let (serving, ended) = (Arc::clone(fs), Arc::clone(ended));
    let writing = Arc::clone(fs);
    let writeback = spawn("jaxfs-writeback", limits::WRITEBACK_STACK, move || writing.write_back())?;
    let syncing = Arc::clone(fs);
    let syncer = spawn("jaxfs-sync", 1 << 20, move || syncing.answer_syncs()).inspect_err(|_| fs.stop())?;
    let session = spawn("jaxfs-session", 1 << 20, move || {
        serve(session, &serving, [writeback, syncer], &ended);
        stopping.0.stop();
        stopping.1.stop();
    });
    session.map(|_| ()).inspect_err(|_| {
        handover.stop();
        fs.news_for_kernel().stop();
        fs.stop();
    })
}

/// Tells the kernel what it remembers and is not so any more. It may have forgotten that, or the mount may be gone.
fn tell(notifier: &fuser::Notifier, notice: Notice<'_>) {
    let told = match notice {
        Notice::Name(parent, name) => notifier.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name)),
        // Negative: the attributes only. Its pages are what they were.
        Notice::Content(ino) => notifier.inval_inode(INodeNo(ino.0), 0, 0),
        Notice::Attributes(ino) => notifier.inval_inode(INodeNo(ino.0), -1, 0),
    };
    if let Err(error) = told {
        tracing::debug!(%error, "the kernel did not take a notice");
    }
}

/// Takes down a mount that nobody will serve.
fn undo(dir: &Path) {
    if let Err(error) = detach(dir, true) {
        tracing::debug!(%error, "a mount that failed is gone already");
    }
}

/// Answers the kernel until the mount is gone, then writes back what is left.
fn serve(session: Session<Border>, fs: &Arc<Fs>, threads: [JoinHandle<()>; 2], ended: &Ended) {
    if let Err(error) = session.run() {
        tracing::warn!(%error, "the FUSE session ended with an error");
    }
    // If one of its threads failed, another may still answer.
    fs.refuse_changes(Duration::MAX);
    let outcome = last_publish(fs);
    if let Err(error) = outcome {
        tracing::error!(%error, "a mount ended, and what was written last could not be stored");
    }
    fs.stop();
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the mount panicked");
        }
    }
    *ended.outcome.lock() = Some(outcome);
    ended.changed.notify_all();
}

/// Publishes what is left. A disk that is full now may have room in a moment.
fn last_publish(fs: &Fs) -> Result<(), FsError> {
    let started = Instant::now();
    loop {
        match fs.publish(Duration::MAX) {
            Some(Err(_)) if started.elapsed() < limits::LAST_ATTEMPTS => thread::sleep(limits::LAST_PAUSE),
            Some(outcome) => return outcome.map(|_| ()),
            None => return Err(FsError::Io),
        }
    }
}

fn spawn(name: &str, stack: usize, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, MountError> {
    thread::Builder::new().name(name.into()).stack_size(stack).spawn(run).map_err(MountError::Refused)
}

fn open_session(border: Border, dir: &Path, options: &MountOptions) -> Result<Session<Border>, MountError> {
    let mut config = Config::default();
    config.n_threads = Some(limits::SESSION_THREADS);
    config.clone_fd = true;
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    let session = if rustix::process::geteuid().is_root() {
        let device = mount_as_root(dir, options)?;
        Session::from_fd(border, device, config.acl, config).inspect_err(|_| undo(dir))
    } else {
        config.mount_options = user_options(options);
        Session::new(border, dir, &config)
    };
    session.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if !Path::new("/dev/fuse").exists() => MountError::NoDevice,
        io::ErrorKind::NotFound => MountError::NoHelper,
        _ => MountError::Refused(error),
    })
}

/// Mounts with mount(2), which, unlike the helper, shows the type as `fuse.jaxfs`.
fn mount_as_root(dir: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let device = device.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => MountError::NoDevice,
        _ => MountError::Refused(error),
    })?;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut data = format!("fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions", device.as_raw_fd());
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::NOSUID, !options.suid);
    flags.set(MountFlags::NODEV, !options.dev);
    flags.set(MountFlags::RDONLY, options.read_only);
    let data = std::ffi::CString::new(data).map_err(|_| MountError::Refused(io::ErrorKind::InvalidInput.into()))?;
    rustix::mount::mount("jaxfs", dir, "fuse.jaxfs", flags, data.as_c_str())
        .map_err(|errno| MountError::Refused(errno.into()))?;
    Ok(device.into())
}

fn user_options(options: &MountOptions) -> Vec<MountOption> {
    let access = if options.read_only { MountOption::RO } else { MountOption::RW };
    vec![
        MountOption::FSName("jaxfs".into()),
        MountOption::Subtype("jaxfs".into()),
        MountOption::DefaultPermissions,
        MountOption::NoSuid,
        MountOption::NoDev,
        access,
    ]
}

impl Mounted {
    /// Publishes everything written so far, and gives the head.
    ///
    /// # Errors
    /// If it can not be stored.
    pub fn sync(&self, limit: Duration) -> Result<Link, MountError> {
        match self.fs.publish(limit) {
            Some(done) => done.map_err(flush_error),
            None => Err(MountError::TooSlow),
        }
    }

    /// What is not published, and what went wrong last.
    pub fn status(&self) -> MountStatus {
        let (unpublished, dirty_bytes, trouble) = self.fs.pending();
        MountStatus {
            unpublished,
            dirty_bytes,
            trouble: trouble.map(|error| error.to_string()),
            inodes: self.fs.inodes() as u64,
        }
    }

    /// Publishes for at most `limit`, then unmounts. What is busy is detached: its users may read on, and change nothing.
    /// Gives whether it was busy. What can not be published keeps the directory mounted, unless `force` gives it up.
    ///
    /// # Errors
    /// If something can not be published, or the mount can not be taken down.
    pub fn unmount(&self, limit: Duration, force: bool) -> Result<bool, MountError> {
        self.publish_or_give_up(limit, force)?;
        // The kernel is told nothing while it takes the mount down.
        self.fs.news_for_kernel().pause(true);
        let was_busy = match detach(&self.dir, false) {
            Ok(()) => self.outcome(limit).map(|()| false),
            Err(_) if self.wait_for(Duration::ZERO) => self.outcome(limit).map(|()| false),
            Err(_) => self.detach_busy(limit, force).map(|()| true),
        };
        self.fs.news_for_kernel().pause(false);
        was_busy
    }

    /// Detaches what is in use, once nothing more can be written that might not be kept.
    fn detach_busy(&self, limit: Duration, force: bool) -> Result<(), MountError> {
        let refused = self.fs.refuse_changes(limit);
        let published = if refused { self.publish_or_give_up(limit, force) } else { Err(MountError::TooSlow) };
        if !force && let Err(error) = published {
            self.fs.take_changes();
            return Err(error);
        }
        match detach(&self.dir, true) {
            Ok(()) => Ok(()),
            // It was detached by hand before, and is still in use.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            Err(error) => Err(MountError::Stuck(error)),
        }
    }

    fn publish_or_give_up(&self, limit: Duration, force: bool) -> Result<(), MountError> {
        match self.sync(limit) {
            Err(error) if force => {
                tracing::error!(%error, "unmounting with something unpublished");
                Ok(())
            }
            outcome => outcome.map(|_| ()),
        }
    }

    /// How the mount ended, which must be soon.
    fn outcome(&self, limit: Duration) -> Result<(), MountError> {
        if !self.wait_for(limit.max(limits::LAST_ATTEMPTS)) {
            return Err(MountError::TooSlow);
        }
        (*self.ended.outcome.lock()).unwrap_or(Ok(())).map_err(flush_error)
    }

    /// Blocks until the mount is gone, however that came, and everything is written back, or can not be.
    pub fn wait(&self) {
        self.wait_for(Duration::MAX);
    }

    /// Blocks until the mount is gone, for at most `limit`. Gives whether it is.
    pub fn wait_for(&self, limit: Duration) -> bool {
        let deadline = Instant::now().checked_add(limit);
        let mut outcome = self.ended.outcome.lock();
        while outcome.is_none() {
            match deadline {
                None => self.ended.changed.wait(&mut outcome),
                Some(deadline) if self.ended.changed.wait_until(&mut outcome, deadline).timed_out() => break,
                Some(_) => {}
            }
        }
        outcome.is_some()
    }
}

/// Takes a mount down; `lazily`, even if it is in use or nobody serves it any more.
///
/// # Errors
/// If the kernel refuses, or the helper that a user who is not root needs is not there.
pub fn detach(dir: &Path, lazily: bool) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let flags = if lazily { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        return rustix::mount::unmount(dir, flags).map_err(Into::into);
    }
    let helper = find_helper().map_err(io::Error::other)?;
    let how = if lazily { "-uz" } else { "-u" };
    let output = Command::new(helper).arg(how).arg("--").arg(dir).stdin(Stdio::null()).output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// Finds the set-uid program that mounts for users who are not root, whatever the PATH of this process is.
///
/// # Errors
/// If it is not installed.
pub fn find_helper() -> Result<PathBuf, MountError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/bin", "/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join("fusermount3")).find(|file| file.is_file()).ok_or(MountError::NoHelper)
}

fn flush_error(error: FsError) -> MountError {
    MountError::Unpublished(error.to_string())
}
