//! A merge that leaves out what can not be both.
//!
//! Each conflict takes the first side's changes of a file out, with all that hangs on them: what came in its place, what is in a
//! directory that is not made, the removal of a directory that it stays in. What is left is merged again, until nothing is
//! in the way.

use std::collections::{BTreeMap, BTreeSet};

use super::{Clash, Conflict, Work, is_equal};
use crate::tree::differences::{Differences, Links, Placed};
use crate::tree::record::{FileId, Kind, Record};
use crate::tree::root::Superblock;
use crate::tree::vault::{TreeError, Vault};

/// How often something is taken out before the second side is left as it is.
const ROUNDS: usize = 64;
/// How deep a path is followed.
const DEPTH: usize = 1000;

/// What comes of a merge that leaves conflicts out.
#[derive(Clone, Debug)]
pub struct Partial {
    /// The second side, with what could be put on it. Its root is not stored yet.
    pub merged: Superblock,
    /// Whether anything was: more than times of what both sides changed.
    pub is_new: bool,
    /// What could not, and stays as the second side has it.
    pub left_out: Vec<LeftOut>,
}

/// A file of which the first side's changes were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where the first side has it, or had it, as far as that is known; names with `/` between.
    pub path: Vec<u8>,
    /// Which, and what stands in the way of it, or of what it hangs on.
    pub conflict: Conflict,
}

/// Puts what `ours` changed since `base` onto `theirs`, but for what can not be both.
///
/// Reads and writes O(what either side changed), as often as conflicts hang on each other.
///
/// # Errors
/// As [`super::merge`].
pub fn merge_in_part(
    vault: &Vault,
    base: &Superblock,
    ours: &Superblock,
    theirs: &Superblock,
) -> Result<Partial, TreeError> {
    if ours == theirs || ours == base {
        return Ok(Partial { merged: theirs.clone(), is_new: false, left_out: Vec::new() });
    }
    let (changed, other) = (Differences::between(vault, base, ours)?, Differences::between(vault, base, theirs)?);
    let mut out = Out::new(vault, &changed, &other);
    for _ in 0..ROUNDS {
        let sides = [out.rest(), other.clone()];
        let mut work = Work::new(vault, sides, out.files.keys().copied().collect(), base);
        if let Some(merged) = work.run(base, ours, theirs)? {
            let is_new = is_new(vault, (&merged, theirs), base, &other)?;
            return Ok(Partial { merged, is_new, left_out: out.report(base.root.id) });
        }
        let Work { conflicts, below, .. } = work;
        out.below.extend(below);
        if !out.take(&conflicts)? {
            break;
        }
    }
    Ok(Partial { merged: theirs.clone(), is_new: false, left_out: out.report(base.root.id) })
}

/// What is left out.
struct Out<'a> {
    vault: &'a Vault,
    /// All that the first side changed.
    changed: &'a Differences,
    /// All that the other side did.
    other: &'a Differences,
    /// Files that are at one name, one after the other.
    beside: BTreeMap<FileId, Vec<FileId>>,
    /// Removed directories that a file was in.
    above: BTreeMap<FileId, Vec<FileId>>,
    /// See [`Work`].
    below: BTreeMap<FileId, Placed>,
    /// What is left out, and why.
    files: BTreeMap<FileId, Clash>,
}

impl<'a> Out<'a> {
    fn new(vault: &'a Vault, changed: &'a Differences, other: &'a Differences) -> Self {
        let (mut beside, mut above) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        for ((directory, _), sides) in &changed.names {
            if let (Some(old), Some(new)) = (sides.old, sides.new) {
                beside.entry(old).or_default().push(new);
                beside.entry(new).or_default().push(old);
            }
            let is_gone = changed.files.get(directory).is_some_and(|sides| sides.new.is_none());
            if let Some(old) = sides.old.filter(|_| is_gone) {
                above.entry(old).or_default().push(*directory);
            }
        }
        Self { vault, changed, other, beside, above, below: BTreeMap::new(), files: BTreeMap::new() }
    }

    /// What the first side changed, but for that.
    fn rest(&self) -> Differences {
        let mut rest = self.changed.clone();
        let is_out = |id: &FileId| self.files.contains_key(id);
        rest.files.retain(|id, _| !is_out(id));
        rest.names.retain(|_, sides| ![sides.old, sides.new].iter().flatten().any(is_out));
        rest
    }

