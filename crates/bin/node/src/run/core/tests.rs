use super::*;
use crate::run::audit::{Audit, AuditedNotices};
use crate::run::backend::NodeBackend;
use crate::run::context::Context;
use crate::run::events::Events;
use crate::run::fixture;
use aequa_api::backend::{Admission, Backend as _};
use aequa_chain::Chain;
use aequa_crypto::transaction::{AccountKey, sign};
use aequa_mempool::{Limits, Mempool};
use aequa_replica::{Config, Recovery, Replica};
use aequa_storage::medium::{Medium, MediumFile, SystemMedium};
use aequa_storage::{DataDir, Identity, SigningDb, SigningDbOptions, Wal, WalOptions};
use aequa_telemetry::Metrics;
use aequa_testkit::{CHAIN_ID, Keyring, plaintext};
use aequa_types::{BuilderPolicy, Height, OperatorIndex, Transaction};
use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::Weak;

/// Leader of the first block.
const ME: u8 = 1;

/// The disk of the vote log. Notes at each sync how many messages had left the node; or fails.
#[derive(Default)]
struct Disk {
    watched: Mutex<Option<Arc<Metrics>>>,
    seen_at_sync: Mutex<Vec<u64>>,
    /// Fails once the core runs.
    breaks: bool,
}

impl Disk {
    fn synced(&self) -> io::Result<()> {
        // The log is opened before the core runs.
        let Some(metrics) = &*self.watched.lock() else { return Ok(()) };
        self.seen_at_sync.lock().push(sent(metrics));
        if self.breaks { Err(io::Error::other("the disk is broken")) } else { Ok(()) }
    }
}

/// Consensus messages given to the network. There is none, which is counted as well.
fn sent(metrics: &Metrics) -> u64 {
    ["preprepare", "prepare"]
        .map(|kind| metrics.consensus_broadcast_total.value([kind, "error"]))
        .iter()
        .sum()
}

struct TestMedium(Arc<Disk>);

struct TestFile(Arc<Disk>, Box<dyn MediumFile>);

