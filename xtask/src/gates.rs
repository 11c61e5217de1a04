//! Rules the compiler does not check, each with its reason.

mod glossary;
mod hops;
mod pitfalls;

use crate::failure::Failure;
use crate::shell::{is_installed, program, run as run_program, say};
use crate::tree::{self, File};

/// Longest source file without an entry in [`LONG_FILES`]: beyond it there usually hides a second idea.
const FILE_LINES_MAX: usize = 700;

/// Files above the limit, and why they are one idea. An entry that is no longer needed is a finding.
const LONG_FILES: &[(&str, &str)] = &[];

/// Where `unsafe` may be, and why.
const UNSAFE_FILES: &[(&str, &str)] = &[
    (
        "crates/core/crypto/src/bls/curve.rs",
        "functions of blst that have no safe form; slices and points only",
    ),
    ("crates/core/crypto/src/kept.rs", "locks the pages of a secret: no safe form takes an address"),
    ("crates/bin/node/src/allocator.rs", "options of the allocator: C functions"),
];

/// What a pure crate may depend on beside pure crates: encodings, hashes, curves, and words for errors. What it uses of
/// the standard library is in `crates/core/clippy.toml`.
const PURE: [&str; 30] = [
    "aes",
    "alloy-primitives",
    "alloy-rlp",
    "base64",
    "blst",
    "chacha20poly1305",
    "crc32fast",
    "ctr",
    "curve25519-dalek",
    "ed25519-dalek",
    "ethereum_hashing",
    "ethereum_ssz",
    "ethereum_ssz_derive",
    "hex",
    "hkdf",
    "pbkdf2",
    "scrypt",
    "secp256k1",
    "serde",
    "serde_json",
    "sha2",
    "sha3",
    "ssz_types",
    "subtle",
    "thiserror",
    "tree_hash",
    "tree_hash_derive",
    "unicode-normalization",
    "zeroize",
    "workspace",
];

/// What one of them may have beside: keys are made with chance and kept in locked pages, checks remember what held.
const PURE_BUT: [(&str, &str); 3] = [("crypto", "getrandom"), ("crypto", "libc"), ("crypto", "parking_lot")];

/// Text that may not be in the sources, and why.
struct Forbidden {
    text: &'static str,
    /// Tests may have it.
    in_tests: bool,
    why: &'static str,
}

const NO_MOCK: &str = "no mock may be compiled into a node";
const ONE_MACHINE: &str = "paths of one machine work on one machine";

// Written in two halves, so that this file passes its own gates.
const FORBIDDEN: &[Forbidden] = &[
    Forbidden { text: concat!("todo", "!("), in_tests: false, why: "unfinished code is not merged" },
    Forbidden { text: concat!("unimplemented", "!("), in_tests: false, why: "unfinished code is not merged" },
    Forbidden {
        text: concat!("FIX", "ME"),
        in_tests: false,
        why: "what is known to be wrong is fixed or an issue",
    },
    Forbidden { text: concat!("TO", "DO:"), in_tests: false, why: "what is left to do is an issue" },
    Forbidden { text: concat!("struct Mo", "ck"), in_tests: true, why: NO_MOCK },
    Forbidden { text: concat!("struct Fa", "ke"), in_tests: true, why: NO_MOCK },
    Forbidden { text: concat!("struct St", "ub"), in_tests: true, why: NO_MOCK },
    Forbidden { text: concat!("struct Du", "mmy"), in_tests: true, why: NO_MOCK },
    Forbidden { text: concat!("/ro", "ot/"), in_tests: false, why: ONE_MACHINE },
    Forbidden { text: concat!("/ho", "me/"), in_tests: false, why: ONE_MACHINE },
    Forbidden {
        text: concat!("/tm", "p/"),
        in_tests: true,
        why: "tests make their own folders; nodes use their data directory",
    },
];

