//! A node made of memory, its listeners, and a raw HTTP client.
#![allow(clippy::unwrap_used, dead_code)]

use aequa_api::backend::*;
use aequa_api::{Config, Server};
use aequa_telemetry::Metrics;
use aequa_telemetry::metrics::Format;
use aequa_testkit::{at, block, commit, double_vote, plaintext, unsigned};
use aequa_types::json::{
    AccountProofJson, CheckpointJson, EvidenceJson, RowJson, RowProofJson, StateProofJson, TableJson,
    ValueJson,
};
use aequa_types::{
    Address, CertifiedBlock, CertifiedHeader, Digest, DutyId, DutyKind, Header, Height, OperatorIndex, Round,
    Slot, Transaction, TxBody, TxHash, TxKind,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::broadcast;

/// What the node answers, set by the tests.
pub struct Node {
    pub metrics: Arc<Metrics>,
    pub fenced: AtomicBool,
    pub dead: AtomicBool,
    /// Duties and transactions arrive and are never answered.
    pub stuck: AtomicBool,
    pub reasons: Mutex<Vec<NotReady>>,
    pub verdict: Mutex<Answer<Admission>>,
    /// Transactions with these nonces are duplicates.
    pub known_nonces: Mutex<Vec<u64>>,
    pub duty_answer: Mutex<Answer<()>>,
    pub submitted: Mutex<Vec<Transaction>>,
    pub duties: Mutex<Vec<DutyRequest>>,
    /// Where a search for duties ends early.
    pub duties_next: Mutex<Option<Slot>>,
    pub blocks: Mutex<BTreeMap<u64, Arc<CertifiedBlock>>>,
    pub pruned_below: Mutex<u64>,
    pub replaying: AtomicBool,
    pub evidence: Mutex<EvidenceView>,
    pub events: broadcast::Sender<Arc<Event>>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            metrics: Arc::new(Metrics::new()),
            fenced: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            reasons: Mutex::default(),
            verdict: Mutex::new(Ok(Admission::Ok)),
            known_nonces: Mutex::default(),
            duty_answer: Mutex::new(Ok(())),
            submitted: Mutex::default(),
            duties: Mutex::default(),
            duties_next: Mutex::default(),
            blocks: Mutex::default(),
            pruned_below: Mutex::new(0),
            replaying: AtomicBool::new(false),
            evidence: Mutex::default(),
            events: broadcast::channel(EVENT_QUEUE).0,
        }
    }
}

impl Node {
    /// Decides and announces the next block.
    pub fn decide(&self, items: Vec<Transaction>) -> Arc<CertifiedBlock> {
        let mut blocks = self.blocks.lock().unwrap();
        let block = certified(blocks.len() as u64 + 1, items);
        let height = block.block.header.height;
        blocks.insert(height.0, Arc::clone(&block));
        self.announce(height.0, 0, EventBody::Block(certified_header(&block)));
        block
    }

    pub fn announce(&self, height: u64, n: u64, body: EventBody) {
        let _ = self.events.send(Arc::new(Event::new(Height(height), n, body)));
    }

    fn readable(&self, height: Height) -> Answer<()> {
        if height.0 < *self.pruned_below.lock().unwrap() { Err(BackendError::Pruned) } else { Ok(()) }
    }
}

pub const SENDER: Address = Address::repeat_byte(0xab);

pub fn plain_tx(nonce: u64) -> Transaction {
    unsigned(plaintext(SENDER, nonce, 5))
}

pub fn certified(height: u64, items: Vec<Transaction>) -> Arc<CertifiedBlock> {
    let block = block(Digest::repeat_byte(1), height, Digest::repeat_byte(2), items);
    let certificate = commit(at(height), 0, block.header.digest()).certificate(0..3);
    Arc::new(CertifiedBlock { block, certificate })
}

/// A proof of the form proofs have; it proves nothing.
pub fn account_proof(certified: &CertifiedHeader) -> AccountProofJson {
    let (key, beside) = (vec![1; 22], vec![Digest::repeat_byte(5)]);
    let end = Some(RowJson { key: key.clone(), value: vec![7; 8] });
    let absent = RowProofJson { key: vec![3; 21], beside: beside.clone(), end: None };
    let state = StateProofJson {
        schema: 2,
        tables: vec![TableJson { number: 1, rows: 9 }],
        rows: vec![RowProofJson { key, beside, end }, absent],
    };
    AccountProofJson::new(state, certified)
}

