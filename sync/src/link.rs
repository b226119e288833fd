//! Names for things: content addresses, and the identifiers of buckets, epochs and files.
//!
//! A [`Link`] is a CIDv1 with a BLAKE3-256 digest, and nothing else is accepted from outside: two codecs, one hash.

use std::fmt;
use std::str::FromStr;

use cid::Cid;
use cid::multihash::Multihash;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The multihash code of BLAKE3 (multicodec table).
const BLAKE3: u64 = 0x1e;
/// Bytes of a link in binary: version, codec, hash code, digest length, digest.
pub const LINK_BYTES: usize = 36;

/// How the bytes behind a link are to be read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Codec {
    /// Sealed file content (`raw`, 0x55).
    Raw,
    /// A manifest, a member list or a node (`dag-cbor`, 0x71).
    DagCbor,
}

impl Codec {
    /// The multicodec number.
    pub const fn code(self) -> u64 {
        match self {
            Codec::Raw => 0x55,
            Codec::DagCbor => 0x71,
        }
    }

    /// The codec of a multicodec number.
    pub fn of(code: u64) -> Option<Self> {
        [Codec::Raw, Codec::DagCbor].into_iter().find(|codec| codec.code() == code)
    }
}

/// A content address: CIDv1, BLAKE3-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    digest: [u8; 32],
    codec: Codec,
}

/// Something that is not a link that this program understands.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a CIDv1 with BLAKE3-256 of raw or dag-cbor data")]
pub struct NotALink;

impl Link {
    /// The address of `bytes`.
    pub fn of(codec: Codec, bytes: &[u8]) -> Self {
        Self { codec, digest: *blake3::hash(bytes).as_bytes() }
    }

    /// A link from its parts, for an index that stores them apart.
    pub const fn from_parts(codec: Codec, digest: [u8; 32]) -> Self {
        Self { codec, digest }
    }

    /// How the bytes are to be read.
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// The 32 bytes of the BLAKE3 digest. Ties between heads are decided by these.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The first 8 bytes of the digest, for sets that may take two blocks for one.
    pub fn prefix(&self) -> u64 {
        self.digest.first_chunk().map_or(0, |head| u64::from_le_bytes(*head))
    }

    /// Whether `bytes` are what this link names. O(len).
    pub fn names(&self, bytes: &[u8]) -> bool {
        blake3::hash(bytes) == blake3::Hash::from_bytes(self.digest)
    }

    /// The binary form of the CID, [`LINK_BYTES`] long.
    pub fn to_bytes(&self) -> [u8; LINK_BYTES] {
        let mut out = [0; LINK_BYTES];
        out[..4].copy_from_slice(&[1, self.codec.code() as u8, BLAKE3 as u8, 32]);
        out[4..].copy_from_slice(&self.digest);
        out
    }

    /// Reads the binary form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotALink> {
        let (head, digest) = bytes.split_first_chunk::<4>().ok_or(NotALink)?;
        let codec = match head {
            [1, 0x55, 0x1e, 32] => Codec::Raw,
            [1, 0x71, 0x1e, 32] => Codec::DagCbor,
            _ => return Err(NotALink),
        };
        Ok(Self { codec, digest: digest.try_into().map_err(|_| NotALink)? })
    }

    /// The first characters that differ between links, for people: `8` of them from the digest, in hexadecimal.
    pub fn short(&self) -> String {
        self.digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn to_cid(self) -> Cid {
        let hash = Multihash::wrap(BLAKE3, &self.digest).expect("32 bytes fit in a 64-byte multihash");
        Cid::new_v1(self.codec.code(), hash)
    }
}

impl TryFrom<&Cid> for Link {
    type Error = NotALink;

    fn try_from(cid: &Cid) -> Result<Self, NotALink> {
        Self::from_bytes(&cid.to_bytes())
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_cid().fmt(f)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.codec, self.short())
    }
}

impl FromStr for Link {
    type Err = NotALink;

    fn from_str(text: &str) -> Result<Self, NotALink> {
        Cid::from_str(text).map_err(|_| NotALink).and_then(|cid| Self::try_from(&cid))
    }
}

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_cid().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let cid = Cid::deserialize(deserializer)?;
        Self::try_from(&cid).map_err(serde::de::Error::custom)
    }
}

/// A bucket's label: a random UUID. Its true identity is the link of its genesis.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BucketId(pub uuid::Uuid);

impl fmt::Display for BucketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for BucketId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_bytes())
    }
}

impl<'de> Deserialize<'de> for BucketId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteArray::<16>::deserialize(deserializer)?;
        Ok(Self(uuid::Uuid::from_bytes(bytes.into_array())))
    }
}

/// How often the owner has changed the keys. 0 until the first removal of a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// A link together with the epoch whose key opens what it names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockRef {
    /// What.
    pub link: Link,
    /// With which key.
    pub epoch: Epoch,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_binary_forms_round_trip_and_match_the_cid_library() {
        let link = Link::of(Codec::DagCbor, b"jaxfs");
        assert_eq!(Link::from_bytes(&link.to_bytes()), Ok(link));
        assert_eq!(link.to_string().parse(), Ok(link));
        assert_eq!(link.to_cid().to_bytes(), link.to_bytes());
    }

    #[test]
    fn other_hashes_codecs_and_versions_are_refused() {
        let good = Link::of(Codec::Raw, b"").to_bytes();
        for (at, value) in [(0, 0), (1, 0x70), (2, 0x12), (3, 31)] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(Link::from_bytes(&bad), Err(NotALink));
        }
        assert_eq!(Link::from_bytes(&good[..35]), Err(NotALink));
        assert_eq!("QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n".parse::<Link>(), Err(NotALink));
    }
}
