//! Reads variables one by one, and collects an issue for each value that can't be used.

use std::ffi::OsString;

use opentelemetry_sdk::trace::Sampler;

use super::issue::{EnvironmentIssue, shorten};
use super::value::{Propagator, TracesExporter, list, ratio, traces_exporter};

/// Looks variables up by `F`.
pub(super) struct Reader<F> {
    lookup: F,
    issues: Vec<EnvironmentIssue>,
}

impl<F: Fn(&str) -> Option<OsString>> Reader<F> {
    pub(super) fn new(lookup: F) -> Self {
        Self { lookup, issues: Vec::new() }
    }

    /// The values that were skipped.
    pub(super) fn into_issues(self) -> Vec<EnvironmentIssue> {
        self.issues
    }

    pub(super) fn issue(&mut self, variable: &'static str, value: &str, reason: impl Into<String>) {
        self.issues.push(EnvironmentIssue::new(variable, value, reason));
    }

    /// The value as it is; `None` if the variable is unset, blank or not Unicode.
    pub(super) fn text(&mut self, variable: &'static str) -> Option<String> {
        match (self.lookup)(variable)?.into_string() {
            Ok(value) if value.trim().is_empty() => None,
            Ok(value) => Some(value),
            Err(value) => {
                self.issue(variable, &value.to_string_lossy(), "isn't Unicode: write it in UTF-8");
                None
            }
        }
    }

    /// The value as `parse` reads it. A value that `parse` refuses is recorded as an issue.
    pub(super) fn parse<T>(
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
    pub(super) fn first<T>(
        &mut self,
        variables: [&'static str; 2],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        variables.into_iter().find_map(|variable| self.parse(variable, &parse))
    }

    pub(super) fn traces_exporter(&mut self) -> Option<TracesExporter> {
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

    pub(super) fn sampler(&mut self) -> Option<Sampler> {
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
            // By the specification a malformed argument counts as unset, and an unset one means 1.
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

    pub(super) fn propagators(&mut self) -> Option<Vec<Propagator>> {
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
            refused.push("`none` can't be combined with others".to_owned());
        }
        if !refused.is_empty() || chosen.is_empty() {
            refused.push("use `tracecontext` and `baggage`, or `none`".to_owned());
            self.issue(VARIABLE, &value, refused.join("; "));
        }
        (!chosen.is_empty()).then_some(chosen)
    }
}
