//! Two versions that are drawn, and what is found against a look at every file of both.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::tree::testing::{Lab, record};
use crate::tree::{Body, Content};

/// A file of a drawn version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tree) enum Node {
    /// With this content.
    File(u8),
    /// One that has, or once had, several names.
    Linked(u8),
    Directory(BTreeMap<Vec<u8>, u64>),
}

/// Files by number; 0 is the root.
pub(in crate::tree) type Version = BTreeMap<u64, Node>;

/// Where a file is moved, made, changed or removed.
#[derive(Clone, Debug)]
pub(in crate::tree) struct Edit(u8, u8, u8, u8);

fn name(number: u8) -> Vec<u8> {
    vec![b'a' + number % 6]
}

pub(in crate::tree) fn names(version: &mut Version, directory: u64) -> &mut BTreeMap<Vec<u8>, u64> {
    match version.get_mut(&directory) {
        Some(Node::Directory(names)) => names,
        other => panic!("no directory: {other:?}"),
    }
}

fn directories(version: &Version) -> Vec<u64> {
    version.iter().filter(|(_, node)| matches!(node, Node::Directory(_))).map(|(id, _)| *id).collect()
}

pub(in crate::tree) fn places(version: &Version) -> BTreeMap<u64, BTreeSet<(u64, Vec<u8>)>> {
    let mut places: BTreeMap<u64, BTreeSet<_>> = BTreeMap::new();
    for (directory, node) in version {
        let Node::Directory(names) = node else { continue };
        for (name, id) in names {
            places.entry(*id).or_default().insert((*directory, name.clone()));
        }
    }
    places
}

fn is_below(version: &Version, mut id: u64, above: u64) -> bool {
    let places = places(version);
    loop {
        if id == above {
            return true;
        }
        match places.get(&id).and_then(|places| places.first()) {
            Some((directory, _)) => id = *directory,
            None => return false,
        }
    }
}

/// Drops what no name leads to.
fn prune(version: &mut Version) {
    loop {
        let places = places(version);
        let before = version.len();
        version.retain(|id, _| *id == 0 || places.contains_key(id));
        if version.len() == before {
            return;
        }
    }
}

pub(in crate::tree) fn edit(version: &mut Version, Edit(what, one, other, seed): &Edit, next: &mut u64) {
    let (all, places) = (directories(version), places(version));
    let directory = all[usize::from(*one) % all.len()];
    let name = name(*other);
    let picked = version.keys().copied().nth(usize::from(*seed) % version.len()).unwrap();
    match what % 6 {
        0 | 1 => {
            *next += 1;
            let node = if what % 6 == 0 { Node::File(*seed) } else { Node::Directory(BTreeMap::new()) };
            names(version, directory).insert(name, *next);
            version.insert(*next, node);
        }
        2 => _ = names(version, directory).remove(&name),
        3 => {
            if let Some(Node::File(content) | Node::Linked(content)) = version.get_mut(&picked) {
                *content = content.wrapping_add(*other);
            }
        }
        4 if picked != 0 && !is_below(version, directory, picked) => {
            let (from, old) = places[&picked].first().unwrap();
            names(version, *from).remove(old);
            names(version, directory).insert(name, picked);
        }
        5 => {
            if let Node::File(content) | Node::Linked(content) = version[&picked] {
                version.insert(picked, Node::Linked(content));
                names(version, directory).insert(name, picked);
            }
        }
        _ => {}
    }
    prune(version);
}

fn placed(vault: &Vault, version: &Version, id: u64) -> Record {
    let body = match &version[&id] {
        Node::File(content) | Node::Linked(content) => Body::File(Content::inline(&[*content]).unwrap()),
        Node::Directory(names) => {
            let changes = names.iter().map(|(name, child)| {
                let record = Box::new(placed(vault, version, *child));
                let target = if matches!(version[child], Node::Linked(_)) {
                    Target::Shared { id: record.id, kind: record.kind() }
                } else {
                    Target::Record(record)
                };
                let name = Name::new(name).unwrap();
                (name.clone(), Some(DirEntry { name, target }))
            });
            Body::Directory(DirectoryBody::empty().apply(vault, changes.collect::<Vec<_>>()).unwrap())
        }
    };
    record(id, body)
}

pub(in crate::tree) fn stored(vault: &Vault, version: &Version) -> Superblock {
    let linked = |id: &u64| matches!(version[id], Node::Linked(_));
    let shared = places(version).into_iter().filter(|(id, _)| linked(id)).map(|(id, places)| {
        let record = placed(vault, version, id);
        (record.id, Some(SharedInode { record, nlink: places.len() as u64 }))
    });
    let inodes = Tree::empty().apply(vault, shared.collect::<Vec<_>>()).unwrap();
    Superblock { root: placed(vault, version, 0), inodes }
}

