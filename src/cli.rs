//! What a person may type: the commands, their options, and the help that goes with each.

pub(crate) mod peers;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::options;
use peers::{JoinArgs, MembersArgs, NetworkArgs, PeersArgs, RelayArg, ShareArgs};

/// An end-to-end encrypted folder, mounted as an ordinary directory.
#[derive(Parser, Debug)]
#[command(name = "jaxfs", version, propagate_version = true, after_help = TOP_HELP)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const TOP_HELP: &str = "\
Example:
  jaxfs mount ~/Bucket        the first time, this also makes a device key and a bucket
  cp -a ~/Documents ~/Bucket/
  jaxfs unmount ~/Bucket

Environment:
  JAXFS_HOME         where keys and encrypted data are kept; else $XDG_DATA_HOME/jaxfs, else ~/.local/share/jaxfs
  JAXFS_PASSPHRASE   the passphrase of the keys, where there is no terminal to ask on
  JAXFS_LOG          what to log, for example `debug` or `jaxfs_mount=trace`; else RUST_LOG, else `warn`";

/// One command and its arguments.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Mount a bucket on a directory
    Mount(MountArgs),
    /// Publish what is written, and unmount
    #[command(visible_alias = "umount")]
    Unmount(UnmountArgs),
    /// Make a ticket that lets another device join a bucket
    Share(ShareArgs),
    /// Join a bucket with a ticket, and mount it
    Join(JoinArgs),
    /// Show heads, what is unpublished, and space
    Status(StatusArgs),
    /// Wait until everything written is published
    Sync(SyncArgs),
    /// Show the versions of a bucket, newest first
    Log(LogArgs),
    /// Choose what is shown, where that is not simply the newest version
    Head(HeadArgs),
    /// List, change and remove the members of a bucket
    Members(MembersArgs),
    /// Show which other devices are connected
    Peers(PeersArgs),
    /// Show or change how this home is on the network
    Network(NetworkArgs),
    /// List, create and remove the buckets of this home
    Buckets(BucketsArgs),
    /// Show, export, import and protect this device's keys
    Key(KeyArgs),
    /// Read everything in a bucket and say what is hurt
    Verify(VerifyArgs),
    /// Drop what no version that is kept needs, and give its space back
    Gc(GcArgs),
    /// Print a script that completes this program's commands in a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write all of them to a directory
    Man(ManArgs),
    /// Serve this home's mounts in the foreground
    Node(NodeArgs),
}

/// `jaxfs mount`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  jaxfs mount ~/Bucket
  jaxfs mount /mnt/photos --bucket photos -o cache=256M

The first mount ever makes a device key, and a bucket named after DIR. Later, DIR shows the bucket that is named
like its last component, or the only one there is.

Options for -o, separated by commas:
  ro, rw                    whether the directory can be written
  cache=SIZE, dirty=SIZE    memory for decrypted data, and for what is not written to disk yet (K, M or G)
  allow_other               let other users in (needs user_allow_other in /etc/fuse.conf, but for root)
  suid, dev                 honour set-id bits and device nodes (root only); nosuid, nodev are the default")]
pub(crate) struct MountArgs {
    /// An empty directory
    pub(crate) dir: PathBuf,
    /// Which bucket: its name, or its id or the beginning of it
    #[arg(short, long, value_name = "NAME|ID")]
    pub(crate) bucket: Option<String>,
    /// Stay in the foreground until the directory is unmounted; ^C unmounts it
    #[arg(short, long)]
    pub(crate) foreground: bool,
    /// Mount read-only
    #[arg(short, long)]
    pub(crate) read_only: bool,
    /// Whose the files are shown as: yours, or as stored [default: me, but for root stored]
    #[arg(long)]
    pub(crate) owner: Option<OwnerArg>,
    /// How much this home may take on the disk, for example 20G [default: all that is there]
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_space: Option<String>,
    /// Mount options, as in fstab
    #[arg(short, value_name = "OPTIONS", value_delimiter = ',')]
    pub(crate) options: Vec<String>,
    #[command(flatten)]
    pub(crate) relay: RelayArg,
}

/// `--owner`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnerArg {
    /// Everything belongs to the mounting user; chown is refused
    Me,
    /// The stored numbers
    Stored,
}

/// `jaxfs unmount`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  jaxfs unmount ~/Bucket")]
pub(crate) struct UnmountArgs {
    /// Where it is mounted
    pub(crate) dir: PathBuf,
    /// How long to wait for what is being written, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
    /// Unmount even if what was written last can not be stored: it is lost then
    #[arg(long)]
    pub(crate) force: bool,
}

/// `jaxfs status`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  jaxfs status --watch\n  jaxfs status ~/Bucket --json\n  jaxfs status --metrics")]
pub(crate) struct StatusArgs {
    /// Only the bucket that is mounted here
    pub(crate) dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Show it again every second until interrupted
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Print metrics in the OpenMetrics text format, as Prometheus reads it
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    pub(crate) metrics: bool,
}

