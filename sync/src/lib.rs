//! A bucket's encrypted state, its chain of manifests, and (with the `net` feature) its replication.
//!
//! The floors, each using only what stands below it:
//! `net -> publish -> chain -> tree -> store, bucket -> crypto -> link`.
//! The formats are described byte by byte in this crate's README.

pub mod bucket;
pub mod chain;
pub mod crypto;
pub mod limits;
pub mod link;
#[cfg(feature = "net")]
pub mod net;
pub mod publish;
pub mod store;
pub mod tree;
