//! Changes to a tree, as the journal keeps them: what was done since a version, so that it can be done again after a crash.
//!
//! Files are named by id. A change that names one which no change before it made or located is preceded by
//! [`Change::Locate`]. A journal entry is a node block of kind [`BlockKind::Journal`], so that the blocks that it names
//! stand in the clear, where a collection of garbage finds them.

use super::btree::Key;
use super::name::Name;
use super::record::{FileId, Record, Time, Xattrs};
use super::vault::TreeError;
use super::wire::{Decoder, Encoder, Malformed};
use crate::crypto::block::NodeBlock;
use crate::crypto::{BlockKind, Keyring, OpenError};
use crate::limits;
use crate::link::{BlockRef, Codec, Link};

/// A file by its directory and its name there.
pub type Entry = (FileId, Name);

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing changes; later changes may name this file, which is at this path now. The root's is empty.
    Locate {
        /// Which file.
        id: FileId,
        /// Names from the root down.
        path: Vec<Name>,
    },
    /// Something new under a free name. Its record says when.
    Make {
        /// Where.
        at: Entry,
        /// Without content or entries.
        record: Box<Record>,
    },
    /// One more name of a file.
    Link {
        /// Which file.
        id: FileId,
        /// Its new name, which is free.
        at: Entry,
        /// When.
        time: Time,
    },
    /// A name is removed.
    Remove {
        /// Which.
        at: Entry,
        /// When.
        time: Time,
    },
    /// A name is moved, over what has the new one, or exchanged with it.
    Rename {
        /// From here.
        from: Entry,
        /// To here.
        to: Entry,
        /// What was there gets the old name.
        exchange: bool,
        /// When.
        time: Time,
    },
    /// The attributes of a file.
    Attributes(Box<Attributes>),
    /// Content of a file: it is cut, written to, and gets its size, in this order.
    Data {
        /// Which file.
        id: FileId,
        /// Only the first bytes of what there was stay; the rest reads as zeros until it is written.
        cut: Option<u64>,
        /// What is written where, in any order.
        writes: Vec<(u64, Written)>,
        /// Bytes in the file after that.
        size: u64,
    },
}

/// All attributes that a file can be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Which file.
    pub id: FileId,
    /// See [`Record::mode`], as for the others.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Content last changed.
    pub mtime: Time,
    /// Record last changed.
    pub ctime: Time,
    /// Last read, where it was set.
    pub atime: Option<Time>,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// What a range of a file was overwritten with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// These bytes, at least one.
    Bytes(Vec<u8>),
    /// This many zeros.
    Hole(u64),
    /// Bytes of a data block.
    Sealed {
        /// How many bytes of the block stand before the first.
        skip: u32,
        /// How many bytes, at least one.
        len: u32,
        /// Which block.
        block: BlockRef,
    },
}

impl Change {
    /// Bytes that it takes in the journal, roughly and rather too many.
    pub fn weight(&self) -> usize {
        let entry = |(_, name): &Entry| 24 + name.len();
        match self {
            Change::Locate { path, .. } => 24 + path.iter().map(|name| 3 + name.len()).sum::<usize>(),
            Change::Make { at, record } => entry(at) + 160 + record.size() as usize + xattrs_weight(&record.xattrs),
            Change::Link { at, .. } => entry(at) + 40,
            Change::Remove { at, .. } => entry(at) + 20,
            Change::Rename { from, to, .. } => entry(from) + entry(to) + 20,
            Change::Attributes(attributes) => 100 + xattrs_weight(&attributes.xattrs),
            Change::Data { writes, .. } => 64 + writes.iter().map(|(_, written)| written.weight()).sum::<usize>(),
        }
    }

