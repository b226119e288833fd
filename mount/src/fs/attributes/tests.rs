#![allow(clippy::unwrap_used)]

use super::*;
use crate::fs::model::lab::{Lab, ME};

#[test]
fn a_label_is_kept_and_there_are_no_labels_else() {
    let lab = Lab::new();
    let fs = lab.mount(usize::MAX);
    assert_eq!(fs.xattr(Ino::ROOT, LABEL).err(), Some(FsError::Unsupported));
    fs.set_xattr(Ino::ROOT, LABEL, b"label", None, ME).unwrap();
    assert_eq!(*fs.xattr(Ino::ROOT, LABEL).unwrap(), *b"label");
}
