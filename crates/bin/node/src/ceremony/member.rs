//! One operator's part in a ceremony: messages in, steps, messages out, until there is a lock.

use super::desk::Desk;
use super::home::Home;
use super::meeting::meeting;
use super::own::{OwnKeys, ceremony_seed};
use super::part::Part;
use super::plan::Plan;
use super::transcript::Transcript;
use super::watch::{CeremonyWatch, Ending};
use crate::cluster::{Addresses, SHARE_KEYSTORE};
use crate::config::LOCK_FILE;
use crate::console;
use crate::custody::Found;
use crate::epochs;
use crate::exit::ExitError;
use crate::files;
use crate::obol;
use aequa_crypto::identity::IdentityKey;
use aequa_crypto::lock::VerifiedLock;
use aequa_dkg::{Ceremony, Secrets, Timing};
use aequa_p2p::{Topic, Unobserved};
use aequa_types::OperatorIndex;
use aequa_types::definition::Definition;
use aequa_types::limits::OPERATORS_MAX;
use aequa_types::lock::Operator;
use aequa_types::validator::ETHER;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an operator takes part in, and how.
#[derive(Debug)]
pub struct Member {
    /// What everybody agreed on.
    pub definition: PathBuf,
    /// The lock that a resharing follows, and those before it, where the operator's folder has them not.
    pub locks: Vec<PathBuf>,
    /// The operator's folder.
    pub data_dir: PathBuf,
    /// Where it listens, and its node later; to the others as the definition says, where nothing else is given.
    pub addresses: Addresses,
    /// How long those that are away are waited for in each step, where q are there.
    pub wait: Duration,
    /// When to give up.
    pub timeout: Duration,
    /// What it does wrong.
    #[cfg(feature = "e2e")]
    pub fault: Option<super::faulty::Misbehaviour>,
}

