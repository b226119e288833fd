//! Names and paths of the twin test: how they are drawn, and what they are when their turn comes.

use std::fmt;

use proptest::prelude::*;
use rustix::fs::FileType;

use super::op::{MAPS, SLOTS, Slot};

/// Numbers from here on stand for one of the slots that are in use; lower ones are slots.
pub(super) const DRAWN: usize = 8;

/// Directories below this one get no new names by being picked: paths stay far from the kernel's limit.
const DEPTH: usize = 6;

/// Where a call goes.
#[derive(Clone)]
pub(super) enum Place {
    /// To be told apart by what there is.
    Drawn(Draw),
    /// A path, from the directory in a slot or from the root.
    At(Option<u8>, Vec<u8>),
}

/// A place as it is drawn. Its numbers are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    way: Way,
    pick: u8,
    name: u8,
    from: u8,
    dress: u8,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// Something that has a name.
    Found(Sort),
    /// A name in a directory, in use or not.
    Under(Sort),
    /// A name in a directory that is held open.
    Held,
}

/// Which of what there is.
#[derive(Clone, Copy, Debug)]
enum Sort {
    Any,
    File,
    Directory,
    Symlink,
}

/// What there is.
pub(super) struct Scene {
    /// Paths, and what is there.
    pub(super) paths: Vec<(Vec<u8>, FileType)>,
    pub(super) slots: [Option<FileType>; SLOTS],
    pub(super) maps: [bool; MAPS],
}

/// What a number stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    File,
    Directory,
    Any,
    Map,
}

impl Scene {
    /// Tells what a drawn number of a slot stands for: mostly for something that can be used so.
    pub(super) fn settle(&self, slot: &mut Slot, what: Use) {
        let number = usize::from(*slot);
        if number < DRAWN {
            return;
        }
        let wanted = |kind: FileType| match what {
            Use::File => number.is_multiple_of(16) || kind == FileType::RegularFile,
            Use::Directory => number.is_multiple_of(16) || kind == FileType::Directory,
            Use::Any | Use::Map => true,
        };
        let fits: Vec<_> = match what {
            Use::Map => (0..MAPS).filter(|&map| self.maps[map]).collect(),
            _ => (0..SLOTS).filter(|&slot| self.slots[slot].is_some_and(wanted)).collect(),
        };
        *slot = fits.get(number % fits.len().max(1)).map_or(0, |&slot| slot as Slot);
    }
}

impl Place {
    /// Tells where it is, now that its turn has come.
    pub(super) fn settle(&mut self, scene: &Scene) {
        if let Self::Drawn(draw) = self {
            *self = draw.settle(scene);
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drawn(draw) => draw.fmt(out),
            Self::At(None, path) => write!(out, "\"{}\"", path.escape_ascii()),
            Self::At(Some(slot), path) => write!(out, "{slot}/\"{}\"", path.escape_ascii()),
        }
    }
}

impl Sort {
    fn is(self, kind: FileType) -> bool {
        match self {
            Self::Any => true,
            Self::File => kind == FileType::RegularFile,
            Self::Directory => kind == FileType::Directory,
            Self::Symlink => kind == FileType::Symlink,
        }
    }
}

impl Draw {
    fn settle(self, scene: &Scene) -> Place {
        let name = name(self.name);
        let (from, path) = match self.way {
            Way::Found(sort) => (None, self.found(sort, scene).unwrap_or_default()),
            Way::Under(sort) => {
                let above = self.found(sort, scene).unwrap_or_default();
                (None, if above.is_empty() { name } else { [&above[..], b"/", &name].concat() })
            }
            Way::Held => {
                let mut slot = self.from;
                scene.settle(&mut slot, Use::Directory);
                (Some(slot), name)
            }
        };
        Place::At(from, dressed(path, self.dress))
    }

    fn found(self, sort: Sort, scene: &Scene) -> Option<Vec<u8>> {
        let shallow = |path: &[u8]| path.iter().filter(|&&byte| byte == b'/').count() < DEPTH;
        let fits = |(path, kind): &&(Vec<u8>, FileType)| sort.is(*kind) && shallow(path);
        let all: Vec<_> = scene.paths.iter().filter(fits).collect();
        // The root is one of the directories.
        let root = usize::from(matches!(sort, Sort::Directory));
        let pick = usize::from(self.pick) % (all.len() + root).max(1);
        Some(all.get(pick.checked_sub(root)?)?.0.clone())
    }
}

