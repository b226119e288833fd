//! The chain: which versions of a bucket there are, and which one is the bucket.
//!
//! # The protocol, told once
//!
//! Every version is a *manifest* that names the one before it, down to the *genesis*. Devices publish without asking each
//! other, so two may follow the same version: the manifests form a tree. Nothing is ever taken out of it.
//!
//! **Valid** is a manifest by itself and its ancestors, whatever else is known: the right bucket, genesis and owner, one
//! higher than its parent, by an author whom the parent's member list lets write, changing something. The *epoch*
//! is the parent's or one more; a new member list is newer than the parent's, and whoever takes rights away has to raise
//! the epoch. A manifest whose parent or member list is not known waits; one that is not valid takes those that wait for
//! it along.
//!
//! **The head** is the manifest with the greatest key `(epoch, height, digest of its link)`: the longest chain wins, and of
//! two equally long ones the greater link. It is a function of the set of manifests, so that who knows the same set has
//! the same head, in whatever order it came. It is chosen at once, by comparing one key with another.
//! The epoch stands first so that a removed writer can not win with a longer chain of the old epoch.
//!
//! **The shown head** is the manifest with the greatest key among those whose directory nodes are all on this machine. It is
//! what a mount shows and what writes build on: a head whose author vanished with the data stops nobody.
//!
//! **Finality.** A leaf is *stale* if it is of an earlier epoch than the head, or if the head is more than the finality
//! depth higher. *Tips* are the leaves that are not stale; the bucket is *forked* while there is more than one.
//! Staleness is a view, never a reason to refuse an ancestor: a chain that would win is admitted however deep its fork
//! point lies. Only an *announced* head that is stale is answered with our own, and not passed on. It is kept.
//! For that test our own is the shown head, so that a withheld chain makes no honest work stale, and a leaf of a later epoch
//! than that is never stale: it would win.
//!
//! A **deep reorganisation** is a new head that descends from none of the last finality-depth heads. It is adopted like
//! any other, and loudly.
//!
//! # What this is
//!
//! A value. [`Chain::handle`] takes the time and one [`Input`] and gives [`Output`]s; there is no clock, no I/O and no
//! randomness here, and only ordered maps. It believes signatures ([`VerifiedManifest`], [`MemberList`]); the rest it checks.

mod dag;
mod pending;
mod questions;
mod rules;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dag::{Dag, GENESIS, Index, Key, NewEntry};
use pending::{Offered, Pending};
use rules::{Lists, NotNow, Origin, Valid};

use crate::bucket::{DeviceId, Height, Manifest, MemberList, Rejected, SignedManifest, Timestamp, VerifiedManifest};
use crate::limits::PENDING_MANIFESTS;
use crate::link::{Epoch, Link};

/// How a manifest came here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// This device made it.
    Own,
    /// A peer says that it is a head.
    Announced,
    /// It was fetched as an ancestor of another. Never tested for staleness.
    History,
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
}

/// Something that has to be here before a manifest can be judged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Missing {
    /// A parent.
    Manifest(Link),
    /// A member list.
    Members(Link),
}

/// What a chain asks of the world, and tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Store this: it is valid, and now part of the chain. Parents come first.
    Admitted {
        /// The manifest.
        manifest: Arc<VerifiedManifest>,
        /// Whether to pass it on: it is not history, and was not stale when it was admitted.
        relay: bool,
    },
    /// It is not valid, and never will be.
    Rejected {
        /// Which manifest.
        link: Link,
        /// Why.
        why: Rejected,
    },
    /// There was no room to let it wait. It may come again.
    Dropped(Link),
    /// Fetch this; said once, until it has come. See also [`Chain::wanted`].
    Want(Missing),
    /// Who announced this is behind: answer with our head.
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
    /// There is more than one tip.
    ForkStarted,
    /// There is one tip again.
    ForkResolved {
        /// How long there were more, in milliseconds.
        after: u64,
    },
}

/// One manifest, as much as the chain keeps of it; what a store saves, and gives back to [`Chain::load`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its address.
    pub link: Link,
    /// Its parent; none for the genesis.
    pub previous: Option<Link>,
    /// Hops to the genesis.
    pub height: Height,
    /// The epoch of its keys.
    pub epoch: Epoch,
    /// Who made it.
    pub author: DeviceId,
    /// When, as its author says.
    pub timestamp: Timestamp,
    /// Its member list.
    pub members: Link,
    /// What it says, in short ([`crate::bucket::Manifest::fingerprint`]).
    pub fingerprint: [u8; 16],
    /// Whether all its directory nodes are on this machine.
    pub complete: bool,
}

