//! The state of a store is a function of the set of spans.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use proptest::prelude::*;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, TransactionBehavior};

use super::cache::RowCache;
use super::retention::{self, Retention, RetentionStep};
use super::write::write;
use super::{Sqlite, open, schema};
use crate::collector::foreign;
use crate::collector::receive::log_record::log_record;
use crate::collector::receive::received::spans;
use crate::collector::{Target, Value, feedback};
use crate::desk::query::TraceQuery;
use crate::desk::store::Store;
use crate::desk::store::batch::{SpanBatch, nanos};
use crate::desk::store::sqlite::OpenError;
use crate::desk::store::view::{List, TraceRow};

fn any(value: any_value::Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn text(key: &str, text: &str) -> KeyValue {
    let value = any(any_value::Value::StringValue(text.to_owned()));
    KeyValue { key: key.to_owned(), value, key_strindex: 0 }
}

fn int(key: &str, int: i64) -> KeyValue {
    KeyValue { key: key.to_owned(), value: any(any_value::Value::IntValue(int)), key_strindex: 0 }
}

fn boolean(key: &str, value: bool) -> KeyValue {
    let value = any(any_value::Value::BoolValue(value));
    KeyValue { key: key.to_owned(), value, key_strindex: 0 }
}

/// A span as the tests make it up: few ids, few times and few keys, so that much coincides.
#[derive(Clone, Debug)]
struct Made {
    trace: u8,
    id: u8,
    parent: u8,
    start: u8,
    length: u8,
    service: u8,
    session: Option<u8>,
    role: MadeRole,
    time: Option<u8>,
    rating: Option<u8>,
    nested: Option<u8>,
    cleared: Option<bool>,
    is_error: bool,
    honeyhive: bool,
    /// An event `gen_ai.evaluation.result` of the span: its time.
    judged: Option<u8>,
}

#[derive(Clone, Debug)]
enum MadeRole {
    Plain,
    Scoped(bool),
    Carrier(Option<(u8, u8)>),
    ScopedCarrier(bool, Option<(u8, u8)>),
    /// What stands for a log record, of this crate or of another emitter, about a span.
    Record(bool, (u8, u8)),
}

impl Made {
    fn span(&self) -> Span {
        if let MadeRole::Record(is_own, target) = &self.role {
            return self.record(*is_own, *target);
        }
        let mut attributes = Vec::new();
        let prefix = if self.honeyhive { "honeyhive_" } else { "" };
        if let Some(session) = self.session {
            attributes.push(text("session.id", &format!("s{session}")));
        }
        if let Some(rating) = self.rating {
            let key = format!("{prefix}feedback.rating");
            attributes.push(match rating {
                0 => boolean(&key, false),
                1 => text(&key, "good"),
                rating => int(&key, i64::from(rating)),
            });
        }
        if let Some(nested) = self.nested {
            attributes.push(int(&format!("{prefix}feedback.step.{nested}"), 1));
            attributes.push(int("metrics.score", i64::from(nested)));
        }
        if let Some(time) = self.time {
            attributes.push(int("tracing_feedback.time_unix_nano", i64::from(time)));
        }
        if let Some(all) = self.cleared {
            let key = if all { "feedback" } else { "feedback.step" };
            let value = any_value::Value::StringValue(format!("{prefix}{key}"));
            let values = vec![AnyValue { value: Some(value) }];
            attributes.push(KeyValue {
                key: "tracing_feedback.cleared".to_owned(),
                value: any(any_value::Value::ArrayValue(ArrayValue { values })),
                key_strindex: 0,
            });
        }
        let (late, scope, link) = match &self.role {
            MadeRole::Plain => (false, None, None),
            MadeRole::Scoped(session) => (false, Some(session), None),
            MadeRole::Carrier(link) => (true, None, *link),
            MadeRole::ScopedCarrier(session, link) => (true, Some(session), *link),
            MadeRole::Record(..) => unreachable!("made above"),
        };
        if late {
            attributes.push(boolean("tracing_feedback.late", true));
        }
        if let Some(session) = scope {
            let scope = if *session { "session" } else { "trace" };
            attributes.push(text("tracing_feedback.scope", scope));
        }
        let links = link.map(|(trace, span)| span::Link {
            trace_id: trace_id(trace).to_vec(),
            span_id: span_id(span).to_vec(),
            ..span::Link::default()
        });
        let parent = if self.parent == 0 { vec![] } else { span_id(self.parent).to_vec() };
        Span {
            trace_id: trace_id(self.trace).to_vec(),
            span_id: span_id(self.id).to_vec(),
            parent_span_id: parent,
            name: format!("n{}", self.id % 3),
            start_time_unix_nano: u64::from(self.start),
            end_time_unix_nano: u64::from(self.start) + u64::from(self.length),
            events: self.judged.map(|time| self.event(time)).into_iter().collect(),
            status: self.is_error.then(|| Status { code: 2, message: String::new() }),
            attributes,
            links: links.into_iter().collect(),
            ..Span::default()
        }
    }
}

impl Made {
    /// The attributes of a judgement.
    fn judgement(&self) -> Vec<KeyValue> {
        let score = any(any_value::Value::DoubleValue(f64::from(self.rating.unwrap_or(0) % 2)));
        let key = "gen_ai.evaluation.score.value".to_owned();
        let score = KeyValue { key, value: score, key_strindex: 0 };
        let label = if self.rating.unwrap_or(0) % 2 == 1 { "true" } else { "false" };
        let name = if self.nested == Some(0) { "step.0" } else { "rating" };
        let mut attributes = vec![text("gen_ai.evaluation.name", name), score];
        attributes.push(text("gen_ai.evaluation.score.label", label));
        if self.nested == Some(1) {
            attributes.push(text("gen_ai.evaluation.explanation", "why"));
        }
        attributes
    }

    fn event(&self, time: u8) -> span::Event {
        span::Event {
            name: "gen_ai.evaluation.result".to_owned(),
            time_unix_nano: u64::from(time),
            attributes: self.judgement(),
            ..span::Event::default()
        }
    }

    fn record(&self, is_own: bool, (trace, span): (u8, u8)) -> Span {
        let mut attributes = self.judgement();
        if is_own {
            attributes.push(text("tracing_feedback.namespace", "feedback"));
            if self.cleared == Some(true) {
                attributes.push(boolean("tracing_feedback.retracted", true));
            }
        }
        let record = LogRecord {
            event_name: "gen_ai.evaluation.result".to_owned(),
            time_unix_nano: u64::from(self.time.unwrap_or(self.start)),
            trace_id: trace_id(trace).to_vec(),
            span_id: span_id(span).to_vec(),
            attributes,
            ..LogRecord::default()
        };
        let record = log_record(record, &Arc::default(), &Arc::default());
        foreign::of_log_record(&record).unwrap()
    }
}

fn trace_id(id: u8) -> [u8; 16] {
    u128::from(id).to_be_bytes()
}

fn span_id(id: u8) -> [u8; 8] {
    // With the highest bit, as ids of eight random bytes often have it.
    (u64::from(id) | u64::from(id % 2) << 63).to_be_bytes()
}

fn request(made: &[Made]) -> ExportTraceServiceRequest {
    let group = |made: &Made| ResourceSpans {
        resource: Some(Resource {
            attributes: vec![text("service.name", &format!("service-{}", made.service))],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans { spans: vec![made.span()], ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: made.iter().map(group).collect() }
}

fn made() -> impl Strategy<Value = Made> {
    let ids = (1..4_u8, 1..7_u8, 0..7_u8);
    let times = (0..6_u8, 0..6_u8, prop::option::weighted(0.7, 0..6_u8));
    let link = || prop::option::weighted(0.9, (1..5_u8, 1..7_u8));
    let role = prop_oneof![
        4 => Just(MadeRole::Plain),
        1 => any_bool().prop_map(MadeRole::Scoped),
        3 => link().prop_map(MadeRole::Carrier),
        1 => (any_bool(), link()).prop_map(|(session, link)| MadeRole::ScopedCarrier(session, link)),
        2 => (any_bool(), (1..5_u8, 1..7_u8)).prop_map(|(own, target)| MadeRole::Record(own, target)),
    ];
    let said = (
        prop::option::of(0..5_u8),
        prop::option::of(0..3_u8),
        prop::option::weighted(0.3, any_bool()),
    );
    let judged = prop::option::weighted(0.3, 0..6_u8);
    let rest = (0..2_u8, prop::option::of(1..3_u8), any_bool(), any_bool(), judged);
    (ids, times, role, said, rest).prop_map(|(ids, times, role, said, rest)| Made {
        trace: ids.0,
        id: ids.1,
        parent: ids.2,
        start: times.0,
        length: times.1,
        time: times.2,
        role,
        rating: said.0,
        nested: said.1,
        cleared: said.2,
        service: rest.0,
        session: rest.1,
        is_error: rest.2,
        honeyhive: rest.3,
        judged: rest.4,
    })
}

fn any_bool() -> impl Strategy<Value = bool> {
    proptest::bool::ANY
}

/// The path of a file that is removed in the end.
struct TestFile(PathBuf);

impl TestFile {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("desk-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory.join("desk.sqlite"))
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        if let Some(directory) = self.0.parent() {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

fn store() -> Connection {
    open(":memory:".as_ref()).unwrap()
}

fn put(connection: &mut Connection, cache: &mut RowCache, requests: &[&[Made]]) {
    let batches: Vec<_> =
        requests.iter().map(|made| SpanBatch::of(request(made)).unwrap()).collect();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    write(&transaction, cache, &batches, 1).unwrap();
    transaction.commit().unwrap();
}

/// All that a reader can see, without the numbers of rows.
fn dump(connection: &Connection) -> String {
    let target = "(SELECT hex(t.trace_id) || ':' || g.span || ':' || coalesce(x.name, '')
                   FROM targets g LEFT JOIN traces t ON t.id = g.trace
                   LEFT JOIN sessions x ON x.id = g.session WHERE g.id = ";
    let queries = [
        "SELECT 'trace', hex(t.trace_id), t.start, t.finish, t.spans, t.errors, s.name, t.root_span,
                n.name, hex(r.hash), t.waiting, t.feedback
         FROM traces t LEFT JOIN sessions s ON s.id = t.session
         LEFT JOIN names n ON n.id = t.root_name LEFT JOIN resources r ON r.id = t.root_resource"
            .to_owned(),
        "SELECT 'span', hex(t.trace_id), s.span, s.parent, s.start, s.duration, n.name, hex(r.hash),
                s.kind, s.flags, hex(s.body)
         FROM spans s JOIN traces t ON t.id = s.trace JOIN names n ON n.id = s.name
         JOIN resources r ON r.id = s.resource"
            .to_owned(),
        "SELECT 'session', s.name, s.start, s.last, hex(r.hash) FROM sessions s
         LEFT JOIN resources r ON r.id = s.resource"
            .to_owned(),
        "SELECT 'of', hex(t.trace_id), hex(r.hash) FROM trace_resources o
         JOIN traces t ON t.id = o.trace JOIN resources r ON r.id = o.resource"
            .to_owned(),
        format!(
            "SELECT 'leaf', f.key, l.time, {target} l.target), hex(t.trace_id), hex(r.hash), l.given,
                    l.type, l.value
             FROM leaves l JOIN fields f ON f.id = l.field LEFT JOIN traces t ON t.id = l.trace
             LEFT JOIN resources r ON r.id = l.resource"
        ),
        format!(
            "SELECT 'target', {target} k.id), k.arrived FROM targets k"
        ),
        format!(
            "SELECT 'document', {target} d.target), hex(t.trace_id), s.span, d.own, d.time
             FROM documents d JOIN spans s ON s.id = d.span JOIN traces t ON t.id = s.trace
             WHERE d.trace = s.trace"
        ),
        "SELECT 'field', key, bools, numbers, texts, others FROM fields".to_owned(),
        "SELECT 'name', name, uses FROM names".to_owned(),
        "SELECT 'scope', name, version, uses FROM scopes".to_owned(),
        "SELECT 'resource', hex(hash), uses FROM resources".to_owned(),
        "SELECT 'text', t.key, t.text, hex(r.hash) FROM resource_texts t
         LEFT JOIN resources r ON r.id = t.resource"
            .to_owned(),
        "SELECT 'meta', key, value FROM meta WHERE value != 0 AND key NOT IN ('deleted', 'changes')"
            .to_owned(),
    ];
    let mut lines = Vec::new();
    for sql in queries {
        let mut statement = connection.prepare(&sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cells = (0..columns).map(|at| match row.get_ref(at).unwrap() {
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                value => format!("{value:?}"),
            });
            lines.push(cells.collect::<Vec<_>>().join(" "));
        }
    }
    lines.sort();
    lines.join("\n")
}

/// When each target was changed, and its leaves.
fn changes(connection: &Connection) -> BTreeMap<i64, (i64, String)> {
    let sql = "SELECT g.id, g.changed, coalesce(group_concat(hex(l.field || ' ' || l.given || ' ' || l.value)), '')
               FROM targets g LEFT JOIN leaves l ON l.target = g.id GROUP BY g.id";
    let mut statement = connection.prepare(sql).unwrap();
    let rows =
        statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn check_against_the_fold(connection: &Connection, made: &[Made]) {
    let received = spans(request(made)).unwrap();
    for trace in 1..5 {
        for id in 1..7 {
            let target =
                Target::Span(TraceId::from_bytes(trace_id(trace)), SpanId::from_bytes(span_id(id)));
            let expected: Vec<_> = feedback(&received, &target)
                .into_iter()
                .filter(|(_, value)| *value != Value::Empty)
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let mut statement = connection
                .prepare(
                    "SELECT f.key, l.type, l.value FROM leaves l JOIN fields f ON f.id = l.field
                     JOIN targets g ON g.id = l.target JOIN traces t ON t.id = g.trace
                     WHERE t.trace_id = ?1 AND g.span = ?2 ORDER BY f.key",
                )
                .unwrap();
            let span = i64::from_be_bytes(span_id(id));
            let mut rows = statement.query((trace_id(trace).as_slice(), span)).unwrap();
            let mut found = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                let value = match super::stored::datum(row, 1, 2).unwrap() {
                    crate::desk::query::datum::Datum::Text(text) => format!("{text:?}"),
                    other => other.text(),
                };
                found.push(format!("{}={value}", row.get::<_, String>(0).unwrap()));
            }
            assert_eq!(found, expected, "{trace}:{id}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Default::default()
    })]

    #[test]
    fn neither_order_nor_repetition_nor_the_cut_of_requests_shows(
        (made, shuffled) in prop::collection::vec(made(), 1..16).prop_flat_map(|made| {
            let twice: Vec<_> = made.iter().chain(&made).cloned().collect();
            (Just(made), Just(twice).prop_shuffle())
        }),
        cuts in prop::collection::vec(1..5_usize, 1..40),
        commits in prop::collection::vec(1..4_usize, 1..40),
    ) {
        let (mut once, mut cache) = (store(), RowCache::default());
        put(&mut once, &mut cache, &[&made]);

        let (mut other, mut cache) = (store(), RowCache::default());
        let mut rest = shuffled.as_slice();
        let mut requests = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (request, later) = rest.split_at(rest.len().min(*cut));
            requests.push(request);
            rest = later;
        }
        let mut rest = requests.as_slice();
        for commit in commits.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (transaction, later) = rest.split_at(rest.len().min(*commit));
            put(&mut other, &mut cache, transaction);
            rest = later;
        }
        let (once, other) = (dump(&once), dump(&other));
        prop_assert!(once == other, "once:\n{once}\n\nother:\n{other}");
    }

    #[test]
    fn a_list_counts_what_its_pages_have(made in prop::collection::vec(made(), 1..16)) {
        let file = TestFile::new("list");
        let (mut connection, mut cache) = (open(&file.0).unwrap(), RowCache::default());
        put(&mut connection, &mut cache, &[&made]);
        let store = Sqlite::new(&file.0, Duration::from_secs(60));
        for filter in [
            "has feedback",
            "has no feedback",
            "has no feedback and has no metrics.score",
            "feedback.rating is false",
            "feedback.rating is not false",
            "name is n1",
            "name is not n1 and has feedback",
            "session.id is s1",
            "service.name is service-1 and status is ok",
            "trace_id is 00000000000000000000000000000004",
        ] {
            let mut query = TraceQuery::default();
            query.selection.filter = filter.parse().unwrap();
            query.page.limit = 100;
            let all = store.traces(&query).unwrap();
            let ids = |list: &List<TraceRow>| -> Vec<String> {
                list.rows.iter().map(|row| row.trace_id.clone()).collect()
            };
            prop_assert_eq!(all.total, Some(all.rows.len() as u64), "{}", filter);
            // Within a range each row is looked at.
            let mut within = query.clone();
            within.selection.range.from = Some(0);
            prop_assert_eq!(ids(&store.traces(&within).unwrap()), ids(&all), "{}", filter);
            let mut paged = Vec::new();
            query.page.limit = 1;
            loop {
                let page = store.traces(&query).unwrap();
                prop_assert_eq!(page.total, all.total, "{}", filter);
                paged.extend(ids(&page));
                let Some(next) = page.next else { break };
                query.page.after = Some(next.parse().unwrap());
            }
            prop_assert_eq!(paged, ids(&all), "{}", filter);
        }
    }

    /// Forwarding reads targets in the order of `targets.changed`: from any position on it gets every target whose
    /// leaves have changed since.
    #[test]
    fn each_transaction_marks_the_targets_whose_leaves_it_changes(
        made in prop::collection::vec(made(), 1..16),
        commits in prop::collection::vec(1..4_usize, 1..40),
    ) {
        let (mut store, mut cache) = (store(), RowCache::default());
        let mut before = BTreeMap::new();
        let mut last = 0;
        let mut rest = made.as_slice();
        for commit in commits.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (request, later) = rest.split_at(rest.len().min(*commit));
            put(&mut store, &mut cache, &[request]);
            rest = later;
            let after = changes(&store);
            let greatest = after.values().map(|(changed, _)| *changed).max().unwrap_or(0);
            for (target, (changed, leaves)) in &after {
                let is_same = before.get(target).is_some_and(|(_, was)| was == leaves);
                prop_assert!(is_same || *changed > last, "{target} is not marked");
            }
            (before, last) = (after, greatest.max(last));
        }
    }

    #[test]
    fn what_is_stored_is_what_the_fold_says(mut made in prop::collection::vec(made(), 1..16)) {
        // Where two different spans have one id there is more than one truth.
        let mut seen = std::collections::HashSet::new();
        made.retain(|made| seen.insert((made.trace, made.id)));
        made.iter_mut().for_each(|made| made.honeyhive = false);
        let (mut store, mut cache) = (store(), RowCache::default());
        for made in &made {
            put(&mut store, &mut cache, &[std::slice::from_ref(made)]);
        }
        // Of two submissions with one span id and one time the one of the first trace counts.
        made.sort_by_key(|made| made.trace);
        check_against_the_fold(&store, &made);
    }

    #[test]
    fn forgetting_leaves_what_would_be_there_had_the_rest_never_come(
        made in prop::collection::vec(made(), 1..16),
    ) {
        let (mut connection, mut cache) = (store(), RowCache::default());
        put(&mut connection, &mut cache, &[&made]);
        let mut steps = 0;
        while retention::step(
            &mut connection,
            &mut cache,
            Retention { age: None, bytes: Some(0) },
        ).unwrap() == RetentionStep::Forgot {
            steps += 1;
            prop_assert!(steps < 50);
        }
        let rest = dump(&connection);
        prop_assert_eq!(rest, "");
    }

    /// Step by step, one trace at a time: with it goes all feedback about it, and nothing before.
    #[test]
    fn forgetting_takes_a_trace_with_all_carriers_about_it(
        made in prop::collection::vec((made(), 0..4_u8), 1..24),
    ) {
        let made: Vec<_> = made.into_iter().map(|(made, place)| in_its_place(made, place)).collect();
        let (mut connection, mut cache) = (store(), RowCache::default());
        put(&mut connection, &mut cache, &[&made]);
        let before = leaves_by_trace(&connection);
        let mut steps = 0;
        loop {
            let plain = received_without_feedback(&connection);
            let bytes = Some(retention::used(&connection).unwrap() - 1);
            let limit = Retention { age: None, bytes };
            if retention::step(&mut connection, &mut cache, limit).unwrap() == RetentionStep::Nothing {
                break;
            }
            steps += 1;
            prop_assert!(steps < 50);
            let after = leaves_by_trace(&connection);
            for (trace, leaves) in &after {
                prop_assert_eq!(leaves, &before[trace], "{}", trace);
            }
            if plain > 0 {
                prop_assert_eq!(received_without_feedback(&connection), plain - 1);
            }
            prop_assert_eq!(feedback_about_nothing(&connection), 0);
        }
        prop_assert_eq!(dump(&connection), "");
    }
}

/// A carrier about a trace is in that trace or in one of its own, which may have others about other
/// traces; it never is in another received trace.
fn in_its_place(mut made: Made, place: u8) -> Made {
    let link = match &made.role {
        MadeRole::Carrier(link) => *link,
        MadeRole::ScopedCarrier(is_session, link) => link.filter(|_| !is_session),
        MadeRole::Plain | MadeRole::Scoped(_) | MadeRole::Record(..) => return made,
    };
    match (place, link) {
        (0, Some((trace, span))) => (made.trace, made.parent) = (trace, span),
        (place, _) => (made.trace, made.parent) = (10 + place, 0),
    }
    // A span has one id only.
    made.id += 10;
    made
}

/// The folded feedback about each stored trace and its spans.
fn leaves_by_trace(connection: &Connection) -> std::collections::BTreeMap<String, Vec<String>> {
    let sql = "SELECT hex(t.trace_id), g.span || ' ' || f.key || ' ' || l.value || ' ' || l.given
               FROM traces t LEFT JOIN leaves l ON l.trace = t.id LEFT JOIN targets g ON g.id = l.target
               LEFT JOIN fields f ON f.id = l.field ORDER BY 1, 2";
    let mut leaves = std::collections::BTreeMap::<_, Vec<_>>::new();
    let mut statement = connection.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let of_trace = leaves.entry(row.get(0).unwrap()).or_default();
        of_trace.extend(row.get::<_, Option<String>>(1).unwrap());
    }
    leaves
}

fn received_without_feedback(connection: &Connection) -> i64 {
    let sql = "SELECT count(*) FROM traces WHERE start IS NOT NULL AND feedback = 0";
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Spans and documents that are left of what was deleted.
fn feedback_about_nothing(connection: &Connection) -> i64 {
    let sql = "SELECT (SELECT count(*) FROM documents
                       WHERE target != 0 AND target NOT IN (SELECT id FROM targets))
                    + (SELECT count(*) FROM documents WHERE span NOT IN (SELECT id FROM spans))
                    + (SELECT count(*) FROM spans WHERE trace NOT IN (SELECT id FROM traces))
                    + (SELECT count(*) FROM spans WHERE flags & 1 = 1
                       AND id NOT IN (SELECT span FROM documents))
                    + (SELECT count(*) FROM targets
                       WHERE trace != 0 AND trace NOT IN (SELECT id FROM traces))";
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A vote in a trace of its own, and one within the trace of its target.
fn votes(target: (u8, u8), first: u8, rating: u8) -> [Made; 2] {
    [0, 1].map(|place| {
        let vote = Made {
            trace: 0,
            id: first + place,
            parent: 0,
            start: first,
            length: 0,
            service: 0,
            session: None,
            role: MadeRole::Carrier(Some(target)),
            time: Some(first + place),
            rating: Some(rating),
            nested: None,
            cleared: None,
            is_error: false,
            honeyhive: false,
            judged: None,
        };
        in_its_place(vote, place)
    })
}

/// The span has the last value, as an int; the records of this crate have each, as a double or bool.
#[test]
fn records_of_this_crate_do_not_replace_what_the_span_says_in_any_order() {
    let span = Made {
        trace: 1,
        id: 1,
        length: 5,
        role: MadeRole::Plain,
        rating: Some(3),
        time: None,
        ..votes((0, 0), 0, 0)[0].clone()
    };
    let record = |time, rating| Made {
        role: MadeRole::Record(true, (1, 1)),
        time: Some(time),
        rating: Some(rating),
        ..span.clone()
    };
    let made = [span.clone(), record(1, 0), record(2, 1)];
    for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0], [2, 1, 0]] {
        let (mut connection, mut cache) = (store(), RowCache::default());
        for at in order {
            put(&mut connection, &mut cache, &[std::slice::from_ref(&made[at])]);
        }
        let leaves = leaves_by_trace(&connection);
        let rating = &leaves[&format!("{:032X}", 1)];
        assert_eq!(rating.len(), 1, "{order:?}: {rating:?}");
        assert!(rating[0].contains("feedback.rating 3 5"), "{order:?}: {rating:?}");
        let sql = "SELECT value FROM meta WHERE key = 'documents'";
        let documents: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(documents, 1);
    }
}

/// The first trace of a session is the earliest; of those that start at one time it is that with the smallest id.
#[test]
fn a_session_is_the_same_in_whichever_order_its_traces_come() {
    for starts in [[2, 2, 4], [3, 3, 3], [1, 2, 3]] {
        let made = [1, 2, 3].map(|trace| Made {
            trace,
            id: 1,
            start: starts[usize::from(trace) - 1],
            service: trace,
            session: Some(1),
            role: MadeRole::Plain,
            rating: None,
            time: None,
            ..votes((0, 0), 0, 0)[0].clone()
        });
        let dumps =
            [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].map(|order| {
                let (mut connection, mut cache) = (store(), RowCache::default());
                for at in order {
                    put(&mut connection, &mut cache, &[std::slice::from_ref(&made[at])]);
                }
                dump(&connection)
            });
        assert!(dumps.iter().all(|dump| *dump == dumps[0]), "{starts:?}: {dumps:#?}");
    }
}

#[test]
fn a_record_of_this_crate_is_not_taken_for_a_span_event_of_the_same_time() {
    let record = Made {
        role: MadeRole::Record(true, (2, 1)),
        start: 5,
        time: None,
        rating: None,
        ..votes((0, 0), 0, 0)[0].clone()
    };
    let span = Made {
        trace: 2,
        id: 1,
        start: 0,
        length: 5,
        service: 1,
        role: MadeRole::Plain,
        rating: Some(2),
        judged: Some(5),
        ..record.clone()
    };
    let made = [record, span];
    let (mut connection, mut cache) = (store(), RowCache::default());
    put(&mut connection, &mut cache, &[&made]);
    check_against_the_fold(&connection, &made);
}

#[test]
fn a_statement_is_not_prepared_anew_for_another_value() {
    let connection = store();
    let sql = "SELECT max(start) FROM traces WHERE session = ?1";
    let mut statement = connection.prepare(sql).unwrap();
    for session in 0..3 {
        statement.query_row([session], |row| row.get::<_, Option<i64>>(0)).unwrap();
    }
    assert_eq!(statement.get_status(rusqlite::StatementStatus::RePrepare), 0);
}

/// Votes are the last to be forgotten, though no span of their own traces has feedback.
#[test]
fn the_limit_of_size_spares_votes_in_traces_of_their_own() {
    let plain = |trace, start| Made {
        trace,
        id: 1,
        start,
        role: MadeRole::Plain,
        rating: None,
        time: None,
        ..votes((0, 0), 0, 0)[0].clone()
    };
    // The votes are received first.
    let mut made = votes((1, 1), 3, 4).to_vec();
    made.extend(votes((1, 1), 40, 5));
    made.extend([plain(1, 0), plain(2, 50), plain(3, 60)]);
    let (mut connection, mut cache) = (store(), RowCache::default());
    put(&mut connection, &mut cache, &[&made]);
    let step = |connection: &mut Connection, cache: &mut RowCache| {
        let bytes = Some(retention::used(connection).unwrap() - 1);
        retention::step(connection, cache, Retention { age: None, bytes }).unwrap();
        let count = |sql| connection.query_row(sql, [], |row| row.get(0)).unwrap();
        let spans: i64 = count("SELECT count(*) FROM spans");
        let traces: i64 = count("SELECT count(*) FROM traces");
        (spans, traces)
    };
    // The two votes in traces of their own are in one.
    assert_eq!(step(&mut connection, &mut cache), (6, 3));
    assert_eq!(step(&mut connection, &mut cache), (5, 2));
    assert_eq!(step(&mut connection, &mut cache), (0, 0));
}

#[test]
fn the_limit_of_age_keeps_the_first_vote_as_long_as_its_target() {
    let day = 24 * 60 * 60 * 1_000_000_000_u64;
    let now = nanos(crate::clock::unix_nanos(std::time::SystemTime::now()));
    let mut made = votes((1, 1), 1, 4).to_vec();
    made.extend(votes((1, 1), 5, 5));
    made[3].trace += 1; // each vote is a trace of its own
    made.iter_mut().for_each(|vote| vote.nested = Some(vote.id % 3));
    let (mut connection, mut cache) = (store(), RowCache::default());
    for vote in made {
        // Received as many days ago as ten less its start, which is in 1970.
        let received = now - (10 - i64::from(vote.start)) * nanos(day);
        let batch = SpanBatch::of(request(&[vote])).unwrap();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        write(&transaction, &mut cache, &[batch], received).unwrap();
        transaction.commit().unwrap();
    }
    let before = dump(&connection);
    let mut step = |days: u64| {
        let age = Some(std::time::Duration::from_nanos(days * day));
        retention::step(&mut connection, &mut cache, Retention { age, bytes: None }).unwrap();
        dump(&connection)
    };
    assert_eq!(step(6), before, "the last vote is five days old");
    assert_eq!(step(4), "");
}

/// What is deleted by age was not taken back: forwarding forgets it, and keeps the rest.
#[test]
fn a_leaf_that_is_deleted_by_age_is_forgotten_by_forwarding() {
    let day = 24 * 60 * 60 * 1_000_000_000_u64;
    let now = nanos(crate::clock::unix_nanos(std::time::SystemTime::now()));
    let about_session = |trace, rating, nested| Made {
        trace,
        id: trace,
        role: MadeRole::ScopedCarrier(true, Some((1, 1))),
        session: Some(1),
        rating,
        nested,
        cleared: None,
        ..votes((1, 1), 3, 4)[0].clone()
    };
    let (mut connection, mut cache) = (store(), RowCache::default());
    for (vote, days) in
        [(about_session(3, Some(3), None), 10), (about_session(4, None, Some(1)), 1)]
    {
        let batch = SpanBatch::of(request(&[vote])).unwrap();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        write(&transaction, &mut cache, &[batch], now - days * nanos(day)).unwrap();
        transaction.commit().unwrap();
    }
    let tell = "INSERT INTO forward_told (target, backend, field, hash)
                SELECT l.target, 1, f.key, 7 FROM leaves l JOIN fields f ON f.id = l.field";
    let all = connection.execute(tell, []).unwrap();
    let changed = |connection: &Connection| -> i64 {
        connection.query_row("SELECT max(changed) FROM targets", [], |row| row.get(0)).unwrap()
    };
    let before = changed(&connection);
    let age = Some(std::time::Duration::from_nanos(5 * day));
    retention::step(&mut connection, &mut cache, Retention { age, bytes: None }).unwrap();
    let keys = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        let keys = statement.query_map([], |row| row.get(0)).unwrap();
        keys.map(Result::unwrap).collect()
    };
    let told = keys("SELECT field FROM forward_told ORDER BY field");
    let left = keys("SELECT f.key FROM leaves l JOIN fields f ON f.id = l.field ORDER BY f.key");
    assert!(!left.is_empty() && left.len() < all, "{left:?}");
    assert_eq!(told, left);
    assert_eq!(changed(&connection), before, "nothing is to be compared again");
}

/// An import writes beside a desk, which deletes rows whose numbers the import has in memory.
#[test]
fn a_row_that_another_connection_has_deleted_is_written_again() {
    let directory = std::env::temp_dir().join(format!("desk-two-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("desk.sqlite");
    let (mut import, mut desk) = (open(&path).unwrap(), open(&path).unwrap());
    let (mut cache_of_import, mut cache_of_desk) = (RowCache::default(), RowCache::default());
    let vote = votes((1, 1), 3, 4)[0].clone();
    put(&mut import, &mut cache_of_import, &[std::slice::from_ref(&vote)]);
    let before = dump(&import);
    let limit = Retention { age: None, bytes: Some(0) };
    retention::step(&mut desk, &mut cache_of_desk, limit).unwrap();
    assert_eq!(dump(&import), "");
    put(&mut import, &mut cache_of_import, &[&[vote]]);
    assert_eq!(dump(&import), before);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_store_of_version_1_counts_what_its_spans_refer_to() {
    let directory = std::env::temp_dir().join(format!("desk-v1-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("desk.sqlite");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store.sqlite");
    std::fs::copy(golden, &path).unwrap();
    let mut connection = open(&path).unwrap();
    for (table, column) in [("names", "name"), ("scopes", "scope"), ("resources", "resource")] {
        let sql = format!(
            "SELECT count(*), coalesce(sum(uses != (SELECT count(*) FROM spans s WHERE s.{column} = t.id)), 0)
             FROM {table} t"
        );
        let (rows, wrong): (i64, i64) =
            connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert!(rows > 0 && wrong == 0, "{table}: {wrong} of {rows}");
    }
    let limit = Retention { age: None, bytes: Some(0) };
    let mut cache = RowCache::default();
    let step = |connection: &mut Connection, cache: &mut RowCache| {
        retention::step(connection, cache, limit).unwrap()
    };
    while step(&mut connection, &mut cache) == RetentionStep::Forgot {}
    assert_eq!(dump(&connection), "");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_file_of_a_newer_version_and_that_of_another_program_are_left_alone() {
    let directory = std::env::temp_dir().join(format!("desk-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("newer.sqlite");
    let connection = open(&path).unwrap();
    connection.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    drop(connection);
    let before = std::fs::read(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Newer { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let path = directory.join("other.sqlite");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(open(&path).unwrap_err(), OpenError::NotADesk));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    std::fs::remove_dir_all(&directory).unwrap();
}
