//! The authenticated tree over the rows: a binary radix trie of leaf hashes by path, stored in pages.
//!
//! A subtree of one row is that row's leaf, however deep, so depth follows the number of rows. A batch of changes
//! reads and writes the pages above them once each. Every page is checked against the hash above it when it is
//! read, and every leaf against the row it had before it changes: what was damaged behind the tree is found where
//! it would matter, before it is built upon.

use crate::page::{Leaf, Node, Page, Place, SUBTREES, fold};
use crate::read::Change;
use crate::{ChainError, StoredRow, hash, row};
use alloy_primitives::B256;

/// Bits of a path.
const BITS: usize = 256;

/// How pages are read.
pub(crate) trait Entries {
    fn entry(&self, key: &[u8]) -> Option<Vec<u8>>;
}

/// A row that changes: the hash it had, and the one it has; `None` where it is absent.
#[derive(Debug, Clone)]
pub(crate) struct RowChange {
    path: B256,
    key: Vec<u8>,
    before: Option<B256>,
    after: Option<B256>,
}

impl RowChange {
    pub fn of(change: &Change) -> Self {
        let leaf = |value: &Option<Vec<u8>>| value.as_ref().map(|value| hash::leaf(&change.key, value));
        let (before, after) = (leaf(&change.before), leaf(&change.after));
        Self { path: hash::path(&change.key), key: change.key.clone(), before, after }
    }
}

/// Carries out changes of distinct rows on the tree with this root; the new root, and the pages that change.
pub(crate) fn update(
    entries: &dyn Entries,
    root: B256,
    mut changes: Vec<RowChange>,
) -> Result<(B256, Vec<Change>), ChainError> {
    changes.sort_unstable_by_key(|change| change.path);
    debug_assert!(changes.windows(2).all(|pair| pair[0].path != pair[1].path));
    let mut update = Update { entries, pages: Vec::new() };
    let (page, stored) = load(entries, Place::TOP, root)?;
    let top = update.page(Place::TOP, page, stored, &changes)?;
    Ok((top.hash(), update.pages))
}

/// The tree of new rows below a place, with its pages; `None` when a row is not below it, or there twice.
pub(crate) fn build(place: Place, mut rows: Vec<RowChange>) -> Option<(B256, Vec<Change>)> {
    rows.sort_unstable_by_key(|row| row.path);
    let is_sound = rows.iter().all(|row| place.is_above(&row.path))
        && rows.windows(2).all(|pair| pair[0].path != pair[1].path);
    let mut update = Update { entries: &Nothing, pages: Vec::new() };
    let node = is_sound.then(|| update.page(place, Page::default(), None, &rows))?.ok()?;
    Some((node.hash(), update.pages))
}

/// What new rows are built upon.
struct Nothing;

impl Entries for Nothing {
    fn entry(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// The root of the tree that is stored.
pub(crate) fn top(entries: &dyn Entries) -> Result<B256, ChainError> {
    Ok(read(entries, Place::TOP)?.0.node().hash())
}

/// The page at a place, and its bytes. An empty tree has none.
pub(crate) fn read(entries: &dyn Entries, place: Place) -> Result<(Page, Option<Vec<u8>>), ChainError> {
    let stored = entries.entry(&place.key());
    let page = stored.as_ref().map_or(Some(Page::default()), |bytes| Page::decode(bytes));
    let page = page.ok_or_else(|| damaged(place, "the page of the tree is unreadable"))?;
    Ok((page, stored))
}

fn damaged(place: Place, reason: &'static str) -> ChainError {
    ChainError::Damaged { key: row::hex(&place.key()), reason }
}

/// What is below a place, which has to have this hash.
fn load(entries: &dyn Entries, place: Place, hash: B256) -> Result<(Page, Option<Vec<u8>>), ChainError> {
    let (page, stored) = read(entries, place)?;
    if page.node().hash() != hash {
        return Err(damaged(place, "the page of the tree has another hash"));
    }
    Ok((page, stored))
}

struct Update<'a> {
    entries: &'a dyn Entries,
    pages: Vec<Change>,
}

impl Update<'_> {
    /// A page after `changes`, which are sorted, not none, and all below it.
    fn page(
        &mut self,
        place: Place,
        mut page: Page,
        stored: Option<Vec<u8>>,
        changes: &[RowChange],
    ) -> Result<Node, ChainError> {
        for below in changes.chunk_by(|one, other| place.subtree(&one.path) == place.subtree(&other.path)) {
            let subtree = place.subtree(&below[0].path);
            let node = std::mem::take(&mut page.subtrees[subtree]);
            page.subtrees[subtree] = self.subtree(place.below(subtree), node, below)?;
        }
        let node = page.node();
        let is_kept = match node {
            Node::Branch(_) => true,
            Node::Leaf(_) => place == Place::TOP,
            Node::Empty => false,
        };
        let after = is_kept.then(|| page.encode());
        if stored != after {
            self.pages.push(Change { key: place.key(), before: stored, after });
        }
        Ok(node)
    }

