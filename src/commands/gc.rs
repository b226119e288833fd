//! `jaxfs gc`.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{target, unexpected};
use crate::cli::GcArgs;
use crate::control::protocol::{CollectRequest, CollectedReport, Event, Reply, Request, Target};
use crate::home::Home;
use crate::human::{bytes, grouped, one_line};
use crate::session::Session;

/// Drops what a bucket does not need, or says what that would be.
pub(super) fn run(home: &Home, args: &GcArgs) -> Result<()> {
    let mut session = Session::open(home)?;
    let target = meant(&mut session, args.bucket.as_deref())?;
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
    let request = Request::Collect(CollectRequest {
        target,
        keep_all: seconds(args.keep_all),
        keep_hourly: seconds(args.keep_hourly),
        keep_daily: seconds(args.keep_daily),
        save: args.save,
        dry_run: args.dry_run,
    });
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()); // hidden where that is no terminal
    let reply = session.call_with(&request, &mut |event| {
        if let Event::Progress { done, all } = event {
            draw(&bar, done, all);
        }
    });
    bar.finish_and_clear();
    match reply? {
        Reply::Collected(report) => show(&report, args.json),
        other => unexpected(&other),
    }
}

/// A name or an id; else where it is mounted.
fn meant(session: &mut Session, wanted: Option<&str>) -> Result<Target> {
    let Some(wanted) = wanted else { return Ok(Target::Any) };
    let path = Path::new(wanted);
    if wanted.contains('/') || wanted == "." || wanted == ".." {
        return target(Some(path));
    }
    match session.call(&Request::FindBucket { bucket: Some(wanted.to_owned()) }) {
        Ok(Reply::Bucket(bucket)) => Ok(Target::Bucket(bucket.id)),
        Ok(other) => unexpected(&other),
        Err(_) if path.is_dir() => target(Some(path)),
        Err(error) => Err(error),
    }
}

/// First it is not known how many nodes there are to be read, then it is known of blocks.
fn draw(bar: &ProgressBar, done: u64, all: u64) {
    let template = if all == 0 { "looking for what is needed: {pos}" } else { "{wide_bar} {pos}/{len}" };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_length(all);
    bar.set_position(done);
}

fn show(report: &CollectedReport, json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    let name = one_line(&report.bucket.name);
    if json {
        serde_json::to_writer(&mut out, report)?;
        writeln!(out)?;
    } else {
        for problem in &report.problems {
            writeln!(io::stderr(), "{name}: {}", one_line(problem))?;
        }
        if !report.cancelled || report.blocks > 0 {
            writeln!(out, "{}", line(report))?;
        }
    }
    if report.cancelled {
        bail!("{name}: it was ended before it was done: run it again for the rest");
    }
    if report.full {
        bail!("{name}: the disk is too full to give back all space: free a little of it elsewhere, and run it again");
    }
    Ok(())
}

fn line(report: &CollectedReport) -> String {
    let blocks = format!("{} {}", grouped(report.blocks), if report.blocks == 1 { "block" } else { "blocks" });
    let versions = format!("{} of {} versions", grouped(report.kept), grouped(report.versions));
    let name = one_line(&report.bucket.name);
    if report.dry_run {
        return format!("{name}: would drop {blocks} of {}; would keep {versions}", bytes(report.bytes));
    }
    format!("{name}: dropped {blocks}, {} given back; kept {versions}", bytes(report.freed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::BucketName;

    #[test]
    fn one_line_says_what_came_of_it() {
        let bucket = BucketName { id: "7".into(), name: "docs".into() };
        let mut report = CollectedReport {
            bucket,
            dry_run: false,
            versions: 340,
            kept: 12,
            dropped: 328,
            blocks: 1_234,
            bytes: 60 << 20,
            freed: 59_454_259,
            full: false,
            cancelled: false,
            problems: Vec::new(),
        };
        assert_eq!(line(&report), "docs: dropped 1,234 blocks, 56.7 MiB given back; kept 12 of 340 versions");
        report.dry_run = true;
        assert_eq!(line(&report), "docs: would drop 1,234 blocks of 60.0 MiB; would keep 12 of 340 versions");
    }
}
