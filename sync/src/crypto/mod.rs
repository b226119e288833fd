//! Secrets, the keys that come from them, and what is sealed with those keys.
//!
//! Always true: a nonce is a keyed hash of everything that the message consists of, so no nonce meets two messages;
//! nothing is opened that does not hash to the link it was asked for by. Never here: files, chains, the network.

pub mod block;
pub mod hpke;
pub mod label;
pub(crate) mod sealer;
pub mod secret;

pub use block::{BlockKind, Keyring, OpenError};
pub use label::{Label, LabelError};
pub use sealer::{SEAL_OVERHEAD, padded_len};
pub use secret::Secret;