pub fn certified_header(certified: &CertifiedBlock) -> CertifiedHeader {
    CertifiedHeader { header: certified.block.header.clone(), certificate: certified.certificate.clone() }
}

/// Heights between two checkpoints.
pub const CHECKPOINT_INTERVAL: u64 = 2;

/// The checkpoint of a block that is followed by `next`.
pub fn checkpoint(block: &CertifiedBlock, next: &CertifiedBlock) -> CheckpointJson {
    CheckpointJson::new(&certified_header(block), &certified_header(next), Digest::repeat_byte(8))
}

/// Evidence against operator 2 in block 7, and one more piece that is pending.
pub fn evidence_view() -> EvidenceView {
    let piece = |round| EvidenceJson::from(&*double_vote(2, at(6), round));
    let committed = vec![CommittedEvidence { committed_height: Height(7), evidence: piece(0) }];
    EvidenceView { committed, pending: vec![piece(1)], next: None }
}

pub fn duty_view(kind: DutyKind, slot: u64) -> DutyView {
    DutyView {
        kind,
        slot: Slot(slot),
        status: DutyStatus::Deciding,
        round: None,
        digest: None,
        value: None,
        signature: None,
        certificate: None,
        digests: Vec::new(),
        refused_by: vec![],
        reason: None,
        timeline: vec![DutyStep { t_ms: 1.5, step: "received".into() }],
    }
}

impl Backend for Node {
    fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    fn fenced(&self) -> bool {
        self.fenced.load(SeqCst)
    }

    fn readiness(&self) -> Readiness {
        Readiness { reasons: self.reasons.lock().unwrap().clone() }
    }

    async fn live(&self) -> bool {
        if self.dead.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        true
    }

    async fn status(&self) -> Status {
        Status {
            version: "0.1.0".into(),
            build: "test".into(),
            cluster_id: Digest::repeat_byte(1),
            operator: OperatorIndex(2),
            height: self.latest_height(),
            round: Round(0),
            leader: OperatorIndex(1),
            stable_checkpoint: self.stable_checkpoint(),
            operator_set_root: None,
            policy_hash: Digest::repeat_byte(3),
            fenced: self.fenced(),
            fence: self
                .fenced()
                .then(|| Fence { since: "2026-01-01T00:00:00Z".into(), reason: "2/4 peers".into() }),
            peers: vec![],
            live: false,
            ready: false,
            reasons: vec![],
            uptime_ms: 1,
            config_version: 1,
            features: vec![],
        }
    }

    fn cluster(&self) -> bytes::Bytes {
        json!({"cluster_id": Digest::repeat_byte(1), "threshold": 3}).to_string().into()
    }

    async fn submit(&self, transactions: Vec<Transaction>) -> Answer<Vec<Submission>> {
        let verdict = self.verdict.lock().unwrap().clone()?;
        let known = self.known_nonces.lock().unwrap().clone();
        let submission = |transaction: &Transaction| {
            let nonce = transaction.body.nonce();
            let result = if known.contains(&nonce) { Admission::Dup } else { verdict };
            let admitted = matches!(result, Admission::Ok | Admission::Future);
            Submission {
                hash: transaction.body.hash(),
                result,
                sender: transaction.body.from(),
                nonce,
                reason: (!admitted).then(|| format!("because {}", result.name())),
            }
        };
        let submissions = transactions.iter().map(submission).collect();
        self.submitted.lock().unwrap().extend(transactions);
        if self.stuck.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(submissions)
    }

    async fn transaction(&self, hash: TxHash) -> Answer<Option<TxView>> {
        let blocks = self.blocks.lock().unwrap();
        Ok(blocks.values().find_map(|certified| {
            let index = certified.block.items.iter().position(|item| item.body.hash() == hash)?;
            let height = Some(certified.block.header.height);
            Some(TxView { hash, status: TxStatus::Included, height, index: Some(index as u64), reason: None })
        }))
    }

    async fn account(&self, address: Address) -> Answer<AccountView> {
        let nonces = PerType { plaintext_v1: 7, ..PerType::default() };
        Ok(AccountView { address, nonces, pending: PerType::default() })
    }

