//! The calls of the twin test about attributes.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{
    Access, AtFlags, CWD, Gid, Stat, StatxFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, XattrFlags,
    accessat, chmodat, chownat, fchmod, fchown, fstat, futimens, statat, statx, utimensat,
};
use rustix::io::Errno;
use rustix::process::fchdir;

use super::op::{CAPABILITY, Data, On, Op, Stamp, xattr};
use super::outcome::{Absent, Shown, Value, done};
use super::side::{Side, bits};

impl Side {
    /// Calls about attributes.
    pub(super) fn attributes(&self, op: &Op) -> Option<Result<Value, Absent>> {
        Some(match op {
            Op::Chmod { on, mode } => self.on(on, |to| match to {
                To::Path(dir, path) | To::Link(dir, path) => done(chmodat(dir, path, bits(*mode), AtFlags::empty())),
                To::Held(file) => done(fchmod(file, bits(*mode))),
            }),
            Op::Chown { on, uid, gid } => {
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                self.on(on, |to| match to {
                    To::Held(file) => done(fchown(file, uid, gid)),
                    to => to.path(|dir, path, flags| done(chownat(dir, path, uid, gid, flags))),
                })
            }
            Op::Utimes { on, atime, mtime } => self.on(on, |to| utimes(to, *atime, *mtime)),
            Op::Stat(on) => self.on(on, stat),
            Op::Access { at, mode, effective } => self.at(at).and_then(|(dir, path)| {
                let flags = if *effective { AtFlags::EACCESS } else { AtFlags::empty() };
                done(accessat(dir, path, Access::from_bits_truncate((*mode).into()), flags))
            }),
            Op::SetXattr { on, name, data, flags } => self.on(on, |to| set_xattr(to, *name, *data, *flags)),
            Op::GetXattr { on, name, room } => self.on(on, |to| get_xattr(to, *name, *room)),
            Op::ListXattrs { on, room } => self.on(on, |to| list_xattrs(to, *room)),
            Op::RemoveXattr { on, name } => self.on(on, |to| remove_xattr(to, *name)),
            _ => return None,
        })
    }

    fn on(&self, on: &On, call: impl FnOnce(To<'_>) -> Result<Value, Absent>) -> Result<Value, Absent> {
        call(match on {
            On::Path(place) => self.at(place).map(|(dir, path)| To::Path(dir, path))?,
            On::Link(place) => self.at(place).map(|(dir, path)| To::Link(dir, path))?,
            On::Held(slot) => To::Held(self.held(*slot)?),
        })
    }
}

/// What an attribute call is about.
#[derive(Clone, Copy)]
enum To<'a> {
    Path(BorrowedFd<'a>, &'a [u8]),
    Link(BorrowedFd<'a>, &'a [u8]),
    Held(BorrowedFd<'a>),
}

impl<'a> To<'a> {
    /// Calls with a directory, a path, and whether a link is followed.
    fn path<T>(self, call: impl FnOnce(BorrowedFd<'a>, &'a [u8], AtFlags) -> T) -> T {
        match self {
            Self::Path(dir, path) => call(dir, path, AtFlags::empty()),
            Self::Link(dir, path) => call(dir, path, AtFlags::SYMLINK_NOFOLLOW),
            Self::Held(file) => call(file, b"", AtFlags::EMPTY_PATH),
        }
    }

