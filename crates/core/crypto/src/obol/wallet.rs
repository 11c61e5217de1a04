//! Signatures of the wallets of an Obol cluster: EIP-712, of one string.
//!
//! A contract says itself which signatures are its own (ERC-1271), and only the chain can be asked. What is not the
//! ECDSA signature of an address is refused, unless the caller says that the address is a contract: then it is
//! reported as not checked.

use crate::lock::{LockError, item};
use crate::transaction::{StructEncoder, domain_of, keccak256, recover};
use aequa_types::Address;
use aequa_types::network;
use aequa_types::obol::{ObolLock, WALLET_SIGNATURE_BYTES};
use alloy_primitives::B256;
use sha3::{Digest as _, Keccak256};
use std::collections::BTreeSet;

/// What an address has signed, and where it stands in the document.
struct Claim<'a> {
    item: String,
    address: &'a [u8],
    kind: &'static str,
    field: &'static str,
    value: String,
    signature: &'a [u8],
}

/// Checks every signature of a wallet; gives the items that are a contract's.
pub(super) fn check(lock: &ObolLock, contracts: &BTreeSet<Address>) -> Result<Vec<String>, LockError> {
    let claims = claims(lock)?;
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let fork = lock.definition.fork_version;
    let network = network::of_fork(fork).ok_or_else(|| {
        item("fork_version", format!("{fork} is of no network that is known: wallets cannot be checked"))
    })?;
    let mut unchecked = Vec::new();
    for claim in claims {
        let address = <[u8; 20]>::try_from(claim.address)
            .map(Address::from)
            .map_err(|_| item(&*claim.item, "there is a signature, and no address"))?;
        if claim.is_of(address, network.chain_id) {
            continue;
        }
        if !contracts.contains(&address) {
            let reason = format!("is not the ECDSA signature of {address}: if that is a contract, say so");
            return Err(item(claim.item, reason));
        }
        unchecked.push(format!("{}: of the contract {address}", claim.item));
    }
    Ok(unchecked)
}

impl Claim<'_> {
    fn is_of(&self, address: Address, chain_id: u64) -> bool {
        let signature = <&[u8; WALLET_SIGNATURE_BYTES]>::try_from(self.signature);
        let digest = digest(chain_id, self.kind, self.field, &self.value);
        signature.is_ok_and(|signature| recover(digest, signature) == Some(address))
    }
}

/// All operators have signed, or none has; the creator may be missing only where none has.
fn claims(lock: &ObolLock) -> Result<Vec<Claim<'_>>, LockError> {
    let definition = &lock.definition;
    let config = definition.config_hash.to_string();
    let mut claims = Vec::new();
    let creator = &definition.creator;
    if !creator.config_signature.is_empty() {
        claims.push(Claim {
            item: "creator.config_signature".into(),
            address: &creator.address,
            kind: "CreatorConfigHash",
            field: "creator_config_hash",
            value: config.clone(),
            signature: &creator.config_signature,
        });
    }
    let unsigned = definition
        .operators
        .iter()
        .all(|one| one.config_signature.is_empty() && one.enr_signature.is_empty());
    if unsigned {
        return Ok(claims);
    }
    if claims.is_empty() {
        return Err(item("creator.config_signature", "is missing, and operators have signed"));
    }
    for (position, operator) in definition.operators.iter().enumerate() {
        let at = |field: &str| format!("operators[{position}].{field}");
        let signed = [
            (
                "config_signature",
                &operator.config_signature,
                "OperatorConfigHash",
                "operator_config_hash",
                &config,
            ),
            ("enr_signature", &operator.enr_signature, "ENR", "enr", &operator.enr),
        ];
        for (name, signature, kind, field, value) in signed {
            if signature.is_empty() {
                return Err(item(at(name), "is missing, and other operators have signed"));
            }
            let (address, value) = (&*operator.address, value.clone());
            claims.push(Claim { item: at(name), address, kind, field, value, signature });
        }
    }
    Ok(claims)
}

/// The EIP-712 digest of a structure of one string.
fn digest(chain_id: u64, kind: &str, field: &str, value: &str) -> B256 {
    let mut encoder = StructEncoder::of(&keccak256(format!("{kind}(string {field})").as_bytes()));
    encoder.bytes(value.as_bytes());
    let mut hasher = Keccak256::new_with_prefix([0x19, 0x01]);
    hasher.update(domain_of("Obol", chain_id));
    hasher.update(encoder.finish());
    B256::new(hasher.finalize().into())
}
