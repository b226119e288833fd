//! `jaxfs buckets`.

use std::io::{self, IsTerminal, Write};

use anyhow::{Result, ensure};

use super::unexpected;
use crate::cli::{BucketsAction, BucketsArgs};
use crate::control::protocol::{BucketName, BucketReport, Reply, Request};
use crate::home::Home;
use crate::human::{bytes, one_line, quoted, table};
use crate::session::Session;

/// Lists, makes or removes buckets.
pub(super) fn run(home: &Home, args: BucketsArgs) -> Result<()> {
    match args.action {
        None => list(home, args.json),
        Some(BucketsAction::List { json }) => list(home, json),
        Some(BucketsAction::Create { name }) => create(home, name),
        Some(BucketsAction::Remove { bucket, yes }) => remove(home, bucket, yes),
    }
}

fn list(home: &Home, json: bool) -> Result<()> {
    let buckets = match home.exists() {
        false => Vec::new(),
        true => match Session::open(home)?.call(&Request::Buckets)? {
            Reply::Buckets(buckets) => buckets,
            other => return unexpected(&other),
        },
    };
    let mut out = io::stdout().lock();
    if json {
        return Ok(writeln!(out, "{}", serde_json::to_string(&buckets)?)?);
    }
    if buckets.is_empty() {
        return Ok(writeln!(
            out,
            "There is no bucket yet: `jaxfs mount DIR` or `jaxfs buckets create NAME` makes one."
        )?);
    }
    Ok(out.write_all(table(&buckets.iter().map(row).collect::<Vec<_>>()).as_bytes())?)
}

fn row(bucket: &BucketReport) -> Vec<String> {
    let name = bucket.name.as_deref().map_or_else(|| "(can not be opened)".to_owned(), one_line);
    let mount = bucket.mount.as_ref().map(|mount| quoted(&mount.dir.to_string_lossy())).unwrap_or_default();
    vec![name, bucket.id.clone(), bytes(bucket.stored_bytes), mount]
}

fn create(home: &Home, name: String) -> Result<()> {
    match Session::open(home)?.call(&Request::CreateBucket { name })? {
        Reply::Bucket(bucket) => {
            let name = one_line(&bucket.name);
            let mut out = io::stdout().lock();
            Ok(writeln!(
                out,
                "Made the bucket {name} ({}): `jaxfs mount DIR --bucket {}` mounts it.",
                bucket.id,
                quoted(&name)
            )?)
        }
        other => unexpected(&other),
    }
}

fn remove(home: &Home, bucket: String, yes: bool) -> Result<()> {
    let mut session = Session::open(home)?;
    let found = match session.call(&Request::FindBucket { bucket: Some(bucket) })? {
        Reply::Bucket(found) => found,
        other => return unexpected(&other),
    };
    if !yes {
        confirm(&found)?;
    }
    match session.call(&Request::RemoveBucket { id: found.id.clone() })? {
        Reply::Done => Ok(writeln!(io::stdout(), "Removed the bucket {} ({}).", one_line(&found.name), found.id)?),
        other => unexpected(&other),
    }
}

/// Lets a person type the bucket's name.
fn confirm(bucket: &BucketName) -> Result<()> {
    let name = one_line(&bucket.name);
    if io::stdin().is_terminal() {
        let mut out = io::stderr().lock();
        writeln!(out, "This deletes all data and keys of {name} ({}) from this machine, for ever.", bucket.id)?;
        write!(out, "Type its name to go on: ")?;
        out.flush()?;
    }
    let mut typed = String::new();
    io::stdin().read_line(&mut typed)?;
    ensure!(
        typed.trim_end_matches(['\n', '\r']) == name,
        "that is not its name: nothing was removed (`--yes` does not ask)"
    );
    Ok(())
}
