//! The protocol note's states, scenarios and timelines.

use super::*;

#[test]
fn a_genesis_alone_is_a_chain_l_373() {
    let world = World::fixed(0, 10);
    let mut peer = Peer::of(&world);
    assert_eq!(peer.chain.head(), world.genesis.link());
    assert_eq!((peer.tips().len(), peer.chain.height(), peer.chain.is_forked()), (1, Height(0), false));
    assert_eq!(peer.chain.shown(), None);
    let out = peer.complete(&world.genesis);
    assert_eq!(out, [Output::Shown { from: None, to: world.genesis.link() }]);
}

#[test]
fn the_three_states_l_152_180() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    let common = world.grow(&world.genesis, 0, "m", 2);
    peer.learn(&common);
    let (a, b) = (world.child(last(&common), 0, "3a"), world.child(last(&common), 1, "3b"));
    peer.hear(&a);
    assert_eq!((peer.tips(), peer.chain.is_forked()), (vec![a.link()], false), "single chain");
    peer.hear(&b);
    assert_eq!((peer.tips().len(), peer.chain.height(), peer.chain.is_forked()), (2, Height(3), true), "fork detected");
    let longer = world.child(&a, 0, "4a");
    peer.hear(&longer);
    assert_eq!(peer.chain.head(), longer.link(), "fork resolved");
    assert_eq!(peer.tips(), [b.link(), longer.link()]);
    assert_eq!(peer.chain.orphaned_leaves().collect::<Vec<_>>(), [b.link()]);
}

#[test]
fn of_equal_chains_the_greater_digest_wins_l_364_378() {
    let world = World::fixed(1, 10);
    for (left, right) in [("3a", "3b"), ("3c", "3d"), ("3e", "3f"), ("3g", "3h")] {
        let (a, b) = (world.child(&world.genesis, 0, left), world.child(&world.genesis, 1, right));
        let greater = if a.link().digest() > b.link().digest() { &a } else { &b };
        for order in [[&a, &b], [&b, &a]] {
            let mut peer = Peer::of(&world);
            order.iter().for_each(|manifest| drop(peer.hear(manifest)));
            assert_eq!(peer.chain.head(), greater.link());
        }
    }
}

#[test]
fn the_three_scenarios_l_637_680() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    let (a, b) = (world.grow(&world.genesis, 0, "a", 2), world.grow(&world.genesis, 1, "b", 2));
    peer.hear(&a[0]);
    peer.hear(&b[0]);
    assert_eq!(peer.chain.head(), a[0].link().max(b[0].link()), "1: concurrent updates");
    peer.hear(&a[1]);
    assert_eq!(peer.chain.head(), a[1].link(), "2: one chain extends");
    assert!(peer.tips().contains(&b[0].link()));
    peer.hear(&b[1]);
    assert_eq!(peer.chain.head(), a[1].link().max(b[1].link()), "3: both extend");
    assert!(peer.chain.is_forked());
}

#[test]
fn a_change_of_head_says_from_what_to_what_and_how_long_l_323_395() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    let (a, b) = (world.grow(&world.genesis, 0, "a", 1), world.grow(&world.genesis, 1, "b", 2));
    let head = |out: Vec<Output>| out.into_iter().find(|output| matches!(output, Output::Head { .. }));
    let expected = Output::Head { from: world.genesis.link(), to: a[0].link(), height: Height(1), fork_point: None };
    assert_eq!(head(peer.hear(&a[0])), Some(expected));
    let mut out = peer.hear(&b[0]);
    out.extend(peer.hear(&b[1]));
    let Some(Output::Head { to, height: Height(2), fork_point, .. }) =
        out.iter().rev().find_map(|output| head(vec![output.clone()]))
    else {
        panic!("no new head in {out:?}")
    };
    assert_eq!(to, b[1].link());
    assert!(fork_point.is_none_or(|point| point == world.genesis.link()));
}

