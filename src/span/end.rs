//! The end of a span.
//!
//! The span's record goes to the pipeline, with its document. A document of the session or trace
//! that can't travel on the span is sent as a [carrier](crate::feedback::carrier). The state goes
//! back to the [pool].

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use opentelemetry::Value;
use opentelemetry::trace::TraceState;
use opentelemetry_sdk::trace::SpanData;

use super::documents::{Documents, Enriched, has_namespaced};
use super::state::{Live, SpanState};
use super::timings::SpanTimer;
use super::trace_place::Started;
use super::{LayerCore, ProcessSpans, SpanHandle, pool, span_stack};
use crate::clock::Ticks;
use crate::feedback::carrier::{self, Carrier, DocumentScope, HELD_MARKS};
use crate::feedback::document::Document;
use crate::otlp::attributes::Attributes;
use crate::record::SpanRecord;
use crate::session::Session;
use crate::suppress;
use crate::sync::lock_unless_orphaned;

impl SpanHandle {
    /// Ends the span and returns its state to the pool. Does nothing more if it has ended.
    pub(crate) fn end(self) {
        self.end_inline();
    }

    /// As [`end`](Self::end), inlined where most spans end.
    #[inline(always)]
    pub(crate) fn end_inline(mut self) {
        // Mostly this is the last handle, so that no lock is needed.
        match self.get_mut().is_some_and(SpanState::end_exclusive) {
            true => pool::put(self),
            false => self.end_shared(),
        }
    }

    /// Ends a span of an OpenTelemetry provider. Of its attributes `feedback` are the leaves in that
    /// namespace, `fields` those in the others, and `session` is the one it has. Returns a record with
    /// the attributes that take their place; everything else of the span is with the provider.
    ///
    /// Documents that can't travel on the span are sent as carriers, and so are those that the outbox
    /// holds: the provider doesn't say when the span has arrived.
    pub(crate) fn end_of_otel(
        self,
        feedback: Document<Value>,
        fields: Attributes,
        session: Option<Session>,
    ) -> Option<SpanRecord> {
        let started = self.start();
        let mut apart = Vec::new();
        let record = {
            let live = &mut *lock_unless_orphaned(&self.live)?;
            if !std::mem::take(&mut live.is_open) {
                return None;
            }
            self.is_closed.store(true, Ordering::Release);
            if live.is_enriched() {
                self.core.remove_enriched(&self);
                live.record.feedback = true;
                self.core.keep(started.context.trace_id());
            }
            if session.is_some() && session != live.session {
                let before = std::mem::replace(&mut live.session, session);
                let of_session = live.take_scoped_if(DocumentScope::Session);
                apart.extend(of_session.map(|scoped| (before, Some(scoped.0), scoped.1)));
            }
            if self.core.writes_ahead() && live.is_enriched() {
                let session = live.session.clone();
                let Documents { own, scoped, .. } = &mut *live.documents;
                if own.is_feedback {
                    apart.push((session.clone(), None, own.copy_with_finalizers()));
                }
                if let Some((scope, scoped)) = scoped.as_deref_mut() {
                    apart.push((session, Some(*scope), scoped.copy_with_finalizers()));
                }
            }
            if !feedback.is_empty() {
                live.record.feedback = true;
                let own = &mut live.documents.own.document;
                let enriched = std::mem::replace(own, feedback);
                own.apply(enriched);
            }
            live.record.attributes = fields;
            let scoped = self.core.put_documents(live, started.context.is_sampled());
            apart.extend(scoped.map(|scoped| (scoped.0, Some(scoped.1), scoped.2)));
            std::mem::take(&mut live.record)
        };
        // After the lock is released: an id generator is foreign code.
        for (session, scope, document) in apart {
            self.send_carrier(&session, started, scope, document);
        }
        Some(record)
    }

