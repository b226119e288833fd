//! What is said over the control socket, version 1.
//!
//! A request is one line, `{"v":1,"request":...}`; its answer is any number of `{"event":...}` lines and then one
//! `{"reply":...}` or `{"failure":...}`. Another version is refused by name, never guessed at.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::peers::{PeersReply, PeersRequest, SwarmReport};

/// The version that this program speaks.
pub(crate) const VERSION: u32 = 1;
/// The longest request line: two paths (4,096 bytes, escaped fourfold at worst) and change.
pub(crate) const REQUEST_BYTES: usize = 64 << 10;
/// The longest answer line: a status of some thousand buckets, or problems that `verify` found.
pub(crate) const ANSWER_BYTES: usize = 4 << 20;
/// Versions of a bucket in one event of `log`.
pub(crate) const LOG_BATCH: usize = 512;
/// Problems that `verify` names; the rest is counted.
pub(crate) const PROBLEMS: usize = 1_000;

/// A request line, as it is sent.
#[derive(Serialize)]
pub(crate) struct RequestOut<'a> {
    pub(crate) v: u32,
    pub(crate) request: &'a Request,
}

/// A request line's version, read before the rest of it.
#[derive(Deserialize)]
pub(crate) struct VersionOf {
    pub(crate) v: u32,
}

/// A request line, as it is read.
#[derive(Deserialize)]
pub(crate) struct RequestIn {
    pub(crate) request: Request,
}

/// What can be asked of a node.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Opens the keys with their passphrase. Answered by `Done`.
    Unlock { passphrase: SecretText },
    /// Mounts a bucket. Answered by `Mounted` once it is live.
    Mount(MountRequest),
    /// Waits until what is mounted there is gone. Answered by `Done`.
    Wait {
        #[serde(with = "path_text")]
        dir: PathBuf,
    },
    /// Publishes and unmounts. Answered by `Unmounted`.
    Unmount {
        #[serde(with = "path_text")]
        dir: PathBuf,
        seconds: u64,
        force: bool,
    },
    /// Answered by `Status`, of all buckets or of the one mounted there.
    Status { target: Target },
    /// Publishes what is written, everywhere or there, and waits until so many others have it. Answered by `Synced`.
    Sync { target: Target, holders: u64, seconds: Option<u64> },
    /// Answered by events with versions, newest first, and `Done`.
    Log { target: Target },
    /// Changes what is shown, or tells it. Answered by `Head`.
    Head { target: Target, action: HeadRequest },
    /// About members and peers. Answered by `Peers`.
    Peers(PeersRequest),
    /// Answered by `Metrics`.
    Metrics,
    /// Answered by `Buckets`.
    Buckets,
    /// Makes an empty bucket. Answered by `Bucket`.
    CreateBucket { name: String },
    /// Finds the one bucket that is meant. Answered by `Bucket`.
    FindBucket { bucket: Option<String> },
    /// Deletes a bucket by its whole id. Answered by `Done`.
    RemoveBucket { id: String },
    /// Reads everything in a bucket, after making its index anew if asked to. Answered by progress, and `Verified`.
    Verify { id: String, repair: bool },
    /// Drops what is not needed. Answered by progress, of blocks, and `Collected`.
    Collect(CollectRequest),
    /// Answered by `Device`.
    Device,
    /// Answered by `Phrase`.
    ExportKey { bucket: Option<String> },
    /// Takes an owner key back. Answered by `Bucket`.
    ImportKey { bucket: Option<String>, phrase: SecretText },
    /// Puts the keys under another passphrase, or none. Answered by `Done`.
    ChangePassphrase { old: Option<SecretText>, new: Option<SecretText> },
}

/// What to do with what is shown. The names of policies are those of `jaxfs head policy`.
#[derive(Serialize, Deserialize, Debug, Clone)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HeadRequest {
    Show,
    Pin { version: String },
    Unpin,
    Adopt,
    Vote,
    Policy { deep_reorganisation: Option<String>, hard_fork: Option<String>, writes_while_forked: Option<String> },
}

/// What to keep, and where.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub(crate) struct CollectRequest {
    pub(crate) target: Target,
    /// Seconds for which all versions are kept, the newest of each hour, and of each day; what is saved where absent.
    pub(crate) keep_all: Option<u64>,
    pub(crate) keep_hourly: Option<u64>,
    pub(crate) keep_daily: Option<u64>,
    /// Keep the same from now on.
    pub(crate) save: bool,
    /// Drop nothing.
    pub(crate) dry_run: bool,
}

/// Which bucket a question is about.
#[derive(Serialize, Deserialize, Debug, Clone)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// All, or the only one.
    Any,
    /// The one that is mounted there, or above it.
    Dir(#[serde(with = "path_text")] PathBuf),
    /// The one with this name or id.
    Bucket(String),
}

