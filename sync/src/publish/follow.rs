//! What a bucket does about what its chain says: it tells people, counts, remembers, and shows another version.

use std::sync::Arc;

use super::{Bucket, BucketError, Replica, journal, now};
use crate::bucket::{Manifest, SignedManifest, VerifiedManifest};
use crate::chain::{
    Ballot, Chain, Input, OnFork, OnHardFork, OnReorganisation, Output, Pin, Policy, Refusal, Saved, Source,
};
use crate::link::Link;
use crate::store::{Commit, Store};

/// The store's name for what the chain knows besides its manifests.
pub(super) const SAVED: &str = "chain";

/// Who is told what follows from a manifest of this device's, once that is stored. It must not wait, nor call the bucket.
pub type Watcher = Box<dyn Fn(&[Output]) + Send + Sync>;

/// What has happened to a bucket's chain since the bucket was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// How often there was another head.
    pub head_changes: u64,
    /// How often it left all of the last heads behind.
    pub deep_reorganisations: u64,
    /// How often a fork began.
    pub forks_started: u64,
    /// How often one ended, and for how many milliseconds they were live in all.
    pub forks_resolved: u64,
    /// See `forks_resolved`.
    pub forked_ms: u64,
    /// Tips that fell too far behind.
    pub tips_pruned: u64,
    /// Announced heads that were too far behind.
    pub stale: u64,
    /// Manifests that were not valid.
    pub rejected: u64,
    /// Manifests that there was no room for.
    pub dropped: u64,
    /// Manifests whose author made too many at once.
    pub deferred: u64,
    /// Members that could not be agreed with.
    pub hard_forks: u64,
    /// Chains of this device's that lost, and whose work was brought back, all or in part.
    pub reapplied: u64,
    /// Those that brought nothing new.
    pub settled: u64,
    /// Changes of both that stayed out.
    pub reapply_conflicts: u64,
}

impl Bucket {
    /// What this device does on its own.
    pub fn policy(&self) -> Policy {
        self.replica.known.lock().chain.policy()
    }

    /// Changes that. Durable on return.
    ///
    /// # Errors
    /// If it can not be stored.
    pub fn set_policy(&self, policy: Policy) -> Result<(), BucketError> {
        let _one_at_a_time = self.replica.publishing.lock();
        self.decide(Input::Policy(policy))
    }

    /// What is pinned.
    pub fn pinned(&self) -> Option<Pin> {
        self.replica.known.lock().chain.pin()
    }

    /// Shows a version whatever the head is, and builds on it; or, with none, shows the head again. Durable on return.
    ///
    /// # Errors
    /// If the version is not known, or its content is not on this machine; if something is not published that was made on
    /// the version that is shown; if the decision can not be stored.
    pub fn pin(&self, to: Option<Link>) -> Result<(), BucketError> {
        let _one_at_a_time = self.replica.publishing.lock();
        self.check_published()?;
        if let Some(link) = to {
            self.check_content(&link)?;
        }
        self.decide(Input::Pin(to))
    }

    /// Shows what most connected members show, if there is a majority. Durable on return. As [`Bucket::pin`] otherwise.
    ///
    /// # Errors
    /// As [`Bucket::pin`].
    pub fn vote(&self) -> Result<Ballot, BucketError> {
        let _one_at_a_time = self.replica.publishing.lock();
        self.check_published()?;
        let ballot = self.replica.known.lock().chain.ballot();
        if let Some(winner) = &ballot.winner {
            self.check_content(winner)?;
        }
        self.decide(Input::Vote)?;
        Ok(ballot)
    }

    /// Whether this device's own policy lets it publish now.
    ///
    /// # Errors
    /// If it does not.
    pub fn may_publish(&self) -> Result<(), Refusal> {
        self.replica.known.lock().chain.may_publish()
    }

    /// What has happened to the chain since the bucket was opened.
    pub fn counters(&self) -> Counters {
        self.replica.known.lock().counters
    }

    fn check_published(&self) -> Result<(), BucketError> {
        // A mount publishes what it has before it moves on.
        if self.is_held() {
            return Ok(());
        }
        let is_open = self.has_checkpoint() || journal::is_used(self.vault.store())?;
        if is_open { Err(BucketError::Unpublished) } else { Ok(()) }
    }

