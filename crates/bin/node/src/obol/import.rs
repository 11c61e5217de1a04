//! Everything is checked, then everything is written.

use super::{IMPORTED_FILE, PROTECTION_FILE, imported, load_lock, protection};
use crate::ceremony::own::{OwnKeys, hold};
use crate::cluster::share_keystore;
use crate::config::LOCK_FILE;
use crate::exit::ExitError;
use crate::files;
use crate::validators::{existing_keys, is_kept, keystore_name};
use aequa_crypto::bls::MinPk;
use aequa_crypto::keystore::Cost;
use aequa_crypto::obol::VerifiedObolLock;
use aequa_crypto::obol::binding::check_all;
use aequa_crypto::threshold::SecretShare;
use aequa_types::interchange::{INTERCHANGE_BYTES_MAX, Interchange};
use aequa_types::lock::Key32;
use aequa_types::obol::binding::{BINDING_BYTES_MAX, Binding};
use aequa_types::obol::imported::{IMPORTED_VERSION, ImportedCluster, ImportedOperator};
use aequa_types::validator::ValidatorKey;
use aequa_types::{Address, OperatorIndex};
use alloy_primitives::B256;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// What to import, and into which folder.
#[derive(Debug)]
pub struct Import {
    /// The Obol lock.
    pub lock: PathBuf,
    /// The folder with this operator's keystores.
    pub keystores: PathBuf,
    /// What the validators have signed, as this operator's client knows it.
    pub slashing_protection: PathBuf,
    /// The bindings of all operators.
    pub bindings: Vec<PathBuf>,
    /// The operator's new folder, with its identity.
    pub data_dir: PathBuf,
    /// Wallets that are contracts.
    pub contracts: BTreeSet<Address>,
    /// Validators that have never signed.
    pub never_signed: BTreeSet<ValidatorKey>,
    /// Root of a network that is not known by name.
    pub genesis_validators_root: Option<B256>,
}

/// What was imported.
#[derive(Debug)]
pub struct Report {
    /// What is in the folder now.
    pub imported: ImportedCluster,
    /// Signatures of contracts, which were not checked.
    pub unchecked: Vec<String>,
}

/// Imports the validators of a lock. Run again it goes on, or raises the watermarks.
pub fn import(request: &Import) -> Result<Report, ExitError> {
    let dir = &request.data_dir;
    let lock = load_lock(&request.lock, &request.contracts)?;
    let own = OwnKeys::load(dir)?;
    let _held = hold(dir)?;
    let bindings = bindings(&lock, &request.bindings)?;
    let me = place_of(&bindings, &own)?;
    let root = protection::genesis_root(&lock, request.genesis_validators_root)?;
    let history = protection::read(&request.slashing_protection, &lock, me, root, &request.never_signed)?;
    let history = with_earlier(dir, history)?;
    let document = document(&lock, &bindings, me, &history);
    check_folder(dir, &lock, me, &document)?;
    let shares = own_shares(&request.keystores, &lock, me)?;
    write(dir, &document, &history, &shares)
        .map_err(|error| ExitError::failure(format!("cannot write to {}: {error}", dir.display())))?;
    Ok(Report { imported: document, unchecked: lock.unchecked().to_vec() })
}

fn bindings(lock: &VerifiedObolLock, paths: &[PathBuf]) -> Result<Vec<Binding>, ExitError> {
    let read = |path: &PathBuf| {
        let at = path.display();
        let text = files::read_input(path, None, BINDING_BYTES_MAX)
            .map_err(|error| ExitError::usage(format!("cannot read the binding {at}: {error}")))?;
        Binding::from_json(&text).map_err(|error| ExitError::refused(format!("{at}: {error}")))
    };
    let read = paths.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    check_all(lock, read).map_err(|error| {
        ExitError::refused(error).hint("every operator makes one with import-obol bind and sends it to all")
    })
}

fn place_of(bindings: &[Binding], own: &OwnKeys) -> Result<OperatorIndex, ExitError> {
    let identity = Key32::from(own.identity.public().to_bytes());
    let enc_key = Key32::from(own.decryption.public().to_bytes());
    let binding =
        bindings.iter().find(|binding| (binding.identity_key, binding.enc_key) == (identity, enc_key));
    binding.map(|binding| binding.operator).ok_or_else(|| {
        ExitError::refused("no binding names the identity in this folder")
            .hint("it is made with import-obol bind; or choose another --data-dir")
    })
}

/// A history that is there already counts too: watermarks are never lowered.
fn with_earlier(dir: &Path, mut history: Interchange) -> Result<Interchange, ExitError> {
    let path = dir.join(PROTECTION_FILE);
    if !files::is_there(&path) {
        return Ok(history);
    }
    let refused = |reason: String| ExitError::refused(format!("{}: {reason}", path.display()));
    let text = files::read_input(&path, Some(dir), INTERCHANGE_BYTES_MAX)
        .map_err(|error| refused(error.to_string()))?;
    let earlier = Interchange::from_json(&text).map_err(|error| refused(error.to_string()))?;
    let is_same = earlier.genesis_validators_root == history.genesis_validators_root
        && earlier.keys.keys().eq(history.keys.keys());
    if !is_same {
        return Err(refused("it is the history of other validators".into()));
    }
    for (key, watermark) in &mut history.keys {
        *watermark = watermark.merge(earlier.keys[key]);
    }
    Ok(history)
}

