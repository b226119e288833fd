//! Inodes: what is known of a file, whatever its names are.

use std::fmt;

use super::btree::{Key, Tree};
use super::content::Content;
use super::directory::DirectoryBody;
use super::wire::{Decoder, Encoder, Malformed};
use crate::crypto::secret::random_bytes;
use crate::limits;

/// A file's identity for its whole life, through renames and edits: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub [u8; 16]);

impl FileId {
    /// Draws a new one.
    pub fn random() -> Self {
        Self(random_bytes())
    }

    pub(super) fn read(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        input.bytes()?.try_into().map(Self).map_err(|_| Malformed("a file id is 16 bytes"))
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Key for FileId {
    fn encode(&self, out: &mut Encoder) {
        out.bytes(&self.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Self::read(input)
    }
}

/// A moment: seconds since 1970 and nanoseconds in that second, below 1,000,000,000. Ordered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time {
    /// Seconds since 1970-01-01 UTC; negative before.
    pub secs: i64,
    /// Nanoseconds since the second began.
    pub nanos: u32,
}

impl Time {
    pub(super) fn write(self, out: &mut Encoder) {
        out.signed(self.secs);
        out.unsigned(self.nanos.into());
    }

    pub(super) fn read(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let time = Self { secs: input.signed()?, nanos: input.narrow()? };
        if time.nanos < 1_000_000_000 { Ok(time) } else { Err(Malformed("a second has 1,000,000,000 nanoseconds")) }
    }
}

/// The types of file that POSIX knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A regular file.
    File = 0,
    /// A directory.
    Directory = 1,
    /// A symbolic link.
    Symlink = 2,
    /// A named pipe.
    Fifo = 3,
    /// A Unix domain socket.
    Socket = 4,
    /// A character device.
    CharDevice = 5,
    /// A block device.
    BlockDevice = 6,
}

impl Kind {
    pub(super) fn read(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        use Kind::*;
        let code: u8 = input.narrow()?;
        [File, Directory, Symlink, Fifo, Socket, CharDevice, BlockDevice]
            .into_iter()
            .find(|kind| *kind as u8 == code)
            .ok_or(Malformed("an unknown kind of file"))
    }
}

/// Extended attributes: sorted by name, each name once and 1 to 255 bytes, at most
/// [`limits::XATTR_BYTES`] together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xattrs(Vec<Xattr>);

/// Name and value.
type Xattr = (Box<[u8]>, Box<[u8]>);

/// What can not be recorded of a file.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadRecord {
    /// The name of an extended attribute is empty or longer than 255 bytes.
    #[error("the name of an extended attribute is empty or too long")]
    XattrName,
    /// The extended attributes of one file exceed [`limits::XATTR_BYTES`].
    #[error("extended attributes take more than {} bytes", limits::XATTR_BYTES)]
    XattrSpace,
}

impl Xattrs {
    /// The value of `name`.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.find(name).ok().map(|at| &*self.0[at].1)
    }

    /// Sets `name`, or leaves everything as it was and says why not.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadRecord> {
        if name.is_empty() || name.len() > limits::NAME_BYTES {
            return Err(BadRecord::XattrName);
        }
        let old = self.get(name).map_or(0, |old| name.len() + old.len());
        if self.bytes() - old + name.len() + value.len() > limits::XATTR_BYTES {
            return Err(BadRecord::XattrSpace);
        }
        match self.find(name) {
            Ok(at) => self.0[at].1 = value.into(),
            Err(at) => self.0.insert(at, (name.into(), value.into())),
        }
        Ok(())
    }

    /// Removes `name`; whether it was there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        self.find(name).map(|at| self.0.remove(at)).is_ok()
    }

    /// Names and values in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    fn find(&self, name: &[u8]) -> Result<usize, usize> {
        self.0.binary_search_by(|(have, _)| (**have).cmp(name))
    }

    pub(super) fn write(&self, out: &mut Encoder) {
        out.array(self.0.len() * 2);
        for (name, value) in self.iter() {
            out.bytes(name);
            out.bytes(value);
        }
    }

    pub(super) fn read(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let len = input.array()?;
        if len % 2 == 1 {
            return Err(Malformed("an extended attribute without a value"));
        }
        let mut list: Vec<Xattr> = Vec::new();
        for _ in 0..len / 2 {
            let name = input.bytes()?;
            if name.is_empty() || name.len() > limits::NAME_BYTES {
                return Err(Malformed("a bad name of an extended attribute"));
            }
            if list.last().is_some_and(|(last, _)| **last >= *name) {
                return Err(Malformed("extended attributes out of order"));
            }
            list.push((name.into(), input.bytes()?.into()));
        }
        let xattrs = Self(list);
        if xattrs.bytes() > limits::XATTR_BYTES {
            return Err(Malformed("too many extended attributes"));
        }
        Ok(xattrs)
    }
}

