//! What a host needs of the kernel and the standard library does not give: a network of its own, and a card in it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The kernel's `struct ifreq`, as far as it is used.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: libc::c_short,
    rest: [u8; 22],
}

/// A network namespace that has no name, and so is gone with its last user, and the other end of the cable of its only card,
/// `eth0`. Reading gives one frame that the namespace sends, writing is one that it receives; neither waits.
pub(super) fn network() -> io::Result<(OwnedFd, OwnedFd)> {
    // Namespaces are entered by threads; this one ends with it.
    thread::spawn(make).join().map_err(|_| io::Error::other("the thread panicked"))?
}

fn make() -> io::Result<(OwnedFd, OwnedFd)> {
    // SAFETY: only sharing descriptors less has conditions.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    let namespace = File::open("/proc/thread-self/ns/net")?;
    let card = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut name = [0; 16];
    name[..4].copy_from_slice(b"eth0");
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    let request = Request { name, flags, rest: [0; 22] };
    // SAFETY: the kernel reads and writes a struct of this size, which lives until the call has returned.
    match unsafe { libc::ioctl(card.as_raw_fd(), libc::TUNSETIFF, &raw const request) } {
        0 => Ok((namespace.into(), card.into())),
        _ => Err(io::Error::last_os_error()),
    }
}
