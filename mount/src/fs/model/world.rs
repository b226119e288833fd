//! The file system and the model side by side, and the kernel between them: what it has looked up and opened.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use jaxfs_sync::limits;
use jaxfs_sync::publish::Retention;
use jaxfs_sync::store::disk::simulated::Simulation;
use jaxfs_sync::tree::{Body as Stored, Time};

use super::lab::{Lab, ME};
use super::op::{At, Flush, Op, Pick, Sort, Space, name};
use super::plain::{Body, Id, Node, Plain, ROOT, Stamp, acl_name};
use super::{acl, fault};
use crate::errno::FsError;
use crate::fs::{Caller, Changed, Fs, Ino, New, Stat, now};
use crate::writeback::Durability;

pub(super) struct World {
    pub(super) lab: Option<Lab>,
    pub(super) disk: Option<Simulation>,
    mounted: Option<Arc<Fs>>,
    pub(super) plain: Plain,
    /// What a restart finds.
    pub(super) kept: Plain,
    /// But for the content of files that were not synced themselves, which is one of these.
    pub(super) loose: BTreeMap<Id, Vec<Rc<Vec<u8>>>>,
    /// When something was last synced by the journal, in operations.
    pub(super) synced: u64,
    /// The numbers of all files that were ever seen: they never change.
    pub(super) inos: BTreeMap<Id, Ino>,
    /// What the kernel has counted.
    pub(super) lookups: BTreeMap<Id, u64>,
    pub(super) handles: Vec<(u64, Id)>,
    /// Operations so far.
    pub(super) steps: u64,
}

impl World {
    pub(super) fn new() -> Self {
        Self::of(Lab::new(), None)
    }

    /// One on a disk whose power can be cut.
    pub(super) fn on(disk: Simulation) -> Self {
        Self::of(Lab::on(&disk), Some(disk))
    }

    fn of(lab: Lab, disk: Option<Simulation>) -> Self {
        let fs = lab.mount(usize::MAX);
        let root = fs.attributes(Ino::ROOT).unwrap();
        let root = Node {
            mode: root.mode,
            uid: root.uid,
            gid: root.gid,
            mtime: Stamp::exactly(root.mtime),
            ctime: Stamp::exactly(root.ctime),
            btime: Stamp::exactly(root.btime),
            atime: None,
            xattrs: BTreeMap::new(),
            links: 1,
            written: false,
            body: Body::Directory(BTreeMap::new()),
        };
        let plain = Plain::new(root);
        Self {
            lab: Some(lab),
            disk,
            mounted: Some(fs),
            kept: plain.clone(),
            loose: BTreeMap::new(),
            synced: 0,
            plain,
            inos: BTreeMap::from([(ROOT, Ino::ROOT)]),
            lookups: BTreeMap::new(),
            handles: Vec::new(),
            steps: 0,
        }
    }

    pub(super) fn fs(&self) -> Arc<Fs> {
        Arc::clone(self.mounted.as_ref().unwrap())
    }

    /// Does one operation here and there, and compares what comes of it.
    pub(super) fn step(world: &Rc<RefCell<Self>>, op: &Op) {
        world.borrow_mut().steps += 1;
        match op {
            Op::Flush(flush) => Self::flush(world, flush),
            Op::Collect { publish, dry_run } => {
                if *publish {
                    Self::flush(world, &Flush::published());
                }
                world.borrow().collect(*dry_run);
            }
            Op::Remount => world.borrow_mut().remount(false),
            Op::Restart => world.borrow_mut().remount(true),
            Op::Cut(cut) => world.borrow_mut().cut(cut),
            op => world.borrow_mut().simple(op),
        }
    }

    fn flush(world: &Rc<RefCell<Self>>, flush: &Flush) {
        let (fs, frozen) = (world.borrow().fs(), world.borrow().plain.clone());
        let begun = world.borrow().steps;
        let failed = Rc::new(RefCell::new(false));
        let mut meanwhile = flush.meanwhile.clone();
        let hook = {
            let (world, failed, step, fails) = (Rc::clone(world), Rc::clone(&failed), flush.step, flush.fails);
            let mut steps = 0;
            move || {
                if steps == step {
                    meanwhile.drain(..).for_each(|op| Self::step(&world, &op));
                }
                let fails = fails == Some(steps);
                *failed.borrow_mut() |= fails;
                steps = steps.saturating_add(1);
                fails
            }
        };
        let result = fault::with(hook, || fs.flush(flush.durability));
        let mut world = world.borrow_mut();
        match result {
            Ok(()) => assert!(!*failed.borrow(), "a failed write-back says so"),
            Err(error) => assert!(*failed.borrow() && error == FsError::NoSpace, "a write-back failed: {error}"),
        }
        if result.is_ok() && flush.durability != Durability::Memory {
            if world.synced <= begun {
                world.kept = frozen;
                world.loose.clear();
            } else {
                // What was synced meanwhile is newer.
                for (id, contents) in &mut world.loose {
                    contents.extend(frozen.file(*id).cloned());
                }
            }
        }
    }

