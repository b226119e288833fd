//! `jaxfs mount`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::unexpected;
use crate::cli::MountArgs;
use crate::control::protocol::{Failure, MountRequest, MountSettings, MountedReport, Reply, Request};
use crate::home::Home;
use crate::human::{one_line, quoted};
use crate::mountpoint;
use crate::node::{self, Kind};
use crate::options::{self, User};
use crate::session::Session;

/// How long a mount in the foreground may flush when it is interrupted, in seconds.
const FLUSH_SECONDS: u64 = 60;

/// Mounts. What is wrong with the directory or the system is found before a node, a key or a bucket is made.
pub(super) fn run(home: &Home, args: &MountArgs) -> Result<()> {
    let user = User { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() };
    let settings = options::settings(args, user)?;
    let dir = mountpoint::prepare(&args.dir, &mut |notice| eprintln!("jaxfs: {notice}"))?;
    mountpoint::check_fuse()?;
    let request = MountRequest { dir, bucket: args.bucket.clone(), settings };
    if args.foreground {
        return foreground(home, request);
    }
    let mut session = Session::start(home)?;
    super::peers::set_relay(&mut session, &args.relay)?;
    let result = mount(home, &mut session, &request);
    if result.is_err() {
        // A node without a mount leaves; the next command need not wait for that.
        drop(session);
    }
    result
}

/// Mounts a bucket that is known by its id.
pub(super) fn mount_bucket(
    home: &Home,
    session: &mut Session,
    dir: PathBuf,
    id: &str,
    settings: MountSettings,
) -> Result<()> {
    mount(home, session, &MountRequest { dir, bucket: Some(id.to_owned()), settings })
}

fn mount(home: &Home, session: &mut Session, request: &MountRequest) -> Result<()> {
    match session.call(&Request::Mount(request.clone()))? {
        Reply::Mounted(report) => Ok(show(home, &request.dir, &report)?),
        other => unexpected(&other),
    }
}

/// One line; three when this was the first time ever, or a bucket was made.
fn show(home: &Home, dir: &Path, report: &MountedReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (name, at) = (one_line(&report.bucket.name), quoted(&dir.to_string_lossy()));
    if !report.made_bucket {
        return writeln!(out, "{name} is mounted at {at}");
    }
    let made = if report.made_key { "Made a device key and the encrypted bucket" } else { "Made the encrypted bucket" };
    writeln!(out, "{made} {name}, kept in {}.", home.path().display())?;
    writeln!(out, "It is mounted at {at}: put files there as in any directory.")?;
    writeln!(out, "Next: `jaxfs key export` prints the words that restore its key; `jaxfs unmount {at}` unmounts it.")
}

/// Mounts, and stays until the mount is gone: as the node itself, or beside the one that runs.
fn foreground(home: &Home, request: MountRequest) -> Result<()> {
    home.ensure()?;
    if let Ok(lock) = home.try_lock()? {
        let served = home.clone();
        let first =
            move |state: &Arc<node::State>| mount(&served, &mut Session::here(&served, state.clone()), &request);
        return node::serve(home, Kind::Foreground, lock, Some(Box::new(first)));
    }
    let mut session = Session::start(home)?;
    mount(home, &mut session, &request)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(wait_or_unmount(home, request, session));
    runtime.shutdown_background(); // a thread may still wait for the mount's end
    result
}

/// Waits until the mount is gone; a signal unmounts it.
async fn wait_or_unmount(home: &Home, request: MountRequest, mut session: Session) -> Result<()> {
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let dir = request.dir.clone();
    let gone = tokio::task::spawn_blocking(move || match session.call(&Request::Wait { dir }) {
        Err(error) if error.is::<Failure>() => Ok(()), // it was gone, or its node, before this was asked
        other => other.map(|_| ()),
    });
    tokio::select! {
        done = gone => return done.context("the wait was broken off")?,
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    let request = Request::Unmount { dir: request.dir, seconds: FLUSH_SECONDS, force: false };
    let home = home.clone();
    tokio::task::spawn_blocking(move || Session::open(&home)?.call(&request).map(|_| ()))
        .await
        .context("the unmount was broken off")?
}
