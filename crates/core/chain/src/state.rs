//! The state after a block, and the root that commits to it.

use crate::page::TREE;
use crate::read::{Change, MemoryState, StateRead};
use crate::row::{OperatorLedger, Row, SCHEMA_VERSION, Table};
use crate::tree::{self, Entries, RowChange, RowProof};
use crate::{ChainError, StateProof, hash, row};
use aequa_types::{Address, ClusterId, Height, Offence, OperatorIndex, TimestampMs, TxKind};
use alloy_primitives::B256;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// A row as a store keeps it: table number and key, value.
pub type StoredRow = (Vec<u8>, Vec<u8>);

/// Key of the counts: `number (u8) ‖ rows (u64)` for every table that has rows.
pub(crate) const COUNTS_KEY: &[u8] = &[TREE, u8::MAX];

/// What the chain remembers of a piece of evidence; the block at the height carries it whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Hash of the evidence.
    pub hash: B256,
    /// Height of the block that carries it.
    pub height: Height,
}

/// The rows after a block, with their tree: what is stored, and over it what blocks changed that are not stored yet.
#[derive(Debug, Clone)]
pub struct State {
    stored: Arc<dyn StateRead>,
    /// How far the stored entries are known to be.
    stored_height: Height,
    recent: BTreeMap<Vec<u8>, Recent>,
    summary: Summary,
}

/// A value that a block left, and the height of the block.
#[derive(Debug, Clone)]
struct Recent {
    height: Height,
    value: Option<Vec<u8>>,
}

/// What the state root is made of beside cluster and height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub rows: [u64; Table::ALL.len()],
    pub tree: B256,
}

/// A state with changes that are not made yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    changes: Vec<Change>,
    summary: Summary,
}

impl Prepared {
    pub fn root(&self, cluster: &ClusterId, height: Height) -> B256 {
        self.summary.root(cluster, height)
    }
}

/// Equal roots are of equal rows.
impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.summary == other.summary
    }
}

impl Eq for State {}

impl Default for State {
    /// No rows, kept in memory.
    fn default() -> Self {
        Self {
            stored: Arc::new(MemoryState::default()),
            stored_height: Height(0),
            recent: BTreeMap::new(),
            summary: Summary { rows: [0; Table::ALL.len()], tree: hash::empty() },
        }
    }
}

impl State {
    /// The state that is stored, as the page at the top of its tree and the counts say: no row is read.
    pub fn open(stored: Arc<dyn StateRead>) -> Result<Self, ChainError> {
        let height = stored.height();
        let mut state = Self { stored, stored_height: height, ..Self::default() };
        state.summary = Summary { rows: state.read_counts()?, tree: tree::top(&state)? };
        Ok(state)
    }

    /// Everything of a state in memory, as one change from nothing: to be stored elsewhere.
    pub fn stored_changes(&self) -> Vec<Change> {
        let changed = self.recent.iter().filter(|(_, recent)| recent.value.is_some());
        changed
            .map(|(key, recent)| Change { key: key.clone(), before: None, after: recent.value.clone() })
            .collect()
    }

    /// The state of these rows in memory, which may come in any order but not twice.
    pub fn from_rows(rows: impl IntoIterator<Item = StoredRow>) -> Result<Self, ChainError> {
        let mut state = Self::default();
        let mut distinct = BTreeMap::new();
        for (key, value) in rows {
            let row = Row::decode(&key, &value)?;
            if distinct.insert(key, row).is_some() {
                let key = row::hex(&row.stored_key());
                return Err(ChainError::MalformedRow { key, reason: "row occurs twice" });
            }
        }
        let rows: Vec<Row> = distinct.into_values().collect();
        let prepared = state.prepare(&rows, &[])?;
        state.take(Height(0), prepared);
        Ok(state)
    }

    /// All rows, ordered by table and key.
    pub fn rows(&self) -> impl Iterator<Item = StoredRow> {
        self.below(Vec::new())
    }

    /// The nonce the next transaction of `sender` and `kind` must have.
    pub fn nonce(&self, sender: &Address, kind: TxKind) -> u64 {
        let row = self.row(Row::Nonce { sender: *sender, kind, next: 0 });
        if let Row::Nonce { next, .. } = row { next } else { 0 }
    }

    /// What the blocks of `operator` brought in.
    pub fn operator(&self, operator: OperatorIndex) -> OperatorLedger {
        let none = OperatorLedger::default();
        let row = self.row(Row::Operator { operator, ledger: none });
        if let Row::Operator { ledger, .. } = row { ledger } else { none }
    }

