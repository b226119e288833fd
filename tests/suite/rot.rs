//! Bits flip, and files are cut off or gone: what can be read is right, what can not is said, and the rest is as it was.
//!
//! `JAXFS_ROT_CASES` says how many places each test damages, `JAXFS_ROT_SEED` which.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::loads::{Random, number, seed};
use crate::world::{JAXFS, Said, World, run_within};

crate::claims! {
    Mount: [
        a_flipped_bit_in_a_block_hurts_what_it_is_part_of,
        a_flipped_bit_in_any_node_ends_no_listing_too_soon,
        a_flipped_bit_at_the_head_of_a_pack_is_said,
        a_pack_that_is_cut_or_gone_is_said,
        a_flipped_bit_in_the_index_shows_nothing_wrong,
        an_index_that_is_cut_or_gone_is_said,
        a_damaged_journal_is_said_and_nothing_is_made_of_it,
        a_flipped_bit_in_a_key_is_said,
        a_key_that_is_cut_or_gone_is_said,
    ],
}

/// No damage makes anything take longer.
const HANG: Duration = Duration::from_secs(30);
const SCRIPT: &str = include_str!("scripts/rot.py");

/// A home, file by file.
struct Home {
    files: Vec<(PathBuf, Vec<u8>)>,
    /// What its tree looked like at its last version, and with what is in the journal.
    notes: [String; 2],
}

/// One with several versions, and with a journal that a killed node left.
fn home() -> &'static Home {
    static HOME: OnceLock<Home> = OnceLock::new();
    HOME.get_or_init(|| {
        let world = World::mounted();
        rot(&world, "make", &[]).ok();
        world.sync();
        // An older version, whose blocks are not all in the next.
        world.sh("head -c 50000 /dev/zero | tr '\\0' x > gone; sync gone; chmod 644 a/inline");
        world.sync();
        world.sh("rm gone");
        world.sync();
        let [before, after] = ["before", "after"].map(|name| world.outside(name).to_str().unwrap().to_owned());
        rot(&world, "note", &[&before]).ok();
        // The script kills the node: what it synced is in the journal only.
        let node = world.node().unwrap().as_raw_nonzero().to_string();
        rot(&world, "edit", &[&node]).ok();
        world.wait_for_crash();
        let files = files(&world);
        world.mount();
        rot(&world, "note", &[&after]).ok();
        Home { files, notes: [before, after].map(|path| fs::read_to_string(path).unwrap()) }
    })
}

/// The same, with what was in the journal published, and closed as it should be.
fn closed_home() -> &'static Home {
    static HOME: OnceLock<Home> = OnceLock::new();
    HOME.get_or_init(|| {
        let world = put_back(home());
        world.mount();
        world.sync();
        world.unmount();
        let [_, after] = &home().notes;
        Home { files: files(&world), notes: [after.clone(), after.clone()] }
    })
}

/// What is kept of a home: keys and buckets.
fn files(world: &World) -> Vec<(PathBuf, Vec<u8>)> {
    let kept = |path: &PathBuf| path.parent() != Some(world.home()) || path.ends_with("device.key");
    let read = |path: PathBuf| (path.strip_prefix(world.home()).unwrap().to_owned(), fs::read(&path).unwrap());
    world.home_files().into_iter().filter(kept).map(read).collect()
}

/// Runs the script on the mount.
fn rot(world: &World, what: &str, notes: &[&str]) -> Said {
    let mut command = world.command("python3");
    command.args(["-c", SCRIPT, what]).arg(world.dir()).args(notes);
    run_within(HANG, &mut command)
}

/// A world with a copy of a home, nothing mounted.
fn put_back(home: &Home) -> World {
    let world = World::new();
    for (path, bytes) in &home.files {
        let path = world.home().join(path);
        DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap()).unwrap();
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).unwrap();
        let filled = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        file.write_all(&bytes[..filled]).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
    }
    for (name, notes) in ["before", "after"].iter().zip(&home.notes) {
        fs::write(world.outside(name), notes).unwrap();
    }
    world
}

/// What became of a damaged home.
struct Outcome {
    world: World,
    /// What was said instead of mounting it.
    refused: Option<String>,
    /// What could not be read: a path, and which parts of it.
    hurt: Vec<(String, String)>,
    verified: Said,
    log: String,
}

