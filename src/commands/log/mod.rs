//! `jaxfs log`.

mod graph;
mod svg;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use graph::Graph;
use jaxfs_sync::link::Link;

use super::{target, unexpected};
use crate::cli::LogArgs;
use crate::control::protocol::{Event, Reply, Request, Target, Version};
use crate::home::Home;
use crate::human::{one_line, utc};
use crate::session::Session;

/// Shows the versions of a bucket, newest first, as they arrive; or draws them all.
pub(super) fn run(home: &Home, args: &LogArgs) -> Result<()> {
    let target = match &args.bucket {
        Some(bucket) => Target::Bucket(bucket.clone()),
        None => target(args.dir.as_deref())?,
    };
    match &args.svg {
        Some(file) => draw(home, target, file),
        None => print(home, target, args),
    }
}

fn print(home: &Home, target: Target, args: &LogArgs) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (mut written, mut graph) = (Ok(()), Graph::default());
    let mut print = |version: &Version| match (args.json, args.graph) {
        (true, _) => json(&mut out, version),
        (_, true) => graph.lines(version).iter().try_for_each(|line| writeln!(out, "{line}")),
        _ => writeln!(out, "{}", line(version)),
    };
    each_version(home, target, &mut |version| {
        if written.is_ok() {
            written = print(&version);
        }
    })?;
    written?;
    Ok(out.flush()?)
}

fn draw(home: &Home, target: Target, file: &Path) -> Result<()> {
    let mut versions = Vec::new();
    each_version(home, target, &mut |version| versions.push(version))?;
    fs::write(file, svg::picture(&versions)).with_context(|| format!("can not write {}", file.display()))
}

fn each_version(home: &Home, target: Target, take: &mut dyn FnMut(Version)) -> Result<()> {
    let mut events = |event: Event| {
        if let Event::Versions(versions) = event {
            versions.into_iter().for_each(&mut *take);
        }
    };
    match Session::open(home)?.call_with(&Request::Log { target }, &mut events)? {
        Reply::Done => Ok(()),
        other => unexpected(&other),
    }
}

fn json(out: &mut impl Write, version: &Version) -> io::Result<()> {
    serde_json::to_writer(&mut *out, version)?;
    writeln!(out)
}

/// Mark, height, link, date, device. The height has room for a million versions.
fn line(version: &Version) -> String {
    let mark = match (version.head, version.canonical) {
        (true, _) => '*',
        (false, true) => '|',
        (false, false) => 'x',
    };
    let date = utc(version.timestamp);
    format!("{mark} {:>6}  {}  {date}  {}", version.height, version.short, one_line(&version.device))
}

/// What there is to say of a version, in a few words each.
fn decorations(version: &Version) -> Vec<String> {
    let carried: Vec<_> = version.reapplied.iter().map(|link| short(link)).collect();
    let said = [
        (version.head, "head".to_owned()),
        (version.pinned, "pinned".to_owned()),
        (version.shown && !version.head && !version.pinned, "shown".to_owned()),
        (version.tip && !version.head, "tip".to_owned()),
        (!carried.is_empty(), format!("carries {}", carried.join(" "))),
        (!version.complete, "content dropped".to_owned()),
    ];
    said.into_iter().filter(|(is_so, _)| *is_so).map(|(_, words)| words).collect()
}

/// A link as [`Version::short`] has it.
fn short(link: &str) -> String {
    link.parse::<Link>().map_or_else(|_| one_line(link), |link| link.short())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(head: bool, canonical: bool) -> Version {
        Version {
            short: "12345678".into(),
            height: 3,
            device: "lap\ntop".into(),
            head,
            canonical,
            complete: true,
            ..Version::default()
        }
    }

    #[test]
    fn head_chain_and_forks_have_their_marks() {
        assert_eq!(line(&version(true, true)), "*      3  12345678  1970-01-01 00:00:00Z  lap; top");
        assert!(line(&version(false, true)).starts_with('|'));
        assert!(line(&version(false, false)).starts_with('x'));
    }

    #[test]
    fn a_version_is_decorated_with_what_there_is_to_say() {
        assert!(decorations(&version(false, true)).is_empty());
        let carries = Version { reapplied: vec!["what".into()], tip: true, ..version(true, true) };
        assert_eq!(decorations(&carries), ["head", "carries what"]);
        let pinned = Version { pinned: true, shown: true, tip: true, complete: false, ..version(false, false) };
        assert_eq!(decorations(&pinned), ["pinned", "tip", "content dropped"]);
    }
}
