//! Heads are exchanged, and what is missing is asked for.

use super::*;
use crate::limits::{EXCHANGE_EVERY_MS, FETCH_FAILED_MS, FETCH_MS, FETCH_SLOW_MS, WANTS};

const OTHER: DeviceId = DeviceId([8; 32]);

fn sent(out: &[Output]) -> Vec<(DeviceId, bool)> {
    let sent = |output: &Output| match output {
        Output::SendHeads { to, answer, .. } => Some((*to, *answer)),
        _ => None,
    };
    out.iter().filter_map(sent).collect()
}

fn asked(out: &[Output]) -> Vec<(DeviceId, Vec<Missing>)> {
    let asked = |output: &Output| match output {
        Output::Fetch { from, request } => Some((*from, request.wants.clone())),
        _ => None,
    };
    out.iter().filter_map(asked).collect()
}

fn manifest(manifest: &VerifiedManifest) -> Missing {
    Missing::Manifest(manifest.link())
}

/// Two who met, and what passes between them: what one asks, the other answers at once, `most` manifests at a time.
struct Pair {
    manifests: Vec<VerifiedManifest>,
    lists: Vec<MemberList>,
    most: usize,
    round_trips: usize,
}

impl Pair {
    /// Carries all that follows from `out` between the two until it is quiet. The first is [`PEER`] to the other.
    fn exchange(&mut self, peers: &mut [Peer; 2], at: usize, out: Vec<Output>) {
        let ids = [PEER, OTHER];
        let mut queue: VecDeque<_> = out.into_iter().map(|output| (at, output)).collect();
        while let Some((at, output)) = queue.pop_front() {
            let other = 1 - at;
            let (to, input) = match output {
                Output::SendHeads { heads, answer, .. } => (other, Input::Heads { from: ids[at], heads, answer }),
                Output::Fetch { request, .. } => {
                    self.round_trips += 1;
                    let answer = peers[other].chain.history(&request, self.most);
                    for item in answer.items {
                        let out = self.hand_in(&mut peers[at], item, ids[other]);
                        queue.extend(out.into_iter().map(|output| (at, output)));
                    }
                    (at, Input::Fetched { from: ids[other], ok: true, more: answer.more })
                }
                _ => continue,
            };
            let out = peers[to].handle(input);
            queue.extend(out.into_iter().map(|output| (to, output)));
        }
    }

    fn hand_in(&self, peer: &mut Peer, item: Missing, from: DeviceId) -> Vec<Output> {
        match item {
            Missing::Manifest(link) => {
                let manifest = self.manifests.iter().find(|manifest| manifest.link() == link).unwrap();
                peer.take(manifest, Source::History(from))
            }
            Missing::Members(link) => peer.give(self.lists.iter().find(|list| list.link() == link).unwrap()),
        }
    }

    /// Two that know `left` and `right` meet.
    fn meet(world: &World, lists: &[MemberList], knowing: [&[&VerifiedManifest]; 2], most: usize) -> (Self, [Peer; 2]) {
        let mut peers = [Peer::of(world), Peer::of(world)];
        for (peer, known) in peers.iter_mut().zip(knowing) {
            for manifest in known {
                let needed = lists.iter().filter(|list| list.link() == manifest.share.members);
                needed.for_each(|list| drop(peer.give(list)));
                peer.take(manifest, HISTORY);
                peer.complete(manifest);
            }
        }
        let manifests = knowing.iter().flat_map(|known| known.iter().map(|manifest| (*manifest).clone())).collect();
        let mut pair = Self { manifests, lists: lists.to_vec(), most, round_trips: 0 };
        peers[1].handle(Input::Connected(PEER));
        let out = peers[0].handle(Input::Connected(OTHER));
        pair.exchange(&mut peers, 0, out);
        (pair, peers)
    }
}

#[test]
fn two_who_meet_have_the_same_chain_after_one_question_each_l_1260_1284() {
    let world = World::fixed(1, 10);
    let common = world.grow(&world.genesis, 0, "m", 30);
    let (a, b) = (world.grow(last(&common), 0, "a", 40), world.grow(last(&common), 1, "b", 35));
    let left: Vec<_> = common.iter().chain(&a).collect();
    let right: Vec<_> = common.iter().chain(&b).collect();
    let (pair, peers) = Pair::meet(&world, &[], [&left, &right], usize::MAX);
    assert_eq!(peers[0].chain.head(), last(&a).link());
    assert_eq!((peers[0].chain.head(), peers[0].tips()), (peers[1].chain.head(), peers[1].tips()));
    assert_eq!(peers[0].chain.len(), peers[1].chain.len());
    assert!(pair.round_trips <= 2, "{} round trips", pair.round_trips);
}

