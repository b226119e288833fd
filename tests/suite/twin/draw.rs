//! How the calls of the twin test are drawn.

use jaxfs_sync::tree::CHUNK_BYTES as CHUNK;
use proptest::prelude::*;
use rustix::fs::{FallocateFlags, OFlags, RenameFlags, XattrFlags};

use super::op::{Bits, Data, From, Io, LONGEST, MAPS, Node, On, Op, SLOTS, Slot, Stamp, Step, Who};
use super::place::{directory, fresh, place, target, used};

/// Offsets and sizes where mistakes live: around what is kept inline, and the edges of pages and chunks.
fn offset() -> impl Strategy<Value = u64> {
    let edge = prop::sample::select(vec![0, 256, 4096, 8192, CHUNK, 2 * CHUNK, 3 * CHUNK, 9 * CHUNK]);
    prop_oneof![
        15 => prop::sample::select(vec![0, 256, 4096, CHUNK]),
        35 => 0..600u64,
        30 => (edge, 0..5u64).prop_map(|(edge, by): (u64, u64)| (edge + by).saturating_sub(2)),
        20 => 0..3 * CHUNK,
        3 => 0..20 * CHUNK,
        1 => (1u64 << 33..(1 << 33) + 5).prop_map(|at| at - 2),
    ]
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![
        8 => 1..300u32,
        2 => prop::sample::select(vec![0, 1, 4096, CHUNK as u32, 2 * CHUNK as u32]),
        2 => 0..LONGEST as u32,
    ]
}

fn data() -> impl Strategy<Value = Data> {
    (any::<u8>(), length()).prop_map(|(number, len)| Data { number, len })
}

fn slot() -> impl Strategy<Value = Slot> {
    0..SLOTS as u8
}

fn map() -> impl Strategy<Value = Slot> {
    0..MAPS as u8
}

/// Modes with a meaning: the set-group-id bit has none for a file that its group can not execute, and FUSE then leaves it
/// where a disk takes it away.
fn mode() -> impl Strategy<Value = Bits> {
    let bits = prop_oneof![
        8 => prop::sample::select(vec![0o644, 0o600, 0o666, 0o640, 0o755, 0o700, 0o777, 0o711]),
        3 => prop::sample::select(vec![0o2775, 0o1777, 0o4755, 0o6777, 0o2755, 0o000, 0o070, 0o007]),
        1 => 0..0o10000u16,
    ];
    bits.prop_map(|mode| Bits(if mode & 0o2000 == 0 { mode } else { mode | 0o010 }))
}

/// Masks that leave the group its execution.
fn umask() -> impl Strategy<Value = Bits> {
    prop::sample::select(vec![0, 0o002, 0o022, 0o027, 0o066]).prop_map(Bits)
}

/// Modes that make directories useful.
fn open_mode() -> impl Strategy<Value = Bits> {
    let open = prop_oneof![4 => Just(0o777), 2 => prop::sample::select(vec![0o2777, 0o1777, 0o3777, 0o755])];
    prop_oneof![6 => open.prop_map(Bits), 1 => mode()]
}

fn flags() -> impl Strategy<Value = OFlags> {
    let access = prop_oneof![2 => Just(OFlags::RDONLY), 1 => Just(OFlags::WRONLY), 8 => Just(OFlags::RDWR)];
    let some = |flags: OFlags, weight: f64| {
        prop::bool::weighted(weight).prop_map(move |set| if set { flags } else { OFlags::empty() })
    };
    let rare = prop_oneof![
        30 => Just(OFlags::empty()),
        3 => Just(OFlags::NOFOLLOW),
        2 => Just(OFlags::DIRECTORY),
        3 => Just(OFlags::PATH),
        1 => Just(OFlags::PATH | OFlags::NOFOLLOW),
        1 => Just(OFlags::DSYNC),
        1 => Just(OFlags::NOATIME),
        4 => Just(OFlags::DIRECT),
    ];
    (
        access,
        some(OFlags::CREATE, 0.6),
        some(OFlags::EXCL, 0.1),
        some(OFlags::TRUNC, 0.1),
        some(OFlags::APPEND, 0.1),
        rare,
    )
        .prop_map(|(access, create, excl, trunc, append, rare)| {
            let flags = access | create | excl | trunc | append | rare;
            // An append without a page cache has to be aligned on one side and not on the other.
            if append.is_empty() { flags } else { flags - OFlags::DIRECT }
        })
}

fn open() -> impl Strategy<Value = Op> {
    let file =
        |at| (slot(), at, flags(), mode()).prop_map(|(slot, at, flags, mode)| Op::Open { slot, at, flags, mode });
    let folder = (slot(), directory(), prop::bool::weighted(0.1)).prop_map(|(slot, at, path)| {
        let flags = OFlags::DIRECTORY | if path { OFlags::PATH } else { OFlags::RDONLY };
        Op::Open { slot: 5 + slot % 3, at, flags, mode: Bits(0) }
    });
    prop_oneof![4 => file(place().boxed()), 4 => file(fresh().boxed()), 3 => folder]
}

