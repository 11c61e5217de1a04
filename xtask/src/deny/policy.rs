//! The part of `deny.toml` our own checks use.

use super::version::Version;
use crate::failure::Failure;
use toml::{Table, Value};

/// What `deny.toml` says.
#[derive(Debug)]
pub struct Policy {
    /// Targets that are built.
    pub targets: Vec<String>,
    /// Values of `source` that Cargo.lock may have.
    pub sources: Vec<String>,
    /// Packages that may not be there, at all or below a version.
    pub bans: Vec<Ban>,
    /// Features that may not be on.
    pub features: Vec<FeatureBan>,
    licences: Vec<String>,
    exceptions: Vec<(String, Vec<String>)>,
}

/// A package that may not be there.
#[derive(Debug)]
pub struct Ban {
    /// Its name.
    pub name: String,
    /// Only versions below this one; all of them without.
    pub below: Option<Version>,
    /// Why.
    pub reason: String,
}

impl Ban {
    /// Whether this version may not be there.
    pub fn covers(&self, version: &Version) -> bool {
        self.below.as_ref().is_none_or(|below| version < below)
    }
}

/// Features of a package that may not be on.
#[derive(Debug)]
pub struct FeatureBan {
    /// The package.
    pub name: String,
    /// The features.
    pub features: Vec<String>,
    /// Why.
    pub reason: String,
}

impl Policy {
    /// Reads the text of `deny.toml`; refuses what these checks would otherwise pass over in silence.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let table: Table = text.parse().map_err(|error| malformed(format!("{error}")))?;
        let licences = section(&table, "licenses")?;
        let bans = section(&table, "bans")?;
        let exceptions = tables(licences, "exceptions")
            .map(|entry| Ok((string(entry, "crate")?, strings(entry, "allow")?)))
            .collect::<Result<_, Failure>>()?;
        Ok(Self {
            targets: strings(section(&table, "graph")?, "targets")?,
            sources: strings(section(&table, "sources")?, "allow-registry")?
                .into_iter()
                .map(|index| format!("registry+{index}"))
                .collect(),
            bans: tables(bans, "deny").map(ban).collect::<Result<_, Failure>>()?,
            features: tables(bans, "features").map(feature_ban).collect::<Result<_, Failure>>()?,
            licences: strings(licences, "allow")?,
            exceptions,
        })
    }

    /// Whether a package may be used under the licence `id`.
    pub fn allows_licence(&self, package: &str, id: &str) -> bool {
        let excepted = self.exceptions.iter().filter(|(name, _)| name == package).flat_map(|(_, ids)| ids);
        self.licences.iter().chain(excepted).any(|allowed| allowed == id)
    }
}

fn ban(entry: &Table) -> Result<Ban, Failure> {
    let spec = string(entry, "crate")?;
    let (name, below) = match spec.split_once(':') {
        None if spec.contains('@') => {
            return Err(malformed(format!("{spec}: exact versions are not supported")));
        }
        None => (spec.clone(), None),
        Some((name, range)) => {
            let version = range.strip_prefix('<').and_then(|version| Version::parse(version.trim()));
            let version =
                version.ok_or_else(|| malformed(format!("{spec}: a range must be <major.minor.patch")))?;
            (name.to_owned(), Some(version))
        }
    };
    Ok(Ban { name, below, reason: string(entry, "reason")? })
}

fn feature_ban(entry: &Table) -> Result<FeatureBan, Failure> {
    Ok(FeatureBan {
        name: string(entry, "crate")?,
        features: strings(entry, "deny")?,
        reason: string(entry, "reason")?,
    })
}

fn malformed(reason: String) -> Failure {
    Failure::Malformed { file: "deny.toml".into(), reason }
}

fn section<'a>(table: &'a Table, name: &str) -> Result<&'a Table, Failure> {
    table.get(name).and_then(Value::as_table).ok_or_else(|| malformed(format!("no table [{name}]")))
}

fn string(table: &Table, key: &str) -> Result<String, Failure> {
    let value = table.get(key).and_then(Value::as_str);
    value.map(str::to_owned).ok_or_else(|| malformed(format!("{key} is missing beside {table}")))
}

fn strings(table: &Table, key: &str) -> Result<Vec<String>, Failure> {
    let list = table.get(key).and_then(Value::as_array);
    let words = list.map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    words.ok_or_else(|| malformed(format!("{key} must be a list of texts")))
}

fn tables<'a>(table: &'a Table, key: &str) -> impl Iterator<Item = &'a Table> {
    table.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_is_not_understood_is_refused_and_not_skipped() {
        let text = |spec: &str| {
            format!(
                "[graph]\ntargets = []\n[licenses]\nallow = []\n[sources]\nallow-registry = []\n\
                 [bans]\ndeny = [{{ crate = \"{spec}\", reason = \"r\" }}]\n"
            )
        };
        assert!(Policy::parse(&text("a:<1.2.3")).is_ok());
        for spec in ["a:>=1.0.0", "a:1", "a:<x", "a@1.0.0"] {
            assert!(Policy::parse(&text(spec)).is_err(), "{spec}");
        }
    }

    #[test]
    fn the_policy_of_this_repository_is_understood() {
        let policy = Policy::parse(&crate::tree::File::read("deny.toml").unwrap().text).unwrap();
        assert!(policy.bans.iter().any(|ban| ban.name == "yamux" && ban.below.is_some()));
        assert!(!policy.targets.is_empty() && !policy.sources.is_empty());
    }
}
