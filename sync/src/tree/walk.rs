//! A walk over every block of a version, for whoever checks or counts them.

use super::btree::{Item, Node, Opened, Tree};
use super::content::{Content, Extent, Layout};
use super::directory::{DirEntry, DirectoryBody, Target};
use super::record::{Body, Kind, Record};
use super::root::{SharedInode, Superblock};
use super::vault::{TreeError, Vault};
use crate::limits;
use crate::link::BlockRef;

/// Is told what a walk meets. Paths are the names from the root with `/` between them, without one in front; shared
/// inodes stand under `.shared/` and their id, as no name of theirs is known there.
pub trait Visitor {
    /// A node of the tree at `path`, not read yet. Whether to go into it: no, if it was seen before.
    fn node(&mut self, path: &[u8], at: &BlockRef) -> bool;
    /// An extent of the file at `path`. The block behind it is not read.
    fn extent(&mut self, path: &[u8], extent: &Extent);
    /// A name, and the kind of what it names.
    fn entry(&mut self, path: &[u8], kind: Kind);
    /// Something at `path` could not be read or makes no sense. The walk goes on beside it.
    fn hurt(&mut self, path: &[u8], error: TreeError);
}

/// Visits every block that the superblock at `at` reaches. Memory is bounded by the depth of the trees, and the depth of
/// the path by [`limits::PATH_BYTES`].
pub fn walk(vault: &Vault, at: &BlockRef, visitor: &mut dyn Visitor) {
    if !visitor.node(b"", at) {
        return;
    }
    match Superblock::get(vault, at) {
        Ok(superblock) => walk_superblock(vault, &superblock, visitor),
        Err(error) => visitor.hurt(b"", error),
    }
}

/// Visits every block below a superblock, which itself need not be stored.
pub fn walk_superblock(vault: &Vault, superblock: &Superblock, visitor: &mut dyn Visitor) {
    let mut walker = Walker { vault, visitor, path: Vec::new() };
    walker.inodes(&superblock.inodes);
    walker.directories(&superblock.root);
}

/// Visits every block of a file's content.
pub fn walk_content(vault: &Vault, content: &Content, visitor: &mut dyn Visitor) {
    Walker { vault, visitor, path: Vec::new() }.content(content);
}

/// Visits every block that a directory's names reach.
pub fn walk_directory(vault: &Vault, names: &DirectoryBody, visitor: &mut dyn Visitor) {
    Walker { vault, visitor, path: Vec::new() }.below(names);
}

struct Walker<'a> {
    vault: &'a Vault,
    visitor: &'a mut dyn Visitor,
    path: Vec<u8>,
}

/// The way from a tree's root to where the walk is.
type Stack<I> = Vec<(Opened<I>, usize)>;

impl Walker<'_> {
    fn inodes(&mut self, tree: &Tree<SharedInode>) {
        let mut stack = self.begin(tree);
        while let Some(inode) = self.next(&mut stack) {
            let id = uuid::Uuid::from_bytes(inode.record.id.0);
            self.path = format!(".shared/{id}").into_bytes();
            self.record(&inode.record);
            self.path.clear();
        }
    }

    fn directories(&mut self, root: &Record) {
        if let Some(names) = root.directory() {
            self.below(names);
        }
    }

    /// Depth first, on a stack of our own: a path from outside may be deeper than a thread's stack.
    fn below(&mut self, names: &DirectoryBody) {
        let mut open = vec![(self.begin(names), 0)];
        while let Some((stack, parent)) = open.last_mut() {
            let parent = *parent;
            let Some(entry) = self.next(stack) else {
                open.pop();
                self.path.truncate(parent);
                continue;
            };
            let here = self.path.len();
            if here > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&entry.name);
            self.visitor.entry(&self.path, entry.target.kind());
            match entry.target {
                Target::Record(record) if record.kind() == Kind::Directory => {
                    if self.path.len() <= limits::PATH_BYTES {
                        let stack = self.begin_directory(&record);
                        open.push((stack, here));
                        continue;
                    }
                    if let Some(at) = record.directory().and_then(Tree::root) {
                        self.visitor.hurt(&self.path, TreeError::malformed(at, "a path too long"));
                    }
                }
                Target::Record(record) => self.record(&record),
                Target::Shared { .. } => {}
            }
            self.path.truncate(here);
        }
    }

    fn begin_directory(&mut self, record: &Record) -> Stack<DirEntry> {
        record.directory().map(|names| self.begin(names)).unwrap_or_default()
    }

    fn record(&mut self, record: &Record) {
        if let Body::File(content) = &record.body {
            self.content(content);
        }
    }

    fn content(&mut self, content: &Content) {
        match content.layout() {
            Layout::Inline(_) => {}
            Layout::List(extents) => extents.iter().for_each(|extent| self.visitor.extent(&self.path, extent)),
            Layout::Tree(tree) => {
                let mut stack = self.begin(tree);
                while let Some(extent) = self.next(&mut stack) {
                    if extent.end() > content.size() {
                        let error = TreeError::malformed(&extent.block, "an extent past the end of its file");
                        self.visitor.hurt(&self.path, error);
                    }
                    self.visitor.extent(&self.path, &extent);
                }
            }
        }
    }

    fn begin<I: Item>(&mut self, tree: &Tree<I>) -> Stack<I> {
        match tree.root() {
            Some(root) if self.visitor.node(&self.path, root) => match tree.open(self.vault) {
                Ok(root) => root.map(|root| (root, 0)).into_iter().collect(),
                Err(error) => {
                    self.visitor.hurt(&self.path, error);
                    Vec::new()
                }
            },
            _ => Vec::new(),
        }
    }

    /// The next item, past nodes that the visitor does not want and those that can not be read.
    fn next<I: Item>(&mut self, stack: &mut Stack<I>) -> Option<I> {
        loop {
            let (at, index) = stack.last_mut()?;
            let row = *index;
            *index += 1;
            match &*at.node {
                Node::Leaf(items) => match items.get(row) {
                    Some(item) => return Some(item.clone()),
                    None => drop(stack.pop()),
                },
                Node::Branch { children, .. } => match children.get(row) {
                    None => drop(stack.pop()),
                    Some(child) if !self.visitor.node(&self.path, &child.at) => {}
                    Some(_) => match at.child(self.vault, row) {
                        Ok(child) => stack.extend(child.map(|child| (child, 0))),
                        Err(error) => self.visitor.hurt(&self.path, error),
                    },
                },
            }
        }
    }
}
