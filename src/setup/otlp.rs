//! The configuration of OTLP export.
//!
//! What the code says counts before the variable of the signal, that before the general variable,
//! and that before the default. gRPC and http/protobuf take the [wire path](crate::export::sink::otlp);
//! http/json takes the `opentelemetry-otlp` exporter, which has its own idea of precedence: it reads
//! the environment too, whenever it isn't told, and lets the headers of the environment win over
//! those it is given. So it is told everything here, and what it would send as headers is replaced
//! on the way out.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use opentelemetry_sdk::Resource;
use tokio::runtime::Runtime;

#[cfg(feature = "_otlp-path")]
use crate::export::sink::Client;
use crate::export::sink::Sink;
#[cfg(feature = "http-json")]
use crate::export::sink::exporter::ExporterSink;
#[cfg(feature = "_otlp-path")]
use crate::export::sink::otlp::OtlpSink;
#[cfg(all(feature = "outbox", feature = "_otlp-path"))]
use crate::export::sink::outbox::OutboxSink;
#[cfg(feature = "_otlp-path")]
use crate::export::transport::Transport;
#[cfg(feature = "grpc")]
use crate::export::transport::grpc::GrpcTransport;
#[cfg(feature = "http-proto")]
use crate::export::transport::http::HttpTransport;
use crate::outbox::Outbox;
use crate::setup::env::{Candidate, EnvIssue, Environment, check_header, needs, redact_endpoint};
use crate::setup::error::ConfigError;
use crate::setup::protocol::{Compression, Protocol};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const TRACES_PATH: &str = "/v1/traces";
const PRODUCT: &str = concat!("tracing-feedback/", env!("CARGO_PKG_VERSION"));

/// A certificate or key in PEM.
#[derive(Clone)]
pub(crate) struct Pem(pub(crate) Vec<u8>);

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem(..)")
    }
}

/// What the code said. `None` where it said nothing.
#[derive(Clone, Default)]
pub(crate) struct OtlpOptions {
    pub(crate) protocol: Option<Protocol>,
    /// For gRPC the endpoint itself; for HTTP the base, to which `/v1/traces` is added unless it
    /// ends so already.
    pub(crate) endpoint: Option<String>,
    /// Added to the headers of the environment; of one name ours counts.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) compression: Option<Compression>,
    /// What the collector's certificate must be signed by, instead of the system's roots.
    pub(crate) ca_certificate: Option<Pem>,
    pub(crate) client_certificate: Option<Pem>,
    pub(crate) client_key: Option<Pem>,
    /// For gRPC endpoints without a scheme: `http` rather than `https`.
    pub(crate) insecure: Option<bool>,
}

impl fmt::Debug for OtlpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpOptions")
            .field("protocol", &self.protocol)
            .field("endpoint", &self.endpoint.as_deref().map(redact_endpoint))
            .field("headers", &names(&self.headers))
            .field("timeout", &self.timeout)
            .field("compression", &self.compression)
            .field("ca_certificate", &self.ca_certificate)
            .field("client_certificate", &self.client_certificate)
            .field("client_key", &self.client_key)
            .field("insecure", &self.insecure)
            .finish()
    }
}

/// Everything the exporter has to be told.
pub(crate) struct OtlpConfig {
    pub(crate) protocol: Protocol,
    pub(crate) endpoint: Endpoint,
    /// Names in lower case, each once.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) timeout: Duration,
    pub(crate) compression: Option<Compression>,
    pub(crate) tls: Tls,
}

impl fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpConfig")
            .field("protocol", &self.protocol)
            .field("endpoint", &self.endpoint)
            .field("headers", &names(&self.headers))
            .field("timeout", &self.timeout)
            .field("compression", &self.compression)
            .field("tls", &self.tls)
            .finish()
    }
}

fn names(headers: &[(String, String)]) -> Vec<&str> {
    headers.iter().map(|(name, _)| name.as_str()).collect()
}

/// Where requests go: known to be an URI with a scheme this build can speak.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(String);

impl Endpoint {
    #[cfg(all(feature = "tls", feature = "_http-client"))]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    #[cfg(feature = "tls")]
    fn is_https(&self) -> bool {
        self.0.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"))
    }