fn io() -> impl Strategy<Value = Io> {
    prop_oneof![
        3 => Just(Io::Here),
        6 => offset().prop_map(Io::At),
        1 => Just(Io::Pieces),
        1 => offset().prop_map(Io::PiecesAt),
    ]
}

fn contents() -> BoxedStrategy<Op> {
    let space = prop::sample::select(vec![
        FallocateFlags::empty(),
        FallocateFlags::KEEP_SIZE,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        FallocateFlags::ZERO_RANGE,
        FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        FallocateFlags::PUNCH_HOLE,
        FallocateFlags::COLLAPSE_RANGE,
        FallocateFlags::INSERT_RANGE,
    ]);
    let from = prop::sample::select(vec![From::Start, From::Here, From::End]);
    let side = || (used(), prop::option::weighted(0.8, offset()));
    let write = prop_oneof![12 => io(), 1 => Just(Io::End)];
    prop_oneof![
        2 => used().prop_map(Op::Close),
        1 => (used(), slot()).prop_map(|(from, to)| Op::Dup { from, to }),
        8 => (used(), io(), length()).prop_map(|(slot, how, len)| Op::Read { slot, how, len }),
        16 => (used(), write, data()).prop_map(|(slot, how, data)| Op::Write { slot, how, data }),
        2 => (used(), from, offset(), any::<bool>())
            .prop_map(|(slot, from, by, back)| Op::Seek { slot, from, by: by as i64 * if back { -1 } else { 1 } }),
        3 => (used(), offset(), any::<bool>()).prop_map(|(slot, at, data)| Op::Find { slot, at, data }),
        2 => (place(), offset()).prop_map(|(at, size)| Op::Truncate { at, size }),
        4 => (used(), offset()).prop_map(|(slot, size)| Op::TruncateHeld { slot, size }),
        5 => (used(), space, offset(), length())
            .prop_map(|(slot, how, at, len)| Op::Allocate { slot, how, at, len: len.into() }),
        5 => (side(), side(), length()).prop_map(|(from, to, len)| Op::Copy { from, to, len }),
        3 => (side(), used(), length()).prop_map(|(from, to, len)| Op::Send { from, to, len }),
    ]
    .boxed()
}

fn maps() -> BoxedStrategy<Op> {
    prop_oneof![
        3 => (map(), used(), 0..3u8, 1..2 * CHUNK as u32, prop::bool::weighted(0.8))
            .prop_map(|(map, slot, page, len, write)| Op::Map { map, slot, page, len, write }),
        5 => (used(), any::<u32>(), length()).prop_map(|(map, at, len)| Op::Load { map, at, len }),
        7 => (used(), any::<u32>(), data()).prop_map(|(map, at, data)| Op::Store { map, at, data }),
        1 => used().prop_map(Op::SyncMap),
        1 => used().prop_map(Op::Unmap),
    ]
    .boxed()
}

fn names() -> BoxedStrategy<Op> {
    let node = prop::sample::select(vec![Node::File, Node::File, Node::Fifo, Node::Socket, Node::Null, Node::Block]);
    let how = prop_oneof![
        6 => Just(RenameFlags::empty()),
        2 => Just(RenameFlags::NOREPLACE),
        3 => Just(RenameFlags::EXCHANGE),
        1 => Just(RenameFlags::EXCHANGE | RenameFlags::NOREPLACE),
    ];
    let end = || prop_oneof![place(), fresh()];
    prop_oneof![
        8 => (fresh(), open_mode()).prop_map(|(at, mode)| Op::Mkdir { at, mode }),
        3 => (fresh(), node, mode()).prop_map(|(at, node, mode)| Op::Mknod { at, node, mode }),
        3 => (target(), fresh()).prop_map(|(target, at)| Op::Symlink { target, at }),
        6 => (place(), fresh(), any::<bool>()).prop_map(|(from, to, follow)| Op::Link { from, to, follow }),
        1 => (used(), fresh()).prop_map(|(slot, to)| Op::LinkHeld { slot, to }),
        6 => place().prop_map(Op::Unlink),
        4 => directory().prop_map(Op::Rmdir),
        14 => (place(), end(), how).prop_map(|(from, to, how)| Op::Rename { from, to, how }),
        1 => (directory(), 16..200u8, 1..100u8, prop::bool::weighted(0.4))
            .prop_map(|(at, first, count, remove)| Op::Fill { at, first, count, remove }),
        1 => place().prop_map(Op::Readlink),
    ]
    .boxed()
}

