//! The vocabulary of the tests: a home, a directory to mount on, and what is done with them.
//!
//! Every child has a deadline. Whatever happens to a test, its mount and its node are gone after it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub(crate) const JAXFS: &str = env!("CARGO_BIN_EXE_jaxfs");
/// What any child may take on a loaded machine.
pub(crate) const CHILD: Duration = Duration::from_secs(300);
/// What is waited for that should come at once.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// What a child said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Its output, if it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.status.success(), "it failed ({}):\n{}{}", self.status, self.out, self.err);
        self.out
    }

    /// All that it said, if it failed as it should.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert!(!self.status.success(), "it succeeded:\n{}{}", self.out, self.err);
        self.out + &self.err
    }

    /// Its one line of error, if it failed as it should.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert!(!self.status.success(), "it succeeded:\n{}{}", self.out, self.err);
        assert_eq!(self.err.lines().count(), 1, "not one line: {:?}", self.err);
        assert!(self.err.starts_with("jaxfs: "), "not ours: {:?}", self.err);
        self.err.trim_end().to_owned()
    }
}

/// Runs a child to its end; kills it, with its children, at the deadline.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Said {
    run_within(CHILD, command)
}

/// As [`run`], with a deadline of its own.
#[track_caller]
pub(crate) fn run_within(limit: Duration, command: &mut Command) -> Said {
    let shown = format!("{command:?}");
    // Files and not pipes, which a grandchild could keep open.
    let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let child = command.process_group(0).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("can not run {shown}: {error}: is it installed?"));
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_micros(500);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            panic!("took longer than {limit:?}: {shown}\n{}{}", text(&mut out), text(&mut err));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    Said { status, out: text(&mut out), err: text(&mut err) }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn wait_for(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Why nothing can be mounted here, if so.
pub(crate) fn fuse_trouble() -> Option<String> {
    let open = File::options().read(true).write(true).open("/dev/fuse");
    if open.is_err() {
        return Some("no usable /dev/fuse".to_owned());
    }
    // A container may have the device and not be allowed to mount.
    let world = World::new();
    let said = world.try_mount(&[]);
    (!said.status.success()).then(|| format!("no usable /dev/fuse ({})", said.err.trim()))
}

/// Why there are no loop devices here, if so.
pub(crate) fn loop_trouble() -> Option<String> {
    let control = File::options().read(true).write(true).open("/dev/loop-control");
    control.is_err().then(|| "no usable /dev/loop-control".to_owned())
}

/// Whether there is a program of that name.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A home with its directory to mount on.
pub(crate) struct World {
    root: TempDir,
    home: PathBuf,
    dir: PathBuf,
    variables: Vec<(String, String)>,
    /// The network namespace that commands run in, if it is another.
    namespace: Option<PathBuf>,
}

impl World {
    /// Nothing is made yet but an empty directory to mount on.
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("jaxfs-suite.").tempdir().unwrap();
        let (home, dir) = (root.path().join("home"), root.path().join("Bucket"));
        fs::create_dir(&dir).unwrap();
        Self { root, home, dir, variables: Vec::new(), namespace: None }
    }

    /// A live mount of a new bucket.
    #[track_caller]
    pub(crate) fn mounted() -> Self {
        let world = Self::new();
        world.mount();
        world
    }

    /// Sets an environment variable for what is run from here on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Runs everything from here on in a network namespace.
    pub(crate) fn live_in(&mut self, namespace: PathBuf) {
        self.namespace = Some(namespace);
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Where it is mounted.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in the mount.
    pub(crate) fn at(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.dir.join(name.as_ref())
    }

    /// A path beside the mount, on the machine's own file system.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A world whose home is on a disk of its own, of that size (as tmpfs has it); by root. Nothing is mounted yet.
    #[track_caller]
    pub(crate) fn on_a_disk_of(size: &str) -> Self {
        let world = Self::new();
        let disk = world.outside("disk");
        fs::create_dir(&disk).unwrap();
        world.sh(&format!("mount -t tmpfs -o size={size},mode=700 jaxfs-suite \"$OUT/disk\""));
        world.move_home_to(&disk);
        world
    }

    /// Has the home elsewhere, on a disk of its own; nothing is in it yet.
    pub(crate) fn move_home_to(&self, place: &Path) {
        std::os::unix::fs::symlink(place, &self.home).unwrap();
    }

    /// A mount by root in which other users may act, with more options.
    #[track_caller]
    pub(crate) fn mounted_for_others(options: &str) -> Self {
        let world = Self::new();
        world.try_mount(&["-o", &format!("allow_other{options}")]).ok();
        // The mount's parent folder is the test's alone as it was made.
        fs::set_permissions(world.root.path(), Permissions::from_mode(0o755)).unwrap();
        world
    }

    /// Runs the program.
    #[track_caller]
    pub(crate) fn jaxfs(&self, args: &[&str]) -> Said {
        run(self.command(JAXFS).args(args))
    }

    /// Runs the program with the mount's directory behind the arguments.
    #[track_caller]
    pub(crate) fn jaxfs_here(&self, args: &[&str]) -> Said {
        run(self.command(JAXFS).args(args).arg(&self.dir))
    }

    /// `jaxfs mount`, with more arguments.
    #[track_caller]
    pub(crate) fn try_mount(&self, args: &[&str]) -> Said {
        run(self.command(JAXFS).arg("mount").arg(&self.dir).args(args))
    }

    #[track_caller]
    pub(crate) fn mount(&self) -> String {
        self.try_mount(&[]).ok()
    }

    #[track_caller]
    pub(crate) fn unmount(&self) {
        self.jaxfs_here(&["unmount"]).ok();
        assert!(!self.is_mounted(), "still mounted after `jaxfs unmount`");
    }

    /// Unmounts, and mounts with a new node.
    #[track_caller]
    pub(crate) fn remount(&self) {
        self.unmount();
        assert_eq!(self.node(), None, "the node stays after its last mount");
        self.mount();
    }

    /// Waits until everything is published.
    #[track_caller]
    pub(crate) fn sync(&self) {
        self.jaxfs_here(&["sync"]).ok();
    }

    /// Runs a script of the shell in the mount; it stops at its first failure, which fails the test.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        self.try_sh(script).ok()
    }

    /// As [`World::sh`], but may fail. `$OUT` is the folder beside the mount.
    #[track_caller]
    pub(crate) fn try_sh(&self, script: &str) -> Said {
        let mut command = self.command("bash");
        run(command.args(["-euo", "pipefail", "-c", script]).current_dir(&self.dir))
    }

    /// Runs a script of Python in the mount.
    #[track_caller]
    pub(crate) fn python(&self, script: &str) -> String {
        run(self.command("python3").args(["-c", script]).current_dir(&self.dir)).ok()
    }

    /// Runs a longer script of Python, one of those below `scripts`, with arguments.
    #[track_caller]
    pub(crate) fn script(&self, script: &str, args: &[&str]) -> String {
        self.script_of("python3", script, args)
    }

    /// As [`World::script`], by a Python that has what the script needs.
    #[track_caller]
    pub(crate) fn script_of(&self, python: &str, script: &str, args: &[&str]) -> String {
        run(self.command(python).args(["-c", script]).args(args).current_dir(&self.dir)).ok()
    }

    /// A command that knows the home, and nothing of the machine's own settings.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = match &self.namespace {
            // It leaves the mounts as they are, where `ip netns exec` would make a world of their own for them.
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", namespace.display())).arg("--").arg(program);
                command
            }
            None => Command::new(program),
        };
        for name in ["XDG_DATA_HOME", "JAXFS_LOG", "RUST_LOG", "JAXFS_PASSPHRASE"] {
            command.env_remove(name);
        }
        command.env("JAXFS_HOME", &self.home).env("JAXFS", JAXFS).env("OUT", self.root.path()).env("LC_ALL", "C.UTF-8");
        command.env("HOME", self.root.path()).env("GIT_CONFIG_NOSYSTEM", "1");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// `status --json` of the only bucket.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let all: Value = serde_json::from_str(&self.jaxfs(&["status", "--json"]).ok()).unwrap();
        all[0].clone()
    }

    /// The versions of the only bucket, newest first.
    #[track_caller]
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = self.jaxfs(&["log", "--json"]).ok();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How many manifests there are.
    #[track_caller]
    pub(crate) fn manifests(&self) -> u64 {
        self.status()["manifests"].as_u64().unwrap()
    }

    /// Bytes of sealed blocks in the packs.
    pub(crate) fn stored(&self) -> u64 {
        self.home_files().iter().filter(|file| is_pack(file)).map(|file| fs::metadata(file).unwrap().len()).sum()
    }

    /// The packs of the only bucket.
    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        self.home_files().into_iter().filter(|file| is_pack(file)).collect()
    }

    /// Every regular file in the home.
    pub(crate) fn home_files(&self) -> Vec<PathBuf> {
        let (mut files, mut open) = (Vec::new(), vec![self.home.clone()]);
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    open.push(entry.path());
                } else if kind.is_file() {
                    files.push(entry.path());
                }
            }
        }
        files.sort();
        files
    }

    /// The node's process, if it runs.
    pub(crate) fn node(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.home.join("node.lock")).ok()?;
        let pid = text.trim().parse::<i32>().ok()?;
        // The number may be another process's by now.
        self.is_ours(pid).then(|| Pid::from_raw(pid))?
    }

    /// Whether a process was started for this home.
    fn is_ours(&self, pid: i32) -> bool {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let ours = [b"JAXFS_HOME=", self.home.as_os_str().as_encoded_bytes()].concat();
        environment.split(|&byte| byte == 0).any(|one| one == ours)
    }

    /// Kills every process of the program that was started for this home, whatever can be read there, and waits until they
    /// are gone.
    #[track_caller]
    pub(crate) fn kill_everything(&self) {
        let ours = || {
            let all = fs::read_dir("/proc").into_iter().flatten().flatten();
            let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
            let is_jaxfs =
                |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(JAXFS));
            all.filter(is_jaxfs).filter(|pid| self.is_ours(*pid)).filter_map(Pid::from_raw).collect::<Vec<_>>()
        };
        for process in ours() {
            let _ = kill_process(process, Signal::KILL);
        }
        wait_for("the processes of this home are gone", SOON, || ours().is_empty());
    }

    /// Kills the node as a crash does, and waits until it is gone.
    #[track_caller]
    pub(crate) fn kill_node(&self) {
        let node = self.node().expect("a node runs");
        kill_process(node, Signal::KILL).unwrap();
        self.wait_for_crash();
    }

    /// Waits until a node that was killed is gone, and its mount dead.
    #[track_caller]
    pub(crate) fn wait_for_crash(&self) {
        let dead = || rustix::fs::statfs(&self.dir).is_err_and(|error| error == Errno::NOTCONN);
        wait_for("the killed node is gone", SOON, || self.node().is_none() && dead());
    }

    /// Whether anything is mounted on the directory.
    pub(crate) fn is_mounted(&self) -> bool {
        let point = self.dir.to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.lines().any(|line| line.split(' ').nth(4) == Some(point))
    }

    /// Leaves nothing behind: no mount, no node.
    pub(crate) fn clean_up(&self) {
        if self.node().is_some() && !std::thread::panicking() {
            let _ = self.command("timeout").args(["20", JAXFS, "unmount", "--timeout", "10"]).arg(&self.dir).output();
        }
        if let Some(node) = self.node() {
            let _ = kill_process(node, Signal::KILL);
        }
        let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b' ').nth(4));
        let ours: Vec<_> =
            points.map(unescape).filter(|point| Path::new(point).starts_with(self.root.path())).collect();
        ours.iter().rev().for_each(|point| detach(Path::new(point)));
    }
}

/// Undoes the kernel's `\ooo`.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let number = rest.get(1..4).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match number.filter(|_| *first == b'\\') {
            Some(byte) => (bytes.push(byte), rest = &rest[4..]),
            None => (bytes.push(*first), rest = tail),
        };
    }
    OsString::from_vec(bytes)
}

fn detach(point: &Path) {
    if rustix::process::geteuid().is_root() {
        let _ = rustix::mount::unmount(point, UnmountFlags::DETACH);
    } else {
        let _ = Command::new("fusermount3").args(["-uz", "--"]).arg(point).status();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.home.join("node.log")).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("the last lines of node.log, newest first:\n{}", tail.join("\n"));
        }
        self.clean_up();
    }
}

fn is_pack(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "pack")
}
