//! `dvt-node verify-state`: is what this operator's node has stored the state the cluster agreed on?
//!
//! The store of a stopped node is held, and the state at the height is read as it was after that block, whatever came
//! later. Its root is that of the page at the top of its tree; with `--full` every row is compared with its leaf and
//! every page with the hash above it, so that the root is that of the rows. States older than the last 256 have no
//! rows any more: then the root is the one that was stored with the block.

use super::held;
use super::trusted::{Anchor, TrustedRoot};
use crate::client::NodeClient;
use crate::flags::{lock_of_node, path, text};
use aequa_chain::{ChainError, State, Table};
use aequa_crypto::verify::Verifier;
use aequa_node::exit::{ExitError, code};
use aequa_node::store_key::given;
use aequa_node::{console, epochs, runtime};
use aequa_storage::StorageError;
use aequa_storage::chain_store::{ChainOptions, ChainStore as _, FjallChainStore};
use aequa_storage::data_dir::{chain_dir, hold_dir};
use aequa_types::{ClusterId, Height};
use alloy_primitives::B256;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Compare the state of a stopped node with a trusted root
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["trusted_root", "peer", "certificate"])))]
#[command(after_help = VERIFY_STATE_HELP)]
pub struct VerifyStateArgs {
    /// Height of the block after which the state is compared
    #[arg(long, visible_alias = "ledger", value_name = "N")]
    pub height: u64,
    /// Root to compare with: 64 hex digits
    #[arg(long, value_name = "HEX", value_parser = root)]
    pub trusted_root: Option<B256>,
    /// Node of another operator to compare with; may be given many times
    #[arg(long, value_name = "URL", value_parser = text())]
    pub peer: Vec<String>,
    /// The block after the height with its certificate, as JSON
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub certificate: Option<PathBuf>,
    /// Compare every row and page with the root, instead of the top alone
    #[arg(long)]
    pub full: bool,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// Folder of the operator; its node must be stopped
    #[arg(long, value_name = "DIR", default_value = "./aequa-data", value_parser = path())]
    pub data_dir: PathBuf,
    /// File with the key of an encrypted block store [default: AEQUA_STORAGE_KEY]
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub storage_key_file: Option<PathBuf>,
    /// Cluster lock [default: the one the node uses]
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub lock: Option<PathBuf>,
}

/// What a reader of `verify-state --help` wants to know beside the flags.
const VERIFY_STATE_HELP: &str = "\
The header of block N+1 carries the root of the state after block N, and a quorum has
certified it: that is what --certificate reads and what a peer is asked for first; one
peer that has it is enough. At the tip nothing is signed yet: then f+1 peers have to say
the same root, each as another operator. Which operator a peer is, it says itself: name
only addresses that you know to be those of operators.

  dvt-node verify-state --data-dir node0 --height 100 --peer http://10.0.0.2:4600
  dvt-node verify-state --data-dir node0 --height 100 --certificate block-101.json --full

Exit code: 0 the roots are equal, 1 they differ or the state is damaged, 2 usage,
3 could not check.";

/// The first place where the state differs, as far as it can be told without the other state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Difference {
    /// Name of the table; `tree` for what is kept of the tree.
    table: &'static str,
    /// Key in the table.
    key: String,
}

/// What is known in the end: the object of `--json`.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    height: Height,
    local_root: Option<B256>,
    trusted_root: Option<B256>,
    verified: bool,
    first_difference: Option<Difference>,
    error: Option<String>,
}

/// Compares the state at a height; the exit code tells a mismatch (1) from could-not-check (3).
pub fn verify_state(args: &VerifyStateArgs) -> Result<(), ExitError> {
    let mut outcome = Outcome { height: Height(args.height), ..Outcome::default() };
    let result = match compare(args, &mut outcome) {
        Ok(None) => Ok(()),
        Ok(Some(mismatch)) => Err(ExitError::failure(mismatch)),
        // Nothing was compared: neither a mismatch nor a danger.
        Err(error) => {
            outcome.error = Some(error.message.clone());
            let code = if error.code == code::USAGE { code::USAGE } else { code::UNCHECKED };
            Err(ExitError { code, ..error })
        }
    };
    outcome.verified = result.is_ok();
    if args.json {
        console::line(json!(outcome));
    } else if outcome.verified {
        console::line("verified");
    }
    result
}

