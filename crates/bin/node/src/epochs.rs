//! The epochs of a cluster, on disk: which locks there were, and the change to the next one.
//!
//! ```text
//! DATA/epochs/<n>/cluster-lock.json     the lock of epoch n, which is over
//! DATA/next/                            what a resharing has made and is not in force yet
//!   pledge                              this operator is asked to end its epoch after a height ...
//!   pledged | refused                   ... and its node has promised to, or has gone on too far
//!   signed                              this operator signs the lock of this resharing, and of no other
//!   keys/                               own shares of the next epoch
//!   cluster-lock.json                   its lock, written last
//!   activate                            the height is reached: everything moves into place
//! ```
//!
//! # Rules
//!
//! 1. The ceremony asks, the node promises, and only then does this operator sign the new lock. So who has signed it
//!    signs nothing under the old one from the activation height on, and the old operators have no quorum there.
//! 2. A promise is durable before it is told, and binds every start until the change. It may be taken back as long as
//!    nothing was signed for it: then another resharing may take the place of this one.
//! 3. An operator signs one lock after each. That it does is durable before the signature leaves: two new sets of
//!    operators would each need a quorum of the old ones.
//! 4. The change is a row of steps each of which may be done twice, begun by `activate`: a crash in it is made good by
//!    the next start. The lock moves last.
//! 5. New shares were opened and held against the public ones before the old ones go.
//! 6. Who leaves promises and signs as all others do. It gets the lock and no keys; at the height its node ends, and
//!    nothing moves.

use crate::audit::{entries, record_or_warn};
use crate::cluster::SHARE_KEYSTORE;
use crate::config::LOCK_FILE;
use crate::exit::ExitError;
use crate::files;
use crate::keys::{load_lock, load_lock_in, open_keystore};
use crate::validators::keystore_name;
use aequa_crypto::keystore::{KEYSTORE_BYTES_MAX, Keystore};
use aequa_crypto::lock::{VerifiedLock, check_succession};
use aequa_crypto::seal::SecretShare;
use aequa_crypto::threshold;
use aequa_dkg::SecretShares;
use aequa_storage::data_dir::{change_place, hold_dir};
use aequa_types::{Digest, Height, OperatorIndex};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The notes of what is asked, and of what the node has said to it: all three have the text of the pledge.
const PLEDGE: &str = "pledge";
const PLEDGED: &str = "pledged";
const REFUSED: &str = "refused";
/// The note that there is no way back.
const SIGNED: &str = "signed";
/// Longest text of a note about a change.
const NOTE_BYTES_MAX: usize = 1024;

/// What an operator is asked to promise before it signs the lock of the next epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pledge {
    /// The resharing: the hash of its definition.
    pub definition_hash: Digest,
    /// The lock that ends.
    pub lock_hash: Digest,
    /// The last height its operators decide.
    pub last_height: Height,
}

/// What has become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// The node has not said anything yet.
    Open,
    /// The node will sign nothing above that height.
    Given,
    /// The node has begun a height above it.
    Refused,
}

/// The folder of what is next.
pub fn next_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("next")
}

fn epoch_dir(data_dir: &Path, epoch: u64) -> PathBuf {
    data_dir.join("epochs").join(epoch.to_string())
}

/// Where the lock of an epoch that is over is kept.
pub fn past_lock(data_dir: &Path, epoch: u64) -> PathBuf {
    epoch_dir(data_dir, epoch).join(LOCK_FILE)
}

/// Asks the node of this folder to end its epoch, and tells what it has said.
pub fn ask(data_dir: &Path, pledge: &Pledge) -> io::Result<Promise> {
    let dir = next_dir(data_dir);
    make_dir(&dir)?;
    match asked(data_dir)? {
        Some((asked, promise)) if asked == *pledge => return Ok(promise),
        // It has signed the lock of another resharing, and signs no second one. Where q others sign this one, the other
        // can never have a quorum, and what was promised for it binds nobody.
        Some(_) if files::is_there(&dir.join(SIGNED)) => return Ok(Promise::Refused),
        // Nothing was signed for it: it binds nobody.
        Some(_) => {
            std::fs::remove_dir_all(&dir)?;
            make_dir(&dir)?;
        }
        None => {}
    }
    files::replace(&dir.join(PLEDGE), note(pledge)?.as_bytes(), files::PUBLIC)?;
    Ok(Promise::Open)
}

