//! What comes from other members: manifests, member lists, blocks. All of it is checked before it is stored, and stored before
//! anything follows from it.

use std::collections::BTreeSet;

use super::{Bucket, BucketError, Replica, now};
use crate::bucket::{SignedManifest, SignedMemberList, Timestamp};
use crate::chain::{History, HistoryRequest, Input, Missing, Output, Source};
use crate::crypto::block::NodeBlock;
use crate::link::{Codec, Link};
use crate::store::Commit;

/// The store's name for the note that data may be missing.
const LACKS_DATA: &str = "lacks data";

/// Something that a peer is sent in answer to a question for history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The bytes of a member list.
    Members(Vec<u8>),
    /// The bytes of a signed manifest.
    Manifest(Vec<u8>),
}

impl Item {
    /// What a chain makes of it, if it is what it says; signatures are checked here.
    ///
    /// # Errors
    /// If it is not: whoever sent it lies.
    pub fn believed(&self, bucket: &Replica, source: Source) -> Result<Input, BucketError> {
        match self {
            Self::Members(bytes) => {
                let list = SignedMemberList::decode(bytes).and_then(|list| list.verify(bucket.id(), bucket.owner()));
                let link = Link::of(Codec::DagCbor, bytes);
                Ok(Input::Members(Box::new(list.map_err(|why| BucketError::Members { link, why })?)))
            }
            Self::Manifest(bytes) => {
                let manifest = SignedManifest::decode(bytes)?.verify()?.into();
                Ok(Input::Manifest { manifest, source })
            }
        }
    }
}

impl Bucket {
    /// Takes in what happened on the network, and shows what follows. As [`Replica::receive`].
    ///
    /// # Errors
    /// As [`Replica::receive`].
    pub fn receive(&self, inputs: Vec<Input>) -> Result<Vec<Output>, BucketError> {
        let _one_at_a_time = self.replica.publishing.lock();
        let outputs = self.replica.take_in(inputs)?;
        self.show()?;
        Ok(outputs)
    }

    /// All directory nodes of a version are here: it may be shown. As [`Replica::complete`].
    ///
    /// # Errors
    /// As [`Replica::complete`].
    pub fn complete(&self, version: &Link) -> Result<Vec<Output>, BucketError> {
        self.replica.check_complete(version)?;
        self.receive(vec![Input::Complete(*version)])
    }
}

impl Replica {
    /// Takes in what happened on the network. What is admitted of it is durable when this returns. Gives what follows, in
    /// order.
    ///
    /// # Errors
    /// If it can not be stored. It is kept in memory, and stored with the next that is.
    pub fn receive(&self, inputs: Vec<Input>) -> Result<Vec<Output>, BucketError> {
        let _one_at_a_time = self.publishing.lock();
        self.take_in(inputs)
    }

    /// As [`Replica::receive`], while `publishing` is held.
    pub(super) fn take_in(&self, inputs: Vec<Input>) -> Result<Vec<Output>, BucketError> {
        // All lists first: where there is no room for one, the chain has admitted nothing that would not be stored.
        for input in &inputs {
            if let Input::Members(list) = input {
                self.store().put(&list.link(), list.bytes())?;
                self.known.lock().lists.insert(list.link(), (**list).clone());
            }
        }
        let mut outputs = Vec::new();
        for input in inputs {
            outputs.extend(self.known.lock().chain.handle(now(), input));
        }
        let admitted = outputs.iter().filter_map(|output| match output {
            Output::Admitted(manifest) => Some((manifest.link(), manifest.bytes().to_vec())),
            _ => None,
        });
        self.known.lock().unstored.extend(admitted);
        self.store_rest()?;
        self.tell(&outputs);
        self.save_chain();
        Ok(outputs)
    }

    /// All directory nodes of a version are here: it may be shown. As [`Bucket::receive`] otherwise.
    ///
    /// # Errors
    /// If its roots are not here after all, or the blocks can not be made durable.
    pub fn complete(&self, version: &Link) -> Result<Vec<Output>, BucketError> {
        self.check_complete(version)?;
        self.receive(vec![Input::Complete(*version)])
    }

    /// Makes the nodes of a version durable, if they are here.
    fn check_complete(&self, version: &Link) -> Result<(), BucketError> {
        if !self.lacking(&self.roots_of(version)?)?.is_empty() {
            return Err(BucketError::NoContent(*version));
        }
        // Of what the nodes name, not all is here, as far as anybody knows.
        let meta = vec![(LACKS_DATA, Some(vec![1]))];
        Ok(self.store().commit(Commit { manifests: Vec::new(), meta })?)
    }

    /// Whether some data of what is shown may be missing.
    ///
    /// # Errors
    /// If the store can not say.
    pub fn lacks_data(&self) -> Result<bool, BucketError> {
        Ok(self.store().meta(LACKS_DATA)?.is_some())
    }

    /// Makes blocks durable that were put; with `all`, also that no data is missing.
    ///
    /// # Errors
    /// If they can not be.
    pub fn keep_data(&self, all: bool) -> Result<(), BucketError> {
        let meta = if all { vec![(LACKS_DATA, None)] } else { Vec::new() };
        Ok(self.store().commit(Commit { manifests: Vec::new(), meta })?)
    }

