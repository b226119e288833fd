//! Commits that stand in the segments, whole, and that the index does not have: the process ended between the two, or a disk
//! lost what it had said was safe. They are done when the store is opened.
//!
//! What can be read need not be on the disk: a sync may have failed before the process ended, and then the system
//! takes pages for clean that it never wrote. So the blocks of such a commit are written anew, to another segment, and
//! synced there.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;

use super::disk::{Disk, File, Open};
use super::index::Index;
use super::pack::{self, End, FILE_HEADER, Place, Reader, Writer};
use super::records::Records;
use super::state::State;
use super::{Settings, StoreError};
use crate::limits;
use crate::link::Link;

/// What was done.
pub(super) struct Forward {
    /// The state after the last commit.
    pub(super) state: State,
    /// Behind what was written anew, and all else; none if nothing was to be done.
    pub(super) writer: Option<Writer>,
    /// A later commit stands behind what is not whole, or may, since it can not be read.
    pub(super) later: bool,
}

/// A whole commit.
struct Whole {
    state: State,
    blocks: HashMap<Link, Place>,
}

/// Does, in their order, the commits that stand directly behind the end of the index and have a greater number than its last one,
/// up to the first record that is not whole. Each is durable on return. O(bytes behind the end).
///
/// # Errors
/// If the disk refuses, but for want of space: then they stay where they are, and count as later ones.
pub(super) fn roll_forward(
    settings: &Settings,
    packs: &Path,
    index: &Index,
    state: State,
    end: End,
) -> Result<Forward, StoreError> {
    let disk = &settings.disk;
    let mut scan = Scan { number: state.commits, ..Scan::default() };
    let (segment, at) = scan.run(disk, packs, end)?;
    let last = scan.commits.last().map_or(state.commits, |last| last.state.commits);
    // What can not be read may be one.
    let mut later = has_later(disk, packs, segment, at, last).unwrap_or_else(|error| {
        tracing::warn!(%error, "what was written last can not be read");
        true
    });
    let mut forward = Forward { state, writer: None, later: false };
    if !scan.commits.is_empty() {
        let reader = Reader::new(disk.clone(), packs.to_path_buf());
        let mut writer = Writer::open_behind(settings, packs.to_path_buf())?;
        for whole in scan.commits {
            match whole.redo(index, &reader, &mut writer, disk, packs) {
                Ok(()) => forward.state = whole.state,
                Err(error @ (StoreError::Full(_) | StoreError::Damaged { .. })) => {
                    tracing::error!(%error, number = whole.state.commits, "a commit that was cut off can not be finished");
                    later = true;
                    // What failed may be there.
                    forward.state = State { commits: index.commits(), manifests: Vec::new(), meta: index.all_meta()? };
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        // Not the one that may have failed.
        forward.writer = Some(if later { Writer::open_behind(settings, packs.to_path_buf())? } else { writer });
    }
    if later {
        tracing::warn!("a commit was not done when the process died, or the index does not know of it any more");
    }
    forward.later = later;
    Ok(forward)
}

impl Whole {
    fn redo(
        &self,
        index: &Index,
        reader: &Reader,
        writer: &mut Writer,
        disk: &Disk,
        packs: &Path,
    ) -> Result<(), StoreError> {
        let manifests = self.manifests(index, reader)?;
        let mut blocks: Vec<_> = self.blocks.iter().collect();
        blocks.sort_unstable_by_key(|(_, place)| (place.segment, place.offset));
        let mut places = HashMap::with_capacity(blocks.len());
        for (link, place) in blocks {
            places.insert(*link, writer.append(link, &read(reader, link, *place)?)?);
        }
        writer.append_state(&self.state.encode())?;
        let (end, unsynced) = writer.take_unsynced();
        unsynced.sync(disk, packs)?;
        index.roll_forward(&self.state, end, &places, &manifests)?;
        tracing::info!(number = self.state.commits, blocks = places.len(), "finished a commit that was cut off");
        Ok(())
    }

    /// The manifests that it brings, with their bytes.
    fn manifests(&self, index: &Index, reader: &Reader) -> Result<Vec<(Link, Vec<u8>)>, StoreError> {
        let mut manifests = Vec::with_capacity(self.state.manifests.len());
        for link in &self.state.manifests {
            if index.manifest(link)?.is_some() {
                continue;
            }
            let place = self.blocks.get(link).copied().map_or_else(|| index.place(link), |place| Ok(Some(place)))?;
            let place = place.ok_or_else(|| StoreError::damaged(format!("manifest {link} is missing")))?;
            manifests.push((*link, read(reader, link, place)?));
        }
        Ok(manifests)
    }
}

fn read(reader: &Reader, link: &Link, place: Place) -> Result<Vec<u8>, StoreError> {
    let bytes = reader.read(link, place)?;
    let damaged = || StoreError::damaged(format!("block {link} has other bytes than it had just now"));
    link.names(&bytes).then_some(bytes).ok_or_else(damaged)
}

#[derive(Default)]
struct Scan {
    /// Of the last commit that is done.
    number: u64,
    commits: Vec<Whole>,
    /// Since the last end of a commit.
    tail: Vec<(Link, Place)>,
    /// Of commits that were tried, and that a later one stands for.
    blocks: HashMap<Link, Place>,
}

impl Scan {
    /// Finds the commits behind an end. Gives where something follows that is not whole, or nothing.
    fn run(&mut self, disk: &Disk, packs: &Path, end: End) -> Result<(u32, u64), StoreError> {
        let is_left = end.state == 0 && !(FILE_HEADER..limits::SEGMENT_BYTES).contains(&end.offset);
        let (mut segment, mut at) = if is_left { (end.segment + 1, FILE_HEADER) } else { (end.segment, end.offset) };
        loop {
            let path = pack::path(packs, segment);
            let file = match disk.open(&path, Open::Read) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((segment, at)),
                Err(source) => return Err(StoreError::io("open", &path, source)),
            };
            if pack::check_header(&file, &path).is_err() {
                return Ok((segment, at));
            }
            if let Some(ends) = self.take(&file, segment, at) {
                return Ok((segment, ends));
            }
            (segment, at) = (segment + 1, FILE_HEADER);
        }
    }

    /// Takes the records of a segment from an offset on. If it does not get to its end, gives how far it got.
    fn take(&mut self, file: &File, segment: u32, at: u64) -> Option<u64> {
        let Ok(mut records) = Records::new(file) else { return Some(at) };
        records.at = at;
        while let Ok(Some(record)) = records.next_whole() {
            let Some(link) = record.link else {
                if self.end_commit(&record.body).is_none() {
                    return Some(record.offset);
                }
                continue;
            };
            let place = Place { segment, offset: record.offset as u32, len: record.body.len() as u32 };
            self.tail.push((link, place));
        }
        (records.at != records.len).then_some(records.at)
    }

    /// None if blocks of it are not there.
    fn end_commit(&mut self, body: &[u8]) -> Option<()> {
        let (blocks, state) = pack::read_state(body)?;
        let from = pack::ended(&self.tail, |(link, _)| link.digest(), blocks)?;
        self.blocks.extend(self.tail.drain(from..));
        self.tail.clear();
        // The index has this number: it went to something else, after the commit failed.
        if state.commits <= self.number {
            return Some(());
        }
        // A number that comes again is that of the next attempt, and what was tried before is not done.
        while let Some(tried) = self.commits.pop_if(|last| last.state.commits >= state.commits) {
            self.blocks.extend(tried.blocks);
        }
        self.commits.push(Whole { state, blocks: std::mem::take(&mut self.blocks) });
        Some(())
    }
}

/// Whether a later commit than the one of this number stands somewhere from there on. O(bytes there).
fn has_later(disk: &Disk, packs: &Path, segment: u32, at: u64, number: u64) -> Result<bool, StoreError> {
    let segments: BTreeSet<_> = pack::lens(disk, packs)?.into_iter().map(|(number, _)| number).collect();
    for &there in segments.range(segment..) {
        let path = pack::path(packs, there);
        let file = disk.open(&path, Open::Read).map_err(|source| StoreError::io("open", &path, source))?;
        let mut records = Records::new(&file).map_err(|source| StoreError::io("read", &path, source))?;
        if there == segment {
            records.at = at.min(records.len);
        }
        while let Some(record) = records.next().map_err(|source| StoreError::io("read", &path, source))? {
            let ended = if record.link.is_none() { pack::read_state(&record.body) } else { None };
            if ended.is_some_and(|(_, state)| state.commits > number) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
