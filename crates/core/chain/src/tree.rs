//! The authenticated tree over the rows: a binary radix trie of leaf hashes by path.
//!
//! A subtree of one row is that row's leaf, however deep, so depth follows the number of rows. A batch of
//! changes rehashes every node above them once.

use crate::hash;
use alloy_primitives::B256;

/// A change of one row: its path and new leaf hash, or its absence.
pub(crate) type Change = (B256, Option<B256>);

/// Leaf hashes of all rows, with the hash of every subtree cached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    root: Node,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Node {
    #[default]
    Empty,
    Leaf(Box<Leaf>),
    Branch(Box<Branch>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leaf {
    path: B256,
    hash: B256,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Branch {
    hash: B256,
    left: Node,
    right: Node,
}

impl Tree {
    pub fn root(&self) -> B256 {
        self.root.hash()
    }

    /// Carries out changes of distinct rows.
    pub fn update(&mut self, mut changes: Vec<Change>) {
        changes.sort_unstable_by_key(|(path, _)| *path);
        debug_assert!(changes.windows(2).all(|pair| pair[0].0 != pair[1].0));
        self.root = std::mem::take(&mut self.root).updated(0, &changes);
    }
}

impl Node {
    fn hash(&self) -> B256 {
        match self {
            Node::Empty => hash::empty(),
            Node::Leaf(leaf) => leaf.hash,
            Node::Branch(branch) => branch.hash,
        }
    }

    /// This subtree after `changes`, which are sorted and all below it. Recursion ends at bit 256.
    fn updated(self, depth: usize, changes: &[Change]) -> Self {
        if changes.is_empty() {
            return self;
        }
        let (existing, branch) = match self {
            Node::Empty => (None, None),
            Node::Leaf(leaf) => (Some(*leaf), None),
            Node::Branch(branch) => (None, Some(branch)),
        };
        let Some(branch) = branch else { return Self::build(depth, &merged(existing, changes)) };
        let (left, right) = changes.split_at(changes.partition_point(|(path, _)| !bit(path, depth)));
        Self::join(branch.left.updated(depth + 1, left), branch.right.updated(depth + 1, right))
    }

    /// The subtree of these leaves, which are sorted and distinct.
    fn build(depth: usize, leaves: &[Leaf]) -> Self {
        match leaves {
            [] => Node::Empty,
            [leaf] => Node::Leaf(Box::new(*leaf)),
            _ => {
                let (left, right) = leaves.split_at(leaves.partition_point(|leaf| !bit(&leaf.path, depth)));
                Self::join(Self::build(depth + 1, left), Self::build(depth + 1, right))
            }
        }
    }

    fn join(left: Self, right: Self) -> Self {
        match (left, right) {
            (only @ (Node::Empty | Node::Leaf(_)), Node::Empty) | (Node::Empty, only @ Node::Leaf(_)) => only,
            (left, right) => {
                let hash = hash::node(&left.hash(), &right.hash());
                Node::Branch(Box::new(Branch { hash, left, right }))
            }
        }
    }
}

/// The leaves left after `changes` of a subtree that held at most one.
fn merged(existing: Option<Leaf>, changes: &[Change]) -> Vec<Leaf> {
    let kept = existing.filter(|leaf| changes.binary_search_by_key(&leaf.path, |(path, _)| *path).is_err());
    let added = changes.iter().filter_map(|(path, leaf)| leaf.map(|hash| Leaf { path: *path, hash }));
    let mut leaves: Vec<Leaf> = added.chain(kept).collect();
    leaves.sort_unstable_by_key(|leaf| leaf.path);
    leaves
}

/// Bit `depth` of a path, from the most significant one.
fn bit(path: &B256, depth: usize) -> bool {
    path[depth / 8] & (0x80 >> (depth % 8)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// The definition, written again without a cache.
    fn defined(rows: &[(B256, B256)], depth: usize) -> B256 {
        match rows {
            [] => hash::empty(),
            [(_, leaf)] => *leaf,
            _ => {
                let side = |one| -> Vec<_> {
                    rows.iter().filter(|(path, _)| bit(path, depth) == one).copied().collect()
                };
                hash::node(&defined(&side(false), depth + 1), &defined(&side(true), depth + 1))
            }
        }
    }

    fn defined_of(rows: &BTreeMap<B256, B256>) -> B256 {
        defined(&rows.iter().map(|(path, leaf)| (*path, *leaf)).collect::<Vec<_>>(), 0)
    }

    /// Paths that agree on long prefixes as well as ones that do not.
    fn paths() -> impl Strategy<Value = B256> {
        (0u8..4, 0u8..3, 0u8..4).prop_map(|(first, zeros, last)| {
            let mut path = [0; 32];
            path[0] = first << 6;
            path[usize::from(zeros) * 10] |= 1;
            path[31] |= last;
            B256::from(path)
        })
    }

    proptest! {
        #[test]
        fn any_sequence_of_batches_gives_the_tree_of_the_rows_that_are_left(
            batches in proptest::collection::vec(
                proptest::collection::btree_map(paths(), proptest::option::of(any::<u8>()), 0..12), 1..8),
        ) {
            let mut tree = Tree::default();
            let mut rows = BTreeMap::new();
            for batch in batches {
                let changes: Vec<Change> =
                    batch.into_iter().map(|(path, leaf)| (path, leaf.map(B256::repeat_byte))).collect();
                for (path, leaf) in &changes {
                    match leaf {
                        Some(leaf) => { rows.insert(*path, *leaf); }
                        None => { rows.remove(path); }
                    }
                }
                tree.update(changes);
                prop_assert_eq!(tree.root(), defined_of(&rows));
            }
            let mut rebuilt = Tree::default();
            rebuilt.update(rows.into_iter().map(|(path, leaf)| (path, Some(leaf))).collect());
            prop_assert_eq!(rebuilt, tree);
        }
    }

    #[test]
    fn paths_that_differ_in_the_last_bit_only_are_told_apart() {
        let (mut tree, leaf) = (Tree::default(), B256::repeat_byte(5));
        let mut twin = [0; 32];
        twin[31] = 1;
        tree.update(vec![(B256::ZERO, Some(leaf)), (B256::from(twin), Some(leaf))]);
        let both = tree.root();
        assert_ne!(both, leaf);
        tree.update(vec![(B256::from(twin), None)]);
        assert_eq!(tree.root(), leaf);
        tree.update(vec![(B256::ZERO, None)]);
        assert_eq!(tree, Tree::default());
    }

    #[test]
    fn no_leaf_is_paired_with_itself() {
        let leaves: Vec<Change> =
            (1..=3u8).map(|i| (B256::repeat_byte(i * 60), Some(B256::repeat_byte(i)))).collect();
        let mut three = Tree::default();
        three.update(leaves.clone());
        let mut four = three.clone();
        four.update(vec![(B256::repeat_byte(181), leaves[2].1)]);
        assert_ne!(three.root(), four.root());
    }
}
