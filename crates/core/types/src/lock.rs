//! The cluster lock: who the operators are, under which keys.
//!
//! `cluster-lock.json` has one canonical form: UTF-8, the keys in the order of the structures below,
//! 0x-hex in lower case, two-space indent, a final newline. [`ClusterLock::from_json`] accepts that
//! form and no other, so two locks are equal exactly when their files are, and a flipped byte is
//! either refused here or changes something that is hashed or signed.
//!
//! Two hashes, both SSZ hash tree roots:
//!
//! - `definition_hash`: what operators agree on before there are keys. At epoch 0 it *is* the cluster
//!   id; from epoch 1 on the id is one of its members.
//! - `lock_hash`: the definition hash with the keys. Every operator signs it, with its identity key
//!   (`node_signatures`) and with its share of the sequencer key (`signature_aggregate`). Of a resharing operators
//!   that leave may sign it too (`leaver_signatures`).
//!
//! The chain id is what a client signs for: whoever sees a transaction of one cluster can submit it to every
//! other that has the same, and it is valid there. So a cluster gets its own, made from the rest of its
//! definition, unless it is given one on purpose.
//!
//! What is fixed about validators ([`crate::validator::ValidatorPolicy`]) is in the definition, their keys and what
//! these have signed are in the lock. A lock without validators has the hashes it had when there could be none.
//! Validators of an Obol cluster ([`crate::obol`]) have keys before: all of each is in the definition.
//!
//! Fields that belong to features not built yet keep their place: `vrf_key` and `enc_key` are `null`
//! where an operator has none. Whether a lock *holds* is for `aequa-crypto` to say; parsing says only that the text
//! is one.

use crate::builders::BuilderTerms;
use crate::canonical;
use crate::limits::OPERATORS_MAX;
use crate::policy::{BuilderPolicy, ConsensusParams, LeaderPolicy};
use crate::validator::{VALIDATORS_MAX, Validator};
use crate::{Address, ClusterId, DecodeError, Height, OperatorIndex, Seal, Signature};
use alloy_primitives::{B256, FixedBytes, U128};
use serde::{Deserialize, Serialize};
use ssz_derive::{Decode, Encode};
use ssz_types::VariableList;
use ssz_types::typenum::{U16, U64, U128 as N128, U256 as N256, U65536, Unsigned};
use tree_hash::TreeHash as _;
use tree_hash_derive::TreeHash;

/// The only version of the format.
pub const LOCK_VERSION: &str = "aequa-lock/1";
/// Largest lock file in bytes: a hundred operators with every address take a megabyte, and a thousand validators of ten
/// operators three.
pub const LOCK_BYTES_MAX: usize = 8 << 20;
/// Longest cluster name in bytes.
pub const LOCK_NAME_BYTES_MAX: usize = 256;
/// Most network addresses of one operator.
pub const MULTIADDRS_MAX: usize = 16;
/// Longest network address in bytes: a DNS name and its protocols.
pub const MULTIADDR_BYTES_MAX: usize = 256;

/// Public key of a seal: a point of G2.
pub type SealKey = FixedBytes<96>;
/// 32-byte public key.
pub type Key32 = FixedBytes<32>;

/// The contents of `cluster-lock.json`, parsed and not yet verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterLock {
    /// [`LOCK_VERSION`].
    pub version: String,
    /// What people call the cluster.
    pub name: String,
    /// Definition hash of epoch 0; stays the same through resharing.
    pub cluster_id: ClusterId,
    /// 0 at first, +1 at each resharing.
    pub epoch: u64,
    /// Hash of the lock before; zero at epoch 0.
    pub parent_lock_hash: B256,
    /// First height of this epoch's operators: below it those of the lock before decide. Absent at epoch 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_height: Option<Height>,
    /// When the cluster was made, in seconds since the Unix epoch; stays the same through resharing.
    pub created_at: u64,
    /// Chain id of the EIP-712 domain of transactions.
    pub chain_id: u64,
    /// Ethereum network of the validators.
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
    /// The key of the chain's seals.
    pub sequencer: SequencerKeys,
    /// Hash of the Obol lock that the validators are from, if they are from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_from: Option<B256>,
    /// Ethereum validators of the cluster.
    pub validators: Vec<Validator>,
    /// Hash of everything agreed before the ceremony.
    pub definition_hash: B256,
    /// Hash of the definition and the keys.
    pub lock_hash: B256,
    /// Aggregate BLS signature over the lock hash by every share of the sequencer key.
    pub signature_aggregate: Seal,
    /// ed25519 signature over the lock hash by every operator, in order.
    pub node_signatures: Vec<Signature>,
    /// The same by operators of the lock before that have no place in this one, ascending by key. Absent where none
    /// has signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaver_signatures: Vec<LeaverSignature>,
}

