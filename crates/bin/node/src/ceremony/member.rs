//! One operator's part in a ceremony: messages in, steps, messages out, until there is a lock.

use super::home::Home;
use super::own::{OwnKeys, ceremony_seed};
use super::plan::Plan;
use super::signing::{Chunk, Signing};
use super::transcript::Transcript;
use crate::cluster::{Addresses, SHARE_KEYSTORE};
use crate::config::LOCK_FILE;
use crate::console;
use crate::epochs::{self, Promise};
use crate::exit::ExitError;
use crate::files;
use aequa_crypto::identity::IdentityKey;
use aequa_crypto::lock::VerifiedLock;
use aequa_crypto::lock::signing::LockShare;
use aequa_dkg::{
    Ceremony, Checked, Input, Notice, Outbound, Output, Phase, RefusalKind, Secrets, Timer, Timing,
};
use aequa_p2p::{GossipVerdict, Handler, Message as Frame, Network, Topic, Unobserved, Verdict};
use aequa_types::definition::Definition;
use aequa_types::limits::OPERATORS_MAX;
use aequa_types::{OperatorIndex, wire};
use futures::future::BoxFuture;
use ssz::Encode as _;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Messages waiting for the machine: a stream is left unread while it is full.
const WAITING_MAX: usize = 256;
/// Between two times that what others may lack is sent again.
const SEND_AGAIN: Duration = Duration::from_secs(1);
/// How long who has finished stays when all have signed: the last signatures may be on their way.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long who has finished answers those that have not.
const LINGER: Duration = Duration::from_secs(600);
/// Largest frame with a share of the lock.
const LOCK_SHARE_BYTES_MAX: usize = 1024;
/// Largest frame with shares of what validators sign.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// What an operator takes part in, and how.
#[derive(Debug)]
pub struct Member {
    /// What everybody agreed on.
    pub definition: PathBuf,
    /// The lock that a resharing follows, where the operator's folder has it not.
    pub lock: Option<PathBuf>,
    /// The operator's folder.
    pub data_dir: PathBuf,
    /// Where it listens, and its node later; to the others as the definition says, where nothing else is given.
    pub addresses: Addresses,
    /// How long those that are away are waited for in each step, where q are there.
    pub wait: Duration,
    /// When to give up.
    pub timeout: Duration,
}

/// What members say.
enum Said {
    Ceremony(Box<Checked>),
    Validators(Chunk),
    Lock(LockShare),
}

/// Takes part until there is a lock, and until the others have one too.
pub async fn run(member: &Member) -> Result<VerifiedLock, ExitError> {
    let plan = Plan::of_member(&member.definition, &member.data_dir, member.lock.as_deref())?;
    let (definition, machine) = (&plan.definition, &plan.machine);
    if let Some(lock) = in_force(&member.data_dir, definition)? {
        return Ok(lock);
    }
    let own = OwnKeys::load(&member.data_dir)?;
    let me = place_of(definition, &own)?;
    let home = Home::enter(&member.data_dir, &plan, me)?;
    console::line(summary(&plan, me));
    let signer = IdentityKey::from_seed(&own.identity.seed());
    let network_identity = own.identity.seed();
    let (mut ceremony, transcript) = restore(member, &plan, &home, own, me)?;
    let first = ceremony.start(0);
    let operator = &definition.operators[me.as_usize()];
    let mut addresses = member.addresses.clone();
    if addresses.p2p.is_empty() {
        addresses.p2p.clone_from(&operator.multiaddrs);
    }
    if let Some(lock) = finished_before(&home, &addresses, definition, &ceremony, me)? {
        return Ok(lock);
    }

    let (queue, said) = mpsc::channel(WAITING_MAX);
    let members = definition.operators.iter().map(|operator| aequa_p2p::Member {
        operator: operator.index,
        peer_id: operator.peer_id.clone(),
        addrs: plan.met_at(operator),
    });
    let mut config = aequa_p2p::Config::new(&network_identity, machine.ceremony(), me, members.collect());
    config.topics = vec![Topic::Dkg];
    config.listen = match member.addresses.p2p.is_empty() {
        true => plan.met_at(operator),
        false => member.addresses.p2p.clone(),
    };
    config.dkg_required = true;
    config.max_conns = OPERATORS_MAX as i64 + 28;
    let desk = Arc::new(Desk { machine: Arc::clone(machine), queue });
    let network = aequa_p2p::start(config, desk, Arc::new(Unobserved))
        .map_err(|error| ExitError::failure(error).hint("choose another address with --p2p.listen"))?;
    let part = Part {
        member,
        addresses,
        plan: &plan,
        home: &home,
        promise: Promise::Open,
        has_asked: false,
        me,
        ceremony,
        transcript,
        network: &network,
        signer,
        timers: Vec::new(),
        started: Instant::now(),
        shown: Vec::new(),
        signing: None,
        quorum_since: None,
        written: None,
        news: Instant::now(),
        ignored: BTreeSet::new(),
    };
    let result = part.run(first, said).await;
    network.shutdown().await;
    result
}

