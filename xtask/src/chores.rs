//! The chores that call cargo or a program of ours.

use crate::failure::Failure;
use crate::shell::{cargo, is_installed, program, run, say};
use crate::tree;
use std::path::{Path, PathBuf};

/// The feature with which nodes have test endpoints.
const TEST_ENDPOINTS: &str = "aequa-cli/e2e";

/// `cargo xtask test`: doc tests first, so that the summary of all others is the last thing shown.
///
/// The whole workspace is built whatever is tested: a single package has other features, and would
/// build dozens of dependencies a second time.
pub fn test(args: &[String]) -> Result<(), Failure> {
    if args.is_empty() {
        run(cargo(&["test", "--workspace", "--doc", "--quiet"]))?;
    }
    if is_installed(cargo(&["nextest"])) {
        let mut command = cargo(&["nextest", "run", "--workspace"]);
        command.args(packages_as_filters(args));
        return run(command);
    }
    say("cargo-nextest is not installed: cargo test runs the tests instead");
    let mut command = cargo(&["test", "--lib", "--bins", "--tests", "--no-fail-fast"]);
    // Beside --workspace cargo would not look at -p.
    if !args.iter().any(|arg| arg == "-p" || arg == "--package") {
        command.arg("--workspace");
    }
    command.args(args);
    run(command)
}

/// `-p NAME` as nextest's filter of what was built.
fn packages_as_filters(args: &[String]) -> Vec<String> {
    let mut filters = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match (arg.as_str(), rest.as_slice().first()) {
            ("-p" | "--package", Some(package)) => {
                filters.extend(["-E".to_owned(), format!("package({package})")]);
                rest.next();
            }
            _ => filters.push(arg.clone()),
        }
    }
    filters
}

/// `cargo xtask lint`: with the test endpoints too, which nothing else compiles.
pub fn lint(_: &[String]) -> Result<(), Failure> {
    run(cargo(&["fmt", "--all", "--check"]))?;
    for features in [&[][..], &["--features", TEST_ENDPOINTS]] {
        let mut clippy = cargo(&["clippy", "--workspace", "--all-targets"]);
        clippy.args(features).args(["--", "-D", "warnings"]);
        run(clippy)?;
    }
    Ok(())
}

/// `cargo xtask fmt`.
pub fn fmt(_: &[String]) -> Result<(), Failure> {
    run(cargo(&["fmt", "--all"]))
}

/// `cargo xtask ci`.
pub fn ci(_: &[String]) -> Result<(), Failure> {
    run(program("./.ci/run"))
}

/// `cargo xtask sim`; after `help` the simulator explains its flags itself.
pub fn sim(args: &[String]) -> Result<(), Failure> {
    let mut command = cargo(&["run", "--release", "--package", "aequa-sim", "--bin", "aequa-sim", "--"]);
    match args {
        [word] if word == "help" => command.arg("--help"),
        _ => command.args(args),
    };
    run(command).map_err(|failure| match failure {
        // A wrong flag must not look like a failing seed.
        Failure::Program { status, .. } if status.code() == Some(2) => {
            Failure::Usage("the simulator's flags: cargo xtask sim help".into())
        }
        failure => failure,
    })
}

/// `cargo xtask model`.
pub fn model(args: &[String]) -> Result<(), Failure> {
    let mut command = cargo(&["run", "--release", "--package", "aequa-model", "--bin", "aequa-model", "--"]);
    command.args(args);
    run(command)
}

/// `cargo xtask kill`: the live test of kills with as many runs as wanted. Not through nextest, whose limit is
/// for tests of minutes.
pub fn kill(args: &[String]) -> Result<(), Failure> {
    campaign(("kill", "kills::", "KILL"), "200", &[], args)
}

/// `cargo xtask ceremonies [--runs N] [--seed S]`: key ceremonies of real processes. Nodes that can lie are those with
/// test endpoints.
pub fn ceremonies(args: &[String]) -> Result<(), Failure> {
    let features = ["--features", TEST_ENDPOINTS];
    campaign(("ceremonies", "ceremony::campaign", "CEREMONY"), "50", &features, args)
}

/// A campaign of live tests; how long and with which chance, they read from variables.
fn campaign(
    (name, tests, variables): (&str, &str, &str),
    runs: &str,
    features: &[&str],
    args: &[String],
) -> Result<(), Failure> {
    let mut command = cargo(&["test", "--workspace", "--test", "live"]);
    command.args(features).args(["--", tests, "--nocapture"]);
    command.env(format!("{variables}_RUNS"), runs);
    let mut rest = args.iter();
    while let Some(flag) = rest.next() {
        let variable = match flag.as_str() {
            "--runs" => "RUNS",
            "--seed" => "SEED",
            other => return Err(Failure::Usage(format!("cargo xtask {name} has no {other}"))),
        };
        let number = rest.next().filter(|value| value.parse::<u64>().is_ok());
        let number = number.ok_or_else(|| Failure::Usage(format!("{flag} takes a number")))?;
        command.env(format!("{variables}_{variable}"), number);
    }
    run(command)
}

