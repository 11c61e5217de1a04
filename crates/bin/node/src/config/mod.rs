//! Configuration of the running node: from texts of four sources to one typed value.

mod exposure;
pub mod keys;
mod legacy;
mod shared;
mod sources;
#[cfg(test)]
mod tests;

pub use shared::{SharedParams, check_against_lock, check_shared, check_threshold};
pub use sources::{Settings, Source, check_value, not_in_this_version};

use crate::exit::ExitError;
use crate::files;
use aequa_telemetry::log::public_url;
use aequa_types::OperatorIndex;
use std::io::Read as _;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// Name of the configuration file in a data directory.
pub const NODE_FILE: &str = "node.toml";
/// Name of the lock in a data directory.
pub const LOCK_FILE: &str = "cluster-lock.json";
/// How our environment variables begin.
pub const ENV_PREFIX: &str = "AEQUA_";

/// Where the transport listens unless told otherwise. Not over QUIC: a first packet with a made-up source address
/// costs a handshake there.
const DEFAULT_LISTEN: &str = "/ip4/0.0.0.0/tcp/31000";
/// Largest file with settings in bytes; people write them by hand.
const INPUT_BYTES_MAX: usize = 1 << 20;

/// Everything a node needs to know to start.
#[derive(Debug, Clone, PartialEq)]
pub struct RunConfig {
    /// Address of REST and proxy.
    pub validator_api: SocketAddr,
    /// Address of metrics, readiness and status.
    pub monitoring: SocketAddr,
    /// Base URL for everything no route takes; http or https.
    pub upstream: Option<String>,
    /// Transaction routes are on.
    pub enable_tx_api: bool,
    /// The builder puts transactions into blocks.
    pub enable_builder: bool,
    /// Threshold signing is on.
    pub enable_tss: bool,
    /// Group seals on blocks are on even without `enable_tss`.
    pub enable_tss_sign: bool,
    /// Signing sessions that are open at a time; 0 = any number.
    pub sessions_max: usize,
    /// Peer to peer settings.
    pub p2p: P2pConfig,
    /// Transaction pool caps.
    pub mempool: MempoolConfig,
    /// Names the listeners are asked under, besides addresses and localhost.
    pub api_hosts: Vec<String>,
    /// Whose `X-Forwarded-For` is believed, besides loopback.
    pub api_trusted_proxies: Vec<aequa_api::Network>,
    /// Requests per second and address, each transaction of a batch for one; 0 = off.
    pub api_rate_limit: u32,
    /// Most bytes of the recording; none = nothing is recorded.
    pub record_bytes_max: Option<u64>,
    /// Blocks kept below the last checkpoint; all when there is no number.
    pub keep_blocks: Option<u64>,
    /// Whether the block store is encrypted.
    pub storage_encrypt: bool,
    /// File with its key.
    pub storage_key_file: Option<PathBuf>,
    /// Other members at one root other than ours that fence the node; the least number when there is none.
    pub divergence_threshold: Option<usize>,
    /// Folder of this operator.
    pub data_dir: PathBuf,
    /// Cluster lock.
    pub cluster_lock: PathBuf,
    /// Keystores.
    pub keys_dir: PathBuf,
    /// One password for all keystores.
    pub password_file: Option<PathBuf>,
    /// Index this operator claims; must agree with its key.
    pub operator: Option<OperatorIndex>,
    /// Do not start without a lock.
    pub dkg_required: bool,
    /// Parameters that must equal the lock, as far as they were given.
    pub shared: SharedParams,
    /// Test endpoints.
    #[cfg(feature = "e2e")]
    pub e2e: E2eConfig,
    /// Log settings.
    pub log: LogConfig,
    /// Every setting with its value and source, for the event `config`.
    pub report: Vec<ReportedSetting>,
    /// What to warn about once logging works.
    pub warnings: Vec<String>,
}

/// Peer to peer settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct P2pConfig {
    /// Explicit choice; none = on exactly when the lock has more than one operator.
    pub enable: Option<bool>,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Multiaddrs to dial besides those of the lock.
    pub bootnodes: Vec<String>,
    /// Most connections.
    pub max_conns: u32,
    /// Connection attempts per second and peer; 0 = off.
    pub rate_limit: u32,
    /// Least score of a peer; 0 = off.
    pub score_threshold: i64,
    /// Further peer ids to let in.
    pub allow: Vec<String>,
}

/// Where the test endpoints listen.
#[cfg(feature = "e2e")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct E2eConfig {
    /// Consensus messages.
    pub listen: SocketAddr,
    /// Signing.
    pub tss_listen: SocketAddr,
    /// Made-up peers.
    pub p2p_listen: SocketAddr,
}

/// Transaction pool caps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MempoolConfig {
    /// Most transactions.
    pub max: usize,
    /// Most bytes.
    pub max_bytes: usize,
    /// Most transactions per sender and type.
    pub per_sender: usize,
}

/// Log settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// error, warn, info, debug or trace.
    pub level: String,
    /// json or text.
    pub format: String,
}

