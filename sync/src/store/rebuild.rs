//! A new index from what the segments say of themselves, for one that is lost or damaged.
//!
//! Each block stands behind a header with its digest, and each commit ends with the state of the store, so that the segments
//! alone say what there is. What is no whole record is passed over and counted.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;

use super::backend::Doubt;
use super::disk::{Disk, File, Open};
use super::index::Index;
use super::pack::{self, Digests, End, FILE_HEADER, Place, RECORD_HEADER, Reader};
use super::state::State;
use super::{Commit, Settings, StoreError, doubt, lock};
use crate::limits;
use crate::link::Link;

/// The file in which an index is made before it takes the place of the old one.
const UNFINISHED: &str = "db.rebuilt";
/// Blocks that one commit brings into the index: some 10 MB in memory.
const BLOCKS_AT_ONCE: usize = 100_000;
/// Manifests that one commit brings into the index: some 4 MB.
const MANIFESTS_AT_ONCE: usize = 1_000;
/// Bytes read at once where a record is sought.
const WINDOW: usize = 1 << 20;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Records of blocks; a block may have several.
    pub blocks: u64,
    /// Manifests.
    pub manifests: u64,
    /// Bytes that are in no whole record: of damaged blocks, and of what a crash broke off.
    pub lost_bytes: u64,
}

