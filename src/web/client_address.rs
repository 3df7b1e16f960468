//! The address of the client that has sent a request.

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, Request};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Which address a server span has as `client.address`. It is personal data in many countries, so by default
/// there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAddress {
    /// No address.
    #[default]
    Omitted,
    /// The other end of the connection, also as `network.peer.address` and `network.peer.port`: from
    /// `axum::extract::ConnectInfo<SocketAddr>`, which a router has that is served with
    /// `into_make_service_with_connect_info`. Needs the feature `axum`.
    Peer,
    /// The first address in the header `Forwarded` ([RFC 7239]), or else in `X-Forwarded-For`, or else the
    /// peer. For services that can be reached only through a proxy that sets these headers: any client can send
    /// them. What is no IP address in them (`unknown`, `_hidden`, a name) counts as no address.
    ///
    /// [RFC 7239]: https://www.rfc-editor.org/rfc/rfc7239
    Forwarded,
}

/// What a span has of the client and of the connection.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) address: Option<String>,
    pub(super) peer: Option<SocketAddr>,
}

impl Client {
    pub(super) fn of<B>(request: &Request<B>, which: ClientAddress) -> Self {
        if which == ClientAddress::Omitted {
            return Self::default();
        }
        let peer = peer(request);
        let forwarded = match which {
            ClientAddress::Forwarded => forwarded(request.headers()),
            _ => None,
        };
        let address = forwarded.unwrap_or_else(|| peer.map(|peer| peer.ip()));
        Self { address: address.map(|address| address.to_string()), peer }
    }
}

#[cfg(feature = "axum")]
fn peer<B>(request: &Request<B>) -> Option<SocketAddr> {
    let info = request.extensions().get::<axum::extract::ConnectInfo<SocketAddr>>();
    info.map(|axum::extract::ConnectInfo(peer)| *peer)
}

#[cfg(not(feature = "axum"))]
fn peer<B>(_: &Request<B>) -> Option<SocketAddr> {
    None
}

/// The first address in the headers of proxies: `None` without such a header, `Some(None)` if what it has first
/// is no address. Foreign bytes.
fn forwarded(headers: &HeaderMap) -> Option<Option<IpAddr>> {
    let first = |name| {
        let value: &http::HeaderValue = headers.get(name)?;
        Some(value.to_str().unwrap_or_default().split(',').next().unwrap_or_default())
    };
    if let Some(element) = first(FORWARDED) {
        let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
        let mut nodes = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
        return Some(nodes.next().and_then(|(_, node)| address(node)));
    }
    first(X_FORWARDED_FOR).map(address)
}

/// The address in a node of a forwarding header: with or without quotes, brackets and a port.
fn address(node: &str) -> Option<IpAddr> {
    let node = node.trim().trim_matches('"');
    let bare = node.strip_prefix('[').and_then(|node| node.strip_suffix(']')).unwrap_or(node);
    bare.parse().ok().or_else(|| node.parse().ok().map(|peer: SocketAddr| peer.ip()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(name: &'static str, value: &str) -> Option<Option<String>> {
        let value = HeaderValue::from_str(value).unwrap();
        let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value)]);
        forwarded(&headers).map(|address| address.map(|address| address.to_string()))
    }

    #[test]
    fn the_first_address_of_a_forwarding_header_is_the_client() {
        for (value, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", Some("192.0.2.60")),
            ("for=192.0.2.43, for=198.51.100.17", Some("192.0.2.43")),
            ("proto=https;For=\"[2001:db8:cafe::17]:4711\"", Some("2001:db8:cafe::17")),
            ("for=\"[2001:db8::1]\"", Some("2001:db8::1")),
            ("for=192.0.2.1:80", Some("192.0.2.1")),
            ("for=unknown, for=192.0.2.1", None),
            ("for=_hidden", None),
            ("proto=http", None),
            ("", None),
        ] {
            assert_eq!(read("forwarded", value).unwrap().as_deref(), expected, "{value}");
        }
        for (value, expected) in [
            ("203.0.113.195, 10.10.10.10", Some("203.0.113.195")),
            ("2001:db8:85a3::370:7348", Some("2001:db8:85a3::370:7348")),
            ("203.0.113.195:41237", Some("203.0.113.195")),
            ("<script>", None),
        ] {
            assert_eq!(read("x-forwarded-for", value).unwrap().as_deref(), expected, "{value}");
        }
        assert_eq!(read("via", "1.1 proxy"), None);
    }

    proptest! {
        #[test]
        fn any_header_gives_an_address_or_none(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                for name in [FORWARDED, X_FORWARDED_FOR] {
                    let headers = HeaderMap::from_iter([(name, value.clone())]);
                    prop_assert!(forwarded(&headers).is_some());
                }
            }
        }
    }
}
