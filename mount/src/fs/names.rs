//! Names: looking them up, making, linking, moving and removing them.
//!
//! Every operation resolves the names that it is about first. What is stored is read without a lock, and what was read is
//! good for as long as the tree that it was read from is the directory's; then the operation happens in one step.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use jaxfs_sync::tree::{
    Body, Change, Content, DirectoryBody, FileId, Kind, Name, Record, SharedInode, Target, Time, Tree,
};
use parking_lot::MutexGuard;

use super::attributes::{S_ISGID, Stat};
use super::file::File;
use super::table::{Attributes, Directory, Ino, Inode, Links, Object, Stale, Table};
use super::{Caller, Fs, acl, now};
use crate::errno::FsError;
use crate::limits;

/// A name in a directory.
type Place<'a> = (Ino, &'a Name);

/// What the stored trees say of a name: good while `directory` is the directory's tree, and `inodes` the table's.
struct Stored {
    directory: DirectoryBody,
    target: Option<Target>,
    /// The record of a shared inode, and the tree that it is from.
    shared: Option<(Tree<SharedInode>, Option<SharedInode>)>,
}

/// What a name leads to, as far as memory says.
enum Resolved {
    Known(Option<Ino>),
    /// The stored directory has to be asked.
    Ask(DirectoryBody),
    /// The stored table of shared inodes has to be asked for a file.
    AskShared(FileId, Tree<SharedInode>),
}

/// The table while an operation on what names lead to is under way. What was brought into memory for it and is not used
/// when it ends goes again.
pub(super) struct Held<'a, const N: usize> {
    table: MutexGuard<'a, Table>,
    found: [Option<Ino>; N],
}

impl<const N: usize> Deref for Held<'_, N> {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}

impl<const N: usize> DerefMut for Held<'_, N> {
    fn deref_mut(&mut self) -> &mut Table {
        &mut self.table
    }
}

impl<const N: usize> Drop for Held<'_, N> {
    fn drop(&mut self) {
        for ino in self.found.into_iter().flatten() {
            self.table.evict(ino);
        }
    }
}

/// What is to be made under a name.
pub(crate) enum New {
    File,
    Directory,
    Symlink(Box<[u8]>),
    Special(Body),
}

/// What a rename does with a name that exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnTarget {
    Replace,
    Refuse,
    Exchange,
}

impl Fs {
    /// Looks a name up for the kernel, which then holds one lookup more. `None` if there is no such name.
    pub(crate) fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Stat>, FsError> {
        let name = checked(name)?;
        let (mut table, [found]) = self.resolve([(parent, &name)])?;
        found.map(|ino| self.reply(&mut table, ino)).transpose()
    }

    /// Makes something new under a free name. The kernel then holds one lookup of it.
    pub(crate) fn make(&self, parent: Ino, name: &[u8], mode: u32, new: New, caller: Caller) -> Result<Stat, FsError> {
        self.may_begin()?;
        self.make_under(parent, name, mode, new, caller).map(|(stat, _)| stat)
    }

    /// Makes a file and opens it. Gives the handle too.
    pub(crate) fn create(&self, parent: Ino, name: &[u8], mode: u32, caller: Caller) -> Result<(Stat, u64), FsError> {
        self.may_begin()?;
        let (stat, object) = self.make_under(parent, name, mode, New::File, caller)?;
        let file = object.ok_or(FsError::Io)?;
        self.table.lock().opened(stat.ino);
        let writing = File::begin_writing(&file);
        Ok((stat, self.add_file(stat.ino, file, Some(writing))))
    }

