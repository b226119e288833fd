//! No author makes the others do more than they want to, and no limit changes what wins.

use super::*;
use crate::limits::{ANNOUNCED_AT_ONCE, ANNOUNCED_EVERY_MS, DEFERRED_PER_AUTHOR, TIPS_PER_AUTHOR};

fn count(outs: &[Vec<Output>], is: impl Fn(&Output) -> bool) -> usize {
    outs.iter().flatten().filter(|output| is(output)).count()
}

/// All at the same instant.
fn flood(peer: &mut Peer, manifests: &[VerifiedManifest]) -> Vec<Vec<Output>> {
    let now = peer.now;
    let hear = |manifest| {
        peer.now = now;
        peer.hear(manifest)
    };
    manifests.iter().map(hear).collect()
}

#[test]
fn a_flood_of_tips_of_one_author_stays_a_few() {
    let world = World::fixed(2, 10);
    let mut peer = Peer::of(&world);
    peer.learn(&world.grow(&world.genesis, 0, "m", 5));
    let tips: Vec<_> = (0..100).map(|at| world.child(&world.genesis, 1, &format!("tip {at}"))).collect();
    let outs = flood(&mut peer, &tips);
    assert_eq!(peer.tips().len(), 1 + TIPS_PER_AUTHOR);
    assert_eq!(count(&outs, |output| matches!(output, Output::Dropped(_))), 100 - TIPS_PER_AUTHOR);
    peer.hear(&world.child(&world.genesis, 2, "another's"));
    assert_eq!(peer.tips().len(), 2 + TIPS_PER_AUTHOR, "the others' tips have their room");
}

#[test]
fn what_was_dropped_may_come_again_and_win() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    peer.learn(&world.grow(&world.genesis, 0, "m", 3));
    let tips: Vec<_> = (0..=TIPS_PER_AUTHOR).map(|at| world.child(&world.genesis, 1, &format!("tip {at}"))).collect();
    flood(&mut peer, &tips);
    let dropped = tips.iter().find(|tip| !peer.chain.contains(&tip.link())).unwrap();
    let longer = world.grow(dropped, 1, "longer", 9);
    peer.hear(last(&longer));
    peer.learn(std::slice::from_ref(dropped));
    peer.learn(&longer[..8]);
    assert_eq!(peer.chain.head(), last(&longer).link());
}

#[test]
fn who_publishes_too_fast_is_deferred_and_in_the_end_all_is_admitted() {
    let world = World::fixed(1, 10_000);
    let mut peer = Peer::of(&world);
    let burst = ANNOUNCED_AT_ONCE as usize;
    let chain = world.grow(&world.genesis, 1, "fast", burst + 50);
    let outs = flood(&mut peer, &chain);
    assert_eq!(peer.chain.height(), Height(ANNOUNCED_AT_ONCE));
    assert_eq!(
        count(&outs, |output| matches!(output, Output::Deferred(_))),
        1,
        "the others wait for the first of them"
    );
    assert_eq!(admitted(&peer.hear(&world.child(&world.genesis, 0, "another's"))).len(), 1);
    assert_eq!(peer.wanted(), [], "nothing is fetched that is only deferred");
    while let Some(at) = peer.chain.next_tick(Timestamp(peer.now)) {
        assert!(at.0 <= peer.now + ANNOUNCED_EVERY_MS);
        peer.now = at.0.max(peer.now);
        peer.handle(Input::Tick);
    }
    assert_eq!((peer.chain.head(), peer.chain.pending()), (last(&chain).link(), 0));
}

#[test]
fn what_is_deferred_is_bounded_and_history_is_not_deferred() {
    let world = World::fixed(1, 10_000);
    let mut peer = Peer::of(&world);
    let chain = world.grow(&world.genesis, 1, "m", ANNOUNCED_AT_ONCE as usize);
    flood(&mut peer, &chain);
    let many: Vec<_> = (0..DEFERRED_PER_AUTHOR + 20).map(|at| world.child(last(&chain), 1, &format!("{at}"))).collect();
    let outs = flood(&mut peer, &many);
    assert_eq!(peer.chain.deferred(), DEFERRED_PER_AUTHOR);
    assert_eq!(count(&outs, |output| matches!(output, Output::Dropped(_))), 20);
    let now = peer.now;
    assert_eq!(admitted(&peer.take(&many[0], HISTORY)), [many[0].link()]);
    assert_eq!((peer.chain.deferred(), peer.now - now), (DEFERRED_PER_AUTHOR - 1, 1));
}

#[test]
fn a_clock_that_is_set_back_defers_nobody_for_long() {
    let world = World::fixed(1, 10_000);
    let mut peer = Peer::of(&world);
    peer.now = 1_000_000_000;
    let chain = world.grow(&world.genesis, 1, "m", ANNOUNCED_AT_ONCE as usize + 1);
    flood(&mut peer, &chain);
    assert_eq!(peer.chain.deferred(), 1);
    peer.now = 5_000;
    let mut out = Vec::new();
    while let Some(at) = peer.chain.next_tick(Timestamp(peer.now)) {
        assert!(at.0 <= 5_000 + 2 * ANNOUNCED_EVERY_MS, "{at:?}");
        peer.now = at.0;
        out.extend(peer.handle(Input::Tick));
    }
    assert_eq!(admitted(&out), [last(&chain).link()]);
}

#[test]
fn the_archive_of_one_author_is_bounded_and_a_winner_comes_from_beyond_it_l_465_505() {
    let world = World::fixed(2, 1);
    let chain = world.grow(&world.genesis, 0, "m", 8);
    let mut peer = Peer::of(&world);
    peer.learn(&chain);
    // As if so much was there already.
    for _ in 0..crate::limits::ARCHIVED_PER_AUTHOR {
        peer.chain.limiter.archive(world.devices[1].id());
    }
    let stale = world.grow(&world.genesis, 1, "stale", 10);
    assert!(matches!(peer.hear(&stale[0])[..], [Output::Dropped(_), Output::Stale { .. }]));
    let other = world.child(&world.genesis, 2, "another's");
    assert_eq!(admitted(&peer.hear(&other)), [other.link()]);
    peer.hear(last(&stale));
    peer.learn(&stale[..9]);
    assert_eq!(peer.chain.head(), last(&stale).link());
}

#[test]
fn a_restart_counts_what_the_archive_holds() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    peer.learn(&world.grow(&world.genesis, 0, "m", 5));
    let orphans = world.grow(&world.genesis, 1, "orphan", 3);
    peer.learn(&orphans);
    let again = Chain::load(&world.genesis, [world.list.clone()], peer.chain.records(), peer.chain.saved()).unwrap();
    assert_eq!(again.limiter.archived(&world.devices[1].id()), 3);
    assert_eq!(again.limiter.archived(&world.devices[0].id()), 0);
}
