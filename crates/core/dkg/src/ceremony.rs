//! The machine: one operator in one ceremony. Every transition names its rule (see the crate).

mod judge;
mod rules;

use crate::blame::{Blame, Fault};
use crate::board::Board;
use crate::dealing::{self, Part};
use crate::message::{Checked, Entry};
use crate::output::{Output, Timer};
use crate::result::Outcome;
use crate::secrets::Secrets;
use crate::statement::{Place, dealing_hash};
use crate::{Definition, Error, Refusal, agreement};
use aequa_qbft::{Instance, Restored};
use aequa_types::{OperatorIndex, Record, Round, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long is waited for whom. What is safe does not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// For commits of the others once q are here: who is not there by then deals no part of the keys.
    pub commits_ms: u64,
    /// For acks and complaints once q dealings are found good here. Complaints of operators that are as late as this
    /// are answered after the agreement.
    pub verdicts_ms: u64,
    /// Length of the first round of the agreement; each is twice as long as the one before.
    pub round_ms: u64,
    /// Between two summaries.
    pub resend_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self { commits_ms: 30_000, verdicts_ms: 30_000, round_ms: 4_000, resend_ms: 1_000 }
    }
}

/// What happens to a ceremony.
#[derive(Debug, Clone, PartialEq, Eq)]
// Moved once into `step`, never stored.
#[allow(clippy::large_enum_variant)]
pub enum Input {
    /// A message arrived.
    Received {
        /// Who handed it over; answers go there.
        from: OperatorIndex,
        /// The message.
        message: Checked,
    },
    /// A timer fired.
    Timer(Timer),
}

/// How far an operator has come, as far as is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing was heard of it.
    Silent,
    /// It committed.
    Committed,
    /// Its dealing is here.
    Dealt,
    /// It acknowledged the dealings of q operators.
    Checked,
    /// It has its shares of the keys.
    Done,
}

/// One operator's part in a ceremony.
pub struct Ceremony {
    definition: Arc<Definition>,
    me: OperatorIndex,
    secrets: Secrets,
    timing: Timing,
    /// The own dealing, as long as it may have to be shown.
    dealing: Vec<Part>,
    board: Board,
    agreement: Instance,
    is_agreement_started: bool,
    /// The round in which a value to propose was asked for, and is not there yet.
    proposal_wanted: Option<Round>,
    are_commits_timed: bool,
    are_commits_over: bool,
    /// How often the timer for verdicts was set.
    verdicts_timed: usize,
    are_verdicts_over: bool,
    outcome: Option<Outcome>,
    is_finished: bool,
    is_hopeless: bool,
    /// Proven faults that were told.
    blames_told: usize,
    /// How many summaries were sent.
    attempt: u64,
    /// When the last summary of an operator was answered.
    answered: BTreeMap<OperatorIndex, u64>,
    /// False complaints and openings that each brought.
    false_openings: BTreeMap<OperatorIndex, u32>,
}

impl Ceremony {
    /// A ceremony in which this operator has said nothing yet.
    pub fn new(
        definition: Arc<Definition>,
        me: OperatorIndex,
        secrets: Secrets,
        timing: Timing,
    ) -> Result<Self, Error> {
        Self::restore(definition, me, secrets, timing, Vec::new())
    }

    /// The ceremony as it was when its last entry became durable. What was said then is bound for ever.
    pub fn restore(
        definition: Arc<Definition>,
        me: OperatorIndex,
        secrets: Secrets,
        timing: Timing,
        entries: Vec<Entry>,
    ) -> Result<Self, Error> {
        let participant = definition.participant(me).ok_or(Error::ForeignSecrets(me))?;
        let is_own = participant.identity == secrets.identity().public()
            && participant.encryption == secrets.decryption().public();
        if !is_own {
            return Err(Error::ForeignSecrets(me));
        }
        let mut board = Board::new(definition.clone());
        let (records, values) = replay(&definition, &mut board, entries)?;
        let is_agreement_started = !records.is_empty();
        let agreement =
            Instance::restore(agreement::INSTANCE, me, definition.quorum(), Restored { records, values });
        check_old_shares(&definition, me, &secrets)?;
        let dealing = match board.is_shown(me) || !definition.is_dealer(me) {
            true => Vec::new(),
            false => dealing::deal(&definition, me, &secrets)?,
        };
        check_promised(&definition, me, &board, &dealing)?;
        Ok(Self {
            definition,
            me,
            secrets,
            timing,
            dealing,
            blames_told: board.blames().len(),
            board,
            agreement,
            is_agreement_started,
            proposal_wanted: None,
            are_commits_timed: false,
            are_commits_over: false,
            verdicts_timed: 0,
            are_verdicts_over: false,
            outcome: None,
            is_finished: false,
            is_hopeless: false,
            attempt: 0,
            answered: BTreeMap::new(),
            false_openings: BTreeMap::new(),
        })
    }

