//! Late writes are kept, under a name that says why, and touch nothing else.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::fs::model::lab::ME;
use crate::fs::switch::tests::{Two, directory, find, make, names, read, write};
use crate::fs::{Changed, OnTarget};
use crate::writeback::Durability;
use jaxfs_sync::tree::CHUNK_BYTES;

/// The one name in a directory that says that it is a copy.
fn copy(fs: &Fs, parent: Ino) -> (String, Vec<u8>) {
    let copies: Vec<_> = names(fs, parent).into_iter().filter(|name| name.contains("(conflict desk ")).collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
    let found = find(fs, parent, &copies[0]).unwrap();
    let content = read(fs, found.ino);
    fs.forget(found.ino, 1);
    (copies[0].clone(), content)
}

#[test]
fn a_late_write_makes_a_copy_with_all_that_was_open_and_leaves_what_is_there() {
    let two = Two::new();
    let large: Vec<u8> = (0..2 * CHUNK_BYTES).map(|at| (at % 253) as u8).collect();
    make(two.b(), Ino::ROOT, "notes.txt", &large);
    two.pass();
    let open = find(two.a(), Ino::ROOT, "notes.txt").unwrap().ino;
    let handle = two.a().open(open, None, false, ME).unwrap();
    write(two.b(), find(two.b(), Ino::ROOT, "notes.txt").unwrap().ino, 0, b"theirs");
    two.pass();
    assert!(names(two.a(), Ino::ROOT).len() == 1, "nothing was written");
    two.a().write(handle, 10, b"late", false).unwrap();
    let expected = [&large[..10], b"late", &large[14..]].concat();
    let (name, content) = copy(two.a(), Ino::ROOT);
    assert!(name.starts_with("notes (conflict desk 2") && name.ends_with(").txt"), "{name}");
    assert!(content == expected);
    two.a().flush(Durability::Published).unwrap();
    two.a().write(handle, 0, b"later", false).unwrap();
    let expected = [b"later", &expected[5..]].concat();
    assert!(two.a().read(handle, 0, expected.len()).unwrap() == expected);
    assert!(copy(two.a(), Ino::ROOT).1 == expected, "still one");
    two.a().check();
    two.a().release(handle);
    two.a().flush(Durability::Published).unwrap();
    two.pair.meet();
    two.b().turn().unwrap();
    assert!(copy(two.b(), Ino::ROOT).1 == expected);
    assert_eq!(&read(two.b(), find(two.b(), Ino::ROOT, "notes.txt").unwrap().ino)[..6], b"theirs");
    two.a().forget(open, 1);
    two.a().check();
}

#[test]
fn what_was_in_removed_directories_is_kept_in_the_nearest_that_is_there() {
    let two = Two::new();
    let outer = directory(two.b(), Ino::ROOT, "outer");
    let gone = directory(two.b(), outer, "gone");
    let inner = directory(two.b(), gone, "inner");
    make(two.b(), inner, "file", b"content");
    two.pass();
    let mut at = Ino::ROOT;
    for name in ["outer", "gone", "inner", "file"] {
        at = find(two.a(), at, name).unwrap().ino;
    }
    let handle = two.a().open(at, None, false, ME).unwrap();
    two.b().unlink(inner, b"file").unwrap();
    two.b().remove_directory(gone, b"inner").unwrap();
    two.b().remove_directory(outer, b"gone").unwrap();
    two.b().rename((Ino::ROOT, b"outer"), (Ino::ROOT, b"moved"), OnTarget::Refuse).unwrap();
    two.pass();
    two.a().set_attributes(at, Changed { size: Some(3), ..Changed::default() }, ME).unwrap();
    let moved = find(two.a(), Ino::ROOT, "moved").unwrap().ino;
    assert_eq!(copy(two.a(), moved).1, b"con");
    two.a().release(handle);
    two.a().check();
}

#[test]
fn what_was_synced_late_is_there_after_a_crash() {
    let mut two = Two::new();
    make(two.b(), Ino::ROOT, "file", b"one");
    two.pass();
    let open = find(two.a(), Ino::ROOT, "file").unwrap().ino;
    let handle = two.a().open(open, None, false, ME).unwrap();
    write(two.b(), find(two.b(), Ino::ROOT, "file").unwrap().ino, 0, b"two");
    two.pass();
    two.a().write(handle, 3, b", late", false).unwrap();
    // What the thread that answers `fsync` does.
    let copy_of = two.a().safe_by(&two.a().file_handle(handle).unwrap());
    if !two.a().journal(&[copy_of]) {
        two.a().flush(Durability::Durable).unwrap();
    }
    two.a().write(handle, 0, b"unsynced", false).unwrap();
    assert!(two.a().journal(&[copy_of]), "and the journal goes on from there");
    two.crash(0);
    assert_eq!(copy(two.a(), Ino::ROOT).1, b"unsyncede");
    assert_eq!(read(two.a(), find(two.a(), Ino::ROOT, "file").unwrap().ino), b"two");
}

#[test]
fn a_copy_that_is_removed_is_made_anew_by_who_goes_on() {
    let two = Two::new();
    make(two.b(), Ino::ROOT, "file", b"one");
    two.pass();
    let handle = two.a().open(find(two.a(), Ino::ROOT, "file").unwrap().ino, None, false, ME).unwrap();
    two.b().unlink(Ino::ROOT, b"file").unwrap();
    two.pass();
    two.a().write(handle, 3, b", two", false).unwrap();
    let (name, _) = copy(two.a(), Ino::ROOT);
    two.a().unlink(Ino::ROOT, name.as_bytes()).unwrap();
    two.a().flush(Durability::Published).unwrap();
    two.a().check();
    two.a().write(handle, 8, b", three", false).unwrap();
    assert_eq!(copy(two.a(), Ino::ROOT).1, b"one, two, three");
    two.a().release(handle);
    two.a().check();
}

#[test]
fn names_of_copies_say_who_and_when_and_are_names() {
    let time = Time { secs: 1_795_408_097, nanos: 5 };
    let name = |name: &str, device: &str, number| {
        let name = conflict_name(&Name::new(name.as_bytes()).unwrap(), device, time, number);
        String::from_utf8(name.as_bytes().to_vec()).unwrap()
    };
    assert_eq!(name("a.txt", "desk", 1), "a (conflict desk 2026-11-23 04-28-17).txt");
    assert_eq!(name(".profile", "my/desk\n", 3), ".profile (conflict my_desk_ 2026-11-23 04-28-17 3)");
    assert_eq!(name("a.tar.gz", "d", 1), "a.tar (conflict d 2026-11-23 04-28-17).gz");
    let long = name(&format!("{}.txt", "ä".repeat(125)), "desk", 1);
    assert!(long.len() <= 255 && long.ends_with("ä (conflict desk 2026-11-23 04-28-17).txt"), "{long}");
    for (secs, expected) in
        [(0, "1970-01-01 00-00-00"), (951_782_400, "2000-02-29 00-00-00"), (-1, "1969-12-31 23-59-59")]
    {
        assert_eq!(date(Time { secs, nanos: 0 }), expected);
    }
}
