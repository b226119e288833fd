#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::bucket::testing::{World, device, label};
use crate::crypto::BlockKind;

fn signed(world: &World) -> SignedMemberList {
    SignedMemberList::decode(world.list.bytes()).unwrap()
}

#[test]
fn a_list_comes_back_from_its_bytes() {
    let world = World::new(2);
    let list = signed(&world).verify(world.id, world.owner.id()).unwrap();
    assert_eq!(list, world.list);
    assert_eq!(list.role(&world.devices[0].id()), Some(Role::Owner));
    assert_eq!(list.role(&world.devices[2].id()), Some(Role::Writer));
    assert_eq!(list.role(&device(77).id()), None);
}

#[test]
fn every_member_opens_the_same_secrets_and_nobody_else_does() {
    let world = World::new(2);
    let access: Vec<_> = world.devices.iter().map(|device| world.list.open(device).unwrap()).collect();
    assert!(access.iter().all(|one| one.network == access[0].network && one.contents == access[0].contents));
    assert_eq!(world.list.open(&device(77)), Err(AccessError::NotAMember));
}

#[test]
fn a_mirror_is_given_the_network_secret_and_no_content() {
    let world = World::new(0);
    let access = world.list.open(&world.devices[0]).unwrap();
    let mirror = device(50);
    let draft = MemberListDraft::admitting(&world.list, &access, &mirror.identity(world.id), Role::Mirror, &label("m"))
        .unwrap();
    let list = world.believe(draft);
    let mine = list.open(&mirror).unwrap();
    assert_eq!((mine.role, &mine.network), (Role::Mirror, &access.network));
    assert!(mine.contents.is_none() && mine.keyring().is_none());
    assert_eq!((list.epoch(), list.sequence()), (Epoch(0), 1));
}

#[test]
fn a_later_member_reads_what_former_epochs_sealed_and_a_removed_one_nothing_new() {
    let world = World::new(1);
    let (block, bytes) = world.list.open(&world.devices[1]).unwrap().keyring().unwrap().seal_data(b"old");
    let second = world.without(&world.list, 1);
    let third = world.without(&second, 99 % world.devices.len());
    assert_eq!(second.open(&world.devices[1]), Err(AccessError::NotAMember));

    let access = third.open(&world.devices[0]).unwrap();
    let late = device(60);
    let draft =
        MemberListDraft::admitting(&third, &access, &late.identity(world.id), Role::Reader, &label("late")).unwrap();
    let keyring = world.believe(draft).open(&late).unwrap().keyring().unwrap();
    assert_eq!(keyring.current(), Epoch(2));
    assert!(keyring.open_data(&block, bytes).unwrap().starts_with(b"old"));
    let (node, sealed) = keyring.seal_node(BlockKind::Pins, vec![block], b"x");
    assert!(keyring.open_node(&node, BlockKind::Pins, &sealed).is_ok());
}

#[test]
fn only_the_owner_signs_lists() {
    let world = World::new(1);
    let mallory = OwnerKey::from_seed(&[9; 32]);
    let mut draft = signed(&world).claims().clone();
    assert_eq!(draft.clone().sign(&mallory), Err(MemberListError::NotTheOwner));
    draft.owner = mallory.id();
    let theirs = draft.sign(&mallory).unwrap();
    assert_eq!(theirs.clone().verify(world.id, world.owner.id()), Err(ListRejected::Foreign));
    let elsewhere = BucketId(uuid::Uuid::from_u128(5));
    assert_eq!(signed(&world).verify(elsewhere, world.owner.id()), Err(ListRejected::Foreign));
}

#[test]
fn a_sealing_key_that_its_device_did_not_sign_is_refused() {
    let world = World::new(1);
    let mut draft = signed(&world).claims().clone();
    draft.members[0].sealing = device(77).sealing_key();
    let at = draft.members[0].device;
    let list = draft.sign(&world.owner).unwrap();
    assert_eq!(list.verify(world.id, world.owner.id()), Err(ListRejected::BadBinding(at)));
}

#[test]
fn what_is_out_of_form_is_never_signed() {
    let world = World::new(1);
    let good = signed(&world).claims().clone();
    let refused = |change: &dyn Fn(&mut MemberListDraft)| {
        let mut draft = good.clone();
        change(&mut draft);
        matches!(draft.sign(&world.owner), Err(MemberListError::Invalid(_)))
    };
    assert!(refused(&|draft| draft.members.push(draft.members[0].clone())));
    assert!(refused(&|draft| draft.members[0].content = None));
    assert!(refused(&|draft| draft.members[0].role = Role::Mirror));
    assert!(refused(&|draft| draft.members[0].network.push(0)));
    assert!(refused(&|draft| draft.epoch = Epoch(1)));
    assert!(refused(&|draft| draft.former = Some(ByteBuf::new())));
    assert!(refused(&|draft| draft.members[0].name = ByteBuf::from(vec![0; 185])));
    assert!(!refused(&|draft| draft.members.reverse()));
}

#[test]
fn unsorted_members_from_outside_are_refused() {
    let world = World::new(1);
    let mut draft = signed(&world).claims().clone();
    draft.members.reverse();
    let signature = world.owner.sign(SIGNED, &codec::encode(&draft));
    let bytes = codec::encode(&(draft, signature));
    assert!(matches!(SignedMemberList::decode(&bytes), Err(ListRejected::Malformed(_))));
}

#[test]
fn a_second_encoding_of_a_list_is_refused_though_its_signature_holds() {
    let world = World::new(0);
    let mut null = world.list.bytes().to_vec();
    let at = null.windows(8).position(|window| window == b"\x67members").unwrap();
    null.splice(at..at, *b"\x66former\xf6");
    null[1] += 1;
    assert_eq!(SignedMemberList::decode(&null), Err(ListRejected::NotCanonical));
}

#[test]
fn any_flipped_bit_of_a_list_is_refused() {
    let world = World::new(0);
    let good = world.list.bytes();
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        let verified = SignedMemberList::decode(&bad).and_then(|list| list.verify(world.id, world.owner.id()));
        assert!(verified.is_err(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn decoding_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = SignedMemberList::decode(&bytes);
    }

    #[test]
    fn decoding_is_total_near_a_real_list(at in 0usize..700, cut in 0usize..700, byte: u8) {
        let world = World::new(0);
        let mut bytes = world.list.bytes().to_vec();
        let (at, cut) = (at % bytes.len(), cut % bytes.len());
        bytes[at] = byte;
        let _ = SignedMemberList::decode(&bytes);
        let _ = SignedMemberList::decode(&bytes[..cut]);
    }
}
