//! The answers, as the API writes them. Times are milliseconds since the epoch, with microseconds
//! behind the point.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value as Json;

use crate::desk::answer::{self, Answer};
use crate::desk::query::datum::{KINDS, ValueKind};
use crate::desk::query::property::PROPERTIES;

/// A page of a list.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct List<T> {
    pub(crate) rows: Vec<T>,
    /// How many there are on all pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<u64>,
    /// The `cursor` of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// One leaf of a document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct LeafView {
    pub(crate) field: String,
    #[serde(rename = "type")]
    pub(crate) kind: ValueKind,
    pub(crate) value: Json,
    pub(crate) given: f64,
    /// The span it is about; missing if it is about a whole trace or session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) span_id: Option<String>,
}

/// A trace. A list of traces with a value of a field includes traces without a received span: they have no
/// spans and no name, and start at the time of that value.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TraceRow {
    pub(crate) trace_id: String,
    pub(crate) name: String,
    pub(crate) service: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) start: f64,
    pub(crate) duration_ms: f64,
    pub(crate) spans: i64,
    pub(crate) errors: i64,
    pub(crate) session_id: Option<String>,
    pub(crate) feedback: Vec<LeafView>,
}

/// The traces before and after one in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Neighbours {
    pub(crate) newer: Option<String>,
    pub(crate) older: Option<String>,
    /// Its position, from 1; `None` if it is not in the list.
    pub(crate) position: Option<u64>,
    pub(crate) total: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct SessionRow {
    pub(crate) session_id: String,
    pub(crate) service: Option<String>,
    /// The start of its first trace.
    pub(crate) start: Option<f64>,
    /// The start of its latest trace.
    pub(crate) last: Option<f64>,
    pub(crate) traces: i64,
    pub(crate) traces_with_feedback: i64,
    /// Leaves of feedback in its traces.
    pub(crate) feedback_leaves: i64,
    pub(crate) spans: i64,
    pub(crate) errors: i64,
    /// Feedback about the whole session.
    pub(crate) feedback: Vec<LeafView>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct SessionView {
    #[serde(flatten)]
    pub(crate) row: SessionRow,
    pub(crate) document: Option<DocumentView>,
    /// The earliest first.
    pub(crate) list: Vec<TraceRow>,
}

/// All feedback about one target: folded, and its history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct DocumentView {
    /// Leaves by namespace: `feedback` and `metrics` are never mixed.
    pub(crate) namespaces: BTreeMap<String, Vec<LeafView>>,
    /// Each change, the earliest first.
    pub(crate) history: Vec<Change>,
}

