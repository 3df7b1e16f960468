//! The traces on which feedback has arrived.

use std::collections::{BTreeMap, HashMap};

use opentelemetry::trace::TraceId;

/// Traces that are remembered, at the most.
pub(super) const MOST: usize = 16 * 1024;

/// Kept traces, within a limit. Each is remembered for some time after its last span or feedback.
#[derive(Debug, Default)]
pub(super) struct KeptTraces {
    traces: HashMap<TraceId, KeptTrace>,
    /// The traces in the order in which they are forgotten, and when.
    order: BTreeMap<u64, (u64, TraceId)>,
    /// The number of the next entry in `order`.
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct KeptTrace {
    /// When feedback arrived.
    since: u64,
    until: u64,
    /// Its number in `order`.
    number: u64,
}

impl KeptTraces {
    pub(super) fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    /// When feedback arrived on the trace, if it did.
    pub(super) fn since(&self, trace_id: TraceId) -> Option<u64> {
        self.traces.get(&trace_id).map(|trace| trace.since)
    }

    /// Adds a trace, on which feedback has arrived `now`, and remembers it for at least `longest`.
    pub(super) fn add(&mut self, trace_id: TraceId, now: u64, longest: u64) {
        if self.traces.get(&trace_id).is_some_and(|trace| now < trace.until) {
            return self.renew(trace_id, now, longest);
        }
        self.remove(trace_id);
        self.insert(trace_id, now, now, longest);
        if self.order.len() > MOST
            && let Some((_, (_, oldest))) = self.order.pop_first()
        {
            self.traces.remove(&oldest);
        }
    }

    /// Remembers a trace for at least `longest` after `now`, if it is there: up to twice that, so that its
    /// entry isn't renewed for every span.
    pub(super) fn renew(&mut self, trace_id: TraceId, now: u64, longest: u64) {
        if let Some(KeptTrace { since, until, .. }) = self.traces.get(&trace_id).copied()
            && until <= now.saturating_add(longest)
        {
            self.remove(trace_id);
            self.insert(trace_id, since, now, longest);
        }
    }

    /// Forgets traces of which nothing was seen for long.
    pub(super) fn expire(&mut self, now: u64) {
        while let Some((_, &(until, trace_id))) = self.order.first_key_value()
            && until <= now
        {
            self.remove(trace_id);
        }
    }

    fn insert(&mut self, trace_id: TraceId, since: u64, now: u64, longest: u64) {
        let (number, until) = (self.next, now.saturating_add(longest.saturating_mul(2)));
        self.next += 1;
        self.traces.insert(trace_id, KeptTrace { since, until, number });
        self.order.insert(number, (until, trace_id));
    }

    fn remove(&mut self, trace_id: TraceId) {
        if let Some(trace) = self.traces.remove(&trace_id) {
            self.order.remove(&trace.number);
        }
    }
}
