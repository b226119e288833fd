//! `jaxfs share`, `join`, `members`, `peers` and `network`.

use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use qrcode::QrCode;
use qrcode::render::unicode;

use super::{mount, unexpected};
use crate::cli::peers::{JoinArgs, MembersAction, MembersArgs, NetworkArgs, OnOff, PeersArgs, RelayArg, ShareArgs};
use crate::control::peers::{MembersReport, NetworkReport, PeerReport, PeersReply, PeersRequest, TicketReport};
use crate::control::protocol::{Event, Reply, Request, SecretText, Target};
use crate::home::Home;
use crate::human::{one_line, quoted, table, utc};
use crate::mountpoint;
use crate::options::{self, User};
use crate::session::Session;

/// The longest ticket that is read.
const TICKET_BYTES: u64 = 16 << 10;
/// How often the spinner turns.
const SPIN: Duration = Duration::from_millis(120);

fn ask(session: &mut Session, request: PeersRequest) -> Result<PeersReply> {
    ask_with(session, request, &mut |_| {})
}

fn ask_with(session: &mut Session, request: PeersRequest, events: &mut dyn FnMut(Event)) -> Result<PeersReply> {
    match session.call_with(&Request::Peers(request), events)? {
        Reply::Peers(reply) => Ok(reply),
        other => unexpected(&other),
    }
}

fn mistaken<T>(reply: PeersReply) -> Result<T> {
    unexpected(&Reply::Peers(reply))
}

pub(super) fn set_relay(session: &mut Session, arg: &RelayArg) -> Result<()> {
    if let Some(relay) = &arg.relay {
        ask(session, PeersRequest::Network { relay: Some(relay.clone()), port: None, local_discovery: None })?;
    }
    Ok(())
}

/// A bucket by its name or id, or by where it is mounted.
fn named(bucket: Option<&str>) -> Result<Target> {
    match bucket {
        None => Ok(Target::Any),
        Some(text) if text.contains('/') => super::target(Some(text.as_ref())),
        Some(text) => Ok(Target::Bucket(text.to_owned())),
    }
}

/// Prints a ticket.
pub(super) fn share(home: &Home, args: &ShareArgs) -> Result<()> {
    let mut session = Session::start(home)?;
    set_relay(&mut session, &args.relay)?;
    let request = PeersRequest::Share {
        target: named(args.bucket.as_deref())?,
        role: args.role.name().to_owned(),
        expires_seconds: args.expires.as_secs(),
        uses: args.uses,
    };
    match ask(&mut session, request)? {
        PeersReply::Ticket(report) if args.json => {
            writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
            Ok(())
        }
        PeersReply::Ticket(report) => Ok(show_ticket(&report, args.qr)?),
        other => mistaken(other),
    }
}

/// The ticket alone on stdout, so that it can be piped on; what to do with it on stderr.
fn show_ticket(report: &TicketReport, qr: bool) -> io::Result<()> {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let text = report.ticket.expose();
    writeln!(out, "{text}")?;
    out.flush()?;
    if qr {
        // In capitals, which need fewer modules.
        match QrCode::new(text.to_ascii_uppercase()) {
            Ok(code) => {
                let drawn = code.render::<unicode::Dense1x2>().quiet_zone(true).build();
                writeln!(err, "{drawn}")?;
            }
            Err(_) => writeln!(err, "jaxfs: the ticket is too long for a QR code")?,
        }
    }
    let (name, role) = (one_line(&report.bucket.name), &report.role);
    let uses = if report.uses == 1 { "one device".to_owned() } else { format!("{} devices", report.uses) };
    writeln!(err, "It lets {uses} join {name} as {role} until {}: `jaxfs join TICKET DIR`.", utc(report.expires))?;
    if !report.stays {
        writeln!(err, "Nothing is mounted here: `jaxfs mount` or `jaxfs node` has to run while somebody joins.")?;
    }
    Ok(())
}

/// Joins, and mounts.
pub(super) fn join(home: &Home, args: &JoinArgs) -> Result<()> {
    let ticket = match args.ticket.as_str() {
        "-" => {
            let mut text = String::new();
            io::stdin().take(TICKET_BYTES).read_to_string(&mut text).context("can not read the ticket")?;
            text
        }
        given => given.to_owned(),
    };
    // What is wrong with the directory or the system is found first.
    let user = User { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() };
    let dir = match &args.dir {
        Some(dir) => {
            let prepared = mountpoint::prepare(dir, &mut |notice| eprintln!("jaxfs: {notice}"))?;
            mountpoint::check_fuse()?;
            Some((prepared, options::plain(user)))
        }
        None => None,
    };
    let mut session = Session::start(home)?;
    set_relay(&mut session, &args.relay)?;
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(SPIN);
    let (terminal, mut last) = (io::stderr().is_terminal(), String::new());
    let request = PeersRequest::Join { ticket: SecretText::new(ticket), device_name: args.name.clone() };
    let reply = ask_with(&mut session, request, &mut |event| {
        if let Event::Joining(text) = event {
            bar.set_message(one_line(&text));
            if !terminal && text != last {
                eprintln!("jaxfs: {}", one_line(&text));
                last = text;
            }
        }
    });
    bar.finish_and_clear();
    let joined = match reply? {
        PeersReply::Joined(report) => report,
        other => return mistaken(other),
    };
    let name = one_line(&joined.bucket.name);
    let mut out = io::stdout();
    match dir {
        Some((dir, settings)) if joined.role != "mirror" => {
            writeln!(out, "Joined {name} as {}.", joined.role)?;
            mount::mount_bucket(home, &mut session, dir, &joined.bucket.id, settings)
        }
        _ if joined.role == "mirror" => {
            writeln!(out, "Joined {name} as a mirror: `jaxfs node` keeps it up to date and serves it.")?;
            Ok(())
        }
        _ => {
            writeln!(out, "Joined {name} as {}: `jaxfs mount DIR --bucket {}`.", joined.role, quoted(&name))?;
            Ok(())
        }
    }
}

