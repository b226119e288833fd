//! Hard forks, and the ways out of them.

use super::*;
use crate::bucket::MANIFEST_VERSION;
use crate::limits::HARD_FORK_MS;

fn voter(at: u8) -> DeviceId {
    DeviceId([100 + at; 32])
}

/// A connected member says that it shows this.
fn shows(peer: &mut Peer, who: u8, shown: &VerifiedManifest, pinned: bool) -> Vec<Output> {
    let shown = shown.link();
    let heads = Heads { head: shown, shown: Some(shown), pinned, tips: Vec::new(), ..peer.chain.heads() };
    says(peer, who, heads)
}

fn says(peer: &mut Peer, who: u8, heads: Heads) -> Vec<Output> {
    let mut out = peer.handle(Input::Connected(voter(who)));
    out.extend(peer.handle(Input::Heads { from: voter(who), heads: Box::new(heads), answer: false }));
    out
}

fn hard_forks(out: &[Output]) -> Vec<(DeviceId, HardFork)> {
    let found = |output: &Output| match output {
        Output::HardFork { peer, how } => Some((*peer, *how)),
        _ => None,
    };
    out.iter().filter_map(found).collect()
}

/// A peer that knows two chains of 5 and 3 after 2 common ones, and shows the longer one.
fn forked() -> (World, Peer, Vec<VerifiedManifest>, Vec<VerifiedManifest>) {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    let common = world.grow(&world.genesis, 0, "m", 2);
    let (a, b) = (world.grow(last(&common), 0, "a", 5), world.grow(last(&common), 1, "b", 3));
    for chain in [&common, &a, &b] {
        peer.learn(chain);
    }
    (world, peer, a, b)
}

#[test]
fn a_member_that_is_pinned_elsewhere_is_a_hard_fork_whatever_the_heights_l_1606_1633() {
    for at in 0..3 {
        let (_, mut peer, _, b) = forked();
        let out = shows(&mut peer, 1, &b[at], true);
        assert_eq!(hard_forks(&out), [(voter(1), HardFork::Pinned(b[at].link()))]);
        assert_eq!(peer.chain.hard_forks().count(), 1);
    }
}

#[test]
fn a_member_that_is_ahead_or_behind_on_the_same_chain_is_none_l_1606_1633() {
    let (world, mut peer, a, _) = forked();
    assert_eq!(hard_forks(&shows(&mut peer, 1, &a[2], true)), [], "behind");
    assert_eq!(hard_forks(&shows(&mut peer, 2, &world.genesis, true)), [], "far behind");
    let ahead = world.grow(last(&a), 0, "ahead", 2);
    assert_eq!(hard_forks(&shows(&mut peer, 3, last(&ahead), true)), [], "unknown: it is only news");
    peer.learn(&ahead[..1]);
    peer.learn(&ahead[1..]);
    assert_eq!(peer.chain.hard_forks().count(), 0);
}

#[test]
fn a_member_on_another_branch_is_one_only_if_it_stays_there_l_1606_1633() {
    let (_, mut peer, a, b) = forked();
    assert_eq!(hard_forks(&shows(&mut peer, 1, last(&b), false)), []);
    peer.now += HARD_FORK_MS - 10;
    assert_eq!(hard_forks(&peer.handle(Input::Tick)), []);
    peer.now += 10;
    assert_eq!(hard_forks(&peer.handle(Input::Tick)), [(voter(1), HardFork::Differs(last(&b).link()))]);
    assert_eq!(hard_forks(&peer.handle(Input::Tick)), [], "said once");
    let heads = Box::new(Heads { head: last(&a).link(), ..peer.chain.heads() });
    let out = peer.handle(Input::Heads { from: voter(1), heads, answer: false });
    assert!(out.contains(&Output::HardForkEnded { peer: voter(1) }), "{out:?}");
    assert_eq!(peer.chain.hard_forks().count(), 0);
}

#[test]
fn one_that_has_the_same_head_and_lacks_its_content_is_none() {
    let (_, mut peer, a, b) = forked();
    let heads = Heads { head: last(&a).link(), shown: Some(last(&b).link()), ..peer.chain.heads() };
    says(&mut peer, 1, heads);
    peer.now += 2 * HARD_FORK_MS;
    assert_eq!(hard_forks(&peer.handle(Input::Tick)), []);
}

