//! The definition of a cluster: everything its operators agree on before there are keys.
//!
//! `cluster-definition.json` has one canonical form, that of the lock ([`crate::lock`]): the keys in the order of the
//! structures below, and no other spelling. So two operators hold the same definition exactly when their files are
//! the same, and where they are not the first line that differs says why.
//!
//! Its hash is the cluster id at epoch 0 and the name of the key ceremony: whatever an operator signs in the ceremony
//! signs the definition.
//!
//! A resharing has a definition too. It names the lock it follows, and from which height on its operators decide; what
//! may not change is taken from that lock ([`Definition::following`]).

use crate::builders::BuilderTerms;
use crate::limits::OPERATORS_MAX;
use crate::lock::{
    ClusterLock, LOCK_BYTES_MAX, LOCK_VERSION, LockConsensus, Operator, SealKey, SequencerKeys,
};
use crate::validator::{
    BuilderRegistration, Deposit, VALIDATORS_MAX, Validator, ValidatorKey, ValidatorPolicy,
    ValidatorSignature, WithdrawalCredentials,
};
use crate::{Address, ClusterId, DecodeError, Height, Quorum, Seal, canonical};
use alloy_primitives::{B256, FixedBytes};
use serde::{Deserialize, Serialize};

/// The only version of the format.
pub const DEFINITION_VERSION: &str = "aequa-definition/1";

/// Bytes of an operator's signature in the text of a lock, with its line.
const SIGNATURE_JSON_BYTES: usize = 140;
/// The same of one that leaves, with its key.
const LEAVER_JSON_BYTES: usize = 280;

/// The contents of `cluster-definition.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// [`DEFINITION_VERSION`].
    pub version: String,
    /// What people call the cluster.
    pub name: String,
    /// When the first definition of the cluster was written, in seconds since the Unix epoch: the chain is no older.
    pub created_at: u64,
    /// Chain id of the EIP-712 domain of transactions.
    pub chain_id: u64,
    /// Ethereum network of the validators: the version of its genesis fork.
    pub fork_version: FixedBytes<4>,
    /// Shares that make a seal: the quorum of the operators.
    pub threshold: u64,
    /// The members in the order of their indices.
    pub operators: Vec<Operator>,
    /// What all operators do the same way.
    pub consensus: LockConsensus,
    /// Whom blocks of the validators are bought from; nobody where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builders: Option<BuilderTerms>,
    /// Validators, those with the same policy together.
    pub validators: Vec<ValidatorGroup>,
    /// Validators that have keys already; then there are no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<ImportedValidators>,
    /// Which lock it follows; absent where the cluster begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resharing: Option<Resharing>,
    /// Hash of all of the above.
    pub definition_hash: B256,
}

/// What the definition of a resharing says of the lock it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resharing {
    /// The cluster, whose id stays.
    pub cluster_id: ClusterId,
    /// The epoch that begins, from 1.
    pub epoch: u64,
    /// Hash of the lock that ends.
    pub parent_lock_hash: B256,
    /// First height that the new operators decide.
    pub activation_height: Height,
}

/// The validators of an Obol cluster that has the same operators, in the same order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedValidators {
    /// Hash of its lock.
    pub obol_lock_hash: B256,
    /// All of them, in its order; without deposits, which were made.
    pub validators: Vec<Validator>,
}

/// Validators with the same policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatorGroup {
    /// How many.
    pub count: u64,
    /// Who gets the fees of their blocks.
    pub fee_recipient: Address,
    /// Where their balances go.
    pub withdrawal_credentials: WithdrawalCredentials,
    /// Gas limit they vote for.
    pub target_gas_limit: u64,
    /// Amounts of the deposits of each in gwei, in the order they are to be made.
    pub deposits_gwei: Vec<u64>,
}

impl ValidatorGroup {
    /// A group of `count` with this policy.
    pub fn new(count: u64, policy: ValidatorPolicy) -> Self {
        let ValidatorPolicy { fee_recipient, withdrawal_credentials, target_gas_limit, deposits_gwei } =
            policy;
        Self { count, fee_recipient, withdrawal_credentials, target_gas_limit, deposits_gwei }
    }

