//! Whether a consensus message, a certificate or a block holds.
//!
//! ```text
//! Message ──► sizes ──► form, members ──► signatures ──► value ──► Verified
//!                └──────────┴──────────────────┴───────────┴──► Refusal
//! ```
//!
//! Cheap checks come first, and all signatures inside a message are checked before its value is
//! decoded. What needs the state of consensus is left to the core: windows, leaders, whether a
//! justification has a quorum and says what it must. Nothing is remembered of what was refused.
//!
//! Three bounded memories save work that was done before: statements (a PREPARE comes back in
//! ROUND-CHANGEs and proposals), group seals (every peer sends the same decision) and transactions
//! (those the mempool admitted are not verified again inside a block). They can only skip a check
//! whose answer is known, so losing an entry costs time and nothing else.

mod refusal;

pub use refusal::Refusal;

use crate::identity::MemberIdentity;
use crate::lock::VerifiedLock;
use crate::recent::Recent;
use crate::seal::GroupKey;
use crate::transaction;
use aequa_types::block::payload_root;
use aequa_types::json::check_canonical;
use aequa_types::limits::{
    BLOCK_ITEMS_MAX, DUTY_VALUE_BYTES_MAX, HEIGHT_MAX, TESTIMONY_STATEMENTS_MAX, VALUE_BYTES_MAX,
};
use aequa_types::message::{ValueReply, duty_digest};
use aequa_types::sync::{CheckedTestimony, Testimony};
use aequa_types::transaction::TxSignature;
use aequa_types::{
    Block, Certificate, CertifiedBlock, CheckedBlock, CheckedEvidence, CheckedTransaction, ClusterId,
    Decision, Domain, Evidence, Header, Height, InstanceId, Kind, Message, OperatorIndex, PrePrepare, Proof,
    Quorum, Round, RoundChange, Seal, Signed, Transaction, TxHash, Value, ValueBytes, Verified,
};
use alloy_primitives::B256;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Transactions remembered per generation: about as many as the mempool holds. Seven eighths of a power of two: one
/// more, and a table of them takes twice the memory.
const ADMITTED_MAX: usize = 57_344;
/// Statements remembered per generation: several hundred heights of a small cluster. As above.
const STATEMENTS_MAX: usize = 7_168;
/// Group seals remembered per generation: the heights peers are likely to repeat.
const SEALS_MAX: usize = 1_024;

/// Checks what operators of one cluster send. Shared between threads by reference.
pub struct Verifier {
    cluster: ClusterId,
    chain_id: u64,
    members: Members,
    /// Those of earlier epochs, the newest first.
    before: Vec<Members>,
    group_key: GroupKey,
    /// SHA-256 of hash and signature.
    admitted: Recent<B256>,
    /// SHA-256 of the signed bytes and the signature: a statement itself is eight times as large.
    statements: Recent<B256>,
    seals: Recent<(Decision, Seal)>,
}

/// Who signs in an epoch.
struct Members {
    /// The first height they decide.
    first: Height,
    quorum: Quorum,
    identities: Vec<MemberIdentity>,
}

impl Members {
    fn of(lock: &VerifiedLock) -> Self {
        Self {
            first: lock.lock().first_height(),
            quorum: lock.quorum(),
            identities: lock.identities().iter().copied().map(MemberIdentity::new).collect(),
        }
    }
}

impl Verifier {
    /// A verifier for the cluster of a verified lock.
    pub fn new(lock: &VerifiedLock) -> Self {
        Self::with_history(lock, &[])
    }

    /// The same where there were epochs before, given oldest first: what is said about a height is for those to say
    /// who decide it. Of duties only the operators of now may speak.
    pub fn with_history(lock: &VerifiedLock, before: &[VerifiedLock]) -> Self {
        Self {
            cluster: lock.cluster_id(),
            chain_id: lock.lock().chain_id,
            members: Members::of(lock),
            before: before.iter().rev().map(Members::of).collect(),
            group_key: *lock.group_key(),
            admitted: Recent::new(ADMITTED_MAX),
            statements: Recent::new(STATEMENTS_MAX),
            seals: Recent::new(SEALS_MAX),
        }
    }