impl Record {
    /// The record of a manifest that was verified before it was stored.
    pub fn stored(manifest: &SignedManifest) -> Self {
        Self::new(manifest.link(), manifest.claims())
    }

    /// The record of a manifest that is new here.
    pub fn of(manifest: &VerifiedManifest) -> Self {
        Self::new(manifest.link(), manifest)
    }

    fn new(link: Link, manifest: &Manifest) -> Self {
        Self {
            link,
            previous: manifest.previous,
            height: manifest.height,
            epoch: manifest.share.epoch,
            author: manifest.author,
            timestamp: manifest.timestamp,
            members: manifest.share.members,
            fingerprint: manifest.fingerprint(),
            complete: false,
        }
    }
}

/// Why stored records are no chain: the store is damaged.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the stored chain is damaged at manifest {link}: {why}")]
pub struct LoadError {
    /// At which record.
    pub link: Link,
    /// What is wrong.
    pub why: &'static str,
}

/// All known versions of one bucket.
#[derive(Clone, Debug)]
pub struct Chain {
    origin: Origin,
    finality_depth: u64,
    dag: Dag,
    lists: Lists,
    pending: Pending,
    head: Index,
    shown: Option<Index>,
    /// The last heads, as many as the finality depth, the current one last.
    recent: VecDeque<Index>,
    /// The leaves that are not stale: what [`Dag::leaves`] has from [`Chain::oldest_tip`] on.
    tips: BTreeMap<Key, Index>,
    forked_at: Option<Timestamp>,
}

impl Chain {
    /// A chain of nothing but its genesis, which `members` is the list of.
    pub fn new(genesis: &VerifiedManifest, members: &MemberList) -> Result<Self, Rejected> {
        let origin = rules::check_genesis(genesis, members)?;
        let mut lists = Lists::default();
        let list = lists.add(members);
        let dag = Dag::new(NewEntry {
            link: genesis.link(),
            previous: GENESIS,
            epoch: Epoch(0),
            author: genesis.author,
            timestamp: genesis.timestamp,
            fingerprint: genesis.fingerprint(),
            list,
        });
        Ok(Self {
            origin,
            finality_depth: genesis.finality_depth(),
            tips: dag.leaves().clone(),
            dag,
            lists,
            pending: Pending::new(PENDING_MANIFESTS),
            head: GENESIS,
            shown: None,
            recent: VecDeque::from([GENESIS]),
            forked_at: None,
        })
    }

    /// A chain from what was stored: all its member lists, the genesis's among them, and all its records, parents before
    /// children. Nothing is verified again. `forked_at` is what [`Chain::fork_detected_at`] said.
    pub fn load(
        genesis: &VerifiedManifest,
        lists: impl IntoIterator<Item = MemberList>,
        records: impl IntoIterator<Item = Record>,
        forked_at: Option<Timestamp>,
    ) -> Result<Self, LoadError> {
        let damaged = |link, why| LoadError { link, why };
        let lists: Vec<_> = lists.into_iter().collect();
        let first = lists.iter().find(|list| list.link() == genesis.share.members);
        let first = first.ok_or(damaged(genesis.link(), "its member list is missing"))?;
        let mut chain = Self::new(genesis, first).map_err(|_| damaged(genesis.link(), "not a genesis"))?;
        for list in &lists {
            chain.lists.add(list);
        }
        for record in records {
            chain.restore(&record).map_err(|why| damaged(record.link, why))?;
        }
        chain.settle(forked_at);
        Ok(chain)
    }

