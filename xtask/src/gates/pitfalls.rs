//! The table of pitfalls names tests; a name nobody runs keeps nothing out.

use crate::tree::File;

/// Where the table is.
pub const TABLE: &str = "docs/pitfalls.md";

/// One line for every `crate::test` of the table that is no test of that crate, and for every row without one.
pub fn check(table: &str, sources: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in table.lines().enumerate() {
        let at = format!("{TABLE}:{}", index + 1);
        let names: Vec<(&str, &str)> = line.split('`').filter_map(test_name).collect();
        if names.is_empty() && is_row(line) {
            findings.push(format!("{at}: the row names no test"));
        }
        let missing = names.into_iter().filter(|(member, test)| !is_test(member, test, sources));
        findings.extend(missing.map(|(member, test)| format!("{at}: {member} has no test {test}")));
    }
    findings
}

/// Rows begin with a number; heads of tables do not.
fn is_row(line: &str) -> bool {
    line.strip_prefix("| ").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

fn test_name(text: &str) -> Option<(&str, &str)> {
    let is_word = |word: &str| {
        word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    text.split_once("::").filter(|(member, test)| is_word(member) && is_word(test) && *test != "test")
}

fn is_test(member: &str, test: &str, sources: &[File]) -> bool {
    let folder = if member == "xtask" { "xtask/".to_owned() } else { format!("crates/{member}/") };
    let head = format!("fn {test}(");
    sources.iter().filter(|file| file.path.starts_with(&folder)).any(|file| {
        let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
        lines.iter().enumerate().any(|(at, line)| line.contains(&head) && has_attribute(&lines[..at]))
    })
}

/// Whether the attributes right above a function make it a test.
fn has_attribute(above: &[&str]) -> bool {
    let mut attributes =
        above.iter().rev().take_while(|line| line.starts_with('#') || line.starts_with("//"));
    attributes.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Vec<File> {
        let text = "#[test]\nfn it_holds() {\n}\n\n    #[tokio::test(flavor = \"x\")]\n    #[ignore]\n    \
                    async fn it_waits() {}\nfn helper() {}\n";
        vec![File { path: "crates/qbft/tests/rules.rs".into(), text: text.into() }]
    }

    #[test]
    fn names_of_tests_are_found_and_others_are_findings() {
        let table =
            "| no. | defect | test |\n|---|---|---|\n| 1 | a | `qbft::it_holds`, `qbft::it_waits` |\n";
        assert_eq!(check(table, &sources()), Vec::<String>::new());
        for wrong in ["qbft::it_held", "qbft::helper", "sim::it_holds"] {
            let table = format!("| 1 | a | `qbft::it_holds`, `{wrong}` |\n");
            assert_eq!(check(&table, &sources()).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn a_row_without_a_test_is_a_finding_and_prose_is_not() {
        assert_eq!(check("| 1 | a | later |\n", &sources()).len(), 1);
        assert_eq!(check("Names are `crate::test`.\n", &sources()), Vec::<String>::new());
    }
}
