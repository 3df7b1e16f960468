use std::collections::HashMap;

use proptest::prelude::*;

use super::issue::HIDDEN;
use super::*;
use crate::setup::protocol::{Compression, Protocol};

fn read(variables: &[(&str, &str)]) -> Environment {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    Environment::from_lookup(|name| variables.get(name).map(OsString::from))
}

/// Every variable that is read, with a valid value, and a part of what `shown` returns for it.
const VALID: &[(&str, &str, &str)] = &[
    ("OTEL_SDK_DISABLED", " TRUE ", "sdk_disabled: Some(true)"),
    ("OTEL_SDK_DISABLED", "false", "sdk_disabled: Some(false)"),
    ("OTEL_SERVICE_NAME", "chat", "service_name: Some(\"chat\")"),
    (
        "OTEL_RESOURCE_ATTRIBUTES",
        "a=1, b = x%2Cy%20%C3%A4 ,c=,d=e==,,a=2",
        "[b=x,y ä c= d=e== a=2]",
    ),
    ("OTEL_TRACES_EXPORTER", "None", "traces_exporter: Some(None)"),
    ("OTEL_TRACES_SAMPLER", "always_on", "sampler: Some(AlwaysOn)"),
    ("OTEL_TRACES_SAMPLER", "Always_Off", "sampler: Some(AlwaysOff)"),
    ("OTEL_TRACES_SAMPLER", "traceidratio", "sampler: Some(TraceIdRatioBased(1.0))"),
    ("OTEL_TRACES_SAMPLER", "parentbased_always_on", "sampler: Some(ParentBased(AlwaysOn))"),
    ("OTEL_TRACES_SAMPLER", "parentbased_always_off", "sampler: Some(ParentBased(AlwaysOff))"),
    (
        "OTEL_TRACES_SAMPLER",
        "parentbased_traceidratio",
        "sampler: Some(ParentBased(TraceIdRatioBased(1.0)))",
    ),
    ("OTEL_PROPAGATORS", "baggage, TraceContext,baggage", "Some([Baggage, TraceContext])"),
    ("OTEL_PROPAGATORS", "none", "propagators: Some([])"),
    ("OTEL_BSP_SCHEDULE_DELAY", "200", "bsp_schedule_delay: Some(200ms)"),
    ("OTEL_BSP_EXPORT_TIMEOUT", "0", "bsp_export_timeout: Some(0ns)"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "100", "bsp_max_queue_size: Some(100)"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "50", "bsp_max_export_batch_size: Some(50)"),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "0", "span_attribute_count_limit: Some(0)"),
    ("OTEL_ATTRIBUTE_COUNT_LIMIT", "7", "span_attribute_count_limit: Some(7)"),
    ("OTEL_SPAN_EVENT_COUNT_LIMIT", "8", "span_event_count_limit: Some(8)"),
    ("OTEL_SPAN_LINK_COUNT_LIMIT", "9", "span_link_count_limit: Some(9)"),
    ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "10", "event_attribute_count_limit: Some(10)"),
    ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "11", "link_attribute_count_limit: Some(11)"),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "12", "value_length_limit: Some(12)"),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "13", "value_length_limit: Some(13)"),
    ("FEEDBACK_TRACE_FILTER", "a=debug", "trace_filter: Some(\"a=debug\")"),
    ("RUST_LOG", "warn", "rust_log: Some(\"warn\")"),
    #[cfg(feature = "tickets")]
    (TICKET_KEYS, KEY, "ticket_keys: Some(TicketKeys { len: 1, .. })"),
    #[cfg(feature = "outbox")]
    (OUTBOX_DIR, "/var/lib/chat", "outbox_directory: Some(\"/var/lib/chat\")"),
    #[cfg(feature = "outbox")]
    ("FEEDBACK_OUTBOX_POLICY", "write-ahead", "outbox_writes_ahead: Some(true)"),
];

#[cfg(feature = "tickets")]
const KEY: &str = "UjGNnMuuKexd4cZLLhxVsmmmZ-WzgHTBGWHqPO3pXqA";

