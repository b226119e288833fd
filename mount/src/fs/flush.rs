//! Writing back: from the changes in memory to a new version of the stored tree.
//!
//! Freeze, under the table's lock: take every change, from the root down, as one moment of the file system. Write, without
//! it: seal content, then directories from the leaves up. Install, under the lock: what was written is the stored tree
//! now. If writing fails, thaw: the changes are changes again, below what came since, and nothing is lost.

use std::sync::Arc;

use jaxfs_sync::link::Link;
use jaxfs_sync::publish::BucketError;
use jaxfs_sync::tree::{
    Body, Content, DirEntry, DirectoryBody, FileId, Kind, Name, Record, SharedInode, Superblock, Target, Tree,
    TreeError, Vault,
};

use super::Fs;
use super::file::File;
use super::file::settle::Settled;
use super::table::{Attributes, Ino, Object, Table};
use crate::errno::FsError;
use crate::writeback::Durability;

#[cfg(test)]
use super::model::fault::point as step;

/// A step that can fail, where tests make it.
#[cfg(not(test))]
const fn step() -> Result<(), TreeError> {
    Ok(())
}

/// What the write-back keeps between two runs.
#[derive(Debug)]
pub(super) struct Flusher {
    /// The newest version that is written.
    superblock: Superblock,
    /// How far it has got.
    reached: Durability,
    /// The head that it was made from.
    base: Link,
    /// The first generation of changes that the newest durable version does not hold.
    generation: u64,
}

impl Flusher {
    pub(super) const fn new(superblock: Superblock, reached: Durability, base: Link, generation: u64) -> Self {
        Self { superblock, reached, base, generation }
    }

    pub(super) const fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Whether the newest version that is written is in the chain.
    pub(super) fn is_published(&self) -> bool {
        self.reached == Durability::Published
    }
}

/// An inode at the moment of freezing.
struct FrozenInode {
    ino: Ino,
    id: FileId,
    attributes: Attributes,
    nlink: u64,
    object: FrozenObject,
}

enum FrozenObject {
    File(Arc<File>),
    Directory(DirectoryBody, Vec<(Name, FrozenTarget)>),
    Other(Body),
}

enum FrozenTarget {
    Gone,
    Shared(FileId, Kind),
    Inode(FrozenInode),
}

/// One moment of the file system: all that is not stored yet.
struct Frozen {
    root: FrozenInode,
    shared_base: Tree<SharedInode>,
    shared: Vec<(FileId, Option<FrozenInode>)>,
    /// Files without a name: they are sealed only to bound memory.
    nameless: Vec<Arc<File>>,
}

/// What writing gave, to be installed in this order: children stand before their directories.
struct Written {
    /// Whether chunks have to be whole.
    whole: bool,
    /// Those without a name have no number either.
    files: Vec<(Option<Ino>, Arc<File>, Settled)>,
    directories: Vec<(Ino, DirectoryBody)>,
}

impl Fs {
    /// Writes all changes back, as durably as asked for. One at a time.
    pub(super) fn flush(&self, durability: Durability) -> Result<(), FsError> {
        self.flush_with(&mut self.flusher.lock(), durability)
    }

