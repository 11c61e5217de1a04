//! One walk over a JSON text that builds nothing of it.
//!
//! Every text a stranger sends is read this way: the grammar of RFC 8259, at most [`DEPTH_MAX`]
//! levels and [`VALUES_MAX`] values, no key twice in an object, no half of a surrogate pair, nothing
//! after the value. What is wanted of it is taken from the text itself, as [`Raw`] values; a tree of
//! values would be fifty times as large as the text.

use super::JsonError;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Deepest nesting: what clients send needs a few levels, and each costs stack.
pub const DEPTH_MAX: usize = 32;
/// Most values in one text: ten times what any duty has, and below a millisecond of work.
pub const VALUES_MAX: usize = 10_000;

/// Longest piece of text from outside repeated in an error.
const ECHO_CHARS_MAX: usize = 64;

/// The beginning of a text from outside, for an error.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(ECHO_CHARS_MAX).collect()
}

/// A u64 in decimal digits as they are written: no sign, no leading zero, nothing else.
pub fn decimal(text: &str) -> Option<u64> {
    let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    plain.then(|| text.parse().ok()).flatten()
}

/// Members of an object, in their order.
pub(super) type Members<'a> = Vec<(Cow<'a, str>, Raw<'a>)>;

/// The members of the one object a text consists of, in their order.
pub fn object(bytes: &[u8]) -> Result<Members<'_>, JsonError> {
    let mut walk = Walk::of(bytes)?;
    if walk.begin()? != b'{' {
        return Err(walk.error("an object is expected"));
    }
    let members = walk.members()?;
    walk.end()?;
    Ok(members)
}

/// The one array a text consists of, element by element: the members of one that is an object, what another one
/// is. [`VALUES_MAX`] holds for each by itself, as if it had come alone.
pub(super) fn objects<'a>(
    bytes: &'a [u8],
    mut take: impl FnMut(Result<Members<'a>, &'static str>) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    let mut walk = Walk::of(bytes)?;
    if walk.begin()? != b'[' {
        return Err(walk.error("an array is expected"));
    }
    walk.elements(b']', |walk| {
        walk.values = 0;
        match walk.peek() {
            Some(b'{') => {
                walk.begin()?;
                take(Ok(walk.members()?))
            }
            _ => take(Err(walk.raw()?.what())),
        }
    })?;
    walk.end()
}

/// The text of one value: well formed and within the limits, not interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// The text itself.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether it is null.
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// What a string says; `None` for any other value.
    pub fn text(self) -> Option<Cow<'a, str>> {
        if !self.0.starts_with('"') {
            return None;
        }
        Walk { text: self.0, at: 0, values: 0, depth: 0 }.text().ok()
    }

    /// A u64 as a number without fraction and exponent, or as a [`decimal`] string.
    pub fn integer(self) -> Option<u64> {
        match self.text() {
            Some(text) => decimal(&text),
            None => decimal(self.0),
        }
    }

    /// What it is, for an error.
    pub fn what(self) -> &'static str {
        match self.0.as_bytes().first() {
            Some(b'"') => "a string",
            Some(b'[') => "an array",
            Some(b'{') => "an object",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        }
    }

    /// Whether it says nothing: null, 0, or empty in any spelling.
    pub(super) fn is_nothing(self) -> bool {
        match self.text() {
            Some(text) => matches!(&*text, "" | "0" | "0x"),
            None => {
                let inside = self.0.strip_prefix(['[', '{']).and_then(|rest| rest.strip_suffix([']', '}']));
                matches!(self.0, "null" | "0") || inside.is_some_and(|inside| inside.trim().is_empty())
            }
        }
    }
}

/// Where the walk is.
pub(super) struct Walk<'a> {
    text: &'a str,
    at: usize,
    values: usize,
    depth: usize,
}

impl<'a> Walk<'a> {
    /// At the first value of a text.
    pub fn of(bytes: &'a [u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| JsonError::Syntax { detail: format!("no UTF-8: {error}") })?;
        let mut walk = Self { text, at: 0, values: 0, depth: 0 };
        walk.space();
        Ok(walk)
    }

