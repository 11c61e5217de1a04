//! A ceremony as it runs: steps of the machine, timers, signing, progress.

use super::desk::{Event, Heard, Said, verdict};
use super::home::Home;
use super::meeting::DefinitionClaim;
use super::member::Member;
use super::plan::Plan;
use super::signing::Signing;
use super::transcript::Transcript;
use super::watch::{CeremonyWatch, Ending, word};
use crate::audit::{entries, record_or_complain};
use crate::cluster::Addresses;
use crate::console;
use crate::epochs::{self, Promise};
use crate::exit::ExitError;
use aequa_crypto::identity::IdentityKey;
use aequa_crypto::lock::VerifiedLock;
use aequa_dkg::{Blame, Ceremony, Input, Notice, Outbound, Output, Phase, Refusal, Timer};
use aequa_p2p::{Message as Frame, Network, Topic, Verdict};
use aequa_types::{ClusterId, OperatorIndex, wire};
use ssz::Encode as _;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Between two times that what others may lack is sent again.
const SEND_AGAIN: Duration = Duration::from_secs(1);
/// What is told of other definitions: a member may have ever others.
const DIFFERENCES_MAX: usize = 64;
/// How long who has finished stays when all have signed: the last signatures may be on their way.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long who has finished answers those that have not.
const LINGER: Duration = Duration::from_secs(600);

/// The ceremony as it runs.
pub struct Part<'a> {
    pub(super) member: &'a Member,
    pub(super) addresses: Addresses,
    pub(super) plan: &'a Plan,
    pub(super) home: &'a Home,
    /// What the own node has said to the end of its epoch.
    pub(super) promise: Option<Promise>,
    pub(super) me: OperatorIndex,
    pub(super) ceremony: Ceremony,
    pub(super) transcript: Transcript,
    pub(super) network: &'a Network,
    pub(super) signer: IdentityKey,
    pub(super) timers: Vec<(Timer, u64)>,
    pub(super) started: Instant,
    pub(super) shown: Vec<Phase>,
    pub(super) signing: Option<Signing>,
    pub(super) quorum_since: Option<Instant>,
    /// The lock as it was written last, and the signatures in it: of its operators, and of those that leave.
    pub(super) written: Option<(VerifiedLock, (usize, usize))>,
    /// When an operator was heard to have got further.
    pub(super) news: Instant,
    /// Operators that sent signatures that do not hold: honest ones never do.
    pub(super) ignored: BTreeSet<OperatorIndex>,
    /// Other definitions that operators have, and whether the difference was shown.
    pub(super) differs: BTreeSet<(OperatorIndex, ClusterId, bool)>,
    /// Metrics and log events.
    pub(super) watch: Arc<CeremonyWatch>,
}

