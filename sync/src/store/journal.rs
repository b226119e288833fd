//! The journal: small things that are made durable between two commits.
//!
//! Frames are appended to a few files that were filled with zeros when they were made, so that an append is one write and
//! one sync, and changes nothing that the file system keeps about them. An append begins at a new page: whatever becomes of
//! it in a power cut, those before it stay. A frame has a running number, a checksum, and the checksum of the frame before
//! it, so that what is left of an earlier use of a file, or of an append that was cut off, never follows a newer frame. The
//! first frame of a file has something random in that place.
//!
//! Each frame belongs to a *generation*, which the caller counts up. Frames are forgotten by generations, and a file that
//! has none left is used again.
//!
//! Never here: what is in a frame. It is sealed by the caller.

use std::path::PathBuf;

use parking_lot::Mutex;

use super::disk::{Disk, File, Open};
use super::{Settings, StoreError};
use crate::limits;

/// Checksum, checksum of the frame before, length of the payload (u32), generation (u64), number (u64), little endian.
const HEADER: usize = 2 * CHECKSUM + 20;
const CHECKSUM: usize = 16;
/// Where appends begin.
const PAGE: usize = 4096;
/// Files that are kept to be used again.
const SPARE: usize = 1;

type Checksum = [u8; CHECKSUM];

/// What was appended, and to which generation it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its generation.
    pub generation: u64,
    /// The caller's bytes.
    pub payload: Vec<u8>,
}

/// A bucket's journal. One append at a time; that is all that its lock is for, which is held while the disk syncs.
pub(super) struct Journal {
    disk: Disk,
    dir: PathBuf,
    file_bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Current>,
    /// Files with frames that may still be needed.
    used: Vec<Used>,
    /// Files without.
    spare: Vec<u32>,
    /// The number of the next frame.
    next: u64,
    /// The number of the next file.
    next_file: u32,
    /// A generation that an append failed in. Until it is forgotten there are no others.
    failed: Option<u64>,
}

/// The file that is appended to.
struct Current {
    file: File,
    used: Used,
    end: u64,
    last: Checksum,
}

#[derive(Clone, Copy)]
struct Used {
    number: u32,
    /// The highest generation of its frames.
    generation: u64,
    /// Up to where it was found to be filled when it was opened. A sync may have failed before: what the system shows then
    /// need not be on the disk.
    doubted: Option<usize>,
}

/// How a frame stands in its file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Behind the one that it follows.
    Next,
    /// Behind something that is no frame: left over from an earlier use of the file, or cut off by damage. It was only appended
    /// when all before it was safe, so one that is still needed tells of damage.
    Beyond,
}

/// A frame as it is found.
struct Found<'a> {
    number: u64,
    generation: u64,
    payload: &'a [u8],
}

impl Journal {
    /// Opens the journal in `dir`, which need not be there. O(bytes in it), at most [`limits::JOURNAL_FILES`] of [`limits::JOURNAL_FILE_BYTES`].
    pub(super) fn open(settings: &Settings, dir: PathBuf) -> Result<Self, StoreError> {
        let Settings { disk, journal_file_bytes: file_bytes, .. } = settings.clone();
        let journal = Self { disk, dir, file_bytes, state: Mutex::default() };
        let mut state = State { next: 1, next_file: 1, ..State::default() };
        for number in journal.files()? {
            let mut generation = None;
            state.next_file = state.next_file.max(number.saturating_add(1));
            // Those behind damage count as well: the next must not be taken for one of them.
            let end = journal.scan(number, &mut |_, found| {
                generation = generation.max(Some(found.generation));
                state.next = state.next.max(found.number + 1);
            });
            let end = match end {
                Ok(end) => end,
                Err(error) => {
                    // Reported again when its frames are asked for. It is left alone.
                    tracing::error!(%error, "a file of the journal can not be read");
                    continue;
                }
            };
            match generation {
                Some(generation) => state.used.push(Used { number, generation, doubted: Some(end) }),
                None => state.spare.push(number),
            }
        }
        *journal.state.lock() = state;
        Ok(journal)
    }