/// Takes part until there is a lock, and until the others have one too.
pub async fn run(member: &Member) -> Result<VerifiedLock, ExitError> {
    let plan = Plan::of_member(&member.definition, &member.data_dir, &member.locks)?;
    let (definition, machine) = (&plan.definition, &plan.machine);
    if let Some(lock) = in_force(&member.data_dir, definition)? {
        return Ok(lock);
    }
    let own = OwnKeys::load(&member.data_dir)?;
    let (me, operator) = place_of(&plan, &own)?;
    obol::check_definition(&member.data_dir, definition, me)?;
    let home = Home::enter(&member.data_dir, &plan, &member.locks, me)?;
    console::line(summary(&plan, me));
    let signer = IdentityKey::from_seed(&own.identity.seed());
    let network_identity = own.identity.seed();
    let watch = Arc::new(CeremonyWatch::new(&home.ceremonies()));
    let restored = restore(member, &plan, &home, own, me, &watch);
    if let Err(error) = &restored {
        watch.recovered(Err(error));
        watch.write();
    }
    let (mut ceremony, transcript) = restored?;
    #[cfg(feature = "e2e")]
    if let Some(fault) = member.fault {
        fault.corrupt(&mut ceremony, machine, me);
    }
    let first = ceremony.start(0);
    let mut addresses = member.addresses.clone();
    // Where a resharing meets its node does not listen.
    if addresses.p2p.is_empty() || plan.parent.is_some() {
        addresses.p2p.clone_from(&operator.multiaddrs);
    }
    if let Some(lock) = finished_before(&home, &addresses, &plan, &ceremony, me, &watch)? {
        watch.write();
        return Ok(lock);
    }

    let (desk, events) = Desk::new(Arc::clone(machine));
    let members = plan.operators().map(|(place, operator)| aequa_p2p::Member {
        operator: place,
        peer_id: operator.peer_id.clone(),
        addrs: plan.met_at(operator),
    });
    let mut config = aequa_p2p::Config::new(&network_identity, meeting(), me, members.collect());
    config.topics = vec![Topic::Dkg];
    config.listen = match member.addresses.p2p.is_empty() {
        true => plan.met_at(operator),
        false => member.addresses.p2p.clone(),
    };
    config.dkg_required = true;
    config.max_conns = OPERATORS_MAX as i64 + 28;
    let network = aequa_p2p::start(config, Arc::new(desk), Arc::new(Unobserved))
        .map_err(|error| ExitError::failure(error).hint("choose another address with --p2p.listen"))?;
    let part = Part {
        member,
        addresses,
        plan: &plan,
        home: &home,
        promise: None,
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
        differs: BTreeSet::new(),
        watch: Arc::clone(&watch),
    };
    let result = part.run(first, events).await;
    network.shutdown().await;
    watch.ended(if result.is_ok() { Ending::Locked } else { Ending::Failed });
    watch.write();
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
    watch: &Arc<CeremonyWatch>,
) -> Result<(Ceremony, Transcript), ExitError> {
    let (path, seed) = (home.transcript(), home.seed());
    if files::is_there(&seed) && !files::is_there(&path) {
        return Err(ExitError::refused(format!("{} is missing, and its seed is there", path.display()))
            .hint("without it this operator could contradict itself: it takes no part in this ceremony any more"));
    }
    let (transcript, entries) = Transcript::open(&path, plan.machine.ceremony(), Arc::clone(watch))?;
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
    let goes_on = !entries.is_empty();
    let ceremony = Ceremony::restore(Arc::clone(&plan.machine), me, secrets, timing, entries)
        .map_err(|error| ExitError::refused(format!("the transcript does not hold: {error}")))?;
    if goes_on {
        watch.recovered::<ExitError>(Ok(Found::InPlace));
    }
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
    plan: &Plan,
    ceremony: &Ceremony,
    me: OperatorIndex,
    watch: &CeremonyWatch,
) -> Result<Option<VerifiedLock>, ExitError> {
    let (path, definition) = (home.lock(), &plan.definition);
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
    match ceremony.outcome().and_then(|outcome| outcome.secret.as_ref()) {
        Some(secret) => {
            lock.check_own_share(me, &secret.chain)
                .map_err(|error| ExitError::refused(format!("{}: {error}", path.display())))?;
            let public = hex::encode(secret.chain.public().to_bytes());
            if !home.is_kept(SHARE_KEYSTORE, &public).map_err(fail)? {
                watch.recovered::<ExitError>(Ok(Found::Elsewhere));
            }
            watch.persist(|| home.write(&lock, secret, addresses)).map_err(fail)?;
        }
        None if !plan.machine.is_receiver(me) => {}
        // Its keys can only be those of an earlier run.
        None => {
            let public = lock.public_shares().get(me.as_usize()).map(|share| hex::encode(share.to_bytes()));
            if !home.is_kept(SHARE_KEYSTORE, &public.unwrap_or_default()).map_err(fail)? {
                console::line("the lock is there, and the own shares are not: they come from the transcript");
                watch.recovered::<ExitError>(Ok(Found::Elsewhere));
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

fn place_of<'a>(plan: &'a Plan, own: &OwnKeys) -> Result<(OperatorIndex, &'a Operator), ExitError> {
    let card = own.card(String::new(), Vec::new());
    let found = plan.operators().find(|(_, operator)| operator.identity_key == card.identity_key);
    let (place, operator) = found.ok_or_else(|| {
        ExitError::refused("the definition does not name the identity in this folder")
            .hint("give your operator.json to whoever writes the definition, or choose another --data-dir")
    })?;
    match operator.enc_key == Some(card.enc_key) {
        true => Ok((place, operator)),
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
    for (place, operator) in plan.operators() {
        let is_new = plan.parent.as_ref().is_some_and(|parent| {
            parent.lock().operators.iter().all(|old| old.identity_key != operator.identity_key)
        });
        let is_me = match (place == me, is_new) {
            (true, _) => "  <- this one",
            (false, true) => "  new",
            (false, false) => "",
        };
        let (who, at) = (plan.name_of(place), plan.met_at(operator).join(" "));
        lines.push(format!("  {who}  {}  {:?}  {at:?}{is_me}", operator.peer_id, operator.name));
    }
    if !plan.machine.is_receiver(me) {
        lines.push("  this operator leaves: it gets no share, and its node ends before that height".into());
    }
    let fork = definition.fork_version;
    for group in &definition.validators {
        let deposits: Vec<String> =
            group.deposits_gwei.iter().map(|gwei| format!("{}", *gwei as f64 / ETHER as f64)).collect();
        lines.push(format!("  {} validators on network {fork}", group.count));
        lines.push(format!("    withdrawal credentials {}", group.withdrawal_credentials.bytes()));
        lines
            .push(format!("    fee recipient {}, gas limit {}", group.fee_recipient, group.target_gas_limit));
        lines.push(format!("    deposits of {} ETH", deposits.join(" + ")));
    }
    if let Some(terms) = &definition.builders {
        lines.push(format!("  blocks may be bought from {}", terms.urls.join(", ")));
        lines.push(format!(
            "    for at least {} gwei, counted as {} % of the bid, with up to {} gwei owed outside of the block",
            terms.min_bid_gwei, terms.boost_percent, terms.max_payment_gwei
        ));
    }
    if let Some(imported) = &definition.imported {
        let (count, from) = (imported.validators.len(), imported.obol_lock_hash);
        lines.push(format!("  {count} validators on network {fork}, imported from Obol lock {from}"));
    }
    lines.push("taking part signs all of this".into());
    lines.join("\n")
}
