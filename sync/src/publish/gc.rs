//! Collecting garbage: finding out what is needed, and having the store drop the rest.
//!
//! What is needed is what can be reached at one moment, or is put after it. The store's guard is begun first, then, at that
//! moment, everybody says what they hold: each mount, the journal, and the chain. All that is ever read or linked later
//! was reachable then, or is put later and kept by the guard. Blocks never change, so that the rest takes its time.
//!
//! Content is kept of the version that is shown, the checkpoint, all leaves, what people pinned, and what the retention
//! says. Manifests and member lists are kept always.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::journal::GENERATION;
use super::retention::Candidate;
use super::{Bucket, BucketError, Retention, now, stored_checkpoint};
use crate::bucket::{Manifest, SignedManifest};
use crate::chain::Record;
use crate::crypto::block::NodeBlock;
use crate::limits;
use crate::link::{BlockRef, Codec, Link};
use crate::store::{Commit, Sweeping, Swept};
use crate::tree::{
    Content, DirectoryBody, Extent, Kind, Layout, Pins, Superblock, TreeError, Vault, Visitor, walk, walk_content,
    walk_directory, walk_superblock,
};

/// The store's name for this machine's retention.
const RETENTION: &str = "retention";

/// Who holds blocks that no version need have: a mount.
pub trait Holds: Send + Sync {
    /// Tells of everything that may still be read or linked, as of one moment. What was taken from it before has been used on
    /// return, or is told.
    fn held(&self, held: &mut Held);

    /// Another version is to be shown: it moves to that by and by ([`Bucket::next`]). Must neither wait nor call the bucket.
    fn turn(&self);
}

/// What is held.
#[derive(Default)]
pub struct Held {
    blocks: HashSet<u64>,
    superblocks: Vec<Superblock>,
    directories: Vec<DirectoryBody>,
    contents: Vec<Content>,
}

impl Held {
    /// A version, stored or not.
    pub fn superblock(&mut self, superblock: &Superblock) {
        self.superblocks.push(superblock.clone());
    }

    /// A directory's stored names, and what they name.
    pub fn directory(&mut self, names: &DirectoryBody) {
        if names.root().is_some() {
            self.directories.push(names.clone());
        }
    }

    /// A file's stored content.
    pub fn content(&mut self, content: &Content) {
        match content.layout() {
            Layout::Inline(_) => {}
            Layout::List(extents) => self.blocks.extend(extents.iter().map(|extent| extent.block.link.prefix())),
            Layout::Tree(_) => self.contents.push(content.clone()),
        }
    }

    /// A data block.
    pub fn data(&mut self, at: &BlockRef) {
        self.blocks.insert(at.link.prefix());
    }
}

/// How far a collection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectProgress {
    /// Nodes read, to find out what is needed.
    Marked(u64),
    /// The store's part.
    Swept(Sweeping),
}

/// What a collection did, or would do.
#[derive(Clone, Debug, Default)]
pub struct CollectReport {
    /// Known versions.
    pub versions: u64,
    /// Those whose content is kept.
    pub kept: u64,
    /// Those whose content was dropped now.
    pub dropped: u64,
    /// Blocks that were dropped.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// By how many bytes the store takes less space.
    pub freed: u64,
    /// The disk was too full to give back all space.
    pub full: bool,
    /// It was told to end before it was done.
    pub cancelled: bool,
    /// What could not be read of versions that only the retention keeps, and what else is damaged; one line each.
    pub problems: Vec<String>,
}

/// Lines of damage that a report has.
const PROBLEMS: usize = 100;

