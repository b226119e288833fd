//! One file for each command or kind of command: ask the home, show what it says.

mod buckets;
mod docs;
mod gc;
mod head;
mod key;
mod log;
mod mount;
mod peers;
mod status;
mod sync;
mod unmount;
mod verify;

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::cli::Command;
use crate::control::protocol::{Reply, Target};
use crate::home::Home;
use crate::mountpoint;
use crate::node::{self, Kind};

/// Does what was typed.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Completions(args) => return docs::completions(&args),
        Command::Man(args) => return docs::man(&args),
        _ => {}
    }
    let home = Home::locate()?;
    match command {
        Command::Mount(args) => mount::run(&home, &args),
        Command::Unmount(args) => unmount::run(&home, &args),
        Command::Status(args) => status::run(&home, &args),
        Command::Sync(args) => sync::run(&home, &args),
        Command::Log(args) => log::run(&home, &args),
        Command::Head(args) => head::run(&home, &args),
        Command::Share(args) => peers::share(&home, &args),
        Command::Join(args) => peers::join(&home, &args),
        Command::Members(args) => peers::members(&home, args),
        Command::Peers(args) => peers::peers(&home, &args),
        Command::Network(args) => peers::network(&home, &args),
        Command::Buckets(args) => buckets::run(&home, args),
        Command::Key(args) => key::run(&home, args.action),
        Command::Verify(args) => verify::run(&home, &args),
        Command::Gc(args) => gc::run(&home, &args),
        Command::Node(args) => node::run(&home, if args.spawned { Kind::Spawned } else { Kind::Stays }, None),
        Command::Completions(_) | Command::Man(_) => Ok(()),
    }
}

/// What a command with an optional directory is about.
fn target(dir: Option<&Path>) -> Result<Target> {
    let Some(dir) = dir else { return Ok(Target::Any) };
    let resolved = mountpoint::resolve(dir).with_context(|| format!("can not use {}", dir.display()))?;
    Ok(Target::Dir(resolved))
}

/// An answer to another question: a node of another version, which says the same number.
fn unexpected<T>(reply: &Reply) -> Result<T> {
    tracing::debug!(?reply, "unexpected");
    bail!("the node answered another question: unmount everything, and try again")
}
