//! Golden vectors: fixed keys and inputs, and the bytes that they have to give. A second implementation has to give the
//! same. The README's chapter on golden vectors says how they are made.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use jaxfs_sync::bucket::*;
use jaxfs_sync::crypto::block::NodeBlock;
use jaxfs_sync::crypto::label::{BUCKET_NAME, DEVICE_NAME};
use jaxfs_sync::crypto::{BlockKind, Keyring, Label, OpenError, Secret};
use jaxfs_sync::link::{BlockRef, BucketId, Codec, Epoch, Link};
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn bucket() -> BucketId {
    BucketId(uuid::Uuid::from_bytes(*b"golden bucket id"))
}

fn content() -> Secret {
    Secret::new([0x11; 32])
}

fn keyring() -> Keyring {
    let mut keyring = Keyring::new(bucket(), Epoch(1), &content());
    keyring.add_former(Epoch(0), &Secret::new([0x22; 32]));
    keyring
}

fn device() -> DeviceKey {
    let mut bytes = [0x33; 64];
    bytes[32..].fill(0x44);
    DeviceKey::from_bytes(&bytes)
}

fn owner() -> OwnerKey {
    OwnerKey::from_seed(&[0x55; 32])
}

fn data() -> (BlockRef, Vec<u8>) {
    keyring().seal_data(b"hello, jaxfs")
}

fn node() -> (BlockRef, Vec<u8>) {
    let old = Keyring::new(bucket(), Epoch(0), &Secret::new([0x22; 32])).seal_data(b"older");
    keyring().seal_node(BlockKind::Extents, vec![data().0, old.0], b"body")
}

/// HPKE draws a key for each secret, so that these were made once: the network secret `[0x66; 32]` and the content secret
/// `[0x11; 32]`, sealed to [`device`] in [`bucket`], epoch 0.
const NETWORK: &str = "5eafb2b21fbcee432337f04f8d3fa4af1dd6360aaf410ba0735e97af4fb0ab39110a8d8847006bd38ffd913a75045c54cdb21f7b871d5397384f0e65656b50c305d5cec8480d0b233db8e118557a157b";
const CONTENT: &str = "e83b6fdfaf0255f6a0707278c925654b99e1d1689c19ca2c0b2a91dec575fa6fccca38b5ca77ff467f0cffe3dd0c873afe0ca09603ba2ea6858436c55291f15c5f6102893774bb4f3bc5e97f648a8c4e";

fn members() -> SignedMemberList {
    let names = Keyring::new(bucket(), Epoch(0), &content());
    let Identity { device, sealing, binding } = device().identity(bucket());
    let member = Member {
        device,
        sealing,
        binding,
        role: Role::Owner,
        name: names.seal_label(DEVICE_NAME, &Label::new("laptop").unwrap()).into(),
        network: unhex(NETWORK).into(),
        content: Some(unhex(CONTENT).into()),
    };
    let draft = MemberListDraft {
        bucket: bucket(),
        owner: owner().id(),
        epoch: Epoch(0),
        sequence: 0,
        members: vec![member],
        former: None,
    };
    draft.sign(&owner()).unwrap()
}

fn draft(place: Place) -> ManifestDraft {
    let keys = Keyring::new(bucket(), Epoch(0), &content());
    ManifestDraft {
        id: bucket(),
        owner: owner().id(),
        name: keys.seal_label(BUCKET_NAME, &Label::new("photos").unwrap()),
        share: Share { epoch: Epoch(0), members: members().link() },
        entry: keys.seal_node(BlockKind::Root, vec![], b"root").0.link,
        pins: keys.seal_node(BlockKind::Pins, vec![], b"").0.link,
        place,
        reapplied: vec![],
        timestamp: Timestamp(1_750_000_000_000),
    }
}

fn genesis() -> SignedManifest {
    draft(Place::Genesis { finality_depth: DEFAULT_FINALITY_DEPTH }).sign(&device()).unwrap()
}

fn second() -> SignedManifest {
    let genesis = genesis().link();
    let mut draft = draft(Place::After { genesis, previous: genesis, height: Height(1) });
    draft.entry = node().0.link;
    draft.reapplied = vec![Link::of(Codec::DagCbor, b"orphan")];
    draft.sign(&device()).unwrap()
}

#[test]
fn golden_link() {
    assert_eq!(Link::of(Codec::Raw, b"").to_string(), "bafkr4ifpcne3t5pzugtkaqcn5i3nzskjtpfslsnnyejlpte2spfoihzsmi");
    assert_eq!(
        hex(&Link::of(Codec::DagCbor, b"jaxfs").to_bytes()),
        "01711e20593a12ecf3238a653aa0294cf5ad5099fa344f8ab67eb94b11c7ba02f222c967"
    );
}

