//! What a verifier lets pass, and with which word it refuses the rest.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use aequa_crypto::seal::combine;
use aequa_crypto::transaction::{AccountKey, sign};
use aequa_crypto::verify::{Refusal, Verifier};
use aequa_testkit::{CHAIN_ID, Keyring, Vote, at, plaintext_with, unjustified};
use aequa_types::limits::{DUTY_VALUE_BYTES_MAX, HEIGHT_MAX, TESTIMONY_STATEMENTS_MAX, VALUE_BYTES_MAX};
use aequa_types::message::{Decided, ValueReply, ValueRequest, duty_digest};
use aequa_types::sync::{CheckedTestimony, Testimony};
use aequa_types::transaction::TxSignature;
use aequa_types::{
    Block, Certificate, CertifiedBlock, CheckedTransaction, Decision, Digest, Domain, DutyId, DutyKind,
    Evidence, Height, InstanceId, Message, OperatorIndex, PrePrepare, Proof, Round, RoundChange, Seal,
    Signed, Slot, Transaction, ValueBytes, Verified,
};
use alloy_primitives::B256;
use ssz::Encode as _;

mod evidence;

/// A cluster of four whose every key is at hand.
struct Cluster {
    keys: Keyring,
    verifier: Verifier,
}

impl Cluster {
    fn new() -> Self {
        let keys = Keyring::of(4);
        let verifier = keys.verifier();
        Self { keys, verifier }
    }

    fn preprepare(&self, author: u8, instance: InstanceId, round: u64, digest: Digest) -> Signed {
        self.keys.sign(&aequa_testkit::preprepare(instance, round, digest), author)
    }

    fn prepare(&self, author: u8, instance: InstanceId, round: u64, digest: Digest) -> Signed {
        self.keys.sign(&aequa_testkit::prepare(instance, round, digest), author)
    }

    fn commit(&self, author: u8, instance: InstanceId, round: u64, digest: Digest) -> Signed {
        self.keys.sign(&commit(instance, round, digest), author)
    }

    fn change(
        &self,
        author: u8,
        instance: InstanceId,
        round: u64,
        prepared: Option<(u64, Digest)>,
    ) -> Signed {
        self.keys.sign(&aequa_testkit::change(instance, round, prepared), author)
    }

    fn certificate(&self, instance: InstanceId, round: u64, digest: Digest, signers: &[u8]) -> Certificate {
        self.keys.certificate(&commit(instance, round, digest), signers)
    }

    fn sealed(&self, instance: InstanceId, round: u64, digest: Digest) -> Certificate {
        self.keys.sealed(Decision { instance, round: Round(round), digest })
    }

    fn block(&self, height: u64, items: Vec<Transaction>) -> Block {
        aequa_testkit::block(self.keys.cluster_id(), height, B256::repeat_byte(1), items)
    }

    fn proposal(&self, block: &Block) -> PrePrepare {
        let instance = InstanceId::Block(block.header.height);
        unjustified(self.preprepare(1, instance, 0, block.header.digest()), bytes(block))
    }

    fn refused(&self, message: Message) -> &'static str {
        self.verifier.message(message).unwrap_err().result()
    }

    fn refused_proposal(&self, proposal: PrePrepare) -> &'static str {
        self.refused(Message::PrePrepare(proposal))
    }
}

fn bytes(block: &Block) -> ValueBytes {
    ValueBytes(block.as_ssz_bytes().into())
}

fn commit(instance: InstanceId, round: u64, digest: Digest) -> Vote {
    aequa_testkit::commit(instance, round, digest).with_share()
}

fn digest() -> Digest {
    Digest::repeat_byte(7)
}

fn transaction(nonce: u64) -> Transaction {
    let key = AccountKey::from_bytes(&[9; 32]).unwrap();
    sign(CHAIN_ID, plaintext_with(key.address(), nonce, 1, &[1, 2, 3]), &key)
}

