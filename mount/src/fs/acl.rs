//! POSIX ACLs: their form, and how an ACL and a mode keep in step.
//!
//! The kernel checks permissions (`FUSE_POSIX_ACL`) and passes ACLs as extended attributes, in the form that is stored too.
//! What is left to a file system is here, as functions of attributes alone: what is set is looked at, a change of the
//! access ACL changes the mode and the other way round, and what is made in a directory gets what its default ACL says.
//! The rules are those of POSIX.1e (draft 17, section 23.1) as Linux has them (`fs/posix_acl.c`).
//!
//! Always true of an [`Acl`]: owner, group and others are in it once each; who is named is so beside a mask.

#[cfg(test)]
mod tests;

use std::ops::BitOr;

use jaxfs_sync::tree::Kind;

use super::attributes::S_ISGID;
use super::table::Attributes;
use crate::errno::FsError;
use crate::limits;

/// The attribute with the ACL that is checked.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of a directory with the ACL that is passed on.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// The only version of the form (`linux/posix_acl_xattr.h`).
const VERSION: [u8; 4] = 2u32.to_le_bytes();
/// The id of an entry that names nobody.
const NOBODY: u32 = u32::MAX;

/// Whom an entry is about. The numbers are the kernel's, and so is their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u16)]
enum Tag {
    Owner = 0x01,
    User = 0x02,
    Group = 0x04,
    NamedGroup = 0x08,
    Mask = 0x10,
    Other = 0x20,
}

impl Tag {
    const ALL: [Self; 6] = [Self::Owner, Self::User, Self::Group, Self::NamedGroup, Self::Mask, Self::Other];

    const fn is_named(self) -> bool {
        matches!(self, Tag::User | Tag::NamedGroup)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    tag: Tag,
    /// Read 4, write 2, execute 1.
    allowed: u16,
    /// The user or group that is named, else [`NOBODY`].
    id: u32,
}

impl Entry {
    const BYTES: usize = 8;

    /// Reads tag, permissions (16 bits each) and id (32), little-endian.
    fn parse([t0, t1, a0, a1, id @ ..]: [u8; Self::BYTES]) -> Option<Self> {
        let (number, allowed, id) =
            (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([a0, a1]), u32::from_le_bytes(id));
        let tag = Tag::ALL.into_iter().find(|tag| *tag as u16 == number)?;
        (allowed <= 7 && tag.is_named() == (id != NOBODY)).then_some(Self { tag, allowed, id })
    }

    fn encode(self) -> [u8; Self::BYTES] {
        let ([t0, t1], [a0, a1], [i0, i1, i2, i3]) =
            ((self.tag as u16).to_le_bytes(), self.allowed.to_le_bytes(), self.id.to_le_bytes());
        [t0, t1, a0, a1, i0, i1, i2, i3]
    }
}

/// An access control list: entries in the order of their tags, at most [`limits::ACL_ENTRIES`].
#[derive(Clone, PartialEq, Eq, Debug)]
struct Acl(Vec<Entry>);

impl Acl {
    /// Reads one; `None` if it is not one that the kernel accepts, and writes in this way.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (entries, rest) = bytes.strip_prefix(&VERSION)?.as_chunks();
        if !rest.is_empty() || entries.len() > limits::ACL_ENTRIES {
            return None;
        }
        let acl = Self(entries.iter().map(|entry| Entry::parse(*entry)).collect::<Option<_>>()?);
        let once = |tag| acl.count(tag) == 1;
        let named = acl.0.iter().any(|entry| entry.tag.is_named());
        let masks = acl.count(Tag::Mask);
        let valid = acl.0.is_sorted_by_key(|entry| entry.tag)
            && [Tag::Owner, Tag::Group, Tag::Other].into_iter().all(once)
            && (usize::from(named)..=1).contains(&masks);
        valid.then_some(acl)
    }

    fn encode(&self) -> Vec<u8> {
        VERSION.into_iter().chain(self.0.iter().flat_map(|entry| entry.encode())).collect()
    }

    fn count(&self, tag: Tag) -> usize {
        self.0.iter().filter(|entry| entry.tag == tag).count()
    }

