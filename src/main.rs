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
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // fuser names the directory that it mounts on, which the bucket is often called after.
    start_log(if matches!(cli.command, Command::Node(_)) { "info,fuser=warn" } else { "warn" });
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
    let filter = ["JAXFS_LOG", "RUST_LOG"].into_iter().find_map(|name| EnvFilter::try_from_env(name).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
}

/// Whether a reader such as `head` has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
