//! What the block store costs beside its engine alone and a plain file, and what grows with the chain and the state.
//!
//! | table | what is in it |
//! |---|---|
//! | writes | one block and what it changes: by the store, the same entries by the engine alone, the same bytes into a file |
//! | reads | a row of the large state: by the store, by the engine alone |
//! | executed | a block of a thousand rows upon the large state, and its storing |
//! | starts | opening a store, in a process of its own: how long, and what it keeps in memory |

use crate::error::BenchError;
use crate::machine::Machine;
use crate::scratch::Scratch;
use aequa_chain::{Applied, Chain, State, StateRead, Transfer};
use aequa_node::console;
use aequa_node::process::Memory;
use aequa_storage::chain_store::{ChainDraft, Roots, install};
use aequa_storage::{BlockCommit, ChainOptions, ChainStore as _, FjallChainStore};
use aequa_testkit::{at, checked, commit, plaintext};
use aequa_types::{
    Address, Certificate, CertifiedBlock, CheckedBlock, CheckedTransaction, ClusterId, Height, OperatorIndex,
    Quorum, TxHash,
};
use alloy_primitives::B256;
use clap::Args;
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use ssz::Encode as _;
use std::fmt::Display;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLUSTER: ClusterId = ClusterId::repeat_byte(0xbe);
const OPERATORS: usize = 4;
/// Blocks of the table of writes.
const BLOCKS: u64 = 500;
/// Of these every one is made durable by itself.
const DURABLE_BLOCKS: usize = 100;
/// Transactions of such a block, each of another sender.
const ITEMS: u64 = 100;
/// Senders of the table of writes.
const SENDERS: u64 = 10_000;
/// Rows read.
const READS: u64 = 50_000;
/// Transactions of a block upon the large state, each of another sender.
const LARGE_ITEMS: u64 = 1000;
/// Blocks upon the large state.
const LARGE_BLOCKS: u64 = 21;
/// Blocks of the short chain.
const SHORT: u64 = 10_000;
/// Bytes of a part by which the large state comes into its store.
const PART_BYTES: usize = 1 << 20;
/// Strides through the senders, so that neighbours in a block are none in the state.
const STRIDE: u64 = 7_919;

/// Flags of `aequa-bench store`.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// Blocks of the long chain
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(SHORT..))]
    blocks: u64,
    /// Rows of the large state
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(SENDERS..))]
    rows: u64,
    /// A folder on the disk that is measured [default: beside this program]
    #[arg(long, value_name = "DIR")]
    disk_dir: Option<PathBuf>,
}

/// Flags of the process that opens one store.
#[derive(Debug, Args)]
pub struct OpenArgs {
    /// The store
    dir: PathBuf,
}

/// Measures all tables, and prints them.
pub fn run(args: &StoreArgs) -> Result<(), BenchError> {
    let beside = || std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
    let disk = args.disk_dir.clone().or_else(beside).unwrap_or_else(|| PathBuf::from("."));
    let scratch = Scratch::new(&disk)?;
    let machine = Machine::here(&disk);
    console::line(format!("Measured on {}: {}.\n", machine.date, machine.description));
    writes(scratch.path())?;
    let large = scratch.path().join("large");
    large_state(&large, args.rows)?;
    reads(&large, scratch.path(), args.rows)?;
    executed(&large, args.rows)?;
    console::line("\n| start with | ms | MiB |\n|---|---|---|");
    started(&format!("{} rows", args.rows), &large)?;
    let long = scratch.path().join("long");
    let mut ours = Ours::open(&long)?;
    for blocks in [SHORT, args.blocks] {
        while ours.chain.tip().height.0 < blocks {
            let decided = Decided::on(&mut ours.chain, Vec::new())?;
            ours.store.commit(&decided.commit()).map_err(failed("a block"))?;
        }
        ours.store.flush().map_err(failed("a flush"))?;
        drop(ours);
        started(&format!("{blocks} blocks"), &long)?;
        ours = Ours::open(&long)?;
    }
    Ok(())
}

/// Opens a store as a node does, and prints how long that took in µs and what is resident in KiB.
pub fn open(args: &OpenArgs) -> Result<(), BenchError> {
    let started = Instant::now();
    let ours = Ours::open(&args.dir)?;
    let micros = started.elapsed().as_micros();
    let resident = Memory::own().map_or(0, |memory| memory.resident_kib);
    console::line(format!("{micros} {resident} {}", ours.chain.tip().height));
    Ok(())
}