impl Medium for TestMedium {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        SystemMedium.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        SystemMedium.list(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn MediumFile>> {
        Ok(Box::new(TestFile(Arc::clone(&self.0), SystemMedium.create(path)?)))
    }
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        SystemMedium.read(path, bytes_max)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn MediumFile>> {
        Ok(Box::new(TestFile(Arc::clone(&self.0), SystemMedium.open(path)?)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemMedium.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemMedium.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        SystemMedium.sync_dir(dir)
    }
}

impl MediumFile for TestFile {
    fn bytes(&self) -> io::Result<u64> {
        self.1.bytes()
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.1.write_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.sync()?;
        self.0.synced()
    }
}

/// The core of the leader of the first block, not yet running, and what surrounds it.
struct Ready {
    dir: tempfile::TempDir,
    context: Arc<Context>,
    thread: CoreThread,
    commands: mpsc::Receiver<Command>,
}

impl Ready {
    fn new(disk: &Arc<Disk>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut keys = fixture::keys();
        let secrets = keys.take(ME);
        let Keyring { dealt, lock } = keys;
        let (core, commands) = mpsc::channel(8);
        let context = fixture::context(&dir.path().join("chain"), &lock, ME, core.clone());
        let (cluster, quorum, metrics) = (lock.cluster_id(), lock.quorum(), Arc::clone(&context.metrics));
        let config = Config {
            cluster_id: cluster,
            me: OperatorIndex(ME),
            quorum,
            params: dealt.lock.consensus.params.clone(),
            limits: Limits::default(),
            builder: false,
            seals: true,
            sessions_max: 0,
            first_height: Height(1),
            last_height: None,
        };
        let keys = OperatorKeys::new(cluster, secrets.identity, secrets.share);
        let mempool = Mempool::new(Limits::default(), BuilderPolicy::default()).unwrap();
        let medium = Arc::new(TestMedium(Arc::clone(disk)));
        let options = WalOptions { ahead: false, medium, ..WalOptions::default() };
        let (wal, recovered) =
            Wal::open(&dir.path().join("wal"), cluster, OperatorIndex(ME), options).unwrap();
        let db = dir.path().join("signing");
        let db = SigningDb::open(&db, cluster, OperatorIndex(ME), SigningDbOptions::default()).unwrap();
        let (operator, lock_hash) = (OperatorIndex(ME), dealt.lock.lock_hash);
        let identity = Identity { cluster_id: cluster, operator, lock_hash, created: 0 };
        let replica =
            Replica::new(config, keys, Chain::genesis(cluster, quorum), mempool, Recovery::default());
        let ports = NodePorts {
            data_dir: DataDir::open(&dir.path().join("own"), identity).unwrap(),
            votes: NodeVotes(Votes::join(wal, &recovered.records, db).unwrap()),
            ledger: Ledger::start(
                Arc::clone(&context.store),
                dir.path().into(),
                100,
                None,
                Arc::clone(&metrics),
                core.clone(),
            )
            .unwrap(),
            recorder: Recorder::off(),
            outbox: Outbox::start(Weak::new(), Arc::clone(&context)),
            seals: SealWorker::start(&lock, 0, Some(Arc::clone(&metrics)), core.clone()).unwrap(),
            observatory: Observatory::new(
                Arc::clone(&metrics),
                Events::new(Height(0)),
                Arc::clone(&context.facts),
                true,
            ),
            audited: AuditedNotices {
                audit: Audit::start(dir.path().into()).unwrap(),
                checkpoint_interval: 100,
            },
            facts: Arc::clone(&context.facts),
            started: Instant::now(),
            owed: Owed::default(),
        };
        let thread = CoreThread { host: Host::new(replica), ports, facts: Arc::clone(&context.facts) };
        *disk.watched.lock() = Some(metrics);
        Self { dir, context, thread, commands }
    }
}

/// Runs the first turn of the leader of the first block, in which it proposes and votes, and stops it. Gives
/// how it ended, and what was sent.
async fn first_turn(disk: &Arc<Disk>) -> (Result<(), CoreError>, u64) {
    let Ready { dir: _dir, context, thread, commands } = Ready::new(disk);
    context.core.send(Command::Stop).await.unwrap();
    let outcome = thread.run(commands).await;
    (outcome, sent(&context.metrics))
}

fn plain(key: &AccountKey, nonce: u64) -> Transaction {
    sign(CHAIN_ID, plaintext(key.address(), nonce, 1), key)
}

/// What the API hears of each.
async fn submit(backend: &NodeBackend, transactions: Vec<Transaction>) -> Vec<Admission> {
    let expected: Vec<_> = transactions.iter().map(|transaction| transaction.body.hash()).collect();
    let submissions = backend.submit(transactions).await.unwrap();
    let answered: Vec<_> = submissions.iter().map(|submission| submission.hash).collect();
    assert_eq!(answered, expected, "in the order of the batch");
    submissions.iter().map(|submission| submission.result).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_transaction_of_a_batch_is_answered_in_its_place_and_counted_once() {
    let Ready { dir: _dir, context, thread, commands } = Ready::new(&Arc::default());
    let backend = NodeBackend::over(Arc::clone(&context));
    let key = AccountKey::generate().unwrap();
    let mut forged = plain(&key, 1);
    forged.sig[3] ^= 1;
    let batch = [0, 2, 500].map(|nonce| plain(&key, nonce));
    let [first, third, far] = batch;
    let clients = async {
        let said = submit(&backend, vec![first.clone(), forged, third, far, first.clone()]).await;
        use Admission::{Dup, Future, Invalid, Ok, Old, Overflow, SenderLimit};
        assert_eq!(said, [Ok, Invalid, Future, Invalid, Dup]);
        assert_eq!(submit(&backend, vec![first]).await, [Dup], "a single one is a batch of one");
        assert_eq!(submit(&backend, vec![plain(&key, 1)]).await, [Ok]);
        let counted = |result| context.metrics.mempool_in_total.value([result]);
        let counts = ["ok", "future", "dup", "invalid", "old", "overflow"].map(counted);
        assert_eq!(counts, [2, 1, 2, 2, 0, 0]);

        // More than are checked in one go, of as many senders.
        let keys: Vec<_> = (0..200).map(|_| AccountKey::generate().unwrap()).collect();
        let said = submit(&backend, keys.iter().map(|key| plain(key, 0)).collect()).await;
        assert_eq!(said, vec![Ok; 200]);

        // As one after the other: the nonce of each is the next one when its turn comes, up to the sender's cap.
        let key = AccountKey::generate().unwrap();
        let said = submit(&backend, (0..100).map(|nonce| plain(&key, nonce)).collect()).await;
        assert_eq!(said[..64], vec![Ok; 64]);
        assert_eq!(said[64..], vec![SenderLimit; 36]);
        assert!(!said.contains(&Old) && !said.contains(&Overflow));
        context.core.send(Command::Stop).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(thread.run(commands), clients);
    outcome.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_sends_what_it_signed_after_its_sync_and_not_before() {
    let disk = Arc::new(Disk::default());
    let (outcome, sent) = first_turn(&disk).await;
    outcome.unwrap();
    assert_eq!(sent, 2, "a proposal and a vote");
    assert_eq!(*disk.seen_at_sync.lock(), [0], "one sync, and nothing had left by then");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_of_signing_sessions_ends_with_the_core_and_is_counted() {
    let Ready { dir: _dir, context, thread, commands } = Ready::new(&Arc::default());
    let counted = || ["start", "stop"].map(|op| context.metrics.service_op_ms.count(["tss", op]));
    assert_eq!(counted(), [1, 0]);
    context.core.send(Command::Stop).await.unwrap();
    thread.run(commands).await.unwrap();
    assert_eq!(counted(), [1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_sent_and_the_core_ends() {
    let disk = Arc::new(Disk { breaks: true, ..Disk::default() });
    let (outcome, sent) = first_turn(&disk).await;
    assert!(outcome.is_err());
    assert_eq!(sent, 0);
}
