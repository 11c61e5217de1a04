//! The instance: state, and the rules that move it. Every transition names its rule.

use crate::justification::{Justified, check_proposal, check_round_change};
use crate::votes::{Inserted, Votes};
use crate::{Effect, Event, Host, Note, Refusal};
use aequa_types::limits::ROUND_WINDOW;
use aequa_types::message::ValueReply;
use aequa_types::record::{PreparedRecord, ProposalRecord, RoundRecord, ValueRecord};
use aequa_types::statement::{Claim, CommitClaim, RoundChangeClaim};
use aequa_types::{
    Certificate, Decided, Digest, InstanceId, Message, OperatorIndex, PrePrepare, Prepared, Quorum, Record,
    Round, RoundChange, Signed, Statement, Value, Verified,
};
use std::collections::{BTreeMap, BTreeSet};

/// How many ROUND-CHANGEs of one operator are kept: the newest of them shows how far it is (R5), an
/// earlier one may still be needed by a leader that is behind (R6).
pub const ROUND_CHANGES_KEPT_PER_OPERATOR: usize = 4;
/// How many DECIDED and value replies one peer gets per instance, so that asking is no amplifier.
const ANSWERS_PER_PEER_MAX: u8 = 16;

/// How far an instance has come in its current round; labels of the timeout metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No proposal accepted.
    Idle,
    /// A proposal accepted, PREPARE sent.
    Preprepared,
    /// A PREPARE quorum seen, COMMIT sent.
    Prepared,
    /// A COMMIT quorum seen, but the value is still missing.
    Commit,
}

/// What the vote log remembers of one instance.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Its records, oldest first.
    pub records: Vec<Record>,
    /// The values of its VALUE records, decoded and hashed again.
    pub values: Vec<Value>,
}

/// One operator's own statements of one round. Monotone: what is set is never replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Own {
    proposal: Option<ProposalRecord>,
    prepare: Option<Signed>,
    commit: Option<Signed>,
    /// The signer would not sign a COMMIT of this round; asking again is pointless.
    commit_refused: bool,
    change: Option<RoundChange>,
}

/// How often a peer was answered, and for which round last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Answers {
    count: u8,
    round: Option<Round>,
}

/// One consensus instance of one operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    id: InstanceId,
    me: OperatorIndex,
    quorum: Quorum,
    round: Round,
    accepted: Option<Digest>,
    prepared: Option<PreparedRecord>,
    own: BTreeMap<Round, Own>,
    proposals: Votes,
    prepares: Votes,
    commits: Votes,
    changes: BTreeMap<OperatorIndex, BTreeMap<Round, RoundChange>>,
    values: BTreeMap<Digest, Value>,
    values_persisted: BTreeSet<Digest>,
    values_wanted: BTreeSet<Digest>,
    input_asked: Option<Round>,
    pending: Option<Certificate>,
    decided: Option<Certificate>,
    answers: BTreeMap<OperatorIndex, Answers>,
    noted_commit_quorum: Option<Round>,
    /// The round whose timer was started last.
    timer: Option<Round>,
    /// The highest round each operator has shown to be in, by any statement.
    shown: BTreeMap<OperatorIndex, Round>,
}

impl Instance {
    /// A fresh instance of operator `me`.
    pub fn new(id: InstanceId, me: OperatorIndex, quorum: Quorum) -> Self {
        Self {
            id,
            me,
            quorum,
            round: Round(0),
            accepted: None,
            prepared: None,
            own: BTreeMap::new(),
            proposals: Votes::default(),
            prepares: Votes::default(),
            commits: Votes::default(),
            changes: BTreeMap::new(),
            values: BTreeMap::new(),
            values_persisted: BTreeSet::new(),
            values_wanted: BTreeSet::new(),
            input_asked: None,
            pending: None,
            decided: None,
            answers: BTreeMap::new(),
            noted_commit_quorum: None,
            timer: None,
            shown: BTreeMap::new(),
        }
    }

    /// The instance as it was when its last record became durable. What was signed then is bound
    /// for ever; [`Event::Start`] sends it again as stored.
    pub fn restore(id: InstanceId, me: OperatorIndex, quorum: Quorum, restored: Restored) -> Self {
        let mut instance = Self::new(id, me, quorum);
        for value in restored.values {
            instance.values_persisted.insert(value.digest());
            instance.values.insert(value.digest(), value);
        }
        for record in restored.records.into_iter().filter(|record| record.instance() == id) {
            instance.replay(record);
        }
        instance.accepted = instance
            .own
            .get(&instance.round)
            .and_then(|own| own.prepare.as_ref())
            .and_then(|prepare| prepare.digest());
        instance
    }

