//! The names that a directory handle has shown, so that a listing can be taken up behind any of them.
//!
//! A first pass shows names in order, so each is kept as what differs from the one before it: a few bytes for a name of a
//! large directory, as a rule. What turns up between them later, after going back, is kept apart.

use std::collections::BTreeMap;

use jaxfs_sync::tree::Name;

/// Names in order, each as what differs from the one before.
#[derive(Debug, Default)]
struct Run {
    /// For each: bytes shared with the name before, bytes that follow, these.
    bytes: Vec<u8>,
    /// Where each [`Run::RESTART`]th begins, which stands in full.
    restarts: Vec<usize>,
    count: usize,
    last: Option<Name>,
}

impl Run {
    /// Names from one that stands in full to the next.
    const RESTART: usize = 64;

    fn push(&mut self, name: &Name) {
        let before = self.last.as_ref().filter(|_| !self.count.is_multiple_of(Self::RESTART));
        let shared = before.map_or(0, |before| common(before.as_bytes(), name.as_bytes()));
        if before.is_none() {
            self.restarts.push(self.bytes.len());
        }
        let rest = &name.as_bytes()[shared..];
        self.bytes.extend([shared as u8, rest.len() as u8]);
        self.bytes.extend_from_slice(rest);
        self.count += 1;
        self.last = Some(name.clone());
    }

    /// The names from the `block`th that stands in full up to the next such.
    fn block(&self, block: usize) -> impl Iterator<Item = Vec<u8>> {
        let from = self.restarts.get(block).copied().unwrap_or(self.bytes.len());
        let to = self.restarts.get(block + 1).copied().unwrap_or(self.bytes.len());
        let mut bytes = &self.bytes[from..to];
        let mut name = Vec::new();
        std::iter::from_fn(move || {
            let (&[shared, rest], suffix) = bytes.split_first_chunk()?;
            name.truncate(shared.into());
            name.extend_from_slice(&suffix[..rest.into()]);
            bytes = &suffix[rest.into()..];
            Some(name.clone())
        })
    }

    fn get(&self, number: usize) -> Option<Name> {
        Name::new(&self.block(number / Self::RESTART).nth(number % Self::RESTART)?).ok()
    }

    fn find(&self, name: &Name) -> Option<usize> {
        let first = |block: usize| self.block(block).next().is_some_and(|first| first.as_slice() <= name.as_bytes());
        let (mut block, mut end) = (0, self.restarts.len());
        while block < end {
            let middle = block.midpoint(end);
            if first(middle) {
                block = middle + 1;
            } else {
                end = middle;
            }
        }
        let block = block.checked_sub(1)?;
        let within = self.block(block).position(|shown| shown == name.as_bytes())?;
        Some(block * Self::RESTART + within)
    }
}

fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// What a directory handle remembers: names, each with the offset behind it, which stays as long as the handle.
#[derive(Debug, Default)]
pub(super) struct Shown {
    run: Run,
    /// Names that were shown first when a later one had been shown already.
    late: Vec<Name>,
    late_numbers: BTreeMap<Name, usize>,
}

impl Shown {
    /// `.` and `..` have the offsets before this.
    const FIRST: u64 = 3;

    /// The offset behind a name that is shown now.
    pub(super) fn offset(&mut self, name: &Name) -> u64 {
        let number = if self.run.last.as_ref().is_none_or(|last| name > last) {
            self.run.push(name);
            2 * (self.run.count - 1)
        } else if let Some(number) = self.run.find(name) {
            2 * number
        } else {
            let number = *self.late_numbers.entry(name.clone()).or_insert(self.late.len());
            if number == self.late.len() {
                self.late.push(name.clone());
            }
            2 * number + 1
        };
        Self::FIRST + number as u64
    }

    /// The name that is before an offset; none if that is no offset of this handle.
    pub(super) fn behind(&self, offset: u64) -> Option<Name> {
        let number = usize::try_from(offset.checked_sub(Self::FIRST)?).ok()?;
        if number % 2 == 0 { self.run.get(number / 2) } else { self.late.get(number / 2).cloned() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_name_keeps_its_offset_and_is_found_by_it(
            first in prop::collection::btree_set("[ab]{1,12}", 1..400),
            later in prop::collection::vec("[ab]{1,12}", 0..50),
        ) {
            let mut shown = Shown::default();
            let mut offsets = BTreeMap::new();
            for name in first.iter().chain(&later).chain(&first) {
                let name = Name::new(name.as_bytes()).unwrap();
                let offset = shown.offset(&name);
                prop_assert!(offset >= 3);
                prop_assert_eq!(*offsets.entry(name).or_insert(offset), offset);
            }
            for (name, offset) in &offsets {
                prop_assert_eq!(shown.behind(*offset), Some(name.clone()));
            }
            let distinct: std::collections::BTreeSet<_> = offsets.values().collect();
            prop_assert_eq!(distinct.len(), offsets.len());
            prop_assert!(shown.behind(2).is_none() && shown.behind(3 + 2 * first.len() as u64 + 200).is_none());
        }
    }

    #[test]
    fn a_name_of_a_large_directory_takes_a_few_bytes() {
        let mut shown = Shown::default();
        for number in 0..100_000 {
            shown.offset(&Name::new(format!("photo-{number:08}.jpg").as_bytes()).unwrap());
        }
        assert!(shown.run.bytes.len() < 100_000 * 9, "{}", shown.run.bytes.len());
    }
}
