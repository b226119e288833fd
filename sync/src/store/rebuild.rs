//! A new index from what the segments say of themselves, for one that is lost or damaged.
//!
//! Each block stands behind a header with its digest, and each commit ends with the state of the store, so that the segments
//! alone say what there is. What is no whole record is passed over and counted, also where the disk can not read it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::backend::Doubt;
use super::disk::{File, Open};
use super::index::Index;
use super::pack::{self, End, Place, Reader};
use super::records::Records;
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
    let built = build(settings, dir, &lock, &unfinished, height, progress);
    let (rebuilt, index) = built.inspect_err(|_| {
        // It may be what the disk has no room for.
        if let Err(left) = disk.remove(&unfinished) {
            tracing::debug!(%left, "an unfinished index stays behind");
        }
    })?;
    disk.rename(&unfinished, &path).map_err(|source| StoreError::io("replace", &path, source))?;
    pack::sync_dir(disk, dir)?;
    index.is_in_place()?;
    Ok(rebuilt)
}

/// Makes the new index where it is not in the way.
fn build(
    settings: &Settings,
    dir: &Path,
    lock: &Arc<File>,
    unfinished: &Path,
    height: &dyn Fn(&Link, &[u8]) -> Option<u64>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Rebuilt, Index), StoreError> {
    let (disk, packs) = (&settings.disk, dir.join("packs"));
    let index = Index::create(disk, unfinished.to_path_buf(), Doubt::of_copy(lock.clone()))?;
    let mut found = Found::default();
    found.scan(settings, &packs, &index, height, progress)?;
    found.leave_tried();
    match Index::open(disk, dir.join("db.redb"), doubt(lock, dir)?) {
        Ok(old) => found.take_from(&old, &Reader::new(disk.clone(), packs.clone()), height),
        Err(error) => tracing::warn!(%error, "nothing is taken from the old index"),
    }
    found.finish(settings, &packs, &index)?;
    Ok((found.rebuilt, index))
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
    /// Those that commits brought, by the number of the commit.
    brought: BTreeMap<u64, Vec<Link>>,
    /// Those of commits that were tried, and whose number went to another one.
    tried: HashSet<Link>,
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
                    // If it can not be, each block of it will be reported.
                    mended.unwrap_or_else(|error| tracing::error!(%error, segment, "it can not be mended"));
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
        if pack::ended(&tail.digests, |digest| digest, blocks).is_some() {
            self.accept(tail.manifests, state);
        } else {
            self.broken = Some((tail.manifests, state));
        }
    }

    fn accept(&mut self, mut manifests: Manifests, mut state: State) {
        self.manifests.append(&mut manifests);
        let brought = std::mem::take(&mut state.manifests);
        self.tried.extend(self.brought.insert(state.commits, brought).into_iter().flatten());
        if state.commits >= self.state.commits {
            self.state = state;
        }
    }

    /// Takes out the manifests of commits that were never done. Those that no commit names stay: theirs is damaged, or they were
    /// moved, and its segment is gone.
    fn leave_tried(&mut self) {
        let brought: HashSet<_> = self.brought.values().flatten().collect();
        let tried = |link: &Link| self.tried.contains(link) && !brought.contains(link);
        self.manifests.retain(|(_, link), _| !tried(link));
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
            self.state = State { commits: old.commits(), manifests: Vec::new(), meta };
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
