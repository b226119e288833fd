//! The house's order, read off its sources: who may use whom, what has no place anywhere, how long a file may be.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of one file. Longer ones hold more than one thing.
const FILE_LINES: usize = 700;

/// The floors of the sync crate, top down. Each uses what stands to its right, and itself.
const SYNC_FLOORS: &[(&str, &[&str])] = &[
    ("net", &["publish", "chain", "tree", "store", "bucket", "crypto", "link"]),
    ("publish", &["chain", "tree", "store", "bucket", "crypto", "link"]),
    ("chain", &["tree", "store", "bucket", "crypto", "link"]),
    ("tree", &["store", "bucket", "crypto", "link"]),
    ("store", &["crypto", "link"]),
    ("bucket", &["crypto", "link"]),
    ("crypto", &["link"]),
    ("link", &[]),
];

/// Usable from every floor.
const EVERYWHERE: &[&str] = &["limits"];

/// A source file: its path from the root of the repository, and its text.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Its lines with their numbers, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines.map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Its lines that contain `what`, as `path:line: text`.
    fn lines_with(&self, what: &str) -> Vec<String> {
        let found = self.code().filter(|(_, line)| line.contains(what));
        found.map(|(number, line)| format!("{}:{number}: {}", self.path.display(), line.trim())).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below the given folders, sorted.
fn sources(folders: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    let mut open: Vec<_> = folders.iter().map(|folder| root().join(folder)).filter(|folder| folder.is_dir()).collect();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        Source { path: path.strip_prefix(root()).unwrap().to_owned(), text }
    };
    paths.into_iter().map(read).collect()
}

fn all_sources() -> Vec<Source> {
    sources(&["src", "mount", "sync", "sim", "tests", "bench", "fuzz"])
}

/// Names that follow `crate::`, in `crate::a::b` and in `crate::{a::b, c}` alike, each with its line.
fn crate_names(source: &Source) -> Vec<(usize, String)> {
    let code: Vec<_> = source.code().collect();
    let mut names = Vec::new();
    for (at, (number, line)) in code.iter().enumerate() {
        for (found, _) in line.match_indices("crate::") {
            if line[..found].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &line[found + "crate::".len()..];
            if rest.starts_with('{') {
                // A list may go on for some lines.
                let list: Vec<_> = std::iter::once(rest).chain(code[at + 1..].iter().map(|(_, line)| *line)).collect();
                names.extend(heads_of_list(&list.join(" ")).into_iter().map(|name| (*number, name)));
            } else {
                names.push((*number, word(rest)));
            }
        }
    }
    names
}