    /// Counts the value that begins here; its first byte.
    pub fn begin(&mut self) -> Result<u8, JsonError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(self.error(format_args!("more than {VALUES_MAX} values")));
        }
        self.peek().ok_or_else(|| self.error("a value is expected"))
    }

    /// What stands between the bracket here and its counterpart, each element read by `element`.
    pub fn elements(
        &mut self,
        close: u8,
        mut element: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        if self.depth == DEPTH_MAX {
            return Err(self.error(format_args!("more than {DEPTH_MAX} levels deep")));
        }
        self.depth += 1;
        self.at += 1;
        self.space();
        if !self.eat(close) {
            loop {
                element(self)?;
                self.space();
                if self.eat(close) {
                    break;
                }
                self.expect(b',')?;
                self.space();
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// The members of the object that begins here and was counted.
    fn members(&mut self) -> Result<Members<'a>, JsonError> {
        let mut members = Vec::new();
        let mut keys = BTreeSet::new();
        self.elements(b'}', |walk| {
            let key = walk.key()?;
            walk.unique(&mut keys, key.clone())?;
            members.push((key, walk.raw()?));
            Ok(())
        })?;
        Ok(members)
    }

    /// The key of the member that begins here; its value comes next.
    pub fn key(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let key = self.text()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(key)
    }

    /// The string that begins here.
    pub fn text(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.expect(b'"')?;
        let mut unescaped = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| c < ' ' || c == '"' || c == '\\').unwrap_or(rest.len());
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(if unescaped.is_empty() {
                        Cow::Borrowed(&rest[..plain])
                    } else {
                        Cow::Owned(unescaped + &rest[..plain])
                    });
                }
                Some(b'\\') => {
                    unescaped.push_str(&rest[..plain]);
                    self.at += 1;
                    unescaped.push(self.escape()?);
                }
                Some(_) => return Err(self.error("a control character in a string")),
                None => return Err(self.error("a string without an end")),
            }
        }
    }

    /// The number, true, false or null that begins here.
    pub fn word(&mut self) -> Result<&'a str, JsonError> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
        let word = &rest[..end.unwrap_or(rest.len())];
        if !matches!(word, "null" | "true" | "false") && !is_number(word) {
            return Err(self.error("a value is expected"));
        }
        self.at += word.len();
        Ok(word)
    }

    /// Refuses a key that came before.
    pub fn unique(&self, keys: &mut BTreeSet<Cow<'a, str>>, key: Cow<'a, str>) -> Result<(), JsonError> {
        match keys.get(&key) {
            Some(key) => Err(self.duplicate(key)),
            None => {
                keys.insert(key);
                Ok(())
            }
        }
    }

    /// A key came twice.
    pub fn duplicate(&self, key: &str) -> JsonError {
        self.error(format_args!("duplicate key {:?}", cut(key)))
    }

    /// Nothing may follow the value.
    pub fn end(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.at < self.text.len() { Err(self.error("something follows the value")) } else { Ok(()) }
    }

    /// What is wrong, and where.
    pub fn error(&self, what: impl std::fmt::Display) -> JsonError {
        JsonError::Syntax { detail: format!("{what} at byte {}", self.at) }
    }

    fn raw(&mut self) -> Result<Raw<'a>, JsonError> {
        let start = self.at;
        self.skip()?;
        Ok(Raw(&self.text[start..self.at]))
    }

    fn skip(&mut self) -> Result<(), JsonError> {
        match self.begin()? {
            b'{' => {
                let mut keys = BTreeSet::new();
                self.elements(b'}', |walk| {
                    let key = walk.key()?;
                    walk.unique(&mut keys, key)?;
                    walk.skip()
                })
            }
            b'[' => self.elements(b']', Self::skip),
            b'"' => self.text().map(drop),
            _ => self.word().map(drop),
        }
    }

    /// The character an escape stands for, from behind its backslash.
    fn escape(&mut self) -> Result<char, JsonError> {
        let kind = self.peek().ok_or_else(|| self.error("a string without an end"))?;
        self.at += 1;
        Ok(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4()?;
                let units = if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
                    self.at += 2;
                    [first, self.hex4()?].to_vec()
                } else {
                    [first].to_vec()
                };
                match char::decode_utf16(units).next() {
                    Some(Ok(c)) => c,
                    _ => return Err(self.error("half of a surrogate pair")),
                }
            }
            _ => return Err(self.error("an unknown escape")),
        })
    }

    fn hex4(&mut self) -> Result<u16, JsonError> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.error("four hex digits are expected"))?;
        self.at += 4;
        Ok(unit)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        self.at += usize::from(here);
        here
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.eat(byte) {
            Ok(())
        } else {
            Err(self.error(format_args!("{:?} is expected", char::from(byte))))
        }
    }
}