#[test]
fn a_thousand_missed_manifests_come_in_one_round_trip_and_in_few_when_answers_are_bounded() {
    let world = World::fixed(0, 10);
    let chain = world.grow(&world.genesis, 0, "m", 1_000);
    let known: Vec<_> = chain.iter().collect();
    for (most, trips) in [(usize::MAX, 1), (400, 3), (100, 10)] {
        let (pair, peers) = Pair::meet(&world, &[], [&known, &[]], most);
        assert_eq!((peers[1].chain.head(), pair.round_trips), (last(&chain).link(), trips), "{most} at a time");
    }
}

#[test]
fn member_lists_come_before_the_manifests_that_need_them() {
    let world = World::fixed(2, 10);
    let list = world.removing(&world.list, 2);
    let share = world.share(&world.genesis, 0, &list);
    let after = world.grow(&share, 0, "after", 3);
    let known: Vec<_> = [&share].into_iter().chain(&after).collect();
    let (pair, peers) = Pair::meet(&world, std::slice::from_ref(&list), [&known, &[]], usize::MAX);
    assert_eq!((peers[1].chain.head(), pair.round_trips), (last(&after).link(), 1));
    let request = HistoryRequest { wants: vec![manifest(&after[0])], locator: vec![world.genesis.link()] };
    let items = peers[0].chain.history(&request, usize::MAX).items;
    assert_eq!(items, [Missing::Members(list.link()), manifest(&share), manifest(&after[0])]);
}

#[test]
fn orphaned_tips_travel_too_l_1260_1284() {
    let world = World::fixed(1, 10);
    let (a, b) = (world.grow(&world.genesis, 0, "a", 5), world.grow(&world.genesis, 1, "b", 3));
    let known: Vec<_> = a.iter().chain(&b).collect();
    let (_, peers) = Pair::meet(&world, &[], [&known, &[]], usize::MAX);
    assert_eq!(peers[1].tips(), [last(&b).link(), last(&a).link()]);
}

#[test]
fn what_is_announced_is_asked_of_whoever_passed_it_on_and_of_one_at_a_time() {
    let world = World::fixed(0, 10);
    let chain = world.grow(&world.genesis, 0, "m", 4);
    let mut peer = Peer::of(&world);
    peer.handle(Input::Connected(OTHER));
    peer.handle(Input::Connected(PEER));
    let out = peer.take(&chain[3], Source::Announced(PEER));
    assert_eq!(asked(&out), [(PEER, vec![manifest(&chain[2])])]);
    assert_eq!(asked(&peer.take(&chain[3], Source::Announced(OTHER))), [], "nobody else is asked meanwhile");
    let out = peer.handle(Input::Disconnected(PEER));
    assert_eq!(asked(&out), [(OTHER, vec![manifest(&chain[2])])], "until the one who was asked is gone");
}

#[test]
fn who_does_not_have_it_is_not_asked_again_before_it_speaks_of_its_heads_anew() {
    let world = World::fixed(0, 10);
    let chain = world.grow(&world.genesis, 0, "m", 3);
    let mut peer = Peer::of(&world);
    peer.handle(Input::Connected(PEER));
    assert_eq!(asked(&peer.take(&chain[2], Source::Announced(PEER))).len(), 1);
    assert_eq!(asked(&peer.handle(Input::Fetched { from: PEER, ok: true, more: false })), []);
    assert_eq!(asked(&peer.handle(Input::Tick)), []);
    let heads = Box::new(peer.chain.heads());
    let out = peer.handle(Input::Heads { from: PEER, heads, answer: false });
    assert_eq!(asked(&out), [(PEER, vec![manifest(&chain[1])])]);
}

#[test]
fn who_fails_is_left_alone_ever_longer_and_the_others_are_asked_at_once_l_1260_1284() {
    let world = World::fixed(0, 10);
    let chain = world.grow(&world.genesis, 0, "m", 3);
    let mut peer = Peer::of(&world);
    peer.handle(Input::Connected(PEER));
    peer.take(&chain[2], Source::Announced(PEER));
    for round in 0..4 {
        assert_eq!(asked(&peer.handle(Input::Fetched { from: PEER, ok: false, more: false })), []);
        let again = peer.chain.next_tick(Timestamp(peer.now)).unwrap();
        assert_eq!(again.0 - peer.now, FETCH_FAILED_MS << round);
        peer.now = again.0;
        assert_eq!(asked(&peer.handle(Input::Tick)).len(), 1);
    }
    peer.handle(Input::Fetched { from: PEER, ok: false, more: false });
    assert_eq!(asked(&peer.handle(Input::Connected(OTHER))), [], "of whom nothing is known yet");
    let heads = Box::new(peer.chain.heads());
    assert_eq!(asked(&peer.handle(Input::Heads { from: OTHER, heads, answer: false }))[0].0, OTHER);
}

