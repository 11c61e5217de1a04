//! What a cluster has for Ethereum, read by software of others: the deposit tool of stakers.
//!
//! It comes from PyPI into a folder of the build output; where that cannot be reached the chore says so and ends well.
//! It checks every deposit as it checks its own, and opens every keystore of a share.

use crate::failure::Failure;
use crate::shell::{cargo, program, python_with, read, run, say};
use crate::tree;

/// Name and version of the tool.
const TOOL: (&str, &str) = ("ethstaker-deposit", "1.3.1");
/// What it is to do.
const SCRIPT: &str = "xtask/src/deposits.py";
/// Network of the validators.
const NETWORK: &str = "hoodi";

/// `cargo xtask deposits`.
pub fn deposits(_: &[String]) -> Result<(), Failure> {
    let dir = tree::target().join("deposits");
    let (name, version) = TOOL;
    let Some(python) = python_with(&dir.join(version), name, version) else {
        say(format!("skipped: {name} {version} cannot be installed here: no python3, or no PyPI"));
        return Ok(());
    };
    run(cargo(&["build", "--workspace", "--bin", "dvt-node"]))?;
    let cluster = dir.join(format!("cluster-{}", std::process::id()));
    let mut make = program(&tree::target().join("debug/dvt-node").to_string_lossy());
    make.args([
        "create-cluster",
        "--nodes",
        "4",
        "--validators",
        "2",
        "--fork-version",
        NETWORK,
        "--compounding",
    ]);
    make.args(["--withdrawal-address", "0x00000000000000000000000000000000000000aa"]);
    make.args(["--deposit-eth", "1,31,100", "--out"]).arg(&cluster);
    read(make)?;
    let mut check = program(&python.to_string_lossy());
    check.arg(SCRIPT).arg(&cluster).arg(NETWORK);
    let checked = run(check);
    // Keys nobody needs.
    let _ = std::fs::remove_dir_all(&cluster);
    checked
}
