//! Filters as SQL. Each condition becomes a few sets, as those of [SQLite's](super::super::sqlite) do:
//! the nearest value decides. What is said about a span itself, else what is said anywhere in its trace, else
//! what is said about its session. A trace is in if any of its spans is, a session if any of its traces
//! is, or itself.

use super::field::Field;
use super::kinds::{Kinds, is_bool, is_number};
use super::relations::Relations;
use super::sql::{self, All, text};
use crate::desk::query::Range;
use crate::desk::query::datum::Kind;
use crate::desk::query::filter::{Condition, Filter, Operand, Operator, Subject};
use crate::desk::query::property::Property;

/// What the names in a query mean, and where things are.
pub(super) struct Scene<'s> {
    pub(super) relations: &'s Relations,
    pub(super) kinds: &'s Kinds,
}

/// A filter, ready to be asked of rows.
pub(super) struct Narrowed {
    conditions: Vec<Levels>,
    traces: String,
}

/// Where one condition holds, each a query for what is in.
#[derive(Default)]
struct Levels {
    negated: bool,
    /// Targets that have a value of their own, and those whose value fits.
    target: Option<(String, String)>,
    /// Resources that fit, by their hashes.
    resource: Option<String>,
    /// Traces that fit, and the same as a condition on a row of `traces`, where there is one.
    traces: String,
    of_trace: Option<String>,
    /// Sessions that fit by what is said about themselves.
    sessions: Option<String>,
    /// Whether the session of a row of `leaves`, or of `sessions`, fits by its name.
    of_name: Option<[String; 2]>,
}

/// A row that says which session it is of.
#[derive(Clone, Copy)]
enum Row {
    Leaf,
    Session,
}

impl Row {
    const ALL: [Self; 2] = [Self::Leaf, Self::Session];

    fn session(self) -> &'static str {
        match self {
            Self::Leaf => "l.session_id",
            Self::Session => "x.session_id",
        }
    }
}

impl Narrowed {
    /// `fields` says what each name means. The range only bounds what has to be looked through.
    pub(super) fn new(
        scene: &Scene<'_>,
        filter: &Filter,
        range: Range,
        mut field: impl FnMut(&str) -> Field,
    ) -> Self {
        let conditions = filter
            .conditions
            .iter()
            .map(|condition| scene.levels(condition, range, &mut field))
            .collect();
        Self { conditions, traces: scene.relations.traces.clone() }
    }

    /// Whether a row of `leaves` is in, which stands in the query as `l`. `has_sessions`: some of them are
    /// about sessions.
    pub(super) fn leaf(&self, has_sessions: bool) -> All {
        self.conditions.iter().fold(All::default(), |all, levels| {
            let mut fits = format!("l.trace_id IN ({})", levels.traces);
            if has_sessions {
                let session = levels.session(&self.traces, Row::Leaf);
                fits = format!("if(l.trace_id != '', {fits}, {session})");
            }
            if let Some(resources) = &levels.resource {
                fits = format!("if(l.resource != 0, l.resource IN ({resources}), {fits})");
            }
            if let Some((has, own)) = &levels.target {
                fits = format!("if(l.target IN ({has}), l.target IN ({own}), {fits})");
            }
            all.and(levels.unless_negated(fits))
        })
    }

    /// Whether a row of `traces` is in, which stands in the query as `t`.
    pub(super) fn trace(&self) -> All {
        self.conditions.iter().fold(All::default(), |all, levels| {
            let fits = match &levels.of_trace {
                Some(condition) => condition.clone(),
                None => format!("t.trace_id IN ({})", levels.traces),
            };
            all.and(levels.unless_negated(fits))
        })
    }

    /// Whether a row of `sessions` is in, which stands in the query as `x`.
    pub(super) fn session(&self) -> All {
        self.conditions.iter().fold(All::default(), |all, levels| {
            all.and(levels.unless_negated(levels.session(&self.traces, Row::Session)))
        })
    }
}

impl Levels {
    fn unless_negated(&self, fits: String) -> String {
        if self.negated { format!("NOT ({fits})") } else { fits }
    }

