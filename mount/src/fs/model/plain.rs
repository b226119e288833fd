//! The plain model: what a file system is to do, with maps and vectors and nothing clever.

use std::collections::BTreeMap;
use std::rc::Rc;

use jaxfs_sync::limits::{SYMLINK_BYTES, XATTR_BYTES};
use jaxfs_sync::tree::{Kind, Time};

use super::acl::{self, Acl};
use super::lab::ME;
use super::op::{Sort, Space};
use crate::errno::FsError;
use crate::fs::{OnTarget, Stat};

type Result<T> = std::result::Result<T, FsError>;

/// A file's number in the model.
pub(super) type Id = u32;

pub(super) const ROOT: Id = 0;

/// A time that is known, or known to be between two others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) from: Time,
    pub(super) until: Time,
}

impl Stamp {
    pub(super) const fn exactly(time: Time) -> Self {
        Self { from: time, until: time }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    File(Rc<Vec<u8>>),
    Directory(BTreeMap<Vec<u8>, Id>),
    Symlink(Vec<u8>),
    Fifo,
    Device(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Stamp,
    pub(super) ctime: Stamp,
    pub(super) btime: Stamp,
    pub(super) atime: Option<Time>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Names.
    pub(super) links: u64,
    /// Its content was changed since it was made, or synced.
    pub(super) written: bool,
    pub(super) body: Body,
}

impl Node {
    pub(super) fn kind(&self) -> Kind {
        match &self.body {
            Body::File(_) => Kind::File,
            Body::Directory(_) => Kind::Directory,
            Body::Symlink(_) => Kind::Symlink,
            Body::Fifo => Kind::Fifo,
            Body::Device(_) => Kind::CharDevice,
        }
    }

    pub(super) fn names(&self) -> Option<&BTreeMap<Vec<u8>, Id>> {
        match &self.body {
            Body::Directory(names) => Some(names),
            _ => None,
        }
    }

    fn is_directory(&self) -> bool {
        self.names().is_some()
    }

    fn drop_privileges(&mut self) {
        self.mode &= !0o4000;
        if self.mode & 0o010 != 0 {
            self.mode &= !0o2000;
        }
    }
}

/// A whole file system at a moment.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    pub(super) nodes: BTreeMap<Id, Node>,
    last: Id,
    /// When the operation under way happens.
    pub(super) now: Stamp,
    pub(super) umask: u16,
}

impl Plain {
    pub(super) fn new(root: Node) -> Self {
        Self { now: root.mtime, nodes: BTreeMap::from([(ROOT, root)]), last: ROOT, umask: 0 }
    }

    /// Is what it was at another moment, but for files that had no name then. Numbers are not used again.
    pub(super) fn go_back(&mut self, to: &Self) {
        self.nodes.clone_from(&to.nodes);
        self.nodes.retain(|_, node| node.links > 0);
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        &self.nodes[&id]
    }

    fn get(&mut self, id: Id) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    pub(super) fn names(&self, dir: Id) -> &BTreeMap<Vec<u8>, Id> {
        self.node(dir).names().unwrap()
    }

    fn names_mut(&mut self, dir: Id) -> &mut BTreeMap<Vec<u8>, Id> {
        match &mut self.get(dir).body {
            Body::Directory(names) => names,
            _ => panic!("a directory"),
        }
    }

    /// The content of a file, if there is one.
    pub(super) fn file(&self, id: Id) -> Option<&Rc<Vec<u8>>> {
        match &self.nodes.get(&id)?.body {
            Body::File(content) => Some(content),
            _ => None,
        }
    }

    pub(super) fn synced(&mut self, file: Id) {
        self.get(file).written = false;
    }

    /// Takes over what a file has that was written to, and not synced: times and set-id bits are from any moment since.
    pub(super) fn adopt(&mut self, file: Id, content: Rc<Vec<u8>>, found: &Stat) {
        let node = self.get(file);
        assert_eq!(node.mode & !0o6000, found.mode & !0o6000, "mode of {file}");
        node.mode = found.mode;
        (node.mtime, node.ctime) = (Stamp::exactly(found.mtime), Stamp::exactly(found.ctime));
        node.body = Body::File(content);
    }

