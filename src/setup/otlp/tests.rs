//! The resolved configuration, and the requests that arrive at a real server on the loopback interface.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::Arc;

use http::Uri;
use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{SpanId, TraceId};
use proptest::prelude::*;

use super::endpoint::{EndpointError, EndpointOrigin, EndpointRules, check_endpoint};
use super::tls::Pem;
use super::*;
use crate::export::sink::{Backpressure, Batch};
use crate::record::SpanRecord;
use crate::setup::env::EnvironmentIssue;

fn environment(variables: &[(&str, &str)]) -> Environment {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    Environment::from_lookup(|name| variables.get(name).map(OsString::from))
}

fn resolve(
    code: OtlpOptions,
    variables: &[(&str, &str)],
) -> (Result<OtlpConfig, ConfigError>, Vec<EnvironmentIssue>) {
    let mut environment = environment(variables);
    let config = OtlpConfig::resolve(Signal::Traces, &code, &mut environment, None);
    (config, environment.issues)
}

fn headers(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn rules(protocol: Protocol, insecure: bool) -> EndpointRules {
    EndpointRules { signal: Signal::Traces, protocol, insecure }
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const GRPC: Protocol = Protocol::Grpc;
const HTTP: Protocol = Protocol::HttpProtobuf;

#[test]
fn an_endpoint_for_log_records_has_their_path() {
    use EndpointOrigin::{Code, GeneralVariable as General, SignalVariable};

    for (origin, text, expected) in [
        (Code, "http://host:4318", "http://host:4318/v1/logs"),
        (Code, "http://host:4318/v1/logs/", "http://host:4318/v1/logs/"),
        // One endpoint for both signals, with the path for spans.
        (Code, "http://host/base/v1/traces?key=1", "http://host/base/v1/logs?key=1"),
        (General, "http://host/base/", "http://host/base/v1/logs"),
        (General, "http://host/v1/traces", "http://host/v1/traces/v1/logs"),
        (SignalVariable, "http://host/own", "http://host/own"),
    ] {
        let rules = EndpointRules { signal: Signal::Logs, ..rules(HTTP, false) };
        let endpoint = check_endpoint(text, origin, rules).ok();
        assert_eq!(endpoint.as_ref().map(Endpoint::as_str), Some(expected), "{text}");
    }
    let mut environment = environment(&[]);
    let default = OtlpConfig::resolve(
        Signal::Logs,
        &OtlpOptions { protocol: Some(HTTP), ..OtlpOptions::default() },
        &mut environment,
        None,
    );
    assert_eq!(default.unwrap().endpoint.as_str(), "http://localhost:4318/v1/logs");
}

/// The protocol, where the endpoint was set, its text, and the resolved endpoint; `None` if it is refused.
const ENDPOINTS: &[(Protocol, EndpointOrigin, &str, Option<&str>)] = {
    use EndpointOrigin::{Code, GeneralVariable as General, SignalVariable as Signal};
    &[
        (GRPC, Code, "http://localhost:4317", Some("http://localhost:4317")),
        (GRPC, Code, " http://localhost:4317/ ", Some("http://localhost:4317/")),
        (GRPC, General, "http://host/path", Some("http://host/path")),
        (GRPC, Signal, "HTTP://host", Some("HTTP://host")),
        (GRPC, Signal, "http://[::1]:4317", Some("http://[::1]:4317")),
        (GRPC, Code, "", None),
        (GRPC, Code, "http://", None),
        (GRPC, Code, "http://:4317", None),
        (GRPC, Code, "http://host:99999", None),
        (GRPC, Code, "http://host:", None),
        (GRPC, Code, "http://ho st:1", None),
        (GRPC, Code, "http://[::1", None),
        (GRPC, Code, "ftp://host", None),
        (GRPC, Code, "http://user:s3cret@host", None),
        (GRPC, Code, "unix:", None),
        (GRPC, Code, "unix://", None),
        (HTTP, Code, "http://localhost:4318", Some("http://localhost:4318/v1/traces")),
        (HTTP, Code, "http://localhost:4318/", Some("http://localhost:4318/v1/traces")),
        (HTTP, Code, "http://host/base", Some("http://host/base/v1/traces")),
        (HTTP, Code, "http://host/base/v1/traces", Some("http://host/base/v1/traces")),
        (HTTP, Code, "http://host/v1/traces/", Some("http://host/v1/traces/")),
        (HTTP, Code, "http://host/base?key=1", Some("http://host/base/v1/traces?key=1")),
        (HTTP, General, "http://host:1", Some("http://host:1/v1/traces")),
        (HTTP, General, "http://host:1/base/", Some("http://host:1/base/v1/traces")),
        (HTTP, General, "http://host:1/v1/traces", Some("http://host:1/v1/traces/v1/traces")),
        (HTTP, Signal, "http://host:1", Some("http://host:1/")),
        (HTTP, Signal, "http://host:1/spans?a=b", Some("http://host:1/spans?a=b")),
        (HTTP, Code, "localhost:4318", None),
        (HTTP, Code, "host", None),
        (HTTP, Code, "unix:///socket", None),
        (HTTP, Code, "http://host:99999", None),
        (HTTP, Code, "http://user@host", None),
        (HTTP, Code, "http://1.2.3.4.5.", None),
    ]
};

#[test]
fn endpoints() {
    for (protocol, origin, text, expected) in ENDPOINTS {
        // Only the URL parser of the HTTP client refuses this endpoint.
        if *text == "http://1.2.3.4.5." && !cfg!(feature = "_http-client") {
            continue;
        }
        let endpoint = check_endpoint(text, *origin, rules(*protocol, false));
        assert_eq!(endpoint.as_ref().ok().map(Endpoint::as_str), *expected, "{protocol} {text}");
    }
    #[cfg(unix)]
    for socket in ["unix:///run/otlp", "unix:/run/otlp", "unix:otlp"] {
        let endpoint = check_endpoint(socket, EndpointOrigin::Code, rules(GRPC, false));
        assert_eq!(endpoint.as_ref().ok().map(Endpoint::as_str), Some(socket));
    }
}

#[test]
fn endpoints_without_a_scheme_are_as_secure_as_configured() {
    let check = |text, insecure| {
        check_endpoint(text, EndpointOrigin::Code, rules(GRPC, insecure))
            .map(|endpoint| endpoint.as_str().to_owned())
            .map_err(EndpointError::into_reason)
    };
    assert_eq!(check("localhost:4317", true).unwrap(), "http://localhost:4317");
    assert_eq!(check("localhost", true).unwrap(), "http://localhost");
    if cfg!(feature = "tls") {
        assert_eq!(check("localhost:4317", false).unwrap(), "https://localhost:4317");
    } else {
        assert!(check("localhost:4317", false).unwrap_err().contains("`tls`"));
    }
}

proptest! {
    #[test]
    fn an_endpoint_is_refused_or_can_be_used(
        text in prop_oneof![
            any::<String>(),
            "(https?|unix|ftp)://[a-z\\[\\]:@.0-9%]{0,8}(:[0-9]{0,6})?(/[a-z?#]{0,4})?",
        ],
        insecure: bool,
    ) {
        for protocol in [GRPC, HTTP] {
            for origin in [
                EndpointOrigin::Code,
                EndpointOrigin::SignalVariable,
                EndpointOrigin::GeneralVariable,
            ] {
                let Ok(endpoint) = check_endpoint(&text, origin, rules(protocol, insecure)) else {
                    continue;
                };
                if !endpoint.as_str().starts_with("unix:") {
                    let uri: Uri = endpoint.as_str().parse().unwrap();
                    prop_assert!(uri.host().is_some_and(|host| !host.is_empty()));
                }
                #[cfg(feature = "grpc")]
                if protocol == GRPC {
                    prop_assert!(tonic::transport::Endpoint::from_shared(endpoint.as_str().to_owned()).is_ok());
                }
            }
        }
    }
}

#[test]
fn names() {
    for (protocol, name) in [
        (Protocol::Grpc, "grpc"),
        (Protocol::HttpProtobuf, "http/protobuf"),
        (Protocol::HttpJson, "http/json"),
    ] {
        assert_eq!(protocol.to_string(), name);
        assert_eq!(name.to_uppercase().parse::<Protocol>().unwrap(), protocol);
    }
    for (compression, name) in
        [(Compression::None, "none"), (Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")]
    {
        assert_eq!(compression.to_string(), name);
        assert_eq!(format!(" {name} ").parse::<Compression>().unwrap(), compression);
    }
    assert!("http".parse::<Protocol>().unwrap_err().to_string().contains("`http/protobuf`"));
    assert!("br".parse::<Compression>().unwrap_err().to_string().contains("`gzip`, `zstd` or"));
}

#[test]
fn defaults() {
    let (config, issues) = resolve(OtlpOptions::default(), &[]);
    let config = config.unwrap();
    assert_eq!(issues, []);
    assert_eq!(config.protocol, Protocol::default());
    assert_eq!(config.endpoint.as_str(), "http://localhost:4317");
    assert_eq!((config.timeout, config.compression), (Duration::from_secs(10), Compression::None));
    assert_eq!(config.headers, []);
}

#[test]
fn the_endpoint_of_the_code_wins_then_that_of_the_signal() {
    let protocol = Protocol::default();
    let path = |path: &str| if protocol == GRPC { String::new() } else { path.to_owned() };
    let general = (ENDPOINT, "http://general");
    let signal = (TRACES_ENDPOINT, "http://signal/x");
    let code = OtlpOptions { endpoint: Some("http://code".into()), ..Default::default() };

    let endpoint = |code: &OtlpOptions, variables: &[(&str, &str)]| {
        let (config, issues) = resolve(code.clone(), variables);
        (config.unwrap().endpoint.as_str().to_owned(), issues)
    };
    let none = OtlpOptions::default();
    let expected = format!("http://code{}", path("/v1/traces"));
    assert_eq!(endpoint(&code, &[signal, general]), (expected, vec![]));
    assert_eq!(endpoint(&none, &[signal, general]), ("http://signal/x".to_owned(), vec![]));
    let expected = format!("http://general{}", path("/v1/traces"));
    assert_eq!(endpoint(&none, &[general]), (expected.clone(), vec![]));

    let malformed = (TRACES_ENDPOINT, "ftp://user:s3cret@host");
    let (found, issues) = endpoint(&none, &[malformed, general]);
    assert_eq!((found, issues.len()), (expected, 1));
    assert_eq!(issues[0].variable, TRACES_ENDPOINT);
    assert_eq!(issues[0].value, "ftp://[hidden]@host");
    let (found, issues) = endpoint(&none, &[malformed, (ENDPOINT, "http://")]);
    assert_eq!((found.starts_with("http://localhost:43"), issues.len()), (true, 2));
}

#[test]
fn what_the_code_gets_wrong_is_an_error_with_a_remedy() {
    let error = |options: OtlpOptions| resolve(options, &[]).0.unwrap_err().to_string();
    let endpoint = |endpoint: &str| {
        error(OtlpOptions { endpoint: Some(endpoint.into()), ..Default::default() })
    };
    assert_eq!(
        endpoint("ftp://host"),
        "the endpoint \"ftp://host\" can't be used: has an unknown scheme: use `http` or `https`"
    );
    let credentials = endpoint("http://user:s3cret@host");
    assert!(credentials.contains("`authorization`") && !credentials.contains("s3cret"));

    let header = |name: &str, value: &str| {
        error(OtlpOptions { headers: headers(&[(name, value)]), ..Default::default() })
    };
    for text in [header("a b", "s3cret"), header("a", "s3cret\n"), header("TE", "s3cret")] {
        assert!(text.starts_with("the header \"") && !text.contains("s3cret"), "{text}");
    }
    let zero = OtlpOptions { timeout: Some(Duration::ZERO), ..Default::default() };
    assert!(error(zero).contains("zero"));
}

#[test]
fn the_rest_of_the_code_wins_too() {
    let code = OtlpOptions {
        headers: headers(&[("X-B", "code"), ("x-c", "code")]),
        timeout: Some(Duration::from_millis(7)),
        ..Default::default()
    };
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-a=signal,x-b=signal"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-d=general"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "9"),
    ];
    let config = resolve(code, &variables).0.unwrap();
    let expected = headers(&[("x-a", "signal"), ("x-b", "code"), ("x-c", "code")]);
    assert_eq!((config.headers, config.timeout), (expected, Duration::from_millis(7)));
    let config = resolve(OtlpOptions::default(), &variables).0.unwrap();
    assert_eq!(config.timeout, Duration::from_millis(9));
}

#[test]
fn compression_none_in_code_wins_over_the_environment() {
    let variables = [("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")];
    let config = resolve(OtlpOptions::default(), &variables).0.unwrap();
    assert_eq!(config.compression, Compression::Gzip);
    let code = OtlpOptions { compression: Some(Compression::None), ..Default::default() };
    assert_eq!(resolve(code, &variables).0.unwrap().compression, Compression::None);
}

#[test]
fn the_shorter_of_both_timeouts_counts() {
    let timeout = |export_timeout: Option<u64>| {
        let mut environment = environment(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "500")]);
        let limit = export_timeout.map(Duration::from_millis);
        OtlpConfig::resolve(Signal::Traces, &OtlpOptions::default(), &mut environment, limit)
            .unwrap()
            .timeout
    };
    assert_eq!(timeout(None), Duration::from_millis(500));
    assert_eq!(timeout(Some(20)), Duration::from_millis(20));
    assert_eq!(timeout(Some(900)), Duration::from_millis(500));
}

