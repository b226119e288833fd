//! The socket's address. `sun_path` holds 108 bytes and a home's path may be longer, so a long one is reached
//! through a descriptor of its directory.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::home::Home;

/// The socket's name in the home.
const NAME: &str = "node.sock";
/// `sizeof(sun_path)` less its NUL (unix(7)).
const SUN_PATH: usize = 107;

/// A path that fits, valid as long as the descriptor beside it.
fn address(home: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = home.join(NAME);
    if path.as_os_str().len() <= SUN_PATH {
        return Ok((path, None));
    }
    let flags = (OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC).bits();
    let directory = fs::OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(home)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd())), Some(directory)))
}

/// Connects to the node of a home.
pub(super) fn connect(home: &Home) -> io::Result<UnixStream> {
    let (path, _directory) = address(home.path())?;
    UnixStream::connect(path)
}

/// Listens, in place of a socket that a dead node left. Only the holder of the home's lock may do this.
pub(super) fn listen(home: &Home) -> io::Result<UnixListener> {
    let (path, _directory) = address(home.path())?;
    unlink(&path)?;
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Takes the socket away.
pub(super) fn remove(home: &Home) -> io::Result<()> {
    unlink(&home.path().join(NAME))
}

fn unlink(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_path_longer_than_an_address_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(120)).join("y".repeat(120));
        fs::create_dir_all(&long).unwrap();
        let (path, directory) = address(&long).unwrap();
        assert!(path.as_os_str().len() <= SUN_PATH && directory.is_some());
        let _listener = UnixListener::bind(&path).unwrap();
        drop(directory);
        let (path, _directory) = address(&long).unwrap();
        UnixStream::connect(path).unwrap();
        assert!(long.join(NAME).exists());
    }
}