/// Notes, durably, that the operator signs the lock of what it was asked for; there is no way back.
pub fn sign(data_dir: &Path) -> io::Result<()> {
    files::replace(&next_dir(data_dir).join(SIGNED), b"", files::PUBLIC)
}

/// What this operator was asked to promise, and what its node has said.
pub fn asked(data_dir: &Path) -> io::Result<Option<(Pledge, Promise)>> {
    let dir = next_dir(data_dir);
    let path = dir.join(PLEDGE);
    if !files::is_there(&path) {
        return Ok(None);
    }
    let text = files::read_text(&path, NOTE_BYTES_MAX)?;
    let pledge = serde_json::from_str(&text)
        .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
    // What was said to another one is no answer to this.
    let says = |name: &str| {
        let path = dir.join(name);
        Ok::<bool, io::Error>(files::is_there(&path) && files::read_text(&path, NOTE_BYTES_MAX)? == text)
    };
    let promise = match (says(PLEDGED)?, says(REFUSED)?) {
        (true, _) => Promise::Given,
        (false, true) => Promise::Refused,
        (false, false) => Promise::Open,
    };
    Ok(Some((pledge, promise)))
}

/// The node's word on this pledge; durable when this returns.
pub fn answer(data_dir: &Path, pledge: &Pledge, is_given: bool) -> io::Result<()> {
    let name = if is_given { PLEDGED } else { REFUSED };
    files::replace(&next_dir(data_dir).join(name), note(pledge)?.as_bytes(), files::PUBLIC)?;
    record_or_warn(data_dir, &entries::promise(pledge, is_given));
    Ok(())
}

fn note(pledge: &Pledge) -> io::Result<String> {
    serde_json::to_string(pledge).map_err(io::Error::other)
}

/// The height after which the epoch of this lock ends, where that was promised.
pub fn promised(data_dir: &Path, lock: &VerifiedLock) -> Result<Option<Height>, ExitError> {
    let asked = asked(data_dir).map_err(|error| unreadable(data_dir, &error))?;
    Ok(asked.and_then(|(pledge, promise)| {
        let is_ours = promise == Promise::Given && pledge.lock_hash == lock.lock().lock_hash;
        is_ours.then_some(pledge.last_height)
    }))
}

/// The locks of earlier epochs that are here, oldest first, without a gap up to `lock`.
pub fn history(data_dir: &Path, lock: &VerifiedLock) -> Result<Vec<VerifiedLock>, ExitError> {
    let mut history: Vec<VerifiedLock> = Vec::new();
    for epoch in (0..lock.lock().epoch).rev() {
        let path = past_lock(data_dir, epoch);
        if !files::is_there(&path) {
            break;
        }
        let before = load_lock_in(&path, Some(data_dir))?;
        check_succession(&before, history.last().unwrap_or(lock))
            .map_err(|error| ExitError::refused(format!("{} was not before: {error}", path.display())))?;
        history.push(before);
    }
    history.reverse();
    Ok(history)
}

/// Keeps a lock that is over, or will be.
pub fn keep_past(data_dir: &Path, lock: &VerifiedLock) -> io::Result<()> {
    let dir = epoch_dir(data_dir, lock.lock().epoch);
    make_dir(&dir)?;
    files::replace(&dir.join(LOCK_FILE), lock.lock().to_json().as_bytes(), files::PUBLIC)
}