    /// Whether it is this machine, which no proxy can reach.
    #[cfg(feature = "_http-client")]
    fn is_loopback(&self) -> bool {
        let Ok(uri) = self.0.parse::<Uri>() else { return false };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redact_endpoint(&self.0).fmt(f)
    }
}

/// What TLS is told beyond the endpoint, in PEM.
#[derive(Default)]
pub(crate) struct Tls {
    /// The roots, instead of the system's.
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) identity: Option<Identity>,
}

/// The client's certificate chain and its key.
pub(crate) type Identity = (Vec<u8>, Vec<u8>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// Who gave an endpoint, which decides what is done about its path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GivenBy {
    Code,
    SignalVariable,
    GeneralVariable,
}

/// Why an endpoint or certificate can't be used.
enum Fault {
    FeatureOff(&'static str),
    Malformed(String),
}

impl Fault {
    fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed(reason.into())
    }

    fn into_reason(self) -> String {
        match self {
            Self::FeatureOff(feature) => needs(feature),
            Self::Malformed(reason) => reason,
        }
    }
}

impl OtlpConfig {
    /// Puts together what the code and the environment say. What is wrong in the code is an
    /// error; what is wrong in the environment is passed over and added to its issues.
    pub(crate) fn resolve(code: &OtlpOptions, env: &mut Environment) -> Result<Self, ConfigError> {
        if let Some(protocol) = code.protocol.filter(|protocol| !protocol.is_enabled()) {
            return Err(ConfigError::FeatureOff {
                setting: format!("the protocol `{protocol}`"),
                feature: protocol.feature(),
            });
        }
        if let Some(compression) = code.compression.filter(|compression| !compression.is_enabled())
        {
            return Err(ConfigError::FeatureOff {
                setting: format!("the compression `{compression}`"),
                feature: compression.feature(),
            });
        }
        if code.timeout == Some(Duration::ZERO) {
            return Err(ConfigError::ZeroTimeout);
        }
        let protocol = code.protocol.or(env.otlp.protocol).unwrap_or_default();
        Ok(Self {
            protocol,
            endpoint: resolve_endpoint(code, env, protocol)?,
            headers: resolve_headers(code, env)?,
            timeout: code.timeout.or(env.otlp.timeout).unwrap_or(DEFAULT_TIMEOUT),
            compression: code.compression.or(env.otlp.compression),
            tls: tls::resolve(code, env)?,
        })
    }

    /// Whether the wire path takes it, and so what lies in an outbox.
    pub(crate) fn is_wire(&self) -> bool {
        match self.protocol {
            Protocol::Grpc | Protocol::HttpProtobuf => true,
            Protocol::HttpJson => false,
        }
    }

