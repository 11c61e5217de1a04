//! `dvt-node tx send`.

use super::new_account::read_key;
use crate::client::{NodeClient, TxWhere, default_url};
use crate::flags::{path, text};
use aequa_crypto::transaction::{AccountKey, sign};
use aequa_node::console;
use aequa_node::exit::ExitError;
use aequa_types::json::{TransactionJson, parse_address};
use aequa_types::transaction::Payload;
use aequa_types::{AuctionBidV1, PlaintextV1, TxBody, TxKind};
use clap::Args;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Wait between two questions for a transaction.
const POLL: Duration = Duration::from_millis(200);

/// Sign a transaction and submit it
#[derive(Debug, Args)]
pub struct SendArgs {
    /// Node to submit to
    #[arg(long, default_value = default_url(), value_parser = text())]
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

/// Signs, submits, and waits if it is told to.
pub async fn send(args: &SendArgs) -> Result<(), ExitError> {
    let key = read_key(&args.key_file)?;
    let node = NodeClient::new(&args.url).map_err(ExitError::usage)?;
    let chain_id = match args.chain_id {
        Some(chain_id) => chain_id,
        None => node.cluster().await.map_err(ExitError::failure)?.chain_id,
    };
    let kind = TxKind::from_name(&args.kind).unwrap_or(TxKind::PlaintextV1);
    let nonce = match args.nonce {
        Some(nonce) => nonce,
        None => node.next_nonce(key.address(), kind).await.map_err(ExitError::failure)?,
    };
    let transaction = sign(chain_id, body(args, kind, &key, nonce)?, &key);
    let envelope = serde_json::to_string(&TransactionJson::from(&transaction)).map_err(ExitError::failure)?;
    let submitted = node.submit(envelope).await.map_err(ExitError::failure)?;
    console::line(format!("submitted {} (nonce {nonce}): {}", submitted.hash, submitted.result));
    match args.wait {
        Some(seconds) => wait(&node, &submitted.hash.to_string(), Duration::from_secs(seconds)).await,
        None => Ok(()),
    }
}

fn body(args: &SendArgs, kind: TxKind, key: &AccountKey, nonce: u64) -> Result<TxBody, ExitError> {
    let (from, gas) = (key.address(), args.gas);
    let payload = payload(args.payload.as_deref().unwrap_or_default())?;
    match kind {
        TxKind::PlaintextV1 if args.bid.is_some() || args.fee_recipient.is_some() => {
            Err(ExitError::usage("--bid and --fee-recipient belong to --type auction_bid_v1"))
        }
        TxKind::PlaintextV1 => {
            Ok(TxBody::Plaintext(PlaintextV1 { from, nonce, gas, fee: args.fee.unwrap_or(0), payload }))
        }
        TxKind::AuctionBidV1 if args.fee.is_some() => {
            Err(ExitError::usage("--fee belongs to --type plaintext_v1"))
        }
        TxKind::AuctionBidV1 => {
            let bid =
                args.bid.filter(|bid| *bid > 0).ok_or_else(|| ExitError::usage("--bid must be above 0"))?;
            let fee_recipient = match &args.fee_recipient {
                Some(text) => {
                    parse_address(text).map_err(|why| ExitError::usage(format!("--fee-recipient: {why}")))?
                }
                None => from,
            };
            Ok(TxBody::AuctionBid(AuctionBidV1 { from, nonce, gas, bid, fee_recipient, payload }))
        }
    }
}

/// 0x-hex is bytes, anything else is text.
fn payload(text: &str) -> Result<Payload, ExitError> {
    let bytes = match text.strip_prefix("0x").map(hex::decode) {
        Some(Ok(bytes)) => bytes,
        Some(Err(error)) => return Err(ExitError::usage(format!("--payload: {error}"))),
        None => text.as_bytes().to_vec(),
    };
    Payload::try_from(bytes).map_err(|error| ExitError::usage(format!("--payload {error}")))
}

async fn wait(node: &NodeClient, hash: &str, time: Duration) -> Result<(), ExitError> {
    let deadline = Instant::now() + time;
    loop {
        let found = node.transaction(hash).await.map_err(ExitError::failure)?;
        match found {
            Some(TxWhere { status, height: Some(height), index, .. }) if status == "included" => {
                let index = index.map_or(String::new(), |index| format!(", item {index}"));
                console::line(format!("included in block {height}{index}"));
                console::line(format!(
                    "check it: dvt-node verify-block --lock cluster-lock.json --url {} --height {height}",
                    node.shown()
                ));
                return Ok(());
            }
            Some(TxWhere { status, reason, .. }) if status == "dropped" => {
                return Err(ExitError::failure(format!(
                    "dropped: {}",
                    reason.unwrap_or_else(|| "no reason given".into())
                )));
            }
            _ if Instant::now() >= deadline => {
                return Err(ExitError::failure(format!("not in a block after {} s", time.as_secs()))
                    .hint(format!("ask again: dvt-node tx status --url {} {hash}", node.shown())));
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, parse};
    use crate::tx::TxCommand;

    fn args(line: &str) -> SendArgs {
        let line = format!("tx send --key-file k {line}");
        match parse(line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned)) {
            Ok(Command::Tx(TxCommand::Send(args))) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn wait_has_a_default_length() {
        assert_eq!(args("--wait").wait, Some(30));
    }

    #[test]
    fn fields_of_the_other_type_are_usage() {
        let key = AccountKey::generate().unwrap();
        let body_of = |line: &str, kind| body(&args(line), kind, &key, 0).map_err(|error| error.code);
        assert_eq!(body_of("--bid 1", TxKind::PlaintextV1), Err(2));
        assert_eq!(body_of("--fee 1 --bid 1", TxKind::AuctionBidV1), Err(2));
        assert_eq!(body_of("", TxKind::AuctionBidV1), Err(2));
        assert_eq!(body_of("--bid 1 --fee-recipient 0x1", TxKind::AuctionBidV1), Err(2));
        assert_eq!(body_of("--bid 7", TxKind::AuctionBidV1).unwrap().key(), 7);
        assert_eq!(&body_of("--payload 0x0102", TxKind::PlaintextV1).unwrap().payload()[..], [1, 2]);
        assert_eq!(&body_of("--payload hi", TxKind::PlaintextV1).unwrap().payload()[..], b"hi");
        assert_eq!(body_of("--payload 0x1", TxKind::PlaintextV1), Err(2));
    }
}
