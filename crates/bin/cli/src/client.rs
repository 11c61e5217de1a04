//! Asks a node's API, as `tx`, `verify-*` and `devnet` do.

use aequa_node::config::keys::VALIDATOR_API;
use aequa_telemetry::log::public_url;
use aequa_types::json::ACCOUNT_PROOF_JSON_BYTES_MAX;
use aequa_types::limits::SYNC_FRAME_BYTES_MAX;
use aequa_types::{Address, CertifiedBlock, ClusterId, OperatorIndex, TxHash, TxKind};
use alloy_primitives::B256;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::IpAddr;
use std::time::Duration;

/// Longest wait for a connection: a node on the other side of the world needs a tenth of it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest silence of an event stream; the node writes a comment every 15 s.
const STREAM_TIMEOUT: Duration = Duration::from_secs(40);
/// Largest answer read that is not a block: nothing else comes near it.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Where a node of this machine answers unless it is told otherwise.
pub fn default_url() -> String {
    format!("http://{}", VALIDATOR_API.default)
}

/// A node at a URL. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct NodeClient {
    base: String,
    shown: String,
    http: reqwest::Client,
}

/// Why a node gave no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The URL is none.
    #[error("\"{url}\" is no http URL")]
    BadUrl {
        /// What was given.
        url: String,
    },
    /// No connection, or no answer in time.
    #[error("{url} does not answer: {why}")]
    Unreachable {
        /// Who was asked.
        url: String,
        /// What happened.
        why: String,
    },
    /// An answer with an error status.
    #[error("{message} ({status} {code})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Code of the API, or empty.
        code: String,
        /// The node's words.
        message: String,
    },
    /// An answer of another shape than the API's.
    #[error("{url} answered something else than expected: {why}")]
    Malformed {
        /// Who was asked.
        url: String,
        /// What was wrong.
        why: String,
    },
}

/// The part of `/status` used here.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeStatus {
    /// The cluster it says it is of.
    #[serde(default)]
    pub cluster_id: ClusterId,
    /// The operator it says it is.
    pub operator: Option<OperatorIndex>,
    /// Last decided height.
    pub height: u64,
    /// Round being agreed.
    #[serde(default)]
    pub round: u64,
    /// Whether it is ready.
    #[serde(default)]
    pub ready: bool,
    /// Why not.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// The other operators.
    #[serde(default)]
    pub peers: Vec<NodePeer>,
}

/// Another operator as a node sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct NodePeer {
    /// Whether a connection is open.
    pub connected: bool,
}

/// The part of `/v1/cluster` used here.
#[derive(Debug, Clone, Deserialize)]
pub struct ClusterInfo {
    /// EIP-712 chain id.
    pub chain_id: u64,
}

/// Answer to a submission.
#[derive(Debug, Clone, Deserialize)]
pub struct Submitted {
    /// Identifies the content.
    pub hash: TxHash,
    /// ok or future.
    pub result: String,
}

/// Where a transaction is.
#[derive(Debug, Clone, Deserialize)]
pub struct TxWhere {
    /// pending, future, included or dropped.
    pub status: String,
    /// Its block.
    pub height: Option<u64>,
    /// Its place there.
    pub index: Option<u64>,
    /// Why it was dropped.
    pub reason: Option<String>,
}

/// The part of `/v1/state-root` used here.
#[derive(Debug, Clone, Deserialize)]
pub struct StateRoot {
    /// Root of the state after the height asked for.
    pub root: B256,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl NodeClient {
    /// A client of the node at `url`, a base like `http://127.0.0.1:4600`.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::BadUrl { url: public_url(url) };
        let parsed = reqwest::Url::parse(url).map_err(|_| bad())?;
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err(bad());
        }
        let mut builder =
            reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(STREAM_TIMEOUT);
        if is_local(&parsed) {
            // A proxy of the environment cannot know this machine's ports.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|_| bad())?;
        let base = url.trim_end_matches('/');
        Ok(Self { base: base.to_owned(), shown: public_url(base), http })
    }

    /// Where the node is, without the secrets of its URL.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The node's view of itself.
    pub async fn status(&self) -> Result<NodeStatus, ClientError> {
        self.ask("/status").await
    }

    /// Public parts of the lock.
    pub async fn cluster(&self) -> Result<ClusterInfo, ClientError> {
        self.ask("/v1/cluster").await
    }

