//! The member list: who belongs to a bucket, in which role, and the epoch's two secrets sealed to each.
//!
//! A list is signed by the bucket's owner key, not by the author of the manifest that links it, so that a writer can
//! not make himself an owner, nor a mirror a writer. Keys and roles stand in the clear; names and secrets are sealed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use super::codec::{self, NotStrict};
use super::device::{DeviceKey, Identity};
use super::owner::OwnerKey;
use super::types::{DeviceId, OwnerId, SealingKey, Signature};
use crate::crypto::hpke::{self, SEALED_SECRET_BYTES};
use crate::crypto::label::{DEVICE_NAME, SEALED_LABEL_BYTES};
use crate::crypto::sealer::Sealer;
use crate::crypto::{Keyring, Label, Secret};
use crate::limits::{BLOCK_BYTES, FORMER_EPOCHS, MEMBERS};
use crate::link::{BucketId, Codec, Epoch, Link};

/// What the owner signs a list in.
const SIGNED: &str = "jaxfs v0 members";
const NETWORK: &str = "jaxfs v0 network secret";
const CONTENT: &str = "jaxfs v0 content secret";

/// What a member may do. The order is that of rights: a greater role may less.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Role {
    /// Holds the owner key: changes members, and all that a writer may.
    Owner = 0,
    /// Publishes manifests.
    Writer = 1,
    /// Reads.
    Reader = 2,
    /// Keeps and passes on what it can not read.
    Mirror = 3,
}

impl Role {
    /// Whether manifests of this role's are valid.
    pub const fn may_write(self) -> bool {
        matches!(self, Self::Owner | Self::Writer)
    }

    /// Whether this role is given the content secret.
    pub const fn may_read(self) -> bool {
        !matches!(self, Self::Mirror)
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Owner, Self::Writer, Self::Reader, Self::Mirror].into_iter().find(|role| *role as u8 == code)
    }
}

impl Serialize for Role {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_code(u8::deserialize(deserializer)?).ok_or_else(|| serde::de::Error::custom("unknown role"))
    }
}

/// One member: its keys, its role, and what is sealed for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The key that signs.
    pub device: DeviceId,
    /// The key that secrets are sealed to.
    pub sealing: SealingKey,
    /// The device's word that the sealing key is its own.
    pub binding: Signature,
    /// What it may do.
    pub role: Role,
    /// Its name, a sealed label ([`DEVICE_NAME`]).
    pub name: ByteBuf,
    /// The epoch's network secret, sealed to it.
    pub network: ByteBuf,
    /// The epoch's content secret, sealed to it; a mirror has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ByteBuf>,
}

/// The two secrets of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochSecrets {
    /// Where members meet, and who is let in.
    pub network: Secret,
    /// What blocks and names are sealed with.
    pub content: Secret,
}

impl EpochSecrets {
    /// Draws both.
    pub fn random() -> Self {
        Self { network: Secret::random(), content: Secret::random() }
    }
}

impl Member {
    /// Writes a member down: seals its name and, as its role allows, the secrets of `epoch`.
    pub fn seal(
        bucket: BucketId,
        epoch: Epoch,
        secrets: &EpochSecrets,
        identity: &Identity,
        role: Role,
        name: &Label,
    ) -> Result<Self, MemberListError> {
        let place = place(bucket, epoch, &identity.device);
        let seal = |info, secret| {
            hpke::seal_secret(&identity.sealing.0, info, &place, secret)
                .map(ByteBuf::from)
                .map_err(|_| MemberListError::WeakKey(identity.device))
        };
        let names = Keyring::new(bucket, epoch, &secrets.content);
        Ok(Self {
            device: identity.device,
            sealing: identity.sealing,
            binding: identity.binding,
            role,
            name: ByteBuf::from(names.seal_label(DEVICE_NAME, name)),
            network: seal(NETWORK, &secrets.network)?,
            content: role.may_read().then(|| seal(CONTENT, &secrets.content)).transpose()?,
        })
    }

    /// Its public keys.
    pub const fn identity(&self) -> Identity {
        Identity { device: self.device, sealing: self.sealing, binding: self.binding }
    }
}

