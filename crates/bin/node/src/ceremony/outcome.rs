//! What is written at the end of a ceremony, the lock last.

use crate::cluster::{Addresses, NewKeystore, SHARE_KEYSTORE, node_file, share_keystore};
use crate::config::{LOCK_FILE, NODE_FILE};
use crate::deposits::{DEPOSITS_FILE, deposit_data};
use crate::files;
use crate::validators::keystore_name;
use aequa_crypto::keystore::{Cost, KEYSTORE_BYTES_MAX, Keystore, Label};
use aequa_crypto::lock::VerifiedLock;
use aequa_dkg::SecretShares;
use std::io;
use std::path::Path;

/// Keystore of the seed of a ceremony, in its folder.
pub const SEED_KEYSTORE: &str = "seed.json";

/// Writes an operator's shares, and what everybody may read. A run that was interrupted is made good by the next; keys
/// and settings that are there stay, and keys of others are an error.
pub fn write(
    data_dir: &Path,
    lock: &VerifiedLock,
    secret: &SecretShares,
    addresses: &Addresses,
) -> io::Result<()> {
    let keys = data_dir.join("keys");
    let operator = secret.chain.operator();
    let public = hex::encode(secret.chain.public().to_bytes());
    if !is_kept(&keys, SHARE_KEYSTORE, &public)? {
        let description = format!("share of the sequencer key of operator {operator}");
        let label = Label { pubkey: public, path: String::new(), description };
        NewKeystore::of(SHARE_KEYSTORE, secret.chain.to_bytes().as_slice(), label, Cost::Standard)?
            .replace(&keys)?;
    }
    for (number, share) in secret.validators.iter().enumerate() {
        if !is_kept(&keys, &keystore_name(number), &hex::encode(share.public().to_bytes()))? {
            share_keystore(operator, number, share, Cost::Standard)?.replace(&keys)?;
        }
    }
    let document = lock.lock();
    let mut public = vec![(NODE_FILE, node_file(&document.name, operator.0, addresses))];
    if document.validators.iter().any(|validator| !validator.deposits.is_empty()) {
        public.push((DEPOSITS_FILE, deposit_data(document)));
    }
    for (name, text) in public {
        let path = data_dir.join(name);
        if !files::is_there(&path) {
            files::replace(&path, text.as_bytes(), files::PUBLIC)?;
        }
    }
    // Whoever finds a lock finds all that belongs to it.
    write_lock(data_dir, lock)
}

/// Whether this keystore is there with its password and is of this key; an error when it is of another.
pub fn is_kept(keys: &Path, name: &str, public: &str) -> io::Result<bool> {
    let path = keys.join(name);
    if !files::is_there(&path) || !files::is_there(&path.with_extension("txt")) {
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
    Ok(true)
}

/// Writes the lock, in place of one that fewer had signed.
pub fn write_lock(data_dir: &Path, lock: &VerifiedLock) -> io::Result<()> {
    files::replace(&data_dir.join(LOCK_FILE), lock.lock().to_json().as_bytes(), files::PUBLIC)
}

/// Removes the seed, from which this operator's dealing could be made again.
pub fn forget_seed(data_dir: &Path) -> io::Result<()> {
    let keystore = data_dir.join("dkg").join(SEED_KEYSTORE);
    for path in [keystore.with_extension("txt"), keystore] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    files::sync_dir(&data_dir.join("dkg"))
}
