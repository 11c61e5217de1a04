//! Gossip topics: gossipsub with anonymous messages, forwarded only after the node has judged them.

use crate::error::P2pError;
use crate::topic::{Carriage, Topic};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, ValidationMode};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

/// How often the mesh is mended. A cluster is small and flood-published, so this is not on any latency path.
const HEARTBEAT: Duration = Duration::from_millis(700);
/// Mesh size wanted: a whole cluster of 4 or 7 is its own mesh.
const MESH: usize = 6;
/// Below this the mesh grows. Clusters of 4 stay below it, which costs one look at the peer list.
const MESH_LOW: usize = 4;
/// Above this the mesh shrinks; keeps fan-out bounded with 63 peers.
const MESH_HIGH: usize = 12;
/// Mesh members this node dialled itself, so that a mesh cannot be taken over by dialling in.
const MESH_OUTBOUND: usize = 2;
/// What protobuf and control messages may add to a frame.
const RPC_OVERHEAD_BYTES: usize = 4 * 1024;
/// Messages being judged at a time; more are ignored, the mesh will not miss one node's forwarding.
pub const JUDGED_AT_ONCE_MAX: usize = 256;

/// Messages in one piece of a peer's stream: ours has one.
const MESSAGES_AT_ONCE_MAX: usize = 16;
/// How long a message is known by its name. One that is published again after that is spread again.
const KNOWN_FOR: Duration = Duration::from_secs(10);

/// gossipsub that looks at messages before it keeps anything of them.
pub(crate) type Behaviour = gossipsub::Behaviour<OwnTopics>;

/// Messages of the topics subscribed to. gossipsub keeps every message for seconds and its name for longer, also of a
/// topic that nobody subscribed to; but of those it tells nobody, so nobody could charge their sender.
#[derive(Debug)]
pub(crate) struct OwnTopics(BTreeSet<Topic>);

impl gossipsub::DataTransform for OwnTopics {
    fn inbound_transform(&self, message: gossipsub::RawMessage) -> io::Result<gossipsub::Message> {
        let gossipsub::RawMessage { source, data, sequence_number, topic, .. } = message;
        match named(topic.as_str()).filter(|topic| self.0.contains(topic)) {
            Some(_) => Ok(gossipsub::Message { source, data, sequence_number, topic }),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "a topic that is not subscribed to")),
        }
    }

    fn outbound_transform(&self, _: &gossipsub::TopicHash, data: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(data)
    }
}

/// A gossipsub behaviour subscribed to the gossip topics among `topics`.
pub(crate) fn behaviour(topics: &BTreeSet<Topic>) -> Result<Behaviour, P2pError> {
    let failed = |what: String| P2pError::Transport { what };
    let frame_bytes_max = gossip_topics(topics).map(Topic::frame_bytes_max).max().unwrap_or_default();
    let config = gossipsub::ConfigBuilder::default()
        .heartbeat_interval(HEARTBEAT)
        .mesh_n(MESH)
        .mesh_n_low(MESH_LOW)
        .mesh_n_high(MESH_HIGH)
        .mesh_outbound_min(MESH_OUTBOUND)
        .flood_publish(true)
        .validate_messages()
        .validation_mode(ValidationMode::Anonymous)
        .max_transmit_size(RPC_OVERHEAD_BYTES + frame_bytes_max)
        .max_publish_messages(MESSAGES_AT_ONCE_MAX)
        .duplicate_cache_time(KNOWN_FOR)
        .message_id_fn(message_id)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let own = OwnTopics(gossip_topics(topics).collect());
    let mut behaviour = Behaviour::new_with_transform(MessageAuthenticity::Anonymous, config, own)
        .map_err(|error| failed(error.to_owned()))?;
    for topic in gossip_topics(topics) {
        behaviour.subscribe(&ident(topic)).map_err(|error| failed(format!("{error:?}")))?;
    }
    Ok(behaviour)
}

/// The gossipsub name of a topic.
pub(crate) fn ident(topic: Topic) -> IdentTopic {
    IdentTopic::new(topic.name())
}

/// The topic a message came on.
pub(crate) fn topic_of(message: &gossipsub::Message) -> Option<Topic> {
    named(message.topic.as_str())
}

fn named(name: &str) -> Option<Topic> {
    Topic::ALL.into_iter().find(|topic| topic.carriage() == Carriage::Gossip && topic.name() == name)
}

fn gossip_topics(topics: &BTreeSet<Topic>) -> impl Iterator<Item = Topic> {
    topics.iter().copied().filter(|topic| topic.carriage() == Carriage::Gossip)
}

/// Content names a message: the same bytes are the same message whoever sends them.
fn message_id(message: &gossipsub::Message) -> MessageId {
    let mut hash = Sha256::new();
    hash.update(message.topic.as_str().as_bytes());
    hash.update([0]);
    hash.update(&message.data);
    MessageId::new(&hash.finalize()[..20])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, data: &[u8]) -> gossipsub::Message {
        gossipsub::Message {
            source: None,
            data: data.to_vec(),
            sequence_number: None,
            topic: gossipsub::TopicHash::from_raw(topic),
        }
    }

    #[test]
    fn a_message_is_named_by_topic_and_content() {
        let id = |topic, data| message_id(&message(topic, data));
        assert_eq!(id("a", b"x"), id("a", b"x"));
        assert_ne!(id("a", b"x"), id("b", b"x"));
        assert_ne!(id("a", b"x"), id("a", b"y"));
    }

    #[test]
    fn nothing_is_kept_of_topics_that_are_not_subscribed_to() {
        let own = OwnTopics(BTreeSet::from([Topic::Evidence]));
        let is_taken = |topic: &str| {
            let raw = gossipsub::RawMessage {
                source: None,
                data: vec![7],
                sequence_number: None,
                topic: gossipsub::TopicHash::from_raw(topic),
                signature: None,
                key: None,
                validated: false,
            };
            gossipsub::DataTransform::inbound_transform(&own, raw).is_ok()
        };
        assert!(is_taken(Topic::Evidence.name()));
        assert!(!is_taken(Topic::PrivateTx.name()), "known, and not subscribed to");
        assert!(!is_taken(Topic::Qbft.name()), "not by gossip");
        assert!(!is_taken("x"));
    }

    #[test]
    fn only_gossip_topics_come_by_gossip() {
        assert_eq!(topic_of(&message("aequa/evidence/v1", b"")), Some(Topic::Evidence));
        assert_eq!(topic_of(&message("aequa/tx/v1", b"")), None);
        assert_eq!(topic_of(&message("else", b"")), None);
    }
}