const MALFORMED: &[(&str, &[&str])] = &[
    ("OTEL_SDK_DISABLED", &["1", "yes"]),
    ("OTEL_RESOURCE_ATTRIBUTES", &["a", "a=1,b", "=1", "a=%", "a=%zz", "a=%ff", "%4=1", ","]),
    ("OTEL_TRACES_EXPORTER", &["zipkin", ","]),
    (
        "OTEL_TRACES_SAMPLER",
        &["xray", "jaeger_remote", "parentbased_jaeger_remote", "x", "parentbased_"],
    ),
    ("OTEL_PROPAGATORS", &["b3", "b3multi", "jaeger", "xray,ottrace", "x", ",", "none,b3"]),
    ("OTEL_BSP_SCHEDULE_DELAY", &["-1", "1.5", "5s"]),
    ("OTEL_BSP_EXPORT_TIMEOUT", &["-1", "x", "99999999999999999999"]),
    ("OTEL_BSP_MAX_QUEUE_SIZE", &["0", "-1", "x"]),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", &["0", "-1", "x"]),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", &["-1", "x"]),
    ("OTEL_ATTRIBUTE_COUNT_LIMIT", &["-1", "4294967296"]),
    ("OTEL_SPAN_EVENT_COUNT_LIMIT", &["-1", "x"]),
    ("OTEL_SPAN_LINK_COUNT_LIMIT", &["-1", "x"]),
    ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", &["-1", "x"]),
    ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", &["-1", "x"]),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", &["-1", "x"]),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", &["-1", "x"]),
    ("FEEDBACK_OUTBOX_POLICY", &["always"]),
];

/// The environment in one line, with resource attributes as `[key=value …]`.
fn shown(environment: &Environment) -> String {
    let attributes: Option<Vec<_>> = environment
        .resource_attributes
        .as_ref()
        .map(|list| list.iter().map(|kv| format!("{}={}", kv.key, kv.value)).collect());
    format!("{environment:?} [{}]", attributes.unwrap_or_default().join(" "))
}

fn nothing() -> String {
    shown(&Environment::default())
}

fn without_issues(mut environment: Environment) -> String {
    environment.issues.clear();
    shown(&environment)
}

#[test]
fn every_valid_value_is_taken() {
    for (variable, value, expected) in VALID {
        let environment = read(&[(variable, value)]);
        assert_eq!(environment.issues, [], "{variable}={value}");
        let shown = shown(&environment);
        assert!(shown.contains(expected), "{variable}={value}: {shown}");
    }
}

#[test]
fn every_malformed_value_leaves_an_issue_and_nothing_else() {
    for (variable, values) in MALFORMED {
        for value in *values {
            let environment = read(&[(variable, value)]);
            let [issue] = environment.issues.as_slice() else {
                panic!("{variable}={value}: {:?}", environment.issues)
            };
            assert_eq!((issue.variable, issue.value.as_str()), (*variable, *value));
            assert!(issue.to_string().starts_with(&format!("{variable}={value:?}: ")));
            assert_eq!(without_issues(environment), nothing(), "{variable}={value}");
        }
    }
}