/// The machine with what its folder remembers. The transcript is there before the seed, and the seed before anything is
/// said: one without the other was lost.
fn restore(
    member: &Member,
    plan: &Plan,
    home: &Home,
    own: OwnKeys,
    me: OperatorIndex,
) -> Result<(Ceremony, Transcript), ExitError> {
    let (path, seed) = (home.transcript(), home.seed());
    if files::is_there(&seed) && !files::is_there(&path) {
        return Err(ExitError::refused(format!("{} is missing, and its seed is there", path.display()))
            .hint("without it this operator could contradict itself: it takes no part in this ceremony any more"));
    }
    let (transcript, entries) = Transcript::open(&path, plan.machine.ceremony())?;
    if !entries.is_empty() {
        console::line(format!("going on: {} entries of this ceremony are here", entries.len()));
    }
    // When all have signed the lock the seed was removed, and what was dealt is in the transcript.
    let is_over = files::is_there(&home.lock());
    let seed = ceremony_seed(&seed, home.data_dir(), entries.is_empty() || is_over)?;
    let mut secrets = Secrets::new(own.identity, own.decryption, seed);
    if let Some(parent) = &plan.parent
        && let Some(place) = plan.machine.old().and_then(|old| *old.holders.get(me.as_usize())?)
    {
        secrets = secrets.with_old(epochs::shares(&home.data_dir().join("keys"), parent, place)?);
    }
    let wait_ms = u64::try_from(member.wait.as_millis()).unwrap_or(u64::MAX);
    let timing = Timing { commits_ms: wait_ms, verdicts_ms: wait_ms, ..Timing::default() };
    let ceremony = Ceremony::restore(Arc::clone(&plan.machine), me, secrets, timing, entries)
        .map_err(|error| ExitError::refused(format!("the transcript does not hold: {error}")))?;
    Ok((ceremony, transcript))
}

/// The lock of a resharing that is in force here already.
fn in_force(dir: &Path, definition: &Definition) -> Result<Option<VerifiedLock>, ExitError> {
    let path = dir.join(LOCK_FILE);
    if definition.resharing.is_none() || !files::is_there(&path) {
        return Ok(None);
    }
    let lock = crate::keys::load_lock(&path)?;
    let is_it = lock.lock().definition_hash == definition.definition_hash;
    Ok(is_it.then(|| {
        console::line(format!("{} is the lock of this definition", path.display()));
        lock
    }))
}

