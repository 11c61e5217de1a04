use super::*;
use crate::run::command::Command;
use crate::run::fixture;
use crate::run::keys::OperatorKeys;
use crate::run::outbox::Outbox;
use crate::run::stress::{replica, run_core};
use aequa_testkit::{Keyring, Vote, at, change, commit, digest, prepare, preprepare, unjustified};
use aequa_types::limits::EVIDENCE_PER_OPERATOR_MAX;
use aequa_types::message::{Decided, ValueRequest};
use aequa_types::{Certificate, DutyKind, Height, InstanceId, Round, RoundChange, Slot, ValueBytes};
use bytes::Bytes;
use ssz::Encode as _;
use std::sync::Weak;
use std::time::Duration;
use tokio::sync::mpsc;

/// The height being agreed.
const CURRENT: Height = Height(50);
/// The round it is in.
const AGREEING: Round = Round(7);

/// An inbox of operator 0, and the core's end of its queue.
struct Desk {
    keys: Keyring,
    inbox: Inbox,
    core: mpsc::Receiver<Command>,
    _dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = fixture::keys();
        let (queue, core) = mpsc::channel(16);
        let context = fixture::context(dir.path(), &keys.lock, 0, queue);
        context.facts.set_tip(Height(CURRENT.0 - 1), digest(1));
        context.facts.set_agreeing(AGREEING, OperatorIndex(0));
        Self { keys, inbox: Inbox::new(context, true), core, _dir: dir }
    }

    /// Operator 1 says it under the name of `author`.
    fn said(&self, author: u8, vote: &Vote) -> Signed {
        self.keys.sign_under(vote, 1, author)
    }

    fn prepare(&self, author: u8, height: Height, Round(round): Round) -> Message {
        Message::Prepare(self.said(author, &prepare(at(height.0), round, digest(2))))
    }

    fn commit(&self, height: Height, Round(round): Round) -> Message {
        Message::Commit(self.said(1, &commit(at(height.0), round, digest(2))))
    }

    /// A proposal without a value.
    fn proposal(&self, author: u8, height: Height, Round(round): Round) -> Message {
        let proposal = self.said(author, &preprepare(at(height.0), round, digest(2)));
        Message::PrePrepare(unjustified(proposal, ValueBytes([].into())))
    }

    fn round_change(&self, height: Height, Round(round): Round) -> Message {
        let change = self.said(1, &change(at(height.0), round, None));
        Message::RoundChange(RoundChange { change, prepares: Vec::new() })
    }

    /// The first round of this height, from this one on, that operator 1 leads or does not lead.
    fn round_led(&self, height: Height, from: Round, by_one: bool) -> Round {
        let leads = |round: &Round| {
            let leader = self.inbox.context.elector.leader(InstanceId::Block(height), *round);
            (leader == OperatorIndex(1)) == by_one
        };
        (from.0..).map(Round).find(leads).unwrap()
    }

    /// The result a message is counted with, and whether the core got anything for it.
    async fn result(&mut self, message: Message) -> (&'static str, bool) {
        let results = ["ok", "not_member", "not_leader", "old", "height_oob", "round_oob", "bad_sig"];
        let (type_name, bytes) = (message.type_name(), message.ssz_bytes_len());
        let count = |desk: &Self, result: &str| {
            desk.inbox.context.metrics.qbft_verify_results_total.value([type_name, result])
        };
        let before = results.map(|result| count(self, result));
        let passed = self.inbox.take(OperatorIndex(1), message, bytes).await.is_ok();
        let grown: Vec<&str> = results
            .into_iter()
            .zip(before)
            .filter_map(|(result, before)| (count(self, result) > before).then_some(result))
            .collect();
        let [result] = grown[..] else { panic!("counted as {grown:?}") };
        assert_eq!(passed, result == "ok");
        (result, self.core.try_recv().is_ok())
    }
}

#[tokio::test]
async fn a_vote_or_proposal_above_the_round_window_is_refused_as_such() {
    let mut desk = Desk::new();
    let highest = Round(AGREEING.0 + ROUND_WINDOW);
    for (round, expected) in [(highest, ("ok", true)), (highest.next(), ("round_oob", false))] {
        let votes = [desk.prepare(1, CURRENT, round), desk.commit(CURRENT, round)];
        for vote in votes {
            assert_eq!(desk.result(vote).await, expected, "round {round}");
        }
    }
    let led = desk.round_led(CURRENT, highest.next(), true);
    let proposal = desk.proposal(1, CURRENT, led);
    assert_eq!(desk.result(proposal).await, ("round_oob", false));
}

#[tokio::test]
async fn a_round_change_of_a_far_round_is_taken_for_whoever_is_behind() {
    let mut desk = Desk::new();
    let change = desk.round_change(CURRENT, Round(AGREEING.0 + 1000));
    assert_eq!(desk.result(change).await, ("ok", true));
}

