//! Lines for the person at the terminal. The running node logs instead.
//!
//! A closed pipe (`dvt-node … | head`) is no error: what nobody reads need not be written.

use std::io::Write as _;

/// Writes one line on stdout.
pub fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Writes one line on stderr.
pub fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
