//! Layout of the file. Pure: bytes in, entries out.
//!
//! A slot is 64 bytes and begins at a multiple of 64, so no sector of any disk holds a part of one.

use crate::StorageError;
use crate::frame::{Frame, FrameFault, FrameKind};
use aequa_types::statement::Kind;
use aequa_types::{ClusterId, Domain, InstanceId, OperatorIndex, Round, VoteKey, VoteRoot};
use alloy_primitives::B256;

/// Frame at the start of the file.
pub(super) const HEAD_FRAME: FrameKind = FrameKind {
    name: "signing database",
    magic: *b"MARK",
    version: 1,
    flags_known: 0,
    payload_bytes_max: HEAD_PAYLOAD_BYTES,
};

/// Cluster id, operator, zeros up to the first slot.
const HEAD_PAYLOAD_BYTES: usize = SLOT_BYTES - crate::frame::HEADER_BYTES;
/// Size of a slot, and of the head.
pub(super) const SLOT_BYTES: usize = 64;
/// Kind number of a watermark.
const FLOOR: u8 = 0;

/// What one slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// A statement was signed.
    Vote(VoteRoot),
    /// Nothing is signed in the domain of this instance, there and below.
    Watermark(InstanceId),
}

/// What the bytes of a slot are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Zeros: never written.
    Free,
    /// A whole entry.
    Taken(Entry),
    /// Written, and not whole.
    Unreadable,
}

impl Entry {
    pub fn encode(&self) -> [u8; SLOT_BYTES] {
        let (kind, instance, round, digest) = match self {
            Self::Vote(VoteRoot { key: VoteKey { instance, round, kind }, root }) => {
                (kind.number(), instance, *round, *root)
            }
            Self::Watermark(instance) => (FLOOR, instance, Round(0), B256::ZERO),
        };
        let mut slot = [0; SLOT_BYTES];
        slot[4] = kind;
        slot[5] = instance.domain().number();
        slot[8..16].copy_from_slice(&instance.number().to_be_bytes());
        slot[16..24].copy_from_slice(&round.0.to_be_bytes());
        slot[24..56].copy_from_slice(digest.as_slice());
        let crc = crc32fast::hash(&slot[4..]);
        slot[..4].copy_from_slice(&crc.to_be_bytes());
        slot
    }

    fn decode(slot: &[u8; SLOT_BYTES]) -> Option<Self> {
        let (crc, rest) = slot.split_first_chunk::<4>()?;
        if crc32fast::hash(rest) != u32::from_be_bytes(*crc) {
            return None;
        }
        let number = u64::from_be_bytes(slot[8..16].try_into().ok()?);
        let instance = Domain::of_number(slot[5])?.instance(number);
        if slot[4] == FLOOR {
            return Some(Self::Watermark(instance));
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.number() == slot[4])?;
        let round = Round(u64::from_be_bytes(slot[16..24].try_into().ok()?));
        let key = VoteKey { instance, round, kind };
        Some(Self::Vote(VoteRoot { key, root: B256::from_slice(&slot[24..56]) }))
    }
}

impl Slot {
    pub fn read(slot: &[u8; SLOT_BYTES]) -> Self {
        match Entry::decode(slot) {
            Some(entry) => Self::Taken(entry),
            None if slot.iter().all(|byte| *byte == 0) => Self::Free,
            None => Self::Unreadable,
        }
    }
}

/// The first [`SLOT_BYTES`] bytes of the file.
pub(super) fn encode_head(cluster_id: ClusterId, operator: OperatorIndex) -> Result<Vec<u8>, StorageError> {
    let mut payload = [0; HEAD_PAYLOAD_BYTES];
    payload[..32].copy_from_slice(cluster_id.as_slice());
    payload[32] = operator.0;
    HEAD_FRAME.encode(0, &payload)
}

/// Whose file it is.
pub(super) fn decode_head(file: &[u8]) -> Result<(ClusterId, OperatorIndex), FrameFault> {
    let head = file.get(..SLOT_BYTES).ok_or(FrameFault::Unreadable("shorter than its head"))?;
    let Frame { payload, .. } = HEAD_FRAME.parse(head)?;
    let (cluster_id, rest) = payload.split_at(32);
    Ok((ClusterId::from_slice(cluster_id), OperatorIndex(rest[0])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::DutyKind;

    fn vote() -> Entry {
        let instance = InstanceId::duty(DutyKind::Sync, aequa_types::Slot(1 << 61));
        let key = VoteKey { instance, round: Round(u64::MAX), kind: Kind::RoundChange };
        Entry::Vote(VoteRoot { key, root: B256::repeat_byte(0xd1) })
    }

    #[test]
    fn entries_are_read_back_and_every_flipped_bit_is_noticed() {
        for entry in [vote(), Entry::Watermark(InstanceId::duty(DutyKind::Attester, aequa_types::Slot(7)))] {
            let slot = entry.encode();
            assert_eq!(Slot::read(&slot), Slot::Taken(entry));
            for bit in 0..SLOT_BYTES * 8 {
                let mut flipped = slot;
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Slot::read(&flipped), Slot::Unreadable, "bit {bit}");
            }
        }
        assert_eq!(Slot::read(&[0; SLOT_BYTES]), Slot::Free);
    }

    #[test]
    fn the_head_fills_one_slot() {
        let owner = (ClusterId::repeat_byte(3), OperatorIndex(2));
        let head = encode_head(owner.0, owner.1).unwrap();
        assert_eq!(head.len(), SLOT_BYTES);
        assert_eq!(decode_head(&head), Ok(owner));
    }
}
