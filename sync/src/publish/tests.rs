//! Two devices with one bucket, and what passes between them.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::bucket::{OwnerKey, Role};
use crate::chain::{Fate, HistoryRequest, Input, Missing, Output, Source};
use crate::crypto::label::Label;
use crate::store::disk::Disk;
use crate::store::disk::simulated::{Fault, Simulation};

/// A home with two devices: the owner's, and one that was let in.
pub(super) struct Pair {
    _dir: TempDir,
    pub(super) owner: OwnerKey,
    pub(super) devices: [Arc<DeviceKey>; 2],
    buckets: [Bucket; 2],
}

fn label(text: &str) -> Label {
    Label::new(text).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else if entry.file_name() != "owner.key" {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Publishes a version that is like the last, but for the time of its root. Gives the head.
fn touch(bucket: &Bucket, time: i64) -> Link {
    let mut superblock = bucket.superblock().unwrap();
    superblock.root.mtime.secs = time;
    bucket.begin(&superblock, bucket.head(), 0).unwrap().publish().unwrap()
}

fn time(bucket: &Bucket) -> i64 {
    bucket.superblock().unwrap().root.mtime.secs
}

impl Pair {
    pub(super) fn new(role: Role) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let devices = [DeviceKey::generate(), DeviceKey::generate()].map(Arc::new);
        let new = NewBucket { name: "photos", device_name: "a", device: &devices[0], passphrase: None };
        let bucket = new.create(&dir.path().join("a")).unwrap();
        let at = bucket.dir().to_path_buf();
        let owner = OwnerKey::load(&at.join("owner.key"), None).unwrap();
        let identity = devices[1].identity(bucket.id());
        bucket.admit(&owner, &identity, role, &label("b")).unwrap();
        drop(bucket);
        let other = dir.path().join("b");
        copy(&at, &other);
        let open = |at: &Path, device: &Arc<DeviceKey>| Bucket::open(at, Arc::clone(device)).unwrap();
        let buckets = [open(&at, &devices[0]), open(&other, &devices[1])];
        Self { _dir: dir, owner, devices, buckets }
    }

    pub(super) fn a(&self) -> &Bucket {
        &self.buckets[0]
    }

    pub(super) fn b(&self) -> &Bucket {
        &self.buckets[1]
    }

    /// One of them is closed and opened again.
    pub(super) fn restart(&mut self, at: usize) {
        let dir = self.buckets[at].dir().to_path_buf();
        let nobody = tempfile::tempdir().unwrap();
        let new = NewBucket { name: "none", device_name: "none", device: &self.devices[at], passphrase: None };
        // Only one may have it open.
        drop(std::mem::replace(&mut self.buckets[at], new.create(nobody.path()).unwrap()));
        self.buckets[at] = Bucket::open(&dir, Arc::clone(&self.devices[at])).unwrap();
    }

    /// The two are connected, tell each other all that they know, and are not connected any more.
    pub(super) fn meet(&self) {
        for at in [0, 1] {
            self.exchange(at, vec![Input::Connected(self.devices[1 - at].id())]);
        }
        for at in [0, 1] {
            self.fetch_nodes(at);
            self.exchange(at, vec![Input::Disconnected(self.devices[1 - at].id())]);
        }
    }

    /// Carries what follows to the other, and what follows from that back, until it is quiet.
    fn exchange(&self, at: usize, inputs: Vec<Input>) {
        let mut queue = VecDeque::from([(at, inputs)]);
        while let Some((at, inputs)) = queue.pop_front() {
            for output in self.buckets[at].receive(inputs).unwrap() {
                queue.extend(self.act(at, output));
            }
        }
    }

    fn act(&self, at: usize, output: Output) -> Option<(usize, Vec<Input>)> {
        let other = 1 - at;
        match output {
            Output::SendHeads { heads, answer, .. } => {
                Some((other, vec![Input::Heads { from: self.devices[at].id(), heads, answer }]))
            }
            Output::Fetch { from, request } => {
                let (items, more) = self.buckets[other].replica.answer(&request, 100, 10_000).unwrap();
                let believed = items.iter().map(|item| item.believed(&self.buckets[at].replica, Source::History(from)));
                let mut inputs: Vec<_> = believed.collect::<Result<_, _>>().unwrap();
                inputs.push(Input::Fetched { from, ok: true, more });
                Some((at, inputs))
            }
            _ => None,
        }
    }

    fn fetch_nodes(&self, at: usize) {
        let (bucket, other) = (&self.buckets[at], &self.buckets[1 - at]);
        for version in bucket.replica().incomplete() {
            let roots = bucket.replica().roots_of(&version).unwrap();
            roots.iter().for_each(|root| fetch(bucket, other, root));
            bucket.complete(&version).unwrap();
        }
    }
}

/// Stores a node behind all that are below it.
fn fetch(bucket: &Bucket, other: &Bucket, link: &Link) {
    if bucket.replica().lacking(std::slice::from_ref(link)).unwrap().is_empty() {
        return;
    }
    let block = other.replica().block(link).unwrap().unwrap();
    nodes_below(link, &block).unwrap().iter().for_each(|below| fetch(bucket, other, below));
    bucket.replica().put_block(link, &block).unwrap();
}

#[test]
fn what_one_publishes_the_other_shows_once_they_met() {
    let pair = Pair::new(Role::Writer);
    assert_eq!(pair.a().head(), pair.b().head(), "they begin with the same");
    let head = touch(pair.a(), 5);
    pair.meet();
    assert_eq!((pair.b().head(), time(pair.b())), (head, 5));
    let head = touch(pair.b(), 6);
    pair.meet();
    assert_eq!((pair.a().head(), time(pair.a())), (head, 6));
}

#[test]
fn a_fork_heals_and_the_work_that_lost_is_known_as_displaced() {
    let pair = Pair::new(Role::Writer);
    for at in 0..3 {
        touch(pair.a(), 10 + at);
    }
    let lost = touch(pair.b(), 20);
    pair.meet();
    assert_eq!(pair.a().head(), pair.b().head());
    assert_eq!(time(pair.b()), 12, "the longer one");
    let displaced = pair.b().replica.known.lock().chain.displaced(&pair.devices[1].id());
    assert_eq!(displaced.iter().map(|one| (one.last, one.fate)).collect::<Vec<_>>(), [(lost, Fate::Open)]);
    assert_eq!(pair.a().log().unwrap().len(), pair.b().log().unwrap().len(), "nothing is lost");
}

#[test]
fn hundreds_of_versions_come_in_bounded_answers_and_are_there_after_a_restart() {
    let pair = Pair::new(Role::Writer);
    for at in 0..250 {
        touch(pair.a(), at);
    }
    pair.meet();
    let (head, dir, device) = (pair.a().head(), pair.b().dir().to_path_buf(), Arc::clone(&pair.devices[1]));
    assert_eq!(pair.b().head(), head);
    drop(pair.buckets);
    let again = Bucket::open(&dir, device).unwrap();
    assert_eq!((again.head(), time(&again)), (head, 249));
}

#[test]
fn a_reader_shows_what_is_new_and_can_publish_nothing() {
    let pair = Pair::new(Role::Reader);
    assert_eq!(pair.b().role(), Role::Reader);
    let head = touch(pair.a(), 5);
    pair.meet();
    assert_eq!(pair.b().head(), head);
    let refused = pair.b().begin(&pair.b().superblock().unwrap(), head, 0);
    assert!(matches!(refused.map(|_| ()), Err(BucketError::NotAWriter)));
}

#[test]
fn who_is_removed_wins_with_no_chain_and_reads_nothing_new() {
    let pair = Pair::new(Role::Writer);
    for at in 0..20 {
        touch(pair.b(), at);
    }
    let removal = pair.a().remove(&pair.owner, &pair.devices[1].id()).unwrap();
    touch(pair.a(), 100);
    let before = pair.b().head();
    pair.meet();
    assert_eq!(time(pair.a()), 100, "the longer chain of the old epoch does not win");
    assert!(pair.a().log().unwrap().iter().any(|entry| entry.link == removal && entry.canonical));
    assert_eq!(pair.a().member_infos().len(), 1);
    assert_eq!(pair.b().head(), before, "it goes on with what it can open");
    assert!(pair.b().log().unwrap().iter().any(|entry| entry.link == removal && entry.canonical), "and knows of it");
    let late = touch(pair.b(), 21);
    pair.meet();
    assert_ne!(pair.a().head(), late);
    assert_eq!(time(pair.a()), 100);
}

#[test]
fn a_member_has_the_keys_of_an_epoch_that_began_while_it_was_away() {
    let pair = Pair::new(Role::Writer);
    let (old, guest) = (pair.b().head(), DeviceKey::generate());
    let identity = guest.identity(pair.a().id());
    pair.a().admit(&pair.owner, &identity, Role::Reader, &label("guest")).unwrap();
    touch(pair.a(), 1);
    pair.a().remove(&pair.owner, &guest.id()).unwrap();
    let head = touch(pair.a(), 2);
    pair.meet();
    assert_eq!((pair.b().head(), time(pair.b())), (head, 2));
    assert_eq!(pair.b().member_infos(), pair.a().member_infos());
    let head = touch(pair.b(), 3);
    pair.meet();
    assert_eq!((pair.a().head(), time(pair.a())), (head, 3));
    let manifest = pair.b().manifest_of(&old).unwrap();
    assert!(Superblock::get(pair.b().vault(), &manifest.entry()).is_ok(), "what is old still opens");
}

#[test]
fn members_have_names_and_nobody_is_let_in_twice() {
    let pair = Pair::new(Role::Reader);
    let infos = pair.a().member_infos();
    let mut named: Vec<_> = infos.iter().map(|info| (info.role, info.name.as_deref().unwrap())).collect();
    named.sort();
    assert_eq!(named, [(Role::Owner, "a"), (Role::Reader, "b")]);
    let identity = pair.devices[1].identity(pair.a().id());
    let again = |role| pair.a().admit(&pair.owner, &identity, role, &label("b"));
    assert!(matches!(again(Role::Reader), Err(BucketError::AlreadyMember(_))));
    again(Role::Writer).unwrap();
    pair.meet();
    assert_eq!(pair.b().role(), Role::Writer);
    let head = touch(pair.b(), 9);
    pair.meet();
    assert_eq!(pair.a().head(), head);
    let stranger = OwnerKey::generate();
    assert!(pair.a().remove(&stranger, &pair.devices[1].id()).is_err());
    assert!(pair.a().remove(&pair.owner, &pair.devices[0].id()).is_err(), "not itself");
}

#[test]
fn a_version_that_was_made_before_the_members_changed_is_published_after() {
    let pair = Pair::new(Role::Writer);
    let (base, mut superblock) = (pair.a().head(), pair.a().superblock().unwrap());
    superblock.root.mtime.secs = 77;
    let made = pair.a().begin(&superblock, base, 0).unwrap();
    pair.a().remove(&pair.owner, &pair.devices[1].id()).unwrap();
    made.publish().unwrap();
    assert_eq!(time(pair.a()), 77);
    let (dir, device) = (pair.a().dir().to_path_buf(), Arc::clone(&pair.devices[0]));
    drop(pair.buckets);
    assert_eq!(time(&Bucket::open(&dir, device).unwrap()), 77, "sealed with the keys of its epoch");
}

#[test]
fn what_is_synced_and_not_published_stays_on_its_version_and_is_not_put_on_another() {
    let pair = Pair::new(Role::Writer);
    let (base, mut superblock) = (pair.b().head(), pair.b().superblock().unwrap());
    superblock.root.mtime.secs = 50;
    pair.b().begin(&superblock, base, 0).unwrap().checkpoint().unwrap();
    let head = touch(pair.a(), 5);
    pair.meet();
    assert_eq!((pair.b().head(), time(pair.b())), (base, 50));
    let (dir, device) = (pair.b().dir().to_path_buf(), Arc::clone(&pair.devices[1]));
    let Pair { buckets: [a, b], .. } = pair;
    drop((a, b));
    let again = Bucket::open(&dir, device).unwrap();
    assert_eq!((again.head(), time(&again)), (base, 50), "after a restart too");
    assert!(again.log().unwrap().iter().any(|entry| entry.link == head));
    let mine = again.begin(&again.superblock().unwrap(), base, 0).unwrap().publish().unwrap();
    let record = again.replica.known.lock().chain.record(&mine).unwrap();
    assert_eq!(record.previous, Some(base), "it does not take back what it has not seen");
}

#[test]
fn a_lie_is_not_stored() {
    let pair = Pair::new(Role::Writer);
    let head = touch(pair.a(), 5);
    let root = pair.a().replica().roots_of(&head).unwrap()[0];
    let mut block = pair.a().replica().block(&root).unwrap().unwrap();
    block[7] ^= 1;
    assert!(matches!(pair.b().replica().put_block(&root, &block), Err(BucketError::WrongBlock(_))));
    let mut bytes = pair.a().replica().manifest_bytes(&head).unwrap().unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let source = Source::History(pair.devices[0].id());
    assert!(Item::Manifest(bytes).believed(pair.b().replica(), source).is_err());
    assert!(Item::Members(vec![1, 2, 3]).believed(pair.b().replica(), source).is_err());
    let request = HistoryRequest { wants: vec![Missing::Manifest(head)], locator: vec![pair.b().head()] };
    let (items, more) = pair.a().replica().answer(&request, 100, 1 << 20).unwrap();
    assert_eq!((items.len(), more), (1, false));
    let inputs = items.iter().map(|item| item.believed(pair.b().replica(), source).unwrap()).collect();
    pair.b().receive(inputs).unwrap();
    assert!(pair.b().complete(&head).is_err(), "its nodes are not here");
    assert_ne!(pair.b().head(), head);
}

#[test]
fn what_the_disk_does_not_take_is_stored_with_the_next_that_it_does() {
    let disk = Simulation::new(7);
    let on = |disk: &Simulation| Settings { disk: Disk::Simulated(disk.clone()), ..Settings::default() };
    let devices = [DeviceKey::generate(), DeviceKey::generate()].map(Arc::new);
    let dir = tempfile::tempdir().unwrap();
    let new = NewBucket { name: "photos", device_name: "a", device: &devices[0], passphrase: None };
    let bucket = new.create_on(&on(&disk), dir.path()).unwrap();
    let owner = OwnerKey::load(&dir.path().join("owner.key"), None).unwrap();
    bucket.admit(&owner, &devices[1].identity(bucket.id()), Role::Writer, &label("b")).unwrap();
    drop(bucket);
    let other = disk.fork();
    let open =
        |disk: &Simulation, at: usize| Bucket::open_with(&on(disk), dir.path(), Arc::clone(&devices[at])).unwrap();
    let (a, b) = (open(&disk, 0), open(&other, 1));
    let heads: Vec<_> = (0..3).map(|at| touch(&a, at)).collect();
    let source = Source::History(devices[0].id());
    let item = |head: &Link| {
        Item::Manifest(a.replica().manifest_bytes(head).unwrap().unwrap()).believed(a.replica(), source).unwrap()
    };
    other.set_capacity(Some(other.used()));
    assert!(b.receive(vec![item(&heads[0]), item(&heads[1])]).is_err());
    other.set_capacity(None);
    assert!(heads[..2].iter().all(|head| b.replica.known.lock().chain.contains(head)), "it is kept in memory");
    let outputs = b.receive(vec![item(&heads[2])]).unwrap();
    assert!(outputs.iter().any(|output| matches!(output, Output::Admitted(_))));
    drop(b);
    let again = open(&other, 1);
    assert!(heads.iter().all(|head| again.replica.known.lock().chain.contains(head)), "the ones before it too");
    // A list that there is no room for, behind a manifest.
    let (fourth, guest) = (touch(&a, 3), DeviceKey::generate());
    let share = a.admit(&owner, &guest.identity(a.id()), Role::Reader, &label("guest")).unwrap();
    let list = a.manifest_of(&share).unwrap().share.members;
    let list = || Item::Members(a.replica().block(&list).unwrap().unwrap()).believed(a.replica(), source).unwrap();
    (0..4).for_each(|next| other.fail(other.operations() + next, Fault::Full));
    assert!(again.receive(vec![item(&fourth), list()]).is_err());
    other.heal();
    again.receive(vec![item(&fourth), list(), item(&share)]).unwrap();
    drop(again);
    let heads = [fourth, share];
    assert!(
        heads.iter().all(|head| open(&other, 1).replica.known.lock().chain.contains(head)),
        "nothing is missing between"
    );
}
