//! `deposit-data.json`: what the deposit contract is to be given, as the tools of stakers read it.
//!
//! An array in the order of the keys, hexadecimal without 0x, amounts as numbers of gwei.

use aequa_types::lock::ClusterLock;
use aequa_types::network::{self, NETWORKS};
use serde::Serialize;

/// Name of the file, beside the lock.
pub const DEPOSITS_FILE: &str = "deposit-data.json";

/// Version of the official tool whose form this is; launchpads refuse older ones.
const FORM: &str = "2.8.0";

/// The version of the genesis fork of a network by name, or itself in hexadecimal.
pub fn fork_version(text: &str) -> Result<[u8; 4], String> {
    if let Some(network) = NETWORKS.iter().find(|network| network.name == text) {
        return Ok(network.fork_version.0);
    }
    let mut version = [0; 4];
    match hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut version) {
        Ok(()) => Ok(version),
        Err(_) => {
            let names: Vec<_> = NETWORKS.iter().map(|network| network.name).collect();
            Err(format!("neither four bytes in hexadecimal nor one of {}", names.join(", ")))
        }
    }
}

#[derive(Serialize)]
struct Row {
    pubkey: String,
    withdrawal_credentials: String,
    amount: u64,
    signature: String,
    deposit_message_root: String,
    deposit_data_root: String,
    fork_version: String,
    network_name: &'static str,
    deposit_cli_version: &'static str,
}

/// The deposits of a lock.
pub fn deposit_data(lock: &ClusterLock) -> String {
    let known = network::of_fork(lock.fork_version);
    let mut rows: Vec<Row> = Vec::new();
    for validator in &lock.validators {
        rows.extend(validator.deposits.iter().map(|deposit| Row {
            pubkey: hex::encode(validator.pubkey),
            withdrawal_credentials: hex::encode(validator.withdrawal_credentials.bytes()),
            amount: deposit.amount_gwei,
            signature: hex::encode(deposit.signature),
            deposit_message_root: hex::encode(validator.deposit_message_root(deposit.amount_gwei)),
            deposit_data_root: hex::encode(validator.deposit_data_root(deposit)),
            fork_version: hex::encode(lock.fork_version),
            network_name: known.map_or("devnet", |network| network.name),
            deposit_cli_version: FORM,
        }));
    }
    rows.sort_by(|a, b| a.pubkey.cmp(&b.pubkey));
    // Strings and numbers: there is no failing case.
    let mut text = serde_json::to_string_pretty(&rows).expect("rows are plain data");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_given_by_name_or_by_its_genesis_fork() {
        assert_eq!(fork_version("hoodi"), Ok([0x10, 0, 9, 0x10]));
        assert_eq!(fork_version("0x00000001"), Ok([0, 0, 0, 1]));
        assert_eq!(fork_version("90000069"), Ok([0x90, 0, 0, 0x69]));
        for wrong in ["", "main", "0x00", "0x0000000001"] {
            assert!(fork_version(wrong).unwrap_err().contains("hoodi"), "{wrong}");
        }
    }
}
