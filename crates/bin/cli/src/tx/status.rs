//! `dvt-node tx status`.

use crate::client::{NodeClient, default_url};
use crate::flags::text;
use aequa_node::console;
use aequa_node::exit::ExitError;
use clap::Args;

/// Say where a transaction is
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Node to ask
    #[arg(long, default_value = default_url(), value_parser = text())]
    url: String,
    /// Hash of the transaction
    #[arg(value_parser = text())]
    hash: String,
}

/// Asks once.
pub async fn status(args: &StatusArgs) -> Result<(), ExitError> {
    let node = NodeClient::new(&args.url).map_err(ExitError::usage)?;
    let digits = args.hash.strip_prefix("0x").unwrap_or(&args.hash);
    if digits.len() != 64 || hex::decode(digits).is_err() {
        return Err(ExitError::usage("the hash must be 64 hex digits"));
    }
    let found = node.transaction(&format!("0x{digits}")).await.map_err(ExitError::failure)?;
    let Some(found) = found else {
        return Err(ExitError::failure(format!("{} does not know this transaction", node.shown())));
    };
    let place = match (found.height, found.index) {
        (Some(height), Some(index)) => format!(" in block {height}, item {index}"),
        (Some(height), None) => format!(" in block {height}"),
        _ => String::new(),
    };
    let reason = found.reason.map_or(String::new(), |reason| format!(": {reason}"));
    console::line(format!("{}{place}{reason}", found.status));
    Ok(())
}
