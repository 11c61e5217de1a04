//! The rules that move a ceremony.

use super::judge::{Judge, judge};
use super::{Ceremony, Input};
use crate::agreement::{self, dealings_of, value_of};
use crate::blame::{Blame, Fault, Proof};
use crate::dealing;
use crate::limits::{FALSE_OPENINGS_MAX, ROUND_DOUBLINGS_MAX};
use crate::message::{Checked, Content, Entry, Message, Summary};
use crate::output::{Notice, Output, Timer};
use crate::result::{Outcome, PublicResult, SecretShares};
use crate::statement::{Claim, CommitClaim, ComplaintClaim, DealingId, Place, ShareOpenClaim, Statement};
use crate::{Error, Refusal};
use aequa_qbft::{Effect, Event, Note, Validity};
use aequa_types::message::{Decided, ValueReply, ValueRequest};
use aequa_types::{Evidence, OperatorIndex, Value, Verified};

/// One step in progress: the ceremony, the time, and the output so far.
pub(super) struct Turn<'a> {
    at: &'a mut Ceremony,
    now_ms: u64,
    out: &'a mut Output,
}

impl<'a> Turn<'a> {
    pub fn new(at: &'a mut Ceremony, now_ms: u64, out: &'a mut Output) -> Self {
        Self { at, now_ms, out }
    }

    pub fn start(mut self) {
        self.commit();
        self.out.set_timer(Timer::Resend, self.now_ms.saturating_add(self.at.timing.resend_ms));
        if self.at.is_agreement_started && self.receives() {
            self.agree(Event::Start);
        }
        self.progress();
        self.ask();
    }

    pub fn take(mut self, input: Input) {
        match input {
            Input::Received { from, message } => self.received(from, message),
            Input::Timer(timer) => self.fired(timer),
        }
        self.progress();
    }

    fn fired(&mut self, timer: Timer) {
        match timer {
            Timer::Commits => self.at.are_commits_over = true,
            Timer::Verdicts => self.at.are_verdicts_over = true,
            Timer::Round(round) => self.agree(Event::Timeout(round)),
            Timer::Resend => self.resend(),
        }
    }

    fn received(&mut self, from: OperatorIndex, message: Checked) {
        let refused = match message.content {
            Content::Statement(statement) => self.on_statement(from, statement),
            Content::Part(part) => {
                if part.dealer == self.at.me && !self.at.is_shown() {
                    Err(Refusal::OwnName)
                } else {
                    self.at.board.keep_part(&part).map(|()| self.out.keep(Entry::Part(part)))
                }
            }
            Content::Agreement(message) => self.on_agreement(from, message),
            Content::Summary(summary) => {
                self.answer(from, &summary);
                Ok(())
            }
        };
        if let Err(refusal) = refused {
            self.out.tell(Notice::Refused { from, refusal });
        }
    }

    fn on_statement(&mut self, from: OperatorIndex, statement: Statement) -> Result<(), Refusal> {
        let (author, place) = (statement.author, statement.claim.place());
        if author == self.at.me {
            let is_here = match place {
                Place::Commit => true,
                Place::Receipt(_)
                | Place::Ack(_)
                | Place::Complaint(_)
                | Place::ShareOpen(_)
                | Place::Done => {
                    self.at.board.said(author, place).is_some_and(|own| own.claim == statement.claim)
                }
            };
            return Err(if is_here { Refusal::Stale } else { Refusal::OwnName });
        }
        let is_opening = matches!(place, Place::Complaint(_) | Place::ShareOpen(_));
        let false_openings = self.at.false_openings.entry(from).or_default();
        if is_opening && *false_openings >= FALSE_OPENINGS_MAX {
            return Err(Refusal::Nonsense("complaint of one who brought false ones only"));
        }
        let blames = self.at.board.blames().len();
        let kept = self.at.board.keep(&statement);
        if let (true, Err(Refusal::Guilty(_))) = (is_opening, &kept) {
            *false_openings = false_openings.saturating_add(1);
        }
        // What proves a new guilt is kept as well, for the next life.
        if kept.is_ok() || self.at.board.blames().len() > blames {
            self.out.keep(Entry::Statement(statement));
        }
        kept
    }

