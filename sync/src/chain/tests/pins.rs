//! Pins, held reorganisations, and policies.

use super::*;

fn pin(peer: &mut Peer, at: &VerifiedManifest) -> Vec<Output> {
    peer.handle(Input::Pin(Some(at.link())))
}

#[test]
fn a_pin_is_shown_whatever_the_head_is_and_the_head_stays_what_it_is_l_1575_1600() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    let chain = world.grow(&world.genesis, 0, "m", 5);
    peer.learn(&chain);
    let out = pin(&mut peer, &chain[1]);
    let expected = Pin { at: chain[1].link(), cause: Cause::User };
    let shown = Output::Shown { from: Some(chain[4].link()), to: chain[1].link() };
    assert_eq!(out, [Output::Pinned(Some(expected)), shown]);
    peer.learn(&world.grow(last(&chain), 0, "more", 30));
    assert_eq!((peer.chain.shown(), peer.chain.height()), (Some(chain[1].link()), Height(35)));
    assert_eq!(pin(&mut peer, &chain[1]), [], "twice is once");
    let head = peer.chain.head();
    assert_eq!(
        peer.handle(Input::Pin(None)),
        [Output::Pinned(None), Output::Shown { from: Some(chain[1].link()), to: head }]
    );
}

#[test]
fn a_pin_moves_along_with_own_writes_and_with_no_others_l_1575_1600() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    let chain = world.grow(&world.genesis, 0, "m", 5);
    peer.learn(&chain);
    pin(&mut peer, &chain[1]);
    let theirs = world.child(&chain[1], 0, "theirs");
    peer.learn(std::slice::from_ref(&theirs));
    assert_eq!(peer.chain.pin().unwrap().at, chain[1].link());
    let mine = world.child(&chain[1], 1, "mine");
    let out = peer.take(&mine, Source::Own);
    assert!(out.contains(&Output::Pinned(Some(Pin { at: mine.link(), cause: Cause::User }))), "{out:?}");
    assert_eq!(peer.chain.shown(), Some(chain[1].link()), "until it is complete");
    peer.complete(&mine);
    assert_eq!((peer.chain.shown(), peer.chain.head()), (Some(mine.link()), chain[4].link()));
}

#[test]
fn a_pin_to_what_is_not_known_changes_nothing() {
    let world = World::fixed(0, 10);
    let mut peer = Peer::of(&world);
    let chain = world.grow(&world.genesis, 0, "m", 2);
    peer.learn(&chain[..1]);
    assert_eq!(pin(&mut peer, &chain[1]), []);
    assert_eq!(peer.chain.pin(), None);
}

#[test]
fn a_pin_and_a_policy_survive_a_restart() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    let chain = world.grow(&world.genesis, 0, "m", 5);
    peer.learn(&chain);
    pin(&mut peer, &chain[2]);
    let policy = Policy { reorganisation: OnReorganisation::Hold, fork: OnFork::Refuse, ..Policy::default() };
    assert_eq!(peer.handle(Input::Policy(policy)), [Output::Save]);
    let load = |saved| Chain::load(&world.genesis, [world.list.clone()], peer.chain.records(), saved).unwrap();
    let again = load(peer.chain.saved());
    assert_eq!((again.saved(), again.shown()), (peer.chain.saved(), Some(chain[2].link())));
    let lost = Pin { at: crate::bucket::testing::link("lost"), cause: Cause::User };
    let again = load(Saved { pin: Some(lost), ..Saved::default() });
    assert_eq!((again.pin(), again.shown()), (None, Some(chain[4].link())), "a pin to what is not there is no pin");
}

/// A peer with the policy to hold, after a chain of 12, and a longer one that leaves all of it behind.
fn held() -> (World, Peer, Vec<VerifiedManifest>, Vec<VerifiedManifest>, Vec<Output>) {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    peer.handle(Input::Policy(Policy { reorganisation: OnReorganisation::Hold, ..Policy::default() }));
    let (old, new) = (world.grow(&world.genesis, 0, "old", 12), world.grow(&world.genesis, 1, "new", 13));
    peer.learn(&old);
    let out = peer.learn(&new);
    (world, peer, old, new, out)
}

#[test]
fn a_deep_reorganisation_can_be_held_and_then_be_adopted_l_1636_1670() {
    let (_, mut peer, old, new, out) = held();
    let pin = Pin { at: last(&old).link(), cause: Cause::Held };
    assert!(out.contains(&Output::Pinned(Some(pin))), "{out:?}");
    assert_eq!((peer.chain.head(), peer.chain.shown()), (last(&new).link(), Some(last(&old).link())));
    peer.handle(Input::Pin(None));
    assert_eq!(peer.chain.shown(), Some(last(&new).link()));
}

#[test]
fn what_is_held_is_let_go_once_the_head_comes_back_to_it() {
    let (world, mut peer, old, ..) = held();
    let back = world.grow(last(&old), 0, "back", 3);
    let out = peer.learn(&back);
    assert!(out.contains(&Output::Pinned(None)), "{out:?}");
    assert_eq!((peer.chain.pin(), peer.chain.shown()), (None, Some(last(&back).link())));
}

#[test]
fn a_shallow_reorganisation_is_not_held() {
    let world = World::fixed(1, 10);
    let mut peer = Peer::of(&world);
    peer.handle(Input::Policy(Policy { reorganisation: OnReorganisation::Hold, ..Policy::default() }));
    peer.learn(&world.grow(&world.genesis, 0, "old", 4));
    let new = world.grow(&world.genesis, 1, "new", 5);
    peer.learn(&new);
    assert_eq!((peer.chain.pin(), peer.chain.shown()), (None, Some(last(&new).link())));
}

#[test]
fn writes_can_be_refused_while_a_fork_is_live_l_1009_1038() {
    let world = World::fixed(1, 2);
    let mut peer = Peer::of(&world);
    let (a, b) = (world.grow(&world.genesis, 0, "a", 4), world.child(&world.genesis, 1, "b"));
    peer.learn(&a[..1]);
    peer.learn(std::slice::from_ref(&b));
    assert_eq!(peer.chain.may_publish(), Ok(()));
    peer.handle(Input::Policy(Policy { fork: OnFork::Refuse, ..Policy::default() }));
    assert_eq!(peer.chain.may_publish(), Err(Refusal::Forked));
    peer.learn(&a[1..]);
    assert_eq!(peer.chain.may_publish(), Ok(()), "the fork is over");
}
