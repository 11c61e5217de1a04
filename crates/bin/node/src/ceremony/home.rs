//! Where in an operator's folder the outcome of a ceremony goes.
//!
//! | | goes to | held meanwhile |
//! |---|---|---|
//! | a new cluster | the folder | the folder, as a node holds it |
//! | a resharing, for an operator that holds shares | `next/`: the node goes on, and changes when it is time | `dkg/` |
//! | a resharing, for one that is new | the folder, as one of an operator that is new in its place | the folder |
//! | a resharing, for one that leaves | `next/`, the lock alone: the node ends when it is time | `dkg/` |
//!
//! The lock is written last. A run that was interrupted is made good by the next; keys and settings that are there stay,
//! and keys of others are an error.

use super::own::hold;
use super::plan::Plan;
use crate::cluster::{Addresses, NewKeystore, SHARE_KEYSTORE, node_file, share_keystore};
use crate::config::{LOCK_FILE, NODE_FILE};
use crate::deposits::{DEPOSITS_FILE, deposit_data};
use crate::epochs::{self, Pledge};
use crate::exit::ExitError;
use crate::files;
use crate::keys::load_lock;
use crate::validators::{is_kept, keystore_name};
use aequa_crypto::keystore::{Cost, Label};
use aequa_crypto::lock::{VerifiedLock, check_succession};
use aequa_dkg::SecretShares;
use aequa_storage::data_dir::note_newcomer;
use aequa_types::OperatorIndex;
use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Keystore of the seed of a first ceremony. A resharing has one of its own: what was dealt may not come from both.
const SEED_KEYSTORE: &str = "seed.json";

/// Where a ceremony is at home, held while this lives.
pub struct Home {
    data_dir: PathBuf,
    /// Where the outcome goes.
    out: PathBuf,
    /// The lock before, and the promise that has to be given before the next is signed.
    parent: Option<VerifiedLock>,
    /// Locks that may be those before it.
    earlier: Vec<PathBuf>,
    pledge: Option<Pledge>,
    /// Of the name of the ceremony: enough of it to tell one from another.
    name: String,
    held: Mutex<Option<File>>,
}

impl Home {
    /// The home of a ceremony in an operator's folder, where it is the holder of old shares or not.
    pub fn enter(
        data_dir: &Path,
        plan: &Plan,
        locks: &[PathBuf],
        me: OperatorIndex,
    ) -> Result<Self, ExitError> {
        let dkg = data_dir.join("dkg");
        if !dkg.is_dir() {
            files::make_private_dir(&dkg)
                .map_err(|error| ExitError::failure(format!("cannot make {}: {error}", dkg.display())))?;
        }
        let holds_shares = plan.machine.old().is_some() && plan.machine.is_dealer(me);
        let (held, out) = match holds_shares {
            true => (dkg, epochs::next_dir(data_dir)),
            false => (data_dir.to_path_buf(), data_dir.to_path_buf()),
        };
        let pledge = plan.parent.as_ref().zip(plan.definition.resharing).map(|(parent, resharing)| Pledge {
            definition_hash: plan.definition.definition_hash,
            lock_hash: parent.lock().lock_hash,
            last_height: resharing.activation_height.previous().unwrap_or_default(),
        });
        Ok(Self {
            held: Mutex::new(Some(hold(&held)?)),
            data_dir: data_dir.to_path_buf(),
            out,
            parent: plan.parent.clone(),
            earlier: locks.to_vec(),
            pledge: pledge.filter(|_| holds_shares),
            name: hex::encode(plan.machine.ceremony())[..16].to_owned(),
        })
    }

    /// The operator's folder.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The folder of ceremonies.
    pub fn ceremonies(&self) -> PathBuf {
        self.data_dir.join("dkg")
    }

    /// The transcript of the ceremony.
    pub fn transcript(&self) -> PathBuf {
        self.ceremonies().join(format!("dkg-{}.dat", self.name))
    }

    /// The keystore of what the own dealing is made from.
    pub fn seed(&self) -> PathBuf {
        let name = match self.parent {
            None => SEED_KEYSTORE.to_owned(),
            Some(_) => format!("seed-{}.json", self.name),
        };
        self.ceremonies().join(name)
    }

