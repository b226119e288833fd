//! Putting the changes of one version onto another: a three-way merge.
//!
//! Both began as one version. What the first side changed since is done to what the second side has now: files are followed by
//! their id, wherever they are; what only one side changed of a file is taken from that side, field by field; equal changes are
//! one; of times the later one counts; what one side removed and the other changed stays; directories that both made under
//! one name become one. What can not be both is a conflict: then nothing is merged ([`merge`]), or all but that
//! ([`merge_in_part`]).
//!
//! Reads and writes O(what either side changed).

mod part;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};

pub use part::{LeftOut, Partial, merge_in_part};

use super::differences::{Differences, Links, Placed, Sides};
use super::directory::{DirEntry, DirectoryBody, Target};
use super::name::Name;
use super::record::{Body, FileId, Kind, Record, Time, Xattrs};
use super::root::{SharedInode, Superblock};
use super::vault::{TreeError, Vault};

/// What comes of a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Both, as one version, whose root is not stored yet.
    Clean(Box<Superblock>),
    /// What stands in the way.
    Conflicts(Vec<Conflict>),
}

/// Two changes that can not both be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The file that the first side changed.
    pub id: FileId,
    /// How that fails.
    pub why: Clash,
}

/// How two changes clash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clash {
    /// Both changed its content.
    Content,
    /// Both changed the same attribute of it.
    Attributes,
    /// Both moved it.
    Place,
    /// Both changed a file that has several names, or one of them.
    Links,
    /// The other side has another file under its name.
    Name,
    /// The other side removed it, or the directory that it is in.
    Removed,
    /// It would be below itself.
    Cycle,
}

/// Puts what `ours` changed since `base` onto `theirs`.
///
/// # Errors
/// If a part of a version that differs can not be read, or the outcome can not be stored.
pub fn merge(vault: &Vault, base: &Superblock, ours: &Superblock, theirs: &Superblock) -> Result<Merge, TreeError> {
    if ours == theirs || ours == base {
        return Ok(Merge::Clean(Box::new(theirs.clone())));
    }
    let sides = [Differences::between(vault, base, ours)?, Differences::between(vault, base, theirs)?];
    let mut work = Work::new(vault, sides, BTreeSet::new(), base);
    match work.run(base, ours, theirs)? {
        Some(merged) => Ok(Merge::Clean(Box::new(merged))),
        None => Ok(Merge::Conflicts(work.conflicts)),
    }
}

struct Work<'a> {
    vault: &'a Vault,
    ours: Differences,
    theirs: Differences,
    root: FileId,
    /// What becomes of files; directories with the names that they had before.
    records: BTreeMap<FileId, Record>,
    /// Names that are set anew, by directory.
    entries: BTreeMap<FileId, BTreeMap<Name, Option<FileId>>>,
    /// Files with several names, of which another name is set anew.
    kinds: BTreeMap<FileId, Kind>,
    /// Rows of the table of shared inodes that are set anew: how many names.
    shared: BTreeMap<FileId, u64>,
    /// Files of the first side that are left out; `ours` has nothing of them.
    out: BTreeSet<FileId>,
    /// What was found of the first side below directories that both made.
    below: BTreeMap<FileId, Placed>,
    conflicts: Vec<Conflict>,
}

impl<'a> Work<'a> {
    fn new(vault: &'a Vault, sides: [Differences; 2], out: BTreeSet<FileId>, base: &Superblock) -> Self {
        let [ours, theirs] = sides;
        Self {
            vault,
            ours,
            theirs,
            root: base.root.id,
            records: BTreeMap::new(),
            entries: BTreeMap::new(),
            kinds: BTreeMap::new(),
            shared: BTreeMap::new(),
            out,
            below: BTreeMap::new(),
            conflicts: Vec::new(),
        }
    }

