//! Members and peers: tickets, joining, roles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use jaxfs_sync::bucket::{DeviceId, Role, Timestamp};
use jaxfs_sync::crypto::Label;
use jaxfs_sync::net::join::JoinStep;
use jaxfs_sync::net::ticket::Ticket;
use jaxfs_sync::publish::{Bucket, MemberInfo, USES};

use super::buckets::device_name;
use super::state::{Events, State, named};
use crate::control::peers::{
    JoinedReport, MemberReport, MembersReport, PeerReport, PeersReply, PeersRequest, TicketReport,
};
use crate::control::protocol::{BucketName, Event, SecretText, Target};

/// How long a ticket may be good for.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3_600);

impl State {
    /// Does what is asked about members and peers.
    pub(super) fn peers_request(&self, request: &PeersRequest, events: Events<'_>) -> Result<PeersReply> {
        match request {
            PeersRequest::Share { target, role, expires_seconds, uses } => self
                .share(target, role_named(role)?, Duration::from_secs(*expires_seconds), *uses)
                .map(PeersReply::Ticket),
            PeersRequest::Join { ticket, device_name } => {
                self.join(ticket, device_name.as_deref(), events).map(PeersReply::Joined)
            }
            PeersRequest::Members { target } => {
                let bucket = self.open(self.one(target)?)?;
                Ok(PeersReply::Members(self.members(&bucket)))
            }
            PeersRequest::ChangeMember { target, member, role } => {
                let role = role.as_deref().map(role_named).transpose()?;
                self.change_member(target, member, role).map(PeersReply::Members)
            }
            PeersRequest::Peers => Ok(PeersReply::Peers(self.peers()?)),
            PeersRequest::Network { relay, port, local_discovery } => {
                Ok(PeersReply::Network(self.peering.configure(relay.as_deref(), *port, *local_discovery)?))
            }
        }
    }

