//! That a transaction is in a block: the SSZ branch from the item to the header's payload root.
//!
//! The items are a `List[Transaction, 16384]`: 14 levels of item roots, then the length is mixed in.
//! A branch has 15 hashes: the siblings from the item upwards, and last the length as a 32-byte
//! little-endian number.

use aequa_types::block::Items;
use aequa_types::limits::BLOCK_ITEMS_MAX;
use serde::Serialize;
use tree_hash::{Hash256, TreeHash as _};
use utoipa::ToSchema;

/// Levels below the length: 2^14 items.
const DEPTH: usize = BLOCK_ITEMS_MAX.ilog2() as usize;

/// A branch to the payload root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ItemProof {
    /// hash_tree_root of the transaction, signature included.
    #[schema(value_type = String)]
    pub leaf: Hash256,
    /// Its place.
    pub index: u64,
    /// Siblings from the leaf upwards, then the length.
    #[schema(value_type = Vec<String>)]
    pub branch: Vec<Hash256>,
    /// Where it must lead.
    #[schema(value_type = String)]
    pub payload_root: Hash256,
}

/// The branch of item `index`; none when there is no such item.
pub(crate) fn item_proof(items: &Items, index: u64) -> Option<ItemProof> {
    let mut layer: Vec<Hash256> = items.iter().map(|item| item.tree_hash_root()).collect();
    let mut at = usize::try_from(index).ok()?;
    let leaf = *layer.get(at)?;
    let length = layer.len();
    let mut branch = Vec::with_capacity(DEPTH + 1);
    let mut padding = Hash256::ZERO;
    for _ in 0..DEPTH {
        branch.push(*layer.get(at ^ 1).unwrap_or(&padding));
        layer = layer.chunks(2).map(|pair| hash_pair(&pair[0], pair.get(1).unwrap_or(&padding))).collect();
        padding = hash_pair(&padding, &padding);
        at /= 2;
    }
    let mut length_leaf = Hash256::ZERO;
    length_leaf.0[..8].copy_from_slice(&(length as u64).to_le_bytes());
    branch.push(length_leaf);
    let payload_root = hash_pair(layer.first()?, &length_leaf);
    Some(ItemProof { leaf, index, branch, payload_root })
}

fn hash_pair(left: &Hash256, right: &Hash256) -> Hash256 {
    ethereum_hashing::hash32_concat(left.as_slice(), right.as_slice()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_testkit::{plaintext, unsigned};
    use aequa_types::Address;
    use proptest::prelude::*;

    fn items(count: usize) -> Items {
        let item = |nonce| unsigned(plaintext(Address::ZERO, nonce as u64, 0));
        (0..count).map(item).collect::<Vec<_>>().try_into().unwrap()
    }

    /// What a client does with a proof.
    fn root_of(proof: &ItemProof) -> Hash256 {
        proof.branch.iter().enumerate().fold(proof.leaf, |node, (level, sibling)| {
            if level < DEPTH && proof.index >> level & 1 == 1 {
                hash_pair(sibling, &node)
            } else {
                hash_pair(&node, sibling)
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_branch_leads_to_the_payload_root(count in 1usize..70, seed in any::<u64>()) {
            let items = items(count);
            let index = seed % count as u64;
            let proof = item_proof(&items, index).unwrap();
            prop_assert_eq!(proof.payload_root, items.tree_hash_root());
            prop_assert_eq!(root_of(&proof), items.tree_hash_root());
        }
    }

    #[test]
    fn an_item_that_is_not_there_has_no_proof() {
        assert_eq!(item_proof(&items(3), 3), None);
        assert_eq!(item_proof(&items(0), 0), None);
        assert_eq!(item_proof(&items(1), u64::MAX), None);
    }
}