    #[cold]
    fn end_shared(mut self) {
        span_stack::remove_created(&self); // it may still be there, if it was never entered
        if self.get_mut().is_some_and(SpanState::end_exclusive) {
            return pool::put(self);
        }
        if self.is_open() {
            self.close();
        }
        if let Some(state) = self.get_mut() {
            state.release_references();
            pool::put(self);
        }
    }
}

impl SpanState {
    /// Ends a span of which no other handle exists. Returns `false` and leaves the span open if it
    /// carries feedback, or if there are span processors: [`close`](Self::close) handles these.
    #[inline(always)] // where spans close
    fn end_exclusive(&mut self) -> bool {
        if !*self.is_closed.get_mut() {
            self.start();
            let live = self.live.get_mut().unwrap_or_else(PoisonError::into_inner);
            if live.is_enriched() || self.core.processors().is_some() {
                return false;
            }
            let Some(started) = self.place.fixed() else { return false };
            self.core.finish(live, &self.timings, started);
            live.clear();
            *self.is_closed.get_mut() = true;
        }
        self.release_references();
        true
    }

    /// Drops the references to the parent, the contexts and the session. Other spans may be dropped
    /// with them, and foreign code may run.
    #[inline(always)] // where spans close
    fn release_references(&mut self) {
        let live = self.live.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Most spans have a parent; each of the other fields is rarer than the one before.
        self.local_parent = None;
        live.parent_context = None;
        if live.context.is_some() || live.session.is_some() {
            (live.context, live.session) = (None, None);
        }
    }

    /// Ends the span: hands its record to the pipeline, and the document of its session or trace
    /// with it.
    #[inline]
    pub(crate) fn close(&self) {
        let started = self.start();
        let processors = self.core.processors().filter(|processors| {
            !self.core.is_shut_down()
                && (started.context.is_sampled() || self.process_late(*processors, started))
        });
        let Some(mut guard) = lock_unless_orphaned(&self.live) else { return };
        let live = &mut *guard;
        if !std::mem::take(&mut live.is_open) {
            return;
        }
        self.is_closed.store(true, Ordering::Release);
        if live.is_enriched() {
            self.core.remove_enriched(self);
            live.record.feedback = true;
            // Again, since the trace may have expired meanwhile.
            self.core.keep(started.context.trace_id());
        }
        let (scoped_document, data) = match processors {
            None => (self.core.finish(live, &self.timings, started), None),
            Some(processors) => {
                self.core.finish_processed(processors, live, &self.timings, started)
            }
        };
        // Dropped at the very end, since foreign code may run then. They aren't moved again, which
        // would cost more than dropping them.
        let _parent_context = live.parent_context.take();
        let _context = live.context.take();
        live.clear();
        drop(guard);
        // After the lock is released: processors and an id generator are foreign code.
        if let (Some(processors), Some(data)) = (processors, data) {
            processors.on_end(&self.core, *data);
        }
        if let Some(scoped_document) = scoped_document {
            let (session, scope, scoped) = *scoped_document;
            self.send_carrier(&session, started, Some(scope), scoped);
        }
    }

    /// Calls the span processors at the start of an unsampled span that ends with feedback, and is
    /// exported for that. Returns whether it is.
    #[cold]
    fn process_late(&self, processors: &dyn ProcessSpans, started: &Started) -> bool {
        let is_enriched = self.change(|live| live.is_enriched()) == Some(true);
        if is_enriched {
            let _suppressed = suppress::scope(); // span processors are foreign code
            self.process_start(processors, &started.context);
        }
        is_enriched
    }

    /// Discards the span: another layer of this process captures it.
    pub(crate) fn abandon(&self) {
        self.core.remove_enriched(self);
        let contexts = {
            let Some(mut live) = lock_unless_orphaned(&self.live) else { return };
            self.is_closed.store(true, Ordering::Release);
            live.clear();
            (live.parent_context.take(), live.context.take())
        };
        drop(contexts);
    }

