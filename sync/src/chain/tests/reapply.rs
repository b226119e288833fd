//! Displaced work, and what became of it.

use super::*;

fn carrying(
    world: &World,
    parent: &VerifiedManifest,
    author: usize,
    orphans: &[&VerifiedManifest],
) -> VerifiedManifest {
    let mut draft = world.draft(parent, "carries");
    draft.reapplied = orphans.iter().map(|orphan| orphan.link()).collect();
    draft.reapplied.sort_unstable();
    draft.sign(&world.devices[author]).unwrap().verify().unwrap()
}

#[test]
fn work_on_a_chain_that_lost_is_displaced_until_it_is_carried_l_1333_1368() {
    let world = World::fixed(1, 10);
    let me = world.devices[1].id();
    let mut peer = Peer::of(&world);
    let (mine, theirs) = (world.grow(&world.genesis, 1, "mine", 2), world.grow(&world.genesis, 0, "theirs", 3));
    peer.learn(&mine);
    assert_eq!(peer.chain.displaced(&me), [], "it is the head");
    peer.learn(&theirs);
    let displaced = |fate| Displaced { last: last(&mine).link(), fork_point: world.genesis.link(), manifests: 2, fate };
    assert_eq!(peer.chain.displaced(&me), [displaced(Fate::Open)]);
    assert_eq!(peer.chain.displaced(&world.devices[0].id()), []);
    let again = carrying(&world, last(&theirs), 1, &[last(&mine)]);
    peer.learn(std::slice::from_ref(&again));
    assert_eq!(peer.chain.displaced(&me), [displaced(Fate::Reapplied(again.link()))]);
    let loaded = Chain::load(&world.genesis, [world.list.clone()], peer.chain.records(), Saved::default()).unwrap();
    assert_eq!(loaded.displaced(&me), peer.chain.displaced(&me), "after a restart too");
}

#[test]
fn what_only_an_orphan_carries_is_not_brought_back() {
    let world = World::fixed(1, 10);
    let me = world.devices[1].id();
    let mut peer = Peer::of(&world);
    let (mine, theirs) = (world.child(&world.genesis, 1, "mine"), world.grow(&world.genesis, 0, "theirs", 5));
    peer.learn(std::slice::from_ref(&mine));
    peer.learn(&theirs[..2]);
    let again = carrying(&world, &theirs[1], 1, &[&mine]);
    peer.learn(std::slice::from_ref(&again));
    assert_eq!(peer.chain.displaced(&me)[0].fate, Fate::Reapplied(again.link()));
    peer.learn(&theirs[2..]);
    let fates: Vec<_> = peer.chain.displaced(&me).iter().map(|one| (one.last, one.fate)).collect();
    assert_eq!(fates, [(mine.link(), Fate::Open), (again.link(), Fate::Open)]);
}

#[test]
fn own_work_below_anothers_is_found_and_only_the_last_of_each_chain() {
    let world = World::fixed(2, 10);
    let me = world.devices[1].id();
    let mut peer = Peer::of(&world);
    let mine = world.grow(&world.genesis, 1, "mine", 2);
    let on_mine = world.grow(last(&mine), 2, "on mine", 2);
    let also = world.child(last(&mine), 1, "also mine");
    peer.learn(&mine);
    peer.learn(&on_mine);
    peer.learn(std::slice::from_ref(&also));
    peer.learn(&world.grow(&world.genesis, 0, "theirs", 6));
    let last: Vec<_> = peer.chain.displaced(&me).iter().map(|one| (one.last, one.manifests)).collect();
    assert_eq!(last, [(also.link(), 3)]);
    assert_eq!(peer.chain.displaced(&world.devices[2].id()).len(), 1);
}

#[test]
fn what_brings_nothing_new_is_remembered_as_settled() {
    let world = World::fixed(1, 10);
    let me = world.devices[1].id();
    let mut peer = Peer::of(&world);
    let mine = world.child(&world.genesis, 1, "mine");
    peer.learn(std::slice::from_ref(&mine));
    peer.learn(&world.grow(&world.genesis, 0, "theirs", 3));
    assert_eq!(peer.handle(Input::Settled(mine.link())), [Output::Save]);
    assert_eq!(peer.handle(Input::Settled(mine.link())), []);
    assert_eq!(peer.chain.displaced(&me)[0].fate, Fate::Settled);
    let again = Chain::load(&world.genesis, [world.list.clone()], peer.chain.records(), peer.chain.saved()).unwrap();
    assert_eq!(again.displaced(&me)[0].fate, Fate::Settled);
}
