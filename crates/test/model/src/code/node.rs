//! One honest operator: the production instance and signer, with a vote log around them.

use super::{DUTY, INSTANCE, Mutation, cluster};
use aequa_qbft::{Effect, Event, Host, Instance, Justified, Restored, Validity};
use aequa_replica::{Guard, Keys, Permit, Signer};
use aequa_types::{
    Certificate, Digest, Message, OperatorIndex, Record, Round, Seal, Signature, Signed, Statement, Value,
};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Signatures name their author: in the model nobody forges, by construction.
#[derive(Debug, Clone)]
struct NamedKeys;

impl Keys for NamedKeys {
    fn sign(&self, permit: Permit) -> Signed {
        let statement = permit.into_statement();
        Signed { signature: Signature::repeat_byte(statement.author.0), statement }
    }

    fn share(&self, _: &Permit) -> Option<Seal> {
        None
    }
}

/// What the instance asks of its surroundings: the leaders of the model, and the production signer.
struct Surroundings<'a> {
    leaders: &'a [OperatorIndex],
    signer: Signer<NamedKeys>,
    signed: Vec<Signed>,
}

impl Host for Surroundings<'_> {
    fn leader(&self, round: Round) -> OperatorIndex {
        self.leaders[round.0 as usize % self.leaders.len()]
    }

    fn validate(&mut self, _: Round, _: &Value, _: Justified) -> Validity {
        Validity::Valid
    }

    fn sign(&mut self, statement: Statement) -> Option<Signed> {
        let signed = self.signer.sign(statement).ok()?;
        self.signed.push(signed.clone());
        Some(signed)
    }
}

/// An honest operator between two steps.
#[derive(Debug, Clone, Hash)]
pub struct Node {
    me: OperatorIndex,
    instance: Instance,
    /// The vote log.
    log: Vec<Record>,
    /// How much of it was there before the last step.
    log_before: usize,
    /// What the signer remembers.
    votes: BTreeSet<Signed>,
    /// Everything its key ever signed.
    signed: BTreeSet<Signed>,
    /// Everything it ever sent, each message once.
    sent: Vec<Message>,
    decided: Option<Certificate>,
    /// Whether it has lost its log once.
    forgot: bool,
    /// The first promise it broke.
    broken: Option<&'static str>,
}

impl Node {
    /// An operator that has just started.
    pub fn new(me: OperatorIndex, mutation: Option<Mutation>, leaders: &[OperatorIndex]) -> Self {
        let mut node = Self {
            me,
            instance: Instance::new(INSTANCE, me, cluster(mutation)),
            log: Vec::new(),
            log_before: 0,
            votes: BTreeSet::new(),
            signed: BTreeSet::new(),
            sent: Vec::new(),
            decided: None,
            forgot: false,
            broken: None,
        };
        node.step(leaders, Event::Start);
        node
    }

    /// The instance.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Everything it sent.
    pub fn sent(&self) -> &[Message] {
        &self.sent
    }

    /// The certificate of its decision.
    pub fn decided(&self) -> Option<&Certificate> {
        self.decided.as_ref()
    }

    /// Whether it has signed, written, sent or decided something, or gone on to another round.
    pub fn has_acted_since(&self, before: &Node) -> bool {
        (self.log.len(), self.signed.len(), self.sent.len(), self.instance.round())
            != (before.log.len(), before.signed.len(), before.sent.len(), before.instance.round())
    }

