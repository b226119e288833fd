//! `jaxfs key`.

use std::io::{self, Write};

use anyhow::Result;

use super::unexpected;
use crate::cli::KeyAction;
use crate::control::protocol::{PhraseReport, Reply, Request};
use crate::home::Home;
use crate::human::one_line;
use crate::passphrase;
use crate::session::Session;

/// Shows, exports, imports or protects keys.
pub(super) fn run(home: &Home, action: Option<KeyAction>) -> Result<()> {
    let mut session = Session::open(home)?;
    match action.unwrap_or(KeyAction::Show) {
        KeyAction::Show => show(&mut session),
        KeyAction::Export { bucket } => match session.call(&Request::ExportKey { bucket })? {
            Reply::Phrase(report) => Ok(export(&report)?),
            other => unexpected(&other),
        },
        KeyAction::Import { bucket } => import(&mut session, bucket),
        KeyAction::Passphrase { remove } => change_passphrase(&mut session, remove),
    }
}

fn show(session: &mut Session) -> Result<()> {
    match session.call(&Request::Device)? {
        Reply::Device(device) => Ok(writeln!(io::stdout(), "{}", device.id)?),
        other => unexpected(&other),
    }
}

/// The words go to the standard output, alone, so that they can be piped; the warning does not.
fn export(report: &PhraseReport) -> io::Result<()> {
    let name = one_line(&report.bucket.name);
    let mut warning = io::stderr().lock();
    writeln!(
        warning,
        "Whoever has these words owns the bucket {name}: write them down on paper, and show them to nobody."
    )?;
    writeln!(warning, "They restore its owner key with `jaxfs key import`; they are no copy of its files.")?;
    writeln!(io::stdout().lock(), "{}", report.phrase.expose())
}

fn import(session: &mut Session, bucket: Option<String>) -> Result<()> {
    // Asked first, so that a wrong bucket is an error before anyone types 24 words.
    let bucket = match session.call(&Request::FindBucket { bucket })? {
        Reply::Bucket(bucket) => bucket,
        other => return unexpected(&other),
    };
    let phrase = passphrase::recovery_phrase()?;
    match session.call(&Request::ImportKey { bucket: Some(bucket.id), phrase })? {
        Reply::Bucket(bucket) => Ok(writeln!(io::stdout(), "Restored the owner key of {}.", one_line(&bucket.name))?),
        other => unexpected(&other),
    }
}

fn change_passphrase(session: &mut Session, remove: bool) -> Result<()> {
    let protected = match session.call(&Request::Device)? {
        Reply::Device(device) => device.protected,
        other => return unexpected(&other),
    };
    // A node may have the keys open: who changes the passphrase has to know it all the same.
    let old = match (protected, session.passphrase()) {
        (false, _) => None,
        (true, Some(known)) => Some(known.clone()),
        (true, None) => {
            let needed =
                anyhow::anyhow!("the present passphrase is needed: give it on a terminal or in JAXFS_PASSPHRASE");
            Some(passphrase::Source::find(needed)?.next()?)
        }
    };
    let new = if remove { None } else { Some(passphrase::ask_new()?) };
    match session.call(&Request::ChangePassphrase { old, new })? {
        Reply::Done if remove => Ok(writeln!(io::stdout(), "The keys have no passphrase any more.")?),
        Reply::Done => Ok(writeln!(io::stdout(), "The keys are under the new passphrase.")?),
        other => unexpected(&other),
    }
}
