//! Handshakes of callers, which can be ended from outside.
//!
//! The swarm keeps a handshake until it succeeds, fails or times out, and offers no way to end one. So the
//! transport hands it handshakes that have a handle, by the caller's address; the [gates](crate::gate) say
//! which one has to go.

#![allow(clippy::wildcard_enum_match_arm, reason = "enums of libp2p, which grow")]

use futures::FutureExt;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A caller's handshake that takes longer is ended; intercontinental ones take under a second, and a machine
/// that is short of time needs some.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// The handshakes under way. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Doorway {
    callers: Arc<Mutex<HashMap<Multiaddr, AbortHandle>>>,
}

impl Doorway {
    /// Ends the handshake of this caller, if it is still under way.
    pub fn turn_away(&self, caller: &Multiaddr) {
        if let Some(handshake) = self.callers.lock().remove(caller) {
            handshake.abort();
        }
    }

    fn let_in<O: 'static>(
        &self,
        caller: Multiaddr,
        handshake: BoxFuture<'static, io::Result<O>>,
    ) -> BoxFuture<'static, io::Result<O>> {
        let (handle, registration) = AbortHandle::new_pair();
        self.callers.lock().insert(caller.clone(), handle);
        let place = Place { doorway: self.clone(), caller };
        let handshake = Abortable::new(handshake, registration);
        async move {
            let _place = place;
            match tokio::time::timeout(HANDSHAKE_MAX, handshake).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "made room for others")),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        }
        .boxed()
    }
}

/// Forgets a handshake that ended, however it did.
struct Place {
    doorway: Doorway,
    caller: Multiaddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.doorway.callers.lock().remove(&self.caller);
    }
}

/// A transport whose callers pass the doorway.
pub(crate) struct Guarded<O> {
    inner: Boxed<O>,
    doorway: Doorway,
}

impl<O> Guarded<O> {
    pub fn new(inner: Boxed<O>, doorway: Doorway) -> Self {
        Self { inner, doorway }
    }
}

impl<O: Send + 'static> Transport for Guarded<O> {
    type Output = O;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<O>>;
    type Dial = <Boxed<O> as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        self.inner.dial(addr, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.inner).poll(cx).map(|event| {
            let caller = match &event {
                TransportEvent::Incoming { send_back_addr, .. } => Some(send_back_addr.clone()),
                _ => None,
            };
            event.map_upgrade(|handshake| match caller {
                Some(caller) => self.doorway.let_in(caller, handshake),
                None => handshake,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_is_turned_away_done_or_given_up_is_forgotten() {
        let doorway = Doorway::default();
        let caller = |port: u16| -> Multiaddr { format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap() };
        let silent = || futures::future::pending::<io::Result<()>>().boxed();
        let turned_away = doorway.let_in(caller(1), silent());
        let quick = doorway.let_in(caller(2), async { Ok(()) }.boxed());
        let given_up = doorway.let_in(caller(3), silent());
        doorway.turn_away(&caller(1));
        assert_eq!(turned_away.await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        quick.await.unwrap();
        drop(given_up);
        assert!(doorway.callers.lock().is_empty());
    }
}
