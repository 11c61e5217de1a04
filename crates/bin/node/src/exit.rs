//! How the process ends: one code per kind of ending, and a hint for people.

use std::fmt;

/// Exit codes of every subcommand.
pub mod code {
    /// Start or runtime failure; for `verify-*`: invalid.
    pub const FAILURE: u8 = 1;
    /// Wrong command line or configuration.
    pub const USAGE: u8 = 2;
    /// A check could not be made.
    pub const UNCHECKED: u8 = 3;
    /// Refused for safety: going on could make this operator contradict itself.
    pub const REFUSED: u8 = 4;
}

/// Why the process ends with a code other than 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExitError {
    /// One of [`code`].
    pub code: u8,
    /// What went wrong.
    pub message: String,
    /// What to do about it; empty when there is nothing better than the message.
    pub hint: String,
}

impl ExitError {
    /// Start or runtime failure.
    pub fn failure(message: impl fmt::Display) -> Self {
        Self::new(code::FAILURE, message)
    }

    /// Wrong command line or configuration.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(code::USAGE, message)
    }

    /// A check could not be made.
    pub fn unchecked(message: impl fmt::Display) -> Self {
        Self::new(code::UNCHECKED, message)
    }

    /// Refused for safety.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self::new(code::REFUSED, message)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = hint.to_string();
        self
    }

    /// The message and the hint as they are written on stderr.
    pub fn report(&self) -> String {
        match self.hint.as_str() {
            "" => format!("error: {}", self.message),
            hint => format!("error: {}\nhint: {hint}", self.message),
        }
    }

    fn new(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), hint: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_a_hint_only_when_there_is_one() {
        assert_eq!(ExitError::failure("no").report(), "error: no");
        assert_eq!(ExitError::refused("no").hint("do that").report(), "error: no\nhint: do that");
    }

    #[test]
    fn every_kind_has_its_code() {
        let codes = [ExitError::failure, ExitError::usage, ExitError::unchecked, ExitError::refused]
            .map(|make: fn(&'static str) -> ExitError| make("").code);
        assert_eq!(codes, [1, 2, 3, 4]);
    }
}