    /// Bids credited to `recipient`.
    pub fn credit(&self, recipient: &Address) -> u128 {
        let row = self.row(Row::Credit { recipient: *recipient, amount: 0 });
        if let Row::Credit { amount, .. } = row { amount } else { 0 }
    }

    /// The evidence committed of an offence.
    pub fn evidence(&self, offence: &Offence) -> Option<Committed> {
        let none = Row::Evidence { offence: *offence, hash: B256::ZERO, committed: Height(0) };
        committed(self.row(none))
            .filter(|(_, committed)| committed.height > Height(0))
            .map(|(_, known)| known)
    }

    /// All evidence committed, in the order of offences.
    pub fn all_evidence(&self) -> impl Iterator<Item = (Offence, Committed)> {
        self.rows_of(vec![Table::Evidence.number()]).filter_map(committed)
    }

    /// The evidence committed against one operator.
    pub fn evidence_against(&self, operator: OperatorIndex) -> impl Iterator<Item = (Offence, Committed)> {
        self.rows_of(vec![Table::Evidence.number(), operator.0]).filter_map(committed)
    }

    /// The timestamp kept of a block, if it is a sample not too old.
    pub fn time(&self, height: Height) -> Option<TimestampMs> {
        time(self.row(Row::Time { height, timestamp_ms: 0 }))
            .map(|(_, timestamp_ms)| timestamp_ms)
            .filter(|timestamp_ms| *timestamp_ms > 0)
    }

    /// The timestamps kept, oldest first.
    pub fn times(&self) -> impl Iterator<Item = (Height, TimestampMs)> {
        self.rows_of(vec![Table::Times.number()]).filter_map(time)
    }

    /// How much of its stake in the lock an operator has lost.
    pub fn slashed(&self, operator: OperatorIndex) -> u64 {
        let row = self.row(Row::Slash { operator, stake: 0 });
        if let Row::Slash { stake, .. } = row { stake } else { 0 }
    }

    /// Up to which height an operator is jailed; the highest one is for ever.
    pub fn jailed_until(&self, operator: OperatorIndex) -> Option<Height> {
        let row = self.row(Row::Jail { operator, until: Height(0) });
        if let Row::Jail { until, .. } = row { Some(until).filter(|until| *until > Height(0)) } else { None }
    }

    /// Number of rows of `table`.
    pub fn len(&self, table: Table) -> u64 {
        self.summary.rows[table.position()]
    }

    /// Whether there are no rows at all.
    pub fn is_empty(&self) -> bool {
        self.summary.rows.iter().all(|rows| *rows == 0)
    }

    /// Root of the tree alone, without the header.
    pub fn tree_root(&self) -> B256 {
        self.summary.tree
    }

    /// The state root of `cluster` at `height`.
    pub fn root(&self, cluster: &ClusterId, height: Height) -> B256 {
        self.summary.root(cluster, height)
    }

    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The row of a key, or that there is none, proven against [`State::tree_root`].
    pub fn prove(&self, key: &[u8]) -> Result<RowProof, ChainError> {
        let (beside, end) = tree::way(self, self.summary.tree, key)?;
        let end = end.map(|leaf| match self.entry(&leaf.key) {
            Some(value) if hash::leaf(&leaf.key, &value) == leaf.hash => Ok((leaf.key, value)),
            _ => Err(not_in_the_tree(&leaf.key)),
        });
        Ok(RowProof { beside, end: end.transpose()? })
    }

    /// The rows of these keys, or that there are none, proven against [`State::root`].
    pub fn prove_all(&self, keys: impl IntoIterator<Item = Vec<u8>>) -> Result<StateProof, ChainError> {
        let rows = keys.into_iter().map(|key| self.prove(&key).map(|proof| (key, proof)));
        Ok(StateProof {
            schema: SCHEMA_VERSION,
            counts: self.summary.root_counts(),
            rows: rows.collect::<Result<_, _>>()?,
        })
    }

    /// Whether the row under a key is the one in the tree, or absent in both.
    pub(crate) fn check_row(&self, row: &Row) -> Result<(), ChainError> {
        let key = row.stored_key();
        let proof = self.prove(&key)?;
        if proof.value(&key) == self.entry(&key).as_deref() { Ok(()) } else { Err(not_in_the_tree(&key)) }
    }