    /// Makes the sink, on `runtime`. An exporter may take `export_timeout` for a batch.
    pub(crate) fn sink(
        self,
        runtime: Runtime,
        resource: &Resource,
        export_timeout: Duration,
        outbox: Option<Arc<Outbox>>,
    ) -> Result<Box<dyn Sink>, ConfigError> {
        let _ = (export_timeout, &outbox); // the wire path has one limit, that of OTLP
        match self.protocol {
            #[cfg(feature = "grpc")]
            Protocol::Grpc => {
                let client = Client::new(runtime, self.timeout, || self.grpc())?;
                Ok(otlp_sink(client, resource, outbox))
            }
            #[cfg(feature = "http-proto")]
            Protocol::HttpProtobuf => {
                let client = Client::new(runtime, self.timeout, || self.http())?;
                Ok(otlp_sink(client, resource, outbox))
            }
            #[cfg(feature = "http-json")]
            Protocol::HttpJson => {
                let make = || self.json_exporter();
                let sink = ExporterSink::new(runtime, resource, export_timeout, make)?;
                Ok(Box::new(sink.named("otlp_http_json_span_exporter")))
            }
            #[allow(unreachable_patterns, reason = "reachable unless all protocols are on")]
            protocol => Err(ConfigError::FeatureOff {
                setting: format!("the protocol `{protocol}`"),
                feature: protocol.feature(),
            }),
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
            // Keeps it out of the logs of the HTTP libraries and of HPACK's tables.
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
        ConfigError::Exporter { endpoint: redact_endpoint(&self.endpoint.0), reason }
    }

    #[cfg(feature = "grpc")]
    fn grpc(self) -> Result<GrpcTransport, ConfigError> {
        let mut headers = self.header_map()?;
        let product = HeaderValue::from_static(PRODUCT);
        let agent = headers.remove(http::header::USER_AGENT).unwrap_or(product);
        let channel = tonic::transport::Endpoint::from_shared(self.endpoint.0.clone())
            .map_err(|error| self.refused(error))?
            .user_agent(agent)
            .map_err(|error| self.refused(error))?
            .timeout(self.timeout)
            .connect_timeout(self.timeout);
        #[cfg(feature = "tls")]
        let channel = if self.endpoint.is_https() {
            channel.tls_config(self.tls.for_tonic()).map_err(|error| self.refused(error))?
        } else {
            channel
        };
        let metadata = tonic::metadata::MetadataMap::from_headers(headers);
        let compression = match self.compression {
            None => None,
            #[cfg(feature = "gzip")]
            Some(Compression::Gzip) => Some(tonic::codec::CompressionEncoding::Gzip),
            #[cfg(feature = "zstd")]
            Some(Compression::Zstd) => Some(tonic::codec::CompressionEncoding::Zstd),
            #[allow(unreachable_patterns, reason = "reachable unless both are on")]
            Some(compression) => return Err(compression.feature_off()),
        };
        Ok(GrpcTransport::new(channel.connect_lazy(), metadata, compression))
    }

    #[cfg(feature = "http-proto")]
    fn http(self) -> Result<HttpTransport, ConfigError> {
        let encoding = match self.compression {
            None => None,
            #[cfg(feature = "gzip")]
            Some(Compression::Gzip) => Some(crate::export::transport::http::Encoding::GZIP),
            #[cfg(feature = "zstd")]
            Some(Compression::Zstd) => Some(crate::export::transport::http::Encoding::ZSTD),
            #[allow(unreachable_patterns, reason = "reachable unless both are on")]
            Some(compression) => return Err(compression.feature_off()),
        };
        let headers = outgoing(&HeaderMap::new(), &self.header_map()?);
        Ok(HttpTransport::new(self.http_client()?, self.endpoint.0, headers, encoding))
    }

    #[cfg(feature = "_http-client")]
    fn http_client(&self) -> Result<reqwest::Client, ConfigError> {
        let mut client = reqwest::Client::builder()
            .timeout(self.timeout)
            .connect_timeout(self.timeout)
            // A redirect would carry the headers, credentials among them, to another place.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false);
        if self.endpoint.is_loopback() {
            client = client.no_proxy();
        }
        #[cfg(feature = "tls")]
        {
            // Given also where it isn't used: left alone the client looks for a process-wide
            // crypto provider, and panics where there is none.
            client = client.tls_backend_preconfigured(self.tls.for_reqwest(&self.endpoint)?);
        }
        client.build().map_err(|error| self.refused(error))
    }

    #[cfg(feature = "http-json")]
    fn json_exporter(self) -> Result<opentelemetry_otlp::SpanExporter, ConfigError> {
        use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};

        let client = http_client::Client {
            inner: self.http_client()?,
            content_type: HeaderValue::from_static("application/json"),
            headers: self.header_map()?,
        };
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(self.endpoint.0.as_str())
            .with_protocol(opentelemetry_otlp::Protocol::HttpJson)
            .with_timeout(self.timeout)
            .with_retry_policy(RetryPolicy::recommended())
            .with_http_client(client);
        if let Some(compression) = self.compression {
            exporter = exporter.with_compression(compression.of_exporter());
        }
        exporter.build().map_err(|error| self.refused(error))
    }
}

/// The headers of a request over HTTP: ours, and before the exporter's user agent, if there is one,
/// that of this crate. Whatever else `theirs` holds comes from the environment and has been looked
/// through already.
#[cfg(feature = "_http-client")]
fn outgoing(theirs: &HeaderMap, ours: &HeaderMap) -> HeaderMap {
    let mut headers = ours.clone();
    if !headers.contains_key(http::header::USER_AGENT) {
        let agent = match theirs.get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok())
        {
            Some(agent) => format!("{PRODUCT} {agent}"),
            None => PRODUCT.to_owned(),
        };
        if let Ok(agent) = HeaderValue::from_str(&agent) {
            headers.insert(http::header::USER_AGENT, agent);
        }
    }
    headers
}

