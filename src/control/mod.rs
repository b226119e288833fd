//! The node's control socket: what is said over it, and both of its ends.
//!
//! One request to a line of JSON, answered by any number of events and one reply or failure. The socket is the
//! user's alone (0600, in a directory that is 0700), and each peer's user id is checked besides.

pub(crate) mod client;
pub(crate) mod peers;
pub(crate) mod protocol;
pub(crate) mod server;
mod socket;
