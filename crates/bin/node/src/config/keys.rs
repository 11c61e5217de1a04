//! Every setting of `run`: its name, type, default and meaning, in one table.
//!
//! The flag is `--name`, the file key is the name with dots as tables, the environment variable is
//! `AEQUA_` and the name in upper case with `.` and `-` turned into `_`.

use super::ENV_PREFIX;

/// What a setting's text must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// true or false.
    Switch,
    /// An integer from the first to the second bound.
    Number(i64, i64),
    /// Any text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Texts; the flag may be repeated.
    List,
}

/// Where a setting has its authority, and whether it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This node decides alone.
    Local,
    /// All operators share it: it lives in the cluster lock.
    Shared,
    /// Named by the contract; anything but the default is refused.
    Later,
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Name of flag and file key.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Text of the default; empty for lists and where the text says "none".
    pub default: &'static str,
    /// Its scope.
    pub scope: Scope,
    /// Help text.
    pub help: &'static str,
}

impl Key {
    /// Name of the environment variable.
    pub fn env(&self) -> String {
        format!("{ENV_PREFIX}{}", self.name.to_ascii_uppercase().replace(['.', '-'], "_"))
    }
}

/// Largest number a setting takes where nothing smaller is needed; TOML knows no larger integer.
const ANY: i64 = i64::MAX;

