//! Staleness, tips, partitions, the shown head.

use super::*;

/// Two partitions after `common` manifests, grown to heights `a` and `b`, each a peer's, that then hear each other.
fn partition(common: usize, a: usize, b: usize) -> (World, Peer, Peer, Link, Link) {
    let world = World::fixed(1, 10);
    let shared = world.grow(&world.genesis, 0, "m", common);
    let left = world.grow(last(&shared), 0, "a", a - common);
    let right = world.grow(last(&shared), 1, "b", b - common);
    let (mut alice, mut bob) = (Peer::of(&world), Peer::of(&world));
    for (peer, own) in [(&mut alice, &left), (&mut bob, &right)] {
        peer.learn(&shared);
        peer.learn(own);
    }
    for (peer, theirs) in [(&mut alice, &right), (&mut bob, &left)] {
        peer.hear(last(theirs));
        for manifest in theirs[..theirs.len() - 1].iter().rev() {
            peer.take(manifest, HISTORY);
        }
        theirs.iter().for_each(|manifest| drop(peer.complete(manifest)));
    }
    let (left, right) = (last(&left).link(), last(&right).link());
    (world, alice, bob, left, right)
}

#[test]
fn the_partition_of_20_and_15_heals_l_578_625() {
    let (_, alice, bob, a, b) = partition(3, 20, 15);
    assert_eq!(alice.view(), bob.view());
    assert_eq!((alice.chain.head(), alice.tips()), (a, vec![b, a]));
}

#[test]
fn a_partition_of_30_and_14_heals_though_both_grew_beyond_finality() {
    let (_, alice, bob, a, b) = partition(3, 30, 14);
    assert_eq!(alice.view(), bob.view());
    assert_eq!((alice.chain.head(), alice.tips()), (a, vec![a]));
    assert!(alice.chain.contains(&b), "nothing is lost");
    assert_eq!(alice.chain.orphaned_leaves().collect::<Vec<_>>(), [b]);
}

#[test]
fn partitions_heal_at_every_pair_of_lengths_around_finality_l_1372_1420() {
    for a in 4..=16 {
        for b in [4, 5, 13, 14, 15] {
            let (_, alice, bob, ..) = partition(3, a, b);
            assert_eq!(alice.view(), bob.view(), "{a} and {b}");
        }
    }
}

#[test]
fn a_tip_is_pruned_at_finality_and_one_and_said_to_be_l_423_446_512_563_735_773() {
    for depth in [1, 2, 10, 13] {
        let world = World::fixed(1, depth);
        let mut peer = Peer::of(&world);
        let common = world.grow(&world.genesis, 0, "m", 5);
        peer.learn(&common);
        let tip = world.child(last(&common), 1, "6a");
        peer.hear(&tip);
        let chain = world.grow(last(&common), 0, "m6b", depth as usize + 2);
        for manifest in &chain {
            let out = peer.hear(manifest);
            let behind = manifest.height.0 - tip.height.0;
            let pruned = out.contains(&Output::TipPruned { link: tip.link(), behind });
            assert_eq!(pruned, behind == depth + 1, "{behind} behind at depth {depth}");
            assert_eq!(peer.tips().contains(&tip.link()), behind <= depth, "{behind} behind at depth {depth}");
        }
        assert_eq!(peer.tips(), [last(&chain).link()], "one tip again");
    }
}

#[test]
fn an_announced_head_is_answered_at_finality_and_one_and_not_before() {
    let world = World::fixed(1, 10);
    for behind in [9, 10, 11] {
        let mut peer = Peer::of(&world);
        let chain = world.grow(&world.genesis, 0, "m", 20);
        peer.learn(&chain);
        let late = world.child(&chain[18 - behind], 1, "late");
        assert_eq!(late.height.0 + behind as u64, 20);
        let out = peer.hear(&late);
        let stale = out.contains(&Output::Stale { link: late.link(), head: last(&chain).link() });
        assert_eq!((stale, peer.tips().len()), (behind > 10, 1 + usize::from(behind <= 10)));
        assert!(peer.chain.contains(&late.link()), "it is kept");
    }
}

#[test]
fn an_orphaned_chain_can_not_be_revived_block_by_block_l_465_505() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    let chain = world.grow(&world.genesis, 0, "m", 100);
    peer.learn(&chain);
    for manifest in world.grow(&chain[4], 1, "revived", 80) {
        let out = peer.hear(&manifest);
        assert!(matches!(out[..], [Output::Admitted(_), Output::Stale { .. }]), "{out:?}");
        assert_eq!(peer.tips(), [last(&chain).link()]);
    }
}

#[test]
fn a_chain_that_wins_is_adopted_however_deep_its_fork_point_lies_and_loudly() {
    let world = World::fixed(1, 10);
    for (heads, deep) in [(9, false), (10, true), (11, true)] {
        let mut peer = Peer::of(&world);
        let chain = world.grow(&world.genesis, 0, "m", heads);
        peer.learn(&chain);
        let longer = world.grow(&world.genesis, 1, "longer", heads + 1);
        let mut out = peer.hear(last(&longer));
        longer[..heads].iter().rev().for_each(|manifest| out.extend(peer.take(manifest, HISTORY)));
        assert_eq!(peer.chain.head(), last(&longer).link());
        let loud = out.iter().any(|output| matches!(output, Output::DeepReorganisation { .. }));
        assert_eq!(loud, deep, "after {heads} heads");
    }
}