    /// Whether a session is in: by itself, or by any of its traces.
    fn session(&self, traces: &str, row: Row) -> String {
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

impl Scene<'_> {
    fn levels(
        &self,
        condition: &Condition,
        range: Range,
        field: &mut impl FnMut(&str) -> Field,
    ) -> Levels {
        match condition {
            Condition::Has { subject, negated } => {
                let levels = match subject {
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
                Levels { negated: *negated, ..levels }
            }
            Condition::Compare { field: name, operator, value } => {
                let compare = |look, column: &str| fits(look, column, *operator, value);
                let levels = self.compare(name, &field(name), range, &compare);
                Levels { negated: *operator == Operator::IsNot, ..levels }
            }
        }
    }

    fn compare(&self, name: &str, field: &Field, range: Range, fits: &Fits<'_>) -> Levels {
        match field {
            Field::Leaf(key) => {
                let known = self.kinds.of(key);
                let is_it = format!("field = {}", text(key));
                self.leaf(&is_it, &fits(Look::of(known.kind), "value"), known.has_sessions)
            }
            Field::Resource => self.resource(name, fits),
            Field::Trace(property) => self.property(*property, fits),
            Field::Attribute => {
                let Relations { spans, attributes, .. } = self.relations;
                let value = format!("{attributes}[{}]", text(name));
                let traces = format!(
                    "SELECT TraceId FROM {spans} WHERE mapContains({attributes}, {}) AND {} AND {}",
                    text(name),
                    since(self.relations, range),
                    fits(Look::Unknown, &value)
                );
                Levels { traces, ..Levels::default() }
            }
        }
    }

    fn leaf(&self, is_it: &str, fits: &str, has_sessions: bool) -> Levels {
        let Relations { leaves, traces, .. } = self.relations;
        let of = |what: &str, condition: &str| {
            format!("SELECT {what} FROM {leaves} WHERE {is_it} AND {condition}")
        };
        let has = of("target", "1");
        let own = of("target", fits);
        let mut of_traces = of("trace_id", &format!("trace_id != '' AND {fits}"));
        let mut sessions = None;
        if has_sessions {
            // What is said about a session counts for those of its traces that say nothing themselves.
            let fitting = of("session_id", &format!("session_id != '' AND {fits}"));
            of_traces = format!(
                "{of_traces} UNION ALL SELECT trace_id FROM {traces} WHERE session_id IN ({fitting})
                 AND trace_id NOT IN ({})",
                of("trace_id", "trace_id != ''")
            );
            sessions = Some(fitting);
        }
        Levels { target: Some((has, own)), traces: of_traces, sessions, ..Levels::default() }
    }

    /// A trace has no feedback because its session has some.
    fn has_feedback(&self) -> Levels {
        let leaves = &self.relations.leaves;
        let of = |what: &str| {
            format!(
                "SELECT {what} FROM {leaves} WHERE startsWith(field, 'feedback.') AND {what} != ''"
            )
        };
        Levels { traces: of("trace_id"), sessions: Some(of("session_id")), ..Levels::default() }
    }

    fn resource(&self, key: &str, fits: &Fits<'_>) -> Levels {
        let Relations { resources, traces, .. } = self.relations;
        let key = text(key);
        let fitting = format!(
            "SELECT hash FROM {resources} WHERE mapContains(attributes, {key}) AND {}",
            fits(Look::Text, &format!("attributes[{key}]"))
        );
        let hashes = fitting.replacen("SELECT hash", "SELECT groupArray(hash)", 1);
        let of_trace = format!("hasAny(t.resources, ({hashes}))");
        Levels {
            traces: format!("SELECT t.trace_id FROM {traces} AS t WHERE {of_trace}"),
            of_trace: Some(of_trace),
            resource: Some(fitting),
            ..Levels::default()
        }
    }

    fn property(&self, property: Property, fits: &Fits<'_>) -> Levels {
        let traces = &self.relations.traces;
        let (kind, column) = of_trace(property);
        let mut of_trace = fits(kind, &column);
        let mut of_name = None;
        if property == Property::SessionId {
            of_name = Some(Row::ALL.map(|row| format!("({})", fits(kind, row.session()))));
            of_trace = format!("t.session_id != '' AND {of_trace}");
        }
        Levels {
            traces: format!("SELECT t.trace_id FROM {traces} AS t WHERE {of_trace}"),
            of_trace: Some(of_trace),
            of_name,
            ..Levels::default()
        }
    }
}

/// A property of a row of `traces`, which stands in the query as `t`, and its type.
pub(super) fn of_trace(property: Property) -> (Look, String) {
    match property {
        Property::Name => (Look::Text, "t.root_name".to_owned()),
        Property::Duration => (Look::Numeric, "((t.finish - t.start) / 1e6)".to_owned()),
        Property::Status => (Look::Text, "if(t.errors > 0, 'error', 'ok')".to_owned()),
        Property::SessionId => (Look::Text, "t.session_id".to_owned()),
        Property::TraceId => (Look::Text, "t.trace_id".to_owned()),
    }
}

/// The spans in which attributes are looked for: those since the beginning of a range, without carriers.
pub(super) fn since(relations: &Relations, range: Range) -> String {
    let is_none = relations.fill("{late} != 'true'");
    match range.from {
        Some(from) => {
            format!("{is_none} AND Timestamp >= fromUnixTimestamp64Nano(toInt64({from}))")
        }
        None => is_none,
    }
}

/// Whether a time lies in a range.
pub(super) fn within(range: Range, column: &str) -> All {
    let from = range.from.map(|from| format!("{column} >= {from}"));
    let to = range.to.map(|to| format!("{column} < {to}"));
    from.into_iter().chain(to).fold(All::default(), All::and)
}

/// What a column holds.
#[derive(Clone, Copy)]
pub(super) enum Look {
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

impl Look {
    fn of(kind: Option<Kind>) -> Self {
        match kind {
            Some(Kind::Bool) => Self::Bool,
            Some(Kind::Number) => Self::Number,
            Some(Kind::Text | Kind::Other) | None => Self::Text,
        }
    }
}

/// Whether a column fits, as SQL.
type Fits<'f> = dyn Fn(Look, &str) -> String + 'f;

fn fits(look: Look, column: &str, operator: Operator, operand: &Operand) -> String {
    if operator == Operator::Contains {
        return contains(&format!("toString({column})"), operand.lower());
    }
    let symbol = match operator {
        Operator::Is | Operator::IsNot => "=",
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Greater => ">",
        Operator::GreaterOrEqual => ">=",
        Operator::Contains => return "0".to_owned(), // has been told
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
        Look::Numeric => as_number(column),
        Look::Number => format!("if({}, {of_text}, {as_text})", is_number(column)),
        Look::Bool => format!("if({}, {as_bool}, {as_text})", is_bool(column)),
        Look::Text => as_text,
        Look::Unknown => {
            let or_text = if is_equal { format!(" OR {as_text}") } else { String::new() };
            format!(
                "multiIf({}, {of_text}{or_text}, {}, {as_bool}{or_text}, {as_text})",
                is_number(column),
                is_bool(column)
            )
        }
    }
}

/// Whether a column of text contains a text that is in lower case.
pub(super) fn contains(column: &str, lower: &str) -> String {
    if lower.is_empty() {
        return "1".to_owned();
    }
    format!("positionUTF8(lowerUTF8({column}), {}) > 0", text(lower))
}
