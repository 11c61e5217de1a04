//! What the handle, the driver and the stream tasks have in common.

use crate::addresses::AddressBook;
use crate::config::Checked;
use crate::envelope::{EnvelopeError, Message};
use crate::frame::PREFIX_BYTES;
use crate::gate::MemberAddresses;
use crate::hooks::{Direction, Handler, Observer, Outcome};
use crate::queue::Queue;
use crate::score::{Deed, PeerTable};
use crate::topic::{Carriage, Topic};
use aequa_types::{ClusterId, OperatorIndex};
use bytes::Bytes;
use libp2p::PeerId;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Questions under way to one member, and answers being made for it.
pub const REQUESTS_PER_PEER_MAX: usize = 16;
/// Questions of one member that wait for their turn; more are dropped.
pub const REQUESTS_WAITING_MAX: usize = 2 * REQUESTS_PER_PEER_MAX;

pub(crate) struct Shared {
    pub cluster_id: ClusterId,
    pub self_id: PeerId,
    pub peers: Arc<Mutex<PeerTable>>,
    pub members: BTreeMap<OperatorIndex, MemberShared>,
    pub handler: Arc<dyn Handler>,
    pub observer: Arc<dyn Observer>,
    pub connected: RwLock<BTreeSet<OperatorIndex>>,
    pub listen_addrs: RwLock<Vec<String>>,
    pub tasks: TaskTracker,
    /// Ends every stream task.
    pub stop: CancellationToken,
    /// Members that do not read, for the driver to disconnect.
    pub overflowed: Raised,
    /// Members whose addresses are news, for the driver to dial and to tell others.
    pub announced: Raised,
    pub book: Mutex<AddressBook>,
    pub member_addresses: Arc<MemberAddresses>,
}

/// Members that something has to be done about.
#[derive(Default)]
pub(crate) struct Raised {
    members: Mutex<BTreeSet<OperatorIndex>>,
    notify: Notify,
}

impl Raised {
    pub fn raise(&self, operator: OperatorIndex) {
        self.members.lock().insert(operator);
        self.notify.notify_one();
    }

    /// All of them, once there are any.
    pub async fn taken(&self) -> BTreeSet<OperatorIndex> {
        self.notify.notified().await;
        std::mem::take(&mut *self.members.lock())
    }
}

/// Another member, as senders see it.
pub(crate) struct MemberShared {
    pub operator: OperatorIndex,
    pub peer: PeerId,
    /// One queue per direct topic that is on.
    queues: [Option<Arc<Queue>>; Topic::COUNT],
    /// Own questions.
    pub asking: Semaphore,
    /// Its questions, waiting or being answered.
    pub waiting: Arc<Semaphore>,
    /// Its questions being answered.
    pub answering: Semaphore,
}

impl MemberShared {
    pub fn queue(&self, topic: Topic) -> Option<&Arc<Queue>> {
        self.queues[topic.position()].as_ref()
    }
}

impl Shared {
    pub fn new(config: &Checked, handler: Arc<dyn Handler>, observer: Arc<dyn Observer>) -> Self {
        let ids = config.others.iter().map(|member| member.peer);
        let members = config.others.iter().map(|member| {
            let shared = MemberShared {
                operator: member.operator,
                peer: member.peer,
                queues: Topic::ALL.map(|topic| {
                    let on = topic.carriage() == Carriage::Direct && config.topics.contains(&topic);
                    on.then(|| Arc::new(Queue::of(topic)))
                }),
                asking: Semaphore::new(REQUESTS_PER_PEER_MAX),
                waiting: Arc::new(Semaphore::new(REQUESTS_WAITING_MAX)),
                answering: Semaphore::new(REQUESTS_PER_PEER_MAX),
            };
            (member.operator, shared)
        });
        let member_addresses = Arc::new(MemberAddresses::default());
        for member in &config.others {
            member_addresses.set(member.peer, &member.addrs);
        }
        let now = Instant::now();
        Self {
            cluster_id: config.cluster_id,
            self_id: config.peer_id(),
            peers: Arc::new(Mutex::new(PeerTable::new(ids, config.rate_limit, now))),
            members: members.collect(),
            handler,
            observer,
            connected: RwLock::default(),
            listen_addrs: RwLock::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            overflowed: Raised::default(),
            announced: Raised::default(),
            book: Mutex::new(AddressBook::new(config, now)),
            member_addresses,
        }
    }

    /// Runs a stream task until it is done or the network stops.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let stop = self.stop.clone();
        let task = self.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
        task.abort_handle()
    }

    pub fn score(&self, peer: &PeerId, deed: Deed) {
        self.peers.lock().record(peer, deed, Instant::now());
    }

    /// Decodes a received frame; a bad one is counted and scored here and needs no further care.
    pub fn decode(&self, peer: &PeerId, topic: Topic, frame: &Bytes) -> Result<Message, EnvelopeError> {
        let error = match Message::decode(frame, self.cluster_id) {
            Ok(message) => return Ok(message),
            Err(error) => error,
        };
        let outcome = match error {
            EnvelopeError::UnknownVersion { version } => {
                self.observer.unknown_version(topic, version);
                Outcome::Ok
            }
            EnvelopeError::Malformed => {
                self.score(peer, Deed::Malformed);
                Outcome::DecodeError
            }
            EnvelopeError::WrongCluster => {
                self.score(peer, Deed::WrongCluster);
                Outcome::Error
            }
        };
        tracing::debug!(%peer, %topic, %error, "frame refused");
        self.count(topic, Direction::Rx, outcome, frame.len());
        Err(error)
    }

    /// Counts a message whose frame has `frame_bytes`.
    pub fn count(&self, topic: Topic, direction: Direction, outcome: Outcome, frame_bytes: usize) {
        self.observer.message(topic, direction, outcome, frame_bytes + PREFIX_BYTES);
    }
}