    /// Checks everything about a message that needs no state of consensus.
    pub fn message(&self, message: Message) -> Result<Verified, Refusal> {
        check_instance(message.instance())?;
        match message {
            Message::PrePrepare(proposal) => self.pre_prepare(proposal),
            Message::Prepare(vote) => self.statement(&vote, Kind::Prepare).map(|()| Verified::Prepare(vote)),
            Message::Commit(vote) => self.statement(&vote, Kind::Commit).map(|()| Verified::Commit(vote)),
            Message::RoundChange(message) => self.round_change(message),
            Message::Decided(decided) => {
                self.certificate(&decided.certificate)?;
                Ok(Verified::Decided(decided.certificate))
            }
            Message::ValueRequest(request) => Ok(Verified::ValueRequest(request)),
            Message::ValueReply(ValueReply { instance, value }) => {
                Ok(Verified::ValueReply { instance, value: self.value(instance, value)? })
            }
        }
    }

    /// Checks that a certificate holds: at least a quorum of distinct COMMITs in the order of
    /// operators, every one of them valid, or the seal of the group.
    pub fn certificate(&self, certificate: &Certificate) -> Result<(), Refusal> {
        check_instance(certificate.instance)?;
        check_round(certificate.round)?;
        match &certificate.proof {
            Proof::Group(seal) => self.group_seal(certificate, seal),
            Proof::Commits(commits) => {
                let quorum = self.members(certificate.instance)?.quorum;
                check_length(quorum, "certificate", commits.len())?;
                if !commits.windows(2).all(|pair| pair[0].operator < pair[1].operator) {
                    return Err(Refusal::BadJustification("certificate repeats a signer or is out of order"));
                }
                if commits.len() < quorum.quorum() {
                    return Err(Refusal::BadJustification("certificate has fewer signers than a quorum"));
                }
                let statements = certificate.commits();
                statements.iter().try_for_each(|signed| self.check_author(signed))?;
                statements.iter().try_for_each(|signed| self.check_signature(signed))
            }
        }
    }

    /// Checks a block with its certificate: what peers send to those who were away.
    pub fn certified_block(
        &self,
        certified: CertifiedBlock,
    ) -> Result<(Arc<CheckedBlock>, Certificate), Refusal> {
        let CertifiedBlock { block, certificate } = certified;
        self.certified_header(&block.header, &certificate)?;
        // A quorum has judged its evidence, under keys that may not be there any more.
        let block = self.block_but_for_evidence(block)?;
        Ok((Arc::new(block), certificate))
    }

    /// Checks that a header was decided, whatever its block holds.
    pub fn certified_header(&self, header: &Header, certificate: &Certificate) -> Result<(), Refusal> {
        if certificate.instance != InstanceId::Block(header.height) {
            return Err(Refusal::Malformed("certificate of another instance".into()));
        }
        if certificate.digest != header.digest() {
            return Err(Refusal::Malformed("certificate of another block".into()));
        }
        if header.cluster_id != self.cluster {
            return Err(Refusal::WrongCluster);
        }
        self.certificate(certificate)
    }

    /// Checks what a member says it has seen of operator `about`: only where it is bound itself is not proven.
    pub fn testimony(&self, about: OperatorIndex, testimony: Testimony) -> Result<CheckedTestimony, Refusal> {
        let Testimony { certificates, statements, bound } = testimony;
        let domains = Domain::ALL.len();
        let lists = [
            ("certificates", certificates.len(), domains),
            ("statements", statements.len(), TESTIMONY_STATEMENTS_MAX),
            ("bound", bound.len(), domains),
        ];
        for (what, size, size_max) in lists {
            if size > size_max {
                return Err(Refusal::TooLarge { what, size, size_max });
            }
        }
        for signed in &statements {
            if signed.author != about {
                return Err(Refusal::Malformed("statement of another operator".into()));
            }
            self.statement(signed, signed.kind())?;
        }
        certificates.iter().try_for_each(|certificate| self.certificate(certificate))?;
        let certified = certificates.iter().map(|certificate| certificate.instance).collect();
        Ok(CheckedTestimony { certified, signed: statements, bound })
    }

