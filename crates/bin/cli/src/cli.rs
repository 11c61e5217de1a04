//! The command line.
//!
//! Without a subcommand, or when the first argument is a flag, it is `run`; one dash is accepted for
//! long names. Whatever is not understood is an error with usage on stderr and exit code 2.

use crate::audit::AuditCommand;
use crate::backup::{BackupArgs, RestoreArgs};
use crate::create_cluster::CreateClusterArgs;
use crate::devnet::DevnetArgs;
use crate::dkg::DkgArgs;
use crate::import_obol::ImportObolArgs;
use crate::replay::ReplayArgs;
use crate::run::RunArgs;
use crate::tx::TxCommand;
use crate::unfence::UnfenceArgs;
use crate::verify::{VerifyBlockArgs, VerifyProofArgs, VerifyStateArgs};
use crate::version::VersionArgs;
use aequa_node::config::not_in_this_version;
use aequa_node::exit::{ExitError, code};
use clap::{CommandFactory, Parser, Subcommand};

/// Subcommands of the contract that this version lacks.
const LATER: [&str; 6] = ["slashing-protection", "combine", "exit", "deposit", "test", "beast"];

/// One validator and one sequencer, run by many operators.
#[derive(Debug, Parser)]
#[command(name = "dvt-node", version = aequa_node::version::VERSION, disable_help_subcommand = true)]
#[command(
    after_help = "Without a command, dvt-node runs a node: dvt-node [run] [flags], see dvt-node run --help."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do; each command says itself what it is and what it takes.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(RunArgs),
    Devnet(DevnetArgs),
    CreateCluster(CreateClusterArgs),
    Dkg(DkgArgs),
    ImportObol(ImportObolArgs),
    VerifyBlock(VerifyBlockArgs),
    VerifyProof(VerifyProofArgs),
    VerifyState(VerifyStateArgs),
    Backup(BackupArgs),
    Restore(RestoreArgs),
    Replay(ReplayArgs),
    Unfence(UnfenceArgs),
    #[command(subcommand)]
    Audit(AuditCommand),
    #[command(subcommand)]
    Tx(TxCommand),
    Version(VersionArgs),
}

/// Why no command came out of the arguments: text to print and how to end.
#[derive(Debug)]
pub struct Refusal {
    /// Usage, help or version.
    pub text: String,
    /// 0 for help and version, else 2.
    pub code: u8,
}

/// Reads the arguments after the program's name.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Command, Refusal> {
    let args = normalise(args.into_iter().collect());
    if let Some(name) = args.first().filter(|first| LATER.contains(&first.as_str())) {
        return Err(not_in_this_version(&format!("the command {name}")).into());
    }
    let name = args.first().cloned().unwrap_or_default();
    Cli::try_parse_from(std::iter::once("dvt-node".to_owned()).chain(args))
        .map(|cli| cli.command)
        .map_err(|error| refusal(&error, &name))
}

impl From<ExitError> for Refusal {
    fn from(error: ExitError) -> Self {
        Self { text: error.report(), code: error.code }
    }
}

/// clap's text, with the usage line it leaves out for bad values.
fn refusal(error: &clap::Error, subcommand: &str) -> Refusal {
    let mut text = error.render().to_string();
    if !error.use_stderr() {
        return Refusal { text, code: 0 };
    }
    if !text.contains("Usage:") {
        text.push_str(&format!("\nUsage: dvt-node {subcommand} [flags]\n"));
    }
    Refusal { text, code: code::USAGE }
}

/// Adds the subcommand `run` and the second dash.
fn normalise(mut args: Vec<String>) -> Vec<String> {
    let names = long_names(&Cli::command());
    for arg in &mut args {
        if arg == "--" {
            break;
        }
        let name = arg.strip_prefix('-').and_then(|rest| rest.split('=').next()).unwrap_or_default();
        if names.iter().any(|known| known == name) {
            arg.insert(0, '-');
        }
    }
    let top_level = ["-h", "--help", "-V", "--version"];
    match args.first() {
        Some(first) if top_level.contains(&first.as_str()) => {}
        Some(first) if !first.starts_with('-') => {}
        _ => args.insert(0, "run".to_owned()),
    }
    args
}

