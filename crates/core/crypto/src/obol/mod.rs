//! Whether the lock of an Obol cluster holds, and who its operators are from now on.
//!
//! [`verify`] re-derives what can be derived and checks every signature there is; what fails is named by its place in
//! the document. It needs no network. What it cannot check it names too: signatures of contracts.
//!
//! | module | one idea |
//! |---|---|
//! | [`enr`] | the key of an operator's node there, secp256k1 |
//! | `wallet` | signatures of the operators' wallets |
//! | [`binding`] | an operator's new identity, bound to its old key |
//!
//! The threshold must be our quorum, ceil(2n/3): shares are taken as they are, and lie on a polynomial of one degree.
//! The number of a share there, place + 1, is its coordinate here.

pub mod binding;
pub mod enr;
mod wallet;

use crate::bls::{MinPk, ProvenKey, PublicKey, SignatureSet, fast_aggregate_verify, find_bad, verify_batch};
use crate::lock::{LockError, ValidatorKeys, check_validator_keys, item};
use aequa_types::obol::imported::ImportedValidator;
use aequa_types::obol::{ObolAddress, ObolLock, ObolValidator, ObolVersion};
use aequa_types::validator::{BuilderRegistration, Deposit, ValidatorSignature, WithdrawalCredentials};
use aequa_types::{Address, OperatorIndex, Quorum};
use alloy_primitives::B256;
use enr::NodeKey;
use std::collections::BTreeSet;

/// An Obol lock in which everything was checked, with its keys parsed.
#[derive(Debug, Clone)]
pub struct VerifiedObolLock {
    lock: ObolLock,
    version: ObolVersion,
    quorum: Quorum,
    nodes: Vec<NodeKey>,
    keys: Vec<ValidatorKeys>,
    validators: Vec<ImportedValidator>,
    unchecked: Vec<String>,
}

impl VerifiedObolLock {
    /// The document.
    pub fn lock(&self) -> &ObolLock {
        &self.lock
    }

    /// The version of its format.
    pub fn version(&self) -> ObolVersion {
        self.version
    }

    /// Quorum arithmetic of its operators.
    pub fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// The keys of the operators' nodes, in order.
    pub fn nodes(&self) -> &[NodeKey] {
        &self.nodes
    }

    /// Which operator has this node; none for a stranger.
    pub fn operator_of(&self, node: &NodeKey) -> Option<OperatorIndex> {
        let position = self.nodes.iter().position(|known| known == node)?;
        self.quorum.members().nth(position)
    }

    /// The validators' keys, in the order of the lock.
    pub fn keys(&self) -> &[ValidatorKeys] {
        &self.keys
    }

    /// The validators as they can be taken over, in the order of the lock.
    pub fn validators(&self) -> &[ImportedValidator] {
        &self.validators
    }

    /// Signatures of contracts, which only the chain can check.
    pub fn unchecked(&self) -> &[String] {
        &self.unchecked
    }
}

/// Checks hashes, numbers, members, keys and signatures of a lock; addresses in `contracts` are believed to be that.
pub fn verify(lock: ObolLock, contracts: &BTreeSet<Address>) -> Result<VerifiedObolLock, LockError> {
    let version = lock.version()?;
    check_hashes(&lock, version)?;
    let quorum = check_numbers(&lock)?;
    let nodes = check_nodes(&lock)?;
    let unchecked = wallet::check(&lock, contracts)?;
    let keys = check_keys(&lock, quorum)?;
    check_aggregate(&lock, &keys)?;
    let validators = check_validators(&lock, version, &keys)?;
    check_node_signatures(&lock, version, &nodes)?;
    Ok(VerifiedObolLock { lock, version, quorum, nodes, keys, validators, unchecked })
}

fn check_hashes(lock: &ObolLock, version: ObolVersion) -> Result<(), LockError> {
    let definition = &lock.definition;
    let hashes = [
        ("config_hash", definition.config_hash, lock.compute_config_hash(version)),
        ("definition_hash", definition.definition_hash, lock.compute_definition_hash(version)),
        ("lock_hash", lock.lock_hash, lock.compute_lock_hash(version)),
    ];
    match hashes.into_iter().find(|(_, said, computed)| said != computed) {
        Some((name, said, computed)) => Err(item(name, format!("{said} is said, {computed} it is"))),
        None => Ok(()),
    }
}

