//! Supply chain: what may be in Cargo.lock and what may be compiled, by `deny.toml`.
//!
//! `deny.toml` is written for cargo-deny, which runs too where it is installed. The checks here need
//! nothing installed and no advisory data, so they run everywhere:
//!
//! | check | over | table of deny.toml |
//! |---|---|---|
//! | sources | every package of Cargo.lock | `[sources]` |
//! | bans and version floors | every package of Cargo.lock | `[bans] deny` |
//! | features | what is compiled for the targets of `[graph]` | `[[bans.features]]` |
//! | licences | what is compiled for the targets of `[graph]` | `[licenses]` |

mod policy;

use crate::failure::Failure;
use crate::shell::{cargo, is_installed, read, run as run_program, say};
use crate::tree::File;
use policy::Policy;
use semver::Version;
use serde::Deserialize;
use serde::de::Error as _;
use std::collections::BTreeSet;

/// `cargo xtask deny`.
pub fn run(_: &[String]) -> Result<(), Failure> {
    let policy = Policy::parse(&File::read("deny.toml")?.text)?;
    let locked = locked_packages(&File::read("Cargo.lock")?.text)?;
    let mut findings = check_locked(&policy, &locked);
    let mut compiled = BTreeSet::new();
    for target in &policy.graph.targets {
        compiled.extend(compiled_packages(target)?);
    }
    findings.extend(check_compiled(&policy, &compiled));
    Failure::unless_empty("deny", findings)?;
    say(format!(
        "deny: {} locked packages from allowed sources, {} bans and floors hold; {} compiled packages under allowed licences",
        locked.len(),
        policy.bans.deny.len(),
        compiled.len(),
    ));
    if is_installed(cargo(&["deny"])) {
        return run_program(cargo(&["deny", "--offline", "check", "bans", "licenses", "sources"]));
    }
    say("deny: cargo-deny is not installed, only the checks above ran");
    Ok(())
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

/// A package of Cargo.lock.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Locked {
    name: String,
    #[serde(deserialize_with = "version")]
    version: Version,
    /// Where it comes from; none for our own crates.
    source: Option<String>,
}

fn version<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn locked_packages(text: &str) -> Result<Vec<Locked>, Failure> {
    let lock: Lock = toml::from_str(text).map_err(|error| Failure::malformed("Cargo.lock", error))?;
    Ok(lock.package)
}

fn check_locked(policy: &Policy, locked: &[Locked]) -> Vec<String> {
    let mut findings = Vec::new();
    for Locked { name, version, source } in locked {
        if let Some(source) = source.as_ref().filter(|source| !policy.allows_source(source)) {
            findings.push(format!("{name} {version} comes from {source}, which [sources] does not allow"));
        }
        for ban in policy.bans.deny.iter().filter(|ban| ban.covers(name, version)) {
            findings.push(format!("{name} {version} is banned: {}", ban.reason));
        }
    }
    findings
}

/// A package that is compiled for a target.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Compiled {
    name: String,
    version: String,
    licence: String,
    features: Vec<String>,
    ours: bool,
}

fn compiled_packages(target: &str) -> Result<Vec<Compiled>, Failure> {
    let args = [
        "tree",
        "--locked",
        "--workspace",
        "--target",
        target,
        "--prefix",
        "none",
        "--format",
        "{p}\t{l}\t{f}",
    ];
    let listing = read(cargo(&args))?;
    Ok(listing.lines().filter_map(compiled_package).collect())
}

/// A line `name vX.Y.Z (path or note)⇥licence⇥features`, perhaps with ` (*)` after it.
fn compiled_package(line: &str) -> Option<Compiled> {
    let line = line.strip_suffix(" (*)").unwrap_or(line);
    let mut columns = line.split('\t');
    let mut package = columns.next()?.splitn(3, ' ');
    let name = package.next().filter(|name| !name.is_empty())?.to_owned();
    let version = package.next()?.trim_start_matches('v').to_owned();
    let ours = package.next().is_some_and(|note| note.contains('/'));
    let licence = columns.next().unwrap_or_default().to_owned();
    let features = columns.next().unwrap_or_default().split(',').map(str::to_owned).collect();
    Some(Compiled { name, version, licence, features, ours })
}

fn check_compiled(policy: &Policy, compiled: &BTreeSet<Compiled>) -> Vec<String> {
    let mut findings = Vec::new();
    for package in compiled {
        let Compiled { name, version, licence, features, ours } = package;
        for ban in policy.bans.features.iter().filter(|ban| ban.name == *name) {
            for feature in features.iter().filter(|feature| ban.deny.contains(feature)) {
                findings.push(format!("{name} {version} has the feature {feature}: {}", ban.reason));
            }
        }
        if !ours && !policy.allows_licence(name, licence) {
            findings.push(format!(
                "{name} {version} has the licence {licence:?}, which [licenses] does not allow"
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [graph]
        targets = ["x86_64-unknown-linux-gnu"]
        [licenses]
        allow = ["MIT"]
        exceptions = [{ crate = "blst", allow = ["Apache-2.0"] }]
        [bans]
        deny = [
          { crate = "openssl", reason = "rustls only" },
          { crate = "yamux:<0.13.10", reason = "remote panic" },
        ]
        [[bans.features]]
        crate = "rustls"
        deny = ["ring"]
        reason = "two providers"
        [sources]
        allow-registry = ["https://github.com/rust-lang/crates.io-index"]
    "#;

    fn locked(name: &str, version: &str, source: Option<&str>) -> Locked {
        let source = source.map(str::to_owned);
        Locked { name: name.into(), version: Version::parse(version).unwrap(), source }
    }

    #[test]
    fn a_floor_a_ban_and_a_foreign_source_are_each_found() {
        let policy = Policy::parse(POLICY).unwrap();
        let registry = Some("registry+https://github.com/rust-lang/crates.io-index");
        let good = [locked("yamux", "0.13.10", registry), locked("ours", "0.1.0", None)];
        assert_eq!(check_locked(&policy, &good), Vec::<String>::new());
        let bad = [
            locked("yamux", "0.13.9", registry),
            locked("openssl", "0.10.1", registry),
            locked("fork", "1.0.0", Some("git+https://example.org/fork")),
        ];
        assert_eq!(check_locked(&policy, &bad).len(), 3);
    }

    #[test]
    fn a_licence_and_a_feature_out_of_bounds_are_found() {
        let policy = Policy::parse(POLICY).unwrap();
        let lines = [
            "rustls v0.23.46\tMIT OR GPL-3.0\taws-lc-rs,ring (*)",
            "blst v0.3.17\tApache-2.0\tportable",
            "other v1.0.0\tApache-2.0\t",
            "aequa-types v0.1.0 (/somewhere/crates/types)\tBUSL-1.1\t",
            "",
        ];
        let compiled: BTreeSet<Compiled> = lines.into_iter().filter_map(compiled_package).collect();
        assert_eq!(compiled.len(), 4);
        let findings = check_compiled(&policy, &compiled);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].starts_with("other 1.0.0") && findings[1].starts_with("rustls 0.23.46"));
    }

    #[test]
    fn a_lock_file_is_read_package_by_package() {
        let text = "version = 4\n[[package]]\nname = \"a\"\nversion = \"1.2.3-rc.1\"\n";
        assert_eq!(locked_packages(text).unwrap(), [locked("a", "1.2.3-rc.1", None)]);
        assert!(locked_packages("[[package]]\nname = \"a\"\n").is_err());
    }
}