    /// Compares every row with its leaf and every page with the hash above it, and counts both: finds whatever
    /// changed behind the tree. Memory does not grow with the state; time does.
    pub fn check(&self) -> Result<(), ChainError> {
        let mut leaves = 0u64;
        tree::visit(self, self.summary.tree, &mut |leaf| {
            leaves += 1;
            match self.entry(&leaf.key) {
                Some(value) if hash::leaf(&leaf.key, &value) == leaf.hash => Ok(()),
                _ => Err(not_in_the_tree(&leaf.key)),
            }
        })?;
        let mut rows = [0u64; Table::ALL.len()];
        for (key, value) in self.rows() {
            rows[Row::decode(&key, &value)?.table().position()] += 1;
        }
        // Every leaf has its row: as many rows as leaves, and each leaf another row.
        if rows != self.summary.rows || rows.iter().sum::<u64>() != leaves {
            let reason = "the tables have other numbers of rows than their counts say";
            return Err(ChainError::Damaged { key: row::hex(COUNTS_KEY), reason });
        }
        Ok(())
    }

    /// What it takes to write `rows`, which are not their defaults, and to remove `removed`, which are there; all of
    /// them distinct.
    pub(crate) fn prepare(&self, rows: &[Row], removed: &[Row]) -> Result<Prepared, ChainError> {
        let mut summary = self.summary;
        let written = rows.iter().map(|row| (row, Some(row.value())));
        let mut changes = Vec::with_capacity(rows.len() + removed.len());
        for (row, after) in written.chain(removed.iter().map(|row| (row, None))) {
            let key = row.stored_key();
            let before = self.entry(&key);
            let count = &mut summary.rows[row.table().position()];
            match (&before, &after) {
                (None, Some(_)) => *count = count.saturating_add(1),
                (Some(_), None) => *count = count.saturating_sub(1),
                (None, None) | (Some(_), Some(_)) => {}
            }
            changes.push(Change { key, before, after });
        }
        let (tree, pages) = tree::update(self, summary.tree, changes.iter().map(RowChange::of).collect())?;
        summary.tree = tree;
        changes.extend(pages);
        let counted = Change {
            key: COUNTS_KEY.to_vec(),
            before: self.entry(COUNTS_KEY),
            after: Some(summary.encode_counts()).filter(|counts| !counts.is_empty()),
        };
        if counted.before != counted.after {
            changes.push(counted);
        }
        Ok(Prepared { changes, summary })
    }

    /// Makes prepared changes, as those of the block at `height`; gives them to be stored.
    pub(crate) fn take(&mut self, height: Height, prepared: Prepared) -> Vec<Change> {
        let stored_height = self.stored.height();
        if stored_height > self.stored_height {
            self.recent.retain(|_, recent| recent.height > stored_height);
            self.stored_height = stored_height;
        }
        for Change { key, after, .. } in &prepared.changes {
            self.recent.insert(key.clone(), Recent { height, value: after.clone() });
        }
        self.summary = prepared.summary;
        prepared.changes
    }

    /// Every operator there is a ledger of, or evidence against.
    pub(crate) fn operators(&self) -> impl Iterator<Item = OperatorIndex> {
        let tables = [Table::Operators, Table::Evidence];
        let keys = tables.into_iter().flat_map(|table| self.below(vec![table.number()]));
        keys.filter_map(|(key, _)| key.get(1).copied().map(OperatorIndex))
    }

    /// The row at the place of this one, which holds its default, or itself. One that is unreadable counts as absent:
    /// the tree tells before it is written.
    fn row(&self, default: Row) -> Row {
        let key = default.stored_key();
        self.entry(&key).and_then(|value| Row::decode(&key, &value).ok()).unwrap_or(default)
    }

    /// The rows whose keys begin with this prefix and are longer.
    fn rows_of(&self, prefix: Vec<u8>) -> impl Iterator<Item = Row> {
        self.below(prefix).filter_map(|(key, value)| Row::decode(&key, &value).ok())
    }

    /// The stored rows whose keys begin with this prefix and are longer.
    fn below(&self, prefix: Vec<u8>) -> impl Iterator<Item = StoredRow> {
        // Above everything that is kept of the tree.
        let start = if prefix.is_empty() { COUNTS_KEY.to_vec() } else { prefix.clone() };
        std::iter::successors(self.above(&start), |(key, _)| self.above(key))
            .take_while(move |(key, _)| key.starts_with(&prefix))
    }

