//! Telling members where this one and the others are, and believing what they say of themselves.

use super::Driver;
use crate::addresses::{ADDRS_MAX, Announcement, KIND_ANNOUNCEMENT, is_plain};
use crate::envelope::Message;
use crate::queue::Queued;
use crate::swarm::scope;
use crate::topic::Topic;
use aequa_types::OperatorIndex;
use libp2p::{Multiaddr, PeerId};
use std::collections::BTreeSet;
use std::time::Instant;

impl Driver {
    /// Says anew where this node listens.
    pub(super) fn announce(&mut self) {
        let means_something = |addr: &&Multiaddr| is_plain(addr) && self.scopes.contains(&scope(addr));
        let addrs = self.listening.iter().filter(means_something).take(ADDRS_MAX).cloned().collect();
        let announcement = self.shared.book.lock().announce(addrs).cloned();
        if let Some(announcement) = announcement {
            self.spread(&announcement);
        }
    }

    /// Members said something new of themselves: others hear of it, and who is missed is dialled there.
    pub(super) fn on_announced(&mut self, operators: BTreeSet<OperatorIndex>) {
        for operator in operators {
            let Some(peer) = self.shared.members.get(&operator).map(|member| member.peer) else {
                // An earlier life of this node is still believed.
                self.announce();
                continue;
            };
            let announcement = self.shared.book.lock().of(operator).cloned();
            if let Some(announcement) = announcement {
                self.spread(&announcement);
                self.member_moved(peer, announcement.addrs);
            }
        }
    }

    /// Tells a member everything there is to tell.
    pub(super) fn tell_addresses(&self, operator: OperatorIndex) {
        let all: Vec<Announcement> = self.shared.book.lock().all().cloned().collect();
        all.iter().for_each(|announcement| self.tell_announcement(operator, announcement));
    }

    fn spread(&self, announcement: &Announcement) {
        let others = self.shared.members.keys().filter(|operator| **operator != announcement.operator);
        others.for_each(|operator| self.tell_announcement(*operator, announcement));
    }

    fn tell_announcement(&self, to: OperatorIndex, announcement: &Announcement) {
        let queue = self.shared.members.get(&to).and_then(|member| member.queue(Topic::Peers));
        let frame =
            Message::new(KIND_ANNOUNCEMENT, announcement.bytes.clone()).encode(self.shared.cluster_id);
        let newest_of = Some(u64::from(announcement.operator.0));
        if queue.is_some_and(|queue| queue.push(frame, newest_of) == Queued::Overflow) {
            self.shared.overflowed.raise(to);
        }
    }

    /// A member is where it says, beside where the lock has it. If it is missed it is dialled at once, whatever
    /// is being tried elsewhere.
    fn member_moved(&mut self, peer: PeerId, addrs: Vec<Multiaddr>) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        let scopes = &self.scopes;
        member.announced = addrs.into_iter().filter(|addr| scopes.contains(&scope(addr))).collect();
        let addrs = member.announced.iter().chain(&member.addrs);
        self.shared.member_addresses.set(peer, addrs);
        member.seek(Instant::now());
    }
}