/// A member list that is not signed yet. Members may stand in any order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberListDraft {
    /// Of which bucket.
    pub bucket: BucketId,
    /// Whose key signs it.
    pub owner: OwnerId,
    /// Whose secrets it gives.
    pub epoch: Epoch,
    /// Counts the owner's lists, over all epochs. A manifest's list is never older than its parent's.
    pub sequence: u64,
    /// At most [`MEMBERS`].
    pub members: Vec<Member>,
    /// The content secrets of all former epochs, oldest first, sealed under this epoch's; absent in epoch 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<ByteBuf>,
}

/// Why a member list can not be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MemberListError {
    /// Nothing can be sealed to this device's key.
    #[error("device {0} has an unusable key")]
    WeakKey(DeviceId),
    /// Too many members or epochs for one block.
    #[error("too many members or epochs for one list")]
    TooLarge,
    /// Another owner's key than the list names.
    #[error("not this bucket's owner key")]
    NotTheOwner,
    /// The content secret is needed to pass it on, and a mirror has none.
    #[error("this device can not read the bucket, and so can not let others in")]
    NoContent,
    /// What the owner would sign, nobody would accept.
    #[error("the list would not be valid: {0}")]
    Invalid(ListRejected),
}

impl MemberListDraft {
    /// The first list of a bucket: one owner, epoch 0.
    pub fn first(
        bucket: BucketId,
        owner: OwnerId,
        device: &DeviceKey,
        name: &Label,
        secrets: &EpochSecrets,
    ) -> Result<Self, MemberListError> {
        let member = Member::seal(bucket, Epoch(0), secrets, &device.identity(bucket), Role::Owner, name)?;
        Ok(Self { bucket, owner, epoch: Epoch(0), sequence: 0, members: vec![member], former: None })
    }

    /// The list after `list` with one member more (or with a new role that may no less), in the same epoch.
    pub fn admitting(
        list: &MemberList,
        access: &Access,
        identity: &Identity,
        role: Role,
        name: &Label,
    ) -> Result<Self, MemberListError> {
        let content = access.contents.as_ref().ok_or(MemberListError::NoContent)?;
        let secrets = EpochSecrets { network: access.network.clone(), content: content.current.clone() };
        let mut draft = list.draft.clone();
        draft.sequence = next(draft.sequence)?;
        draft.members.retain(|member| member.device != identity.device);
        draft.members.push(Member::seal(draft.bucket, draft.epoch, &secrets, identity, role, name)?);
        Ok(draft)
    }

    /// The list after `list` in a new epoch, with these members only, and all former secrets for those who read.
    pub fn rotating(
        list: &MemberList,
        access: &Access,
        members: &[(Identity, Role, Label)],
        secrets: &EpochSecrets,
    ) -> Result<Self, MemberListError> {
        let contents = access.contents.as_ref().ok_or(MemberListError::NoContent)?;
        let MemberListDraft { bucket, owner, epoch, sequence, .. } = list.draft;
        let epoch = Epoch(next(epoch.0)?);
        let former = contents.former.values().chain([&contents.current]);
        let former = seal_former(bucket, epoch, &secrets.content, former)?;
        let seal = |(identity, role, name): &_| Member::seal(bucket, epoch, secrets, identity, *role, name);
        let members = members.iter().map(seal).collect::<Result<_, _>>()?;
        Ok(Self { bucket, owner, epoch, sequence: next(sequence)?, members, former: Some(former) })
    }

    /// Sorts the members, signs the list, and checks it as everyone else will.
    pub fn sign(mut self, owner: &OwnerKey) -> Result<SignedMemberList, MemberListError> {
        if owner.id() != self.owner {
            return Err(MemberListError::NotTheOwner);
        }
        self.members.sort_by_key(|member| member.device);
        check(&self).map_err(MemberListError::Invalid)?;
        let signature = owner.sign(SIGNED, &codec::encode(&self));
        let bytes = codec::encode(&(&self, signature));
        if bytes.len() > BLOCK_BYTES {
            return Err(MemberListError::TooLarge);
        }
        Ok(SignedMemberList { draft: self, signature, link: Link::of(Codec::DagCbor, &bytes), bytes })
    }
}

fn next(number: u64) -> Result<u64, MemberListError> {
    number.checked_add(1).ok_or(MemberListError::TooLarge)
}

/// A member list as it is stored and sent: well-formed and in its one encoding, but believed by nobody yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedMemberList {
    draft: MemberListDraft,
    signature: Signature,
    link: Link,
    bytes: Vec<u8>,
}

