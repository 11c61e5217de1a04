//! The test endpoints: messages in the original's form, made into ours and sent the way of all messages.
//!
//! What cannot be made into a message is counted like one that was refused at its structure. Nothing here
//! looks at a signature, a window or a quorum: [`Inbox::take`] does, as it does for the network.

use super::backend::NodeBackend;
use super::network::{Inbox, decode_as};
use crate::config::RunConfig;
use crate::exit::ExitError;
use crate::keys::Operator;
use aequa_api::e2e::{Injected, TestAddresses, TestBackend, TestServer};
use aequa_crypto::lock::VerifiedLock;
use aequa_p2p::{Attempt, Network};
use aequa_telemetry::log::{Admit, RateLimiter};
use aequa_telemetry::metrics::elapsed_ms;
use aequa_types::statement::{Claim, CommitClaim, RoundChangeClaim};
use aequa_types::{
    Digest, Height, InstanceId, Message, OperatorIndex, PrePrepare, Quorum, Round, RoundChange, Signature,
    Signed, Statement, ValueBytes,
};
use futures::future::BoxFuture;
use ssz::Encode as _;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Binds and serves the test endpoints.
pub async fn start(
    config: &RunConfig,
    operator: &Operator,
    backend: Arc<NodeBackend>,
    inbox: Arc<Inbox>,
    network: Weak<Network>,
) -> Result<TestServer, ExitError> {
    let tests = Arc::new(Tests {
        inbox,
        network,
        operators: Operators::of(&operator.lock),
        told: RateLimiter::new(),
    });
    let addresses = TestAddresses {
        qbft: config.e2e.listen.to_string(),
        tss: config.e2e.tss_listen.to_string(),
        p2p: config.e2e.p2p_listen.to_string(),
    };
    TestServer::start(backend, tests, &addresses).await.map_err(|error| {
        ExitError::failure(error).hint(
            "another process may hold the port: change --e2e.listen, --e2e.tss-listen or --e2e.p2p-listen",
        )
    })
}

/// What the test endpoints reach of a node.
struct Tests {
    inbox: Arc<Inbox>,
    network: Weak<Network>,
    operators: Operators,
    told: RateLimiter<&'static str>,
}

impl Tests {
    async fn inject(&self, injected: Injected) -> bool {
        let start = Instant::now();
        let type_name = known_type(&injected.kind);
        let passed = match self.operators.message(&injected) {
            Ok((author, message)) => {
                let bytes = message.ssz_bytes_len();
                self.inbox.take(author, message, bytes).await.is_ok()
            }
            Err(result) => {
                self.inbox.count(type_name, result);
                false
            }
        };
        if let Admit::Write { suppressed } = self.told.admit("qbft_attack", &type_name, Instant::now()) {
            let result = if passed { "ok" } else { "rejected" };
            let (height, round, latency_ms) = (injected.height, injected.round, elapsed_ms(start));
            let (id, trace_id) = (injected.id.as_str(), injected.trace_id.as_str());
            tracing::info!(target: "event", result, "type" = type_name, height, round, id, trace_id, latency_ms, suppressed, "qbft_attack");
        }
        passed
    }
}

impl TestBackend for Tests {
    fn qbft(&self, message: Injected) -> BoxFuture<'_, bool> {
        Box::pin(self.inject(message))
    }

    fn judge_peer(&self, id: String) -> BoxFuture<'_, Result<(), &'static str>> {
        Box::pin(async move {
            let network = self.network.upgrade().ok_or("no transport")?;
            match network.judge(&id).await {
                Ok(Attempt::Allowed) => Ok(()),
                Ok(refused) => Err(refused.name()),
                Err(_) => Err("no transport"),
            }
        })
    }
}

/// The operators by place and by name.
struct Operators {
    names: Vec<String>,
    quorum: Quorum,
}

impl Operators {
    fn of(lock: &VerifiedLock) -> Self {
        let names = lock.lock().operators.iter().map(|operator| operator.name.clone()).collect();
        Self { names, quorum: lock.quorum() }
    }