#[test]
fn golden_data_block() {
    let (at, block) = data();
    assert_eq!(
        hex(&block),
        "45cc586a946922ae712e463285b6b2ff42c7299760d4d107be77e29320c1cbb3f29e95d8284b8e8db95c947b4cc5c8f9d3fb6a50936e6240bd4210900a19a6f58d1f8bc8d745b03be4f8599ad64853d3aaf3a90105b7778f70a7ed8575d54690a2c6cd7651e8fb86"
    );
    assert_eq!(at.link.to_string(), "bafkr4idjeccqh4tsyfafsdvztenhhkyvzkjc4rdrp4tk2sj7lkwdu73zc4");
    assert_eq!(&keyring().open_data(&at, block.clone()).unwrap()[..12], b"hello, jaxfs");
}

#[test]
fn golden_node_block() {
    let (at, block) = node();
    assert_eq!(
        hex(&block),
        "8600040182d82a58250001551e2069208503f272c140590eb9991a73ab15ca922e44717f26ad493f5aac3a7f7917d82a58250001551e20152f66f8219c0869e37e070932e51f275bef56da6149dec76ec72e3d18342957818201005868a0270f602990c6443de8141e79635359c8ee5a0c1354522a93830613d43f7797fd2eb573f923d8ad521f5d37b9b659bb81f3438d3806d1ba12e6c71dc923cc6336c470c3f3abfc424c57a2be169c2a6aefa28ad7e05a3010cab6d578619ed159afa58e77a5f6c833"
    );
    assert_eq!(at.link.to_string(), "bafyr4ih5pae6pxmvvrdg7ykk4qpbnkhzpm7swroiw2gzhgvhimbkwba7ae");
    let (links, body) = keyring().open_node(&at, BlockKind::Extents, &block).unwrap();
    assert_eq!((links[0], links[1].epoch, body.as_slice()), (data().0, Epoch(0), b"body".as_slice()));
}

#[test]
fn golden_label() {
    let sealed = keyring().seal_label(BUCKET_NAME, &Label::new("photos").unwrap());
    assert_eq!(
        hex(&sealed),
        "4c6f3e27f6911ac61baaeb9efed54cb78776cdbc6b1fdce6bf61e1d5fa0a3d93a14f5ce0d25b97334d95b2d88f69366e2353a94967b4098e58c389a4a297b52afcfdaa317b0a38af1f21484231933a218b521bb6ed8a999ae64dba85b736d29203c9d9ba4851f2ab"
    );
    assert_eq!(keyring().open_label(Epoch(1), BUCKET_NAME, &sealed).unwrap(), "photos");
}

#[test]
fn golden_keys() {
    assert_eq!(device().id().to_string(), "17cb79fb2b4120f2b1ec65e4198d6e08b28e813feb01e4a400839b85e18080ce");
    assert_eq!(device().sealing_key().to_string(), "ff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6b");
    assert_eq!(owner().id().to_string(), "c6822637c7d310ec57627be00ba259d253749f4aaf644470cffbe53a35f73242");
    assert_eq!(
        *owner().phrase(),
        "fetch primary fetch primary fetch primary fetch primary fetch primary fetch primary fetch primary fetch primary fetch primary fetch primary fetch primary fetch rack"
    );
}

#[test]
fn golden_member_list() {
    let list = members();
    assert_eq!(list.bytes().len(), 613);
    assert_eq!(list.link().to_string(), "bafyr4iacjsal3rj5vvxblvdx5kv66wbabd46oxanpwnolpw6eo7qna6kee");
    let again = SignedMemberList::decode(list.bytes()).unwrap().verify(bucket(), owner().id()).unwrap();
    let access = again.open(&device()).unwrap();
    assert_eq!((access.network, access.contents.unwrap().current), (Secret::new([0x66; 32]), content()));
}