    fn on_agreement(&mut self, from: OperatorIndex, message: Verified) -> Result<(), Refusal> {
        if !self.receives() {
            return self.hear_decision(from, message);
        }
        if !self.at.is_agreement_started {
            // Who decides without this operator tells it; before that it has nothing to say (R5).
            let Verified::Decided(_) = &message else { return Err(Refusal::NotNow("no agreement yet")) };
            self.at.is_agreement_started = true;
            self.agree(Event::Start);
        }
        self.agree(Event::Message { carrier: from, message });
        Ok(())
    }

    /// Who leaves has no vote. What was decided it is told with the next summary.
    fn hear_decision(&mut self, from: OperatorIndex, message: Verified) -> Result<(), Refusal> {
        match &message {
            Verified::Decided(_) => self.at.is_agreement_started = true,
            Verified::ValueRequest(_) | Verified::ValueReply { .. } => {}
            Verified::PrePrepare { .. }
            | Verified::Prepare(_)
            | Verified::Commit(_)
            | Verified::RoundChange(_) => return Err(Refusal::Stale),
        }
        self.agree(Event::Message { carrier: from, message });
        Ok(())
    }

    /// Whether this operator gets shares, and so has a say.
    fn receives(&self) -> bool {
        self.at.definition.is_receiver(self.at.me)
    }

    /// Makes a claim: kept, durable and sent. False if there is one in its place, which no rule lets happen.
    fn say(&mut self, claim: Claim) -> bool {
        let ceremony = self.at.definition.ceremony();
        let statement = Statement::sign(&ceremony, self.at.me, claim, self.at.secrets.identity());
        let kept = self.at.board.keep(&statement);
        match kept {
            Ok(()) => {
                self.out.keep(Entry::Statement(statement.clone()));
                self.out.broadcast(Message::Statement(statement));
                true
            }
            Err(refusal) => {
                self.out.tell(Notice::Refused { from: self.at.me, refusal });
                false
            }
        }
    }

    /// Follows rules until none has anything to do.
    fn progress(&mut self) {
        while self.receipt()
            || self.show()
            || self.verdict()
            || self.begin_agreement()
            || self.propose()
            || self.open_shares()
            || self.compute()
        {}
        self.set_timers();
        self.tell();
    }

    // R1
    fn commit(&mut self) {
        if self.at.board.has_committed(self.at.me) || !self.at.definition.is_dealer(self.at.me) {
            return;
        }
        let parts = dealing::part_hashes(&self.at.definition, &self.at.dealing);
        let _ = self.say(Claim::Commit(CommitClaim { parts }));
    }

    // R2
    fn receipt(&mut self) -> bool {
        // What is dealt anew is not chosen, so that nothing is gained by dealing last.
        let is_too_late = self.at.is_shown() && self.at.definition.old().is_none();
        if is_too_late || self.at.is_decided() || !self.receives() {
            return false;
        }
        let dealing = self
            .dealers()
            .filter_map(|dealer| self.at.board.dealing(dealer))
            .find(|dealing| self.at.board.said(self.at.me, Place::Receipt(dealing.dealer)).is_none());
        let Some(dealing) = dealing else { return false };
        self.say(Claim::Receipt(dealing))
    }

    // R3
    fn show(&mut self) -> bool {
        let definition = &self.at.definition;
        let is_time = definition.staying().all(|dealer| self.at.board.has_committed(dealer))
            || (self.certified() >= definition.dealings_wanted() && self.at.are_commits_over);
        if !is_time || !definition.is_dealer(self.at.me) || self.at.is_shown() || self.at.is_decided() {
            return false;
        }
        let mut is_shown = false;
        for part in self.at.dealing.clone() {
            if self.at.board.keep_part(&part).is_ok() {
                self.out.keep(Entry::Part(part.clone()));
                self.out.broadcast(Message::Part(part));
                is_shown = true;
            }
        }
        is_shown
    }

