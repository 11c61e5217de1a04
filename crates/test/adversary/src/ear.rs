//! What is heard of the others, bounded.

use crate::follower::Follower;
use aequa_p2p::{GossipVerdict, Handler, Message as Frame, Topic, Verdict};
use aequa_types::limits::CONSENSUS_FRAME_BYTES_MAX;
use aequa_types::message::ValueRequest;
use aequa_types::sync::SyncReply;
use aequa_types::{Digest, InstanceId, Message, OperatorIndex, Round, RoundChange, Signed};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use ssz::Encode as _;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Instances remembered: more than an honest node keeps.
const INSTANCES_MAX: usize = 48;
/// Statements of one kind remembered per instance: all of a small cluster for several rounds.
const STATEMENTS_MAX: usize = 64;
/// Frames kept for replay.
const ARCHIVE_MAX: usize = 512;
/// Questions for values remembered.
const QUESTIONS_MAX: usize = 64;
/// How long an answer takes that is meant to hold the asker up: a little less than it waits.
const SLOW: Duration = Duration::from_secs(9);
/// Larger frames are not kept for replay.
const ARCHIVED_BYTES_MAX: usize = 64 * 1024;

/// What was said in one instance.
#[derive(Debug, Default, Clone)]
pub(crate) struct Said {
    /// Proposed digests by round.
    pub proposals: BTreeMap<Round, BTreeSet<Digest>>,
    /// PREPAREs.
    pub prepares: Vec<Signed>,
    /// ROUND-CHANGEs with their evidence.
    pub changes: Vec<RoundChange>,
    /// The highest round anybody has shown.
    pub round: Round,
}

/// Everything remembered.
#[derive(Default)]
pub(crate) struct Memory {
    instances: BTreeMap<InstanceId, Said>,
    /// Frames as they came, for replay; the newest push out the ones before, except every eighth.
    pub archive: Vec<Frame>,
    /// Values others asked for, and who did; the newest last.
    pub questions: VecDeque<(OperatorIndex, ValueRequest)>,
    /// Until when questions for blocks are answered slowly.
    pub slow_until: Option<Instant>,
    heard: u64,
}

impl Memory {
    /// What was said in an instance.
    pub fn said(&self, instance: InstanceId) -> Said {
        self.instances.get(&instance).cloned().unwrap_or_default()
    }

    /// PREPAREs of earlier instances, newest first.
    pub fn prepares_before(&self, instance: InstanceId) -> Vec<Signed> {
        let earlier = self.instances.range(..instance).rev();
        earlier.flat_map(|(_, said)| said.prepares.iter().cloned()).take(STATEMENTS_MAX).collect()
    }

    fn keep(&mut self, frame: &Frame, message: &Message) {
        self.heard += 1;
        if frame.body.len() <= ARCHIVED_BYTES_MAX {
            // Every eighth frame stays until its place is needed eight times: old heights are replayed too.
            let place =
                if self.heard.is_multiple_of(8) { self.heard / 8 } else { self.heard } as usize % ARCHIVE_MAX;
            match self.archive.get_mut(place) {
                Some(kept) => *kept = frame.clone(),
                None => self.archive.push(frame.clone()),
            }
        }
        let said = self.instances.entry(message.instance()).or_default();
        said.round = said.round.max(message.round().unwrap_or_default());
        match message {
            Message::PrePrepare(message) => {
                let digests = said.proposals.entry(message.proposal.round).or_default();
                digests.extend(message.proposal.digest());
            }
            Message::Prepare(vote) if said.prepares.len() < STATEMENTS_MAX => {
                said.prepares.push(vote.clone())
            }
            Message::RoundChange(change) if said.changes.len() < STATEMENTS_MAX => {
                said.changes.push(change.clone());
            }
            _ => {}
        }
        while self.instances.len() > INSTANCES_MAX {
            self.instances.pop_first();
        }
    }
}

/// Listens, and answers what it is asked as far as that keeps it in the conversation.
pub(crate) struct Ear {
    pub memory: Mutex<Memory>,
    pub follower: Arc<Follower>,
}

impl Ear {
    pub fn new(follower: Arc<Follower>) -> Self {
        Self { memory: Mutex::default(), follower }
    }

    fn hear(&self, from: OperatorIndex, frame: &Frame) {
        let decoded = aequa_types::decode::<Message>("message", &frame.body, CONSENSUS_FRAME_BYTES_MAX);
        let Ok(message) = decoded else { return };
        if let Message::ValueRequest(question) = message {
            let questions = &mut self.memory.lock().questions;
            questions.push_back((from, question));
            if questions.len() > QUESTIONS_MAX {
                questions.pop_front();
            }
        }
        // Nobody honest is far above the tip it follows; what it is fed must not push out what it knows.
        if message.instance().number() <= self.follower.tip().0 + INSTANCES_MAX as u64 {
            self.memory.lock().keep(frame, &message);
        }
    }
}

impl Handler for Ear {
    fn frame(&self, from: OperatorIndex, topic: Topic, frame: Frame) -> BoxFuture<'_, Verdict> {
        if topic == Topic::Qbft {
            self.hear(from, &frame);
        }
        Box::pin(async { Verdict::Accept })
    }

    fn gossip(&self, _: OperatorIndex, _: Topic, _: Frame) -> BoxFuture<'_, GossipVerdict> {
        Box::pin(async { GossipVerdict::Ignore })
    }

    fn request(&self, _: OperatorIndex, question: Frame) -> BoxFuture<'_, Option<Frame>> {
        let answer = self.follower.answer(&question);
        let slow = self.memory.lock().slow_until.is_some_and(|until| Instant::now() < until);
        Box::pin(async move {
            if slow && answer.is_none() {
                tokio::time::sleep(SLOW).await;
                return Some(Frame::new(question.kind, SyncReply::Blocks(Vec::new()).as_ssz_bytes()));
            }
            answer
        })
    }

    fn connected(&self, _: OperatorIndex) {}

    fn disconnected(&self, _: OperatorIndex) {}
}
