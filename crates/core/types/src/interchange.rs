//! What validators have signed, as validator clients give it to each other (EIP-3076, version 5).
//!
//! Read in either form, the complete one or the minimal one, and kept as the minimal one: of each key the highest slot
//! of a block and the highest source and target of an attestation. At and below them nothing is signed again; that
//! refuses a little more than the complete history would, and nothing less.

use crate::DecodeError;
use crate::validator::ValidatorKey;
use alloy_primitives::B256;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// The version of the format that is read and written.
pub const INTERCHANGE_VERSION: &str = "5";
/// Largest file in bytes. The minimal form of a thousand keys has a third of a megabyte.
pub const INTERCHANGE_BYTES_MAX: usize = 64 << 20;

/// The watermarks of validators of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interchange {
    /// Names the network.
    pub genesis_validators_root: B256,
    /// Of each key what it has signed.
    pub keys: BTreeMap<ValidatorKey, ValidatorWatermark>,
}

/// Up to where a key has signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ValidatorWatermark {
    /// Highest slot of a block.
    pub block_slot: Option<u64>,
    /// Highest source and highest target epoch of an attestation.
    pub attestation: Option<(u64, u64)>,
}

impl ValidatorWatermark {
    /// Whether nothing was signed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The higher of both, in each of its parts.
    pub fn merge(self, other: Self) -> Self {
        let attestation = match (self.attestation, other.attestation) {
            (Some((source, target)), Some((other_source, other_target))) => {
                Some((source.max(other_source), target.max(other_target)))
            }
            (one, None) | (None, one) => one,
        };
        Self { block_slot: self.block_slot.max(other.block_slot), attestation }
    }
}

impl Interchange {
    /// Reads a file; entries of one key are taken together.
    pub fn from_json(text: &str) -> Result<Self, DecodeError> {
        const WHAT: &str = "slashing protection";
        if text.len() > INTERCHANGE_BYTES_MAX {
            let (bytes, bytes_max) = (text.len(), INTERCHANGE_BYTES_MAX);
            return Err(DecodeError::TooLarge { what: WHAT, bytes, bytes_max });
        }
        let malformed = |detail: String| DecodeError::Malformed { what: WHAT, detail };
        let file: File = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        if file.metadata.interchange_format_version != INTERCHANGE_VERSION {
            let found = file.metadata.interchange_format_version;
            return Err(malformed(format!("interchange_format_version is {found:?}, must be \"5\"")));
        }
        let mut keys: BTreeMap<ValidatorKey, ValidatorWatermark> = BTreeMap::new();
        for entry in &file.data {
            let watermark =
                entry.watermark().map_err(|reason| malformed(format!("{}: {reason}", entry.pubkey)))?;
            let known = keys.entry(entry.pubkey).or_default();
            *known = known.merge(watermark);
        }
        Ok(Self { genesis_validators_root: file.metadata.genesis_validators_root, keys })
    }

