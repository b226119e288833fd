//! Listing directories.
//!
//! An offset is the number of an entry in the order in which this handle showed them. The handle remembers the names, so
//! that a listing that is taken up at any offset goes on behind that name, whatever came and went meanwhile.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use jaxfs_sync::tree::{DirEntry, Kind, Name, Target};

use super::Fs;
use super::attributes::Stat;
use super::table::{Directory, Ino, Links};
use crate::errno::FsError;
use crate::limits;

/// What a directory handle remembers.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Names that were shown; entry `n` has offset `n + 3`, after `.` and `..`.
    shown: Vec<Name>,
}

/// An entry to be shown.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) name: Vec<u8>,
    /// Where to go on behind it.
    pub(crate) offset: u64,
    pub(crate) ino: Ino,
    pub(crate) kind: Kind,
    /// What a listing with attributes says of it; `None` where the kernel has to look it up.
    pub(crate) stat: Option<Stat>,
}

/// An entry before it is known what it looks like.
enum Found {
    Changed(Ino),
    Stored(Target),
}

impl Fs {
    /// Shows entries from `offset` on to `show`, in order, until it says that it is full. With `attributes`, the kernel
    /// then holds one lookup of each entry that was shown with a [`Stat`], but for `.` and `..`.
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
        let shown = usize::try_from(offset.saturating_sub(2)).map_err(|_| FsError::Invalid)?;
        if shown > listing.shown.len() {
            return Err(FsError::Invalid);
        }
        listing.shown.truncate(shown);
        loop {
            let page = self.page(ino, listing.shown.last())?;
            if page.is_empty() {
                return Ok(());
            }
            for (name, found) in page {
                let offset = listing.shown.len() as u64 + 3;
                let Some(listed) = self.describe_entry(ino, &name, found, offset, attributes)? else { continue };
                listing.shown.push(name);
                if show(&listed) {
                    listing.shown.pop();
                    if attributes && listed.stat.is_some() {
                        self.table.lock().forget(listed.ino, 1);
                    }
                    return Ok(());
                }
            }
        }
    }

    /// The next names of a directory, in order: those stored and those changed, merged. Empty only at the end.
    fn page(&self, ino: Ino, after: Option<&Name>) -> Result<Vec<(Name, Found)>, FsError> {
        let mut after = after.cloned();
        loop {
            let base = self.table.lock().directory(ino).ok_or(FsError::NotDirectory)?.base.clone();
            let after_now = after.as_ref();
            let stored =
                base.list(self.vault(), after_now).take(limits::LISTING_PAGE).collect::<Result<Vec<_>, _>>()?;
            let table = self.table.lock();
            let directory = table.directory(ino).ok_or(FsError::NotDirectory)?;
            if directory.base != base {
                continue;
            }
            let (page, end) = merge(directory, stored, after_now);
            match end {
                // A page of nothing but removed names is not the end of the directory.
                Some(end) if page.is_empty() => after = Some(end),
                _ => return Ok(page),
            }
        }
    }

    /// What is shown of an entry; `None` if it went away meanwhile.
    fn describe_entry(
        &self,
        parent: Ino,
        name: &Name,
        found: Found,
        offset: u64,
        attributes: bool,
    ) -> Result<Option<Listed>, FsError> {
        let mut table = self.table.lock();
        let (ino, kind) = match &found {
            Found::Changed(ino) => {
                let Some(inode) = table.get(*ino) else { return Ok(None) };
                (Some(*ino), inode.kind())
            }
            Found::Stored(target) => {
                let ino = match target {
                    // What a name led to when the page was read may have changed: then the kernel has to ask.
                    _ if table.directory(parent).is_none_or(|directory| directory.changed(name).is_some()) => None,
                    Target::Record(record) if attributes => {
                        let links = Links::Home(parent, name.clone());
                        Some(table.load(record, links, |record| self.object(record)))
                    }
                    _ => table.find(target.id()).ok(),
                };
                (ino, target.kind())
            }
        };
        let stat = match ino {
            Some(ino) if attributes => {
                table.looked_up(ino, 1);
                Some(self.stat(&table, ino)?)
            }
            _ => None,
        };
        let ino = ino.unwrap_or_else(|| match &found {
            Found::Changed(ino) => *ino,
            Found::Stored(target) => table.find(target.id()).unwrap_or_else(|free| free),
        });
        Ok(Some(Listed { name: name.to_vec(), offset, ino, kind, stat }))
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