/// The lock of the next epoch with the place of operator `me` in it, once it is here with own shares, and all of that
/// holds. Who leaves has no place and no shares, and the lock alone tells it.
pub fn load_next(
    data_dir: &Path,
    lock: &VerifiedLock,
    me: OperatorIndex,
) -> Result<Option<(VerifiedLock, Option<OperatorIndex>)>, ExitError> {
    let dir = next_dir(data_dir);
    let path = dir.join(LOCK_FILE);
    if !files::is_there(&path) {
        return Ok(None);
    }
    let next = load_lock_in(&path, Some(data_dir))?;
    check_succession(lock, &next)
        .map_err(|error| ExitError::refused(format!("{}: {error}", path.display())))?;
    let place = lock.identities().get(me.as_usize()).and_then(|identity| next.operator_of(identity));
    if let Some(place) = place {
        shares(&dir.join("keys"), &next, place)?;
    }
    Ok(Some((next, place)))
}

/// An operator's shares of all keys of a lock, opened and held against the public ones.
pub fn shares(keys: &Path, lock: &VerifiedLock, place: OperatorIndex) -> Result<SecretShares, ExitError> {
    let refused = |name: &str, reason: String| {
        ExitError::refused(format!("{}: {reason}", keys.join(name).display()))
            .hint("restore it from a backup of this operator")
    };
    let chain = SecretShare::from_bytes(place, &secret(&keys.join(SHARE_KEYSTORE))?)
        .map_err(|error| refused(SHARE_KEYSTORE, error.to_string()))?;
    lock.check_own_share(place, &chain).map_err(|error| refused(SHARE_KEYSTORE, error.to_string()))?;
    let mut validators = Vec::with_capacity(lock.validators().len());
    for (number, validator) in lock.validators().iter().enumerate() {
        let name = keystore_name(number);
        let share = threshold::SecretShare::from_bytes(place, &secret(&keys.join(&name))?)
            .map_err(|error| refused(&name, error.to_string()))?;
        if validator.public_shares.get(place.as_usize()) != Some(&share.public()) {
            return Err(refused(&name, format!("not the share of operator {place}")));
        }
        validators.push(share);
    }
    Ok(SecretShares { chain, validators })
}

fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, ExitError> {
    let refused = |reason: String| ExitError::refused(format!("{}: {reason}", path.display()));
    let text = files::read_text(path, KEYSTORE_BYTES_MAX).map_err(|error| refused(error.to_string()))?;
    let keystore = Keystore::from_json(&text).map_err(|error| refused(error.to_string()))?;
    open_keystore(&keystore, path, &path.with_extension("txt"), None, &mut Vec::new())
}

/// Begins the change to what is next, in which this operator has that place. The last block of this epoch is durable, and
/// [`load_next`] has found all that is needed; [`complete`] goes on from here, now or after a crash.
pub fn begin(data_dir: &Path, place: OperatorIndex) -> Result<(), ExitError> {
    files::replace(&next_dir(data_dir).join("activate"), place.to_string().as_bytes(), files::PUBLIC)
        .map_err(|error| unreadable(data_dir, &error))
}

/// Completes a change that was begun; says whether there was one.
pub fn complete(data_dir: &Path, keys_dir: &Path) -> Result<bool, ExitError> {
    let dir = next_dir(data_dir);
    if !dir.is_dir() {
        return Ok(false);
    }
    let _held = hold_dir(data_dir).map_err(|error| ExitError::refused(error.to_string()))?;
    let fail = |error: io::Error| unreadable(data_dir, &error);
    let (begun, now, next) = (dir.join("activate"), data_dir.join(LOCK_FILE), dir.join(LOCK_FILE));
    if !files::is_there(&begun) {
        return drop_stale(data_dir).map_err(fail).map(|()| false);
    }
    if files::is_there(&next) {
        let place = files::read_text(&begun, NOTE_BYTES_MAX).map_err(fail)?;
        let place = place.parse().map(OperatorIndex).map_err(|error| fail(io::Error::other(error)))?;
        let lock = load_lock(&now)?;
        keep_past(data_dir, &lock).map_err(fail)?;
        change_place(data_dir, place, &epoch_dir(data_dir, lock.lock().epoch))
            .map_err(|error| ExitError::failure(error.to_string()))?;
        move_keys(&dir.join("keys"), keys_dir).map_err(fail)?;
        std::fs::rename(&next, &now).map_err(fail)?;
        files::sync_dir(data_dir).map_err(fail)?;
    }
    let lock = load_lock(&now)?;
    forget_ceremonies(data_dir, &lock.lock().definition_hash).map_err(fail)?;
    std::fs::remove_dir_all(&dir).map_err(fail)?;
    files::sync_dir(data_dir).map_err(fail)?;
    record_or_warn(data_dir, &entries::activated(&lock));
    Ok(true)
}