    /// The lock that the ceremony is to make, or has made.
    pub fn lock(&self) -> PathBuf {
        self.out.join(LOCK_FILE)
    }

    /// What the node has to promise before its operator signs the lock; nothing where no node can be running.
    pub fn pledge(&self) -> Option<&Pledge> {
        self.pledge.as_ref()
    }

    /// Writes an operator's shares, and what everybody may read.
    pub fn write(&self, lock: &VerifiedLock, secret: &SecretShares, addresses: &Addresses) -> io::Result<()> {
        let keys = self.keys();
        if !keys.is_dir() {
            files::make_private_dir(&keys)?;
        }
        let operator = secret.chain.operator();
        let public = hex::encode(secret.chain.public().to_bytes());
        if !self.is_kept(SHARE_KEYSTORE, &public)? {
            let description = format!("share of the sequencer key of operator {operator}");
            let label = Label { pubkey: public, path: String::new(), description };
            NewKeystore::of(SHARE_KEYSTORE, secret.chain.to_bytes().as_slice(), label, Cost::Standard)?
                .replace(&keys)?;
        }
        for (number, share) in secret.validators.iter().enumerate() {
            if !self.is_kept(&keystore_name(number), &hex::encode(share.public().to_bytes()))? {
                share_keystore(operator, number, share, Cost::Standard)?.replace(&keys)?;
            }
        }
        if self.out == self.data_dir {
            self.write_settings(lock, operator, addresses)?;
        }
        // Whoever finds a lock finds all that belongs to it.
        self.write_lock(lock)
    }

    /// What a node of this folder needs beside keys and lock, where it has not run yet.
    fn write_settings(
        &self,
        lock: &VerifiedLock,
        operator: OperatorIndex,
        addresses: &Addresses,
    ) -> io::Result<()> {
        let document = lock.lock();
        let mut public = vec![(NODE_FILE, node_file(&document.name, operator.0, addresses))];
        let has_deposits = document.validators.iter().any(|validator| !validator.deposits.is_empty());
        if has_deposits && self.parent.is_none() {
            public.push((DEPOSITS_FILE, deposit_data(document)));
        }
        for (name, text) in public {
            let path = self.data_dir.join(name);
            if !files::is_there(&path) {
                files::replace(&path, text.as_bytes(), files::PUBLIC)?;
            }
        }
        if let Some(parent) = &self.parent {
            epochs::keep_past(&self.data_dir, parent)?;
            self.keep_earlier(parent)?;
            note_newcomer(&self.data_dir).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Keeps those of the named locks that were before `lock`, one after the other.
    fn keep_earlier(&self, lock: &VerifiedLock) -> io::Result<()> {
        let mut named: Vec<VerifiedLock> = Vec::new();
        for path in &self.earlier {
            named.push(load_lock(path).map_err(|error| io::Error::other(error.message))?);
        }
        let mut after = lock.clone();
        while let Some(before) = named.iter().find(|one| check_succession(one, &after).is_ok()).cloned() {
            epochs::keep_past(&self.data_dir, &before)?;
            after = before;
        }
        Ok(())
    }

    /// Lets a node in, where what follows may be done beside it: the lock is there, and only signatures may be added.
    pub fn let_go(&self) {
        if self.parent.is_some() {
            drop(self.held.lock().take());
        }
    }

    /// Writes the lock, in place of one that fewer had signed. Where the next epoch has begun meanwhile it stays as it is.
    pub fn write_lock(&self, lock: &VerifiedLock) -> io::Result<()> {
        match self.out.is_dir() {
            true => files::replace(&self.lock(), lock.lock().to_json().as_bytes(), files::PUBLIC),
            false => Ok(()),
        }
    }

    /// Whether this keystore is there with its password and is of this key; an error when it is of another.
    pub fn is_kept(&self, name: &str, public: &str) -> io::Result<bool> {
        is_kept(&self.keys(), name, public)
    }

    /// Removes the seed, from which this operator's dealing could be made again.
    pub fn forget_seed(&self) -> io::Result<()> {
        let keystore = self.seed();
        for path in [keystore.with_extension("txt"), keystore] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        files::sync_dir(&self.ceremonies())
    }

    fn keys(&self) -> PathBuf {
        self.out.join("keys")
    }
}
