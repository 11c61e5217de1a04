//! Bytes of a node's chain store, changed where they lie.

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Flips a bit of the value that the state has under a key, as if it had been written so.
pub fn flip_in_state(dir: &Path, key: &[u8]) {
    let database = Database::builder(dir.join("chain")).open().unwrap();
    let state = database.keyspace("state", KeyspaceCreateOptions::default).unwrap();
    let mut value = state.get(key).unwrap().expect("a row of this key").to_vec();
    *value.last_mut().unwrap() ^= 0x10;
    state.insert(key, value).unwrap();
    database.persist(PersistMode::SyncAll).unwrap();
}

/// Flips a bit of the last byte in every file of the chain store that has these bytes, behind the engine; gives in how
/// many places.
pub fn flip_in_files(dir: &Path, bytes: &[u8]) -> usize {
    let mut flipped = 0;
    for file in files_below(&dir.join("chain")) {
        let content = std::fs::read(&file).unwrap();
        let found = content.windows(bytes.len()).enumerate().filter(|(_, window)| *window == bytes);
        let places: Vec<usize> = found.map(|(at, _)| at + bytes.len() - 1).collect();
        // In its place: a node may be writing to the file.
        let file = File::options().write(true).open(&file).unwrap();
        places.iter().for_each(|at| file.write_all_at(&[content[*at] ^ 0x10], *at as u64).unwrap());
        flipped += places.len();
    }
    flipped
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
