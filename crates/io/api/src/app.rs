//! What all handlers share, and the routers of the two listeners.

use crate::backend::{Backend, Options};
use crate::door::Door;
use crate::error::ApiError;
use crate::limits::RateLimiter;
use crate::paths::OwnPaths;
use crate::proxy::{self, Proxy};
use crate::routes::{BodyKind, Kind, Route, Target};
use crate::{observe, routes};
use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, any};
use bytes::Bytes;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// State of one listener.
pub(crate) struct App<B> {
    pub backend: Arc<B>,
    pub door: Arc<Door>,
    pub proxy: Option<Proxy>,
    pub rate: Option<RateLimiter>,
    /// The description of the API.
    pub document: Bytes,
    /// Set when the listener stops: event streams end themselves.
    pub stopping: CancellationToken,
}

/// The state as handlers take it.
pub(crate) type Shared<B> = State<Arc<App<B>>>;

/// The validator API; what no route takes goes to the proxy.
pub(crate) fn validator_router<B: Backend>(
    backend: Arc<B>,
    door: Arc<Door>,
    options: &Options,
    stopping: CancellationToken,
) -> Result<Router, ApiError> {
    let proxy = options.upstream.clone().map(|base| Proxy::new(base, OwnPaths::of::<B>())).transpose()?;
    let rate = RateLimiter::new(options.rate_limit);
    let document = routes::openapi::api_document::<B>(options.tx_api).to_string().into();
    let app = App { backend, door, proxy, rate, document, stopping };
    Ok(router(routes::validator(options.tx_api), app))
}

/// The monitoring listener.
pub(crate) fn monitoring_router<B: Backend>(backend: Arc<B>, door: Arc<Door>) -> Router {
    bare_router(backend, door, routes::monitoring())
}

/// A listener without proxy, streams and rate limit.
pub(crate) fn bare_router<B: Backend>(backend: Arc<B>, door: Arc<Door>, routes: Vec<Route<B>>) -> Router {
    let (document, stopping) = (Bytes::new(), CancellationToken::new());
    router(routes, App { backend, door, proxy: None, rate: None, document, stopping })
}

/// The routes, each with what happens around it.
fn router<B: Backend>(routes: Vec<Route<B>>, app: App<B>) -> Router {
    let app = Arc::new(app);
    let observed = |answers: MethodRouter<Arc<App<B>>>, target| {
        answers.layer(from_fn_with_state((Arc::clone(&app), target), observe::observe::<B>))
    };
    let proxied = Target { template: "proxy".into(), kind: Kind::Proxied, body: BodyKind::Json };
    let router = Router::new().fallback(observed(any(proxy::fallback::<B>), proxied));
    let add = |router: Router<_>, Route { target, answers, .. }| {
        let path = Arc::clone(&target.template);
        router.route(&path, observed(answers, target))
    };
    routes.into_iter().fold(router, add).with_state(Arc::clone(&app))
}
