//! Pages: four levels of the tree each, as they are stored.
//!
//! A page holds the sixteen subtrees below its place. What is inside is hashed like any other part of the tree: the
//! roots know nothing of pages. A page is there where two rows or more are below it, and at the top where one is.
//!
//! ```text
//! key  = 0x00 ‖ depth in nibbles (u8, at most 64) ‖ the path down to there, the last nibble padded with zeros
//! page = leaves (u16) ‖ branches (u16), a bit for each subtree, the first one lowest
//!        ‖ for each that is there: leaf: length (u8) ‖ key of the row ‖ hash (32), branch: hash (32)
//! ```

use crate::hash;
use alloy_primitives::B256;

/// First byte of the keys of pages and counts; no table has this number.
pub(crate) const TREE: u8 = 0;
/// Subtrees of a page.
pub(crate) const SUBTREES: usize = 16;

/// A subtree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Node {
    /// No row.
    #[default]
    Empty,
    /// One row, however deep.
    Leaf(Leaf),
    /// Two rows or more: the hash over both sides.
    Branch(B256),
}

impl Node {
    pub fn hash(&self) -> B256 {
        match self {
            Node::Empty => hash::empty(),
            Node::Leaf(leaf) => leaf.hash,
            Node::Branch(hash) => *hash,
        }
    }

    /// The subtree of both sides.
    fn join(left: Self, right: Self) -> Self {
        match (left, right) {
            (only @ (Node::Empty | Node::Leaf(_)), Node::Empty) | (Node::Empty, only @ Node::Leaf(_)) => only,
            (left, right) => Node::Branch(hash::node(&left.hash(), &right.hash())),
        }
    }
}

/// A row's place in the tree: which row, and the hash of all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// The key under which the row is stored.
    pub key: Vec<u8>,
    pub hash: B256,
}

impl Leaf {
    pub fn path(&self) -> B256 {
        hash::path(&self.key)
    }
}

/// A place of the tree: the nibbles that the paths of all rows below it begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Zero from `depth` on.
    path: B256,
    depth: u8,
}

impl Place {
    /// All of the tree.
    pub const TOP: Place = Place { depth: 0, path: B256::ZERO };
    /// Nibbles of a path.
    const DEPTH_MAX: u8 = 64;

    /// The place below which paths begin with the first `depth` nibbles of `path`, which is zero from there on.
    pub fn of(depth: u8, path: B256) -> Option<Self> {
        let place = Self { depth, path };
        (depth < Self::DEPTH_MAX && place.first_of(&path) == path).then_some(place)
    }

    /// How many nibbles, and which.
    pub fn parts(&self) -> (u8, B256) {
        (self.depth, self.path)
    }

    /// Whether a path goes through it.
    pub(crate) fn is_above(&self, path: &B256) -> bool {
        self.first_of(path) == self.path
    }

    /// The nibbles of a path down to here, zero from there on.
    fn first_of(&self, path: &B256) -> B256 {
        let whole = usize::from(self.depth / 2);
        let mut first = B256::ZERO;
        first[..whole].copy_from_slice(&path[..whole]);
        if !self.depth.is_multiple_of(2) {
            first[whole] = path[whole] & 0xf0;
        }
        first
    }

    /// Which subtree of the page a path goes through.
    pub(crate) fn subtree(&self, path: &B256) -> usize {
        let byte = path[usize::from(self.depth / 2)];
        usize::from(if self.depth.is_multiple_of(2) { byte >> 4 } else { byte & 0xf })
    }

    /// The place of a page below this one.
    pub(crate) fn below(&self, subtree: usize) -> Self {
        let nibble = subtree as u8;
        let mut path = self.path;
        path[usize::from(self.depth / 2)] |= if self.depth.is_multiple_of(2) { nibble << 4 } else { nibble };
        Self { depth: self.depth + 1, path }
    }

    /// The key the page is stored under.
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = vec![TREE, self.depth];
        key.extend_from_slice(&self.path[..usize::from(self.depth.div_ceil(2))]);
        key
    }
}

/// Four levels of the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub subtrees: [Node; SUBTREES],
}

impl Page {
    /// The page as a subtree of its own.
    pub fn node(&self) -> Node {
        fold(&self.subtrees)
    }

    /// Whether every leaf stands where its path goes, below `place`: the hash of a lone one is the same anywhere.
    pub fn is_in_place(&self, place: Place) -> bool {
        self.subtrees.iter().enumerate().all(|(subtree, node)| match node {
            Node::Leaf(leaf) => place.is_above(&leaf.path()) && place.subtree(&leaf.path()) == subtree,
            Node::Empty | Node::Branch(_) => true,
        })
    }

