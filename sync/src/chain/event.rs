//! What can happen to a chain, and what follows from it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dispute::HardFork;
use super::pin::{Pin, Policy};
use crate::bucket::{DeviceId, Height, MemberList, Rejected, VerifiedManifest};
use crate::link::Link;

/// How a manifest came here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// This device made it.
    Own,
    /// This peer passed it on as a head, its own or another's.
    Announced(DeviceId),
    /// It was fetched from this peer as an ancestor of another. Never tested for staleness, and under no limit: we asked.
    History(DeviceId),
}

/// What can happen to a chain.
#[derive(Clone, Debug)]
pub enum Input {
    /// A manifest arrived.
    Manifest {
        /// The manifest.
        manifest: Arc<VerifiedManifest>,
        /// How it came.
        source: Source,
    },
    /// A member list arrived, wanted or not.
    Members(Box<MemberList>),
    /// What a link to a member list names is no member list of this bucket's.
    MembersRejected(Link),
    /// All directory nodes of an admitted manifest are on this machine. Of one that is not admitted, nothing happens.
    Complete(Link),
    /// A member can be reached directly.
    Connected(DeviceId),
    /// It can not be any more. Whatever was asked of it is asked elsewhere.
    Disconnected(DeviceId),
    /// What a connected member knows.
    Heads {
        /// Who.
        from: DeviceId,
        /// What.
        heads: Box<Heads>,
        /// Whether it wants ours.
        answer: bool,
    },
    /// The answer to an [`Output::Fetch`] is over; what came was handed in before.
    Fetched {
        /// Of whom it was asked.
        from: DeviceId,
        /// Whether it came to its end: no connection broke, and nothing in it was rejected.
        ok: bool,
        /// Whether there is more where it ended.
        more: bool,
    },
    /// Time has passed: see [`super::Chain::next_tick`].
    Tick,
    /// The user wants this version shown, whatever the head is; or, with none, the head again.
    Pin(Option<Link>),
    /// The user wants what most of the connected members show: see [`super::Chain::ballot`].
    Vote,
    /// What this device does on its own from now on.
    Policy(Policy),
    /// This orphan of this device's has nothing left to re-apply.
    Settled(Link),
}

/// Something that has to be here before a manifest can be judged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Missing {
    /// A parent.
    Manifest(Link),
    /// A member list.
    Members(Link),
}

/// What members tell each other when they meet, and every now and then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heads {
    /// The start of the sender's chain.
    pub genesis: Link,
    /// The newest manifest version that the sender knows ([`crate::bucket::MANIFEST_VERSION`]).
    pub version: u64,
    /// Its canonical head.
    pub head: Link,
    /// What it shows and builds on; none before a version is complete there.
    pub shown: Option<Link>,
    /// Whether it shows that because it is pinned.
    pub pinned: bool,
    /// Other leaves that are not stale, at most [`crate::limits::HEADS_TIPS`], the greatest keys.
    pub tips: Vec<Link>,
}

impl Heads {
    /// All manifests that it names; some may stand twice.
    pub fn links(&self) -> impl Iterator<Item = Link> + '_ {
        [self.head].into_iter().chain(self.shown).chain(self.tips.iter().copied())
    }
}

/// What a chain asks of a peer: all between what it wants and what it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryRequest {
    /// What is wanted, at most [`crate::limits::WANTS`].
    pub wants: Vec<Missing>,
    /// Manifests that are here, ever fewer the older, at most [`crate::limits::LOCATOR_LINKS`].
    pub locator: Vec<Link>,
}

/// What a chain can answer to that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Manifests, parents before children, each behind the member list that it needs and its parent did not.
    pub items: Vec<Missing>,
    /// Whether there is more behind them.
    pub more: bool,
}

/// What a chain asks of the world, and tells it. To be done in the order in which it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Store this: it is valid, and now part of the chain. Parents come first.
    Admitted(Arc<VerifiedManifest>),
    /// It is not valid, and never will be. If it was fetched, give up that answer: nothing good follows.
    Rejected {
        /// Which manifest.
        link: Link,
        /// Why.
        why: Rejected,
    },
    /// There was no room for it. It may come again.
    Dropped(Link),
    /// Its author makes too many: it is looked at later.
    Deferred(Link),
    /// Tell all members of this manifest.
    Announce(Link),
    /// Tell this one what is known here.
    SendHeads {
        /// Whom.
        to: DeviceId,
        /// What.
        heads: Box<Heads>,
        /// Whether to ask for its heads in return.
        answer: bool,
    },
    /// Fetch this from this member: hand in what comes, oldest first, and then [`Input::Fetched`].
    Fetch {
        /// From whom.
        from: DeviceId,
        /// What.
        request: HistoryRequest,
    },
    /// What was announced is behind; whoever passed it on is told our heads.
    Stale {
        /// What was announced.
        link: Link,
        /// Our head.
        head: Link,
    },
    /// The bucket has another head.
    Head {
        /// The head before.
        from: Link,
        /// The head now.
        to: Link,
        /// The length of its chain.
        height: Height,
        /// Where the two part, if the new one does not descend from the old one.
        fork_point: Option<Link>,
    },
    /// The new head descends from none of the last heads, as many as the finality depth. Follows its [`Output::Head`].
    DeepReorganisation {
        /// The head before.
        from: Link,
        /// The head now.
        to: Link,
        /// Where the two part.
        fork_point: Link,
    },
    /// Mounts show another version.
    Shown {
        /// The version before; none at first.
        from: Option<Link>,
        /// The version now.
        to: Link,
    },
    /// A tip fell too far behind.
    TipPruned {
        /// Which.
        link: Link,
        /// How many manifests the head is higher.
        behind: u64,
    },
    /// There is more than one tip. Save [`super::Chain::saved`].
    ForkStarted,
    /// There is one tip again. Save [`super::Chain::saved`].
    ForkResolved {
        /// How long there were more, in milliseconds.
        after: u64,
    },
    /// What is shown is pinned, or no longer. Save [`super::Chain::saved`].
    Pinned(Option<Pin>),
    /// Something else of [`super::Chain::saved`] changed.
    Save,
    /// A member and this device disagree, and time alone will not change that.
    HardFork {
        /// Who.
        peer: DeviceId,
        /// How.
        how: HardFork,
    },
    /// They agree again.
    HardForkEnded {
        /// Who.
        peer: DeviceId,
    },
}