#[test]
fn a_question_that_is_never_answered_is_given_up() {
    let world = World::fixed(0, 10);
    let chain = world.grow(&world.genesis, 0, "m", 3);
    let mut peer = Peer::of(&world);
    peer.handle(Input::Connected(PEER));
    peer.take(&chain[2], Source::Announced(PEER));
    peer.now += FETCH_MS;
    assert_eq!(asked(&peer.handle(Input::Tick)), []);
    peer.now = peer.chain.next_tick(Timestamp(peer.now)).unwrap().0;
    assert_eq!(asked(&peer.handle(Input::Tick)).len(), 1);
}

#[test]
fn an_answer_that_says_there_is_more_and_brings_nothing_is_no_reason_to_ask_for_ever() {
    let world = World::fixed(0, 10);
    let chain = world.grow(&world.genesis, 0, "m", 3);
    let mut peer = Peer::of(&world);
    peer.handle(Input::Connected(PEER));
    peer.take(&chain[2], Source::Announced(PEER));
    assert_eq!(asked(&peer.handle(Input::Fetched { from: PEER, ok: true, more: true })), []);
}

#[test]
fn heads_are_told_at_once_and_then_every_thirty_seconds_l_1260_1284() {
    let world = World::fixed(0, 10);
    let mut peer = Peer::of(&world);
    assert_eq!(peer.chain.next_tick(Timestamp(0)), None, "alone, there is nothing to wait for");
    assert_eq!(sent(&peer.handle(Input::Connected(PEER))), [(PEER, true)]);
    assert_eq!(sent(&peer.handle(Input::Connected(OTHER))), [(OTHER, true)]);
    let heads = Box::new(peer.chain.heads());
    assert_eq!(sent(&peer.handle(Input::Heads { from: PEER, heads: heads.clone(), answer: true })), [(PEER, false)]);
    assert_eq!(sent(&peer.handle(Input::Heads { from: PEER, heads, answer: false })), []);
    for _ in 0..3 {
        let at = peer.chain.next_tick(Timestamp(peer.now)).unwrap();
        assert!(at.0 - peer.now <= EXCHANGE_EVERY_MS);
        peer.now = at.0;
        assert_eq!(sent(&peer.handle(Input::Tick)), [(OTHER, false), (PEER, false)]);
    }
}

#[test]
fn whoever_passes_on_what_is_stale_is_told_our_heads_but_not_for_each() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    let chain = world.grow(&world.genesis, 0, "m", 30);
    peer.learn(&chain);
    peer.handle(Input::Connected(PEER));
    let stale = world.grow(&world.genesis, 1, "stale", 5);
    let told: Vec<_> = stale.iter().map(|manifest| sent(&peer.hear(manifest)).len()).collect();
    assert_eq!(told, [1, 0, 0, 0, 0]);
}

#[test]
fn what_one_member_taught_is_announced_to_all() {
    let world = World::fixed(0, 10);
    let chain = world.grow(&world.genesis, 0, "m", 3);
    let mut peer = Peer::of(&world);
    peer.handle(Input::Connected(PEER));
    let mut heads = peer.chain.heads();
    heads.head = last(&chain).link();
    peer.handle(Input::Heads { from: PEER, heads: Box::new(heads), answer: false });
    chain.iter().for_each(|manifest| drop(peer.take(manifest, HISTORY)));
    let out = peer.handle(Input::Fetched { from: PEER, ok: true, more: false });
    assert!(out.contains(&Output::Announce(last(&chain).link())), "{out:?}");
    let mine = world.child(last(&chain), 0, "mine");
    assert!(peer.take(&mine, Source::Own).contains(&Output::Announce(mine.link())));
}

