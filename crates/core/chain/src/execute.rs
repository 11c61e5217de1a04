//! Execution of a block over a state. Computes rows; writes nothing.

use crate::evidence::TIME_EVERY_HEIGHTS;
use crate::row::{OperatorLedger, Row};
use crate::{ChainError, State};
use aequa_types::{Address, CheckedBlock, Height, OperatorIndex, TxBody, TxKind};
use std::collections::BTreeMap;

/// The rows a block changes, with their values after it, ordered by table.
pub(crate) fn execute(state: &State, block: &CheckedBlock) -> Result<Vec<Row>, ChainError> {
    let (header, proposer) = (block.header(), block.header().proposer);
    let mut execution = Execution {
        state,
        nonces: BTreeMap::new(),
        credits: BTreeMap::new(),
        ledger: state.operator(proposer),
    };
    for tx in block.items() {
        execution.item(tx.body())?;
    }
    execution.ledger.blocks = execution.ledger.blocks.saturating_add(1);
    let mut rows = execution.into_rows(proposer);
    rows.extend(evidence_rows(block));
    if header.height.0.is_multiple_of(TIME_EVERY_HEIGHTS) {
        rows.push(Row::Time { height: header.height, timestamp_ms: header.timestamp_ms });
    }
    Ok(rows)
}

pub(crate) fn evidence_rows(block: &CheckedBlock) -> impl Iterator<Item = Row> {
    let committed: Height = block.header().height;
    block.evidence().iter().map(move |evidence| Row::Evidence {
        offence: evidence.offence(),
        hash: evidence.hash(),
        committed,
    })
}

struct Execution<'a> {
    state: &'a State,
    nonces: BTreeMap<(Address, TxKind), u64>,
    credits: BTreeMap<Address, u128>,
    ledger: OperatorLedger,
}

impl Execution<'_> {
    fn item(&mut self, body: &TxBody) -> Result<(), ChainError> {
        self.use_nonce(body)?;
        let amount = u128::from(body.key());
        match body {
            TxBody::Plaintext(_) => self.ledger.fees = self.ledger.fees.saturating_add(amount),
            TxBody::AuctionBid(bid) => {
                self.ledger.bids = self.ledger.bids.saturating_add(amount);
                self.credit(bid.fee_recipient, amount);
            }
        }
        Ok(())
    }

    fn use_nonce(&mut self, body: &TxBody) -> Result<(), ChainError> {
        let (sender, kind, found) = (body.from(), body.kind(), body.nonce());
        let next = self.nonces.entry((sender, kind)).or_insert_with(|| self.state.nonce(&sender, kind));
        let wrong = ChainError::Nonce { sender, kind, found, expected: *next };
        if found != *next {
            return Err(wrong);
        }
        *next = found.checked_add(1).ok_or(wrong)?;
        Ok(())
    }

    /// A credit of nothing leaves no row.
    fn credit(&mut self, recipient: Address, amount: u128) {
        if amount > 0 {
            let sum = self.credits.entry(recipient).or_insert_with(|| self.state.credit(&recipient));
            *sum = sum.saturating_add(amount);
        }
    }

    fn into_rows(self, proposer: OperatorIndex) -> Vec<Row> {
        let nonces = self.nonces.into_iter().map(|((sender, kind), next)| Row::Nonce { sender, kind, next });
        let operator = Row::Operator { operator: proposer, ledger: self.ledger };
        let credits = self.credits.into_iter().map(|(recipient, amount)| Row::Credit { recipient, amount });
        nonces.chain([operator]).chain(credits).collect()
    }
}
