//! Who sent a request: the other end of the connection, or the client that a trusted proxy names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP peer. An IPv4 address mapped into IPv6 is the IPv4 address.
    Address(IpAddr),
    /// A process of this machine, over a Unix socket: a process that may open the socket file is trusted.
    Unix,
}

impl Peer {
    /// The peer of a TCP connection.
    #[must_use]
    pub fn tcp(address: SocketAddr) -> Peer {
        Peer::Address(address.ip().to_canonical())
    }

    /// Whether this peer may name its client and choose the request id.
    #[must_use]
    pub(crate) fn is_trusted(self, proxies: &[IpNet]) -> bool {
        match self {
            Peer::Address(address) => contains(proxies, address),
            Peer::Unix => true,
        }
    }
}

/// The client's address: the peer, or, behind trusted proxies, the last hop of `X-Forwarded-For`
/// that is not a trusted proxy itself.
///
/// The list is read from its end, because only what a trusted proxy has appended can be believed.
/// When every hop is trusted, the first one is the client. A hop that is not an address ends the walk:
/// the client is then the hop that was read before it, or the peer. A Unix socket whose proxy names
/// nobody counts as 127.0.0.1, this machine.
#[must_use]
pub fn client_address(peer: Peer, proxies: &[IpNet], forwarded_for: Option<&str>) -> IpAddr {
    let mut client = match peer {
        Peer::Address(address) => address,
        Peer::Unix => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    if !peer.is_trusted(proxies) {
        return client;
    }
    for hop in forwarded_for.unwrap_or_default().rsplit(',') {
        let Some(address) = parse_hop(hop.trim()) else {
            break;
        };
        client = address;
        if !contains(proxies, client) {
            break;
        }
    }
    client
}

/// Whether a trusted peer does not name its client. Then all its clients count as one.
#[must_use]
pub(crate) fn names_nobody(peer: Peer, proxies: &[IpNet], forwarded_for: Option<&str>) -> bool {
    let last = forwarded_for.and_then(|hops| hops.rsplit(',').next());
    peer.is_trusted(proxies) && last.and_then(|hop| parse_hop(hop.trim())).is_none()
}

/// An address, with or without a port: some proxies append one.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bracketed = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = hop.parse().ok().or_else(with_port).or_else(bracketed)?;
    Some(IpAddr::to_canonical(&address))
}

fn contains(proxies: &[IpNet], address: IpAddr) -> bool {
    proxies.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded_for: &str) -> String {
        let proxies = ["127.0.0.0/8", "::1/128", "10.0.0.0/8"].map(|net| net.parse().unwrap());
        let peer = match peer {
            "unix" => Peer::Unix,
            address => Peer::tcp(SocketAddr::new(address.parse().unwrap(), 1)),
        };
        client_address(peer, &proxies, Some(forwarded_for)).to_string()
    }

    #[test]
    fn a_stranger_cannot_choose_its_address() {
        assert_eq!(client("203.0.113.7", "6.6.6.6"), "203.0.113.7");
    }

    #[test]
    fn behind_a_proxy_the_last_hop_that_is_not_trusted_is_the_client() {
        assert_eq!(client("127.0.0.1", "6.6.6.6, 203.0.113.7"), "203.0.113.7");
        assert_eq!(client("::1", "203.0.113.7,10.0.0.3"), "203.0.113.7");
        assert_eq!(client("unix", "203.0.113.7"), "203.0.113.7");
    }

    #[test]
    fn when_every_hop_is_trusted_the_first_one_is_the_client() {
        assert_eq!(client("127.0.0.1", "10.0.0.9, 10.0.0.3"), "10.0.0.9");
    }

    #[test]
    fn a_hop_that_is_not_an_address_ends_the_walk() {
        assert_eq!(
            client("127.0.0.1", "203.0.113.7, evil, 10.0.0.3"),
            "10.0.0.3"
        );
        assert_eq!(client("127.0.0.1", "203.0.113.7, unknown"), "127.0.0.1");
        assert_eq!(client("unix", ""), "127.0.0.1");
    }

    #[test]
    fn only_a_trusted_peer_without_an_address_names_nobody() {
        let proxies = ["127.0.0.0/8".parse().unwrap()];
        let proxy = Peer::tcp("127.0.0.1:1".parse().unwrap());
        let stranger = Peer::tcp("203.0.113.7:1".parse().unwrap());
        for (forwarded_for, expected) in [
            (None, true),
            (Some(""), true),
            (Some("203.0.113.7, unknown"), true),
            (Some("unknown, 203.0.113.7"), false),
            (Some("127.0.0.1"), false),
        ] {
            assert_eq!(names_nobody(proxy, &proxies, forwarded_for), expected);
            assert_eq!(names_nobody(Peer::Unix, &proxies, forwarded_for), expected);
            assert!(!names_nobody(stranger, &proxies, forwarded_for));
        }
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_understood() {
        assert_eq!(
            client("::ffff:127.0.0.1", "203.0.113.7:1234"),
            "203.0.113.7"
        );
        assert_eq!(client("127.0.0.1", "[2001:db8::1]:443"), "2001:db8::1");
        assert_eq!(client("127.0.0.1", "[2001:db8::1]"), "2001:db8::1");
        assert_eq!(client("127.0.0.1", "::ffff:203.0.113.7"), "203.0.113.7");
    }
}