    /// Whether a version can be shown.
    fn check_content(&self, link: &Link) -> Result<(), BucketError> {
        let store = self.vault.store();
        let manifest = store.manifest(link)?.ok_or(BucketError::UnknownVersion(*link))?;
        let entry = SignedManifest::decode(&manifest)?.claims().entry;
        let here = store.contains(&entry)? && !store.dropped()?.contains(link);
        if here { Ok(()) } else { Err(BucketError::NoContent(*link)) }
    }

    /// Lets the chain decide something, and remembers it; or takes it back, where it can not be remembered.
    fn decide(&self, input: Input) -> Result<(), BucketError> {
        let mut known = self.replica.known.lock();
        let before = known.chain.saved();
        let outputs = known.chain.handle(now(), input);
        let saved = known.chain.saved();
        drop(known);
        if let Err(error) = self.replica.save(&saved) {
            self.replica.known.lock().chain.take_back(&before);
            return Err(error);
        }
        self.replica.tell(&outputs);
        self.show()
    }

    /// Takes into the chain a manifest of this device's that is stored, and was made on what is shown.
    pub(super) fn follow_own(&self, manifest: VerifiedManifest) -> Result<(), BucketError> {
        let (link, shown) = (manifest.link(), Manifest::clone(&manifest));
        let input = Input::Manifest { manifest: Arc::new(manifest), source: Source::Own };
        let outputs = {
            let mut known = self.replica.known.lock();
            let mut outputs = known.chain.handle(now(), input);
            outputs.extend(known.chain.handle(now(), Input::Complete(link)));
            outputs
        };
        let rejected = outputs.iter().find_map(|output| match output {
            Output::Rejected { why, .. } => Some(why.clone()),
            _ => None,
        });
        if let Some(why) = rejected {
            return Err(why.into());
        }
        {
            let mut state = self.state.lock();
            (state.shown, state.shown_link) = (shown, link);
            self.turned.notify_all();
        }
        // It is published, whatever becomes of this.
        self.replica.tell(&outputs);
        self.show().unwrap_or_else(|error| tracing::warn!(%error, "an older version is shown"));
        self.replica.save_chain();
        self.replica.tell_watcher(&outputs);
        Ok(())
    }

    pub(super) fn manifest_of(&self, link: &Link) -> Result<Manifest, BucketError> {
        self.replica.manifest_of(link)
    }
}

impl Replica {
    /// Tells and counts what a chain says.
    pub(super) fn tell(&self, outputs: &[Output]) {
        let mut known = self.known.lock();
        for output in outputs {
            known.counters.count(output);
            tell(output, &known.chain);
        }
    }

    /// Remembers what the chain knows besides its manifests, if that has changed. It is found out again from the
    /// manifests, but for the time since when.
    pub(super) fn save_chain(&self) {
        let saved = {
            let known = self.known.lock();
            Some(known.chain.saved()).filter(|saved| *saved != known.saved)
        };
        if let Some(Err(error)) = saved.map(|saved| self.save(&saved)) {
            tracing::warn!(%error, "the state of the chain is yet to be saved");
        }
    }

    fn save(&self, saved: &Saved) -> Result<(), BucketError> {
        let meta = vec![(SAVED, Some(encode(saved)))];
        self.store().commit(Commit { manifests: Vec::new(), meta })?;
        self.known.lock().saved = saved.clone();
        Ok(())
    }
}

impl Counters {
    const fn count(&mut self, output: &Output) {
        match output {
            Output::Head { .. } => self.head_changes += 1,
            Output::DeepReorganisation { .. } => self.deep_reorganisations += 1,
            Output::ForkStarted => self.forks_started += 1,
            Output::ForkResolved { after } => {
                self.forks_resolved += 1;
                self.forked_ms = self.forked_ms.saturating_add(*after);
            }
            Output::TipPruned { .. } => self.tips_pruned += 1,
            Output::Stale { .. } => self.stale += 1,
            Output::Rejected { .. } => self.rejected += 1,
            Output::Dropped(_) => self.dropped += 1,
            Output::Deferred(_) => self.deferred += 1,
            Output::HardFork { .. } => self.hard_forks += 1,
            _ => {}
        }
    }
}

