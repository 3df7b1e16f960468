//! Filters as SQL. Each condition becomes a few sets, as those of [SQLite's](super::super::sqlite) do:
//! the nearest value decides: that of a span itself, else any in its trace, else that of its session. A trace
//! matches if any of its spans does, a session if itself or any of its traces does.

use super::answers;
use super::field::Field;
use super::kinds::{Kinds, is_bool, is_number};
use super::relations::Relations;
use super::sql::{self, Conjunction, text};
use crate::desk::answer::field::AnswerField;
use crate::desk::query::Range;
use crate::desk::query::datum::ValueKind;
use crate::desk::query::filter::{Condition, Filter, Operand, Operator, Subject};
use crate::desk::query::property::Property;

/// What the names in a query mean, and where things are.
pub(super) struct FilterContext<'s> {
    pub(super) relations: &'s Relations,
    pub(super) kinds: &'s Kinds,
}

/// A filter, ready to be asked of rows.
pub(super) struct FilterSql {
    conditions: Vec<ConditionSql>,
    traces: String,
}

/// Where one condition holds, each a query for what is in.
#[derive(Default)]
struct ConditionSql {
    negated: bool,
    /// Whether only a value of the target itself counts, not that of its trace or session.
    is_of_row: bool,
    /// Targets that have a value of their own, and those whose value fits.
    target: Option<(String, String)>,
    /// Resources that fit, by their hashes.
    resource: Option<String>,
    /// Traces that fit, and the same as a condition on a row of `traces`, where there is one.
    traces: String,
    of_trace: Option<String>,
    /// Sessions that match by feedback about the session itself.
    sessions: Option<String>,
    /// Whether the session of a row of `leaves`, or of `sessions`, fits by its name.
    of_name: Option<[String; 2]>,
}

/// A row with a session.
#[derive(Clone, Copy)]
enum SessionColumn {
    Leaf,
    Session,
}

impl SessionColumn {
    const ALL: [Self; 2] = [Self::Leaf, Self::Session];

    fn session(self) -> &'static str {
        match self {
            Self::Leaf => "l.session_id",
            Self::Session => "x.session_id",
        }
    }
}

impl FilterSql {
    /// `field` gives the meaning of a name. The range only limits the scan.
    pub(super) fn new(
        context: &FilterContext<'_>,
        filter: &Filter,
        range: Range,
        mut field: impl FnMut(&str) -> Field,
    ) -> Self {
        let conditions = filter
            .conditions
            .iter()
            .map(|condition| context.condition_sql(condition, range, &mut field))
            .collect();
        Self { conditions, traces: context.relations.traces.clone() }
    }

    /// Makes [`Self::leaf`] ask for feedback and metrics of the target itself: for rows that show them.
    pub(super) fn of_rows(mut self, filter: &Filter) -> Self {
        for (condition_sql, condition) in self.conditions.iter_mut().zip(&filter.conditions) {
            condition_sql.is_of_row = condition.is_of_row();
        }
        self
    }

    /// Whether a row of `leaves` is in, which stands in the query as `l`. `has_sessions`: some of them are
    /// about sessions.
    pub(super) fn leaf(&self, has_sessions: bool) -> Conjunction {
        self.conditions.iter().fold(Conjunction::default(), |all, condition_sql| {
            let mut fits = format!("l.trace_id IN ({})", condition_sql.traces);
            if has_sessions {
                let session = condition_sql.session(&self.traces, SessionColumn::Leaf);
                fits = format!("if(l.trace_id != '', {fits}, {session})");
            }
            if let Some(resources) = &condition_sql.resource {
                fits = format!("if(l.resource != 0, l.resource IN ({resources}), {fits})");
            }
            if let (Some((_, own)), true) = (&condition_sql.target, condition_sql.is_of_row) {
                fits = format!("l.target IN ({own})");
            } else if let Some((has, own)) = &condition_sql.target {
                fits = format!("if(l.target IN ({has}), l.target IN ({own}), {fits})");
            }
            all.and(condition_sql.unless_negated(fits))
        })
    }