/// One line of the event `config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedSetting {
    /// Name of the setting.
    pub key: &'static str,
    /// Its value, credentials replaced.
    pub value: String,
    /// Where the value came from.
    pub source: Source,
}

impl RunConfig {
    /// Merges the command line with the environment, the configuration file and the defaults.
    pub fn resolve(
        flags: Settings,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ExitError> {
        let env: Vec<_> = env.into_iter().collect();
        legacy::check(
            |name| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()),
            |path| {
                let mut bytes = Vec::new();
                let file = files::open_input(Path::new(path), None)?;
                file.take(INPUT_BYTES_MAX as u64).read_to_end(&mut bytes).map(|_| bytes)
            },
        )?;
        let mut settings = flags;
        let unknown = settings.add_env(env)?;
        let mut warnings: Vec<String> = unknown
            .into_iter()
            .map(|name| format!("environment variable {name} matches no setting and has no effect"))
            .collect();
        let beside_data = PathBuf::from(settings.text(keys::DATA_DIR)).join(NODE_FILE);
        match settings.text_option(keys::CONFIG) {
            Some(path) => settings.add_file(Path::new(&path), None)?,
            None if files::is_there(&beside_data) => settings.add_file(&beside_data, beside_data.parent())?,
            None => {}
        }
        warnings.extend(exposure::check(&settings)?);
        settings.refuse_later()?;
        Self::from_settings(&settings, warnings)
    }

    /// Whether blocks carry a group seal instead of a list of commits.
    pub fn seals(&self) -> bool {
        self.enable_tss || self.enable_tss_sign
    }

    fn from_settings(settings: &Settings, warnings: Vec<String>) -> Result<Self, ExitError> {
        let data_dir = PathBuf::from(settings.text(keys::DATA_DIR));
        let path =
            |key, name: &str| settings.text_option(key).map_or_else(|| data_dir.join(name), PathBuf::from);
        let operator = settings.is_given(keys::OPERATOR).then(|| settings.unsigned(keys::OPERATOR));
        Ok(Self {
            validator_api: address(settings, keys::VALIDATOR_API)?,
            monitoring: address(settings, keys::MONITORING)?,
            upstream: upstream(settings)?,
            enable_tx_api: settings.switch(keys::ENABLE_TX_API),
            enable_builder: settings.switch(keys::ENABLE_BUILDER),
            enable_tss: settings.switch(keys::ENABLE_TSS),
            enable_tss_sign: settings.switch(keys::ENABLE_TSS_SIGN),
            sessions_max: size(settings, keys::TSS_MAX_SESSIONS),
            p2p: p2p(settings)?,
            mempool: MempoolConfig {
                max: size(settings, keys::MEMPOOL_MAX),
                max_bytes: size(settings, keys::MEMPOOL_MAX_BYTES),
                per_sender: size(settings, keys::MEMPOOL_PER_SENDER),
            },
            api_hosts: hosts(settings)?,
            api_trusted_proxies: trusted_proxies(settings)?,
            api_rate_limit: small(settings, keys::API_RATE_LIMIT),
            keep_blocks: Some(settings.unsigned(keys::STORAGE_KEEP_BLOCKS)).filter(|kept| *kept > 0),
            storage_encrypt: settings.switch(keys::STORAGE_ENCRYPT),
            storage_key_file: settings.text_option(keys::STORAGE_KEY_FILE).map(PathBuf::from),
            divergence_threshold: Some(size(settings, keys::STATE_THRESHOLD)).filter(|members| *members > 0),
            record_bytes_max: settings
                .switch(keys::RECORD)
                .then(|| settings.unsigned(keys::RECORD_MAX_MIB).saturating_mul(1 << 20)),
            cluster_lock: path(keys::CLUSTER_LOCK, LOCK_FILE),
            keys_dir: path(keys::KEYS_DIR, "keys"),
            password_file: settings.text_option(keys::PASSWORD_FILE).map(PathBuf::from),
            operator: operator.and_then(|index| u8::try_from(index).ok()).map(OperatorIndex),
            dkg_required: settings.switch(keys::DKG_REQUIRED),
            shared: SharedParams::from_settings(settings),
            #[cfg(feature = "e2e")]
            e2e: E2eConfig {
                listen: address(settings, keys::E2E_LISTEN)?,
                tss_listen: address(settings, keys::E2E_TSS_LISTEN)?,
                p2p_listen: address(settings, keys::E2E_P2P_LISTEN)?,
            },
            log: LogConfig { level: settings.text(keys::LOG_LEVEL), format: settings.text(keys::LOG_FORMAT) },
            report: report(settings),
            warnings,
            data_dir,
        })
    }
}

fn size(settings: &Settings, key: keys::Key) -> usize {
    usize::try_from(settings.unsigned(key)).unwrap_or(usize::MAX)
}

fn small(settings: &Settings, key: keys::Key) -> u32 {
    u32::try_from(settings.unsigned(key)).unwrap_or(u32::MAX)
}

