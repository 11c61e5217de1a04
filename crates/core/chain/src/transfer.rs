//! A state given to somebody who has none, in parts that prove themselves.
//!
//! A part is everything below a place of the tree: its rows, or where those are too many the page there, with the rows
//! of the page's own leaves. Whoever takes a part knows which hash it must have, down from the root, so that any
//! byte that is wrong, missing or too much is found with the part it came in, and nothing of it is kept.
//!
//! What is taken is given back as [`Change`]s, to be stored as they come. A [`Transfer`] that was cut off begins again
//! at the top and finds what it has: a page with the right hash was stored with the rows of its leaves.

use crate::page::{Node, Page};
use crate::read::{Change, StateRead};
use crate::row::{Row, Table};
use crate::state::{COUNTS_KEY, Summary};
use crate::tree::{self, Entries, RowChange};
use crate::{ChainError, State, StoredRow, hash};
use aequa_types::{ClusterId, Height};
use alloy_primitives::B256;
use std::collections::BTreeMap;

pub use crate::page::Place;

/// Least bytes of a row with its key, about: twenty are an address.
const ROW_BYTES_MIN: u64 = 24;

/// A part of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The page at the place, encoded; `None` when all rows below it are here.
    pub page: Option<Vec<u8>>,
    /// All rows below the place, or those of the page's own leaves; in the order of their paths.
    pub rows: Vec<StoredRow>,
}

/// Why a part is not the one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartRefusal {
    /// Nobody asked for it.
    #[error("the part was not asked for")]
    NotWanted,
    /// Not a page.
    #[error("the page is unreadable")]
    Page,
    /// Not a row of this schema.
    #[error("a row is unreadable")]
    Row,
    /// One that is not below the place, or a second one under the same key.
    #[error("a row is not of this part")]
    Stranger,
    /// Other rows, or another page.
    #[error("the part has another hash than the one above it says")]
    Hash,
}

/// Why a state cannot be taken over at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("row counts and tree have state root {found}, the certified one is {certified}")]
pub struct RootRefusal {
    /// What they have.
    pub found: B256,
    /// What the next header says.
    pub certified: B256,
}

impl State {
    /// What is below a place, at most about so many bytes of rows.
    pub fn part(&self, place: Place, bytes_max: usize) -> Result<Part, ChainError> {
        let (page, stored) = tree::read(self, place)?;
        let mut collected = Collected { rows: Vec::new(), bytes_left: bytes_max };
        if self.may_fit(place, bytes_max) && self.collect(place, &page, &mut collected)? {
            return Ok(Part { page: None, rows: collected.rows });
        }
        let mut own = Collected { rows: Vec::new(), bytes_left: usize::MAX };
        for node in &page.subtrees {
            if let Node::Leaf(leaf) = node {
                own.take(leaf.key.clone(), self.entry(&leaf.key).unwrap_or_default());
            }
        }
        Ok(Part { page: stored, rows: own.rows })
    }

    /// Whether it is worth collecting what is below a place: paths are hashes, so that rows are spread evenly.
    fn may_fit(&self, place: Place, bytes_max: usize) -> bool {
        let (depth, _) = place.parts();
        let rows: u64 = self.counts().iter().map(|(_, rows)| rows).sum();
        let below = rows.checked_shr(u32::from(depth) * 4).unwrap_or(0);
        below.saturating_mul(ROW_BYTES_MIN) <= bytes_max as u64
    }

