//! Values of variables: parses their text. The error is the reason why a value can't be used, with the
//! remedy.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use opentelemetry::KeyValue;

use super::issue::{HIDDEN, shorten};
use crate::settings::Events;
#[cfg(feature = "_otlp")]
use crate::setup::error::ConfigError;
#[cfg(feature = "_otlp")]
use crate::setup::protocol::{Compression, Protocol};
use crate::ticket::TicketKeys;

/// The exporters that `OTEL_TRACES_EXPORTER` can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TracesExporter {
    Otlp,
    Console,
    None,
}

/// The propagators that `OTEL_PROPAGATORS` can list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagator {
    TraceContext,
    Baggage,
}

/// Headers in the order given, names in lower case. Values are secrets: `Debug` hides them.
#[cfg(feature = "_otlp")]
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct OtlpHeaders(pub(crate) Vec<(String, String)>);

#[cfg(feature = "_otlp")]
impl fmt::Debug for OtlpHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| (name, HIDDEN))).finish()
    }
}

/// The reason for refusing a value that needs a cargo feature.
pub(crate) fn needs_feature(feature: &str) -> String {
    format!("needs the cargo feature `{feature}` of `tracing-feedback`: enable it")
}

/// The elements of a comma list, without blanks around them and without empty ones.
pub(super) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty())
}

pub(super) fn boolean(value: &str) -> Result<bool, String> {
    match value.trim() {
        value if value.eq_ignore_ascii_case("true") => Ok(true),
        value if value.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err("isn't a boolean and so taken as unset: use `true` or `false`".to_owned()),
    }
}

pub(super) fn count(value: &str) -> Result<u32, String> {
    value.trim().parse().map_err(|_| format!("isn't a whole number from 0 to {}", u32::MAX))
}

pub(super) fn size(value: &str) -> Result<usize, String> {
    match value.trim().parse() {
        Ok(size) if size > 0 => Ok(size),
        _ => Err("isn't a whole number from 1 upwards".to_owned()),
    }
}

pub(super) fn milliseconds(value: &str) -> Result<Duration, String> {
    match value.trim().parse() {
        Ok(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        Err(_) => Err("isn't a whole number of milliseconds".to_owned()),
    }
}

pub(super) fn ratio(value: &str) -> Result<f64, String> {
    match value.trim().parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("isn't a number from 0 to 1; 1 is used".to_owned()),
    }
}

pub(super) fn ticket_keys(value: &str) -> Result<TicketKeys, String> {
    if !cfg!(feature = "tickets") {
        return Err(needs_feature("tickets"));
    }
    value
        .parse()
        .map_err(|error: <TicketKeys as FromStr>::Err| format!("isn't a list of keys: {error}"))
}

pub(super) fn outbox_directory(value: &str) -> Result<String, String> {
    if !cfg!(feature = "outbox") {
        return Err(needs_feature("outbox"));
    }
    Ok(value.to_owned())
}

pub(super) fn events(value: &str) -> Result<Events, String> {
    match value.trim().to_ascii_lowercase().as_str() {
        "genai" => Ok(Events::GenAi),
        "none" => Ok(Events::None),
        _ => Err("isn't a kind of events: use `genai` or `none`".to_owned()),
    }
}

#[cfg(feature = "outbox")]
pub(super) fn outbox_policy(value: &str) -> Result<bool, String> {
    use crate::outbox::{OutboxPolicy, OutboxPolicyError};

    value
        .parse()
        .map(|policy: OutboxPolicy| policy == OutboxPolicy::WriteAhead)
        .map_err(|error: OutboxPolicyError| format!("isn't a policy: {error}"))
}

#[cfg(not(feature = "outbox"))]
pub(super) fn outbox_policy(_: &str) -> Result<bool, String> {
    Err(needs_feature("outbox"))
}

pub(super) fn traces_exporter(name: &str) -> Result<TracesExporter, String> {
    match name.to_ascii_lowercase().as_str() {
        "none" => Ok(TracesExporter::None),
        "otlp" if cfg!(feature = "_otlp") => Ok(TracesExporter::Otlp),
        "otlp" => Err("`otlp` needs one of the cargo features `grpc`, `http-proto` and \
                       `http-json` of `tracing-feedback`: enable one"
            .to_owned()),
        "console" if cfg!(feature = "console") => Ok(TracesExporter::Console),
        "console" => Err(format!("`console` {}", needs_feature("console"))),
        _ => Err(format!(
            "`{}` isn't a supported exporter: use `otlp`, `console` or `none`",
            shorten(name)
        )),
    }
}

/// An error in any entry discards the whole value, as the specification of the resource asks.
pub(super) fn resource_attributes(value: &str) -> Result<Vec<KeyValue>, String> {
    let discarded = |reason: String| format!("{reason}; the whole value is discarded");
    let mut attributes: Vec<KeyValue> = Vec::new();
    for entry in key_values(value) {
        let (position, key, value) = entry.map_err(discarded)?;
        let decode =
            |text| percent_decode(text).map_err(|reason| discarded(entry_reason(position, reason)));
        let (key, value) = (decode(key)?, decode(value)?);
        attributes.retain(|attribute| attribute.key.as_str() != key);
        attributes.push(KeyValue::new(key, value));
    }
    if attributes.is_empty() {
        return Err(NO_ENTRY.to_owned());
    }
    Ok(attributes)
}

