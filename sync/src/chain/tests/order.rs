//! The guarantees (protocol note, l. 783-799), over random trees of manifests.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

const DEPTH: u64 = 3;

static WORLD: LazyLock<(World, MemberList)> = LazyLock::new(|| {
    let world = World::fixed(2, DEPTH);
    let list = world.removing(&world.list, 2);
    (world, list)
});

/// A tree: each manifest has a parent among those before it, mostly a recent one; now and then the epoch is raised.
fn tree(choices: &[(u16, u8)]) -> Vec<VerifiedManifest> {
    let (world, list) = &*WORLD;
    let mut all = vec![world.genesis.clone()];
    for (at, (back, kind)) in choices.iter().enumerate() {
        let back = usize::from(*back) % if kind % 4 == 0 { all.len() } else { all.len().min(4) };
        let parent = all[all.len() - 1 - back].clone();
        let child = if *kind > 240 && parent.share.epoch == Epoch(0) {
            world.share(&parent, 0, list)
        } else {
            world.child(&parent, usize::from(kind % 2), &format!("{at}"))
        };
        if !all.contains(&child) {
            all.push(child);
        }
    }
    all.split_off(1)
}

fn choices() -> impl Strategy<Value = Vec<(u16, u8)>> {
    proptest::collection::vec((any::<u16>(), any::<u8>()), 1..40)
}

fn shuffled() -> impl Strategy<Value = (Vec<(u16, u8)>, Vec<usize>)> {
    choices().prop_flat_map(|choices| {
        let order: Vec<_> = (0..=choices.len()).collect();
        (Just(choices), Just(order).prop_shuffle())
    })
}

/// Hears all manifests in an order, the member list among them, and then has all nodes.
fn hear_in_order(manifests: &[VerifiedManifest], order: impl Iterator<Item = usize>) -> (Peer, Vec<Output>) {
    let (world, list) = &*WORLD;
    let (mut peer, mut out) = (Peer::of(world), Vec::new());
    for at in order {
        match manifests.get(at) {
            Some(manifest) => out.extend(peer.hear(manifest)),
            None => out.extend(peer.give(list)),
        }
    }
    peer.give(list);
    manifests.iter().for_each(|manifest| drop(peer.complete(manifest)));
    (peer, out)
}

