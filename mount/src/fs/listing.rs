//! Listing directories.
//!
//! An offset stands for a name that this handle has shown. The handle remembers the names, so that a listing that is taken up
//! at any offset goes on behind that name, whatever came and went meanwhile.

mod shown;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use jaxfs_sync::tree::{DirEntry, DirectoryBody, Kind, Name, Target};

use super::Fs;
use super::attributes::Stat;
use super::table::{Directory, Ino, Links};
use crate::errno::FsError;
use crate::limits;
use shown::Shown;

/// What a directory handle remembers.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    shown: Shown,
    /// A name was passed over, because what it leads to can not be read. Whoever comes to the end is told.
    unreadable: bool,
}

impl Listing {
    /// Takes the listing up at an offset: behind which name.
    fn seek(&mut self, offset: u64) -> Result<Option<Name>, FsError> {
        match offset {
            0 => {
                *self = Self::default();
                Ok(None)
            }
            1 | 2 => Ok(None),
            _ => self.shown.behind(offset).map(Some).ok_or(FsError::Invalid),
        }
    }
}

/// An entry to be shown.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) name: Vec<u8>,
    /// Where to go on behind it.
    pub(crate) offset: u64,
    pub(crate) ino: Ino,
    pub(crate) kind: Kind,
    /// In a listing with attributes.
    pub(crate) stat: Option<Stat>,
}

/// An entry before it is known what it looks like.
enum Found {
    Changed(Ino),
    Stored(Target),
}

/// The next names of a directory, and the stored tree that they were read from.
struct Page {
    base: DirectoryBody,
    entries: Vec<(Name, Found)>,
}

impl Fs {
    /// Shows entries from `offset` on to `show`, in order, until it says that it is full. With `attributes`, the kernel
    /// then holds one lookup of each entry that was shown, but for `.` and `..`.
    pub(crate) fn list(
        &self,
        ino: Ino,
        handle: u64,
        offset: u64,
        attributes: bool,
        mut show: impl FnMut(&Listed) -> bool,
    ) -> Result<(), FsError> {
        let listing = self.directory_handle(handle)?;
        let mut listing = listing.lock();
        for (number, name) in [(1, &b"."[..]), (2, b"..")] {
            if number > offset {
                let table = self.table.lock();
                let home = table.get(ino).ok_or(FsError::NotFound)?.home.as_ref().map_or(Ino::ROOT, |home| home.0);
                let ino = if number == 1 { ino } else { home };
                let stat = if attributes { Some(self.stat(&table, ino)?) } else { None };
                drop(table);
                if show(&Listed { name: name.to_vec(), offset: number, ino, kind: Kind::Directory, stat }) {
                    return Ok(());
                }
            }
        }
        let mut behind = listing.seek(offset)?;
        // What was shown counts; who goes on behind it meets the error.
        let mut empty = offset >= 2;
        loop {
            let page = match self.page(ino, behind.as_ref()) {
                Ok(page) => page,
                Err(error) => return if empty { Err(error) } else { Ok(()) },
            };
            if page.entries.is_empty() {
                return if empty && listing.unreadable { Err(FsError::Io) } else { Ok(()) };
            }
            for (name, found) in &page.entries {
                behind = Some(name.clone());
                let offset = listing.shown.offset(name);
                let listed = match attributes {
                    true => self.listed_with_stat(ino, &page.base, name, found, offset),
                    false => Ok(self.listed(name, found, offset)),
                };
                listing.unreadable |= listed.is_err();
                let Ok(Some(listed)) = listed else { continue };
                empty = false;
                if show(&listed) {
                    if attributes {
                        self.table.lock().forget(listed.ino, 1);
                    }
                    return Ok(());
                }
            }
        }
    }