#[test]
fn honest_messages_of_every_kind_are_verified() {
    let cluster = Cluster::new();
    let block = cluster.block(5, vec![transaction(0), transaction(1)]);
    let prepares: Vec<Signed> = (0..3).map(|author| cluster.prepare(author, at(5), 0, digest())).collect();
    let prepared = Some((0, digest()));
    let messages = [
        Message::PrePrepare(cluster.proposal(&block)),
        Message::PrePrepare(PrePrepare {
            proposal: cluster.preprepare(2, at(5), 1, block.header.digest()),
            value: bytes(&block),
            round_changes: (0..3).map(|author| cluster.change(author, at(5), 1, prepared)).collect(),
            prepares: prepares.clone(),
        }),
        Message::Prepare(prepares[0].clone()),
        Message::Commit(cluster.commit(3, at(5), 0, digest())),
        Message::RoundChange(RoundChange { change: cluster.change(0, at(5), 1, prepared), prepares }),
        Message::Decided(Decided { certificate: cluster.certificate(at(5), 0, digest(), &[0, 2, 3]) }),
        Message::Decided(Decided { certificate: cluster.sealed(at(5), 0, digest()) }),
        Message::ValueRequest(ValueRequest { instance: at(5), digest: digest() }),
        Message::ValueReply(ValueReply { instance: at(5), value: bytes(&block) }),
    ];
    for message in messages {
        let name = message.type_name();
        let instance = message.instance();
        let verified = cluster.verifier.message(message).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(verified.instance(), instance);
    }
}

#[test]
fn a_verified_proposal_carries_the_checked_block() {
    let cluster = Cluster::new();
    let block = cluster.block(5, vec![transaction(0)]);
    let verified = cluster.verifier.message(Message::PrePrepare(cluster.proposal(&block))).unwrap();
    let Verified::PrePrepare { value, .. } = verified else { panic!("{verified:?}") };
    assert_eq!(value.digest(), block.header.digest());
    assert_eq!(value.bytes(), &bytes(&block));
    assert_eq!(value.as_block().unwrap().tx_hashes().next(), Some(transaction(0).body.hash()));
}

#[test]
fn b4_a_vote_counts_for_the_key_that_signed_it_or_not_at_all() {
    let cluster = Cluster::new();
    let mut vote = cluster.prepare(1, at(5), 0, digest());
    vote.statement.author = OperatorIndex(2);
    assert_eq!(cluster.refused(Message::Prepare(vote.clone())), "bad_sig");
    vote.statement.author = OperatorIndex(4);
    assert_eq!(cluster.refused(Message::Prepare(vote.clone())), "not_member");
    vote.statement.author = OperatorIndex(255);
    assert_eq!(cluster.refused(Message::Prepare(vote)), "not_member");
}

#[test]
fn a_vote_of_another_cluster_is_refused() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let identity = &cluster.keys.secrets(0).identity;
    let statement = cluster.prepare(0, at(5), 0, digest()).statement;
    let signed = identity.sign_statement(&other.keys.cluster_id(), statement);
    assert_eq!(cluster.refused(Message::Prepare(signed)), "bad_sig");
}

#[test]
fn a_statement_in_the_place_of_another_kind_is_malformed() {
    let cluster = Cluster::new();
    let prepare = cluster.prepare(1, at(5), 0, digest());
    assert_eq!(cluster.refused(Message::Commit(prepare.clone())), "malformed");
    let commit = cluster.commit(1, at(5), 0, digest());
    assert_eq!(cluster.refused(Message::Prepare(commit.clone())), "malformed");
    let wrapped = RoundChange { change: prepare, prepares: vec![] };
    assert_eq!(cluster.refused(Message::RoundChange(wrapped)), "malformed");
    let block = cluster.block(5, vec![]);
    let proposal = PrePrepare { proposal: commit, ..cluster.proposal(&block) };
    assert_eq!(cluster.refused_proposal(proposal), "malformed");
}

#[test]
fn a_refused_message_leaves_nothing_behind_and_the_honest_one_passes() {
    let cluster = Cluster::new();
    let honest = cluster.prepare(1, at(5), 0, digest());
    let mut forged = honest.clone();
    forged.signature.0[0] ^= 1;
    for _ in 0..2 {
        assert_eq!(cluster.refused(Message::Prepare(forged.clone())), "bad_sig");
    }
    for _ in 0..2 {
        assert!(cluster.verifier.message(Message::Prepare(honest.clone())).is_ok());
    }
    assert_eq!(cluster.refused(Message::Prepare(forged)), "bad_sig", "also once the honest one is known");
}

