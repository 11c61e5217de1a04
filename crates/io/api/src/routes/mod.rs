//! The routes, by what they are about. Each is declared once: path, method and description stand at its handler,
//! what may keep requests from it stands beside it in its module's list.

pub(crate) mod chain;
pub(crate) mod checkpoint;
pub(crate) mod duty;
pub(crate) mod events;
pub(crate) mod evidence;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod openapi;
pub(crate) mod tx;
pub(crate) mod txs;

use crate::app::App;
use crate::backend::Backend;
use crate::reply::Refusal;
use axum::handler::Handler;
use axum::routing::MethodRouter;
use std::sync::Arc;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::UtoipaMethodRouter;

/// What may keep requests from a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It tells whether the node lives: nothing may, neither a fence, nor a rate limit, nor the page that asks.
    Probe,
    /// It tells what the node is: answers while the node is fenced; `/api/state-root` says so in its own way.
    State,
    /// An event stream: a fence ends it, with a last event of its own.
    Stream,
    /// All others: a fence does, and breaks answers off.
    Work,
    /// What no route takes: as [`Kind::Work`], and the upstream knows what it takes.
    Proxied,
}

impl Kind {
    /// Whether a fenced node answers.
    pub fn survives_fence(self) -> bool {
        matches!(self, Kind::Probe | Kind::State)
    }
}

/// What the body of a route that takes one may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyKind {
    Json,
    /// JSON, or JSON texts line by line.
    JsonOrLines,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The path as it is declared: what is counted and logged.
    pub template: Arc<str>,
    pub kind: Kind,
    pub body: BodyKind,
}

/// A route.
pub(crate) struct Route<B> {
    pub target: Target,
    pub answers: MethodRouter<Arc<App<B>>>,
    describe: Box<dyn FnOnce(&mut OpenApi)>,
}

impl<B: Backend> Route<B> {
    /// What handlers of one path say of themselves. Other methods are refused in JSON.
    fn new(kind: Kind, (schemas, paths, answers): UtoipaMethodRouter<Arc<App<B>>>) -> Self {
        let template = paths.paths.keys().next().map_or("", String::as_str).into();
        let describe = |document: &mut OpenApi| {
            document.paths.merge(paths);
            document.components.get_or_insert_default().schemas.extend(schemas);
        };
        let target = Target { template, kind, body: BodyKind::Json };
        Self { target, answers, describe: Box::new(describe) }.refusing(wrong_method)
    }

    /// A route of tests, which no description shows.
    #[cfg(feature = "e2e")]
    pub fn of_tests(path: &str, answers: MethodRouter<Arc<App<B>>>) -> Self {
        let target = Target { template: path.into(), kind: Kind::Work, body: BodyKind::Json };
        Self { target, answers, describe: Box::new(|_| ()) }
    }

    /// The same, with bodies of JSON lines too.
    fn taking_lines(mut self) -> Self {
        self.target.body = BodyKind::JsonOrLines;
        self
    }

    /// The same with another answer to other methods.
    fn refusing<T: 'static>(self, refusal: impl Handler<T, Arc<App<B>>>) -> Self {
        Self { answers: self.answers.fallback(refusal), ..self }
    }

    /// The same with these answers.
    fn answering(self, answers: MethodRouter<Arc<App<B>>>) -> Self {
        Self { answers, ..self }
    }
}

/// Routes of the validator API.
pub(crate) fn validator<B: Backend>(tx_api: bool) -> Vec<Route<B>> {
    let mut routes = health::routes();
    routes.extend(duty::routes());
    routes.extend(chain::routes());
    routes.extend(checkpoint::routes());
    routes.extend(evidence::routes());
    routes.extend(events::routes());
    routes.extend(openapi::routes());
    if tx_api {
        routes.extend(tx::routes());
        routes.extend(txs::routes());
    }
    routes
}

/// Routes of the monitoring listener.
pub(crate) fn monitoring<B: Backend>() -> Vec<Route<B>> {
    let mut routes = health::routes();
    routes.extend(metrics::routes());
    routes
}

async fn wrong_method() -> Refusal {
    crate::guard::wrong_method("this route has no such method")
}
