//! What the API asks of a node.
//!
//! [`Backend`] is the one interface between the listeners and the rest of a node. Everything in it is
//! a domain value; paths, status codes and texts are the API's business. Methods that may have to
//! wait for the replica or the disk are futures; the others must answer from memory at once.

pub use crate::duty::{DutyPage, DutyQuery, DutyRequest, DutyStatus, DutyStep, DutyView, HeldDigest};
pub use crate::evidence::{CommittedEvidence, EVIDENCE_BLOCKS_MAX, EvidenceView};
use aequa_telemetry::Metrics;
use aequa_types::json::{AccountProofJson, CheckpointJson, EvidenceJson};
use aequa_types::{
    Address, CertifiedBlock, CertifiedHeader, ClusterId, Digest, DutyId, Header, Height, OperatorIndex,
    Round, Slot, Transaction, TxHash, TxKind,
};
use bytes::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use tokio::sync::broadcast;
use utoipa::ToSchema;

/// 32 bytes: a root or a hash.
pub type Root = Digest;
/// What a question about the node's data may bring.
pub type Answer<T> = Result<T, BackendError>;

/// Capacity the channel behind [`Backend::events`] must have: a reader this far behind is cut off
/// (contract: http, section 4.1).
///
/// All streams share the queue, and each event's bytes. The largest event is a duty with its value and
/// certificate, below 96 KiB: 24 MiB for all of them.
pub const EVENT_QUEUE: usize = 256;

/// A node as the API sees it.
pub trait Backend: Send + Sync + 'static {
    /// Where requests are counted.
    fn metrics(&self) -> &Arc<Metrics>;

    /// Whether the node has fenced itself. Asked several times per request: an atomic load.
    fn fenced(&self) -> bool {
        false
    }

    /// Why the node is not ready, if it is not.
    fn readiness(&self) -> Readiness;

    /// Answers when the event loop does. The API waits one second for it.
    fn live(&self) -> impl Future<Output = bool> + Send;

    /// The node's view of itself.
    fn status(&self) -> impl Future<Output = Status> + Send;

    /// The public parts of the cluster lock, as the text of a JSON object.
    fn cluster(&self) -> Bytes;

    /// Checks transactions and admits them in their order; one outcome of each, which is the pool's final word.
    /// The node counts `mempool_in_total` for what arrives here; the API counts what never does (`invalid`).
    fn submit(&self, transactions: Vec<Transaction>) -> impl Future<Output = Answer<Vec<Submission>>> + Send;

    /// Where a transaction is; `None` when nobody here has seen it.
    fn transaction(&self, hash: TxHash) -> impl Future<Output = Answer<Option<TxView>>> + Send;

    /// Nonces and pending transactions of an address; zeros for an unknown one.
    fn account(&self, address: Address) -> impl Future<Output = Answer<AccountView>> + Send;

    /// The rows of an address in the newest state whose root is certified, with the proof of it; `None` before the
    /// first block.
    fn account_proof(
        &self,
        address: Address,
    ) -> impl Future<Output = Answer<Option<AccountProofJson>>> + Send;

    /// Counts of the pools.
    fn mempool(&self) -> impl Future<Output = Answer<MempoolView>> + Send;

    /// The last block decided *and* stored here; height 0 before the first.
    fn latest_height(&self) -> Height;

    /// A stored block. `None`: above the tip; [`BackendError::Pruned`]: no longer kept.
    fn block(&self, height: Height) -> impl Future<Output = Answer<Option<Arc<CertifiedBlock>>>> + Send;

    /// Header and certificate of a stored block, without its body. Answers as [`Backend::block`].
    fn certified_header(
        &self,
        height: Height,
    ) -> impl Future<Output = Answer<Option<CertifiedHeader>>> + Send;

    /// Headers from `from` upwards, ascending, at most `limit`; fewer at the tip. `Pruned` when `from` is.
    fn headers(&self, from: Height, limit: usize) -> impl Future<Output = Answer<Vec<Header>>> + Send;

    /// State root after block `height`. `None`: not executed yet.
    fn state_root(&self, height: Height) -> impl Future<Output = Answer<Option<StateRootView>>> + Send;

    /// Heights from one checkpoint to the next, above 0.
    fn checkpoint_interval(&self) -> u64;

    /// The last checkpoint whose next block is decided.
    fn stable_checkpoint(&self) -> Option<CheckpointRef>;

    /// The checkpoint of a height. `None`: not stable yet; [`BackendError::Pruned`]: no longer kept.
    fn checkpoint(&self, height: Height) -> impl Future<Output = Answer<Option<CheckpointJson>>> + Send;

    /// Evidence committed at `from` and above, in at most [`EVIDENCE_BLOCKS_MAX`] blocks, and all that is
    /// pending.
    fn evidence(&self, from: Height) -> impl Future<Output = Answer<EvidenceView>> + Send;

    /// Takes a duty. Posting the same (type, height) again is `Ok` without effect, after the decision only the
    /// payload that stands; a full queue is [`BackendError::Overloaded`], a slot or payload out of bounds
    /// [`BackendError::Invalid`].
    fn submit_duty(&self, duty: DutyRequest) -> impl Future<Output = Answer<()>> + Send;

    /// One duty, `None` when unknown.
    fn duty(&self, duty: DutyId) -> impl Future<Output = Answer<Option<DutyView>>> + Send;

    /// Which duties there are, newest first.
    fn duties(&self, query: DutyQuery) -> impl Future<Output = Answer<DutyPage>> + Send;

    /// Events from now on. The channel holds [`EVENT_QUEUE`] entries. A block's event is sent after
    /// the block can be read through [`Backend::block`].
    fn events(&self) -> broadcast::Receiver<Arc<Event>>;
}

