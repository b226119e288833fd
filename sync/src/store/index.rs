//! The border to redb: where blocks are, the manifests in their order, and named values.
//!
//! redb panics on some damaged files (an open without a full check trusts what it reads), so that every call goes
//! through [`guard`], which turns a panic into an error. After an I/O error redb refuses everything until it is opened
//! again. The next call does that, and what it opens depends on what failed:
//!
//! - A write: the same file. What was written is still to be synced, and the next sync says how that went.
//! - A sync: the file can be read, but nothing more can be built on it, because the system marks pages clean that it
//!   could not write: a later transaction would be synced without those it stands on. So the file is copied, the copy synced,
//!   every page of it checked, and the number of the last commit compared with what was reported. Only then does
//!   the copy take the file's place. Until that succeeds the old one is only read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::ops::RangeFrom;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::backend::{Doubt, IndexFile, ReadOnly};
use super::disk::{Disk, Open};
use super::pack::{End, Place};
use super::state::State;
use super::{Commit, StoreError, VERSION};
use crate::limits;
use crate::link::{Codec, LINK_BYTES, Link};

/// Digest and codec of a block -> segment, offset, length (u32 each, little endian).
const BLOCKS: TableDefinition<'_, [u8; 33], [u8; 12]> = TableDefinition::new("blocks");
/// Running number -> link and signed bytes of a manifest.
const MANIFESTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("manifests");
/// Link of a manifest -> its number.
const MANIFEST_NUMBERS: TableDefinition<'_, [u8; LINK_BYTES], u64> = TableDefinition::new("manifest numbers");
/// Named values.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Links of the manifests whose content was dropped -> nothing. Made when it is first needed.
const DROPPED: TableDefinition<'_, [u8; LINK_BYTES], ()> = TableDefinition::new("dropped");
/// The store's own: "version", "segment", "end" and "state" (see [`End`]), and "commits", how many there were.
const STATE: TableDefinition<'_, &str, u64> = TableDefinition::new("state");

/// How many manifests one read transaction gives.
const MANIFESTS_AT_ONCE: usize = 256;
/// How many blocks one read transaction gives.
const BLOCKS_AT_ONCE: usize = 4_096;

pub(super) struct Index {
    disk: Disk,
    path: PathBuf,
    opened: RwLock<Opened>,
    /// redb has to be opened again before it is of use.
    broken: AtomicBool,
    /// The number of the last commit that was reported as done.
    reported: AtomicU64,
    /// The number of the last commit that was found: one that failed may be there.
    found: AtomicU64,
}

struct Opened {
    /// None only if it could not be opened again after an error.
    db: Option<Database>,
    file: IndexFile,
    /// What is written stays in memory: a sync of the file failed, and it could not be renewed yet.
    read_only: bool,
}

impl Index {
    /// Makes an empty index where none is.
    pub(super) fn create(disk: &Disk, path: PathBuf, doubt: Doubt) -> Result<Self, StoreError> {
        let file = disk.open(&path, Open::Create).map_err(|source| StoreError::io("create", &path, source))?;
        if file.len().map_err(|source| StoreError::io("look at", &path, source))? > 0 {
            return Err(StoreError::io("create", &path, io::ErrorKind::AlreadyExists.into()));
        }
        let index = Self::start(disk, path, IndexFile::new(Arc::new(file), doubt))?;
        index.write(|transaction| {
            transaction.open_table(BLOCKS)?;
            transaction.open_table(MANIFESTS)?;
            transaction.open_table(MANIFEST_NUMBERS)?;
            transaction.open_table(META)?;
            transaction.open_table(STATE)?.insert("version", u64::from(VERSION))?;
            Ok(())
        })?;
        Ok(index)
    }

    pub(super) fn open(disk: &Disk, path: PathBuf, doubt: Doubt) -> Result<Self, StoreError> {
        let file = disk.open(&path, Open::Write).map_err(|source| StoreError::io("open", &path, source))?;
        if file.len().map_err(|source| StoreError::io("look at", &path, source))? == 0 {
            return Err(StoreError::damaged(format!("{} is empty", path.display())));
        }
        let index = Self::start(disk, path, IndexFile::new(Arc::new(file), doubt))?;
        let (version, commits) = index.read(|transaction| {
            transaction.open_table(BLOCKS)?;
            transaction.open_table(MANIFESTS)?;
            transaction.open_table(MANIFEST_NUMBERS)?;
            transaction.open_table(META)?;
            let version = transaction.open_table(STATE)?.get("version")?.map(|version| version.value());
            Ok((version, commits(transaction)?))
        })?;
        index.reported.store(commits, Ordering::Release);
        match version.map(u32::try_from) {
            Some(Ok(VERSION)) => Ok(index),
            Some(Ok(version)) => Err(StoreError::Version { path: index.path.clone(), version }),
            _ => Err(index.damaged("has no version")),
        }
    }

