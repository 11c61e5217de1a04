//! Every preimage hashed by this crate, in one place; the crate documentation lists them.

use aequa_types::{ClusterId, Height};
use alloy_primitives::B256;
use sha2::{Digest as _, Sha256};

const LEAF: &[u8] = &[0x00];
const NODE: &[u8] = &[0x01];
const STATE: &[u8] = b"aequa/state/v1\0";
const HISTORY: &[u8] = b"aequa/history/v1\0";

/// Tree of no rows: SHA-256 of the empty string.
pub(crate) fn empty() -> B256 {
    hash(&[])
}

/// Where a row lives in the tree; its key begins with the number of its table.
pub(crate) fn path(key: &[u8]) -> B256 {
    hash(&[key])
}

/// What a row contributes to the tree; its key begins with the number of its table.
pub(crate) fn leaf(key: &[u8], value: &[u8]) -> B256 {
    let (table, key) = key.split_at(key.len().min(1));
    hash(&[LEAF, table, &length(key), key, &length(value), value])
}

/// Two subtrees.
pub(crate) fn node(left: &B256, right: &B256) -> B256 {
    hash(&[NODE, left.as_slice(), right.as_slice()])
}

/// The tree and what it is the tree of; `counts` are (table, rows), ordered by table.
pub(crate) fn state(
    cluster: &ClusterId,
    schema: u32,
    height: Height,
    counts: &[(u8, u64)],
    tree: &B256,
) -> B256 {
    let mut preimage = Vec::with_capacity(128);
    preimage.extend_from_slice(STATE);
    preimage.extend_from_slice(cluster.as_slice());
    preimage.extend_from_slice(&schema.to_be_bytes());
    preimage.extend_from_slice(&height.0.to_be_bytes());
    preimage.push(counts.len() as u8);
    for (table, rows) in counts {
        preimage.push(*table);
        preimage.extend_from_slice(&rows.to_be_bytes());
    }
    preimage.extend_from_slice(tree.as_slice());
    hash(&[&preimage])
}

/// The chain of states up to `height`.
pub(crate) fn history(previous: &B256, height: Height, state: &B256) -> B256 {
    hash(&[HISTORY, previous.as_slice(), &height.0.to_be_bytes(), state.as_slice()])
}

/// Keys and values are of fixed width far below 2^32.
fn length(bytes: &[u8]) -> [u8; 4] {
    (bytes.len() as u32).to_be_bytes()
}

fn hash(parts: &[&[u8]]) -> B256 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    B256::from(<[u8; 32]>::from(hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j2_columns_are_not_joined_without_their_lengths() {
        assert_ne!(leaf(b"\x011", b"23"), leaf(b"\x0112", b"3"));
        assert_ne!(leaf(b"\x01", b"123"), leaf(b"\x01123", b""));
    }

    #[test]
    fn j2_an_empty_value_is_not_an_absent_row() {
        assert_ne!(leaf(b"\x01key", b""), empty());
    }

    #[test]
    fn j2_the_same_row_of_another_table_is_another_leaf_at_another_path() {
        assert_ne!(leaf(b"\x01key", b"value"), leaf(b"\x02key", b"value"));
        assert_ne!(path(b"\x01key"), path(b"\x02key"));
    }

    #[test]
    fn j2_a_node_is_never_taken_for_a_leaf() {
        let (left, right) = (leaf(b"\x01a", b"1"), leaf(b"\x01b", b"2"));
        let joined = [left.as_slice(), right.as_slice()].concat();
        for table in [0x00, 0x01] {
            assert_ne!(leaf(&[&[table], &joined[..]].concat(), b""), node(&left, &right));
            assert_ne!(leaf(&[table], &joined), node(&left, &right));
        }
        assert_ne!(hash(&[&joined]), node(&left, &right));
    }

    #[test]
    fn every_part_of_the_header_matters() {
        let (cluster, tree) = (B256::repeat_byte(1), B256::repeat_byte(2));
        let counts = [(1, 3), (2, 1)];
        let root = state(&cluster, 1, Height(7), &counts, &tree);
        assert_ne!(root, state(&B256::repeat_byte(9), 1, Height(7), &counts, &tree));
        assert_ne!(root, state(&cluster, 2, Height(7), &counts, &tree));
        assert_ne!(root, state(&cluster, 1, Height(8), &counts, &tree));
        assert_ne!(root, state(&cluster, 1, Height(7), &[(1, 3), (2, 2)], &tree));
        assert_ne!(root, state(&cluster, 1, Height(7), &[(1, 3)], &tree));
        assert_ne!(root, state(&cluster, 1, Height(7), &counts, &B256::repeat_byte(9)));
    }
}
