//! What always holds in the inode table, checked from outside of any operation.

use std::collections::BTreeMap;
use std::sync::Arc;

use jaxfs_sync::tree::{DirEntry, Kind, Target, Vault};

use super::{Changes, Directory, Ino, Inode, Name, Table};
use crate::fs::Fs;

impl Fs {
    /// Checks the table, and gives the lookups that it has counted.
    ///
    /// # Panics
    /// If anything is out of order.
    pub(in crate::fs) fn check(&self) -> BTreeMap<Ino, u64> {
        let table = self.table.lock();
        table.check(self.vault());
        // A copy has the content of what it was made of.
        let files: BTreeMap<_, _> =
            table.inodes.values().filter_map(Inode::file).map(|file| (Arc::as_ptr(file), file)).collect();
        let cost: usize = files.values().map(|file| file.check()).sum();
        assert_eq!(self.budget.dirty.get(), cost, "dirty bytes are the sum of all layers");
        let counted = table.inodes.iter().filter(|(_, inode)| inode.lookups > 0);
        counted.map(|(ino, inode)| (*ino, inode.lookups)).collect()
    }
}

impl Table {
    fn check(&self, vault: &Vault) {
        let pins = self.expected_pins();
        for (ino, inode) in &self.inodes {
            assert_eq!(inode.pins, pins.get(ino).copied().unwrap_or(0), "pins of {inode:?}");
            let used = inode.lookups > 0 || inode.opens > 0 || inode.pins > 0;
            assert!(used || *ino == Ino::ROOT, "nothing idle stays: {inode:?}");
            assert_eq!(inode.nlink == 0, self.nameless.contains(ino), "files without a name are known: {inode:?}");
            self.check_home(vault, *ino, inode);
            self.check_mark(*ino, inode);
            if let Some(directory) = inode.directory() {
                self.check_counts(vault, directory);
            }
        }
        assert!(pins.keys().all(|ino| self.inodes.contains_key(ino)), "what is referred to is here");
        assert!(self.nameless.iter().all(|ino| self.inodes.contains_key(ino)), "what is nameless is here");
    }

    fn expected_pins(&self) -> BTreeMap<Ino, u32> {
        let mut pins = BTreeMap::new();
        let mut pin = |ino: Ino| *pins.entry(ino).or_insert(0) += 1;
        for inode in self.inodes.values() {
            inode.home.iter().for_each(|(parent, _)| pin(*parent));
            if let Some(detached) = &inode.detached {
                detached.origin.iter().for_each(|(parent, _)| pin(*parent));
                detached.copy.iter().for_each(|copy| pin(*copy));
            }
            for changes in inode.directory().into_iter().flat_map(layers) {
                changes.values().flatten().for_each(|ino| pin(*ino));
            }
        }
        let shared = [Some(&self.shared_changes), self.shared_frozen.as_deref()];
        shared.into_iter().flatten().flat_map(|changes| changes.values()).flatten().for_each(|ino| pin(*ino));
        pins
    }

    /// A home is where the name is.
    fn check_home(&self, vault: &Vault, ino: Ino, inode: &Inode) {
        let expected = ino != Ino::ROOT && inode.nlink > 0 && !inode.shared;
        assert_eq!(inode.home.is_some(), expected, "who has a home: {inode:?}");
        let Some((parent, name)) = &inode.home else { return };
        let directory = self.directory(*parent).expect("a home is a directory");
        match directory.changed(name) {
            Some(to) => assert_eq!(to, Some(ino), "the name at home leads here: {inode:?}"),
            None => match directory.base.lookup(vault, name) {
                Ok(Some(Target::Record(record))) => assert_eq!(record.id, inode.id, "{inode:?}"),
                other => panic!("the stored name leads to {other:?} instead of {inode:?}"),
            },
        }
    }

    /// Whoever has changes is marked above.
    fn check_mark(&self, ino: Ino, inode: &Inode) {
        let changed = match (&inode.directory(), inode.file()) {
            (Some(directory), _) => !directory.changes.is_empty(),
            (_, Some(file)) => file.is_changed(),
            _ => false,
        };
        if !changed || inode.nlink == 0 {
            return;
        }
        if ino == Ino::ROOT {
            assert!(self.root_changed, "the root is marked");
        } else if inode.shared {
            assert_eq!(self.shared_changes.get(&inode.id), Some(&Some(ino)), "marked: {inode:?}");
        } else if let Some((parent, name)) = &inode.home {
            let above = self.directory(*parent).and_then(|directory| directory.changes.get(name));
            assert_eq!(above, Some(&Some(ino)), "marked: {inode:?}");
        }
    }

    /// Counts are those of a real listing.
    fn check_counts(&self, vault: &Vault, directory: &Directory) {
        let mut names: BTreeMap<Name, Kind> = BTreeMap::new();
        for entry in directory.base.iter(vault) {
            let DirEntry { name, target } = entry.expect("the stored directory can be read");
            names.insert(name, target.kind());
        }
        // From the oldest to the newest.
        for (name, to) in layers(directory).collect::<Vec<_>>().into_iter().rev().flatten() {
            match to.and_then(|ino| self.get(ino)) {
                Some(inode) => names.insert(name.clone(), inode.kind()),
                None => names.remove(name),
            };
        }
        let subdirectories = names.values().filter(|kind| **kind == Kind::Directory).count();
        let counted = (directory.entries, directory.subdirectories);
        assert_eq!(counted, (names.len() as u64, subdirectories as u64), "entries and subdirectories");
    }
}

/// The changes of a directory, the newest first.
fn layers(directory: &Directory) -> impl Iterator<Item = &Changes<Name>> {
    [Some(&directory.changes), directory.frozen.as_deref()].into_iter().flatten()
}
