//! Segments: files to which sealed blocks are appended, each behind a header that says which block it is.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

use super::disk::{Disk, File, Open};
use super::state::State;
use super::{Settings, StoreError, VERSION};
use crate::limits;
use crate::link::{Codec, Link};

/// What a segment begins with, before its version.
const MAGIC: &[u8; 8] = b"jaxfspak";
/// Magic, version (u32, little endian), four zero bytes.
pub(super) const FILE_HEADER: u64 = 16;
/// Digest, codec, length (u32, little endian).
pub(super) const RECORD_HEADER: usize = 37;
/// What stands for the codec of a record that is the store's own.
const STATE: u8 = 0;
/// Segments kept open for reading.
const OPEN_SEGMENTS: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the segment.
    pub(super) segment: u32,
    /// Where its record header begins.
    pub(super) offset: u32,
    /// Bytes of the block.
    pub(super) len: u32,
}

/// Up to where segments are filled: a segment's number, and an offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) segment: u32,
    pub(super) offset: u64,
    /// Where the record of the state that ends there begins; 0 if none does.
    pub(super) state: u64,
}

/// What was written since the last sync.
#[derive(Default)]
pub(super) struct Unsynced {
    pub(super) segments: BTreeMap<u32, Arc<File>>,
    new_names: bool,
}

impl Unsynced {
    /// Waits until all of it is on the disk.
    pub(super) fn sync(&self, disk: &Disk, dir: &Path) -> Result<(), StoreError> {
        for (number, file) in &self.segments {
            file.sync_data().map_err(|source| StoreError::io("sync", &path(dir, *number), source))?;
        }
        if self.new_names { sync_dir(disk, dir) } else { Ok(()) }
    }
}

/// The end of the last segment, where blocks are appended.
pub(super) struct Writer {
    disk: Disk,
    dir: PathBuf,
    segment_bytes: u64,
    current: Option<Arc<File>>,
    end: End,
    unsynced: Unsynced,
    /// The blocks since the last commit, each with its segment, but for those that were left with a failed one.
    uncommitted: Vec<(u32, [u8; 32])>,
}

/// How many blocks there are (u64, little endian), and a checksum over their digests in their order.
fn checksum<'a>(digests: impl Iterator<Item = &'a [u8; 32]>) -> [u8; 40] {
    let (mut out, mut blocks, mut hasher) = ([0; 40], 0_u64, blake3::Hasher::new());
    for digest in digests {
        blocks += 1;
        hasher.update(digest);
    }
    out[..8].copy_from_slice(&blocks.to_le_bytes());
    out[8..].copy_from_slice(hasher.finalize().as_bytes());
    out
}

/// From which on blocks that were found are those that a commit ends, which are the last; none if they are not all there.
pub(super) fn ended<T>(found: &[T], digest: impl Fn(&T) -> &[u8; 32], blocks: &[u8; 40]) -> Option<usize> {
    let count = blocks.first_chunk().map_or(0, |count| u64::from_le_bytes(*count));
    let from = found.len().checked_sub(usize::try_from(count).ok()?)?;
    (checksum(found.get(from..)?.iter().map(digest)) == *blocks).then_some(from)
}

impl Writer {
    /// Goes on behind everything that is there, and drops nothing of it.
    pub(super) fn open_behind(settings: &Settings, dir: PathBuf) -> Result<Self, StoreError> {
        let last = lens(&settings.disk, &dir)?.into_iter().map(|(number, _)| number).max();
        Self::open(settings, dir, End { segment: last.unwrap_or(0), offset: limits::SEGMENT_BYTES, state: 0 })
    }

