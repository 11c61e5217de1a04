//! Lines on the terminal.

use std::fmt::Display;
use std::io::Write as _;

/// Prints a line. A reader that went away ends nothing.
pub fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a line to standard error.
pub fn complain(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
