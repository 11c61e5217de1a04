//! The one spelling of bytes and amounts, for `#[serde(with = …)]`.

use serde::{Deserialize as _, Deserializer, de::Error as _};
use std::fmt::Display;
use std::str::FromStr;

/// Decodes `0x` and lower-case hex digits; nothing else is accepted.
fn canonical_hex(text: &str) -> Result<Vec<u8>, &'static str> {
    let digits = text.strip_prefix("0x").ok_or("hex must start with 0x")?;
    if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("hex must be lower-case");
    }
    hex::decode(digits).map_err(|_| "hex must be an even number of hex digits")
}

/// Bytes of a fixed length.
pub(super) mod fixed {
    use super::*;

    pub fn serialize<T: AsRef<[u8]>, S: serde::Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("0x{}", hex::encode(value)))
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: for<'a> TryFrom<&'a [u8]>,
        D: Deserializer<'de>,
    {
        parse(&String::deserialize(deserializer)?)
    }

    pub(super) fn parse<T: for<'a> TryFrom<&'a [u8]>, E: serde::de::Error>(text: &str) -> Result<T, E> {
        let bytes = canonical_hex(text).map_err(E::custom)?;
        T::try_from(&bytes).map_err(|_| E::custom(format!("{} bytes are the wrong length", bytes.len())))
    }
}

/// Bytes of a fixed length, or null.
pub(super) mod fixed_option {
    use super::*;

    pub fn serialize<T: AsRef<[u8]>, S: serde::Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => fixed::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: for<'a> TryFrom<&'a [u8]>,
        D: Deserializer<'de>,
    {
        Option::<String>::deserialize(deserializer)?.map(|text| fixed::parse(&text)).transpose()
    }
}

/// A list of bytes of a fixed length.
pub(super) mod fixed_list {
    use super::*;

    pub fn serialize<T: AsRef<[u8]>, S: serde::Serializer>(
        values: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|value| format!("0x{}", hex::encode(value))))
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: for<'a> TryFrom<&'a [u8]>,
        D: Deserializer<'de>,
    {
        Vec::<String>::deserialize(deserializer)?.iter().map(|text| fixed::parse(text)).collect()
    }
}

/// Bytes of any length.
pub(super) mod bytes {
    use super::*;

    pub fn serialize<S: serde::Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("0x{}", hex::encode(value)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        canonical_hex(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// An amount as a decimal string without leading zeros.
pub(super) mod decimal {
    use super::*;

    pub fn serialize<T: Display, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, T: FromStr + Display, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        parse(&String::deserialize(deserializer)?)
    }

    /// Only what [`serialize`] writes is read, whatever else a number's own parser takes.
    pub(super) fn parse<T: FromStr + Display, E: serde::de::Error>(text: &str) -> Result<T, E> {
        text.parse().ok().filter(|value: &T| value.to_string() == text).ok_or_else(|| {
            let bits = 8 * size_of::<T>();
            E::custom(format!("an amount must be a decimal string below 2^{bits}"))
        })
    }
}

/// An optional amount; absent and null mean none.
pub(super) mod decimal_option {
    use super::*;

    pub fn serialize<S: serde::Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        Option::<String>::deserialize(deserializer)?.map(|text| decimal::parse(&text)).transpose()
    }
}
