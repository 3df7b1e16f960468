//! The environment: the variables of the OpenTelemetry specification, and five of our own.
//!
//! Reading never fails. What is malformed, unsupported or not Unicode is passed over, so that the
//! next in precedence counts (the general variable after the one of the signal, then the
//! default), and leaves an [`EnvIssue`]. An empty value is the same as none, as the specification
//! asks. Nothing here touches the process environment but [`Environment::read`].
//!
//! What can only be judged together with what the code says (endpoints, for which the protocol
//! matters, and certificate files) is kept as candidates; `otlp` judges them and adds its
//! issues to ours.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::Sampler;

#[cfg(feature = "_otlp")]
use crate::setup::protocol::{Compression, Protocol};
use crate::ticket::TicketKeys;

/// What the environment says. `None` where it says nothing usable.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// `OTEL_SDK_DISABLED`.
    pub(crate) sdk_disabled: Option<bool>,
    /// `OTEL_SERVICE_NAME`; wins over `service.name` in `resource_attributes`.
    pub(crate) service_name: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES`, percent-decoded; of a key given twice the last counts.
    pub(crate) resource_attributes: Option<Vec<KeyValue>>,
    /// `OTEL_TRACES_EXPORTER`.
    pub(crate) traces_exporter: Option<TracesExporter>,
    /// `OTEL_TRACES_SAMPLER` with `OTEL_TRACES_SAMPLER_ARG`.
    pub(crate) sampler: Option<Sampler>,
    /// `OTEL_PROPAGATORS`; empty for `none`.
    pub(crate) propagators: Option<Vec<Propagator>>,
    /// `OTEL_BSP_SCHEDULE_DELAY`.
    pub(crate) bsp_schedule_delay: Option<Duration>,
    /// `OTEL_BSP_EXPORT_TIMEOUT`.
    pub(crate) bsp_export_timeout: Option<Duration>,
    /// `OTEL_BSP_MAX_QUEUE_SIZE`, never zero.
    pub(crate) bsp_max_queue_size: Option<usize>,
    /// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, never zero and never more than `bsp_max_queue_size`
    /// where that is set.
    pub(crate) bsp_max_export_batch_size: Option<usize>,
    /// `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`, or `OTEL_ATTRIBUTE_COUNT_LIMIT`.
    pub(crate) span_attribute_count_limit: Option<u32>,
    /// `OTEL_SPAN_EVENT_COUNT_LIMIT`.
    pub(crate) span_event_count_limit: Option<u32>,
    /// `OTEL_SPAN_LINK_COUNT_LIMIT`.
    pub(crate) span_link_count_limit: Option<u32>,
    /// `OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT`.
    pub(crate) event_attribute_count_limit: Option<u32>,
    /// `OTEL_LINK_ATTRIBUTE_COUNT_LIMIT`.
    pub(crate) link_attribute_count_limit: Option<u32>,
    /// `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`, or `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`.
    pub(crate) attribute_value_length_limit: Option<u32>,
    /// `OTEL_EXPORTER_OTLP_*`.
    #[cfg(feature = "_otlp")]
    pub(crate) otlp: OtlpVariables,
    /// `FEEDBACK_TRACE_FILTER`.
    pub(crate) trace_filter: Option<String>,
    /// `RUST_LOG`.
    pub(crate) rust_log: Option<String>,
    /// `FEEDBACK_TICKET_KEYS`.
    pub(crate) ticket_keys: Option<TicketKeys>,
    /// `FEEDBACK_OUTBOX_DIR`.
    pub(crate) outbox_directory: Option<String>,
    /// `FEEDBACK_OUTBOX_POLICY`: whether it is `write_ahead`.
    pub(crate) outbox_writes_ahead: Option<bool>,
    /// What was passed over, and why.
    pub(crate) issues: Vec<EnvIssue>,
}

/// What `OTEL_TRACES_EXPORTER` can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TracesExporter {
    Otlp,
    Console,
    None,
}

/// What `OTEL_PROPAGATORS` can list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagator {
    TraceContext,
    Baggage,
}

/// A variable whose value was passed over, wholly or in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvIssue {
    pub(crate) variable: &'static str,
    /// What was there, shortened; never headers or keys, and no credentials of an endpoint.
    pub(crate) value: String,
    /// What is wrong, and what would be right.
    pub(crate) reason: String,
}

impl EnvIssue {
    /// The one way to make an issue, so that no secret can slip past.
    pub(crate) fn new(variable: &'static str, value: &str, reason: impl Into<String>) -> Self {
        let value = if variable.ends_with("_HEADERS") || variable == TICKET_KEYS {
            HIDDEN.to_owned()
        } else if variable.ends_with("_ENDPOINT") {
            shorten(&redact_endpoint(value))
        } else {
            shorten(value)
        };
        Self { variable, value, reason: reason.into() }
    }
}

impl fmt::Display for EnvIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}: {}", self.variable, self.value, self.reason)
    }
}

const HIDDEN: &str = "[hidden]";

const TICKET_KEYS: &str = "FEEDBACK_TICKET_KEYS";
pub(crate) const OUTBOX_DIR: &str = "FEEDBACK_OUTBOX_DIR";

fn shorten(value: &str) -> String {
    const LONGEST: usize = 200;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// An endpoint without what may be a secret: credentials before the host, and the query.
pub(crate) fn redact_endpoint(endpoint: &str) -> String {
    let (endpoint, query) = match endpoint.split_once('?') {
        // An `@` further on means that the `?` was part of malformed credentials.
        Some((before, after)) if !after.contains('@') => (before, Some(HIDDEN)),
        _ => (endpoint, None),
    };
    let mut shown = match endpoint.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            let separator = if scheme.is_empty() { "" } else { "://" };
            format!("{scheme}{separator}{HIDDEN}@{host}")
        }
        None => endpoint.to_owned(),
    };
    if let Some(query) = query {
        shown.push('?');
        shown.push_str(query);
    }
    shown
}

/// Headers in the order given, names in lower case. Values are secrets: `Debug` hides them.
#[cfg(feature = "_otlp")]
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(pub(crate) Vec<(String, String)>);

#[cfg(feature = "_otlp")]
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| (name, HIDDEN))).finish()
    }
}

/// A value that is judged later, and the variable it came from.
#[cfg(feature = "_otlp")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) variable: &'static str,
    pub(crate) value: String,
    /// Whether the variable is the one of the signal (`…_TRACES_…`).
    pub(crate) of_signal: bool,
}

#[cfg(feature = "_otlp")]
impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}", self.variable, redact_endpoint(&self.value))
    }
}

/// `OTEL_EXPORTER_OTLP_*`. Of two variables the one of the signal has counted if it was usable;
/// candidates are in order of precedence.
#[cfg(feature = "_otlp")]
#[derive(Debug, Default)] // certificates are only read to be used
pub(crate) struct OtlpVariables {
    pub(crate) protocol: Option<Protocol>,
    pub(crate) endpoint: Vec<Candidate>,
    pub(crate) headers: Headers,
    pub(crate) timeout: Option<Duration>,
    /// `None` is also what `none` says.
    pub(crate) compression: Option<Compression>,
    pub(crate) certificate: Vec<Candidate>,
    pub(crate) client_key: Vec<Candidate>,
    pub(crate) client_certificate: Vec<Candidate>,
    pub(crate) insecure: Option<bool>,
}

impl Environment {
    /// Reads the environment of the process.
    pub(crate) fn read() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// Reads what `lookup` knows.
    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let mut reader = Reader { lookup, issues: Vec::new() };
        let mut environment = Self {
            sdk_disabled: reader.parse("OTEL_SDK_DISABLED", boolean),
            service_name: reader.text("OTEL_SERVICE_NAME"),
            resource_attributes: reader.parse("OTEL_RESOURCE_ATTRIBUTES", resource_attributes),
            traces_exporter: reader.traces_exporter(),
            sampler: reader.sampler(),
            propagators: reader.propagators(),
            bsp_schedule_delay: reader.parse("OTEL_BSP_SCHEDULE_DELAY", milliseconds),
            bsp_export_timeout: reader.parse("OTEL_BSP_EXPORT_TIMEOUT", milliseconds),
            bsp_max_queue_size: reader.parse("OTEL_BSP_MAX_QUEUE_SIZE", size),
            bsp_max_export_batch_size: reader.parse("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", size),
            span_attribute_count_limit: reader
                .first(["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"], count),
            span_event_count_limit: reader.parse("OTEL_SPAN_EVENT_COUNT_LIMIT", count),
            span_link_count_limit: reader.parse("OTEL_SPAN_LINK_COUNT_LIMIT", count),
            event_attribute_count_limit: reader.parse("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", count),
            link_attribute_count_limit: reader.parse("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", count),
            attribute_value_length_limit: reader.first(
                ["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"],
                count,
            ),
            #[cfg(feature = "_otlp")]
            otlp: reader.otlp(),
            trace_filter: reader.text("FEEDBACK_TRACE_FILTER"),
            rust_log: reader.text("RUST_LOG"),
            ticket_keys: reader.parse(TICKET_KEYS, ticket_keys),
            outbox_directory: reader.parse(OUTBOX_DIR, outbox_directory),
            outbox_writes_ahead: reader.parse("FEEDBACK_OUTBOX_POLICY", outbox_policy),
            issues: Vec::new(),
        };
        // Where only the batch size is set, the queue may be set in code: the builder compares.
        if let (Some(batch), Some(queue)) =
            (environment.bsp_max_export_batch_size, environment.bsp_max_queue_size)
            && batch > queue
        {
            environment.bsp_max_export_batch_size = None;
            reader.issue(
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
                &batch.to_string(),
                format!("is more than OTEL_BSP_MAX_QUEUE_SIZE, {queue}: set at most that"),
            );
        }
        environment.issues = reader.issues;
        environment
    }
}

struct Reader<F> {
    lookup: F,
    issues: Vec<EnvIssue>,
}

impl<F: Fn(&str) -> Option<OsString>> Reader<F> {
    fn issue(&mut self, variable: &'static str, value: &str, reason: impl Into<String>) {
        self.issues.push(EnvIssue::new(variable, value, reason));
    }

    /// The value as it is, `None` where it is blank.
    fn text(&mut self, variable: &'static str) -> Option<String> {
        match (self.lookup)(variable)?.into_string() {
            Ok(value) if value.trim().is_empty() => None,
            Ok(value) => Some(value),
            Err(value) => {
                self.issue(variable, &value.to_string_lossy(), "isn't Unicode: write it in UTF-8");
                None
            }
        }
    }

    fn parse<T>(
        &mut self,
        variable: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.text(variable)?;
        match parse(&value) {
            Ok(parsed) => Some(parsed),
            Err(reason) => {
                self.issue(variable, &value, reason);
                None
            }
        }
    }

    /// The first of the variables that has a usable value.
    fn first<T>(
        &mut self,
        variables: [&'static str; 2],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        variables.into_iter().find_map(|variable| self.parse(variable, &parse))
    }

    fn traces_exporter(&mut self) -> Option<TracesExporter> {
        const VARIABLE: &str = "OTEL_TRACES_EXPORTER";
        let value = self.text(VARIABLE)?;
        let (mut chosen, mut several, mut refused) = (None, false, Vec::new());
        for name in list(&value) {
            match traces_exporter(name) {
                Ok(exporter) if chosen.is_none() => chosen = Some((name, exporter)),
                Ok(exporter) => several |= chosen.is_some_and(|(_, first)| first != exporter),
                Err(reason) => refused.push(reason),
            }
        }
        if several {
            refused.push("only one exporter is supported".to_owned());
        }
        if chosen.is_none() && refused.is_empty() {
            refused.push("names no exporter: use `otlp`, `console` or `none`".to_owned());
        }
        if !refused.is_empty() {
            let mut reason = refused.join("; ");
            if let Some((name, _)) = chosen {
                reason.push_str(&format!("; `{name}` is used"));
            }
            self.issue(VARIABLE, &value, reason);
        }
        chosen.map(|(_, exporter)| exporter)
    }

    fn sampler(&mut self) -> Option<Sampler> {
        const VARIABLE: &str = "OTEL_TRACES_SAMPLER";
        let value = self.text(VARIABLE)?;
        let name = value.trim().to_ascii_lowercase();
        let (root, of_parent) = match name.strip_prefix("parentbased_") {
            Some(root) => (root, true),
            None => (name.as_str(), false),
        };
        let sampler = match root {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            // A malformed argument is as none, and none is 1: both by the specification.
            "traceidratio" => Sampler::TraceIdRatioBased(
                self.parse("OTEL_TRACES_SAMPLER_ARG", ratio).unwrap_or(1.0),
            ),
            "jaeger_remote" | "xray" => {
                self.issue(
                    VARIABLE,
                    &value,
                    "isn't supported: set `parentbased_traceidratio`, or give a sampler in code",
                );
                return None;
            }
            _ => {
                self.issue(
                    VARIABLE,
                    &value,
                    "isn't a sampler: use `always_on`, `always_off`, `traceidratio` or one of them \
                     after `parentbased_`",
                );
                return None;
            }
        };
        Some(if of_parent { Sampler::ParentBased(Box::new(sampler)) } else { sampler })
    }

    fn propagators(&mut self) -> Option<Vec<Propagator>> {
        const VARIABLE: &str = "OTEL_PROPAGATORS";
        let value = self.text(VARIABLE)?;
        let (mut chosen, mut none, mut refused) = (Vec::new(), false, Vec::new());
        for name in list(&value) {
            let propagator = match name.to_ascii_lowercase().as_str() {
                "tracecontext" => Propagator::TraceContext,
                "baggage" => Propagator::Baggage,
                "none" => {
                    none = true;
                    continue;
                }
                "b3" | "b3multi" | "jaeger" | "xray" | "ottrace" => {
                    refused.push(format!("`{name}` isn't supported"));
                    continue;
                }
                _ => {
                    refused.push(format!("`{}` isn't a propagator", shorten(name)));
                    continue;
                }
            };
            if !chosen.contains(&propagator) {
                chosen.push(propagator);
            }
        }
        if none && chosen.is_empty() && refused.is_empty() {
            return Some(chosen);
        }
        if none {
            refused.push("`none` can't stand beside others".to_owned());
        }
        if !refused.is_empty() || chosen.is_empty() {
            refused.push("use `tracecontext` and `baggage`, or `none`".to_owned());
            self.issue(VARIABLE, &value, refused.join("; "));
        }
        (!chosen.is_empty()).then_some(chosen)
    }
}

#[cfg(feature = "_otlp")]
impl<F: Fn(&str) -> Option<OsString>> Reader<F> {
    fn otlp(&mut self) -> OtlpVariables {
        OtlpVariables {
            protocol: self.first(
                ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
                protocol,
            ),
            endpoint: self
                .candidates(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]),
            headers: self
                .first(["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"], headers)
                .unwrap_or_default(),
            timeout: self.first(
                ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"],
                timeout,
            ),
            compression: self
                .first(
                    ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"],
                    compression,
                )
                .flatten(),
            certificate: self
                .files(["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"]),
            client_key: self
                .files(["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"]),
            client_certificate: self.files([
                "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            ]),
            insecure: self.first(
                ["OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"],
                boolean,
            ),
        }
    }

    fn candidates(&mut self, variables: [&'static str; 2]) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for (variable, of_signal) in variables.into_iter().zip([true, false]) {
            if let Some(value) = self.text(variable) {
                candidates.push(Candidate { variable, value, of_signal });
            }
        }
        candidates
    }

    fn files(&mut self, variables: [&'static str; 2]) -> Vec<Candidate> {
        let mut candidates = self.candidates(variables);
        if !cfg!(feature = "tls") {
            for Candidate { variable, value, .. } in candidates.drain(..) {
                self.issue(variable, &value, needs("tls"));
            }
        }
        candidates
    }
}

/// The reason for what this build can't do.
pub(crate) fn needs(feature: &str) -> String {
    format!("needs the cargo feature `{feature}` of `tracing-feedback`: enable it")
}

/// The elements of a comma list, without blanks around them and without empty ones.
fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty())
}

fn boolean(value: &str) -> Result<bool, String> {
    match value.trim() {
        value if value.eq_ignore_ascii_case("true") => Ok(true),
        value if value.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err("isn't a boolean and so taken as unset: use `true` or `false`".to_owned()),
    }
}

fn count(value: &str) -> Result<u32, String> {
    value.trim().parse().map_err(|_| format!("isn't a whole number from 0 to {}", u32::MAX))
}

fn size(value: &str) -> Result<usize, String> {
    match value.trim().parse() {
        Ok(size) if size > 0 => Ok(size),
        _ => Err("isn't a whole number from 1 upwards".to_owned()),
    }
}

fn milliseconds(value: &str) -> Result<Duration, String> {
    match value.trim().parse() {
        Ok(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        Err(_) => Err("isn't a whole number of milliseconds".to_owned()),
    }
}

fn ratio(value: &str) -> Result<f64, String> {
    match value.trim().parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("isn't a number from 0 to 1; 1 is used".to_owned()),
    }
}

fn ticket_keys(value: &str) -> Result<TicketKeys, String> {
    if !cfg!(feature = "tickets") {
        return Err(needs("tickets"));
    }
    value
        .parse()
        .map_err(|error: <TicketKeys as FromStr>::Err| format!("is no list of keys: {error}"))
}

fn outbox_directory(value: &str) -> Result<String, String> {
    if !cfg!(feature = "outbox") {
        return Err(needs("outbox"));
    }
    Ok(value.to_owned())
}

#[cfg(feature = "outbox")]
fn outbox_policy(value: &str) -> Result<bool, String> {
    use crate::outbox::{OutboxPolicy, OutboxPolicyError};

    value
        .parse()
        .map(|policy: OutboxPolicy| policy == OutboxPolicy::WriteAhead)
        .map_err(|error: OutboxPolicyError| format!("is no policy: {error}"))
}

#[cfg(not(feature = "outbox"))]
fn outbox_policy(_: &str) -> Result<bool, String> {
    Err(needs("outbox"))
}

fn traces_exporter(name: &str) -> Result<TracesExporter, String> {
    match name.to_ascii_lowercase().as_str() {
        "none" => Ok(TracesExporter::None),
        "otlp" if cfg!(feature = "_otlp") => Ok(TracesExporter::Otlp),
        "otlp" => Err("`otlp` needs one of the cargo features `grpc`, `http-proto` and \
                       `http-json` of `tracing-feedback`: enable one"
            .to_owned()),
        "console" if cfg!(feature = "console") => Ok(TracesExporter::Console),
        "console" => Err(format!("`console` {}", needs("console"))),
        _ => Err(format!(
            "`{}` isn't a supported exporter: use `otlp`, `console` or `none`",
            shorten(name)
        )),
    }
}

fn resource_attributes(value: &str) -> Result<Vec<KeyValue>, String> {
    let mut attributes: Vec<KeyValue> = Vec::new();
    for (position, key, value) in key_values(value)? {
        let decode = |text| percent_decode(text).map_err(|reason| entry(position, reason));
        let (key, value) = (decode(key)?, decode(value)?);
        attributes.retain(|attribute| attribute.key.as_str() != key);
        attributes.push(KeyValue::new(key, value));
    }
    Ok(attributes)
}

/// What is wrong with an entry of a list. It says where, never what: it may be a secret.
fn entry(position: usize, reason: &str) -> String {
    format!("entry {position} {reason}; the whole value is discarded")
}

/// Splits a W3C-baggage-like list: its position (from 1), key and value of every entry, both
/// still encoded. Further `=` belong to the value, as baggage has it.
fn key_values(list: &str) -> Result<Vec<(usize, &str, &str)>, String> {
    let mut pairs = Vec::new();
    for (index, text) in list.split(',').enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        let Some((key, value)) = text.split_once('=') else {
            return Err(entry(index + 1, "has no `=`: write `key=value`, with `%2C` for a comma"));
        };
        if key.trim().is_empty() {
            return Err(entry(index + 1, "has no key: write `key=value`"));
        }
        pairs.push((index + 1, key.trim(), value.trim()));
    }
    if pairs.is_empty() {
        return Err("has no entry: write `key=value,key=value`".to_owned());
    }
    Ok(pairs)
}

fn percent_decode(text: &str) -> Result<String, &'static str> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || (bytes.next()? as char).to_digit(16);
        match (digit(), digit()) {
            (Some(high), Some(low)) => decoded.push((high * 16 + low) as u8),
            _ => return Err("has a `%` without two hexadecimal digits: write `%25` for a `%`"),
        }
    }
    String::from_utf8(decoded).map_err(|_| "isn't UTF-8 once it is percent-decoded")
}

#[cfg(feature = "_otlp")]
fn headers(value: &str) -> Result<Headers, String> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for (position, name, value) in key_values(value)? {
        let value = percent_decode(value).map_err(|reason| entry(position, reason))?;
        let name = check_header(name, &value).map_err(|reason| entry(position, reason))?;
        headers.retain(|(other, _)| *other != name);
        headers.push((name, value));
    }
    Ok(Headers(headers))
}

/// The header's name in lower case, if it can be sent by every protocol.
#[cfg(feature = "_otlp")]
pub(crate) fn check_header(name: &str, value: &str) -> Result<String, &'static str> {
    let name = http::HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| "isn't named like a header: use letters, digits and `-`")?;
    // These describe the body and the connection: only the exporter knows what is true of them.
    let reserved = matches!(
        name.as_str(),
        "connection"
            | "content-encoding"
            | "content-length"
            | "content-type"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    ) || name.as_str().starts_with("grpc-");
    if reserved {
        return Err("is a header that the protocol sets itself: leave it out");
    }
    if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err("has a value that isn't printable ASCII, which no header can carry");
    }
    Ok(name.as_str().to_owned())
}

#[cfg(feature = "_otlp")]
fn timeout(value: &str) -> Result<Duration, String> {
    match milliseconds(value)? {
        Duration::ZERO => {
            Err("of zero lets no export succeed: set at least 1 millisecond".to_owned())
        }
        timeout => Ok(timeout),
    }
}

#[cfg(feature = "_otlp")]
fn protocol(value: &str) -> Result<Protocol, String> {
    let protocol: Protocol = value
        .parse()
        .map_err(|_| "isn't a protocol: use `grpc`, `http/protobuf` or `http/json`".to_owned())?;
    if protocol.is_enabled() { Ok(protocol) } else { Err(needs(protocol.feature())) }
}

#[cfg(feature = "_otlp")]
fn compression(value: &str) -> Result<Option<Compression>, String> {
    // No blanks around `none`, unlike around all else: the exporter reads these variables too
    // when it is given no compression, and by its reading ` none ` is malformed, so that the
    // general variable would count for it and not for us.
    if value.eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    let compression: Compression = value.parse().map_err(|_| {
        "isn't a compression: use `gzip`, `zstd` or `none`, without blanks".to_owned()
    })?;
    if compression.is_enabled() { Ok(Some(compression)) } else { Err(needs(compression.feature())) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        Environment::from_lookup(|name| variables.get(name).map(OsString::from))
    }

    /// Every variable that is read, with a value that is right, and what `shown` says of it.
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
        // Who takes no argument doesn't look at it.
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
            let environment = read(&[
                ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", batch),
                ("OTEL_BSP_MAX_QUEUE_SIZE", queue),
            ]);
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
        // Nor do those that are right appear where the environment is shown.
        let environment = read(&[(TICKET_KEYS, &format!("{KEY},{KEY}"))]);
        assert!(!format!("{environment:?}").contains(KEY), "{environment:?}");
    }

    #[test]
    fn long_values_are_shortened() {
        let issue = EnvIssue::new("OTEL_TRACES_SAMPLER", &"ä".repeat(1000), "is long");
        assert_eq!(issue.value.chars().count(), 201);
    }

    #[cfg(feature = "_otlp")]
    mod otlp {
        use super::*;

        #[test]
        fn the_variable_of_the_signal_wins_unless_it_is_malformed() {
            let protocol = Protocol::default().to_string();
            for (suffix, good, bad) in [
                ("PROTOCOL", protocol.as_str(), "http"),
                ("HEADERS", "a=1", "a"),
                ("TIMEOUT", "15", "0"),
                ("TIMEOUT", "15", "1s"),
                ("COMPRESSION", "none", "brotli"),
                ("INSECURE", "TRUE", "yes"),
            ] {
                let signal = format!("OTEL_EXPORTER_OTLP_TRACES_{suffix}");
                let general = format!("OTEL_EXPORTER_OTLP_{suffix}");
                let expected = shown(&read(&[(&signal, good)]));
                assert!(suffix == "COMPRESSION" || expected != nothing(), "{suffix}");
                assert!(expected.contains("issues: []"), "{expected}");
                assert_eq!(shown(&read(&[(&general, good)])), expected);
                assert_eq!(shown(&read(&[(&signal, good), (&general, bad)])), expected);
                assert_eq!(shown(&read(&[(&signal, " "), (&general, good)])), expected);

                let environment = read(&[(&signal, bad), (&general, good)]);
                assert_eq!(environment.issues.len(), 1);
                assert_eq!(environment.issues[0].variable, signal);
                assert_eq!(without_issues(environment), expected);

                let environment = read(&[(&signal, bad), (&general, bad)]);
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

        /// The exporter reads these two as well, and must come to the same.
        #[test]
        fn no_compression_for_the_signal_stands_against_one_in_general() {
            let compression = |signal| {
                let environment = read(&[
                    ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", signal),
                    ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
                ]);
                environment.otlp.compression
            };
            assert_eq!(compression("None"), None);
            assert_eq!(compression(" none"), cfg!(feature = "gzip").then_some(Compression::Gzip));
        }

        #[test]
        fn endpoints_and_files_are_candidates_in_order() {
            let environment = read(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a"),
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b"),
            ]);
            let values: Vec<_> =
                environment.otlp.endpoint.iter().map(|c| (c.value.as_str(), c.of_signal)).collect();
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
        fn headers_never_appear_in_issues() {
            for headers in [
                "s3cret",
                "s3cret==,x",
                "=s3cret",
                "x=s3cret%zz",
                "x=s3cret%ff",
                "x=s3cret%0A",
                "x=s3cret%C3%A4",
                "s3 cret=1",
                "content-type=s3cret",
                "grpc-timeout=s3cret",
                "a=1,s3cret",
            ] {
                for variable in ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"]
                {
                    let environment = read(&[(variable, headers)]);
                    assert_eq!(environment.issues.len(), 1, "{headers}");
                    assert_eq!(environment.issues[0].variable, variable);
                    assert!(!format!("{environment:?}").contains("cret"), "{environment:?}");
                    assert!(!environment.issues[0].to_string().contains("cret"));
                }
            }
            // Nor do those that are right appear where the environment is shown.
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

    /// Reads and, where there is an exporter to configure, resolves.
    fn read_and_resolve(variables: &[(&str, &str)]) -> Environment {
        let environment = read(variables);
        #[cfg(feature = "_otlp")]
        let environment = {
            use crate::setup::otlp::{OtlpConfig, OtlpOptions};
            let mut environment = environment;
            // What the environment says is never an error.
            OtlpConfig::resolve(&OtlpOptions::default(), &mut environment).unwrap();
            environment
        };
        environment
    }

    /// Values that come close to being right, and any other.
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
                    // Without its sampler it says nothing.
                    || variable == "OTEL_TRACES_SAMPLER_ARG"
                    // The same as unset, where nothing else is set.
                    || (variable.ends_with("COMPRESSION") && value.eq_ignore_ascii_case("none"));
                prop_assert_eq!(taken, !unset, "{}={:?}", variable, value);
                prop_assert!(environment.issues.iter().all(|issue| issue.variable == variable));
            }
        }

        #[test]
        fn any_environment_is_read(values in proptest::collection::vec(value(), 60)) {
            let given: Vec<_> =
                variables().into_iter().zip(values.iter().map(String::as_str)).collect();
            let environment = read_and_resolve(&given);
            prop_assert!(environment.issues.iter().all(|issue| !issue.to_string().is_empty()));
        }
    }
}
