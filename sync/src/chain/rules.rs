//! What makes a manifest valid. It asks the manifest, its parent, and their member lists; never who sent it, when, or
//! what the head is. So all devices agree, whatever they heard first.

use std::collections::BTreeMap;

use super::Missing;
use super::dag::{Dag, Entry, Index, ListIndex};
use crate::bucket::{DeviceId, Height, Manifest, MemberList, OwnerId, Rejected, Role, VerifiedManifest};
use crate::link::{BucketId, Epoch, Link};

/// What one bucket's manifests have in common.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) id: BucketId,
    pub(super) owner: OwnerId,
    pub(super) genesis: Link,
}

/// What the rules ask of a member list.
#[derive(Clone, Debug)]
struct List {
    link: Link,
    epoch: Epoch,
    sequence: u64,
    roles: Vec<(DeviceId, Role)>,
}

impl List {
    fn role(&self, device: &DeviceId) -> Option<Role> {
        let at = self.roles.binary_search_by_key(device, |(device, _)| *device).ok()?;
        Some(self.roles[at].1)
    }

    /// Whether every member of this list is in `next`, with at least the same rights.
    fn keeps_all_in(&self, next: &Self) -> bool {
        self.roles.iter().all(|(device, role)| next.role(device).is_some_and(|now| now <= *role))
    }
}

/// The member lists that are known. Only the owner can make them, and so they are not bounded here.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    lists: Vec<List>,
    index: BTreeMap<Link, ListIndex>,
}

impl Lists {
    pub(super) fn add(&mut self, list: &MemberList) -> ListIndex {
        let roles = list.members().iter().map(|member| (member.device, member.role)).collect();
        *self.index.entry(list.link()).or_insert_with(|| {
            let (epoch, sequence) = (list.epoch(), list.sequence());
            self.lists.push(List { link: list.link(), epoch, sequence, roles });
            ListIndex(self.lists.len() as u32 - 1)
        })
    }

    pub(super) const fn len(&self) -> usize {
        self.lists.len()
    }

    pub(super) fn find(&self, link: &Link) -> Option<ListIndex> {
        self.index.get(link).copied()
    }

    pub(super) fn link(&self, at: ListIndex) -> Link {
        self.get(at).link
    }

    fn get(&self, at: ListIndex) -> &List {
        &self.lists[at.0 as usize]
    }
}

/// Where a valid manifest belongs.
#[derive(Debug)]
pub(super) struct Valid {
    pub(super) parent: Index,
    pub(super) list: ListIndex,
}

/// Why a manifest is not admitted.
#[derive(Debug)]
pub(super) enum NotNow {
    /// It never will be.
    Never(Rejected),
    /// It waits.
    Until(Missing),
}

impl From<Rejected> for NotNow {
    fn from(why: Rejected) -> Self {
        Self::Never(why)
    }
}

/// A genesis and its member list.
pub(super) fn check_genesis(genesis: &VerifiedManifest, list: &MemberList) -> Result<Origin, Rejected> {
    let origin = Origin { id: genesis.id, owner: genesis.owner, genesis: genesis.link() };
    if genesis.previous.is_some() {
        return Err(Rejected::Malformed("not a genesis"));
    }
    let named = genesis.share.members == list.link() && list.epoch() == Epoch(0);
    if !named || list.bucket() != origin.id || list.owner() != origin.owner {
        return Err(Rejected::BadMembers);
    }
    match list.role(&genesis.author) {
        Some(Role::Owner) => Ok(origin),
        _ => Err(Rejected::NotAWriter),
    }
}

/// Any manifest but the genesis.
pub(super) fn check(origin: &Origin, dag: &Dag, lists: &Lists, manifest: &Manifest) -> Result<Valid, NotNow> {
    let previous = check_origin(origin, manifest)?;
    let parent = dag.find(&previous).ok_or(NotNow::Until(Missing::Manifest(previous)))?;
    check_step(dag.get(parent), lists, manifest)?;
    let list = check_share(dag.get(parent), lists, manifest)?;
    Ok(Valid { parent, list })
}

/// Gives its parent's link.
fn check_origin(origin: &Origin, manifest: &Manifest) -> Result<Link, Rejected> {
    if manifest.id != origin.id {
        return Err(Rejected::WrongBucket);
    }
    let (Some(previous), Some(genesis)) = (manifest.previous, manifest.genesis) else {
        return Err(Rejected::SecondGenesis);
    };
    if genesis != origin.genesis {
        return Err(Rejected::WrongGenesis(genesis));
    }
    if manifest.owner != origin.owner {
        return Err(Rejected::OwnerChanged);
    }
    Ok(previous)
}

fn check_step(parent: &Entry, lists: &Lists, manifest: &Manifest) -> Result<(), Rejected> {
    let expected = parent.key.height.0.checked_add(1).map(Height).ok_or(Rejected::Malformed("no height is left"))?;
    if manifest.height != expected {
        return Err(Rejected::WrongHeight { expected, found: manifest.height });
    }
    if !lists.get(parent.list).role(&manifest.author).is_some_and(Role::may_write) {
        return Err(Rejected::NotAWriter);
    }
    if manifest.fingerprint() == parent.fingerprint {
        return Err(Rejected::ChangesNothing);
    }
    Ok(())
}

fn check_share(parent: &Entry, lists: &Lists, manifest: &Manifest) -> Result<ListIndex, NotNow> {
    let (before, share) = (lists.get(parent.list), manifest.share);
    let raised = parent.key.epoch.0.checked_add(1) == Some(share.epoch.0);
    if share.epoch != parent.key.epoch && !raised {
        return Err(Rejected::EpochStep { parent: parent.key.epoch, found: share.epoch }.into());
    }
    let at = lists.find(&share.members).ok_or(NotNow::Until(Missing::Members(share.members)))?;
    let list = lists.get(at);
    if list.epoch != share.epoch {
        return Err(Rejected::BadMembers.into());
    }
    if at == parent.list {
        return Ok(at);
    }
    if list.sequence <= before.sequence {
        return Err(Rejected::MembersReplayed { parent: before.sequence, found: list.sequence }.into());
    }
    if !raised && !before.keeps_all_in(list) {
        return Err(Rejected::RemovalWithoutEpoch.into());
    }
    Ok(at)
}
