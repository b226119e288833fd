//! Between the journal and the file system: what is not safe yet goes into it, and after a crash it is done again.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use jaxfs_sync::tree::{Change, FileId, Name, Record, change};

use super::Fs;
use super::file::TooMuch;
use super::log::Logged;
use super::names::OnTarget;
use super::table::{Ino, Table};
use crate::errno::FsError;
use crate::limits;

impl Fs {
    /// Puts into the journal what is not safe: all changes of names and attributes, and the content of these files. Gives
    /// false if that can not be, and a version has to be made durable for it.
    pub(super) fn journal(&self, files: &[Ino]) -> bool {
        // A disk that is nearly full has no room for another file of the journal: the version needs it.
        if self.check_disk(limits::JOURNAL_ROOM).is_err() {
            return false;
        }
        // Until the journal names what the changes name.
        let _using = self.using.read();
        let Some(changes) = gather(&mut self.table.lock(), files) else { return false };
        let written = self.bucket.journal(changes.into_iter().map(|logged| (logged.generation, logged.change)));
        if let Err(error) = &written {
            tracing::warn!(%error, "the journal can not be written");
        }
        let safe = written.unwrap_or(false);
        if !safe {
            // What was taken out of the log is safe with the next version only.
            self.table.lock().log.give_up();
        }
        if self.bucket.journal_is_filling() {
            self.writeback.relieve();
        }
        safe
    }

    /// Does what the journal has again. What can not be is left out: a damaged entry must not keep a mount from coming up.
    ///
    /// # Errors
    /// If the disk can not be read at present. The journal stays as it is then.
    pub(super) fn redo(&self, changes: impl IntoIterator<Item = Change>) -> Result<(), FsError> {
        self.table.lock().log.mute(true);
        let mut redo = Redo { fs: self, inos: HashMap::new() };
        let (mut done, mut failed) = (0, 0);
        for change in changes {
            match redo.apply(change) {
                Ok(()) => done += 1,
                Err(FsError::Disk) => return Err(FsError::Disk),
                Err(error) => {
                    failed += 1;
                    tracing::error!(%error, "a change from the journal does not fit");
                }
            }
        }
        drop(redo);
        self.table.lock().log.mute(false);
        if done + failed > 0 {
            tracing::info!(done, failed, "changes of the last run were done again from the journal");
        }
        Ok(())
    }
}

/// Takes out of the log and the files what is to be written.
fn gather(table: &mut Table, files: &[Ino]) -> Option<Vec<Logged>> {
    let mut changes = table.log.take()?;
    let moved = changes.iter().flat_map(|logged| logged.moved).flatten();
    let mut room = limits::JOURNALED_AT_ONCE;
    for ino in moved.chain(files.iter().copied()).collect::<Vec<_>>() {
        let Some(file) = table.get(ino).and_then(|inode| inode.file().cloned()) else { continue };
        let Some(id) = table.locate(ino) else { continue };
        if file.is_changed() {
            // Who wrote may not have come to mark it. What is taken here has to be in the next version, whoever freezes it.
            table.touch(ino);
        }
        let data = match file.take_unsynced(id) {
            Ok(None) => continue,
            Ok(Some(data)) => room.checked_sub(data.weight()).map(|left| {
                room = left;
                data
            }),
            Err(TooMuch) => None,
        };
        let Some(data) = data else {
            table.log.give_up();
            return None;
        };
        table.log.push(data);
        table.log_attributes(ino);
    }
    changes.extend(table.log.take()?);
    Some(changes)
}

/// Changes that are being done again.
struct Redo<'a> {
    fs: &'a Fs,
    /// The files that were named so far. They are held in memory.
    inos: HashMap<FileId, Ino>,
}

impl Redo<'_> {
    fn apply(&mut self, change: Change) -> Result<(), FsError> {
        let fs = self.fs;
        match change {
            Change::Locate { id, path } => {
                let ino = fs.hold_at(id, &path)?;
                self.held(id, ino);
            }
            Change::Make { at: (directory, name), record } => {
                let (parent, id) = (self.ino(directory)?, record.id);
                let ino = fs.make_again(parent, name, *record)?;
                fs.table.lock().pin(ino);
                self.held(id, ino);
                fs.forget(ino, 1);
            }
            Change::Link { id, at: (directory, name), time } => {
                let stat = fs.link_at(self.ino(id)?, self.ino(directory)?, &name, time)?;
                fs.forget(stat.ino, 1);
            }
            Change::Remove { at: (directory, name), time } => {
                fs.remove(self.ino(directory)?, &name, time, |_| Ok(()))?
            }
            Change::Rename { from, to, exchange, time } => {
                let on_target = if exchange { OnTarget::Exchange } else { OnTarget::Replace };
                fs.rename_at((self.ino(from.0)?, &from.1), (self.ino(to.0)?, &to.1), on_target, time)?;
            }
            Change::Attributes(attributes) => fs.attributes_again(self.ino(attributes.id)?, *attributes)?,
            Change::Data { id, cut, writes, size } => {
                let ino = self.ino(id)?;
                fs.file(ino)?.redo(cut, writes, size)?;
                fs.table.lock().touch(ino);
            }
        }
        Ok(())
    }

    fn ino(&self, id: FileId) -> Result<Ino, FsError> {
        self.inos.get(&id).copied().ok_or(FsError::NotFound)
    }

    /// Takes over a hold.
    fn held(&mut self, id: FileId, ino: Ino) {
        if self.inos.insert(id, ino).is_some() {
            self.fs.table.lock().unpin(ino);
        }
    }
}

impl Drop for Redo<'_> {
    fn drop(&mut self) {
        let mut table = self.fs.table.lock();
        self.inos.values().for_each(|ino| table.unpin(*ino));
    }
}

impl Fs {
    /// Brings the file of an id into memory and holds it there. One with several names has no path.
    fn hold_at(&self, id: FileId, path: &[Name]) -> Result<Ino, FsError> {
        if path.is_empty() && self.table.lock().get(Ino::ROOT).is_none_or(|root| root.id != id) {
            return self.hold_shared(id);
        }
        let mut at = Ino::ROOT;
        self.table.lock().pin(at);
        for name in path {
            let found = self.resolve([(at, name)]).map(|(mut table, [found])| found.inspect(|ino| table.pin(*ino)));
            self.table.lock().unpin(at);
            at = found?.ok_or(FsError::NotFound)?;
        }
        let mut table = self.table.lock();
        if table.get(at).is_none_or(|inode| inode.id != id) {
            table.unpin(at);
            return Err(FsError::NotFound);
        }
        Ok(at)
    }

    fn make_again(&self, parent: Ino, name: Name, record: Record) -> Result<Ino, FsError> {
        let (mut table, [existing]) = self.resolve([(parent, &name)])?;
        if existing.is_some() {
            return Err(FsError::Exists);
        }
        self.add(&mut table, parent, name, record).map(|(stat, _)| stat.ino)
    }

    fn attributes_again(&self, ino: Ino, attributes: change::Attributes) -> Result<(), FsError> {
        let mut table = self.table.lock();
        table.get_mut(ino).ok_or(FsError::NotFound)?.attributes.redo(attributes);
        table.touch(ino);
        Ok(())
    }
}
