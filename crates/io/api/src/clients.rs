//! Who is counted as one client (contract: http, section 2).
//!
//! An IPv4 address is one; of IPv6 a whole /64 is, for that is what a single customer gets. Behind a loopback
//! address or one of `--api.trusted-proxies` there may be many: what they say in `X-Forwarded-For` is
//! believed, from the right up to the first address that is no such proxy.

use http::{HeaderMap, HeaderName};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Bits of an IPv6 address that name the customer.
const CUSTOMER_BITS: u8 = 64;

/// Addresses that begin alike: `10.0.0.0/8`, or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = (own.to_bits() ^ other.to_bits()).leading_zeros();
                differing >= self.bits.into()
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = (own.to_bits() ^ other.to_bits()).leading_zeros();
                differing >= self.bits.into()
            }
            _ => false,
        }
    }
}

/// The text is neither an address nor address/bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an IP address, or one with the bits of its network like 10.0.0.0/8")]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(bits_max), str::parse).map_err(|_| NotANetwork)?;
        if bits > bits_max { Err(NotANetwork) } else { Ok(Self { address, bits }) }
    }
}

/// Who is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    /// An IPv4 address, or the first address of a /64.
    pub network: IpAddr,
    /// Nobody knows how many stand behind it.
    pub is_shared: bool,
}

/// Tells clients apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clients {
    proxies: Vec<Network>,
}

impl Clients {
    pub fn new(proxies: &[Network]) -> Self {
        Self { proxies: proxies.to_vec() }
    }

    /// Who connects from `address`.
    pub fn connecting(&self, address: IpAddr) -> Client {
        let address = address.to_canonical();
        Client { network: customer(address), is_shared: self.is_proxy(address) }
    }

    /// Who asks over a connection from `address`.
    pub fn asking(&self, address: IpAddr, headers: &HeaderMap) -> Client {
        let values: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
        let hops = values.into_iter().rev().flat_map(|value| {
            value.to_str().unwrap_or_default().rsplit(',').map(|hop| hop.trim().parse::<IpAddr>())
        });
        let mut client = self.connecting(address);
        for hop in hops {
            match hop {
                Ok(hop) if client.is_shared => client = self.connecting(hop),
                _ => break,
            }
        }
        client
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.proxies.iter().any(|proxy| proxy.contains(address))
    }
}

fn customer(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - CUSTOMER_BITS))).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients() -> Clients {
        Clients::new(&["10.1.0.0/16".parse().unwrap(), "2001:db8::5".parse().unwrap()])
    }

    #[test]
    fn ipv6_clients_are_counted_by_their_64_bits_and_mapped_ipv4_ones_by_address() {
        let network = |text: &str| clients().connecting(text.parse().unwrap()).network.to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("2001:db8:1:2:ffff::"), "2001:db8:1:2::");
        assert_eq!(network("2001:db8:1:3::"), "2001:db8:1:3::");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("192.0.2.8"), "192.0.2.8");
    }

    #[test]
    fn many_may_stand_behind_loopback_and_trusted_proxies_and_nobody_else() {
        let shared = |text: &str| clients().connecting(text.parse().unwrap()).is_shared;
        for proxy in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.255.255", "2001:db8::5"] {
            assert!(shared(proxy), "{proxy}");
        }
        for other in ["10.2.0.0", "192.0.2.1", "2001:db8::6"] {
            assert!(!shared(other), "{other}");
        }
    }

    #[test]
    fn the_forwarded_address_counts_as_far_as_proxies_vouch_for_it() {
        let asking = |peer: &str, values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(X_FORWARDED_FOR, value.parse().unwrap());
            }
            clients().asking(peer.parse().unwrap(), &headers).network.to_string()
        };
        assert_eq!(asking("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(asking("127.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(asking("127.0.0.1", &["6.6.6.6, 192.0.2.1, 10.1.2.3"]), "192.0.2.1");
        assert_eq!(asking("127.0.0.1", &["6.6.6.6", "192.0.2.1"]), "192.0.2.1");
        assert_eq!(asking("10.1.0.9", &["nonsense, 10.1.0.8"]), "10.1.0.8");
        assert_eq!(asking("127.0.0.1", &[""]), "127.0.0.1");
        assert_eq!(asking("192.0.2.9", &["6.6.6.6"]), "192.0.2.9", "a stranger vouches for nobody");
    }

    #[test]
    fn networks_are_addresses_with_or_without_bits() {
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains([9, 9, 9, 9].into()));
        for bad in ["", "x", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "host/8"] {
            assert_eq!(bad.parse::<Network>(), Err(NotANetwork), "{bad}");
        }
    }
}
