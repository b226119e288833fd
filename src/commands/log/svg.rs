//! Versions as a picture: the chain from left to right, what lost beside it, who made what and when.
//!
//! Where there are many, only those are drawn that say something: ends, forks, what is shown; a line with a number stands
//! for the others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;

use super::decorations;
use crate::control::protocol::Version;
use crate::human::{one_line, utc};

/// Versions that are drawn one by one; of more, only the telling ones.
const ALL: usize = 60;
/// Pixels between two that follow each other, and between two lanes.
const STEP: usize = 46;
const LANE: usize = 76;
const LEFT: usize = 60;
const TOP: usize = 96;
const RADIUS: usize = 9;
/// Colours that the colour-blind can tell apart (Okabe and Ito), one for each author.
const COLOURS: [&str; 7] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d1f"];

/// A version at its place.
struct Spot<'a> {
    version: &'a Version,
    column: usize,
    lane: usize,
}

/// An SVG document with all these versions, in any order.
pub(super) fn picture(versions: &[Version]) -> String {
    let authors = authors(versions);
    let spots = layout(versions);
    let columns = spots.values().map(|spot| spot.column).max().unwrap_or(0);
    let lanes = spots.values().map(|spot| spot.lane).max().unwrap_or(0);
    let width = (LEFT * 2 + columns * STEP).max(LEFT + 190 * authors.len()).max(420);
    let height = TOP + lanes * LANE + 90;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    legend(&mut out, &authors, versions.len());
    let mut drawn: Vec<_> = spots.values().collect();
    drawn.sort_by_key(|spot| (spot.column, spot.lane));
    let by_link = by_link(versions);
    drawn.iter().for_each(|spot| edge(&mut out, spot, &spots, &by_link));
    drawn.iter().for_each(|spot| node(&mut out, spot, &authors));
    out.push_str("</svg>\n");
    out
}

/// Authors in the order in which they first wrote, and what they are called.
fn authors(versions: &[Version]) -> Vec<(String, String)> {
    let mut sorted: Vec<_> = versions.iter().collect();
    sorted.sort_by_key(|version| (version.height, &version.link));
    let mut seen = HashSet::new();
    let first = sorted.into_iter().filter(|version| seen.insert(&version.author));
    first.map(|version| (version.author.clone(), version.device.clone())).collect()
}

fn legend(out: &mut String, authors: &[(String, String)], versions: usize) {
    let _ = writeln!(out, "<text x=\"16\" y=\"24\" font-size=\"14\" font-weight=\"600\">{versions} versions</text>");
    for (at, (_, name)) in authors.iter().enumerate() {
        let (x, colour) = (22 + at * 190, COLOURS[at % COLOURS.len()]);
        let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"46\" r=\"6\" fill=\"{colour}\"/>");
        let _ = writeln!(out, "<text x=\"{}\" y=\"50\">{}</text>", x + 12, escaped(&cut(name, 26)));
    }
}

/// The versions that are drawn, each with a column and a lane. The head's chain has the first lane; what lost takes the
/// first one that is free from its fork point to its end.
fn layout(versions: &[Version]) -> HashMap<&str, Spot<'_>> {
    let telling = telling(versions);
    let mut drawn: Vec<_> = versions.iter().filter(|version| telling.contains(version.link.as_str())).collect();
    drawn.sort_by_key(|version| (version.height, &version.link));
    let heights: Vec<_> = {
        let all: std::collections::BTreeSet<_> = drawn.iter().map(|version| version.height).collect();
        all.into_iter().collect()
    };
    let column = |version: &Version| heights.binary_search(&version.height).unwrap_or(0);
    let by_link = by_link(versions);
    let mut spots: HashMap<&str, Spot<'_>> = HashMap::new();
    for version in drawn.iter().filter(|version| version.canonical) {
        spots.insert(&version.link, Spot { version, column: column(version), lane: 0 });
    }
    // From their ends back to where they part, the longest first, so that each branch is one line.
    let mut rows: Vec<Vec<(usize, usize)>> = vec![Vec::new()];
    for end in drawn.iter().rev().filter(|version| !version.canonical) {
        if spots.contains_key(end.link.as_str()) {
            continue;
        }
        let mut branch = Vec::new();
        let mut at = Some(*end);
        while let Some(version) = at.filter(|version| !version.canonical && !spots.contains_key(version.link.as_str()))
        {
            if telling.contains(version.link.as_str()) {
                branch.push(version);
            }
            at = version.previous.as_deref().and_then(|link| by_link.get(link).copied());
        }
        let from = at.map_or(0, |point| column_of(&heights, point.height));
        let to = column(end);
        let is_free = |row: &Vec<(usize, usize)>| row.iter().all(|(start, stop)| to < *start || from > *stop);
        let lane = (1..rows.len()).find(|lane| is_free(&rows[*lane])).unwrap_or(rows.len());
        if lane == rows.len() {
            rows.push(Vec::new());
        }
        rows[lane].push((from, to));
        for version in branch {
            spots.insert(&version.link, Spot { version, column: column(version), lane });
        }
    }
    spots
}