const NO_ENTRY: &str = "has no entry: write `key=value,key=value`";

/// The reason for refusing an entry of a list. It has the position, never the text: that may be a secret.
fn entry_reason(position: usize, reason: &str) -> String {
    format!("entry {position} {reason}")
}

/// Splits a list in the form of W3C baggage: the position (from 1), key and value of every entry, the
/// last two still percent-encoded. Further `=` belong to the value, as in baggage.
fn key_values(list: &str) -> impl Iterator<Item = Result<(usize, &str, &str), String>> {
    let entries = (1..).zip(list.split(',')).filter(|(_, text)| !text.trim().is_empty());
    entries.map(|(position, text)| match text.split_once('=') {
        None => {
            let reason = "has no `=`: write `key=value`, with `%2C` for a comma";
            Err(entry_reason(position, reason))
        }
        Some((key, _)) if key.trim().is_empty() => {
            Err(entry_reason(position, "has no key: write `key=value`"))
        }
        Some((key, value)) => Ok((position, key.trim(), value.trim())),
    })
}

const BARE_PERCENT: &str = "has a `%` without two hexadecimal digits: write `%25` for a `%`";

fn percent_decode(text: &str) -> Result<String, &'static str> {
    match decode(text) {
        Ok((text, false)) => Ok(text),
        Ok((_, true)) => Err(BARE_PERCENT),
        Err(reason) => Err(reason),
    }
}

/// The decoded text, and whether it has a `%` that encodes nothing, which then stands for itself.
fn decode(text: &str) -> Result<(String, bool), &'static str> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut has_bare_percent = false;
    let mut bytes = text.as_bytes();
    while let [byte, rest @ ..] = bytes {
        let digit = |at: usize| (*rest.get(at)? as char).to_digit(16);
        match (*byte == b'%', digit(0), digit(1)) {
            (true, Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                bytes = &rest[2..];
            }
            (is_percent, ..) => {
                has_bare_percent |= is_percent;
                decoded.push(*byte);
                bytes = rest;
            }
        }
    }
    let text = String::from_utf8(decoded).map_err(|_| "isn't UTF-8 once it is percent-decoded")?;
    Ok((text, has_bare_percent))
}

/// The headers of a list, and what is wrong with its entries. An entry that can't be sent is skipped, and
/// costs the others nothing: one of them may be the key without which nothing arrives.
#[cfg(feature = "_otlp")]
pub(super) fn headers(value: &str) -> (OtlpHeaders, Vec<String>) {
    let (mut headers, mut reasons) = (Vec::<(String, String)>::new(), Vec::new());
    for entry in key_values(value) {
        let header = entry.and_then(|(position, name, value)| {
            let refuse = |reason| entry_reason(position, reason);
            let (value, has_bare_percent) = decode(value).map_err(refuse)?;
            let name = check_header(name, &value).map_err(refuse)?;
            if has_bare_percent {
                reasons.push(format!("{}; it is sent as it is", refuse(BARE_PERCENT)));
            }
            Ok((name, value))
        });
        match header {
            Ok(header) => {
                headers.retain(|(other, _)| *other != header.0);
                headers.push(header);
            }
            Err(reason) => reasons.push(format!("{reason}; the entry is skipped")),
        }
    }
    if headers.is_empty() && reasons.is_empty() {
        reasons.push(NO_ENTRY.to_owned());
    }
    (OtlpHeaders(headers), reasons)
}

/// The header's name in lower case, if it can be sent by every protocol.
#[cfg(feature = "_otlp")]
pub(crate) fn check_header(name: &str, value: &str) -> Result<String, &'static str> {
    let name = http::HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| "isn't named like a header: use letters, digits and `-`")?;
    // These describe the body and the connection, which the exporter determines.
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
pub(super) fn timeout(value: &str) -> Result<Duration, String> {
    match milliseconds(value)? {
        Duration::ZERO => {
            Err("is zero, so that no export can succeed: set at least 1 millisecond".to_owned())
        }
        timeout => Ok(timeout),
    }
}

#[cfg(feature = "_otlp")]
pub(super) fn protocol(value: &str) -> Result<Protocol, String> {
    value.parse().map_err(|error| match error {
        ConfigError::FeatureOff { feature, .. } => needs_feature(feature),
        _ => "isn't a protocol: use `grpc`, `http/protobuf` or `http/json`".to_owned(),
    })
}

#[cfg(feature = "_otlp")]
pub(super) fn compression(value: &str) -> Result<Compression, String> {
    value.parse().map_err(|error| match error {
        ConfigError::FeatureOff { feature, .. } => needs_feature(feature),
        _ => "isn't a compression: use `gzip`, `zstd` or `none`".to_owned(),
    })
}
