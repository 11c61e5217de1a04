//! Execution and the rules for the next block.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_chain::{Chain, ChainError, FRESH_WITHIN_MS, Freshness, HeaderError, OperatorLedger, Table};
use aequa_types::block::LeaderProof;
use aequa_types::{Amount, CheckedBlock, ClusterId, Header, Height, OperatorIndex, TxKind};
use common::*;

#[test]
fn fees_and_bids_go_to_the_proposer_and_bids_to_their_recipient() {
    let mut chain = genesis();
    let items = [bid(1, 0, 70, 0xfe), bid(2, 0, 30, 0xfe), plaintext(1, 0, 5), plaintext(1, 1, 0)];
    extend(&mut chain, 2, &items);
    extend(&mut chain, 2, &[plaintext(1, 2, 1)]);
    extend(&mut chain, 3, &[bid(1, 1, 9, 0xfd)]);
    let state = chain.state();
    assert_eq!(state.operator(OperatorIndex(2)), OperatorLedger { fees: 6, bids: 100, blocks: 2 });
    assert_eq!(state.operator(OperatorIndex(3)), OperatorLedger { fees: 0, bids: 9, blocks: 1 });
    assert_eq!(state.operator(OperatorIndex(0)), OperatorLedger::default());
    assert_eq!((state.credit(&address(0xfe)), state.credit(&address(0xfd))), (100, 9));
    assert_eq!(chain.nonce(&address(1), TxKind::PlaintextV1), 3);
    assert_eq!(chain.nonce(&address(1), TxKind::AuctionBidV1), 2);
    assert_eq!(chain.nonce(&address(9), TxKind::AuctionBidV1), 0);
    assert_eq!(Table::ALL.map(|table| state.len(table)), [3, 2, 2, 0, 0, 0, 0]);
    assert_eq!(chain.tip().height, Height(3));
}

#[test]
fn ledgers_go_past_64_bits() {
    let mut chain = genesis();
    for nonce in 0..3 {
        extend(&mut chain, 0, &[bid(2, nonce, u64::MAX, 0xfe), plaintext(1, nonce, u64::MAX)]);
    }
    let sum = 3 * u128::from(u64::MAX);
    assert_eq!(chain.state().operator(OperatorIndex(0)), OperatorLedger { fees: sum, bids: sum, blocks: 3 });
    assert_eq!(chain.state().credit(&address(0xfe)), sum);
}

#[test]
fn only_changed_rows_are_written_and_each_once() {
    let mut chain = genesis();
    extend(&mut chain, 0, &[plaintext(1, 0, 5), plaintext(2, 0, 5)]);
    let applied = extend(&mut chain, 1, &[bid(3, 0, 4, 0xfe), plaintext(1, 1, 5), plaintext(1, 2, 5)]);
    let tables: Vec<u8> = rows(&applied).iter().map(|(key, _)| key[0]).collect();
    assert_eq!(tables, [1, 1, 2, 3]);
    assert!(rows(&applied).is_sorted());
    let keys: std::collections::BTreeSet<_> = applied.changes.iter().map(|change| &change.key).collect();
    assert_eq!(keys.len(), applied.changes.len(), "pages and counts too");
    assert!(applied.changes.iter().all(|change| change.before != change.after));
}

#[test]
fn a_block_is_applied_once_and_only_on_its_parent() {
    let mut chain = genesis();
    let (first, rival) = (next(&chain, 0, &[plaintext(1, 0, 5)]), next(&chain, 1, &[]));
    chain.apply(&first).unwrap();
    let after = chain.clone();
    let height = HeaderError::Height { found: Height(1), expected: Height(2) };
    assert_eq!(chain.apply(&first), Err(height.clone().into()));
    assert_eq!(chain.apply(&rival), Err(height.into()));

    let mut other = genesis();
    other.apply(&rival).unwrap();
    let child_of_rival = next(&other, 2, &[]);
    assert!(matches!(chain.apply(&child_of_rival), Err(ChainError::Header(HeaderError::Parent { .. }))));
    assert_eq!(chain, after, "a refused block changed something");
}

