//! What a bucket shows, where that is not simply the head.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use jaxfs_sync::chain::{Ballot, OnFork, OnHardFork, OnReorganisation, Policy};
use jaxfs_sync::link::Link;
use jaxfs_sync::publish::Bucket;

use super::report;
use super::state::{State, named};
use crate::control::protocol::{HeadAnswer, HeadRequest, Target};

/// So many characters of a link tell which one is meant.
const SHORTEST: usize = 4;

/// How long a mount may take to move to another version, before who asked for that is told that it has not.
const SETTLE: Duration = Duration::from_secs(30);

impl State {
    /// Does what is asked, and tells what is shown then.
    pub(super) fn head(&self, target: &Target, action: &HeadRequest) -> Result<HeadAnswer> {
        let id = self.one(target)?;
        let bucket = self.open(id)?;
        let votes = match action {
            HeadRequest::Show => None,
            HeadRequest::Policy { deep_reorganisation, hard_fork, writes_while_forked } => {
                let names = [deep_reorganisation, hard_fork, writes_while_forked].map(Option::as_deref);
                bucket.set_policy(changed(bucket.policy(), names)?)?;
                None
            }
            HeadRequest::Pin { version } => {
                bucket.pin(Some(find(&bucket, version)?))?;
                None
            }
            HeadRequest::Unpin => {
                ensure!(bucket.pinned().is_some(), "nothing is pinned: the newest version is shown");
                bucket.pin(None)?;
                None
            }
            HeadRequest::Adopt => {
                ensure!(bucket.pinned().is_some(), "nothing is held back: the newest version is shown");
                bucket.pin(None)?;
                None
            }
            HeadRequest::Vote => Some(counted(&bucket.vote()?)),
        };
        if !matches!(action, HeadRequest::Show) {
            // A mount publishes what it has before it moves on.
            ensure!(
                bucket.settle(SETTLE),
                "that is decided, and the mount still shows what it did: `jaxfs status` says what keeps it"
            );
        }
        Ok(HeadAnswer { bucket: named(id, &bucket), head: report::head(&bucket.status()?), votes })
    }
}

/// The version that a height on the head's chain, a link, or the beginning of one names.
fn find(bucket: &Bucket, wanted: &str) -> Result<Link> {
    let log = bucket.log()?;
    let height = wanted.parse().ok();
    let by_height = log.iter().find(|entry| entry.canonical && Some(entry.height.0) == height);
    let wanted = wanted.to_ascii_lowercase();
    let names =
        |link: &Link| link.to_string() == wanted || wanted.len() >= SHORTEST && link.short().starts_with(&wanted);
    let by_link: Vec<_> = log.iter().filter(|entry| names(&entry.link)).collect();
    match (by_height, &by_link[..]) {
        (Some(entry), []) => Ok(entry.link),
        (None, [entry]) => Ok(entry.link),
        (None, []) => Err(anyhow!("there is no version `{wanted}`: `jaxfs log` shows them")),
        _ => Err(anyhow!(
            "more than one version is called `{wanted}`: give all of its link, as `jaxfs log --json` shows it"
        )),
    }
}

/// A policy with some of its choices changed, by their names.
fn changed(mut policy: Policy, [reorganisation, hard_fork, fork]: [Option<&str>; 3]) -> Result<Policy> {
    let unknown = |name: &str| anyhow!("there is no policy `{name}`");
    if let Some(name) = reorganisation {
        policy.reorganisation = match name {
            "adopt" => OnReorganisation::Adopt,
            "hold" => OnReorganisation::Hold,
            _ => return Err(unknown(name)),
        };
    }
    if let Some(name) = hard_fork {
        policy.hard_fork = match name {
            "tell" => OnHardFork::Tell,
            "majority" => OnHardFork::Majority,
            "refuse" => OnHardFork::Refuse,
            _ => return Err(unknown(name)),
        };
    }
    if let Some(name) = fork {
        policy.fork = match name {
            "allow" => OnFork::Allow,
            "refuse" => OnFork::Refuse,
            _ => return Err(unknown(name)),
        };
    }
    Ok(policy)
}

fn counted(ballot: &Ballot) -> (u64, Vec<(String, u64)>) {
    let votes = ballot.votes.iter().map(|(link, count)| (link.short(), *count as u64));
    (ballot.voters as u64, votes.collect())
}
