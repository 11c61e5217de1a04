//! Who said what to whom about an instance, when, in words; and what came of it.

use aequa_host::recording::{InputEntry, Step};
use aequa_qbft::Note;
use aequa_replica::{Durable, Notice, Outbound, StoreWrite, Tell};
use aequa_types::statement::Claim;
use aequa_types::{Certificate, Digest, InstanceId, Message, OperatorIndex, Proof, Record, Round, Signed};
use std::collections::BTreeMap;
use std::fmt;

/// To whom something was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// To nobody: something the operator did.
    Nobody,
    /// To one operator.
    One(OperatorIndex),
    /// To every other operator.
    All,
}

/// One line of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Milliseconds since the first line.
    pub after_ms: u64,
    /// Who acts; for messages the one who handed it over.
    pub who: OperatorIndex,
    /// To whom.
    pub to: To,
    /// What.
    pub text: String,
    /// How often the same was said, retransmissions included.
    pub times: u32,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = match self.to {
            To::Nobody => String::new(),
            To::One(operator) => format!("→ {operator}"),
            To::All => "→ all".to_owned(),
        };
        write!(f, "{:>+8} ms  {:>3} {to:<6} {}", self.after_ms as i64, self.who.0, self.text)?;
        if self.times > 1 {
            write!(f, " (×{})", self.times)?;
        }
        Ok(())
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The value.
    pub digest: Digest,
    /// The round whose COMMITs decided it.
    pub round: Round,
    /// Who signed those, where they were seen.
    pub signers: Vec<OperatorIndex>,
    /// Whether the group seal was seen.
    pub sealed: bool,
}

/// The story of one instance. Messages that were sent again are counted where they were sent first.
pub struct Story {
    me: OperatorIndex,
    instance: InstanceId,
    /// Both clocks at the first line of all, and the own one at the first of this process with what had passed by then.
    first_wall_ms: Option<u64>,
    life: Option<(u64, u64)>,
    after_ms: u64,
    lines: Vec<Line>,
    said: BTreeMap<(OperatorIndex, To, String), usize>,
    statements: Vec<Signed>,
    decided: Option<Decided>,
}

impl Story {
    /// Nothing has happened yet.
    pub fn of(me: OperatorIndex, instance: InstanceId) -> Self {
        Self {
            me,
            instance,
            first_wall_ms: None,
            life: None,
            after_ms: 0,
            lines: Vec::new(),
            said: BTreeMap::new(),
            statements: Vec::new(),
            decided: None,
        }
    }

    /// The lines so far.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Every statement that the operator signed about it, in order.
    pub fn statements(&self) -> &[Signed] {
        &self.statements
    }

    /// The decision, where there is one.
    pub fn decision(&self) -> Option<&Decided> {
        self.decided.as_ref()
    }

    /// The same in words.
    pub fn decision_in_words(&self) -> String {
        let Some(Decided { digest, round, signers, sealed }) = &self.decided else {
            return "not decided in this recording".into();
        };
        let commits =
            if signers.is_empty() { String::new() } else { format!(", COMMITs of {}", list(signers)) };
        let seal = if *sealed { ", sealed by the group" } else { "" };
        format!("decided {digest} in round {round}{commits}{seal}")
    }

    /// A step is taken.
    pub fn takes(&mut self, step: &Step) {
        self.tick(step);
        match &step.input {
            InputEntry::Started(_) if !self.lines.is_empty() => self.does("the node starts again".into()),
            InputEntry::Message((carrier, message)) if message.instance() == self.instance => {
                self.hears(*carrier, message);
            }
            InputEntry::Statement(signed) if signed.instance == self.instance => {
                self.does(format!("is told late: {} of operator {}", claim(signed), signed.author));
            }
            InputEntry::Duty((instance, value, _)) if *instance == self.instance => {
                self.does(format!("its client posts a candidate of {} bytes", value.0.len()));
            }
            InputEntry::RoundTimer((instance, round)) if *instance == self.instance => {
                self.does(format!("the timer of round {round} fires"));
            }
            InputEntry::ProposeTimer(height) if InstanceId::Block(*height) == self.instance => {
                self.does("the block interval is over".into());
            }
            InputEntry::Spoilt((instance, _, _, blamed)) if *instance == self.instance => {
                self.does(format!("shares of the seal are bad: those of {}", list(blamed)));
            }
            InputEntry::Fetched((from, blocks))
                if blocks.iter().any(|(_, certificate)| certificate.instance == self.instance) =>
            {
                self.does(format!("takes the block with its certificate from operator {from}"));
            }
            InputEntry::Started(_)
            | InputEntry::Message(_)
            | InputEntry::Statement(_)
            | InputEntry::Evidence(_)
            | InputEntry::Transactions(_)
            | InputEntry::Duty(_)
            | InputEntry::RoundTimer(_)
            | InputEntry::ResendTimer(_)
            | InputEntry::ProposeTimer(_)
            | InputEntry::CatchUpTimer(_)
            | InputEntry::Combined(_)
            | InputEntry::Spoilt(_)
            | InputEntry::Fetched(_)
            | InputEntry::FetchFailed(_)
            | InputEntry::PeerHeight(_)
            | InputEntry::MayLead(_)
            | InputEntry::EndEpoch(_)
            | InputEntry::Superseded(_)
            | InputEntry::PeerConnected(_)
            | InputEntry::Testimony(_) => {}
        }
    }

