//! Operations whose instructions are counted: what a node does per message, transaction and record.
//!
//! A count depends on the compiler and the code, hardly on the machine: it shows what a table of seconds on a busy
//! machine hides. Everything an operation needs is made before; only [`counted`] is looked at.

use aequa_chain::Chain;
use aequa_mempool::{Limits, Mempool, Nonces};
use aequa_replica::{Config, Elector, Input, Keys, Now, Permit, Recovery, Replica, RoundRobin};
use aequa_storage::wal::{Wal, WalOptions};
use aequa_testkit::{CHAIN_ID, Keyring, at, commit, plaintext_with, prepare, preprepare};
use aequa_types::{
    Address, BuilderPolicy, CheckedBlock, ClusterId, ConsensusParams, Height, Message, OperatorIndex, Quorum,
    Record, Round, Seal, Signature, Signed, TxKind, Value, Verified,
};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// How often each is done: its count is divided by that.
pub const TIMES: u64 = 100;
/// Bytes of a transaction's payload.
const PAYLOAD: [u8; 64] = [7; 64];
/// Whose replica steps.
const ME: OperatorIndex = OperatorIndex(3);
const CLUSTER: ClusterId = ClusterId::repeat_byte(7);
/// Wall clock at the start.
const EPOCH_MS: u64 = 1_000_000;

/// What an operation needs.
type Run = fn(&Path) -> Result<(), Box<dyn Error>>;

/// Every operation by its name.
pub const OPERATIONS: &[(&str, Run)] = &[
    ("a height of the replica", height),
    ("intake of a vote", vote),
    ("admission of a transaction", transaction),
    ("append to the vote log", append),
];

/// What is counted: the tool looks at nothing but calls of this.
#[inline(never)]
pub fn counted<T>(operation: impl FnOnce() -> T) -> T {
    std::hint::black_box(operation())
}

/// A proposal, two PREPAREs and two COMMITs of others, as the replica takes them once they are verified.
fn height(_: &Path) -> Result<(), Box<dyn Error>> {
    let quorum = Quorum::of(4).ok_or("four operators have a quorum")?;
    let mut chain = Chain::genesis(CLUSTER, quorum);
    let mempool = Mempool::new(Limits::default(), BuilderPolicy::default())?;
    let mut replica = Replica::new(config(quorum), Unsigned, chain.clone(), mempool, Recovery::default());
    drop(replica.start(now(0)));
    let mut done = 0;
    for height in 1.. {
        let leader = RoundRobin(quorum).leader(at(height), Round(0));
        let block =
            chain.build_block(leader, EPOCH_MS + height, BuilderPolicy::default().hash(), Vec::new(), &[])?;
        chain.apply(&block)?;
        let block = Arc::new(block);
        if leader == ME {
            // Its own proposals are not counted: the others have decided without it.
            let certificate = commit(at(height), 0, block.digest()).with_share().certificate(0..3);
            let blocks = vec![(block, certificate)];
            drop(replica.step(now(height), Input::Fetched { from: OperatorIndex(0), blocks }));
            continue;
        }
        let inputs = agreement(height, leader, &block);
        counted(|| inputs.into_iter().for_each(|input| drop(replica.step(now(height), input))));
        if replica.chain().tip().height != Height(height) {
            return Err(format!("height {height} is not decided").into());
        }
        done += 1;
        if done == TIMES {
            break;
        }
    }
    Ok(())
}

/// What the others say at a height.
fn agreement(height: u64, leader: OperatorIndex, block: &Arc<CheckedBlock>) -> Vec<Input> {
    let digest = block.digest();
    let proposal = preprepare(at(height), 0, digest).by(leader.0);
    let value = Value::block(block.clone());
    let proposed = Verified::PrePrepare { proposal, value, round_changes: Vec::new(), prepares: Vec::new() };
    let others = || (0..3u8).filter(move |other| *other != ME.0);
    let prepares = others().map(|other| (other, Verified::Prepare(prepare(at(height), 0, digest).by(other))));
    let commits =
        others().map(|other| (other, Verified::Commit(commit(at(height), 0, digest).with_share().by(other))));
    let said = [(leader.0, proposed)].into_iter().chain(prepares).chain(commits);
    said.map(|(from, message)| Input::Message { from: OperatorIndex(from), message }).collect()
}

/// A PREPARE, from its signed form to a checked one.
fn vote(_: &Path) -> Result<(), Box<dyn Error>> {
    let keys = Keyring::of(4);
    let verifier = keys.verifier();
    for height in 1..=TIMES {
        let message = Message::Prepare(keys.sign(&prepare(at(height), 0, aequa_testkit::digest(1)), 2));
        counted(|| verifier.message(message)).map_err(|refusal| format!("{refusal:?}"))?;
    }
    Ok(())
}

/// A transaction, from its signed form into the pool.
fn transaction(_: &Path) -> Result<(), Box<dyn Error>> {
    let verifier = Keyring::of(4).verifier();
    let mut mempool = Mempool::new(Limits::default(), BuilderPolicy::default())?;
    for _ in 0..TIMES {
        let key = aequa_crypto::transaction::AccountKey::generate()?;
        let body = plaintext_with(key.address(), 0, 10, &PAYLOAD);
        let signed = aequa_crypto::transaction::sign(CHAIN_ID, body, &key);
        counted(|| verifier.transaction(signed).map(|checked| mempool.admit(checked, Height(0), &Fresh)))
            .map_err(|refusal| format!("{refusal:?}"))?;
    }
    match u64::try_from(mempool.len(TxKind::PlaintextV1)) {
        Ok(TIMES) => Ok(()),
        _ => Err("not all of them were admitted".into()),
    }
}

/// A vote into the log, with its sync: the system's part is not counted.
fn append(dir: &Path) -> Result<(), Box<dyn Error>> {
    let options = WalOptions { ahead: false, fresh_salt: || Ok(7), ..WalOptions::default() };
    let (mut wal, _) = Wal::open(dir, CLUSTER, ME, options)?;
    for height in 1..=TIMES {
        let record = Record::Prepare(prepare(at(height), 0, aequa_testkit::digest(1)).by(ME.0));
        counted(|| wal.append(&record).and_then(|()| wal.write()).and_then(|()| wal.sync()))?;
    }
    Ok(())
}

fn config(quorum: Quorum) -> Config {
    Config {
        cluster_id: CLUSTER,
        me: ME,
        quorum,
        params: ConsensusParams::default(),
        limits: Limits::default(),
        builder: false,
        seals: true,
        sessions_max: 0,
        first_height: Height(1),
        last_height: None,
    }
}

fn now(elapsed_ms: u64) -> Now {
    Now { elapsed_ms, wall_ms: EPOCH_MS + elapsed_ms }
}

/// Signs by naming the author: what signatures cost is counted elsewhere.
struct Unsigned;

impl Keys for Unsigned {
    fn sign(&self, permit: Permit) -> Signed {
        let statement = permit.into_statement();
        Signed { signature: Signature::repeat_byte(statement.author.0), statement }
    }

    fn share(&self, permit: &Permit) -> Option<Seal> {
        Some(Seal::repeat_byte(permit.statement().author.0))
    }
}

/// A state in which nobody has sent anything.
struct Fresh;

impl Nonces for Fresh {
    fn nonce(&self, _: &Address, _: TxKind) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_does_what_is_counted() {
        for (name, run) in OPERATIONS {
            let dir = tempfile::tempdir().unwrap();
            run(dir.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}
