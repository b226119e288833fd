//! The calls of the twin test.

use std::fmt;
use std::sync::LazyLock;

use jaxfs_sync::tree::CHUNK_BYTES as CHUNK;
use rustix::fs::{FallocateFlags, OFlags, RenameFlags, XattrFlags};

use super::place::{Place, Use};

/// Descriptors that a sequence has at most, on each side.
pub(super) const SLOTS: usize = 8;
/// Mappings.
pub(super) const MAPS: usize = 3;

/// The number of a descriptor or of a mapping.
pub(super) type Slot = u8;

/// The bits of a mode.
#[derive(Clone, Copy)]
pub(super) struct Bits(pub(super) u16);

/// Seconds and nanoseconds.
pub(super) type Time = (i64, i64);

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Root,
    /// User 1001 of group 1001, also in group 2000.
    Ann,
    /// User 1002 of group 2000.
    Ben,
}

/// One call.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) who: Who,
    pub(super) op: Op,
}

/// How bytes are read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Io {
    /// Where the descriptor stands.
    Here,
    At(u64),
    /// Where the descriptor stands, in three pieces.
    Pieces,
    PiecesAt(u64),
    /// At the end, whatever the descriptor says; for writing.
    End,
}

/// Bytes to write: different for each number, or zeros.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data {
    pub(super) number: u8,
    pub(super) len: u32,
}

/// What an attribute call is about.
#[derive(Clone, Debug)]
pub(super) enum On {
    Path(Place),
    /// A symbolic link itself, if it is one.
    Link(Place),
    Held(Slot),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    File,
    Fifo,
    Socket,
    /// The null device, which can be opened without harm.
    Null,
    /// A block device that does not exist.
    Block,
}

/// A time to set.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stamp {
    To(Time),
    Now,
    Omit,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum From {
    Start,
    Here,
    End,
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Open {
        slot: Slot,
        at: Place,
        flags: OFlags,
        mode: Bits,
    },
    Close(Slot),
    Dup {
        from: Slot,
        to: Slot,
    },
    Read {
        slot: Slot,
        how: Io,
        len: u32,
    },
    Write {
        slot: Slot,
        how: Io,
        data: Data,
    },
    Seek {
        slot: Slot,
        from: From,
        by: i64,
    },
    Find {
        slot: Slot,
        at: u64,
        data: bool,
    },
    Truncate {
        at: Place,
        size: u64,
    },
    TruncateHeld {
        slot: Slot,
        size: u64,
    },
    Allocate {
        slot: Slot,
        how: FallocateFlags,
        at: u64,
        len: u64,
    },
    /// `copy_file_range`, at offsets or where the descriptors stand.
    Copy {
        from: (Slot, Option<u64>),
        to: (Slot, Option<u64>),
        len: u32,
    },
    Send {
        from: (Slot, Option<u64>),
        to: Slot,
        len: u32,
    },

    Map {
        map: Slot,
        slot: Slot,
        page: u8,
        len: u32,
        write: bool,
    },
    Load {
        map: Slot,
        at: u32,
        len: u32,
    },
    Store {
        map: Slot,
        at: u32,
        data: Data,
    },
    SyncMap(Slot),
    Unmap(Slot),

    Mkdir {
        at: Place,
        mode: Bits,
    },
    Mknod {
        at: Place,
        node: Node,
        mode: Bits,
    },
    Symlink {
        target: Vec<u8>,
        at: Place,
    },
    Link {
        from: Place,
        to: Place,
        follow: bool,
    },
    LinkHeld {
        slot: Slot,
        to: Place,
    },
    Unlink(Place),
    Rmdir(Place),
    Rename {
        from: Place,
        to: Place,
        how: RenameFlags,
    },
    /// Makes empty files under many names of a directory, or removes them.
    Fill {
        at: Place,
        first: u8,
        count: u8,
        remove: bool,
    },
    Readlink(Place),

    Chmod {
        on: On,
        mode: Bits,
    },
    Chown {
        on: On,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    Utimes {
        on: On,
        atime: Stamp,
        mtime: Stamp,
    },
    Stat(On),
    Access {
        at: Place,
        mode: u8,
        effective: bool,
    },
    SetXattr {
        on: On,
        name: u8,
        data: Data,
        flags: XattrFlags,
    },
    GetXattr {
        on: On,
        name: u8,
        room: usize,
    },
    ListXattrs {
        on: On,
        room: usize,
    },
    RemoveXattr {
        on: On,
        name: u8,
    },

    /// Reads some entries of a directory, as many as there is room for.
    List {
        slot: Slot,
        room: usize,
    },
    /// Takes a listing up again behind an entry that it has shown, or at its start.
    Resume {
        slot: Slot,
        nth: Option<u8>,
    },
    /// What the working directory is called, from inside a held directory.
    Cwd(Slot),
    Umask(Bits),

    /// On our side only.
    Fsync {
        slot: Slot,
        data_only: bool,
    },
    /// `jaxfs sync`.
    Sync,
    /// Everything is closed, unmounted, and mounted by a new node.
    Remount,
}

impl fmt::Debug for Bits {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "0o{:o}", self.0)
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.who != Who::Root {
            write!(out, "{:?}: ", self.who)?;
        }
        self.op.fmt(out)
    }
}