impl Part<'_> {
    /// Takes part to the end.
    pub async fn run(
        mut self,
        first: Output,
        mut events: mpsc::Receiver<Event>,
    ) -> Result<VerifiedLock, ExitError> {
        self.carry_out(first)?;
        let mut again = tokio::time::interval(SEND_AGAIN);
        loop {
            let due = self.timers.iter().map(|(_, at_ms)| *at_ms).min();
            let due = due.map_or(self.started + 2 * self.member.timeout, |at_ms| {
                self.started + Duration::from_millis(at_ms)
            });
            tokio::select! {
                Some(event) = events.recv() => match event {
                    Event::Met(operator) => {
                        self.tell_definition(operator, &DefinitionClaim::short(&self.plan.definition));
                    }
                    Event::Heard(Heard { from, said, judge }) => {
                        let verdict = self.take(from, said)?;
                        // Its stream may have ended meanwhile.
                        let _ = judge.send(verdict);
                    }
                },
                () = tokio::time::sleep_until(due.into()) => self.fire()?,
                _ = again.tick() => {
                    self.advance()?;
                    self.send_own();
                    self.write_when_signed()?;
                }
                _ = tokio::signal::ctrl_c() => {
                    let stopped = || {
                        self.watch.interrupted();
                        ExitError::failure("stopped").hint("the same command goes on")
                    };
                    return self.written.map(|(lock, _)| lock).ok_or_else(stopped);
                }
            }
            self.show();
            match &self.written {
                Some((lock, _)) if self.news.elapsed() > self.linger() => return Ok(lock.clone()),
                None if self.started.elapsed() > self.member.timeout => return Err(self.gave_up()),
                None if self.is_too_late() => {
                    return Err(ExitError::refused("the activation height has come, and no lock")
                        .hint("begin another resharing, with a later --activation-height"));
                }
                Some(_) | None => {}
            }
        }
    }

    /// How long others may still need answers after the end.
    fn linger(&self) -> Duration {
        let signed = self.signing.as_ref().map_or(0, Signing::signed);
        let is_all = signed == self.plan.definition.operators.len();
        if is_all || self.promise == Some(Promise::Refused) { LAST_WORDS } else { LINGER }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn take(&mut self, from: OperatorIndex, said: Said) -> Result<Verdict, ExitError> {
        let taken = match said {
            Said::Ceremony(message) => {
                self.watch.took(&message);
                let output = self.ceremony.step(self.now_ms(), Input::Received { from, message: *message });
                let refused = self.carry_out(output)?;
                return Ok(refused.map_or(Verdict::Accept, |refusal| verdict(refusal.kind())));
            }
            Said::OtherDefinition(claim) => {
                self.take_other_definition(from, &claim);
                return Ok(Verdict::Useless);
            }
            // It is not listened to any more.
            Said::Validators(_) | Said::Lock(_) | Said::Leaver(_) if self.ignored.contains(&from) => {
                return Ok(Verdict::Useless);
            }
            Said::Validators(chunk) => self.signing.as_mut().map(|signing| signing.take_chunk(from, chunk)),
            Said::Lock(share) => self.signing.as_mut().map(|signing| signing.take_share(from, share)),
            Said::Leaver(signature) => self.signing.as_mut().map(|signing| signing.take_leaver(signature)),
        };
        if let Some(Err(error)) = taken {
            let who = self.plan.name_of(from);
            console::line(format!("operator {who} sent what does not hold, and is not listened to: {error}"));
            self.ignored.insert(from);
            return Ok(Verdict::BadSignature);
        }
        self.advance()?;
        Ok(Verdict::Accept)
    }

    /// Tells both operators once in what their definitions differ.
    fn take_other_definition(&mut self, from: OperatorIndex, claim: &DefinitionClaim) {
        let own = &self.plan.definition;
        if self.differs.len() >= DIFFERENCES_MAX {
            return;
        }
        let is_first = self.differs.insert((from, claim.hash, false));
        if is_first {
            let who = self.plan.name_of(from);
            console::line(format!("operator {who} has another definition, {}: it is not heard", claim.hash));
            self.tell_definition(from, &DefinitionClaim::full(own));
        }
        if let Some(difference) = claim.difference(own)
            && self.differs.insert((from, claim.hash, true))
        {
            console::line(format!("  {difference}"));
        }
    }

    fn tell_definition(&self, to: OperatorIndex, claim: &DefinitionClaim) {
        self.network.send(to, Topic::Dkg, &Frame::new(wire::DEFINITION, claim.as_ssz_bytes()));
    }

    fn fire(&mut self) -> Result<(), ExitError> {
        let now_ms = self.now_ms();
        let (due, waiting): (Vec<_>, Vec<_>) = self.timers.drain(..).partition(|(_, at_ms)| *at_ms <= now_ms);
        self.timers = waiting;
        for (timer, _) in due {
            let output = self.ceremony.step(self.now_ms(), Input::Timer(timer));
            self.carry_out(output)?;
        }
        Ok(())
    }

    /// Durable first, then others hear of it. Gives what was refused of the message that led to it.
    fn carry_out(&mut self, mut output: Output) -> Result<Option<Refusal>, ExitError> {
        for change in output.take_timers() {
            self.timers.retain(|(timer, _)| !timer.is_replaced_by(change.timer));
            self.timers.push((change.timer, change.at_ms));
        }
        let durable = output
            .persisted(&mut self.transcript)
            .map_err(|error| ExitError::failure(error).hint("the same command goes on when the disk does"))?;
        let send = durable.send.into_iter();
        #[cfg(feature = "e2e")]
        let send = send.flat_map(|outbound| self.instead(outbound));
        send.for_each(|outbound| self.send(outbound));
        let is_hopeless = durable.tell.iter().any(|notice| matches!(notice, Notice::Hopeless(_)));
        if is_hopeless {
            self.watch.ended(Ending::Failed);
        }
        let refused = durable.tell.into_iter().filter_map(|notice| tell(self.plan, notice)).next();
        if self.signing.is_none()
            && let Some(outcome) = self.ceremony.outcome()
        {
            let quorum = self.plan.machine.quorum();
            self.signing = Some(Signing::new(self.plan, outcome, quorum, self.me));
            console::line("the keys are there; signing the lock");
            self.advance()?;
            self.send_own();
        }
        Ok(refused)
    }

    fn send(&self, outbound: Outbound) {
        let frame = Frame::new(wire::CEREMONY, outbound.message().encode());
        match outbound {
            Outbound::Broadcast(_) => self.network.broadcast(Topic::Dkg, &frame),
            Outbound::Send(to, _) => self.network.send(to, Topic::Dkg, &frame),
        }
    }

    /// Gives the lock its hash when that can be, and signs it when that may be.
    fn advance(&mut self) -> Result<(), ExitError> {
        let fail = |error| ExitError::failure(format!("the lock cannot be signed: {error}"));
        let Some(signing) = &mut self.signing else { return Ok(()) };
        if !signing.advance().map_err(fail)? || signing.has_signed() || !self.has_promise()? {
            return Ok(());
        }
        if self.home.pledge().is_some() {
            epochs::sign(self.home.data_dir()).map_err(|error| {
                ExitError::failure(format!("cannot note that the lock is signed: {error}"))
            })?;
        }
        let signed = entries::lock_signed(self.plan.definition.definition_hash, self.home.pledge());
        record_or_complain(self.home.data_dir(), &signed);
        if let (Some(signing), Some(outcome)) = (&mut self.signing, self.ceremony.outcome()) {
            signing.sign(&self.signer, outcome.secret.as_ref());
        }
        Ok(())
    }

    /// Whether this operator may sign the lock: its node has promised to end with the last height before it.
    fn has_promise(&mut self) -> Result<bool, ExitError> {
        let Some(pledge) = self.home.pledge().filter(|_| self.promise != Some(Promise::Given)) else {
            return Ok(true);
        };
        if self.written.is_some() {
            // The lock is there without it, and may be in force.
            return Ok(false);
        }
        let last = pledge.last_height.0;
        let promise = epochs::ask(self.home.data_dir(), pledge)
            .map_err(|error| ExitError::failure(format!("cannot ask the node: {error}")))?;
        if self.promise != Some(promise) {
            console::line(match promise {
                Promise::Given => format!("the node will end its epoch after height {last}"),
                Promise::Refused => {
                    format!("the node has begun a height above {last}: others have to sign the lock")
                }
                Promise::Open => {
                    format!("asking the node to end its epoch after height {last}: it has to run for that")
                }
            });
            self.promise = Some(promise);
            self.news = Instant::now();
        }
        Ok(promise == Promise::Given)
    }

    /// Whether the lock will not be made any more: this operator's node has gone too far, and so have others.
    fn is_too_late(&self) -> bool {
        self.promise == Some(Promise::Refused)
            && self.written.is_none()
            && self.signing.as_ref().is_some_and(|signing| !signing.has_quorum())
            && self.news.elapsed() > self.member.wait
    }

    fn send_own(&self) {
        let claim = DefinitionClaim::short(&self.plan.definition);
        self.network.broadcast(Topic::Dkg, &Frame::new(wire::DEFINITION, claim.as_ssz_bytes()));
        let Some(signing) = &self.signing else { return };
        #[cfg(feature = "e2e")]
        if self.member.fault == Some(super::faulty::Misbehaviour::Silence) {
            return;
        }
        for chunk in signing.own_chunks() {
            self.network.broadcast(Topic::Dkg, &Frame::new(wire::VALIDATOR_SHARES, chunk.as_ssz_bytes()));
        }
        if let Some(share) = signing.own_share() {
            self.network.broadcast(Topic::Dkg, &Frame::new(wire::LOCK_SHARE, share.as_ssz_bytes()));
        }
        for leaver in signing.leavers() {
            self.network.broadcast(Topic::Dkg, &Frame::new(wire::LEAVER_SIGNATURE, leaver.as_ssz_bytes()));
        }
    }

    /// Writes the lock when the ceremony has ended and all have signed it, or q have and the others are late. One who
    /// signs later still is written into it too, so that in the end all have the same file.
    fn write_when_signed(&mut self) -> Result<(), ExitError> {
        let (Some(signing), Some(outcome)) = (&self.signing, self.ceremony.outcome()) else { return Ok(()) };
        let (signed, operators) = (signing.signed(), self.plan.definition.operators.len());
        if !signing.has_quorum() || !self.ceremony.is_finished() {
            return Ok(());
        }
        let since = *self.quorum_since.get_or_insert_with(Instant::now);
        let is_waiting = signed < operators && since.elapsed() < self.member.wait;
        let said = (signed, signing.leavers().len());
        if is_waiting || self.written.as_ref().is_some_and(|(_, before)| *before == said) {
            return Ok(());
        }
        let lock = signing
            .complete()
            .map_err(|error| ExitError::failure(format!("the lock does not hold: {error}")))?;
        // Encrypting keys takes a tenth of a second each.
        let write = || match (&self.written, &outcome.secret) {
            (None, Some(secret)) => self.home.write(&lock, secret, &self.addresses),
            (Some(_), _) | (None, None) => self.home.write_lock(&lock),
        };
        let written = tokio::task::block_in_place(|| self.watch.persist(write));
        let written = written.and_then(|()| match signed == operators {
            // Nobody needs this operator's dealing again, and nobody shall find what it was made from.
            true => self.home.forget_seed(),
            false => Ok(()),
        });
        let path = self.home.lock();
        written.map_err(|error| ExitError::failure(format!("cannot write {}: {error}", path.display())))?;
        if self.written.is_none() && outcome.secret.is_some() {
            record_or_complain(self.home.data_dir(), &entries::shares_made(&lock, self.me));
        }
        let leavers = match said.1 {
            0 => String::new(),
            leavers => format!(", and {leavers} that leave"),
        };
        console::line(format!("the lock is {}, signed by {signed} of {operators}{leavers}", path.display()));
        self.home.let_go();
        if signed < operators {
            console::line("waiting for those that have not signed; it may be stopped at any time (Ctrl-C)");
        }
        self.written = Some((lock, said));
        self.news = Instant::now();
        Ok(())
    }

    /// A line when somebody got further.
    fn show(&mut self) {
        let progress = self.ceremony.progress();
        if progress != self.shown {
            let seconds = self.started.elapsed().as_secs();
            let operators = self.plan.machine.participants().zip(&progress);
            // Whoever leaves may be gone.
            let shown = operators
                .filter(|(place, phase)| self.plan.machine.is_receiver(*place) || **phase != Phase::Silent);
            let words: Vec<String> = shown
                .map(|(place, phase)| format!("{} {}", self.plan.name_of(place), word(*phase)))
                .collect();
            console::line(format!("{seconds:>4} s  {}", words.join("  ")));
            let own = |progress: &[Phase]| progress.get(self.me.as_usize()).copied();
            if let Some(reached) = own(&progress).filter(|phase| own(&self.shown) != Some(*phase)) {
                self.watch.reached(reached, self.started.elapsed());
            }
            self.watch.write();
            self.news = Instant::now();
            self.shown = progress;
        }
    }

    fn gave_up(&self) -> ExitError {
        self.watch.ended(Ending::TimedOut);
        let blames = self.ceremony.blames();
        let who = named(self.plan, &blames);
        let who = if who.is_empty() { "signatures of the lock are missing".into() } else { who.join(", ") };
        ExitError::failure(format!("the ceremony has not ended in time: {who}"))
            .hint(
            "the same command goes on; if the others have ended, put the cluster-lock.json of one of them here first",
        )
    }
}

/// Tells an operator what it should know; gives what concerns the sender of a message alone.
fn tell(plan: &Plan, notice: Notice) -> Option<Refusal> {
    match notice {
        Notice::Refused { refusal, .. } => return Some(refusal),
        Notice::Blamed(blame) => {
            let proven = if blame.proof.is_some() { ", proven" } else { "" };
            let who = plan.name_of(blame.operator);
            console::line(format!("operator {who} is to blame: {:?}{proven}", blame.fault));
        }
        Notice::Qualified(dealings) => {
            let dealers: Vec<String> = dealings.iter().map(|dealing| plan.name_of(dealing.dealer)).collect();
            console::line(format!("agreed: the keys are made from the dealings of {}", dealers.join(", ")));
        }
        Notice::Finished => console::line("q operators have the same keys"),
        Notice::Hopeless(blames) => {
            let who = named(plan, &blames).join(", ");
            console::line(format!("this ceremony cannot end any more: {who}"));
        }
    }
    None
}

fn named(plan: &Plan, blames: &[Blame]) -> Vec<String> {
    let named = |blame: &Blame| format!("operator {}: {:?}", plan.name_of(blame.operator), blame.fault);
    blames.iter().map(named).collect()
}
