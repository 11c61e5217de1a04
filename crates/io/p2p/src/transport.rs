//! How bytes travel below the swarm: TCP secured by TLS or Noise, QUIC, names, and a door before it all.

use crate::config::Checked;
use crate::doorway::{Doorway, Guarded};
use crate::error::P2pError;
use crate::gate::behaviour::ip_of;
use futures::future::{BoxFuture, Either};
use futures::{AsyncRead, AsyncWrite, FutureExt, TryFutureExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::dummy::DummyTransport;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo, Version};
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, dns, noise, quic, tcp, tls, yamux};
use std::io;

/// By how much all the windows of a connection may grow together, in bytes. Its muxer doubles the window of a stream
/// that is read fast for the time a round trip is said to take, and the other side says that.
const WINDOWS_GROW_BYTES: usize = 16 << 20;
/// What every stream may always send unread, in bytes (yamux, `DEFAULT_CREDIT`).
const WINDOW_BYTES: usize = 256 << 10;
/// All windows of a connection, in bytes: what yamux reckons with, and libp2p lets nobody change.
const WINDOWS_BYTES: usize = 1 << 30;
/// Streams for which a window is set aside. Whatever is left of all windows is what they grow by; how many there may
/// be is bounded by what is negotiated at a time and by what the muxer keeps for whoever takes them.
const STREAMS_MAX: usize = (WINDOWS_BYTES - WINDOWS_GROW_BYTES) / WINDOW_BYTES;

/// Connections to known peers.
type Plain = Boxed<(PeerId, StreamMuxerBox)>;

/// Every transport of a node, behind its door.
pub(crate) fn build(
    config: &Checked,
    doorway: Doorway,
) -> Result<Guarded<(PeerId, StreamMuxerBox)>, P2pError> {
    let failed = |what: String| P2pError::Transport { what };
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(Security::new(&config.keypair).map_err(failed)?)
        .multiplex(muxer())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let quic = quic::tokio::Transport::new(quic::Config::new(&config.keypair))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = tcp.or_transport(quic).map(|either, _| either.into_inner());
    Ok(Guarded::new(named(both.boxed(), config)?, doorway))
}

fn muxer() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(STREAMS_MAX);
    config
}

/// With names, where addresses have any. A host without a resolver can still run a cluster of plain addresses, and
/// reach those whose names are in its hosts file.
fn named(plain: Plain, config: &Checked) -> Result<Plain, P2pError> {
    if !needs_names(config) {
        return Ok(plain);
    }
    // Asked for beforehand: a failure would take the transport with it.
    match dns::tokio::Transport::system(DummyTransport::<()>::new()).map(drop) {
        Ok(()) => match dns::tokio::Transport::system(plain) {
            Ok(named) => Ok(named.boxed()),
            Err(error) => Err(P2pError::Transport { what: error.to_string() }),
        },
        Err(error) => {
            let text = format!(
                "the resolver has no usable configuration (/etc/resolv.conf: {error}): names of members and \
                 bootnodes are looked up in the hosts file only"
            );
            tracing::warn!(target: "event", text, "warning");
            let (names, options) = (dns::ResolverConfig::default(), dns::ResolverOpts::default());
            Ok(dns::tokio::Transport::custom(plain, names, options).boxed())
        }
    }
}

fn needs_names(config: &Checked) -> bool {
    let member_addrs = config.others.iter().flat_map(|member| &member.addrs);
    let mut addrs = member_addrs.chain(config.bootnodes.iter().map(|(addr, _)| addr));
    addrs.any(|addr| ip_of(addr).is_none())
}

/// TLS or Noise, whichever both sides speak, TLS before Noise.
#[derive(Clone)]
struct Security {
    tls: tls::Config,
    noise: noise::Config,
}

const TLS: &str = "/tls/1.0.0";
const NOISE: &str = "/noise";

impl Security {
    fn new(keypair: &Keypair) -> Result<Self, String> {
        Ok(Self {
            tls: tls::Config::new(keypair).map_err(|error| error.to_string())?,
            noise: noise::Config::new(keypair).map_err(|error| error.to_string())?,
        })
    }
}

impl UpgradeInfo for Security {
    type Info = &'static str;
    type InfoIter = [&'static str; 2];

    fn protocol_info(&self) -> Self::InfoIter {
        [TLS, NOISE]
    }
}

/// The peer and its secured stream.
type Secured<S> = (PeerId, Either<tls::TlsStream<S>, noise::Output<S>>);

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<S> for Security {
    type Output = Secured<S>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Secured<S>>>;

    fn upgrade_inbound(self, stream: S, protocol: &'static str) -> Self::Future {
        match protocol {
            TLS => self.tls.upgrade_inbound(stream, protocol).map_ok(left).map_err(io::Error::other).boxed(),
            _ => self.noise.upgrade_inbound(stream, protocol).map_ok(right).map_err(io::Error::other).boxed(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<S> for Security {
    type Output = Secured<S>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Secured<S>>>;

    fn upgrade_outbound(self, stream: S, protocol: &'static str) -> Self::Future {
        match protocol {
            TLS => self.tls.upgrade_outbound(stream, protocol).map_ok(left).map_err(io::Error::other).boxed(),
            _ => {
                self.noise.upgrade_outbound(stream, protocol).map_ok(right).map_err(io::Error::other).boxed()
            }
        }
    }
}

fn left<S>((peer, stream): (PeerId, tls::TlsStream<S>)) -> Secured<S> {
    (peer, Either::Left(stream))
}

fn right<S>((peer, stream): (PeerId, noise::Output<S>)) -> Secured<S> {
    (peer, Either::Right(stream))
}
