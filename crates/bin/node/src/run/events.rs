//! Numbers events and hands them to the event streams.

use aequa_api::backend::{EVENT_QUEUE, Event, EventBody};
use aequa_types::{CertifiedHeader, Height};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Where everybody who has something to tell tells it. A block is number 0 of its height; what
/// happens after it counts on.
#[derive(Clone)]
pub struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    last: Arc<Mutex<(Height, u64)>>,
}

impl Events {
    /// No events yet; the first ones belong to the height `tip`.
    pub fn new(tip: Height) -> Self {
        Self { sender: broadcast::channel(EVENT_QUEUE).0, last: Arc::new(Mutex::new((tip, 0))) }
    }

    /// The sender itself, for new readers.
    pub fn sender(&self) -> &broadcast::Sender<Arc<Event>> {
        &self.sender
    }

    /// A block was decided. What is told is made only when somebody reads.
    pub fn block(&self, height: Height, block: impl FnOnce() -> CertifiedHeader) {
        *self.last.lock() = (height, 0);
        if self.sender.receiver_count() > 0 {
            self.send(height, 0, EventBody::Block(block()));
        }
    }

    /// Something else happened. What is told is made only when somebody reads.
    pub fn publish(&self, body: impl FnOnce() -> EventBody) {
        let (height, n) = {
            let mut last = self.last.lock();
            last.1 += 1;
            *last
        };
        if self.sender.receiver_count() > 0 {
            self.send(height, n, body());
        }
    }

    fn send(&self, height: Height, n: u64, body: EventBody) {
        // Without readers there is nobody to tell.
        let _ = self.sender.send(Arc::new(Event::new(height, n, body)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_api::backend::Readiness;

    #[test]
    fn events_count_on_from_their_block() {
        let events = Events::new(Height(3));
        let mut reader = events.sender().subscribe();
        let readiness = || EventBody::Readiness(Readiness::default());
        events.publish(readiness);
        events.publish(readiness);
        *events.last.lock() = (Height(4), 0);
        events.publish(readiness);
        let mut next = || reader.try_recv().map(|event| (event.height.0, event.n)).unwrap();
        assert_eq!([next(), next(), next()], [(3, 1), (3, 2), (4, 1)]);
    }
}
