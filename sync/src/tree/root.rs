//! Where a version begins: its superblock, its table of shared inodes, and what else the user keeps.

use super::btree::{Item, Tree};
use super::record::{FileId, Kind, Record};
use super::vault::{NodeBody, TreeError, Vault};
use super::wire::{Decoder, Encoder, Malformed};
use crate::crypto::BlockKind;
use crate::limits;
use crate::link::BlockRef;

/// The inode of a file that has, or once had, several names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedInode {
    /// The inode. Never a directory.
    pub record: Record,
    /// How many names it has, at least 1.
    pub nlink: u64,
}

impl Item for SharedInode {
    type Key = FileId;
    const KIND: BlockKind = BlockKind::Inodes;

    fn key(&self) -> FileId {
        self.record.id
    }

    fn measure(&self) -> u64 {
        0
    }

    fn encode(&self, out: &mut Encoder) {
        out.array(2);
        self.record.write(out);
        out.unsigned(self.nlink);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        input.array_of(2)?;
        let inode = Self { record: Record::read(input)?, nlink: input.unsigned()? };
        if inode.record.kind() == Kind::Directory {
            return Err(Malformed("a directory with several names"));
        }
        if inode.nlink == 0 {
            return Err(Malformed("a file without a name"));
        }
        Ok(inode)
    }
}

/// The root of a version. A manifest's `entry` links to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The root directory.
    pub root: Record,
    /// The files that have, or once had, several names.
    pub inodes: Tree<SharedInode>,
}

impl Superblock {
    /// Reads the version that begins at `at`.
    pub fn get(vault: &Vault, at: &BlockRef) -> Result<Self, TreeError> {
        vault.node::<Self>(at).map(|superblock| Self::clone(&superblock))
    }

    /// Stores it.
    pub fn put(&self, vault: &Vault) -> Result<BlockRef, TreeError> {
        vault.put_node(self.clone())
    }
}

impl NodeBody for Superblock {
    const KIND: BlockKind = BlockKind::Root;

    fn encode(&self, out: &mut Encoder) {
        out.array(2);
        self.root.write(out);
        self.inodes.write(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        input.array_of(2)?;
        let superblock = Self { root: Record::read(input)?, inodes: Tree::read(input)? };
        if superblock.root.kind() != Kind::Directory {
            return Err(Malformed("the root is not a directory"));
        }
        Ok(superblock)
    }
}

/// A version that a user keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// What the user calls it, at most [`limits::LABEL_BYTES`]; each label once.
    pub label: String,
    /// The version's root.
    pub root: BlockRef,
}

/// The versions that a user keeps besides the one that a manifest enters, sorted by label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// Sorted by the bytes of the label.
    pub list: Vec<Pin>,
}

impl NodeBody for Pins {
    const KIND: BlockKind = BlockKind::Pins;

    fn encode(&self, out: &mut Encoder) {
        out.array(self.list.len());
        for pin in &self.list {
            out.array(2);
            out.bytes(pin.label.as_bytes());
            out.link(&pin.root);
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let mut list: Vec<Pin> = Vec::new();
        for _ in 0..input.array()? {
            input.array_of(2)?;
            let label = std::str::from_utf8(input.bytes()?).map_err(|_| Malformed("a label that is not text"))?;
            if label.len() > limits::LABEL_BYTES {
                return Err(Malformed("a label that is too long"));
            }
            if list.last().is_some_and(|last| *last.label >= *label) {
                return Err(Malformed("labels out of order"));
            }
            list.push(Pin { label: label.to_owned(), root: input.link()? });
        }
        Ok(Self { list })
    }
}
