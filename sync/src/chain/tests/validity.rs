//! What is refused, and what waits.

use super::*;
use crate::bucket::testing::device;
use crate::bucket::{ManifestDraft, OwnerKey, Place, Role, Share};
use crate::link::BucketId;

fn sign(world: &World, author: usize, draft: ManifestDraft) -> VerifiedManifest {
    draft.sign(&world.devices[author]).unwrap().verify().unwrap()
}

/// What a peer that knows the genesis says to a child of it that was changed.
fn verdict(world: &World, change: impl FnOnce(&mut ManifestDraft)) -> Rejected {
    let mut draft = world.draft(&world.genesis, "changed");
    change(&mut draft);
    let mut peer = Peer::of(world);
    let before = peer.view();
    let out = peer.hear(&sign(world, 0, draft));
    assert_eq!((peer.view(), out.len()), (before, 1));
    rejected(&out)[0].clone()
}

#[test]
fn a_second_genesis_is_refused_l_61_98() {
    let world = World::fixed(0, 10);
    let why = verdict(&world, |draft| draft.place = Place::Genesis { finality_depth: 10 });
    assert_eq!(why, Rejected::SecondGenesis);
}

#[test]
fn another_bucket_genesis_or_owner_is_refused_l_78_1445_1540() {
    let world = World::fixed(0, 10);
    let other = Link::of(crate::link::Codec::DagCbor, b"other");
    let elsewhere = |draft: &mut ManifestDraft| draft.id = BucketId(uuid::Uuid::from_u128(9));
    assert_eq!(verdict(&world, elsewhere), Rejected::WrongBucket);
    let place = Place::After { genesis: other, previous: world.genesis.link(), height: Height(1) };
    assert_eq!(verdict(&world, |draft| draft.place = place), Rejected::WrongGenesis(other));
    let mallory = OwnerKey::from_seed(&[1; 32]).id();
    assert_eq!(verdict(&world, |draft| draft.owner = mallory), Rejected::OwnerChanged);
}

#[test]
fn a_height_that_is_not_one_more_is_refused() {
    let world = World::fixed(0, 10);
    for found in [2, 1_000, u64::MAX].map(Height) {
        let (genesis, previous) = (world.genesis.link(), world.genesis.link());
        let why = verdict(&world, |draft| draft.place = Place::After { genesis, previous, height: found });
        assert_eq!(why, Rejected::WrongHeight { expected: Height(1), found });
    }
}

#[test]
fn a_manifest_that_changes_nothing_is_refused() {
    let world = World::fixed(0, 10);
    assert_eq!(verdict(&world, |draft| draft.entry = world.genesis.entry), Rejected::ChangesNothing);
}

#[test]
fn only_owners_and_writers_write() {
    let world = World::fixed(2, 10);
    let stranger = world.draft(&world.genesis, "x").sign(&device(99)).unwrap().verify().unwrap();
    assert_eq!(rejected(&Peer::of(&world).hear(&stranger)), [&Rejected::NotAWriter]);
    for role in [Role::Reader, Role::Mirror] {
        let list = world.relist(&world.list, |draft| {
            draft.epoch = Epoch(1);
            let id = world.devices[1].id();
            draft.members.iter_mut().filter(|member| member.device == id).for_each(|member| member.role = role);
        });
        let mut peer = Peer::of(&world);
        peer.give(&list);
        let demoting = world.share(&world.genesis, 0, &list);
        assert_eq!(admitted(&peer.hear(&demoting)).len(), 1);
        assert_eq!(rejected(&peer.hear(&world.child(&demoting, 1, "still here"))), [&Rejected::NotAWriter]);
        assert_eq!(admitted(&peer.hear(&world.child(&demoting, 2, "may"))).len(), 1);
    }
}

