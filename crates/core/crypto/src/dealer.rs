//! A cluster made in one place: the trusted dealer, **for development only**.
//!
//! Whoever runs this has every secret of the cluster in memory for a moment. Clusters that matter are
//! made by the key ceremony, in which nobody ever has.

use crate::Error;
use crate::bls::{MinPk, SecretKey};
use crate::identity::IdentityKey;
use crate::lock::{LockError, verify};
use crate::seal::{Aggregate, Dealing, SecretShare, deal};
use crate::threshold::{self, split};
use aequa_types::builders::BuilderTerms;
use aequa_types::definition::{DEFINITION_VERSION, Definition, ValidatorGroup};
use aequa_types::lock::{ClusterLock, Key32, Operator, SealKey, SequencerKeys, Stake};
use aequa_types::validator::{Validator, ValidatorKey, ValidatorPolicy};
use aequa_types::{ConsensusParams, OperatorIndex, Quorum, Seal};
use alloy_primitives::{B256, FixedBytes};

/// What cluster to make.
#[derive(Debug)]
pub struct DealRequest {
    /// What people call the cluster; at most 256 bytes.
    pub name: String,
    /// Number of operators.
    pub nodes: usize,
    /// Chain id of the EIP-712 domain of transactions; without one the cluster gets its own.
    pub chain_id: Option<u64>,
    /// Ethereum network of the validators: the version of its genesis fork.
    pub fork_version: [u8; 4],
    /// What all operators do the same way.
    pub params: ConsensusParams,
    /// Validators, with new keys or such as there are.
    pub validators: Vec<NewValidator>,
    /// Whom their blocks are bought from.
    pub builders: Option<BuilderTerms>,
    /// Addresses per operator, in order; operators beyond the list have none.
    pub multiaddrs: Vec<Vec<String>>,
    /// Seconds since the Unix epoch.
    pub created_at: u64,
}

/// A validator to be.
#[derive(Debug)]
pub struct NewValidator {
    /// What is fixed about it.
    pub policy: ValidatorPolicy,
    /// The key to be shared; a new one without.
    pub key: Option<SecretKey<MinPk>>,
}

/// A lock that verifies and the secrets that belong to it.
#[derive(Debug)]
pub struct DealtCluster {
    /// The lock, the same for all.
    pub lock: ClusterLock,
    /// What each operator gets, in order.
    pub operators: Vec<OperatorSecrets>,
    /// What the number of operators allows but does not recommend.
    pub warnings: Vec<String>,
}

/// The secrets of one operator.
#[derive(Debug)]
pub struct OperatorSecrets {
    /// Its place in the lock.
    pub index: OperatorIndex,
    /// Its identity.
    pub identity: IdentityKey,
    /// Its share of the sequencer key.
    pub share: SecretShare,
    /// Its shares of the validators' keys, in the order of the lock.
    pub validator_shares: Vec<threshold::SecretShare<MinPk>>,
}

/// Makes all keys of a new cluster and the lock that binds them. A request no lock can hold (a name too
/// long, parameters that decide nothing) is refused with the item named.
pub fn deal_cluster(request: DealRequest) -> Result<DealtCluster, LockError> {
    let quorum = Quorum::of(request.nodes)
        .ok_or(Error::ImpossibleThreshold { threshold: 0, operators: request.nodes })?;
    let dealing = deal(quorum.quorum(), request.nodes)?;
    let identities =
        quorum.members().map(|_| IdentityKey::generate()).collect::<Result<Vec<IdentityKey>, Error>>()?;
    let mut lock = definition(&request, quorum, &identities).lock();
    lock.check_form().map_err(|reason| LockError::Item { item: "lock".into(), reason: reason.into() })?;
    let fork = lock.fork_version;
    let validators = lock.validators.iter_mut().zip(&request.validators);
    let shares = validators
        .map(|(validator, new)| {
            deal_validator(validator, new.key.as_ref(), (quorum, fork), request.created_at)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    lock.sequencer = SequencerKeys {
        group_key: SealKey::from(dealing.group_key.to_bytes()),
        public_shares: dealing.public_shares.iter().map(|share| share.to_bytes().into()).collect(),
    };
    lock.lock_hash = lock.compute_lock_hash();
    sign_lock(&mut lock, &identities, &dealing)?;
    let warnings = verify(&lock)?.warnings().to_vec();
    let mut shares: Vec<_> = shares.into_iter().map(Vec::into_iter).collect();
    let operators = quorum
        .members()
        .zip(identities.into_iter().zip(dealing.secret_shares))
        .map(|(index, (identity, share))| {
            let validator_shares = shares.iter_mut().filter_map(Iterator::next).collect();
            OperatorSecrets { index, identity, share, validator_shares }
        })
        .collect();
    Ok(DealtCluster { lock, operators, warnings })
}

fn definition(request: &DealRequest, quorum: Quorum, identities: &[IdentityKey]) -> Definition {
    let operators = quorum
        .members()
        .zip(identities)
        .map(|(index, identity)| Operator {
            index,
            name: format!("operator-{index}"),
            address: None,
            peer_id: identity.public().peer_id(),
            identity_key: Key32::from(identity.public().to_bytes()),
            vrf_key: None,
            enc_key: None,
            stake: Stake::default(),
            multiaddrs: request.multiaddrs.get(index.as_usize()).cloned().unwrap_or_default(),
        })
        .collect();
    let validators = request.validators.iter();
    let mut definition = Definition {
        version: DEFINITION_VERSION.into(),
        name: request.name.clone(),
        created_at: request.created_at,
        chain_id: 0,
        fork_version: FixedBytes(request.fork_version),
        threshold: quorum.quorum() as u64,
        operators,
        consensus: request.params.clone().into(),
        builders: request.builders.clone(),
        validators: validators.map(|new| ValidatorGroup::new(1, new.policy.clone())).collect(),
        imported: None,
        resharing: None,
        definition_hash: B256::ZERO,
    };
    definition.seal(request.chain_id);
    definition
}

/// Shares the key of a validator, and signs with it what the lock has to show.
fn deal_validator(
    validator: &mut Validator,
    key: Option<&SecretKey<MinPk>>,
    (quorum, fork): (Quorum, FixedBytes<4>),
    created_at: u64,
) -> Result<Vec<threshold::SecretShare<MinPk>>, Error> {
    let made;
    let key = match key {
        Some(key) => key,
        None => {
            made = SecretKey::generate()?;
            &made
        }
    };
    let dealing = split(key, quorum.quorum(), quorum.operators())?;
    validator.pubkey = ValidatorKey::from(key.public().to_bytes());
    validator.public_shares = dealing.public_shares.iter().map(|share| share.to_bytes().into()).collect();
    validator.builder_registration.timestamp = created_at;
    for number in 0..validator.deposits.len() {
        let root = validator.deposit_signing_root(fork, validator.deposits[number].amount_gwei);
        validator.deposits[number].signature = key.sign(root.as_slice());
    }
    let root = validator.registration_signing_root(fork);
    validator.builder_registration.signature = key.sign(root.as_slice());
    Ok(dealing.secret_shares)
}

fn sign_lock(lock: &mut ClusterLock, identities: &[IdentityKey], dealing: &Dealing) -> Result<(), Error> {
    let message = lock.lock_hash.as_slice();
    let signatures: Vec<Seal> = dealing.secret_shares.iter().map(|share| share.sign(message)).collect();
    lock.signature_aggregate = Aggregate::new(message, &dealing.public_shares).sum(&signatures)?;
    lock.node_signatures = identities.iter().map(|identity| identity.sign(message)).collect();
    Ok(())
}
