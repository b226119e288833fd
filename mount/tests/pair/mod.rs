//! Two devices with one bucket, and what passes between them when they meet.
#![allow(clippy::unwrap_used, dead_code, reason = "a part of several tests, each of which uses some of it")]

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use jaxfs_sync::bucket::{DeviceKey, OwnerKey, Role};
use jaxfs_sync::chain::{Input, Output, Source};
use jaxfs_sync::crypto::Label;
use jaxfs_sync::crypto::block::NodeBlock;
use jaxfs_sync::link::{Codec, Link};
use jaxfs_sync::publish::{Bucket, NewBucket};
use tempfile::TempDir;

/// Two homes of one bucket.
pub(crate) struct Pair {
    pub(crate) dir: TempDir,
    pub(crate) owner: OwnerKey,
    devices: [Arc<DeviceKey>; 2],
    pub(crate) buckets: [Arc<Bucket>; 2],
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

impl Pair {
    /// The owner's, and another writer's.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let devices = [DeviceKey::generate(), DeviceKey::generate()].map(Arc::new);
        let new = NewBucket { name: "photos", device_name: "desk", device: &devices[0], passphrase: None };
        let bucket = new.create(&dir.path().join("a")).unwrap();
        let at = bucket.dir().to_path_buf();
        let owner = OwnerKey::load(&at.join("owner.key"), None).unwrap();
        let name = Label::new("phone").unwrap();
        bucket.admit(&owner, &devices[1].identity(bucket.id()), Role::Writer, &name).unwrap();
        drop(bucket);
        let other = dir.path().join("b");
        copy(&at, &other);
        let open = |at: &Path, device: &Arc<DeviceKey>| Arc::new(Bucket::open(at, Arc::clone(device)).unwrap());
        let buckets = [open(&at, &devices[0]), open(&other, &devices[1])];
        Self { dir, owner, devices, buckets }
    }

    /// Opens one of the buckets anew, which nobody else may hold.
    pub(crate) fn restart(&mut self, at: usize) {
        let dir = self.buckets[at].dir().to_path_buf();
        let other = Arc::clone(&self.buckets[1 - at]);
        let before = std::mem::replace(&mut self.buckets[at], other);
        assert_eq!(Arc::strong_count(&before), 1, "nobody holds it");
        drop(before);
        self.buckets[at] = Arc::new(Bucket::open(&dir, Arc::clone(&self.devices[at])).unwrap());
    }

    /// The two are connected, tell each other all that they know, and are not connected any more.
    pub(crate) fn meet(&self) {
        for at in [0, 1] {
            self.exchange(at, vec![Input::Connected(self.devices[1 - at].id())]);
        }
        for at in [0, 1] {
            self.fetch_blocks(at);
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
                let (items, more) = self.buckets[other].replica().answer(&request, 100, 10_000).unwrap();
                let believed =
                    items.iter().map(|item| item.believed(self.buckets[at].replica(), Source::History(from)));
                let mut inputs: Vec<_> = believed.collect::<Result<_, _>>().unwrap();
                inputs.push(Input::Fetched { from, ok: true, more });
                Some((at, inputs))
            }
            _ => None,
        }
    }

    fn fetch_blocks(&self, at: usize) {
        let (bucket, other) = (&self.buckets[at], &self.buckets[1 - at]);
        for version in bucket.replica().incomplete() {
            let roots = bucket.replica().roots_of(&version).unwrap();
            roots.iter().for_each(|root| fetch(bucket, other, root));
            bucket.complete(&version).unwrap();
        }
    }
}

/// Stores a block behind all that are below it, data too.
fn fetch(bucket: &Bucket, other: &Bucket, link: &Link) {
    if bucket.replica().lacking(std::slice::from_ref(link)).unwrap().is_empty() {
        return;
    }
    let block = other.replica().block(link).unwrap().expect("the other has it");
    if link.codec() == Codec::DagCbor {
        let node = NodeBlock::decode(link, &block).unwrap();
        node.links.iter().for_each(|below| fetch(bucket, other, &below.link));
    }
    bucket.replica().put_block(link, &block).unwrap();
}
