//! Ports nobody else uses.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};

/// Ports of one block. API at 0, transport at 10, monitoring at 20; the last one marks it as taken.
const SPAN: u16 = 40;
/// Blocks lie below the range from which systems take outgoing ports.
const FIRST: u16 = 20_000;
const BLOCKS: u16 = 300;
const TRANSPORT: u16 = 10;
const MONITORING: u16 = 20;

/// A block of ports, kept from other tests for as long as this lives.
pub struct Ports {
    base: u16,
    _mark: TcpListener,
}

impl Ports {
    /// Takes a block in which every port is free.
    pub fn take() -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
        let start = u16::try_from(((nanos / 100) ^ std::process::id()) % u32::from(BLOCKS)).unwrap();
        (0..BLOCKS)
            .map(|i| FIRST + SPAN * ((start + i) % BLOCKS))
            .find_map(|base| {
                let block = Self { base, _mark: listen(base + SPAN - 1)? };
                block.are_free().then_some(block)
            })
            .expect("no free block of ports on this machine")
    }

    /// Whether nobody listens on any port of the block, for connections or for datagrams.
    pub fn are_free(&self) -> bool {
        (self.base..self.base + SPAN - 1).all(|port| listen(port).is_some() && is_udp_free(port))
    }

    /// API of node 0; the following ones are those of the other nodes.
    pub fn api(&self) -> u16 {
        self.base
    }

    /// Transport of node 0.
    pub fn transport(&self) -> u16 {
        self.base + TRANSPORT
    }

    /// Monitoring of node 0; `create-cluster` puts it there.
    pub fn monitoring(&self) -> u16 {
        self.base + MONITORING
    }
}

fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok()
}

fn is_udp_free(port: u16) -> bool {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}
