//! `dvt-node tx`: keys, transactions, and what becomes of them.

use crate::cli::{TxCommand, TxLoadArgs, TxSendArgs};
use crate::client::{NodeClient, TxWhere};
use crate::console;
use crate::load::{self, Load, LoadPlan};
use aequa_crypto::transaction::{AccountKey, sign};
use aequa_node::exit::ExitError;
use aequa_node::keys::read_secret;
use aequa_node::{files, runtime};
use aequa_types::json::{TransactionJson, parse_address};
use aequa_types::transaction::Payload;
use aequa_types::{AuctionBidV1, PlaintextV1, TxBody, TxKind};
use std::path::Path;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Longest key file in bytes: 64 hex digits, a prefix and white space.
const KEY_FILE_BYTES_MAX: usize = 128;
/// Wait between two questions for a transaction.
const POLL: Duration = Duration::from_millis(200);

/// Runs one of the `tx` commands.
pub fn run(command: TxCommand) -> Result<(), ExitError> {
    match command {
        TxCommand::NewAccount { out } => new_account(out.as_deref()),
        TxCommand::Send(args) => runtime()?.block_on(send(&args)),
        TxCommand::Status { url, hash } => runtime()?.block_on(status(&url, &hash)),
        TxCommand::Load(args) => runtime()?.block_on(load(args)),
    }
}

fn new_account(out: Option<&Path>) -> Result<(), ExitError> {
    let key = AccountKey::generate().map_err(ExitError::failure)?;
    let secret = Zeroizing::new(format!("{}\n", hex::encode(key.to_bytes().as_slice())));
    match out {
        Some(path) => {
            files::write_new(path, secret.as_bytes(), files::SECRET).map_err(|error| {
                ExitError::failure(format!("cannot write {}: {error}", path.display()))
                    .hint("keys are never overwritten: choose another file")
            })?;
            console::line(format!("secret key in {}", path.display()));
        }
        None => console::line(format!("secret key {}", secret.trim())),
    }
    console::line(format!("address {:#x}", key.address()));
    Ok(())
}

async fn send(args: &TxSendArgs) -> Result<(), ExitError> {
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

fn body(args: &TxSendArgs, kind: TxKind, key: &AccountKey, nonce: u64) -> Result<TxBody, ExitError> {
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
    let length = bytes.len();
    Payload::try_from(bytes)
        .map_err(|_| ExitError::usage(format!("--payload has {length} bytes, the limit is 65536")))
}

fn read_key(path: &Path) -> Result<AccountKey, ExitError> {
    let fail = |why: String| {
        ExitError::failure(format!("cannot use the key in {}: {why}", path.display()))
            .hint("it must hold 64 hex digits; dvt-node tx new-account --out FILE makes one")
    };
    let mut warnings = Vec::new();
    let text = read_secret(path, None, KEY_FILE_BYTES_MAX, &mut warnings, |error| fail(error.to_string()))?;
    warnings.iter().for_each(console::complain);
    let digits = text.trim();
    let mut bytes = Zeroizing::new([0u8; 32]);
    hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), bytes.as_mut_slice())
        .map_err(|error| fail(error.to_string()))?;
    AccountKey::from_bytes(&bytes).map_err(|error| fail(error.to_string()))
}

async fn wait(node: &NodeClient, hash: &str, patience: Duration) -> Result<(), ExitError> {
    let deadline = Instant::now() + patience;
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
                return Err(ExitError::failure(format!("not in a block after {} s", patience.as_secs()))
                    .hint(format!("ask again: dvt-node tx status --url {} {hash}", node.shown())));
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

async fn status(url: &str, hash: &str) -> Result<(), ExitError> {
    let node = NodeClient::new(url).map_err(ExitError::usage)?;
    let digits = hash.strip_prefix("0x").unwrap_or(hash);
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

async fn load(args: TxLoadArgs) -> Result<(), ExitError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_written_once_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        new_account(Some(&path)).unwrap();
        read_key(&path).unwrap();
        assert_eq!(new_account(Some(&path)).unwrap_err().code, 1);
        for bad in ["", "zz", &"00".repeat(32), &"ab".repeat(33)] {
            let path = dir.path().join(format!("bad{}", bad.len()));
            files::write_new(&path, bad.as_bytes(), files::SECRET).unwrap();
            assert_eq!(read_key(&path).unwrap_err().code, 1);
        }
    }

    /// A pipe would make the command wait for whoever never comes.
    #[test]
    fn a_key_that_others_can_read_and_a_pipe_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        files::write_new(&path, "11".repeat(32).as_bytes(), files::PUBLIC).unwrap();
        let error = read_key(&path).unwrap_err();
        assert!(error.hint.starts_with("chmod go-rwx"), "{error:?}");
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(read_key(&pipe).unwrap_err().message.contains("no regular file"));
    }

    #[test]
    fn fields_of_the_other_type_are_usage() {
        let key = AccountKey::generate().unwrap();
        let body_of = |line: &str, kind| {
            let line = format!("tx send --key-file k {line}");
            match crate::cli::parse(line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned)) {
                Ok(crate::cli::Command::Tx(TxCommand::Send(args))) => {
                    body(&args, kind, &key, 0).map_err(|error| error.code)
                }
                other => panic!("{other:?}"),
            }
        };
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
