//! The whole program, as a person meets it: its command line, and ordinary tools in a real mount.
//!
//! A test whose needs this machine does not meet (a usable /dev/fuse, root) is counted as ignored and named with the
//! reason; it never passes in silence. A program that a test needs and does not find fails it. Where `CI` is set, that
//! goes for the programs too that `.ci/run tools` builds.

#![allow(clippy::unwrap_used)]

mod acl;
mod apps;
mod commands;
mod counted;
mod crash;
mod errors;
mod files;
mod fsx;
mod full;
mod garbage;
mod heads;
mod killed;
mod large;
mod loads;
mod metadata;
mod mounting;
mod peers;
mod pjdfstest;
mod power;
mod repair;
mod rot;
mod secrecy;
mod tools;
mod twin;
mod walk;
mod world;

use std::process::ExitCode;
use std::sync::{PoisonError, RwLock};

use libtest_mimic::{Arguments, Failed, Trial};

/// What a test needs of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// A mount.
    Mount,
    /// A mount by root: other owners, device nodes.
    Root,
    /// A mount by root, a loop device for its home, and no other test beside it.
    Loop,
    /// Mounts by root, on machines with a network of their own.
    Net,
    /// A mount, and a program that not every machine has to have.
    Program(&'static str),
    /// A mount, and no other test beside it, since it counts what depends on time.
    MountAlone,
    /// A mount, and fsx.
    Fsx,
    /// A mount by root, and pjdfstest.
    Pjdfstest,
}

impl Needs {
    /// The program that has to be built first for such a test.
    fn tool(self) -> Option<&'static str> {
        match self {
            Self::Fsx => Some("fsx"),
            Self::Pjdfstest => Some("pjdfstest"),
            Self::Nothing | Self::Mount | Self::Root | Self::Net | Self::Loop | Self::Program(_) | Self::MountAlone => {
                None
            }
        }
    }
}

/// A test: its name, a claim, and what it does.
pub(crate) type Claim = (&'static str, Needs, fn());

/// Lists functions as claims, each group with what it needs.
macro_rules! claims {
    (@ $needs:expr, $($name:ident)*) => {
        &[$((stringify!($name), $needs, $name as fn())),*]
    };
    ($($needs:ident $(($program:literal))?: [$($name:ident),* $(,)?]),* $(,)?) => {
        pub(crate) const CLAIMS: &[&[crate::Claim]] =
            &[$(crate::claims!(@ crate::Needs::$needs $(($program))?, $($name)*)),*];
    };
}
pub(crate) use claims;

static ALONE: RwLock<()> = RwLock::new(());

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let modules = [
        ("acl", acl::CLAIMS),
        ("apps::archives", apps::archives::CLAIMS),
        ("apps::backups", apps::backups::CLAIMS),
        ("apps::cargo", apps::cargo::CLAIMS),
        ("apps::databases", apps::databases::CLAIMS),
        ("apps::editors", apps::editors::CLAIMS),
        ("apps::git", apps::git::CLAIMS),
        ("apps::load", apps::load::CLAIMS),
        ("apps::python", apps::python::CLAIMS),
        ("commands", commands::CLAIMS),
        ("counted", counted::CLAIMS),
        ("crash", crash::CLAIMS),
        ("errors", errors::CLAIMS),
        ("files", files::CLAIMS),
        ("killed", killed::CLAIMS),
        ("fsx", fsx::CLAIMS),
        ("garbage", garbage::CLAIMS),
        ("heads", heads::CLAIMS),
        ("full", full::CLAIMS),
        ("large", large::CLAIMS),
        ("metadata", metadata::CLAIMS),
        ("mounting", mounting::CLAIMS),
        ("peers::broken", peers::broken::CLAIMS),
        ("peers::changes", peers::changes::CLAIMS),
        ("peers::links", peers::links::CLAIMS),
        ("peers::reading", peers::reading::CLAIMS),
        ("peers::roles", peers::roles::CLAIMS),
        ("pjdfstest", pjdfstest::CLAIMS),
        ("repair", repair::CLAIMS),
        ("power", power::CLAIMS),
        ("rot", rot::CLAIMS),
        ("secrecy", secrecy::CLAIMS),
        ("tools", tools::CLAIMS),
        ("twin", twin::CLAIMS),
    ];
    let fuse = world::fuse_trouble();
    let root = rustix::process::geteuid().is_root();
    let loops = world::loop_trouble();
    let nets = peers::trouble();
    let must_have_tools = std::env::var_os("CI").is_some();
    let mut trials = Vec::new();
    for (module, claims) in modules {
        for &(name, needs, test) in claims.iter().copied().flatten() {
            let missing = match needs {
                Needs::Nothing => None,
                Needs::Program(program) if !world::is_installed(program) => Some(format!("{program} is not installed")),
                Needs::Root | Needs::Loop | Needs::Net | Needs::Pjdfstest if !root => Some("needs root".to_owned()),
                Needs::Loop if loops.is_some() => loops.clone(),
                Needs::Net if nets.is_some() => nets.clone(),
                _ => fuse.clone(),
            };
            let tool = needs.tool().filter(|tool| !must_have_tools && !world::is_installed(tool));
            let missing = missing.or(tool.map(|tool| format!("{tool} is not installed: `.ci/run tools tests`")));
            let name = format!("{module}::{name}");
            let kind = missing.as_deref().unwrap_or_default().to_owned();
            if let Some(why) = missing.filter(|_| !args.list) {
                println!("skipped: {why}: {name}");
            }
            let ignored = !kind.is_empty();
            trials.push(Trial::test(name, move || run(needs, test)).with_kind(kind).with_ignored_flag(ignored));
        }
    }
    libtest_mimic::run(&args, trials).exit_code()
}

fn run(needs: Needs, test: fn()) -> Result<(), Failed> {
    if matches!(needs, Needs::MountAlone | Needs::Loop) {
        let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
        test();
    } else {
        let _beside_others = ALONE.read().unwrap_or_else(PoisonError::into_inner);
        test();
    }
    Ok(())
}
