//! ARCHITECTURE says where things happen as `crate/file.rs::function`; each of them exists.

use crate::tree::File;

/// The document with the hops.
pub const PAGE: &str = "ARCHITECTURE.md";

/// Hops that lead nowhere.
pub fn check(page: &str, sources: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in page.lines().enumerate() {
        let lost = hops(line).filter(|hop| !leads_somewhere(hop, sources));
        findings.extend(lost.map(|hop| format!("{PAGE}:{}: there is no {hop}", index + 1)));
        if hops(line).count() != line.matches(".rs::").count() {
            findings.push(format!("{PAGE}:{}: a hop is not in backticks of its own", index + 1));
        }
    }
    if !page.contains(".rs::") {
        findings.push(format!("{PAGE}: no hops"));
    }
    findings
}

/// What is in backticks and names a function of a file.
fn hops(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|text| text.contains(".rs::"))
}

fn leads_somewhere(hop: &str, sources: &[File]) -> bool {
    let Some((file, function)) = hop.split_once(".rs::") else { return false };
    let Some((member, path)) = file.split_once('/') else { return false };
    let end = format!("/{member}/src/{path}.rs");
    let heads = [format!("fn {function}("), format!("fn {function}<")];
    let found = sources.iter().find(|source| source.path.ends_with(&end));
    let has = |line: &str| heads.iter().any(|head| line.contains(head));
    found.is_some_and(|source| source.production_lines().any(|(_, line)| has(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(page: &str) -> usize {
        let text = "impl X {\n    fn take(&self) {}\n    fn step<P>(&self) {}\n}\n".to_owned();
        check(page, &[File { path: "crates/host/src/a/turn.rs".into(), text }]).len()
    }

    #[test]
    fn a_function_that_is_there_is_found_and_what_is_renamed_is_not() {
        assert_eq!(findings("`host/a/turn.rs::take` → `host/a/turn.rs::step`, `Host`"), 0);
        assert_eq!(findings("`host/a/turn.rs::taken`"), 1);
        assert_eq!(findings("`host/turn.rs::take` and `sim/a/turn.rs::take`"), 2);
        assert_eq!(findings("host/a/turn.rs::take"), 1, "not in backticks");
        assert_eq!(findings("nothing"), 1);
    }
}
