//! What a trial showed.

use super::samples::Sample;
use crate::agent::Books;

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What must hold.
    pub what: &'static str,
    /// Whether it does.
    pub holds: bool,
    /// What was found.
    pub found: String,
}

/// Everything a trial showed.
#[derive(Debug)]
pub struct Report {
    /// What must hold, and whether it does.
    pub checks: Vec<Check>,
    /// What the adversary did and what was said to it.
    pub books: Books,
    /// Further facts, each a line.
    pub facts: Vec<String>,
    pub(super) samples: Vec<Sample>,
}

impl Report {
    /// Whether everything that must hold does.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    /// As lines of text.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec!["samples".to_owned()];
        lines.extend(self.samples.iter().map(|sample| format!("  {}", sample.line())));
        lines.push("attacks, and what all verifiers counted meanwhile, honest traffic included".into());
        lines.extend(self.books.lines().into_iter().map(|line| format!("  {line}")));
        lines.push("facts".into());
        lines.extend(self.facts.iter().map(|fact| format!("  {fact}")));
        lines.push("checks".into());
        for Check { what, holds, found } in &self.checks {
            lines.push(format!("  {}  {what}: {found}", if *holds { "ok    " } else { "FAILED" }));
        }
        lines
    }
}