    /// Goes on at `end`, and drops what was written behind it and never committed.
    pub(super) fn open(settings: &Settings, dir: PathBuf, end: End) -> Result<Self, StoreError> {
        let Settings { disk, segment_bytes, .. } = settings.clone();
        for (name, _) in disk.list(&dir).map_err(|source| StoreError::io("list", &dir, source))? {
            let Some(number) = number(&name).filter(|number| *number > end.segment) else { continue };
            let path = path(&dir, number);
            disk.remove(&path).map_err(|source| StoreError::io("remove", &path, source))?;
        }
        let mut writer = Self {
            disk,
            dir,
            segment_bytes,
            current: None,
            end,
            unsynced: Unsynced::default(),
            uncommitted: Vec::new(),
        };
        let path = path(&writer.dir, end.segment);
        match writer.disk.open(&path, Open::Write) {
            // A segment that is damaged or shorter than it should be stays as it is: what is left of it can be read.
            Ok(file) if file.len().is_ok_and(|len| len >= end.offset) && check_header(&file, &path).is_ok() => {
                file.set_len(end.offset).map_err(|source| StoreError::io("cut", &path, source))?;
                writer.current = Some(Arc::new(file));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::io("open", &path, source)),
        }
        Ok(writer)
    }

    /// Syncs none of these again. If the last segment is one of them it is full from now on, for a later start as well.
    pub(super) fn leave_segments(&mut self, left: &HashSet<u32>) {
        self.unsynced.segments.retain(|number, _| !left.contains(number));
        self.uncommitted.retain(|(number, _)| !left.contains(number));
        left.iter().for_each(|segment| self.leave_segment(*segment));
    }

    /// Begins another segment with the next block, for a later start as well, if this is the last one.
    pub(super) fn leave_segment(&mut self, segment: u32) {
        if self.end.segment == segment {
            self.current = None;
            self.end.offset = limits::SEGMENT_BYTES;
        }
    }

    /// Appends a block. After an error, the next append begins where this one did.
    pub(super) fn append(&mut self, link: &Link, bytes: &[u8]) -> Result<Place, StoreError> {
        let place = self.append_record(record_header(link, bytes.len() as u32), bytes)?;
        self.uncommitted.push((place.segment, *link.digest()));
        Ok(place)
    }

    /// Ends a commit with the state of the store after it, behind which blocks it stands and their checksum.
    pub(super) fn append_state(&mut self, state: &[u8]) -> Result<(), StoreError> {
        let blocks = checksum(self.uncommitted.iter().map(|(_, digest)| digest));
        let body = [&blocks, state].concat();
        if body.len() > limits::BLOCK_BYTES {
            self.end.state = 0;
            return Ok(());
        }
        let place = self.append_record(header(blake3::hash(&body).as_bytes(), STATE, body.len() as u32), &body)?;
        self.end.state = place.offset.into();
        self.uncommitted.clear();
        Ok(())
    }

    fn append_record(&mut self, header: [u8; RECORD_HEADER], bytes: &[u8]) -> Result<Place, StoreError> {
        let record = [&header, bytes].concat();
        let file = self.segment_for(record.len() as u64)?;
        let End { segment, offset, .. } = self.end;
        if let Err(source) = file.write(offset, &record) {
            // Only tidy: whatever stands behind the end is written over.
            let _ = file.set_len(offset);
            return Err(StoreError::io("write", &path(&self.dir, segment), source));
        }
        self.end.offset += record.len() as u64;
        self.unsynced.segments.insert(segment, file);
        Ok(Place { segment, offset: offset as u32, len: bytes.len() as u32 })
    }

    /// Up to where blocks were appended, and what of it has to be synced.
    pub(super) fn take_unsynced(&mut self) -> (End, Unsynced) {
        (self.end, std::mem::take(&mut self.unsynced))
    }

    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: Option<Arc<File>>) -> Option<Arc<File>> {
        std::mem::replace(&mut self.current, file)
    }

    #[cfg(test)]
    pub(super) fn pretend_filled(&mut self, offset: u64) {
        self.end.offset = offset;
    }

    fn segment_for(&mut self, more: u64) -> Result<Arc<File>, StoreError> {
        match &self.current {
            Some(file) if self.end.offset + more <= self.segment_bytes => Ok(file.clone()),
            _ => self.begin_segment(),
        }
    }

    fn begin_segment(&mut self) -> Result<Arc<File>, StoreError> {
        let number = self.end.segment + 1;
        let path = path(&self.dir, number);
        // What a failed attempt left is begun anew.
        let file =
            self.disk.open(&path, Open::Anew).and_then(|file| file.write(0, &file_header()).map(|()| Arc::new(file)));
        let file = file.map_err(|source| StoreError::io("begin", &path, source))?;
        self.end = End { segment: number, offset: FILE_HEADER, state: 0 };
        self.current = Some(file.clone());
        self.unsynced.new_names = true;
        self.unsynced.segments.insert(number, file.clone());
        Ok(file)
    }
}

