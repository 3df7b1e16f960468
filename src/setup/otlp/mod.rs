//! The configuration of OTLP export: resolves the settings of code and environment, and makes the sink.
//!
//! The order of precedence is code, the variable of the signal, the general variable, the default.
//!
//! gRPC and http/protobuf use the crate's own [sink](crate::export::sink::otlp), and so do log records over
//! http/json; spans over http/json use the exporter of `opentelemetry-otlp` ([`http_json`]).

mod endpoint;
#[cfg(feature = "http-json")]
mod http_json;
mod proxy;
#[cfg(feature = "tls")]
pub(super) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls_absent.rs"]
mod tls;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
#[cfg(feature = "http-json")]
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_sdk::Resource;
use tokio::runtime::Runtime;

use crate::export::connection;
use crate::export::sink::OtlpClient;
use crate::export::sink::Sink;
#[cfg(feature = "http-json")]
use crate::export::sink::exporter::ExporterSink;
use crate::export::sink::otlp::OtlpSink;
#[cfg(feature = "outbox")]
use crate::export::sink::outbox::OutboxSink;
use crate::export::transport::Transport;
#[cfg(feature = "grpc")]
use crate::export::transport::grpc::{GrpcConnector, GrpcTransport};
#[cfg(any(feature = "http-proto", feature = "http-json"))]
use crate::export::transport::http::{BodyFormat, Encoding, HttpTransport};
use crate::otlp::Signal;
use crate::outbox::Outbox;
use crate::setup::env::otlp::OtlpVariables;
use crate::setup::env::{Environment, check_header, redact_endpoint};
use crate::setup::error::ConfigError;
use crate::setup::protocol::{Compression, Protocol};
use endpoint::Endpoint;
use proxy::Proxy;
use tls::{Tls, TlsOptions};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The name of this crate in `user-agent`.
const PRODUCT: &str = concat!("tracing-feedback/", env!("CARGO_PKG_VERSION"));

/// The settings given to the builder; `None` if a setting was not given.
#[derive(Clone, Default)]
pub(crate) struct OtlpOptions {
    pub(crate) protocol: Option<Protocol>,
    /// For gRPC the endpoint itself; for HTTP the base, to which `/v1/traces` or `/v1/logs` is added
    /// unless it ends so already.
    pub(crate) endpoint: Option<String>,
    /// Added to the headers of the environment; of headers with one name, these apply.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) compression: Option<Compression>,
    pub(crate) tls: TlsOptions,
}

impl fmt::Debug for OtlpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpOptions")
            .field("protocol", &self.protocol)
            .field("endpoint", &self.endpoint.as_deref().map(redact_endpoint))
            .field("headers", &names(&self.headers))
            .field("timeout", &self.timeout)
            .field("compression", &self.compression)
            .field("tls", &self.tls)
            .finish()
    }
}

/// The resolved configuration of one signal.
pub(crate) struct OtlpConfig {
    pub(crate) signal: Signal,
    pub(crate) protocol: Protocol,
    pub(crate) endpoint: Endpoint,
    /// Names in lower case, each once.
    pub(crate) headers: Vec<(String, String)>,
    /// The timeout of one request, its retries included.
    pub(crate) timeout: Duration,
    pub(crate) compression: Compression,
    pub(crate) tls: Tls,
    pub(crate) proxy: Option<Proxy>,
}

impl fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpConfig")
            .field("signal", &self.signal)
            .field("protocol", &self.protocol)
            .field("endpoint", &self.endpoint)
            .field("headers", &names(&self.headers))
            .field("timeout", &self.timeout)
            .field("compression", &self.compression)
            .field("tls", &self.tls)
            .field("proxy", &self.proxy.as_ref().map(|proxy| &proxy.uri))
            .finish()
    }
}

/// Header names alone: values may be secrets.
fn names(headers: &[(String, String)]) -> Vec<&str> {
    headers.iter().map(|(name, _)| name.as_str()).collect()
}

