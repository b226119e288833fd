//! Everything that a side has, and what has to be the same on both.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, fstat, lgetxattr, llistxattr, openat, readlinkat, seek, statat,
};
use rustix::io::{Errno, pread};
use rustix::process::fchdir;

use super::attributes::split_names;
use super::listing::{Entry, all_entries};
use super::op::Time;
use super::outcome::{Shown, kind};
use super::side::Side;

const PAGE: usize = 4096;
/// Files up to this size are read whole, and not only where data is said to be.
const WHOLE: u64 = 1 << 20;

/// How much is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Depth {
    /// Names and what `stat` shows.
    Names,
    /// Content too, targets, and extended attributes.
    All,
}

/// What is at a path, or held open without one.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) shown: Shown,
    pub(super) ino: u64,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
    blocks: u64,
    inside: Option<Inside>,
}

/// What is in it.
#[derive(Clone, PartialEq, Eq)]
struct Inside {
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    target: Vec<u8>,
    /// Pages that are not all zeros.
    pages: BTreeMap<u64, Vec<u8>>,
}

/// All paths, and all slots as `slot N`.
pub(super) type Tree = BTreeMap<Vec<u8>, Node>;

/// Looks at everything that a side has.
pub(super) fn look(side: &Side, depth: Depth) -> Result<Tree, String> {
    let mut tree = Tree::new();
    let mut open = vec![(Vec::new(), side.root.try_clone().unwrap())];
    tree.insert(b".".to_vec(), Node::of(&fstat(&side.root).unwrap()));
    while let Some((path, dir)) = open.pop() {
        for entry in
            all_entries(dir.as_fd()).map_err(|errno| format!("listing \"{}\": {errno}", path.escape_ascii()))?
        {
            let below = if path.is_empty() { entry.name.clone() } else { [&path[..], b"/", &entry.name].concat() };
            let (node, folder) = look_at(dir.as_fd(), &entry, depth, &side.written)
                .map_err(|why| format!("looking at \"{}\": {why}", below.escape_ascii()))?;
            open.extend(folder.map(|folder| (below.clone(), folder)));
            if tree.insert(below, node).is_some() {
                return Err(format!("\"{}\" is listed twice", entry.name.escape_ascii()));
            }
        }
    }
    for (number, file) in side.slots.iter().enumerate().filter_map(|(number, file)| Some((number, file.as_ref()?))) {
        let node = look_at_held(file.as_fd(), depth, &side.written)
            .map_err(|why| format!("looking at slot {number}: {why}"))?;
        tree.insert(format!("slot {number}").into_bytes(), node);
    }
    Ok(tree)
}

fn look_at(
    dir: BorrowedFd<'_>,
    entry: &Entry,
    depth: Depth,
    written: &BTreeSet<u64>,
) -> Result<(Node, Option<OwnedFd>), String> {
    let said = |errno: Errno| errno.to_string();
    let stat = statat(dir, &entry.name[..], AtFlags::SYMLINK_NOFOLLOW).map_err(said)?;
    if (entry.ino, entry.kind) != (stat.st_ino, kind(&stat)) {
        return Err(format!(
            "it is listed as {:?} {}, and is {:?} {}",
            entry.kind,
            entry.ino,
            kind(&stat),
            stat.st_ino
        ));
    }
    let mut node = Node::of(&stat);
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |flags| openat(dir, &entry.name[..], flags, Mode::empty()).map_err(said);
    let folder = (entry.kind == FileType::Directory).then(|| open(flags | OFlags::DIRECTORY)).transpose()?;
    if depth == Depth::All {
        let (mut target, mut pages) = Default::default();
        match entry.kind {
            FileType::Symlink => target = readlinkat(dir, &entry.name[..], Vec::new()).map_err(said)?.into_bytes(),
            FileType::RegularFile => pages = look_inside(open(flags)?.as_fd(), &stat, written)?,
            _ => {}
        }
        fchdir(dir).map_err(said)?;
        node.inside = Some(Inside { xattrs: xattrs(&entry.name).map_err(said)?, target, pages });
    }
    Ok((node, folder))
}

fn look_at_held(file: BorrowedFd<'_>, depth: Depth, written: &BTreeSet<u64>) -> Result<Node, String> {
    let stat = fstat(file).map_err(|errno| errno.to_string())?;
    let mut node = Node::of(&stat);
    let readable = !Side::has(file, OFlags::WRONLY) && !Side::has(file, OFlags::PATH);
    if depth == Depth::All && readable && kind(&stat) == FileType::RegularFile {
        let pages = look_inside(file, &stat, written)?;
        node.inside = Some(Inside { xattrs: BTreeMap::new(), target: Vec::new(), pages });
    }
    Ok(node)
}

