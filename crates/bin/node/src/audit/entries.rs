//! What is recorded: one function for each thing that happens, with the facts somebody may ask about.
//!
//! Not each block: the chain is a record of them, chained by hashes as well. Its checkpoints tie it to this one.

use crate::backup::Contents;
use crate::config::RunConfig;
use crate::epochs::Pledge;
use crate::keys::Operator;
use crate::version::{GIT_HASH, VERSION};
use aequa_chain::Tip;
use aequa_crypto::lock::VerifiedLock;
use aequa_storage::FenceMark;
use aequa_storage::audit::{AuditEntry, AuditKind};
use aequa_types::obol::imported::ImportedCluster;
use aequa_types::{
    Certificate, Digest, DutyId, Evidence, Header, Height, InstanceId, Offence, OperatorIndex, Round,
};
use alloy_primitives::B256;
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// A node runs from here on: what it is, as whom, and from where it goes on.
pub fn started(config: &RunConfig, operator: &Operator, tip: &Tip) -> AuditEntry {
    let lock = operator.lock.lock();
    AuditEntry::new(AuditKind::Run, "started")
        .with("version", VERSION)
        .with("git", GIT_HASH)
        .with("cluster", lock.cluster_id)
        .with("operator", operator.index)
        .with("epoch", lock.epoch)
        .with("lock_hash", lock.lock_hash)
        .with("config_hash", config_hash(config))
        .with("height", tip.height)
        .with("digest", tip.digest)
        .with("state_root", tip.state_root)
}

/// A state that members gave as a whole has taken the place of the one that was here.
pub fn state_taken() -> AuditEntry {
    AuditEntry::new(AuditKind::Run, "state_taken")
}

/// Hash of the settings as the event `config` shows them, a line `key=value` each.
fn config_hash(config: &RunConfig) -> B256 {
    let lines = config.report.iter().map(|setting| format!("{}={}\n", setting.key, setting.value));
    B256::new(Sha256::digest(lines.collect::<String>()).into())
}

/// The process ends, or begins again. One that was killed leaves no such record.
pub fn ended(reason: &str, code: u8) -> AuditEntry {
    AuditEntry::new(AuditKind::Run, "ended").with("code", code).with("reason", reason)
}

/// The checkpoint of a height: its block, and the state after it, as the certified header of the next height has them.
pub fn checkpoint(height: Height, next: &Header) -> AuditEntry {
    AuditEntry::new(AuditKind::Decision, "checkpoint")
        .with("height", height)
        .with("digest", next.parent_root)
        .with("state_root", next.state_root)
}

/// A duty has ended, with this decision or without any.
pub fn duty(duty: DutyId, decided: Option<&Certificate>) -> AuditEntry {
    let entry =
        AuditEntry::new(AuditKind::Decision, "duty").with("duty", duty.kind.name()).with("slot", duty.slot);
    match decided {
        Some(certificate) => entry
            .with("result", "decided")
            .with("round", certificate.round)
            .with("digest", certificate.digest),
        None => entry.with("result", "expired"),
    }
}

/// The guard has permitted no second statement.
pub fn signer_refused(instance: InstanceId, round: Round) -> AuditEntry {
    of_instance(AuditKind::Refusal, "guard", instance).with("round", round)
}

/// The members have told what this operator signed: up to this instance it signs nothing.
pub fn abstains(up_to: InstanceId) -> AuditEntry {
    of_instance(AuditKind::Refusal, "abstains", up_to)
}

/// The node has stopped rather than sign.
pub fn stopped_signing(event: &'static str, reason: &str) -> AuditEntry {
    AuditEntry::new(AuditKind::Refusal, event).with("reason", reason)
}

/// An operator has contradicted itself.
pub fn evidence(evidence: &Evidence) -> AuditEntry {
    let Offence { operator, key } = evidence.offence();
    of_instance(AuditKind::Evidence, key.kind.name(), key.instance)
        .with("operator", operator)
        .with("round", key.round)
        .with("digest_a", evidence.first().digest().unwrap_or_default())
        .with("digest_b", evidence.second().digest().unwrap_or_default())
}

fn of_instance(kind: AuditKind, event: &'static str, instance: InstanceId) -> AuditEntry {
    AuditEntry::new(kind, event).with("domain", instance.domain().name()).with("height", instance.number())
}

/// Something has become of the fence of a node.
pub fn fence(event: &'static str, mark: &FenceMark) -> AuditEntry {
    AuditEntry::new(AuditKind::Fence, event)
        .with("height", mark.height)
        .with("root", mark.root)
        .with("attempts", mark.attempts)
        .with("since", mark.since)
        .with("reason", mark.reason())
}

/// A fence was removed by hand.
pub fn unfenced(mark: &FenceMark, reason: &str) -> AuditEntry {
    AuditEntry::new(AuditKind::Command, "unfence")
        .with("reason", reason)
        .with("fence_height", mark.height)
        .with("fence_reason", mark.reason())
}

/// The node of an operator has answered whether its epoch will end.
pub fn promise(pledge: &Pledge, is_given: bool) -> AuditEntry {
    AuditEntry::new(AuditKind::Key, "promise")
        .with("result", if is_given { "given" } else { "refused" })
        .with("last_height", pledge.last_height)
        .with("lock_hash", pledge.lock_hash)
        .with("definition_hash", pledge.definition_hash)
}

/// The operator signs the lock that a ceremony makes.
pub fn lock_signed(definition: Digest, pledge: Option<&Pledge>) -> AuditEntry {
    let entry = AuditEntry::new(AuditKind::Key, "lock_signed").with("definition_hash", definition);
    match pledge {
        Some(pledge) => {
            entry.with("last_height", pledge.last_height).with("parent_lock_hash", pledge.lock_hash)
        }
        None => entry,
    }
}

/// The operator's shares were written.
pub fn shares_made(lock: &VerifiedLock, operator: OperatorIndex) -> AuditEntry {
    of_lock("shares_made", lock).with("operator", operator)
}

/// The keys and the lock of the next epoch are in place; those of the one before are gone.
pub fn activated(lock: &VerifiedLock) -> AuditEntry {
    of_lock("activated", lock)
}

fn of_lock(event: &'static str, lock: &VerifiedLock) -> AuditEntry {
    let document = lock.lock();
    AuditEntry::new(AuditKind::Key, event)
        .with("epoch", document.epoch)
        .with("lock_hash", document.lock_hash)
        .with("group_key", document.sequencer.group_key)
        .with("validators", document.validators.len())
}

/// Keys were copied into a backup.
pub fn backed_up(contents: &Contents, out: &Path) -> AuditEntry {
    of_backup("backup", contents).with("out", out.display())
}

/// Keys were taken from a backup.
pub fn restored(contents: &Contents, from: &Path) -> AuditEntry {
    of_backup("restore", contents).with("from", from.display())
}

fn of_backup(event: &'static str, contents: &Contents) -> AuditEntry {
    AuditEntry::new(AuditKind::Key, event).with("cluster", &contents.cluster).with("files", contents.files)
}

/// Validators of an Obol cluster were taken over.
pub fn imported(imported: &ImportedCluster) -> AuditEntry {
    AuditEntry::new(AuditKind::Key, "import_obol")
        .with("cluster", &imported.name)
        .with("obol_lock_hash", imported.obol_lock_hash)
        .with("operator", imported.operator)
        .with("validators", imported.validators.len())
        .with("slashing_protection", imported.slashing_protection)
}
