//! What a node does about what its chain says: the one place where outputs become deeds.

use std::sync::Arc;

use jaxfs_sync::bucket::{MemberList, VerifiedManifest};
use jaxfs_sync::chain::{Chain, Input, Missing, Output, Source};
use jaxfs_sync::link::Link;

use crate::cast::NodeId;
use crate::node::Kind;
use crate::queue::{MS, SECOND};
use crate::sim::{Event, Sim, WrongRule};
use crate::wire::Wire;

impl Sim {
    /// Gives a node's chain an input, and does what it wants done, in order; a fuse may cut that short.
    ///
    /// Says whether nothing was rejected.
    pub fn feed(&mut self, at: NodeId, input: Input) -> bool {
        let now = self.queue.now();
        let node = self.node_mut(at);
        if !node.up {
            return false;
        }
        let mut good = true;
        let (clock, life) = (node.clock(now), node.life);
        for output in node.chain.handle(clock, input) {
            good &= !matches!(output, Output::Rejected { .. });
            self.react(at, output);
            let node = self.node_mut(at);
            if node.life != life {
                return false;
            }
            if let Some((left, back)) = &mut node.fuse {
                if *left == 0 {
                    let back = *back;
                    self.meter.saw("crash between outputs");
                    self.crash(at, back);
                    return false;
                }
                *left -= 1;
            }
        }
        self.plan_tick(at);
        let node = &self.nodes[at as usize];
        self.checker.step(now, node);
        good
    }

    fn react(&mut self, at: NodeId, output: Output) {
        self.say(at, || format!("{}", Told(&output)));
        self.meter.saw(kind(&output));
        match output {
            Output::Admitted(manifest) => self.admitted(at, &manifest),
            Output::Announce(link) => {
                if !self.is_mute(at) {
                    self.broadcast(at, link, 0);
                }
            }
            Output::SendHeads { to, heads, answer } => {
                if let Some(to) = self.cast.node(&to) {
                    self.send(at, to, Wire::Heads { heads, answer });
                }
            }
            Output::Fetch { from, request } => {
                if let Some(from) = self.cast.node(&from) {
                    self.ask(at, from, request);
                }
            }
            Output::Stale { link, .. } => self.note(33, at, link.prefix(), 0),
            Output::Rejected { link, .. } => self.note(34, at, link.prefix(), 0),
            Output::Dropped(link) => self.note(35, at, link.prefix(), 0),
            Output::Deferred(link) => self.note(37, at, link.prefix(), 0),
            Output::Head { to, .. } => {
                self.note(31, at, to.prefix(), 0);
                self.meter.head(self.queue.now(), at, to);
            }
            Output::Shown { to, .. } => self.note(32, at, to.prefix(), 0),
            Output::ForkStarted | Output::ForkResolved { .. } | Output::Pinned(_) | Output::Save => {
                let node = self.node_mut(at);
                node.disk.saved = node.chain.saved();
            }
            Output::DeepReorganisation { .. } | Output::TipPruned { .. } => {}
            Output::HardFork { .. } | Output::HardForkEnded { .. } => self.note(38, at, 0, 0),
        }
    }

    /// Stores a manifest, and looks for its content.
    fn admitted(&mut self, at: NodeId, manifest: &Arc<VerifiedManifest>) {
        let link = manifest.link();
        self.note(30, at, link.prefix(), manifest.height.0);
        self.node_mut(at).disk.store(Arc::clone(manifest));
        self.meter.admitted(self.queue.now(), at, link);
        if !self.node(at).disk.has_content(&link) {
            self.plan_seek(at, link, 0);
        }
    }

    fn plan_seek(&mut self, at: NodeId, link: Link, misses: u32) {
        let delay = if misses == 0 { self.dice.below(20 * MS) } else { self.dice.below(SECOND << misses.min(3)) };
        let node = self.node_mut(at);
        node.seeking.insert(link, misses);
        let life = node.life;
        self.queue.after(delay, Event::Seek(at, life, link));
    }

    /// After a start: looks for whatever is better than what is shown.
    pub fn seek_again(&mut self, at: NodeId) {
        let disk = &self.node(at).disk;
        let open = disk.manifests().iter().map(|manifest| manifest.link()).filter(|link| !disk.has_content(link));
        let open: Vec<_> = open.filter(|link| better_than_shown(&self.node(at).chain, link)).collect();
        open.into_iter().for_each(|link| self.plan_seek(at, link, 0));
    }