    fn restore(&mut self, record: &Record) -> Result<(), &'static str> {
        let at = match (record.previous, self.dag.find(&record.link)) {
            (None, Some(GENESIS)) => GENESIS,
            (None, _) => return Err("a second genesis"),
            (Some(_), Some(_)) => return Err("stored twice"),
            (Some(previous), None) => {
                let parent = self.dag.find(&previous).ok_or("its parent is missing")?;
                let list = self.lists.find(&record.members).ok_or("its member list is missing")?;
                if Some(record.height.0) != self.dag.key(parent).height.0.checked_add(1) {
                    return Err("its height is not one more than its parent's");
                }
                self.dag.insert(NewEntry {
                    link: record.link,
                    previous: parent,
                    epoch: record.epoch,
                    author: record.author,
                    timestamp: record.timestamp,
                    fingerprint: record.fingerprint,
                    list,
                })
            }
        };
        if record.complete {
            self.dag.complete(at);
        }
        Ok(())
    }

    /// Derives from the records what is not stored.
    fn settle(&mut self, forked_at: Option<Timestamp>) {
        self.head = self.dag.leaves().last_key_value().map_or(GENESIS, |(_, at)| *at);
        self.shown = self.dag.all().filter(|at| self.dag.get(*at).complete).max_by_key(|at| self.dag.key(*at));
        self.tips = self.dag.leaves().range(self.oldest_tip()..).map(|(key, at)| (*key, *at)).collect();
        // Which heads there were is not stored. The head's own ancestors are the best guess: a deep reorganisation
        // that began before a restart is still seen.
        self.recent = self.dag.ancestors(self.head).take(self.recent_heads()).collect();
        self.recent.make_contiguous().reverse();
        self.forked_at = forked_at.filter(|_| self.is_forked());
    }

    /// Takes one event in, and gives what follows from it, in order.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Manifest { manifest, source } => self.offer(now, Offered { manifest, source }, &mut out),
            Input::Members(list) => self.add_members(now, &list, &mut out),
            Input::MembersRejected(link) => self.refuse_members(link, &mut out),
            Input::Complete(link) => self.complete(link, &mut out),
        }
        out
    }

    fn offer(&mut self, now: Timestamp, offered: Offered, out: &mut Vec<Output>) {
        let link = offered.manifest.link();
        let announced_stale = offered.source == Source::Announced && self.would_be_stale(&key_of(&offered.manifest));
        let known = self.dag.find(&link).is_some() || self.pending.contains(&link);
        if !known {
            self.judge(now, offered, out);
        }
        let refused = out.iter().any(|output| matches!(output, Output::Rejected { link: at, .. } if *at == link));
        if announced_stale && !refused {
            out.push(Output::Stale { link, head: self.head() });
        }
    }

    /// Admits, rejects or keeps waiting a manifest, and then those that waited for it.
    fn judge(&mut self, now: Timestamp, offered: Offered, out: &mut Vec<Output>) {
        let mut queue = VecDeque::from([offered]);
        while let Some(offered) = queue.pop_front() {
            let link = offered.manifest.link();
            match rules::check(&self.origin, &self.dag, &self.lists, &offered.manifest) {
                Ok(valid) => {
                    self.admit(now, offered, valid, out);
                    queue.extend(self.pending.take(&Missing::Manifest(link)));
                }
                Err(NotNow::Never(why)) => self.reject(link, why, out),
                Err(NotNow::Until(missing)) => self.wait(offered, missing, out),
            }
        }
    }

    fn wait(&mut self, offered: Offered, missing: Missing, out: &mut Vec<Output>) {
        let wanted = self.pending.waits_for(&missing);
        let dropped = self.pending.add(offered, missing);
        if !wanted && self.pending.waits_for(&missing) {
            out.push(Output::Want(missing));
        }
        out.extend(dropped.map(Output::Dropped));
    }

    /// Rejects a manifest, and all that wait for it, for good.
    fn reject(&mut self, link: Link, why: Rejected, out: &mut Vec<Output>) {
        out.push(Output::Rejected { link, why });
        let mut doomed = VecDeque::from([link]);
        while let Some(link) = doomed.pop_front() {
            for child in self.pending.take(&Missing::Manifest(link)) {
                let link = child.manifest.link();
                out.push(Output::Rejected { link, why: Rejected::BadAncestor });
                doomed.push_back(link);
            }
        }
    }

    fn add_members(&mut self, now: Timestamp, list: &MemberList, out: &mut Vec<Output>) {
        if list.bucket() != self.origin.id || list.owner() != self.origin.owner {
            return self.refuse_members(list.link(), out);
        }
        self.lists.add(list);
        for offered in self.pending.take(&Missing::Members(list.link())) {
            self.judge(now, offered, out);
        }
    }

    fn refuse_members(&mut self, link: Link, out: &mut Vec<Output>) {
        for offered in self.pending.take(&Missing::Members(link)) {
            self.reject(offered.manifest.link(), Rejected::BadMembers, out);
        }
    }

    fn complete(&mut self, link: Link, out: &mut Vec<Output>) {
        let Some(at) = self.dag.find(&link) else { return };
        self.dag.complete(at);
        if self.shown.is_none_or(|shown| self.dag.key(at) > self.dag.key(shown)) {
            let from = self.shown.replace(at).map(|shown| self.dag.link(shown));
            out.push(Output::Shown { from, to: link });
        }
    }

    fn admit(&mut self, now: Timestamp, offered: Offered, valid: Valid, out: &mut Vec<Output>) {
        let Offered { manifest, source } = offered;
        let parent = self.dag.key(valid.parent);
        let at = self.dag.insert(NewEntry {
            link: manifest.link(),
            previous: valid.parent,
            epoch: manifest.share.epoch,
            author: manifest.author,
            timestamp: manifest.timestamp,
            fingerprint: manifest.fingerprint(),
            list: valid.list,
        });
        let key = self.dag.key(at);
        let relay = source != Source::History && !self.would_be_stale(&key);
        out.push(Output::Admitted { manifest, relay });
        self.tips.remove(&parent);
        if key >= self.oldest_tip() {
            self.tips.insert(key, at);
        }
        if key > self.dag.key(self.head) {
            self.adopt(at, out);
        }
        self.watch_fork(now, out);
    }

    /// Makes `to` the head.
    fn adopt(&mut self, to: Index, out: &mut Vec<Output>) {
        let from = std::mem::replace(&mut self.head, to);
        let fork_point = (!self.dag.is_ancestor(from, to)).then(|| self.dag.link(self.dag.fork_point(from, to)));
        let deep = fork_point.is_some() && !self.recent.iter().any(|head| self.dag.is_ancestor(*head, to));
        let (from, link, height) = (self.dag.link(from), self.dag.link(to), self.dag.key(to).height);
        out.push(Output::Head { from, to: link, height, fork_point });
        if let Some(fork_point) = fork_point.filter(|_| deep) {
            out.push(Output::DeepReorganisation { from, to: link, fork_point });
        }
        if self.recent.len() >= self.recent_heads() {
            self.recent.pop_front();
        }
        self.recent.push_back(to);
        self.prune_tips(out);
    }

    fn prune_tips(&mut self, out: &mut Vec<Output>) {
        let kept = self.tips.split_off(&self.oldest_tip());
        for at in std::mem::replace(&mut self.tips, kept).into_values() {
            let behind = self.height().0.saturating_sub(self.dag.key(at).height.0);
            out.push(Output::TipPruned { link: self.dag.link(at), behind });
        }
    }

    fn watch_fork(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        match (self.is_forked(), self.forked_at) {
            (true, None) => {
                self.forked_at = Some(now);
                out.push(Output::ForkStarted);
            }
            (false, Some(since)) => {
                self.forked_at = None;
                out.push(Output::ForkResolved { after: now.0.saturating_sub(since.0) });
            }
            _ => {}
        }
    }

    fn recent_heads(&self) -> usize {
        usize::try_from(self.finality_depth).unwrap_or(usize::MAX)
    }

    /// The least key that a leaf can have and not be stale.
    fn oldest_tip(&self) -> Key {
        let Key { epoch, height, .. } = self.dag.key(self.head);
        Key { epoch, height: Height(height.0.saturating_sub(self.finality_depth)), digest: [0; 32] }
    }

    /// Whether an announced manifest is stale, by what is shown here.
    fn would_be_stale(&self, key: &Key) -> bool {
        let Some(shown) = self.shown.map(|at| self.dag.key(at)) else { return false };
        key.epoch < shown.epoch
            || key.epoch == shown.epoch && shown.height.0 > key.height.0.saturating_add(self.finality_depth)
    }
}

fn key_of(manifest: &VerifiedManifest) -> Key {
    Key { epoch: manifest.share.epoch, height: manifest.height, digest: *manifest.link().digest() }
}

#[cfg(test)]
mod tests;