/// Segments open for reading.
pub(super) struct Reader {
    disk: Disk,
    dir: PathBuf,
    open: Mutex<LruCache<u32, Arc<File>>>,
}

impl Reader {
    pub(super) fn new(disk: Disk, dir: PathBuf) -> Self {
        Self { disk, dir, open: Mutex::new(LruCache::new(OPEN_SEGMENTS)) }
    }

    /// The bytes of the block that the index has at `place`.
    pub(super) fn read(&self, link: &Link, place: Place) -> Result<Vec<u8>, StoreError> {
        if place.len as usize > limits::BLOCK_BYTES {
            return Err(StoreError::damaged(format!("the index says that block {link} has {} bytes", place.len)));
        }
        let file = self.segment(place.segment)?;
        let (mut header, mut block) = ([0; RECORD_HEADER], vec![0; place.len as usize]);
        file.read_two(place.offset.into(), &mut header, &mut block).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => {
                StoreError::damaged(format!("{} ends before block {link}", path(&self.dir, place.segment).display()))
            }
            _ => StoreError::io("read", &path(&self.dir, place.segment), source),
        })?;
        if header != record_header(link, place.len) {
            let path = path(&self.dir, place.segment);
            return Err(StoreError::damaged(format!("block {link} is not at {} in {}", place.offset, path.display())));
        }
        Ok(block)
    }

    /// The state that a commit left there; none if there is none, or it is damaged.
    pub(super) fn state(&self, end: End) -> Option<State> {
        let mut header = [0; RECORD_HEADER];
        let file = self.segment(end.segment).ok().filter(|_| end.state > 0)?;
        file.read(end.state, &mut header).ok()?;
        let (link, len) = read_header(&header)?;
        let ends = end.state + RECORD_HEADER as u64 + u64::from(len);
        let mut body = vec![0; len as usize];
        file.read(end.state + RECORD_HEADER as u64, &mut body).ok()?;
        let whole = link.is_none() && ends == end.offset && is_whole(&header, &body);
        whole.then(|| read_state(&body)).flatten().map(|(_, state)| state)
    }

    /// The blocks of a segment, as its headers say, up to where one does not make sense.
    pub(super) fn records(&self, segment: u32) -> impl Iterator<Item = (Link, Place)> {
        let file = self.segment(segment).ok();
        let mut offset = FILE_HEADER;
        let all = std::iter::from_fn(move || {
            let mut header = [0; RECORD_HEADER];
            file.as_ref()?.read(offset, &mut header).ok()?;
            let (link, len) = read_header(&header)?;
            let place = Place { segment, offset: u32::try_from(offset).ok()?, len };
            offset += record_bytes(&place);
            Some((link, place))
        });
        all.filter_map(|(link, place)| Some((link?, place)))
    }

    /// Removes a segment that nothing names any more.
    pub(super) fn remove(&self, number: u32) -> Result<(), StoreError> {
        let path = path(&self.dir, number);
        let removed = self.disk.remove(&path);
        self.open.lock().pop(&number);
        removed.map_err(|source| StoreError::io("remove", &path, source))
    }

    fn segment(&self, number: u32) -> Result<Arc<File>, StoreError> {
        if let Some(file) = self.open.lock().get(&number) {
            return Ok(file.clone());
        }
        let path = path(&self.dir, number);
        let file = Arc::new(self.disk.open(&path, Open::Read).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::damaged(format!("{} is missing", path.display())),
            _ => StoreError::io("open", &path, source),
        })?);
        check_header(&file, &path)?;
        self.open.lock().put(number, file.clone());
        Ok(file)
    }
}

