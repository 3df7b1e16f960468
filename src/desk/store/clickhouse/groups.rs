//! Groups as SQL: which group each leaf belongs to, by any field. As with filters the nearest value decides.

use super::answers;
use super::field::Field;
use super::filter::{FilterContext, of_trace};
use super::relations::Relations;
use super::sql::text;
use crate::desk::answer::field::AnswerField;
use crate::desk::query::Range;
use crate::desk::query::property::Property;

/// What has to be joined to rows of `leaves`, which stand in the query as `l`, and the group of each then:
/// a text, or nothing.
pub(super) struct Groups {
    pub(super) joins: String,
    pub(super) group: String,
}

impl Groups {
    /// All in one.
    pub(super) fn none() -> Self {
        Self { joins: String::new(), group: "CAST(NULL, 'Nullable(String)')".to_owned() }
    }

    pub(super) fn of(context: &FilterContext<'_>, name: &str, field: &Field, range: Range) -> Self {
        let relations = context.relations;
        let (leaves, traces) = (&relations.leaves, &relations.traces);
        let by_trace = |query: &str| {
            format!("LEFT ANY JOIN ({query}) AS of_trace ON of_trace.trace_id = l.trace_id")
        };
        match field {
            Field::Leaf(key) => {
                let is_it = format!("field = {}", text(key));
                let of_trace = format!(
                    "SELECT trace_id, argMin(value, (time, value)) AS value FROM {leaves}
                     WHERE {is_it} AND trace_id != '' GROUP BY trace_id"
                );
                let mut joins = format!(
                    "LEFT ANY JOIN (SELECT target, value FROM {leaves} WHERE {is_it}) AS own
                         ON own.target = l.target {}",
                    by_trace(&of_trace)
                );
                let mut group = "coalesce(own.value, of_trace.value)".to_owned();
                if context.kinds.of(key).has_sessions {
                    joins = format!(
                        "{joins} LEFT ANY JOIN (
                             SELECT t.trace_id AS trace_id, s.value AS value FROM {traces} AS t INNER JOIN (
                                 SELECT session_id, any(value) AS value FROM {leaves}
                                 WHERE {is_it} AND session_id != '' GROUP BY session_id
                             ) AS s ON s.session_id = t.session_id
                         ) AS of_session ON of_session.trace_id = l.trace_id"
                    );
                    group = "coalesce(own.value, of_trace.value, of_session.value)".to_owned();
                }
                Self { joins, group }
            }
            Field::Resource => Self {
                joins: format!(
                    "LEFT ANY JOIN (SELECT hash, attributes[{0}] AS value FROM {1} WHERE mapContains(attributes, {0})
                     ) AS resource ON resource.hash = l.resource",
                    text(name),
                    relations.resources
                ),
                group: "resource.value".to_owned(),
            },
            Field::Trace(property) => {
                let group = trace_group(*property);
                let query = format!("SELECT t.trace_id AS trace_id, {group} AS value FROM {traces} AS t");
                let group = match property {
                    Property::SessionId => "coalesce(nullIf(l.session_id, ''), of_trace.value)",
                    _ => "of_trace.value",
                };
                Self { joins: by_trace(&query), group: group.to_owned() }
            }
            Field::Answer(field) => {
                let query = of_answers(relations, *field, range);
                Self { joins: by_trace(&query), group: "of_trace.value".to_owned() }
            }
            Field::Attribute => {
                let (spans, attributes, name) = (&relations.spans, &relations.attributes, text(name));
                let query = format!(
                    "SELECT TraceId AS trace_id, argMin({attributes}[{name}], (Timestamp, SpanId)) AS value
                     FROM {spans} WHERE mapContains({attributes}, {name}) AND {} GROUP BY TraceId",
                    relations.since(range)
                );
                Self { joins: by_trace(&query), group: "of_trace.value".to_owned() }
            }
        }
    }
}

/// `trace_id` and `value` of each trace with such a field: the model of the first span that has one, or tokens.
pub(super) fn of_answers(relations: &Relations, field: AnswerField, range: Range) -> String {
    match field {
        AnswerField::Tokens(count) => {
            let tokens = answers::tokens(relations, count, range);
            format!("SELECT trace_id, toString(value) AS value FROM ({tokens})")
        }
        AnswerField::Model => {
            let model = answers::model(relations);
            format!(
                "SELECT TraceId AS trace_id, argMin({model}, (Timestamp, SpanId)) AS value
                 FROM {} WHERE {model} != '' AND {} GROUP BY TraceId",
                relations.spans,
                relations.since(range)
            )
        }
    }
}

/// A property of a row of `traces`, which stands in the query as `t`, as a text to group by.
pub(super) fn trace_group(property: Property) -> String {
    let (_, column) = of_trace(property);
    match property {
        Property::Duration => "toString(intDiv(t.finish - t.start, 1000000))".to_owned(),
        Property::SessionId => format!("nullIf({column}, '')"),
        _ => format!("toNullable(toString({column}))"),
    }
}
