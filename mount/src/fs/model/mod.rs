//! What tests of the file system need in place of a kernel.
#![allow(clippy::unwrap_used)]

pub(in crate::fs) mod lab;