/// Why a question could not be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// Data of this height is no longer kept.
    #[error("height is pruned")]
    Pruned,
    /// The node cannot answer yet: starting or replaying.
    #[error("node is not ready")]
    NotReady,
    /// Other operators are in force, and what is given to this node reaches none of them.
    #[error("other operators are in force: this node waits for their lock, or has left the cluster")]
    LeftBehind,
    /// The request is well formed, but out of bounds here.
    #[error("{what}: {reason}")]
    Invalid {
        /// One of the route's error strings.
        what: &'static str,
        /// Why, naming field and limit.
        reason: String,
    },
    /// The duty has ended before the post came.
    #[error("the duty has ended {}", stands.map_or("undecided".to_owned(), |digest| format!("with {digest}")))]
    DutyEnded {
        /// What was decided, where anything was.
        stands: Option<Digest>,
    },
    /// The slot of the duty lies below those that are remembered.
    #[error("height: must be above {watermark}, below which duties are over and forgotten")]
    DutyForgotten {
        /// The highest slot that is forgotten.
        watermark: Slot,
    },
    /// A queue is full.
    #[error("node is overloaded")]
    Overloaded,
    /// Something broke here; the text goes to the log and not to the client.
    #[error("internal failure: {0}")]
    Internal(String),
}

/// The pool's verdict (contract: transactions, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Admission {
    /// Admitted, or replaced an earlier one.
    Ok,
    /// Kept until the nonces before it arrive.
    Future,
    /// Its nonce is below the state's.
    Old,
    /// Known, or the place is taken and the fee bump too small.
    Dup,
    /// Breaks a rule.
    Invalid,
    /// A cap of the whole pool is reached.
    Overflow,
    /// The cap per (sender, type) is reached.
    SenderLimit,
}

impl Admission {
    /// Name in headers, metrics and logs; a sender's cap is an `overflow` too.
    pub fn name(self) -> &'static str {
        match self {
            Admission::Ok => "ok",
            Admission::Future => "future",
            Admission::Old => "old",
            Admission::Dup => "dup",
            Admission::Invalid => "invalid",
            Admission::Overflow | Admission::SenderLimit => "overflow",
        }
    }
}

