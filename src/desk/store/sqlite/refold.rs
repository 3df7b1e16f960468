//! From what spans say about a target to its leaves. The folding itself is [`crate::fold`].

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension, Statement, Transaction, params};

use super::Result;
use super::known::Known;
use super::stored::{self, SPAN_COLUMNS};
use crate::collector::receive::value::Value;
use crate::desk::store::batch::{Voice, nanos};
use crate::desk::store::history::{Given, dated};
use crate::desk::store::leaf::{Leaf, Type};
use crate::feedback::fold::{Submission, fold};

/// Where a target lies: in time, and at which service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Anchor {
    pub(super) time: i64,
    pub(super) resource: i64,
}

/// A target that has to be folded again.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// All that was ever said about it, where the target is of this transaction.
    fresh: Option<Fresh>,
    /// What this transaction says, where it is older.
    added: Said,
    /// There is more to it than what was added.
    to_reload: bool,
}

#[derive(Debug)]
struct Fresh {
    key: (i64, i64, i64),
    anchor: Option<Anchor>,
    said: Said,
}

/// What is said about a target.
#[derive(Debug, Default)]
struct Said {
    own: Option<Submission<Value>>,
    /// With the traces they came in.
    submissions: Vec<([u8; 16], Submission<Value>)>,
}

impl Dirty {
    /// A target that did not exist, by its trace, span and session.
    pub(super) fn new(key: (i64, i64, i64)) -> Self {
        let fresh = Some(Fresh { key, anchor: None, said: Said::default() });
        Self { fresh, ..Self::default() }
    }

    /// One of which nothing is known.
    pub(super) fn unknown() -> Self {
        Self { to_reload: true, ..Self::default() }
    }

    /// It has to be read from the file.
    pub(super) fn reload(&mut self) {
        *self = Self::unknown();
    }

    pub(super) fn said(&mut self, voice: &Voice, trace_id: [u8; 16], anchor: Anchor) {
        match &mut self.fresh {
            _ if self.to_reload => {}
            None => self.added.add(voice.clone(), trace_id),
            Some(fresh) => {
                if voice.is_own {
                    fresh.anchor = Some(anchor);
                }
                fresh.said.add(voice.clone(), trace_id);
            }
        }
    }
}

impl Said {
    fn add(&mut self, voice: Voice, trace_id: [u8; 16]) {
        if voice.is_own {
            self.own = Some(voice.submission);
        } else {
            self.submissions.push((trace_id, voice.submission));
        }
    }

    fn is_empty(&self) -> bool {
        self.own.is_none() && self.submissions.is_empty()
    }

    /// The earliest that anything was said.
    fn first(&self) -> i64 {
        let submissions = self.submissions.iter().map(|(_, submission)| submission);
        let times = self.own.iter().chain(submissions);
        times.map(|submission| nanos(submission.time_unix_nano)).min().unwrap_or(0)
    }

    /// When the last submission was made.
    fn latest(&self) -> Option<i64> {
        self.submissions.iter().map(|(_, submission)| nanos(submission.time_unix_nano)).max()
    }

    /// The folded document, each value with the time it was given.
    fn fold(mut self) -> BTreeMap<String, Given> {
        let own = self.own.take().map(dated).map(|own| own.attributes).unwrap_or_default();
        self.fold_onto(own)
    }

    /// The same where the document was folded before.
    fn fold_onto(mut self, own: Vec<(String, Given)>) -> BTreeMap<String, Given> {
        // Of several with one span id and one time the first one counts, so there has to be a first.
        self.submissions.sort_by_key(|(trace_id, _)| *trace_id);
        fold(own, self.submissions.into_iter().map(|(_, submission)| dated(submission)))
    }
}

/// All that stored spans say about a target.
fn said_about(connection: &Connection, target: i64) -> Result<Said> {
    let sql = format!(
        "SELECT {SPAN_COLUMNS} FROM documents d JOIN spans s ON s.id = d.span
         JOIN traces t ON t.id = s.trace JOIN names n ON n.id = s.name
         WHERE d.target = ?1 ORDER BY d.id"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([target])?;
    let mut said = Said::default();
    while let Some(row) = rows.next()? {
        let span = stored::span(row)?;
        if let Some(voice) = Voice::of(&span) {
            said.add(voice, span.trace_id.to_bytes());
        }
    }
    Ok(said)
}

/// Folds targets, and keeps count of what that changes.
pub(super) struct Refold<'t> {
    transaction: &'t Transaction<'t>,
    known: &'t mut Known,
    insert: Statement<'t>,
    /// Values by the four kinds a field counts.
    fields: HashMap<i64, [i64; 4]>,
    /// Leaves of the namespace `feedback` by trace.
    feedback: HashMap<i64, i64>,
}

/// A leaf as it stands in its row, without what is the same for all leaves of a target.
#[derive(Debug, PartialEq)]
struct Row {
    field: i64,
    given: i64,
    leaf: Leaf,
    is_feedback: bool,
}