    /// Whether a row of `traces` is in, which stands in the query as `t`.
    pub(super) fn trace(&self) -> Conjunction {
        self.conditions.iter().fold(Conjunction::default(), |all, condition_sql| {
            let fits = match &condition_sql.of_trace {
                Some(condition) => condition.clone(),
                None => format!("t.trace_id IN ({})", condition_sql.traces),
            };
            all.and(condition_sql.unless_negated(fits))
        })
    }

    /// Whether a row of `sessions` is in, which stands in the query as `x`.
    pub(super) fn session(&self) -> Conjunction {
        self.conditions.iter().fold(Conjunction::default(), |all, condition_sql| {
            all.and(
                condition_sql
                    .unless_negated(condition_sql.session(&self.traces, SessionColumn::Session)),
            )
        })
    }
}

impl ConditionSql {
    fn unless_negated(&self, fits: String) -> String {
        if self.negated { format!("NOT ({fits})") } else { fits }
    }

    /// Whether a session is in: by itself, or by any of its traces.
    fn session(&self, traces: &str, row: SessionColumn) -> String {
        let id = row.session();
        let of_trace = match &self.of_trace {
            Some(condition) => condition.clone(),
            None => format!("t.trace_id IN ({})", self.traces),
        };
        let by_traces = format!(
            "{id} IN (SELECT t.session_id FROM {traces} AS t WHERE t.session_id != '' AND ({of_trace}))"
        );
        let by_itself = match (&self.of_name, &self.sessions) {
            (Some(conditions), _) => conditions[row as usize].clone(),
            (None, Some(sessions)) => format!("{id} IN ({sessions})"),
            (None, None) => return by_traces,
        };
        format!("({by_itself} OR {by_traces})")
    }
}

