//! What differs between two versions: names that lead elsewhere, and files that are not what or where they were.
//!
//! Directories are compared by their id, wherever they are, link by link: parts that both versions share are not read. So a
//! look at it takes O(what differs) of time and memory.
//!
//! Total on what comes from others: where an id stands twice in a version, the place that is met first counts.

#[cfg(test)]
pub(super) mod tests;

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::btree::{Difference, Tree};
use super::directory::{DirEntry, DirectoryBody, Target};
use super::name::Name;
use super::record::{FileId, Record};
use super::root::{SharedInode, Superblock};
use super::vault::{TreeError, Vault};

/// What two versions do not agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Names by directory that lead to one file in the first version, and to another or none in the second, or the other way
    /// round.
    pub names: BTreeMap<(FileId, Name), Sides<FileId>>,
    /// Files other than the root whose record, or only name, is not the same in both. The names in a directory are a part
    /// of its record.
    ///
    /// Left out is what is below a directory that only the second version has, unless something may be there that the first
    /// has elsewhere.
    pub files: BTreeMap<FileId, Sides<Placed>>,
}

/// What the first version has, and the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sides<T> {
    /// In the first.
    pub old: Option<T>,
    /// In the second.
    pub new: Option<T>,
}

impl<T> Default for Sides<T> {
    fn default() -> Self {
        Self { old: None, new: None }
    }
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// What it is.
    pub record: Box<Record>,
    /// Where.
    pub links: Links,
}

/// What is known of a file's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Links {
    /// Its only one: in which directory, and which.
    One(FileId, Name),
    /// How many: its record is in the table of shared inodes.
    Shared(u64),
}

impl Differences {
    /// Finds out what differs between two versions that the vault has.
    ///
    /// # Errors
    /// If a part of one that the other does not share can not be read.
    pub fn between(vault: &Vault, old: &Superblock, new: &Superblock) -> Result<Self, TreeError> {
        let mut search =
            Search { vault, found: Self::default(), done: HashSet::new(), queue: VecDeque::new(), left: 0 };
        search.shared(&old.inodes, &new.inodes)?;
        search.root(&old.root, &new.root)?;
        search.run()?;
        let Self { mut names, mut files } = search.found;
        names.retain(|_, sides| sides.old != sides.new);
        files.retain(|_, sides| sides.old != sides.new);
        files.remove(&new.root.id);
        files.remove(&old.root.id);
        Ok(Self { names, files })
    }
}

/// Directories that have been compared, or listed on one side.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Done {
    Both,
    Old,
    New,
}

struct Search<'a> {
    vault: &'a Vault,
    found: Differences,
    done: HashSet<(FileId, Done)>,
    /// Directories that were found on one side, and perhaps on the other.
    queue: VecDeque<FileId>,
    /// Files that only the first version was found to have so far.
    left: usize,
}

impl Search<'_> {
    fn shared(&mut self, old: &Tree<SharedInode>, new: &Tree<SharedInode>) -> Result<(), TreeError> {
        for difference in old.diff(self.vault, new) {
            let Difference { old, new } = difference?;
            let placed =
                |inode: SharedInode| Placed { record: Box::new(inode.record), links: Links::Shared(inode.nlink) };
            old.map(placed).into_iter().for_each(|placed| self.in_old(placed));
            new.map(placed).into_iter().for_each(|placed| self.in_new(placed));
        }
        Ok(())
    }

    fn root(&mut self, old: &Record, new: &Record) -> Result<(), TreeError> {
        let empty = DirectoryBody::empty();
        let (before, after) = (old.directory().unwrap_or(&empty), new.directory().unwrap_or(&empty));
        for id in [old.id, new.id] {
            self.done.extend([(id, Done::Old), (id, Done::New)]);
        }
        self.compare(new.id, before, after)
    }

    /// Goes into directories: first those that both have, then those that are gone, and last the new ones.
    fn run(&mut self) -> Result<(), TreeError> {
        let (mut gone, mut came) = (VecDeque::new(), VecDeque::new());
        loop {
            while let Some(id) = self.queue.pop_front() {
                if !self.both(id)? {
                    let is_old = self.directory(id, Done::Old).is_some();
                    if is_old { gone.push_back(id) } else { came.push_back(id) }
                }
            }
            let Some(id) = gone.pop_front().or_else(|| came.pop_front()) else { return Ok(()) };
            if self.both(id)? {
                continue;
            }
            self.list(id, Done::Old)?;
            if self.left > 0 {
                self.list(id, Done::New)?;
            }
        }
    }

    /// What one side's directory has.
    fn directory(&self, id: FileId, side: Done) -> Option<DirectoryBody> {
        let sides = self.found.files.get(&id)?;
        let placed = if side == Done::Old { &sides.old } else { &sides.new };
        placed.as_ref()?.record.directory().cloned()
    }

    /// Compares a directory that both have; false if one does not, as far as is known.
    fn both(&mut self, id: FileId) -> Result<bool, TreeError> {
        let (Some(old), Some(new)) = (self.directory(id, Done::Old), self.directory(id, Done::New)) else {
            return Ok(false);
        };
        if self.done.contains(&(id, Done::Old)) || self.done.contains(&(id, Done::New)) {
            self.list(id, Done::Old)?;
            self.list(id, Done::New)?;
        } else if self.done.insert((id, Done::Both)) {
            self.compare(id, &old, &new)?;
        }
        Ok(true)
    }

    /// Takes in all that a directory has on one side.
    fn list(&mut self, id: FileId, side: Done) -> Result<(), TreeError> {
        let Some(names) = self.directory(id, side) else { return Ok(()) };
        let empty = DirectoryBody::empty();
        match side {
            _ if !self.done.insert((id, side)) => Ok(()),
            Done::Old => self.compare(id, &names, &empty),
            Done::New | Done::Both => self.compare(id, &empty, &names),
        }
    }

    fn compare(&mut self, id: FileId, old: &DirectoryBody, new: &DirectoryBody) -> Result<(), TreeError> {
        for difference in old.diff(self.vault, new) {
            let Difference { old, new } = difference?;
            old.into_iter().for_each(|entry| self.entry(id, entry, true));
            new.into_iter().for_each(|entry| self.entry(id, entry, false));
        }
        Ok(())
    }

    fn entry(&mut self, directory: FileId, DirEntry { name, target }: DirEntry, is_old: bool) {
        let sides = self.found.names.entry((directory, name.clone())).or_default();
        let side = if is_old { &mut sides.old } else { &mut sides.new };
        *side = Some(target.id());
        if let Target::Record(record) = target {
            let placed = Placed { record, links: Links::One(directory, name) };
            if is_old { self.in_old(placed) } else { self.in_new(placed) }
        }
    }

    fn in_old(&mut self, placed: Placed) {
        let id = placed.record.id;
        let is_directory = placed.record.directory().is_some();
        let sides = self.found.files.entry(id).or_default();
        if sides.old.is_some() {
            return;
        }
        sides.old = Some(placed);
        self.left += usize::from(sides.new.is_none());
        if is_directory {
            self.queue.push_back(id);
        }
    }

    fn in_new(&mut self, placed: Placed) {
        let id = placed.record.id;
        let is_directory = placed.record.directory().is_some();
        let sides = self.found.files.entry(id).or_default();
        if sides.new.is_some() {
            return;
        }
        self.left -= usize::from(sides.old.is_some());
        sides.new = Some(placed);
        if is_directory {
            self.queue.push_back(id);
        }
    }
}