/// A line about a start in a process of its own, so that its memory is only of that.
fn started(what: &str, dir: &Path) -> Result<(), BenchError> {
    let program = std::env::current_exe().map_err(BenchError::system("cannot find this program"))?;
    let out = Command::new(program).arg("store-open").arg(dir).output();
    let out = out.map_err(BenchError::system("cannot start this program again"))?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut words = said.split_whitespace().map_while(|word| word.parse::<u64>().ok());
    let (Some(micros), Some(kib)) = (words.next(), words.next()) else {
        return Err(BenchError::process("store-open", String::from_utf8_lossy(&out.stderr)));
    };
    console::line(format!("| {what} | {:.1} | {} |", micros as f64 / 1e3, kib / 1024));
    Ok(())
}

/// A store and the chain upon it.
struct Ours {
    store: Arc<FjallChainStore>,
    chain: Chain,
}

impl Ours {
    fn open(dir: &Path) -> Result<Self, BenchError> {
        let store = FjallChainStore::open(dir, CLUSTER, ChainOptions::default());
        let store = Arc::new(store.map_err(failed("the store"))?);
        let state: Arc<dyn StateRead> = Arc::<FjallChainStore>::clone(&store);
        let chain = match store.latest().map_err(failed("the last block"))? {
            Some(tip) => Chain::open(CLUSTER, quorum()?, state, tip),
            None => Chain::begin(CLUSTER, quorum()?, state),
        };
        Ok(Self { chain: chain.map_err(failed("the chain"))?, store })
    }
}

/// A block, why it is believed, and what it does to the state.
struct Decided {
    block: CheckedBlock,
    certificate: Certificate,
    hashes: Vec<TxHash>,
    applied: Applied,
}

impl Decided {
    /// The next block of a chain, executed.
    fn on(chain: &mut Chain, items: Vec<CheckedTransaction>) -> Result<Self, BenchError> {
        let (proposer, time) = (OperatorIndex(0), chain.next_timestamp_ms(1_800_000_000_000));
        let block = chain.build_block(proposer, time, B256::ZERO, items, &[]);
        let block = block.map_err(failed("a block"))?;
        let applied = chain.apply(&block).map_err(failed("a block"))?;
        let certificate = commit(at(block.header().height.0), 0, block.digest()).certificate(0..3);
        Ok(Self { certificate, hashes: block.tx_hashes().collect(), block, applied })
    }

    fn commit(&self) -> BlockCommit<'_> {
        BlockCommit {
            block: self.block.block(),
            certificate: &self.certificate,
            tx_hashes: &self.hashes,
            changes: &self.applied.changes,
            state_root: self.applied.state_root,
            history_root: self.applied.history_root,
        }
    }

    /// The same for somebody who keeps no earlier state: what is stored, by key.
    fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let height = self.block.header().height.0.to_be_bytes();
        let block = [(&b"b"[..], self.block.block().as_ssz_bytes()), (b"c", self.certificate.as_ssz_bytes())];
        let block = block.into_iter().map(|(kind, value)| ([kind, &height].concat(), value));
        let hashes = self.hashes.iter().map(|hash| (hash.to_vec(), height.to_vec()));
        let rows = self.applied.changes.iter();
        let rows = rows.map(|change| (change.key.clone(), change.after.clone().unwrap_or_default()));
        block.chain(hashes).chain(rows).collect()
    }
}

fn quorum() -> Result<Quorum, BenchError> {
    Quorum::of(OPERATORS).ok_or_else(|| BenchError::process("quorum", "of no such number"))
}

fn failed<E: Display>(what: &str) -> impl FnOnce(E) -> BenchError {
    let what = what.to_owned();
    move |error| BenchError::process(what, error.to_string())
}

fn sender(number: u64) -> Address {
    Address::left_padding_from(&number.to_be_bytes())
}

/// Transactions of so many senders, from one on.
fn items(chain: &Chain, first: u64, number: u64, senders: u64) -> Vec<CheckedTransaction> {
    let from = (first..first + number).map(|n| sender(n.wrapping_mul(STRIDE) % senders));
    from.map(|from| checked(plaintext(from, chain.nonce(&from, aequa_types::TxKind::PlaintextV1), 1)))
        .collect()
}