/// What became of a submitted transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Identifies its content.
    pub hash: TxHash,
    /// The verdict.
    pub result: Admission,
    /// Its sender.
    pub sender: Address,
    /// Its nonce.
    pub nonce: u64,
    /// Why it was not admitted, naming field and limit.
    pub reason: Option<String>,
}

/// Where a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TxStatus {
    /// In the pool, may be proposed.
    Pending,
    /// In the pool, waiting for earlier nonces.
    Future,
    /// In a decided block.
    Included,
    /// Was in the pool and left it without a block.
    Dropped,
}

/// A transaction's whereabouts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TxView {
    /// Identifies its content.
    #[schema(value_type = String)]
    pub hash: TxHash,
    /// Where it is.
    pub status: TxStatus,
    /// The block it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub height: Option<Height>,
    /// Its place in that block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Why it was dropped, or failed at its place; `unshared` while it waits at a node that reaches fewer than f
    /// others, who take it when they are reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One number per transaction type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PerType {
    /// `plaintext_v1`.
    pub plaintext_v1: u64,
    /// `auction_bid_v1`.
    pub auction_bid_v1: u64,
    /// `private_v1`; 0 while that type is off.
    pub private_v1: u64,
}

/// Nonces and pending transactions of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AccountView {
    /// The address.
    pub address: Address,
    /// Next nonce of the state, per type.
    pub nonces: PerType,
    /// Transactions in the pools, per type.
    pub pending: PerType,
}

/// Counts of one pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PoolCounts {
    /// Transactions that may be proposed.
    pub pending: u64,
    /// Transactions waiting for earlier nonces.
    pub future: u64,
    /// SSZ bytes of both.
    pub bytes: u64,
}

/// Counts of the pools by type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct MempoolView(
    /// By type.
    #[serde(serialize_with = "by_type_name")]
    pub BTreeMap<TxKind, PoolCounts>,
);

fn by_type_name<S: serde::Serializer>(
    counts: &BTreeMap<TxKind, PoolCounts>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counts.iter().map(|(kind, counts)| (kind.name(), counts)))
}

/// State root after a height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct StateRootView {
    /// The height.
    #[schema(value_type = u64)]
    pub height: Height,
    /// Root of the state after it.
    #[schema(value_type = String)]
    pub root: Root,
    /// Chained root over all heights up to it; null where none is kept.
    #[schema(value_type = Option<String>)]
    pub history_root: Option<Root>,
    /// Whether a stable checkpoint or a certificate covers it.
    pub certified: bool,
    /// Whether the node is fenced.
    pub fenced: bool,
}

/// Why a node is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotReady {
    /// Has not finished starting.
    Starting,
    /// Executes stored blocks again.
    Replaying,
    /// Behind its peers.
    Syncing,
    /// Fewer than q operators answer.
    InsufficientPeers,
    /// There is work, and several rounds brought no decision; or the core does not answer.
    NoProgress,
    /// Signs no block at the height being agreed on.
    NotSigning,
    /// Other operators are in force, under a lock that is not known here.
    LeftBehind,
    /// Fenced itself.
    Fenced,
    /// The disk failed.
    StorageError,
    /// The clock is off.
    Clock,
    /// No beacon node answers.
    BeaconDown,
    /// The beacon node is syncing.
    BeaconSyncing,
    /// The beacon node has no peers.
    BeaconNoPeers,
    /// The execution engine fails.
    Engine,
    /// Shutting down.
    Stopping,
}

