//! Applications that people trust with their data, each checked by what it reads back, mostly in the next mount.

pub(crate) mod archives;
pub(crate) mod backups;
pub(crate) mod cargo;
pub(crate) mod databases;
pub(crate) mod editors;
pub(crate) mod git;
pub(crate) mod load;
pub(crate) mod python;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::crash::crash;
use crate::world::{SOON, World, run, wait_for};

/// The Python that has a module: the package of a module has it for the distribution's own Python.
#[track_caller]
fn python_with(world: &World, module: &str) -> &'static str {
    let has = |python: &&str| run(world.command(python).args(["-c", &format!("import {module}")])).status.success();
    ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(has)
        .unwrap_or_else(|| panic!("no Python has {module}: is it installed?"))
}

/// Crashes the node amid work that writes a line to `$OUT/promised` after each piece that it takes for safe, once there are
/// so many, and mounts again.
#[track_caller]
fn crash_amid(world: &World, work: &mut Command, promises: usize) {
    let promised = world.outside("promised");
    let _ = fs::remove_file(&promised);
    work.current_dir(world.dir()).stdin(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = work.spawn().unwrap();
    let count = || fs::read_to_string(&promised).unwrap_or_default().lines().count();
    wait_for("it has promised enough", SOON * 4, || count() >= promises);
    crash(world);
    // It has heard of it, if it went on.
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    assert!(!child.wait().unwrap().success());
}