/// `jaxfs sync`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  jaxfs sync ~/Bucket\n  jaxfs sync ~/Bucket --published 2 --timeout 60")]
pub(crate) struct SyncArgs {
    /// Only the bucket that is mounted here
    pub(crate) dir: Option<PathBuf>,
    /// Wait until so many other devices have all of it as well
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) published: u64,
    /// How long to wait for that, in seconds [default: for ever]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
}

/// `jaxfs log`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  jaxfs log ~/Bucket
  jaxfs log --graph
  jaxfs log --bucket photos --json
  jaxfs log --svg chain.svg

The mark before a version: `*` is the head, `|` led to it, `x` is a fork that lost. With --graph, `*` is on the head's
chain, and `x` is not.")]
pub(crate) struct LogArgs {
    /// The bucket that is mounted here
    pub(crate) dir: Option<PathBuf>,
    /// The bucket with this name or id, mounted or not
    #[arg(short, long, value_name = "NAME|ID", conflicts_with = "dir")]
    pub(crate) bucket: Option<String>,
    /// Print JSON, one object to a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw how versions follow each other
    #[arg(long, conflicts_with = "json")]
    pub(crate) graph: bool,
    /// Draw them as a picture, into this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "graph"])]
    pub(crate) svg: Option<PathBuf>,
}

/// `jaxfs head`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  jaxfs head
  jaxfs head pin 1041 --bucket photos
  jaxfs head policy --deep-reorganisation hold

The newest version is the one with the longest history behind it, on every device the same. A pin makes this device show
another one, and write on that. A mount moves to it at once.")]
pub(crate) struct HeadArgs {
    /// What to do; without it, what is shown and why is told
    #[command(subcommand)]
    pub(crate) action: Option<HeadAction>,
    /// The bucket with this name or id; not needed if there is only one
    #[arg(short, long, value_name = "NAME|ID", global = true)]
    pub(crate) bucket: Option<String>,
}

/// What to do with what is shown.
#[derive(Subcommand, Debug)]
pub(crate) enum HeadAction {
    /// Show a version and write on it, whatever becomes the newest
    #[command(after_help = "Example:\n  jaxfs head pin 1041\n  jaxfs head pin 4r5jq2ka --bucket photos")]
    Pin {
        /// Its height, or its link or the beginning of that, as `jaxfs log` shows them
        #[arg(value_name = "VERSION")]
        which: String,
    },
    /// Show the newest version again
    #[command(after_help = "Example:\n  jaxfs head unpin")]
    Unpin,
    /// Show the newest version that was held back because it has nothing of the last ones
    #[command(after_help = "Example:\n  jaxfs head adopt")]
    Adopt,
    /// Show what most of the members that can be reached show
    #[command(after_help = "Example:\n  jaxfs head vote")]
    Vote,
    /// Show or change what this device does on its own
    #[command(after_help = "\
Example:
  jaxfs head policy
  jaxfs head policy --deep-reorganisation hold --writes-while-forked refuse")]
    Policy(PolicyArgs),
}

/// `jaxfs head policy`. What is not given stays as it is.
#[derive(Args, Debug)]
pub(crate) struct PolicyArgs {
    /// When the newest version has nothing of the last ones: show it, or hold it back until `jaxfs head adopt`
    #[arg(long, value_name = "WHAT")]
    pub(crate) deep_reorganisation: Option<OnReorganisationArg>,
    /// When a member shows another branch for good: say so, follow the majority, or publish nothing before that is settled
    #[arg(long, value_name = "WHAT")]
    pub(crate) hard_fork: Option<OnHardForkArg>,
    /// While there are two newest versions that may both still win: write on, or refuse to. If all members refuse, it stays so
    #[arg(long, value_name = "WHAT")]
    pub(crate) writes_while_forked: Option<OnForkArg>,
}

/// `--deep-reorganisation`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnReorganisationArg {
    /// Show it
    Adopt,
    /// Hold it back
    Hold,
}

/// `--hard-fork`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnHardForkArg {
    /// Say so
    Tell,
    /// Show what most members show
    Majority,
    /// Publish nothing
    Refuse,
}

/// `--writes-while-forked`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnForkArg {
    /// Write on the head
    Allow,
    /// Refuse to
    Refuse,
}