    /// A turn is carried out.
    pub fn ends_turn(&mut self, durable: &Durable) {
        let own = durable.persisted.records.iter().filter_map(Record::statement);
        self.statements.extend(own.filter(|signed| signed.instance == self.instance).cloned());
        for tell in &durable.tell {
            if let Tell::Notice(notice) = tell {
                self.notices(notice);
            }
        }
        for outbound in &durable.send {
            if let Some((to, message)) = message_of(outbound).filter(|(_, m)| m.instance() == self.instance) {
                self.line(self.me, to, words(message));
            }
        }
        for write in &durable.store {
            self.stores(write);
        }
    }

    /// The replica stops its node.
    pub fn stops(&mut self, reason: &str) {
        self.does(format!("stops: {reason}"));
    }

    /// What follows is of another process.
    pub fn restarts(&mut self) {
        self.life = None;
    }

    fn tick(&mut self, step: &Step) {
        // What happened before is no part of the story.
        if self.lines.is_empty() {
            (self.first_wall_ms, self.life) = (Some(step.wall_ms), None);
        }
        let first = self.first_wall_ms.unwrap_or(step.wall_ms);
        let before = step.wall_ms.saturating_sub(first);
        // Inside a process its own clock counts: the other one may be set.
        let (before, born) = *self.life.get_or_insert((before, step.elapsed_ms));
        self.after_ms = before.saturating_add(step.elapsed_ms.saturating_sub(born));
    }

    fn notices(&mut self, notice: &Notice) {
        match notice {
            Notice::Consensus(instance, note) if *instance == self.instance => self.does(noted(note)),
            Notice::Proposed { height, round, .. } if InstanceId::Block(*height) == self.instance => {
                self.does(format!("builds a block for round {round}"));
            }
            Notice::Consensus(..)
            | Notice::Proposed { .. }
            | Notice::BlockDecided { .. }
            | Notice::Sealed(_)
            | Notice::Session(..)
            | Notice::DutyEnded { .. }
            | Notice::Evidence(_)
            | Notice::ShareBlamed { .. }
            | Notice::Removed(_)
            | Notice::BestPeerHeight(_)
            | Notice::RootCompared(_)
            | Notice::RootDiffers { .. }
            | Notice::ClusterDiverged { .. }
            | Notice::Rejoining { .. }
            | Notice::Abstaining(_) => {}
        }
    }

    fn stores(&mut self, write: &StoreWrite) {
        match write {
            StoreWrite::Commit { certificate, .. } => self.decides(certificate),
            StoreWrite::CommitDuty { outcome, .. } => {
                if let Some(certificate) = outcome.certificate() {
                    self.decides(certificate);
                }
            }
            StoreWrite::Sealed(certificate) if certificate.instance == self.instance => {
                self.does("the decision has its group seal".into());
                if let Some(decided) = &mut self.decided {
                    decided.sealed = true;
                }
            }
            StoreWrite::Sealed(_) | StoreWrite::KeepEvidence(_) => {}
        }
    }

    fn decides(&mut self, certificate: &Certificate) {
        let Certificate { instance, digest, round, .. } = certificate;
        if *instance != self.instance {
            return;
        }
        self.does(format!("decides {} in round {round}", short(digest)));
        self.decided = Some(Decided {
            digest: *digest,
            round: *round,
            signers: signers(certificate),
            sealed: certificate.group_seal().is_some(),
        });
    }

