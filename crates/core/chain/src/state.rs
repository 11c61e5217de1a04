//! The state after a block, and the root that commits to it.

use crate::hash;
use crate::row::{OperatorLedger, Row, SCHEMA_VERSION, Table};
use crate::tree::Tree;
use crate::{ChainError, row};
use aequa_types::{
    Address, ClusterId, Height, InstanceId, Offence, OperatorIndex, TimestampMs, TxKind, VoteKey,
};
use alloy_primitives::B256;
use std::collections::BTreeMap;

/// A row as a store keeps it: table number and key, value.
pub type StoredRow = (Vec<u8>, Vec<u8>);

/// What the chain remembers of a piece of evidence; the block at the height carries it whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Hash of the evidence.
    pub hash: B256,
    /// Height of the block that carries it.
    pub height: Height,
}

/// All rows, with their tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    nonces: BTreeMap<(Address, TxKind), u64>,
    operators: BTreeMap<OperatorIndex, OperatorLedger>,
    credits: BTreeMap<Address, u128>,
    evidence: BTreeMap<Offence, Committed>,
    times: BTreeMap<Height, TimestampMs>,
    slashes: BTreeMap<OperatorIndex, u64>,
    jails: BTreeMap<OperatorIndex, Height>,
    tree: Tree,
}

impl State {
    /// The state of these rows, which may come in any order but not twice.
    pub fn from_rows(rows: impl IntoIterator<Item = StoredRow>) -> Result<Self, ChainError> {
        let mut state = Self::default();
        let mut changes = Vec::new();
        for (key, value) in rows {
            let row = Row::decode(&key, &value)?;
            if state.write(&row) {
                let key = row::hex(&key);
                return Err(ChainError::MalformedRow { key, reason: "row occurs twice" });
            }
            changes.push(change(&row));
        }
        state.tree.update(changes);
        Ok(state)
    }

    /// All rows, ordered by table and key.
    pub fn rows(&self) -> impl Iterator<Item = StoredRow> {
        self.typed_rows().map(|row| (row.stored_key(), row.value()))
    }

    /// The nonce the next transaction of `sender` and `kind` must have.
    pub fn nonce(&self, sender: &Address, kind: TxKind) -> u64 {
        self.nonces.get(&(*sender, kind)).copied().unwrap_or(0)
    }

    /// What the blocks of `operator` brought in.
    pub fn operator(&self, operator: OperatorIndex) -> OperatorLedger {
        self.operators.get(&operator).copied().unwrap_or_default()
    }

    /// Bids credited to `recipient`.
    pub fn credit(&self, recipient: &Address) -> u128 {
        self.credits.get(recipient).copied().unwrap_or(0)
    }

    /// The evidence committed of an offence.
    pub fn evidence(&self, offence: &Offence) -> Option<&Committed> {
        self.evidence.get(offence)
    }

    /// All evidence committed, in the order of offences.
    pub fn all_evidence(&self) -> impl Iterator<Item = (&Offence, &Committed)> {
        self.evidence.iter()
    }

    /// The evidence committed against one operator.
    pub fn evidence_against(&self, operator: OperatorIndex) -> impl Iterator<Item = (&Offence, &Committed)> {
        let key = VoteKey::first_of(InstanceId::Block(Height(0)));
        let from = Offence { operator, key };
        self.evidence.range(from..).take_while(move |(offence, _)| offence.operator == operator)
    }

    /// The timestamp kept of a block, if it is a sample not too old.
    pub fn time(&self, height: Height) -> Option<TimestampMs> {
        self.times.get(&height).copied()
    }

    /// The timestamps kept, oldest first.
    pub fn times(&self) -> impl Iterator<Item = (Height, TimestampMs)> {
        self.times.iter().map(|(height, timestamp_ms)| (*height, *timestamp_ms))
    }