/// `jaxfs buckets`.
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  jaxfs buckets\n  jaxfs buckets create photos"
)]
pub(crate) struct BucketsArgs {
    /// What to do; `list` if nothing is said.
    #[command(subcommand)]
    pub(crate) action: Option<BucketsAction>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do with buckets.
#[derive(Subcommand, Debug)]
pub(crate) enum BucketsAction {
    /// List the buckets of this home
    #[command(after_help = "Example:\n  jaxfs buckets list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make an empty bucket
    #[command(after_help = "Example:\n  jaxfs buckets create photos")]
    Create {
        /// Its name, at most 128 bytes
        name: String,
    },
    /// Delete a bucket's data and keys from this machine, for ever
    #[command(after_help = "Example:\n  jaxfs buckets remove photos")]
    Remove {
        /// Its name, or its id or the beginning of it
        #[arg(value_name = "NAME|ID")]
        bucket: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// `jaxfs key`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  jaxfs key\n  jaxfs key export photos")]
pub(crate) struct KeyArgs {
    /// What to do; `show` if nothing is said.
    #[command(subcommand)]
    pub(crate) action: Option<KeyAction>,
}

/// What to do with keys.
#[derive(Subcommand, Debug)]
pub(crate) enum KeyAction {
    /// Show this device's id
    #[command(after_help = "Example:\n  jaxfs key show")]
    Show,
    /// Print the recovery phrase of a bucket's owner key: 24 words
    #[command(after_help = "Example:\n  jaxfs key export photos")]
    Export {
        /// Its name or id; not needed if there is only one
        #[arg(value_name = "BUCKET")]
        bucket: Option<String>,
    },
    /// Restore a bucket's owner key from its recovery phrase, which is asked for (or read from stdin)
    #[command(after_help = "Example:\n  jaxfs key import photos < phrase.txt")]
    Import {
        /// Its name or id; not needed if there is only one
        #[arg(value_name = "BUCKET")]
        bucket: Option<String>,
    },
    /// Set, change or remove the passphrase of this home's keys
    #[command(after_help = "\
Example:
  jaxfs key passphrase
  jaxfs key passphrase --remove

The new passphrase is asked for twice on a terminal; without one, it is the first line of stdin.")]
    Passphrase {
        /// Keep the keys without a passphrase from now on
        #[arg(long)]
        remove: bool,
    },
}

/// `jaxfs verify`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  jaxfs verify photos\n  jaxfs verify --repair photos")]
pub(crate) struct VerifyArgs {
    /// First make the index anew from what is stored, without what is damaged; the bucket must not be mounted
    #[arg(long)]
    pub(crate) repair: bool,
    /// Its name or id; all of them if nothing is said
    pub(crate) bucket: Option<String>,
}

/// `jaxfs gc`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  jaxfs gc photos
  jaxfs gc ~/Bucket --keep-all 2d --keep-hourly 0 --keep-daily 90d --save
  jaxfs gc --dry-run

The newest version is always kept, and so is what is open. Of older versions, those are kept that are young enough. What is
not said comes from what was saved for the bucket, else it is 24h, 7d and 30d. Times end in s, m, h, d or w.")]
pub(crate) struct GcArgs {
    /// Its name or id, or where it is mounted; not needed if there is only one
    #[arg(value_name = "BUCKET|DIR")]
    pub(crate) bucket: Option<String>,
    /// Keep all versions of this time
    #[arg(long, value_name = "TIME", value_parser = options::time)]
    pub(crate) keep_all: Option<Duration>,
    /// Keep the newest version of each hour of this time
    #[arg(long, value_name = "TIME", value_parser = options::time)]
    pub(crate) keep_hourly: Option<Duration>,
    /// Keep the newest version of each day of this time
    #[arg(long, value_name = "TIME", value_parser = options::time)]
    pub(crate) keep_daily: Option<Duration>,
    /// Use these times for the bucket from now on, on this machine
    #[arg(long)]
    pub(crate) save: bool,
    /// Only say what would go
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `jaxfs completions`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  jaxfs completions bash > ~/.local/share/bash-completion/completions/jaxfs")]
pub(crate) struct CompletionsArgs {
    /// For which shell
    pub(crate) shell: Shell,
}

/// `jaxfs man`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  jaxfs man | man -l -\n  jaxfs man --dir ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Write a page for each command here
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// `jaxfs node`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  jaxfs node

`jaxfs mount` starts one by itself, which leaves with its last mount. This one stays until SIGTERM or ^C, which
unmount everything.")]
pub(crate) struct NodeArgs {
    /// Started by a mount: say on stdout when ready, leave with the last mount
    #[arg(long, hide = true)]
    pub(crate) spawned: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example:"), "{} has no example", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn later_commands_are_not_promised_yet() {
        let command = Cli::command();
        let names: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(
            names,
            [
                "mount",
                "unmount",
                "share",
                "join",
                "status",
                "sync",
                "log",
                "head",
                "members",
                "peers",
                "network",
                "buckets",
                "key",
                "verify",
                "gc",
                "completions",
                "man",
                "node"
            ]
        );
    }

    #[test]
    fn options_may_be_given_as_in_fstab() {
        let cli = Cli::try_parse_from(["jaxfs", "mount", "d", "-o", "ro,cache=1M", "-o", "noatime"]).unwrap();
        let Command::Mount(args) = cli.command else { panic!("not a mount") };
        assert_eq!(args.options, ["ro", "cache=1M", "noatime"]);
    }
}