/// The lock that is there: of an earlier run, or another operator's. With it the shares of the transcript are all that
/// is needed, so that an operator that went down while the lock was signed needs nobody.
fn finished_before(
    home: &Home,
    addresses: &Addresses,
    definition: &Definition,
    ceremony: &Ceremony,
    me: OperatorIndex,
) -> Result<Option<VerifiedLock>, ExitError> {
    let path = home.lock();
    if !files::is_there(&path) {
        return Ok(None);
    }
    let lock = crate::keys::load_lock(&path)?;
    if lock.lock().definition_hash != definition.definition_hash {
        return Err(ExitError::refused(format!("{} is the lock of another cluster", path.display()))
            .hint("every cluster has a folder of its own"));
    }
    let fail =
        |error: std::io::Error| ExitError::failure(format!("cannot write {}: {error}", path.display()));
    let (signed, operators) = (lock.signed().count(), definition.operators.len());
    match ceremony.outcome() {
        Some(outcome) => {
            lock.check_own_share(me, &outcome.secret.chain)
                .map_err(|error| ExitError::refused(format!("{}: {error}", path.display())))?;
            home.write(&lock, &outcome.secret, addresses).map_err(fail)?;
        }
        // Its keys can only be those of an earlier run.
        None => {
            let public = lock.public_shares().get(me.as_usize()).map(|share| hex::encode(share.to_bytes()));
            if !home.is_kept(SHARE_KEYSTORE, &public.unwrap_or_default()).map_err(fail)? {
                console::line("the lock is there, and the own shares are not: they come from the transcript");
                return Ok(None);
            }
        }
    }
    if signed == operators {
        home.forget_seed().map_err(fail)?;
    }
    console::line(format!("{} is there, signed by {signed} of {operators}", path.display()));
    Ok(Some(lock))
}

fn place_of(definition: &Definition, own: &OwnKeys) -> Result<OperatorIndex, ExitError> {
    let card = own.card(String::new(), Vec::new());
    let operator = definition.operators.iter().find(|operator| operator.identity_key == card.identity_key);
    let operator = operator.ok_or_else(|| {
        ExitError::refused("the definition does not name the identity in this folder")
            .hint("give your operator.json to whoever writes the definition, or choose another --data-dir")
    })?;
    match operator.enc_key == Some(card.enc_key) {
        true => Ok(operator.index),
        false => {
            Err(ExitError::refused(format!("operators[{}].enc_key is not this folder's", operator.index)))
        }
    }
}

/// What an operator agrees to by taking part.
fn summary(plan: &Plan, me: OperatorIndex) -> String {
    let definition = &plan.definition;
    let mut lines = vec![
        format!("cluster {:?}, definition {}", definition.name, definition.definition_hash),
        format!("  {} operators, {} of them sign", definition.operators.len(), definition.threshold),
    ];
    if let Some(resharing) = definition.resharing {
        lines.push(format!("  the same keys under new shares: epoch {} of this cluster", resharing.epoch));
        lines.push(format!("  these operators decide from height {} on", resharing.activation_height.0));
    }
    for operator in &definition.operators {
        let is_new = plan.parent.as_ref().is_some_and(|parent| {
            parent.lock().operators.iter().all(|old| old.identity_key != operator.identity_key)
        });
        let is_me = match (operator.index == me, is_new) {
            (true, _) => "  <- this one",
            (false, true) => "  new",
            (false, false) => "",
        };
        let at = plan.met_at(operator).join(" ");
        lines.push(format!("  {}  {}  {:?}  {at:?}{is_me}", operator.index, operator.peer_id, operator.name));
    }
    let fork = definition.fork_version;
    for group in &definition.validators {
        let deposits: Vec<String> =
            group.deposits_gwei.iter().map(|gwei| format!("{}", *gwei as f64 / 1e9)).collect();
        lines.push(format!("  {} validators on network {fork}", group.count));
        lines.push(format!("    withdrawal credentials {}", group.withdrawal_credentials.bytes()));
        lines
            .push(format!("    fee recipient {}, gas limit {}", group.fee_recipient, group.target_gas_limit));
        lines.push(format!("    deposits of {} ETH", deposits.join(" + ")));
    }
    lines.push("taking part signs all of this".into());
    lines.join("\n")
}

/// The ceremony as it runs.
struct Part<'a> {
    member: &'a Member,
    addresses: Addresses,
    plan: &'a Plan,
    home: &'a Home,
    /// What the own node has said to the end of its epoch.
    promise: Promise,
    has_asked: bool,
    me: OperatorIndex,
    ceremony: Ceremony,
    transcript: Transcript,
    network: &'a Network,
    signer: IdentityKey,
    timers: Vec<(Timer, u64)>,
    started: Instant,
    shown: Vec<Phase>,
    signing: Option<Signing>,
    quorum_since: Option<Instant>,
    /// The lock as it was written last, and the signatures in it.
    written: Option<(VerifiedLock, usize)>,
    /// When an operator was heard to have got further.
    news: Instant,
    /// Operators that sent signatures that do not hold: honest ones never do.
    ignored: BTreeSet<OperatorIndex>,
}

