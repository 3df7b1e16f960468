//! The relations every question is made of, as SQL to select from.
//!
//! | relation | a row for each |
//! | --- | --- |
//! | `spans` | span, as the Collector's exporter writes it |
//! | `resources` | resource: `hash`, `attributes` |
//! | `traces` | trace: `trace_id`, `number`, `start`, `finish`, `spans`, `errors`, `session_id`, `root_name`, `root_span`, `root_resource`, `resources` |
//! | `sessions` | session that has traces: `session_id`, `start`, `last`, `resource`, `traces`, `spans`, `errors` |
//! | `said` | span that says something: see `sql/said.sql` |
//! | `leaves` | leaf of what was said, folded: `field`, `value`, `given`, `target`, `trace_id`, `span_id`, `session_id`, `time`, `resource`, `arrived` |
//!
//! Each can be worked out from the exporter's table alone. Where the desk's own tables are there
//! ([`super::tables`]), all but the spans are read from those.

use super::address::Address;
use super::client::Client;
use super::sql::{fill, name, text};
use super::tables;
use crate::desk::store::Error;
use crate::document::NAMESPACES;

/// The columns of the exporter's table that are read.
const COLUMNS: [&str; 17] = [
    "Timestamp",
    "TraceId",
    "SpanId",
    "ParentSpanId",
    "SpanName",
    "SpanKind",
    "ResourceAttributes",
    "ScopeName",
    "SpanAttributes",
    "Duration",
    "StatusCode",
    "StatusMessage",
    "Events.Timestamp",
    "Events.Name",
    "Events.Attributes",
    "Links.TraceId",
    "Links.SpanId",
];

/// Where each relation is to be had.
#[derive(Clone, Debug)]
pub(super) struct Relations {
    pub(super) spans: String,
    /// The attributes of a span, and of a resource, as maps of text.
    pub(super) attributes: String,
    pub(super) resource_attributes: String,
    pub(super) event_attributes: String,
    pub(super) link_attributes: String,
    pub(super) resources: String,
    pub(super) traces: String,
    pub(super) sessions: String,
    pub(super) said: String,
    pub(super) leaves: String,
    /// Whether the desk's own tables are there.
    pub(super) has_tables: bool,
}

impl Relations {
    /// Looks what there is.
    pub(super) fn find(client: &Client) -> Result<Self, Error> {
        let address = client.address();
        let sql = format!(
            "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {}",
            text(address.table())
        );
        let columns: Vec<(String, String)> = client.rows(&sql)?;
        let missing: Vec<_> = COLUMNS
            .into_iter()
            .filter(|wanted| !columns.iter().any(|(found, _)| found == wanted))
            .collect();
        if columns.is_empty() {
            return Err(Error::Engine(format!(
                "there is no table `{}` in the database `{}`: the Collector's clickhouse exporter makes it, and \
                 ?table=… names another",
                address.table(),
                address.database()
            )));
        }
        if !missing.is_empty() {
            return Err(Error::Engine(format!(
                "the table `{}` is not one of the Collector's clickhouse exporter: it has no {}",
                address.table(),
                missing.join(", ")
            )));
        }
        let is_json =
            columns.iter().any(|(name, kind)| name == "SpanAttributes" && kind.starts_with("JSON"));
        let sql = format!(
            "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name IN ({})",
            super::sql::list(tables::NAMES)
        );
        let found: usize = client.row::<(usize,)>(&sql)?.0;
        Ok(Self::of(address, is_json, found == tables::NAMES.len()))
    }

    /// Those that are worked out from the exporter's table alone, or read from the desk's tables.
    pub(super) fn of(address: &Address, is_json: bool, has_tables: bool) -> Self {
        let column = |column: &str| match is_json {
            // Paths and their values, both in the same order.
            true => format!("mapFromArrays(JSONAllPaths({column}), JSONAllValues({column}))"),
            false => column.to_owned(),
        };
        let columns = |column: &str| match is_json {
            true => format!(
                "arrayMap(one -> mapFromArrays(JSONAllPaths(one), JSONAllValues(one)), {column})"
            ),
            false => column.to_owned(),
        };
        let mut relations = Self {
            spans: name(address.table()),
            attributes: column("SpanAttributes"),
            resource_attributes: column("ResourceAttributes"),
            event_attributes: columns("Events.Attributes"),
            link_attributes: columns("Links.Attributes"),
            resources: String::new(),
            traces: String::new(),
            sessions: String::new(),
            said: String::new(),
            leaves: String::new(),
            has_tables,
        };
        if has_tables {
            relations.said = tables::SAID.to_owned();
            relations.leaves = tables::LEAVES.to_owned();
            relations.resources = format!(
                "(SELECT hash, any(attributes) AS attributes FROM {} GROUP BY hash)",
                tables::RESOURCES
            );
            let parts = [("parts", tables::TRACE_PARTS)];
            relations.traces = relation(&fill(include_str!("sql/traces_of_parts.sql"), &parts));
        } else {
            relations.said = relation(&relations.fill(include_str!("sql/said.sql")));
            relations.resources = relation(&relations.fill(include_str!("sql/resources.sql")));
            relations.traces = relation(&relations.fill(include_str!("sql/traces.sql")));
        }
        relations.sessions = relation(&relations.fill(include_str!("sql/sessions.sql")));
        if !has_tables {
            relations.leaves = relation(&relations.fill(include_str!("sql/leaves.sql")));
        }
        relations
    }

    /// A template, with what depends on the exporter's table and on where the other relations are.
    pub(super) fn fill(&self, template: &str) -> String {
        let attributes = &self.attributes;
        let namespaces = NAMESPACES.join("|");
        let in_namespace = format!("match(key, '^(honeyhive_)?({namespaces})[.]')");
        let concerns_feedback =
            format!("match(key, '^(tracing_feedback|(honeyhive_)?({namespaces}))[.]')");
        let values = [
            ("spans", self.spans.as_str()),
            ("said", &self.said),
            ("traces", &self.traces),
            ("sessions", &self.sessions),
            ("attributes", attributes),
            ("resource_attributes", &self.resource_attributes),
            ("resource", &format!("cityHash64({})", self.resource_attributes)),
            ("late", &format!("{attributes}['tracing_feedback.late']")),
            ("session", &format!("{attributes}['session.id']")),
            ("in_namespace", &in_namespace),
            ("concerns_feedback", &concerns_feedback),
            // Full keys of all that stands above a key.
            (
                "above_key",
                "arrayMap(n -> arrayStringConcat(arraySlice(splitByChar('.', key), 1, n), '.'), \
                 range(1, length(splitByChar('.', key))))",
            ),
            ("target_of_span", "reinterpretAsUInt128(sipHash128(TraceId, SpanId, ''))"),
            ("target_of_trace", "reinterpretAsUInt128(sipHash128(trace_id, '', ''))"),
            ("target_of_session", "reinterpretAsUInt128(sipHash128('', '', session_id))"),
        ];
        fill(template, &values)
    }
}

/// A query to select from, without its comments.
fn relation(query: &str) -> String {
    let lines = query.lines().filter(|line| !line.trim_start().starts_with("--"));
    format!("(\n{}\n)", lines.collect::<Vec<_>>().join("\n"))
}
