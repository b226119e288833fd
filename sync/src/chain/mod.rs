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
//! For that test our own is the shown head (a pin aside), so that a withheld chain makes no honest work stale, and a leaf of a later epoch
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
mod dispute;
mod event;
mod history;
mod limiter;
mod peers;
mod pending;
mod pin;
mod questions;
mod reapply;
mod record;
mod rules;
mod tips;

use std::collections::{BTreeSet, VecDeque};

use dag::{Dag, GENESIS, Index, Key, NewEntry};
pub use dispute::{Ballot, HardFork};
pub use event::{Heads, History, HistoryRequest, Input, Missing, Output, Source};
use limiter::{Limiter, Ruling};
use peers::Peers;
use pending::{Offered, Pending};
use pin::Pinned;
pub use pin::{Cause, OnFork, OnHardFork, OnReorganisation, Pin, Policy, Refusal};
pub use reapply::{Displaced, Fate};
pub use record::{LoadError, Record, Saved};
use rules::{Lists, NotNow, Origin, Valid};
use tips::Tips;

use crate::bucket::{Height, MemberList, Rejected, Timestamp, VerifiedManifest};
use crate::limits::PENDING_MANIFESTS;
use crate::link::{Epoch, Link};

/// A chain that is being made from what was stored. Nothing is verified again.
#[derive(Debug)]
pub struct Loader(Chain);

impl Loader {
    /// A member list, before the first manifest that names it.
    pub fn members(&mut self, list: &MemberList) {
        self.0.lists.add(list);
    }

    /// A manifest, the genesis among them, parents before children.
    ///
    /// # Errors
    /// If it does not belong where it stands.
    pub fn record(&mut self, record: &Record) -> Result<(), LoadError> {
        self.0.restore(record).map_err(|why| LoadError { link: record.link, why })
    }

    /// The chain, with what [`Chain::saved`] said. A pin to what is not there is no pin.
    pub fn finish(mut self, saved: Saved) -> Chain {
        self.0.settle(saved);
        self.0
    }
}