#[test]
fn adding_an_inner_manifest_again_changes_nothing_l_335() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    let chain = world.grow(&world.genesis, 0, "m", 4);
    peer.learn(&chain);
    let before = peer.view();
    for manifest in chain.iter().chain([&world.genesis]) {
        assert_eq!(peer.hear(manifest), []);
        assert_eq!(peer.take(manifest, HISTORY), []);
    }
    assert_eq!(peer.view(), before);
}

#[test]
fn a_newcomer_starts_from_the_genesis_l_280() {
    let world = World::fixed(0, 10);
    let chain = world.grow(&world.genesis, 0, "m", 40);
    let mut peer = Peer::of(&world);
    peer.learn(&chain);
    assert_eq!((peer.chain.head(), peer.chain.height()), (last(&chain).link(), Height(40)));
}

#[test]
fn missing_history_is_fetched_once_each_and_added_oldest_first_l_106_146_1107_1170() {
    let world = World::fixed(0, 10);
    let mut peer = Peer::of(&world);
    let chain = world.grow(&world.genesis, 0, "m", 5);
    peer.learn(&chain[..2]);
    peer.hear(&chain[4]);
    assert_eq!(peer.wanted(), [Missing::Manifest(chain[3].link())]);
    peer.take(&chain[3], HISTORY);
    assert_eq!(peer.wanted(), [Missing::Manifest(chain[2].link())]);
    let out = peer.take(&chain[2], HISTORY);
    assert_eq!(admitted(&out), chain[2..].iter().map(|manifest| manifest.link()).collect::<Vec<_>>());
    assert_eq!((peer.chain.head(), peer.chain.pending(), peer.wanted().len()), (chain[4].link(), 0, 0));
}

#[test]
fn a_peer_that_returns_in_the_middle_of_a_fork_ends_on_the_networks_head_l_1190_1250() {
    let world = World::fixed(1, 10);
    let common = world.grow(&world.genesis, 0, "m", 2);
    let (a, b) = (world.grow(last(&common), 0, "a", 2), world.grow(last(&common), 1, "b", 2));
    let mut peer = Peer::of(&world);
    peer.learn(&common);
    peer.hear(&a[1]);
    peer.take(&a[0], HISTORY);
    assert_eq!(peer.chain.head(), a[1].link());
    peer.hear(&b[1]);
    peer.take(&b[0], HISTORY);
    assert_eq!(peer.chain.head(), a[1].link().max(b[1].link()));
}

#[test]
fn a_peers_own_stale_work_stays_and_can_be_found_l_1290_1330() {
    let world = World::fixed(1, 10);
    let common = world.grow(&world.genesis, 0, "m", 2);
    let (mine, theirs) = (world.grow(last(&common), 1, "mine", 2), world.grow(last(&common), 0, "theirs", 3));
    let mut peer = Peer::of(&world);
    peer.learn(&common);
    mine.iter().for_each(|manifest| drop(peer.take(manifest, Source::Own)));
    peer.learn(&theirs);
    assert_eq!(peer.chain.head(), last(&theirs).link());
    let orphans: Vec<_> = peer.chain.orphans().map(|record| (record.link, record.author)).collect();
    let expected: Vec<_> = mine.iter().map(|manifest| (manifest.link(), world.devices[1].id())).collect();
    assert_eq!(orphans, expected);
    assert_eq!(peer.chain.is_canonical(&mine[0].link()), Some(false));
    assert_eq!(peer.chain.fork_point(&mine[1].link(), &peer.chain.head()), Some(common[1].link()));
    assert_eq!(peer.chain.canonical_at(Height(3)), Some(theirs[0].link()));
}

