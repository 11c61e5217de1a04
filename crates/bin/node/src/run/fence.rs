//! What a node does that cannot trust its state: it fences itself, has the state again from the cluster, and is one of
//! them again.
//!
//! ```text
//!  damage, or another root, certified or signed by f+1 members ─▶ marker, durable ─▶ the process begins again
//!     ─▶ the block store is set aside ─▶ blocks or a snapshot from members
//!     ─▶ executed up to where the others are ─▶ marker removed
//! ```
//!
//! Every block that is executed is compared with what a quorum certified, so that a node which follows the others has
//! their state. What was signed stays where it is, in the vote log and the signing database: the fence is about what is
//! remembered of the chain. So the node asks the members what it signed as at any start, and several may repair
//! themselves at the same time. It does not testify before its chain is where it once was (`Replica::may_testify`).

use super::context::Context;
use super::core::CoreError;
use super::sync::blocking;
use crate::audit::{entries, record_or_warn};
use crate::exit::ExitError;
use aequa_host::HostError;
use aequa_replica::Halt;
use aequa_storage::{FenceMark, StorageError, fence::kept_store};
use aequa_types::{Height, OperatorIndex, Quorum};
use alloy_primitives::B256;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Times a node repairs itself within a day.
const ATTEMPTS_MAX: u64 = 3;
/// A day, in seconds.
const DAY_S: u64 = 86_400;
/// How long a store that was set aside is kept for whoever wants to know what happened to it.
const KEPT_FOR_S: u64 = 7 * DAY_S;
/// How often it is looked whether the fence may go.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A state that is not that of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The block after which it is another.
    pub height: Height,
    /// The root that the others have after it; zero where only damage is known.
    pub root: B256,
    /// What is wrong.
    pub reason: String,
}

impl Divergence {
    /// Whether a core ended for this.
    pub fn of(error: &CoreError, height: Height) -> Option<Self> {
        match error {
            HostError::Stop(Halt::Diverged { height, root, reason, .. }) => {
                Some(Self { height: *height, root: *root, reason: reason.clone() })
            }
            HostError::Store(error) => Self::in_store(error, height),
            HostError::Stop(Halt::Impossible(_) | Halt::SignedElsewhere { .. })
            | HostError::Votes(_)
            | HostError::Members(_)
            | HostError::Directory(_) => None,
        }
    }

    /// Whether the store is damaged.
    pub fn in_store(error: &StorageError, height: Height) -> Option<Self> {
        error.is_damage().then(|| Self { height, root: B256::ZERO, reason: error.to_string() })
    }
}

