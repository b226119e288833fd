//! Files that hold a key: made in one step, readable by their owner only, and under a passphrase where one is given.
//!
//! `"jaxfskey" (8) || version (1) || kind (1) || protection (1) || 0 (1)`, then for protection 0 the secret, and for
//! protection 1 `salt (16) || KiB (4, LE) || passes (4, LE) || lanes (4, LE) || nonce (24) || ciphertext || tag (16)`, and at
//! last the BLAKE3 of everything before it (32), so that damage is told from a wrong passphrase.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::crypto::Secret;
use crate::crypto::secret::random_bytes;
use crate::limits::{KEY_FILE_BYTES, KEY_FILE_LANES, KEY_FILE_MEMORY_KIB, KEY_FILE_PASSES};

const MAGIC: &[u8; 8] = b"jaxfskey";
const VERSION: u8 = 0;
const HEADER: usize = 12;
const SALT: usize = 16;
const NONCE: usize = 24;
const TAG: usize = 16;
const CHECKSUM: usize = 32;

/// Whose key a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Device = 1,
    Owner = 2,
}

/// What opening a file under a passphrase costs (argon2id).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Argon2Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Argon2Cost {
    /// RFC 9106's second recommendation: 64 MiB, 3 passes; with one lane, since ours run in one thread.
    pub const DEFAULT: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 1 };
}

/// Why a key file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is no such file.
    #[error("there is no key at {}", .0.display())]
    Missing(PathBuf),
    /// There is one already, and it is not overwritten.
    #[error("there is a key at {} already", .0.display())]
    Exists(PathBuf),
    /// Others may read or change it.
    #[error("{} is open to others (mode {mode:03o}): chmod 600 {}", path.display(), path.display())]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a key file of this kind, or changed since it was written.
    #[error("{} is damaged, or is not the key that belongs there", .0.display())]
    Damaged(PathBuf),
    /// Written by a newer program.
    #[error("{} has version {version}, this program knows {VERSION}: update jaxfs", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// It is under a passphrase, and none was given.
    #[error("{} is protected by a passphrase", .0.display())]
    NeedsPassphrase(PathBuf),
    /// Another passphrase than the one that it is under.
    #[error("wrong passphrase for {}", .0.display())]
    WrongPassphrase(PathBuf),
    /// The system's answer.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Writes a key where none is.
pub(super) fn create(path: &Path, kind: Kind, secret: &[u8], passphrase: Option<&str>) -> Result<(), KeyFileError> {
    let temporary = write_beside(path, &encode(kind, secret, passphrase, Argon2Cost::DEFAULT))?;
    // A link, not a rename: it fails where a file is, in one step.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary).map_err(io_at(path))?;
    linked.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.into()),
        _ => io_at(path)(source),
    })?;
    sync_directory(path)
}

/// Writes a key, in place of the one that is there.
pub(super) fn replace(path: &Path, kind: Kind, secret: &[u8], passphrase: Option<&str>) -> Result<(), KeyFileError> {
    let temporary = write_beside(path, &encode(kind, secret, passphrase, Argon2Cost::DEFAULT))?;
    if let Err(source) = fs::rename(&temporary, path) {
        let _ = fs::remove_file(&temporary);
        return Err(io_at(path)(source));
    }
    sync_directory(path)
}

/// Reads a key of the kind that belongs at `path`.
pub(super) fn load(path: &Path, kind: Kind, passphrase: Option<&str>) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound { KeyFileError::Missing(path.into()) } else { io_at(path)(source) }
    })?;
    let metadata = file.metadata().map_err(io_at(path))?;
    if !metadata.is_file() {
        return Err(KeyFileError::Damaged(path.into()));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(KeyFileError::Mode { path: path.into(), mode: metadata.mode() & 0o777 });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES as usize));
    file.take(KEY_FILE_BYTES).read_to_end(&mut bytes).map_err(io_at(path))?;
    decode(&bytes, kind, passphrase).map_err(|why| why.at(path))
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> KeyFileError {
    move |source| KeyFileError::Io { path: path.into(), source }
}

/// Writes and syncs a file of a random name in the same directory.
fn write_beside(path: &Path, bytes: &[u8]) -> Result<PathBuf, KeyFileError> {
    let temporary = directory(path).join(format!(".key-{:016x}", u64::from_le_bytes(random_bytes())));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        io_at(path)(source)
    })?;
    Ok(temporary)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_directory(path: &Path) -> Result<(), KeyFileError> {
    File::open(directory(path)).and_then(|directory| directory.sync_all()).map_err(io_at(path))
}