    fn make_under(
        &self,
        parent: Ino,
        name: &[u8],
        mode: u32,
        new: New,
        caller: Caller,
    ) -> Result<(Stat, Option<Arc<File>>), FsError> {
        let _gate = self.enter()?;
        let name = free_name(parent, name)?;
        let body = match new {
            New::File => Body::File(Content::empty()),
            New::Directory => Body::empty_directory(),
            New::Symlink(target) => symlink(target)?,
            New::Special(body) => body,
        };
        self.check_disk(limits::RECORD_BYTES)?;
        let (mut table, [existing]) = self.resolve([(parent, &name)])?;
        if existing.is_some() {
            return Err(FsError::Exists);
        }
        if body.kind() == Kind::Directory && ancestors(&table, parent).nth(limits::DIRECTORY_DEPTH).is_some() {
            return Err(FsError::NameTooLong);
        }
        let above = table.get(parent).filter(|above| above.nlink > 0).ok_or(FsError::NotFound)?;
        let time = now();
        let inherits = above.attributes.mode & S_ISGID != 0;
        let mut attributes = Attributes {
            mode: (mode & 0o7777) as u16,
            uid: caller.uid,
            gid: if inherits { above.attributes.gid } else { caller.gid },
            mtime: time,
            ctime: time,
            btime: time,
            atime: None,
            xattrs: Arc::default(),
        };
        if inherits && body.kind() == Kind::Directory {
            attributes.mode |= S_ISGID;
        }
        let default = above.attributes.xattrs.get(acl::DEFAULT).filter(|_| self.heeds_acls());
        acl::inherit(&mut attributes, body.kind(), default, caller.umask)?;
        let record = attributes.record(FileId::random(), body);
        let (stat, file) = self.add(&mut table, parent, name, record)?;
        drop(table);
        self.changed();
        Ok((stat, file))
    }

    /// Makes what a record says under a free name.
    pub(super) fn add(
        &self,
        table: &mut Table,
        parent: Ino,
        name: Name,
        record: Record,
    ) -> Result<(Stat, Option<Arc<File>>), FsError> {
        let directory = table.locate(parent).ok_or(FsError::NotFound)?;
        let time = record.btime;
        let ino = table.load(&record, Links::Home(parent, name.clone()), |record| self.object(record));
        table.add_name(parent, name.clone(), ino);
        touch_times(table, parent, true, time);
        table.log.push(Change::Make { at: (directory, name), record: Box::new(record) });
        let file = table.get(ino).and_then(|inode| inode.file().cloned());
        Ok((self.reply(table, ino)?, file))
    }

    /// Gives a file one more name. The kernel then holds one more lookup of it.
    pub(crate) fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Stat, FsError> {
        self.may_begin()?;
        self.link_at(ino, parent, name, now())
    }

    pub(super) fn link_at(&self, ino: Ino, parent: Ino, name: &[u8], time: Time) -> Result<Stat, FsError> {
        let _gate = self.enter()?;
        let name = free_name(parent, name)?;
        let (mut table, [existing]) = self.resolve([(parent, &name)])?;
        if existing.is_some() {
            return Err(FsError::Exists);
        }
        if table.get(parent).is_none_or(|above| above.nlink == 0) {
            return Err(FsError::NotFound);
        }
        let inode = table.get(ino).ok_or(FsError::NotFound)?;
        if inode.kind() == Kind::Directory {
            return Err(FsError::NotPermitted);
        }
        if inode.nlink == 0 {
            return Err(self.gone(inode));
        }
        if inode.nlink >= limits::LINKS {
            return Err(FsError::TooManyLinks);
        }
        let (Some(id), Some(directory)) = (table.locate(ino), table.locate(parent)) else {
            return Err(FsError::NotFound);
        };
        table.link(ino);
        table.add_name(parent, name.clone(), ino);
        touch_times(&mut table, ino, false, time);
        touch_times(&mut table, parent, true, time);
        table.log.push_moving(Change::Link { id, at: (directory, name), time }, [Some(ino), None]);
        let stat = self.reply(&mut table, ino)?;
        drop(table);
        self.changed();
        Ok(stat)
    }

    /// Removes the name of a file.
    pub(crate) fn unlink(&self, parent: Ino, name: &[u8]) -> Result<(), FsError> {
        self.may_begin()?;
        self.remove(parent, name, now(), |directory| match directory {
            Some(_) => Err(FsError::IsDirectory),
            None => Ok(()),
        })
    }