    /// The author and the message meant; else the result it is refused with.
    fn message(&self, injected: &Injected) -> Result<(OperatorIndex, Message), &'static str> {
        if injected.from.is_empty() || injected.id.is_empty() {
            return Err("malformed");
        }
        let round = our_round(&injected.kind, injected.round).ok_or("malformed")?;
        let author = self.author(&injected.from).ok_or("not_member")?;
        let instance = InstanceId::Block(Height(injected.height));
        let digest = digest_of(&injected.id);
        let claim = match injected.kind.as_str() {
            "prepare" => Claim::Prepare(digest),
            "commit" => Claim::Commit(CommitClaim { digest, seal: None }),
            "view_change" => Claim::RoundChange(RoundChangeClaim { prepared: None }),
            _ => Claim::PrePrepare(digest),
        };
        let statement = Statement { instance, round, author, claim };
        // The original took an empty signature; here it is one that cannot hold.
        let signature = Signature::try_from(injected.sig.as_slice()).ok();
        let bare = around(Signed { statement, signature: signature.unwrap_or_default() });
        if injected.payload.is_empty() {
            return Ok((author, bare));
        }
        let kind = bare.kind();
        let bytes_max = kind.body_bytes_max(self.quorum);
        let mut whole = decode_as(kind, &injected.payload, bytes_max).ok_or("malformed")?;
        let said = author_statement(&mut whole).ok_or("malformed")?;
        let agrees = (said.instance, said.round, said.author) == (instance, round, author)
            && said.digest().is_none_or(|said| said == digest)
            && signature.is_none_or(|signature| signature == said.signature);
        said.signature = signature.unwrap_or_default();
        if agrees { Ok((author, whole)) } else { Err("malformed") }
    }

    /// By name or by index.
    fn author(&self, from: &str) -> Option<OperatorIndex> {
        let named = self.names.iter().position(|name| name == from);
        let index = named.and_then(|place| u8::try_from(place).ok()).or_else(|| from.parse().ok())?;
        Some(OperatorIndex(index)).filter(|operator| self.quorum.contains(*operator))
    }
}

/// The original's votes count from 1, and it has two words for a proposal.
fn our_round(kind: &str, round: u64) -> Option<Round> {
    match kind {
        "preprepare" => (round == 0).then_some(Round(0)),
        "new_view" => (round > 0).then_some(Round(round)),
        "prepare" | "commit" => round.checked_sub(1).map(Round),
        "view_change" => Some(Round(round)),
        _ => None,
    }
}

/// A digest in hex, or the hash of any other text.
fn digest_of(id: &str) -> Digest {
    let literal = id.strip_prefix("0x").filter(|hex| hex.len() == 64).and_then(|hex| hex.parse().ok());
    literal.unwrap_or_else(|| Digest::from(ethereum_hashing::hash_fixed(id.as_bytes())))
}

/// The message a statement makes by itself: no value, no justification.
fn around(signed: Signed) -> Message {
    match signed.claim {
        Claim::Prepare(_) => Message::Prepare(signed),
        Claim::Commit(_) => Message::Commit(signed),
        Claim::RoundChange(_) => Message::RoundChange(RoundChange { change: signed, prepares: Vec::new() }),
        Claim::PrePrepare(_) => Message::PrePrepare(PrePrepare {
            proposal: signed,
            value: ValueBytes(Arc::new([])),
            round_changes: Vec::new(),
            prepares: Vec::new(),
        }),
    }
}

/// The statement a message makes by itself, without its justification.
fn author_statement(message: &mut Message) -> Option<&mut Signed> {
    match message {
        Message::PrePrepare(message) => Some(&mut message.proposal),
        Message::Prepare(vote) | Message::Commit(vote) => Some(vote),
        Message::RoundChange(message) => Some(&mut message.change),
        Message::Decided(_) | Message::ValueRequest(_) | Message::ValueReply(_) => None,
    }
}

