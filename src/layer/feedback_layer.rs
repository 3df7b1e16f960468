//! The type [`FeedbackLayer`]: its core, and whether it captures spans or is inert.
//!
//! Its callbacks are in the [parent module](super); [`locate`](super::locate) finds it by its type.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use tracing::dispatcher::WeakDispatch;
use tracing::{Dispatch, callsite, dispatcher};

use super::locate::Claim;
use crate::span::{LayerCore, SpanHandle};
use crate::suppress;

/// The layer that captures `#[instrument]` spans, with the feedback on them, for export.
///
/// Made by [`Builder::build`](crate::Builder::build), and put into a subscriber that is based on
/// [`tracing_subscriber::Registry`]. It works under `reload`, `Filtered`, `Option`, `Box` and
/// `Vec`. Of several in one stack the first captures; the others are inert, and log one warning.
/// When `reload` takes it out, its open spans end.
///
/// ```
/// use tracing_subscriber::prelude::*;
///
/// let (layer, telemetry) = tracing_feedback::builder().build()?;
/// let subscriber = tracing_subscriber::registry().with(layer);
/// tracing::subscriber::with_default(subscriber, || {
///     assert!(tracing_feedback::enrich_session!(feedback = { "rating": 5 }).is_ok() == false);
///     let _span = tracing::info_span!("answer").entered();
///     assert!(tracing_feedback::enrich_session!(feedback = { "rating": 5 }).is_ok());
/// });
/// # Ok::<(), tracing_feedback::BuildError>(())
/// ```
#[must_use = "a layer captures nothing before it is part of a subscriber"]
pub struct FeedbackLayer {
    core: Arc<LayerCore>,
    /// Whether another layer of this crate captures this subscriber's spans.
    is_inert: AtomicBool,
    /// Whether the warning about the inert layer was logged.
    has_warned: AtomicBool,
    /// Whether the layer has a [claim](Claim) on its registry.
    has_claim: AtomicBool,
    /// Whether the warning about a layer of another crate was logged.
    has_warned_of_other: AtomicBool,
    /// The subscriber, to find another layer in it.
    dispatch: OnceLock<WeakDispatch>,
}

impl FeedbackLayer {
    pub(crate) fn new(core: Arc<LayerCore>) -> Self {
        let [is_inert, has_warned, has_claim, has_warned_of_other] =
            [const { AtomicBool::new(false) }; 4];
        let dispatch = OnceLock::new();
        Self { core, is_inert, has_warned, has_claim, has_warned_of_other, dispatch }
    }

    #[inline]
    pub(crate) fn core(&self) -> &Arc<LayerCore> {
        &self.core
    }

    #[inline]
    pub(crate) fn is_inert(&self) -> bool {
        self.is_inert.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn has_claim(&self) -> bool {
        self.has_claim.load(Ordering::Relaxed)
    }

    pub(crate) fn become_inert(&self) {
        self.is_inert.store(true, Ordering::Relaxed);
    }

    /// Warns once if the layer is inert. Called when a span is entered: while the subscriber is
    /// being built, or asked for a new span, `tracing` would discard the warning.
    pub(crate) fn warn_if_inert(&self) {
        if self.is_inert.load(Ordering::Relaxed) && !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "tracing_feedback",
                "a second layer in one subscriber stays inert: the first one captures its spans"
            );
        }
    }

    /// The subscriber that the layer is part of.
    pub(super) fn dispatch(&self) -> Option<Dispatch> {
        self.dispatch.get()?.upgrade()
    }

    /// Warns once that another layer activates its spans, too.
    pub(super) fn warn_of_another_layer(&self) {
        if !self.has_warned_of_other.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "tracing_feedback",
                "another layer makes spans of the OpenTelemetry API, too: its ids are those that logs, \
                 headers and the OpenTelemetry context show. Switch the activation of this layer off with \
                 `with_context_activation(false)`, or that of the other one"
            );
        }
    }

    /// Takes note of a claim on the registry under `dispatch`.
    pub(crate) fn claim(&self, claim: Claim, dispatch: &Dispatch) {
        match claim {
            Claim::First => {
                let _ = self.dispatch.set(dispatch.downgrade());
                self.has_claim.store(true, Ordering::Relaxed);
                self.report_issues(dispatch);
            }
            Claim::Taken => self.become_inert(),
            Claim::NoRegistry => {}
        }
    }
}

impl FeedbackLayer {
    /// Logs the issues of the environment, now that there is a subscriber. A thread of its own does so,
    /// since `tracing` holds a lock while it registers a subscriber. Where the thread can't be started, or
    /// is late, `flush` and `shutdown` log them.
    fn report_issues(&self, dispatch: &Dispatch) {
        if !self.core.has_unreported_issues() {
            return;
        }
        let (core, dispatch) = (self.core.clone(), dispatch.downgrade());
        let _ = thread::Builder::new().name("tracing-feedback-warn".to_owned()).spawn(move || {
            suppress::mark_this_thread();
            // Waits until the subscriber is registered: before that no event is enabled.
            callsite::rebuild_interest_cache();
            if let Some(dispatch) = dispatch.upgrade() {
                dispatcher::with_default(&dispatch, || core.report_issues());
            }
        });
    }
}

impl Drop for FeedbackLayer {
    fn drop(&mut self) {
        Claim::release(&self.core);
        // The layer was taken out by `reload`, or its subscriber was dropped.
        let open = self.core.open.drain();
        if open.is_empty() {
            return;
        }
        let end = move || open.into_iter().for_each(SpanHandle::end);
        if self.core.calls_foreign_code() {
            // `reload` holds a lock here. Foreign code that creates a span or an event would wait
            // for it.
            let _ = thread::Builder::new().name("tracing-feedback-end".to_owned()).spawn(end);
        } else {
            end();
        }
    }
}

impl fmt::Debug for FeedbackLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedbackLayer")
            .field("is_inert", &self.is_inert)
            .field("settings", &self.core.settings)
            .finish_non_exhaustive()
    }
}
