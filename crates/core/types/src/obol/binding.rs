//! Who an operator of an Obol cluster will be.
//!
//! Its node has a key of secp256k1 there and one of ed25519 here. A binding names both, and both have signed it: the old
//! one so that nobody speaks for another operator, the new one so that nobody takes another's identity for its own.
//!
//! `statement = "aequa/obol-binding/v1" ‖ 0x00 ‖ lock_hash ‖ operator ‖ identity_key ‖ enc_key`; the old key signs its
//! SHA-256, the new one the statement itself.

use crate::lock::Key32;
use crate::{DecodeError, OperatorIndex, Signature, canonical};
use alloy_primitives::{B256, FixedBytes};
use serde::{Deserialize, Serialize};

/// The only version of the format.
pub const BINDING_VERSION: &str = "aequa-obol-binding/1";
/// Largest binding in bytes.
pub const BINDING_BYTES_MAX: usize = 4096;
const TAG: &[u8] = b"aequa/obol-binding/v1\0";

/// An operator's new identity, signed with its old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// [`BINDING_VERSION`].
    pub version: String,
    /// Hash of the Obol lock.
    pub lock_hash: B256,
    /// The operator's place in it, from 0.
    pub operator: OperatorIndex,
    /// ed25519 key it signs with from now on.
    pub identity_key: Key32,
    /// X25519 key others encrypt to.
    pub enc_key: Key32,
    /// ECDSA signature (r ‖ s) by the key of its node record.
    pub enr_signature: FixedBytes<64>,
    /// ed25519 signature by the identity key.
    pub identity_signature: Signature,
}

impl Binding {
    /// Parses the canonical form and refuses every other.
    pub fn from_json(text: &str) -> Result<Self, DecodeError> {
        const WHAT: &str = "binding";
        let binding: Self = canonical::parse(WHAT, text, BINDING_BYTES_MAX)?;
        if binding.version != BINDING_VERSION {
            return Err(DecodeError::Malformed {
                what: WHAT,
                detail: format!("version is not {BINDING_VERSION}"),
            });
        }
        Ok(binding)
    }

    /// The canonical text.
    pub fn to_json(&self) -> String {
        canonical::text(self)
    }

    /// What both keys sign.
    pub fn statement(&self) -> Vec<u8> {
        let Self { lock_hash, operator, identity_key, enc_key, .. } = self;
        [TAG, lock_hash.as_slice(), &[operator.0], identity_key.as_slice(), enc_key.as_slice()].concat()
    }
}
