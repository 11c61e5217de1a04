//! Why the round is in the seal (ADR 3), played through the production core, signer, verifier and
//! threshold keys: four operators, one of them faulty, four rounds.
//!
//! 1. Round 0: A sees a PREPARE quorum for v and commits it. Its COMMIT is delayed.
//! 2. Round 1: without A, v' is proposed and prepared; C commits it. Its COMMIT is delayed.
//! 3. Round 2: v is proposed again on A's justification; B commits it. Its COMMIT is delayed.
//! 4. Round 3: A, C and the faulty operator open it; C's claim is the highest, and v' is decided.
//!
//! A, B and the faulty operator have now all put their share under v, in different rounds.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use aequa_crypto::dealer::OperatorSecrets;
use aequa_crypto::seal::combine;
use aequa_crypto::verify::Verifier;
use aequa_qbft::{Effect, Event, Host, Instance, Justified, Validity};
use aequa_replica::{Elector, Guard, Keys, Permit, RoundRobin, Signer};
use aequa_testkit::{Keyring, duty_value, unjustified, vote};
use aequa_types::message::ValueRequest;
use aequa_types::statement::{Claim, CommitClaim, RoundChangeClaim};
use aequa_types::{
    Certificate, ClusterId, Decision, Digest, DutyId, DutyKind, InstanceId, Message, OperatorIndex, Proof,
    Quorum, Round, RoundChange, Seal, Signed, Slot, Statement, Value,
};

const DUTY: DutyId = DutyId { kind: DutyKind::Attester, slot: Slot(7) };
const INSTANCE: InstanceId = InstanceId::Duty(DUTY);
/// Operator r leads round r of this instance.
const FAULTY: usize = 0;
const C: usize = 1;
const B: usize = 2;
const A: usize = 3;
const ROUNDS: u64 = 4;

/// What a share signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SealOver {
    /// (cluster, instance, round, digest): the production message.
    RoundAndDigest,
    /// The same with one round for all: shares of different rounds are alike.
    DigestAlone,
}

impl SealOver {
    fn message(self, cluster: &ClusterId, round: Round, digest: &Digest) -> Vec<u8> {
        let round = if self == SealOver::DigestAlone { Round(0) } else { round };
        Decision { instance: INSTANCE, round, digest: *digest }.seal_bytes(cluster)
    }
}

/// Production keys of one operator.
struct OperatorKeys<'a> {
    cluster: ClusterId,
    secrets: &'a OperatorSecrets,
    seal_over: SealOver,
}

impl OperatorKeys<'_> {
    /// What whoever is faulty signs without asking.
    fn unasked(&self, statement: Statement) -> Signed {
        self.secrets.identity.sign_statement(&self.cluster, statement)
    }

    fn unasked_share(&self, round: Round, digest: &Digest) -> Seal {
        self.secrets.share.sign(&self.seal_over.message(&self.cluster, round, digest))
    }
}

impl Keys for OperatorKeys<'_> {
    fn sign(&self, permit: Permit) -> Signed {
        self.unasked(permit.into_statement())
    }

    fn share(&self, permit: &Permit) -> Option<Seal> {
        let Decision { instance, round, digest } = permit.statement().decision()?;
        assert_eq!(instance, INSTANCE);
        Some(self.unasked_share(round, &digest))
    }
}

struct Surroundings<'a>(Signer<OperatorKeys<'a>>);

impl Host for Surroundings<'_> {
    fn leader(&self, round: Round) -> OperatorIndex {
        RoundRobin(Quorum::of(4).unwrap()).leader(INSTANCE, round)
    }
    fn validate(&mut self, _: Round, _: &Value, _: Justified) -> Validity {
        Validity::Valid
    }
    fn sign(&mut self, statement: Statement) -> Option<Signed> {
        self.0.sign(statement).ok()
    }
}

/// An honest operator, and what it last sent.
struct Node<'a> {
    instance: Instance,
    host: Surroundings<'a>,
    sent: Vec<Message>,
}

impl Node<'_> {
    fn event(&mut self, event: Event) {
        for effect in self.instance.step(&mut self.host, event) {
            if let Effect::Broadcast(message) | Effect::Send(_, message) = effect {
                self.sent.push(message);
            }
        }
    }

    /// Gives up its round until it is in `round`; its newest ROUND-CHANGE.
    fn time_out_to(&mut self, round: u64) -> Message {
        while self.instance.round() < Round(round) {
            self.event(Event::Timeout(self.instance.round()));
        }
        self.newest(|message| matches!(message, Message::RoundChange(_)))
    }

    fn newest(&self, wanted: impl Fn(&Message) -> bool) -> Message {
        self.sent.iter().rfind(|message| wanted(message)).unwrap().clone()
    }

    fn proposal(&self) -> Message {
        self.newest(|message| matches!(message, Message::PrePrepare(_)))
    }

    fn prepare(&self) -> Message {
        self.newest(|message| matches!(message, Message::Prepare(_)))
    }

    /// Its COMMIT of a round.
    fn commit(&self, round: u64) -> Signed {
        let mut commits = self.sent.iter().filter_map(|message| match message {
            Message::Commit(vote) if vote.round == Round(round) => Some(vote.clone()),
            _ => None,
        });
        commits.next_back().unwrap()
    }
}

