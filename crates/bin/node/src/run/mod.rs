//! The running node: one wiring function, one room per thread.
//!
//! ```text
//!   p2p reader tasks ──▶ network::Inbox ──┐                      ┌──▶ outbox::Outbox ──▶ p2p
//!   http tasks ────────▶ backend ─────────┼─▶ core (one thread) ─┼──▶ ledger (store, flush thread)
//!   seals (one thread) ───────────────────┘   replica + vote log └──▶ observe (metrics, logs, events)
//! ```
//!
//! | room | what may be touched in it |
//! |---|---|
//! | `core` | commands to turns of the host, and its ports; nothing else touches the replica or the vote log |
//! | `signals`, `last_words` | being told to stop, from the first moment on; ending with a last line |
//! | `open` | what a start reads from disk, and when it refuses |
//! | `command` | what the core is asked to do |
//! | `network`, `accepted` | frames to inputs |
//! | `outbox`, `wanted` | outputs to frames |
//! | `sync`, `testimony`, `answers` | questions to members, and theirs |
//! | `context` | what these rooms share |
//! | `epoch` | the end of an epoch, and the change to the next |
//! | `budget` | what a member may cost |
//! | `e2e` | the test endpoints, in builds with the feature of that name only |
//! | `descriptors` | how many files and sockets the process may open, and who gets them |
//! | `seals`, `sessions`, `ledger` | sealing, how long that takes and how it ends, storing |
//! | `recorder` | the journal of `--record`, on a thread of its own; never a reason to stop |
//! | `audit` | the audit log; never a reason to stop either |
//! | `backend`, `duty_view`, `account_proof`, `checkpoint`, `facts`, `observe`, `readiness`, `events` | what the outside may see |

mod accepted;
mod account_proof;
mod answers;
mod audit;
mod backend;
mod budget;
mod checkpoint;
mod command;
mod context;
mod core;
mod descriptors;
mod disk;
mod duty_view;
#[cfg(feature = "e2e")]
mod e2e;
mod epoch;
mod events;
mod facts;
mod fence;
#[cfg(test)]
mod fixture;
mod inspect;
mod keys;
mod last_words;
mod ledger;
mod network;
mod observe;
mod open;
mod outbox;
mod readiness;
mod recorder;
mod seals;
mod sessions;
mod signals;
mod snapshot;
#[cfg(test)]
mod stress;
mod submit;
mod sync;
mod testimony;
mod wanted;
mod wire_metrics;

use crate::allocator;
use crate::audit::entries;
use crate::config::{LOCK_FILE, RunConfig};
use crate::epochs;
use crate::exit::ExitError;
use crate::keys::{Operator, load_operator};
use aequa_host::{Host, HostError};
use aequa_p2p::Network;
use aequa_replica::{Halt, elector};
use aequa_storage::StorageError;
use aequa_telemetry::Metrics;
use aequa_types::{BuilderPolicy, OperatorIndex};
pub use signals::Signals;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// What a node promises: requests in flight, the core's turn, and the farewell to its peers all end within
/// this. Whoever takes longer takes it from those after it.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Runs a node until it is stopped.
pub fn run(config: RunConfig, signals: Signals) -> Result<(), ExitError> {
    let format = config.log.format.parse().map_err(ExitError::usage)?;
    let level = config.log.level.parse().map_err(ExitError::usage)?;
    let log = aequa_telemetry::log::init(format, level).map_err(ExitError::failure)?;
    descriptors::raise();
    allocator::give_back_now_and_then().map_err(ExitError::failure)?;
    signals.log_to(log.clone());
    last_words::end_on_panic(log.clone());
    announce(&config);
    epochs::complete(&config.data_dir, &config.keys_dir)?;
    let runtime = crate::runtime()?;
    let (data_dir, keys_dir) = (config.data_dir.clone(), config.keys_dir.clone());
    let audit = audit::Audit::start(data_dir.clone()).map_err(ExitError::failure)?;
    let mut result = runtime.block_on(serve(config, &signals, audit.clone()));
    runtime.shutdown_timeout(Duration::from_secs(1));
    audit.end(&result);
    if let Ok(ending) = result
        && !signals.is_stop_requested()
    {
        log.flush();
        let failed = match ending {
            Ending::NextEpoch(place) => Some(epoch::change(&data_dir, &keys_dir, place)),
            Ending::NewerState | Ending::Fenced | Ending::DiskUsable => Some(again(ending.reason())),
            Ending::Stopped | Ending::Left => None,
        };
        result = failed.map_or(Ok(ending), Err);
    }
    if let Err(error) = &result {
        tracing::error!(target: "event", err = %error.message, hint = %error.hint, "fatal");
    }
    log.flush();
    result.map(drop)
}