    fn write(&self, out: &mut Encoder) {
        match self {
            Change::Locate { id, path } => {
                out.array(2 + path.len());
                out.unsigned(0);
                out.bytes(&id.0);
                path.iter().for_each(|name| name.encode(out));
            }
            Change::Make { at, record } => {
                out.array(4);
                out.unsigned(1);
                write_entry(at, out);
                record.write(out);
            }
            Change::Link { id, at, time } => {
                out.array(6);
                out.unsigned(2);
                out.bytes(&id.0);
                write_entry(at, out);
                time.write(out);
            }
            Change::Remove { at, time } => {
                out.array(5);
                out.unsigned(3);
                write_entry(at, out);
                time.write(out);
            }
            Change::Rename { from, to, exchange, time } => {
                out.array(8);
                out.unsigned(4);
                write_entry(from, out);
                write_entry(to, out);
                out.unsigned((*exchange).into());
                time.write(out);
            }
            Change::Attributes(attributes) => {
                out.array(if attributes.atime.is_some() { 12 } else { 10 });
                out.unsigned(5);
                attributes.write(out);
            }
            Change::Data { id, cut, writes, size } => {
                out.array(5);
                out.unsigned(6);
                out.bytes(&id.0);
                match cut {
                    Some(cut) => out.unsigned(*cut),
                    None => out.null(),
                }
                out.array(writes.len());
                for (at, written) in writes {
                    written.write(*at, out);
                }
                out.unsigned(*size);
            }
        }
    }

    fn read(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let fields = input.array()?;
        let change = input.unsigned()?;
        let fits = match change {
            0 => fields >= 2,
            5 => fields == 10 || fields == 12,
            change => [4, 6, 5, 8, 0, 5].get((change as usize).wrapping_sub(1)) == Some(&fields),
        };
        if !fits {
            return Err(Malformed("a change with fields missing, or of an unknown kind"));
        }
        Ok(match change {
            0 => {
                let id = FileId::read(input)?;
                let path = (2..fields).map(|_| Name::decode(input)).collect::<Result<_, _>>()?;
                Change::Locate { id, path }
            }
            1 => Change::Make { at: read_entry(input)?, record: Box::new(Record::read(input)?) },
            2 => Change::Link { id: FileId::read(input)?, at: read_entry(input)?, time: Time::read(input)? },
            3 => Change::Remove { at: read_entry(input)?, time: Time::read(input)? },
            4 => Change::Rename {
                from: read_entry(input)?,
                to: read_entry(input)?,
                exchange: match input.unsigned()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Malformed("neither yes nor no")),
                },
                time: Time::read(input)?,
            },
            5 => Change::Attributes(Box::new(Attributes::read(input, fields == 12)?)),
            _ => {
                let id = FileId::read(input)?;
                let cut = if input.null() { None } else { Some(input.unsigned()?) };
                let count = input.array()?;
                let writes = (0..count).map(|_| Written::read(input)).collect::<Result<_, _>>()?;
                Change::Data { id, cut, writes, size: input.unsigned()? }
            }
        })
    }
}

fn xattrs_weight(xattrs: &Xattrs) -> usize {
    xattrs.iter().map(|(name, value)| 8 + name.len() + value.len()).sum()
}

fn write_entry((directory, name): &Entry, out: &mut Encoder) {
    out.bytes(&directory.0);
    name.encode(out);
}

fn read_entry(input: &mut Decoder<'_>) -> Result<Entry, Malformed> {
    Ok((FileId::read(input)?, Name::decode(input)?))
}

impl Attributes {
    fn write(&self, out: &mut Encoder) {
        out.bytes(&self.id.0);
        out.unsigned(self.mode.into());
        out.unsigned(self.uid.into());
        out.unsigned(self.gid.into());
        self.mtime.write(out);
        self.ctime.write(out);
        self.xattrs.write(out);
        if let Some(atime) = self.atime {
            atime.write(out);
        }
    }

