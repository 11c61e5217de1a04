//! From entries to what the instance did: the production core, run again.

use crate::recording::Selection;
use crate::recording::comparison::where_is;
use crate::recording::script::{Script, name};
use aequa_qbft::{Effect, Event, Instance, Restored};
use aequa_types::message::{PrePrepare, ValueReply};
use aequa_types::record::ProposalRecord;
use aequa_types::recording::{Entry, Fetched, Happening, Heard, Moment, Numbered, Opened, Said, Step};
use aequa_types::{
    Certificate, Decided, Digest, InstanceId, Kind, Message, OperatorIndex, Prepared, Quorum, Record, Round,
    RoundChange, Signed, Value, ValueBytes, Verified,
};
use std::collections::BTreeMap;

/// One recorded instance, run again.
#[derive(Debug)]
pub struct Replay {
    /// Which instance.
    pub instance: InstanceId,
    /// Whose recording it is.
    pub me: OperatorIndex,
    /// Whether nothing later of its kind was recorded: the recording may end in the middle of it.
    pub newest: bool,
    /// What it went through, in order.
    pub played: Vec<Played>,
    /// Every statement this operator signed, in order.
    pub statements: Vec<OwnStatement>,
    /// Why the decision may be believed: the strongest certificate seen.
    pub certificate: Option<Certificate>,
    /// Events taken.
    pub events: usize,
    /// How it ended.
    pub end: End,
}

/// A moment of the instance.
#[derive(Debug)]
pub struct Played {
    /// Number of the entry.
    pub number: u64,
    /// When.
    pub at: Moment,
    /// What happened.
    pub what: What,
    /// What the instance did about it.
    pub effects: Vec<Effect>,
}

/// What happened at one moment.
#[derive(Debug)]
pub enum What {
    /// The instance came to be in a process, bound by what the vote log gave back.
    Opened {
        /// Records of the vote log.
        records: Vec<Record>,
        /// Statements of the process before that the vote log did not give back.
        lost: usize,
        /// The round it goes on from.
        round: Round,
    },
    /// It was started.
    Started,
    /// The own candidate was ready.
    Input(Round, Digest),
    /// A message arrived.
    Heard {
        /// Who handed it over.
        carrier: OperatorIndex,
        /// The message.
        message: Box<Message>,
    },
    /// The timer of this round fired.
    Timeout(Round),
    /// The group seal was there.
    Upgraded,
    /// The newest own messages went out again.
    Resent(Vec<Message>),
    /// An operator connected and was sent the newest own messages.
    Connected(OperatorIndex, Vec<Message>),
    /// The block came certified.
    Fetched {
        /// From whom.
        from: OperatorIndex,
        /// The own COMMIT, made for its share of the seal.
        commit: Option<Signed>,
    },
}

/// A statement of this operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnStatement {
    /// The statement.
    pub signed: Signed,
    /// The vote log did not give it back after a restart.
    pub lost: bool,
}

/// How a replay ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// All of it was run, and every statement and decision was made again.
    Reproduced,
    /// Here it went another way.
    Differs(Difference),
    /// The recording does not hold what is needed, from this entry on.
    Incomplete(u64),
    /// There is nothing of this instance.
    Absent,
}

/// Where the core, run again, does not do what was recorded; or the recording is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// It signs something else, or something where nothing was signed.
    #[error("entry {number}: signs {made} now; recorded was {recorded}")]
    Statement {
        /// Number of the entry.
        number: u64,
        /// What it signs now.
        made: String,
        /// What was recorded.
        recorded: String,
    },
    /// It no longer asks what it asked then, or asks more.
    #[error("entry {number}: {what}")]
    Question {
        /// Number of the entry.
        number: u64,
        /// What is different.
        what: &'static str,
    },
    /// It decides otherwise.
    #[error("entry {number}: decides {made} now; recorded was {recorded}")]
    Decision {
        /// Number of the entry.
        number: u64,
        /// What it decides now.
        made: String,
        /// What was recorded.
        recorded: String,
    },
    /// Two statements that the vote log gave back stand in one place.
    #[error("two statements in one place: {0}, and {1}")]
    Contradiction(String, String),
    /// What the entry holds does not stand up to the checks of a message.
    #[error("entry {number} does not hold: {reason}")]
    BadEntry {
        /// Number of the entry.
        number: u64,
        /// Which check failed.
        reason: String,
    },
}

/// Why a replay stops.
enum Stop {
    Differs(Difference),
    Incomplete(u64),
}

impl From<Difference> for Stop {
    fn from(difference: Difference) -> Self {
        Self::Differs(difference)
    }
}