fn by_link(versions: &[Version]) -> HashMap<&str, &Version> {
    versions.iter().map(|version| (version.link.as_str(), version)).collect()
}

/// The column of a height, or where it would be.
fn column_of(heights: &[u64], height: u64) -> usize {
    heights.binary_search(&height).unwrap_or_else(|at| at.saturating_sub(1))
}

/// The versions that say something: all of them if they are few; else ends, forks and what follows them, and what
/// there are words for.
fn telling(versions: &[Version]) -> HashSet<&str> {
    let mut children: BTreeMap<&str, usize> = BTreeMap::new();
    versions
        .iter()
        .filter_map(|version| version.previous.as_deref())
        .for_each(|link| *children.entry(link).or_default() += 1);
    let count = |link: &str| children.get(link).copied().unwrap_or(0);
    let follows_fork = |version: &Version| version.previous.as_deref().is_none_or(|link| count(link) > 1);
    let tells = |version: &&Version| {
        let words = version.head || version.shown || version.pinned || version.tip || !version.reapplied.is_empty();
        versions.len() <= ALL || count(&version.link) != 1 || follows_fork(version) || words
    };
    versions.iter().filter(tells).map(|version| version.link.as_str()).collect()
}

const fn place(spot: &Spot<'_>) -> (usize, usize) {
    (LEFT + spot.column * STEP, TOP + spot.lane * LANE)
}

/// The line to the nearest ancestor that is drawn, and how many lie between.
fn edge(out: &mut String, spot: &Spot<'_>, spots: &HashMap<&str, Spot<'_>>, by_link: &HashMap<&str, &Version>) {
    let Some(ancestor) = ancestor(spot, spots, by_link) else { return };
    let ((x, y), (px, py)) = (place(spot), place(ancestor));
    let style = if spot.version.canonical {
        "stroke=\"#333\" stroke-width=\"2.5\""
    } else {
        "stroke=\"#999\" stroke-width=\"1.5\""
    };
    let bend = px + STEP / 2;
    let path = if y == py {
        format!("M{px} {py}L{x} {y}")
    } else {
        format!("M{px} {py}C{bend} {py} {} {y} {} {y}L{x} {y}", px + 6, bend.min(x))
    };
    let _ = writeln!(out, "<path d=\"{path}\" fill=\"none\" {style}/>");
    let between = spot.version.height.saturating_sub(ancestor.version.height).saturating_sub(1);
    if between > 0 {
        let (cx, cy) = (usize::midpoint(bend.max(px), x), y.saturating_sub(5));
        let _ = writeln!(
            out,
            "<text x=\"{cx}\" y=\"{cy}\" text-anchor=\"middle\" fill=\"#777\" font-size=\"9\">+{between}</text>"
        );
    }
}

fn ancestor<'a>(
    spot: &Spot<'_>,
    spots: &'a HashMap<&str, Spot<'a>>,
    by_link: &HashMap<&str, &Version>,
) -> Option<&'a Spot<'a>> {
    let mut link = spot.version.previous.as_deref()?;
    loop {
        if let Some(found) = spots.get(link) {
            return Some(found);
        }
        link = by_link.get(link)?.previous.as_deref()?;
    }
}

