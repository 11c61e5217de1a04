//! Questions and answers: one substream each, a frame in and a frame out.

use crate::envelope::Message;
use crate::error::P2pError;
use crate::frame::{FrameError, read_frame, write_frame};
use crate::hooks::{Direction, Outcome};
use crate::score::Deed;
use crate::shared::{MemberShared, Shared};
use crate::streams::OpenError;
use crate::topic::{REQUEST_FRAME_BYTES_MAX, Topic};
use aequa_types::OperatorIndex;
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::swarm::Stream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A question and its answer take at most this long, waiting for a free slot included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks `member` over the stream that `opening` yields.
pub(crate) async fn ask(
    shared: &Shared,
    member: &MemberShared,
    request: &Message,
    opening: impl Future<Output = Result<oneshot::Receiver<Result<Stream, OpenError>>, P2pError>>,
) -> Result<Message, P2pError> {
    let operator = member.operator;
    let frame = request.encode(shared.cluster_id);
    if frame.len() > REQUEST_FRAME_BYTES_MAX {
        let (topic, bytes_max) = (Topic::Sync.name(), REQUEST_FRAME_BYTES_MAX);
        return Err(P2pError::TooLarge { topic, bytes: frame.len(), bytes_max });
    }
    let answer = async {
        let _slot = member.asking.acquire().await.map_err(|_| P2pError::Closed)?;
        let mut stream = match opening.await?.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(OpenError::Unsupported)) => return Err(P2pError::Refused { operator }),
            Ok(Err(OpenError::Failed)) | Err(_) => return Err(P2pError::NotConnected { operator }),
        };
        exchange(shared, member, &mut stream, &frame).await
    };
    let limit_ms = REQUEST_TIMEOUT.as_millis() as u64;
    let timeout = tokio::time::timeout(REQUEST_TIMEOUT, answer);
    shared
        .stop
        .run_until_cancelled(timeout)
        .await
        .ok_or(P2pError::Closed)?
        .unwrap_or(Err(P2pError::Timeout { operator, limit_ms }))
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    member: &MemberShared,
    stream: &mut S,
    frame: &[u8],
) -> Result<Message, P2pError> {
    let operator = member.operator;
    let sent = write_frame(stream, frame).await;
    let outcome = if sent.is_ok() { Outcome::Ok } else { Outcome::Error };
    shared.count(Topic::Sync, Direction::Tx, outcome, frame.len());
    sent.map_err(|_| P2pError::NotConnected { operator })?;
    let reply = match read_frame(stream, Topic::Sync.frame_bytes_max()).await {
        Ok(Some(reply)) => reply,
        Ok(None) => return Err(P2pError::Refused { operator }),
        Err(error) => return Err(broken(shared, member, error)),
    };
    charge(shared, member, reply.len()).await;
    let message = shared
        .decode(&member.peer, Topic::Sync, &reply)
        .map_err(|error| P2pError::MalformedReply { operator, what: error.to_string() })?;
    shared.count(Topic::Sync, Direction::Rx, Outcome::Ok, reply.len());
    Ok(message)
}

/// Answers a question of `operator`. A member with too many under way is not answered.
pub(crate) fn answer(shared: &Arc<Shared>, operator: OperatorIndex, mut stream: Stream) {
    let Some(member) = shared.members.get(&operator) else { return };
    let Ok(waiting) = member.waiting.clone().try_acquire_owned() else {
        return shared.score(&member.peer, Deed::RateExcess);
    };
    let task = shared.clone();
    shared.spawn(async move {
        let _waiting = waiting;
        let Some(member) = task.members.get(&operator) else { return };
        let served = async {
            let Ok(_slot) = member.answering.acquire().await else { return };
            serve(&task, member, &mut stream).await;
        };
        if tokio::time::timeout(REQUEST_TIMEOUT, served).await.is_err() {
            tracing::debug!(%operator, "question ran out of time");
        }
    });
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(shared: &Shared, member: &MemberShared, stream: &mut S) {
    let frame = match read_frame(stream, REQUEST_FRAME_BYTES_MAX).await {
        Ok(Some(frame)) => frame,
        Ok(None) => return,
        Err(error) => {
            broken(shared, member, error);
            return;
        }
    };
    charge(shared, member, frame.len()).await;
    let Ok(request) = shared.decode(&member.peer, Topic::Sync, &frame) else { return };
    shared.count(Topic::Sync, Direction::Rx, Outcome::Ok, frame.len());
    if let Some(reply) = shared.handler.request(member.operator, request).await {
        let reply = reply.encode(shared.cluster_id);
        let fits = reply.len() <= Topic::Sync.frame_bytes_max();
        let sent = fits && write_frame(stream, &reply).await.is_ok();
        let outcome = if sent { Outcome::Ok } else { Outcome::Error };
        shared.count(Topic::Sync, Direction::Tx, outcome, reply.len());
    }
    // The asker sees the end of the stream or its connection's; either is an end.
    let _ = stream.close().await;
}

async fn charge(shared: &Shared, member: &MemberShared, bytes: usize) {
    let pace = shared.peers.lock().charge(&member.peer, bytes, Instant::now());
    if !pace.wait.is_zero() {
        tokio::time::sleep(pace.wait).await;
    }
}

fn broken(shared: &Shared, member: &MemberShared, error: FrameError) -> P2pError {
    let operator = member.operator;
    match error {
        FrameError::Oversize { .. } => {
            shared.score(&member.peer, Deed::Malformed);
            shared.count(Topic::Sync, Direction::Rx, Outcome::DecodeError, 0);
            P2pError::MalformedReply { operator, what: error.to_string() }
        }
        FrameError::Io(_) => P2pError::NotConnected { operator },
    }
}
