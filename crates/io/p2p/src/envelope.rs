//! What every frame wraps its body in.
//!
//! SSZ container `version u8 · kind u8 · cluster_id Bytes32 · trace_id List[u8,128] · body List[u8]`.
//! Decoding is strict (no other encoding of the same content is accepted) and does not copy the body.

use aequa_types::ClusterId;
use bytes::{BufMut, Bytes, BytesMut};

/// The only envelope version there is.
pub const VERSION: u8 = 1;
/// Longest trace id: room for a W3C traceparent with baggage, not for a payload.
pub const TRACE_ID_BYTES_MAX: usize = 128;
/// Bytes before the first variable part: version, kind, cluster id and two offsets.
const FIXED_BYTES: usize = 1 + 1 + 32 + 4 + 4;
/// Most bytes an envelope adds to a body.
pub const OVERHEAD_BYTES_MAX: usize = FIXED_BYTES + TRACE_ID_BYTES_MAX;

/// A message of a topic, outside its envelope.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// What the body is; numbered per topic by its users.
    pub kind: u8,
    /// Joins the logs of several nodes. Not signed, never affects behaviour, cut at 128 bytes.
    pub trace_id: Bytes,
    /// The body, opaque to the transport.
    pub body: Bytes,
    /// Does not travel: a message with the same key still waiting for the same peer and topic is dropped in
    /// favour of this one (the newest own vote per instance and type).
    pub supersedes: Option<u64>,
}

impl Message {
    /// A message without trace id.
    pub fn new(kind: u8, body: impl Into<Bytes>) -> Self {
        Self { kind, body: body.into(), ..Self::default() }
    }

    /// The same message with a trace id.
    pub fn traced(mut self, trace_id: impl Into<Bytes>) -> Self {
        self.trace_id = trace_id.into();
        self
    }

    /// The same message, replacing what waits under `key`.
    pub fn superseding(mut self, key: u64) -> Self {
        self.supersedes = Some(key);
        self
    }

    /// Encodes the envelope.
    pub fn encode(&self, cluster_id: ClusterId) -> Bytes {
        let trace = self.trace_id.get(..TRACE_ID_BYTES_MAX).unwrap_or(&self.trace_id);
        let body_at = FIXED_BYTES + trace.len();
        let mut out = BytesMut::with_capacity(body_at + self.body.len());
        out.put_u8(VERSION);
        out.put_u8(self.kind);
        out.put_slice(cluster_id.as_slice());
        out.put_u32_le(FIXED_BYTES as u32);
        out.put_u32_le(body_at as u32);
        out.put_slice(trace);
        out.put_slice(&self.body);
        out.freeze()
    }

    /// Decodes an envelope of `cluster_id`. The length of `frame` was checked by the reader.
    pub fn decode(frame: &Bytes, cluster_id: ClusterId) -> Result<Self, EnvelopeError> {
        let (&version, _) = frame.split_first().ok_or(EnvelopeError::Malformed)?;
        if version != VERSION {
            return Err(EnvelopeError::UnknownVersion { version });
        }
        let fixed = frame.first_chunk::<FIXED_BYTES>().ok_or(EnvelopeError::Malformed)?;
        let [_, kind, cluster @ .., a0, a1, a2, a3, b0, b1, b2, b3] = fixed;
        let trace_at = u32::from_le_bytes([*a0, *a1, *a2, *a3]) as usize;
        let body_at = u32::from_le_bytes([*b0, *b1, *b2, *b3]) as usize;
        let canonical =
            trace_at == FIXED_BYTES && (FIXED_BYTES..=frame.len().min(OVERHEAD_BYTES_MAX)).contains(&body_at);
        if !canonical {
            return Err(EnvelopeError::Malformed);
        }
        if cluster != cluster_id.as_slice() {
            return Err(EnvelopeError::WrongCluster);
        }
        Ok(Self {
            kind: *kind,
            trace_id: frame.slice(trace_at..body_at),
            body: frame.slice(body_at..),
            supersedes: None,
        })
    }
}

/// Why bytes are not a message for this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not the canonical encoding of an envelope.
    #[error("malformed envelope")]
    Malformed,
    /// A version this node does not know: ignored, so that clusters can be upgraded node by node.
    #[error("unknown envelope version {version}")]
    UnknownVersion {
        /// The version received.
        version: u8,
    },
    /// A message of another cluster.
    #[error("message of another cluster")]
    WrongCluster,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ssz::{Decode, Encode};

    #[derive(ssz_derive::Encode, ssz_derive::Decode)]
    struct Container {
        version: u8,
        kind: u8,
        cluster_id: ClusterId,
        trace_id: Vec<u8>,
        body: Vec<u8>,
    }

    const CLUSTER: ClusterId = ClusterId::repeat_byte(7);

    proptest! {
        #[test]
        fn an_envelope_is_the_ssz_container_of_its_fields(
            kind: u8, trace in prop::collection::vec(any::<u8>(), 0..=128), body: Vec<u8>,
        ) {
            let message = Message::new(kind, body.clone()).traced(trace.clone());
            let container = Container { version: 1, kind, cluster_id: CLUSTER, trace_id: trace, body };
            let encoded = message.encode(CLUSTER);
            prop_assert_eq!(&encoded[..], &container.as_ssz_bytes()[..]);
            prop_assert_eq!(Message::decode(&encoded, CLUSTER), Ok(message));
        }

        #[test]
        fn what_decodes_is_canonical(frame in prop::collection::vec(0u8..64, 0..80)) {
            let mut frame = frame;
            if let Some(first) = frame.first_mut() { *first = VERSION; }
            if frame.len() >= FIXED_BYTES { frame[2..34].fill(7); }
            let frame = Bytes::from(frame);
            match Message::decode(&frame, CLUSTER) {
                Ok(message) => {
                    prop_assert_eq!(message.encode(CLUSTER), frame.clone());
                    prop_assert!(Container::from_ssz_bytes(&frame).is_ok());
                }
                Err(error) => prop_assert_eq!(error, EnvelopeError::Malformed),
            }
        }
    }

    #[test]
    fn version_is_looked_at_before_structure_and_structure_before_cluster() {
        let unknown = Bytes::from_static(&[9]);
        assert_eq!(Message::decode(&unknown, CLUSTER), Err(EnvelopeError::UnknownVersion { version: 9 }));
        assert_eq!(Message::decode(&Bytes::new(), CLUSTER), Err(EnvelopeError::Malformed));
        let other = Message::new(1, "x").encode(ClusterId::ZERO);
        assert_eq!(Message::decode(&other, CLUSTER), Err(EnvelopeError::WrongCluster));
        assert_eq!(Message::decode(&other.slice(..41), CLUSTER), Err(EnvelopeError::Malformed));
    }

    #[test]
    fn a_trace_id_is_cut_at_its_limit() {
        let message = Message::new(1, "x").traced(vec![b'a'; 200]);
        let decoded = Message::decode(&message.encode(CLUSTER), CLUSTER).unwrap();
        assert_eq!(decoded.trace_id.len(), TRACE_ID_BYTES_MAX);
        assert_eq!(decoded.body, "x");
    }

    #[test]
    fn an_envelope_has_its_frozen_form() {
        let bytes = Message::new(3, "body").traced("t").encode(CLUSTER);
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, format!("0103{}2a0000002b00000074626f6479", "07".repeat(32)));
    }
}