#[test]
fn one_proxy_of_the_environment_counts_for_every_protocol() {
    const HTTP_PROXY: (&str, &str) = ("HTTP_PROXY", "http://plain:3128");
    const HTTPS_PROXY: (&str, &str) = ("https_proxy", "secure:3128");
    const ALL_PROXY: (&str, &str) = ("ALL_PROXY", "http://all:3128");
    // Endpoint, variables, the proxy that is used, and how many variables are no good.
    type Variables<'v> = &'v [(&'v str, &'v str)];
    let cases: &[(&str, Variables<'_>, Option<&str>, usize)] = &[
        ("http://collector:4317", &[], None, 0),
        ("http://collector:4317", &[HTTP_PROXY, HTTPS_PROXY], Some("http://plain:3128/"), 0),
        ("https://collector:4317", &[HTTP_PROXY, HTTPS_PROXY], Some("http://secure:3128/"), 0),
        ("http://collector", &[HTTPS_PROXY, ALL_PROXY], Some("http://all:3128/"), 0),
        ("http://collector", &[HTTP_PROXY, ALL_PROXY], Some("http://plain:3128/"), 0),
        ("http://collector", &[HTTP_PROXY, ("NO_PROXY", "collector")], None, 0),
        ("http://a.b.c", &[HTTP_PROXY, ("no_proxy", "x, .b.c")], None, 0),
        ("http://10.1.2.3", &[HTTP_PROXY, ("no_proxy", "10.0.0.0/8")], None, 0),
        ("http://collector", &[HTTP_PROXY, ("NO_PROXY", "*")], None, 0),
        ("http://localhost:4317", &[HTTP_PROXY, ALL_PROXY], None, 0),
        ("http://127.0.0.1:4317", &[HTTP_PROXY], None, 0),
        ("http://collector", &[HTTP_PROXY, ("REQUEST_METHOD", "GET")], None, 0),
        ("http://collector", &[("HTTP_PROXY", "socks5://p:1")], None, 1),
        (
            "http://collector",
            &[("HTTP_PROXY", "https://p:1"), ALL_PROXY],
            Some("http://all:3128/"),
            1,
        ),
        ("http://collector", &[("HTTP_PROXY", "http://[")], None, 1),
        ("http://collector", &[("HTTP_PROXY", " ")], None, 0),
    ];
    for (endpoint, variables, expected, issues) in cases {
        for protocol in [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson] {
            let options = OtlpOptions {
                protocol: Some(protocol),
                endpoint: Some((*endpoint).to_owned()),
                ..Default::default()
            };
            let (config, found) = resolve(options, variables);
            let proxy = config.unwrap().proxy.map(|proxy| proxy.uri.to_string());
            assert_eq!(proxy.as_deref(), *expected, "{protocol} {endpoint} {variables:?}");
            assert_eq!(found.len(), *issues, "{found:?}");
        }
    }
    let secret = ("HTTP_PROXY", "ftp://user:s3cret@proxy");
    let options = OtlpOptions { endpoint: Some("http://collector".into()), ..Default::default() };
    let (_, issues) = resolve(options, &[secret]);
    assert!(issues.len() == 1 && !format!("{issues:?}").contains("s3cret"), "{issues:?}");
}

#[test]
fn secrets_are_not_shown() {
    let code = OtlpOptions {
        headers: headers(&[("x-key", "s3cret")]),
        endpoint: Some("http://host/?key=s3cret".into()),
        tls: TlsOptions { client_key: Some(Pem(b"s3cret".to_vec())), ..Default::default() },
        ..Default::default()
    };
    assert!(!format!("{code:?}").contains("s3cret"));
    let code = OtlpOptions { tls: TlsOptions::default(), ..code };
    let config = resolve(code, &[]).0.unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains("x-key") && !shown.contains("s3cret"), "{shown}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn span() -> SpanRecord {
    let mut span = SpanRecord {
        trace_id: TraceId::from(1),
        span_id: SpanId::from(2),
        ..SpanRecord::default()
    };
    // Long enough to be worth compressing.
    span.details.name = Some("answer ".repeat(100).into());
    span
}

/// A request that arrived: the headers, including repeated ones, the body, and the name of its span.
#[derive(Debug)]
struct ArrivedRequest {
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    span: String,
}

impl ArrivedRequest {
    fn header(&self, name: &str) -> Vec<&str> {
        let of_name = self.headers.iter().filter(|(other, _)| other == name);
        of_name.map(|(_, value)| value.as_str()).collect()
    }
}

/// Builds and exports as the export thread does.
fn export(config: OtlpConfig) -> Result<(), String> {
    let resource = Resource::builder_empty().build();
    let sink = config.sink(runtime(), &resource, None);
    let mut sink = sink.map_err(|error| error.to_string())?;
    let scope = Arc::new(InstrumentationScope::builder("test").build());
    let mut batch = Batch::new(&scope);
    batch.add(&mut span());
    match sink.export(vec![batch], &Backpressure::default()).failed {
        Some((1, 0, message)) => Err(message),
        Some(failed) => panic!("{failed:?}"),
        None => Ok(()),
    }
}

/// The user agent begins with the name of this crate; that of the exporter or of tonic follows.
fn assert_user_agent(arrived: &ArrivedRequest) {
    let [agent] = arrived.header("user-agent")[..] else { panic!("{arrived:?}") };
    assert!(agent.starts_with(PRODUCT), "{agent}");
}

/// The variable that marks the process of a single test.
const OWN_PROCESS: &str = "TRACING_FEEDBACK_TEST_OWN_PROCESS";

/// Whether [`in_environment`] started this process. It is `false` where all ignored tests are run by hand.
fn in_own_process() -> bool {
    std::env::var_os(OWN_PROCESS).is_some()
}

/// Runs an ignored test of this binary in a new process with its own environment, since the exporter
/// reads the real one.
fn in_environment(test: &str, variables: &[(&str, &str)]) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", &format!("setup::otlp::tests::{test}")])
        .envs(variables.iter().copied())
        .env(OWN_PROCESS, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}\n{errors}");
}