    /// Removes an empty directory.
    pub(crate) fn remove_directory(&self, parent: Ino, name: &[u8]) -> Result<(), FsError> {
        self.may_begin()?;
        self.remove(parent, name, now(), |directory| match directory {
            None => Err(FsError::NotDirectory),
            Some(directory) if directory.entries > 0 => Err(FsError::NotEmpty),
            Some(_) => Ok(()),
        })
    }

    pub(super) fn remove(
        &self,
        parent: Ino,
        name: &[u8],
        time: Time,
        check: impl Fn(Option<&Directory>) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        let _gate = self.enter()?;
        let name = checked(name)?;
        let (mut table, [found]) = self.resolve([(parent, &name)])?;
        let ino = found.ok_or(FsError::NotFound)?;
        check(table.directory(ino))?;
        let directory = table.locate(parent).ok_or(FsError::NotFound)?;
        remove_link(&mut table, parent, &name, ino, time);
        touch_times(&mut table, parent, true, time);
        table.log.push(Change::Remove { at: (directory, name), time });
        drop(table);
        self.changed();
        Ok(())
    }

    /// Moves a name.
    pub(crate) fn rename(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), on_target: OnTarget) -> Result<(), FsError> {
        self.may_begin()?;
        self.rename_at(from, to, on_target, now())
    }

    pub(super) fn rename_at(
        &self,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        on_target: OnTarget,
        time: Time,
    ) -> Result<(), FsError> {
        let _gate = self.enter()?;
        let (from, from_name) = (from.0, checked(from.1)?);
        let (to, to_name) = (to.0, free_name(to.0, to.1)?);
        let (from_name_again, to_name_again) = (from_name.clone(), to_name.clone());
        let (mut table, [source, target]) = self.resolve([(from, &from_name), (to, &to_name)])?;
        let source = source.ok_or(FsError::NotFound)?;
        if table.get(to).is_none_or(|inode| inode.nlink == 0) {
            return Err(FsError::NotFound);
        }
        match (target, on_target) {
            (Some(_), OnTarget::Refuse) => return Err(FsError::Exists),
            (None, OnTarget::Exchange) => return Err(FsError::NotFound),
            (Some(target), _) if target == source => return Ok(()),
            _ => {}
        }
        below_itself(&table, source, to)?;
        let exchanged = target.filter(|_| on_target == OnTarget::Exchange);
        match target {
            Some(target) if exchanged.is_some() => below_itself(&table, target, from)?,
            Some(target) => replaceable(&table, source, target)?,
            None => {}
        }
        let (Some(from_id), Some(to_id)) = (table.locate(from), table.locate(to)) else {
            return Err(FsError::NotFound);
        };
        let change = Change::Rename {
            from: (from_id, from_name.clone()),
            to: (to_id, to_name.clone()),
            exchange: exchanged.is_some(),
            time,
        };
        table.log.push_moving(change, [Some(source), exchanged]);
        if let Some(target) = target.filter(|_| exchanged.is_none()) {
            remove_link(&mut table, to, &to_name, target, time);
        }
        if let Some(target) = exchanged {
            table.pin(target);
            table.remove_name(to, &to_name, target);
        }
        table.pin(source);
        table.remove_name(from, &from_name, source);
        table.add_name(to, to_name, source);
        table.unpin(source);
        if let Some(target) = exchanged {
            table.add_name(from, from_name, target);
            touch_times(&mut table, target, false, time);
            table.unpin(target);
        }
        touch_times(&mut table, source, false, time);
        touch_times(&mut table, from, true, time);
        touch_times(&mut table, to, true, time);
        drop(table);
        self.changed();
        if self.news.is_pending() {
            // The kernel moves what it knows of the names, and that may be what was there before.
            let names = [(from, from_name_again), (to, to_name_again)].into();
            self.news.tell_also(Stale { names, ..Stale::default() });
        }
        Ok(())
    }

    /// The target of a symbolic link.
    pub(crate) fn read_link(&self, ino: Ino) -> Result<Box<[u8]>, FsError> {
        match self.table.lock().get(ino).map(|inode| &inode.object) {
            Some(Object::Symlink(target)) => Ok(target.clone()),
            Some(_) => Err(FsError::Invalid),
            None => Err(FsError::NotFound),
        }
    }

    /// The kernel dropped lookups that it was given.
    pub(crate) fn forget(&self, ino: Ino, count: u64) {
        self.table.lock().forget(ino, count);
    }

    /// Finds what names lead to, brings it into memory, and gives the table with it, unchanged since.
    ///
    /// What is found is in the table as long as the guard is held, unless it is evicted by name, and longer only if it is
    /// made to be.
    pub(super) fn resolve<const N: usize>(
        &self,
        places: [Place<'_>; N],
    ) -> Result<(Held<'_, N>, [Option<Ino>; N]), FsError> {
        let mut stored: [Option<Stored>; N] = [const { None }; N];
        let _using = self.using.read();
        loop {
            let mut held = Held { table: self.table.lock(), found: [None; N] };
            let mut asked = None;
            for (at, place) in places.iter().enumerate() {
                match self.resolve_in(&mut held, *place, stored[at].as_ref())? {
                    Resolved::Known(ino) => held.found[at] = ino,
                    question => asked = Some((at, question)),
                }
            }
            let Some((at, question)) = asked else {
                let found = held.found;
                return Ok((held, found));
            };
            drop(held);
            self.ask(question, places[at].1, &mut stored[at])?;
        }
    }

    /// Reads what a resolution lacks from the stored trees.
    fn ask(&self, question: Resolved, name: &Name, stored: &mut Option<Stored>) -> Result<(), FsError> {
        match question {
            Resolved::Known(_) => {}
            Resolved::Ask(directory) => {
                let target = directory.lookup(self.vault(), name)?;
                *stored = Some(Stored { directory, target, shared: None });
            }
            Resolved::AskShared(id, inodes) => {
                let inode = inodes.get(self.vault(), &id)?;
                if let Some(stored) = stored {
                    stored.shared = Some((inodes, inode));
                }
            }
        }
        Ok(())
    }

    /// Brings a file that has several names into memory, by its id, and pins it.
    pub(super) fn hold_shared(&self, id: FileId) -> Result<Ino, FsError> {
        let mut stored = None;
        let _using = self.using.read();
        loop {
            let mut table = self.table.lock();
            match self.resolve_shared(&mut table, id, stored.as_ref())? {
                Resolved::Known(ino) => {
                    let ino = ino.ok_or(FsError::NotFound)?;
                    table.pin(ino);
                    return Ok(ino);
                }
                _ => {
                    let inodes = table.shared_base.clone();
                    drop(table);
                    let inode = inodes.get(self.vault(), &id)?;
                    stored = Some((inodes, inode));
                }
            }
        }
    }

    fn resolve_in(
        &self,
        table: &mut Table,
        (parent, name): Place<'_>,
        stored: Option<&Stored>,
    ) -> Result<Resolved, FsError> {
        let directory = table.directory(parent).ok_or(FsError::NotDirectory)?;
        if let Some(changed) = directory.changed(name) {
            return Ok(Resolved::Known(changed));
        }
        if directory.base.is_empty() {
            return Ok(Resolved::Known(None));
        }
        let Some(stored) = stored.filter(|stored| stored.directory == directory.base) else {
            return Ok(Resolved::Ask(directory.base.clone()));
        };
        match &stored.target {
            None => Ok(Resolved::Known(None)),
            Some(Target::Record(record)) => {
                let links = Links::Home(parent, name.clone());
                Ok(Resolved::Known(Some(table.load(record, links, |record| self.object(record)))))
            }
            Some(Target::Shared { id, .. }) => {
                let resolved = self.resolve_shared(table, *id, stored.shared.as_ref())?;
                if let Resolved::Known(Some(ino)) = resolved {
                    table.named(ino, parent, name);
                }
                Ok(resolved)
            }
        }
    }

    fn resolve_shared(
        &self,
        table: &mut Table,
        id: FileId,
        stored: Option<&(Tree<SharedInode>, Option<SharedInode>)>,
    ) -> Result<Resolved, FsError> {
        if let Ok(ino) = table.find(id) {
            return Ok(Resolved::Known(Some(ino)));
        }
        let Some((_, inode)) = stored.filter(|(inodes, _)| *inodes == table.shared_base) else {
            return Ok(Resolved::AskShared(id, table.shared_base.clone()));
        };
        let Some(inode) = inode else {
            tracing::error!("a name leads to a file that is not in the table of shared inodes");
            return Err(FsError::Io);
        };
        let links = Links::Shared(inode.nlink);
        Ok(Resolved::Known(Some(table.load(&inode.record, links, |record| self.object(record)))))
    }

    /// Why something can not be done with a file that has no name: or it is not meant any more, and whoever asks looks again.
    pub(super) fn gone(&self, inode: &Inode) -> FsError {
        if inode.detached.is_some() && self.news.is_pending() { FsError::Stale } else { FsError::NotFound }
    }

    /// Counts a lookup and describes the inode.
    fn reply(&self, table: &mut Table, ino: Ino) -> Result<Stat, FsError> {
        table.looked_up(ino, 1);
        self.stat(table, ino)
    }
}

