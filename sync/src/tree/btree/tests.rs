#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;
use crate::limits::NODE_BYTES;
use crate::tree::testing::{Lab, entry};
use crate::tree::{DirEntry, Name};

type Model = BTreeMap<Name, DirEntry>;
type Change = (Name, Option<DirEntry>);

fn change(number: u32, seed: Option<u64>) -> Change {
    // Names of many lengths, and a few entries as large as a node.
    let name = format!("{:05}{}", number, "x".repeat((number as usize * 37) % 200));
    let mut item = entry(&name, seed.unwrap_or(0));
    if number.is_multiple_of(97)
        && let crate::tree::Target::Record(record) = &mut item.target
    {
        record.xattrs.set(b"user.large", &vec![1; 20_000 + number as usize % 20_000]).unwrap();
    }
    (item.name.clone(), seed.map(|_| item))
}

/// Counts nodes; checks what holds of every tree.
fn check(vault: &Vault, tree: &Tree<DirEntry>, model: &Model) {
    let found: Vec<_> = tree.iter(vault).collect::<Result<_, _>>().unwrap();
    assert!(found.iter().eq(model.values()));
    assert_eq!((tree.count(), tree.is_empty()), (model.len() as u64, model.is_empty()));
    let Some(root) = tree.open(vault).unwrap() else { return };
    let mut open = vec![root];
    while let Some(at) = open.pop() {
        let mut out = Encoder::new();
        at.node.encode(&mut out);
        let weight = out.weight();
        match &*at.node {
            Node::Leaf(items) => assert!(weight <= NODE_BYTES + 100 || items.len() == 1, "{weight}"),
            Node::Branch { children, .. } => {
                assert!(weight <= NODE_BYTES + 100 && children.len() > 1, "{weight}");
                open.extend((0..children.len()).map(|index| at.child(vault, index).unwrap().unwrap()));
            }
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let one = (0u32..3_000, prop::option::weighted(0.6, any::<u64>())).prop_map(|(number, seed)| change(number, seed));
    let run = (0u32..3_000, 1u32..900, prop::option::weighted(0.5, any::<u64>()))
        .prop_map(|(from, len, seed)| (from..from + len).map(|number| change(number, seed)).collect::<Vec<_>>());
    prop_oneof![prop::collection::vec(one, 0..40), run]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_tree_is_a_sorted_map_after_any_changes(batches in prop::collection::vec(changes(), 1..8), probe in 0u32..3_000) {
        let lab = Lab::new();
        let (mut tree, mut model) = (Tree::empty(), Model::new());
        for batch in batches {
            let before = (tree.clone(), model.clone());
            tree = tree.apply(&lab.vault, batch.clone()).unwrap();
            for (key, item) in batch {
                match item {
                    Some(item) => drop(model.insert(key, item)),
                    None => drop(model.remove(&key)),
                }
            }
            check(&lab.vault, &tree, &model);
            check(&lab.vault, &before.0, &before.1);
            let (key, _) = change(probe, None);
            assert_eq!(tree.get(&lab.vault, &key).unwrap().as_ref(), model.get(&key));
            assert_eq!(tree.floor(&lab.vault, &key).unwrap().as_ref(), model.range::<Name, _>(..=&key).next_back().map(|(_, item)| item));
            for start in [Bound::Included(&key), Bound::Excluded(&key)] {
                let found: Vec<_> = tree.range(&lab.vault, start).take(20).map(Result::unwrap).collect();
                assert!(found.iter().eq(model.range::<Name, _>((start, Bound::Unbounded)).take(20).map(|(_, item)| item)));
            }
            compare(&lab.vault, &before, &(tree.clone(), model.clone()));
            compare(&lab.vault, &(tree.clone(), model.clone()), &before);
        }
        let all = model.keys().map(|key| (key.clone(), None)).collect();
        assert_eq!(tree.apply(&lab.vault, all).unwrap(), Tree::empty());
    }

    #[test]
    fn a_cleared_range_is_gone_and_nothing_else(from in 0u32..3_000, len in 0u32..3_000, puts in prop::collection::btree_set(0u32..3_000, 0..20)) {
        let lab = Lab::new();
        let mut model: Model = (0..3_000).map(|number| change(number, Some(1))).map(|(key, item)| (key, item.unwrap())).collect();
        let tree = Tree::empty().apply(&lab.vault, (0..3_000).map(|number| change(number, Some(1))).collect()).unwrap();
        let (start, end) = (change(from, None).0, change(from + len, None).0);
        let puts: Vec<_> = puts.into_iter().filter_map(|number| change(number, Some(2)).1).collect();
        let tree = tree.edit(&lab.vault, &[(start.clone(), end.clone())], &puts).unwrap();
        model.retain(|key, _| *key < start || *key > end);
        model.extend(puts.into_iter().map(|item| (item.name.clone(), item)));
        check(&lab.vault, &tree, &model);
    }
}

fn compare(vault: &Vault, old: &(Tree<DirEntry>, Model), new: &(Tree<DirEntry>, Model)) {
    let found: Vec<_> = old.0.diff(vault, &new.0).collect::<Result<_, _>>().unwrap();
    let keys: std::collections::BTreeSet<_> = old.1.keys().chain(new.1.keys()).collect();
    let expected: Vec<_> = keys
        .into_iter()
        .map(|key| Difference { old: old.1.get(key).cloned(), new: new.1.get(key).cloned() })
        .filter(|difference| difference.old != difference.new)
        .collect();
    assert_eq!(found, expected);
}

fn hundred_thousand(lab: &Lab) -> Tree<DirEntry> {
    let names = (0..100_000).map(|number| entry(&format!("file-{number:06}.txt"), number));
    Tree::empty().apply(&lab.vault, names.map(|item| (item.name.clone(), Some(item))).collect()).unwrap()
}

#[test]
fn one_name_among_a_hundred_thousand_costs_three_nodes() {
    let lab = Lab::new();
    let tree = hundred_thousand(&lab);
    let before = lab.vault.store().stats().unwrap();
    let new = entry("file-050000.txt", 7);
    let edited = tree.apply(&lab.vault, vec![(new.name.clone(), Some(new.clone()))]).unwrap();
    let after = lab.vault.store().stats().unwrap();
    assert_eq!(after.put_blocks - before.put_blocks, 3);
    assert!(after.put_bytes - before.put_bytes < 64 << 10, "{}", after.put_bytes - before.put_bytes);
    let differences: Vec<_> = tree.diff(&lab.vault, &edited).collect::<Result<_, _>>().unwrap();
    let old = tree.get(&lab.vault, &new.name).unwrap();
    assert_eq!(differences, [Difference { old, new: Some(new) }]);
    assert_eq!(edited.count(), 100_000);
}

#[test]
fn a_diff_reads_only_what_is_not_shared() {
    let lab = Lab::new();
    let tree = hundred_thousand(&lab);
    // One name more at the very front, so that leaves and branches no longer stand at the same index.
    let many = (0..200).map(|number| entry(&format!("a{number}"), number)).map(|item| (item.name.clone(), Some(item)));
    let edited = tree.apply(&lab.vault, many.collect()).unwrap();
    lab.vault.set_node_capacity(0);
    lab.vault.set_node_capacity(24 << 20);
    assert_eq!(tree.diff(&lab.vault, &edited).count(), 200);
    assert!(lab.vault.cached_nodes() < 20, "{}", lab.vault.cached_nodes());
}

#[test]
fn removing_most_names_leaves_no_crumbs_of_nodes() {
    let lab = Lab::new();
    let mut tree = hundred_thousand(&lab);
    let all: Vec<_> = (0..100_000).filter(|number| number % 100 != 0).collect();
    for some in all.chunks(10_000) {
        let gone = some.iter().map(|number| (entry(&format!("file-{number:06}.txt"), 0).name, None));
        tree = tree.apply(&lab.vault, gone.collect()).unwrap();
    }
    let Some(root) = tree.open(&lab.vault).unwrap() else { panic!("1,000 names are left") };
    let Node::Branch { level: 1, children } = &*root.node else { panic!("two levels are enough for them") };
    assert_eq!(tree.count(), 1_000);
    assert!(children.len() <= 1_000 * 85 / (NODE_BYTES / 4) + 1, "{}", children.len());
}

#[test]
fn a_change_that_changes_nothing_writes_nothing() {
    let lab = Lab::new();
    let tree = hundred_thousand(&lab);
    let written = lab.written();
    let same = tree.get(&lab.vault, &entry("file-000100.txt", 0).name).unwrap().unwrap();
    let gone = entry("nobody", 0).name;
    let after = tree.apply(&lab.vault, vec![(same.name.clone(), Some(same)), (gone, None)]).unwrap();
    assert_eq!((after, lab.written()), (tree, written));
}

#[test]
fn of_equal_keys_the_last_change_counts() {
    let lab = Lab::new();
    let (a, b) = (entry("a", 1), entry("a", 2));
    let name = a.name.clone();
    let changes = vec![(name.clone(), Some(b)), (name.clone(), None), (name.clone(), Some(a.clone()))];
    let tree = Tree::empty().apply(&lab.vault, changes).unwrap();
    assert_eq!(tree.iter(&lab.vault).map(Result::unwrap).collect::<Vec<_>>(), [a]);
}

/// A branch that lies about its children is found out, whichever way it is used.
#[test]
fn a_branch_that_lies_about_its_children_is_malformed() {
    let lab = Lab::new();
    let leaf = |names: &[&str]| {
        let items: Vec<_> = names.iter().map(|name| entry(name, 1)).collect();
        let (first, count) = (items[0].name.clone(), items.len() as u64);
        Child { first, count, sum: 0, at: lab.vault.put_node(Node::Leaf(items)).unwrap() }
    };
    let tree = |level, children: Vec<Child<Name>>| {
        let count = children.iter().map(|child| child.count).sum();
        let root = lab.vault.put_node(Node::<DirEntry>::Branch { level, children }).unwrap();
        Tree::<DirEntry> { root: Some(root), count, sum: 0, item: PhantomData }
    };
    let honest = vec![leaf(&["a", "b"]), leaf(&["c", "d"])];
    assert_eq!(tree(1, honest.clone()).iter(&lab.vault).filter(Result::is_ok).count(), 4);
    let mut count = honest.clone();
    count[1].count = 3;
    let mut first = honest.clone();
    first[1].first = Name::new(b"bb").unwrap();
    let overlap = vec![leaf(&["a", "x"]), leaf(&["c", "d"])];
    for lie in [tree(1, count), tree(1, first), tree(1, overlap), tree(2, honest)] {
        let error = lie.iter(&lab.vault).find_map(Result::err);
        assert!(matches!(error, Some(TreeError::Malformed { .. })), "{error:?}");
        let all = vec![(Name::new(b"a").unwrap(), None), (Name::new(b"d").unwrap(), None)];
        assert!(lie.apply(&lab.vault, all).is_err());
        assert!(lie.diff(&lab.vault, &Tree::empty()).any(|difference| difference.is_err()));
    }
}
