//! Load: a few senders with runs of nonces, replacements, gaps and repetitions; and duties.

use crate::world::{Event, World};
use aequa_chain::Chain;
use aequa_mempool::Nonces;
use aequa_replica::{Input, Ticket};
use aequa_types::transaction::{AuctionBidV1, PlaintextV1, TxSignature};
use aequa_types::{
    Address, CheckedTransaction, DutyId, DutyKind, Slot, Transaction, TxBody, TxKind, Value, ValueBytes,
};

const SENDERS: u8 = 4;
/// Slots a duty may lag behind the newest: posts meet open, decided and unknown ones.
const DUTY_LAG: u64 = 2;
/// In a thousand posts: how many are left out, and how many say another thing than the rest.
const DUTY_UNPOSTED: u64 = 100;
const DUTY_DISPUTED: u64 = 100;
/// Slots a jump may pass over: a few times what is abstained from.
const SLOTS_JUMPED: u64 = 300;

/// What the clients remember.
#[derive(Debug, Default)]
pub(crate) struct Client {
    tickets: u64,
    slot: u64,
    last: Option<CheckedTransaction>,
}

struct ChainNonces<'a>(&'a Chain);

impl Nonces for ChainNonces<'_> {
    fn nonce(&self, sender: &Address, kind: TxKind) -> u64 {
        self.0.nonce(sender, kind)
    }
}

impl World {
    /// A client submits a transaction to some node that is up.
    pub(crate) fn client_acts(&mut self) {
        self.sometimes(self.plan.client_every_ms, Event::Client);
        let Some(node) = self.somebody() else { return };
        let again = self.dice.chance(100);
        let transaction = match self.client.last.clone().filter(|_| again) {
            Some(last) => last,
            None => self.transaction(node),
        };
        self.client.last = Some(transaction.clone());
        let ticket = self.ticket();
        let input = Box::new(Input::Transactions(vec![(transaction, Some(ticket))]));
        self.after(0, Event::Input { node, life: None, input });
    }

    /// The clients of most operators post their candidates for a duty.
    pub(crate) fn duty_posted(&mut self) {
        self.sometimes(self.plan.duty_every_ms, Event::Duty);
        if self.dice.chance(700) {
            let far = self.plan.slots_jump && self.dice.chance(100);
            self.client.slot += if far { self.dice.between(2, SLOTS_JUMPED) } else { 1 };
        }
        let slot = self.plan.first_slot + self.client.slot.saturating_sub(self.dice.below(DUTY_LAG));
        let duty = DutyId { kind: self.dice.pick(&DutyKind::ALL), slot: Slot(slot) };
        // Clients see the same world, but for one that is late to notice, and a stranger now and then.
        let choice = self.dice.below(2);
        for node in 0..self.nodes.len() {
            if self.dice.chance(DUTY_UNPOSTED) {
                continue;
            }
            let choice = if self.dice.chance(DUTY_DISPUTED) { 1 - choice } else { choice };
            let bytes = format!("{{\"slot\":{slot},\"choice\":{choice}}}").into_bytes();
            let value = Value::duty(duty, ValueBytes(bytes.into()));
            self.oracle.posts(self.nodes[node].operator, duty, value.digest());
            let ticket = self.ticket();
            let input = Box::new(Input::Duty { duty, value, ticket });
            let delay_ms = self.dice.below(50);
            self.after(delay_ms, Event::Input { node, life: None, input });
        }
    }

    /// A node that is up; once the faults are over an honest one.
    fn somebody(&mut self) -> Option<usize> {
        let calm = self.is_calm();
        let up: Vec<usize> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].is_up() && (!calm || self.nodes[*node].is_honest()))
            .collect();
        if up.is_empty() { None } else { Some(self.dice.pick(&up)) }
    }

    fn ticket(&mut self) -> Ticket {
        self.client.tickets += 1;
        Ticket(self.client.tickets)
    }

    fn transaction(&mut self, node: usize) -> CheckedTransaction {
        let from = Address::repeat_byte(1 + self.dice.below(SENDERS.into()) as u8);
        let kind = self.dice.pick(&TxKind::ALL);
        let next = self.nodes[node]
            .replica()
            .map_or(0, |replica| replica.mempool().pending_nonce(&from, kind, &ChainNonces(replica.chain())));
        let nonce = match self.dice.below(10) {
            0 => next + self.dice.between(1, 3),
            1 | 2 => next.saturating_sub(1),
            _ => next,
        };
        let (gas, key) = (1, self.dice.between(1, 1000));
        let payload = vec![self.dice.below(256) as u8; self.dice.index(40)].try_into().unwrap_or_default();
        let body = match kind {
            TxKind::PlaintextV1 => TxBody::Plaintext(PlaintextV1 { from, nonce, gas, fee: key, payload }),
            TxKind::AuctionBidV1 => {
                let fee_recipient = Address::repeat_byte(0xFE);
                TxBody::AuctionBid(AuctionBidV1 { from, nonce, gas, bid: key, fee_recipient, payload })
            }
        };
        CheckedTransaction::attest(Transaction { body, sig: TxSignature::ZERO })
    }
}