/// Why a node ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It was told to.
    Stopped,
    /// Its epoch is over; in the next one it has this place.
    NextEpoch(OperatorIndex),
    /// Its epoch is over, and in the next one it has none.
    Left,
    /// A store with a newer state is complete, and takes the place of the present one.
    NewerState,
    /// The node has fenced itself, and has its state again from the others.
    Fenced,
    /// The disk can be used again.
    DiskUsable,
}

impl Ending {
    /// The reason in words.
    fn reason(self) -> &'static str {
        match self {
            Self::Stopped => "told to stop",
            Self::NextEpoch(_) => "the next epoch begins",
            Self::Left => "the operator has left the cluster",
            Self::NewerState => "a newer state is complete",
            Self::Fenced => "the node has fenced itself",
            Self::DiskUsable => "the disk can be used again",
        }
    }
}

/// Begins again: the same program with the same arguments, in this process. Only an error comes back.
fn again(why: &str) -> ExitError {
    // The file this process runs from, also where another version has taken its name.
    let error = Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).exec();
    ExitError::failure(format!("{why}, and the node does not start: {error}")).hint("start it again")
}

/// Logs the configuration with the source of every key, and what to warn about.
fn announce(config: &RunConfig) {
    let settings: serde_json::Map<String, serde_json::Value> =
        config.report.iter().map(|setting| (setting.key.into(), setting.value.clone().into())).collect();
    let sources: serde_json::Map<String, serde_json::Value> = config
        .report
        .iter()
        .map(|setting| (setting.key.into(), format!("{:?}", setting.source).to_lowercase().into()))
        .collect();
    tracing::info!(
        target: "event",
        config = aequa_telemetry::log::json(&settings),
        source = aequa_telemetry::log::json(&sources),
        "config"
    );
    for warning in &config.warnings {
        tracing::warn!(target: "event", text = %warning, "warning");
    }
}

/// Logs and counts the builder policy, when this node builds blocks.
fn announce_policy(config: &RunConfig, operator: &Operator, metrics: &Metrics) {
    if !config.enable_builder {
        return;
    }
    let policy = &operator.lock.lock().consensus.params.builder;
    let result = if *policy == BuilderPolicy::default() { "default" } else { "custom" };
    metrics.builder_policy_total.inc([result]);
    let order: Vec<&str> = policy.order.iter().map(|kind| kind.name()).collect();
    tracing::info!(
        target: "event",
        result,
        order = aequa_telemetry::log::json(&order),
        max_n = policy.max_n,
        use_dfba = policy.use_dfba,
        policy_hash = %policy.hash(),
        "consensus_builder_policy"
    );
}