fn resolve_headers(
    code: &OtlpOptions,
    env: &Environment,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut headers = env.otlp.headers.0.clone();
    for (name, value) in &code.headers {
        let name = check_header(name.trim(), value)
            .map_err(|reason| ConfigError::Header { name: name.clone(), reason: reason.into() })?;
        headers.retain(|(other, _)| *other != name);
        headers.push((name, value.clone()));
    }
    Ok(headers)
}

fn resolve_endpoint(
    code: &OtlpOptions,
    env: &mut Environment,
    protocol: Protocol,
) -> Result<Endpoint, ConfigError> {
    let insecure = code.insecure.or(env.otlp.insecure).unwrap_or(false);
    if let Some(text) = &code.endpoint {
        return check_endpoint(text, GivenBy::Code, protocol, insecure).map_err(|fault| {
            let endpoint = redact_endpoint(text);
            match fault {
                Fault::FeatureOff(feature) => ConfigError::FeatureOff {
                    setting: format!("the endpoint {endpoint:?}"),
                    feature,
                },
                Fault::Malformed(reason) => ConfigError::Endpoint { endpoint, reason },
            }
        });
    }
    for Candidate { variable, value, of_signal } in &env.otlp.endpoint {
        let by = if *of_signal { GivenBy::SignalVariable } else { GivenBy::GeneralVariable };
        match check_endpoint(value, by, protocol, insecure) {
            Ok(endpoint) => return Ok(endpoint),
            Err(fault) => env.issues.push(EnvIssue::new(variable, value, fault.into_reason())),
        }
    }
    Ok(Endpoint(
        match protocol {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::HttpProtobuf | Protocol::HttpJson => "http://localhost:4318/v1/traces",
        }
        .to_owned(),
    ))
}

/// Makes an endpoint of what was given, by the rules of the specification for the variables.
fn check_endpoint(
    text: &str,
    by: GivenBy,
    protocol: Protocol,
    insecure: bool,
) -> Result<Endpoint, Fault> {
    let text = text.trim();
    let grpc = protocol == Protocol::Grpc;
    if let Some(path) = text.strip_prefix("unix:") {
        return if !grpc {
            Err(Fault::malformed("is a Unix socket, which only `grpc` can use"))
        } else if !cfg!(unix) || path.trim_start_matches("//").is_empty() {
            Err(Fault::malformed("isn't a Unix socket: write `unix:///path/to/socket`"))
        } else {
            Ok(Endpoint(text.to_owned()))
        };
    }
    let has_scheme =
        text.split_once("://").is_some_and(|(scheme, _)| !scheme.contains(['/', '?', '#']));
    let full = if has_scheme {
        text.to_owned()
    } else if grpc {
        format!("{}://{text}", if insecure { "http" } else { "https" })
    } else {
        return Err(Fault::malformed("has no scheme: write `http://` or `https://` before it"));
    };
    let uri: Uri = full.parse().map_err(|error| {
        Fault::malformed(format!("isn't an URI ({error}): write `http://host:port`"))
    })?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(Fault::malformed(
            "has credentials in it: give them as a header, `authorization`",
        ));
    }
    let port = authority.strip_prefix(uri.host().unwrap_or_default()).unwrap_or_default();
    let port_is_sound =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    if uri.host().is_none_or(str::is_empty) || !port_is_sound {
        return Err(Fault::malformed("has no usable host and port: write `http://host:port`"));
    }
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") if cfg!(feature = "tls") => {}
        Some("https") if !has_scheme => {
            return Err(Fault::malformed(format!(
                "has no scheme, which means `https`, and that {}; or write `http://` before it",
                needs("tls")
            )));
        }
        Some("https") => return Err(Fault::FeatureOff("tls")),
        _ => return Err(Fault::malformed("has an unknown scheme: use `http` or `https`")),
    }
    let full = if grpc { full } else { with_path(&uri, by) };
    // The HTTP client has a parser of its own, which is stricter.
    #[cfg(feature = "_http-client")]
    if !grpc && let Err(error) = reqwest::Url::parse(&full) {
        return Err(Fault::malformed(format!("isn't an URL ({error}): write `http://host:port`")));
    }
    Ok(Endpoint(full))
}

