//! What the commands print, for people and for programs.

use std::fs;

use serde_json::Value;

use crate::world::World;

crate::claims! {
    Nothing: [
        every_command_has_help_with_an_example,
        completions_and_manual_pages_are_printed,
        status_of_no_home_makes_none,
        buckets_are_made_listed_and_removed,
        a_key_is_exported_and_imported,
        keys_are_put_under_a_passphrase_and_taken_from_it,
    ],
    Mount: [
        status_json_has_its_fields,
        log_json_has_its_fields_and_leads_to_the_genesis,
        sync_names_the_head_that_log_shows,
        verify_counts_what_it_read,
        a_bucket_under_a_passphrase_is_mounted_with_it,
    ],
}

#[track_caller]
fn has(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "`{field}` is not in {value}");
    }
}

fn every_command_has_help_with_an_example() {
    let world = World::new();
    let commands = [
        "",
        "mount",
        "unmount",
        "status",
        "sync",
        "log",
        "head",
        "head pin",
        "head policy",
        "buckets",
        "buckets list",
        "buckets create",
        "buckets remove",
        "key",
        "key show",
        "key export",
        "key import",
        "key passphrase",
        "verify",
        "gc",
        "completions",
        "man",
        "node",
    ];
    for command in commands {
        let mut args: Vec<_> = command.split(' ').filter(|word| !word.is_empty()).collect();
        args.push("--help");
        let help = world.jaxfs(&args).ok();
        assert!(help.contains("Example:\n  jaxfs "), "{command}: {help}");
    }
    assert!(world.jaxfs(&["--version"]).ok().starts_with("jaxfs "));
    assert!(!world.home().exists());
}

fn completions_and_manual_pages_are_printed() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.jaxfs(&["completions", shell]).ok().contains("unmount"), "{shell}");
    }
    assert!(world.jaxfs(&["man"]).ok().contains(".TH jaxfs"));
    let pages = world.outside("man");
    fs::create_dir(&pages).unwrap();
    world.jaxfs(&["man", "--dir", pages.to_str().unwrap()]).ok();
    assert!(pages.join("jaxfs.1").exists() && pages.join("jaxfs-mount.1").exists());
    assert!(!world.home().exists());
}

fn status_of_no_home_makes_none() {
    let world = World::new();
    assert!(world.jaxfs(&["status"]).ok().contains("jaxfs mount DIR"));
    assert_eq!(world.jaxfs(&["status", "--json"]).ok(), "[]\n");
    assert!(!world.home().exists());
}

fn buckets_are_made_listed_and_removed() {
    let world = World::new();
    world.jaxfs(&["buckets", "create", "photos"]).ok();
    world.jaxfs(&["buckets", "create", "Bücher & mehr"]).ok();
    let all: Value = serde_json::from_str(&world.jaxfs(&["buckets", "list", "--json"]).ok()).unwrap();
    let mut names: Vec<_> = all.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["Bücher & mehr", "photos"]);
    has(&all[0], &["id", "name", "mount", "head", "manifests", "blocks", "stored_bytes", "trouble"]);
    assert_eq!(world.jaxfs(&["buckets", "--json"]).ok(), world.jaxfs(&["buckets", "list", "--json"]).ok());
    assert!(world.jaxfs(&["buckets"]).ok().contains("photos"));
    // Without a terminal nothing is deleted unasked.
    world.jaxfs(&["buckets", "remove", "photos"]).refused();
    world.jaxfs(&["buckets", "remove", "--yes", "photos"]).ok();
    assert!(!world.jaxfs(&["buckets"]).ok().contains("photos"));
    world.jaxfs(&["buckets", "create", ""]).refused();
}

fn a_key_is_exported_and_imported() {
    let world = World::new();
    world.jaxfs(&["buckets", "create", "one"]).ok();
    let phrase = world.jaxfs(&["key", "export"]).ok();
    let words = phrase.lines().find(|line| line.split_whitespace().count() == 24).expect("a line of 24 words");
    let owner = world.home_files().into_iter().find(|file| file.ends_with("owner.key")).unwrap();
    let kept = fs::read(&owner).unwrap();
    fs::remove_file(&owner).unwrap();
    world.jaxfs(&["key", "export"]).refused();
    let script = |words: &str| format!("echo '{words}' | \"$JAXFS\" key import");
    world.try_sh(&script(words)).ok();
    assert_eq!(fs::read(&owner).unwrap(), kept);
    world.jaxfs(&["buckets", "create", "two"]).ok();
    world.try_sh(&script(words).replace("import", "import two")).refused();
    assert!(world.jaxfs(&["key"]).ok().lines().next().is_some());
}

