//! The calls of the twin test about what is in files.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;

use rustix::fs::{
    FallocateFlags, FileType, OFlags, SeekFrom, copy_file_range, fallocate, fdatasync, fstat, fsync, ftruncate, seek,
    sendfile,
};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv, pwrite, pwritev, pwritev2, read, readv, write, writev};

use super::op::{Data, From, Io, Op, Slot};
use super::outcome::{Absent, Value, done, kind};
use super::place::Place;
use super::raw::Mapping;
use super::side::Side;

/// Pages, to which accesses past the page cache are aligned.
const PAGE: u64 = 4096;

impl Side {
    /// Calls about what is in files.
    pub(super) fn content(&mut self, op: &Op) -> Option<Result<Value, Absent>> {
        Some(match *op {
            Op::Read { slot, how, len } => self.read(slot, how, len),
            Op::Write { slot, how, data } => self.write(slot, how, data),
            Op::Seek { slot, from, by } => self.seek(slot, from, by),
            Op::Find { slot, at, data } => self.find(slot, at, data),
            Op::Truncate { ref at, size } => self.truncate(at, size),
            Op::TruncateHeld { slot, size } => self.held(slot).and_then(|file| done(ftruncate(file, size))),
            Op::Allocate { slot, how, at, len } => self.allocate(slot, how, at, len),
            Op::Copy { from, to, len } => self.copy(from, to, len),
            Op::Send { from, to, len } => self.send(from, to, len),
            Op::Map { map, slot, page, len, write } => self.map(map, slot, page, len, write),
            Op::Load { map, at, len } => {
                self.mapped(map).and_then(|map| Ok(Value::Bytes(map.load(at as usize % map.len(), len as usize)?)))
            }
            Op::Store { map, at, data } => self.store(map, at, data),
            Op::Fsync { slot, data_only } => {
                let sync = if data_only { fdatasync } else { fsync };
                self.held(slot).and_then(|file| done(sync(file)))
            }
            Op::SyncMap(map) => self.mapped(map).and_then(|map| done(map.sync())),
            Op::Unmap(map) => self.mapped(map).map(|_| ()).map(|()| {
                self.maps[usize::from(map)] = None;
                Value::Done
            }),
            _ => return None,
        })
    }