    fn replay(&mut self, record: Record) {
        if let Some(signed) = record.statement() {
            self.show(signed);
        }
        match record {
            Record::PrePrepare(record) => {
                let round = record.proposal.round;
                self.proposals.insert(record.proposal.clone());
                self.own.entry(round).or_default().proposal = Some(record);
            }
            Record::Prepare(vote) => {
                let round = vote.round;
                self.prepares.insert(vote.clone());
                self.round = self.round.max(round);
                self.own.entry(round).or_default().prepare = Some(vote);
            }
            Record::Prepared(record) => {
                for vote in &record.prepares {
                    self.prepares.insert(vote.clone());
                }
                self.prepared = Some(record);
            }
            Record::Commit(vote) => {
                let round = vote.round;
                self.commits.insert(vote.clone());
                self.own.entry(round).or_default().commit = Some(vote);
            }
            Record::Round(record) => {
                self.round = self.round.max(record.round);
                if let Some(change) = record.change {
                    let prepares = self.prepared.as_ref().map(|p| p.prepares.clone()).unwrap_or_default();
                    let message = RoundChange { change, prepares };
                    self.keep_change(message.clone());
                    self.own.entry(record.round).or_default().change = Some(message);
                }
            }
            Record::Decided(certificate) => self.decided = Some(certificate),
            Record::Value(_) => {}
        }
    }

    /// The instance's name.
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// The current round.
    pub fn round(&self) -> Round {
        self.round
    }

    /// The certificate, once decided.
    pub fn decided(&self) -> Option<&Certificate> {
        self.decided.as_ref()
    }

    /// Takes over a stronger certificate for the same decision: answers become shorter.
    pub fn upgrade(&mut self, certificate: Certificate) {
        let same = self.decided.as_ref().is_some_and(|known| known.digest == certificate.digest);
        if same {
            self.decided = Some(certificate);
        }
    }

    /// The value of this digest, if it is known here.
    pub fn value(&self, digest: &Digest) -> Option<&Value> {
        self.values.get(digest)
    }

    /// COMMITs of one (round, digest) seen so far, ordered by operator; their seals add up.
    pub fn commits(&self, round: Round, digest: Digest) -> impl Iterator<Item = &Signed> {
        self.commits.of(round, digest)
    }

    /// How far the current round has come.
    pub fn phase(&self) -> Phase {
        let committed = self.own.get(&self.round).is_some_and(|own| own.commit.is_some());
        match (self.noted_commit_quorum, committed, self.accepted) {
            (Some(_), _, _) => Phase::Commit,
            (_, true, _) => Phase::Prepared,
            (_, _, Some(_)) => Phase::Preprepared,
            _ => Phase::Idle,
        }
    }

    /// The newest own messages: to be sent again while undecided, as stored.
    pub fn newest(&self) -> Vec<Message> {
        if self.decided.is_some() {
            return Vec::new();
        }
        let mut messages = Vec::new();
        if let Some(own) = self.own.get(&self.round) {
            messages.extend(own.change.clone().map(Message::RoundChange));
            messages.extend(own.proposal.as_ref().and_then(|record| self.proposal_message(record)));
            messages.extend(own.prepare.clone().map(Message::Prepare));
        }
        let commit = self.own.values().rev().find_map(|own| own.commit.clone());
        messages.extend(commit.map(Message::Commit));
        messages.extend(self.values_wanted.iter().map(|digest| {
            Message::ValueRequest(aequa_types::message::ValueRequest { instance: self.id, digest: *digest })
        }));
        messages
    }

    /// Takes one event; returns what is to be done, in order.
    pub fn step(&mut self, host: &mut impl Host, event: Event) -> Vec<Effect> {
        let mut turn = Turn { instance: self, host, effects: Vec::new() };
        match event {
            Event::Start => turn.start(),
            Event::Input { round, value } => turn.input(round, value),
            Event::Message { carrier, message } => turn.message(carrier, message),
            Event::Timeout(round) => turn.timeout(round),
        }
        turn.progress();
        turn.effects
    }

    fn proposal_message(&self, record: &ProposalRecord) -> Option<Message> {
        let value = self.values.get(&record.proposal.digest()?)?;
        Some(Message::PrePrepare(PrePrepare {
            proposal: record.proposal.clone(),
            value: value.bytes().clone(),
            round_changes: record.round_changes.clone(),
            prepares: record.prepares.clone(),
        }))
    }

    fn keep_change(&mut self, message: RoundChange) {
        let kept = self.changes.entry(message.change.author).or_default();
        kept.entry(message.change.round).or_insert(message);
        while kept.len() > ROUND_CHANGES_KEPT_PER_OPERATOR {
            kept.pop_first();
        }
    }

