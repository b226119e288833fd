//! Authenticated encryption without a nonce to choose: the nonce is a keyed hash of everything that is sealed.

use bytes::Bytes;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};

use super::secret::Secret;

/// Bytes of a nonce (XChaCha20).
const NONCE: usize = 24;
/// Bytes of a tag (Poly1305).
const TAG: usize = 16;
/// What sealing adds to the padded plaintext.
pub const SEAL_OVERHEAD: usize = NONCE + TAG;

/// Two keys for one purpose: the cipher's, and the one that nonces are hashed with.
pub(crate) struct Sealer {
    cipher: XChaCha20Poly1305,
    nonce: Secret,
}

impl Sealer {
    /// The keys that `secret` gives under two contexts, constants of this program, used nowhere else.
    pub(crate) fn new(secret: &Secret, key: &'static str, nonce: &'static str) -> Self {
        Self { cipher: XChaCha20Poly1305::new(secret.derive(key).expose().into()), nonce: secret.derive(nonce) }
    }

    fn nonce(&self, associated: &[u8], padded: &[u8]) -> [u8; NONCE] {
        let mut hasher = blake3::Hasher::new_keyed(self.nonce.expose());
        hasher.update(&(associated.len() as u64).to_le_bytes()).update(associated).update(padded);
        let mut nonce = [0; NONCE];
        hasher.finalize_xof().fill(&mut nonce);
        nonce
    }

    /// `nonce || ciphertext || tag` of `plaintext` padded with zeros to its size class.
    pub(crate) fn seal(&self, associated: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let padded = padded_len(plaintext.len());
        let mut block = Vec::with_capacity(padded + SEAL_OVERHEAD);
        block.extend_from_slice(&[0; NONCE]);
        block.extend_from_slice(plaintext);
        block.resize(NONCE + padded, 0);
        let nonce = self.nonce(associated, &block[NONCE..]);
        let tag = self
            .cipher
            .encrypt_inout_detached(&XNonce::from(nonce), associated, (&mut block[NONCE..]).into())
            .expect("a block is far below the cipher's limit");
        block[..NONCE].copy_from_slice(&nonce);
        block.extend_from_slice(&tag);
        block
    }

    /// The padded plaintext, if `block` was sealed with these keys for this place.
    pub(crate) fn open(&self, associated: &[u8], block: &[u8]) -> Option<Vec<u8>> {
        self.open_in_place(associated, block.to_vec()).map(Vec::from)
    }

    /// The same without a copy: what comes out is where the block was.
    pub(crate) fn open_in_place(&self, associated: &[u8], mut block: Vec<u8>) -> Option<Bytes> {
        let (nonce, rest) = block.split_first_chunk_mut::<NONCE>()?;
        let (ciphertext, tag) = rest.split_last_chunk_mut::<TAG>()?;
        let end = NONCE + ciphertext.len();
        let (nonce, tag) = (XNonce::from(*nonce), Tag::from(*tag));
        self.cipher.decrypt_inout_detached(&nonce, associated, ciphertext.into(), &tag).ok()?;
        Some(Bytes::from(block).slice(NONCE..end))
    }
}

/// The length that a plaintext of `len` bytes is padded to: Padmé, which costs at most 12% and lets an observer learn
/// O(log log len) bits (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files", PETS 2019). Powers of two, and
/// so full chunks, are their own class; nothing is below 64 bytes.
pub fn padded_len(len: usize) -> usize {
    if len <= 64 {
        return 64;
    }
    let exponent = len.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1usize << (exponent - kept)) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padding_at_its_borders() {
        for (len, padded) in
            [(0, 64), (64, 64), (65, 72), (72, 72), (73, 80), (127, 128), (129, 144), (131_072, 131_072)]
        {
            assert_eq!(padded_len(len), padded, "of {len}");
        }
    }

    proptest! {
        #[test]
        fn padding_never_shrinks_costs_at_most_an_eighth_and_is_its_own_class(len in 0usize..1 << 40) {
            let padded = padded_len(len);
            prop_assert!(padded >= len.max(64));
            prop_assert!(len < 64 || padded <= len + len / 8 + 1);
            prop_assert_eq!(padded_len(padded), padded);
        }

        #[test]
        fn padding_keeps_the_order_of_lengths(a in 0usize..1 << 40, b in 0usize..1 << 40) {
            prop_assert_eq!(padded_len(a.min(b)) <= padded_len(a.max(b)), true);
        }
    }
}