impl Replay {
    /// Runs the entries of one instance again, up to the first difference. `check` is what a node asks
    /// before its core sees a message: every signature and value, also the operator's own.
    pub fn run(
        selection: &Selection,
        me: OperatorIndex,
        quorum: Quorum,
        check: &mut dyn FnMut(Message) -> Result<Verified, String>,
    ) -> Self {
        let replay = Self {
            instance: selection.instance(),
            me,
            newest: selection.is_newest(),
            played: Vec::new(),
            statements: Vec::new(),
            certificate: None,
            events: 0,
            end: End::Absent,
        };
        let mut player = Player { replay, quorum, check, state: State::Nothing, values: BTreeMap::new() };
        for Numbered { number, entry } in selection.entries() {
            let outcome = match entry {
                Some(entry) => player.play(*number, entry.clone()),
                None => {
                    player.state = State::Lost;
                    Ok(())
                }
            };
            match outcome {
                Ok(()) => {}
                Err(Stop::Differs(difference)) => return player.ended(End::Differs(difference)),
                Err(Stop::Incomplete(number)) => return player.ended(End::Incomplete(number)),
            }
        }
        let end = match player.contradiction() {
            Some(difference) => End::Differs(difference),
            None if player.replay.played.is_empty() => End::Absent,
            None => End::Reproduced,
        };
        player.ended(end)
    }

    /// The statements that the vote log did not give back after a restart. A node records what is durable,
    /// and only then sends it: its log has lost what it promised.
    pub fn lost(&self) -> Vec<String> {
        self.statements.iter().filter(|own| own.lost).map(|own| where_is(&own.signed)).collect()
    }
}

/// The instance at one point of the recording.
enum State {
    /// It is not there yet, or ended.
    Nothing,
    /// It was, but the recording has a hole since.
    Lost,
    /// The records that bind it are being read.
    Opening(Opened, Vec<Record>, u64),
    /// It runs.
    Open(Box<Instance>),
}

struct Player<'a> {
    replay: Replay,
    quorum: Quorum,
    check: &'a mut dyn FnMut(Message) -> Result<Verified, String>,
    state: State,
    values: BTreeMap<Digest, Value>,
}