fn writes(dir: &Path) -> Result<(), BenchError> {
    let mut chain = Chain::genesis(CLUSTER, quorum()?);
    let decided: Vec<Decided> = (0..BLOCKS)
        .map(|block| {
            let items = items(&chain, block * ITEMS, ITEMS, SENDERS);
            Decided::on(&mut chain, items)
        })
        .collect::<Result<_, _>>()?;
    let entries: Vec<_> = decided.iter().map(Decided::entries).collect();
    let bytes: usize = entries.iter().flatten().map(|(key, value)| key.len() + value.len()).sum();
    let number: usize = entries.iter().map(Vec::len).sum();
    console::line(format!(
        "A block of {ITEMS} transactions, {} entries and {} KiB, in µs.\n",
        number / decided.len(),
        bytes / decided.len() / 1024
    ));
    console::line("| | handed to the system | durable |\n|---|---|---|");

    let store = FjallChainStore::open(&dir.join("store"), CLUSTER, ChainOptions::default());
    let store = store.map_err(failed("the store"))?;
    let mut ours = Turns::default();
    for (number, decided) in decided.iter().enumerate() {
        ours.time(number, |durable| {
            store.commit(&decided.commit())?;
            if durable { store.flush() } else { Ok(()) }
        })
        .map_err(failed("the store"))?;
    }
    ours.line("store, with the states before");
    drop(store);

    let database = Database::builder(dir.join("engine")).open().map_err(failed("the engine"))?;
    let keyspace = database.keyspace("all", KeyspaceCreateOptions::default).map_err(failed("the engine"))?;
    let mut engine = Turns::default();
    for (number, entries) in entries.iter().enumerate() {
        let mut write = |durable: bool| {
            let mut batch = database.batch();
            entries.iter().for_each(|(key, value)| batch.insert(&keyspace, key.as_slice(), value.as_slice()));
            batch.commit()?;
            if durable { database.persist(PersistMode::SyncAll) } else { Ok(()) }
        };
        engine.time(number, &mut write).map_err(failed("the engine"))?;
    }
    engine.line("engine alone, the last state only");

    let mut file = File::create(dir.join("file")).map_err(BenchError::system("cannot make a file"))?;
    let mut plain = Turns::default();
    for (number, entries) in entries.iter().enumerate() {
        let bytes: Vec<u8> =
            entries.iter().flat_map(|(key, value)| [key.as_slice(), value].concat()).collect();
        let mut write = |durable: bool| {
            file.write_all(&bytes)?;
            if durable { file.sync_data() } else { Ok(()) }
        };
        plain.time(number, &mut write).map_err(BenchError::system("cannot write"))?;
    }
    plain.line("file");
    Ok(())
}

/// Times of one way to write.
#[derive(Default)]
struct Turns {
    handed: Vec<Duration>,
    durable: Vec<Duration>,
}

impl Turns {
    fn time<E>(&mut self, number: usize, mut write: impl FnMut(bool) -> Result<(), E>) -> Result<(), E> {
        let durable = number < DURABLE_BLOCKS;
        let started = Instant::now();
        write(durable)?;
        let times = if durable { &mut self.durable } else { &mut self.handed };
        times.push(started.elapsed());
        Ok(())
    }

    fn line(self, what: &str) {
        console::line(format!("| {what} | {} | {} |", micros(self.handed), micros(self.durable)));
    }
}

