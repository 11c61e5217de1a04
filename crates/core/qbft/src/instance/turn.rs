//! The rules that move an instance. Every transition names its rule.

use super::{ANSWERS_PER_PEER_MAX, Instance};
use crate::justification::{check_proposal, check_round_change};
use crate::votes::{Inserted, Votes};
use crate::{Effect, Event, Host, Justified, Note, Refusal, Validity};
use aequa_types::limits::ROUND_WINDOW;
use aequa_types::message::ValueReply;
use aequa_types::record::{PreparedRecord, ProposalRecord, RoundRecord, ValueRecord};
use aequa_types::statement::{Claim, CommitClaim, RoundChangeClaim};
use aequa_types::{
    Certificate, Decided, Digest, Message, OperatorIndex, Prepared, Record, Round, RoundChange, Signed,
    Statement, Value, Verified,
};

/// Takes one event: what it changes by itself, then every rule whose conditions now hold.
pub(super) fn take(instance: &mut Instance, host: &mut impl Host, event: Event) -> Vec<Effect> {
    let mut turn = Turn { instance, host, effects: Vec::new(), has_skipped: false };
    match event {
        Event::Start => turn.start(),
        Event::Input { round, value } => turn.input(round, value),
        Event::Message { carrier, message } => turn.message(carrier, message),
        Event::Timeout(round) => turn.timeout(round),
    }
    turn.progress();
    turn.effects
}

/// One step in progress: the instance, its host, and the effects so far.
struct Turn<'a, H: Host> {
    instance: &'a mut Instance,
    host: &'a mut H,
    effects: Vec<Effect>,
    /// Whether R10 was followed: at most once, whoever the elector says leads next.
    has_skipped: bool,
}

