//! Stories about chains. A [`Peer`] is a chain and a clock.
#![allow(clippy::unwrap_used)]

mod disputes;
mod finality;
mod forks;
mod limits;
mod load;
mod order;
mod peers;
mod pins;
mod reapply;
mod validity;

use super::*;
use std::sync::Arc;

use crate::bucket::DeviceId;
use crate::bucket::testing::World;

/// Whom everything comes from, where that makes no difference.
const PEER: DeviceId = DeviceId([9; 32]);
const HISTORY: Source = Source::History(PEER);

struct Peer {
    chain: Chain,
    now: u64,
}

impl Peer {
    fn of(world: &World) -> Self {
        Self { chain: Chain::new(&world.genesis, &world.list).unwrap(), now: 0 }
    }

    fn take(&mut self, manifest: &VerifiedManifest, source: Source) -> Vec<Output> {
        self.now += 1;
        let input = Input::Manifest { manifest: Arc::new(manifest.clone()), source };
        self.chain.handle(Timestamp(self.now), input)
    }

    fn handle(&mut self, input: Input) -> Vec<Output> {
        self.chain.handle(Timestamp(self.now), input)
    }

    /// A peer announces a head.
    fn hear(&mut self, manifest: &VerifiedManifest) -> Vec<Output> {
        self.take(manifest, Source::Announced(PEER))
    }

    /// Fetches ancestors, oldest first, and has their nodes too.
    fn learn(&mut self, manifests: &[VerifiedManifest]) -> Vec<Output> {
        let mut out = Vec::new();
        for manifest in manifests {
            out.extend(self.take(manifest, HISTORY));
            out.extend(self.complete(manifest));
        }
        out
    }

    fn complete(&mut self, manifest: &VerifiedManifest) -> Vec<Output> {
        self.chain.handle(Timestamp(self.now), Input::Complete(manifest.link()))
    }

    fn give(&mut self, list: &MemberList) -> Vec<Output> {
        self.chain.handle(Timestamp(self.now), Input::Members(Box::new(list.clone())))
    }

    fn wanted(&self) -> Vec<Missing> {
        self.chain.wanted().collect()
    }

    fn tips(&self) -> Vec<Link> {
        self.chain.tips().collect()
    }

    /// What depends on the set of manifests alone.
    fn view(&self) -> (Link, Vec<Link>, Vec<Link>, Option<Link>) {
        (self.chain.head(), self.tips(), self.chain.leaves().collect(), self.chain.shown())
    }
}

fn last(chain: &[VerifiedManifest]) -> &VerifiedManifest {
    chain.last().unwrap()
}

fn rejected(out: &[Output]) -> Vec<&Rejected> {
    out.iter().filter_map(|output| if let Output::Rejected { why, .. } = output { Some(why) } else { None }).collect()
}

fn admitted(out: &[Output]) -> Vec<Link> {
    let link = |output: &Output| if let Output::Admitted(manifest) = output { Some(manifest.link()) } else { None };
    out.iter().filter_map(link).collect()
}
