//! What a node knows, and its answer to each request.
//!
//! A command without a node uses the same code in its own process, while it holds the home's lock.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use jaxfs_mount::{MountOptions, Owner};
use jaxfs_sync::bucket::{DeviceKey, OwnerKey, Role};
use jaxfs_sync::limits::{COLLECTED_SHARE, COLLECTED_UNASKED};
use jaxfs_sync::link::BucketId;
use jaxfs_sync::publish::{Bucket, BucketStatus, CollectProgress, Repaired, Retention};
use jaxfs_sync::store::Sweeping;
use parking_lot::Mutex;
use uuid::Uuid;

use super::buckets::Buckets;
use super::keys::Keys;
use super::life::{Life, LiveMount, Reservation};
use super::peering::Peering;
use super::report;
use crate::control::protocol::{
    BucketName, BucketReport, CollectRequest, CollectedReport, DeviceReport, Event, Failure, FailureKind, LOG_BATCH,
    MountRequest, MountSettings, MountedReport, OwnerSetting, PROBLEMS, PhraseReport, RepairedReport, Reply, Request,
    SecretText, SyncReport, Target, UnmountedReport, VerifiedReport,
};
use crate::home::{Home, HomeLock};
use crate::mountpoint;
use crate::select::{self, Candidate, ForMount};

/// How often somebody who waits is told how far it is.
const TELLING: Duration = Duration::from_millis(100);
/// How long a mount that was unmounted may take to finish, besides its flush.
const ENDING: Duration = Duration::from_secs(5);

/// One home, opened.
pub(crate) struct State {
    pub(super) keys: Arc<Keys>,
    pub(super) buckets: Arc<Buckets>,
    pub(super) peering: Peering,
    life: Arc<Life>,
    collections: Collections,
    /// How many bytes were written to a bucket when garbage was last collected in it without being asked.
    collected: Mutex<BTreeMap<BucketId, u64>>,
    _lock: HomeLock,
}

/// Where what happens during a request is told; whether anybody still listens.
pub(super) type Events<'a> = &'a mut dyn FnMut(Event) -> bool;

impl State {
    /// Opens a home. With `leaves`, its life ends with its last mount.
    pub(crate) fn new(home: &Home, lock: HomeLock, leaves: bool) -> Self {
        let (keys, buckets) = (Arc::new(Keys::new(home)), Arc::new(Buckets::new(home.buckets())));
        Self {
            peering: Peering::new(home, Arc::clone(&keys), Arc::clone(&buckets)),
            keys,
            buckets,
            life: Life::new(leaves),
            collections: Collections::default(),
            collected: Mutex::default(),
            _lock: lock,
        }
    }

    /// What is mounted, and whether there is a reason to stay.
    pub(crate) fn life(&self) -> &Arc<Life> {
        &self.life
    }

    /// Does what is asked. Blocks for as long as that takes.
    pub(crate) fn handle(&self, request: &Request, events: Events<'_>) -> Result<Reply, Failure> {
        self.dispatch(request, events).map_err(|error| match error.downcast::<Failure>() {
            Ok(failure) => failure,
            Err(error) => Failure::new(FailureKind::Other, format!("{error:#}")),
        })
    }