async fn serve(config: RunConfig, signals: &Signals, audit: audit::Audit) -> Result<Ending, ExitError> {
    let started = Instant::now();
    let metrics = Arc::new(Metrics::new());
    let operator = load_operator(&config, &metrics)?;
    for warning in &operator.warnings {
        tracing::warn!(target: "event", text = %warning, "warning");
    }
    if operator.newly_made {
        let text = "no cluster lock found: made a cluster of one operator in the data directory";
        tracing::warn!(target: "event", text, "warning");
    }
    let mut opened = match open::open(&config, &operator, &metrics) {
        Ok(opened) => opened,
        Err(open::NotOpened::Refused(error)) => return Err(error),
        Err(open::NotOpened::Diverged(found)) => {
            fence::set(&config.data_dir, &found, &[])?;
            return Ok(Ending::Fenced);
        }
    };
    let (core_queue, commands) = mpsc::channel(command::QUEUE_MAX);
    let tip = *opened.chain.tip();
    if operator.newly_made {
        audit.record(entries::shares_made(&operator.lock, operator.index));
    }
    audit.record(entries::started(&config, &operator, &tip));
    let events = events::Events::new(tip.height);
    announce_policy(&config, &operator, &metrics);

    let facts = Arc::new(facts::Facts::new(operator.lock.quorum(), peers(&operator), tip.height, tip.digest));
    let context = Arc::new(context::Context {
        me: operator.index,
        quorum: operator.lock.quorum(),
        checkpoint_interval: operator.lock.lock().consensus.params.checkpoint_interval.max(1),
        elector: elector(operator.lock.lock().consensus.params.leader, operator.lock.quorum()),
        status: open::status(&operator),
        locks: std::mem::take(&mut opened.locks),
        verifier: Arc::clone(&opened.verifier),
        store: Arc::clone(&opened.store),
        facts: Arc::clone(&facts),
        metrics: Arc::clone(&metrics),
        core: core_queue.clone(),
        wanted: Default::default(),
        budgets: budget::Budgets::new(operator.lock.quorum()),
        given: Default::default(),
        warnings: Default::default(),
    });

    let inbox = Arc::new(network::Inbox::new(Arc::clone(&context), config.seals()));
    inbox.watch();
    let network = start_network(&config, &operator, &context, &inbox)?.map(Arc::new);
    let weak = network.as_ref().map(Arc::downgrade).unwrap_or_default();
    let outbox = outbox::Outbox::start(weak.clone(), Arc::clone(&context));
    let backend = Arc::new(backend::NodeBackend {
        context: Arc::clone(&context),
        events: events.sender().clone(),
        cluster: operator.lock.lock().to_json().into(),
        features: features(&config),
        started,
        reads: Default::default(),
        checks: Default::default(),
    });
    let server = start_api(&config, Arc::clone(&backend)).await?;
    #[cfg(feature = "e2e")]
    let tests = e2e::start(&config, &operator, Arc::clone(&backend), inbox, weak.clone()).await?;

    // Without --enable-tss it has nothing to do.
    let counted = config.seals().then(|| Arc::clone(&metrics));
    let seals = seals::SealWorker::start(&operator.lock, config.sessions_max, counted, core_queue.clone())
        .map_err(ExitError::failure)?;
    let ledger = ledger::Ledger::start(
        Arc::clone(&opened.store),
        config.data_dir.clone(),
        context.checkpoint_interval,
        config.keep_blocks,
        Arc::clone(&metrics),
        core_queue.clone(),
    )
    .map_err(ExitError::failure)?;
    let recorder = match config.record_bytes_max {
        None => recorder::Recorder::off(),
        Some(bytes_max) => {
            let dir = opened.data_dir.journal_dir();
            recorder::Recorder::open(&dir, operator.lock.cluster_id(), operator.index, bytes_max)
        }
    };
    let over = epoch::Epoch {
        data_dir: config.data_dir.clone(),
        lock: operator.lock.clone(),
        is_movable: config.cluster_lock == config.data_dir.join(LOCK_FILE)
            && config.keys_dir == config.data_dir.join("keys"),
        context: Arc::clone(&context),
    };
    let joining = snapshot::Joining {
        options: open::chain_options(&config, &operator.lock)?,
        chain_dir: opened.data_dir.chain_dir(),
        network: weak.clone(),
        context: Arc::clone(&context),
        keeps_all: config.keep_blocks.is_none(),
    };
    // What the store cannot tell is told when the next one is stable.
    let stable = checkpoint::last(&opened.store, context.checkpoint_interval, tip.height);
    stable.ok().flatten().into_iter().for_each(|stable| facts.set_stable_checkpoint(stable));
    let (config_data_dir, opened_fence) = (config.data_dir.clone(), opened.fence.take());
    facts.set_fence(opened_fence.clone());
    let open::Restored { mut replica, recording, votes, data_dir } =
        opened.into_replica(&config, operator)?;
    if let Some(members) = config.divergence_threshold {
        replica = replica.diverging_at(members);
    }
    facts.set_rejoining(replica.is_rejoining());
    let host = Host::new(replica);
    let host = match recording {
        Some((start, state)) => host.recorded(start, state),
        None => host,
    };
    let thread = core::CoreThread {
        host,
        facts: Arc::clone(&facts),
        ports: core::NodePorts {
            data_dir,
            votes: core::NodeVotes(votes),
            ledger,
            recorder,
            outbox,
            seals,
            observatory: observe::Observatory::new(
                Arc::clone(&metrics),
                events.clone(),
                Arc::clone(&facts),
                config.seals(),
            ),
            audited: audit::AuditedNotices {
                audit: audit.clone(),
                checkpoint_interval: context.checkpoint_interval,
            },
            facts: Arc::clone(&facts),
            started,
            owed: core::Owed::default(),
        },
    };
    let mut ended = spawn_core(thread, commands)?;
    if network.is_some() {
        sync::watch_peers(&weak, &context);
    }
    facts.set_started();
    signals.runs();
    tokio::spawn(readiness::watch(Arc::downgrade(&backend), events.clone()));
    tokio::spawn(readiness::probe(Arc::downgrade(&backend)));

    if let Some(mark) = opened_fence {
        tokio::spawn(fence::watch(Arc::clone(&context), mark, config_data_dir.clone()));
    }
    let can_repair = fence::can_repair(context.quorum);
    let (mut ending, mut diverged) = (Ending::Stopped, None);
    let told = async {
        tokio::select! {
            () = signals.stop_requested() => {}
            found = inspect::damage(Arc::clone(&context)), if can_repair => diverged = Some(found),
            place = over.over() => ending = place.map_or(Ending::Left, Ending::NextEpoch),
            () = joining.ready() => ending = Ending::NewerState,
        }
    };
    let (mut outcome, mut deadline) = tokio::select! {
        outcome = &mut ended => (outcome, tokio::time::Instant::now() + STOP_WITHIN),
        () = told => {
            let deadline = tokio::time::Instant::now() + STOP_WITHIN;
            facts.set_stopping();
            readiness::tell_stopping(&backend, &events);
            #[cfg(feature = "e2e")]
            tokio::join!(server.stop(), tests.stop());
            #[cfg(not(feature = "e2e"))]
            server.stop().await;
            let core = async {
                // The core may have ended by itself a moment ago.
                let _ = core_queue.send(command::Command::Stop).await;
                ended.await
            };
            let outcome = match tokio::time::timeout_at(deadline, core).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    let late = format!("the core did not stop within {STOP_WITHIN:?}");
                    return Err(ExitError::failure(late).hint("see the log before starting it again"));
                }
            };
            (outcome, deadline)
        }
    };
    if let Ok(Err(error)) = &outcome {
        facts.set_storage_failed();
        audit.core_ended(error);
        if disk::may_pass(error) {
            let text = format!("the node signs nothing until the disk can be used again: {error}");
            tracing::error!(target: "event", err = %error, text, "warning");
            tokio::select! {
                () = signals.stop_requested() => {}
                () = disk::usable(config_data_dir.clone()) => ending = Ending::DiskUsable,
            }
            (outcome, deadline) = (Ok(Ok(())), tokio::time::Instant::now() + STOP_WITHIN);
        } else if can_repair {
            diverged = fence::Divergence::of(error, facts.tip_height());
        }
    }
    if let Some(network) = network.and_then(Arc::into_inner) {
        let start = Instant::now();
        // Cut short it loses a farewell: peers notice the closed connections.
        if tokio::time::timeout_at(deadline, network.shutdown()).await.is_ok() {
            report_op(&metrics, "p2p", "stop", start);
        }
    }
    if let Some(found) = diverged {
        let error = outcome.as_ref().ok().and_then(|ended| ended.as_ref().err());
        fence::set(&config_data_dir, &found, error.map(fence::backers).unwrap_or_default())?;
        return Ok(Ending::Fenced);
    }
    match outcome {
        Ok(Ok(())) => Ok(ending),
        Ok(Err(error)) => Err(unsafe_to_go_on(&error)),
        Err(_) => Err(ExitError::failure("the core thread died").hint("please report this with the log")),
    }
}

