//! Locks of Obol clusters, of versions 1.6 to 1.11: what is read to take their validators over.
//!
//! The document is what Obol's tools write as `cluster-lock.json`. It is another's format: fields that are unknown
//! here are let be, and what is used is hashed. Three hashes, each over all that was agreed on before it
//! (`hash`): `config_hash` is what the creator proposed, `definition_hash` adds what operators answered, `lock_hash`
//! the keys. Whether a lock *holds* is for `aequa-crypto` to say.
//!
//! | version | what is new in the document |
//! |---|---|
//! | 1.6 | `deposit_data` of each validator; 1.7 | `builder_registration`, `node_signatures` |
//! | 1.8 | `deposit_amounts`, and `partial_deposit_data` in place of `deposit_data` |
//! | 1.9 | `consensus_protocol`; 1.10 | `target_gas_limit`, `compounding` |
//! | 1.11 | signatures of wallets may be several, one after the other |

pub mod binding;
mod form;
mod hash;
pub mod imported;

use crate::lock::LOCK_BYTES_MAX;
use crate::validator::ValidatorKey;
use crate::{Address, DecodeError};
use alloy_primitives::{B256, Bytes, FixedBytes};
use serde::{Deserialize, Deserializer};

/// Bytes of a signature of secp256k1 with its recovery byte.
pub const WALLET_SIGNATURE_BYTES: usize = 65;

/// Version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObolVersion {
    /// v1.6.0
    V6,
    /// v1.7.0
    V7,
    /// v1.8.0
    V8,
    /// v1.9.0
    V9,
    /// v1.10.0
    V10,
    /// v1.11.0
    V11,
}

impl ObolVersion {
    /// All that are read, in order.
    pub const ALL: [Self; 6] = [Self::V6, Self::V7, Self::V8, Self::V9, Self::V10, Self::V11];

    /// As it stands in the document.
    pub fn name(self) -> &'static str {
        match self {
            Self::V6 => "v1.6.0",
            Self::V7 => "v1.7.0",
            Self::V8 => "v1.8.0",
            Self::V9 => "v1.9.0",
            Self::V10 => "v1.10.0",
            Self::V11 => "v1.11.0",
        }
    }
}

/// The contents of an Obol `cluster-lock.json`, parsed and not yet verified.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ObolLock {
    /// What was agreed on.
    #[serde(rename = "cluster_definition")]
    pub definition: ObolDefinition,
    /// The validators' keys.
    #[serde(rename = "distributed_validators")]
    pub validators: Vec<ObolValidator>,
    /// Sum of the BLS signatures of the lock hash by all shares of all validators.
    pub signature_aggregate: Bytes,
    /// Hash of the definition and the keys.
    pub lock_hash: B256,
    /// secp256k1 signature of the lock hash by every operator's node; none before version 1.7.
    #[serde(default)]
    pub node_signatures: Vec<Bytes>,
}

/// What the operators of an Obol cluster agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ObolDefinition {
    /// What people call the cluster.
    #[serde(default)]
    pub name: String,
    /// Who proposed it.
    #[serde(default)]
    pub creator: ObolCreator,
    /// The members; the share of each has the number of its place, from 1.
    pub operators: Vec<ObolOperator>,
    /// A random name.
    pub uuid: String,
    /// [`ObolVersion::name`].
    pub version: String,
    /// When it was proposed, as text.
    #[serde(default)]
    pub timestamp: String,
    /// How many validators.
    pub num_validators: u64,
    /// Shares that make a signature.
    pub threshold: u64,
    /// Where fees and balances of each validator go.
    #[serde(rename = "validators")]
    pub addresses: Vec<ObolAddress>,
    /// Name of the ceremony's algorithm.
    pub dkg_algorithm: String,
    /// Version of the genesis fork of the network.
    pub fork_version: FixedBytes<4>,
    /// Amounts of the deposits in gwei, where they were chosen (version 1.8).
    #[serde(default)]
    pub deposit_amounts: Option<Vec<Gwei>>,
    /// Name of the consensus protocol (version 1.9).
    #[serde(default)]
    pub consensus_protocol: String,
    /// Gas limit that validators vote for (version 1.10).
    #[serde(default)]
    pub target_gas_limit: u64,
    /// Whether balances grow above 32 ETH (version 1.10).
    #[serde(default)]
    pub compounding: bool,
    /// Hash of what was proposed.
    pub config_hash: B256,
    /// Hash of that and of the operators' answers.
    pub definition_hash: B256,
}

/// Who proposed a cluster; nobody where it was made on one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ObolCreator {
    /// Address of its wallet: 20 bytes or none.
    #[serde(default)]
    pub address: Bytes,
    /// EIP-712 signature of the config hash.
    #[serde(default)]
    pub config_signature: Bytes,
}

