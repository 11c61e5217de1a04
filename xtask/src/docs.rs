//! Whether the documents are true: rustdoc, links, decision records, and the commands they name.

mod commands;
mod links;

use crate::failure::Failure;
use crate::shell::{cargo, run as run_program, say};
use crate::tree::{self, File};

/// `cargo xtask docs`.
pub fn run(_: &[String]) -> Result<(), Failure> {
    let documents = tree::files(&[".md"])?;
    let mut findings = links::check(&documents);
    findings.extend(check_records(&documents));
    Failure::unless_empty("docs", findings)?;
    say(format!("docs: every link and decision record of {} documents is there", documents.len()));
    build_rustdoc()?;
    commands::check(&documents)
}

fn build_rustdoc() -> Result<(), Failure> {
    let mut command = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
    let flags = std::env::var("RUSTDOCFLAGS").unwrap_or_default();
    command.env("RUSTDOCFLAGS", format!("{flags} -D warnings"));
    run_program(command)
}

/// Folder of the decision records.
const RECORDS: &str = "docs/adr/";
/// Their index.
const INDEX: &str = "docs/adr/README.md";

/// Every record has its own number, the three parts, and a line in the index.
fn check_records(documents: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    let index = documents.iter().find(|file| file.path == INDEX).map_or("", |file| file.text.as_str());
    let mut before = "";
    for file in documents.iter().filter(|file| file.path.starts_with(RECORDS) && file.path != INDEX) {
        let name = &file.path[RECORDS.len()..];
        let number = name.split('-').next().unwrap_or_default();
        if number.len() != 4 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            findings.push(format!("{}: the name must begin with four digits", file.path));
        }
        if number == before {
            findings.push(format!("{}: the number {number} is taken", file.path));
        }
        before = number;
        for part in ["## Context", "## Decision", "## Consequences"] {
            if !file.text.contains(part) {
                findings.push(format!("{}: no {part}", file.path));
            }
        }
        if !index.contains(&format!("({name})")) {
            findings.push(format!("{INDEX}: no line for {name}"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_record_needs_its_parts_its_number_and_its_line() {
        let good = "## Context\n## Decision\n## Consequences\n";
        let index = file(INDEX, "- [one](0001-one.md)\n- [two](0002-two.md)");
        let one = file("docs/adr/0001-one.md", good);
        assert_eq!(check_records(&[one, index]), Vec::<String>::new());
        let index = file(INDEX, "- [one](0001-one.md)");
        let same = [file("docs/adr/0001-one.md", good), file("docs/adr/0001-two.md", good), index];
        assert_eq!(check_records(&same).len(), 2);
        assert_eq!(check_records(&[file("docs/adr/one.md", "")]).len(), 5);
    }
}