    pub(super) fn flush_with(&self, flusher: &mut Flusher, durability: Durability) -> Result<(), FsError> {
        // What this device's policy lets it not publish now is durable all the same.
        let refused = self.bucket.may_publish().is_err();
        let durability = if refused { durability.min(Durability::Durable) } else { durability };
        // Files without a name are in no version: they are sealed only where memory runs short.
        let short = self.memory_is_short();
        let (frozen, generation) = {
            let mut table = self.table.lock();
            (freeze(&mut table, short), table.log.generation())
        };
        let Some(frozen) = frozen else {
            step()?;
            let superblock = flusher.superblock.clone();
            return self.commit(flusher, superblock, generation, durability);
        };
        // Others are to see whole chunks, if there is room for that.
        let whole = durability == Durability::Published && self.check_disk(self.budget.scattered_bytes()).is_ok();
        let mut written = Written { whole, files: Vec::new(), directories: Vec::new() };
        let stored = write(self.vault(), &frozen, &mut written).and_then(|superblock| step().map(|()| superblock));
        let stored = stored.map_err(FsError::from).and_then(|superblock| {
            let shared = superblock.inodes.clone();
            if flusher.superblock != superblock {
                flusher.reached = Durability::Memory;
            }
            self.commit(flusher, superblock, generation, durability).map(|()| shared)
        });
        let mut table = self.table.lock();
        match stored {
            Ok(shared) => {
                install(&mut table, written, shared);
                if durability == Durability::Memory {
                    table.log.sealed();
                }
                Ok(())
            }
            Err(error) => {
                thaw(&mut table, &frozen);
                Err(error)
            }
        }
    }

    /// Makes a version that is written as durable as asked for. It holds all changes of the generations before this one.
    fn commit(
        &self,
        flusher: &mut Flusher,
        superblock: Superblock,
        generation: u64,
        durability: Durability,
    ) -> Result<(), FsError> {
        if flusher.reached < durability || flusher.generation < generation && durability > Durability::Memory {
            let (version, mut reached) = (self.bucket.begin(&superblock, flusher.base, generation)?, durability);
            match durability {
                Durability::Published => match version.publish() {
                    Err(BucketError::Refused(_)) => {
                        self.bucket.begin(&superblock, flusher.base, generation)?.checkpoint()?;
                        reached = Durability::Durable;
                    }
                    published => flusher.base = published?,
                },
                Durability::Durable | Durability::Memory => version.checkpoint()?,
            }
            flusher.reached = reached;
            flusher.generation = generation;
            self.table.lock().log.durable(generation);
        }
        flusher.superblock = superblock;
        Ok(())
    }
}

fn freeze(table: &mut Table, short: bool) -> Option<Frozen> {
    let loose = |table: &Table| -> Vec<Arc<File>> {
        let files = table.nameless.iter().filter(|ino| table.copy_of(**ino).is_none());
        let files = files.filter_map(|ino| table.get(*ino)?.file());
        files.filter(|file| file.is_changed()).cloned().collect()
    };
    let nameless = if short { loose(table) } else { Vec::new() };
    if !table.root_changed && table.shared_changes.is_empty() && nameless.is_empty() {
        return None;
    }
    nameless.iter().for_each(|file| {
        file.freeze();
    });
    let changes = table.freeze_shared();
    let shared = changes.iter().map(|(id, to)| (*id, to.and_then(|ino| freeze_inode(table, ino)))).collect();
    let root = freeze_inode(table, Ino::ROOT)?;
    table.freeze_count();
    table.log.freeze();
    Some(Frozen { root, shared_base: table.shared_base.clone(), shared, nameless })
}

fn freeze_inode(table: &mut Table, ino: Ino) -> Option<FrozenInode> {
    let inode = table.get(ino)?;
    let (id, attributes, nlink) = (inode.id, inode.attributes.clone(), inode.nlink);
    let object = match &inode.object {
        Object::File(file) => {
            file.freeze();
            FrozenObject::File(Arc::clone(file))
        }
        Object::Symlink(target) => FrozenObject::Other(Body::Symlink(target.clone())),
        Object::Special(body) => FrozenObject::Other(body.clone()),
        Object::Directory(directory) => {
            let base = directory.base.clone();
            let changes = table.freeze_directory(ino)?;
            let targets = changes.iter().map(|(name, to)| (name.clone(), freeze_target(table, *to))).collect();
            FrozenObject::Directory(base, targets)
        }
    };
    Some(FrozenInode { ino, id, attributes, nlink, object })
}

