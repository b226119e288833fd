//! Directories to mount on: what is wrong with one, what is mounted there, and getting rid of a dead mount.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;

/// The type that the kernel shows for our mounts.
const FS_TYPE: &str = "fuse.jaxfs";
/// Dead mounts that are taken off one directory: more than one is already an accident.
const STACKED: usize = 16;

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MountInfo {
    /// Where.
    pub(crate) point: PathBuf,
    /// The type, with its subtype, such as `fuse.jaxfs` or `ext4`.
    pub(crate) fs_type: String,
    /// What, such as `/dev/sda1`.
    pub(crate) source: OsString,
}

/// The mounts that this process can see, oldest first.
pub(crate) fn mounts() -> Result<Vec<MountInfo>> {
    let text = fs::read("/proc/self/mountinfo").context("can not read /proc/self/mountinfo")?;
    Ok(parse(&text))
}

/// Parses mountinfo (proc_pid_mountinfo(5)); lines that are not understood are left out.
fn parse(text: &[u8]) -> Vec<MountInfo> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/root rw`: optional fields end at the lone `-`.
fn parse_line(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|&byte| byte == b' ');
    let point = fields.nth(4)?;
    fields.by_ref().find(|field| field == b"-")?;
    let (fs_type, source) = (fields.next()?, fields.next()?);
    Some(MountInfo {
        point: unescape(point).into(),
        fs_type: String::from_utf8_lossy(unescape(fs_type).as_bytes()).into_owned(),
        source: unescape(source),
    })
}

/// Undoes the kernel's `\ooo` for space, tab, newline and backslash.
pub(crate) fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        out.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &rest[4..] } else { tail };
    }
    OsString::from_vec(out)
}

/// What is mounted at exactly `dir` (the topmost, if several are).
pub(crate) fn mounted_at(dir: &Path) -> Result<Option<MountInfo>> {
    Ok(mounts()?.into_iter().rev().find(|mount| mount.point == dir))
}

impl MountInfo {
    /// Whether it is one of ours, of whatever home.
    pub(crate) fn is_jaxfs(&self) -> bool {
        self.fs_type == FS_TYPE
    }
}

/// The absolute path of `dir` without symbolic links, also where a dead mount answers nothing but ENOTCONN.
pub(crate) fn resolve(dir: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(dir) {
        Err(error) if is_dead(&error) => {
            let absolute = std::path::absolute(dir)?;
            match (absolute.parent(), absolute.file_name()) {
                (Some(parent), Some(name)) => Ok(fs::canonicalize(parent)?.join(name)),
                _ => Err(error),
            }
        }
        other => other,
    }
}

fn is_dead(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error())
}

/// Whether the process that served the mount at `dir` is gone. By statfs(2), which is never answered from a cache.
pub(crate) fn is_stale(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_err_and(|error| error == Errno::NOTCONN)
}

/// The absolute path of a directory that can be mounted on: there, a directory, empty, and not mounted on. What a
/// dead node left there is detached first, and `notice` told.
pub(crate) fn prepare(dir: &Path, notice: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let shown = dir.display();
    let resolved = match resolve(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{shown} does not exist: run `mkdir -p {shown}` first")
        }
        other => other.with_context(|| format!("can not use {shown}"))?,
    };
    for _ in 0..STACKED {
        match mounted_at(&resolved)? {
            Some(mount) if mount.is_jaxfs() && is_stale(&resolved) => {
                detach(&resolved)?;
                notice(&format!("detached a dead mount at {shown}, whose node is gone"));
            }
            Some(mount) if mount.is_jaxfs() => {
                bail!("jaxfs is already mounted at {shown}: `jaxfs unmount {shown}` unmounts it");
            }
            Some(mount) => {
                let source = mount.source.to_string_lossy();
                bail!(
                    "{source} ({}) is already mounted at {shown}: unmount it, or choose another directory",
                    mount.fs_type
                );
            }
            None => break,
        }
    }
    let meta = fs::metadata(&resolved).with_context(|| format!("can not use {shown}"))?;
    ensure!(meta.is_dir(), "{shown} is not a directory: choose an empty directory");
    let mut entries = fs::read_dir(&resolved).with_context(|| format!("can not read {shown}"))?;
    ensure!(entries.next().is_none(), "{shown} is not empty: move its files away, or choose an empty directory");
    Ok(resolved)
}

/// Takes a mount out of the tree at once; what still uses it goes on until it is closed.
pub(crate) fn detach(dir: &Path) -> Result<()> {
    let shown = dir.display();
    jaxfs_mount::detach(dir, true)
        .with_context(|| format!("can not detach the dead mount: run `umount -l {shown}` as root"))
}

/// Refuses early where this system can not mount at all.
pub(crate) fn check_fuse() -> Result<()> {
    let device = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    match device.map_err(|error| (error.kind(), error)) {
        Ok(_) => {}
        Err((ErrorKind::PermissionDenied, _)) => {
            bail!("you may not open /dev/fuse: ask root to run `chmod 666 /dev/fuse`")
        }
        Err((_, error)) => bail!(
            "/dev/fuse can not be used ({error}): run `modprobe fuse` as root; a container needs `--device /dev/fuse --cap-add SYS_ADMIN`"
        ),
    }
    if !rustix::process::geteuid().is_root() {
        jaxfs_mount::find_helper()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TEXT: &[u8] = br"22 28 0:21 / /proc rw,nosuid - proc proc rw
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue
40 22 0:50 / /home/a\040b\134c\011d rw,nosuid,nodev - fuse.jaxfs my\040bucket rw,user_id=0
broken line
";

    #[test]
    fn mountinfo_is_read_with_optional_fields_and_octal_escapes() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[1].fs_type, "ext3");
        assert_eq!(mounts[1].source, "/dev/root");
        assert_eq!(mounts[2].point, Path::new("/home/a b\\c\td"));
        assert_eq!(mounts[2].source, "my bucket");
        assert!(mounts[2].is_jaxfs() && !mounts[0].is_jaxfs());
    }

    #[test]
    fn what_is_no_escape_stays_as_it_is() {
        for same in ["", "\\", "a\\04", "\\9", "\\400", "\\x41"] {
            assert_eq!(unescape(same.as_bytes()), same);
        }
        assert_eq!(unescape(b"\\377").as_bytes(), b"\xff");
    }

    #[test]
    fn this_machines_own_mounts_are_read() {
        assert!(mounts().unwrap().iter().any(|mount| mount.point == Path::new("/proc")));
    }

    #[test]
    fn a_wrong_directory_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |path: &Path| prepare(path, &mut |_| {}).unwrap_err().to_string();
        assert!(refused(&dir.path().join("x")).contains("mkdir -p"));
        fs::write(dir.path().join("file"), b"").unwrap();
        assert!(refused(dir.path()).contains("not empty"));
        assert!(refused(&dir.path().join("file")).contains("not a directory"));
        assert!(refused(Path::new("/proc")).contains("already mounted"));
    }

    #[test]
    fn an_empty_directory_is_resolved() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let resolved = prepare(&dir.path().join("link"), &mut |_| {}).unwrap();
        assert_eq!(resolved, fs::canonicalize(dir.path()).unwrap().join("real"));
    }
}