    /// Decodes a value and checks what can be checked of it alone.
    pub fn value(&self, instance: InstanceId, bytes: ValueBytes) -> Result<Value, Refusal> {
        let bytes_max = match instance {
            InstanceId::Block(_) => VALUE_BYTES_MAX,
            InstanceId::Duty(_) => DUTY_VALUE_BYTES_MAX,
        };
        if bytes.0.len() > bytes_max {
            return Err(Refusal::TooLarge { what: "value", size: bytes.0.len(), size_max: bytes_max });
        }
        if bytes.0.is_empty() {
            return Err(Refusal::Malformed("empty value".into()));
        }
        match instance {
            InstanceId::Block(height) => {
                let block: Block = aequa_types::decode("block", &bytes.0, VALUE_BYTES_MAX)?;
                if block.header.height != height {
                    return Err(Refusal::Malformed("block of another height".into()));
                }
                Ok(Value::block(Arc::new(self.block(block)?)))
            }
            InstanceId::Duty(duty) => {
                // Every operator can show and store what it agrees on, whoever proposed it.
                check_canonical(&bytes.0)
                    .map_err(|error| Refusal::Malformed(format!("duty value: {error}")))?;
                Ok(Value::duty(duty, bytes))
            }
        }
    }

    /// Checks a transaction as [`transaction::check`] does, unless it is remembered.
    pub fn transaction(&self, transaction: Transaction) -> Result<CheckedTransaction, Refusal> {
        self.submitted(transaction).map_err(|(_, refusal)| refusal)
    }

    /// As [`Verifier::transaction`], for a client: whatever its transaction is worth, it hears the hash.
    pub fn submitted(&self, transaction: Transaction) -> Result<CheckedTransaction, (TxHash, Refusal)> {
        // Wrapped first so that the hash is computed once; dropped again if the check fails.
        let candidate = CheckedTransaction::attest(transaction);
        match self.candidate(&candidate) {
            Ok(()) => Ok(candidate),
            Err(refusal) => Err((candidate.hash(), refusal)),
        }
    }

    /// Checks what was wrapped before it was checked, unless it is remembered.
    fn candidate(&self, candidate: &CheckedTransaction) -> Result<(), Refusal> {
        let (hash, transaction) = (candidate.hash(), candidate.transaction());
        let key = admission(hash, &transaction.sig);
        if !self.admitted.contains(&key) {
            transaction::check_ref(self.chain_id, transaction)
                .map_err(|error| Refusal::Malformed(format!("transaction {hash}: {error}")))?;
            self.admitted.insert(key);
        }
        Ok(())
    }

    /// Checks that both statements of a piece of evidence were signed by the operator it accuses, in this
    /// cluster.
    pub fn evidence(&self, evidence: Evidence) -> Result<CheckedEvidence, Refusal> {
        self.check_evidence(&evidence)?;
        Ok(CheckedEvidence::attest(evidence))
    }

    /// Checks a statement on its own: its place, its author, its signature.
    pub fn signed(&self, signed: &Signed) -> Result<(), Refusal> {
        self.statement(signed, signed.kind())
    }

    /// Remembers a transaction that was admitted, so that a block with it is cheap to check.
    pub fn remember(&self, transaction: &CheckedTransaction) {
        self.admitted.insert(admission(transaction.hash(), &transaction.transaction().sig));
    }