impl Outcome {
    /// Whether anybody was told that something is wrong.
    fn is_said(&self) -> bool {
        let logged = self.log.lines().any(|line| line.contains("ERROR"));
        self.refused.is_some() || !self.verified.status.success() || logged
    }

    /// Who asks is told of that key.
    #[track_caller]
    fn names_key(&self, name: &str) {
        let Said { status, out, err } = &self.verified;
        assert!(!status.success() && (out.contains(name) || err.contains(name)), "{name}: {out}{err}");
        assert!(self.refused.as_ref().is_none_or(|refused| refused.contains(name)), "{:?}", self.refused);
    }

    /// Verify names what is hurt, and each path that it names is.
    #[track_caller]
    fn is_named(&self) {
        for (path, _) in &self.hurt {
            let said = self.verified.out.lines().any(|line| {
                let named = line.strip_prefix("Bucket: ").and_then(|rest| rest.split_once(": ")).map(|(path, _)| path);
                // A file with several names is named by its id.
                named.is_some_and(|named| is_within(path, named) || named.starts_with(".shared/"))
            });
            assert!(said, "`{path}` is hurt and not named:\n{}", self.verified.out);
        }
        assert!(self.hurt.is_empty() || !self.verified.status.success());
    }
}

/// Whether a path is one of those below another, or that one.
fn is_within(path: &str, above: &str) -> bool {
    let (path, above) = (path.trim_matches('/'), above.trim_matches('/'));
    above.is_empty() || path == above || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// Damages a copy of a home, mounts what is left of it, and reads everything. What can be read has to be right.
#[track_caller]
fn damaged(home: &Home, what: &str, damage: impl FnOnce(&Path)) -> Outcome {
    let world = put_back(home);
    damage(world.home());
    let mounted = run_within(HANG, world.command(JAXFS).arg("mount").arg(world.dir()));
    let refused = (!mounted.status.success()).then(|| mounted.refused());
    let mut hurt = Vec::new();
    if refused.is_none() {
        let notes = ["before", "after"].map(|name| world.outside(name).to_str().unwrap().to_owned());
        let said = rot(&world, "check", &notes.each_ref().map(String::as_str));
        assert!(said.status.success(), "{what}: {}{}", said.out, said.err);
        let split = |line: &str| line.split_once(": ").map(|(path, parts)| (path.to_owned(), parts.to_owned()));
        hurt = said.out.lines().filter_map(split).collect();
    }
    let verified = run_within(HANG, world.command(JAXFS).arg("verify"));
    // Whether that succeeds is another matter.
    run_within(HANG, world.command(JAXFS).args(["unmount", "--timeout", "5"]).arg(world.dir()));
    let log = fs::read_to_string(world.home().join("node.log")).unwrap_or_default();
    assert!(!log.contains("panicked"), "{what}: {log}");
    assert!(!verified.err.contains("panicked"), "{what}: {}", verified.err);
    Outcome { world, refused, hurt, verified, log }
}

/// The only file of the home with that ending.
fn file(home: &Home, ending: &str) -> PathBuf {
    let mut found = home.files.iter().map(|(path, _)| path).filter(|path| path.to_str().unwrap().ends_with(ending));
    found.next().unwrap_or_else(|| panic!("no {ending}")).clone()
}

fn bytes_of<'a>(home: &'a Home, path: &Path) -> &'a [u8] {
    &home.files.iter().find(|(other, _)| other == path).unwrap().1
}

fn flip(path: &Path, at: u64, bit: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 1 << (bit % 8);
    fs::write(path, bytes).unwrap();
}

/// Does something for as many cases as are wanted, each with its own numbers.
fn cases(otherwise: u64, mut one: impl FnMut(&mut Random, u64)) {
    let seed = seed("JAXFS_ROT_SEED");
    for case in 0..number("JAXFS_ROT_CASES", otherwise) {
        one(&mut Random::new(seed, case), case);
    }
}

/// Where the records of a pack begin, and whether each is a block of content.
fn records(pack: &[u8]) -> Vec<(u64, u64, bool)> {
    let (mut at, mut found) = (16, Vec::new());
    while let Some(header) = pack.get(at..at + 37) {
        let length = u32::from_le_bytes(header[33..].try_into().unwrap()) as usize;
        // What stands between the blocks, of which the last is needed, and only where the index is lost.
        if header[32] != 0 {
            found.push((at as u64, length as u64, header[32] == 0x55));
        }
        at += 37 + length;
    }
    found
}

