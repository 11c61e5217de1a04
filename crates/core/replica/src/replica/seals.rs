//! The group seal of what was decided.

use super::Replica;
use crate::io::Notice;
use crate::output::{StoreWrite, Work};
use aequa_signing::Keys;
use aequa_types::{Certificate, Claim, Decision, Height, InstanceId, OperatorIndex, Seal, Signed};

/// Heights below those kept in memory at which a decision with all its shares still waits for its turn to be sealed. This
/// operator holds its own proposals back long before; those of the others it cannot.
const SEALS_KEPT: u64 = 256;

impl<K: Keys> Replica<K> {
    /// Begins to collect the shares for a decision, unless it has its seal.
    pub(super) fn open_seal(&mut self, certificate: &Certificate) {
        let before = certificate.instance.height().is_some_and(|height| height < self.cx.config.first_height);
        if !self.cx.config.seals || certificate.group_seal().is_some() || before {
            return;
        }
        let decision = certificate.decision();
        let mut commits = certificate.commits();
        if let Some(instance) = self.instances.get(decision.instance) {
            commits.extend(instance.commits(decision.round, decision.digest).cloned());
        }
        self.seals.begin(decision, commits.iter().filter_map(share));
    }

    /// The share of a COMMIT, where one is still needed.
    pub(super) fn add_to_seal(&mut self, commit: &Signed) {
        if let (Some(decision), Some((operator, share))) = (commit.decision(), share(commit)) {
            self.seals.add(&decision, operator, share);
        }
    }

    /// Gives up on seals of blocks below this height: of those that lack shares nobody sends any now.
    pub(super) fn forget_seals_below(&mut self, oldest: Height) {
        let oldest_whole = Height(oldest.0.saturating_sub(SEALS_KEPT));
        self.seals.retain(|decision, has_shares| {
            let oldest = if has_shares { oldest_whole } else { oldest };
            decision.instance.height().is_none_or(|height| height >= oldest)
        });
    }

    /// Hands out what is to be combined, and tells what became of sessions.
    pub(super) fn carry_on_sessions(&mut self) {
        for (decision, shares) in self.seals.take_handed_out() {
            self.cx.out.work(Work::Combine { decision, shares });
        }
        for (decision, event) in self.seals.take_events() {
            self.cx.out.notify(Notice::Session(decision, event));
        }
    }

    pub(super) fn on_combined(&mut self, decision: Decision, result: Result<Seal, Vec<OperatorIndex>>) {
        match result {
            Ok(seal) => {
                self.seals.close(&decision);
                let certificate = Certificate::sealed(decision, seal);
                self.instances.upgrade(&certificate);
                if let InstanceId::Duty(duty) = decision.instance {
                    self.duties.sealed(&self.cx, duty, &certificate);
                }
                self.cx.out.store(StoreWrite::Sealed(certificate.clone()));
                self.cx.out.notify(Notice::Sealed(certificate));
            }
            Err(blamed) => {
                let Decision { instance, round, .. } = decision;
                for operator in blamed.iter().copied() {
                    self.cx.out.notify(Notice::ShareBlamed { operator, instance, round });
                }
                self.seals.blame(&decision, &blamed);
            }
        }
        if self.blocks.seals_caught_up(self.seals.pending()) {
            self.propose_block(self.height());
        }
    }
}

fn share(commit: &Signed) -> Option<(OperatorIndex, Seal)> {
    match &commit.claim {
        Claim::Commit(claim) => claim.seal.map(|seal| (commit.author, seal)),
        Claim::PrePrepare(_) | Claim::Prepare(_) | Claim::RoundChange(_) => None,
    }
}