/// All files but the root, and all names.
pub(in crate::tree) fn everything(
    vault: &Vault,
    version: &Version,
) -> (BTreeMap<FileId, Placed>, BTreeMap<(FileId, Name), FileId>) {
    let id = |number: u64| record(number, Body::Fifo).id;
    let (mut files, mut names) = (BTreeMap::new(), BTreeMap::new());
    for (file, places) in places(version) {
        let links = match (&version[&file], places.first().unwrap()) {
            (Node::Linked(_), _) => Links::Shared(places.len() as u64),
            (_, (directory, name)) => Links::One(id(*directory), Name::new(name).unwrap()),
        };
        files.insert(id(file), Placed { record: Box::new(placed(vault, version, file)), links });
        names.extend(places.iter().map(|(at, name)| ((id(*at), Name::new(name).unwrap()), id(file))));
    }
    (files, names)
}

fn sides<K: Ord + Clone, T: Clone + PartialEq>(old: &BTreeMap<K, T>, new: &BTreeMap<K, T>) -> BTreeMap<K, Sides<T>> {
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).cloned().collect();
    let both = keys.into_iter().map(|key| {
        let sides = Sides { old: old.get(&key).cloned(), new: new.get(&key).cloned() };
        (key, sides)
    });
    both.filter(|(_, sides)| sides.old != sides.new).collect()
}

pub(in crate::tree) fn any_edit() -> impl Strategy<Value = Edit> {
    any::<(u8, u8, u8, u8)>().prop_map(|(a, b, c, d)| Edit(a, b, c, d))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn what_differs_is_found_wherever_it_moved(
        before in prop::collection::vec(any_edit(), 0..40),
        after in prop::collection::vec(any_edit(), 0..30),
    ) {
        let lab = Lab::new();
        let vault = &lab.vault;
        let mut version = Version::from([(0, Node::Directory(BTreeMap::new()))]);
        let mut next = 0;
        before.iter().for_each(|change| edit(&mut version, change, &mut next));
        let first = version.clone();
        after.iter().for_each(|change| edit(&mut version, change, &mut next));
        let (old, new) = (stored(vault, &first), stored(vault, &version));
        let found = Differences::between(vault, &old, &new).unwrap();
        let ((old_files, old_names), (new_files, new_names)) = (everything(vault, &first), everything(vault, &version));
        let (files, names) = (sides(&old_files, &new_files), sides(&old_names, &new_names));
        // What is new may be left out where nothing is missing, but nothing else.
        for (id, both) in &files {
            prop_assert!(found.files.get(id) == Some(both) || both.old.is_none() && !found.files.contains_key(id));
        }
        prop_assert!(found.files.keys().all(|id| files.contains_key(id)));
        for (at, both) in &names {
            let is_in_new = !old_files.contains_key(&at.0) && at.0 != old.root.id;
            prop_assert!(found.names.get(at) == Some(both) || is_in_new && !found.names.contains_key(at));
        }
        prop_assert!(found.names.keys().all(|at| names.contains_key(at)));
    }
}

#[test]
fn what_is_shared_is_not_read_and_a_new_directory_only_where_something_is_missing() {
    let lab = Lab::new();
    let vault = &lab.vault;
    let mut version = Version::from([(0, Node::Directory(BTreeMap::new()))]);
    let folder = |from: u64| Node::Directory((from..from + 5).map(|id| (vec![b'a' + (id % 5) as u8], id)).collect());
    let fill = |version: &mut Version, id: u64, from: u64, name: &[u8]| {
        version.insert(id, folder(from));
        version.extend((from..from + 5).map(|id| (id, Node::File(id as u8))));
        names(version, 0).insert(name.to_vec(), id);
    };
    fill(&mut version, 1, 10, b"untouched");
    let old = stored(vault, &version);
    fill(&mut version, 2, 20, b"new");
    let new = stored(vault, &version);
    let found = Differences::between(vault, &old, &new).unwrap();
    assert_eq!((found.files.len(), found.names.len()), (1, 1), "nothing is missing");
    version.remove(&1);
    names(&mut version, 0).remove(&b"untouched"[..]);
    version.retain(|id, _| !(10..15).contains(id));
    let without = stored(vault, &version);
    let found = Differences::between(vault, &old, &without).unwrap();
    assert_eq!(found.files.len(), 2 + 10, "what is gone might be there");
}
