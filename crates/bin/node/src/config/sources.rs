//! Where settings come from, and which one wins: flag > environment > file > default.

use super::keys::{self, Key, Kind, Scope};
use super::{ENV_PREFIX, INPUT_BYTES_MAX};
use crate::exit::ExitError;
use crate::files;
use std::collections::BTreeMap;
use std::path::Path;

/// Variables that no flag carries: those of the original, which `config::legacy` reads, and a secret.
const OTHER_VARIABLES: [&str; 6] = [
    "AEQUA_BEAST_EARLY_SHARE",
    crate::store_key::KEY_VARIABLE,
    "AEQUA_TSS_KEYSTORE_ENCRYPT",
    "AEQUA_TSS_KEYSTORE_KEY",
    "AEQUA_TSS_KEYSTORE_KEY_FILE",
    "AEQUA_TSS_ZEROIZE",
];

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// The configuration file.
    File,
    /// An environment variable.
    Env,
    /// The command line.
    Flag,
}

/// The name in the event `config`.
impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Source::Default => "default",
            Source::File => "file",
            Source::Env => "env",
            Source::Flag => "flag",
        })
    }
}

/// Values by setting name, each with its source. Every value has passed its [`Kind`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<&'static str, (Vec<String>, Source)>);

impl Settings {
    /// Sets `key` to what `source` says, unless a stronger source has spoken.
    pub fn set(&mut self, key: &'static Key, values: Vec<String>, source: Source) -> Result<(), ExitError> {
        for value in &values {
            check_value(key, value).map_err(|problem| {
                let name = match source {
                    Source::Env => key.env(),
                    Source::File => format!("{} in the configuration file", key.name),
                    Source::Flag | Source::Default => format!("--{}", key.name),
                };
                ExitError::usage(format!("{name}: {problem}"))
            })?;
        }
        match self.0.get(key.name) {
            Some((_, present)) if *present > source => {}
            _ => {
                self.0.insert(key.name, (values, source));
            }
        }
        Ok(())
    }

    /// Adds the environment; returns the `AEQUA_*` names that mean nothing.
    pub fn add_env(
        &mut self,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Vec<String>, ExitError> {
        let mut unknown = Vec::new();
        for (name, value) in env {
            let known = keys::ALL.iter().find(|key| key.env() == name);
            match known {
                _ if value.is_empty() => {}
                Some(key) if key.kind == Kind::Switch => {
                    let value = env_switch(&value).ok_or_else(|| {
                        ExitError::usage(format!("{name}: \"{value}\" is neither on nor off"))
                    })?;
                    self.set(key, vec![value.to_string()], Source::Env)?;
                }
                Some(key) => self.set(key, split(key, &value), Source::Env)?,
                None if name.starts_with(ENV_PREFIX) && !OTHER_VARIABLES.contains(&name.as_str()) => {
                    unknown.push(name);
                }
                None => {}
            }
        }
        unknown.sort();
        Ok(unknown)
    }

    /// Adds a TOML file, in the data directory `home` or elsewhere.
    pub fn add_file(&mut self, path: &Path, home: Option<&Path>) -> Result<(), ExitError> {
        let fail =
            |problem: String| ExitError::usage(format!("configuration file {}: {problem}", path.display()));
        let text = files::read_input(path, home, INPUT_BYTES_MAX).map_err(|error| fail(error.to_string()))?;
        self.add_toml(&text).map_err(|error| fail(error.message))
    }

    /// Adds TOML text.
    pub fn add_toml(&mut self, text: &str) -> Result<(), ExitError> {
        // The parser's own words show the whole line, and with it the secrets in it.
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            ExitError::usage(format!("line {}: {}", line.matches('\n').count() + 1, error.message()))
        })?;
        self.add_table("", table)
    }

    fn add_table(&mut self, prefix: &str, table: toml::Table) -> Result<(), ExitError> {
        for (part, value) in table {
            let name = format!("{prefix}{part}");
            match (keys::find(&name), value) {
                (Some(key), value) if key.name != keys::CONFIG.name => {
                    self.set(key, from_toml(key, value)?, Source::File)?;
                }
                (_, toml::Value::Table(inner))
                    if keys::ALL.iter().any(|key| key.name.starts_with(&format!("{name}."))) =>
                {
                    self.add_table(&format!("{name}."), inner)?;
                }
                _ => return Err(ExitError::usage(format!("unknown key {name}"))),
            }
        }
        Ok(())
    }

    /// Where the value of `key` comes from.
    pub fn source(&self, key: Key) -> Source {
        self.0.get(key.name).map_or(Source::Default, |(_, source)| *source)
    }

    /// Whether somebody set `key`.
    pub fn is_given(&self, key: Key) -> bool {
        self.source(key) != Source::Default
    }

    /// The texts of a list.
    pub fn list(&self, key: Key) -> Vec<String> {
        match self.0.get(key.name) {
            Some((values, _)) => values.clone(),
            None => Vec::new(),
        }
    }

    /// The text of any other setting, or its default.
    pub fn text(&self, key: Key) -> String {
        match self.0.get(key.name) {
            Some((values, _)) => values.join(","),
            None => key.default.to_owned(),
        }
    }

    /// The text, or none when it is empty.
    pub fn text_option(&self, key: Key) -> Option<String> {
        Some(self.text(key)).filter(|text| !text.is_empty())
    }

    /// A number; it has passed its bounds.
    pub fn number(&self, key: Key) -> i64 {
        self.text(key).parse().unwrap_or_default()
    }

    /// A number that is never negative.
    pub fn unsigned(&self, key: Key) -> u64 {
        u64::try_from(self.number(key)).unwrap_or_default()
    }

    /// A switch.
    pub fn switch(&self, key: Key) -> bool {
        self.text(key) == "true"
    }

    /// Refuses settings of features this version does not have.
    pub fn refuse_later(&self) -> Result<(), ExitError> {
        let later = keys::ALL.iter().find(|key| {
            let harmless =
                self.text(**key) == key.default || (key.default.is_empty() && !self.is_given(**key));
            key.scope == Scope::Later && !harmless
        });
        match later {
            Some(key) => Err(not_in_this_version(&format!("--{}", key.name))),
            None if self.text(keys::LEADER) != keys::LEADER.default => {
                Err(not_in_this_version(&format!("--leader {}", self.text(keys::LEADER))))
            }
            None => Ok(()),
        }
    }
}

