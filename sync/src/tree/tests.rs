//! Encodings: golden sizes, strictness, and totality.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::btree::Node;
use super::testing::{Lab, entry, keys, record};
use super::vault::{NodeBody, decode};
use super::wire::Encoder;
use super::*;
use crate::link::{BlockRef, BucketId, Codec, Epoch, Link};

fn encode<N: NodeBody>(node: &N) -> (Vec<BlockRef>, Vec<u8>) {
    let mut out = Encoder::new();
    node.encode(&mut out);
    out.finish()
}

fn some_ref(seed: u8) -> BlockRef {
    BlockRef { link: Link::from_parts(Codec::Raw, [seed; 32]), epoch: Epoch(u64::from(seed % 3)) }
}

fn records() -> impl Strategy<Value = Record> {
    let extents = prop::collection::vec((1u64..1_000, 1u32..200_000, 0u32..1_000, any::<u8>()), 0..=8);
    let list = extents.prop_map(|planned| {
        let mut offset = 0;
        let mut edits = Vec::new();
        for (gap, length, skip, seed) in planned {
            let range = offset + gap..offset + gap + u64::from(length);
            offset = range.end;
            edits.push(Edit { range, fill: Fill::Block { skip, block: some_ref(seed) } });
        }
        edits
    });
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..=INLINE_BYTES)
            .prop_map(|bytes| Body::File(Content::inline(&bytes).unwrap())),
        (list, 0u64..1 << 40).prop_map(|(edits, more)| {
            thread_local!(static LAB: Lab = Lab::new());
            let size = edits.last().map_or(0, |edit| edit.range.end) + more;
            Body::File(LAB.with(|lab| Content::empty().splice(&lab.vault, size, &edits).unwrap()))
        }),
        Just(Body::empty_directory()),
        prop::collection::vec(1u8..=255, 1..300).prop_map(|target| Body::Symlink(target.into())),
        Just(Body::Fifo),
        Just(Body::Socket),
        any::<u64>().prop_map(Body::CharDevice),
        any::<u64>().prop_map(Body::BlockDevice),
    ];
    let time = || (any::<i64>(), 0u32..1_000_000_000).prop_map(|(secs, nanos)| Time { secs, nanos });
    let xattrs = prop::collection::btree_map(
        prop::collection::vec(any::<u8>(), 1..20),
        prop::collection::vec(any::<u8>(), 0..40),
        0..4,
    );
    let numbers = (any::<[u8; 16]>(), 0u16..=0o7777, any::<u32>(), any::<u32>());
    (numbers, time(), time(), time(), prop::option::of(time()), xattrs, body).prop_map(
        |((id, mode, uid, gid), mtime, ctime, btime, atime, named, body)| {
            let mut xattrs = Xattrs::default();
            named.iter().for_each(|(name, value)| xattrs.set(name, value).unwrap());
            Record { id: FileId(id), mode, uid, gid, mtime, ctime, btime, atime, xattrs, body }
        },
    )
}

fn leaves() -> impl Strategy<Value = Vec<DirEntry>> {
    prop::collection::btree_map("[a-z]{1,12}", (records(), any::<bool>()), 1..12).prop_map(|entries| {
        let entries = entries.into_iter().map(|(name, (record, shared))| {
            let target = match record.kind() {
                kind if shared && kind != Kind::Directory => Target::Shared { id: record.id, kind },
                _ => Target::Record(Box::new(record)),
            };
            DirEntry { name: Name::new(name.as_bytes()).unwrap(), target }
        });
        entries.collect()
    })
}