    /// The rows that are its own: not in a page below.
    pub fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.subtrees.iter().filter_map(|node| match node {
            Node::Leaf(leaf) => Some(leaf),
            Node::Empty | Node::Branch(_) => None,
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let (mut leaves, mut branches, mut body) = (0u16, 0u16, Vec::new());
        for (index, node) in self.subtrees.iter().enumerate() {
            match node {
                Node::Empty => {}
                Node::Leaf(leaf) => {
                    leaves |= 1 << index;
                    body.push(leaf.key.len() as u8);
                    body.extend_from_slice(&leaf.key);
                    body.extend_from_slice(leaf.hash.as_slice());
                }
                Node::Branch(hash) => {
                    branches |= 1 << index;
                    body.extend_from_slice(hash.as_slice());
                }
            }
        }
        [&leaves.to_be_bytes()[..], &branches.to_be_bytes(), &body].concat()
    }

    /// Takes only what [`Page::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (leaves, rest) = bytes.split_first_chunk()?;
        let (branches, mut rest) = rest.split_first_chunk()?;
        let (leaves, branches) = (u16::from_be_bytes(*leaves), u16::from_be_bytes(*branches));
        let mut page = Self::default();
        for (index, node) in page.subtrees.iter_mut().enumerate() {
            let has = |bits: u16| bits >> index & 1 == 1;
            let mut take = |bytes: usize| {
                let (taken, left) = rest.split_at_checked(bytes)?;
                rest = left;
                Some(taken)
            };
            *node = match (has(leaves), has(branches)) {
                (false, false) => Node::Empty,
                (true, false) => {
                    let length = usize::from(take(1)?[0]);
                    let key = take(length)?.to_vec();
                    Node::Leaf(Leaf { key, hash: B256::from_slice(take(32)?) })
                }
                (false, true) => Node::Branch(B256::from_slice(take(32)?)),
                (true, true) => return None,
            };
        }
        rest.is_empty().then_some(page)
    }
}

/// The subtree over a power of two of subtrees.
pub(crate) fn fold(subtrees: &[Node]) -> Node {
    match subtrees {
        [] => Node::Empty,
        [node] => node.clone(),
        _ => {
            let (left, right) = subtrees.split_at(subtrees.len() / 2);
            Node::join(fold(left), fold(right))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let mut page = Page::default();
        page.subtrees[0] = Node::Leaf(Leaf { key: vec![1; 22], hash: B256::repeat_byte(1) });
        page.subtrees[7] = Node::Branch(B256::repeat_byte(7));
        page.subtrees[15] = Node::Leaf(Leaf { key: vec![5], hash: B256::repeat_byte(15) });
        page
    }

    #[test]
    fn a_page_is_read_back_as_it_was_written_and_nothing_else_is_one() {
        let bytes = page().encode();
        assert_eq!(Page::decode(&bytes), Some(page()));
        assert_eq!(bytes.len(), 4 + (1 + 22 + 32) + 32 + (1 + 1 + 32));
        for shorter in 0..bytes.len() {
            assert_eq!(Page::decode(&bytes[..shorter]), None, "{shorter} bytes");
        }
        assert_eq!(Page::decode(&[&bytes[..], &[0]].concat()), None);
        let mut both = bytes;
        both[3] |= 1;
        assert_eq!(Page::decode(&both), None, "a subtree that is a leaf and a branch");
    }

    #[test]
    fn every_place_has_its_own_key() {
        let mut place = Place::TOP;
        let mut keys = vec![place.key()];
        for nibble in [0, 0xf, 3] {
            place = place.below(nibble);
            keys.push(place.key());
        }
        assert_eq!(keys, [vec![0, 0], vec![0, 1, 0x00], vec![0, 2, 0x0f], vec![0, 3, 0x0f, 0x30]]);
        let path = B256::repeat_byte(0xa5);
        assert_eq!([place.subtree(&path), Place::TOP.subtree(&path)], [5, 10]);
    }

    #[test]
    fn a_subtree_of_one_row_is_that_row_however_deep() {
        let mut one = Page::default();
        assert_eq!(one.node(), Node::Empty);
        one.subtrees[9] = page().subtrees[0].clone();
        assert_eq!(one.node(), one.subtrees[9]);
        one.subtrees[8] = page().subtrees[15].clone();
        assert!(matches!(one.node(), Node::Branch(_)));
    }
}
