//! What the validators of an Obol cluster have signed (EIP-3076).
//!
//! The clients of such a cluster know a validator by the public share of their operator, so that their files name that
//! or the validator's own key. It is kept under the latter. A validator of which the file knows no signature is refused
//! unless the operator says that it never signed: an empty database looks like a young validator.

use crate::exit::ExitError;
use crate::files;
use aequa_crypto::obol::VerifiedObolLock;
use aequa_types::interchange::{INTERCHANGE_BYTES_MAX, Interchange};
use aequa_types::validator::ValidatorKey;
use aequa_types::{OperatorIndex, network};
use alloy_primitives::B256;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Whose key one of a lock is.
enum Owner {
    /// The validator's own, or this operator's share of it.
    Own(ValidatorKey),
    /// Another operator's share.
    Other(OperatorIndex),
}

/// The root of the network: known by its name, or given.
pub fn genesis_root(lock: &VerifiedObolLock, given: Option<B256>) -> Result<B256, ExitError> {
    let fork = lock.lock().definition.fork_version;
    match (network::of_fork(fork), given) {
        (Some(network), Some(given)) if network.genesis_validators_root != given => {
            Err(ExitError::usage(format!(
                "--genesis-validators-root is {given}, that of {} is {}",
                network.name, network.genesis_validators_root
            )))
        }
        (Some(network), _) => Ok(network.genesis_validators_root),
        (None, Some(given)) => Ok(given),
        (None, None) => Err(ExitError::usage(format!("fork {fork} is of no network that is known by name"))
            .hint("give --genesis-validators-root, as its beacon nodes tell it")),
    }
}

/// Reads a file and checks that it is of this network, of these validators, and says something of each.
pub fn read(
    path: &Path,
    lock: &VerifiedObolLock,
    me: OperatorIndex,
    genesis_validators_root: B256,
    never_signed: &BTreeSet<ValidatorKey>,
) -> Result<Interchange, ExitError> {
    let at = path.display();
    let text = files::read_input(path, None, INTERCHANGE_BYTES_MAX).map_err(|error| {
        ExitError::usage(format!("cannot read {at}: {error}"))
            .hint("ask the validator client for the minimal form, of these keys alone, if it is too large")
    })?;
    let refused = |reason: String| ExitError::refused(format!("{at}: {reason}"));
    let file = Interchange::from_json(&text).map_err(|error| refused(error.to_string()))?;
    if file.genesis_validators_root != genesis_validators_root {
        let found = file.genesis_validators_root;
        return Err(refused(format!(
            "genesis_validators_root is {found}, the lock's network has {genesis_validators_root}"
        ))
        .hint("it is the history of validators of another network"));
    }
    by_validator(&file, lock, me, never_signed).map_err(|(reason, hint)| refused(reason).hint(hint))
}

fn by_validator(
    file: &Interchange,
    lock: &VerifiedObolLock,
    me: OperatorIndex,
    never_signed: &BTreeSet<ValidatorKey>,
) -> Result<Interchange, (String, &'static str)> {
    let owners = owners(lock, me);
    let mut keys = BTreeMap::new();
    for (key, watermark) in &file.keys {
        let validator = match owners.get(key) {
            Some(Owner::Own(validator)) => *validator,
            Some(Owner::Other(operator)) => {
                return Err((
                    format!("{key} is the share of operator {operator}"),
                    "every operator imports the history of its own validator client",
                ));
            }
            None => {
                return Err((
                    format!("{key} is of no validator of the lock"),
                    "export the keys of this cluster alone",
                ));
            }
        };
        let known: &mut aequa_types::interchange::ValidatorWatermark = keys.entry(validator).or_default();
        *known = known.merge(*watermark);
    }
    for validator in lock.validators() {
        let watermark = keys.entry(validator.pubkey).or_default();
        match (watermark.is_empty(), never_signed.contains(&validator.pubkey)) {
            (true, false) => {
                return Err((
                    format!("it knows no signature of validator {}", validator.pubkey),
                    "export from the client that has signed; if none ever did, say --never-signed with its key",
                ));
            }
            (false, true) => {
                return Err((
                    format!("--never-signed names {}, which has signed", validator.pubkey),
                    "leave it out: what the file knows of it is kept",
                ));
            }
            (true, true) | (false, false) => {}
        }
    }
    match never_signed.iter().find(|key| !keys.contains_key(*key)) {
        Some(stranger) => Err((
            format!("--never-signed names {stranger}, which is no validator of the lock"),
            "give the validator's own key",
        )),
        None => Ok(Interchange { genesis_validators_root: file.genesis_validators_root, keys }),
    }
}

fn owners(lock: &VerifiedObolLock, me: OperatorIndex) -> BTreeMap<ValidatorKey, Owner> {
    let mut owners = BTreeMap::new();
    for validator in lock.validators() {
        owners.insert(validator.pubkey, Owner::Own(validator.pubkey));
        for (operator, share) in lock.quorum().members().zip(&validator.public_shares) {
            let owner = if operator == me { Owner::Own(validator.pubkey) } else { Owner::Other(operator) };
            owners.insert(*share, owner);
        }
    }
    owners
}