#[test]
fn the_parents_list_says_who_may_write_not_ones_own() {
    let world = World::fixed(0, 10);
    let newcomer = device(99);
    let list = world.relist(&world.list, |draft| {
        let mut member = draft.members[0].clone();
        let identity = newcomer.identity(world.id);
        (member.device, member.sealing, member.binding) = (identity.device, identity.sealing, identity.binding);
        member.role = Role::Writer;
        draft.members.push(member);
    });
    let mut draft = world.draft(&world.genesis, "x");
    draft.share = Share { epoch: Epoch(0), members: list.link() };
    let mut peer = Peer::of(&world);
    peer.give(&list);
    let own = draft.clone().sign(&newcomer).unwrap().verify().unwrap();
    assert_eq!(rejected(&peer.hear(&own)), [&Rejected::NotAWriter]);
    let admitting = sign(&world, 0, draft);
    assert_eq!(admitted(&peer.hear(&admitting)).len(), 1);
    let theirs = world.draft(&admitting, "y").sign(&newcomer).unwrap().verify().unwrap();
    assert_eq!(admitted(&peer.hear(&theirs)).len(), 1);
}

#[test]
fn an_epoch_beats_any_length_so_that_a_removed_writer_can_not_win() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    let list = world.removing(&world.list, 1);
    peer.give(&list);
    let removal = world.share(&world.genesis, 0, &list);
    peer.hear(&removal);
    for manifest in world.grow(&world.genesis, 1, "revenge", 30) {
        peer.hear(&manifest);
        assert_eq!(peer.chain.head(), removal.link());
    }
    assert_eq!((peer.tips(), peer.chain.epoch()), (vec![removal.link()], Epoch(1)));
}

#[test]
fn an_epoch_goes_up_by_one_and_only_with_a_new_list() {
    let world = World::fixed(1, 10);
    let next = world.removing(&world.list, 1);
    let second = world.removing(&next, 1);
    let verdict = |parent: &VerifiedManifest, share: Share| {
        let mut peer = Peer::of(&world);
        [&next, &second].iter().for_each(|list| drop(peer.give(list)));
        peer.hear(&world.share(&world.genesis, 0, &next));
        let mut draft = world.draft(parent, "step");
        draft.share = share;
        rejected(&peer.hear(&sign(&world, 0, draft))).into_iter().next().cloned()
    };
    let removal = world.share(&world.genesis, 0, &next);
    let (old, new, far) = (world.list.link(), next.link(), second.link());
    let step = |parent, found| Some(Rejected::EpochStep { parent: Epoch(parent), found: Epoch(found) });
    assert_eq!(verdict(&world.genesis, Share { epoch: Epoch(2), members: far }), step(0, 2));
    assert_eq!(verdict(&removal, Share { epoch: Epoch(0), members: old }), step(1, 0));
    assert_eq!(verdict(&world.genesis, Share { epoch: Epoch(1), members: old }), Some(Rejected::BadMembers));
    assert_eq!(verdict(&world.genesis, Share { epoch: Epoch(0), members: new }), Some(Rejected::BadMembers));
    assert_eq!(verdict(&removal, Share { epoch: Epoch(2), members: far }), None);
    assert_eq!(verdict(&removal, Share { epoch: Epoch(u64::MAX), members: far }), step(1, u64::MAX));
}

#[test]
fn rights_are_taken_only_with_a_new_epoch() {
    let world = World::fixed(1, 10);
    let removed = world.relist(&world.list, |draft| drop(draft.members.pop()));
    let demoted = world.relist(&world.list, |draft| draft.members.iter_mut().for_each(|one| one.role = Role::Reader));
    for list in [removed, demoted] {
        let mut peer = Peer::of(&world);
        peer.give(&list);
        let out = peer.hear(&world.share(&world.genesis, 0, &list));
        assert_eq!(rejected(&out), [&Rejected::RemovalWithoutEpoch]);
    }
}

#[test]
fn an_old_member_list_is_not_brought_back() {
    let world = World::fixed(1, 10);
    let newer = world.relist(&world.list, |_| {});
    let mut peer = Peer::of(&world);
    peer.give(&newer);
    let first = world.share(&world.genesis, 0, &newer);
    peer.hear(&first);
    let out = peer.hear(&world.share(&first, 0, &world.list));
    assert_eq!(rejected(&out), [&Rejected::MembersReplayed { parent: 1, found: 0 }]);
}