    /// The smallest round above ours that f+1 operators' newest ROUND-CHANGEs are beyond or at.
    fn catch_up_round(&self) -> Option<Round> {
        let ahead: Vec<Round> = self
            .changes
            .values()
            .filter_map(|kept| kept.last_key_value().map(|(round, _)| *round))
            .filter(|round| *round > self.round)
            .collect();
        if ahead.len() < self.quorum.weak_quorum() { None } else { ahead.into_iter().min() }
    }

    /// How many operators have shown `round` or a higher one.
    fn operators_at_or_above(&self, round: Round) -> usize {
        self.shown.values().filter(|shown| **shown >= round).count()
    }

    fn show(&mut self, statement: &Statement) {
        let shown = self.shown.entry(statement.author).or_default();
        *shown = (*shown).max(statement.round);
    }

    /// The ROUND-CHANGEs of the current round once there are q, the highest prepared ones first.
    fn changes_of_round(&self) -> Option<Vec<&RoundChange>> {
        let mut of_round: Vec<&RoundChange> =
            self.changes.values().filter_map(|kept| kept.get(&self.round)).collect();
        if of_round.len() < self.quorum.quorum() {
            return None;
        }
        of_round.sort_by_key(|message| {
            let prepared = crate::highest_prepared([&message.change]).map(|prepared| prepared.round);
            (std::cmp::Reverse(prepared), message.change.author)
        });
        Some(of_round)
    }

    /// A quorum of them whose prepared values are all here, the highest prepared ones first.
    ///
    /// Any q will do. A value that can have been decided is held by an honest one of every q, which
    /// hands it out; a claim whose value nobody hands out is left aside, or one faulty operator that
    /// saw a value prepared and keeps it to itself would stop every leader.
    fn quorum_of_changes(&self) -> Option<Vec<&RoundChange>> {
        let mut usable = self.changes_of_round()?;
        usable.retain(|message| {
            crate::highest_prepared([&message.change])
                .is_none_or(|prepared| self.values.contains_key(&prepared.digest))
        });
        usable.truncate(self.quorum.quorum());
        (usable.len() == self.quorum.quorum()).then_some(usable)
    }

    /// Digests of prepared values that are claimed for the current round and not here.
    fn missing_values(&self) -> Vec<Digest> {
        let changes = self.changes_of_round().unwrap_or_default();
        let claimed = changes.into_iter().filter_map(|message| crate::highest_prepared([&message.change]));
        claimed.map(|prepared| prepared.digest).filter(|digest| !self.values.contains_key(digest)).collect()
    }

    /// Drops values nobody can need any more: a leader may propose one in each of its rounds.
    fn forget_values(&mut self) {
        let weak = self.quorum.weak_quorum();
        let prepared = self.prepared.as_ref().map(|prepared| prepared.digest);
        let own: BTreeSet<Digest> =
            self.own.values().filter_map(|own| own.proposal.as_ref()?.proposal.digest()).collect();
        let committed: BTreeSet<Digest> = self
            .commits
            .candidates()
            .into_iter()
            .filter(|(round, digest)| self.commits.count(*round, *digest) >= weak)
            .map(|(_, digest)| digest)
            .collect();
        self.values.retain(|digest, _| {
            Some(*digest) == prepared || own.contains(digest) || committed.contains(digest)
        });
    }
}

/// One step in progress: the instance, its host, and the effects so far.
struct Turn<'a, H: Host> {
    instance: &'a mut Instance,
    host: &'a mut H,
    effects: Vec<Effect>,
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
        let proposed = self.instance.own.get(&round).is_some_and(|own| own.proposal.is_some());
        if round == Round(0) && self.host.leader(round) == self.instance.me && !proposed {
            self.ask_input(round);
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
        if proposal.author != self.host.leader(round) || proposal.digest() != Some(value.digest()) {
            return self.refuse(carrier, Refusal::NotLeader);
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
        if justified == Justified::Fresh && !self.host.validate(round, &value) {
            return self.refuse(carrier, Refusal::BadValue);
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
        if self.above_window(round) {
            return self.refuse(carrier, Refusal::RoundAboveWindow);
        }
        if let Err(refusal) = check_round_change(self.instance.quorum, self.instance.id, &message) {
            return self.refuse(carrier, refusal);
        }
        self.instance.show(&message.change);
        if round >= self.instance.round {
            self.instance.keep_change(message);
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
        self.instance.prepares.forget_below(round);
        self.instance.commits.forget_below(Round(round.0.saturating_sub(ROUND_WINDOW)));
        self.instance.proposals.forget_below(Round(round.0.saturating_sub(1)));
        self.instance.forget_values();
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
