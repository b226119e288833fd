//! The world: nodes, links and what is planned. One event at a time, each at its moment, all from one seed.

use std::collections::BTreeMap;

use iroh_gossip::proto::{InEvent, Timer};
use jaxfs_sync::bucket::Role;
use jaxfs_sync::chain::{Input, OnReorganisation, Policy};
use jaxfs_sync::link::Link;
use n0_future::time::Instant;

use crate::cast::{Cast, NodeId};
use crate::check::{Checker, Failure};
use crate::dice::Dice;
use crate::links::{Cut, Links, Weather};
use crate::meter::Meter;
use crate::node::{Kind, Node};
use crate::queue::{MS, Micros, Queue, SECOND};
use crate::trace::Trace;
use crate::wire::{Peer, Wire};

/// A finality rule that is not the chain's, to see that the checks would notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WrongRule {
    /// Refuses a fetched manifest whose parent is further below the head than the finality depth.
    ParentIsFinal,
    /// Refuses a fetched manifest that is itself further below the head than that: each ancestor as if it were a tip.
    AncestorIsStale,
}

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// All chance comes from here.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// The roles of the nodes after the owner, which is node 0.
    pub roles: Vec<Role>,
    /// The bucket's finality depth.
    pub finality_depth: u64,
    /// The network.
    pub weather: Weather,
    /// How far a clock may be off, in milliseconds.
    pub skew: i64,
    /// The probability that a node holds what it shows when there is a deep reorganisation.
    pub holding: f64,
    /// The least and the longest time that fetching directory nodes takes.
    pub content: (Micros, Micros),
    /// How often a node joins the gossip of another one that it knows of, on average.
    pub rejoin: Micros,
    /// Over how long the nodes start.
    pub start_within: Micros,
    /// The gossip protocol's own settings.
    pub gossip: iroh_gossip::proto::Config,
    /// What to do wrong, if anything.
    pub wrong_rule: Option<WrongRule>,
    /// Whether the checks run at every step.
    pub checked: bool,
}

/// What can happen.
#[derive(Debug)]
pub enum Event {
    /// A message arrives.
    Deliver(Box<(NodeId, NodeId, Wire)>),
    /// The gossip protocol wanted to be woken.
    GossipTimer(NodeId, u32, Box<Timer<Peer>>),
    /// A node notices that it does not reach another.
    Failed(NodeId, u32, NodeId),
    /// A node looks for the content of a version.
    Seek(NodeId, u32, Link),
    /// The content of a version is there.
    Content(NodeId, u32, Link),
    /// A node does not wait for an answer any longer.
    Unanswered(NodeId, u32, NodeId, u64),
    /// The chain wanted a tick.
    Tick(NodeId, u32),
    /// A node sees whether it should join the gossip of another.
    Rejoin(NodeId, u32),
    /// A node starts, or starts again.
    Start(NodeId),
    /// A node publishes.
    Publish(NodeId),
    /// A node that is not honest does what it does.
    Mischief(NodeId),
    /// The owner takes away a node's rights; and perhaps vanishes then, before anybody has the content of that version.
    Remove(NodeId, bool),
    /// The owner lets a node write that did not.
    Promote(NodeId),
    /// A node pins something that it knows.
    Pin(NodeId),
    /// A node's clock is set.
    SetClock(NodeId, i64),
    /// A node crashes after so many outputs, and starts again after a while; or never.
    Crash(NodeId, u32, Option<Micros>),
    /// The crash comes even if there were not so many outputs.
    CrashNow(NodeId, u32, Option<Micros>),
    /// The network is cut.
    Cut(u32, Box<Cut>),
    /// A cut ends.
    Heal(u32),
}

/// A world.
pub struct Sim {
    /// What it was made of.
    pub setup: Setup,
    /// Who made what.
    pub cast: Cast,
    /// The nodes, by id.
    pub nodes: Vec<Node>,
    /// The network.
    pub links: Links,
    /// What is planned.
    pub queue: Queue<Event>,
    /// Who has the content of a version, and gives it.
    pub holders: BTreeMap<Link, Vec<NodeId>>,
    /// What happened.
    pub trace: Trace,
    /// What is counted.
    pub meter: Meter,
    /// Who looks at it all.
    pub checker: Checker,
    /// For what nodes do.
    pub dice: Dice,
    /// Whether mischief has ended.
    pub calm: bool,
    /// How many connections were made.
    pub lines: u64,
    /// How many questions were asked.
    pub questions: u64,
    /// The moment of a real clock that is called 0. It can not be read in a run.
    pub(crate) origin: Instant,
}

