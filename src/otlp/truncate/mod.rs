//! Truncation: spans that are too large for a receiver lose their largest values, and keep their place in
//! the trace and their feedback.
//!
//! It works on encoded spans, so that it is the same for a span that has just ended and for one that was
//! read back from disk. The values are cut in this order, each step only as far as it takes:
//!
//! 1. Fields, the values of events and links, names, the description of the status, the trace state. The
//!    largest are cut first, to one common length. If that is not enough, events are dropped, then fields,
//!    in both cases the last ones first.
//! 2. The same for the enrichments that are not opinions: `inputs`, `outputs`, `config`, `metadata`,
//!    `user_properties`.
//! 3. `feedback` and `metrics`.
//!
//! `session.id`, `tracing_feedback.*`, `service.name` (of at most 64 KiB each), ids and times are never cut. A value that was cut
//! ends at a character and with [`MARK`], and is counted as a dropped attribute of its span, event or link.

mod rewriter;

use crate::otlp::message::{Content, WireField, count_of, fields, key_of, read_field};
use crate::otlp::protobuf as wire;
use rewriter::{CutLimits, Rewriter};

/// The most bytes of a span's own fields. A gRPC receiver takes requests of 4 MiB by default; the
/// difference is for the resource, the scope, and the other spans of a batch.
pub(crate) const MOST_SPAN: usize = 3584 << 10;

/// The most bytes of the attributes of a resource, and of a scope.
pub(crate) const MOST_RESOURCE: usize = 256 << 10;

/// The last characters of a value that was cut.
pub(crate) const MARK: &str = "… (cut: the span was too large)";

/// Values up to this length are not cut: they are dropped if there are too many of them.
const SHORTEST: usize = 256;

/// Links of fewer bytes in all are not dropped: the one link of a carrier names its target.
const MOST_LINKS: usize = 64 << 10;

/// The first segment of keys by which `Convention::HoneyHive` begins the names of namespaces.
const CONVENTION_PREFIX: &str = "honeyhive_";

/// In which order values are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Field = 0,
    Enrichment = 1,
    Opinion = 2,
    Protected = 3,
}

/// The classes whose values may be cut, in this order.
const CLASSES: [Class; 3] = [Class::Field, Class::Enrichment, Class::Opinion];

impl Class {
    /// The class of a `KeyValue`. What is never cut is short: otherwise a service has used a reserved name.
    fn of_attribute(attribute: &[u8]) -> Self {
        const MOST_PROTECTED: usize = 64 << 10;
        match Self::of(key_of(attribute)) {
            Self::Protected if attribute.len() > MOST_PROTECTED => Self::Opinion,
            class => class,
        }
    }

    fn of(key: &[u8]) -> Self {
        let Ok(key) = std::str::from_utf8(key) else { return Self::Field };
        if matches!(key, "session.id" | "service.name") || key.starts_with("tracing_feedback.") {
            return Self::Protected;
        }
        let first = key.split('.').next().unwrap_or_default();
        match first.strip_prefix(CONVENTION_PREFIX).unwrap_or(first) {
            "feedback" | "metrics" => Self::Opinion,
            "metadata" | "user_properties" | "inputs" | "outputs" | "config" => Self::Enrichment,
            _ => Self::Field,
        }
    }
}

/// The fields of `Span` that are rewritten; others are copied.
mod span {
    pub(super) const TRACE_STATE: u32 = 3;
    pub(super) const NAME: u32 = 5;
    pub(super) const ATTRIBUTES: u32 = 9;
    pub(super) const DROPPED_ATTRIBUTES_COUNT: u32 = 10;
    pub(super) const EVENTS: u32 = 11;
    pub(super) const DROPPED_EVENTS_COUNT: u32 = 12;
    pub(super) const LINKS: u32 = 13;
    pub(super) const DROPPED_LINKS_COUNT: u32 = 14;
    pub(super) const STATUS: u32 = 15;
    /// `Status`.
    pub(super) const MESSAGE: u32 = 2;
}

/// The fields of a message with attributes within a span: `Event` and `Link`.
#[derive(Clone, Copy)]
struct PartFields {
    field: u32,
    /// A string that may be cut, and whether it is a trace state.
    text: (u32, bool),
    attributes: u32,
    dropped: u32,
}

const EVENT: PartFields =
    PartFields { field: span::EVENTS, text: (2, false), attributes: 3, dropped: 4 };
const LINK: PartFields =
    PartFields { field: span::LINKS, text: (3, true), attributes: 4, dropped: 5 };

/// Cuts the values of a span, given by its encoded fields, to `most` bytes. `None` if it has no more.
/// The result may be larger only if what is never cut is.
pub(crate) fn span_fields(fields: &[u8], most: usize) -> Option<Vec<u8>> {
    if fields.len() <= most {
        return None;
    }
    let mut limits = CutLimits::NONE;
    let mut written = Rewriter::rewrite(fields, limits);
    for class in CLASSES {
        // The counts of dropped attributes take bytes too, so one step may not be enough.
        for _ in 0..3 {
            let Some(excess) = written.excess(most) else { return Some(written.out) };
            let sizes = &mut written.sizes[class as usize];
            limits.lengths[class as usize] = common_length(sizes, excess);
            written = Rewriter::rewrite(fields, limits);
        }
        for _ in 0..3 {
            let Some(excess) = written.excess(most) else { return Some(written.out) };
            // Dropping the small values of this class would not help if a later class has the large ones.
            if written.droppable(class) * 2 < excess {
                break;
            }
            written.limit_counts(class, excess, &mut limits);
            written = Rewriter::rewrite(fields, limits);
        }
    }
    for class in CLASSES {
        let Some(excess) = written.excess(most) else { break };
        written.limit_counts(class, excess, &mut limits);
        written = Rewriter::rewrite(fields, limits);
    }
    Some(written.out)
}