    // R4
    fn verdict(&mut self) -> bool {
        if !self.receives() {
            return false;
        }
        let verdict = self.dealers().find_map(|dealer| self.verdict_on(dealer));
        verdict.is_some_and(|claim| self.say(claim))
    }

    fn verdict_on(&self, dealer: OperatorIndex) -> Option<Claim> {
        let board = &self.at.board;
        let dealing = board.dealing(dealer)?;
        let is_agreed = board.qualified().is_some_and(|qualified| qualified.contains(&dealing));
        let is_of_use =
            is_agreed || (!self.at.is_decided() && board.is_eligible(dealer) && board.is_certified(dealing));
        let places = [Place::Ack(dealer), Place::Complaint(dealer)];
        if !is_of_use || places.iter().any(|place| board.said(self.at.me, *place).is_some()) {
            return None;
        }
        let parts = board.public(dealer)?;
        let bad = parts
            .iter()
            .zip(0u16..)
            .find(|(part, _)| part.open(&self.at.definition, self.at.me, &self.at.secrets).is_none());
        Some(match bad {
            None => Claim::Ack(dealing),
            Some((part, index)) => {
                let disclosure = part.disclose(&self.at.secrets).0;
                Claim::Complaint(ComplaintClaim { dealing, part: index, disclosure })
            }
        })
    }

    // R5
    fn begin_agreement(&mut self) -> bool {
        if self.at.is_agreement_started || !self.receives() {
            return false;
        }
        let (definition, candidates) = (&self.at.definition, self.candidates());
        let operators = definition.quorum().operators();
        let have_all = candidates.len() >= definition.dealings_wanted()
            && definition.staying().all(|dealer| candidates.iter().any(|dealing| dealing.dealer == dealer))
            && candidates.iter().all(|dealing| self.at.board.acks(*dealing) == operators);
        if !have_all && !self.at.are_verdicts_over {
            return false;
        }
        self.at.is_agreement_started = true;
        self.agree(Event::Start);
        true
    }

    /// The dealings that this operator would qualify.
    fn candidates(&self) -> Vec<DealingId> {
        let dealings = self.dealers().filter_map(|dealer| self.at.board.dealing(dealer));
        let is_valid = |dealing: &DealingId| {
            judge(&self.at.definition, &self.at.board, self.at.me, *dealing) == Validity::Valid
        };
        dealings.filter(is_valid).collect()
    }

    // R6
    fn propose(&mut self) -> bool {
        let Some(round) = self.at.proposal_wanted else { return false };
        let candidates = self.candidates();
        if candidates.len() < self.at.definition.dealings_of_round(round) {
            return false;
        }
        self.at.proposal_wanted = None;
        self.agree(Event::Input { round, value: value_of(&candidates) });
        true
    }

    // R7
    fn decided(&mut self, value: &Value) {
        // Of a value that is no list q operators would be guilty.
        let Some(dealings) = dealings_of(&self.at.definition, value) else { return };
        self.at.board.qualify(dealings.clone());
        self.out.tell(Notice::Qualified(dealings));
    }

    // R8
    fn open_shares(&mut self) -> bool {
        let board = &self.at.board;
        let asked = board.qualified().into_iter().flatten().copied().find(|dealing| {
            let has_own = board.said(self.at.me, Place::Ack(dealing.dealer)).is_some();
            let is_open = board.said(self.at.me, Place::ShareOpen(dealing.dealer)).is_some();
            has_own
                && !is_open
                && board.has_complaint(dealing.dealer)
                && board.public(dealing.dealer).is_some()
        });
        let Some(dealing) = asked else { return false };
        let parts = board.public(dealing.dealer).unwrap_or_default();
        let disclosures = parts.iter().map(|part| part.disclose(&self.at.secrets).0).collect();
        self.say(Claim::ShareOpen(ShareOpenClaim { dealing, disclosures }))
    }