#[test]
fn golden_manifests() {
    assert_eq!(
        hex(genesis().bytes()),
        "82aa62696450676f6c64656e206275636b6574206964646e616d655868df7b380d52bc9e54c0b92dfe734293fc38c3ce9d456bce514eb6d2dd7a91c00d7a48a20c97e95ec15a6b4ef987f5c5521370853a2fdaff8f069f15e1201a663d90019d61556faa226449d7fc8f624390d0a93ddf07ba8abea694953d5c142d9cbbb065a6e30cbef86470696e73d82a58250001711e201cfa24fa41e821de8265bc706f9944f099b97eba54c0f6b1b5e7330802edb9fe65656e747279d82a58250001711e20193ba6ee410f2f7d6edb65d763820109ce60d14b975fdcd7b5ba171b0056b18f656f776e65725820c6822637c7d310ec57627be00ba259d253749f4aaf644470cffbe53a35f73242657368617265a26565706f636800676d656d62657273d82a58250001711e20024c80bdc53dad6e15d477eaabef582008f9e75c0d7d9ae5bede23bf0683ca2166617574686f72582017cb79fb2b4120f2b1ec65e4198d6e08b28e813feb01e4a400839b85e18080ce66686569676874006776657273696f6e006974696d657374616d701b000001977420dc00584096708b38132e417aa7e222cb6c9dc1a9ab2af3b84b185df09c84dea8081537223c610a78fae9434bf3aa76f3383e9b7dfdd6ebb5d50a869f70ad90db2ba24207"
    );
    assert_eq!(genesis().link().to_string(), "bafyr4icdvmdwcxrlxfdkwkb22sg5yd63fs377divmltqvbq2qkcygx7zn4");
    assert_eq!(
        (second().bytes().len(), second().link().to_string().as_str()),
        (623, "bafyr4ica6yprdr4d25okmtjwt2ppq7bx4rvag4whfldrnpqotjtzbdyofy")
    );
    assert!(SignedManifest::decode(second().bytes()).unwrap().verify().is_ok());
}

#[cfg(feature = "net")]
#[test]
fn golden_topic() {
    assert_eq!(
        hex(&jaxfs_sync::net::identity::topic_id(&Secret::new([0x66; 32]))),
        "45adef295fe2816094f32edb376e275e12916d646835ba4d33b12d557de2344a"
    );
}

/// The epochs of links that are not the node's, by index.
type Older = Vec<(u64, u64)>;
/// A node as its bytes say it.
type WireNode = (u64, u8, u64, Vec<Link>, Older, serde_bytes::ByteBuf);

/// Every copy of `good` with one bit changed.
fn flipped(good: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..good.len() * 8).map(|bit| {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        bad
    })
}

#[test]
fn a_flipped_bit_in_a_block_is_damage_and_under_its_own_link_it_still_does_not_open() {
    let keys = keyring();
    let (at, good) = data();
    for bad in flipped(&good) {
        assert_eq!(keys.open_data(&at, bad.clone()), Err(OpenError::Damaged(at.link)));
        let forged = BlockRef { link: Link::of(Codec::Raw, &bad), epoch: at.epoch };
        assert_eq!(keys.open_data(&forged, bad.clone()), Err(OpenError::Foreign(forged.link)));
    }
    let (at, good) = node();
    for bad in flipped(&good) {
        assert_eq!(keys.open_node(&at, BlockKind::Extents, &bad), Err(OpenError::Damaged(at.link)));
        let forged = BlockRef { link: Link::of(Codec::DagCbor, &bad), epoch: at.epoch };
        assert!(keys.open_node(&forged, BlockKind::Extents, &bad).is_err());
    }
}

#[test]
fn a_flipped_bit_in_a_manifest_or_a_member_list_is_refused() {
    for good in [genesis(), second()] {
        for bad in flipped(good.bytes()) {
            assert!(SignedManifest::decode(&bad).and_then(SignedManifest::verify).is_err());
        }
    }
    for bad in flipped(members().bytes()) {
        assert!(SignedMemberList::decode(&bad).and_then(|list| list.verify(bucket(), owner().id())).is_err());
    }
}

#[test]
fn the_same_content_is_the_same_block_within_a_bucket_and_epoch_and_another_outside() {
    let elsewhere = BucketId(uuid::Uuid::from_u128(1));
    let rings = [
        Keyring::new(bucket(), Epoch(0), &content()),
        Keyring::new(bucket(), Epoch(1), &content()),
        Keyring::new(elsewhere, Epoch(0), &content()),
        Keyring::new(bucket(), Epoch(0), &Secret::new([9; 32])),
    ];
    let links: BTreeSet<_> = rings.iter().map(|ring| ring.seal_data(b"same").0.link).collect();
    assert_eq!(links.len(), rings.len());
    assert!(rings.iter().all(|ring| ring.seal_data(b"same") == ring.seal_data(b"same")));
}

