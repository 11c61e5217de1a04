//! The two listeners.

use crate::activity::{Busy, Overdue, Watched, WatchedBody};
use crate::app::{monitoring_router, validator_router};
use crate::backend::{Backend, Options};
use crate::clients::Client;
use crate::connections::monitoring_max;
use crate::door::{Door, TurnedAway};
use crate::error::ApiError;
use crate::guard::Guard;
use crate::held::holding;
use crate::observe::Arrival;
use aequa_telemetry::metrics::elapsed_ms;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
/// Most clients that are told at once why they are turned away: each still holds a descriptor.
pub(crate) const FAREWELLS_MAX: usize = 32;
/// How long such a client may take to hear it.
const FAREWELL_TIME: Duration = Duration::from_secs(1);
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
        let options = &config.options;
        let guard = Guard::new(&options.hosts);
        let door = |service, options: &Options| {
            Door::new(service, Arc::clone(backend.metrics()), guard.clone(), options)
        };

        let (api, stopping) = (door("api", options), CancellationToken::new());
        let router = validator_router(Arc::clone(&backend), Arc::clone(&api), options, stopping.clone())?;
        let validator_api = Listener::start(api, &config.validator_api, router, stopping).await?;

        let connections_max = monitoring_max(options.connections_max);
        let monitoring = door("monitoring", &Options { connections_max, ..options.clone() });
        let router = monitoring_router(Arc::clone(&backend), Arc::clone(&monitoring));
        let stopping = CancellationToken::new();
        let monitoring = Listener::start(monitoring, &config.monitoring, router, stopping).await?;
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
    door: Arc<Door>,
    address: SocketAddr,
    stopping: CancellationToken,
    task: JoinHandle<()>,
}

impl Listener {
    pub async fn start(
        door: Arc<Door>,
        addr: &str,
        router: Router,
        stopping: CancellationToken,
    ) -> Result<Self, ApiError> {
        let start = Instant::now();
        let service = door.service;
        let bound = match TcpListener::bind(addr).await {
            Ok(socket) => socket.local_addr().map(|address| (socket, address)),
            Err(error) => Err(error),
        };
        let (socket, address) = bound.map_err(|source| {
            report_op(&door, "start", start, Some(&source));
            ApiError::Bind { service, addr: addr.to_owned(), source }
        })?;
        report_op(&door, "start", start, None);
        if address.ip().is_loopback() {
            tracing::info!(target: "event", service, addr = %address, "listen");
        } else {
            // Neither TLS nor a token stands before these routes.
            tracing::warn!(target: "event", service, addr = %address, "listen");
        }
        let hall = Hall { door: Arc::clone(&door), address, router, stopping: stopping.clone() };
        let task = tokio::spawn(Arc::new(hall).accept(socket));
        Ok(Self { door, address, stopping, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn stop(self) {
        let start = Instant::now();
        self.stopping.cancel();
        let _ = self.task.await;
        report_op(&self.door, "stop", start, None);
    }
}

fn report_op(door: &Door, op: &str, start: Instant, error: Option<&std::io::Error>) {
    let (service, latency_ms) = (door.service, elapsed_ms(start));
    door.metrics.service_op_ms.observe([service, op], latency_ms);
    match error {
        None => tracing::info!(target: "event", service, op, result = "ok", latency_ms, "service_op"),
        Some(err) => {
            tracing::error!(target: "event", service, op, result = "error", latency_ms, %err, "service_op");
        }
    }
}

/// What the connections of one listener share.
struct Hall {
    door: Arc<Door>,
    address: SocketAddr,
    router: Router,
    stopping: CancellationToken,
}

impl Hall {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let farewells = Arc::new(Semaphore::new(FAREWELLS_MAX));
        let tasks = TaskTracker::new();
        let abort = CancellationToken::new();
        // Whoever makes way still holds a descriptor until its task has run.
        let descriptors = Arc::new(Semaphore::new(self.door.connections.max() + FAREWELLS_MAX));
        loop {
            let accepted = tokio::select! {
                () = self.stopping.cancelled() => break,
                accepted = accept(&listener, &descriptors) => accepted,
            };
            let Ok((stream, peer, descriptor)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let client = self.door.clients.connecting(peer.ip());
            match self.door.connections.admit(client) {
                Ok((place, evicted)) => {
                    if let Some(evicted) = evicted {
                        self.door.turned_away(TurnedAway::Evicted, evicted);
                    }
                    let arrival = Arrival { peer, listener: self.address, place: Arc::new(place) };
                    let serve = Arc::clone(&self).serve(stream, client, arrival, Arc::clone(&farewells));
                    let abort = abort.clone();
                    tasks.spawn(async move {
                        abort.run_until_cancelled(serve).await;
                        drop(descriptor);
                    });
                }
                Err(full) => {
                    self.door.turned_away(full.into(), client);
                    if let Ok(permit) = Arc::clone(&farewells).try_acquire_owned() {
                        tasks.spawn(async move {
                            turn_away(stream, permit).await;
                            drop(descriptor);
                        });
                    }
                }
            }
        }
        drop(listener);
        tasks.close();
        if tokio::time::timeout(STOP_WITHIN, tasks.wait()).await.is_err() {
            abort.cancel();
            tasks.wait().await;
        }
    }

    /// Serves one connection until it ends, makes way for another, or its client is too slow.
    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        client: Client,
        arrival: Arrival,
        farewells: Arc<Semaphore>,
    ) {
        let _ = stream.set_nodelay(true);
        let place = Arc::clone(&arrival.place);
        let activity = Arc::clone(&place.activity);
        let io = TokioIo::new(Watched { inner: stream, activity: Arc::clone(&activity) });
        let router = self.router.clone();
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(arrival.clone());
            let activity = Arc::clone(&arrival.place.activity);
            let busy = activity.begin();
            answer(router.clone(), request.map(|body| Body::new(WatchedBody { body, activity })), busy)
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
                () = place.evicted.cancelled() => break,
                () = self.stopping.cancelled(), if !told_to_stop => {
                    told_to_stop = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = clock.tick() => {
                    if let Some(overdue) = activity.overdue(Instant::now()) {
                        self.door.overdue(overdue, client);
                        if overdue == Overdue::Idle {
                            return;
                        }
                        place.too_slow.cancel();
                        break;
                    }
                }
            }
        }
        // A request that has begun is answered; its place is somebody else's already, so few may do so at once.
        if let Some(_permit) = farewells.try_acquire().ok().filter(|_| activity.is_busy()) {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(FAREWELL_TIME, connection).await;
        }
    }
}

/// The next connection, once there is a descriptor for it.
async fn accept(
    listener: &TcpListener,
    descriptors: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let descriptor = Arc::clone(descriptors).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, descriptor))
}

/// Tells a client that there is no place, and waits for it to have read so.
async fn turn_away(mut stream: TcpStream, _permit: OwnedSemaphorePermit) {
    let body = r#"{"code":"TOO_MANY_CONNECTIONS","message":"no more connections are open at once, or by this client","trace_id":""}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\nRetry-After: 1\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let farewell = async {
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
        // Closed with bytes unread, the connection is reset, and the answer lost.
        let mut unread = [0; 4096];
        while matches!(stream.read(&mut unread).await, Ok(1..)) {}
    };
    let _ = tokio::time::timeout(FAREWELL_TIME, farewell).await;
}

async fn answer(
    router: Router,
    request: http::Request<Body>,
    busy: Busy,
) -> Result<http::Response<impl HttpBody<Data = Bytes, Error = axum::Error>>, Infallible> {
    let response = router.oneshot(request).await?;
    Ok(response.map(|body| holding(body, busy)))
}
