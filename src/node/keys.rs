//! The keys of a home: found, made, opened with a passphrase, put under another one.
//!
//! All of them are under the same passphrase or under none. It is kept in memory, as the device's key is, for the
//! owner keys that are read when they are asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use jaxfs_sync::bucket::{DeviceKey, KeyFileError, OwnerKey};
use parking_lot::Mutex;

use crate::control::protocol::{Failure, FailureKind, SecretText};
use crate::home::Home;

/// The keys of a home.
pub(super) struct Keys {
    path: PathBuf,
    open: Mutex<Option<Open>>,
}

/// What one successful reading of `device.key` gave.
struct Open {
    device: Arc<DeviceKey>,
    passphrase: Option<SecretText>,
}

impl Keys {
    pub(super) fn new(home: &Home) -> Self {
        Self { path: home.device_key(), open: Mutex::new(None) }
    }

    /// The device's key, if there is one.
    pub(super) fn device(&self) -> Result<Option<Arc<DeviceKey>>> {
        let mut open = self.open.lock();
        if open.is_none() {
            *open = match DeviceKey::load(&self.path, None) {
                Ok(device) => Some(Open { device: Arc::new(device), passphrase: None }),
                Err(KeyFileError::Missing(_)) => None,
                Err(error) => return Err(explained(error)),
            };
        }
        Ok(open.as_ref().map(|open| open.device.clone()))
    }

    /// Draws a device key where there is none.
    pub(super) fn make(&self) -> Result<Arc<DeviceKey>> {
        let mut open = self.open.lock();
        let device = Arc::new(DeviceKey::generate());
        device.create(&self.path, None).map_err(explained)?;
        *open = Some(Open { device: device.clone(), passphrase: None });
        Ok(device)
    }

    /// Opens the keys with their passphrase.
    pub(super) fn unlock(&self, passphrase: &SecretText) -> Result<()> {
        let device = DeviceKey::load(&self.path, Some(passphrase.expose())).map_err(explained)?;
        *self.open.lock() = Some(Open { device: Arc::new(device), passphrase: Some(passphrase.clone()) });
        Ok(())
    }

    /// Whether the device's key is under a passphrase.
    pub(super) fn is_protected(&self) -> bool {
        matches!(DeviceKey::load(&self.path, None), Err(KeyFileError::NeedsPassphrase(_)))
    }

    /// A bucket's owner key, where this home holds it.
    pub(super) fn owner(&self, path: &Path) -> Result<Option<OwnerKey>> {
        let passphrase = self.passphrase();
        match OwnerKey::load(path, passphrase.as_ref().map(SecretText::expose)) {
            Ok(key) => Ok(Some(key)),
            Err(KeyFileError::Missing(_)) => Ok(None),
            Err(error) => Err(explained(error)),
        }
    }

    /// Writes an owner key under the passphrase that the others are under, if there is one.
    pub(super) fn replace_owner(&self, key: &OwnerKey, path: &Path) -> Result<()> {
        let passphrase = self.passphrase();
        key.replace(path, passphrase.as_ref().map(SecretText::expose)).map_err(explained)
    }

    /// Writes all keys again under `new`, after `old` has opened the device's. The owner keys go first, and each may
    /// be under the old or under the new passphrase, so that it can be done again if it was interrupted.
    pub(super) fn change_passphrase(
        &self,
        owners: &[PathBuf],
        old: Option<&SecretText>,
        new: Option<&SecretText>,
    ) -> Result<()> {
        let (old, new_text) = (old.map(SecretText::expose), new.map(SecretText::expose));
        let device = DeviceKey::load(&self.path, old).map_err(explained)?;
        for path in owners {
            let opened = OwnerKey::load(path, old).or_else(|_| OwnerKey::load(path, new_text));
            match opened {
                Ok(key) => key.replace(path, new_text).map_err(explained)?,
                Err(KeyFileError::Missing(_)) => {}
                Err(error) => return Err(explained(error)).context("nothing was changed for the device's key"),
            }
        }
        device.replace(&self.path, new_text).map_err(explained)?;
        *self.open.lock() = Some(Open { device: Arc::new(device), passphrase: new.cloned() });
        Ok(())
    }

    /// What the keys are under.
    pub(super) fn passphrase(&self) -> Option<SecretText> {
        self.open.lock().as_ref().and_then(|open| open.passphrase.clone())
    }
}

/// What is wrong with a key file, and what to do.
fn explained(error: KeyFileError) -> anyhow::Error {
    let kind = match &error {
        KeyFileError::Mode { path, mode } => {
            let path = path.display();
            return anyhow::anyhow!("others may read {path} (mode {mode:04o}): run `chmod 600 {path}`");
        }
        KeyFileError::Missing(_) | KeyFileError::Damaged(_) => {
            return anyhow::anyhow!("{error}: put it back from a backup");
        }
        KeyFileError::NeedsPassphrase(_) => FailureKind::NeedsPassphrase,
        KeyFileError::WrongPassphrase(_) => FailureKind::WrongPassphrase,
        KeyFileError::Exists(_) | KeyFileError::Newer { .. } | KeyFileError::Io { .. } => return error.into(),
    };
    let message = match kind {
        FailureKind::NeedsPassphrase => format!("{error}: give it on a terminal or in JAXFS_PASSPHRASE"),
        _ => format!("{error}: try again"),
    };
    Failure::new(kind, message).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn keys() -> (tempfile::TempDir, Keys) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.key");
        (dir, Keys { path, open: Mutex::new(None) })
    }

    fn kind(error: &anyhow::Error) -> FailureKind {
        error.downcast_ref::<Failure>().unwrap().kind
    }

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let (_dir, keys) = keys();
        assert!(keys.device().unwrap().is_none());
        let made = keys.make().unwrap();
        let again = Keys { path: keys.path.clone(), open: Mutex::new(None) };
        assert_eq!(again.device().unwrap().unwrap().id(), made.id());
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_command_that_mends_it() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, keys) = keys();
        keys.make().unwrap();
        std::fs::set_permissions(&keys.path, PermissionsExt::from_mode(0o640)).unwrap();
        let fresh = Keys { path: keys.path.clone(), open: Mutex::new(None) };
        assert!(fresh.device().err().unwrap().to_string().contains("chmod 600"));
    }

    #[test]
    fn one_passphrase_covers_the_device_and_the_owner_keys() {
        let (dir, keys) = keys();
        keys.make().unwrap();
        let owner_path = dir.path().join("owner.key");
        let owner = OwnerKey::generate();
        owner.create(&owner_path, None).unwrap();
        let passphrase = SecretText::new("correct horse".into());
        keys.change_passphrase(std::slice::from_ref(&owner_path), None, Some(&passphrase)).unwrap();

        let fresh = Keys { path: keys.path.clone(), open: Mutex::new(None) };
        assert_eq!(kind(&fresh.device().err().unwrap()), FailureKind::NeedsPassphrase);
        let wrong = SecretText::new("wrong".into());
        assert_eq!(kind(&fresh.unlock(&wrong).unwrap_err()), FailureKind::WrongPassphrase);
        fresh.unlock(&passphrase).unwrap();
        assert_eq!(fresh.owner(&owner_path).unwrap().unwrap().id(), owner.id());

        fresh.change_passphrase(&[owner_path], Some(&passphrase), None).unwrap();
        assert!(!fresh.is_protected());
    }
}