    /// The outcome, unless there are conflicts.
    fn run(
        &mut self,
        base: &Superblock,
        ours: &Superblock,
        theirs: &Superblock,
    ) -> Result<Option<Superblock>, TreeError> {
        if [&ours.root, &theirs.root].iter().any(|root| root.id != base.root.id) {
            self.clash(base.root.id, Clash::Place);
            return Ok(None);
        }
        let both: Vec<_> = linked(&self.ours).intersection(&linked(&self.theirs)).copied().collect();
        both.into_iter().for_each(|id| self.clash(id, Clash::Links));
        let root = match self.out.contains(&self.root) {
            true => theirs.root.clone(),
            false => self.record(&base.root, &ours.root, &theirs.root),
        };
        self.files(base)?;
        if !self.conflicts.is_empty() {
            return Ok(None);
        }
        let merged = self.write(theirs, root)?;
        Ok(merged.filter(|_| self.conflicts.is_empty()))
    }

    fn clash(&mut self, id: FileId, why: Clash) {
        self.conflicts.push(Conflict { id, why });
    }

    fn set(&mut self, directory: FileId, name: &Name, to: Option<FileId>) {
        let names = self.entries.entry(directory).or_default();
        // A file is put where one was taken from, in whatever order.
        let entry = names.entry(name.clone()).or_insert(to);
        *entry = entry.or(to);
    }

    /// Decides on each file that the first side changed.
    fn files(&mut self, base: &Superblock) -> Result<(), TreeError> {
        let ours = self.ours.files.clone();
        let mut stays = BTreeSet::new();
        let mut added = Vec::new();
        for (id, sides) in &ours {
            let theirs = self.theirs.files.get(id).cloned();
            if theirs.as_ref().is_some_and(|theirs| theirs.new == sides.new) {
                continue;
            }
            match (sides, theirs) {
                (Sides { new: None, .. }, None | Some(Sides { new: None, .. })) => {}
                (Sides { new: None, .. }, Some(_)) => drop(stays.insert(*id)),
                (Sides { old: None, new: Some(_) }, Some(_)) => self.clash(*id, Clash::Place),
                (Sides { old: None, new: Some(new) }, None) => added.push((*id, new.clone())),
                (Sides { old: Some(old), new: Some(new) }, None) => self.changed(*id, old, new, old),
                (Sides { old: Some(old), new: Some(new) }, Some(Sides { new: Some(other), .. })) => {
                    self.changed(*id, old, new, &other);
                }
                (Sides { old: Some(old), new: Some(new) }, Some(_)) => self.revived(*id, old, new),
            }
        }
        self.names(&stays, base)?;
        while let Some((id, placed)) = added.pop() {
            self.added(id, placed, &mut added)?;
        }
        self.reach();
        Ok(())
    }

    /// A file that the first side changed, and the second has.
    fn changed(&mut self, id: FileId, old: &Placed, new: &Placed, other: &Placed) {
        let record = self.record(&old.record, &new.record, &other.record);
        self.records.insert(id, record);
        match (&old.links, &new.links, &other.links) {
            (Links::One(..), Links::One(..), Links::One(..)) => match three(&old.links, &new.links, &other.links) {
                Some(Links::One(directory, name)) => self.set(directory, &name, Some(id)),
                _ => self.clash(id, Clash::Place),
            },
            // The other side has not touched it.
            (Links::Shared(_), Links::Shared(names), _) => drop(self.shared.insert(id, *names)),
            (Links::One(directory, name), Links::Shared(names), _) if old.links == other.links => {
                self.shared.insert(id, *names);
                if !self.ours.names.contains_key(&(*directory, name.clone())) {
                    self.set(*directory, name, Some(id));
                }
            }
            _ => self.clash(id, Clash::Place),
        }
    }

    /// A file that the first side changed, and the second removed: it stays, if its directory does.
    fn revived(&mut self, id: FileId, old: &Placed, new: &Placed) {
        let Links::One(directory, name) = &new.links else { return self.clash(id, Clash::Removed) };
        let is_gone = self.theirs.files.get(directory).is_some_and(|sides| sides.new.is_none());
        let is_same = old.links == new.links && is_equal(&old.record, &new.record);
        if new.record.kind() == Kind::Directory {
            return self.clash(id, Clash::Removed);
        }
        if is_same {
            return;
        }
        if is_gone {
            return self.clash(id, Clash::Removed);
        }
        self.records.insert(id, Record::clone(&new.record));
        self.put(id, *directory, name);
    }

