//! Sequences that once ended otherwise than on a disk.

use rustix::fs::{FallocateFlags, OFlags, XattrFlags};

use super::op::{Bits, Data, On, Op, Step, Who};
use super::place::Place;

fn root(op: Op) -> Step {
    Step { who: Who::Root, op }
}

fn ann(op: Op) -> Step {
    Step { who: Who::Ann, op }
}

fn at(path: &str) -> Place {
    Place::At(None, path.into())
}

fn create(slot: u8, path: &str) -> Step {
    root(Op::Open { slot, at: at(path), flags: OFlags::CREATE | OFlags::RDWR, mode: Bits(0o666) })
}

fn set_xattr(path: &str, name: u8) -> Step {
    let (on, data) = (On::Path(at(path)), Data { number: 1, len: 10 });
    root(Op::SetXattr { on, name, data, flags: XattrFlags::empty() })
}

pub(super) fn privileged_attributes_are_listed_for_root_only() {
    let list = || Op::ListXattrs { on: On::Path(at("f")), room: 100 };
    super::same([create(0, "f"), set_xattr("f", 0), set_xattr("f", 7), ann(list()), root(list())]);
}

pub(super) fn an_attribute_needs_more_than_the_name_of_its_space() {
    let on = || On::Path(at("f"));
    let get = Op::GetXattr { on: on(), name: 6, room: 0 };
    let remove = Op::RemoveXattr { on: on(), name: 6 };
    super::same([create(0, "f"), set_xattr("f", 6), root(get), root(remove)]);
}

pub(super) fn setting_space_aside_changes_the_times() {
    super::same([create(0, "f"), root(Op::Allocate { slot: 0, how: FallocateFlags::KEEP_SIZE, at: 200, len: 100 })]);
}