/// The URL that HTTP requests go to.
fn with_path(uri: &Uri, by: GivenBy) -> String {
    let path = uri.path();
    let path = match by {
        GivenBy::SignalVariable => path.to_owned(),
        GivenBy::Code if path.trim_end_matches('/').ends_with(TRACES_PATH) => path.to_owned(),
        GivenBy::Code | GivenBy::GeneralVariable => {
            format!("{}{TRACES_PATH}", path.strip_suffix('/').unwrap_or(path))
        }
    };
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{authority}{path}{query}")
}

#[cfg(feature = "http-json")]
mod http_client {
    use async_trait::async_trait;
    use http::HeaderMap;
    use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
    use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};

    /// Sends what the exporter has made, with the headers we want.
    #[derive(Debug)]
    pub(super) struct Client {
        pub(super) inner: reqwest::Client,
        pub(super) content_type: HeaderValue,
        pub(super) headers: HeaderMap,
    }

    #[async_trait]
    impl HttpClient for Client {
        async fn send_bytes(
            &self,
            mut request: Request<Bytes>,
        ) -> Result<Response<Bytes>, HttpError> {
            // The exporter puts the headers of the environment over its own, content headers
            // included, so none of them can be believed.
            let mut headers = super::outgoing(request.headers(), &self.headers);
            headers.insert(CONTENT_TYPE, self.content_type.clone());
            if let Some(encoding) = encoding(request.body()) {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
            *request.headers_mut() = headers;
            self.inner.send_bytes(request).await
        }
    }

    /// The encoding of a body, by the magic number that gzip and zstd begin with. An OTLP request
    /// begins with neither: in protobuf the first byte is the tag of field 1, in JSON it is `{`.
    /// That is more reliable than what was configured, as another crate of the build can enable
    /// compressions of the exporter that we take for absent.
    fn encoding(body: &[u8]) -> Option<&'static str> {
        match body {
            [0x1f, 0x8b, ..] => Some("gzip"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
            _ => None,
        }
    }
}

#[cfg(not(feature = "tls"))]
mod tls {
    use super::{ConfigError, Environment, OtlpOptions, Tls};

    pub(super) fn resolve(code: &OtlpOptions, _: &mut Environment) -> Result<Tls, ConfigError> {
        let given = [&code.ca_certificate, &code.client_certificate, &code.client_key];
        if given.into_iter().any(Option::is_some) {
            return Err(ConfigError::FeatureOff {
                setting: "a certificate".to_owned(),
                feature: "tls",
            });
        }
        Ok(Tls::default())
    }
}

