#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;
use crate::fs::New;
use crate::fs::model::lab::{Lab, ME};
use crate::writeback::Durability;
use std::sync::Arc;

fn directory(names: impl Iterator<Item = usize>) -> (Lab, Arc<Fs>) {
    let lab = Lab::new();
    let fs = lab.mount(usize::MAX);
    names.for_each(|number| make(&fs, number));
    (lab, fs)
}

fn name(number: usize) -> Vec<u8> {
    format!("{number:05}").into_bytes()
}

fn make(fs: &Fs, number: usize) {
    let stat = fs.make(Ino::ROOT, &name(number), 0o600, New::File, ME).unwrap();
    fs.forget(stat.ino, 1);
}

/// At most `count` names from an offset on, each with the offset behind it.
fn some(fs: &Fs, handle: u64, offset: u64, count: usize) -> Vec<(usize, u64)> {
    let mut shown = Vec::new();
    let mut left = count;
    fs.list(Ino::ROOT, handle, offset, false, |entry| {
        if left == 0 {
            return true;
        }
        left -= 1;
        if let Ok(number) = String::from_utf8_lossy(&entry.name).parse() {
            shown.push((number, entry.offset));
        }
        false
    })
    .unwrap();
    shown
}

fn numbers(shown: &[(usize, u64)]) -> Vec<usize> {
    shown.iter().map(|(number, _)| *number).collect()
}

#[test]
fn each_name_is_shown_once_while_others_come_and_go() {
    let (_lab, fs) = directory(0..3000);
    fs.flush(Durability::Memory).unwrap();
    (3000..5000).for_each(|number| make(&fs, number));
    let handle = fs.open_directory(Ino::ROOT).unwrap();
    let mut offset = 2;
    let mut shown = Vec::new();
    loop {
        let page = some(&fs, handle, offset, 170);
        let Some(last) = page.last() else { break };
        offset = last.1;
        // What was shown goes, as `rm -r` does it; some of what comes goes too, and more comes.
        page.iter().for_each(|(number, _)| fs.unlink(Ino::ROOT, &name(*number)).unwrap());
        fs.unlink(Ino::ROOT, &name(last.0 + 7)).ok();
        if shown.len() % 340 == 0 {
            fs.flush(Durability::Memory).unwrap();
        }
        shown.extend(numbers(&page));
    }
    let once: BTreeSet<_> = shown.iter().copied().collect();
    assert_eq!(once.len(), shown.len(), "each name once");
    assert!(shown.is_sorted());
    let left: Vec<_> = some(&fs, fs.open_directory(Ino::ROOT).unwrap(), 0, 6000);
    assert!(left.is_empty(), "nothing is passed over: {left:?}");
    fs.check();
}

#[test]
fn a_listing_that_is_taken_up_at_an_old_offset_goes_on_behind_that_name() {
    let (_lab, fs) = directory((0..2000).map(|number| number * 2));
    fs.flush(Durability::Memory).unwrap();
    let handle = fs.open_directory(Ino::ROOT).unwrap();
    let all = some(&fs, handle, 2, usize::MAX);
    assert_eq!(all.len(), 2000);
    // Names go and come before, at and behind the places.
    for number in 0..1000 {
        fs.unlink(Ino::ROOT, &name(number * 4)).unwrap();
        make(&fs, number * 4 + 1);
    }
    for place in [1500, 20, 900, 21, 1999, 0, 1200] {
        let (number, offset) = all[place];
        let next = some(&fs, handle, offset, 5);
        let expected: Vec<_> =
            (number + 1..4100).filter(|n| n % 4 == 1 || n % 4 == 2).filter(|n| *n < 4000).take(5).collect();
        assert_eq!(numbers(&next), expected, "behind {number}");
    }
}

#[test]
fn an_offset_that_was_never_given_is_refused() {
    let (_lab, fs) = directory(0..3);
    let handle = fs.open_directory(Ino::ROOT).unwrap();
    assert_eq!(fs.list(Ino::ROOT, handle, 100, false, |_| false), Err(FsError::Invalid));
}

#[test]
fn a_name_that_did_not_fit_is_not_counted_as_looked_up() {
    let (_lab, fs) = directory(0..10);
    fs.flush(Durability::Memory).unwrap();
    let handle = fs.open_directory(Ino::ROOT).unwrap();
    fs.list(Ino::ROOT, handle, 2, true, |_| true).unwrap();
    assert!(fs.check().is_empty());
    assert_eq!(fs.inodes(), 1);
    fs.release(handle);
}
