//! Who belongs to a bucket: letting devices in, and shutting them out. Only for who has the owner key.
//!
//! Both are a version with another member list and the content of the one before. Shutting out draws a new epoch: what is
//! sealed from then on opens for those who stay. What was sealed before, who is out may have read, and that can not be undone.

use std::sync::Arc;

use super::{Bucket, BucketError, now};
use crate::bucket::{
    Access, DeviceId, EpochSecrets, Height, Identity, ManifestDraft, Member, MemberList, MemberListDraft, OwnerKey,
    Place, Role, Share,
};
use crate::crypto::label::{BUCKET_NAME, DEVICE_NAME, Label};
use crate::limits;
use crate::link::Link;
use crate::store::Commit;
use crate::tree::{Pins, Superblock, Vault};

/// A member, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its key.
    pub device: DeviceId,
    /// What it may do.
    pub role: Role,
    /// What it is called, where the name opens.
    pub name: Option<String>,
}

impl Bucket {
    /// The members by the version that is shown.
    pub fn member_infos(&self) -> Vec<MemberInfo> {
        let Some(list) = self.shown_list() else { return Vec::new() };
        let keys = self.vault.keys();
        let info = |member: &Member| MemberInfo {
            device: member.device,
            role: member.role,
            name: keys.open_label(list.epoch(), DEVICE_NAME, &member.name).ok(),
        };
        list.members().iter().map(info).collect()
    }

    /// Lets a device in, or gives a member more rights. Durable on return. Gives the new head.
    ///
    /// # Errors
    /// If the key is not the owner's, the device is a member with as many rights, or it can not be stored.
    pub fn admit(&self, owner: &OwnerKey, identity: &Identity, role: Role, name: &Label) -> Result<Link, BucketError> {
        self.settle(limits::SETTLE);
        let _one_at_a_time = self.replica.publishing.lock();
        let (list, access) = self.shown_access()?;
        if list.role(&identity.device).is_some_and(|has| has <= role) {
            return Err(BucketError::AlreadyMember(identity.device));
        }
        let draft = MemberListDraft::admitting(&list, &access, identity, role, name)?;
        self.publish_list(owner, draft)
    }

    /// Shuts a member out, in a new epoch with new keys. Durable on return. Gives the new head.
    ///
    /// # Errors
    /// If the key is not the owner's, the device is no member or this one, or it can not be stored.
    pub fn remove(&self, owner: &OwnerKey, device: &DeviceId) -> Result<Link, BucketError> {
        self.settle(limits::SETTLE);
        let _one_at_a_time = self.replica.publishing.lock();
        self.rotate(owner, device, None)
    }

    /// Gives a member another role. Where that is less than it had, a new epoch begins, with new keys. Durable on return. Gives
    /// the new head.
    ///
    /// # Errors
    /// As [`Bucket::remove`], and if the member has that role.
    pub fn change_role(&self, owner: &OwnerKey, device: &DeviceId, role: Role) -> Result<Link, BucketError> {
        self.settle(limits::SETTLE);
        let _one_at_a_time = self.replica.publishing.lock();
        let (list, access) = self.shown_access()?;
        let member = list.members().iter().find(|member| member.device == *device);
        let member = member.filter(|_| *device != self.device.id()).ok_or(BucketError::NotAMember(*device))?;
        if member.role == role {
            return Err(BucketError::AlreadyMember(*device));
        }
        if member.role < role {
            return self.rotate(owner, device, Some(role));
        }
        let draft =
            MemberListDraft::admitting(&list, &access, &member.identity(), role, &self.name_of(&list, member)?)?;
        self.publish_list(owner, draft)
    }

    /// A new epoch, in which one member has another role, or none.
    fn rotate(&self, owner: &OwnerKey, device: &DeviceId, role: Option<Role>) -> Result<Link, BucketError> {
        let (list, access) = self.shown_access()?;
        if *device == self.device.id() || list.role(device).is_none() {
            return Err(BucketError::NotAMember(*device));
        }
        let role_of = |member: &Member| if member.device == *device { role } else { Some(member.role) };
        let stays = list.members().iter().filter_map(|member| Some((member, role_of(member)?)));
        let named = stays.map(|(member, role)| Ok((member.identity(), role, self.name_of(&list, member)?)));
        let members = named.collect::<Result<Vec<_>, BucketError>>()?;
        let draft = MemberListDraft::rotating(&list, &access, &members, &EpochSecrets::random())?;
        self.publish_list(owner, draft)
    }