/// Cuts the one span of `encoded`, as it stands in a `ScopeSpans`, to `most` bytes. `None` if that has no
/// effect.
#[cfg(any(feature = "_otlp-path", feature = "outbox"))]
pub(crate) fn encoded_span(encoded: &[u8], most: usize) -> Option<Vec<u8>> {
    let only = read_field(encoded).filter(|(_, rest)| rest.is_empty());
    let (WireField { number, content: Content::Bytes(fields), .. }, _) = only? else { return None };
    let cut = span_fields(fields, most).filter(|cut| cut.len() < fields.len())?;
    let mut out = Vec::with_capacity(cut.len() + 12);
    wire::length_of(&mut out, number, cut.len());
    out.extend_from_slice(&cut);
    Some(out)
}

/// Cuts the values of attributes to `most` bytes. They are encoded as in a span, and are returned as field
/// `attributes` of another message, with the number of cut ones as field `dropped`.
pub(crate) fn attributes_of_other(
    encoded: &[u8],
    most: usize,
    attributes: u32,
    dropped: u32,
) -> Vec<u8> {
    let cut = span_fields(encoded, most);
    let mut out = Vec::with_capacity(encoded.len().min(most));
    for field in fields(cut.as_deref().unwrap_or(encoded)) {
        match (field.number, field.content) {
            (span::ATTRIBUTES, Content::Bytes(bytes)) => wire::bytes(&mut out, attributes, bytes),
            (span::DROPPED_ATTRIBUTES_COUNT, Content::Number(count)) => {
                wire::uint32(&mut out, dropped, count_of(count));
            }
            _ => {}
        }
    }
    out
}

/// Cuts the one log record of `encoded`, as it stands in a `ScopeLogs`, to `most` bytes. `None` if that has no
/// effect.
pub(crate) fn encoded_log_record(encoded: &[u8], most: usize) -> Option<Vec<u8>> {
    const ATTRIBUTES: u32 = 6;
    const DROPPED: u32 = 7;
    let only = read_field(encoded).filter(|(_, rest)| rest.is_empty());
    let (WireField { number, content: Content::Bytes(record), .. }, _) = only? else { return None };
    if record.len() <= most {
        return None;
    }
    let cut = message_with_attributes(record, most, ATTRIBUTES, DROPPED);
    let mut out = Vec::with_capacity(cut.len() + 12);
    wire::length_of(&mut out, number, cut.len());
    out.extend_from_slice(&cut);
    (out.len() < encoded.len()).then_some(out)
}

/// Cuts the attributes of the encoded fields of a `ResourceSpans` or `ResourceLogs` to `most` bytes. `None` if
/// that has no effect.
#[cfg(any(feature = "_otlp-path", feature = "outbox"))]
pub(crate) fn resource_fields(encoded: &[u8], most: usize) -> Option<Vec<u8>> {
    const RESOURCE: u32 = 1;
    const ATTRIBUTES: u32 = 1;
    const DROPPED: u32 = 2;
    let mut out = Vec::new();
    for field in fields(encoded) {
        let WireField { number: RESOURCE, content: Content::Bytes(resource), .. } = field else {
            out.extend_from_slice(field.raw);
            continue;
        };
        let cut = message_with_attributes(resource, most, ATTRIBUTES, DROPPED);
        wire::length_of(&mut out, RESOURCE, cut.len());
        out.extend_from_slice(&cut);
    }
    (out.len() < encoded.len()).then_some(out)
}

/// A message other than a span, with its attributes cut to `most` bytes. They are its fields `attributes`,
/// and `dropped` is the number of those that were cut; the other fields stay as they are.
fn message_with_attributes(message: &[u8], most: usize, attributes: u32, dropped: u32) -> Vec<u8> {
    let (mut as_of_span, mut out) = (Vec::new(), Vec::new());
    for field in fields(message) {
        match (field.number, field.content) {
            (number, Content::Bytes(bytes)) if number == attributes => {
                wire::bytes(&mut as_of_span, span::ATTRIBUTES, bytes);
            }
            (number, Content::Number(count)) if number == dropped => {
                let count = count_of(count);
                wire::uint32(&mut as_of_span, span::DROPPED_ATTRIBUTES_COUNT, count);
            }
            _ => out.extend_from_slice(field.raw),
        }
    }
    out.extend_from_slice(&attributes_of_other(&as_of_span, most, attributes, dropped));
    out
}

/// The largest length for which cutting every longer value to it removes `excess` bytes.
fn common_length(sizes: &mut [usize], excess: usize) -> usize {
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    let mut longer = 0; // bytes of the values up to this one
    for (at, size) in sizes.iter().enumerate() {
        longer += size;
        let next = sizes.get(at + 1).copied().unwrap_or(0).max(SHORTEST);
        let values = at + 1;
        // What all of them together have beyond the length of the next.
        if longer.saturating_sub(next * values) >= excess {
            return ((longer - excess) / values).max(SHORTEST);
        }
    }
    SHORTEST
}

#[cfg(test)]
mod tests;