    fn pre_prepare(&self, message: PrePrepare) -> Result<Verified, Refusal> {
        let PrePrepare { proposal, value, round_changes, prepares } = message;
        let (instance, round) = (proposal.instance, proposal.round);
        let quorum = self.members(instance)?.quorum;
        check_length(quorum, "J_rc", round_changes.len())?;
        check_length(quorum, "J_p", prepares.len())?;
        self.check_form(&proposal, Kind::PrePrepare)?;
        if round == Round(0) && !(round_changes.is_empty() && prepares.is_empty()) {
            return Err(Refusal::BadJustification("round 0 has no justification"));
        }
        self.check_elements(&round_changes, Kind::RoundChange, instance)?;
        self.check_elements(&prepares, Kind::Prepare, instance)?;
        if round_changes.iter().any(|change| change.round != round) {
            return Err(Refusal::BadJustification("ROUND-CHANGE of another round"));
        }
        self.check_signature(&proposal)?;
        round_changes.iter().chain(&prepares).try_for_each(|signed| self.check_signature(signed))?;
        let value = self.proposed_value(&proposal, value)?;
        Ok(Verified::PrePrepare { proposal, value, round_changes, prepares })
    }

    /// The value must be the proposed one. A duty's digest is cheap and comes first; a block's is that
    /// of its header, to which the rest of the block is compared.
    fn proposed_value(&self, proposal: &Signed, bytes: ValueBytes) -> Result<Value, Refusal> {
        let instance = proposal.instance;
        let other = || Refusal::Malformed("value is not the proposed one".into());
        let proposed = proposal.digest().ok_or_else(other)?;
        if instance.as_duty().is_some_and(|duty| duty_digest(duty, &bytes.0) != proposed) {
            return Err(other());
        }
        let value = self.value(instance, bytes)?;
        if value.digest() == proposed { Ok(value) } else { Err(other()) }
    }

    fn round_change(&self, message: RoundChange) -> Result<Verified, Refusal> {
        check_length(self.members(message.change.instance)?.quorum, "J_p", message.prepares.len())?;
        self.check_form(&message.change, Kind::RoundChange)?;
        self.check_elements(&message.prepares, Kind::Prepare, message.change.instance)?;
        self.check_signature(&message.change)?;
        message.prepares.iter().try_for_each(|signed| self.check_signature(signed))?;
        Ok(Verified::RoundChange(message))
    }

    fn statement(&self, signed: &Signed, kind: Kind) -> Result<(), Refusal> {
        self.check_form(signed, kind)?;
        self.check_signature(signed)
    }

    fn check_evidence(&self, evidence: &Evidence) -> Result<(), Refusal> {
        [evidence.first(), evidence.second()].into_iter().try_for_each(|signed| self.signed(signed))
    }

    fn check_form(&self, signed: &Signed, kind: Kind) -> Result<(), Refusal> {
        if signed.kind() != kind {
            return Err(Refusal::Malformed(format!("{:?} in the place of a {kind:?}", signed.kind())));
        }
        check_instance(signed.instance)?;
        check_round(signed.round)?;
        self.check_author(signed)
    }

    /// Who speaks about an instance; an error where it is of an epoch that is not known here.
    fn members(&self, instance: InstanceId) -> Result<&Members, Refusal> {
        let decide = |members: &&Members| instance.height().is_none_or(|height| height >= members.first);
        [&self.members].into_iter().chain(&self.before).find(decide).ok_or(Refusal::OutOfBounds(instance))
    }

    fn check_author(&self, signed: &Signed) -> Result<(), Refusal> {
        match self.members(signed.instance)?.quorum.contains(signed.author) {
            true => Ok(()),
            false => Err(Refusal::NotMember(signed.author)),
        }
    }

    /// The elements of a justification: of one kind, of this instance, each of another member.
    fn check_elements(&self, elements: &[Signed], kind: Kind, instance: InstanceId) -> Result<(), Refusal> {
        let mut authors: BTreeSet<OperatorIndex> = BTreeSet::new();
        for element in elements {
            if element.kind() != kind {
                return Err(Refusal::BadJustification("element of another kind"));
            }
            if element.instance != instance {
                return Err(Refusal::BadJustification("element of another instance"));
            }
            check_round(element.round)?;
            self.check_author(element)?;
            if !authors.insert(element.author) {
                return Err(Refusal::BadJustification("two elements of one author"));
            }
        }
        Ok(())
    }