    fn name_of(&self, list: &MemberList, member: &Member) -> Result<Label, BucketError> {
        let name = self.vault.keys().open_label(list.epoch(), DEVICE_NAME, &member.name);
        Ok(Label::new(name.map_err(crate::tree::TreeError::from)?)?)
    }

    /// What this device is called, by the version that is shown.
    pub fn device_name(&self) -> Option<String> {
        let me = self.device.id();
        self.member_infos().into_iter().find(|info| info.device == me)?.name
    }

    /// What this device may do, by the version that is shown.
    pub fn role(&self) -> Role {
        self.shown_list().and_then(|list| list.role(&self.device.id())).unwrap_or(Role::Reader)
    }

    fn shown_list(&self) -> Option<MemberList> {
        let members = self.state.lock().shown.share.members;
        self.replica.known.lock().lists.get(&members).cloned()
    }

    /// The members by the version that is shown, and this device's keys. Another list on an older version would begin a fork.
    fn shown_access(&self) -> Result<(MemberList, Access), BucketError> {
        if self.is_held() && self.next_link().is_some() {
            return Err(BucketError::Superseded);
        }
        let list = self.shown_list().ok_or(BucketError::Missing("the member list"))?;
        let access = list.open(&self.device)?;
        Ok((list, access))
    }

    /// A version with the content of the one that is shown, under another list.
    fn publish_list(&self, owner: &OwnerKey, draft: MemberListDraft) -> Result<Link, BucketError> {
        self.replica.store_rest()?;
        let signed = draft.sign(owner)?;
        let list = signed.verify(self.id(), self.owner()).map_err(crate::bucket::MemberListError::Invalid)?;
        let keys = Arc::new(list.open(&self.device)?.keyring().ok_or(BucketError::Mirror)?);
        let (shown, shown_link) = {
            let state = self.state.lock();
            (state.shown.clone(), state.shown_link)
        };
        let store = self.vault.store();
        store.put(&list.link(), list.bytes())?;
        // What opens with the keys of an epoch is sealed with them: roots and names anew, all below as it is.
        let vault = Vault::new(Arc::clone(store), Arc::clone(&keys));
        let name =
            keys.open_label(shown.share.epoch, BUCKET_NAME, &shown.name).map_err(crate::tree::TreeError::from)?;
        let pins = Pins::clone(&*vault.node::<Pins>(&shown.pins())?);
        let manifest = ManifestDraft {
            id: self.id(),
            owner: self.owner(),
            name: keys.seal_label(BUCKET_NAME, &Label::new(name)?),
            share: Share { epoch: list.epoch(), members: list.link() },
            entry: Superblock::get(&vault, &shown.entry())?.put(&vault)?.link,
            pins: vault.put_node(pins)?.link,
            place: Place::After { genesis: self.genesis(), previous: shown_link, height: Height(shown.height.0 + 1) },
            reapplied: Vec::new(),
            timestamp: now(),
        };
        let manifest = manifest.sign(&self.device)?;
        let link = manifest.link();
        let mut meta = vec![(super::BASE, Some(link.to_bytes().to_vec()))];
        let moved = super::follow::moved_pin(&self.replica.known.lock().chain, &shown_link, link);
        meta.extend(moved.map(|saved| (super::follow::SAVED, Some(saved))));
        store.commit(Commit { manifests: vec![(link, manifest.bytes().to_vec())], meta })?;
        self.add_list(list);
        self.follow_own(manifest.verify()?)?;
        self.vault.set_keys(keys);
        self.state.lock().same.push(shown_link);
        Ok(link)
    }

    /// The chain and the bucket know a list that is stored.
    fn add_list(&self, list: MemberList) {
        let mut known = self.replica.known.lock();
        known.lists.insert(list.link(), list.clone());
        known.chain.handle(now(), crate::chain::Input::Members(Box::new(list)));
    }
}
