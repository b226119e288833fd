//! Where the twin test happens: in a mount, and in a directory that is the measure.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{Access, CWD, Mode, OFlags, StatVfsMountFlags, fsync, openat, statfs, statvfs};
use rustix::process::fchdir;

use super::op::Op;
use crate::world::World;

/// The variable that says where the plain side is.
const PLAIN_DIR: &str = "JAXFS_TWIN_DIR";
/// `statfs` types.
const EXT4: i64 = 0xef53;
const TMPFS: i64 = 0x0102_1994;

/// A mount, and a directory beside it.
pub(super) struct Ground {
    pub(super) world: World,
    /// The root of everything.
    pub(super) outside: OwnedFd,
    /// Whether the plain side's clock tells any two changes apart.
    pub(super) fine: bool,
    pub(super) is_tmpfs: bool,
    plain: tempfile::TempDir,
    options: &'static str,
    /// How often it was mounted, and held while it is not, or while someone uses the mount who must not keep it busy.
    mounts: Mutex<u32>,
    /// Whether the plain side lets programs be run.
    runs: bool,
}

impl Ground {
    /// Mounts, beside a directory on a file system that is a measure.
    pub(super) fn new() -> Self {
        let chosen = std::env::var_os(PLAIN_DIR).map(PathBuf::from);
        let usual = [std::env::temp_dir(), env!("CARGO_TARGET_TMPDIR").into(), "/var/tmp".into(), "/dev/shm".into()];
        let all = chosen.map_or_else(|| usual.to_vec(), |chosen| vec![chosen]);
        let measure = all.iter().find(|dir| is_on(dir, EXT4)).or_else(|| all.iter().find(|dir| is_on(dir, TMPFS)));
        let measure =
            measure.unwrap_or_else(|| panic!("none of {all:?} is on ext4 or tmpfs: {PLAIN_DIR} may name one"));
        let plain = tempfile::Builder::new().prefix("jaxfs-twin.").tempdir_in(measure).unwrap();
        let is_tmpfs = is_on(plain.path(), TMPFS);
        let flags = statvfs(plain.path()).unwrap().f_flag;
        let options = if flags.contains(StatVfsMountFlags::NODEV) { "allow_other" } else { "allow_other,dev" };
        let ground = Self {
            world: World::new(),
            outside: open_dir(Path::new("/")),
            // tmpfs gives a directory the time of a file, which may not have been looked at.
            fine: !is_tmpfs && tells_changes_apart(plain.path()),
            is_tmpfs,
            plain,
            options,
            mounts: Mutex::new(0),
            runs: !flags.contains(StatVfsMountFlags::NOEXEC),
        };
        ground.mount(&mut ground.mounts());
        ground
    }

    fn mounts(&self) -> MutexGuard<'_, u32> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every other mount has little memory, and seals what is written in the midst of it.
    fn mount(&self, mounts: &mut u32) {
        let memory = if mounts.is_multiple_of(2) { "dirty=1M,cache=1M" } else { "rw" };
        *mounts += 1;
        self.world.try_mount(&["-o", self.options, "-o", memory]).ok();
    }

    /// Has everything written back.
    pub(super) fn write_back(&self) {
        let _mounted = self.mounts();
        // What goes wrong is told to who is a step.
        let _ = openat(CWD, self.world.dir(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).and_then(fsync);
    }

    /// The plain side of a case, and ours.
    pub(super) fn paths(&self, case: &str) -> [PathBuf; 2] {
        [self.plain.path().join(case), self.world.at(case)]
    }

    /// Unmounts, and mounts with a new node.
    pub(super) fn remount(&self) {
        // A working directory in the mount would keep it busy.
        fchdir(&self.outside).unwrap();
        let mut mounts = self.mounts();
        self.world.unmount();
        self.mount(&mut mounts);
    }

    /// Mounts again if the node has ended.
    pub(super) fn revive(&self) {
        if self.world.node().is_none() {
            let mut mounts = self.mounts();
            self.world.clean_up();
            self.mount(&mut mounts);
        }
    }

    /// Whether a call can not be compared for what the plain side is mounted with.
    pub(super) fn is_incomparable(&self, op: &Op) -> bool {
        matches!(op, Op::Access { mode, .. } if !self.runs && u32::from(*mode) & Access::EXEC_OK.bits() != 0)
    }

    pub(super) fn describe(&self) -> String {
        let name = if self.is_tmpfs { "tmpfs" } else { "ext4" };
        format!("{} ({name})", self.plain.path().display())
    }
}

fn is_on(dir: &Path, kind: i64) -> bool {
    statfs(dir).is_ok_and(|stat| stat.f_type == kind)
}

/// Whether times differ between two changes that were looked at: before Linux 6.13 they did not, within some milliseconds.
fn tells_changes_apart(dir: &Path) -> bool {
    let path = dir.join("clock");
    let file = fs::File::create(&path).unwrap();
    let time = || fs::metadata(&path).unwrap().ctime_nsec();
    let moves = |_| {
        let before = time();
        file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        time() != before
    };
    (0..20).all(moves)
}

/// A directory to work from.
pub(super) fn open_dir(path: &Path) -> OwnedFd {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}