struct Cluster {
    keys: Keyring,
    verifier: Verifier,
    seal_over: SealOver,
}

impl Cluster {
    fn new(seal_over: SealOver) -> Self {
        let keys = Keyring::of(4);
        let verifier = keys.verifier();
        Self { keys, verifier, seal_over }
    }

    fn keys(&self, operator: usize) -> OperatorKeys<'_> {
        let secrets = self.keys.secrets(operator as u8);
        OperatorKeys { cluster: self.keys.cluster_id(), secrets, seal_over: self.seal_over }
    }

    fn node(&self, operator: usize) -> Node<'_> {
        let instance = Instance::new(INSTANCE, OperatorIndex(operator as u8), Quorum::of(4).unwrap());
        let host = Surroundings(Signer::new(self.keys(operator), true, Guard::default()));
        let mut node = Node { instance, host, sent: Vec::new() };
        node.event(Event::Start);
        node
    }

    /// What the faulty operator signs.
    fn faulty(&self, round: u64, claim: Claim) -> Signed {
        self.keys.sign(&vote(INSTANCE, round, claim), FAULTY as u8)
    }

    fn faulty_prepare(&self, round: u64, value: &Value) -> Message {
        Message::Prepare(self.faulty(round, Claim::Prepare(value.digest())))
    }

    fn faulty_commit(&self, round: u64, value: &Value) -> Signed {
        let seal = Some(self.keys(FAULTY).unasked_share(Round(round), &value.digest()));
        self.faulty(round, Claim::Commit(CommitClaim { digest: value.digest(), seal }))
    }

    fn faulty_change(&self, round: u64) -> Message {
        let change = self.faulty(round, Claim::RoundChange(RoundChangeClaim { prepared: None }));
        Message::RoundChange(RoundChange { change, prepares: Vec::new() })
    }

    /// Messages arrive at `node`, through the production verifier.
    fn deliver(&self, node: &mut Node, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            let message = self.verifier.message(message).unwrap();
            node.event(Event::Message { carrier: OperatorIndex(FAULTY as u8), message });
        }
    }

    /// `from` answers a request of `to` for a value.
    fn hand_over(&self, from: &mut Node, to: &mut Node, value: &Value) {
        let request = ValueRequest { instance: INSTANCE, digest: value.digest() };
        self.deliver(from, [Message::ValueRequest(request)]);
        let reply = from.newest(|message| matches!(message, Message::ValueReply(_)));
        self.deliver(to, [reply]);
    }

    /// The group signature these COMMITs' shares add up to, if it is one for this round and value.
    fn group_seal(&self, commits: &[&Signed], round: u64, value: &Value) -> Option<Seal> {
        let shares: Vec<(OperatorIndex, Seal)> =
            commits.iter().map(|commit| (commit.author, share(commit))).collect();
        let seal = combine(3, &shares).unwrap();
        let message = self.seal_over.message(&self.keys.cluster_id(), Round(round), &value.digest());
        self.keys.lock.group_key().verify(&message, &seal).is_ok().then_some(seal)
    }
}

fn share(commit: &Signed) -> Seal {
    match &commit.claim {
        Claim::Commit(commit) => commit.seal.unwrap(),
        claim => panic!("{claim:?} carries no share"),
    }
}

/// What is left after the four rounds.
struct Played {
    v: Value,
    /// COMMITs for v by A in round 0 and by B in round 2.
    stray: [Signed; 2],
    v_prime: Value,
    /// The certificate that A decided on.
    decision: Certificate,
    /// The COMMITs of the decision.
    deciding: Vec<Signed>,
}

