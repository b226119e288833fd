//! Mount options: the comma list of `-o`, and sizes with a unit.

use std::time::Duration;

use crate::cli::{MountArgs, OwnerArg};
use crate::control::protocol::{MountSettings, OwnerSetting};

/// Decrypted data kept in memory if nothing is said. The kernel keeps pages in front of it: this covers blocks that are being
/// read in pieces.
const CACHE_BYTES: u64 = 16 << 20;
/// Unpublished writes kept in memory if nothing is said, before writers wait.
const DIRTY_BYTES: u64 = 48 << 20;
/// Less than this can not hold one request's data beside its neighbours.
const LEAST_BYTES: u64 = 1 << 20;

/// A home has to have room for an index, a journal and a reserve.
const LEAST_SPACE: u64 = 64 << 20;

/// A wrong option, and what would be right.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BadOption {
    #[error("unknown mount option `{0}`: `jaxfs mount --help` lists them")]
    Unknown(String),
    #[error("`{0}` is not a size of at least 1M: write for example cache=256M")]
    Size(String),
    #[error("`{0}` is not a size of at least 64M: write for example --max-space 20G")]
    Space(String),
    #[error("`{0}` is not a time: write for example 24h or 7d")]
    Time(String),
    #[error("the mount option `{0}` is for root only: leave it out, or mount as root")]
    RootOnly(&'static str),
}

