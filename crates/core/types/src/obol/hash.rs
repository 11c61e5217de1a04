//! The hashes of an Obol lock: SSZ merkleisation as its own tools do it.
//!
//! It differs from the specification where those tools do:
//!
//! 1. Fixed byte strings that are too short are padded on the left, those of more than 32 bytes are merkleised.
//! 2. Version 1.6 puts the four members of the deposit beside the validator's own, without a container.
//! 3. From version 1.8 on, every deposit is in a container of one member more.
//! 4. From version 1.11 on, signatures of wallets are lists; before they are 65 bytes, zeros if there is none.

use super::{
    ObolDefinition, ObolDeposit, ObolLock, ObolOperator, ObolRegistration, ObolValidator, ObolVersion,
};
use alloy_primitives::{B256, FixedBytesSliceExt as _};
use tree_hash::{BYTES_PER_CHUNK, merkle_root, mix_in_length};

const OPERATORS_LIMIT: usize = 256;
const VALIDATORS_LIMIT: usize = 65_536;
const DEPOSITS_LIMIT: usize = 256;
const SIGNATURES_LIMIT: usize = 32;
const SIGNATURE_BYTES: usize = super::WALLET_SIGNATURE_BYTES;

impl ObolLock {
    /// What the definition's creator has signed.
    pub fn compute_config_hash(&self, version: ObolVersion) -> B256 {
        container(&members(&self.definition, version, Depth::Config))
    }

    /// The hash of the definition, with `config_hash` as it stands.
    pub fn compute_definition_hash(&self, version: ObolVersion) -> B256 {
        let mut leaves = members(&self.definition, version, Depth::Definition);
        leaves.push(self.definition.config_hash);
        container(&leaves)
    }

    /// The hash of everything but the signatures of the whole.
    pub fn compute_lock_hash(&self, version: ObolVersion) -> B256 {
        let validators = self.validators.iter().map(|one| validator(one, version));
        container(&[self.compute_definition_hash(version), list(validators, VALIDATORS_LIMIT)])
    }
}

/// How much of a definition is hashed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// What was proposed.
    Config,
    /// The operators' answers too.
    Definition,
}

fn members(definition: &ObolDefinition, version: ObolVersion, depth: Depth) -> Vec<B256> {
    let mut leaves = vec![
        text(&definition.uuid, 64),
        text(&definition.name, 256),
        text(&definition.version, 16),
        text(&definition.timestamp, 32),
        number(definition.num_validators),
        number(definition.threshold),
        text(&definition.dkg_algorithm, 32),
        bytes(definition.fork_version.as_slice(), 4),
        list(definition.operators.iter().map(|one| operator(one, version, depth)), OPERATORS_LIMIT),
    ];
    let mut creator = vec![bytes(&definition.creator.address, 20)];
    if depth == Depth::Definition {
        creator.push(wallet(&definition.creator.config_signature, version));
    }
    leaves.push(container(&creator));
    let addresses = definition.addresses.iter().map(|one| {
        container(&[bytes(one.fee_recipient.as_slice(), 20), bytes(one.withdrawal.as_slice(), 20)])
    });
    leaves.push(list(addresses, VALIDATORS_LIMIT));
    if version >= ObolVersion::V8 {
        leaves.push(numbers(definition.amounts().iter().map(|amount| amount.0), DEPOSITS_LIMIT));
    }
    if version >= ObolVersion::V9 {
        leaves.push(text(&definition.consensus_protocol, 256));
    }
    if version >= ObolVersion::V10 {
        leaves.push(number(definition.target_gas_limit));
        leaves.push(number(definition.compounding.into()));
    }
    leaves
}

fn operator(operator: &ObolOperator, version: ObolVersion, depth: Depth) -> B256 {
    let mut leaves = vec![bytes(&operator.address, 20)];
    if depth == Depth::Definition {
        leaves.push(text(&operator.enr, 1024));
        leaves.push(wallet(&operator.config_signature, version));
        leaves.push(wallet(&operator.enr_signature, version));
    }
    container(&leaves)
}

fn wallet(signature: &[u8], version: ObolVersion) -> B256 {
    if version < ObolVersion::V11 {
        return bytes(signature, SIGNATURE_BYTES);
    }
    list(signature.chunks(SIGNATURE_BYTES).map(|one| bytes(one, SIGNATURE_BYTES)), SIGNATURES_LIMIT)
}

fn validator(validator: &ObolValidator, version: ObolVersion) -> B256 {
    let shares = validator.public_shares.iter().map(|share| bytes(share.as_slice(), 48));
    let mut leaves = vec![bytes(validator.pubkey.as_slice(), 48), list(shares, OPERATORS_LIMIT)];
    let none = ObolDeposit {
        pubkey: Default::default(),
        withdrawal_credentials: Default::default(),
        amount: super::Gwei(0),
        signature: Default::default(),
    };
    let first = validator.deposit_data.as_ref().unwrap_or(&none);
    match version {
        ObolVersion::V6 => leaves.extend(deposit(first)),
        ObolVersion::V7 => leaves.push(container(&deposit(first))),
        ObolVersion::V8 | ObolVersion::V9 | ObolVersion::V10 | ObolVersion::V11 => {
            let deposits = validator.partial_deposit_data.iter();
            let wrapped = deposits.map(|one| container(&[container(&deposit(one))]));
            leaves.push(list(wrapped, DEPOSITS_LIMIT));
        }
    }
    leaves.extend(validator.builder_registration.as_ref().map(registration));
    container(&leaves)
}

fn deposit(deposit: &ObolDeposit) -> [B256; 4] {
    [
        bytes(&deposit.pubkey, 48),
        bytes(&deposit.withdrawal_credentials, 32),
        number(deposit.amount.0),
        bytes(&deposit.signature, 96),
    ]
}

fn registration(registration: &ObolRegistration) -> B256 {
    let message = &registration.message;
    let message = container(&[
        bytes(message.fee_recipient.as_slice(), 20),
        number(message.gas_limit),
        number(message.timestamp),
        bytes(message.pubkey.as_slice(), 48),
    ]);
    container(&[message, bytes(&registration.signature, 96)])
}

fn container(leaves: &[B256]) -> B256 {
    merkle_root(leaves.as_flattened(), leaves.len())
}

fn list(roots: impl Iterator<Item = B256>, limit: usize) -> B256 {
    let roots: Vec<B256> = roots.collect();
    mix_in_length(&merkle_root(roots.as_flattened(), limit), roots.len())
}

/// A string of at most `limit` bytes.
fn text(text: &str, limit: usize) -> B256 {
    mix_in_length(&merkle_root(text.as_bytes(), limit.div_ceil(BYTES_PER_CHUNK)), text.len())
}

/// A list of at most `limit` numbers.
fn numbers(numbers: impl Iterator<Item = u64>, limit: usize) -> B256 {
    let packed: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
    mix_in_length(&merkle_root(&packed, (8 * limit).div_ceil(BYTES_PER_CHUNK)), packed.len() / 8)
}

fn number(number: u64) -> B256 {
    B256::right_padding_from(&number.to_le_bytes())
}

/// A string of `length` bytes, of which leading ones may be missing.
fn bytes(bytes: &[u8], length: usize) -> B256 {
    let mut padded = vec![0; length.saturating_sub(bytes.len())];
    padded.extend_from_slice(bytes);
    merkle_root(&padded, length.div_ceil(BYTES_PER_CHUNK))
}
