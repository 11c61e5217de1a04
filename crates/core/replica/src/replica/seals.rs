//! The group seal of what was decided.

use super::Replica;
use crate::io::Notice;
use crate::output::{StoreWrite, Work};
use aequa_signing::{Keys, Shares};
use aequa_types::{Certificate, Claim, Decision, InstanceId, OperatorIndex, Seal, Signed};

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
        let shares = self.seals.open(decision, commits.iter().filter_map(share));
        self.combine(decision, shares);
    }

    /// The share of a COMMIT, where one is still needed.
    pub(super) fn add_to_seal(&mut self, commit: &Signed) {
        if let (Some(decision), Some((operator, share))) = (commit.decision(), share(commit)) {
            let shares = self.seals.add(&decision, operator, share);
            self.combine(decision, shares);
        }
    }

    fn combine(&mut self, decision: Decision, shares: Option<Shares>) {
        if let Some(shares) = shares {
            self.cx.out.work(Work::Combine { decision, shares });
        }
    }

    pub(super) fn on_combined(&mut self, decision: Decision, result: Result<Seal, Vec<OperatorIndex>>) {
        match result {
            Ok(seal) => {
                self.seals.close(&decision);
                let certificate = Certificate::sealed(decision, seal);
                self.instances.upgrade(&certificate, self.cx.now);
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
                let shares = self.seals.blame(&decision, &blamed);
                self.combine(decision, shares);
            }
        }
        if self.blocks.seals_caught_up(self.seals.in_flight()) {
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
