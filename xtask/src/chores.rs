//! The chores that call cargo or a program of ours.

use crate::failure::Failure;
use crate::shell::{cargo, is_installed, program, run, say};
use crate::tree;

/// `cargo xtask test`: doc tests first, so that the summary of all others is the last thing shown.
pub fn test(args: &[String]) -> Result<(), Failure> {
    if args.is_empty() {
        run(cargo(&["test", "--workspace", "--doc", "--quiet"]))?;
    }
    let mut command = if is_installed(cargo(&["nextest"])) {
        cargo(&["nextest", "run", "--workspace"])
    } else {
        say("cargo-nextest is not installed: cargo test runs the tests instead");
        cargo(&["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"])
    };
    command.args(args);
    run(command)
}

/// `cargo xtask lint`.
pub fn lint(_: &[String]) -> Result<(), Failure> {
    run(cargo(&["fmt", "--all", "--check"]))?;
    run(cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// `cargo xtask fmt`.
pub fn fmt(_: &[String]) -> Result<(), Failure> {
    run(cargo(&["fmt", "--all"]))
}

/// `cargo xtask ci`.
pub fn ci(_: &[String]) -> Result<(), Failure> {
    run(program("./.ci/run"))
}

/// `cargo xtask sim`.
pub fn sim(args: &[String]) -> Result<(), Failure> {
    let mut command = cargo(&["run", "--release", "--package", "aequa-sim", "--bin", "aequa-sim", "--"]);
    command.args(args);
    run(command)
}

/// `cargo xtask devnet`.
pub fn devnet(args: &[String]) -> Result<(), Failure> {
    let mut command = cargo(&["run", "--release", "--bin", "dvt-node", "--", "devnet"]);
    command.args(args);
    run(command)
}

/// `cargo xtask bench`: each benchmark by its name, because `--benches` would also run the libraries.
pub fn bench(args: &[String]) -> Result<(), Failure> {
    let wanted = match args {
        [] => None,
        [name] => Some(name.as_str()),
        _ => return Err(Failure::Usage("cargo xtask bench takes one name at most".into())),
    };
    let benches: Vec<(String, String)> = tree::files(&[".rs"])?
        .iter()
        .filter_map(|file| bench_of(&file.path))
        .filter(|(_, name)| wanted.is_none_or(|wanted| wanted == name))
        .collect();
    if benches.is_empty() {
        return Err(Failure::Usage("there is no such benchmark: none lies in crates/*/benches".into()));
    }
    benches.iter().try_for_each(|(folder, name)| {
        let manifest = format!("{folder}/Cargo.toml");
        run(cargo(&["bench", "--manifest-path", &manifest, "--bench", name]))
    })
}

/// Folder of the crate and name of the benchmark a path is.
fn bench_of(path: &str) -> Option<(String, String)> {
    let (folder, file) = path.split_once("/benches/")?;
    let name = file.strip_suffix(".rs").filter(|name| !name.contains('/'))?;
    Some((folder.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_benchmark_is_a_file_directly_in_benches() {
        assert_eq!(bench_of("crates/chain/benches/tree.rs"), Some(("crates/chain".into(), "tree".into())));
        assert_eq!(bench_of("crates/chain/benches/common/mod.rs"), None);
        assert_eq!(bench_of("crates/chain/src/tree.rs"), None);
    }
}
