//! Lines for the person at the terminal. The running node logs instead.
//!
//! A closed pipe (`dvt-node … | head`) is no error: what nobody reads need not be written. What other nodes
//! say ends up in these lines, so nothing in them speaks to the terminal.

use aequa_telemetry::log::plain;
use std::io::Write as _;

/// Writes one line on stdout.
pub fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{}", plain(&text.to_string()));
}

/// Writes one line on stderr.
pub fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{}", plain(&text.to_string()));
}