fn long_names(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned);
    let inner = command.get_subcommands().flat_map(long_names);
    own.chain(inner).chain(["help".to_owned(), "version".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_node::config::Settings;
    use aequa_node::config::keys::{self, Scope};

    fn parsed(line: &str) -> Result<Command, Refusal> {
        parse(line.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace('~', "")))
    }

    fn run(line: &str) -> Settings {
        match parsed(line) {
            Ok(Command::Run(args)) => args.settings.given,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn run_is_the_default_command() {
        for line in ["", "run", "--enable-tss", "-enable-tss", "run --enable-tss"] {
            run(line);
        }
        assert!(matches!(parsed("version --json"), Ok(Command::Version(VersionArgs { json: true }))));
    }

    #[test]
    fn one_dash_and_an_equals_sign_are_as_good_as_two_and_a_space() {
        for line in [
            "--validator-api 127.0.0.1:1",
            "--validator-api=127.0.0.1:1",
            "-validator-api 127.0.0.1:1",
            "-validator-api=127.0.0.1:1",
        ] {
            assert_eq!(run(line).text(keys::VALIDATOR_API), "127.0.0.1:1", "{line}");
        }
        let settings = run("-p2p.listen=/ip4/1.1.1.1/tcp/1 --p2p.listen /ip4/2.2.2.2/tcp/1 --p2p.allow a,b");
        assert_eq!(settings.list(keys::P2P_LISTEN).len(), 2);
        assert_eq!(settings.list(keys::P2P_ALLOW), ["a", "b"]);
        assert_eq!(run("--p2p.score-threshold -50").number(keys::P2P_SCORE_THRESHOLD), -50);
    }

    #[test]
    fn switches_take_their_value_only_with_an_equals_sign() {
        assert!(run("--enable-tss").switch(keys::ENABLE_TSS));
        assert!(run("-enable-tss=true").switch(keys::ENABLE_TSS));
        assert!(!run("--enable-tss=false").switch(keys::ENABLE_TSS));
        assert!(!run("--empty-blocks=false").switch(keys::EMPTY_BLOCKS));
        assert_eq!(parsed("--enable-tss true").unwrap_err().code, 2);
    }

    #[test]
    fn what_is_not_understood_is_usage_and_exit_code_two() {
        for line in [
            "--no-such-flag",
            "-x",
            "--validator-api",
            "--validator-api=",
            "--validator-api ~",
            "--p2p.max-conns many",
            "--p2p.max-conns 0",
            "--p2p.max-conns=",
            "--enable-tss=maybe",
            "--enable-tss=",
            "--log.level loud",
            "--log.level info --log.level warn",
            "leftover",
            "run leftover",
            "run --enable-tss -- more",
            "create-cluster --nodes 4",
            "create-cluster --nodes 0 --out x",
            "create-cluster --nodes 65 --out x",
            "create-cluster --nodes 4 --out ~",
            "verify-block --block b.json",
            "verify-block --lock l --group-key 00 --block b",
            "verify-block --lock l --url u",
            "verify-block --lock l --block b --url u --height 1",
            "verify-block --lock l --height 1 --block b",
            "verify-block --lock l",
            "verify-block --lock ~ --block b",
            "verify-proof --lock l",
            "verify-proof --proof p",
            "verify-proof --lock l --url u",
            "verify-proof --lock l --proof p --url u",
            "verify-proof --lock l --proof p --address 0x12",
            "tx",
            "replay",
            "replay --height x",
            "replay --height 1 --duty block",
            "replay --height 1 --data-dir ~",
            "tx send",
            "tx send --key-file k --gas 0",
            "audit",
            "audit verify --head 12",
            "audit show --kind rumour",
            "audit show --last 0",
            "audit show --data-dir ~",
            "devnet --nodes 0",
            "devnet --load 0",
            "devnet --duration x",
        ] {
            let refusal = parsed(line).expect_err(line);
            assert_eq!(refusal.code, 2, "{line}");
            assert!(refusal.text.contains("Usage:"), "{line}: {}", refusal.text);
        }
    }

    #[test]
    fn commands_of_later_versions_say_so() {
        for line in ["exit sign", "slashing-protection import"] {
            let refusal = parsed(line).unwrap_err();
            assert_eq!(refusal.code, 2);
            assert!(refusal.text.contains("not part of this version"), "{}", refusal.text);
        }
    }

    #[test]
    fn help_and_version_are_not_errors() {
        for line in ["--help", "-h", "--version", "-version", "run --help", "tx send -h"] {
            assert_eq!(parsed(line).unwrap_err().code, 0, "{line}");
        }
    }

    #[test]
    fn help_names_every_setting_of_this_version() {
        let help = parsed("run --help").unwrap_err().text;
        for key in keys::ALL {
            assert_eq!(
                help.contains(&format!("--{} ", key.name)) || help.contains(&format!("--{}[", key.name)),
                key.scope != Scope::Later,
                "{}",
                key.name
            );
        }
    }

    #[test]
    fn the_flags_of_the_original_still_start_a_node() {
        let settings = run(
            "--validator-api 127.0.0.1:4600 --monitoring 127.0.0.1:4620 --enable-builder --builder.max-n 16",
        );
        assert!(settings.switch(keys::ENABLE_BUILDER));
        assert_eq!(settings.unsigned(keys::BUILDER_MAX_N), 16);
    }

    #[test]
    fn clap_finds_no_contradiction() {
        Cli::command().debug_assert();
    }
}
