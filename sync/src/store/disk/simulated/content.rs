//! A file's bytes in pages that copies share, so that a copy costs little.

use std::io;
use std::sync::Arc;

pub(super) const PAGE: usize = 4_096;

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    len: u64,
    /// None was never written to, and is zeros.
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
}

impl Content {
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// How many pages were written to.
    pub(super) fn pages(&self) -> u64 {
        self.pages.iter().flatten().count() as u64
    }

    /// How many pages more a write needs.
    pub(super) fn pages_for(&self, offset: u64, len: usize) -> u64 {
        let missing = |(page, ..): &(usize, usize, usize)| self.pages.get(*page).is_none_or(Option::is_none);
        parts(offset, len).filter(missing).count() as u64
    }

    pub(super) fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        if offset + to.len() as u64 > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = to;
        for (page, at, len) in parts(offset, rest.len()) {
            let (part, behind) = rest.split_at_mut(len);
            match self.pages.get(page) {
                Some(Some(page)) => part.copy_from_slice(&page[at..at + len]),
                _ => part.fill(0),
            }
            rest = behind;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut rest = bytes;
        for (page, at, len) in parts(offset, bytes.len()) {
            if self.pages.len() <= page {
                self.pages.resize(page + 1, None);
            }
            let (part, behind) = rest.split_at(len);
            let page = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[at..at + len].copy_from_slice(part);
            rest = behind;
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (page, at) = ((len / PAGE as u64) as usize, (len % PAGE as u64) as usize);
            self.pages.truncate(page + usize::from(at > 0));
            if let Some(Some(last)) = self.pages.get_mut(page) {
                Arc::make_mut(last)[at..].fill(0);
            }
        }
        self.len = len;
    }
}

/// The pages that a range is in: each one's number, where in it the range begins, and how much of it is there.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let end = offset + len as u64;
    let mut from = offset;
    std::iter::from_fn(move || {
        let (page, at) = ((from / PAGE as u64) as usize, (from % PAGE as u64) as usize);
        let len = (PAGE - at).min(usize::try_from(end - from).ok()?);
        from += len as u64;
        (len > 0).then_some((page, at, len))
    })
}
