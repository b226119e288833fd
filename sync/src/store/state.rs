//! The state of the store apart from blocks and manifests, as it stands in the segments behind each commit.
//!
//! Number of the commit (u64), how many manifests it brought (u32) and their links, and for each named value, in their order:
//! length of the name (u8), the name, length of the value (u32), the value. Integers are little endian.

use std::collections::BTreeMap;

use super::Commit;
use crate::link::{LINK_BYTES, Link};

/// What a commit brought, and the named values after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// How many commits there were.
    pub(super) commits: u64,
    /// The manifests of this one, in their order. They are blocks of this commit or of one before.
    pub(super) manifests: Vec<Link>,
    pub(super) meta: BTreeMap<String, Vec<u8>>,
}

impl State {
    /// The state after a commit of this number.
    pub(super) fn next(&self, commits: u64, commit: &Commit) -> Self {
        let manifests = commit.manifests.iter().map(|(link, _)| *link).collect();
        let mut next = Self { commits, manifests, meta: self.meta.clone() };
        for (name, value) in &commit.meta {
            match value {
                Some(value) => drop(next.meta.insert((*name).to_owned(), value.clone())),
                None => drop(next.meta.remove(*name)),
            }
        }
        next
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.commits.to_le_bytes().to_vec();
        out.extend_from_slice(&(self.manifests.len() as u32).to_le_bytes());
        self.manifests.iter().for_each(|link| out.extend_from_slice(&link.to_bytes()));
        for (name, value) in &self.meta {
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(value);
        }
        out
    }

    /// Total; none if it is not what [`State::encode`] gives.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (commits, rest) = bytes.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let links = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(LINK_BYTES)?;
        let (links, mut rest) = rest.split_at_checked(links)?;
        let manifests = links.chunks(LINK_BYTES).map(Link::from_bytes).collect::<Result<_, _>>().ok()?;
        let mut meta = BTreeMap::new();
        while let Some((len, behind)) = rest.split_first() {
            let (name, behind) = behind.split_at_checked((*len).into())?;
            let (len, behind) = behind.split_first_chunk::<4>()?;
            let (value, behind) = behind.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            meta.insert(std::str::from_utf8(name).ok()?.to_owned(), value.to_vec());
            rest = behind;
        }
        let state = Self { commits: u64::from_le_bytes(*commits), manifests, meta };
        (state.encode() == bytes).then_some(state)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::link::Codec;

    proptest! {
        #[test]
        fn a_state_is_read_as_it_was_written(
            commits: u64,
            manifests in prop::collection::vec(any::<[u8; 32]>(), 0..4),
            meta in prop::collection::btree_map("[a-z ]{0,12}", prop::collection::vec(any::<u8>(), 0..40), 0..5),
        ) {
            let manifests = manifests.into_iter().map(|digest| Link::from_parts(Codec::DagCbor, digest)).collect();
            let state = State { commits, manifests, meta };
            prop_assert_eq!(State::decode(&state.encode()), Some(state));
        }

        #[test]
        fn no_bytes_make_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(state) = State::decode(&bytes) {
                prop_assert_eq!(state.encode(), bytes);
            }
        }
    }
}