/// An environment with which every export would fail if the exporter read it.
const HOSTILE: &[(&str, &str)] = &[
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://["),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "nonsense"),
    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
    ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    (
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "x-ours=theirs,x-theirs=1,user-agent=theirs,content-type=text/plain,\
         content-encoding=gzip,grpc-encoding=gzip,host=elsewhere,content-length=1",
    ),
    ("OTEL_EXPORTER_OTLP_INSECURE", "nonsense"),
    ("HTTP_PROXY", "http://127.0.0.1:1"),
    ("http_proxy", "http://127.0.0.1:1"),
    ("ALL_PROXY", "http://127.0.0.1:1"),
];

#[cfg(feature = "tls")]
mod certificates {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    pub(super) struct Authority {
        pub(super) pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    pub(super) struct Certificate {
        pub(super) pem: String,
        pub(super) key: String,
    }

    impl Authority {
        pub(super) fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let pem = params.self_signed(&key).unwrap().pem();
            Self { pem, issuer: Issuer::new(params, key) }
        }

        /// Issues a certificate for this machine.
        pub(super) fn issue(&self) -> Certificate {
            let key = KeyPair::generate().unwrap();
            let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
            let params = CertificateParams::new(names).unwrap();
            let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
            Certificate { pem, key: key.serialize_pem() }
        }
    }
}