    /// The first entry above a key.
    fn above(&self, key: &[u8]) -> Option<StoredRow> {
        let mut stored = self.stored.above(key);
        while let Some((found, _)) = &stored
            && self.recent.contains_key(found)
        {
            stored = self.stored.above(found);
        }
        let mut recent = self.recent.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded));
        let recent = recent.find_map(|(key, recent)| Some((key.clone(), recent.value.clone()?)));
        match (stored, recent) {
            (Some(stored), Some(recent)) => Some(stored.min(recent)),
            (one, other) => one.or(other),
        }
    }

    fn read_counts(&self) -> Result<[u64; Table::ALL.len()], ChainError> {
        let mut counts = [0; Table::ALL.len()];
        let Some(stored) = self.entry(COUNTS_KEY) else { return Ok(counts) };
        let unreadable =
            || ChainError::Damaged { key: row::hex(COUNTS_KEY), reason: "the counts are unreadable" };
        for count in stored.chunks(9) {
            let (number, rows) = count.split_first().ok_or_else(unreadable)?;
            let table = Table::from_number(*number).ok_or_else(unreadable)?;
            counts[table.position()] = u64::from_be_bytes(rows.try_into().map_err(|_| unreadable())?);
        }
        Ok(counts)
    }
}

impl Entries for State {
    fn entry(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self.recent.get(key) {
            Some(recent) => recent.value.clone(),
            None => self.stored.get(key),
        }
    }
}

impl Summary {
    pub fn root(&self, cluster: &ClusterId, height: Height) -> B256 {
        hash::state(cluster, SCHEMA_VERSION, height, &self.root_counts(), &self.tree)
    }

    /// The counts that are in the root.
    fn root_counts(&self) -> Vec<(u8, u64)> {
        self.counted(|table, rows| rows > 0 || table.is_always_counted()).collect()
    }

    pub fn encode_counts(&self) -> Vec<u8> {
        let counted = self.counted(|_, rows| rows > 0);
        counted.flat_map(|(number, rows)| std::iter::once(number).chain(rows.to_be_bytes())).collect()
    }

    /// Number and rows of the tables that `is_counted` says.
    pub fn counted(&self, is_counted: impl Fn(Table, u64) -> bool) -> impl Iterator<Item = (u8, u64)> {
        let counts = Table::ALL.map(|table| (table, self.rows[table.position()])).into_iter();
        counts
            .filter(move |(table, rows)| is_counted(*table, *rows))
            .map(|(table, rows)| (table.number(), rows))
    }
}

fn not_in_the_tree(key: &[u8]) -> ChainError {
    ChainError::Damaged { key: row::hex(key), reason: "the row is not the one in the tree" }
}

fn committed(row: Row) -> Option<(Offence, Committed)> {
    let Row::Evidence { offence, hash, committed } = row else { return None };
    Some((offence, Committed { hash, height: committed }))
}

