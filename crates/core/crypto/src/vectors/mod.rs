//! Files of the standards, one case or several in each, below `tests/vectors`: which are there is asserted by
//! their number. Every file below a folder named by `AEQUA_EXTRA_VECTORS`, laid out in the same way, runs too.

#![allow(clippy::disallowed_methods, reason = "vectors are read from disk")]

mod bls;
mod eip2335;
mod rfc9381;

use serde_json::Value;
use std::path::{Path, PathBuf};

/// A file of vectors.
struct Vector {
    /// Its path, for messages.
    name: String,
    json: Value,
}

/// Runs the files below a folder of vectors, by default and extra ones. Gives the number of cases in the former.
fn run(folder: &str, mut cases_of: impl FnMut(&Vector) -> usize) -> usize {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let cases = below(&own.join(folder)).iter().map(&mut cases_of).sum();
    if let Some(extra) = std::env::var_os("AEQUA_EXTRA_VECTORS") {
        let extra = PathBuf::from(extra);
        assert!(extra.is_dir(), "no folder {}", extra.display());
        let files = below(&extra.join(folder));
        let extra: usize = files.iter().map(cases_of).sum();
        assert!(extra > 0 || files.is_empty(), "{folder}: extra files without a case");
    }
    cases
}

/// The files below a folder, ordered; none if there is no such folder.
fn below(folder: &Path) -> Vec<Vector> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        if path.is_dir() {
            return below(&path);
        }
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        vec![Vector { name, json }]
    };
    paths.into_iter().flat_map(read).collect()
}

/// The bytes of a hex string, with or without 0x.
fn bytes(hex: &Value) -> Vec<u8> {
    let text = hex.as_str().unwrap_or_else(|| panic!("not a string: {hex}"));
    hex::decode(text.strip_prefix("0x").unwrap_or(text)).unwrap_or_else(|error| panic!("{text}: {error}"))
}
