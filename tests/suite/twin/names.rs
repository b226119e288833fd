//! The calls of the twin test about descriptors and names.

use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fstat, linkat, makedev, mkdirat, mknodat, openat, readlinkat, renameat_with,
    symlinkat, unlinkat,
};
use rustix::io::{Errno, dup};
use rustix::process::{fchdir, getcwd};

use super::op::{Bits, Node, Op, Slot};
use super::outcome::{Absent, Value, done, kind};
use super::place::{Place, name};
use super::side::{Side, bits};

impl Side {
    /// Calls about descriptors and names.
    pub(super) fn names(&mut self, op: &Op) -> Option<Result<Value, Absent>> {
        Some(match op {
            Op::Open { slot, at, flags, mode } => self.open(*slot, at, *flags, *mode),
            Op::Close(slot) => self.held(*slot).map(|_| ()).map(|()| {
                self.slots[usize::from(*slot)] = None;
                Value::Done
            }),
            Op::Dup { from, to } => self.dup(*from, *to),
            Op::Mkdir { at, mode } => self.at(at).and_then(|(dir, path)| done(mkdirat(dir, path, bits(*mode)))),
            Op::Mknod { at, node, mode } => self.at(at).and_then(|(dir, path)| {
                let (kind, device) = match node {
                    Node::File => (FileType::RegularFile, 0),
                    Node::Fifo => (FileType::Fifo, 0),
                    Node::Socket => (FileType::Socket, 0),
                    Node::Null => (FileType::CharacterDevice, makedev(1, 3)),
                    Node::Block => (FileType::BlockDevice, makedev(4095, 0xf_fff1)),
                };
                done(mknodat(dir, path, kind, bits(*mode), device))
            }),
            Op::Symlink { target, at } => self.at(at).and_then(|(dir, path)| done(symlinkat(&target[..], dir, path))),
            Op::Link { from, to, follow } => self.both(from, to, |(old, from), (new, to)| {
                let flags = if *follow { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
                linkat(old, from, new, to, flags)
            }),
            Op::LinkHeld { slot, to } => self.held(*slot).and_then(|old| {
                let (new, path) = self.at(to)?;
                done(linkat(old, "", new, path, AtFlags::EMPTY_PATH))
            }),
            Op::Unlink(at) => self.at(at).and_then(|(dir, path)| done(unlinkat(dir, path, AtFlags::empty()))),
            Op::Rmdir(at) => self.at(at).and_then(|(dir, path)| done(unlinkat(dir, path, AtFlags::REMOVEDIR))),
            Op::Rename { from, to, how } => {
                self.both(from, to, |(old, from), (new, to)| renameat_with(old, from, new, to, *how))
            }
            Op::Fill { at, first, count, remove } => {
                self.at(at).and_then(|place| fill(place, *first..first.saturating_add(*count), *remove))
            }
            Op::Readlink(at) => {
                self.at(at).and_then(|(dir, path)| Ok(Value::Bytes(readlinkat(dir, path, Vec::new())?.into_bytes())))
            }
            Op::Cwd(slot) => self.held(*slot).and_then(|dir| {
                fchdir(dir)?;
                Ok(Value::Bytes(getcwd(Vec::new())?.into_bytes()))
            }),
            _ => return None,
        })
    }

    fn both<'a>(
        &'a self,
        from: &'a Place,
        to: &'a Place,
        call: impl FnOnce((BorrowedFd<'a>, &'a [u8]), (BorrowedFd<'a>, &'a [u8])) -> Result<(), Errno>,
    ) -> Result<Value, Absent> {
        let (from, to) = (self.at(from)?, self.at(to)?);
        done(call(from, to))
    }

    fn open(&mut self, slot: Slot, at: &Place, flags: OFlags, mode: Bits) -> Result<Value, Absent> {
        let (dir, path) = self.at(at)?;
        // Nobody waits for the other end of a FIFO.
        let file = openat(dir, path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, bits(mode))?;
        self.slots[usize::from(slot)] = Some(file);
        Ok(Value::Done)
    }

    fn dup(&mut self, from: Slot, to: Slot) -> Result<Value, Absent> {
        let file = self.held(from)?;
        // A listing belongs to one slot.
        if fstat(file).is_ok_and(|stat| kind(&stat) == FileType::Directory) {
            return Err(Absent::Nothing);
        }
        self.slots[usize::from(to)] = Some(dup(file)?);
        Ok(Value::Done)
    }
}

fn fill((dir, path): (BorrowedFd<'_>, &[u8]), names: std::ops::Range<u8>, remove: bool) -> Result<Value, Absent> {
    let dir = openat(dir, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut made = 0;
    for name in names.map(name) {
        let result = if remove {
            unlinkat(&dir, &name[..], AtFlags::empty())
        } else {
            mknodat(&dir, &name[..], FileType::RegularFile, Mode::RUSR, 0)
        };
        made += u64::from(result.is_ok());
    }
    Ok(Value::Number(made))
}
