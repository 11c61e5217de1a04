//! Public types of the core crates are made of the words of the glossary.

use crate::tree::File;
use std::collections::BTreeSet;

/// The document with the words.
pub const PAGE: &str = "docs/glossary.md";

/// Type names with a word that the glossary does not have.
pub fn check(glossary: &str, sources: &[File]) -> Vec<String> {
    let known = words_of(glossary);
    let mut findings = Vec::new();
    for file in sources.iter().filter(|file| is_core(file)) {
        for (number, line) in file.production_lines() {
            let Some(name) = type_name(line) else { continue };
            let unknown: Vec<String> =
                words(name).into_iter().filter(|word| !is_known(word, &known)).collect();
            if !unknown.is_empty() {
                let place = format!("{}:{number}", file.path);
                findings.push(format!("{place}: {name}: not in {PAGE}: {}", unknown.join(", ")));
            }
        }
    }
    findings
}

fn is_core(file: &File) -> bool {
    let places = ["crates/core/", "crates/io/host/"];
    places.iter().any(|place| file.path.starts_with(place)) && file.path.contains("/src/")
}

/// The words of the first column of every table, and the plain ones.
fn words_of(glossary: &str) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let mut plain = false;
    for line in glossary.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            plain = title == "Plain words";
        }
        let text = match line.strip_prefix("| ") {
            Some(row) if row.starts_with("word") => continue,
            Some(row) => row.split('|').next().unwrap_or_default(),
            None if plain => line,
            None => continue,
        };
        let split = text.split(|sign: char| !sign.is_alphanumeric()).filter(|word| !word.is_empty());
        known.extend(split.map(str::to_lowercase));
    }
    known
}

/// The name that a line makes public.
fn type_name(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    let kinds = ["struct ", "enum ", "trait ", "type "];
    let rest = kinds.into_iter().find_map(|kind| rest.strip_prefix(kind))?;
    rest.split(|sign: char| !sign.is_alphanumeric()).next()
}

/// `DutyStep` are duty and step; a version at the end is no word.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for sign in name.trim_end_matches("V1").chars() {
        match words.last_mut() {
            Some(word) if !sign.is_uppercase() => word.push(sign),
            _ => words.push(sign.to_lowercase().collect()),
        }
    }
    words
}

fn is_known(word: &str, known: &BTreeSet<String>) -> bool {
    let singular = word.strip_suffix("ies").map(|stem| format!("{stem}y"));
    let singular = singular.or_else(|| word.strip_suffix('s').map(str::to_owned));
    known.contains(word) || singular.is_some_and(|singular| known.contains(&singular))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLOSSARY: &str =
        "| duty | what is owed | x |\n| slot, epoch | seconds | y |\n\n## Plain words\n\nstep, key.\n";

    fn findings(line: &str) -> usize {
        let file = File { path: "crates/core/types/src/a.rs".into(), text: format!("{line}\n") };
        check(GLOSSARY, &[file]).len()
    }

    #[test]
    fn a_name_of_known_words_passes_in_singular_and_plural() {
        for line in [
            "pub struct DutyStep {",
            "pub type Duties = Vec<u8>;",
            "pub enum EpochKeys<K> {",
            "pub trait SlotV1 {",
        ] {
            assert_eq!(findings(line), 0, "{line}");
        }
    }

    #[test]
    fn a_private_synonym_is_a_finding_and_a_word_of_an_explanation_is_none() {
        assert_eq!(findings("pub struct DutyPromise;"), 1);
        assert_eq!(findings("pub struct Seconds;"), 1);
        assert_eq!(findings("struct DutyPromise;"), 0, "what is not public names itself");
    }

    #[test]
    fn names_of_other_crates_and_of_tests_are_free() {
        let text = "#[cfg(test)]\nmod tests {\n    pub struct Promise;\n}\n";
        let of_tests = File { path: "crates/core/types/src/a.rs".into(), text: text.into() };
        let of_node = File { path: "crates/node/src/a.rs".into(), text: "pub struct Promise;\n".into() };
        assert_eq!(check(GLOSSARY, &[of_tests, of_node]), Vec::<String>::new());
    }
}