    /// Appends frames, all of them or none. Durable on return. False if there is no room: something has to be forgotten
    /// first. After an error nothing is taken until its generation is forgotten.
    pub(super) fn append(&self, frames: &[Frame]) -> Result<bool, StoreError> {
        let Some(generation) = frames.iter().map(|frame| frame.generation).max() else { return Ok(true) };
        let mut state = self.state.lock();
        let bytes: usize = frames.iter().map(|frame| HEADER + frame.payload.len()).sum();
        let bytes = bytes.next_multiple_of(PAGE);
        if state.failed.is_some() || bytes as u64 > self.file_bytes {
            return Ok(false);
        }
        self.make_sure(&mut state)?;
        let first = state.next;
        let Some(current) = self.file_with_room(&mut state, bytes as u64)? else { return Ok(false) };
        let mut out = Vec::with_capacity(bytes);
        for (number, frame) in (first..).zip(frames) {
            push(&mut out, &mut current.last, number, frame);
        }
        out.resize(bytes, 0);
        current.used.generation = current.used.generation.max(generation);
        let written = current.file.write(current.end, &out).and_then(|()| current.file.sync_data());
        current.end += bytes as u64;
        // Whatever came of it, these numbers are not used again.
        state.next += frames.len() as u64;
        written.map(|()| true).map_err(|source| {
            state.failed = Some(generation);
            StoreError::io("write", &self.dir, source)
        })
    }

    /// Everything before this generation is not needed any more.
    pub(super) fn forget_before(&self, generation: u64) {
        let mut state = self.state.lock();
        state.failed = state.failed.filter(|failed| *failed >= generation);
        let (used, free): (Vec<_>, Vec<_>) = state.used.drain(..).partition(|used| used.generation >= generation);
        state.used = used;
        state.spare.extend(free.iter().map(|used| used.number));
        if let Some(current) = &mut state.current
            && current.used.generation < generation
        {
            // Begun anew by the next frame, behind which nothing older counts.
            (current.end, current.last) = (0, salt());
        }
        while state.spare.len() > SPARE {
            let Some(number) = state.spare.pop() else { break };
            if let Err(error) = self.disk.remove(&self.path(number)) {
                tracing::debug!(%error, "a file of the journal can not be removed");
            }
        }
    }

    /// Whether half of it is needed, so that something should be forgotten soon.
    pub(super) fn is_filling(&self) -> bool {
        self.state.lock().used.len() >= limits::JOURNAL_FILES / 2
    }

    /// The frames of this generation and those after it, in their order; and whether that is all, or a damaged file ends
    /// them before.
    pub(super) fn frames(&self, generation: u64) -> Result<(Vec<Frame>, bool), StoreError> {
        // Nothing is appended meanwhile, nor is a file begun anew.
        let _state = self.state.lock();
        let (mut frames, mut readable) = (Vec::new(), true);
        for number in self.files()? {
            let scanned = self.scan(number, &mut |order, found| match order {
                _ if found.generation < generation => {}
                Order::Next => {
                    let Found { generation, payload, .. } = found;
                    frames.push((found.number, Frame { generation, payload: payload.to_vec() }));
                }
                Order::Beyond => readable = false,
            });
            readable &= scanned.is_ok();
        }
        frames.sort_by_key(|(number, _)| *number);
        let whole = frames.windows(2).take_while(|pair| pair[0].0 + 1 == pair[1].0).count() + 1;
        let all = readable && whole >= frames.len();
        frames.truncate(whole);
        Ok((frames.into_iter().map(|(_, frame)| frame).collect(), all))
    }

    /// The highest generation of any frame; none if there is none.
    pub(super) fn last_generation(&self) -> Option<u64> {
        let state = self.state.lock();
        let current = state.current.iter().map(|current| &current.used);
        state.used.iter().chain(current).map(|used| used.generation).max()
    }