    /// Sends the documents of a span that is still open at shutdown, without the span.
    pub(super) fn send_documents(&self) {
        let started = self.start();
        let documents = self.change(|live| {
            (live.session.clone(), std::mem::take(&mut live.documents).into_inner())
        });
        let Some((session, Documents { own, scoped, .. })) = documents else { return };
        if own.is_feedback {
            self.send_carrier(&session, started, None, own);
        }
        if let Some((scope, scoped)) = scoped.map(|scoped| *scoped) {
            self.send_carrier(&session, started, Some(scope), scoped);
        }
    }

    fn send_carrier(
        &self,
        session: &Option<Session>,
        started: &Started,
        scope: Option<DocumentScope>,
        enriched: Enriched,
    ) {
        let carrier = Carrier {
            target: Some(started.context.clone()),
            session: session.clone(),
            scope,
            document: enriched.document,
            time: enriched.time,
            id: None,
            finalizers: enriched.finalizers,
        };
        let _ = carrier.send(&self.core); // what is lost is counted
    }
}

impl Live {
    /// Takes the document of the session or trace, if it is of this scope.
    fn take_scoped_if(&mut self, scope: DocumentScope) -> Option<(DocumentScope, Enriched)> {
        if self.documents.is_blank() {
            return None;
        }
        self.documents.scoped.take_if(|scoped| scoped.0 == scope).map(|scoped| *scoped)
    }

    /// Clears everything but the session and the contexts: dropping a context may run foreign code.
    #[inline(always)] // where spans close
    pub(super) fn clear(&mut self) {
        let Self {
            is_open,
            record,
            parent_context: _,
            is_parent_set: _,
            context: _,
            session: _,
            documents,
        } = self;
        *is_open = false;
        record.clear();
        documents.clear();
    }
}

type ScopedDocument = Box<(Option<Session>, DocumentScope, Enriched)>;

impl LayerCore {
    /// Hands the record of an ended span to the pipeline, if it is to be exported or held. Returns
    /// the document of the session or trace, with the session, if it has to travel apart: boxed,
    /// since most spans have none and all would pay for its size.
    #[inline(always)] // where spans close
    fn finish(
        &self,
        live: &mut Live,
        timings: &SpanTimer,
        started: &Started,
    ) -> Option<ScopedDocument> {
        let is_sampled = started.context.is_sampled();
        if !is_sampled && !live.record.feedback && !self.keeps() {
            self.count_unsampled();
            return None;
        }
        self.complete(live, timings, started);
        let is_held = !is_sampled && !live.record.feedback;
        let is_alone = live.session.is_none() && live.documents.is_blank();
        // An upper bound. Near the limit, the slower path below counts the attributes and cuts
        // them.
        let at_most = live.record.attributes.len() + SpanRecord::MOST_COMMON;
        let scoped_document = if is_alone && is_sampled && at_most <= self.most_attributes() {
            None // most spans
        } else if is_alone && is_held && at_most + HELD_MARKS.len() <= self.most_attributes() {
            live.record.attributes.extend(&HELD_MARKS);
            None
        } else {
            self.put_documents(live, is_sampled)
        };
        match is_held {
            true => self.hold(&mut live.record, timings.exited_at().unwrap_or_else(Ticks::now)),
            false => drop(self.push(&mut live.record)), // what is lost is counted
        }
        scoped_document
    }

    /// As [`finish`](Self::finish) for a span that is exported. Returns its data for the span processors
    /// as well.
    #[cold]
    fn finish_processed(
        &self,
        processors: &dyn ProcessSpans,
        live: &mut Live,
        timings: &SpanTimer,
        started: &Started,
    ) -> (Option<ScopedDocument>, Option<Box<SpanData>>) {
        self.complete(live, timings, started);
        let scoped_document = self.put_documents(live, started.context.is_sampled());
        let data = processors.data(&live.record);
        let _ = self.push(&mut live.record); // what is lost is counted
        (scoped_document, Some(Box::new(data)))
    }

