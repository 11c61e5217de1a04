//! Text that a terminal shows as it is.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with every character that a terminal obeys or hides written as `\\u` and four hex digits: control
/// characters (C0 but for the line break and the tab, DEL, C1), those that turn the direction of text, those
/// of no width. Inside JSON that is what JSON itself would say.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // A string takes everything.
                let _ = write!(plain, "\\u{unit:04x}");
            }
        } else {
            plain.push(c);
        }
    }
    Cow::Owned(plain)
}

fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_or_hide_is_spelled_out() {
        for (text, expected) in [
            ("plain äöü €\n\ttext 🙂", "plain äöü €\n\ttext 🙂"),
            ("\u{1b}[2J", "\\u001b[2J"),
            ("a\rb\u{7f}\u{0}", "a\\u000db\\u007f\\u0000"),
            ("\u{9b}31m", "\\u009b31m"),
            ("a\u{202e}b\u{2066}c\u{200f}", "a\\u202eb\\u2066c\\u200f"),
            ("\u{2028}\u{feff}\u{e0041}", "\\u2028\\ufeff\\udb40\\udc41"),
        ] {
            assert_eq!(plain(text), expected);
        }
    }
}