/// What to mount, where and how.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub(crate) struct MountRequest {
    /// Absolute, without symbolic links.
    #[serde(with = "path_text")]
    pub(crate) dir: PathBuf,
    /// A name or id, if one was given.
    pub(crate) bucket: Option<String>,
    pub(crate) settings: MountSettings,
}

/// How to mount.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountSettings {
    pub(crate) read_only: bool,
    pub(crate) owner: OwnerSetting,
    pub(crate) allow_other: bool,
    pub(crate) suid: bool,
    pub(crate) dev: bool,
    pub(crate) cache_bytes: u64,
    pub(crate) dirty_bytes: u64,
    /// What the home may take on the disk.
    pub(crate) max_space: Option<u64>,
}

/// Whose the files are shown as.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OwnerSetting {
    /// Everything is this user's.
    Me { uid: u32, gid: u32 },
    /// The stored numbers.
    Stored,
}

/// One line of an answer.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// More will come.
    Event(Event),
    /// The last line: it is done.
    Reply(Reply),
    /// The last line: it is not.
    Failure(Failure),
}

/// What is told while a request is worked on.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// Bytes or blocks done, of all; 0 where it is not known how many there are.
    Progress { done: u64, all: u64 },
    /// How far joining is, in words.
    Joining(String),
    /// Versions of a bucket.
    Versions(Vec<Version>),
}

/// What a request came to.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Done,
    Mounted(MountedReport),
    Unmounted(UnmountedReport),
    Status(Vec<BucketReport>),
    Synced(Vec<SyncReport>),
    Head(Box<HeadAnswer>),
    Peers(PeersReply),
    Metrics(String),
    Buckets(Vec<BucketReport>),
    Bucket(BucketName),
    Verified(VerifiedReport),
    Collected(CollectedReport),
    Device(DeviceReport),
    Phrase(PhraseReport),
}

/// A mount that is live.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct MountedReport {
    pub(crate) bucket: BucketName,
    pub(crate) made_key: bool,
    pub(crate) made_bucket: bool,
}

/// A mount that is gone.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct UnmountedReport {
    /// Some process still used it; it was detached.
    pub(crate) busy: bool,
    /// The node ends now, because this was its last mount.
    pub(crate) leaving: bool,
}

/// A bucket's two labels.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub(crate) struct BucketName {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// A bucket as `status` and `buckets` show it. These are the names in their `--json`.
#[derive(Serialize, Deserialize, Debug, Clone, Default)]
pub(crate) struct BucketReport {
    pub(crate) id: String,
    /// Absent where the bucket can not be opened; `trouble` says why.
    pub(crate) name: Option<String>,
    /// Where it is mounted.
    pub(crate) mount: Option<MountReport>,
    pub(crate) head: Option<HeadReport>,
    pub(crate) manifests: u64,
    pub(crate) blocks: u64,
    /// Bytes on this machine's disk.
    pub(crate) stored_bytes: u64,
    /// Absent where it is not on the network.
    pub(crate) swarm: Option<SwarmReport>,
    /// The last failure, if nothing has gone well since.
    pub(crate) trouble: Option<String>,
}

/// What a bucket shows after a `Head` request.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct HeadAnswer {
    pub(crate) bucket: BucketName,
    pub(crate) head: HeadReport,
    /// How many voted, and what for: the short link of a version and how many are for it.
    pub(crate) votes: Option<(u64, Vec<(String, u64)>)>,
}

/// A version that is shown whatever the head is.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub(crate) struct PinReport {
    pub(crate) short: String,
    /// `user`, `held` or `majority`.
    pub(crate) cause: String,
}

/// What a bucket shows, and its head.
#[derive(Serialize, Deserialize, Debug, Clone, Default)]
pub(crate) struct HeadReport {
    /// The whole link of what is shown.
    pub(crate) link: String,
    /// Its first characters.
    pub(crate) short: String,
    pub(crate) height: u64,
    pub(crate) epoch: u64,
    /// Leaves that compete, the head among them.
    pub(crate) tips: Vec<String>,
    /// Tips besides the head.
    pub(crate) forks: u64,
    /// Since when there are any, in milliseconds since 1970.
    pub(crate) forked_since: Option<u64>,
    /// The canonical head, where that is not what is shown.
    pub(crate) canonical: String,
    pub(crate) canonical_short: String,
    pub(crate) canonical_height: u64,
    pub(crate) pin: Option<PinReport>,
    pub(crate) policy: String,
    /// Why nothing is published now.
    pub(crate) refusal: Option<String>,
    /// Chains that lost, of any age, and those of this device's that were not brought back.
    pub(crate) orphans: u64,
    pub(crate) displaced: u64,
    /// Members that can not be agreed with, one line each.
    pub(crate) hard_forks: Vec<String>,
    /// Something durable is not published yet.
    pub(crate) unpublished: bool,
}