    /// How much of its stake in the lock an operator has lost.
    pub fn slashed(&self, operator: OperatorIndex) -> u64 {
        self.slashes.get(&operator).copied().unwrap_or(0)
    }

    /// Up to which height an operator is jailed; the highest one is for ever.
    pub fn jailed_until(&self, operator: OperatorIndex) -> Option<Height> {
        self.jails.get(&operator).copied()
    }

    /// Number of rows of `table`.
    pub fn len(&self, table: Table) -> usize {
        match table {
            Table::Nonces => self.nonces.len(),
            Table::Operators => self.operators.len(),
            Table::Credits => self.credits.len(),
            Table::Evidence => self.evidence.len(),
            Table::Times => self.times.len(),
            Table::Slashes => self.slashes.len(),
            Table::Jails => self.jails.len(),
        }
    }

    /// Whether there are no rows at all.
    pub fn is_empty(&self) -> bool {
        Table::ALL.into_iter().all(|table| self.len(table) == 0)
    }

    /// Root of the tree alone, without the header.
    pub fn tree_root(&self) -> B256 {
        self.tree.root()
    }

    /// The state root of `cluster` at `height`, from the cached tree.
    pub fn root(&self, cluster: &ClusterId, height: Height) -> B256 {
        let counts = Table::ALL.map(|table| (table, self.len(table) as u64)).into_iter();
        let counted = counts.filter(|(table, rows)| *rows > 0 || table.is_always_counted());
        let counts: Vec<(u8, u64)> = counted.map(|(table, rows)| (table.number(), rows)).collect();
        hash::state(cluster, SCHEMA_VERSION, height, &counts, &self.tree.root())
    }

    /// Rebuilds the tree from the rows and compares: finds anything that changed behind the cache.
    pub fn is_intact(&self) -> bool {
        let mut rebuilt = Tree::default();
        rebuilt.update(self.typed_rows().map(|row| change(&row)).collect());
        rebuilt == self.tree
    }

    /// Writes rows that are distinct and not their defaults, and returns them as stored.
    pub(crate) fn put(&mut self, rows: &[Row]) -> Vec<StoredRow> {
        for row in rows {
            self.write(row);
        }
        self.tree.update(rows.iter().map(change).collect());
        rows.iter().map(|row| (row.stored_key(), row.value())).collect()
    }

    /// Removes timestamps that are there, and returns the keys of their rows.
    pub(crate) fn remove_times(&mut self, heights: &[Height]) -> Vec<Vec<u8>> {
        let removed = heights.iter().filter_map(|height| {
            let timestamp_ms = self.times.remove(height)?;
            Some(Row::Time { height: *height, timestamp_ms })
        });
        let removed: Vec<Row> = removed.collect();
        self.tree.update(removed.iter().map(|row| (change(row).0, None)).collect());
        removed.iter().map(Row::stored_key).collect()
    }

    /// Every operator there is a ledger of, or evidence against.
    pub(crate) fn operators(&self) -> impl Iterator<Item = OperatorIndex> {
        self.operators.keys().copied().chain(self.evidence.keys().map(|offence| offence.operator))
    }

    /// Writes one row without its leaf; whether it was there before.
    fn write(&mut self, row: &Row) -> bool {
        match *row {
            Row::Nonce { sender, kind, next } => self.nonces.insert((sender, kind), next).is_some(),
            Row::Operator { operator, ledger } => self.operators.insert(operator, ledger).is_some(),
            Row::Credit { recipient, amount } => self.credits.insert(recipient, amount).is_some(),
            Row::Evidence { offence, hash, committed } => {
                self.evidence.insert(offence, Committed { hash, height: committed }).is_some()
            }
            Row::Time { height, timestamp_ms } => self.times.insert(height, timestamp_ms).is_some(),
            Row::Slash { operator, stake } => self.slashes.insert(operator, stake).is_some(),
            Row::Jail { operator, until } => self.jails.insert(operator, until).is_some(),
        }
    }

