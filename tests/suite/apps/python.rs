//! Python's library: what many programs keep their data with.

use crate::apps::python_with;
use crate::walk::{describe, same};
use crate::world::World;

crate::claims! {
    Mount: [
        shelves_of_every_kind_are_kept,
        mail_is_delivered_by_many_at_once,
        an_archive_is_added_to_and_read_through_a_map,
        pickles_and_a_map_that_grows_are_kept,
        temporary_files_come_and_go,
        lines_of_eight_processes_are_all_in_the_log,
    ],
}

const LIBRARY: &str = include_str!("../scripts/library.py");

/// Makes something with a Python that has a module, and looks at it, now and in the next mount.
#[track_caller]
fn is_kept(what: &str, module: &str) {
    let world = World::mounted();
    let python = python_with(&world, module);
    world.script_of(python, LIBRARY, &["make", what]);
    world.script_of(python, LIBRARY, &["check", what]);
    let before = describe(world.dir());
    world.remount();
    same(&before, &describe(world.dir()));
    world.script_of(python, LIBRARY, &["check", what]);
}

fn shelves_of_every_kind_are_kept() {
    is_kept("dbm", "dbm.gnu");
}

fn mail_is_delivered_by_many_at_once() {
    is_kept("mail", "mailbox");
}

fn an_archive_is_added_to_and_read_through_a_map() {
    is_kept("zip", "zipfile");
}

fn pickles_and_a_map_that_grows_are_kept() {
    is_kept("pickle", "mmap");
}

fn temporary_files_come_and_go() {
    let world = World::mounted();
    world.script(LIBRARY, &["temporary"]);
    world.remount();
    assert_eq!(world.sh("ls -A"), "");
    world.jaxfs(&["verify"]).ok();
}

fn lines_of_eight_processes_are_all_in_the_log() {
    let world = World::mounted();
    let sum = world.script(LIBRARY, &["append", "8", "70"]);
    world.remount();
    assert_eq!(world.sh("sha256sum < log | cut -d ' ' -f 1"), sum);
}
