//! From entries to what the replica asks for, or where that differs from what was recorded.

use super::Step;
use super::start::Start;
use super::state::KnownState;
use aequa_chain::{Chain, StateRead};
use aequa_mempool::Mempool;
use aequa_replica::{Durable, Keys, Output, Permit, Persist, Replica, StoreWrite, VoteStore};
use aequa_types::statement::Claim;
use aequa_types::{ConsensusParams, Height, Message, Seal, Signature, Signed, Statement, Verified};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;

/// A replica that is run again from what was recorded.
pub struct Replay {
    replica: Replica<KnownKeys>,
    state: Arc<KnownState>,
    signer: Arc<Mutex<KnownSignatures>>,
    /// What the steps of the turn ask for.
    turn: Output,
    /// Steps taken.
    steps: u64,
    between: bool,
}

/// Where a replay is not what was recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// It cannot be started with this.
    #[error("the start cannot be repeated: {reason}")]
    Start {
        /// Why.
        reason: String,
    },
    /// An input is not acceptable any more.
    #[error("step {step} at height {height}: the input is refused: {reason}")]
    Input {
        /// Number of the step, from 1 in its process.
        step: u64,
        /// The height being agreed on.
        height: Height,
        /// Why.
        reason: String,
    },
    /// It signs something that was not signed.
    #[error("step {step} at height {height}: signs what was not signed then: {made}")]
    Statement {
        /// Number of the step.
        step: u64,
        /// The height being agreed on.
        height: Height,
        /// What it signs.
        made: String,
    },
    /// It reads of the state what was not read.
    #[error("step {step} at height {height}: reads what was not read then: 0x{key}")]
    Read {
        /// Number of the step.
        step: u64,
        /// The height being agreed on.
        height: Height,
        /// The key, in hex.
        key: String,
    },
    /// One of the things it asks for is another.
    #[error("step {step} at height {height}: output {position} of {recorded} is another: {made}")]
    Output {
        /// Number of the step.
        step: u64,
        /// The height being agreed on.
        height: Height,
        /// Number of the thing, from 1 in the step.
        position: usize,
        /// How many there were.
        recorded: usize,
        /// What is asked for now.
        made: String,
    },
    /// After a turn another height is decided.
    #[error("after step {step} height {made} is decided, and {recorded} was")]
    Tip {
        /// Number of the step.
        step: u64,
        /// The height that is decided now.
        made: Height,
        /// The one that was.
        recorded: Height,
    },
}

impl Replay {
    /// A replica as it was started. `params` are those of the lock that the start names.
    pub fn begin(mut start: Start, params: ConsensusParams) -> Result<Self, Difference> {
        let because = |reason: String| Difference::Start { reason };
        let unreadable = || because("it is not readable".into());
        let tip = start.tip();
        let state = Arc::new(KnownState::at(tip.height));
        state.learn(std::mem::take(&mut start.reads));
        let ever = aequa_types::Quorum::of(start.operators_ever.into()).ok_or_else(unreadable)?;
        let read: Arc<dyn StateRead> = Arc::<KnownState>::clone(&state);
        let chain =
            Chain::open(start.cluster_id, ever, read, tip).map_err(|error| because(error.to_string()))?;
        let config = start.config(params).ok_or_else(unreadable)?;
        let mempool = Mempool::new(config.limits, config.params.builder.clone())
            .map_err(|error| because(error.to_string()))?;
        let recovery = start.into_recovery().ok_or_else(unreadable)?;
        let signer = Arc::<Mutex<KnownSignatures>>::default();
        let replica = Replica::new(config, KnownKeys(Arc::clone(&signer)), chain, mempool, recovery);
        match state.take_unknown() {
            Some(key) => Err(because(format!("0x{} was not read then", hex::encode(key)))),
            None => Ok(Self { replica, state, signer, turn: Output::default(), steps: 0, between: true }),
        }
    }

