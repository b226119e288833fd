//! What is said over the control socket about other devices.

use serde::{Deserialize, Serialize};

use super::protocol::{BucketName, SecretText, Target};

/// What can be asked about members and peers.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PeersRequest {
    /// Makes a ticket. Answered by `Ticket`.
    Share { target: Target, role: String, expires_seconds: u64, uses: u32 },
    /// Joins a bucket. Answered by steps, and `Joined`.
    Join { ticket: SecretText, device_name: Option<String> },
    /// Answered by `Members`.
    Members { target: Target },
    /// Gives a member another role, or none. Answered by `Members`.
    ChangeMember { target: Target, member: String, role: Option<String> },
    /// Answered by `Peers`.
    Peers,
    /// Changes how this home is on the network; what is absent stays. Answered by `Network`.
    Network { relay: Option<String>, port: Option<u16>, local_discovery: Option<bool> },
}

/// What came of it.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PeersReply {
    Ticket(TicketReport),
    Joined(JoinedReport),
    Members(MembersReport),
    Peers(Vec<PeerReport>),
    Network(NetworkReport),
}

/// A new ticket.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct TicketReport {
    pub(crate) bucket: BucketName,
    pub(crate) ticket: SecretText,
    pub(crate) role: String,
    /// Milliseconds since 1970.
    pub(crate) expires: u64,
    pub(crate) uses: u32,
    /// Whether this node goes on while nobody is there for it.
    pub(crate) stays: bool,
}

/// A bucket that was joined.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct JoinedReport {
    pub(crate) bucket: BucketName,
    pub(crate) role: String,
}

/// The members of a bucket.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct MembersReport {
    pub(crate) bucket: BucketName,
    pub(crate) epoch: u64,
    pub(crate) members: Vec<MemberReport>,
}

/// A member. These are the names in `members --json`.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub(crate) struct MemberReport {
    /// Its key in hexadecimal.
    pub(crate) device: String,
    pub(crate) name: Option<String>,
    pub(crate) role: String,
    /// Whether it is this device.
    pub(crate) own: bool,
    pub(crate) connected: bool,
    /// Whether it says that it has all of what is shown here.
    pub(crate) holds_all: bool,
}

/// Another device. These are the names in `peers --json`.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub(crate) struct PeerReport {
    pub(crate) device: String,
    pub(crate) name: Option<String>,
    /// Of which buckets it is a member, by their names.
    pub(crate) buckets: Vec<String>,
    pub(crate) connected: bool,
    pub(crate) address: Option<String>,
    pub(crate) rtt_ms: Option<f64>,
    /// Whether it says that this device is no member.
    pub(crate) refused: bool,
}

/// How a home is on the network. These are the names in `network --json`.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub(crate) struct NetworkReport {
    pub(crate) online: bool,
    pub(crate) port: u16,
    pub(crate) relay: String,
    pub(crate) local_discovery: bool,
    pub(crate) addresses: Vec<String>,
}

/// A bucket on the network, as `status` shows it.
#[derive(Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SwarmReport {
    pub(crate) members: u64,
    pub(crate) connected: u64,
    /// Members that say that they have all of what is shown here.
    pub(crate) holders: u64,
    /// Versions that are known and whose directories have not all come.
    pub(crate) incomplete: u64,
    /// Blocks of content that are known to be missing.
    pub(crate) missing: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
}
