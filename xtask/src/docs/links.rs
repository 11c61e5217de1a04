//! Relative links of Markdown documents: the file must exist, and the heading in it.

use crate::tree::{self, File};
use std::path::{Component, Path, PathBuf};

/// One line for every link that leads nowhere. Links out of the repository are not followed.
pub fn check(documents: &[File]) -> Vec<String> {
    documents
        .iter()
        .flat_map(|file| {
            let broken = links(&file.text).into_iter().filter(|link| !leads_somewhere(documents, file, link));
            broken.map(|link| format!("{}: the link {link} leads nowhere", file.path))
        })
        .collect()
}

fn leads_somewhere(documents: &[File], from: &File, link: &str) -> bool {
    if link.contains("://") || link.starts_with("mailto:") {
        return true;
    }
    let (path, heading) = match link.split_once('#') {
        Some((path, heading)) => (path, Some(heading)),
        None => (link, None),
    };
    let folder = Path::new(&from.path).parent().unwrap_or(Path::new(""));
    let target = if path.is_empty() { PathBuf::from(&from.path) } else { normalise(&folder.join(path)) };
    if !path.is_empty() && !tree::root().join(&target).exists() {
        return false;
    }
    let Some(heading) = heading else { return true };
    let target = if path.is_empty() {
        Some(from)
    } else {
        documents.iter().find(|file| Path::new(&file.path) == target)
    };
    target.is_some_and(|file| headings(&file.text).iter().any(|slug| slug == heading))
}

fn normalise(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir => {}
            part => parts.push(part),
        }
    }
    parts
}

/// Targets of `[text](target)` outside code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        // Every second piece between backticks is code.
        let visible: String = line.split('`').step_by(2).collect();
        let mut rest = visible.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, after)) = after.split_once(')') else { break };
            found.push(target.split(' ').next().unwrap_or_default().to_owned());
            rest = after;
        }
    }
    found
}

/// Anchors of the headings, as code hosts make them.
fn headings(text: &str) -> Vec<String> {
    let titles =
        prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |letter: &char| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter);
    titles
        .map(|title| title.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

/// Lines outside fenced code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(text: &str) -> usize {
        let here = File { path: "docs/adr/x.md".into(), text: text.into() };
        let other =
            File { path: "README.md".into(), text: "# Aequa\n## 简体中文\n## Run it, now\n".into() };
        check(&[here, other]).len()
    }

    #[test]
    fn links_to_files_and_headings_that_exist_are_good() {
        assert_eq!(broken("[a](../../Cargo.toml) [b](https://example.org/x) [c](../../xtask/)"), 0);
        assert_eq!(
            broken("# Why\n[a](#why) [b](../../README.md#run-it-now) [c](../../README.md#简体中文)"),
            0
        );
    }

    #[test]
    fn links_to_nothing_are_found() {
        assert_eq!(broken("[a](nothing.md) and [b](#nothing) and [c](../../README.md#nothing)"), 3);
    }

    #[test]
    fn code_is_not_searched_for_links() {
        assert_eq!(broken("`v[0](x)`\n```\n[a](nothing.md)\n```\n"), 0);
    }
}
