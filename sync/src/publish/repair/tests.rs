#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::bucket::{DeviceKey, ManifestDraft, Place, Share};
use crate::publish::{NewBucket, now};
use crate::tree::Time;

/// A bucket of some versions.
struct Lab {
    home: tempfile::TempDir,
    device: Arc<DeviceKey>,
    /// Its manifests, the genesis first.
    versions: Vec<Link>,
}

impl Lab {
    fn new(versions: u64) -> Self {
        let (home, device) = (tempfile::tempdir().unwrap(), Arc::new(DeviceKey::generate()));
        let new = NewBucket { name: "repaired", device_name: "here", device: &device, passphrase: None };
        let bucket = new.create(home.path()).unwrap();
        let mut lab = Self { versions: vec![bucket.head()], home, device };
        for _ in 0..versions {
            lab.publish(&bucket);
        }
        lab
    }

    fn publish(&mut self, bucket: &Bucket) {
        let mut superblock = bucket.superblock().unwrap();
        superblock.root.mtime = Time { secs: self.versions.len() as i64, nanos: 0 };
        self.versions.push(bucket.begin(&superblock, bucket.head(), 0).unwrap().publish().unwrap());
    }

    fn dir(&self) -> PathBuf {
        let mut dirs = fs::read_dir(self.home.path()).unwrap().map(|entry| entry.unwrap().path());
        dirs.find(|path| path.is_dir()).unwrap()
    }

    fn open(&self) -> Result<Bucket, BucketError> {
        Bucket::open(&self.dir(), Arc::clone(&self.device))
    }

    fn repair(&self) -> Result<Repaired, BucketError> {
        Bucket::repair(&self.dir(), &mut |_, _| {})
    }

    /// Damages a block, and loses the index.
    fn lose(&self, link: &Link) {
        let pack = self.dir().join("packs/00000001.pack");
        let bytes = fs::read(&pack).unwrap();
        let at = bytes.windows(32).position(|part| part == link.digest()).unwrap() as u64;
        File::options().write(true).open(&pack).unwrap().write_all_at(b"lost", at + 37 + 20).unwrap();
        fs::remove_file(self.dir().join("db.redb")).unwrap();
    }

    /// A version whose member list is nowhere.
    fn publish_without_a_list(&mut self) {
        let bucket = self.open().unwrap();
        let (store, shown) = (bucket.vault().store(), bucket.head());
        let claims = SignedManifest::decode(&store.manifest(&shown).unwrap().unwrap()).unwrap().claims().clone();
        let draft = ManifestDraft {
            id: claims.id,
            owner: claims.owner,
            name: claims.name.to_vec(),
            share: Share { epoch: claims.share.epoch, members: Link::of(Codec::DagCbor, b"nowhere") },
            entry: claims.entry,
            pins: claims.pins,
            place: Place::After {
                genesis: bucket.genesis(),
                previous: shown,
                height: Height(self.versions.len() as u64),
            },
            reapplied: Vec::new(),
            timestamp: now(),
        };
        let manifest = draft.sign(&self.device).unwrap();
        let manifests = vec![(manifest.link(), manifest.bytes().to_vec())];
        store.commit(Commit { manifests, ..Commit::default() }).unwrap();
        self.versions.push(manifest.link());
    }
}

/// What the newest version has, which counts versions.
fn content(bucket: &Bucket) -> i64 {
    bucket.superblock().unwrap().root.mtime.secs
}

#[test]
fn versions_behind_a_lost_one_are_given_up_and_what_the_newest_had_follows_the_one_that_is_left() {
    let mut lab = Lab::new(6);
    lab.lose(&lab.versions[3]);
    let repaired = lab.repair().unwrap();
    assert_eq!(repaired.given_up, 3);
    assert!(repaired.lost.iter().any(|line| line.starts_with("version 6 is given up")), "{:?}", repaired.lost);
    assert!(repaired.lost.iter().any(|line| line.starts_with("3 versions were given up")), "{:?}", repaired.lost);
    let bucket = lab.open().unwrap();
    assert_eq!((bucket.head(), content(&bucket), bucket.has_checkpoint()), (lab.versions[2], 6, true));
    lab.versions.truncate(3);
    for _ in 0..5 {
        lab.publish(&bucket);
    }
    drop(bucket);
    let bucket = lab.open().unwrap();
    assert_eq!((bucket.head(), bucket.log().unwrap().len()), (lab.versions[7], 8));
    assert!(bucket.verify(&mut |_, _| true).unwrap().problems.is_empty());
}

#[test]
fn what_was_synced_after_a_version_that_is_given_up_is_kept() {
    let lab = Lab::new(3);
    let bucket = lab.open().unwrap();
    let mut superblock = bucket.superblock().unwrap();
    superblock.root.mtime = Time { secs: 77, nanos: 0 };
    bucket.begin(&superblock, bucket.head(), 0).unwrap().checkpoint().unwrap();
    drop(bucket);
    lab.lose(&lab.versions[2]);
    assert_eq!(lab.repair().unwrap().given_up, 1);
    let bucket = lab.open().unwrap();
    assert_eq!((bucket.head(), content(&bucket)), (lab.versions[1], 77));
}

#[test]
fn the_newest_version_gives_way_where_only_its_manifest_is_lost() {
    let lab = Lab::new(3);
    lab.lose(&lab.versions[3]);
    let repaired = lab.repair().unwrap();
    assert_eq!(repaired.given_up, 0, "nothing says that there was one more");
    let bucket = lab.open().unwrap();
    assert_eq!((bucket.head(), content(&bucket)), (lab.versions[2], 2));
}

#[test]
fn a_version_whose_member_list_is_lost_is_given_up_and_what_follows_it() {
    let mut lab = Lab::new(2);
    lab.publish_without_a_list();
    assert!(matches!(lab.open(), Err(BucketError::Chain(_))));
    let repaired = lab.repair().unwrap();
    assert_eq!(repaired.given_up, 1, "{:?}", repaired.lost);
    let bucket = lab.open().unwrap();
    assert_eq!((bucket.head(), content(&bucket)), (lab.versions[2], 2));
}

#[test]
fn without_the_genesis_or_its_member_list_nothing_is_given_up() {
    for genesis in [true, false] {
        let lab = Lab::new(2);
        let manifest = lab.open().unwrap().vault().store().manifest(&lab.versions[0]).unwrap().unwrap();
        let members = SignedManifest::decode(&manifest).unwrap().claims().share.members;
        lab.lose(if genesis { &lab.versions[0] } else { &members });
        let error = lab.repair().unwrap_err().to_string();
        let what = if genesis { "the genesis" } else { "the first member list" };
        assert!(error.contains(what) && error.contains("is missing"), "{error}");
        let store = Store::open(&lab.dir()).unwrap();
        assert_eq!(store.manifests().count(), if genesis { 2 } else { 3 });
    }
}

#[test]
fn a_repair_of_what_is_sound_changes_nothing() {
    let lab = Lab::new(4);
    for _ in 0..2 {
        let Repaired { given_up, lost, index } = lab.repair().unwrap();
        assert_eq!((given_up, lost, index.manifests), (0, Vec::new(), 5));
        let bucket = lab.open().unwrap();
        assert_eq!((bucket.head(), content(&bucket), bucket.has_checkpoint()), (lab.versions[4], 4, false));
    }
}
