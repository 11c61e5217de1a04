//! Who said what to whom, when, in words.

use crate::recording::{Played, Replay, What};
use aequa_qbft::{Effect, Note};
use aequa_types::statement::Claim;
use aequa_types::{Certificate, Digest, Message, OperatorIndex, Proof, Signed};
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

/// One line of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Milliseconds since the first event of the instance.
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

/// The story of a replay. Messages that were sent again are counted where they were sent first.
pub fn timeline(replay: &Replay) -> Vec<Line> {
    let mut story =
        Story { me: replay.me, clock: Clock::default(), lines: Vec::new(), said: BTreeMap::new() };
    for played in &replay.played {
        story.tell(played);
    }
    story.lines
}

/// Milliseconds since the first event, across processes.
#[derive(Default)]
struct Clock {
    first_wall_ms: Option<u64>,
    /// Of the current process: wall and own clock when the instance came to be in it.
    life: (u64, u64),
}

impl Clock {
    fn restart(&mut self, played: &Played) {
        let first = *self.first_wall_ms.get_or_insert(played.at.wall_ms);
        self.life = (played.at.wall_ms.saturating_sub(first), played.at.elapsed_ms);
    }

    /// Inside a process its own clock counts: the other one may be set.
    fn after_ms(&self, played: &Played) -> u64 {
        let (before, born) = self.life;
        before.saturating_add(played.at.elapsed_ms.saturating_sub(born))
    }
}

struct Story {
    me: OperatorIndex,
    clock: Clock,
    lines: Vec<Line>,
    said: BTreeMap<(OperatorIndex, To, String), usize>,
}

impl Story {
    fn tell(&mut self, played: &Played) {
        if self.clock.first_wall_ms.is_none() || matches!(played.what, What::Opened { .. }) {
            self.clock.restart(played);
        }
        let after_ms = self.clock.after_ms(played);
        match &played.what {
            What::Opened { records, lost, round } => {
                let text = opened(self.lines.is_empty(), records.len(), *lost, round.0);
                self.does(after_ms, text);
            }
            What::Started => {}
            What::Input(round, digest) => {
                self.does(after_ms, format!("has a candidate for round {round}: {}", short(digest)));
            }
            What::Heard { carrier, message } => self.hears(after_ms, *carrier, message),
            What::Timeout(round) => self.does(after_ms, format!("the timer of round {round} fires")),
            What::Upgraded => self.does(after_ms, "the decision has its group seal".into()),
            What::Resent(messages) => {
                messages.iter().for_each(|message| self.says(after_ms, To::All, words(message)));
            }
            What::Connected(operator, messages) => {
                self.does(after_ms, format!("operator {operator} connects"));
                for message in messages {
                    self.says(after_ms, To::One(*operator), words(message));
                }
            }
            What::Fetched { from, commit } => {
                self.does(after_ms, format!("takes the block with its certificate from operator {from}"));
                commit.iter().for_each(|commit| self.says(after_ms, To::All, claim(commit)));
            }
        }
        played.effects.iter().for_each(|effect| self.carries_out(after_ms, effect));
    }

    fn carries_out(&mut self, after_ms: u64, effect: &Effect) {
        match effect {
            Effect::Broadcast(message) => self.says(after_ms, To::All, words(message)),
            Effect::Send(to, message) => self.says(after_ms, To::One(*to), words(message)),
            Effect::SetTimer(round) => self.does(after_ms, format!("starts the timer of round {round}")),
            Effect::NeedInput(round) => {
                self.does(after_ms, format!("leads round {round} and needs a candidate"))
            }
            Effect::NeedValue(digest) => {
                self.says(after_ms, To::All, format!("asks for value {}", short(digest)))
            }
            Effect::Decided { certificate, .. } => {
                let Certificate { digest, round, .. } = certificate;
                self.does(after_ms, format!("decides {} in round {round}", short(digest)));
            }
            Effect::Note(note) => self.does(after_ms, noted(note)),
            Effect::Persist(_) | Effect::KeepSending(_) => {}
        }
    }

    fn hears(&mut self, after_ms: u64, carrier: OperatorIndex, message: &Message) {
        let mut text = words(message);
        if let Some(author) = author(message).filter(|author| *author != carrier) {
            text.push_str(&format!(" of operator {author}"));
        }
        self.line(after_ms, carrier, To::One(self.me), text);
    }

    fn says(&mut self, after_ms: u64, to: To, text: String) {
        self.line(after_ms, self.me, to, text);
    }

    fn does(&mut self, after_ms: u64, text: String) {
        self.lines.push(Line { after_ms, who: self.me, to: To::Nobody, text, times: 1 });
    }

    /// A message: a line, or one more of an earlier line.
    fn line(&mut self, after_ms: u64, who: OperatorIndex, to: To, text: String) {
        let known = *self.said.entry((who, to, text.clone())).or_insert(self.lines.len());
        match self.lines.get_mut(known) {
            Some(line) => line.times += 1,
            None => self.lines.push(Line { after_ms, who, to, text, times: 1 }),
        }
    }
}

fn opened(first: bool, bound: usize, lost: usize, round: u64) -> String {
    let mut text = match (first, bound) {
        (true, 0) => "begins".to_owned(),
        (false, 0) => "restarted: begins again".to_owned(),
        _ => format!("restarted: goes on in round {round}, bound by {bound} records of the vote log"),
    };
    if lost > 0 {
        text.push_str(&format!("; it did not give back {lost} statements"));
    }
    text
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

fn author(message: &Message) -> Option<OperatorIndex> {
    match message {
        Message::PrePrepare(message) => Some(message.proposal.author),
        Message::Prepare(vote) | Message::Commit(vote) => Some(vote.author),
        Message::RoundChange(message) => Some(message.change.author),
        Message::Decided(_) | Message::ValueRequest(_) | Message::ValueReply(_) => None,
    }
}

/// Operators with commas.
pub(super) fn list(operators: &[OperatorIndex]) -> String {
    operators.iter().map(OperatorIndex::to_string).collect::<Vec<_>>().join(", ")
}

/// The operators whose COMMITs a certificate lists.
pub(super) fn signers(certificate: &Certificate) -> Vec<OperatorIndex> {
    match &certificate.proof {
        Proof::Commits(commits) => commits.iter().map(|commit| commit.operator).collect(),
        Proof::Group(_) => Vec::new(),
    }
}

/// The first four bytes of a digest.
fn short(digest: &Digest) -> String {
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