/// Why the core stopped, as an ending.
fn unsafe_to_go_on(error: &core::CoreError) -> ExitError {
    match error {
        HostError::Votes(refused @ StorageError::VoteRefused { .. }) => ExitError::refused(refused).hint(
            "the second gate held a contradiction back that the first one let pass: please report this with the log",
        ),
        HostError::Stop(halt @ Halt::SignedElsewhere { .. }) => ExitError::refused(halt).hint(
            "another process uses this operator's key, or this data directory is a copy or a backup older than \
             what the operator has signed: stop the other process, and never run two copies of a directory; \
             the next start asks the members what was signed and abstains from it",
        ),
        HostError::Stop(Halt::Impossible(_) | Halt::Diverged { .. })
        | HostError::Votes(_)
        | HostError::Members(_)
        | HostError::Store(_)
        | HostError::Directory(_) => ExitError::failure(error)
            .hint("the node stopped rather than go on unsafely; see the log before starting it again"),
    }
}

/// Runs the core on a thread of its own; the receiver hears how it ended.
fn spawn_core(
    thread: core::CoreThread,
    commands: mpsc::Receiver<command::Command>,
) -> Result<oneshot::Receiver<Result<(), core::CoreError>>, ExitError> {
    let (tell, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(ExitError::failure)?;
    let run = move || {
        let outcome = runtime.block_on(thread.run(commands));
        // Nobody listens any more when the process is being torn down.
        let _ = tell.send(outcome);
    };
    std::thread::Builder::new().name("core".into()).spawn(run).map_err(ExitError::failure)?;
    Ok(ended)
}

fn peers(operator: &Operator) -> Vec<facts::Peer> {
    let operators = &operator.lock.lock().operators;
    operators.iter().map(|o| facts::Peer { peer_id: o.peer_id.clone(), ..Default::default() }).collect()
}

fn features(config: &RunConfig) -> Vec<String> {
    let named = [
        ("tss", config.enable_tss),
        ("tss_sign", config.seals()),
        ("builder", config.enable_builder),
        ("tx_api", config.enable_tx_api),
        ("e2e", cfg!(feature = "e2e")),
    ];
    named.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned()).collect()
}

