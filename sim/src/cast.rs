//! Who plays: one bucket's keys, and every manifest and member list that anybody made.
//!
//! A manifest is signed once, when it is made, and then shared by all nodes: what goes over a simulated wire is its link.

use std::collections::BTreeMap;
use std::sync::Arc;

use jaxfs_sync::bucket::testing::World;
use jaxfs_sync::bucket::{
    DeviceId, ManifestDraft, MemberList, MemberListDraft, Place, Rejected, Role, Share, Timestamp, VerifiedManifest,
};
use jaxfs_sync::link::{Codec, Link};

/// A node's place in the world.
pub type NodeId = u32;

/// Devices with keys that can sign. [`World`]'s seeds are one byte.
pub const SIGNERS: usize = 200;

/// A bucket with its devices, and what they made.
pub struct Cast {
    world: World,
    devices: Vec<DeviceId>,
    nodes: BTreeMap<DeviceId, NodeId>,
    manifests: BTreeMap<Link, Arc<VerifiedManifest>>,
    lists: BTreeMap<Link, Arc<MemberList>>,
    sequence: u64,
    made: u64,
}

impl Cast {
    /// A bucket whose owner is node 0. `roles` are those of the nodes after it that are in the member list; nodes beyond
    /// them, up to `nodes`, have a name and no key.
    pub fn new(roles: &[Role], nodes: usize, finality_depth: u64) -> Self {
        let roles = &roles[..roles.len().min(SIGNERS)];
        let mut world = World::fixed(roles.len() as u8, finality_depth);
        let of_device: BTreeMap<_, _> = world.devices[1..].iter().map(|key| key.id()).zip(roles).collect();
        world.list = world.relist(&world.list, |draft| {
            for member in &mut draft.members {
                member.role = of_device.get(&member.device).map_or(member.role, |role| **role);
            }
        });
        let mut genesis = world.draft(&world.genesis, "empty");
        genesis.place = Place::Genesis { finality_depth };
        genesis.share.members = world.list.link();
        world.genesis = signed(genesis, &world, 0).expect("the owner's own draft is in order");
        let mut devices: Vec<_> = world.devices.iter().map(|key| key.id()).collect();
        devices.truncate(nodes);
        devices.extend((devices.len()..nodes).map(|at| DeviceId(*blake3::hash(&at.to_le_bytes()).as_bytes())));
        let mut cast = Self {
            nodes: devices.iter().copied().zip(0..).collect(),
            devices,
            manifests: BTreeMap::new(),
            lists: BTreeMap::new(),
            sequence: world.list.sequence(),
            made: 0,
            world,
        };
        let (genesis, list) = (Arc::new(cast.world.genesis.clone()), Arc::new(cast.world.list.clone()));
        cast.manifests.insert(genesis.link(), genesis);
        cast.lists.insert(list.link(), list);
        cast
    }

    /// The start of the chain.
    pub fn genesis(&self) -> Arc<VerifiedManifest> {
        Arc::clone(&self.manifests[&self.world.genesis.link()])
    }

    /// The genesis's member list.
    pub fn first_list(&self) -> Arc<MemberList> {
        Arc::clone(&self.lists[&self.world.list.link()])
    }

    /// A node's name.
    pub fn device(&self, node: NodeId) -> DeviceId {
        self.devices[node as usize]
    }

    /// Who has this name.
    pub fn node(&self, device: &DeviceId) -> Option<NodeId> {
        self.nodes.get(device).copied()
    }

    /// What a link names, if anybody made it.
    pub fn manifest(&self, link: &Link) -> Option<Arc<VerifiedManifest>> {
        self.manifests.get(link).cloned()
    }

    /// One of all manifests, by its place in the order of links.
    pub fn nth(&self, which: usize) -> Option<Link> {
        self.manifests.keys().nth(which).copied()
    }

    /// What a link names, if the owner made it.
    pub fn list(&self, link: &Link) -> Option<Arc<MemberList>> {
        self.lists.get(link).cloned()
    }

    /// How many manifests there are, the genesis among them.
    pub fn made(&self) -> usize {
        self.manifests.len()
    }

    /// Whether the member list at `parent` lets a node write after it.
    pub fn may_write_after(&self, parent: &VerifiedManifest, node: NodeId) -> bool {
        let role = self.list(&parent.share.members).and_then(|list| list.role(&self.device(node)));
        role.is_some_and(Role::may_write)
    }

    /// A node's child of `parent`, valid or not, that differs from every other in its entry.
    pub fn child(
        &mut self,
        parent: &VerifiedManifest,
        author: NodeId,
        timestamp: Timestamp,
        list: Option<&MemberList>,
    ) -> Result<Arc<VerifiedManifest>, Rejected> {
        self.made += 1;
        let mut draft = self.world.draft(parent, "");
        draft.entry = Link::of(Codec::DagCbor, &self.made.to_le_bytes());
        draft.timestamp = timestamp;
        if let Some(list) = list {
            draft.share = Share { epoch: list.epoch(), members: list.link() };
        }
        let manifest = Arc::new(signed(draft, &self.world, author)?);
        self.manifests.insert(manifest.link(), Arc::clone(&manifest));
        Ok(manifest)
    }

    /// The owner's next list: the one at `parent` in a new epoch without a node.
    pub fn list_without(&mut self, parent: &VerifiedManifest, gone: NodeId) -> Option<Arc<MemberList>> {
        let gone = self.device(gone);
        self.next_list(parent, |draft| {
            draft.epoch.0 += 1;
            draft.members.retain(|member| member.device != gone);
        })
    }

    /// The owner's next list: the one at `parent` with a node as a writer that was none.
    pub fn list_with_writer(&mut self, parent: &VerifiedManifest, node: NodeId) -> Option<Arc<MemberList>> {
        let device = self.device(node);
        self.next_list(parent, |draft| {
            let of_node = draft.members.iter_mut().filter(|member| member.device == device);
            of_node.for_each(|member| member.role = member.role.min(Role::Writer));
        })
    }

    fn next_list(
        &mut self,
        parent: &VerifiedManifest,
        change: impl FnOnce(&mut MemberListDraft),
    ) -> Option<Arc<MemberList>> {
        let before = self.list(&parent.share.members)?;
        self.sequence = self.sequence.max(before.sequence()) + 1;
        let sequence = self.sequence;
        let list = Arc::new(self.world.relist(&before, |draft| {
            draft.sequence = sequence;
            change(draft);
        }));
        self.lists.insert(list.link(), Arc::clone(&list));
        Some(list)
    }
}

fn signed(draft: ManifestDraft, world: &World, author: NodeId) -> Result<VerifiedManifest, Rejected> {
    let key = world.devices.get(author as usize).ok_or(Rejected::NotAWriter)?;
    draft.sign(key)?.verify()
}