/// Makes the index of the store in `dir` anew, which nobody has open, and puts it in the place of the old one once it is
/// durable. `height` says of a block whether it is a manifest, and if so how far from the first. `progress` is told the
/// bytes that were read, and all there are. O(bytes in the segments); memory O(manifests).
///
/// # Errors
/// If the disk refuses, or another process has the store. The old index is as it was then.
pub fn rebuild(
    settings: &Settings,
    dir: &Path,
    height: &dyn Fn(&Link, &[u8]) -> Option<u64>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Rebuilt, StoreError> {
    let (disk, path, unfinished) = (&settings.disk, dir.join("db.redb"), dir.join(UNFINISHED));
    let lock = lock(disk, dir)?;
    // What an attempt before left is begun anew.
    disk.open(&unfinished, Open::Anew).map_err(|source| StoreError::io("create", &unfinished, source))?;
    let index = Index::create(disk, unfinished.clone(), Doubt::of_copy(lock.clone()))?;
    let mut found = Found::default();
    found.scan(settings, &dir.join("packs"), &index, height, progress)?;
    match Index::open(disk, path.clone(), doubt(&lock, dir)?) {
        Ok(old) => found.take_from(&old, &Reader::new(disk.clone(), dir.join("packs")), height),
        Err(error) => tracing::warn!(%error, "nothing is taken from the old index"),
    }
    found.finish(settings, &dir.join("packs"), &index)?;
    disk.rename(&unfinished, &path).map_err(|source| StoreError::io("replace", &path, source))?;
    pack::sync_dir(disk, dir)?;
    index.is_in_place()?;
    Ok(found.rebuilt)
}

/// Where the bytes of a manifest are.
enum Manifest {
    Packed(Place),
    /// In the old index only.
    Here(Vec<u8>),
}

type Manifests = BTreeMap<(u64, Link), Manifest>;

#[derive(Default)]
struct Found {
    rebuilt: Rebuilt,
    end: Option<End>,
    manifests: Manifests,
    /// Those whose content was dropped.
    dropped: HashSet<Link>,
    state: State,
    /// Since the last end of a commit.
    tail: Tail,
    /// A commit that is not whole, and is the last so far. A crash broke it off, unless another one follows.
    broken: Option<(Manifests, State)>,
}

#[derive(Default)]
struct Tail {
    digests: Vec<[u8; 32]>,
    manifests: Manifests,
}

impl Tail {
    /// Whether its last blocks are those that a commit ends.
    fn ends_with(&self, blocks: &[u8; 40]) -> bool {
        let count = blocks.first_chunk().map_or(0, |count| u64::from_le_bytes(*count));
        let from = usize::try_from(count).ok().and_then(|count| self.digests.len().checked_sub(count));
        let Some(last) = from.and_then(|from| self.digests.get(from..)) else { return false };
        let mut digests = Digests::default();
        last.iter().for_each(|digest| digests.add(digest));
        digests.encode() == *blocks
    }
}

impl Found {
    fn scan(
        &mut self,
        settings: &Settings,
        packs: &Path,
        index: &Index,
        height: &dyn Fn(&Link, &[u8]) -> Option<u64>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), StoreError> {
        let lens = pack::lens(&settings.disk, packs)?;
        let all = lens.iter().map(|(_, len)| len).sum();
        let mut numbers: Vec<_> = lens.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        // What stands there is not written behind: what a crash left may be there.
        self.end = numbers.last().map(|last| End { segment: *last, offset: limits::SEGMENT_BYTES, state: 0 });
        let (mut blocks, mut before) = (Vec::new(), 0);
        for segment in numbers {
            let path = pack::path(packs, segment);
            let file = settings.disk.open(&path, Open::Write);
            let file = file.map_err(|source| StoreError::io("open", &path, source))?;
            match pack::check_header(&file, &path) {
                Err(StoreError::Damaged { what }) => {
                    tracing::warn!(what, "its records are taken nonetheless");
                    let mended = file.write(0, &pack::file_header()).and_then(|()| file.sync_data());
                    mended.map_err(|source| StoreError::io("mend", &path, source))?;
                }
                // One of a newer version has other records.
                other => other?,
            }
            let mut records = Records::new(&file).map_err(|source| StoreError::io("read", &path, source))?;
            loop {
                let record = records.next().map_err(|source| StoreError::io("read", &path, source))?;
                progress(before + records.at, all);
                let Some(record) = record else { break };
                let Some(link) = record.link else {
                    self.end_commit(&record.body);
                    continue;
                };
                let place = Place { segment, offset: record.offset as u32, len: record.body.len() as u32 };
                if let Some(height) = height(&link, &record.body) {
                    self.tail.manifests.insert((height, link), Manifest::Packed(place));
                }
                self.tail.digests.push(*link.digest());
                self.rebuilt.blocks += 1;
                blocks.push((link, place));
                if blocks.len() == BLOCKS_AT_ONCE {
                    self.commit(index, &std::mem::take(&mut blocks), Commit::default())?;
                }
            }
            before += records.at;
            self.rebuilt.lost_bytes += records.lost;
        }
        self.commit(index, &blocks, Commit::default())
    }

    fn end_commit(&mut self, body: &[u8]) {
        let Some((blocks, state)) = pack::read_state(body) else { return };
        let tail = std::mem::take(&mut self.tail);
        if let Some((manifests, state)) = self.broken.take() {
            self.accept(manifests, state);
        }
        if tail.ends_with(blocks) {
            self.accept(tail.manifests, state);
        } else {
            self.broken = Some((tail.manifests, state));
        }
    }

    fn accept(&mut self, mut manifests: Manifests, state: State) {
        self.manifests.append(&mut manifests);
        if state.commits >= self.state.commits {
            self.state = state;
        }
    }

    fn commit(&self, index: &Index, blocks: &[(Link, Place)], commit: Commit) -> Result<(), StoreError> {
        let end = self.end.unwrap_or(End { segment: 0, offset: 0, state: 0 });
        index.commit(end, blocks.iter().map(|(link, place)| (link, place)), &commit)
    }

    /// Takes what the old index still says. Its named values count only where the record that has them too is lost.
    fn take_from(&mut self, old: &Index, reader: &Reader, height: &dyn Fn(&Link, &[u8]) -> Option<u64>) {
        let is_vouched_for = old.end().is_ok_and(|end| reader.state(end).is_some());
        if let Ok(meta) = old.all_meta()
            && old.commits() > self.state.commits
            && !is_vouched_for
        {
            self.state = State { commits: old.commits(), meta };
        }
        self.dropped = old.dropped().unwrap_or_default();
        let mut numbers = 0..;
        loop {
            let some = match old.manifests(&mut numbers) {
                Ok(some) if some.is_empty() => return,
                Ok(some) => some,
                Err(error) => {
                    tracing::warn!(%error, "the old index has manifests that can not be read");
                    return;
                }
            };
            for (link, bytes) in some.into_iter().filter(|(link, bytes)| link.names(bytes)) {
                if let Some(height) = height(&link, &bytes) {
                    self.manifests.entry((height, link)).or_insert(Manifest::Here(bytes));
                }
            }
        }
    }

    /// Brings manifests, each behind the one before it, and the named values into the index.
    fn finish(&mut self, settings: &Settings, packs: &Path, index: &Index) -> Result<(), StoreError> {
        let reader = Reader::new(settings.disk.clone(), packs.to_path_buf());
        let mut manifests = Vec::new();
        for ((_, link), manifest) in std::mem::take(&mut self.manifests) {
            let bytes = match manifest {
                Manifest::Packed(place) => reader.read(&link, place)?,
                Manifest::Here(bytes) => bytes,
            };
            manifests.push((link, bytes));
            self.rebuilt.manifests += 1;
            if manifests.len() == MANIFESTS_AT_ONCE {
                let manifests = std::mem::take(&mut manifests);
                self.commit(index, &[], Commit { manifests, meta: Vec::new() })?;
            }
        }
        self.commit(index, &[], Commit { manifests, meta: Vec::new() })?;
        index.note_dropped(&Vec::from_iter(std::mem::take(&mut self.dropped)))?;
        index.restore(self.state.commits, &self.state.meta)
    }
}

/// Whether a later commit than the one of this number stands behind an end, whole. O(bytes there).
pub(super) fn has_later(disk: &Disk, packs: &Path, end: End, commits: u64) -> Result<bool, StoreError> {
    let mut segments = pack::lens(disk, packs)?;
    segments.retain(|(number, _)| *number >= end.segment);
    for (number, _) in segments {
        let path = pack::path(packs, number);
        let Ok(file) = disk.open(&path, Open::Read) else { continue };
        let mut records = Records::new(&file).map_err(|source| StoreError::io("read", &path, source))?;
        if number == end.segment {
            records.at = end.offset.min(records.len);
        }
        while let Some(record) = records.next().map_err(|source| StoreError::io("read", &path, source))? {
            let ended = if record.link.is_none() { pack::read_state(&record.body) } else { None };
            if ended.is_some_and(|(_, state)| state.commits > commits) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A whole record.
struct Record {
    offset: u64,
    /// What it is called; none if it is the store's own.
    link: Option<Link>,
    body: Vec<u8>,
}

/// The whole records of a segment, one after the other.
struct Records<'a> {
    file: &'a File,
    len: u64,
    /// Up to where it was read.
    at: u64,
    lost: u64,
}

impl<'a> Records<'a> {
    fn new(file: &'a File) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file, len, at: FILE_HEADER.min(len), lost: 0 })
    }

    fn next(&mut self) -> io::Result<Option<Record>> {
        let begin = self.at;
        let record = match self.record(begin)? {
            Some(record) => Some(record),
            None => self.seek(begin)?,
        };
        let found = record.as_ref().map_or(self.len, |record| record.offset);
        self.lost += found - begin;
        self.at = record.as_ref().map_or(self.len, |record| found + (RECORD_HEADER + record.body.len()) as u64);
        Ok(record)
    }

    /// The record that begins there, if one does.
    fn record(&self, offset: u64) -> io::Result<Option<Record>> {
        let mut header = [0; RECORD_HEADER];
        if !self.has(offset, RECORD_HEADER) {
            return Ok(None);
        }
        self.file.read(offset, &mut header)?;
        self.record_of(offset, &header)
    }

    fn record_of(&self, offset: u64, header: &[u8; RECORD_HEADER]) -> io::Result<Option<Record>> {
        let Some((link, len)) = pack::read_header(header) else { return Ok(None) };
        let from = offset + RECORD_HEADER as u64;
        if !self.has(from, len as usize) {
            return Ok(None);
        }
        let mut body = vec![0; len as usize];
        self.file.read(from, &mut body)?;
        Ok(pack::is_whole(header, &body).then_some(Record { offset, link, body }))
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
            self.file.read(at, &mut window[..len])?;
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
        self.file.read(offset, &mut header)?;
        Ok(pack::read_header(&header).map(|(_, len)| offset + RECORD_HEADER as u64 + u64::from(len)))
    }

    const fn has(&self, offset: u64, len: usize) -> bool {
        offset.saturating_add(len as u64) <= self.len
    }
}
