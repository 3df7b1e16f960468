//! Connections to a collector: what all protocols, the exporter for http/json included, have in common.

mod resolver;
pub(crate) mod response;

use std::time::Duration;

#[cfg(feature = "grpc")]
use hyper_util::client::legacy::connect::HttpConnector;

pub(crate) use resolver::Resolver;

/// After how long without traffic a connection is probed by TCP, and how long the probes are apart. NATs
/// and load balancers forget a connection that was silent for some minutes.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
/// How many probes may remain unanswered.
const TCP_KEEPALIVE_RETRIES: u32 = 3;

/// How long what was sent may remain unacknowledged until a connection counts as dead, if a delivery may
/// take `timeout`: so short that it can be sent again in that time on another connection.
fn acknowledgement_timeout(timeout: Duration) -> Duration {
    (timeout / 4).clamp(Duration::from_secs(1), Duration::from_secs(20))
}

/// A client for HTTP that notices a dead connection. `timeout` is that of a delivery.
#[cfg(feature = "_http-client")]
pub(crate) fn http_client(timeout: Duration) -> reqwest::ClientBuilder {
    let client = reqwest::Client::builder().dns_resolver(Resolver::default());
    let unacknowledged = acknowledgement_timeout(timeout);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let client = client.tcp_user_timeout(unacknowledged);
    #[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
    let _ = unacknowledged; // other systems have no such option
    client
        .tcp_keepalive(TCP_KEEPALIVE)
        .tcp_keepalive_interval(TCP_KEEPALIVE)
        .tcp_keepalive_retries(TCP_KEEPALIVE_RETRIES)
}

/// Lets a channel for gRPC notice a dead connection, while a request waits on it. `timeout` is that of a
/// delivery.
///
/// A server may close a connection with too many pings. By default it takes, without sending anything
/// itself, three of them, or one every five minutes (<https://grpc.io/docs/guides/keepalive/>): a request
/// waits for three intervals at the most, or an interval is as long. For the same reason there are no pings
/// on an idle connection.
#[cfg(feature = "grpc")]
pub(crate) fn keep_alive_channel(
    endpoint: tonic::transport::Endpoint,
    timeout: Duration,
) -> tonic::transport::Endpoint {
    let interval = (timeout / 3).clamp(Duration::from_secs(1), Duration::from_secs(300));
    endpoint
        .http2_keep_alive_interval(interval)
        .keep_alive_timeout(acknowledgement_timeout(timeout))
        .keep_alive_while_idle(false)
}

/// What connects a channel for gRPC by TCP. `timeout` is that of a delivery.
#[cfg(feature = "grpc")]
pub(crate) fn connector(timeout: Duration) -> HttpConnector<Resolver> {
    let mut connector = HttpConnector::new_with_resolver(Resolver::default());
    connector.enforce_http(false); // TLS comes on top
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(timeout));
    connector.set_keepalive(Some(TCP_KEEPALIVE));
    connector.set_keepalive_interval(Some(TCP_KEEPALIVE));
    connector.set_keepalive_retries(Some(TCP_KEEPALIVE_RETRIES));
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    connector.set_tcp_user_timeout(Some(acknowledgement_timeout(timeout)));
    connector
}