/// How the state differs; none when it does not. Notes in `outcome` whatever comes to be known on the way.
fn compare(args: &VerifyStateArgs, outcome: &mut Outcome) -> Result<Option<String>, ExitError> {
    let say = |check: String| {
        if !args.json {
            held(check)
        }
    };
    let peers = args.peer.iter().map(|url| NodeClient::new(url).map_err(ExitError::usage));
    let peers: Vec<NodeClient> = peers.collect::<Result<_, _>>()?;
    let lock = lock_of_node(&args.data_dir, args.lock.as_deref(), "--lock")?;
    let verifier = Verifier::with_history(&lock, &epochs::history(&args.data_dir, &lock)?);
    let anchor = Anchor { lock, verifier };
    let options = ChainOptions { key: given(args.storage_key_file.as_deref())?, ..ChainOptions::default() };
    let local = Local::open(&args.data_dir, anchor.lock.cluster_id(), Height(args.height), options)?;

    let TrustedRoot { root: trusted, why } = trusted(args, &peers, &anchor)?;
    outcome.trusted_root = Some(trusted);
    say(format!("the root after block {} is {trusted}: {why}", args.height));

    let (found, damage) = match local.root(args.full)? {
        Found::Root(root) => {
            outcome.local_root = Some(root);
            if root == trusted {
                say(local.in_words(args.full));
                return Ok(None);
            }
            // It is a mismatch whatever else cannot be read.
            (root.to_string(), local.damage().unwrap_or_default())
        }
        Found::Damaged(error) => ("of damaged rows".into(), Some(error)),
    };
    outcome.first_difference = damage.as_ref().and_then(difference);
    let mut text =
        format!("mismatch after block {}: trusted is {trusted}, the local root is {found}", args.height);
    match (damage, &outcome.first_difference) {
        (Some(damage), Some(Difference { table, key })) => {
            text.push_str(&format!("; first difference: table {table}, key {key}: {damage}"));
        }
        (Some(damage), None) => text.push_str(&format!("; {damage}")),
        (None, _) if local.has_rows => text.push_str("; no damage is found in it: it is another state"),
        (None, _) => {}
    }
    Ok(Some(text))
}

fn trusted(args: &VerifyStateArgs, peers: &[NodeClient], anchor: &Anchor) -> Result<TrustedRoot, ExitError> {
    let height = Height(args.height);
    match (args.trusted_root, &args.certificate) {
        (Some(root), _) => Ok(TrustedRoot { root, why: "it was given".into() }),
        (None, Some(path)) => anchor.of_file(path, height),
        (None, None) => runtime()?.block_on(anchor.of_peers(peers, height)),
    }
}

/// The store of a stopped node, and a height that it has.
struct Local {
    store: FjallChainStore,
    cluster: ClusterId,
    height: Height,
    /// Whether the rows at the height are still there.
    has_rows: bool,
    /// The directory, for as long as the store is read.
    _held: std::fs::File,
}

/// What there is at the height.
enum Found {
    /// A state with this root.
    Root(B256),
    /// Rows with whatever root: nothing that is stored says it.
    Damaged(ChainError),
}

impl Local {
    fn open(
        data_dir: &Path,
        cluster: ClusterId,
        height: Height,
        options: ChainOptions,
    ) -> Result<Self, ExitError> {
        let dir = chain_dir(data_dir);
        if !dir.is_dir() {
            return Err(ExitError::unchecked(format!("there is no chain in {}", data_dir.display()))
                .hint("--data-dir is the folder of one operator"));
        }
        let _held = hold_dir(data_dir).map_err(unreadable)?;
        let store = FjallChainStore::open(&dir, cluster, options).map_err(unreadable)?;
        let tip = store.latest().map_err(unreadable)?.map_or(Height(0), |tip| tip.height);
        if height > tip {
            return Err(ExitError::unchecked(format!(
                "there is no data at height {height}: the last block stored is {tip}"
            )));
        }
        let lowest = store.lowest_state().map_err(unreadable)?;
        Ok(Self { store, cluster, height, has_rows: height >= lowest, _held })
    }