    /// The next nonce a transaction of this sender and type can have, pending ones counted.
    pub async fn next_nonce(&self, address: Address, kind: TxKind) -> Result<u64, ClientError> {
        #[derive(Deserialize)]
        struct Account {
            nonces: serde_json::Map<String, serde_json::Value>,
            #[serde(default)]
            pending: serde_json::Map<String, serde_json::Value>,
        }
        let account: Account = self.ask(&format!("/v1/accounts/0x{}", hex::encode(address))).await?;
        let count = |map: &serde_json::Map<String, serde_json::Value>| {
            map.get(kind.name()).and_then(serde_json::Value::as_u64).unwrap_or(0)
        };
        Ok(count(&account.nonces).saturating_add(count(&account.pending)))
    }

    /// Submits an envelope.
    pub async fn submit(&self, envelope: String) -> Result<Submitted, ClientError> {
        let request = self.http.post(format!("{}/v1/tx", self.base));
        let request = request.header("content-type", "application/json").body(envelope);
        let body = self.send(request.timeout(REQUEST_TIMEOUT), ANSWER_BYTES_MAX).await?;
        self.decode(&body)
    }

    /// Submits envelopes together; what each of them was answered, in their order.
    pub async fn submit_all(&self, envelopes: &[&str]) -> Result<Vec<Result<(), ClientError>>, ClientError> {
        #[derive(Deserialize)]
        struct Line {
            status: u16,
            #[serde(flatten)]
            error: ApiError,
        }
        let request = self.http.post(format!("{}/v1/txs", self.base));
        let request = request.header("content-type", "application/x-ndjson").body(envelopes.join("\n"));
        let body = self.send(request.timeout(REQUEST_TIMEOUT), ANSWER_BYTES_MAX).await?;
        let lines: Vec<Line> = self.decode(&body)?;
        if lines.len() != envelopes.len() {
            let why = format!("{} answers to {} transactions", lines.len(), envelopes.len());
            return Err(self.malformed(why));
        }
        let answer = |Line { status, error: ApiError { code, message } }| match status {
            200..300 => Ok(()),
            _ => Err(ClientError::Refused { status, code, message }),
        };
        Ok(lines.into_iter().map(answer).collect())
    }

    /// Where a transaction is; none when the node does not know it.
    pub async fn transaction(&self, hash: &str) -> Result<Option<TxWhere>, ClientError> {
        known(self.ask(&format!("/v1/tx/{hash}")).await)
    }

    /// A certified block as JSON text; none above the tip.
    pub async fn block(&self, height: u64) -> Result<Option<Vec<u8>>, ClientError> {
        let request = self.http.get(format!("{}/v1/blocks/{height}", self.base)).timeout(REQUEST_TIMEOUT);
        known(self.send(request, aequa_types::json::BLOCK_JSON_BYTES_MAX).await)
    }

    /// The same as it is stored, which is cheaper for both sides.
    pub async fn certified_block(&self, height: u64) -> Result<Option<CertifiedBlock>, ClientError> {
        let request = self.http.get(format!("{}/v1/blocks/{height}", self.base)).timeout(REQUEST_TIMEOUT);
        let request = request.header("accept", "application/octet-stream");
        let Some(body) = known(self.send(request, SYNC_FRAME_BYTES_MAX).await)? else { return Ok(None) };
        let block = aequa_types::decode("block", &body, SYNC_FRAME_BYTES_MAX);
        block.map(Some).map_err(|error| self.malformed(error.to_string()))
    }

    /// An address with its proof as JSON text.
    pub async fn account_proof(&self, address: &Address) -> Result<Vec<u8>, ClientError> {
        let url = format!("{}/v1/accounts/0x{}?proof=1", self.base, hex::encode(address));
        self.send(self.http.get(url).timeout(REQUEST_TIMEOUT), ACCOUNT_PROOF_JSON_BYTES_MAX).await
    }

    /// The state root after a height.
    pub async fn state_root(&self, height: u64) -> Result<StateRoot, ClientError> {
        self.ask(&format!("/v1/state-root?height={height}")).await
    }