#[cfg(feature = "tls")]
mod tls {
    use std::path::Path;
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ClientConfig, RootCertStore};

    use super::{Candidate, ConfigError, EnvIssue, Environment, Identity, OtlpOptions, Pem, Tls};

    const CA: &str = "CA certificate";
    const CERTIFICATE: &str = "client certificate";
    const KEY: &str = "client key";

    type Check = fn(&[u8]) -> Result<(), String>;

    /// A PEM and the variable that named its file, none for code.
    type Given = (Vec<u8>, Option<Candidate>);

    /// Reads certificates and keys and tries them, so that what TLS can't use is known now and not
    /// when the first spans are on their way.
    pub(super) fn resolve(code: &OtlpOptions, env: &mut Environment) -> Result<Tls, ConfigError> {
        let issues = &mut env.issues;
        let ca = find(CA, &code.ca_certificate, &env.otlp.certificate, issues, |pem| {
            roots(pem).map(drop)
        })?;
        let certificate =
            find(CERTIFICATE, &code.client_certificate, &env.otlp.client_certificate, issues, {
                |pem| chain(pem).map(drop)
            })?;
        let key = find(KEY, &code.client_key, &env.otlp.client_key, issues, |pem| {
            private_key(pem).map(drop)
        })?;
        Ok(Tls { ca: ca.map(|(pem, _)| pem), identity: pair(certificate, key, issues)? })
    }

    fn find(
        what: &'static str,
        code: &Option<Pem>,
        candidates: &[Candidate],
        issues: &mut Vec<EnvIssue>,
        check: Check,
    ) -> Result<Option<Given>, ConfigError> {
        if let Some(Pem(pem)) = code {
            return match check(pem) {
                Ok(()) => Ok(Some((pem.clone(), None))),
                Err(reason) => Err(ConfigError::Certificate { what, reason }),
            };
        }
        for candidate in candidates {
            let read = std::fs::read(Path::new(&candidate.value))
                .map_err(|error| format!("can't be read ({error}): name a readable PEM file"))
                .and_then(|pem| check(&pem).map(|()| pem));
            match read {
                Ok(pem) => return Ok(Some((pem, Some(candidate.clone())))),
                Err(reason) => {
                    issues.push(EnvIssue::new(candidate.variable, &candidate.value, reason));
                }
            }
        }
        Ok(None)
    }

    /// A certificate counts only with its key.
    fn pair(
        certificate: Option<Given>,
        key: Option<Given>,
        issues: &mut Vec<EnvIssue>,
    ) -> Result<Option<Identity>, ConfigError> {
        let (what, reason, from) = match (certificate, key) {
            (None, None) => return Ok(None),
            (Some((certificate, from)), Some((key, key_from))) => {
                let identity = Some((certificate, key));
                match client_config(RootCertStore::empty(), &identity) {
                    Ok(_) => return Ok(identity),
                    // In the environment only if both are: code can't be right halfway.
                    Err(reason) => (KEY, reason, from.and(key_from)),
                }
            }
            (Some((_, from)), None) => {
                (CERTIFICATE, "has no key with it: give the client key too".to_owned(), from)
            }
            (None, Some((_, from))) => (
                KEY,
                "has no certificate with it: give the client certificate too".to_owned(),
                from,
            ),
        };
        match from {
            Some(Candidate { variable, value, .. }) => {
                issues.push(EnvIssue::new(variable, &value, reason));
                Ok(None)
            }
            None => Err(ConfigError::Certificate { what, reason }),
        }
    }

    fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match chain {
            Ok(chain) if chain.is_empty() => {
                Err("holds no `BEGIN CERTIFICATE`: give a certificate in PEM".to_owned())
            }
            Ok(chain) => Ok(chain),
            Err(error) => Err(format!("isn't PEM ({error}): give a certificate in PEM")),
        }
    }

    fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_| "holds no private key: give an unencrypted one in PEM".to_owned())
    }

    fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        match roots.add_parsable_certificates(chain(pem)?) {
            (0, _) => Err("holds no X.509 certificate that can be a root".to_owned()),
            _ => Ok(roots),
        }
    }

    #[cfg(feature = "_http-client")]
    fn system_roots() -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        match roots.add_parsable_certificates(found.certs) {
            (0, _) => Err("the system has no root certificates: install them, or give a CA \
                           certificate"
                .to_owned()),
            _ => Ok(roots),
        }
    }

    /// A client by ring, without regard to what provider the process has installed, if any.
    fn client_config(
        roots: RootCertStore,
        identity: &Option<Identity>,
    ) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        match identity {
            None => Ok(config.with_no_client_auth()),
            Some((certificate, key)) => config
                .with_client_auth_cert(chain(certificate)?, private_key(key)?)
                .map_err(|error| format!("doesn't fit the certificate ({error})")),
        }
    }

    impl Tls {
        #[cfg(feature = "grpc")]
        pub(super) fn for_tonic(&self) -> tonic::transport::ClientTlsConfig {
            use tonic::transport::{Certificate, ClientTlsConfig};

            let config = match &self.ca {
                Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            match &self.identity {
                Some((certificate, key)) => {
                    config.identity(tonic::transport::Identity::from_pem(certificate, key))
                }
                None => config,
            }
        }

        #[cfg(feature = "_http-client")]
        pub(super) fn for_reqwest(
            &self,
            endpoint: &super::Endpoint,
        ) -> Result<ClientConfig, ConfigError> {
            let roots = match &self.ca {
                // Nothing will be verified, and reading the system's takes its time.
                _ if !endpoint.is_https() => Ok(RootCertStore::empty()),
                Some(ca) => roots(ca),
                None => system_roots(),
            };
            roots.and_then(|roots| client_config(roots, &self.identity)).map_err(|reason| {
                ConfigError::Exporter {
                    endpoint: super::redact_endpoint(endpoint.as_str()),
                    reason,
                }
            })
        }
    }
}

/// The OTLP sink for a client: with the outbox, if there is one.
#[cfg(feature = "_otlp-path")]
fn otlp_sink<T: Transport + 'static>(
    client: Client<T>,
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

#[cfg(test)]
#[path = "otlp_tests.rs"]
mod tests;
