//! A home to ask: its node where one runs, else the home itself, opened by this process under its lock.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::control::client::Client;
use crate::control::protocol::{Event, Failure, FailureKind, Reply, Request, SecretText};
use crate::home::Home;
use crate::node::State;
use crate::passphrase;

/// How long a home that is just being opened or closed by others is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(10);
/// How often a node that ends under a request is followed by asking the next one.
const ATTEMPTS: usize = 5;

/// A home that answers.
pub(crate) struct Session {
    home: Home,
    /// Whether a node is started where there is none.
    start: bool,
    end: End,
    /// What the keys were unlocked with, if that was this session.
    passphrase: Option<SecretText>,
}

enum End {
    Node(Client),
    Here(Arc<State>),
}

impl Session {
    /// Asks the node, or opens the home in this process.
    pub(crate) fn open(home: &Home) -> Result<Self> {
        home.ensure()?;
        Ok(Self { home: home.clone(), start: false, end: open(home)?, passphrase: None })
    }

    /// Asks the node, which is started if there is none.
    pub(crate) fn start(home: &Home) -> Result<Self> {
        home.ensure()?;
        let end = End::Node(Client::connect_or_start(home)?);
        Ok(Self { home: home.clone(), start: true, end, passphrase: None })
    }

    /// Asks an open home.
    pub(crate) fn here(home: &Home, state: Arc<State>) -> Self {
        Self { home: home.clone(), start: false, end: End::Here(state), passphrase: None }
    }

    /// Asks; for the passphrase too, where the keys need it.
    pub(crate) fn call(&mut self, request: &Request) -> Result<Reply> {
        self.call_with(request, &mut |_| {})
    }

    /// As [`Session::call`], and tells `events` what comes before the reply.
    pub(crate) fn call_with(&mut self, request: &Request, events: &mut dyn FnMut(Event)) -> Result<Reply> {
        let mut attempts = 0;
        loop {
            let error = match self.call_once(request, events) {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            match error.downcast_ref::<Failure>().map(|failure| failure.kind) {
                Some(FailureKind::NeedsPassphrase) if self.passphrase.is_none() => self.unlock(error)?,
                Some(FailureKind::Leaving) if attempts < ATTEMPTS => {
                    attempts += 1;
                    self.reopen()?;
                }
                _ => return Err(error),
            }
        }
    }

    /// What the keys were unlocked with, if that was this session.
    pub(crate) fn passphrase(&self) -> Option<&SecretText> {
        self.passphrase.as_ref()
    }

    /// Waits until the node's process is gone.
    pub(crate) fn wait_for_end(&self) {
        if let End::Node(client) = &self.end {
            client.wait_for_end();
        }
    }

    fn call_once(&mut self, request: &Request, events: &mut dyn FnMut(Event)) -> Result<Reply> {
        match &mut self.end {
            End::Node(client) => client.call(request, events),
            End::Here(state) => Ok(state.handle(request, &mut |event| {
                events(event);
                true
            })?),
        }
    }

    /// Finds the passphrase and hands it over; `needed` is the error where there is none to be had.
    fn unlock(&mut self, needed: anyhow::Error) -> Result<()> {
        let mut source = passphrase::Source::find(needed)?;
        loop {
            let passphrase = source.next()?;
            let request = Request::Unlock { passphrase: passphrase.clone() };
            match self.call_once(&request, &mut |_| {}) {
                Ok(_) => {
                    self.passphrase = Some(passphrase);
                    return Ok(());
                }
                Err(error) if source.may_try_again() && is_wrong_passphrase(&error) => {
                    eprintln!("jaxfs: that is not the passphrase");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// After the node has left.
    fn reopen(&mut self) -> Result<()> {
        if let End::Node(client) = &self.end {
            client.wait_for_end();
        }
        self.passphrase = None;
        self.end = if self.start { End::Node(Client::connect_or_start(&self.home)?) } else { open(&self.home)? };
        Ok(())
    }
}

fn is_wrong_passphrase(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.kind == FailureKind::WrongPassphrase)
}

/// The node if there is one, else the home under its lock. Neither may be there for a moment, while a node starts or
/// ends or another command is at it.
fn open(home: &Home) -> Result<End> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(client) = Client::connect(home)? {
            return Ok(End::Node(client));
        }
        match home.try_lock()? {
            Ok(lock) => return Ok(End::Here(Arc::new(State::new(home, lock, false)))),
            Err(held) if Instant::now() > deadline => bail!("{}", held.message(home)),
            Err(_) => thread::sleep(STEP),
        }
    }
}