    fn start(disk: &Disk, path: PathBuf, file: IndexFile) -> Result<Self, StoreError> {
        let opened = RwLock::new(Opened { db: None, file, read_only: false });
        let (broken, reported, found) = (AtomicBool::new(true), AtomicU64::new(0), AtomicU64::new(0));
        let index = Self { disk: disk.clone(), path, opened, broken, reported, found };
        index.mend()?;
        Ok(index)
    }

    /// What was made as a copy is in its place, durably.
    pub(super) fn is_in_place(&self) -> Result<(), StoreError> {
        self.opened.read().file.is_in_place().map_err(|source| StoreError::io("write the lock of", &self.path, source))
    }

    /// Bytes of its file.
    pub(super) fn bytes(&self) -> Result<u64, StoreError> {
        let bytes = self.opened.read().file.file.len();
        bytes.map_err(|source| StoreError::io("look at", &self.path, source))
    }

    /// Up to where the segments were filled at the last commit.
    pub(super) fn end(&self) -> Result<End, StoreError> {
        let (segment, offset, record) = self.read(|transaction| {
            let state = transaction.open_table(STATE)?;
            let value = |key| Ok::<_, redb::Error>(state.get(key)?.map_or(0, |value| value.value()));
            Ok((value("segment")?, value("end")?, value("state")?))
        })?;
        let segment = u32::try_from(segment).ok().filter(|segment| *segment < u32::MAX);
        match segment {
            Some(segment) if offset <= limits::SEGMENT_BYTES => Ok(End { segment, offset, state: record }),
            _ => Err(self.damaged("says that segments end where none can")),
        }
    }

    pub(super) fn place(&self, link: &Link) -> Result<Option<Place>, StoreError> {
        self.read(|transaction| Ok(transaction.open_table(BLOCKS)?.get(key(link))?.map(|value| place(value.value()))))
    }

    pub(super) fn blocks(&self) -> Result<u64, StoreError> {
        self.read(|transaction| Ok(transaction.open_table(BLOCKS)?.len()?))
    }

    /// Some blocks behind the one that `after` names, which becomes the last of them. None are left if it gives none.
    pub(super) fn blocks_after(&self, after: &mut Option<Link>) -> Result<Vec<(Link, Place)>, StoreError> {
        let from = after.map_or([0; 33], |link| key(&link));
        let rows = self.read(|transaction| {
            let mut rows = Vec::new();
            for row in transaction.open_table(BLOCKS)?.range(from..)?.take(BLOCKS_AT_ONCE + 1) {
                let (key, value) = row?;
                rows.push((key.value(), place(value.value())));
            }
            Ok(rows)
        })?;
        let rows = rows.into_iter().filter(|(key, _)| after.is_none() || *key != from);
        let named = rows.map(|(key, place)| Some((link(key)?, place))).collect::<Option<Vec<_>>>();
        let named = named.ok_or_else(|| self.damaged("has a block of an unknown codec"))?;
        *after = named.last().map(|(link, _)| *link).or(*after);
        Ok(named)
    }

    /// All named values.
    pub(super) fn all_meta(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        self.read(|transaction| {
            let mut all = BTreeMap::new();
            for row in transaction.open_table(META)?.iter()? {
                let (key, value) = row?;
                all.insert(key.value().to_owned(), value.value().to_vec());
            }
            Ok(all)
        })
    }

    /// Makes an empty index one that goes on at this commit, with these values.
    pub(super) fn restore(&self, commits: u64, meta: &BTreeMap<String, Vec<u8>>) -> Result<(), StoreError> {
        self.reported.fetch_max(commits, Ordering::AcqRel);
        self.write(|transaction| {
            let mut table = transaction.open_table(META)?;
            for (key, value) in meta {
                table.insert(key.as_str(), value.as_slice())?;
            }
            Ok(())
        })
    }