impl Bucket {
    /// Makes someone who holds blocks, and hears of it before the next collection. None is at its moment meanwhile.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn attach<T: Holds + 'static, E>(&self, make: impl FnOnce() -> Result<Arc<T>, E>) -> Result<Arc<T>, E> {
        // What came since the last one.
        self.show().unwrap_or_else(|error| tracing::warn!(%error, "an older version is shown"));
        let mut holders = self.holders.lock();
        holders.retain(|holder| holder.strong_count() > 0);
        // From before it looks at the version that is shown, so that no other one is meanwhile.
        {
            let _no_pin_is_set = self.replica.publishing.lock();
            self.attaching.fetch_add(1, Ordering::AcqRel);
        }
        let made = make();
        if let Ok(made) = &made {
            let weak: Weak<T> = Arc::downgrade(made);
            let weak: Weak<dyn Holds> = weak;
            holders.push(weak.clone());
            let mut mounted = self.mounted.lock();
            mounted.retain(|holder| holder.strong_count() > 0);
            mounted.push(weak);
        }
        self.attaching.fetch_sub(1, Ordering::AcqRel);
        drop(holders);
        // What came meanwhile.
        self.show().unwrap_or_else(|error| tracing::warn!(%error, "an older version is shown"));
        made
    }

    /// Which versions this machine keeps the content of.
    ///
    /// # Errors
    /// If the store can not say.
    pub fn retention(&self) -> Result<Retention, BucketError> {
        let saved = self.vault.store().meta(RETENTION)?;
        Ok(saved.and_then(|bytes| Retention::decode(&bytes)).unwrap_or_default())
    }

    /// Has this machine keep these from now on.
    ///
    /// # Errors
    /// If it can not be stored.
    pub fn set_retention(&self, retention: &Retention) -> Result<(), BucketError> {
        let meta = vec![(RETENTION, Some(retention.encode()))];
        Ok(self.vault.store().commit(Commit { meta, ..Commit::default() })?)
    }

    /// Drops what is not needed, beside whatever else is going on. With `dry_run`, says what would go. O(nodes that are
    /// needed, blocks), and the bytes of what is moved; memory 10 to 20 bytes for each needed block.
    ///
    /// # Errors
    /// If something that is needed can not be read: then nothing was dropped. If the store fails; what was dropped until
    /// then is. And if another collection or a check is under way.
    pub fn collect(
        &self,
        retention: &Retention,
        dry_run: bool,
        progress: &mut dyn FnMut(CollectProgress),
        cancel: &dyn Fn() -> bool,
    ) -> Result<CollectReport, BucketError> {
        let _alone = self.replica.collecting.try_write().ok_or(BucketError::Busy)?;
        // What is fetched belongs to no version before all of it is here.
        if self.replica.is_fetching() {
            return Err(BucketError::Busy);
        }
        let store = self.vault.store();
        let before = store.stats()?.bytes;
        let (collection, roots) = {
            let holders = self.holders.lock();
            let collection = store.begin_collection()?.ok_or(BucketError::Busy)?;
            let mut held = Held::default();
            holders.iter().filter_map(Weak::upgrade).for_each(|holder| holder.held(&mut held));
            (collection, self.roots(held)?)
        };
        let mut report = CollectReport::default();
        let marks = Marks::new(progress, cancel);
        let (marks, dropped) = self.mark(roots, retention, marks, &mut report)?;
        let Some(marks) = marks else {
            report.cancelled = true;
            return Ok(report);
        };
        let (nodes, data) = (marks.nodes, marks.data);
        let is_live = |link: &Link| nodes.contains(&node_key(link)) || data.contains(&link.prefix());
        report.dropped = dropped.len() as u64;
        if dry_run {
            (report.blocks, report.bytes) = collection.count(&is_live)?;
            return Ok(report);
        }
        store.note_dropped(&dropped)?;
        let swept = collection.sweep(&is_live, &mut |at| progress(CollectProgress::Swept(at)), cancel)?;
        let Swept { blocks, bytes, damaged, full, cancelled, .. } = swept;
        if damaged > 0 {
            report.problems.push(format!("{damaged} files in packs/ are damaged, and were left as they are"));
        }
        report.freed = before.saturating_sub(store.stats()?.bytes);
        Ok(CollectReport { blocks, bytes, full, cancelled, ..report })
    }

    /// What is held, in the journal, and in the chain, at this moment. In this order: what a mount gives up moves on to the
    /// journal, and from there to a version.
    fn roots(&self, held: Held) -> Result<Roots, BucketError> {
        // What the journal begins with does not change meanwhile.
        let _nothing_is_published = self.replica.publishing.lock();
        let journal = self.journaled_blocks()?;
        // One whose commit failed may be stored nonetheless.
        let stored = stored_checkpoint(self.vault.store())?;
        // What a mount is about to move to.
        let next = self.next_link().map(|link| self.manifest_of(&link)).transpose()?.map(|next| next.entry());
        let known = self.replica.known.lock();
        let state = self.state.lock();
        let attempted = state.attempted.as_ref().map(|manifest| manifest.claims().entry());
        Ok(Roots {
            held,
            journal,
            shown: state.shown.clone(),
            newest: state.checkpoint.into_iter().chain(stored).chain(attempted).chain(next).collect(),
            leaves: known.chain.leaves().chain(known.chain.tips()).chain([known.chain.head()]).collect(),
            records: known.chain.records().collect(),
            canonical: known
                .chain
                .records()
                .filter(|record| known.chain.is_canonical(&record.link) == Some(true))
                .map(|record| record.link)
                .collect(),
        })
    }

    /// The blocks that the journal names beyond the newest durable version.
    fn journaled_blocks(&self) -> Result<Vec<Link>, BucketError> {
        let store = self.vault.store();
        let generation = store.meta(GENERATION)?.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        let (frames, all) = store.journaled(generation)?;
        let nodes = frames
            .iter()
            .map(|frame| NodeBlock::decode(&Link::of(Codec::DagCbor, &frame.payload), &frame.payload))
            .collect::<Result<Vec<_>, _>>();
        match nodes {
            Ok(nodes) if all => Ok(nodes.iter().flat_map(|node| &node.links).map(|at| at.link).collect()),
            _ => Err(BucketError::DamagedJournal),
        }
    }

    /// Marks what is needed. Gives that, none if it was cancelled, and the manifests whose content goes.
    fn mark<'a>(
        &self,
        roots: Roots,
        retention: &Retention,
        mut marks: Marks<'a>,
        report: &mut CollectReport,
    ) -> Result<(Option<Marks<'a>>, Vec<Link>), BucketError> {
        let vault = &self.vault;
        let Roots { held, journal, shown, newest, leaves, records, canonical } = roots;
        marks.data.extend(journal.iter().map(Link::prefix));
        marks.needed("the version that is shown", |marks| walk(vault, &shown.entry(), marks))?;
        for at in newest {
            marks.needed("the version that was synced last", |marks| walk(vault, &at, marks))?;
        }
        marks.held(vault, held)?;
        marks.needed("the pins", |marks| mark_pins(vault, &shown, marks))?;
        let store = self.vault.store();
        let dropped = store.dropped()?;
        let content = |record: &&Record| !dropped.contains(&record.link);
        let kept = kept(retention, records.iter().filter(content), &canonical);
        // Leaves that are all here first: where one is damaged, nothing is dropped.
        let (mut needed, mut others, mut old) = (Vec::new(), Vec::new(), Vec::new());
        let known: HashMap<_, _> = records.iter().map(|record| (record.link, record.complete)).collect();
        for row in store.manifests() {
            let (link, bytes) = row?;
            let manifest = SignedManifest::decode(&bytes)?.claims().clone();
            marks.keep(&link);
            marks.keep(&manifest.share.members);
            // What was published since is not the collection's to judge.
            let Some(complete) = known.get(&link) else { continue };
            report.versions += 1;
            match (leaves.contains(&link), kept.contains(&link)) {
                (true, _) if *complete && !dropped.contains(&link) => needed.push((link, manifest)),
                (true, _) | (_, true) => others.push((link, manifest)),
                _ => old.push((link, manifest)),
            }
        }
        for (link, manifest) in &needed {
            marks.needed(&format!("version {}", link.short()), |marks| mark_version(vault, manifest, marks))?;
        }
        for (link, manifest) in &others {
            mark_version(vault, manifest, &mut marks);
            for (path, error) in marks.take_hurt() {
                if report.problems.len() < PROBLEMS {
                    let path = String::from_utf8_lossy(&path);
                    report.problems.push(format!("version {}: {path}: {error}", link.short()));
                }
            }
        }
        let mut gone = Vec::new();
        report.kept = (needed.len() + others.len()) as u64;
        for (link, manifest) in &old {
            marks.keep(&manifest.pins);
            if marks.nodes.contains(&node_key(&manifest.entry)) {
                report.kept += 1;
            } else if !dropped.contains(link) && store.contains(&manifest.entry)? {
                gone.push(*link);
            }
        }
        if marks.nodes.len() + marks.data.len() > limits::MARKED_BLOCKS {
            return Err(BucketError::TooLarge);
        }
        Ok((if marks.cancelled { None } else { Some(marks) }, gone))
    }
}