#[test]
fn only_complete_versions_are_shown_and_the_greatest_of_them() {
    let world = World::fixed(0, 10);
    let mut peer = Peer::of(&world);
    let chain = world.grow(&world.genesis, 0, "m", 3);
    chain.iter().for_each(|manifest| drop(peer.hear(manifest)));
    assert_eq!((peer.chain.head(), peer.chain.shown()), (chain[2].link(), None));
    assert_eq!(peer.complete(&chain[1]), [Output::Shown { from: None, to: chain[1].link() }]);
    assert_eq!(peer.complete(&chain[0]), [], "an older one is not shown");
    assert_eq!(peer.complete(&chain[1]), [], "twice is once");
    let expected = Output::Shown { from: Some(chain[1].link()), to: chain[2].link() };
    assert_eq!(peer.complete(&chain[2]), [expected]);
}

#[test]
fn a_withheld_chain_of_ten_thousand_stops_nobody_and_makes_no_honest_work_stale() {
    let world = World::fixed(2, 10);
    let (mut alice, mut bob) = (Peer::of(&world), Peer::of(&world));
    let withheld = world.grow(&world.genesis, 2, "withheld", 10_000);
    for peer in [&mut alice, &mut bob] {
        peer.complete(&world.genesis);
        withheld.iter().for_each(|manifest| drop(peer.take(manifest, HISTORY)));
        assert_eq!((peer.chain.height(), peer.chain.shown()), (Height(10_000), Some(world.genesis.link())));
    }
    let mut shown = world.genesis.clone();
    for at in 0..30 {
        let (author, other) = if at % 2 == 0 { (&mut alice, &mut bob) } else { (&mut bob, &mut alice) };
        let honest = world.child(&shown, at % 2, &format!("honest {at}"));
        author.take(&honest, Source::Own);
        author.complete(&honest);
        assert_eq!(admitted(&other.hear(&honest)), [honest.link()]);
        assert_eq!(other.complete(&honest).len(), 1, "it is shown");
        let told = other.chain.heads();
        assert!(told.links().any(|link| link == honest.link()), "and passed on when heads are exchanged");
        shown = honest;
    }
    let beside = world.child(&world.genesis, 1, "beside");
    let out = alice.hear(&beside);
    assert!(out.iter().any(|output| matches!(output, Output::Stale { .. })), "what is stale beside what is shown is");
}

/// All orders of three.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[test]
fn a_three_way_split_heals_whoever_is_heard_first_l_1372_1420() {
    for lengths in [[12, 9, 4], [30, 30, 14], [2, 2, 2], [25, 13, 40]] {
        let world = World::fixed(2, 10);
        let common = world.grow(&world.genesis, 0, "m", 3);
        let sides: Vec<_> = (0..3).map(|at| world.grow(last(&common), at, &format!("{at}"), lengths[at])).collect();
        let views = ORDERS.map(|order| {
            // Each of the three, who has written one side; and a newcomer, who hears all of them.
            let mut peer = Peer::of(&world);
            peer.learn(&common);
            order.iter().for_each(|at| drop(peer.learn(&sides[*at])));
            peer.view()
        });
        assert!(views.iter().all(|view| *view == views[0]), "{lengths:?}");
        let head = sides.iter().map(|side| last(side)).max_by_key(|manifest| key_of(manifest)).unwrap();
        assert_eq!(views[0].0, head.link());
    }
}

#[test]
fn a_newcomer_that_hears_the_losing_side_first_ends_on_the_winning_one() {
    let world = World::fixed(1, 10);
    let (short, long) = (world.grow(&world.genesis, 0, "short", 15), world.grow(&world.genesis, 1, "long", 40));
    for sides in [[&short, &long], [&long, &short]] {
        let mut newcomer = Peer::of(&world);
        for side in sides {
            // The head first, as gossip brings it, and then what it stands on.
            newcomer.hear(last(side));
            newcomer.learn(&side[..side.len() - 1]);
        }
        assert_eq!((newcomer.chain.head(), newcomer.tips()), (last(&long).link(), vec![last(&long).link()]));
        assert!(newcomer.chain.contains(&last(&short).link()), "nothing is lost");
    }
}

#[test]
fn what_would_win_is_never_stale_though_a_long_chain_of_an_older_epoch_is_shown() {
    let world = World::fixed(2, 10);
    let mut peer = Peer::of(&world);
    peer.learn(&world.grow(&world.genesis, 1, "old", 40));
    let list = world.removing(&world.list, 1);
    peer.give(&list);
    let rotated = world.share(&world.genesis, 0, &list);
    let out = peer.hear(&rotated);
    assert!(matches!(out[0], Output::Admitted(_)), "{out:?}");
    assert!(!out.iter().any(|output| matches!(output, Output::Stale { .. })), "{out:?}");
    assert_eq!(peer.chain.head(), rotated.link());
}
