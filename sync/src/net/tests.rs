//! Devices on the network of this machine, with buckets of their own.
#![allow(clippy::unwrap_used)]

mod enemy;
mod hostile;

use std::path::PathBuf;
use std::time::Instant;

use tempfile::TempDir;

use super::join::{Closed, JoinError};
use super::ticket::Ticket;
use super::*;
use crate::bucket::{Identity, OwnerKey, Role, Timestamp};
use crate::crypto::{Label, Secret};
use crate::publish::{Bucket, NewBucket, NotInvited};

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something is so.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A machine.
struct Home {
    dir: TempDir,
    device: Arc<DeviceKey>,
    network: Option<Network>,
    bucket: Option<Arc<Bucket>>,
}

struct Owner(Arc<Bucket>, OwnerKey);

impl Doorman for Owner {
    fn admit(
        &self,
        bucket: &Link,
        secret: &Secret,
        identity: &Identity,
        name: &Label,
    ) -> Result<(Vec<u8>, Vec<u8>), Closed> {
        if *bucket != self.0.genesis() {
            return Err(Closed::No("another bucket".into()));
        }
        match self.0.redeem(&self.1, secret, identity, name) {
            Ok(_) => Ok(self.0.beginning().unwrap()),
            Err(NotInvited::Bucket(error)) => Err(Closed::Later(error.to_string())),
            Err(why) => Err(Closed::No(why.to_string())),
        }
    }
}

fn settings() -> Settings {
    Settings { loopback: true, local_discovery: false, ..Settings::default() }
}

impl Home {
    fn new() -> Self {
        let home = Self {
            dir: tempfile::tempdir().unwrap(),
            device: Arc::new(DeviceKey::generate()),
            network: None,
            bucket: None,
        };
        home.online()
    }

    fn online(mut self) -> Self {
        self.go_online();
        self
    }

    fn go_online(&mut self) {
        let network = Network::start(Arc::clone(&self.device), &settings(), &self.dir.path().join("peers")).unwrap();
        if let Some(bucket) = &self.bucket {
            network.attach(Arc::clone(bucket) as Arc<dyn Local>);
        }
        self.network = Some(network);
    }

    fn network(&self) -> &Network {
        self.network.as_ref().unwrap()
    }

    fn bucket(&self) -> &Arc<Bucket> {
        self.bucket.as_ref().unwrap()
    }

    /// The owner of a new bucket.
    fn owner() -> Self {
        let mut home = Self::new();
        let new = NewBucket { name: "photos", device_name: "a", device: &home.device, passphrase: None };
        let bucket = Arc::new(new.create(&home.dir.path().join("buckets")).unwrap());
        let key = OwnerKey::load(&bucket.dir().join("owner.key"), None).unwrap();
        home.network().set_doorman(Arc::new(Owner(Arc::clone(&bucket), key)));
        home.network().attach(Arc::clone(&bucket) as Arc<dyn Local>);
        home.bucket = Some(bucket);
        home
    }

    fn ticket(&self, role: Role) -> Ticket {
        let bucket = self.bucket();
        let expires = Timestamp(u64::MAX);
        let secret = bucket.invite(role, expires, 1).unwrap();
        let doors = vec![self.network().reach()];
        Ticket { bucket: bucket.genesis(), id: bucket.id(), role, expires, secret, doors }
    }

    fn join(&mut self, ticket: &Ticket) -> Result<(), JoinError> {
        let dir: PathBuf = self.dir.path().join("joined");
        let name = Label::new("b").unwrap();
        let deadline = Instant::now() + PATIENCE;
        let replica = self.network().join(ticket, &name, &dir, &mut |_| Instant::now() < deadline)?;
        drop(Arc::into_inner(replica).expect("nobody else has it"));
        let bucket = Arc::new(Bucket::open(&dir, Arc::clone(&self.device)).unwrap());
        self.network().attach(Arc::clone(&bucket) as Arc<dyn Local>);
        self.bucket = Some(bucket);
        Ok(())
    }

    /// Publishes a version that is like the last, but for the time of its root.
    fn touch(&self, time: i64) -> Link {
        let bucket = self.bucket();
        let mut superblock = bucket.superblock().unwrap();
        superblock.root.mtime.secs = time;
        bucket.begin(&superblock, bucket.head(), 0).unwrap().publish().unwrap()
    }

    fn time(&self) -> i64 {
        self.bucket().superblock().unwrap().root.mtime.secs
    }
}

fn pair(role: Role) -> (Home, Home) {
    let (owner, mut other) = (Home::owner(), Home::new());
    other.join(&owner.ticket(role)).unwrap();
    (owner, other)
}

#[test]
fn a_device_joins_with_a_ticket_and_both_see_what_the_other_publishes() {
    let (a, b) = pair(Role::Writer);
    until("the same head", || a.bucket().head() == b.bucket().head());
    for round in 0..5 {
        let head = a.touch(100 + round);
        until("b shows it", || b.bucket().head() == head && b.time() == 100 + round);
        let head = b.touch(200 + round);
        until("a shows it", || a.bucket().head() == head && a.time() == 200 + round);
    }
}

#[test]
fn who_was_away_catches_up_without_a_ticket() {
    let (a, mut b) = pair(Role::Writer);
    until("connected", || a.network().peers().iter().any(|peer| peer.connected));
    b.network = None;
    let heads: Vec<_> = (0..300).map(|time| a.touch(time)).collect();
    b.go_online();
    until("b shows it", || b.bucket().head() == heads[299]);
}

#[test]
fn a_ticket_is_used_once() {
    let owner = Home::owner();
    let ticket = owner.ticket(Role::Reader);
    Home::new().join(&ticket).unwrap();
    let refused = Home::new().join(&ticket).unwrap_err();
    assert!(matches!(&refused, JoinError::Refused(why) if why.contains("used already")), "{refused}");
    let mut false_one = owner.ticket(Role::Reader);
    false_one.secret = Secret::random();
    assert!(matches!(Home::new().join(&false_one), Err(JoinError::Refused(_))));
}

#[test]
fn who_is_removed_is_cut_off() {
    let (a, b) = pair(Role::Writer);
    until("connected", || a.network().peers().iter().any(|peer| peer.connected));
    let key = OwnerKey::load(&a.bucket().dir().join("owner.key"), None).unwrap();
    a.bucket().remove(&key, &b.device.id()).unwrap();
    until("disconnected", || !a.network().peers().iter().any(|peer| peer.connected));
    until("told so", || b.network().peers().iter().any(|peer| peer.refused));
    let head = a.touch(7);
    b.touch(8);
    assert_eq!((a.bucket().head(), a.time()), (head, 7));
}

#[test]
fn no_garbage_is_collected_while_nodes_are_fetched_and_none_are_fetched_while_it_is() {
    let home = Home::owner();
    let (bucket, replica) = (home.bucket(), home.bucket().replica());
    let collect = || bucket.collect(&crate::publish::Retention::NOTHING, false, &mut |_| {}, &|| false);
    let fetching = replica.begin_fetch().expect("nothing else is going on");
    assert!(matches!(collect(), Err(crate::publish::BucketError::Busy)));
    drop(fetching);
    collect().unwrap();
    bucket
        .collect(
            &crate::publish::Retention::NOTHING,
            false,
            &mut |_| assert!(replica.begin_fetch().is_none(), "while it is collected"),
            &|| false,
        )
        .unwrap();
    assert!(replica.begin_fetch().is_some());
}
