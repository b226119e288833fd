//! The end of the control socket that answers. Translates; decides nothing.

use std::io;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use zeroize::Zeroizing;

use super::protocol::{Answer, Failure, FailureKind, REQUEST_BYTES, Request, RequestIn, VERSION, VersionOf};
use super::socket;
use crate::home::Home;
use crate::node::State;

/// Connections at a time. Each may keep one thread busy; more wait in the socket's queue.
const CONNECTIONS: usize = 128;
/// Events that wait for a slow reader before the work waits too.
const EVENTS: usize = 16;

/// The socket, open: clients that connect from now on are answered once [`Server::run`] runs.
pub(crate) struct Server {
    listener: UnixListener,
    home: Home,
}

impl Server {
    /// Listens. Only the holder of the home's lock may; inside a tokio runtime.
    pub(crate) fn listen(home: &Home) -> Result<Self> {
        let listener = socket::listen(home).context("can not listen on node.sock")?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, home: home.clone() })
    }

    /// Answers clients, for ever.
    pub(crate) async fn run(&self, state: &Arc<State>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let state = state.clone();
                    tokio::spawn(async move {
                        if let Err(error) = converse(stream, &state).await {
                            tracing::debug!(%error, "a client went away");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: they come back as clients leave.
                    tracing::warn!(%error, "can not accept a client");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = socket::remove(&self.home) {
            tracing::warn!(%error, "can not remove node.sock");
        }
    }
}

/// Answers one client's requests, one after the other.
async fn converse(stream: UnixStream, state: &Arc<State>) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        tracing::warn!(uid = peer, "another user's client was refused");
        return Ok(());
    }
    let _connection = state.life().connected();
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Some(line) = read_line(&mut read).await? {
        match parse(&line) {
            Ok(request) => answer(request, state, &mut write).await?,
            Err(failure) => {
                send(&mut write, &Answer::Failure(failure)).await?;
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A line without its end; `None` where the client has said everything. Longer ones than the limit are an error.
async fn read_line(read: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(16 << 10));
    read.take(REQUEST_BYTES as u64).read_until(b'\n', &mut line).await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long or broken off")),
    }
}

/// The request in a line.
fn parse(line: &[u8]) -> Result<Request, Failure> {
    let other = |message: String| Failure::new(FailureKind::Other, message);
    match serde_json::from_slice::<VersionOf>(line) {
        Ok(VersionOf { v: VERSION }) => {}
        Ok(VersionOf { v }) => {
            let message = format!("the node speaks version {VERSION} of the control protocol, not {v}");
            return Err(other(format!("{message}: unmount everything, so that the node ends, and try again")));
        }
        Err(_) => return Err(other("the node was not asked in JSON".to_owned())),
    }
    // The parser's own message could quote what was sent, and that may be a passphrase.
    let request =
        serde_json::from_slice::<RequestIn>(line).map_err(|_| other("the node does not know this request".to_owned()));
    request.map(|message| message.request)
}

/// Works on a request in a thread that may block, and passes on what it says.
async fn answer(request: Request, state: &Arc<State>, write: &mut OwnedWriteHalf) -> io::Result<()> {
    // Held until the answer is on its way, so that the node does not leave in between.
    let _work = match state.life().begin() {
        Ok(work) => work,
        Err(failure) => return send(write, &Answer::Failure(failure)).await,
    };
    let (events, mut queue) = mpsc::channel(EVENTS);
    let worker = state.clone();
    let work = tokio::task::spawn_blocking(move || {
        worker.handle(&request, &mut |event| {
            // The client may be gone: what can be ended without harm is, and all else is finished all the same.
            events.blocking_send(event).is_ok()
        })
    });
    while let Some(event) = queue.recv().await {
        send(write, &Answer::Event(event)).await?;
    }
    let result =
        work.await.map_err(|_| Failure::new(FailureKind::Other, "the node failed at this: see node.log in the home"));
    let last = match result.and_then(|done| done) {
        Ok(reply) => Answer::Reply(reply),
        Err(failure) => Answer::Failure(failure),
    };
    send(write, &last).await
}

async fn send(write: &mut OwnedWriteHalf, message: &impl Serialize) -> io::Result<()> {
    let mut line = Zeroizing::new(Vec::with_capacity(4 << 10));
    serde_json::to_writer(&mut *line, message)?;
    line.push(b'\n');
    write.write_all(&line).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn another_version_is_refused_by_name() {
        let failure = parse(br#"{"v":2,"request":{"unheard_of":1}}"#).unwrap_err();
        assert!(failure.message.contains("version 1") && failure.message.contains("not 2"));
    }

    #[test]
    fn a_wrong_request_is_not_quoted() {
        for line in [r#"{"v":1,"request":{"unlock":{"passphrase":7,"x":"sesame"}}}"#, "sesame", r#"{"v":"sesame"}"#] {
            assert!(!parse(line.as_bytes()).unwrap_err().message.contains("sesame"));
        }
    }
}
