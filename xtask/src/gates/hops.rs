//! ARCHITECTURE says where things happen as `crate/file.rs::function`; each of them exists.

use crate::tree::File;

/// The document with the hops.
pub const PAGE: &str = "ARCHITECTURE.md";

/// Hops that lead nowhere.
pub fn check(page: &str, sources: &[File]) -> Vec<String> {
    let lines = page.lines().enumerate();
    let hops = lines.flat_map(|(index, line)| hops(line).map(move |hop| (index + 1, hop)));
    hops.filter(|(_, hop)| !leads_somewhere(hop, sources))
        .map(|(number, hop)| format!("{PAGE}:{number}: there is no {hop}"))
        .collect()
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
    found.is_some_and(|source| heads.iter().any(|head| source.text.contains(head)))
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
    }
}
