//! All cases of pjdfstest, which asks a file system for what POSIX says of the calls on files and directories.
//!
//! Each case passes, or is named in `pjdfstest.expected` with the reason why it does not. What differs from that list,
//! for better or worse, fails.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::world::{Said, World, run};

crate::claims! {
    Nothing: [what_differs_from_the_expected_outcomes_is_told],
    Pjdfstest: [every_case_passes_but_those_that_are_named],
}

const EXPECTED: &str = include_str!("pjdfstest.expected");

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Skipped,
    Failed,
}

/// How each case ended, by name, and what was said of it.
type Outcomes = BTreeMap<String, (Outcome, String)>;

fn every_case_passes_but_those_that_are_named() {
    let world = World::mounted_for_others(",suid,dev");
    all_may_reach(world.dir());
    let mut outcomes = pjdfstest(&world, "", "");
    // Among the others, these find the mount busy: a case before them leaves a file open. On ext4 too.
    let read_only = pjdfstest(&world, "allow_remount = true", "erofs");
    assert!(read_only.keys().all(|name| outcomes.contains_key(name)), "{read_only:?}");
    outcomes.extend(read_only);
    let differences = differences(&outcomes, EXPECTED);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    println!("pjdfstest: {} cases", outcomes.len());
    world.remount();
    world.jaxfs(&["verify"]).ok();
}

/// Runs the cases that contain a word in their names.
#[track_caller]
fn pjdfstest(world: &World, setting: &str, word: &str) -> Outcomes {
    let config = format!(
        "[features]\nposix_fallocate = {{}}\nrename_ctime = {{}}\nutime_now = {{}}\nutimensat = {{}}\n\
         [settings]\nnaptime = 0.01\n{setting}\n\
         [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n"
    );
    fs::write(world.outside("pjdfstest.toml"), config).unwrap();
    let mut command = world.command("pjdfstest");
    command.arg("-c").arg(world.outside("pjdfstest.toml")).arg("-p").arg(world.dir());
    // For what can not go to another file system.
    command.arg("-s").arg(world.outside(""));
    command.env("PATH", with_mount_by_the_kernel(world)).env("NO_COLOR", "1").env("RUST_BACKTRACE", "0");
    outcomes(&run(command.args((!word.is_empty()).then_some(word))))
}

/// A `PATH` where mount(8) remounts without the helper for FUSE file systems, who can only mount.
fn with_mount_by_the_kernel(world: &World) -> String {
    let (folder, path) = (world.outside("bin"), std::env::var("PATH").unwrap());
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("mount"), format!("#!/bin/sh\nPATH='{path}' exec mount -i \"$@\"\n")).unwrap();
    fs::set_permissions(folder.join("mount"), Permissions::from_mode(0o755)).unwrap();
    format!("{}:{path}", folder.display())
}

/// Cases act as other users too, by whole paths.
#[track_caller]
fn all_may_reach(dir: &Path) {
    for folder in dir.ancestors().skip(1) {
        let mode = fs::metadata(folder).unwrap().mode();
        assert!(mode & 0o001 != 0, "other users can not enter {}: set TMPDIR to where they can", folder.display());
    }
}

/// Reads `name    ok` with its like, and the lines indented below.
#[track_caller]
fn outcomes(said: &Said) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut last = None;
    for line in said.out.lines() {
        if let Some(text) = line.strip_prefix('\t') {
            let words = last.as_ref().and_then(|name| outcomes.get_mut(name));
            words.into_iter().for_each(|(_, words): &mut (_, String)| words.push_str(text));
            continue;
        }
        let (name, end) = line.split_once(char::is_whitespace).unwrap_or_default();
        let outcome = match end.trim() {
            "ok" => Outcome::Passed,
            "skipped" => Outcome::Skipped,
            "FAILED" => Outcome::Failed,
            _ => continue,
        };
        let twice = outcomes.insert(name.to_owned(), (outcome, String::new()));
        assert!(twice.is_none(), "two cases are named {name}");
        last = Some(name.to_owned());
    }
    let summary = said.out.lines().rfind(|line| line.starts_with("Summary: "));
    let total = summary.and_then(|line| line.rsplit(", ").next()?.strip_suffix(" total"));
    assert_eq!(total, Some(&*outcomes.len().to_string()), "it did not end, or was not read:\n{}{}", said.out, said.err);
    outcomes
}

/// What is not as the list of expected outcomes has it.
fn differences(outcomes: &Outcomes, list: &str) -> Vec<String> {
    let mut expected = BTreeMap::new();
    let mut differences = Vec::new();
    for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let outcome = match (words.next(), words.next(), words.next()) {
            (Some(name), Some("skipped"), Some(_)) => expected.insert(name, Outcome::Skipped),
            (Some(name), Some("fails"), Some(_)) => expected.insert(name, Outcome::Failed),
            _ => {
                differences.push(format!("no name, `skipped` or `fails`, and reason: {line}"));
                continue;
            }
        };
        differences.extend(outcome.map(|_| format!("named twice: {line}")));
    }
    for (name, (outcome, words)) in outcomes {
        let wanted = expected.remove(name.as_str()).unwrap_or(Outcome::Passed);
        if wanted != *outcome {
            differences.push(format!("{name}: {outcome:?}, expected {wanted:?}: {words}"));
        }
    }
    differences.extend(expected.keys().map(|name| format!("{name}: there is no such case")));
    differences
}

fn what_differs_from_the_expected_outcomes_is_told() {
    let said = |end: &str| {
        format!("a::b                ok\na::b::c        skipped\n\tsome reason\nd::e  FAILED\n\tleft: 1\n{end}")
    };
    let said = Said { status: Default::default(), out: said("\nSummary: 1 failed, 3 total\n"), err: String::new() };
    let outcomes = outcomes(&said);
    assert_eq!(differences(&outcomes, "# all well\n\na::b::c  skipped  why\nd::e  fails  why\n"), [""; 0]);
    let told = |list: &str, what: &str| {
        let differences = differences(&outcomes, list);
        assert!(differences.iter().any(|line| line.contains(what)), "{what}: {differences:?}");
    };
    told("d::e fails why", "a::b::c: Skipped, expected Passed: some reason");
    told("a::b::c skipped why", "d::e: Failed, expected Passed: left: 1");
    told("a::b fails why", "a::b: Passed, expected Failed");
    told("a::b skipped why", "a::b: Passed, expected Skipped");
    told("d::e skipped why", "d::e: Failed, expected Skipped");
    told("x::y skipped why", "x::y: there is no such case");
    told("a::b::c skipped", "no name, `skipped` or `fails`, and reason");
    told("d::e fails why\nd::e fails why", "named twice");
}