impl Part<'_> {
    async fn run(
        mut self,
        first: Output,
        mut said: mpsc::Receiver<(OperatorIndex, Said)>,
    ) -> Result<VerifiedLock, ExitError> {
        self.carry_out(first)?;
        let mut again = tokio::time::interval(SEND_AGAIN);
        loop {
            let due = self.timers.iter().map(|(_, at_ms)| *at_ms).min();
            let due = due.map_or(self.started + 2 * self.member.timeout, |at_ms| {
                self.started + Duration::from_millis(at_ms)
            });
            tokio::select! {
                Some((from, said)) = said.recv() => self.take(from, said)?,
                () = tokio::time::sleep_until(due.into()) => self.fire()?,
                _ = again.tick() => {
                    self.advance()?;
                    self.send_own();
                    self.write_when_signed()?;
                }
                _ = tokio::signal::ctrl_c() => {
                    let stopped = || ExitError::failure("stopped").hint("the same command goes on");
                    return self.written.map(|(lock, _)| lock).ok_or_else(stopped);
                }
            }
            self.show();
            match &self.written {
                Some((lock, _)) if self.news.elapsed() > self.linger() => return Ok(lock.clone()),
                None if self.started.elapsed() > self.member.timeout => return Err(self.gave_up()),
                Some(_) | None => {}
            }
        }
    }

    /// How long others may still need answers after the end.
    fn linger(&self) -> Duration {
        let signed = self.signing.as_ref().map_or(0, Signing::signed);
        if signed == self.plan.definition.operators.len() { LAST_WORDS } else { LINGER }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn take(&mut self, from: OperatorIndex, said: Said) -> Result<(), ExitError> {
        match said {
            Said::Ceremony(message) => {
                let output = self.ceremony.step(self.now_ms(), Input::Received { from, message: *message });
                self.carry_out(output)
            }
            Said::Validators(_) | Said::Lock(_) if self.ignored.contains(&from) => Ok(()),
            Said::Validators(chunk) => {
                let taken = self.signing.as_mut().map(|signing| signing.take_chunk(from, chunk));
                self.told_of(from, taken);
                self.advance()
            }
            Said::Lock(share) => {
                let taken = self.signing.as_mut().map(|signing| signing.take_share(from, share));
                self.told_of(from, taken);
                Ok(())
            }
        }
    }

    fn told_of(&mut self, from: OperatorIndex, taken: Option<Result<(), aequa_crypto::lock::LockError>>) {
        if let Some(Err(error)) = taken {
            console::line(format!(
                "operator {from} sent what does not hold, and is not listened to: {error}"
            ));
            self.ignored.insert(from);
        }
    }

    fn fire(&mut self) -> Result<(), ExitError> {
        let now_ms = self.now_ms();
        let (due, waiting): (Vec<_>, Vec<_>) = self.timers.drain(..).partition(|(_, at_ms)| *at_ms <= now_ms);
        self.timers = waiting;
        for (timer, _) in due {
            let output = self.ceremony.step(self.now_ms(), Input::Timer(timer));
            self.carry_out(output)?;
        }
        Ok(())
    }

    /// Durable first, then others hear of it.
    fn carry_out(&mut self, mut output: Output) -> Result<(), ExitError> {
        for change in output.take_timers() {
            self.timers.retain(|(timer, _)| !timer.is_replaced_by(change.timer));
            self.timers.push((change.timer, change.at_ms));
        }
        let durable = output
            .persisted(&mut self.transcript)
            .map_err(|error| ExitError::failure(error).hint("the same command goes on when the disk does"))?;
        for outbound in durable.send {
            let frame = Frame::new(wire::CEREMONY, outbound.message().encode());
            match outbound {
                Outbound::Broadcast(_) => self.network.broadcast(Topic::Dkg, &frame),
                Outbound::Send(to, _) => self.network.send(to, Topic::Dkg, &frame),
            }
        }
        durable.tell.into_iter().for_each(tell);
        if self.signing.is_none()
            && let Some(outcome) = self.ceremony.outcome()
        {
            let quorum = self.plan.machine.quorum();
            self.signing = Some(Signing::new(self.plan, outcome, quorum, self.me));
            console::line("the keys are there; signing the lock");
            self.advance()?;
            self.send_own();
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<(), ExitError> {
        if self.signing.is_none() || !self.has_promise()? {
            return Ok(());
        }
        let (Some(signing), Some(outcome)) = (&mut self.signing, self.ceremony.outcome()) else {
            return Ok(());
        };
        signing
            .advance(&self.signer, &outcome.secret)
            .map_err(|error| ExitError::failure(format!("the lock cannot be signed: {error}")))
    }

    /// Whether this operator may sign the lock: its node has promised to end with the last height before it.
    fn has_promise(&mut self) -> Result<bool, ExitError> {
        let Some(pledge) = self.home.pledge().filter(|_| self.promise != Promise::Given) else {
            return Ok(true);
        };
        let last = pledge.last_height.0;
        self.promise = epochs::ask(self.home.data_dir(), pledge)
            .map_err(|error| ExitError::failure(format!("cannot ask the node: {error}")))?;
        match self.promise {
            Promise::Given => console::line(format!("the node will end its epoch after height {last}")),
            Promise::Refused => {
                return Err(ExitError::refused(format!("the node has gone beyond height {last}"))
                    .hint("begin another resharing, with a later --activation-height"));
            }
            Promise::Open if !self.has_asked => {
                self.has_asked = true;
                console::line(format!(
                    "asking the node to end its epoch after height {last}: it has to run for that"
                ));
            }
            Promise::Open => {}
        }
        Ok(self.promise == Promise::Given)
    }

    fn send_own(&self) {
        let Some(signing) = &self.signing else { return };
        for chunk in signing.own_chunks() {
            self.network.broadcast(Topic::Dkg, &Frame::new(wire::VALIDATOR_SHARES, chunk.as_ssz_bytes()));
        }
        if let Some(share) = signing.own_share() {
            self.network.broadcast(Topic::Dkg, &Frame::new(wire::LOCK_SHARE, share.as_ssz_bytes()));
        }
    }

    /// Writes the lock when the ceremony has ended and all have signed it, or q have and the others are late. One who
    /// signs later still is written into it too, so that in the end all have the same file.
    fn write_when_signed(&mut self) -> Result<(), ExitError> {
        let (Some(signing), Some(outcome)) = (&self.signing, self.ceremony.outcome()) else { return Ok(()) };
        let (signed, operators) = (signing.signed(), self.plan.definition.operators.len());
        if !signing.has_quorum() || !self.ceremony.is_finished() {
            return Ok(());
        }
        let since = *self.quorum_since.get_or_insert_with(Instant::now);
        let is_waiting = signed < operators && since.elapsed() < self.member.wait;
        if is_waiting || self.written.as_ref().is_some_and(|(_, before)| *before == signed) {
            return Ok(());
        }
        let lock = signing
            .complete()
            .map_err(|error| ExitError::failure(format!("the lock does not hold: {error}")))?;
        // Encrypting keys takes a tenth of a second each.
        let written = tokio::task::block_in_place(|| match &self.written {
            None => self.home.write(&lock, &outcome.secret, &self.addresses),
            Some(_) => self.home.write_lock(&lock),
        });
        let written = written.and_then(|()| match signed == operators {
            // Nobody needs this operator's dealing again, and nobody shall find what it was made from.
            true => self.home.forget_seed(),
            false => Ok(()),
        });
        let path = self.home.lock();
        written.map_err(|error| ExitError::failure(format!("cannot write {}: {error}", path.display())))?;
        console::line(format!("the lock is {}, signed by {signed} of {operators}", path.display()));
        self.written = Some((lock, signed));
        self.news = Instant::now();
        Ok(())
    }

    /// A line when somebody got further.
    fn show(&mut self) {
        let progress = self.ceremony.progress();
        if progress != self.shown {
            let seconds = self.started.elapsed().as_secs();
            let words: Vec<String> = progress
                .iter()
                .enumerate()
                .map(|(operator, phase)| format!("{operator} {}", word(*phase)))
                .collect();
            console::line(format!("{seconds:>4} s  {}", words.join("  ")));
            self.news = Instant::now();
            self.shown = progress;
        }
    }

    fn gave_up(&self) -> ExitError {
        let blames = self.ceremony.blames();
        let who: Vec<String> =
            blames.iter().map(|blame| format!("operator {}: {:?}", blame.operator, blame.fault)).collect();
        let who = if who.is_empty() { "signatures of the lock are missing".into() } else { who.join(", ") };
        ExitError::failure(format!("the ceremony has not ended in time: {who}"))
            .hint(
            "the same command goes on; if the others have ended, put the cluster-lock.json of one of them here first",
        )
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Silent => "silent",
        Phase::Committed => "committed",
        Phase::Dealt => "dealt",
        Phase::Checked => "checked",
        Phase::Done => "done",
    }
}

fn tell(notice: Notice) {
    match notice {
        Notice::Refused { from, refusal } => {
            tracing::debug!(%from, %refusal, "a message was refused");
        }
        Notice::Blamed(blame) => {
            let proven = if blame.proof.is_some() { ", proven" } else { "" };
            console::line(format!("operator {} is to blame: {:?}{proven}", blame.operator, blame.fault));
        }
        Notice::Qualified(dealings) => {
            let dealers: Vec<String> = dealings.iter().map(|dealing| dealing.dealer.to_string()).collect();
            console::line(format!("agreed: the keys are made from the dealings of {}", dealers.join(", ")));
        }
        Notice::Finished => console::line("q operators have the same keys"),
        Notice::Hopeless(blames) => {
            let who: Vec<String> = blames
                .iter()
                .map(|blame| format!("operator {}: {:?}", blame.operator, blame.fault))
                .collect();
            console::line(format!("this ceremony cannot end any more: {}", who.join(", ")));
        }
    }
}

/// Checks what members send on the tasks that read it.
struct Desk {
    machine: Arc<aequa_dkg::Definition>,
    queue: mpsc::Sender<(OperatorIndex, Said)>,
}

impl Desk {
    fn check(&self, frame: &Frame) -> Result<Said, Verdict> {
        match frame.kind {
            wire::CEREMONY => {
                let checked = tokio::task::block_in_place(|| self.machine.check(&frame.body));
                checked.map(|message| Said::Ceremony(Box::new(message))).map_err(|refusal| {
                    match refusal.kind() {
                        RefusalKind::PeerFault => Verdict::BadSignature,
                        RefusalKind::Stale | RefusalKind::NotNow => Verdict::Useless,
                    }
                })
            }
            wire::VALIDATOR_SHARES => aequa_types::decode("shares", &frame.body, CHUNK_BYTES_MAX)
                .map(Said::Validators)
                .map_err(|_| Verdict::Malformed),
            wire::LOCK_SHARE => aequa_types::decode("share", &frame.body, LOCK_SHARE_BYTES_MAX)
                .map(Said::Lock)
                .map_err(|_| Verdict::Malformed),
            _ => Err(Verdict::Unknown),
        }
    }
}

impl Handler for Desk {
    fn frame(&self, from: OperatorIndex, topic: Topic, frame: Frame) -> BoxFuture<'_, Verdict> {
        Box::pin(async move {
            if topic != Topic::Dkg {
                return Verdict::Unknown;
            }
            match self.check(&frame) {
                Ok(said) => {
                    // The machine has ended.
                    let taken = self.queue.send((from, said)).await.is_ok();
                    if taken { Verdict::Accept } else { Verdict::Unknown }
                }
                Err(verdict) => verdict,
            }
        })
    }

    fn gossip(&self, _: OperatorIndex, _: Topic, _: Frame) -> BoxFuture<'_, GossipVerdict> {
        Box::pin(async { GossipVerdict::Ignore })
    }

    fn request(&self, _: OperatorIndex, _: Frame) -> BoxFuture<'_, Option<Frame>> {
        Box::pin(async { None })
    }

    fn connected(&self, _: OperatorIndex) {}

    fn disconnected(&self, _: OperatorIndex) {}
}