/// Why a member list is refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ListRejected {
    /// Larger than a block, or with more members or epochs than a list may have.
    #[error("too large")]
    TooLarge,
    /// Not a member list.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A member list, but not in its one encoding.
    #[error("not in canonical form")]
    NotCanonical,
    /// Of another bucket, or with another owner.
    #[error("of another bucket or owner")]
    Foreign,
    /// Not signed by the owner.
    #[error("bad signature")]
    BadSignature,
    /// A sealing key that its device did not sign.
    #[error("the sealing key of device {0} is not its own")]
    BadBinding(DeviceId),
}

impl SignedMemberList {
    /// Reads a list. Total: any bytes give a list or a reason.
    pub fn decode(bytes: &[u8]) -> Result<Self, ListRejected> {
        if bytes.len() > BLOCK_BYTES {
            return Err(ListRejected::TooLarge);
        }
        let (draft, signature): (MemberListDraft, Signature) = codec::decode(bytes).map_err(|why| match why {
            NotStrict::Malformed => ListRejected::Malformed("not a member list"),
            NotStrict::NotCanonical => ListRejected::NotCanonical,
        })?;
        check(&draft)?;
        Ok(Self { draft, signature, link: Link::of(Codec::DagCbor, bytes), bytes: bytes.to_vec() })
    }

    /// Believes the list, if the owner of this bucket signed it and each sealing key is its device's own.
    pub fn verify(self, bucket: BucketId, owner: OwnerId) -> Result<MemberList, ListRejected> {
        if self.draft.bucket != bucket || self.draft.owner != owner {
            return Err(ListRejected::Foreign);
        }
        if !owner.signed(SIGNED, &codec::encode(&self.draft), &self.signature) {
            return Err(ListRejected::BadSignature);
        }
        match self.draft.members.iter().find(|member| !member.identity().is_bound_to(bucket)) {
            Some(member) => Err(ListRejected::BadBinding(member.device)),
            None => Ok(MemberList { draft: self.draft, link: self.link, bytes: self.bytes }),
        }
    }

    /// Its address.
    pub const fn link(&self) -> Link {
        self.link
    }

    /// Its encoding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says, believed or not. The owner in here is only a claim.
    pub const fn claims(&self) -> &MemberListDraft {
        &self.draft
    }
}

/// Everything that can be wrong with a list's form.
fn check(draft: &MemberListDraft) -> Result<(), ListRejected> {
    if draft.members.len() > MEMBERS || draft.epoch.0 > FORMER_EPOCHS {
        return Err(ListRejected::TooLarge);
    }
    if !draft.members.is_sorted_by(|a, b| a.device < b.device) {
        return Err(ListRejected::Malformed("members are not in order, or stand twice"));
    }
    if draft.former.is_some() != (draft.epoch > Epoch(0)) {
        return Err(ListRejected::Malformed("former secrets in epoch 0, or none later"));
    }
    for member in &draft.members {
        if member.content.is_some() != member.role.may_read() {
            return Err(ListRejected::Malformed("a mirror with a content secret, or a reader without"));
        }
        let sealed = member.content.iter().chain([&member.network]);
        if sealed.into_iter().any(|secret| secret.len() != SEALED_SECRET_BYTES) {
            return Err(ListRejected::Malformed("a sealed secret of another length"));
        }
        if member.name.len() > SEALED_LABEL_BYTES {
            return Err(ListRejected::Malformed("a name that is too long"));
        }
    }
    Ok(())
}

/// A member list that this bucket's owner signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberList {
    draft: MemberListDraft,
    link: Link,
    bytes: Vec<u8>,
}

/// What a list gives to one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Of which bucket.
    pub bucket: BucketId,
    /// The list's epoch.
    pub epoch: Epoch,
    /// What the device may do.
    pub role: Role,
    /// The epoch's network secret.
    pub network: Secret,
    /// The content secrets; none for a mirror.
    pub contents: Option<Contents>,
}

/// The content secrets of an epoch and all before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The list's epoch's.
    pub current: Secret,
    /// Those of all former epochs.
    pub former: BTreeMap<Epoch, Secret>,
}

/// Why a list gives nothing to a device.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AccessError {
    /// It is not in the list.
    #[error("this device is not a member")]
    NotAMember,
    /// What was sealed for it does not open: the owner's program erred, or the owner shuts it out.
    #[error("the secrets in the member list do not open: {0}")]
    Unopenable(&'static str),
}

impl MemberList {
    /// Its address.
    pub const fn link(&self) -> Link {
        self.link
    }

