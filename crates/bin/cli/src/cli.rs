//! The command line.
//!
//! Without a subcommand, or when the first argument is a flag, it is `run`; one dash is accepted for
//! long names. Whatever is not understood is an error with usage on stderr and exit code 2.

use aequa_node::config::keys::{self, Key, Kind, Scope};
use aequa_node::config::{Settings, Source, not_in_this_version};
use aequa_node::exit::{ExitError, code};
use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::path::PathBuf;

/// Chain ids that every JSON reader keeps exact.
const CHAIN_IDS: std::ops::Range<u64> = 1..1 << 53;

/// Subcommands of the contract that this version lacks.
const LATER: [&str; 11] = [
    "dkg",
    "verify-state",
    "audit",
    "import-obol",
    "unfence",
    "slashing-protection",
    "combine",
    "exit",
    "deposit",
    "test",
    "beast",
];

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

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node
    Run(RunArgs),
    /// Run a whole cluster on this machine, for development
    Devnet(DevnetArgs),
    /// Make the lock and all keys of a cluster in one place, for development only
    CreateCluster(CreateClusterArgs),
    /// Check a block with nothing but the cluster lock or the group key
    VerifyBlock(VerifyBlockArgs),
    /// Run a recorded height again and say who sent what when
    Replay(ReplayArgs),
    /// Make, send and follow transactions
    #[command(subcommand)]
    Tx(TxCommand),
    /// Print version, commit and protocols
    Version {
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Flags of `run`.
#[derive(Debug)]
pub struct RunArgs {
    /// What was given.
    pub settings: Settings,
}

/// Flags of parameters all operators share.
#[derive(Debug)]
pub struct SharedArgs {
    /// What was given.
    pub settings: Settings,
}

/// Flags of `devnet`.
#[derive(Debug, Args)]
pub struct DevnetArgs {
    /// Operators of a new cluster; an existing one must have as many [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: Option<u8>,
    /// Folder of the cluster; made when it does not exist or is empty
    #[arg(long, value_name = "DIR", default_value = "./aequa-devnet", value_parser = path())]
    pub dir: PathBuf,
    /// API of node i on this port + i, monitoring on this port + 20 + i
    #[arg(long, value_name = "PORT", default_value_t = 4600, value_parser = clap::value_parser!(u16).range(1..))]
    pub base_port: u16,
    /// Peer to peer port of node i of a new cluster: this + i [default: 31000]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub base_p2p_port: Option<u16>,
    /// EIP-712 chain id of a new cluster [default: one of its own]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(CHAIN_IDS))]
    pub chain_id: Option<u64>,
    /// Submit so many signed transactions per second
    #[arg(long, value_name = "TPS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub load: Option<u32>,
    /// Stop after so many seconds
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    pub duration: Option<u64>,
    /// Stop after so many decided blocks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub blocks: Option<u64>,
    /// Log level of the nodes
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub log_level: String,
    /// Let every node record, to be run again with dvt-node replay
    #[arg(long)]
    pub record: bool,
    /// Test builds only
    #[arg(long, value_name = "N:KIND", hide = true, value_parser = text())]
    pub byzantine: Option<String>,
    /// Parameters of a new cluster.
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// Flags of `create-cluster`.
#[derive(Debug, Args)]
pub struct CreateClusterArgs {
    /// Operators, 1 to 64
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: u8,
    /// Folder to make; it must not exist, or be empty
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub out: PathBuf,
    /// Name of the cluster
    #[arg(long, default_value = "aequa-devnet", value_parser = text())]
    pub name: String,
    /// EIP-712 chain id: a transaction is valid in every cluster with the same [default: one of its own]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(CHAIN_IDS))]
    pub chain_id: Option<u64>,
    /// Shares needed for a seal; only ceil(2n/3) is possible
    #[arg(long, value_name = "Q")]
    pub threshold: Option<u8>,
    /// Cheap key derivation: whoever reads the keystores needs no password
    #[arg(long)]
    pub insecure_keys: bool,
    /// API of node i on this port + i, monitoring on this port + 20 + i
    #[arg(long, value_name = "PORT", default_value_t = 4600, value_parser = clap::value_parser!(u16).range(1..))]
    pub base_port: u16,
    /// Peer to peer port of node i: this + i
    #[arg(long, value_name = "PORT", default_value_t = 31_000, value_parser = clap::value_parser!(u16).range(1..))]
    pub base_p2p_port: u16,
    /// Validator keys; only 0 in this version
    #[arg(long, hide = true, default_value_t = 0)]
    pub validators: u32,
    /// Not in this version
    #[arg(long, hide = true, value_parser = text())]
    pub fork_version: Option<String>,
    /// Not in this version
    #[arg(long, hide = true, value_parser = path())]
    pub split_keystores: Option<PathBuf>,
    /// Parameters of the cluster.
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// Flags of `verify-block`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("key").required(true).args(["lock", "group_key"])))]
#[command(group(clap::ArgGroup::new("source").required(true).args(["block", "url"])))]
pub struct VerifyBlockArgs {
    /// Cluster lock to check against
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub lock: Option<PathBuf>,
    /// Group key to check against: 96 bytes as hex
    #[arg(long, value_name = "HEX", value_parser = text())]
    pub group_key: Option<String>,
    /// Block as JSON; - is stdin
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub block: Option<PathBuf>,
    /// Node to ask for the block
    #[arg(long, value_name = "URL", requires = "height", value_parser = text())]
    pub url: Option<String>,
    /// Height of the block to ask for
    #[arg(long, value_name = "N", requires = "url", conflicts_with = "block")]
    pub height: Option<u64>,
    /// Certificate to check instead of the block's own
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub certificate: Option<PathBuf>,
    /// Not in this version
    #[arg(long, hide = true, value_parser = path())]
    pub policy: Option<PathBuf>,
}

/// Flags of `replay`.
#[derive(Debug, Args)]
#[command(after_help = REPLAY_HELP)]
pub struct ReplayArgs {
    /// Folder of the operator; the node may be running
    #[arg(long, value_name = "DIR", default_value = "./aequa-data", value_parser = path())]
    pub data_dir: PathBuf,
    /// Height of the block, or slot of the duty
    #[arg(long, value_name = "H")]
    pub height: u64,
    /// Replay a duty instead of a block
    #[arg(long, value_name = "TYPE", value_parser = ["attester", "proposer", "sync"])]
    pub duty: Option<String>,
    /// Cluster lock [default: the one the node uses]
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub cluster_lock: Option<PathBuf>,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What a reader of `replay --help` wants to know beside the flags.
const REPLAY_HELP: &str = "\
A node started with --record writes down what every consensus instance takes:
messages, timers, candidates, and what a restart gave it back. replay checks all
signatures, runs the same code again, prints what happened with milliseconds since
the beginning, and compares every statement the operator made with the recording
and the vote log. Equal messages are shown once, with how often they came.

  dvt-node run --data-dir node0 --record
  dvt-node replay --data-dir node0 --height 17

Exit code: 0 reproduced, 1 it differs, 2 usage, 3 not recorded or not whole.";

/// Subcommands of `tx`.
#[derive(Debug, Subcommand)]
pub enum TxCommand {
    /// Make a key and print its address
    NewAccount {
        /// File to write the secret key to; without it, the key is printed
        #[arg(long, value_name = "FILE", value_parser = path())]
        out: Option<PathBuf>,
    },
    /// Sign a transaction and submit it
    Send(Box<TxSendArgs>),
    /// Say where a transaction is
    Status {
        /// Node to ask
        #[arg(long, default_value = "http://127.0.0.1:4600", value_parser = text())]
        url: String,
        /// Hash of the transaction
        #[arg(value_parser = text())]
        hash: String,
    },
    /// Submit many signed transactions and check what becomes of each
    Load(TxLoadArgs),
}

/// Flags of `tx send`.
#[derive(Debug, Args)]
pub struct TxSendArgs {
    /// Node to submit to
    #[arg(long, default_value = "http://127.0.0.1:4600", value_parser = text())]
    pub url: String,
    /// File with the secret key: 64 hex digits
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub key_file: PathBuf,
    /// Transaction type
    #[arg(long = "type", value_name = "TYPE", default_value = "plaintext_v1", value_parser = ["plaintext_v1", "auction_bid_v1"])]
    pub kind: String,
    /// Content: 0x-hex or plain text
    #[arg(long, value_parser = text())]
    pub payload: Option<String>,
    /// Fee of plaintext_v1 [default: 0]
    #[arg(long)]
    pub fee: Option<u64>,
    /// Bid of auction_bid_v1
    #[arg(long)]
    pub bid: Option<u64>,
    /// Who is credited with the bid [default: the sender]
    #[arg(long, value_name = "ADDRESS", value_parser = text())]
    pub fee_recipient: Option<String>,
    /// Execution allowance
    #[arg(long, default_value_t = 21_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub gas: u64,
    /// Sequence number [default: asked from the node]
    #[arg(long)]
    pub nonce: Option<u64>,
    /// EIP-712 chain id [default: asked from the node]
    #[arg(long, value_name = "ID")]
    pub chain_id: Option<u64>,
    /// Wait for the certified block, at most this many seconds [default: 30]
    #[arg(long, value_name = "S", num_args = 0..=1, require_equals = true, default_missing_value = "30")]
    pub wait: Option<u64>,
}

/// Flags of `tx load`.
#[derive(Debug, Args)]
pub struct TxLoadArgs {
    /// Node to submit to; repeatable, or a comma list
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:4600", value_parser = text())]
    pub url: Vec<String>,
    /// Transactions to submit
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,
    /// Transactions per second [default: as fast as they are taken]
    #[arg(long, value_name = "TPS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub tps: Option<u32>,
    /// Senders [default: enough for the rate]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub accounts: Option<u32>,
    /// Bytes of each payload
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    pub payload: u32,
    /// Make every Nth transaction a bad one, which must be rejected with its reason; 0 = none
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub bad_every: u64,
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

fn text() -> NonEmptyStringValueParser {
    NonEmptyStringValueParser::new()
}

fn path() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    use clap::builder::TypedValueParser as _;
    NonEmptyStringValueParser::new().map(PathBuf::from)
}

fn flag_of(key: &'static Key) -> Arg {
    let mut help = key.help.to_owned();
    if !key.default.is_empty() {
        help.push_str(&format!(" [default: {}]", key.default));
    }
    let arg = Arg::new(key.name).long(key.name).help(help).hide(key.scope == Scope::Later);
    let arg = match key.scope {
        Scope::Shared => arg.help_heading("Shared by all operators (from the cluster lock)"),
        Scope::Local | Scope::Later => arg,
    };
    match key.kind {
        Kind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false")
            .value_parser(["true", "false"]),
        Kind::Choice(words) => arg.value_name("WORD").value_parser(words.to_vec()),
        Kind::Number(min, _) => {
            arg.value_name("N").allow_negative_numbers(min < 0).value_parser(move |value: &str| {
                aequa_node::config::check_value(key, value).map(|()| value.to_owned())
            })
        }
        Kind::Text => arg.value_name("TEXT").value_parser(text()),
        Kind::List => {
            arg.value_name("TEXT").value_parser(text()).value_delimiter(',').action(ArgAction::Append)
        }
    }
}

fn settings_of(matches: &ArgMatches, scopes: &[Scope]) -> Result<Settings, clap::Error> {
    let mut settings = Settings::default();
    for key in keys::ALL.iter().filter(|key| scopes.contains(&key.scope)) {
        if let Some(values) = matches.get_many::<String>(key.name) {
            settings
                .set(key, values.cloned().collect(), Source::Flag)
                .map_err(|error| clap::Error::raw(clap::error::ErrorKind::ValueValidation, error.message))?;
        }
    }
    Ok(settings)
}

fn add_flags(command: clap::Command, scopes: &[Scope]) -> clap::Command {
    let flags = keys::ALL.iter().filter(|key| scopes.contains(&key.scope)).map(flag_of);
    command.args(flags)
}

/// Implements clap's traits for a struct that holds the settings of some scopes.
macro_rules! settings_args {
    ($name:ident, $scopes:expr) => {
        impl Args for $name {
            fn augment_args(command: clap::Command) -> clap::Command {
                add_flags(command, $scopes)
            }
            fn augment_args_for_update(command: clap::Command) -> clap::Command {
                Self::augment_args(command)
            }
        }

        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                settings_of(matches, $scopes).map(|settings| Self { settings })
            }
            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }
    };
}

settings_args!(RunArgs, &[Scope::Local, Scope::Shared, Scope::Later]);
settings_args!(SharedArgs, &[Scope::Shared]);

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Refusal> {
        parse(line.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace('~', "")))
    }

    fn run(line: &str) -> Settings {
        match parsed(line) {
            Ok(Command::Run(args)) => args.settings,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn run_is_the_default_command() {
        for line in ["", "run", "--enable-tss", "-enable-tss", "run --enable-tss"] {
            run(line);
        }
        assert!(matches!(parsed("version --json"), Ok(Command::Version { json: true })));
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
            "tx",
            "replay",
            "replay --height x",
            "replay --height 1 --duty block",
            "replay --height 1 --data-dir ~",
            "tx send",
            "tx send --key-file k --gas 0",
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
        for line in ["dkg new", "verify-state --height 1", "slashing-protection import"] {
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

    #[test]
    fn wait_has_a_default_length() {
        let Ok(Command::Tx(TxCommand::Send(args))) = parsed("tx send --key-file k --wait") else { panic!() };
        assert_eq!(args.wait, Some(30));
    }
}
