//! `jaxfs head`.

use anyhow::Result;
use clap::ValueEnum;

use super::unexpected;
use crate::cli::{HeadAction, HeadArgs, PolicyArgs};
use crate::control::protocol::{HeadAnswer, HeadReport, HeadRequest, Reply, Request, Target};
use crate::home::Home;
use crate::human::{count, one_line, table};
use crate::session::Session;

/// Chooses what is shown, and says what that is then.
pub(super) fn run(home: &Home, args: &HeadArgs) -> Result<()> {
    let action = match &args.action {
        None => HeadRequest::Show,
        Some(HeadAction::Pin { which }) => HeadRequest::Pin { version: which.clone() },
        Some(HeadAction::Unpin) => HeadRequest::Unpin,
        Some(HeadAction::Adopt) => HeadRequest::Adopt,
        Some(HeadAction::Vote) => HeadRequest::Vote,
        Some(HeadAction::Policy(PolicyArgs { deep_reorganisation, hard_fork, writes_while_forked })) => {
            HeadRequest::Policy {
                deep_reorganisation: deep_reorganisation.as_ref().and_then(name_of),
                hard_fork: hard_fork.as_ref().and_then(name_of),
                writes_while_forked: writes_while_forked.as_ref().and_then(name_of),
            }
        }
    };
    let target = args.bucket.clone().map_or(Target::Any, Target::Bucket);
    match Session::open(home)?.call(&Request::Head { target, action })? {
        Reply::Head(answer) => {
            print!("{}", text(&answer));
            Ok(())
        }
        other => unexpected(&other),
    }
}

fn name_of(value: &impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}

fn text(answer: &HeadAnswer) -> String {
    let HeadAnswer { bucket, head, votes } = answer;
    let mut rows = vec![
        vec!["shown".to_owned(), format!("{} at height {}", head.short, head.height)],
        vec!["newest".to_owned(), format!("{} at height {}", head.canonical_short, head.canonical_height)],
        vec!["because".to_owned(), because(head).to_owned()],
        vec!["policy".to_owned(), head.policy.clone()],
    ];
    rows.extend(head.hard_forks.iter().map(|line| vec!["hard fork".to_owned(), one_line(line)]));
    if let Some((voters, votes)) = votes {
        let list: Vec<_> = votes.iter().map(|(version, count)| format!("{count} for {version}")).collect();
        let all = count(*voters, "vote, this device's", "votes");
        rows.push(vec!["ballot".to_owned(), format!("{all}: {}", list.join(", "))]);
    }
    let rows: Vec<_> = rows.into_iter().map(|row| vec![format!("  {}", row[0]), row[1].clone()]).collect();
    format!("{}\n{}", one_line(&bucket.name), table(&rows))
}

/// Why this is what is shown.
pub(super) fn because(head: &HeadReport) -> &'static str {
    match head.pin.as_ref().map(|pin| pin.cause.as_str()) {
        Some("held") => "the newest has nothing of the last versions, and is held back: `jaxfs head adopt` shows it",
        Some("majority") => "most members that can be reached show it: `jaxfs head unpin` shows the newest",
        Some(_) => "it is pinned: `jaxfs head unpin` shows the newest",
        None if head.link == head.canonical => "it is the newest",
        None => "the content of newer ones is not on this machine",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{BucketName, PinReport};

    #[test]
    fn what_is_shown_is_told_with_its_reason() {
        let pin = Some(PinReport { short: "aaaaaaaa".into(), cause: "held".into() });
        let head = HeadReport {
            short: "aaaaaaaa".into(),
            height: 3,
            canonical_short: "bbbbbbbb".into(),
            canonical_height: 20,
            policy: "as it is".into(),
            pin,
            ..HeadReport::default()
        };
        let bucket = BucketName { id: "0".into(), name: "photos".into() };
        let votes = Some((3, vec![("aaaaaaaa".into(), 2)]));
        assert_eq!(
            text(&HeadAnswer { bucket, head, votes }),
            "photos\n  shown    aaaaaaaa at height 3\n  newest   bbbbbbbb at height 20\n  because  the newest has nothing of the last \
             versions, and is held back: `jaxfs head adopt` shows it\n  policy   as it is\n  ballot   3 votes: 2 for aaaaaaaa\n"
        );
    }
}
