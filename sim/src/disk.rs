//! What a node has stored. A crash takes the rest.

use std::collections::BTreeSet;
use std::sync::Arc;

use jaxfs_sync::bucket::{MemberList, VerifiedManifest};
use jaxfs_sync::chain::{Chain, LoadError, Record, Saved};
use jaxfs_sync::link::Link;

/// One node's store: what was written, in the order in which it was.
#[derive(Clone, Debug)]
pub struct Disk {
    manifests: Vec<Arc<VerifiedManifest>>,
    lists: Vec<Arc<MemberList>>,
    content: BTreeSet<Link>,
    /// What the chain wants to be saved besides.
    pub saved: Saved,
}

impl Disk {
    /// A store that has the start of a chain.
    pub fn new(genesis: Arc<VerifiedManifest>, list: Arc<MemberList>) -> Self {
        Self { manifests: vec![genesis], lists: vec![list], content: BTreeSet::new(), saved: Saved::default() }
    }

    /// Stores an admitted manifest.
    pub fn store(&mut self, manifest: Arc<VerifiedManifest>) {
        self.manifests.push(manifest);
    }

    /// Stores a member list.
    pub fn store_list(&mut self, list: Arc<MemberList>) {
        if self.lists.iter().all(|known| known.link() != list.link()) {
            self.lists.push(list);
        }
    }

    /// The member lists that are stored.
    pub fn lists(&self) -> &[Arc<MemberList>] {
        &self.lists
    }

    /// Whether a member list is stored.
    pub fn has_list(&self, link: &Link) -> bool {
        self.lists.iter().any(|list| list.link() == *link)
    }

    /// Stores the directory nodes of a version.
    pub fn store_content(&mut self, link: Link) -> bool {
        self.content.insert(link)
    }

    /// Whether the directory nodes of a version are stored.
    pub fn has_content(&self, link: &Link) -> bool {
        self.content.contains(link)
    }

    /// All stored manifests, in the order of storing.
    pub fn manifests(&self) -> &[Arc<VerifiedManifest>] {
        &self.manifests
    }

    /// The chain that a program finds when it starts.
    pub fn load(&self) -> Result<Chain, LoadError> {
        let records = self.manifests.iter().map(|manifest| {
            let complete = self.content.contains(&manifest.link());
            Record { complete, ..Record::of(manifest) }
        });
        let lists = self.lists.iter().map(|list| (**list).clone());
        Chain::load(&self.manifests[0], lists, records, self.saved.clone())
    }
}
