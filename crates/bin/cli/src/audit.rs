//! `dvt-node audit`: what a node has recorded of itself, checked and shown.
//!
//! Nothing is written and no lock is taken, so both may be done beside a running node.

use crate::flags::path;
use aequa_node::console;
use aequa_node::exit::ExitError;
use aequa_storage::StorageError;
use aequa_storage::audit::{AuditKind, AuditReader, AuditRecord};
use alloy_primitives::B256;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// A node may be closing a file while it is read: what looks wrong is looked at again.
const READS_MAX: usize = 3;
/// Most records of --last: they are kept in memory.
const LAST_MAX: u64 = 1_000_000;

/// Check and show the audit log: what this operator's node did that somebody may ask about later
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    Verify(VerifyArgs),
    Show(ShowArgs),
}

/// Check that every record follows from the one before, and print the head that stands for all of them
#[derive(Debug, Args)]
#[command(after_help = VERIFY_HELP)]
pub struct VerifyArgs {
    /// The operator's folder; its node may be running
    #[arg(long, value_name = "DIR", default_value = "./aequa-data", value_parser = path())]
    pub data_dir: PathBuf,
    /// A head that was printed earlier and kept elsewhere: is it still in the log?
    #[arg(long, value_name = "HEX")]
    pub head: Option<B256>,
}

const VERIFY_HELP: &str = "\
Every record has the hash of the one before, so that the last hash, the head, stands
for the whole log. Write it down where nobody who can write to this folder can, and
give it later: a log that was rewritten or cut short does not have it any more.

  dvt-node audit verify --data-dir node0
  dvt-node audit verify --data-dir node0 --head <head of last month>

Exit code: 0 the log holds, 1 it is damaged or does not have the head, 2 usage,
3 there is none, or it cannot be read.";

/// Print what is recorded, oldest first
#[derive(Debug, Args)]
#[command(after_help = SHOW_HELP)]
pub struct ShowArgs {
    /// The operator's folder; its node may be running
    #[arg(long, value_name = "DIR", default_value = "./aequa-data", value_parser = path())]
    pub data_dir: PathBuf,
    /// One JSON object in each line
    #[arg(long)]
    pub json: bool,
    /// Only records of this kind
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub kind: Option<AuditKind>,
    /// Only so many, the newest ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=LAST_MAX))]
    pub last: Option<u64>,
}

const SHOW_HELP: &str = "\
Kinds:
  run       starts, with version, lock and configuration, and ends with their reason
  decision  checkpoints, with digest and state root, and what became of duties
  refusal   what this node would not sign
  evidence  operators that contradicted themselves
  fence     the node does not trust its state, or does again
  key       keys made, taken over, copied into a backup, bound by a promise, replaced
  command   what was changed by hand, with the reason
  log       the log itself: what was cut off, damaged, lost

  dvt-node audit show --data-dir node0 --last 20
  dvt-node audit show --data-dir node0 --kind key --json";

fn kind(name: &str) -> Result<AuditKind, String> {
    AuditKind::named(name).ok_or_else(|| {
        let known = AuditKind::ALL.map(AuditKind::name).join(", ");
        format!("must be one of {known}")
    })
}

/// Runs one of them.
pub fn run(command: &AuditCommand) -> Result<(), ExitError> {
    match command {
        AuditCommand::Verify(args) => verify(args),
        AuditCommand::Show(args) => show(args),
    }
}

/// What was found in a log that holds.
#[derive(Default)]
struct Checked {
    records: u64,
    files: usize,
    first: Option<AuditRecord>,
    last: Option<AuditRecord>,
    /// Records of the log itself.
    notes: u64,
    /// Number of the record of the head that was given.
    found: Option<u64>,
    set_aside: Vec<String>,
}

fn verify(args: &VerifyArgs) -> Result<(), ExitError> {
    let mut checked = check(args);
    for _ in 1..READS_MAX {
        if checked.is_ok() {
            break;
        }
        checked = check(args);
    }
    let checked = checked?;
    let (Some(first), Some(last)) = (&checked.first, &checked.last) else {
        return Err(ExitError::unchecked(format!(
            "the audit log in {} has no records",
            args.data_dir.display()
        )));
    };
    let Checked { records, files, notes, .. } = checked;
    console::line(format!(
        "{records} records, {} to {}, in {files} files: each follows from the one before",
        first.number, last.number
    ));
    console::line(format!("from {} to {}", time(first), time(last)));
    if notes > 0 {
        console::line(format!(
            "{notes} of them tell what became of the log itself: dvt-node audit show --kind log"
        ));
    }
    console::line(format!("head {}", last.hash()));
    match (args.head, checked.found) {
        (None, _) => {}
        (Some(_), Some(number)) => console::line(format!("the head that was given is record {number}")),
        (Some(head), None) => {
            return Err(ExitError::failure(format!("no record has the hash {head}")).hint(
                "the log was rewritten or cut short, or that record was in a file that is gone by now",
            ));
        }
    }
    match checked.set_aside.as_slice() {
        [] => Ok(()),
        names => Err(ExitError::failure(format!(
            "the log was found damaged, and what it was is in {}",
            names.join(", ")
        ))
        .hint(
            "records behind the damage are in no other file: look at them, then move these files elsewhere",
        )),
    }
}

