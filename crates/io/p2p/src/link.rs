//! The two halves of a direct stream: one task reads, one writes.

use crate::addresses::{Heard, KIND_ANNOUNCEMENT};
use crate::envelope::Message;
use crate::frame::{FrameError, append_frame, append_prefix, read_frame};
use crate::hooks::{Direction, Outcome};
use crate::queue::{Queue, Turn};
use crate::score::Deed;
use crate::shared::Shared;
use crate::topic::Topic;
use aequa_types::OperatorIndex;
use bytes::Bytes;
use futures::io::BufReader;
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::PeerId;
use std::time::Instant;

/// Frames written with one flush; more does not make a small frame cheaper.
const WRITE_BATCH_BYTES: usize = 64 * 1024;
/// Read at once; hundreds of votes.
const READ_BUFFER_BYTES: usize = 32 * 1024;

/// Whose stream it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub operator: OperatorIndex,
    pub peer: PeerId,
    pub topic: Topic,
}

/// Reads frames and waits for each to be handled, until the stream ends or breaks a rule.
pub(crate) async fn read<R: AsyncRead + Unpin>(shared: &Shared, origin: Origin, stream: R) {
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, stream);
    loop {
        match read_frame(&mut reader, origin.topic.frame_bytes_max()).await {
            Ok(Some(frame)) => receive(shared, origin, frame).await,
            Ok(None) => return,
            Err(error) => {
                if matches!(error, FrameError::Oversize { .. }) {
                    shared.score(&origin.peer, Deed::Malformed);
                    shared.count(origin.topic, Direction::Rx, Outcome::DecodeError, 0);
                }
                tracing::debug!(peer = %origin.peer, topic = %origin.topic, %error, "stream ends");
                return;
            }
        }
    }
}

async fn receive(shared: &Shared, origin: Origin, frame: Bytes) {
    let pace = shared.peers.lock().charge(&origin.peer, frame.len(), Instant::now());
    if !pace.wait.is_zero() {
        tokio::time::sleep(pace.wait).await;
    }
    let Ok(message) = shared.decode(&origin.peer, origin.topic, &frame) else { return };
    if origin.topic == Topic::Peers {
        return announcement(shared, origin, &message, frame.len());
    }
    let verdict = shared.handler.frame(origin.operator, origin.topic, message).await;
    if let Some(deed) = verdict.deed() {
        shared.score(&origin.peer, deed);
    }
    shared.count(origin.topic, Direction::Rx, verdict.outcome(), frame.len());
}

fn announcement(shared: &Shared, origin: Origin, message: &Message, frame_bytes: usize) {
    let now = Instant::now();
    // Of another kind: the peer may be newer.
    let heard = match message.kind {
        KIND_ANNOUNCEMENT => shared.book.lock().hear(origin.operator, &message.body, now),
        _ => Heard::Old,
    };
    let outcome = match heard {
        Heard::News(operator) => {
            shared.announced.raise(operator);
            Outcome::Ok
        }
        Heard::Old => Outcome::Ok,
        Heard::Bad(deed) => {
            shared.score(&origin.peer, deed);
            Outcome::Error
        }
    };
    shared.count(origin.topic, Direction::Rx, outcome, frame_bytes);
}

/// Writes what is queued until the turn ends or the stream breaks.
pub(crate) async fn write<W: AsyncWrite + Unpin>(
    shared: &Shared,
    topic: Topic,
    queue: &Queue,
    turn: &Turn,
    mut stream: W,
) {
    let (mut batch, mut buffer) = (Vec::new(), Vec::with_capacity(WRITE_BATCH_BYTES));
    while queue.take(turn, WRITE_BATCH_BYTES, &mut batch) {
        if batch.is_empty() {
            turn.wait().await;
            continue;
        }
        let written = write_batch(&mut stream, &batch, &mut buffer).await;
        let outcome = if written.is_ok() { Outcome::Ok } else { Outcome::Error };
        for frame in batch.drain(..) {
            shared.count(topic, Direction::Tx, outcome, frame.len());
        }
        if let Err(error) = written {
            tracing::debug!(%topic, %error, "stream broke");
            return;
        }
    }
    // Nobody waits for the other side to see this; it makes its reader end instead of fail.
    let _ = stream.close().await;
}

/// One write for small frames together; a large frame is not copied.
async fn write_batch<W: AsyncWrite + Unpin>(
    stream: &mut W,
    batch: &[Bytes],
    buffer: &mut Vec<u8>,
) -> std::io::Result<()> {
    buffer.clear();
    for frame in batch {
        if frame.len() <= WRITE_BATCH_BYTES {
            append_frame(buffer, frame);
        } else {
            append_prefix(buffer, frame);
            stream.write_all(buffer).await?;
            buffer.clear();
            stream.write_all(frame).await?;
        }
    }
    stream.write_all(buffer).await?;
    stream.flush().await
}
