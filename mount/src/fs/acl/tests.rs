#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use jaxfs_sync::tree::{Body, Time};
use proptest::prelude::*;

use super::*;
use crate::fs::model::acl::{self as plain, GROUP, MASK, NAMED_GROUP, OTHER, OWNER, USER, any_acl};
use crate::fs::model::lab::{Lab, ME};
use crate::fs::{Caller, Changed, Fs, Ino, New};

fn attributes(mode: u16, access: Option<&plain::Acl>) -> Attributes {
    let epoch = Time::default();
    let mut made = Attributes {
        mode,
        uid: 1,
        gid: 2,
        mtime: epoch,
        ctime: epoch,
        btime: epoch,
        atime: None,
        xattrs: Arc::default(),
    };
    if let Some(acl) = access {
        made.set_xattr(ACCESS, &plain::bytes(acl)).unwrap();
    }
    made
}

fn access(attributes: &Attributes) -> Option<plain::Acl> {
    attributes.xattrs.get(ACCESS).map(plain::read)
}

fn acl(entries: &[(u16, u32, u16)]) -> Vec<u8> {
    let entries: Vec<_> = entries.iter().map(|(tag, id, allowed)| ((*tag, *id), *allowed)).collect();
    plain::bytes(entries.iter().map(|(who, allowed)| (who, allowed)))
}

/// What `attributes` makes of itself in a copy; an operation that fails changes nothing.
fn changed(
    before: &Attributes,
    change: impl FnOnce(&mut Attributes) -> Result<(), FsError>,
) -> Result<Attributes, FsError> {
    let mut after = before.clone();
    let result = change(&mut after);
    if result.is_err() {
        assert_eq!((after.mode, &after.xattrs), (before.mode, &before.xattrs));
    }
    result.map(|()| after)
}

const MINIMAL: [(u16, u32, u16); 3] = [(OWNER, NOBODY, 7), (GROUP, NOBODY, 5), (OTHER, NOBODY, 0)];

#[test]
fn what_the_kernel_does_not_accept_is_not_an_acl() {
    let [owner, group, other] = MINIMAL;
    let (user, mask) = ((USER, 1000, 7), (MASK, NOBODY, 7));
    let wrong: [&[(u16, u32, u16)]; 16] = [
        &[],
        &[group, other],
        &[owner, other],
        &[owner, group],
        &[owner, owner, group, other],
        &[owner, group, other, other],
        &[owner, group, group, other],
        &[group, owner, other],
        &[owner, user, group, other],
        &[owner, group, (NAMED_GROUP, 5, 1), other],
        &[owner, user, group, other, mask],
        &[owner, group, mask, mask, other],
        &[owner, group, user, mask, other],
        &[owner, (USER, NOBODY, 7), group, mask, other],
        &[owner, group, mask, (OTHER, 0, 0)],
        &[owner, group, (OTHER, NOBODY, 8)],
    ];
    for entries in wrong {
        assert_eq!(Acl::parse(&acl(entries)), None, "{entries:?}");
    }
    let good = acl(&[owner, user, (USER, 7, 1), group, (NAMED_GROUP, 5, 1), mask, other]);
    assert!(Acl::parse(&good).is_some());
    assert_eq!(Acl::parse(&[&good[..], &[0]].concat()), None, "something behind it");
    assert_eq!(Acl::parse(&good[..good.len() - 1]), None, "cut off");
    assert_eq!(Acl::parse(&[&[3], &good[1..]].concat()), None, "another version");
    assert_eq!(Acl::parse(b""), None);
    assert_eq!(Acl::parse(&acl(&[owner, group, (3, NOBODY, 0), other])), None, "an unknown tag");
}

#[test]
fn an_acl_is_as_long_as_the_kernel_reads_and_not_longer() {
    let long = |users: u32| {
        let [owner, group, other] = MINIMAL;
        let users = (0..users).map(|id| (USER, id, 4));
        let rest = [group, (MASK, NOBODY, 7), other];
        acl(&[owner].into_iter().chain(users).chain(rest).collect::<Vec<_>>())
    };
    assert_eq!(long(507).len(), 4092);
    assert!(Acl::parse(&long(507)).is_some());
    assert_eq!(Acl::parse(&long(508)), None);
}