impl Sim {
    /// A world in which nothing has happened, and all nodes are about to start.
    pub fn new(setup: Setup) -> Self {
        let cast = Cast::new(&setup.roles, setup.nodes, setup.finality_depth);
        let (genesis, list) = (cast.genesis(), cast.first_list());
        let mut dice = Dice::new(setup.seed, "nodes");
        let mut nodes = Vec::with_capacity(setup.nodes);
        for id in 0..setup.nodes as NodeId {
            let mut node = Node::new((id, cast.device(id)), &genesis, &list, setup.gossip.clone(), dice.generator());
            node.skew = dice.between(0, 2 * setup.skew.unsigned_abs()).cast_signed() - setup.skew;
            if dice.chance(setup.holding) {
                node.disk.saved.policy.reorganisation = OnReorganisation::Hold;
            }
            nodes.push(node);
        }
        nodes[0].disk.store_content(genesis.link());
        let mut sim = Self {
            links: Links::new(setup.seed, setup.weather.clone()),
            checker: Checker::new(setup.nodes, setup.checked),
            holders: BTreeMap::from([(genesis.link(), vec![0])]),
            queue: Queue::new(),
            trace: Trace::default(),
            meter: Meter::default(),
            calm: false,
            lines: 0,
            questions: 0,
            origin: Instant::now(),
            dice,
            nodes,
            cast,
            setup,
        };
        for id in 0..sim.nodes.len() as NodeId {
            let delay = if id == 0 { 0 } else { sim.dice.below(sim.setup.start_within + 1) };
            sim.queue.after(delay, Event::Start(id));
        }
        sim
    }

    /// What time it is.
    pub const fn now(&self) -> Micros {
        self.queue.now()
    }

    /// A node.
    pub fn node(&self, at: NodeId) -> &Node {
        &self.nodes[at as usize]
    }

    /// A node, to be changed.
    pub fn node_mut(&mut self, at: NodeId) -> &mut Node {
        &mut self.nodes[at as usize]
    }

