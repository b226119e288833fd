//! Moving the inodes in memory to another version of the tree, in one step.
//!
//! Nothing may be changed and not written back meanwhile. What the new version has with the same content keeps its inode,
//! wherever it is now. What it has not, or with another content, is *detached*: the inode goes on for whoever holds it, as
//! after its name was removed or another file was renamed over it, and the file gets another number when it is looked up
//! again. So a node id never stands for content that came from outside later.

use std::collections::HashSet;

use jaxfs_sync::tree::{self, Body, Differences, DirectoryBody, FileId, Name, Placed, Record, Sides, Superblock};

use super::{Attributes, Detached, Ino, Links, Object, Table};
use crate::limits;

/// What the kernel may remember, and is not so any more.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    /// Names by directory.
    pub(crate) names: HashSet<(Ino, Name)>,
    /// Files whose attributes changed.
    pub(crate) inodes: HashSet<Ino>,
    /// Files whose pages changed, too.
    pub(crate) contents: HashSet<Ino>,
}

impl Table {
    /// Moves to the version that begins with `to`, which differs so from the one before. O(differences).
    pub(crate) fn turn(
        &mut self,
        to: &Superblock,
        differences: &Differences,
        object: impl Fn(&Record) -> Object,
    ) -> Stale {
        debug_assert!(!self.root_changed && self.shared_changes.is_empty(), "all is written back");
        let mut turn = Turn { table: self, differences, root: to.root.id, loaded: Vec::new(), stale: Stale::default() };
        turn.free_ids();
        turn.all(to, object);
        turn.stale
    }

    /// Nobody finds the file by its name or id any more; who holds it goes on with what it is.
    fn detach(&mut self, ino: Ino) {
        let Some(inode) = self.get(ino) else { return };
        let known = |(parent, _): &&(Ino, Name)| self.directory(*parent).is_some();
        let origin = inode.home.iter().chain(&inode.names).find(known).cloned();
        origin.iter().for_each(|(parent, _)| self.pin(*parent));
        self.set_home(ino, None);
        let Some(inode) = self.get_mut(ino) else { return };
        let id = std::mem::replace(&mut inode.id, FileId::random());
        (inode.nlink, inode.shared, inode.detached) = (0, false, Some(Detached { origin, copy: None }));
        inode.names.clear();
        if let Some(directory) = inode.directory_mut() {
            directory.base = DirectoryBody::empty();
            (directory.entries, directory.subdirectories) = (0, 0);
        }
        self.nameless.insert(ino);
        let (Ok(next) | Err(next)) = self.find_from(id, ino);
        self.number(id, next);
    }

    /// What a detached file was written to under another name, if that still has one.
    pub(crate) fn copy_of(&self, ino: Ino) -> Option<Ino> {
        let copy = self.get(ino)?.detached.as_ref()?.copy?;
        self.get(copy).filter(|inode| inode.nlink > 0).map(|_| copy)
    }

    /// What is written to a detached file is written to this one.
    pub(crate) fn has_copy(&mut self, ino: Ino, copy: Ino) {
        self.pin(copy);
        let detached = self.get_mut(ino).and_then(|inode| inode.detached.as_mut());
        if let Some(before) = detached.and_then(|detached| detached.copy.replace(copy)) {
            self.unpin(before);
        }
    }

    /// Whether the kernel was told of it.
    pub(crate) fn is_known(&self, ino: Ino) -> bool {
        self.get(ino).is_some_and(|inode| inode.lookups > 0)
    }

    /// Whether it is at a place that leads up to the root.
    fn is_rooted(&self, ino: Ino) -> bool {
        let above = |ino: &Ino| self.get(*ino)?.home.as_ref().map(|(parent, _)| *parent);
        std::iter::successors(Some(ino), above).take(limits::DIRECTORY_DEPTH + 2).any(|ino| ino == Ino::ROOT)
    }
}

struct Turn<'a> {
    table: &'a mut Table,
    differences: &'a Differences,
    /// The id of the root directory.
    root: FileId,
    /// Directories that were brought into memory for what is in them.
    loaded: Vec<Ino>,
    stale: Stale,
}