#[test]
fn an_empty_value_is_none() {
    for (variable, ..) in VALID {
        for empty in ["", " ", "\t"] {
            assert_eq!(shown(&read(&[(variable, empty)])), nothing(), "{variable}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_unicode_leaves_an_issue() {
    use std::os::unix::ffi::OsStringExt;

    for (variable, ..) in VALID {
        let environment = Environment::from_lookup(|name| {
            (name == *variable).then(|| OsString::from_vec(vec![b'a', 0xff]))
        });
        assert_eq!(environment.issues.len(), 1, "{variable}");
        assert_eq!(environment.issues[0].variable, *variable);
        assert!(environment.issues[0].reason.contains("Unicode"));
        assert_eq!(without_issues(environment), nothing(), "{variable}");
    }
}

#[test]
fn the_variable_of_the_span_wins_unless_it_is_malformed() {
    for (span, general) in [
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
    ] {
        let limit = |environment: &Environment| {
            environment.span_attribute_count_limit.or(environment.attribute_value_length_limit)
        };
        let environment = read(&[(span, "1"), (general, "2")]);
        assert_eq!((limit(&environment), environment.issues.len()), (Some(1), 0));
        let environment = read(&[(span, "x"), (general, "2")]);
        assert_eq!((limit(&environment), environment.issues.len()), (Some(2), 1));
        let environment = read(&[(span, "x"), (general, "x")]);
        assert_eq!((limit(&environment), environment.issues.len()), (None, 2));
    }
}

#[test]
fn the_argument_of_the_sampler() {
    for (argument, ratio, issues) in
        [("0.25", "0.25", 0), (" 0 ", "0.0", 0), ("1", "1.0", 0), ("1.1", "1.0", 1)]
            .into_iter()
            .chain([("-0.1", "1.0", 1), ("NaN", "1.0", 1), ("x", "1.0", 1)])
    {
        let environment = read(&[
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", argument),
        ]);
        let sampler = format!("{:?}", environment.sampler.unwrap());
        assert_eq!(sampler, format!("ParentBased(TraceIdRatioBased({ratio}))"));
        assert_eq!(environment.issues.len(), issues, "{argument}");
    }
    // A sampler without an argument ignores the variable.
    let environment =
        read(&[("OTEL_TRACES_SAMPLER", "always_on"), ("OTEL_TRACES_SAMPLER_ARG", "x")]);
    assert_eq!(environment.issues, []);
}

#[test]
fn of_a_list_what_is_supported_is_kept() {
    let environment = read(&[("OTEL_PROPAGATORS", "b3, baggage")]);
    assert_eq!(environment.propagators, Some(vec![Propagator::Baggage]));
    assert!(environment.issues[0].reason.contains("`b3` isn't supported"));
    let environment = read(&[("OTEL_PROPAGATORS", "none,baggage")]);
    assert_eq!(environment.propagators, Some(vec![Propagator::Baggage]));
    assert_eq!(environment.issues.len(), 1);

    let environment = read(&[("OTEL_TRACES_EXPORTER", "zipkin,none")]);
    assert_eq!(environment.traces_exporter, Some(TracesExporter::None));
    assert!(environment.issues[0].reason.contains("zipkin"), "{}", environment.issues[0]);
    let environment = read(&[("OTEL_TRACES_EXPORTER", "none,none")]);
    assert_eq!((environment.issues.len(), environment.traces_exporter.is_some()), (0, true));
}

#[test]
fn an_exporter_that_is_not_built_in_names_its_feature() {
    let any = cfg!(feature = "_otlp");
    for (name, exporter, on, feature) in [
        ("otlp", TracesExporter::Otlp, any, "`grpc`"),
        ("console", TracesExporter::Console, cfg!(feature = "console"), "`console`"),
    ] {
        let environment = read(&[("OTEL_TRACES_EXPORTER", name)]);
        assert_eq!(environment.traces_exporter, on.then_some(exporter));
        assert_eq!(environment.issues.is_empty(), on);
        assert!(environment.issues.iter().all(|issue| issue.reason.contains(feature)));
        if on {
            let environment = read(&[("OTEL_TRACES_EXPORTER", &format!("{name},none"))]);
            assert_eq!(environment.traces_exporter, Some(exporter));
            assert!(environment.issues[0].reason.contains("only one exporter"));
        }
    }
}

#[test]
fn a_batch_larger_than_the_queue_is_passed_over() {
    let sizes = |batch, queue| {
        let environment =
            read(&[("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", batch), ("OTEL_BSP_MAX_QUEUE_SIZE", queue)]);
        (environment.bsp_max_export_batch_size, environment.issues.len())
    };
    assert_eq!(sizes("10", "10"), (Some(10), 0));
    assert_eq!(sizes("11", "10"), (None, 1));
}

#[test]
fn endpoints_are_shown_without_secrets() {
    for (endpoint, shown) in [
        ("http://host:1/path", "http://host:1/path"),
        ("http://user:secret@host:1/path", "http://[hidden]@host:1/path"),
        ("http://user:sec/r?et@host", "http://[hidden]@host"),
        ("user:secret@host", "[hidden]@host"),
        ("http://host/path?token=secret", "http://host/path?[hidden]"),
        ("http://user:secret@host?token=secret", "http://[hidden]@host?[hidden]"),
        ("http://host?a=secret@b", "http://[hidden]@b"),
    ] {
        assert_eq!(redact_endpoint(endpoint), shown);
    }
}

#[test]
fn ticket_keys_never_appear_in_issues() {
    for keys in ["s3cret", "s3cret!", "c3IzY3JldA", "AAAA,s3cret", ","] {
        let environment = read(&[(TICKET_KEYS, keys)]);
        let [issue] = environment.issues.as_slice() else { panic!("{:?}", environment.issues) };
        assert_eq!((issue.variable, issue.value.as_str()), (TICKET_KEYS, HIDDEN));
        assert!(!format!("{environment:?}{issue}").contains("cret"), "{environment:?}");
        let remedy = if cfg!(feature = "tickets") { "32 random bytes" } else { "`tickets`" };
        assert!(issue.reason.contains(remedy), "{issue}");
        assert_eq!(without_issues(environment), nothing());
    }
}

#[cfg(feature = "tickets")]
#[test]
fn of_ticket_keys_with_a_bad_one_none_counts() {
    let environment = read(&[(TICKET_KEYS, &format!("{KEY},AAAA"))]);
    assert!(environment.ticket_keys.is_none());
    assert!(environment.issues[0].reason.contains("key 2 has 3 bytes"));
    // Valid keys don't appear in the debug text of the environment either.
    let environment = read(&[(TICKET_KEYS, &format!("{KEY},{KEY}"))]);
    assert!(!format!("{environment:?}").contains(KEY), "{environment:?}");
}

#[test]
fn long_values_are_shortened() {
    let issue = EnvironmentIssue::new("OTEL_TRACES_SAMPLER", &"ä".repeat(1000), "is long");
    assert_eq!(issue.value.chars().count(), 201);
}

#[cfg(feature = "_otlp")]
mod otlp {
    use super::*;
    use crate::otlp::Signal;

    /// As [`read`], with what is for this signal.
    fn read_for(signal: Signal, variables: &[(&str, &str)]) -> Environment {
        let mut environment = read(variables);
        let (of_logs, issues) = std::mem::take(&mut environment.otlp_logs);
        match signal {
            Signal::Traces => environment,
            Signal::Logs => Environment { otlp: of_logs, issues, ..environment },
        }
    }

    #[test]
    fn the_variable_of_the_signal_wins_unless_it_is_malformed() {
        let protocol = Protocol::default().to_string();
        let settings = [
            ("PROTOCOL", protocol.as_str(), "http"),
            ("HEADERS", "a=1", "a"),
            ("TIMEOUT", "15", "0"),
            ("TIMEOUT", "15", "1s"),
            ("COMPRESSION", "none", "brotli"),
            ("INSECURE", "TRUE", "yes"),
        ];
        let signals = [(Signal::Traces, "TRACES"), (Signal::Logs, "LOGS")];
        for ((suffix, good, bad), (signal, name)) in
            settings.into_iter().flat_map(|setting| signals.map(|signal| (setting, signal)))
        {
            let read = |variables: &[(&str, &str)]| read_for(signal, variables);
            let of_signal = format!("OTEL_EXPORTER_OTLP_{name}_{suffix}");
            let general = format!("OTEL_EXPORTER_OTLP_{suffix}");
            let expected = shown(&read(&[(&of_signal, good)]));
            assert!(suffix == "COMPRESSION" || expected != nothing(), "{suffix}");
            assert!(expected.contains("issues: []"), "{expected}");
            assert_eq!(shown(&read(&[(&general, good)])), expected);
            assert_eq!(shown(&read(&[(&of_signal, good), (&general, bad)])), expected);
            assert_eq!(shown(&read(&[(&of_signal, " "), (&general, good)])), expected);

            let environment = read(&[(&of_signal, bad), (&general, good)]);
            assert_eq!(environment.issues.len(), 1);
            assert_eq!(environment.issues[0].variable, of_signal);
            assert_eq!(without_issues(environment), expected);

            let environment = read(&[(&of_signal, bad), (&general, bad)]);
            assert_eq!(environment.issues.len(), 2);
            assert_eq!(without_issues(environment), nothing());
        }
    }

    #[test]
    fn what_is_not_built_in_names_its_feature() {
        for (variable, value, on, feature) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "gRPC", cfg!(feature = "grpc"), "`grpc`"),
            (
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                " http/protobuf",
                cfg!(feature = "http-proto"),
                "`http-proto`",
            ),
            (
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "http/json",
                cfg!(feature = "http-json"),
                "`http-json`",
            ),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", cfg!(feature = "gzip"), "`gzip`"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", " ZSTD", cfg!(feature = "zstd"), "`zstd`"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/a", cfg!(feature = "tls"), "`tls`"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/a", cfg!(feature = "tls"), "`tls`"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/a", cfg!(feature = "tls"), "`tls`"),
        ] {
            let environment = read(&[(variable, value)]);
            assert_eq!(environment.issues.is_empty(), on, "{variable}={value}");
            assert!(environment.issues.iter().all(|issue| issue.reason.contains(feature)));
            assert_eq!(without_issues(environment) != nothing(), on);
        }
    }

    #[test]
    fn no_compression_for_the_signal_stands_against_one_in_general() {
        let compression = |signal| {
            let environment = read(&[
                ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", signal),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ]);
            environment.otlp.compression
        };
        assert_eq!(compression("None"), Some(Compression::None));
        assert_eq!(compression(" none "), Some(Compression::None));
    }

    #[test]
    fn endpoints_and_files_are_candidates_in_order() {
        let environment = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b"),
        ]);
        let values: Vec<_> =
            environment.otlp.endpoint.iter().map(|c| (c.value.as_str(), c.is_of_signal)).collect();
        assert_eq!(values, [("http://b", true), ("http://a", false)]);
    }

    #[test]
    fn headers_are_decoded() {
        let environment = read(&[(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "Authorization=Basic%20YQ==, x-tenant = a%2Cb ,,X-Empty=,x-tenant=c",
        )]);
        assert_eq!(environment.issues, []);
        let expected = [("authorization", "Basic YQ=="), ("x-empty", ""), ("x-tenant", "c")];
        let expected: Vec<_> =
            expected.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        assert_eq!(environment.otlp.headers.0, expected);
    }

    #[test]
    fn a_bad_header_costs_the_others_nothing() {
        let environment = read(&[(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "x-share=50%,b c=1,authorization=Bearer%20key,content-type=text/plain,x-bad=%ff,d",
        )]);
        let expected = [("x-share", "50%"), ("authorization", "Bearer key")];
        let expected: Vec<_> =
            expected.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        assert_eq!(environment.otlp.headers.0, expected);
        let reasons: Vec<_> = environment.issues.iter().map(|it| it.reason.as_str()).collect();
        assert_eq!(reasons.len(), 5, "{reasons:?}");
        assert!(reasons[0].contains("entry 1") && reasons[0].contains("%25"), "{reasons:?}");
        for (reason, entry) in reasons[1..].iter().zip([2, 4, 5, 6]) {
            assert!(reason.starts_with(&format!("entry {entry} ")), "{reasons:?}");
        }
    }

    #[test]
    fn headers_never_appear_in_issues() {
        for headers in [
            "s3cret",
            "x=1,s3cret",
            "=s3cret",
            "x=s3cret%zz",
            "x=s3cret%ff",
            "x=s3cret%0A",
            "x=s3cret%C3%A4",
            "s3 cret=1",
            "content-type=s3cret",
            "grpc-timeout=s3cret",
            "=s3cret,a=1",
        ] {
            for variable in ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"] {
                let environment = read(&[(variable, headers)]);
                assert_eq!(environment.issues.len(), 1, "{headers}");
                assert_eq!(environment.issues[0].variable, variable);
                assert!(!format!("{environment:?}").contains("cret"), "{environment:?}");
                assert!(!environment.issues[0].to_string().contains("cret"));
            }
        }
        // Valid headers don't appear in the debug text of the environment either.
        let environment = read(&[("OTEL_EXPORTER_OTLP_HEADERS", "x=s3cret")]);
        assert!(!format!("{environment:?}").contains("s3cret"));
    }
}

