//! What is shown: the greatest complete version, or a pin.
//!
//! A pin is this device's own decision to show and build on another version than the canonical one. It never changes what
//! the canonical head is. It moves along with this device's own writes, and with nobody else's.

use serde::{Deserialize, Serialize};

use super::dag::Index;
use super::{Chain, Output};
use crate::link::Link;

/// Why something is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The user said so.
    User,
    /// A deep reorganisation waits for the user's word.
    Held,
    /// Most connected members show it.
    Majority,
}

/// A version that is shown whatever the head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Which.
    pub at: Link,
    /// Why.
    pub cause: Cause,
}

/// What a device does on its own. Its own business: no other device has to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// When the head leaves all of the last heads behind.
    pub reorganisation: OnReorganisation,
    /// When a member can not be agreed with.
    pub hard_fork: OnHardFork,
    /// Whether to write while there is more than one tip.
    pub fork: OnFork,
}

/// What to do about a deep reorganisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnReorganisation {
    /// Show the new head.
    #[default]
    Adopt,
    /// Go on with the old one until the user has decided.
    Hold,
}

/// What to do about a hard fork.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnHardFork {
    /// Say so.
    #[default]
    Tell,
    /// Show what most connected members show.
    Majority,
    /// Publish nothing until it is over.
    Refuse,
}

/// Whether to write while a fork is live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFork {
    /// On the head.
    #[default]
    Allow,
    /// Not before it is over.
    Refuse,
}

/// Why nothing may be published now, by this device's own policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is more than one tip.
    #[error("the bucket is forked, and this device is set not to write meanwhile")]
    Forked,
    /// A member can not be agreed with.
    #[error("the bucket is split for good, and this device is set not to write before that is settled")]
    HardForked,
}

/// A pin, as the chain keeps it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pinned {
    pub(super) at: Index,
    pub(super) cause: Cause,
}

impl Chain {
    /// What is pinned.
    pub fn pin(&self) -> Option<Pin> {
        self.pinned.map(|pinned| Pin { at: self.dag.link(pinned.at), cause: pinned.cause })
    }

    /// What this device does on its own.
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// Whether this device may publish now.
    ///
    /// # Errors
    /// If its policy says no.
    pub fn may_publish(&self) -> Result<(), Refusal> {
        if self.policy.fork == OnFork::Refuse && self.is_forked() {
            return Err(Refusal::Forked);
        }
        if self.policy.hard_fork == OnHardFork::Refuse && self.hard_forks().next().is_some() {
            return Err(Refusal::HardForked);
        }
        Ok(())
    }

    /// Pins a known version, or nothing.
    pub(super) fn set_pin(&mut self, pin: Option<Pin>, out: &mut Vec<Output>) {
        let pinned = match pin {
            None => None,
            Some(Pin { at, cause }) => match self.dag.find(&at) {
                Some(at) => Some(Pinned { at, cause }),
                None => return,
            },
        };
        if self.pin() == pin {
            return;
        }
        self.pinned = pinned;
        out.push(Output::Pinned(pin));
        self.show(out);
    }

    /// This device has written on what it shows.
    pub(super) fn move_pin(&mut self, parent: Index, to: Index, out: &mut Vec<Output>) {
        if let Some(pinned) = &mut self.pinned
            && pinned.at == parent
        {
            pinned.at = to;
            out.push(Output::Pinned(self.pin()));
        }
    }

    /// Keeps what is shown in spite of a new head that has nothing of it.
    pub(super) fn hold(&mut self, out: &mut Vec<Output>) {
        if self.policy.reorganisation == OnReorganisation::Hold
            && self.pinned.is_none()
            && let Some(at) = self.shown()
        {
            self.set_pin(Some(Pin { at, cause: Cause::Held }), out);
        }
    }

    /// Holds no longer what the head has come back to.
    pub(super) fn end_hold(&mut self, out: &mut Vec<Output>) {
        let held = self.pinned.filter(|pinned| pinned.cause == Cause::Held);
        if held.is_some_and(|pinned| self.dag.is_ancestor(pinned.at, self.head)) {
            self.set_pin(None, out);
        }
    }

    /// Shows what is to be shown, if that has changed.
    pub(super) fn show(&mut self, out: &mut Vec<Output>) {
        let target = match self.pinned {
            None => self.best,
            Some(pinned) if self.dag.get(pinned.at).complete => Some(pinned.at),
            Some(_) => self.shown,
        };
        if let Some(at) = target
            && self.shown != Some(at)
        {
            let from = self.shown.replace(at).map(|shown| self.dag.link(shown));
            out.push(Output::Shown { from, to: self.dag.link(at) });
        }
    }
}
