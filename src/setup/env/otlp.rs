//! The variables of OTLP export, `OTEL_EXPORTER_OTLP_*`.

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use super::issue::redact_endpoint;
use super::reader::Reader;
use super::value::{OtlpHeaders, boolean, compression, headers, needs_feature, protocol, timeout};
use crate::setup::protocol::{Compression, Protocol};

/// The value of a variable that is checked later.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct EnvCandidate {
    pub(crate) variable: &'static str,
    pub(crate) value: String,
    /// Whether the variable is the one of the signal (`…_TRACES_…`).
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

/// Reads the variables of OTLP export.
pub(super) fn read<F: Fn(&str) -> Option<OsString>>(reader: &mut Reader<F>) -> OtlpVariables {
    OtlpVariables {
        protocol: reader
            .first(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"], protocol),
        endpoint: candidates(
            reader,
            ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
        ),
        headers: first_headers(
            reader,
            ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"],
        ),
        timeout: reader
            .first(["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"], timeout),
        compression: reader.first(
            ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"],
            compression,
        ),
        certificate: files(
            reader,
            ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"],
        ),
        client_key: files(
            reader,
            ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"],
        ),
        client_certificate: files(
            reader,
            [
                "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            ],
        ),
        insecure: reader
            .first(["OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"], boolean),
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
