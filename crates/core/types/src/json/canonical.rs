//! RFC 8785 canonical JSON: what operators sign of an opaque duty payload.
//!
//! Keys sorted by their UTF-16 code units, no white space, numbers as ECMAScript writes them,
//! strings with the shortest escapes. A payload has exactly one such form, so comparing bytes is
//! comparing meaning, and what was agreed can always be shown again.
//!
//! The form is written while the text is read; no tree of its values exists at any time.
//!
//! Numbers are doubles. One that a double would change beyond its last digit is refused and not
//! rounded (RFC 7493, section 2.2): whoever means it writes a string.

use super::JsonError;
use super::walk::{Walk, cut};
use serde_json::Value;

/// Largest magnitude of an integer: doubles hold every integer up to it, and not the next but one.
const INTEGER_MAX: f64 = 9_007_199_254_740_991.0;
/// From here on ECMAScript writes an exponent, which nobody reads as an exact integer.
const EXPONENT_FROM: f64 = 1e21;
/// Digits that may tell one double from another; more say something it does not hold.
const DIGITS_MAX: usize = 17;

/// The canonical UTF-8 form of a JSON text.
pub fn canonical(bytes: &[u8]) -> Result<Vec<u8>, JsonError> {
    let mut walk = Walk::of(bytes)?;
    let mut out = String::with_capacity(bytes.len());
    write(&mut walk, &mut out)?;
    walk.end()?;
    Ok(out.into_bytes())
}

/// Whether a text is in its canonical form.
pub fn check_canonical(bytes: &[u8]) -> Result<(), JsonError> {
    if canonical(bytes)? == bytes {
        Ok(())
    } else {
        Err(JsonError::Syntax { detail: "not in RFC 8785 canonical form".into() })
    }
}

fn write(walk: &mut Walk<'_>, out: &mut String) -> Result<(), JsonError> {
    match walk.begin()? {
        b'{' => write_object(walk, out),
        b'[' => {
            out.push('[');
            let start = out.len();
            walk.elements(b']', |walk| {
                if out.len() > start {
                    out.push(',');
                }
                write(walk, out)
            })?;
            out.push(']');
            Ok(())
        }
        b'"' => {
            write_text(&walk.text()?, out);
            Ok(())
        }
        b't' | b'f' | b'n' => {
            out.push_str(walk.word()?);
            Ok(())
        }
        _ => {
            let word = walk.word()?;
            let number =
                number(word).map_err(|limit| walk.error(format_args!("{} is {limit}", cut(word))))?;
            out.push_str(&number);
            Ok(())
        }
    }
}

/// Members are written as they come, then put in order.
fn write_object(walk: &mut Walk<'_>, out: &mut String) -> Result<(), JsonError> {
    let start = out.len();
    let mut members = Vec::new();
    walk.elements(b'}', |walk| {
        let key = walk.key()?;
        let from = out.len() - start;
        write_text(&key, out);
        out.push(':');
        write(walk, out)?;
        members.push((key, from..out.len() - start));
        Ok(())
    })?;
    members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    if let Some(pair) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(walk.duplicate(&pair[0].0));
    }
    let unordered = out.split_off(start);
    let mut separator = '{';
    for (_, range) in &members {
        out.push(separator);
        out.push_str(&unordered[range.clone()]);
        separator = ',';
    }
    out.push_str(if members.is_empty() { "{}" } else { "}" });
    Ok(())
}

/// RFC 8785 escapes in strings what serde_json does, in the same spelling.
fn write_text(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}

/// A number as ECMAScript writes it, or the limit it breaks.
fn number(word: &str) -> Result<String, &'static str> {
    let value: f64 = word.parse().map_err(|_| "no number")?;
    let (digits, scale) = digits_and_scale(word);
    if !value.is_finite() {
        return Err("beyond what a double holds, 1.7976931348623157e308");
    }
    let is_whole = !word.contains(['.', 'e', 'E']);
    if value.abs() > INTEGER_MAX && (is_whole || value.abs() < EXPONENT_FROM) {
        return Err("an integer beyond ±9007199254740991, which a double does not hold exactly");
    }
    let lost_its_fraction = scale < 0 && value.fract() == 0.0;
    if digits > DIGITS_MAX || lost_its_fraction {
        return Err("a number of more digits than a double holds, 17 at most");
    }
    Ok(ecma_number(value))
}

/// How many digits a number has from the first that is not 0 to the last, and the power of ten of
/// the last one.
fn digits_and_scale(word: &str) -> (usize, i64) {
    let (mantissa, exponent) = word.split_once(['e', 'E']).unwrap_or((word, "0"));
    let far = if exponent.starts_with('-') { i64::from(i32::MIN) } else { i64::from(i32::MAX) };
    let exponent = exponent.parse::<i32>().map_or(far, i64::from);
    let decimals = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let all: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = all.trim_end_matches('0');
    let zeros = all.len() - digits.len();
    match digits.trim_start_matches('0').len() {
        0 => (0, 0),
        count => (count, exponent + zeros as i64 - decimals as i64),
    }
}

