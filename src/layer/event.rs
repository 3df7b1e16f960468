//! Events: `tracing` events, recorded on the span around them.

use std::borrow::Cow;
use std::fmt;

use opentelemetry::trace::Status;
use tracing::field::Field;
use tracing::{Event, Level, Metadata};

use super::visit::{self, ErrorText, Values, visit_values};
use crate::clock::Ticks;
use crate::otlp::attributes::{Attributes, ValueRef};
use crate::record;
use crate::span::{LayerCore, SpanState};

/// Warnings of this crate are about the service's telemetry, not part of it.
const OWN_TARGET: &str = "tracing_feedback";

/// Records `event` on the span it happened in.
pub(super) fn record(event: &Event<'_>, span: &SpanState, core: &LayerCore) {
    #[cfg(feature = "tracing-log")]
    let normalized = tracing_log::NormalizeEvent::normalized_metadata(event);
    #[cfg(not(feature = "tracing-log"))]
    let normalized: Option<Metadata<'_>> = None;
    let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
    if metadata.target() == OWN_TARGET {
        return;
    }

    let limits = &core.settings.span_limits;
    let switches = &core.settings.switches;
    let mut visitor = EventVisitor {
        core,
        most: limits.max_attributes_per_event as usize,
        name: None,
        attributes: Attributes::with_capacity(event.fields().count() + 5),
        dropped: 0,
        is_error: *metadata.level() == Level::ERROR,
        status: None,
        exception: None,
        is_log: normalized.is_some(),
    };
    visitor.put("level", ValueRef::Str(metadata.level().as_str()));
    visitor.put("target", ValueRef::Str(metadata.target()));
    event.record(&mut visitor);
    if switches.location {
        visitor.put_location(metadata);
    }

    let name = visitor.name.unwrap_or(Cow::Borrowed(event.metadata().name()));
    let now = Ticks::now();
    let mut happened = record::Event {
        name,
        time: 0, // below
        attributes: visitor.attributes,
        dropped_attributes: visitor.dropped,
    };
    let exception = visitor.exception.filter(|_| switches.error_records_to_exceptions);
    let on_span = exception.as_ref().map(|error| visit::exceptions(core, error));
    let status = visitor.status.filter(|_| switches.error_events_to_status);
    let is_error = visitor.is_error;
    span.change_if_recording(|live| {
        if let Some(description) = status {
            live.record.set_status(Status::error(description));
        } else if is_error {
            live.record.set_status(Status::error(""));
        }
        if let Some(fields) = on_span {
            fields.write_to(live, core);
        }
        happened.time = live.record.start.saturating_add(span.timings.age(now));
        live.record.add_event(happened, limits.max_events_per_span);
    });
}

struct EventVisitor<'a> {
    core: &'a LayerCore,
    most: usize,
    name: Option<Cow<'static, str>>,
    attributes: Attributes,
    dropped: u32,
    /// Whether the event has the level of an error.
    is_error: bool,
    /// The description for the span's status, if the event says that the span has failed.
    status: Option<String>,
    /// The error, if a field was recorded as a `dyn Error`.
    exception: Option<ErrorText>,
    /// Whether the event is a record of the `log` crate, whose metadata comes as fields.
    is_log: bool,
}

visit_values!(EventVisitor<'_>);

impl Values for EventVisitor<'_> {
    fn value(&mut self, field: &Field, value: ValueRef<'_>) {
        match field.name() {
            "message" => self.name_it(visit::text(value)),
            // `#[instrument(err)]` makes events without a message and with a field `error`.
            "error" if self.name.is_none() && matches!(value, ValueRef::Str(_)) => {
                self.status = self.exception_event(&visit::text(value));
            }
            // Handled as the event's own metadata.
            name if self.is_log && name.starts_with("log.") => {}
            name => self.put(name, value),
        }
    }

    fn formatted(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.value(field, ValueRef::Str(&visit::debug_text(self.core, value)));
    }

    fn error(&mut self, field: &Field, error: &ErrorText) {
        let switches = &self.core.settings.switches;
        if field.name() == "error" && self.name.is_none() {
            let message = self.exception_event(&error.message);
            // Whether the span has failed is said by the event's level: a retry only warns.
            self.status = message.filter(|_| self.is_error);
        }
        if switches.error_fields_to_exceptions {
            for (key, value) in visit::exception(error) {
                self.put(key, value);
            }
        }
        self.put(field.name(), ValueRef::Str(&error.message));
        let chain = format!("{}.chain", field.name());
        self.put(&chain, ValueRef::Array(&error.chain));
        self.exception = Some(ErrorText {
            message: error.message.clone(),
            chain: error.chain.clone(),
            stacktrace: error.stacktrace.clone(),
        });
    }
}

impl EventVisitor<'_> {
    fn put(&mut self, key: &str, value: ValueRef<'_>) {
        self.dropped += visit::put(self.core, &mut self.attributes, key, value, self.most);
    }

    /// Names the event by its message.
    fn name_it(&mut self, message: String) {
        let key = "message";
        let core = self.core;
        let kept = visit::redacted(core, key, ValueRef::Str(&message), visit::text);
        self.name = Some(kept.map_or(Cow::Borrowed("event"), Cow::Owned));
    }

    /// Records the event's error, by the semantic conventions for exceptions. Returns its message,
    /// unless redaction removes it.
    fn exception_event(&mut self, message: &str) -> Option<String> {
        let core = self.core;
        let key = "error";
        let message = visit::redacted(core, key, ValueRef::Str(message), visit::text)?;
        if core.settings.switches.error_events_to_exceptions {
            self.name = Some(Cow::Borrowed("exception"));
            self.put("exception.message", ValueRef::Str(&message));
        } else {
            self.put("error", ValueRef::Str(&message));
        }
        Some(message)
    }

    fn put_location(&mut self, metadata: &Metadata<'_>) {
        let parts =
            [("code.file.path", metadata.file()), ("code.module.name", metadata.module_path())];
        for (key, text) in parts {
            if let Some(text) = text {
                self.put(key, ValueRef::Str(text));
            }
        }
        if let Some(line) = metadata.line() {
            self.put("code.line.number", ValueRef::I64(line.into()));
        }
    }
}