    /// Sets the fields of the record that are known at the end only.
    #[inline(always)] // where spans close
    fn complete(&self, live: &mut Live, timings: &SpanTimer, started: &Started) {
        let record = &mut live.record;
        if self.settings.switches.tracked_inactivity {
            record.timings = Some(timings.read());
        }
        record.trace_id = started.context.trace_id();
        record.span_id = started.context.span_id();
        record.parent = started.parent;
        record.flags = started.context.trace_flags();
        if *started.context.trace_state() != TraceState::NONE {
            record.details.trace_state = started.context.trace_state().clone();
        }
        record.end = match live.documents.ended {
            Some(end) => end.max(record.start),
            None => {
                let age = timings.exited().unwrap_or_else(|| timings.age(Ticks::now()));
                record.start.saturating_add(age)
            }
        };
    }

    /// Puts the span's documents and the reserved attributes before its fields.
    fn put_documents(&self, live: &mut Live, is_sampled: bool) -> Option<ScopedDocument> {
        let (settings, most) = (&self.settings, self.most_attributes());
        let record = &mut live.record;
        // The document of a session or trace travels on the span unless the span has feedback of
        // its own.
        let Documents { own, scoped, .. } = std::mem::take(&mut live.documents).into_inner();
        let (document, scope, scoped_document) = match scoped.map(|scoped| *scoped) {
            Some((scope, mut scoped))
                if own.document.leaves().len() == 0
                    && !has_namespaced(&record.attributes, settings.convention) =>
            {
                // The span's own document has no leaves, so it is left out: if all was retracted,
                // that is what a reader is to see.
                scoped.finalizers.append(own.finalizers);
                (scoped, Some(scope), None)
            }
            Some((scope, scoped)) => {
                (own, None, Some(Box::new((live.session.clone(), scope, scoped))))
            }
            None => (own, None, None),
        };
        if scope.is_none() {
            document.replace_fields(&mut record.attributes, settings.convention);
        }
        if !document.finalizers.is_empty() {
            record.details.finalizers = document.finalizers;
        }
        let (leaves, cleared) = document.document.into_parts();
        let reserved = carrier::Reserved {
            session: live.session.as_ref(),
            scope,
            is_late: false,
            is_unsampled: !is_sampled,
            is_kept: !is_sampled && self.keeps(),
            time: scope.map(|_| document.time),
            cleared: if scope.is_some() { &cleared } else { &[] },
            prefix: settings.convention.prefix(),
        };
        reserved.put_first(leaves, record, most);
        scoped_document
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::{self, Reading};
    use crate::settings::Settings;
    use crate::span::{IdSource, Sampling};

    /// A second of work, however the system clock is set meanwhile: it is read at the start only.
    #[test]
    fn a_span_is_as_long_as_the_counter_says() {
        let (sampling, ids) = (Sampling::default(), IdSource::default());
        let core = LayerCore::new(Settings::default(), sampling, ids, Default::default(), None);
        let core = Arc::new(core);
        clock::now(); // sets the rate
        let at = |ticks: u64| Ticks::from_count(1_000_000 + ticks);
        let (created, entered, exited) = (0, 3_000, 3_000_003_000);
        for time in [1, 1_700_000_000_000_000_000, u64::MAX - 1] {
            let start = Reading { time, ticks: at(created) };
            let (span, ()) = SpanHandle::begin(&core, None, start, |_, _| Some(())).unwrap();
            let started = span.start();
            span.timings.enter(at(entered));
            span.timings.exit(at(exited));
            let mut live = span.live().unwrap();
            core.complete(&mut live, &span.timings, started);
            let record = &live.record;
            assert_eq!(record.start, time);
            assert_eq!(record.end, time.saturating_add(clock::nanos(exited)));
            let timings = record.timings.unwrap();
            let expected = (clock::nanos(exited - entered), clock::nanos(entered));
            assert_eq!((timings.busy, timings.idle), expected);
        }
    }
}
