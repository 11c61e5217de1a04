//! What consensus is held about: the blocks of the chain, and the duties of the validators.
//!
//! Height and slot are numbers of different things, and no code can take one for the other. On the wire, on disk and
//! in signed bytes an instance is nine bytes whatever it is about: its domain's number, then the height or slot.

use crate::{Height, Slot};
use serde::{Deserialize, Serialize};
use ssz::{Decode, DecodeError, Encode};

/// Number of the domain of blocks.
const BLOCK: u8 = 0;

/// Kinds of duty that operators agree on.
///
/// Their values are opaque so far: what the client of each operator posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DutyKind {
    /// Attestation.
    Attester,
    /// Proposal of a block of the beacon chain.
    Proposer,
    /// Sync committee.
    Sync,
}

/// What is fixed about a kind of duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DutySpec {
    /// Number on the wire, on disk and in signed bytes.
    pub number: u8,
    /// Name in logs, the API and JSON.
    pub name: &'static str,
}

/// Numbers of kinds that are not agreed on yet, with their names: nothing else may take them, and a message about one
/// is malformed.
pub const DUTIES_RESERVED: [DutySpec; 11] = [
    spec(4, "prepare_aggregator"),
    spec(5, "aggregator"),
    spec(6, "prepare_sync_contribution"),
    spec(7, "sync_contribution"),
    spec(8, "randao"),
    spec(9, "payload_attestation"),
    spec(10, "proposer_preferences"),
    spec(11, "exit"),
    spec(12, "builder_registration"),
    spec(13, "payload_envelope"),
    spec(14, "sync_message"),
];

const fn spec(number: u8, name: &'static str) -> DutySpec {
    DutySpec { number, name }
}

impl DutyKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Attester, Self::Proposer, Self::Sync];

    /// Its row in the table of kinds.
    pub const fn spec(self) -> DutySpec {
        match self {
            Self::Attester => spec(1, "attester"),
            Self::Proposer => spec(2, "proposer"),
            Self::Sync => spec(3, "sync"),
        }
    }

    /// Number on the wire, on disk and in signed bytes.
    pub fn number(self) -> u8 {
        self.spec().number
    }

    /// Name in logs, the API and JSON.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The kind of this number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What an instance decides about. Instances of different domains never influence each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Domain {
    /// The chain of blocks.
    Block,
    /// Duties of a kind.
    Duty(DutyKind),
}

impl Domain {
    /// All domains, in the order of their numbers.
    pub const ALL: [Self; 4] = [
        Self::Block,
        Self::Duty(DutyKind::Attester),
        Self::Duty(DutyKind::Proposer),
        Self::Duty(DutyKind::Sync),
    ];

    /// Number on the wire, on disk and in signed bytes.
    pub fn number(self) -> u8 {
        match self {
            Self::Block => BLOCK,
            Self::Duty(kind) => kind.number(),
        }
    }

    /// The domain of this number.
    pub fn of_number(number: u8) -> Option<Self> {
        match number {
            BLOCK => Some(Self::Block),
            _ => DutyKind::of_number(number).map(Self::Duty),
        }
    }

    /// Name in logs, the API and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Duty(kind) => kind.name(),
        }
    }

    /// The instance of this height or slot.
    pub fn instance(self, number: u64) -> InstanceId {
        match self {
            Self::Block => InstanceId::Block(Height(number)),
            Self::Duty(kind) => InstanceId::Duty(DutyId { kind, slot: Slot(number) }),
        }
    }
}

impl From<Domain> for &'static str {
    fn from(domain: Domain) -> Self {
        domain.name()
    }
}

impl TryFrom<String> for Domain {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|domain| domain.name() == name);
        known.ok_or_else(|| format!("unknown domain {name:?}: must be block, attester, proposer or sync"))
    }
}

/// One duty: at most one value of a kind is decided for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DutyId {
    /// What is to be done.
    pub kind: DutyKind,
    /// When.
    pub slot: Slot,
}

/// One consensus instance. Ordered by domain, then by height or slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InstanceId {
    /// The block of this height.
    Block(Height),
    /// This duty.
    Duty(DutyId),
}

impl InstanceId {
    /// The duty of this kind and slot.
    pub const fn duty(kind: DutyKind, slot: Slot) -> Self {
        Self::Duty(DutyId { kind, slot })
    }

    /// What it decides about.
    pub fn domain(self) -> Domain {
        match self {
            Self::Block(_) => Domain::Block,
            Self::Duty(duty) => Domain::Duty(duty.kind),
        }
    }

    /// Its height or slot, for encodings, logs and limits that hold for both.
    pub fn number(self) -> u64 {
        match self {
            Self::Block(height) => height.0,
            Self::Duty(duty) => duty.slot.0,
        }
    }

    /// The following one of its domain. Numbers are bounded far below overflow (2^62 at every entrance).
    pub fn next(self) -> Self {
        self.domain().instance(self.number().saturating_add(1))
    }

