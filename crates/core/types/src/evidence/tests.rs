use super::*;
use crate::json::EvidenceJson;
use crate::statement::{Claim, CommitClaim, RoundChangeClaim};
use crate::{Digest, DutyKind, Height, InstanceId, Prepared, Seal, Signature, Slot, Statement};
use proptest::prelude::*;

fn signed(claim: Claim) -> Signed {
    let statement = Statement {
        instance: InstanceId::Block(Height(9)),
        round: Round(2),
        author: OperatorIndex(1),
        claim,
    };
    Signed { statement, signature: Signature::repeat_byte(7) }
}

fn digest(byte: u8) -> Digest {
    Digest::repeat_byte(byte)
}

fn prepare(byte: u8) -> Signed {
    signed(Claim::Prepare(digest(byte)))
}

fn commit(byte: u8, seal: u8) -> Signed {
    signed(Claim::Commit(CommitClaim { digest: digest(byte), seal: Some(Seal::repeat_byte(seal)) }))
}

fn change(prepared: Option<(u64, u8)>) -> Signed {
    let prepared = prepared.map(|(round, byte)| Prepared { round: Round(round), digest: digest(byte) });
    signed(Claim::RoundChange(RoundChangeClaim { prepared }))
}

fn altered(alter: impl FnOnce(&mut Statement)) -> Signed {
    let mut other = prepare(2);
    alter(&mut other.statement);
    other
}

/// A contradiction of every kind.
fn contradictions() -> Vec<(Signed, Signed)> {
    vec![
        (signed(Claim::PrePrepare(digest(1))), signed(Claim::PrePrepare(digest(2)))),
        (prepare(1), prepare(2)),
        (commit(1, 1), commit(2, 1)),
        (change(None), change(Some((0, 1)))),
        (change(Some((0, 1))), change(Some((1, 1)))),
        (change(Some((1, 1))), change(Some((1, 2)))),
    ]
}

#[test]
fn b2_two_digests_in_one_place_make_one_canonical_evidence_whichever_came_first() {
    for (one, other) in contradictions() {
        let evidence = Evidence::new(one.clone(), other.clone()).unwrap();
        let turned = Evidence::new(other, one).unwrap();
        assert_eq!(evidence, turned);
        assert_eq!(evidence.hash(), turned.hash());
        assert_eq!(evidence.as_ssz_bytes(), turned.as_ssz_bytes());
        assert!(evidence.first().vote_root() < evidence.second().vote_root());
        let offence = Offence { operator: OperatorIndex(1), key: evidence.second().vote_key() };
        assert_eq!(evidence.offence(), offence);
    }
}

#[test]
fn b1_a_prepare_and_a_commit_of_one_digest_are_no_evidence() {
    assert_eq!(Evidence::new(prepare(1), commit(1, 1)), Err(EvidenceError::Kinds));
}

#[test]
fn b1_commits_of_one_digest_that_differ_in_their_seal_share_are_no_evidence() {
    assert_eq!(Evidence::new(commit(1, 1), commit(1, 2)), Err(EvidenceError::SameDigest));
}

#[test]
fn b3_equal_digests_are_refused() {
    assert_eq!(Evidence::new(prepare(1), prepare(1)), Err(EvidenceError::SameDigest));
    let again = Signed { signature: Signature::repeat_byte(8), ..prepare(1) };
    assert_eq!(Evidence::new(prepare(1), again), Err(EvidenceError::SameDigest), "another signature of it");
    assert_eq!(Evidence::new(change(None), change(None)), Err(EvidenceError::SameDigest));
}

#[test]
fn b3_statements_of_two_operators_are_refused() {
    let other = altered(|statement| statement.author = OperatorIndex(3));
    let error = EvidenceError::Authors(OperatorIndex(1), OperatorIndex(3));
    assert_eq!(Evidence::new(prepare(1), other), Err(error));
}

#[test]
fn b3_a_wrong_domain_is_refused() {
    let other = altered(|statement| statement.instance = InstanceId::duty(DutyKind::Attester, Slot(9)));
    assert_eq!(Evidence::new(prepare(1), other), Err(EvidenceError::Domains));
}

#[test]
fn b3_different_heights_are_refused() {
    let other = altered(|statement| statement.instance = InstanceId::Block(Height(8)));
    assert_eq!(Evidence::new(prepare(1), other), Err(EvidenceError::Heights));
}

#[test]
fn b3_mixed_rounds_are_refused() {
    let other = altered(|statement| statement.round = Round(3));
    assert_eq!(Evidence::new(prepare(1), other), Err(EvidenceError::Rounds(Round(2), Round(3))));
}

#[test]
fn b3_mixed_types_are_refused() {
    assert_eq!(Evidence::new(prepare(1), commit(2, 1)), Err(EvidenceError::Kinds));
    let proposal = signed(Claim::PrePrepare(digest(2)));
    assert_eq!(Evidence::new(prepare(1), proposal), Err(EvidenceError::Kinds));
}