    // R9
    fn compute(&mut self) -> bool {
        if self.at.outcome.is_some() || !self.at.is_decided() {
            return false;
        }
        match self.outcome() {
            Ok(outcome) => {
                let hash = outcome.public.hash(&self.at.definition);
                self.at.outcome = Some(outcome);
                if self.receives() && self.at.board.said(self.at.me, Place::Done).is_none() {
                    self.say(Claim::Done(hash));
                }
                true
            }
            Err(_) => false,
        }
    }

    fn outcome(&self) -> Result<Outcome, Error> {
        let (definition, board) = (&self.at.definition, &self.at.board);
        if !self.receives() {
            return Ok(Outcome { public: PublicResult::of(definition, board)?, secret: None });
        }
        let lacks = Error::MissingDealing(self.at.me);
        let has_share = |dealing: &DealingId| {
            board.said(self.at.me, Place::Ack(dealing.dealer)).is_some()
                || board.opened(dealing.dealer).count() >= definition.quorum().quorum()
        };
        if !board.qualified().unwrap_or_default().iter().all(has_share) {
            return Err(lacks);
        }
        let secret = SecretShares::of(definition, board, self.at.me, &self.at.secrets)?.ok_or(lacks)?;
        let public = PublicResult::of(definition, board)?;
        secret.check(&public)?;
        Ok(Outcome { public, secret: Some(secret) })
    }

    fn set_timers(&mut self) {
        let (wanted, needed) = (self.at.definition.dealings_wanted(), self.at.definition.dealings_needed());
        let (now_ms, timing) = (self.now_ms, self.at.timing);
        if !self.at.are_commits_timed && !self.at.is_shown() && self.at.board.committed().count() >= wanted {
            self.at.are_commits_timed = true;
            self.out.set_timer(Timer::Commits, now_ms.saturating_add(timing.commits_ms));
        }
        let acks =
            self.dealers().filter(|dealer| self.at.board.said(self.at.me, Place::Ack(*dealer)).is_some());
        let acks = acks.count();
        // From as many as will do, and anew from as many as are wanted.
        let step = usize::from(acks >= needed) + usize::from(acks >= wanted);
        if self.at.verdicts_timed < step && !self.at.is_agreement_started {
            self.at.verdicts_timed = step;
            self.out.set_timer(Timer::Verdicts, now_ms.saturating_add(timing.verdicts_ms));
        }
    }

    /// How many dealings q operators gave receipts for.
    fn certified(&self) -> usize {
        let dealings = self.dealers().filter_map(|dealer| self.at.board.dealing(dealer));
        dealings.filter(|dealing| self.at.board.is_certified(*dealing)).count()
    }

    fn tell(&mut self) {
        let blames = self.at.board.blames();
        for blame in &blames[self.at.blames_told.min(blames.len())..] {
            self.out.tell(Notice::Blamed(blame.clone()));
        }
        self.at.blames_told = blames.len();
        let quorum = self.at.definition.quorum().quorum();
        // R10
        if let (false, Some(outcome)) = (self.at.is_finished, &self.at.outcome) {
            let done = Claim::Done(outcome.public.hash(&self.at.definition));
            let said = |operator: &OperatorIndex| self.at.board.said(*operator, Place::Done);
            let confirmed =
                self.members().filter_map(|operator| said(&operator)).filter(|own| own.claim == done);
            if confirmed.count() >= quorum {
                self.at.is_finished = true;
                self.out.tell(Notice::Finished);
            }
        }
        let definition = &self.at.definition;
        let eligible = definition.dealers().filter(|dealer| self.at.board.is_eligible(*dealer));
        if eligible.count() < definition.dealings_needed() && !self.at.is_decided() && !self.at.is_hopeless {
            self.at.is_hopeless = true;
            self.out.tell(Notice::Hopeless(self.at.blames()));
        }
    }

