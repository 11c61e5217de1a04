//! Gossip and questions, which unlike direct streams pass through the driver.

use super::{Driver, Notice};
use crate::envelope::EnvelopeError;
use crate::gossip;
use crate::hooks::{Direction, GossipVerdict, Outcome};
use crate::score::Deed;
use crate::streams::Reply;
use crate::topic::Topic;
use aequa_types::OperatorIndex;
use bytes::Bytes;
use libp2p::PeerId;
use libp2p::gossipsub::{Event, Message, MessageAcceptance, MessageId, PublishError};
use std::time::Instant;

impl Driver {
    pub(super) fn publish(&mut self, topic: Topic, frame: Bytes) {
        let ident = gossip::ident(topic);
        let hash = ident.hash();
        let gossipsub = &mut self.swarm.behaviour_mut().gossip.inner;
        let subscribed = gossipsub.all_peers().filter(|(_, topics)| topics.contains(&&hash)).count();
        match gossipsub.publish(ident, frame.to_vec()) {
            Ok(_) => {
                for _ in 0..subscribed {
                    self.shared.count(topic, Direction::Tx, Outcome::Ok, frame.len());
                }
            }
            Err(PublishError::Duplicate) => {}
            Err(error) => {
                tracing::debug!(%topic, %error, "not published");
                self.shared.count(topic, Direction::Tx, Outcome::Error, frame.len());
            }
        }
    }

    pub(super) fn on_gossip(&mut self, event: Event) {
        if let Event::Message { propagation_source, message_id, message } = event {
            let judged = self.judge(propagation_source, message_id.clone(), message);
            if let Some(acceptance) = judged {
                let gossipsub = &mut self.swarm.behaviour_mut().gossip.inner;
                gossipsub.report_message_validation_result(&message_id, &propagation_source, acceptance);
            }
        }
    }

    /// Judges a message at once, or hands it to the handler and returns `None`.
    fn judge(&mut self, source: PeerId, id: MessageId, message: Message) -> Option<MessageAcceptance> {
        let (Some(member), Some(topic)) = (self.members.get(&source), gossip::topic_of(&message)) else {
            return Some(MessageAcceptance::Ignore);
        };
        let operator = member.operator;
        let frame = Bytes::from(message.data);
        let bytes = frame.len();
        if bytes > topic.frame_bytes_max() {
            self.shared.score(&source, Deed::Malformed);
            self.shared.count(topic, Direction::Rx, Outcome::DecodeError, bytes);
            return Some(MessageAcceptance::Reject);
        }
        let pace = self.shared.peers.lock().charge(&source, bytes, Instant::now());
        let message = match self.shared.decode(&source, topic, &frame) {
            Ok(message) => message,
            Err(EnvelopeError::UnknownVersion { .. }) => return Some(MessageAcceptance::Ignore),
            Err(EnvelopeError::Malformed | EnvelopeError::WrongCluster) => {
                return Some(MessageAcceptance::Reject);
            }
        };
        // Gossip cannot be slowed down, only left alone.
        let permit = self.judging.clone().try_acquire_owned().ok().filter(|_| pace.wait.is_zero());
        let Some(permit) = permit else {
            self.shared.count(topic, Direction::Rx, Outcome::Error, bytes);
            return Some(MessageAcceptance::Ignore);
        };
        let (shared, notify) = (self.shared.clone(), self.notify.clone());
        self.shared.spawn(async move {
            let _permit = permit;
            let verdict = shared.handler.gossip(operator, topic, message).await;
            let (acceptance, deed, outcome) = weigh(verdict);
            if let Some(deed) = deed {
                shared.score(&source, deed);
            }
            shared.count(topic, Direction::Rx, outcome, bytes);
            // A driver that is gone has no use for verdicts.
            let _ = notify.send(Notice::Judged { id, source, acceptance });
        });
        None
    }

    /// Opens a stream to a member; dropping `reply` says there is none.
    pub(super) fn open_for(&mut self, operator: OperatorIndex, topic: Topic, reply: Reply) {
        let member = self.shared.members.get(&operator).and_then(|member| self.members.get(&member.peer));
        if let Some(member) = member
            && let Some(connection) = member.connection()
        {
            self.swarm.behaviour_mut().streams.open(member.peer, connection, topic, reply);
        }
    }
}

fn weigh(verdict: GossipVerdict) -> (MessageAcceptance, Option<Deed>, Outcome) {
    match verdict {
        GossipVerdict::Accept => (MessageAcceptance::Accept, Some(Deed::Useful), Outcome::Ok),
        // An honest node forwards nothing it has not accepted itself.
        GossipVerdict::Reject => (MessageAcceptance::Reject, Some(Deed::Malformed), Outcome::Error),
        GossipVerdict::Ignore => (MessageAcceptance::Ignore, None, Outcome::Ok),
    }
}