    /// A descriptor whose bytes are the file system's: those of a FIFO never come to it. Where it stands must not be that
    /// of a directory, for which the kernel's checks come out as the offset happens to be.
    fn bytes_of(&self, slot: Slot, standing: bool) -> Result<BorrowedFd<'_>, Absent> {
        let file = self.held(slot)?;
        match fstat(file).map(|stat| kind(&stat)) {
            Ok(FileType::Fifo) => Err(Absent::Nothing),
            Ok(FileType::Directory) if standing => Err(Absent::Nothing),
            _ => Ok(file),
        }
    }

    /// As [`Side::bytes_of`], through the page cache: without it, copies would have to be aligned on one side only.
    fn cached(&self, slot: Slot, standing: bool) -> Result<BorrowedFd<'_>, Absent> {
        let file = self.bytes_of(slot, standing)?;
        if Self::has(file, OFlags::DIRECT) { Err(Absent::Nothing) } else { Ok(file) }
    }

    fn read(&self, slot: Slot, how: Io, len: u32) -> Result<Value, Absent> {
        let file = self.bytes_of(slot, matches!(how, Io::Here | Io::Pieces))?;
        let (how, len) = aligned(file, how, len);
        let mut memory = vec![0; len as usize + PAGE as usize];
        let start = memory.as_ptr().align_offset(PAGE as usize);
        let buffer = &mut memory[start..start + len as usize];
        let done = match how {
            Io::Here | Io::End => read(file, &mut buffer[..]),
            Io::At(at) => pread(file, &mut buffer[..], at),
            Io::Pieces | Io::PiecesAt(_) => {
                let (one, rest) = buffer.split_at_mut(len as usize / 3);
                let (two, three) = rest.split_at_mut(rest.len() / 2);
                let mut pieces = [one, two, three].map(IoSliceMut::new);
                match how {
                    Io::PiecesAt(at) => preadv(file, &mut pieces, at),
                    _ => readv(file, &mut pieces),
                }
            }
        }?;
        Ok(Value::Read(buffer[..done].to_vec(), Self::standing(file)))
    }

    fn write(&self, slot: Slot, how: Io, data: Data) -> Result<Value, Absent> {
        let file = self.bytes_of(slot, matches!(how, Io::Here | Io::Pieces))?;
        let (how, len) = aligned(file, how, data.len);
        let data = Data { len, ..data }.bytes();
        let mut memory = vec![0; data.len() + PAGE as usize];
        let start = memory.as_ptr().align_offset(PAGE as usize);
        let buffer = &mut memory[start..start + data.len()];
        buffer.copy_from_slice(&data);
        let (one, rest) = buffer.split_at(data.len() / 3);
        let (two, three) = rest.split_at(rest.len() / 2);
        let pieces = [one, two, three].map(IoSlice::new);
        let done = match how {
            Io::Here => write(file, buffer),
            Io::At(at) => pwrite(file, buffer, at),
            Io::Pieces => writev(file, &pieces),
            Io::PiecesAt(at) => pwritev(file, &pieces, at),
            Io::End => pwritev2(file, &pieces, 0, ReadWriteFlags::APPEND),
        }?;
        Ok(Value::Moved(done as u64, Self::standing(file)))
    }

    fn seek(&self, slot: Slot, from: From, by: i64) -> Result<Value, Absent> {
        let file = self.held(slot)?;
        if fstat(file).is_ok_and(|stat| kind(&stat) == FileType::Directory) {
            return Err(Absent::Nothing);
        }
        let to = match from {
            From::Start => SeekFrom::Start(by.unsigned_abs()),
            From::Here => SeekFrom::Current(by),
            From::End => SeekFrom::End(by),
        };
        Ok(Value::Number(seek(file, to)?))
    }

    /// Looks for data or for a hole. What is found is for the file system to say, if only what is not data reads as zeros.
    fn find(&self, slot: Slot, at: u64, data: bool) -> Result<Value, Absent> {
        let file = self.held(slot)?;
        let stat = fstat(file)?;
        if kind(&stat) != FileType::RegularFile {
            return Err(Absent::Nothing);
        }
        // FUSE does not write back what was mapped before it asks.
        let sure = !self.written.contains(&stat.st_ino);
        let (size, before) = (stat.st_size as u64, seek(file, SeekFrom::Current(0))?);
        let sought = if data { SeekFrom::Data(at) } else { SeekFrom::Hole(at) };
        let found = seek(file, sought);
        let next = match found {
            Ok(found) if !data => seek(file, SeekFrom::Data(found)).unwrap_or(size),
            other => other.unwrap_or(size),
        };
        seek(file, SeekFrom::Start(before))?;
        match found {
            Ok(found) => {
                let hole = if data { at..found } else { found..next };
                Ok(if found < at || found >= size + u64::from(!data) {
                    Value::Wrong(format!("found at {found} of {size}"))
                } else if sure && !is_zero(file, hole.clone()) {
                    Value::Wrong(format!("a hole at {hole:?} that does not read as zeros"))
                } else {
                    Value::Done
                })
            }
            // There may be no data, or the whole of a hole may be data; but behind the end there is neither.
            Err(Errno::NXIO) if data && at < size => {
                let zero = is_zero(file, at..size);
                Ok(if zero || !sure {
                    Value::Done
                } else {
                    Value::Wrong(format!("data behind {at} that is not found"))
                })
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn truncate(&self, at: &Place, size: u64) -> Result<Value, Absent> {
        let path = match at {
            Place::At(None, path) => path,
            Place::At(Some(slot), path) => {
                rustix::process::fchdir(self.held(*slot)?)?;
                path
            }
            Place::Drawn(_) => panic!("a place that is not settled"),
        };
        done(super::raw::truncate(path, size))
    }

    fn allocate(&self, slot: Slot, how: FallocateFlags, at: u64, len: u64) -> Result<Value, Absent> {
        done(fallocate(self.held(slot)?, how, at, len))
    }

    fn copy(&self, from: (Slot, Option<u64>), to: (Slot, Option<u64>), len: u32) -> Result<Value, Absent> {
        let source = self.cached(from.0, from.1.is_none())?;
        let target = self.cached(to.0, to.1.is_none())?;
        let (mut read_at, mut write_at) = (from.1, to.1);
        let done = copy_file_range(source, read_at.as_mut(), target, write_at.as_mut(), len as usize)?;
        let on = [read_at, write_at].map(|at| at.unwrap_or(0));
        Ok(Value::Copied(done as u64, on, [source, target].map(Self::standing)))
    }

    fn send(&self, from: (Slot, Option<u64>), to: Slot, len: u32) -> Result<Value, Absent> {
        let (source, target) = (self.cached(from.0, from.1.is_none())?, self.cached(to, true)?);
        let mut read_at = from.1;
        let done = sendfile(target, source, read_at.as_mut(), len as usize)?;
        Ok(Value::Copied(done as u64, [read_at.unwrap_or(0), 0], [source, target].map(Self::standing)))
    }

    fn map(&mut self, map: Slot, slot: Slot, page: u8, len: u32, write: bool) -> Result<Value, Absent> {
        let file = self.held(slot)?;
        // A device maps what it likes.
        if fstat(file).is_ok_and(|stat| kind(&stat) == FileType::CharacterDevice) {
            return Err(Absent::Nothing);
        }
        let mapping = Mapping::new(file, u64::from(page) * PAGE, len as usize, write)?;
        self.maps[usize::from(map)] = Some(mapping);
        Ok(Value::Done)
    }

    /// Writes to a mapping, not behind the end of the file: what becomes of that is nobody's to say.
    fn store(&mut self, map: Slot, at: u32, data: Data) -> Result<Value, Absent> {
        let ino = fstat(self.mapped(map)?.file())?.st_ino;
        self.written.insert(ino);
        let map = self.mapped(map)?;
        let at = at as usize % map.len();
        let len = map.reach()?.saturating_sub(at).min(data.len as usize);
        Ok(Value::Number(map.store(at, &data.bytes()[..len])? as u64))
    }
}

/// Past the page cache, offsets and lengths are aligned, and where the descriptor stands does not matter.
fn aligned(file: BorrowedFd<'_>, how: Io, len: u32) -> (Io, u32) {
    if !Side::has(file, OFlags::DIRECT) {
        return (how, len);
    }
    let down = |at: u64| at - at % PAGE;
    let how = match how {
        Io::At(at) | Io::PiecesAt(at) => Io::At(down(at)),
        Io::Here | Io::Pieces | Io::End => Io::At(0),
    };
    (how, down(len.into()) as u32)
}

/// Whether a range of a file reads as zeros, if it can be read.
fn is_zero(file: BorrowedFd<'_>, range: std::ops::Range<u64>) -> bool {
    let mut buffer = vec![0; 1 << 16];
    let mut at = range.start;
    // What is far away is looked at by the comparison of the trees.
    while at < range.end.min(range.start + (1 << 20)) {
        let len = (range.end - at).min(buffer.len() as u64) as usize;
        match pread(file, &mut buffer[..len], at) {
            Ok(done) if done > 0 && buffer[..done].iter().all(|&byte| byte == 0) => at += done as u64,
            Ok(0) | Err(_) => return true,
            Ok(_) => return false,
        }
    }
    true
}
