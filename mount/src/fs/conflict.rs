//! What is written through a handle whose file others replaced or removed.
//!
//! It must neither be lost nor get into what is there now. So with the first such write a *conflict copy* is made beside the
//! file, on the version that is shown, or in the nearest directory above that is still there. From then on both inodes have
//! one content: who holds the old one goes on with it, and all that he writes is published, synced and shown by the name of
//! the copy. Nothing is copied.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use jaxfs_sync::tree::{Body, Content, FileId, Name, Time};

use super::table::{Ino, Links, Object, Stale, Table};
use super::{Fs, now};
use crate::errno::FsError;

/// How many copies of a name are told apart by a number.
const MOST: usize = 1_000;

impl Fs {
    /// Sees to it that what was written to a file has a name, if others took it. While changes are not kept out.
    ///
    /// # Errors
    /// If no copy can be made.
    pub(super) fn keep_late(&self, ino: Ino) -> Result<(), FsError> {
        for number in 1..MOST {
            let (place, wanted) = {
                let mut table = self.table.lock();
                if table.get(ino).is_none_or(|inode| inode.detached.is_none()) || self.touch_copy(&mut table, ino) {
                    return Ok(());
                }
                place(&table, ino)
            };
            let name = conflict_name(&wanted, &self.device_name(), now(), number);
            let (mut table, [taken]) = self.resolve([(place, &name)])?;
            if taken.is_some() || table.get(place).is_none_or(|place| place.nlink == 0) {
                continue;
            }
            if !self.touch_copy(&mut table, ino) {
                self.copy_as(&mut table, ino, place, name.clone())?;
                drop(table);
                tracing::warn!(name = %String::from_utf8_lossy(&name), "a file that others changed was written to: it is kept beside theirs");
                self.changed();
                let (names, inodes) = (HashSet::from([(place, name)]), HashSet::from([place]));
                self.news.tell_also(Stale { names, inodes, contents: HashSet::new() });
            }
            return Ok(());
        }
        Err(FsError::Exists)
    }

    /// Marks the copy of a file as changed, if there is one.
    fn touch_copy(&self, table: &mut Table, ino: Ino) -> bool {
        let Some(copy) = table.copy_of(ino) else { return false };
        super::names::touch_times(table, copy, true, now());
        if table.is_known(copy) {
            let copy = HashSet::from([copy]);
            self.news.tell_also(Stale { names: HashSet::new(), inodes: copy.clone(), contents: copy });
        }
        true
    }

    /// Has a new name for what a file holds.
    fn copy_as(&self, table: &mut Table, ino: Ino, place: Ino, name: Name) -> Result<(), FsError> {
        let inode = table.get(ino).ok_or(FsError::NotFound)?;
        let file = Arc::clone(inode.file().ok_or(FsError::Invalid)?);
        let record = inode.attributes.record(FileId::random(), Body::File(Content::empty()));
        let copy = table.load(&record, Links::Home(place, name.clone()), |_| Object::File(file));
        table.add_name(place, name, copy);
        super::names::touch_times(table, place, true, now());
        super::names::touch_times(table, copy, true, now());
        table.has_copy(ino, copy);
        // What is below what was written is not for the journal: a version has to be made durable.
        table.log.give_up();
        Ok(())
    }

    fn device_name(&self) -> String {
        self.bucket.device_name().unwrap_or_else(|| "unknown device".to_owned())
    }
}

/// The nearest directory that is still there to where a file was, and the name that it had.
fn place(table: &Table, ino: Ino) -> (Ino, Name) {
    let origin = |ino: Ino| table.get(ino)?.detached.as_ref()?.origin.as_ref();
    let mut at = origin(ino);
    let name = at.map(|(_, name)| name.clone());
    let mut parent = Ino::ROOT;
    while let Some((above, _)) = at {
        parent = *above;
        if table.get(parent).is_some_and(|inode| inode.nlink > 0) {
            break;
        }
        (parent, at) = (Ino::ROOT, origin(parent));
    }
    (parent, name.unwrap_or_else(|| Name::new(b"file").unwrap_or_else(|_| unreachable!("it can be one"))))
}

/// `name (conflict DEVICE DATE).ext`, cut where that is too long for a name.
fn conflict_name(name: &Name, device: &str, time: Time, number: usize) -> Name {
    let bytes = name.as_bytes();
    let dot = bytes.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0 && bytes.len() - at <= 16);
    let (stem, extension) = bytes.split_at(dot.unwrap_or(bytes.len()));
    let device: String = device.chars().map(|c| if c.is_control() || c == '/' { '_' } else { c }).collect();
    let number = if number > 1 { format!(" {number}") } else { String::new() };
    let told = format!(" (conflict {device} {}{number})", date(time));
    let room = jaxfs_sync::limits::NAME_BYTES.saturating_sub(told.len() + extension.len());
    // Not within a character, where it is text.
    let mut end = stem.len().min(room);
    while end > 0 && end < stem.len() && stem[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    let full = [&stem[..end], told.as_bytes(), extension].concat();
    Name::new(&full).unwrap_or_else(|_| name.clone())
}

/// `2026-11-23 04-28-17`, UTC.
fn date(time: Time) -> String {
    let (days, second) = (time.secs.div_euclid(86_400), time.secs.rem_euclid(86_400));
    // Days of the proleptic Gregorian calendar, from 0000-03-01, so that a leap day is a year's last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}-{:02}-{:02}", second / 3_600, second / 60 % 60, second % 60)
}