/// What an operator that leaves says to the next lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
pub struct LeaverSignature {
    /// Its ed25519 key.
    pub identity_key: Key32,
    /// ed25519 signature over the lock hash.
    pub signature: Signature,
}

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// Place in the list, from 0.
    pub index: OperatorIndex,
    /// What people call the operator.
    pub name: String,
    /// Ethereum address of the operator, if it gave one.
    pub address: Option<Address>,
    /// libp2p peer id, derived from the identity key.
    pub peer_id: String,
    /// ed25519 key that signs consensus statements.
    pub identity_key: Key32,
    /// ECVRF key; `null` while no leader policy needs one.
    pub vrf_key: Option<Key32>,
    /// X25519 key; `null` while nothing is encrypted to operators.
    pub enc_key: Option<Key32>,
    /// Weight in leader draws; a decimal string in JSON.
    pub stake: Stake,
    /// Where the operator can be reached.
    pub multiaddrs: Vec<String>,
}

/// Weight of an operator, at least 1; a decimal string in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stake(pub u128);

impl Default for Stake {
    fn default() -> Self {
        Self(1)
    }
}

impl Serialize for Stake {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Stake {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| serde::de::Error::custom("stake is not a decimal number"))
    }
}

/// The parameters all operators share, with the hash headers carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockConsensus {
    /// The parameters; their members stand beside the hash in JSON.
    #[serde(flatten)]
    pub params: ConsensusParams,
    /// [`BuilderPolicy::hash`] of the builder policy.
    pub builder_policy_hash: B256,
}

impl From<ConsensusParams> for LockConsensus {
    fn from(params: ConsensusParams) -> Self {
        let builder_policy_hash = params.builder.hash();
        Self { params, builder_policy_hash }
    }
}

/// Keys of the chain's seals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequencerKeys {
    /// The key everybody verifies with.
    pub group_key: SealKey,
    /// The operators' public shares, in order.
    pub public_shares: Vec<SealKey>,
}

impl ClusterLock {
    /// Parses the canonical form and refuses every other.
    pub fn from_json(text: &str) -> Result<Self, DecodeError> {
        const WHAT: &str = "cluster lock";
        let lock: Self = canonical::parse(WHAT, text, LOCK_BYTES_MAX)?;
        lock.check_form().map_err(|detail| DecodeError::Malformed { what: WHAT, detail: detail.into() })?;
        Ok(lock)
    }

    /// The canonical text.
    pub fn to_json(&self) -> String {
        canonical::text(self)
    }

