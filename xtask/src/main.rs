//! The one door to every chore: `cargo xtask <command>`.
//!
//! | module | what it does |
//! |---|---|
//! | [`chores`] | the commands that call cargo or a program of ours |
//! | [`count`] | instructions of single operations, beside those written down |
//! | [`deposits`] | deposits and keystores, read by the deposit tool of stakers |
//! | [`deny`] | supply chain: sources, bans, floors, licences |
//! | [`docs`] | rustdoc, links, decision records, and whether documented commands exist |
//! | [`lodestar`] | shares of validators' keys, imported by a validator client of others |
//! | [`gates`] | small rules about the sources, each with its reason |
//! | [`schemathesis`] | the API of a running cluster against its own description |
//! | [`tree`] | the files of the repository |
//! | [`shell`] | running programs and saying so |
//!
//! It may read everything and write nothing but build output; only `fmt` changes sources, and figures are taken over
//! with `--write`.

#![allow(clippy::wildcard_enum_match_arm, reason = "chores decide nothing")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod chores;
mod count;
mod deny;
mod deposits;
mod docs;
mod failure;
mod gates;
mod lodestar;
mod schemathesis;
mod shell;
mod tree;

use failure::Failure;
use std::process::ExitCode;

/// A command of `cargo xtask`.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// What may follow it; empty when nothing may.
    pub takes: &'static str,
    /// What it does, one sentence.
    pub about: &'static str,
    /// Runs it with what followed its name.
    pub run: fn(&[String]) -> Result<(), Failure>,
}

/// Every command, in the order of the help text.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "test",
        takes: "[-p PACKAGE] [names and flags of the test runner]",
        about: "run every test of the workspace with cargo-nextest, or with cargo test where nextest is missing; doc tests too when nothing follows",
        run: chores::test,
    },
    Command {
        name: "lint",
        takes: "",
        about: "check formatting, and run clippy with warnings as errors",
        run: chores::lint,
    },
    Command { name: "fmt", takes: "", about: "format the sources", run: chores::fmt },
    Command {
        name: "docs",
        takes: "",
        about: "build rustdoc with warnings as errors; check links, decision records and every command the documents name",
        run: docs::run,
    },
    Command {
        name: "deny",
        takes: "",
        about: "check sources, bans, version floors and licences of all dependencies against deny.toml",
        run: deny::run,
    },
    Command {
        name: "gates",
        takes: "",
        about: "check the rules compilers do not: no unfinished code, no mocks, no machine paths, golden vectors re-derived",
        run: gates::run,
    },
    Command { name: "ci", takes: "", about: "run what CI runs: the script .ci/run", run: chores::ci },
    Command {
        name: "sim",
        takes: "[help | flags of aequa-sim]",
        about: "run thousands of seeds of the deterministic cluster simulator; longer: cargo xtask sim --seeds 100000",
        run: chores::sim,
    },
    Command {
        name: "model",
        takes: "[flags of aequa-model]",
        about: "search the models of consensus and print what was found, e.g. cargo xtask model --rounds 3",
        run: chores::model,
    },
    Command {
        name: "kill",
        takes: "[--runs N] [--seed S]",
        about: "kill -9 real nodes at random moments (200 runs) and compare every disk",
        run: chores::kill,
    },
    Command {
        name: "ceremonies",
        takes: "[--runs N] [--seed S]",
        about: "hold key ceremonies of real processes (50 runs) that are killed, away or lying at random, and compare every lock and share",
        run: chores::ceremonies,
    },
    Command {
        name: "devnet",
        takes: "[flags of dvt-node devnet]",
        about: "run a cluster on this machine from an optimised build",
        run: chores::devnet,
    },
    Command {
        name: "adversary",
        takes: "[--release] [flags of adversary-trial]",
        about: "set a traitor with an operator's key on honest processes, e.g. cargo xtask adversary --seconds 600",
        run: chores::adversary,
    },
    Command {
        name: "schemathesis",
        takes: "[--max-examples N] [--seconds S]",
        about: "test a cluster of the built nodes against its own /openapi.json with schemathesis from PyPI",
        run: schemathesis::schemathesis,
    },
    Command {
        name: "deposits",
        takes: "",
        about: "make a cluster with validators, and have its deposits and keystores checked by ethstaker-deposit from PyPI",
        run: deposits::deposits,
    },
    Command {
        name: "lodestar",
        takes: "",
        about: "make a cluster with validators, and have every share imported by the validator client Lodestar from npm",
        run: lodestar::lodestar,
    },
    Command {
        name: "bench",
        takes: "[help | flags of aequa-bench | costs [name]]",
        about: "measure clusters beside a bare probe, e.g. cargo xtask bench --only n=4; costs: the benchmarks of single crates",
        run: chores::bench,
    },
    Command {
        name: "count",
        takes: "[--write]",
        about: "count instructions of single operations with valgrind, and show what grew by more than 5 %; --write takes the figures over",
        run: count::run_all,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            shell::complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn dispatch(args: &[String]) -> Result<(), Failure> {
    let Some((name, rest)) = args.split_first() else {
        return Err(Failure::Usage(help()));
    };
    if ["help", "--help", "-h"].contains(&name.as_str()) {
        shell::say(help());
        return Ok(());
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(Failure::Usage(format!("unknown command {name}\n\n{}", help())));
    };
    if matches!(rest, [flag] if flag == "--help" || flag == "-h") {
        shell::say(format!("{}\n\nUsage: cargo xtask {} {}", command.about, command.name, command.takes));
        return Ok(());
    }
    if command.takes.is_empty() && !rest.is_empty() {
        return Err(Failure::Usage(format!("cargo xtask {} takes no arguments", command.name)));
    }
    (command.run)(rest)
}

fn help() -> String {
    let mut text = String::from("Every chore of the workspace.\n\nUsage: cargo xtask <command>\n\n");
    for command in COMMANDS {
        text.push_str(&format!("  {:<13}{}\n", command.name, command.about));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_command() {
        assert!(COMMANDS.iter().all(|command| help().contains(&format!("  {:<13}", command.name))));
    }

    #[test]
    fn what_is_not_understood_is_usage() {
        for line in [&[][..], &["nonsense"], &["lint", "extra"]] {
            let args: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(dispatch(&args).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }
}
