//! `jaxfs verify`.

use std::io::{self, Write};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::unexpected;
use crate::cli::VerifyArgs;
use crate::control::protocol::{BucketName, Event, Reply, Request, VerifiedReport};
use crate::home::Home;
use crate::human::{bytes, count, one_line};
use crate::session::Session;

/// Reads everything in the buckets that are meant; an error if something is hurt.
pub(super) fn run(home: &Home, args: &VerifyArgs) -> Result<()> {
    let mut session = Session::open(home)?;
    let mut hurt = Vec::new();
    for bucket in buckets(&mut session, args.bucket.as_deref())? {
        let name = one_line(&bucket.name);
        match verify(&mut session, &bucket, args.repair) {
            Ok(report) if show(&report)? => hurt.push(name),
            Ok(_) => {}
            Err(error) => {
                writeln!(io::stderr(), "{name}: {}", one_line(&format!("{error:#}")))?;
                hurt.push(name);
            }
        }
    }
    if !hurt.is_empty() {
        bail!(
            "hurt: {}: {}",
            hurt.join(", "),
            if args.repair {
                "copy what can still be read to a new bucket, or put the home back from a backup"
            } else {
                "unmount it, and `jaxfs verify --repair` takes out what is damaged, and mends what can be mended"
            }
        );
    }
    Ok(())
}

fn buckets(session: &mut Session, wanted: Option<&str>) -> Result<Vec<BucketName>> {
    if let Some(wanted) = wanted {
        return match session.call(&Request::FindBucket { bucket: Some(wanted.to_owned()) })? {
            Reply::Bucket(bucket) => Ok(vec![bucket]),
            other => unexpected(&other),
        };
    }
    match session.call(&Request::Buckets)? {
        Reply::Buckets(buckets) => {
            let named =
                buckets.into_iter().map(|b| BucketName { name: b.name.unwrap_or_else(|| b.id.clone()), id: b.id });
            Ok(named.collect())
        }
        other => unexpected(&other),
    }
}

fn verify(session: &mut Session, bucket: &BucketName, repair: bool) -> Result<VerifiedReport> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()); // hidden where that is no terminal
    bar.set_style(ProgressStyle::with_template("{prefix} {wide_bar} {bytes}/{total_bytes} {eta}")?);
    bar.set_prefix(one_line(&bucket.name));
    let request = Request::Verify { id: bucket.id.clone(), repair };
    let reply = session.call_with(&request, &mut |event| {
        if let Event::Progress { done, all } = event {
            bar.set_length(all);
            bar.set_position(done);
        }
    });
    bar.finish_and_clear();
    match reply? {
        Reply::Verified(report) => Ok(report),
        other => unexpected(&other),
    }
}

/// True if something is hurt.
fn show(report: &VerifiedReport) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let name = one_line(&report.bucket.name);
    if let Some(repaired) = &report.repaired {
        let (blocks, manifests) =
            (count(repaired.blocks, "block", "blocks"), count(repaired.manifests, "version", "versions"));
        let lost = match repaired.lost_bytes {
            0 => String::new(),
            lost => format!("; {} were of no use", bytes(lost)),
        };
        writeln!(out, "{name} has a new index, of {manifests} and {blocks}{lost}")?;
    }
    for problem in &report.problems {
        writeln!(out, "{name}: {}", one_line(problem))?;
    }
    let more = report.problem_count.saturating_sub(report.problems.len() as u64);
    if more > 0 {
        writeln!(out, "{name}: and {more} more")?;
    }
    let verdict = match report.problem_count {
        0 => "is sound".to_owned(),
        number => format!("has {}", count(number, "problem", "problems")),
    };
    let (files, directories) =
        (count(report.files, "file", "files"), count(report.directories, "directory", "directories"));
    let (blocks, manifests) = (count(report.blocks, "block", "blocks"), count(report.manifests, "version", "versions"));
    writeln!(out, "{name} {verdict}: {files}, {directories}, {manifests}, {blocks}, {}", bytes(report.bytes))?;
    Ok(report.problem_count > 0)
}
