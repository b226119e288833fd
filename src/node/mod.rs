//! The node: the one process that has a home open, and serves its mounts and its control socket.

mod buckets;
mod head;
mod keys;
mod life;
mod members;
mod metrics;
mod peering;
mod report;
mod state;

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::control::client::{Client, READY};
use crate::control::server::Server;
use crate::home::{Home, HomeLock};
use crate::human::one_line;
pub(crate) use state::State;

/// How long another command may hold the home before a node gives up.
const LOCK: Duration = Duration::from_secs(10);
/// How often it looks: there is no other way to wait for a lock and for a socket at once.
const LOCK_STEP: Duration = Duration::from_millis(10);
/// How long a node that was started waits for the mount that it was started for.
const UNUSED: Duration = Duration::from_secs(15);
/// How long each mount may flush when the node is told to end.
const FLUSH: Duration = Duration::from_secs(60);
/// How long requests that are still worked on may take once the node ends.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// How often the node looks whether there is garbage to be collected.
const GARBAGE_STEP: Duration = Duration::from_secs(60);
/// The nice value for that.
const LOW_PRIORITY: i32 = 10;

/// What kind of node to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// In the foreground until it is told to end.
    Stays,
    /// Started by a mount, in a session of its own; leaves with the last one.
    Spawned,
    /// In the foreground; leaves with the last mount.
    Foreground,
}

/// What a node in the foreground does first.
pub(crate) type First = Box<dyn FnOnce(&Arc<State>) -> Result<()> + Send>;

/// Serves a home until there is no reason to, or a signal says so.
pub(crate) fn run(home: &Home, kind: Kind, first: Option<First>) -> Result<()> {
    say_why_not(kind, home.ensure())?;
    if kind == Kind::Spawned {
        // Fails only where this is a session's leader already.
        let _ = rustix::process::setsid();
    }
    let Some(lock) = say_why_not(kind, take_lock(home))? else {
        if kind == Kind::Spawned {
            return say_ready(); // another one was quicker, and serves as well
        }
        bail!("a node already serves {}: `jaxfs mount` and `jaxfs unmount` use that", home.path().display());
    };
    serve(home, kind, lock, first)
}

/// Serves a home whose lock is held already.
pub(crate) fn serve(home: &Home, kind: Kind, lock: HomeLock, first: Option<First>) -> Result<()> {
    let state = Arc::new(State::new(home, lock, kind != Kind::Stays));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("can not start the node")?;
    let result = runtime.block_on(async {
        let server = say_why_not(kind, Server::listen(home))?;
        if kind == Kind::Spawned {
            say_ready()?;
        }
        tracing::info!(pid = std::process::id(), "the node is ready");
        collect_garbage(&state)?;
        if kind == Kind::Stays {
            let state = Arc::clone(&state);
            tokio::task::spawn_blocking(move || state.go_online());
        }
        let ended = attend(&server, &state, kind, first).await;
        tracing::info!("the node ends");
        ended
    });
    state.go_offline();
    runtime.shutdown_timeout(LAST_REQUESTS);
    result
}

/// Starts the thread that collects garbage without being asked, at low priority, for as long as the state lives.
fn collect_garbage(state: &Arc<State>) -> Result<()> {
    let state = Arc::downgrade(state);
    let work = move || {
        // On Linux, this is the priority of the thread.
        let _ = rustix::process::setpriority_process(None, LOW_PRIORITY);
        loop {
            thread::sleep(GARBAGE_STEP);
            let Some(state) = state.upgrade() else { return };
            state.collect_what_is_due();
        }
    };
    thread::Builder::new().name("garbage".to_owned()).spawn(work).context("can not start a thread")?;
    Ok(())
}

/// Answers until it is time to end; then everything is unmounted.
async fn attend(server: &Server, state: &Arc<State>, kind: Kind, first: Option<First>) -> Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let begin = async {
        if let Some(first) = first {
            // Counted, so that the node does not leave before it is done.
            let work = state.life().begin();
            let worker = state.clone();
            let done = tokio::task::spawn_blocking(move || first(&worker)).await;
            done.map_err(|_| anyhow!("the mount failed"))??;
            drop(work);
        } else if kind == Kind::Spawned {
            tokio::time::sleep(UNUSED).await;
            state.life().leave_if_unused();
        }
        std::future::pending::<Result<()>>().await
    };
    tokio::select! {
        () = server.run(state) => Ok(()),
        () = state.life().left() => Ok(()),
        failed = begin => failed,
        _ = term.recv() => end(state, &mut term, &mut interrupt).await,
        _ = interrupt.recv() => end(state, &mut term, &mut interrupt).await,
    }
}

/// Unmounts everything; a second signal does not wait for that.
async fn end(
    state: &Arc<State>,
    term: &mut tokio::signal::unix::Signal,
    interrupt: &mut tokio::signal::unix::Signal,
) -> Result<()> {
    tracing::info!("unmounting everything");
    let worker = state.clone();
    let unmounted = tokio::task::spawn_blocking(move || worker.unmount_all(FLUSH));
    tokio::select! {
        done = unmounted => done.map_err(|_| anyhow!("the node failed while it was unmounting"))?,
        _ = term.recv() => bail!("interrupted while unmounting: what is mounted is dead now"),
        _ = interrupt.recv() => bail!("interrupted while unmounting: what is mounted is dead now"),
    }
}

/// The home's lock; `None` if a node that answers has it.
fn take_lock(home: &Home) -> Result<Option<HomeLock>> {
    let deadline = Instant::now() + LOCK;
    loop {
        match home.try_lock()? {
            Ok(lock) => return Ok(Some(lock)),
            Err(_) if Client::connect(home)?.is_some() => return Ok(None),
            Err(held) if Instant::now() > deadline => bail!("{}", held.message(home)),
            Err(_) => thread::sleep(LOCK_STEP),
        }
    }
}

/// Tells who started this node why it does not listen: a full disk has no room for it in the log.
fn say_why_not<T>(kind: Kind, result: Result<T>) -> Result<T> {
    result.inspect_err(|error| {
        if kind == Kind::Spawned {
            let line = format!("{}\n", one_line(&format!("{error:#}")));
            // Who does not listen any more finds it in the log.
            let _ = std::io::stdout().write_all(line.as_bytes());
        }
    })
}

/// Tells who started this node that it listens, and closes that pipe.
fn say_ready() -> Result<()> {
    let mut output = std::io::stdout();
    output.write_all(READY.as_bytes())?;
    output.flush()?;
    rustix::stdio::dup2_stdout(std::io::stderr()).context("can not close the standard output")?;
    Ok(())
}
