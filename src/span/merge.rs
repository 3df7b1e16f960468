//! Merging: enrichments are applied to a span's documents as patches.

use super::Applied;
use super::SpanHandle;
use super::documents::{DocumentKind, Enriched};
use super::state::Live;
use crate::export::NotDurable;
use crate::feedback::carrier::Carrier;
use crate::feedback::document::SCOPED_ATTRIBUTES;
use crate::feedback::patch::Patch;
use crate::outbox::Finalizers;
use crate::sync::lock_unless_orphaned;

/// How many patches of a document the outbox holds, until the whole document replaces them.
const MOST_FINALIZERS: usize = 64;

impl SpanHandle {
    /// Moves a patch into one of the span's documents. `None`, and the patch stays as it is, if the
    /// span has closed or telemetry was shut down meanwhile.
    pub(crate) fn enrich(
        &self,
        kind: DocumentKind,
        patch: &mut Patch,
        time: u64,
    ) -> Option<Applied> {
        let put = self.merge(kind, patch, time)?;
        self.keep();
        Some(put)
    }

    fn merge(&self, kind: DocumentKind, patch: &mut Patch, time: u64) -> Option<Applied> {
        let written = match self.core.writes_ahead() {
            true => self.write_ahead(kind, patch, time),
            false => Ok(Finalizers::default()),
        };
        let live = &mut *lock_unless_orphaned(&self.live)?;
        // Shutdown locks every span in the core's list, and so waits until this is done.
        if !live.is_open || !live.is_enriched() && !self.core.add_enriched(self) {
            // The caller sends the patch as a carrier, which is written ahead by itself.
            let _ = written.map(Finalizers::release);
            return None;
        }
        let most = self.core.most_attributes();
        let reserved = usize::from(live.session.is_some());
        let (enriched, reserved) = match kind {
            DocumentKind::Own => (&mut live.documents.own, reserved),
            DocumentKind::Scoped(scope) => {
                let scoped = live
                    .documents
                    .scoped
                    .get_or_insert_with(|| Box::new((scope, Enriched::default())));
                scoped.0 = scope;
                (&mut scoped.1, reserved + SCOPED_ATTRIBUTES)
            }
        };
        enriched.time = enriched.time.max(time);
        enriched.is_feedback = true;
        let is_durable = written.map(|finalizers| enriched.finalizers.append(finalizers)).is_ok();
        let is_long = enriched.finalizers.len() >= MOST_FINALIZERS;
        let most = most.saturating_sub(reserved);
        let left_out = patch.merge_into(&mut enriched.document, most);
        let dropped = u32::try_from(left_out).unwrap_or(u32::MAX);
        live.record.count_dropped(dropped);
        if is_long {
            self.rewrite(live, kind);
        }
        Some(Applied { left_out, is_durable })
    }

    /// Called after a field in the namespace `feedback` was recorded: lists the span for shutdown,
    /// and keeps its trace.
    pub(crate) fn register_feedback_fields(&self) {
        if self.change(|live| live.is_enriched()) == Some(true) {
            self.core.add_enriched(self);
            self.keep();
        }
    }

    /// Writes a whole document to the outbox, in place of its many patches: a span may stay open
    /// for days.
    fn rewrite(&self, live: &mut Live, kind: DocumentKind) {
        // The span has started: its patches were written ahead as carriers, which need its ids.
        let Some(started) = self.place.fixed() else { return };
        let session = live.session.clone();
        let documents = &mut *live.documents;
        let (enriched, scope) = match (kind, &mut documents.scoped) {
            (DocumentKind::Own, _) => (&mut documents.own, None),
            (DocumentKind::Scoped(_), Some(scoped)) => (&mut scoped.1, Some(scoped.0)),
            (DocumentKind::Scoped(_), None) => return,
        };
        let carrier = Carrier {
            target: Some(started.context.clone()),
            session,
            scope,
            document: std::mem::take(&mut enriched.document),
            time: enriched.time,
            id: None,
            finalizers: Finalizers::default(),
        };
        let (document, written) = carrier.write_ahead(&self.core);
        enriched.document = document;
        if let Ok(finalizers) = written {
            let patches = std::mem::replace(&mut enriched.finalizers, finalizers);
            patches.supersede(&enriched.finalizers);
        }
    }

    /// Writes a patch to the outbox as a carrier, which is sent if the process ends before the
    /// span.
    fn write_ahead(
        &self,
        kind: DocumentKind,
        patch: &mut Patch,
        time: u64,
    ) -> Result<Finalizers, NotDurable> {
        let carrier = Carrier {
            target: Some(self.start().context.clone()),
            session: self.session(),
            scope: kind.scope(),
            document: std::mem::take(patch.document()),
            time,
            id: None,
            finalizers: Finalizers::default(),
        };
        let (document, written) = carrier.write_ahead(&self.core);
        *patch.document() = document;
        written
    }
}