fn a_flipped_bit_in_a_block_hurts_what_it_is_part_of() {
    let home = closed_home();
    let pack = file(home, ".pack");
    let records = records(bytes_of(home, &pack));
    assert!(records.len() > 60, "{} records", records.len());
    let mut hurt = 0;
    cases(10, |random, case| {
        let kind = case % 2 == 0;
        let chosen: Vec<_> = records.iter().filter(|(_, _, content)| *content == kind).collect();
        let &(at, length, content) = chosen[random.below(chosen.len() as u64) as usize];
        let within = if random.below(4) == 0 { random.below(37) } else { 37 + random.below(length) };
        let what = format!("a block of content: {content}, at {at}, byte {within}");
        let outcome = damaged(home, &what, |home| flip(&home.join(&pack), at + within, random.next()));
        assert!(!outcome.verified.status.success(), "{what}: {}", outcome.verified.out);
        if outcome.refused.is_none() {
            outcome.is_named();
        }
        if content {
            assert_eq!(outcome.refused, None, "{what}");
            // A piece of one file, by all its names.
            let parts: Vec<_> = outcome.hurt.iter().map(|(_, parts)| parts).collect();
            assert!(parts.len() <= 2 && parts.iter().all(|parts| parts.parse::<u64>().is_ok()), "{what}: {parts:?}");
        }
        hurt += outcome.hurt.len();
        assert!(outcome.is_said(), "{what}");
    });
    println!("{hurt} paths could not be read, and were named");
}

fn a_flipped_bit_in_any_node_ends_no_listing_too_soon() {
    let world = World::mounted();
    world.sh("mkdir d e; echo x > d/a; ln d/a d/b; ln d/a e/c; echo y > e/a; ln -s a e/b");
    world.sync();
    let note = world.outside("note").to_str().unwrap().to_owned();
    rot(&world, "note", &[&note]).ok();
    let note = fs::read_to_string(note).unwrap();
    world.unmount();
    let home = Home { files: files(&world), notes: [note.clone(), note] };
    let pack = file(&home, ".pack");
    let mut hurt = 0;
    for (at, length, _) in records(bytes_of(&home, &pack)) {
        let what = format!("the block at {at}");
        let outcome = damaged(&home, &what, |home| flip(&home.join(&pack), at + 37 + length / 2, 0));
        assert!(!outcome.verified.status.success(), "{what}: {}", outcome.verified.out);
        if outcome.refused.is_none() {
            outcome.is_named();
        }
        hurt += outcome.hurt.len();
    }
    assert!(hurt > 2, "{hurt} paths were hurt");
}

fn a_flipped_bit_at_the_head_of_a_pack_is_said() {
    let home = closed_home();
    let pack = file(home, ".pack");
    cases(2, |random, _| {
        let at = random.below(16);
        let outcome = damaged(home, &format!("{at}"), |home| flip(&home.join(&pack), at, random.next()));
        assert!(!outcome.verified.status.success(), "byte {at}: {}", outcome.verified.out);
    });
}

fn a_pack_that_is_cut_or_gone_is_said() {
    let home = closed_home();
    let pack = file(home, ".pack");
    let length = bytes_of(home, &pack).len() as u64;
    cases(3, |random, case| {
        let cut = [random.below(length), 0, length - 1 - random.below(1000)][case as usize % 3];
        let outcome = damaged(home, &format!("cut to {cut}"), |home| match cut {
            0 => fs::remove_file(home.join(&pack)).unwrap(),
            _ => File::options().write(true).open(home.join(&pack)).unwrap().set_len(cut).unwrap(),
        });
        assert!(!outcome.verified.status.success(), "cut to {cut}: {}", outcome.verified.out);
        if outcome.refused.is_none() {
            outcome.is_named();
        }
    });
}