/// What was there at the moment of a collection.
struct Roots {
    held: Held,
    journal: Vec<Link>,
    shown: Manifest,
    /// The checkpoint, and a version whose publishing failed.
    newest: Vec<BlockRef>,
    leaves: HashSet<Link>,
    records: Vec<Record>,
    canonical: HashSet<Link>,
}

/// What the retention keeps, of the chain of the head and of what lost.
fn kept<'a>(
    retention: &Retention,
    records: impl Iterator<Item = &'a Record>,
    canonical: &HashSet<Link>,
) -> HashSet<Link> {
    let candidate =
        |record: &Record| Candidate { link: record.link, height: record.height, timestamp: record.timestamp };
    let (chain, others): (Vec<_>, Vec<_>) = records.map(candidate).partition(|one| canonical.contains(&one.link));
    let now = now();
    retention.kept(&chain, now).into_iter().chain(retention.kept(&others, now)).collect()
}

fn mark_version(vault: &Vault, manifest: &Manifest, marks: &mut Marks<'_>) {
    walk(vault, &manifest.entry(), marks);
    mark_pins(vault, manifest, marks);
}

fn mark_pins(vault: &Vault, manifest: &Manifest, marks: &mut Marks<'_>) {
    let at = manifest.pins();
    if !marks.keep(&at.link) {
        return;
    }
    match vault.node::<Pins>(&at) {
        Ok(pins) => pins.list.iter().for_each(|pin| walk(vault, &pin.root, marks)),
        Err(error) => marks.hurt(b"", error),
    }
}