#[cfg(feature = "tls")]
mod tls_material {
    use std::path::PathBuf;

    use super::certificates::Authority;
    use super::*;

    fn bytes(pem: &str) -> Option<Pem> {
        Some(Pem(pem.as_bytes().to_vec()))
    }

    /// A directory of files that is removed on drop.
    struct Files(PathBuf);

    impl Files {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: &str) -> String {
            let path = self.0.join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_the_code_gives_must_be_usable() {
        let (one, two) = (Authority::new().issue(), Authority::new().issue());
        let none = OtlpOptions::default;
        for (options, expected) in [
            (
                OtlpOptions {
                    tls: TlsOptions { ca_certificate: bytes("x"), ..Default::default() },
                    ..none()
                },
                "no `BEGIN CERTIFICATE`",
            ),
            (
                OtlpOptions {
                    tls: TlsOptions { ca_certificate: bytes(&one.key), ..Default::default() },
                    ..none()
                },
                "no `BEGIN CERTIFICATE`",
            ),
            (
                OtlpOptions {
                    tls: TlsOptions { client_certificate: bytes(&one.pem), ..Default::default() },
                    ..none()
                },
                "client certificate can't be used: has no key with it",
            ),
            (
                OtlpOptions {
                    tls: TlsOptions { client_key: bytes(&one.key), ..Default::default() },
                    ..none()
                },
                "client key can't be used: has no certificate with it",
            ),
            (
                OtlpOptions {
                    tls: TlsOptions {
                        client_certificate: bytes(&one.pem),
                        client_key: bytes(&two.key),
                        ..Default::default()
                    },
                    ..none()
                },
                "client key can't be used: doesn't fit the certificate",
            ),
            (
                OtlpOptions {
                    tls: TlsOptions {
                        client_certificate: bytes(&one.pem),
                        client_key: bytes(&two.pem),
                        ..Default::default()
                    },
                    ..none()
                },
                "client key can't be used: holds no private key",
            ),
        ] {
            let error = resolve(options, &[]).0.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn no_provider_is_installed() {
        // In its own process, since the server of another test may install a provider.
        in_environment("tls_material::in_a_process_without_a_provider", &[]);
    }

    #[test]
    #[ignore = "run by `no_provider_is_installed`, in a process of its own"]
    fn in_a_process_without_a_provider() {
        if !in_own_process() {
            return;
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Reads the client's part of the handshake and closes the connection.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = std::io::Read::read(&mut stream.unwrap(), &mut [0; 16]);
            }
        });
        let authority = Authority::new();
        for protocol in [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson] {
            for scheme in ["http", "https"] {
                let options = OtlpOptions {
                    protocol: Some(protocol),
                    endpoint: Some(format!("{scheme}://{address}")),
                    tls: TlsOptions { ca_certificate: bytes(&authority.pem), ..Default::default() },
                    timeout: Some(Duration::from_secs(5)),
                    ..Default::default()
                };
                export(resolve(options, &[]).0.unwrap()).unwrap_err();
                assert!(rustls::crypto::CryptoProvider::get_default().is_none());
            }
        }
    }