    /// Takes a step again. Messages are checked by `check`, as they were when they arrived.
    pub fn step(
        &mut self,
        step: Step,
        check: &mut dyn FnMut(Message) -> Result<Verified, String>,
    ) -> Result<(), Difference> {
        self.steps += 1;
        self.between = false;
        let (number, height) = (self.steps, self.tip().next());
        let now = step.now();
        self.state.learn(step.reads);
        self.signer.lock().signed = step.signed;
        let input = step.input.into_input(check);
        let output = match input.map_err(|reason| Difference::Input { step: number, height, reason })? {
            Some(input) => self.replica.step(now, input),
            None => self.replica.start(now),
        };
        if let Some(made) = self.signer.lock().unknown.take() {
            let made = format!("{made:?}");
            return Err(Difference::Statement { step: number, height, made });
        }
        if let Some(key) = self.state.take_unknown() {
            return Err(Difference::Read { step: number, height, key: hex::encode(key) });
        }
        let made = output.checksums();
        if made != step.checksums {
            let same = made.iter().zip(&step.checksums).take_while(|(made, recorded)| made == recorded);
            let position = same.count();
            let words = output.words_of(position).unwrap_or_else(|| "nothing".into());
            let recorded = step.checksums.len();
            return Err(Difference::Output {
                step: number,
                height,
                position: position + 1,
                recorded,
                made: words,
            });
        }
        self.turn.merge(output);
        Ok(())
    }

    /// Carries the turn out, as far as the replica hears of it: what is stored is in its state from here on. Gives what
    /// left the node. `recorded` is the height that was decided then.
    pub fn end_turn(&mut self, recorded: Height) -> Result<Durable, Difference> {
        self.between = true;
        let mut output = std::mem::take(&mut self.turn);
        output.take_timers();
        // That it was carried out is recorded: whoever ran it did not heed the halt.
        let output = output.unless_halted().unwrap_or_else(|stopped| stopped.ignored());
        let Ok(durable) = output.persisted(&mut Believed);
        for write in &durable.store {
            if let StoreWrite::Commit { block, applied, .. } = write {
                self.state.write(block.header().height, &applied.changes);
            }
        }
        match self.tip() {
            made if made != recorded => Err(Difference::Tip { step: self.steps, made, recorded }),
            _ => Ok(durable),
        }
    }

    /// Why the replica wants its node to stop, after the steps of a turn that was not carried out.
    pub fn halts(&self) -> Option<String> {
        self.turn.halts().map(ToString::to_string)
    }

    /// Whether no step was taken since the last turn that was carried out.
    pub fn is_between_turns(&self) -> bool {
        self.between
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The last decided height.
    pub fn tip(&self) -> Height {
        self.replica.chain().tip().height
    }
}

/// What was recorded was durable.
struct Believed;

impl VoteStore for Believed {
    type Error = Infallible;

    fn persist(&mut self, _: &Persist) -> Result<(), Infallible> {
        Ok(())
    }

    fn holds(&self, _: &Signed) -> bool {
        true
    }
}

/// The signatures of a step, in place of the keys that made them.
struct KnownKeys(Arc<Mutex<KnownSignatures>>);

#[derive(Default)]
struct KnownSignatures {
    signed: Vec<Signed>,
    /// What was to be signed and is not known.
    unknown: Option<Statement>,
}

impl Keys for KnownKeys {
    fn sign(&self, permit: Permit) -> Signed {
        let statement = permit.into_statement();
        let mut known = self.0.lock();
        let signed = known.signed.iter().find(|signed| signed.statement == statement).cloned();
        signed.unwrap_or_else(|| {
            known.unknown.get_or_insert_with(|| statement.clone());
            Signed { statement, signature: Signature::ZERO }
        })
    }

    fn share(&self, permit: &Permit) -> Option<Seal> {
        let decision = permit.statement().decision()?;
        let known = self.0.lock();
        let commit = known.signed.iter().find(|signed| signed.decision() == Some(decision))?;
        match &commit.claim {
            Claim::Commit(commit) => commit.seal,
            Claim::PrePrepare(_) | Claim::Prepare(_) | Claim::RoundChange(_) => None,
        }
    }
}
