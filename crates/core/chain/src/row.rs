//! Tables and the one encoding of their rows.

use crate::ChainError;
use aequa_types::{
    Address, Domain, Height, Kind, Offence, OperatorIndex, Round, TimestampMs, TxKind, VoteKey,
};
use alloy_primitives::B256;

/// Version of the tables and their encodings; part of every state root.
pub const SCHEMA_VERSION: u32 = 2;

/// The tables of the state. All of them are counted in the state root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Next nonce per (sender, type).
    Nonces,
    /// What every operator's blocks brought in.
    Operators,
    /// Bids credited to fee recipients.
    Credits,
    /// Evidence committed against operators.
    Evidence,
    /// Timestamps of some blocks, by which evidence ages.
    Times,
    /// Stake taken from operators. Nothing writes it before penalties are in the lock.
    Slashes,
    /// Until when operators are jailed. Nothing writes it before penalties are in the lock.
    Jails,
}

impl Table {
    /// All tables, by number.
    pub const ALL: [Table; 7] = [
        Table::Nonces,
        Table::Operators,
        Table::Credits,
        Table::Evidence,
        Table::Times,
        Table::Slashes,
        Table::Jails,
    ];

    /// The first byte of a stored key.
    pub fn number(self) -> u8 {
        match self {
            Table::Nonces => 1,
            Table::Operators => 2,
            Table::Credits => 3,
            Table::Evidence => 4,
            Table::Times => 5,
            Table::Slashes => 6,
            Table::Jails => 7,
        }
    }

    /// The table's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Table::Nonces => "nonces",
            Table::Operators => "operators",
            Table::Credits => "credits",
            Table::Evidence => "evidence",
            Table::Times => "times",
            Table::Slashes => "slashes",
            Table::Jails => "jails",
        }
    }

    /// Whether the state root counts its rows when there are none: so it does with the tables of the first
    /// states, and a later table changes no root before it has a row.
    pub(crate) fn is_always_counted(self) -> bool {
        self.number() <= Table::Times.number()
    }

    /// Its place among all tables.
    pub(crate) fn position(self) -> usize {
        usize::from(self.number()) - 1
    }

    /// The table of this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.number() == number)
    }
}

/// What an operator's blocks brought in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OperatorLedger {
    /// Sum of the fees in its blocks.
    pub fees: u128,
    /// Sum of the bids in its blocks.
    pub bids: u128,
    /// Blocks it proposed that were decided.
    pub blocks: u64,
}

/// One row of any table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    Nonce {
        sender: Address,
        kind: TxKind,
        next: u64,
    },
    Operator {
        operator: OperatorIndex,
        ledger: OperatorLedger,
    },
    Credit {
        recipient: Address,
        amount: u128,
    },
    Evidence {
        offence: Offence,
        hash: B256,
        committed: Height,
    },
    Time {
        height: Height,
        timestamp_ms: TimestampMs,
    },
    /// Of the stake in the lock so much is gone.
    Slash {
        operator: OperatorIndex,
        stake: u64,
    },
    /// It leads nothing up to this height; the highest one is for ever.
    Jail {
        operator: OperatorIndex,
        until: Height,
    },
}

impl Row {
    pub fn table(&self) -> Table {
        match self {
            Row::Nonce { .. } => Table::Nonces,
            Row::Operator { .. } => Table::Operators,
            Row::Credit { .. } => Table::Credits,
            Row::Evidence { .. } => Table::Evidence,
            Row::Time { .. } => Table::Times,
            Row::Slash { .. } => Table::Slashes,
            Row::Jail { .. } => Table::Jails,
        }
    }

    pub fn key(&self) -> Vec<u8> {
        match self {
            Row::Nonce { sender, kind, .. } => [sender.as_slice(), &[kind.number()]].concat(),
            Row::Operator { operator, .. } | Row::Slash { operator, .. } | Row::Jail { operator, .. } => {
                vec![operator.0]
            }
            Row::Credit { recipient, .. } => recipient.to_vec(),
            Row::Evidence { offence, .. } => offence_key(offence),
            Row::Time { height, .. } => height.0.to_be_bytes().to_vec(),
        }
    }

