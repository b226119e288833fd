//! Mounting, the threads of a mount, and unmounting.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fuser::{Config, MountOption, Session, SessionACL};
use jaxfs_sync::link::Link;
use jaxfs_sync::publish::Bucket;
use parking_lot::{Condvar, Mutex};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::errno::FsError;
use crate::fs::Fs;
use crate::fuse::Border;
use crate::{MountError, MountOptions, MountStatus, limits};

/// A bucket that is mounted.
///
/// Dropping it neither unmounts nor waits.
pub struct Mounted {
    fs: Arc<Fs>,
    dir: PathBuf,
    ended: Arc<Ended>,
}

/// Whether a mount is gone and everything is written back.
#[derive(Default)]
struct Ended {
    flag: Mutex<bool>,
    changed: Condvar,
}

/// Mounts a bucket on a directory; returns when the mount is live.
///
/// # Errors
/// If there is no FUSE, the directory can not be mounted on, or the bucket's newest state can not be read.
pub fn mount(bucket: Arc<Bucket>, dir: &Path, options: &MountOptions) -> Result<Mounted, MountError> {
    bucket.vault().set_data_capacity(options.cache_bytes);
    let fs = Fs::new(bucket, options.owner, options.dirty_bytes).map_err(|_| MountError::Unreadable)?;
    let fs = Arc::new(fs);
    let session = open_session(Border { fs: Arc::clone(&fs) }, dir, options)?;
    let ended = Arc::new(Ended::default());
    let writeback = spawn("jaxfs-writeback", limits::WRITEBACK_STACK, {
        let fs = Arc::clone(&fs);
        move || fs.write_back()
    })?;
    spawn("jaxfs-session", 1 << 20, {
        let (fs, ended) = (Arc::clone(&fs), Arc::clone(&ended));
        move || serve(session, &fs, writeback, &ended)
    })?;
    Ok(Mounted { fs, dir: dir.to_path_buf(), ended })
}

/// Answers the kernel until the mount is gone, then writes back what is left.
fn serve(session: Session<Border>, fs: &Fs, writeback: JoinHandle<()>, ended: &Ended) {
    if let Err(error) = session.run() {
        tracing::warn!(%error, "the FUSE session ended with an error");
    }
    fs.stop();
    if writeback.join().is_err() {
        tracing::error!("the write-back thread panicked");
    }
    *ended.flag.lock() = true;
    ended.changed.notify_all();
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
        Session::from_fd(border, device, config.acl, config)
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

    /// Publishes for at most `limit`, then unmounts; what is busy is detached: its users may read on, and change nothing.
    /// Gives whether it was busy.
    ///
    /// # Errors
    /// If the mount can not be taken down.
    pub fn unmount(&self, limit: Duration) -> Result<bool, MountError> {
        let started = Instant::now();
        if let Err(error) = self.sync(limit) {
            tracing::warn!(%error, "unmounting with something unpublished");
        }
        let busy = match detach(&self.dir, false) {
            Ok(()) => false,
            Err(_) if self.is_ended() => false,
            Err(_) => {
                detach(&self.dir, true).map_err(MountError::Refused)?;
                // Who still holds something may read on, but nothing is taken that might not be kept.
                self.fs.refuse_changes();
                if let Err(error) = self.sync(limit) {
                    tracing::warn!(%error, "a busy mount was detached with something unpublished");
                }
                true
            }
        };
        if !busy {
            self.wait_for(limit.saturating_sub(started.elapsed()).max(Duration::from_secs(1)));
        }
        Ok(busy)
    }

    /// Blocks until the mount is gone, however that came, and everything is written back.
    pub fn wait(&self) {
        let mut ended = self.ended.flag.lock();
        while !*ended {
            self.ended.changed.wait(&mut ended);
        }
    }

    /// Blocks until the mount is gone, for at most `limit`. Gives whether it is.
    pub fn wait_for(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut ended = self.ended.flag.lock();
        while !*ended {
            if self.ended.changed.wait_until(&mut ended, deadline).timed_out() {
                break;
            }
        }
        *ended
    }

    fn is_ended(&self) -> bool {
        *self.ended.flag.lock()
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
    let output = Command::new("fusermount3")
        .arg(if lazily { "-uz" } else { "-u" })
        .arg("--")
        .arg(dir)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

fn flush_error(error: FsError) -> MountError {
    MountError::Unpublished(error.to_string())
}