fn time(row: Row) -> Option<(Height, TimestampMs)> {
    let Row::Time { height, timestamp_ms } = row else { return None };
    Some((height, timestamp_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A state that is stored, and can be damaged behind the tree.
    #[derive(Debug, Default)]
    struct Stored(Mutex<MemoryState>);

    impl StateRead for Stored {
        fn height(&self) -> Height {
            self.0.lock().unwrap().height()
        }

        fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
            self.0.lock().unwrap().get(key)
        }

        fn above(&self, key: &[u8]) -> Option<StoredRow> {
            self.0.lock().unwrap().above(key)
        }
    }

    impl Stored {
        fn write(&self, height: u64, changes: &[Change]) {
            self.0.lock().unwrap().write(Height(height), changes);
        }

        fn set(&self, key: &[u8], value: Option<Vec<u8>>) {
            let height = self.height().0;
            self.write(height, &[Change { key: key.to_vec(), before: None, after: value }]);
        }
    }

    fn nonce(sender: u8, next: u64) -> Row {
        Row::Nonce { sender: Address::repeat_byte(sender), kind: TxKind::PlaintextV1, next }
    }

    fn put(state: &mut State, height: u64, rows: &[Row]) -> Vec<Change> {
        let prepared = state.prepare(rows, &[]).unwrap();
        state.take(Height(height), prepared)
    }

    /// A stored state of some rows, and what is read of it.
    fn stored() -> (Arc<Stored>, State) {
        let stored = Arc::new(Stored::default());
        let mut state = State::open(stored.clone()).unwrap();
        let rows: Vec<Row> = (1..40).map(|sender| nonce(sender, 7)).collect();
        stored.write(1, &put(&mut state, 1, &rows));
        (stored.clone(), State::open(stored).unwrap())
    }

    #[test]
    fn what_is_stored_is_not_remembered_and_what_is_not_is() {
        let (stored, mut state) = stored();
        let second = put(&mut state, 2, &[nonce(1, 8)]);
        assert!(!state.recent.is_empty() && state.recent.values().all(|recent| recent.height == Height(2)));
        assert_eq!(state.nonce(&Address::repeat_byte(1), TxKind::PlaintextV1), 8);
        assert_eq!(stored.get(&nonce(1, 0).stored_key()), Some(nonce(1, 7).value()));
        stored.write(2, &second);
        put(&mut state, 3, &[nonce(2, 8)]);
        assert!(state.recent.values().all(|recent| recent.height == Height(3)));
        assert_eq!(State::open(stored).unwrap().root(&B256::ZERO, Height(2)), {
            let mut same = State::default();
            let rows: Vec<Row> = (2..40).map(|sender| nonce(sender, 7)).chain([nonce(1, 8)]).collect();
            put(&mut same, 2, &rows);
            same.root(&B256::ZERO, Height(2))
        });
    }

    #[test]
    fn rows_are_listed_in_order_from_what_is_stored_and_what_is_not() {
        let (_, mut state) = stored();
        let before: Vec<StoredRow> = state.rows().collect();
        assert!(before.is_sorted() && before.len() == 39);
        let rows = [nonce(0, 1), nonce(20, 8), nonce(90, 1)];
        let prepared = state.prepare(&rows, &[nonce(3, 7), nonce(39, 7)]).unwrap();
        state.take(Height(2), prepared);
        let after: BTreeMap<_, _> = state.rows().collect();
        let mut expected: BTreeMap<_, _> = before.into_iter().collect();
        expected.extend(rows.iter().map(|row| (row.stored_key(), row.value())));
        for removed in [3, 39] {
            assert!(expected.remove(&nonce(removed, 0).stored_key()).is_some());
        }
        assert_eq!(after, expected);
        assert_eq!(state.len(Table::Nonces), 39);
        state.check().unwrap();
    }

    #[test]
    fn j4_every_entry_that_is_damaged_is_found_by_the_check() {
        let (stored, state) = stored();
        let entries: Vec<StoredRow> =
            std::iter::successors(stored.above(&[]), |(key, _)| stored.above(key)).collect();
        assert!(entries.len() > 39 + 3, "rows, pages, counts");
        for (key, value) in &entries {
            let mut flipped = value.clone();
            *flipped.last_mut().unwrap() ^= 0x10;
            for damage in [Some(flipped), None] {
                stored.set(key, damage);
                let reopened = State::open(stored.clone());
                let found = reopened.and_then(|reopened| {
                    let same = reopened.root(&B256::ZERO, Height(1)) == state.root(&B256::ZERO, Height(1));
                    if same { reopened.check() } else { Err(not_in_the_tree(key)) }
                });
                assert!(found.is_err(), "{}", row::hex(key));
                stored.set(key, Some(value.clone()));
            }
        }
        let stranger = nonce(99, 1);
        stored.set(&stranger.stored_key(), Some(stranger.value()));
        assert!(
            matches!(state.check(), Err(ChainError::Damaged { .. })),
            "a row that the tree knows nothing of"
        );
        stored.set(&stranger.stored_key(), None);
        state.check().unwrap();
    }

    #[test]
    fn a_damaged_row_or_page_is_found_before_it_is_built_upon() {
        let (stored, state) = stored();
        let key = nonce(5, 0).stored_key();
        stored.set(&key, Some(nonce(5, 6).value()));
        assert!(matches!(state.prepare(&[nonce(5, 7)], &[]), Err(ChainError::Damaged { .. })));
        assert!(state.check_row(&nonce(5, 0)).is_err());
        stored.set(&key, None);
        assert!(matches!(state.prepare(&[nonce(5, 1)], &[]), Err(ChainError::Damaged { .. })));
        assert!(state.prepare(&[nonce(6, 8)], &[]).is_ok(), "another row is as it was");
        let forged = nonce(80, 9);
        stored.set(&forged.stored_key(), Some(forged.value()));
        assert!(matches!(state.prepare(&[nonce(80, 10)], &[]), Err(ChainError::Damaged { .. })));
        assert!(state.check_row(&nonce(80, 0)).is_err());
        assert!(state.check_row(&nonce(81, 0)).is_ok());
    }

    #[test]
    fn a_row_and_its_absence_are_proven_and_nothing_else_is() {
        let (_, state) = stored();
        for sender in 0..60 {
            let key = nonce(sender, 0).stored_key();
            let proof = state.prove(&key).unwrap();
            assert_eq!(proof.tree_root(&key), Some(state.tree_root()));
            let expected = (1..40).contains(&sender).then(|| nonce(sender, 7).value());
            assert_eq!(proof.value(&key), expected.as_deref());

            let mut shorter = proof.clone();
            shorter.beside.pop();
            assert_ne!(shorter.tree_root(&key), Some(state.tree_root()));
            for at in 0..proof.beside.len() {
                let mut other = proof.clone();
                other.beside[at].0[0] ^= 1;
                assert_ne!(other.tree_root(&key), Some(state.tree_root()));
            }
            let absent = RowProof { end: None, ..proof.clone() };
            assert_eq!(absent.tree_root(&key) == Some(state.tree_root()), proof.end.is_none());
            if let Some((found, value)) = &proof.end {
                let more =
                    RowProof { end: Some((found.clone(), [&value[..], &[0]].concat())), ..proof.clone() };
                assert_ne!(more.tree_root(&key), Some(state.tree_root()));
            }
        }
        let (of_one, other) = (nonce(1, 0).stored_key(), nonce(2, 0).stored_key());
        let proof = state.prove(&of_one).unwrap();
        assert_ne!(
            proof.tree_root(&other),
            Some(state.tree_root()),
            "another row is not at the end of this way"
        );
        let endless = RowProof { beside: vec![B256::ZERO; 257], end: None };
        assert_eq!(endless.tree_root(&of_one), None);
    }

    #[test]
    fn nothing_is_in_an_empty_state_and_one_row_is_its_root() {
        let mut state = State::default();
        let key = nonce(1, 0).stored_key();
        let proof = state.prove(&key).unwrap();
        assert_eq!((proof.tree_root(&key), proof.value(&key)), (Some(state.tree_root()), None));
        put(&mut state, 1, &[nonce(1, 1)]);
        let proof = state.prove(&key).unwrap();
        assert!(proof.beside.is_empty() && proof.value(&key).is_some());
        assert_eq!(proof.tree_root(&key), Some(state.tree_root()));
        let prepared = state.prepare(&[], &[nonce(1, 1)]).unwrap();
        state.take(Height(2), prepared);
        assert_eq!(state, State::default());
        assert!(state.is_empty() && state.rows().next().is_none());
    }

    #[test]
    fn what_an_operator_lost_and_until_when_it_is_jailed_is_read_back() {
        let mut state = State::default();
        let (one, other) = (OperatorIndex(1), OperatorIndex(2));
        put(
            &mut state,
            1,
            &[
                Row::Slash { operator: one, stake: 5 },
                Row::Jail { operator: one, until: Height(1007) },
                Row::Jail { operator: other, until: Height(u64::MAX) },
            ],
        );
        assert_eq!(State::from_rows(state.rows()), Ok(state.clone()));
        state.check().unwrap();
        assert_eq!([one, other].map(|operator| state.slashed(operator)), [5, 0]);
        let until = [one, other].map(|operator| state.jailed_until(operator));
        assert_eq!(until, [Some(Height(1007)), Some(Height(u64::MAX))]);
        assert_eq!(state.jailed_until(OperatorIndex(0)), None);
    }

    #[test]
    fn a_row_that_occurs_twice_is_refused() {
        let mut state = State::default();
        put(&mut state, 1, &[nonce(1, 5), nonce(2, 6)]);
        let mut rows: Vec<StoredRow> = state.rows().collect();
        assert_eq!(State::from_rows(rows.clone()), Ok(state));
        rows.push(rows[1].clone());
        assert!(matches!(State::from_rows(rows), Err(ChainError::MalformedRow { .. })));
    }

    #[test]
    fn rows_come_back_ordered_by_table_and_key() {
        let mut state = State::default();
        let ledger = OperatorLedger { blocks: 1, ..OperatorLedger::default() };
        let operator = Row::Operator { operator: OperatorIndex(0), ledger };
        let credit = Row::Credit { recipient: Address::ZERO, amount: 1 };
        put(&mut state, 1, &[credit, operator, nonce(9, 1), nonce(1, 1)]);
        let keys: Vec<_> = state.rows().map(|(key, _)| key).collect();
        assert!(keys.is_sorted() && keys.len() == 4);
        assert_eq!(state.operators().collect::<Vec<_>>(), [OperatorIndex(0)]);
    }
}