    /// Whether it says no more than a mode does.
    fn is_mode(&self) -> bool {
        self.0.len() == 3
    }

    /// Which bits of a mode an entry stands for, as how far left they are: the mask for the group's, if there is a mask.
    fn shift(&self) -> impl Fn(Tag) -> Option<u16> + use<> {
        let group = if self.count(Tag::Mask) == 0 { Tag::Group } else { Tag::Mask };
        move |tag| match tag {
            Tag::Owner => Some(6),
            Tag::Other => Some(0),
            tag => (tag == group).then_some(3),
        }
    }

    /// The permission bits of the mode that goes with it.
    fn mode(&self) -> u16 {
        let shift = self.shift();
        self.0.iter().filter_map(|entry| Some(entry.allowed << shift(entry.tag)?)).fold(0, BitOr::bitor)
    }

    /// Takes the permission bits of a mode over.
    fn set_mode(&mut self, mode: u16) {
        let shift = self.shift();
        for entry in &mut self.0 {
            if let Some(shift) = shift(entry.tag) {
                entry.allowed = mode >> shift & 7;
            }
        }
    }
}

/// Sets an access ACL, and the mode's bits with it. An ACL that says no more than a mode is the mode alone. Whoever is not
/// `privileged` loses the set-group-id bit, as with `chmod`.
pub(super) fn set_access(
    attributes: &mut Attributes,
    kind: Kind,
    value: &[u8],
    privileged: bool,
) -> Result<(), FsError> {
    if kind == Kind::Symlink {
        return Err(FsError::Unsupported);
    }
    let acl = Acl::parse(value).ok_or(FsError::Invalid)?;
    if acl.is_mode() {
        attributes.remove_xattr(ACCESS);
    } else {
        attributes.set_xattr(ACCESS, value)?;
    }
    let kept = if privileged { !0o777 } else { !(0o777 | S_ISGID) };
    attributes.mode = attributes.mode & kept | acl.mode();
    Ok(())
}

/// Sets the ACL that a directory passes on.
pub(super) fn set_default(attributes: &mut Attributes, kind: Kind, value: &[u8]) -> Result<(), FsError> {
    match kind {
        Kind::Directory => {}
        Kind::Symlink => return Err(FsError::Unsupported),
        _ => return Err(FsError::Denied),
    }
    Acl::parse(value).ok_or(FsError::Invalid)?;
    attributes.set_xattr(DEFAULT, value)
}

/// Has the access ACL say what the mode is about to: of the owner, the mask (the group, if there is no mask) and others.
pub(super) fn follow_mode(attributes: &mut Attributes, mode: u16) -> Result<(), FsError> {
    let Some(value) = attributes.xattrs.get(ACCESS) else { return Ok(()) };
    let mut acl = stored(value)?;
    acl.set_mode(mode);
    attributes.set_xattr(ACCESS, &acl.encode())
}

/// Gives something new in a directory the mode and the ACLs that are due to it. It has the mode that was asked for, of
/// which the directory's default ACL takes away what it does not allow; without one, `umask` does.
pub(super) fn inherit(new: &mut Attributes, kind: Kind, default: Option<&[u8]>, umask: u16) -> Result<(), FsError> {
    match default {
        _ if kind == Kind::Symlink => {}
        None => new.mode &= !(umask & 0o777),
        Some(value) => {
            let mut acl = stored(value)?;
            let mode = acl.mode() & new.mode;
            acl.set_mode(mode);
            new.mode = new.mode & !0o777 | mode;
            if !acl.is_mode() {
                new.set_xattr(ACCESS, &acl.encode())?;
            }
            if kind == Kind::Directory {
                new.set_xattr(DEFAULT, value)?;
            }
        }
    }
    Ok(())
}

/// Reads an ACL that was stored. It was looked at when it was set, but maybe by another program.
fn stored(value: &[u8]) -> Result<Acl, FsError> {
    Acl::parse(value).ok_or_else(|| {
        tracing::error!("a stored ACL is none");
        FsError::Io
    })
}