/// The head and the tips, as the rule says them, without any cleverness.
fn by_the_rule(manifests: &[VerifiedManifest]) -> (Link, Vec<Link>) {
    let all: Vec<_> = manifests.iter().chain([&WORLD.0.genesis]).collect();
    let head = all.iter().max_by_key(|manifest| key_of(manifest)).unwrap();
    let is_leaf = |manifest: &VerifiedManifest| all.iter().all(|other| other.previous != Some(manifest.link()));
    let stale = |manifest: &VerifiedManifest| {
        manifest.share.epoch < head.share.epoch || head.height.0 > manifest.height.0 + DEPTH
    };
    let mut tips: Vec<_> = all.iter().filter(|manifest| is_leaf(manifest) && !stale(manifest)).collect();
    tips.sort_by_key(|manifest| key_of(manifest));
    (head.link(), tips.iter().map(|manifest| manifest.link()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whoever_knows_the_same_manifests_sees_the_same_whatever_came_first((choices, order) in shuffled()) {
        let manifests = tree(&choices);
        let (straight, _) = hear_in_order(&manifests, 0..manifests.len() + 1);
        let (other, out) = hear_in_order(&manifests, order.into_iter());
        prop_assert_eq!(other.view(), straight.view());
        prop_assert_eq!((other.chain.len(), other.chain.pending()), (manifests.len() + 1, 0), "nothing is lost");
        prop_assert!(rejected(&out).is_empty());
        let (head, tips) = by_the_rule(&manifests);
        prop_assert_eq!((other.chain.head(), other.tips()), (head, tips));
        prop_assert_eq!(other.chain.shown(), Some(head));
    }

    #[test]
    fn choosing_a_head_once_for_a_batch_gives_the_same_as_choosing_it_for_each_l_1060((choices, order) in shuffled()) {
        let manifests = tree(&choices);
        let (straight, _) = hear_in_order(&manifests, 0..manifests.len() + 1);
        let (batched, out) = hear_in_order(&manifests, order.into_iter());
        let last = out.iter().rev().find_map(|output| if let Output::Head { to, .. } = output { Some(*to) } else { None });
        prop_assert_eq!(last.unwrap_or(WORLD.0.genesis.link()), straight.chain.head(), "the last choice is the only one that counts");
        prop_assert_eq!(batched.chain.head(), straight.chain.head());
    }

    #[test]
    fn each_manifest_is_admitted_once_and_after_its_parent((choices, order) in shuffled()) {
        let manifests = tree(&choices);
        let (_, out) = hear_in_order(&manifests, order.into_iter());
        let mut known = std::collections::BTreeSet::from([WORLD.0.genesis.link()]);
        for output in &out {
            if let Output::Admitted(manifest) = output {
                prop_assert!(known.contains(&manifest.previous.unwrap()));
                prop_assert!(known.insert(manifest.link()));
            }
        }
    }

    #[test]
    fn the_head_only_ever_grows_and_fork_events_alternate((choices, order) in shuffled()) {
        let manifests = tree(&choices);
        let (peer, out) = hear_in_order(&manifests, order.into_iter());
        let key = |link: &Link| manifests.iter().find(|manifest| manifest.link() == *link).map(key_of);
        let mut forked = false;
        for output in &out {
            match output {
                Output::Head { from, to, .. } => prop_assert!(key(from) < key(to)),
                Output::ForkStarted => prop_assert!(!std::mem::replace(&mut forked, true)),
                Output::ForkResolved { .. } => prop_assert!(std::mem::replace(&mut forked, false)),
                _ => {}
            }
        }
        prop_assert_eq!(peer.chain.is_forked(), forked, "forks are always detected");
    }

    #[test]
    fn a_fork_ends_once_the_head_has_grown_by_finality_and_one(choices in choices()) {
        let manifests = tree(&choices);
        let (mut peer, _) = hear_in_order(&manifests, 0..manifests.len() + 1);
        let head = peer.chain.head();
        let head = manifests.iter().find(|manifest| manifest.link() == head).unwrap();
        let grown = WORLD.0.grow(head, 0, "grown", DEPTH as usize + 1);
        grown.iter().for_each(|manifest| drop(peer.hear(manifest)));
        prop_assert_eq!(peer.tips(), [last(&grown).link()], "one tip again");
    }

    #[test]
    fn ancestry_and_fork_points_are_what_walking_finds(choices in choices()) {
        let manifests = tree(&choices);
        let (peer, _) = hear_in_order(&manifests, 0..manifests.len() + 1);
        let walk = |link: &Link| peer.chain.ancestors(link).map(|record| record.link).collect::<Vec<_>>();
        for a in &manifests {
            for b in manifests.iter().step_by(3) {
                let (up, other) = (walk(&a.link()), walk(&b.link()));
                prop_assert_eq!(peer.chain.is_ancestor(&a.link(), &b.link()), Some(other.contains(&a.link())));
                let point = up.iter().find(|link| other.contains(link)).copied();
                prop_assert_eq!(peer.chain.fork_point(&a.link(), &b.link()), point);
            }
        }
    }

    #[test]
    fn a_chain_that_was_stored_is_the_same_chain(choices in choices()) {
        let manifests = tree(&choices);
        let (peer, _) = hear_in_order(&manifests, 0..manifests.len() + 1);
        let (world, list) = &*WORLD;
        let lists = [world.list.clone(), list.clone()];
        let forked = peer.chain.fork_detected_at();
        let again = Chain::load(&world.genesis, lists, peer.chain.records(), peer.chain.saved()).unwrap();
        let again = Peer { chain: again, now: 0 };
        prop_assert_eq!(again.view(), peer.view());
        prop_assert_eq!(again.chain.fork_detected_at(), forked);
        prop_assert_eq!(again.chain.records().collect::<Vec<_>>(), peer.chain.records().collect::<Vec<_>>());
    }
}
