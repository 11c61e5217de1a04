//! Evidence in blocks: what is committed, what is refused, and what is remembered of it.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_chain::{
    Chain, ChainError, EVIDENCE_AGE_HEIGHTS_MAX, EVIDENCE_AGE_MS_MAX, EvidenceRefusal, HeaderError, State,
    StoredRow, TIME_EVERY_HEIGHTS, Table, Tip,
};
use aequa_testkit::{at, double_vote};
use aequa_types::evidence::EvidenceList;
use aequa_types::limits::{EVIDENCE_PER_BLOCK_MAX, EVIDENCE_PER_OPERATOR_MAX};
use aequa_types::{CheckedBlock, CheckedEvidence, Digest, DutyKind, Height, InstanceId, OperatorIndex, Slot};
use common::*;

fn against(operator: u8, height: u64) -> CheckedEvidence {
    double_vote(operator, at(height), 0)
}

fn block(chain: &Chain, evidence: &[CheckedEvidence]) -> CheckedBlock {
    let timestamp_ms = chain.tip().timestamp_ms + 1000;
    chain.build_block(OperatorIndex(1), timestamp_ms, POLICY, Vec::new(), evidence).unwrap()
}

/// The verdict about the next block with this evidence; voting and executing must agree.
fn judged(chain: &Chain, evidence: &[CheckedEvidence]) -> Result<(), EvidenceRefusal> {
    let block = block(chain, evidence);
    let voted = chain.check_header(&block, OperatorIndex(1), POLICY, None);
    let executed = chain.clone().apply(&block).map(|_| ());
    match voted {
        Ok(()) => {
            assert_eq!(executed, Ok(()));
            Ok(())
        }
        Err(HeaderError::Evidence(refusal)) => {
            assert_eq!(executed, Err(ChainError::Header(HeaderError::Evidence(refusal))));
            Err(refusal)
        }
        Err(other) => panic!("{other}"),
    }
}

fn commit(chain: &mut Chain, evidence: &[CheckedEvidence]) -> aequa_chain::Applied {
    chain.apply(&block(chain, evidence)).unwrap()
}

#[test]
fn committed_evidence_is_remembered_by_offence_with_hash_and_height() {
    let mut chain = genesis();
    extend(&mut chain, 0, &[]);
    let (one, two) = (against(2, 1), double_vote(2, InstanceId::duty(DutyKind::Sync, Slot(0)), 3));
    let root = chain.tip().state_root;
    let applied = commit(&mut chain, &[one.clone(), two.clone()]);
    assert_ne!(applied.state_root, root);
    for evidence in [&one, &two] {
        let committed = chain.state().evidence(&evidence.offence()).unwrap();
        assert_eq!((committed.hash, committed.height), (evidence.hash(), Height(2)));
    }
    assert_eq!(chain.state().len(Table::Evidence), 2);
    assert_eq!(chain.state().evidence_against(OperatorIndex(2)).count(), 2);
    assert_eq!(chain.state().evidence_against(OperatorIndex(1)).count(), 0);
    let restored = Store::of(chain.state(), chain.tip().height.0).open(*chain.tip()).unwrap();
    assert_eq!(restored, chain);
}

#[test]
fn evidence_about_the_very_height_it_is_committed_at_is_taken() {
    assert_eq!(judged(&genesis(), &[against(2, 1)]), Ok(()));
    assert_eq!(judged(&genesis(), &[against(2, 50)]), Ok(()), "a statement about later is a statement");
}

#[test]
fn b3_evidence_already_committed_is_refused() {
    let mut chain = genesis();
    let evidence = against(2, 1);
    commit(&mut chain, std::slice::from_ref(&evidence));
    let known = EvidenceRefusal::AlreadyCommitted { operator: OperatorIndex(2), committed: Height(1) };
    assert_eq!(judged(&chain, std::slice::from_ref(&evidence)), Err(known));
    assert_eq!(chain.check_evidence(&evidence), Err(known));
    assert_eq!(judged(&chain, &[double_vote(2, at(1), 1)]), Ok(()), "another round is another place");
}

