//! The open spans of a layer, by the ids that its registry gives them.
//!
//! A direct-mapped table of [`SLOTS`] slots, indexed by the span id. On a collision the span is
//! stored in the [extensions of the registry](super::Captured), which takes several times as long.
//!
//! # Invariants
//!
//! - Every span in the table is open in the registry by that id. It is inserted when it is created,
//!   and removed when it closes, when the layer is dropped, or when the registry reuses the id.
//! - No foreign code runs while a slot is locked.

use std::sync::Mutex;

use tracing::span::Id;

use super::SpanHandle;
use crate::sync::lock_unless_orphaned;

/// The number of slots.
const SLOTS: usize = 1024;

/// The table.
#[derive(Debug)]
pub(crate) struct SpanTable(Box<[TableSlot]>);

/// A cache line to itself, so that threads don't wait for each other.
#[derive(Debug, Default)]
#[repr(align(64))]
struct TableSlot(Mutex<Option<(Id, SpanHandle)>>);

impl Default for SpanTable {
    fn default() -> Self {
        Self(std::iter::repeat_with(TableSlot::default).take(SLOTS).collect())
    }
}

impl SpanTable {
    /// The slot of an id. The registry (`sharded-slab` 0.1) counts the spans of each thread in the
    /// lowest bits of the id, and the threads from bit 38 on. So the spans of one thread get
    /// adjacent slots, apart from those of other threads. With another layout there would only be
    /// more collisions.
    #[inline]
    fn slot(&self, id: &Id) -> &Mutex<Option<(Id, SpanHandle)>> {
        let id = id.into_u64();
        let thread = (id >> 38) & 0xfff;
        &self.0[id.wrapping_add(thread * 61) as usize % SLOTS].0
    }

    /// Inserts a new span. `Err` returns it if another span has its slot, or the slot is orphaned. `Ok` may return an
    /// earlier span with the same id: the layer wasn't called when that closed, and has to end it.
    #[inline]
    pub(crate) fn put(&self, id: &Id, state: SpanHandle) -> Result<Option<SpanHandle>, SpanHandle> {
        let Some(mut slot) = lock_unless_orphaned(self.slot(id)) else { return Err(state) };
        match &mut *slot {
            None => *slot = Some((id.clone(), state)),
            Some((of, replaced)) if of == id => {
                return Ok(Some(std::mem::replace(replaced, state)));
            }
            Some(_) => return Err(state),
        }
        Ok(None)
    }

    #[inline]
    pub(crate) fn get(&self, id: &Id) -> Option<SpanHandle> {
        match &*lock_unless_orphaned(self.slot(id))? {
            Some((of, state)) if of == id => Some(state.clone()),
            _ => None,
        }
    }

    /// Removes a span that has closed.
    #[inline]
    pub(crate) fn take(&self, id: &Id) -> Option<SpanHandle> {
        let (_, state) = lock_unless_orphaned(self.slot(id))?.take_if(|(of, _)| of == id)?;
        Some(state)
    }

    /// Removes all spans: the layer is dropped, and won't be called when they close.
    pub(crate) fn drain(&self) -> Vec<SpanHandle> {
        let take = |slot: &TableSlot| Some(lock_unless_orphaned(&slot.0)?.take()?.1);
        self.0.iter().filter_map(take).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::settings::Settings;
    use crate::span::{IdSource, LayerCore, Sampling};

    fn state() -> SpanHandle {
        let (sampling, ids) = (Sampling::default(), IdSource::default());
        let core = LayerCore::new(Settings::default(), sampling, ids, Default::default(), None);
        let begun =
            SpanHandle::begin(&std::sync::Arc::new(core), None, clock::read(), |_, _| Some(()));
        begun.unwrap().0
    }

    fn id(thread: u64, span: u64) -> Id {
        Id::from_u64(thread << 38 | span)
    }

    #[test]
    fn a_span_is_found_by_its_id_only_and_until_it_is_taken() {
        let (open, one, other) = (SpanTable::default(), state(), state());
        assert!(matches!(open.put(&id(0, 1), one.clone()), Ok(None)));
        // The same slot: what is there stays.
        let elsewhere = id(0, 1 + SLOTS as u64);
        assert!(matches!(open.put(&elsewhere, other.clone()), Err(back) if back.ptr_eq(&other)));
        assert!(open.get(&elsewhere).is_none() && open.take(&elsewhere).is_none());
        assert!(open.get(&id(0, 1)).unwrap().ptr_eq(&one));
        assert!(open.take(&id(0, 1)).unwrap().ptr_eq(&one));
        assert!(open.get(&id(0, 1)).is_none());
        assert!(matches!(open.put(&elsewhere, other), Ok(None)));
    }

    #[test]
    fn an_id_that_is_given_anew_is_that_of_the_new_span() {
        let (open, one, other) = (SpanTable::default(), state(), state());
        assert!(matches!(open.put(&id(3, 7), one.clone()), Ok(None)));
        let replaced = open.put(&id(3, 7), other.clone()).unwrap().unwrap();
        assert!(replaced.ptr_eq(&one));
        let left = open.drain();
        assert!(left.len() == 1 && left[0].ptr_eq(&other));
        assert!(open.get(&id(3, 7)).is_none());
    }

    #[test]
    fn the_spans_of_some_threads_have_slots_of_their_own() {
        let open = SpanTable::default();
        for thread in 0..16 {
            for span in 1..=32 {
                assert!(open.put(&id(thread, span), state()).is_ok(), "{thread} {span}");
            }
        }
        assert_eq!(open.drain().len(), 512);
    }
}
