//! The end of an epoch: a promise to the ceremony, the last height, and the moment to change.

use super::context::Context;
use super::sync::blocking;
use crate::epochs::{self, Pledge, Promise};
use crate::exit::ExitError;
use aequa_crypto::lock::VerifiedLock;
use aequa_replica::Input;
use aequa_types::{Height, OperatorIndex};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the folder of what is next is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often the tip is, when the last height is near.
const LOOK_CLOSELY: Duration = Duration::from_millis(5);
/// So near.
const NEAR: u64 = 8;
/// How long seals of the last blocks are waited for.
const SEALS_WITHIN: Duration = Duration::from_secs(2);
/// How often it is said that the change waits for something.
const REMIND_EVERY: Duration = Duration::from_secs(10);

/// The epoch of a running node.
pub struct Epoch {
    /// The operator's folder.
    pub data_dir: PathBuf,
    /// The lock in force.
    pub lock: VerifiedLock,
    /// Whether lock and keys are where the change can move others into their place.
    pub is_movable: bool,
    /// What the rooms of the node share.
    pub context: Arc<Context>,
}

impl Epoch {
    /// Ends when the next epoch is to begin, with this operator's place in it, if it has one: the last height is decided,
    /// and all that the next epoch needs is here.
    pub async fn over(self) -> Option<OperatorIndex> {
        let mut reminded = Instant::now();
        let (next, place) = loop {
            let missing = match self.find_next().await {
                Ok(next) => break next,
                Err(missing) => missing,
            };
            let last = self.promise().await;
            if last.is_some_and(|last| self.context.facts.tip_height() >= last)
                && reminded.elapsed() >= REMIND_EVERY
            {
                let text = format!("the epoch has ended, and the next cannot begin: {missing}");
                tracing::warn!(target: "event", text, "warning");
                reminded = Instant::now();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let last = next.lock().first_height().previous().unwrap_or_default();
        // Who was away from the ceremony has promised nothing, and there is no more reason to go on.
        self.context.input(Input::EndEpoch(last)).await;
        self.reach(last).await;
        if place.is_none() {
            let text = format!(
                "this operator has left the cluster: block {last} was the last that it has decided; stop its clients, and \
                 remove this folder: old shares are in it"
            );
            tracing::warn!(target: "event", text, "warning");
        }
        place
    }

    /// Gives this operator's word on the last height of its epoch, when the ceremony asks for it; the height, once it
    /// was given.
    async fn promise(&self) -> Option<Height> {
        let (pledge, promise) = match self.asked().await {
            Ok(asked) => asked?,
            Err(error) => {
                self.warn(&error);
                return None;
            }
        };
        let last = pledge.last_height;
        if promise == Promise::Open && !self.is_movable {
            let text = "a resharing cannot be followed: --cluster-lock and --keys-dir have to be in the data directory";
            tracing::warn!(target: "event", text, "warning");
            if let Err(error) = self.answer(pledge, false).await {
                self.warn(&error);
            }
            return None;
        }
        if promise != Promise::Open {
            return (promise == Promise::Given).then_some(last);
        }
        self.context.input(Input::EndEpoch(last)).await;
        // A node that is stopping says nothing.
        let is_given = self.context.ask(move |core| core.last_height() == Some(last)).await?;
        if let Err(error) = self.answer(pledge, is_given).await {
            self.warn(&error);
            return None;
        }
        let result = if is_given { "ends" } else { "refused" };
        tracing::info!(target: "event", result, last_height = last.0, "epoch");
        is_given.then_some(last)
    }

    async fn asked(&self) -> Result<Option<(Pledge, Promise)>, ExitError> {
        let (dir, lock_hash) = (self.data_dir.clone(), self.lock.lock().lock_hash);
        let asked = blocking(move || epochs::asked(&dir)).await;
        let asked = asked.map_or(Ok(None), |(asked, _)| asked).map_err(ExitError::failure)?;
        Ok(asked.filter(|(pledge, _)| pledge.lock_hash == lock_hash))
    }

    async fn answer(&self, pledge: Pledge, is_given: bool) -> Result<(), ExitError> {
        let dir = self.data_dir.clone();
        let done = blocking(move || epochs::answer(&dir, &pledge, is_given)).await;
        done.map_or(Ok(()), |(done, _)| done).map_err(ExitError::failure)
    }

    /// The next lock and own shares of it, opened and checked; or what is missing.
    async fn find_next(&self) -> Result<(VerifiedLock, Option<OperatorIndex>), String> {
        let (dir, lock, me) = (self.data_dir.clone(), self.lock.clone(), self.context.me);
        let found = blocking(move || epochs::load_next(&dir, &lock, me)).await;
        let (next, place) = match found.map(|(found, _)| found) {
            Some(Ok(Some(next))) => next,
            Some(Ok(None)) | None => return Err("its lock is not here yet".into()),
            Some(Err(error)) => {
                // Opening keystores takes its time.
                tokio::time::sleep(REMIND_EVERY).await;
                return Err(error.message);
            }
        };
        let (epoch, first_height) = (next.lock().epoch, next.lock().first_height().0);
        self.context.locks.expect(next.lock().lock_hash);
        tracing::info!(
            target: "event",
            result = if place.is_some() { "ready" } else { "leaves" },
            epoch,
            first_height,
            operators = next.quorum().operators(),
            operator = place.map(|place| place.0),
            "epoch"
        );
        Ok((next, place))
    }

    /// Waits for the last height, and for the seals of what was decided.
    async fn reach(&self, last: Height) {
        while self.context.facts.tip_height() < last {
            let is_near = self.context.facts.tip_height().0.saturating_add(NEAR) >= last.0;
            tokio::time::sleep(if is_near { LOOK_CLOSELY } else { LOOK_EVERY }).await;
        }
        let until = Instant::now() + SEALS_WITHIN;
        while Instant::now() < until {
            let is_done = self.context.ask(|core| core.seals_pending() == 0).await;
            if is_done != Some(false) {
                return;
            }
            tokio::time::sleep(LOOK_CLOSELY).await;
        }
    }

    fn warn(&self, error: &ExitError) {
        tracing::warn!(target: "event", text = %error.message, "warning");
    }
}

/// Moves what is next into place, and begins again with it: the same program with the same arguments, in this process.
/// Only an error comes back.
pub fn change(data_dir: &Path, keys_dir: &Path, place: OperatorIndex) -> ExitError {
    let moved = epochs::begin(data_dir, place).and_then(|()| epochs::complete(data_dir, keys_dir));
    if let Err(error) = moved {
        return error;
    }
    super::again("the next epoch is in place")
}