    /// Looks for somebody who has the content of a version.
    pub(crate) fn seek(&mut self, at: NodeId, link: Link) {
        let Some(misses) = self.node_mut(at).seeking.remove(&link) else { return };
        if !better_than_shown(&self.node(at).chain, &link) {
            return;
        }
        match self.holder(at, &link) {
            Some(_) => {
                let (least, most) = self.setup.content;
                let life = self.node(at).life;
                let takes = self.dice.between(least, most);
                self.queue.after(takes, Event::Content(at, life, link));
            }
            None => self.plan_seek(at, link, misses + 1),
        }
    }

    /// Somebody in reach who has the content of a version.
    fn holder(&mut self, at: NodeId, link: &Link) -> Option<NodeId> {
        let holders = self.holders.get(link)?;
        let first = self.dice.index(holders.len());
        let mut some = (0..holders.len().min(16)).map(|step| holders[(first + step) % holders.len()]);
        some.find(|peer| self.nodes[*peer as usize].up && self.links.joined(at, *peer))
    }

    /// The content of a version is on this machine.
    pub(crate) fn content_came(&mut self, at: NodeId, link: Link) {
        self.note(36, at, link.prefix(), 0);
        self.keep_content(at, link);
        self.feed(at, Input::Complete(link));
    }

    /// Stores the content of a version; whoever is no villain gives it on.
    pub fn keep_content(&mut self, at: NodeId, link: Link) {
        let node = self.node_mut(at);
        if node.disk.store_content(link) && node.kind != Kind::Hollow {
            self.holders.entry(link).or_default().push(at);
        }
    }

    /// Publishes on what is shown, if this device may. Gives what was stored.
    pub fn publish(&mut self, at: NodeId) -> Option<Link> {
        let parent = self.shown(at)?;
        let clock = self.node(at).clock(self.now());
        if !self.cast.may_write_after(&parent, at) {
            return None;
        }
        let manifest = self.cast.child(&parent, at, clock, None).ok()?;
        self.publish_this(at, manifest)
    }

    /// Publishes what this device made: the content is stored first.
    pub(crate) fn publish_this(&mut self, at: NodeId, manifest: Arc<VerifiedManifest>) -> Option<Link> {
        let (link, life) = (manifest.link(), self.node(at).life);
        self.say(at, || format!("publishes {} at {}", link.short(), manifest.height));
        self.meter.published(self.queue.now(), link);
        self.keep_content(at, link);
        self.feed(at, Input::Manifest { manifest, source: Source::Own });
        let node = self.node_mut(at);
        let stored = node.disk.manifests().last().is_some_and(|last| last.link() == link);
        if !stored && !node.disk.manifests().iter().any(|one| one.link() == link) {
            return None;
        }
        node.acknowledged.push(link);
        if node.life == life {
            self.feed(at, Input::Complete(link));
        }
        Some(link)
    }

    /// The owner takes a node out of the member list, in a new epoch.
    pub(crate) fn remove_member(&mut self, gone: NodeId, vanishes: bool) {
        let Some(parent) = self.shown(0) else {
            if !self.node(0).gone {
                self.queue.after(2 * SECOND, Event::Remove(gone, vanishes));
            }
            return;
        };
        let Some(list) = self.cast.list_without(&parent, gone) else { return };
        self.say(0, || format!("removes {gone}"));
        self.meter.saw("member removed");
        self.set_kind(gone, Kind::Revoked);
        self.queue.after(SECOND, Event::Mischief(gone));
        let made = self.publish_list(&parent, &list);
        if let Some(link) = made.filter(|_| vanishes) {
            self.holders.remove(&link);
            // What is on its way arrives; but not even a crash before that brings the owner back.
            self.node_mut(0).gone = true;
            self.queue.after(SECOND, Event::CrashNow(0, self.node(0).life, None));
        }
    }

    /// The owner lets a reader write, in the same epoch.
    pub(crate) fn promote_member(&mut self, node: NodeId) {
        let Some(parent) = self.shown(0) else { return };
        let Some(list) = self.cast.list_with_writer(&parent, node) else { return };
        self.say(0, || format!("lets {node} write"));
        self.meter.saw("member promoted");
        self.publish_list(&parent, &list);
    }

    fn publish_list(&mut self, parent: &VerifiedManifest, list: &Arc<MemberList>) -> Option<Link> {
        let clock = self.node(0).clock(self.now());
        let manifest = self.cast.child(parent, 0, clock, Some(list)).ok()?;
        self.take_list(0, list);
        self.publish_this(0, manifest)
    }

    /// What a running node shows.
    pub(crate) fn shown(&self, at: NodeId) -> Option<Arc<VerifiedManifest>> {
        let node = self.node(at);
        node.chain.shown().filter(|_| node.up).and_then(|link| self.cast.manifest(&link))
    }

