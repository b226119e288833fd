//! Labels: the names of buckets and devices, sealed, because a manifest and a member list stand in the clear.
//!
//! A label is `nonce (24) || ciphertext || tag (16)` of `length (2, LE) || text`, padded like a block: 104 bytes for a text
//! of at most 62 bytes, 184 at most. The same text in the same place gives the same bytes, so that a name that did not
//! change is seen not to have changed.

use super::block::OpenError;
use super::sealer::Sealer;
use crate::limits::LABEL_BYTES;

/// The purpose of a bucket's name in a manifest.
pub const BUCKET_NAME: &str = "bucket name";
/// The purpose of a device's name in a member list.
pub const DEVICE_NAME: &str = "device name";
/// Bytes of the longest sealed label.
pub const SEALED_LABEL_BYTES: usize = 184;

/// A name fit to be sealed: 1 to [`LABEL_BYTES`] bytes of UTF-8 without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(String);

/// Why a text can not be a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LabelError {
    /// Nothing to see.
    #[error("a name can not be empty")]
    Empty,
    /// Longer than [`LABEL_BYTES`].
    #[error("a name can not be longer than {LABEL_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// A terminal would obey it.
    #[error("a name can not contain control characters")]
    Control,
}

impl Label {
    /// Takes a text that is fit to be a name.
    pub fn new(text: impl Into<String>) -> Result<Self, LabelError> {
        let text = text.into();
        match text.len() {
            0 => Err(LabelError::Empty),
            len if len > LABEL_BYTES => Err(LabelError::TooLong(len)),
            _ if text.chars().any(char::is_control) => Err(LabelError::Control),
            _ => Ok(Self(text)),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn seal(keys: &Sealer, place: &[u8], text: &Label) -> Vec<u8> {
    let mut framed = Vec::with_capacity(2 + text.0.len());
    framed.extend_from_slice(&(text.0.len() as u16).to_le_bytes());
    framed.extend_from_slice(text.0.as_bytes());
    keys.seal(place, &framed)
}

pub(super) fn open(keys: &Sealer, place: &[u8], sealed: &[u8]) -> Result<String, OpenError> {
    if sealed.len() > SEALED_LABEL_BYTES {
        return Err(OpenError::Label("too long"));
    }
    let framed = keys.open(place, sealed).ok_or(OpenError::Label("not sealed for this place"))?;
    let (len, rest) = framed.split_first_chunk::<2>().ok_or(OpenError::Label("no length"))?;
    let (text, padding) =
        rest.split_at_checked(u16::from_le_bytes(*len).into()).ok_or(OpenError::Label("length beyond the label"))?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(OpenError::Label("padding is not zeros"));
    }
    let text = std::str::from_utf8(text).map_err(|_| OpenError::Label("not UTF-8"))?;
    Label::new(text).map(|label| label.0).map_err(|_| OpenError::Label("not fit to be a name"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::crypto::sealer::SEAL_OVERHEAD;
    use crate::crypto::{Keyring, Secret};
    use crate::link::{BucketId, Epoch};

    fn keyring(bucket: u128, epoch: u64) -> Keyring {
        Keyring::new(BucketId(uuid::Uuid::from_u128(bucket)), Epoch(epoch), &Secret::new([7; 32]))
    }

    #[test]
    fn a_label_opens_only_in_its_bucket_epoch_and_purpose() {
        let home = keyring(1, 0);
        let sealed = home.seal_label(BUCKET_NAME, &Label::new("photos").unwrap());
        assert_eq!(home.open_label(Epoch(0), BUCKET_NAME, &sealed), Ok("photos".into()));
        assert!(home.open_label(Epoch(0), DEVICE_NAME, &sealed).is_err());
        assert!(keyring(2, 0).open_label(Epoch(0), BUCKET_NAME, &sealed).is_err());
        assert!(keyring(1, 1).open_label(Epoch(1), BUCKET_NAME, &sealed).is_err());
        assert_eq!(home.open_label(Epoch(9), BUCKET_NAME, &sealed), Err(OpenError::NoKey(Epoch(9))));
    }

    #[test]
    fn sizes_are_as_documented_and_hide_short_lengths() {
        let sealed = |len| keyring(1, 0).seal_label(BUCKET_NAME, &Label::new("x".repeat(len)).unwrap()).len();
        assert_eq!((sealed(1), sealed(62)), (64 + SEAL_OVERHEAD, 104));
        assert_eq!(sealed(LABEL_BYTES), SEALED_LABEL_BYTES);
    }

    #[test]
    fn what_would_confuse_a_terminal_or_a_manifest_is_no_label() {
        assert_eq!(Label::new(""), Err(LabelError::Empty));
        assert_eq!(Label::new("x".repeat(129)), Err(LabelError::TooLong(129)));
        assert_eq!(Label::new("a\u{1b}[2J"), Err(LabelError::Control));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let home = keyring(1, 0);
        let good = home.seal_label(BUCKET_NAME, &Label::new("photos").unwrap());
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(home.open_label(Epoch(0), BUCKET_NAME, &bad).is_err(), "bit {bit}");
        }
    }
}