    /// A file that only the first side has.
    fn added(&mut self, id: FileId, placed: Placed, more: &mut Vec<(FileId, Placed)>) -> Result<(), TreeError> {
        let (directory, name) = match &placed.links {
            Links::Shared(names) => {
                self.shared.insert(id, *names);
                self.records.insert(id, *placed.record);
                return Ok(());
            }
            Links::One(directory, name) => (*directory, name.clone()),
        };
        let there = self.theirs.names.get(&(directory, name.clone())).and_then(|sides| sides.new);
        let Some(there) = there else {
            self.thin(&placed.record)?;
            self.records.insert(id, *placed.record);
            self.put(id, directory, &name);
            return Ok(());
        };
        let other = self.theirs.files.get(&there).and_then(|sides| sides.new.as_ref());
        let Some(other) = other.filter(|other| other.links == placed.links) else {
            self.clash(id, Clash::Name);
            return Ok(());
        };
        match (&placed.record.body, &other.record.body) {
            (Body::Directory(names), Body::Directory(others)) => {
                let others = others.clone();
                self.join(there, names, &others, more)?;
            }
            _ if is_equal(&placed.record, &other.record) => {}
            _ => self.clash(id, Clash::Name),
        }
        Ok(())
    }

    /// Takes what is left out from below a directory that only the first side has. Gives whether there was something.
    fn thin(&mut self, record: &Record) -> Result<bool, TreeError> {
        let Some(names) = record.directory().filter(|_| !self.out.is_empty()) else { return Ok(false) };
        let mut is_thinner = false;
        for entry in names.list(self.vault, None) {
            let DirEntry { name, target } = entry?;
            if self.out.contains(&target.id()) {
                self.set(record.id, &name, None);
                is_thinner = true;
            } else if let Target::Record(below) = target
                && self.thin(&below)?
            {
                self.set(record.id, &name, Some(below.id));
                self.records.insert(below.id, *below);
                is_thinner = true;
            }
        }
        Ok(is_thinner)
    }

    /// What the first side has in a directory that both made comes into the second side's.
    fn join(
        &mut self,
        there: FileId,
        names: &DirectoryBody,
        others: &DirectoryBody,
        more: &mut Vec<(FileId, Placed)>,
    ) -> Result<(), TreeError> {
        for entry in names.list(self.vault, None) {
            let DirEntry { name, target } = entry?;
            if self.out.contains(&target.id()) {
                continue;
            }
            let taken = others.lookup(self.vault, &name)?;
            let at = (there, name.clone());
            if let Some(other) = &taken {
                self.theirs.names.insert(at.clone(), Sides { old: None, new: Some(other.id()) });
                if let Target::Record(record) = other {
                    let placed = Placed { record: record.clone(), links: Links::One(there, name.clone()) };
                    self.theirs.files.entry(record.id).or_default().new.get_or_insert(placed);
                }
            }
            match target {
                Target::Record(record) => {
                    let id = record.id;
                    // Something that came from elsewhere has been decided on.
                    if self.ours.files.get(&id).is_some_and(|sides| sides.old.is_some()) {
                        self.clash(id, Clash::Name);
                    } else {
                        let placed = Placed { record, links: Links::One(there, name) };
                        self.below.insert(id, placed.clone());
                        more.push((id, placed));
                    }
                }
                Target::Shared { id, .. } if taken.is_some() => self.clash(id, Clash::Name),
                Target::Shared { id, .. } => self.set(there, &name, Some(id)),
            }
        }
        Ok(())
    }

    /// Names that lead elsewhere since.
    fn names(&mut self, stays: &BTreeSet<FileId>, base: &Superblock) -> Result<(), TreeError> {
        for ((directory, name), sides) in self.ours.names.clone() {
            let is_gone = self.ours.files.get(&directory).is_some_and(|sides| sides.new.is_none());
            if is_gone && !stays.contains(&directory) {
                continue;
            }
            let there = self.theirs.names.get(&(directory, name.clone()));
            let now = there.map_or(sides.old, |there| there.new);
            if let Some(old) = sides.old.filter(|old| now == Some(*old)) {
                if !stays.contains(&old) {
                    self.set(directory, &name, None);
                } else if let Some(new) = sides.new {
                    self.clash(new, Clash::Name);
                }
            }
            let Some(new) = sides.new.filter(|new| now != Some(*new)) else { continue };
            let placed = self.ours.files.get(&new).and_then(|sides| sides.new.as_ref());
            let is_shared = placed.is_none_or(|placed| matches!(placed.links, Links::Shared(_)));
            let is_added = self.ours.files.get(&new).is_some_and(|sides| sides.old.is_none());
            if now.is_some() && now != sides.old {
                // What is new finds out by itself.
                if is_shared || !is_added {
                    self.clash(new, Clash::Name);
                }
            } else if is_shared {
                if placed.is_none() {
                    self.same_as_before(new, base)?;
                }
                self.set(directory, &name, Some(new));
            }
        }
        Ok(())
    }

