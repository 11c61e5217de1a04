//! Merkle trees over lists that only grow, and proofs about them (RFC 6962, section 2.1).
//!
//! ```text
//! root of n leaves:  n = 0  SHA-256("")      n = 1  leaf     else  node(root of the first k, root of the rest)
//!                    leaf = SHA-256(0x00 ‖ data), node = SHA-256(0x01 ‖ left ‖ right),
//!                    k = the largest power of two below n
//! ```
//!
//! An inclusion proof shows that a leaf is at a place of the list; a consistency proof that a longer list begins
//! with a shorter one. Both are at most [`PROOF_HASHES_MAX`] hashes long. The state has a tree of another shape
//! (ADR 2): it is a set, and its leaves have no place.

use crate::Error;
use alloy_primitives::B256;
use sha2::{Digest as _, Sha256};

/// Most hashes in a proof: an inclusion proof has one for each level of the tree, a consistency proof one more.
pub const PROOF_HASHES_MAX: usize = 65;

const LEAF: [u8; 1] = [0x00];
const NODE: [u8; 1] = [0x01];

/// The root of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListRoot {
    /// Leaves in the list.
    pub size: u64,
    /// The hash of all of them.
    pub hash: B256,
}

impl ListRoot {
    /// The root of a list of leaves, each hashed by [`leaf`].
    pub fn of(leaves: &[B256]) -> Self {
        Self { size: leaves.len() as u64, hash: root(leaves) }
    }

    /// Whether `proof` shows that the leaf with this hash is at `index`, counted from 0.
    pub fn verify_inclusion(&self, index: u64, leaf: &B256, proof: &[B256]) -> Result<(), Error> {
        if index >= self.size || proof.len() > PROOF_HASHES_MAX {
            return Err(Error::BadProof);
        }
        let root = root_above(index, self.size, *leaf, proof).ok_or(Error::BadProof)?;
        if root == self.hash { Ok(()) } else { Err(Error::BadProof) }
    }

    /// Whether `proof` shows that this list begins with the one of the root `earlier`. That every list begins
    /// with the empty one needs no proof, and has none.
    pub fn verify_consistency(&self, earlier: &ListRoot, proof: &[B256]) -> Result<(), Error> {
        if earlier.size == 0 || earlier.size > self.size || proof.len() > PROOF_HASHES_MAX {
            return Err(Error::BadProof);
        }
        let roots = roots_above(earlier.size, self.size, Some(earlier.hash), proof).ok_or(Error::BadProof)?;
        if roots == (earlier.hash, self.hash) { Ok(()) } else { Err(Error::BadProof) }
    }
}

/// The hash of a leaf's data.
pub fn leaf(data: &[u8]) -> B256 {
    hash(&[&LEAF, data])
}

/// Shows that leaf `index` is in the list; none beyond its end.
pub fn inclusion_proof(leaves: &[B256], index: usize) -> Option<Vec<B256>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut leaves, mut index, mut proof) = (leaves, index, Vec::new());
    while leaves.len() > 1 {
        let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
        if index < left.len() {
            proof.push(root(right));
            leaves = left;
        } else {
            proof.push(root(left));
            (leaves, index) = (right, index - left.len());
        }
    }
    // From the leaf upwards.
    proof.reverse();
    Some(proof)
}

/// Shows that the list begins with its first `earlier` leaves; none for 0 or beyond its end.
pub fn consistency_proof(leaves: &[B256], earlier: usize) -> Option<Vec<B256>> {
    if earlier == 0 || earlier > leaves.len() {
        return None;
    }
    let (mut leaves, mut earlier, mut proof, mut is_known) = (leaves, earlier, Vec::new(), true);
    while earlier < leaves.len() {
        let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
        if earlier <= left.len() {
            proof.push(root(right));
            leaves = left;
        } else {
            proof.push(root(left));
            (leaves, earlier, is_known) = (right, earlier - left.len(), false);
        }
    }
    // Only the whole earlier list has a root that the verifier knows.
    if !is_known {
        proof.push(root(leaves));
    }
    proof.reverse();
    Some(proof)
}

