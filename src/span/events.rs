//! Events: the log records of an enrichment of an open span.

use super::{DocumentKind, LayerCore, SpanHandle};
use crate::feedback::carrier::DocumentScope;
use crate::feedback::event::{CONVERSATION_ID, EventContext, RESPONSE_ID};
use crate::record::LogRecord;

impl SpanHandle {
    /// What the events of an enrichment of one of the span's documents are about. The span has started then:
    /// its ids are in them.
    pub(crate) fn event_context(&self, kind: DocumentKind) -> EventContext {
        let started = self.start();
        let of_span = self.change(|live| {
            let attributes = &live.record.attributes;
            (attributes.get(RESPONSE_ID), attributes.get(CONVERSATION_ID))
        });
        let (response_id, conversation_id) = of_span.unwrap_or_default();
        let (scope, session) = (kind.scope(), self.session());
        EventContext {
            // Session feedback is about no single span: it only travels on one.
            target: (scope != Some(DocumentScope::Session)).then(|| started.context.clone()),
            scope,
            session,
            id: None,
            response_id: response_id.filter(|_| scope.is_none()),
            conversation_id,
        }
    }
}

impl LayerCore {
    /// Hands the log records of an enrichment to their pipeline.
    pub(crate) fn emit(&self, records: &[LogRecord]) {
        if let Some(events) = self.events() {
            records.iter().for_each(|record| events.push_log_record(record));
        }
    }
}
