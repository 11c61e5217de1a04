//! The content of a transaction: bytes that consensus does not look into.

use crate::limits::TX_PAYLOAD_BYTES_MAX;
use crate::merkle::bytes_root;
use alloy_primitives::{B256, Bytes};
use ssz::{Decode, DecodeError, Encode};
use std::ops::Deref;
use tree_hash::{PackedEncoding, TreeHash, TreeHashType};

/// At most [`TX_PAYLOAD_BYTES_MAX`] bytes; `List[u8, 65536]` in SSZ.
///
/// A type of its own because a list of numbers is encoded, decoded and hashed number by number. Clones share the bytes.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Payload(Bytes);

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for Payload {
    type Error = PayloadOverflow;

    fn try_from(bytes: Vec<u8>) -> Result<Self, PayloadOverflow> {
        if bytes.len() > TX_PAYLOAD_BYTES_MAX {
            return Err(PayloadOverflow(bytes.len()));
        }
        Ok(Self(bytes.into()))
    }
}

/// A payload above its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has {0} bytes, the limit is {TX_PAYLOAD_BYTES_MAX}")]
pub struct PayloadOverflow(pub usize);

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl Encode for Payload {
    fn is_ssz_fixed_len() -> bool {
        false
    }
    fn ssz_bytes_len(&self) -> usize {
        self.0.len()
    }
    fn ssz_append(&self, buf: &mut Vec<u8>) {
        buf.extend_from_slice(&self.0);
    }
}

impl Decode for Payload {
    fn is_ssz_fixed_len() -> bool {
        false
    }
    fn from_ssz_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > TX_PAYLOAD_BYTES_MAX {
            return Err(DecodeError::BytesInvalid(format!("payload {}", PayloadOverflow(bytes.len()))));
        }
        Ok(Self(Bytes::copy_from_slice(bytes)))
    }
}

impl TreeHash for Payload {
    fn tree_hash_type() -> TreeHashType {
        TreeHashType::List
    }
    fn tree_hash_packed_encoding(&self) -> PackedEncoding {
        unreachable!("a list is never packed")
    }
    fn tree_hash_packing_factor() -> usize {
        unreachable!("a list is never packed")
    }
    fn tree_hash_root(&self) -> B256 {
        bytes_root(&self.0, TX_PAYLOAD_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssz_types::VariableList;
    use ssz_types::typenum::U65536;

    #[test]
    fn a_payload_is_encoded_and_hashed_as_a_list_of_bytes() {
        for bytes in [0, 1, 31, 32, 33, 64, 65, 1000, TX_PAYLOAD_BYTES_MAX - 1, TX_PAYLOAD_BYTES_MAX] {
            let bytes: Vec<u8> = (0..bytes).map(|at| at as u8 ^ 0xa5).collect();
            let list = VariableList::<u8, U65536>::try_from(bytes.clone()).unwrap();
            let payload = Payload::try_from(bytes.clone()).unwrap();
            assert_eq!(payload.as_ssz_bytes(), list.as_ssz_bytes());
            assert_eq!(payload.tree_hash_root(), list.tree_hash_root(), "{} bytes", bytes.len());
            assert_eq!(Payload::from_ssz_bytes(&bytes), Ok(payload));
        }
    }

    #[test]
    fn a_payload_above_its_limit_is_refused_with_both_figures() {
        let bytes = vec![7; TX_PAYLOAD_BYTES_MAX + 1];
        assert!(Payload::from_ssz_bytes(&bytes).is_err());
        let refused = Payload::try_from(bytes).unwrap_err();
        assert_eq!(refused.to_string(), "has 65537 bytes, the limit is 65536");
    }
}
