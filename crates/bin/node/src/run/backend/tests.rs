use super::*;
use crate::run::fixture;
use crate::run::sync::take_status;
use aequa_chain::{Account, Chain, StateProof};
use aequa_crypto::transaction::{AccountKey, sign};
use aequa_replica::Input;
use aequa_storage::chain_store::BlockCommit;
use aequa_testkit::{CHAIN_ID, at, checked, commit, plaintext};
use aequa_types::{Digest, DutyId, DutyKind, Height, Round, Slot};
use tokio::sync::mpsc;

/// Places in the core's queue.
const QUEUE: usize = 4;

/// A backend over an empty store, and the core's end of its queue.
fn backend(dir: &std::path::Path) -> (NodeBackend, mpsc::Receiver<Command>) {
    let (core, commands) = mpsc::channel(QUEUE);
    let context = fixture::context(dir, &fixture::keys().lock, 0, core);
    (NodeBackend::over(context), commands)
}

impl NodeBackend {
    /// A backend of which only the core matters.
    pub fn over(context: Arc<Context>) -> Self {
        Self {
            context,
            events: broadcast::channel(1).0,
            cluster: Bytes::new(),
            features: Vec::new(),
            started: Instant::now(),
            reads: Reads::default(),
            checks: Checks::default(),
        }
    }
}

fn transaction() -> Transaction {
    let key = AccountKey::generate().unwrap();
    sign(CHAIN_ID, plaintext(key.address(), 0, 1), &key)
}

const DUTY: DutyId = DutyId { kind: DutyKind::Sync, slot: Slot(1) };

fn duty() -> DutyRequest {
    DutyRequest {
        id: DUTY,
        round: Round(0),
        payload: aequa_types::ValueBytes(b"{}".as_slice().into()),
        trace_id: String::new(),
    }
}

/// Every question the core must answer, with what came of it.
async fn ask_everything(backend: &NodeBackend) -> [Option<BackendError>; 7] {
    let query = DutyQuery { kind: None, before: None, limit: 1 };
    [
        (!backend.live().await).then_some(BackendError::NotReady),
        backend.submit(vec![transaction()]).await.err(),
        backend.transaction(TxHash::ZERO).await.err(),
        backend.account(Address::ZERO).await.err(),
        backend.mempool().await.err(),
        backend.submit_duty(duty()).await.err(),
        backend.duty(DUTY).await.err().or(backend.duties(query).await.err()),
    ]
}

fn all_are_errors(answers: [Option<BackendError>; 7]) {
    for (question, answer) in answers.into_iter().enumerate() {
        assert!(matches!(answer, Some(BackendError::NotReady)), "question {question}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_question_to_a_core_that_is_gone_is_answered_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, commands) = backend(dir.path());
    drop(commands);
    all_are_errors(ask_everything(&backend).await);
}

#[tokio::test(start_paused = true)]
async fn every_question_a_core_takes_and_never_answers_is_answered_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, mut commands) = backend(dir.path());
    let core = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(command) = commands.recv().await {
            held.push(command);
        }
    });
    all_are_errors(ask_everything(&backend).await);
    core.abort();
}

#[tokio::test]
async fn a_node_that_was_left_behind_takes_nothing_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, _commands) = backend(dir.path());
    let context = &backend.context;
    let elsewhere = aequa_types::sync::Status { lock_hash: Digest::repeat_byte(9), ..context.own_status() };
    for (member, is_left_behind) in [(1, false), (1, false), (2, true)] {
        take_status(context, OperatorIndex(member), &elsewhere).await;
        let reasons = backend.readiness().reasons;
        assert_eq!(reasons.contains(&NotReady::LeftBehind), is_left_behind, "f+1 members, each once");
    }
    assert_eq!(backend.submit(vec![transaction()]).await.err(), Some(BackendError::LeftBehind));
    assert_eq!(backend.submit_duty(duty()).await.err(), Some(BackendError::LeftBehind));
}