    /// Its encoding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Of which bucket.
    pub const fn bucket(&self) -> BucketId {
        self.draft.bucket
    }

    /// Who signed it.
    pub const fn owner(&self) -> OwnerId {
        self.draft.owner
    }

    /// Whose secrets it gives.
    pub const fn epoch(&self) -> Epoch {
        self.draft.epoch
    }

    /// The owner's count of lists.
    pub const fn sequence(&self) -> u64 {
        self.draft.sequence
    }

    /// The members, by device.
    pub fn members(&self) -> &[Member] {
        &self.draft.members
    }

    /// What `device` may do.
    pub fn role(&self, device: &DeviceId) -> Option<Role> {
        self.member(device).map(|member| member.role)
    }

    fn member(&self, device: &DeviceId) -> Option<&Member> {
        let at = self.draft.members.binary_search_by_key(device, |member| member.device).ok()?;
        self.draft.members.get(at)
    }

    /// Opens what the list holds for this device.
    pub fn open(&self, device: &DeviceKey) -> Result<Access, AccessError> {
        let MemberListDraft { bucket, epoch, .. } = self.draft;
        let member = self.member(&device.id()).ok_or(AccessError::NotAMember)?;
        let place = place(bucket, epoch, &member.device);
        let open = |info, sealed: &ByteBuf| hpke::open_secret(device.sealing_secret(), info, &place, sealed);
        let network = open(NETWORK, &member.network).ok_or(AccessError::Unopenable("network"))?;
        let contents = match &member.content {
            None => None,
            Some(sealed) => {
                let current = open(CONTENT, sealed).ok_or(AccessError::Unopenable("content"))?;
                let former = self.open_former(&current).ok_or(AccessError::Unopenable("former epochs"))?;
                Some(Contents { current, former })
            }
        };
        Ok(Access { bucket, epoch, role: member.role, network, contents })
    }

    fn open_former(&self, content: &Secret) -> Option<BTreeMap<Epoch, Secret>> {
        let MemberListDraft { bucket, epoch, former, .. } = &self.draft;
        let Some(former) = former else { return Some(BTreeMap::new()) };
        let opened = Zeroizing::new(former_sealer(content).open(&former_place(*bucket, *epoch), former)?);
        let count = usize::try_from(epoch.0).ok()?;
        let (secrets, _padding) = opened.split_at_checked(count.checked_mul(32)?)?;
        let secrets = secrets.as_chunks::<32>().0.iter().map(|bytes| Secret::new(*bytes));
        Some((0..).map(Epoch).zip(secrets).collect())
    }
}

impl Access {
    /// The keys to every block that this device may read; none for a mirror.
    pub fn keyring(&self) -> Option<Keyring> {
        let contents = self.contents.as_ref()?;
        let mut keyring = Keyring::new(self.bucket, self.epoch, &contents.current);
        for (epoch, secret) in &contents.former {
            keyring.add_former(*epoch, secret);
        }
        Some(keyring)
    }
}

/// `bucket (16) || epoch (8, LE) || device (32)`
fn place(bucket: BucketId, epoch: Epoch, device: &DeviceId) -> Vec<u8> {
    [bucket.0.as_bytes().as_slice(), &epoch.0.to_le_bytes(), &device.0].concat()
}

fn former_sealer(content: &Secret) -> Sealer {
    Sealer::new(content, "jaxfs v0 former key", "jaxfs v0 former nonce key")
}

/// `bucket (16) || epoch (8, LE)`
fn former_place(bucket: BucketId, epoch: Epoch) -> Vec<u8> {
    [bucket.0.as_bytes().as_slice(), &epoch.0.to_le_bytes()].concat()
}

fn seal_former<'a>(
    bucket: BucketId,
    epoch: Epoch,
    content: &Secret,
    former: impl Iterator<Item = &'a Secret>,
) -> Result<ByteBuf, MemberListError> {
    let mut plain = Zeroizing::new(Vec::new());
    let room = usize::try_from(epoch.0.min(FORMER_EPOCHS)).map_err(|_| MemberListError::TooLarge)?;
    plain.reserve_exact(room * 32);
    former.for_each(|secret| plain.extend_from_slice(secret.expose()));
    if plain.len() as u64 != epoch.0 * 32 {
        return Err(MemberListError::TooLarge);
    }
    Ok(ByteBuf::from(former_sealer(content).seal(&former_place(bucket, epoch), &plain)))
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
