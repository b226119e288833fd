//! The border to redb: where blocks are, the manifests in their order, and named values.
//!
//! redb panics on some damaged files (an open without a full check trusts what it reads), so that every call goes
//! through [`guard`], which turns a panic into an error. After an I/O error redb refuses everything until it is opened
//! again, which [`Index::commit`] does by itself: a full disk must not take the store with it.

use std::fs::OpenOptions;
use std::io;
use std::ops::RangeFrom;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::pack::{End, Place};
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
/// The store's own: "version", "segment" and "end" (see [`End`]).
const STATE: TableDefinition<'_, &str, u64> = TableDefinition::new("state");

/// How many manifests one read transaction gives.
const MANIFESTS_AT_ONCE: usize = 256;

pub(super) struct Index {
    path: PathBuf,
    /// None only if it could not be opened again after an error.
    db: RwLock<Option<Database>>,
}

impl Index {
    pub(super) fn create(path: PathBuf) -> Result<Self, StoreError> {
        // Made here, so that its mode is ours from the beginning.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.map_err(|source| StoreError::io("create", &path, source))?;
        let db = guard(&path, || Ok(builder().create(&path)?))?;
        let index = Self { path, db: RwLock::new(Some(db)) };
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

    pub(super) fn open(path: PathBuf) -> Result<Self, StoreError> {
        let db = guard(&path, || Ok(builder().open(&path)?))?;
        let index = Self { path, db: RwLock::new(Some(db)) };
        let version = index.read(|transaction| {
            transaction.open_table(BLOCKS)?;
            transaction.open_table(MANIFESTS)?;
            transaction.open_table(MANIFEST_NUMBERS)?;
            transaction.open_table(META)?;
            Ok(transaction.open_table(STATE)?.get("version")?.map(|version| version.value()))
        })?;
        match version.map(u32::try_from) {
            Some(Ok(VERSION)) => Ok(index),
            Some(Ok(version)) => Err(StoreError::Version { path: index.path.clone(), version }),
            _ => Err(index.damaged("has no version")),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Up to where the segments were filled at the last commit.
    pub(super) fn end(&self) -> Result<End, StoreError> {
        let (segment, offset) = self.read(|transaction| {
            let state = transaction.open_table(STATE)?;
            let value = |key| Ok::<_, redb::Error>(state.get(key)?.map_or(0, |value| value.value()));
            Ok((value("segment")?, value("end")?))
        })?;
        let segment = u32::try_from(segment).ok().filter(|segment| *segment < u32::MAX);
        match segment {
            Some(segment) if offset <= limits::SEGMENT_BYTES => Ok(End { segment, offset }),
            _ => Err(self.damaged("says that segments end where none can")),
        }
    }

    pub(super) fn place(&self, link: &Link) -> Result<Option<Place>, StoreError> {
        self.read(|transaction| Ok(transaction.open_table(BLOCKS)?.get(key(link))?.map(|value| place(value.value()))))
    }

    pub(super) fn blocks(&self) -> Result<u64, StoreError> {
        self.read(|transaction| Ok(transaction.open_table(BLOCKS)?.len()?))
    }

    pub(super) fn for_each_block(&self, visit: &mut dyn FnMut(Link, u32)) -> Result<(), StoreError> {
        self.read(|transaction| {
            for row in transaction.open_table(BLOCKS)?.iter()? {
                let (key, value) = row?;
                match link(key.value()) {
                    Some(link) => visit(link, place(value.value()).len),
                    None => return Err(redb::Error::Corrupted("a block of an unknown codec".into())),
                }
            }
            Ok(())
        })
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

    /// Everything in one durable transaction. After an error nothing of it is there, and the index can be used again.
    pub(super) fn commit<'a>(
        &self,
        end: End,
        blocks: impl Iterator<Item = (&'a Link, &'a Place)>,
        commit: &Commit,
    ) -> Result<(), StoreError> {
        // In the order of the table: digests are random, and a page is then written once.
        let mut blocks: Vec<_> = blocks.map(|(link, place)| (key(link), value(place))).collect();
        blocks.sort_unstable();
        let result = self.write(|transaction| {
            let mut table = transaction.open_table(BLOCKS)?;
            for (key, value) in &blocks {
                table.insert(key, value)?;
            }
            let mut state = transaction.open_table(STATE)?;
            state.insert("segment", u64::from(end.segment))?;
            state.insert("end", end.offset)?;
            let mut meta = transaction.open_table(META)?;
            for (key, value) in &commit.meta {
                match value {
                    Some(value) => drop(meta.insert(key, value.as_slice())?),
                    None => drop(meta.remove(key)?),
                }
            }
            let mut manifests = transaction.open_table(MANIFESTS)?;
            let mut numbers = transaction.open_table(MANIFEST_NUMBERS)?;
            let mut next = manifests.last()?.map_or(0, |(number, _)| number.value() + 1);
            for (link, bytes) in &commit.manifests {
                if numbers.get(link.to_bytes())?.is_none() {
                    numbers.insert(link.to_bytes(), next)?;
                    manifests.insert(next, [&link.to_bytes()[..], bytes].concat().as_slice())?;
                    next += 1;
                }
            }
            Ok(())
        });
        if result.is_err() {
            self.reopen();
        }
        result
    }

    fn reopen(&self) {
        let mut db = self.db.write();
        // Closed before it is opened, since it holds a lock on the file. Its last words may fail: they are only a
        // shortcut for the next start.
        let old = db.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
        *db = guard(&self.path, || Ok(builder().open(&self.path)?)).ok();
    }

    fn read<T>(&self, read: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let db = self.db.read();
        let db = db.as_ref().ok_or_else(|| self.closed())?;
        guard(&self.path, || read(&db.begin_read()?))
    }

    fn write(&self, write: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>) -> Result<(), StoreError> {
        let db = self.db.read();
        let db = db.as_ref().ok_or_else(|| self.closed())?;
        guard(&self.path, || {
            // Not redb's quick repair, which makes each commit slower: see the README.
            let transaction = db.begin_write()?;
            write(&transaction)?;
            Ok(transaction.commit()?)
        })
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
        let db = self.db.get_mut().take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
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
    let codec = [Codec::Raw, Codec::DagCbor].into_iter().find(|codec| codec.code() == u64::from(key[32]))?;
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