/// A live mount of a bucket.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub(crate) struct MountReport {
    /// As `\ooo` where it is not UTF-8.
    #[serde(with = "path_text")]
    pub(crate) dir: PathBuf,
    pub(crate) read_only: bool,
    /// Files and directories changed and not published yet.
    pub(crate) unpublished: u64,
    /// Bytes written and not sealed yet.
    pub(crate) dirty_bytes: u64,
}

/// A bucket that was synced.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct SyncReport {
    pub(crate) name: String,
    pub(crate) head: String,
}

/// A version of a bucket. These are the names in `log --json`.
#[derive(Serialize, Deserialize, Debug, Clone, Default)]
pub(crate) struct Version {
    pub(crate) link: String,
    pub(crate) short: String,
    pub(crate) previous: Option<String>,
    pub(crate) height: u64,
    pub(crate) epoch: u64,
    /// The author's device key in hexadecimal.
    pub(crate) author: String,
    pub(crate) device: String,
    /// Milliseconds since 1970, UTC.
    pub(crate) timestamp: u64,
    /// The canonical head.
    pub(crate) head: bool,
    /// What mounts show: the head, but for a pin or content that has not come.
    pub(crate) shown: bool,
    pub(crate) pinned: bool,
    /// On the head's chain.
    pub(crate) canonical: bool,
    /// A leaf that may still win.
    pub(crate) tip: bool,
    /// Links of orphans whose changes it carries.
    pub(crate) reapplied: Vec<String>,
    /// Whether its content is on this machine.
    pub(crate) complete: bool,
}

/// What `gc` did, or would do. These are the names in its `--json`.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct CollectedReport {
    pub(crate) bucket: BucketName,
    pub(crate) dry_run: bool,
    /// All known versions, those whose content is kept, and those whose content was dropped now.
    pub(crate) versions: u64,
    pub(crate) kept: u64,
    pub(crate) dropped: u64,
    /// Blocks that were dropped, and their bytes.
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    /// Bytes that the store takes less.
    pub(crate) freed: u64,
    /// The disk was too full to give back all.
    pub(crate) full: bool,
    /// It was ended before it was done.
    pub(crate) cancelled: bool,
    /// What could not be read, one line each.
    pub(crate) problems: Vec<String>,
}

/// What `verify` read, and what is hurt.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct VerifiedReport {
    pub(crate) bucket: BucketName,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    pub(crate) directories: u64,
    pub(crate) manifests: u64,
    /// At most [`PROBLEMS`] lines.
    pub(crate) problems: Vec<String>,
    /// All of them.
    pub(crate) problem_count: u64,
    pub(crate) repaired: Option<RepairedReport>,
}

/// What a new index has.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct RepairedReport {
    pub(crate) blocks: u64,
    pub(crate) manifests: u64,
    /// Bytes of damaged blocks, and of what a crash broke off.
    pub(crate) lost_bytes: u64,
}

/// This device.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct DeviceReport {
    pub(crate) id: String,
    /// Whether its key is under a passphrase.
    pub(crate) protected: bool,
}

/// An owner key in words.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct PhraseReport {
    pub(crate) bucket: BucketName,
    pub(crate) phrase: SecretText,
}

/// Why a request was not done, in one line that says what to do.
#[derive(Serialize, Deserialize, Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
}

/// Failures that a client acts upon.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FailureKind {
    /// The keys have a passphrase: unlock, and ask again.
    NeedsPassphrase,
    WrongPassphrase,
    /// The node ends: wait for that, and ask again.
    Leaving,
    NotMounted,
    Other,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Text that is wiped when dropped and silent in `Debug`: a passphrase, a recovery phrase.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(crate) struct SecretText(String);

impl SecretText {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// Paths as text: UTF-8 as it is, other bytes and the backslash as `\ooo`.
mod path_text {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        for chunk in path.as_os_str().as_bytes().utf8_chunks() {
            text.push_str(&chunk.valid().replace('\\', "\\134"));
            for byte in chunk.invalid() {
                write!(text, "\\{byte:03o}").map_err(serde::ser::Error::custom)?;
            }
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(crate::mountpoint::unescape(text.as_bytes()).into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn any_path_survives_the_wire() {
        for bytes in [&b"/a b/c"[..], b"/\xff\xfe/x", b"/back\\slash\\101", "/ä\n".as_bytes()] {
            let path = PathBuf::from(OsStr::from_bytes(bytes));
            let line = serde_json::to_string(&Request::Wait { dir: path.clone() }).unwrap();
            let Request::Wait { dir } = serde_json::from_str(&line).unwrap() else { panic!("another request") };
            assert_eq!(dir, path);
        }
    }

    #[test]
    fn secrets_do_not_show_in_debug() {
        let request = Request::Unlock { passphrase: SecretText::new("open sesame".into()) };
        assert!(!format!("{request:?}").contains("sesame"));
    }

    #[test]
    fn a_request_line_begins_with_its_version() {
        let line = serde_json::to_string(&RequestOut { v: VERSION, request: &Request::Device }).unwrap();
        assert_eq!(line, r#"{"v":1,"request":"device"}"#);
    }
}
