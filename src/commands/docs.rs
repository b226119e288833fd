//! `jaxfs completions` and `jaxfs man`.

use std::fs;
use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_mangen::Man;

use crate::cli::{Cli, CompletionsArgs, ManArgs};

/// Prints a shell's completion script.
pub(super) fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "jaxfs", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}

/// Prints the manual page, or writes one for each command: `jaxfs.1`, `jaxfs-mount.1`, `jaxfs-key-export.1` and so on.
pub(super) fn man(args: &ManArgs) -> Result<()> {
    let Some(dir) = &args.dir else {
        return Ok(io::stdout().lock().write_all(&page(Cli::command())?)?);
    };
    fs::create_dir_all(dir).with_context(|| format!("can not make {}", dir.display()))?;
    for (name, page) in pages()? {
        let path = dir.join(name);
        fs::write(&path, page).with_context(|| format!("can not write {}", path.display()))?;
    }
    Ok(())
}

/// All pages with their file names.
fn pages() -> Result<Vec<(String, Vec<u8>)>> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    let mut todo = vec![root];
    while let Some(command) = todo.pop() {
        todo.extend(command.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        pages.push((format!("{name}.1"), page(command)?));
    }
    Ok(pages)
}

fn page(command: clap::Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let pages = pages().unwrap();
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["jaxfs.1", "jaxfs-mount.1", "jaxfs-buckets-create.1", "jaxfs-key-passphrase.1", "jaxfs-node.1"] {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
        assert!(pages.iter().all(|(_, page)| page.starts_with(b".") || page.starts_with(b"'")));
    }
}
