//! `dvt-node replay`: what happened in a recorded height, and would the same happen again?
//!
//! The recording is read from the data directory, and given to a replica once more, from the start of the process that
//! recorded it. Nothing is written and no lock is taken, so it may be done beside a running node.

mod story;

use crate::flags::{lock_of_node, path};
use aequa_crypto::lock::VerifiedLock;
use aequa_crypto::verify::Verifier;
use aequa_host::recording::{Difference, ENTRY_BYTES_MAX, Entry, Replay};
use aequa_node::exit::ExitError;
use aequa_node::{console, epochs};
use aequa_storage::data_dir::journal_dir;
use aequa_storage::journal::{Life, lives};
use aequa_storage::{StorageError, wal};
use aequa_types::{DutyId, DutyKind, Height, InstanceId, OperatorIndex, Record, Slot};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use story::{Story, To};

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
A node started with --record writes down all that its replica takes in, from its start
on: messages, timers, candidates, transactions, and what it reads of the state. replay
runs the same code again from there up to the height, compares everything it asks for
with what was recorded, prints what happened with milliseconds since the beginning, and
compares the operator's statements with the vote log. Equal messages are shown once,
with how often they came. Where it differs, the first such step is named.

  dvt-node run --data-dir node0 --record
  dvt-node replay --data-dir node0 --height 17

Exit code: 0 reproduced, 1 it differs, 2 usage, 3 not recorded or not readable.";

/// A log that is being written may look damaged for the length of a write.
const LOG_READS_MAX: usize = 3;
/// How a recording comes to be.
const HOW_TO_RECORD: &str = "start the node with --record (and --record-max-mib for how much is kept); \
                             what was decided before cannot be replayed";

/// What a replay found.
struct Found {
    instance: InstanceId,
    me: OperatorIndex,
    /// Steps of the processes up to the last one that is about the instance.
    steps: u64,
    story: Story,
    difference: Option<Difference>,
    /// How the statements agree with the vote log; none when that cannot be read.
    log: Option<Comparison>,
}

/// Statements of the operator against those of the vote log.
#[derive(Debug, Default)]
struct Comparison {
    equal: usize,
    /// What the log has otherwise.
    different: Vec<String>,
}

