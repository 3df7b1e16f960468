//! Feedback in the forms of other emitters, read as carriers.
//!
//! | file | form |
//! | --- | --- |
//! | `evaluation` | `gen_ai.evaluation.result` of the semantic conventions: a log record, a span event, or the span of the crate `genai` |
//! | `openinference` | annotations and evaluations as attributes, inline or on a span of their own with a link |
//! | `logfire` | the annotation span of Logfire |
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
mod logfire;
mod openinference;

use opentelemetry_proto::tonic::trace::v1::Span;

use super::receive::log_record::{EVALUATION, ReceivedLogRecord};
use super::receive::received::ReceivedSpan;

pub(crate) use carrier::{Form, form_of};

/// Whether a span may have feedback in a foreign form. Most spans have none, and are not looked at further.
pub(crate) fn may_judge(span: &Span) -> bool {
    span.name == EVALUATION
        || span.events.iter().any(|event| event.name == EVALUATION)
        || span.attributes.iter().any(|attribute| {
            attribute.key == logfire::NAME || openinference::is_of_list(&attribute.key)
        })
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
    openinference::of_span(span, &mut carriers);
    carriers
}

/// The carrier of what a log record states; `None` if the record is no feedback.
pub(crate) fn of_log_record(record: &ReceivedLogRecord) -> Option<Span> {
    evaluation::of_log_record(record)
}