fn root(leaves: &[B256]) -> B256 {
    match leaves {
        [] => hash(&[]),
        [leaf] => *leaf,
        leaves => {
            let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
            node(&root(left), &root(right))
        }
    }
}

/// The root of `size` leaves, of which one is known and the proof has all else. Recursion ends at 64 levels.
fn root_above(index: u64, size: u64, leaf: B256, proof: &[B256]) -> Option<B256> {
    if size == 1 {
        return proof.is_empty().then_some(leaf);
    }
    let (sibling, below) = proof.split_last()?;
    let left = split(size);
    if index < left {
        Some(node(&root_above(index, left, leaf, below)?, sibling))
    } else {
        Some(node(sibling, &root_above(index - left, size - left, leaf, below)?))
    }
}

/// The roots of the first `earlier` and of all `size` leaves. `known` is that of the former where the proof leaves
/// it out. Recursion ends at 64 levels.
fn roots_above(earlier: u64, size: u64, known: Option<B256>, proof: &[B256]) -> Option<(B256, B256)> {
    if earlier == size {
        let root = match (known, proof) {
            (Some(root), []) => root,
            (None, [root]) => *root,
            (Some(_), _) | (None, _) => return None,
        };
        return Some((root, root));
    }
    let (sibling, below) = proof.split_last()?;
    let left = split(size);
    if earlier <= left {
        let (old, new) = roots_above(earlier, left, known, below)?;
        Some((old, node(&new, sibling)))
    } else {
        let (old, new) = roots_above(earlier - left, size - left, None, below)?;
        Some((node(sibling, &old), node(sibling, &new)))
    }
}

/// Leaves in the left half of at least two: the largest power of two below their number.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