/// The answer to what the contract names and this version lacks.
pub fn not_in_this_version(what: &str) -> ExitError {
    ExitError::usage(format!("{what} is not part of this version"))
        .hint("remove the setting; it is refused so that nothing is switched on in name only")
}

fn env_switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn split(key: &Key, text: &str) -> Vec<String> {
    match key.kind {
        Kind::List => text.split(',').map(|part| part.trim().to_owned()).collect(),
        Kind::Switch | Kind::Number(..) | Kind::Text | Kind::Choice(_) => vec![text.to_owned()],
    }
}

fn from_toml(key: &Key, value: toml::Value) -> Result<Vec<String>, ExitError> {
    let wrong = || ExitError::usage(format!("{}: wrong type, expected {}", key.name, expected(key)));
    match (key.kind, value) {
        (Kind::Switch, toml::Value::Boolean(value)) => Ok(vec![value.to_string()]),
        (Kind::Number(..), toml::Value::Integer(value)) => Ok(vec![value.to_string()]),
        (Kind::Text | Kind::Choice(_), toml::Value::String(text)) => Ok(vec![text]),
        (Kind::List, toml::Value::String(text)) => Ok(split(key, &text)),
        (Kind::List, toml::Value::Array(values)) => {
            values.into_iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

fn expected(key: &Key) -> &'static str {
    match key.kind {
        Kind::Switch => "true or false",
        Kind::Number(..) => "an integer",
        Kind::Text | Kind::Choice(_) => "a string",
        Kind::List => "a string or an array of strings",
    }
}

/// Whether `value` fits the kind of `key`.
pub fn check_value(key: &Key, value: &str) -> Result<(), String> {
    match key.kind {
        Kind::Switch if value == "true" || value == "false" => Ok(()),
        Kind::Switch => Err(format!("\"{value}\" is neither true nor false")),
        Kind::Number(min, max) => match value.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(()),
            Ok(number) => Err(format!("{number} is not between {min} and {max}")),
            Err(_) => Err(format!("\"{value}\" is not an integer between {min} and {max}")),
        },
        Kind::Choice(words) if words.contains(&value) => Ok(()),
        Kind::Choice(words) => Err(format!("\"{value}\" is none of {}", words.join(", "))),
        // An empty text is the default only where the default is empty.
        Kind::Text if value.is_empty() && !key.default.is_empty() => Err("is empty".into()),
        Kind::Text => Ok(()),
        Kind::List if value.is_empty() => Err("has an empty entry".into()),
        Kind::List => Ok(()),
    }
}
