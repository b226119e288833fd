//! Checking everything that is stored: each block against its link, each link against what it leads to.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bucket, BucketError};
use crate::bucket::{SignedManifest, SignedMemberList};
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
    /// Reads everything that is stored. `progress` is told the blocks that are done and all there are.
    ///
    /// # Errors
    /// If the index itself can not be read; all other damage is in the report.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport, BucketError> {
        // What is dropped meanwhile would be missed.
        let _stays = self.collecting.read();
        let mut report = VerifyReport::default();
        let damaged = self.verify_blocks(&mut report, progress)?;
        self.verify_manifests(&mut report)?;
        let version = {
            let state = self.state.lock();
            state.checkpoint.unwrap_or_else(|| state.shown.entry())
        };
        let mut check = Check { bucket: self, damaged: &damaged, seen: BTreeSet::new(), hurt: BTreeMap::new(), report };
        check.report.directories = 1;
        walk(&self.vault, &version, &mut check);
        let Check { hurt, mut report, seen, .. } = check;
        for (path, why) in hurt {
            report.problem(format!("{}: {why}", String::from_utf8_lossy(&path)));
        }
        for link in damaged.iter().filter(|link| !seen.contains(*link)) {
            report.problem(format!("block {link} of another version is damaged"));
        }
        Ok(report)
    }

    fn verify_blocks(
        &self,
        report: &mut VerifyReport,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BTreeSet<Link>, BucketError> {
        let store = self.vault.store();
        let mut links = Vec::new();
        store.for_each_block(&mut |link, _| links.push(link))?;
        let all = links.len() as u64;
        let mut damaged = BTreeSet::new();
        for link in links {
            match store.get(&link) {
                Ok(Some(bytes)) => {
                    report.bytes += bytes.len() as u64;
                    if !link.names(&bytes) {
                        damaged.insert(link);
                    }
                }
                Ok(None) | Err(_) => {
                    damaged.insert(link);
                }
            }
            report.blocks += 1;
            progress(report.blocks, all);
        }
        Ok(damaged)
    }

    fn verify_manifests(&self, report: &mut VerifyReport) -> Result<(), BucketError> {
        let store = self.vault.store();
        let mut lists = BTreeSet::new();
        for row in store.manifests() {
            let (link, bytes) = row?;
            report.manifests += 1;
            match SignedManifest::decode(&bytes).and_then(SignedManifest::verify) {
                Ok(manifest) if manifest.link() == link => {
                    lists.insert(manifest.share.members);
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
            if let Err(why) = list.and_then(|list| list.verify(self.genesis.id, self.genesis.owner)) {
                report.problem(format!("member list {link}: {why}"));
            }
        }
        Ok(())
    }
}

struct Check<'a> {
    bucket: &'a Bucket,
    damaged: &'a BTreeSet<Link>,
    seen: BTreeSet<Link>,
    hurt: BTreeMap<Vec<u8>, String>,
    report: VerifyReport,
}

impl Visitor for Check<'_> {
    fn node(&mut self, _path: &[u8], at: &BlockRef) -> bool {
        self.seen.insert(at.link);
        true
    }

    fn extent(&mut self, path: &[u8], extent: &Extent) {
        let link = extent.block.link;
        if self.damaged.contains(&link) {
            self.hurt.insert(path.to_vec(), "part of its content is damaged".into());
        } else if !self.seen.contains(&link) && !self.bucket.vault.store().contains(&link).unwrap_or(false) {
            self.hurt.insert(path.to_vec(), "part of its content is missing".into());
        }
        self.seen.insert(link);
    }

    fn entry(&mut self, _path: &[u8], kind: Kind) {
        match kind {
            Kind::Directory => self.report.directories += 1,
            _ => self.report.files += 1,
        }
    }

    fn hurt(&mut self, path: &[u8], error: TreeError) {
        self.hurt.insert(path.to_vec(), error.to_string());
    }
}