    /// The next names of a directory, in order: those stored and those changed, merged. Empty only at the end.
    fn page(&self, ino: Ino, after: Option<&Name>) -> Result<Page, FsError> {
        let mut after = after.cloned();
        loop {
            let _using = self.using.read();
            let base = self.table.lock().directory(ino).ok_or(FsError::NotDirectory)?.base.clone();
            let after_now = after.as_ref();
            let stored =
                base.list(self.vault(), after_now).take(limits::LISTING_PAGE).collect::<Result<Vec<_>, _>>()?;
            let table = self.table.lock();
            let directory = table.directory(ino).ok_or(FsError::NotDirectory)?;
            if directory.base != base {
                continue;
            }
            let (entries, end) = merge(directory, stored, after_now);
            match end {
                // A page of nothing but removed names is not the end of the directory.
                Some(end) if entries.is_empty() => after = Some(end),
                _ => return Ok(Page { base, entries }),
            }
        }
    }

    /// What a listing without attributes shows of an entry; `None` if it went away meanwhile.
    fn listed(&self, name: &Name, found: &Found, offset: u64) -> Option<Listed> {
        let table = self.table.lock();
        let (ino, kind) = match found {
            Found::Changed(ino) => (*ino, table.get(*ino)?.kind()),
            Found::Stored(target) => (table.find(target.id()).unwrap_or_else(|free| free), target.kind()),
        };
        Some(Listed { name: name.to_vec(), offset, ino, kind, stat: None })
    }

    /// What a listing with attributes shows of an entry, for which the kernel then holds a lookup more; `None` if it went
    /// away meanwhile. That one can not be read is no reason to show nothing of the directory.
    fn listed_with_stat(
        &self,
        parent: Ino,
        base: &DirectoryBody,
        name: &Name,
        found: &Found,
        offset: u64,
    ) -> Result<Option<Listed>, FsError> {
        let stat = match self.known(parent, base, name, found) {
            Some(stat) => Some(stat),
            None => self.lookup(parent, name)?,
        };
        let listed =
            |stat: Stat| Listed { name: name.to_vec(), offset, ino: stat.ino, kind: stat.kind, stat: Some(stat) };
        Ok(stat.map(listed))
    }

    /// Describes an entry as it was found, if that still stands and nothing more has to be read for it.
    fn known(&self, parent: Ino, base: &DirectoryBody, name: &Name, found: &Found) -> Option<Stat> {
        let mut table = self.table.lock();
        let directory = table.directory(parent)?;
        let ino = match (found, directory.changed(name)) {
            (Found::Changed(ino), Some(Some(now))) if now == *ino => *ino,
            (Found::Stored(Target::Record(record)), None) if directory.base == *base => {
                table.load(record, Links::Home(parent, name.clone()), |record| self.object(record))
            }
            _ => return None,
        };
        table.looked_up(ino, 1);
        self.stat(&table, ino).ok()
    }
}

/// Merges a page of stored entries with the changes of the directory. Gives what is left of it, and its last name if
/// there may be more behind it.
fn merge(directory: &Directory, stored: Vec<DirEntry>, after: Option<&Name>) -> (Vec<(Name, Found)>, Option<Name>) {
    let mut end = full_page_end(stored.iter().map(|entry| &entry.name));
    let mut page: BTreeMap<Name, Option<Found>> =
        stored.into_iter().map(|entry| (entry.name, Some(Found::Stored(entry.target)))).collect();
    let behind = (after.map_or(Unbounded, Excluded), Unbounded);
    for changes in [directory.frozen.as_deref(), Some(&directory.changes)].into_iter().flatten() {
        let changes = || changes.range::<Name, _>(behind).take(limits::LISTING_PAGE);
        end = match (end, full_page_end(changes().map(|(name, _)| name))) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        page.extend(changes().map(|(name, to)| (name.clone(), to.map(Found::Changed))));
    }
    let within = |name: &Name| end.as_ref().is_none_or(|end| name <= end);
    let page = page.into_iter().filter(|(name, _)| within(name)).filter_map(|(name, found)| Some((name, found?)));
    (page.collect(), end)
}

/// The last of a full page of names; none if the page is not full, and so nothing is behind it.
fn full_page_end<'a>(mut names: impl Iterator<Item = &'a Name>) -> Option<Name> {
    names.nth(limits::LISTING_PAGE - 1).cloned()
}
