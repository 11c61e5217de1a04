//! What real nodes recorded, run again here.

use super::audit::Audit;
use aequa_crypto::lock::{self, VerifiedLock};
use aequa_crypto::verify::Verifier;
use aequa_replica::recording::{Comparison, End, Replay, Selection, summary, timeline};
use aequa_storage::data_dir::journal_dir;
use aequa_storage::journal::Reader;
use aequa_storage::wal;
use aequa_types::lock::LOCK_BYTES_MAX;
use aequa_types::{InstanceId, OperatorIndex};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// What came of running recordings again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rerun {
    /// The story of each node, and what was found in it.
    pub lines: Vec<String>,
    /// What must not be; empty when all is well.
    pub violations: Vec<String>,
}

/// Runs one instance as the nodes of these data directories recorded it, and checks each recording and
/// all of them together: one statement per place, persist before send, one decision with its quorum.
///
/// Fails when something needed is not there or cannot be read, and when nothing is wrong, but a vote log holds
/// more than its recording, or less.
pub fn run_recordings(dirs: &[PathBuf], lock: Option<&Path>, instance: InstanceId) -> Result<Rerun, String> {
    let mut rerun = Rerun { lines: Vec::new(), violations: Vec::new() };
    let (mut replays, mut unchecked) = (Vec::new(), Vec::new());
    for dir in dirs {
        let beside = dir.join("cluster-lock.json");
        let lock = load(lock.unwrap_or(&beside))?;
        let (replay, comparison) = run_one(dir, &lock, instance)?;
        rerun.lines.push(format!("operator {} in {}", replay.me, dir.display()));
        rerun.lines.extend(timeline(&replay).iter().map(ToString::to_string));
        rerun.lines.extend(summary(&replay, Some(&comparison)));
        if let End::Differs(difference) = &replay.end {
            rerun.violations.push(difference.to_string());
        }
        let told = |what: &str, places: Vec<String>| {
            let at = format!("operator {}, {what}", replay.me);
            places.into_iter().map(move |place| format!("{at}: {place}")).collect::<Vec<_>>()
        };
        let Comparison { different, missing, ahead, unrecorded, .. } = comparison;
        rerun.violations.extend(told("its vote log holds another statement", different));
        rerun.violations.extend(told("recorded, and missing in its vote log", missing));
        rerun.violations.extend(told("not given back by its vote log after a restart", replay.lost()));
        unchecked.extend(told("recorded at the end, and not in its vote log", ahead));
        unchecked.extend(told("in its vote log, and not recorded", unrecorded));
        replays.push((lock.quorum(), replay));
    }
    let recorders: BTreeSet<OperatorIndex> = replays.iter().map(|(_, replay)| replay.me).collect();
    let Some((quorum, _)) = replays.first() else { return Err("no recording is named".into()) };
    let mut audit = Audit::new(*quorum, recorders);
    replays.iter().for_each(|(_, replay)| audit.replay(replay));
    rerun.lines.extend(audit.evidence.iter().map(|evidence| format!("evidence: {evidence}")));
    rerun.violations.extend(audit.violations);
    match rerun.violations.is_empty() && !unchecked.is_empty() {
        true => Err(unchecked.join("\n")),
        false => Ok(rerun),
    }
}

fn run_one(dir: &Path, lock: &VerifiedLock, instance: InstanceId) -> Result<(Replay, Comparison), String> {
    let at = |what: &str| format!("{}: {what}", dir.display());
    let reader = Reader::open(&journal_dir(dir)).map_err(|error| at(&error.to_string()))?;
    let reader = reader.ok_or_else(|| at("there is no recording; start the node with --record"))?;
    let (cluster, me) = reader.owner();
    if cluster != lock.cluster_id() || !lock.quorum().contains(me) {
        return Err(at("the recording is of another cluster than the lock"));
    }
    let mut selection = Selection::of(instance);
    for entry in reader.entries() {
        selection.offer(entry.map_err(|error| at(&error.to_string()))?);
    }
    let verifier = Verifier::new(lock);
    let mut check = |message| verifier.message(message).map_err(|refusal| refusal.to_string());
    let replay = Replay::run(&selection, me, lock.quorum(), &mut check);
    match replay.end {
        End::Absent => Err(at("the instance is not in the recording")),
        End::Incomplete(number) => Err(at(&format!("something is missing before entry {number}"))),
        End::Reproduced | End::Differs(_) => {
            let log = wal::read(&dir.join("wal"), cluster, me)
                .map_err(|error| at(&format!("the vote log cannot be read: {error}")))?;
            let comparison = Comparison::of(&replay, &log);
            Ok((replay, comparison))
        }
    }
}

fn load(path: &Path) -> Result<VerifiedLock, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    file.take(LOCK_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    lock::load(&text).map_err(|error| format!("{} does not verify: {error}", path.display()))
}