impl NotReady {
    /// Name in JSON, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            NotReady::Starting => "starting",
            NotReady::Replaying => "replaying",
            NotReady::Syncing => "syncing",
            NotReady::InsufficientPeers => "insufficient_peers",
            NotReady::NoProgress => "no_progress",
            NotReady::NotSigning => "not_signing",
            NotReady::LeftBehind => "left_behind",
            NotReady::Fenced => "fenced",
            NotReady::StorageError => "storage_error",
            NotReady::Clock => "clock",
            NotReady::BeaconDown => "beacon_down",
            NotReady::BeaconSyncing => "beacon_syncing",
            NotReady::BeaconNoPeers => "beacon_no_peers",
            NotReady::Engine => "engine",
            NotReady::Stopping => "stopping",
        }
    }

    /// What it means and what helps, where the name does not say it.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            NotReady::Replaying => Some(
                "the members are being asked what this operator signed; it signs nothing until enough answer",
            ),
            NotReady::InsufficientPeers => Some(
                "fewer than a quorum of operators answer: check the network, the ports and the other nodes",
            ),
            NotReady::NoProgress => Some(
                "there is work and several rounds brought no decision: a quorum of operators must answer and sign, \
                 see peers in /status and the reasons of their nodes. Or this node hangs, as on a disk that does \
                 not answer: /livez fails then",
            ),
            NotReady::NotSigning => Some(
                "this operator signs no block at this height, because it may have signed another one there before \
                 its memory was lost: it takes part again above, and until then a quorum of others must do without",
            ),
            NotReady::LeftBehind => Some(
                "other operators are in force, and their lock is not here: run dvt-node dkg with the definition of the \
                 resharing, or stop this node where its operator has left",
            ),
            NotReady::Clock => Some(
                "this node's clock is more than 500 ms from a majority's: check its time synchronisation",
            ),
            NotReady::Starting
            | NotReady::Syncing
            | NotReady::Fenced
            | NotReady::StorageError
            | NotReady::BeaconDown
            | NotReady::BeaconSyncing
            | NotReady::BeaconNoPeers
            | NotReady::Engine
            | NotReady::Stopping => None,
        }
    }
}

/// Whether the node is ready: it is when there is no reason against it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Reasons against it.
    pub reasons: Vec<NotReady>,
}

impl Readiness {
    /// No reason against it.
    pub fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// Body of `/status`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Status {
    /// Version of the software.
    pub version: String,
    /// Commit and target it was built from.
    pub build: String,
    /// The cluster.
    #[schema(value_type = String)]
    pub cluster_id: ClusterId,
    /// This node's place in the lock.
    #[schema(value_type = u8)]
    pub operator: OperatorIndex,
    /// Last decided height.
    #[schema(value_type = u64)]
    pub height: Height,
    /// Round of the height being agreed.
    #[schema(value_type = u64)]
    pub round: Round,
    /// Leader of that round.
    #[schema(value_type = u8)]
    pub leader: OperatorIndex,
    /// Last stable checkpoint; null before the first.
    pub stable_checkpoint: Option<CheckpointRef>,
    /// Root of the operator set.
    #[schema(value_type = Option<String>)]
    pub operator_set_root: Option<Root>,
    /// Builder policy in force.
    #[schema(value_type = String)]
    pub policy_hash: Root,
    /// Whether the node is fenced.
    pub fenced: bool,
    /// Since when and why; null when not fenced.
    pub fence: Option<Fence>,
    /// The other operators.
    pub peers: Vec<PeerView>,
    /// Whether the event loop answers. Filled in by the API.
    pub live: bool,
    /// Whether the node is ready. Filled in by the API.
    pub ready: bool,
    /// Why not. Filled in by the API.
    pub reasons: Vec<NotReady>,
    /// Milliseconds since the start of the process.
    pub uptime_ms: u64,
    /// Counts configurations applied.
    pub config_version: u64,
    /// Optional features that are on.
    pub features: Vec<String>,
}

/// A checkpoint by height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct CheckpointRef {
    /// Its height.
    #[schema(value_type = u64)]
    pub height: Height,
    /// Digest of the block there.
    #[schema(value_type = String)]
    pub block_root: Root,
}

/// A fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fence {
    /// When it was set, RFC 3339.
    pub since: String,
    /// Why.
    pub reason: String,
}