fn play(cluster: &Cluster) -> Played {
    let (v, v_prime) = (duty_value(DUTY, r#"{"v":0}"#), duty_value(DUTY, r#"{"v":1}"#));
    let [mut a, mut b, mut c] = [A, B, C].map(|operator| cluster.node(operator));

    // Round 0: the faulty leader proposes v to A and B; only A sees the PREPARE quorum.
    let proposal = cluster.faulty(0, Claim::PrePrepare(v.digest()));
    let proposal = Message::PrePrepare(unjustified(proposal, v.bytes().clone()));
    cluster.deliver(&mut b, [proposal.clone()]);
    cluster.deliver(&mut a, [proposal, b.prepare(), cluster.faulty_prepare(0, &v)]);

    // Round 1: opened by B, C and the faulty operator, none of whom prepared anything.
    let change_of_b = b.time_out_to(1);
    c.time_out_to(1);
    cluster.deliver(&mut c, [change_of_b, cluster.faulty_change(1)]);
    c.event(Event::Input { round: Round(1), value: v_prime.clone() });
    cluster.deliver(&mut b, [c.proposal()]);
    cluster.deliver(&mut c, [b.prepare(), cluster.faulty_prepare(1, &v_prime)]);

    // Round 2: opened by A, B and the faulty operator; what A saw prepared is the highest.
    let change_of_a = a.time_out_to(2);
    b.time_out_to(2);
    cluster.deliver(&mut b, [change_of_a, cluster.faulty_change(2)]);
    cluster.hand_over(&mut a, &mut b, &v);
    cluster.deliver(&mut a, [b.proposal()]);
    cluster.deliver(&mut b, [a.prepare(), cluster.faulty_prepare(2, &v)]);

    // Round 3: opened by A, C and the faulty operator; what C saw prepared is the highest.
    let change_of_c = c.time_out_to(3);
    a.time_out_to(3);
    cluster.deliver(&mut a, [change_of_c, cluster.faulty_change(3)]);
    cluster.hand_over(&mut c, &mut a, &v_prime);
    cluster.deliver(&mut c, [a.proposal()]);
    cluster.deliver(&mut a, [c.prepare(), cluster.faulty_prepare(3, &v_prime)]);
    cluster.deliver(&mut c, [a.prepare(), cluster.faulty_prepare(3, &v_prime)]);
    let deciding = vec![cluster.faulty_commit(3, &v_prime), c.commit(3), a.commit(3)];
    cluster.deliver(&mut a, deciding[..2].iter().cloned().map(Message::Commit));

    let stray = [a.commit(0), b.commit(2)];
    assert_eq!(stray.each_ref().map(|commit| commit.digest()), [Some(v.digest()); 2]);
    assert_eq!(c.commit(1).digest(), Some(v_prime.digest()));
    let decision = a.instance.decided().unwrap().clone();
    assert_eq!((decision.round, decision.digest), (Round(3), v_prime.digest()));
    Played { v, stray, v_prime, decision, deciding }
}

#[test]
fn without_the_round_in_the_seal_two_certificates_come_to_exist() {
    let cluster = Cluster::new(SealOver::DigestAlone);
    let Played { v, stray: [of_a, of_b], v_prime, decision, deciding } = play(&cluster);
    cluster.verifier.certificate(&decision).unwrap();
    let deciding: Vec<&Signed> = deciding.iter().collect();
    assert!(cluster.group_seal(&deciding, 3, &v_prime).is_some(), "v' is decided and sealed");
    let of_faulty = cluster.faulty_commit(0, &v);
    assert!(cluster.group_seal(&[&of_faulty, &of_b, &of_a], 0, &v).is_some(), "and so is v");
}

#[test]
fn with_the_round_in_the_seal_they_never_do() {
    let cluster = Cluster::new(SealOver::RoundAndDigest);
    let Played { v, stray: [of_a, of_b], v_prime, decision, deciding } = play(&cluster);
    cluster.verifier.certificate(&decision).unwrap();
    let deciding: Vec<&Signed> = deciding.iter().collect();
    let seal = cluster.group_seal(&deciding, 3, &v_prime).unwrap();
    let sealed = Certificate { proof: Proof::Group(seal), ..decision };
    cluster.verifier.certificate(&sealed).unwrap();

    // Whatever round the faulty operator signs for, and whatever round is then claimed.
    for signed in 0..ROUNDS {
        let of_faulty = cluster.faulty_commit(signed, &v);
        let commits = [&of_faulty, &of_b, &of_a];
        let shares: Vec<(OperatorIndex, Seal)> =
            commits.iter().map(|commit| (commit.author, share(commit))).collect();
        let added_up = combine(3, &shares).unwrap();
        for claimed in 0..ROUNDS {
            assert_eq!(cluster.group_seal(&commits, claimed, &v), None, "{signed} as {claimed}");
            let certificate = Certificate {
                instance: INSTANCE,
                round: Round(claimed),
                digest: v.digest(),
                proof: Proof::Group(added_up),
            };
            assert!(cluster.verifier.certificate(&certificate).is_err(), "{signed} as {claimed}");
        }
    }
}
