#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::bucket::testing::{World, link};

/// Signs what [`ManifestDraft::sign`] would refuse to.
fn forge(world: &World, manifest: &Manifest) -> Vec<u8> {
    let signature = world.devices[0].sign(SIGNED, &codec::encode(manifest));
    codec::encode(&(manifest, signature))
}

fn second(world: &World) -> VerifiedManifest {
    world.child(&world.genesis, 0, "second")
}

#[test]
fn a_manifest_comes_back_from_its_bytes_with_the_same_link() {
    let world = World::new(0);
    for manifest in [&world.genesis, &second(&world)] {
        let again = SignedManifest::decode(manifest.bytes()).unwrap().verify().unwrap();
        assert_eq!(&again, manifest);
        assert!(manifest.link().names(manifest.bytes()));
    }
}

#[test]
fn the_fields_are_the_protocols_l_22_35_and_ours() {
    let world = World::new(0);
    let keys = |manifest: &VerifiedManifest| {
        let bytes = codec::encode(&**manifest);
        let map: std::collections::BTreeMap<String, serde::de::IgnoredAny> =
            serde_ipld_dagcbor::from_slice(&bytes).unwrap();
        map.into_keys().collect::<Vec<_>>().join(" ")
    };
    let genesis = "author entry height id name owner pins share timestamp version";
    assert_eq!(keys(&world.genesis), genesis);
    let later = "author entry genesis height id name owner pins previous share timestamp version";
    assert_eq!(keys(&second(&world)), later);
    let patient = World::with_finality(0, 50);
    assert!(keys(&patient.genesis).contains("finality"));
    assert_eq!((world.genesis.finality_depth(), patient.genesis.finality_depth()), (10, 50));
}

#[test]
fn the_fullest_manifest_fits_in_a_gossip_message() {
    let world = World::new(0);
    let mut draft = world.draft(&world.genesis, "full");
    draft.name = vec![0; SEALED_LABEL_BYTES];
    draft.reapplied = (0..REAPPLIED_LEAVES).map(|at| link(&at.to_string())).collect();
    draft.timestamp = Timestamp(u64::MAX);
    let bytes = draft.sign(&world.devices[0]).unwrap().bytes().len();
    assert_eq!(bytes, 1_318, "and 16 more with the largest height and epoch: far below {MANIFEST_BYTES}");
}

#[test]
fn reapplied_orphans_are_a_bounded_ordered_set() {
    let world = World::new(0);
    let mut draft = world.draft(&world.genesis, "x");
    draft.reapplied = vec![link("b"), link("a")];
    let signed = draft.clone().sign(&world.devices[0]).unwrap();
    let mut manifest = signed.claims().clone();
    manifest.reapplied.reverse();
    assert_eq!(SignedManifest::decode(&forge(&world, &manifest)), Err(Rejected::ReappliedOrder));
    draft.reapplied = vec![link("a"), link("a")];
    assert_eq!(draft.clone().sign(&world.devices[0]), Err(Rejected::ReappliedOrder));
    draft.reapplied = (0..17).map(|at| link(&at.to_string())).collect();
    assert_eq!(draft.sign(&world.devices[0]), Err(Rejected::TooManyReapplied(17)));
}