/// Another operator as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct PeerView {
    /// Its place in the lock.
    #[schema(value_type = u8)]
    pub operator: OperatorIndex,
    /// Its libp2p peer id.
    pub peer_id: String,
    /// Whether a connection is open.
    pub connected: bool,
    /// Last round-trip time.
    pub rtt_ms: Option<f64>,
    /// Last height it has shown.
    #[schema(value_type = Option<u64>)]
    pub height: Option<Height>,
}

/// Topics of `/v1/events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Blocks decided and stored.
    Block,
    /// Transactions changing status.
    Tx,
    /// Duties changing status.
    Duty,
    /// Checkpoints becoming stable.
    Checkpoint,
    /// Evidence found.
    Evidence,
    /// Readiness changing.
    Readiness,
    /// The fence being set or removed.
    Fence,
}

impl Topic {
    /// All topics.
    pub const ALL: [Topic; 7] = [
        Topic::Block,
        Topic::Tx,
        Topic::Duty,
        Topic::Checkpoint,
        Topic::Evidence,
        Topic::Readiness,
        Topic::Fence,
    ];

    /// Name in the query and in `event:`.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Block => "block",
            Topic::Tx => "tx",
            Topic::Duty => "duty",
            Topic::Checkpoint => "checkpoint",
            Topic::Evidence => "evidence",
            Topic::Readiness => "readiness",
            Topic::Fence => "fence",
        }
    }

    /// The topic of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

/// Something that happened. Its id is `<height>-<n>`.
#[derive(Debug)]
pub struct Event {
    /// Last decided height when it happened; a block's own height.
    pub height: Height,
    /// Counts the events of one height: the block is 0, what follows it 1, 2, …
    pub n: u64,
    /// What happened.
    pub body: EventBody,
    /// As it is sent: made once, by the first stream that sends it.
    pub(crate) frame: OnceLock<Bytes>,
}

impl Event {
    /// An event.
    pub fn new(height: Height, n: u64, body: EventBody) -> Self {
        Self { height, n, body, frame: OnceLock::new() }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum EventBody {
    /// A block was decided and stored.
    Block(CertifiedHeader),
    /// A transaction changed its status.
    Tx(TxView),
    /// A duty changed its status.
    Duty(DutyView),
    /// A checkpoint became stable.
    Checkpoint(CheckpointRef),
    /// Evidence was found.
    Evidence(EvidenceJson),
    /// Readiness changed.
    Readiness(Readiness),
    /// The node fenced itself: the last event of every stream.
    Fence(Fence),
}

impl EventBody {
    /// Its topic.
    pub fn topic(&self) -> Topic {
        match self {
            EventBody::Block(_) => Topic::Block,
            EventBody::Tx(_) => Topic::Tx,
            EventBody::Duty(_) => Topic::Duty,
            EventBody::Checkpoint(_) => Topic::Checkpoint,
            EventBody::Evidence(_) => Topic::Evidence,
            EventBody::Readiness(_) => Topic::Readiness,
            EventBody::Fence(_) => Topic::Fence,
        }
    }
}

/// How the validator API is configured.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--enable-tx-api`: whether the transaction routes exist.
    pub tx_api: bool,
    /// `--upstream`: where paths go that no route takes; `http` only.
    pub upstream: Option<http::Uri>,
    /// `--api.hosts`: names the listeners are asked under, besides addresses and localhost.
    pub hosts: Vec<String>,
    /// `--api.trusted-proxies`: whose `X-Forwarded-For` is believed, besides that of loopback addresses.
    pub trusted_proxies: Vec<crate::Network>,
    /// Most connections of the validator API; monitoring gets a quarter as many.
    pub connections_max: usize,
    /// `--api.rate-limit`: requests per second and address; 0 is off.
    pub rate_limit: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tx_api: false,
            upstream: None,
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            connections_max: crate::CONNECTIONS_MAX,
            rate_limit: 0,
        }
    }
}