/// A time with a unit: `90s`, `30m`, `24h`, `7d`, `4w`, or `0`.
pub(crate) fn time(text: &str) -> Result<Duration, BadOption> {
    let bad = || BadOption::Time(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        Some(b'd') => 24 * 3_600,
        Some(b'w') => 7 * 24 * 3_600,
        _ => return Err(bad()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(bad)
}

/// Who asks: numbers of the user that runs the command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What is mounted where nothing is asked for.
pub(crate) const fn plain(user: User) -> MountSettings {
    let owner = match user.uid {
        0 => OwnerSetting::Stored,
        uid => OwnerSetting::Me { uid, gid: user.gid },
    };
    MountSettings {
        read_only: false,
        owner,
        allow_other: false,
        suid: false,
        dev: false,
        cache_bytes: CACHE_BYTES,
        dirty_bytes: DIRTY_BYTES,
        max_space: None,
    }
}

/// What `mount`'s arguments ask for. Later options win over earlier ones, as in mount(8).
pub(crate) fn settings(args: &MountArgs, user: User) -> Result<MountSettings, BadOption> {
    let mut settings = plain(user);
    match args.owner {
        Some(OwnerArg::Stored) => settings.owner = OwnerSetting::Stored,
        Some(OwnerArg::Me) => settings.owner = OwnerSetting::Me { uid: user.uid, gid: user.gid },
        None => {}
    }
    for option in args.options.iter().map(|option| option.trim()).filter(|option| !option.is_empty()) {
        apply(&mut settings, option)?;
    }
    if let Some(size) = &args.max_space {
        settings.max_space = Some(space(size)?);
    }
    settings.read_only |= args.read_only;
    if user.uid != 0 {
        for (asked, name) in [(settings.suid, "suid"), (settings.dev, "dev")] {
            if asked {
                return Err(BadOption::RootOnly(name));
            }
        }
    }
    Ok(settings)
}

fn apply(settings: &mut MountSettings, option: &str) -> Result<(), BadOption> {
    match option {
        "ro" => settings.read_only = true,
        "rw" => settings.read_only = false,
        "suid" => settings.suid = true,
        "nosuid" => settings.suid = false,
        "dev" => settings.dev = true,
        "nodev" => settings.dev = false,
        "allow_other" => settings.allow_other = true,
        _ => match option.split_once('=') {
            Some(("cache", size)) => settings.cache_bytes = at_least(size, option)?,
            Some(("dirty", size)) => settings.dirty_bytes = at_least(size, option)?,
            Some(("max_space", size)) => settings.max_space = Some(space(size)?),
            _ if is_for_others(option) => {}
            _ => return Err(BadOption::Unknown(option.to_owned())),
        },
    }
    Ok(())
}

/// Words that mount(8), systemd and fstab put there for themselves, or that change nothing here (`exec` is what a
/// mount does anyway, and times of access are never stored on reading).
fn is_for_others(option: &str) -> bool {
    const WORDS: &[&str] = &[
        "defaults",
        "auto",
        "noauto",
        "user",
        "users",
        "nouser",
        "owner",
        "group",
        "nofail",
        "_netdev",
        "exec",
        "async",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "lazytime",
        "nolazytime",
    ];
    WORDS.contains(&option) || option.starts_with("x-") || option.starts_with("X-") || option.starts_with("comment=")
}

fn at_least(size: &str, option: &str) -> Result<u64, BadOption> {
    parse_size(size).filter(|&bytes| bytes >= LEAST_BYTES).ok_or_else(|| BadOption::Size(option.to_owned()))
}

fn space(size: &str) -> Result<u64, BadOption> {
    parse_size(size).filter(|&bytes| bytes >= LEAST_SPACE).ok_or_else(|| BadOption::Space(size.to_owned()))
}

/// A number of bytes, with an optional unit (powers of 1024): `4096`, `64K`, `256MiB`, `1G`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::cli::peers::RelayArg;

    const SOMEONE: User = User { uid: 1000, gid: 100 };
    const ROOT: User = User { uid: 0, gid: 0 };

    fn args(options: &[&str]) -> MountArgs {
        MountArgs {
            dir: "d".into(),
            bucket: None,
            foreground: false,
            read_only: false,
            owner: None,
            max_space: None,
            options: options.iter().map(ToString::to_string).collect(),
            relay: RelayArg { relay: None },
        }
    }

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(time("90m"), time("0").map(|none| none + Duration::from_secs(5_400)));
        assert_eq!(time("2w"), time("14d"));
        for bad in ["", "7", "d", "-1h", "1y", "ä", "99999999999999999999d"] {
            assert_eq!(time(bad), Err(BadOption::Time(bad.into())));
        }
    }

    #[test]
    fn sizes_have_binary_units_and_no_others() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("64k", 64 << 10), ("3MiB", 3 << 20), ("2G", 2 << 30), ("1T", 1 << 40)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "K", "1.5G", "-1", "1X", "1 M", "99999999999999999999", "18446744073709551615K"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn later_options_win() {
        assert!(!settings(&args(&["ro", "rw"]), SOMEONE).unwrap().read_only);
        assert!(settings(&args(&["rw", "ro"]), SOMEONE).unwrap().read_only);
        assert_eq!(settings(&args(&["cache=2M", "cache=4M"]), SOMEONE).unwrap().cache_bytes, 4 << 20);
    }

    #[test]
    fn words_of_fstab_are_ignored() {
        let words = ["defaults", "noauto", "user", "nofail", "_netdev", "x-systemd.automount", "noatime", ""];
        let settings = settings(&args(&words), SOMEONE).unwrap();
        assert!(!settings.read_only && !settings.allow_other && settings.cache_bytes == CACHE_BYTES);
    }

    #[test]
    fn unknown_options_are_named() {
        assert_eq!(settings(&args(&["rw", "cach=1M"]), SOMEONE), Err(BadOption::Unknown("cach=1M".into())));
        assert_eq!(settings(&args(&["cache=1"]), SOMEONE), Err(BadOption::Size("cache=1".into())));
        assert_eq!(settings(&args(&["dirty=much"]), SOMEONE), Err(BadOption::Size("dirty=much".into())));
        assert_eq!(settings(&args(&["max_space=1M"]), SOMEONE), Err(BadOption::Space("1M".into())));
        assert_eq!(settings(&args(&["max_space=2G"]), SOMEONE).unwrap().max_space, Some(2 << 30));
    }

    #[test]
    fn only_root_gets_set_id_bits_and_devices_and_stored_owners_by_default() {
        assert_eq!(settings(&args(&["suid"]), SOMEONE), Err(BadOption::RootOnly("suid")));
        assert_eq!(settings(&args(&["dev"]), SOMEONE), Err(BadOption::RootOnly("dev")));
        let settings_of = |user| settings(&args(&[]), user).unwrap().owner;
        assert_eq!(settings_of(ROOT), OwnerSetting::Stored);
        assert_eq!(settings_of(SOMEONE), OwnerSetting::Me { uid: 1000, gid: 100 });
        assert!(settings(&args(&["suid", "dev"]), ROOT).unwrap().suid);
    }
}
