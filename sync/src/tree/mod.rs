//! A version of the shared folder: records, directories, extents and hard links, as trees of sealed blocks.
//!
//! From the bottom: [`wire`] encodes node bodies, [`vault`] seals them and keeps them in the store, [`btree`] is the one
//! copy-on-write B-tree, and the three uses of it are [`directory`] (name to entry), [`content`] (offset to extent) and
//! the table of shared inodes in the [`root`], which is where a version begins. [`walk()`] visits all of it.
//!
//! Always true: a tree is a value, and changing it gives another that shares all untouched nodes; what was decoded has
//! been checked, and encodes to the same bytes again. Never here: manifests, the clock, who may write.

pub mod btree;
pub mod change;
pub mod content;
pub mod differences;
pub mod directory;
pub mod merge;
pub mod name;
pub mod record;
pub mod root;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod vault;
pub mod walk;
pub mod wire;

pub use btree::{Difference, Item, Range, Tree};
pub use change::{Change, JournalEntry, Written};
pub use content::{CHUNK_BYTES, Content, Edit, Extent, Fill, INLINE_BYTES, Layout, Segment};
pub use differences::{Differences, Links, Placed, Sides};
pub use directory::{DirEntry, DirectoryBody, Target};
pub use merge::{Clash, Conflict, LeftOut, Merge, Partial, merge, merge_in_part};
pub use name::{BadName, Name};
pub use record::{BadRecord, Body, FileId, Kind, Record, Time, Xattrs};
pub use root::{Pin, Pins, SharedInode, Superblock};
pub use vault::{Supplier, TreeError, Vault};
pub use walk::{Visitor, walk, walk_content, walk_directory, walk_superblock};
