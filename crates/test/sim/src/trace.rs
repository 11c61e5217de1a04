//! What happened: always as one hash, on request as readable lines.

use crate::keys::{fingerprint, mix};
use aequa_types::{InstanceId, Message, Signed};

/// Lines kept of a traced run; beyond that only the hash goes on.
const LINES_MAX: usize = 500_000;

/// The log of a run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) hash: u64,
    pub(crate) lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(readable: bool) -> Self {
        Self { hash: 0, lines: readable.then(Vec::new) }
    }

    /// Adds to the hash, and the line if lines are kept.
    pub(crate) fn note(&mut self, words: &[u64], line: impl FnOnce() -> String) {
        self.hash = words.iter().fold(self.hash, |hash, word| mix(hash.rotate_left(7) ^ word));
        if let Some(lines) = &mut self.lines
            && lines.len() < LINES_MAX
        {
            lines.push(line());
        }
    }
}

/// Tells messages apart.
pub(crate) fn mark(message: &Message) -> u64 {
    match message {
        Message::PrePrepare(message) => of(&message.proposal),
        Message::Prepare(vote) | Message::Commit(vote) => of(vote),
        Message::RoundChange(message) => of(&message.change),
        Message::Decided(message) => fingerprint(1, message.certificate.digest.as_slice()),
        Message::ValueRequest(message) => fingerprint(2, message.digest.as_slice()),
        Message::ValueReply(message) => fingerprint(3, &message.value.0),
    }
}

fn of(signed: &Signed) -> u64 {
    fingerprint(0, &signed.signature.0[..8])
}

/// An instance in few letters.
pub(crate) fn name(instance: InstanceId) -> String {
    format!("{}/{}", instance.domain().name(), instance.number())
}

/// A message in few words.
pub(crate) fn describe(message: &Message) -> String {
    let round = message.round().map(|round| format!(" r{round}")).unwrap_or_default();
    let detail = match message {
        Message::PrePrepare(message) => digest(&message.proposal),
        Message::Prepare(vote) | Message::Commit(vote) => digest(vote),
        Message::RoundChange(message) => format!(" prepared{}", digest(&message.change)),
        Message::Decided(message) => format!(" {:.6}", hex(message.certificate.digest.as_slice())),
        Message::ValueRequest(message) => format!(" {:.6}", hex(message.digest.as_slice())),
        Message::ValueReply(_) => String::new(),
    };
    format!("{} {}{round}{detail}", message.type_name(), name(message.instance()))
}

fn digest(signed: &Signed) -> String {
    signed.digest().map_or(" none".into(), |digest| format!(" {}", hex(digest.as_slice())))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(3).map(|byte| format!("{byte:02x}")).collect()
}
