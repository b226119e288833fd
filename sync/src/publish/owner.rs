//! The owner key of a bucket, on the devices that hold it.

use std::path::{Path, PathBuf};

use super::{Bucket, BucketError};
use crate::bucket::{KeyFileError, OwnerKey};

fn key_file(dir: &Path) -> PathBuf {
    dir.join("owner.key")
}

impl Bucket {
    /// The owner key as 24 words; none if this device does not hold it.
    ///
    /// # Errors
    /// If the key file can not be read or opened.
    pub fn recovery_phrase(&self, passphrase: Option<&str>) -> Result<Option<zeroize::Zeroizing<String>>, BucketError> {
        match OwnerKey::load(&key_file(&self.dir), passphrase) {
            Ok(key) => Ok(Some(key.phrase())),
            Err(KeyFileError::Missing(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the owner key back from its 24 words.
    ///
    /// # Errors
    /// If they are no phrase, or another bucket's.
    pub fn recover_owner(&self, phrase: &str, passphrase: Option<&str>) -> Result<(), BucketError> {
        let key = OwnerKey::from_phrase(phrase)?;
        if key.id() != self.genesis.owner {
            return Err(BucketError::OtherPhrase);
        }
        Ok(key.replace(&key_file(&self.dir), passphrase)?)
    }

    /// Puts the owner key in the bucket's directory `dir`, if it is there, under another passphrase, or under none.
    ///
    /// # Errors
    /// If the key file can not be read, opened or written.
    pub fn change_passphrase(dir: &Path, old: Option<&str>, new: Option<&str>) -> Result<(), BucketError> {
        let path = key_file(dir);
        match OwnerKey::load(&path, old) {
            Ok(key) => Ok(key.replace(&path, new)?),
            Err(KeyFileError::Missing(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