    /// A file with several names that only has another one in place of one.
    fn same_as_before(&mut self, id: FileId, base: &Superblock) -> Result<(), TreeError> {
        let kind = match self.theirs.files.get(&id) {
            Some(sides) => sides.new.as_ref().map(|placed| placed.record.kind()),
            None => base.inodes.get(self.vault, &id)?.map(|inode| inode.record.kind()),
        };
        match kind {
            Some(kind) => drop(self.kinds.insert(id, kind)),
            None => self.clash(id, Clash::Removed),
        }
        Ok(())
    }

    /// Has all directories written whose names are set, and those above them.
    fn reach(&mut self) {
        let mut open: Vec<_> = self.entries.keys().copied().collect();
        while let Some(directory) = open.pop() {
            if directory == self.root || self.records.contains_key(&directory) {
                continue;
            }
            let placed = self.theirs.files.get(&directory).and_then(|sides| sides.new.clone());
            let Some(Placed { record, links: Links::One(above, name) }) = placed else {
                self.clash(directory, Clash::Removed);
                continue;
            };
            self.records.insert(directory, *record);
            self.set(above, &name, Some(directory));
            open.push(above);
        }
    }

    /// Puts a file under a name that has to be free.
    fn put(&mut self, id: FileId, directory: FileId, name: &Name) {
        let there = self.theirs.names.get(&(directory, name.clone())).and_then(|sides| sides.new);
        match there {
            Some(other) if other != id => self.clash(id, Clash::Name),
            _ => self.set(directory, name, Some(id)),
        }
    }

    /// What becomes of a record that both have: a directory with the second side's names.
    fn record(&mut self, base: &Record, ours: &Record, theirs: &Record) -> Record {
        let id = base.id;
        let body = match (&base.body, &ours.body, &theirs.body) {
            (Body::Directory(_), Body::Directory(_), Body::Directory(_)) => Some(theirs.body.clone()),
            (base, ours, theirs) => three(base, ours, theirs),
        };
        let Some(body) = body else {
            self.clash(id, Clash::Content);
            return theirs.clone();
        };
        let mode = three(&base.mode, &ours.mode, &theirs.mode);
        let owner = three(&(base.uid, base.gid), &(ours.uid, ours.gid), &(theirs.uid, theirs.gid));
        let atime = three(&base.atime, &ours.atime, &theirs.atime);
        let (Some(mode), Some((uid, gid)), Some(atime), Some(xattrs)) =
            (mode, owner, atime, xattrs(&base.xattrs, &ours.xattrs, &theirs.xattrs))
        else {
            self.clash(id, Clash::Attributes);
            return theirs.clone();
        };
        let time = |base: Time, ours: Time, theirs: Time| three(&base, &ours, &theirs).unwrap_or(ours.max(theirs));
        Record {
            id,
            mode,
            uid,
            gid,
            mtime: time(base.mtime, ours.mtime, theirs.mtime),
            ctime: time(base.ctime, ours.ctime, theirs.ctime),
            btime: base.btime,
            atime,
            xattrs,
            body,
        }
    }