    fn root(&self, full: bool) -> Result<Found, ExitError> {
        if self.has_rows {
            return self.root_of_state(full);
        }
        if full {
            return Err(ExitError::unchecked(format!(
                "the rows at height {} are not kept any more",
                self.height
            ))
            .hint("only the last states have them; without --full the stored root is compared"));
        }
        if self.height == Height(0) {
            return Ok(Found::Root(State::default().root(&self.cluster, self.height)));
        }
        let stored = self.store.roots(self.height).map_err(unreadable)?;
        let stored =
            stored.ok_or_else(|| ExitError::unchecked(format!("no root at height {}", self.height)))?;
        Ok(Found::Root(stored.state_root))
    }

    /// What is wrong with the rows, where they are kept.
    fn damage(&self) -> Result<Option<ChainError>, ExitError> {
        if !self.has_rows {
            return Ok(None);
        }
        match self.root_of_state(true)? {
            Found::Root(_) => Ok(None),
            Found::Damaged(error) => Ok(Some(error)),
        }
    }

    fn root_of_state(&self, full: bool) -> Result<Found, ExitError> {
        let stored = Arc::new(self.store.state_at(self.height).map_err(unreadable)?);
        let root = State::open(stored.clone()).and_then(|state| {
            if full {
                state.check()?;
            }
            Ok(state.root(&self.cluster, self.height))
        });
        // What could not be read looks like damage.
        stored.check_reads().map_err(unreadable)?;
        Ok(root.map_or_else(Found::Damaged, Found::Root))
    }

    fn in_words(&self, full: bool) -> String {
        match (full, self.has_rows) {
            (true, _) => "the local state has it, and all rows and pages are those of that root",
            (false, true) => "the local state has it; --full compares its rows too",
            (false, false) => "it was stored with the block; the rows are not kept any more",
        }
        .into()
    }
}

/// Where a state is damaged.
fn difference(error: &ChainError) -> Option<Difference> {
    let (ChainError::Damaged { key, .. } | ChainError::MalformedRow { key, .. }) = error else { return None };
    let (table, key) = key.split_at_checked(2)?;
    let table = u8::from_str_radix(table, 16).ok()?;
    Some(Difference { table: Table::from_number(table).map_or("tree", Table::name), key: format!("0x{key}") })
}

fn unreadable(error: StorageError) -> ExitError {
    let in_use = matches!(error, StorageError::InUse { .. });
    let error = ExitError::unchecked(format!("the store cannot be read: {error}"));
    if in_use { error.hint("stop the node; while it runs, ask it for /v1/state-root") } else { error }
}