/// What a segment begins with.
pub(super) fn file_header() -> [u8; FILE_HEADER as usize] {
    let mut header = [0; FILE_HEADER as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header
}

pub(super) fn check_header(file: &File, path: &Path) -> Result<(), StoreError> {
    let mut header = [0; FILE_HEADER as usize];
    let read = file.read(0, &mut header);
    let (magic, rest) = header.split_at(8);
    if read.is_err() || magic != MAGIC || rest[4..] != [0; 4] {
        return Err(StoreError::damaged(format!("{} does not begin as a segment does", path.display())));
    }
    match u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) {
        VERSION => Ok(()),
        version => Err(StoreError::Version { path: path.to_owned(), version }),
    }
}

fn record_header(link: &Link, len: u32) -> [u8; RECORD_HEADER] {
    header(link.digest(), link.codec().code() as u8, len)
}

fn header(digest: &[u8; 32], codec: u8, len: u32) -> [u8; RECORD_HEADER] {
    let mut header = [0; RECORD_HEADER];
    header[..32].copy_from_slice(digest);
    header[32] = codec;
    header[33..].copy_from_slice(&len.to_le_bytes());
    header
}

/// The block that a header stands before, if it is none of the store's own records, and the length of the record's body.
pub(super) fn read_header(header: &[u8; RECORD_HEADER]) -> Option<(Option<Link>, u32)> {
    let (digest, rest) = header.split_first_chunk::<32>()?;
    let (codec, len) = rest.split_first()?;
    let len = u32::from_le_bytes(len.try_into().ok()?);
    let link = match *codec {
        STATE => None,
        codec => Some(Link::from_parts(Codec::of(u64::from(codec))?, *digest)),
    };
    // A state has its checksums and two numbers; and what is all zeros is none.
    let fits = len as usize <= limits::BLOCK_BYTES && (link.is_some() || len >= 52);
    fits.then_some((link, len))
}

/// Whether a record's body is what its header says.
pub(super) fn is_whole(header: &[u8; RECORD_HEADER], body: &[u8]) -> bool {
    header[..32] == *blake3::hash(body).as_bytes()
}

/// What a commit ends with: its blocks, as [`checksum`] gives them, and the state after it.
pub(super) fn read_state(body: &[u8]) -> Option<(&[u8; 40], State)> {
    let (blocks, state) = body.split_first_chunk()?;
    Some((blocks, State::decode(state)?))
}

/// Bytes that a block takes, with its header.
pub(super) fn record_bytes(place: &Place) -> u64 {
    RECORD_HEADER as u64 + u64::from(place.len)
}

pub(super) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(file_name(number))
}

fn file_name(number: u32) -> String {
    format!("{number:08}.pack")
}

/// The number of a segment, by its name.
fn number(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".pack")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(disk: &Disk, dir: &Path) -> Result<(), StoreError> {
    disk.sync_dir(dir).map_err(|source| StoreError::io("sync", dir, source))
}

/// The segments that there are, with their lengths, in no order.
pub(super) fn lens(disk: &Disk, dir: &Path) -> Result<Vec<(u32, u64)>, StoreError> {
    let files = disk.list(dir).map_err(|source| StoreError::io("list", dir, source))?;
    Ok(files.into_iter().filter_map(|(name, len)| Some((number(&name)?, len))).collect())
}

/// Bytes of all segments.
pub(super) fn bytes(disk: &Disk, dir: &Path) -> Result<u64, StoreError> {
    let files = disk.list(dir).map_err(|source| StoreError::io("list", dir, source))?;
    Ok(files.iter().map(|(_, len)| len).sum())
}