    /// The number of the last commit that is there.
    pub(super) fn commits(&self) -> u64 {
        self.reported.load(Ordering::Acquire).max(self.found.load(Ordering::Acquire))
    }

    /// Removes rows, as far as they still say the same, in one durable transaction.
    pub(super) fn remove(&self, blocks: &[(Link, Place)]) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(BLOCKS)?;
            for (link, was) in blocks {
                let found = table.get(key(link))?.map(|row| place(row.value()));
                if found == Some(*was) {
                    table.remove(key(link))?;
                }
            }
            Ok(())
        })
    }

    pub(super) fn note_dropped(&self, manifests: &[Link]) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(DROPPED)?;
            for link in manifests {
                table.insert(link.to_bytes(), ())?;
            }
            Ok(())
        })
    }

    pub(super) fn give_up(&self, manifests: &[Link]) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(MANIFESTS)?;
            let mut numbers = transaction.open_table(MANIFEST_NUMBERS)?;
            for link in manifests {
                let number = numbers.remove(link.to_bytes())?.map(|number| number.value());
                if let Some(number) = number {
                    table.remove(number)?;
                }
            }
            Ok(())
        })
    }

    pub(super) fn dropped(&self) -> Result<HashSet<Link>, StoreError> {
        let rows = self.read(|transaction| {
            let table = match transaction.open_table(DROPPED) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            table.iter()?.map(|row| Ok(row?.0.value())).collect::<Result<Vec<_>, redb::Error>>()
        })?;
        let links = rows.iter().map(|row| Link::from_bytes(row));
        links.collect::<Result<_, _>>().map_err(|_| self.damaged("names a version that can not be"))
    }

    pub(super) fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|transaction| Ok(transaction.open_table(META)?.get(key)?.map(|value| value.value().to_vec())))
    }

    pub(super) fn manifest(&self, link: &Link) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.read(|transaction| {
            let Some(number) = transaction.open_table(MANIFEST_NUMBERS)?.get(link.to_bytes())? else {
                return Ok(None);
            };
            Ok(transaction.open_table(MANIFESTS)?.get(number.value())?.map(|row| row.value().to_vec()))
        })?;
        row.map(|row| self.split_manifest(&row).map(|(_, bytes)| bytes)).transpose()
    }

    /// Some manifests from the number `numbers.start` on, which is moved behind them. None are left if it gives none.
    pub(super) fn manifests(&self, numbers: &mut RangeFrom<u64>) -> Result<Vec<(Link, Vec<u8>)>, StoreError> {
        let rows = self.read(|transaction| {
            let mut rows = Vec::new();
            for row in transaction.open_table(MANIFESTS)?.range(numbers.clone())?.take(MANIFESTS_AT_ONCE) {
                let (number, row) = row?;
                rows.push((number.value(), row.value().to_vec()));
            }
            Ok(rows)
        })?;
        if let Some((last, _)) = rows.last() {
            numbers.start = last + 1;
        }
        rows.iter().map(|(_, row)| self.split_manifest(row)).collect()
    }

    fn split_manifest(&self, row: &[u8]) -> Result<(Link, Vec<u8>), StoreError> {
        let (head, bytes) = row.split_at_checked(LINK_BYTES).ok_or_else(|| self.damaged("has a torn manifest"))?;
        let link = Link::from_bytes(head).map_err(|_| self.damaged("has a manifest without a link"))?;
        Ok((link, bytes.to_vec()))
    }

    /// Everything in one durable transaction. After an error it is not known whether it is there, and the same can be
    /// committed again.
    pub(super) fn commit<'a>(
        &self,
        end: End,
        blocks: impl Iterator<Item = (&'a Link, &'a Place)>,
        commit: &Commit,
    ) -> Result<(), StoreError> {
        let blocks = sorted(blocks);
        self.write(|transaction| {
            insert(transaction, end, &blocks, &commit.manifests)?;
            let mut meta = transaction.open_table(META)?;
            for (key, value) in &commit.meta {
                match value {
                    Some(value) => drop(meta.insert(key, value.as_slice())?),
                    None => drop(meta.remove(key)?),
                }
            }
            Ok(())
        })
    }

    /// [`Index::commit`] of what was found in the segments, under its number.
    pub(super) fn roll_forward(
        &self,
        state: &State,
        end: End,
        blocks: &HashMap<Link, Place>,
        manifests: &[(Link, Vec<u8>)],
    ) -> Result<(), StoreError> {
        let blocks = sorted(blocks.iter());
        self.write_as(Some(state.commits), |transaction| {
            insert(transaction, end, &blocks, manifests)?;
            let mut meta = transaction.open_table(META)?;
            meta.retain(|key, _| state.meta.contains_key(key))?;
            for (key, value) in &state.meta {
                meta.insert(key.as_str(), value.as_slice())?;
            }
            Ok(())
        })
    }

    fn read<T>(&self, read: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.mend()?;
        let opened = self.opened.read();
        let db = opened.db.as_ref().ok_or_else(|| self.closed())?;
        let result = guard(&self.path, || read(&db.begin_read()?));
        // Damage is where it is, however often the file is opened.
        if matches!(result, Err(StoreError::Io { .. } | StoreError::Full(_))) {
            self.broken.store(true, Ordering::Release);
        }
        result
    }

    /// One durable transaction, with the next number.
    fn write(&self, write: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>) -> Result<(), StoreError> {
        self.write_as(None, write)
    }

    fn write_as(
        &self,
        number: Option<u64>,
        write: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        self.mend()?;
        if self.opened.read().read_only {
            self.renew()?;
        }
        let number = number.unwrap_or_else(|| self.commits().saturating_add(1));
        let written = {
            let opened = self.opened.read();
            let db = opened.db.as_ref().ok_or_else(|| self.closed())?;
            guard(&self.path, || {
                // Not redb's quick repair, which makes each commit slower: see the README.
                let transaction = db.begin_write()?;
                transaction.open_table(STATE)?.insert("commits", number)?;
                write(&transaction)?;
                Ok(transaction.commit()?)
            })
        };
        if written.is_ok() {
            self.reported.fetch_max(number, Ordering::AcqRel);
        } else {
            self.broken.store(true, Ordering::Release);
            // At once, so that a reader does not have to.
            self.mend().unwrap_or_else(|error| tracing::error!(%error, "the index can not be opened again"));
        }
        written
    }

    /// Opens redb, at first and after an error.
    fn mend(&self) -> Result<(), StoreError> {
        if !self.broken.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut opened = self.opened.write();
        if !self.broken.load(Ordering::Acquire) {
            return Ok(());
        }
        close(opened.db.take());
        if !opened.read_only && !opened.file.is_doubtful() {
            let db = guard(&self.path, || Ok(builder().create_with_backend(opened.file.clone())?));
            // What an open writes is synced, which may fail in turn.
            if db.is_ok() || !opened.file.is_doubtful() {
                opened.db = Some(self.look_at(db?)?);
                self.broken.store(false, Ordering::Release);
                return Ok(());
            }
        }
        if let Err(error) = self.replace(&mut opened) {
            tracing::error!(%error, "the index is only read until a copy of it is on the disk");
            let file = ReadOnly::new(opened.file.file.clone());
            let file = file.map_err(|source| StoreError::io("look at", &self.path, source))?;
            opened.db = Some(self.look_at(guard(&self.path, || Ok(builder().create_with_backend(file)?))?)?);
            opened.read_only = true;
        }
        self.broken.store(false, Ordering::Release);
        Ok(())
    }

    /// Finds out which commit is there: the next one has a later number, also if this one failed.
    fn look_at(&self, db: Database) -> Result<Database, StoreError> {
        self.found.store(guard(&self.path, || commits(&db.begin_read()?))?, Ordering::Release);
        Ok(db)
    }

    /// Puts a copy in the place of a file that can only be read.
    fn renew(&self) -> Result<(), StoreError> {
        let mut opened = self.opened.write();
        if opened.read_only { self.replace(&mut opened) } else { Ok(()) }
    }

    fn replace(&self, opened: &mut Opened) -> Result<(), StoreError> {
        let path = self.path.with_extension("new");
        let copy = self.disk.open(&path, Open::Anew).and_then(|file| opened.file.copy(file));
        let copy = copy.map_err(|source| StoreError::io("copy the index to", &path, source))?;
        let db = guard(&path, || Ok(builder().set_check_integrity_on_open(true).create_with_backend(copy.clone())?))?;
        let number = guard(&path, || commits(&db.begin_read()?))?;
        if number < self.reported.load(Ordering::Acquire) {
            close(Some(db));
            return Err(self.damaged("has lost what was committed"));
        }
        let renamed = self.disk.rename(&path, &self.path).and_then(|()| match self.path.parent() {
            Some(dir) => self.disk.sync_dir(dir),
            None => Ok(()),
        });
        let renamed = renamed.and_then(|()| copy.is_in_place());
        if let Err(source) = renamed {
            close(Some(db));
            return Err(StoreError::io("replace", &self.path, source));
        }
        close(opened.db.take());
        *opened = Opened { db: Some(db), file: copy, read_only: false };
        self.reported.store(number, Ordering::Release);
        self.found.store(number, Ordering::Release);
        Ok(())
    }

    fn closed(&self) -> StoreError {
        let source = io::Error::other("it could not be opened again after an error");
        StoreError::Io { doing: "use", path: self.path.clone(), source }
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::damaged(format!("{} {what}", self.path.display()))
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        close(self.opened.get_mut().db.take());
    }
}

