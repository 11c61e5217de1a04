//! The part of `deny.toml` our own checks use.

use crate::failure::Failure;
use semver::Version;
use serde::Deserialize;
use spdx::{Expression, ParseMode};

/// Licences as crates write them: with the old `MIT/Apache-2.0`, and with names that SPDX has replaced.
const LICENCES: ParseMode =
    ParseMode { allow_slash_as_or_operator: true, allow_deprecated: true, ..ParseMode::STRICT };

/// What `deny.toml` says.
#[derive(Debug, Deserialize)]
pub struct Policy {
    /// What is built.
    pub graph: Graph,
    /// What may not be there.
    pub bans: Bans,
    licenses: Licences,
    sources: Sources,
}

/// `[graph]`.
#[derive(Debug, Deserialize)]
pub struct Graph {
    /// Targets that are built.
    pub targets: Vec<String>,
}

/// `[bans]`.
#[derive(Debug, Deserialize)]
pub struct Bans {
    /// Packages that may not be there, at all or below a version.
    pub deny: Vec<Ban>,
    /// Features that may not be on.
    #[serde(default)]
    pub features: Vec<FeatureBan>,
}

/// A package that may not be there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ban {
    #[serde(rename = "crate")]
    banned: Banned,
    /// Why.
    pub reason: String,
}

/// `name`, or `name:<major.minor.patch` for the versions below that one.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Banned {
    name: String,
    below: Option<Version>,
}

/// Features of a package that may not be on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureBan {
    /// The package.
    #[serde(rename = "crate")]
    pub name: String,
    /// The features.
    pub deny: Vec<String>,
    /// Why.
    pub reason: String,
}

#[derive(Debug, Deserialize)]
struct Licences {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Sources {
    #[serde(rename = "allow-registry")]
    registries: Vec<String>,
}

impl Policy {
    /// Reads the text of `deny.toml`; refuses what these checks would otherwise pass over in silence.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| Failure::malformed("deny.toml", error))
    }

    /// Whether Cargo.lock may name this source.
    pub fn allows_source(&self, source: &str) -> bool {
        let registry = source.strip_prefix("registry+");
        registry.is_some_and(|index| self.sources.registries.iter().any(|allowed| allowed == index))
    }

    /// Whether a package may be used under a licence expression. What is not understood is not allowed.
    pub fn allows_licence(&self, package: &str, expression: &str) -> bool {
        let excepted = self.licenses.exceptions.iter().filter(|exception| exception.name == package);
        let allowed: Vec<_> =
            self.licenses.allow.iter().chain(excepted.flat_map(|exception| &exception.allow)).collect();
        Expression::parse_mode(expression, LICENCES).is_ok_and(|expression| {
            expression.evaluate(|licence| allowed.iter().any(|id| **id == licence.to_string()))
        })
    }
}

impl Ban {
    /// Whether this version may not be there. A pre-release of a version lies below it.
    pub fn covers(&self, name: &str, version: &Version) -> bool {
        self.banned.name == name && self.banned.below.as_ref().is_none_or(|below| version < below)
    }
}

impl TryFrom<String> for Banned {
    type Error = String;

    fn try_from(spec: String) -> Result<Self, String> {
        let Some((name, range)) = spec.split_once(':') else {
            let exact = spec.contains('@');
            return if exact {
                Err(format!("{spec}: exact versions are not supported"))
            } else {
                Ok(Self { name: spec, below: None })
            };
        };
        let below = range.strip_prefix('<').and_then(|version| version.trim().parse().ok());
        let below = below.ok_or_else(|| format!("{spec}: a range must be <major.minor.patch"))?;
        Ok(Self { name: name.to_owned(), below: Some(below) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(licences: &str, bans: &str) -> Result<Policy, Failure> {
        Policy::parse(&format!(
            "[graph]\ntargets = []\n[licenses]\nallow = [{licences}]\n[sources]\nallow-registry = []\n\
             [bans]\ndeny = [{bans}]\n"
        ))
    }

    #[test]
    fn a_range_that_is_not_understood_is_refused_and_not_skipped() {
        let ban = |spec: &str| policy("", &format!("{{ crate = \"{spec}\", reason = \"r\" }}"));
        assert!(ban("a:<1.2.3").is_ok());
        for spec in ["a:>=1.0.0", "a:1", "a:<x", "a:<1.2", "a@1.0.0"] {
            assert!(ban(spec).is_err(), "{spec}");
        }
    }

    #[test]
    fn the_policy_of_this_repository_is_understood() {
        let policy = Policy::parse(&crate::tree::File::read("deny.toml").unwrap().text).unwrap();
        let below = Version::new(0, 13, 9);
        assert!(policy.bans.deny.iter().any(|ban| ban.covers("yamux", &below)));
        assert!(!policy.graph.targets.is_empty() && !policy.sources.registries.is_empty());
    }

    fn allowed(expression: &str) -> bool {
        let policy = policy("'MIT', 'ISC', 'Apache-2.0 WITH LLVM-exception'", "").unwrap();
        policy.allows_licence("any", expression)
    }

    #[test]
    fn one_side_of_or_and_both_sides_of_and_must_be_allowed() {
        for expression in
            ["MIT", "MIT/GPL-3.0", "GPL-3.0 OR MIT", "ISC AND (GPL-3.0 OR MIT)", "GPL-3.0 AND Zlib OR MIT"]
        {
            assert!(allowed(expression), "{expression}");
        }
        for expression in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND Zlib", "Zlib OR MIT AND 0BSD"] {
            assert!(!allowed(expression), "{expression}");
        }
    }

    #[test]
    fn an_exception_belongs_to_its_licence() {
        assert!(allowed("Apache-2.0 WITH LLVM-exception"));
        assert!(!allowed("Apache-2.0"));
        assert!(!allowed("MIT WITH LLVM-exception"));
    }

    #[test]
    fn what_is_not_understood_is_not_allowed() {
        for expression in ["", "OR", "MIT OR", "(MIT", "MIT)", "MIT ISC", "MIT WITH", "()", "MIT OR Other"] {
            assert!(!allowed(expression), "{expression}");
        }
    }
}
