//! Where a request comes from, when something stands in front of the server.
//!
//! `X-Forwarded-For` is a claim of whoever writes it. It is read only from those who are trusted, and
//! from the right: each of them wrote down whom it spoke to, and the first of those who is not
//! trusted is the client, whatever stands left of it.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;
use tutor_core::{Error, ErrorKind, Result};

/// What proxies call the header.
const HEADER: &str = "x-forwarded-for";

/// Proxies between a client and the server, at most. What stands further left is not read.
const MAX_HOPS: usize = 32;

/// Addresses and networks of proxies that tell the truth. None by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads addresses and networks such as `127.0.0.1` or `10.0.0.0/8`, separated by commas.
    ///
    /// # Errors
    /// `config` for what is none.
    pub fn parse(text: &str) -> Result<Self> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let networks = parts.map(|part| {
            let network = part.parse::<IpNet>().ok();
            let network = network.or_else(|| Some(IpNet::from(part.parse::<IpAddr>().ok()?)));
            network.map(|network| network.trunc()).ok_or_else(|| {
                Error::new(
                    ErrorKind::Config,
                    format!("{part:?} is no address and no network: write one such as 10.0.0.0/8"),
                )
            })
        });
        networks.collect::<Result<_>>().map(Self)
    }

    /// As [`parse`](Self::parse) reads it.
    pub fn to_text(&self) -> String {
        let networks = self.0.iter().map(IpNet::to_string);
        networks.collect::<Vec<_>>().join(",")
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address of the client of a request that `peer` sent.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let lines = headers.get_all(HEADER).into_iter().rev();
        // A line that is no text says nothing, and nothing left of it can be believed.
        let lines = lines.map_while(|line| line.to_str().ok());
        for hop in lines.flat_map(|line| line.rsplit(',')).take(MAX_HOPS) {
            let Some(address) = address(hop.trim()) else {
                break;
            };
            client = address.to_canonical();
            if !self.trusts(client) {
                break;
            }
        }
        client
    }
}

/// An address as proxies write it: some add a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse().ok();
    address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(trusted: &str, peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(HEADER, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let proxies = TrustedProxies::parse(trusted).unwrap();
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn what_a_client_claims_of_itself_is_not_believed() {
        assert_eq!(client("", "203.0.113.7", &["10.0.0.1"]), "203.0.113.7");
        assert_eq!(
            client("127.0.0.1", "203.0.113.7", &["10.0.0.1"]),
            "203.0.113.7"
        );
        // Appended by a proxy that the client reached: only what that saw counts.
        let forged = &["1.1.1.1, 203.0.113.7"];
        assert_eq!(client("127.0.0.1", "127.0.0.1", forged), "203.0.113.7");
    }

    #[test]
    fn the_last_hop_that_is_not_trusted_is_the_client() {
        let trusted = "127.0.0.1, ::1, 10.0.0.0/8, 2001:db8::/32";
        for (lines, expected) in [
            (&["203.0.113.7"][..], "203.0.113.7"),
            (&["203.0.113.7, 10.1.2.3"], "203.0.113.7"),
            (
                &["6.6.6.6", "203.0.113.7", "10.1.2.3, 10.9.9.9"],
                "203.0.113.7",
            ),
            (&["203.0.113.7:4711"], "203.0.113.7"),
            (&["[2001:db9::1]:4711"], "2001:db9::1"),
            (&["[2001:db9::1]"], "2001:db9::1"),
            (&["::ffff:203.0.113.7"], "203.0.113.7"),
            (&["10.1.2.3, 10.9.9.9"], "10.1.2.3"),
            (&[], "127.0.0.1"),
            (&["203.0.113.7, unknown"], "127.0.0.1"),
            (&["203.0.113.7, "], "127.0.0.1"),
            (&["203.0.113.7, _hidden, 10.0.0.1"], "10.0.0.1"),
            (&["é"], "127.0.0.1"),
        ] {
            assert_eq!(client(trusted, "127.0.0.1", lines), expected, "{lines:?}");
        }
        assert_eq!(client(trusted, "::1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(
            client(trusted, "::ffff:127.0.0.1", &["203.0.113.7"]),
            "203.0.113.7"
        );
        let long = vec!["10.0.0.1"; 10_000].join(",");
        assert_eq!(client(trusted, "127.0.0.1", &[&long]), "10.0.0.1");
    }

    #[test]
    fn what_is_no_network_is_named() {
        for bad in ["nginx", "10.0.0.0/99", "10.0.0.1,x", "http://a"] {
            assert!(TrustedProxies::parse(bad).is_err(), "{bad}");
        }
        let text = "127.0.0.1/32,10.0.0.0/8";
        assert_eq!(
            TrustedProxies::parse("127.0.0.1, 10.1.2.3/8")
                .unwrap()
                .to_text(),
            text
        );
    }
}