impl Player<'_> {
    fn ended(mut self, end: End) -> Replay {
        self.replay.end = end;
        self.replay
    }

    fn play(&mut self, number: u64, entry: Entry) -> Result<(), Stop> {
        match entry {
            Entry::Opened(opened) => {
                self.state = State::Opening(opened, Vec::new(), number);
                self.open_when_complete()?;
            }
            Entry::Bound(record) => {
                let State::Opening(_, records, _) = &mut self.state else {
                    return Err(Stop::Incomplete(number));
                };
                records.push(record);
                self.open_when_complete()?;
            }
            Entry::Value(record) => {
                let value = self.value(number, record.value)?;
                self.values.insert(value.digest(), value);
            }
            Entry::Step(step) => self.step(number, step)?,
            Entry::Upgraded(upgraded) => {
                let certificate = upgraded.certificate;
                self.verified(number, Message::Decided(Decided { certificate: certificate.clone() }))?;
                let instance = self.open(number)?;
                instance.upgrade(certificate.clone());
                if self.replay.certificate.as_ref().is_some_and(|known| known.digest == certificate.digest) {
                    self.replay.certificate = Some(certificate);
                }
                self.played(number, upgraded.at, What::Upgraded, Vec::new());
            }
            Entry::Resent(resent) => {
                let messages = self.open(number)?.newest();
                self.played(number, resent.at, What::Resent(messages), Vec::new());
            }
            Entry::Connected(connected) => {
                if let State::Open(instance) = &mut self.state {
                    instance.forget_answers(connected.operator);
                    let messages = instance.newest();
                    let what = What::Connected(connected.operator, messages);
                    self.played(number, connected.at, what, Vec::new());
                }
            }
            Entry::Fetched(fetched) => self.fetched(number, fetched)?,
        }
        Ok(())
    }

    fn open(&mut self, number: u64) -> Result<&mut Instance, Stop> {
        match &mut self.state {
            State::Open(instance) => Ok(instance),
            State::Nothing | State::Lost | State::Opening(..) => Err(Stop::Incomplete(number)),
        }
    }

    fn played(&mut self, number: u64, at: Moment, what: What, effects: Vec<Effect>) {
        self.replay.played.push(Played { number, at, what, effects });
    }

    /// Begins a life of the instance once everything that binds it is there.
    fn open_when_complete(&mut self) -> Result<(), Stop> {
        let State::Opening(opened, records, number) = &mut self.state else { return Ok(()) };
        if (records.len() as u64) < opened.bound {
            return Ok(());
        }
        let (opened, records, number) = (*opened, std::mem::take(records), *number);
        self.values.clear();
        let values = self.bound_values(number, &records)?;
        for record in &records {
            self.check_record(number, record)?;
        }
        let lost = self.lose_what_is_not_in(&records);
        for signed in records.iter().filter_map(Record::statement) {
            if !self.replay.statements.iter().any(|own| own.signed == *signed) {
                self.replay.statements.push(OwnStatement { signed: signed.clone(), lost: false });
            }
        }
        let restored = Restored { records: records.clone(), values };
        let instance = Instance::restore(opened.instance, self.replay.me, self.quorum, restored);
        self.replay.certificate = instance.decided().cloned();
        let what = What::Opened { records, lost, round: instance.round() };
        self.state = State::Open(Box::new(instance));
        self.played(number, opened.at, what, Vec::new());
        Ok(())
    }

    /// What an earlier process signed and the log no longer knows; how much that is.
    fn lose_what_is_not_in(&mut self, records: &[Record]) -> usize {
        let mut lost = 0;
        for own in self.replay.statements.iter_mut().filter(|own| !own.lost) {
            own.lost = !records.iter().filter_map(Record::statement).any(|signed| *signed == own.signed);
            lost += usize::from(own.lost);
        }
        lost
    }

    fn bound_values(&mut self, number: u64, records: &[Record]) -> Result<Vec<Value>, Stop> {
        let mut values = Vec::new();
        for record in records {
            let Record::Value(record) = record else { continue };
            // As at the start of a node: of a duty only the digest binds.
            let value = match record.instance {
                InstanceId::Block(_) => self.value(number, record.value.clone())?,
                InstanceId::Duty(duty) => Value::duty(duty, record.value.clone()),
            };
            self.values.insert(value.digest(), value.clone());
            values.push(value);
        }
        Ok(values)
    }

    /// Checks a record of the vote log like the message it stands for.
    fn check_record(&mut self, number: u64, record: &Record) -> Result<(), Stop> {
        let alone = |change: Signed| Message::RoundChange(RoundChange { change, prepares: Vec::new() });
        let messages: Vec<Message> = match record {
            Record::PrePrepare(record) => vec![self.proposal(number, record.clone())?],
            Record::Prepare(vote) => vec![Message::Prepare(vote.clone())],
            Record::Commit(vote) => vec![Message::Commit(vote.clone())],
            Record::Prepared(record) => record.prepares.iter().cloned().map(Message::Prepare).collect(),
            Record::Round(record) => record.change.clone().map(alone).into_iter().collect(),
            Record::Decided(certificate) => {
                vec![Message::Decided(Decided { certificate: certificate.clone() })]
            }
            Record::Value(_) | Record::Heard(_) => Vec::new(),
        };
        messages.into_iter().try_for_each(|message| self.verified(number, message).map(drop))
    }

    fn step(&mut self, number: u64, step: Step) -> Result<(), Stop> {
        self.open(number)?;
        let (what, event) = self.event(number, step.happened)?;
        let mut script = Script::new(self.replay.instance, self.quorum, &step.answers);
        let effects = self.open(number)?.step(&mut script, event);
        script.end(number)?;
        self.check_decision(number, step.decided, &effects)?;
        for message in effects.iter().filter_map(sent) {
            self.verified(number, message.clone())?;
        }
        self.replay.events += 1;
        self.made(step.answers.signatures.into_iter().flatten());
        self.played(number, step.at, what, effects);
        Ok(())
    }

    /// Takes statements over, each once: the signer repeats what it signed before.
    fn made(&mut self, signed: impl IntoIterator<Item = Signed>) {
        for signed in signed {
            match self.replay.statements.iter_mut().find(|own| own.signed == signed) {
                Some(own) => own.lost = false,
                None => self.replay.statements.push(OwnStatement { signed, lost: false }),
            }
        }
    }

    fn event(&mut self, number: u64, happened: Happening) -> Result<(What, Event), Stop> {
        Ok(match happened {
            Happening::Start(_) => (What::Started, Event::Start),
            Happening::Timeout(round) => (What::Timeout(round), Event::Timeout(round)),
            Happening::Input(candidate) => {
                let value = self.known(number, candidate.digest)?;
                let event = Event::Input { round: candidate.round, value };
                (What::Input(candidate.round, candidate.digest), event)
            }
            Happening::Message(Heard { carrier, said }) => {
                let message = self.message(number, said)?;
                let verified = self.verified(number, message.clone())?;
                let what = What::Heard { carrier, message: Box::new(message) };
                (what, Event::Message { carrier, message: verified })
            }
        })
    }

    fn message(&self, number: u64, said: Said) -> Result<Message, Stop> {
        Ok(match said {
            Said::PrePrepare(record) => self.proposal(number, record)?,
            Said::Prepare(vote) => Message::Prepare(vote),
            Said::Commit(vote) => Message::Commit(vote),
            Said::RoundChange(message) => Message::RoundChange(message),
            Said::Decided(certificate) => Message::Decided(Decided { certificate }),
            Said::ValueRequest(request) => Message::ValueRequest(request),
            Said::Value(digest) => {
                let value = self.known(number, digest)?.bytes().clone();
                Message::ValueReply(ValueReply { instance: self.replay.instance, value })
            }
        })
    }

    fn proposal(&self, number: u64, record: ProposalRecord) -> Result<Message, Stop> {
        let digest = record.proposal.digest().unwrap_or_default();
        let value = self.known(number, digest)?.bytes().clone();
        let ProposalRecord { proposal, round_changes, prepares } = record;
        Ok(Message::PrePrepare(PrePrepare { proposal, value, round_changes, prepares }))
    }

    fn known(&self, number: u64, digest: Digest) -> Result<Value, Stop> {
        self.values.get(&digest).cloned().ok_or(Stop::Incomplete(number))
    }

    fn value(&mut self, number: u64, value: ValueBytes) -> Result<Value, Stop> {
        let instance = self.replay.instance;
        match self.verified(number, Message::ValueReply(ValueReply { instance, value }))? {
            Verified::ValueReply { value, .. } => Ok(value),
            Verified::PrePrepare { .. }
            | Verified::Prepare(_)
            | Verified::Commit(_)
            | Verified::RoundChange(_)
            | Verified::Decided(_)
            | Verified::ValueRequest(_) => Err(Stop::Incomplete(number)),
        }
    }

    fn verified(&mut self, number: u64, message: Message) -> Result<Verified, Stop> {
        (self.check)(message).map_err(|reason| Difference::BadEntry { number, reason }.into())
    }

    fn check_decision(
        &mut self,
        number: u64,
        recorded: Option<Prepared>,
        effects: &[Effect],
    ) -> Result<(), Stop> {
        let certificate = effects.iter().find_map(|effect| {
            if let Effect::Decided { certificate, .. } = effect { Some(certificate) } else { None }
        });
        let made = certificate.map(|known| Prepared { round: known.round, digest: known.digest });
        if made != recorded {
            let name = |decision: Option<Prepared>| match decision {
                Some(Prepared { round, digest }) => format!("{digest} in round {round}"),
                None => "nothing".into(),
            };
            let (made, recorded) = (name(made), name(recorded));
            return Err(Difference::Decision { number, made, recorded }.into());
        }
        if let Some(certificate) = certificate {
            self.replay.certificate = Some(certificate.clone());
        }
        Ok(())
    }

    fn fetched(&mut self, number: u64, fetched: Fetched) -> Result<(), Stop> {
        let certificate = fetched.certificate;
        self.verified(number, Message::Decided(Decided { certificate: certificate.clone() }))?;
        if let Some(commit) = &fetched.commit {
            self.verified(number, Message::Commit(commit.clone()))?;
        }
        self.made(fetched.commit.clone());
        self.replay.certificate = Some(certificate);
        self.state = State::Nothing;
        let what = What::Fetched { from: fetched.from, commit: fetched.commit };
        self.played(number, fetched.at, what, Vec::new());
        Ok(())
    }

    /// Two statements in one place, both of which the log gave back or was not asked for.
    fn contradiction(&self) -> Option<Difference> {
        let mut places: BTreeMap<(Round, Kind), &Signed> = BTreeMap::new();
        for own in self.replay.statements.iter().filter(|own| !own.lost) {
            let place = (own.signed.round, own.signed.kind());
            match places.insert(place, &own.signed) {
                Some(first) if *first != own.signed => {
                    return Some(Difference::Contradiction(name(first), name(&own.signed)));
                }
                _ => {}
            }
        }
        None
    }
}

/// The message an effect sends.
fn sent(effect: &Effect) -> Option<&Message> {
    match effect {
        Effect::Broadcast(message) | Effect::Send(_, message) => Some(message),
        Effect::Persist(_)
        | Effect::SetTimer(_)
        | Effect::KeepSending(_)
        | Effect::NeedInput(_)
        | Effect::NeedValue(_)
        | Effect::Decided { .. }
        | Effect::Note(_) => None,
    }
}
