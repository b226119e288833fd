//! ACLs in plain: maps from whom they are about to what is allowed, and the rules of POSIX.1e in a line each.

use std::collections::BTreeMap;

use proptest::prelude::*;

pub(in crate::fs) const OWNER: u16 = 1;
pub(in crate::fs) const USER: u16 = 2;
pub(in crate::fs) const GROUP: u16 = 4;
pub(in crate::fs) const NAMED_GROUP: u16 = 8;
pub(in crate::fs) const MASK: u16 = 16;
pub(in crate::fs) const OTHER: u16 = 32;
pub(in crate::fs) const NOBODY: u32 = u32::MAX;

/// Tag and id, and what they are allowed.
pub(in crate::fs) type Acl = BTreeMap<(u16, u32), u16>;

/// As the kernel passes it.
pub(in crate::fs) fn bytes<'a>(entries: impl IntoIterator<Item = (&'a (u16, u32), &'a u16)>) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for ((tag, id), allowed) in entries {
        bytes.extend([tag.to_le_bytes(), allowed.to_le_bytes()].concat());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// The other way, for what is known to be one.
pub(in crate::fs) fn read(bytes: &[u8]) -> Acl {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    let entry = |entry: &[u8]| ((number(&entry[..2]) as u16, number(&entry[4..])), number(&entry[2..4]) as u16);
    bytes[4..].chunks(8).map(entry).collect()
}

/// "The file owner class corresponds to the owner's entry, the file group class to the mask or, without one, to the group's,
/// the file other class to that of others."
fn classes(acl: &Acl) -> [(u16, u32); 3] {
    let group = if acl.contains_key(&(MASK, NOBODY)) { MASK } else { GROUP };
    [OWNER, group, OTHER].map(|tag| (tag, NOBODY))
}

pub(in crate::fs) fn mode(acl: &Acl) -> u16 {
    let [owner, group, other] = classes(acl).map(|class| acl[&class]);
    owner * 0o100 + group * 0o10 + other
}

/// "chmod() sets the entries of the classes."
pub(in crate::fs) fn chmod(acl: &mut Acl, mode: u16) {
    for (class, bits) in classes(acl).into_iter().zip([mode / 0o100 % 8, mode / 0o10 % 8, mode % 8]) {
        acl.insert(class, bits);
    }
}

/// "What is made gets the default ACL of the directory, and of the entries of the classes what the mode allows too."
pub(in crate::fs) fn inherited(default: &Acl, mode_asked: u16) -> Acl {
    let mut acl = default.clone();
    chmod(&mut acl, mode(default) & mode_asked);
    acl
}

/// Whether it can be said by a mode.
pub(in crate::fs) fn is_mode(acl: &Acl) -> bool {
    acl.keys().all(|(tag, _)| [OWNER, GROUP, OTHER].contains(tag))
}

/// Any ACL, of few users and groups.
pub(in crate::fs) fn any_acl() -> impl Strategy<Value = Acl> {
    let named = || prop::collection::btree_map(0..4u32, 0..8u16, 0..3);
    let mask = prop::option::of(0..8u16);
    (named(), named(), mask, [0..8u16, 0..8, 0..8]).prop_map(|(users, groups, mask, [owner, group, other])| {
        let mut acl = Acl::from([((OWNER, NOBODY), owner), ((GROUP, NOBODY), group), ((OTHER, NOBODY), other)]);
        let needs_mask = !users.is_empty() || !groups.is_empty();
        acl.extend(users.into_iter().map(|(id, allowed)| ((USER, id), allowed)));
        acl.extend(groups.into_iter().map(|(id, allowed)| ((NAMED_GROUP, id), allowed)));
        acl.extend(mask.or(needs_mask.then_some(owner)).map(|mask| ((MASK, NOBODY), mask)));
        acl
    })
}
