//! Words for tests: a bucket with devices, and manifests in a few strokes.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

use super::*;
use crate::crypto::Label;
use crate::link::{BucketId, Codec, Epoch, Link};

/// A bucket whose owner is device 0. Everything follows from the seed but what is sealed to members.
pub struct World {
    pub id: BucketId,
    pub owner: OwnerKey,
    pub devices: Vec<DeviceKey>,
    pub list: MemberList,
    pub genesis: VerifiedManifest,
}

pub fn link(text: &str) -> Link {
    Link::of(Codec::DagCbor, text.as_bytes())
}

pub fn label(text: &str) -> Label {
    Label::new(text).unwrap()
}

pub fn device(seed: u8) -> DeviceKey {
    let mut bytes = [seed; 64];
    bytes[63] = 1;
    DeviceKey::from_bytes(&bytes)
}

impl World {
    /// The same bytes at every run: no member's secrets open.
    pub fn fixed(writers: u8, finality_depth: u64) -> Self {
        let mut world = Self::with_finality(writers, finality_depth);
        let mut draft = SignedMemberList::decode(world.list.bytes()).unwrap().claims().clone();
        seal_to_nobody(&mut draft);
        world.list = world.believe(draft);
        let mut genesis = world.draft(&world.genesis, "empty");
        genesis.place = Place::Genesis { finality_depth };
        genesis.share.members = world.list.link();
        world.genesis = genesis.sign(&world.devices[0]).unwrap().verify().unwrap();
        world
    }

    /// With `writers` writing devices beside the owner's.
    pub fn new(writers: u8) -> Self {
        Self::with_finality(writers, DEFAULT_FINALITY_DEPTH)
    }

    pub fn with_finality(writers: u8, finality_depth: u64) -> Self {
        let id = BucketId(uuid::Uuid::from_u128(0x0123_4567_89ab_cdef));
        let owner = OwnerKey::from_seed(&[200; 32]);
        let devices: Vec<_> = (0..=writers).map(|at| device(at + 1)).collect();
        let secrets = EpochSecrets::random();
        let mut draft = MemberListDraft::first(id, owner.id(), &devices[0], &label("owner"), &secrets).unwrap();
        for device in &devices[1..] {
            let identity = device.identity(id);
            let member = Member::seal(id, Epoch(0), &secrets, &identity, Role::Writer, &label("writer")).unwrap();
            draft.members.push(member);
        }
        let list = draft.sign(&owner).unwrap().verify(id, owner.id()).unwrap();
        let draft = ManifestDraft {
            id,
            owner: owner.id(),
            name: vec![7; 104],
            share: Share { epoch: Epoch(0), members: list.link() },
            entry: link("empty"),
            pins: link("no pins"),
            place: Place::Genesis { finality_depth },
            reapplied: Vec::new(),
            timestamp: Timestamp(1_000),
        };
        let genesis = draft.sign(&devices[0]).unwrap().verify().unwrap();
        Self { id, owner, devices, list, genesis }
    }

    /// A draft that follows `parent` and differs from it in its entry, which `what` names.
    pub fn draft(&self, parent: &VerifiedManifest, what: &str) -> ManifestDraft {
        ManifestDraft {
            id: self.id,
            owner: self.owner.id(),
            name: parent.name.to_vec(),
            share: parent.share,
            entry: link(what),
            pins: parent.pins,
            place: Place::After {
                genesis: self.genesis.link(),
                previous: parent.link(),
                height: Height(parent.height.0 + 1),
            },
            reapplied: Vec::new(),
            timestamp: Timestamp(parent.timestamp.0 + 1),
        }
    }

    /// A child of `parent`, by device `author`.
    pub fn child(&self, parent: &VerifiedManifest, author: usize, what: &str) -> VerifiedManifest {
        self.draft(parent, what).sign(&self.devices[author]).unwrap().verify().unwrap()
    }

    /// `count` manifests, one after the other, on `parent`.
    pub fn grow(&self, parent: &VerifiedManifest, author: usize, what: &str, count: usize) -> Vec<VerifiedManifest> {
        let mut chain = vec![parent.clone()];
        for at in 0..count {
            chain.push(self.child(chain.last().unwrap(), author, &format!("{what} {at}")));
        }
        chain.split_off(1)
    }

    /// The list after `list` in a new epoch, without device `gone`.
    pub fn without(&self, list: &MemberList, gone: usize) -> MemberList {
        let access = list.open(&self.devices[0]).unwrap();
        let gone = self.devices[gone].id();
        let left = list.members().iter().filter(|member| member.device != gone);
        let left: Vec<_> = left.map(|member| (member.identity(), member.role, label("left"))).collect();
        let draft = MemberListDraft::rotating(list, &access, &left, &EpochSecrets::random()).unwrap();
        self.believe(draft)
    }

    /// The list after `list`, changed by hand, and the same bytes at every run.
    pub fn relist(&self, list: &MemberList, change: impl FnOnce(&mut MemberListDraft)) -> MemberList {
        let mut draft = SignedMemberList::decode(list.bytes()).unwrap().claims().clone();
        draft.sequence += 1;
        change(&mut draft);
        seal_to_nobody(&mut draft);
        self.believe(draft)
    }

    /// The list after `list` in a new epoch, without device `gone`, and the same bytes at every run.
    pub fn removing(&self, list: &MemberList, gone: usize) -> MemberList {
        let gone = self.devices[gone].id();
        self.relist(list, |draft| {
            draft.epoch.0 += 1;
            draft.members.retain(|member| member.device != gone);
        })
    }

    pub fn believe(&self, draft: MemberListDraft) -> MemberList {
        draft.sign(&self.owner).unwrap().verify(self.id, self.owner.id()).unwrap()
    }

    /// A child of `parent` that brings `list` into force.
    pub fn share(&self, parent: &VerifiedManifest, author: usize, list: &MemberList) -> VerifiedManifest {
        let mut draft = self.draft(parent, "sealed anew");
        draft.share = Share { epoch: list.epoch(), members: list.link() };
        draft.sign(&self.devices[author]).unwrap().verify().unwrap()
    }
}

fn seal_to_nobody(draft: &mut MemberListDraft) {
    draft.former = (draft.epoch > Epoch(0)).then(|| vec![0; 104].into());
    for member in &mut draft.members {
        member.network = vec![0; 80].into();
        member.content = member.role.may_read().then(|| vec![0; 80].into());
        member.name = vec![0; 104].into();
    }
}