fn keys_are_put_under_a_passphrase_and_taken_from_it() {
    let mut world = World::new();
    world.jaxfs(&["buckets", "create", "one"]).ok();
    world.try_sh("echo 'correct horse' | \"$JAXFS\" key passphrase").ok();
    assert!(world.jaxfs(&["status"]).refused().contains("JAXFS_PASSPHRASE"));
    world.set("JAXFS_PASSPHRASE", "battery staple");
    world.jaxfs(&["status"]).refused();
    world.set("JAXFS_PASSPHRASE", "correct horse");
    assert_eq!(world.status()["name"], "one");
    world.jaxfs(&["key", "passphrase", "--remove"]).ok();
    world.set("JAXFS_PASSPHRASE", "");
    assert_eq!(world.status()["name"], "one");
}

fn a_bucket_under_a_passphrase_is_mounted_with_it() {
    let mut world = World::mounted();
    world.sh("echo secret > file");
    world.unmount();
    world.try_sh("echo 'correct horse' | \"$JAXFS\" key passphrase").ok();
    assert!(world.try_mount(&[]).refused().contains("passphrase"));
    assert!(!world.is_mounted());
    world.set("JAXFS_PASSPHRASE", "correct horse");
    world.mount();
    assert_eq!(world.sh("cat file"), "secret\n");
}

fn status_json_has_its_fields() {
    let world = World::mounted();
    fs::write(world.at("file"), b"x").unwrap();
    world.sync();
    let status = world.status();
    has(&status, &["id", "name", "mount", "head", "manifests", "blocks", "stored_bytes", "trouble"]);
    has(&status["mount"], &["dir", "read_only", "unpublished", "dirty_bytes"]);
    has(&status["head"], &["link", "short", "height", "epoch", "tips", "forks", "unpublished"]);
    assert_eq!(status["name"], "Bucket");
    assert_eq!(status["mount"]["dir"].as_str(), world.dir().to_str());
    assert_eq!(status["mount"]["unpublished"], 0);
    assert_eq!(status["mount"]["dirty_bytes"], 0);
    assert_eq!(status["head"]["unpublished"], false);
    assert_eq!(status["trouble"], Value::Null);
    let here: Value = serde_json::from_str(&world.jaxfs_here(&["status", "--json"]).ok()).unwrap();
    assert_eq!(here[0]["id"], status["id"]);
    assert!(world.jaxfs(&["status"]).ok().contains("mounted"));
    world.unmount();
    assert_eq!(world.status()["mount"], Value::Null);
}

fn log_json_has_its_fields_and_leads_to_the_genesis() {
    let world = World::mounted();
    for content in ["one", "two", "three"] {
        fs::write(world.at("file"), content).unwrap();
        world.sync();
    }
    let log = world.log();
    assert!(log.len() >= 4, "{log:?}");
    let fields = ["link", "short", "previous", "height", "epoch", "author", "device", "timestamp", "head", "canonical"];
    log.iter().for_each(|version| has(version, &fields));
    assert_eq!(log[0]["head"], true);
    assert_eq!(log[0]["link"], world.status()["head"]["link"]);
    for pair in log.windows(2) {
        assert_eq!(pair[0]["previous"], pair[1]["link"]);
        assert_eq!(pair[0]["height"].as_u64().unwrap(), pair[1]["height"].as_u64().unwrap() + 1);
        assert_eq!(pair[1]["head"], false);
    }
    let genesis = log.last().unwrap();
    assert_eq!((genesis["height"].as_u64(), &genesis["previous"]), (Some(0), &Value::Null));
    assert_eq!(world.jaxfs_here(&["log"]).ok().lines().count(), log.len());
}

fn sync_names_the_head_that_log_shows() {
    let world = World::mounted();
    fs::write(world.at("file"), b"x").unwrap();
    let said = world.jaxfs_here(&["sync"]).ok();
    assert!(said.contains(world.log()[0]["short"].as_str().unwrap()), "{said}");
}

fn verify_counts_what_it_read() {
    let world = World::mounted();
    world.sh("mkdir -p a/b; echo 1 > a/x; echo 2 > a/b/y; ln a/x z; head -c 300000 /dev/urandom > r");
    world.sync();
    let said = world.jaxfs(&["verify", "Bucket"]).ok();
    assert!(said.contains("is sound") && said.contains("4 files") && said.contains("3 directories"), "{said}");
}
