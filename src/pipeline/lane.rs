//! Lanes: each thread gathers its own spans, so that threads don't wait for each other.
//!
//! # Invariants
//!
//! - A lane hands its parcel to the queue while it is locked, so that a sweep never misses one that
//!   is on its way.
//! - After [`Lanes::close`] no lane takes anything more.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry::InstrumentationScope;

use super::Batching;
use super::queue::Queue;
use super::stats::Drop;
use crate::record::SpanRecord;
use crate::sink::{Packing, Parcel};

/// All lanes of one pipeline.
pub(crate) struct Lanes {
    /// Which pipeline's lanes these are, among those a thread may know.
    id: u64,
    packing: Packing,
    scope: Arc<InstrumentationScope>,
    /// Spans and bytes of a parcel that is handed over.
    full: (usize, usize),
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    lanes: Vec<Arc<Lane>>,
    closed: bool,
}

struct Lane(Mutex<Gathering>);

struct Gathering {
    parcel: Parcel,
    closed: bool,
}

thread_local! {
    /// The lanes of this thread. There is rarely more than one pipeline in a process.
    static MINE: RefCell<Vec<(u64, Arc<Lane>)>> = const { RefCell::new(Vec::new()) };
}

impl Lanes {
    /// Lanes for spans of `scope`.
    pub(super) fn new(
        packing: Packing,
        scope: Arc<InstrumentationScope>,
        batching: &Batching,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let full = (batching.parcel_spans(packing), batching.parcel_bytes());
        Self { id, packing, scope, full, known: Mutex::default() }
    }

    /// Takes a span, or says why not. That a span without feedback doesn't fit is only counted.
    #[inline(always)] // once a span
    pub(super) fn push(&self, record: &mut SpanRecord, queue: &Queue) -> Result<(), Drop> {
        let has_scope = !record.details.is_blank() && record.details.scope.is_some();
        if record.feedback || has_scope && self.packing == Packing::Packed {
            return self.push_apart(record, queue);
        }
        let gathered = MINE.try_with(|mine| {
            let mut mine = mine.borrow_mut();
            if mine.first().is_none_or(|(id, _)| *id != self.id) {
                self.bring_up(&mut mine);
            }
            self.gather(&mine[0].1, record, queue)
        });
        match gathered {
            Ok(gathered) => gathered,
            Err(_) => self.push_at_last(record, queue),
        }
    }

    /// A thread that is being torn down gets a lane for a single span.
    #[cold]
    fn push_at_last(&self, record: &mut SpanRecord, queue: &Queue) -> Result<(), Drop> {
        self.gather(&self.open(), record, queue)
    }

    /// Feedback doesn't wait among spans that may be dropped, and spans of other scopes would have
    /// to be told apart.
    #[cold]
    fn push_apart(&self, record: &mut SpanRecord, queue: &Queue) -> Result<(), Drop> {
        let scope = record.details.scope.as_ref().unwrap_or(&self.scope);
        let mut parcel = Parcel::new(self.packing, scope);
        parcel.add(record);
        queue.push(parcel)
    }

    #[inline(always)] // once a span
    fn gather(&self, lane: &Lane, record: &mut SpanRecord, queue: &Queue) -> Result<(), Drop> {
        let mut gathering = crate::sync::lock(&lane.0);
        if gathering.closed {
            queue.count(Drop::AfterShutdown, 1, 0);
            return Err(Drop::AfterShutdown);
        }
        let parcel = &mut gathering.parcel;
        parcel.add(record);
        if parcel.spans() >= self.full.0 || parcel.bytes() >= self.full.1 {
            hand_over(parcel, queue);
        }
        Ok(())
    }

    /// Hands over what all threads have gathered.
    pub(super) fn sweep(&self, queue: &Queue) {
        let mut known = crate::sync::lock(&self.known);
        known.lanes.retain(|lane| {
            let mut gathering = crate::sync::lock(&lane.0);
            if gathering.parcel.spans() > 0 {
                hand_over(&mut gathering.parcel, queue);
            }
            Arc::strong_count(lane) > 1 // or its thread has ended
        });
    }

    /// The last sweep.
    pub(super) fn close(&self, queue: &Queue) {
        self.sweep(queue);
        let mut known = crate::sync::lock(&self.known);
        known.closed = true;
        for lane in known.lanes.drain(..) {
            let mut gathering = crate::sync::lock(&lane.0);
            gathering.closed = true;
            if gathering.parcel.spans() > 0 {
                hand_over(&mut gathering.parcel, queue);
            }
        }
    }

    /// Spans that wait in lanes, and their bytes in memory.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let known = crate::sync::lock(&self.known);
        known.lanes.iter().fold((0, 0), |(spans, bytes), lane| {
            let parcel = &crate::sync::lock(&lane.0).parcel;
            (spans + parcel.spans(), bytes + parcel.bytes())
        })
    }

    /// Makes this thread's lane the first of those it knows.
    #[cold]
    fn bring_up(&self, mine: &mut Vec<(u64, Arc<Lane>)>) {
        let known = mine.iter().position(|(id, _)| *id == self.id);
        let at = known.unwrap_or_else(|| {
            mine.retain(|(_, lane)| !crate::sync::lock(&lane.0).closed);
            mine.push((self.id, self.open()));
            mine.len() - 1
        });
        mine.swap(0, at);
    }

    fn open(&self) -> Arc<Lane> {
        let mut known = crate::sync::lock(&self.known);
        let parcel = Parcel::new(self.packing, &self.scope);
        let lane = Arc::new(Lane(Mutex::new(Gathering { parcel, closed: known.closed })));
        if !known.closed {
            known.lanes.push(lane.clone());
        }
        lane
    }
}

/// What the queue doesn't take is counted there.
#[cold]
fn hand_over(parcel: &mut Parcel, queue: &Queue) {
    let _ = queue.push(parcel.take());
}