#[test]
fn an_acl_that_is_a_mode_is_the_mode_alone() {
    let named = plain::Acl::from([
        ((OWNER, NOBODY), 6),
        ((USER, 5), 7),
        ((GROUP, NOBODY), 1),
        ((MASK, NOBODY), 4),
        ((OTHER, NOBODY), 2),
    ]);
    let file = attributes(0o4000, None);
    let extended = changed(&file, |file| set_access(file, Kind::File, &plain::bytes(&named), true)).unwrap();
    assert_eq!((extended.mode, access(&extended)), (0o4642, Some(named)));
    let minimal = changed(&extended, |file| set_access(file, Kind::File, &acl(&MINIMAL), true)).unwrap();
    assert_eq!((minimal.mode, access(&minimal)), (0o4750, None));
}

#[test]
fn who_may_not_keep_the_set_group_id_bit_loses_it() {
    for kind in [Kind::File, Kind::Directory] {
        let file = attributes(0o6755, None);
        let set = |privileged| changed(&file, |file| set_access(file, kind, &acl(&MINIMAL), privileged)).unwrap().mode;
        assert_eq!((set(true), set(false)), (0o6750, 0o4750));
    }
}

#[test]
fn only_directories_pass_acls_on_and_symlinks_have_none() {
    let (value, before) = (acl(&MINIMAL), attributes(0o644, None));
    let access = |kind| changed(&before, |file| set_access(file, kind, &value, true)).map(|file| file.mode);
    let default = |kind| changed(&before, |file| set_default(file, kind, &value)).map(|file| file.mode);
    assert_eq!(default(Kind::Directory), Ok(0o644));
    for kind in [Kind::File, Kind::Fifo, Kind::Socket, Kind::CharDevice, Kind::BlockDevice] {
        assert_eq!((access(kind), default(kind)), (Ok(0o750), Err(FsError::Denied)));
    }
    assert_eq!((access(Kind::Symlink), default(Kind::Symlink)), (Err(FsError::Unsupported), Err(FsError::Unsupported)));
    let malformed = changed(&before, |file| set_default(file, Kind::Directory, &value[1..]));
    assert_eq!(malformed.err(), Some(FsError::Invalid));
}

#[test]
fn an_acl_that_finds_no_room_changes_nothing() {
    let mut full = attributes(0o600, None);
    full.set_xattr(b"user.large", &vec![0; jaxfs_sync::limits::XATTR_BYTES - 40]).unwrap();
    let [owner, group, other] = MINIMAL;
    let named = acl(&[owner, (USER, 1, 7), group, (MASK, NOBODY, 7), other]);
    let set = changed(&full, |file| set_access(file, Kind::File, &named, true));
    assert_eq!(set.err(), Some(FsError::NoSpace));
    let set = changed(&full, |file| set_default(file, Kind::Directory, &named));
    assert_eq!(set.err(), Some(FsError::NoSpace));
}

#[test]
fn a_stored_acl_that_is_none_is_an_error_and_not_a_guess() {
    let mut file = attributes(0o640, None);
    file.set_xattr(ACCESS, b"\x02\0\0\0").unwrap();
    assert_eq!(changed(&file, |file| follow_mode(file, 0o777)).err(), Some(FsError::Io));
    let new = attributes(0o644, None);
    let made = changed(&new, |new| inherit(new, Kind::File, Some(b"nonsense"), 0));
    assert_eq!(made.err(), Some(FsError::Io));
}

/// Where the kernel does not heed them there are none: not to be set, not to be seen, not to be inherited.
#[test]
fn without_the_kernel_there_are_no_acls() {
    let lab = Lab::new();
    let with = lab.mount(usize::MAX);
    let value = acl(&[MINIMAL[0], (USER, 1, 7), MINIMAL[1], (MASK, NOBODY, 7), MINIMAL[2]]);
    for name in [ACCESS, DEFAULT] {
        with.set_xattr(Ino::ROOT, name, &value, None, ME).unwrap();
    }
    assert_eq!(with.xattr_names(Ino::ROOT, ME).unwrap(), [ACCESS, b"\0", DEFAULT, b"\0"].concat());
    with.flush(crate::writeback::Durability::Published).unwrap();

    let without = Fs::new(
        Arc::clone(&lab.bucket),
        crate::fs::Settings { owner: crate::Owner::Stored, dirty_limit: usize::MAX, most_space: None },
    )
    .unwrap();
    assert_eq!(without.xattr_names(Ino::ROOT, ME).unwrap(), b"");
    assert_eq!(without.xattr(Ino::ROOT, ACCESS).err(), Some(FsError::Unsupported));
    assert_eq!(without.set_xattr(Ino::ROOT, ACCESS, &value, None, ME).err(), Some(FsError::Unsupported));
    assert_eq!(without.remove_xattr(Ino::ROOT, DEFAULT).err(), Some(FsError::Unsupported));
    // The kernel has applied the umask then; to do it again changes nothing.
    let caller = Caller { umask: 0o022, ..ME };
    let made = without.make(Ino::ROOT, b"made", 0o666 & !0o022, New::File, caller).unwrap();
    assert_eq!(made.mode, 0o644);
    // What a mode closes is closed where ACLs are heeded too.
    let wanted = Changed { mode: Some(0o700), ..Changed::default() };
    without.set_attributes(Ino::ROOT, wanted, ME).unwrap();
    without.heed_acls();
    let access = plain::read(&without.xattr(Ino::ROOT, ACCESS).unwrap());
    assert_eq!((access[&(MASK, NOBODY)], access[&(USER, 1)]), (0, 7));
}