fn check(args: &VerifyArgs) -> Result<Checked, ExitError> {
    let reader = open(&args.data_dir)?;
    let set_aside = reader.set_aside().to_vec();
    let mut checked = Checked { files: reader.files(), set_aside, ..Checked::default() };
    for record in reader.records() {
        let record = record.map_err(broken)?;
        checked.records += 1;
        checked.notes += u64::from(record.entry.kind() == AuditKind::Log);
        if args.head.is_some_and(|head| head == record.hash()) {
            checked.found = Some(record.number);
        }
        checked.first.get_or_insert_with(|| record.clone());
        checked.last = Some(record);
    }
    Ok(checked)
}

fn show(args: &ShowArgs) -> Result<(), ExitError> {
    let reader = open(&args.data_dir)?;
    let last = args.last.map(|last| usize::try_from(last).unwrap_or(usize::MAX));
    let (mut newest, mut ended) = (VecDeque::new(), Ok(()));
    for record in reader.records() {
        match record {
            Err(error) => ended = Err(broken(error)),
            Ok(record) if args.kind.is_some_and(|kind| kind != record.entry.kind()) => {}
            Ok(record) => match last {
                None => print(&record, args.json),
                Some(last) => {
                    if newest.len() == last {
                        newest.pop_front();
                    }
                    newest.push_back(record);
                }
            },
        }
    }
    newest.iter().for_each(|record| print(record, args.json));
    ended
}

fn open(data_dir: &Path) -> Result<AuditReader, ExitError> {
    let dir = data_dir.display();
    if !data_dir.is_dir() {
        return Err(ExitError::usage(format!("--data-dir: there is no folder {dir}")));
    }
    AuditReader::open(data_dir).map_err(broken)?.ok_or_else(|| {
        ExitError::unchecked(format!("there is no audit log in {dir}"))
            .hint("--data-dir is the folder of one operator; a node begins the log at its first start")
    })
}

fn broken(error: StorageError) -> ExitError {
    if !matches!(error, StorageError::AuditBroken { .. }) {
        return ExitError::unchecked(error);
    }
    ExitError::failure(error).hint(
        "what comes before this record holds. A power cut may leave an end that does not: the next start of the node \
         cuts it off, and records that",
    )
}

fn time(record: &AuditRecord) -> String {
    let at = i64::try_from(record.wall_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| format!("{} ms", record.wall_ms), |at| format!("{at:.3}"))
}

fn print(record: &AuditRecord, is_json: bool) {
    console::line(if is_json { in_json(record).to_string() } else { in_words(record) });
}

fn in_json(record: &AuditRecord) -> Value {
    let fields = record.entry.fields();
    let fields: Map<String, Value> =
        fields.map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect();
    json!({
        "number": record.number,
        "ts": time(record),
        "kind": record.entry.kind().name(),
        "event": record.entry.event(),
        "fields": fields,
        "previous": record.previous,
        "hash": record.hash(),
    })
}

fn in_words(record: &AuditRecord) -> String {
    let entry = &record.entry;
    let head = format!("{:>6} {} {:<8} {}", record.number, time(record), entry.kind().name(), entry.event());
    let fields = entry.fields().map(|(name, value)| {
        let is_word = !value.is_empty() && !value.contains([' ', '"', '=']);
        let value = if is_word { value.into_owned() } else { Value::from(value).to_string() };
        format!(" {name}={value}")
    });
    head + &fields.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_storage::audit::AuditEntry;

    fn record() -> AuditRecord {
        let entry = AuditEntry::new(AuditKind::Command, "unfence");
        let entry = entry.with("reason", "memory \"replaced\"").with("fence_height", 7).with("empty", "");
        AuditRecord { number: 12, wall_ms: 1_800_000_000_005, previous: B256::ZERO, entry }
    }

    #[test]
    fn a_record_is_a_line_in_which_values_of_many_words_are_quoted() {
        let expected = "    12 2027-01-15T08:00:00.005Z command  unfence reason=\"memory \\\"replaced\\\"\" \
                        fence_height=7 empty=\"\"";
        assert_eq!(in_words(&record()), expected);
    }

    #[test]
    fn a_record_is_an_object_with_what_makes_its_hash() {
        let shown = in_json(&record());
        assert_eq!(
            (&shown["number"], &shown["kind"], &shown["event"]),
            (&12.into(), &"command".into(), &"unfence".into())
        );
        assert_eq!(shown["fields"]["reason"], "memory \"replaced\"");
        assert_eq!(shown["hash"], record().hash().to_string());
        assert_eq!(shown["previous"].as_str().unwrap().len(), 66);
    }

    #[test]
    fn without_a_folder_it_is_usage_and_without_a_log_nothing_was_checked() {
        let dir = tempfile::tempdir().unwrap();
        let code =
            |data_dir: &Path| verify(&VerifyArgs { data_dir: data_dir.into(), head: None }).unwrap_err().code;
        assert_eq!((code(&dir.path().join("nowhere")), code(dir.path())), (2, 3));
        std::fs::write(dir.path().join("audit.log"), b"").unwrap();
        assert_eq!(code(dir.path()), 3);
    }
}
