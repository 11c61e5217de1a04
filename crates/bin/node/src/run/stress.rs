//! Evidence under load: detection, storing and reading from many threads at once.
//!
//! The design leaves no lock to be held across a callback: one thread owns the replica, everybody else
//! sends it inputs and questions through one queue. What is shared beside that is the verifier, whose
//! memories are locked for one look-up, and the store.

use super::command::Command;
use super::keys::OperatorKeys;
use aequa_chain::Chain;
use aequa_crypto::verify::Verifier;
use aequa_mempool::{Limits, Mempool};
use aequa_replica::{Config, Input, Now, Output, Persist, Recovery, Replica, StoreWrite, VoteStore};
use aequa_storage::chain_store::{ChainOptions, ChainStore, FjallChainStore};
use aequa_testkit::{Keyring, at, digest, prepare};
use aequa_types::{
    BuilderPolicy, ClusterId, ConsensusParams, Evidence, Height, OperatorIndex, Quorum, Signed,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;

const DETECTORS: usize = 16;
const READERS: usize = 4;
/// Rounds in which each operator contradicts itself: fewer than the replica keeps statements of.
const ROUNDS: u64 = 24;
/// Longer than this is a deadlock, not a slow machine.
const WATCHDOG: Duration = Duration::from_secs(30);

/// A vote of one of the others; the own operator's secrets are with the replica.
fn vote(keys: &Keyring, operator: u8, round: u64, byte: u8) -> Signed {
    keys.sign(&prepare(at(1), round, digest(byte)), operator)
}

pub fn replica(cluster_id: ClusterId, keys: OperatorKeys) -> Replica<OperatorKeys> {
    let (quorum, limits) = (Quorum::of(4).unwrap(), Limits::default());
    let config = Config {
        cluster_id,
        me: OperatorIndex(0),
        quorum,
        params: ConsensusParams::default(),
        limits,
        builder: false,
        seals: false,
        sessions_max: 0,
        first_height: Height(1),
        last_height: None,
    };
    let mempool = Mempool::new(limits, BuilderPolicy::default()).unwrap();
    Replica::new(config, keys, Chain::genesis(cluster_id, quorum), mempool, Recovery::default())
}

/// Nothing here is about votes.
struct AnyVote;

impl VoteStore for AnyVote {
    type Error = std::convert::Infallible;

    fn persist(&mut self, _: &Persist) -> Result<(), Self::Error> {
        Ok(())
    }

    fn holds(&self, _: &Signed) -> bool {
        true
    }
}

fn writes(mut output: Output) -> Vec<StoreWrite> {
    output.take_timers();
    let Ok(durable) = output.persisted(&mut AnyVote);
    durable.store
}

/// The part of the core that has to do with evidence: steps, stores, answers.
pub fn run_core(
    mut replica: Replica<OperatorKeys>,
    store: &FjallChainStore,
    mut commands: mpsc::Receiver<Command>,
) {
    let now = Now { elapsed_ms: 0, wall_ms: 1 };
    writes(replica.start(now));
    while let Some(command) = commands.blocking_recv() {
        match command {
            Command::Inputs(inputs) => {
                for write in inputs.into_iter().flat_map(|input| writes(replica.step(now, input))) {
                    if let StoreWrite::KeepEvidence(pending) = write {
                        let pending: Vec<Evidence> =
                            pending.iter().map(|piece| Evidence::clone(piece)).collect();
                        store.put_pending_evidence(&pending).unwrap();
                    }
                }
            }
            Command::Ask(question) => question(&replica),
            _ => return,
        }
    }
}

/// Every contradiction of one operator, as statements or as gossiped evidence.
fn detect(keys: &Keyring, verifier: &Verifier, core: &mpsc::Sender<Command>, number: usize) {
    let operator = 1 + (number % 3) as u8;
    for round in 0..ROUNDS {
        let pair = [vote(keys, operator, round, 1), vote(keys, operator, round, 2)];
        let inputs = if number.is_multiple_of(2) {
            pair.iter().for_each(|signed| verifier.signed(signed).unwrap());
            pair.map(Input::Statement).to_vec()
        } else {
            let [one, other] = pair;
            vec![Input::Evidence(verifier.evidence(Evidence::new(other, one).unwrap()).unwrap())]
        };
        inputs.into_iter().for_each(|input| core.blocking_send(Command::Inputs(vec![input])).unwrap());
    }
}

/// Reads what clients read until told to stop; what is pending only grows here.
fn read(core: &mpsc::Sender<Command>, store: &FjallChainStore, stop: &AtomicBool) {
    let (mut asked, mut stored) = (0, 0);
    while !stop.load(SeqCst) {
        let (answer, answered) = std::sync::mpsc::channel();
        // Called on the core's thread; it sends an answer, as the node's own questions do.
        let question = Box::new(move |replica: &Replica<OperatorKeys>| {
            let _ = answer.send(replica.pending_evidence().count());
        });
        core.blocking_send(Command::Ask(question)).unwrap();
        let count = answered.recv().unwrap();
        assert!(count >= asked);
        asked = count;
        let count = store.pending_evidence().unwrap().len();
        assert!(count >= stored);
        stored = count;
    }
}

#[test]
fn b6_sixteen_threads_detect_while_others_read_and_none_waits_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let mut keys = Keyring::of(4);
    let (cluster, verifier) = (keys.cluster_id(), Arc::new(keys.verifier()));
    let own = keys.take(0);
    let replica = replica(cluster, OperatorKeys::new(cluster, own.identity, own.share));
    let keys = Arc::new(keys);
    let store = Arc::new(FjallChainStore::open(dir.path(), cluster, ChainOptions::default()).unwrap());
    // A short queue, so that senders wait for the core and not for each other.
    let (core, commands) = mpsc::channel(4);
    let (stop, detecting) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(DETECTORS)));
    let (done, finished) = std::sync::mpsc::channel();

    let mut threads = Vec::new();
    threads.push(thread::spawn({
        let store = Arc::clone(&store);
        move || run_core(replica, &store, commands)
    }));
    for number in 0..DETECTORS {
        let (keys, verifier, core, done) = (keys.clone(), verifier.clone(), core.clone(), done.clone());
        let detecting = Arc::clone(&detecting);
        threads.push(thread::spawn(move || {
            detect(&keys, &verifier, &core, number);
            if detecting.fetch_sub(1, SeqCst) == 1 {
                done.send(()).unwrap();
            }
        }));
    }
    for _ in 0..READERS {
        let (core, store, stop) = (core.clone(), store.clone(), stop.clone());
        threads.push(thread::spawn(move || read(&core, &store, &stop)));
    }
    finished.recv_timeout(WATCHDOG).expect("a thread waits for ever");
    stop.store(true, SeqCst);
    drop(core);
    let (ended, end) = std::sync::mpsc::channel();
    thread::spawn(move || {
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        ended.send(()).unwrap();
    });
    end.recv_timeout(WATCHDOG).expect("a thread does not end");
    assert_eq!(store.pending_evidence().unwrap().len(), 3 * ROUNDS as usize, "each offence once");
}
