//! Comparing the file system with the model.

use std::collections::BTreeMap;

use jaxfs_sync::tree::{Kind, Time};

use super::lab::ME;
use super::plain::{Body, Id, ROOT, Stamp};
use super::world::World;
use crate::errno::FsError;
use crate::fs::{Ino, Stat};

impl World {
    /// Compares everything: names and what they lead to, what has no name and is held, and the table of inodes.
    pub(super) fn compare(&mut self) {
        self.check();
        let root = self.fs().attributes(Ino::ROOT).unwrap();
        self.compare_stat(ROOT, &root);
        self.compare_node(ROOT);
        let held: Vec<_> = self.lookups.keys().copied().filter(|id| self.plain.node(*id).links == 0).collect();
        for id in held {
            let stat = self.fs().attributes(self.inos[&id]).unwrap();
            self.compare_stat(id, &stat);
        }
        for (handle, id) in self.handles.clone() {
            self.compare_range(handle, id, 0, 1 << 20);
        }
        self.check();
    }

    /// The inode table is in order, and holds what the kernel holds.
    fn check(&self) {
        let found: BTreeMap<_, _> = self.fs().check();
        let counted = self.lookups.iter().map(|(id, count)| (self.inos[id], *count)).collect();
        assert_eq!(found, counted, "lookups are counted as the kernel counts them");
    }

    fn compare_node(&mut self, id: Id) {
        let ino = self.inos[&id];
        let names = self.fs().xattr_names(ino, ME).unwrap();
        let expected: Vec<u8> = self.plain.node(id).xattrs.keys().flat_map(|name| [name, &[0][..]].concat()).collect();
        assert_eq!(names, expected);
        for (name, value) in &self.plain.node(id).xattrs {
            assert_eq!(*self.fs().xattr(ino, name).unwrap(), **value);
        }
        match self.plain.node(id).body.clone() {
            Body::Directory(names) => {
                self.list(id, ino, true, 7);
                for child in names.into_values() {
                    self.compare_node(child);
                    self.forget(child, 1);
                }
            }
            Body::File(_) => {
                let handle = self.fs().open(ino, None, false, ME).unwrap();
                self.compare_range(handle, id, 0, 1 << 20);
                self.fs().release(handle);
            }
            Body::Symlink(target) => assert_eq!(*self.fs().read_link(ino).unwrap(), *target),
            Body::Fifo | Body::Device(_) => {}
        }
    }

    pub(super) fn compare_stat(&mut self, id: Id, stat: &Stat) {
        let node = self.plain.node(id);
        assert_eq!(stat.ino, self.inos[&id]);
        assert_eq!((stat.kind, stat.nlink), (node.kind(), self.plain.nlink(id)), "kind and links of {id}");
        assert_eq!((stat.mode, stat.uid, stat.gid), (node.mode, node.uid, node.gid), "mode and owner of {id}");
        let (size, rdev) = match &node.body {
            Body::File(content) => (content.len() as u64, 0),
            Body::Directory(_) => (stat.size, 0),
            Body::Symlink(target) => (target.len() as u64, 0),
            Body::Fifo => (0, 0),
            Body::Device(number) => (0, *number),
        };
        assert_eq!((stat.size, stat.rdev), (size, rdev), "size and device of {id}");
        let mtime = settle(stat.mtime, node.mtime, "mtime", id);
        let ctime = settle(stat.ctime, node.ctime, "ctime", id);
        let btime = settle(stat.btime, node.btime, "btime", id);
        assert_eq!(stat.atime, node.atime.unwrap_or(stat.mtime), "atime of {id}");
        if let Some(node) = self.plain.nodes.get_mut(&id) {
            (node.mtime, node.ctime, node.btime) = (mtime, ctime, btime);
        }
    }

    /// Lists a directory in pages.
    pub(super) fn list(&mut self, id: Id, ino: Ino, attributes: bool, page: usize) {
        let handle = self.fs().open_directory(ino).unwrap();
        let mut found = BTreeMap::new();
        let mut offset = 0;
        loop {
            let mut listed = Vec::new();
            self.fs()
                .list(ino, handle, offset, attributes, |entry| {
                    if listed.len() < page {
                        listed.push((entry.name.clone(), entry.offset, entry.ino, entry.kind, entry.stat));
                    }
                    listed.len() >= page && listed.last().is_none_or(|last| last.0 != entry.name)
                })
                .unwrap();
            let Some(last) = listed.last() else { break };
            offset = last.1;
            for (name, offset, ino, kind, stat) in listed {
                if name == b"." || name == b".." {
                    assert_eq!(kind, Kind::Directory);
                    continue;
                }
                let child = *self.plain.names(id).get(&name).expect("a name of the model");
                assert_eq!(kind, self.plain.node(child).kind());
                assert_eq!(*self.inos.entry(child).or_insert(ino), ino, "a listing shows a file's number");
                if let Some(stat) = stat {
                    self.looked_up(child, &stat);
                }
                assert!(found.insert(name, offset).is_none(), "each name once");
            }
        }
        self.fs().release(handle);
        assert!(found.keys().eq(self.plain.names(id).keys()), "every name");
    }

    pub(super) fn compare_around(&self, handle: u64, id: Id, at: u64, len: u64) {
        let from = at.saturating_sub(3);
        self.compare_range(handle, id, from, at + len + 3 - from);
    }

    pub(super) fn compare_range(&self, handle: u64, id: Id, at: u64, len: u64) {
        let found = self.fs().read(handle, at, len as usize).unwrap();
        let expected = self.plain.read(id, at, len);
        assert_eq!(found.len(), expected.len(), "size of {id}");
        if found == expected {
            return;
        }
        if let Some(wrong) = found.iter().zip(expected).position(|(found, expected)| found != expected) {
            let (found, expected) = (found[wrong], expected[wrong]);
            panic!("byte {} of {id} is {found} instead of {expected}", at + wrong as u64);
        }
    }

    /// Where data and holes are is for the file system to say; but nothing outside of data is anything but zeros.
    pub(super) fn seek(&self, handle: u64, id: Id, at: u64) {
        let size = self.plain.content(id).len() as u64;
        let zeros = |range: std::ops::Range<u64>| {
            self.plain.content(id)[range.start as usize..range.end as usize].iter().all(|byte| *byte == 0)
        };
        match (self.fs().seek(handle, at, true), self.fs().seek(handle, at, false)) {
            (data, hole) if at >= size => {
                assert_eq!((data, hole), (Err(FsError::NoOffset), Err(FsError::NoOffset)));
            }
            (Err(error), hole) => {
                assert_eq!((error, hole), (FsError::NoOffset, Ok(at)));
                assert!(zeros(at..size), "data that is not told of");
            }
            (Ok(data), hole) => {
                assert!(at <= data && data < size && zeros(at..data), "data that is not told of");
                let hole = hole.unwrap();
                assert!(at == data || at == hole, "an offset is in data or in a hole");
                assert!(hole <= size && (hole == size || zeros(hole..hole + 1)), "a hole with data");
                assert_eq!(self.fs().seek(handle, data, true), Ok(data));
                if hole < size {
                    assert_eq!(self.fs().seek(handle, hole, false), Ok(hole));
                }
            }
        }
    }
}

/// A time has to be what is expected, and is known from then on.
fn settle(found: Time, expected: Stamp, what: &str, id: Id) -> Stamp {
    assert!(expected.from <= found && found <= expected.until, "{what} of {id}: {found:?} instead of {expected:?}");
    Stamp::exactly(found)
}
