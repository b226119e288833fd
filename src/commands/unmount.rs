//! `jaxfs unmount`.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::unexpected;
use crate::cli::UnmountArgs;
use crate::control::protocol::{Failure, FailureKind, Reply, Request, UnmountedReport};
use crate::home::Home;
use crate::mountpoint;
use crate::session::Session;

/// Unmounts: through the node, or by detaching what a dead one left.
pub(super) fn run(home: &Home, args: &UnmountArgs) -> Result<()> {
    let shown = args.dir.display();
    let dir = mountpoint::resolve(&args.dir).with_context(|| format!("can not unmount {shown}"))?;
    let asked = if mountpoint::is_stale(&dir) { None } else { ask(home, &dir, args)? };
    let Some(report) = asked else { return without_node(&dir) };
    if report.busy {
        writeln!(io::stderr(), "jaxfs: {shown} was in use; it is detached, and what was written is published")?;
    }
    Ok(())
}

/// The node's report; `None` if nothing of this home is mounted there. Returns when the node is gone, if it goes.
fn ask(home: &Home, dir: &Path, args: &UnmountArgs) -> Result<Option<UnmountedReport>> {
    if !home.exists() {
        return Ok(None);
    }
    let mut session = Session::open(home)?;
    match session.call(&Request::Unmount { dir: dir.to_owned(), seconds: args.timeout, force: args.force }) {
        Ok(Reply::Unmounted(report)) => {
            if report.leaving {
                session.wait_for_end();
            }
            Ok(Some(report))
        }
        Ok(other) => unexpected(&other),
        Err(error) if error.downcast_ref::<Failure>().is_some_and(|f| f.kind == FailureKind::NotMounted) => Ok(None),
        Err(error) => Err(error),
    }
}

fn without_node(dir: &Path) -> Result<()> {
    let shown = dir.display();
    match mountpoint::mounted_at(dir)? {
        Some(mount) if mount.is_jaxfs() && mountpoint::is_stale(dir) => {
            mountpoint::detach(dir)?;
            writeln!(io::stderr(), "jaxfs: the node of {shown} was gone; detached its dead mount")?;
            Ok(())
        }
        Some(mount) if mount.is_jaxfs() => {
            bail!("{shown} is mounted from another home: set JAXFS_HOME to that, or run `umount {shown}`")
        }
        Some(mount) => bail!("{shown} is not a mount of jaxfs but {}: use `umount {shown}`", mount.fs_type),
        None => bail!("nothing is mounted at {shown}: `jaxfs status` shows what is"),
    }
}
