//! Checking everything that is stored: each block against its link, each link against what it leads to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{Bucket, BucketError};
use crate::bucket::{Height, SignedManifest, SignedMemberList};
use crate::link::{BlockRef, Link};
use crate::tree::{Extent, Kind, TreeError, Visitor, walk};

/// Lines of damage that a report names; beyond this it says how many more.
const PROBLEMS: usize = 1_000;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// Blocks read.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Names of files that are not directories, in the newest version.
    pub files: u64,
    /// Directories in it, the root among them.
    pub directories: u64,
    /// Manifests checked.
    pub manifests: u64,
    /// What is hurt, a path or a manifest, and how, one line each.
    pub problems: Vec<String>,
    /// Problems beyond those that are listed.
    pub more: u64,
}

impl VerifyReport {
    fn problem(&mut self, line: String) {
        if self.problems.len() < PROBLEMS {
            self.problems.push(line);
        } else {
            self.more += 1;
        }
    }
}

impl Bucket {
    /// Reads everything that is stored. `progress` is told the bytes that are read, and all there are, and says whether to go
    /// on.
    ///
    /// # Errors
    /// If the index itself can not be read; all other damage is in the report. And if it is not to go on.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<VerifyReport, BucketError> {
        // What is dropped meanwhile would be missed.
        let _stays = self.replica.collecting.read();
        let mut report = VerifyReport::default();
        let damaged = self.verify_blocks(&mut report, progress)?;
        let versions = self.verify_manifests(&mut report)?;
        if !self.journaled()?.sound {
            report.problem("the journal: what was synced last is damaged".into());
        }
        if !self.vault.store().ends_whole().unwrap_or(false) {
            report.problem("the last file in packs/ is damaged at its end: the next version mends it".into());
        }
        let newest = {
            let state = self.state.lock();
            state.checkpoint.unwrap_or_else(|| state.shown.entry())
        };
        let (seen, hurt) = (BTreeSet::new(), BTreeMap::new());
        let mut check = Check { bucket: self, damaged: &damaged, seen, hurt, newest: true, report };
        check.report.directories = 1;
        check.version(&newest, "");
        check.newest = false;
        for (height, entry) in versions {
            let bytes = check.report.bytes;
            if !progress(bytes, bytes) {
                return Err(BucketError::Cancelled);
            }
            check.version(&entry, &format!("version {height}: "));
        }
        let Check { mut report, seen, .. } = check;
        for link in damaged.iter().filter(|link| !seen.contains(*link)) {
            report.problem(format!("block {link}, which no version has, is damaged"));
        }
        Ok(report)
    }

    fn verify_blocks(
        &self,
        report: &mut VerifyReport,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<BTreeSet<Link>, BucketError> {
        let store = self.vault.store();
        let (mut links, mut all) = (Vec::new(), 0);
        store.for_each_block(&mut |link, len| {
            links.push((link, len));
            all += u64::from(len);
        })?;
        let (mut damaged, mut done) = (BTreeSet::new(), 0);
        for (link, len) in links {
            match store.get(&link) {
                Ok(Some(bytes)) if link.names(&bytes) => report.bytes += bytes.len() as u64,
                Ok(_) | Err(_) => drop(damaged.insert(link)),
            }
            report.blocks += 1;
            done += u64::from(len);
            if !progress(done, all) {
                return Err(BucketError::Cancelled);
            }
        }
        Ok(damaged)
    }

    /// Gives the roots of all versions whose content is kept, the highest first.
    fn verify_manifests(&self, report: &mut VerifyReport) -> Result<Vec<(Height, BlockRef)>, BucketError> {
        let store = self.vault.store();
        let (mut lists, mut versions) = (BTreeSet::new(), Vec::new());
        let dropped = store.dropped()?;
        for row in store.manifests() {
            let (link, bytes) = row?;
            report.manifests += 1;
            match SignedManifest::decode(&bytes).and_then(SignedManifest::verify) {
                Ok(manifest) if manifest.link() == link => {
                    lists.insert(manifest.share.members);
                    if !dropped.contains(&link) {
                        versions.push((manifest.height, manifest.entry()));
                    }
                }
                Ok(_) => report.problem(format!("manifest {link} is stored under another's name")),
                Err(why) => report.problem(format!("manifest {link}: {why}")),
            }
        }
        for link in lists {
            let Some(bytes) = store.get(&link)? else {
                report.problem(format!("member list {link} is missing"));
                continue;
            };
            let list = SignedMemberList::decode(&bytes);
            if let Err(why) = list.and_then(|list| list.verify(self.id(), self.owner())) {
                report.problem(format!("member list {link}: {why}"));
            }
        }
        versions.sort_by_key(|(height, _)| Reverse(*height));
        Ok(versions)
    }
}

struct Check<'a> {
    bucket: &'a Bucket,
    damaged: &'a BTreeSet<Link>,
    seen: BTreeSet<Link>,
    hurt: BTreeMap<Vec<u8>, String>,
    /// The version that is walked has the names that count, and no node of it may be passed by.
    newest: bool,
    report: VerifyReport,
}

impl Check<'_> {
    /// Walks a version, whose name stands before what is hurt in it.
    fn version(&mut self, at: &BlockRef, name: &str) {
        walk(&self.bucket.vault, at, self);
        for (path, why) in std::mem::take(&mut self.hurt) {
            let path = if path.is_empty() { "/".into() } else { String::from_utf8_lossy(&path) };
            self.report.problem(format!("{name}{path}: {why}"));
        }
    }
}

impl Visitor for Check<'_> {
    fn node(&mut self, _path: &[u8], at: &BlockRef) -> bool {
        self.seen.insert(at.link) || self.newest
    }

    fn extent(&mut self, path: &[u8], extent: &Extent) {
        let link = extent.block.link;
        if !self.seen.insert(link) && !self.newest {
            return;
        }
        if self.damaged.contains(&link) {
            self.hurt.insert(path.to_vec(), "part of its content is damaged".into());
        } else if !self.bucket.vault.store().contains(&link).unwrap_or(false) {
            self.hurt.insert(path.to_vec(), "part of its content is missing".into());
        }
    }

    fn entry(&mut self, _path: &[u8], kind: Kind) {
        match kind {
            _ if !self.newest => {}
            Kind::Directory => self.report.directories += 1,
            _ => self.report.files += 1,
        }
    }

    fn hurt(&mut self, path: &[u8], error: TreeError) {
        self.hurt.insert(path.to_vec(), error.to_string());
    }
}
