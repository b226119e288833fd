//! Invitations: what a bucket remembers of the tickets that were made for it on this machine.
//!
//! Only a digest of a ticket's secret is kept. A use is durable before the device is let in, so that a crash makes no ticket
//! be used twice; the device that used it may ask again.

use serde::{Deserialize, Serialize};

use super::{Bucket, BucketError, now};
use crate::bucket::{DeviceId, Identity, OwnerKey, Role, Timestamp};
use crate::crypto::Secret;
use crate::crypto::label::Label;
use crate::link::Link;
use crate::store::Commit;

/// The store's name for them.
const INVITATIONS: &str = "invitations";
/// So many can be open at once.
const OPEN: usize = 1_024;
/// Uses of one ticket.
pub const USES: u32 = 1_000;

/// An invitation, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    #[serde(with = "serde_bytes")]
    digest: [u8; 32],
    role: Role,
    /// When it ends.
    pub expires: u64,
    /// How many devices it lets in yet.
    pub uses: u32,
    used_by: Vec<DeviceId>,
}

/// Why a ticket lets nobody in.
#[derive(Debug, thiserror::Error)]
pub enum NotInvited {
    /// It is not known here.
    #[error("the ticket is not known here: it was made on another device, or withdrawn")]
    Unknown,
    /// It was used.
    #[error("the ticket was used already: ask for a new one")]
    Used,
    /// It is too old.
    #[error("the ticket has expired: ask for a new one")]
    Expired,
    /// Who asks is not who it says.
    #[error("the keys of whoever asks do not belong together")]
    NotBound,
    /// Something else.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

fn digest(secret: &Secret) -> [u8; 32] {
    *secret.derive("jaxfs v0 ticket secret").expose()
}

impl Bucket {
    /// Remembers that whoever has a new secret may join, and gives it. Durable on return.
    ///
    /// # Errors
    /// If there are too many invitations, or it can not be stored.
    pub fn invite(&self, role: Role, expires: Timestamp, uses: u32) -> Result<Secret, BucketError> {
        let _one_at_a_time = self.inviting.lock();
        let (secret, mut all) = (Secret::random(), self.invitations()?);
        // Kept for a day, so that whoever comes too late hears why.
        all.retain(|one| one.expires.saturating_add(24 * 3_600_000) > now().0);
        if all.len() >= OPEN {
            return Err(BucketError::TooManyInvitations);
        }
        let uses = uses.clamp(1, USES);
        all.push(Invitation { digest: digest(&secret), role, expires: expires.0, uses, used_by: Vec::new() });
        self.save_invitations(&all)?;
        Ok(secret)
    }

    /// Whether a device that is no member yet may come in at this moment.
    ///
    /// # Errors
    /// If the store can not say.
    pub fn is_inviting(&self) -> Result<bool, BucketError> {
        Ok(self.invitations()?.iter().any(|one| one.uses > 0 && one.expires > now().0))
    }

    /// Lets a device in that has a ticket's secret. Durable on return; gives the head. A member with as many rights is let
    /// in as it is.
    ///
    /// # Errors
    /// If the ticket does not let it in, or the bucket can not be changed.
    pub fn redeem(
        &self,
        owner: &OwnerKey,
        secret: &Secret,
        identity: &Identity,
        name: &Label,
    ) -> Result<Link, NotInvited> {
        if !identity.is_bound_to(self.id()) {
            return Err(NotInvited::NotBound);
        }
        let role = self.use_up(secret, identity.device)?;
        match self.admit(owner, identity, role, name) {
            Err(BucketError::AlreadyMember(_)) => Ok(self.head()),
            other => Ok(other?),
        }
    }

    /// Uses an invitation for a device. Gives the role.
    fn use_up(&self, secret: &Secret, device: DeviceId) -> Result<Role, NotInvited> {
        let _one_at_a_time = self.inviting.lock();
        let (digest, mut all) = (digest(secret), self.invitations()?);
        let one = all.iter_mut().find(|one| one.digest == digest).ok_or(NotInvited::Unknown)?;
        let role = one.role;
        if one.expires <= now().0 {
            return Err(NotInvited::Expired);
        }
        if one.used_by.contains(&device) {
            return Ok(role);
        }
        one.uses = one.uses.checked_sub(1).ok_or(NotInvited::Used)?;
        one.used_by.push(device);
        self.save_invitations(&all)?;
        Ok(role)
    }

    fn invitations(&self) -> Result<Vec<Invitation>, BucketError> {
        let saved = self.vault().store().meta(INVITATIONS)?;
        // What can not be read lets nobody in.
        Ok(saved.and_then(|bytes| serde_ipld_dagcbor::from_slice(&bytes).ok()).unwrap_or_default())
    }

    fn save_invitations(&self, all: &Vec<Invitation>) -> Result<(), BucketError> {
        let bytes = serde_ipld_dagcbor::to_vec(all).map_err(|_| BucketError::TooManyInvitations)?;
        Ok(self.vault().store().commit(Commit { manifests: Vec::new(), meta: vec![(INVITATIONS, Some(bytes))] })?)
    }
}
