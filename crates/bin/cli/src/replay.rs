//! `dvt-node replay`: what happened in a recorded height, and would the same happen again?
//!
//! The recording is read from the data directory, checked with the keys of the lock, and given to the
//! production core once more. Nothing is written and no lock is taken, so it may be done beside a
//! running node: the recording only grows at its end, and the vote log is ahead of it.

use crate::flags::{lock_of_node, path};
use aequa_crypto::lock::VerifiedLock;
use aequa_crypto::verify::Verifier;
use aequa_node::console;
use aequa_node::exit::ExitError;
use aequa_replica::recording::{Comparison, End, Replay, Selection, To, decision, summary, timeline};
use aequa_storage::data_dir::journal_dir;
use aequa_storage::journal::Reader;
use aequa_storage::{StorageError, wal};
use aequa_types::{DutyId, DutyKind, Height, InstanceId, OperatorIndex, Record, Slot};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Run a recorded height again and say who sent what when
#[derive(Debug, Args)]
#[command(after_help = REPLAY_HELP)]
pub struct ReplayArgs {
    /// Folder of the operator; the node may be running
    #[arg(long, value_name = "DIR", default_value = "./aequa-data", value_parser = path())]
    pub data_dir: PathBuf,
    /// Height of the block, or slot of the duty
    #[arg(long, value_name = "H")]
    pub height: u64,
    /// Replay a duty instead of a block
    #[arg(long, value_name = "TYPE", value_parser = ["attester", "proposer", "sync"])]
    pub duty: Option<String>,
    /// Cluster lock [default: the one the node uses]
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub cluster_lock: Option<PathBuf>,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What a reader of `replay --help` wants to know beside the flags.
const REPLAY_HELP: &str = "\
A node started with --record writes down what every consensus instance takes:
messages, timers, candidates, and what a restart gave it back. replay checks all
signatures, runs the same code again, prints what happened with milliseconds since
the beginning, and compares every statement the operator made with the recording
and the vote log. Equal messages are shown once, with how often they came.

