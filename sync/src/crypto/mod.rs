//! Secrets, the keys that come from them, and what is sealed with those keys.
//!
//! Always true: a nonce is a keyed hash of everything that the message consists of, so no nonce meets two messages;
//! nothing is opened that does not hash to the link it was asked for by. Never here: files, chains, the network.

pub mod block;
pub mod secret;

pub use block::{BlockKind, Keyring, OpenError};
pub use secret::Secret;
