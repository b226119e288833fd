//! Two devices that wrote without each other, and what both have in the end.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;
use crate::bucket::Role;
use crate::chain::{OnFork, Policy};
use crate::publish::tests::Pair;
use crate::tree::{Body, Clash, Content, DirEntry, FileId, Name, Record, Target, Time};

/// Writes a file below the root, or removes it, and publishes that.
fn write(bucket: &Bucket, name: &str, text: Option<&str>) -> Link {
    let mut superblock = bucket.superblock().unwrap();
    let name = Name::new(name.as_bytes()).unwrap();
    let body = superblock.root.directory().unwrap().clone();
    let there = body.lookup(bucket.vault(), name.as_bytes()).unwrap();
    let time = Time { secs: 7, nanos: 0 };
    let entry = text.map(|text| {
        let id = there.map_or_else(FileId::random, |there| there.id());
        let (mode, body) = (0o644, Body::File(Content::inline(text.as_bytes()).unwrap()));
        let times =
            Record { id, mode, mtime: time, ctime: time, btime: time, atime: None, body, ..superblock.root.clone() };
        DirEntry { name: name.clone(), target: Target::Record(Box::new(times)) }
    });
    superblock.root.body = Body::Directory(body.apply(bucket.vault(), vec![(name, entry)]).unwrap());
    bucket.begin(&superblock, bucket.head(), 0).unwrap().publish().unwrap()
}

fn files(bucket: &Bucket) -> BTreeMap<String, String> {
    let superblock = bucket.superblock().unwrap();
    let text = |entry: DirEntry| {
        let Target::Record(record) = entry.target else { panic!("one name") };
        let Body::File(content) = record.body else { panic!("a file") };
        let mut bytes = vec![0; usize::try_from(content.size()).unwrap()];
        content.read(bucket.vault(), 0, &mut bytes).unwrap();
        (String::from_utf8(entry.name.as_bytes().to_vec()).unwrap(), String::from_utf8(bytes).unwrap())
    };
    superblock.root.directory().unwrap().list(bucket.vault(), None).map(|entry| text(entry.unwrap())).collect()
}

fn has(bucket: &Bucket, expected: &[(&str, &str)]) {
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    assert_eq!(files(bucket), expected);
}