    /// Whether it is about a block.
    pub fn is_block(self) -> bool {
        self.domain() == Domain::Block
    }

    /// The height, of a block.
    pub fn height(self) -> Option<Height> {
        match self {
            Self::Block(height) => Some(height),
            Self::Duty(_) => None,
        }
    }

    /// The duty, when it is one.
    pub fn as_duty(self) -> Option<DutyId> {
        match self {
            Self::Block(_) => None,
            Self::Duty(duty) => Some(duty),
        }
    }
}

impl From<DutyId> for InstanceId {
    fn from(duty: DutyId) -> Self {
        Self::Duty(duty)
    }
}

impl std::fmt::Display for InstanceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.domain().name(), self.number())
    }
}

impl std::fmt::Display for DutyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        InstanceId::from(*self).fmt(f)
    }
}

/// Bytes of an instance.
const INSTANCE_BYTES: usize = 9;

impl Encode for InstanceId {
    fn is_ssz_fixed_len() -> bool {
        true
    }
    fn ssz_fixed_len() -> usize {
        INSTANCE_BYTES
    }
    fn ssz_bytes_len(&self) -> usize {
        INSTANCE_BYTES
    }
    fn ssz_append(&self, buf: &mut Vec<u8>) {
        (self.domain().number(), self.number()).ssz_append(buf);
    }
}

impl Decode for InstanceId {
    fn is_ssz_fixed_len() -> bool {
        true
    }
    fn ssz_fixed_len() -> usize {
        INSTANCE_BYTES
    }
    fn from_ssz_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (domain, number) = <(u8, u64)>::from_ssz_bytes(bytes)?;
        Domain::of_number(domain)
            .map(|domain| domain.instance(number))
            .ok_or_else(|| DecodeError::BytesInvalid(format!("unknown domain {domain}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_instance_is_the_number_of_its_domain_and_the_height_or_slot() {
        for (instance, domain) in [
            (InstanceId::Block(Height(0x0102)), 0),
            (InstanceId::duty(DutyKind::Attester, Slot(0x0102)), 1),
            (InstanceId::duty(DutyKind::Proposer, Slot(0x0102)), 2),
            (InstanceId::duty(DutyKind::Sync, Slot(0x0102)), 3),
        ] {
            let bytes = [domain, 2, 1, 0, 0, 0, 0, 0, 0];
            assert_eq!(instance.as_ssz_bytes(), bytes);
            assert_eq!(InstanceId::from_ssz_bytes(&bytes), Ok(instance));
            assert_eq!(instance.domain().instance(instance.number()), instance);
        }
    }

    #[test]
    fn names_in_json_are_those_of_the_table() {
        for kind in DutyKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(serde_json::to_value(Domain::Duty(kind)).unwrap(), kind.name());
        }
        assert_eq!(serde_json::from_str::<Domain>(r#""block""#).unwrap(), Domain::Block);
        assert!(serde_json::from_str::<Domain>(r#""aggregator""#).is_err());
    }

    #[test]
    fn numbers_and_names_of_duties_are_given_once_and_reserved_ones_are_refused() {
        let known = DutyKind::ALL.map(DutyKind::spec);
        let all: Vec<DutySpec> = known.into_iter().chain(DUTIES_RESERVED).collect();
        let numbers: BTreeSet<u8> = all.iter().map(|spec| spec.number).chain([BLOCK]).collect();
        let names: BTreeSet<&str> = all.iter().map(|spec| spec.name).chain([Domain::Block.name()]).collect();
        assert_eq!((numbers.len(), names.len()), (all.len() + 1, all.len() + 1));
        for DutySpec { number, name } in DUTIES_RESERVED {
            let bytes = [number, 0, 0, 0, 0, 0, 0, 0, 0];
            assert!(InstanceId::from_ssz_bytes(&bytes).is_err(), "{name}");
            assert_eq!((DutyKind::of_number(number), DutyKind::named(name)), (None, None));
        }
    }

    #[test]
    fn blocks_come_before_duties_and_duties_of_a_kind_in_the_order_of_slots() {
        let ordered = [
            InstanceId::Block(Height(9)),
            InstanceId::duty(DutyKind::Attester, Slot(1)),
            InstanceId::duty(DutyKind::Attester, Slot(2)),
            InstanceId::duty(DutyKind::Proposer, Slot(0)),
            InstanceId::duty(DutyKind::Sync, Slot(0)),
        ];
        assert!(ordered.is_sorted());
    }

    #[test]
    fn epochs_are_of_as_many_slots_as_the_network_has_it() {
        let epochs = [0, 31, 32].map(|slot| Slot(slot).epoch(32));
        assert_eq!(epochs, [0, 0, 1].map(|epoch| Some(crate::Epoch(epoch))));
        assert_eq!(Slot(1).epoch(0), None);
    }
}