    pub(super) fn content(&self, file: Id) -> &[u8] {
        match &self.node(file).body {
            Body::File(content) => content,
            _ => panic!("a file"),
        }
    }

    fn content_mut(&mut self, file: Id) -> &mut Vec<u8> {
        self.get(file).written = true;
        match &mut self.get(file).body {
            Body::File(content) => Rc::make_mut(content),
            _ => panic!("a file"),
        }
    }

    /// The link count that is shown.
    pub(super) fn nlink(&self, id: Id) -> u64 {
        let node = self.node(id);
        match node.names() {
            Some(_) if node.links == 0 => 0,
            Some(names) => 2 + names.values().filter(|id| self.node(**id).is_directory()).count() as u64,
            None => node.links,
        }
    }

    /// A directory and a name that lead to a file, if there are any.
    pub(super) fn place(&self, id: Id) -> Option<(Id, Vec<u8>)> {
        self.nodes.iter().find_map(|(dir, node)| {
            let (name, _) = node.names()?.iter().find(|(_, child)| **child == id)?;
            Some((*dir, name.clone()))
        })
    }

    fn changed(&mut self, id: Id) {
        self.get(id).ctime = self.now;
    }

    fn modified(&mut self, id: Id) {
        let now = self.now;
        let node = self.get(id);
        (node.ctime, node.mtime) = (now, now);
    }

    pub(super) fn make(&mut self, dir: Id, name: &[u8], sort: Sort, mode: u16) -> Result<Id> {
        let body = match sort {
            Sort::File => Body::File(Rc::default()),
            Sort::Directory => Body::Directory(BTreeMap::new()),
            Sort::Symlink(0) => return Err(FsError::NotFound),
            Sort::Symlink(len) if len > SYMLINK_BYTES => return Err(FsError::NameTooLong),
            Sort::Symlink(len) => Body::Symlink(vec![b'l'; len]),
            Sort::Fifo => Body::Fifo,
            Sort::Device(number) => Body::Device(number.into()),
        };
        self.free(dir, name)?;
        let (above, now) = (self.node(dir), self.now);
        let inherits = above.mode & 0o2000 != 0;
        let gid = if inherits { above.gid } else { ME.gid };
        let mode = if inherits && matches!(sort, Sort::Directory) { mode | 0o2000 } else { mode };
        let (mode, xattrs) = match above.xattrs.get(acl_name(true)) {
            _ if matches!(sort, Sort::Symlink(_)) => (mode, BTreeMap::new()),
            None => (mode & !self.umask, BTreeMap::new()),
            Some(default) => {
                let inherited = acl::inherited(&acl::read(default), mode);
                let own = (!acl::is_mode(&inherited)).then(|| (acl_name(false).to_vec(), acl::bytes(&inherited)));
                let passed_on = matches!(sort, Sort::Directory).then(|| (acl_name(true).to_vec(), default.clone()));
                (mode / 0o1000 * 0o1000 + acl::mode(&inherited), own.into_iter().chain(passed_on).collect())
            }
        };
        let uid = ME.uid;
        let node = Node {
            mode,
            uid,
            gid,
            mtime: now,
            ctime: now,
            btime: now,
            atime: None,
            xattrs,
            links: 1,
            written: false,
            body,
        };
        self.last += 1;
        let id = self.last;
        self.nodes.insert(id, node);
        self.names_mut(dir).insert(name.to_vec(), id);
        self.modified(dir);
        Ok(id)
    }

    fn free(&self, dir: Id, name: &[u8]) -> Result<()> {
        if self.names(dir).contains_key(name) {
            return Err(FsError::Exists);
        }
        if self.node(dir).links == 0 { Err(FsError::NotFound) } else { Ok(()) }
    }