#[tokio::test]
async fn the_window_is_that_of_the_height_being_agreed_only() {
    let mut desk = Desk::new();
    for height in [Height(CURRENT.0 - 1), Height(CURRENT.0 + 1)] {
        // A COMMIT may still complete a seal; what is early is kept by the core, within bounds of its own.
        let commit = desk.commit(height, Round(1000));
        assert_eq!(desk.result(commit).await, ("ok", true), "height {height}");
    }
}

#[tokio::test]
async fn who_may_not_say_it_is_told_so_before_when_it_is_said_is_looked_at() {
    let mut desk = Desk::new();
    let past = Height(CURRENT.0 - 1);
    for height in [Height(1), past, CURRENT, Height(CURRENT.0 + 1000)] {
        let stranger = desk.prepare(4, height, Round(0));
        assert_eq!(desk.result(stranger).await, ("not_member", false), "height {height}");
        let usurped = desk.round_led(height, Round(0), false);
        let usurper = desk.proposal(1, height, usurped);
        assert_eq!(desk.result(usurper).await, ("not_leader", false), "height {height}");
    }
    let far = desk.round_led(CURRENT, Round(1000), false);
    let usurper = desk.proposal(1, CURRENT, far);
    assert_eq!(desk.result(usurper).await, ("not_leader", false));
    // Of a leader it is a late statement, which is compared with what it said before.
    let led = desk.round_led(past, Round(0), true);
    let late = desk.proposal(1, past, led);
    assert_eq!(desk.result(late).await.0, "old");
}

#[tokio::test]
async fn when_it_is_said_is_looked_at_before_the_signature() {
    let mut desk = Desk::new();
    // Signed by operator 1 under the name of 2.
    let forged = |desk: &Desk, height, round| desk.prepare(2, height, round);
    for (height, round, expected) in [
        (CURRENT, Round(0), "bad_sig"),
        (CURRENT, Round(1000), "round_oob"),
        (Height(CURRENT.0 + 1000), Round(0), "height_oob"),
        (Height(1), Round(0), "old"),
    ] {
        let message = forged(&desk, height, round);
        assert_eq!(desk.result(message).await, (expected, false), "height {height} round {round}");
    }
}

#[tokio::test]
async fn a_certificate_with_a_bad_or_repeated_signer_is_refused_counted_and_charged_to_its_carrier() {
    let mut desk = Desk::new();
    let vote = commit(at(CURRENT.0), 0, digest(2));
    let commit = |author: u8, signer: u8| desk.keys.sign_under(&vote, signer, author);
    let decided = |commits: [Signed; 3]| {
        let certificate = Certificate::from_commits(at(CURRENT.0), Round(0), digest(2), &commits);
        Message::Decided(Decided { certificate })
    };
    let good = decided([commit(0, 0), commit(1, 1), commit(2, 2)]);
    let bad = decided([commit(0, 0), commit(1, 1), commit(2, 3)]);
    let repeated = decided([commit(0, 0), commit(1, 1), commit(1, 1)]);
    // What each verdict costs is the table of `Deed::points`.
    for (message, result, verdict) in [
        (bad, "bad_sig", Err(Verdict::BadSignature)),
        (repeated, "bad_justification", Err(Verdict::Unjustified)),
        (good, "ok", Ok(Verdict::Accept)),
    ] {
        let bytes = message.ssz_bytes_len();
        assert_eq!(desk.inbox.take(OperatorIndex(3), message, bytes).await, verdict);
        let counted = desk.inbox.context.metrics.qbft_verify_results_total.value(["decided", result]);
        assert_eq!((counted, desk.core.try_recv().is_ok()), (1, result == "ok"), "{result}");
    }
}

/// The verdict about a message of operator 3, and whether the core got it.
async fn verdict_of(desk: &mut Desk, message: Message) -> (Verdict, bool) {
    let bytes = message.ssz_bytes_len();
    let (Ok(verdict) | Err(verdict)) = desk.inbox.take(OperatorIndex(3), message, bytes).await;
    (verdict, desk.core.try_recv().is_ok())
}

fn duty(slot: u64) -> InstanceId {
    InstanceId::duty(DutyKind::Attester, Slot(slot))
}

fn value_of(instance: InstanceId, bytes: &[u8]) -> Message {
    Message::ValueReply(ValueReply { instance, value: ValueBytes(bytes.into()) })
}

#[tokio::test]
async fn the_value_of_a_block_is_taken_after_any_number_of_questions_about_duties() {
    let desk = Desk::new();
    let outbox = Outbox::start(Weak::new(), Arc::clone(&desk.inbox.context));
    let digest = digest(1);
    let question = |instance| Message::ValueRequest(ValueRequest { instance, digest });
    outbox.broadcast(&question(InstanceId::Block(CURRENT)));
    for slot in 0..10_000 {
        outbox.broadcast(&question(duty(slot)));
    }
    let reply = value_of(InstanceId::Block(CURRENT), b"");
    assert!(desk.inbox.out_of_place(&reply).is_none(), "asked for and taken");
    let other = value_of(InstanceId::Block(CURRENT.next()), b"");
    assert_eq!(desk.inbox.out_of_place(&other), Some(("old", Verdict::Useless)));
}