/// A name as a directory can have it.
fn checked(name: &[u8]) -> Result<Name, FsError> {
    use jaxfs_sync::tree::BadName;
    Name::new(name).map_err(|bad| match bad {
        BadName::TooLong => FsError::NameTooLong,
        BadName::Empty | BadName::Reserved => FsError::Invalid,
    })
}

/// A name that may be given to something. Two names in the root are kept for the folders that show other versions.
fn free_name(parent: Ino, name: &[u8]) -> Result<Name, FsError> {
    if parent == Ino::ROOT && limits::RESERVED_NAMES.contains(&name) {
        return Err(FsError::NotPermitted);
    }
    checked(name)
}

fn symlink(target: Box<[u8]>) -> Result<Body, FsError> {
    match target.len() {
        0 => Err(FsError::NotFound),
        len if len > jaxfs_sync::limits::SYMLINK_BYTES => Err(FsError::NameTooLong),
        _ => Ok(Body::Symlink(target)),
    }
}

fn remove_link(table: &mut Table, parent: Ino, name: &Name, ino: Ino, time: Time) {
    touch_times(table, ino, false, time);
    // The name may be all that holds it.
    table.pin(ino);
    table.remove_name(parent, name, ino);
    table.unlink(ino);
    table.unpin(ino);
}