/// Half of a digest. A node is not gone into twice, so that none may be taken for another, as data blocks may.
fn node_key(link: &Link) -> u128 {
    link.digest().first_chunk().map_or(0, |head| u128::from_le_bytes(*head))
}

/// What is needed.
struct Marks<'a> {
    nodes: HashSet<u128>,
    data: HashSet<u64>,
    hurt: Vec<(Vec<u8>, TreeError)>,
    cancelled: bool,
    progress: &'a mut dyn FnMut(CollectProgress),
    cancel: &'a dyn Fn() -> bool,
}

impl<'a> Marks<'a> {
    fn new(progress: &'a mut dyn FnMut(CollectProgress), cancel: &'a dyn Fn() -> bool) -> Self {
        Self { nodes: HashSet::new(), data: HashSet::new(), hurt: Vec::new(), cancelled: false, progress, cancel }
    }

    /// Marks a block that is no node of a tree; whether it was not.
    fn keep(&mut self, link: &Link) -> bool {
        self.nodes.insert(node_key(link))
    }

    fn take_hurt(&mut self) -> Vec<(Vec<u8>, TreeError)> {
        std::mem::take(&mut self.hurt)
    }

    /// Marks something without which nothing may be dropped.
    fn needed(&mut self, what: &str, mark: impl FnOnce(&mut Self)) -> Result<(), BucketError> {
        mark(self);
        match self.take_hurt().into_iter().next() {
            None => Ok(()),
            Some((path, why)) => {
                let path = String::from_utf8_lossy(&path).into_owned();
                Err(BucketError::Unmarkable { what: what.to_owned(), path, why })
            }
        }
    }

    fn held(&mut self, vault: &Vault, held: Held) -> Result<(), BucketError> {
        let Held { blocks, superblocks, directories, contents } = held;
        self.data.extend(blocks);
        self.needed("what is mounted", |marks| {
            superblocks.iter().for_each(|superblock| walk_superblock(vault, superblock, marks));
            directories.iter().for_each(|names| walk_directory(vault, names, marks));
            contents.iter().for_each(|content| walk_content(vault, content, marks));
        })
    }
}

impl Visitor for Marks<'_> {
    fn node(&mut self, _path: &[u8], at: &BlockRef) -> bool {
        self.cancelled |= (self.cancel)();
        let fits = self.nodes.len() + self.data.len() <= limits::MARKED_BLOCKS;
        if self.cancelled || !fits || !self.nodes.insert(node_key(&at.link)) {
            return false;
        }
        (self.progress)(CollectProgress::Marked(self.nodes.len() as u64));
        true
    }

    fn extent(&mut self, _path: &[u8], extent: &Extent) {
        self.data.insert(extent.block.link.prefix());
    }

    fn entry(&mut self, _path: &[u8], _kind: Kind) {}

    fn hurt(&mut self, path: &[u8], error: TreeError) {
        if self.hurt.len() < PROBLEMS {
            self.hurt.push((path.to_vec(), error));
        }
    }
}
