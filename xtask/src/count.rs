//! `cargo xtask count`: instructions of what a node does per message, beside those written down.
//!
//! A table of seconds depends on who else uses the machine; a count of instructions depends on the code and the
//! compiler. What needs more than [`PERCENT_MAX`] beyond the figure in [`WRITTEN`] is a finding; `--write` takes
//! the new figures over, and their diff is part of the review.

use crate::failure::Failure;
use crate::shell::{capture, cargo, is_installed, program, read, run, say};
use crate::tree::{self, File};
use std::collections::BTreeMap;
use std::path::Path;

/// The figures that were taken over last: `instructions name`, a line each.
const WRITTEN: &str = "crates/test/bench/instructions.txt";
/// How many percent more are no finding yet: signatures of fresh keys alone move a count a little.
const PERCENT_MAX: u64 = 5;
/// The function looked at, as the tool spells it.
const COUNTED: &str = "--toggle-collect=*count::counted*";

/// `cargo xtask count`.
pub fn run_all(args: &[String]) -> Result<(), Failure> {
    let write = match args {
        [] => false,
        [flag] if flag == "--write" => true,
        _ => return Err(Failure::Usage("cargo xtask count takes --write at most".into())),
    };
    if !is_installed(program("valgrind")) {
        return Err(Failure::Usage(
            "valgrind counts instructions; on Debian: apt-get install valgrind".into(),
        ));
    }
    run(cargo(&["build", "--release", "--workspace", "--bin", "aequa-count"]))?;
    let counts = count_all(&tree::target())?;
    if write {
        let path = tree::root().join(WRITTEN);
        let text: String = counts.iter().map(|(name, count)| format!("{count} {name}\n")).collect();
        return std::fs::write(&path, text).map_err(|source| Failure::Write { path, source });
    }
    let written = figures(&File::read(WRITTEN)?.text);
    for (name, count) in &counts {
        say(format!("{count:>10}  {}  {name}", change(*count, written.get(name).copied())));
    }
    Failure::unless_empty("count", findings(&counts, &written))
}

/// Instructions of every operation, each once.
fn count_all(target: &Path) -> Result<BTreeMap<String, u64>, Failure> {
    let tool = target.join("release").join("aequa-count").to_string_lossy().into_owned();
    let dir = target.join(format!("count-{}", std::process::id()));
    let mut counts = BTreeMap::new();
    for (name, times) in figures(&read(program(&tool))?) {
        std::fs::create_dir_all(&dir).map_err(|source| Failure::Write { path: dir.clone(), source })?;
        let profile = dir.join("callgrind.out");
        let mut command = program("valgrind");
        command.args(["--quiet", "--tool=callgrind", COUNTED]);
        command.arg(format!("--callgrind-out-file={}", profile.display()));
        command.args([tool.as_str(), name.as_str(), "--dir"]).arg(dir.join("kept"));
        let output = capture(command)?;
        let text = std::fs::read_to_string(&profile).unwrap_or_default();
        let _ = std::fs::remove_dir_all(&dir);
        let total = total(&text).filter(|total| output.status.success() && *total > 0);
        let total = total.ok_or_else(|| {
            Failure::malformed(
                "callgrind.out",
                format!("{name}: {}", String::from_utf8_lossy(&output.stderr)),
            )
        })?;
        counts.insert(name, total / times.max(1));
    }
    Ok(counts)
}

/// Lines of a number and a name.
fn figures(text: &str) -> BTreeMap<String, u64> {
    let figure = |line: &str| {
        let (number, name) = line.split_once(' ')?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    text.lines().filter_map(figure).collect()
}

/// What the tool counted in all.
fn total(profile: &str) -> Option<u64> {
    let line = profile.lines().find_map(|line| line.strip_prefix("totals: "))?;
    line.split_whitespace().next()?.parse().ok()
}

fn has_grown(count: u64, written: u64) -> bool {
    count.saturating_mul(100) > written.saturating_mul(100 + PERCENT_MAX)
}

fn change(count: u64, written: Option<u64>) -> String {
    let percent = |written: u64| (count as f64 / written.max(1) as f64 - 1.0) * 100.0;
    written.map_or_else(|| "    new".to_owned(), |written| format!("{:>+6.1}%", percent(written)))
}

fn findings(counts: &BTreeMap<String, u64>, written: &BTreeMap<String, u64>) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, count) in counts {
        match written.get(name) {
            None => {
                findings.push(format!("{name}: not in {WRITTEN}; cargo xtask count --write takes it over"))
            }
            Some(before) if has_grown(*count, *before) => {
                findings.push(format!("{name}: {count} instructions, {before} are written down"));
            }
            Some(_) => {}
        }
    }
    let gone = written.keys().filter(|name| !counts.contains_key(*name));
    findings.extend(gone.map(|name| format!("{WRITTEN}: nothing is called {name:?}")));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_twentieth_is_a_finding_and_less_is_none() {
        let written = figures("1000 a vote\n2000 a height\n");
        assert!(findings(&figures("1050 a vote\n1000 a height\n"), &written).is_empty());
        let grown = findings(&figures("1051 a vote\n2000 a height\n"), &written);
        assert_eq!(grown, ["a vote: 1051 instructions, 1000 are written down"]);
    }

    #[test]
    fn what_is_only_on_one_side_is_a_finding() {
        let findings = findings(&figures("1 new\n"), &figures("1 gone\n"));
        assert!(findings[0].starts_with("new: not in") && findings[1].ends_with("\"gone\""), "{findings:?}");
    }

    #[test]
    fn the_total_of_a_profile_is_found() {
        assert_eq!(total("events: Ir\nsummary: 9\n\nfn=(1)\n1 2\n\ntotals: 7\n"), Some(7));
        assert_eq!(total(""), None);
        assert_eq!(change(1050, Some(1000)), "  +5.0%");
    }
}
