//! The inode table: what the kernel knows of, what changed, and what is being written back.
//!
//! A directory is three layers: its stored tree, the changes that are being written back (`frozen`), and the changes
//! since. The table of shared inodes is the same. Always true:
//! - an inode stays while the kernel counts lookups, a handle is open, a change names it, or a child has it for a home;
//! - where a change names an inode, its directory is named by a change in the directory above, up to the root, so that
//!   freezing finds every change from the top, and marking one stops at the first mark it meets.
//!
//! No input or output happens here, and so none under the lock that guards it.

#[cfg(test)]
mod check;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jaxfs_sync::tree::change;
use jaxfs_sync::tree::{Body, Change, DirectoryBody, FileId, Kind, Name, Record, SharedInode, Time, Tree, Xattrs};

use super::file::File;
use super::log::Log;
use crate::limits;
pub(crate) use turn::Stale;

/// An inode number, which is also the FUSE node id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Ino(pub(crate) u64);

impl Ino {
    /// The root directory (`FUSE_ROOT_ID`).
    pub(crate) const ROOT: Ino = Ino(1);

    /// The number of a file: the same on every mount. 0 and 1 have meanings of their own.
    fn of(id: FileId) -> Self {
        let (head, _) = id.0.split_at(8);
        Self(head.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)).max(2))
    }
}

/// What a record says of a file apart from its body.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) ctime: Time,
    pub(crate) btime: Time,
    pub(crate) atime: Option<Time>,
    pub(crate) xattrs: Arc<Xattrs>,
}

impl Attributes {
    fn of(record: &Record) -> Self {
        Self {
            mode: record.mode,
            uid: record.uid,
            gid: record.gid,
            mtime: record.mtime,
            ctime: record.ctime,
            btime: record.btime,
            atime: record.atime,
            xattrs: Arc::new(record.xattrs.clone()),
        }
    }

    /// The change that gives a file these attributes.
    fn change(&self, id: FileId) -> Change {
        let Self { mode, uid, gid, mtime, ctime, atime, .. } = *self;
        let xattrs = Xattrs::clone(&self.xattrs);
        Change::Attributes(Box::new(change::Attributes { id, mode, uid, gid, mtime, ctime, atime, xattrs }))
    }

    /// Takes attributes over.
    pub(super) fn redo(&mut self, change: change::Attributes) {
        let change::Attributes { id: _, mode, uid, gid, mtime, ctime, atime, xattrs } = change;
        let xattrs = Arc::new(xattrs);
        *self = Self { mode, uid, gid, mtime, ctime, atime, xattrs, btime: self.btime };
    }

    /// The record of a file with these attributes.
    pub(crate) fn record(&self, id: FileId, body: Body) -> Record {
        Record {
            id,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
            atime: self.atime,
            xattrs: Xattrs::clone(&self.xattrs),
            body,
        }
    }
}

/// Changes to a map: what a key leads to now, or that it leads nowhere.
pub(crate) type Changes<K> = BTreeMap<K, Option<Ino>>;

/// A directory's entries.
#[derive(Debug)]
pub(crate) struct Directory {
    /// As stored.
    pub(crate) base: DirectoryBody,
    pub(crate) frozen: Option<Arc<Changes<Name>>>,
    pub(crate) changes: Changes<Name>,
    /// Names, with all changes.
    pub(crate) entries: u64,
    /// How many of them are directories.
    pub(crate) subdirectories: u64,
}

impl Directory {
    pub(crate) fn new(base: DirectoryBody) -> Self {
        let (entries, subdirectories) = (base.count(), base.subdirectories());
        Self { base, frozen: None, changes: Changes::new(), entries, subdirectories }
    }

    /// What the changes say of a name; `None` if the stored tree decides.
    pub(crate) fn changed(&self, name: &Name) -> Option<Option<Ino>> {
        let older = || self.frozen.as_ref().and_then(|frozen| frozen.get(name));
        self.changes.get(name).or_else(older).copied()
    }
}

/// What is left of the place of an inode that others took the names from. It holds both inodes in memory.
#[derive(Debug, Default)]
pub(crate) struct Detached {
    /// A directory that it was in, and its name there.
    pub(crate) origin: Option<(Ino, Name)>,
    /// What was made of it under another name, since it was written to later. Both have one content.
    copy: Option<Ino>,
}

/// What an inode is.
#[derive(Debug)]
pub(crate) enum Object {
    Directory(Directory),
    File(Arc<File>),
    Symlink(Box<[u8]>),
    /// A pipe, socket or device.
    Special(Body),
}

