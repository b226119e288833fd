//! Versions that are drawn, both ways round.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::tree::differences::tests::{Edit, Node, Version, any_edit, edit, everything, names, stored};
use crate::tree::testing::Lab;
use crate::tree::{Content, Vault};

fn empty() -> Version {
    Version::from([(0, Node::Directory(BTreeMap::new()))])
}

fn done(version: &Version, edits: &[Edit], mut next: u64) -> Version {
    let mut version = version.clone();
    edits.iter().for_each(|change| edit(&mut version, change, &mut next));
    version
}

/// What is at each path, and how many names it has. Fails where a name leads nowhere.
fn shown(vault: &Vault, superblock: &Superblock) -> BTreeMap<Vec<u8>, (Kind, u64, Option<Content>, u16)> {
    let (mut all, mut ids, mut open) = (BTreeMap::new(), BTreeMap::new(), vec![(Vec::new(), superblock.root.clone())]);
    while let Some((path, directory)) = open.pop() {
        for entry in directory.directory().unwrap().list(vault, None) {
            let DirEntry { name, target } = entry.unwrap();
            let path = [&path[..], b"/", name.as_bytes()].concat();
            let (record, nlink) = match target {
                Target::Record(record) => (*record, 1),
                Target::Shared { id, .. } => {
                    let inode = superblock.inodes.get(vault, &id).unwrap().expect("a row for each name");
                    (inode.record, inode.nlink)
                }
            };
            *ids.entry(record.id).or_insert(0) += 1;
            let content = match &record.body {
                Body::File(content) => Some(content.clone()),
                _ => None,
            };
            all.insert(path.clone(), (record.id, (record.kind(), nlink, content, record.mode)));
            if record.kind() == Kind::Directory {
                open.push((path, record));
            }
        }
    }
    for (path, (id, (_, nlink, ..))) in &all {
        assert_eq!(ids[id], *nlink, "as many names of {} as are counted: {all:?}", String::from_utf8_lossy(path));
    }
    for inode in superblock.inodes.iter(vault) {
        assert!(ids.contains_key(&inode.unwrap().record.id), "no row without a name");
    }
    all.into_iter().map(|(path, (_, shown))| (path, shown)).collect()
}