impl Turn<'_> {
    fn all(&mut self, to: &Superblock, object: impl Fn(&Record) -> Object) {
        let differences = self.differences;
        let in_memory = differences.files.iter().filter_map(|(id, sides)| Some((self.table.find(*id).ok()?, sides)));
        let touched: Vec<_> = in_memory.collect();
        touched.iter().for_each(|(ino, _)| self.table.pin(*ino));
        for (ino, _) in touched.iter().filter(|(_, sides)| stays(sides).is_none()) {
            self.lose(*ino);
        }
        self.table.shared_base = to.inodes.clone();
        self.renew(Ino::ROOT, &to.root);
        let kept: Vec<_> = touched.iter().filter_map(|(ino, sides)| Some((*ino, stays(sides)?))).collect();
        for (ino, placed) in &kept {
            self.renew(*ino, &placed.record);
        }
        for (ino, placed) in &kept {
            self.put(*ino, placed, &object);
        }
        for (ino, _) in &kept {
            let inode = self.table.get(*ino);
            if inode.is_some_and(|inode| !inode.shared && inode.nlink > 0) && !self.table.is_rooted(*ino) {
                self.lose(*ino);
            }
        }
        self.names();
        touched.iter().for_each(|(ino, _)| self.table.unpin(*ino));
        self.loaded.drain(..).for_each(|ino| self.table.evict(ino));
    }

    /// What has no name here may have one there, and is not that.
    fn free_ids(&mut self) {
        for ino in &self.table.nameless {
            if let Some(inode) = self.table.inodes.get_mut(ino) {
                inode.id = FileId::random();
            }
        }
    }

    /// Detaches a file, whose names lead elsewhere from now on.
    fn lose(&mut self, ino: Ino) {
        let Some(inode) = self.table.get(ino) else { return };
        let names: Vec<_> = inode.home.iter().chain(&inode.names).cloned().collect();
        names.into_iter().for_each(|(parent, name)| self.is_stale(parent, name));
        self.table.detach(ino);
        self.stale.inodes.insert(ino);
    }

    /// Gives an inode what its record says.
    fn renew(&mut self, ino: Ino, record: &Record) {
        let Some(inode) = self.table.get_mut(ino) else { return };
        inode.attributes = Attributes::of(record);
        if let (Object::Directory(directory), Body::Directory(base)) = (&mut inode.object, &record.body) {
            directory.base = base.clone();
            (directory.entries, directory.subdirectories) = (base.count(), base.subdirectories());
        }
        if inode.lookups > 0 || ino == Ino::ROOT {
            self.stale.inodes.insert(ino);
        }
    }

    /// Puts an inode where it is now.
    fn put(&mut self, ino: Ino, placed: &Placed, object: &impl Fn(&Record) -> Object) {
        match &placed.links {
            tree::Links::Shared(nlink) => {
                let Some(inode) = self.table.get_mut(ino) else { return };
                (inode.shared, inode.nlink) = (true, *nlink);
                inode.names.extend(inode.home.clone());
                self.table.set_home(ino, None);
            }
            tree::Links::One(directory, name) => {
                let Some(parent) = self.reach(*directory, object) else { return self.lose(ino) };
                let Some(inode) = self.table.get_mut(ino) else { return };
                (inode.shared, inode.nlink) = (false, 1);
                inode.names.clear();
                self.table.set_home(ino, Some((parent, name.clone())));
            }
        }
    }

    /// Brings a directory of the new version into memory, with all above it. Something that moved is in it, so that all of
    /// these differ.
    fn reach(&mut self, id: FileId, object: &impl Fn(&Record) -> Object) -> Option<Ino> {
        let (mut at, mut below) = (id, Vec::new());
        let mut parent = loop {
            if at == self.root {
                break Ino::ROOT;
            }
            if let Ok(ino) = self.table.find(at) {
                break ino;
            }
            let placed = self.differences.files.get(&at)?.new.as_ref()?;
            let tree::Links::One(above, name) = &placed.links else { return None };
            if below.len() > limits::DIRECTORY_DEPTH {
                return None;
            }
            below.push((placed, name));
            at = *above;
        };
        while let Some((placed, name)) = below.pop() {
            self.table.directory(parent)?;
            parent = self.table.load(&placed.record, Links::Home(parent, name.clone()), object);
            self.loaded.push(parent);
        }
        self.table.directory(parent).map(|_| parent)
    }

    fn names(&mut self) {
        for (directory, name) in self.differences.names.keys() {
            if *directory == self.root {
                self.is_stale(Ino::ROOT, name.clone());
            } else if let Ok(parent) = self.table.find(*directory) {
                self.is_stale(parent, name.clone());
            }
        }
    }

    fn is_stale(&mut self, parent: Ino, name: Name) {
        if parent == Ino::ROOT || self.table.get(parent).is_some_and(|parent| parent.lookups > 0) {
            self.stale.names.insert((parent, name));
        }
    }
}

/// What an inode becomes; none if it does not stand for what is there now.
fn stays(sides: &Sides<Placed>) -> Option<&Placed> {
    let (old, new) = (sides.old.as_ref()?, sides.new.as_ref()?);
    let same = match (&old.record.body, &new.record.body) {
        (Body::Directory(_), Body::Directory(_)) => true,
        (old, new) => old == new,
    };
    same.then_some(new)
}