#[test]
fn a_nonce_out_of_sequence_is_refused_and_changes_nothing() {
    let mut chain = genesis();
    let before = chain.clone();
    for items in [vec![plaintext(1, 1, 5)], vec![plaintext(1, 0, 5), plaintext(2, 0, 5), plaintext(1, 0, 6)]]
    {
        let block = next(&chain, 0, &items);
        assert!(matches!(chain.apply(&block), Err(ChainError::Nonce { .. })));
        assert_eq!(chain, before);
    }
}

#[test]
fn a_header_holds_the_sum_of_any_number_of_the_largest_fees_and_bids() {
    let mut chain = genesis();
    let items = [1, 2, 3].map(|sender| plaintext(sender, 0, u64::MAX));
    let bids = [1, 2, 3].map(|sender| bid(sender, 0, u64::MAX, 0xfe));
    let block = next(&chain, 1, &[&bids[..], &items].concat());
    let sum = 3 * u128::from(u64::MAX);
    let Header { total_fees, total_bids, .. } = block.header();
    assert_eq!((total_fees.to::<u128>(), total_bids.to::<u128>()), (sum, sum));
    assert_eq!(checked(&chain, &block, None), Ok(()));
    chain.apply(&block).unwrap();
}

#[test]
fn the_first_block_is_the_child_of_the_cluster_id() {
    let block = next(&genesis(), 0, &[]);
    assert_eq!(block.header().parent_root, cluster());
    assert_eq!(block.header().height, Height(1));
}

fn checked(chain: &Chain, block: &CheckedBlock, fresh: Option<Freshness>) -> Result<(), HeaderError> {
    chain.check_header(block, OperatorIndex(1), POLICY, fresh)
}

/// The next block with its header altered.
fn altered(chain: &Chain, alter: impl FnOnce(&mut Header)) -> CheckedBlock {
    let block = next(chain, 1, &[bid(1, 0, 7, 9), plaintext(1, 0, 5)]);
    let mut inner = block.block().clone();
    alter(&mut inner.header);
    CheckedBlock::attest(inner, block.items().to_vec())
}

#[test]
fn every_field_of_the_header_is_checked() {
    let mut chain = genesis();
    extend(&mut chain, 0, &[]);
    let parent_ms = chain.tip().timestamp_ms;
    let other = ClusterId::repeat_byte(0xdd);
    let result = |alter: fn(&mut Header)| checked(&chain, &altered(&chain, alter), None);
    assert_eq!(result(|_| ()), Ok(()));
    assert_eq!(result(|h| h.cluster_id = ClusterId::repeat_byte(0xdd)), Err(HeaderError::Cluster(other)));
    assert!(matches!(result(|h| h.height = Height(1)), Err(HeaderError::Height { .. })));
    assert!(matches!(result(|h| h.height = Height(3)), Err(HeaderError::Height { .. })));
    assert!(matches!(result(|h| h.parent_root.0[0] ^= 1), Err(HeaderError::Parent { .. })));
    assert!(matches!(result(|h| h.state_root.0[0] ^= 1), Err(HeaderError::StateRoot { .. })));
    assert!(matches!(result(|h| h.proposer = OperatorIndex(2)), Err(HeaderError::Proposer { .. })));
    assert!(matches!(result(|h| h.proposer = OperatorIndex(4)), Err(HeaderError::NotAMember(_))));
    assert!(matches!(result(|h| h.policy_hash.0[0] ^= 1), Err(HeaderError::Policy { .. })));
    assert_eq!(result(|h| h.payload_root.0[0] ^= 1), Err(HeaderError::PayloadRoot));
    assert_eq!(result(|h| h.evidence_root.0[0] ^= 1), Err(HeaderError::EvidenceRoot));
    let proof = |h: &mut Header| h.leader_proof = LeaderProof::try_from(vec![0]).unwrap();
    assert_eq!(result(proof), Err(HeaderError::LeaderProof));
    assert_eq!(result(|h| h.total_fees += Amount::ONE), Err(HeaderError::Totals));
    assert_eq!(result(|h| h.total_bids -= Amount::ONE), Err(HeaderError::Totals));
    assert_eq!(result(|h| h.items -= 1), Err(HeaderError::Totals));
    let stale = altered(&chain, |h| h.timestamp_ms = parent_ms);
    assert!(matches!(checked(&chain, &stale, None), Err(HeaderError::NotAfterParent { .. })));
    let least = altered(&chain, |h| h.timestamp_ms = parent_ms + 1);
    assert_eq!(checked(&chain, &least, None), Ok(()));
}

