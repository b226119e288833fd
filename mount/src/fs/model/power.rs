//! Power cuts while changes are made safe: what is found then is what was safe before, or what was to be, and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jaxfs_sync::store::disk::simulated::Fault;

use super::op::{Cut, Safe};
use super::world::World;

impl World {
    pub(super) fn cut(&mut self, cut: &Cut) {
        let disk = self.disk.clone().expect("there is a disk whose power can be cut");
        let before = (self.kept.clone(), self.loose.clone(), self.synced);
        disk.fail(disk.operations() + u64::from(cut.after), Fault::PowerCut);
        let is_safe = match &cut.what {
            Safe::Version(durability) => {
                let is_safe = self.fs().flush(*durability).is_ok();
                self.kept = self.plain.clone();
                self.loose.clear();
                is_safe
            }
            Safe::Journal(picks) => {
                let files: Vec<_> = picks.iter().filter_map(|pick| self.handle(*pick)).map(|(_, id)| id).collect();
                let inos: Vec<_> = files.iter().map(|id| self.inos[id]).collect();
                let is_safe = self.fs().journal(&inos);
                self.is_synced(&files);
                is_safe
            }
        };
        let was_cut = disk.is_off();
        self.mount_again(|lab| {
            lab.restart_after(|| {
                disk.restart(cut.seed);
                disk.heal();
            })
        });
        if is_safe || was_cut {
            let found = catch_unwind(AssertUnwindSafe(|| {
                self.go_back();
                self.compare();
            }));
            match found {
                Ok(()) => return,
                Err(panic) if is_safe => std::panic::resume_unwind(panic),
                // What the comparison looked up is forgotten.
                Err(_) => self.mount_again(|lab| lab),
            }
        }
        (self.kept, self.loose, self.synced) = before;
        self.go_back();
        self.compare();
    }
}
