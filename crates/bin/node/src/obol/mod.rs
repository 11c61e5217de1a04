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
use aequa_crypto::obol::{VerifiedObolLock, verify};
use aequa_types::Address;
use aequa_types::lock::LOCK_BYTES_MAX;
use aequa_types::obol::ObolLock;
use aequa_types::obol::imported::ImportedCluster;
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
    if !files::is_there(&path) {
        return Ok(None);
    }
    let at = path.display();
    let unreadable = |error: String| {
        ExitError::refused(format!("{at}: {error}"))
            .hint("it says which keys may not sign: import again, or restore it from a backup")
    };
    let text = files::read_input(&path, Some(data_dir), LOCK_BYTES_MAX)
        .map_err(|error| unreadable(format!("cannot read it: {error}")))?;
    ImportedCluster::from_json(&text).map(Some).map_err(|error| unreadable(error.to_string()))
}

#[cfg(test)]
mod tests;