    /// Goes where the path begins: some calls take no directory.
    fn there(self) -> Result<Self, Errno> {
        match self {
            Self::Path(dir, path) if dir.as_raw_fd() != CWD.as_raw_fd() => fchdir(dir).map(|()| Self::Path(CWD, path)),
            Self::Link(dir, path) if dir.as_raw_fd() != CWD.as_raw_fd() => fchdir(dir).map(|()| Self::Link(CWD, path)),
            to => Ok(to),
        }
    }
}

/// Asks in both ways that there are.
fn stat(to: To<'_>) -> Result<Value, Absent> {
    let (one, other) = to.path(|dir, path, flags| {
        let other = statx(dir, path, flags, StatxFlags::BASIC_STATS);
        Ok::<_, Errno>((Shown::of(&statat(dir, path, flags)?), Shown::of_statx(&other?)))
    })?;
    Ok(if one == other { Value::Stat(one) } else { Value::Wrong(format!("stat shows {one:?}, and statx {other:?}")) })
}

fn utimes(to: To<'_>, atime: Stamp, mtime: Stamp) -> Result<Value, Absent> {
    let spec = |stamp| match stamp {
        Stamp::To((tv_sec, tv_nsec)) => Timespec { tv_sec, tv_nsec },
        Stamp::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Stamp::Omit => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    };
    let times = Timestamps { last_access: spec(atime), last_modification: spec(mtime) };
    // Later, reading may move it on the plain side.
    let shown = |stat: Stat| match atime {
        Stamp::To(_) => Value::Moved(stat.st_atime as u64, stat.st_atime_nsec),
        _ => Value::Done,
    };
    match to {
        To::Held(file) => {
            futimens(file, &times)?;
            Ok(shown(fstat(file)?))
        }
        to => to.path(|dir, path, flags| {
            utimensat(dir, path, &times, flags)?;
            Ok(statat(dir, path, flags).map_or(Value::Done, shown))
        }),
    }
}

/// What an attribute is set to. Most capabilities are such.
pub(super) fn xattr_value(number: u8, data: Data) -> Vec<u8> {
    let mut capability = CAPABILITY;
    capability[4] = data.number;
    if number == 8 && !data.number.is_multiple_of(4) { capability.to_vec() } else { data.bytes() }
}

fn set_xattr(to: To<'_>, number: u8, data: Data, flags: XattrFlags) -> Result<Value, Absent> {
    let (name, value) = (&xattr(number)[..], &xattr_value(number, data)[..]);
    done(match to.there()? {
        To::Path(_, path) => rustix::fs::setxattr(path, name, value, flags),
        To::Link(_, path) => rustix::fs::lsetxattr(path, name, value, flags),
        To::Held(file) => rustix::fs::fsetxattr(file, name, value, flags),
    })
}

fn get_xattr(to: To<'_>, number: u8, room: usize) -> Result<Value, Absent> {
    let (name, mut value) = (&xattr(number)[..], vec![0; room]);
    let len = match to.there()? {
        To::Path(_, path) => rustix::fs::getxattr(path, name, &mut value[..]),
        To::Link(_, path) => rustix::fs::lgetxattr(path, name, &mut value[..]),
        To::Held(file) => rustix::fs::fgetxattr(file, name, &mut value[..]),
    }?;
    Ok(sized(value, len))
}

fn list_xattrs(to: To<'_>, room: usize) -> Result<Value, Absent> {
    let mut names = vec![0; room];
    let len = match to.there()? {
        To::Path(_, path) => rustix::fs::listxattr(path, &mut names[..]),
        To::Link(_, path) => rustix::fs::llistxattr(path, &mut names[..]),
        To::Held(file) => rustix::fs::flistxattr(file, &mut names[..]),
    }?;
    Ok(match sized(names, len) {
        Value::Bytes(bytes) => Value::Names(split_names(&bytes)),
        other => other,
    })
}

/// Names that are ended by NUL, sorted.
pub(super) fn split_names(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<_> =
        bytes.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    names.sort();
    names
}

/// What was put into a buffer, or how long it would be.
fn sized(mut buffer: Vec<u8>, len: usize) -> Value {
    if buffer.is_empty() {
        return Value::Number(len as u64);
    }
    buffer.truncate(len);
    Value::Bytes(buffer)
}

fn remove_xattr(to: To<'_>, number: u8) -> Result<Value, Absent> {
    let name = &xattr(number)[..];
    done(match to.there()? {
        To::Path(_, path) => rustix::fs::removexattr(path, name),
        To::Link(_, path) => rustix::fs::lremovexattr(path, name),
        To::Held(file) => rustix::fs::fremovexattr(file, name),
    })
}