/// Removes what is about the end of a lock that is not in force any more: a ceremony may have gone on after the change.
fn drop_stale(data_dir: &Path) -> io::Result<()> {
    let now = data_dir.join(LOCK_FILE);
    let Some((pledge, _)) = asked(data_dir)?.filter(|_| files::is_there(&now)) else { return Ok(()) };
    let lock = load_lock(&now).map_err(|error| io::Error::other(error.message))?;
    if pledge.lock_hash != lock.lock().lock_hash {
        std::fs::remove_dir_all(next_dir(data_dir))?;
        files::sync_dir(data_dir)?;
    }
    Ok(())
}

/// Removes transcripts and seeds of all ceremonies but this one. Old shares are in them, encrypted to a key that is still
/// here: whoever takes this folder one day shall not find them.
fn forget_ceremonies(data_dir: &Path, definition: &Digest) -> io::Result<()> {
    let dir = data_dir.join("dkg");
    let transcript = format!("dkg-{}.dat", &hex::encode(definition)[..16]);
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_secret = (name.starts_with("dkg-") && name != transcript) || name.starts_with("seed");
        if is_secret {
            std::fs::remove_file(entry.path())?;
        }
    }
    files::sync_dir(&dir)
}

/// New keystores take the place of the old ones, each password before its keystore. What is left of the old ones has no
/// name any more.
fn move_keys(from: &Path, to: &Path) -> io::Result<()> {
    let mut names: Vec<_> = match std::fs::read_dir(from) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    names.sort_by_key(|name| !name.to_string_lossy().ends_with(".txt"));
    for name in names {
        std::fs::rename(from.join(&name), to.join(&name))?;
    }
    files::sync_dir(to)
}

fn make_dir(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent()
        && !parent.is_dir()
    {
        files::make_private_dir(parent)?;
        parent.parent().map_or(Ok(()), files::sync_dir)?;
    }
    if dir.is_dir() {
        return Ok(());
    }
    files::make_private_dir(dir)?;
    dir.parent().map_or(Ok(()), files::sync_dir)
}