/// `cargo xtask gates`.
pub fn run(_: &[String]) -> Result<(), Failure> {
    let sources = tree::files(&[".rs"])?;
    let manifests = tree::files(&["Cargo.toml"])?;
    let mut findings = check_texts(&sources);
    findings.extend(check_lengths(&sources, LONG_FILES));
    findings.extend(check_unsafe(&sources));
    findings.extend(check_manifests(&manifests));
    findings.extend(check_purity(&manifests));
    findings.extend(check_paths(&tree::files(&[".md", ".toml", ".ci/run", ".py"])?));
    findings.extend(pitfalls::check(&File::read(pitfalls::TABLE)?.text, &sources));
    findings.extend(glossary::check(&File::read(glossary::PAGE)?.text, &sources));
    findings.extend(hops::check(&File::read(hops::PAGE)?.text, &sources));
    Failure::unless_empty("gates", findings)?;
    say(format!("gates: {} sources and {} manifests keep the rules", sources.len(), manifests.len()));
    derive_vectors()
}

fn check_texts(sources: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in sources {
        let production: Vec<(usize, &str)> = file.production_lines().collect();
        for Forbidden { text, in_tests, why } in FORBIDDEN {
            let hits: Vec<usize> = if *in_tests {
                production.iter().filter(|(_, line)| line.contains(text)).map(|(number, _)| *number).collect()
            } else {
                let lines = file.text.lines().enumerate();
                lines.filter(|(_, line)| line.contains(text)).map(|(index, _)| index + 1).collect()
            };
            findings.extend(hits.iter().map(|number| format!("{}:{number}: {text} — {why}", file.path)));
        }
    }
    findings
}

/// Documents, settings and scripts name no path of one machine either.
fn check_paths(files: &[File]) -> Vec<String> {
    let paths: Vec<&Forbidden> = FORBIDDEN.iter().filter(|rule| rule.text.starts_with('/')).collect();
    let mut findings = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            let broken = paths.iter().filter(|rule| line.contains(rule.text));
            findings.extend(
                broken.map(|rule| format!("{}:{}: {} — {}", file.path, index + 1, rule.text, rule.why)),
            );
        }
    }
    findings
}

fn check_lengths(sources: &[File], long: &[(&str, &str)]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in sources {
        let lines = file.text.lines().count();
        let listed = long.iter().any(|(path, _)| *path == file.path);
        if lines > FILE_LINES_MAX && !listed {
            findings.push(format!(
                "{}: {lines} lines, more than {FILE_LINES_MAX} and not listed with a reason",
                file.path
            ));
        }
        if lines <= FILE_LINES_MAX && listed {
            findings.push(format!("{}: listed as long, but is not", file.path));
        }
    }
    findings
}

fn check_unsafe(sources: &[File]) -> Vec<String> {
    let allow = concat!("allow(unsafe", "_code)");
    let unlisted = |file: &&File| !UNSAFE_FILES.iter().any(|(path, _)| *path == file.path);
    let allowing = sources.iter().filter(|file| file.text.contains(allow)).filter(unlisted);
    allowing
        .map(|file| format!("{}: allows unsafe code and is not listed with a reason", file.path))
        .collect()
}

/// A crate that does not take over the workspace's lints escapes all of them.
fn check_manifests(manifests: &[File]) -> Vec<String> {
    let member = |file: &&File| file.path.contains('/');
    let mut findings = Vec::new();
    for file in manifests.iter().filter(member) {
        for line in ["[lints]\nworkspace = true", "license.workspace = true", "publish.workspace = true"] {
            if !file.text.contains(line) {
                findings.push(format!("{}: no {}", file.path, line.replace('\n', " ")));
            }
        }
    }
    findings
}

/// A pure crate depends on nothing that is not.
fn check_purity(manifests: &[File]) -> Vec<String> {
    let core = |file: &File| Some(file.path.strip_prefix("crates/core/")?.split_once('/')?.0.to_owned());
    let members: Vec<String> = manifests.iter().filter_map(core).collect();
    let mut findings = Vec::new();
    for file in manifests {
        let Some(member) = core(file) else { continue };
        for name in dependencies(&file.text) {
            let ours =
                name.strip_prefix("aequa-").is_some_and(|name| members.iter().any(|pure| pure == name));
            let may = ours || PURE.contains(&name) || PURE_BUT.contains(&(member.as_str(), name));
            if !may {
                findings.push(format!("{}: {name} is nothing for a pure crate", file.path));
            }
        }
    }
    findings
}