impl OtlpConfig {
    /// Resolves the settings: code over environment over defaults. A wrong setting in code is an error; a
    /// wrong one in the environment is skipped and added to its issues.
    ///
    /// `export_timeout` is the timeout of the batch processor, if it is set: the shorter of it and OTLP's
    /// own timeout applies.
    pub(crate) fn resolve(
        signal: Signal,
        code: &OtlpOptions,
        env: &mut Environment,
        export_timeout: Option<Duration>,
    ) -> Result<Self, ConfigError> {
        let Environment { otlp, otlp_logs: (of_logs, _), proxy, issues, .. } = env;
        let variables = match signal {
            Signal::Traces => otlp,
            Signal::Logs => of_logs,
        };
        if code.timeout == Some(Duration::ZERO) {
            return Err(ConfigError::ZeroTimeout);
        }
        let protocol = match code.protocol.or(variables.protocol) {
            Some(protocol) => protocol,
            None => default_protocol()?,
        };
        let timeout = code.timeout.or(variables.timeout).unwrap_or(DEFAULT_TIMEOUT);
        let endpoint = code.endpoint.as_deref();
        let endpoint = endpoint::resolve(endpoint, signal, protocol, variables, issues)?;
        Ok(Self {
            signal,
            protocol,
            proxy: proxy::resolve(&endpoint, proxy, issues),
            endpoint,
            headers: resolve_headers(code, variables)?,
            timeout: export_timeout.map_or(timeout, |limit| timeout.min(limit)),
            compression: code.compression.or(variables.compression).unwrap_or_default(),
            tls: tls::resolve(&code.tls, variables, issues)?,
        })
    }

    /// Whether it uses the crate's own sink, which can send from an outbox.
    pub(crate) fn supports_outbox(&self) -> bool {
        match self.protocol {
            #[cfg(feature = "grpc")]
            Protocol::Grpc => true,
            #[cfg(feature = "http-proto")]
            Protocol::HttpProtobuf => true,
            #[cfg(feature = "http-json")]
            Protocol::HttpJson => self.signal == Signal::Logs,
        }
    }

    /// Makes the sink, on `runtime`.
    pub(crate) fn sink(
        self,
        runtime: Runtime,
        resource: &Resource,
        outbox: Option<Arc<Outbox>>,
    ) -> Result<Box<dyn Sink>, ConfigError> {
        match self.protocol {
            #[cfg(feature = "grpc")]
            Protocol::Grpc => {
                let client = OtlpClient::new(self.signal, runtime, self.timeout, || self.grpc())?;
                Ok(otlp_sink(client, resource, outbox))
            }
            #[cfg(feature = "http-proto")]
            Protocol::HttpProtobuf => {
                let make = || self.http(BodyFormat::Protobuf);
                let client = OtlpClient::new(self.signal, runtime, self.timeout, make)?;
                Ok(otlp_sink(client, resource, outbox))
            }
            #[cfg(feature = "http-json")]
            Protocol::HttpJson if self.signal == Signal::Logs => {
                let make = || self.http(BodyFormat::Json);
                let client = OtlpClient::new(self.signal, runtime, self.timeout, make)?;
                Ok(otlp_sink(client, resource, outbox))
            }
            #[cfg(feature = "http-json")]
            Protocol::HttpJson => {
                drop(outbox); // an outbox needs the crate's own sink
                let make = || self.json_exporter();
                let sink = ExporterSink::new(runtime, resource, self.timeout, make)?;
                Ok(Box::new(sink.named("otlp_http_json_span_exporter")))
            }
        }
    }

