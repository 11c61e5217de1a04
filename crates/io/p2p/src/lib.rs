//! The transport between the operators of one cluster.
//!
//! Members find each other by the addresses of the cluster lock, prove who they are with the ed25519 key in
//! their peer id, and talk on named topics. Everybody else is turned away at the connection.
//!
//! ```text
//!   Network ──send──▶ queue ──▶ writer ─┐             ┌─▶ reader ──▶ Handler::frame
//!      │        (per member and topic)  ├── stream ───┤
//!      │                                ┘             └─ one per pair and direct topic
//!      ├──gossip───▶ driver ── gossipsub ──▶ Handler::gossip ──▶ forwarded or not
//!      └──request──▶ driver ── a stream per question ──▶ Handler::request
//!                      │
//!                    gates: allow list · rate · score · lock · room
//! ```
//!
//! # Rules
//!
//! - **Strangers get no stream.** The [gates](Gate) sit in the transport's connection hooks; the first refusal
//!   decides and each attempt is counted once. Peers of [`Config::allow`] that are no members may connect, ping
//!   and identify, nothing else: they are not even offered the topics.
//! - **Bytes are bounded before they are read.** A frame's length is checked against its topic before a buffer
//!   is made; the envelope is checked before the body is looked at; both cost their sender points when wrong.
//! - **Back-pressure instead of loss inwards.** A stream is read again only when the handler is done with
//!   its last frame. Outwards a queue is bounded; a member that does not drain it is disconnected and
//!   dialled again, since consensus re-sends what matters on reconnect.
//! - **One stream per pair and direct topic.** The lower peer id opens it, on a connection it chooses; order within
//!   a stream is kept, order across a reconnect is not promised.
//! - **Members are never cut off for their score.** Below −200 their traffic counts ten times, which slows
//!   them down. Strangers are shut out for ten minutes.
//! - **The carrier is scored, the author decides.** A handler must not trust a message more because of the
//!   member that carried it.
//! - **Gossip is judged before it travels on.**
//! - **Members say where they are, under their own signature**, and pass on what others said of themselves
//!   (`addresses`), so that those who moved find each other through any third.
//! - **Whoever has not shown who it is goes first.** Handshakes are few per address and short; with too many
//!   under way the oldest of strangers is ended, never one from where a member is known to be.
//!
//! # What may be touched
//!
//! A topic is one line in each match of [`Topic`]. Names and limits are a contract with other nodes; the
//! envelope has a frozen form. Kinds of messages belong to the users of a topic, not to this crate.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

mod addresses;
mod backoff;
mod bucket;
mod config;
mod doorway;
mod driver;
mod envelope;
mod error;
mod frame;
mod gate;
mod gossip;
mod hooks;
mod link;
mod members_only;
mod network;
mod queue;
mod request;
mod score;
mod shared;
mod streams;
mod swarm;
mod topic;
mod transport;

pub use bucket::TokenBucket;
pub use config::{Config, MAX_CONNS_DEFAULT, Member, peer_id_of};
pub use envelope::{EnvelopeError, Message, OVERHEAD_BYTES_MAX, TRACE_ID_BYTES_MAX, VERSION};
pub use error::P2pError;
pub use frame::PREFIX_BYTES;
pub use gate::{Attempt, Gate};
pub use hooks::{Direction, GossipVerdict, Handler, Observer, Outcome, Unobserved, Verdict};
pub use network::Network;
pub use queue::{QUEUE_BYTES_MAX, QUEUE_FRAMES_MAX};
pub use request::REQUEST_TIMEOUT;
pub use score::Deed;
pub use shared::REQUESTS_PER_PEER_MAX;
pub use topic::{Carriage, REQUEST_FRAME_BYTES_MAX, Topic};

use std::sync::Arc;

/// Checks the configuration, binds every listener and starts the transport.
///
/// Must be called inside a tokio runtime. When it returns, all addresses are bound; a port that is taken is the
/// error [`P2pError::Listen`]. Members are dialled from now on, for as long as the network lives.
pub fn start(
    config: Config,
    handler: Arc<dyn Handler>,
    observer: Arc<dyn Observer>,
) -> Result<Network, P2pError> {
    let checked = config::Checked::parse(&config)?;
    let shared = Arc::new(shared::Shared::new(&checked, handler, observer));
    let (commands, inbox) = tokio::sync::mpsc::channel(driver::COMMANDS_MAX);
    let driver = driver::Driver::bind(checked, shared.clone(), inbox)?;
    shared.tasks.spawn(driver.run());
    Ok(Network::new(shared, commands))
}