/// Its last words may fail: they are only a shortcut for the next start.
fn close(db: Option<Database>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
}

fn commits(transaction: &redb::ReadTransaction) -> Result<u64, redb::Error> {
    match transaction.open_table(STATE) {
        // It is being made.
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(0),
        table => Ok(table?.get("commits")?.map_or(0, |commits| commits.value())),
    }
}

/// In the order of the table: digests are random, and a page is then written once.
fn sorted<'a>(blocks: impl Iterator<Item = (&'a Link, &'a Place)>) -> Vec<([u8; 33], [u8; 12])> {
    let mut blocks: Vec<_> = blocks.map(|(link, place)| (key(link), value(place))).collect();
    blocks.sort_unstable();
    blocks
}

fn insert(
    transaction: &redb::WriteTransaction,
    end: End,
    blocks: &[([u8; 33], [u8; 12])],
    manifests: &[(Link, Vec<u8>)],
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(BLOCKS)?;
    for (key, value) in blocks {
        table.insert(key, value)?;
    }
    let mut state = transaction.open_table(STATE)?;
    state.insert("segment", u64::from(end.segment))?;
    state.insert("end", end.offset)?;
    state.insert("state", end.state)?;
    let mut table = transaction.open_table(MANIFESTS)?;
    let mut numbers = transaction.open_table(MANIFEST_NUMBERS)?;
    let mut next = table.last()?.map_or(0, |(number, _)| number.value() + 1);
    for (link, bytes) in manifests {
        if numbers.get(link.to_bytes())?.is_none() {
            numbers.insert(link.to_bytes(), next)?;
            table.insert(next, [&link.to_bytes()[..], bytes].concat().as_slice())?;
            next += 1;
        }
    }
    Ok(())
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(limits::INDEX_CACHE_BYTES);
    builder
}