/// `host:port`; without a host, all interfaces.
fn address(settings: &Settings, key: keys::Key) -> Result<SocketAddr, ExitError> {
    let text = settings.text(key);
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.clone() };
    let fail = |why: String| {
        ExitError::usage(format!("--{}: \"{}\" is no host:port: {why}", key.name, public_url(&text)))
    };
    let mut found: Vec<_> = full.to_socket_addrs().map_err(|error| fail(error.to_string()))?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| fail("the name has no address".into()))
}

/// Names without port; a browser sends them as `Host`.
fn hosts(settings: &Settings) -> Result<Vec<String>, ExitError> {
    let hosts = settings.list(keys::API_HOSTS);
    let is_name =
        |host: &String| host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    match hosts.iter().find(|host| !is_name(host)) {
        Some(bad) => {
            Err(ExitError::usage(format!("--api.hosts: \"{}\" is no name of a host", public_url(bad)))
                .hint("a name looks like node.example, without scheme and port"))
        }
        None => Ok(hosts),
    }
}

fn trusted_proxies(settings: &Settings) -> Result<Vec<aequa_api::Network>, ExitError> {
    let parse = |text: &String| {
        text.parse().map_err(|error| ExitError::usage(format!("--api.trusted-proxies: \"{text}\" {error}")))
    };
    settings.list(keys::API_TRUSTED_PROXIES).iter().map(parse).collect()
}

fn upstream(settings: &Settings) -> Result<Option<String>, ExitError> {
    let Some(text) = settings.text_option(keys::UPSTREAM) else { return Ok(None) };
    let fail = |why: String| ExitError::usage(format!("--upstream: not a usable URL: {why}"));
    let url = reqwest::Url::parse(&text).map_err(|error| fail(error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(Some(text)),
        _ => Err(fail("it must begin with http:// or https:// and name a host".into())),
    }
}

fn p2p(settings: &Settings) -> Result<P2pConfig, ExitError> {
    let listen = match settings.list(keys::P2P_LISTEN) {
        given if !given.is_empty() => given,
        _ => vec![DEFAULT_LISTEN.into()],
    };
    if let Some(bad) = listen.iter().find(|addr| !is_multiaddr(addr)) {
        return Err(ExitError::usage(format!("--p2p.listen: \"{}\" is no multiaddr", public_url(bad)))
            .hint(format!("a multiaddr looks like {DEFAULT_LISTEN}")));
    }
    Ok(P2pConfig {
        enable: settings.is_given(keys::P2P_ENABLE).then(|| settings.switch(keys::P2P_ENABLE)),
        listen,
        bootnodes: bootnodes(&settings.text(keys::P2P_BOOTNODES))?,
        max_conns: small(settings, keys::P2P_MAX_CONNS),
        rate_limit: small(settings, keys::P2P_RATE_LIMIT),
        score_threshold: settings.number(keys::P2P_SCORE_THRESHOLD),
        allow: settings.list(keys::P2P_ALLOW),
    })
}

/// A comma list of multiaddrs, or the path of a file with one per line and `#` comments.
fn bootnodes(text: &str) -> Result<Vec<String>, ExitError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let inline = text.split(',').all(|part| is_multiaddr(part.trim()));
    let content = match inline {
        true => text.replace(',', "\n"),
        false => files::read_input(Path::new(text), None, INPUT_BYTES_MAX).map_err(|error| {
            ExitError::usage(format!(
                "--p2p.bootnodes: \"{}\" is neither multiaddrs nor a readable file: {error}",
                public_url(text)
            ))
        })?,
    };
    let lines = content.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let addrs: Vec<String> = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    match addrs.iter().find(|addr| !is_multiaddr(addr)) {
        Some(bad) => {
            Err(ExitError::usage(format!("--p2p.bootnodes: \"{}\" is no multiaddr", public_url(bad))))
        }
        None => Ok(addrs),
    }
}

/// Tells a multiaddr from a path; the transport checks it fully.
fn is_multiaddr(text: &str) -> bool {
    let mut parts = text.split('/');
    parts.next() == Some("")
        && matches!(parts.next(), Some("ip4" | "ip6" | "dns" | "dns4" | "dns6" | "dnsaddr"))
        && parts.next().is_some_and(|host| !host.is_empty())
}

fn report(settings: &Settings) -> Vec<ReportedSetting> {
    let reported = |key: &'static keys::Key| {
        let value = match key.kind {
            keys::Kind::List => settings.list(*key).join(","),
            keys::Kind::Switch | keys::Kind::Number(..) | keys::Kind::Text | keys::Kind::Choice(_) => {
                settings.text(*key)
            }
        };
        ReportedSetting { key: key.name, value: public_url(&value), source: settings.source(*key) }
    };
    let matters = |key: &&'static keys::Key| match key.scope {
        keys::Scope::Local => true,
        // Without a word of ours, the lock decides and our default means nothing.
        keys::Scope::Shared => settings.is_given(**key),
        keys::Scope::Later => false,
    };
    keys::ALL.iter().filter(matters).map(reported).collect()
}