#[test]
fn a_manifest_waits_for_its_member_list() {
    let world = World::fixed(1, 10);
    let list = world.removing(&world.list, 1);
    let removal = world.share(&world.genesis, 0, &list);
    let after = world.child(&removal, 0, "after");
    let mut peer = Peer::of(&world);
    assert_eq!(peer.hear(&removal), []);
    assert_eq!(peer.hear(&after), []);
    assert_eq!(peer.wanted(), [Missing::Members(list.link())], "and not what is here, waiting");
    assert_eq!((peer.chain.pending(), peer.chain.head()), (2, world.genesis.link()));
    assert_eq!(admitted(&peer.give(&list)), [removal.link(), after.link()]);
    assert_eq!(peer.chain.head(), after.link());
}

#[test]
fn a_link_to_something_else_than_a_list_takes_its_manifest_and_those_after_it_along() {
    let world = World::fixed(1, 10);
    let list = world.removing(&world.list, 1);
    let removal = world.share(&world.genesis, 0, &list);
    let after = world.child(&removal, 0, "after");
    let mut peer = Peer::of(&world);
    peer.hear(&removal);
    peer.hear(&after);
    let out = peer.chain.handle(Timestamp(9), Input::MembersRejected(list.link()));
    assert_eq!(rejected(&out), [&Rejected::BadMembers, &Rejected::BadAncestor]);
    assert_eq!(peer.chain.pending(), 0);
}

#[test]
fn descendants_of_what_is_not_valid_are_not_valid() {
    let world = World::fixed(0, 10);
    let bad = world.draft(&world.genesis, "bad").sign(&device(99)).unwrap().verify().unwrap();
    let children = world.grow(&bad, 0, "child", 3);
    let mut peer = Peer::of(&world);
    children.iter().rev().for_each(|child| drop(peer.hear(child)));
    assert_eq!(peer.chain.pending(), 3);
    let out = peer.hear(&bad);
    assert_eq!(
        rejected(&out),
        [&Rejected::NotAWriter, &Rejected::BadAncestor, &Rejected::BadAncestor, &Rejected::BadAncestor]
    );
    assert_eq!((peer.chain.pending(), peer.chain.wanted().count()), (0, 0));
}

#[test]
fn a_genesis_is_its_owners_own() {
    let world = World::fixed(1, 10);
    let other = World::fixed(0, 10);
    assert_eq!(Chain::new(&world.genesis, &other.list).unwrap_err(), Rejected::BadMembers);
    let later = world.child(&world.genesis, 0, "x");
    assert!(matches!(Chain::new(&later, &world.list), Err(Rejected::Malformed(_))));
    let mut draft = world.draft(&world.genesis, "x");
    draft.place = Place::Genesis { finality_depth: 10 };
    assert_eq!(Chain::new(&sign(&world, 1, draft), &world.list).unwrap_err(), Rejected::NotAWriter);
}

#[test]
fn what_waits_is_bounded_and_nobody_crowds_out_the_others() {
    let world = World::fixed(1, 10);
    for (honest, flooding) in [(0, 1), (1, 0)] {
        let mut peer = Peer::of(&world);
        peer.chain.pending = Pending::new(3);
        let good = world.grow(&world.genesis, honest, "honest", 2);
        peer.hear(&good[1]);
        let flood = world.grow(&world.genesis, flooding, "flood", 20);
        for manifest in flood[1..].iter().step_by(2) {
            peer.hear(manifest);
            assert!(peer.chain.pending() <= 3);
        }
        assert_eq!(admitted(&peer.take(&good[0], HISTORY)), [good[0].link(), good[1].link()]);
        assert!(!peer.chain.contains(&last(&flood).link()));
        peer.learn(&flood);
        assert_eq!(peer.chain.head(), last(&flood).link(), "a limit defers, it never bans");
    }
}

#[test]
fn where_there_is_no_room_the_ones_nearest_to_what_is_known_stay() {
    let world = World::fixed(0, 10);
    let mut peer = Peer::of(&world);
    peer.chain.pending = Pending::new(3);
    let chain = world.grow(&world.genesis, 0, "m", 8);
    let dropped: Vec<_> = chain[1..].iter().rev().flat_map(|one| peer.hear(one)).collect();
    let dropped = dropped.iter().filter(|output| matches!(output, Output::Dropped(_))).count();
    assert_eq!((dropped, peer.chain.pending()), (4, 3));
    assert_eq!(admitted(&peer.hear(&chain[0])).len(), 4, "the walk back to what is known gets there");
}
