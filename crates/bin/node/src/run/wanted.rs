//! Values this node has asked for: no other is taken, nor looked into.

use aequa_types::{Digest, Domain, InstanceId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};

/// Values of one domain that may be awaited at a time: two of every duty that can be open. Questions about
/// one domain take no place of another's.
const WANTED_PER_DOMAIN_MAX: usize = 1024;

/// What was asked for, by domain; the questions asked longest ago are forgotten first.
#[derive(Debug, Default)]
pub struct Wanted {
    values: Mutex<BTreeMap<Domain, VecDeque<(InstanceId, Digest)>>>,
}

impl Wanted {
    /// A value is asked for, perhaps again.
    pub fn asked(&self, instance: InstanceId, digest: Digest) {
        let mut values = self.values.lock();
        let of_domain = values.entry(instance.domain()).or_default();
        of_domain.retain(|known| *known != (instance, digest));
        of_domain.push_back((instance, digest));
        if of_domain.len() > WANTED_PER_DOMAIN_MAX {
            of_domain.pop_front();
        }
    }

    /// Whether any value of an instance was asked for.
    pub fn of(&self, instance: InstanceId) -> bool {
        self.any(instance.domain(), |(of, _)| *of == instance)
    }

    /// Whether this very value was asked for.
    pub fn contains(&self, instance: InstanceId, digest: Digest) -> bool {
        self.any(instance.domain(), |wanted| *wanted == (instance, digest))
    }

    /// A value has come; whether it was asked for. Once more it is not.
    pub fn arrived(&self, instance: InstanceId, digest: Digest) -> bool {
        let mut values = self.values.lock();
        let Some(of_domain) = values.get_mut(&instance.domain()) else { return false };
        let before = of_domain.len();
        of_domain.retain(|wanted| *wanted != (instance, digest));
        of_domain.len() < before
    }

    fn any(&self, domain: Domain, is_it: impl Fn(&(InstanceId, Digest)) -> bool) -> bool {
        self.values.lock().get(&domain).is_some_and(|of_domain| of_domain.iter().any(is_it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::{DutyKind, Height, Slot};

    fn slot(height: u64) -> InstanceId {
        InstanceId::duty(DutyKind::Attester, Slot(height))
    }

    #[test]
    fn what_was_asked_longest_ago_is_forgotten_first_and_other_domains_keep_theirs() {
        let (wanted, digest) = (Wanted::default(), Digest::repeat_byte(1));
        let block = InstanceId::Block(Height(u64::MAX));
        wanted.asked(block, digest);
        wanted.asked(slot(9), digest);
        for height in 0..WANTED_PER_DOMAIN_MAX as u64 {
            wanted.asked(slot(9), digest);
            wanted.asked(slot(1000 + height), digest);
        }
        assert!(wanted.of(block) && wanted.contains(slot(9), digest));
        assert!(!wanted.of(slot(1000)), "the oldest made room");
        assert!(!wanted.contains(slot(9), Digest::ZERO), "of that duty, but not that value");
        assert!(!wanted.arrived(slot(9), Digest::ZERO) && wanted.arrived(slot(9), digest));
        assert!(!wanted.arrived(slot(9), digest), "it is here");
    }
}