    /// These nodes, and all that are below them and here. O(nodes).
    ///
    /// # Errors
    /// If the store can not say.
    pub fn all_nodes(&self, roots: &[Link]) -> Result<Vec<Link>, BucketError> {
        let (mut seen, mut open) = (BTreeSet::new(), roots.to_vec());
        while let Some(link) = open.pop() {
            if seen.contains(&link) {
                continue;
            }
            if let Some(bytes) = self.block(&link)? {
                open.extend(nodes_below(&link, &bytes)?);
                seen.insert(link);
            }
        }
        Ok(seen.into_iter().collect())
    }

    /// The data that these nodes name and that is not here. Nodes that are not here, or are damaged, are passed over.
    ///
    /// # Errors
    /// If the store can not say.
    pub fn lacking_data(&self, nodes: &[Link]) -> Result<Vec<Link>, BucketError> {
        let mut data = Vec::new();
        for link in nodes {
            if let Some(bytes) = self.block(link)?
                && let Ok(node) = NodeBlock::decode(link, &bytes)
            {
                data.extend(node.links.iter().map(|at| at.link).filter(|link| link.codec() == Codec::Raw));
            }
        }
        self.lacking(&data)
    }

    /// Stores manifests that are in the chain and not on disk, parents first.
    pub(super) fn store_rest(&self) -> Result<(), BucketError> {
        let manifests = self.known.lock().unstored.clone();
        if manifests.is_empty() {
            return Ok(());
        }
        let store = self.store();
        for (link, bytes) in &manifests {
            store.put(link, bytes)?;
        }
        let count = manifests.len();
        store.commit(Commit { manifests, meta: Vec::new() })?;
        self.known.lock().unstored.drain(..count);
        Ok(())
    }

    /// What can be sent of what a peer asked for, at most `most` items and some `bytes`; and whether there is more.
    ///
    /// # Errors
    /// If the store can not say.
    pub fn answer(
        &self,
        request: &HistoryRequest,
        most: usize,
        bytes: usize,
    ) -> Result<(Vec<Item>, bool), BucketError> {
        let History { items, mut more } = self.known.lock().chain.history(request, most);
        let (mut answer, mut size) = (Vec::new(), 0);
        for missing in items {
            let item = match missing {
                Missing::Members(link) => self.store().get(&link)?.map(Item::Members),
                Missing::Manifest(link) => self.store().manifest(&link)?.map(Item::Manifest),
            };
            let Some(item) = item else { break };
            let (Item::Members(body) | Item::Manifest(body)) = &item;
            size += body.len();
            answer.push(item);
            if size >= bytes {
                more = true;
                break;
            }
        }
        Ok((answer, more))
    }

    /// When the chain next wants to be told that time has passed, in milliseconds from now.
    pub fn next_tick(&self) -> Option<u64> {
        let now = now();
        self.known.lock().chain.next_tick(now).map(|Timestamp(at)| at.saturating_sub(now.0))
    }

    /// The signed bytes of a manifest, if it is known here.
    ///
    /// # Errors
    /// If the store can not say.
    pub fn manifest_bytes(&self, link: &Link) -> Result<Option<Vec<u8>>, BucketError> {
        Ok(self.store().manifest(link)?)
    }

    /// Versions that could be shown if their directories were here, the greatest first: the head, and what is not stale
    /// beside what is shown.
    pub fn incomplete(&self) -> Vec<Link> {
        let known = self.known.lock();
        let heads = known.chain.heads();
        let wanted: BTreeSet<_> = heads.links().collect();
        let mut records: Vec<_> = wanted.iter().filter_map(|link| known.chain.record(link)).collect();
        records.retain(|record| !record.complete);
        records.sort_by_key(|record| std::cmp::Reverse((record.epoch, record.height, *record.link.digest())));
        records.iter().map(|record| record.link).collect()
    }

    /// The nodes that a version begins with: its entry and its pins.
    ///
    /// # Errors
    /// If the version is not known, or the store can not say.
    pub fn roots_of(&self, version: &Link) -> Result<[Link; 2], BucketError> {
        let manifest = self.manifest_of(version)?;
        Ok([manifest.entry, manifest.pins])
    }

    /// Those of these blocks that are not here.
    ///
    /// # Errors
    /// If the store can not say.
    pub fn lacking(&self, links: &[Link]) -> Result<Vec<Link>, BucketError> {
        let store = self.store();
        let lacks = |link: &Link| match store.contains(link) {
            Ok(true) => None,
            Ok(false) => Some(Ok(*link)),
            Err(error) => Some(Err(error.into())),
        };
        links.iter().filter_map(lacks).collect()
    }

    /// Stores a block that a peer sent. It is durable with the next commit.
    ///
    /// # Errors
    /// If it is not what its link names, or can not be stored.
    pub fn put_block(&self, link: &Link, bytes: &[u8]) -> Result<(), BucketError> {
        if !link.names(bytes) {
            return Err(BucketError::WrongBlock(*link));
        }
        self.store().put(link, bytes)?;
        Ok(())
    }

    /// The bytes of a block that is here, for a peer.
    ///
    /// # Errors
    /// If the store can not say.
    pub fn block(&self, link: &Link) -> Result<Option<Vec<u8>>, BucketError> {
        Ok(self.store().get(link)?)
    }
}

/// The nodes below a node, without its data; read without any key.
///
/// # Errors
/// If it is no node.
pub fn nodes_below(link: &Link, bytes: &[u8]) -> Result<Vec<Link>, BucketError> {
    let node = NodeBlock::decode(link, bytes).map_err(crate::tree::TreeError::from)?;
    Ok(node.links.iter().map(|child| child.link).filter(|link| link.codec() == Codec::DagCbor).collect())
}
