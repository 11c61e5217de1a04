//! Shares of validators' keys, imported by a validator client of others.
//!
//! Lodestar comes from npm into a folder of the build output; without Node.js, or where npm cannot be reached, the chore
//! says so and ends well. It imports every keystore of every operator, and lists the keys the lock says they are.

use crate::failure::Failure;
use crate::shell::{cargo, program, read, run, say};
use crate::tree;
use std::path::Path;

/// What is installed: versions that belong together.
const PACKAGE: &str = "xtask/lodestar/package.json";
/// The program in it.
const PROGRAM: &str = "node_modules/@chainsafe/lodestar/lib/index.js";
const NODES: usize = 4;
const VALIDATORS: usize = 2;

/// `cargo xtask lodestar`.
pub fn lodestar(_: &[String]) -> Result<(), Failure> {
    let dir = tree::target().join("lodestar");
    if !install(&dir) {
        say("skipped: Lodestar cannot be installed here: no Node.js with npm, or no npm registry");
        return Ok(());
    }
    run(cargo(&["build", "--workspace", "--bin", "dvt-node"]))?;
    let cluster = dir.join(format!("cluster-{}", std::process::id()));
    let mut make = program(&tree::target().join("debug/dvt-node").to_string_lossy());
    make.args(["create-cluster", "--nodes", &NODES.to_string(), "--validators", &VALIDATORS.to_string()]);
    make.args([
        "--fork-version",
        "hoodi",
        "--withdrawal-address",
        "0x00000000000000000000000000000000000000aa",
    ]);
    make.arg("--out").arg(&cluster);
    read(make)?;
    let imported = (0..NODES).try_for_each(|node| import(&dir, &cluster, node));
    // Keys nobody needs.
    let _ = std::fs::remove_dir_all(&cluster);
    imported?;
    say(format!("{} keystores of shares were imported, each as the key the lock says", NODES * VALIDATORS));
    Ok(())
}

/// Whether the client is there, or could be fetched.
fn install(dir: &Path) -> bool {
    if dir.join(PROGRAM).is_file() {
        return true;
    }
    let copied = std::fs::create_dir_all(dir).and_then(|()| std::fs::copy(PACKAGE, dir.join("package.json")));
    let mut npm = program("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--silent"]).current_dir(dir);
    copied.is_ok() && npm.status().is_ok_and(|status| status.success()) && dir.join(PROGRAM).is_file()
}

/// Imports the shares of an operator, and compares what the client then has with the lock.
fn import(dir: &Path, cluster: &Path, node: usize) -> Result<(), Failure> {
    let keys = cluster.join(format!("node{node}/keys"));
    let client = cluster.join(format!("client{node}"));
    let lodestar = |command: &str| {
        let mut lodestar = program("node");
        lodestar.arg("--no-warnings").arg(dir.join(PROGRAM)).args([
            "validator",
            command,
            "--network",
            "goerli",
        ]);
        lodestar.arg("--dataDir").arg(&client);
        lodestar
    };
    for number in 0..VALIDATORS {
        let keystore = keys.join(format!("keystore-{number}.json"));
        let mut import = lodestar("import");
        import.arg("--importKeystores").arg(&keystore);
        import.arg("--importKeystoresPassword").arg(keystore.with_extension("txt"));
        read(import)?;
    }
    let listed = read(lodestar("list"))?;
    let path = cluster.join("cluster-lock.json");
    let lock = std::fs::read_to_string(&path).map_err(|source| Failure::Read { path, source })?;
    let keys: Vec<&str> = listed.lines().filter(|line| line.starts_with("0x")).collect();
    let is_theirs = keys.len() == VALIDATORS && keys.iter().all(|key| lock.contains(key.trim()));
    let finding = || format!("operator {node}: the client has other keys than the lock: {}", keys.join(", "));
    Failure::unless_empty("lodestar", if is_theirs { Vec::new() } else { vec![finding()] })
}
