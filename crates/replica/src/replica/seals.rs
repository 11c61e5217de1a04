//! The group seal of what was decided.

use super::Replica;
use crate::io::Notice;
use crate::output::{StoreWrite, Work};
use aequa_signing::Keys;
use aequa_signing::Ready;
use aequa_types::{Certificate, Digest, InstanceId, OperatorIndex, Proof, Round, Seal, Signed};

impl<K: Keys> Replica<K> {
    /// Begins to collect the shares for a decision, unless it has its seal.
    pub(super) fn open_seal(&mut self, certificate: &Certificate) {
        if !self.cx.config.seals || certificate.group_seal().is_some() {
            return;
        }
        let Certificate { instance, round, digest, .. } = *certificate;
        let mut commits = certificate.commits();
        if let Some(instance) = self.instances.get(instance) {
            commits.extend(instance.commits(round, digest).cloned());
        }
        let ready = self.sealing.open(instance, round, digest, commits.iter());
        self.combine(instance, ready);
    }

    /// The share of a COMMIT, where one is still needed.
    pub(super) fn add_to_seal(&mut self, commit: &Signed) {
        let ready = self.sealing.add(commit);
        self.combine(commit.instance, ready);
    }

    fn combine(&mut self, instance: InstanceId, ready: Option<Ready>) {
        if let Some(Ready { round, digest, shares }) = ready {
            self.cx.out.work(Work::Combine { instance, round, digest, shares });
        }
    }

    pub(super) fn on_combined(
        &mut self,
        instance: InstanceId,
        round: Round,
        digest: Digest,
        result: Result<Seal, Vec<OperatorIndex>>,
    ) {
        match result {
            Ok(seal) => {
                self.sealing.close(instance);
                let certificate = Certificate { instance, round, digest, proof: Proof::Group(seal) };
                self.instances.upgrade(&certificate, self.cx.now);
                if let InstanceId::Duty(duty) = instance {
                    self.duties.sealed(&self.cx, duty, &certificate);
                }
                self.cx.out.store(StoreWrite::Sealed(certificate.clone()));
                self.cx.out.notify(Notice::Sealed(certificate));
            }
            Err(blamed) => {
                for operator in blamed.iter().copied() {
                    self.cx.out.notify(Notice::ShareBlamed { operator, instance, round });
                }
                let ready = self.sealing.blame(instance, &blamed);
                self.combine(instance, ready);
            }
        }
        if self.blocks.seals_caught_up(self.sealing.in_flight()) {
            self.propose_block(self.height());
        }
    }
}