#[tokio::test]
async fn a_value_of_a_duty_is_useful_only_where_it_was_asked_for() {
    let mut desk = Desk::new();
    let bytes = b"{\"a\":1}";
    assert_eq!(verdict_of(&mut desk, value_of(duty(1), bytes)).await, (Verdict::Useless, false));
    desk.inbox.context.wanted.asked(duty(1), duty_digest(duty(1).as_duty().unwrap(), bytes));
    assert_eq!(verdict_of(&mut desk, value_of(duty(1), bytes)).await, (Verdict::Accept, true));
    let other = value_of(duty(1), b"{\"a\":2}");
    assert_eq!(verdict_of(&mut desk, other).await, (Verdict::Useless, false), "not the one asked for");
}

#[tokio::test]
async fn a_value_that_nobody_asked_for_is_not_parsed() {
    let mut desk = Desk::new();
    // Parsed, it would be malformed.
    let nested = value_of(duty(1), &[b'['; 60_000]);
    assert_eq!(verdict_of(&mut desk, nested).await, (Verdict::Useless, false));
}

#[tokio::test]
async fn a_member_that_asks_for_values_without_end_reaches_the_core_as_often_as_its_budget_allows() {
    let mut desk = Desk::new();
    let question = |round: u8| {
        let digest = digest(round);
        Message::ValueRequest(ValueRequest { instance: InstanceId::Block(CURRENT), digest })
    };
    let mut taken = 0;
    for round in 0..=255 {
        let (verdict, reached) = verdict_of(&mut desk, question(round)).await;
        assert_eq!(reached, verdict == Verdict::Accept);
        taken += usize::from(reached);
    }
    assert!((1..200).contains(&taken), "{taken}");
    // What it already gets counts too.
    let outbox = Outbox::start(Weak::new(), Arc::clone(&desk.inbox.context));
    let large = value_of(InstanceId::Block(CURRENT), &vec![0; 3 << 20]);
    (0..20).for_each(|_| outbox.send(OperatorIndex(2), &large));
    let bytes = question(0).ssz_bytes_len();
    let refused = desk.inbox.take(OperatorIndex(2), question(0), bytes).await;
    assert_eq!(refused, Err(Verdict::Useless));
}

/// What operator 1 said of itself in this round: two things.
fn contradiction(keys: &Keyring, round: u64) -> Frame {
    let vote = |byte| keys.sign(&prepare(at(1), round, digest(byte)), 1);
    let evidence = Evidence::new(vote(1), vote(2)).unwrap();
    Frame::new(wire::EVIDENCE, Bytes::from(evidence.as_ssz_bytes()))
}

#[tokio::test]
async fn evidence_that_finds_no_place_here_travels_no_further() {
    let Desk { mut keys, inbox, core, _dir } = Desk::new();
    let secrets = keys.take(0);
    let cluster = keys.cluster_id();
    let own = OperatorKeys::new(cluster, secrets.identity, secrets.share);
    let store = Arc::clone(&inbox.context.store);
    let core = std::thread::spawn(move || run_core(replica(cluster, own), &store, core));
    let places = EVIDENCE_PER_OPERATOR_MAX as u64;
    for round in 0..places {
        let verdict = inbox.evidence(OperatorIndex(3), contradiction(&keys, round)).await;
        assert_eq!(verdict, GossipVerdict::Accept, "{round}");
    }
    for round in places..places + 10 {
        let verdict = inbox.evidence(OperatorIndex(3), contradiction(&keys, round)).await;
        assert_eq!(verdict, GossipVerdict::Ignore, "{round}");
    }
    let known = inbox.evidence(OperatorIndex(2), contradiction(&keys, 0)).await;
    assert_eq!(known, GossipVerdict::Accept, "one of those kept");
    drop(inbox);
    core.join().unwrap();
}

#[tokio::test]
async fn a_members_stream_is_left_unread_until_its_checks_are_paid_for_whatever_its_gossip_costs() {
    let desk = Desk::new();
    let budgets = &desk.inbox.context.budgets;
    budgets.charge(OperatorIndex(1), Call::Check, 0, Duration::from_millis(2250));
    budgets.charge(OperatorIndex(2), Call::Gossip, 0, Duration::from_secs(60));
    let read = async |from: u8| {
        let before = Instant::now();
        let unknown = Frame::new(99, Bytes::new());
        assert_eq!(desk.inbox.frame(OperatorIndex(from), Topic::Qbft, unknown).await, Verdict::Unknown);
        before.elapsed()
    };
    assert!(read(1).await > Duration::from_millis(300), "two seconds may be used at once");
    assert!(
        tokio::time::timeout(Duration::from_secs(30), read(2)).await.is_ok(),
        "it would wait for about a minute"
    );
}