    fn header_map(&self) -> Result<HeaderMap, ConfigError> {
        let mut map = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let refused = |_| ConfigError::Header {
                name: name.clone(),
                reason: "is malformed: use printable ASCII".to_owned(),
            };
            let mut value = HeaderValue::from_str(value).map_err(|_| refused(()))?;
            // Keeps the value out of the logs of the HTTP libraries and of HPACK's tables.
            value.set_sensitive(true);
            map.insert(HeaderName::from_str(name).map_err(|_| refused(()))?, value);
        }
        Ok(map)
    }

    fn refused(&self, error: impl std::error::Error) -> ConfigError {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            reason.push_str(&format!(": {error}"));
            source = error.source();
        }
        ConfigError::Exporter { endpoint: redact_endpoint(self.endpoint.as_str()), reason }
    }

    #[cfg(feature = "grpc")]
    fn grpc(&self) -> Result<GrpcTransport, ConfigError> {
        let mut headers = self.header_map()?;
        let product = HeaderValue::from_static(PRODUCT);
        let agent = headers.remove(http::header::USER_AGENT).unwrap_or(product);
        let uri = match self.proxy {
            Some(_) => self.endpoint.with_port(),
            None => self.endpoint.as_str().to_owned(),
        };
        let endpoint = tonic::transport::Endpoint::from_shared(uri)
            .map_err(|error| self.refused(error))?
            .user_agent(agent)
            .map_err(|error| self.refused(error))?
            .connect_timeout(self.timeout);
        #[cfg(feature = "tls")]
        let endpoint = if self.endpoint.is_https() {
            endpoint.tls_config(self.tls.for_tonic()).map_err(|error| self.refused(error))?
        } else {
            endpoint
        };
        let metadata = tonic::metadata::MetadataMap::from_headers(headers);
        let compression = match self.compression {
            Compression::None => None,
            #[cfg(feature = "gzip")]
            Compression::Gzip => Some(tonic::codec::CompressionEncoding::Gzip),
            #[cfg(feature = "zstd")]
            Compression::Zstd => Some(tonic::codec::CompressionEncoding::Zstd),
        };
        let endpoint = connection::keep_alive_channel(endpoint, self.timeout);
        // A Unix socket has no name to resolve.
        let connector = (!self.endpoint.is_unix()).then(|| {
            let proxy = self.proxy.clone().map(|proxy| (proxy.uri, proxy.authorization));
            GrpcConnector::new(connection::connector(self.timeout), proxy)
        });
        Ok(GrpcTransport::new(self.signal, endpoint, connector, metadata, compression))
    }

    #[cfg(any(feature = "http-proto", feature = "http-json"))]
    fn http(&self, format: BodyFormat) -> Result<HttpTransport, ConfigError> {
        let encoding = match self.compression {
            Compression::None => None,
            #[cfg(feature = "gzip")]
            Compression::Gzip => Some(Encoding::GZIP),
            #[cfg(feature = "zstd")]
            Compression::Zstd => Some(Encoding::ZSTD),
        };
        let mut headers = self.header_map()?;
        headers.entry(http::header::USER_AGENT).or_insert(HeaderValue::from_static(PRODUCT));
        let endpoint = self.endpoint.as_str().to_owned();
        let client = self.http_client(None)?;
        Ok(HttpTransport::new(self.signal, client, endpoint, headers, format, encoding))
    }

    #[cfg(feature = "http-json")]
    fn json_exporter(&self) -> Result<opentelemetry_otlp::SpanExporter, ConfigError> {
        let client = http_json::Client {
            inner: self.http_client(Some(self.timeout))?,
            headers: self.header_map()?,
            product: PRODUCT,
            is_compressed: self.compression != Compression::None,
            has_logged: AtomicBool::new(false),
        };
        http_json::exporter(client, self.endpoint.as_str(), self.timeout, self.compression)
            .map_err(|error| self.refused(error))
    }

    /// `timeout` is that of one request, where a delivery has none of its own.
    #[cfg(feature = "_http-client")]
    fn http_client(&self, timeout: Option<Duration>) -> Result<reqwest::Client, ConfigError> {
        let mut client = connection::http_client(self.timeout)
            .connect_timeout(self.timeout)
            // A redirect would send the headers, credentials among them, to another host.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // Only the one that was found, and none that another crate's features may add.
            .no_proxy();
        if let Some(Proxy { uri, authorization }) = &self.proxy {
            let proxy =
                reqwest::Proxy::all(uri.to_string()).map_err(|error| self.refused(error))?;
            client = client.proxy(match authorization {
                Some(authorization) => proxy.custom_http_auth(authorization.clone()),
                None => proxy,
            });
        }
        if let Some(timeout) = timeout {
            client = client.timeout(timeout);
        }
        #[cfg(feature = "tls")]
        {
            // Set for `http` too: otherwise the client looks for a process-wide crypto provider, and
            // panics where there is none.
            client = client.tls_backend_preconfigured(self.tls.for_reqwest(&self.endpoint)?);
        }
        client.build().map_err(|error| self.refused(error))
    }
}

#[cfg(feature = "grpc")]
fn default_protocol() -> Result<Protocol, ConfigError> {
    Ok(Protocol::default())
}

#[cfg(not(feature = "grpc"))]
fn default_protocol() -> Result<Protocol, ConfigError> {
    Err(ConfigError::feature_off("the default protocol", "grpc", "grpc"))
}

fn resolve_headers(
    code: &OtlpOptions,
    variables: &OtlpVariables,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut headers = variables.headers.0.clone();
    for (name, value) in &code.headers {
        let name = check_header(name.trim(), value)
            .map_err(|reason| ConfigError::Header { name: name.clone(), reason: reason.into() })?;
        headers.retain(|(other, _)| *other != name);
        headers.push((name, value.clone()));
    }
    Ok(headers)
}

/// Makes the OTLP sink for a client, with the outbox if there is one.
fn otlp_sink<T: Transport + 'static>(
    client: OtlpClient<T>,
    resource: &Resource,
    outbox: Option<Arc<Outbox>>,
) -> Box<dyn Sink> {
    #[cfg(feature = "outbox")]
    if let Some(outbox) = outbox {
        return Box::new(OutboxSink::new(client, resource, outbox));
    }
    #[cfg(not(feature = "outbox"))]
    drop(outbox);
    Box::new(OtlpSink::new(client, resource))
}

#[cfg(all(
    test,
    feature = "grpc",
    feature = "gzip",
    feature = "http-json",
    feature = "http-proto",
    feature = "tls",
    feature = "zstd",
))]
mod tests;
