//! What a ceremony is about: its definition, and for a resharing the lock it follows.

use super::meeting::meeting_address;
use crate::config::LOCK_FILE;
use crate::epochs::past_lock;
use crate::exit::ExitError;
use crate::files;
use crate::keys::load_lock;
use aequa_crypto::encryption::EncryptionKey;
use aequa_crypto::identity::PublicIdentity;
use aequa_crypto::lock::{VerifiedLock, check_definition, check_following};
use aequa_dkg::{OldKeys, Participant, SharedKey};
use aequa_types::OperatorIndex;
use aequa_types::definition::{Definition, Resharing};
use aequa_types::limits::OPERATORS_MAX;
use aequa_types::lock::{LOCK_BYTES_MAX, Operator};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A ceremony as its operators have agreed on it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything they agreed on.
    pub definition: Definition,
    /// The lock whose keys are dealt anew.
    pub parent: Option<VerifiedLock>,
    /// Operators of that lock that have no place in the next. They may deal and sign, so that any quorum of before will
    /// do; in the ceremony they come after the others.
    pub leavers: Vec<Operator>,
    /// The same as the machine knows it.
    pub machine: Arc<aequa_dkg::Definition>,
}

impl Plan {
    /// Reads a definition. The lock that a resharing follows is the first of these files that is it.
    pub fn load(path: &Path, locks: &[PathBuf]) -> Result<Self, ExitError> {
        let definition = read(path)?;
        let parent = match definition.resharing {
            None => None,
            Some(resharing) => Some(find_parent(resharing, locks)?),
        };
        Self::new(definition, parent).map_err(|reason| {
            ExitError::refused(format!("{}: {reason}", path.display()))
                .hint("write it again with dkg new, or dkg reshare")
        })
    }

    /// The plan of an operator's folder: the lock before is there, unless it is named.
    pub fn of_member(path: &Path, data_dir: &Path, named: &[PathBuf]) -> Result<Self, ExitError> {
        let before =
            read(path)?.resharing.map(|resharing| past_lock(data_dir, resharing.epoch.saturating_sub(1)));
        let locks: Vec<PathBuf> =
            named.iter().cloned().chain([data_dir.join(LOCK_FILE)]).chain(before).collect();
        Self::load(path, &locks)
    }

    /// The plan of this definition, its keys parsed.
    pub fn new(definition: Definition, parent: Option<VerifiedLock>) -> Result<Self, String> {
        let lock = definition.lock();
        check_definition(&lock).map_err(|error| error.to_string())?;
        if let Some(parent) = &parent {
            check_following(parent.lock(), &lock).map_err(|error| error.to_string())?;
        }
        let participants = definition.operators.iter().map(participant).collect::<Result<Vec<_>, _>>()?;
        let leavers = parent.as_ref().map(|parent| leavers(parent, &definition.operators));
        let leavers = leavers.unwrap_or_default();
        let threshold = usize::try_from(definition.threshold).unwrap_or(usize::MAX);
        let name = definition.definition_hash;
        let machine = match &parent {
            Some(parent) => {
                let old = old_keys(parent, &participants, &leavers)?;
                aequa_dkg::Definition::resharing(name, participants, threshold, old)
            }
            None => {
                let validators = definition.validators.iter().map(|group| group.count as usize).sum();
                aequa_dkg::Definition::new(name, participants, threshold, validators)
            }
        };
        let machine = Arc::new(machine.map_err(|error| error.to_string())?);
        Ok(Self { definition, parent, leavers, machine })
    }

    /// Everybody who may take part, with its place in the ceremony.
    pub fn operators(&self) -> impl Iterator<Item = (OperatorIndex, &Operator)> {
        self.machine.participants().zip(self.definition.operators.iter().chain(&self.leavers))
    }

    /// What people call who has this place: by its index, which is that of the lock before where it leaves.
    pub fn name_of(&self, place: OperatorIndex) -> String {
        let leaver = place.as_usize().checked_sub(self.definition.operators.len());
        match leaver.and_then(|leaver| self.leavers.get(leaver)) {
            Some(leaver) => format!("{} (leaves)", leaver.index),
            None => place.to_string(),
        }
    }

    /// Where an operator is met. While nodes run, their own addresses are taken: a resharing has others.
    pub fn met_at(&self, operator: &Operator) -> Vec<String> {
        match self.parent {
            Some(_) => operator.multiaddrs.iter().map(|address| meeting_address(address)).collect(),
            None => operator.multiaddrs.clone(),
        }
    }
}

fn read(path: &Path) -> Result<Definition, ExitError> {
    let at = path.display();
    let text = files::read_input(path, None, LOCK_BYTES_MAX)
        .map_err(|error| ExitError::usage(format!("cannot read the definition {at}: {error}")))?;
    Definition::from_json(&text).map_err(|error| {
        ExitError::refused(format!("{at}: {error}")).hint(
            "all operators use the file that dkg new or dkg reshare wrote, byte for byte; never edit it",
        )
    })
}

fn find_parent(resharing: Resharing, locks: &[PathBuf]) -> Result<VerifiedLock, ExitError> {
    for path in locks.iter().filter(|path| files::is_there(path)) {
        let lock = load_lock(path)?;
        if lock.lock().lock_hash == resharing.parent_lock_hash {
            return Ok(lock);
        }
    }
    let hash = resharing.parent_lock_hash;
    Err(ExitError::refused(format!("the definition follows the lock {hash}, which is not here"))
        .hint("name its cluster-lock.json with --lock"))
}

fn participant(operator: &Operator) -> Result<Participant, String> {
    let at = |field: &str, reason: String| format!("operators[{}].{field}: {reason}", operator.index);
    if operator.name.chars().any(char::is_control) {
        return Err(at("name", "has control characters".into()));
    }
    let identity = PublicIdentity::from_bytes(&operator.identity_key.0)
        .map_err(|error| at("identity_key", error.to_string()))?;
    let key = operator.enc_key.ok_or_else(|| at("enc_key", "is missing".into()))?;
    let encryption = EncryptionKey::from_bytes(&key.0).map_err(|error| at("enc_key", error.to_string()))?;
    Ok(Participant { identity, encryption })
}

/// Those that leave and can take part in a ceremony: everybody finds the same ones, in the order of the lock before. No
/// more than there is room for beside the new operators.
fn leavers(parent: &VerifiedLock, operators: &[Operator]) -> Vec<Operator> {
    let stays = |old: &Operator| operators.iter().any(|operator| operator.identity_key == old.identity_key);
    let leavers = parent.lock().operators.iter().filter(|old| !stays(old) && participant(old).is_ok());
    leavers.take(OPERATORS_MAX.saturating_sub(operators.len())).cloned().collect()
}

fn old_keys(
    parent: &VerifiedLock,
    participants: &[Participant],
    leavers: &[Operator],
) -> Result<OldKeys, String> {
    let leavers = leavers.iter().map(participant).collect::<Result<Vec<_>, _>>()?;
    let everybody = participants.iter().chain(&leavers);
    let holders = everybody.map(|participant| parent.operator_of(&participant.identity)).collect();
    let validators = parent
        .validators()
        .iter()
        .map(|keys| SharedKey { group_key: keys.group_key, public_shares: keys.public_shares.clone() });
    Ok(OldKeys {
        threshold: parent.quorum().quorum(),
        holders,
        leavers,
        chain: SharedKey { group_key: *parent.group_key(), public_shares: parent.public_shares().to_vec() },
        validators: validators.collect(),
    })
}