  dvt-node run --data-dir node0 --record
  dvt-node replay --data-dir node0 --height 17

Exit code: 0 reproduced, 1 it differs, 2 usage, 3 not recorded or not whole.";

/// A log that is being written may look damaged for the length of a write.
const LOG_READS_MAX: usize = 3;
/// How a recording comes to be.
const HOW_TO_RECORD: &str = "start the node with --record (and --record-max-mib for how much is kept); \
                             what was decided before cannot be replayed";
/// What it means that the vote log does not hold what it held.
const LOG_HINT: &str =
    "a statement is recorded when it is durable: the log was changed, replaced or restored";

/// What a replay found.
struct Found {
    replay: Replay,
    /// None when the vote log cannot be read.
    comparison: Option<Comparison>,
}

/// Replays one height and prints its story; the exit code says whether it was reproduced.
pub fn replay(args: &ReplayArgs) -> Result<(), ExitError> {
    let instance = instance(args)?;
    let lock = lock_of_node(&args.data_dir, args.cluster_lock.as_deref(), "--cluster-lock")?;
    let dir = journal_dir(&args.data_dir);
    let reader = Reader::open(&dir).map_err(unreadable)?.ok_or_else(|| {
        ExitError::unchecked(format!("there is no recording in {}", dir.display())).hint(HOW_TO_RECORD)
    })?;
    let (cluster, me) = reader.owner();
    if cluster != lock.cluster_id() || !lock.quorum().contains(me) {
        return Err(ExitError::unchecked(format!(
            "the recording is of operator {me} of cluster {cluster}, the lock of cluster {}",
            lock.cluster_id()
        ))
        .hint("name the lock of that cluster with --cluster-lock"));
    }
    let mut selection = Selection::of(instance);
    for entry in reader.entries() {
        selection.offer(entry.map_err(unreadable)?);
    }
    // After the recording: what is recorded is in the log already.
    let log = vote_log(&args.data_dir.join("wal"), &lock, me);
    let found = run(&lock, me, &selection, log.as_deref().ok());
    if found.replay.end == End::Absent {
        return Err(absent(&selection));
    }
    match args.json {
        true => console::line(in_json(&found)),
        false => in_words(&found),
    }
    verdict(&found, log.err())
}

fn instance(args: &ReplayArgs) -> Result<InstanceId, ExitError> {
    match &args.duty {
        None => Ok(InstanceId::Block(Height(args.height))),
        Some(name) => DutyKind::named(name)
            .map(|kind| InstanceId::duty(kind, Slot(args.height)))
            .ok_or_else(|| ExitError::usage(format!("--duty: no duty {name}"))),
    }
}

fn unreadable(error: StorageError) -> ExitError {
    ExitError::unchecked(format!("the recording cannot be read: {error}"))
}

/// Every record of the vote log, or why it cannot be read.
fn vote_log(dir: &Path, lock: &VerifiedLock, me: OperatorIndex) -> Result<Vec<Record>, String> {
    let read = || wal::read(dir, lock.cluster_id(), me);
    let mut outcome = read();
    for _ in 1..LOG_READS_MAX {
        if outcome.is_ok() {
            break;
        }
        outcome = read();
    }
    outcome.map_err(|error| error.to_string())
}

fn run(lock: &VerifiedLock, me: OperatorIndex, selection: &Selection, log: Option<&[Record]>) -> Found {
    let verifier = Verifier::new(lock);
    let mut check = |message| verifier.message(message).map_err(|refusal| refusal.to_string());
    let replay = Replay::run(selection, me, lock.quorum(), &mut check);
    let comparison = log.map(|log| Comparison::of(&replay, log));
    Found { replay, comparison }
}

fn absent(selection: &Selection) -> ExitError {
    let what = match selection.instance() {
        InstanceId::Block(height) => format!("height {height}"),
        InstanceId::Duty(DutyId { kind, slot }) => format!("{} duty {slot}", kind.name()),
    };
    match selection.range() {
        None => ExitError::unchecked(format!("{what} is not in the recording, nor any other of its kind"))
            .hint(HOW_TO_RECORD),
        Some((lowest, highest)) => {
            let (lowest, highest) = (lowest.number(), highest.number());
            ExitError::unchecked(format!("{what} is not in the recording, which holds {lowest} to {highest}"))
                .hint("the oldest is dropped when the recording is full: --record-max-mib sets its size")
        }
    }
}

fn in_words(found: &Found) {
    timeline(&found.replay).into_iter().for_each(console::line);
    summary(&found.replay, found.comparison.as_ref()).into_iter().for_each(console::line);
}

fn in_json(found: &Found) -> Value {
    let Found { replay, comparison } = found;
    let lines = timeline(replay).into_iter().map(|line| {
        let to = match line.to {
            To::Nobody => Value::Null,
            To::One(operator) => operator.0.into(),
            To::All => "all".into(),
        };
        json!({ "ms": line.after_ms, "who": line.who.0, "to": to, "text": line.text, "times": line.times })
    });
    let decided = decision(replay).map(|decision| {
        let signers: Vec<u8> = decision.signers.iter().map(|operator| operator.0).collect();
        json!({
            "digest": decision.digest, "round": decision.round.0,
            "signers": signers, "sealed": decision.sealed,
        })
    });
    let log = comparison.as_ref().map(|comparison| {
        json!({
            "equal": comparison.equal, "pruned": comparison.pruned, "different": comparison.different,
            "missing": comparison.missing, "ahead": comparison.ahead, "unrecorded": comparison.unrecorded,
        })
    });
    let (result, detail) = match &replay.end {
        End::Reproduced => ("reproduced", None),
        End::Differs(difference) => ("differs", Some(difference.to_string())),
        End::Incomplete(number) => {
            ("incomplete", Some(format!("something is missing before entry {number}")))
        }
        End::Absent => ("absent", None),
    };
    json!({
        "domain": replay.instance.domain().name(), "height": replay.instance.number(), "operator": replay.me.0,
        "timeline": lines.collect::<Vec<_>>(), "decided": decided, "events": replay.events,
        "statements": replay.statements.len(), "lost": replay.lost(), "vote_log": log, "result": result,
        "detail": detail,
    })
}

fn verdict(found: &Found, log_unreadable: Option<String>) -> Result<(), ExitError> {
    match (&found.replay.end, &found.comparison) {
        (End::Differs(difference), _) => Err(ExitError::failure(format!("the replay differs: {difference}"))
            .hint("was it recorded by another version of the program, or changed since?")),
        (End::Incomplete(number), _) => Err(ExitError::unchecked(format!(
            "the recording is not whole: something is missing before entry {number}"
        ))
        .hint("its beginning was dropped, or the machine went down before it was written")),
        (End::Absent, _) => Err(ExitError::unchecked("there is nothing to replay")),
        (End::Reproduced, _) if !found.replay.lost().is_empty() => {
            Err(ExitError::failure("after a restart the vote log did not give back what was recorded before")
                .hint(LOG_HINT))
        }
        (End::Reproduced, Some(comparison)) if !comparison.different.is_empty() => {
            Err(ExitError::failure("the vote log holds other statements than the recording"))
        }
        (End::Reproduced, Some(comparison)) if comparison.contradicts() => {
            Err(ExitError::failure("statements that were recorded are missing in the vote log")
                .hint(LOG_HINT))
        }
        (End::Reproduced, Some(comparison)) if !comparison.ahead.is_empty() => {
            Err(ExitError::unchecked("the recording ends with statements that are not in the vote log")
                .hint("is the log from the same moment as the recording?"))
        }
        (End::Reproduced, Some(comparison)) if !comparison.agrees() => {
            Err(ExitError::unchecked("the vote log holds more statements than the recording")
                .hint("recording ended before the node did; the log of the node says why"))
        }
        (End::Reproduced, None) => Err(ExitError::unchecked(format!(
            "everything was made again, but the vote log cannot be read: {}",
            log_unreadable.unwrap_or_default()
        ))),
        (End::Reproduced, Some(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_replica::recording::OwnStatement;
    use aequa_types::{Claim, Digest, Round, Signature, Signed, Statement};

    fn found(lost: bool, comparison: Option<Comparison>) -> Found {
        let instance = InstanceId::Block(Height(1));
        let claim = Claim::Prepare(Digest::ZERO);
        let statement = Statement { instance, round: Round(0), author: OperatorIndex(0), claim };
        let signed = Signed { statement, signature: Signature::ZERO };
        let replay = Replay {
            instance,
            me: OperatorIndex(0),
            newest: false,
            played: Vec::new(),
            statements: vec![OwnStatement { signed, lost }],
            certificate: None,
            events: 0,
            end: End::Reproduced,
        };
        Found { replay, comparison }
    }

    #[test]
    fn what_log_and_recording_disagree_on_is_1_and_what_cannot_be_told_is_3() {
        let places = || vec!["the Prepare of round 0".to_owned()];
        let same = Comparison::default;
        for (expected, lost, comparison) in [
            (0, false, Some(same())),
            (0, false, Some(Comparison { pruned: 1, ..same() })),
            (1, false, Some(Comparison { different: places(), ..same() })),
            (1, false, Some(Comparison { missing: places(), unrecorded: places(), ..same() })),
            (3, false, Some(Comparison { ahead: places(), ..same() })),
            (3, false, Some(Comparison { unrecorded: places(), ..same() })),
            (3, false, None),
            (1, true, Some(same())),
            (1, true, None),
        ] {
            let told = format!("{comparison:?}, lost: {lost}");
            let code = verdict(&found(lost, comparison), None).map_or_else(|error| error.code, |()| 0);
            assert_eq!(code, expected, "{told}");
        }
    }
}