/// Lists members, or changes one.
pub(super) fn members(home: &Home, args: MembersArgs) -> Result<()> {
    let (request, json) = match args.action {
        None => (PeersRequest::Members { target: named(args.bucket.as_deref())? }, args.json),
        Some(MembersAction::List { bucket, json }) => {
            (PeersRequest::Members { target: named(bucket.as_deref())? }, json)
        }
        Some(MembersAction::Role { member, role, bucket }) => {
            let (target, role) = (named(bucket.as_deref())?, Some(role.name().to_owned()));
            (PeersRequest::ChangeMember { target, member, role }, false)
        }
        Some(MembersAction::Remove { member, bucket }) => {
            (PeersRequest::ChangeMember { target: named(bucket.as_deref())?, member, role: None }, false)
        }
    };
    match ask(&mut Session::open(home)?, request)? {
        PeersReply::Members(report) => {
            let text = if json { serde_json::to_string(&report)? + "\n" } else { show_members(&report) };
            Ok(io::stdout().write_all(text.as_bytes())?)
        }
        other => mistaken(other),
    }
}

fn show_members(report: &MembersReport) -> String {
    let header = ["member", "role", "key", "connected", "has everything"].map(str::to_owned).to_vec();
    let row = |member: &crate::control::peers::MemberReport| {
        let name = member.name.as_deref().map_or_else(|| "?".to_owned(), one_line);
        let (connected, holds) = match (member.own, member.connected) {
            (true, _) => ("this device", ""),
            (_, true) => ("yes", if member.holds_all { "yes" } else { "not yet" }),
            _ => ("no", ""),
        };
        let key = member.device.chars().take(16).collect();
        vec![name, member.role.clone(), key, connected.to_owned(), holds.to_owned()]
    };
    let rows: Vec<_> = [header].into_iter().chain(report.members.iter().map(row)).collect();
    table(&rows)
}

/// Lists other devices.
pub(super) fn peers(home: &Home, args: &PeersArgs) -> Result<()> {
    match ask(&mut Session::open(home)?, PeersRequest::Peers)? {
        PeersReply::Peers(peers) => {
            let text = if args.json { serde_json::to_string(&peers)? + "\n" } else { show_peers(&peers) };
            Ok(io::stdout().write_all(text.as_bytes())?)
        }
        other => mistaken(other),
    }
}

fn show_peers(peers: &[PeerReport]) -> String {
    if peers.is_empty() {
        return "This home is on no network: nothing that is shared is mounted.\n".to_owned();
    }
    let header = ["peer", "key", "connected", "round trip", "buckets"].map(str::to_owned).to_vec();
    let row = |peer: &PeerReport| {
        let name = peer.name.as_deref().map_or_else(|| "?".to_owned(), one_line);
        let at = match (&peer.address, peer.connected, peer.refused) {
            (Some(address), true, _) => format!("at {}", one_line(address)),
            (None, true, _) => "yes".to_owned(),
            (_, _, true) => "no: it says that this device is no member".to_owned(),
            _ => "no".to_owned(),
        };
        let rtt = peer.rtt_ms.map(|ms| format!("{ms:.1} ms")).unwrap_or_default();
        let key = peer.device.chars().take(16).collect();
        let buckets: Vec<_> = peer.buckets.iter().map(|name| one_line(name)).collect();
        vec![name, key, at, rtt, buckets.join(", ")]
    };
    let rows: Vec<_> = [header].into_iter().chain(peers.iter().map(row)).collect();
    table(&rows)
}

/// Shows or changes how this home is on the network.
pub(super) fn network(home: &Home, args: &NetworkArgs) -> Result<()> {
    let request = PeersRequest::Network {
        relay: args.relay.relay.clone(),
        port: args.port,
        local_discovery: args.local_discovery.map(|switch| switch == OnOff::On),
    };
    match ask(&mut Session::open(home)?, request)? {
        PeersReply::Network(report) => {
            let text = if args.json { serde_json::to_string(&report)? + "\n" } else { show_network(&report) };
            Ok(io::stdout().write_all(text.as_bytes())?)
        }
        other => mistaken(other),
    }
}

fn show_network(report: &NetworkReport) -> String {
    let port = if report.port == 0 { "any".to_owned() } else { report.port.to_string() };
    let rows = [
        ("on the network", if report.online { "yes" } else { "no" }.to_owned()),
        ("port", port),
        ("relay", one_line(&report.relay)),
        ("local discovery", if report.local_discovery { "on" } else { "off" }.to_owned()),
        ("addresses", report.addresses.join(", ")),
    ];
    let rows: Vec<_> = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    table(&rows)
}