fn a_flipped_bit_in_the_index_shows_nothing_wrong() {
    let home = closed_home();
    let index = file(home, "db.redb");
    let bytes = bytes_of(home, &index);
    let mut said = 0;
    cases(12, |random, case| {
        // Most of the file is not in use, or not any more: one bit at its head, or several anywhere.
        let (within, bits) = if case % 4 == 0 { (512, 1) } else { (bytes.len() as u64, 1 + random.below(40)) };
        let mut at = || {
            let tried = [(); 50].map(|()| random.below(within));
            (tried.into_iter().find(|&at| bytes[at as usize] != 0).unwrap_or(tried[0]), random.next())
        };
        let bits: Vec<_> = (0..bits).map(|_| at()).collect();
        let what = format!("bits of the index: {bits:?}");
        let outcome = damaged(home, &what, |home| bits.iter().for_each(|&(at, bit)| flip(&home.join(&index), at, bit)));
        said += u64::from(outcome.is_said());
        assert!(outcome.hurt.is_empty() || outcome.is_said(), "{what}: {:?}", outcome.hurt);
    });
    println!("{said} flipped bits were noticed");
}

fn an_index_that_is_cut_or_gone_is_said() {
    let home = closed_home();
    let index = file(home, "db.redb");
    let length = bytes_of(home, &index).len() as u64;
    cases(3, |random, case| {
        let cut = [random.below(length), 0, random.below(5000)][case as usize % 3];
        let outcome = damaged(home, &format!("cut to {cut}"), |home| match cut {
            0 => fs::remove_file(home.join(&index)).unwrap(),
            _ => File::options().write(true).open(home.join(&index)).unwrap().set_len(cut).unwrap(),
        });
        assert!(outcome.is_said(), "cut to {cut}: {}", outcome.verified.out);
    });
}

/// Whether what was in the journal is there.
fn has_what_was_synced(outcome: &Outcome) -> bool {
    outcome.refused.is_none() && outcome.log.contains("were done again from the journal")
}

fn a_damaged_journal_is_said_and_nothing_is_made_of_it() {
    let home = home();
    let journal = file(home, ".journal");
    let bytes = bytes_of(home, &journal);
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap() as u64;
    let whole = damaged(home, "nothing", |_| ());
    assert!(has_what_was_synced(&whole) && whole.hurt.is_empty() && !whole.is_said(), "{}", whole.log);
    // All but the last append, behind which nothing tells that it was whole.
    let last = used / 4096 * 4096;
    cases(8, |random, case| {
        let at = match case % 4 {
            0 => random.below(52),
            _ => random.below(last),
        };
        let what = format!("byte {at} of the journal, of {used}");
        let outcome = damaged(home, &what, |home| flip(&home.join(&journal), at, random.next()));
        assert!(outcome.hurt.is_empty(), "{what}: {:?}", outcome.hurt);
        let unused = bytes[at as usize..].iter().take(4096 - at as usize % 4096).all(|&byte| byte == 0);
        assert!(outcome.is_said() || unused, "{what}: {}", outcome.log);
    });
    // Nothing else tells that there was one: the last version is shown.
    let outcome = damaged(home, "no journal", |home| fs::remove_file(home.join(&journal)).unwrap());
    assert!(outcome.refused.is_none() && outcome.hurt.is_empty());
}

fn a_flipped_bit_in_a_key_is_said() {
    let home = closed_home();
    cases(4, |random, case| {
        let key = file(home, ["device.key", "owner.key"][case as usize % 2]);
        let at = random.below(bytes_of(home, &key).len() as u64);
        let what = format!("byte {at} of {}", key.display());
        let outcome = damaged(home, &what, |home| flip(&home.join(&key), at, random.next()));
        outcome.names_key(key.file_name().unwrap().to_str().unwrap());
        assert!(outcome.hurt.is_empty(), "{what}");
    });
}

fn a_key_that_is_cut_or_gone_is_said() {
    let home = closed_home();
    for name in ["device.key", "owner.key"] {
        let key = file(home, name);
        for cut in [None, Some(0), Some(40)] {
            let what = format!("{name} cut to {cut:?}");
            let outcome = damaged(home, &what, |home| match cut {
                None => fs::remove_file(home.join(&key)).unwrap(),
                Some(cut) => File::options().write(true).open(home.join(&key)).unwrap().set_len(cut).unwrap(),
            });
            outcome.names_key(name);
            // Nothing is put in its place.
            assert_eq!(outcome.world.home().join(&key).exists(), cut.is_some(), "{what}");
        }
    }
}