    /// The policy of each.
    pub fn policy(&self) -> ValidatorPolicy {
        ValidatorPolicy {
            fee_recipient: self.fee_recipient,
            withdrawal_credentials: self.withdrawal_credentials,
            target_gas_limit: self.target_gas_limit,
            deposits_gwei: self.deposits_gwei.clone(),
        }
    }
}

impl Definition {
    /// Parses the canonical form and refuses every other.
    pub fn from_json(text: &str) -> Result<Self, DecodeError> {
        const WHAT: &str = "cluster definition";
        let definition: Self = canonical::parse(WHAT, text, LOCK_BYTES_MAX)?;
        let malformed = |detail: String| DecodeError::Malformed { what: WHAT, detail };
        definition.check_form().map_err(malformed)?;
        if definition.definition_hash != definition.hash() {
            return Err(malformed("definition_hash is not the hash of the definition".into()));
        }
        Ok(definition)
    }

    /// The canonical text.
    pub fn to_json(&self) -> String {
        canonical::text(self)
    }

    /// The definition of the epoch after `parent`, for these operators: only they change, and the height from which
    /// on they decide.
    pub fn following(
        parent: &ClusterLock,
        operators: Vec<Operator>,
        activation_height: Height,
    ) -> Result<Self, String> {
        let quorum = Quorum::of(operators.len()).ok_or("no operators")?;
        let mut validators: Vec<ValidatorGroup> = Vec::new();
        for policy in parent.validators.iter().map(Validator::policy) {
            match validators.last_mut().filter(|group| group.policy() == policy) {
                Some(group) => group.count += 1,
                None => validators.push(ValidatorGroup::new(1, policy)),
            }
        }
        let mut definition = Self {
            version: DEFINITION_VERSION.into(),
            name: parent.name.clone(),
            created_at: parent.created_at,
            chain_id: parent.chain_id,
            fork_version: parent.fork_version,
            threshold: quorum.quorum() as u64,
            operators,
            consensus: parent.consensus.clone(),
            builders: parent.builders.clone(),
            validators,
            imported: None,
            resharing: Some(Resharing {
                cluster_id: parent.cluster_id,
                epoch: parent.epoch.saturating_add(1),
                parent_lock_hash: parent.lock_hash,
                activation_height,
            }),
            definition_hash: B256::ZERO,
        };
        definition.definition_hash = definition.hash();
        definition.check_form()?;
        Ok(definition)
    }

    /// Bounds that keep the hash faithful, and policies that Ethereum takes.
    pub fn check_form(&self) -> Result<(), String> {
        if self.version != DEFINITION_VERSION {
            return Err(format!("version is not {DEFINITION_VERSION}"));
        }
        if let Some(resharing) = self.resharing {
            if resharing.epoch == 0 {
                return Err("resharing.epoch is 0, must be 1 at least".into());
            }
            // The block at which the operators before them end is one that these have decided.
            if resharing.activation_height <= Height(1) {
                return Err("resharing.activation_height must be 2 at least".into());
            }
        }
        if self.operators.is_empty() || self.operators.len() > OPERATORS_MAX {
            return Err(format!("{} operators, must be 1 to {OPERATORS_MAX}", self.operators.len()));
        }
        if self.validators.iter().any(|group| group.count == 0) {
            return Err("a group of no validators".into());
        }
        let validators = self.validators.iter().try_fold(0u64, |sum, group| sum.checked_add(group.count));
        if validators.is_none_or(|count| count > VALIDATORS_MAX as u64) {
            return Err(format!("more than {VALIDATORS_MAX} validators"));
        }
        for (position, group) in self.validators.iter().enumerate() {
            group.policy().check().map_err(|reason| format!("validators[{position}]: {reason}"))?;
        }
        if self.imported.is_some() && !self.validators.is_empty() {
            return Err("new validators beside imported ones".into());
        }
        if self.imported.is_some() && self.resharing.is_some() {
            return Err("imported validators in a resharing: they are in the lock it follows".into());
        }
        if let Some(terms) = &self.builders {
            terms.check().map_err(|reason| format!("builders.{reason}"))?;
        }
        let lock = self.lock();
        lock.check_form()?;
        // All that is zero here has the length of what it will be; signatures of the operators come on top.
        let leavers = self.resharing.map_or(0, |_| OPERATORS_MAX);
        let signatures = SIGNATURE_JSON_BYTES * self.operators.len() + LEAVER_JSON_BYTES * leavers;
        let bytes = lock.to_json().len() + signatures;
        if bytes > LOCK_BYTES_MAX {
            return Err(format!("its lock would have {bytes} bytes, the limit is {LOCK_BYTES_MAX}"));
        }
        Ok(())
    }