/// Whatever decodes has to encode to the same bytes and links.
fn canonical<N: NodeBody>(links: &[BlockRef], body: &[u8]) -> bool {
    decode::<N>(links, body).inspect(|node| assert_eq!(encode(node), (links.to_vec(), body.to_vec()))).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_encoded_decodes_to_the_same(items in leaves()) {
        let (links, body) = encode(&Node::Leaf(items.clone()));
        let Ok(Node::Leaf(found)) = decode::<Node<DirEntry>>(&links, &body) else { panic!("it decodes") };
        assert_eq!(found, items);
    }

    #[test]
    fn changed_bodies_are_refused_or_are_canonical(items in leaves(), at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
        let (links, body) = encode(&Node::Leaf(items));
        let mut flipped = body.clone();
        flipped[at.index(body.len())] ^= 1 << bit;
        canonical::<Node<DirEntry>>(&links, &flipped);
        assert!(!canonical::<Node<DirEntry>>(&links, &body[..cut.index(body.len())]));
        let mut longer = links.clone();
        longer.push(some_ref(99));
        assert!(!canonical::<Node<DirEntry>>(&longer, &body), "a link that nothing uses");
    }

    #[test]
    fn any_bytes_are_refused_or_are_canonical(body in prop::collection::vec(any::<u8>(), 0..200), count in 0u8..5) {
        let links: Vec<_> = (0..count).map(some_ref).collect();
        canonical::<Node<DirEntry>>(&links, &body);
        canonical::<Node<Extent>>(&links, &body);
        canonical::<Node<SharedInode>>(&links, &body);
        canonical::<Superblock>(&links, &body);
        canonical::<Pins>(&links, &body);
    }
}

/// The bytes of a superblock, so that a second implementation can check its own.
#[test]
fn the_golden_superblock_keeps_its_bytes() {
    let superblock = Superblock { root: record(1, Body::empty_directory()), inodes: Tree::empty() };
    let (links, body) = encode(&superblock);
    assert!(links.is_empty());
    let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    let time = "1a6553f1011a075bcd15";
    let id = "500000000000000001a5a5a5a5a5a5a5a5";
    assert_eq!(hex, format!("828d{id}1901a41903e81903e8{time}{time}{time}8001f6f6"));
    let (at, block) = keys().seal_node(Superblock::KIND, links, &body);
    assert_eq!(block.len(), 120, "{at:?}");
    assert_eq!(at.link.short(), GOLDEN_SUPERBLOCK);
}

const GOLDEN_SUPERBLOCK: &str = "fad79a6c";

/// The totals that the README works out.
#[test]
fn worked_sizes_are_right() {
    let weigh = |item: &DirEntry| {
        let mut out = Encoder::new();
        item.encode(&mut out);
        (out.weight(), out.finish().1.len())
    };
    let inline = entry("file-000123.txt", 123);
    assert_eq!(weigh(&inline), (85, 85));
    let lab = Lab::new();
    let content =
        Content::empty().splice(&lab.vault, CHUNK_BYTES, &[Edit::block(0..CHUNK_BYTES, some_ref(1))]).unwrap();
    assert_eq!(weigh(&named("file-000123.txt", record(123, Body::File(content)))), (87 + 41, 87));
    let before = lab.written();
    lab.vault.put_data(&vec![1; CHUNK_BYTES as usize]).unwrap();
    assert_eq!(lab.written() - before, 32_808);
}

#[test]
fn rules_of_the_format_are_kept_on_the_way_in() {
    let leaf = |items: Vec<DirEntry>| encode(&Node::Leaf(items));
    let refused = |(links, body): (Vec<BlockRef>, Vec<u8>)| decode::<Node<DirEntry>>(&links, &body).is_err();
    assert!(!refused(leaf(vec![entry("a", 1), entry("b", 2)])));
    assert!(refused(leaf(vec![entry("b", 1), entry("a", 2)])), "order");
    assert!(refused(leaf(vec![entry("a", 1), entry("a", 2)])), "twice");
    assert!(refused(leaf(vec![])), "an empty node");
    let with = |change: &dyn Fn(&mut Record)| {
        let mut record = record(1, Body::Fifo);
        change(&mut record);
        refused(leaf(vec![DirEntry { name: Name::new(b"a").unwrap(), target: Target::Record(Box::new(record)) }]))
    };
    assert!(!with(&|_| ()));
    assert!(with(&|record| record.mode = 0o10000), "mode");
    assert!(with(&|record| record.mtime.nanos = 1_000_000_000), "nanoseconds");
    assert!(with(&|record| record.body = Body::Symlink([].into())), "empty target");
    assert!(with(&|record| record.body = Body::Symlink([b'x'; 4_096].into())), "long target");
    assert!(with(&|record| record.body = Body::Symlink((*b"a\0").into())), "NUL in a target");
    let shared = Target::Shared { id: FileId([1; 16]), kind: Kind::Directory };
    assert!(refused(leaf(vec![DirEntry { name: Name::new(b"a").unwrap(), target: shared }])), "a shared directory");
    let extents = |list: Vec<Extent>| {
        let (links, body) = encode(&Node::Leaf(list));
        decode::<Node<Extent>>(&links, &body).is_err()
    };
    let extent = |offset, length, skip| Extent { offset, length, skip, block: some_ref(1) };
    assert!(!extents(vec![extent(0, 10, 0), extent(10, 10, 0)]));
    assert!(extents(vec![extent(0, 11, 0), extent(10, 10, 0)]), "overlap");
    assert!(extents(vec![extent(0, 0, 0)]), "empty");
    assert!(extents(vec![extent(0, 10, 2 << 20)]), "past any block");
    assert!(extents(vec![extent(u64::MAX - 5, 10, 0)]), "past any file");
}