/// An inode in memory.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) id: FileId,
    pub(crate) attributes: Attributes,
    pub(crate) object: Object,
    /// Names of a file; 0 when the last is gone. Directories count theirs otherwise.
    pub(crate) nlink: u64,
    /// Its record is in the table of shared inodes, not in a directory.
    pub(crate) shared: bool,
    /// Where its one name is, unless it is shared, removed, or the root.
    pub(crate) home: Option<(Ino, Name)>,
    /// The names of a shared one that the kernel may know.
    pub(super) names: BTreeSet<(Ino, Name)>,
    /// Its names went, or lead to something else, because of what others did.
    pub(crate) detached: Option<Detached>,
    /// What the kernel has counted.
    lookups: u64,
    /// Open handles.
    opens: u32,
    /// Changes that name it, and children whose home it is.
    pins: u32,
}

impl Inode {
    pub(crate) fn kind(&self) -> Kind {
        match &self.object {
            Object::Directory(_) => Kind::Directory,
            Object::File(_) => Kind::File,
            Object::Symlink(_) => Kind::Symlink,
            Object::Special(body) => body.kind(),
        }
    }

    /// Whether somebody has it open.
    pub(crate) const fn is_open(&self) -> bool {
        self.opens > 0
    }

    /// The link count that `stat` shows.
    pub(crate) fn links(&self) -> u64 {
        match &self.object {
            Object::Directory(_) if self.nlink == 0 => 0,
            Object::Directory(directory) => directory.subdirectories.saturating_add(2),
            _ => self.nlink,
        }
    }

