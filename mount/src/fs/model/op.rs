//! What the model test does, and how it draws it.
//!
//! Operations name their objects by numbers that are taken modulo what there is, so that any sequence, and any part of one,
//! is a test.

use jaxfs_sync::tree::CHUNK_BYTES as CHUNK;
use proptest::prelude::*;

use super::acl::{Acl, any_acl};
use crate::fs::OnTarget;
use crate::writeback::Durability;

/// Which of the things that there are.
pub(super) type Pick = u8;

/// A directory and one of the names of [`name`] in it.
pub(super) type At = (Pick, u8);

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Makes a file and keeps it open.
    Create(At, u16),
    Make(At, Sort, u16),
    /// Makes files under this and as many following names.
    Fill(At, u8),
    Unlink(At),
    Rmdir(At),
    Rename(At, At, OnTarget),
    Link(Pick, At),
    Open {
        node: Pick,
        truncate: bool,
    },
    Release(Pick),
    Write {
        handle: Pick,
        at: u64,
        len: u64,
        kill: bool,
    },
    Allocate {
        handle: Pick,
        at: u64,
        len: u64,
        how: Space,
    },
    Copy {
        from: (Pick, u64),
        to: (Pick, u64),
        len: u64,
    },
    Read {
        handle: Pick,
        at: u64,
        len: u64,
    },
    Seek {
        handle: Pick,
        at: u64,
    },
    Truncate {
        node: Pick,
        size: u64,
    },
    /// By handle, which may be all that is left of the file.
    TruncateOpen {
        handle: Pick,
        size: u64,
    },
    Mode(Pick, u16),
    Chown(Pick, Option<u32>, Option<u32>),
    Times(Pick, Option<(i64, u32)>, Option<(i64, u32)>),
    SetXattr {
        node: Pick,
        name: u8,
        len: usize,
        exists: Option<bool>,
    },
    RemoveXattr(Pick, u8),
    /// The umask from here on.
    Umask(u16),
    SetAcl {
        node: Pick,
        default: bool,
        acl: Acl,
    },
    RemoveAcl(Pick, bool),
    List {
        dir: Pick,
        attributes: bool,
        page: usize,
    },
    Lookup(At),
    /// One lookup, or all.
    Forget(Pick, bool),
    /// Names, and the content of open files.
    Sync(Vec<Pick>),
    Flush(Flush),
    /// A power cut while something is made safe.
    Cut(Cut),
    /// Drops what only old versions have, perhaps after publishing, so that more is only in those.
    Collect {
        publish: bool,
        dry_run: bool,
    },
    /// Another mount of the same open bucket.
    Remount,
    /// Another process.
    Restart,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Sort {
    File,
    Directory,
    Symlink(usize),
    Fifo,
    Device(u32),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Space {
    Grow,
    Keep,
    Punch,
    Zero,
    ZeroKeep,
}

/// What makes changes safe.
#[derive(Clone, Debug)]
pub(super) enum Safe {
    Version(Durability),
    /// With the content of these open files.
    Journal(Vec<Pick>),
}

/// A power cut at one of the disk's operations while changes are made safe, or behind the last.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    pub(super) what: Safe,
    /// At which of its operations.
    pub(super) after: u8,
    /// What is left of those that were not synced.
    pub(super) seed: u64,
}

/// A write-back, what happens while it writes, and where it fails.
#[derive(Clone, Debug)]
pub(super) struct Flush {
    pub(super) durability: Durability,
    /// Before which of its steps `meanwhile` happens.
    pub(super) step: u8,
    pub(super) meanwhile: Vec<Op>,
    /// Which of its steps fails.
    pub(super) fails: Option<u8>,
}

/// The `number`th name. There are few short ones, so that they meet, and many long ones, so that directories get deep.
pub(super) fn name(number: u8) -> Vec<u8> {
    match number {
        0..16 => vec![b'a' + number],
        _ => format!("{number:03}-{:-<190}", "").into_bytes(),
    }
}

/// Offsets and sizes where mistakes live: around the inline limit and the edges of chunks.
fn place() -> impl Strategy<Value = u64> {
    let edge = prop_oneof![Just(0), Just(256), Just(4096), Just(CHUNK), Just(2 * CHUNK), Just(3 * CHUNK)];
    prop_oneof![
        6 => 0..600u64,
        3 => (edge, 0..5u64).prop_map(|(edge, by): (u64, u64)| (edge + by).saturating_sub(2)),
        1 => 0..3 * CHUNK,
    ]
}

fn len() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 1..300u64,
        2 => place().prop_map(|len| len.max(1)),
    ]
}

fn at() -> impl Strategy<Value = At> {
    (any::<Pick>(), prop_oneof![9 => 0..8u8, 1 => 16..120u8])
}

fn time() -> impl Strategy<Value = Option<(i64, u32)>> {
    prop::option::of((-2_000_000_000..4_000_000_000i64, 0..1_000_000_000u32))
}

fn sort() -> impl Strategy<Value = Sort> {
    prop_oneof![
        2 => Just(Sort::File),
        5 => Just(Sort::Directory),
        1 => (0..4100usize).prop_map(Sort::Symlink),
        1 => Just(Sort::Fifo),
        1 => any::<u32>().prop_map(Sort::Device),
    ]
}

fn rename() -> impl Strategy<Value = Op> {
    let how = prop_oneof![4 => Just(OnTarget::Replace), 1 => Just(OnTarget::Refuse), 2 => Just(OnTarget::Exchange)];
    (at(), at(), how).prop_map(|(from, to, how)| Op::Rename(from, to, how))
}