/// The pages of a file that are not all zeros. What it says is a hole has to be zeros.
fn look_inside(file: BorrowedFd<'_>, stat: &Stat, written: &BTreeSet<u64>) -> Result<BTreeMap<u64, Vec<u8>>, String> {
    let size = stat.st_size as u64;
    let data = data_ranges(file).map_err(|errno| format!("looking for data: {errno}"))?;
    let mut pages = BTreeMap::new();
    // FUSE does not write back what was mapped before it asks where data is.
    let sure = !written.contains(&stat.st_ino);
    let ranges = match size {
        0..=WHOLE => std::iter::once(0..size).collect(),
        _ if sure => data.clone(),
        _ => Vec::new(),
    };
    for range in ranges {
        read_pages(file, range, &mut pages).map_err(|errno| format!("reading it: {errno}"))?;
    }
    for (page, bytes) in pages.iter().filter(|_| sure) {
        let in_hole = |at: u64| !data.iter().any(|range| range.contains(&at));
        // One byte of each page will do: every one takes long.
        let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
        let at = page * PAGE as u64 + first as u64;
        if in_hole(at) {
            return Err(format!("byte {at} is {}, and said to be in a hole", bytes[first]));
        }
    }
    Ok(pages)
}

/// Where data is said to be.
fn data_ranges(file: BorrowedFd<'_>) -> Result<Vec<Range<u64>>, Errno> {
    let (before, mut data, mut at) = (seek(file, SeekFrom::Current(0))?, Vec::new(), 0);
    while let Ok(start) = seek(file, SeekFrom::Data(at)) {
        at = seek(file, SeekFrom::Hole(start))?;
        data.push(start..at);
    }
    seek(file, SeekFrom::Start(before))?;
    Ok(data)
}

fn read_pages(file: BorrowedFd<'_>, range: Range<u64>, pages: &mut BTreeMap<u64, Vec<u8>>) -> Result<(), Errno> {
    let mut memory = vec![0; (64 << 10) + PAGE];
    let start = memory.as_ptr().align_offset(PAGE);
    let buffer = &mut memory[start..start + (64 << 10)];
    let mut at = range.start - range.start % PAGE as u64;
    while at < range.end {
        let done = pread(file, &mut buffer[..], at)?;
        for (number, bytes) in buffer[..done].chunks(PAGE).enumerate() {
            if *bytes != [0; PAGE][..bytes.len()] {
                pages.insert(at / PAGE as u64 + number as u64, bytes.to_vec());
            }
        }
        if done < buffer.len() {
            return Ok(());
        }
        at += done as u64;
    }
    Ok(())
}

