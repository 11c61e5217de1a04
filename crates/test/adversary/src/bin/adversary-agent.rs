//! `adversary-agent`: one faulty operator against a running cluster.

use aequa_adversary::agent::{Agent, Plan};
use aequa_adversary::endpoints::Endpoints;
use aequa_adversary::traitor::Traitor;
use aequa_adversary::{AdversaryError, attack};
use aequa_node::{console, wall_ms};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Joins a cluster with an operator's keys and plays attacks. The operator's own node must not run.
///
/// ENDPOINTS_QBFT and ENDPOINTS_P2P (comma lists of URLs) name test endpoints to visit as well,
/// P2P_ID_PREFIX and P2P_MAX_IDS the peers made up there. ENDPOINTS_TX, ENDPOINTS_DUTY, ATTACK_BEAST and
/// BEAST_GROUP_PUBKEY_B64 are refused: there are no such attacks.
#[derive(Debug, Parser)]
#[command(name = "adversary-agent", disable_version_flag = true)]
struct Cli {
    /// Folder of the operator: cluster-lock.json and keys/
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    node_dir: Option<PathBuf>,
    /// Attacks to play in turn, or all
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "all")]
    attack: Vec<String>,
    /// Messages per second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// How long
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Where all chance comes from [default: the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Monitoring addresses of the nodes, for what their verifiers said: URLs
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    metrics: Vec<String>,
    /// List the attacks and do nothing
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::complain(&error);
            ExitCode::from(if matches!(error, AdversaryError::Usage(_)) { 2 } else { 1 })
        }
    }
}

fn run(cli: Cli) -> Result<(), AdversaryError> {
    if cli.list {
        attack::all().iter().for_each(|attack| console::line(format!("{:22}{}", attack.name, attack.about)));
        return Ok(());
    }
    let endpoints = Endpoints::from_env(|name| std::env::var(name).ok()).map_err(AdversaryError::Usage)?;
    let seed = cli.seed.unwrap_or_else(wall_ms);
    let traitor = Traitor::load(&cli.node_dir.unwrap_or_default())?;
    console::line(format!("operator {} turns against its cluster, seed {seed}", traitor.index));
    let plan = Plan {
        attacks: cli.attack,
        rate: cli.rate,
        time: Duration::from_secs(cli.seconds),
        seed,
        monitoring: cli.metrics,
        endpoints,
    };
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| AdversaryError::Process { what: "runtime".into(), why: error.to_string() })?;
    let books = runtime.block_on(async {
        let agent = Agent::join(traitor).await?;
        let books = agent.play(&plan, console::line).await;
        agent.leave().await;
        books
    })?;
    books.lines().into_iter().for_each(console::line);
    Ok(())
}
