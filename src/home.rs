//! The directory where one user's keys and encrypted buckets are kept, and the lock on it.
//!
//! Always true: the directory is the user's alone (0700) before anything is written to it, and only who holds the
//! [`HomeLock`] opens what is inside.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// Bytes of `node.log` that are kept when a node starts.
const LOG_BYTES: u64 = 1 << 20;

/// Where a home is. Nothing is known about what is there.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    path: PathBuf,
}

impl Home {
    /// `$JAXFS_HOME`, else `$XDG_DATA_HOME/jaxfs`, else `~/.local/share/jaxfs`; always absolute.
    pub(crate) fn locate() -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let path = match (variable("JAXFS_HOME"), variable("XDG_DATA_HOME")) {
            (Some(home), _) => home,
            (None, Some(data)) if data.is_absolute() => data.join("jaxfs"),
            (None, _) => {
                let user = std::env::home_dir().filter(|path| path.is_absolute());
                user.context("there is no home directory: set JAXFS_HOME")?.join(".local/share/jaxfs")
            }
        };
        Ok(Self { path: std::path::absolute(&path)? })
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The device's key.
    pub(crate) fn device_key(&self) -> PathBuf {
        self.path.join("device.key")
    }

    /// The node's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("node.log")
    }

    /// The folder of buckets.
    pub(crate) fn buckets(&self) -> PathBuf {
        self.path.join("buckets")
    }

    /// Whether there is anything at all.
    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Makes the directory if it is missing, and makes sure that it is this user's alone.
    pub(crate) fn ensure(&self) -> Result<()> {
        let path = self.path.display();
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("can not make {}", parent.display()))?;
        }
        match DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => bail!("can not make {path}: {error}"),
            _ => self.check(),
        }
    }

    /// Refuses a home of another user, and one that others could have written to; one that others can only read is
    /// closed to them.
    pub(crate) fn check(&self) -> Result<()> {
        let path = self.path.display();
        let meta = fs::metadata(&self.path).with_context(|| format!("can not read {path}"))?;
        ensure!(meta.is_dir(), "{path} is not a directory: set JAXFS_HOME to one");
        let me = rustix::process::geteuid().as_raw();
        ensure!(
            meta.uid() == me,
            "{path} belongs to uid {}, not to you: set JAXFS_HOME to a directory of yours",
            meta.uid()
        );
        let mode = meta.permissions().mode() & 0o7777;
        if mode & 0o077 == 0 {
            return Ok(());
        }
        let empty = fs::read_dir(&self.path)?.next().is_none();
        ensure!(empty || mode & 0o022 == 0, "others can write to {path} (mode {mode:04o}): run `chmod 700 {path}`");
        fs::set_permissions(&self.path, PermissionsExt::from_mode(0o700))
            .with_context(|| format!("others can read {path}: run `chmod 700 {path}`"))
    }

    /// Takes the lock that says who opens what is in this home; does not wait.
    pub(crate) fn try_lock(&self) -> Result<Result<HomeLock, Held>> {
        let path = self.path.join("node.lock");
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                write!(file, "{}", std::process::id())?;
                Ok(Ok(HomeLock { _file: file }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.take(20).read_to_string(&mut text);
                Ok(Err(Held { pid: text.trim().parse().ok() }))
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("can not lock {}", path.display())),
        }
    }

    /// Opens the log for appending, 0600; emptied first if it has grown large.
    pub(crate) fn open_log(&self) -> Result<File> {
        let path = self.log();
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("can not open {}", path.display()))?;
        if file.metadata()?.len() > LOG_BYTES {
            file.set_len(0)?;
        }
        Ok(file)
    }

    /// The last line of the log after its first `from` bytes.
    pub(crate) fn last_log_line(&self, from: u64) -> Option<String> {
        let mut file = File::open(self.log()).ok()?;
        let end = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(4096)))).ok()?;
        let mut tail = Vec::new();
        file.take(4096).read_to_end(&mut tail).ok()?;
        let text = String::from_utf8_lossy(&tail);
        text.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned)
    }
}

/// The right to open what is in a home. Given back when it is dropped, or by the kernel when the process ends.
#[derive(Debug)]
pub(crate) struct HomeLock {
    _file: File,
}

/// Another process has the lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pid: Option<u32>,
}

impl Held {
    /// What to tell the user if its holder does not answer on the socket.
    pub(crate) fn message(self, home: &Home) -> String {
        let path = home.path().display();
        match self.pid {
            Some(pid) => format!(
                "{path} is locked by process {pid}, which does not answer: wait for it, or end it with `kill {pid}`"
            ),
            None => format!("{path} is locked by another process, which does not answer: wait for it or end it"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home { path: dir.path().join("a/b") };
        (dir, home)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_home_is_the_users_alone() {
        let (_dir, home) = home();
        home.ensure().unwrap();
        assert_eq!(mode(home.path()), 0o700);
        home.ensure().unwrap();
    }

    #[test]
    fn a_home_that_others_can_read_is_closed() {
        let (_dir, home) = home();
        home.ensure().unwrap();
        fs::write(home.device_key(), b"").unwrap();
        fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).unwrap();
        home.ensure().unwrap();
        assert_eq!(mode(home.path()), 0o700);
    }

    #[test]
    fn a_home_that_others_could_write_to_is_refused_with_the_command_that_mends_it() {
        let (_dir, home) = home();
        home.ensure().unwrap();
        fs::write(home.device_key(), b"").unwrap();
        fs::set_permissions(home.path(), PermissionsExt::from_mode(0o770)).unwrap();
        assert!(home.ensure().unwrap_err().to_string().contains("chmod 700"));
    }

    #[test]
    fn a_lock_is_held_once_and_names_its_holder() {
        let (_dir, home) = home();
        home.ensure().unwrap();
        let lock = home.try_lock().unwrap().unwrap();
        let held = home.try_lock().unwrap().unwrap_err();
        assert!(held.message(&home).contains(&std::process::id().to_string()));
        drop(lock);
        assert!(home.try_lock().unwrap().is_ok());
    }

    #[test]
    fn the_last_log_line_is_found_only_after_the_start() {
        let (_dir, home) = home();
        home.ensure().unwrap();
        fs::write(home.log(), "old\nnew\n\n").unwrap();
        assert_eq!(home.last_log_line(0).as_deref(), Some("new"));
        assert_eq!(home.last_log_line(9), None);
    }
}
