//! Which builder policies can be followed.

use crate::PolicyError;
use aequa_types::BuilderPolicy;
use aequa_types::limits::{BLOCK_ITEMS_MAX, EVIDENCE_BYTES_MAX, EVIDENCE_PER_BLOCK_MAX, VALUE_BYTES_MAX};

/// Bytes of a block that are not items: the header with the longest leader proof, as much evidence as a
/// block takes, and offsets.
const HEAD_BYTES_MAX: u64 = 1024 + (EVIDENCE_PER_BLOCK_MAX * (EVIDENCE_BYTES_MAX + 4)) as u64;
/// Bytes per item on top of its own size: its SSZ offset.
const ITEM_OFFSET_BYTES: u64 = 4;

/// Refuses policies whose blocks could not be built, encoded or checked.
pub fn validate_policy(policy: &BuilderPolicy) -> Result<(), PolicyError> {
    if policy.batch_ms != 0 {
        return Err(PolicyError::Unsupported("batch_ms"));
    }
    if policy.use_dfba {
        return Err(PolicyError::Unsupported("use_dfba"));
    }
    if policy.order.is_empty() {
        return Err(PolicyError::EmptyOrder);
    }
    for (position, kind) in policy.order.iter().enumerate() {
        if policy.order[..position].contains(kind) {
            return Err(PolicyError::RepeatedType(*kind));
        }
    }
    in_range("max_n", policy.max_n, BLOCK_ITEMS_MAX as u64)?;
    let bytes_max = VALUE_BYTES_MAX as u64 - HEAD_BYTES_MAX - policy.max_n * ITEM_OFFSET_BYTES;
    in_range("max_bytes", policy.max_bytes, bytes_max)
}

fn in_range(name: &'static str, value: u64, max: u64) -> Result<(), PolicyError> {
    if (1..=max).contains(&value) {
        Ok(())
    } else {
        Err(PolicyError::OutOfRange { name, value, min: 1, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::TxKind;

    #[test]
    fn the_default_policy_can_be_followed() {
        assert_eq!(validate_policy(&BuilderPolicy::default()), Ok(()));
    }

    #[test]
    fn options_that_are_not_implemented_are_refused_by_name() {
        let batch = BuilderPolicy { batch_ms: 500, ..BuilderPolicy::default() };
        assert_eq!(
            validate_policy(&batch).unwrap_err().to_string(),
            "builder policy sets batch_ms, which is not implemented"
        );
        let pairing = BuilderPolicy { use_dfba: true, ..BuilderPolicy::default() };
        assert_eq!(validate_policy(&pairing), Err(PolicyError::Unsupported("use_dfba")));
    }

    #[test]
    fn numbers_are_bounded_by_what_a_block_can_hold() {
        let with = |max_n, max_bytes| BuilderPolicy { max_n, max_bytes, ..BuilderPolicy::default() };
        assert!(validate_policy(&with(16_384, 1 << 20)).is_ok());
        assert!(validate_policy(&with(16_385, 1 << 20)).is_err());
        assert!(validate_policy(&with(0, 1 << 20)).is_err());
        assert!(validate_policy(&with(1, 0)).is_err());
        assert!(validate_policy(&with(1, (3 << 20) - 17_476)).is_ok());
        assert!(validate_policy(&with(1, (3 << 20) - 17_475)).is_err());
    }

    #[test]
    fn the_order_names_every_type_once_and_at_least_one() {
        let with = |order: &[TxKind]| BuilderPolicy { order: order.to_vec(), ..BuilderPolicy::default() };
        assert_eq!(validate_policy(&with(&[])), Err(PolicyError::EmptyOrder));
        let twice = with(&[TxKind::PlaintextV1, TxKind::AuctionBidV1, TxKind::PlaintextV1]);
        assert_eq!(validate_policy(&twice), Err(PolicyError::RepeatedType(TxKind::PlaintextV1)));
        assert_eq!(validate_policy(&with(&[TxKind::PlaintextV1])), Ok(()));
    }
}