    fn subtree(&mut self, place: Place, node: Node, changes: &[RowChange]) -> Result<Node, ChainError> {
        let leaf = match node {
            Node::Branch(hash) => {
                let (page, stored) = load(self.entries, place, hash)?;
                return self.page(place, page, stored, changes);
            }
            Node::Leaf(leaf) => Some(leaf),
            Node::Empty => None,
        };
        let mut left = merged(leaf, changes)?;
        match left.len() {
            0 | 1 => Ok(left.pop().map_or(Node::Empty, |only| Node::Leaf(only.leaf()))),
            _ => self.page(place, Page::default(), None, &left),
        }
    }
}

impl RowChange {
    fn leaf(self) -> Leaf {
        Leaf { key: self.key, hash: self.after.unwrap_or_default() }
    }
}

/// The rows that are left after `changes` of a subtree that held at most one, as rows that are new there.
fn merged(leaf: Option<Leaf>, changes: &[RowChange]) -> Result<Vec<RowChange>, ChainError> {
    let mut left = Vec::with_capacity(changes.len() + 1);
    for change in changes {
        let here = leaf.as_ref().filter(|leaf| leaf.key == change.key).map(|leaf| leaf.hash);
        if here != change.before {
            let reason = "the row is not the one in the tree";
            return Err(ChainError::Damaged { key: row::hex(&change.key), reason });
        }
        if change.after.is_some() {
            left.push(RowChange { before: None, ..change.clone() });
        }
    }
    if let Some(leaf) = leaf
        && changes.iter().all(|change| change.key != leaf.key)
    {
        let kept = RowChange { path: leaf.path(), key: leaf.key, before: None, after: Some(leaf.hash) };
        let at = left.partition_point(|change| change.path < kept.path);
        left.insert(at, kept);
    }
    Ok(left)
}

/// The way to where a row is, or would be: the hashes beside it from the top down, and what is there.
pub(crate) fn way(
    entries: &dyn Entries,
    root: B256,
    key: &[u8],
) -> Result<(Vec<B256>, Option<Leaf>), ChainError> {
    let (path, mut beside) = (hash::path(key), Vec::new());
    let (mut place, mut hash) = (Place::TOP, root);
    loop {
        let (page, _) = load(entries, place, hash)?;
        let mut subtrees = &page.subtrees[..];
        loop {
            match fold(subtrees) {
                Node::Empty => return Ok((beside, None)),
                Node::Leaf(leaf) => return Ok((beside, Some(leaf))),
                Node::Branch(below) => hash = below,
            }
            if subtrees.len() == 1 {
                break;
            }
            let is_right = bit(&path, beside.len());
            let (left, right) = subtrees.split_at(subtrees.len() / 2);
            let (on, off) = if is_right { (right, left) } else { (left, right) };
            beside.push(fold(off).hash());
            subtrees = on;
        }
        place = place.below(place.subtree(&path));
    }
}

/// That a row is in the state, or that it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowProof {
    /// The hashes beside the way to the row, from the top of the tree down.
    pub beside: Vec<B256>,
    /// The row at its end: the one asked for, or another that shows that there is no such row; `None` when there is none at all.
    pub end: Option<StoredRow>,
}

impl RowProof {
    /// Root of the tree in which this proves the value of `key`, or its absence; `None` when it proves nothing about it.
    pub fn tree_root(&self, key: &[u8]) -> Option<B256> {
        let path = hash::path(key);
        if self.beside.len() > BITS {
            return None;
        }
        let end = match &self.end {
            None => hash::empty(),
            Some((key, value)) => {
                let there = hash::path(key);
                let is_on_the_way =
                    (0..self.beside.len()).all(|depth| bit(&there, depth) == bit(&path, depth));
                is_on_the_way.then(|| hash::leaf(key, value))?
            }
        };
        let up = self.beside.iter().enumerate().rev();
        Some(up.fold(end, |hash, (depth, beside)| match bit(&path, depth) {
            false => hash::node(&hash, beside),
            true => hash::node(beside, &hash),
        }))
    }

    /// The value that is proven for `key`.
    pub fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.end.as_ref().filter(|(there, _)| there == key).map(|(_, value)| value.as_slice())
    }
}

/// Every row the tree knows, in the order of their paths; each page is checked on the way, and held only while what
/// is below it is visited.
pub(crate) fn visit(
    entries: &dyn Entries,
    root: B256,
    leaf: &mut dyn FnMut(Leaf) -> Result<(), ChainError>,
) -> Result<(), ChainError> {
    visit_page(entries, Place::TOP, root, leaf)
}