/// Runs a call into redb: its errors become ours, and a panic means that the file is damaged.
fn guard<T>(path: &Path, call: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| translate(path, error)),
        Err(_) => Err(StoreError::damaged(format!("{} can not be read", path.display()))),
    }
}

fn translate(path: &Path, error: redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::Locked(path.to_owned()),
        redb::Error::Io(source) => match source.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                StoreError::damaged(format!("{} is not an index", path.display()))
            }
            _ => StoreError::io("use", path, source),
        },
        redb::Error::PreviousIo => StoreError::io("use", path, io::Error::other("an earlier error")),
        other => StoreError::damaged(format!("{}: {other}", path.display())),
    }
}

fn key(link: &Link) -> [u8; 33] {
    let mut key = [0; 33];
    key[..32].copy_from_slice(link.digest());
    key[32] = link.codec().code() as u8;
    key
}

fn link(key: [u8; 33]) -> Option<Link> {
    let codec = Codec::of(key[32].into())?;
    let (digest, _) = key.split_first_chunk::<32>()?;
    Some(Link::from_parts(codec, *digest))
}

fn value(place: &Place) -> [u8; 12] {
    let mut value = [0; 12];
    value[..4].copy_from_slice(&place.segment.to_le_bytes());
    value[4..8].copy_from_slice(&place.offset.to_le_bytes());
    value[8..].copy_from_slice(&place.len.to_le_bytes());
    value
}

fn place([a, b, c, d, e, f, g, h, i, j, k, l]: [u8; 12]) -> Place {
    Place {
        segment: u32::from_le_bytes([a, b, c, d]),
        offset: u32::from_le_bytes([e, f, g, h]),
        len: u32::from_le_bytes([i, j, k, l]),
    }
}