fn check_numbers(lock: &ObolLock) -> Result<Quorum, LockError> {
    let definition = &lock.definition;
    let quorum = Quorum::of(definition.operators.len()).ok_or_else(|| item("operators", "none"))?;
    if definition.threshold != quorum.quorum() as u64 {
        let (q, n) = (quorum.quorum(), quorum.operators());
        let reason =
            format!("{}, must be {q} of {n}: shares cannot be dealt anew by an import", definition.threshold);
        return Err(item("threshold", reason));
    }
    let counts =
        [("validators", definition.addresses.len()), ("distributed_validators", lock.validators.len())];
    match counts.into_iter().find(|(_, count)| *count as u64 != definition.num_validators) {
        Some((name, count)) => {
            Err(item(name, format!("{count}, num_validators is {}", definition.num_validators)))
        }
        None if lock.validators.is_empty() => Err(item("distributed_validators", "none")),
        None => Ok(quorum),
    }
}

fn check_nodes(lock: &ObolLock) -> Result<Vec<NodeKey>, LockError> {
    let mut nodes: Vec<NodeKey> = Vec::with_capacity(lock.definition.operators.len());
    for (position, operator) in lock.definition.operators.iter().enumerate() {
        let at = format!("operators[{position}].enr");
        let node = NodeKey::of_record(&operator.enr).map_err(|error| item(&*at, error))?;
        if nodes.contains(&node) {
            return Err(item(at, "its key appears twice"));
        }
        nodes.push(node);
    }
    Ok(nodes)
}

fn check_keys(lock: &ObolLock, quorum: Quorum) -> Result<Vec<ValidatorKeys>, LockError> {
    let mut seen = BTreeSet::new();
    let mut keys = Vec::with_capacity(lock.validators.len());
    for (position, validator) in lock.validators.iter().enumerate() {
        let at = format!("distributed_validators[{position}]");
        let points = [&validator.pubkey]
            .into_iter()
            .chain(validator.public_shares.iter().filter(|_| quorum.quorum() > 1));
        if !points.into_iter().all(|point| seen.insert(*point)) {
            return Err(item(at, "a key of it appears twice"));
        }
        let checked = check_validator_keys(&validator.pubkey, &validator.public_shares, quorum);
        keys.push(checked.map_err(|(field, reason)| item(format!("{at}.{field}"), reason))?);
    }
    Ok(keys)
}

/// A plain sum, as it was made. That every share is held by its operator it does not prove alone: whoever imports
/// finds its own shares in its keystores, and every operator signs a binding.
fn check_aggregate(lock: &ObolLock, keys: &[ValidatorKeys]) -> Result<(), LockError> {
    let shares = keys.iter().flat_map(|keys| &keys.public_shares);
    let shares: Vec<ProvenKey<MinPk>> =
        shares.map(|share| PublicKey::<MinPk>::from(*share).proven_elsewhere()).collect();
    let signature = signature_of(&lock.signature_aggregate).ok_or_else(|| {
        item("signature_aggregate", format!("{} bytes, must be 96", lock.signature_aggregate.len()))
    })?;
    fast_aggregate_verify(&shares, lock.lock_hash.as_slice(), &signature)
        .map_err(|error| item("signature_aggregate", error))
}