fn on() -> impl Strategy<Value = On> {
    prop_oneof![4 => place().prop_map(On::Path), 2 => place().prop_map(On::Link), 3 => used().prop_map(On::Held)]
}

/// Never the time of the test, so that what is set is told from what is measured.
fn stamp() -> impl Strategy<Value = Stamp> {
    let past = (-2_000_000_000..1_500_000_000i64, 0..1_000_000_000i64);
    let edge = prop::sample::select(vec![(0, 0), (-1, 999_999_999), (-1, 0), (-2_147_483_648, 0), (15_032_385_534, 1)]);
    prop_oneof![
        4 => past.prop_map(Stamp::To),
        1 => edge.prop_map(Stamp::To),
        3 => Just(Stamp::Now),
        2 => Just(Stamp::Omit),
    ]
}

fn attributes() -> BoxedStrategy<Op> {
    let uid = prop::sample::select(vec![None, Some(0), Some(1001), Some(1002)]);
    let gid = prop::sample::select(vec![None, Some(0), Some(1001), Some(2000)]);
    let name = || prop_oneof![6 => 0..2u8, 2 => 7..9u8, 1 => 0..12u8];
    let exists =
        prop_oneof![3 => Just(XattrFlags::empty()), 1 => Just(XattrFlags::CREATE), 1 => Just(XattrFlags::REPLACE)];
    let value = prop_oneof![8 => 0..100u32, 1 => Just(3000), 1 => Just(65_537)];
    let room = || prop_oneof![2 => Just(0usize), 2 => 1..100usize, 2 => Just(4096usize)];
    prop_oneof![
        6 => (on(), mode()).prop_map(|(on, mode)| Op::Chmod { on, mode }),
        4 => (on(), uid, gid)
            .prop_map(|(on, uid, gid): (_, Option<_>, Option<_>)| Op::Chown { on, uid: uid.or(gid.is_none().then_some(0)), gid }),
        4 => (on(), stamp(), stamp()).prop_map(|(on, atime, mtime)| Op::Utimes { on, atime, mtime }),
        4 => on().prop_map(Op::Stat),
        3 => (place(), 0..8u8, any::<bool>()).prop_map(|(at, mode, effective)| Op::Access { at, mode, effective }),
        5 => (on(), name(), (any::<u8>(), value), exists).prop_map(|(on, name, (number, len), flags)| {
            Op::SetXattr { on, name, data: Data { number, len }, flags }
        }),
        2 => (on(), name(), room()).prop_map(|(on, name, room)| Op::GetXattr { on, name, room }),
        2 => (on(), room()).prop_map(|(on, room)| Op::ListXattrs { on, room }),
        2 => (on(), name()).prop_map(|(on, name)| Op::RemoveXattr { on, name }),
    ]
    .boxed()
}

fn listings() -> BoxedStrategy<Op> {
    let room = prop_oneof![3 => 300..700usize, 1 => Just(4096usize)];
    prop_oneof![
        6 => (used(), room).prop_map(|(slot, room)| Op::List { slot, room }),
        2 => (used(), prop::option::of(any::<u8>())).prop_map(|(slot, nth)| Op::Resume { slot, nth }),
        1 => used().prop_map(Op::Cwd),
    ]
    .boxed()
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        600 => open(),
        1500 => contents(),
        500 => maps(),
        1800 => names(),
        900 => attributes(),
        400 => listings(),
        20 => umask().prop_map(Op::Umask),
        60 => (used(), any::<bool>()).prop_map(|(slot, data_only)| Op::Fsync { slot, data_only }),
        15 => Just(Op::Sync),
        10 => Just(Op::Remount),
    ]
}

/// The first calls: something that the others can be about.
pub(super) fn first_step() -> impl Strategy<Value = Step> {
    let who = prop_oneof![1 => Just(Who::Root), 1 => Just(Who::Ann)];
    let make = (slot(), fresh(), mode()).prop_map(|(slot, at, mode)| {
        let flags = OFlags::CREATE | OFlags::RDWR;
        Op::Open { slot, at, flags, mode }
    });
    let mkdir = (fresh(), open_mode()).prop_map(|(at, mode)| Op::Mkdir { at, mode });
    let write = (used(), offset(), data()).prop_map(|(slot, at, data)| Op::Write { slot, how: Io::At(at), data });
    (who, prop_oneof![3 => make, 2 => mkdir, 2 => write]).prop_map(|(who, op)| Step { who, op })
}

/// Any call, mostly by root.
pub(super) fn step() -> impl Strategy<Value = Step> {
    let who = prop_oneof![6 => Just(Who::Root), 3 => Just(Who::Ann), 1 => Just(Who::Ben)];
    (who, op()).prop_map(|(who, op)| Step { who, op })
}
