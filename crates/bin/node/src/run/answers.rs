//! Answers to what members ask.

use super::budget::Call;
use super::context::Context;
use super::snapshot;
use super::sync::{blocking, read_blocks, take_status};
use super::testimony;
use aequa_p2p::Message as Frame;
use aequa_types::OperatorIndex;
use aequa_types::sync::{SyncReply, SyncRequest};
use bytes::Bytes;
use ssz::Encode as _;
use std::sync::Arc;
use std::time::Duration;

/// Largest question: a status has half of it.
const REQUEST_BYTES_MAX: usize = 1024;

/// Answers a question of a member, once it may have one more answer of that kind.
pub async fn serve(context: &Arc<Context>, from: OperatorIndex, frame: Frame) -> Option<Frame> {
    let request: SyncRequest = aequa_types::decode("sync request", &frame.body, REQUEST_BYTES_MAX).ok()?;
    let call = match request {
        SyncRequest::Status(_) => Call::Status,
        SyncRequest::Blocks(_) => Call::Blocks,
        SyncRequest::Testimony(_) => Call::Testimony,
        SyncRequest::Snapshot(_) => Call::Snapshot,
        SyncRequest::State(_) => Call::State,
    };
    let is_of_the_chain = matches!(call, Call::Blocks | Call::Snapshot | Call::State);
    if is_of_the_chain && context.facts.is_fenced() {
        return None;
    }
    let turn = context.budgets.turn(from, call).await?;
    let (reply, busy) = answer(context, from, request).await?;
    let body = Bytes::from(reply.as_ssz_bytes());
    turn.charge(body.len(), busy);
    Some(Frame::new(reply.kind(), body))
}

/// The answer, and how long a thread was busy with it.
async fn answer(
    context: &Arc<Context>,
    from: OperatorIndex,
    request: SyncRequest,
) -> Option<(SyncReply, Duration)> {
    match request {
        SyncRequest::Status(status) => {
            take_status(context, from, &status).await?;
            Some((SyncReply::Status(context.own_status()), Duration::ZERO))
        }
        SyncRequest::Blocks(request) => {
            let context = Arc::clone(context);
            let (blocks, busy) = blocking(move || read_blocks(&context, request)).await?;
            Some((SyncReply::Blocks(blocks), busy))
        }
        SyncRequest::Testimony(request) => {
            let (testimony, busy) = testimony::give(context, request.about).await?;
            Some((SyncReply::Testimony(testimony), busy))
        }
        SyncRequest::Snapshot(request) => {
            let context = Arc::clone(context);
            let (offer, busy) = blocking(move || snapshot::offer(&context, request)).await?;
            Some((SyncReply::Snapshot(offer.ok()?.into_iter().collect()), busy))
        }
        SyncRequest::State(request) => {
            let context = Arc::clone(context);
            let (part, busy) = blocking(move || snapshot::part(&context, request)).await?;
            Some((SyncReply::State(part.ok()??), busy))
        }
    }
}
