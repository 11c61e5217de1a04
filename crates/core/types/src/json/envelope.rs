//! The transaction envelope clients send.

use super::JsonError;
use super::transaction::payload;
use super::walk::{Members, Raw, cut, object, objects};
use crate::limits::{TX_BATCH_MAX, TX_ENVELOPE_BYTES_MAX};
use crate::transaction::TxSignature;
use crate::{Address, AuctionBidV1, PlaintextV1, Transaction, TxBody, TxKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

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
    check_size("transaction", bytes)?;
    Envelope::of(object(bytes)?).transaction(default)
}

/// How the envelopes of a batch are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchForm {
    /// As one JSON array.
    Array,
    /// One on each line; lines that are blank do not count.
    Lines,
}

/// Reads 1 to [`TX_BATCH_MAX`] envelopes in their order, each as [`parse_transaction`] does. A bad one costs the
/// others nothing; an error of the whole is a text that has not that form, or not that many.
pub fn parse_transactions(
    bytes: &[u8],
    form: BatchForm,
) -> Result<Vec<Result<Transaction, JsonError>>, JsonError> {
    check_size("batch", bytes)?;
    let mut parsed = Vec::new();
    let mut take = |transaction| {
        if parsed.len() == TX_BATCH_MAX {
            return Err(JsonError::at("body", format!("has more than {TX_BATCH_MAX} transactions")));
        }
        parsed.push(transaction);
        Ok(())
    };
    match form {
        BatchForm::Array => objects(bytes, |element| {
            take(match element {
                Ok(members) => Envelope::of(members).transaction(TxKind::PlaintextV1),
                Err(what) => Err(JsonError::Syntax { detail: format!("an object is expected, not {what}") }),
            })
        })?,
        BatchForm::Lines => {
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            lines.map(parse_transaction).try_for_each(take)?;
        }
    }
    if parsed.is_empty() {
        return Err(JsonError::at("body", format!("has no transaction, must have 1 to {TX_BATCH_MAX}")));
    }
    Ok(parsed)
}

fn check_size(what: &'static str, bytes: &[u8]) -> Result<(), JsonError> {
    match bytes.len() {
        0..=TX_ENVELOPE_BYTES_MAX => Ok(()),
        bytes => Err(JsonError::TooLarge { what, bytes, bytes_max: TX_ENVELOPE_BYTES_MAX }),
    }
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
struct Envelope<'a>(BTreeMap<&'static str, Raw<'a>>);

impl<'a> Envelope<'a> {
    fn of(members: Members<'a>) -> Self {
        let known = |key: &str| FIELDS.into_iter().find(|field| *field == key);
        let members = members.into_iter();
        Self(members.filter_map(|(key, value)| Some((known(&key)?, value))).collect())
    }

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
        match self.text("type")?.as_deref() {
            None | Some("") => Ok(default),
            Some("private_v1") => Err(JsonError::PrivateDisabled),
            Some(name) => TxKind::from_name(name).ok_or_else(|| JsonError::UnknownType { name: cut(name) }),
        }
    }

    /// The value of a field that is there and not null.
    fn take(&mut self, field: &'static str) -> Option<Raw<'_>> {
        self.0.remove(field).filter(|value| !value.is_null())
    }

    fn number(&mut self, field: &'static str) -> Result<Option<u64>, JsonError> {
        const RULE: &str = "must be an integer from 0 to 18446744073709551615, as a number or a decimal string without leading zeros";
        self.take(field).map(|value| value.integer().ok_or_else(|| JsonError::at(field, RULE))).transpose()
    }

    fn text(&mut self, field: &'static str) -> Result<Option<String>, JsonError> {
        let not_text =
            |value: Raw<'_>| JsonError::at(field, format!("must be a string, not {}", value.what()));
        self.take(field).map(|value| value.text().map(Into::into).ok_or_else(|| not_text(value))).transpose()
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
        match self.0.into_iter().find(|(_, value)| !value.is_nothing()) {
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
