//! The commands documents name: each must exist, with every flag it is shown with.
//!
//! A command is a line of fenced code, or a piece of inline code, that starts with one of the two
//! programs. `dvt-node` is asked itself: its `--help` must succeed and name the flags.

use crate::COMMANDS;
use crate::failure::Failure;
use crate::shell::{capture, cargo, program, run, say};
use crate::tree::{self, File};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How `cargo run` starts the node; what follows are the node's own arguments.
const CARGO_RUN: &[&str] = &["cargo run --release --bin dvt-node --", "cargo run --bin dvt-node --"];

/// Checks all documents against the programs of this workspace.
pub fn check(documents: &[File]) -> Result<(), Failure> {
    let mut findings = Vec::new();
    let mut shown: BTreeMap<Shown, &str> = BTreeMap::new();
    for file in documents {
        for command in lines_of_code(&file.text).iter().filter_map(|line| shown_command(line)) {
            shown.entry(command).or_insert(&file.path);
        }
    }
    let node = build_node()?;
    for (command, path) in &shown {
        let problem = match command {
            Shown::Xtask(name) => (!COMMANDS.iter().any(|known| known.name == name))
                .then(|| format!("cargo xtask {name} does not exist")),
            Shown::Node { words, flags } => check_node(&node, words, flags)?,
        };
        findings.extend(problem.map(|problem| format!("{path}: {problem}")));
    }
    Failure::unless_empty("docs", findings)?;
    say(format!("docs: all {} commands the documents show exist", shown.len()));
    Ok(())
}

/// Builds with the features the tests are built with, so that nothing is built twice.
fn build_node() -> Result<PathBuf, Failure> {
    run(cargo(&["build", "--workspace", "--bins", "--tests", "--quiet"]))?;
    Ok(tree::target().join("debug").join("dvt-node"))
}

fn check_node(node: &std::path::Path, words: &[String], flags: &[String]) -> Result<Option<String>, Failure> {
    let line = format!("dvt-node {}", words.join(" "));
    let mut command = program(&node.to_string_lossy());
    command.args(words).arg("--help");
    let output = capture(command)?;
    if !output.status.success() {
        return Ok(Some(format!("{line} --help fails: there is no such command")));
    }
    let help = String::from_utf8_lossy(&output.stdout);
    let missing: Vec<&str> =
        flags.iter().map(String::as_str).filter(|flag| !names_flag(&help, flag)).collect();
    Ok((!missing.is_empty()).then(|| format!("{line} has no {}", missing.join(", "))))
}

fn names_flag(help: &str, flag: &str) -> bool {
    let continues = |next: char| next.is_alphanumeric() || ['-', '.', '_'].contains(&next);
    help.match_indices(flag).any(|(at, _)| !help[at + flag.len()..].starts_with(continues))
}

/// A command of ours as a document shows it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    /// `cargo xtask <name>`.
    Xtask(String),
    /// `dvt-node <words> <flags>`.
    Node { words: Vec<String>, flags: Vec<String> },
}

fn shown_command(line: &str) -> Option<Shown> {
    let line =
        line.trim().trim_start_matches("$ ").trim_start_matches("./").trim_start_matches("target/release/");
    let ends = [" | ", " > ", " && ", " #", " &", ";"];
    let line = ends.iter().fold(line, |line, end| line.split(end).next().unwrap_or_default());
    if let Some(rest) = line.strip_prefix("cargo xtask ") {
        let name = rest
            .split_whitespace()
            .next()
            .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))?;
        return Some(Shown::Xtask(name.to_owned()));
    }
    let rest = CARGO_RUN.iter().chain(&["dvt-node"]).find_map(|start| line.strip_prefix(start))?;
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    Some(node_command(rest))
}

/// Words up to the first flag name the command; everything with two dashes is a flag.
fn node_command(rest: &str) -> Shown {
    let mut words: Vec<String> = rest
        .split_whitespace()
        .take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
        .map(str::to_owned)
        .collect();
    if words.is_empty() && rest.contains(" --") && !rest.contains("--help") && !rest.contains("--version") {
        words.push("run".into());
    }
    let flags = rest.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2);
    let flags = flags.map(|flag| flag.split('=').next().unwrap_or(flag).to_owned());
    Shown::Node { words, flags: flags.collect() }
}

/// Lines of fenced code, continued lines joined, and pieces of inline code.
fn lines_of_code(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    let mut begun = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if in_code {
            match line.strip_suffix('\\') {
                Some(part) => begun.push_str(part),
                None => found.push(std::mem::take(&mut begun) + line),
            }
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(words: &[&str], flags: &[&str]) -> Option<Shown> {
        let owned = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        Some(Shown::Node { words: owned(words), flags: owned(flags) })
    }

    #[test]
    fn commands_are_read_as_they_are_written() {
        assert_eq!(shown_command("cargo xtask test"), Some(Shown::Xtask("test".into())));
        assert_eq!(shown_command("cargo xtask <command>"), None);
        let line = "cargo run --release --bin dvt-node -- devnet --load 50 --blocks=100   # comment";
        assert_eq!(shown_command(line), node(&["devnet"], &["--load", "--blocks"]));
        assert_eq!(shown_command("dvt-node --data-dir x &"), node(&["run"], &["--data-dir"]));
        assert_eq!(shown_command("dvt-node tx status 0x12"), node(&["tx", "status"], &[]));
        assert_eq!(
            shown_command("./target/release/dvt-node verify-block --lock l"),
            node(&["verify-block"], &["--lock"])
        );
        assert_eq!(shown_command("dvt-nodes --x"), None);
        assert_eq!(shown_command("curl http://127.0.0.1:4600/status"), None);
    }

    #[test]
    fn a_continued_line_is_one_command_and_inline_code_counts() {
        let text = "Use `cargo xtask fmt` here.\n```sh\ndvt-node devnet \\\n  --nodes 4\n```\n";
        assert_eq!(lines_of_code(text), ["cargo xtask fmt", "dvt-node devnet   --nodes 4"]);
    }

    #[test]
    fn a_flag_is_not_found_in_a_longer_one() {
        assert!(names_flag("  --load <TPS>", "--load"));
        assert!(!names_flag("  --loader", "--load"));
        assert!(!names_flag("  --p2p.max-conns", "--p2p.max"));
    }
}