    /// The numbers of its files.
    fn files(&self) -> Result<Vec<u32>, StoreError> {
        let files = match self.disk.list(&self.dir) {
            Ok(files) => files,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::io("list", &self.dir, source)),
        };
        let number = |(name, _): &(String, u64)| name.strip_suffix(".journal")?.parse().ok();
        let mut numbers: Vec<_> = files.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Calls `visit` with every frame of a file, up to the first that is not one, and gives where that is. Then with those
    /// that begin appends beyond it.
    fn scan(&self, number: u32, visit: &mut dyn FnMut(Order, Found<'_>)) -> Result<usize, StoreError> {
        let path = self.path(number);
        let read = || {
            let file = self.disk.open(&path, Open::Read)?;
            let mut bytes = vec![0; file.len()?.min(limits::JOURNAL_FILE_BYTES) as usize];
            file.read(0, &mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|source| StoreError::io("read", &path, source))?;
        let (mut at, mut last) = (0_usize, None);
        loop {
            // Behind a frame comes the next of the same append, or another append.
            let next = [at, at.next_multiple_of(PAGE)];
            let frame = next.into_iter().find_map(|at| parse(&bytes, at, last).map(|frame| (at, frame)));
            let Some((begins, (checksum, found))) = frame else { break };
            at = begins + HEADER + found.payload.len();
            last = Some((checksum, found.number));
            visit(Order::Next, found);
        }
        for page in (at.next_multiple_of(PAGE)..bytes.len()).step_by(PAGE) {
            if let Some((_, found)) = parse(&bytes, page, None) {
                visit(Order::Beyond, found);
            }
        }
        Ok(at)
    }

    /// What is appended may build on what was found at the start, so that has to be on the disk too: it is written again.
    fn make_sure(&self, state: &mut State) -> Result<(), StoreError> {
        if state.used.iter().any(|used| used.doubted.is_some()) {
            self.sync_names().map_err(|source| StoreError::io("sync", &self.dir, source))?;
        }
        for used in &mut state.used {
            let Some(end) = used.doubted else { continue };
            let path = self.path(used.number);
            let again = || {
                let file = self.disk.open(&path, Open::Write)?;
                let mut bytes = vec![0; end];
                file.read(0, &mut bytes)?;
                file.write(0, &bytes)?;
                file.sync_data()
            };
            again().map_err(|source| StoreError::io("write", &path, source))?;
            used.doubted = None;
        }
        Ok(())
    }

    fn file_with_room<'a>(&self, state: &'a mut State, bytes: u64) -> Result<Option<&'a mut Current>, StoreError> {
        let has_room = |current: &Current| current.end + bytes <= self.file_bytes;
        if !state.current.as_ref().is_some_and(has_room) {
            let number = match state.spare.pop() {
                Some(number) => number,
                None if state.used.len() + 2 > limits::JOURNAL_FILES => return Ok(None),
                None => {
                    let number = state.next_file;
                    state.next_file += 1;
                    number
                }
            };
            let file = match self.prepare(number) {
                Ok(file) => file,
                Err(source) => {
                    // What was made of it takes room that others need.
                    let _ = self.disk.remove(&self.path(number));
                    state.spare.push(number);
                    return Err(StoreError::io("make", &self.path(number), source));
                }
            };
            let current = Current { file, used: Used { number, generation: 0, doubted: None }, end: 0, last: salt() };
            state.used.extend(state.current.replace(current).map(|full| full.used));
        }
        Ok(state.current.as_mut())
    }

    /// Opens a file to be filled from the beginning, with all its blocks in place, and its name durable: that is made sure
    /// of each time, since an attempt before may have failed at any point.
    fn prepare(&self, number: u32) -> std::io::Result<File> {
        self.disk.create_dir(&self.dir)?;
        let path = self.path(number);
        let file = match self.disk.open(&path, Open::Write) {
            Ok(file) if file.len()? >= self.file_bytes => file,
            _ => {
                let file = self.disk.open(&path, Open::Anew)?;
                let zeros = vec![0; self.file_bytes.min(256 << 10) as usize];
                for offset in (0..self.file_bytes).step_by(zeros.len()) {
                    file.write(offset, &zeros)?;
                }
                file
            }
        };
        file.sync_data()?;
        self.sync_names()?;
        Ok(file)
    }

    fn sync_names(&self) -> std::io::Result<()> {
        self.disk.sync_dir(&self.dir)?;
        self.dir.parent().map_or(Ok(()), |above| self.disk.sync_dir(above))
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:08}.journal"))
    }
}

fn salt() -> Checksum {
    *uuid::Uuid::new_v4().as_bytes()
}

fn checksum(frame: &[u8]) -> Checksum {
    let mut checksum = Checksum::default();
    checksum.copy_from_slice(&blake3::hash(frame).as_bytes()[..CHECKSUM]);
    checksum
}

fn push(out: &mut Vec<u8>, last: &mut Checksum, number: u64, frame: &Frame) {
    let start = out.len();
    out.extend_from_slice(&Checksum::default());
    out.extend_from_slice(last);
    out.extend_from_slice(&(frame.payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&frame.generation.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&frame.payload);
    *last = checksum(&out[start + CHECKSUM..]);
    out[start..start + CHECKSUM].copy_from_slice(last);
}

/// The frame at an offset, if there is one that follows the last.
fn parse(bytes: &[u8], at: usize, last: Option<(Checksum, u64)>) -> Option<(Checksum, Found<'_>)> {
    let (stored, frame) = bytes.get(at..)?.split_first_chunk::<CHECKSUM>()?;
    let (before, rest) = frame.split_first_chunk::<CHECKSUM>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (generation, rest) = rest.split_first_chunk::<8>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let payload = rest.get(..u32::from_le_bytes(*len) as usize)?;
    let number = u64::from_le_bytes(*number);
    let follows = last.is_none_or(|(checksum, last)| checksum == *before && last.checked_add(1) == Some(number));
    let whole = || checksum(&frame[..HEADER - CHECKSUM + payload.len()]) == *stored;
    let generation = u64::from_le_bytes(*generation);
    let sane = number < u64::MAX / 2 && generation < u64::MAX / 2;
    (follows && sane && whole()).then_some((*stored, Found { number, generation, payload }))
}
