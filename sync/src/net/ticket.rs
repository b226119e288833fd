//! Tickets: what lets a device in that is no member yet.
//!
//! `jaxfs1` and base32 of `version (1) = 0 || DAG-CBOR || checksum (4)`. A ticket is worth what it lets do until it is used or
//! expires: it is to be passed on like a password. It says nothing of what is in the bucket, and not even its name.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};

use super::wire::{ADDRESSES_EACH, Reach};
use crate::bucket::{Role, Timestamp};
use crate::crypto::Secret;
use crate::link::{BucketId, Link};

const PREFIX: &str = "jaxfs1";
const CHECK: usize = 4;
/// Owners' devices in one ticket.
const DOORS: usize = 8;
/// The longest text that is looked at.
const TEXT: usize = 16 << 10;

/// An invitation to one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The bucket, by its genesis.
    pub bucket: Link,
    /// Its label, which keys are bound to.
    pub id: BucketId,
    /// What whoever joins may do.
    pub role: Role,
    /// When it expires.
    pub expires: Timestamp,
    /// What proves that it is ours.
    pub secret: Secret,
    /// Whom to ask: devices that have the owner key, and where they are.
    pub doors: Vec<Reach>,
}

#[derive(Serialize, Deserialize)]
struct Fields(Link, BucketId, Role, u64, #[serde(with = "serde_bytes")] Vec<u8>, Vec<Reach>);

/// Why a text is no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATicket {
    /// Something else.
    #[error("this is no ticket: a ticket begins with `jaxfs1`")]
    Other,
    /// Cut off, or mistyped.
    #[error("the ticket is damaged: copy all of it")]
    Damaged,
    /// Made by a newer program.
    #[error("the ticket is of a newer version: update jaxfs")]
    Newer,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields =
            Fields(self.bucket, self.id, self.role, self.expires.0, self.secret.expose().to_vec(), self.doors.clone());
        let mut bytes = vec![0];
        bytes.extend(serde_ipld_dagcbor::to_vec(&fields).map_err(|_| fmt::Error)?);
        bytes.extend_from_slice(&checksum(&bytes));
        write!(f, "{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl FromStr for Ticket {
    type Err = NotATicket;

    fn from_str(text: &str) -> Result<Self, NotATicket> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).take(TEXT).collect();
        let code = text.to_ascii_lowercase();
        let code = code.strip_prefix(PREFIX).ok_or(NotATicket::Other)?.to_ascii_uppercase();
        let bytes = BASE32_NOPAD.decode(code.as_bytes()).map_err(|_| NotATicket::Damaged)?;
        let (body, check) = bytes.split_last_chunk::<CHECK>().ok_or(NotATicket::Damaged)?;
        if checksum(body) != *check {
            return Err(NotATicket::Damaged);
        }
        let (version, fields) = body.split_first().ok_or(NotATicket::Damaged)?;
        if *version != 0 {
            return Err(NotATicket::Newer);
        }
        let fields: Fields = serde_ipld_dagcbor::from_slice(fields).map_err(|_| NotATicket::Damaged)?;
        let Fields(bucket, id, role, expires, secret, doors) = fields;
        let secret = <[u8; 32]>::try_from(secret).map_err(|_| NotATicket::Damaged)?;
        if doors.len() > DOORS || doors.iter().any(|door| door.sockets.len() > ADDRESSES_EACH) {
            return Err(NotATicket::Damaged);
        }
        Ok(Self { bucket, id, role, expires: Timestamp(expires), secret: Secret::new(secret), doors })
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECK] {
    let digest = blake3::derive_key("jaxfs v0 ticket checksum", bytes);
    [digest[0], digest[1], digest[2], digest[3]]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::bucket::DeviceId;
    use crate::bucket::testing::link;

    fn ticket() -> Ticket {
        let sockets = vec!["192.168.1.7:40123".parse().unwrap(), "[fe80::1]:40124".parse().unwrap()];
        let door = Reach { device: DeviceId([9; 32]), sockets, relay: Some("https://relay.example".into()) };
        Ticket {
            bucket: link("g"),
            id: BucketId(uuid::Uuid::from_u128(7)),
            role: Role::Reader,
            expires: Timestamp(1_800_000_000_000),
            secret: Secret::new([3; 32]),
            doors: vec![door],
        }
    }

    #[test]
    fn a_ticket_is_read_again_also_with_line_breaks_and_capitals() {
        let text = ticket().to_string();
        assert!(text.starts_with("jaxfs1") && text.len() < 500, "{} {text}", text.len());
        assert_eq!(text.parse(), Ok(ticket()));
        let loud = text.to_ascii_uppercase();
        let broken = loud.as_bytes().chunks(40).map(|part| String::from_utf8_lossy(part) + "\n");
        assert_eq!(broken.collect::<String>().parse(), Ok(ticket()));
    }

    #[test]
    fn what_is_no_ticket_is_named_and_every_changed_letter_is_noticed() {
        let text = ticket().to_string();
        assert_eq!("hello".parse::<Ticket>(), Err(NotATicket::Other));
        assert_eq!("jaxfs1".parse::<Ticket>(), Err(NotATicket::Damaged));
        for cut in 6..text.len() {
            assert_eq!(text[..cut].parse::<Ticket>(), Err(NotATicket::Damaged), "cut at {cut}");
        }
        for at in 6..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'a' { b'b' } else { b'a' };
            assert!(String::from_utf8(other).unwrap().parse::<Ticket>().is_err(), "changed at {at}");
        }
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        assert!(!format!("{:?}", ticket()).contains("3, 3, 3"));
    }
}
