//! Databases: many processes, one file, locks, journals, shared memory maps, and what a killed one leaves.

use crate::apps::{crash_amid, python_with};
use crate::world::World;

crate::claims! {
    Mount: [
        sqlite_writes_from_many_processes_with_journals_that_are_deleted,
        sqlite_writes_from_many_processes_with_journals_that_are_truncated,
        sqlite_writes_from_many_processes_with_journals_that_persist,
        sqlite_writes_from_many_processes_with_a_write_ahead_log,
        sqlite_keeps_a_database_with_a_journal,
        sqlite_keeps_a_database_with_a_write_ahead_log,
        sqlite_keeps_what_it_committed_before_a_crash_of_the_node,
        lmdb_keeps_what_it_committed_before_a_crash_of_the_node,
        lmdb_readers_see_whole_states_while_one_writes,
        lmdb_readers_see_whole_states_while_one_writes_to_the_map,
    ],
}

const BANK: &str = include_str!("../scripts/bank.py");
const MAP: &str = include_str!("../scripts/map.py");

/// Works in a bank, kills one that is amid a transaction, and lets the next mount undo that.
#[track_caller]
fn bank(mode: &str) {
    let world = World::mounted();
    world.script(BANK, &["open", mode, "4", "20"]);
    world.script(BANK, &["check", "4", "20"]);
    world.script(BANK, &["die", mode]);
    world.remount();
    world.script(BANK, &["check", "4", "20"]);
    world.remount();
    world.script(BANK, &["check", "4", "20"]);
    world.jaxfs(&["verify"]).ok();
}

fn sqlite_writes_from_many_processes_with_journals_that_are_deleted() {
    bank("delete");
}

fn sqlite_writes_from_many_processes_with_journals_that_are_truncated() {
    bank("truncate");
}

fn sqlite_writes_from_many_processes_with_journals_that_persist() {
    bank("persist");
}

fn sqlite_writes_from_many_processes_with_a_write_ahead_log() {
    bank("wal");
}

#[track_caller]
fn sqlite(mode: &str) {
    let world = World::mounted();
    world.python(&format!(
        "import sqlite3\n\
         base = sqlite3.connect('data.db', isolation_level=None)\n\
         assert base.execute('pragma journal_mode={mode}').fetchone()[0] == '{mode}'\n\
         base.execute('create table t (k integer primary key, v text)')\n\
         other = sqlite3.connect('data.db', isolation_level=None)\n\
         for round in range(20):\n\
         \x20   base.execute('begin immediate')\n\
         \x20   base.executemany('insert into t (v) values (?)', [('x' * round * 10,) for _ in range(50)])\n\
         \x20   base.execute('rollback' if round % 5 == 4 else 'commit')\n\
         \x20   rows = other.execute('select count(*) from t').fetchone()[0]\n\
         \x20   assert rows == 50 * (round + 1 - (round + 1) // 5), (round, rows)\n\
         other.execute('delete from t where k % 3 = 0')\n\
         assert base.execute('pragma integrity_check').fetchone()[0] == 'ok'\n\
         base.execute('vacuum')\n\
         print(base.execute('select count(*) from t').fetchone()[0])"
    ));
    world.remount();
    let check = "import sqlite3\n\
                 base = sqlite3.connect('data.db')\n\
                 print(base.execute('pragma integrity_check').fetchone()[0], base.execute('select count(*) from t').fetchone()[0])";
    assert_eq!(world.python(check).trim(), "ok 534");
}

fn sqlite_keeps_a_database_with_a_journal() {
    sqlite("delete");
}

fn sqlite_keeps_a_database_with_a_write_ahead_log() {
    sqlite("wal");
}

#[track_caller]
fn store(writemap: &str) {
    let world = World::mounted();
    let python = python_with(&world, "lmdb");
    world.script_of(python, MAP, &["work", "60", writemap]);
    world.remount();
    world.script_of(python, MAP, &["check", "60"]);
    world.remount();
    world.script_of(python, MAP, &["check", "61"]);
    world.jaxfs(&["verify"]).ok();
}

fn lmdb_readers_see_whole_states_while_one_writes() {
    store("0");
}

fn lmdb_readers_see_whole_states_while_one_writes_to_the_map() {
    store("1");
}

fn lmdb_keeps_what_it_committed_before_a_crash_of_the_node() {
    let world = World::mounted();
    let python = python_with(&world, "lmdb");
    for (writemap, promises) in [("0", 3), ("1", 17), ("0", 40)] {
        world.sh("rm -rf store");
        crash_amid(&world, world.command(python).args(["-c", MAP, "promise", writemap]), promises);
        world.script_of(python, MAP, &["kept"]);
    }
    world.jaxfs(&["verify"]).ok();
}

fn sqlite_keeps_what_it_committed_before_a_crash_of_the_node() {
    let world = World::mounted();
    for (mode, promises) in [("delete", 8), ("truncate", 21), ("persist", 13), ("wal", 30), ("delete", 33), ("wal", 5)]
    {
        world.sh("rm -f bank.db*");
        crash_amid(&world, world.command("python3").args(["-c", BANK, "promise", mode]), promises);
        world.script(BANK, &["kept"]);
        world.remount();
        world.script(BANK, &["kept"]);
    }
    world.jaxfs(&["verify"]).ok();
}