    /// One step of the agreement, and what it asks for.
    fn agree(&mut self, event: Event) {
        let mut judge = Judge {
            definition: &self.at.definition,
            me: self.at.me,
            secrets: &self.at.secrets,
            board: &self.at.board,
        };
        for effect in self.at.agreement.step(&mut judge, event) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(record) => self.out.keep(Entry::Vote(record)),
            Effect::Broadcast(message) => self.out.broadcast(Message::Agreement(message)),
            Effect::Send(to, message) => self.out.send(to, Message::Agreement(message)),
            Effect::SetTimer(round) => {
                let length_ms = self.at.timing.round_ms << round.0.min(ROUND_DOUBLINGS_MAX);
                self.out.set_timer(Timer::Round(round), self.now_ms.saturating_add(length_ms));
            }
            // Everything is sent again with every summary.
            Effect::KeepSending(_) => {}
            Effect::NeedInput(round) => self.at.proposal_wanted = Some(round),
            Effect::NeedValue(digest) => {
                let request = ValueRequest { instance: agreement::INSTANCE, digest };
                self.out.broadcast(Message::Agreement(aequa_types::Message::ValueRequest(request)));
            }
            Effect::Decided { value, .. } => self.decided(&value),
            Effect::Note(note) => self.note(note),
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Conflict(votes) => {
                let (one, other) = *votes;
                let Ok(evidence) = Evidence::new(one, other) else { return };
                let blames = self.at.board.blames().len();
                let (operator, proof) = (evidence.offence().operator, Proof::Votes(evidence.clone()));
                self.at.board.blame(Blame::proven(operator, Fault::DoubleVote, proof));
                if self.at.board.blames().len() > blames {
                    self.out.keep(Entry::Evidence(evidence));
                }
            }
            Note::Refused(from, _) => {
                let refusal = Refusal::Nonsense("vote that the agreement refuses");
                self.out.tell(Notice::Refused { from, refusal });
            }
            Note::RoundEntered(_)
            | Note::ProposalAccepted(..)
            | Note::PrepareQuorum(_)
            | Note::CommitQuorum(_)
            | Note::TimedOut(..)
            | Note::SignerRefused(_) => {}
        }
    }

    // R11, the half that asks.
    fn resend(&mut self) {
        self.out.set_timer(Timer::Resend, self.now_ms.saturating_add(self.at.timing.resend_ms));
        if self.at.is_finished {
            return;
        }
        self.ask();
        if self.at.is_agreement_started && !self.at.is_decided() {
            for message in self.at.agreement.newest() {
                self.out.broadcast(Message::Agreement(message));
            }
        }
    }

    fn ask(&mut self) {
        self.at.attempt = self.at.attempt.wrapping_add(1);
        self.out.broadcast(Message::Summary(self.at.board.summary(self.at.attempt)));
    }

    // R11, the half that answers: also after the end, and as often as an honest operator asks.
    fn answer(&mut self, from: OperatorIndex, summary: &Summary) {
        let again_ms =
            self.at.answered.get(&from).map(|at_ms| at_ms.saturating_add(self.at.timing.resend_ms / 2));
        if from == self.at.me || again_ms.is_some_and(|again_ms| self.now_ms < again_ms) {
            return;
        }
        self.at.answered.insert(from, self.now_ms);
        for message in self.at.board.lacking(self.at.me, summary) {
            self.out.send(from, message);
        }
        // Who has finished asks nobody of its own accord, and may have to open shares for who has not (R8).
        if self.at.is_finished && summary.attempt != 0 && self.at.board.lacks(summary) {
            self.out.send(from, Message::Summary(self.at.board.summary(0)));
        }
        let decided = self.at.agreement.decided().filter(|_| !summary.is_decided).cloned();
        let Some(certificate) = decided else { return };
        let Some(value) = self.at.agreement.value(&certificate.digest) else { return };
        let reply = ValueReply { instance: agreement::INSTANCE, value: value.bytes().clone() };
        let decided = aequa_types::Message::Decided(Decided { certificate });
        self.out.send(from, Message::Agreement(decided));
        self.out.send(from, Message::Agreement(aequa_types::Message::ValueReply(reply)));
    }

    fn members(&self) -> impl Iterator<Item = OperatorIndex> + use<> {
        self.at.definition.quorum().members()
    }

    fn dealers(&self) -> impl Iterator<Item = OperatorIndex> {
        self.at.definition.dealers()
    }
}