/// Everything a manifest takes into the crate itself: the names in its sections of dependencies but those of tests, and
/// what a name stands for.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut within = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            let named = section.split_once("dependencies.").map(|(_, name)| name);
            within = section.ends_with("dependencies") && !section.contains("dev-");
            found.extend(named.filter(|_| !section.contains("dev-")));
        } else if within && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            found.push(name.trim_matches('"'));
            let renamed = line.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
            found.extend(renamed);
        }
    }
    found
}

/// Scripts that derive golden vectors from a description alone: a second opinion on the Rust code.
fn derive_vectors() -> Result<(), Failure> {
    let scripts = tree::files(&[".py"])?;
    let scripts: Vec<&File> = scripts.iter().filter(|file| file.is_test()).collect();
    if !is_installed(program("python3")) {
        say(format!("gates: python3 is not installed, {} vector script(s) did not run", scripts.len()));
        return Ok(());
    }
    scripts.into_iter().try_for_each(|script| {
        let mut command = program("python3");
        command.arg(&script.path);
        run_program(command)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    #[test]
    fn mocks_are_found_outside_tests_only() {
        let text = concat!("struct Mo", "ckStore;\n");
        assert_eq!(check_texts(&[file("crates/x/src/a.rs", text)]).len(), 1);
        assert_eq!(check_texts(&[file("crates/x/tests/a.rs", text)]), Vec::<String>::new());
    }

    #[test]
    fn unfinished_code_is_found_everywhere() {
        let text = concat!("fn f() { todo", "!() }\n");
        for path in ["crates/x/src/a.rs", "crates/x/tests/a.rs"] {
            assert_eq!(check_texts(&[file(path, text)]).len(), 1, "{path}");
        }
    }

    #[test]
    fn a_long_file_and_a_stale_entry_are_found() {
        let long = "x\n".repeat(FILE_LINES_MAX + 1);
        let listed = [("crates/x/src/long.rs", "one idea")];
        let check = |path: &str, text: &str| check_lengths(&[file(path, text)], &listed).len();
        assert_eq!(check("crates/x/src/a.rs", &long), 1);
        assert_eq!(check("crates/x/src/long.rs", &long), 0);
        assert_eq!(check("crates/x/src/long.rs", "x\n"), 1);
    }

    #[test]
    fn a_crate_without_the_workspace_lints_is_found() {
        let good = "license.workspace = true\npublish.workspace = true\n[lints]\nworkspace = true\n";
        assert_eq!(check_manifests(&[file("crates/x/Cargo.toml", good)]), Vec::<String>::new());
        assert_eq!(check_manifests(&[file("crates/x/Cargo.toml", "[package]\n")]).len(), 3);
    }

    #[test]
    fn what_is_not_known_to_be_pure_is_found_in_a_pure_crate() {
        let findings = |member: &str, text: &str| {
            check_purity(&[file(&format!("crates/core/{member}/Cargo.toml"), text)]).len()
        };
        let text =
            "[dependencies]\naequa-qbft.workspace = true\ntokio.workspace = true\ngetrandom = \"0.4\"\n";
        assert_eq!((findings("qbft", text), findings("crypto", text)), (2, 2));
        for hidden in [
            "[dependencies.tokio]\nversion = \"1\"\n",
            "[target.'cfg(unix)'.dependencies]\nmio = \"1\"\n",
            "[build-dependencies]\nlog = \"1\"\n",
            "[dependencies]\nhex = { package = \"rand\", version = \"1\" }\n",
            "[dependencies]\n\"tokio\" = \"1\"\n",
            "[dependencies]\naequa-host.workspace = true\n",
        ] {
            assert_eq!(findings("qbft", hidden), 1, "{hidden}");
        }
        assert_eq!(findings("qbft", "[dependencies]\nhex = \"1\"\n\n[dev-dependencies]\ntokio = \"1\"\n"), 0);
        assert_eq!(check_purity(&[file("crates/io/p2p/Cargo.toml", text)]), Vec::<String>::new());
    }

    #[test]
    fn a_machine_path_in_a_document_is_found() {
        assert_eq!(check_paths(&[file("README.md", concat!("see /ho", "me/me/x"))]).len(), 1);
    }
}
