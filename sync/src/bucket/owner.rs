//! A bucket's owner key: it signs member lists, and nothing else. Kept by the owners' devices and in a recovery phrase.

use std::fmt;
use std::path::Path;

use bip39::{Language, Mnemonic};
use ed25519_dalek::{Signer, SigningKey};
use zeroize::Zeroizing;

use super::keyfile::{self, KeyFileError, Kind};
use super::types::{OwnerId, Signature, framed};
use crate::crypto::secret::random_bytes;

/// A bucket's private owner key.
pub struct OwnerKey(SigningKey);

/// Why words are no recovery phrase.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PhraseError {
    /// A phrase has 24 words.
    #[error("a recovery phrase has 24 words, these are {0}")]
    Count(usize),
    /// Not one of the 2,048 words; counted from 1.
    #[error("word {0} is not a word of recovery phrases")]
    Unknown(usize),
    /// The words do not belong together: one of them is wrong, or two are exchanged.
    #[error("the words do not belong together: one is wrong, or two are exchanged")]
    Checksum,
}

impl OwnerKey {
    /// Draws a new key.
    pub fn generate() -> Self {
        Self::from_seed(&Zeroizing::new(random_bytes()))
    }

    /// The key of a given ed25519 seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public key, which every manifest of the bucket names.
    pub fn id(&self) -> OwnerId {
        OwnerId(self.0.verifying_key().to_bytes())
    }

    /// Signs `context || 0 || message`.
    pub fn sign(&self, context: &'static str, message: &[u8]) -> Signature {
        Signature(self.0.sign(&framed(context, message)).to_bytes())
    }

    /// The seed as 24 English words (BIP-39: 256 bits and a checksum of 8).
    pub fn phrase(&self) -> Zeroizing<String> {
        let words = Mnemonic::from_entropy(self.0.as_bytes()).expect("32 bytes are a length of BIP-39");
        Zeroizing::new(words.to_string())
    }

    /// The key of a phrase; case and white space do not matter.
    pub fn from_phrase(phrase: &str) -> Result<Self, PhraseError> {
        let words: Vec<_> = phrase.split_whitespace().map(str::to_lowercase).collect();
        if words.len() != 24 {
            return Err(PhraseError::Count(words.len()));
        }
        let words = Zeroizing::new(words.join(" "));
        let mnemonic = Mnemonic::parse_in_normalized(Language::English, &words).map_err(|error| match error {
            bip39::Error::UnknownWord(index) => PhraseError::Unknown(index + 1),
            _ => PhraseError::Checksum,
        })?;
        let (entropy, len) = mnemonic.to_entropy_array();
        let entropy = Zeroizing::new(entropy);
        let seed = entropy[..len].try_into().map_err(|_| PhraseError::Checksum)?;
        Ok(Self::from_seed(seed))
    }

    /// Makes a file that holds the key; refuses if one is there.
    pub fn create(&self, path: &Path, passphrase: Option<&str>) -> Result<(), KeyFileError> {
        keyfile::create(path, Kind::Owner, self.0.as_bytes(), passphrase)
    }

    /// Replaces the file, to set or remove a passphrase.
    pub fn replace(&self, path: &Path, passphrase: Option<&str>) -> Result<(), KeyFileError> {
        keyfile::replace(path, Kind::Owner, self.0.as_bytes(), passphrase)
    }

    /// Reads the key from a file that only its owner may read.
    pub fn load(path: &Path, passphrase: Option<&str>) -> Result<Self, KeyFileError> {
        let bytes = keyfile::load(path, Kind::Owner, passphrase)?;
        let seed = bytes.as_slice().try_into().map_err(|_| KeyFileError::Damaged(path.into()))?;
        Ok(Self::from_seed(seed))
    }
}

impl fmt::Debug for OwnerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerKey({}, ..)", self.id().short())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_of_24_words_brings_the_key_back() {
        let key = OwnerKey::generate();
        let phrase = key.phrase();
        assert_eq!(phrase.split(' ').count(), 24);
        let typed = format!("  {}\n", phrase.to_uppercase().replace(' ', " \t "));
        assert_eq!(OwnerKey::from_phrase(&typed).unwrap().id(), key.id());
    }

    #[test]
    fn the_words_are_those_of_bip_39() {
        let phrase = OwnerKey::from_seed(&[0; 32]).phrase();
        assert_eq!(*phrase, format!("{}art", "abandon ".repeat(23)));
    }

    #[test]
    fn a_mistyped_phrase_says_what_is_wrong() {
        let words = format!("{}art", "abandon ".repeat(23));
        assert_eq!(OwnerKey::from_phrase("abandon art").unwrap_err(), PhraseError::Count(2));
        assert_eq!(
            OwnerKey::from_phrase(&words.replacen("abandon", "abandom", 1)).unwrap_err(),
            PhraseError::Unknown(1)
        );
        assert_eq!(OwnerKey::from_phrase(&words.replace("art", "able")).unwrap_err(), PhraseError::Checksum);
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", OwnerKey::from_seed(&[0xab; 32])).contains("abab"));
    }
}