    /// What came out, once this operator has its shares, or knows the keys where it leaves.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Whether a quorum has its shares. The ceremony goes on serving those who have not.
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// How far each operator has come, in order; after them those that leave.
    pub fn progress(&self) -> Vec<Phase> {
        self.definition.participants().map(|operator| self.phase_of(operator)).collect()
    }

    fn phase_of(&self, operator: OperatorIndex) -> Phase {
        let acked = |dealer: &OperatorIndex| self.board.said(operator, Place::Ack(*dealer)).is_some();
        let acks = self.definition.dealers().filter(acked);
        if self.board.said(operator, Place::Done).is_some() {
            Phase::Done
        } else if acks.count() >= self.definition.dealings_needed() {
            Phase::Checked
        } else if self.board.public(operator).is_some() {
            Phase::Dealt
        } else if self.board.has_committed(operator) {
            Phase::Committed
        } else {
            Phase::Silent
        }
    }

    /// Who did what: what is proven, and who is silent where this operator waits. The answer to "why does it not
    /// end". Who leaves owes nothing.
    pub fn blames(&self) -> Vec<Blame> {
        let mut blames = self.board.blames().to_vec();
        if self.is_finished {
            return blames;
        }
        for operator in self.definition.quorum().members().filter(|operator| *operator != self.me) {
            let is_proven = blames.iter().any(|blame| blame.operator == operator);
            if let Some(fault) = self.silence_of(operator).filter(|_| !is_proven) {
                blames.push(Blame::silent(operator, fault));
            }
        }
        blames
    }

    fn silence_of(&self, operator: OperatorIndex) -> Option<Fault> {
        match self.phase_of(operator) {
            Phase::Silent if !self.definition.is_dealer(operator) => {
                Some(Fault::NoAck).filter(|_| self.are_verdicts_over)
            }
            Phase::Silent => Some(Fault::NoCommit),
            Phase::Committed => Some(Fault::NoDealing).filter(|_| self.is_shown()),
            Phase::Dealt => Some(Fault::NoAck).filter(|_| self.are_verdicts_over),
            Phase::Checked => Some(Fault::NoDone).filter(|_| self.outcome.is_some()),
            Phase::Done => None,
        }
    }

    /// Whether the own dealing was shown: receipts end here (R2, R3).
    fn is_shown(&self) -> bool {
        self.board.is_shown(self.me)
    }

    fn is_decided(&self) -> bool {
        self.board.qualified().is_some()
    }

    /// Changes the own dealing, for operators in tests that are meant to be faulty.
    #[cfg(test)]
    pub(crate) fn corrupt(&mut self, change: impl Fn(&Definition, &Part) -> Part) {
        let corrupted = self.dealing.iter().map(|part| change(&self.definition, part)).collect();
        self.dealing = corrupted;
    }

    /// Deals each of these receivers the shares of another, before [`Ceremony::start`]: what a faulty operator of a test
    /// does.
    #[cfg(any(test, feature = "e2e"))]
    pub fn deal_badly_to(&mut self, victims: &[OperatorIndex]) {
        let (definition, secrets) = (&self.definition, &self.secrets);
        let parts = self.dealing.iter();
        self.dealing =
            parts.filter_map(|part| dealing::with_wrong_shares(definition, secrets, part, victims)).collect();
    }

    /// The first step, also after a restart.
    pub fn start(&mut self, now_ms: u64) -> Output {
        let mut output = Output::default();
        rules::Turn::new(self, now_ms, &mut output).start();
        output
    }

    /// Takes one input at this time, on any clock that does not go back.
    pub fn step(&mut self, now_ms: u64, input: Input) -> Output {
        let mut output = Output::default();
        rules::Turn::new(self, now_ms, &mut output).take(input);
        output
    }
}