/// One submission, and what it changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Change {
    pub(crate) time: f64,
    /// The author, if known.
    pub(crate) by: Option<String>,
    /// The span that carries it.
    pub(crate) span_id: String,
    pub(crate) trace_id: String,
    /// Given after the end of its target.
    pub(crate) late: bool,
    /// The form in which it arrived, if that is another emitter's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) form: Option<&'static str>,
    pub(crate) set: Vec<LeafView>,
    /// Keys whose values the change removed.
    pub(crate) retracted: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct TraceView {
    pub(crate) trace_id: String,
    pub(crate) start: Option<f64>,
    pub(crate) duration_ms: f64,
    pub(crate) session_id: Option<String>,
    /// Feedback about the whole trace.
    pub(crate) document: Option<DocumentView>,
    /// Feedback about its session.
    pub(crate) session_document: Option<DocumentView>,
    /// Each after its parent, siblings by their start. The carriers of feedback about the trace or its
    /// spans are among them, each after its target, in whichever trace they are.
    pub(crate) spans: Vec<SpanView>,
    /// Whether spans were left out.
    pub(crate) truncated: bool,
    /// Feedback about spans of it that were not received.
    pub(crate) waiting: Vec<UnmatchedSpan>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct UnmatchedSpan {
    pub(crate) span_id: String,
    pub(crate) document: DocumentView,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct SpanView {
    /// The trace it is in: of a carrier, often not the trace that is shown.
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) parent_id: Option<String>,
    /// Its depth in the tree.
    pub(crate) depth: usize,
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) start: f64,
    pub(crate) duration_ms: f64,
    pub(crate) status: &'static str,
    pub(crate) status_message: Option<String>,
    pub(crate) service: Option<String>,
    pub(crate) scope: String,
    /// It only carries feedback about another span.
    pub(crate) carrier: bool,
    pub(crate) attributes: BTreeMap<String, Json>,
    pub(crate) resource: BTreeMap<String, Json>,
    pub(crate) events: Vec<EventView>,
    pub(crate) links: Vec<LinkView>,
    pub(crate) document: Option<DocumentView>,
    /// What a model was asked and answered, by the attributes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<Answer>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct EventView {
    pub(crate) name: String,
    pub(crate) time: f64,
    pub(crate) attributes: BTreeMap<String, Json>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct LinkView {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) attributes: BTreeMap<String, Json>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct FieldRow {
    pub(crate) field: String,
    pub(crate) source: &'static str,
    /// Its most frequent type, which decides its measures.
    #[serde(rename = "type")]
    pub(crate) kind: ValueKind,
    /// The number of targets, or of resources, with a value.
    pub(crate) count: i64,
    /// The number of values of each type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) types: BTreeMap<&'static str, i64>,
}

impl FieldRow {
    /// A field of documents, by the number of values of each of [`KINDS`].
    pub(crate) fn said(field: &str, counts: [i64; 4]) -> Self {
        let types = KINDS.into_iter().zip(counts).filter(|(_, count)| *count > 0);
        Self {
            field: field.to_owned(),
            source: "said",
            kind: ValueKind::most_frequent(counts),
            count: counts.iter().sum(),
            types: types.map(|(kind, count)| (kind.name(), count)).collect(),
        }
    }

    /// An attribute of this number of resources.
    pub(crate) fn of_resources(field: String, count: i64) -> Self {
        Self { field, source: "resource", kind: ValueKind::Text, count, types: BTreeMap::new() }
    }

    /// The properties of this number of traces, and what their answers may have.
    pub(crate) fn of_traces(count: i64) -> impl Iterator<Item = Self> {
        let properties = PROPERTIES.into_iter().map(|(name, _, kind)| (name, "trace", kind));
        let of_answers =
            answer::field::FIELDS.into_iter().map(|(name, _, kind)| (name, "answer", kind));
        properties.chain(of_answers).map(move |(name, source, kind)| {
            let field = name.to_owned();
            Self { field, source, kind, count, types: BTreeMap::new() }
        })
    }

    /// Sorts by importance: feedback, other namespaces, resources, traces.
    pub(crate) fn sort(rows: &mut [Self]) {
        rows.sort_by(|a, b| {
            let rank = |row: &Self| match (row.source, row.field.starts_with("feedback.")) {
                (_, true) => 0,
                ("said", _) => 1,
                ("resource", _) => 2,
                _ => 3,
            };
            rank(a).cmp(&rank(b)).then(b.count.cmp(&a.count)).then_with(|| a.field.cmp(&b.field))
        });
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ValueRow {
    pub(crate) value: String,
    /// Only for fields with values of several types.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<ValueKind>,
    pub(crate) count: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct CommentRow {
    pub(crate) field: String,
    pub(crate) text: String,
    pub(crate) given: f64,
    /// The author, if known.
    pub(crate) by: Option<String>,
    #[serde(flatten)]
    pub(crate) about: DatasetRow,
}

/// A target with its input and output.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DatasetRow {
    pub(crate) trace_id: Option<String>,
    pub(crate) span_id: Option<String>,
    pub(crate) session_id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) service: Option<String>,
    pub(crate) start: f64,
    /// The system prompt.
    pub(crate) system: Json,
    pub(crate) input: Json,
    pub(crate) output: Json,
    pub(crate) model: Option<String>,
    pub(crate) agent: Option<String>,
    pub(crate) input_tokens: Option<i64>,
    pub(crate) output_tokens: Option<i64>,
    pub(crate) total_tokens: Option<i64>,
    /// The names of the tools that the model could call.
    pub(crate) tools: Option<Vec<String>>,
    pub(crate) ground_truth: Option<String>,
    /// Leaves by their key without the namespace.
    pub(crate) feedback: BTreeMap<String, Json>,
    pub(crate) metrics: BTreeMap<String, Json>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct UnmatchedRow {
    /// Why it belongs to no trace.
    pub(crate) reason: &'static str,
    /// The target, if known.
    pub(crate) trace_id: Option<String>,
    pub(crate) span_id: Option<String>,
    pub(crate) given: f64,
    pub(crate) said: Vec<LeafView>,
}

/// The feedback of one span, as it arrived.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FeedbackEvent {
    pub(crate) time: f64,
    pub(crate) by: Option<String>,
    pub(crate) scope: &'static str,
    pub(crate) trace_id: Option<String>,
    pub(crate) span_id: Option<String>,
    pub(crate) session_id: Option<String>,
    /// The name of the span it is about.
    pub(crate) name: Option<String>,
    pub(crate) late: bool,
    pub(crate) set: Vec<LeafView>,
    pub(crate) cleared: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Chart {
    pub(crate) field: String,
    /// The field's most frequent type, which decides its measures.
    #[serde(rename = "type")]
    pub(crate) kind: ValueKind,
    pub(crate) measures: Vec<String>,
    pub(crate) bucket: &'static str,
    pub(crate) tz: String,
    /// The filter as parsed.
    pub(crate) filter: String,
    #[serde(flatten)]
    pub(crate) part: ChartPart,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compare: Option<ChartComparison>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ChartComparison {
    /// `previous`, or the version.
    pub(crate) with: String,
    #[serde(flatten)]
    pub(crate) part: ChartPart,
}

/// The figures of one time range.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ChartPart {
    pub(crate) from: Option<f64>,
    pub(crate) to: Option<f64>,
    /// How many values there are.
    pub(crate) values: u64,
    /// The number of values of other types, which are left out.
    pub(crate) left_out: BTreeMap<&'static str, u64>,
    /// The number of values that are left out because their time is implausible: before 2000 or more than
    /// a year from now, beyond an end of the range that is open.
    pub(crate) out_of_time: u64,
    /// The start of each bucket, and the end of the last.
    pub(crate) buckets: Vec<f64>,
    /// The same as text.
    pub(crate) labels: Vec<String>,
    pub(crate) total: Series,
    /// One for each group, the largest first; empty without groups.
    pub(crate) groups: Vec<Series>,
    /// The number of groups that `other` combines.
    pub(crate) other_groups: usize,
}

/// One line of a chart.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    /// The value of the group; `null` for values without one.
    pub(crate) group: Option<String>,
    /// It combines the groups that are not shown.
    pub(crate) is_other: bool,
    pub(crate) values: u64,
    /// Over the whole range. `null` is not a number.
    pub(crate) overall: BTreeMap<String, Option<f64>>,
    /// One figure for each bucket, by measure; `null` in an empty bucket.
    pub(crate) points: BTreeMap<String, Vec<Option<f64>>>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) version: &'static str,
    /// `sqlite` or `clickhouse`.
    pub(crate) store: &'static str,
    /// Of the file; 0 without a file.
    pub(crate) schema: i64,
    pub(crate) spans: i64,
    /// Traces with a received span.
    pub(crate) traces: i64,
    /// Spans with feedback or scores.
    pub(crate) documents: i64,
    /// Targets that were not received.
    pub(crate) waiting: i64,
    /// Documents without a trace or session id.
    pub(crate) adrift: i64,
    pub(crate) used_bytes: u64,
    pub(crate) file_bytes: u64,
    pub(crate) services: Vec<String>,
    /// Whether some of the data is generated: a resource has `demo = true`.
    pub(crate) demo: bool,
    pub(crate) first: Option<f64>,
    pub(crate) last: Option<f64>,
}
