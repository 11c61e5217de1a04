//! The audit log of an operator's folder: what is recorded in it, and how.
//!
//! The running node has a thread for it (`run::audit`), so that nothing waits for the disk. What is done once, by a
//! node or by a command beside it, is recorded by [`record`], which returns when it is durable. The log is evidence and
//! no safety record: what cannot be recorded is done all the same, and that it is missing is said.

pub mod entries;

use crate::console;
use aequa_storage::StorageError;
use aequa_storage::audit::{AuditEntry, AuditLog, AuditOptions};
use std::path::Path;

/// Records something in the log of a data directory, which exists; durable on return.
pub fn record(data_dir: &Path, entry: &AuditEntry) -> Result<(), StorageError> {
    let mut log = AuditLog::open(data_dir, AuditOptions::default())?;
    log.append(entry)?;
    log.sync()
}

/// Records what a node does at a turning point; a failure is a warning in its log.
pub fn record_or_warn(data_dir: &Path, entry: &AuditEntry) {
    if let Err(error) = record(data_dir, entry) {
        warn(&error);
    }
}

/// Records what a command does, and tells whether it is recorded; a failure is told on stderr.
pub fn record_or_complain(data_dir: &Path, entry: &AuditEntry) -> bool {
    let recorded = record(data_dir, entry);
    if let Err(error) = &recorded {
        console::complain(format!("warning: this is not in the audit log, which cannot be written: {error}"));
    }
    recorded.is_ok()
}

/// Says that something is missing in the log.
pub(crate) fn warn(error: &StorageError) {
    let text = format!("the audit log cannot be written, and the node goes on without: {error}");
    tracing::warn!(target: "event", text, "warning");
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_storage::audit::{AuditKind, AuditReader};

    #[test]
    fn each_record_follows_from_the_one_before_whoever_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        for reason in ["one", "two"] {
            record(dir.path(), &AuditEntry::new(AuditKind::Command, "unfence").with("reason", reason))
                .unwrap();
        }
        let records = AuditReader::open(dir.path()).unwrap().unwrap();
        let records: Vec<_> = records.records().map(Result::unwrap).collect();
        assert_eq!(records[1].previous, records[0].hash());
        assert!(record(&dir.path().join("nowhere"), &records[0].entry).is_err());
        assert!(!dir.path().join("nowhere").exists(), "no folder is made for it");
    }
}