macro_rules! keys {
    ($($(#[$only:meta])* $id:ident = $name:literal, $kind:expr, $default:literal, $scope:ident, $help:literal;)*) => {
        $(
            $(#[$only])*
            #[allow(rustdoc::invalid_html_tags, reason = "help texts are shown by --help, `<x>` is a place holder")]
            #[doc = $help]
            pub const $id: Key = Key {
                name: $name, kind: $kind, default: $default, scope: Scope::$scope, help: $help,
            };
        )*
        /// All settings, in the order of the help text.
        pub const ALL: &[Key] = &[$($(#[$only])* $id),*];
    };
}

use Kind::{Choice, List, Number, Switch, Text};

keys! {
    VALIDATOR_API = "validator-api", Text, "127.0.0.1:4600", Local, "Address of REST and proxy";
    MONITORING = "monitoring", Text, "127.0.0.1:4620", Local, "Address of metrics, readiness and status";
    UPSTREAM = "upstream", Text, "", Local, "Base URL for everything no route takes";
    CONFIG = "config", Text, "", Local, "TOML file of settings [default: <data-dir>/node.toml if there is one]";
    DATA_DIR = "data-dir", Text, "./aequa-data", Local, "Folder of this operator: lock, keys, state";
    CLUSTER_LOCK = "cluster-lock", Text, "", Local, "Cluster lock [default: <data-dir>/cluster-lock.json]";
    KEYS_DIR = "keys-dir", Text, "", Local, "Keystores [default: <data-dir>/keys]";
    PASSWORD_FILE = "keys.password-file", Text, "", Local, "One password for all keystores [default: <keystore>.txt beside each]";
    OPERATOR = "operator", Number(0, 99), "", Local, "Index of this operator; must agree with its key [default: from the key]";
    DKG_REQUIRED = "dkg-required", Switch, "false", Local, "Do not start without a cluster lock";
    ENABLE_TX_API = "enable-tx-api", Switch, "false", Local, "Transaction routes";
    ENABLE_BUILDER = "enable-builder", Switch, "false", Local, "Deterministic builder";
    ENABLE_TSS = "enable-tss", Switch, "false", Local, "Threshold signing";
    ENABLE_TSS_SIGN = "enable-tss-sign", Switch, "false", Local, "Group seal on blocks (implied by --enable-tss)";
    TSS_MAX_SESSIONS = "tss.max-sessions", Number(0, ANY), "0", Local, "Most signing sessions open at a time, further ones wait; 0 = no limit";
    P2P_ENABLE = "p2p.enable", Switch, "", Local, "libp2p transport [default: true with more than one operator]";
    P2P_LISTEN = "p2p.listen", List, "", Local, "Multiaddr to listen on, repeatable; QUIC is on where one of it is given [default: /ip4/0.0.0.0/tcp/31000]";
    P2P_BOOTNODES = "p2p.bootnodes", Text, "", Local, "Comma list of multiaddrs, or a file with one per line";
    P2P_MAX_CONNS = "p2p.max-conns", Number(1, 65_535), "128", Local, "Most connections";
    P2P_RATE_LIMIT = "p2p.rate-limit", Number(0, 1_000_000), "0", Local, "Connection attempts per second and peer; 0 = off";
    P2P_SCORE_THRESHOLD = "p2p.score-threshold", Number(-1_000_000, 1_000_000), "0", Local, "Least score of a peer; 0 = off";
    P2P_ALLOW = "p2p.allow", List, "", Local, "Further peer ids to let in, comma list";
    MEMPOOL_MAX = "mempool.max", Number(1, 10_000_000), "65536", Local, "Most transactions kept";
    MEMPOOL_MAX_BYTES = "mempool.max-bytes", Number(65_536, ANY), "67108864", Local, "Most bytes of transactions kept";
    MEMPOOL_PER_SENDER = "mempool.per-sender", Number(1, 1_000_000), "64", Local, "Most transactions kept per sender and type";
    RECORD = "record", Switch, "false", Local, "Record all that is taken in, to be run again with dvt-node replay";
    RECORD_MAX_MIB = "record-max-mib", Number(1, 1_048_576), "256", Local, "Most disk taken by recordings, in MiB; those of earlier starts go first";
    STORAGE_KEEP_BLOCKS = "storage.keep-blocks", Number(0, ANY), "0", Local, "Blocks kept below the last checkpoint; 0 = all";
    STORAGE_ENCRYPT = "storage.encrypt", Switch, "false", Local, "Encrypt the values of the block store; decided when it is made";
    STORAGE_KEY_FILE = "storage.key-file", Text, "", Local, "File with the key of the block store, 64 hex digits [default: AEQUA_STORAGE_KEY]";
    STATE_THRESHOLD = "state.divergence-threshold", Number(0, 99), "0", Local, "Other members at one state root other than this node's that fence it, f+1 to n-1; 0 = f+1, and not below 2";
    API_HOSTS = "api.hosts", List, "", Local, "Names the listeners are asked under besides addresses and localhost, comma list";
    API_TRUSTED_PROXIES = "api.trusted-proxies", List, "", Local, "Addresses or networks whose X-Forwarded-For is believed, besides loopback, comma list";
    API_RATE_LIMIT = "api.rate-limit", Number(0, 1_000_000), "0", Local, "Requests per second and address, each transaction of a batch for one; 0 = off";
    #[cfg(feature = "e2e")]
    E2E_LISTEN = "e2e.listen", Text, "0.0.0.0:4610", Local, "Address of the test endpoint of consensus messages; test builds only";
    #[cfg(feature = "e2e")]
    E2E_TSS_LISTEN = "e2e.tss-listen", Text, "0.0.0.0:4611", Local, "Address of the test endpoint of signing; test builds only";
    #[cfg(feature = "e2e")]
    E2E_P2P_LISTEN = "e2e.p2p-listen", Text, "0.0.0.0:4615", Local, "Address of the test endpoint of peers; test builds only";
    LOG_LEVEL = "log.level", Choice(&["error", "warn", "info", "debug", "trace"]), "info", Local, "Least level logged";
    LOG_FORMAT = "log.format", Choice(&["json", "text"]), "json", Local, "Form of log lines";

    LEADER = "leader", Choice(&["round_robin", "vrf", "beacon"]), "round_robin", Shared, "Leader policy";
    ROUND_TIMEOUT_MS = "round-timeout-ms", Number(10, 3_600_000), "1000", Shared, "Length of round 0, doubled per round";
    ROUND_TIMEOUT_CAP_MS = "round-timeout-cap-ms", Number(10, 86_400_000), "60000", Shared, "Longest round";
    BLOCK_INTERVAL_MS = "block-interval-ms", Number(0, 3_600_000), "1000", Shared, "Least time between blocks; 0 = as fast as agreed";
    EMPTY_BLOCKS = "empty-blocks", Switch, "true", Shared, "Decide blocks without items";
    CHECKPOINT_INTERVAL = "checkpoint-interval", Number(1, 1_000_000), "100", Shared, "Heights between checkpoints";
    BUILDER_MAX_N = "builder.max-n", Number(0, 16_384), "0", Shared, "Items per block; 0 = 1024";
    BUILDER_WINDOW = "builder.window", Number(0, 16_384), "0", Shared, "Items per type; 0 = max-n";
    BUILDER_MIN_BID = "builder.min-bid", Number(0, ANY), "0", Shared, "Smallest bid taken";
    BUILDER_MIN_FEE = "builder.min-fee", Number(0, ANY), "0", Shared, "Smallest fee taken";
    BUILDER_MAX_BYTES = "builder.max-bytes", Number(67_584, 3_000_000), "1048576", Shared, "Byte budget of a block";

    BUILDER_BATCH = "builder.batch-ticks-ms", Number(0, ANY), "0", Later, "Batch length in consensus time";
    BUILDER_DFBA = "builder.use-dfba", Switch, "false", Later, "Pairing selection";
    P2P_NAT = "p2p.nat", Switch, "false", Later, "UPnP port mapping";
    P2P_OPEN_TX = "p2p.open-tx", Switch, "false", Later, "Transaction gossip from non-members";
    P2P_ADVERTISE_PRIVATE = "p2p.advertise-private", Switch, "false", Later, "Advertise private addresses";
    FEE_SINK = "fee-sink.webhook", Text, "", Later, "URL told of every block's fees";
    ENABLE_BEAST = "enable-beast", Switch, "false", Later, "Private transactions";
    BEAST_JSON = "beast.json", Switch, "false", Later, "Test builds only";
    BEAST_CONF = "beast.conf", Text, "", Later, "Key configuration of private transactions";
    BEAST_DKG_CONF = "beast.dkg.conf", Text, "", Later, "DKG configuration of private transactions";
    TSS_STATE_SYNC = "enable-tss-state-sync", Switch, "false", Later, "Require the group seal on synced headers";
    STATE_PEERS = "state.peers", Text, "", Later, "Peers to compare state roots with";
    STATE_GOSSIP = "state.gossip-interval-ms", Number(0, ANY), "0", Later, "Time between state-root announcements";
    STATE_RECONCILE = "state.auto-reconcile", Switch, "", Later, "Repair a fenced node by itself";
    ETH_ENABLE = "eth.enable", Switch, "false", Later, "Ethereum duties";
    ETH_BEACON_NODES = "eth.beacon-nodes", Text, "", Later, "Beacon nodes";
    ETH_BUILDER_API = "eth.builder-api", Switch, "false", Later, "Builder API";
    ETH_GRAFFITI = "eth.graffiti", Text, "", Later, "Graffiti";
    REMOTE_SIGNER = "remote-signer.listen", Text, "", Later, "Address of the remote signer";
    GRPC = "grpc.listen", Text, "", Later, "Address of gRPC";
    TLS_CERT = "tls.cert", Text, "", Later, "TLS certificate";
    TLS_KEY = "tls.key", Text, "", Later, "TLS key";
    TLS_CLIENT_CA = "tls.client-ca", Text, "", Later, "CA of TLS clients";
    API_TOKEN_FILE = "api.token-file", Text, "", Later, "Bearer token of the API";
    OTLP = "otlp.endpoint", Text, "", Later, "Endpoint of traces";
}

/// The setting of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    ALL.iter().find(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_variables_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|key| key.env()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn a_variable_is_the_upper_case_name() {
        assert_eq!(P2P_MAX_CONNS.env(), "AEQUA_P2P_MAX_CONNS");
        assert_eq!(ENABLE_TSS_SIGN.env(), "AEQUA_ENABLE_TSS_SIGN");
    }
}
