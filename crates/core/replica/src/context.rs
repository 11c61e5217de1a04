//! What every component gets: the time, the cluster, the chain, and where it puts what it asks for.

use crate::io::{Config, Now, Timer};
use crate::output::Output;
use aequa_chain::Chain;
use aequa_signing::Elector;
use std::sync::Arc;

/// The surroundings of a component during one step. The keys are not among them: what an instance says is signed by
/// way of `Instances`, and all else by the router.
pub(crate) struct Context {
    /// Who this operator is, and what all of them share.
    pub config: Config,
    /// Who leads.
    pub elector: Arc<dyn Elector>,
    /// Whether this operator may lead.
    pub may_lead: bool,
    /// The decided chain. Only `Blocks::execute` moves it.
    pub chain: Chain,
    /// When the step happens.
    pub now: Now,
    /// What the step asks for so far.
    pub out: Output,
}

impl Context {
    /// Starts a timer, in so many milliseconds from now.
    pub(crate) fn set_timer(&mut self, timer: Timer, after_ms: u64) {
        self.out.set_timer(timer, self.now.elapsed_ms.saturating_add(after_ms));
    }
}
