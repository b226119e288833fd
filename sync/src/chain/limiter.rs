//! What one author may make the others do: how many manifests a second, how many tips, how much of the archive.
//!
//! It bounds announcements alone. What a manifest is needed for comes as history, which was asked for; so a limit can delay
//! what wins, and never keep it out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::dag::{GENESIS, Key};
use super::pending::Offered;
use super::rules::Valid;
use super::{Chain, Output, Source};
use crate::bucket::{DeviceId, Timestamp};
use crate::limits::{
    ANNOUNCED_AT_ONCE, ANNOUNCED_EVERY_MS, ARCHIVED_PER_AUTHOR, DEFERRED_MANIFESTS, DEFERRED_PER_AUTHOR,
    TIPS_PER_AUTHOR,
};
use crate::link::Link;

/// What becomes of a valid manifest.
pub(super) enum Ruling {
    Admit,
    Defer,
    Drop,
}

/// How many manifests of each author were announced lately, and what waits for its turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Limiter {
    /// When each author will have all of its allowance again (a leaky bucket, as in GCRA: ITU-T I.371).
    full_at: BTreeMap<DeviceId, Timestamp>,
    deferred: BTreeMap<DeviceId, VecDeque<Offered>>,
    waiting: BTreeSet<Link>,
    /// Stale manifests that were announced, and are kept.
    archived: BTreeMap<DeviceId, usize>,
}

impl Limiter {
    /// Takes one of the author's allowance, if there is one.
    fn takes_one(&mut self, now: Timestamp, author: DeviceId) -> bool {
        let full_at = self.full_at(now, &author);
        let allowed = has_allowance(now, full_at);
        if allowed {
            self.full_at.insert(author, Timestamp(full_at.0.saturating_add(ANNOUNCED_EVERY_MS)));
        }
        allowed
    }

    /// Between now and as long as it can take, even where the clock was set back.
    fn full_at(&self, now: Timestamp, author: &DeviceId) -> Timestamp {
        let longest = Timestamp(now.0.saturating_add(ANNOUNCED_EVERY_MS * ANNOUNCED_AT_ONCE));
        self.full_at.get(author).copied().unwrap_or(now).clamp(now, longest)
    }

    fn has_room(&self, author: &DeviceId) -> bool {
        let own = self.deferred.get(author).map_or(0, VecDeque::len);
        own < DEFERRED_PER_AUTHOR && self.waiting.len() < DEFERRED_MANIFESTS
    }

    /// Lets a manifest wait for its turn; says whether there was room.
    pub(super) fn defer(&mut self, offered: Offered) -> bool {
        let (author, link) = (offered.manifest.author, offered.manifest.link());
        let room = self.has_room(&author);
        if room && self.waiting.insert(link) {
            self.deferred.entry(author).or_default().push_back(offered);
        }
        room
    }

    pub(super) fn defers(&self, link: &Link) -> bool {
        self.waiting.contains(link)
    }

    /// How many wait for their turn.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes out what came another way meanwhile.
    pub(super) fn forget(&mut self, author: &DeviceId, link: &Link) {
        if !self.waiting.remove(link) {
            return;
        }
        if let Some(queue) = self.deferred.get_mut(author) {
            queue.retain(|offered| offered.manifest.link() != *link);
            if queue.is_empty() {
                self.deferred.remove(author);
            }
        }
    }

    /// Those whose turn it is: one of each author who has an allowance again.
    fn due(&mut self, now: Timestamp) -> Vec<Offered> {
        let full_at: Vec<_> = self.full_at.keys().map(|author| (*author, self.full_at(now, author))).collect();
        self.full_at.extend(full_at);
        let rested = |author: &DeviceId| has_allowance(now, self.full_at(now, author));
        let authors: Vec<_> = self.deferred.keys().copied().filter(rested).collect();
        let mut due = Vec::new();
        for author in authors {
            let Some(queue) = self.deferred.get_mut(&author) else { continue };
            due.extend(queue.pop_front());
            if queue.is_empty() {
                self.deferred.remove(&author);
            }
        }
        for offered in &due {
            self.waiting.remove(&offered.manifest.link());
        }
        due
    }

    /// When the next deferred one has its turn.
    pub(super) fn next_turn(&self, now: Timestamp) -> Option<Timestamp> {
        let turn = |author| {
            let full_at = self.full_at(now, author).0;
            Timestamp(full_at.saturating_sub(ANNOUNCED_EVERY_MS * (ANNOUNCED_AT_ONCE - 1)))
        };
        self.deferred.keys().map(turn).min()
    }

    /// Forgets authors who have all of their allowance.
    fn rest(&mut self, now: Timestamp) {
        self.full_at.retain(|_, full_at| *full_at > now);
    }

    pub(super) fn archive(&mut self, author: DeviceId) {
        *self.archived.entry(author).or_default() += 1;
    }

    pub(super) fn archived(&self, author: &DeviceId) -> usize {
        self.archived.get(author).copied().unwrap_or(0)
    }
}

fn has_allowance(now: Timestamp, full_at: Timestamp) -> bool {
    full_at.0.saturating_sub(now.0) <= ANNOUNCED_EVERY_MS * (ANNOUNCED_AT_ONCE - 1)
}

impl Chain {
    /// What becomes of a valid manifest, by the limits of its author.
    pub(super) fn rule_on(&mut self, now: Timestamp, offered: &Offered, valid: &Valid, key: &Key) -> Ruling {
        let author = offered.manifest.author;
        if !matches!(offered.source, Source::Announced(_)) {
            return Ruling::Admit;
        }
        let wins = *key > self.dag.key(self.head);
        let has_room = if self.would_be_stale(key) {
            self.limiter.archived(&author) < ARCHIVED_PER_AUTHOR
        } else {
            wins || self.tips.contains(&self.dag.key(valid.parent)) || self.tips.of_author(&author) < TIPS_PER_AUTHOR
        };
        match has_room {
            false => Ruling::Drop,
            true if self.limiter.takes_one(now, author) => Ruling::Admit,
            true => Ruling::Defer,
        }
    }

    /// Looks at what was deferred and has its turn now.
    pub(super) fn admit_deferred(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        loop {
            let due = self.limiter.due(now);
            if due.is_empty() {
                break;
            }
            due.into_iter().for_each(|offered| self.judge(now, offered, out));
        }
        self.limiter.rest(now);
    }

    /// Counts what the archive holds of each author, where that was not seen.
    pub(super) fn count_archive(&mut self) {
        let mut canonical = vec![false; self.dag.len()];
        self.dag.ancestors(self.head).for_each(|at| canonical[at.number()] = true);
        for at in self.dag.all().filter(|at| *at != GENESIS && !canonical[at.number()]) {
            self.limiter.archive(self.dag.author(at));
        }
    }
}
