//! The key ceremony of real operators: the pure machine of `aequa-dkg`, with files and a network.
//!
//! ```text
//! DATA/keys/identity.json  encryption.json          the operator's own keys, and their passwords in .txt
//! DATA/dkg/seed.json  dkg-<hash>.dat                 what the dealing is made from; the transcript
//! DATA/cluster-lock.json  deposit-data.json  node.toml  keys/keystore-*.json     what comes out, the lock last
//! ```
//!
//! | module | one idea |
//! |---|---|
//! | `own` | the operator's own keys, and how others know it |
//! | `transcript` | the machine's durable memory |
//! | `member` | one operator's part: messages, timers, progress |
//! | `signing` | the new lock is signed together |
//! | `outcome` | what is written at the end |
//!
//! # Rules
//!
//! 1. Whatever happens, the same command again goes on: the seed is durable before the first message, every entry before
//!    what rests on it leaves, and the lock is the last file to be written.
//! 2. The name of the ceremony, and so of everything signed in it, is the hash of the definition. Operators whose
//!    definitions differ do not hear each other.
//! 3. Who has finished goes on answering those that have not, until all have or time is up. When all have signed the
//!    lock the seed is removed.
//! 4. Keys that are there are never overwritten by others. What an operator needs of a ceremony that has ended is in its
//!    transcript, or in any, and in anybody's lock: with that lock in its folder it needs nobody else.
//! 5. One process at a time works in a folder: it holds the lock that a node holds.

pub mod member;
mod outcome;
pub mod own;
mod signing;
mod transcript;

use crate::exit::ExitError;
use crate::files;
use aequa_crypto::encryption::EncryptionKey;
use aequa_crypto::identity::PublicIdentity;
use aequa_crypto::lock::check_definition;
use aequa_dkg::{Participant, PublicResult, verify_transcript};
use aequa_types::definition::Definition;
use aequa_types::lock::LOCK_BYTES_MAX;
use std::path::Path;
use std::sync::Arc;

/// Name of the definition in examples.
pub const DEFINITION_FILE: &str = "cluster-definition.json";

/// Reads a definition, and makes of it what the machine needs.
pub fn load_definition(path: &Path) -> Result<(Definition, Arc<aequa_dkg::Definition>), ExitError> {
    let at = path.display();
    let text = files::read_input(path, None, LOCK_BYTES_MAX)
        .map_err(|error| ExitError::usage(format!("cannot read the definition {at}: {error}")))?;
    let definition = Definition::from_json(&text).map_err(|error| {
        ExitError::refused(format!("{at}: {error}"))
            .hint("all operators use the file that dkg new wrote, byte for byte; never edit it")
    })?;
    let machine = machine_of(&definition).map_err(|reason| {
        ExitError::refused(format!("{at}: {reason}")).hint("write it again with dkg new")
    })?;
    Ok((definition, Arc::new(machine)))
}

/// The definition as the machine knows it, its keys parsed.
pub fn machine_of(definition: &Definition) -> Result<aequa_dkg::Definition, String> {
    check_definition(&definition.lock()).map_err(|error| error.to_string())?;
    if let Some(bad) =
        definition.operators.iter().find(|operator| operator.name.chars().any(char::is_control))
    {
        return Err(format!("operators[{}].name has control characters", bad.index));
    }
    let mut participants = Vec::with_capacity(definition.operators.len());
    for operator in &definition.operators {
        let at = |field: &str, reason: String| format!("operators[{}].{field}: {reason}", operator.index);
        let identity = PublicIdentity::from_bytes(&operator.identity_key.0)
            .map_err(|error| at("identity_key", error.to_string()))?;
        let key = operator.enc_key.ok_or_else(|| at("enc_key", "is missing".into()))?;
        let encryption =
            EncryptionKey::from_bytes(&key.0).map_err(|error| at("enc_key", error.to_string()))?;
        if operator.peer_id != identity.peer_id() {
            return Err(at("peer_id", "not derived from identity_key".into()));
        }
        if usize::from(operator.index.0) != participants.len() {
            return Err(at("index", format!("must be {}", participants.len())));
        }
        participants.push(Participant { identity, encryption });
    }
    let validators = definition.validators.iter().map(|group| group.count as usize).sum();
    let threshold = usize::try_from(definition.threshold).unwrap_or(usize::MAX);
    aequa_dkg::Definition::new(definition.definition_hash, participants, threshold, validators)
        .map_err(|error| error.to_string())
}

/// Checks a transcript, with nothing but the definition.
pub fn verify(definition: &Path, transcript: &Path) -> Result<PublicResult, ExitError> {
    let (_, machine) = load_definition(definition)?;
    let entries = transcript::read(transcript, machine.ceremony())?;
    verify_transcript(&machine, entries)
        .map_err(|error| ExitError::failure(format!("{}: {error}", transcript.display())))
}
