//! `jaxfs log`.

use std::io::{self, Write};

use anyhow::Result;

use super::{target, unexpected};
use crate::cli::LogArgs;
use crate::control::protocol::{Event, Reply, Request, Target, Version};
use crate::home::Home;
use crate::human::{one_line, utc};
use crate::session::Session;

/// Shows the versions of a bucket, newest first, as they arrive.
pub(super) fn run(home: &Home, args: &LogArgs) -> Result<()> {
    let target = match &args.bucket {
        Some(bucket) => Target::Bucket(bucket.clone()),
        None => target(args.dir.as_deref())?,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    let mut show = |event: Event| {
        if let (Event::Versions(versions), Ok(())) = (event, &written) {
            written = versions.iter().try_for_each(|version| print(&mut out, version, args.json));
        }
    };
    let reply = Session::open(home)?.call_with(&Request::Log { target }, &mut show)?;
    written?;
    out.flush()?;
    match reply {
        Reply::Done => Ok(()),
        other => unexpected(&other),
    }
}

fn print(out: &mut impl Write, version: &Version, json: bool) -> io::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, version)?;
        return writeln!(out);
    }
    writeln!(out, "{}", line(version))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn version(head: bool, canonical: bool) -> Version {
        Version {
            link: "b".into(),
            short: "12345678".into(),
            previous: None,
            height: 3,
            epoch: 0,
            author: "00".into(),
            device: "lap\ntop".into(),
            timestamp: 0,
            head,
            canonical,
        }
    }

    #[test]
    fn head_chain_and_forks_have_their_marks() {
        assert_eq!(line(&version(true, true)), "*      3  12345678  1970-01-01 00:00:00Z  lap; top");
        assert!(line(&version(false, true)).starts_with('|'));
        assert!(line(&version(false, false)).starts_with('x'));
    }
}