/// The grammar of RFC 8259, section 6.
fn is_number(word: &str) -> bool {
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_strict_json_is_walked() {
        let array = r#"[1,-2,0.5e-7,"x\ud83d\ude00", null,true]"#;
        let text = format!(" {{\"a\" : {array} }} ");
        assert_eq!(object(text.as_bytes()).unwrap(), [("a".into(), Raw(array))]);
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            "{} {}",
            "{}x",
            "",
            "[]",
            "{",
            r#"{"a":[1,]}"#,
            r#"{"a":1,}"#,
            r#"{,}"#,
            r#"{"a":01}"#,
            r#"{"a":+1}"#,
            r#"{"a":1.}"#,
            r#"{"a":.5}"#,
            r#"{"a":1e}"#,
            r#"{"a":NaN}"#,
            r#"{"a":nul}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\udc00\ud800"}"#,
            r#"{"a":"\ud800\u0041"}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\u+123"}"#,
            "{\"a\":\"\n\"}",
            "{\"a\":\"",
            "{\"a\":\"\\",
            "\u{feff}{}",
        ] {
            assert!(object(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn values_are_taken_up_to_their_limit_and_refused_above() {
        let text = |values: usize| format!(r#"{{"a":[{}]}}"#, vec!["0"; values - 2].join(","));
        assert!(object(text(VALUES_MAX).as_bytes()).is_ok());
        let error = object(text(VALUES_MAX + 1).as_bytes()).unwrap_err().to_string();
        assert!(error.contains("more than 10000 values"), "{error}");
    }

    #[test]
    fn a_raw_value_says_what_it_is() {
        let members =
            object(br#"{"t":"a\n","n":7,"s":"7","z":"07","o":{ },"e":"","f":1.0,"b":true}"#).unwrap();
        let of = |key| members.iter().find(|(known, _)| known == key).unwrap().1;
        assert_eq!(of("t").text().unwrap(), "a\n");
        assert_eq!([of("n"), of("s"), of("z"), of("f")].map(Raw::integer), [Some(7), Some(7), None, None]);
        assert_eq!([of("o"), of("e"), of("n"), of("b")].map(Raw::is_nothing), [true, true, false, false]);
        assert_eq!([of("o"), of("f"), of("b")].map(Raw::what), ["an object", "a number", "a boolean"]);
    }

    proptest! {
        #[test]
        fn what_is_walked_is_what_serde_json_reads(text in r#"[\[\]{}",:0-9a-f\\ue+. -]{0,24}"#) {
            let text = format!("{{\"k\":{text}}}");
            if let Ok(members) = object(text.as_bytes()) {
                prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok());
                prop_assert!(!members.is_empty());
            }
        }

        #[test]
        fn a_string_means_what_serde_json_reads(content: String) {
            let text = serde_json::json!({ "k": content }).to_string();
            prop_assert_eq!(object(text.as_bytes()).unwrap()[0].1.text().unwrap(), content);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = object(&bytes);
        }

        #[test]
        fn a_decimal_is_exactly_its_own_form(text in "[0-9+.eEx -]{0,21}") {
            let expected = text.parse::<u64>().ok().filter(|value| value.to_string() == text);
            prop_assert_eq!(decimal(&text), expected);
        }
    }
}
