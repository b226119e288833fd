//! Applications that people trust with their data, each checked by what it reads back, mostly in the next mount.

pub(crate) mod git;