#[test]
fn evidence_decodes_from_its_one_encoding_only() {
    for (one, other) in contradictions() {
        let evidence = Evidence::new(one, other).unwrap();
        let bytes = evidence.as_ssz_bytes();
        assert_eq!(crate::decode::<Evidence>("evidence", &bytes, EVIDENCE_BYTES_MAX), Ok(evidence.clone()));
        let turned = (evidence.second().clone(), evidence.first().clone()).as_ssz_bytes();
        assert!(crate::decode::<Evidence>("evidence", &turned, EVIDENCE_BYTES_MAX).is_err(), "out of order");
        let twice = (evidence.first().clone(), evidence.first().clone()).as_ssz_bytes();
        assert!(
            crate::decode::<Evidence>("evidence", &twice, EVIDENCE_BYTES_MAX).is_err(),
            "no contradiction"
        );
        assert!(
            Evidence::from_ssz_bytes(&[&bytes[..], &[0; EVIDENCE_BYTES_MAX]].concat()).is_err(),
            "too large"
        );
    }
}

#[test]
fn the_largest_evidence_is_below_its_limit_and_hashes_as_itself() {
    let evidence = Evidence::new(commit(1, 1), commit(2, 1)).unwrap();
    let other = Evidence::new(commit(1, 1), commit(2, 2)).unwrap();
    assert!(evidence.ssz_bytes_len() <= EVIDENCE_BYTES_MAX / 2);
    assert_ne!(evidence.tree_hash_root(), other.tree_hash_root());
    assert_ne!(evidence.hash(), evidence.tree_hash_root(), "the hash is of its own domain");
}

#[test]
fn a_block_takes_as_much_evidence_as_the_limit_says() {
    let evidence = |round: u64| {
        let of_round = |byte| {
            altered(|statement| {
                statement.round = Round(round);
                statement.claim = Claim::Prepare(digest(byte));
            })
        };
        Evidence::new(of_round(1), of_round(2)).unwrap()
    };
    let full: Vec<Evidence> = (0..EVIDENCE_PER_BLOCK_MAX as u64).map(evidence).collect();
    let list = EvidenceList::try_from(full.clone()).unwrap();
    assert_eq!(EvidenceList::from_ssz_bytes(&list.as_ssz_bytes()), Ok(list));
    let one_more = [full, vec![evidence(99)]].concat();
    assert!(EvidenceList::try_from(one_more.clone()).is_err());
    assert!(EvidenceList::from_ssz_bytes(&one_more.as_ssz_bytes()).is_err());
}

/// Changing one of these changes every block with evidence: a deliberate act.
#[test]
fn hashes_are_the_frozen_ones() {
    let hashes: Vec<String> = contradictions()
        .into_iter()
        .map(|(one, other)| hex::encode(&Evidence::new(one, other).unwrap().hash()[..8]))
        .collect();
    assert_eq!(
        hashes,
        [
            "6310ba22ec739a5d",
            "bcba133edafa25df",
            "2cc59316fb08be9b",
            "f7054be71fc68868",
            "4849f8fd2fa164c9",
            "fde4de5b796fa27a"
        ]
    );
    assert_eq!(hex::encode(&crate::block::empty_evidence_root()[..8]), "792930bbd5baac43");
}

#[test]
fn the_json_form_reads_back_and_nothing_else_does() {
    for (one, other) in contradictions() {
        let evidence = Evidence::new(one, other).unwrap();
        let json = EvidenceJson::from(&evidence);
        let read: EvidenceJson = serde_json::from_str(&serde_json::to_string(&json).unwrap()).unwrap();
        assert_eq!(Evidence::try_from(read).unwrap(), evidence);
        let refused = |alter: fn(&mut EvidenceJson)| {
            let mut other = json.clone();
            alter(&mut other);
            Evidence::try_from(other).unwrap_err().field().unwrap()
        };
        assert_eq!(refused(|json| json.hash = B256::ZERO), "hash");
        assert_eq!(refused(|json| std::mem::swap(&mut json.first, &mut json.second)), "first");
        assert_eq!(refused(|json| json.second = json.first.clone()), "second");
        assert_eq!(refused(|json| json.kind = "vote".into()), "kind");
        let both = |json: &mut EvidenceJson| {
            (json.first.prepared_round, json.first.seal) = (Some(Round(1)), Some(Seal::ZERO))
        };
        assert_eq!(refused(both), "kind");
        assert_eq!(refused(|json| json.first.signature = Signature::ZERO), "hash");
    }
}

proptest! {
    #[test]
    fn bytes_that_are_no_evidence_are_refused_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Evidence::from_ssz_bytes(&bytes).is_err());
    }

    #[test]
    fn a_flipped_byte_gives_other_evidence_or_none(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let evidence = Evidence::new(commit(1, 1), commit(2, 3)).unwrap();
        let mut bytes = evidence.as_ssz_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = crate::decode::<Evidence>("evidence", &bytes, EVIDENCE_BYTES_MAX) {
            prop_assert_ne!(other.hash(), evidence.hash());
        }
    }
}
