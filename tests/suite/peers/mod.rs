//! Some devices with a bucket, each a machine of its own on a network that is not always there.

mod net;
mod tap;

pub(crate) mod broken;
pub(crate) mod changes;
pub(crate) mod links;
pub(crate) mod reading;
pub(crate) mod roles;

pub(crate) use net::trouble;
