//! Bytes of a node's chain store, changed where they lie.

use aequa_chain::Chain;
use aequa_storage::chain_store::{ChainOptions, ChainStore as _, FjallChainStore, Tip};
use aequa_testkit::{checked, plaintext};
use aequa_types::{Address, ClusterId, OperatorIndex, Quorum};
use alloy_primitives::B256;
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the state root is in what is stored of a height: after the offset of the header and the digest.
const STATE_ROOT: Range<usize> = 36..68;

/// Gives the state after the last block a transaction that no block has, with pages and a root that fit; gives what the
/// last block is now, with that root.
pub fn change_state(dir: &Path, cluster_id: ClusterId) -> Tip {
    let dir = dir.join("chain");
    let store = Arc::new(FjallChainStore::open(&dir, cluster_id, ChainOptions::default()).unwrap());
    let tip = store.latest().unwrap().unwrap();
    let mut chain = Chain::open(cluster_id, Quorum::of(4).unwrap(), store, tip).unwrap();
    let items = vec![checked(plaintext(Address::repeat_byte(0xee), 0, 1))];
    let next = chain.build_block(OperatorIndex(0), tip.timestamp_ms + 1, B256::ZERO, items, &[]).unwrap();
    let changes = chain.apply(&next).unwrap().changes;
    let state_root = chain.state().root(&cluster_id, tip.height);
    drop(chain);

    let database = Database::builder(&dir).open().unwrap();
    let keyspace = |name: &str| database.keyspace(name, KeyspaceCreateOptions::default).unwrap();
    let (state, heights) = (keyspace("state"), keyspace("heights"));
    for change in changes {
        match change.after {
            Some(value) => state.insert(change.key, value).unwrap(),
            None => state.remove(change.key).unwrap(),
        }
    }
    let mut row = heights.get(tip.height.0.to_be_bytes()).unwrap().unwrap().to_vec();
    assert_eq!(row[STATE_ROOT], tip.state_root[..]);
    row[STATE_ROOT].copy_from_slice(&state_root[..]);
    heights.insert(tip.height.0.to_be_bytes(), row).unwrap();
    database.persist(PersistMode::SyncAll).unwrap();
    Tip { state_root, ..tip }
}

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