/// An inode. It has no name and no link count: names are in directories, and counts only where there is more than one
/// ([`super::SharedInode`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Identity.
    pub id: FileId,
    /// Permission bits with set-id and sticky: 12 bits, no file type.
    pub mode: u16,
    /// Owner, as a number.
    pub uid: u32,
    /// Group, as a number.
    pub gid: u32,
    /// Content last changed.
    pub mtime: Time,
    /// Record last changed.
    pub ctime: Time,
    /// Created.
    pub btime: Time,
    /// Last read, only where someone set it by hand.
    pub atime: Option<Time>,
    /// Extended attributes.
    pub xattrs: Xattrs,
    /// What the kind of file needs beyond that.
    pub body: Body,
}

/// The part of a record that depends on the kind of file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A regular file and its content.
    File(Content),
    /// A directory and its entries.
    Directory(DirectoryBody),
    /// A symbolic link and its target, 1 to [`limits::SYMLINK_BYTES`] bytes without NUL.
    Symlink(Box<[u8]>),
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
    /// A character device and its number.
    CharDevice(u64),
    /// A block device and its number.
    BlockDevice(u64),
}

impl Body {
    /// An empty regular file.
    pub fn empty_file() -> Self {
        Self::File(Content::empty())
    }

    /// An empty directory.
    pub fn empty_directory() -> Self {
        Self::Directory(Tree::empty())
    }

    /// The kind of file.
    pub const fn kind(&self) -> Kind {
        match self {
            Body::File(_) => Kind::File,
            Body::Directory(_) => Kind::Directory,
            Body::Symlink(_) => Kind::Symlink,
            Body::Fifo => Kind::Fifo,
            Body::Socket => Kind::Socket,
            Body::CharDevice(_) => Kind::CharDevice,
            Body::BlockDevice(_) => Kind::BlockDevice,
        }
    }

    fn write(&self, out: &mut Encoder) {
        out.unsigned(self.kind() as u64);
        match self {
            Body::File(content) => content.write(out),
            Body::Directory(names) => names.write(out),
            Body::Symlink(target) => out.bytes(target),
            Body::Fifo | Body::Socket => out.null(),
            Body::CharDevice(number) | Body::BlockDevice(number) => out.unsigned(*number),
        }
    }

    fn read(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(match Kind::read(input)? {
            Kind::File => Body::File(Content::read_wire(input)?),
            Kind::Directory => Body::Directory(Tree::read(input)?),
            Kind::Symlink => Body::Symlink(symlink(input.bytes()?)?),
            kind @ (Kind::Fifo | Kind::Socket) => {
                if !input.null() {
                    return Err(Malformed("a pipe or socket has no content"));
                }
                if kind == Kind::Fifo { Body::Fifo } else { Body::Socket }
            }
            Kind::CharDevice => Body::CharDevice(input.unsigned()?),
            Kind::BlockDevice => Body::BlockDevice(input.unsigned()?),
        })
    }
}

fn symlink(target: &[u8]) -> Result<Box<[u8]>, Malformed> {
    if target.is_empty() || target.len() > limits::SYMLINK_BYTES || target.contains(&0) {
        return Err(Malformed("a bad target of a symbolic link"));
    }
    Ok(target.into())
}

impl Record {
    /// The kind of file.
    pub const fn kind(&self) -> Kind {
        self.body.kind()
    }

    /// Bytes in the file as `stat` has them: content of a file, length of a symbolic link's target, else 0.
    pub fn size(&self) -> u64 {
        match &self.body {
            Body::File(content) => content.size(),
            Body::Symlink(target) => target.len() as u64,
            _ => 0,
        }
    }

    pub(super) fn write(&self, out: &mut Encoder) {
        out.array(if self.atime.is_some() { 15 } else { 13 });
        out.bytes(&self.id.0);
        out.unsigned(self.mode.into());
        out.unsigned(self.uid.into());
        out.unsigned(self.gid.into());
        self.mtime.write(out);
        self.ctime.write(out);
        self.btime.write(out);
        self.xattrs.write(out);
        self.body.write(out);
        if let Some(atime) = self.atime {
            atime.write(out);
        }
    }

    pub(super) fn read(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let fields = input.array()?;
        if fields != 13 && fields != 15 {
            return Err(Malformed("a record has 13 fields, or 15"));
        }
        let record = Self {
            id: FileId::read(input)?,
            mode: input.narrow()?,
            uid: input.narrow()?,
            gid: input.narrow()?,
            mtime: Time::read(input)?,
            ctime: Time::read(input)?,
            btime: Time::read(input)?,
            xattrs: Xattrs::read(input)?,
            body: Body::read(input)?,
            atime: if fields == 15 { Some(Time::read(input)?) } else { None },
        };
        if record.mode > 0o7777 { Err(Malformed("a mode has 12 bits")) } else { Ok(record) }
    }
}
