//! Bounds that keep the hashes faithful: a list cut to its SSZ limit would hash like another.

use super::{ObolDefinition, ObolLock, ObolOperator, ObolValidator, ObolVersion, WALLET_SIGNATURE_BYTES};
use crate::limits::OPERATORS_MAX;
use crate::validator::{DEPOSITS_MAX, VALIDATORS_MAX};

/// Most signatures that a contract may ask for (version 1.11).
const WALLET_SIGNATURES_MAX: usize = 32;
/// Longest node record in bytes.
const ENR_BYTES_MAX: usize = 1024;
/// Most amounts of deposits.
const AMOUNTS_MAX: usize = 256;

impl ObolLock {
    /// Whether all is within its bounds, and nothing is said that the version does not hash.
    pub(super) fn check_form(&self, version: ObolVersion) -> Result<(), String> {
        let definition = &self.definition;
        definition.check_texts()?;
        definition.check_version(version)?;
        at_most("operators", definition.operators.len(), OPERATORS_MAX)?;
        at_most("node_signatures", self.node_signatures.len(), OPERATORS_MAX)?;
        at_most("validators", definition.addresses.len(), VALIDATORS_MAX)?;
        at_most("distributed_validators", self.validators.len(), VALIDATORS_MAX)?;
        at_most("deposit_amounts", definition.amounts().len(), AMOUNTS_MAX)?;
        for (position, operator) in definition.operators.iter().enumerate() {
            operator.check_form(version).map_err(|reason| format!("operators[{position}].{reason}"))?;
        }
        check_wallet(version, &definition.creator.address, &definition.creator.config_signature)
            .map_err(|reason| format!("creator.{reason}"))?;
        for (position, validator) in self.validators.iter().enumerate() {
            validator
                .check_form(version)
                .map_err(|reason| format!("distributed_validators[{position}].{reason}"))?;
        }
        Ok(())
    }
}

impl ObolDefinition {
    fn check_texts(&self) -> Result<(), String> {
        let texts = [
            ("uuid", &self.uuid, 64),
            ("name", &self.name, 256),
            ("timestamp", &self.timestamp, 32),
            ("dkg_algorithm", &self.dkg_algorithm, 32),
            ("consensus_protocol", &self.consensus_protocol, 256),
        ];
        match texts.into_iter().find(|(_, text, bytes_max)| text.len() > *bytes_max) {
            Some((name, text, bytes_max)) => {
                Err(format!("{name} has {} bytes, the limit is {bytes_max}", text.len()))
            }
            None => Ok(()),
        }
    }

    /// What a version does not hash it may not say.
    fn check_version(&self, version: ObolVersion) -> Result<(), String> {
        let fields = [
            ("deposit_amounts", !self.amounts().is_empty(), ObolVersion::V8),
            ("consensus_protocol", !self.consensus_protocol.is_empty(), ObolVersion::V9),
            ("target_gas_limit", self.target_gas_limit != 0, ObolVersion::V10),
            ("compounding", self.compounding, ObolVersion::V10),
        ];
        match fields.into_iter().find(|(_, is_there, since)| *is_there && version < *since) {
            Some((name, ..)) => Err(format!("{name} is not hashed in {}", version.name())),
            None => Ok(()),
        }
    }
}

impl ObolOperator {
    fn check_form(&self, version: ObolVersion) -> Result<(), String> {
        if self.enr.len() > ENR_BYTES_MAX {
            return Err(format!("enr has {} bytes, the limit is {ENR_BYTES_MAX}", self.enr.len()));
        }
        check_wallet(version, &self.address, &self.config_signature)?;
        check_wallet(version, &self.address, &self.enr_signature)
            .map_err(|reason| reason.replace("config_signature", "enr_signature"))
    }
}

impl ObolValidator {
    fn check_form(&self, version: ObolVersion) -> Result<(), String> {
        at_most("public_shares", self.public_shares.len(), OPERATORS_MAX)?;
        at_most("partial_deposit_data", self.partial_deposit_data.len(), DEPOSITS_MAX)?;
        if version < ObolVersion::V8 && !self.partial_deposit_data.is_empty() {
            return Err(format!("partial_deposit_data is not hashed in {}", version.name()));
        }
        if version >= ObolVersion::V8 && self.deposit_data.is_some() {
            return Err(format!("deposit_data is not hashed in {}", version.name()));
        }
        if (version >= ObolVersion::V7) != self.builder_registration.is_some() {
            let missing = "builder_registration is missing";
            let needless = "builder_registration is not hashed in v1.6.0";
            return Err(if version >= ObolVersion::V7 { missing } else { needless }.into());
        }
        if let Some(registration) = &self.builder_registration {
            at_most("builder_registration.signature", registration.signature.len(), 96)?;
        }
        for deposit in self.deposit_data.iter().chain(&self.partial_deposit_data) {
            at_most("deposit pubkey", deposit.pubkey.len(), 48)?;
            at_most("deposit withdrawal_credentials", deposit.withdrawal_credentials.len(), 32)?;
            at_most("deposit signature", deposit.signature.len(), 96)?;
        }
        Ok(())
    }
}

fn at_most(name: &str, length: usize, limit: usize) -> Result<(), String> {
    if length > limit { Err(format!("{name} has {length}, the limit is {limit}")) } else { Ok(()) }
}

/// An address and a signature of it, where they are.
fn check_wallet(version: ObolVersion, address: &[u8], signature: &[u8]) -> Result<(), String> {
    if !matches!(address.len(), 0 | 20) {
        return Err(format!("address has {} bytes, must have 20", address.len()));
    }
    let signatures_max = if version >= ObolVersion::V11 { WALLET_SIGNATURES_MAX } else { 1 };
    let is_whole = signature.len().is_multiple_of(WALLET_SIGNATURE_BYTES);
    if !is_whole || signature.len() > signatures_max * WALLET_SIGNATURE_BYTES {
        let bytes = signature.len();
        return Err(format!(
            "config_signature has {bytes} bytes, must have 65 for each of at most {signatures_max}"
        ));
    }
    Ok(())
}