    fn read(input: &mut Decoder<'_>, atime: bool) -> Result<Self, Malformed> {
        let attributes = Self {
            id: FileId::read(input)?,
            mode: input.narrow()?,
            uid: input.narrow()?,
            gid: input.narrow()?,
            mtime: Time::read(input)?,
            ctime: Time::read(input)?,
            xattrs: Xattrs::read(input)?,
            atime: if atime { Some(Time::read(input)?) } else { None },
        };
        if attributes.mode > 0o7777 { Err(Malformed("a mode has 12 bits")) } else { Ok(attributes) }
    }
}

impl Written {
    /// Bytes of the file that it covers.
    pub const fn span(&self) -> u64 {
        match self {
            Written::Bytes(bytes) => bytes.len() as u64,
            Written::Hole(len) => *len,
            Written::Sealed { len, .. } => *len as u64,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Written::Bytes(bytes) => 16 + bytes.len(),
            Written::Hole(_) => 24,
            Written::Sealed { .. } => 80,
        }
    }

    fn write(&self, at: u64, out: &mut Encoder) {
        out.array(if matches!(self, Written::Sealed { .. }) { 4 } else { 2 });
        out.unsigned(at);
        match self {
            Written::Bytes(bytes) => out.bytes(bytes),
            Written::Hole(len) => out.unsigned(*len),
            Written::Sealed { skip, len, block } => {
                out.unsigned((*skip).into());
                out.unsigned((*len).into());
                out.link(block);
            }
        }
    }

    fn read(input: &mut Decoder<'_>) -> Result<(u64, Self), Malformed> {
        let fields = input.array()?;
        let at = input.unsigned()?;
        let written = match fields {
            2 if input.at_bytes() => Written::Bytes(input.bytes()?.to_vec()),
            2 => Written::Hole(input.unsigned()?),
            4 => {
                let (skip, len): (u32, u32) = (input.narrow()?, input.narrow()?);
                if u64::from(skip) + u64::from(len) > limits::BLOCK_BYTES as u64 {
                    return Err(Malformed("a part of a block that no block has"));
                }
                Written::Sealed { skip, len, block: input.link()? }
            }
            _ => return Err(Malformed("what was written has 2 or 4 fields")),
        };
        match at.checked_add(written.span()) {
            Some(end) if end <= limits::FILE_BYTES && written.span() > 0 => Ok((at, written)),
            _ => Err(Malformed("a write that no file can hold")),
        }
    }
}

/// Some changes in their order, sealed. Together with the entries after it, up to the first that is not followed by more,
/// they are to be done again as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// The changes.
    pub changes: Vec<Change>,
    /// The next entry belongs to it.
    pub more: bool,
}

impl JournalEntry {
    /// The entry as a block, sealed for the journal of this bucket.
    pub fn seal(&self, keys: &Keyring) -> Vec<u8> {
        let mut out = Encoder::new();
        out.array(1 + self.changes.len());
        out.unsigned(self.more.into());
        self.changes.iter().for_each(|change| change.write(&mut out));
        let (links, body) = out.finish();
        keys.seal_node(BlockKind::Journal, links, &body).1
    }

    /// Opens an entry.
    ///
    /// # Errors
    /// If it is not one, or not of this bucket.
    pub fn open(keys: &Keyring, block: &[u8]) -> Result<Self, TreeError> {
        let link = Link::of(Codec::DagCbor, block);
        let at = BlockRef { link, epoch: NodeBlock::decode(&link, block)?.epoch };
        let (links, body) = keys.open_node(&at, BlockKind::Journal, block)?;
        let malformed = |Malformed(why)| OpenError::Malformed { link: at.link, why };
        Ok(Self::read(&links, &body).map_err(malformed)?)
    }