    /// Keeps nothing that need not be, and forgets what was read: what is gone is missed.
    fn collect(&self, dry_run: bool) {
        let bucket = &self.lab.as_ref().unwrap().bucket;
        bucket.collect(&Retention::NOTHING, dry_run, &mut |_| {}, &|| false).unwrap();
        for (nodes, data) in [(0, 0), (limits::NODE_CACHE_BYTES, limits::DATA_CACHE_BYTES)] {
            bucket.vault().set_node_capacity(nodes);
            bucket.vault().set_data_capacity(data);
        }
    }

    fn simple(&mut self, op: &Op) {
        let before = now();
        let fs = self.fs();
        match *op {
            Op::Create(at, mode) => {
                let ((dir, name), parent) = self.at(at);
                let result = fs.create(parent, &name, mode.into(), self.maker());
                self.plain.now = since(before);
                let made = self.plain.make(dir, &name, Sort::File, mode);
                if let Some((id, (stat, handle))) = same(op, made, result) {
                    self.looked_up(id, &stat);
                    self.handles.push((handle, id));
                }
            }
            Op::Make(at, sort, mode) => self.make(op, at, sort, mode),
            Op::Fill((dir, first), count) => {
                for number in 0..count {
                    self.make(op, (dir, first.saturating_add(number)), Sort::File, 0o600);
                }
            }
            Op::Unlink(at) => {
                let ((dir, name), parent) = self.at(at);
                let result = fs.unlink(parent, &name);
                self.plain.now = since(before);
                same(op, self.plain.unlink(dir, &name), result);
            }
            Op::Rmdir(at) => {
                let ((dir, name), parent) = self.at(at);
                let result = fs.remove_directory(parent, &name);
                self.plain.now = since(before);
                same(op, self.plain.rmdir(dir, &name), result);
            }
            Op::Rename(from, to, how) => {
                let ((from, from_name), from_ino) = self.at(from);
                let ((to, to_name), to_ino) = self.at(to);
                let result = fs.rename((from_ino, &from_name), (to_ino, &to_name), how);
                self.plain.now = since(before);
                same(op, self.plain.rename((from, &from_name), (to, &to_name), how), result);
            }
            Op::Link(node, at) => {
                let (id, ino) = self.node(node);
                let ((dir, name), parent) = self.at(at);
                let result = fs.link(ino, parent, &name);
                self.plain.now = since(before);
                if let Some(((), stat)) = same(op, self.plain.link(id, dir, &name), result) {
                    self.looked_up(id, &stat);
                }
            }
            Op::Open { node, truncate } => {
                let (id, ino) = self.node(node);
                let result = fs.open(ino, None, truncate, ME);
                self.plain.now = since(before);
                let opened = match &self.plain.node(id).body {
                    Body::File(_) if truncate => self.plain.truncate(id, 0),
                    Body::File(_) => Ok(()),
                    Body::Directory(_) => Err(FsError::IsDirectory),
                    _ => Err(FsError::Invalid),
                };
                if let Some(((), handle)) = same(op, opened, result) {
                    self.handles.push((handle, id));
                }
            }
            Op::Release(pick) => {
                if !self.handles.is_empty() {
                    let (handle, _) = self.handles.swap_remove(usize::from(pick) % self.handles.len());
                    fs.release(handle);
                    assert_eq!(fs.read(handle, 0, 1), Err(FsError::BadHandle));
                }
            }
            Op::Write { handle, at, len, kill } => {
                let Some((handle, id)) = self.handle(handle) else { return };
                let data = pattern(self.steps, at, len);
                let result = fs.write(handle, at, &data, kill);
                self.plain.now = since(before);
                self.plain.write(id, at, &data, kill);
                same(op, Ok(()), result);
                self.compare_around(handle, id, at, len);
            }
            Op::Allocate { handle, at, len, how } => {
                let Some((handle, id)) = self.handle(handle) else { return };
                let result = fs.allocate(handle, at, len, mode_of(how), ME);
                self.plain.now = since(before);
                self.plain.allocate(id, at, len, how);
                same(op, Ok(()), result);
                self.compare_around(handle, id, at, len);
            }
            Op::Copy { from, to, len } => {
                let (Some(source), Some(target)) = (self.handle(from.0), self.handle(to.0)) else { return };
                let result = fs.copy_range((source.0, from.1), (target.0, to.1), len, ME);
                self.plain.now = since(before);
                let data = self.plain.read(source.1, from.1, len).to_vec();
                same(op, Ok(()), result).inspect(|((), copied)| assert_eq!(*copied, data.len() as u64));
                if !data.is_empty() {
                    self.plain.write(target.1, to.1, &data, false);
                }
                self.compare_around(target.0, target.1, to.1, len);
            }
            Op::Read { handle, at, len } => {
                let Some((handle, id)) = self.handle(handle) else { return };
                self.compare_range(handle, id, at, len);
            }
            Op::Seek { handle, at } => {
                let Some((handle, id)) = self.handle(handle) else { return };
                self.seek(handle, id, at);
            }
            Op::Truncate { node, size } => {
                let (id, ino) = self.node(node);
                let result = fs.set_attributes(ino, Changed { size: Some(size), ..Changed::default() }, ME);
                self.plain.now = since(before);
                same(op, self.plain.truncate(id, size), result);
            }
            Op::TruncateOpen { handle, size } => {
                let Some((handle, id)) = self.handle(handle) else { return };
                let ino = self.inos[&id];
                let result = fs.set_attributes(ino, Changed { size: Some(size), ..Changed::default() }, ME);
                self.plain.now = since(before);
                same(op, self.plain.truncate(id, size), result);
                self.compare_range(handle, id, 0, size + 1);
            }
            Op::Mode(node, mode) => {
                let (id, ino) = self.node(node);
                let result = fs.set_attributes(ino, Changed { mode: Some(mode), ..Changed::default() }, ME);
                self.plain.now = since(before);
                self.plain.set_mode(id, mode);
                same(op, Ok(()), result);
            }
            Op::Chown(node, uid, gid) => {
                let (id, ino) = self.node(node);
                let result = fs.set_attributes(ino, Changed { uid, gid, ..Changed::default() }, ME);
                self.plain.now = since(before);
                self.plain.chown(id, uid, gid);
                same(op, Ok(()), result);
            }
            Op::Times(node, mtime, atime) => {
                let (id, ino) = self.node(node);
                let time = |(secs, nanos)| Time { secs, nanos };
                let (mtime, atime) = (mtime.map(time), atime.map(time));
                let result = fs.set_attributes(ino, Changed { mtime, atime, ..Changed::default() }, ME);
                self.plain.now = since(before);
                self.plain.set_times(id, mtime, atime);
                same(op, Ok(()), result);
            }
            Op::SetXattr { node, name, len, exists } => {
                let (id, ino) = self.node(node);
                let (name, value) = (xattr(name), pattern(self.steps, 0, len as u64));
                let result = fs.set_xattr(ino, &name, &value, exists, ME);
                self.plain.now = since(before);
                same(op, self.plain.set_xattr(id, &name, &value, exists), result);
            }
            Op::RemoveXattr(node, name) => {
                let ((id, ino), name) = (self.node(node), xattr(name));
                let result = fs.remove_xattr(ino, &name);
                self.plain.now = since(before);
                same(op, self.plain.remove_xattr(id, &name), result);
            }
            Op::Umask(umask) => self.plain.umask = umask,
            Op::SetAcl { node, default, ref acl } => {
                let (id, ino) = self.node(node);
                let result = fs.set_xattr(ino, acl_name(default), &acl::bytes(acl), None, ME);
                self.plain.now = since(before);
                same(op, self.plain.set_acl(id, default, acl), result);
            }
            Op::RemoveAcl(node, default) => {
                let ((id, ino), name) = (self.node(node), acl_name(default));
                let result = fs.remove_xattr(ino, name);
                self.plain.now = since(before);
                self.plain.remove_acl(id, name);
                same(op, Ok(()), result);
            }
            Op::List { dir, attributes, page } => {
                let (id, ino) = self.dir(dir);
                self.list(id, ino, attributes, page);
            }
            Op::Lookup(at) => {
                let ((dir, name), parent) = self.at(at);
                let found = fs.lookup(parent, &name).unwrap();
                let id = self.plain.names(dir).get(&name).copied();
                assert_eq!(id.is_some(), found.is_some(), "{op:?}");
                if let (Some(id), Some(stat)) = (id, found) {
                    self.looked_up(id, &stat);
                }
            }
            Op::Forget(pick, all) => {
                let Some(id) = pick_of(self.lookups.keys().copied(), pick) else { return };
                let count = if all { self.lookups[&id] } else { 1 };
                self.forget(id, count);
            }
            Op::Sync(ref picks) => {
                let files: Vec<_> = picks.iter().filter_map(|pick| self.handle(*pick)).map(|(_, id)| id).collect();
                self.sync(&files);
            }
            Op::Flush(_) | Op::Collect { .. } | Op::Cut(_) | Op::Remount | Op::Restart => unreachable!("not simple"),
        }
    }