    fn dispatch(&self, request: &Request, events: Events<'_>) -> Result<Reply> {
        match request {
            Request::Unlock { passphrase } => self.keys.unlock(passphrase).map(|()| Reply::Done),
            Request::Mount(request) => self.mount(request).map(Reply::Mounted),
            Request::Wait { dir } => {
                self.life.wait_gone(&self.mount_at(dir)?, None);
                Ok(Reply::Done)
            }
            Request::Unmount { dir, seconds, force } => {
                self.unmount(dir, Duration::from_secs(*seconds), *force).map(Reply::Unmounted)
            }
            Request::Status { target } => self.status(target).map(Reply::Status),
            Request::Sync { target, holders, seconds } => {
                self.sync(target, *holders, seconds.map(Duration::from_secs)).map(Reply::Synced)
            }
            Request::Log { target } => self.log(target, events).map(|()| Reply::Done),
            Request::Head { target, action } => Ok(Reply::Head(Box::new(self.head(target, action)?))),
            Request::Peers(request) => self.peers_request(request, events).map(Reply::Peers),
            Request::Metrics => self.metrics().map(Reply::Metrics),
            Request::Buckets => self.status(&Target::Any).map(Reply::Buckets),
            Request::CreateBucket { name } => {
                self.create(name).map(|bucket| Reply::Bucket(named(bucket.id(), &bucket)))
            }
            Request::FindBucket { bucket } => {
                let id = self.find(bucket.as_deref())?;
                Ok(Reply::Bucket(self.name_of(id)?))
            }
            Request::RemoveBucket { id } => self.remove(id).map(|()| Reply::Done),
            Request::Verify { id, repair } => self.verify(id, *repair, events).map(Reply::Verified),
            Request::Collect(request) => self.collect(request, events).map(Reply::Collected),
            Request::Device => self.device_report().map(Reply::Device),
            Request::ExportKey { bucket } => self.export_key(bucket.as_deref()).map(Reply::Phrase),
            Request::ImportKey { bucket, phrase } => self.import_key(bucket.as_deref(), phrase).map(Reply::Bucket),
            Request::ChangePassphrase { old, new } => {
                let owners: Vec<_> = self.buckets.ids()?.into_iter().map(|id| self.buckets.owner_key(id)).collect();
                self.keys.change_passphrase(&owners, old.as_ref(), new.as_ref()).map(|()| Reply::Done)
            }
        }
    }

    // Mounts.

    fn mount(&self, request: &MountRequest) -> Result<MountedReport> {
        let dir = &request.dir;
        if let Some(mount) = self.life.mounts().into_iter().find(|mount| mount.dir == *dir) {
            let at = mount.dir.display();
            bail!("jaxfs is already mounted at {at}: `jaxfs unmount {at}` unmounts it");
        }
        mountpoint::prepare(dir, &mut |_| tracing::warn!("a dead mount was detached"))?;
        let (device, made_key) = self.device_or_new()?;
        let dir_name = dir.file_name().unwrap_or_default().to_string_lossy();
        let candidates = self.candidates(&device)?;
        let (bucket, made_bucket) = match select::for_mount(&candidates, request.bucket.as_deref(), &dir_name)? {
            ForMount::Existing(found) => (self.buckets.open(parse_id(&found.id)?, &device)?, false),
            ForMount::Create(name) => (self.create_with(&name, &device)?, true),
        };
        let reservation = self.life.reserve(dir, bucket.id(), request.settings.read_only)?;
        let report = MountedReport { bucket: named(bucket.id(), &bucket), made_key, made_bucket };
        let shared = Arc::clone(&bucket);
        let mounted = jaxfs_mount::mount(bucket, dir, &options(&request.settings))
            .with_context(|| format!("can not mount at {}", dir.display()))?;
        reservation.keep(mounted).context("can not watch the mount")?;
        tracing::info!(bucket = %report.bucket.id, "mounted");
        // Without a network, it is a file system all the same.
        self.peering.attach(&shared, &device).unwrap_or_else(|error| tracing::warn!("not on the network: {error:#}"));
        Ok(report)
    }

    fn unmount(&self, dir: &Path, flush: Duration, force: bool) -> Result<UnmountedReport> {
        let mount = self.mount_at(dir)?;
        self.collections.cancel(|id| id == mount.bucket);
        let busy = self.end(&mount, flush, force)?;
        Ok(UnmountedReport { busy, leaving: self.life.is_last_request() })
    }

    /// Unmounts; true if something still used it.
    fn end(&self, mount: &LiveMount, flush: Duration, force: bool) -> Result<bool> {
        match mount.mounted.unmount(flush, force) {
            Ok(busy) => {
                // What still uses a detached mount may do so for ever, so that is not waited for: it has nothing to store.
                if busy {
                    self.life.forget(mount);
                } else {
                    self.life.wait_gone(mount, Some(ENDING));
                }
                tracing::info!(bucket = %mount.bucket, busy, "unmounted");
                Ok(busy)
            }
            Err(_) if self.life.wait_gone(mount, Some(Duration::ZERO)) => Ok(false), // someone else was quicker
            Err(error) => {
                let at = mount.dir.display();
                bail!("{at} is still mounted, since {error}: mend that and try again, or `jaxfs unmount --force {at}`")
            }
        }
    }

