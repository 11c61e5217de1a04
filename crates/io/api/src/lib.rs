//! The HTTP face of a node: REST, event streams, proxy, metrics.
//!
//! ```text
//!  client ── connection ── observe ── route ── Backend (the node)
//!            │             │          └ proxy ── upstream
//!            │             └ trace id, guard, fence, rate limit, metrics, log line
//!            └ caps, deadlines, head size
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`backend`] | what the API asks of a node: the only way in |
//! | `server` | the two listeners; binding, serving, stopping |
//! | `door`, `clients` | who may come in, who is counted, what is said of those turned away |
//! | `connections`, `activity` | places of connections, and how long a client may keep us waiting |
//! | `budget`, `held` | places of event streams, proxied requests, tunnels, shown blocks and large bodies; bodies that keep one |
//! | `observe` | what happens around every request |
//! | `guard` | requests that are not taken whatever they ask: of other sites' pages, under foreign names |
//! | `routes` | handlers by subject, each route declared once, and the OpenAPI document made from them |
//! | `proxy`, `paths` | every path no route takes, and how it may be spelled |
//! | `request`, `reply` | reading strictly, answering in the shapes of the two route families |
//! | `e2e` | the test endpoints, in builds with the feature of that name only |
//! | `block_pieces` | the JSON form of a block, piece by piece |
//! | `proof` | the branch from a transaction to its block's payload root |
//!
//! Two families of routes: the original ones answer in exact texts (`invalid json` and a newline), the
//! detail is in the header `X-Aequa-Reason`; all others answer JSON, errors as [`ErrorBody`].
//!
//! Invariants:
//! - bytes are bounded before they are parsed: head, body, all bodies together, nesting, values, time,
//!   connections;
//! - what clients send is never built into a tree, and what may be large is written while it is sent;
//! - an answer about admission is given after the pool decided, never before;
//! - while the node is fenced no data byte leaves but through the routes that survive a fence, and a
//!   body on its way breaks off;
//! - a slow client costs its own connection: event readers are cut off, who keeps us waiting makes way;
//! - streams, proxied requests and tunnels never take the places of own routes; who is turned away is told
//!   so (503) and counted;
//! - every answer carries a trace id, is counted under its route template and logged once.
//!
//! HTTP/1.1 without TLS: both listeners are loopback by default, and a reverse proxy ends TLS. For the
//! same reason the upstream is `http` only.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

mod activity;
mod app;
pub mod backend;
mod block_pieces;
mod budget;
mod clients;
mod connections;
mod door;
mod duty;
#[cfg(feature = "e2e")]
pub mod e2e;
mod error;
mod evidence;
mod guard;
mod held;
mod limits;
mod observe;
mod paths;
mod proof;
mod proxy;
mod reply;
mod request;
mod routes;
mod server;

pub use activity::{ANSWER_PATIENCE, BODY_PATIENCE, BYTES_PER_S_MIN, HEAD_TIME_MAX, IDLE_TIME_MAX};
pub use backend::{Backend, BackendError, Options};
pub use budget::{BLOCKS_SHOWN_MAX, PROXIED_MAX, STREAMS_MAX, TUNNELS_MAX};
pub use clients::{Network, NotANetwork};
pub use connections::{CONNECTIONS_MAX, CONNECTIONS_PER_CLIENT_MAX, connections_within};
pub use error::ApiError;
pub use reply::ErrorBody;
pub use request::{BODY_BYTES_MAX, BODY_TIME_MAX};
pub use routes::openapi::api_document;
pub use server::{Config, HEAD_BYTES_MAX, STOP_WITHIN, Server};
