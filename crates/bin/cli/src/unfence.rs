//! `dvt-node unfence`: the fence of a node that has given up, removed by hand.

use crate::flags::{path, text};
use aequa_node::audit::{entries, record_or_complain};
use aequa_node::console;
use aequa_node::exit::ExitError;
use aequa_storage::data_dir::hold_dir;
use aequa_storage::{FenceMark, StorageError};
use clap::Args;
use std::path::PathBuf;

/// Let a node that fenced itself begin again
///
/// A node fences itself when its state is damaged or not the one a quorum certified, has the state again from the
/// others, and removes the fence by itself. After three times within a day it gives up: look at the disk and the memory
/// of the machine first. The store that is not trusted is set aside as `chain.damaged`, and at its next start the node has
/// its state again from the others; what it signed stays known.
/// The audit log keeps the reason: dvt-node audit show --kind command
#[derive(Debug, Args)]
pub struct UnfenceArgs {
    /// Yes, by hand
    #[arg(long, required = true)]
    pub force: bool,
    /// Why; it is kept beside what the fence said, and in the audit log
    #[arg(long, value_name = "TEXT", value_parser = text())]
    pub reason: String,
    /// The operator's folder
    #[arg(long, value_name = "DIR", default_value = "./aequa-data", value_parser = path())]
    pub data_dir: PathBuf,
}

/// Forgets how often the node has fenced itself, and takes away the store it does not trust.
pub fn unfence(args: &UnfenceArgs) -> Result<(), ExitError> {
    let dir = &args.data_dir;
    if !dir.is_dir() {
        return Err(ExitError::usage(format!("--data-dir: there is no folder {}", dir.display())));
    }
    let failed = |error: StorageError| match error.is_safety_refusal() {
        true => ExitError::refused(error).hint("stop the node first"),
        false => ExitError::failure(error),
    };
    let _held = hold_dir(dir).map_err(failed)?;
    let Some(mark) = FenceMark::load(dir).map_err(failed)? else {
        return Err(ExitError::failure(format!("{} is not fenced", dir.display())));
    };
    let said = mark.reason();
    let unfenced = entries::unfenced(&mark, &args.reason);
    let reason = FenceMark::reason_of(&format!("{said}; removed by hand: {}", args.reason));
    let forgiven = FenceMark { reason, attempts: 0, ..mark };
    forgiven.set(dir).map_err(failed)?;
    if !forgiven.is_set_aside {
        FenceMark::set_store_aside(dir).map_err(failed)?;
    }
    FenceMark::remove(dir).map_err(failed)?;
    console::line(format!("the fence is removed; it said: {said}"));
    if record_or_complain(dir, &unfenced) {
        console::line("the reason is in the audit log");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_storage::audit::AuditReader;
    use aequa_types::Height;
    use alloy_primitives::B256;

    fn fenced(data_dir: PathBuf) -> UnfenceArgs {
        let mark = FenceMark {
            height: Height(7),
            root: B256::ZERO,
            backers: Vec::new(),
            reason: FenceMark::reason_of("a row differs"),
            since: 0,
            attempts: 4,
            first_attempt: 0,
            is_set_aside: true,
        };
        mark.set(&data_dir).unwrap();
        UnfenceArgs { force: true, reason: "memory replaced".into(), data_dir }
    }

    #[test]
    fn a_fence_removed_by_hand_is_in_the_audit_log_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        unfence(&fenced(dir.path().into())).unwrap();
        let log = AuditReader::open(dir.path()).unwrap().unwrap();
        let entry = log.records().next().unwrap().unwrap().entry;
        let fields: Vec<String> = entry.fields().map(|(_, value)| value.into_owned()).collect();
        assert_eq!((entry.event().as_ref(), fields[0].as_str()), ("unfence", "memory replaced"));
        assert_eq!(fields[1..], ["7", "a row differs"]);
    }

    #[test]
    fn a_fence_goes_also_where_the_audit_log_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let args = fenced(dir.path().into());
        std::fs::create_dir(dir.path().join("audit.log")).unwrap();
        unfence(&args).unwrap();
        assert_eq!(FenceMark::load(dir.path()).unwrap(), None);
    }
}
