//! Whether a lock may follow another: the same keys, the same rules, other operators.
//!
//! Two epochs must never decide the same height. A new lock holds only with signatures of a quorum of the operators
//! *before* (those that stay in their new places, those that leave beside them), and whoever signs it has bound itself,
//! durably, to sign nothing under the old lock from the activation height on. So the old operators have no quorum left
//! there.
//!
//! An operator that is new, or whose place is another, knows nothing of what was signed in that place. No more than f
//! of them may come at once: the others have a quorum that does.

use super::{LockError, VerifiedLock, item};
use aequa_types::Quorum;
use aequa_types::lock::{ClusterLock, Key32, Operator};

/// Checks that `next` follows `parent` and that enough operators of `parent` have agreed.
pub fn check_succession(parent: &VerifiedLock, next: &VerifiedLock) -> Result<(), LockError> {
    let (before, after) = (parent.lock(), next.lock());
    check_following(before, after)?;
    if after.sequencer.group_key != before.sequencer.group_key {
        return Err(item("sequencer.group_key", "not that of the lock before"));
    }
    for (position, (old, new)) in before.validators.iter().zip(&after.validators).enumerate() {
        let at = |field: &str| format!("validators[{position}].{field}");
        let kept = [
            (old.pubkey == new.pubkey, "pubkey"),
            (old.deposits == new.deposits, "deposits"),
            (old.builder_registration == new.builder_registration, "builder_registration"),
        ];
        if let Some((_, field)) = kept.iter().find(|(same, _)| !same) {
            return Err(item(at(field), "not that of the lock before"));
        }
    }
    let was_operator = |key: &Key32| before.operators.iter().any(|operator| operator.identity_key == *key);
    let stranger = after.leaver_signatures.iter().position(|leaver| !was_operator(&leaver.identity_key));
    if let Some(position) = stranger {
        let at = format!("leaver_signatures[{position}].identity_key");
        return Err(item(at, "not that of an operator of the lock before"));
    }
    let stayed = next.signed().filter_map(|operator| after.operators.get(operator.as_usize()));
    let stayed = stayed.filter(|operator| was_operator(&operator.identity_key)).count();
    // None of these has a place in the lock: nobody is counted twice.
    let (agreed, needed) = (stayed + after.leaver_signatures.len(), parent.quorum().quorum());
    if agreed < needed {
        let reason = format!("{agreed} of operators of the lock before, must be {needed} at least");
        return Err(item("node_signatures", reason));
    }
    Ok(())
}

/// Checks what is known before there are keys: a definition that fails here would fail at the end of its ceremony.
pub fn check_following(before: &ClusterLock, after: &ClusterLock) -> Result<(), LockError> {
    let same = [
        (after.parent_lock_hash == before.lock_hash, "parent_lock_hash", "not the hash of the lock before"),
        (after.cluster_id == before.cluster_id, "cluster_id", "not that of the lock before"),
        (
            before.epoch.checked_add(1) == Some(after.epoch),
            "epoch",
            "not the one after that of the lock before",
        ),
        (after.name == before.name, "name", "not that of the lock before"),
        (after.created_at == before.created_at, "created_at", "not that of the lock before"),
        (after.chain_id == before.chain_id, "chain_id", "not that of the lock before"),
        (after.fork_version == before.fork_version, "fork_version", "not that of the lock before"),
        (after.consensus == before.consensus, "consensus", "not that of the lock before"),
        (after.builders == before.builders, "builders", "not those of the lock before"),
        (
            after.first_height() > before.first_height(),
            "activation_height",
            "not above the first height of the lock before",
        ),
    ];
    if let Some((_, name, reason)) = same.iter().find(|(holds, ..)| !holds) {
        return Err(item(*name, reason));
    }
    let policies = |lock: &ClusterLock| lock.validators.iter().map(|one| one.policy()).collect::<Vec<_>>();
    if policies(after) != policies(before) {
        return Err(item("validators", "not those of the lock before"));
    }
    check_newcomers(before, after)
}

fn check_newcomers(before: &ClusterLock, after: &ClusterLock) -> Result<(), LockError> {
    let is_new = |(place, operator): &(usize, &Operator)| {
        before.operators.get(*place).is_none_or(|old| old.identity_key != operator.identity_key)
    };
    let newcomers = after.operators.iter().enumerate().filter(is_new).count();
    let faulty_max = Quorum::of(after.operators.len()).map_or(0, Quorum::faulty_max);
    if newcomers > faulty_max {
        return Err(item(
            "operators",
            format!(
                "{newcomers} are new or in another place, must be {faulty_max} at most: they know nothing of what \
                 was signed; take more than one resharing"
            ),
        ));
    }
    Ok(())
}