/// What people should know goes to the log.
fn tell(output: &Output, chain: &Chain) {
    match output {
        Output::Head { from, to, height, fork_point: None } => {
            tracing::info!(%from, %to, %height, "canonical head changed");
        }
        Output::Head { from, to, height, fork_point: Some(at) } => {
            tracing::warn!(%from, %to, %height, fork_point = %at, "canonical head changed to another branch");
        }
        Output::DeepReorganisation { from, to, fork_point } => {
            let held = chain.policy().reorganisation == OnReorganisation::Hold;
            tracing::warn!(%from, %to, %fork_point, held, "the new head has nothing of the last heads");
        }
        Output::ForkStarted => tracing::warn!(tips = chain.tips().count(), "fork started"),
        Output::ForkResolved { after } => tracing::info!(after_ms = after, "fork resolved"),
        Output::TipPruned { link, behind } => tracing::info!(tip = %link, behind, "stale tip pruned"),
        Output::Stale { link, head } => tracing::info!(%link, %head, "a stale head was announced"),
        Output::Pinned(Some(pin)) => tracing::warn!(at = %pin.at, cause = ?pin.cause, "pinned"),
        Output::Pinned(None) => tracing::info!("not pinned any more"),
        Output::HardFork { peer, how } => tracing::warn!(peer = %peer.short(), ?how, "hard fork"),
        Output::HardForkEnded { peer } => tracing::info!(peer = %peer.short(), "hard fork is over"),
        Output::Rejected { link, why } => tracing::warn!(%link, %why, "a manifest was rejected"),
        other => tracing::debug!(?other, "chain"),
    }
}

/// What was saved of the chain; nothing where that can not be read, since all of it can be decided again.
pub(super) fn stored_chain_state(store: &Store) -> Result<Saved, BucketError> {
    let Some(bytes) = store.meta(SAVED)? else { return Ok(Saved::default()) };
    Ok(decode(&bytes).unwrap_or_else(|| {
        tracing::error!("pins and policies of this bucket can not be read, and are forgotten");
        Saved::default()
    }))
}

/// A pin that moves along, as it is to be stored together with the manifest that it moves to.
pub(super) fn moved_pin(chain: &Chain, from: &Link, to: Link) -> Option<Vec<u8>> {
    let mut saved = chain.saved();
    let pin = saved.pin.as_mut().filter(|pin| pin.at == *from)?;
    pin.at = to;
    Some(encode(&saved))
}

/// `version (1) = 0 || DAG-CBOR`
fn encode(saved: &Saved) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(serde_ipld_dagcbor::to_vec(saved).expect("maps of integers, bytes and links encode"));
    bytes
}

fn decode(bytes: &[u8]) -> Option<Saved> {
    let (version, bytes) = bytes.split_first()?;
    (*version == 0).then(|| serde_ipld_dagcbor::from_slice(bytes).ok()).flatten()
}

/// The names of a policy's choices, for people and for the command line.
impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reorganisation = match self.reorganisation {
            OnReorganisation::Adopt => "adopt",
            OnReorganisation::Hold => "hold",
        };
        let hard_fork = match self.hard_fork {
            OnHardFork::Tell => "tell",
            OnHardFork::Majority => "majority",
            OnHardFork::Refuse => "refuse",
        };
        let fork = match self.fork {
            OnFork::Allow => "allow",
            OnFork::Refuse => "refuse",
        };
        write!(f, "deep-reorganisation={reorganisation}, hard-fork={hard_fork}, writes-while-forked={fork}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::Timestamp;
    use crate::bucket::testing::link;
    use crate::chain::Cause;

    #[test]
    fn what_is_saved_is_read_again_and_what_can_not_be_read_is_nothing() {
        let saved = Saved {
            forked_at: Some(Timestamp(7)),
            pin: Some(Pin { at: link("a"), cause: Cause::Held }),
            policy: Policy { fork: OnFork::Refuse, ..Policy::default() },
            settled: vec![link("b")],
        };
        assert_eq!(decode(&encode(&saved)), Some(saved.clone()));
        let mut newer = encode(&saved);
        newer[0] = 1;
        assert_eq!((decode(&newer), decode(&[]), decode(b"\0rubbish")), (None, None, None));
    }
}