    /// The minimal form, in the order of the keys.
    pub fn to_json(&self) -> String {
        let data = self.keys.iter().map(|(pubkey, watermark)| Entry {
            pubkey: *pubkey,
            signed_blocks: watermark
                .block_slot
                .map(|slot| SignedBlock { slot: Decimal(slot) })
                .into_iter()
                .collect(),
            signed_attestations: watermark
                .attestation
                .map(|(source, target)| SignedAttestation {
                    source_epoch: Decimal(source),
                    target_epoch: Decimal(target),
                })
                .into_iter()
                .collect(),
        });
        let metadata = Metadata {
            interchange_format_version: INTERCHANGE_VERSION.into(),
            genesis_validators_root: self.genesis_validators_root,
        };
        crate::canonical::text(&File { metadata, data: data.collect() })
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    metadata: Metadata,
    data: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    interchange_format_version: String,
    genesis_validators_root: B256,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    pubkey: ValidatorKey,
    signed_blocks: Vec<SignedBlock>,
    signed_attestations: Vec<SignedAttestation>,
}

#[derive(Serialize, Deserialize)]
struct SignedBlock {
    slot: Decimal,
}

#[derive(Serialize, Deserialize)]
struct SignedAttestation {
    source_epoch: Decimal,
    target_epoch: Decimal,
}

impl Entry {
    fn watermark(&self) -> Result<ValidatorWatermark, String> {
        let mut watermark = ValidatorWatermark::default();
        for block in &self.signed_blocks {
            let block_slot = Some(block.slot.0);
            watermark = watermark.merge(ValidatorWatermark { block_slot, attestation: None });
        }
        for SignedAttestation { source_epoch: Decimal(source), target_epoch: Decimal(target) } in
            &self.signed_attestations
        {
            if source > target {
                return Err(format!("an attestation has source {source} above target {target}"));
            }
            let attestation = Some((*source, *target));
            watermark = watermark.merge(ValidatorWatermark { block_slot: None, attestation });
        }
        Ok(watermark)
    }
}

/// A number as decimal text.
struct Decimal(u64);

impl Serialize for Decimal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| serde::de::Error::custom(format!("{text:?} is no decimal number")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ValidatorKey = ValidatorKey::repeat_byte(7);

    fn file(version: &str, entries: &str) -> String {
        let root = B256::repeat_byte(4);
        format!(
            r#"{{"metadata":{{"interchange_format_version":"{version}","genesis_validators_root":"{root}"}},"data":[{entries}]}}"#
        )
    }

    #[test]
    fn of_a_complete_history_the_highest_of_each_kind_remains() {
        let entry = |blocks: &str, attestations: &str| {
            format!(
                r#"{{"pubkey":"{KEY}","signed_blocks":[{blocks}],"signed_attestations":[{attestations}]}}"#
            )
        };
        let first = entry(
            r#"{"slot":"9","signing_root":"0x01"},{"slot":"12"}"#,
            r#"{"source_epoch":"3","target_epoch":"4"},{"source_epoch":"1","target_epoch":"8"}"#,
        );
        let again = entry(r#"{"slot":"10"}"#, r#"{"source_epoch":"2","target_epoch":"5"}"#);
        let read = Interchange::from_json(&file("5", &format!("{first},{again}"))).unwrap();
        let watermark = ValidatorWatermark { block_slot: Some(12), attestation: Some((3, 8)) };
        assert_eq!(read.keys, BTreeMap::from([(KEY, watermark)]));
        assert_eq!(Interchange::from_json(&read.to_json()), Ok(read));
    }

    #[test]
    fn a_key_that_has_signed_nothing_is_empty_and_stays_so() {
        let entry = format!(r#"{{"pubkey":"{KEY}","signed_blocks":[],"signed_attestations":[]}}"#);
        let read = Interchange::from_json(&file("5", &entry)).unwrap();
        assert!(read.keys[&KEY].is_empty());
        assert_eq!(Interchange::from_json(&read.to_json()), Ok(read));
    }

    #[test]
    fn what_could_hide_a_signature_is_refused() {
        let with = |attestation: &str| {
            format!(r#"{{"pubkey":"{KEY}","signed_blocks":[],"signed_attestations":[{attestation}]}}"#)
        };
        for (text, says) in [
            (file("4", ""), "interchange_format_version"),
            (file("5", &with(r#"{"source_epoch":"5","target_epoch":"4"}"#)), "above target"),
            (file("5", &with(r#"{"source_epoch":5,"target_epoch":"6"}"#)), "expected a string"),
            (file("5", &with(r#"{"source_epoch":"-1","target_epoch":"4"}"#)), "decimal"),
            (file("5", &with(r#"{"target_epoch":"4"}"#)), "source_epoch"),
            (file("5", &format!(r#"{{"pubkey":"{KEY}","signed_blocks":[]}}"#)), "signed_attestations"),
            ("{}".into(), "metadata"),
        ] {
            let error = Interchange::from_json(&text).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