    /// If the journal takes it, names are safe from here on, and the content of these files.
    fn sync(&mut self, files: &[Id]) {
        let inos: Vec<_> = files.iter().map(|id| self.inos[id]).collect();
        if self.fs().journal(&inos) {
            self.is_synced(files);
        }
    }

    pub(super) fn is_synced(&mut self, files: &[Id]) {
        let mut loose = BTreeMap::new();
        for (id, node) in &self.plain.nodes {
            let Body::File(content) = &node.body else { continue };
            if node.written && !files.contains(id) {
                let before = self.loose.get(id).cloned();
                let before = before.unwrap_or_else(|| vec![self.kept.file(*id).cloned().unwrap_or_default()]);
                loose.insert(*id, before.into_iter().chain([Rc::clone(content)]).collect());
            }
        }
        files.iter().for_each(|id| self.plain.synced(*id));
        self.kept = self.plain.clone();
        (self.loose, self.synced) = (loose, self.steps);
    }

    /// Lets the model have those contents that were found, if they can be.
    fn adopt(&mut self) {
        for (id, contents) in std::mem::take(&mut self.loose) {
            if self.plain.nodes.contains_key(&id) {
                let (stat, found) = self.look(id);
                let content = contents.into_iter().find(|content| **content == found);
                let content = content.unwrap_or_else(|| panic!("a content that {id} never had: {} bytes", found.len()));
                self.plain.adopt(id, content, &stat);
            }
        }
        self.kept = self.plain.clone();
    }