    pub(super) fn link(&mut self, id: Id, dir: Id, name: &[u8]) -> Result<()> {
        self.free(dir, name)?;
        match self.node(id) {
            node if node.is_directory() => return Err(FsError::NotPermitted),
            node if node.links == 0 => return Err(FsError::NotFound),
            _ => self.get(id).links += 1,
        }
        self.names_mut(dir).insert(name.to_vec(), id);
        self.changed(id);
        self.modified(dir);
        Ok(())
    }

    pub(super) fn unlink(&mut self, dir: Id, name: &[u8]) -> Result<()> {
        let id = *self.names(dir).get(name).ok_or(FsError::NotFound)?;
        if self.node(id).is_directory() {
            return Err(FsError::IsDirectory);
        }
        self.remove(dir, name);
        Ok(())
    }

    pub(super) fn rmdir(&mut self, dir: Id, name: &[u8]) -> Result<()> {
        let id = *self.names(dir).get(name).ok_or(FsError::NotFound)?;
        match self.node(id).names() {
            None => Err(FsError::NotDirectory),
            Some(names) if !names.is_empty() => Err(FsError::NotEmpty),
            Some(_) => {
                self.remove(dir, name);
                Ok(())
            }
        }
    }

    fn remove(&mut self, dir: Id, name: &[u8]) {
        let id = self.names_mut(dir).remove(name).unwrap();
        self.get(id).links -= 1;
        self.changed(id);
        self.modified(dir);
    }

    pub(super) fn rename(&mut self, from: (Id, &[u8]), to: (Id, &[u8]), how: OnTarget) -> Result<()> {
        let source = *self.names(from.0).get(from.1).ok_or(FsError::NotFound)?;
        let target = self.names(to.0).get(to.1).copied();
        if self.node(to.0).links == 0 {
            return Err(FsError::NotFound);
        }
        match (target, how) {
            (Some(_), OnTarget::Refuse) => return Err(FsError::Exists),
            (None, OnTarget::Exchange) => return Err(FsError::NotFound),
            (Some(target), _) if target == source => return Ok(()),
            _ => {}
        }
        if self.is_below(to.0, source) {
            return Err(FsError::Invalid);
        }
        match (target, how) {
            (Some(target), OnTarget::Exchange) => {
                if self.is_below(from.0, target) {
                    return Err(FsError::Invalid);
                }
                self.names_mut(from.0).insert(from.1.to_vec(), target);
                self.changed(target);
            }
            (Some(target), _) => {
                match (self.node(source).is_directory(), self.node(target).names()) {
                    (true, None) => return Err(FsError::NotDirectory),
                    (false, Some(_)) => return Err(FsError::IsDirectory),
                    (true, Some(names)) if !names.is_empty() => return Err(FsError::NotEmpty),
                    _ => {}
                }
                self.remove(to.0, to.1);
                self.names_mut(from.0).remove(from.1);
            }
            (None, _) => drop(self.names_mut(from.0).remove(from.1)),
        }
        self.names_mut(to.0).insert(to.1.to_vec(), source);
        self.changed(source);
        self.modified(from.0);
        self.modified(to.0);
        Ok(())
    }

    /// Whether `id` is `above` or somewhere below it.
    fn is_below(&self, id: Id, above: Id) -> bool {
        id == above || self.place(id).is_some_and(|(dir, _)| self.is_below(dir, above))
    }

    pub(super) fn truncate(&mut self, id: Id, size: u64) -> Result<()> {
        match self.node(id).kind() {
            Kind::File => {
                self.content_mut(id).resize(size as usize, 0);
                self.modified(id);
                Ok(())
            }
            Kind::Directory => Err(FsError::IsDirectory),
            _ => Err(FsError::Invalid),
        }
    }

    pub(super) fn write(&mut self, id: Id, at: u64, data: &[u8], kill: bool) {
        let content = self.content_mut(id);
        let (at, end) = (at as usize, at as usize + data.len());
        content.resize(content.len().max(end), 0);
        content[at..end].copy_from_slice(data);
        if kill {
            self.get(id).drop_privileges();
        }
        self.modified(id);
    }