#[test]
fn links_stand_once_each_in_the_order_of_their_first_use() {
    let pins = |first: u8, second: u8| [0x82, 0x82, 0x41, b'a', first, 0x82, 0x41, b'b', second];
    let (one, two) = (some_ref(1), some_ref(2));
    assert!(decode::<Pins>(&[one, two], &pins(0, 1)).is_ok());
    assert!(decode::<Pins>(&[one], &pins(0, 0)).is_ok());
    assert!(decode::<Pins>(&[two, one], &pins(1, 0)).is_err(), "order");
    assert!(decode::<Pins>(&[one, one], &pins(0, 1)).is_err(), "twice");
    assert!(decode::<Pins>(&[one, two], &pins(0, 0)).is_err(), "unused");
    assert!(decode::<Pins>(&[one], &pins(0, 1)).is_err(), "beyond the table");
}

#[test]
fn xattrs_are_bounded_and_a_refused_one_changes_nothing() {
    let mut xattrs = Xattrs::default();
    xattrs.set(b"user.b", &[1; 60_000]).unwrap();
    let before = xattrs.clone();
    assert_eq!(xattrs.set(b"user.a", &[1; 6_000]), Err(BadRecord::XattrSpace));
    assert_eq!(xattrs.set(b"", b""), Err(BadRecord::XattrName));
    assert_eq!(xattrs, before);
    xattrs.set(b"user.b", &[2; 65_000]).unwrap();
    assert!(xattrs.remove(b"user.b") && !xattrs.remove(b"user.b"));
}

#[test]
fn missing_damaged_and_foreign_blocks_are_told_apart() {
    let lab = Lab::new();
    let superblock = Superblock { root: record(1, Body::empty_directory()), inodes: Tree::empty() };
    let at = superblock.put(&lab.vault).unwrap();
    assert_eq!(Superblock::get(&lab.vault, &at).unwrap(), superblock);
    lab.vault.set_node_capacity(0);
    assert_eq!(Superblock::get(&lab.vault, &at).unwrap(), superblock);
    assert!(matches!(lab.vault.node::<Pins>(&at), Err(TreeError::Open(crate::crypto::OpenError::Foreign(_)))));
    let nowhere = BlockRef { link: Link::of(Codec::DagCbor, b"x"), epoch: Epoch(0) };
    assert!(matches!(Superblock::get(&lab.vault, &nowhere), Err(TreeError::Missing(link)) if link == nowhere.link));
    let other =
        crate::crypto::Keyring::new(BucketId(uuid::Uuid::nil()), Epoch(0), &crate::crypto::Secret::new([9; 32]));
    lab.vault.set_keys(std::sync::Arc::new(other));
    assert!(matches!(Superblock::get(&lab.vault, &at), Err(TreeError::Open(_))));
}

#[derive(Default)]
struct Seen {
    blocks: BTreeSet<Link>,
    names: Vec<String>,
    hurt: Vec<(String, TreeError)>,
}

impl Visitor for Seen {
    fn node(&mut self, _path: &[u8], at: &BlockRef) -> bool {
        self.blocks.insert(at.link)
    }

