//! What a store has to have, without a store.

use std::collections::BTreeMap;

use crate::link::{Codec, Link};
use crate::store::{Commit, Frame, Store, StoreError};

/// The named value that every commit changes, so that it can be told which one is there.
pub(super) const NUMBER: &str = "number";
/// The other named values.
pub(super) const NAMES: [&str; 2] = ["a", "b"];

/// What was committed.
#[derive(Clone, Debug, Default)]
pub(super) struct Plain {
    pub(super) blocks: BTreeMap<Link, u64>,
    pub(super) manifests: Vec<(Link, Vec<u8>)>,
    pub(super) meta: BTreeMap<&'static str, Vec<u8>>,
}

/// The block of a number: some are small, some have several sectors.
pub(super) fn block(number: u64) -> (Link, Vec<u8>) {
    let mut bytes = vec![0; [40, 300, 700, 2_500, 6_000][number as usize % 5] + number as usize % 37];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let codec = if number.is_multiple_of(3) { Codec::DagCbor } else { Codec::Raw };
    (Link::of(codec, &bytes), bytes)
}

impl Plain {
    /// What is there once a commit is.
    pub(super) fn with(&self, pending: &BTreeMap<Link, u64>, commit: &Commit) -> Self {
        let mut plain = self.clone();
        plain.blocks.extend(pending);
        for manifest in &commit.manifests {
            if !plain.manifests.contains(manifest) {
                plain.manifests.push(manifest.clone());
            }
        }
        for (name, value) in &commit.meta {
            match value {
                Some(value) => drop(plain.meta.insert(name, value.clone())),
                None => drop(plain.meta.remove(name)),
            }
        }
        plain
    }

    pub(super) fn number(&self) -> Option<&Vec<u8>> {
        self.meta.get(NUMBER)
    }

    /// Compares everything but blocks that are not committed.
    pub(super) fn compare(&self, store: &Store) -> Result<(), StoreError> {
        for name in NAMES {
            assert_eq!(store.meta(name)?.as_ref(), self.meta.get(name), "the value {name:?}");
        }
        let manifests = store.manifests().collect::<Result<Vec<_>, _>>()?;
        assert_eq!(manifests, self.manifests);
        for (link, number) in &self.blocks {
            assert_eq!(store.get(link)?, Some(block(*number).1), "block {number} was committed");
        }
        Ok(())
    }
}

/// Whatever is there has to be whole: the index, and what it names.
pub(super) fn nothing_is_half_there(store: &Store) -> Result<(), StoreError> {
    let mut links = Vec::new();
    store.for_each_block(&mut |link, len| links.push((link, len)))?;
    for (link, len) in links {
        let bytes = store.get(&link)?.unwrap_or_else(|| panic!("block {link} is named and missing"));
        assert!(link.names(&bytes) && bytes.len() == len as usize, "block {link} has other bytes");
    }
    Ok(())
}

/// What was appended to the journal.
#[derive(Clone, Debug)]
pub(super) struct Appended {
    pub(super) frame: Frame,
    /// It was reported as done.
    pub(super) sure: bool,
}

/// The journal has what was reported, in order, and nothing that was never appended.
pub(super) fn journal_is_there(store: &Store, generation: u64, journal: &[Appended]) -> Result<(), StoreError> {
    let (found, whole) = store.journaled(generation)?;
    let mut found = found.into_iter().peekable();
    for (at, appended) in journal.iter().filter(|appended| appended.frame.generation >= generation).enumerate() {
        let there = found.next_if(|frame| *frame == appended.frame).is_some();
        assert!(there || !appended.sure, "frame {at} of generation {} was reported", appended.frame.generation);
    }
    assert_eq!(found.next().map(|frame| frame.generation), None, "a frame from nowhere");
    assert!(whole, "nothing is damaged");
    Ok(())
}