fn variables() -> Vec<&'static str> {
    let mut variables: Vec<_> = VALID.iter().map(|(variable, ..)| *variable).collect();
    variables.push("OTEL_TRACES_SAMPLER_ARG");
    #[cfg(feature = "_otlp")]
    variables.extend([
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_TRACES_INSECURE",
        "OTEL_EXPORTER_OTLP_INSECURE",
    ]);
    variables
}

/// Reads the variables and, with an exporter, resolves its configuration.
fn read_and_resolve(variables: &[(&str, &str)]) -> Environment {
    let environment = read(variables);
    #[cfg(feature = "_otlp")]
    let environment = {
        use crate::setup::otlp::{OtlpConfig, OtlpOptions};
        let mut environment = environment;
        // A wrong variable is an issue, never an error.
        OtlpConfig::resolve(Signal::Traces, &OtlpOptions::default(), &mut environment, None)
            .unwrap();
        environment
    };
    environment
}

/// Values that are almost valid, and arbitrary ones.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z=,%0-9A-F ;@:/?.]{0,24}",
        "(otlp|none|console|always_on|traceidratio|tracecontext|b3|gzip|grpc|true)[ ,]?",
        "-?[0-9]{1,22}(\\.[0-9]{1,3})?",
        "(https?|unix|ftp)://[a-z\\[\\]:@.]{0,8}(:[0-9]{0,6})?(/[a-z?#]{0,4})?",
    ]
}

proptest! {
    #[test]
    fn any_value_is_taken_or_leaves_an_issue(value in value()) {
        for variable in variables() {
            let environment = read_and_resolve(&[(variable, &value)]);
            let taken = shown(&environment) != nothing();
            let unset = value.trim().is_empty()
                // Without a sampler its argument is not read.
                || variable == "OTEL_TRACES_SAMPLER_ARG";
            prop_assert_eq!(taken, !unset, "{}={:?}", variable, value);
            prop_assert!(environment.issues.iter().all(|issue| issue.variable == variable));
        }
    }

    #[test]
    fn any_environment_is_read(values in proptest::collection::vec(value(), 60)) {
        let pairs: Vec<_> =
            variables().into_iter().zip(values.iter().map(String::as_str)).collect();
        let environment = read_and_resolve(&pairs);
        prop_assert!(environment.issues.iter().all(|issue| !issue.to_string().is_empty()));
    }
}
