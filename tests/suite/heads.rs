//! What is shown, where that is not simply the newest version: pins, policies; and how forks are drawn and counted.

use std::fs;
use std::io::Write;

use crate::world::World;

crate::claims! {
    Mount: [
        a_pinned_version_is_shown_and_written_on_and_what_lost_is_kept,
        a_mount_moves_to_what_is_pinned_under_those_who_use_it,
        a_pin_is_refused_where_it_could_not_do_what_it_says,
        while_a_fork_is_live_new_writes_can_be_refused_and_those_that_go_on_are_kept,
        a_fork_is_told_of_in_the_log_from_its_start_to_its_end,
        the_chain_is_drawn_as_text_and_as_a_picture,
        metrics_are_what_a_monitor_reads,
    ],
}

/// A home whose bucket has files `1`, `2`, .. from as many versions, unmounted.
fn versions(count: usize) -> World {
    let world = World::mounted();
    write(&world, 1..=count);
    world.unmount();
    world
}

fn write(world: &World, names: impl Iterator<Item = usize>) {
    for name in names {
        fs::write(world.at(name.to_string()), name.to_string()).unwrap();
        world.sync();
    }
}

fn names(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.dir()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Mounts, does something, and unmounts.
fn while_mounted<T>(world: &World, work: impl FnOnce() -> T) -> T {
    world.mount();
    let done = work();
    world.unmount();
    done
}

/// Two branches: `1 2 3` and, longer and shown, `1 2 4 5`.
fn forked() -> World {
    let world = versions(3);
    world.jaxfs(&["head", "pin", "2"]).ok();
    while_mounted(&world, || write(&world, 4..=5));
    world.jaxfs(&["head", "unpin"]).ok();
    world
}

fn a_pinned_version_is_shown_and_written_on_and_what_lost_is_kept() {
    let world = versions(3);
    let said = world.jaxfs(&["head", "pin", "2"]).ok();
    assert!(said.contains("it is pinned"), "{said}");
    let seen = while_mounted(&world, || {
        let seen = names(&world);
        write(&world, 4..=4);
        seen
    });
    assert_eq!(seen, ["1", "2"]);
    assert_eq!(while_mounted(&world, || names(&world)), ["1", "2", "4"], "the pin moves along, and stays");
    let head = &world.status()["head"];
    assert_eq!((&head["pin"]["cause"], &head["height"]), (&"user".into(), &3.into()));
    while_mounted(&world, || write(&world, 5..=5));
    world.jaxfs(&["head", "unpin"]).ok();
    assert_eq!(while_mounted(&world, || names(&world)), ["1", "2", "4", "5"], "it is the longer one now");
    let lost: Vec<_> = world.log().into_iter().filter(|version| version["canonical"] == false).collect();
    assert_eq!(lost.len(), 1);
    world.jaxfs(&["head", "pin", lost[0]["short"].as_str().unwrap()]).ok();
    assert_eq!(while_mounted(&world, || names(&world)), ["1", "2", "3"], "nothing is lost");
}

fn a_mount_moves_to_what_is_pinned_under_those_who_use_it() {
    let world = World::mounted();
    write(&world, 1..=3);
    fs::write(world.at("1"), "edited").unwrap();
    world.sync();
    let mut open = fs::File::options().read(true).append(true).open(world.at("1")).unwrap();
    // Not published when the mount is told.
    fs::write(world.at("4"), "4").unwrap();
    world.jaxfs(&["head", "pin", "3"]).ok();
    assert_eq!(names(&world), ["1", "2", "3"]);
    assert_eq!(fs::read(world.at("1")).unwrap(), b"1");
    let mut old = String::new();
    std::io::Read::read_to_string(&mut open, &mut old).unwrap();
    assert_eq!(old, "edited", "who has it open goes on with that");
    write(&world, 5..=5);
    assert_eq!(names(&world), ["1", "2", "3", "5"], "the pin moves along");
    world.jaxfs(&["head", "unpin"]).ok();
    assert_eq!(names(&world), ["1", "2", "3", "4"], "what was not published is in the longer chain");
    assert_eq!(fs::read(world.at("1")).unwrap(), b"edited");
    drop(open);
    world.unmount();
}

fn a_pin_is_refused_where_it_could_not_do_what_it_says() {
    let world = versions(2);
    let refused = |args: &[&str]| world.jaxfs(args).refused();
    assert!(refused(&["head", "pin", "nonsense"]).contains("there is no version `nonsense`"));
    assert!(refused(&["head", "pin", "7"]).contains("there is no version `7`"));
    assert!(refused(&["head", "unpin"]).contains("nothing is pinned"));
    assert!(refused(&["head", "adopt"]).contains("nothing is held back"));
    let said = world.jaxfs(&["head", "vote"]).ok();
    assert!(said.contains("1 vote, this device's"), "{said}");
    world.jaxfs(&["gc", "--keep-all", "0", "--keep-hourly", "0", "--keep-daily", "0"]).ok();
    assert!(refused(&["head", "pin", "1"]).contains("the content of version"));
}

fn while_a_fork_is_live_new_writes_can_be_refused_and_those_that_go_on_are_kept() {
    let world = forked();
    world.mount();
    let mut open = fs::File::options().append(true).create(true).open(world.at("open")).unwrap();
    world.sync();
    world.jaxfs(&["head", "policy", "--writes-while-forked", "refuse"]).ok();
    let error = fs::write(world.at("new"), "new").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    for script in ["rm 1", "mkdir d", "mv 1 6", "chmod 600 1", "echo x >> 1", "ln 1 7", "truncate -s 0 1"] {
        assert!(world.try_sh(script).failed().contains("Read-only file system"), "{script}");
    }
    open.write_all(b"goes on").unwrap();
    open.sync_all().unwrap();
    let status = world.status();
    assert!(status["head"]["refusal"].as_str().unwrap().contains("forked"), "{status}");
    let published = world.manifests();
    world.unmount();
    assert_eq!(world.manifests(), published, "it is durable, and not published");
    while_mounted(&world, || {
        assert_eq!(fs::read(world.at("open")).unwrap(), b"goes on");
        world.jaxfs(&["head", "policy", "--writes-while-forked", "allow"]).ok();
        fs::write(world.at("new"), "new").unwrap();
        world.sync();
    });
    assert!(world.manifests() > published);
}

fn a_fork_is_told_of_in_the_log_from_its_start_to_its_end() {
    let mut world = World::new();
    world.set("JAXFS_LOG", "info");
    world.mount();
    write(&world, 1..=3);
    world.unmount();
    world.jaxfs(&["head", "pin", "2"]).ok();
    while_mounted(&world, || write(&world, 4..=5));
    world.jaxfs(&["head", "unpin"]).ok();
    assert_eq!(world.status()["head"]["forks"], 1);
    while_mounted(&world, || write(&world, 6..=15));
    let head = &world.status()["head"];
    assert_eq!((&head["forks"], &head["orphans"], &head["displaced"]), (&0.into(), &1.into(), &1.into()));
    let log = fs::read_to_string(world.home().join("node.log")).unwrap();
    for line in ["canonical head changed", "to another branch", "fork started", "stale tip pruned", "fork resolved"] {
        assert!(log.contains(line), "no `{line}` in {log}");
    }
}

fn the_chain_is_drawn_as_text_and_as_a_picture() {
    let world = forked();
    let graph = world.jaxfs(&["log", "--graph"]).ok();
    let marks: Vec<_> = graph.lines().map(|line| line.split("  ").next().unwrap().trim_end()).collect();
    assert_eq!(&marks[..5], ["*", "*", "| x", "|/", "*"], "{graph}");
    let picture = world.outside("chain.svg");
    world.jaxfs(&["log", "--svg", picture.to_str().unwrap()]).ok();
    let counted = "import sys, xml.etree.ElementTree as x; t = x.parse(sys.argv[1]); \
                   print(len([1 for e in t.iter() if e.tag.endswith('title')]))";
    let said = crate::world::run(world.command("python3").args(["-c", counted, picture.to_str().unwrap()])).ok();
    assert_eq!(said.trim(), world.manifests().to_string());
}

fn metrics_are_what_a_monitor_reads() {
    let world = forked();
    let text = world.jaxfs(&["status", "--metrics"]).ok();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let id = world.status()["id"].as_str().unwrap().to_owned();
    for (name, value) in [("head_height", "4"), ("tips", "2"), ("forked", "1"), ("orphans", "1"), ("pinned", "0")] {
        let line = format!("jaxfs_{name}{{bucket=\"{id}\"}} {value}");
        assert!(text.contains(&line), "no `{line}` in {text}");
    }
}