fn node(left: &B256, right: &B256) -> B256 {
    hash(&[&NODE, left.as_slice(), right.as_slice()])
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
    use proptest::prelude::*;

    /// Leaves and roots of Certificate Transparency's reference implementation.
    const DATA: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn leaves(count: usize) -> Vec<B256> {
        (0..count as u64).map(|number| leaf(&number.to_be_bytes())).collect()
    }

    #[test]
    fn vectors_of_certificate_transparency_have_their_roots() {
        let leaves: Vec<B256> = DATA.iter().map(|data| leaf(&hex::decode(data).unwrap())).collect();
        for (size, expected) in ROOTS.iter().enumerate() {
            assert_eq!(hex::encode(ListRoot::of(&leaves[..size]).hash), *expected, "{size} leaves");
        }
    }

    #[test]
    fn every_leaf_of_every_list_is_proven_at_its_place_and_nowhere_else() {
        for size in 1..=20 {
            let leaves = leaves(size);
            let root = ListRoot::of(&leaves);
            for index in 0..size {
                let proof = inclusion_proof(&leaves, index).unwrap();
                for (place, leaf) in leaves.iter().enumerate() {
                    let holds = root.verify_inclusion(index as u64, leaf, &proof).is_ok();
                    assert_eq!(holds, place == index, "{place} at {index} of {size}");
                }
                let elsewhere = (0..size as u64 + 1).filter(|place| *place != index as u64);
                for place in elsewhere {
                    assert!(root.verify_inclusion(place, &leaves[index], &proof).is_err());
                }
            }
            assert_eq!(inclusion_proof(&leaves, size), None);
        }
    }

    #[test]
    fn every_list_begins_with_each_shorter_one_and_with_no_other() {
        let other = leaf(b"other");
        for size in 1..=20 {
            let leaves = leaves(size);
            let root = ListRoot::of(&leaves);
            for earlier in 1..=size {
                let proof = consistency_proof(&leaves, earlier).unwrap();
                let begun = ListRoot::of(&leaves[..earlier]);
                assert_eq!(root.verify_consistency(&begun, &proof), Ok(()), "{earlier} of {size}");
                let mut changed = leaves[..earlier].to_vec();
                changed[earlier / 2] = other;
                assert!(root.verify_consistency(&ListRoot::of(&changed), &proof).is_err());
                let claimed = ListRoot { size: begun.size + 1, ..begun };
                assert!(root.verify_consistency(&claimed, &proof).is_err());
            }
            assert_eq!(consistency_proof(&leaves, 0), None);
            assert_eq!(consistency_proof(&leaves, size + 1), None);
        }
    }

    #[test]
    fn an_altered_shortened_or_extended_proof_is_refused() {
        let leaves = leaves(13);
        let root = ListRoot::of(&leaves);
        let begun = ListRoot::of(&leaves[..7]);
        type Verify<'a> = &'a dyn Fn(&[B256]) -> Result<(), Error>;
        let inclusion: Verify<'_> = &|proof| root.verify_inclusion(5, &leaves[5], proof);
        let consistency: Verify<'_> = &|proof| root.verify_consistency(&begun, proof);
        let proofs = [inclusion_proof(&leaves, 5).unwrap(), consistency_proof(&leaves, 7).unwrap()];
        for (verify, proof) in [inclusion, consistency].into_iter().zip(proofs) {
            assert_eq!(verify(&proof), Ok(()));
            for position in 0..proof.len() {
                let mut altered = proof.clone();
                altered[position].0[31] ^= 1;
                assert_eq!(verify(&altered), Err(Error::BadProof));
                let mut shortened = proof.clone();
                shortened.remove(position);
                assert_eq!(verify(&shortened), Err(Error::BadProof));
                let mut extended = proof.clone();
                extended.insert(position, B256::ZERO);
                assert_eq!(verify(&extended), Err(Error::BadProof));
            }
            assert_eq!(verify(&[]), Err(Error::BadProof));
            assert_eq!(verify(&vec![B256::ZERO; PROOF_HASHES_MAX + 1]), Err(Error::BadProof));
        }
    }

    #[test]
    fn j2_a_node_is_never_taken_for_a_leaf() {
        let leaves = leaves(2);
        let joined = [leaves[0].as_slice(), leaves[1].as_slice()].concat();
        assert_ne!(leaf(&joined), ListRoot::of(&leaves).hash);
    }

    #[test]
    fn no_list_begins_or_ends_with_nothing() {
        let root = ListRoot::of(&leaves(3));
        assert_eq!(root.verify_consistency(&ListRoot::of(&[]), &[]), Err(Error::BadProof));
        assert_eq!(ListRoot::of(&[]).verify_inclusion(0, &B256::ZERO, &[]), Err(Error::BadProof));
        assert_eq!(root.verify_consistency(&root, &[]), Ok(()));
        let largest = ListRoot { size: u64::MAX, hash: B256::ZERO };
        assert_eq!(
            largest.verify_inclusion(u64::MAX - 1, &B256::ZERO, &[B256::ZERO; 65]),
            Err(Error::BadProof)
        );
        let begun = ListRoot { size: u64::MAX - 1, hash: B256::ZERO };
        assert_eq!(largest.verify_consistency(&begun, &[B256::ZERO; 65]), Err(Error::BadProof));
    }

    proptest! {
        #[test]
        fn a_long_list_is_proven_too(size in 1usize..300, index in any::<prop::sample::Index>()) {
            let leaves = leaves(size);
            let (root, index) = (ListRoot::of(&leaves), index.index(size));
            let proof = inclusion_proof(&leaves, index).unwrap();
            prop_assert_eq!(root.verify_inclusion(index as u64, &leaves[index], &proof), Ok(()));
            let proof = consistency_proof(&leaves, index + 1).unwrap();
            let begun = ListRoot::of(&leaves[..=index]);
            prop_assert_eq!(root.verify_consistency(&begun, &proof), Ok(()));
        }
    }
}
