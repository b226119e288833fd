//! Fetches the directories of versions, so that they can be shown.
//!
//! A version's nodes are fetched many at once, the deepest first, and stored behind all that are below them: so a root that
//! is here says that all is, and what broke off is gone on with, since whole branches are not fetched again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::swarm::{Event, Swarm};
use super::wire::{Urgency, WireError};
use super::{Shared, blocks};
use crate::bucket::DeviceId;
use crate::link::Link;
use crate::publish::{BucketError, nodes_below};

/// How often it is tried again where something is missing that nobody had.
const AGAIN: Duration = Duration::from_secs(3);
/// Nodes that are asked for at once, as long as not too much waits.
const NODES_AT_ONCE: usize = 256;
/// Bytes of nodes that wait for others below them: more than any tree that a person makes. Beyond it they are fetched one by
/// one, and beyond four times as much the version is given up.
const WAITING: usize = 16 << 20;
/// Nodes that are known to be missing, likewise.
const LISTED: usize = 200_000;

/// Makes versions whole, the best first, for as long as it is not stopped.
pub(super) async fn run(shared: Arc<Shared>, swarm: Arc<Swarm>) {
    loop {
        let open = match all(&shared, &swarm).await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(%error, "directories are not fetched");
                true
            }
        };
        let again = async { if open { tokio::time::sleep(AGAIN).await } else { std::future::pending().await } };
        tokio::select! {
            () = swarm.nodes.notified() => {}
            () = again => {}
        }
    }
}

/// Whether something is still missing.
async fn all(shared: &Shared, swarm: &Swarm) -> Result<bool, WireError> {
    let incomplete = swarm.store_work(|local| Ok(local.replica().incomplete())).await?;
    swarm.progress.lock().incomplete = incomplete.len();
    let mut open = false;
    for version in incomplete {
        let Some(_fetching) = swarm.store_work(|local| Ok(local.replica().begin_fetch())).await? else {
            return Ok(true);
        };
        let mut done = false;
        for from in swarm.to_ask(shared) {
            let fetched = fetch(shared, swarm, from, version).await;
            swarm.judge(from, &fetched);
            match fetched {
                Ok(()) => {
                    done = true;
                    break;
                }
                Err(error @ WireError::Bucket(_)) => return Err(error),
                Err(error) => tracing::debug!(peer = %from.short(), %version, %error, "not all directories are there"),
            }
        }
        if done {
            let (told, heard) = oneshot::channel();
            swarm.tell(Event::Complete(version, told)).await;
            drop(heard.await);
            swarm.progress.lock().incomplete -= 1;
        }
        open |= !done;
    }
    Ok(open)
}

/// Fetches what is missing of a version's nodes from one member.
async fn fetch(shared: &Shared, swarm: &Swarm, from: DeviceId, version: Link) -> Result<(), WireError> {
    let mut tree = Tree::default();
    let roots = swarm.store_work(move |local| {
        let roots = local.replica().roots_of(&version)?;
        local.replica().lacking(&roots)
    });
    tree.begin(roots.await?);
    let mut put = Vec::new();
    swarm.progress.lock().nodes = 0;
    while let Some(wanted) = tree.next() {
        let connection = shared.blocks(&from).await?;
        let mut came = Vec::with_capacity(wanted.len());
        let mut coming = blocks::ask(swarm, &connection, &wanted, Urgency::Node).await?;
        while let Some(block) = coming.next().await? {
            let block = block.ok_or(WireError::Malformed("it has not all of them"))?;
            came.push((wanted[came.len()], block));
        }
        swarm.progress.lock().nodes += came.len() as u64;
        (tree, put) = swarm
            .store_work(move |local| {
                for (link, block) in came {
                    if !link.names(&block) {
                        return Ok(Err(WireError::Malformed("a block that is another")));
                    }
                    let Ok(below) = nodes_below(&link, &block) else {
                        return Ok(Err(WireError::Malformed("a block that is no node")));
                    };
                    let below = local.replica().lacking(&below)?;
                    tree.came(link, block, below, &mut |link, block| {
                        put.push(*link);
                        local.replica().put_block(link, block)
                    })?;
                }
                Ok(Ok((tree, put)))
            })
            .await??;
        swarm.supply.came(std::mem::take(&mut put));
    }
    if tree.is_whole() { Ok(()) } else { Err(WireError::Malformed("directories too deep")) }
}

