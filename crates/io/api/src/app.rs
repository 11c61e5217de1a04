//! What all handlers share, and the routers of the two listeners.

use crate::backend::{Backend, Options};
use crate::door::Door;
use crate::error::ApiError;
use crate::limits::RateLimiter;
use crate::proxy::Proxy;
use crate::{observe, routes};
use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// State of one listener.
pub(crate) struct App<B> {
    pub backend: Arc<B>,
    pub door: Arc<Door>,
    pub proxy: Option<Proxy>,
    pub rate: Option<RateLimiter>,
    /// Set when the listener stops: event streams end themselves.
    pub stopping: CancellationToken,
}

/// The state as handlers take it.
pub(crate) type Shared<B> = State<Arc<App<B>>>;

/// Routes of the validator API; every other path goes to the proxy.
pub(crate) fn validator_router<B: Backend>(
    backend: Arc<B>,
    door: Arc<Door>,
    options: &Options,
    stopping: CancellationToken,
) -> Result<Router, ApiError> {
    let proxy = options.upstream.clone().map(Proxy::new).transpose()?;
    let app = Arc::new(App { backend, door, proxy, rate: RateLimiter::new(options.rate_limit), stopping });
    let mut router = Router::new()
        .merge(routes::health::router())
        .merge(routes::duty::router())
        .merge(routes::chain::router())
        .merge(routes::evidence::router())
        .merge(routes::events::router())
        .merge(routes::openapi::router(options.tx_api));
    if options.tx_api {
        router = router.merge(routes::tx::router());
    }
    Ok(finish(router, app))
}

/// Routes of the monitoring listener.
pub(crate) fn monitoring_router<B: Backend>(backend: Arc<B>, door: Arc<Door>) -> Router {
    finish(routes::health::router().merge(routes::metrics::router()), bare(backend, door))
}

/// Test routes, with everything around them that other routes have.
#[cfg(feature = "e2e")]
pub(crate) fn test_router<B: Backend>(
    backend: Arc<B>,
    door: Arc<Door>,
    routes: Router<Arc<App<B>>>,
) -> Router {
    finish(routes, bare(backend, door))
}

/// A listener without proxy, streams and rate limit.
fn bare<B: Backend>(backend: Arc<B>, door: Arc<Door>) -> Arc<App<B>> {
    Arc::new(App { backend, door, proxy: None, rate: None, stopping: CancellationToken::new() })
}

fn finish<B: Backend>(router: Router<Arc<App<B>>>, app: Arc<App<B>>) -> Router {
    router
        .fallback(crate::proxy::fallback)
        .layer(from_fn_with_state(Arc::clone(&app), observe::observe))
        .with_state(app)
}