#[test]
fn items_other_than_the_ones_committed_to_are_refused() {
    let chain = genesis();
    let block = next(&chain, 1, &[plaintext(1, 0, 5)]);
    let other = next(&chain, 1, &[plaintext(2, 0, 5)]);
    let swapped = CheckedBlock::attest(block.block().clone(), other.items().to_vec());
    assert_eq!(checked(&chain, &swapped, None), Err(HeaderError::PayloadRoot));
}

#[test]
fn a_fresh_proposal_is_within_the_time_given_and_a_repeated_one_is_not_timed() {
    let chain = genesis();
    let stamp = 1_000_000;
    let block = chain.build_block(OperatorIndex(1), stamp, POLICY, Vec::new(), &[]).unwrap();
    for behind_ms in [0, FRESH_WITHIN_MS, 4 * FRESH_WITHIN_MS] {
        let at = |now_ms| checked(&chain, &block, Some(Freshness { now_ms, behind_ms }));
        for now in [stamp - FRESH_WITHIN_MS, stamp, stamp + behind_ms] {
            assert_eq!(at(now), Ok(()));
        }
        for now in [stamp - FRESH_WITHIN_MS - 1, stamp + behind_ms + 1, 0, u64::MAX] {
            let refused = at(now).unwrap_err();
            assert!(matches!(refused, HeaderError::NotFresh { found, .. } if found == stamp), "{refused}");
        }
    }
    assert_eq!(checked(&chain, &block, None), Ok(()));
}

#[test]
fn the_millisecond_after_the_parent_is_in_time_whatever_the_clock_says() {
    let mut chain = genesis().begun_at(1_000_000);
    extend(&mut chain, 0, &[]);
    let parent_ms = chain.tip().timestamp_ms;
    assert!(parent_ms > 1_000_000);
    let at = |timestamp_ms, now_ms| {
        let block = altered(&chain, |header| header.timestamp_ms = timestamp_ms);
        checked(&chain, &block, Some(Freshness { now_ms, behind_ms: FRESH_WITHIN_MS }))
    };
    for now_ms in [0, parent_ms - 60_000, parent_ms, parent_ms + 60_000, u64::MAX] {
        assert_eq!(at(parent_ms + 1, now_ms), Ok(()), "{now_ms}");
    }
    assert!(matches!(at(parent_ms + 2, parent_ms - 60_000), Err(HeaderError::NotFresh { .. })));
    assert!(matches!(at(parent_ms, parent_ms), Err(HeaderError::NotAfterParent { .. })));
}

#[test]
fn the_next_timestamp_is_now_unless_the_parent_is_ahead() {
    let mut chain = genesis();
    assert_eq!(chain.next_timestamp_ms(0), 1);
    extend(&mut chain, 0, &[]);
    assert_eq!(chain.next_timestamp_ms(999), 1001);
    assert_eq!(chain.next_timestamp_ms(5000), 5000);
}

#[test]
fn an_operator_outside_the_cluster_has_no_ledger() {
    let mut chain = genesis();
    let block = next(&chain, 4, &[]);
    assert_eq!(chain.apply(&block), Err(HeaderError::NotAMember(OperatorIndex(4)).into()));
    let wide = Chain::genesis(cluster(), aequa_types::Quorum::of(7).unwrap());
    let mut seven = wide;
    extend(&mut seven, 6, &[]);
    let restored = Store::of(seven.state(), seven.tip().height.0).open(*seven.tip());
    assert_eq!(restored, Err(HeaderError::NotAMember(OperatorIndex(6)).into()));
}