/// All known versions of one bucket.
#[derive(Clone, Debug)]
pub struct Chain {
    origin: Origin,
    finality_depth: u64,
    dag: Dag,
    lists: Lists,
    pending: Pending,
    limiter: Limiter,
    peers: Peers,
    head: Index,
    /// The greatest of those that are complete.
    best: Option<Index>,
    pinned: Option<Pinned>,
    shown: Option<Index>,
    policy: Policy,
    /// The last heads, as many as the finality depth, the current one last.
    recent: VecDeque<Index>,
    /// The leaves that are not stale: what [`Dag::leaves`] has from [`Chain::oldest_tip`] on.
    tips: Tips,
    forked_at: Option<Timestamp>,
    /// This device's orphans that bring nothing new.
    settled: BTreeSet<Link>,
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
            reapplied: Vec::new(),
        });
        let mut tips = Tips::default();
        tips.insert(&dag, GENESIS);
        Ok(Self {
            origin,
            finality_depth: genesis.finality_depth(),
            tips,
            dag,
            lists,
            pending: Pending::new(PENDING_MANIFESTS),
            limiter: Limiter::default(),
            peers: Peers::default(),
            head: GENESIS,
            best: None,
            pinned: None,
            shown: None,
            policy: Policy::default(),
            recent: VecDeque::from([GENESIS]),
            forked_at: None,
            settled: BTreeSet::new(),
        })
    }

    /// A chain from what was stored, which is given to it piece by piece: the genesis and its member list here.
    ///
    /// # Errors
    /// If they belong to no chain.
    pub fn loader(genesis: &VerifiedManifest, members: &MemberList) -> Result<Loader, LoadError> {
        let chain = Self::new(genesis, members);
        chain.map(Loader).map_err(|_| LoadError { link: genesis.link(), why: "not a genesis" })
    }

    /// A chain from what was stored: all its member lists, the genesis's among them, and all its records, parents before
    /// children; and from what [`Chain::saved`] said.
    ///
    /// # Errors
    /// If they are no chain.
    pub fn load(
        genesis: &VerifiedManifest,
        lists: impl IntoIterator<Item = MemberList>,
        records: impl IntoIterator<Item = Record>,
        saved: Saved,
    ) -> Result<Self, LoadError> {
        let lists: Vec<_> = lists.into_iter().collect();
        let first = lists.iter().find(|list| list.link() == genesis.share.members);
        let first = first.ok_or(LoadError { link: genesis.link(), why: "its member list is missing" })?;
        let mut loader = Self::loader(genesis, first)?;
        lists.iter().for_each(|list| loader.members(list));
        records.into_iter().try_for_each(|record| loader.record(&record))?;
        Ok(loader.finish(saved))
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
                    reapplied: record.reapplied.clone(),
                })
            }
        };
        if record.complete {
            self.dag.complete(at);
        }
        Ok(())
    }

    /// Derives from the records what is not stored.
    fn settle(&mut self, saved: Saved) {
        self.head = self.dag.leaves().last_key_value().map_or(GENESIS, |(_, at)| *at);
        self.best = self.dag.all().filter(|at| self.dag.get(*at).complete).max_by_key(|at| self.dag.key(*at));
        self.tips = Tips::default();
        for at in self.dag.leaves().range(self.oldest_tip()..).map(|(_, at)| *at) {
            self.tips.insert(&self.dag, at);
        }
        // Which heads there were is not stored. The head's own ancestors are the best guess: a deep reorganisation
        // that began before a restart is still seen.
        self.recent = self.dag.ancestors(self.head).take(self.recent_heads()).collect();
        self.recent.make_contiguous().reverse();
        self.count_archive();
        self.policy = saved.policy;
        self.settled = saved.settled.into_iter().collect();
        self.forked_at = saved.forked_at.filter(|_| self.is_forked());
        let pinned = saved.pin.and_then(|pin| Some(Pinned { at: self.dag.find(&pin.at)?, cause: pin.cause }));
        self.pinned = pinned.filter(|pinned| self.dag.get(pinned.at).complete);
        self.shown = self.pinned.map(|pinned| pinned.at).or(self.best);
    }

    /// Takes one event in, and gives what follows from it, in order.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Manifest { manifest, source } => self.offer(now, Offered { manifest, source }, &mut out),
            Input::Members(list) => self.add_members(now, &list, &mut out),
            Input::MembersRejected(link) => self.refuse_members(link, &mut out),
            Input::Complete(link) => self.complete(link, &mut out),
            Input::Connected(peer) => self.connect(now, peer, &mut out),
            Input::Disconnected(peer) => self.disconnect(now, peer, &mut out),
            Input::Heads { from, heads, answer } => self.hear_heads(now, from, *heads, answer, &mut out),
            Input::Fetched { from, ok, more } => self.end_fetch(now, from, (ok, more), &mut out),
            Input::Tick => self.tick(now, &mut out),
            Input::Pin(at) => self.set_pin(at.map(|at| Pin { at, cause: Cause::User }), &mut out),
            Input::Vote => self.vote(&mut out),
            Input::Policy(policy) => self.set_policy(policy, &mut out),
            Input::Settled(link) => self.settle_orphan(link, &mut out),
        }
        out
    }

    fn offer(&mut self, now: Timestamp, offered: Offered, out: &mut Vec<Output>) {
        let (link, source) = (offered.manifest.link(), offered.source);
        let announced_stale = matches!(source, Source::Announced(_)) && self.would_be_stale(&key_of(&offered.manifest));
        if !matches!(source, Source::Announced(_)) {
            self.limiter.forget(&offered.manifest.author, &link);
        }
        let missing = self.pending.missing();
        if !self.has(&Missing::Manifest(link)) {
            self.judge(now, offered, out);
            if let Source::History(from) = source
                && self.dag.find(&link).is_some()
            {
                self.peers.brought(&from);
            }
        }
        let refused = out.iter().any(|output| matches!(output, Output::Rejected { link: at, .. } if *at == link));
        match source {
            Source::History(from) => self.reach(&from, &link),
            Source::Announced(by) if announced_stale && !refused => {
                out.push(Output::Stale { link, head: self.head() });
                self.correct(now, by, out);
            }
            // What waits now waits for something that whoever passed it on has.
            Source::Announced(by) if self.pending.missing() > missing => self.ask(now, Some(by), out),
            _ => {}
        }
    }

    /// Admits, rejects, defers or keeps waiting a manifest, and then those that waited for it.
    fn judge(&mut self, now: Timestamp, offered: Offered, out: &mut Vec<Output>) {
        let mut queue = VecDeque::from([offered]);
        while let Some(offered) = queue.pop_front() {
            let link = offered.manifest.link();
            match rules::check(&self.origin, &self.dag, &self.lists, &offered.manifest) {
                Ok(valid) => match self.rule_on(now, &offered, &valid, &key_of(&offered.manifest)) {
                    Ruling::Admit => {
                        self.admit(now, offered, valid, out);
                        queue.extend(self.pending.take(&Missing::Manifest(link)));
                    }
                    Ruling::Defer if self.limiter.defer(offered) => out.push(Output::Deferred(link)),
                    Ruling::Defer | Ruling::Drop => out.push(Output::Dropped(link)),
                },
                Err(NotNow::Never(why)) => self.reject(link, why, out),
                Err(NotNow::Until(missing)) => out.extend(self.pending.add(offered, missing).map(Output::Dropped)),
            }
        }
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
        if self.best.is_none_or(|best| self.dag.key(at) > self.dag.key(best)) {
            self.best = Some(at);
        }
        self.show(out);
    }

    fn admit(&mut self, now: Timestamp, offered: Offered, valid: Valid, out: &mut Vec<Output>) {
        let Offered { manifest, source } = offered;
        let at = self.dag.insert(NewEntry {
            link: manifest.link(),
            previous: valid.parent,
            epoch: manifest.share.epoch,
            author: manifest.author,
            timestamp: manifest.timestamp,
            fingerprint: manifest.fingerprint(),
            list: valid.list,
            reapplied: manifest.reapplied.clone(),
        });
        let (key, link, author) = (self.dag.key(at), manifest.link(), manifest.author);
        if matches!(source, Source::Announced(_)) && self.would_be_stale(&key) {
            self.limiter.archive(author);
        }
        out.push(Output::Admitted(manifest));
        if source == Source::Own {
            self.move_pin(valid.parent, at, out);
        }
        self.tips.remove(&self.dag, valid.parent);
        if key >= self.oldest_tip() {
            self.tips.insert(&self.dag, at);
        }
        if key > self.dag.key(self.head) {
            self.adopt(at, out);
        }
        self.watch_fork(now, out);
        if source == Source::Own {
            out.push(Output::Announce(link));
        }
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
        for at in self.tips.prune(&self.dag, &self.oldest_tip()) {
            let behind = self.height().0.saturating_sub(self.dag.key(at).height.0);
            out.push(Output::TipPruned { link: self.dag.link(at), behind });
        }
    }

    fn set_policy(&mut self, policy: Policy, out: &mut Vec<Output>) {
        if std::mem::replace(&mut self.policy, policy) != policy {
            out.push(Output::Save);
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
        self.oldest_beside(self.head)
    }

    /// The least key that an announced head can have and not be stale: beside the greatest version that could be shown, so
    /// that a withheld chain makes no honest work stale.
    fn oldest_relayed(&self) -> Key {
        self.oldest_beside(self.best.unwrap_or(GENESIS))
    }

    fn oldest_beside(&self, head: Index) -> Key {
        let Key { epoch, height, .. } = self.dag.key(head);
        Key { epoch, height: Height(height.0.saturating_sub(self.finality_depth)), digest: [0; 32] }
    }

    /// Whether an announced manifest is stale, by what could be shown here.
    fn would_be_stale(&self, key: &Key) -> bool {
        *key < self.oldest_relayed()
    }
}

fn key_of(manifest: &VerifiedManifest) -> Key {
    Key { epoch: manifest.share.epoch, height: manifest.height, digest: *manifest.link().digest() }
}

#[cfg(test)]
mod tests;