impl FilterContext<'_> {
    fn condition_sql(
        &self,
        condition: &Condition,
        range: Range,
        field: &mut impl FnMut(&str) -> Field,
    ) -> ConditionSql {
        match condition {
            Condition::Has { subject, negated } => {
                let condition_sql = match subject {
                    Subject::Feedback => self.has_feedback(),
                    Subject::GroundTruth => {
                        let truth = "feedback.ground_truth";
                        let is_it = format!("(field = '{truth}' OR startsWith(field, '{truth}.'))");
                        let has_sessions = self.kinds.all().any(|(field, known)| {
                            known.has_sessions && crate::desk::store::leaf::is_ground_truth(field)
                        });
                        self.leaf(&is_it, "1", has_sessions)
                    }
                    Subject::Field(name) => {
                        self.compare(name, &field(name), range, &|_, _| "1".to_owned())
                    }
                };
                ConditionSql { negated: *negated, ..condition_sql }
            }
            Condition::Compare { field: name, operator, value } => {
                let compare = |look, column: &str| fits(look, column, *operator, value);
                let condition_sql = self.compare(name, &field(name), range, &compare);
                ConditionSql { negated: *operator == Operator::IsNot, ..condition_sql }
            }
        }
    }

    fn compare(&self, name: &str, field: &Field, range: Range, fits: &Fits<'_>) -> ConditionSql {
        match field {
            Field::Leaf(key) => {
                let known = self.kinds.of(key);
                let is_it = format!("field = {}", text(key));
                self.leaf(&is_it, &fits(ColumnType::of(known.kind), "value"), known.has_sessions)
            }
            Field::Resource => self.resource(name, fits),
            Field::Trace(property) => self.property(*property, fits),
            Field::Answer(AnswerField::Model) => {
                let model = answers::model(self.relations);
                let traces = format!(
                    "SELECT TraceId FROM {} WHERE {model} != '' AND {} AND {}",
                    self.relations.spans,
                    self.relations.since(range),
                    fits(ColumnType::Text, &model)
                );
                ConditionSql { traces, ..ConditionSql::default() }
            }
            Field::Answer(AnswerField::Tokens(count)) => {
                let tokens = answers::tokens(self.relations, *count, range);
                let fits = fits(ColumnType::Numeric, "value");
                let traces = format!("SELECT trace_id FROM ({tokens}) WHERE {fits}");
                ConditionSql { traces, ..ConditionSql::default() }
            }
            Field::Attribute => {
                let Relations { spans, attributes, .. } = self.relations;
                let value = format!("{attributes}[{}]", text(name));
                let traces = format!(
                    "SELECT TraceId FROM {spans} WHERE mapContains({attributes}, {}) AND {} AND {}",
                    text(name),
                    self.relations.since(range),
                    fits(ColumnType::Unknown, &value)
                );
                ConditionSql { traces, ..ConditionSql::default() }
            }
        }
    }

    fn leaf(&self, is_it: &str, fits: &str, has_sessions: bool) -> ConditionSql {
        let Relations { leaves, traces, .. } = self.relations;
        let of = |what: &str, condition: &str| {
            format!("SELECT {what} FROM {leaves} WHERE {is_it} AND {condition}")
        };
        let has = of("target", "1");
        let own = of("target", fits);
        let mut of_traces = of("trace_id", &format!("trace_id != '' AND {fits}"));
        let mut sessions = None;
        if has_sessions {
            // Feedback about a session counts for its traces without feedback of their own.
            let fitting = of("session_id", &format!("session_id != '' AND {fits}"));
            of_traces = format!(
                "{of_traces} UNION ALL SELECT trace_id FROM {traces} WHERE session_id IN ({fitting})
                 AND trace_id NOT IN ({})",
                of("trace_id", "trace_id != ''")
            );
            sessions = Some(fitting);
        }
        ConditionSql {
            target: Some((has, own)),
            traces: of_traces,
            sessions,
            ..ConditionSql::default()
        }
    }

    /// A trace has no feedback because its session has some.
    fn has_feedback(&self) -> ConditionSql {
        let leaves = &self.relations.leaves;
        let of = |what: &str| {
            format!(
                "SELECT {what} FROM {leaves} WHERE startsWith(field, 'feedback.') AND {what} != ''"
            )
        };
        ConditionSql {
            traces: of("trace_id"),
            sessions: Some(of("session_id")),
            ..ConditionSql::default()
        }
    }

    fn resource(&self, key: &str, fits: &Fits<'_>) -> ConditionSql {
        let Relations { resources, traces, .. } = self.relations;
        let key = text(key);
        let fitting = format!(
            "SELECT hash FROM {resources} WHERE mapContains(attributes, {key}) AND {}",
            fits(ColumnType::Text, &format!("attributes[{key}]"))
        );
        let hashes = fitting.replacen("SELECT hash", "SELECT groupArray(hash)", 1);
        let of_trace = format!("hasAny(t.resources, ({hashes}))");
        ConditionSql {
            traces: format!("SELECT t.trace_id FROM {traces} AS t WHERE {of_trace}"),
            of_trace: Some(of_trace),
            resource: Some(fitting),
            ..ConditionSql::default()
        }
    }

    fn property(&self, property: Property, fits: &Fits<'_>) -> ConditionSql {
        let traces = &self.relations.traces;
        let (kind, column) = of_trace(property);
        let mut of_trace = fits(kind, &column);
        let mut of_name = None;
        if property == Property::SessionId {
            of_name =
                Some(SessionColumn::ALL.map(|row| format!("({})", fits(kind, row.session()))));
            of_trace = format!("t.session_id != '' AND {of_trace}");
        }
        ConditionSql {
            traces: format!("SELECT t.trace_id FROM {traces} AS t WHERE {of_trace}"),
            of_trace: Some(of_trace),
            of_name,
            ..ConditionSql::default()
        }
    }
}

/// A property of a row of `traces`, which stands in the query as `t`, and its type.
pub(super) fn of_trace(property: Property) -> (ColumnType, String) {
    match property {
        Property::Name => (ColumnType::Text, "t.root_name".to_owned()),
        Property::Duration => (ColumnType::Numeric, "((t.finish - t.start) / 1e6)".to_owned()),
        Property::Status => (ColumnType::Text, "if(t.errors > 0, 'error', 'ok')".to_owned()),
        Property::SessionId => (ColumnType::Text, "t.session_id".to_owned()),
        Property::TraceId => (ColumnType::Text, "t.trace_id".to_owned()),
    }
}