#[test]
fn the_duration_of_a_fork_is_measured_l_969_1007() {
    let world = World::fixed(1, 2);
    let mut peer = Peer::of(&world);
    let (a, b) = (world.grow(&world.genesis, 0, "a", 4), world.child(&world.genesis, 1, "b"));
    peer.hear(&b);
    peer.now = 100;
    assert!(peer.hear(&a[0]).contains(&Output::ForkStarted));
    assert_eq!(peer.chain.fork_detected_at(), Some(Timestamp(101)));
    peer.hear(&a[1]);
    peer.hear(&a[2]);
    peer.now = 599;
    let out = peer.hear(&a[3]);
    assert!(out.contains(&Output::TipPruned { link: b.link(), behind: 3 }), "{out:?}");
    assert!(out.contains(&Output::ForkResolved { after: 499 }), "{out:?}");
    assert_eq!((peer.chain.fork_detected_at(), peer.chain.is_forked()), (None, false));
}

#[test]
fn writes_go_on_during_a_fork_l_890_961() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    let (a, b) = (world.child(&world.genesis, 0, "a"), world.child(&world.genesis, 1, "b"));
    peer.hear(&a);
    peer.hear(&b);
    let head = if peer.chain.head() == a.link() { &a } else { &b };
    let mine = world.child(head, 0, "mine");
    assert_eq!(admitted(&peer.take(&mine, Source::Own)), [mine.link()]);
    assert_eq!(peer.chain.head(), mine.link());
}

#[test]
fn the_state_that_the_protocol_names_can_be_asked_for_l_39_56_975_1583() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    let (a, b) = (world.grow(&world.genesis, 0, "a", 2), world.grow(&world.genesis, 1, "b", 1));
    peer.learn(&a);
    peer.learn(&b);
    let chain = &peer.chain;
    assert_eq!((chain.id(), chain.genesis()), (world.id, world.genesis.link()), "bucket_id, genesis");
    let manifests: Vec<_> = chain.records().map(|record| (record.link, record.height.0)).collect();
    let known = [(&world.genesis, 0), (&a[0], 1), (&a[1], 2), (&b[0], 1)];
    assert_eq!(manifests, known.map(|(manifest, height)| (manifest.link(), height)), "manifests and cached lengths");
    assert_eq!((chain.head(), chain.height()), (a[1].link(), Height(2)), "canonical_head, canonical_length");
    assert_eq!(peer.tips(), [b[0].link(), a[1].link()], "known_tips");
    assert!(chain.fork_detected_at().is_some(), "fork_detected_at");
    assert_eq!(chain.pin(), None, "pinned_head");
}

#[test]
fn publishing_is_local_first_and_then_told_to_all_l_188_225() {
    let world = World::fixed(0, 10);
    let mut peer = Peer::of(&world);
    let mine = world.child(&world.genesis, 0, "mine");
    let out = peer.take(&mine, Source::Own);
    let head = Output::Head { from: world.genesis.link(), to: mine.link(), height: Height(1), fork_point: None };
    assert_eq!(out, [Output::Admitted(Arc::new(mine.clone())), head, Output::Announce(mine.link())]);
}

#[test]
fn an_announcement_is_known_or_checked_or_its_history_is_fetched_first_l_227_262() {
    let world = World::fixed(0, 10);
    let mut peer = Peer::of(&world);
    peer.handle(Input::Connected(PEER));
    let chain = world.grow(&world.genesis, 0, "m", 3);
    assert_eq!(admitted(&peer.hear(&chain[0])), [chain[0].link()]);
    assert_eq!(peer.hear(&chain[0]), [], "known");
    let mut foreign = world.draft(&chain[0], "foreign");
    foreign.id = crate::link::BucketId(uuid::Uuid::from_u128(1));
    let foreign = foreign.sign(&world.devices[0]).unwrap().verify().unwrap();
    assert_eq!(rejected(&peer.hear(&foreign)), [&Rejected::WrongBucket]);
    let out = peer.hear(&chain[2]);
    let [Output::Fetch { from: PEER, request }] = &out[..] else { panic!("{out:?}") };
    assert_eq!(request.wants, [Missing::Manifest(chain[1].link())]);
    assert_eq!(request.locator, [chain[0].link(), world.genesis.link()]);
}