#[test]
fn b3_evidence_twice_in_one_block_is_refused() {
    let twice = [against(2, 1), against(2, 1)];
    assert_eq!(judged(&genesis(), &twice), Err(EvidenceRefusal::Twice(OperatorIndex(2))));
}

#[test]
fn evidence_out_of_order_is_refused() {
    for pair in [[against(3, 1), against(2, 1)], [against(2, 2), against(2, 1)]] {
        assert_eq!(judged(&genesis(), &pair), Err(EvidenceRefusal::Unsorted));
    }
    assert_eq!(judged(&genesis(), &[against(2, 1), against(2, 2), against(3, 1)]), Ok(()));
}

#[test]
fn evidence_the_header_does_not_commit_to_is_refused() {
    let chain = genesis();
    let honest = block(&chain, &[against(2, 1)]);
    let mut inner = honest.block().clone();
    inner.evidence = EvidenceList::empty();
    let without = CheckedBlock::attest(inner, Vec::new());
    assert_eq!(chain.check_header(&without, OperatorIndex(1), POLICY, None), Err(HeaderError::EvidenceRoot));
}

#[test]
fn more_evidence_than_fits_is_not_built() {
    let pieces: Vec<_> = (1..=EVIDENCE_PER_BLOCK_MAX as u64 + 1).map(|height| against(2, height)).collect();
    let chain = genesis();
    let built = chain.build_block(OperatorIndex(0), 1, POLICY, Vec::new(), &pieces);
    assert_eq!(built, Err(ChainError::TooMuchEvidence(EVIDENCE_PER_BLOCK_MAX + 1)));
    assert_eq!(judged(&chain, &pieces[..EVIDENCE_PER_BLOCK_MAX]), Ok(()));
}

#[test]
fn no_more_is_remembered_of_one_operator_than_says_something_new() {
    let mut chain = genesis();
    let mut left = EVIDENCE_PER_OPERATOR_MAX - 2;
    let mut height = 1;
    while left > 0 {
        let count = left.min(EVIDENCE_PER_BLOCK_MAX);
        let pieces: Vec<_> = (height..height + count as u64).map(|height| against(2, height)).collect();
        commit(&mut chain, &pieces);
        (left, height) = (left - count, height + count as u64);
    }
    let more: Vec<_> = (height..height + 3).map(|height| against(2, height)).collect();
    let enough = EvidenceRefusal::Enough(OperatorIndex(2));
    assert_eq!(judged(&chain, &more), Err(enough), "three would be one too many");
    commit(&mut chain, &more[..2]);
    assert_eq!(judged(&chain, &more[2..]), Err(enough));
    assert_eq!(chain.check_evidence(&more[2]), Err(enough));
    assert_eq!(judged(&chain, &[against(3, 1)]), Ok(()), "of another operator there is room");
}

/// A chain whose tip is at `height`, with a block every `block_ms`, and the samples it would have.
fn long_chain(height: u64, block_ms: u64) -> Chain {
    let mut rows: Vec<StoredRow> = Vec::new();
    let operator =
        [0u128.to_be_bytes().to_vec(), 0u128.to_be_bytes().to_vec(), height.to_be_bytes().to_vec()];
    rows.push((vec![2, 1], operator.concat()));
    for sample in (TIME_EVERY_HEIGHTS..=height).step_by(TIME_EVERY_HEIGHTS as usize) {
        let (heights, ms) = (height - sample, (height - sample) * block_ms);
        if heights <= EVIDENCE_AGE_HEIGHTS_MAX || ms <= EVIDENCE_AGE_MS_MAX {
            let key = [vec![5], sample.to_be_bytes().to_vec()].concat();
            rows.push((key, (sample * block_ms).to_be_bytes().to_vec()));
        }
    }
    let state = State::from_rows(rows).unwrap();
    let state_root = state.root(&cluster(), Height(height));
    let tip = Tip {
        height: Height(height),
        digest: Digest::repeat_byte(9),
        timestamp_ms: height * block_ms,
        state_root,
        history_root: Digest::ZERO,
    };
    Store::of(&state, height).open(tip).unwrap()
}