    pub(crate) fn directory(&self) -> Option<&Directory> {
        match &self.object {
            Object::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn directory_mut(&mut self) -> Option<&mut Directory> {
        match &mut self.object {
            Object::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(crate) fn file(&self) -> Option<&Arc<File>> {
        match &self.object {
            Object::File(file) => Some(file),
            _ => None,
        }
    }
}

/// All inodes in memory.
#[derive(Debug)]
pub(crate) struct Table {
    inodes: HashMap<Ino, Inode>,
    /// The numbers of files that have another than their id says.
    numbers: HashMap<FileId, Ino>,
    /// The table of shared inodes as stored, and its changes.
    pub(crate) shared_base: Tree<SharedInode>,
    pub(crate) shared_frozen: Option<Arc<Changes<FileId>>>,
    pub(crate) shared_changes: Changes<FileId>,
    /// The root's own record changed.
    pub(crate) root_changed: bool,
    /// Files without a name that are still in use: what is written to them counts, but is in no tree.
    pub(crate) nameless: HashSet<Ino>,
    /// Names that changed and were not frozen yet.
    changed: u64,
    pub(super) log: Log,
}

impl Table {
    pub(crate) fn new(root: &Record, shared: Tree<SharedInode>, log: Log, file: impl Fn(&Record) -> Object) -> Self {
        let mut table = Self {
            inodes: HashMap::new(),
            numbers: HashMap::new(),
            shared_base: shared,
            shared_frozen: None,
            shared_changes: Changes::new(),
            root_changed: false,
            nameless: HashSet::new(),
            changed: 0,
            log,
        };
        table.inodes.insert(Ino::ROOT, new_inode(root, file(root), 1, false));
        table
    }

    pub(crate) fn get(&self, ino: Ino) -> Option<&Inode> {
        self.inodes.get(&ino)
    }

    pub(crate) fn get_mut(&mut self, ino: Ino) -> Option<&mut Inode> {
        self.inodes.get_mut(&ino)
    }

    pub(crate) fn directory(&self, ino: Ino) -> Option<&Directory> {
        self.get(ino).and_then(Inode::directory)
    }

    pub(crate) fn directory_mut(&mut self, ino: Ino) -> Option<&mut Directory> {
        self.get_mut(ino).and_then(Inode::directory_mut)
    }

    /// All inodes in memory.
    pub(super) fn all(&self) -> impl Iterator<Item = &Inode> {
        self.inodes.values()
    }

    /// How many inodes are in memory.
    pub(crate) fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Names that changed and are not being written back yet.
    pub(crate) const fn changed(&self) -> u64 {
        self.changed
    }

    /// The inode of a file if it is in memory, or the free number that it would get.
    pub(crate) fn find(&self, id: FileId) -> Result<Ino, Ino> {
        self.find_from(id, self.numbers.get(&id).copied().unwrap_or(Ino::of(id)))
    }

    fn find_from(&self, id: FileId, mut ino: Ino) -> Result<Ino, Ino> {
        loop {
            match self.inodes.get(&ino) {
                None => return Err(ino),
                Some(inode) if inode.id == id => return Ok(ino),
                // What has another content since, or two ids that share 64 bits: no reason to mix two files up.
                Some(_) => ino = Ino(ino.0.wrapping_add(1).max(2)),
            }
        }
    }

    /// Brings a stored inode into memory, or finds it there.
    pub(crate) fn load(&mut self, record: &Record, links: Links, object: impl FnOnce(&Record) -> Object) -> Ino {
        match self.find(record.id) {
            Ok(ino) => ino,
            Err(ino) => {
                let (nlink, shared, home) = match links {
                    Links::Home(parent, name) => (1, false, Some((parent, name))),
                    Links::Shared(nlink) => (nlink, true, None),
                };
                self.inodes.insert(ino, new_inode(record, object(record), nlink, shared));
                self.number(record.id, ino);
                self.set_home(ino, home);
                ino
            }
        }
    }

    /// Remembers a file's number, if its id does not say it.
    fn number(&mut self, id: FileId, ino: Ino) {
        if ino == Ino::of(id) {
            return;
        }
        if self.numbers.len() >= limits::NUMBERS {
            let inodes = &self.inodes;
            self.numbers.retain(|id, ino| inodes.get(ino).is_some_and(|inode| inode.id == *id));
        }
        self.numbers.insert(id, ino);
    }

    /// Notes a name of a shared inode that the kernel is told of.
    pub(crate) fn named(&mut self, ino: Ino, parent: Ino, name: &Name) {
        if let Some(inode) = self.get_mut(ino).filter(|inode| inode.shared) {
            inode.names.insert((parent, name.clone()));
        }
    }

    /// Makes sure that a change may name this inode by what it gives. To be called before anything moves; none if it has no
    /// name, so that no change to it counts.
    pub(super) fn locate(&mut self, ino: Ino) -> Option<FileId> {
        let inode = self.get(ino).filter(|inode| inode.nlink > 0)?;
        let id = inode.id;
        if self.log.is_unknown(id) {
            let mut path: Vec<_> =
                std::iter::successors(inode.home.as_ref(), |(parent, _)| self.get(*parent)?.home.as_ref())
                    .map(|(_, name)| name.clone())
                    .collect();
            path.reverse();
            self.log.push(Change::Locate { id, path });
        }
        Some(id)
    }

    /// Notes what the attributes of an inode are now.
    pub(super) fn log_attributes(&mut self, ino: Ino) {
        let Some(id) = self.locate(ino) else { return };
        if let Some(attributes) = self.get(ino).map(|inode| inode.attributes.change(id)) {
            self.log.push(attributes);
        }
    }

    /// Counts lookups that the kernel was told of.
    pub(crate) fn looked_up(&mut self, ino: Ino, count: u64) {
        if let Some(inode) = self.get_mut(ino) {
            inode.lookups += count;
        }
    }

    /// Takes back lookups that the kernel forgot.
    pub(crate) fn forget(&mut self, ino: Ino, count: u64) {
        if let Some(inode) = self.get_mut(ino) {
            debug_assert!(inode.lookups >= count, "the kernel forgets what it was told");
            inode.lookups = inode.lookups.saturating_sub(count);
        }
        self.evict(ino);
    }

    /// Counts an open handle.
    pub(crate) fn opened(&mut self, ino: Ino) {
        if let Some(inode) = self.get_mut(ino) {
            inode.opens += 1;
        }
    }

    /// Ends one.
    pub(crate) fn closed(&mut self, ino: Ino) {
        if let Some(inode) = self.get_mut(ino) {
            inode.opens = inode.opens.saturating_sub(1);
        }
        self.evict(ino);
    }

    /// Notes that an inode's record or content changed. O(1) when it was changed already, else O(depth).
    pub(crate) fn touch(&mut self, mut ino: Ino) {
        loop {
            let Some(inode) = self.inodes.get(&ino) else { return };
            if inode.shared {
                if inode.nlink > 0 {
                    self.set_shared(inode.id, Some(ino));
                }
                return;
            }
            let Some((parent, name)) = inode.home.clone() else {
                self.root_changed |= ino == Ino::ROOT;
                return;
            };
            let marked = self.directory(parent).and_then(|directory| directory.changes.get(&name));
            if marked == Some(&Some(ino)) {
                return;
            }
            self.set_change(parent, name, Some(ino));
            ino = parent;
        }
    }

    /// Gives an inode a name, which must be free. The counts of the directory are brought up to date.
    pub(crate) fn add_name(&mut self, parent: Ino, name: Name, ino: Ino) {
        let Some(inode) = self.get(ino) else { return };
        let (shared, is_directory) = (inode.shared, inode.kind() == Kind::Directory);
        if let Some(directory) = self.directory_mut(parent) {
            directory.entries = directory.entries.saturating_add(1);
            directory.subdirectories = directory.subdirectories.saturating_add(u64::from(is_directory));
        }
        self.set_change(parent, name.clone(), Some(ino));
        if shared {
            self.named(ino, parent, &name);
        } else {
            self.set_home(ino, Some((parent, name)));
        }
        self.touch(parent);
    }

    /// Takes a name away from an inode. Its link count is the caller's to change.
    pub(crate) fn remove_name(&mut self, parent: Ino, name: &Name, ino: Ino) {
        let Some(inode) = self.get(ino) else { return };
        let (shared, is_directory) = (inode.shared, inode.kind() == Kind::Directory);
        if let Some(directory) = self.directory_mut(parent) {
            directory.entries = directory.entries.saturating_sub(1);
            directory.subdirectories = directory.subdirectories.saturating_sub(u64::from(is_directory));
        }
        self.set_change(parent, name.clone(), None);
        if !shared {
            self.set_home(ino, None);
        } else if let Some(inode) = self.get_mut(ino) {
            inode.names.remove(&(parent, name.clone()));
        }
        self.touch(parent);
    }

    /// Takes one link from a file, or the only one from a directory, whose name was removed.
    pub(crate) fn unlink(&mut self, ino: Ino) {
        let Some(inode) = self.get_mut(ino) else { return };
        inode.nlink = inode.nlink.saturating_sub(1);
        let (left, shared, id) = (inode.nlink, inode.shared, inode.id);
        if shared {
            self.set_shared(id, (left > 0).then_some(ino));
        }
        if left == 0 {
            self.nameless.insert(ino);
        }
        self.evict(ino);
    }

    /// Adds a link to a file, which moves its record to the table of shared inodes.
    pub(crate) fn link(&mut self, ino: Ino) {
        // Its one name so far has to become a reference.
        self.touch(ino);
        let Some(inode) = self.get_mut(ino) else { return };
        inode.nlink += 1;
        let newly = !std::mem::replace(&mut inode.shared, true);
        if newly {
            let names = inode.home.iter().cloned().collect();
            inode.names = names;
            self.set_home(ino, None);
        }
        self.touch(ino);
    }

    /// Says what a name leads to.
    fn set_change(&mut self, parent: Ino, name: Name, to: Option<Ino>) {
        if let Some(ino) = to {
            self.pin(ino);
        }
        let Some(directory) = self.directory_mut(parent) else { return };
        match directory.changes.insert(name, to) {
            Some(Some(before)) => self.unpin(before),
            Some(None) => {}
            None => self.changed += 1,
        }
    }

    fn set_shared(&mut self, id: FileId, to: Option<Ino>) {
        if let Some(ino) = to {
            self.pin(ino);
        }
        if let Some(Some(before)) = self.shared_changes.insert(id, to) {
            self.unpin(before);
        }
    }

    fn set_home(&mut self, ino: Ino, home: Option<(Ino, Name)>) {
        if let Some((parent, _)) = &home {
            self.pin(*parent);
        }
        let before = self.get_mut(ino).and_then(|inode| std::mem::replace(&mut inode.home, home));
        if let Some((parent, _)) = before {
            self.unpin(parent);
        }
    }

    /// Takes all changes of a directory, to be written back. They stay visible as `frozen`.
    pub(crate) fn freeze_directory(&mut self, ino: Ino) -> Option<Arc<Changes<Name>>> {
        let directory = self.directory_mut(ino)?;
        debug_assert!(directory.frozen.is_none(), "one write-back at a time");
        let frozen = Arc::new(std::mem::take(&mut directory.changes));
        directory.frozen = Some(Arc::clone(&frozen));
        Some(frozen)
    }

    /// Takes all changes of the table of shared inodes.
    pub(crate) fn freeze_shared(&mut self) -> Arc<Changes<FileId>> {
        let frozen = Arc::new(std::mem::take(&mut self.shared_changes));
        self.shared_frozen = Some(Arc::clone(&frozen));
        frozen
    }

    /// Starts a new count of changes.
    pub(crate) const fn freeze_count(&mut self) {
        self.changed = 0;
        self.root_changed = false;
    }

    /// The frozen changes of a directory are in `base` now.
    pub(crate) fn install_directory(&mut self, ino: Ino, base: DirectoryBody) {
        let Some(directory) = self.directory_mut(ino) else { return };
        directory.base = base;
        let frozen = directory.frozen.take();
        self.unpin_all(frozen.iter().flat_map(|frozen| frozen.values()));
    }

    /// The frozen changes of the shared inodes are in `base` now.
    pub(crate) fn install_shared(&mut self, base: Tree<SharedInode>) {
        self.shared_base = base;
        let frozen = self.shared_frozen.take();
        self.unpin_all(frozen.iter().flat_map(|frozen| frozen.values()));
    }

    /// The frozen changes of a directory could not be written: they are changes again, below what came since.
    pub(crate) fn thaw_directory(&mut self, ino: Ino) {
        let Some(directory) = self.directory_mut(ino) else { return };
        let Some(frozen) = directory.frozen.take() else { return };
        let before = directory.changes.len();
        let overridden = thaw(&frozen, &mut directory.changes);
        let more = (directory.changes.len() - before) as u64;
        self.changed += more;
        self.root_changed = true;
        self.unpin_all(overridden.iter());
    }

    /// The same for the shared inodes.
    pub(crate) fn thaw_shared(&mut self) {
        let Some(frozen) = self.shared_frozen.take() else { return };
        let overridden = thaw(&frozen, &mut self.shared_changes);
        self.unpin_all(overridden.iter());
    }

    fn unpin_all<'a>(&mut self, inodes: impl Iterator<Item = &'a Option<Ino>>) {
        for ino in inodes.flatten() {
            self.unpin(*ino);
        }
    }

    /// Holds an inode in memory until it is unpinned.
    pub(crate) fn pin(&mut self, ino: Ino) {
        if let Some(inode) = self.get_mut(ino) {
            inode.pins += 1;
        }
    }

    /// Ends one hold.
    pub(crate) fn unpin(&mut self, ino: Ino) {
        if let Some(inode) = self.get_mut(ino) {
            debug_assert!(inode.pins > 0, "what is unpinned was pinned");
            inode.pins = inode.pins.saturating_sub(1);
        }
        self.evict(ino);
    }

    /// Drops an inode that nothing holds, and then its parent, if that was held by it alone.
    pub(super) fn evict(&mut self, mut ino: Ino) {
        loop {
            let idle = |inode: &Inode| inode.lookups == 0 && inode.opens == 0 && inode.pins == 0;
            if ino == Ino::ROOT || !self.get(ino).is_some_and(idle) {
                return;
            }
            self.nameless.remove(&ino);
            let Some(gone) = self.inodes.remove(&ino) else { return };
            let detached = gone.detached.unwrap_or_default();
            if let Some(copy) = detached.copy {
                self.unpin(copy);
            }
            let Some((parent, _)) = gone.home.or(detached.origin) else { return };
            let Some(inode) = self.get_mut(parent) else { return };
            inode.pins = inode.pins.saturating_sub(1);
            ino = parent;
        }
    }
}

/// How a stored inode is linked.
pub(crate) enum Links {
    /// One name, here.
    Home(Ino, Name),
    /// This many names; the record is in the table of shared inodes.
    Shared(u64),
}

fn new_inode(record: &Record, object: Object, nlink: u64, shared: bool) -> Inode {
    let attributes = Attributes::of(record);
    Inode {
        id: record.id,
        attributes,
        object,
        nlink,
        shared,
        home: None,
        names: BTreeSet::new(),
        detached: None,
        lookups: 0,
        opens: 0,
        pins: 0,
    }
}

/// Puts frozen changes back below newer ones. Gives those that newer ones override.
fn thaw<K: Ord + Clone>(frozen: &Changes<K>, changes: &mut Changes<K>) -> Vec<Option<Ino>> {
    let mut overridden = Vec::new();
    for (key, to) in frozen {
        match changes.entry(key.clone()) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(*to);
            }
            std::collections::btree_map::Entry::Occupied(_) => overridden.push(*to),
        }
    }
    overridden
}