    fn extent(&mut self, _path: &[u8], extent: &Extent) {
        self.blocks.insert(extent.block.link);
    }

    fn entry(&mut self, path: &[u8], _kind: Kind) {
        self.names.push(String::from_utf8_lossy(path).into_owned());
    }

    fn hurt(&mut self, path: &[u8], error: TreeError) {
        self.hurt.push((String::from_utf8_lossy(path).into_owned(), error));
    }
}

fn put_all<I: Item>(lab: &Lab, items: impl IntoIterator<Item = I>) -> Tree<I> {
    Tree::empty().apply(&lab.vault, items.into_iter().map(|item| (item.key(), Some(item))).collect()).unwrap()
}

fn named(name: &str, record: Record) -> DirEntry {
    DirEntry { name: Name::new(name.as_bytes()).unwrap(), target: Target::Record(Box::new(record)) }
}

#[test]
fn a_walk_meets_every_block_of_a_version_and_goes_on_beside_damage() {
    let lab = Lab::new();
    let chunk = |seed: u8| lab.vault.put_data(&[seed; 1_000]).unwrap();
    let large = |seed: u8| {
        let edits: Vec<_> = (0..500).map(|at| Edit::block(at * 1_000..(at + 1) * 1_000, chunk(seed))).collect();
        Body::File(Content::empty().splice(&lab.vault, 500_000, &edits).unwrap())
    };
    let inner = put_all(&lab, (0..300).map(|number| entry(&format!("f{number}"), number)));
    let deep =
        put_all(&lab, [named("inner", record(1, Body::Directory(inner.clone()))), named("large", record(2, large(1)))]);
    let shared = SharedInode { record: record(3, large(2)), nlink: 2 };
    let link = Target::Shared { id: shared.record.id, kind: Kind::File };
    let top = put_all(
        &lab,
        [
            named("deep", record(4, Body::Directory(deep))),
            DirEntry { name: Name::new(b"link").unwrap(), target: link },
            named("zero", record(5, Body::empty_file())),
        ],
    );
    let inodes = put_all(&lab, [shared]);
    let at = Superblock { root: record(0, Body::Directory(top)), inodes }.put(&lab.vault).unwrap();
    lab.vault.store().commit(crate::store::Commit::default()).unwrap();
    let mut seen = Seen::default();
    walk(&lab.vault, &at, &mut seen);
    assert!(seen.hurt.is_empty(), "{:?}", seen.hurt);
    assert_eq!(seen.names.len(), 305);
    assert_eq!(seen.names[..3], ["deep", "deep/inner", "deep/inner/f0"]);
    assert_eq!(seen.names[302..], ["deep/large", "link", "zero"]);
    let mut stored = BTreeSet::new();
    lab.vault.store().for_each_block(&mut |link, _| assert!(stored.insert(link))).unwrap();
    assert_eq!(seen.blocks, stored);

    // The same store without one directory's root: everything else is still met.
    let other = Lab::new();
    let lost = inner.root().unwrap().link;
    for link in stored.iter().filter(|link| **link != lost) {
        other.vault.store().put(link, &lab.vault.store().get(link).unwrap().unwrap()).unwrap();
    }
    let mut seen = Seen::default();
    walk(&other.vault, &at, &mut seen);
    assert!(matches!(&seen.hurt[..], [(path, TreeError::Missing(link))] if path == "deep/inner" && *link == lost));
    assert_eq!(seen.names, ["deep", "deep/inner", "deep/large", "link", "zero"]);
}

#[test]
fn trees_survive_the_store_being_opened_again() {
    let lab = Lab::new();
    let tree = put_all(&lab, (0..1_000).map(|number| entry(&format!("f{number}"), number)));
    lab.vault.store().commit(crate::store::Commit::default()).unwrap();
    let Lab { dir, vault } = lab;
    drop(vault);
    let store = crate::store::Store::open(dir.path()).unwrap();
    let vault = Vault::new(store.into(), keys());
    assert_eq!(tree.list(&vault, Some(&Name::new(b"f5").unwrap())).count(), 444 + 110);
    assert!(tree.lookup(&vault, b"f77").unwrap().is_some());
    assert!(tree.lookup(&vault, b"..").unwrap().is_none());
}
