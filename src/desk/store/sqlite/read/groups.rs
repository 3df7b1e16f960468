//! Groups: which group each target belongs to, by any field. As with filters the nearest value decides.

use std::collections::HashMap;

use rusqlite::Connection;

use super::super::{Result, stored};
use super::attributes::{AttributeScan, AttributeSpan, ModelScan, each_tokens};
use super::field::Field;
use crate::desk::answer::field::AnswerField;
use crate::desk::query::Range;
use crate::desk::query::datum::Datum;
use crate::desk::query::property::Property;

/// A group, by its place in a list. 0 is that of what has no value.
pub(super) type Group = u32;

/// The groups of a field.
#[derive(Default)]
pub(super) struct Groups {
    names: Vec<String>,
    known: HashMap<String, Group>,
    of_target: Vec<Group>,
    of_trace: Vec<Group>,
    /// Of targets that are sessions by their target, of sessions by their row.
    of_session: Vec<Group>,
    session_of_trace: Vec<i64>,
    of_resource: Vec<Group>,
}

impl Groups {
    pub(super) fn of(connection: &Connection, name: &str, range: Range) -> Result<Self> {
        let mut groups = Self::default();
        match Field::of(connection, name)? {
            Field::Leaf(None) => {}
            Field::Leaf(Some(field)) => groups.leaf(connection, field)?,
            Field::Resource => {
                let sql = "SELECT resource, text FROM resource_texts WHERE key = ?1";
                let mut statement = connection.prepare_cached(sql)?;
                let mut rows = statement.query([name])?;
                while let Some(row) = rows.next()? {
                    let group = groups.group(row.get_ref(1)?.as_str().unwrap_or_default());
                    put(&mut groups.of_resource, row.get(0)?, group);
                }
            }
            Field::Trace(property) => groups.property(connection, property)?,
            Field::Answer(AnswerField::Tokens(count)) => {
                each_tokens(connection, range, |trace, tokens| {
                    if let Some(tokens) = count.of(tokens) {
                        let group = groups.group(&tokens.to_string());
                        put(&mut groups.of_trace, trace, group);
                    }
                })?;
            }
            Field::Answer(AnswerField::Model) => {
                let scan = ModelScan::new(connection, range)?;
                scan.each(groups.of_first_span())?;
            }
            Field::Attribute => {
                let scan = AttributeScan::new(connection, name, range)?;
                scan.each(groups.of_first_span())?;
            }
        }
        Ok(groups)
    }

    /// The group of a target.
    pub(super) fn of_target(&self, target: i64, trace: i64, resource: i64) -> Group {
        let own = get(&self.of_target, target);
        if own != 0 {
            return own;
        }
        let of_resource = get(&self.of_resource, resource);
        if of_resource != 0 {
            return of_resource;
        }
        let of_trace = get(&self.of_trace, trace);
        if of_trace != 0 || self.of_session.is_empty() {
            return of_trace;
        }
        let session = usize::try_from(trace).ok().and_then(|at| self.session_of_trace.get(at));
        get(&self.of_session, session.copied().unwrap_or(0))
    }

    pub(super) fn name(&self, group: Group) -> Option<&str> {
        Some(self.names.get(group.checked_sub(1)? as usize)?)
    }

    /// Takes the values of spans: of those in a trace the first one's is its group.
    fn of_first_span(&mut self) -> impl FnMut(i64, AttributeSpan, Datum<'_>) {
        let mut first: Vec<AttributeSpan> = Vec::new();
        move |trace, bearer, value| {
            if get(&self.of_trace, trace) == 0 || bearer < get(&first, trace) {
                let group = self.group(&value.text());
                put(&mut first, trace, bearer);
                put(&mut self.of_trace, trace, group);
            }
        }
    }

    fn leaf(&mut self, connection: &Connection, field: i64) -> Result<()> {
        // The first value in a trace is its group: by time, and of those with one time by its text, not by
        // what has arrived first.
        let sql = "SELECT l.target, l.trace, l.type, l.value, t.session, l.time
                   FROM leaves l LEFT JOIN targets t ON l.trace = 0 AND t.id = l.target
                   WHERE l.field = ?1 ORDER BY l.time";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([field])?;
        let mut has_sessions = false;
        let mut times: Vec<i64> = Vec::new();
        while let Some(row) = rows.next()? {
            let group = match stored::datum(row, 2, 3)? {
                // The usual: nothing is copied.
                Datum::Text(text) => self.group(text),
                other => self.group(&other.text()),
            };
            put(&mut self.of_target, row.get(0)?, group);
            match row.get(1)? {
                0 => {
                    let session = row.get::<_, Option<i64>>(4)?.unwrap_or(0);
                    put(&mut self.of_session, session, group);
                    has_sessions = true;
                }
                trace => {
                    let (time, known) = (row.get(5)?, get(&self.of_trace, trace));
                    if known == 0
                        || get(&times, trace) == time && self.name(group) < self.name(known)
                    {
                        put(&mut times, trace, time);
                        put(&mut self.of_trace, trace, group);
                    }
                }
            }
        }
        if has_sessions {
            self.sessions(connection)?;
        }
        Ok(())
    }

    fn sessions(&mut self, connection: &Connection) -> Result<()> {
        let sql = "SELECT id, session FROM traces WHERE session IS NOT NULL";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            put(&mut self.session_of_trace, row.get(0)?, row.get(1)?);
        }
        Ok(())
    }

    fn property(&mut self, connection: &Connection, property: Property) -> Result<()> {
        let sql = match property {
            Property::Name => {
                "SELECT t.id, n.name FROM traces t JOIN names n ON n.id = t.root_name"
            }
            Property::Duration => {
                "SELECT id, CAST((finish - start) / 1000000 AS TEXT) FROM traces
                 WHERE start IS NOT NULL"
            }
            Property::Status => {
                "SELECT id, iif(errors > 0, 'error', 'ok') FROM traces WHERE start IS NOT NULL"
            }
            Property::SessionId => {
                "SELECT t.id, s.name FROM traces t JOIN sessions s ON s.id = t.session"
            }
            Property::TraceId => "SELECT id, lower(hex(trace_id)) FROM traces",
        };
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let group = self.group(row.get_ref(1)?.as_str().unwrap_or_default());
            put(&mut self.of_trace, row.get(0)?, group);
        }
        if property == Property::SessionId {
            let sql = "SELECT t.id, s.name FROM targets t JOIN sessions s ON s.id = t.session
                       WHERE t.trace = 0 AND t.span = 0";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let group = self.group(row.get_ref(1)?.as_str().unwrap_or_default());
                put(&mut self.of_target, row.get(0)?, group);
            }
        }
        Ok(())
    }

    fn group(&mut self, name: &str) -> Group {
        if let Some(group) = self.known.get(name) {
            return *group;
        }
        self.names.push(name.to_owned());
        let group = Group::try_from(self.names.len()).unwrap_or(Group::MAX);
        self.known.insert(name.to_owned(), group);
        group
    }
}

fn get<T: Copy + Default>(values: &[T], id: i64) -> T {
    usize::try_from(id).ok().and_then(|id| values.get(id)).copied().unwrap_or_default()
}

fn put<T: Copy + Default>(values: &mut Vec<T>, id: i64, value: T) {
    let Ok(id) = usize::try_from(id) else { return };
    if id >= values.len() {
        values.resize(id + 1 + values.len() / 2, T::default());
    }
    values[id] = value;
}