/// Stores a node.
type Put<'a> = &'a mut dyn FnMut(&Link, &[u8]) -> Result<(), BucketError>;

/// Nodes that are on their way: those that are missing, and those that wait for what is missing below them.
#[derive(Default)]
struct Tree {
    /// To be asked for, the last first.
    missing: Vec<Link>,
    listed: BTreeSet<Link>,
    /// Nodes that are here, and how many are missing directly below each.
    waiting: BTreeMap<Link, (Vec<u8>, usize)>,
    bytes: usize,
    /// Who waits for a node.
    above: BTreeMap<Link, Vec<Link>>,
}

impl Tree {
    fn begin(&mut self, roots: Vec<Link>) {
        for root in roots {
            self.list(root);
        }
    }

    fn list(&mut self, link: Link) {
        if self.listed.insert(link) {
            self.missing.push(link);
        }
    }

    /// What to ask for next; none if nothing is missing, or too much waits.
    fn next(&mut self) -> Option<Vec<Link>> {
        if self.bytes > 4 * WAITING {
            return None;
        }
        let few = self.bytes > WAITING || self.missing.len() > LISTED;
        let count = if few { 1 } else { NODES_AT_ONCE }.min(self.missing.len());
        let next = self.missing.split_off(self.missing.len() - count);
        (!next.is_empty()).then_some(next)
    }

    fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.waiting.is_empty()
    }

    /// A node came, below which these are missing. Gives to `put` what nothing is missing below of any more.
    fn came(&mut self, link: Link, block: Vec<u8>, below: Vec<Link>, put: Put<'_>) -> Result<(), BucketError> {
        let below: BTreeSet<_> = below.into_iter().collect();
        if !below.is_empty() {
            self.bytes += block.len();
            self.waiting.insert(link, (block, below.len()));
            for child in below {
                self.above.entry(child).or_default().push(link);
                self.list(child);
            }
            return Ok(());
        }
        let mut done = vec![(link, block)];
        while let Some((link, block)) = done.pop() {
            put(&link, &block)?;
            self.listed.remove(&link);
            for above in self.above.remove(&link).unwrap_or_default() {
                let Some((_, count)) = self.waiting.get_mut(&above) else { continue };
                *count -= 1;
                if *count == 0
                    && let Some((block, _)) = self.waiting.remove(&above)
                {
                    self.bytes -= block.len();
                    done.push((above, block));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bucket::testing::link;

    proptest! {
        /// Graphs in which each node has some of the later ones below it.
        #[test]
        fn each_node_is_stored_once_and_behind_all_that_are_below_it(
            edges in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..6), 1..60),
            here in prop::collection::vec(any::<bool>(), 60),
        ) {
            let name = |at: usize| link(&at.to_string());
            let below = |at: usize| -> BTreeSet<usize> {
                let later = edges.len() - at - 1;
                if later == 0 { return BTreeSet::new() }
                edges[at].iter().map(|edge| at + 1 + edge.index(later)).collect()
            };
            // What is below something that is here is here.
            let mut stored: BTreeSet<usize> = (1..edges.len()).filter(|at| here[*at]).collect();
            for at in 0..edges.len() {
                if stored.contains(&at) { stored.extend(below(at)) }
            }
            let (mut tree, before) = (Tree::default(), stored.clone());
            tree.begin(vec![name(0)]);
            while let Some(next) = tree.next() {
                for wanted in next {
                    let at = (0..edges.len()).find(|at| name(*at) == wanted).unwrap();
                    let lacking = below(at).into_iter().filter(|child| !stored.contains(child)).map(name).collect();
                    let mut put = Vec::new();
                    tree.came(wanted, vec![0; 10], lacking, &mut |link, _| { put.push(*link); Ok(()) }).unwrap();
                    for link in put {
                        let at = (0..edges.len()).find(|at| name(*at) == link).unwrap();
                        prop_assert!(below(at).iter().all(|child| stored.contains(child)), "not behind what is below");
                        prop_assert!(stored.insert(at), "stored twice");
                    }
                }
            }
            prop_assert!(tree.is_whole());
            prop_assert_eq!(tree.bytes, 0);
            prop_assert!(stored.contains(&0));
            prop_assert!(stored.len() >= before.len());
        }
    }
}