#[test]
fn a_newer_version_is_refused_by_name_even_with_fields_that_are_unknown_here() {
    #[derive(Serialize)]
    struct Tomorrow {
        version: u64,
        colour: Vec<Vec<u64>>,
        shape: Link,
    }
    let bytes =
        codec::encode(&(Tomorrow { version: 3, colour: vec![vec![1]], shape: link("x") }, ByteBuf::from(vec![0; 99])));
    let rejected = SignedManifest::decode(&bytes).unwrap_err();
    assert_eq!(rejected, Rejected::Version { version: 3 });
    assert!(rejected.to_string().contains("version 3") && rejected.to_string().contains("update jaxfs"));

    let world = World::new(0);
    let mut manifest = (*world.genesis).clone();
    manifest.version = 1;
    assert_eq!(SignedManifest::decode(&forge(&world, &manifest)), Err(Rejected::Version { version: 1 }));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let world = World::new(0);
    let refused = |base: &VerifiedManifest, change: &dyn Fn(&mut Manifest)| {
        let mut manifest = (**base).clone();
        change(&mut manifest);
        SignedManifest::decode(&forge(&world, &manifest)).unwrap_err()
    };
    let (genesis, later) = (&world.genesis, &second(&world));
    let malformed = |why: &Rejected| matches!(why, Rejected::Malformed(_));
    assert!(malformed(&refused(genesis, &|manifest| manifest.height = Height(1))));
    assert!(malformed(&refused(genesis, &|manifest| manifest.genesis = Some(link("x")))));
    assert!(malformed(&refused(genesis, &|manifest| manifest.share.epoch = Epoch(1))));
    assert!(malformed(&refused(genesis, &|manifest| manifest.reapplied = vec![link("x")])));
    assert!(malformed(&refused(genesis, &|manifest| manifest.finality = Some(0))));
    assert!(malformed(&refused(later, &|manifest| manifest.finality = Some(20))));
    assert!(malformed(&refused(later, &|manifest| manifest.height = Height(0))));
    assert!(malformed(&refused(later, &|manifest| manifest.previous = None)));
    assert!(malformed(&refused(later, &|manifest| manifest.entry = Link::of(Codec::Raw, b"data"))));
    assert!(malformed(&refused(later, &|manifest| manifest.name = ByteBuf::from(vec![0; 185]))));
    assert_eq!(refused(genesis, &|manifest| manifest.finality = Some(10)), Rejected::NotCanonical);
}

#[test]
fn a_second_encoding_of_a_manifest_is_refused_though_its_signature_holds() {
    let world = World::new(0);
    let good = world.genesis.bytes();
    let find = |key: &[u8]| good.windows(key.len()).position(|window| window == key).unwrap();
    let mut empty = good.to_vec();
    empty[1] += 1;
    empty.splice(find(b"\x69timestamp")..find(b"\x69timestamp"), *b"\x69reapplied\x80");
    assert_eq!(SignedManifest::decode(&empty), Err(Rejected::NotCanonical));
    let mut wide = good.to_vec();
    let height = find(b"\x66height") + 7;
    wide.splice(height..=height, [0x18, 0]);
    assert!(SignedManifest::decode(&wide).is_err());
    assert!(SignedManifest::decode(&[good, &[0]].concat()).is_err());
}

#[test]
fn too_large_is_refused_before_it_is_read() {
    assert_eq!(SignedManifest::decode(&[0; 4_001]), Err(Rejected::TooLarge(4_001)));
}

#[test]
fn deep_nesting_is_refused_without_a_deep_stack() {
    assert!(SignedManifest::decode(&[0x81; 4_000]).is_err());
    let mut hidden = codec::encode(&("x",));
    hidden[0] = 0x82;
    hidden.truncate(1);
    hidden.extend_from_slice(&[0xa1, 0x61, b'x']);
    hidden.extend(std::iter::repeat_n(0x81, 3_900));
    assert!(SignedManifest::decode(&hidden).is_err());
}

#[test]
fn a_signature_by_another_is_refused() {
    let world = World::new(1);
    let mut manifest = (*second(&world)).clone();
    manifest.author = world.devices[1].id();
    let signed = SignedManifest::decode(&forge(&world, &manifest)).unwrap();
    assert_eq!(signed.verify(), Err(Rejected::BadSignature));
}

#[test]
fn any_flipped_bit_is_refused() {
    let world = World::new(0);
    let good = second(&world);
    for bit in 0..good.bytes().len() * 8 {
        let mut bad = good.bytes().to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(SignedManifest::decode(&bad).and_then(SignedManifest::verify).is_err(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn decoding_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = SignedManifest::decode(&bytes);
    }
}
