//! The transaction envelope clients send.

use super::JsonError;
use super::transaction::payload;
use crate::limits::TX_ENVELOPE_BYTES_MAX;
use crate::transaction::TxSignature;
use crate::{Address, AuctionBidV1, PlaintextV1, Transaction, TxBody, TxKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// Deepest nesting of an envelope: its own fields need one level, ignored ones a few.
pub const DEPTH_MAX: usize = 32;

/// Longest piece of text from outside repeated in an error.
const ECHO_CHARS_MAX: usize = 64;

/// Every field of the envelope, of whatever type.
const FIELDS: [&str; 15] = [
    "type",
    "from",
    "nonce",
    "gas",
    "fee",
    "bid",
    "fee_recipient",
    "payload",
    "ciphertext",
    "ephemeral_key",
    "target_height",
    "batch_index",
    "punctured_key",
    "proof",
    "sig",
];

/// Reads an envelope; a missing type means `plaintext_v1`.
pub fn parse_transaction(bytes: &[u8]) -> Result<Transaction, JsonError> {
    parse_transaction_as(bytes, TxKind::PlaintextV1)
}

/// Reads an envelope; a missing or empty type means `default`.
pub fn parse_transaction_as(bytes: &[u8], default: TxKind) -> Result<Transaction, JsonError> {
    if bytes.len() > TX_ENVELOPE_BYTES_MAX {
        return Err(JsonError::TooLarge {
            what: "transaction",
            bytes: bytes.len(),
            bytes_max: TX_ENVELOPE_BYTES_MAX,
        });
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let envelope = json.deserialize_map(EnvelopeVisitor)?;
    json.end()?;
    envelope.transaction(default)
}

/// Reads an address: 0x and 40 hex digits of any case, EIP-55 checked when the case is mixed.
pub fn parse_address(text: &str) -> Result<Address, String> {
    let digits =
        text.strip_prefix("0x").filter(|digits| digits.len() == 40).ok_or("must be 0x and 40 hex digits")?;
    let mut bytes = [0u8; 20];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| "must be 0x and 40 hex digits")?;
    let address = Address::from(bytes);
    let mixed = digits.bytes().any(|byte| byte.is_ascii_lowercase())
        && digits.bytes().any(|byte| byte.is_ascii_uppercase());
    if mixed && address.to_checksum(None) != text {
        return Err("mixed case does not match the EIP-55 checksum".into());
    }
    Ok(address)
}

/// Reads bytes: hex exactly when the text is 0x and an even number of hex digits, and for
/// `fixed` sizes of that length; standard base64 with padding otherwise.
pub fn parse_bytes(text: &str, fixed: Option<usize>) -> Result<Vec<u8>, String> {
    let as_hex = text.strip_prefix("0x").and_then(|digits| hex::decode(digits).ok());
    let bytes = match as_hex {
        Some(bytes) if fixed.is_none_or(|size| size == bytes.len()) => bytes,
        _ => STANDARD.decode(text).map_err(|_| match fixed {
            Some(size) => format!("must be {size} bytes as 0x-hex or padded base64"),
            None => "must be 0x-hex or padded base64".to_owned(),
        })?,
    };
    match fixed {
        Some(size) if size != bytes.len() => Err(format!("has {} bytes, must have {size}", bytes.len())),
        _ => Ok(bytes),
    }
}

/// Known fields of one envelope, not yet interpreted.
struct Envelope(BTreeMap<&'static str, Scalar>);

impl Envelope {
    fn transaction(mut self, default: TxKind) -> Result<Transaction, JsonError> {
        let kind = self.kind(default)?;
        let payload = payload(self.bytes("payload", None)?.unwrap_or_default())?;
        let from = self.address("from")?;
        let nonce = required("nonce", self.number("nonce")?)?;
        let gas = positive("gas", self.number("gas")?)?;
        let body = match kind {
            TxKind::PlaintextV1 => {
                let fee = self.number("fee")?.unwrap_or(0);
                TxBody::Plaintext(PlaintextV1 { from, nonce, gas, fee, payload })
            }
            TxKind::AuctionBidV1 => {
                let bid = positive("bid", self.number("bid")?)?;
                let fee_recipient = self.address("fee_recipient")?;
                TxBody::AuctionBid(AuctionBidV1 { from, nonce, gas, bid, fee_recipient, payload })
            }
        };
        let sig = required("sig", self.bytes("sig", Some(TxSignature::len_bytes()))?)?;
        self.nothing_left(kind)?;
        Ok(Transaction { body, sig: TxSignature::from_slice(&sig) })
    }

    fn kind(&mut self, default: TxKind) -> Result<TxKind, JsonError> {
        match self.0.remove("type") {
            None | Some(Scalar::Null) => Ok(default),
            Some(Scalar::Text(name)) if name.is_empty() => Ok(default),
            Some(Scalar::Text(name)) if name == "private_v1" => Err(JsonError::PrivateDisabled),
            Some(Scalar::Text(name)) => {
                TxKind::from_name(&name).ok_or_else(|| JsonError::UnknownType { name: cut(&name) })
            }
            Some(other) => Err(JsonError::at("type", format!("must be a string, not {}", other.what()))),
        }
    }

    fn number(&mut self, field: &'static str) -> Result<Option<u64>, JsonError> {
        const RULE: &str =
            "must be an integer from 0 to 18446744073709551615, as a number or a decimal string";
        match self.0.remove(field) {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Number(value)) => Ok(Some(value)),
            Some(Scalar::Text(text))
                if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                text.parse().map(Some).map_err(|_| JsonError::at(field, RULE))
            }
            Some(_) => Err(JsonError::at(field, RULE)),
        }
    }

    fn text(&mut self, field: &'static str) -> Result<Option<String>, JsonError> {
        match self.0.remove(field) {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Text(text)) => Ok(Some(text)),
            Some(other) => Err(JsonError::at(field, format!("must be a string, not {}", other.what()))),
        }
    }

    fn address(&mut self, field: &'static str) -> Result<Address, JsonError> {
        let text = required(field, self.text(field)?)?;
        parse_address(&text).map_err(|problem| JsonError::at(field, problem))
    }

    fn bytes(&mut self, field: &'static str, fixed: Option<usize>) -> Result<Option<Vec<u8>>, JsonError> {
        self.text(field)?
            .map(|text| parse_bytes(&text, fixed).map_err(|problem| JsonError::at(field, problem)))
            .transpose()
    }

    /// Fields of other types must say nothing.
    fn nothing_left(self, kind: TxKind) -> Result<(), JsonError> {
        match self.0.into_iter().find(|(_, scalar)| !scalar.is_nothing()) {
            Some((field, _)) => Err(JsonError::at(field, format!("does not belong to {}", kind.name()))),
            None => Ok(()),
        }
    }
}