    fn hears(&mut self, carrier: OperatorIndex, message: &Message) {
        let mut text = words(message);
        if let Some(author) =
            message.statement().map(|signed| signed.author).filter(|author| *author != carrier)
        {
            text.push_str(&format!(" of operator {author}"));
        }
        self.line(carrier, To::One(self.me), text);
    }

    fn does(&mut self, text: String) {
        self.lines.push(Line { after_ms: self.after_ms, who: self.me, to: To::Nobody, text, times: 1 });
    }

    /// A message: a line, or one more of an earlier line.
    fn line(&mut self, who: OperatorIndex, to: To, text: String) {
        let known = *self.said.entry((who, to, text.clone())).or_insert(self.lines.len());
        match self.lines.get_mut(known) {
            Some(line) => line.times += 1,
            None => self.lines.push(Line { after_ms: self.after_ms, who, to, text, times: 1 }),
        }
    }
}

fn message_of(outbound: &Outbound) -> Option<(To, &Message)> {
    match outbound {
        Outbound::Broadcast(message) => Some((To::All, message)),
        Outbound::Send(to, message) => Some((To::One(*to), message)),
        Outbound::Spread(_)
        | Outbound::Offer(_)
        | Outbound::GossipEvidence(_)
        | Outbound::Fetch { .. }
        | Outbound::Inquire(_) => None,
    }
}

fn noted(note: &Note) -> String {
    match note {
        Note::RoundEntered(round) => format!("enters round {round}"),
        Note::ProposalAccepted(round, digest) => format!("accepts {} in round {round}", short(digest)),
        Note::PrepareQuorum(round) => format!("has a quorum of PREPAREs of round {round}"),
        Note::CommitQuorum(round) => format!("has a quorum of COMMITs of round {round}"),
        Note::TimedOut(round, phase) => {
            format!("gives up round {round}, {}", format!("{phase:?}").to_lowercase())
        }
        Note::Refused(operator, refusal) => format!("refuses that of operator {operator}: {refusal}"),
        Note::Conflict(pair) => format!(
            "operator {} contradicts itself: {} and {}",
            pair.0.author,
            claim(&pair.0),
            claim(&pair.1)
        ),
        Note::SignerRefused(round) => format!("the signer refuses to sign in round {round}"),
    }
}

fn words(message: &Message) -> String {
    match message {
        Message::PrePrepare(message) => {
            let justified = match message.round_changes.len() {
                0 => String::new(),
                changes => {
                    format!(", justified by {changes} ROUND-CHANGEs, {} PREPAREs", message.prepares.len())
                }
            };
            format!("{}, {} bytes{justified}", claim(&message.proposal), message.value.0.len())
        }
        Message::Prepare(vote) | Message::Commit(vote) => claim(vote),
        Message::RoundChange(message) => claim(&message.change),
        Message::Decided(message) => {
            let Certificate { round, digest, .. } = &message.certificate;
            let proof = match signers(&message.certificate).as_slice() {
                [] => "group seal".to_owned(),
                signers => format!("COMMITs of {}", list(signers)),
            };
            format!("DECIDED {} in round {round}, {proof}", short(digest))
        }
        Message::ValueRequest(request) => format!("asks for value {}", short(&request.digest)),
        Message::ValueReply(reply) => format!("gives a value of {} bytes", reply.value.0.len()),
    }
}

fn claim(signed: &Signed) -> String {
    let round = signed.round;
    match &signed.claim {
        Claim::PrePrepare(digest) => format!("PREPREPARE round {round}, {}", short(digest)),
        Claim::Prepare(digest) => format!("PREPARE round {round}, {}", short(digest)),
        Claim::Commit(commit) => format!("COMMIT round {round}, {}", short(&commit.digest)),
        Claim::RoundChange(change) => match &change.prepared {
            Some(prepared) => format!(
                "ROUND-CHANGE to round {round}, prepared {} in round {}",
                short(&prepared.digest),
                prepared.round
            ),
            None => format!("ROUND-CHANGE to round {round}, nothing prepared"),
        },
    }
}

/// Operators with commas.
fn list(operators: &[OperatorIndex]) -> String {
    operators.iter().map(OperatorIndex::to_string).collect::<Vec<_>>().join(", ")
}

/// The operators whose COMMITs a certificate lists.
fn signers(certificate: &Certificate) -> Vec<OperatorIndex> {
    match &certificate.proof {
        Proof::Commits(commits) => commits.iter().map(|commit| commit.operator).collect(),
        Proof::Group(_) => Vec::new(),
    }
}

/// The first four bytes of a digest.
fn short(digest: &Digest) -> String {
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
