//! What the root of a state proves: rows of it, and that others are not there.
//!
//! A proof holds what the root is made of beside cluster, height and tree, and of the tree the ways to its rows. Who
//! checks it computes the root and compares it with one that is certified: the header of block n+1 carries that of the
//! state n. What was changed in a proof gives another root, or none. Counts and schema version cannot be left out: the
//! tree alone says nothing of which encoding its rows are in.

use crate::row::{self, Row, SCHEMA_VERSION};
use crate::tree::RowProof;
use crate::{ProofError, hash};
use aequa_types::json::{JsonError, RowJson, RowProofJson, StateProofJson, TableJson};
use aequa_types::{Address, ClusterId, Height, TxKind};
use alloy_primitives::B256;
use std::collections::BTreeMap;

/// Rows of one state, or that there are none, and the rest of what its root is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateProof {
    /// Version of the tables and their encodings.
    pub schema: u32,
    /// Number and rows of each table that the root counts, in the order of numbers.
    pub counts: Vec<(u8, u64)>,
    /// By the stored key of the row asked for: the way to where it is, or would be.
    pub rows: BTreeMap<Vec<u8>, RowProof>,
}

impl StateProof {
    /// The root of the one state of `cluster` after `height` in which all of this holds.
    pub fn root(&self, cluster: &ClusterId, height: Height) -> Result<B256, ProofError> {
        if self.schema != SCHEMA_VERSION {
            return Err(ProofError::Schema { found: self.schema, known: SCHEMA_VERSION });
        }
        if self.counts.len() > usize::from(u8::MAX) {
            return Err(ProofError::Counts(self.counts.len()));
        }
        let mut tree = None;
        for (key, proof) in &self.rows {
            let found = proof.tree_root(key).ok_or_else(|| ProofError::Way { key: row::hex(key) })?;
            if *tree.get_or_insert(found) != found {
                return Err(ProofError::Trees { key: row::hex(key) });
            }
        }
        let tree = tree.ok_or(ProofError::Empty)?;
        Ok(hash::state(cluster, self.schema, height, &self.counts, &tree))
    }

    /// What is proven of a row: its value, or that there is none.
    pub fn value(&self, key: &[u8]) -> Result<Option<&[u8]>, ProofError> {
        let proof = self.rows.get(key).ok_or_else(|| ProofError::Missing { key: row::hex(key) })?;
        Ok(proof.value(key))
    }
}

/// What a state says of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The nonce its next transaction of each type must have.
    pub nonces: Vec<(TxKind, u64)>,
    /// Bids credited to it.
    pub credit: u128,
}

impl Account {
    /// The stored keys of all rows that an address can have.
    pub fn keys(address: &Address) -> Vec<Vec<u8>> {
        let nonces = TxKind::ALL.map(|kind| nonce(address, kind));
        nonces.iter().chain([&credit(address)]).map(Row::stored_key).collect()
    }

    /// The account of an address as a proof shows it. Whether the proof holds, its root says.
    pub fn proven(address: &Address, proof: &StateProof) -> Result<Self, ProofError> {
        let mut account = Self { nonces: Vec::with_capacity(TxKind::ALL.len()), credit: 0 };
        let rows = TxKind::ALL.map(|kind| nonce(address, kind));
        for default in rows.into_iter().chain([credit(address)]) {
            let key = default.stored_key();
            let row = proof.value(&key)?.map_or(Ok(default), |value| Row::decode(&key, value))?;
            match row {
                Row::Nonce { kind, next, .. } => account.nonces.push((kind, next)),
                Row::Credit { amount, .. } => account.credit = amount,
                Row::Operator { .. }
                | Row::Evidence { .. }
                | Row::Time { .. }
                | Row::Slash { .. }
                | Row::Jail { .. } => {}
            }
        }
        Ok(account)
    }
}

fn nonce(sender: &Address, kind: TxKind) -> Row {
    Row::Nonce { sender: *sender, kind, next: 0 }
}

fn credit(recipient: &Address) -> Row {
    Row::Credit { recipient: *recipient, amount: 0 }
}

impl From<&StateProof> for StateProofJson {
    fn from(proof: &StateProof) -> Self {
        let tables = proof.counts.iter().map(|(number, rows)| TableJson { number: *number, rows: *rows });
        let rows = proof.rows.iter().map(|(key, proof)| RowProofJson {
            key: key.clone(),
            beside: proof.beside.clone(),
            end: proof.end.clone().map(|(key, value)| RowJson { key, value }),
        });
        Self { schema: proof.schema, tables: tables.collect(), rows: rows.collect() }
    }
}

impl TryFrom<StateProofJson> for StateProof {
    type Error = JsonError;

    fn try_from(json: StateProofJson) -> Result<Self, JsonError> {
        let StateProofJson { schema, tables, rows } = json;
        let mut distinct = BTreeMap::new();
        for RowProofJson { key, beside, end } in rows {
            let end = end.map(|RowJson { key, value }| (key, value));
            if distinct.insert(key, RowProof { beside, end }).is_some() {
                return Err(JsonError::Field { field: "rows", problem: "a key occurs twice".into() });
            }
        }
        let counts = tables.into_iter().map(|TableJson { number, rows }| (number, rows)).collect();
        Ok(Self { schema, counts, rows: distinct })
    }
}