    /// Bounds that keep the hashes faithful: a list cut to its SSZ limit would hash like another.
    pub fn check_form(&self) -> Result<(), &'static str> {
        if self.version != LOCK_VERSION {
            return Err("version is not aequa-lock/1");
        }
        if self.name.len() > LOCK_NAME_BYTES_MAX {
            return Err("name is longer than 256 bytes");
        }
        if self.operators.is_empty() || self.operators.len() > OPERATORS_MAX {
            return Err("operators must be 1 to 100");
        }
        let signatures = self.node_signatures.len().max(self.leaver_signatures.len());
        if self.sequencer.public_shares.len() > OPERATORS_MAX || signatures > OPERATORS_MAX {
            return Err("more keys or signatures than operators may be");
        }
        if self.consensus.params.builder.order.len() > BuilderOrderMax::to_usize() {
            return Err("builder.order has more than 16 entries");
        }
        if self.builders.as_ref().is_some_and(|terms| terms.check().is_err()) {
            return Err("builders: more or other URLs than there may be");
        }
        if self.validators.len() > VALIDATORS_MAX {
            return Err("more than 1000 validators");
        }
        if self.imported_from.is_some() && self.validators.is_empty() {
            return Err("imported_from without validators");
        }
        if self.validators.iter().any(|validator| !validator.has_form()) {
            return Err("a validator has more public shares or deposits than there may be");
        }
        self.operators.iter().try_for_each(Operator::check_form)
    }

    /// Computes the definition hash from the members.
    pub fn compute_definition_hash(&self) -> B256 {
        let cluster = DefinitionSsz {
            version: bytes(&self.version),
            name: bytes(&self.name),
            // The id of epoch 0 is this very hash and cannot be inside it.
            cluster_id: if self.epoch == 0 { B256::ZERO } else { self.cluster_id },
            epoch: self.epoch,
            parent_lock_hash: self.parent_lock_hash,
            created_at: self.created_at,
            chain_id: self.chain_id,
            fork_version: self.fork_version,
            threshold: self.threshold,
            operators: list(self.operators.iter().map(Operator::root)),
            consensus: self.consensus.root(),
        }
        .tree_hash_root();
        let definition = match self.imported_from {
            _ if self.validators.is_empty() => cluster,
            None => {
                let validators = list(self.validators.iter().map(|validator| validator.policy().root()));
                ValidatorsSsz { cluster, validators }.tree_hash_root()
            }
            // Their keys are there before the ceremony: they are agreed on too.
            Some(imported_from) => {
                let validators = list(self.validators.iter().map(Validator::root));
                ImportedSsz { cluster, imported_from, validators }.tree_hash_root()
            }
        };
        let definition = match &self.builders {
            None => definition,
            Some(terms) => BuildersSsz { definition, builders: terms.root() }.tree_hash_root(),
        };
        match self.activation_height {
            None => definition,
            Some(Height(activation_height)) => EpochSsz { definition, activation_height }.tree_hash_root(),
        }
    }

    /// First height that this lock's operators decide.
    pub fn first_height(&self) -> Height {
        self.activation_height.unwrap_or(Height(1))
    }

    /// Computes the lock hash from the members and `definition_hash` as it stands.
    pub fn compute_lock_hash(&self) -> B256 {
        LockSsz {
            definition_hash: self.definition_hash,
            group_key: self.sequencer.group_key,
            public_shares: list(self.sequencer.public_shares.iter().copied()),
            validators: list(self.validators.iter().map(Validator::root)),
        }
        .tree_hash_root()
    }
}

impl Operator {
    fn check_form(&self) -> Result<(), &'static str> {
        if self.name.len() > LOCK_NAME_BYTES_MAX {
            return Err("an operator's name is longer than 256 bytes");
        }
        if self.peer_id.len() > PeerIdBytesMax::to_usize() {
            return Err("a peer id is longer than 64 bytes");
        }
        if self.multiaddrs.len() > MULTIADDRS_MAX {
            return Err("an operator has more than 16 multiaddrs");
        }
        if self.multiaddrs.iter().any(|address| address.is_empty() || address.len() > MULTIADDR_BYTES_MAX) {
            return Err("a multiaddr is empty or longer than 256 bytes");
        }
        if self.stake.0 == 0 {
            return Err("stake must be greater than 0");
        }
        Ok(())
    }

    fn root(&self) -> B256 {
        OperatorSsz {
            index: self.index.0,
            name: bytes(&self.name),
            address: list(self.address),
            peer_id: bytes(&self.peer_id),
            identity_key: self.identity_key,
            vrf_key: list(self.vrf_key),
            enc_key: list(self.enc_key),
            stake: U128::from(self.stake.0),
            multiaddrs: list(self.multiaddrs.iter().map(|address| bytes::<N256>(address))),
        }
        .tree_hash_root()
    }
}