impl<'t> Refold<'t> {
    pub(super) fn new(transaction: &'t Transaction<'t>, known: &'t mut Known) -> Result<Self> {
        let insert = transaction.prepare(
            "INSERT INTO leaves (field, time, target, trace, resource, given, type, value)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let (fields, feedback) = (HashMap::new(), HashMap::new());
        Ok(Self { transaction, known, insert, fields, feedback })
    }

    pub(super) fn target(&mut self, target: i64, dirty: Dirty) -> Result<()> {
        let is_fresh = dirty.fresh.is_some();
        let (key, said, anchor) = match dirty.fresh {
            Some(Fresh { key, anchor, said }) => (key, said, anchor),
            None => {
                let found = self
                    .transaction
                    .prepare_cached(
                        "SELECT trace, span, session, latest FROM targets WHERE id = ?1",
                    )?
                    .query_row([target], |row| {
                        let key = (row.get(0)?, row.get(1)?, row.get(2)?);
                        Ok((key, row.get::<_, Option<i64>>(3)?))
                    })
                    .optional()?;
                let Some((key, latest)) = found else { return Ok(()) };
                let anchor = self.anchor(key)?;
                if let (Some(anchor), false) = (anchor, dirty.to_reload)
                    && self.goes_on(target, latest, &dirty.added)?
                    && let Some(own) = self.folded(target)?
                {
                    let latest = dirty.added.latest();
                    let document = dirty.added.fold_onto(own);
                    return self.write(target, key.0, anchor, (document, latest), false);
                }
                (key, said_about(self.transaction, target)?, anchor)
            }
        };
        let anchor = match anchor {
            Some(anchor) => anchor,
            None => self.anchor(key)?.unwrap_or(Anchor { time: said.first(), resource: 0 }),
        };
        let is_silent = said.is_empty();
        let latest = said.latest();
        self.write(target, key.0, anchor, (said.fold(), latest), is_fresh)?;
        if is_silent { self.forget(target) } else { Ok(()) }
    }

    /// Whether what was added only goes on from what is folded already: all of it was said later, and
    /// by no span that has said anything before. A session that many speak about is folded once a
    /// submission that way, and not all of it each time.
    fn goes_on(&self, target: i64, latest: Option<i64>, added: &Said) -> Result<bool> {
        let mut said = self.transaction.prepare_cached(
            "SELECT count(*) FROM documents WHERE target = ?1 AND own = 0 AND span_id = ?2",
        )?;
        if added.own.is_some() || added.submissions.is_empty() {
            return Ok(false);
        }
        for (_, submission) in &added.submissions {
            let span = i64::from_be_bytes(submission.span_id.to_bytes());
            let count: i64 = said.query_row([target, span], |row| row.get(0))?;
            let is_later = latest.is_none_or(|latest| nanos(submission.time_unix_nano) > latest);
            if !is_later || count > 1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a target's leaves are, if they are all that is to be known.
    fn folded(&self, target: i64) -> Result<Option<Vec<(String, Given)>>> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT f.key, l.type, l.value, l.given
             FROM leaves l JOIN fields f ON f.id = l.field WHERE l.target = ?1",
        )?;
        let mut rows = statement.query([target])?;
        let mut folded = Vec::new();
        while let Some(row) = rows.next()? {
            let value = match stored::leaf(row, 1, 2)? {
                Leaf::Bool(value) => Value::Bool(value),
                Leaf::Int(value) => Value::Int(value),
                Leaf::Double(value) => Value::Double(value),
                Leaf::Text(text) => Value::String(text),
                Leaf::Other(_) => return Ok(None), // its text doesn't say what it was
            };
            folded.push((row.get(0)?, (value, row.get(3)?)));
        }
        Ok(Some(folded))
    }

    /// Makes a document the leaves of a target.
    fn write(
        &mut self,
        target: i64,
        trace: i64,
        anchor: Anchor,
        (document, latest): (BTreeMap<String, Given>, Option<i64>),
        is_fresh: bool,
    ) -> Result<()> {
        if latest.is_some() || !is_fresh {
            self.transaction
                .prepare_cached("UPDATE targets SET latest = ?2 WHERE id = ?1")?
                .execute(params![target, latest])?;
        }
        let mut rows = Vec::new();
        for (name, (value, given)) in document {
            let field = self.field(&name)?;
            let leaf = Leaf::of(&name, value);
            rows.push(Row { field, given, leaf, is_feedback: name.starts_with("feedback.") });
        }
        rows.sort_by_key(|row| row.field);
        if !is_fresh && !self.clear(target, trace, anchor, &rows)? {
            return Ok(());
        }
        for row in &rows {
            self.count(trace, row, 1);
            self.insert.execute(params![
                row.field,
                anchor.time,
                target,
                trace,
                anchor.resource,
                row.given,
                row.leaf.kind() as i64,
                row.leaf,
            ])?;
        }
        Ok(())
    }

    /// Writes the counters.
    pub(super) fn finish(self) -> Result<()> {
        let mut update = self.transaction.prepare_cached(
            "UPDATE fields SET bools = bools + ?2, numbers = numbers + ?3, texts = texts + ?4,
                               others = others + ?5
             WHERE id = ?1",
        )?;
        for (field, [bools, numbers, texts, others]) in self.fields {
            if [bools, numbers, texts, others] != [0; 4] {
                update.execute([field, bools, numbers, texts, others])?;
            }
        }
        let mut update = self
            .transaction
            .prepare_cached("UPDATE traces SET feedback = feedback + ?2 WHERE id = ?1")?;
        for (trace, by) in self.feedback {
            if by != 0 {
                update.execute([trace, by])?;
            }
        }
        Ok(())
    }

    /// Removes the leaves of a target, if they are to be others. Returns whether.
    fn clear(&mut self, target: i64, trace: i64, anchor: Anchor, new: &[Row]) -> Result<bool> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT l.field, l.given, l.type, l.value, l.time, l.resource, f.key
             FROM leaves l JOIN fields f ON f.id = l.field WHERE l.target = ?1 ORDER BY l.field",
        )?;
        let mut rows = statement.query([target])?;
        let mut old = Vec::new();
        let mut same = true;
        while let Some(row) = rows.next()? {
            same &= anchor == Anchor { time: row.get(4)?, resource: row.get(5)? };
            old.push(Row {
                field: row.get(0)?,
                given: row.get(1)?,
                leaf: stored::leaf(row, 2, 3)?,
                is_feedback: row.get_ref(6)?.as_str().is_ok_and(|key| key.starts_with("feedback.")),
            });
        }
        drop(rows);
        if same && old == new {
            return Ok(false);
        }
        for row in &old {
            self.count(trace, row, -1);
        }
        self.transaction
            .prepare_cached("DELETE FROM leaves WHERE target = ?1")?
            .execute([target])?;
        Ok(true)
    }

    /// A target nobody speaks about any more is none.
    fn forget(&mut self, target: i64) -> Result<()> {
        let (trace, arrived): (i64, bool) = self
            .transaction
            .prepare_cached("DELETE FROM targets WHERE id = ?1 RETURNING trace, arrived")?
            .query_row([target], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if !arrived {
            self.transaction
                .prepare_cached("UPDATE traces SET waiting = waiting - 1 WHERE id = ?1")?
                .execute([trace])?;
        }
        // A trace that was known by what was said about it only.
        self.transaction
            .prepare_cached(
                "DELETE FROM traces AS t WHERE id = ?1
                     AND NOT EXISTS (SELECT 1 FROM spans WHERE trace = t.id)
                     AND NOT EXISTS (SELECT 1 FROM targets WHERE trace = t.id)",
            )?
            .execute([trace])?;
        Ok(())
    }

    fn count(&mut self, trace: i64, row: &Row, by: i64) {
        let kind = match row.leaf.kind() {
            Type::Bool => 0,
            Type::Int | Type::Double => 1,
            Type::Text => 2,
            Type::Other => 3,
        };
        self.fields.entry(row.field).or_default()[kind] += by;
        if row.is_feedback && trace != 0 {
            *self.feedback.entry(trace).or_default() += by;
        }
    }

    fn anchor(&self, (trace, span, session): (i64, i64, i64)) -> Result<Option<Anchor>> {
        let (sql, values) = if session != 0 {
            ("SELECT start, resource FROM sessions WHERE id = ?1", [session, 0])
        } else if span == 0 {
            ("SELECT start, root_resource FROM traces WHERE id = ?1", [trace, 0])
        } else {
            let sql = "SELECT start, resource FROM spans
                       WHERE trace = ?1 AND span = ?2 AND flags & 1 = 0";
            (sql, [trace, span])
        };
        let mut statement = self.transaction.prepare_cached(sql)?;
        let values = &values[..statement.parameter_count()];
        let found = statement
            .query_row(rusqlite::params_from_iter(values), |row| {
                Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
            })
            .optional()?;
        Ok(found.and_then(|(time, resource)| {
            Some(Anchor { time: time?, resource: resource.unwrap_or(0) })
        }))
    }

    fn field(&mut self, key: &str) -> Result<i64> {
        if let Some(id) = self.known.fields.get(key) {
            return Ok(*id);
        }
        self.transaction
            .prepare_cached("INSERT INTO fields (key) VALUES (?1) ON CONFLICT DO NOTHING")?
            .execute([key])?;
        let id = self
            .transaction
            .prepare_cached("SELECT id FROM fields WHERE key = ?1")?
            .query_row([key], |row| row.get(0))?;
        self.known.fields.insert(key.to_owned(), id);
        Ok(id)
    }
}