    /// The hash of everything in it but the hash.
    pub fn hash(&self) -> B256 {
        self.lock().compute_definition_hash()
    }

    /// Gives the cluster a chain id of its own, unless it is given one, and writes the hash.
    pub fn seal(&mut self, chain_id: Option<u64>) {
        self.chain_id = 0;
        self.chain_id = chain_id.unwrap_or_else(|| own_chain_id(&self.hash()));
        self.definition_hash = self.hash();
    }

    /// The lock of this definition, with all keys, signatures and hashes zero but the definition's.
    pub fn lock(&self) -> ClusterLock {
        let operators = self.operators.len();
        let policies = self.validators.iter().flat_map(|group| {
            std::iter::repeat_n(group.policy(), usize::try_from(group.count).unwrap_or_default())
        });
        ClusterLock {
            version: LOCK_VERSION.into(),
            name: self.name.clone(),
            cluster_id: self.resharing.map_or(self.definition_hash, |resharing| resharing.cluster_id),
            epoch: self.resharing.map_or(0, |resharing| resharing.epoch),
            parent_lock_hash: self.resharing.map_or(B256::ZERO, |resharing| resharing.parent_lock_hash),
            activation_height: self.resharing.map(|resharing| resharing.activation_height),
            created_at: self.created_at,
            chain_id: self.chain_id,
            fork_version: self.fork_version,
            threshold: self.threshold,
            operators: self.operators.clone(),
            consensus: self.consensus.clone(),
            builders: self.builders.clone(),
            sequencer: SequencerKeys {
                group_key: SealKey::ZERO,
                public_shares: vec![SealKey::ZERO; operators],
            },
            imported_from: self.imported.as_ref().map(|imported| imported.obol_lock_hash),
            validators: match &self.imported {
                Some(imported) => imported.validators.clone(),
                None => policies.take(VALIDATORS_MAX).map(|policy| without_keys(policy, operators)).collect(),
            },
            definition_hash: self.definition_hash,
            lock_hash: B256::ZERO,
            signature_aggregate: Seal::ZERO,
            node_signatures: Vec::new(),
            leaver_signatures: Vec::new(),
        }
    }
}

fn without_keys(policy: ValidatorPolicy, operators: usize) -> Validator {
    let unsigned = ValidatorSignature::ZERO;
    let deposits = policy.deposits_gwei.iter();
    Validator {
        pubkey: ValidatorKey::ZERO,
        public_shares: vec![ValidatorKey::ZERO; operators],
        fee_recipient: policy.fee_recipient,
        withdrawal_credentials: policy.withdrawal_credentials,
        target_gas_limit: policy.target_gas_limit,
        deposits: deposits.map(|gwei| Deposit { amount_gwei: *gwei, signature: unsigned }).collect(),
        builder_registration: BuilderRegistration { timestamp: 0, signature: unsigned },
    }
}

/// A chain id no other cluster has. The cluster id is a hash over it, so that it comes from the hash of the
/// same definition with chain id 0, and with the operators' keys in it. It lies from 2^50 to 2^51: chains
/// that are known by name have small ids, and wallets take none that needs more than 52 bits.
fn own_chain_id(definition: &B256) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = definition.0;
    (1 << 50) | (u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 14)
}