    /// Unmounts everything, because the node ends. The error goes to the log, so it names buckets by their ids.
    pub(crate) fn unmount_all(&self, flush: Duration) -> Result<()> {
        let mut failures = Vec::new();
        self.collections.cancel(|_| true);
        self.life.wait_made(ENDING); // else it would be left behind
        for mount in self.life.mounts() {
            if let Err(error) = self.end(&mount, flush, true) {
                failures.push(format!("{}: {}", mount.bucket, error.root_cause()));
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(anyhow!("can not unmount {}", failures.join("; "))) }
    }

    fn mount_at(&self, dir: &Path) -> Result<LiveMount> {
        self.life.mounts().into_iter().find(|mount| mount.dir == dir).ok_or_else(|| not_mounted(dir))
    }

    fn sync(&self, target: &Target, holders: u64, limit: Option<Duration>) -> Result<Vec<SyncReport>> {
        let mounts = match target {
            Target::Any => self.life.mounts(),
            Target::Dir(dir) => vec![self.life.above(dir).ok_or_else(|| not_mounted(dir))?],
            Target::Bucket(name) => {
                let id = self.find(Some(name))?;
                self.life.mount_of(id).into_iter().collect()
            }
        };
        let Some(device) = self.keys.device()? else { return Ok(Vec::new()) };
        let synced = mounts.iter().map(|mount| {
            let head =
                mount.mounted.sync(Duration::MAX).with_context(|| format!("can not sync {}", mount.dir.display()))?;
            let bucket = self.buckets.open(mount.bucket, &device)?;
            self.peering.wait_held(&bucket, &head, holders, limit)?;
            Ok(SyncReport { name: bucket.name()?, head: head.short() })
        });
        synced.collect()
    }

    // Buckets.

    fn status(&self, target: &Target) -> Result<Vec<BucketReport>> {
        let ids = self.meant(target)?;
        let Some(device) = self.device_of(&ids)? else { return Ok(Vec::new()) };
        Ok(ids.into_iter().map(|id| self.bucket_report(id, &device)).collect())
    }

    /// The state of each bucket that can be opened, by its id.
    pub(super) fn statuses(&self, target: &Target) -> Result<Vec<(String, BucketStatus)>> {
        let ids = self.meant(target)?;
        let Some(device) = self.device_of(&ids)? else { return Ok(Vec::new()) };
        let opened = ids.into_iter().filter_map(|id| self.buckets.open(id, &device).ok());
        opened.map(|bucket| Ok((bucket.id().to_string(), bucket.status()?))).collect()
    }

    fn meant(&self, target: &Target) -> Result<Vec<BucketId>> {
        match target {
            Target::Any => self.buckets.ids(),
            Target::Dir(dir) => Ok(vec![self.life.above(dir).ok_or_else(|| not_mounted(dir))?.bucket]),
            Target::Bucket(name) => Ok(vec![self.find(Some(name))?]),
        }
    }

    fn bucket_report(&self, id: BucketId, device: &Arc<DeviceKey>) -> BucketReport {
        let mount = self.life.mount_of(id);
        let opened = self.buckets.open(id, device);
        let swarm = opened.as_ref().ok().and_then(|bucket| self.peering.report(bucket));
        let mut report = report::bucket(id, opened, mount.as_ref());
        report.swarm = swarm;
        report
    }

    fn log(&self, target: &Target, events: Events<'_>) -> Result<()> {
        let bucket = self.open(self.one(target)?)?;
        let status = bucket.status()?;
        let mut batch = Vec::with_capacity(LOG_BATCH);
        for entry in bucket.log()? {
            batch.push(report::version(&entry, &status));
            if batch.len() == LOG_BATCH {
                events(Event::Versions(std::mem::take(&mut batch)));
            }
        }
        events(Event::Versions(batch));
        Ok(())
    }

    /// The one bucket that is meant: without a name, the only one that is mounted, or that there is.
    pub(super) fn one(&self, target: &Target) -> Result<BucketId> {
        match target {
            Target::Dir(dir) => Ok(self.life.above(dir).ok_or_else(|| not_mounted(dir))?.bucket),
            Target::Bucket(name) => self.find(Some(name)),
            Target::Any => match self.life.mounts()[..] {
                [ref only] => Ok(only.bucket),
                _ => self.find(None),
            },
        }
    }

    fn collect(&self, request: &CollectRequest, events: Events<'_>) -> Result<CollectedReport> {
        let bucket = self.open(self.one(&request.target)?)?;
        let saved = bucket.retention()?;
        let or = |asked: Option<u64>, saved| asked.map_or(saved, Duration::from_secs);
        let retention = Retention {
            all: or(request.keep_all, saved.all),
            hourly: or(request.keep_hourly, saved.hourly),
            daily: or(request.keep_daily, saved.daily),
        };
        if request.save && retention != saved {
            bucket.set_retention(&retention).context("can not save that")?;
        }
        let cancel = self.collections.begin(bucket.id());
        let mut steps = steps(events);
        let mut progress = |at| {
            let (done, all) = match at {
                CollectProgress::Marked(nodes) => (nodes, 0),
                CollectProgress::Swept(Sweeping::Blocks(done, all) | Sweeping::Segments(done, all)) => (done, all),
            };
            if !steps(done, all) {
                cancel.0.store(true, Ordering::Relaxed);
            }
        };
        let is_cancelled = || cancel.0.load(Ordering::Relaxed);
        let report = bucket.collect(&retention, request.dry_run, &mut progress, &is_cancelled);
        let report = report.context("can not collect garbage")?;
        if !request.dry_run {
            tracing::info!(bucket = %bucket.id(), blocks = report.blocks, freed = report.freed, "garbage was collected");
        }
        Ok(CollectedReport {
            bucket: named(bucket.id(), &bucket),
            dry_run: request.dry_run,
            versions: report.versions,
            kept: report.kept,
            dropped: report.dropped,
            blocks: report.blocks,
            bytes: report.bytes,
            freed: report.freed,
            full: report.full,
            cancelled: report.cancelled,
            problems: report.problems,
        })
    }

    /// Collects garbage in mounted buckets to which much was written.
    pub(super) fn collect_what_is_due(&self) {
        for mount in self.life.mounts() {
            if let Err(error) = self.collect_if_due(mount.bucket) {
                tracing::warn!(bucket = %mount.bucket, error = format!("{error:#}"), "garbage is not collected");
            }
        }
    }

    fn collect_if_due(&self, id: BucketId) -> Result<()> {
        let bucket = self.open(id)?;
        let status = bucket.status()?;
        let before = self.collected.lock().get(&id).copied().unwrap_or(0);
        if !is_due(status.written_bytes.saturating_sub(before), status.stored_bytes) {
            return Ok(());
        }
        // Where it can not be done, it is not tried again at once.
        self.collected.lock().insert(id, status.written_bytes);
        let cancel = self.collections.begin(id);
        let report = bucket.collect(&bucket.retention()?, false, &mut |_| {}, &|| cancel.0.load(Ordering::Relaxed))?;
        tracing::info!(bucket = %id, blocks = report.blocks, freed = report.freed, "garbage was collected unasked");
        Ok(())
    }

    fn verify(&self, id: &str, repair: bool, events: Events<'_>) -> Result<VerifiedReport> {
        let id = parse_id(id)?;
        let repaired = if repair { Some(self.repair(id, events)?) } else { None };
        let bucket = self.open(id)?;
        let report = bucket.verify(&mut steps(events));
        let mut report = report.context("can not verify")?;
        report.problems.extend(self.owner_key_trouble(&bucket));
        report.problems.extend(repaired.iter().flat_map(|repaired| repaired.lost.clone()));
        let problem_count = report.problems.len() as u64 + report.more;
        report.problems.truncate(PROBLEMS);
        Ok(VerifiedReport {
            bucket: named(bucket.id(), &bucket),
            blocks: report.blocks,
            bytes: report.bytes,
            files: report.files,
            directories: report.directories,
            manifests: report.manifests,
            problems: report.problems,
            problem_count,
            repaired: repaired.map(|Repaired { index, .. }| RepairedReport {
                blocks: index.blocks,
                manifests: index.manifests,
                lost_bytes: index.lost_bytes,
            }),
        })
    }

    fn repair(&self, id: BucketId, events: Events<'_>) -> Result<Repaired> {
        let _reservation = self.reserve_unmounted(id)?;
        self.take_offline(id);
        let mut steps = steps(events);
        self.buckets.repair(id, &mut |done, all| {
            // It is done all the same: half of an index is of no use.
            steps(done, all);
        })
    }

    /// Takes the place of a bucket in the table of mounts, so that it can not be mounted meanwhile.
    fn reserve_unmounted(&self, id: BucketId) -> Result<Reservation> {
        match self.life.mount_of(id) {
            Some(mount) => {
                let at = mount.dir.display();
                bail!("the bucket is mounted at {at}: `jaxfs unmount {at}` first");
            }
            None => Ok(self.life.reserve(&self.buckets.dir(id), id, false)?),
        }
    }

    /// What is wrong with a bucket's owner key, which nothing else reads for a long time.
    fn owner_key_trouble(&self, bucket: &Bucket) -> Option<String> {
        let again = "`jaxfs key import` restores it from its recovery phrase";
        match self.keys.owner(&self.buckets.owner_key(bucket.id())) {
            Ok(Some(key)) if key.id() == bucket.owner() => None,
            Ok(Some(_)) => Some(format!("owner.key is another bucket's: {again}")),
            Ok(None) => (bucket.role() == Role::Owner).then(|| format!("owner.key is missing: {again}")),
            Err(error) => Some(format!("{error:#}: {again}")),
        }
    }

    fn create(&self, name: &str) -> Result<Arc<Bucket>> {
        let (device, _) = self.device_or_new()?;
        self.create_with(name, &device)
    }

    fn create_with(&self, name: &str, device: &Arc<DeviceKey>) -> Result<Arc<Bucket>> {
        let bucket = self.buckets.create(name, device, self.keys.passphrase().as_ref())?;
        Ok(bucket)
    }

    fn remove(&self, id: &str) -> Result<()> {
        let id = parse_id(id)?;
        let _reservation = self.reserve_unmounted(id)?;
        self.take_offline(id);
        self.buckets.remove(id)
    }

    /// Takes a bucket off the network, so that it can be closed.
    fn take_offline(&self, id: BucketId) {
        let opened = self.buckets.opened().into_iter().find(|bucket| bucket.id() == id);
        if let Some(genesis) = opened.map(|bucket| bucket.genesis()) {
            self.peering.detach(&genesis);
        }
    }

    /// This device's key.
    pub(super) fn device(&self) -> Result<Arc<DeviceKey>> {
        self.keys.device()?.context("this home has no device key yet: `jaxfs mount DIR` makes one")
    }

    pub(super) fn open(&self, id: BucketId) -> Result<Arc<Bucket>> {
        let device = self.device_of(&[id])?.context("this home has no device key yet")?;
        self.buckets.open(id, &device)
    }

    /// The bucket that is meant by a name or an id, or the only one.
    fn find(&self, wanted: Option<&str>) -> Result<BucketId> {
        let candidates = match self.device_of(&self.buckets.ids()?)? {
            Some(device) => self.candidates(&device)?,
            None => Vec::new(),
        };
        let found = match wanted {
            Some(wanted) => select::by_name(&candidates, wanted),
            None => select::only(&candidates),
        };
        parse_id(&found?.id)
    }

    fn candidates(&self, device: &Arc<DeviceKey>) -> Result<Vec<Candidate>> {
        let candidate = |id: BucketId| {
            let name = self.buckets.open(id, device).and_then(|bucket| Ok(bucket.name()?));
            Candidate { id: id.to_string(), name: name.inspect_err(|error| tracing::warn!("{error:#}")).ok() }
        };
        Ok(self.buckets.ids()?.into_iter().map(candidate).collect())
    }

    /// Both names of a bucket; one that can not be opened is called by its id.
    fn name_of(&self, id: BucketId) -> Result<BucketName> {
        Ok(self
            .open(id)
            .map_or_else(|_| BucketName { id: id.to_string(), name: id.to_string() }, |bucket| named(id, &bucket)))
    }

    // Keys.

    pub(super) fn device_or_new(&self) -> Result<(Arc<DeviceKey>, bool)> {
        match self.device_of(&self.buckets.ids()?)? {
            Some(device) => Ok((device, false)),
            None => Ok((self.keys.make()?, true)),
        }
    }

    /// The device's key. It may be missing only where there is no bucket that it opens.
    fn device_of(&self, buckets: &[BucketId]) -> Result<Option<Arc<DeviceKey>>> {
        match self.keys.device()? {
            None if !buckets.is_empty() => {
                bail!(
                    "device.key is missing from the home, but there are buckets that need it: put it back from a backup"
                )
            }
            device => Ok(device),
        }
    }

    fn device_report(&self) -> Result<DeviceReport> {
        let device = self.device()?;
        Ok(DeviceReport { id: device.id().to_string(), protected: self.keys.is_protected() })
    }

    fn export_key(&self, bucket: Option<&str>) -> Result<PhraseReport> {
        let id = self.find(bucket)?;
        let key = self.keys.owner(&self.buckets.owner_key(id))?;
        let key = key.context("this home does not hold the bucket's owner key: export it where it was made")?;
        let phrase = SecretText::new(key.phrase().to_string());
        Ok(PhraseReport { bucket: self.name_of(id)?, phrase })
    }

    fn import_key(&self, bucket: Option<&str>, phrase: &SecretText) -> Result<BucketName> {
        let id = self.find(bucket)?;
        let bucket = self.open(id)?;
        let key = OwnerKey::from_phrase(phrase.expose()).context("the owner key was not restored")?;
        ensure!(key.id() == bucket.owner(), "this is the recovery phrase of another bucket: nothing was changed");
        self.keys.replace_owner(&key, &self.buckets.owner_key(id))?;
        Ok(named(id, &bucket))
    }
}

/// Whether so much was written that some of what is stored may well be garbage.
const fn is_due(written: u64, stored: u64) -> bool {
    written > COLLECTED_UNASKED && written > stored / COLLECTED_SHARE
}

/// The collections of garbage under way, each with whether it is to end.
#[derive(Default)]
struct Collections(Mutex<Vec<(BucketId, Weak<AtomicBool>)>>);

/// Ends a collection once it is true.
struct Cancel(Arc<AtomicBool>);

impl Collections {
    fn begin(&self, id: BucketId) -> Cancel {
        let cancel = Arc::new(AtomicBool::new(false));
        let mut all = self.0.lock();
        all.retain(|(_, cancel)| cancel.strong_count() > 0);
        all.push((id, Arc::downgrade(&cancel)));
        Cancel(cancel)
    }