    fn typed_rows(&self) -> impl Iterator<Item = Row> {
        let nonces = self.nonces.iter().map(|((sender, kind), next)| Row::Nonce {
            sender: *sender,
            kind: *kind,
            next: *next,
        });
        let operators = self
            .operators
            .iter()
            .map(|(operator, ledger)| Row::Operator { operator: *operator, ledger: *ledger });
        let credits = self
            .credits
            .iter()
            .map(|(recipient, amount)| Row::Credit { recipient: *recipient, amount: *amount });
        let evidence = self.evidence.iter().map(|(offence, committed)| Row::Evidence {
            offence: *offence,
            hash: committed.hash,
            committed: committed.height,
        });
        let times = self.times().map(|(height, timestamp_ms)| Row::Time { height, timestamp_ms });
        let slashes =
            self.slashes.iter().map(|(operator, stake)| Row::Slash { operator: *operator, stake: *stake });
        let jails =
            self.jails.iter().map(|(operator, until)| Row::Jail { operator: *operator, until: *until });
        nonces.chain(operators).chain(credits).chain(evidence).chain(times).chain(slashes).chain(jails)
    }
}

fn change(row: &Row) -> crate::tree::Change {
    let (table, key) = (row.table().number(), row.key());
    (hash::path(table, &key), Some(hash::leaf(table, &key, &row.value())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sender: u8, next: u64) -> Row {
        Row::Nonce { sender: Address::repeat_byte(sender), kind: TxKind::PlaintextV1, next }
    }

    #[test]
    fn a_value_changed_behind_the_cache_is_found() {
        let mut state = State::default();
        state.put(&[row(1, 5), row(2, 6)]);
        assert!(state.is_intact());
        let root = state.root(&B256::ZERO, Height(1));
        state.write(&row(2, 7));
        assert_eq!(state.root(&B256::ZERO, Height(1)), root, "the cache does not see it");
        assert!(!state.is_intact());
    }

    #[test]
    fn what_an_operator_lost_and_until_when_it_is_jailed_is_read_back() {
        let mut state = State::default();
        let (one, other) = (OperatorIndex(1), OperatorIndex(2));
        let rows = state.put(&[
            Row::Slash { operator: one, stake: 5 },
            Row::Jail { operator: one, until: Height(1007) },
            Row::Jail { operator: other, until: Height(u64::MAX) },
        ]);
        assert_eq!(State::from_rows(rows), Ok(state.clone()));
        assert!(state.is_intact());
        assert_eq!([one, other].map(|operator| state.slashed(operator)), [5, 0]);
        let until = [one, other].map(|operator| state.jailed_until(operator));
        assert_eq!(until, [Some(Height(1007)), Some(Height(u64::MAX))]);
        assert_eq!(state.jailed_until(OperatorIndex(0)), None);
    }

    #[test]
    fn a_row_that_occurs_twice_is_refused() {
        let mut state = State::default();
        let mut rows = state.put(&[row(1, 5), row(2, 6)]);
        assert_eq!(State::from_rows(rows.clone()), Ok(state));
        rows.push(rows[1].clone());
        assert!(matches!(State::from_rows(rows), Err(ChainError::MalformedRow { .. })));
    }

    #[test]
    fn rows_come_back_ordered_by_table_and_key() {
        let mut state = State::default();
        let operator = Row::Operator {
            operator: OperatorIndex(0),
            ledger: OperatorLedger { blocks: 1, ..OperatorLedger::default() },
        };
        let credit = Row::Credit { recipient: Address::ZERO, amount: 1 };
        state.put(&[credit, operator, row(9, 1), row(1, 1)]);
        let keys: Vec<_> = state.rows().map(|(key, _)| key).collect();
        assert!(keys.is_sorted() && keys.len() == 4);
        assert_eq!(state.operators().collect::<Vec<_>>(), [OperatorIndex(0)]);
    }
}
