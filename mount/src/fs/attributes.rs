//! What `stat` shows, `chmod` and its like change, and extended attributes.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use jaxfs_sync::tree::{BadRecord, Body, Kind, Time};

use super::table::{Attributes, Ino, Inode, Object, Table};
use super::{Caller, Fs, acl, now};
use crate::Owner;
use crate::errno::FsError;

const S_ISUID: u16 = 0o4000;
pub(super) const S_ISGID: u16 = 0o2000;
const CAPABILITIES: &[u8] = b"security.capability";
const LABEL: &[u8] = b"security.selinux";

/// What is shown of an inode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) ino: Ino,
    pub(crate) kind: Kind,
    pub(crate) mode: u16,
    pub(crate) nlink: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// In units of 512 bytes.
    pub(crate) blocks: u64,
    /// Whether this stays as it is until something is changed: what is not sealed yet may come to take less room.
    pub(crate) settled: bool,
    pub(crate) atime: Time,
    pub(crate) mtime: Time,
    pub(crate) ctime: Time,
    pub(crate) btime: Time,
}

/// What `setattr` asks for. Nothing at all is what is left of a wish to drop set-id bits and capabilities, which the kernel
/// has no word for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) mode: Option<u16>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) atime: Option<Time>,
    pub(crate) mtime: Option<Time>,
}

impl Attributes {
    /// Takes the set-id bits and file capabilities away, as when somebody else writes.
    pub(super) fn drop_privileges(&mut self) {
        self.mode &= !S_ISUID;
        // Without group execution the bit once meant mandatory locking, and stays.
        if self.mode & 0o010 != 0 {
            self.mode &= !S_ISGID;
        }
        self.remove_xattr(CAPABILITIES);
    }

    /// Sets an extended attribute, or leaves everything as it was.
    pub(super) fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), FsError> {
        Arc::make_mut(&mut self.xattrs).set(name, value).map_err(|bad| match bad {
            BadRecord::XattrName => FsError::Range,
            BadRecord::XattrSpace => FsError::NoSpace,
        })
    }

    /// Removes an extended attribute; whether it was there.
    pub(super) fn remove_xattr(&mut self, name: &[u8]) -> bool {
        self.xattrs.get(name).is_some() && Arc::make_mut(&mut self.xattrs).remove(name)
    }
}

impl Fs {
    /// Describes an inode.
    pub(crate) fn attributes(&self, ino: Ino) -> Result<Stat, FsError> {
        self.stat(&self.table.lock(), ino)
    }

    pub(super) fn stat(&self, table: &Table, ino: Ino) -> Result<Stat, FsError> {
        let inode = table.get(ino).ok_or(FsError::NotFound)?;
        let (size, blocks, settled) = match &inode.object {
            Object::File(file) => file.measure(),
            Object::Directory(directory) => {
                let (size, blocks) = directory_size(directory.entries);
                (size, blocks, true)
            }
            Object::Symlink(target) => (target.len() as u64, 0, true),
            Object::Special(_) => (0, 0, true),
        };
        Ok(self.describe(ino, inode, (size, blocks, settled)))
    }

    fn describe(&self, ino: Ino, inode: &Inode, (size, blocks, settled): (u64, u64, bool)) -> Stat {
        let (uid, gid) = self.shown_owner(&inode.attributes);
        let rdev = match &inode.object {
            Object::Special(Body::CharDevice(number) | Body::BlockDevice(number)) => *number,
            _ => 0,
        };
        let Attributes { mode, mtime, ctime, btime, atime, .. } = inode.attributes;
        let (kind, nlink) = (inode.kind(), inode.links());
        let atime = atime.unwrap_or(mtime);
        Stat { ino, kind, mode, nlink, uid, gid, rdev, size, blocks, settled, atime, mtime, ctime, btime }
    }

    /// User and group, as they are shown.
    const fn shown_owner(&self, attributes: &Attributes) -> (u32, u32) {
        match self.owner {
            Owner::Me { uid, gid } => (uid, gid),
            Owner::Stored => (attributes.uid, attributes.gid),
        }
    }

    /// Changes attributes, all in one step, and describes the result.
    pub(crate) fn set_attributes(&self, ino: Ino, wanted: Changed, caller: Caller) -> Result<Stat, FsError> {
        // The kernel brings times behind what was written; the rest is somebody's wish.
        if wanted.size.is_some() || wanted.mode.is_some() || wanted.uid.is_some() || wanted.gid.is_some() {
            self.may_begin()?;
        }
        let _gate = self.enter()?;
        if let Owner::Me { uid, gid } = self.owner
            && (wanted.uid.is_some_and(|wanted| wanted != uid) || wanted.gid.is_some_and(|wanted| wanted != gid))
        {
            return Err(FsError::NotPermitted);
        }
        let time = now();
        let file = match wanted.size {
            Some(size) => Some((self.file(ino)?, size)),
            None => None,
        };
        let mut table = self.table.lock();
        let inode = table.get(ino).ok_or(FsError::NotFound)?;
        if inode.detached.is_some() && !inode.is_open() && self.news.is_pending() {
            return Err(FsError::Stale);
        }
        let inode = table.get_mut(ino).ok_or(FsError::NotFound)?;
        let is_directory = inode.directory().is_some();
        let attributes = &mut inode.attributes;
        if let Some(mode) = wanted.mode {
            acl::follow_mode(attributes, mode)?;
        }
        // Under the table's lock, so that no version has the one without the other.
        if let Some((file, size)) = file {
            file.truncate(size)?;
        }
        attributes.ctime = time;
        if wanted == Changed::default() && !is_directory {
            attributes.drop_privileges();
        }
        if wanted.size.is_some() {
            attributes.mtime = time;
            if caller.uid != 0 {
                attributes.drop_privileges();
            }
        }
        if let Owner::Stored = self.owner {
            attributes.uid = wanted.uid.unwrap_or(attributes.uid);
            attributes.gid = wanted.gid.unwrap_or(attributes.gid);
            if wanted.uid.or(wanted.gid).is_some() && wanted.mode.is_none() && !is_directory {
                attributes.drop_privileges();
            }
        }
        attributes.mode = wanted.mode.unwrap_or(attributes.mode);
        attributes.mtime = wanted.mtime.unwrap_or(attributes.mtime);
        attributes.atime = wanted.atime.or(attributes.atime);
        table.touch(ino);
        table.log_attributes(ino);
        let stat = self.stat(&table, ino);
        drop(table);
        if wanted.size.is_some() {
            self.keep_late(ino)?;
        }
        self.changed();
        stat
    }

