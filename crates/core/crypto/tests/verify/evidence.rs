//! What makes evidence believable, on its own and inside a block.

use super::*;
use aequa_types::evidence::{EvidenceError, EvidenceList};

fn other() -> Digest {
    Digest::repeat_byte(8)
}

impl Cluster {
    fn double_vote(&self, author: u8) -> Evidence {
        let vote = |digest| self.prepare(author, at(5), 0, digest);
        Evidence::new(vote(digest()), vote(other())).unwrap()
    }

    fn refused_evidence(&self, evidence: Evidence) -> &'static str {
        self.verifier.evidence(evidence).unwrap_err().result()
    }

    /// A block with this evidence, which its header commits to.
    fn block_with(&self, evidence: Vec<Evidence>) -> Block {
        let mut block = self.block(5, vec![]);
        block.evidence = EvidenceList::try_from(evidence).unwrap();
        block.header.evidence_root = block.evidence_root();
        block
    }
}

#[test]
fn b2_two_signed_statements_of_each_kind_are_checked_evidence() {
    let cluster = Cluster::new();
    let prepared = Some((0, digest()));
    let duty = InstanceId::duty(DutyKind::Sync, Slot(0));
    let pairs = [
        (cluster.preprepare(2, at(5), 0, digest()), cluster.preprepare(2, at(5), 0, other())),
        (cluster.prepare(2, at(5), 0, digest()), cluster.prepare(2, at(5), 0, other())),
        (cluster.prepare(2, duty, 0, digest()), cluster.prepare(2, duty, 0, other())),
        (cluster.commit(2, at(5), 0, digest()), cluster.commit(2, at(5), 0, other())),
        (cluster.change(2, at(5), 1, None), cluster.change(2, at(5), 1, prepared)),
    ];
    for (one, other) in pairs {
        let evidence = Evidence::new(one, other).unwrap();
        assert_eq!(*cluster.verifier.evidence(evidence.clone()).unwrap(), evidence);
    }
}

#[test]
fn b3_a_bad_signature_of_either_statement_is_refused() {
    let cluster = Cluster::new();
    for spoilt in [0, 1] {
        let good = cluster.double_vote(2);
        let mut pair = [good.first().clone(), good.second().clone()];
        pair[spoilt].signature.0[9] ^= 1;
        let [one, other] = pair;
        assert_eq!(cluster.refused_evidence(Evidence::new(one, other).unwrap()), "bad_sig");
    }
}

#[test]
fn b3_statements_signed_by_somebody_else_are_refused() {
    let cluster = Cluster::new();
    let framed = |digest| {
        let mut vote = cluster.prepare(2, at(5), 0, digest);
        vote.statement.author = OperatorIndex(1);
        vote
    };
    let evidence = Evidence::new(framed(digest()), framed(other())).unwrap();
    assert_eq!(cluster.refused_evidence(evidence), "bad_sig");
}

#[test]
fn b3_evidence_against_a_non_member_is_refused() {
    let cluster = Cluster::new();
    let stranger = |digest| {
        let mut vote = cluster.prepare(2, at(5), 0, digest);
        vote.statement.author = OperatorIndex(4);
        vote
    };
    let evidence = Evidence::new(stranger(digest()), stranger(other())).unwrap();
    assert_eq!(cluster.refused_evidence(evidence), "not_member");
}

#[test]
fn b3_statements_of_another_cluster_are_refused() {
    let cluster = Cluster::new();
    let elsewhere = |digest| {
        let statement = cluster.prepare(2, at(5), 0, digest).statement;
        cluster.keys.secrets(2).identity.sign_statement(&B256::repeat_byte(9), statement)
    };
    let both = Evidence::new(elsewhere(digest()), elsewhere(other())).unwrap();
    assert_eq!(cluster.refused_evidence(both), "bad_sig");
    // One cluster's vote and another's contradict nothing, although the same key signed both.
    let one = Evidence::new(cluster.prepare(2, at(5), 0, digest()), elsewhere(other())).unwrap();
    assert_eq!(cluster.refused_evidence(one), "bad_sig");
}

#[test]
fn b3_a_wrong_domain_or_height_is_refused() {
    let cluster = Cluster::new();
    let duty = InstanceId::duty(DutyKind::Attester, Slot(5));
    let vote = cluster.prepare(2, at(5), 0, digest());
    let of_duty = cluster.prepare(2, duty, 0, other());
    assert_eq!(Evidence::new(vote.clone(), of_duty.clone()), Err(EvidenceError::Domains));
    // Said to be of the other domain after all, it is not what was signed.
    let mut moved = of_duty;
    moved.statement.instance = at(5);
    assert_eq!(cluster.refused_evidence(Evidence::new(vote, moved).unwrap()), "bad_sig");
    for height in [0, HEIGHT_MAX + 1] {
        let vote = |digest| cluster.prepare(2, at(height), 0, digest);
        let evidence = Evidence::new(vote(digest()), vote(other())).unwrap();
        assert_eq!(cluster.refused_evidence(evidence), "height_oob");
    }
}

#[test]
fn a_block_brings_the_evidence_its_header_commits_to_and_nothing_that_does_not_hold() {
    let cluster = Cluster::new();
    let block = cluster.block_with(vec![cluster.double_vote(2)]);
    let value = cluster.verifier.value(at(5), bytes(&block)).unwrap();
    assert_eq!(value.as_block().unwrap().evidence(), [cluster.double_vote(2)]);

    let refused = |block: &Block| cluster.verifier.value(at(5), bytes(block)).unwrap_err().result();
    let mut without = block.clone();
    without.evidence = EvidenceList::empty();
    assert_eq!(refused(&without), "malformed", "evidence left out");
    let mut uncommitted = cluster.block(5, vec![]);
    uncommitted.evidence = block.evidence.clone();
    assert_eq!(refused(&uncommitted), "malformed", "evidence the header does not know");

    let good = cluster.double_vote(2);
    let mut forged = good.second().clone();
    forged.signature.0[0] ^= 1;
    let forged = Evidence::new(good.first().clone(), forged).unwrap();
    assert_eq!(refused(&cluster.block_with(vec![forged])), "bad_sig");
}
