//! What goes wrong, and when: a schedule, drawn from its seed.

use jaxfs_sync::bucket::Role;

use crate::cast::NodeId;
use crate::dice::Dice;
use crate::links::{Cut, Weather};
use crate::node::Kind;
use crate::queue::{MS, Micros, SECOND};
use crate::sim::{Event, Setup, Sim, WrongRule};

/// Kinds of bad days.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Nothing but the distance between nodes.
    Calm,
    /// Messages are lost, and come in another order.
    Lossy,
    /// The network falls apart, for long.
    Cuts,
    /// Nodes crash, some for good.
    Crashes,
    /// Writers do not keep to the protocol.
    Villains,
    /// All of it.
    Everything,
}

/// What goes wrong in one world.
#[derive(Clone, Debug)]
pub struct Faults {
    /// What the network is like.
    pub weather: Weather,
    /// How far clocks are off, in milliseconds.
    pub skew: i64,
    /// How many times the network is cut.
    pub cuts: u64,
    /// How many times a node crashes.
    pub crashes: u64,
    /// How many of these are for good.
    pub gone: u64,
    /// How many nodes are villains, as far as there are writers.
    pub villains: u64,
    /// Whether the owner removes a writer, or makes one.
    pub removal: bool,
    /// How many times a user pins something, or a clock is set.
    pub whims: u64,
}

impl Faults {
    /// Those of a profile.
    pub fn of(profile: Profile, dice: &mut Dice) -> Self {
        let all = profile == Profile::Everything;
        let on = |of: Profile| all || profile == of;
        let mut up_to = |most: u64, of: Profile| if on(of) { dice.between(u64::from(!all), most) } else { 0 };
        let (cuts, crashes, villains) =
            (up_to(3, Profile::Cuts), up_to(8, Profile::Crashes), up_to(3, Profile::Villains));
        let gone = dice.below(crashes / 3 + 1);
        let mut weather = Weather::default();
        weather.delay.1 = dice.between(10, 300) * MS;
        if on(Profile::Lossy) {
            weather.loss = dice.fraction() * dice.fraction() * 0.3;
            weather.jitter = dice.between(0, 500) * MS;
        }
        let skew = if profile == Profile::Calm { 0 } else { [0, 1_000, 3_600_000][dice.index(3)] };
        let removal = on(Profile::Villains) && dice.chance(0.4);
        let whims = if profile == Profile::Calm { 0 } else { dice.below(4) };
        Self { weather, skew, cuts, crashes, gone, villains, removal, whims }
    }
}

/// A world and all that is planned for it from outside.
#[derive(Debug)]
pub struct Schedule {
    /// What kind of day it is.
    pub profile: Profile,
    /// What goes wrong.
    pub faults: Faults,
    /// What the world is made of.
    pub setup: Setup,
    /// Who is a villain from the beginning.
    pub villains: Vec<(NodeId, Kind)>,
    /// What happens when.
    pub events: Vec<(Micros, Event)>,
    /// When all this is over.
    pub length: Micros,
}

impl Schedule {
    /// The schedule of a seed; with so many nodes, if that is given.
    pub fn of(seed: u64, nodes: Option<usize>, wrong_rule: Option<WrongRule>) -> Self {
        use Profile::{Calm, Crashes, Cuts, Everything, Lossy, Villains};
        let mut dice = Dice::new(seed, "schedule");
        let profile = [Calm, Lossy, Cuts, Cuts, Crashes, Villains, Villains, Everything, Everything][dice.index(9)];
        let nodes = nodes.unwrap_or_else(|| dice.between(2, 12) as usize);
        let faults = Faults::of(profile, &mut dice);
        let length = dice.between(20, 90) * SECOND;
        let roles: Vec<_> = (1..nodes).map(|_| role(&mut dice)).collect();
        let setup = Setup {
            seed,
            nodes,
            roles,
            finality_depth: [1, 2, 3, 5, 10][dice.index(5)],
            weather: faults.weather.clone(),
            skew: faults.skew,
            holding: if faults.whims > 0 { 0.2 } else { 0.0 },
            content: (MS, dice.between(2, 800) * MS),
            // The rarer, the longer a connection lives, and the more it has to do.
            rejoin: [10, 60, 200][dice.index(3)] * SECOND,
            // Some come late, and have all of the history to fetch.
            start_within: if dice.chance(0.2) { length } else { dice.between(0, 10) * SECOND },
            gossip: iroh_gossip::proto::Config::default(),
            wrong_rule,
            checked: true,
        };
        let mut schedule = Self { profile, faults, setup, villains: Vec::new(), events: Vec::new(), length };
        schedule.plan_publishing(&mut dice);
        schedule.plan_villains(&mut dice);
        schedule.plan_crashes(&mut dice);
        schedule.plan_cuts(&mut dice);
        schedule.plan_whims(&mut dice);
        schedule
    }

