//! Keys and small values of the chain store. Numbers are big-endian, so keys sort like numbers.

use super::{Roots, Tip};
use crate::StorageError;
use aequa_types::block::Items;
use aequa_types::evidence::EvidenceList;
use aequa_types::{Block, Digest, DutyId, DutyKind, Header, Height, Slot};
use alloy_primitives::B256;
use ssz::{BYTES_PER_LENGTH_OFFSET, Decode as _, Encode as _, SszEncoder};
use ssz_derive::{Decode, Encode};

/// Largest encoded [`HeightRow`]: a header with the longest leader proof is half of it.
const HEIGHT_ROW_BYTES_MAX: usize = 1024;

/// What is kept per height beside body and certificate: all that is asked about many heights at once.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct HeightRow {
    pub header: Header,
    pub digest: Digest,
    pub state_root: B256,
    pub history_root: B256,
}

impl HeightRow {
    pub fn decode(bytes: &[u8]) -> Result<Self, StorageError> {
        aequa_types::decode("height row", bytes, HEIGHT_ROW_BYTES_MAX).map_err(corrupt)
    }

    pub fn tip(&self) -> Tip {
        let Self { header, digest, state_root, history_root } = self;
        Tip {
            height: header.height,
            digest: *digest,
            timestamp_ms: header.timestamp_ms,
            state_root: *state_root,
            history_root: *history_root,
        }
    }

    pub fn roots(&self) -> Roots {
        Roots { state_root: self.state_root, history_root: self.history_root }
    }
}

/// A block without its header.
#[derive(Debug, Decode)]
pub(super) struct Body {
    pub items: Items,
    pub evidence: EvidenceList,
}

impl Body {
    /// The body of a block, encoded. Borrowed: a block is megabytes.
    pub fn encode(block: &Block) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(block.ssz_bytes_len());
        let mut encoder = SszEncoder::container(&mut bytes, 2 * BYTES_PER_LENGTH_OFFSET);
        encoder.append(&block.items);
        encoder.append(&block.evidence);
        encoder.finalize();
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, StorageError> {
        Self::from_ssz_bytes(bytes).map_err(|error| corrupt(format!("block unreadable: {error:?}")))
    }
}

/// Key of bodies, certificates and height rows.
pub(super) fn height_key(height: Height) -> [u8; 8] {
    height.0.to_be_bytes()
}

pub(super) fn height_of_key(key: &[u8]) -> Result<Height, StorageError> {
    let bytes = key.try_into().map_err(|_| corrupt("height key of another length"))?;
    Ok(Height(u64::from_be_bytes(bytes)))
}

pub(super) fn slot_key(slot: Slot) -> [u8; 8] {
    slot.0.to_be_bytes()
}

pub(super) fn slot_of_key(key: &[u8]) -> Result<Slot, StorageError> {
    let bytes = key.try_into().map_err(|_| corrupt("slot key of another length"))?;
    Ok(Slot(u64::from_be_bytes(bytes)))
}

/// Slot first, so that the newest results of all kinds lie together.
pub(super) fn duty_key(duty: DutyId) -> [u8; 9] {
    let mut key = [0; 9];
    key[..8].copy_from_slice(&slot_key(duty.slot));
    key[8] = duty.kind.number();
    key
}

pub(super) fn duty_of_key(key: &[u8]) -> Result<DutyId, StorageError> {
    let bad = || corrupt("duty key of no duty");
    let (number, slot) = key.split_last().ok_or_else(bad)?;
    Ok(DutyId { kind: DutyKind::of_number(*number).ok_or_else(bad)?, slot: slot_of_key(slot)? })
}

/// Where a transaction was included.
pub(super) fn place_value(height: Height, index: u32) -> [u8; 12] {
    let mut value = [0; 12];
    value[..8].copy_from_slice(&height_key(height));
    value[8..].copy_from_slice(&index.to_be_bytes());
    value
}

pub(super) fn place_of_value(value: &[u8]) -> Result<(Height, u32), StorageError> {
    let (height, index) =
        value.split_first_chunk::<8>().ok_or_else(|| corrupt("transaction place too short"))?;
    let index = index.try_into().map_err(|_| corrupt("transaction place of another length"))?;
    Ok((Height(u64::from_be_bytes(*height)), u32::from_be_bytes(index)))
}

pub(super) fn corrupt(reason: impl ToString) -> StorageError {
    StorageError::ChainCorrupt { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_sort_like_numbers(a: u64, b: u64) {
            prop_assert_eq!(height_key(Height(a)).cmp(&height_key(Height(b))), a.cmp(&b));
        }

        #[test]
        fn keys_and_values_are_read_back(height: u64, index: u32, kind in 0usize..3) {
            let height = Height(height);
            prop_assert_eq!(height_of_key(&height_key(height)).unwrap(), height);
            prop_assert_eq!(place_of_value(&place_value(height, index)).unwrap(), (height, index));
            let duty = DutyId { kind: DutyKind::ALL[kind], slot: Slot(height.0) };
            prop_assert_eq!(duty_of_key(&duty_key(duty)).unwrap(), duty);
        }

        #[test]
        fn bytes_of_another_kind_are_corrupt_and_not_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = place_of_value(&bytes);
            let _ = height_of_key(&bytes);
            let _ = duty_of_key(&bytes);
            let _ = HeightRow::decode(&bytes);
        }
    }

    #[test]
    fn a_height_row_with_the_longest_header_is_within_its_cap() {
        let row = HeightRow {
            header: Header {
                cluster_id: B256::repeat_byte(1),
                height: Height(2),
                parent_root: B256::repeat_byte(3),
                timestamp_ms: 4,
                proposer: aequa_types::OperatorIndex(5),
                policy_hash: B256::repeat_byte(6),
                payload_root: B256::repeat_byte(7),
                evidence_root: B256::repeat_byte(8),
                state_root: B256::repeat_byte(9),
                leader_proof: vec![10; 128].try_into().unwrap(),
                total_fees: aequa_types::Amount::from(11),
                total_bids: aequa_types::Amount::MAX,
                items: 13,
            },
            digest: B256::repeat_byte(14),
            state_root: B256::repeat_byte(15),
            history_root: B256::repeat_byte(16),
        };
        assert_eq!(HeightRow::decode(&row.as_ssz_bytes()).unwrap(), row);
    }
}
