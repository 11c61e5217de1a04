//! What members have seen of an operator: asked by one that may have lost its memory of what it
//! signed, answered from the block store and the instances of the core.

use super::command::Core;
use super::context::Context;
use super::ledger::Store;
use super::sync::{self, FetchError};
use aequa_p2p::Network;
use aequa_storage::StorageError;
use aequa_storage::chain_store::ChainStore;
use aequa_types::limits::TESTIMONY_FRAME_BYTES_MAX;
use aequa_types::sync::{CheckedTestimony, SyncReply, SyncRequest, Testimony, TestimonyRequest};
use aequa_types::{Certificate, DutyKind, DutyOutcome, OperatorIndex};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Results of a kind of duty read at a time when one is sought that was decided: each may be a megabyte.
const DUTIES_AT_A_TIME: usize = 4;
/// Newest results of a kind of duty looked at: bounds the work of an answer.
const DUTIES_LOOKED_AT: usize = 256;

/// Answers what this node has seen of `about`, and how long a thread was busy with it; nothing while it knows
/// less than it once did, or is stopping.
pub async fn give(context: &Arc<Context>, about: OperatorIndex) -> Option<(Testimony, Duration)> {
    let seen = move |replica: &Core| {
        replica.may_testify().then(|| (replica.newest_statements_of(about), replica.bound()))
    };
    let (statements, bound) = context.ask(seen).await??;
    // After the statements: whoever voted in a height has stored the one before.
    let store = Arc::clone(&context.store);
    let (certificates, busy) = sync::blocking(move || certificates(&store)).await?;
    // Who asks may not know the operators of an earlier epoch.
    let certificates = certificates.ok()?.into_iter().filter(|one| context.verifier.certificate(one).is_ok());
    Some((Testimony { certificates: certificates.collect(), statements, bound }, busy))
}

/// The certificate of the highest decided instance of each domain.
fn certificates(store: &Store) -> Result<Vec<Certificate>, StorageError> {
    let tip = store.latest()?.map(|tip| store.block(tip.height)).transpose()?.flatten();
    let mut certificates: Vec<Certificate> = tip.map(|block| block.certificate).into_iter().collect();
    certificates.extend(newest_duties(&**store)?);
    Ok(certificates)
}

/// The certificate of the highest decided duty of each kind.
pub(super) fn newest_duties(store: &impl ChainStore) -> Result<Vec<Certificate>, StorageError> {
    DutyKind::ALL.into_iter().filter_map(|kind| newest_decided(store, kind).transpose()).collect()
}

fn newest_decided(store: &impl ChainStore, kind: DutyKind) -> Result<Option<Certificate>, StorageError> {
    let mut before = None;
    for _ in 0..DUTIES_LOOKED_AT / DUTIES_AT_A_TIME {
        let rows = store.duties(Some(kind), before, DUTIES_AT_A_TIME)?;
        let mut outcomes = rows.iter().filter_map(|(_, stored)| DutyOutcome::from_bytes(stored).ok());
        if let Some(decided) = outcomes.find_map(|outcome| outcome.decided) {
            return Ok(Some(decided.certificate));
        }
        let Some((oldest, _)) = rows.last() else { break };
        before = Some(oldest.slot);
    }
    Ok(None)
}

/// Asks `operator` what it has seen of this one, and checks that all of it holds.
pub async fn ask(
    network: &Weak<Network>,
    context: &Arc<Context>,
    operator: OperatorIndex,
) -> Result<CheckedTestimony, FetchError> {
    let network = network.upgrade().ok_or_else(|| FetchError::NoAnswer("network is down".into()))?;
    let request = SyncRequest::Testimony(TestimonyRequest { about: context.me });
    let question = sync::question(&request);
    let answer =
        network.request(operator, &question).await.map_err(|e| FetchError::NoAnswer(e.to_string()))?;
    let reply = aequa_types::decode("testimony", &answer.body, TESTIMONY_FRAME_BYTES_MAX)
        .map_err(|error| FetchError::Malformed(error.to_string()))?;
    let SyncReply::Testimony(testimony) = reply else {
        return Err(FetchError::Malformed("not a testimony".into()));
    };
    tokio::task::block_in_place(|| context.verifier.testimony(context.me, testimony))
        .map_err(|refusal| FetchError::Malformed(refusal.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_storage::chain_store::{ChainOptions, FjallChainStore};
    use aequa_testkit::{commit, duty_value};
    use aequa_types::outcome::DutyDecision;
    use aequa_types::{ClusterId, DutyId, Slot};

    #[test]
    fn the_newest_decided_duty_is_found_behind_many_that_expired() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = ClusterId::repeat_byte(1);
        let store = FjallChainStore::open(dir.path(), cluster, ChainOptions::default()).unwrap();
        assert_eq!(newest_decided(&store, DutyKind::Sync).unwrap(), None);
        let of = |slot| DutyId { kind: DutyKind::Sync, slot: Slot(slot) };
        for slot in 1..=2 {
            let value = duty_value(of(slot), "{}");
            let certificate = commit(of(slot), 0, value.digest()).certificate(0..3);
            let decided = Some(DutyDecision { certificate, value: value.bytes().clone() });
            let outcome = DutyOutcome { decided, ..DutyOutcome::default() };
            store.put_duty(of(slot), &outcome.to_bytes()).unwrap();
        }
        for slot in 3..3 + 10 * DUTIES_AT_A_TIME as u64 {
            store.put_duty(of(slot), &DutyOutcome::default().to_bytes()).unwrap();
            let attester = DutyId { kind: DutyKind::Attester, ..of(slot) };
            store.put_duty(attester, &DutyOutcome::default().to_bytes()).unwrap();
        }
        let found = newest_decided(&store, DutyKind::Sync).unwrap();
        assert_eq!(found.map(|certificate| certificate.instance), Some(of(2).into()));
        assert_eq!(newest_decided(&store, DutyKind::Attester).unwrap(), None);
    }
}