    fn writers(&self) -> Vec<NodeId> {
        let roles = self.setup.roles.iter().zip(1..);
        [0].into_iter().chain(roles.filter(|(role, _)| role.may_write()).map(|(_, at)| at)).collect()
    }

    fn plan_publishing(&mut self, dice: &mut Dice) {
        let writers = self.writers();
        let mean = dice.between(500, 5_000) * MS * writers.len() as u64;
        for writer in writers {
            let mut at = dice.wait(mean);
            while at < self.length {
                self.events.push((at, Event::Publish(writer)));
                at += dice.wait(mean) + 10 * MS;
            }
        }
    }

    fn plan_villains(&mut self, dice: &mut Dice) {
        use Kind::{Equivocator, Hollow, Intruder, Liar, Prophet, Replayer, Spammer, Withholder};
        let (mut others, owner) = (self.writers(), 0);
        others.retain(|at| *at != owner);
        dice.shuffle(&mut others);
        for _ in 0..self.faults.villains {
            // One honest writer besides the owner stays, if there is one.
            if others.len() < 2 {
                break;
            }
            let Some(at) = others.pop() else { break };
            let kind = [Spammer, Equivocator, Replayer, Withholder, Hollow, Prophet, Liar][dice.index(7)];
            self.villains.push((at, kind));
        }
        let readers = self.setup.roles.iter().zip(1..).filter(|(role, _)| !role.may_write()).map(|(_, at)| at);
        if self.faults.villains > 0 {
            self.villains.extend(readers.last().map(|at| (at, Intruder)));
        }
        for (at, _) in &self.villains {
            self.events.push((dice.below(self.length / 2), Event::Mischief(*at)));
        }
        if self.faults.removal && others.len() > 1 {
            let at = dice.between(self.length / 4, self.length);
            self.events.push((at, Event::Remove(others[0], dice.chance(0.25))));
        }
    }

    fn plan_crashes(&mut self, dice: &mut Dice) {
        let nodes = self.setup.nodes as u64;
        for number in 0..self.faults.crashes {
            // Perhaps the owner too, and with him the keys to what nobody else may do.
            let gone = number < self.faults.gone && nodes > 3;
            let who = dice.below(nodes);
            let back = (!gone).then(|| dice.between(SECOND / 10, 30 * SECOND));
            let outputs = dice.below(12) as u32;
            self.events.push((dice.below(self.length), Event::Crash(who as NodeId, outputs, back)));
        }
    }

    fn plan_whims(&mut self, dice: &mut Dice) {
        let nodes = self.setup.nodes as u64;
        for _ in 0..self.faults.whims {
            let who = dice.below(nodes) as NodeId;
            let day = 86_400_000;
            let what = match dice.below(3) {
                0 => Event::Pin(who),
                1 => Event::Promote(who),
                _ => Event::SetClock(who, dice.below(2 * day).cast_signed() - day.cast_signed()),
            };
            self.events.push((dice.below(self.length), what));
        }
    }

    fn plan_cuts(&mut self, dice: &mut Dice) {
        let nodes = self.setup.nodes;
        for number in 0..self.faults.cuts as u32 {
            let parts = dice.between(2, 3);
            let groups = (0..nodes).map(|_| dice.below(parts) as u8).collect();
            let one_way = dice.chance(0.25);
            let from = dice.below(self.length);
            let until = from + dice.between(SECOND, self.length);
            self.events.push((from, Event::Cut(number, Box::new(Cut { groups, one_way }))));
            self.events.push((until, Event::Heal(number)));
        }
    }

    /// The world, with everything planned.
    pub fn world(self) -> Sim {
        let mut sim = Sim::new(self.setup);
        for (at, kind) in self.villains {
            sim.set_kind(at, kind);
        }
        for (at, event) in self.events {
            sim.queue.after(at, event);
        }
        sim
    }
}

fn role(dice: &mut Dice) -> Role {
    [Role::Writer, Role::Writer, Role::Writer, Role::Reader, Role::Mirror][dice.index(5)]
}
