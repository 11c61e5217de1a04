//! The validators of an Obol cluster, taken over: one operator's part, on its own machine.
//!
//! ```text
//! DATA/imported-validators.json             public data of the validators, and that their keys may not sign yet
//! DATA/imported-slashing-protection.json    what they have signed (EIP-3076, minimal), by their own keys
//! DATA/keys/keystore-<validator>.json .txt  this operator's shares, in the order of the Obol lock
//! ```
//!
//! | module | one idea |
//! |---|---|
//! | `bind` | this operator's new identity, signed with its old key |
//! | `import` | everything is checked, then everything is written |
//! | `protection` | what the validators have signed is theirs, of their network, and complete |
//!
//! # Rules
//!
//! 1. Nothing is written before all of it was checked: the lock, the bindings of all operators, the history of
//!    every validator, the own share of every validator.
//! 2. The mark that keys may not sign is durable before a key is. While it is there, nothing signs with them; it goes
//!    with the folder, also into a backup.
//! 3. What is there of another cluster is never overwritten. The same command again goes on; with a newer history it
//!    raises the watermarks and never lowers one.

pub mod bind;
pub mod import;
mod protection;

use crate::exit::ExitError;
use crate::files;
use aequa_crypto::lock::VerifiedLock;
use aequa_crypto::obol::{VerifiedObolLock, verify};
use aequa_types::definition::{Definition, ImportedValidators};
use aequa_types::interchange::INTERCHANGE_BYTES_MAX;
use aequa_types::lock::{LOCK_BYTES_MAX, Operator};
use aequa_types::obol::ObolLock;
use aequa_types::obol::imported::ImportedCluster;
use aequa_types::validator::Validator;
use aequa_types::{Address, OperatorIndex};
use alloy_primitives::B256;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::path::Path;

/// Public data of imported validators, and that they may not sign yet.
pub const IMPORTED_FILE: &str = "imported-validators.json";
/// What imported validators have signed.
pub const PROTECTION_FILE: &str = "imported-slashing-protection.json";
/// An operator's binding.
pub const BINDING_FILE: &str = "binding.json";

/// Reads and verifies an Obol lock; addresses in `contracts` are believed to be contracts.
pub fn load_lock(path: &Path, contracts: &BTreeSet<Address>) -> Result<VerifiedObolLock, ExitError> {
    let at = path.display();
    let text = files::read_input(path, None, LOCK_BYTES_MAX)
        .map_err(|error| ExitError::usage(format!("cannot read the Obol lock {at}: {error}")))?;
    let lock = ObolLock::from_json(&text).map_err(|error| ExitError::refused(format!("{at}: {error}")))?;
    verify(lock, contracts).map_err(|error| {
        ExitError::refused(format!("{at} does not verify: {error}")).hint(
            "take the cluster-lock.json of another operator; wallets that are contracts are named with --contract",
        )
    })
}

/// What was imported into an operator's folder, if anything was. Each validator in it is held.
pub fn imported(data_dir: &Path) -> Result<Option<ImportedCluster>, ExitError> {
    let path = data_dir.join(IMPORTED_FILE);
    if files::is_there(&path) { read(&path, Some(data_dir)).map(Some) } else { Ok(None) }
}

/// Reads such a file of any operator.
pub fn read_imported(path: &Path) -> Result<ImportedCluster, ExitError> {
    read(path, None)
}

fn read(path: &Path, home: Option<&Path>) -> Result<ImportedCluster, ExitError> {
    let at = path.display();
    let unreadable = |error: String| {
        ExitError::refused(format!("{at}: {error}"))
            .hint("it says which keys may not sign: import again, or restore it from a backup")
    };
    let text = files::read_input(path, home, LOCK_BYTES_MAX)
        .map_err(|error| unreadable(format!("cannot read it: {error}")))?;
    ImportedCluster::from_json(&text).map_err(|error| unreadable(error.to_string()))
}

/// What a definition takes over, with these operators: those that were bound, in the same order.
pub fn validators_of(
    imported: &ImportedCluster,
    operators: &[Operator],
) -> Result<ImportedValidators, String> {
    let bound = imported.operators.iter().map(|bound| (bound.identity_key, Some(bound.enc_key)));
    if !operators.iter().map(|operator| (operator.identity_key, operator.enc_key)).eq(bound) {
        return Err("operators: not those that were bound, in the order of the Obol lock".into());
    }
    let mut validators = Vec::with_capacity(imported.validators.len());
    for (position, one) in imported.validators.iter().enumerate() {
        if one.builder_registration.is_none() {
            return Err(format!(
                "validators[{position}] has no builder registration: its lock is of version 1.6"
            ));
        }
        validators.push(Validator { deposits: Vec::new(), ..one.validator() });
    }
    Ok(ImportedValidators { obol_lock_hash: imported.obol_lock_hash, validators })
}

/// Whether a definition takes over just what was imported into this folder.
pub fn check_definition(
    data_dir: &Path,
    definition: &Definition,
    me: OperatorIndex,
) -> Result<(), ExitError> {
    let refused = |reason: String| {
        Err(ExitError::refused(reason).hint("import first, and write the definition with dkg new --imported"))
    };
    match (&definition.imported, imported(data_dir)?) {
        // Those of a resharing are in the lock it follows.
        (None, None) => Ok(()),
        (None, Some(_)) if definition.resharing.is_some() => Ok(()),
        (Some(_), None) => refused("the definition has imported validators, and this folder has none".into()),
        (None, Some(_)) => {
            refused("the definition leaves out the validators imported into this folder".into())
        }
        (Some(said), Some(own)) => {
            let expected = match validators_of(&own, &definition.operators) {
                Ok(expected) => expected,
                Err(reason) => return refused(format!("the definition: {reason}")),
            };
            if expected != *said || own.operator != me || own.fork_version != definition.fork_version {
                return refused("the definition has other validators than this folder".into());
            }
            Ok(())
        }
    }
}

/// The mark of imported validators of a lock, as a warning; where it is missing they must not even be loaded.
pub fn check_held(data_dir: &Path, lock: &VerifiedLock) -> Result<Option<String>, ExitError> {
    let held = imported(data_dir)?;
    if let Some(from) = lock.lock().imported_from
        && held.as_ref().is_none_or(|held| held.obol_lock_hash != from)
    {
        return Err(ExitError::refused(format!(
            "{IMPORTED_FILE} is missing, or of another Obol lock than {from}"
        ))
        .hint("it says that their keys may not sign yet: restore it from a backup, or import again"));
    }
    held.as_ref().map_or(Ok(()), |held| check_history(data_dir, held))?;
    Ok(held.map(|held| {
        let (count, name) = (held.validators.len(), held.name);
        format!("{count} validators imported from {name:?} may not sign yet")
    }))
}

/// Whether what the imported validators have signed is what was imported, to the byte.
fn check_history(data_dir: &Path, held: &ImportedCluster) -> Result<(), ExitError> {
    let path = data_dir.join(PROTECTION_FILE);
    let problem = match files::read_input(&path, Some(data_dir), INTERCHANGE_BYTES_MAX) {
        Ok(text) if B256::new(Sha256::digest(&text).into()) == held.slashing_protection => return Ok(()),
        Ok(_) => "it is not the history that was imported".to_owned(),
        Err(error) => format!("cannot read it: {error}"),
    };
    Err(ExitError::refused(format!("{}: {problem}", path.display()))
        .hint("it says what imported keys have signed elsewhere: restore it from a backup"))
}

#[cfg(test)]
mod tests;