fn visit_page(
    entries: &dyn Entries,
    place: Place,
    hash: B256,
    leaf: &mut dyn FnMut(Leaf) -> Result<(), ChainError>,
) -> Result<(), ChainError> {
    let (page, _) = load(entries, place, hash)?;
    if !page.is_in_place(place) {
        return Err(damaged(place, "a leaf of the tree is at another place"));
    }
    for (subtree, node) in (0..SUBTREES).zip(page.subtrees) {
        match node {
            Node::Empty => {}
            Node::Leaf(found) => leaf(found)?,
            Node::Branch(hash) => visit_page(entries, place.below(subtree), hash, leaf)?,
        }
    }
    Ok(())
}

/// Bit `depth` of a path, from the most significant one.
fn bit(path: &B256, depth: usize) -> bool {
    path[depth / 8] & (0x80 >> (depth % 8)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{MemoryState, StateRead as _};
    use aequa_types::Height;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::LazyLock;

    impl Entries for MemoryState {
        fn entry(&self, key: &[u8]) -> Option<Vec<u8>> {
            self.get(key)
        }
    }

    /// The definition, written again without pages.
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

    /// Keys of rows: pairs whose paths agree on as many bits as can be found quickly, and others.
    static KEYS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let mut keys: Vec<Vec<u8>> = (0..100_000u32).map(|number| number.to_be_bytes().to_vec()).collect();
        keys.sort_by_cached_key(|key| hash::path(key));
        let shared = |pair: &[Vec<u8>]| {
            let (one, other) = (hash::path(&pair[0]), hash::path(&pair[1]));
            (0..BITS).take_while(|depth| bit(&one, *depth) == bit(&other, *depth)).count()
        };
        let mut pairs: Vec<&[Vec<u8>]> = keys.windows(2).collect();
        pairs.sort_by_key(|pair| std::cmp::Reverse(shared(pair)));
        assert!(shared(pairs[0]) > 28);
        pairs.iter().take(8).flat_map(|pair| pair.to_vec()).chain(keys.iter().take(8).cloned()).collect()
    });

    #[derive(Default)]
    struct Rows {
        pages: MemoryState,
        leaves: BTreeMap<Vec<u8>, B256>,
        root: Option<B256>,
    }

    impl Rows {
        fn change(&mut self, batch: BTreeMap<usize, Option<u8>>) {
            let mut changes = Vec::new();
            for (index, after) in batch {
                let (key, after) = (&KEYS[index % KEYS.len()], after.map(B256::repeat_byte));
                let before = match after {
                    Some(leaf) => self.leaves.insert(key.clone(), leaf),
                    None => self.leaves.remove(key),
                };
                changes.push(RowChange { path: hash::path(key), key: key.clone(), before, after });
            }
            let root = self.root.unwrap_or(hash::empty());
            let (root, pages) = update(&self.pages, root, changes).unwrap();
            self.pages.write(Height(1), &pages);
            self.root = Some(root);
        }

        fn defined(&self) -> B256 {
            let mut rows: Vec<_> = self.leaves.iter().map(|(key, leaf)| (hash::path(key), *leaf)).collect();
            rows.sort();
            defined(&rows, 0)
        }
    }

    proptest! {
        #[test]
        fn any_sequence_of_batches_gives_the_tree_of_the_rows_that_are_left(
            batches in proptest::collection::vec(
                proptest::collection::btree_map(0usize..24, proptest::option::of(any::<u8>()), 0..12), 1..8),
        ) {
            let mut tree = Rows::default();
            for batch in batches {
                tree.change(batch);
                prop_assert_eq!(tree.root, Some(tree.defined()));
            }
            let mut rebuilt = Rows::default();
            let leaves = tree.leaves.clone();
            rebuilt.change((0..KEYS.len()).filter_map(|index| Some((index, Some(leaves.get(&KEYS[index])?.0[0])))).collect());
            prop_assert_eq!(rebuilt.root, tree.root);
            prop_assert_eq!(rebuilt.pages, tree.pages, "pages are those of the rows, whatever the order");
        }
    }

    #[test]
    fn rows_far_down_one_way_come_and_go() {
        let mut tree = Rows::default();
        tree.change([(0, Some(5)), (1, Some(5))].into());
        assert_ne!(tree.root, Some(B256::repeat_byte(5)));
        assert_eq!(tree.root, Some(tree.defined()));
        let depth = std::iter::successors(tree.pages.above(&[]), |(key, _)| tree.pages.above(key)).count();
        assert!(depth >= 7, "a page for each nibble that both have in common: {depth}");
        tree.change([(1, None)].into());
        assert_eq!(tree.root, Some(B256::repeat_byte(5)));
        tree.change([(0, None)].into());
        assert_eq!(tree.root, Some(hash::empty()));
        assert_eq!(tree.pages.above(&[]), None);
    }
}