#[test]
fn questions_and_locators_are_bounded() {
    let world = World::fixed(1, 10_000);
    let mut peer = Peer::of(&world);
    let chain = world.grow(&world.genesis, 0, "m", 600);
    peer.learn(&chain);
    for at in 0..150 {
        peer.take(&world.child(&chain[at * 4], 1, "side"), HISTORY);
    }
    let locator = peer.chain.locator();
    assert!(locator.len() <= crate::limits::LOCATOR_LINKS && locator.contains(&world.genesis.link()));
    assert!(peer.chain.heads().tips.len() <= crate::limits::HEADS_TIPS);
    peer.handle(Input::Connected(PEER));
    let mut heads = peer.chain.heads();
    heads.tips = (0..200).map(|at| crate::bucket::testing::link(&at.to_string())).collect();
    let out = peer.handle(Input::Heads { from: PEER, heads: Box::new(heads), answer: false });
    assert_eq!(asked(&out)[0].1.len(), WANTS);
}

#[test]
fn an_answer_that_broke_off_on_a_side_branch_goes_on_where_it_ended() {
    let world = World::fixed(2, 10);
    let common = world.grow(&world.genesis, 0, "m", 100);
    let (mine, theirs) = (world.grow(&common[9], 0, "mine", 300), world.grow(&common[9], 1, "theirs", 900));
    // Greater than where an answer breaks off, and more than a locator has room for.
    let orphans: Vec<_> = (0..80).map(|at| world.child(&mine[200 + at], 2, "orphan")).collect();
    let left: Vec<_> = common[..10].iter().chain(&mine).chain(&orphans).collect();
    let right: Vec<_> = common[..10].iter().chain(&theirs).collect();
    let (pair, peers) = Pair::meet(&world, &[], [&left, &right], 100);
    assert_eq!(peers[0].chain.head(), last(&theirs).link());
    assert!(pair.round_trips < 30, "{} round trips", pair.round_trips);
}

#[test]
fn a_member_that_brings_nothing_does_not_keep_what_is_wanted_to_itself() {
    let world = World::fixed(0, 10);
    let chain = world.grow(&world.genesis, 0, "m", 30);
    let mut peer = Peer::of(&world);
    peer.handle(Input::Connected(OTHER));
    peer.handle(Input::Connected(PEER));
    let heads = Box::new(Heads { head: last(&chain).link(), ..peer.chain.heads() });
    // It has the lower id and is asked first; then it waits, while other things come.
    assert_eq!(asked(&peer.handle(Input::Heads { from: OTHER, heads: heads.clone(), answer: false }))[0].0, OTHER);
    assert_eq!(asked(&peer.handle(Input::Heads { from: PEER, heads, answer: false })), []);
    peer.take(&chain[0], Source::Announced(PEER));
    let at = peer.chain.next_tick(Timestamp(peer.now)).unwrap();
    assert_eq!(at.0 - peer.now, FETCH_SLOW_MS - 1);
    peer.now = at.0;
    assert_eq!(asked(&peer.handle(Input::Tick))[0].0, PEER, "another one is asked after some seconds");
    let out = peer.handle(Input::Fetched { from: OTHER, ok: true, more: true });
    assert_eq!(asked(&out), [], "what came by gossip meanwhile is not its own doing");
}

#[test]
fn an_answer_that_is_known_already_is_followed_by_what_comes_behind_it() {
    let world = World::fixed(2, 10);
    let shared = world.grow(&world.genesis, 1, "shared", 100);
    let (left, right) = (world.child(last(&shared), 1, "left"), world.child(last(&shared), 1, "right"));
    // Nobody can show the head, so that what they know besides it is far from it.
    let list = world.removing(&world.list, 2);
    let head = world.share(&world.genesis, 0, &list);
    let mut peers = [Peer::of(&world), Peer::of(&world)];
    for (peer, own) in peers.iter_mut().zip([&left, &right]) {
        peer.learn(&shared);
        peer.learn(std::slice::from_ref(own));
        peer.give(&list);
        peer.take(&head, HISTORY);
    }
    let manifests = [&shared[..], &[left.clone(), right.clone()]].concat();
    let mut pair = Pair { manifests, lists: vec![list], most: 16, round_trips: 0 };
    peers[1].handle(Input::Connected(PEER));
    let out = peers[0].handle(Input::Connected(OTHER));
    pair.exchange(&mut peers, 0, out);
    for peer in &peers {
        assert!(peer.chain.contains(&left.link()) && peer.chain.contains(&right.link()));
        assert_eq!((peer.chain.head(), peer.chain.wanted().count()), (head.link(), 0));
    }
    assert!(pair.round_trips <= 2 * (101usize.div_ceil(16) + 1), "{} round trips", pair.round_trips);
}