fn document(
    lock: &VerifiedObolLock,
    bindings: &[Binding],
    operator: OperatorIndex,
    history: &Interchange,
) -> ImportedCluster {
    let definition = &lock.lock().definition;
    let member =
        |binding: &Binding| ImportedOperator { identity_key: binding.identity_key, enc_key: binding.enc_key };
    ImportedCluster {
        version: IMPORTED_VERSION.into(),
        obol_lock_hash: lock.lock().lock_hash,
        obol_version: lock.version().name().into(),
        name: definition.name.clone(),
        fork_version: definition.fork_version,
        genesis_validators_root: history.genesis_validators_root,
        threshold: definition.threshold,
        operator,
        operators: bindings.iter().map(member).collect(),
        validators: lock.validators().to_vec(),
        slashing_protection: B256::new(Sha256::digest(history.to_json()).into()),
    }
}

/// Whether all that is there is of this import: only the history may be a newer one.
fn check_folder(
    dir: &Path,
    lock: &VerifiedObolLock,
    me: OperatorIndex,
    document: &ImportedCluster,
) -> Result<(), ExitError> {
    let other = |what: &str| {
        ExitError::refused(format!("{}: {what}", dir.display()))
            .hint("every cluster has a folder of its own: make another identity with dkg id, and bind that")
    };
    if files::is_there(&dir.join(LOCK_FILE)) {
        return Err(other(
            "a cluster-lock.json is there: validators are imported before the cluster is made",
        ));
    }
    if let Some(earlier) = imported(dir)? {
        let slashing_protection = document.slashing_protection;
        if (ImportedCluster { slashing_protection, ..earlier }) != *document {
            return Err(other("other validators were imported before"));
        }
    }
    for (number, keys) in lock.keys().iter().enumerate() {
        is_kept(
            &dir.join("keys"),
            &keystore_name(number),
            &hex::encode(keys.public_shares[me.as_usize()].to_bytes()),
        )
        .map_err(|error| other(&error.to_string()))?;
    }
    Ok(())
}

/// This operator's share of every validator, in the order of the lock, whatever the files are called.
fn own_shares(
    dir: &Path,
    lock: &VerifiedObolLock,
    me: OperatorIndex,
) -> Result<Vec<SecretShare<MinPk>>, ExitError> {
    let refused = |reason: String| ExitError::refused(format!("{}: {reason}", dir.display()));
    let mut places: BTreeMap<ValidatorKey, (usize, OperatorIndex)> = BTreeMap::new();
    for (number, validator) in lock.validators().iter().enumerate() {
        places.extend(
            validator.public_shares.iter().copied().zip(lock.quorum().members().map(|of| (number, of))),
        );
    }
    let mut found: BTreeMap<usize, SecretShare<MinPk>> = BTreeMap::new();
    for key in existing_keys(dir)? {
        let share = SecretShare::from_bytes(me, key.to_bytes().as_slice())
            .map_err(|error| refused(error.to_string()))?;
        let public = ValidatorKey::from(share.public().to_bytes());
        match places.get(&public) {
            Some((number, operator)) if *operator == me => {
                if found.insert(*number, share).is_some() {
                    return Err(refused(format!("two keystores hold the share of validator {number}")));
                }
            }
            Some((number, operator)) => {
                return Err(refused(format!(
                    "a keystore holds the share of validator {number} of operator {operator}"
                ))
                .hint("every operator has shares of its own, and nobody those of two"));
            }
            None => {
                return Err(refused(format!("a keystore holds {public}, which is no share of this lock")));
            }
        }
    }
    match (0..lock.validators().len()).find(|number| !found.contains_key(number)) {
        Some(missing) => {
            let key = lock.validators()[missing].pubkey;
            Err(refused(format!("no keystore holds this operator's share of validator {missing}, {key}")))
        }
        None => Ok(found.into_values().collect()),
    }
}

/// The mark first: whoever finds a key finds that it may not sign.
fn write(
    dir: &Path,
    document: &ImportedCluster,
    history: &Interchange,
    shares: &[SecretShare<MinPk>],
) -> io::Result<()> {
    files::replace(&dir.join(IMPORTED_FILE), document.to_json().as_bytes(), files::PUBLIC)?;
    files::replace(&dir.join(PROTECTION_FILE), history.to_json().as_bytes(), files::PUBLIC)?;
    let keys = dir.join("keys");
    for (number, share) in shares.iter().enumerate() {
        if !is_kept(&keys, &keystore_name(number), &hex::encode(share.public().to_bytes()))? {
            share_keystore(document.operator, number, share, Cost::Standard)?.replace(&keys)?;
        }
    }
    Ok(())
}