    pub fn value(&self) -> Vec<u8> {
        match self {
            Row::Nonce { next, .. } => next.to_be_bytes().to_vec(),
            Row::Operator { ledger, .. } => {
                [&ledger.fees.to_be_bytes()[..], &ledger.bids.to_be_bytes(), &ledger.blocks.to_be_bytes()]
                    .concat()
            }
            Row::Credit { amount, .. } => amount.to_be_bytes().to_vec(),
            Row::Evidence { hash, committed, .. } => [hash.as_slice(), &committed.0.to_be_bytes()].concat(),
            Row::Time { timestamp_ms, .. } => timestamp_ms.to_be_bytes().to_vec(),
            Row::Slash { stake, .. } => stake.to_be_bytes().to_vec(),
            Row::Jail { until, .. } => until.0.to_be_bytes().to_vec(),
        }
    }

    /// The key under which the row is stored.
    pub fn stored_key(&self) -> Vec<u8> {
        let mut key = vec![self.table().number()];
        key.extend(self.key());
        key
    }

    /// Reads a stored row back; takes only what [`Row::stored_key`] and [`Row::value`] write.
    pub fn decode(stored_key: &[u8], value: &[u8]) -> Result<Self, ChainError> {
        Self::read(stored_key, value)
            .map_err(|reason| ChainError::MalformedRow { key: hex(stored_key), reason })
    }

    fn read(stored_key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let (number, key) = stored_key.split_first().ok_or("empty key")?;
        let row = match Table::from_number(*number).ok_or("unknown table")? {
            Table::Nonces => {
                let key: [u8; 21] = key.try_into().map_err(|_| "key is not 21 bytes")?;
                let kind = TxKind::ALL.into_iter().find(|kind| kind.number() == key[20]);
                let next = read_u64(value)?;
                let kind = kind.ok_or("unknown transaction type")?;
                Row::Nonce { sender: Address::from_slice(&key[..20]), kind, next }
            }
            Table::Operators => Row::Operator { operator: read_operator(key)?, ledger: read_ledger(value)? },
            Table::Credits => {
                let key: [u8; 20] = key.try_into().map_err(|_| "key is not 20 bytes")?;
                let amount = u128::from_be_bytes(value.try_into().map_err(|_| "value is not 16 bytes")?);
                Row::Credit { recipient: Address::from(key), amount }
            }
            Table::Evidence => {
                let (hash, committed) = value.split_at_checked(32).ok_or("value has no hash")?;
                let committed = committed.try_into().map_err(|_| "value is not 40 bytes")?;
                let committed = Height(u64::from_be_bytes(committed));
                Row::Evidence { offence: read_offence(key)?, hash: B256::from_slice(hash), committed }
            }
            Table::Times => {
                let height = u64::from_be_bytes(key.try_into().map_err(|_| "key is not 8 bytes")?);
                Row::Time { height: Height(height), timestamp_ms: read_u64(value)? }
            }
            Table::Slashes => Row::Slash { operator: read_operator(key)?, stake: read_u64(value)? },
            Table::Jails => Row::Jail { operator: read_operator(key)?, until: Height(read_u64(value)?) },
        };
        if row.is_default() { Err("row holds only its default") } else { Ok(row) }
    }

    fn is_default(&self) -> bool {
        match self {
            Row::Nonce { next, .. } => *next == 0,
            Row::Operator { ledger, .. } => ledger.blocks == 0,
            Row::Credit { amount, .. } => *amount == 0,
            // No block has height 0, nor that timestamp.
            Row::Evidence { committed, .. } => *committed == Height(0),
            Row::Time { timestamp_ms, .. } => *timestamp_ms == 0,
            Row::Slash { stake, .. } => *stake == 0,
            Row::Jail { until, .. } => *until == Height(0),
        }
    }
}

fn read_operator(key: &[u8]) -> Result<OperatorIndex, &'static str> {
    let [operator] = key else { return Err("key is not 1 byte") };
    Ok(OperatorIndex(*operator))
}

fn read_u64(value: &[u8]) -> Result<u64, &'static str> {
    Ok(u64::from_be_bytes(value.try_into().map_err(|_| "value is not 8 bytes")?))
}