/// Counts and logs that a service has started or stopped.
fn report_op(metrics: &Metrics, service: &'static str, op: &'static str, start: Instant) {
    let latency_ms = aequa_telemetry::metrics::elapsed_ms(start);
    metrics.service_op_ms.observe([service, op], latency_ms);
    tracing::info!(target: "event", service, op, result = "ok", latency_ms, "service_op");
}

/// Joins the other operators; none in a cluster of one.
fn start_network(
    config: &RunConfig,
    operator: &Operator,
    context: &Arc<context::Context>,
    inbox: &Arc<network::Inbox>,
) -> Result<Option<Network>, ExitError> {
    let lock = operator.lock.lock();
    if lock.operators.len() < 2 && config.p2p.enable != Some(true) {
        return Ok(None);
    }
    let members = lock.operators.iter().map(|member| aequa_p2p::Member {
        operator: member.index,
        peer_id: member.peer_id.clone(),
        addrs: member.multiaddrs.clone(),
    });
    let seed = operator.identity.seed();
    let mut p2p = aequa_p2p::Config::new(&seed, lock.cluster_id, operator.index, members.collect());
    p2p.listen = config.p2p.listen.clone();
    p2p.allow = config.p2p.allow.clone();
    p2p.bootnodes = config.p2p.bootnodes.clone();
    p2p.max_conns = i64::from(config.p2p.max_conns);
    p2p.rate_limit = i64::from(config.p2p.rate_limit);
    p2p.score_threshold = config.p2p.score_threshold;
    p2p.dkg_required = config.dkg_required;
    let observer = Arc::new(wire_metrics::WireMetrics::new(Arc::clone(&context.metrics)));
    let checked = p2p.check();
    let result = if checked.is_ok() { "ok" } else { "error" };
    context.metrics.p2p_config_checks_total.inc([result]);
    if let Err(error) = checked {
        tracing::error!(target: "event", result, err = %error, "p2p_config");
        return Err(ExitError::usage(error));
    }
    let start = Instant::now();
    let network = aequa_p2p::start(p2p, Arc::clone(inbox) as _, observer).map_err(|error| {
        tracing::error!(target: "event", result = "error", err = %error, "p2p_start");
        let hint = if let aequa_p2p::P2pError::Listen { source, .. } = &error {
            cannot_listen(source, "--p2p.listen")
        } else {
            "see the log before this line".into()
        };
        ExitError::failure(error).hint(hint)
    })?;
    tracing::info!(target: "event", result = "ok", "p2p_start");
    report_op(&context.metrics, "p2p", "start", start);
    Ok(Some(network))
}

async fn start_api(
    config: &RunConfig,
    backend: Arc<backend::NodeBackend>,
) -> Result<aequa_api::Server, ExitError> {
    let upstream = config.upstream.as_deref().map(str::parse).transpose();
    let api = aequa_api::Config {
        validator_api: config.validator_api.to_string(),
        monitoring: config.monitoring.to_string(),
        options: aequa_api::Options {
            tx_api: config.enable_tx_api,
            upstream: upstream.map_err(|error| ExitError::usage(format!("--upstream: {error}")))?,
            hosts: config.api_hosts.clone(),
            trusted_proxies: config.api_trusted_proxies.clone(),
            connections_max: descriptors::api_connections(config.p2p.max_conns),
            rate_limit: config.api_rate_limit,
        },
    };
    aequa_api::Server::start(backend, &api).await.map_err(|error| {
        let hint = match &error {
            aequa_api::ApiError::Bind { source, .. } => {
                cannot_listen(source, "--validator-api or --monitoring")
            }
            aequa_api::ApiError::Upstream { .. } => "check --upstream".into(),
        };
        ExitError::failure(error).hint(hint)
    })
}

/// What to do when an address of these flags cannot be listened on.
#[allow(clippy::wildcard_enum_match_arm, reason = "kinds of errors of the system, which grow")]
fn cannot_listen(error: &io::Error, flags: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            format!("no interface of this machine has that address: change {flags}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need a privilege: choose another with {flags}, or grant it")
        }
        _ => format!("another process may hold the port: change {flags} or stop it"),
    }
}
