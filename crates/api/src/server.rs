//! The two listeners.

use crate::app::{monitoring_router, validator_router};
use crate::backend::{Backend, Options};
use crate::connections::{Busy, Connections, Place, Watched};
use crate::error::ApiError;
use crate::observe::Arrival;
use aequa_telemetry::Metrics;
use aequa_telemetry::metrics::elapsed_ms;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// Largest request head: any client's cookies and tokens, and no more.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// What a connection buffers in each direction: two heads, so that a thousand clients that do not read
/// hold 32 MiB.
const BUFFER_BYTES_MAX: usize = 32 * 1024;
/// How long requests in flight may take to end when the node stops: the node has 5 s for all of it, and its
/// core needs the rest.
pub const STOP_WITHIN: Duration = Duration::from_secs(3);
/// How often a connection looks at its own clock.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Pause after a failed accept: it fails again at once while file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where to listen, and with which options.
#[derive(Debug, Clone)]
pub struct Config {
    /// `--validator-api`: host and port.
    pub validator_api: String,
    /// `--monitoring`: host and port.
    pub monitoring: String,
    /// What the validator API offers.
    pub options: Options,
}

/// The running listeners. Dropping it lets them run; [`Server::stop`] ends them.
#[derive(Debug)]
pub struct Server {
    validator_api: Listener,
    monitoring: Listener,
}

impl Server {
    /// Binds both listeners and serves them.
    pub async fn start<B: Backend>(backend: Arc<B>, config: &Config) -> Result<Self, ApiError> {
        let metrics = Arc::clone(backend.metrics());
        let stopping = CancellationToken::new();
        let router = validator_router(Arc::clone(&backend), &config.options, stopping.clone())?;
        let validator_api =
            Listener::start("api", &config.validator_api, router, Arc::clone(&metrics), stopping).await?;
        let router = monitoring_router(backend, &config.options);
        let monitoring =
            Listener::start("monitoring", &config.monitoring, router, metrics, CancellationToken::new())
                .await?;
        Ok(Self { validator_api, monitoring })
    }

    /// Where the validator API listens.
    pub fn validator_api(&self) -> SocketAddr {
        self.validator_api.address()
    }

    /// Where monitoring listens.
    pub fn monitoring(&self) -> SocketAddr {
        self.monitoring.address()
    }

    /// Takes no more connections, lets requests in flight end within [`STOP_WITHIN`], and closes: both
    /// listeners together, so that slow clients of one do not add to those of the other.
    pub async fn stop(self) {
        tokio::join!(self.validator_api.stop(), self.monitoring.stop());
    }
}

#[derive(Debug)]
pub(crate) struct Listener {
    service: &'static str,
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
    task: JoinHandle<()>,
}

impl Listener {
    pub async fn start(
        service: &'static str,
        addr: &str,
        router: Router,
        metrics: Arc<Metrics>,
        stopping: CancellationToken,
    ) -> Result<Self, ApiError> {
        let start = Instant::now();
        let bound = match TcpListener::bind(addr).await {
            Ok(socket) => socket.local_addr().map(|address| (socket, address)),
            Err(error) => Err(error),
        };
        let (socket, address) = bound.map_err(|source| {
            report_op(&metrics, service, "start", start, Some(&source));
            ApiError::Bind { service, addr: addr.to_owned(), source }
        })?;
        report_op(&metrics, service, "start", start, None);
        if address.ip().is_loopback() {
            tracing::info!(target: "event", service, addr = %address, "listen");
        } else {
            // Neither TLS nor a token stands before these routes.
            tracing::warn!(target: "event", service, addr = %address, "listen");
        }
        let task = tokio::spawn(accept(socket, address, router, stopping.clone()));
        Ok(Self { service, address, metrics, stopping, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn stop(self) {
        let start = Instant::now();
        self.stopping.cancel();
        let _ = self.task.await;
        report_op(&self.metrics, self.service, "stop", start, None);
    }
}

fn report_op(metrics: &Metrics, service: &str, op: &str, start: Instant, error: Option<&std::io::Error>) {
    let latency_ms = elapsed_ms(start);
    metrics.service_op_ms.observe([service, op], latency_ms);
    match error {
        None => tracing::info!(target: "event", service, op, result = "ok", latency_ms, "service_op"),
        Some(err) => {
            tracing::error!(target: "event", service, op, result = "error", latency_ms, %err, "service_op");
        }
    }
}

async fn accept(listener: TcpListener, address: SocketAddr, router: Router, stopping: CancellationToken) {
    let connections = Arc::new(Connections::default());
    let tasks = TaskTracker::new();
    let abort = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                if let Some(place) = connections.admit(client.ip()) {
                    let arrival = Arrival { client, listener: address };
                    let serve = serve(stream, arrival, router.clone(), place, stopping.clone());
                    let abort = abort.clone();
                    tasks.spawn(async move { abort.run_until_cancelled(serve).await });
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(STOP_WITHIN, tasks.wait()).await.is_err() {
        abort.cancel();
        tasks.wait().await;
    }
}

/// Serves one connection until it ends, is evicted, or its client is too slow.
async fn serve(
    stream: TcpStream,
    arrival: Arrival,
    router: Router,
    place: Place,
    stopping: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let activity = Arc::clone(&place.activity);
    let io = TokioIo::new(Watched { inner: stream, activity: Arc::clone(&activity) });
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(arrival);
        answer(router.clone(), request, activity.begin())
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // Deadlines are kept by `Activity`, which tells a slow head from an idle connection.
        .header_read_timeout(None)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let mut clock = tokio::time::interval(LOOK_EVERY);
    let mut told_to_stop = false;
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = place.evicted.cancelled() => return,
            () = stopping.cancelled(), if !told_to_stop => {
                told_to_stop = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = clock.tick() => {
                if place.activity.is_overdue(Instant::now()) {
                    return;
                }
            }
        }
    }
}

async fn answer(
    router: Router,
    request: http::Request<Incoming>,
    busy: Busy,
) -> Result<http::Response<BusyBody>, Infallible> {
    let response = router.oneshot(request.map(Body::new)).await?;
    Ok(response.map(|body| BusyBody { body, _busy: busy }))
}

/// A body that keeps its connection busy until it is sent or given up.
struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