#[tokio::test]
async fn a_node_whose_core_hangs_is_not_ready_until_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, _commands) = backend(dir.path());
    let facts = &backend.context.facts;
    let hangs = || backend.readiness().reasons.contains(&NotReady::NoProgress);
    facts.core_asked(Instant::now() - (HUNG_AFTER - Duration::from_secs(2)));
    assert!(!hangs(), "a long turn");
    facts.core_answered();
    facts.core_asked(Instant::now() - HUNG_AFTER);
    facts.core_asked(Instant::now());
    assert!(hangs(), "asked again, it is the same silence");
    facts.core_answered();
    assert!(!hangs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_question_a_core_takes_and_drops_is_answered_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, mut commands) = backend(dir.path());
    let core = tokio::spawn(async move { while commands.recv().await.is_some() {} });
    all_are_errors(ask_everything(&backend).await);
    core.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_core_queue_delays_inputs_and_loses_none() {
    const INPUTS: usize = 1000;
    let dir = tempfile::tempdir().unwrap();
    let (backend, mut commands) = backend(dir.path());
    let context = Arc::clone(&backend.context);
    let sender = tokio::spawn(async move {
        let mut taken = 0;
        for height in 0..INPUTS as u64 {
            let input = Input::PeerHeight { from: OperatorIndex(0), height: Height(height) };
            taken += usize::from(context.input(input).await);
        }
        taken
    });
    let mut seen = 0;
    while seen < INPUTS {
        assert!(commands.len() <= QUEUE);
        let Some(Command::Inputs(inputs)) = commands.recv().await else { panic!() };
        let [Input::PeerHeight { height, .. }] = inputs[..] else { panic!() };
        assert_eq!(height, Height(seen as u64), "in order");
        seen += 1;
    }
    assert_eq!(sender.await.unwrap(), INPUTS, "each was taken, and none was refused unsaid");
    drop(commands);
    let input = Input::PeerHeight { from: OperatorIndex(0), height: Height(0) };
    assert!(!backend.context.input(input).await, "and the sender hears when nobody takes it");
}

#[tokio::test]
async fn reads_of_the_store_are_bounded_also_when_nobody_waits_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, _commands) = backend(dir.path());
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(std::sync::Mutex::new(held));
    for _ in 0..READS_MAX {
        let held = Arc::clone(&held);
        let read = backend.read(move |_| Ok(held.lock().map(|held| held.recv().is_err()).is_ok()));
        // Begun, and given up.
        assert!(futures::poll!(std::pin::pin!(read)).is_pending());
    }
    let mut waiting = std::pin::pin!(backend.read(|_| Ok(())));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    assert_eq!(backend.reads.0.available_permits(), 0);
    drop(release);
    waiting.await.unwrap();
}

#[tokio::test]
async fn an_account_is_proven_from_the_store_without_the_core() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, commands) = backend(dir.path());
    drop(commands);
    let (cluster, quorum) = (backend.context.status.cluster_id, backend.context.quorum);
    let address = Address::repeat_byte(7);
    assert_eq!(backend.account_proof(address).await, Ok(None), "nothing is certified yet");
    let mut chain = Chain::begin(cluster, quorum, backend.context.store.clone()).unwrap();
    for height in 1..=3 {
        let items = vec![checked(plaintext(address, height - 1, 1))];
        let block = chain.build_block(OperatorIndex(0), height, cluster, items, &[]).unwrap();
        let applied = chain.apply(&block).unwrap();
        let certificate = commit(at(height), 0, block.header().digest()).certificate(0..3);
        backend
            .context
            .store
            .commit(&BlockCommit {
                block: block.block(),
                certificate: &certificate,
                tx_hashes: &block.tx_hashes().collect::<Vec<_>>(),
                changes: &applied.changes,
                state_root: applied.state_root,
                history_root: applied.history_root,
            })
            .unwrap();
        let proof = backend.account_proof(address).await.unwrap().unwrap();
        let (state, certified) = proof.into_parts().unwrap();
        let state = StateProof::try_from(state).unwrap();
        assert_eq!((&certified.header, &certified.certificate), (block.header(), &certificate));
        assert_eq!(state.root(&cluster, Height(height - 1)), Ok(certified.header.state_root));
        let account = Account::proven(&address, &state).unwrap();
        assert_eq!(account.nonces[0], (TxKind::PlaintextV1, height - 1), "as after the block before");
    }
}
