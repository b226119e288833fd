//! The records of a segment, and what is left of them if it is damaged.

use std::io;

use rustix::io::Errno;

use super::disk::File;
use super::pack::{self, FILE_HEADER, RECORD_HEADER};
use crate::link::Link;

/// Bytes read at once where a record is sought.
const WINDOW: usize = 1 << 20;

/// The least that a disk reads, or fails to.
const SECTOR: u64 = 4_096;

/// Whether an error says that something on the disk is damaged, and not that the disk is gone or may not be used.
fn is_damage(error: &io::Error) -> bool {
    let damage = [Errno::IO, Errno::ILSEQ, Errno::BADMSG, Errno::NODATA, Errno::UCLEAN];
    Errno::from_io_error(error).is_some_and(|errno| damage.contains(&errno))
}

/// A whole record.
pub(super) struct Record {
    pub(super) offset: u64,
    /// What it is called; none if it is the store's own.
    pub(super) link: Option<Link>,
    pub(super) body: Vec<u8>,
}

impl Record {
    /// Where the next one begins.
    pub(super) fn end(&self) -> u64 {
        self.offset + (RECORD_HEADER + self.body.len()) as u64
    }
}

/// The whole records of a segment, one after the other.
pub(super) struct Records<'a> {
    file: &'a File,
    pub(super) len: u64,
    /// Up to where it was read.
    pub(super) at: u64,
    /// Bytes that were passed over, since they are in no whole record.
    pub(super) lost: u64,
}

impl<'a> Records<'a> {
    pub(super) fn new(file: &'a File) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file, len, at: FILE_HEADER.min(len), lost: 0 })
    }

    /// The record that begins where the last one ended, if it is whole. If not, nothing is passed over.
    pub(super) fn next_whole(&mut self) -> io::Result<Option<Record>> {
        let record = self.record(self.at)?;
        self.at = record.as_ref().map_or(self.at, Record::end);
        Ok(record)
    }

    /// The next whole record, wherever it is.
    pub(super) fn next(&mut self) -> io::Result<Option<Record>> {
        let begin = self.at;
        let record = match self.record(begin)? {
            Some(record) => Some(record),
            None => self.seek(begin)?,
        };
        let found = record.as_ref().map_or(self.len, |record| record.offset);
        self.lost += found - begin;
        self.at = record.as_ref().map_or(self.len, Record::end);
        Ok(record)
    }

    /// The record that begins there, if one does.
    fn record(&self, offset: u64) -> io::Result<Option<Record>> {
        let mut header = [0; RECORD_HEADER];
        if !self.has(offset, RECORD_HEADER) {
            return Ok(None);
        }
        if !self.read(offset, &mut header)? {
            return Ok(None);
        }
        self.record_of(offset, &header)
    }

    fn record_of(&self, offset: u64, header: &[u8; RECORD_HEADER]) -> io::Result<Option<Record>> {
        let Some((link, len)) = pack::read_header(header) else { return Ok(None) };
        let from = offset + RECORD_HEADER as u64;
        if !self.has(from, len as usize) {
            return Ok(None);
        }
        let mut body = vec![0; len as usize];
        let is_whole = self.read(from, &mut body)? && pack::is_whole(header, &body);
        Ok(is_whole.then_some(Record { offset, link, body }))
    }

    /// The next record behind what is none.
    fn seek(&self, begin: u64) -> io::Result<Option<Record>> {
        // Where only the body is damaged, the header says where the next one is.
        if let Some(next) = self.behind(begin)?
            && let Some(record) = self.record(next)?
        {
            return Ok(Some(record));
        }
        let mut at = begin + 1;
        let mut window = vec![0; WINDOW];
        while self.has(at, RECORD_HEADER) {
            let len = WINDOW.min((self.len - at) as usize);
            self.read_sectors(at, &mut window[..len])?;
            for (header, offset) in window[..len].windows(RECORD_HEADER).zip(at..) {
                let header = header.first_chunk().filter(|header| pack::read_header(header).is_some());
                if let Some(header) = header
                    && let Some(record) = self.record_of(offset, header)?
                {
                    return Ok(Some(record));
                }
            }
            at += (len - RECORD_HEADER + 1) as u64;
        }
        Ok(None)
    }

    fn behind(&self, offset: u64) -> io::Result<Option<u64>> {
        let mut header = [0; RECORD_HEADER];
        if !self.has(offset, RECORD_HEADER) {
            return Ok(None);
        }
        if !self.read(offset, &mut header)? {
            return Ok(None);
        }
        Ok(pack::read_header(&header).map(|(_, len)| offset + RECORD_HEADER as u64 + u64::from(len)))
    }

    /// Reads what is there; whether it can be read.
    fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<bool> {
        match self.file.read(offset, to) {
            Ok(()) => Ok(true),
            Err(error) if is_damage(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads what is there, with zeros for sectors that can not be read: no record begins with them.
    fn read_sectors(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        if self.read(offset, to)? {
            return Ok(());
        }
        let mut at = offset;
        let mut rest = to;
        while !rest.is_empty() {
            let len = rest.len().min((SECTOR - at % SECTOR) as usize);
            let (sector, behind) = rest.split_at_mut(len);
            if !self.read(at, sector)? {
                tracing::warn!(at, "a sector can not be read, and is passed over");
                sector.fill(0);
            }
            (at, rest) = (at + len as u64, behind);
        }
        Ok(())
    }

    const fn has(&self, offset: u64, len: usize) -> bool {
        offset.saturating_add(len as u64) <= self.len
    }
}