fn clean(merge: Merge) -> Option<Superblock> {
    match merge {
        Merge::Clean(superblock) => Some(*superblock),
        Merge::Conflicts(conflicts) => {
            assert!(!conflicts.is_empty(), "a reason");
            None
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_only_one_side_changed_is_what_it_has(
        before in prop::collection::vec(any_edit(), 0..30),
        after in prop::collection::vec(any_edit(), 0..12),
    ) {
        let lab = Lab::new();
        let vault = &lab.vault;
        let first = done(&empty(), &before, 0);
        let second = done(&first, &after, 1000);
        let (base, changed) = (stored(vault, &first), stored(vault, &second));
        for merged in [merge(vault, &base, &changed, &base).unwrap(), merge(vault, &base, &base, &changed).unwrap()] {
            prop_assert_eq!(clean(merged), Some(changed.clone()));
        }
        prop_assert_eq!(clean(merge(vault, &base, &changed, &changed).unwrap()), Some(changed));
    }

    #[test]
    fn a_merge_is_the_same_from_both_sides_and_is_whole(
        before in prop::collection::vec(any_edit(), 0..30),
        here in prop::collection::vec(any_edit(), 0..8),
        there in prop::collection::vec(any_edit(), 0..8),
    ) {
        let lab = Lab::new();
        let vault = &lab.vault;
        let first = done(&empty(), &before, 0);
        let (ours, theirs) = (done(&first, &here, 1000), done(&first, &there, 2000));
        let (base, ours, theirs) = (stored(vault, &first), stored(vault, &ours), stored(vault, &theirs));
        let one = clean(merge(vault, &base, &ours, &theirs).unwrap());
        let other = clean(merge(vault, &base, &theirs, &ours).unwrap());
        if let Some(merged) = &one {
            let between = |from: &Superblock, to: &Superblock| Differences::between(vault, from, to).unwrap();
            let (here, there) = (between(&base, &ours), between(&base, &theirs));
            for (own, other, side) in [(&here, &there, &ours), (&there, &here, &theirs)] {
                let since = between(side, merged);
                for (id, sides) in own.files.iter().filter(|(id, _)| !other.files.contains_key(id)) {
                    let Some(new) = sides.new.as_ref().filter(|new| new.record.kind() != Kind::Directory) else { continue };
                    // What both made alike is one.
                    let is_one = sides.old.is_none()
                        && matches!(&new.links, Links::One(at, name) if other.names.contains_key(&(*at, name.clone())));
                    let is_kept = since.files.get(id).is_none_or(|sides| {
                        sides.new.as_ref().is_some_and(|kept| kept.record == new.record)
                    });
                    prop_assert!(is_kept || is_one, "what one side alone changed is there");
                }
            }
        }
        let shown = |merged: Option<Superblock>| merged.map(|merged| shown(vault, &merged));
        // What is removed is not made again for what is added to it: that is a conflict, and the other way round is none.
        if let (Some(one), Some(other)) = (shown(one), shown(other)) {
            prop_assert_eq!(one, other);
        }
    }
}

/// A version with one directory, `d`, and files in it and beside it.
fn start() -> Version {
    let mut version = empty();
    version.insert(1, Node::Directory(BTreeMap::from([(b"inner".to_vec(), 2)])));
    version.extend([(2, Node::File(2)), (3, Node::File(3)), (4, Node::File(4))]);
    names(&mut version, 0).extend([(b"d".to_vec(), 1), (b"a".to_vec(), 3), (b"b".to_vec(), 4)]);
    version
}

type Change = fn(&mut Version);

/// What comes of two changes to that: paths, with the content of files.
fn both(ours: Change, theirs: Change) -> Result<Vec<(String, Option<u8>)>, Vec<Clash>> {
    let lab = Lab::new();
    let vault = &lab.vault;
    let base = stored(vault, &start());
    let [ours, theirs] = [ours, theirs].map(|change| {
        let mut version = start();
        change(&mut version);
        stored(vault, &version)
    });
    match merge(vault, &base, &ours, &theirs).unwrap() {
        Merge::Conflicts(conflicts) => Err(conflicts.iter().map(|conflict| conflict.why).collect()),
        Merge::Clean(merged) => Ok(shown(vault, &merged)
            .into_iter()
            .map(|(path, (_, _, content, _))| {
                let byte = |content: Content| {
                    let mut byte = [0];
                    content.read(vault, 0, &mut byte).unwrap();
                    byte[0]
                };
                (String::from_utf8(path).unwrap(), content.map(byte))
            })
            .collect()),
    }
}

fn add(version: &mut Version, directory: u64, name: &str, id: u64, node: Node) {
    names(version, directory).insert(name.as_bytes().to_vec(), id);
    version.insert(id, node);
}

fn remove(version: &mut Version, directory: u64, name: &str, ids: &[u64]) {
    names(version, directory).remove(name.as_bytes());
    ids.iter().for_each(|id| drop(version.remove(id)));
}

fn rename(version: &mut Version, from: (u64, &str), to: (u64, &str)) {
    let id = names(version, from.0).remove(from.1.as_bytes()).unwrap();
    names(version, to.0).insert(to.1.as_bytes().to_vec(), id);
}

#[test]
fn a_rename_is_followed_by_who_edits() {
    let edited: Change = |version| drop(version.insert(3, Node::File(9)));
    let renamed: Change = |version| rename(version, (0, "a"), (1, "moved"));
    for found in [both(edited, renamed), both(renamed, edited)] {
        assert!(found.unwrap().contains(&("/d/moved".to_owned(), Some(9))));
    }
}

#[test]
fn what_was_edited_is_not_deleted() {
    let edited: Change = |version| drop(version.insert(3, Node::File(9)));
    let deleted: Change = |version| remove(version, 0, "a", &[3]);
    for found in [both(edited, deleted), both(deleted, edited)] {
        assert!(found.unwrap().contains(&("/a".to_owned(), Some(9))));
    }
    let below: Change = |version| drop(version.insert(2, Node::File(9)));
    let tree: Change = |version| remove(version, 0, "d", &[1, 2]);
    assert!(both(tree, below).unwrap().contains(&("/d/inner".to_owned(), Some(9))));
    assert!(both(below, tree).is_err(), "its directory is gone");
}

#[test]
fn directories_that_both_made_are_one() {
    let one: Change = |version| {
        add(version, 0, "new", 100, Node::Directory(BTreeMap::new()));
        add(version, 100, "mine", 101, Node::File(1));
        add(version, 100, "same", 102, Node::File(5));
        add(version, 100, "deep", 103, Node::Directory(BTreeMap::new()));
        add(version, 103, "one", 104, Node::File(1));
    };
    let other: Change = |version| {
        add(version, 0, "new", 200, Node::Directory(BTreeMap::new()));
        add(version, 200, "theirs", 201, Node::File(2));
        add(version, 200, "same", 202, Node::File(5));
        add(version, 200, "deep", 203, Node::Directory(BTreeMap::new()));
        add(version, 203, "other", 204, Node::File(2));
    };
    let found = both(one, other).unwrap();
    for (path, content) in [("mine", 1), ("theirs", 2), ("same", 5), ("deep/one", 1), ("deep/other", 2)] {
        assert!(found.contains(&(format!("/new/{path}"), Some(content))), "{path} in {found:?}");
    }
}

#[test]
fn what_can_not_be_both_is_said() {
    let edit_of: [Change; 2] =
        [|version| drop(version.insert(3, Node::File(8))), |version| drop(version.insert(3, Node::File(9)))];
    assert_eq!(both(edit_of[0], edit_of[1]), Err(vec![Clash::Content]));
    let made: [Change; 2] =
        [|version| add(version, 0, "new", 100, Node::File(1)), |version| add(version, 0, "new", 200, Node::File(2))];
    assert_eq!(both(made[0], made[1]), Err(vec![Clash::Name]));
    let moved: [Change; 2] =
        [|version| rename(version, (0, "a"), (0, "x")), |version| rename(version, (0, "a"), (0, "y"))];
    assert_eq!(both(moved[0], moved[1]), Err(vec![Clash::Place]));
    let cycle: [Change; 2] = [
        |version| {
            add(version, 0, "e", 100, Node::Directory(BTreeMap::new()));
            rename(version, (0, "d"), (100, "d"));
        },
        |version| remove(version, 1, "inner", &[2]),
    ];
    assert!(both(cycle[0], cycle[1]).is_ok(), "no cycle yet");
}

#[test]
fn everything_of_a_version_is_found_by_the_tests_own_means() {
    let lab = Lab::new();
    let version = start();
    assert_eq!(everything(&lab.vault, &version).0.len(), shown(&lab.vault, &stored(&lab.vault, &version)).len());
}

/// A version that a partial merge made.
fn parted(vault: &Vault, base: &Superblock, ours: &Superblock, theirs: &Superblock) -> Partial {
    let partial = merge_in_part(vault, base, ours, theirs).unwrap();
    shown(vault, &partial.merged);
    partial
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_merge_in_part_is_whole_and_takes_nothing_back_and_brings_nothing_new_the_second_time(
        before in prop::collection::vec(any_edit(), 0..30),
        here in prop::collection::vec(any_edit(), 0..10),
        there in prop::collection::vec(any_edit(), 0..10),
    ) {
        let lab = Lab::new();
        let vault = &lab.vault;
        let first = done(&empty(), &before, 0);
        let (ours, theirs) = (done(&first, &here, 1000), done(&first, &there, 2000));
        let (base, ours, theirs) = (stored(vault, &first), stored(vault, &ours), stored(vault, &theirs));
        let partial = parted(vault, &base, &ours, &theirs);
        match clean(merge(vault, &base, &ours, &theirs).unwrap()) {
            Some(merged) => {
                prop_assert!(partial.left_out.is_empty());
                prop_assert_eq!(&partial.merged, &merged);
            }
            None => prop_assert!(!partial.left_out.is_empty()),
        }
        let between = |from: &Superblock, to: &Superblock| Differences::between(vault, from, to).unwrap();
        let (own, other, since) = (between(&base, &ours), between(&base, &theirs), between(&theirs, &partial.merged));
        let out: BTreeSet<_> = partial.left_out.iter().map(|left| left.conflict.id).collect();
        // What the other side made or changed is as it made it, unless this side changed the same file.
        for (id, sides) in other.files.iter().filter(|(id, _)| !own.files.contains_key(id) || out.contains(id)) {
            let Some(new) = sides.new.as_ref().filter(|new| new.record.kind() != Kind::Directory) else { continue };
            let now = since.files.get(id).map_or(Some(&new.record), |sides| sides.new.as_ref().map(|new| &new.record));
            prop_assert_eq!(now, Some(&new.record), "what the other side has is there");
        }
        // What this side alone changed is there, unless it is told.
        let kept = between(&ours, &partial.merged);
        for (id, sides) in own.files.iter().filter(|(id, _)| !other.files.contains_key(id) && !out.contains(id)) {
            let Some(new) = sides.new.as_ref().filter(|new| new.record.kind() != Kind::Directory) else { continue };
            let is_one = sides.old.is_none()
                && matches!(&new.links, Links::One(at, name) if other.names.contains_key(&(*at, name.clone())));
            let is_kept = kept.files.get(id).is_none_or(|sides| {
                sides.new.as_ref().is_some_and(|kept| kept.record == new.record)
            });
            prop_assert!(is_kept || is_one, "what this side alone changed is there");
        }
        prop_assert!(partial.is_new || since.names.is_empty());
        let again = parted(vault, &base, &ours, &partial.merged);
        prop_assert!(!again.is_new, "it is there already");
        prop_assert_eq!(shown(vault, &again.merged), shown(vault, &partial.merged));
    }
}

#[test]
fn what_can_not_be_both_stays_out_and_the_rest_comes() {
    let lab = Lab::new();
    let vault = &lab.vault;
    let version = |change: Change| {
        let mut version = start();
        change(&mut version);
        stored(vault, &version)
    };
    let base = version(|_| {});
    let ours = version(|version| {
        version.insert(3, Node::File(8));
        add(version, 0, "mine", 100, Node::File(1));
        add(version, 0, "new", 101, Node::Directory(BTreeMap::new()));
        add(version, 101, "same", 102, Node::File(1));
        add(version, 101, "one", 103, Node::File(1));
        rename(version, (0, "b"), (1, "b"));
    });
    let theirs = version(|version| {
        version.insert(3, Node::File(9));
        add(version, 0, "new", 201, Node::Directory(BTreeMap::new()));
        add(version, 201, "same", 202, Node::File(2));
    });
    let partial = parted(vault, &base, &ours, &theirs);
    let mut paths: Vec<_> = partial.left_out.iter().map(|left| String::from_utf8_lossy(&left.path)).collect();
    paths.sort();
    assert_eq!(paths, ["a", "new/same"]);
    let paths: Vec<_> =
        shown(vault, &partial.merged).into_keys().map(|path| String::from_utf8(path).unwrap()).collect();
    assert_eq!(paths, ["/a", "/d", "/d/b", "/d/inner", "/mine", "/new", "/new/one", "/new/same"]);
    assert!(partial.is_new);
}