    /// Lets so much time pass; ends early at the first failure.
    pub fn run_for(&mut self, time: Micros) -> Result<(), Failure> {
        let until = self.now() + time;
        while let Some(event) = self.queue.next(until) {
            self.happen(event);
            if let Some(failure) = self.checker.failure() {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Whether this node still lives the life in which something was planned.
    pub(crate) fn lives(&self, at: NodeId, life: u32) -> bool {
        let node = self.node(at);
        node.up && node.life == life
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(message) => {
                let (from, to, wire) = *message;
                self.arrive(from, to, wire);
            }
            Event::GossipTimer(at, life, timer) => {
                if self.lives(at, life) {
                    self.gossip(at, InEvent::TimerExpired(*timer));
                }
            }
            Event::Failed(at, life, peer) => {
                if self.lives(at, life) && self.node_mut(at).failing.remove(&peer) {
                    self.note(2, at, peer.into(), 0);
                    self.close(at, peer);
                    self.gossip(at, InEvent::PeerDisconnected(Peer(peer)));
                    self.disconnected(at, peer);
                }
            }
            Event::Seek(at, life, link) => {
                if self.lives(at, life) {
                    self.seek(at, link);
                }
            }
            Event::Content(at, life, link) => {
                if self.lives(at, life) {
                    self.content_came(at, link);
                }
            }
            Event::Unanswered(at, life, peer, number) => {
                if self.lives(at, life) {
                    self.unanswered(at, peer, number);
                }
            }
            Event::Tick(at, life) => {
                if self.lives(at, life) {
                    self.tick(at);
                }
            }
            Event::Rejoin(at, life) => {
                if self.lives(at, life) {
                    self.rejoin(at);
                }
            }
            Event::Start(at) => self.start(at),
            Event::Publish(at) => {
                self.publish(at);
            }
            Event::Mischief(at) => self.mischief(at),
            Event::Remove(gone, vanishes) => self.remove_member(gone, vanishes),
            Event::Promote(at) => self.promote_member(at),
            Event::Pin(at) => self.pin(at),
            Event::SetClock(at, skew) => {
                self.say(at, || format!("sets its clock to {skew} ms"));
                self.note(8, at, skew.unsigned_abs(), 0);
                self.node_mut(at).skew = skew;
                self.meter.saw("clock set");
            }
            Event::Crash(at, outputs, back) => self.light_fuse(at, outputs, back),
            Event::CrashNow(at, life, back) => {
                if self.lives(at, life) {
                    self.crash(at, back);
                }
            }
            Event::Cut(number, cut) => self.cut(number, *cut),
            Event::Heal(number) => {
                self.say(0, || format!("cut {number} heals"));
                self.note(3, 0, number.into(), 0);
                self.links.heal(number);
            }
        }
    }

    /// Writes down that something happened.
    pub fn note(&mut self, tag: u8, at: NodeId, a: u64, b: u64) {
        self.trace.note(self.queue.now(), tag, at, a, b);
    }

    /// Says what happened, in a run that somebody follows.
    pub fn say(&self, at: NodeId, what: impl FnOnce() -> String) {
        self.trace.say(self.queue.now(), at, what);
    }

    /// Sends a message, which may or may not arrive.
    pub fn send(&mut self, from: NodeId, to: NodeId, wire: Wire) {
        if from == to {
            return;
        }
        self.meter.sent(from, || wire.bytes(&self.cast));
        if !self.nodes[to as usize].up || !self.links.reaches(from, to) {
            self.will_notice(from, to);
        } else if let Some(delay) = self.links.send(from, to) {
            // Nothing that was sent before a connection is closed is lost by that.
            let last = matches!(wire, Wire::Bye(_));
            let delay = if last { self.links.way(from, to) + self.links.weather.jitter } else { delay };
            self.queue.after(delay, Event::Deliver(Box::new((from, to, wire))));
        }
    }

    /// The connection from one to another is dead, which it notices after a while.
    fn will_notice(&mut self, at: NodeId, peer: NodeId) {
        let delay = self.dice.between(SECOND / 2, 4 * SECOND);
        let node = self.node_mut(at);
        if node.up && node.failing.insert(peer) {
            let life = node.life;
            self.queue.after(delay, Event::Failed(at, life, peer));
        }
    }

    fn arrive(&mut self, from: NodeId, to: NodeId, wire: Wire) {
        self.note(10 + wire.tag(), to, from.into(), 0);
        if !self.node(to).up || !self.links.reaches(from, to) {
            return;
        }
        match wire {
            Wire::Gossip(line, message) => {
                if self.opened(to, from, line) {
                    self.gossip(to, InEvent::RecvMessage(Peer(from), message));
                } else {
                    self.send(to, from, Wire::Bye(line));
                }
            }
            Wire::Bye(line) => {
                // An old connection's end says nothing of a newer one.
                if self.node(to).lines.get(&from) == Some(&line) {
                    self.close(to, from);
                    self.gossip(to, InEvent::PeerDisconnected(Peer(from)));
                }
            }
            Wire::Heads { heads, answer } => self.heads_came(to, from, heads, answer),
            Wire::Ask { number, request } => self.serve(to, from, number, &request),
            Wire::History { number, items, more } => self.history_came(to, from, number, &items, more),
        }
    }

    fn start(&mut self, at: NodeId) {
        let generator = self.dice.generator();
        let config = self.setup.gossip.clone();
        let node = self.node_mut(at);
        if node.up || node.gone {
            return;
        }
        if let Err(error) = node.restart(config, generator) {
            return self.checker.fail(self.queue.now(), at, format!("does not start again: {error}"));
        }
        let life = node.life;
        self.note(1, at, life.into(), 0);
        self.say(at, || format!("starts, life {life}"));
        self.checker.started(self.queue.now(), &self.nodes[at as usize]);
        self.join(at, 3);
        self.plan_rejoin(at);
        if self.calm {
            self.obey(at);
        }
        self.seek_again(at);
        self.plan_tick(at);
    }

    fn light_fuse(&mut self, at: NodeId, outputs: u32, back: Option<Micros>) {
        let node = self.node_mut(at);
        if !node.up {
            return;
        }
        node.fuse = Some((outputs, back));
        let life = node.life;
        let within = self.dice.between(100 * MS, 3 * SECOND);
        self.queue.after(within, Event::CrashNow(at, life, back));
    }

    /// Takes a node down; it comes back after a while, or never.
    pub fn crash(&mut self, at: NodeId, back: Option<Micros>) {
        self.say(at, || format!("crashes; back after {back:?} us"));
        self.note(4, at, back.unwrap_or(0), 0);
        self.meter.saw(if back.is_some() { "crash" } else { "node gone" });
        self.node_mut(at).crash();
        self.node_mut(at).gone |= back.is_none();
        for peer in 0..self.nodes.len() as NodeId {
            if self.node(peer).neighbours.contains(&at) || self.node(peer).connected.contains(&at) {
                self.will_notice(peer, at);
            }
        }
        if let Some(back) = back {
            self.queue.after(back, Event::Start(at));
        }
    }

    fn cut(&mut self, number: u32, cut: Cut) {
        self.say(0, || format!("cut {number}: {cut:?}"));
        self.note(5, 0, number.into(), u64::from(cut.one_way));
        self.meter.saw(if cut.one_way { "cut one way" } else { "cut" });
        self.links.cut(number, cut);
        for at in 0..self.nodes.len() as NodeId {
            let away = |peer: &&NodeId| !self.links.joined(at, **peer);
            let lost: Vec<_> = self.node(at).neighbours.union(&self.node(at).connected).filter(away).copied().collect();
            lost.into_iter().for_each(|peer| self.will_notice(at, peer));
        }
    }

    /// Ends all faults: links heal, mischief stops, whoever is down and not gone comes back, and nobody is pinned.
    pub fn calm_down(&mut self) {
        self.say(0, || "all is calm".to_owned());
        self.links.calm();
        self.calm = true;
        for at in 0..self.nodes.len() as NodeId {
            self.node_mut(at).fuse = None;
            self.queue.after(0, Event::Start(at));
            self.obey(at);
        }
    }

    /// From now on this node shows what there is.
    fn obey(&mut self, at: NodeId) {
        self.feed(at, Input::Policy(Policy::default()));
        self.feed(at, Input::Pin(None));
    }

    /// The nodes that keep to the protocol and run.
    pub fn honest(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.counts())
    }

    /// Makes a node behave in another way.
    pub fn set_kind(&mut self, at: NodeId, kind: Kind) {
        self.node_mut(at).kind = kind;
    }
}
