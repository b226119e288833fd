//! The commands about other devices.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::options;

/// `jaxfs share`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  jaxfs share
  jaxfs share photos --role reader --expires 2d --uses 5
  jaxfs share --qr

Whoever has the ticket can join the bucket until it is used or expires: pass it on as you would a password. While somebody
joins, this device has to be on, with the bucket mounted or `jaxfs node` running.")]
pub(crate) struct ShareArgs {
    /// Its name or id, or where it is mounted; not needed if there is only one
    #[arg(value_name = "BUCKET|DIR")]
    pub(crate) bucket: Option<String>,
    /// What whoever joins may do
    #[arg(long, value_name = "ROLE", default_value = "writer")]
    pub(crate) role: RoleArg,
    /// How long the ticket is good: s, m, h, d or w
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = options::time)]
    pub(crate) expires: Duration,
    /// How many devices it lets in
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) uses: u32,
    /// Draw it as a QR code, too
    #[arg(long)]
    pub(crate) qr: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) relay: RelayArg,
}

/// What a member may do.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoleArg {
    /// Reads and writes
    Writer,
    /// Reads
    Reader,
    /// Keeps everything and passes it on, and can read nothing
    Mirror,
}

impl RoleArg {
    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Reader => "reader",
            Self::Mirror => "mirror",
        }
    }
}

/// Through what devices find each other.
#[derive(Args, Debug)]
pub(crate) struct RelayArg {
    /// Help devices find each other that can not reach each other directly: `off`, `default` (iroh's public relays), or the
    /// address of a relay; remembered
    #[arg(long, value_name = "off|default|URL")]
    pub(crate) relay: Option<String>,
}

/// `jaxfs join`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  jaxfs join jaxfs1aaya... ~/Photos
  jaxfs join - ~/Photos < ticket.txt

With DIR, the bucket is mounted there. The owner's device has to be on until this one is let in.")]
pub(crate) struct JoinArgs {
    /// What `jaxfs share` printed; `-` reads it from stdin, so that other users of this machine do not see it
    pub(crate) ticket: String,
    /// An empty directory
    pub(crate) dir: Option<PathBuf>,
    /// What the others see this device called [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) relay: RelayArg,
}

/// `jaxfs members`.
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  jaxfs members\n  jaxfs members remove laptop\n  jaxfs members role laptop reader"
)]
pub(crate) struct MembersArgs {
    /// What to do; `list` if nothing is said
    #[command(subcommand)]
    pub(crate) action: Option<MembersAction>,
    /// The bucket with this name or id; not needed if there is only one
    #[arg(short, long, value_name = "NAME|ID")]
    pub(crate) bucket: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do with members.
#[derive(Subcommand, Debug)]
pub(crate) enum MembersAction {
    /// List the members of a bucket
    #[command(after_help = "Example:\n  jaxfs members list --json")]
    List {
        /// The bucket with this name or id; not needed if there is only one
        #[arg(short, long, value_name = "NAME|ID")]
        bucket: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a member another role
    #[command(
        after_help = "Example:\n  jaxfs members role laptop reader\n\nWith less than before, new keys are drawn."
    )]
    Role {
        /// Its name, or its key or the beginning of it
        #[arg(value_name = "MEMBER")]
        member: String,
        /// What it may do from now on
        role: RoleArg,
        /// The bucket with this name or id; not needed if there is only one
        #[arg(short, long, value_name = "NAME|ID")]
        bucket: Option<String>,
    },
    /// Shut a member out
    #[command(after_help = "\
Example:
  jaxfs members remove laptop

New keys are drawn: it can read nothing that is written from now on, and what it writes is not taken. What it has already read
or kept stays with it.")]
    Remove {
        /// Its name, or its key or the beginning of it
        #[arg(value_name = "MEMBER")]
        member: String,
        /// The bucket with this name or id; not needed if there is only one
        #[arg(short, long, value_name = "NAME|ID")]
        bucket: Option<String>,
    },
}

/// `jaxfs peers`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  jaxfs peers")]
pub(crate) struct PeersArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `jaxfs network`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  jaxfs network
  jaxfs network --relay default
  jaxfs network --port 40123 --local-discovery off")]
pub(crate) struct NetworkArgs {
    #[command(flatten)]
    pub(crate) relay: RelayArg,
    /// The UDP port; 0 for any one
    #[arg(long, value_name = "NUMBER")]
    pub(crate) port: Option<u16>,
    /// Whether devices on the same network find each other by themselves (mDNS)
    #[arg(long, value_name = "on|off")]
    pub(crate) local_discovery: Option<OnOff>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A switch.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnOff {
    /// Yes
    On,
    /// No
    Off,
}
