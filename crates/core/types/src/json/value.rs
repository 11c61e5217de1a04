//! A duty's value, as it is shown.

use crate::ValueBytes;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A decided value inside a JSON answer: its own bytes, put in place and not read into a tree. Bytes
/// that are no JSON, which no operator agrees on, are shown as hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueJson(pub ValueBytes);

impl Serialize for ValueJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = &*self.0.0;
        let is_one_line = !bytes.contains(&b'\n') && !bytes.contains(&b'\r');
        match serde_json::from_slice::<&RawValue>(bytes) {
            Ok(raw) if is_one_line => raw.serialize(serializer).map_err(S::Error::custom),
            _ => serializer.collect_str(&format_args!("0x{}", hex::encode(bytes))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_as_its_own_bytes_and_what_is_no_json_as_hex() {
        let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
        let shown = |bytes: &[u8]| serde_json::to_string(&ValueJson(ValueBytes(bytes.into()))).unwrap();
        for text in [r#"{"a":[1e+30,0.1]}"#, "null", "\"0xab\"", deep.as_str()] {
            assert_eq!(shown(text.as_bytes()), text);
        }
        for bytes in [b"".as_slice(), b"not json", &[0xff, 0x00], b"[1,\n2]", b"1 2"] {
            assert_eq!(shown(bytes), format!("\"0x{}\"", hex::encode(bytes)));
        }
    }
}