/// Two seconds a block: 100,000 heights are more than 48 hours.
const SLOW_MS: u64 = 2_000;
/// A second a block: 48 hours are 172,800 heights.
const FAST_MS: u64 = 1_000;

#[test]
fn b3_evidence_expired_by_both_limits_is_refused() {
    let chain = long_chain(120_000, SLOW_MS);
    let expired = Err(EvidenceRefusal::Expired(Height(19_000)));
    assert_eq!(judged(&chain, &[against(2, 19_000)]), expired, "101,000 heights and 56 hours");
    assert_eq!(chain.check_evidence(&against(2, 1)), Err(EvidenceRefusal::Expired(Height(1))));
    assert_eq!(
        judged(&chain, &[against(2, 19_001)]),
        Ok(()),
        "as old as the sample above it: 100,000 heights"
    );
    assert_eq!(judged(&chain, &[against(2, 120_000)]), Ok(()));
}

#[test]
fn b3_evidence_expired_by_one_limit_only_is_taken() {
    let heights_only = long_chain(160_000, FAST_MS);
    assert_eq!(judged(&heights_only, &[against(2, 1_000)]), Ok(()), "159,000 heights, 44 hours");
    let time_only = long_chain(90_000, SLOW_MS);
    assert_eq!(judged(&time_only, &[against(2, 1_000)]), Ok(()), "89,000 heights, 49 hours");
}

#[test]
fn evidence_about_duties_does_not_age() {
    let chain = long_chain(120_000, SLOW_MS);
    let duty = InstanceId::duty(DutyKind::Attester, Slot(1));
    assert_eq!(judged(&chain, &[double_vote(2, duty, 0)]), Ok(()));
}

#[test]
fn every_thousandth_block_leaves_its_time_until_it_is_too_old() {
    // The tip's child, at a multiple of the interval, is sampled; the oldest sample exceeds both limits now.
    let mut chain = long_chain(119_999, SLOW_MS);
    let oldest = Height(19_000);
    assert!(chain.state().time(oldest).is_none() && chain.state().time(Height(20_000)).is_some());
    let samples = chain.state().len(Table::Times);
    let before = chain.clone();
    let applied = commit(&mut chain, &[]);
    assert_eq!(chain.state().time(Height(120_000)), Some(chain.tip().timestamp_ms));
    assert!(rows(&applied).iter().all(|(_, after)| after.is_some()));
    assert_eq!(chain.state().len(Table::Times), samples + 1);

    let applied = commit(&mut chain, &[]);
    let removed: Vec<_> = rows(&applied).into_iter().filter(|(_, after)| after.is_none()).collect();
    assert_eq!(removed, [([vec![5], 20_000u64.to_be_bytes().to_vec()].concat(), None)]);
    assert_eq!(chain.state().time(Height(20_000)), None);
    chain.state().check().unwrap();
    let mut store = Store::of(before.state(), 119_999);
    let mut again = before;
    for _ in 0..2 {
        let applied = commit(&mut again, &[]);
        store.write(&again, &applied);
    }
    assert_eq!(store.rows(), chain.state().rows().collect::<Vec<_>>(), "what is stored is what is left");
    assert_eq!(store.open(*chain.tip()), Ok(chain));
}

#[test]
fn evidence_against_a_stranger_is_not_restored() {
    let mut seven = Chain::genesis(cluster(), aequa_types::Quorum::of(7).unwrap());
    commit(&mut seven, &[against(6, 1)]);
    let restored = Store::of(seven.state(), 1).open(*seven.tip());
    assert_eq!(restored, Err(HeaderError::NotAMember(OperatorIndex(6)).into()));
}