/// Operators that have signed for the root which is not that of this node.
pub fn backers(error: &CoreError) -> &[OperatorIndex] {
    match error {
        HostError::Stop(Halt::Diverged { backers, .. }) => backers,
        HostError::Stop(Halt::Impossible(_) | Halt::SignedElsewhere { .. })
        | HostError::Store(_)
        | HostError::Votes(_)
        | HostError::Members(_)
        | HostError::Directory(_) => &[],
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Sets the fence: durable on return, and only then announced.
pub fn set(data_dir: &Path, found: &Divergence, backers: &[OperatorIndex]) -> Result<(), ExitError> {
    let before = FenceMark::load(data_dir).and_then(|mark| match mark {
        Some(mark) => Ok(Some(mark)),
        None => FenceMark::last(data_dir),
    });
    let before = before.map_err(ExitError::failure)?;
    let now = now_s();
    let today = before.filter(|mark| is_of_today(mark, now));
    let (attempts, first_attempt) =
        today.map_or((1, now), |mark| (mark.attempts.saturating_add(1), mark.first_attempt));
    let mark = FenceMark {
        height: found.height,
        root: found.root,
        backers: backers.iter().map(|operator| operator.0).collect(),
        reason: FenceMark::reason_of(&found.reason),
        since: now,
        attempts,
        first_attempt,
        is_set_aside: false,
    };
    mark.set(data_dir).map_err(ExitError::failure)?;
    record_or_warn(data_dir, &entries::fence("set", &mark));
    let (height, root) = (found.height.0, format!("{:x}", found.root));
    tracing::error!(
        target: "event",
        event = "SELF_FENCED",
        reason = mark.reason(),
        height,
        ledger = height,
        localRoot = "",
        peerRoot = root,
        backers = aequa_telemetry::log::json(&mark.backers),
        "SELF_FENCED"
    );
    Ok(())
}

/// Whether the attempts that a mark counts are of the last day.
fn is_of_today(mark: &FenceMark, now_s: u64) -> bool {
    now_s.saturating_sub(mark.first_attempt) < DAY_S
}

/// The fence at a start. The store that is not trusted is set aside, once.
pub fn heed(root: &Path) -> Result<Option<FenceMark>, ExitError> {
    let Some(mut mark) = FenceMark::load(root).map_err(ExitError::failure)? else {
        forget_old_store(root);
        return Ok(None);
    };
    tracing::warn!(
        target: "event",
        event = "FENCE_RESTORED",
        since = mark.since,
        reason = mark.reason(),
        height = mark.height.0,
        "FENCE_RESTORED"
    );
    if mark.attempts > ATTEMPTS_MAX && is_of_today(&mark, now_s()) {
        let action = format!("dvt-node unfence --force --reason TEXT --data-dir {}", root.display());
        tracing::error!(
            target: "event",
            event = "RECONCILIATION_REQUIRES_REPLAY",
            height = mark.height.0,
            firstDivergingLedger = mark.height.0,
            action,
            "RECONCILIATION_REQUIRES_REPLAY"
        );
        record_or_warn(root, &entries::fence("given_up", &mark));
        return Err(ExitError::failure(format!(
            "the node has fenced itself {} times within a day: {}",
            mark.attempts,
            mark.reason()
        ))
        .hint(format!("look at the disk and the memory of this machine; then: {action}")));
    }
    if !mark.is_set_aside {
        FenceMark::set_store_aside(root).map_err(ExitError::failure)?;
        mark.is_set_aside = true;
        mark.set(root).map_err(ExitError::failure)?;
        record_or_warn(root, &entries::fence("set_aside", &mark));
        tracing::warn!(
            target: "event",
            event = "RECONCILIATION_START",
            height = mark.height.0,
            ledger = mark.height.0,
            localRoot = "",
            peerRoot = format!("{:x}", mark.root),
            attempt = mark.attempts,
            "RECONCILIATION_START"
        );
    }
    Ok(Some(mark))
}

/// Nobody has looked at the store that was set aside for a week: its room is needed.
fn forget_old_store(root: &Path) {
    let kept = kept_store(root);
    // The folder's own time is when its node last made a file, which may be long before.
    let Ok(Some(fence)) = FenceMark::last(root) else { return };
    if kept.exists() && fence.since > 0 && now_s().saturating_sub(fence.since) > KEPT_FOR_S {
        let removed = FenceMark::drop_kept_store(root);
        let (path, result) = (kept.display(), if removed.is_ok() { "is" } else { "cannot be" });
        tracing::warn!(target: "event", text = format!("{path}, set aside a week ago, {result} removed"), "warning");
    }
}

/// Waits until a fenced node has decided with the others again, and removes the fence.
pub async fn watch(context: Arc<Context>, mark: FenceMark, data_dir: PathBuf) {
    let started = Instant::now();
    context.metrics.node_fenced.set([], 1.0);
    while !is_with_the_others(&context) || context.facts.tip_height() < mark.height {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let dir = data_dir.clone();
    if let Some((Err(error), _)) = blocking(move || FenceMark::remove(&dir)).await {
        context.metrics.reconciliation_total.inc(["failed"]);
        let (height, attempt) = (mark.height.0, mark.attempts);
        tracing::error!(target: "event", event = "RECONCILIATION_FAILED", height, step = "verify", err = %error, attempt, "RECONCILIATION_FAILED");
        return;
    }
    let repaired = entries::fence("repaired", &mark);
    blocking(move || record_or_warn(&data_dir, &repaired)).await;
    context.facts.set_fence(None);
    context.metrics.node_fenced.set([], 0.0);
    context.metrics.reconciliation_total.inc(["complete"]);
    let store = Arc::clone(&context.store);
    let tip = blocking(move || aequa_storage::ChainStore::latest(&*store)).await;
    let tip = tip.and_then(|(tip, _)| tip.ok().flatten());
    let (height, root) =
        tip.map_or((0, String::new()), |tip| (tip.height.0, format!("{:x}", tip.state_root)));
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        target: "event",
        event = "RECONCILIATION_COMPLETE",
        height,
        ledger = height,
        root,
        replayedFrom = 0,
        duration_ms,
        "RECONCILIATION_COMPLETE"
    );
    let reason = mark.reason();
    tracing::warn!(target: "event", event = "UNFENCED", by = "reconciliation", reason, height, root, "UNFENCED");
}

/// Whether this node has what f+1 members have, and is not asking what it has signed.
fn is_with_the_others(context: &Context) -> bool {
    let theirs = context.facts.best_peer_height();
    theirs > Height(0) && context.facts.tip_height() >= theirs && !context.facts.is_rejoining()
}

/// Whether a node of such a cluster can have its state again: somebody else has it.
pub fn can_repair(quorum: Quorum) -> bool {
    quorum.operators() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_of_one_does_not_set_its_state_aside() {
        let repairs = |operators| can_repair(Quorum::of(operators).unwrap());
        assert!(repairs(2) && repairs(4) && repairs(7));
        assert!(!repairs(1));
    }

    #[test]
    fn a_store_that_was_set_aside_is_kept_for_a_week_after_its_fence() {
        let dir = tempfile::tempdir().unwrap();
        for (since, is_kept) in [(0, true), (now_s(), true), (now_s() - KEPT_FOR_S - 1, false)] {
            std::fs::create_dir_all(kept_store(dir.path())).unwrap();
            let mark = FenceMark {
                height: Height(7),
                root: B256::ZERO,
                backers: Vec::new(),
                reason: FenceMark::reason_of("a row differs"),
                since,
                attempts: 1,
                first_attempt: since,
                is_set_aside: true,
            };
            mark.set(dir.path()).unwrap();
            FenceMark::remove(dir.path()).unwrap();
            assert_eq!(heed(dir.path()).unwrap(), None);
            assert_eq!(kept_store(dir.path()).exists(), is_kept, "{since}");
        }
    }

    #[test]
    fn a_node_that_gave_up_begins_again_when_a_day_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let given_up = |first_attempt| {
            let mark = FenceMark {
                height: Height(7),
                root: B256::ZERO,
                backers: Vec::new(),
                reason: FenceMark::reason_of("a row differs"),
                since: first_attempt,
                attempts: ATTEMPTS_MAX + 1,
                first_attempt,
                is_set_aside: false,
            };
            mark.set(dir.path()).unwrap();
            heed(dir.path())
        };
        let refusal = given_up(now_s()).unwrap_err();
        assert!(refusal.message.contains("4 times within a day"), "{refusal}");
        assert!(given_up(now_s() - DAY_S).unwrap().unwrap().is_set_aside);
    }
}
