#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::bucket::{DeviceKey, OwnerKey};

const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };

fn place() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("device.key");
    (home, path)
}

#[test]
fn a_key_comes_back_with_and_without_a_passphrase() {
    let (_home, path) = place();
    let key = DeviceKey::generate();
    key.create(&path, None).unwrap();
    assert_eq!(DeviceKey::load(&path, None).unwrap().id(), key.id());
    assert_eq!(DeviceKey::load(&path, Some("not needed")).unwrap().sealing_key(), key.sealing_key());
    key.replace(&path, Some("correct horse")).unwrap();
    assert_eq!(DeviceKey::load(&path, Some("correct horse")).unwrap().id(), key.id());
    assert!(matches!(DeviceKey::load(&path, None), Err(KeyFileError::NeedsPassphrase(_))));
    assert!(matches!(DeviceKey::load(&path, Some("wrong")), Err(KeyFileError::WrongPassphrase(_))));
}

#[test]
fn sizes_are_as_documented() {
    assert_eq!(encode(Kind::Device, &[0; 64], None, CHEAP).len(), 108);
    assert_eq!(encode(Kind::Owner, &[0; 32], None, CHEAP).len(), 76);
    assert_eq!(encode(Kind::Device, &[0; 64], Some("x"), CHEAP).len(), 176);
    assert_eq!(encode(Kind::Owner, &[0; 32], Some("x"), CHEAP).len(), 144);
}

#[test]
fn a_key_file_is_private_and_a_looser_one_is_refused_with_the_remedy() {
    let (_home, path) = place();
    DeviceKey::generate().create(&path, None).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    for mode in [0o640, 0o604, 0o620, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = DeviceKey::load(&path, None).unwrap_err();
        assert!(matches!(error, KeyFileError::Mode { .. }), "{error}");
        assert!(error.to_string().ends_with(&format!("chmod 600 {}", path.display())), "{error}");
    }
}

#[test]
fn a_key_is_never_overwritten_by_another() {
    let (home, path) = place();
    let first = DeviceKey::generate();
    first.create(&path, None).unwrap();
    assert!(matches!(DeviceKey::generate().create(&path, None), Err(KeyFileError::Exists(_))));
    assert_eq!(DeviceKey::load(&path, None).unwrap().id(), first.id());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing temporary is left");
}

#[test]
fn missing_foreign_newer_and_unusual_files_are_told_apart() {
    let (home, path) = place();
    assert!(matches!(DeviceKey::load(&path, None), Err(KeyFileError::Missing(_))));
    assert!(matches!(DeviceKey::load(home.path(), None), Err(KeyFileError::Damaged(_))));
    OwnerKey::generate().create(&path, None).unwrap();
    assert!(matches!(DeviceKey::load(&path, None), Err(KeyFileError::Damaged(_))));
    let mut newer = encode(Kind::Device, &[1; 64], None, CHEAP);
    newer[8] = 1;
    assert_eq!(decode(&newer, Kind::Device, None).unwrap_err(), Unreadable::Newer(1));
}

#[test]
fn any_flipped_bit_or_cut_is_noticed_and_is_not_called_a_wrong_passphrase() {
    for passphrase in [None, Some("x")] {
        let good = encode(Kind::Device, &[1; 64], passphrase, CHEAP);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let why = decode(&bad, Kind::Device, passphrase).unwrap_err();
            assert!(matches!(why, Unreadable::Damaged | Unreadable::Newer(_)), "bit {bit}: {why:?}");
        }
        for len in 0..good.len() {
            assert!(decode(&good[..len], Kind::Device, passphrase).is_err());
        }
    }
}

#[test]
fn a_file_can_not_ask_for_more_work_than_the_limits() {
    let asking = |at: usize, number: u32| {
        let mut file = encode(Kind::Device, &[1; 64], Some("x"), Argon2Cost { memory_kib: 128, ..CHEAP });
        let at = HEADER + SALT + 4 * at;
        file[at..at + 4].copy_from_slice(&number.to_le_bytes());
        let body = file.len() - CHECKSUM;
        let checksum = blake3::hash(&file[..body]);
        file[body..].copy_from_slice(checksum.as_bytes());
        decode(&file, Kind::Device, Some("x")).unwrap_err()
    };
    assert_eq!(asking(0, 256), Unreadable::WrongPassphrase, "within the limits it is tried");
    for (at, limit) in [KEY_FILE_MEMORY_KIB, KEY_FILE_PASSES, KEY_FILE_LANES].into_iter().enumerate() {
        for number in [0, limit + 1, u32::MAX] {
            assert_eq!(asking(at, number), Unreadable::Damaged, "number {at} is {number}");
        }
    }
}