#[test]
fn groups_are_those_of_the_thread_that_asks() {
    let caller = Caller { uid: 1, gid: 4711, pid: std::process::id(), umask: 0 };
    let groups: Vec<_> = rustix::process::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
    assert_eq!(caller.groups(), [&[4711], &groups[..]].concat());
    // One that can not be seen.
    assert_eq!(Caller { pid: 0, ..caller }.groups(), [4711]);
}

/// An ACL, or something that is nearly one.
fn near_acl() -> impl Strategy<Value = Vec<u8>> {
    let valid = || any_acl().prop_map(|acl| plain::bytes(&acl));
    prop_oneof![
        2 => valid(),
        4 => (valid(), any::<prop::sample::Index>(), prop_oneof![0..40u8, any::<u8>()]).prop_map(|(mut bytes, at, byte)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        1 => (valid(), any::<prop::sample::Index>()).prop_map(|(bytes, at)| bytes[..at.index(bytes.len())].to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ]
}

fn any_kind() -> impl Strategy<Value = Kind> {
    let bodies = [Body::empty_file(), Body::empty_directory(), Body::Symlink([b'x'].into()), Body::Fifo, Body::Socket];
    prop::sample::select(bodies.map(|body| body.kind()).to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_read_is_written_the_same(bytes in near_acl()) {
        if let Some(acl) = Acl::parse(&bytes) {
            prop_assert_eq!(acl.encode(), bytes);
        }
    }

    #[test]
    fn every_acl_is_read(acl in any_acl()) {
        let bytes = plain::bytes(&acl);
        let read = Acl::parse(&bytes).unwrap();
        prop_assert_eq!((read.mode(), read.is_mode()), (plain::mode(&acl), plain::is_mode(&acl)));
        prop_assert_eq!(plain::read(&read.encode()), acl);
    }

    #[test]
    fn a_change_of_mode_is_one_of_the_acl(acl in any_acl(), mode in 0..0o10000u16) {
        let mut file = attributes(0, Some(&acl));
        follow_mode(&mut file, mode).unwrap();
        let mut expected = acl;
        plain::chmod(&mut expected, mode);
        prop_assert_eq!(access(&file), Some(expected));
    }

    #[test]
    fn a_change_of_the_acl_is_one_of_mode(acl in any_acl(), mode in 0..0o10000u16) {
        let mut file = attributes(mode, None);
        set_access(&mut file, Kind::File, &plain::bytes(&acl), true).unwrap();
        prop_assert_eq!(file.mode, mode / 0o1000 * 0o1000 + plain::mode(&acl));
        prop_assert_eq!(access(&file), (!plain::is_mode(&acl)).then_some(acl));
    }

    #[test]
    fn what_is_made_inherits(
        default in prop::option::of(any_acl()),
        kind in any_kind(),
        mode in 0..0o10000u16,
        umask in 0..0o1000u16,
    ) {
        let bytes = default.as_ref().map(plain::bytes);
        let mut new = attributes(mode, None);
        inherit(&mut new, kind, bytes.as_deref(), umask).unwrap();
        let high = mode / 0o1000 * 0o1000;
        let (expected_mode, expected) = match &default {
            _ if kind == Kind::Symlink => (mode, None),
            None => (mode & !umask, None),
            Some(default) => {
                let acl = plain::inherited(default, mode);
                (high + plain::mode(&acl), (!plain::is_mode(&acl)).then_some(acl))
            }
        };
        prop_assert_eq!((new.mode, access(&new)), (expected_mode, expected));
        let passed_on = new.xattrs.get(DEFAULT);
        prop_assert_eq!(passed_on, bytes.as_deref().filter(|_| kind == Kind::Directory));
    }
}
