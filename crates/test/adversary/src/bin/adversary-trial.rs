//! `adversary-trial`: a cluster of honest processes with one traitor among them; exit code 1 when anything
//! that must hold does not.

use aequa_adversary::AdversaryError;
use aequa_adversary::trial::Trial;
use aequa_node::{console, wall_ms};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Makes a cluster, runs all operators but the last, and sets the adversary on them with the last one's keys.
#[derive(Debug, Parser)]
#[command(name = "adversary-trial", disable_version_flag = true)]
struct Cli {
    /// The program dvt-node
    #[arg(long, value_name = "PATH")]
    node: PathBuf,
    /// Folder to make the cluster in; must not exist
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Operators, the traitor among them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(4..=16))]
    nodes: u8,
    /// Length of the attack
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Attacks to play in turn, or all
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "all")]
    attack: Vec<String>,
    /// Messages of the adversary per second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Transactions of honest clients per second; 0 = none
    #[arg(long, default_value_t = 20)]
    tps: u32,
    /// Bytes of the payload of each
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=65_536))]
    payload: u32,
    /// Strangers of each kind at every node's API, beside the traitor; 0 = none
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(..=32))]
    strangers: u32,
    /// Where all chance comes from [default: the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// API of node i on this port + i, monitoring on this port + 20 + i
    #[arg(long, value_name = "PORT", default_value_t = 18_000)]
    base_port: u16,
    /// Transport of node i on this port + i
    #[arg(long, value_name = "PORT", default_value_t = 18_100)]
    base_p2p_port: u16,
    /// Test endpoints from this port on
    #[arg(long, value_name = "PORT", default_value_t = 18_200)]
    base_test_port: u16,
    /// Least time between blocks
    #[arg(long, value_name = "MS", default_value_t = 300)]
    block_interval_ms: u32,
    /// Length of round 0
    #[arg(long, value_name = "MS", default_value_t = 600)]
    round_timeout_ms: u32,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            console::complain(&error);
            ExitCode::from(if matches!(error, AdversaryError::Usage(_)) { 2 } else { 1 })
        }
    }
}

fn run(cli: Cli) -> Result<bool, AdversaryError> {
    if cli.dir.exists() {
        return Err(AdversaryError::Usage(format!("{} exists", cli.dir.display())));
    }
    let trial = Trial {
        node: cli.node,
        dir: cli.dir,
        operators: cli.nodes,
        base_port: cli.base_port,
        base_p2p_port: cli.base_p2p_port,
        base_test_port: cli.base_test_port,
        time: Duration::from_secs(cli.seconds),
        attacks: cli.attack,
        rate: cli.rate,
        seed: cli.seed.unwrap_or_else(wall_ms),
        tps: cli.tps,
        payload_bytes: cli.payload,
        strangers: cli.strangers,
        block_interval_ms: cli.block_interval_ms,
        round_timeout_ms: cli.round_timeout_ms,
    };
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| AdversaryError::Process { what: "runtime".into(), why: error.to_string() })?;
    let report = runtime.block_on(trial.hold(console::line))?;
    report.lines().into_iter().for_each(console::line);
    Ok(report.holds())
}