    /// What a file is like, without the kernel's knowing.
    fn look(&self, id: Id) -> (Stat, Vec<u8>) {
        let (fs, mut path) = (self.fs(), Vec::new());
        let mut at = id;
        while at != ROOT {
            let (dir, name) = self.plain.place(at).unwrap();
            path.push(name);
            at = dir;
        }
        let mut stats = vec![fs.attributes(Ino::ROOT).unwrap()];
        for name in path.iter().rev() {
            stats.push(fs.lookup(stats[stats.len() - 1].ino, name).unwrap().expect("a name of the model"));
        }
        let stat = stats[stats.len() - 1];
        let handle = fs.open(stat.ino, None, false, ME).unwrap();
        let content = fs.read(handle, 0, 1 << 30).unwrap();
        fs.release(handle);
        stats.drain(1..).rev().for_each(|stat| fs.forget(stat.ino, 1));
        (stat, content.to_vec())
    }

    /// Who makes something.
    const fn maker(&self) -> Caller {
        Caller { umask: self.plain.umask, ..ME }
    }

    fn make(&mut self, op: &Op, at: At, sort: Sort, mode: u16) {
        let before = now();
        let ((dir, name), parent) = self.at(at);
        let target = vec![b'l'; if let Sort::Symlink(len) = sort { len } else { 0 }];
        let new = match sort {
            Sort::File => New::File,
            Sort::Directory => New::Directory,
            Sort::Symlink(_) => New::Symlink(target.into()),
            Sort::Fifo => New::Special(Stored::Fifo),
            Sort::Device(number) => New::Special(Stored::CharDevice(number.into())),
        };
        let result = self.fs().make(parent, &name, mode.into(), new, self.maker());
        self.plain.now = since(before);
        if let Some((id, stat)) = same(op, self.plain.make(dir, &name, sort, mode), result) {
            self.looked_up(id, &stat);
        }
    }

