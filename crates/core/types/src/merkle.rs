//! Merkle roots of lists (consensus-specs, ssz/simple-serialize.md, "Merkleization").
//!
//! The same roots as the derived ones, for lists that are hashed so often that it shows.

use alloy_primitives::B256;
use ethereum_hashing::{ZERO_HASHES, hash32_concat};
use tree_hash::{BYTES_PER_CHUNK, mix_in_length};

/// Root of a list of at most `bytes_max` bytes, a power of two.
pub(crate) fn bytes_root(bytes: &[u8], bytes_max: usize) -> B256 {
    let chunks = bytes.chunks(BYTES_PER_CHUNK).map(B256::right_padding_from);
    list_root(chunks.collect(), (bytes_max / BYTES_PER_CHUNK).ilog2() as usize, bytes.len())
}

/// Root of a list of `length` elements, which fill these `chunks` of at most `2^depth`.
pub(crate) fn list_root(mut chunks: Vec<B256>, depth: usize, length: usize) -> B256 {
    debug_assert!(chunks.len() <= 1 << depth, "more chunks than the list may have");
    for zero in &ZERO_HASHES[..depth] {
        for at in 0..chunks.len().div_ceil(2) {
            let right = chunks.get(2 * at + 1).map_or(&zero[..], |right| right.as_slice());
            chunks[at] = hash32_concat(chunks[2 * at].as_slice(), right).into();
        }
        chunks.truncate(chunks.len().div_ceil(2));
    }
    let root = chunks.first().copied().unwrap_or_else(|| B256::from_slice(&ZERO_HASHES[depth]));
    mix_in_length(&root, length)
}