    /// The value of an extended attribute.
    pub(crate) fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Box<[u8]>, FsError> {
        self.xattr_allowed(name)?;
        // A kernel with SELinux gives labels of its own. Without it, who is told that there are none asks once, and `ls -l` not
        // for every file.
        let absent = if name == LABEL { FsError::Unsupported } else { FsError::NoAttribute };
        let table = self.table.lock();
        let inode = table.get(ino).ok_or(FsError::NotFound)?;
        inode.attributes.xattrs.get(name).map(Into::into).ok_or(absent)
    }

    /// The names of all extended attributes that the caller may know of, each ended by NUL.
    pub(crate) fn xattr_names(&self, ino: Ino, caller: Caller) -> Result<Vec<u8>, FsError> {
        let table = self.table.lock();
        let inode = table.get(ino).ok_or(FsError::NotFound)?;
        // The kernel keeps others from reading them, and leaves it to the file system not to name them.
        let may_know = |name: &[u8]| caller.uid == 0 || !name.starts_with(b"trusted.");
        let names = inode.attributes.xattrs.iter().map(|(name, _)| name);
        let shown = names.filter(|name| may_know(name) && self.xattr_allowed(name).is_ok());
        Ok(shown.flat_map(|name| name.iter().copied().chain([0])).collect())
    }

    /// Sets an extended attribute. `exists` says whether it has to exist before, or must not.
    pub(crate) fn set_xattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        exists: Option<bool>,
        caller: Caller,
    ) -> Result<(), FsError> {
        self.may_begin()?;
        self.xattr_allowed(name)?;
        let root = caller.uid == 0;
        // Asked for before the table is locked.
        let groups = if name == acl::ACCESS && !root { caller.groups() } else { Vec::new() };
        self.change_xattrs(ino, |kind, attributes| {
            match (exists, attributes.xattrs.get(name).is_some()) {
                (Some(false), true) => return Err(FsError::Exists),
                (Some(true), false) => return Err(FsError::NoAttribute),
                _ => {}
            }
            match name {
                acl::ACCESS => {
                    let (_, gid) = self.shown_owner(attributes);
                    acl::set_access(attributes, kind, value, root || groups.contains(&gid))
                }
                acl::DEFAULT => acl::set_default(attributes, kind, value),
                _ => attributes.set_xattr(name, value),
            }
        })
    }

    /// Removes an extended attribute. An ACL need not be there.
    pub(crate) fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<(), FsError> {
        self.may_begin()?;
        self.xattr_allowed(name)?;
        self.change_xattrs(ino, |_, attributes| {
            let is_acl = matches!(name, acl::ACCESS | acl::DEFAULT);
            if attributes.remove_xattr(name) || is_acl { Ok(()) } else { Err(FsError::NoAttribute) }
        })
    }

    fn change_xattrs(
        &self,
        ino: Ino,
        change: impl FnOnce(Kind, &mut Attributes) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        let _gate = self.enter()?;
        let mut table = self.table.lock();
        let inode = table.get_mut(ino).ok_or(FsError::NotFound)?;
        change(inode.kind(), &mut inode.attributes)?;
        inode.attributes.ctime = now();
        table.touch(ino);
        table.log_attributes(ino);
        drop(table);
        self.changed();
        Ok(())
    }

    /// A name in one of the name spaces that can be stored; those of ACLs only where the kernel heeds them.
    fn xattr_allowed(&self, name: &[u8]) -> Result<(), FsError> {
        let spaces: [&[u8]; 3] = [b"user.", b"security.", b"trusted."];
        match name {
            acl::ACCESS | acl::DEFAULT if self.heeds_acls() => Ok(()),
            name => match spaces.iter().find_map(|space| name.strip_prefix(*space)) {
                None => Err(FsError::Unsupported),
                Some(b"") => Err(FsError::Invalid),
                Some(_) => Ok(()),
            },
        }
    }
}

/// A size for a directory, as other file systems show one: it grows with the number of names.
fn directory_size(entries: u64) -> (u64, u64) {
    let size = entries.saturating_mul(64).min(1 << 40).next_multiple_of(4096).max(4096);
    (size, size / 512)
}