    /// Leaves out what is in the way, and what hangs on it. Gives whether there was anything.
    fn take(&mut self, conflicts: &[Conflict]) -> Result<bool, TreeError> {
        let before = self.files.len();
        let seen: BTreeSet<_> = self.files.keys().copied().collect();
        let mut open: Vec<_> = conflicts.iter().map(|conflict| (conflict.id, conflict.why)).collect();
        for Conflict { id, why } in conflicts {
            // A directory of the other side's, or one that is out already: it is what is put into it.
            if seen.contains(id) || !self.changed.files.contains_key(id) {
                open.extend(self.put_into(id).into_iter().map(|file| (file, *why)));
            }
        }
        while let Some((id, why)) = open.pop() {
            if self.files.contains_key(&id) {
                continue;
            }
            self.files.insert(id, why);
            let hangs = [self.beside.get(&id), self.above.get(&id)];
            open.extend(hangs.into_iter().flatten().flatten().map(|id| (*id, why)));
            let added = self.changed.files.get(&id).filter(|sides| sides.old.is_none());
            let placed = added.and_then(|sides| sides.new.as_ref()).or_else(|| self.below.get(&id));
            if let Some(names) = placed.and_then(|placed| placed.record.directory()) {
                for entry in names.list(self.vault, None) {
                    let entry = entry?;
                    if let crate::tree::Target::Record(record) = entry.target.clone() {
                        let placed = Placed { record, links: Links::One(id, entry.name) };
                        self.below.entry(placed.record.id).or_insert(placed);
                    }
                    open.push((entry.target.id(), why));
                }
            }
        }
        Ok(self.files.len() > before)
    }

    /// What the first side put into a directory.
    fn put_into(&self, directory: &FileId) -> Vec<FileId> {
        let names = self.changed.names.iter().filter(|((at, _), _)| at == directory);
        names.flat_map(|(_, sides)| [sides.old, sides.new]).flatten().collect()
    }

    fn report(&self, root: FileId) -> Vec<LeftOut> {
        let left_out = self.files.iter().filter(|(id, _)| **id != root || self.files.len() == 1);
        left_out
            .map(|(id, why)| LeftOut { path: self.path(*id, root), conflict: Conflict { id: *id, why: *why } })
            .collect()
    }

    fn path(&self, mut id: FileId, root: FileId) -> Vec<u8> {
        // What both made is below the other's directory.
        let others = |id: &FileId| self.other.files.get(id).and_then(|sides| sides.new.as_ref());
        let mut names = Vec::new();
        while id != root && names.len() < DEPTH {
            let placed = self.changed.files.get(&id).and_then(|sides| sides.new.as_ref().or(sides.old.as_ref()));
            let at = match placed.or_else(|| self.below.get(&id)).or_else(|| others(&id)).map(|placed| &placed.links) {
                Some(Links::One(directory, name)) => Some((*directory, name.clone())),
                _ => {
                    let is_it = |side: Option<FileId>| side == Some(id);
                    let mut at = self.changed.names.iter();
                    at.find(|(_, sides)| is_it(sides.new) || is_it(sides.old)).map(|(at, _)| at.clone())
                }
            };
            let Some((directory, name)) = at else { break };
            names.push(name.as_bytes().to_vec());
            id = directory;
        }
        names.reverse();
        names.join(&b'/')
    }
}

/// Whether a version has more than another: names, files, or times of what the other side left alone.
fn is_new(
    vault: &Vault,
    (merged, theirs): (&Superblock, &Superblock),
    base: &Superblock,
    other: &Differences,
) -> Result<bool, TreeError> {
    if merged == theirs {
        return Ok(false);
    }
    let since = Differences::between(vault, theirs, merged)?;
    if !since.names.is_empty() || differs(&theirs.root, &merged.root, theirs.root != base.root) {
        return Ok(true);
    }
    Ok(since.files.iter().any(|(id, sides)| match (&sides.old, &sides.new) {
        (Some(old), Some(new)) => {
            old.links != new.links || differs(&old.record, &new.record, other.files.contains_key(id))
        }
        _ => true,
    }))
}

/// Whether two records of a file differ, whose names are compared elsewhere if it is a directory.
fn differs(one: &Record, other: &Record, but_for_times: bool) -> bool {
    let mut one = one.clone();
    if one.kind() == Kind::Directory && other.kind() == Kind::Directory {
        one.body = other.body.clone();
    }
    if but_for_times { !is_equal(&one, other) || one.atime != other.atime } else { one != *other }
}
