//! The variables of OTLP export, `OTEL_EXPORTER_OTLP_*`.

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use super::issue::redact_endpoint;
use super::reader::Reader;
use super::value::{OtlpHeaders, boolean, compression, headers, needs_feature, protocol, timeout};
use crate::otlp::Signal;
use crate::setup::protocol::{Compression, Protocol};

/// The value of a variable that is checked later.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct EnvCandidate {
    pub(crate) variable: &'static str,
    pub(crate) value: String,
    /// Whether the variable is the one of the signal (`…_TRACES_…`, `…_LOGS_…`).
    pub(crate) is_of_signal: bool,
}

impl fmt::Debug for EnvCandidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}", self.variable, redact_endpoint(&self.value))
    }
}

/// The settings of OTLP export. A usable variable of the signal wins over the general variable; candidates
/// are in order of precedence.
#[derive(Debug, Default)]
pub(crate) struct OtlpVariables {
    pub(crate) protocol: Option<Protocol>,
    pub(crate) endpoint: Vec<EnvCandidate>,
    pub(crate) headers: OtlpHeaders,
    pub(crate) timeout: Option<Duration>,
    pub(crate) compression: Option<Compression>,
    pub(crate) certificate: Vec<EnvCandidate>,
    pub(crate) client_key: Vec<EnvCandidate>,
    pub(crate) client_certificate: Vec<EnvCandidate>,
    pub(crate) insecure: Option<bool>,
}

impl OtlpVariables {
    /// Whether the environment names an endpoint.
    pub(crate) fn has_endpoint(&self) -> bool {
        !self.endpoint.is_empty()
    }
}

/// The names of the variables of OTLP export: of each setting that of the signal, then the general one.
struct VariableNames {
    protocol: [&'static str; 2],
    endpoint: [&'static str; 2],
    headers: [&'static str; 2],
    timeout: [&'static str; 2],
    compression: [&'static str; 2],
    certificate: [&'static str; 2],
    client_key: [&'static str; 2],
    client_certificate: [&'static str; 2],
    insecure: [&'static str; 2],
}

macro_rules! variable_names {
    ($signal:literal) => {
        VariableNames {
            protocol: variable_names!($signal, "PROTOCOL"),
            endpoint: variable_names!($signal, "ENDPOINT"),
            headers: variable_names!($signal, "HEADERS"),
            timeout: variable_names!($signal, "TIMEOUT"),
            compression: variable_names!($signal, "COMPRESSION"),
            certificate: variable_names!($signal, "CERTIFICATE"),
            client_key: variable_names!($signal, "CLIENT_KEY"),
            client_certificate: variable_names!($signal, "CLIENT_CERTIFICATE"),
            insecure: variable_names!($signal, "INSECURE"),
        }
    };
    ($signal:literal, $setting:literal) => {
        [
            concat!("OTEL_EXPORTER_OTLP_", $signal, "_", $setting),
            concat!("OTEL_EXPORTER_OTLP_", $setting),
        ]
    };
}

/// Reads the variables of OTLP export for a signal.
pub(super) fn read<F: Fn(&str) -> Option<OsString>>(
    reader: &mut Reader<F>,
    signal: Signal,
) -> OtlpVariables {
    let names = match signal {
        Signal::Traces => variable_names!("TRACES"),
        Signal::Logs => variable_names!("LOGS"),
    };
    OtlpVariables {
        protocol: reader.first(names.protocol, protocol),
        endpoint: candidates(reader, names.endpoint),
        headers: first_headers(reader, names.headers),
        timeout: reader.first(names.timeout, timeout),
        compression: reader.first(names.compression, compression),
        certificate: files(reader, names.certificate),
        client_key: files(reader, names.client_key),
        client_certificate: files(reader, names.client_certificate),
        insecure: reader.first(names.insecure, boolean),
    }
}

/// The headers of the first variable that has any.
fn first_headers<F: Fn(&str) -> Option<OsString>>(
    reader: &mut Reader<F>,
    variables: [&'static str; 2],
) -> OtlpHeaders {
    for variable in variables {
        let Some(text) = reader.text(variable) else { continue };
        let (headers, reasons) = headers(&text);
        for reason in reasons {
            reader.issue(variable, &text, reason);
        }
        if !headers.0.is_empty() {
            return headers;
        }
    }
    OtlpHeaders::default()
}

fn candidates<F: Fn(&str) -> Option<OsString>>(
    reader: &mut Reader<F>,
    variables: [&'static str; 2],
) -> Vec<EnvCandidate> {
    let mut candidates = Vec::new();
    for (variable, is_of_signal) in variables.into_iter().zip([true, false]) {
        if let Some(value) = reader.text(variable) {
            candidates.push(EnvCandidate { variable, value, is_of_signal });
        }
    }
    candidates
}

/// The files of certificates and keys. Without the feature `tls` each of them is an issue.
fn files<F: Fn(&str) -> Option<OsString>>(
    reader: &mut Reader<F>,
    variables: [&'static str; 2],
) -> Vec<EnvCandidate> {
    let mut candidates = candidates(reader, variables);
    if !cfg!(feature = "tls") {
        for EnvCandidate { variable, value, .. } in candidates.drain(..) {
            reader.issue(variable, &value, needs_feature("tls"));
        }
    }
    candidates
}
