//! The entries of one instance among all of a recording.

use aequa_types::InstanceId;
use aequa_types::recording::{Entry, Numbered};

/// Gathers the entries that concern one instance, and sees what else the recording has.
#[derive(Debug, Clone)]
pub struct Selection {
    instance: InstanceId,
    entries: Vec<Numbered>,
    range: Option<(InstanceId, InstanceId)>,
}

impl Selection {
    /// Nothing yet.
    pub fn of(instance: InstanceId) -> Self {
        Self { instance, entries: Vec::new(), range: None }
    }

    /// The next entry of the recording.
    pub fn offer(&mut self, numbered: Numbered) {
        let of = match &numbered.entry {
            Some(entry) => entry.instance(),
            None => None,
        };
        if let Some(Entry::Opened(_) | Entry::Fetched(_)) = numbered.entry {
            self.saw(of);
        }
        // What concerns all of them means nothing before this one is there.
        let concerns = of.map_or(!self.entries.is_empty(), |of| of == self.instance);
        if concerns {
            self.entries.push(numbered);
        }
    }

    /// The entries of the instance, and what concerns all instances, in order.
    pub fn entries(&self) -> &[Numbered] {
        &self.entries
    }

    /// The instance.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Lowest and highest instance of the same domain whose beginning is in the recording.
    pub fn range(&self) -> Option<(InstanceId, InstanceId)> {
        self.range
    }

    /// Whether no later instance of the same domain was begun.
    pub fn is_newest(&self) -> bool {
        self.range.is_none_or(|(_, highest)| highest <= self.instance)
    }

    fn saw(&mut self, of: Option<InstanceId>) {
        let Some(of) = of.filter(|of| of.domain() == self.instance.domain()) else { return };
        let (lowest, highest) = self.range.unwrap_or((of, of));
        self.range = Some((lowest.min(of), highest.max(of)));
    }
}