fn freeze_target(table: &mut Table, to: Option<Ino>) -> FrozenTarget {
    let Some(ino) = to else { return FrozenTarget::Gone };
    match table.get(ino) {
        Some(inode) if inode.shared => FrozenTarget::Shared(inode.id, inode.kind()),
        _ => freeze_inode(table, ino).map_or(FrozenTarget::Gone, FrozenTarget::Inode),
    }
}

fn write(vault: &Vault, frozen: &Frozen, written: &mut Written) -> Result<Superblock, TreeError> {
    for file in &frozen.nameless {
        write_file(vault, None, file, written)?;
    }
    let mut shared = Vec::with_capacity(frozen.shared.len());
    for (id, inode) in &frozen.shared {
        let inode = match inode {
            Some(inode) => Some(SharedInode { record: write_inode(vault, inode, written)?, nlink: inode.nlink }),
            None => None,
        };
        shared.push((*id, inode));
    }
    let inodes = frozen.shared_base.apply(vault, shared)?;
    Ok(Superblock { root: write_inode(vault, &frozen.root, written)?, inodes })
}

fn write_inode(vault: &Vault, inode: &FrozenInode, written: &mut Written) -> Result<Record, TreeError> {
    step()?;
    let body = match &inode.object {
        FrozenObject::File(file) => Body::File(write_file(vault, Some(inode.ino), file, written)?),
        FrozenObject::Other(body) => body.clone(),
        FrozenObject::Directory(base, targets) => {
            let mut changes = Vec::with_capacity(targets.len());
            for (name, target) in targets {
                let target = match target {
                    FrozenTarget::Gone => None,
                    FrozenTarget::Shared(id, kind) => Some(Target::Shared { id: *id, kind: *kind }),
                    FrozenTarget::Inode(inode) => Some(Target::Record(Box::new(write_inode(vault, inode, written)?))),
                };
                let entry = target.map(|target| DirEntry { name: name.clone(), target });
                changes.push((name.clone(), entry));
            }
            let names = base.apply(vault, changes)?;
            written.directories.push((inode.ino, names.clone()));
            Body::Directory(names)
        }
    };
    Ok(inode.attributes.record(inode.id, body))
}

fn write_file(vault: &Vault, ino: Option<Ino>, file: &Arc<File>, written: &mut Written) -> Result<Content, TreeError> {
    step()?;
    match file.frozen() {
        Err(unchanged) => Ok(unchanged),
        Ok(frozen) => {
            let settled = frozen.settle(vault, written.whole)?;
            let content = settled.content.clone();
            written.files.push((ino, Arc::clone(file), settled));
            Ok(content)
        }
    }
}

fn install(table: &mut Table, written: Written, shared: Tree<SharedInode>) {
    let mut again = Vec::new();
    for (ino, file, settled) in written.files {
        let whole = settled.is_whole();
        file.install(settled);
        if let Some(ino) = ino.filter(|_| !whole) {
            file.write_back_again();
            again.push(ino);
        }
    }
    for (ino, names) in written.directories {
        table.install_directory(ino, names);
    }
    table.install_shared(shared);
    again.into_iter().for_each(|ino| table.touch(ino));
}

fn thaw(table: &mut Table, frozen: &Frozen) {
    frozen.nameless.iter().for_each(|file| file.thaw());
    for inode in frozen.shared.iter().filter_map(|(_, inode)| inode.as_ref()) {
        thaw_inode(table, inode);
    }
    thaw_inode(table, &frozen.root);
    table.thaw_shared();
}

fn thaw_inode(table: &mut Table, inode: &FrozenInode) {
    match &inode.object {
        FrozenObject::File(file) => file.thaw(),
        FrozenObject::Other(_) => {}
        FrozenObject::Directory(_, targets) => {
            for (_, target) in targets {
                if let FrozenTarget::Inode(inode) = target {
                    thaw_inode(table, inode);
                }
            }
            table.thaw_directory(inode.ino);
        }
    }
}
