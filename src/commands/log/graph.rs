//! Versions as lines of text, with the branches between them, as `git log --graph` draws them.

use super::decorations;
use crate::control::protocol::Version;
use crate::human::{one_line, utc};

/// Draws versions one by one, children before their parents. Memory is that of the branches that are open.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// What each column waits for: the link of the version that its line leads to.
    columns: Vec<Option<String>>,
}

impl Graph {
    /// The lines of the next version.
    pub(super) fn lines(&mut self, version: &Version) -> Vec<String> {
        let expecting: Vec<_> = (0..self.columns.len()).filter(|at| self.expects(*at, &version.link)).collect();
        let mut lines: Vec<_> = expecting.iter().skip(1).rev().map(|from| self.join(*from, expecting[0])).collect();
        let at = expecting.first().copied().unwrap_or_else(|| self.free());
        if at == self.columns.len() {
            self.columns.push(None);
        }
        let mark = if version.canonical { '*' } else { 'x' };
        let lanes: Vec<_> =
            (0..self.columns.len()).map(|column| if column == at { mark } else { self.line(column) }).collect();
        let lanes: Vec<_> = lanes.iter().map(char::to_string).collect();
        let text = [lanes.join(" ").trim_end().to_owned(), text(version)].join("  ");
        self.columns[at] = version.previous.clone();
        while self.columns.last().is_some_and(Option::is_none) {
            self.columns.pop();
        }
        lines.push(text);
        lines
    }

    fn expects(&self, column: usize, link: &str) -> bool {
        self.columns[column].as_deref() == Some(link)
    }

    fn free(&self) -> usize {
        self.columns.iter().position(Option::is_none).unwrap_or(self.columns.len())
    }

    fn line(&self, column: usize) -> char {
        if self.columns[column].is_some() { '|' } else { ' ' }
    }

    /// Ends the line of one column in another one to its left.
    fn join(&mut self, from: usize, to: usize) -> String {
        self.columns[from] = None;
        let mut row = vec![' '; 2 * self.columns.len()];
        (0..self.columns.len()).for_each(|column| row[2 * column] = self.line(column));
        row[2 * from - 1] = '/';
        for place in &mut row[2 * to + 1..2 * from - 1] {
            if *place == ' ' {
                *place = '_';
            }
        }
        while self.columns.last().is_some_and(Option::is_none) {
            self.columns.pop();
        }
        row.iter().collect::<String>().trim_end().to_owned()
    }
}

/// Height, link, date, device, and what there is to say of it.
fn text(version: &Version) -> String {
    let (date, device) = (utc(version.timestamp), one_line(&version.device));
    let line = format!("{:>4}  {}  {date}  {device}", version.height, version.short);
    let all = decorations(version);
    if all.is_empty() { line } else { format!("{line}  ({})", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// `(link, parent, canonical)`, children first.
    fn drawn(versions: &[(&str, &str, bool)]) -> Vec<String> {
        let mut graph = Graph::default();
        let draw = |(link, parent, canonical): &(&str, &str, bool)| {
            let previous = (!parent.is_empty()).then(|| (*parent).to_owned());
            graph.lines(&Version { link: (*link).into(), previous, canonical: *canonical, ..Version::default() })
        };
        let lines: Vec<_> = versions.iter().flat_map(draw).collect();
        lines.iter().map(|line| line.split("     0").next().unwrap().trim_end().to_owned()).collect()
    }

    #[test]
    fn a_line_without_forks_is_one_column() {
        assert_eq!(drawn(&[("c", "b", true), ("b", "a", true), ("a", "", true)]), ["*", "*", "*"]);
    }

    #[test]
    fn a_fork_parts_and_joins() {
        let versions = [("c", "b", true), ("y", "x", false), ("b", "a", true), ("x", "a", false), ("a", "", true)];
        assert_eq!(drawn(&versions), ["*", "| x", "* |", "| x", "|/", "*"]);
    }

    #[test]
    fn a_far_join_crosses_what_lies_between() {
        let versions = [
            ("c", "b", true),
            ("x", "b", false),
            ("y", "a", false),
            ("z", "b", false),
            ("b", "a", true),
            ("a", "", true),
        ];
        let lines = ["*", "| x", "| | x", "| | | x", "|_|_|/", "|/  |", "*   |", "|__/", "*"];
        assert_eq!(drawn(&versions), lines, "what is not ended stays where it is");
    }

    #[test]
    fn a_column_that_is_free_is_used_again() {
        let versions = [
            ("d", "c", true),
            ("x", "c", false),
            ("c", "b", true),
            ("y", "b", false),
            ("b", "a", true),
            ("a", "", true),
        ];
        assert_eq!(drawn(&versions), ["*", "| x", "|/", "*", "| x", "|/", "*", "*"]);
    }
}