/// Deposits and registrations of all validators, and what remains of each.
fn check_validators(
    lock: &ObolLock,
    version: ObolVersion,
    keys: &[ValidatorKeys],
) -> Result<Vec<ImportedValidator>, LockError> {
    let fork = lock.definition.fork_version;
    let mut imported = Vec::with_capacity(lock.validators.len());
    let mut signed: Vec<(String, usize, B256, ValidatorSignature)> = Vec::new();
    for (position, (validator, addresses)) in
        lock.validators.iter().zip(&lock.definition.addresses).enumerate()
    {
        let at = |field: &str| format!("distributed_validators[{position}].{field}");
        let compounding = version >= ObolVersion::V10 && lock.definition.compounding;
        let one = imported_of(validator, addresses, compounding)
            .map_err(|(field, reason)| item(at(&field), reason))?;
        let whole = one.validator();
        let deposits = if version >= ObolVersion::V8 { "partial_deposit_data" } else { "deposit_data" };
        for (number, deposit) in one.deposits.iter().enumerate() {
            let root = whole.deposit_signing_root(fork, deposit.amount_gwei);
            signed.push((at(&format!("{deposits}[{number}].signature")), position, root, deposit.signature));
        }
        if let Some(registration) = &one.builder_registration {
            let root = whole.registration_signing_root(fork);
            signed.push((at("builder_registration.signature"), position, root, registration.signature));
        }
        imported.push(one);
    }
    let set = |(_, position, root, signature): &'_ (String, usize, B256, ValidatorSignature)| {
        (*position, *root, *signature)
    };
    let parts: Vec<_> = signed.iter().map(set).collect();
    let batch: Vec<_> = parts
        .iter()
        .map(|(position, root, signature)| SignatureSet::<MinPk> {
            key: keys[*position].group_key.into(),
            message: root.as_slice(),
            signature: *signature,
        })
        .collect();
    if verify_batch(&batch).is_ok() {
        return Ok(imported);
    }
    match find_bad(&batch).first() {
        Some(bad) => Err(item(&*signed[*bad].0, "is not the validator's")),
        None => Ok(imported),
    }
}

/// A validator as it can be taken over, or the field that does not hold and why.
fn imported_of(
    validator: &ObolValidator,
    addresses: &ObolAddress,
    compounding: bool,
) -> Result<ImportedValidator, (String, String)> {
    let credentials =
        if compounding { WithdrawalCredentials::compounding } else { WithdrawalCredentials::execution };
    let credentials = credentials(addresses.withdrawal);
    let fail = |field: &str, reason: &str| Err((field.to_owned(), reason.to_owned()));
    let mut deposits = Vec::new();
    for deposit in validator.deposits() {
        if *deposit.pubkey != *validator.pubkey.as_slice() {
            return fail("deposit.pubkey", "of another validator");
        }
        if *deposit.withdrawal_credentials != *credentials.bytes().as_slice() {
            return fail("deposit.withdrawal_credentials", "not of the withdrawal_address of the definition");
        }
        let Some(signature) = signature_of(&deposit.signature) else {
            return fail("deposit.signature", "has not 96 bytes");
        };
        deposits.push(Deposit { amount_gwei: deposit.amount.0, signature });
    }
    let mut registration = None;
    if let Some(said) = &validator.builder_registration {
        if said.message.pubkey != validator.pubkey {
            return fail("builder_registration.message.pubkey", "of another validator");
        }
        if said.message.fee_recipient != addresses.fee_recipient {
            return fail("builder_registration.message.fee_recipient", "not that of the definition");
        }
        let Some(signature) = signature_of(&said.signature) else {
            return fail("builder_registration.signature", "has not 96 bytes");
        };
        registration = Some(BuilderRegistration { timestamp: said.message.timestamp, signature });
    }
    Ok(ImportedValidator {
        may_sign: false,
        pubkey: validator.pubkey,
        public_shares: validator.public_shares.clone(),
        fee_recipient: addresses.fee_recipient,
        withdrawal_credentials: credentials,
        deposits,
        target_gas_limit: validator.builder_registration.as_ref().map(|said| said.message.gas_limit),
        builder_registration: registration,
    })
}

/// Every operator's node has signed; before version 1.7 none did.
fn check_node_signatures(lock: &ObolLock, version: ObolVersion, nodes: &[NodeKey]) -> Result<(), LockError> {
    let signatures = &lock.node_signatures;
    let expected = if version >= ObolVersion::V7 { nodes.len() } else { 0 };
    if signatures.len() != expected {
        return Err(item("node_signatures", format!("{}, must be {expected}", signatures.len())));
    }
    for (position, (node, signature)) in nodes.iter().zip(signatures).enumerate() {
        let at = format!("node_signatures[{position}]");
        // The recovery byte says nothing that the record does not.
        let compact = signature.first_chunk::<64>().filter(|_| signature.len() == 65);
        let compact = compact.ok_or_else(|| item(&*at, format!("{} bytes, must be 65", signature.len())))?;
        node.verify(lock.lock_hash, compact).map_err(|error| item(at, error))?;
    }
    Ok(())
}

fn signature_of(bytes: &[u8]) -> Option<ValidatorSignature> {
    ValidatorSignature::try_from(bytes).ok()
}
