//! The bodies of nodes: DAG-CBOR of unsigned and negative integers, byte strings, arrays and null, and nothing else.
//!
//! Written by hand, because a body refers to its node's clear links by index, which a derived reader has no way to
//! resolve, and because a reader that takes only the shortest form of each integer makes every body that decodes
//! canonical without encoding it again. The rules for links do the same: each is in the table once, in the order of
//! first use, and none is unused.

use std::collections::HashMap;

use crate::link::BlockRef;

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const ARRAY: u8 = 4;
const NULL: u8 = 0xf6;

/// Writes a body, and gathers the links that it uses.
#[derive(Default)]
pub struct Encoder {
    body: Vec<u8>,
    links: Vec<BlockRef>,
    index: HashMap<BlockRef, u64>,
}

impl Encoder {
    /// An empty body.
    pub fn new() -> Self {
        Self::default()
    }

    /// The links in the order of first use, and the body.
    pub fn finish(self) -> (Vec<BlockRef>, Vec<u8>) {
        (self.links, self.body)
    }

    /// Bytes so far, those that the links take in the clear part included.
    pub fn weight(&self) -> usize {
        self.body.len() + self.links.len() * LINK_WEIGHT
    }

    /// Begins an array of `len` values.
    pub fn array(&mut self, len: usize) {
        self.head(ARRAY, len as u64);
    }

    /// An unsigned integer.
    pub fn unsigned(&mut self, value: u64) {
        self.head(UNSIGNED, value);
    }

    /// A signed integer.
    pub fn signed(&mut self, value: i64) {
        if value < 0 { self.head(NEGATIVE, !value as u64) } else { self.head(UNSIGNED, value as u64) }
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.head(BYTES, bytes.len() as u64);
        self.body.extend_from_slice(bytes);
    }

    /// Nothing.
    pub fn null(&mut self) {
        self.body.push(NULL);
    }

    /// A link, as its index in the node's table.
    pub fn link(&mut self, link: &BlockRef) {
        let next = self.links.len() as u64;
        let index = *self.index.entry(*link).or_insert(next);
        if index == next {
            self.links.push(*link);
        }
        self.unsigned(index);
    }

    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        match value {
            0..=23 => self.body.push(major | value as u8),
            24..=0xff => self.body.extend_from_slice(&[major | 24, value as u8]),
            0x100..=0xffff => {
                self.body.push(major | 25);
                self.body.extend_from_slice(&(value as u16).to_be_bytes());
            }
            0x1_0000..=0xffff_ffff => {
                self.body.push(major | 26);
                self.body.extend_from_slice(&(value as u32).to_be_bytes());
            }
            _ => {
                self.body.push(major | 27);
                self.body.extend_from_slice(&value.to_be_bytes());
            }
        }
    }
}

/// What one link takes in a node's clear part: tag, byte string head, the multibase zero, and the 36 bytes of the CID.
pub const LINK_WEIGHT: usize = 41;

/// Reads a body. Every method is total; an error leaves the reader anywhere.
pub struct Decoder<'a> {
    rest: &'a [u8],
    links: &'a [BlockRef],
    used: usize,
}

impl<'a> Decoder<'a> {
    /// A reader of `body`, whose node has `links`.
    pub fn new(links: &'a [BlockRef], body: &'a [u8]) -> Self {
        Self { rest: body, links, used: 0 }
    }

    /// Checks that all of the body and all of the links were used, and that no link stands twice in the table.
    pub fn finish(self) -> Result<(), Malformed> {
        if !self.rest.is_empty() {
            return Err(Malformed("bytes after the end"));
        }
        if self.used != self.links.len() {
            return Err(Malformed("a link that nothing uses"));
        }
        let mut sorted: Vec<_> = self.links.iter().collect();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Malformed("a link twice in the table"));
        }
        Ok(())
    }

    /// The head of an array, and how many values follow: at most as many as there are bytes left.
    pub fn array(&mut self) -> Result<usize, Malformed> {
        let len = self.head(ARRAY, "an array is missing")?;
        usize::try_from(len)
            .ok()
            .filter(|len| *len <= self.rest.len())
            .ok_or(Malformed("an array longer than its body"))
    }

    /// The head of an array that has to have `len` values.
    pub fn array_of(&mut self, len: usize) -> Result<(), Malformed> {
        if self.array()? == len { Ok(()) } else { Err(Malformed("an array of another length")) }
    }

    /// An unsigned integer.
    pub fn unsigned(&mut self) -> Result<u64, Malformed> {
        self.head(UNSIGNED, "an unsigned integer is missing")
    }

    /// An unsigned integer that fits in a narrower type.
    pub fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        T::try_from(self.unsigned()?).map_err(|_| Malformed("an integer out of range"))
    }

    /// A signed integer.
    pub fn signed(&mut self) -> Result<i64, Malformed> {
        let negative = self.rest.first().is_some_and(|byte| byte >> 5 == NEGATIVE);
        let value = self.head(if negative { NEGATIVE } else { UNSIGNED }, "an integer is missing")?;
        let value = i64::try_from(value).map_err(|_| Malformed("an integer out of range"))?;
        Ok(if negative { !value } else { value })
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.head(BYTES, "a byte string is missing")?;
        let len = usize::try_from(len).map_err(|_| Malformed("a string longer than its body"))?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Malformed("a string longer than its body"))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Whether null comes next; it is taken if so.
    pub fn null(&mut self) -> bool {
        let null = self.rest.first() == Some(&NULL);
        if null {
            self.rest = &self.rest[1..];
        }
        null
    }

    /// Whether a byte string comes next.
    pub fn at_bytes(&self) -> bool {
        self.rest.first().is_some_and(|byte| byte >> 5 == BYTES)
    }

    /// Whether an array comes next.
    pub fn at_array(&self) -> bool {
        self.rest.first().is_some_and(|byte| byte >> 5 == ARRAY)
    }

    /// A link.
    pub fn link(&mut self) -> Result<BlockRef, Malformed> {
        let index: usize = self.narrow()?;
        let link = self.links.get(index).ok_or(Malformed("a link beyond the table"))?;
        if index > self.used {
            return Err(Malformed("links not in the order of first use"));
        }
        self.used = self.used.max(index + 1);
        Ok(*link)
    }

    fn head(&mut self, major: u8, missing: &'static str) -> Result<u64, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed("the body ends early"))?;
        if first >> 5 != major {
            return Err(Malformed(missing));
        }
        let (value, least, rest) = match first & 31 {
            small @ 0..=23 => (u64::from(small), 0, rest),
            24 => argument::<1>(rest, 24)?,
            25 => argument::<2>(rest, 0x100)?,
            26 => argument::<4>(rest, 0x1_0000)?,
            27 => argument::<8>(rest, 0x1_0000_0000)?,
            _ => return Err(Malformed("not DAG-CBOR")),
        };
        if value < least {
            return Err(Malformed("an integer in more bytes than it needs"));
        }
        self.rest = rest;
        Ok(value)
    }
}

fn argument<const N: usize>(rest: &[u8], least: u64) -> Result<(u64, u64, &[u8]), Malformed> {
    let (bytes, rest) = rest.split_first_chunk::<N>().ok_or(Malformed("the body ends early"))?;
    let value = bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Ok((value, least, rest))
}
