//! Transactions of clients on their way to the core: what the pool would refuse anyway is sorted out before its
//! signature costs anything, the signatures of the rest are checked beside the reactor, and what became of each is
//! told in the API's words.

use super::command::Core;
use super::context::Context;
use aequa_api::backend::{Admission, Answer, BackendError, Submission};
use aequa_crypto::verify::Refusal;
use aequa_mempool as pool;
use aequa_types::{Address, CheckedTransaction, Transaction, TxHash, TxKind};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use ssz::Encode as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// So few transactions are checked where they are: another thread would cost about as much as a signature.
const CHECKED_HERE_MAX: usize = 4;
/// Most transactions checked in one go: some milliseconds, after which another client has its turn.
const CHECKED_AT_ONCE_MAX: usize = 64;

/// A transaction of a client, and what the pool would refuse it for.
pub type Prechecked = (Transaction, Option<pool::Admission>);
/// One whose signature holds, or what became of it instead.
pub type Checked = Result<CheckedTransaction, Submission>;

/// The chain's nonces as the pools ask for them.
pub struct ChainView<'a>(pub &'a Core);

impl pool::Nonces for ChainView<'_> {
    fn nonce(&self, sender: &Address, kind: TxKind) -> u64 {
        self.0.chain().nonce(sender, kind)
    }
}

/// Asks the pool what it would refuse. A nonce too far above the sender's next one is none when it follows on another
/// one of the batch: those before it may be admitted by then.
pub fn precheck(replica: &Core, transactions: Vec<Transaction>) -> Vec<Prechecked> {
    let nonces = ChainView(replica);
    let mut passed: BTreeMap<(Address, TxKind), u64> = BTreeMap::new();
    let precheck = |transaction: Transaction| {
        let body = &transaction.body;
        let (sender, nonce) = ((body.from(), body.kind()), body.nonce());
        let follows = nonce.checked_sub(1).is_some_and(|before| passed.get(&sender) == Some(&before));
        let refused = replica.mempool().precheck(&transaction, transaction.ssz_bytes_len(), &nonces).err();
        let refused = refused.filter(|refused| !(follows && *refused == NONCE_GAP));
        if refused.is_none() {
            passed.insert(sender, nonce);
        }
        (transaction, refused)
    };
    transactions.into_iter().map(precheck).collect()
}

const NONCE_GAP: pool::Admission = pool::Admission::Invalid(pool::InvalidReason::NonceGap);

/// Threads that check signatures of batches: as many as there are cores, whatever clients send.
pub struct Checks {
    threads: usize,
    places: Arc<Semaphore>,
}

impl Default for Checks {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, places: Arc::new(Semaphore::new(threads)) }
    }
}

impl Checks {
    /// Checks the signatures of what is not refused yet, on all cores when it is many.
    pub async fn check(&self, context: &Arc<Context>, batch: Vec<Prechecked>) -> Answer<Vec<Checked>> {
        if batch.len() <= CHECKED_HERE_MAX {
            return Ok(check_all(context, batch));
        }
        let parts = stream::iter(parts(batch)).map(|part| self.check_part(context, part));
        // No more parts wait for a place than can be checked, so that batches of other clients come in between.
        let checked: Vec<_> = parts.buffered(self.threads).try_collect().await?;
        Ok(checked.into_iter().flatten().collect())
    }

    async fn check_part(&self, context: &Arc<Context>, part: Vec<Prechecked>) -> Answer<Vec<Checked>> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| BackendError::NotReady)?;
        let context = Arc::clone(context);
        let check = move || {
            // Until it is done, also when nobody waits for it any more.
            let _place = place;
            check_all(&context, part)
        };
        tokio::task::spawn_blocking(check).await.map_err(|error| BackendError::Internal(error.to_string()))
    }
}

fn parts(batch: Vec<Prechecked>) -> Vec<Vec<Prechecked>> {
    let mut rest = batch.into_iter();
    let part =
        || Some(rest.by_ref().take(CHECKED_AT_ONCE_MAX).collect()).filter(|part: &Vec<_>| !part.is_empty());
    std::iter::from_fn(part).collect()
}

fn check_all(context: &Context, batch: Vec<Prechecked>) -> Vec<Checked> {
    batch.into_iter().map(|prechecked| check(context, prechecked)).collect()
}

fn check(context: &Context, (transaction, refused): Prechecked) -> Checked {
    let (sender, nonce) = (transaction.body.from(), transaction.body.nonce());
    let count = |result| context.metrics.mempool_in_total.inc([result]);
    if let Some(refused) = refused {
        count(refused.name());
        return Err(submission(transaction.body.hash(), sender, nonce, refused));
    }
    context.verifier.submitted(transaction).map_err(|(hash, refusal): (TxHash, Refusal)| {
        count("invalid");
        let reason = Some(refusal.to_string());
        Submission { hash, result: Admission::Invalid, sender, nonce, reason }
    })
}

/// What became of each of a batch: the pool's word on those it was asked about, in their order.
pub fn submissions(batch: Vec<Checked>, admissions: Vec<pool::Admission>) -> Answer<Vec<Submission>> {
    let mut admissions = admissions.into_iter();
    let outcome = |checked: Checked| match checked {
        Err(refused) => Ok(refused),
        Ok(transaction) => {
            let admission = admissions.next().ok_or(BackendError::NotReady)?;
            let body = transaction.body();
            Ok(submission(transaction.hash(), body.from(), body.nonce(), admission))
        }
    };
    batch.into_iter().map(outcome).collect()
}

fn submission(hash: TxHash, sender: Address, nonce: u64, admission: pool::Admission) -> Submission {
    let (result, reason) = verdict(admission);
    Submission { hash, result, sender, nonce, reason }
}

/// The pool's verdict in the API's words.
fn verdict(admission: pool::Admission) -> (Admission, Option<String>) {
    let text = |text: &str| Some(text.to_owned());
    match admission {
        pool::Admission::Ok => (Admission::Ok, None),
        pool::Admission::Future => (Admission::Future, None),
        pool::Admission::Old => (Admission::Old, text("nonce: already used in the state")),
        pool::Admission::Dup => (
            Admission::Dup,
            text(
                "nonce: this transaction is known already, or its nonce is taken and a replacement needs a fee or bid at least 10 % higher",
            ),
        ),
        pool::Admission::Invalid(pool::InvalidReason::NonceGap) => (
            Admission::Invalid,
            Some(format!("nonce: more than {} above the expected one", aequa_types::limits::NONCE_GAP_MAX)),
        ),
        pool::Admission::Invalid(reason) => (Admission::Invalid, text(reason.name())),
        pool::Admission::Overflow(pool::OverflowReason::SenderCap) => {
            (Admission::SenderLimit, text("sender limit reached"))
        }
        pool::Admission::Overflow(reason) => (Admission::Overflow, text(reason.name())),
    }
}