#[test]
fn heights_and_rounds_are_bounded() {
    let cluster = Cluster::new();
    let vote = |height, round| Message::Prepare(cluster.prepare(0, at(height), round, digest()));
    assert_eq!(cluster.refused(vote(0, 0)), "height_oob");
    assert_eq!(cluster.refused(vote(u64::MAX, 0)), "height_oob");
    assert_eq!(cluster.refused(vote(HEIGHT_MAX + 1, 0)), "height_oob");
    assert_eq!(cluster.refused(vote(1, u64::MAX)), "round_oob");
    assert!(cluster.verifier.message(vote(HEIGHT_MAX, HEIGHT_MAX)).is_ok());
    let slot_0 = InstanceId::duty(DutyKind::Attester, Slot(0));
    assert!(cluster.verifier.message(Message::Prepare(cluster.prepare(0, slot_0, 0, digest()))).is_ok());
    let request = ValueRequest { instance: at(0), digest: digest() };
    assert_eq!(cluster.refused(Message::ValueRequest(request)), "height_oob");
    assert_eq!(
        cluster.refused(Message::Decided(Decided { certificate: cluster.sealed(at(0), 0, digest()) })),
        "height_oob"
    );
}

#[test]
fn justifications_of_another_instance_round_or_kind_are_refused() {
    let cluster = Cluster::new();
    let block = cluster.block(5, vec![]);
    let proposal = |round_changes: Vec<Signed>, prepares: Vec<Signed>| PrePrepare {
        proposal: cluster.preprepare(2, at(5), 1, block.header.digest()),
        value: bytes(&block),
        round_changes,
        prepares,
    };
    let change = |author| cluster.change(author, at(5), 1, None);
    let duty = InstanceId::duty(DutyKind::Attester, Slot(5));
    let refused: [(Vec<Signed>, Vec<Signed>); 8] = [
        (vec![change(0), change(1), cluster.change(2, at(6), 1, None)], vec![]),
        (vec![change(0), change(1), cluster.change(2, duty, 1, None)], vec![]),
        (vec![change(0), change(1), cluster.change(2, at(5), 2, None)], vec![]),
        (vec![change(0), change(1), change(1)], vec![]),
        (vec![change(0), change(1), cluster.prepare(2, at(5), 1, digest())], vec![]),
        (vec![change(0)], vec![cluster.prepare(0, at(4), 0, digest())]),
        (vec![change(0)], vec![change(1)]),
        (
            vec![change(0)],
            vec![cluster.prepare(0, at(5), 0, digest()), cluster.prepare(0, at(5), 0, digest())],
        ),
    ];
    for (round_changes, prepares) in refused {
        assert_eq!(cluster.refused_proposal(proposal(round_changes, prepares)), "bad_justification");
    }
    let five: Vec<Signed> = [0, 1, 2, 3, 3].map(change).into();
    assert_eq!(cluster.refused_proposal(proposal(five.clone(), vec![])), "too_large");
    assert_eq!(cluster.refused_proposal(proposal(vec![], five)), "too_large");

    let mut in_round_0 = cluster.proposal(&block);
    in_round_0.round_changes = vec![cluster.change(0, at(5), 0, None)];
    assert_eq!(cluster.refused_proposal(in_round_0), "bad_justification");
}

#[test]
fn one_bad_signature_inside_a_justification_is_enough() {
    let cluster = Cluster::new();
    let block = cluster.block(5, vec![]);
    let mut proposal = PrePrepare {
        proposal: cluster.preprepare(2, at(5), 1, block.header.digest()),
        value: bytes(&block),
        round_changes: (0..3).map(|author| cluster.change(author, at(5), 1, None)).collect(),
        prepares: (0..3).map(|author| cluster.prepare(author, at(5), 0, digest())).collect(),
    };
    assert!(cluster.verifier.message(Message::PrePrepare(proposal.clone())).is_ok());
    proposal.prepares[2].signature.0[5] ^= 1;
    assert_eq!(cluster.refused_proposal(proposal.clone()), "bad_sig");
    proposal.prepares.pop();
    proposal.round_changes[0].statement.author = OperatorIndex(3);
    assert_eq!(cluster.refused_proposal(proposal), "bad_sig");

    let mut change = RoundChange {
        change: cluster.change(0, at(5), 1, Some((0, digest()))),
        prepares: (0..3).map(|author| cluster.prepare(author, at(5), 0, digest())).collect(),
    };
    change.prepares[1].signature = change.prepares[0].signature;
    assert_eq!(cluster.refused(Message::RoundChange(change)), "bad_sig");
}

