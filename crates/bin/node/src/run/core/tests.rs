use super::*;
use crate::run::events::Events;
use crate::run::fixture;
use aequa_chain::Chain;
use aequa_mempool::{Limits, Mempool};
use aequa_replica::{Config, Recovery, Replica};
use aequa_storage::journal::Reader;
use aequa_storage::medium::{Medium, MediumFile, SystemMedium};
use aequa_storage::{DataDir, Identity, SigningDb, SigningDbOptions, Wal, WalOptions};
use aequa_telemetry::Metrics;
use aequa_testkit::Keyring;
use aequa_types::recording::{Entry, Numbered};
use aequa_types::{BuilderPolicy, Height, OperatorIndex};
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Weak;

/// Leader of the first block.
const ME: u8 = 1;

/// The disk of the vote log. Notes at each sync how many messages had left the node, and how many own
/// signatures were recorded; or fails.
#[derive(Default)]
struct Disk {
    watched: Mutex<Option<(Arc<Metrics>, PathBuf)>>,
    seen_at_sync: Mutex<Vec<(u64, usize)>>,
    /// Fails once the core runs.
    breaks: bool,
}

impl Disk {
    fn synced(&self) -> io::Result<()> {
        // The log is opened before the core runs.
        let Some((metrics, journal)) = &*self.watched.lock() else { return Ok(()) };
        self.seen_at_sync.lock().push((sent(metrics), recorded(journal)));
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

/// Own signatures in a recording.
fn recorded(journal: &Path) -> usize {
    let Some(reader) = Reader::open(journal).unwrap() else { return 0 };
    let signatures = |numbered: Numbered| match numbered.entry {
        Some(Entry::Step(step)) => step.answers.signatures.into_iter().flatten().count(),
        _ => 0,
    };
    reader.entries().map(|entry| signatures(entry.unwrap())).sum()
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

/// Runs the first turn of the leader of the first block, in which it proposes and votes, and stops it. Gives
/// how it ended, what was sent, and how many own signatures were recorded.
async fn first_turn(disk: &Arc<Disk>) -> (Result<(), CoreError>, u64, usize) {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
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
        record: true,
    };
    let keys = OperatorKeys::new(cluster, secrets.identity, secrets.share);
    let mempool = Mempool::new(Limits::default(), BuilderPolicy::default()).unwrap();
    let options =
        WalOptions { ahead: false, medium: Arc::new(TestMedium(Arc::clone(disk))), ..WalOptions::default() };
    let (wal, recovered) = Wal::open(&dir.path().join("wal"), cluster, OperatorIndex(ME), options).unwrap();
    let db = dir.path().join("signing");
    let db = SigningDb::open(&db, cluster, OperatorIndex(ME), SigningDbOptions::default()).unwrap();
    let (operator, lock_hash) = (OperatorIndex(ME), dealt.lock.lock_hash);
    let identity = Identity { cluster_id: cluster, operator, lock_hash, created: 0 };
    let replica = Replica::new(config, keys, Chain::genesis(cluster, quorum), mempool, Recovery::default());
    let ports = NodePorts {
        data_dir: DataDir::open(&dir.path().join("own"), identity).unwrap(),
        votes: NodeVotes(Votes::join(wal, &recovered.records, db).unwrap()),
        ledger: Ledger::start(
            Arc::clone(&context.store),
            dir.path().into(),
            100,
            Arc::clone(&metrics),
            core.clone(),
        )
        .unwrap(),
        recorder: Recorder::open(&journal, cluster, OperatorIndex(ME), 1 << 20),
        outbox: Outbox::start(Weak::new(), Arc::clone(&context)),
        seals: SealWorker::start(
            cluster,
            *lock.group_key(),
            lock.combiner(),
            Arc::clone(&metrics),
            core.clone(),
        )
        .unwrap(),
        observatory: Observatory::new(Arc::clone(&metrics), Events::new(Height(0)), Height(0), true),
        facts: Arc::clone(&context.facts),
        started: Instant::now(),
        owed: Owed::default(),
    };
    let thread = CoreThread { host: Host::new(replica), ports, facts: Arc::clone(&context.facts) };
    *disk.watched.lock() = Some((Arc::clone(&metrics), journal.clone()));
    core.send(Command::Stop).await.unwrap();
    let outcome = thread.run(commands).await;
    (outcome, sent(&metrics), recorded(&journal))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_records_and_sends_what_it_signed_after_its_sync_and_not_before() {
    let disk = Arc::new(Disk::default());
    let (outcome, sent, recorded) = first_turn(&disk).await;
    outcome.unwrap();
    assert_eq!((sent, recorded), (2, 2), "a proposal and a vote");
    assert_eq!(*disk.seen_at_sync.lock(), [(0, 0)], "one sync, and nothing had left by then");
}

/// What was signed and is not durable may be signed otherwise by the next life: both signatures in one
/// recording would convict an honest operator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_sent_or_recorded_and_the_core_ends() {
    let disk = Arc::new(Disk { breaks: true, ..Disk::default() });
    let (outcome, sent, recorded) = first_turn(&disk).await;
    assert!(outcome.is_err());
    assert_eq!((sent, recorded), (0, 0));
}