    /// A user pins some version.
    pub(crate) fn pin(&mut self, at: NodeId) {
        let some = self.dice.index(self.node(at).disk.manifests().len());
        let link = self.node(at).disk.manifests()[some].link();
        self.feed(at, Input::Pin(Some(link)));
    }

    pub(crate) fn take_list(&mut self, at: NodeId, list: &Arc<MemberList>) -> bool {
        self.node_mut(at).disk.store_list(Arc::clone(list));
        self.feed(at, Input::Members(Box::new((**list).clone())))
    }

    /// A peer passed a manifest on.
    pub(crate) fn heard(&mut self, at: NodeId, from: NodeId, link: Link) {
        let Some(manifest) = self.cast.manifest(&link) else { return };
        let source = Source::Announced(self.cast.device(from));
        self.feed(at, Input::Manifest { manifest, source });
    }

    /// Hands in a piece of an answer; says whether it was any good.
    pub(crate) fn take_history(&mut self, at: NodeId, from: NodeId, item: Missing) -> bool {
        match item {
            Missing::Members(link) => match self.cast.list(&link) {
                Some(list) => self.take_list(at, &list),
                None => false,
            },
            Missing::Manifest(link) => {
                let Some(manifest) = self.cast.manifest(&link) else { return false };
                if self.setup.wrong_rule.is_some_and(|rule| rule.refuses(&self.node(at).chain, &manifest)) {
                    return false;
                }
                let source = Source::History(self.cast.device(from));
                self.feed(at, Input::Manifest { manifest, source })
            }
        }
    }
}

impl WrongRule {
    /// The rule of a name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::ParentIsFinal, Self::AncestorIsStale].into_iter().find(|rule| rule.name() == name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ParentIsFinal => "parent",
            Self::AncestorIsStale => "ancestor",
        }
    }

    fn refuses(self, chain: &Chain, manifest: &VerifiedManifest) -> bool {
        let tested = match self {
            Self::ParentIsFinal => manifest.height.0.saturating_sub(1),
            Self::AncestorIsStale => manifest.height.0,
        };
        chain.height().0 > tested + chain.finality_depth()
    }
}

/// Whether a known version would be shown if its content were here.
fn better_than_shown(chain: &Chain, link: &Link) -> bool {
    let key = |link: &Link| chain.record(link).map(|record| (record.epoch, record.height, *record.link.digest()));
    key(link).is_some_and(|wanted| chain.shown().is_none_or(|shown| key(&shown).is_some_and(|shown| wanted > shown)))
}

/// What an output is called where things are counted.
const fn kind(output: &Output) -> &'static str {
    match output {
        Output::Admitted(_) => "admitted",
        Output::Rejected { .. } => "rejected",
        Output::Dropped(_) => "dropped",
        Output::Deferred(_) => "deferred",
        Output::Announce(_) => "announced",
        Output::SendHeads { .. } => "heads told",
        Output::Fetch { .. } => "history asked for",
        Output::Stale { .. } => "stale",
        Output::Head { fork_point: None, .. } => "head extended",
        Output::Head { .. } => "head changed sides",
        Output::DeepReorganisation { .. } => "deep reorganisation",
        Output::Shown { .. } => "shown",
        Output::TipPruned { .. } => "tip pruned",
        Output::ForkStarted => "fork started",
        Output::ForkResolved { .. } => "fork resolved",
        Output::Pinned(_) => "pinned",
        Output::Save => "saved",
        Output::HardFork { .. } => "hard fork",
        Output::HardForkEnded { .. } => "hard fork ended",
    }
}

fn short(item: &Missing) -> String {
    match item {
        Missing::Manifest(link) => link.short(),
        Missing::Members(link) => format!("members {}", link.short()),
    }
}

/// An output, in a line.
struct Told<'a>(&'a Output);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Output::Admitted(manifest) => {
                write!(f, "admitted {} at {} of {}", manifest.link().short(), manifest.height, manifest.author.short())
            }
            Output::Rejected { link, why } => write!(f, "rejected {}: {why}", link.short()),
            Output::Head { to, height, .. } => write!(f, "head {} at {height}", to.short()),
            Output::SendHeads { to, answer, .. } => write!(f, "tells {} its heads; answer: {answer}", to.short()),
            Output::Fetch { from, request } => {
                let wants: Vec<_> = request.wants.iter().map(short).collect();
                write!(f, "asks {} for {wants:?}", from.short())
            }
            Output::Shown { to, .. } => write!(f, "shown {}", to.short()),
            other => write!(f, "{other:?}"),
        }
    }
}