impl On {
    fn place(&mut self) -> Option<&mut Place> {
        match self {
            Self::Path(place) | Self::Link(place) => Some(place),
            Self::Held(_) => None,
        }
    }
}

impl Op {
    /// The places that it is about.
    pub(super) fn places(&mut self) -> [Option<&mut Place>; 2] {
        match self {
            Self::Link { from, to, .. } | Self::Rename { from, to, .. } => [Some(from), Some(to)],
            Self::Open { at, .. }
            | Self::Truncate { at, .. }
            | Self::Mkdir { at, .. }
            | Self::Mknod { at, .. }
            | Self::Symlink { at, .. }
            | Self::LinkHeld { to: at, .. }
            | Self::Unlink(at)
            | Self::Rmdir(at)
            | Self::Fill { at, .. }
            | Self::Readlink(at)
            | Self::Access { at, .. } => [Some(at), None],
            Self::Chmod { on, .. }
            | Self::Chown { on, .. }
            | Self::Utimes { on, .. }
            | Self::Stat(on)
            | Self::SetXattr { on, .. }
            | Self::GetXattr { on, .. }
            | Self::ListXattrs { on, .. }
            | Self::RemoveXattr { on, .. } => [on.place(), None],
            _ => [None, None],
        }
    }
}

impl Op {
    /// The slots and mappings that it uses, and as what.
    pub(super) fn uses(&mut self) -> [Option<(&mut Slot, Use)>; 2] {
        match self {
            Self::Copy { from: (from, _), to: (to, _), .. } | Self::Send { from: (from, _), to, .. } => {
                [Some((from, Use::File)), Some((to, Use::File))]
            }
            Self::Read { slot, .. }
            | Self::Write { slot, .. }
            | Self::Seek { slot, .. }
            | Self::Find { slot, .. }
            | Self::TruncateHeld { slot, .. }
            | Self::Allocate { slot, .. }
            | Self::Map { slot, .. }
            | Self::LinkHeld { slot, .. } => [Some((slot, Use::File)), None],
            Self::List { slot, .. } | Self::Resume { slot, .. } | Self::Cwd(slot) => {
                [Some((slot, Use::Directory)), None]
            }
            Self::Close(slot) | Self::Dup { from: slot, .. } | Self::Fsync { slot, .. } => {
                [Some((slot, Use::Any)), None]
            }
            Self::Load { map, .. } | Self::Store { map, .. } | Self::SyncMap(map) | Self::Unmap(map) => {
                [Some((map, Use::Map)), None]
            }
            Self::Chmod { on: On::Held(slot), .. }
            | Self::Chown { on: On::Held(slot), .. }
            | Self::Utimes { on: On::Held(slot), .. }
            | Self::Stat(On::Held(slot))
            | Self::SetXattr { on: On::Held(slot), .. }
            | Self::GetXattr { on: On::Held(slot), .. }
            | Self::ListXattrs { on: On::Held(slot), .. }
            | Self::RemoveXattr { on: On::Held(slot), .. } => [Some((slot, Use::Any)), None],
            _ => [None, None],
        }
    }

    /// Whether it may change which names, descriptors and mappings there are.
    pub(super) fn changes_scene(&self) -> bool {
        use Op::*;
        matches!(
            self,
            Open { .. } | Close(_) | Dup { .. } | Map { .. } | Unmap(_) | Mkdir { .. } | Mknod { .. } | Symlink { .. }
        ) || matches!(self, Link { .. } | LinkHeld { .. } | Unlink(_) | Rmdir(_) | Rename { .. } | Fill { .. })
    }
}

impl Data {
    /// The bytes. Every fifth number stands for zeros.
    pub(super) fn bytes(self) -> Vec<u8> {
        if self.number.is_multiple_of(5) {
            return vec![0; self.len as usize];
        }
        PATTERN[usize::from(self.number)..][..self.len as usize].to_vec()
    }
}

/// Bytes that are never 0, and differ by offset in page, in chunk, and from chunk to chunk.
static PATTERN: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..LONGEST + 256).map(|at| ((at + at / 251) % 255) as u8 + 1).collect());

/// The longest that is written at once.
pub(super) const LONGEST: usize = 3 * CHUNK as usize;

/// The name of an extended attribute.
pub(super) fn xattr(number: u8) -> Vec<u8> {
    match number {
        0..4 => vec![b'u', b's', b'e', b'r', b'.', b'a' + number],
        4 => [b"user.", &[b'n'; 250][..]].concat(),
        5 => [b"user.", &[b'n'; 251][..]].concat(),
        6 => b"user.".to_vec(),
        7 => b"trusted.t".to_vec(),
        8 => b"security.capability".to_vec(),
        9 => b"unknown.u".to_vec(),
        10 => b"user.\xff\n".to_vec(),
        _ => Vec::new(),
    }
}

/// `cap_net_raw+p`, as `setcap` stores it.
pub(super) const CAPABILITY: [u8; 20] = [0, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