/// The first word of each item in `{a::b, c::{d, e}, f}...`.
fn heads_of_list(text: &str) -> Vec<String> {
    let (mut depth, mut heads, mut fresh) = (0, Vec::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            '{' => {
                depth += 1;
                fresh = depth == 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            ',' if depth == 1 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                heads.push(word(&text[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The module of the sync crate that a file belongs to; `None` for the crate's root.
fn sync_module(path: &Path) -> Option<String> {
    let inside = path.strip_prefix("sync/src").ok()?;
    let first = inside.iter().next()?.to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "lib").then(|| name.to_owned())
}

fn none(title: &str, found: &[String]) {
    assert!(found.is_empty(), "{title}:\n{}", found.join("\n"));
}

#[test]
fn each_floor_of_sync_uses_only_what_stands_below_it() {
    let mut wrong = Vec::new();
    for source in sources(&["sync/src"]) {
        let Some(module) = sync_module(&source.path).filter(|name| !EVERYWHERE.contains(&name.as_str())) else {
            continue;
        };
        let place = source.path.display();
        let Some((_, below)) = SYNC_FLOORS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{place}: `{module}` has no floor: give it one in tests/floors.rs"));
            continue;
        };
        for (number, name) in crate_names(&source) {
            let allowed = name == module || below.contains(&name.as_str()) || EVERYWHERE.contains(&name.as_str());
            if !allowed {
                wrong.push(format!("{place}:{number}: `{module}` uses `crate::{name}`"));
            }
        }
    }
    none("floors", &wrong);
}

#[test]
fn the_floors_have_no_circle() {
    let mut above = BTreeSet::new();
    for (module, below) in SYNC_FLOORS {
        above.insert(*module);
        assert!(below.iter().all(|name| !above.contains(name)), "`{module}` uses what stands above it");
    }
}

#[test]
fn the_mount_can_not_name_a_peer() {
    let mount = sources(&["mount"]);
    none("peers in mount", &mount.iter().flat_map(|source| source.lines_with("jaxfs_sync::net")).collect::<Vec<_>>());
    none("peers in mount", &mount.iter().flat_map(|source| source.lines_with("iroh")).collect::<Vec<_>>());
    let manifest = fs::read_to_string(root().join("mount/Cargo.toml")).unwrap();
    assert!(!manifest.contains("\"net\"") && !manifest.contains("iroh"), "mount/Cargo.toml asks for the network");
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let sync = workspace.lines().find(|line| line.starts_with("jaxfs-sync = ")).unwrap();
    assert!(sync.contains("default-features = false"), "mount would get sync's default features: {sync}");
}

#[test]
fn sync_knows_nothing_of_mounts_nor_of_the_program() {
    let sync = sources(&["sync"]);
    for name in ["jaxfs_mount", "fuser"] {
        none("floors", &sync.iter().flat_map(|source| source.lines_with(name)).collect::<Vec<_>>());
    }
}

#[test]
fn the_simulation_is_nobodys_dependency_and_has_no_clock_but_its_own() {
    for manifest in ["Cargo.toml", "mount/Cargo.toml", "sync/Cargo.toml"] {
        assert!(
            !fs::read_to_string(root().join(manifest)).unwrap().contains("jaxfs-sim ="),
            "{manifest} has jaxfs-sim"
        );
    }
    let mut worlds = sources(&["sim/src"]);
    // What measures how long all of it takes is no part of a world.
    worlds.retain(|source| !["main.rs", "run.rs", "scale.rs"].iter().any(|file| source.path.ends_with(file)));
    for what in ["SystemTime", "HashMap", "HashSet", "thread_rng", "getrandom"] {
        none(what, &worlds.iter().flat_map(|source| source.lines_with(what)).collect::<Vec<_>>());
    }
}

#[test]
fn errors_without_a_type_are_in_the_program_only() {
    let libraries = sources(&["mount", "sync", "sim"]);
    none("anyhow", &libraries.iter().flat_map(|source| source.lines_with("anyhow")).collect::<Vec<_>>());
    for manifest in ["mount/Cargo.toml", "sync/Cargo.toml", "sim/Cargo.toml"] {
        assert!(!fs::read_to_string(root().join(manifest)).unwrap().contains("anyhow"), "{manifest} has anyhow");
    }
}

#[test]
fn nothing_is_left_to_be_done_and_no_test_is_switched_off() {
    // In two pieces each, so that this file does not find itself.
    let banned =
        [("to", "do!("), ("unimple", "mented!("), ("#[ig", "nore"), ("db", "g!("), ("FIX", "ME"), ("XX", "X:")];
    for (a, b) in banned {
        let what = format!("{a}{b}");
        none(&what, &all_sources().iter().flat_map(|source| source.lines_with(&what)).collect::<Vec<_>>());
    }
}

#[test]
fn files_are_short() {
    let long = all_sources().into_iter().filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > FILE_LINES).then(|| format!("{}: {lines} lines, at most {FILE_LINES}", source.path.display()))
    });
    none("long files", &long.collect::<Vec<_>>());
}

#[test]
fn every_file_says_what_it_is() {
    // A module of unit tests is told by the module beside it.
    let sources = all_sources().into_iter().filter(|source| !source.path.to_string_lossy().ends_with("tests.rs"));
    let silent = sources.filter(|source| !source.text.starts_with("//!"));
    none("no `//!` at the top", &silent.map(|source| source.path.display().to_string()).collect::<Vec<_>>());
}

#[test]
fn no_source_names_a_path_of_the_machine_that_it_was_written_on() {
    // The folder that holds this clone, if its name is long enough to mean something.
    let here = root().to_str().unwrap().to_owned();
    let mut paths = vec![format!("/{}", "work/"), format!("/{}", "root/.")];
    paths.extend(Some(here).filter(|here| here.matches('/').count() > 1));
    for path in paths {
        let found = all_sources().into_iter().flat_map(|source| {
            let lines = source.text.lines().enumerate().filter(|(_, line)| line.contains(&path));
            lines.map(|(at, _)| format!("{}:{}", source.path.display(), at + 1)).collect::<Vec<_>>()
        });
        none(&format!("{path} in a source"), &found.collect::<Vec<_>>());
    }
}

#[test]
fn the_readme_gives_the_two_commands_that_do_everything() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    for command in ["cargo run --release -- mount ~/Bucket", "cargo test --workspace"] {
        assert!(readme.contains(command), "README.md does not say `{command}`");
    }
}

#[test]
fn names_after_crate_are_found_in_lists_and_alone() {
    let text = "use crate::link::Link;\nuse crate::{a::b, c::{d, e},\n  f};\n// crate::no\nlet x = other_crate::no + crate::y();";
    let source = Source { path: PathBuf::new(), text: text.to_owned() };
    let names: Vec<_> = crate_names(&source).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["link", "a", "c", "f", "y"]);
}