/// Who deals shares anew has them.
fn check_old_shares(definition: &Definition, me: OperatorIndex, secrets: &Secrets) -> Result<(), Error> {
    let (Some(old), Some(holder)) = (definition.old(), definition.holder(me)) else { return Ok(()) };
    let own = secrets.old().ok_or(Error::ForeignSecrets(me))?;
    let is_own = old.chain.public_shares.get(holder.as_usize()) == Some(&own.chain.public())
        && own.validators.len() == old.validators.len()
        && own
            .validators
            .iter()
            .zip(&old.validators)
            .all(|(own, key)| key.public_shares.get(holder.as_usize()) == Some(&own.public()));
    if is_own { Ok(()) } else { Err(Error::ForeignSecrets(me)) }
}

/// What is to be dealt is what was committed to, if anything was.
fn check_promised(
    definition: &Definition,
    me: OperatorIndex,
    board: &Board,
    dealing: &[Part],
) -> Result<(), Error> {
    let made = dealing_hash(&definition.ceremony(), me, &dealing::part_hashes(definition, dealing));
    match board.dealing(me) {
        Some(promised) if !dealing.is_empty() && promised.hash != made => Err(Error::ForeignSeed),
        Some(_) | None => Ok(()),
    }
}

/// Puts entries on the board again, in their order, and says what of them the agreement remembers.
pub(crate) fn replay(
    definition: &Definition,
    board: &mut Board,
    entries: Vec<Entry>,
) -> Result<(Vec<Record>, Vec<Value>), Error> {
    let (mut records, mut values): (Vec<Record>, Vec<Value>) = (Vec::new(), Vec::new());
    for (position, entry) in entries.into_iter().enumerate() {
        let kept = match entry {
            Entry::Statement(statement) => statement.check(definition).and_then(|()| board.keep(&statement)),
            Entry::Part(part) => definition.check_place(&part).and_then(|()| board.keep_part(&part)),
            Entry::Evidence(evidence) => board.keep_evidence(evidence),
            Entry::Vote(record) => {
                if let Record::Value(value) = &record {
                    values.push(agreement::value(value.value.clone()));
                }
                let decided = decided(definition, &record, &values);
                records.push(record);
                decided.map(|dealings| dealings.into_iter().for_each(|dealings| board.qualify(dealings)))
            }
        };
        match kept {
            // A statement that proves its author guilty was kept for that.
            Ok(()) | Err(Refusal::Guilty(_)) => {}
            Err(refusal) => return Err(Error::Entry { position, refusal }),
        }
    }
    Ok((records, values))
}

/// The dealings that a record of a decision qualifies.
fn decided(
    definition: &Definition,
    record: &Record,
    values: &[Value],
) -> Result<Option<Vec<crate::DealingId>>, Refusal> {
    let Record::Decided(certificate) = record else { return Ok(None) };
    if certificate.instance != agreement::INSTANCE {
        return Err(Refusal::Nonsense("decision of another instance"));
    }
    agreement::check_certificate(definition, certificate)?;
    let value = values.iter().find(|value| value.digest() == certificate.digest);
    let dealings = value.and_then(|value| agreement::dealings_of(definition, value));
    dealings.map(Some).ok_or(Refusal::Nonsense("decision of a value that is not here"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{definition, identity, secrets};
    use aequa_crypto::encryption::DecryptionKey;
    use zeroize::Zeroizing;

    /// Another dealing than the one committed to would convict its dealer.
    #[test]
    fn a_ceremony_does_not_go_on_with_another_seed() {
        let (definition, me) = (Arc::new(definition(4, 0)), OperatorIndex(0));
        let restore = |secrets, entries| {
            Ceremony::restore(Arc::clone(&definition), me, secrets, Timing::default(), entries)
        };
        let entries = restore(secrets(0), Vec::new()).unwrap().start(0).persist().to_vec();
        assert!(matches!(entries[..], [Entry::Statement(_), ..]), "the commit is the first");
        assert!(restore(secrets(0), entries.clone()).is_ok());
        let other = Secrets::new(identity(0), DecryptionKey::from_bytes(&[0; 32]), Zeroizing::new([9; 32]));
        assert_eq!(restore(other, entries).err(), Some(Error::ForeignSeed));
    }
}
