//! A store, its disk, and what the store has reported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::plain::{Appended, NAMES, NUMBER, Plain, block, journal_is_there, nothing_is_half_there};
use crate::link::{Codec, Link};
use crate::store::disk::Disk;
use crate::store::disk::simulated::{Fault, Random, Simulation};
use crate::store::{Commit, Frame, Settings, Store, StoreError};

const DIR: &str = "/bucket";
/// Blocks that there are: few, so that they come again.
const BLOCKS: u64 = 60;

pub(super) struct World {
    pub(super) disk: Simulation,
    store: Option<Store>,
    /// What may be there: the first is what was reported, the others were commits that failed since.
    pub(super) states: Vec<Plain>,
    /// Put, and not committed.
    pending: BTreeMap<Link, u64>,
    commits: u64,
    /// What the collection of this step may have dropped.
    pub(super) dropped: BTreeSet<Link>,
    /// What a collection that failed may have left.
    garbage: BTreeSet<Link>,
    /// Everything that was ever appended to the journal, and was not forgotten.
    pub(super) journal: Vec<Appended>,
    /// Something went wrong since all was well last.
    trouble: bool,
    pub(super) cuts: u64,
}

fn settings(disk: &Simulation) -> Settings {
    Settings { disk: Disk::Simulated(disk.clone()), segment_bytes: 20_000, journal_file_bytes: 16_384 }
}