    /// Every row below a page; whether they were few enough.
    fn collect(&self, place: Place, page: &Page, collected: &mut Collected) -> Result<bool, ChainError> {
        for (subtree, node) in page.subtrees.iter().enumerate() {
            let fits = match node {
                Node::Empty => true,
                Node::Leaf(leaf) => {
                    collected.take(leaf.key.clone(), self.entry(&leaf.key).unwrap_or_default())
                }
                Node::Branch(_) => {
                    let below = place.below(subtree);
                    self.collect(below, &tree::read(self, below)?.0, collected)?
                }
            };
            if !fits {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Rows of every table that has any, by number.
    pub fn counts(&self) -> Vec<(u8, u64)> {
        self.summary().counted(|_, rows| rows > 0).collect()
    }
}

struct Collected {
    rows: Vec<StoredRow>,
    bytes_left: usize,
}

impl Collected {
    fn take(&mut self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let bytes = key.len() + value.len();
        let fits = bytes <= self.bytes_left;
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.rows.push((key, value));
        fits
    }
}

/// The taking over of a state: what is still missing of it.
#[derive(Debug, Clone)]
pub struct Transfer {
    summary: Summary,
    /// Parts that are missing, by the paths below them, with the hash they must have. The first one is asked for first, so that
    /// there are never many.
    missing: BTreeMap<Place, B256>,
    /// Rows taken so far.
    rows: u64,
}

impl Transfer {
    /// Of the state with these counts and this tree, if they have the state root that is certified for the height.
    pub fn begin(
        cluster: &ClusterId,
        height: Height,
        certified: B256,
        counts: &[(u8, u64)],
        tree: B256,
    ) -> Result<Self, RootRefusal> {
        let mut summary = Summary { rows: [0; Table::ALL.len()], tree };
        for (number, rows) in counts {
            let Some(table) = Table::from_number(*number) else { continue };
            summary.rows[table.position()] = *rows;
        }
        let found = summary.root(cluster, height);
        if found != certified {
            return Err(RootRefusal { found, certified });
        }
        let missing = [(Place::TOP, tree)].into_iter().filter(|(_, tree)| *tree != hash::empty());
        Ok(Self { summary, missing: missing.collect(), rows: 0 })
    }

    /// The first parts that are missing, at most so many.
    pub fn wanted(&self, number: usize) -> Vec<Place> {
        self.missing.keys().copied().take(number).collect()
    }

    /// Whether a part is still missing.
    pub fn is_missing(&self, place: Place) -> bool {
        self.missing.contains_key(&place)
    }

    /// Whether everything is there.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Rows taken so far, and rows of the whole state.
    pub fn progress(&self) -> (u64, u64) {
        (self.rows, self.summary.rows.iter().sum())
    }

    /// Takes a part: what is to be stored of it. On a refusal nothing has changed.
    pub fn take(&mut self, place: Place, part: &Part) -> Result<Vec<Change>, PartRefusal> {
        let expected = *self.missing.get(&place).ok_or(PartRefusal::NotWanted)?;
        let rows = part.rows.iter().map(|(key, value)| {
            Row::decode(key, value).map_err(|_| PartRefusal::Row)?;
            Ok(Change { key: key.clone(), before: None, after: Some(value.clone()) })
        });
        let mut changes: Vec<Change> = rows.collect::<Result<_, _>>()?;
        match &part.page {
            None => {
                let leaves: Vec<RowChange> = changes.iter().map(RowChange::of).collect();
                let (found, pages) = tree::build(place, leaves).ok_or(PartRefusal::Stranger)?;
                if found != expected {
                    return Err(PartRefusal::Hash);
                }
                changes.extend(pages);
                self.missing.remove(&place);
            }
            Some(bytes) => {
                let page = Page::decode(bytes).ok_or(PartRefusal::Page)?;
                if page.node().hash() != expected {
                    return Err(PartRefusal::Hash);
                }
                if !page.is_in_place(place) {
                    return Err(PartRefusal::Stranger);
                }
                check_leaves(&page, &changes)?;
                changes.push(Change { key: place.key(), before: None, after: Some(bytes.clone()) });
                self.go_below(place, &page);
            }
        }
        self.rows += part.rows.len() as u64;
        Ok(changes)
    }

    /// Goes down over what is stored already, from an earlier attempt at the same state.
    pub fn resume(&mut self, stored: &dyn StateRead) {
        let mut looked_at = BTreeMap::new();
        while let Some((place, expected)) = self.missing.pop_first() {
            let page = stored.get(&place.key()).and_then(|bytes| Page::decode(&bytes));
            match page.filter(|page| page.node().hash() == expected) {
                Some(page) => {
                    self.missing.insert(place, expected);
                    self.rows += page.leaves().count() as u64;
                    self.go_below(place, &page);
                }
                None => {
                    looked_at.insert(place, expected);
                }
            }
        }
        self.missing = looked_at;
    }

    /// The last change, when everything is there: the counts.
    pub fn finish(&self) -> Change {
        Change { key: COUNTS_KEY.to_vec(), before: None, after: Some(self.summary.encode_counts()) }
    }

    fn go_below(&mut self, place: Place, page: &Page) {
        self.missing.remove(&place);
        for (subtree, node) in page.subtrees.iter().enumerate() {
            if let Node::Branch(hash) = node {
                self.missing.insert(place.below(subtree), *hash);
            }
        }
    }
}

/// Whether these are the rows of a page's own leaves, in their order.
fn check_leaves(page: &Page, rows: &[Change]) -> Result<(), PartRefusal> {
    let mut leaves = page.leaves();
    for Change { key, after, .. } in rows {
        let leaf = leaves.next().filter(|leaf| leaf.key == *key).ok_or(PartRefusal::Stranger)?;
        if after.as_ref().is_none_or(|value| hash::leaf(key, value) != leaf.hash) {
            return Err(PartRefusal::Hash);
        }
    }
    leaves.next().map_or(Ok(()), |_| Err(PartRefusal::Hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::MemoryState;
    use aequa_types::{Address, OperatorIndex, TxKind};
    use proptest::prelude::*;
    use std::sync::Arc;

    const CLUSTER: ClusterId = ClusterId::repeat_byte(3);
    const HEIGHT: Height = Height(7);

    /// A state of so many senders, and of something else.
    fn state(senders: u64) -> State {
        let row = |sender: u64| Row::Nonce {
            sender: Address::left_padding_from(&sender.to_be_bytes()),
            kind: TxKind::PlaintextV1,
            next: sender + 1,
        };
        let ledger = crate::OperatorLedger { fees: 5, bids: 0, blocks: 7 };
        let operator = Row::Operator { operator: OperatorIndex(2), ledger };
        let rows = (0..senders).map(row).chain((senders > 0).then_some(operator));
        State::from_rows(rows.map(|row| (row.stored_key(), row.value()))).unwrap()
    }

    fn begin(state: &State) -> Transfer {
        let certified = state.root(&CLUSTER, HEIGHT);
        Transfer::begin(&CLUSTER, HEIGHT, certified, &state.counts(), state.tree_root()).unwrap()
    }

    /// Takes parts until so many are there, or all; how many there were.
    fn take(
        from: &State,
        transfer: &mut Transfer,
        into: &mut MemoryState,
        bytes: usize,
        most: usize,
    ) -> usize {
        let mut taken = 0;
        while taken < most
            && let Some(&place) = transfer.wanted(1).first()
        {
            let changes = transfer.take(place, &from.part(place, bytes).unwrap()).unwrap();
            into.write(Height(0), &changes);
            taken += 1;
        }
        if transfer.is_complete() {
            into.write(HEIGHT, &[transfer.finish()]);
        }
        taken
    }

    fn assert_same(taken: MemoryState, state: &State) {
        let taken = State::open(Arc::new(taken)).unwrap();
        assert_eq!(&taken, state);
        assert_eq!(taken.root(&CLUSTER, HEIGHT), state.root(&CLUSTER, HEIGHT));
        taken.check().unwrap();
        assert!(taken.rows().eq(state.rows()));
    }

    #[test]
    fn a_state_of_any_size_arrives_whole_in_parts_of_any_size() {
        for (senders, bytes, parts) in
            [(0, 100, 0), (1, 100, 1), (1, 0, 1), (600, 1 << 20, 1), (600, 400, 60), (600, 0, 200)]
        {
            let state = state(senders);
            let (mut transfer, mut taken) = (begin(&state), MemoryState::default());
            let needed = take(&state, &mut transfer, &mut taken, bytes, usize::MAX);
            assert!(needed >= parts, "{senders} senders, {bytes} bytes: {needed} parts");
            assert_eq!(transfer.progress().0, transfer.progress().1);
            assert_same(taken, &state);
        }
    }

    #[test]
    fn o_what_is_missing_at_a_time_is_bounded_by_the_depth_and_not_by_the_state() {
        let state = state(5_000);
        let (mut transfer, mut taken, mut most) = (begin(&state), MemoryState::default(), 0);
        while take(&state, &mut transfer, &mut taken, 100, 1) > 0 {
            most = most.max(transfer.missing.len());
        }
        assert!(most <= 16 * 6, "{most}");
    }

    #[test]
    fn o_a_transfer_cut_off_anywhere_goes_on_with_what_it_has() {
        let state = state(300);
        let all = take(&state, &mut begin(&state), &mut MemoryState::default(), 300, usize::MAX);
        for cut in 0..all {
            let (mut first, mut taken) = (begin(&state), MemoryState::default());
            take(&state, &mut first, &mut taken, 300, cut);
            let mut second = begin(&state);
            second.resume(&taken);
            assert_eq!(second.progress(), first.progress());
            assert_eq!(second.wanted(usize::MAX), first.wanted(usize::MAX), "cut at {cut}");
            assert_eq!(take(&state, &mut second, &mut taken, 300, usize::MAX), all - cut);
            assert_same(taken, &state);
        }
    }

    #[test]
    fn a_page_of_another_state_is_not_gone_on_with() {
        let (old, new) = (state(300), state(301));
        let mut taken = MemoryState::default();
        take(&old, &mut begin(&old), &mut taken, 300, 3);
        let mut transfer = begin(&new);
        transfer.resume(&taken);
        assert_eq!(transfer.wanted(1), [Place::TOP]);
    }

    #[test]
    fn o_counts_and_tree_that_are_not_certified_are_refused() {
        let state = state(10);
        let certified = state.root(&CLUSTER, HEIGHT);
        let counts = state.counts();
        let begin = |height, counts: &[(u8, u64)], tree| {
            Transfer::begin(&CLUSTER, height, certified, counts, tree).is_ok()
        };
        assert!(begin(HEIGHT, &counts, state.tree_root()));
        assert!(!begin(HEIGHT.next(), &counts, state.tree_root()));
        assert!(!begin(HEIGHT, &counts[1..], state.tree_root()));
        assert!(!begin(HEIGHT, &counts, B256::ZERO));
        let mut more = counts.clone();
        more[0].1 += 1;
        assert!(!begin(HEIGHT, &more, state.tree_root()));
    }

    /// Something that can be wrong with a part.
    #[derive(Debug, Clone)]
    enum Lie {
        Byte { row: prop::sample::Index, byte: prop::sample::Index, flip: u8 },
        Missing(prop::sample::Index),
        Twice(prop::sample::Index),
        Another,
        PageByte { byte: prop::sample::Index, flip: u8 },
        NoPage,
    }

    fn lies() -> impl Strategy<Value = Lie> {
        let index = any::<prop::sample::Index>;
        prop_oneof![
            (index(), index(), 1u8..).prop_map(|(row, byte, flip)| Lie::Byte { row, byte, flip }),
            index().prop_map(Lie::Missing),
            index().prop_map(Lie::Twice),
            Just(Lie::Another),
            (index(), 1u8..).prop_map(|(byte, flip)| Lie::PageByte { byte, flip }),
            Just(Lie::NoPage),
        ]
    }

    /// The part with the lie in it; `None` where there is nothing to lie about.
    fn lie(part: &Part, lie: &Lie) -> Option<Part> {
        let mut part = part.clone();
        match lie {
            Lie::Byte { row, byte, flip } => {
                let (key, value) = (!part.rows.is_empty()).then(|| row.get_mut(&mut part.rows))?;
                let at = byte.index(key.len() + value.len());
                let length = key.len();
                if at < length { key[at] ^= flip } else { value[at - length] ^= flip }
            }
            Lie::Missing(row) => {
                let at = (!part.rows.is_empty()).then(|| row.index(part.rows.len()))?;
                part.rows.remove(at);
            }
            Lie::Twice(row) => {
                let row = (!part.rows.is_empty()).then(|| row.get(&part.rows).clone())?;
                part.rows.push(row);
            }
            Lie::Another => {
                let stranger = Row::Credit { recipient: Address::repeat_byte(0x77), amount: 1 };
                part.rows.push((stranger.stored_key(), stranger.value()));
            }
            Lie::PageByte { byte, flip } => {
                let page = part.page.as_mut()?;
                let at = byte.index(page.len());
                page[at] ^= flip;
            }
            Lie::NoPage => {
                // Where it has all rows by itself, it is as good without.
                let page = Page::decode(&part.page.take()?)?;
                page.subtrees.iter().any(|node| matches!(node, Node::Branch(_))).then_some(())?;
            }
        }
        Some(part)
    }

    proptest! {
        #[test]
        fn o_whatever_is_wrong_with_a_part_it_is_refused_and_nothing_is_lost(
            lied in lies(),
            after in 0usize..60,
            bytes in prop_oneof![Just(0usize), Just(300), Just(3000)],
        ) {
            let state = state(200);
            let (mut transfer, mut taken) = (begin(&state), MemoryState::default());
            take(&state, &mut transfer, &mut taken, bytes, after);
            let Some(&place) = transfer.wanted(1).first() else { return Ok(()) };
            let good = state.part(place, bytes).unwrap();
            if let Some(bad) = lie(&good, &lied) {
                let before = (transfer.missing.clone(), transfer.progress());
                prop_assert!(transfer.take(place, &bad).is_err(), "{:?}", lied);
                prop_assert_eq!(before, (transfer.missing.clone(), transfer.progress()));
            }
            take(&state, &mut transfer, &mut taken, bytes, usize::MAX);
            assert_same(taken, &state);
        }
    }

    /// Keeps the page's hash, and the row could be neither read nor changed.
    #[test]
    fn a_lone_leaf_at_another_place_of_its_page_is_refused_and_found() {
        let one = state(0);
        assert_eq!(one.counts(), []);
        let row = Row::Credit { recipient: Address::repeat_byte(0x77), amount: 1 };
        let one = State::from_rows([(row.stored_key(), row.value())]).unwrap();
        let mut transfer = begin(&one);
        let good = one.part(Place::TOP, 0).unwrap();
        let mut page = Page::decode(good.page.as_ref().unwrap()).unwrap();
        let hash = page.node().hash();
        page.subtrees.rotate_left(1);
        assert_eq!(page.node().hash(), hash, "the hash does not tell");
        let moved = page.encode();
        let bad = Part { page: Some(moved.clone()), rows: good.rows.clone() };
        assert_eq!(transfer.take(Place::TOP, &bad), Err(PartRefusal::Stranger));
        let mut stored = MemoryState::default();
        take(&one, &mut transfer, &mut stored, 0, usize::MAX);
        State::open(Arc::new(stored.clone())).unwrap().check().unwrap();
        stored.write(HEIGHT, &[Change { key: Place::TOP.key(), before: None, after: Some(moved) }]);
        let found = State::open(Arc::new(stored)).and_then(|state| state.check());
        assert!(matches!(found, Err(ChainError::Damaged { .. })), "{found:?}");
    }

    #[test]
    fn a_part_that_nobody_asked_for_is_refused() {
        let state = state(300);
        let mut transfer = begin(&state);
        let place = Place::of(1, B256::ZERO).unwrap();
        let part = state.part(place, 1 << 20).unwrap();
        assert_eq!(transfer.take(place, &part), Err(PartRefusal::NotWanted));
        assert_eq!(Place::of(64, B256::ZERO), None);
        assert_eq!(Place::of(1, B256::repeat_byte(0x11)), None, "more than its nibbles");
    }
}
