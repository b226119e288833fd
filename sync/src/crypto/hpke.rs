//! A secret sealed to one device: HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! ChaCha20Poly1305. The result is `encapsulated key (32) || ciphertext (32) || tag (16)`.

use std::convert::Infallible;

use hpke::aead::{AeadTag, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::{Kem, X25519HkdfSha256};
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable, OpModeR, OpModeS, Serializable};
use zeroize::Zeroizing;

use super::secret::{Secret, random_bytes};

/// Bytes of a sealed secret.
pub const SEALED_SECRET_BYTES: usize = 80;

type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
type Encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey;

/// A public key that nothing can be sealed to: a point of small order.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a usable X25519 public key")]
pub struct WeakKey;

/// Seals `secret` so that only the holder of `to`'s private key opens it, and only for the same `info` and `place`.
pub fn seal_secret(to: &[u8; 32], info: &'static str, place: &[u8], secret: &Secret) -> Result<Vec<u8>, WeakKey> {
    let to = Public::from_bytes(to).map_err(|_| WeakKey)?;
    let mut sealed = Zeroizing::new(*secret.expose());
    let (encapsulated, tag) = hpke::single_shot_seal_inout_detached_with_rng::<
        ChaCha20Poly1305,
        HkdfSha256,
        X25519HkdfSha256,
    >(
        &OpModeS::Base, &to, info.as_bytes(), sealed.as_mut_slice().into(), place, &mut System
    )
    .map_err(|_| WeakKey)?;
    Ok([encapsulated.to_bytes().as_slice(), sealed.as_slice(), tag.to_bytes().as_slice()].concat())
}

/// Opens what [`seal_secret`] made. `None` if it was sealed to another key, for another place, or is damaged.
pub fn open_secret(key: &Secret, info: &'static str, place: &[u8], sealed: &[u8]) -> Option<Secret> {
    let (encapsulated, rest) = sealed.split_at_checked(32)?;
    let (ciphertext, tag) = rest.split_at_checked(32)?;
    let mut secret = Zeroizing::new(<[u8; 32]>::try_from(ciphertext).ok()?);
    hpke::single_shot_open_inout_detached::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &Private::from_bytes(key.expose()).ok()?,
        &Encapsulated::from_bytes(encapsulated).ok()?,
        info.as_bytes(),
        secret.as_mut_slice().into(),
        place,
        &AeadTag::from_bytes(tag).ok()?,
    )
    .ok()?;
    Some(Secret::new(*secret))
}

/// The system's generator, as the library wants it.
struct System;

impl TryRng for System {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(random_bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(random_bytes()))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        getrandom::fill(out).expect("the system's random generator works");
        Ok(())
    }
}

impl TryCryptoRng for System {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use x25519_dalek::{PublicKey, StaticSecret};

    use super::*;

    const INFO: &str = "test";

    fn pair(seed: u8) -> (Secret, [u8; 32]) {
        let secret = StaticSecret::from([seed; 32]);
        (Secret::new([seed; 32]), PublicKey::from(&secret).to_bytes())
    }

    #[test]
    fn a_sealed_secret_opens_for_its_key_and_place_only() {
        let ((mine, public), (other, _)) = (pair(1), pair(2));
        let secret = Secret::new([9; 32]);
        let sealed = seal_secret(&public, INFO, b"here", &secret).unwrap();
        assert_eq!(sealed.len(), SEALED_SECRET_BYTES);
        assert_eq!(open_secret(&mine, INFO, b"here", &sealed), Some(secret));
        assert_eq!(open_secret(&other, INFO, b"here", &sealed), None);
        assert_eq!(open_secret(&mine, INFO, b"there", &sealed), None);
        assert_eq!(open_secret(&mine, "other", b"here", &sealed), None);
        assert_eq!(open_secret(&mine, INFO, b"here", &sealed[..79]), None);
    }

    #[test]
    fn the_same_secret_is_never_sealed_alike_twice() {
        let (_, public) = pair(1);
        let seal = || seal_secret(&public, INFO, b"", &Secret::new([9; 32])).unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn nothing_is_sealed_to_a_point_of_small_order() {
        assert_eq!(seal_secret(&[0; 32], INFO, b"", &Secret::new([9; 32])), Err(WeakKey));
    }
}