/// A member of an Obol cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ObolOperator {
    /// Address of its wallet: 20 bytes or none.
    #[serde(default)]
    pub address: Bytes,
    /// Node record (EIP-778) with the key of its node.
    pub enr: String,
    /// EIP-712 signature of the config hash by its wallet.
    #[serde(default)]
    pub config_signature: Bytes,
    /// EIP-712 signature of the node record by its wallet.
    #[serde(default)]
    pub enr_signature: Bytes,
}

/// Where fees and balance of a validator go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ObolAddress {
    /// Who gets the fees of its blocks.
    #[serde(rename = "fee_recipient_address")]
    pub fee_recipient: Address,
    /// Where its balance goes.
    #[serde(rename = "withdrawal_address")]
    pub withdrawal: Address,
}

/// A validator of an Obol cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ObolValidator {
    /// Its key on Ethereum.
    #[serde(rename = "distributed_public_key")]
    pub pubkey: ValidatorKey,
    /// The operators' public shares of the key, in order.
    pub public_shares: Vec<ValidatorKey>,
    /// Its only deposit (versions 1.6 and 1.7).
    #[serde(default)]
    pub deposit_data: Option<ObolDeposit>,
    /// Its deposits (from version 1.8 on).
    #[serde(default)]
    pub partial_deposit_data: Vec<ObolDeposit>,
    /// What it tells builders (from version 1.7 on).
    #[serde(default)]
    pub builder_registration: Option<ObolRegistration>,
}

/// A signed deposit; all of it is empty where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ObolDeposit {
    /// The validator's key.
    pub pubkey: Bytes,
    /// Where its balance goes.
    pub withdrawal_credentials: Bytes,
    /// Amount.
    pub amount: Gwei,
    /// The validator's signature.
    pub signature: Bytes,
}

impl ObolValidator {
    /// Its deposits, where there are any.
    pub fn deposits(&self) -> impl Iterator<Item = &ObolDeposit> {
        self.deposit_data.iter().chain(&self.partial_deposit_data).filter(|deposit| !deposit.is_empty())
    }
}

impl ObolDeposit {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.signature.is_empty() && self.pubkey.is_empty() && self.amount.0 == 0
    }
}

/// A signed registration with builders.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ObolRegistration {
    /// What was signed.
    pub message: RegistrationMessage,
    /// The validator's signature.
    pub signature: Bytes,
}

/// What a validator tells builders.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RegistrationMessage {
    /// Who gets the fees of its blocks.
    pub fee_recipient: Address,
    /// Gas limit it votes for.
    pub gas_limit: u64,
    /// In seconds since the Unix epoch.
    pub timestamp: u64,
    /// The validator's key.
    pub pubkey: ValidatorKey,
}

/// An amount in gwei: a decimal string, in early versions a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gwei(pub u64);

impl<'de> Deserialize<'de> for Gwei {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Spelling {
            Number(u64),
            Text(String),
        }
        match Spelling::deserialize(deserializer)? {
            Spelling::Number(gwei) => Ok(Self(gwei)),
            Spelling::Text(text) => {
                text.parse().map(Self).map_err(|_| serde::de::Error::custom("an amount is no number of gwei"))
            }
        }
    }
}

impl ObolLock {
    /// Parses a lock of a version that is known, within the bounds that keep its hashes faithful.
    pub fn from_json(text: &str) -> Result<Self, DecodeError> {
        const WHAT: &str = "Obol cluster lock";
        if text.len() > LOCK_BYTES_MAX {
            return Err(DecodeError::TooLarge { what: WHAT, bytes: text.len(), bytes_max: LOCK_BYTES_MAX });
        }
        let malformed = |detail: String| DecodeError::Malformed { what: WHAT, detail };
        // Of another version other fields may be missing: the version is the better answer.
        let head: Head = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        let version = version_of(&head.cluster_definition.version).map_err(malformed)?;
        let lock: Self = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        lock.check_form(version).map_err(malformed)?;
        Ok(lock)
    }

    /// The version of its format.
    pub fn version(&self) -> Result<ObolVersion, DecodeError> {
        version_of(&self.definition.version)
            .map_err(|detail| DecodeError::Malformed { what: "Obol cluster lock", detail })
    }
}

impl ObolDefinition {
    /// Amounts of the deposits that were chosen.
    pub fn amounts(&self) -> &[Gwei] {
        self.deposit_amounts.as_deref().unwrap_or_default()
    }
}

/// Of the whole document only the version.
#[derive(Deserialize)]
struct Head {
    cluster_definition: HeadDefinition,
}

#[derive(Deserialize)]
struct HeadDefinition {
    version: String,
}

fn version_of(name: &str) -> Result<ObolVersion, String> {
    ObolVersion::ALL.into_iter().find(|version| version.name() == name).ok_or_else(|| {
        format!(
            "version is {name:?}, those from v1.6.0 to v1.11.0 are read: write it anew with Obol's own tool"
        )
    })
}

#[cfg(test)]
mod tests;
