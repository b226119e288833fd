//! Names in a directory.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::btree::Key;
use super::wire::{Decoder, Encoder, Malformed};
use crate::limits;

/// A name in a directory: 1 to 255 bytes, not `.` or `..`, without `/` and NUL. Ordered by its bytes, cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

/// Why bytes can not be a name.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadName {
    /// Nothing at all.
    #[error("a name is empty")]
    Empty,
    /// More than [`limits::NAME_BYTES`].
    #[error("a name is longer than {} bytes", limits::NAME_BYTES)]
    TooLong,
    /// `.` or `..`, or one with `/` or NUL in it.
    #[error("a name is . or .., or contains / or NUL")]
    Reserved,
}

impl Name {
    /// Checks bytes that are to be a name.
    pub fn new(bytes: &[u8]) -> Result<Self, BadName> {
        match bytes {
            [] => Err(BadName::Empty),
            _ if bytes.len() > limits::NAME_BYTES => Err(BadName::TooLong),
            b"." | b".." => Err(BadName::Reserved),
            _ if bytes.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(BadName::Reserved),
            _ => Ok(Self(bytes.into())),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Key for Name {
    fn encode(&self, out: &mut Encoder) {
        out.bytes(&self.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Self::new(input.bytes()?).map_err(|_| Malformed("a name that no directory can have"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_escape_or_confuse_are_refused() {
        let long = [b'x'; 256];
        for (bytes, why) in [
            (&b""[..], BadName::Empty),
            (b".", BadName::Reserved),
            (b"..", BadName::Reserved),
            (b"a/b", BadName::Reserved),
            (b"a\0", BadName::Reserved),
            (&long, BadName::TooLong),
        ] {
            assert_eq!(Name::new(bytes), Err(why));
        }
        for bytes in [&b"a"[..], b"...", b".a", b"\xff\xfe", &long[..255]] {
            assert_eq!(Name::new(bytes).map(|name| name.to_vec()), Ok(bytes.to_vec()));
        }
    }
}
