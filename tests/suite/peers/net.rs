//! The vocabulary of these tests: machines on a network that is theirs alone, and what can go wrong with it.
//!
//! Each host has a network namespace. What leaves its card is read here and written to the others' cards, or lost, or kept
//! for a while, as the test wants it. So nothing has to be there but `/dev/net/tun` and the right to use it; and since no
//! namespace and no card has a name outside, nothing is left behind, however a test ends.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use super::tap;
use crate::loads::Random;
use crate::world::{SOON, World, is_installed, run, wait_for};

/// How long devices may take to find each other again, with nobody to help them.
pub(crate) const AGAIN: Duration = Duration::from_secs(40);
/// The largest frame: 1500 bytes, and where it goes.
const FRAME: usize = 1_514;
/// Frames that may be on their way. What is more is lost, as in any other switch.
const ON_THE_WAY: usize = 20_000;
/// How soon a new host is noticed, and the end.
const STEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Why there can be no hosts here, if so.
pub(crate) fn trouble() -> Option<String> {
    let missing = ["ip", "nsenter"].into_iter().find(|program| !is_installed(program));
    let missing = missing.map(|program| format!("{program} is not installed"));
    missing.or_else(|| tap::network().err().map(|error| format!("no network of its own ({error})")))
}

/// Hosts, and a switch that all their cables end in.
pub(crate) struct Net {
    switch: Arc<Switch>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Switch {
    wires: Mutex<Wires>,
    ended: AtomicBool,
}

#[derive(Default)]
struct Wires {
    cards: Vec<Arc<OwnedFd>>,
    /// From whom nothing comes to whom.
    cut: BTreeSet<(usize, usize)>,
    /// How late what a host sends is, and how much of 1000 frames is lost.
    bad: BTreeMap<usize, (Duration, u64)>,
}

impl Switch {
    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Net {
    /// Without hosts.
    pub(crate) fn new() -> Self {
        let switch = Arc::<Switch>::default();
        let forwarding = Arc::clone(&switch);
        Self { switch, thread: Some(std::thread::spawn(move || forward(&forwarding))) }
    }

    /// A host with a home of its own, where devices are not looked for by multicast.
    #[track_caller]
    pub(crate) fn host(&self) -> Host {
        let host = self.new_host();
        host.jaxfs(&["network", "--local-discovery", "off"]).ok();
        host
    }

    /// A host with a home of its own, as it is without any setting.
    #[track_caller]
    pub(crate) fn new_host(&self) -> Host {
        let (namespace, card) = tap::network().unwrap();
        let number = {
            let mut wires = self.switch.wires();
            wires.cards.push(Arc::new(card));
            wires.cards.len()
        };
        let mut world = World::new();
        let at = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()));
        world.live_in(at);
        world.set("JAXFS_LOG", "info,jaxfs=debug,jaxfs_sync=debug");
        let host =
            Host { world, node: Mutex::default(), number, switch: Arc::clone(&self.switch), _namespace: namespace };
        host.ip(&format!("link set lo up; link set eth0 address 02:00:00:00:00:{number:02x} up"));
        host.move_to(&format!("10.77.0.{number}"));
        host
    }

    /// A host that has made a bucket and mounted it.
    #[track_caller]
    pub(crate) fn owner(&self) -> Host {
        let host = self.host();
        host.mount();
        host
    }

    /// An owner, and others that joined as writers; all of them have the bucket mounted.
    #[track_caller]
    pub(crate) fn devices<const COUNT: usize>(&self) -> [Host; COUNT] {
        let owner = self.owner();
        let mut all = vec![owner];
        for at in 1..COUNT {
            let guest = self.host();
            guest.join(&all[0], "writer", &format!("device{at}"));
            all.push(guest);
        }
        all.try_into().unwrap_or_else(|_| unreachable!("so many were made"))
    }

