//! Which bucket is meant: a pure choice among those that there are.

use std::fmt::Write;

/// A bucket that can be chosen. The name is absent where the bucket could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The id, as text.
    pub(crate) id: String,
    /// The name.
    pub(crate) name: Option<String>,
}

/// Why there is no choice.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NoChoice {
    #[error("there is no bucket `{wanted}`: {known}")]
    Unknown { wanted: String, known: String },
    #[error("more than one bucket is called `{wanted}`: give the id: {known}")]
    Ambiguous { wanted: String, known: String },
    #[error("there is more than one bucket: name one of them: {known}")]
    Several { known: String },
    #[error("there is no bucket in this home yet: `jaxfs mount DIR` or `jaxfs buckets create NAME` makes one")]
    None,
}

/// The bucket called `wanted`: a name, an id, or the unique beginning of an id (4 characters at least).
pub(crate) fn by_name<'a>(all: &'a [Candidate], wanted: &str) -> Result<&'a Candidate, NoChoice> {
    let lower = wanted.to_ascii_lowercase();
    let named: Vec<_> = all.iter().filter(|bucket| bucket.name.as_deref() == Some(wanted)).collect();
    let by_id: Vec<_> = match all.iter().find(|bucket| bucket.id == lower) {
        Some(exact) => return Ok(exact),
        None if lower.len() < 4 => Vec::new(),
        None => all.iter().filter(|bucket| bucket.id.starts_with(&lower)).collect(),
    };
    let found = if named.is_empty() { by_id } else { named };
    match found[..] {
        [one] => Ok(one),
        [] if all.is_empty() => Err(NoChoice::None),
        [] => Err(NoChoice::Unknown { wanted: wanted.to_owned(), known: listed(all) }),
        _ => Err(NoChoice::Ambiguous { wanted: wanted.to_owned(), known: listed(found) }),
    }
}

/// The bucket meant by a command that was not given one: the only one.
pub(crate) fn only(all: &[Candidate]) -> Result<&Candidate, NoChoice> {
    match all {
        [one] => Ok(one),
        [] => Err(NoChoice::None),
        _ => Err(NoChoice::Several { known: listed(all) }),
    }
}

/// What a mount that was not given a bucket shows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ForMount<'a> {
    /// This one.
    Existing(&'a Candidate),
    /// A new one of this name.
    Create(String),
}

/// The bucket to mount on a directory whose last component is `dir_name`: the one that was asked for; else a new one
/// if there is none; else the one of the directory's name; else the only one.
pub(crate) fn for_mount<'a>(
    all: &'a [Candidate],
    wanted: Option<&str>,
    dir_name: &str,
) -> Result<ForMount<'a>, NoChoice> {
    if let Some(wanted) = wanted {
        return by_name(all, wanted).map(ForMount::Existing);
    }
    if all.is_empty() {
        return Ok(ForMount::Create(label(dir_name)));
    }
    if all.iter().any(|bucket| bucket.name.as_deref() == Some(dir_name)) {
        return by_name(all, dir_name).map(ForMount::Existing);
    }
    only(all).map(ForMount::Existing)
}

/// A bucket's name made from a directory's: at most [`jaxfs_sync::limits::LABEL_BYTES`], no control characters, never
/// empty.
fn label(dir_name: &str) -> String {
    let dir_name = dir_name.replace(char::is_control, " ");
    let end = dir_name.floor_char_boundary(jaxfs_sync::limits::LABEL_BYTES);
    match dir_name[..end].trim() {
        "" => "bucket".to_owned(),
        name => name.to_owned(),
    }
}

/// At most eight buckets in a line.
fn listed<'a>(all: impl IntoIterator<Item = &'a Candidate>) -> String {
    let mut line = String::new();
    for (at, bucket) in all.into_iter().enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        if at == 8 {
            line.push_str(", ... (`jaxfs buckets` lists all)");
            break;
        }
        let name = bucket.name.as_deref().unwrap_or("(can not be opened)");
        let _ = write!(line, "{separator}{name} ({})", bucket.id);
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn buckets(all: &[(&str, &str)]) -> Vec<Candidate> {
        all.iter().map(|(id, name)| Candidate { id: id.to_string(), name: Some(name.to_string()) }).collect()
    }

    #[test]
    fn a_name_an_id_and_the_unique_beginning_of_an_id_find_a_bucket() {
        let all = buckets(&[("aaaa1111-0", "photos"), ("aaaa2222-0", "music")]);
        assert_eq!(by_name(&all, "music").unwrap().id, "aaaa2222-0");
        assert_eq!(by_name(&all, "AAAA1").unwrap().id, "aaaa1111-0");
        assert_eq!(by_name(&all, "aaaa2222-0").unwrap().name.as_deref(), Some("music"));
    }

    #[test]
    fn an_ambiguous_name_or_beginning_is_refused_with_the_ids() {
        let all = buckets(&[("aaaa1111-0", "photos"), ("aaaa2222-0", "photos"), ("bbbb", "music")]);
        for wanted in ["photos", "aaaa"] {
            let error = by_name(&all, wanted).unwrap_err();
            assert!(matches!(error, NoChoice::Ambiguous { .. }));
            let line = error.to_string();
            assert!(line.contains("aaaa1111-0") && line.contains("aaaa2222-0") && !line.contains("bbbb"), "{line}");
        }
    }

    #[test]
    fn less_than_four_characters_are_no_id() {
        assert!(matches!(by_name(&buckets(&[("aaaa1111", "x")]), "aaa"), Err(NoChoice::Unknown { .. })));
    }

    #[test]
    fn a_mount_creates_the_first_bucket_and_only_that() {
        let all = buckets(&[("aaaa", "photos")]);
        assert_eq!(for_mount(&[], None, "Bucket"), Ok(ForMount::Create("Bucket".into())));
        assert_eq!(for_mount(&[], Some("photos"), "Bucket"), Err(NoChoice::None));
        assert_eq!(for_mount(&all, None, "Bucket"), Ok(ForMount::Existing(&all[0])));
        assert!(matches!(for_mount(&all, Some("Bucket"), "photos"), Err(NoChoice::Unknown { .. })));
    }

    #[test]
    fn a_mount_prefers_the_bucket_of_the_directorys_name() {
        let all = buckets(&[("aaaa", "photos"), ("bbbb", "music")]);
        assert_eq!(for_mount(&all, None, "music"), Ok(ForMount::Existing(&all[1])));
        assert!(matches!(for_mount(&all, None, "other"), Err(NoChoice::Several { .. })));
    }

    #[test]
    fn a_bucket_that_can_not_be_opened_is_found_by_its_id() {
        let all = [Candidate { id: "aaaa1111".into(), name: None }];
        assert_eq!(by_name(&all, "aaaa"), Ok(&all[0]));
    }

    #[test]
    fn a_label_is_never_empty_nor_too_long() {
        assert_eq!(label(""), "bucket");
        assert_eq!(label(" "), "bucket");
        assert_eq!(label("two\nlines\u{7}"), "two lines");
        let long = "ä".repeat(100);
        assert_eq!(label(&long), "ä".repeat(64));
    }
}