    fn share(&self, target: &Target, role: Role, lasts: Duration, uses: u32) -> Result<TicketReport> {
        ensure!(role != Role::Owner, "there is one owner: a ticket makes a writer, a reader or a mirror");
        ensure!((1..=USES).contains(&uses), "a ticket lets in 1 to {USES} devices");
        ensure!(!lasts.is_zero() && lasts <= LONGEST, "a ticket lasts for a year at most");
        let id = self.one(target)?;
        let bucket = self.open(id)?;
        let owner = self.keys.owner(&self.buckets.owner_key(id))?;
        ensure!(owner.is_some(), "only who has the bucket's owner key can let others in: ask the device that made it");
        let device = self.device()?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).context("the clock is wrong")?;
        let expires = Timestamp(u64::try_from((now + lasts).as_millis()).unwrap_or(u64::MAX));
        let secret = bucket.invite(role, expires, uses)?;
        self.peering.attach(&bucket, &device)?;
        let doors = vec![self.peering.go(&device)?.reach()];
        let ticket = Ticket { bucket: bucket.genesis(), id: bucket.id(), role, expires, secret, doors };
        let stays = !self.life().leaves() || !self.life().mounts().is_empty();
        Ok(TicketReport {
            bucket: named(id, &bucket),
            ticket: SecretText::new(ticket.to_string()),
            role: role_name(role).to_owned(),
            expires: expires.0,
            uses,
            stays,
        })
    }

    fn join(&self, ticket: &SecretText, called: Option<&str>, events: Events<'_>) -> Result<JoinedReport> {
        let ticket: Ticket = ticket.expose().parse()?;
        let (device, _) = self.device_or_new()?;
        if self.buckets.ids()?.contains(&ticket.id) {
            bail!("this home has that bucket already: `jaxfs mount DIR --bucket {}` mounts it", ticket.id);
        }
        let own = device_name();
        let name = Label::new(called.unwrap_or(&own)).context("that is no name for a device")?;
        let network = self.peering.go(&device)?;
        let dir = self.buckets.joining(ticket.id)?;
        let replica = network.join(&ticket, &name, &dir, &mut |step| {
            events(Event::Joining(match step {
                JoinStep::Waiting(why) if why.is_empty() => "asking to be let in".to_owned(),
                JoinStep::Waiting(why) => format!("waiting for the owner's device: {why}"),
                JoinStep::Admitted => "let in".to_owned(),
                JoinStep::Fetching { versions, nodes } => {
                    format!("fetching: {versions} versions, {nodes} directory blocks")
                }
            }))
        })?;
        drop(replica);
        let id = ticket.id;
        self.buckets.joined(id)?;
        if ticket.role == Role::Mirror {
            let replica = self.buckets.mirror(id, device.id())?;
            self.peering.attach_mirror(&replica, &device)?;
            let bucket = BucketName { id: id.to_string(), name: id.to_string() };
            return Ok(JoinedReport { bucket, role: role_name(ticket.role).to_owned() });
        }
        let bucket = self.open(id)?;
        self.peering.attach(&bucket, &device)?;
        Ok(JoinedReport { bucket: named(id, &bucket), role: role_name(bucket.role()).to_owned() })
    }

    fn members(&self, bucket: &Bucket) -> MembersReport {
        let own = self.keys.device().ok().flatten().map(|device| device.id());
        let swarm = self.peering.get().and_then(|network| network.swarm(&bucket.genesis()));
        let holds = swarm.map(|swarm| swarm.progress().holds).unwrap_or_default();
        let connected: Vec<_> = self.peering.get().map(|network| network.peers()).unwrap_or_default();
        let head = bucket.head();
        let report = |info: MemberInfo| MemberReport {
            device: info.device.to_string(),
            name: info.name,
            role: role_name(info.role).to_owned(),
            own: Some(info.device) == own,
            connected: connected.iter().any(|peer| peer.device == info.device && peer.connected),
            holds_all: holds.get(&info.device).is_some_and(|held| bucket.replica().has(held, &head)),
        };
        let mut members: Vec<_> = bucket.member_infos().into_iter().map(report).collect();
        members.sort_by(|a, b| (&a.role, &a.name).cmp(&(&b.role, &b.name)));
        let epoch = bucket.status().map(|status| status.epoch.0).unwrap_or_default();
        MembersReport { bucket: named(bucket.id(), bucket), epoch, members }
    }

    fn change_member(&self, target: &Target, member: &str, role: Option<Role>) -> Result<MembersReport> {
        let id = self.one(target)?;
        let bucket = self.open(id)?;
        let owner = self.keys.owner(&self.buckets.owner_key(id))?;
        let owner = owner.context("only who has the bucket's owner key can do that: ask the device that made it")?;
        let device = find_member(&bucket, member)?;
        ensure!(role != Some(Role::Owner), "there is one owner: the device that made the bucket");
        match role {
            None => bucket.remove(&owner, &device)?,
            Some(role) => bucket.change_role(&owner, &device, role)?,
        };
        Ok(self.members(&bucket))
    }

    fn peers(&self) -> Result<Vec<PeerReport>> {
        let Some(network) = self.peering.get() else { return Ok(Vec::new()) };
        let mut of: BTreeMap<DeviceId, (Option<String>, Vec<String>)> = BTreeMap::new();
        for bucket in self.buckets.opened() {
            for info in bucket.member_infos() {
                let (name, buckets) = of.entry(info.device).or_default();
                *name = name.take().or(info.name);
                buckets.push(bucket.name().unwrap_or_else(|_| bucket.id().to_string()));
            }
        }
        let peers = network.peers().into_iter().map(|peer| {
            let (name, buckets) = of.get(&peer.device).cloned().unwrap_or_default();
            PeerReport {
                device: peer.device.to_string(),
                name,
                buckets,
                connected: peer.connected,
                address: peer.address,
                rtt_ms: peer.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
                refused: peer.refused,
            }
        });
        Ok(peers.filter(|peer| peer.connected || !peer.buckets.is_empty()).collect())
    }

    /// Puts all buckets on the network that others may be interested in. For a node that stays.
    pub(crate) fn go_online(&self) {
        let all = || -> Result<()> {
            let Some(device) = self.keys.device()? else { return Ok(()) };
            for id in self.buckets.ids()? {
                let attached = match self.buckets.open(id, &device) {
                    Ok(bucket) => self.peering.attach(&bucket, &device),
                    Err(error) => match self.buckets.mirror(id, device.id()) {
                        Ok(replica) => self.peering.attach_mirror(&replica, &device),
                        Err(_) => Err(error),
                    },
                };
                attached.unwrap_or_else(|error| tracing::warn!(bucket = %id, "not on the network: {error:#}"));
            }
            Ok(())
        };
        all().unwrap_or_else(|error| tracing::warn!("not on the network: {error:#}"));
    }

    /// Leaves the network.
    pub(crate) fn go_offline(&self) {
        self.peering.leave();
    }
}

/// The member with a name or a key, or the beginning of one.
fn find_member(bucket: &Arc<Bucket>, wanted: &str) -> Result<DeviceId> {
    let infos = bucket.member_infos();
    let by_name: Vec<_> = infos.iter().filter(|info| info.name.as_deref() == Some(wanted)).collect();
    let lower = wanted.to_ascii_lowercase();
    let by_key =
        || infos.iter().filter(|info| lower.len() >= 4 && info.device.to_string().starts_with(&lower)).collect();
    let found = if by_name.is_empty() { by_key() } else { by_name };
    match found[..] {
        [only] => Ok(only.device),
        [] => Err(anyhow!("there is no member `{wanted}`: `jaxfs members` shows them")),
        _ => Err(anyhow!("more than one member is called `{wanted}`: give its key, as `jaxfs members` shows it")),
    }
}

fn role_named(name: &str) -> Result<Role> {
    let roles = [Role::Owner, Role::Writer, Role::Reader, Role::Mirror];
    roles.into_iter().find(|role| role_name(*role) == name).ok_or_else(|| anyhow!("there is no role `{name}`"))
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Writer => "writer",
        Role::Reader => "reader",
        Role::Mirror => "mirror",
    }
}