    async fn account_proof(&self, _: Address) -> Answer<Option<AccountProofJson>> {
        let last = self.blocks.lock().unwrap().values().next_back().cloned();
        Ok(last.map(|certified| account_proof(&certified_header(&certified))))
    }

    async fn mempool(&self) -> Answer<MempoolView> {
        let counts = PoolCounts { pending: 2, future: 1, bytes: 400 };
        Ok(MempoolView([(TxKind::PlaintextV1, counts)].into()))
    }

    fn latest_height(&self) -> Height {
        Height(self.blocks.lock().unwrap().len() as u64)
    }

    async fn block(&self, height: Height) -> Answer<Option<Arc<CertifiedBlock>>> {
        self.readable(height)?;
        Ok(self.blocks.lock().unwrap().get(&height.0).cloned())
    }

    async fn certified_header(&self, height: Height) -> Answer<Option<CertifiedHeader>> {
        self.readable(height)?;
        Ok(self.blocks.lock().unwrap().get(&height.0).map(|certified| certified_header(certified)))
    }

    async fn headers(&self, from: Height, limit: usize) -> Answer<Vec<Header>> {
        self.readable(from)?;
        let blocks = self.blocks.lock().unwrap();
        Ok(blocks.range(from.0..).take(limit).map(|(_, certified)| certified.block.header.clone()).collect())
    }

    async fn state_root(&self, height: Height) -> Answer<Option<StateRootView>> {
        if self.replaying.load(SeqCst) {
            return Err(BackendError::NotReady);
        }
        self.readable(height)?;
        let (root, history_root) = (Digest::repeat_byte(9), Some(Digest::repeat_byte(8)));
        let view = StateRootView { height, root, history_root, certified: true, fenced: self.fenced() };
        Ok((height <= self.latest_height()).then_some(view))
    }

    fn checkpoint_interval(&self) -> u64 {
        CHECKPOINT_INTERVAL
    }

    fn stable_checkpoint(&self) -> Option<CheckpointRef> {
        let blocks = self.blocks.lock().unwrap();
        let last = blocks.len().checked_sub(1)? as u64 / CHECKPOINT_INTERVAL * CHECKPOINT_INTERVAL;
        let block_root = blocks.get(&last)?.block.header.digest();
        Some(CheckpointRef { height: Height(last), block_root })
    }

    async fn checkpoint(&self, height: Height) -> Answer<Option<CheckpointJson>> {
        self.readable(height)?;
        let blocks = self.blocks.lock().unwrap();
        let (block, next) = (blocks.get(&height.0), blocks.get(&height.next().0));
        Ok(block.zip(next).map(|(block, next)| checkpoint(block, next)))
    }

    async fn evidence(&self, from: Height) -> Answer<EvidenceView> {
        if self.replaying.load(SeqCst) {
            return Err(BackendError::NotReady);
        }
        let mut view = self.evidence.lock().unwrap().clone();
        view.committed.retain(|piece| piece.committed_height >= from);
        Ok(view)
    }

    async fn submit_duty(&self, duty: DutyRequest) -> Answer<()> {
        self.duty_answer.lock().unwrap().clone()?;
        self.duties.lock().unwrap().push(duty);
        if self.stuck.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn duty(&self, id: DutyId) -> Answer<Option<DutyView>> {
        let duties = self.duties.lock().unwrap();
        let known = duties.iter().find(|duty| duty.id == id);
        Ok(known.map(|duty| {
            let value = Some(ValueJson(duty.payload.clone()));
            DutyView { value, ..duty_view(id.kind, id.slot.0) }
        }))
    }

    async fn duties(&self, query: DutyQuery) -> Answer<DutyPage> {
        let known = self.duties.lock().unwrap();
        let duties: Vec<_> = known
            .iter()
            .rev()
            .filter(|duty| query.kind.is_none_or(|kind| kind == duty.id.kind))
            .filter(|duty| query.before.is_none_or(|before| duty.id.slot < before))
            .take(query.limit)
            .map(|duty| duty.id)
            .collect();
        Ok(DutyPage { duties, next: *self.duties_next.lock().unwrap() })
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }
}

/// A running node.
pub struct Running {
    pub node: Arc<Node>,
    pub server: Server,
}

impl Running {
    pub async fn start(options: Options) -> Self {
        let node = Arc::new(Node::default());
        let any = "127.0.0.1:0".to_owned();
        let config = Config { validator_api: any.clone(), monitoring: any, options };
        let server = Server::start(Arc::clone(&node), &config).await.unwrap();
        Self { node, server }
    }