/// The extended attributes of a name in the working directory that are for the caller to set.
fn xattrs(name: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let mut buffer = vec![0; 4096];
    let len = match llistxattr(name, &mut buffer[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let ours = |name: &Vec<u8>| {
        [&b"user."[..], b"trusted.", b"security.capability"].iter().any(|space| name.starts_with(space))
    };
    let mut value = vec![0; 1 << 16];
    let get = |xattr: Vec<u8>| {
        // The kernel shows no capability that is none.
        let got = lgetxattr(name, &xattr[..], &mut value[..]);
        let shown = got.map_or_else(|errno| errno.to_string().into_bytes(), |len| value[..len].to_vec());
        (xattr, shown)
    };
    Ok(split_names(&buffer[..len]).into_iter().filter(ours).map(get).collect())
}

impl Node {
    fn of(stat: &Stat) -> Self {
        Self {
            shown: Shown::of(stat),
            ino: stat.st_ino,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime: (stat.st_ctime, stat.st_ctime_nsec as i64),
            blocks: stat.st_blocks as u64,
            inside: None,
        }
    }

    /// A file takes no more room than it has bytes.
    fn is_plausible(&self) -> bool {
        self.shown.size.is_none_or(|size| self.blocks <= size.next_multiple_of(PAGE as u64) / 512)
    }
}

/// What moved when, on both sides.
pub(super) struct Moves {
    began: i64,
    /// Whether the plain side's clock tells any two changes apart.
    fine: bool,
    /// The times of what was there, by its numbers on both sides.
    before: HashMap<(u64, u64), [Node; 2]>,
}

impl Moves {
    pub(super) fn new(fine: bool) -> Self {
        Self { began: seconds() - 1, fine, before: HashMap::new() }
    }

    /// Compares the sides. Times of the inodes in `written`, by their numbers on the plain side, are not looked at.
    pub(super) fn compare(&mut self, plain: &Tree, ours: &Tree, written: &BTreeSet<u64>) -> Result<(), String> {
        same_names(plain, ours)?;
        let mut numbers = (HashMap::new(), HashMap::new());
        let mut now = HashMap::new();
        for ((path, plain), ours) in plain.iter().zip(ours.values()) {
            let path = path.escape_ascii();
            compare_node(plain, ours).map_err(|why| format!("\"{path}\": {why}"))?;
            let (there, here) =
                (*numbers.0.entry(plain.ino).or_insert(ours.ino), *numbers.1.entry(ours.ino).or_insert(plain.ino));
            if (there, here) != (ours.ino, plain.ino) {
                return Err(format!("\"{path}\" is the same file as others on one side only"));
            }
            if !written.contains(&plain.ino) {
                self.compare_times(plain, ours).map_err(|why| format!("\"{path}\": {why}"))?;
            }
            let bare = |node: &Node| Node { inside: None, ..node.clone() };
            now.insert((plain.ino, ours.ino), [bare(plain), bare(ours)]);
        }
        self.before = now;
        Ok(())
    }

    fn compare_times(&self, plain: &Node, ours: &Node) -> Result<(), String> {
        let before = self.before.get(&(plain.ino, ours.ino));
        let latest = seconds() + 1;
        let of_now = |time: Time| (self.began..=latest).contains(&time.0);
        for (what, of) in [("mtime", (|node: &Node| node.mtime) as fn(&Node) -> Time), ("ctime", |node| node.ctime)] {
            match (of_now(of(plain)), of_now(of(ours))) {
                (true, true) => {
                    let Some([plain_before, ours_before]) = before else { continue };
                    let (moved, should) = (of(ours) != of(ours_before), of(plain) != of(plain_before));
                    if moved != should && (self.fine || should) {
                        let [there, here] =
                            [(plain_before, plain), (ours_before, ours)].map(|(from, to)| (of(from), of(to)));
                        let moved = if should { "did not move" } else { "moved" };
                        return Err(format!("{what} {moved}: from, to are {here:?}, and {there:?} on the plain side"));
                    }
                }
                (false, false) if of(plain) == of(ours) => {}
                _ => return Err(format!("{what} is {:?} and not {:?}", of(ours), of(plain))),
            }
        }
        Ok(())
    }
}

fn same_names(plain: &Tree, ours: &Tree) -> Result<(), String> {
    let less = |one: &Tree, other: &Tree| {
        let names = one.keys().filter(|path| !other.contains_key(&path[..]));
        names.map(|path| path.escape_ascii().to_string()).collect::<Vec<_>>()
    };
    match (less(plain, ours), less(ours, plain)) {
        (missing, extra) if missing.is_empty() && extra.is_empty() => Ok(()),
        (missing, extra) => Err(format!("missing: {missing:?}, and there are {extra:?}")),
    }
}

fn compare_node(plain: &Node, ours: &Node) -> Result<(), String> {
    if plain.shown != ours.shown {
        return Err(format!("{:?}, where it should be {:?}", ours.shown, plain.shown));
    }
    if !ours.is_plausible() {
        return Err(format!("{} blocks of a file of {:?} bytes", ours.blocks, ours.shown.size));
    }
    match (&plain.inside, &ours.inside) {
        (Some(plain), Some(ours)) if plain != ours => Err(format!("it has {ours:?}, where it should have {plain:?}")),
        _ => Ok(()),
    }
}

/// That a new mount shows what the one before showed.
pub(super) fn compare_mounts(before: &Tree, after: &Tree) -> Result<(), String> {
    same_names(before, after)?;
    for ((path, before), after) in before.iter().zip(after.values()) {
        let about = |node: &Node| (node.shown.clone(), node.ino, node.mtime, node.ctime);
        if about(before) != about(after) {
            let path = path.escape_ascii();
            return Err(format!("\"{path}\" is {:?} in a new mount, and was {:?}", about(after), about(before)));
        }
    }
    Ok(())
}

fn seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

impl fmt::Debug for Inside {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |bytes: &[u8]| format!("{} bytes {}", bytes.len(), bytes[..bytes.len().min(12)].escape_ascii());
        for (name, value) in &self.xattrs {
            write!(out, "{}={} ", name.escape_ascii(), short(value))?;
        }
        write!(out, "{}", self.target.escape_ascii())?;
        for (page, bytes) in &self.pages {
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let hash = bytes.iter().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add((*byte).into()));
            write!(out, "[page {page}: {zeros} zeros, {}, #{hash:08x}]", short(&bytes[zeros..]))?;
        }
        Ok(())
    }
}