#[test]
fn a_value_that_is_not_the_proposed_one_is_refused() {
    let cluster = Cluster::new();
    let (proposed, other) = (cluster.block(5, vec![]), cluster.block(5, vec![transaction(0)]));
    let proposal = PrePrepare { value: bytes(&other), ..cluster.proposal(&proposed) };
    assert_eq!(cluster.refused_proposal(proposal), "malformed");

    let duty = DutyId { kind: DutyKind::Attester, slot: Slot(5) };
    let value = ValueBytes(br#"{"slot":5}"#.as_slice().into());
    let sign =
        |duty: DutyId, digest| unjustified(cluster.preprepare(1, duty.into(), 0, digest), value.clone());
    let right = duty_digest(duty, &value.0);
    assert!(cluster.verifier.message(Message::PrePrepare(sign(duty, right))).is_ok());
    assert_eq!(cluster.refused_proposal(sign(duty, digest())), "malformed");
    let sync = DutyId { kind: DutyKind::Sync, slot: Slot(5) };
    assert_eq!(cluster.refused_proposal(sign(sync, right)), "malformed", "the domain is in the digest");
}

#[test]
fn a_duty_value_that_is_not_canonical_json_is_refused() {
    let cluster = Cluster::new();
    let duty = DutyId { kind: DutyKind::Attester, slot: Slot(5) };
    let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
    let many = format!("[{}]", vec!["{}"; 10_000].join(","));
    let inexact = r#"{"amount":9007199254740993}"#;
    for bad in ["attestation", r#"{"slot": 5}"#, r#"{"b":1,"a":2}"#, deep.as_str(), many.as_str(), inexact] {
        let value = ValueBytes(bad.as_bytes().into());
        let proposal = cluster.preprepare(1, duty.into(), 0, duty_digest(duty, &value.0));
        let proposal = unjustified(proposal, value.clone());
        assert_eq!(cluster.refused_proposal(proposal), "malformed", "{bad}");
        assert!(cluster.verifier.value(duty.into(), value).is_err(), "{bad}");
    }
}

#[test]
fn a_block_that_its_header_does_not_describe_is_refused() {
    let cluster = Cluster::new();
    type Change = fn(&mut Block);
    let changes: [(Change, &str); 8] = [
        (|block| block.header.payload_root = B256::ZERO, "malformed"),
        (|block| block.header.evidence_root = B256::ZERO, "malformed"),
        (|block| block.header.items = 1, "malformed"),
        (|block| block.header.cluster_id = B256::ZERO, "wrong_cluster"),
        (|block| block.header.proposer = OperatorIndex(4), "malformed"),
        (|block| block.header.height = Height(6), "malformed"),
        (|block| block.items = vec![transaction(1), transaction(0)].try_into().unwrap(), "malformed"),
        (
            |block| {
                let mut items = block.items.to_vec();
                items[1].sig[3] ^= 1;
                block.items = items.try_into().unwrap();
                block.header.payload_root = block.payload_root();
            },
            "malformed",
        ),
    ];
    for (position, (change, result)) in changes.into_iter().enumerate() {
        let mut block = cluster.block(5, vec![transaction(0), transaction(1)]);
        change(&mut block);
        let reply = ValueReply { instance: at(5), value: bytes(&block) };
        assert_eq!(cluster.refused(Message::ValueReply(reply)), result, "change {position}");
    }
}

#[test]
fn empty_oversized_and_trailing_values_are_refused() {
    let cluster = Cluster::new();
    let (block, duty) = (at(5), InstanceId::duty(DutyKind::Sync, Slot(5)));
    let reply = |instance, value: Vec<u8>| {
        Message::ValueReply(ValueReply { instance, value: ValueBytes(value.into()) })
    };
    assert_eq!(cluster.refused(reply(block, vec![])), "malformed");
    assert_eq!(cluster.refused(reply(duty, vec![])), "malformed");
    assert_eq!(cluster.refused(reply(block, vec![0; VALUE_BYTES_MAX + 1])), "too_large");
    assert_eq!(cluster.refused(reply(duty, vec![0; DUTY_VALUE_BYTES_MAX + 1])), "too_large");
    let largest = format!("\"{}\"", "a".repeat(DUTY_VALUE_BYTES_MAX - 2)).into_bytes();
    assert!(cluster.verifier.message(reply(duty, largest)).is_ok());
    let mut trailing = cluster.block(5, vec![]).as_ssz_bytes();
    trailing.push(0);
    assert_eq!(cluster.refused(reply(block, trailing)), "malformed");
}

#[test]
fn a_transaction_is_verified_once_and_only_with_its_own_signature() {
    let cluster = Cluster::new();
    let good = transaction(0);
    // An admission that lies is the only way to see that the check is skipped.
    let unsigned = Transaction { sig: TxSignature::repeat_byte(1), ..transaction(1) };
    let block = cluster.block(5, vec![good.clone(), unsigned.clone()]);
    let reply = || Message::ValueReply(ValueReply { instance: at(5), value: bytes(&block) });
    assert_eq!(cluster.refused(reply()), "malformed");
    cluster.verifier.remember(&CheckedTransaction::attest(unsigned));
    assert!(cluster.verifier.message(reply()).is_ok());

    cluster.verifier.transaction(good.clone()).unwrap();
    let mut other_signature = good;
    other_signature.sig[0] ^= 1;
    assert!(cluster.verifier.transaction(other_signature).is_err(), "same hash, another signature");
}

#[test]
fn a_certificate_needs_a_quorum_of_distinct_valid_commits() {
    let cluster = Cluster::new();
    let verify = |certificate: &Certificate| cluster.verifier.certificate(certificate);
    for signers in [&[0, 1, 2][..], &[1, 2, 3], &[3, 1, 0], &[0, 1, 2, 3]] {
        assert_eq!(verify(&cluster.certificate(at(5), 2, digest(), signers)), Ok(()));
    }
    let result = |certificate: &Certificate| verify(certificate).unwrap_err().result();
    for signers in [&[][..], &[0], &[0, 1], &[0, 1, 1], &[0, 0, 0, 0]] {
        let certificate = cluster.certificate(at(5), 2, digest(), signers);
        assert_eq!(result(&certificate), "bad_justification", "{signers:?}");
    }
    assert_eq!(result(&cluster.certificate(at(5), 2, digest(), &[0, 0, 1, 2, 3])), "too_large");

    let good = cluster.certificate(at(5), 2, digest(), &[0, 1, 2]);
    let with = |change: fn(&mut Certificate)| {
        let mut certificate = good.clone();
        change(&mut certificate);
        certificate
    };
    let changes: [fn(&mut Certificate); 5] = [
        |certificate| certificate.instance = at(6),
        |certificate| certificate.instance = InstanceId::duty(DutyKind::Sync, Slot(5)),
        |certificate| certificate.round = Round(1),
        |certificate| certificate.digest = Digest::ZERO,
        |certificate| {
            let Proof::Commits(commits) = &mut certificate.proof else { unreachable!() };
            commits[1].seal = None;
        },
    ];
    for change in changes {
        assert_eq!(result(&with(change)), "bad_sig");
    }
    let foreign = with(|certificate| {
        let Proof::Commits(commits) = &mut certificate.proof else { unreachable!() };
        commits[2].operator = OperatorIndex(9);
    });
    assert_eq!(result(&foreign), "not_member");
    let unordered = with(|certificate| {
        let Proof::Commits(commits) = &mut certificate.proof else { unreachable!() };
        commits.swap(0, 1);
    });
    assert_eq!(result(&unordered), "bad_justification");
}

#[test]
fn a_group_seal_holds_for_its_round_and_digest_only() {
    let cluster = Cluster::new();
    let good = cluster.sealed(at(5), 2, digest());
    for _ in 0..2 {
        assert_eq!(cluster.verifier.certificate(&good), Ok(()), "fresh, then remembered");
    }
    let changes: [fn(&mut Certificate); 4] = [
        |certificate| certificate.instance = at(6),
        |certificate| certificate.round = Round(1),
        |certificate| certificate.digest = Digest::ZERO,
        |certificate| certificate.proof = Proof::Group(Seal::repeat_byte(3)),
    ];
    for change in changes {
        let mut forged = good.clone();
        change(&mut forged);
        assert_eq!(cluster.verifier.certificate(&forged).unwrap_err().result(), "bad_sig");
    }
}

#[test]
fn shares_of_different_rounds_give_no_certificate() {
    let cluster = Cluster::new();
    let shares: Vec<_> = [(0u8, 0u64), (1, 2), (2, 2)]
        .iter()
        .map(|(operator, round)| {
            let decision = Decision { instance: at(5), round: Round(*round), digest: digest() };
            (OperatorIndex(*operator), cluster.keys.share(decision, *operator))
        })
        .collect();
    let seal = combine(3, &shares).unwrap();
    for round in 0..4 {
        let certificate =
            Certificate { instance: at(5), round: Round(round), digest: digest(), proof: Proof::Group(seal) };
        assert_eq!(cluster.verifier.certificate(&certificate).unwrap_err().result(), "bad_sig");
    }
}

#[test]
fn a_certified_block_needs_the_certificate_of_this_block() {
    let cluster = Cluster::new();
    let block = cluster.block(5, vec![transaction(0)]);
    let digest = block.header.digest();
    let check = |block: &Block, certificate: Certificate| {
        cluster.verifier.certified_block(CertifiedBlock { block: block.clone(), certificate })
    };
    for certificate in [cluster.certificate(at(5), 0, digest, &[0, 1, 2]), cluster.sealed(at(5), 0, digest)] {
        let (checked, held) = check(&block, certificate.clone()).unwrap();
        assert_eq!((checked.block(), held), (&block, certificate));
    }
    let other = cluster.block(5, vec![]);
    let refused = [
        check(&other, cluster.sealed(at(5), 0, digest)),
        check(&block, cluster.sealed(at(6), 0, digest)),
        check(&block, cluster.certificate(at(5), 0, digest, &[0, 1])),
    ];
    for result in refused {
        assert!(result.is_err());
    }
    // The header is certified; the items were exchanged afterwards.
    let mut hollow = block.clone();
    hollow.items = other.items;
    assert_eq!(check(&hollow, cluster.sealed(at(5), 0, digest)).unwrap_err().result(), "malformed");
}

#[test]
fn every_result_is_a_value_of_the_metrics_contract() {
    let refusals = [
        Refusal::TooLarge { what: "x", size: 2, size_max: 1 },
        Refusal::Malformed(String::new()),
        Refusal::WrongCluster,
        Refusal::NotMember(OperatorIndex(0)),
        Refusal::NotLeader(OperatorIndex(0)),
        Refusal::Old,
        Refusal::OutOfBounds(InstanceId::Block(Height(0))),
        Refusal::RoundOutOfBounds(Round(0)),
        Refusal::BadSignature(String::new()),
        Refusal::BadJustification(""),
        Refusal::Replay,
    ];
    assert_eq!(
        refusals.map(|refusal| refusal.result()),
        [
            "too_large",
            "malformed",
            "wrong_cluster",
            "not_member",
            "not_leader",
            "old",
            "height_oob",
            "round_oob",
            "bad_sig",
            "bad_justification",
            "replay",
        ]
    );
}

#[test]
fn a_verifier_is_shared_between_threads() {
    let cluster = Cluster::new();
    let votes: Vec<Signed> = (1..40).map(|height| cluster.prepare(0, at(height), 0, digest())).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for vote in &votes {
                    assert!(cluster.verifier.message(Message::Prepare(vote.clone())).is_ok());
                }
            });
        }
    });
}