fn open(disk: &Simulation) -> Result<Store, StoreError> {
    Store::open_with(&settings(disk), Path::new(DIR))
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let disk = Simulation::new(seed);
        let store = Store::create_with(&settings(&disk), Path::new(DIR)).unwrap();
        Disk::Simulated(disk.clone()).sync_dir(Path::new("/")).unwrap();
        Self {
            disk,
            store: Some(store),
            states: vec![Plain::default()],
            pending: BTreeMap::new(),
            commits: 0,
            dropped: BTreeSet::new(),
            garbage: BTreeSet::new(),
            journal: Vec::new(),
            trouble: false,
            cuts: 0,
        }
    }

    pub(super) fn step(&mut self, random: &mut Random) {
        self.dropped.clear();
        match random.below(19) {
            0..6 => self.put(random),
            6..10 => self.commit(random),
            10 => self.get(random),
            11..16 => self.append(random),
            16 => self.reopen(),
            _ => self.collect(random),
        }
    }

    /// What failed is allowed to, if something was made to go wrong.
    fn allowed<T>(&mut self, result: Result<T, StoreError>) -> Option<T> {
        match result {
            Ok(done) => Some(done),
            Err(StoreError::Io { .. } | StoreError::Full(_)) if self.trouble => None,
            Err(StoreError::Damaged { what }) if self.trouble && what.contains("was lost before") => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn put(&mut self, random: &mut Random) {
        for _ in 0..1 + random.below(6) {
            let number = random.below(BLOCKS);
            let (link, bytes) = block(number);
            let Some(store) = &self.store else { return };
            let put = store.put(&link, &bytes);
            if let Some(new) = self.allowed(put) {
                let committed = self.states[0].blocks.contains_key(&link);
                let known = committed || self.pending.contains_key(&link);
                assert!(self.trouble || self.garbage.contains(&link) || new != known);
                self.pending.insert(link, number);
            }
        }
    }

    /// Collects what some of the blocks are not, while others are put.
    fn collect(&mut self, random: &mut Random) {
        let Some(store) = self.store.take() else { return };
        if let Some(collection) = self.allowed(store.begin_collection()) {
            let collection = collection.expect("one at a time");
            let committed = self.states.iter().flat_map(|state| state.blocks.keys());
            let old: BTreeSet<_> = committed.chain(&self.garbage).copied().collect();
            let keep = random.below(5);
            let live: BTreeSet<_> = old.iter().filter(|_| random.below(4) < keep).copied().collect();
            let uncommitted: BTreeSet<_> = self.pending.keys().filter(|link| !old.contains(*link)).copied().collect();
            let mut put = BTreeSet::new();
            let putting = |random: &mut Random, put: &mut BTreeSet<Link>| {
                let (link, bytes) = block(random.below(BLOCKS));
                store.put(&link, &bytes).map(|_| put.insert(link))
            };
            for _ in 0..random.below(6) {
                let done = putting(random, &mut put);
                self.allowed(done);
            }
            let stays = |link: &&Link| live.contains(*link) || put.contains(*link) || uncommitted.contains(*link);
            self.dropped = old.iter().filter(|link| !stays(link)).copied().collect();
            let mut cancel_after = random.below(40);
            let cancels = random.once_in(4);
            let cancelled = std::cell::Cell::new(false);
            let dropped = self.dropped.clone();
            self.states.iter_mut().for_each(|state| state.blocks.retain(|link, _| !dropped.contains(link)));
            // What was put before may be committed by the collection, or not be there any more.
            let unsure: BTreeSet<_> = self.garbage.iter().chain(self.pending.keys()).copied().collect();
            self.pending.retain(|link, _| !dropped.contains(link));
            self.garbage.extend(dropped.iter().chain(&unsure));
            let mut meanwhile = BTreeSet::new();
            let mut random_too = Random::new(random.any());
            let mut failed = Vec::new();
            let swept = collection.sweep(
                &|link| live.contains(link),
                &mut |_| {
                    failed.extend(putting(&mut random_too, &mut meanwhile).err());
                    cancel_after = cancel_after.saturating_sub(1);
                    cancelled.set(cancels && cancel_after == 0);
                },
                &|| cancelled.get(),
            );
            drop(collection);
            for error in failed {
                self.allowed(Err::<(), _>(error));
            }
            let swept = self.allowed(swept);
            let done = swept.is_some_and(|swept| !swept.cancelled && !swept.full && swept.damaged == 0);
            put.extend(meanwhile);
            let numbers: BTreeMap<_, _> = (0..BLOCKS).map(|number| (block(number).0, number)).collect();
            self.pending.extend(put.iter().map(|link| (*link, numbers[link])));
            if done && !self.trouble {
                for link in dropped.difference(&unsure).filter(|link| !put.contains(*link)) {
                    assert_eq!(store.get(link).unwrap(), None, "what is dropped is gone");
                    self.garbage.remove(link);
                }
            }
            self.garbage.extend(put);
        }
        self.store = Some(store);
    }

    fn get(&mut self, random: &mut Random) {
        let number = random.below(BLOCKS);
        let (link, bytes) = block(number);
        let Some(store) = &self.store else { return };
        let got = store.get(&link);
        // A failed sync may have lost it, or put zeros in its place.
        if self.trouble && matches!(got, Err(StoreError::Damaged { .. })) && self.pending.contains_key(&link) {
            return;
        }
        let Some(found) = self.allowed(got) else { return };
        let known = self.states[0].blocks.contains_key(&link) || self.pending.contains_key(&link) && !self.trouble;
        match found {
            Some(found) if self.trouble && self.pending.contains_key(&link) => drop(found),
            Some(found) => assert_eq!(found, bytes),
            None => assert!(!known, "block {number} is missing"),
        }
    }

    /// Appends to the journal, as what no commit so far holds.
    fn append(&mut self, random: &mut Random) {
        let frame = |random: &mut Random| {
            let mut payload = vec![0; random.below(3_000) as usize];
            payload.iter_mut().for_each(|byte| *byte = random.any() as u8);
            Frame { generation: self.commits + 1, payload }
        };
        let frames: Vec<_> = (0..1 + random.below(3)).map(|_| frame(random)).collect();
        let Some(store) = &self.store else { return };
        let taken = store.journal(&frames);
        let taken = self.allowed(taken);
        // After an error they may be there or not.
        if taken != Some(false) {
            self.journal.extend(frames.into_iter().map(|frame| Appended { frame, sure: taken == Some(true) }));
        }
    }

    fn next_commit(&mut self, random: &mut Random) -> Commit {
        self.commits += 1;
        let mut meta = vec![(NUMBER, Some(self.commits.to_le_bytes().to_vec()))];
        if random.once_in(2) {
            let value = (!random.once_in(3)).then(|| vec![random.any() as u8; random.below(3_000) as usize]);
            meta.push((NAMES[random.below(2) as usize], value));
        }
        let manifest = |number: u64| {
            let bytes = format!("manifest {number}").into_bytes();
            (Link::of(Codec::DagCbor, &bytes), bytes)
        };
        let manifests = (0..random.below(3)).map(|_| manifest(random.below(200))).collect();
        Commit { manifests, meta }
    }

    fn commit(&mut self, random: &mut Random) {
        let commit = self.next_commit(random);
        let Some(base) = self.seen() else { return };
        let after = base.with(&self.pending, &commit);
        let Some(store) = &self.store else { return };
        // It may come to be there from now on.
        self.states.push(after.clone());
        let committed = store.commit(commit);
        if self.allowed(committed).is_some() {
            self.states = vec![after];
            self.pending.clear();
            if let Some(store) = &self.store {
                store.forget_journal(self.commits + 1);
            }
            self.journal.retain(|appended| appended.frame.generation > self.commits);
        }
    }

    /// Which of the possible states the open store shows.
    fn seen(&mut self) -> Option<Plain> {
        let number = self.store.as_ref()?.meta(NUMBER);
        let number = self.allowed(number)?;
        Some(state_of(&self.states, number.as_ref()).clone())
    }

    fn reopen(&mut self) {
        self.store = None;
        let opened = open(&self.disk);
        self.store = self.allowed(opened);
        self.pending.clear();
    }

    /// After a step without trouble: one state is there.
    pub(super) fn settle(&mut self) {
        if !self.trouble {
            assert_eq!(self.states.len(), 1);
        }
    }

    /// Has something go wrong soon, sometimes.
    pub(super) fn plan_trouble(&mut self, random: &mut Random) {
        if !random.once_in(3) {
            return;
        }
        self.trouble = true;
        let soon = self.disk.operations() + random.below(15);
        // For a while, so that what mends it fails too.
        let meanwhile = soon..soon + random.below(40);
        match random.below(8) {
            0 => self.disk.fail(soon, Fault::PowerCut),
            1 => self.disk.fail(soon, Fault::Full),
            2 => self.disk.set_capacity(Some(self.disk.used() + random.below(9) * 4_096)),
            3 => meanwhile.for_each(|number| self.disk.fail(number, Fault::Error)),
            4 | 5 => meanwhile.filter(|_| random.once_in(2)).for_each(|number| self.disk.fail(number, Fault::Error)),
            _ => self.disk.fail(soon, Fault::Error),
        }
    }

    /// Often lets trouble be over. What was reported has to be there, and the store to work; without being opened anew, unless
    /// the power went or the process.
    pub(super) fn recover_from_trouble(&mut self, random: &mut Random) {
        let cut = self.disk.is_off() || random.once_in(25);
        if cut {
            self.cuts += 1;
            self.store = None;
            self.disk.restart(random.any());
            self.pending.clear();
        } else if !self.trouble || random.once_in(2) {
            return;
        }
        self.disk.heal();
        self.disk.set_capacity(None);
        let restarted = random.once_in(3);
        if restarted {
            self.store = None;
            if random.once_in(2) {
                // The process was killed; what it wrote is still there, and not synced.
                self.disk.kill();
            }
            self.pending.clear();
        }
        match self.store.take() {
            Some(store) => {
                // As whoever was told of an error would.
                for (link, bytes) in (0..BLOCKS).map(block) {
                    if self.pending.contains_key(&link) || self.garbage.contains(&link) {
                        store.put(&link, &bytes).unwrap();
                    }
                }
                self.store = Some(store);
            }
            None => self.store = Some(open(&self.disk).unwrap()),
        }
        self.trouble = false;
        if cut || restarted {
            compare(self.store.as_ref().unwrap(), &self.states, &self.journal);
        }
        self.commit(random);
        compare(self.store.as_ref().unwrap(), &self.states, &self.journal);
    }
}

/// A start on what a cut leaves of a disk: what was reported is there, and work goes on. The start may be cut in turn.
pub(super) fn after_a_cut(disk: &Simulation, states: &[Plain], journal: &[Appended], seed: u64) {
    let mut random = Random::new(seed);
    disk.restart(random.any());
    if random.once_in(3) {
        disk.fail(disk.operations() + random.below(12), Fault::PowerCut);
        drop(open(disk));
        disk.restart(random.any());
    }
    let store = open(disk).unwrap_or_else(|error| panic!("{error}, from {seed}"));
    let state = compare(&store, states, journal);
    let (link, bytes) = block(BLOCKS + random.below(20));
    store.put(&link, &bytes).unwrap();
    let commit = Commit { meta: vec![("a", Some(vec![7]))], ..Commit::default() };
    let pending = BTreeMap::from([(link, BLOCKS)]);
    let mut after = state.with(&pending, &commit);
    after.blocks.remove(&link);
    store.commit(commit).unwrap();
    drop(store);
    disk.restart(random.any());
    let store = open(disk).unwrap();
    compare(&store, &[after], journal);
    assert_eq!(store.get(&link).unwrap(), Some(bytes));
}

/// A start on a disk that lost what was last written to the index, though it had said that it was safe: all is there again. Not
/// where files were removed, which the index names.
pub(super) fn after_a_lost_transaction(before: &Simulation, disk: &Simulation, states: &[Plain], journal: &[Appended]) {
    let index = Path::new(DIR).join("db.redb");
    let disks = [before, disk].map(|disk| Disk::Simulated(disk.fork()));
    let names = |disk: &Disk| disk.list(&Path::new(DIR).join("packs")).unwrap().into_iter().map(|(name, _)| name);
    let [was, is] = disks.each_ref().map(|disk| names(disk).collect::<BTreeSet<_>>());
    if !was.is_subset(&is) {
        return;
    }
    let [was, is] = disks;
    let Disk::Simulated(disk) = &is else { return };
    // The process that has it open is gone.
    disk.sync_all();
    disk.restart(0);
    is.replace(&index, &was.contents(&index));
    for cut in 0..3 {
        if cut > 0 {
            disk.restart(cut);
        }
        compare(&open(disk).unwrap(), states, journal);
    }
}

/// The state that a store is in, which has to be one of these.
fn compare(store: &Store, states: &[Plain], journal: &[Appended]) -> Plain {
    let number = store.meta(NUMBER).unwrap();
    let state = state_of(states, number.as_ref());
    state.compare(store).unwrap();
    nothing_is_half_there(store).unwrap();
    let commits = number.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    journal_is_there(store, commits + 1, journal).unwrap();
    state.clone()
}

fn state_of<'a>(states: &'a [Plain], number: Option<&Vec<u8>>) -> &'a Plain {
    let found = states.iter().find(|state| state.number() == number);
    found.unwrap_or_else(|| panic!("commit {number:?} is there, and {:?} was the last", states[0].number()))
}