    fn check_signature(&self, signed: &Signed) -> Result<(), Refusal> {
        let fingerprint = self.fingerprint(signed);
        if self.statements.contains(&fingerprint) {
            return Ok(());
        }
        let identities = &self.members(signed.instance)?.identities;
        let identity = identities.get(signed.author.as_usize()).ok_or(Refusal::NotMember(signed.author))?;
        identity.verify(&self.cluster, signed).map_err(|_| {
            Refusal::BadSignature(format!("{:?} of operator {}", signed.kind(), signed.author))
        })?;
        self.statements.insert(fingerprint);
        Ok(())
    }

    fn fingerprint(&self, signed: &Signed) -> B256 {
        let mut preimage = signed.statement.signing_bytes(&self.cluster);
        preimage.extend_from_slice(signed.signature.as_slice());
        B256::from(<[u8; 32]>::from(Sha256::digest(&preimage)))
    }

    fn group_seal(&self, certificate: &Certificate, seal: &Seal) -> Result<(), Refusal> {
        let decision = certificate.decision();
        let key = (decision, *seal);
        if self.seals.contains(&key) {
            return Ok(());
        }
        self.group_key
            .verify(&decision.seal_bytes(&self.cluster), seal)
            .map_err(|error| Refusal::BadSignature(format!("group seal: {error}")))?;
        self.seals.insert(key);
        Ok(())
    }

    /// Header against content, and every transaction and piece of evidence on its own.
    fn block(&self, block: Block) -> Result<CheckedBlock, Refusal> {
        block.evidence.iter().try_for_each(|evidence| self.check_evidence(evidence))?;
        self.block_but_for_evidence(block)
    }

    fn block_but_for_evidence(&self, block: Block) -> Result<CheckedBlock, Refusal> {
        let header = &block.header;
        let malformed = |detail: &str| Refusal::Malformed(detail.into());
        check_instance(InstanceId::Block(header.height))?;
        if header.cluster_id != self.cluster {
            return Err(Refusal::WrongCluster);
        }
        // Of an epoch that is not known here, whoever has certified the block has judged it.
        let members = self.members(InstanceId::Block(header.height));
        if members.is_ok_and(|members| !members.quorum.contains(header.proposer)) {
            return Err(malformed("proposer is no member"));
        }
        if block.items.len() > BLOCK_ITEMS_MAX || header.items != block.items.len() as u64 {
            return Err(malformed("number of items is not that of the header"));
        }
        if header.evidence_root != block.evidence_root() {
            return Err(malformed("evidence root is not that of the evidence"));
        }
        // Wrapped first so that each is hashed once; dropped again if a check fails.
        let items: Vec<_> = block.items.iter().cloned().map(CheckedTransaction::attest).collect();
        if header.payload_root != payload_root(&items) {
            return Err(malformed("payload root is not that of the items"));
        }
        items.iter().try_for_each(|item| self.candidate(item))?;
        Ok(CheckedBlock::attest(block, items))
    }
}

fn check_length(quorum: Quorum, what: &'static str, size: usize) -> Result<(), Refusal> {
    let size_max = quorum.operators();
    if size > size_max { Err(Refusal::TooLarge { what, size, size_max }) } else { Ok(()) }
}

/// What is remembered of a transaction that was admitted.
fn admission(hash: TxHash, sig: &TxSignature) -> B256 {
    B256::from(<[u8; 32]>::from(Sha256::new().chain_update(hash).chain_update(sig).finalize()))
}

/// Heights and slots are bounded at every entrance; blocks start at 1.
fn check_instance(instance: InstanceId) -> Result<(), Refusal> {
    let lowest = match instance {
        InstanceId::Block(_) => 1,
        InstanceId::Duty(_) => 0,
    };
    if !(lowest..=HEIGHT_MAX).contains(&instance.number()) {
        return Err(Refusal::OutOfBounds(instance));
    }
    Ok(())
}

/// Far above every round that is ever reached; the window of the core is much narrower.
fn check_round(round: Round) -> Result<(), Refusal> {
    if round.0 > HEIGHT_MAX { Err(Refusal::RoundOutOfBounds(round)) } else { Ok(()) }
}
