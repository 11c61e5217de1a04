//! Documents with one spelling: two are equal exactly when their files are.
//!
//! UTF-8, the keys in the order of the structures, two-space indent, a final newline. What is read is written again
//! and compared, so that a flipped byte is refused here, or changes something that is hashed or signed.

use crate::DecodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Parses the canonical form and refuses every other, with the line from which on it is another.
pub(crate) fn parse<T: Serialize + DeserializeOwned>(
    what: &'static str,
    text: &str,
    bytes_max: usize,
) -> Result<T, DecodeError> {
    if text.len() > bytes_max {
        return Err(DecodeError::TooLarge { what, bytes: text.len(), bytes_max });
    }
    let malformed = |detail: String| DecodeError::Malformed { what, detail };
    let document: T = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    let canonical = self::text(&document);
    if canonical != text {
        let line = canonical.lines().zip(text.lines()).take_while(|(ours, theirs)| ours == theirs).count();
        return Err(malformed(format!("not in canonical form from line {} on", line + 1)));
    }
    Ok(document)
}

/// The canonical text.
pub(crate) fn text<T: Serialize>(document: &T) -> String {
    // Strings, numbers and structures of them: there is no failing case.
    let mut text = serde_json::to_string_pretty(document).expect("a document is plain data");
    text.push('\n');
    text
}