/// Whether a time lies in a range.
pub(super) fn within(range: Range, column: &str) -> Conjunction {
    let from = range.from.map(|from| format!("{column} >= {from}"));
    let to = range.to.map(|to| format!("{column} < {to}"));
    from.into_iter().chain(to).fold(Conjunction::default(), Conjunction::and)
}

/// What a column holds.
#[derive(Clone, Copy)]
pub(super) enum ColumnType {
    Text,
    /// Text of bools, as far as they look like it; the others are text.
    Bool,
    /// The same of numbers.
    Number,
    /// Numbers themselves.
    Numeric,
    /// Text that is what it looks like.
    Unknown,
}

impl ColumnType {
    fn of(kind: Option<ValueKind>) -> Self {
        match kind {
            Some(ValueKind::Bool) => Self::Bool,
            Some(ValueKind::Number) => Self::Number,
            Some(ValueKind::Text | ValueKind::Other) | None => Self::Text,
        }
    }
}

/// Whether a column fits, as SQL.
type Fits<'f> = dyn Fn(ColumnType, &str) -> String + 'f;

fn fits(look: ColumnType, column: &str, operator: Operator, operand: &Operand) -> String {
    if operator == Operator::Contains {
        return contains(&format!("toString({column})"), operand.lower());
    }
    let symbol = match operator {
        Operator::Is | Operator::IsNot => "=",
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Greater => ">",
        Operator::GreaterOrEqual => ">=",
        Operator::Contains => return "0".to_owned(), // handled above
    };
    let is_equal = symbol == "=";
    let as_text = format!("{column} {symbol} {}", text(operand.text()));
    let as_number = |number: &str| match operand.number() {
        Some(wanted) => format!("{number} {symbol} {}", sql::number(wanted)),
        None => "0".to_owned(),
    };
    let as_bool = match operand.boolean() {
        Some(boolean) if is_equal => format!("{column} = '{boolean}'"),
        _ => "0".to_owned(),
    };
    let of_text = as_number(&format!("toFloat64OrZero({column})"));
    match look {
        ColumnType::Numeric => as_number(column),
        ColumnType::Number => format!("if({}, {of_text}, {as_text})", is_number(column)),
        ColumnType::Bool => format!("if({}, {as_bool}, {as_text})", is_bool(column)),
        ColumnType::Text => as_text,
        ColumnType::Unknown => {
            let or_text = if is_equal { format!(" OR {as_text}") } else { String::new() };
            format!(
                "multiIf({}, {of_text}{or_text}, {}, {as_bool}{or_text}, {as_text})",
                is_number(column),
                is_bool(column)
            )
        }
    }
}

/// Whether a column of text contains a text that is in lower case, as the [`contains`] of the query does: of
/// JSON in a text, what its escapes stand for counts as well as the escapes.
///
/// [`contains`]: crate::desk::query::filter::contains
pub(super) fn contains(column: &str, lower: &str) -> String {
    if lower.is_empty() {
        return "1".to_owned();
    }
    let is_in = |content: &str| format!("positionUTF8(lowerUTF8({content}), {}) > 0", text(lower));
    // ClickHouse evaluates what follows `AND` only for texts with a backslash, which are few.
    let has_escapes = format!("position({column}, '\\\\') > 0");
    format!("({} OR {has_escapes} AND {})", is_in(column), is_in(&unescaped(column)))
}

/// The pieces of a text with escapes of JSON: a pair of surrogates, another character by its number, an escape
/// by a letter, a backslash that begins none of these, and the text in between.
const PIECES: [&str; 5] = [
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}",
    r"\\u(?:[0-9a-cA-CefEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2})",
    r#"\\["\\/bfnrt]"#,
    r"\\",
    r"[^\\]+",
];

/// A column of text with the escapes of JSON replaced by what they stand for; others stay.
fn unescaped(column: &str) -> String {
    let pieces = text(&PIECES.join("|"));
    format!(
        "arrayStringConcat(arrayMap(piece -> if(startsWith(piece, '\\\\') AND length(piece) > 1, \
         JSONExtractString(concat('\"', piece, '\"')), piece), extractAll({column}, {pieces})))"
    )
}