#[test]
fn a_testimony_counts_only_what_is_proven() {
    let fixture = Cluster::new();
    let (instance, digest) = (InstanceId::Block(Height(5)), Digest::repeat_byte(1));
    let vote = fixture.prepare(1, instance, 0, digest);
    let good = Testimony {
        certificates: vec![fixture.certificate(instance, 0, digest, &[0, 1, 2])],
        statements: vec![vote.clone()],
        bound: vec![InstanceId::Block(Height(6))],
    };
    let about = OperatorIndex(1);
    let checked = fixture.verifier.testimony(about, good.clone()).unwrap();
    let (certified, signed, bound) = (vec![instance], vec![vote.clone()], good.bound.clone());
    assert_eq!(checked, CheckedTestimony { certified, signed, bound });

    let refused = |testimony| fixture.verifier.testimony(about, testimony).is_err();
    let few = vec![fixture.certificate(instance, 0, digest, &[0, 1])];
    assert!(refused(Testimony { certificates: few, ..good.clone() }), "no quorum");
    let mut forged = vote.clone();
    forged.statement.round = Round(7);
    assert!(refused(Testimony { statements: vec![forged], ..good.clone() }), "another round was signed");
    let of_another = vec![fixture.prepare(2, instance, 0, digest)];
    assert!(refused(Testimony { statements: of_another, ..good.clone() }));
    let with = |count| Testimony { statements: vec![vote.clone(); count], ..good.clone() };
    assert!(!refused(with(TESTIMONY_STATEMENTS_MAX)) && refused(with(TESTIMONY_STATEMENTS_MAX + 1)));
    let bound = |count| Testimony { bound: vec![instance; count], ..good.clone() };
    assert!(!refused(bound(Domain::ALL.len())) && refused(bound(Domain::ALL.len() + 1)));
}
