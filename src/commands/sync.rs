//! `jaxfs sync`.

use std::io::{self, Write};

use anyhow::Result;

use super::{target, unexpected};
use crate::cli::SyncArgs;
use crate::control::protocol::{Reply, Request};
use crate::home::Home;
use crate::human::one_line;
use crate::session::Session;

/// Waits until everything written so far is published.
pub(super) fn run(home: &Home, args: &SyncArgs) -> Result<()> {
    let target = target(args.dir.as_deref())?;
    let mut out = io::stdout().lock();
    match Session::open(home)?.call(&Request::Sync { target, holders: args.published, seconds: args.timeout })? {
        Reply::Synced(synced) if synced.is_empty() => writeln!(out, "nothing is mounted, and everything is published")?,
        Reply::Synced(synced) => {
            for bucket in synced {
                writeln!(out, "{} is published up to {}", one_line(&bucket.name), bucket.head)?;
            }
        }
        other => return unexpected(&other),
    }
    Ok(())
}