#[test]
fn another_genesis_or_version_is_one_and_is_named_l_1445_1540() {
    let (_, mut peer, ..) = forked();
    let other = crate::bucket::testing::link("another genesis");
    let heads = Heads { genesis: other, head: other, shown: None, ..peer.chain.heads() };
    assert_eq!(hard_forks(&says(&mut peer, 1, heads)), [(voter(1), HardFork::Genesis(other))]);
    let heads = Heads { version: MANIFEST_VERSION + 1, ..peer.chain.heads() };
    assert_eq!(hard_forks(&says(&mut peer, 2, heads)), [(voter(2), HardFork::Version(MANIFEST_VERSION + 1))]);
    let out = peer.handle(Input::Disconnected(voter(1)));
    assert!(out.contains(&Output::HardForkEnded { peer: voter(1) }), "{out:?}");
}

#[test]
fn the_majority_of_connected_members_decides_l_1636_1670() {
    let (world, mut peer, a, b) = forked();
    shows(&mut peer, 1, &b[1], true);
    shows(&mut peer, 2, &a[1], false);
    assert_eq!(peer.chain.ballot().voters, 3);
    assert_eq!(peer.chain.ballot().winner, Some(last(&a).link()), "behind on a chain is for it");
    assert_eq!(peer.handle(Input::Vote), []);
    shows(&mut peer, 3, &b[2], true);
    assert_eq!(peer.chain.ballot().winner, None, "two against two");
    assert_eq!(peer.handle(Input::Vote), []);
    shows(&mut peer, 4, &b[2], true);
    assert_eq!(peer.chain.ballot().winner, Some(b[2].link()));
    peer.handle(Input::Vote);
    assert_eq!(peer.chain.pin(), Some(Pin { at: b[2].link(), cause: Cause::Majority }));
    assert_eq!((peer.chain.shown(), peer.chain.head()), (Some(b[2].link()), last(&a).link()));
    let on = world.grow(&b[2], 1, "on", 1);
    peer.learn(&on);
    for who in [1, 3, 4] {
        shows(&mut peer, who, &on[0], true);
    }
    assert_eq!(peer.chain.shown(), Some(on[0].link()), "and is followed where it goes");
    for who in [1, 3, 4] {
        shows(&mut peer, who, last(&a), false);
    }
    assert_eq!((peer.chain.pin(), peer.chain.shown()), (None, Some(last(&a).link())), "back to the head");
}

#[test]
fn a_policy_can_follow_the_majority_by_itself_but_not_against_the_user_l_1636_1670() {
    let policy = Policy { hard_fork: OnHardFork::Majority, ..Policy::default() };
    let (_, mut peer, _, b) = forked();
    peer.handle(Input::Policy(policy));
    shows(&mut peer, 1, &b[2], true);
    assert_eq!(peer.chain.pin(), None, "one against one");
    shows(&mut peer, 2, &b[2], true);
    assert_eq!(peer.chain.pin(), Some(Pin { at: b[2].link(), cause: Cause::Majority }));
    let (_, mut peer, a, b) = forked();
    peer.handle(Input::Policy(policy));
    peer.handle(Input::Pin(Some(last(&a).link())));
    shows(&mut peer, 1, &b[2], true);
    shows(&mut peer, 2, &b[2], true);
    assert_eq!(peer.chain.pin().unwrap().cause, Cause::User);
}

#[test]
fn a_policy_can_refuse_to_write_until_it_is_settled_l_1636_1670() {
    let (_, mut peer, a, b) = forked();
    peer.handle(Input::Policy(Policy { hard_fork: OnHardFork::Refuse, ..Policy::default() }));
    assert_eq!(peer.chain.may_publish(), Ok(()));
    shows(&mut peer, 1, last(&b), true);
    assert_eq!(peer.chain.may_publish(), Err(Refusal::HardForked));
    shows(&mut peer, 1, last(&a), false);
    assert_eq!(peer.chain.may_publish(), Ok(()));
}