/// Replays one height and prints its story; the exit code says whether it was reproduced.
pub fn replay(args: &ReplayArgs) -> Result<(), ExitError> {
    let instance = instance(args)?;
    let lock = lock_of_node(&args.data_dir, args.cluster_lock.as_deref(), "--cluster-lock")?;
    let dir = journal_dir(&args.data_dir);
    let lives = lives(&dir).map_err(unreadable)?;
    let (cluster, me) = lives.last().map(Life::owner).ok_or_else(|| {
        ExitError::unchecked(format!("there is no recording in {}", dir.display())).hint(HOW_TO_RECORD)
    })?;
    if cluster != lock.cluster_id() || !lock.quorum().contains(me) {
        return Err(ExitError::unchecked(format!(
            "the recording is of operator {me} of cluster {cluster}, the lock of cluster {}",
            lock.cluster_id()
        ))
        .hint("name the lock of that cluster with --cluster-lock"));
    }
    let before = epochs::history(&args.data_dir, &lock).unwrap_or_default();
    let verifier = Verifier::with_history(&lock, &before);
    let mut found =
        Found { instance, me, steps: 0, story: Story::of(me, instance), difference: None, log: None };
    let mut range = Range::default();
    for life in lives {
        let Some(again) = life.again().map_err(unreadable)? else { continue };
        if let Some(last) = range.scan(life, instance)? {
            found.run(again, last, &lock, &verifier)?;
        }
        if found.difference.is_some() {
            break;
        }
    }
    if found.steps == 0 && found.difference.is_none() {
        return Err(absent(instance, &range));
    }
    // After the recording: what is recorded may be in the log already.
    let log = vote_log(&args.data_dir.join("wal"), &lock, me);
    found.log = log.as_deref().ok().map(|log| compare(&found.story, log));
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

fn decode(entry: Result<Vec<u8>, StorageError>) -> Result<Entry, ExitError> {
    let bytes = entry.map_err(unreadable)?;
    aequa_types::decode("recorded entry", &bytes, ENTRY_BYTES_MAX).map_err(|error| {
        ExitError::unchecked(format!("the recording cannot be read: {error}"))
            .hint("was it made by another version of the program?")
    })
}

/// What of its kind the recording is about.
#[derive(Debug, Default)]
struct Range(Option<(u64, u64)>);

impl Range {
    /// Looks through a recording; gives the number of the last entry that is about the instance, from 0.
    fn scan(&mut self, life: Life, instance: InstanceId) -> Result<Option<usize>, ExitError> {
        let mut last = None;
        for (number, entry) in life.enumerate() {
            let entry = decode(entry)?;
            if let Some(of) = entry.instance().filter(|of| of.domain() == instance.domain()) {
                let (lowest, highest) = self.0.unwrap_or((of.number(), of.number()));
                self.0 = Some((lowest.min(of.number()), highest.max(of.number())));
            }
            if entry.is_about(instance) {
                last = Some(number);
            }
        }
        Ok(last)
    }
}

impl Found {
    /// Runs a process again, up to the end of the turn with the last entry.
    fn run(
        &mut self,
        life: Life,
        last: usize,
        lock: &VerifiedLock,
        verifier: &Verifier,
    ) -> Result<(), ExitError> {
        let mut check = |message| verifier.message(message).map_err(|refusal| refusal.to_string());
        let mut replay = None::<Replay>;
        for (number, entry) in life.enumerate() {
            if number > last && replay.as_ref().is_some_and(Replay::is_between_turns) {
                break;
            }
            let outcome = match (decode(entry)?, &mut replay) {
                (Entry::Start(start), _) => {
                    if start.lock_hash != lock.lock().lock_hash {
                        return Err(ExitError::unchecked("the recording is of another epoch than the lock")
                            .hint(
                                "name the lock of then with --cluster-lock: epochs/<n>/cluster-lock.json",
                            ));
                    }
                    let params = lock.lock().consensus.params.clone();
                    Replay::begin((*start).clone(), params).map(|begun| replay = Some(begun))
                }
                (Entry::Step(step), Some(replay)) => {
                    self.story.takes(&step);
                    replay.step((*step).clone(), &mut check)
                }
                (Entry::TurnEnded(tip), Some(replay)) => {
                    replay.end_turn(tip).map(|durable| self.story.ends_turn(&durable))
                }
                (Entry::Step(_) | Entry::TurnEnded(_), None) => {
                    return Err(ExitError::unchecked("the recording has no beginning"));
                }
            };
            if let Err(difference) = outcome {
                self.difference = Some(difference);
                break;
            }
        }
        if let Some(replay) = replay {
            self.steps += replay.steps();
            if let Some(reason) = replay.halts() {
                self.story.stops(&reason);
            }
        }
        self.story.restarts();
        Ok(())
    }
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

/// What the log holds of the instance, beside what was signed again. It is pruned, and may be ahead.
fn compare(story: &Story, log: &[Record]) -> Comparison {
    let mut found = Comparison::default();
    for own in story.statements() {
        let logged =
            log.iter().filter_map(Record::statement).find(|signed| signed.vote_key() == own.vote_key());
        match logged {
            None => {}
            Some(logged) if logged == own => found.equal += 1,
            Some(_) => found.different.push(format!("the {:?} of round {}", own.kind(), own.round)),
        }
    }
    found
}

fn absent(instance: InstanceId, range: &Range) -> ExitError {
    let what = match instance {
        InstanceId::Block(height) => format!("height {height}"),
        InstanceId::Duty(DutyId { kind, slot }) => format!("{} duty {slot}", kind.name()),
    };
    match range.0 {
        None => ExitError::unchecked(format!("{what} is not in the recording, nor any other of its kind"))
            .hint(HOW_TO_RECORD),
        Some((lowest, highest)) => {
            ExitError::unchecked(format!("{what} is not in the recording, which holds {lowest} to {highest}"))
                .hint(
                    "a process records until --record-max-mib is reached, and drops earlier ones for that; \
                     it begins anew when the node is started",
                )
        }
    }
}

fn in_words(found: &Found) {
    found.story.lines().iter().for_each(console::line);
    console::line(found.story.decision_in_words());
    let played =
        format!("replayed: {} steps, {} own statements", found.steps, found.story.statements().len());
    console::line(match (&found.difference, &found.log) {
        (Some(difference), _) => format!("differs: {difference}"),
        (None, None) => format!("{played}, all made again; the vote log was not read"),
        (None, Some(log)) if log.equal == 0 => {
            format!("{played}, all made again; the vote log no longer holds them")
        }
        (None, Some(log)) => format!("{played}, all made again; {} of them are in the vote log", log.equal),
    });
    for place in found.log.iter().flat_map(|log| &log.different) {
        console::line(format!("differs from the vote log: {place}"));
    }
}

fn in_json(found: &Found) -> Value {
    let lines = found.story.lines().iter().map(|line| {
        let to = match line.to {
            To::Nobody => Value::Null,
            To::One(operator) => operator.0.into(),
            To::All => "all".into(),
        };
        json!({ "ms": line.after_ms, "who": line.who.0, "to": to, "text": line.text, "times": line.times })
    });
    let decided = found.story.decision().map(|decision| {
        let signers: Vec<u8> = decision.signers.iter().map(|operator| operator.0).collect();
        json!({
            "digest": decision.digest, "round": decision.round.0,
            "signers": signers, "sealed": decision.sealed,
        })
    });
    let log = found.log.as_ref().map(|log| json!({ "equal": log.equal, "different": log.different }));
    let (result, detail) = match &found.difference {
        None => ("reproduced", None),
        Some(difference) => ("differs", Some(difference.to_string())),
    };
    json!({
        "domain": found.instance.domain().name(), "height": found.instance.number(), "operator": found.me.0,
        "timeline": lines.collect::<Vec<_>>(), "decided": decided, "steps": found.steps,
        "statements": found.story.statements().len(), "vote_log": log, "result": result, "detail": detail,
    })
}

fn verdict(found: &Found, log_unreadable: Option<String>) -> Result<(), ExitError> {
    match (&found.difference, &found.log) {
        (Some(difference), _) => Err(ExitError::failure(format!("the replay differs: {difference}"))
            .hint("was it recorded by another version of the program, or changed since?")),
        (None, Some(log)) if !log.different.is_empty() => {
            Err(ExitError::failure("the vote log holds other statements than the recording"))
        }
        (None, Some(_)) => Ok(()),
        (None, None) => Err(ExitError::unchecked(format!(
            "everything was made again, but the vote log cannot be read: {}",
            log_unreadable.unwrap_or_default()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_1_and_what_cannot_be_told_is_3() {
        let instance = InstanceId::Block(Height(1));
        let me = OperatorIndex(0);
        let different = || Some(Difference::Tip { step: 1, made: Height(1), recorded: Height(2) });
        let log = |different: &[&str]| {
            let different = different.iter().map(ToString::to_string).collect();
            Some(Comparison { equal: 1, different })
        };
        for (expected, difference, log) in [
            (0, None, log(&[])),
            (1, different(), log(&[])),
            (1, different(), None),
            (1, None, log(&["the Prepare of round 0"])),
            (3, None, None),
        ] {
            let found = Found { instance, me, steps: 1, story: Story::of(me, instance), difference, log };
            let code = verdict(&found, None).map_or_else(|error| error.code, |()| 0);
            assert_eq!(code, expected, "{:?}, {:?}", found.difference, found.log);
        }
    }
}