/// Label of a type from outside.
fn known_type(kind: &str) -> &'static str {
    const TYPES: [&str; 5] = ["preprepare", "new_view", "prepare", "commit", "view_change"];
    TYPES.into_iter().find(|known| *known == kind).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIG: [u8; 64] = [7; 64];

    fn operators() -> Operators {
        let names = (0..4).map(|i| format!("operator-{i}")).collect();
        Operators { names, quorum: Quorum::of(4).unwrap() }
    }

    fn injected(kind: &str, round: u64) -> Injected {
        Injected {
            from: "2".into(),
            height: 9,
            round,
            kind: kind.into(),
            payload: Vec::new(),
            id: "some id".into(),
            sig: SIG.to_vec(),
            trace_id: aequa_telemetry::TraceId::fresh(),
        }
    }

    fn made(injected: &Injected) -> Result<Signed, &'static str> {
        let (author, mut message) = operators().message(injected)?;
        let signed = author_statement(&mut message).unwrap().clone();
        assert_eq!(author, signed.author);
        Ok(signed)
    }

    /// A prepare of our wire and the fields that agree with it.
    fn whole() -> Injected {
        let mut fields = injected("prepare", 1);
        let (_, message) = operators().message(&fields).unwrap();
        fields.payload = message.as_ssz_bytes();
        fields
    }

    #[test]
    fn proposals_of_round_0_and_of_later_rounds_have_two_names() {
        let first = made(&injected("preprepare", 0)).unwrap();
        assert_eq!((first.round, first.kind()), (Round(0), aequa_types::Kind::PrePrepare));
        assert_eq!(made(&injected("preprepare", 1)), Err("malformed"));
        let later = made(&injected("new_view", 3)).unwrap();
        assert_eq!((later.round, later.kind()), (Round(3), aequa_types::Kind::PrePrepare));
        assert_eq!(made(&injected("new_view", 0)), Err("malformed"));
    }

    #[test]
    fn votes_count_from_1_and_round_changes_name_the_round_entered() {
        for (kind, ours) in [("prepare", aequa_types::Kind::Prepare), ("commit", aequa_types::Kind::Commit)] {
            let vote = made(&injected(kind, 5)).unwrap();
            assert_eq!((vote.round, vote.kind()), (Round(4), ours));
            assert_eq!(made(&injected(kind, 0)), Err("malformed"));
        }
        let change = made(&injected("view_change", 5)).unwrap();
        assert_eq!((change.round, change.kind()), (Round(5), aequa_types::Kind::RoundChange));
        assert_eq!(made(&injected("decided", 1)), Err("malformed"));
    }

    #[test]
    fn an_id_is_a_digest_or_what_it_is_the_hash_of() {
        let literal = format!("0x{}", "ab".repeat(32));
        let digest =
            |id: &str| made(&Injected { id: id.into(), ..injected("prepare", 1) }).map(|vote| vote.digest());
        assert_eq!(digest(&literal), Ok(Some(Digest::repeat_byte(0xab))));
        // SHA-256 of "abc" (FIPS 180-2).
        let abc = "0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest("abc"), Ok(Some(abc.parse().unwrap())));
        assert_ne!(digest(&literal[..65]), digest(&literal));
        assert_eq!(digest(""), Err("malformed"));
    }

    #[test]
    fn the_author_is_a_name_or_an_index_of_a_member() {
        let author = |from: &str| {
            made(&Injected { from: from.into(), ..injected("prepare", 1) }).map(|vote| vote.author.0)
        };
        assert_eq!((author("3"), author("operator-1")), (Ok(3), Ok(1)));
        for stranger in ["4", "operator-4", "-1", "x", "256"] {
            assert_eq!(author(stranger), Err("not_member"), "{stranger}");
        }
        assert_eq!(author(""), Err("malformed"));
    }

    #[test]
    fn a_payload_is_the_whole_message_and_the_fields_agree_with_it() {
        assert_eq!(made(&whole()).unwrap().signature, Signature::from(SIG));
        let changes: [fn(&mut Injected); 7] = [
            |fields| fields.from = "1".into(),
            |fields| fields.height += 1,
            |fields| fields.round += 1,
            |fields| fields.kind = "commit".into(),
            |fields| fields.id = "another".into(),
            |fields| fields.sig[0] ^= 1,
            |fields| fields.payload.push(0),
        ];
        for (place, change) in changes.into_iter().enumerate() {
            let mut fields = whole();
            change(&mut fields);
            assert_eq!(made(&fields), Err("malformed"), "change {place}");
        }
    }

    #[test]
    fn an_empty_or_short_signature_becomes_one_that_cannot_hold() {
        for sig in [Vec::new(), vec![7; 63], vec![7; 65]] {
            let bare = Injected { sig: sig.clone(), ..injected("commit", 1) };
            assert_eq!(made(&bare).unwrap().signature, Signature::ZERO);
            assert_eq!(made(&Injected { sig, ..whole() }).unwrap().signature, Signature::ZERO);
        }
    }
}
