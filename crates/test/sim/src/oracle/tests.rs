use super::*;
use aequa_testkit::{at, duty_value};
use aequa_types::{DutyId, DutyKind, Height, Slot};

const ME: OperatorIndex = OperatorIndex(1);

fn oracle() -> Oracle {
    Oracle::new(ClusterId::ZERO, 4, BTreeSet::from([ME]))
}

fn prepare(digest: u8) -> Signed {
    keys::sign(ME, aequa_testkit::prepare(at(1), 0, aequa_testkit::digest(digest)).statement(ME.0))
}

#[test]
fn a_vote_sent_after_its_record_is_fine_and_one_without_is_not() {
    let mut oracle = oracle();
    oracle.synced(ME, &Record::Prepare(prepare(1)));
    oracle.sends(ME, &Message::Prepare(prepare(1)), 0, 100);
    assert_eq!(oracle.violation, None);
    let mut other = self::oracle();
    other.sends(ME, &Message::Prepare(prepare(1)), 0, 100);
    assert!(matches!(other.violation, Some(Violation::NotDurable { .. })));
}

#[test]
fn a_second_vote_in_one_place_is_a_contradiction() {
    let mut oracle = oracle();
    oracle.synced(ME, &Record::Prepare(prepare(1)));
    oracle.sends(ME, &Message::Prepare(prepare(1)), 0, 100);
    oracle.sends(ME, &Message::Prepare(prepare(2)), 0, 100);
    assert!(matches!(oracle.violation, Some(Violation::Contradiction { .. })));
}

#[test]
fn an_operator_on_an_old_copy_is_held_to_what_enough_members_have_heard() {
    let members = [0, 2, 3].map(OperatorIndex);
    for (heard, held) in [(1, false), (2, true)] {
        let mut oracle = oracle();
        members[..heard].iter().for_each(|member| oracle.hears(*member, prepare(1)));
        oracle.returns_on_copy(ME, &BTreeSet::from(members));
        oracle.sends_from_copy(ME, &Message::Prepare(prepare(2)));
        assert_eq!(matches!(oracle.violation, Some(Violation::Contradiction { .. })), held);
    }
}

#[test]
fn an_operator_on_an_old_copy_is_held_to_what_it_says_from_then_on_until_the_next_copy() {
    let mut oracle = oracle();
    oracle.returns_on_copy(ME, &BTreeSet::new());
    oracle.sends_from_copy(ME, &Message::Prepare(prepare(1)));
    oracle.sends_from_copy(ME, &Message::Prepare(prepare(1)));
    oracle.returns_on_copy(ME, &BTreeSet::new());
    oracle.sends_from_copy(ME, &Message::Prepare(prepare(2)));
    assert_eq!(oracle.violation, None);
    oracle.sends_from_copy(ME, &Message::Prepare(prepare(1)));
    assert!(matches!(oracle.violation, Some(Violation::Contradiction { .. })));
}

#[test]
fn two_certificates_of_one_instance_are_a_disagreement() {
    let mut oracle = oracle();
    let duty = DutyId { kind: DutyKind::Sync, slot: Slot(3) };
    for tag in [1, 2] {
        let value = duty_value(duty, [tag]);
        let proof = Proof::Commits(Vec::new());
        let digest = value.digest();
        oracle.decides(&Certificate { instance: duty.into(), round: Round(0), digest, proof });
    }
    assert!(matches!(oracle.violation, Some(Violation::Disagreement { .. })));
}

#[test]
fn evidence_against_an_honest_operator_is_false() {
    let mut oracle = oracle();
    oracle.accuses(&prepare(1), &prepare(2));
    assert_eq!(oracle.violation, Some(Violation::FalseEvidence { operator: ME }));
}

#[test]
fn a_restart_below_a_committed_block_is_a_lost_block() {
    let mut oracle = oracle();
    oracle.tips.insert(ME, Height(5));
    oracle.restarts(ME, Height(5), Digest::ZERO);
    assert_eq!(oracle.violation, None);
    oracle.restarts(ME, Height(4), Digest::ZERO);
    assert!(matches!(oracle.violation, Some(Violation::LostBlock { .. })));
}

#[test]
fn evidence_that_is_demanded_and_in_no_block_is_ignored() {
    let mut oracle = Oracle::new(ClusterId::ZERO, 4, BTreeSet::new());
    let evidence = Evidence::new(prepare(1), prepare(2)).unwrap();
    let chain = aequa_chain::Chain::genesis(ClusterId::ZERO, aequa_types::Quorum::of(4).unwrap());
    let block = |pieces: &[Evidence]| {
        let pieces: Vec<_> = pieces.iter().cloned().map(aequa_types::CheckedEvidence::attest).collect();
        chain.build_block(ME, 1, B256::ZERO, Vec::new(), &pieces).unwrap()
    };
    oracle.demands(&evidence, Height(1));
    assert!(!oracle.is_satisfied(Height(1)));
    let mut ignored = Oracle::new(ClusterId::ZERO, 4, BTreeSet::new());
    ignored.demands(&evidence, Height(1));
    ignored.accuses_by_block(ME, &block(&[]));
    assert_eq!(ignored.violation, Some(Violation::EvidenceIgnored { accused: ME, height: Height(1) }));
    oracle.accuses_by_block(ME, &block(std::slice::from_ref(&evidence)));
    assert_eq!(oracle.violation, None);
    assert!(oracle.is_satisfied(Height(1)) && !oracle.is_satisfied(Height(0)));
    oracle.accuses_by_block(ME, &block(std::slice::from_ref(&evidence)));
    assert!(matches!(oracle.violation, Some(Violation::BrokenChain { .. })), "a second time");
}
