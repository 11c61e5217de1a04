//! The files of the repository.

use crate::failure::Failure;
use std::path::{Path, PathBuf};

/// Where sources and documents live; build output and run-time folders are elsewhere.
const FOLDERS: [&str; 6] = ["crates", "xtask", "docs", ".ci", ".cargo", ".config"];

/// A text file of the repository.
pub struct File {
    /// Path from the root, with forward slashes.
    pub path: String,
    /// Its content.
    pub text: String,
}

impl File {
    /// Reads a file by its path from the root.
    pub fn read(path: &str) -> Result<Self, Failure> {
        let full = root().join(path);
        let bytes = std::fs::read(&full).map_err(|source| Failure::Read { path: full, source })?;
        Ok(Self { path: path.to_owned(), text: String::from_utf8_lossy(&bytes).into_owned() })
    }

    /// Whether the whole file is for tests: it lies in a folder of tests, or is a module of them.
    pub fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// The lines that are not for tests, with their numbers from 1. Tests come last in a file.
    pub fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let is_test_module = |at: usize| {
            lines[at].trim() == "#[cfg(test)]"
                && lines
                    .get(at + 1)
                    .is_some_and(|next| next.trim_start().starts_with("mod ") && next.ends_with('{'))
        };
        let end = (0..lines.len()).find(|at| is_test_module(*at)).unwrap_or(lines.len());
        let end = if self.is_test() { 0 } else { end };
        lines.into_iter().take(end).enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// The root of the repository.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where build output is.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// All files whose name ends in one of `endings`, sorted by path.
pub fn files(endings: &[&str]) -> Result<Vec<File>, Failure> {
    let mut paths = Vec::new();
    list(root(), false, &mut paths)?;
    for folder in FOLDERS {
        let folder = root().join(folder);
        if folder.is_dir() {
            list(&folder, true, &mut paths)?;
        }
    }
    let mut names: Vec<String> = paths
        .iter()
        .filter_map(|path| path.strip_prefix(root()).ok())
        .map(|path| path.to_string_lossy().replace('\\', "/"))
        .filter(|name| endings.iter().any(|ending| name.ends_with(ending)))
        .collect();
    names.sort();
    names.iter().map(|name| File::read(name)).collect()
}

fn list(folder: &Path, deep: bool, into: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let fail = |source| Failure::Read { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.is_file() {
            into.push(path);
        } else if deep && path.is_dir() {
            list(&path, true, into)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_after_the_test_module_begins_are_not_production() {
        let text = "one\n#[cfg(test)]\nmod elsewhere;\ntwo\n#[cfg(test)]\nmod tests {\nthree\n}\n".to_owned();
        let file = File { path: "crates/x/src/y.rs".into(), text };
        assert_eq!(file.production_lines().last(), Some((4, "two")));
        let file = File { path: "crates/x/src/y/tests.rs".into(), ..file };
        assert_eq!(file.production_lines().count(), 0);
    }
}