/// Why bytes are no key, before it is known where they came from.
#[derive(Debug, PartialEq, Eq)]
enum Unreadable {
    Damaged,
    Newer(u8),
    NeedsPassphrase,
    WrongPassphrase,
}

impl Unreadable {
    fn at(self, path: &Path) -> KeyFileError {
        let path = path.into();
        match self {
            Self::Damaged => KeyFileError::Damaged(path),
            Self::Newer(version) => KeyFileError::Newer { path, version },
            Self::NeedsPassphrase => KeyFileError::NeedsPassphrase(path),
            Self::WrongPassphrase => KeyFileError::WrongPassphrase(path),
        }
    }
}

fn encode(kind: Kind, secret: &[u8], passphrase: Option<&str>, cost: Argon2Cost) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES as usize));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, kind as u8, u8::from(passphrase.is_some()), 0]);
    match passphrase {
        None => out.extend_from_slice(secret),
        Some(passphrase) => {
            let salt = random_bytes::<SALT>();
            out.extend_from_slice(&salt);
            for number in [cost.memory_kib, cost.passes, cost.lanes] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            let nonce = random_bytes::<NONCE>();
            out.extend_from_slice(&nonce);
            let mut sealed = Zeroizing::new(secret.to_vec());
            let tag = cipher(passphrase, &salt, cost)
                .expect("our own cost is within argon2's limits")
                .encrypt_inout_detached(&XNonce::from(nonce), &out, sealed.as_mut_slice().into())
                .expect("a key is far below the cipher's limit");
            out.extend_from_slice(&sealed);
            out.extend_from_slice(&tag);
        }
    }
    let checksum = blake3::hash(&out);
    out.extend_from_slice(checksum.as_bytes());
    out
}

fn decode(bytes: &[u8], kind: Kind, passphrase: Option<&str>) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    use Unreadable::*;
    let header: &[u8; HEADER] = bytes.first_chunk().ok_or(Damaged)?;
    if header[..8] != *MAGIC {
        return Err(Damaged);
    }
    if header[8] > VERSION {
        return Err(Newer(header[8]));
    }
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(Damaged)?;
    if blake3::hash(body) != blake3::Hash::from_bytes(*checksum) || header[9] != kind as u8 {
        return Err(Damaged);
    }
    match header[10..] {
        [0, 0] => Ok(Zeroizing::new(body.get(HEADER..).ok_or(Damaged)?.to_vec())),
        [1, 0] => open_protected(body, passphrase.ok_or(NeedsPassphrase)?),
        _ => Err(Damaged),
    }
}

fn open_protected(body: &[u8], passphrase: &str) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    const SEALED_AT: usize = HEADER + SALT + 12 + NONCE;
    let (associated, sealed) = body.split_at_checked(SEALED_AT).ok_or(Unreadable::Damaged)?;
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG>().ok_or(Unreadable::Damaged)?;
    let (salt, rest) = associated[HEADER..].split_first_chunk::<SALT>().ok_or(Unreadable::Damaged)?;
    let (numbers, nonce) = rest.split_first_chunk::<12>().ok_or(Unreadable::Damaged)?;
    let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| Unreadable::Damaged)?;
    let number = |at: usize| u32::from_le_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
    let cost = Argon2Cost { memory_kib: number(0), passes: number(4), lanes: number(8) };
    if cost.memory_kib > KEY_FILE_MEMORY_KIB || cost.passes > KEY_FILE_PASSES || cost.lanes > KEY_FILE_LANES {
        return Err(Unreadable::Damaged);
    }
    let mut secret = Zeroizing::new(ciphertext.to_vec());
    cipher(passphrase, salt, cost)
        .ok_or(Unreadable::Damaged)?
        .decrypt_inout_detached(&XNonce::from(nonce), associated, secret.as_mut_slice().into(), &Tag::from(*tag))
        .map_err(|_| Unreadable::WrongPassphrase)?;
    Ok(secret)
}

fn cipher(passphrase: &str, salt: &[u8; SALT], cost: Argon2Cost) -> Option<XChaCha20Poly1305> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice())
        .ok()?;
    let key = Secret::new(*key);
    Some(XChaCha20Poly1305::new(key.expose().into()))
}

#[cfg(test)]
#[path = "keyfile_tests.rs"]
mod tests;