    /// Stores what is decided: directories from the leaves up.
    fn write(&mut self, theirs: &Superblock, mut root: Record) -> Result<Option<Superblock>, TreeError> {
        let (mut order, mut seen, mut open) = (Vec::new(), HashSet::new(), vec![self.root]);
        while let Some(directory) = open.pop() {
            if !seen.insert(directory) {
                self.clash(directory, Clash::Cycle);
                return Ok(None);
            }
            order.push(directory);
            let below = self.entries.get(&directory).into_iter().flat_map(BTreeMap::values).flatten();
            open.extend(below.filter(|id| self.entries.contains_key(id)));
        }
        // What can not be reached is below itself, or in something that is gone.
        if let Some(lost) = self.entries.keys().find(|directory| !seen.contains(directory)) {
            let why = if self.records.contains_key(lost) { Clash::Cycle } else { Clash::Removed };
            self.clash(*lost, why);
            return Ok(None);
        }
        for directory in order.into_iter().rev() {
            let names = self.entries.remove(&directory).unwrap_or_default();
            let mut changes = Vec::with_capacity(names.len());
            for (name, to) in names {
                let target = match to {
                    None => None,
                    Some(id) => match self.target(id) {
                        Some(target) => Some(target),
                        None => {
                            self.clash(id, Clash::Removed);
                            return Ok(None);
                        }
                    },
                };
                changes.push((name.clone(), target.map(|target| DirEntry { name, target })));
            }
            let record = if directory == self.root { Some(&mut root) } else { self.records.get_mut(&directory) };
            let Some(Record { body: Body::Directory(body), .. }) = record else {
                self.clash(directory, Clash::Removed);
                return Ok(None);
            };
            *body = body.apply(self.vault, changes)?;
        }
        let mut inodes = Vec::with_capacity(self.shared.len());
        for (id, nlink) in &self.shared {
            let record = self.records.get(id).cloned();
            inodes.push((*id, record.map(|record| SharedInode { record, nlink: *nlink })));
        }
        let gone = self.ours.files.iter().filter(|(id, sides)| {
            let was_shared = sides.old.as_ref().is_some_and(|old| matches!(old.links, Links::Shared(_)));
            was_shared && sides.new.is_none() && !self.theirs.files.contains_key(id)
        });
        inodes.extend(gone.map(|(id, _)| (*id, None)));
        inodes.sort_by_key(|(id, _)| *id);
        Ok(Some(Superblock { root, inodes: theirs.inodes.apply(self.vault, inodes)? }))
    }

    /// What a name of a file is to say.
    fn target(&self, id: FileId) -> Option<Target> {
        if self.shared.contains_key(&id) {
            return Some(Target::Shared { id, kind: self.records.get(&id)?.kind() });
        }
        if let Some(kind) = self.kinds.get(&id) {
            return Some(Target::Shared { id, kind: *kind });
        }
        self.records.get(&id).map(|record| Target::Record(Box::new(record.clone())))
    }
}

/// The files with several names that one side touched, or a name of which it did.
fn linked(side: &Differences) -> BTreeSet<FileId> {
    let is_one = |placed: &Option<Placed>| placed.as_ref().is_none_or(|placed| matches!(placed.links, Links::One(..)));
    let is_linked = |id: &FileId| side.files.get(id).is_none_or(|sides| !is_one(&sides.old) || !is_one(&sides.new));
    let named = side.names.values().flat_map(|sides| [sides.old, sides.new]).flatten();
    named.chain(side.files.keys().copied()).filter(is_linked).collect()
}

/// What comes of a value that both may have changed; none if they did so differently.
fn three<T: PartialEq + Clone>(base: &T, ours: &T, theirs: &T) -> Option<T> {
    match () {
        () if ours == base || ours == theirs => Some(theirs.clone()),
        () if theirs == base => Some(ours.clone()),
        () => None,
    }
}

/// The same for each extended attribute.
fn xattrs(base: &Xattrs, ours: &Xattrs, theirs: &Xattrs) -> Option<Xattrs> {
    let mut merged = theirs.clone();
    let names: BTreeSet<_> = base.iter().chain(ours.iter()).map(|(name, _)| name).collect();
    for name in names {
        match three(&base.get(name), &ours.get(name), &theirs.get(name))? {
            Some(value) => merged.set(name, value).ok()?,
            None => drop(merged.remove(name)),
        }
    }
    Some(merged)
}

/// Whether two records say the same, but for times and whose they are.
fn is_equal(one: &Record, other: &Record) -> bool {
    let said = |record: &Record| (record.mode, record.uid, record.gid);
    said(one) == said(other) && one.xattrs == other.xattrs && one.body == other.body
}