    #[test]
    fn files_of_the_environment_are_used_or_skipped() {
        let files = Files::new("tracing-feedback-otlp-certificates");
        let (authority, other) = (Authority::new(), Authority::new().issue());
        let client = authority.issue();
        let ca = files.write("ca.pem", &authority.pem);
        let certificate = files.write("client.pem", &client.pem);
        let key = files.write("client.key", &client.key);
        let other_key = files.write("other.key", &other.key);
        let garbage = files.write("garbage.pem", "garbage");

        // The usable general variable replaces an unusable variable of the signal.
        let (config, issues) = resolve(
            OtlpOptions::default(),
            &[
                ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/nowhere"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", &ca),
                ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", &garbage),
                ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &certificate),
                ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key),
            ],
        );
        let tls = config.unwrap().tls;
        assert_eq!(tls.ca.unwrap(), authority.pem.as_bytes());
        assert_eq!(tls.identity.unwrap(), (client.pem.clone().into(), client.key.clone().into()));
        let named: Vec<_> = issues.iter().map(|issue| issue.variable).collect();
        assert_eq!(
            named,
            [
                "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
                "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE"
            ]
        );

        for (variables, blamed) in [
            (
                vec![
                    ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &certificate),
                    ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &other_key),
                ],
                "OTEL_EXPORTER_OTLP_CLIENT_KEY",
            ),
            (
                vec![("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &certificate)],
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            ),
            (vec![("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key)], "OTEL_EXPORTER_OTLP_CLIENT_KEY"),
        ] {
            let variables: Vec<_> = variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
            let (config, issues) = resolve(OtlpOptions::default(), &variables);
            assert!(config.unwrap().tls.identity.is_none());
            assert_eq!((issues.len(), issues[0].variable), (1, blamed));
        }
    }
}

#[cfg(feature = "grpc")]
mod grpc {
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
        TraceService, TraceServiceServer,
    };
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
    };
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message;
    use tokio::sync::mpsc;
    use tonic::codec::CompressionEncoding;
    use tonic::transport::Server;
    use tonic::transport::server::TcpIncoming;

    use super::*;
    use crate::export::transport::retry::{Attempts, Backoff, deliver};

    struct TestTraceService(mpsc::UnboundedSender<ArrivedRequest>);

    #[tonic::async_trait]
    impl TraceService for TestTraceService {
        async fn export(
            &self,
            request: tonic::Request<ExportTraceServiceRequest>,
        ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
            let (metadata, _, message) = request.into_parts();
            let headers = metadata.into_headers();
            let span = &message.resource_spans[0].scope_spans[0].spans[0];
            let arrived = ArrivedRequest {
                path: String::new(),
                headers: headers
                    .iter()
                    .map(|(k, v)| (k.to_string(), String::from_utf8_lossy(v.as_bytes()).into()))
                    .collect(),
                body: Vec::new(),
                span: span.name.clone(),
            };
            self.0.send(arrived).unwrap();
            Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
        }
    }

    /// Starts a collector that serves as long as the runtime lives.
    fn serve(
        runtime: &tokio::runtime::Runtime,
        server: Server,
    ) -> (SocketAddr, mpsc::UnboundedReceiver<ArrivedRequest>) {
        let _entered = runtime.enter();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        let service = TraceServiceServer::new(TestTraceService(sender))
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        let mut server = server;
        runtime.spawn(server.add_service(service).serve_with_incoming(incoming));
        (address, receiver)
    }

    fn options(endpoint: String) -> OtlpOptions {
        OtlpOptions {
            protocol: Some(Protocol::Grpc),
            endpoint: Some(endpoint),
            headers: headers(&[("X-Ours", "ours"), ("authorization", "Bearer s3cret")]),
            timeout: Some(Duration::from_secs(5)),
            ..Default::default()
        }
    }

    #[test]
    fn headers_and_compression_arrive() {
        let runtime = runtime();
        let (address, mut receiver) = serve(&runtime, Server::builder());
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let options = OtlpOptions {
                compression: Some(compression),
                ..options(format!("http://{address}"))
            };
            export(resolve(options, &[]).0.unwrap()).unwrap();
            let arrived = receiver.blocking_recv().unwrap();
            assert_eq!(arrived.span, span().name());
            assert_eq!(arrived.header("x-ours"), ["ours"]);
            assert_eq!(arrived.header("authorization"), ["Bearer s3cret"]);
            let encoding = match compression {
                Compression::None => vec![],
                compression => vec![compression.to_string()],
            };
            assert_eq!(arrived.header("grpc-encoding"), encoding);
            assert_user_agent(&arrived);
        }
    }

    #[test]
    fn the_environment_is_read_by_this_crate_only() {
        in_environment("grpc::in_a_hostile_environment", HOSTILE);
        let gzip = if cfg!(feature = "gzip") { " GZIP" } else { "none" };
        in_environment(
            "grpc::in_a_friendly_environment",
            &[
                ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "s3cret"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "x-env=a%2Cb,X-Ours=theirs,user-agent=mine"),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", gzip),
            ],
        );
    }

    #[test]
    #[ignore = "run by `the_environment_is_read_by_this_crate_only`, in an environment of its own"]
    fn in_a_hostile_environment() {
        if !in_own_process() {
            return;
        }
        let runtime = runtime();
        let (address, mut receiver) = serve(&runtime, Server::builder());
        let options = options(format!("http://{address}"));
        // Resolved from an empty environment: a value from the process's environment is a leak.
        export(resolve(options, &[]).0.unwrap()).unwrap();
        let arrived = receiver.blocking_recv().unwrap();
        assert_eq!(arrived.header("x-ours"), ["ours"]);
        assert_eq!(arrived.header("x-theirs"), [""; 0]);
        assert_eq!(arrived.header("content-type"), ["application/grpc"]);
        assert_eq!(arrived.header("grpc-encoding"), [""; 0]);
    }

    #[test]
    #[ignore = "run by `the_environment_is_read_by_this_crate_only`, in an environment of its own"]
    fn in_a_friendly_environment() {
        if !in_own_process() {
            return;
        }
        let runtime = runtime();
        let (address, mut receiver) = serve(&runtime, Server::builder());
        let mut environment = Environment::read();
        assert_eq!(environment.issues.len(), 1, "{:?}", environment.issues);
        let options = options(format!("http://{address}"));
        export(OtlpConfig::resolve(Signal::Traces, &options, &mut environment, None).unwrap())
            .unwrap();
        let arrived = receiver.blocking_recv().unwrap();
        assert_eq!(arrived.header("x-ours"), ["ours"]);
        assert_eq!(arrived.header("x-env"), ["a,b"]);
        let [agent] = arrived.header("user-agent")[..] else { panic!("{arrived:?}") };
        assert!(agent.starts_with("mine tonic/"), "{agent}");
        let encoding = arrived.header("grpc-encoding");
        assert_eq!(encoding.len(), usize::from(cfg!(feature = "gzip")));
    }

    /// Answers every request with a body of its own making.
    #[derive(Clone)]
    struct Answering(Arc<AtomicUsize>, fn() -> tonic::body::Body);

    impl tonic::server::NamedService for Answering {
        const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
    }

    impl tower_service::Service<http::Request<tonic::body::Body>> for Answering {
        type Response = http::Response<tonic::body::Body>;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<tonic::body::Body>) -> Self::Future {
            self.0.fetch_add(1, Ordering::SeqCst);
            let response = http::Response::builder().header("content-type", "application/grpc");
            std::future::ready(Ok(response.body((self.1)()).unwrap()))
        }
    }

    /// The same frame again and again, then trailers.
    struct Frames(usize, Bytes, HeaderMap);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = tonic::Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, tonic::Status>>> {
            Poll::Ready(match self.0.checked_sub(1) {
                Some(left) => {
                    self.0 = left;
                    Some(Ok(http_body::Frame::data(self.1.clone())))
                }
                None if self.2.is_empty() => None,
                None => Some(Ok(http_body::Frame::trailers(std::mem::take(&mut self.2)))),
            })
        }
    }

    /// Exports to a server that answers with this body. Returns the error, and how many requests there were.
    fn export_to(answer: fn() -> tonic::body::Body) -> (String, usize) {
        let runtime = runtime();
        let requests = Arc::new(AtomicUsize::new(0));
        let address = {
            let _entered = runtime.enter();
            let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = incoming.local_addr().unwrap();
            let service = Answering(requests.clone(), answer);
            runtime.spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
            address
        };
        let timeout = Some(Duration::from_secs(2));
        let options = OtlpOptions { timeout, ..options(format!("http://{address}")) };
        let error = export(resolve(options, &[]).0.unwrap()).unwrap_err();
        (error, requests.load(Ordering::SeqCst))
    }

    #[test]
    fn a_message_that_is_too_long_is_not_read_and_the_request_not_repeated() {
        let (error, requests) = export_to(|| {
            let mut message = vec![0]; // not compressed
            message.extend(u32::to_be_bytes(5 << 20));
            message.resize(5 + (5 << 20), 0);
            tonic::body::Body::new(Frames(1, message.into(), HeaderMap::new()))
        });
        assert!(error.contains("too large") && error.contains("4194304"), "{error}");
        assert_eq!(requests, 1);
    }

    #[test]
    fn messages_without_an_end_are_not_read_and_the_request_not_repeated() {
        let (error, requests) = export_to(|| {
            let mut message = vec![0]; // not compressed
            message.extend(u32::to_be_bytes(1 << 16));
            message.resize(5 + (1 << 16), 0);
            tonic::body::Body::new(Frames(usize::MAX, message.into(), HeaderMap::new()))
        });
        assert!(error.contains("longer than 4194304 bytes"), "{error}");
        assert_eq!(requests, 1);
    }

    #[test]
    fn trailers_that_are_too_long_are_an_error() {
        let (error, _) = export_to(|| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            for at in 0..64 {
                let name = HeaderName::from_str(&format!("x-{at}")).unwrap();
                trailers.insert(name, HeaderValue::from_str(&"x".repeat(4000)).unwrap());
            }
            tonic::body::Body::new(Frames(1, Bytes::from_static(&[0; 5]), trailers))
        });
        assert!(!error.contains("in time"), "{error}");
    }

    /// A proxy that connects every tunnel to `target`. Returns its address and the heads of requests.
    fn tunnel(target: SocketAddr) -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
        use std::io::{BufRead, BufReader, Write};
        use std::net::{TcpListener, TcpStream};

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut reader = BufReader::new(client.try_clone().unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                let mut server = TcpStream::connect(target).unwrap();
                let mut from_server = server.try_clone().unwrap();
                std::thread::spawn(move || std::io::copy(&mut from_server, &mut client));
                std::thread::spawn(move || std::io::copy(&mut reader, &mut server));
                if sender.send(head).is_err() {
                    return;
                }
            }
        });
        (address, receiver)
    }

    #[test]
    fn requests_go_through_the_proxy_of_the_environment() {
        let runtime = runtime();
        let (address, mut receiver) = serve(&runtime, Server::builder());
        let (proxy, heads) = tunnel(address);
        for (endpoint, target) in
            [("collector:4317", "collector:4317"), ("collector", "collector:80")]
        {
            let options = options(format!("http://{endpoint}"));
            let variable = format!("http://Aladdin:opensesame@{proxy}");
            export(resolve(options, &[("HTTP_PROXY", &variable)]).0.unwrap()).unwrap();
            receiver.blocking_recv().unwrap();
            let head = heads.recv().unwrap();
            assert!(head.starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")), "{head}");
            let credentials = "proxy-authorization: basic qwxhzgrpbjpvcgvuc2vzyw1l\r\n";
            assert!(head.to_lowercase().contains(credentials), "{head}");
        }
    }

    #[test]
    fn a_channel_that_has_died_is_made_anew() {
        let runtime = runtime();
        let (address, mut receiver) = serve(&runtime, Server::builder());
        let config = resolve(options(format!("http://{address}")), &[]).0.unwrap();
        let _entered = runtime.enter();
        let mut transport = config.grpc().unwrap();
        let mut attempts = Attempts::default();
        let scope_spans = ScopeSpans { spans: vec![Span::default()], ..Default::default() };
        let resource_spans = ResourceSpans { scope_spans: vec![scope_spans], ..Default::default() };
        let request =
            ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec();
        for round in 0..3 {
            let result = runtime.block_on(async {
                let request = vec![request.clone().into()];
                let timeout = Duration::from_secs(5);
                deliver(&mut transport, request, Backoff::default(), timeout, &mut attempts).await
            });
            result.unwrap();
            receiver.blocking_recv().unwrap();
            assert_eq!(attempts.reconnected, round);
            transport.kill();
        }
    }

    #[test]
    fn no_timeout_is_too_long() {
        let runtime = runtime();
        let (address, mut receiver) = serve(&runtime, Server::builder());
        let timeout = Some(Duration::MAX);
        let options = OtlpOptions { timeout, ..options(format!("http://{address}")) };
        export(resolve(options, &[]).0.unwrap()).unwrap();
        receiver.blocking_recv().unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_server_that_is_not_there_is_an_error() {
        let socket = std::env::temp_dir().join(format!("nobody-{}", std::process::id()));
        let options = options(format!("unix://{}", socket.display()));
        let error = export(resolve(options, &[]).0.unwrap()).unwrap_err();
        assert!(error.contains("No such file"), "{error}");
    }

    #[cfg(feature = "tls")]
    mod tls {
        use tonic::transport::{Certificate, Identity, ServerTlsConfig};

        use super::super::certificates::Authority;
        use super::*;

        fn bytes(pem: &str) -> Option<Pem> {
            Some(Pem(pem.as_bytes().to_vec()))
        }

        #[test]
        fn the_given_authority_is_trusted_and_the_client_known() {
            let runtime = runtime();
            let (authority, stranger) = (Authority::new(), Authority::new());
            let (server, client) = (authority.issue(), authority.issue());
            let tls = ServerTlsConfig::new()
                .identity(Identity::from_pem(&server.pem, &server.key))
                .client_ca_root(Certificate::from_pem(&authority.pem));
            let builder = Server::builder().tls_config(tls).unwrap();
            let (address, mut receiver) = serve(&runtime, builder);

            let known = OtlpOptions {
                tls: TlsOptions {
                    ca_certificate: bytes(&authority.pem),
                    client_certificate: bytes(&client.pem),
                    client_key: bytes(&client.key),
                },
                ..options(format!("https://localhost:{}", address.port()))
            };
            // Without a scheme the endpoint is `https` too.
            let bare = OtlpOptions { endpoint: Some(address.to_string()), ..known.clone() };
            for options in [known.clone(), bare] {
                export(resolve(options, &[]).0.unwrap()).unwrap();
                let arrived = receiver.blocking_recv().unwrap();
                assert_eq!(arrived.header("authorization"), ["Bearer s3cret"]);
            }

            let distrusting = OtlpOptions {
                tls: TlsOptions { ca_certificate: bytes(&stranger.pem), ..known.tls.clone() },
                ..known.clone()
            };
            let unknown = OtlpOptions {
                tls: TlsOptions { client_certificate: None, client_key: None, ..known.tls },
                ..known
            };
            for options in [distrusting, unknown] {
                export(resolve(options, &[]).0.unwrap()).unwrap_err();
                assert!(receiver.try_recv().is_err());
            }
        }
    }
}

#[cfg(feature = "_http-client")]
mod http_server {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::mpsc;

    use super::*;

    /// Answers one request of every connection, until the receiver is dropped.
    fn serve<S: Read + Write>(
        answer: String,
        accept: impl Fn(TcpStream) -> S + Send + 'static,
    ) -> (SocketAddr, mpsc::Receiver<ArrivedRequest>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = accept(stream.unwrap());
                // A handshake that fails is not a request.
                let Ok(arrived) = read(&mut stream) else { continue };
                let _ = write!(
                    stream,
                    "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.flush();
                if sender.send(arrived).is_err() {
                    return;
                }
            }
        });
        (address, receiver)
    }

    fn read(stream: impl Read) -> std::io::Result<ArrivedRequest> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).ok_or(std::io::ErrorKind::InvalidData)?.to_owned();
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut arrived = ArrivedRequest { path, headers, body: Vec::new(), span: String::new() };
        let length = arrived.header("content-length")[0].parse().unwrap();
        arrived.body = vec![0; length];
        reader.read_exact(&mut arrived.body)?;
        arrived.span = name_of_span(&arrived);
        Ok(arrived)
    }

    /// Decodes the body as described by its headers, and returns the name of the span.
    fn name_of_span(arrived: &ArrivedRequest) -> String {
        let body = match arrived.header("content-encoding")[..] {
            [] => arrived.body.clone(),
            ["gzip"] => {
                let mut body = Vec::new();
                flate2::read::GzDecoder::new(&arrived.body[..]).read_to_end(&mut body).unwrap();
                body
            }
            ["zstd"] => zstd::decode_all(&arrived.body[..]).unwrap(),
            ref other => panic!("{other:?}"),
        };
        match arrived.header("content-type")[..] {
            ["application/json"] => {
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
                span["name"].as_str().unwrap().to_owned()
            }
            ["application/x-protobuf"] => {
                use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
                use prost::Message;
                let body = ExportTraceServiceRequest::decode(&body[..]).unwrap();
                body.resource_spans[0].scope_spans[0].spans[0].name.clone()
            }
            ref other => panic!("{other:?}"),
        }
    }

    fn protocols() -> impl Iterator<Item = Protocol> {
        [Protocol::HttpProtobuf, Protocol::HttpJson].into_iter()
    }

    fn options(protocol: Protocol, endpoint: String) -> OtlpOptions {
        OtlpOptions {
            protocol: Some(protocol),
            endpoint: Some(endpoint),
            headers: headers(&[("X-Ours", "ours"), ("authorization", "Bearer s3cret")]),
            timeout: Some(Duration::from_secs(5)),
            ..Default::default()
        }
    }

    #[test]
    fn path_headers_and_compression_arrive() {
        let (address, receiver) = serve("200 OK".into(), |stream| stream);
        for protocol in protocols() {
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let options = OtlpOptions {
                    compression: Some(compression),
                    ..options(protocol, format!("http://{address}/base/"))
                };
                export(resolve(options, &[]).0.unwrap()).unwrap();
                let arrived = receiver.recv().unwrap();
                assert_eq!(arrived.path, "/base/v1/traces");
                assert_eq!(arrived.span, span().name());
                assert_eq!(arrived.header("x-ours"), ["ours"]);
                assert_eq!(arrived.header("authorization"), ["Bearer s3cret"]);
                let json = protocol == Protocol::HttpJson;
                let kind = if json { "application/json" } else { "application/x-protobuf" };
                assert_eq!(arrived.header("content-type"), [kind]);
                let encoding = match compression {
                    Compression::None => vec![],
                    compression => vec![compression.to_string()],
                };
                assert_eq!(arrived.header("content-encoding"), encoding);
                assert_user_agent(&arrived);
            }
        }
    }

    #[test]
    fn no_timeout_is_too_long() {
        let (address, receiver) = serve("200 OK".into(), |stream| stream);
        let timeout = Some(Duration::MAX);
        let protocol = protocols().next().unwrap();
        let options = OtlpOptions { timeout, ..options(protocol, format!("http://{address}")) };
        export(resolve(options, &[]).0.unwrap()).unwrap();
        receiver.recv().unwrap();
    }

    /// Answers every request with this head and a body of 64 MiB, and reports how much of it was taken.
    fn serve_long(head: &'static str) -> (SocketAddr, mpsc::Receiver<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if read(&mut stream).is_err() {
                    continue;
                }
                let _ = write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
                let chunk = [b'x'; 1 << 16];
                let chunks = (0..1024).take_while(|_| stream.write_all(&chunk).is_ok()).count();
                if sender.send(chunks << 16).is_err() {
                    return;
                }
            }
        });
        (address, receiver)
    }

    #[test]
    fn of_an_answer_without_an_end_only_the_beginning_is_read() {
        const SUCCESS: &str = "200 OK\r\nContent-Type: application/x-protobuf";
        for protocol in protocols() {
            for (head, requests) in [(SUCCESS, 1), ("500 Oh", 1), ("503 Busy\r\nRetry-After: 1", 2)]
            {
                let (address, taken) = serve_long(head);
                let timeout = Some(Duration::from_millis(2500));
                let options =
                    OtlpOptions { timeout, ..options(protocol, format!("http://{address}")) };
                let error = export(resolve(options, &[]).0.unwrap()).unwrap_err();
                if protocol == Protocol::HttpProtobuf {
                    let status = head.split(' ').next().unwrap();
                    assert!(error.starts_with(status), "{error}");
                    assert_eq!(error.contains("longer than 4194304 bytes"), head == SUCCESS);
                    assert!(error.len() < 1000, "{error}");
                }
                for _ in 0..requests {
                    // With what lies in the buffers of the system.
                    let taken = taken.recv_timeout(Duration::from_secs(20)).unwrap();
                    assert!(taken < 32 << 20, "{protocol} {head}: {taken}");
                }
            }
        }
    }

    #[test]
    fn requests_go_through_the_proxy_of_the_environment() {
        let (proxy, receiver) = serve("200 OK".into(), |stream| stream);
        for protocol in protocols() {
            let options = options(protocol, "http://collector:4318".into());
            let variable = format!("http://Aladdin:opensesame@{proxy}");
            export(resolve(options, &[("HTTP_PROXY", &variable)]).0.unwrap()).unwrap();
            let arrived = receiver.recv().unwrap();
            assert_eq!(arrived.path, "http://collector:4318/v1/traces");
            let credentials = "Basic QWxhZGRpbjpvcGVuc2VzYW1l";
            assert_eq!(arrived.header("proxy-authorization"), [credentials]);
        }
    }

    /// Answers every connection with this head and body.
    fn serve_body(kind: &'static str, body: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = read(&mut stream);
                let length = body.len();
                let head = format!("HTTP/1.1 200 OK\r\n{kind}Content-Length: {length}\r\n\r\n");
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(body.as_bytes());
            }
        });
        address
    }

    #[test]
    fn a_success_by_something_else_than_a_collector_is_a_failure() {
        const PAGE: &str = "<!DOCTYPE html><title>Sign in</title>";
        for protocol in protocols() {
            for (kind, body, is_taken) in [
                ("Content-Type: text/html; charset=utf-8\r\n", PAGE, false),
                ("Content-Type: text/plain\r\n", "hello", false),
                ("", PAGE, false),
                ("Content-Type: text/html\r\n", "", true),
                ("Content-Type: Application/JSON; charset=utf-8\r\n", "{}", true),
                ("Content-Type: application/x-protobuf\r\n", "\x0a\0", true),
                ("", "{}", true),
            ] {
                let options = options(protocol, format!("http://{}", serve_body(kind, body)));
                let result = export(resolve(options, &[]).0.unwrap());
                assert_eq!(result.is_ok(), is_taken, "{protocol} {kind} {body}: {result:?}");
                if protocol == Protocol::HttpProtobuf && body == PAGE {
                    assert!(result.unwrap_err().contains("login page"));
                }
            }
        }
    }

    #[test]
    fn credentials_do_not_follow_a_redirect() {
        let (elsewhere, other) = serve("200 OK".into(), |stream| stream);
        let answer = format!("307 Temporary Redirect\r\nLocation: http://{elsewhere}/v1/traces");
        let (address, receiver) = serve(answer, |stream| stream);
        let options = options(protocols().next().unwrap(), format!("http://{address}"));
        let error = export(resolve(options, &[]).0.unwrap()).unwrap_err();
        assert!(error.contains("307"), "{error}");
        assert_eq!(receiver.recv().unwrap().header("x-ours"), ["ours"]);
        assert!(other.try_recv().is_err());
    }

    #[test]
    fn the_environment_is_read_by_this_crate_only() {
        in_environment("http_server::in_a_hostile_environment", HOSTILE);
        let gzip = if cfg!(feature = "gzip") { " GZIP" } else { "none" };
        in_environment(
            "http_server::in_a_friendly_environment",
            &[
                ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "s3cret"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "x-env=a%2Cb,X-Ours=theirs,user-agent=mine"),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", gzip),
            ],
        );
    }

    #[test]
    #[ignore = "run by `the_environment_is_read_by_this_crate_only`, in an environment of its own"]
    fn in_a_hostile_environment() {
        if !in_own_process() {
            return;
        }
        let (address, receiver) = serve("200 OK".into(), |stream| stream);
        for protocol in protocols() {
            let options = options(protocol, format!("http://{address}"));
            // Resolved from an empty environment: a value from the process's environment is a leak.
            export(resolve(options, &[]).0.unwrap()).unwrap();
            let arrived = receiver.recv().unwrap();
            assert_eq!(arrived.header("x-ours"), ["ours"]);
            assert_eq!(arrived.header("x-theirs"), [""; 0]);
            assert_eq!(arrived.header("host"), [address.to_string()]);
            assert_eq!(arrived.header("content-encoding"), [""; 0], "{protocol}");
            assert_eq!(arrived.span, span().name());
        }
    }

    #[test]
    #[ignore = "run by `the_environment_is_read_by_this_crate_only`, in an environment of its own"]
    fn in_a_friendly_environment() {
        if !in_own_process() {
            return;
        }
        let (address, receiver) = serve("200 OK".into(), |stream| stream);
        let mut environment = Environment::read();
        assert_eq!(environment.issues.len(), 1, "{:?}", environment.issues);
        let options = options(protocols().next().unwrap(), format!("http://{address}"));
        export(OtlpConfig::resolve(Signal::Traces, &options, &mut environment, None).unwrap())
            .unwrap();
        let arrived = receiver.recv().unwrap();
        assert_eq!(arrived.header("x-ours"), ["ours"]);
        assert_eq!(arrived.header("x-env"), ["a,b"]);
        assert_eq!(arrived.header("user-agent"), ["mine"]);
        let encoding = arrived.header("content-encoding");
        assert_eq!(encoding.len(), usize::from(cfg!(feature = "gzip")));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn the_given_authority_is_trusted_and_the_client_known() {
        use std::sync::Arc;

        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        use rustls::server::WebPkiClientVerifier;

        use super::certificates::Authority;

        fn bytes(pem: &str) -> Option<Pem> {
            Some(Pem(pem.as_bytes().to_vec()))
        }

        let (authority, stranger) = (Authority::new(), Authority::new());
        let (server, client) = (authority.issue(), authority.issue());
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der(&authority.pem)).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![der(&server.pem)],
                PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap(),
            )
            .unwrap();
        let config = Arc::new(config);
        let (address, receiver) = serve("200 OK".into(), move |stream| {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            rustls::StreamOwned::new(connection, stream)
        });

        for protocol in protocols() {
            let known = OtlpOptions {
                tls: TlsOptions {
                    ca_certificate: bytes(&authority.pem),
                    client_certificate: bytes(&client.pem),
                    client_key: bytes(&client.key),
                },
                ..options(protocol, format!("https://localhost:{}", address.port()))
            };
            export(resolve(known.clone(), &[]).0.unwrap()).unwrap();
            let arrived = receiver.recv().unwrap();
            assert_eq!(arrived.header("authorization"), ["Bearer s3cret"]);

            let distrusting = OtlpOptions {
                tls: TlsOptions { ca_certificate: bytes(&stranger.pem), ..known.tls.clone() },
                ..known.clone()
            };
            let unknown = OtlpOptions {
                tls: TlsOptions { client_certificate: None, client_key: None, ..known.tls },
                ..known
            };
            for options in [distrusting, unknown] {
                export(resolve(options, &[]).0.unwrap()).unwrap_err();
                assert!(receiver.try_recv().is_err());
            }
        }
    }
}
