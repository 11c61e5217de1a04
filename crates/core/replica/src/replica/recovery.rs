//! What a restart gives back to each component.

use super::Replica;
use crate::io::Recovery;
use crate::witness::statements_in;
use aequa_qbft::{Event, Restored};
use aequa_signing::Keys;
use aequa_types::{DutyId, Height, InstanceId, Record, Signed};
use std::collections::BTreeMap;

impl<K: Keys> Replica<K> {
    pub(super) fn recover(&mut self, recovery: Recovery) {
        let Recovery { closed_duties, newest_duties, duty_watermarks, .. } = &recovery;
        self.duties.restore_ended(closed_duties, newest_duties, duty_watermarks);
        self.blocks.restore_evidence(&self.cx, recovery.evidence);
        let mut restored: BTreeMap<InstanceId, Restored> = BTreeMap::new();
        let mut heard = Vec::new();
        for record in recovery.records {
            if let Record::Heard(signed) = record {
                // It binds nobody here, so it neither opens an instance nor says where the own log begins.
                heard.push(signed);
                continue;
            }
            if let Some(signed) = record.statement() {
                self.signer.guard_mut().remember(signed);
            }
            restored.entry(record.instance()).or_default().records.push(record);
        }
        for (instance, value) in recovery.values {
            restored.entry(instance).or_default().values.push(value);
        }
        recovery.votes.into_iter().for_each(|vote| self.signer.guard_mut().remember_vote(vote));
        recovery.closed_duties.into_iter().for_each(|duty| self.signer.guard_mut().close(duty));
        let tip = self.cx.chain.tip().height;
        // Instances up to the tip are over; their votes may be pruned.
        let before = self.cx.config.first_height.previous().unwrap_or_default();
        self.signer.guard_mut().raise_watermark(InstanceId::Block(below_log(&restored).max(tip).max(before)));
        recovery
            .watermarks
            .into_iter()
            .for_each(|watermark| self.signer.guard_mut().raise_watermark(watermark));
        for (id, restored) in restored {
            let is_over = match id {
                InstanceId::Block(height) => height <= tip,
                InstanceId::Duty(duty) => self.duties.is_closed(duty),
            };
            if !is_over {
                self.restore_instance(id, restored);
            }
        }
        heard.iter().for_each(|signed| self.see_again(signed));
        heard.into_iter().for_each(|signed| self.witness.restore_heard(signed));
        recovery
            .duty_watermarks
            .into_iter()
            .for_each(|watermark| self.signer.guard_mut().raise_watermark(watermark.into()));
        recovery.unsealed.iter().for_each(|certificate| self.open_seal(certificate));
    }

    fn restore_instance(&mut self, id: InstanceId, restored: Restored) {
        if let InstanceId::Duty(duty) = id {
            // Of a duty that is open the log has one value: what the client posted.
            self.duties.restore(duty, restored.values.first().cloned());
        }
        let said = statements_in(&restored.records);
        self.instances.restore(id, restored);
        said.iter().for_each(|signed| self.see_again(signed));
    }

    fn see_again(&mut self, signed: &Signed) {
        let round = self.instances.round(signed.instance);
        if let Some(evidence) = self.witness.see_again(&self.cx, signed, round) {
            self.take_evidence(evidence);
        }
    }

    /// Begins to take part.
    pub(super) fn begin(&mut self) {
        self.begin_height();
        let duties: Vec<DutyId> = self.instances.duties().collect();
        for id in duties.into_iter().map(InstanceId::from) {
            match self.instances.decision(id) {
                Some((value, certificate)) => self.decide(id, value, &certificate),
                None => self.drive(id, Event::Start),
            }
        }
    }
}

/// The height below the first block the log knows: what was signed there is pruned, so nothing may be
/// signed there again, whatever became of the chain since.
fn below_log(restored: &BTreeMap<InstanceId, Restored>) -> Height {
    restored.keys().find_map(|id| id.height()).and_then(Height::previous).unwrap_or_default()
}
