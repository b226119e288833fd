//! `jaxfs status`.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::head::because;
use super::{target, unexpected};
use crate::cli::StatusArgs;
use crate::control::peers::SwarmReport;
use crate::control::protocol::{BucketReport, HeadReport, MountReport, Reply, Request, Target};
use crate::home::Home;
use crate::human::{bytes, count, one_line, quoted, table, utc};
use crate::session::Session;

/// How often `--watch` looks.
const REFRESH: Duration = Duration::from_secs(1);
/// Clears a terminal and goes to its first line (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows the state of the buckets, once or until interrupted.
pub(super) fn run(home: &Home, args: &StatusArgs) -> Result<()> {
    let target = target(args.dir.as_deref())?;
    if args.metrics {
        return metrics(home);
    }
    loop {
        let text = render(&ask(home, &target)?, args.json)?;
        let mut out = io::stdout().lock();
        if args.watch && !args.json && out.is_terminal() {
            out.write_all(CLEAR.as_bytes())?;
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
        if !args.watch {
            return Ok(());
        }
        drop(out);
        thread::sleep(REFRESH);
    }
}

fn metrics(home: &Home) -> Result<()> {
    match Session::open(home)?.call(&Request::Metrics)? {
        Reply::Metrics(text) => Ok(io::stdout().lock().write_all(text.as_bytes())?),
        other => unexpected(&other),
    }
}

fn ask(home: &Home, target: &Target) -> Result<Vec<BucketReport>> {
    if !home.exists() && matches!(target, Target::Any) {
        return Ok(Vec::new());
    }
    match Session::open(home)?.call(&Request::Status { target: target.clone() })? {
        Reply::Status(reports) => Ok(reports),
        other => unexpected(&other),
    }
}

fn render(reports: &[BucketReport], json: bool) -> Result<String> {
    if json {
        return Ok(serde_json::to_string(reports)? + "\n");
    }
    if reports.is_empty() {
        return Ok("There is no bucket yet: `jaxfs mount DIR` makes one.\n".to_owned());
    }
    let texts: Vec<_> = reports.iter().map(human).collect();
    Ok(texts.join("\n"))
}

/// A bucket in a few aligned lines.
fn human(report: &BucketReport) -> String {
    let name = report.name.as_deref().map_or_else(|| "(can not be opened)".to_owned(), one_line);
    let mut rows = vec![("id", report.id.clone()), ("mounted", mounted(report.mount.as_ref()))];
    if let Some(head) = &report.head {
        rows.push(("head", format!("{} at height {}, epoch {}", head.short, head.height, head.epoch)));
        if head.link != head.canonical {
            let newest = format!("{} at height {} is not shown", head.canonical_short, head.canonical_height);
            rows.push(("newest", format!("{newest}: {}", because(head))));
        }
        rows.push(("unpublished", unpublished(head, report.mount.as_ref())));
        if head.forks > 0 {
            let since = head.forked_since.map_or_else(String::new, |at| format!(", live since {}", utc(at)));
            let forks = count(head.forks, "fork", "forks");
            rows.push(("forks", format!("{forks}{since}: `jaxfs log --graph` shows them")));
        }
        if head.orphans > head.forks {
            let old = count(head.orphans - head.forks, "chain", "chains");
            rows.push(("lost", format!("{old} that lost for good, kept")));
        }
        if head.displaced > 0 {
            rows.push((
                "displaced",
                count(head.displaced, "chain of this device's that lost", "chains of this device's that lost"),
            ));
        }
        rows.extend(head.hard_forks.iter().map(|line| ("hard fork", one_line(line))));
        if let Some(why) = &head.refusal {
            rows.push(("refused", format!("{why}: `jaxfs head policy` changes that")));
        }
        rows.extend(report.swarm.as_ref().map(|swarm| ("peers", peers(swarm))));
        let (blocks, manifests) =
            (count(report.blocks, "block", "blocks"), count(report.manifests, "version", "versions"));
        rows.push(("space", format!("{} in {blocks}, {manifests}", bytes(report.stored_bytes))));
    }
    if let Some(trouble) = &report.trouble {
        rows.push(("trouble", one_line(trouble)));
    }
    let rows: Vec<_> = rows.into_iter().map(|(key, value)| vec![format!("  {key}"), value]).collect();
    format!("{name}\n{}", table(&rows))
}

/// Who is there, who has everything, and what is still to come.
fn peers(swarm: &SwarmReport) -> String {
    let others = swarm.members.saturating_sub(1);
    let mut text = format!("{} of {others} connected, {} with everything", swarm.connected, swarm.holders);
    if swarm.incomplete > 0 {
        text += &format!("; {} on the way", count(swarm.incomplete, "version", "versions"));
    }
    if swarm.missing > 0 {
        text += &format!("; {} on the way", count(swarm.missing, "block", "blocks"));
    }
    format!("{text}; {} in, {} out", bytes(swarm.received_bytes), bytes(swarm.sent_bytes))
}

fn mounted(mount: Option<&MountReport>) -> String {
    match mount {
        None => "no".to_owned(),
        Some(mount) => {
            let read_only = if mount.read_only { ", read-only" } else { "" };
            format!("at {}{read_only}", quoted(&mount.dir.to_string_lossy()))
        }
    }
}

fn unpublished(head: &HeadReport, mount: Option<&MountReport>) -> String {
    match mount {
        Some(mount) if mount.unpublished > 0 || mount.dirty_bytes > 0 => {
            let files = count(mount.unpublished, "file or directory", "files and directories");
            format!("{files}, {} not on disk yet", bytes(mount.dirty_bytes))
        }
        _ if head.unpublished => "what was saved last".to_owned(),
        _ => "nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn report() -> BucketReport {
        BucketReport {
            id: "0000".into(),
            name: Some("photos\x1b".into()),
            mount: Some(MountReport {
                dir: "/mnt/my photos".into(),
                read_only: true,
                unpublished: 1,
                dirty_bytes: 4096,
            }),
            head: Some(HeadReport {
                link: "b".into(),
                short: "12345678".into(),
                height: 7,
                epoch: 0,
                tips: vec!["b".into(), "c".into()],
                forks: 1,
                forked_since: Some(0),
                canonical: "b".into(),
                orphans: 3,
                displaced: 1,
                ..HeadReport::default()
            }),
            manifests: 8,
            blocks: 1,
            stored_bytes: 2048,
            swarm: None,
            trouble: None,
        }
    }

    #[test]
    fn a_bucket_is_shown_in_aligned_lines() {
        assert_eq!(
            human(&report()),
            "photos?\n  id           0000\n  mounted      at '/mnt/my photos', read-only\n  head         12345678 at height 7, epoch 0\n  \
             unpublished  1 file or directory, 4.0 KiB not on disk yet\n  forks        1 fork, live since 1970-01-01 00:00:00Z: `jaxfs log --graph` shows them\n  \
             lost         2 chains that lost for good, kept\n  displaced    1 chain of this device's that lost\n  \
             space        2.0 KiB in 1 block, 8 versions\n"
        );
    }

    #[test]
    fn what_can_not_be_opened_says_why() {
        let text = human(&BucketReport { id: "0000".into(), trouble: Some("damaged".into()), ..Default::default() });
        assert!(text.contains("(can not be opened)") && text.contains("trouble  damaged"));
    }

    #[test]
    fn json_is_one_array_on_a_line() {
        let text = render(&[report()], true).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value[0]["head"]["height"], 7);
        assert_eq!(value[0]["mount"]["dir"], "/mnt/my photos");
        assert_eq!(text.lines().count(), 1);
    }
}
