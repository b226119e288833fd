//! Directories: a B-tree from names to entries.

use super::btree::{Item, Range, Tree};
use super::name::Name;
use super::record::{Body, FileId, Kind, Record};
use super::vault::{TreeError, Vault};
use super::wire::{Decoder, Encoder, Malformed};
use crate::crypto::BlockKind;

/// A directory's entries. [`Tree::count`] is the number of names, [`Tree::sum`] the number of subdirectories.
pub type DirectoryBody = Tree<DirEntry>;

/// A name in a directory, and what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Name,
    /// What it names.
    pub target: Target,
}

/// What a name names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file with this one name: its record is here.
    Record(Box<Record>),
    /// A file that has, or once had, several names: its record is in the table of shared inodes. Never a directory.
    Shared {
        /// Which file.
        id: FileId,
        /// Its kind, so that a listing needs no second look.
        kind: Kind,
    },
}

impl Target {
    /// Which file.
    pub fn id(&self) -> FileId {
        match self {
            Target::Record(record) => record.id,
            Target::Shared { id, .. } => *id,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Target::Record(record) => record.kind(),
            Target::Shared { kind, .. } => *kind,
        }
    }
}

impl Item for DirEntry {
    type Key = Name;
    const KIND: BlockKind = BlockKind::Directory;

    fn key(&self) -> Name {
        self.name.clone()
    }

    fn measure(&self) -> u64 {
        u64::from(self.target.kind() == Kind::Directory)
    }

    fn encode(&self, out: &mut Encoder) {
        match &self.target {
            Target::Record(record) => {
                out.array(2);
                out.bytes(&self.name);
                record.write(out);
            }
            Target::Shared { id, kind } => {
                out.array(3);
                out.bytes(&self.name);
                out.bytes(&id.0);
                out.unsigned(*kind as u64);
            }
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        use super::btree::Key;
        let fields = input.array()?;
        let name = Name::decode(input)?;
        let target = match fields {
            2 => Target::Record(Box::new(Record::read(input)?)),
            3 => Target::Shared { id: FileId::decode(input)?, kind: Kind::read(input)? },
            _ => return Err(Malformed("an entry has 2 or 3 fields")),
        };
        if matches!(target, Target::Shared { kind: Kind::Directory, .. }) {
            return Err(Malformed("a directory with several names"));
        }
        Ok(Self { name, target })
    }
}

impl Record {
    /// The entries, if this is a directory.
    pub fn directory(&self) -> Option<&DirectoryBody> {
        match &self.body {
            Body::Directory(names) => Some(names),
            _ => None,
        }
    }
}

impl Tree<DirEntry> {
    /// What `name` names, if anything. Bytes that can not be a name are in no directory.
    pub fn lookup(&self, vault: &Vault, name: &[u8]) -> Result<Option<Target>, TreeError> {
        let Ok(name) = Name::new(name) else { return Ok(None) };
        Ok(self.get(vault, &name)?.map(|entry| entry.target))
    }

    /// The entries after `after` in the order of names, all of them if it is `None`; a name that is gone is no obstacle.
    pub fn list<'a>(&self, vault: &'a Vault, after: Option<&Name>) -> Range<'a, DirEntry> {
        self.range(vault, after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded))
    }

    /// How many of the entries are directories: a directory's link count is this plus 2.
    pub fn subdirectories(&self) -> u64 {
        self.sum()
    }
}