fn space() -> impl Strategy<Value = Space> {
    use Space::*;
    prop::sample::select(vec![Grow, Keep, Punch, Zero, ZeroKeep])
}

fn names() -> BoxedStrategy<Op> {
    prop_oneof![
        8 => (at(), 0..0o10000u16).prop_map(|(at, mode)| Op::Create(at, mode)),
        8 => (at(), sort(), 0..0o10000u16).prop_map(|(at, sort, mode)| Op::Make(at, sort, mode)),
        1 => (at(), 1..40u8).prop_map(|(at, count)| Op::Fill(at, count)),
        8 => at().prop_map(Op::Unlink),
        4 => at().prop_map(Op::Rmdir),
        14 => rename(),
        6 => (any::<Pick>(), at()).prop_map(|(node, at)| Op::Link(node, at)),
        4 => at().prop_map(Op::Lookup),
        8 => (any::<Pick>(), any::<bool>()).prop_map(|(node, all)| Op::Forget(node, all)),
        2 => (any::<Pick>(), any::<bool>(), 1..40usize)
            .prop_map(|(dir, attributes, page)| Op::List { dir, attributes, page }),
    ]
    .boxed()
}

fn contents() -> BoxedStrategy<Op> {
    let handle = any::<Pick>;
    prop_oneof![
        6 => (handle(), prop::bool::weighted(0.2)).prop_map(|(node, truncate)| Op::Open { node, truncate }),
        14 => handle().prop_map(Op::Release),
        14 => (handle(), place(), len(), prop::bool::weighted(0.1))
            .prop_map(|(handle, at, len, kill)| Op::Write { handle, at, len, kill }),
        6 => (handle(), 0..24u64, 1..3u64)
            .prop_map(|(handle, at, len)| Op::Write { handle, at: at * 4096, len: len * 4096, kill: false }),
        5 => (handle(), place(), len(), space()).prop_map(|(handle, at, len, how)| Op::Allocate { handle, at, len, how }),
        3 => (handle(), place(), handle(), place(), prop_oneof![len(), 1..3 * CHUNK])
            .prop_map(|(a, from, b, to, len)| Op::Copy { from: (a, from), to: (b, to), len }),
        5 => (handle(), place(), len()).prop_map(|(handle, at, len)| Op::Read { handle, at, len }),
        4 => (handle(), place()).prop_map(|(handle, at)| Op::Seek { handle, at }),
        3 => (handle(), place()).prop_map(|(node, size)| Op::Truncate { node, size }),
        6 => (handle(), place()).prop_map(|(handle, size)| Op::TruncateOpen { handle, size }),
    ]
    .boxed()
}

fn attributes() -> BoxedStrategy<Op> {
    let node = any::<Pick>;
    let value = prop_oneof![8 => 0..100usize, 1 => Just(40_000usize)];
    prop_oneof![
        2 => (node(), 0..0o10000u16).prop_map(|(node, mode)| Op::Mode(node, mode)),
        1 => (node(), prop::option::of(0..3u32), prop::option::of(0..3u32)).prop_map(|(node, u, g)| Op::Chown(node, u, g)),
        2 => (node(), time(), time()).prop_map(|(node, mtime, atime)| Op::Times(node, mtime, atime)),
        2 => (node(), 0..4u8, value, prop::option::of(any::<bool>()))
            .prop_map(|(node, name, len, exists)| Op::SetXattr { node, name, len, exists }),
        1 => (node(), 0..4u8).prop_map(|(node, name)| Op::RemoveXattr(node, name)),
        6 => prop::collection::vec(any::<Pick>(), 0..3).prop_map(Op::Sync),
        1 => (0..0o1000u16).prop_map(Op::Umask),
        3 => (node(), any::<bool>(), any_acl()).prop_map(|(node, default, acl)| Op::SetAcl { node, default, acl }),
        1 => (node(), any::<bool>()).prop_map(|(node, default)| Op::RemoveAcl(node, default)),
    ]
    .boxed()
}

fn simple() -> BoxedStrategy<Op> {
    prop_oneof![12 => names(), 10 => contents(), 3 => attributes()].boxed()
}

fn flush() -> BoxedStrategy<Op> {
    let durability = prop_oneof![
        3 => Just(Durability::Memory),
        3 => Just(Durability::Durable),
        2 => Just(Durability::Published),
    ];
    (durability, 0..12u8, prop::collection::vec(simple(), 0..8), prop::option::weighted(0.4, 0..12u8))
        .prop_map(|(durability, step, meanwhile, fails)| Op::Flush(Flush { durability, step, meanwhile, fails }))
        .boxed()
}

/// Any operation.
pub(super) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        180 => simple(),
        12 => flush(),
        8 => (prop::bool::weighted(0.7), prop::bool::weighted(0.05))
            .prop_map(|(publish, dry_run)| Op::Collect { publish, dry_run }),
        1 => Just(Op::Remount),
        1 => Just(Op::Restart),
    ]
}

/// Any operation on a disk whose power is cut now and then.
pub(super) fn op_or_cut() -> impl Strategy<Value = Op> {
    let what = prop_oneof![
        2 => prop::collection::vec(any::<Pick>(), 0..3).prop_map(Safe::Journal),
        1 => Just(Safe::Version(Durability::Durable)),
        1 => Just(Safe::Version(Durability::Published)),
    ];
    let cut = (what, 0..60u8, any::<u64>()).prop_map(|(what, after, seed)| Op::Cut(Cut { what, after, seed }));
    prop_oneof![30 => op(), 1 => cut]
}

impl Flush {
    /// Publishes, and nothing else.
    pub(super) const fn published() -> Self {
        Self { durability: Durability::Published, step: 0, meanwhile: Vec::new(), fails: None }
    }
}