/// Sets ctime, and mtime too where entries or content changed, and marks the inode.
pub(super) fn touch_times(table: &mut Table, ino: Ino, modified: bool, time: Time) {
    if let Some(inode) = table.get_mut(ino) {
        inode.attributes.ctime = time;
        if modified {
            inode.attributes.mtime = time;
        }
    }
    table.touch(ino);
}

/// A directory can not move below itself.
fn below_itself(table: &Table, moved: Ino, to: Ino) -> Result<(), FsError> {
    if ancestors(table, to).any(|ino| ino == moved) { Err(FsError::Invalid) } else { Ok(()) }
}

/// A directory and all above it.
fn ancestors(table: &Table, from: Ino) -> impl Iterator<Item = Ino> {
    let above = |ino: &Ino| table.get(*ino)?.home.as_ref().map(|(parent, _)| *parent);
    std::iter::successors(Some(from), above)
}

/// Whether a rename may replace `target` by `source`.
fn replaceable(table: &Table, source: Ino, target: Ino) -> Result<(), FsError> {
    match (table.directory(source), table.directory(target)) {
        (Some(_), None) => Err(FsError::NotDirectory),
        (None, Some(_)) => Err(FsError::IsDirectory),
        (Some(_), Some(directory)) if directory.entries > 0 => Err(FsError::NotEmpty),
        _ => Ok(()),
    }
}