/// `cargo xtask devnet`.
pub fn devnet(args: &[String]) -> Result<(), Failure> {
    let mut command = cargo(&["run", "--release", "--bin", "dvt-node", "--", "devnet"]);
    command.args(args);
    run(command)
}

/// `cargo xtask adversary`: builds nodes with test endpoints and the adversary, and holds a trial in a fresh
/// folder of the build output.
///
/// Unoptimised by default: the nodes then check their own assertions while they are attacked. An optimised
/// node with test endpoints is built in a folder of its own: where releases lie it could be taken for one.
pub fn adversary(args: &[String]) -> Result<(), Failure> {
    let (release, rest): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| *arg == "--release");
    let target = tree::target();
    let (build_dir, profile) = place_of_trial(&target, !release.is_empty());
    let mut build = cargo(&["build", "--workspace", "--bins", "--features", TEST_ENDPOINTS, "--target-dir"]);
    build.arg(&build_dir).args(&release);
    run(build)?;
    let built = build_dir.join(profile);
    let dir = target.join(format!("adversary-{}", std::process::id()));
    let mut trial = program(&built.join("adversary-trial").to_string_lossy());
    trial.arg("--node").arg(built.join("dvt-node")).arg("--dir").arg(&dir).args(rest);
    let result = run(trial);
    say(format!("logs of the nodes: {}", dir.display()));
    result
}

/// Where the programs of a trial are built, and in which of its folders they lie then.
fn place_of_trial(target: &Path, release: bool) -> (PathBuf, &'static str) {
    match release {
        true => (target.join("adversary"), "release"),
        false => (target.to_owned(), "debug"),
    }
}

/// `cargo xtask bench`: a table of clusters beside the probe, or after `costs` the benchmarks of crates; after
/// `help` the table's program explains its flags itself.
pub fn bench(args: &[String]) -> Result<(), Failure> {
    if let Some((word, names)) = args.split_first().filter(|(word, _)| *word == "costs") {
        return costs(word, names);
    }
    // With the features of the whole workspace, which whatever else is built has too.
    run(cargo(&["build", "--release", "--workspace", "--bin", "dvt-node", "--bin", "aequa-bench"]))?;
    let built = tree::target().join("release");
    let mut table = program(&built.join("aequa-bench").to_string_lossy());
    match args {
        [word] if word == "help" => table.arg("--help"),
        _ => table.args(nodes_unless_given(args, &built)).args(args),
    };
    run(table)
}

/// Where the nodes are, unless the person says it.
fn nodes_unless_given(args: &[String], built: &Path) -> Vec<String> {
    const FLAG: &str = "--nodes-binary";
    match args.iter().any(|arg| arg.split('=').next() == Some(FLAG)) {
        true => Vec::new(),
        false => vec![FLAG.to_owned(), built.join("dvt-node").to_string_lossy().into_owned()],
    }
}

/// `cargo xtask bench costs`: each benchmark by its name, because `--benches` would also run the libraries.
fn costs(word: &str, names: &[String]) -> Result<(), Failure> {
    let wanted = match names {
        [] => None,
        [name] => Some(name.as_str()),
        _ => return Err(Failure::Usage(format!("cargo xtask bench {word} takes one name at most"))),
    };
    let benches: Vec<(String, String)> = tree::files(&[".rs"])?
        .iter()
        .filter_map(|file| bench_of(&file.path))
        .filter(|(_, name)| wanted.is_none_or(|wanted| wanted == name))
        .collect();
    if benches.is_empty() {
        return Err(Failure::Usage("no such benchmark lies in crates/*/*/benches".into()));
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
    fn a_package_becomes_a_filter_and_the_rest_stays() {
        let args = ["-p", "aequa-qbft", "name", "--package", "xtask", "-p"].map(str::to_owned);
        let filters = ["-E", "package(aequa-qbft)", "name", "-E", "package(xtask)", "-p"];
        assert_eq!(packages_as_filters(&args), filters);
    }

    #[test]
    fn a_test_build_is_never_where_releases_are() {
        let built = |release| {
            let (dir, profile) = place_of_trial(Path::new("target"), release);
            dir.join(profile)
        };
        assert!(!built(true).starts_with("target/release"));
        assert_eq!(built(false), Path::new("target/debug"), "tests leave such a build there too");
    }

    #[test]
    fn the_nodes_of_the_build_are_measured_unless_others_are_named() {
        let built = Path::new("target/release");
        let given = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            nodes_unless_given(&args, built)
        };
        assert_eq!(given(&["--seconds", "5"]), ["--nodes-binary", "target/release/dvt-node"]);
        assert!(given(&["--nodes-binary", "x"]).is_empty() && given(&["--nodes-binary=x"]).is_empty());
    }

    #[test]
    fn a_benchmark_is_a_file_directly_in_benches() {
        assert_eq!(bench_of("crates/chain/benches/tree.rs"), Some(("crates/chain".into(), "tree".into())));
        assert_eq!(bench_of("crates/chain/benches/common/mod.rs"), None);
        assert_eq!(bench_of("crates/chain/src/tree.rs"), None);
    }
}