    /// The first promise it broke: something left before what it depends on was in the log.
    pub fn broken(&self) -> Option<&'static str> {
        self.broken
    }

    /// Whether its key signed two statements of one kind in one round.
    pub fn contradicts_itself(&self) -> bool {
        let places: BTreeSet<_> = self.signed.iter().map(|signed| (signed.round, signed.kind())).collect();
        places.len() != self.signed.len()
    }

    /// The state in 64 bits: two different states share one with a probability of about 2^-64.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Takes an event and carries out what comes of it.
    pub fn step(&mut self, leaders: &[OperatorIndex], event: Event) {
        let mut signer = Signer::new(NamedKeys, false, Guard::default());
        self.votes.iter().for_each(|signed| signer.guard_mut().remember(signed));
        let mut host = Surroundings { leaders, signer, signed: Vec::new() };
        let effects = self.instance.step(&mut host, event);
        self.votes.extend(host.signed.iter().cloned());
        self.signed.extend(host.signed);
        self.log_before = self.log.len();
        for effect in effects {
            self.carry_out(effect);
        }
    }

    /// A crash and a start from what the log has.
    pub fn restart(&mut self, leaders: &[OperatorIndex], mutation: Option<Mutation>) {
        match mutation {
            Some(Mutation::ForgetfulSigner) if !self.forgot => {
                self.log.clear();
                self.forgot = true;
            }
            Some(Mutation::SendBeforeSync) => self.log.truncate(self.log_before),
            _ => {}
        }
        self.votes = self.log.iter().filter_map(Record::statement).cloned().collect();
        let values = self.log.iter().filter_map(|record| match record {
            Record::Value(record) => Some(Value::duty(DUTY, record.value.clone())),
            _ => None,
        });
        let restored = Restored { records: self.log.clone(), values: values.collect() };
        self.instance = Instance::restore(INSTANCE, self.me, cluster(mutation), restored);
        self.decided = self.instance.decided().cloned();
        self.step(leaders, Event::Start);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(record) => self.log.push(record),
            Effect::Broadcast(message) | Effect::Send(_, message) => {
                if self.broken.is_none() {
                    self.broken = self.broken_by(&message);
                }
                if !self.sent.contains(&message) {
                    self.sent.push(message);
                }
            }
            Effect::Decided { certificate, .. } => {
                if !self.log.contains(&Record::Decided(certificate.clone())) {
                    self.broken = Some("a decision before its record");
                }
                self.decided = Some(certificate);
            }
            Effect::SetTimer(_)
            | Effect::KeepSending(_)
            | Effect::NeedInput(_)
            | Effect::NeedValue(_)
            | Effect::Note(_) => {}
        }
    }

    /// The promise that sending this now breaks.
    fn broken_by(&self, message: &Message) -> Option<&'static str> {
        let logged = |signed: &Signed| self.log.iter().any(|record| record.statement() == Some(signed));
        let value_logged = |digest: Option<Digest>| self.instance_values().any(|known| Some(known) == digest);
        let prepared = |vote: &Signed| {
            self.log.iter().any(|record| match record {
                Record::Prepared(record) => {
                    (record.round, Some(record.digest)) == (vote.round, vote.digest())
                }
                Record::Decided(decided) => {
                    (decided.round, Some(decided.digest)) == (vote.round, vote.digest())
                }
                _ => false,
            })
        };
        let decided = |certificate: &Certificate| self.log.contains(&Record::Decided(certificate.clone()));
        match message {
            Message::PrePrepare(m) if !logged(&m.proposal) => Some("a PREPREPARE before its record"),
            Message::PrePrepare(m) if !value_logged(m.proposal.digest()) => {
                Some("a PREPREPARE before its value")
            }
            Message::Prepare(vote) if !logged(vote) => Some("a PREPARE before its record"),
            Message::Prepare(vote) if !value_logged(vote.digest()) => Some("a PREPARE before its value"),
            Message::Commit(vote) if !logged(vote) => Some("a COMMIT before its record"),
            Message::Commit(vote) if !prepared(vote) => Some("a COMMIT before its quorum of PREPAREs"),
            Message::RoundChange(m) if !logged(&m.change) => Some("a ROUND-CHANGE before its record"),
            Message::Decided(m) if !decided(&m.certificate) => Some("a DECIDED before its record"),
            _ => None,
        }
    }

    fn instance_values(&self) -> impl Iterator<Item = Digest> {
        self.log.iter().filter_map(|record| match record {
            Record::Value(record) => Some(Value::duty(DUTY, record.value.clone()).digest()),
            _ => None,
        })
    }
}