fn done(bucket: &Bucket) -> Outcome {
    match bucket.reapply().unwrap() {
        Reapplied::Done(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

/// A pair with a file; then A writes twice without B.
fn forked(a: &str, b: &[(&str, Option<&str>)]) -> Pair {
    let pair = Pair::new(Role::Writer);
    write(pair.a(), "both", Some("0"));
    pair.meet();
    write(pair.a(), "longer", Some("a"));
    write(pair.a(), a, Some("a"));
    write(pair.a(), "longest", Some("a"));
    for (name, text) in b {
        write(pair.b(), name, *text);
    }
    pair.meet();
    pair
}

#[test]
fn what_both_wrote_is_there_on_both() {
    let pair = forked("mine", &[("yours", Some("b")), ("both", Some("b"))]);
    let outcome = done(pair.b());
    assert_eq!((outcome.leaves.len(), &outcome.left_out[..]), (1, &[][..]));
    assert_eq!(outcome.published, Some(pair.b().head()));
    pair.meet();
    let all = [("both", "b"), ("longer", "a"), ("longest", "a"), ("mine", "a"), ("yours", "b")];
    has(pair.a(), &all);
    has(pair.b(), &all);
    assert_eq!(pair.a().head(), pair.b().head());
    assert_eq!(pair.b().reapply().unwrap(), Reapplied::Nothing, "it is carried");
    assert_eq!(pair.a().reapply().unwrap(), Reapplied::Nothing, "nothing of its own lost");
}

#[test]
fn what_both_wrote_differently_is_told_and_the_winner_stays() {
    let pair = forked("both", &[("both", Some("b"))]);
    let outcome = done(pair.b());
    assert_eq!(outcome.published, None);
    let told: Vec<_> = outcome.left_out.iter().map(|left| (&left.path[..], left.conflict.why)).collect();
    assert_eq!(told, [(&b"both"[..], Clash::Content)]);
    assert_eq!(files(pair.b())["both"], "a");
    assert_eq!(pair.b().reapply().unwrap(), Reapplied::Nothing, "it is settled");
    assert_eq!((pair.b().counters().settled, pair.b().counters().reapply_conflicts), (1, 1));
}

#[test]
fn the_same_from_both_is_settled_and_an_edit_outlives_a_removal() {
    let pair = forked("both", &[("both", Some("a"))]);
    let outcome = done(pair.b());
    assert_eq!((outcome.published, outcome.left_out.len()), (None, 0));
    let pair = forked("both", &[("both", None)]);
    assert_eq!(done(pair.b()).published, None);
    assert_eq!(files(pair.b())["both"], "a");
    let pair = forked("mine", &[("both", None)]);
    assert!(done(pair.b()).published.is_some());
    pair.meet();
    assert!(!files(pair.a()).contains_key("both"), "removed by one alone");
}

#[test]
fn it_is_found_again_after_a_restart_before_and_after() {
    let mut pair = forked("mine", &[("yours", Some("b"))]);
    pair.restart(1);
    assert!(done(pair.b()).published.is_some());
    pair.restart(1);
    assert_eq!(pair.b().reapply().unwrap(), Reapplied::Nothing);
    assert_eq!(files(pair.b())["yours"], "b");
    let mut pair = forked("both", &[("both", Some("b"))]);
    assert_eq!(done(pair.b()).published, None);
    pair.restart(1);
    assert_eq!(pair.b().reapply().unwrap(), Reapplied::Nothing, "settled is durable");
}

#[test]
fn nothing_is_published_while_pinned_or_against_the_policy_or_by_who_may_not_write() {
    let pair = forked("mine", &[("yours", Some("b"))]);
    pair.b().pin(Some(pair.b().head())).unwrap();
    assert_eq!(pair.b().reapply().unwrap(), Reapplied::NotNow);
    pair.b().pin(None).unwrap();
    pair.b().set_policy(Policy { fork: OnFork::Refuse, ..Policy::default() }).unwrap();
    assert_eq!(pair.b().reapply().unwrap(), Reapplied::NotNow, "there are two tips");
    pair.b().set_policy(Policy::default()).unwrap();
    pair.a().change_role(&pair.owner, &pair.devices[1].id(), Role::Reader).unwrap();
    pair.meet();
    assert_eq!(pair.b().reapply().unwrap(), Reapplied::NotNow);
}

#[test]
fn work_of_an_older_epoch_is_brought_into_a_newer_one() {
    let pair = forked("mine", &[("yours", Some("b"))]);
    let guest = crate::bucket::DeviceKey::generate();
    let label = crate::crypto::label::Label::new("guest").unwrap();
    pair.a().admit(&pair.owner, &guest.identity(pair.a().id()), Role::Reader, &label).unwrap();
    pair.a().remove(&pair.owner, &guest.id()).unwrap();
    pair.meet();
    assert!(done(pair.b()).published.is_some());
    pair.meet();
    assert_eq!((pair.a().head(), &files(pair.a())["yours"][..]), (pair.b().head(), "b"));
}

#[test]
fn two_writers_agree_after_each_round() {
    let pair = Pair::new(Role::Writer);
    for round in 0..6 {
        write(pair.a(), &format!("a{round}"), Some("a"));
        write(pair.b(), &format!("b{round}"), Some("b"));
        pair.meet();
        for at in [pair.a(), pair.b()] {
            at.reapply().unwrap();
        }
        pair.meet();
        assert_eq!((pair.a().head(), files(pair.a()).len()), (pair.b().head(), 2 * (round + 1)));
        assert_eq!(files(pair.a()), files(pair.b()));
    }
}
