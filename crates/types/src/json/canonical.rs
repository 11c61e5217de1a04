//! RFC 8785 canonical JSON: what operators sign of an opaque duty payload.
//!
//! Keys sorted by their UTF-16 code units, no white space, numbers as ECMAScript writes them,
//! strings with the shortest escapes. A payload has exactly one such form, so comparing bytes is
//! comparing meaning, and what was agreed can always be shown again.

use super::{DEPTH_MAX, JsonError};
use serde_json::Value;

/// The canonical UTF-8 form of a JSON value.
pub fn canonical_bytes(value: &Value) -> Vec<u8> {
    let mut out = String::new();
    write(value, &mut out);
    out.into_bytes()
}

/// Reads a JSON value of at most [`DEPTH_MAX`] levels from its canonical form, and from no other.
pub fn parse_canonical(bytes: &[u8]) -> Result<Value, JsonError> {
    // The parser itself stops at 128 levels, so that nothing below can overflow the stack.
    let value: Value = serde_json::from_slice(bytes)?;
    let refused = |detail: String| Err(JsonError::Syntax { detail });
    if depth(&value) > DEPTH_MAX {
        return refused(format!("more than {DEPTH_MAX} levels deep"));
    }
    if canonical_bytes(&value) != bytes {
        return refused("not in RFC 8785 canonical form".into());
    }
    Ok(value)
}

/// Levels of arrays and objects.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (i, (key, member)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                string(key, out);
                out.push(':');
                write(member, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::String(text) => string(text, out),
        Value::Number(number) => out.push_str(&ecma_number(number.as_f64().unwrap_or_default())),
        Value::Bool(_) | Value::Null => out.push_str(&value.to_string()),
    }
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// ECMA-262 Number::toString: the shortest digits that read back the same, in plain notation
/// between 1e-6 and 1e21.
fn ecma_number(number: f64) -> String {
    if number == 0.0 {
        return "0".into();
    }
    let magnitude = number.abs();
    if (1e-6..1e21).contains(&magnitude) {
        return format!("{number}");
    }
    let scientific = format!("{number:e}");
    match scientific.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => scientific,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        String::from_utf8(canonical_bytes(&serde_json::from_str(text).unwrap())).unwrap()
    }

    #[test]
    fn keys_are_sorted_and_white_space_is_gone() {
        assert_eq!(
            canonical(r#" { "b" : [1, 2 ] , "a": null, "€": true, "\r": "x" } "#),
            "{\"\\r\":\"x\",\"a\":null,\"b\":[1,2],\"€\":true}"
        );
    }

    #[test]
    fn numbers_are_written_as_ecmascript_writes_them() {
        for (text, expected) in [
            ("333333333.33333329", "333333333.3333333"),
            ("1E30", "1e+30"),
            ("4.50", "4.5"),
            ("2e-3", "0.002"),
            ("0.000000000000000000000000001", "1e-27"),
            ("-0", "0"),
            ("100", "100"),
        ] {
            assert_eq!(canonical(text), expected);
        }
    }

    #[test]
    fn strings_keep_everything_that_needs_no_escape() {
        assert_eq!(canonical(r#""€$\u000f\nA'B\"\\\\\"\/""#), "\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"");
    }

    #[test]
    fn only_the_canonical_form_itself_is_taken() {
        for good in ["null", "0", "{}", r#"{"a":[1,2.5,1e+30],"b":"ü"}"#, "18446744073709552000"] {
            assert!(parse_canonical(good.as_bytes()).is_ok(), "{good}");
        }
        let bad: [&[u8]; 9] = [
            b"",
            b"not json",
            b" 1",
            br#"{"b":1,"a":2}"#,
            br#"{"a":1,"a":2}"#,
            b"1.0",
            b"-0",
            br#""\u0041""#,
            &[0xff, 0xfe],
        ];
        for bytes in bad {
            assert!(parse_canonical(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn depth_is_taken_up_to_its_limit_and_refused_above() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse_canonical(nested(DEPTH_MAX).as_bytes()).is_ok());
        for levels in [DEPTH_MAX + 1, 127, 128, 100_000] {
            assert!(parse_canonical(nested(levels).as_bytes()).is_err(), "{levels}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// What a client posts is what every operator accepts, and what a stored report gives back.
        #[test]
        fn the_canonical_form_of_anything_is_canonical_and_survives_a_report(value in any_json()) {
            let bytes = canonical_bytes(&value);
            let parsed = parse_canonical(&bytes);
            prop_assert!(parsed.is_ok());
            let report = serde_json::to_vec(&parsed.unwrap()).unwrap();
            let read: Value = serde_json::from_slice(&report).unwrap();
            prop_assert_eq!(canonical_bytes(&read), bytes);
        }
    }
}