    /// Nothing passes between one group and the rest, until it is healed.
    pub(crate) fn part(&self, group: &[&Host]) {
        let mut wires = self.switch.wires();
        let inside: BTreeSet<_> = group.iter().map(|host| host.number).collect();
        let all = 1..=wires.cards.len();
        let pairs = all.clone().flat_map(|from| all.clone().map(move |to| (from, to)));
        wires.cut = pairs.filter(|(from, to)| inside.contains(from) != inside.contains(to)).collect();
    }

    /// Nothing passes from one to the other; the other way it does.
    pub(crate) fn cut_one_way(&self, from: &Host, to: &Host) {
        self.switch.wires().cut.insert((from.number, to.number));
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        let mut wires = self.switch.wires();
        wires.cut.clear();
        wires.bad.clear();
    }

    /// What a host sends comes late, and so many of 1000 frames never.
    pub(crate) fn spoil(&self, host: &Host, delay: Duration, loss: u64) {
        self.switch.wires().bad.insert(host.number, (delay, loss));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.switch.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A frame on its way: when it arrives, in which order it came, and where it goes.
type Late = Reverse<(Instant, u64, usize, Vec<u8>)>;

fn forward(switch: &Switch) {
    let (mut late, mut count): (BinaryHeap<Late>, u64) = (BinaryHeap::new(), 0);
    let mut buffer = [0; FRAME];
    while !switch.ended.load(Ordering::Relaxed) {
        let cards = switch.wires().cards.clone();
        let mut fds: Vec<_> = cards.iter().map(|card| PollFd::new(card, PollFlags::IN)).collect();
        let next = late.peek().map(|Reverse((at, ..))| at.saturating_duration_since(Instant::now()));
        let wait = next.and_then(|next| Timespec::try_from(next).ok()).filter(|next| next.tv_nsec < STEP.tv_nsec);
        let wait = wait.filter(|wait| wait.tv_sec == 0).unwrap_or(STEP);
        if poll(&mut fds, Some(&wait)).is_err() {
            continue;
        }
        for (at, card) in cards.iter().enumerate() {
            for _ in 0..64 {
                let Ok(length) = rustix::io::read(card.as_fd(), &mut buffer) else { break };
                let frame = &buffer[..length];
                count += 1;
                let wires = switch.wires();
                let (delay, loss) = wires.bad.get(&(at + 1)).copied().unwrap_or_default();
                if Random::new(loss, count).below(1_000) < loss {
                    continue;
                }
                let passes = |to: &usize| *to != at && !wires.cut.contains(&(at + 1, to + 1));
                for to in receivers(frame, cards.len()).filter(passes) {
                    if delay.is_zero() {
                        let _ = rustix::io::write(cards[to].as_fd(), frame);
                    } else if late.len() < ON_THE_WAY {
                        late.push(Reverse((Instant::now() + delay, count, to, frame.to_vec())));
                    }
                }
            }
        }
        while late.peek().is_some_and(|Reverse((at, ..))| *at <= Instant::now())
            && let Some(Reverse((_, _, to, frame))) = late.pop()
        {
            let _ = rustix::io::write(cards[to].as_fd(), &frame);
        }
    }
}

/// To whom a frame goes: the one whose address it has, else all.
fn receivers(frame: &[u8], count: usize) -> impl Iterator<Item = usize> {
    let one = match frame {
        [2, 0, 0, 0, 0, number, ..] => usize::from(*number).checked_sub(1).filter(|one| *one < count),
        _ => None,
    };
    one.map_or(0..count, |one| one..one + 1)
}

/// A machine: a home, a directory to mount on, and a card with a cable.
pub(crate) struct Host {
    world: World,
    /// A node that no mount started.
    node: Mutex<Option<Child>>,
    number: usize,
    switch: Arc<Switch>,
    _namespace: OwnedFd,
}

impl Deref for Host {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Host {
    /// Runs commands of `ip`, with semicolons between them.
    #[track_caller]
    pub(crate) fn ip(&self, commands: &str) {
        let script: Vec<_> = commands.split(';').map(|command| format!("ip {}", command.trim())).collect();
        run(self.command("sh").args(["-ec", &script.join("\n")])).ok();
    }

    /// Gives it another address, and no other.
    #[track_caller]
    pub(crate) fn move_to(&self, address: &str) {
        // Elsewhere, it is the default route that multicast goes by.
        self.ip(&format!("-4 addr flush dev eth0; addr add {address}/24 dev eth0; route add 224.0.0.0/4 dev eth0"));
    }

    /// Pulls its cable out.
    pub(crate) fn pull(&self) {
        let mut wires = self.switch.wires();
        for other in 1..=wires.cards.len() {
            wires.cut.extend([(self.number, other), (other, self.number)]);
        }
    }

    /// A ticket for one device.
    #[track_caller]
    pub(crate) fn ticket(&self, role: &str) -> String {
        self.jaxfs(&["share", "--role", role]).ok().trim().to_owned()
    }

    /// Joins somebody's bucket, and mounts it.
    #[track_caller]
    pub(crate) fn join(&self, owner: &Host, role: &str, name: &str) {
        let dir = self.dir().to_str().unwrap().to_owned();
        self.jaxfs(&["join", &owner.ticket(role), &dir, "--name", name]).ok();
    }

    /// Starts a node that stays, and waits until it answers.
    #[track_caller]
    pub(crate) fn start_node(&self) {
        let mut command = self.command(crate::world::JAXFS);
        command.arg("node").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        *self.node.lock().unwrap() = Some(command.spawn().unwrap());
        wait_for("the node is there", SOON, || self.node().is_some() && self.home().join("node.sock").exists());
    }

    /// What is shown.
    #[track_caller]
    pub(crate) fn head(&self) -> Value {
        self.status()["head"]["link"].clone()
    }

    /// How many others are connected.
    #[track_caller]
    pub(crate) fn connected(&self) -> u64 {
        self.status()["swarm"]["connected"].as_u64().unwrap_or(0)
    }

    /// Whether there is something of that name in the mount.
    pub(crate) fn has(&self, name: &str) -> bool {
        std::fs::symlink_metadata(self.at(name)).is_ok()
    }

    /// Waits until a file is there and says something.
    #[track_caller]
    pub(crate) fn wait_says(&self, limit: Duration, name: &str, text: &str) {
        let says = || std::fs::read_to_string(self.at(name)).is_ok_and(|found| found == text);
        wait_for(&format!("{name} says {text:?}"), limit, says);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.world.clean_up();
        let node = self.node.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut node) = node.take() {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// Waits until all show the same and have all of it, and looks whether it is the same to whoever reads it.
#[track_caller]
pub(crate) fn wait_equal(limit: Duration, hosts: &[&Host]) {
    let others = hosts.len() as u64 - 1;
    let shown = || {
        let all: Vec<_> = hosts.iter().map(|host| host.status()).collect();
        let settled = |status: &Value| {
            let quiet = status["mount"]["unpublished"] == 0 && status["head"]["unpublished"] == false;
            quiet && status["head"]["link"] == all[0]["head"]["link"]
        };
        all.iter().all(|status| settled(status) && status["swarm"]["holders"].as_u64() >= Some(others))
    };
    wait_for("all show the same version, and know that all have it", limit, shown);
    let first = hosts[0];
    for other in &hosts[1..] {
        let mut command = first.command("rsync");
        command.args(["-aHXcn", "--delete", "--itemize-changes"]).arg(first.at("")).arg(other.at(""));
        assert_eq!(run(&mut command).ok(), "", "the trees differ");
    }
}

/// Each sees soon what the other writes.
#[track_caller]
pub(crate) fn meet(a: &Host, b: &Host, name: &str) {
    for (here, there, name) in [(a, b, format!("{name}.1")), (b, a, format!("{name}.2"))] {
        std::fs::write(here.at(&name), &name).unwrap();
        there.wait_says(AGAIN, &name, &name);
    }
}
