//! jaxfs: an end-to-end encrypted folder, mounted as an ordinary directory.

mod cli;
mod commands;
mod control;
mod home;
mod human;
mod mountpoint;
mod node;
mod options;
mod passphrase;
mod select;
mod session;

use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(match &cli.command {
        Command::Node(_) => "info",
        Command::Mount(_) => "warn", // in the foreground it is a node
        _ => "error",                // what goes wrong is the command's own answer
    });
    panic::set_hook(Box::new(tell_of_panic));
    match commands::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // In one piece, so that the lines of two commands do not mix.
            let line = format!("jaxfs: {}\n", human::one_line(&format!("{error:#}")));
            let _ = io::stderr().write_all(line.as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Logs to the standard error: what `JAXFS_LOG` says, else `RUST_LOG`, else what the command needs.
fn start_log(default: &str) {
    let asked = ["JAXFS_LOG", "RUST_LOG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok().filter(|asked| !asked.is_empty()));
    let filter = asked.map(quiet).find_map(|asked| EnvFilter::try_new(asked).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(quiet(default.to_owned())));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    // It would say on the standard error that it can not write there, and panic if it can not: a full disk must not end a node.
    log.log_internal_errors(false).init();
}

/// A filter without fuser's log, which names every file that is looked up, and the directory that is mounted on.
fn quiet(filter: String) -> String {
    let ours = filter.split(',').filter(|part| !part.trim_start().starts_with("fuser"));
    ours.chain(["fuser=error"]).collect::<Vec<_>>().join(",")
}

/// Logs a panic in one line, without what it says, which may be a name or content.
fn tell_of_panic(info: &PanicHookInfo<'_>) {
    match info.location() {
        // It panics on damaged files, and the store makes an error of that.
        Some(at) if at.file().contains("/redb-") => tracing::debug!("redb gave up at {at}"),
        Some(at) => tracing::error!("a bug in jaxfs: it panicked at {at}"),
        None => tracing::error!("a bug in jaxfs: it panicked"),
    }
}

/// Whether a reader such as `head` has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filter_makes_fuser_talk() {
        assert_eq!(quiet("trace".into()), "trace,fuser=error");
        assert_eq!(quiet("info, fuser::request=trace,fuser=debug,jaxfs=debug".into()), "info,jaxfs=debug,fuser=error");
    }
}
