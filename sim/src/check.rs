//! What has to hold: after every step, after every start, and when all is at rest.

use std::collections::BTreeSet;
use std::fmt;

use jaxfs_sync::bucket::{Height, Role};
use jaxfs_sync::chain::{Chain, Record};
use jaxfs_sync::limits::{DEFERRED_MANIFESTS, HEADS_TIPS, PENDING_MANIFESTS};
use jaxfs_sync::link::{Epoch, Link};

use crate::cast::NodeId;
use crate::node::{Kind, Node};
use crate::queue::{Micros, SECOND};
use crate::sim::Sim;

/// Every so many steps the whole chain is looked at.
const SAMPLE: u64 = 32;

/// What heads are chosen by.
type Key = (Epoch, Height, [u8; 32]);

/// Something that should never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: Micros,
    /// At which node.
    pub node: NodeId,
    /// What.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} after {}.{:06} s: {}", self.node, self.at / SECOND, self.at % SECOND, self.what)
    }
}

/// Looks at chains as they change.
#[derive(Debug)]
pub struct Checker {
    on: bool,
    steps: u64,
    heads: Vec<Option<Key>>,
    failure: Option<Failure>,
}

impl Checker {
    /// Looks at so many nodes; or, if it is off, at none.
    pub fn new(nodes: usize, on: bool) -> Self {
        Self { on, steps: 0, heads: vec![None; nodes], failure: None }
    }

    /// The first thing that went wrong.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.clone()
    }

    /// Something went wrong.
    pub fn fail(&mut self, at: Micros, node: NodeId, what: String) {
        self.failure.get_or_insert(Failure { at, node, what });
    }

    /// A chain took an input, and all its outputs were acted upon.
    pub fn step(&mut self, now: Micros, node: &Node) {
        if !self.on {
            return;
        }
        self.steps += 1;
        if let Err(what) = self.head_rises(node).and_then(|()| small(node)) {
            return self.fail(now, node.id, what);
        }
        if self.steps.is_multiple_of(SAMPLE)
            && let Err(what) = whole(node)
        {
            self.fail(now, node.id, what);
        }
    }

    /// A node started from what it had stored.
    pub fn started(&mut self, now: Micros, node: &Node) {
        if !self.on {
            return;
        }
        // What a step saw was stored before, so that not even a crash makes a head fall.
        if let Err(what) = self.head_rises(node).and_then(|()| small(node)).and_then(|()| whole(node)) {
            self.fail(now, node.id, format!("after its start: {what}"));
        }
    }

    fn head_rises(&mut self, node: &Node) -> Result<(), String> {
        let key = node.chain.record(&node.chain.head()).map(|record| key(&record)).ok_or("its head is not known")?;
        let before = self.heads[node.id as usize].replace(key);
        if before.is_some_and(|before| before > key) {
            return Err(format!("its head fell from {before:?} to {key:?}"));
        }
        Ok(())
    }
}

fn key(record: &Record) -> Key {
    (record.epoch, record.height, *record.link.digest())
}

/// What costs little to look at.
fn small(node: &Node) -> Result<(), String> {
    let chain = &node.chain;
    let (known, stored) = (chain.len(), node.disk.manifests().len());
    if known != stored {
        return Err(format!("it knows {known} manifests and has stored {stored}"));
    }
    if chain.pending() > PENDING_MANIFESTS {
        return Err(format!("{} manifests wait", chain.pending()));
    }
    if chain.deferred() > DEFERRED_MANIFESTS {
        return Err(format!("{} manifests wait for their turn", chain.deferred()));
    }
    match chain.shown() {
        Some(shown) if !node.disk.has_content(&shown) => Err(format!("it shows {}, which is not here", shown.short())),
        _ => Ok(()),
    }
}

/// Nobody but the owner, who made the genesis, brings a member list into force.
fn owned(chain: &Chain) -> Result<(), String> {
    let owner = chain.record(&chain.genesis()).map(|genesis| genesis.author);
    let path: Vec<_> = chain.ancestors(&chain.head()).collect();
    let stolen = path.windows(2).find(|pair| pair[0].members != pair[1].members && Some(pair[0].author) != owner);
    stolen.map_or(Ok(()), |pair| Err(format!("{} brings a member list into force", pair[0].link.short())))
}