fn required<T>(field: &'static str, value: Option<T>) -> Result<T, JsonError> {
    value.ok_or_else(|| JsonError::at(field, "is required"))
}

fn positive(field: &'static str, value: Option<u64>) -> Result<u64, JsonError> {
    match required(field, value)? {
        0 => Err(JsonError::at(field, "must be greater than 0")),
        value => Ok(value),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(ECHO_CHARS_MAX).collect()
}

/// A value as far as an envelope can use it; arrays and objects are checked and forgotten.
enum Scalar {
    Null,
    Number(u64),
    Text(String),
    Other { what: &'static str, empty: bool },
}

impl Scalar {
    fn what(&self) -> &'static str {
        match self {
            Scalar::Null => "null",
            Scalar::Number(_) => "a number",
            Scalar::Text(_) => "a string",
            Scalar::Other { what, .. } => what,
        }
    }

    /// Null, 0 or empty, in any spelling.
    fn is_nothing(&self) -> bool {
        match self {
            Scalar::Null | Scalar::Number(0) => true,
            Scalar::Number(_) => false,
            Scalar::Text(text) => matches!(text.as_str(), "" | "0" | "0x"),
            Scalar::Other { empty, .. } => *empty,
        }
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a transaction object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
        let mut seen = HashSet::new();
        let mut fields = BTreeMap::new();
        while let Some(key) = next_key(&mut map, &mut seen)? {
            let scalar = map.next_value_seed(Bounded { depth: 1 })?;
            if let Some(field) = FIELDS.into_iter().find(|field| *field == key) {
                fields.insert(field, scalar);
            }
        }
        Ok(Envelope(fields))
    }
}

/// The next key of an object, which must not have come before.
fn next_key<'de, A: MapAccess<'de>>(
    map: &mut A,
    seen: &mut HashSet<String>,
) -> Result<Option<String>, A::Error> {
    let Some(key) = map.next_key::<String>()? else { return Ok(None) };
    if !seen.insert(key.clone()) {
        return Err(A::Error::custom(format_args!("duplicate key \"{}\"", cut(&key))));
    }
    Ok(Some(key))
}

/// Reads any value, `depth` levels down, enforcing depth and unique keys.
struct Bounded {
    depth: usize,
}

impl Bounded {
    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format_args!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Bounded {
    type Value = Scalar;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scalar, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Other { what: "a boolean", empty: false })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Scalar, E> {
        Ok(Scalar::Other { what: "a negative number", empty: false })
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::Other { what: "a number that is no u64", empty: false })
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Scalar, E> {
        Ok(Scalar::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
        let depth = self.deeper()?;
        let mut empty = true;
        while seq.next_element_seed(Bounded { depth })?.is_some() {
            empty = false;
        }
        Ok(Scalar::Other { what: "an array", empty })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        let depth = self.deeper()?;
        let mut seen = HashSet::new();
        while next_key(&mut map, &mut seen)?.is_some() {
            map.next_value_seed(Bounded { depth })?;
        }
        Ok(Scalar::Other { what: "an object", empty: seen.is_empty() })
    }
}
