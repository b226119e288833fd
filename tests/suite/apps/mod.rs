//! Applications that people trust with their data, each checked by what it reads back, mostly in the next mount.

pub(crate) mod archives;
pub(crate) mod backups;
pub(crate) mod cargo;
pub(crate) mod databases;
pub(crate) mod editors;
pub(crate) mod git;
pub(crate) mod load;
pub(crate) mod python;

use crate::world::{World, run};

/// The Python that has a module: the package of a module has it for the distribution's own Python.
#[track_caller]
fn python_with(world: &World, module: &str) -> &'static str {
    let has = |python: &&str| run(world.command(python).args(["-c", &format!("import {module}")])).status.success();
    ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(has)
        .unwrap_or_else(|| panic!("no Python has {module}: is it installed?"))
}
