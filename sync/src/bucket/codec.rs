//! Strict DAG-CBOR: one encoding for each value, and nothing else is read.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Encodes a value of this crate.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(value).expect("maps of integers, bytes and links encode")
}

/// Why bytes were not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotStrict {
    /// Not a value of this type at all.
    Malformed,
    /// The same value has another, canonical encoding.
    NotCanonical,
}

/// Reads a value, if `bytes` are exactly how [`encode`] writes it.
pub(super) fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, NotStrict> {
    let value: T = serde_ipld_dagcbor::from_slice(bytes).map_err(|_| NotStrict::Malformed)?;
    if encode(&value) == bytes { Ok(value) } else { Err(NotStrict::NotCanonical) }
}
