//! Feedback in the forms of other emitters, read as carriers.
//!
//! | file | form |
//! | --- | --- |
//! | `evaluation` | `gen_ai.evaluation.result` of the semantic conventions: a log record, a span event, or the span of the crate `genai` |
//! | `openinference` | annotations and evaluations as attributes, inline or on a span of their own with a link |
//! | `logfire` | the annotation span of Logfire |
//! | `langfuse` | the expected output of an item of a Langfuse experiment |
//! | `judgement` | what each of them states, as leaves |
//! | `carrier` | a judgement as a carrier, with ids that are derived from it |
//!
//! Each judgement becomes a carrier, as this crate sends them: what reads spans reads it without further rules. The
//! span that a judgement came on stays as it is. The ids of the carrier are a hash, so a judgement that is delivered
//! again is the same carrier.
//!
//! A person's judgement, and one whose source is not stated, is `feedback`; that of a model or of code is `metrics`.
//! Everything here reads foreign data: nothing is assumed of it but that it was decoded.

mod carrier;
mod evaluation;
mod judgement;
mod langfuse;
mod logfire;
mod openinference;

use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::receive::budget::MemoryBudget;
use super::receive::decode::{Format, decode};
use super::receive::log_record::{EVALUATION, ReceivedLogRecord, log_records};
use super::receive::received::{ReceivedSpan, each_span, span};

pub(crate) use carrier::{Form, Sent, form_of};

/// How many judgements a span may have in foreign forms, at the most. Most spans have none, and are not looked at
/// further.
pub(crate) fn most_judgements(span: &Span) -> usize {
    let of_events = span.events.iter().filter(|event| event.name == EVALUATION).count();
    let of_attributes = span.attributes.iter().filter(|attribute| {
        let key = attribute.key.as_str();
        key == logfire::NAME || key == langfuse::EXPECTED_OUTPUT || openinference::is_of_list(key)
    });
    usize::from(span.name == EVALUATION) + of_events + of_attributes.count()
}

/// The carriers of what a span states in a foreign form, in no particular order. A carrier states nothing else: it is no
/// target of feedback itself.
pub(crate) fn of_span(span: &ReceivedSpan) -> Vec<Span> {
    let mut carriers = Vec::new();
    if span.is_carrier() {
        return carriers;
    }
    evaluation::of_events(span, &mut carriers);
    carriers.extend(evaluation::of_span(span));
    carriers.extend(logfire::of_span(span));
    carriers.extend(langfuse::of_span(span));
    openinference::of_span(span, &mut carriers);
    // What a span states twice in the same way is one carrier.
    carriers.sort_by(|a, b| (&a.trace_id, &a.span_id).cmp(&(&b.trace_id, &b.span_id)));
    carriers.dedup();
    carriers
}

/// The carrier of what a log record states; `None` if the record is no feedback.
pub(crate) fn of_log_record(record: &ReceivedLogRecord) -> Option<Span> {
    evaluation::of_log_record(record)
}

/// Reads the feedback in a request of either signal and format, and checks what it is read as.
pub(super) fn read_in_every_way(body: &[u8]) {
    for format in [Format::Protobuf, Format::Json] {
        let budget = MemoryBudget::default();
        let mut carriers = Vec::new();
        if let Ok(request) = decode(format, None, body, &budget.lease()) {
            let spans = each_span(request.message).into_iter().flatten();
            spans.for_each(|span| carriers.extend(of_span(&span)));
        }
        if let Ok(request) = decode(format, None, body, &budget.lease()) {
            let records = log_records(request.message);
            carriers.extend(records.iter().filter_map(of_log_record));
        }
        // Every carrier repeats only what is its own, beside some attributes of a fixed size.
        let size: usize = carriers.iter().map(Span::encoded_len).sum();
        assert!(size <= 8 * body.len() + 4_000 * carriers.len(), "{size} bytes of {}", body.len());
        for carrier in carriers {
            let carrier = span(carrier, &Default::default(), &Default::default());
            assert!(carrier.is_ok_and(|carrier| carrier.is_carrier()));
        }
    }
}