    /// The kernel was told of a file.
    pub(super) fn looked_up(&mut self, id: Id, stat: &Stat) {
        *self.lookups.entry(id).or_default() += 1;
        assert_eq!(*self.inos.entry(id).or_insert(stat.ino), stat.ino, "a file keeps its number");
        self.compare_stat(id, stat);
    }

    pub(super) fn forget(&mut self, id: Id, count: u64) {
        self.fs().forget(self.inos[&id], count);
        let left = self.lookups.get_mut(&id).unwrap();
        *left -= count;
        if *left == 0 {
            self.lookups.remove(&id);
        }
    }

    fn remount(&mut self, restart: bool) {
        self.mount_again(|lab| if restart { lab.restart() } else { lab });
        self.go_back();
    }

    pub(super) fn mount_again(&mut self, open: impl FnOnce(Lab) -> Lab) {
        let lab = self.lab.take().unwrap();
        self.mounted = None;
        let lab = open(lab);
        self.mounted = Some(lab.mount(usize::MAX));
        self.lab = Some(lab);
        self.lookups.clear();
        self.handles.clear();
    }

    /// Has the model as it has to be after a mount.
    pub(super) fn go_back(&mut self) {
        self.plain.go_back(&self.kept);
        self.adopt();
    }

    /// Whether a file can be reached: it has a name, or the kernel holds it.
    fn reachable(&self, id: Id, node: &Node) -> bool {
        node.links > 0 || self.lookups.contains_key(&id)
    }

    fn node(&mut self, pick: Pick) -> (Id, Ino) {
        let nodes = self.plain.nodes.iter().filter(|(id, node)| self.reachable(**id, node));
        let id = pick_of(nodes.map(|(id, _)| *id), pick).unwrap();
        (id, self.hold(id))
    }

    fn dir(&mut self, pick: Pick) -> (Id, Ino) {
        let nodes = self.plain.nodes.iter().filter(|(id, node)| node.names().is_some() && self.reachable(**id, node));
        let id = pick_of(nodes.map(|(id, _)| *id), pick).unwrap();
        (id, self.hold(id))
    }

    fn at(&mut self, (dir, number): At) -> ((Id, Vec<u8>), Ino) {
        let (id, ino) = self.dir(dir);
        ((id, name(number)), ino)
    }

    pub(super) fn handle(&self, pick: Pick) -> Option<(u64, Id)> {
        pick_of(self.handles.iter().copied(), pick)
    }

    /// Has the kernel know a file, and what is above it, as for any request about it.
    fn hold(&mut self, id: Id) -> Ino {
        if id != ROOT && !self.lookups.contains_key(&id) {
            let (dir, name) = self.plain.place(id).expect("only what has a name is not held");
            let parent = self.hold(dir);
            let stat = self.fs().lookup(parent, &name).unwrap().expect("a name of the model");
            self.looked_up(id, &stat);
        }
        self.inos[&id]
    }
}

fn pick_of<T>(from: impl Iterator<Item = T>, pick: Pick) -> Option<T> {
    let all: Vec<_> = from.collect();
    let len = all.len().max(1);
    all.into_iter().nth(usize::from(pick) % len)
}

fn since(from: Time) -> Stamp {
    Stamp { from, until: now() }
}

/// What both gave, if both gave something; both have to fail alike.
fn same<A, B>(op: &Op, model: Result<A, FsError>, real: Result<B, FsError>) -> Option<(A, B)> {
    match (model, real) {
        (Ok(model), Ok(real)) => Some((model, real)),
        (Err(model), Err(real)) => {
            assert_eq!(model, real, "{op:?}");
            None
        }
        (model, real) => panic!("{op:?}: the model says {:?}, the file system {:?}", model.err(), real.err()),
    }
}

/// Bytes that differ by step and offset, and are never 0.
fn pattern(seed: u64, at: u64, len: u64) -> Vec<u8> {
    (at..at + len).map(|at| ((seed * 31 + at + at / 251) % 255) as u8 + 1).collect()
}

fn xattr(number: u8) -> Vec<u8> {
    [&b"user."[..], &[b'a' + number]].concat()
}

const fn mode_of(how: Space) -> i32 {
    match how {
        Space::Grow => 0,
        Space::Keep => libc::FALLOC_FL_KEEP_SIZE,
        Space::Punch => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
        Space::Zero => libc::FALLOC_FL_ZERO_RANGE,
        Space::ZeroKeep => libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
    }
}
