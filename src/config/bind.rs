//! Where kernel sockets listen: an address, and its own port if it has one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Parsed, ValueError};

/// An address of `--bind`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    /// The address.
    pub ip: IpAddr,
    /// Its port; None: that of `--port`.
    pub port: Option<u16>,
}

impl Bind {
    /// Where the main port is open, if `port` is that of addresses without their own.
    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(port))
    }
}

impl From<IpAddr> for Bind {
    fn from(ip: IpAddr) -> Bind {
        Bind { ip, port: None }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", SocketAddr::new(self.ip, port)),
            None => write!(f, "{}", self.ip),
        }
    }
}

impl fmt::Debug for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address of `--bind`, with memcached's words for all of them and for this host's own, and a
/// port if it follows.
pub(crate) fn bind(word: &str) -> Parsed<Bind> {
    if let Some(ip) = address(word) {
        return Ok(ip.into());
    }
    let with_port = word.rsplit_once(':').and_then(|(host, port)| {
        // Without brackets the port would be a part of such an address.
        let is_bare = host.contains(':') && !host.starts_with('[');
        let ip = address(host).filter(|_| !is_bare)?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        port_digits(word).then_some(Bind { ip, port: Some(port) })
    });
    let expected = "comma-separated IPv4 or IPv6 addresses, localhost, or * for all, each with or \
                    without a port: 127.0.0.1:11212, [::1]:11212";
    with_port.ok_or_else(|| ValueError::new(word, expected))
}

/// Whether a number follows the last colon, without a sign.
fn port_digits(word: &str) -> bool {
    word.rsplit(':').next().is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn address(word: &str) -> Option<IpAddr> {
    match word {
        "*" | "INADDR_ANY" => Some(Ipv6Addr::UNSPECIFIED.into()),
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        word => match word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            None => word.parse().ok(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_ports_or_none() {
        let said = |word: &str| bind(word).map_or("refused".to_owned(), |bind| bind.to_string());
        for (word, expected) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("localhost:65535", "127.0.0.1:65535"),
            ("*:7", "[::]:7"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[::1]:7", "[::1]:7"),
            // An address, not one with a port.
            ("::1:7", "::1:7"),
            ("1:2:3:4:5:6:7:8:9", "refused"),
            ("127.0.0.1:0", "refused"),
            ("127.0.0.1:65536", "refused"),
            ("127.0.0.1:+7", "refused"),
            ("127.0.0.1:", "refused"),
            ("[127.0.0.1]:7", "refused"),
            ("name:7", "refused"),
            (":7", "refused"),
        ] {
            assert_eq!(said(word), expected, "{word}");
        }
    }
}
