//! A device's two keys: ed25519, which signs and is its address, and X25519, which secrets are sealed to.

use std::fmt;
use std::path::Path;

use ed25519_dalek::{Signer, SigningKey};
use zeroize::Zeroizing;

use super::keyfile::{self, KeyFileError, Kind};
use super::types::{DeviceId, SealingKey, Signature, framed};
use crate::crypto::Secret;
use crate::crypto::secret::random_bytes;
use crate::link::BucketId;

/// What a device signs to say that a sealing key is its own in one bucket: `bucket (16) || sealing key (32)`.
const BINDING: &str = "jaxfs v0 sealing key";

/// A device's private keys.
pub struct DeviceKey {
    signing: SigningKey,
    sealing: Secret,
}

/// A device's public keys, and its word that they belong together in one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The key that signs.
    pub device: DeviceId,
    /// The key that secrets are sealed to.
    pub sealing: SealingKey,
    /// The device's signature over the bucket and the sealing key.
    pub binding: Signature,
}

impl Identity {
    /// Whether the device itself said so, for this bucket.
    pub fn is_bound_to(&self, bucket: BucketId) -> bool {
        self.device.signed(BINDING, &bound(bucket, &self.sealing), &self.binding)
    }
}

impl DeviceKey {
    /// Draws new keys.
    pub fn generate() -> Self {
        Self::from_bytes(&Zeroizing::new(random_bytes()))
    }

    /// `ed25519 seed (32) || X25519 secret (32)`.
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let (mut signing, mut sealing) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        signing.copy_from_slice(&bytes[..32]);
        sealing.copy_from_slice(&bytes[32..]);
        Self { signing: SigningKey::from_bytes(&signing), sealing: Secret::new(*sealing) }
    }

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([self.signing.as_bytes().as_slice(), self.sealing.expose()].concat())
    }

    /// The device's public name.
    pub fn id(&self) -> DeviceId {
        DeviceId(self.signing.verifying_key().to_bytes())
    }

    /// The public key that secrets are sealed to.
    pub fn sealing_key(&self) -> SealingKey {
        let secret = x25519_dalek::StaticSecret::from(*self.sealing.expose());
        SealingKey(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }

    /// The public keys, bound together for one bucket.
    pub fn identity(&self, bucket: BucketId) -> Identity {
        let sealing = self.sealing_key();
        Identity { device: self.id(), sealing, binding: self.sign(BINDING, &bound(bucket, &sealing)) }
    }

    /// Signs `context || 0 || message`. `context` is a constant of this program, another for each kind of message.
    pub fn sign(&self, context: &'static str, message: &[u8]) -> Signature {
        Signature(self.signing.sign(&framed(context, message)).to_bytes())
    }

    /// A key for what only this device reads, such as its journal; `context` says for what (BLAKE3 `derive_key`).
    pub fn local_key(&self, context: &'static str) -> Secret {
        self.sealing.derive(context)
    }

    /// Makes a file that holds the keys; refuses if one is there.
    pub fn create(&self, path: &Path, passphrase: Option<&str>) -> Result<(), KeyFileError> {
        keyfile::create(path, Kind::Device, &self.to_bytes(), passphrase)
    }

    /// Replaces the file, to set or remove a passphrase.
    pub fn replace(&self, path: &Path, passphrase: Option<&str>) -> Result<(), KeyFileError> {
        keyfile::replace(path, Kind::Device, &self.to_bytes(), passphrase)
    }

    /// Reads the keys from a file that only its owner may read.
    pub fn load(path: &Path, passphrase: Option<&str>) -> Result<Self, KeyFileError> {
        let bytes = keyfile::load(path, Kind::Device, passphrase)?;
        let bytes = bytes.as_slice().try_into().map_err(|_| KeyFileError::Damaged(path.into()))?;
        Ok(Self::from_bytes(bytes))
    }

    /// The secret half of the sealing key.
    pub(super) const fn sealing_secret(&self) -> &Secret {
        &self.sealing
    }

    /// The secret half of the signing key, for the network's own type.
    #[cfg(feature = "net")]
    pub(crate) fn signing_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.signing.to_bytes())
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({}, ..)", self.id().short())
    }
}

fn bound(bucket: BucketId, sealing: &SealingKey) -> Vec<u8> {
    [bucket.0.as_bytes().as_slice(), &sealing.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_bound_to_one_bucket_and_one_sealing_key() {
        let (home, other) = (BucketId(uuid::Uuid::from_u128(1)), BucketId(uuid::Uuid::from_u128(2)));
        let identity = DeviceKey::generate().identity(home);
        assert!(identity.is_bound_to(home));
        assert!(!identity.is_bound_to(other));
        let stolen = Identity { sealing: DeviceKey::generate().sealing_key(), ..identity };
        assert!(!stolen.is_bound_to(home));
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = DeviceKey::from_bytes(&[0xab; 64]);
        assert!(!format!("{key:?}").contains("abab"));
        assert!(!format!("{:?}", key.local_key("test")).contains(|c: char| c.is_ascii_digit()));
    }

    #[test]
    fn a_signature_in_one_context_is_none_in_another() {
        let key = DeviceKey::generate();
        let signature = key.sign("one", b"message");
        assert!(key.id().signed("one", b"message", &signature));
        assert!(!key.id().signed("two", b"message", &signature));
        assert!(!key.id().signed("one", b"massage", &signature));
    }
}
