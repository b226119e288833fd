//! What the file system holds of stored blocks, for a collection of garbage.

#[cfg(test)]
mod tests;

use jaxfs_sync::publish::{Held, Holds};

use super::Fs;
use super::table::Object;

impl Holds for Fs {
    /// No write-back is half installed meanwhile, and no operation uses what it took from the table before.
    fn held(&self, held: &mut Held) {
        let flusher = self.flusher.lock();
        let _unused = self.using.write();
        let table = self.table.lock();
        held.superblock(flusher.superblock());
        for inode in table.all() {
            match &inode.object {
                // Most are in the version. What was removed and is still open is in none.
                Object::Directory(directory) => held.directory(&directory.base),
                Object::File(file) => file.held(held),
                Object::Symlink(_) | Object::Special(_) => {}
            }
        }
        for file in self.handles.files() {
            file.held(held);
        }
    }
    fn turn(&self) {
        self.writeback.turn();
    }
}
