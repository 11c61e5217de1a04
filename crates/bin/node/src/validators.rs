//! Files about validators: keystores of shares, and keys that exist already.

use crate::exit::ExitError;
use crate::files;
use crate::keys::open_keystore;
use aequa_crypto::bls::{MinPk, SecretKey};
use aequa_crypto::keystore::{KEYSTORE_BYTES_MAX, Keystore};
use aequa_crypto::lock::VerifiedLock;
use aequa_types::OperatorIndex;
use aequa_types::validator::VALIDATORS_MAX;
use std::io;
use std::path::{Path, PathBuf};

/// The keystore of an operator's share of this validator's key.
pub fn keystore_name(validator: usize) -> String {
    format!("keystore-{validator}.json")
}

/// Compares the own keystores with the lock, by what they say in clear: a share of another operator, or of another
/// cluster, is found before anything is to be signed with it. Says whether one of them is insecure.
pub fn check_own_keystores(
    dir: &Path,
    home: &Path,
    lock: &VerifiedLock,
    me: OperatorIndex,
) -> Result<bool, ExitError> {
    let mut insecure = false;
    for (number, validator) in lock.validators().iter().enumerate() {
        let path = dir.join(keystore_name(number));
        let at = path.display();
        let text = files::read_input(&path, Some(home), KEYSTORE_BYTES_MAX).map_err(|error| {
            ExitError::refused(format!("cannot read the share of validator {number} at {at}: {error}"))
                .hint("restore it from a backup of this operator")
        })?;
        let keystore =
            Keystore::from_json(&text).map_err(|error| ExitError::refused(format!("{at}: {error}")))?;
        let expected = validator.public_shares.get(me.as_usize()).map(|share| hex::encode(share.to_bytes()));
        if Some(keystore.label().pubkey) != expected {
            return Err(ExitError::refused(format!("{at} is not the share of operator {me}"))
                .hint("it belongs to another operator, validator or cluster: each has shares of its own"));
        }
        insecure |= keystore.is_insecure();
    }
    Ok(insecure)
}

/// Whether this keystore is there with its password and is of this key; an error when it is of another.
pub(crate) fn is_kept(keys: &Path, name: &str, public: &str) -> io::Result<bool> {
    let path = keys.join(name);
    if !files::is_there(&path) {
        return Ok(false);
    }
    let keystore =
        Keystore::from_json(&files::read_text(&path, KEYSTORE_BYTES_MAX)?).map_err(io::Error::other)?;
    if keystore.label().pubkey != public {
        return Err(io::Error::other(format!(
            "{} holds another key: it is never overwritten",
            path.display()
        )));
    }
    Ok(files::is_there(&path.with_extension("txt")))
}

/// The keys in `dir`: every keystore*.json there with its password in the file of the same name that ends in .txt.
pub fn existing_keys(dir: &Path) -> Result<Vec<SecretKey<MinPk>>, ExitError> {
    let fail = |error: std::io::Error| ExitError::failure(format!("cannot read {}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("keystore") && name.ends_with(".json") {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(ExitError::usage(format!("there is no keystore*.json in {}", dir.display())));
    }
    if paths.len() > VALIDATORS_MAX {
        let found = paths.len();
        return Err(ExitError::usage(format!(
            "{} has {found} keystores, the limit is {VALIDATORS_MAX}",
            dir.display()
        )));
    }
    // keystore-2 before keystore-10.
    paths.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    paths.iter().map(|path| existing_key(path)).collect()
}

fn existing_key(path: &Path) -> Result<SecretKey<MinPk>, ExitError> {
    let at = path.display();
    // Encrypted as it is, other tools let anybody read it; the secret is its password.
    let text = files::read_input(path, None, KEYSTORE_BYTES_MAX)
        .map_err(|error| ExitError::failure(format!("cannot read {at}: {error}")))?;
    let keystore =
        Keystore::from_json(&text).map_err(|error| ExitError::refused(format!("{at}: {error}")))?;
    let secret = open_keystore(&keystore, path, &path.with_extension("txt"), None, &mut Vec::new())?;
    SecretKey::from_bytes(&secret).map_err(|error| ExitError::refused(format!("{at}: {error}")))
}