/// The rules told naively, over all that a chain knows; and that it knows all that was stored.
fn whole(node: &Node) -> Result<(), String> {
    owned(&node.chain)?;
    let chain = &node.chain;
    let records: Vec<_> = chain.records().collect();
    let parents: BTreeSet<_> = records.iter().filter_map(|record| record.previous).collect();
    let head = records.iter().map(key).max().ok_or("it knows nothing")?;
    if chain.head().digest() != &head.2 {
        return Err(format!("its head is {}, and not the greatest", chain.head().short()));
    }
    let stale =
        |record: &Record| record.epoch < head.0 || head.1.0.saturating_sub(record.height.0) > chain.finality_depth();
    let mut tips: Vec<_> = records.iter().filter(|record| !parents.contains(&record.link) && !stale(record)).collect();
    tips.sort_by_key(|record| key(record));
    if !chain.tips().eq(tips.iter().map(|record| record.link)) {
        return Err(format!("its tips are not those that the rule gives: {:?}", chain.tips().collect::<Vec<_>>()));
    }
    let complete = |record: &&Record| record.complete;
    let best = records.iter().filter(complete).max_by_key(|record| key(record)).map(|record| record.link);
    let pinned = chain.pin().and_then(|pin| chain.record(&pin.at));
    match pinned {
        None if chain.shown() != best => {
            return Err("it does not show the greatest version that is complete".to_owned());
        }
        Some(pinned) if pinned.complete && chain.shown() != Some(pinned.link) => {
            return Err("it does not show its pin".to_owned());
        }
        _ => {}
    }
    match node.disk.manifests().iter().find(|manifest| !chain.contains(&manifest.link())) {
        Some(manifest) => Err(format!("{} was stored and is not known", manifest.link().short())),
        None => Ok(()),
    }
}

/// Whether all honest nodes that run agree, and show what can be shown.
pub fn agree(sim: &Sim) -> Result<(), Failure> {
    let failed = |node: &Node, what| Err(Failure { at: sim.now(), node: node.id, what });
    let Some(first) = sim.honest().next() else { return Ok(()) };
    // Of more tips than members tell each other, each may know others.
    let told = |chain: &Chain| chain.tips().rev().take(HEADS_TIPS).collect::<Vec<_>>();
    let view = |chain: &Chain| (chain.head(), told(chain), chain.shown());
    let agreed = view(&first.chain);
    for node in sim.honest() {
        let found = view(&node.chain);
        if found != agreed {
            let of = |(head, tips, shown): &(Link, Vec<Link>, Option<Link>)| {
                format!("{} and {} tips, shows {:?}", head.short(), tips.len(), shown.map(|shown| shown.short()))
            };
            return failed(node, format!("it has {}, and node {} has {}", of(&found), first.id, of(&agreed)));
        }
        let differs = node.chain.hard_forks().map(|(peer, _)| peer).find(|peer| {
            let peer = sim.cast.node(peer);
            peer.is_some_and(|peer| sim.node(peer).counts())
        });
        if let Some(peer) = differs {
            return failed(node, format!("it calls it a hard fork that {} differs", peer.short()));
        }
        if let Some(record) = best_available(sim, node)
            && node.chain.shown() != Some(record.link)
        {
            let shown = node.chain.shown().map(|shown| shown.short());
            return failed(node, format!("it shows {shown:?}, though {} could be had", record.link.short()));
        }
    }
    Ok(())
}

/// The greatest version that a node knows and that somebody gives.
fn best_available(sim: &Sim, node: &Node) -> Option<Record> {
    let given = |link: &Link| {
        let holders = sim.holders.get(link).into_iter().flatten();
        node.disk.has_content(link) || holders.into_iter().any(|at| sim.node(*at).up)
    };
    node.chain.records().filter(|record| given(&record.link)).max_by_key(key)
}

/// What has to hold when all is at rest, besides agreement.
pub fn nothing_lost(sim: &Sim) -> Result<(), Failure> {
    for node in &sim.nodes {
        let failed = |what| Err(Failure { at: sim.now(), node: node.id, what });
        if !node.up {
            continue;
        }
        for link in &node.acknowledged {
            if !node.chain.contains(link) {
                return failed(format!("its own {} is lost", link.short()));
            }
            let tips: Vec<_> = node.chain.tips().collect();
            let alive = tips.iter().any(|tip| node.chain.is_ancestor(link, tip) == Some(true));
            if node.kind == Kind::Honest
                && alive
                && let Some(other) = sim.honest().find(|other| !other.chain.contains(link))
            {
                return failed(format!("its {} is alive, and node {} does not know it", link.short(), other.id));
            }
        }
        whole(node).or_else(failed)?;
    }
    Ok(())
}

/// An honest node that may write after what it shows, if there is one.
pub fn writer(sim: &Sim) -> Option<NodeId> {
    let may = |node: &&Node| {
        let shown = node.chain.shown().and_then(|shown| sim.cast.manifest(&shown));
        let list = shown.and_then(|manifest| sim.cast.list(&manifest.share.members));
        list.and_then(|list| list.role(&node.device)).is_some_and(Role::may_write)
    };
    sim.honest().find(may).map(|node| node.id)
}