impl<H: Host> Turn<'_, H> {
    // START; after a restart also the re-sending of what was stored.
    fn start(&mut self) {
        if self.instance.decided.is_some() {
            return;
        }
        let round = self.instance.round;
        self.effects.push(Effect::KeepSending(round));
        if round == Round(0) {
            self.set_timer();
        }
        let newest = self.instance.newest();
        self.effects.extend(newest.into_iter().map(Effect::Broadcast));
        self.show_the_round();
        let proposed = self.instance.own.get(&round).is_some_and(|own| own.proposal.is_some());
        if round == Round(0) && self.host.leader(round) == self.instance.me && !proposed {
            self.ask_input(round);
        }
    }

    /// A crash may have kept the round that a proposal led to, and lost the PREPARE for it. Nobody would
    /// know of this operator in that round, and no timer would run that waits for it.
    fn show_the_round(&mut self) {
        let round = self.instance.round;
        let said = self.instance.own.get(&round);
        if round > Round(0) && said.is_none_or(|own| own.prepare.is_none() && own.change.is_none()) {
            self.enter_with_change(round);
        }
    }

    fn ask_input(&mut self, round: Round) {
        if self.instance.input_asked != Some(round) {
            self.instance.input_asked = Some(round);
            self.effects.push(Effect::NeedInput(round));
        }
    }

    fn input(&mut self, round: Round, value: Value) {
        let fits = self.instance.decided.is_none()
            && round == self.instance.round
            && self.host.leader(round) == self.instance.me
            && self.instance.own.get(&round).is_none_or(|own| own.proposal.is_none());
        if !fits {
            return;
        }
        if round == Round(0) {
            return self.propose(value, Vec::new(), Vec::new());
        }
        let Some(changes) = self.instance.quorum_of_changes() else { return };
        let changes: Vec<Signed> = changes.into_iter().map(|message| message.change.clone()).collect();
        if crate::highest_prepared(&changes).is_none() {
            self.propose(value, changes, Vec::new());
        }
    }

    fn message(&mut self, carrier: OperatorIndex, message: Verified) {
        if message.instance() != self.instance.id {
            return self.refuse(carrier, Refusal::WrongInstance);
        }
        if message.statement().is_some_and(|signed| signed.author == self.instance.me) {
            return self.refuse(carrier, Refusal::OwnName);
        }
        match message {
            Verified::PrePrepare { proposal, value, round_changes, prepares } => {
                self.on_proposal(carrier, proposal, value, round_changes, prepares)
            }
            Verified::Prepare(vote) => self.on_prepare(carrier, vote),
            Verified::Commit(vote) => self.on_commit(carrier, vote),
            Verified::RoundChange(message) => self.on_round_change(carrier, message),
            Verified::Decided(certificate) => self.on_decided(certificate),
            Verified::ValueRequest(request) => self.on_value_request(carrier, request.digest),
            Verified::ValueReply { value, .. } => self.on_value(value),
        }
    }

    fn refuse(&mut self, who: OperatorIndex, refusal: Refusal) {
        self.effects.push(Effect::Note(Note::Refused(who, refusal)));
    }

    fn above_window(&self, round: Round) -> bool {
        round.0 > self.instance.round.0.saturating_add(ROUND_WINDOW)
    }

    // R1
    fn on_proposal(
        &mut self,
        carrier: OperatorIndex,
        proposal: Signed,
        value: Value,
        round_changes: Vec<Signed>,
        prepares: Vec<Signed>,
    ) {
        let round = proposal.round;
        if self.instance.decided.is_some() {
            return;
        }
        if self.above_window(round) {
            return self.refuse(carrier, Refusal::RoundAboveWindow);
        }
        if proposal.author != self.host.leader(round) {
            return self.refuse(carrier, Refusal::NotLeader);
        }
        if proposal.digest() != Some(value.digest()) {
            return self.refuse(carrier, Refusal::BadValue("not the one proposed".into()));
        }
        let justified = match check_proposal(
            self.instance.quorum,
            self.instance.id,
            round,
            value.digest(),
            &round_changes,
            &prepares,
        ) {
            Ok(justified) => justified,
            Err(refusal) => return self.refuse(carrier, refusal),
        };
        self.instance.show(&proposal);
        round_changes.iter().for_each(|change| self.instance.show(change));
        if let Inserted::Conflict(first) = self.instance.proposals.insert(proposal.clone()) {
            return self.effects.push(Effect::Note(Note::Conflict(Box::new((*first, proposal)))));
        }
        if self.instance.values_wanted.remove(&value.digest()) {
            self.instance.values.insert(value.digest(), value.clone());
        }
        let mine = self.instance.own.get(&round).is_some_and(|own| own.prepare.is_some());
        let open =
            round > self.instance.round || (round == self.instance.round && self.instance.accepted.is_none());
        if mine || !open {
            return;
        }
        match self.host.validate(round, &value, justified) {
            Validity::Valid => {}
            Validity::Invalid(reason) => return self.refuse(carrier, Refusal::BadValue(reason)),
            Validity::Unknown => return,
        }
        if round > self.instance.round {
            self.enter(round, None);
        }
        self.accept(value);
    }

    /// The second half of R1: accept, restart the timer, PREPARE.
    fn accept(&mut self, value: Value) {
        let (round, digest) = (self.instance.round, value.digest());
        let Some(vote) = self.sign(Claim::Prepare(digest), round) else { return };
        self.instance.accepted = Some(digest);
        self.effects.push(Effect::Note(Note::ProposalAccepted(round, digest)));
        self.set_timer();
        self.persist_value(&value);
        self.instance.values.insert(digest, value);
        self.effects.push(Effect::Persist(Record::Prepare(vote.clone())));
        self.effects.push(Effect::Broadcast(Message::Prepare(vote.clone())));
        self.instance.prepares.insert(vote.clone());
        self.instance.own.entry(round).or_default().prepare = Some(vote);
    }

    fn persist_value(&mut self, value: &Value) {
        if self.instance.values_persisted.insert(value.digest()) {
            let record = ValueRecord { instance: self.instance.id, value: value.bytes().clone() };
            self.effects.push(Effect::Persist(Record::Value(record)));
        }
    }

    fn on_prepare(&mut self, carrier: OperatorIndex, vote: Signed) {
        if self.above_window(vote.round) {
            return self.refuse(carrier, Refusal::RoundAboveWindow);
        }
        if self.instance.decided.is_some() {
            // R7: a retransmission says that its author is stuck.
            if self.instance.prepares.insert(vote.clone()) == Inserted::Known {
                self.answer(carrier, vote.round);
            }
            return;
        }
        self.instance.show(&vote);
        if vote.round >= self.instance.round {
            self.note_conflict(vote, |instance| &mut instance.prepares);
        }
    }

    fn on_commit(&mut self, carrier: OperatorIndex, vote: Signed) {
        if self.above_window(vote.round) {
            return self.refuse(carrier, Refusal::RoundAboveWindow);
        }
        let round = vote.round;
        self.instance.show(&vote);
        let known = self.note_conflict(vote, |instance| &mut instance.commits);
        if known && self.instance.decided.is_some() {
            self.answer(carrier, round); // R7
        }
    }

    /// Inserts a vote, reports a contradiction; true when it was a retransmission.
    fn note_conflict(&mut self, vote: Signed, votes: impl Fn(&mut Instance) -> &mut Votes) -> bool {
        match votes(self.instance).insert(vote.clone()) {
            Inserted::New => false,
            Inserted::Known => true,
            Inserted::Conflict(first) => {
                self.effects.push(Effect::Note(Note::Conflict(Box::new((*first, vote)))));
                false
            }
        }
    }

    fn on_round_change(&mut self, carrier: OperatorIndex, message: RoundChange) {
        let round = message.change.round;
        if self.instance.decided.is_some() {
            return self.answer(carrier, round); // R7
        }
        // No window here: few are kept of each operator, f+1 must agree before one counts, and a node that
        // was cut off for long learns from them alone how far the others are.
        if let Err(refusal) = check_round_change(self.instance.quorum, self.instance.id, &message) {
            return self.refuse(carrier, refusal);
        }
        self.instance.show(&message.change);
        if round < self.instance.round {
            return;
        }
        let second = message.change.clone();
        if let Some(first) = self.instance.keep_change(message) {
            self.effects.push(Effect::Note(Note::Conflict(Box::new((first, second)))));
        }
    }

    // R8
    fn on_decided(&mut self, certificate: Certificate) {
        if self.instance.decided.is_none() && self.instance.pending.is_none() {
            self.instance.pending = Some(certificate);
        }
    }

    fn on_value_request(&mut self, carrier: OperatorIndex, digest: Digest) {
        let Some(value) = self.instance.values.get(&digest) else { return };
        let reply = ValueReply { instance: self.instance.id, value: value.bytes().clone() };
        let answers = self.instance.answers.entry(carrier).or_default();
        if answers.count < ANSWERS_PER_PEER_MAX {
            answers.count += 1;
            self.effects.push(Effect::Send(carrier, Message::ValueReply(reply)));
        }
    }

    fn on_value(&mut self, value: Value) {
        if self.instance.values_wanted.remove(&value.digest()) {
            self.instance.values.insert(value.digest(), value);
        }
    }

    /// R7, once per strictly higher round of the asker.
    fn answer(&mut self, to: OperatorIndex, round: Round) {
        let Some(certificate) = self.instance.decided.clone() else { return };
        let answers = self.instance.answers.entry(to).or_default();
        let again = answers.round.is_some_and(|answered| round <= answered);
        if to == self.instance.me || again || answers.count >= ANSWERS_PER_PEER_MAX {
            return;
        }
        answers.count += 1;
        answers.round = Some(round);
        self.effects.push(Effect::Send(to, Message::Decided(Decided { certificate })));
    }

    // R4
    fn timeout(&mut self, round: Round) {
        if self.instance.decided.is_some() || round != self.instance.round {
            return;
        }
        self.effects.push(Effect::Note(Note::TimedOut(round, self.instance.phase())));
        self.enter_with_change(round.next());
    }

    fn enter_with_change(&mut self, round: Round) {
        let prepared = self.instance.prepared.as_ref();
        let claim = RoundChangeClaim {
            prepared: prepared.map(|prepared| Prepared { round: prepared.round, digest: prepared.digest }),
        };
        let prepares = prepared.map(|prepared| prepared.prepares.clone()).unwrap_or_default();
        let change = self.sign(Claim::RoundChange(claim), round);
        self.enter(round, change.clone());
        if let Some(change) = change {
            let message = RoundChange { change, prepares };
            self.instance.keep_change(message.clone());
            self.instance.own.entry(round).or_default().change = Some(message.clone());
            self.effects.push(Effect::Broadcast(Message::RoundChange(message)));
        }
    }

    fn enter(&mut self, round: Round, change: Option<Signed>) {
        self.instance.round = round;
        self.instance.accepted = None;
        self.instance.forget_earlier_rounds();
        let record = RoundRecord { instance: self.instance.id, round, change };
        self.effects.push(Effect::Persist(Record::Round(record)));
        self.effects.push(Effect::KeepSending(round));
        self.effects.push(Effect::Note(Note::RoundEntered(round)));
    }

    /// Fires rules whose conditions now hold, until none does.
    fn progress(&mut self) {
        while self.instance.decided.is_none()
            && (self.decide_by_certificate()
                || self.decide_by_commits()
                || self.commit_when_prepared()
                || self.catch_up()
                || self.skip_leader()
                || self.start_timer_with_quorum()
                || self.propose_as_new_leader())
        {}
    }

    /// The second half of R4 and R5: a round's time runs when a quorum is there to use it.
    fn start_timer_with_quorum(&mut self) -> bool {
        let round = self.instance.round;
        let running = self.instance.timer.is_some_and(|timer| timer >= round);
        if running || self.instance.operators_at_or_above(round) < self.instance.quorum.quorum() {
            return false;
        }
        self.set_timer();
        true
    }

    fn set_timer(&mut self) {
        self.instance.timer = Some(self.instance.round);
        self.effects.push(Effect::SetTimer(self.instance.round));
    }

    // R8
    fn decide_by_certificate(&mut self) -> bool {
        let Some(certificate) = self.instance.pending.clone() else { return false };
        if !self.have_value(certificate.digest) {
            return false;
        }
        self.decide(certificate);
        true
    }

    // R3
    fn decide_by_commits(&mut self) -> bool {
        let instance = &*self.instance;
        let quorum = instance.quorum.quorum();
        let found = instance
            .commits
            .candidates()
            .into_iter()
            .find(|(round, digest)| instance.commits.count(*round, *digest) >= quorum);
        let Some((round, digest)) = found else { return false };
        if instance.noted_commit_quorum.is_none() {
            self.instance.noted_commit_quorum = Some(round);
            self.effects.push(Effect::Note(Note::CommitQuorum(round)));
        }
        if !self.have_value(digest) {
            return false;
        }
        let commits: Vec<Signed> = self.instance.commits.of(round, digest).take(quorum).cloned().collect();
        self.decide(Certificate::from_commits(self.instance.id, round, digest, &commits));
        true
    }

    /// Whether the value is here; when not, it is asked for once.
    fn have_value(&mut self, digest: Digest) -> bool {
        if self.instance.values.contains_key(&digest) {
            return true;
        }
        if self.instance.values_wanted.insert(digest) {
            self.effects.push(Effect::NeedValue(digest));
        }
        false
    }

    fn decide(&mut self, certificate: Certificate) {
        let Some(value) = self.instance.values.get(&certificate.digest).cloned() else { return };
        self.persist_value(&value);
        self.effects.push(Effect::Persist(Record::Decided(certificate.clone())));
        self.instance.decided = Some(certificate.clone());
        self.instance.pending = None;
        self.effects.push(Effect::Decided { value, certificate: certificate.clone() });
        if self.instance.round > Round(0) {
            self.effects
                .push(Effect::Broadcast(Message::Decided(Decided { certificate: certificate.clone() })));
        }
        self.commit_after_decision(&certificate);
    }

    // R9, also when the seal exists already: others may still miss this share of it.
    fn commit_after_decision(&mut self, certificate: &Certificate) {
        let round = certificate.round;
        if self.instance.own.get(&round).is_some_and(|own| own.commit.is_some()) {
            return;
        }
        self.commit(round, certificate.digest);
    }

    // R2
    fn commit_when_prepared(&mut self) -> bool {
        let round = self.instance.round;
        let Some(digest) = self.instance.accepted else { return false };
        let quorum = self.instance.quorum.quorum();
        let done =
            self.instance.own.get(&round).is_some_and(|own| own.commit.is_some() || own.commit_refused);
        if done || self.instance.prepares.count(round, digest) < quorum {
            return false;
        }
        let prepares: Vec<Signed> = self.instance.prepares.of(round, digest).take(quorum).cloned().collect();
        let record = PreparedRecord { instance: self.instance.id, round, digest, prepares };
        self.effects.push(Effect::Note(Note::PrepareQuorum(round)));
        self.effects.push(Effect::Persist(Record::Prepared(record.clone())));
        self.instance.prepared = Some(record);
        self.commit(round, digest);
        true
    }

    fn commit(&mut self, round: Round, digest: Digest) {
        let Some(vote) = self.sign(Claim::Commit(CommitClaim { digest, seal: None }), round) else {
            self.instance.own.entry(round).or_default().commit_refused = true;
            return;
        };
        self.effects.push(Effect::Persist(Record::Commit(vote.clone())));
        self.effects.push(Effect::Broadcast(Message::Commit(vote.clone())));
        self.instance.commits.insert(vote.clone());
        self.instance.own.entry(round).or_default().commit = Some(vote);
    }

    // R5
    fn catch_up(&mut self) -> bool {
        let Some(round) = self.instance.catch_up_round() else { return false };
        self.enter_with_change(round);
        true
    }

    // R10
    fn skip_leader(&mut self) -> bool {
        let round = self.instance.round;
        let leader = self.host.leader(round);
        let is_waited_for = self.instance.accepted.is_none() && leader != self.instance.me;
        if self.has_skipped || !is_waited_for || !self.instance.has_left(leader, round) {
            return false;
        }
        self.has_skipped = true;
        self.enter_with_change(round.next());
        true
    }

    // R6
    fn propose_as_new_leader(&mut self) -> bool {
        let round = self.instance.round;
        let proposed = self.instance.own.get(&round).is_some_and(|own| own.proposal.is_some());
        if round == Round(0) || proposed || self.host.leader(round) != self.instance.me {
            return false;
        }
        let Some(quorum) = self.instance.quorum_of_changes() else {
            for digest in self.instance.missing_values() {
                self.have_value(digest);
            }
            return false;
        };
        let changes: Vec<Signed> = quorum.iter().map(|message| message.change.clone()).collect();
        let Some(prepared) = crate::highest_prepared(&changes) else {
            self.ask_input(round);
            return false;
        };
        // Sorted by prepared round: the first carries the quorum for the highest one.
        let prepares = quorum[0].prepares.clone();
        let Some(value) = self.instance.values.get(&prepared.digest).cloned() else { return false };
        if self.host.validate(round, &value, Justified::Prepared) != Validity::Valid {
            return false;
        }
        self.propose(value, changes, prepares);
        self.instance.own.get(&round).is_some_and(|own| own.proposal.is_some())
    }

    fn propose(&mut self, value: Value, round_changes: Vec<Signed>, prepares: Vec<Signed>) {
        let round = self.instance.round;
        let Some(proposal) = self.sign(Claim::PrePrepare(value.digest()), round) else { return };
        let record = ProposalRecord { proposal: proposal.clone(), round_changes, prepares };
        self.persist_value(&value);
        self.effects.push(Effect::Persist(Record::PrePrepare(record.clone())));
        self.instance.proposals.insert(proposal);
        self.instance.values.insert(value.digest(), value.clone());
        if let Some(message) = self.instance.proposal_message(&record) {
            self.effects.push(Effect::Broadcast(message));
        }
        self.instance.own.entry(round).or_default().proposal = Some(record);
        self.accept(value);
    }

    fn sign(&mut self, claim: Claim, round: Round) -> Option<Signed> {
        let statement = Statement { instance: self.instance.id, round, author: self.instance.me, claim };
        let signed = self.host.sign(statement);
        match &signed {
            Some(signed) => self.instance.show(signed),
            None => self.effects.push(Effect::Note(Note::SignerRefused(round))),
        }
        signed
    }
}