    /// The stream of block events.
    pub async fn block_events(&self) -> Result<BlockEvents, ClientError> {
        let request = self.http.get(format!("{}/v1/events?topics=block", self.base));
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if !response.status().is_success() {
            return Err(refused(response.status().as_u16(), b""));
        }
        Ok(BlockEvents { response, buffer: Vec::new() })
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let request = self.http.get(format!("{}{path}", self.base)).timeout(REQUEST_TIMEOUT);
        let body = self.send(request, ANSWER_BYTES_MAX).await?;
        self.decode(&body)
    }

    async fn send(&self, request: reqwest::RequestBuilder, bytes_max: usize) -> Result<Vec<u8>, ClientError> {
        let mut response = request.send().await.map_err(|error| self.unreachable(error))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if body.len() + chunk.len() > bytes_max {
                return Err(self.malformed(format!("the answer is longer than {bytes_max} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        match response.status() {
            status if status.is_success() => Ok(body),
            status => Err(refused(status.as_u16(), &body)),
        }
    }

    fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.malformed(error.to_string()))
    }

    fn unreachable(&self, error: reqwest::Error) -> ClientError {
        let error = error.without_url();
        let mut why = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            why = inner.to_string();
            source = inner.source();
        }
        ClientError::Unreachable { url: self.shown.clone(), why }
    }

    fn malformed(&self, why: String) -> ClientError {
        ClientError::Malformed { url: self.shown.clone(), why }
    }
}

impl ClientError {
    /// Whether asking again, perhaps somebody else, can help.
    pub fn is_retryable(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } => true,
            ClientError::Refused { status, .. } => *status >= 500,
            ClientError::BadUrl { .. } | ClientError::Malformed { .. } => false,
        }
    }
}

/// Block events of one node.
#[derive(Debug)]
pub struct BlockEvents {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl BlockEvents {
    /// Height of the next block event; none when the stream ended.
    pub async fn next_height(&mut self) -> Option<u64> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if let Some(height) = event_height(&line) {
                    return Some(height);
                }
            }
            if self.buffer.len() > ANSWER_BYTES_MAX {
                return None;
            }
            self.buffer.extend_from_slice(&self.response.chunk().await.ok()??);
        }
    }
}

/// The height in a line `id: <height>-<n>`.
fn event_height(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix("id:")?.trim().split('-').next()?.parse().ok()
}

fn known<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(ClientError::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn refused(status: u16, body: &[u8]) -> ClientError {
    let ApiError { code, message } = serde_json::from_slice(body).unwrap_or_else(|_| ApiError {
        code: String::new(),
        message: String::from_utf8_lossy(&body[..body.len().min(256)]).trim().to_owned(),
    });
    let message = if message.is_empty() { "request refused".to_owned() } else { message };
    ClientError::Refused { status, code, message }
}

fn is_local(url: &reqwest::Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_make_a_client() {
        for bad in ["", "127.0.0.1:4600", "ftp://host", "http://"] {
            assert!(NodeClient::new(bad).is_err(), "{bad}");
        }
        assert_eq!(NodeClient::new("http://127.0.0.1:4600/").unwrap().shown(), "http://127.0.0.1:4600");
    }

    #[tokio::test]
    async fn an_error_does_not_show_the_secrets_of_a_url() {
        let bad = NodeClient::new("ftp://user:secret@host/secret").unwrap_err();
        // Port 9 of the own machine: nobody answers there, and at once.
        let node = NodeClient::new("http://user:secret@127.0.0.1:9/secret").unwrap();
        let silent = node.status().await.unwrap_err();
        for error in [bad, silent] {
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert_eq!(node.shown(), "http://***@127.0.0.1:9/***");
    }

    #[test]
    fn heights_are_read_from_event_ids() {
        assert_eq!(event_height(b"id: 42-0\n"), Some(42));
        assert_eq!(event_height(b"id:7-3\r\n"), Some(7));
        for other in [&b"data: {\"id\":1}\n"[..], b": comment\n", b"id: x-1\n", b"event: block\n"] {
            assert_eq!(event_height(other), None);
        }
    }

    #[test]
    fn an_error_body_is_told_in_the_nodes_words() {
        let error = refused(409, br#"{"code":"TX_OLD","message":"nonce 1 is below 2","trace_id":"x"}"#);
        assert_eq!(error.to_string(), "nonce 1 is below 2 (409 TX_OLD)");
        assert!(!error.is_retryable());
        assert!(refused(503, b"not ready\n").is_retryable());
    }
}