fn micros(times: Vec<Duration>) -> u128 {
    median(times).as_micros()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Makes a store whose state has so many rows, as a newcomer gets it.
fn large_state(dir: &Path, rows: u64) -> Result<(), BenchError> {
    let row = |number: u64| {
        let plaintext = [1];
        ([&[1], &sender(number)[..], &plaintext].concat(), 1u64.to_be_bytes().to_vec())
    };
    let began = Instant::now();
    let state = State::from_rows((0..rows).map(row)).map_err(failed("the state"))?;
    let built = began.elapsed();
    let height = Height(1);
    let roots = Roots { state_root: state.root(&CLUSTER, height), history_root: B256::repeat_byte(2) };
    let transfer = Transfer::begin(&CLUSTER, height, roots.state_root, &state.counts(), state.tree_root());
    let mut transfer = transfer.map_err(failed("the transfer"))?;
    let began = Instant::now();
    let draft = ChainDraft::open(dir, CLUSTER, ChainOptions::default()).map_err(failed("the draft"))?;
    while let Some(place) = transfer.wanted(1).first().copied() {
        let part = state.part(place, PART_BYTES).map_err(failed("a part"))?;
        let changes = transfer.take(place, &part).map_err(failed("a part"))?;
        draft.put(&changes).map_err(failed("a part"))?;
    }
    draft.put(&[transfer.finish()]).map_err(failed("the counts"))?;
    let mut first = Chain::genesis(CLUSTER, quorum()?);
    let Decided { block, certificate, .. } = Decided::on(&mut first, Vec::new())?;
    let block = CertifiedBlock { block: block.block().clone(), certificate };
    draft.complete(&block, roots).map_err(failed("the draft"))?;
    install(dir, CLUSTER, &ChainOptions::default()).map_err(failed("the store"))?;
    console::line(format!(
        "\nA state of {rows} rows: built in memory in {:.1} s, given and taken in parts in {:.1} s.\n",
        built.as_secs_f64(),
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn reads(large: &Path, dir: &Path, rows: u64) -> Result<(), BenchError> {
    let keys: Vec<Vec<u8>> =
        (0..READS).map(|n| [&[1], &sender(n.wrapping_mul(STRIDE) % rows)[..], &[1]].concat()).collect();
    let Ours { store, .. } = Ours::open(large)?;
    let state: &dyn StateRead = &*store;
    let began = Instant::now();
    let found = keys.iter().filter(|key| state.get(key).is_some()).count();
    let ours = began.elapsed();
    store.check_reads().map_err(failed("a read"))?;
    drop(store);

    let options = ChainOptions::default();
    let database = Database::builder(dir.join("rows")).cache_size(options.cache_bytes).open();
    let database = database.map_err(failed("the engine"))?;
    let keyspace = database.keyspace("all", KeyspaceCreateOptions::default).map_err(failed("the engine"))?;
    for number in 0..rows {
        let key = [&[1], &sender(number)[..], &[1]].concat();
        keyspace.insert(key, 1u64.to_be_bytes()).map_err(failed("the engine"))?;
    }
    database.persist(PersistMode::SyncAll).map_err(failed("the engine"))?;
    let began = Instant::now();
    let also = keys.iter().filter(|key| keyspace.get(key).is_ok_and(|value| value.is_some())).count();
    let engine = began.elapsed();
    if found != keys.len() || also != keys.len() {
        return Err(BenchError::process("reads", format!("{found} and {also} rows of {READS} were found")));
    }
    let each = |all: Duration| all.as_secs_f64() * 1e6 / READS as f64;
    console::line(format!(
        "A row of it is read in {:.1} µs, and in {:.1} µs by the engine alone with nothing beside the rows.",
        each(ours),
        each(engine)
    ));
    Ok(())
}

fn executed(large: &Path, rows: u64) -> Result<(), BenchError> {
    let Ours { store, mut chain } = Ours::open(large)?;
    let (mut applied, mut stored) = (Vec::new(), Vec::new());
    for block in 0..LARGE_BLOCKS {
        let items = items(&chain, block * LARGE_ITEMS, LARGE_ITEMS, rows);
        let began = Instant::now();
        let decided = Decided::on(&mut chain, items)?;
        applied.push(began.elapsed());
        let began = Instant::now();
        store.commit(&decided.commit()).map_err(failed("a block"))?;
        stored.push(began.elapsed());
    }
    store.check_reads().map_err(failed("a read"))?;
    console::line(format!(
        "A block of {LARGE_ITEMS} rows upon it: built and executed in {:.1} ms, stored in {:.1} ms.",
        median(applied).as_secs_f64() * 1e3,
        median(stored).as_secs_f64() * 1e3
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        writes(dir.path()).unwrap();
        let large = dir.path().join("large");
        large_state(&large, SENDERS).unwrap();
        reads(&large, dir.path(), SENDERS).unwrap();
        executed(&large, SENDERS).unwrap();
        let ours = Ours::open(&large).unwrap();
        assert_eq!(ours.chain.tip().height, Height(1 + LARGE_BLOCKS));
        open(&OpenArgs { dir: dir.path().join("new") }).unwrap();
    }

    #[test]
    fn the_median_is_between_the_others() {
        let times = [5, 1, 3].map(Duration::from_millis).to_vec();
        assert_eq!(median(times), Duration::from_millis(3));
        assert_eq!(median(Vec::new()), Duration::ZERO);
    }
}
