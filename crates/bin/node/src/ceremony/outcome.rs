//! What is written at the end of a ceremony, the lock last.

use crate::cluster::{Addresses, NewKeystore, SHARE_KEYSTORE, node_file, share_keystores};
use crate::config::{LOCK_FILE, NODE_FILE};
use crate::deposits::{DEPOSITS_FILE, deposit_data};
use crate::files;
use aequa_crypto::keystore::{Cost, Label};
use aequa_crypto::lock::VerifiedLock;
use aequa_dkg::SecretShares;
use std::io;
use std::path::Path;

/// Keystore of the seed of a ceremony, in its folder.
pub const SEED_KEYSTORE: &str = "seed.json";

/// Writes an operator's shares, and what everybody may read. A run that was interrupted is made good by the next.
pub fn write(
    data_dir: &Path,
    lock: &VerifiedLock,
    secret: &SecretShares,
    addresses: &Addresses,
) -> io::Result<()> {
    let keys = data_dir.join("keys");
    let operator = secret.chain.operator();
    let label = Label {
        pubkey: hex::encode(secret.chain.public().to_bytes()),
        path: String::new(),
        description: format!("share of the sequencer key of operator {operator}"),
    };
    let chain = NewKeystore::of(SHARE_KEYSTORE, secret.chain.to_bytes().as_slice(), label, Cost::Standard)?;
    let validators = share_keystores(operator, &secret.validators, Cost::Standard)?;
    [chain].iter().chain(&validators).try_for_each(|keystore| keystore.replace(&keys))?;
    let document = lock.lock();
    let mut public = vec![(NODE_FILE, node_file(&document.name, operator.0, addresses))];
    if document.validators.iter().any(|validator| !validator.deposits.is_empty()) {
        public.push((DEPOSITS_FILE, deposit_data(document)));
    }
    public
        .iter()
        .try_for_each(|(name, text)| files::replace(&data_dir.join(name), text.as_bytes(), files::PUBLIC))?;
    // Whoever finds a lock finds all that belongs to it.
    write_lock(data_dir, lock)
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