/// ECMA-262 Number::toString: the shortest digits that read back the same, in plain notation
/// between 1e-6 and 1e21.
fn ecma_number(number: f64) -> String {
    if number == 0.0 {
        return "0".into();
    }
    let magnitude = number.abs();
    if (1e-6..EXPONENT_FROM).contains(&magnitude) {
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
    use super::super::{DEPTH_MAX, VALUES_MAX};
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> String {
        String::from_utf8(canonical(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn the_sample_of_rfc_8785_has_the_form_it_gives() {
        let sample = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let expected = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
                        \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(of(sample), expected);
    }

    #[test]
    fn keys_are_sorted_by_utf_16_at_every_level_and_white_space_is_gone() {
        assert_eq!(
            of(" { \"b\" : [1, 2 , { } , [ ] ] , \"a\": {\"d\":1,\"c\":2}, \"€\": true, \"\\r\": \"x\" } "),
            "{\"\\r\":\"x\",\"a\":{\"c\":2,\"d\":1},\"b\":[1,2,{},[]],\"€\":true}"
        );
        // U+1F600 begins with D83D in UTF-16, below U+FB33; as code points it is above.
        assert_eq!(of("{\"\u{fb33}\":1,\"\u{1f600}\":2}"), "{\"\u{1f600}\":2,\"\u{fb33}\":1}");
    }

    #[test]
    fn numbers_are_written_as_ecmascript_writes_them() {
        for (text, expected) in [
            ("-0", "0"),
            ("0e99999999999", "0"),
            ("100", "100"),
            ("1.0", "1"),
            ("9007199254740991", "9007199254740991"),
            ("-9007199254740991", "-9007199254740991"),
            ("90071992547409.91e2", "9007199254740991"),
            ("1e21", "1e+21"),
            ("1e-7", "1e-7"),
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ] {
            assert_eq!(of(text), expected);
        }
    }

    #[test]
    fn a_number_that_a_double_would_change_is_refused_with_its_limit() {
        for (text, limit) in [
            ("9007199254740992", "±9007199254740991"),
            ("9007199254740993", "±9007199254740991"),
            ("-9007199254740993", "±9007199254740991"),
            ("9007199254740993.0", "±9007199254740991"),
            ("9.007199254740993e15", "±9007199254740991"),
            ("18446744073709551615", "±9007199254740991"),
            ("1e20", "±9007199254740991"),
            ("1000000000000000000000", "±9007199254740991"),
            ("1e400", "beyond what a double holds"),
            ("-1e400", "beyond what a double holds"),
            ("1e99999999999999999999", "beyond what a double holds"),
            ("1e-400", "17 at most"),
            ("1e-99999999999999999999", "17 at most"),
            ("4503599627370497.5", "17 at most"),
            ("3.141592653589793238462643383279", "17 at most"),
            ("1.000000000000000001", "17 at most"),
        ] {
            for text in [text.to_owned(), format!("[{text}]"), format!("{{\"a\":{{\"b\":{text}}}}}")] {
                let error = canonical(text.as_bytes()).unwrap_err().to_string();
                assert!(error.contains(limit), "{text}: {error}");
            }
        }
    }

    #[test]
    fn only_the_canonical_form_itself_is_taken() {
        for good in ["null", "0", "{}", r#"{"a":[1,2.5,1e+30],"b":"ü"}"#, "9007199254740991"] {
            assert_eq!(check_canonical(good.as_bytes()), Ok(()), "{good}");
        }
        let bad: [&[u8]; 10] = [
            b"",
            b"not json",
            b" 1",
            br#"{"b":1,"a":2}"#,
            br#"{"a":1,"a":2}"#,
            b"1.0",
            b"-0",
            br#""\u0041""#,
            br#""\ud800""#,
            &[0xff, 0xfe],
        ];
        for bytes in bad {
            assert!(check_canonical(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn depth_and_values_are_taken_up_to_their_limits_and_refused_above() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(check_canonical(nested(DEPTH_MAX).as_bytes()).is_ok());
        for levels in [DEPTH_MAX + 1, 127, 128, 100_000] {
            assert!(check_canonical(nested(levels).as_bytes()).is_err(), "{levels}");
        }
        let many = |values: usize| format!("[{}]", vec!["{}"; values - 1].join(","));
        assert!(check_canonical(many(VALUES_MAX).as_bytes()).is_ok());
        let error = check_canonical(many(VALUES_MAX + 1).as_bytes()).unwrap_err().to_string();
        assert!(error.contains("more than 10000 values"), "{error}");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let whole = -(1i64 << 53) + 1..1 << 53;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            whole.prop_map(Value::from),
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
        /// What a client posts is what every operator accepts, and it means what was posted.
        #[test]
        fn the_canonical_form_of_anything_is_canonical_and_means_the_same(value in any_json()) {
            // Doubles between 2^53 and 1e21 are refused.
            if let Ok(bytes) = canonical(value.to_string().as_bytes()) {
                prop_assert_eq!(check_canonical(&bytes), Ok(()));
                let read: Value = serde_json::from_slice(&bytes).unwrap();
                prop_assert_eq!(canonical(read.to_string().as_bytes()), Ok(bytes));
            } else {
                prop_assert!(value.to_string().contains(|c: char| c.is_ascii_digit()));
            }
        }

        #[test]
        fn a_double_keeps_its_value(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
            if let Ok(text) = super::number(&format!("{number:e}")) {
                prop_assert_eq!(text.parse::<f64>().unwrap(), number);
            } else {
                prop_assert!((INTEGER_MAX..EXPONENT_FROM).contains(&number.abs()));
            }
        }
    }
}