fn unreadable(data_dir: &Path, error: &io::Error) -> ExitError {
    ExitError::failure(format!("{}: {error}", next_dir(data_dir).display()))
        .hint("the change to the next epoch waits for it; the same command goes on when the disk does")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::NewKeystore;
    use aequa_crypto::dealer::DealtCluster;
    use aequa_crypto::keystore::{Cost, Label};
    use aequa_crypto::lock::verify;
    use aequa_storage::{DataDir, Identity};
    use aequa_testkit::{dealt, reshared};

    /// Operator 1 has left, and operator 4 has its place.
    fn four(five: &DealtCluster) -> DealtCluster {
        reshared(five, &[Some(0), Some(4), Some(2), Some(3)], Height(50), &[0, 1, 2, 3])
    }

    fn write_share(keys: &Path, cluster: &DealtCluster, operator: usize) {
        let secret = cluster.operators[operator].share.to_bytes();
        NewKeystore::of(SHARE_KEYSTORE, secret.as_slice(), Label::default(), Cost::Insecure)
            .unwrap()
            .replace(keys)
            .unwrap();
    }

    fn write_lock(dir: &Path, cluster: &DealtCluster) {
        std::fs::write(dir.join(LOCK_FILE), cluster.lock.to_json()).unwrap();
    }

    fn transcript_of(cluster: &DealtCluster) -> String {
        format!("dkg-{}.dat", &hex::encode(cluster.lock.definition_hash)[..16])
    }

    /// The folder of operator 4, whose node has run, with all it needs to be operator 1.
    fn folder(now: &DealtCluster, next: &DealtCluster) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for part in ["keys", "next/keys", "wal", "signing", "dkg"] {
            std::fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        write_share(&dir.path().join("keys"), now, 4);
        write_lock(dir.path(), now);
        write_share(&dir.path().join("next/keys"), next, 1);
        write_lock(&next_dir(dir.path()), next);
        let root = dir.path().join("empty");
        let lock = &now.lock;
        let (cluster_id, lock_hash, operator) = (lock.cluster_id, lock.lock_hash, OperatorIndex(4));
        DataDir::open(&root, Identity { cluster_id, operator, lock_hash, created: 1 })
            .unwrap()
            .settle()
            .unwrap();
        std::fs::rename(root.join("identity.dat"), dir.path().join("identity.dat")).unwrap();
        std::fs::write(dir.path().join("wal/votes-1.wal"), b"votes of operator 4").unwrap();
        for name in ["dkg-0011.dat", "seed.json", "seed-0011.txt", &transcript_of(next)] {
            std::fs::write(dir.path().join("dkg").join(name), b"x").unwrap();
        }
        dir
    }

    #[test]
    fn a_change_that_was_cut_off_anywhere_is_completed() {
        let now = dealt(5);
        let next = four(&now);
        let (before, after) = (verify(&now.lock).unwrap(), verify(&next.lock).unwrap());
        for done in 0..=4 {
            let dir = folder(&now, &next);
            let (root, keys) = (dir.path(), dir.path().join("keys"));
            assert!(!complete(root, &keys).unwrap(), "nothing was begun");
            let (_, place) = load_next(root, &before, OperatorIndex(4)).unwrap().unwrap();
            assert_eq!(place, Some(OperatorIndex(1)));
            let place = OperatorIndex(1);
            begin(root, place).unwrap();
            if done >= 1 {
                keep_past(root, &before).unwrap();
            }
            if done >= 2 {
                change_place(root, place, &epoch_dir(root, 0)).unwrap();
            }
            if done >= 3 {
                // The password was moved, its keystore not yet.
                let password = Path::new(SHARE_KEYSTORE).with_extension("txt");
                std::fs::rename(root.join("next/keys").join(&password), keys.join(&password)).unwrap();
            }
            if done >= 4 {
                move_keys(&root.join("next/keys"), &keys).unwrap();
                std::fs::rename(root.join("next").join(LOCK_FILE), root.join(LOCK_FILE)).unwrap();
            }
            assert!(complete(root, &keys).unwrap(), "cut off after {done}");
            assert!(!complete(root, &keys).unwrap(), "and that is all");
            assert_eq!(load_lock(&root.join(LOCK_FILE)).unwrap().lock(), &next.lock);
            assert_eq!(history(root, &after).unwrap()[0].lock(), &now.lock);
            assert_eq!(
                shares(&keys, &after, place).unwrap().chain.public(),
                next.operators[1].share.public()
            );
            assert!(shares(&keys, &before, OperatorIndex(4)).is_err(), "the old share is gone");
            assert!(!next_dir(root).exists());
            let kept = std::fs::read_dir(root.join("dkg")).unwrap().map(|entry| entry.unwrap().file_name());
            assert_eq!(
                kept.collect::<Vec<_>>(),
                [transcript_of(&next).as_str()],
                "old shares are in the others"
            );
            assert_eq!(
                std::fs::read(root.join("epochs/0/wal/votes-1.wal")).unwrap(),
                b"votes of operator 4",
                "what was signed in the old place is kept aside"
            );
            let (cluster_id, lock_hash) = (next.lock.cluster_id, next.lock.lock_hash);
            let identity = Identity { cluster_id, operator: place, lock_hash, created: 2 };
            let opened = DataDir::open(root, identity).unwrap();
            assert!(opened.is_newcomer().unwrap(), "another had this place");
        }
    }

    #[test]
    fn what_is_next_is_refused_without_the_share_that_belongs_to_it() {
        let now = dealt(5);
        let next = four(&now);
        let lock = verify(&now.lock).unwrap();
        let of = |dir: &tempfile::TempDir| load_next(dir.path(), &lock, OperatorIndex(4));
        let wrong: [&dyn Fn(&Path); 4] = [
            &|dir| write_share(&dir.join("next/keys"), &now, 4),
            &|dir| write_share(&dir.join("next/keys"), &next, 2),
            &|dir| std::fs::remove_file(dir.join("next/keys").join(SHARE_KEYSTORE)).unwrap(),
            &|dir| write_lock(&next_dir(dir), &four(&dealt(5))),
        ];
        for (number, wrong) in wrong.iter().enumerate() {
            let dir = folder(&now, &next);
            wrong(dir.path());
            assert_eq!(of(&dir).unwrap_err().code, 4, "{number}");
        }
        let dir = folder(&now, &next);
        let (_, place) = load_next(dir.path(), &lock, OperatorIndex(1)).unwrap().unwrap();
        assert_eq!(place, None, "who leaves needs no share");
        std::fs::remove_file(dir.path().join("next").join(LOCK_FILE)).unwrap();
        assert!(of(&dir).unwrap().is_none(), "not there yet");
    }

    #[test]
    fn a_promise_is_given_once_and_for_one_lock() {
        let now = dealt(5);
        let lock = verify(&now.lock).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let definition_hash = Digest::repeat_byte(1);
        let pledge = Pledge { definition_hash, lock_hash: now.lock.lock_hash, last_height: Height(49) };
        assert_eq!(asked(dir.path()).unwrap(), None);
        assert_eq!(ask(dir.path(), &pledge).unwrap(), Promise::Open);
        assert_eq!(promised(dir.path(), &lock).unwrap(), None, "nobody has promised yet");
        answer(dir.path(), &pledge, true).unwrap();
        assert_eq!(ask(dir.path(), &pledge).unwrap(), Promise::Given);
        assert_eq!(promised(dir.path(), &lock).unwrap(), Some(Height(49)));
        let other = Pledge { last_height: Height(60), ..pledge };
        assert_eq!(ask(dir.path(), &other).unwrap(), Promise::Open, "nothing was signed for the first one");
        answer(dir.path(), &pledge, true).unwrap();
        assert_eq!(
            promised(dir.path(), &lock).unwrap(),
            None,
            "a late word on the first one is none on this"
        );
        ask(dir.path(), &pledge).unwrap();
        answer(dir.path(), &pledge, true).unwrap();
        sign(dir.path()).unwrap();
        let second = Pledge { definition_hash: Digest::repeat_byte(2), ..pledge };
        assert_eq!(ask(dir.path(), &second).unwrap(), Promise::Refused, "one lock after each");
        assert_eq!(ask(dir.path(), &pledge).unwrap(), Promise::Given, "the one that was signed goes on");
        assert_eq!(promised(dir.path(), &lock).unwrap(), Some(Height(49)));
        assert_eq!(promised(dir.path(), &verify(&four(&now).lock).unwrap()).unwrap(), None);

        let late = tempfile::tempdir().unwrap();
        ask(late.path(), &pledge).unwrap();
        answer(late.path(), &pledge, false).unwrap();
        assert_eq!(ask(late.path(), &pledge).unwrap(), Promise::Refused);
        assert_eq!(ask(late.path(), &other).unwrap(), Promise::Open, "a later height may be asked for");
        assert_eq!(promised(late.path(), &lock).unwrap(), None);
    }
}
