//! The end of the control socket that asks: connecting, starting a node where there is none, one request at a time.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::FdFlags;
use rustix::process::PidfdFlags;
use zeroize::Zeroizing;

use super::protocol::{ANSWER_BYTES, Answer, Event, Failure, FailureKind, Reply, Request, RequestOut, VERSION};
use super::socket;
use crate::home::Home;

/// How long a new node may take until it listens. It waits for the home's lock in this time.
const START: Duration = Duration::from_secs(20);
/// How often one is started.
const STARTS: usize = 5;
/// What a new node writes to its standard output once it listens.
pub(crate) const READY: &str = "ready\n";

/// A connection to a home's node.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects if a node listens; `None` if there is none.
    pub(crate) fn connect(home: &Home) -> Result<Option<Self>> {
        match socket::connect(home) {
            Ok(stream) => Ok(Some(Self { stream: BufReader::new(stream) })),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("can not reach the node of {}", home.path().display())),
        }
    }

    /// Connects; starts a node if none listens.
    pub(crate) fn connect_or_start(home: &Home) -> Result<Self> {
        for _ in 0..STARTS {
            if let Some(client) = Self::connect(home)? {
                return Ok(client);
            }
            // One that others look for as well may be left by them, and end, before this one has connected.
            start_node(home)?;
        }
        Self::connect(home)?.context("the node ended as soon as it had started: try again")
    }

    /// Asks, tells `events` what comes before the answer, and returns that. A node that ends instead of answering
    /// counts as one that says it is leaving.
    pub(crate) fn call(&mut self, request: &Request, events: &mut dyn FnMut(Event)) -> Result<Reply> {
        let mut line = Zeroizing::new(Vec::with_capacity(16 << 10));
        serde_json::to_writer(&mut *line, &RequestOut { v: VERSION, request })?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(|_| gone())?;
        loop {
            match self.read_answer()? {
                Answer::Event(event) => events(event),
                Answer::Reply(reply) => return Ok(reply),
                Answer::Failure(failure) => return Err(failure.into()),
            }
        }
    }

    fn read_answer(&mut self) -> Result<Answer> {
        let mut line = Zeroizing::new(Vec::with_capacity(1024));
        let limit = ANSWER_BYTES as u64;
        (&mut self.stream).take(limit).read_until(b'\n', &mut line).map_err(|_| gone())?;
        if line.last() != Some(&b'\n') {
            return Err(gone().into());
        }
        serde_json::from_slice(&line)
            .context("the node is of another version of jaxfs: unmount everything, and try again")
    }

    /// Waits until the node's process is gone, for a few seconds at most.
    pub(crate) fn wait_for_end(&self) {
        let peer = rustix::net::sockopt::socket_peercred(self.stream.get_ref());
        let Ok(process) = peer.and_then(|peer| rustix::process::pidfd_open(peer.pid, PidfdFlags::empty())) else {
            return; // gone already, or a kernel without pidfd
        };
        let timeout = Timespec { tv_sec: 10, tv_nsec: 0 };
        let _ = rustix::event::poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout));
    }
}

fn gone() -> Failure {
    Failure::new(FailureKind::Leaving, "the node ended before it answered: node.log in the home says why")
}

/// Starts a node and returns once it (or another one that was quicker) listens.
fn start_node(home: &Home) -> Result<()> {
    home.ensure()?;
    let log = home.open_log()?;
    let log_start = log.metadata()?.len();
    let mut child = spawn(home, log)?;
    let output = child.stdout.take().context("the node has no output")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // That it listens, or why it does not; or nothing.
        let mut said = String::new();
        let _ = BufReader::new(output).take(ANSWER_BYTES as u64).read_line(&mut said);
        let _ = sender.send(said);
    });
    match receiver.recv_timeout(START) {
        Ok(said) if said == READY => Ok(()),
        Ok(said) => {
            let status = child.wait()?;
            let said = Some(said.trim_end().to_owned()).filter(|said| !said.is_empty());
            let said = said.or_else(|| home.last_log_line(log_start));
            let said = said.unwrap_or_else(|| format!("it ended with {status}"));
            bail!("{}", said.strip_prefix("jaxfs: ").unwrap_or(&said))
        }
        Err(_) => {
            let _ = child.kill();
            bail!("the node did not start within {} s: see {}", START.as_secs(), home.log().display())
        }
    }
}

/// A node of its own session, with nothing of ours but the log.
fn spawn(home: &Home, log: File) -> Result<Child> {
    close_on_exec().context("can not close inherited files")?;
    let program = std::env::current_exe().context("can not find this program")?;
    let mut command = Command::new(program);
    command.args(["node", "--spawned"]).env("JAXFS_HOME", home.path()).env_remove("JAXFS_PASSPHRASE");
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command.spawn().context("can not start the node")
}

/// Marks whatever this process inherited, beyond its standard streams, so that the node does not inherit it in turn.
/// (A pipe of a caller that waits for its end would be held open for as long as the node lives.)
#[allow(unsafe_code)]
fn close_on_exec() -> io::Result<()> {
    let listing: Vec<_> = std::fs::read_dir("/proc/self/fd")?.collect::<io::Result<_>>()?;
    for entry in listing {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if number > 2 {
            // SAFETY: the descriptor is only borrowed for one fcntl, which says EBADF if it is closed by now.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            let _ = rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC);
        }
    }
    Ok(())
}