/// In the order of offences, so that rows are ordered as the map of them is.
fn offence_key(offence: &Offence) -> Vec<u8> {
    let Offence { operator, key: VoteKey { instance, round, kind } } = offence;
    let mut key = vec![operator.0, instance.domain().number()];
    key.extend(instance.number().to_be_bytes());
    key.extend(round.0.to_be_bytes());
    key.push(kind.number());
    key
}

fn read_offence(key: &[u8]) -> Result<Offence, &'static str> {
    let key: &[u8; 19] = key.try_into().map_err(|_| "key is not 19 bytes")?;
    let [operator, domain, numbers @ .., kind] = key;
    let (number, round) = numbers.split_first_chunk().ok_or("no height")?;
    let round = round.try_into().map_err(|_| "no round")?;
    let domain = Domain::of_number(*domain).ok_or("unknown domain")?;
    let key = VoteKey {
        instance: domain.instance(u64::from_be_bytes(*number)),
        round: Round(u64::from_be_bytes(round)),
        kind: Kind::ALL.into_iter().find(|known| known.number() == *kind).ok_or("unknown kind")?,
    };
    Ok(Offence { operator: OperatorIndex(*operator), key })
}

fn read_ledger(value: &[u8]) -> Result<OperatorLedger, &'static str> {
    let value: &[u8; 40] = value.try_into().map_err(|_| "value is not 40 bytes")?;
    let (fees, rest) = value.split_first_chunk().ok_or("no fees")?;
    let (bids, rest) = rest.split_first_chunk().ok_or("no bids")?;
    let blocks = rest.first_chunk().ok_or("no blocks")?;
    Ok(OperatorLedger {
        fees: u128::from_be_bytes(*fees),
        bids: u128::from_be_bytes(*bids),
        blocks: u64::from_be_bytes(*blocks),
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::{DutyKind, InstanceId, Slot};

    fn offence() -> Offence {
        let instance = InstanceId::duty(DutyKind::Sync, Slot(1 << 40));
        let key = VoteKey { instance, round: Round(257), kind: Kind::RoundChange };
        Offence { operator: OperatorIndex(3), key }
    }

    fn rows() -> [Row; 7] {
        let ledger = OperatorLedger { fees: 1 << 100, bids: 7, blocks: 3 };
        [
            Row::Nonce { sender: Address::repeat_byte(7), kind: TxKind::AuctionBidV1, next: 258 },
            Row::Operator { operator: OperatorIndex(2), ledger },
            Row::Credit { recipient: Address::repeat_byte(9), amount: u128::MAX },
            Row::Evidence { offence: offence(), hash: B256::repeat_byte(4), committed: Height(7) },
            Row::Time { height: Height(3000), timestamp_ms: 1_700_000_000_000 },
            Row::Slash { operator: OperatorIndex(2), stake: u64::MAX },
            Row::Jail { operator: OperatorIndex(2), until: Height(u64::MAX) },
        ]
    }

    #[test]
    fn a_row_is_read_back_as_it_was_written() {
        for row in rows() {
            assert_eq!(Row::decode(&row.stored_key(), &row.value()), Ok(row));
        }
    }

    #[test]
    fn every_table_has_a_row_and_its_own_number() {
        assert_eq!(rows().map(|row| row.table()), Table::ALL);
        assert_eq!(Table::ALL.map(|table| table.number()), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn rows_of_other_lengths_tables_or_types_are_refused() {
        for row in rows() {
            let (key, value) = (row.stored_key(), row.value());
            assert!(Row::decode(&key[..key.len() - 1], &value).is_err());
            assert!(Row::decode(&key, &value[1..]).is_err());
            assert!(Row::decode(&[&key[..], &[0]].concat(), &value).is_err());
            assert!(Row::decode(&key, &[&value[..], &[0]].concat()).is_err());
            assert!(Row::decode(&key, &vec![0; value.len()]).is_err(), "a default is not stored");
        }
        assert!(Row::decode(&[], &[]).is_err());
        assert!(Row::decode(&[8, 0], &[1]).is_err());
        let mut key = rows()[0].stored_key();
        key[21] = 9;
        let error = Row::decode(&key, &rows()[0].value()).unwrap_err();
        assert!(error.to_string().ends_with("unknown transaction type"), "{error}");
    }
}
