//! The chain in many worlds, each with its own faults. A failure prints the command that runs its schedule again.

use jaxfs_sim::run::{self, Order};
use jaxfs_sim::sim::WrongRule;

/// How many schedules to run; `JAXFS_SIM_SCHEDULES` in the environment says otherwise.
fn schedules() -> u64 {
    std::env::var("JAXFS_SIM_SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000)
}

#[test]
fn whatever_goes_wrong_the_chain_holds_and_all_agree_in_the_end() {
    let soaked = run::soak(0, schedules(), None, None);
    if let Some((order, failure)) = soaked.failed {
        panic!("seed {}: {failure}\n{}", order.seed, order.replay());
    }
    assert_eq!(soaked.schedules, schedules());
}

#[test]
fn the_schedules_meet_everything_that_can_happen() {
    let soaked = run::soak(0, 400, None, None);
    let often = |what| soaked.seen.get(what).copied().unwrap_or(0);
    for what in [
        "announced",
        "answer overdue",
        "clock set",
        "crash",
        "crash between outputs",
        "cut",
        "cut one way",
        "deep reorganisation",
        "deferred",
        "dropped",
        "epoch that nobody can show",
        "fork resolved",
        "head changed sides",
        "member promoted",
        "list stolen",
        "member removed",
        "node gone",
        "pinned",
        "rejected",
        "stale",
        "tip pruned",
    ] {
        assert!(often(what) > 0, "{what}: never; {:#?}", soaked.seen);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..40 {
        let order = Order { seed, ..Order::default() };
        let here = run::run(order);
        let there = std::thread::spawn(move || run::run(order)).join().expect("a run does not panic");
        assert_eq!(here, there, "seed {seed}");
        assert_ne!(here.hash, run::run(Order { seed: seed + 1, ..order }).hash);
    }
}

#[test]
fn a_rule_that_tests_the_finality_of_parents_is_noticed() {
    assert_noticed(WrongRule::ParentIsFinal);
}

#[test]
fn a_rule_that_tests_every_ancestor_as_if_it_were_a_tip_is_noticed() {
    assert_noticed(WrongRule::AncestorIsStale);
}

/// With this rule two sides that both grew beyond finality never come together again.
fn assert_noticed(rule: WrongRule) {
    let soaked = run::soak(0, 500, Some(rule), None);
    let (order, failure) = soaked.failed.expect("the wrong rule goes unnoticed");
    assert!(failure.what.contains("and node"), "{failure}");
    assert!(order.replay().contains(rule.name()), "{}", order.replay());
    assert!(run::run(order).failure.is_some(), "{}", order.replay());
    assert_eq!(run::run(Order { wrong_rule: None, ..order }).failure, None, "{}", order.replay());
}
