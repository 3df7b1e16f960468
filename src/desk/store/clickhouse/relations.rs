//! The relations that queries select from, as SQL.
//!
//! | relation | a row for each |
//! | --- | --- |
//! | `spans` | span, as the Collector's exporter writes it |
//! | `resources` | resource: `hash`, `attributes` |
//! | `traces` | trace: `trace_id`, `number`, `start`, `finish`, `spans`, `errors`, `session_id`, `root_name`, `root_span`, `root_resource`, `resources` |
//! | `sessions` | session that has traces: `session_id`, `start`, `last`, `resource`, `traces`, `spans`, `errors` |
//! | `said` | document of a span: see `sql/documents.sql` |
//! | `leaves` | leaf of a folded document: `field`, `value`, `given`, `target`, `trace_id`, `span_id`, `session_id`, `time`, `resource`, `arrived` |
//!
//! Each can be worked out from the exporter's table alone, and then stands before a query that needs it as
//! a common table expression: worked out once where ClickHouse can do that (from 26.3 on), and otherwise
//! wherever it is named. Where the desk's own tables are there ([`super::tables`]), all but the spans are
//! read from those.

use super::address::Address;
use super::client::ClickHouseClient;
use super::sql::{fill, name, text};
use super::tables;
use crate::desk::query::Range;
use crate::desk::store::Error;
use crate::desk::store::session::SESSION_KEYS;
use crate::feedback::document::NAMESPACES;

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

/// The duration of a span. The exporter takes an end of 0, of a span that has not ended, from its start, and writes
/// the difference without a sign. Of the rows of one span the longest counts: it is its last state.
pub(super) const DURATION: &str = "greatest(toInt64(Duration), 0)";

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
    /// Whether ClickHouse works out once what a query names more often.
    pub(super) is_materialized: bool,
    /// What the names of relations stand for, each after those it is made of.
    named: Vec<(&'static str, String)>,
}

/// The setting by which it does.
pub(super) const MATERIALIZE: &str = "enable_materialized_cte";

impl Relations {
    /// Looks what there is.
    pub(super) fn find(client: &ClickHouseClient) -> Result<Self, Error> {
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
        let sql = format!("SELECT count() FROM system.settings WHERE name = '{MATERIALIZE}'");
        let can_materialize = client.row::<(u64,)>(&sql)?.0 > 0;
        let relations = Self::of(address, is_json, found == tables::NAMES.len());
        Ok(Self { is_materialized: can_materialize && !relations.has_tables, ..relations })
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
            is_materialized: false,
            named: Vec::new(),
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
            relations.sessions = relation(&relations.fill(include_str!("sql/sessions.sql")));
        } else {
            let names =
                ["desk_said", "desk_resources", "desk_traces", "desk_sessions", "desk_leaves"];
            let [said, resources, traces, sessions, leaves] = names.map(str::to_owned);
            relations = Self { said, resources, traces, sessions, leaves, ..relations };
            let queries = [
                include_str!("sql/documents.sql"),
                include_str!("sql/resources.sql"),
                include_str!("sql/traces.sql"),
                include_str!("sql/sessions.sql"),
                include_str!("sql/leaves.sql"),
            ];
            let queries = queries.map(|query| relation(&relations.fill(query)));
            relations.named = names.into_iter().zip(queries).collect();
        }
        relations
    }

    /// A query, with what the names in it stand for before it.
    pub(super) fn query(&self, sql: &str) -> String {
        let mut needed: Vec<String> = Vec::new();
        for (name, query) in self.named.iter().rev() {
            if sql.contains(name) || needed.iter().any(|needed| needed.contains(name)) {
                let once = if self.is_materialized { "MATERIALIZED " } else { "" };
                needed.push(format!("{name} AS {once}{query}"));
            }
        }
        if needed.is_empty() {
            return sql.to_owned();
        }
        needed.reverse();
        format!("WITH {}\n{sql}", needed.join(",\n"))
    }

    /// The spans in which attributes are looked for, as a condition: those since the beginning of a range, without carriers.
    pub(super) fn since(&self, range: Range) -> String {
        let is_none = self.fill("{late} != 'true'");
        match range.from {
            Some(from) => {
                format!("{is_none} AND Timestamp >= fromUnixTimestamp64Nano(toInt64({from}))")
            }
            None => is_none,
        }
    }

    /// A template, with what depends on the exporter's table and on where the other relations are.
    pub(super) fn fill(&self, template: &str) -> String {
        let attributes = &self.attributes;
        let namespaces = NAMESPACES.join("|");
        let in_namespace = format!("match(key, '^(honeyhive_)?({namespaces})[.]')");
        let concerns_feedback =
            format!("match(key, '^(tracing_feedback|(honeyhive_)?({namespaces}))[.]')");
        // The first that is not empty, by the rules of `session_of`.
        let ids =
            SESSION_KEYS.map(|key| format!("{attributes}['{key}'] != '', {attributes}['{key}']"));
        let session = format!("multiIf({}, '')", ids.join(", "));
        let values = [
            ("spans", self.spans.as_str()),
            ("said", &self.said),
            ("traces", &self.traces),
            ("sessions", &self.sessions),
            ("attributes", attributes),
            ("resource_attributes", &self.resource_attributes),
            ("resource", &format!("cityHash64({})", self.resource_attributes)),
            ("late", &format!("{attributes}['tracing_feedback.late']")),
            ("duration", DURATION),
            ("session", &session),
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
