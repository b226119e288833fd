//! A walk over every block of a version, for whoever checks or counts them.

use super::vault::{TreeError, Vault};
use crate::link::BlockRef;

/// Is told what a walk meets. Paths are the names from the root, `/` between them, without one in front.
pub trait Visitor {
    /// A node of the tree at `path`. Whether to go into it: no, if it was seen before.
    fn node(&mut self, path: &[u8], at: &BlockRef) -> bool;
    /// A data block of the file at `path`, of which it uses the bytes up to `end`.
    fn data(&mut self, path: &[u8], at: &BlockRef, end: u32);
    /// A file or directory, once for each of its names.
    fn entry(&mut self, path: &[u8], kind: super::Kind);
    /// Something at `path` could not be read. The walk goes on beside it.
    fn hurt(&mut self, path: &[u8], error: TreeError);
}

/// Visits every block that the superblock at `at` reaches. Memory is bounded by the depth of the tree.
pub fn walk(_vault: &Vault, _at: &BlockRef, _visitor: &mut dyn Visitor) {
    todo!()
}