fn node(out: &mut String, spot: &Spot<'_>, authors: &[(String, String)]) {
    let (version, (x, y)) = (spot.version, place(spot));
    let author = authors.iter().position(|(author, _)| *author == version.author).unwrap_or(0);
    let colour = COLOURS[author % COLOURS.len()];
    let fill = if version.canonical { colour } else { "#fff" };
    let date = utc(version.timestamp);
    let words = decorations(version);
    let title = [format!("{} at height {}", version.short, version.height), date.clone(), version.device.clone()];
    let title = title.iter().chain(&words).map(|line| escaped(&one_line(line))).collect::<Vec<_>>().join("&#10;");
    let _ = writeln!(
        out,
        "<g><title>{title}</title><circle cx=\"{x}\" cy=\"{y}\" r=\"{RADIUS}\" fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"2.5\"/>"
    );
    if version.head || version.pinned {
        let ring = RADIUS + 5;
        let _ = writeln!(
            out,
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"{ring}\" fill=\"none\" stroke=\"#333\" stroke-width=\"1.5\"/>"
        );
    }
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>", y + 26, version.height);
    if !words.is_empty() {
        let words = escaped(&cut(&words.join(", "), 30));
        let _ =
            writeln!(out, "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" font-weight=\"600\">{words}</text>", y - 18);
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" fill=\"#777\" font-size=\"9\">{date}</text>",
            y + 38
        );
    }
    out.push_str("</g>\n");
}

fn cut(text: &str, most: usize) -> String {
    let text = one_line(text);
    if text.chars().count() <= most { text } else { text.chars().take(most - 1).chain(['…']).collect() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn version(link: &str, previous: Option<&str>, height: u64, canonical: bool) -> Version {
        let previous = previous.map(str::to_owned);
        Version { link: link.into(), previous, height, canonical, complete: true, ..Version::default() }
    }

    /// A chain `a0`, `a1`, .. and a fork of `length` at `at`.
    fn forked(chain: u64, at: u64, length: u64) -> Vec<Version> {
        let link = |name: &str, height: u64| format!("{name}{height}");
        let mut all = vec![version("a0", None, 0, true)];
        for height in 1..=chain {
            all.push(version(&link("a", height), Some(&link("a", height - 1)), height, true));
        }
        for height in at + 1..=at + length {
            let parent = if height == at + 1 { link("a", at) } else { link("b", height - 1) };
            all.push(version(&link("b", height), Some(&parent), height, false));
        }
        all
    }

    #[test]
    fn few_versions_are_all_drawn_and_of_many_those_that_say_something() {
        assert_eq!(layout(&forked(10, 4, 3)).len(), 14);
        let versions = forked(10_000, 400, 300);
        let mut drawn: Vec<_> = layout(&versions).into_keys().map(str::to_owned).collect();
        drawn.sort();
        assert_eq!(drawn, ["a0", "a10000", "a400", "a401", "b401", "b700"]);
        let text = picture(&versions);
        assert!(text.contains(">+299<") || text.contains(">+298<"), "the others are counted");
    }

    #[test]
    fn the_head_has_the_first_lane_and_branches_share_one_where_they_do_not_meet() {
        let mut versions = forked(20, 3, 4);
        let again = |height: u64| {
            version(
                &format!("c{height}"),
                Some(&if height == 13 { "a12".into() } else { format!("c{}", height - 1) }),
                height,
                false,
            )
        };
        versions.extend((13..16).map(again));
        let spots = layout(&versions);
        assert!(versions.iter().all(|version| (spots[version.link.as_str()].lane == 0) == version.canonical));
        assert_eq!((spots["b4"].lane, spots["c13"].lane), (1, 1));
        versions.push(version("d5", Some("a4"), 5, false));
        assert_eq!(layout(&versions)["d5"].lane, 2);
    }

    #[test]
    fn names_can_not_leave_their_place() {
        let mut versions = forked(1, 0, 1);
        versions[0].device = "<script>&\"\n".into();
        let text = picture(&versions);
        assert!(!text.contains("<script>") && text.contains("&lt;script&gt;&amp;&quot;"));
    }

    #[test]
    fn nothing_is_a_picture_too() {
        assert!(picture(&[]).starts_with("<svg"));
    }
}
