//! The table of pitfalls names tests; a name nobody runs keeps nothing out.

use crate::tree::File;

/// Where the table is.
pub const TABLE: &str = "docs/pitfalls.md";

/// The section of rules counts from 1 by itself; all others count together.
const RULES: &str = "Rules of consensus";
/// Last number of the rules.
const RULES_LAST: u32 = 22;
/// Last number of all other tables.
const OTHERS_LAST: u32 = 48;

/// One line for every `crate::test` of the table that is no test of that crate or is left out of its runs,
/// for every row without one, and for every number that is missing or stands twice.
pub fn check(table: &str, sources: &[File]) -> Vec<String> {
    let mut findings = check_numbers(table);
    for Row { at, number, names } in rows(table) {
        if names.is_empty() && number.is_some() {
            findings.push(format!("{at}: the row names no test"));
        }
        for (member, test) in names {
            match standing(member, test, sources) {
                Standing::Runs => {}
                Standing::Ignored => findings.push(format!("{at}: {member} ignores its test {test}")),
                Standing::Missing => findings.push(format!("{at}: {member} has no test {test}")),
            }
        }
    }
    findings
}

/// A line of the document: a row of a table where it begins with a number.
struct Row<'a> {
    at: String,
    /// Whether it is one of the rules, and its number.
    number: Option<(bool, u32)>,
    names: Vec<(&'a str, &'a str)>,
}

fn rows(table: &str) -> Vec<Row<'_>> {
    let mut rules = false;
    let mut rows = Vec::new();
    for (index, line) in table.lines().enumerate() {
        if let Some(title) = line.strip_prefix("## ") {
            rules = title == RULES;
        }
        let cell = line.strip_prefix("| ").and_then(|rest| rest.split_once(" |"));
        rows.push(Row {
            at: format!("{TABLE}:{}", index + 1),
            number: cell.and_then(|(number, _)| Some((rules, number.parse().ok()?))),
            names: line.split('`').filter_map(test_name).collect(),
        });
    }
    rows
}

fn check_numbers(table: &str) -> Vec<String> {
    let found: Vec<(bool, u32)> = rows(table).into_iter().filter_map(|row| row.number).collect();
    let mut findings = Vec::new();
    for (rules, last) in [(true, RULES_LAST), (false, OTHERS_LAST)] {
        let of = if rules { "the rules" } else { "the other tables" };
        for number in 1..=last {
            match found.iter().filter(|row| **row == (rules, number)).count() {
                1 => {}
                0 => findings.push(format!("{TABLE}: number {number} of {of} is missing")),
                _ => findings.push(format!("{TABLE}: number {number} of {of} stands twice")),
            }
        }
        let beyond = found.iter().filter(|(of_rules, number)| *of_rules == rules && *number > last);
        findings.extend(beyond.map(|(_, number)| {
            format!("{TABLE}: number {number} of {of} is above {last}, the last one the gate knows of")
        }));
    }
    findings
}

fn test_name(text: &str) -> Option<(&str, &str)> {
    let is_word = |word: &str| {
        word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    text.split_once("::").filter(|(member, test)| is_word(member) && is_word(test) && *test != "test")
}

enum Standing {
    Runs,
    Ignored,
    Missing,
}

fn standing(member: &str, test: &str, sources: &[File]) -> Standing {
    let is_member = |path: &str| match member {
        "xtask" => path.starts_with("xtask/"),
        _ => path.starts_with("crates/") && path.contains(&format!("/{member}/")),
    };
    let head = format!("fn {test}(");
    for file in sources.iter().filter(|file| is_member(&file.path)) {
        let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
        for at in (0..lines.len()).filter(|at| lines[*at].contains(&head)) {
            let attributes = attributes(&lines[..at]);
            if attributes.iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
            {
                let ignored = attributes.iter().any(|line| line.contains("ignore"));
                return if ignored { Standing::Ignored } else { Standing::Runs };
            }
        }
    }
    Standing::Missing
}

/// The attributes right above a function.
fn attributes<'a>(above: &[&'a str]) -> Vec<&'a str> {
    let near = above.iter().rev().take_while(|line| line.starts_with('#') || line.starts_with("//"));
    near.filter(|line| line.starts_with('#')).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Vec<File> {
        let text = "#[test]\nfn it_holds() {\n}\n\n    #[tokio::test(flavor = \"x\")]\n    /// ignored\n    \
                    async fn it_waits() {}\nfn helper() {}\n#[test]\n#[ignore = \"by hand\"]\nfn it_rests() {}\n\
                    #[cfg_attr(debug_assertions, ignore)]\n#[test]\nfn it_rests_too() {}\n";
        vec![File { path: "crates/core/qbft/tests/rules.rs".into(), text: text.into() }]
    }

    /// A document with every number, each row with these tests, and what `change` makes of it.
    fn findings(tests: &str, change: impl Fn(String) -> String) -> Vec<String> {
        let rows =
            |last| (1..=last).map(|number| format!("| {number} | a | {tests} |\n")).collect::<String>();
        let head = "| no. | defect | test |\n|---|---|---|\n";
        let (rules, others) = (rows(RULES_LAST), rows(OTHERS_LAST));
        let table = format!("## {RULES}\n\n{head}{rules}\n## Others\n\n{head}{others}");
        check(&change(table), &sources())
    }

    #[test]
    fn names_of_tests_are_found_and_others_are_findings() {
        assert_eq!(findings("`qbft::it_holds`, `qbft::it_waits`", |table| table), Vec::<String>::new());
        for wrong in
            ["qbft::it_held", "qbft::helper", "sim::it_holds", "qbft::it_rests", "qbft::it_rests_too"]
        {
            let row = "| 3 | a | `qbft::it_holds` |\n";
            let other = format!("| 3 | a | `qbft::it_holds`, `{wrong}` |\n");
            assert_eq!(
                findings("`qbft::it_holds`", |table| table.replacen(row, &other, 1)).len(),
                1,
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_row_without_a_test_is_a_finding_and_prose_is_not() {
        let row = "| 5 | a | `qbft::it_holds` |\n";
        for (other, expected) in
            [("| 5 | a | later |\n", 1), (&format!("{row}Names are `crate::test`.\n"), 0)]
        {
            let found = findings("`qbft::it_holds`", |table| table.replacen(row, other, 1));
            assert_eq!(found.len(), expected, "{found:?}");
        }
    }

    #[test]
    fn a_number_that_is_missing_stands_twice_or_is_unknown_is_a_finding() {
        let row = |number| format!("| {number} | a | `qbft::it_holds` |\n");
        let changes = [
            (row(22), String::new()),
            (row(40), String::new()),
            (row(7), row(7).repeat(2)),
            (row(1), row(1) + &row(43)),
        ];
        for (row, other) in changes {
            let found = findings("`qbft::it_holds`", |table| table.replacen(&row, &other, 1));
            assert_eq!(found.len(), 1, "{other:?}: {found:?}");
        }
    }
}