    /// With the transaction API on.
    pub async fn with_tx_api() -> Self {
        Self::start(Options { tx_api: true, ..Options::default() }).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"").await
    }

    pub async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        self.send("POST", path, &[], body.as_ref()).await
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        request(self.server.validator_api(), method, path, headers, body).await
    }

    pub async fn monitoring(&self, path: &str) -> Reply {
        request(self.server.monitoring(), "GET", path, &[], b"").await
    }

    /// Value of one series; 0 when there is none.
    pub fn metric(&self, series: &str) -> u64 {
        let text = self.exposition();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    pub fn exposition(&self) -> String {
        self.node.metrics.render(Format::Text)
    }
}

/// An answer, as it came.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        assert_eq!(
            self.header("content-type").map(|value| value.starts_with("application/json")),
            Some(true)
        );
        serde_json::from_slice(&self.body).unwrap()
    }

    /// An error of an original route.
    #[track_caller]
    pub fn assert_text_error(&self, status: u16, text: &str) {
        assert_eq!((self.status, self.text()), (status, format!("{text}\n").as_str()));
        assert_eq!(self.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"));
    }

    /// An error of a new route.
    #[track_caller]
    pub fn assert_refusal(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json; charset=utf-8"));
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["code"], code);
        assert!(!body["message"].as_str().unwrap().is_empty());
        assert_eq!(body["trace_id"].as_str(), self.header("x-trace-id"));
    }
}

/// One request on one connection.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    raw(address, &[head.as_bytes(), body].concat()).await
}

/// Sends bytes, reads the answer until the end.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    // The server may answer and close before it has taken everything.
    let send = async {
        let _ = writer.write_all(bytes).await;
    };
    let receive = async {
        let _ = reader.read_to_end(&mut answer).await;
    };
    tokio::join!(send, receive);
    parse(&answer)
}

/// Takes an answer apart, chunks joined.
pub fn parse(answer: &[u8]) -> Reply {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head") + 4;
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { join_chunks(&answer[end..]) } else { answer[end..].to_vec() };
    Reply { status, headers, body }
}

fn join_chunks(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        bytes = &bytes[line + 2..];
        if size == 0 || bytes.len() < size {
            break;
        }
        body.extend_from_slice(&bytes[..size]);
        bytes = &bytes[size + 2..];
    }
    body
}

/// A connection that is read piece by piece.
pub struct Stream {
    stream: TcpStream,
    seen: String,
}

impl Stream {
    pub async fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all((head + "\r\n").as_bytes()).await.unwrap();
        Self { stream, seen: String::new() }
    }

    /// Reads until `text` appears, and returns everything up to and with it.
    pub async fn until(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "closed without {text:?} after {:?}", self.seen);
            self.seen.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    }

    /// Reads until the other side closes.
    pub async fn rest(mut self) -> String {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest).await;
        self.seen.push_str(std::str::from_utf8(&rest).unwrap());
        self.seen
    }
}

/// An envelope with every field of a plaintext transaction, changed by `change`.
pub fn envelope(change: Value) -> String {
    let mut envelope = json!({
        "type": "plaintext_v1",
        "from": format!("{SENDER:#x}"),
        "nonce": 3,
        "gas": "21000",
        "fee": 5,
        "sig": format!("0x{}", "11".repeat(65)),
    });
    for (key, value) in change.as_object().unwrap() {
        envelope[key] = value.clone();
    }
    envelope.to_string()
}

/// An auction bid.
pub fn bid_envelope(change: Value) -> String {
    let mut bid: Value = serde_json::from_str(&envelope(change)).unwrap();
    bid.as_object_mut().unwrap().remove("fee");
    bid["bid"] = json!(9);
    bid["fee_recipient"] = bid["from"].clone();
    bid.to_string()
}

#[allow(unused)]
pub fn is_bid(transaction: &Transaction) -> bool {
    matches!(&transaction.body, TxBody::AuctionBid(_))
}
