//! `dvt-node tx load`.

use crate::client::{NodeClient, default_url};
use crate::flags::text;
use crate::load::{self, Load, LoadPlan};
use aequa_node::console;
use aequa_node::exit::ExitError;
use clap::Args;
use std::time::Instant;

/// Submit many signed transactions and check what becomes of each
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Node to submit to; repeatable, or a comma list
    #[arg(long, value_delimiter = ',', default_value = default_url(), value_parser = text())]
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

/// Submits, waits for what is open, and says what became of it.
pub async fn load(args: LoadArgs) -> Result<(), ExitError> {
    let nodes = args.url.iter().map(|url| NodeClient::new(url)).collect::<Result<Vec<_>, _>>();
    let nodes = nodes.map_err(ExitError::usage)?;
    let plan = LoadPlan {
        accounts: args.accounts.unwrap_or_else(|| load::accounts_for(args.tps)),
        tps: args.tps,
        count: Some(args.count),
        payload_bytes: args.payload,
        bad_every: args.bad_every,
    };
    let load = Load::start(nodes, plan).await?;
    let began = Instant::now();
    load.watch(|counts| {
        console::line(format!(
            "accepted {}, included {}, rejected {}",
            counts.accepted, counts.included, counts.rejected
        ));
    })
    .await;
    let summary = load.finish().await;
    let elapsed = began.elapsed();
    summary.lines().iter().for_each(console::line);
    let rate = summary.counts.included as f64 / elapsed.as_secs_f64();
    console::line(format!("{rate:.0} transactions per second over {:.1} s", elapsed.as_secs_f64()));
    match summary.holds() {
        true => {
            console::line(
                "every accepted transaction was included exactly once, in nonce order; every rejected one has its reason",
            );
            Ok(())
        }
        false => Err(ExitError::failure("promises were broken")),
    }
}
