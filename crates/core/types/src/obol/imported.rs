//! What an operator keeps of an Obol cluster it comes from: the validators, whose public data were verified, and that
//! their keys may not sign yet.
//!
//! Another machine may still sign with these keys. So each is held: whoever finds it here signs nothing with it unless
//! it knows from elsewhere that it was released, after two finalized epochs in which nobody saw an attestation of it.
//! Nothing in this file ever says that it was; what says so may be lost, and the key waits again.

use super::ObolVersion;
use crate::lock::{Key32, LOCK_BYTES_MAX};
use crate::validator::{
    BuilderRegistration, Deposit, Validator, ValidatorKey, ValidatorSignature, WithdrawalCredentials,
};
use crate::{Address, DecodeError, OperatorIndex, canonical};
use alloy_primitives::{B256, FixedBytes};
use serde::{Deserialize, Serialize};

/// The only version of the format.
pub const IMPORTED_VERSION: &str = "aequa-imported/1";

/// The contents of `imported-validators.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedCluster {
    /// [`IMPORTED_VERSION`].
    pub version: String,
    /// Hash of the Obol lock all of this is from.
    pub obol_lock_hash: B256,
    /// Version of its format.
    pub obol_version: String,
    /// What people called the cluster.
    pub name: String,
    /// Version of the genesis fork of the network.
    pub fork_version: FixedBytes<4>,
    /// Root of the validators of its genesis.
    pub genesis_validators_root: B256,
    /// Shares that make a signature.
    pub threshold: u64,
    /// Whose file this is.
    pub operator: OperatorIndex,
    /// The members, in the order of their indices.
    pub operators: Vec<ImportedOperator>,
    /// The validators, in the order of the Obol lock.
    pub validators: Vec<ImportedValidator>,
    /// SHA-256 of the file with what they have signed.
    pub slashing_protection: B256,
}

/// A member, as it bound itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedOperator {
    /// ed25519 key it signs with from now on.
    pub identity_key: Key32,
    /// X25519 key others encrypt to.
    pub enc_key: Key32,
}

/// A validator, as the Obol lock has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedValidator {
    /// Always false: what releases a key is elsewhere.
    pub may_sign: bool,
    /// Its key on Ethereum.
    pub pubkey: ValidatorKey,
    /// The operators' public shares of the key, in order.
    pub public_shares: Vec<ValidatorKey>,
    /// Who gets the fees of its blocks.
    pub fee_recipient: Address,
    /// Where its balance goes.
    pub withdrawal_credentials: WithdrawalCredentials,
    /// Deposits that are signed.
    pub deposits: Vec<Deposit>,
    /// Gas limit it votes for, as far as the Obol lock says.
    pub target_gas_limit: Option<u64>,
    /// What it has told builders; nothing before version 1.7.
    pub builder_registration: Option<BuilderRegistration>,
}

impl ImportedCluster {
    /// Parses the canonical form and refuses every other.
    pub fn from_json(text: &str) -> Result<Self, DecodeError> {
        const WHAT: &str = "file of imported validators";
        let imported: Self = canonical::parse(WHAT, text, LOCK_BYTES_MAX)?;
        let malformed = |detail: String| DecodeError::Malformed { what: WHAT, detail };
        if imported.version != IMPORTED_VERSION {
            return Err(malformed(format!("version is not {IMPORTED_VERSION}")));
        }
        if !ObolVersion::ALL.iter().any(|version| version.name() == imported.obol_version) {
            return Err(malformed(format!("obol_version is {:?}", imported.obol_version)));
        }
        match imported.validators.iter().position(|validator| validator.may_sign) {
            Some(position) => {
                Err(malformed(format!("validators[{position}].may_sign is true: no import says so")))
            }
            None => Ok(imported),
        }
    }

    /// The canonical text.
    pub fn to_json(&self) -> String {
        canonical::text(self)
    }
}

impl ImportedValidator {
    /// As a validator of a lock; a registration that is missing is all zero.
    pub fn validator(&self) -> Validator {
        let unsigned = BuilderRegistration { timestamp: 0, signature: ValidatorSignature::ZERO };
        Validator {
            pubkey: self.pubkey,
            public_shares: self.public_shares.clone(),
            fee_recipient: self.fee_recipient,
            withdrawal_credentials: self.withdrawal_credentials,
            target_gas_limit: self.target_gas_limit.unwrap_or_default(),
            deposits: self.deposits.clone(),
            builder_registration: self.builder_registration.clone().unwrap_or(unsigned),
        }
    }
}