#[test]
fn no_nonce_meets_two_places() {
    let (child, other) = (data().0, BlockRef { epoch: Epoch(0), ..data().0 });
    let mut nonces = BTreeSet::new();
    let mut places = 0;
    for ring in [
        keyring(),
        Keyring::new(bucket(), Epoch(0), &content()),
        Keyring::new(BucketId(uuid::Uuid::nil()), Epoch(1), &content()),
    ] {
        use BlockKind::*;
        for kind in [Root, Directory, Inodes, Extents, Pins] {
            for links in [vec![], vec![child], vec![other], vec![child, other], vec![other, child]] {
                let (at, bytes) = ring.seal_node(kind, links, b"body");
                let (_, _, _, _, _, sealed): WireNode = serde_ipld_dagcbor::from_slice(&bytes).unwrap();
                nonces.insert(sealed[..24].to_vec());
                assert!(ring.open_node(&at, kind, &bytes).is_ok());
                places += 1;
            }
        }
        // What a node's sealed part holds, as a data block.
        nonces.insert(ring.seal_data(b"\x04\0\0\0body").1[..24].to_vec());
        places += 1;
    }
    assert_eq!(nonces.len(), places);
}

#[test]
fn a_node_of_one_kind_or_epoch_is_not_read_as_another() {
    let (at, bytes) = node();
    let foreign = Err(OpenError::Foreign(at.link));
    assert_eq!(keyring().open_node(&at, BlockKind::Directory, &bytes), foreign);
    assert_eq!(keyring().open_node(&BlockRef { epoch: Epoch(0), ..at }, BlockKind::Extents, &bytes), foreign);
    let unknown = Keyring::new(bucket(), Epoch(5), &content());
    assert_eq!(unknown.open_node(&at, BlockKind::Extents, &bytes), Err(OpenError::NoKey(Epoch(1))));
}

#[test]
fn epochs_of_links_have_one_encoding() {
    let (at, good) = node();
    let (version, kind, epoch, links, older, sealed): WireNode = serde_ipld_dagcbor::from_slice(&good).unwrap();
    assert_eq!(older, [(1, 0)]);
    let decode = |older: Older| {
        let bytes = serde_ipld_dagcbor::to_vec(&(version, kind, epoch, &links, older, &sealed)).unwrap();
        NodeBlock::decode(&at.link, &bytes)
    };
    assert!(decode(vec![(1, 0)]).is_ok());
    assert!(decode(vec![(0, 0), (1, 0)]).is_ok());
    for older in
        [vec![(1, 0), (0, 0)], vec![(1, 0), (1, 0)], vec![(0, 1), (1, 0)], vec![(1, 0), (2, 0)], vec![(u64::MAX, 0)]]
    {
        assert!(matches!(decode(older.clone()), Err(OpenError::Malformed { .. })), "{older:?}");
    }
}

#[test]
fn deep_nesting_is_refused_without_a_deep_stack() {
    let link = Link::of(Codec::DagCbor, b"");
    for start in [&[][..], &[0x82, 1]] {
        let mut deep = start.to_vec();
        deep.resize(2 << 20, 0x81);
        assert!(NodeBlock::decode(&link, &deep).is_err());
        assert!(SignedMemberList::decode(&deep).is_err());
    }
}

#[test]
fn a_newer_node_is_refused_by_name() {
    let (at, good) = node();
    let mut newer = good.clone();
    newer[1] = 1;
    let why = NodeBlock::decode(&at.link, &newer).unwrap_err();
    assert_eq!(why, OpenError::Version { link: at.link, version: 1 });
    assert!(why.to_string().ends_with("update jaxfs"));
    let other = serde_ipld_dagcbor::to_vec(&(7u64, "another shape", vec![at.link])).unwrap();
    assert_eq!(NodeBlock::decode(&at.link, &other), Err(OpenError::Version { link: at.link, version: 7 }));
}

proptest! {
    #[test]
    fn node_decoding_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = NodeBlock::decode(&Link::of(Codec::DagCbor, &bytes), &bytes);
    }

    #[test]
    fn node_decoding_is_total_near_a_real_node_and_canonical(at in 0usize..300, byte: u8, cut in 0usize..300) {
        let (_, mut bytes) = node();
        let (at, cut) = (at % bytes.len(), cut % bytes.len());
        bytes[at] = byte;
        if let Ok(node) = NodeBlock::decode(&Link::of(Codec::DagCbor, &bytes), &bytes) {
            prop_assert_eq!(node.encode(), bytes.clone());
        }
        prop_assert!(NodeBlock::decode(&Link::of(Codec::DagCbor, &bytes), &bytes[..cut]).is_err());
    }

    #[test]
    fn blocks_come_back(plain in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let keys = keyring();
        let (at, block) = keys.seal_data(&plain);
        let opened = keys.open_data(&at, block.clone()).unwrap();
        prop_assert_eq!(&opened[..plain.len()], &plain[..]);
        prop_assert!(opened[plain.len()..].iter().all(|byte| *byte == 0));
        let (at, block) = keys.seal_node(BlockKind::Directory, vec![], &plain);
        prop_assert_eq!(keys.open_node(&at, BlockKind::Directory, &block).unwrap(), (vec![], plain));
    }
}