impl LockConsensus {
    /// Destructured in full: a parameter that is added must be hashed too.
    fn root(&self) -> B256 {
        let ConsensusParams {
            leader,
            checkpoint_interval,
            round_timeout_ms,
            round_timeout_cap_ms,
            block_interval_ms,
            empty_blocks,
            builder,
        } = &self.params;
        let BuilderPolicy { order, max_n, window, min_bid, min_fee, max_bytes, batch_ms, use_dfba } = builder;
        ConsensusSsz {
            leader: match leader {
                LeaderPolicy::RoundRobin => 0,
            },
            checkpoint_interval: *checkpoint_interval,
            round_timeout_ms: *round_timeout_ms,
            round_timeout_cap_ms: *round_timeout_cap_ms,
            block_interval_ms: *block_interval_ms,
            empty_blocks: *empty_blocks,
            order: list(order.iter().map(|kind| kind.number())),
            max_n: *max_n,
            window: *window,
            min_bid: *min_bid,
            min_fee: *min_fee,
            max_bytes: *max_bytes,
            batch_ms: *batch_ms,
            use_dfba: *use_dfba,
            builder_policy_hash: self.builder_policy_hash,
        }
        .tree_hash_root()
    }
}

type OperatorsMax = N128;
type BuilderOrderMax = U16;
type PeerIdBytesMax = U64;

#[derive(TreeHash)]
struct DefinitionSsz {
    version: VariableList<u8, U16>,
    name: VariableList<u8, N256>,
    cluster_id: B256,
    epoch: u64,
    parent_lock_hash: B256,
    created_at: u64,
    chain_id: u64,
    fork_version: FixedBytes<4>,
    threshold: u64,
    operators: VariableList<B256, OperatorsMax>,
    consensus: B256,
}

/// A definition with validators.
#[derive(TreeHash)]
struct ValidatorsSsz {
    cluster: B256,
    validators: VariableList<B256, U65536>,
}

/// A definition with external builders.
#[derive(TreeHash)]
struct BuildersSsz {
    definition: B256,
    builders: B256,
}

/// A definition of an epoch after the first.
#[derive(TreeHash)]
struct EpochSsz {
    definition: B256,
    activation_height: u64,
}

/// A definition with validators that have keys.
#[derive(TreeHash)]
struct ImportedSsz {
    cluster: B256,
    imported_from: B256,
    validators: VariableList<B256, U65536>,
}

#[derive(TreeHash)]
struct OperatorSsz {
    index: u8,
    name: VariableList<u8, N256>,
    /// Lists of at most one: absent is empty and not zero. The list of `None` and of `Some(0)` differ.
    address: VariableList<Address, ssz_types::typenum::U1>,
    peer_id: VariableList<u8, PeerIdBytesMax>,
    identity_key: Key32,
    vrf_key: VariableList<Key32, ssz_types::typenum::U1>,
    enc_key: VariableList<Key32, ssz_types::typenum::U1>,
    stake: U128,
    multiaddrs: VariableList<VariableList<u8, N256>, U16>,
}

#[derive(TreeHash)]
struct ConsensusSsz {
    leader: u8,
    checkpoint_interval: u64,
    round_timeout_ms: u64,
    round_timeout_cap_ms: u64,
    block_interval_ms: u64,
    empty_blocks: bool,
    order: VariableList<u8, BuilderOrderMax>,
    max_n: u64,
    window: u64,
    min_bid: u64,
    min_fee: u64,
    max_bytes: u64,
    batch_ms: u64,
    use_dfba: bool,
    builder_policy_hash: B256,
}

#[derive(TreeHash)]
struct LockSsz {
    definition_hash: B256,
    group_key: SealKey,
    public_shares: VariableList<SealKey, OperatorsMax>,
    validators: VariableList<B256, U65536>,
}

fn bytes<N: Unsigned>(text: &str) -> VariableList<u8, N> {
    list(text.bytes())
}

/// `check_form` has compared every length with the same limit; a longer list is cut, not refused.
fn list<T, N: Unsigned>(items: impl IntoIterator<Item = T>) -> VariableList<T, N> {
    let items: Vec<T> = items.into_iter().take(N::to_usize()).collect();
    VariableList::new(items).expect("cut to the limit")
}

#[cfg(test)]
mod tests;
