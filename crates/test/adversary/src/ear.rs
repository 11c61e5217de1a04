//! What is heard of the others, bounded.

use crate::follower::Follower;
use aequa_byzantine::replay::Archive;
use aequa_byzantine::{Dice, Heard};
use aequa_p2p::{GossipVerdict, Handler, Message as Frame, Topic, Verdict};
use aequa_types::limits::CONSENSUS_FRAME_BYTES_MAX;
use aequa_types::message::ValueRequest;
use aequa_types::sync::SyncReply;
use aequa_types::{Message, OperatorIndex};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use ssz::Encode as _;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Instances remembered: more than an honest node keeps.
const INSTANCES_MAX: usize = 48;
/// Messages kept for replay.
const ARCHIVE_MAX: usize = 512;
/// Questions for values remembered.
const QUESTIONS_MAX: usize = 64;
/// How long an answer takes that is meant to hold the asker up: a little less than it waits.
const SLOW: Duration = Duration::from_secs(9);
/// Larger messages are not kept for replay.
const ARCHIVED_BYTES_MAX: usize = 64 * 1024;

/// Everything remembered.
pub(crate) struct Memory {
    pub heard: Heard,
    /// Messages as they came, for replay; each takes the place of any other: old heights are replayed too.
    pub archive: Archive,
    /// Decides what stays in the archive. Its seed is fixed: what arrives is up to the network.
    dice: Dice,
    /// Values others asked for, and who did; the newest last.
    pub questions: VecDeque<(OperatorIndex, ValueRequest)>,
    /// Until when questions for blocks are answered slowly.
    pub slow_until: Option<Instant>,
}

/// Listens, and answers what it is asked as far as that keeps it in the conversation.
pub(crate) struct Ear {
    pub memory: Mutex<Memory>,
    pub follower: Arc<Follower>,
}

impl Ear {
    pub fn new(follower: Arc<Follower>) -> Self {
        let memory = Memory {
            heard: Heard::new(INSTANCES_MAX),
            archive: Archive::new(ARCHIVE_MAX, 1000),
            dice: Dice::new(0),
            questions: VecDeque::new(),
            slow_until: None,
        };
        Self { memory: Mutex::new(memory), follower }
    }

    fn hear(&self, from: OperatorIndex, frame: &Frame) {
        let decoded = aequa_types::decode::<Message>("message", &frame.body, CONSENSUS_FRAME_BYTES_MAX);
        let Ok(message) = decoded else { return };
        let tip = self.follower.tip();
        let Memory { heard, archive, dice, questions, .. } = &mut *self.memory.lock();
        if let Message::ValueRequest(question) = message {
            questions.push_back((from, question));
            if questions.len() > QUESTIONS_MAX {
                questions.pop_front();
            }
        }
        // Nobody honest is far above the tip it follows; what it is fed must not push out what it knows.
        if message.instance().number() <= tip.0 + INSTANCES_MAX as u64 {
            heard.hear(&message);
            if frame.body.len() <= ARCHIVED_BYTES_MAX {
                archive.keep(dice, &message);
            }
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
