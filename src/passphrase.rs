//! Asking a person for what must not be seen: on the terminal without echo, or in the environment.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::control::protocol::SecretText;

/// The environment's passphrase.
const VARIABLE: &str = "JAXFS_PASSPHRASE";
/// The longest passphrase or phrase that is read.
const LINE_BYTES: u64 = 4096;
/// How often a person may try.
const TRIES: usize = 3;
/// ^C.
const INTERRUPT: u8 = 0x03;

/// Where the present passphrase comes from.
pub(crate) enum Source {
    /// The environment: it is right or wrong.
    Environment,
    /// A terminal, and how often was asked.
    Terminal { asked: usize },
}

impl Source {
    /// The environment, else the terminal, else `needed`.
    pub(crate) fn find(needed: anyhow::Error) -> Result<Self> {
        if std::env::var_os(VARIABLE).is_some() {
            Ok(Self::Environment)
        } else if terminal().is_ok() {
            Ok(Self::Terminal { asked: 0 })
        } else {
            Err(needed)
        }
    }

    /// The passphrase; asks if it is a terminal.
    pub(crate) fn next(&mut self) -> Result<SecretText> {
        match self {
            Self::Environment => {
                let value = std::env::var(VARIABLE);
                value
                    .map(SecretText::new)
                    .map_err(|_| anyhow::anyhow!("{VARIABLE} is not UTF-8: give it on a terminal"))
            }
            Self::Terminal { asked } => {
                *asked += 1;
                ask("Passphrase: ")
            }
        }
    }

    /// Whether a wrong one may be followed by another.
    pub(crate) fn may_try_again(&self) -> bool {
        matches!(self, Self::Terminal { asked } if *asked < TRIES)
    }
}

/// A new passphrase: asked for twice on a terminal, else the first line of the standard input.
pub(crate) fn ask_new() -> Result<SecretText> {
    let new = if rustix::termios::isatty(io::stdin()) {
        let new = ask("New passphrase: ")?;
        ensure!(new == ask("The same again: ")?, "these were two different passphrases: try again");
        new
    } else {
        read_line(io::stdin().lock())?
    };
    ensure!(!new.expose().is_empty(), "an empty passphrase is none: `jaxfs key passphrase --remove` removes it");
    Ok(new)
}

/// A recovery phrase: asked for on a terminal, else all of the standard input. Words may be on several lines.
pub(crate) fn recovery_phrase() -> Result<SecretText> {
    let text = if rustix::termios::isatty(io::stdin()) {
        ask("Recovery phrase (24 words, not shown): ")?
    } else {
        let mut text = Zeroizing::new(String::with_capacity(LINE_BYTES as usize));
        io::stdin().lock().take(LINE_BYTES).read_to_string(&mut text).context("can not read the recovery phrase")?;
        SecretText::new(text.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    ensure!(
        !text.expose().trim().is_empty(),
        "there was no recovery phrase: type it, or give it on the standard input"
    );
    Ok(text)
}

/// Asks on the terminal without showing what is typed.
pub(crate) fn ask(prompt: &str) -> Result<SecretText> {
    let mut terminal = terminal().context("there is no terminal to ask on")?;
    write!(terminal, "{prompt}")?;
    terminal.flush()?;
    let silent = Silent::new(terminal.try_clone()?)?;
    let line = read_line(BufReader::new(&terminal));
    drop(silent);
    writeln!(terminal)?;
    line
}

fn terminal() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/tty")
}

/// A line without its end.
fn read_line(from: impl BufRead) -> Result<SecretText> {
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES as usize));
    for byte in from.take(LINE_BYTES).bytes() {
        match byte? {
            b'\n' | b'\r' => break,
            INTERRUPT => bail!("interrupted"),
            byte => line.push(byte),
        }
    }
    let text = std::str::from_utf8(&line).map_err(|_| anyhow::anyhow!("that is not UTF-8"))?;
    Ok(SecretText::new(text.to_owned()))
}

/// A terminal that does not show what is typed, for as long as this lives. ^C arrives as a character meanwhile, so
/// that it can not leave the terminal silent.
struct Silent {
    terminal: File,
    before: Termios,
}

impl Silent {
    fn new(terminal: File) -> Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT; // so that it ends the line
        tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}
