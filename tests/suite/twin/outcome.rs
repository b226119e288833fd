//! What a call of the twin test gives.

use std::fmt;

use rustix::fs::{FileType, Stat, Statx, makedev};
use rustix::io::Errno;

/// What a call gives.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    Done,
    Number(u64),
    /// How many bytes, and where the descriptor stands after that.
    Moved(u64, u64),
    Bytes(Vec<u8>),
    /// Bytes, and where the descriptor stands after that.
    Read(Vec<u8>, u64),
    Stat(Shown),
    Names(Vec<Vec<u8>>),
    /// How many bytes, where the two offsets went, and where the two descriptors stand after that.
    Copied(u64, [u64; 2], [u64; 2]),
    /// It can not be right, whatever the other side says.
    Wrong(String),
}

/// What `stat` shows, as far as it is for the caller to say.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) kind: FileType,
    pub(super) mode: u32,
    pub(super) nlink: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) rdev: u64,
    /// Nothing for directories, whose size is for the file system to say.
    pub(super) size: Option<u64>,
}

pub(super) type Outcome = Result<Value, Errno>;

/// Why a call gives no value.
pub(super) enum Absent {
    /// It is about nothing, and was not made.
    Nothing,
    Because(Errno),
}

impl From<Errno> for Absent {
    fn from(errno: Errno) -> Self {
        Self::Because(errno)
    }
}

pub(super) fn done(result: Result<(), Errno>) -> Result<Value, Absent> {
    result.map(|()| Value::Done).map_err(Into::into)
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

impl Shown {
    pub(super) fn of(stat: &Stat) -> Self {
        let kind = kind(stat);
        let size = u64::try_from(stat.st_size).ok().filter(|_| kind != FileType::Directory);
        let mode = stat.st_mode & 0o7777;
        let Stat { st_uid: uid, st_gid: gid, st_nlink: nlink, st_rdev: rdev, .. } = *stat;
        Self { kind, mode, nlink, uid, gid, rdev, size }
    }
}

impl Shown {
    pub(super) fn of_statx(stat: &Statx) -> Self {
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        Self {
            kind,
            mode: u32::from(stat.stx_mode) & 0o7777,
            nlink: stat.stx_nlink.into(),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            rdev: makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
            size: Some(stat.stx_size).filter(|_| kind != FileType::Directory),
        }
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mode, nlink, uid, gid, rdev, size } = self;
        write!(out, "{kind:?} {mode:o}, {nlink} links, of {uid}:{gid}, size {size:?}, device {rdev}")
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |bytes: &[u8]| format!("{} bytes, {}", bytes.len(), bytes[..bytes.len().min(20)].escape_ascii());
        match self {
            Self::Done => write!(out, "done"),
            Self::Number(number) => write!(out, "{number}"),
            Self::Moved(count, to) => write!(out, "{count}, then at {to}"),
            Self::Bytes(read) => write!(out, "{}", bytes(read)),
            Self::Read(read, to) => write!(out, "{}, then at {to}", bytes(read)),
            Self::Stat(stat) => stat.fmt(out),
            Self::Copied(count, on, at) => write!(out, "{count}, then on at {on:?}, standing at {at:?}"),
            Self::Wrong(why) => write!(out, "wrong: {why}"),
            Self::Names(names) => {
                let names: Vec<_> = names.iter().map(|name| name.escape_ascii().to_string()).collect();
                write!(out, "{names:?}")
            }
        }
    }
}
