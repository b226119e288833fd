//! Which part of a file's content is neither in the journal nor in a durable version.

use std::collections::BTreeMap;
use std::ops::Range;

/// What was written to a file since some moment: ranges that are to be read from its layers, and how much of what was there
/// before is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unsynced {
    /// Start to end. They neither overlap nor touch.
    ranges: BTreeMap<u64, u64>,
    cut: Option<u64>,
    /// The size may have changed without any of this.
    resized: bool,
}

impl Unsynced {
    pub(super) fn is_empty(&self) -> bool {
        !self.resized && self.cut.is_none() && self.ranges.is_empty()
    }

    /// A range was written to.
    pub(super) fn write(&mut self, range: Range<u64>) {
        self.resized = true;
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        if let Some((before, until)) = self.ranges.range(..=start).next_back().map(|(start, end)| (*start, *end))
            && until >= start
        {
            if until >= end {
                return;
            }
            start = before;
        }
        while let Some((next, until)) = self.ranges.range(start..=end).next().map(|(start, end)| (*start, *end)) {
            self.ranges.remove(&next);
            end = end.max(until);
        }
        self.ranges.insert(start, end);
    }

    /// The file was cut or grown.
    pub(super) fn resize(&mut self, size: u64) {
        self.resized = true;
        self.ranges.split_off(&size);
        if let Some(mut last) = self.ranges.last_entry() {
            *last.get_mut() = size.min(*last.get());
        }
        self.cut = Some(self.cut.map_or(size, |cut| cut.min(size)));
    }

    /// Adds what happened later.
    pub(super) fn absorb(&mut self, later: Self) {
        if let Some(cut) = later.cut {
            self.resize(cut);
        }
        later.ranges.into_iter().for_each(|(start, end)| self.write(start..end));
        self.resized |= later.resized;
    }

    /// How much of what was there before is left.
    pub(super) const fn cut(&self) -> Option<u64> {
        self.cut
    }

    /// What was written, in order.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.ranges.iter().map(|(start, end)| *start..*end)
    }

    /// Bytes of all ranges.
    pub(super) fn bytes(&self) -> u64 {
        self.ranges().map(|range| range.end - range.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPAN: usize = 64;

    #[derive(Clone, Debug)]
    enum Op {
        Write(usize, usize),
        Resize(usize),
        Split,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0..SPAN, 1..12usize).prop_map(|(at, len)| Op::Write(at, (at + len).min(SPAN))),
            1 => (0..SPAN).prop_map(Op::Resize),
            1 => Just(Op::Split),
        ]
    }

    proptest! {
        #[test]
        fn ranges_are_what_was_written_and_not_cut_off_since(ops in prop::collection::vec(op(), 0..40)) {
            let mut plain = [false; SPAN];
            let mut cut = None;
            let mut parts = vec![Unsynced::default()];
            for op in &ops {
                let last = parts.last_mut().expect("there is always one");
                match *op {
                    Op::Write(start, end) => {
                        last.write(start as u64..end as u64);
                        plain[start..end].fill(true);
                    }
                    Op::Resize(size) => {
                        last.resize(size as u64);
                        plain[size..].fill(false);
                        cut = Some(cut.map_or(size, |cut: usize| cut.min(size)));
                    }
                    Op::Split => parts.push(Unsynced::default()),
                }
            }
            let mut whole = Unsynced::default();
            parts.into_iter().for_each(|part| whole.absorb(part));
            let mut found = [false; SPAN];
            let mut end = None;
            for range in whole.ranges() {
                prop_assert!(range.start < range.end && end.is_none_or(|end| end < range.start), "{whole:?}");
                found[range.start as usize..range.end as usize].fill(true);
                end = Some(range.end);
            }
            prop_assert_eq!(found, plain);
            prop_assert_eq!(whole.cut(), cut.map(|cut| cut as u64));
            prop_assert_eq!(whole.is_empty(), ops.iter().all(|op| matches!(op, Op::Split)));
        }
    }
}