    fn cancel(&self, which: impl Fn(BucketId) -> bool) {
        let all = self.0.lock();
        let meant = all.iter().filter(|(id, _)| which(*id)).filter_map(|(_, cancel)| cancel.upgrade());
        meant.for_each(|cancel| cancel.store(true, Ordering::Relaxed));
    }
}

fn not_mounted(dir: &Path) -> anyhow::Error {
    let message = format!("nothing of this home is mounted at {}: `jaxfs status` shows what is", dir.display());
    Failure::new(FailureKind::NotMounted, message).into()
}

/// Both names of an open bucket; where its name does not open, the id stands for it.
pub(super) fn named(id: BucketId, bucket: &Bucket) -> BucketName {
    BucketName { id: id.to_string(), name: bucket.name().unwrap_or_else(|_| id.to_string()) }
}

fn parse_id(id: &str) -> Result<BucketId> {
    Uuid::try_parse(id).map(BucketId).with_context(|| format!("`{id}` is not the id of a bucket"))
}

/// Tells of progress now and then, whatever the steps of the work are, and says whether anybody still listens.
fn steps(events: Events<'_>) -> impl FnMut(u64, u64) -> bool {
    let mut told: Option<Instant> = None;
    move |done, all| {
        if told.is_some_and(|told| told.elapsed() < TELLING) {
            return true;
        }
        told = Some(Instant::now());
        events(Event::Progress { done, all })
    }
}

fn options(settings: &MountSettings) -> MountOptions {
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    MountOptions {
        read_only: settings.read_only,
        owner: match settings.owner {
            OwnerSetting::Me { uid, gid } => Owner::Me { uid, gid },
            OwnerSetting::Stored => Owner::Stored,
        },
        allow_other: settings.allow_other,
        suid: settings.suid,
        dev: settings.dev,
        cache_bytes: bytes(settings.cache_bytes),
        dirty_bytes: bytes(settings.dirty_bytes),
        most_space: settings.max_space,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_collected_unasked_after_much_was_written_and_much_of_what_there_is() {
        const MIB: u64 = 1 << 20;
        assert!(is_due(300 * MIB, 1000 * MIB));
        assert!(!is_due(200 * MIB, 210 * MIB), "it is little");
        assert!(!is_due(300 * MIB, 2000 * MIB), "there is much more");
    }
}