/// 64 hex digits, optionally after 0x.
fn root(text: &str) -> Result<B256, String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes)
        .map_err(|_| "must be 64 hex digits".to_owned())?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, parse};
    use aequa_chain::{Applied, Chain};
    use aequa_storage::chain_store::BlockCommit;
    use aequa_testkit::{Keyring, at, bid, checked, commit, plaintext};
    use aequa_types::json::BlockJson;
    use aequa_types::{Address, OperatorIndex};

    /// A stopped node that has stored some blocks, and the true roots after them.
    struct Stopped {
        dir: tempfile::TempDir,
        roots: Vec<B256>,
    }

    impl Stopped {
        /// A node with that many blocks, whose changes of the last one are stored as `damage` leaves them.
        fn after(blocks: u64, damage: impl FnOnce(&mut Applied)) -> Self {
            let keys = Keyring::of(4);
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("cluster-lock.json"), keys.dealt.lock.to_json()).unwrap();
            let (cluster, quorum) = (keys.cluster_id(), keys.lock.quorum());
            let store = FjallChainStore::open(&chain_dir(dir.path()), cluster, ChainOptions::default());
            let store = Arc::new(store.unwrap());
            let mut chain = Chain::begin(cluster, quorum, store.clone()).unwrap();
            let mut roots = vec![chain.tip().state_root];
            let mut damage = Some(damage);
            for height in 1..=blocks {
                let sender = Address::repeat_byte(height as u8);
                let nonce = (height - 1) / 256;
                let items = [checked(plaintext(sender, nonce, 1)), checked(bid(sender, nonce, 2, sender))];
                let policy = keys.dealt.lock.consensus.builder_policy_hash;
                let block =
                    chain.build_block(OperatorIndex(0), height * 1000, policy, items.to_vec(), &[]).unwrap();
                let mut applied = chain.apply(&block).unwrap();
                roots.push(applied.state_root);
                if height == blocks {
                    damage.take().unwrap()(&mut applied);
                }
                let certificate =
                    keys.certificate(&commit(at(height), 0, block.header().digest()), &[0, 1, 2]);
                let hashes: Vec<_> = block.tx_hashes().collect();
                let commit = BlockCommit {
                    block: block.block(),
                    certificate: &certificate,
                    tx_hashes: &hashes,
                    changes: &applied.changes,
                    state_root: applied.state_root,
                    history_root: applied.history_root,
                };
                store.commit(&commit).unwrap();
                if height >= blocks - 1 {
                    let certified = store.block(Height(height)).unwrap().unwrap();
                    let json = serde_json::to_vec(&BlockJson::from(&certified)).unwrap();
                    std::fs::write(dir.path().join(format!("block-{height}.json")), json).unwrap();
                }
            }
            Self { dir, roots }
        }

        fn root(&self, height: usize) -> String {
            hex::encode(self.roots[height])
        }

        /// Exit code of a line of arguments, in which `~` is nothing and `DIR` is the folder.
        fn code(&self, line: &str) -> u8 {
            let dir = self.dir.path().to_str().unwrap();
            let words = format!("verify-state --data-dir {dir} {line}");
            let words = words.split(' ').map(|word| word.replace('~', "").replace("DIR", dir));
            match parse(words) {
                Ok(Command::VerifyState(args)) => verify_state(&args).map_or_else(|error| error.code, |()| 0),
                Ok(other) => panic!("{line}: {other:?}"),
                Err(refusal) => refusal.code,
            }
        }

        fn outcome(&self, height: u64, full: bool) -> Outcome {
            let line = ["verify-state", "--trusted-root", &self.root(height as usize), "--height"];
            let further = [height.to_string(), "--data-dir".into(), self.dir.path().to_str().unwrap().into()];
            let args = line.map(str::to_owned).into_iter().chain(further);
            let Ok(Command::VerifyState(args)) = parse(args) else { panic!() };
            let mut outcome = Outcome { height: Height(height), ..Outcome::default() };
            let ended = compare(&VerifyStateArgs { full, ..args }, &mut outcome);
            assert_eq!(ended.as_ref().map(Option::is_some), Ok(full), "{ended:?}");
            outcome
        }
    }

    #[test]
    fn n_sixteen_invocations_end_with_the_codes_of_the_contract() {
        let node = Stopped::after(6, |_| ());
        let (fifth, sixth) = (node.root(5), node.root(6));
        let other = "ab".repeat(32);
        for (code, line) in [
            (0, format!("--height 5 --trusted-root {fifth}")),
            (0, format!("--ledger=5 --trusted-root=0x{fifth}")),
            (0, "--height 5 --certificate DIR/block-6.json --full".into()),
            (0, format!("--height 6 --trusted-root {sixth} --full --json")),
            (1, format!("--height 5 --trusted-root {other}")),
            (1, format!("--height 4 --trusted-root {fifth} --full")),
            (2, "--height 5".into()),
            (2, format!("--trusted-root {fifth}")),
            (2, format!("--height 5 --trusted-root {fifth} --peer http://127.0.0.1:9")),
            (2, format!("--height 5 --trusted-root {}", &fifth[1..])),
            (2, "--height 5 --trusted-root=".into()),
            (2, format!("--height ~ --trusted-root {fifth}")),
            (2, format!("--height 5 --trusted-root {fifth} --no-such-flag")),
            (3, format!("--height 7 --trusted-root {fifth}")),
            // Port 9 of the own machine: nobody answers there, and at once.
            (3, "--height 5 --peer http://127.0.0.1:9".into()),
            (3, "--height 5 --certificate DIR/block-5.json".into()),
        ] {
            assert_eq!(node.code(&line), code, "{line}");
        }
    }

    #[test]
    fn a_store_in_use_a_folder_without_one_and_a_lock_that_does_not_hold_are_no_mismatch() {
        let node = Stopped::after(2, |_| ());
        let line = format!("--height 1 --trusted-root {}", node.root(1));
        assert_eq!(node.code(&line), 0);
        let held = hold_dir(node.dir.path()).unwrap();
        assert_eq!(node.code(&line), 3, "a node may be running");
        drop(held);
        let lock = node.dir.path().join("cluster-lock.json");
        let text = std::fs::read_to_string(&lock).unwrap();
        std::fs::write(&lock, text.replace("\"epoch\": 0", "\"epoch\": 1")).unwrap();
        assert_eq!(node.code(&line), 3, "a changed lock");
        std::fs::write(&lock, text).unwrap();
        std::fs::remove_dir_all(chain_dir(node.dir.path())).unwrap();
        assert_eq!(node.code(&line), 3, "no chain");
        assert!(!chain_dir(node.dir.path()).exists(), "and none is made");
    }

    #[test]
    fn a_damaged_row_is_found_by_full_and_named() {
        let node = Stopped::after(3, |applied| {
            let row = applied.changes.iter_mut().find(|change| change.key[0] == Table::Credits.number());
            row.unwrap().after.as_mut().unwrap()[15] ^= 0x10;
        });
        let key = format!("0x{}", "03".repeat(20));
        let found = node.outcome(3, true);
        assert_eq!(found.first_difference, Some(Difference { table: "credits", key }));
        assert_eq!((found.local_root, found.trusted_root), (None, Some(node.roots[3])));
        assert_eq!(
            node.outcome(3, false).local_root,
            Some(node.roots[3]),
            "the top of the tree is as it was"
        );
        assert_eq!(
            node.code(&format!("--height 2 --full --trusted-root {}", node.root(2))),
            0,
            "an earlier state"
        );
        let other = format!("--height 3 --trusted-root {}", node.root(2));
        assert_eq!(node.code(&other), 1);
    }

    #[test]
    fn a_damaged_page_is_a_mismatch() {
        let node = Stopped::after(3, |applied| {
            let page = applied.changes.iter_mut().find(|change| change.key[..] == [0, 0]).unwrap();
            *page.after.as_mut().unwrap().last_mut().unwrap() ^= 1;
        });
        for further in ["", " --full", " --json"] {
            assert_eq!(
                node.code(&format!("--height 3 --trusted-root {}{further}", node.root(3))),
                1,
                "{further}"
            );
        }
    }

    #[test]
    fn the_root_of_a_state_that_is_not_kept_is_the_stored_one() {
        let node = Stopped::after(ChainOptions::default().states_kept + 4, |_| ());
        for height in [0, 2, 3] {
            let line = format!("--height {height} --trusted-root {}", node.root(height));
            assert_eq!(node.code(&line), 0, "{height}");
            assert_eq!(node.code(&format!("{line} --full")), 3, "{height}: the rows are gone");
            let other = format!("--height {height} --trusted-root {}", node.root(height + 1));
            assert_eq!(node.code(&other), 1, "{height}");
        }
        assert_eq!(node.code(&format!("--height 4 --full --trusted-root {}", node.root(4))), 0);
    }
}