    pub(super) fn read(&self, id: Id, at: u64, len: u64) -> &[u8] {
        let content = self.content(id);
        let start = content.len().min(at as usize);
        &content[start..content.len().min(start + len as usize)]
    }

    pub(super) fn allocate(&mut self, id: Id, at: u64, len: u64, how: Space) {
        let (at, end) = (at as usize, (at + len) as usize);
        let content = self.content_mut(id);
        match how {
            Space::Grow | Space::Zero => content.resize(content.len().max(end), 0),
            Space::Keep | Space::Punch | Space::ZeroKeep => {}
        }
        if !matches!(how, Space::Grow | Space::Keep) {
            let size = content.len();
            content[at.min(size)..end.min(size)].fill(0);
        }
        self.modified(id);
    }

    pub(super) fn set_mode(&mut self, id: Id, mode: u16) {
        let node = self.get(id);
        node.mode = mode;
        if let Some(value) = node.xattrs.get_mut(acl_name(false)) {
            let mut access = acl::read(value);
            acl::chmod(&mut access, mode);
            *value = acl::bytes(&access);
        }
        self.changed(id);
    }

    pub(super) fn chown(&mut self, id: Id, uid: Option<u32>, gid: Option<u32>) {
        let node = self.get(id);
        node.uid = uid.unwrap_or(node.uid);
        node.gid = gid.unwrap_or(node.gid);
        if !node.is_directory() {
            node.drop_privileges();
        }
        self.changed(id);
    }

    pub(super) fn set_times(&mut self, id: Id, mtime: Option<Time>, atime: Option<Time>) {
        let node = self.get(id);
        node.mtime = mtime.map_or(node.mtime, Stamp::exactly);
        node.atime = atime.or(node.atime);
        if mtime.or(atime).is_none() && !node.is_directory() {
            node.drop_privileges();
        }
        self.changed(id);
    }

    pub(super) fn set_xattr(&mut self, id: Id, name: &[u8], value: &[u8], exists: Option<bool>) -> Result<()> {
        let xattrs = &mut self.get(id).xattrs;
        match (exists, xattrs.contains_key(name)) {
            (Some(false), true) => return Err(FsError::Exists),
            (Some(true), false) => return Err(FsError::NoAttribute),
            _ => {}
        }
        let others: usize = xattrs.iter().filter(|(n, _)| *n != name).map(|(n, v)| n.len() + v.len()).sum();
        if others + name.len() + value.len() > XATTR_BYTES {
            return Err(FsError::NoSpace);
        }
        xattrs.insert(name.to_vec(), value.to_vec());
        self.changed(id);
        Ok(())
    }

    pub(super) fn remove_xattr(&mut self, id: Id, name: &[u8]) -> Result<()> {
        self.get(id).xattrs.remove(name).ok_or(FsError::NoAttribute)?;
        self.changed(id);
        Ok(())
    }

    pub(super) fn remove_acl(&mut self, id: Id, name: &[u8]) {
        self.get(id).xattrs.remove(name);
        self.changed(id);
    }

    pub(super) fn set_acl(&mut self, id: Id, default: bool, acl: &Acl) -> Result<()> {
        match self.node(id).kind() {
            Kind::Symlink => return Err(FsError::Unsupported),
            kind if default && kind != Kind::Directory => return Err(FsError::Denied),
            _ => {}
        }
        if !default && acl::is_mode(acl) {
            self.get(id).xattrs.remove(acl_name(false));
        } else {
            self.set_xattr(id, acl_name(default), &acl::bytes(acl), None)?;
        }
        if !default {
            let node = self.get(id);
            node.mode = node.mode / 0o1000 * 0o1000 + acl::mode(acl);
        }
        self.changed(id);
        Ok(())
    }
}

pub(super) const fn acl_name(default: bool) -> &'static [u8] {
    if default { b"system.posix_acl_default" } else { b"system.posix_acl_access" }
}