    fn read(links: &[BlockRef], body: &[u8]) -> Result<Self, Malformed> {
        let mut input = Decoder::new(links, body);
        let fields = input.array()?;
        let more = match input.unsigned()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed("neither yes nor no")),
        };
        let changes = (1..fields).map(|_| Change::read(&mut input)).collect::<Result<_, _>>()?;
        input.finish()?;
        Ok(Self { changes, more })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::link::Epoch;
    use crate::tree::record::Body;
    use crate::tree::testing::{keys, record};

    fn id() -> impl Strategy<Value = FileId> {
        any::<u8>().prop_map(|byte| FileId([byte; 16]))
    }

    fn name() -> impl Strategy<Value = Name> {
        "[a-z]{1,20}".prop_map(|name| Name::new(name.as_bytes()).unwrap())
    }

    fn time() -> impl Strategy<Value = Time> {
        (any::<i64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Time { secs, nanos })
    }

    fn written() -> impl Strategy<Value = Written> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 1..300).prop_map(Written::Bytes),
            (1..u64::MAX / 4).prop_map(Written::Hole),
            (0..1000u32, 1..1000u32, any::<u8>()).prop_map(|(skip, len, seed)| {
                let block = BlockRef { link: Link::of(Codec::Raw, &[seed]), epoch: Epoch(seed.into()) };
                Written::Sealed { skip, len, block }
            }),
        ]
    }

    fn attributes() -> impl Strategy<Value = Attributes> {
        let xattr = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
        (id(), 0..0o10000u16, any::<(u32, u32)>(), time(), time(), prop::option::of(time()), xattr()).prop_map(
            |(id, mode, (uid, gid), mtime, ctime, atime, value)| {
                let mut xattrs = Xattrs::default();
                value.into_iter().for_each(|value| xattrs.set(b"user.x", &value).unwrap());
                Attributes { id, mode, uid, gid, mtime, ctime, atime, xattrs }
            },
        )
    }

    fn change() -> impl Strategy<Value = Change> {
        let entry = || (id(), name());
        let writes = prop::collection::vec((0..u64::MAX / 4, written()), 0..5);
        prop_oneof![
            (id(), prop::collection::vec(name(), 0..4)).prop_map(|(id, path)| Change::Locate { id, path }),
            (entry(), any::<u32>())
                .prop_map(|(at, seed)| Change::Make { at, record: Box::new(record(seed.into(), Body::empty_file())) }),
            (id(), entry(), time()).prop_map(|(id, at, time)| Change::Link { id, at, time }),
            (entry(), time()).prop_map(|(at, time)| Change::Remove { at, time }),
            (entry(), entry(), any::<bool>(), time()).prop_map(|(from, to, exchange, time)| Change::Rename {
                from,
                to,
                exchange,
                time
            }),
            attributes().prop_map(|attributes| Change::Attributes(Box::new(attributes))),
            (id(), prop::option::of(any::<u64>()), writes, any::<u64>())
                .prop_map(|(id, cut, writes, size)| Change::Data { id, cut, writes, size }),
        ]
    }

    fn entry() -> impl Strategy<Value = JournalEntry> {
        (prop::collection::vec(change(), 0..6), any::<bool>())
            .prop_map(|(changes, more)| JournalEntry { changes, more })
    }

    proptest! {
        #[test]
        fn an_entry_opens_as_it_was_sealed(entry in entry()) {
            let block = entry.seal(&keys());
            let weight: usize = entry.changes.iter().map(Change::weight).sum();
            prop_assert!(block.len() <= crate::crypto::padded_len(weight + 400) + 200, "{} for {weight}", block.len());
            prop_assert_eq!(JournalEntry::open(&keys(), &block).unwrap(), entry);
        }

        #[test]
        fn a_changed_entry_does_not_open(entry in entry(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut block = entry.seal(&keys());
            let at = at.index(block.len());
            block[at] ^= 1u8 << bit;
            prop_assert!(JournalEntry::open(&keys(), &block).is_err());
        }

        #[test]
        fn any_body_is_refused_or_is_canonical(body in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(entry) = JournalEntry::read(&[], &body) {
                let mut out = Encoder::new();
                out.array(1 + entry.changes.len());
                out.unsigned(entry.more.into());
                entry.changes.iter().for_each(|change| change.write(&mut out));
                prop_assert_eq!(out.finish().1, body);
            }
        }
    }
}