/// A path in one of the ways to write it.
fn dressed(path: Vec<u8>, dress: u8) -> Vec<u8> {
    match dress {
        0 => [&path[..], b"/"].concat(),
        1 => [&path[..], b"/."].concat(),
        2 => [&path[..], b"/.."].concat(),
        3 => [b"/", &path[..]].concat(),
        4 => [b".//", &path[..]].concat(),
        5 => [&path[..], b"/../", &path[..]].concat(),
        6 => b".".to_vec(),
        7 => b"..".to_vec(),
        8 => Vec::new(),
        9 => [&path[..], b"//"].concat(),
        _ => path,
    }
}

/// The `number`th name: few short ones, so that they meet, strange ones, and many for full directories.
pub(super) fn name(number: u8) -> Vec<u8> {
    match number {
        0..10 => vec![b'a' + number],
        10 => vec![b'L'; 255],
        11 => vec![b'M'; 256],
        12 => b"\xff\n \\\x01*".to_vec(),
        13 => b"...".to_vec(),
        14 => b".history".to_vec(),
        15 => b".fuse_hidden0001".to_vec(),
        _ => format!("{number}-{:-<1$}", "", usize::from(number) / 2).into_bytes(),
    }
}

fn name_number() -> impl Strategy<Value = u8> {
    prop_oneof![20 => 0..6u8, 2 => 0..16u8, 1 => 16..80u8]
}

/// A slot in use, to be settled.
pub(super) fn used() -> impl Strategy<Value = Slot> {
    DRAWN as u8..=u8::MAX
}

fn draw(way: impl Strategy<Value = Way>) -> impl Strategy<Value = Place> {
    let dress = prop_oneof![16 => Just(u8::MAX), 1 => 0..10u8];
    (way, any::<u8>(), name_number(), used(), dress)
        .prop_map(|(way, pick, name, from, dress)| Place::Drawn(Draw { way, pick, name, from, dress }))
}

/// Any place: mostly what there is.
pub(super) fn place() -> impl Strategy<Value = Place> {
    draw(prop_oneof![
        6 => Just(Way::Found(Sort::Any)),
        6 => Just(Way::Found(Sort::File)),
        3 => Just(Way::Found(Sort::Directory)),
        1 => Just(Way::Found(Sort::Symlink)),
        2 => Just(Way::Under(Sort::Directory)),
        1 => Just(Way::Under(Sort::Any)),
        2 => Just(Way::Held),
    ])
}

/// A place for something new: mostly a name in a directory.
pub(super) fn fresh() -> impl Strategy<Value = Place> {
    draw(prop_oneof![
        9 => Just(Way::Under(Sort::Directory)),
        1 => Just(Way::Under(Sort::Any)),
        2 => Just(Way::Found(Sort::Any)),
        3 => Just(Way::Held),
    ])
}

/// A place that is a directory, mostly.
pub(super) fn directory() -> impl Strategy<Value = Place> {
    draw(prop_oneof![9 => Just(Way::Found(Sort::Directory)), 1 => Just(Way::Found(Sort::Any)), 1 => Just(Way::Held)])
}

/// What a symbolic link says.
pub(super) fn target() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0..6u8).prop_map(name),
        2 => (0..6u8, 0..6u8).prop_map(|(a, b)| [&name(a)[..], b"/", &name(b)].concat()),
        2 => (0..6u8).prop_map(|a| [b"../", &name(a)[..]].concat()),
        2 => (0..6u8).prop_map(|a| [b"/", &name(a)[..]].concat()),
        1 => prop::sample::select(vec![&b"."[..], b"..", b"/", b"", b"\xff/\n"]).prop_map(<[u8]>::to_vec),
        1 => prop::sample::select(vec![59, 60, 256, 4095, 4096]).prop_map(|len| vec![b't'; len]),
    ]
}
