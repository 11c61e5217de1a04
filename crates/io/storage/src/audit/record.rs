//! One record: what it says, its bytes and its hash.

use super::walk::Link;
use crate::frame::FrameKind;
use alloy_primitives::B256;
use ssz::Encode as _;
use ssz_derive::{Decode, Encode};
use std::borrow::Cow;
use std::fmt;

/// What the preimage of a hash begins with.
const HASH_TAG: &[u8] = b"aequa/audit/v1\0";
/// Largest record: the values of all fields, their names, and what every record has.
pub(super) const RECORD_BYTES_MAX: usize = 8 << 10;
/// Values of all fields together; what is more is cut.
const VALUES_BYTES_MAX: usize = 4 << 10;
/// Longest value; what is more is cut. Nobody writes reasons as long as that.
const VALUE_BYTES_MAX: usize = 1 << 10;
/// Most fields of a record; further ones are left out.
const FIELDS_MAX: usize = 24;

/// Frame of every record. Another version for every kind that is added.
pub(super) const RECORD_FRAME: FrameKind = FrameKind {
    name: "audit record",
    magic: *b"AUDT",
    version: 1,
    flags_known: 0,
    payload_bytes_max: RECORD_BYTES_MAX,
};

/// What a record is about. The numbers are the order here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[ssz(enum_behaviour = "tag")]
pub enum AuditKind {
    /// The log itself: what was cut off, set aside or lost.
    Log,
    /// A process: its start and its end.
    Run,
    /// What the cluster decided, as this node has it.
    Decision,
    /// What this node would not sign.
    Refusal,
    /// What another operator signed and must not have.
    Evidence,
    /// The node does not trust its state, or does again.
    Fence,
    /// Keys: made, taken over, copied, bound by a promise, replaced.
    Key,
    /// What was changed by hand.
    Command,
}

impl AuditKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Log,
        Self::Run,
        Self::Decision,
        Self::Refusal,
        Self::Evidence,
        Self::Fence,
        Self::Key,
        Self::Command,
    ];

    /// Its word, as shown and asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Run => "run",
            Self::Decision => "decision",
            Self::Refusal => "refusal",
            Self::Evidence => "evidence",
            Self::Fence => "fence",
            Self::Key => "key",
            Self::Command => "command",
        }
    }

    /// The kind of this word.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What is to be recorded. Texts have no control characters, and all of it fits into a record.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuditEntry {
    kind: AuditKind,
    event: Vec<u8>,
    fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Field {
    name: Vec<u8>,
    value: Vec<u8>,
}

impl AuditEntry {
    /// What happened, in a word.
    pub fn new(kind: AuditKind, event: &'static str) -> Self {
        Self { kind, event: event.into(), fields: Vec::new() }
    }

    /// Adds a field. A value that is too long for it is cut.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        let taken: usize = self.fields.iter().map(|field| field.value.len()).sum();
        let bytes_max = VALUE_BYTES_MAX.min(VALUES_BYTES_MAX.saturating_sub(taken));
        if self.fields.len() < FIELDS_MAX {
            self.fields.push(Field { name: name.into(), value: plain(&value.to_string(), bytes_max) });
        }
        self
    }

    /// What it is about.
    pub fn kind(&self) -> AuditKind {
        self.kind
    }

    /// What happened, in a word.
    pub fn event(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.event)
    }

    /// Its fields, in the order they were given in.
    pub fn fields(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.fields
            .iter()
            .map(|Field { name, value }| (String::from_utf8_lossy(name), String::from_utf8_lossy(value)))
    }
}

/// Text without control characters, so that nothing in it passes for a frame, or speaks to a terminal.
fn plain(text: &str, bytes_max: usize) -> Vec<u8> {
    let mut text: String = text.chars().filter(|letter| !letter.is_control()).collect();
    text.truncate(text.floor_char_boundary(bytes_max));
    text.into_bytes()
}

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuditRecord {
    /// Its number, from 1.
    pub number: u64,
    /// When it was written: milliseconds since 1970 by the clock of this machine.
    pub wall_ms: u64,
    /// Hash of the record before; zero in the first.
    pub previous: B256,
    /// What it says.
    pub entry: AuditEntry,
}

impl AuditRecord {
    /// Names this record, and through `previous` every one before it.
    pub fn hash(&self) -> B256 {
        let preimage = [HASH_TAG, &self.as_ssz_bytes()].concat();
        B256::from(ethereum_hashing::hash_fixed(&preimage))
    }

    /// What the next record follows from.
    pub(super) fn link(&self) -> Link {
        Link { next: self.number.saturating_add(1), head: self.hash() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_record_is_that_of_its_description() {
        let entry =
            AuditEntry::new(AuditKind::Fence, "set").with("height", 7).with("reason", "a row differs");
        let previous = B256::repeat_byte(3);
        let record = AuditRecord { number: 2, wall_ms: 1_800_000_000_123, previous, entry };
        let expected = "75f60fda9f3ba8c9e7d90a635afc76e662b1a334569c93f3026281e0c12b0512";
        assert_eq!(hex(record.hash().as_slice()), expected);
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn texts_of_any_length_with_any_characters_fit_and_are_cut_between_characters() {
        let mut entry = AuditEntry::new(AuditKind::Log, "x").with("name", "two\nlines\u{1b}[2J");
        assert_eq!(entry.fields().next().unwrap().1, "twolines[2J");
        for _ in 0..2 * FIELDS_MAX {
            entry = entry.with("a_name_of_thirty_two_letters____", "ä".repeat(VALUE_BYTES_MAX));
        }
        assert_eq!(entry.fields().count(), FIELDS_MAX);
        assert!(
            entry.fields().all(|(_, value)| value.len() <= VALUE_BYTES_MAX && !value.contains('\u{fffd}'))
        );
        let record = AuditRecord { number: 1, wall_ms: 0, previous: B256::ZERO, entry };
        assert!(RECORD_FRAME.encode(0, &record.as_ssz_bytes()).is_ok());
    }

    #[test]
    fn every_kind_has_a_word_and_the_number_of_its_place() {
        for (number, kind) in (0u8..).zip(AuditKind::ALL) {
            assert_eq!(AuditKind::named(kind.name()), Some(kind));
            assert_eq!(kind.as_ssz_bytes(), [number]);
        }
        assert_eq!(AuditKind::named("rumour"), None);
    }
}
